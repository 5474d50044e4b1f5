// SPDX-License-Identifier: Apache-2.0
// Internal to vfio/bind/: what a refused system call means to a person.
#pragma once

#include "base/error.h"

namespace upci::inline UPCI_VARIANT::vfio::bind {

/// A refusal for want of a permission is the environment's, with advice; any other error stays as it is.
Error as_environment(Error error);

/// The value of a Result, or its error as above.
template <class T>
Result<T> in_environment(Result<T> result) {
  if (!result) return std::unexpected(as_environment(std::move(result).error()));
  return result;
}

}  // namespace upci::inline UPCI_VARIANT::vfio::bind
