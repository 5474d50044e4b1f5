// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>

#include "bench/engine/case.h"

namespace bench {

/// A sample that is taken in a process that has done nothing else: for memory, which allocators do not give back. Runs this
/// program again with that one case and contestant; in that process `measure` is called.
Sample in_own_process(const std::string& case_name, const std::string& contestant,
                      const std::function<Sample()>& measure);

}  // namespace bench
