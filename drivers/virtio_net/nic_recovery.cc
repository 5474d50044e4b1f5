// SPDX-License-Identifier: Apache-2.0
// A card that asks to be reset, or breaks the rules of a ring: it is reset, negotiated with anew, and its data path goes on.
// Section "Device Status Field": after DEVICE_NEEDS_RESET "the driver ... can attempt to recover by issuing a reset". And a card
// that is put to sleep and woken up: the same, with a pause in the middle.
#include <chrono>
#include <mutex>
#include <utility>

#include "base/log.h"
#include "drivers/virtio_net/nic_base.h"
#include "virtio/driver.h"
#include "virtio/queue.h"
#include "virtio/spec/features.h"
#include "virtio/spec/status.h"

namespace upci::inline UPCI_VARIANT::virtio_net {
namespace {

using namespace std::chrono_literals;

// For everybody to leave the rings, the whole handshake and the settings.
constexpr platform::Nanoseconds kRecoveryTime = 5s;
// Of that, for the queues alone: a card that does not reset them has time left to be reset as a whole.
constexpr platform::Nanoseconds kQueueResetTime = 1s;
// A card that needs more resets than that, each within the time below after the one before, is given up.
constexpr unsigned kMostResetsInARow = 5;
constexpr platform::Nanoseconds kInARow = 1s;
// A freeze looks so often whether a recovery has ended.
constexpr platform::Nanoseconds kRecoveryLook = 1ms;

}  // namespace

void NicBase::note_trouble(Error error) {
  if (error.verdict == Verdict::kGone) return set_failed(std::move(error));
  bool hopeless = false;
  {
    const std::lock_guard lock(failed_mutex_);
    // What is noticed while it is being brought back, or removed, comes of that.
    if (failed_ || blocked()) return;
    const platform::TimePoint now = platform::Clock::now();
    resets_in_a_row_ = now - last_reset_ < kInARow ? resets_in_a_row_ + 1 : 1;
    last_reset_ = now;
    hopeless = resets_in_a_row_ > kMostResetsInARow;
    if (!hopeless) {
      blocked_.fetch_or(kRecovering, std::memory_order_seq_cst);
      // Under the lock: freeze() takes it before it waits for this work.
      engine().queue_work(engine().system_wq(), recovery_work_);
    }
  }
  if (hopeless) return set_failed(std::move(error));
  log::warn("{}: {}: it is reset", name(), error.message());
}

void NicBase::recover(Work&) {
  if (stopping()) return;
  if (auto back = bring_back(Deadline::after(kRecoveryTime)); !back) return set_failed(std::move(back).error());
  recoveries_.add();
  blocked_.fetch_and(~kRecovering, std::memory_order_seq_cst);
  resume_pairs();
  wake_transmitter();
  // What the card said meanwhile was passed over: that it wants to be reset again, or that its link has changed.
  if (vectors_) queue_config_work();
}

// Section "Virtqueue Reset". A device that has set DEVICE_NEEDS_RESET wants more than that.
bool NicBase::may_reset_queues() {
  if (!device_.has(virtio::spec::feature::kRingReset)) return false;
  const std::uint8_t status = device_.transport().status();
  return (status & virtio::spec::status::kDriverOk) != 0 && (status & virtio::spec::status::kNeedsReset) == 0;
}

Result<void> NicBase::bring_back(Deadline deadline) {
  UPCI_TRY(wait_until_left(deadline));
  if (may_reset_queues()) {
    auto done = reset_broken_pairs(deadline.at_most(kQueueResetTime));
    if (done && *done) {
      queue_resets_.add();
      return {};
    }
    if (!done) log::warn("{}: resetting its queues alone: {}", name(), done.error().message());
  }
  return reset_card(deadline);
}

Result<void> NicBase::reset_card(Deadline deadline) {
  {
    const std::lock_guard config(config_mutex_);
    // A command that waits for its answer notices the same trouble, and ends.
    std::unique_lock<Mutex> commands;
    if (control_ != nullptr) commands = control_->hold();
    UPCI_TRY(virtio::restart(
        device_.transport(), device_.features(), [this] { restart_rings(); }, [this] { return set_up_queues(); },
        deadline));
  }
  start_pairs();
  return make_settings_again(deadline);
}

Result<void> NicBase::freeze(Deadline deadline) {
  for (;;) {
    {
      const std::lock_guard lock(failed_mutex_);
      if (failed_) return std::unexpected(*failed_);
      const std::uint32_t why = blocked_.load(std::memory_order_seq_cst);
      if ((why & (kStopping | kFrozen)) != 0)
        return fail(Errc::kState, name() + ": the network card is frozen or removed");
      if (why == 0) {
        blocked_.fetch_or(kFrozen, std::memory_order_seq_cst);
        break;
      }
    }
    if (deadline.expired()) {
      return fail(Errc::kTimeout, name() + ": the network card is being reset, and that has not ended",
                  "try again with more time");
    }
    sleep_for(kRecoveryLook);
  }
  if (auto left = wait_until_left(deadline); !left) {
    // Nothing has happened yet.
    blocked_.fetch_and(~kFrozen, std::memory_order_seq_cst);
    resume_pairs();
    if (vectors_) queue_config_work();
    return left;
  }
  engine().cancel_work_sync(recovery_work_);  // the end of one
  engine().cancel_work_sync(config_work_);
  wait_for_bottom_halves();
  const std::lock_guard config(config_mutex_);
  std::unique_lock<Mutex> commands;
  if (control_ != nullptr) commands = control_->hold();
  if (auto quiet = virtio::silence(device_.transport(), deadline); !quiet) {
    set_failed(quiet.error());
    return quiet;
  }
  restart_rings();
  if (control_ != nullptr) control_->set_frozen(true);
  return {};
}

Result<void> NicBase::restore(Deadline deadline) {
  if (auto error = failed()) return std::unexpected(std::move(*error));
  if (!frozen()) return fail(Errc::kState, name() + ": the network card is not frozen");
  // Before the queues are told their vectors: a legacy device has the vector registers only while MSI-X is enabled.
  if (vectors_) UPCI_TRY(vectors_->enable());
  const auto allow_commands = [this](bool allowed) {
    if (control_ == nullptr) return;
    const std::unique_lock<Mutex> commands = control_->hold();
    control_->set_frozen(!allowed);
  };
  {
    const std::lock_guard config(config_mutex_);
    UPCI_TRY(virtio::restart(
        device_.transport(), device_.features(), [this] { restart_rings(); }, [this] { return set_up_queues(); },
        deadline));
  }
  start_pairs();
  allow_commands(true);  // while the rings stay closed
  if (auto settings = make_settings_again(deadline); !settings) {
    allow_commands(false);
    return settings;
  }
  blocked_.fetch_and(~kFrozen, std::memory_order_seq_cst);
  resume_pairs();
  wake_transmitter();
  // Nobody has heard of changes meanwhile.
  if (vectors_) queue_config_work();
  return {};
}

void NicBase::set_failed(Error error) {
  {
    const std::lock_guard lock(failed_mutex_);
    if (failed_) return;
    failed_ = std::move(error);
    log::error("{}: {}", name(), failed_->message());
    blocked_.fetch_or(kFailed, std::memory_order_seq_cst);
  }
  wake_transmitter();
}

std::optional<Error> NicBase::failed() const {
  if ((blocked_.load(std::memory_order_acquire) & kFailed) == 0) return std::nullopt;
  const std::lock_guard lock(failed_mutex_);
  return failed_;
}

}  // namespace upci::inline UPCI_VARIANT::virtio_net
