// SPDX-License-Identifier: Apache-2.0
#include "vfio/bind/errors.h"

#include <cerrno>

namespace upci::inline UPCI_VARIANT::vfio::bind {

Error as_environment(Error error) {
  const int number = error.sys_errno;
  if (number != EACCES && number != EPERM && number != EROFS) return error;
  error.code = Errc::kUnavailable;
  if (error.advice.empty()) {
    error.advice = number == EROFS
                       ? "in a container /sys is often read-only: run upci outside, or give it a writable /sys"
                       : "run upci as root, outside a container that keeps /sys from it";
  }
  return error;
}

}  // namespace upci::inline UPCI_VARIANT::vfio::bind
