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
#include <vector>

#include "base/deadline.h"
#include "base/error.h"
#include "base/wait.h"
#include "device/device.h"
#include "device/irq.h"
#include "virtio/driver.h"
#include "virtio/request_queue.h"
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
  /// DRIVER_OK is set. `config_changed` runs in a worker after each change of the device's configuration.
  void start(std::function<void()> config_changed = {});
  /// No request begins any more. Those that are under way may end until half of the time is over, then they get kState as
  /// their result. Errors: kTimeout when somebody is still inside at the deadline.
  Result<void> quiesce(Deadline deadline);
  /// Everybody who waits gets this error, and so does who comes later. The first one counts.
  void set_failed(Error error);

  // --- requests; any thread ---
  /// Puts the requests in, waits until each has its result. `queue` is one of the queues, or kAnyQueue for that of the caller's
  /// CPU. Results are those of Request::finish, or
  ///   kVerdict stuck (step "request"): the device had not returned it at the deadline; what became of it is unknown;
  ///   kVerdict gone, needs_reset; kDevice (it broke the rules of the ring): the device has failed;
  ///   kState: it is being removed; kInvalid: no such queue, or a deadline without end.
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

 private:
  static constexpr unsigned kConfigVector = 0;
  struct VectorServer {
    RequestDevice& owner;
    const unsigned vector;
    void top_half(device::Irq& irq) { owner.top_half(irq, vector); }
  };

  unsigned vector_of(std::size_t queue) const noexcept;
  RequestQueue& queue_here() noexcept;
  void top_half(device::Irq& irq, unsigned vector);
  void config_bottom_half(Work&);
  bool enter() noexcept;
  void leave() noexcept;

  const Device device_;
  std::vector<std::unique_ptr<RequestQueue>> queues_;   // const after make_queues
  std::vector<int> cpus_;                               // const after make_queues: the CPU of each queue
  std::vector<std::unique_ptr<VectorServer>> servers_;  // const after set_up
  std::unique_ptr<device::IrqVectors> vectors_;         // const after set_up; null when there are no interrupts
  std::function<void()> config_changed_;                // const after start
  platform::Atomic<bool> serving_{false};               // atomic: start() was called
  platform::Atomic<bool> config_missed_{false};         // atomic: a configuration interrupt came before start()
  platform::Atomic<bool> stopping_{false};              // atomic; set once
  platform::Atomic<bool> cut_{false};                   // atomic; set once
  platform::Atomic<std::uint32_t> users_{0};            // atomic; a futex word: threads inside run()
  mutable platform::Mutex failed_mutex_;
  std::optional<Error> failed_;               // failed_mutex_; set once
  platform::Atomic<bool> has_failed_{false};  // atomic; set after failed_
  Work config_work_{this, &RequestDevice::config_bottom_half};
};

}  // namespace upci::inline UPCI_VARIANT::virtio
