// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "workqueue/worker.h"

namespace upci::inline UPCI_VARIANT {

class EngineState;
class QueueState;
class WorkerPool;

/// The thread of a kWqMemReclaim workqueue that runs its items where no other thread can be had. Kernel: rescuer_thread.
///
/// Y = the engine's mayday lock; S = its own thread; A = atomic.
class Rescuer {
 public:
  Rescuer(EngineState& engine, QueueState& queue) noexcept
      : engine_(engine), queue_(queue), worker_(nullptr, 0, true) {}
  /// Lets it finish what it runs, and ends it.
  ~Rescuer();
  Rescuer(const Rescuer&) = delete;
  Rescuer& operator=(const Rescuer&) = delete;

  /// Errors: kSystem.
  Result<void> start();
  /// Asks for help in a pwq's pool. Under that pool's lock.
  void call(PoolWorkqueue& pwq) noexcept;
  /// Ends it once what it runs has come to its end; joined by the destructor.
  void stop() noexcept;
  /// Waits for its end. False when it has not ended by the deadline: it goes on without the engine.
  bool join(Deadline deadline);

 private:
  void run();
  void rescue(PoolWorkqueue& pwq);

  EngineState& engine_;
  QueueState& queue_;
  Worker worker_;
  platform::Thread thread_;
  platform::Atomic<std::uint32_t> bell_{0};  // A: counts calls
  platform::Atomic<bool> stopping_{false};   // A
  PoolWorkqueue* mayday_ = nullptr;          // Y: pwqs that call, first come first served
};

}  // namespace upci::inline UPCI_VARIANT
