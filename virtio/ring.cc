// SPDX-License-Identifier: Apache-2.0
#include "virtio/ring.h"

#include <fmt/format.h>

namespace upci::inline UPCI_VARIANT::virtio {

Error ring_error(RingFault fault, std::uint32_t value, std::uint32_t limit) {
  Error error{.code = Errc::kDevice, .advice = "the device broke the rules of the ring: reset it", .step = "ring"};
  switch (fault) {
    case RingFault::kNone: break;
    case RingFault::kIndexAhead:
      error.reg = "used.idx";
      error.what = fmt::format("the device's used index is {} ahead with {} buffers in flight", value, limit);
      break;
    case RingFault::kIdOutOfRange:
      error.reg = "used.id";
      error.what = fmt::format("the device returned descriptor {} of a ring of {}", value, limit);
      break;
    case RingFault::kIdNotInFlight:
      error.reg = "used.id";
      error.what = fmt::format("the device returned descriptor {}, which heads no chain in flight", value);
      break;
    case RingFault::kLengthTooLong:
      error.reg = "used.len";
      error.what = fmt::format("the device says it wrote {} bytes into a buffer of {}", value, limit);
      break;
    case RingFault::kBatchTooLong:
      error.reg = "used.idx";
      error.what = fmt::format("the device returned descriptor {} in order, with {} chains used: there are older ones",
                               value, limit);
      break;
  }
  return error;
}

}  // namespace upci::inline UPCI_VARIANT::virtio
