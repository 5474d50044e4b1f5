// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "device/report.h"

namespace upci::inline UPCI_VARIANT::device {

/// The report for people: several lines, each ended by a newline; the first says it all. Names the frames of the stacks
/// (milliseconds).
std::string to_text(const Report& report);

}  // namespace upci::inline UPCI_VARIANT::device
