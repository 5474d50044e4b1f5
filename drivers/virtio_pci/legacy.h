// SPDX-License-Identifier: Apache-2.0
// The legacy interface: one header at the start of BAR 0, in port space. Section "Legacy Interfaces: A Note on PCI Device
// Layout".
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "pci/device.h"
#include "virtio/transport.h"

namespace upci::inline UPCI_VARIANT::virtio_pci {

class LegacyTransport final : public virtio::Transport {
 public:
  /// Errors: kUnavailable when BAR 0 is not in port space or too small; kDevice for a broken capability list.
  static Result<std::shared_ptr<LegacyTransport>> create(std::shared_ptr<pci::Device> device, std::uint32_t device_id);

  device::Device& device() noexcept override { return *device_; }
  std::uint32_t device_id() const noexcept override { return device_id_; }
  bool legacy() const noexcept override { return true; }
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
  LegacyTransport(std::shared_ptr<pci::Device> device, pci::Bar header, std::uint32_t device_id,
                  std::optional<std::uint16_t> msix) noexcept
      : device_(std::move(device)), header_(std::move(header)), device_id_(device_id), msix_(msix) {}
  /// While MSI-X is enabled two vector registers lie before the device's configuration. The backend switches it, so it is
  /// looked up each time.
  bool msix_enabled() const;

  const std::shared_ptr<pci::Device> device_;
  const pci::Bar header_;
  const std::uint32_t device_id_;
  const std::optional<std::uint16_t> msix_;  // the MSI-X capability's offset
};

}  // namespace upci::inline UPCI_VARIANT::virtio_pci
