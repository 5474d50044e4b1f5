// SPDX-License-Identifier: Apache-2.0
// For each rule of each observer something that breaks it, so that its silence elsewhere means something.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "virtio/lint/clauses.h"

namespace upci::virtio_tests {

/// What an observer has counted.
struct Counted {
  std::uint64_t of_the_rule = 0;
  std::uint64_t of_all = 0;
};

/// Breaks one rule, once, and no other.
struct Violation {
  virtio::lint::RuleRef rule;
  std::function<Counted()> commit;
};

std::vector<Violation> split_ring_violations();
std::vector<Violation> packed_ring_violations();
std::vector<Violation> register_violations();
std::vector<Violation> chain_violations();

}  // namespace upci::virtio_tests
