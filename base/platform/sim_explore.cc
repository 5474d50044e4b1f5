// SPDX-License-Identifier: Apache-2.0
// Where the simulation decides: by the seed's generator, or by a chooser that goes through all alternatives.
//
// With a chooser, each scheduling point asks whether the current fiber goes on or which other one runs instead, as long as
// the bound on preemptions allows it (after Musuvathi and Qadeer, "Iterative Context Bounding"). A switch that has to be,
// because the current fiber waits or yields, costs nothing.
#include <algorithm>

#include "base/platform/sim_scheduler.h"

namespace upci::inline UPCI_VARIANT::platform::sim::detail {

std::size_t Scheduler::pick(std::size_t options) noexcept {
  if (options < 2) return 0;
  if (!exploring()) return random_.below(options);
  const std::size_t chosen = options_.chooser->choose(static_cast<std::uint32_t>(options));
  if (chosen < options) return chosen;
  fail(End::kFailed, "alternative " + std::to_string(chosen) + " of " + std::to_string(options) +
                         " was chosen: the schedule is of another scenario, or this one is not deterministic");
}

Fiber* Scheduler::pick(std::vector<Fiber*>& candidates) noexcept {
  if (exploring()) {  // the lists' order depends on what happened before
    std::sort(candidates.begin(), candidates.end(), [](const Fiber* a, const Fiber* b) { return a->id < b->id; });
  }
  return candidates[pick(candidates.size())];
}

void Scheduler::explore_step() noexcept {
  if (runnable_.size() < 2) return;
  if (preemptions_ == options_.preemptions) {
    outcome_.bounded = true;
    return;
  }
  scratch_.assign(1, current_);
  for (Fiber* fiber : runnable_) {
    if (fiber != current_) scratch_.push_back(fiber);
  }
  std::sort(scratch_.begin() + 1, scratch_.end(), [](const Fiber* a, const Fiber* b) { return a->id < b->id; });
  Fiber* const next = scratch_[pick(scratch_.size())];
  if (next == current_) return;
  ++preemptions_;
  switch_to(next);
}

Fiber* Scheduler::next_spinner() noexcept {
  if (!exploring()) return choose(true);
  // All only wait for time to pass: to try all orders of that, again each microsecond, would never end.
  return *std::min_element(runnable_.begin(), runnable_.end(),
                           [](const Fiber* a, const Fiber* b) { return a->id < b->id; });
}

std::uint64_t Scheduler::random_for_test(std::uint64_t below) noexcept {
  if (exploring() && below <= 16) return pick(below);
  return random_.below(below);
}

}  // namespace upci::inline UPCI_VARIANT::platform::sim::detail
