// SPDX-License-Identifier: Apache-2.0
#include "virtio/lint/rules.h"

namespace upci::inline UPCI_VARIANT::virtio::lint {

std::string_view to_string(RegisterRule rule) noexcept {
  switch (rule) {
    case RegisterRule::kStatusBitCleared: return "status bit cleared";
    case RegisterRule::kStatusOrder: return "step of the initialization out of turn";
    case RegisterRule::kFailedNotReset: return "no reset after FAILED";
    case RegisterRule::kResetNotAwaited: return "end of the reset not awaited";
    case RegisterRule::kFeatureNotOffered: return "feature accepted that was not offered";
    case RegisterRule::kFeatureNeedsAnother: return "feature accepted without the one that it requires";
    case RegisterRule::kFeatureUnknown: return "feature accepted that has no meaning here";
    case RegisterRule::kFeaturesAfterOk: return "features written after FEATURES_OK";
    case RegisterRule::kFeaturesNotConfirmed: return "FEATURES_OK not seen to stay";
    case RegisterRule::kVersion1Declined: return "VERSION_1 declined";
    case RegisterRule::kAnyLayoutDeclined: return "ANY_LAYOUT declined";
    case RegisterRule::kLegacyFeaturesOk: return "FEATURES_OK by the legacy interface";
    case RegisterRule::kNotifiedEarly: return "notification before DRIVER_OK";
    case RegisterRule::kNotifyWidth: return "notification of the wrong width";
    case RegisterRule::kNotifyValue: return "notification that names no such queue";
    case RegisterRule::kAccessWidth: return "access that is not a field's";
    case RegisterRule::kReadOnlyWritten: return "read-only register written";
    case RegisterRule::kQueueSizeZero: return "queue_size 0";
    case RegisterRule::kQueueSizeNoPower: return "queue_size no power of two";
    case RegisterRule::kQueueEnableZero: return "queue_enable written with something else than 1";
    case RegisterRule::kQueueIncomplete: return "queue's fields not set before it was enabled";
    case RegisterRule::kQueueMisaligned: return "part of a queue not aligned";
    case RegisterRule::kQueueAddressForeign: return "part of a queue in memory that the device was not given";
    case RegisterRule::kQueueResetNotAwaited: return "end of the queue's reset not awaited";
    case RegisterRule::kQueueNotSetAgain: return "queue not configured again after its reset";
    case RegisterRule::kVectorOutsideTable: return "vector outside of the MSI-X table";
    case RegisterRule::kVectorNotReadBack: return "vector not read back";
    case RegisterRule::kConfigWrittenEarly: return "configuration written before FEATURES_OK";
    case RegisterRule::kConfigNotForDriver: return "configuration field written that is the device's";
    case RegisterRule::kConfigFieldNotOffered: return "configuration field read whose feature was not offered";
    case RegisterRule::kConfigTorn: return "long configuration field read without its generation";
    case RegisterRule::kWritebackReadEarly: return "writeback read before FEATURES_OK";
    case RegisterRule::kCapabilityWritten: return "virtio capability written";
  }
  return "unknown";
}

std::string_view to_string(ChainRule rule) noexcept {
  switch (rule) {
    case ChainRule::kNetNumBuffers: return "transmit: num_buffers is not 0";
    case ChainRule::kNetFlagsWithoutCsum: return "transmit: flags though CSUM was not negotiated";
    case ChainRule::kNetFlagsOfDevice:
      return "transmit: a flag that only the device sets, or one that nobody negotiated";
    case ChainRule::kNetGsoNotNegotiated: return "transmit: a gso_type whose feature was not negotiated";
    case ChainRule::kNetGsoWithoutCsum: return "transmit: segmentation without NEEDS_CSUM or without gso_size";
    case ChainRule::kNetChecksumOutside: return "transmit: the checksum that is asked for lies outside of the frame";
    case ChainRule::kNetTooLong: return "transmit: longer than the MTU, without segmentation";
    case ChainRule::kNetHeaderShort:
      return "transmit: a chain shorter than the header, or one that the device may write";
    case ChainRule::kNetFraming: return "legacy without ANY_LAYOUT: the header is not alone in its descriptor";
    case ChainRule::kNetBufferShort: return "receive: a buffer shorter than the header";
    case ChainRule::kNetTransmitEarly: return "transmit: on a pair that is not enabled";
    case ChainRule::kNetCommandNotNegotiated: return "control: a command whose feature was not negotiated";
    case ChainRule::kNetCommandLength: return "control: data that is not what the command says";
    case ChainRule::kNetPairs: return "control: 0 pairs, or more than there are";
    case ChainRule::kNetOffloads: return "control: turns on an offload that was not negotiated";
    case ChainRule::kNetRssTable: return "control: an indirection table of a length or with queues that may not be";
    case ChainRule::kNetRssHash: return "control: hash types that the device does not have";
    case ChainRule::kBlkBeyondCapacity: return "reads or writes beyond the disk's end";
    case ChainRule::kBlkFlushSector: return "a flush with another sector than 0";
    case ChainRule::kBlkLength: return "reads or writes no whole sectors";
    case ChainRule::kBlkRanges: return "discard, write zeroes: no whole ranges";
    case ChainRule::kBlkTooManyRanges: return "more of them than the device takes";
    case ChainRule::kBlkIdLength: return "GET_ID into another length than 20 bytes";
    case ChainRule::kBlkUnmap: return "a discard with the unmap flag";
    case ChainRule::kBlkFraming:
      return "legacy without ANY_LAYOUT: header or status are not alone in their descriptors";
    case ChainRule::kRngReadable: return "entropy device: a buffer that the device reads";
  }
  return "unknown";
}

std::string_view to_string(DeviceRule rule) noexcept {
  switch (rule) {
    case DeviceRule::kStatusBitLost: return "status bit lost without a reset";
    case DeviceRule::kQueueSizeNoPower: return "queue size offered that is no power of two";
    case DeviceRule::kEnabledAfterReset: return "queue enabled right after a reset";
    case DeviceRule::kVectorChanged: return "vector neither taken nor refused";
    case DeviceRule::kVersion1Missing: return "VERSION_1 not offered";
    case DeviceRule::kFeatureNeedsAnother: return "feature offered without the one that it requires";
    case DeviceRule::kFeaturesChanged: return "other features offered than before";
  }
  return "unknown";
}

}  // namespace upci::inline UPCI_VARIANT::virtio::lint
