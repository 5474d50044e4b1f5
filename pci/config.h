// SPDX-License-Identifier: Apache-2.0
// Config space and its capability list. The device wrote it, so nothing in it is trusted.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/error.h"
#include "pci/backend.h"

namespace upci::inline UPCI_VARIANT::pci {

struct Capability {
  std::uint8_t id = 0;
  std::uint8_t offset = 0;  // in config space, 0x40..0xfc, a multiple of 4
};

struct Identity {
  std::uint16_t vendor = 0, device = 0, subsystem_vendor = 0, subsystem_device = 0;
  std::uint32_t class_code = 0;  // 24 bits: base class, sub-class, interface
  std::uint8_t revision = 0;
};

/// Reads and interprets a function's config space. A view; keeps the backend alive.
class ConfigSpace {
 public:
  explicit ConfigSpace(std::shared_ptr<Backend> backend) noexcept : backend_(std::move(backend)) {}

  std::uint8_t read8(std::uint16_t offset) const { return static_cast<std::uint8_t>(backend_->config_read(offset, 1)); }
  std::uint16_t read16(std::uint16_t offset) const {
    return static_cast<std::uint16_t>(backend_->config_read(offset, 2));
  }
  std::uint32_t read32(std::uint16_t offset) const { return backend_->config_read(offset, 4); }
  void write8(std::uint16_t offset, std::uint8_t value) const { backend_->config_write(offset, 1, value); }
  void write16(std::uint16_t offset, std::uint16_t value) const { backend_->config_write(offset, 2, value); }
  void write32(std::uint16_t offset, std::uint32_t value) const { backend_->config_write(offset, 4, value); }

  /// Errors: kVerdict gone when the vendor id reads all ones.
  Result<Identity> identity() const;
  /// The standard capability list in the device's order. Errors: kDevice for a pointer below 0x40 or out of alignment, a
  /// loop, or a space full of ones. PCI Local Bus Specification 3.0, section 6.7.
  Result<std::vector<Capability>> capabilities() const;
  /// The first capability with this id, if any. Errors: as capabilities().
  Result<std::optional<Capability>> find(std::uint8_t id) const;

 private:
  std::shared_ptr<Backend> backend_;
};

}  // namespace upci::inline UPCI_VARIANT::pci
