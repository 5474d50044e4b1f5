// SPDX-License-Identifier: Apache-2.0
// Status, features, configuration, reset, initialization; and what no driver here makes use of.
#include "virtio/lint/clauses.h"

namespace upci::inline UPCI_VARIANT::virtio::lint {
namespace {

using namespace table;
using enum RegisterRule;

constexpr std::string_view kNoAdmin = "ADMIN_VQ is never accepted, and no administration command is issued";

constexpr Clause kStatus[] = {
    seen(1, "the status tells the steps of the initialization that are done", kStatusOrder),
    seen(1, "no status bit is cleared, but by a reset", kStatusBitCleared),
    seen(1, "after FAILED comes a reset before anything is tried again", kFailedNotReset),
};
constexpr Clause kFeatures[] = {
    seen(1, "only offered features are accepted", kFeatureNotOffered),
    seen(1, "a feature is accepted only together with those that it requires", kFeatureNeedsAnother),
    tested(1, "the offered features are validated",
           "tests/virtio/handshake_test.cc: AModernDeviceWithoutVersion1IsRejectedBeforeAnyFeatureIsWritten"),
    seen(2, "bits that are reserved, undefined here or not for this transport are ignored and not accepted",
         kFeatureUnknown),
    tested(1, "without a needed feature FAILED is set and the initialization ends",
           "tests/virtio/negotiate_test.cc: AMissingFeatureThatTheDriverNeedsIsNamed, "
           "tests/virtio/handshake_test.cc: AFailedProbeOfTheDriverLeavesFailed"),
    tested(1, "an offered feature that the driver does not know is no reason to fail",
           "tests/virtio/negotiate_test.cc: NothingIsAcceptedThatNobodyWants"),
};
constexpr Clause kLegacyFeatures[] = {
    tested(1, "by the legacy interface the legacy sections count",
           "tests/virtio/handshake_test.cc: LegacyHasNoFeaturesOk"),
};
constexpr Clause kConfig[] = {
    seen(1, "fields of more than 32 bits are not taken to be read in one piece", kConfigTorn),
    seen(1, "a field that belongs to a feature is accessed only where that is offered", kConfigFieldNotOffered),
    tested(1, "the configuration may be longer than what is needed of it",
           "tests/drivers/nic_api_test.cc: MacAndMtuAreTheCards"),
};
constexpr Clause kQueueReset[] = {
    seen(1, "that a queue was reset is verified", kQueueResetNotAwaited),
};
constexpr Clause kQueueAgain[] = {
    seen(1, "a queue that is enabled again is configured as at first", kQueueNotSetAgain),
};
constexpr Clause kInitialization[] = {
    seen(1, "the steps of the initialization come in their order", kStatusOrder, kFeaturesNotConfirmed),
    seen(1, "the configuration is not written while features are read and accepted", kConfigWrittenEarly),
    seen(1, "no feature is accepted after FEATURES_OK", kFeaturesAfterOk),
    seen(1, "an initialization that went wrong is not continued", kFailedNotReset, kFeaturesNotConfirmed),
    seen(1, "no notification before DRIVER_OK", kNotifiedEarly),
};
constexpr Clause kLegacyInitialization[] = {
    seen(1, "by the legacy interface FEATURES_OK and its check are left out", kLegacyFeaturesOk),
};
constexpr Clause kCleanup[] = {
    seen(1, "buffers that the device has are not altered", RingClause::kDescriptorInFlight, RingClause::kEntryInFlight,
         RingClause::kTableInFlight, PackedClause::kDescriptorInFlight),
    tested(1, "a queue is reset before buffers are taken from it",
           "tests/virtio/handshake_test.cc: AFailedStartResetsTheDeviceBeforeTheQueuesGoAway, "
           "tests/drivers/nic_api_test.cc: ARemovalInTheMiddleOfTrafficLeavesNothingRunning"),
};
constexpr Clause kSuspend[] = {
    unused(5, "what holds while and after the device is suspended",
           "SUSPEND is never accepted; setting its status bit would break status.1"),
};
constexpr Clause kReserved[] = {
    seen(1, "VERSION_1 is accepted where it is offered", kVersion1Declined),
    tested(1, "with ACCESS_PLATFORM addresses go through the platform's translation",
           "tests/virtio/queue_test.cc: MemoryIsTranslatedOnlyWithAccessPlatform, "
           "tests/drivers/qemu_nic_test.cc: EveryFrameOf60To9000BytesComesBack"),
    seen(1, "the device is given addresses of memory that was mapped for it, physical ones without ACCESS_PLATFORM",
         kQueueAddressForeign),
    unchecked(1, "with ORDER_PLATFORM the barriers are those for hardware",
              "the order of the machine's stores is not visible to an observer"),
    unused(1, "SR_IOV is not accepted without its capability", "it is never accepted: features.4 would see it"),
    unused(1, "SR_IOV is accepted before virtual functions are enabled", "no driver here enables any"),
};
constexpr Clause kLegacyReserved[] = {
    seen(1, "ANY_LAYOUT is accepted where the legacy interface offers it", kAnyLayoutDeclined),
};
constexpr Clause kAdminCommands[] = {unused(7, "the format of group administration commands", kNoAdmin)};
constexpr Clause kAdminCapabilities[] = {unused(3, "the device's and the driver's capabilities", kNoAdmin)};
constexpr Clause kAdminParts[] = {unused(2, "commands for device parts", kNoAdmin)};
constexpr Clause kAdminLegacy[] = {unused(4, "commands for the legacy interface of group members", kNoAdmin)};
constexpr Clause kAdminObjects[] = {unused(4, "commands for resource objects", kNoAdmin)};
constexpr Clause kAdminQueues[] = {unused(5, "administration queues", kNoAdmin)};

constexpr Section kSections[] = {
    {"status", "drivernormative:Basic Facilities of a Virtio Device / Device Status Field", 3, kStatus},
    {"features", "drivernormative:Basic Facilities of a Virtio Device / Feature Bits", 7, kFeatures},
    {"legacy-features",
     "sec:Basic Facilities of a Virtio Device / Feature Bits / Legacy Interface: A Note on Feature Bits", 1,
     kLegacyFeatures},
    {"config", "drivernormative:Basic Facilities of a Virtio Device / Device Configuration Space", 3, kConfig},
    {"queue-reset",
     "drivernormative:Basic Facilities of a Virtio Device / Virtqueues / Virtqueue Reset / Virtqueue Reset", 1,
     kQueueReset},
    {"queue-again",
     "drivernormative:Basic Facilities of a Virtio Device / Virtqueues / Virtqueue Reset / Virtqueue Re-enable", 1,
     kQueueAgain},
    {"admin-commands",
     "drivernormative:Basic Facilities of a Virtio Device / Device groups / Group administration commands", 7,
     kAdminCommands},
    {"admin-capabilities",
     "drivernormative:Basic Facilities of a Virtio Device / Device groups / Group administration commands / Device and "
     "driver "
     "capabilities",
     3, kAdminCapabilities},
    {"admin-parts",
     "drivernormative:Basic Facilities of a Virtio Device / Device groups / Group administration commands / Device "
     "parts",
     2, kAdminParts},
    {"admin-legacy",
     "drivernormative:Basic Facilities of a Virtio Device / Device groups / Group administration commands / Legacy "
     "Interface",
     4, kAdminLegacy},
    {"admin-objects",
     "drivernormative:Basic Facilities of a Virtio Device / Device groups / Group administration commands / Device "
     "resource "
     "objects",
     4, kAdminObjects},
    {"admin-queues", "drivernormative:Basic Facilities of a Virtio Device / Administration virtqueues", 5,
     kAdminQueues},
    {"init", "drivernormative:General Initialization And Device Operation / Device Initialization", 5, kInitialization},
    {"legacy-init",
     "sec:General Initialization And Device Operation / Device Initialization / Legacy Interface: Device "
     "Initialization",
     1, kLegacyInitialization},
    {"cleanup", "drivernormative:General Initialization And Device Operation / Device Cleanup", 2, kCleanup},
    {"suspend", "drivernormative:General Initialization And Device Operation / Device Suspend", 5, kSuspend},
    {"reserved", "drivernormative:Reserved Feature Bits", 6, kReserved},
    {"legacy-reserved", "sec:Reserved Feature Bits / Legacy Interface: Reserved Feature Bits", 1, kLegacyReserved},
};

}  // namespace

std::span<const Section> basic_sections() noexcept { return kSections; }

}  // namespace upci::inline UPCI_VARIANT::virtio::lint
