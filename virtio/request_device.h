// SPDX-License-Identifier: Apache-2.0
// A device with queues that carry requests (block, entropy), but for what the requests mean: rings, vectors, waiting, failure
// and removal. A driver holds one and hands it the calls of device::Bound; see drivers/virtio_rng for the smallest use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/deadline.h"
#include "base/error.h"
#include "base/wait.h"
#include "device/device.h"
#include "device/irq.h"
#include "virtio/driver.h"
#include "virtio/request_queue.h"
#include "virtio/reset_budget.h"
#include "workqueue/work.h"

namespace upci::inline UPCI_VARIANT::virtio {

/// How interrupts were used; a snapshot.
struct InterruptStats {
  std::uint64_t interrupts = 0;  // signals taken from the eventfds, all vectors
  std::uint64_t top_halves = 0;  // calls of top halves
  std::vector<int> cpus;         // where the bottom halves run, one entry per vector; empty without interrupts
  bool affinity_set = false;     // the backend raises each vector on its CPU
  std::string affinity_note;     // why not
};

/// What a driver wants to be told. Each may be empty.
struct RequestHooks {
  /// After each change of the device's configuration. In a worker.
  std::function<void()> config_changed = {};
  /// The device was reset and is live again, and no request goes to it before this returns. In the thread that drives it.
  std::function<void()> restored = {};
};

/// What becomes of a device that asks to be reset, or breaks the rules of a ring.
enum class OnTrouble : std::uint8_t {
  kFail,   // it has failed
  kReset,  // it is reset and brought back: for devices whose requests have no state beyond themselves
};

class RequestDevice {
 public:
  explicit RequestDevice(Device device);
  /// Shuts the vectors and the works down; the device is quiet already.
  ~RequestDevice();
  RequestDevice(const RequestDevice&) = delete;
  RequestDevice& operator=(const RequestDevice&) = delete;

  // --- in the probe, in this order ---
  /// Makes queues 0 to count - 1. Errors: those of RequestQueue::create.
  Result<void> make_queues(std::uint16_t count, const RequestQueueShape& shape, const ObserverFactory& observers = {});
  /// Makes as many vectors as the device has and the queues can use (vector 0 for the configuration, and one per queue on
  /// that queue's CPU; shared where there are fewer), and tells the device its queues. Errors: those of IrqVectors and of Transport::setup_queue.
  Result<void> set_up();
  /// To be disabled when the driver's instance is dismantled: for Bound::adopt_work.
  std::vector<Work*> works();

  // --- what a Bound is asked ---
  /// DRIVER_OK is set. kReset needs the engine of a context.
  void start(RequestHooks hooks = {}, OnTrouble on_trouble = OnTrouble::kFail);
  /// No request begins any more. Those that are under way may end until half of the time is over, then they get kState as
  /// their result. Errors: kTimeout when somebody is still inside at the deadline.
  Result<void> quiesce(Deadline deadline);
  /// For Bound::freeze: requests that come wait from now on; what the device has may come back until half of the time is over;
  /// then it is reset, and what it still had ends as cancelled. Errors: kTimeout (it is being reset for longer than that; it
  /// goes on); those of virtio::silence, and then it has failed; why it had failed before.
  Result<void> freeze(Deadline deadline);
  /// For Bound::restore. Errors: kState (not frozen); those of IrqVectors::enable and virtio::restart: still frozen.
  Result<void> restore(Deadline deadline);
  /// Everybody who waits gets this error, and so does who comes later. The first one counts.
  void set_failed(Error error);

  // --- requests; any thread ---
  /// Puts the requests in, waits until each has its result. `queue` is one of the queues, or kAnyQueue for that of the caller's
  /// CPU. Results are those of Request::finish, or
  ///   kVerdict stuck (step "request"): the device had not returned it at the deadline; what became of it is unknown;
  ///   kSystem with ECANCELED: the device was reset (recovery, freeze) while it had the request; what became of it is unknown;
  ///   kVerdict gone, needs_reset; kDevice (it broke the rules of the ring): the device has failed;
  ///   kState: it is being removed, or frozen until the deadline; kInvalid: no such queue, or a deadline without end.
  void run(std::span<Request* const> requests, Deadline deadline, int queue = kAnyQueue);
  static constexpr int kAnyQueue = -1;

  std::uint16_t queues() const noexcept { return static_cast<std::uint16_t>(queues_.size()); }
  /// Requests that all queues together can have in flight.
  std::size_t slots() const noexcept;
  /// Whether those who wait look at the rings themselves, although the device has interrupts. Without interrupts they always do.
  void set_polling(bool on);
  bool has_interrupts() const noexcept { return vectors_ != nullptr; }

  std::optional<Error> failed() const;
  bool has_failed() const noexcept { return has_failed_.load(std::memory_order_acquire); }
  const Device& device() const noexcept { return device_; }
  RequestStats stats() const;
  InterruptStats interrupt_stats() const;

  // --- for the queues ---
  /// Asks whether the device is there and well, and notes when it is not. Costs a register access.
  void look();
  bool cut() const noexcept { return cut_.load(std::memory_order_acquire); }
  /// The device needs to be reset: see OnTrouble. `seen` is what resets() was before that was found: news from before a reset
  /// are none. Any context.
  void note_trouble(Error error, std::uint32_t seen);
  std::uint32_t resets() const noexcept { return resets_.load(std::memory_order_acquire); }
  /// The result of a request that the device had when it was reset.
  Error cancelled(const Request& request) const;
  /// "frozen", "being reset".
  std::string_view why_blocked() const noexcept;

 private:
  static constexpr unsigned kConfigVector = 0;
  static constexpr std::uint32_t kRecovering = 1, kFrozen = 2;
  struct VectorServer {
    RequestDevice& owner;
    const unsigned vector;
    void top_half(device::Irq& irq) { owner.top_half(irq, vector); }
  };

  unsigned vector_of(std::size_t queue) const noexcept;
  RequestQueue& queue_here() noexcept;
  void top_half(device::Irq& irq, unsigned vector);
  void config_bottom_half(Work&);
  bool blocked() const noexcept { return blocked_.load(std::memory_order_acquire) != 0; }
  /// Tells the device its vectors and queues.
  Result<void> tell_queues();
  void recover(Work&);
  Result<void> bring_back(Deadline deadline);
  /// The device is live again.
  void reopen();
  void set_gates(RequestQueue::Gate gate);
  bool enter() noexcept;
  void leave() noexcept;

  const Device device_;
  std::vector<std::unique_ptr<RequestQueue>> queues_;   // const after make_queues
  std::vector<int> cpus_;                               // const after make_queues: the CPU of each queue
  std::vector<std::unique_ptr<VectorServer>> servers_;  // const after set_up
  std::unique_ptr<device::IrqVectors> vectors_;         // const after set_up; null when there are no interrupts
  RequestHooks hooks_;                                  // const after start
  OnTrouble on_trouble_ = OnTrouble::kFail;             // the same
  platform::Atomic<bool> serving_{false};               // atomic: start() was called
  platform::Atomic<bool> config_missed_{false};         // atomic: a configuration interrupt came before start()
  platform::Atomic<bool> stopping_{false};              // atomic; set once
  platform::Atomic<bool> cut_{false};                   // atomic; set once
  platform::Atomic<std::uint32_t> users_{0};            // atomic; a futex word: threads inside run()
  mutable platform::Mutex failed_mutex_;
  std::optional<Error> failed_;                    // failed_mutex_; set once
  platform::Atomic<bool> has_failed_{false};       // atomic; set after failed_
  platform::Atomic<std::uint32_t> blocked_{0};     // atomic; bits are set under failed_mutex_: why no request may go
  std::optional<Error> trouble_;                   // failed_mutex_; why it is being reset
  ResetBudget budget_;                             // failed_mutex_
  platform::Atomic<std::uint32_t> resets_{0};      // atomic; recoveries and restorations
  platform::Atomic<std::uint32_t> recoveries_{0};  // atomic
  Work config_work_{this, &RequestDevice::config_bottom_half};
  Work recovery_work_{this, &RequestDevice::recover};
};

}  // namespace upci::inline UPCI_VARIANT::virtio
