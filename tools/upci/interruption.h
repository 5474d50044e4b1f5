// SPDX-License-Identifier: Apache-2.0
// SIGINT and SIGTERM: a command ends what it has begun (no device left bound, no QEMU left running) and then by the signal.
#pragma once

#include <functional>

#include "base/error.h"
#include "base/event_fd.h"
#include "base/platform.h"

namespace upci::tool {

/// One per process, made before any device is opened. While it lives, the first SIGINT or SIGTERM is noted; a second one
/// ends the process at once.
class Interruption {
 public:
  /// Errors: kSystem.
  static Result<void> install(Interruption& interruption);
  Interruption() = default;
  ~Interruption();
  Interruption(const Interruption&) = delete;
  Interruption& operator=(const Interruption&) = delete;

  /// The signal that came, or 0. Any thread.
  static int signal() noexcept;

  /// The signal that came, or 0, which is then forgotten: for a command that was to wait for it and ends by itself. Any thread.
  static int take() noexcept;

  /// Runs `action` on a thread of its own when a signal comes, at once if it has come already; an empty one takes back the
  /// last. After set_action({}) returns, no action runs.
  void set_action(std::function<void()> action);

 private:
  void watch();

  platform::Mutex mutex_;
  std::function<void()> action_;  // mutex_
  bool came_ = false;             // mutex_
  platform::Atomic<bool> stop_{false};
  platform::Thread watcher_;  // the owner's thread
};

/// Sets an action for as long as it lives.
class OnInterruption {
 public:
  OnInterruption(Interruption& interruption, std::function<void()> action) : interruption_(interruption) {
    interruption_.set_action(std::move(action));
  }
  ~OnInterruption() { interruption_.set_action({}); }
  OnInterruption(const OnInterruption&) = delete;
  OnInterruption& operator=(const OnInterruption&) = delete;

 private:
  Interruption& interruption_;
};

}  // namespace upci::tool
