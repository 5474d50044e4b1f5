// SPDX-License-Identifier: Apache-2.0
// Reports of probes as the contract of the command line has them.
#pragma once

#include <span>
#include <string>

#include "device/report.h"
#include "tools/upci/output.h"

namespace upci::tool {

/// False when the device could not even be opened: then it has neither a time nor a place.
bool was_probed(const device::Report& report);

/// One entry of "devices". Names the frames of its stacks, which takes milliseconds.
Json to_json(const device::Report& report);
Json to_json(std::span<const device::Report> reports);

/// One line per device, and below it the whole report of those that are not well.
std::string to_text(std::span<const device::Report> reports);

}  // namespace upci::tool
