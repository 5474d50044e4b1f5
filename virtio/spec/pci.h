// SPDX-License-Identifier: Apache-2.0
// Virtio over PCI: ids, capabilities, the modern register layout and the legacy one. Section "Virtio Over PCI Bus".
#pragma once

#include <cstdint>

#include "base/reg.h"
#include "base/variant.h"

namespace upci::inline UPCI_VARIANT::virtio::spec::pci {

// Section "PCI Device Discovery".
inline constexpr std::uint16_t kVendor = 0x1af4;
inline constexpr std::uint16_t kFirstDevice = 0x1000;  // transitional ids are 0x1000..0x103f
inline constexpr std::uint16_t kLastTransitional = 0x103f;
inline constexpr std::uint16_t kFirstModern = 0x1040;  // modern: 0x1040 plus the device type
inline constexpr std::uint16_t kLastDevice = 0x107f;
inline constexpr std::uint16_t kTransitionalNet = 0x1000;
inline constexpr std::uint16_t kTransitionalBlock = 0x1001;
inline constexpr std::uint16_t kTransitionalConsole = 0x1003;
inline constexpr std::uint16_t kTransitionalScsi = 0x1004;
inline constexpr std::uint16_t kTransitionalEntropy = 0x1005;
inline constexpr std::uint8_t kModernRevision = 1;  // non-transitional devices have 1 or more, transitional ones 0
inline constexpr std::uint8_t kLegacyRevision = 0;

/// A vector register that holds this raises no interrupt.
inline constexpr std::uint16_t kNoVector = 0xffff;

// Section "Virtio Structure PCI Capabilities": struct virtio_pci_cap, by offset from its start.
inline constexpr std::uint8_t kVendorCapability = 0x09;  // PCI_CAP_ID_VNDR
namespace cap {
inline constexpr std::uint8_t kId = 0;
inline constexpr std::uint8_t kNext = 1;
inline constexpr std::uint8_t kLength = 2;  // of the capability, in bytes
inline constexpr std::uint8_t kType = 3;
inline constexpr std::uint8_t kBar = 4;
inline constexpr std::uint8_t kStructId = 5;
inline constexpr std::uint8_t kOffset = 8;             // 32 bits
inline constexpr std::uint8_t kStructLength = 12;      // 32 bits
inline constexpr std::uint8_t kNotifyMultiplier = 16;  // 32 bits, kNotify only
inline constexpr std::uint8_t kPciData = 16;           // 32 bits, kPci only
inline constexpr std::uint8_t kSize = 16;
inline constexpr std::uint8_t kNotifySize = 20;
inline constexpr std::uint8_t kPciSize = 20;
}  // namespace cap

enum class CapType : std::uint8_t {
  kCommon = 1,
  kNotify = 2,
  kIsr = 3,
  kDevice = 4,
  kPci = 5,
  kSharedMemory = 8,
};

/// Section "Common configuration structure layout": struct virtio_pci_common_cfg.
struct Common {
  using DeviceFeatureSelect = Reg32<0x00, RW>;
  using DeviceFeature = Reg32<0x04, RO>;
  using DriverFeatureSelect = Reg32<0x08, RW>;
  using DriverFeature = Reg32<0x0c, RW>;
  using ConfigMsixVector = Reg16<0x10, RW>;
  using NumQueues = Reg16<0x12, RO>;
  using DeviceStatus = Reg8<0x14, RW>;
  using ConfigGeneration = Reg8<0x15, RO>;
  using QueueSelect = Reg16<0x16, RW>;
  using QueueSize = Reg16<0x18, RW>;
  using QueueMsixVector = Reg16<0x1a, RW>;
  using QueueEnable = Reg16<0x1c, RW>;
  using QueueNotifyOff = Reg16<0x1e, RO>;
  using QueueDescLow = Reg32<0x20, RW>;
  using QueueDescHigh = Reg32<0x24, RW>;
  using QueueDriverLow = Reg32<0x28, RW>;
  using QueueDriverHigh = Reg32<0x2c, RW>;
  using QueueDeviceLow = Reg32<0x30, RW>;
  using QueueDeviceHigh = Reg32<0x34, RW>;
  using QueueNotifyData = Reg16<0x38, RO>;  // with NOTIF_CONFIG_DATA
  using QueueReset = Reg16<0x3a, RW>;       // with RING_RESET
};
/// What every device has: up to and without queue_notify_data.
inline constexpr std::uint32_t kCommonSize = 0x38;
/// Up to and with queue_reset.
inline constexpr std::uint32_t kCommonSizeWithReset = 0x3c;

/// Section "ISR status capability": one byte; reading clears it.
struct Isr {
  using Status = Reg8<0x00, RO>;
};
inline constexpr std::uint8_t kIsrQueue = 0x01;
inline constexpr std::uint8_t kIsrConfig = 0x02;

/// Section "Legacy Interfaces: A Note on PCI Device Layout": the header at the start of BAR 0 (port space).
struct Legacy {
  using DeviceFeatures = Reg32<0x00, RO>;
  using DriverFeatures = Reg32<0x04, RW>;
  using QueueAddress = Reg32<0x08, RW>;  // the ring's address divided by kLegacyPageSize; 0 takes the queue away
  using QueueSize = Reg16<0x0c, RO>;
  using QueueSelect = Reg16<0x0e, RW>;
  using QueueNotify = Reg16<0x10, RW>;
  using DeviceStatus = Reg8<0x12, RW>;
  using IsrStatus = Reg8<0x13, RO>;
  using ConfigMsixVector = Reg16<0x14, RW>;  // these two exist only while MSI-X is enabled
  using QueueMsixVector = Reg16<0x16, RW>;
};
inline constexpr std::uint32_t kLegacyConfigOffset = 0x14;      // of the device's own configuration, without MSI-X
inline constexpr std::uint32_t kLegacyConfigOffsetMsix = 0x18;  // with MSI-X enabled
inline constexpr unsigned kLegacyAddressShift = 12;
inline constexpr unsigned kLegacyBar = 0;

}  // namespace upci::inline UPCI_VARIANT::virtio::spec::pci
