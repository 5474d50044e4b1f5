// SPDX-License-Identifier: Apache-2.0
// A packed ring in ordinary memory, with the test playing the device.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "virtio/packed_lint.h"
#include "virtio/packed_ring.h"

namespace upci::virtio_tests {

namespace packed = virtio::spec::packed;

/// The device's side of section "Packed Virtqueues", written for this test alone.
class PackedDevice {
 public:
  PackedDevice(std::byte* memory, std::uint16_t size, const virtio::PackedLayout& layout)
      : memory_(memory), size_(size), layout_(layout) {}

  struct Chain {
    std::uint16_t id = 0;
    std::vector<packed::Descriptor> descriptors;
  };
  /// The next chain that the driver made available, if there is one.
  std::optional<Chain> take() {
    Chain chain;
    std::uint16_t index = next_avail_;
    bool wrap = avail_wrap_;
    for (;;) {
      const packed::Descriptor descriptor = at(index);
      const bool avail = (descriptor.flags & packed::kDescAvail) != 0;
      const bool used = (descriptor.flags & packed::kDescUsed) != 0;
      if (avail != wrap || used == wrap) return std::nullopt;
      chain.descriptors.push_back(descriptor);
      step(index, wrap, 1);
      if ((descriptor.flags & packed::kDescNext) == 0) break;
    }
    chain.id = chain.descriptors.back().id;
    next_avail_ = index;
    avail_wrap_ = wrap;
    return chain;
  }
  /// Marks a chain of `count` descriptors as used; for a batch, `count` is that of all of them.
  void use(std::uint32_t id, std::uint32_t len, std::size_t count = 1, std::uint16_t flags = 0) {
    packed::Descriptor descriptor{.addr = 0, .len = len, .id = static_cast<std::uint16_t>(id), .flags = flags};
    if (used_wrap_) descriptor.flags |= packed::kDescAvail | packed::kDescUsed;
    std::byte* const slot = memory_ + sizeof(descriptor) * next_used_;
    std::memcpy(slot, &descriptor, offsetof(packed::Descriptor, flags));
    // As a device does: whoever sees the flags sees the rest.
    std::atomic_ref<std::uint16_t>(*reinterpret_cast<std::uint16_t*>(slot + offsetof(packed::Descriptor, flags)))
        .store(descriptor.flags, std::memory_order_release);
    step(next_used_, used_wrap_, count);
  }
  packed::Descriptor at(std::uint16_t index) const {
    packed::Descriptor descriptor;
    std::memcpy(&descriptor, memory_ + sizeof(descriptor) * index, sizeof(descriptor));
    return descriptor;
  }
  packed::EventSuppression driver_event() const {
    packed::EventSuppression event;
    std::memcpy(&event, memory_ + layout_.driver, sizeof(event));
    return event;
  }
  void set_device_event(const packed::EventSuppression& event) {
    std::memcpy(memory_ + layout_.device, &event, sizeof(event));
  }
  std::uint16_t next_avail() const { return next_avail_; }
  bool avail_wrap() const { return avail_wrap_; }

 private:
  void step(std::uint16_t& index, bool& wrap, std::size_t count) const {
    const std::size_t next = index + count;
    if (next >= size_) wrap = !wrap;
    index = static_cast<std::uint16_t>(next % size_);
  }

  std::byte* memory_;
  std::uint16_t size_;
  virtio::PackedLayout layout_;
  std::uint16_t next_avail_ = 0;
  std::uint16_t next_used_ = 0;
  bool avail_wrap_ = true;
  bool used_wrap_ = true;
};

template <class Access>
class PackedTest : public testing::Test {
 protected:
  static constexpr std::uint16_t kSize = 7;  // no power of two: packed rings need none
  static constexpr std::uint16_t kTable = 4;
  static constexpr std::uint64_t kTables = 0x7000'0000;

  PackedTest() { make(kSize, {}); }
  ~PackedTest() override {
    // Whatever a test does to the ring: the driver's side never breaks its own rules.
    EXPECT_EQ(lint->violations(), 0U);
    EXPECT_EQ(lint->accesses() != 0, (std::is_same_v<Access, virtio::PackedObservedAccess>));
    for (std::size_t i = layout.bytes; i < block.size() * sizeof(Line); ++i)
      EXPECT_EQ(memory[i], kGuard) << "written beyond the ring at " << i;
  }

  void make(std::uint16_t size, virtio::RingOptions options, bool indirect = false) {
    options.indirect = indirect;
    layout = virtio::PackedLayout::of(size);
    block.assign(layout.bytes / sizeof(Line) + 4, Line{});
    memory = block[0].bytes;
    std::memset(memory + layout.bytes, std::to_integer<int>(kGuard), 4 * sizeof(Line));
    tables.assign(virtio::IndirectTables::bytes(size, kTable), std::byte{0});
    lint = std::make_unique<virtio::PackedLint>(size, options);
    virtio::PackedPlainAccess plain(
        memory, layout,
        indirect ? virtio::IndirectTables{.memory = tables.data(), .iova = kTables, .length = kTable}
                 : virtio::IndirectTables{});
    if constexpr (std::is_same_v<Access, virtio::PackedPlainAccess>) {
      queue = std::make_unique<virtio::PackedRing<Access>>(plain, size, options);
    } else {
      queue = std::make_unique<virtio::PackedRing<Access>>(Access(plain, *lint), size, options);
    }
    device = std::make_unique<PackedDevice>(memory, size, layout);
  }

  bool add(void* cookie, std::uint32_t len = 100, bool writable = true, std::size_t count = 1) {
    const std::vector<virtio::Segment> chain(count, {.iova = 0x1000, .len = len, .device_writes = writable});
    return queue->add(chain, cookie);
  }
  struct Taken {
    void* cookie;
    std::uint32_t len;
    bool operator==(const Taken&) const = default;
  };
  std::vector<Taken> poll(std::size_t limit = 1000) {
    std::vector<Taken> taken;
    const std::size_t count =
        queue->poll(limit, [&](void* cookie, std::uint32_t len) { taken.push_back({cookie, len}); });
    EXPECT_EQ(count, taken.size());
    return taken;
  }
  /// A distinct cookie.
  void* cookie(std::size_t index) { return &cookies[index]; }

  virtio::PackedLayout layout;
  std::unique_ptr<virtio::PackedLint> lint;
  std::unique_ptr<virtio::PackedRing<Access>> queue;
  std::unique_ptr<PackedDevice> device;
  std::byte* memory = nullptr;
  std::vector<std::byte> tables;

 private:
  static constexpr std::byte kGuard{0xa5};
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::vector<Line> block;
  int cookies[64] = {};
};

using PackedPolicies = testing::Types<virtio::PackedPlainAccess, virtio::PackedObservedAccess>;
struct PackedPolicyNames {
  template <class T>
  static std::string GetName(int) {
    return std::is_same_v<T, virtio::PackedPlainAccess> ? "Plain" : "Observed";
  }
};

}  // namespace upci::virtio_tests
