// SPDX-License-Identifier: Apache-2.0
// What the observer of the registers looks for: the rules that bind a driver, and those that bind a device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/variant.h"

namespace upci::inline UPCI_VARIANT::virtio::lint {

/// What a driver must not do at the registers. Which clause of the specification each belongs to is in clauses.h.
enum class RegisterRule : std::uint8_t {
  kStatusBitCleared,      // a status bit that was set is written as 0, but for a reset
  kStatusOrder,           // a step of the initialization that was not its turn, or a bit that is no step
  kFailedNotReset,        // went on after FAILED without a reset
  kResetNotAwaited,       // began anew before the status read as 0
  kFeatureNotOffered,     // accepted a feature that it was not offered, or did not look at
  kFeatureNeedsAnother,   // accepted a feature without the one that it requires
  kFeatureUnknown,        // accepted a bit that this device type or transport gives no meaning
  kFeaturesAfterOk,       // wrote features after FEATURES_OK
  kFeaturesNotConfirmed,  // went on without having seen FEATURES_OK stay set
  kVersion1Declined,      // modern: VERSION_1 was offered and not accepted
  kAnyLayoutDeclined,     // legacy: ANY_LAYOUT was offered and not accepted
  kLegacyFeaturesOk,      // legacy: set FEATURES_OK, which that interface has not
  kNotifiedEarly,         // a notification before DRIVER_OK
  kNotifyWidth,           // of 16 bits with NOTIFICATION_DATA, or of another width without
  kNotifyValue,  // does not carry the index of an enabled queue, or queue_notif_config_data where that is negotiated
  kAccessWidth,  // a field accessed by parts, together with another one, or not aligned
  kReadOnlyWritten,        // wrote a register that the driver may only read
  kQueueSizeZero,          // packed: queue_size 0
  kQueueSizeNoPower,       // split: queue_size that is no power of two
  kQueueEnableZero,        // wrote something else than 1 to queue_enable
  kQueueIncomplete,        // enabled a queue before its fields were set, or set them afterwards
  kQueueMisaligned,        // a part of a queue is not aligned as its kind of ring demands
  kQueueAddressForeign,    // a part of a queue does not lie in memory that was mapped for the device
  kQueueResetNotAwaited,   // used a queue whose reset has not been seen to end
  kQueueNotSetAgain,       // enabled a queue after its reset without configuring it again
  kVectorOutsideTable,     // mapped an event to a vector that the MSI-X table does not have
  kVectorNotReadBack,      // did not look whether the device took the vector
  kConfigWrittenEarly,     // wrote the device's configuration before the features were settled
  kConfigNotForDriver,     // wrote a field of the configuration that is the device's
  kConfigFieldNotOffered,  // read a field that belongs to a feature that was not offered
  kConfigTorn,             // read a field of more than 32 bits without looking at config_generation around it
  kWritebackReadEarly,     // block device: read writeback before FEATURES_OK
  kCapabilityWritten,      // wrote into a virtio capability in config space
};
inline constexpr std::size_t kRegisterRules = 33;
std::string_view to_string(RegisterRule rule) noexcept;

/// What a driver must not put into the buffers that it makes available: headers, commands and requests.
enum class ChainRule : std::uint8_t {
  kNetNumBuffers,            // transmit: num_buffers is not 0
  kNetFlagsWithoutCsum,      // transmit: flags though CSUM was not negotiated
  kNetFlagsOfDevice,         // transmit: a flag that only the device sets, or one that nobody negotiated
  kNetGsoNotNegotiated,      // transmit: a gso_type whose feature was not negotiated
  kNetGsoWithoutCsum,        // transmit: segmentation without NEEDS_CSUM or without gso_size
  kNetChecksumOutside,       // transmit: the checksum that is asked for lies outside of the frame
  kNetTooLong,               // transmit: longer than the MTU, without segmentation
  kNetHeaderShort,           // transmit: a chain shorter than the header, or one that the device may write
  kNetFraming,               // legacy without ANY_LAYOUT: the header is not alone in its descriptor
  kNetBufferShort,           // receive: a buffer shorter than the header
  kNetTransmitEarly,         // transmit: on a pair that is not enabled
  kNetCommandNotNegotiated,  // control: a command whose feature was not negotiated
  kNetCommandLength,         // control: data that is not what the command says
  kNetPairs,                 // control: 0 pairs, or more than there are
  kNetOffloads,              // control: turns on an offload that was not negotiated
  kNetRssTable,              // control: an indirection table of a length or with queues that may not be
  kNetRssHash,               // control: hash types that the device does not have
  kBlkBeyondCapacity,        // reads or writes beyond the disk's end
  kBlkFlushSector,           // a flush with another sector than 0
  kBlkLength,                // reads or writes no whole sectors
  kBlkRanges,                // discard, write zeroes: no whole ranges
  kBlkTooManyRanges,         // more of them than the device takes
  kBlkIdLength,              // GET_ID into another length than 20 bytes
  kBlkUnmap,                 // a discard with the unmap flag
  kBlkFraming,               // legacy without ANY_LAYOUT: header or status are not alone in their descriptors
  kRngReadable,              // entropy device: a buffer that the device reads
};
inline constexpr std::size_t kChainRules = 26;
std::string_view to_string(ChainRule rule) noexcept;

/// What a device must not do at the registers; counted and reported, no fault of the driver's.
enum class DeviceRule : std::uint8_t {
  kStatusBitLost,        // a status bit that it had shown is gone without a reset
  kQueueSizeNoPower,     // split: offers a queue size that is no power of two
  kEnabledAfterReset,    // a queue is enabled right after a reset
  kVectorChanged,        // a vector reads back neither as written nor as NO_VECTOR
  kVersion1Missing,      // modern, but VERSION_1 is not offered
  kFeatureNeedsAnother,  // offers a feature without the one that it requires
  kFeaturesChanged,      // offers others than before
};
inline constexpr std::size_t kDeviceRules = 7;
std::string_view to_string(DeviceRule rule) noexcept;

}  // namespace upci::inline UPCI_VARIANT::virtio::lint
