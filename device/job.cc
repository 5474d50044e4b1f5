// SPDX-License-Identifier: Apache-2.0
#include "device/job.h"

#include <climits>
#include <utility>

#include "base/blocking.h"

namespace upci::inline UPCI_VARIANT::device {

void Bell::ring() noexcept {
  // Release pairs with the acquire of rings(): who sees the ring sees what it was rung for.
  rings_.fetch_add(1, std::memory_order_release);
  platform::wake_word(&rings_, INT_MAX);
}

void Bell::wait(std::uint32_t seen, platform::TimePoint until) noexcept {
  if (rings() != seen) return;
  BlockingScope blocking;
  platform::wait_word(rings_, seen, until);
}

bool Job::queue() noexcept {
  self_ = shared_from_this();
  if (engine_.queue_work_on(cpu_, engine_.system_wq(), work_)) return true;
  self_.reset();
  return false;
}

void Job::run_here() {
  const std::shared_ptr<Job> keep = shared_from_this();
  started_at_ = platform::Clock::now();
  thread_ = platform::this_thread::id();
  phase_.store(Phase::kRunning, std::memory_order_release);
  run();
}

bool Job::cancel() noexcept {
  Phase queued = Phase::kQueued;
  if (!phase_.compare_exchange_strong(queued, Phase::kCancelled, std::memory_order_acq_rel)) return false;
  // A worker that has taken the work meanwhile sees the phase and drops the reference itself.
  if (engine_.cancel_work(work_)) self_.reset();
  return true;
}

bool Job::give_up() noexcept {
  Phase running = Phase::kRunning;
  return phase_.compare_exchange_strong(running, Phase::kGivenUp, std::memory_order_acq_rel);
}

bool Job::claim() noexcept {
  Phase running = Phase::kRunning;
  if (!phase_.compare_exchange_strong(running, Phase::kJudged, std::memory_order_acq_rel)) return false;
  bell_->ring();
  return true;
}

void Job::on_worker(Work&) {
  const std::shared_ptr<Job> keep = std::move(self_);
  Phase queued = Phase::kQueued;
  // Cancelled, and perhaps running on its caller's thread by now. kStarting keeps cancel() out while the fields are written.
  if (!phase_.compare_exchange_strong(queued, Phase::kStarting, std::memory_order_acq_rel)) return;
  started_at_ = platform::Clock::now();
  thread_ = platform::this_thread::id();
  phase_.store(Phase::kRunning, std::memory_order_release);
  bell_->ring();
  run();
}

void Job::run() {
  const std::shared_ptr<Bell> bell = bell_;
  body();
  returned_.store(true, std::memory_order_release);
  bell->ring();
}

}  // namespace upci::inline UPCI_VARIANT::device
