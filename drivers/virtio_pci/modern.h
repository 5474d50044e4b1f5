// SPDX-License-Identifier: Apache-2.0
// The modern interface: structures in memory, found through capabilities. Section "PCI Device Layout".
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>

#include "drivers/virtio_pci/structures.h"
#include "pci/device.h"
#include "virtio/transport.h"

namespace upci::inline UPCI_VARIANT::virtio_pci {

class ModernTransport final : public virtio::Transport {
 public:
  ModernTransport(std::shared_ptr<pci::Device> device, Structures structures, std::uint32_t device_id) noexcept
      : device_(std::move(device)), structures_(std::move(structures)), device_id_(device_id) {}

  device::Device& device() noexcept override { return *device_; }
  std::uint32_t device_id() const noexcept override { return device_id_; }
  bool legacy() const noexcept override { return false; }
  std::uint8_t status() override;
  void set_status(std::uint8_t status) override;
  std::uint64_t device_features() override;
  void set_driver_features(std::uint64_t features) override;
  Result<void> read_config(std::uint32_t offset, std::span<std::byte> into, Deadline deadline) override;
  std::uint16_t queue_count() override;
  std::uint16_t queue_max_size(std::uint16_t queue) override;
  Result<std::unique_ptr<virtio::Notifier>> setup_queue(std::uint16_t queue, std::uint16_t size,
                                                        const virtio::QueueAddresses& addresses,
                                                        std::uint16_t vector) override;
  Result<void> reset_queue(std::uint16_t queue, Deadline deadline) override;
  Result<void> set_config_vector(std::uint16_t vector) override;
  std::uint8_t isr() override;

 private:
  /// Where the queue is notified, by `bytes` in one store.
  Result<pci::Bar> doorbell_of(std::uint16_t queue, std::uint64_t bytes);
  void select_queue(std::uint16_t queue);
  bool has(unsigned feature_bit) const noexcept { return ((features_ >> feature_bit) & 1U) != 0; }

  const std::shared_ptr<pci::Device> device_;
  const Structures structures_;
  const std::uint32_t device_id_;
  // The control path's thread:
  std::uint64_t features_ = 0;  // as written last
  /// What was read and selected since the last reset: each access is a round trip to the device.
  struct Seen {
    std::optional<std::uint16_t> queues = {};
    std::optional<std::uint16_t> selected = {};
    std::map<std::uint16_t, std::uint16_t> sizes = {};  // of queues, as they can be at most
  };
  Seen seen_;
};

}  // namespace upci::inline UPCI_VARIANT::virtio_pci
