// SPDX-License-Identifier: Apache-2.0
#include "drivers/virtio_pci/virtio_pci.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "drivers/virtio_pci/legacy.h"
#include "drivers/virtio_pci/modern.h"
#include "drivers/virtio_pci/structures.h"
#include "pci/device.h"
#include "virtio/queue.h"
#include "virtio/spec/pci.h"

namespace upci::inline UPCI_VARIANT::virtio_pci {
namespace {

namespace spec = virtio::spec::pci;
using Interface = device::BindOptions::Interface;

constexpr std::size_t kIdCount = spec::kLastDevice - spec::kFirstDevice + 1;

/// Section "PCI Device Discovery": "Any PCI device with PCI Vendor ID 0x1AF4, and PCI Device ID 0x1000 through 0x107F
/// inclusive is a virtio device".
constexpr std::array<pci::DeviceId, kIdCount> kIds = [] {
  std::array<pci::DeviceId, kIdCount> ids{};
  for (std::uint32_t i = 0; i < kIdCount; ++i) ids[i] = {.vendor = spec::kVendor, .device = spec::kFirstDevice + i};
  return ids;
}();

/// Transitional and legacy devices carry the device type in their subsystem id. Section "Legacy Interfaces: A Note on PCI
/// Device Discovery".
std::uint32_t device_type(const pci::Identity& identity) {
  return identity.device >= spec::kFirstModern ? std::uint32_t{identity.device} - spec::kFirstModern
                                               : identity.subsystem_device;
}

Result<std::shared_ptr<virtio::Transport>> make_transport(pci::Device& device) {
  const pci::Identity& identity = device.identity();
  const Interface wanted = device.options().interface;
  const bool modern_only = identity.device >= spec::kFirstModern;
  auto shared = std::static_pointer_cast<pci::Device>(device.shared_from_this());
  if (modern_only && wanted == Interface::kLegacy) {
    return fail(Errc::kUnavailable,
                fmt::format("device id {:04x} is modern only: it has no legacy interface", identity.device),
                "leave driver=legacy out");
  }
  if (wanted != Interface::kLegacy) {
    UPCI_TRY_ASSIGN(auto structures, find_structures(device));
    if (structures) {
      return std::make_shared<ModernTransport>(std::move(shared), std::move(*structures), device_type(identity));
    }
    if (modern_only) {
      return std::unexpected(Error{.code = Errc::kDevice,
                                   .what = "a modern virtio device without virtio capabilities",
                                   .advice = "the device's capability list is broken",
                                   .step = "probe",
                                   .reg = "capabilities"});
    }
    if (wanted == Interface::kModern) {
      return fail(Errc::kUnavailable, "the device has no modern interface: it has no virtio capabilities",
                  "leave driver=modern out");
    }
  }
  UPCI_TRY_ASSIGN(auto legacy, LegacyTransport::create(std::move(shared), device_type(identity)));
  return legacy;
}

/// A virtio device on a PCI function: the transport, and what the virtio driver made on it.
class VirtioPciBound final : public pci::Bound {
 public:
  VirtioPciBound(std::shared_ptr<virtio::Transport> transport, std::unique_ptr<virtio::Bound> child) noexcept
      : transport_(std::move(transport)), child_(std::move(child)) {}

  Result<void> quiesce(Deadline deadline) override {
    auto stopped = child_->quiesce(deadline);
    // Reset even when the child did not stop in time: that is what keeps the device from writing to the rings.
    auto quiet = virtio::silence(*transport_, deadline);
    return stopped ? quiet : stopped;
  }
  /// The child resets the device: only it knows when, and what then comes back. BARs and the rest of the function's
  /// configuration space keep what is in them.
  Result<void> freeze(Deadline deadline) override { return child_->freeze(deadline); }
  Result<void> restore(Deadline deadline) override { return child_->restore(deadline); }
  device::Bound* child() noexcept override { return child_.get(); }

 private:
  const std::shared_ptr<virtio::Transport> transport_;
  const std::unique_ptr<virtio::Bound> child_;  // goes before the transport
};

class VirtioPciDriver final : public pci::Driver {
 public:
  explicit VirtioPciDriver(std::vector<std::unique_ptr<virtio::Driver>> drivers)
      : pci::Driver("virtio_pci", kIds), drivers_(std::move(drivers)) {}

  /// A device of a type that none of the drivers knows is left to others, or reported as having no driver.
  bool match(const device::Device& device) const override {
    if (!pci::Driver::match(device)) return false;
    return find_driver(static_cast<const pci::Device&>(device).identity()) != nullptr;
  }

 protected:
  Result<std::unique_ptr<pci::Bound>> probe_function(pci::Device& device, Deadline deadline) override {
    device.state()->recorder().enter_step("probe");
    virtio::Driver* const driver = find_driver(device.identity());
    if (driver == nullptr) {
      return fail(Errc::kNoDriver, fmt::format("no driver for virtio device type {}", device_type(device.identity())));
    }
    UPCI_TRY_ASSIGN(auto transport, make_transport(device));
    UPCI_TRY_ASSIGN(auto child, virtio::initialize(transport, *driver, deadline));
    return std::make_unique<VirtioPciBound>(std::move(transport), std::move(child));
  }

 private:
  virtio::Driver* find_driver(const pci::Identity& identity) const noexcept {
    const std::uint32_t type = device_type(identity);
    const auto found = std::find_if(drivers_.begin(), drivers_.end(),
                                    [type](const auto& driver) { return driver->device_id() == type; });
    return found == drivers_.end() ? nullptr : found->get();
  }

  const std::vector<std::unique_ptr<virtio::Driver>> drivers_;
};

}  // namespace

std::unique_ptr<device::Driver> make_driver(std::vector<std::unique_ptr<virtio::Driver>> drivers) {
  return std::make_unique<VirtioPciDriver>(std::move(drivers));
}

}  // namespace upci::inline UPCI_VARIANT::virtio_pci
