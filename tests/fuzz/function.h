// SPDX-License-Identifier: Apache-2.0
// A PCI function without a bus below it: what every fuzz target of a whole device needs. Its DMA memory is exact, and the
// device can write all of it and nothing else, as behind an IOMMU.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/platform.h"
#include "pci/backend.h"
#include "tests/fuzz/input.h"

namespace upci::inline UPCI_VARIANT::fuzz {

class Function : public pci::Backend, protected device::DeviceControl, device::DmaSpace, device::IrqSource {
 public:
  explicit Function(unsigned vectors = 0, bool line = false) : vectors_(vectors), line_(line) {}
  ~Function() override { FUZZ_CHECK(memory_.empty(), "DMA memory has outlived its driver"); }

  const std::string& name() const override { return name_; }
  int node() const override { return 0; }
  device::DeviceControl& control() override { return *this; }
  device::DmaSpace& dma() override { return *this; }
  device::IrqSource& irqs() override { return *this; }

  /// What the device sees at an address, or nullptr: `bytes` of one allocation.
  std::byte* at(std::uint64_t iova, std::size_t bytes) {
    auto next = memory_.upper_bound(iova);
    if (next == memory_.begin()) return nullptr;
    const auto& [start, block] = *--next;
    const std::uint64_t offset = iova - start;
    return offset <= block.size && bytes <= block.size - offset ? block.va + offset : nullptr;
  }
  /// The device writes a byte to memory that the driver has given it.
  void scribble(std::uint8_t block, std::uint32_t offset, std::uint8_t value) {
    if (memory_.empty()) return;
    const Block& chosen = std::next(memory_.begin(), block % static_cast<std::ptrdiff_t>(memory_.size()))->second;
    chosen.va[offset % chosen.size] = static_cast<std::byte>(value);
  }
  void raise(unsigned vector);
  bool routed() const { return !eventfds_.empty(); }

 protected:
  bool gone_ = false;  // it has left the bus
  virtual void on_reset() {}

 private:
  struct Block {
    std::byte* va;
    std::size_t size;
  };
  struct Memory final : device::DmaMemory {
    Memory(Function& its_owner, std::unique_ptr<std::byte[]> its_bytes, std::uint64_t iova, std::size_t size)
        : DmaMemory(its_bytes.get(), iova, size), owner(its_owner), bytes(std::move(its_bytes)) {}
    ~Memory() override { owner.memory_.erase(iova()); }
    Function& owner;
    std::unique_ptr<std::byte[]> bytes;
  };
  static constexpr std::size_t kMost = std::size_t{24} << 20;

  bool present() override { return !gone_; }
  Result<void> set_bus_master(bool) override { return {}; }
  Result<void> reset(Deadline) override {
    on_reset();
    return {};
  }
  bool proven_quiet() override { return true; }
  void abandon() noexcept override { gone_ = true; }

  Result<std::unique_ptr<device::DmaMemory>> alloc(const device::DmaRequest& request) override {
    std::size_t used = 0;
    for (const auto& [iova, block] : memory_) used += block.size;
    // Addresses of 32 + 12 bits, as a legacy device can have.
    const std::uint64_t iova = (next_ + request.align - 1) / request.align * request.align;
    if (request.len == 0 || request.len > kMost - std::min(used, kMost) || iova + request.len - 1 > request.mask) {
      return fail(Errc::kUnavailable, "no more memory");
    }
    auto bytes = std::make_unique<std::byte[]>(request.len);
    next_ = iova + request.len;
    memory_.emplace(iova, Block{bytes.get(), request.len});
    return std::make_unique<Memory>(*this, std::move(bytes), iova, request.len);
  }
  Result<std::unique_ptr<device::DmaMemory>> register_memory(std::span<std::byte>, const device::DmaRequest&) override {
    return fail(Errc::kUnavailable, "not here");
  }

  unsigned count() const override { return vectors_; }
  Kind kind() const override { return line_ ? Kind::kLine : Kind::kMessage; }
  Result<void> enable(std::span<const int> eventfds) override {
    eventfds_.assign(eventfds.begin(), eventfds.end());
    return {};
  }
  Result<void> disable() override {
    eventfds_.clear();
    return {};
  }
  Result<void> set_mask(unsigned, bool) override { return {}; }
  Result<void> set_affinity(unsigned, int) override { return fail(Errc::kUnavailable, "not here"); }

  const std::string name_ = "fuzz:function";
  const unsigned vectors_;
  const bool line_;
  std::map<std::uint64_t, Block> memory_;  // by IOVA
  std::uint64_t next_ = 0x10'0000;
  std::vector<int> eventfds_;
};

}  // namespace upci::inline UPCI_VARIANT::fuzz
