// SPDX-License-Identifier: Apache-2.0
#include "bench/engine/cases/many_queues.h"

#include "bench/engine/peers/ours.h"

namespace bench {

std::vector<Case> many_queues_cases() { return {}; }

}  // namespace bench
