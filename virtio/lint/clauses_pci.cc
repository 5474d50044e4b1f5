// SPDX-License-Identifier: Apache-2.0
// Virtio over PCI.
#include "virtio/lint/clauses.h"

namespace upci::inline UPCI_VARIANT::virtio::lint {
namespace {

using namespace table;
using enum RegisterRule;

constexpr Clause kDiscovery[] = {
    tested(1, "devices are matched by vendor 0x1af4 and ids 0x1040 to 0x107f",
           "tests/drivers/binding_test.cc: WithoutADriverForItsTypeTheDeviceIsLeftAlone, "
           "tests/drivers/qemu_nic_test.cc: EveryFrameOf60To9000BytesComesBack"),
    tested(1, "and by their transitional ids",
           "tests/drivers/binding_test.cc: ATransitionalDeviceIsDrivenAsModernUnlessLegacyIsAskedFor"),
    tested(1, "whatever their revision is", "tests/drivers/capability_test.cc: AnyRevisionIsDriven"),
};
constexpr Clause kLayout[] = {
    seen(1, "fields are accessed whole and aligned, those of 64 bits by halves", kAccessWidth),
};
constexpr Clause kCapabilities[] = {
    tested(1, "capabilities of a reserved type are ignored",
           "tests/drivers/capability_test.cc: ReservedTypesAndBarsAreIgnored"),
    tested(1, "a capability may be longer than it has to be",
           "tests/drivers/capability_test.cc: LongerCapabilitiesAndStructuresAreTaken"),
    tested(1, "capabilities of a reserved BAR are ignored",
           "tests/drivers/capability_test.cc: ReservedTypesAndBarsAreIgnored"),
    tested(1, "a structure may be longer than expected",
           "tests/drivers/capability_test.cc: LongerCapabilitiesAndStructuresAreTaken"),
    seen(1, "the capabilities are not written", kCapabilityWritten),
};
constexpr Clause kCommon[] = {
    seen(1, "registers that are the device's are not written", kReadOnlyWritten),
    seen(1, "packed: queue_size is not set to 0", kQueueSizeZero),
    seen(1, "split: queue_size is set to powers of two only", kQueueSizeNoPower),
    seen(1, "a queue's other fields are set before it is enabled", kQueueIncomplete),
    seen(1, "after a reset device_status is read until it is 0", kResetNotAwaited),
    seen(1, "queue_enable is not set to 0", kQueueEnableZero),
    seen(1, "the reset of a queue has ended only when queue_reset reads as 0", kQueueResetNotAwaited),
    unused(1, "administration queues have the indices that the device says", "ADMIN_VQ is never accepted"),
};
constexpr Clause kVendor[] = {
    unused(1, "the vendor's id is looked at before its data are", "the vendor data capability is not used"),
};
constexpr Clause kConfigAccess[] = {
    seen(3, "the window in config space is used for aligned accesses within the structures only: it is not used at all",
         kCapabilityWritten),
};
constexpr Clause kLegacyLayout[] = {
    tested(1, "by the legacy interface the registers are those of BAR 0 in port space",
           "tests/drivers/binding_test.cc: AnInterfaceThatTheDeviceLacksIsUnavailable, "
           "tests/drivers/qemu_nic_test.cc: EveryFrameOf60To9000BytesComesBack"),
    tested(1, "and the device's configuration follows its headers, with or without MSI-X",
           "tests/emu/legacy_test.cc: ConfigurationMovesWhenMsixIsEnabled, "
           "tests/drivers/qemu_rng_test.cc: WorksWithOneVectorAndWithALine"),
};
constexpr Clause kDetection[] = {
    tested(4, "the capabilities are looked for; without any the legacy interface is used",
           "tests/drivers/binding_test.cc: ATransitionalDeviceIsDrivenAsModernUnlessLegacyIsAskedFor, "
           "tests/drivers/binding_test.cc: AnInterfaceThatTheDeviceLacksIsUnavailable"),
};
constexpr Clause kVectors[] = {
    tested(1, "any size of the MSI-X table will do",
           "tests/drivers/nic_api_test.cc: OneInterruptServesTheQueuesAndTheConfiguration, "
           "tests/drivers/qemu_rng_test.cc: WorksWithOneVectorAndWithALine"),
    seen(1, "no event is mapped to a vector outside of the table", kVectorOutsideTable),
    seen(1, "that a vector was taken is verified", kVectorNotReadBack),
};
constexpr Clause kNotifications[] = {
    seen(2, "a notification has 16 bits, or 32 with NOTIFICATION_DATA", kNotifyWidth),
    seen(2, "without NOTIF_CONFIG_DATA it carries the queue's index", kNotifyValue),
    seen(2, "with NOTIF_CONFIG_DATA it carries queue_notif_config_data", kNotifyValue),
};
constexpr Clause kChanges[] = {
    tested(1, "one interrupt may stand for the configuration and for queues",
           "tests/drivers/nic_api_test.cc: OneInterruptServesTheQueuesAndTheConfiguration"),
};

constexpr Section kSections[] = {
    {"discovery", "drivernormative:Virtio Transport Options / Virtio Over PCI Bus / PCI Device Discovery", 3,
     kDiscovery},
    {"layout", "drivernormative:Virtio Transport Options / Virtio Over PCI Bus / PCI Device Layout", 1, kLayout},
    {"capabilities",
     "drivernormative:Virtio Transport Options / Virtio Over PCI Bus / Virtio Structure PCI Capabilities", 5,
     kCapabilities},
    {"common",
     "drivernormative:Virtio Transport Options / Virtio Over PCI Bus / PCI Device Layout / Common configuration "
     "structure "
     "layout",
     8, kCommon},
    {"vendor",
     "drivernormative:Virtio Transport Options / Virtio Over PCI Bus / PCI Device Layout / Vendor data capability", 1,
     kVendor},
    {"pci-cfg",
     "drivernormative:Virtio Transport Options / Virtio Over PCI Bus / PCI Device Layout / PCI configuration access "
     "capability",
     3, kConfigAccess},
    {"legacy-pci",
     "sec:Virtio Transport Options / Virtio Over PCI Bus / PCI Device Layout / Legacy Interfaces: A Note on PCI Device "
     "Layout",
     2, kLegacyLayout},
    {"detection",
     "sec:Virtio Transport Options / Virtio Over PCI Bus / PCI-specific Initialization And Device Operation / Device "
     "Initialization / Virtio Device Configuration Layout Detection / Legacy Interface: A Note on Device Layout "
     "Detection",
     4, kDetection},
    {"vectors",
     "drivernormative:Virtio Transport Options / Virtio Over PCI Bus / PCI-specific Initialization And Device "
     "Operation / "
     "Device Initialization / MSI-X Vector Configuration",
     3, kVectors},
    {"notifications",
     "drivernormative:Virtio Transport Options / Virtio Over PCI Bus / PCI-specific Initialization And Device "
     "Operation / "
     "Available Buffer Notifications",
     6, kNotifications},
    {"changes",
     "drivernormative:Virtio Transport Options / Virtio Over PCI Bus / PCI-specific Initialization And Device "
     "Operation / "
     "Notification of Device Configuration Changes",
     1, kChanges},
};

}  // namespace

std::span<const Section> pci_sections() noexcept { return kSections; }

}  // namespace upci::inline UPCI_VARIANT::virtio::lint
