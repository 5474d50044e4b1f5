// SPDX-License-Identifier: Apache-2.0
// A PCI function made of bytes.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/platform.h"
#include "pci/backend.h"
#include "pci/config.h"

namespace upci::inline UPCI_VARIANT::test {

class FakeBackend final : public pci::Backend, device::DeviceControl, device::DmaSpace, device::IrqSource {
 public:
  FakeBackend() {
    set16(0x00, 0x1234);
    set16(0x02, 0x11e8);
  }
  const std::string& name() const override { return name_; }
  int node() const override { return 0; }

  std::uint32_t config_read(std::uint16_t offset, unsigned width) override {
    std::uint32_t value = 0;
    std::memcpy(&value, config.data() + offset, width);
    return value;
  }
  void config_write(std::uint16_t offset, unsigned width, std::uint32_t value) override {
    std::memcpy(config.data() + offset, &value, width);
  }
  pci::BarInfo bar(unsigned index) override {
    ++bar_calls;
    return bars.at(index);
  }
  std::uint64_t bar_read(unsigned, std::uint64_t offset, unsigned width) override {
    trapped.fetch_add(1);
    if (on_access) on_access();
    std::uint64_t value = 0;
    std::memcpy(&value, memory.data() + offset, width);
    return value;
  }
  void bar_write(unsigned, std::uint64_t offset, unsigned width, std::uint64_t value) override {
    trapped.fetch_add(1);
    if (on_access) on_access();
    std::memcpy(memory.data() + offset, &value, width);
  }
  device::DeviceControl& control() override { return *this; }
  device::DmaSpace& dma() override { return *this; }
  device::IrqSource& irqs() override { return *this; }

  void set16(std::size_t offset, std::uint16_t value) { std::memcpy(config.data() + offset, &value, 2); }
  /// A capability list of (offset, id, next).
  void set_capabilities(std::uint8_t head, std::vector<std::array<std::uint8_t, 3>> entries) {
    config[0x06] = 0x10;
    config[0x34] = head;
    for (const auto& [offset, id, next] : entries) {
      config[offset] = id;
      config[offset + 1U] = next;
    }
  }

  std::array<std::uint8_t, 4096> config{};
  std::array<pci::BarInfo, 6> bars{};
  alignas(8) std::array<std::byte, 4096> memory{};
  platform::Atomic<int> trapped{0};
  int bar_calls = 0;
  std::function<void()> on_access;
  std::function<void()> on_abandon;

 private:
  bool present() override { return true; }
  Result<void> set_bus_master(bool) override { return {}; }
  Result<void> reset(Deadline) override { return {}; }
  bool proven_quiet() override { return true; }
  void abandon() noexcept override {
    if (on_abandon) on_abandon();
  }
  Result<std::unique_ptr<device::DmaMemory>> alloc(const device::DmaRequest&) override {
    return fail(Errc::kUnavailable, "no memory");
  }
  Result<std::unique_ptr<device::DmaMemory>> register_memory(std::span<std::byte>, const device::DmaRequest&) override {
    return fail(Errc::kUnavailable, "no memory");
  }
  unsigned count() const override { return 0; }
  Result<void> enable(std::span<const int>) override { return {}; }
  Result<void> disable() override { return {}; }
  Result<void> set_mask(unsigned, bool) override { return {}; }
  Result<void> set_affinity(unsigned, int) override { return {}; }
  const std::string name_ = "fake:pci";
};

}  // namespace upci::inline UPCI_VARIANT::test
