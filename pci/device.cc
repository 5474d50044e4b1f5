// SPDX-License-Identifier: Apache-2.0
#include "pci/device.h"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>
#include <utility>

namespace upci::inline UPCI_VARIANT::pci {

bool DeviceId::matches(const Identity& identity) const noexcept {
  const auto fits = [](std::uint32_t wanted, std::uint32_t value) { return wanted == kAny || wanted == value; };
  return fits(vendor, identity.vendor) && fits(device, identity.device) &&
         fits(subsystem_vendor, identity.subsystem_vendor) && fits(subsystem_device, identity.subsystem_device) &&
         ((class_code ^ identity.class_code) & class_mask) == 0;
}

// --- Device ---

Device::Device(std::shared_ptr<Backend> backend, device::BindOptions options,
               std::shared_ptr<device::DeviceState> state, Identity identity)
    : device::Device(backend->name(), std::move(options), std::move(state)),
      backend_(std::move(backend)),
      identity_(identity) {}

Device::~Device() = default;

Result<std::shared_ptr<Device>> Device::create(std::shared_ptr<Backend> backend, device::BindOptions options) {
  if (!backend) return fail(Errc::kInvalid, "a PCI device without a backend");
  UPCI_TRY_ASSIGN(const Identity identity, ConfigSpace(backend).identity());
  UPCI_TRY_ASSIGN(FlightRecorder recorder, FlightRecorder::create());
  auto state = std::make_shared<device::DeviceState>(std::move(recorder));
  return std::shared_ptr<Device>(new Device(std::move(backend), std::move(options), std::move(state), identity));
}

Result<Bar> Device::bar(unsigned index) {
  if (index >= bars_.size()) {
    return fail(Errc::kDevice, fmt::format("{}: the device names BAR {}; there are 0 to 5", name(), index));
  }
  const std::lock_guard lock(bars_mutex_);
  std::shared_ptr<BarState>& cached = bars_[index];
  if (!cached) {
    const BarInfo info = backend_->bar(index);
    if (info.size == 0)
      return fail(Errc::kDevice, fmt::format("{}: BAR {} is not implemented (size 0)", name(), index));
    cached = std::make_shared<BarState>();
    cached->backend = backend_;
    cached->device = state();
    cached->index = index;
    cached->size = info.size;
    cached->io = info.io;
    cached->mapping = info.mapping;
    cached->direct.store(direct_ ? info.mapping : nullptr, std::memory_order_relaxed);
  }
  return Bar(cached, 0, cached->size);
}

void Device::set_direct(bool on) noexcept {
  const std::lock_guard lock(bars_mutex_);
  direct_ = on && !state()->abandoned();
  for (const auto& bar : bars_) {
    if (bar) bar->direct.store(direct_ ? bar->mapping : nullptr, std::memory_order_relaxed);
  }
}

void Device::abandon() noexcept {
  state()->abandon();  // before the pointers: a bar() or set_direct() that comes later sees it
  set_direct(false);
  device::Device::abandon();
}

void Device::probe_finished(bool bound) noexcept { set_direct(bound); }

// --- Driver ---

bool Driver::match(const device::Device& device) const {
  const auto* function = dynamic_cast<const Device*>(&device);
  return function != nullptr &&
         std::any_of(ids_.begin(), ids_.end(), [&](const DeviceId& id) { return id.matches(function->identity()); });
}

Result<std::unique_ptr<device::Bound>> Driver::probe(device::Device& device, Deadline deadline) {
  auto* function = dynamic_cast<Device*>(&device);
  if (function == nullptr) return fail(Errc::kInvalid, device.name() + ": not a PCI function");
  UPCI_TRY_ASSIGN(std::unique_ptr<Bound> bound, probe_function(*function, deadline));
  return bound;
}

}  // namespace upci::inline UPCI_VARIANT::pci
