// SPDX-License-Identifier: Apache-2.0
// A work that is queued once everybody who may still look at old data has looked away. Kernel: struct rcu_work, SRCU.
//
// How this differs from the kernel's RCU. A reader says so: RcuReader (the kernel's rcu_read_lock is free and implied by much
// else; ours is SRCU's: two atomic additions, and readers may sleep). No item is a reader unless it holds an RcuReader, and
// none ends a grace period by merely going to sleep. A grace period is found to be over by whoever asks, or by a poll from
// 50 us to 5 ms apart (the kernel has its tick and context switches); no thread sleeps for it.
#pragma once

#include <memory>
#include <type_traits>

#include "workqueue/delayed_work.h"
#include "workqueue/work.h"

namespace upci::inline UPCI_VARIANT {

class EngineState;
class RcuDomain;

/// What waits for a grace period. next: the domain's lock.
struct RcuHead {
  /// `engine` is nullptr when the engine ends before the grace period does.
  using Function = void (*)(RcuHead& head, EngineState* engine);
  explicit RcuHead(Function function) noexcept : done(function) {}
  const Function done;
  RcuHead* next = nullptr;
};

/// A Work for Engine::queue_rcu_work. While it waits for its grace period it is pending and cannot be taken back: a cancel
/// waits until it has been queued.
class RcuWork {
 public:
  explicit RcuWork(WorkFunction::Plain function) noexcept : work_(function) {}
  template <class T, class Base>
    requires std::is_base_of_v<Base, T>
  RcuWork(T* object, void (Base::*method)(Work&)) : work_(object, method) {}

  Work& work() noexcept { return work_; }
  bool is_pending() const noexcept { return work_.is_pending(); }

 private:
  friend class RcuDomain;
  struct Head : RcuHead {
    explicit Head(RcuWork& work) noexcept;
    RcuWork& owner;
  };
  Work work_;
  Head head_{*this};
  Workqueue* workqueue_ = nullptr;  // whoever owns PENDING
  int cpu_ = -1;                    // the same
};

/// Readers, and who waits for them. Each Engine has one: Engine::rcu(). All members are thread-safe.
///
/// G = lock_; A = atomic; C = const.
class RcuDomain {
 public:
  explicit RcuDomain(EngineState& engine);
  ~RcuDomain();
  RcuDomain(const RcuDomain&) = delete;
  RcuDomain& operator=(const RcuDomain&) = delete;

  /// Begins a read-side section; never waits; nests. The result goes to read_unlock(), which any thread may call.
  int read_lock() noexcept;
  void read_unlock(int section) noexcept;
  /// Returns once all sections that had begun before have ended. Not within a section: it would wait for itself.
  /// Kernel: synchronize_srcu.
  void synchronize();

 private:
  friend class Engine;
  friend class EngineState;
  friend class QueueingHistory;
  struct alignas(64) Slot {
    platform::Atomic<std::uint64_t> begun[2]{};  // A: only grow
    platform::Atomic<std::uint64_t> ended[2]{};  // A
  };
  enum class Phase : std::uint8_t { kIdle, kStragglers, kReaders };

  bool queue(Workqueue& wq, RcuWork& work) noexcept;
  void wait_for_grace_period(RcuHead& head) noexcept;
  void advance() noexcept;
  bool step() noexcept;  // G
  bool nobody_reads(unsigned side) const noexcept;
  void poll(Work&);
  void stop() noexcept;
  bool is_poll(const Work* work) const noexcept { return work == &poll_.work(); }
  Slot& slot() const noexcept;

  EngineState& engine_;                      // C
  std::size_t nr_slots_ = 1;                 // C
  std::unique_ptr<Slot[]> slots_;            // C: by CPU
  platform::Atomic<std::uint32_t> side_{0};  // A: the low bit is where new sections are counted; changed under G
  platform::Mutex lock_;
  Phase phase_ = Phase::kIdle;         // G
  RcuHead* current_ = nullptr;         // G: served by the grace period that goes on
  RcuHead* waiting_ = nullptr;         // G: by the next one
  RcuHead** waiting_end_ = &waiting_;  // G
  bool stopped_ = false;               // G
  platform::Nanoseconds pause_{};      // G: until the next poll
  DelayedWork poll_{this, &RcuDomain::poll};
};

/// A read-side section, as long as it lives. May sleep. Kernel: guard(srcu).
class RcuReader {
 public:
  explicit RcuReader(RcuDomain& domain) noexcept : domain_(domain), section_(domain.read_lock()) {}
  ~RcuReader() { domain_.read_unlock(section_); }
  RcuReader(const RcuReader&) = delete;
  RcuReader& operator=(const RcuReader&) = delete;

 private:
  RcuDomain& domain_;
  const int section_;
};

}  // namespace upci::inline UPCI_VARIANT
