// SPDX-License-Identifier: Apache-2.0
// The Disk: operations are checked, cut into requests, and their results put together.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/wait.h"
#include "drivers/virtio_blk/block_request.h"
#include "drivers/virtio_blk/disk.h"
#include "virtio/request_device.h"

namespace upci::inline UPCI_VARIANT::virtio_blk {

class DiskImpl final : public Disk {
 public:
  DiskImpl(std::unique_ptr<virtio::RequestDevice> requests, const DiskInfo& info);

  /// Tells the device its queues; the last step of the probe.
  Result<void> set_up() { return requests_->set_up(); }
  Result<void> start(Deadline deadline) override;
  Result<void> quiesce(Deadline deadline) override { return requests_->quiesce(deadline); }
  Result<void> freeze(Deadline deadline) override { return requests_->freeze(deadline); }
  Result<void> restore(Deadline deadline) override { return requests_->restore(deadline); }
  void withdrawn(const Error& error) override { requests_->set_failed(error); }

  const DiskInfo& info() const override { return info_; }
  std::uint64_t capacity() const override { return capacity_.load(std::memory_order_relaxed); }
  Result<std::uint64_t> update_capacity(Deadline deadline) override;
  void run(std::span<Io> batch, Deadline deadline, int queue) override;
  Result<std::string> serial(Deadline deadline) override;
  void set_polling(bool on) override { requests_->set_polling(on); }
  void set_event_handler(EventHandler handler) override;
  std::optional<Error> failed() const override { return requests_->failed(); }
  DiskStats stats() const override;

 private:
  Result<void> check(const Io& io) const;
  Result<void> check_range(const Io& io, std::uint64_t sectors) const;
  std::uint64_t sectors_of(const Io& io) const noexcept;
  void append(const Io& io, std::vector<BlockRequest>& requests) const;
  void append_ranges(const Io& io, std::vector<BlockRequest>& requests) const;
  void run_requests(std::span<BlockRequest> requests, Deadline deadline, int queue);
  void config_changed();
  /// The disk was reset and is live again: it may have become another one meanwhile.
  void restored();
  void tell(DiskEvent event);
  void check_capacity();

  const std::unique_ptr<virtio::RequestDevice> requests_;
  const DiskInfo info_;
  const AnswerRules rules_;
  Mutex config_mutex_;  // orders reads of the disk's configuration
  platform::Mutex handler_mutex_;
  EventHandler handler_;                               // handler_mutex_
  platform::Atomic<std::uint64_t> capacity_;           // atomic
  platform::Atomic<std::uint64_t> io_errors_{0};       // atomic
  platform::Atomic<std::uint64_t> unsupported_{0};     // atomic
  platform::Atomic<std::uint64_t> config_changes_{0};  // atomic
};

}  // namespace upci::inline UPCI_VARIANT::virtio_blk
