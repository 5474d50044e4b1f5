// SPDX-License-Identifier: Apache-2.0
#include "emulation/emu/faults.h"

#include <string>

namespace upci::inline UPCI_VARIANT::emulation::emu {
namespace {

constexpr FaultInfo kFaults[] = {
    {Fault::kStatusSlow, "status-slow", "device_status reads back 0 late, after fault_ms=N milliseconds (1200)",
     "slow"},
    {Fault::kStatusStuck, "status-stuck",
     "device_status is 0x0f when the driver comes and keeps that: a reset never completes", "stuck"},
    {Fault::kGone, "gone",
     "the device leaves the bus when FEATURES_OK is written (legacy: when the features are): all reads are all ones",
     "gone"},
    {Fault::kNeedsReset, "needs-reset", "DEVICE_NEEDS_RESET is set when FEATURES_OK is written (legacy: DRIVER_OK)",
     "needs_reset"},
    {Fault::kFeaturesRejected, "features-rejected", "FEATURES_OK does not stick", "rejected", true},
    {Fault::kAccessStalled, "access-stalled",
     "the read of device_status that follows a write of 0 does not return until the device is given up", "stalled"},
    {Fault::kMemoryDecodeOff, "memory-decode-off",
     "memory and I/O decoding stay off: BARs read all ones, the config space is alive", "stuck"},
    {Fault::kGenerationUnstable, "generation-unstable", "config_generation is different at every read", "stuck", true},
    {Fault::kVectorRejected, "vector-rejected", "vector registers read back 0xffff, whatever is written", "rejected"},
    {Fault::kVersionMissing, "version-missing", "VERSION_1 is not offered", "rejected", true},
    {Fault::kConfigOnes, "config-ones", "the whole config space reads all ones", "gone"},
    {Fault::kCapLoop, "cap-loop", "the last capability points to the first one", "error"},
    {Fault::kCapPointerLow, "cap-pointer-low", "a capability points into the config space's header", "error"},
    {Fault::kCapOutOfRange, "cap-out-of-range", "the common configuration is said to lie beyond its BAR", "error",
     true},
    {Fault::kCapBarInvalid, "cap-bar-invalid", "the virtio capabilities name BAR 7, which no function has", "error",
     true},
    {Fault::kCapShort, "cap-short", "the common configuration is said to be 4 bytes long", "error", true},
    {Fault::kCapMissing, "cap-missing", "there is no capability for the common configuration", "error", true},
    {Fault::kBarSizeZero, "bar-size-zero", "the BAR with the virtio registers has size 0", "error"},
    {Fault::kNotifyOutOfRange, "notify-out-of-range", "queue_notify_off points beyond the notification area", "error",
     true},
    {Fault::kQueueSizeZero, "queue-size-zero", "the queues have size 0", "error"},
    {Fault::kQueueSizeHuge, "queue-size-huge", "the queues have size 65535", "error"},
    {Fault::kQueueSizeOdd, "queue-size-odd", "the queues have size 100, which is no power of two", "error"},
    {Fault::kUsedIdOutOfRange, "used-id-out-of-range", "used elements name a descriptor beyond the queue", "ok"},
    {Fault::kUsedLenOutOfRange, "used-len-out-of-range", "used elements of the receive queue claim 4 GiB - 1", "ok"},
    {Fault::kUsedLenShort, "used-len-short", "used elements of the receive queue are shorter than the frame's header",
     "ok"},
    {Fault::kUsedIndexJump, "used-index-jump",
     "the used index runs ahead by more than the queue's size; in a packed ring what was used is used once more", "ok"},
    {Fault::kBufferCountWrong, "buffer-count-wrong",
     "with MRG_RXBUF: a received frame's header says that it takes 65535 buffers", "ok"},
    {Fault::kOffloadWrong, "offload-wrong", "a received frame's header puts the checksum behind the frame's end", "ok"},
    {Fault::kQueueResetStuck, "queue-reset-stuck", "with ring_reset=on: queue_reset keeps its 1, and nothing is reset",
     "ok", true},
};

}  // namespace

std::span<const FaultInfo> all_faults() noexcept { return kFaults; }

Result<Fault> parse_fault(std::string_view name) {
  if (name.empty()) return Fault::kNone;
  std::string known;
  for (const FaultInfo& info : kFaults) {
    if (info.name == name) return info.fault;
    if (!known.empty()) known += ", ";
    known += info.name;
  }
  return fail(Errc::kInvalid, "there is no fault '" + std::string(name) + "'", "faults of emu: are " + known);
}

const FaultInfo* find_fault(Fault fault) noexcept {
  for (const FaultInfo& info : kFaults) {
    if (info.fault == fault) return &info;
  }
  return nullptr;
}

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
