// SPDX-License-Identifier: Apache-2.0
// The hook that observes blocking: how a worker pool learns that one of its workers is about to sleep in a framework wait.
// The kernel does this in its scheduler (wq_worker_sleeping, wq_worker_running); here each framework wait passes it.
#pragma once

#include <cstdint>

#include "base/platform.h"

namespace upci::inline UPCI_VARIANT {

/// Implemented by the engine's workers; called by the worker's own thread only.
class BlockingObserver {
 public:
  virtual void about_to_block() noexcept = 0;
  virtual void resumed() noexcept = 0;

  /// What complete() leaves in a Completion, to be told to whoever waits for it: who it was, in 30 bits; 0: nobody.
  virtual std::uint32_t completer() noexcept { return 0; }
  /// The thread has waited for a Completion, and this is what was left there. Not called for 0.
  virtual void waited_for(std::uint32_t completer) noexcept { (void)completer; }
  /// Whether the two above are to be called.
  bool tracks_completions() const noexcept { return tracks_completions_; }

 protected:
  bool tracks_completions_ = false;
  ~BlockingObserver() = default;
};

namespace detail {
struct BlockingSlot;
}

/// The calling thread's observer, or nullptr.
inline BlockingObserver* blocking_observer() noexcept {
  return static_cast<BlockingObserver*>(platform::thread_slot<detail::BlockingSlot>());
}
inline void set_blocking_observer(BlockingObserver* observer) noexcept {
  platform::thread_slot<detail::BlockingSlot>() = observer;
}

/// Brackets a call that may sleep. Nests: only the outermost one tells the observer.
class BlockingScope {
 public:
  BlockingScope() noexcept : observer_(blocking_observer()) {
    if (observer_ == nullptr) return;
    set_blocking_observer(nullptr);
    observer_->about_to_block();
  }
  ~BlockingScope() {
    if (observer_ == nullptr) return;
    observer_->resumed();
    set_blocking_observer(observer_);
  }
  BlockingScope(const BlockingScope&) = delete;
  BlockingScope& operator=(const BlockingScope&) = delete;

 private:
  BlockingObserver* observer_;
};

}  // namespace upci::inline UPCI_VARIANT
