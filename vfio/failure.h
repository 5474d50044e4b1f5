// SPDX-License-Identifier: Apache-2.0
// Private. How a call that the kernel refused becomes an Error: the call, what it was for, the errno, what to do about it.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"

namespace upci::inline UPCI_VARIANT::vfio {

/// `call` is the call's name ("VFIO_GROUP_SET_CONTAINER"), `on` what it was tried on, `error` the errno, positive or
/// negative. Without an advice there is one for the errno. Code: kUnavailable where the environment or a permission is
/// lacking, otherwise kSystem.
std::unexpected<Error> refused(std::string_view call, std::string_view on, std::int64_t error, std::string advice = {});

/// What the kernel said contradicts itself or its own header.
std::unexpected<Error> implausible(std::string_view call, std::string_view on, std::string_view what);

}  // namespace upci::inline UPCI_VARIANT::vfio
