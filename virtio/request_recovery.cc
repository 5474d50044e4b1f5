// SPDX-License-Identifier: Apache-2.0
// A device that is reset under its requests: because it asks for that or breaks the rules of a ring, or because it is to sleep
// (freeze) and to wake up (restore). Section "Device Status Field": after DEVICE_NEEDS_RESET "the driver ... can attempt to
// recover by issuing a reset".
//
// Who has prepared a request waits while the gates are shut and goes on when they open; its deadline still counts. What the
// device had when it was reset is not asked for again: whether it was done is unknown, and that a second time does no harm only
// the caller can know.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <mutex>
#include <utility>

#include "base/blocking.h"
#include "base/log.h"
#include "virtio/queue.h"
#include "virtio/request_device.h"

namespace upci::inline UPCI_VARIANT::virtio {
namespace {

using namespace std::chrono_literals;

// For the whole handshake.
constexpr platform::Nanoseconds kRecoveryTime = 5s;
// A freeze looks so often whether a recovery has ended.
constexpr platform::Nanoseconds kRecoveryLook = 1ms;

}  // namespace

// --- the queue ---

bool RequestQueue::in_flight() const {
  return std::any_of(slots_.begin(), slots_.end(),
                     [](const Slot& slot) { return slot.state == Slot::State::kInFlight; });
}

void RequestQueue::set_gate(Gate gate) {
  {
    const std::lock_guard lock(mutex_);
    gate_ = gate;
    if (gate == Gate::kOpen) arm();
  }
  wake_all();
}

bool RequestQueue::wait_until_drained(Deadline deadline) {
  for (;;) {
    const std::uint32_t seen = events_.load(std::memory_order_acquire);
    const bool last = deadline.expired();
    {
      const std::lock_guard lock(mutex_);
      if (last) reap();
      if (!in_flight()) return true;
      if (last || ring_->error() || owner_.has_failed()) return false;
    }
    const BlockingScope blocking;
    platform::wait_word(events_, seen, deadline.when());
  }
}

void RequestQueue::take_back() {
  {
    const std::lock_guard lock(mutex_);
    // A last look: what the device had returned before it was reset is as good as ever.
    gate_ = Gate::kDraining;
    if (!ring_->error()) reap();
    gate_ = Gate::kClosed;
    for (Slot& slot : slots_) {
      if (slot.state == Slot::State::kInFlight) {
        slot.state = Slot::State::kDone;
        slot.cancelled = true;
        ++counted_.cancelled;
      } else if (slot.state == Slot::State::kLost) {
        ++counted_.returned_late;
        release(slot);
      }
    }
    ring_->restart();
    ring_->disable_interrupts();
  }
  wake_all();
}

// --- the device ---

Error RequestDevice::cancelled(const Request& request) const {
  return Error{.code = Errc::kSystem,
               .what = fmt::format("{}: the device was reset while it had {}; what became of it is unknown",
                                   device_.device().name(), request.describe()),
               .advice = "ask again, where twice does no harm",
               .sys_errno = ECANCELED,
               .step = "request",
               .reg = "device_status"};
}

std::string_view RequestDevice::why_blocked() const noexcept {
  return (blocked_.load(std::memory_order_acquire) & kFrozen) != 0 ? "frozen" : "being reset";
}

void RequestDevice::set_gates(RequestQueue::Gate gate) {
  for (const auto& queue : queues_) queue->set_gate(gate);
}

void RequestDevice::note_trouble(Error error, std::uint32_t seen) {
  if (on_trouble_ == OnTrouble::kFail || error.verdict == Verdict::kGone) return set_failed(std::move(error));
  bool hopeless = false;
  {
    const std::lock_guard lock(failed_mutex_);
    // What is noticed while it is being reset comes of that.
    if (failed_ || blocked() || seen != resets()) return;
    hopeless = stopping_.load(std::memory_order_acquire) || !budget_.spend();
    if (!hopeless) {
      trouble_ = error;
      blocked_.fetch_or(kRecovering, std::memory_order_seq_cst);
      Engine& engine = device_.device().engine();
      engine.queue_work(engine.system_wq(), recovery_work_);
    }
  }
  if (hopeless) return set_failed(std::move(error));
  log::warn("{}: it is reset", error.message());
}

void RequestDevice::recover(Work&) {
  const std::uint32_t why = blocked_.load(std::memory_order_seq_cst);
  if (why != kRecovering || stopping_.load()) return;
  // Who has begun to read the configuration does so to the end; nobody else begins while it is blocked, and reopen() looks again.
  if (vectors_) device_.device().engine().cancel_work_sync(config_work_);
  if (auto back = bring_back(Deadline::after(kRecoveryTime)); !back) return set_failed(std::move(back).error());
  recoveries_.fetch_add(1, std::memory_order_relaxed);
  reopen();
}

Result<void> RequestDevice::bring_back(Deadline deadline) {
  set_gates(RequestQueue::Gate::kClosed);
  UPCI_TRY(restart(
      device_.transport(), device_.features(),
      [this] {
        for (const auto& queue : queues_) queue->take_back();
      },
      [this] { return tell_queues(); }, deadline));
  if (hooks_.restored) hooks_.restored();
  return {};
}

// Unblocked first: what goes wrong as soon as requests flow must not be taken for a part of the reset.
void RequestDevice::reopen() {
  resets_.fetch_add(1, std::memory_order_acq_rel);
  blocked_.store(0, std::memory_order_seq_cst);
  set_gates(RequestQueue::Gate::kOpen);
  // What the device said meanwhile was passed over: that it wants to be reset again, or that its configuration has changed.
  if (vectors_) (*vectors_)[kConfigVector].queue(config_work_);
}

Result<void> RequestDevice::freeze(Deadline deadline) {
  for (;;) {
    {
      const std::lock_guard lock(failed_mutex_);
      if (failed_) return std::unexpected(*failed_);
      if (stopping_.load()) return fail(Errc::kState, device_.device().name() + ": the device is being removed");
      if (blocked_.load() == 0) {
        blocked_.store(kFrozen, std::memory_order_seq_cst);
        break;
      }
      if ((blocked_.load() & kFrozen) != 0)
        return fail(Errc::kState, device_.device().name() + ": it is frozen already");
    }
    if (deadline.expired()) {
      return fail(Errc::kTimeout, device_.device().name() + ": the device is being reset, and that has not ended",
                  "try again with more time");
    }
    sleep_for(kRecoveryLook);
  }
  // The end of a recovery, or a change of configuration that is being looked at. Neither begins any more.
  if (on_trouble_ == OnTrouble::kReset) device_.device().engine().cancel_work_sync(recovery_work_);
  if (vectors_) device_.device().engine().cancel_work_sync(config_work_);
  set_gates(RequestQueue::Gate::kDraining);
  const Deadline half = deadline.at_most(deadline.is_bounded() ? deadline.remaining() / 2 : 1s);
  for (const auto& queue : queues_) queue->wait_until_drained(half);
  set_gates(RequestQueue::Gate::kClosed);
  if (auto quiet = silence(device_.transport(), deadline); !quiet) {
    // It may still write to what it was given: nothing of that is taken back.
    set_failed(quiet.error());
    return quiet;
  }
  for (const auto& queue : queues_) queue->take_back();
  return {};
}

Result<void> RequestDevice::restore(Deadline deadline) {
  if (auto error = failed()) return std::unexpected(std::move(*error));
  if ((blocked_.load() & kFrozen) == 0) return fail(Errc::kState, device_.device().name() + ": it is not frozen");
  // Before the queues are told their vectors, as in set_up().
  if (vectors_) UPCI_TRY(vectors_->enable());
  UPCI_TRY(restart(device_.transport(), device_.features(), [] {}, [this] { return tell_queues(); }, deadline));
  if (hooks_.restored) hooks_.restored();
  reopen();
  return {};
}

}  // namespace upci::inline UPCI_VARIANT::virtio
