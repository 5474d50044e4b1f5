// SPDX-License-Identifier: Apache-2.0
// What this program measures, and what its cases share.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bench/engine/case.h"
#include "device/context.h"

namespace bench {

std::vector<Case> probing_cases();
std::vector<Case> light_load_cases();

/// A context that knows the virtio network driver.
std::unique_ptr<upci::device::Context> make_net_context();
/// Ends the program: what is measured did not happen.
[[noreturn]] void give_up(const std::string& why);

}  // namespace bench
