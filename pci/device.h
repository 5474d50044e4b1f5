// SPDX-License-Identifier: Apache-2.0
// A PCI function as a device of the driver core, and what a PCI driver looks like.
#pragma once

#include <array>
#include <concepts>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "device/device.h"
#include "pci/backend.h"
#include "pci/bar.h"
#include "pci/config.h"

namespace upci::inline UPCI_VARIANT::pci {

/// Matches a function; kAny matches everything. Kernel: struct pci_device_id.
struct DeviceId {
  static constexpr std::uint32_t kAny = ~std::uint32_t{0};
  std::uint32_t vendor = kAny;
  std::uint32_t device = kAny;
  std::uint32_t subsystem_vendor = kAny;
  std::uint32_t subsystem_device = kAny;
  std::uint32_t class_code = 0, class_mask = 0;
  bool matches(const Identity& identity) const noexcept;
};

class Device final : public device::Device {
 public:
  /// Reads the identity and takes over the backend. Errors: kVerdict gone (config space full of ones), kSystem.
  static Result<std::shared_ptr<Device>> create(std::shared_ptr<Backend> backend, device::BindOptions options = {});
  ~Device() override;

  int node() const override { return backend_->node(); }
  device::DeviceControl& control() override { return backend_->control(); }
  device::DmaSpace& dma() override { return backend_->dma(); }
  device::IrqSource& irqs() override { return backend_->irqs(); }
  void abandon() noexcept override;
  void probe_finished(bool bound) noexcept override;  // set_direct(bound)

  const Identity& identity() const noexcept { return identity_; }
  ConfigSpace config() const noexcept { return ConfigSpace(backend_); }
  Backend& backend() noexcept { return *backend_; }

  /// The whole BAR. Errors: kDevice when it is not implemented or has size 0. Every Bar made here is recorded until
  /// set_direct(true) and void after abandon().
  Result<Bar> bar(unsigned index);
  /// The driver core calls it: lets mapped BARs be accessed straight once the probe has succeeded, and stops that again.
  void set_direct(bool on) noexcept;

 private:
  Device(std::shared_ptr<Backend> backend, device::BindOptions options, std::shared_ptr<device::DeviceState> state,
         Identity identity);
  const std::shared_ptr<Backend> backend_;
  const Identity identity_;
  platform::Mutex bars_mutex_;
  std::array<std::shared_ptr<BarState>, 6> bars_;  // bars_mutex_
  bool direct_ = false;                            // bars_mutex_
};

/// Base of a driver's instance on a PCI function.
class Bound : public device::Bound {};

/// What a driver class needs: an id table and a static probe.
template <class T>
concept DriverClass = requires(Device& dev, Deadline deadline) {
  { std::span<const DeviceId>(T::kIds) };
  { T::probe(dev, deadline) } -> std::same_as<Result<std::unique_ptr<Bound>>>;
};

/// A driver of PCI functions, for Context::add_driver.
class Driver : public device::Driver {
 public:
  Driver(std::string name, std::span<const DeviceId> ids) noexcept : name_(std::move(name)), ids_(ids) {}
  std::string_view name() const override { return name_; }
  bool match(const device::Device& device) const override;
  Result<std::unique_ptr<device::Bound>> probe(device::Device& device, Deadline deadline) final;

 protected:
  virtual Result<std::unique_ptr<Bound>> probe_function(Device& device, Deadline deadline) = 0;

 private:
  const std::string name_;
  const std::span<const DeviceId> ids_;
};

/// Makes a driver of a class such as  class Edu : public pci::Bound { static constexpr DeviceId kIds[]; static probe(...); }
template <DriverClass T>
std::unique_ptr<device::Driver> make_driver(std::string name) {
  class ClassDriver final : public Driver {
   public:
    explicit ClassDriver(std::string driver_name) : Driver(std::move(driver_name), T::kIds) {}
    Result<std::unique_ptr<Bound>> probe_function(Device& device, Deadline deadline) override {
      return T::probe(device, deadline);
    }
  };
  return std::make_unique<ClassDriver>(std::move(name));
}

}  // namespace upci::inline UPCI_VARIANT::pci
