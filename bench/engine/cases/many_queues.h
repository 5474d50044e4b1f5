// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "bench/engine/case.h"

namespace bench {

/// Cost of an item when it is queued on one of very many workqueues. None with an engine without alloc_workqueue.
std::vector<Case> many_queues_cases();

}  // namespace bench
