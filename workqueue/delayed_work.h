// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <type_traits>

#include "workqueue/timer.h"
#include "workqueue/work.h"

namespace upci::inline UPCI_VARIANT {

class WorkerPool;
class Workqueue;

/// A Work with a timer: queued once a delay has passed. The kernel's struct delayed_work.
class DelayedWork {
 public:
  explicit DelayedWork(WorkFunction::Plain function) noexcept : work_(function) {}
  template <class T, class Base>
    requires std::is_base_of_v<Base, T>
  DelayedWork(T* object, void (Base::*method)(Work&)) : work_(object, method) {
    // An owner that adopts works has adopted the inner one; it must learn that there is a timer to be disarmed, too.
    if constexpr (requires { object->adopt_delayed_work(*this); }) object->adopt_delayed_work(*this);
  }

#if defined(UPCI_CHECK_LIFETIME)
  ~DelayedWork() { detail::work_goes(work_); }  // while its timer is still there
  DelayedWork(const DelayedWork&) = delete;
  DelayedWork& operator=(const DelayedWork&) = delete;
#endif

  Work& work() noexcept { return work_; }
  const Work& work() const noexcept { return work_; }
  /// True while its timer is armed, too. A hint.
  bool is_pending() const noexcept { return work_.is_pending(); }

 private:
  friend struct WorkAccess;

  Work work_;
  Timer timer_{*this};
  // Who holds PENDING may change these; the timer's pool only under that pool's lock, so that a canceller that holds the
  // lock and still finds its pool here knows that the lock protects the timer.
  platform::Atomic<WorkerPool*> timer_pool_{nullptr};
  Workqueue* workqueue_ = nullptr;
  int cpu_ = -1;
};

}  // namespace upci::inline UPCI_VARIANT
