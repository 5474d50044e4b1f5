// SPDX-License-Identifier: Apache-2.0
// Which interrupt vector serves which queue.
#pragma once

#include <algorithm>
#include <vector>

#include "base/variant.h"

namespace upci::inline UPCI_VARIANT::virtio_net {

/// A value. Vector 0 is for the configuration, and each direction of each queue pair has its own; where the device has too
/// few, the two of a pair share one, then several pairs do, and with a single vector (INTx is always one) everything.
class VectorPlan {
 public:
  static constexpr unsigned kConfig = 0;

  VectorPlan(unsigned offered, unsigned pairs) noexcept : pairs_(pairs), count_(std::min(offered, 1 + 2 * pairs)) {
    if (count_ > 1 + pairs && count_ < 1 + 2 * pairs) count_ = 1 + pairs;
  }

  unsigned count() const noexcept { return count_; }
  unsigned rx(unsigned pair) const noexcept { return separate() ? 1 + 2 * pair : shared(pair); }
  unsigned tx(unsigned pair) const noexcept { return separate() ? 2 + 2 * pair : shared(pair); }
  /// True where a vector serves one direction of one pair and nothing else.
  bool separate() const noexcept { return count_ == 1 + 2 * pairs_; }

  /// The CPU of each vector: the configuration's is the first pair's.
  std::vector<int> cpus(const std::vector<int>& pair_cpus) const {
    std::vector<int> result(count_, pair_cpus.front());
    for (unsigned pair = 0; pair < pairs_ && count_ > 1; pair++) {
      if (pair > 0 && !separate() && shared(pair) <= shared(pair - 1)) break;  // this vector has its CPU
      result[rx(pair)] = result[tx(pair)] = pair_cpus[pair % pair_cpus.size()];
    }
    return result;
  }

 private:
  unsigned shared(unsigned pair) const noexcept { return count_ < 2 ? 0 : 1 + pair % (count_ - 1); }
  unsigned pairs_;
  unsigned count_;
};

}  // namespace upci::inline UPCI_VARIANT::virtio_net
