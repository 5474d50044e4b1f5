// SPDX-License-Identifier: Apache-2.0
// A ring in ordinary memory, with the test playing the device, and typed tests over both access policies.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <type_traits>
#include <vector>

#include "virtio/ring_lint.h"
#include "virtio/split_ring.h"

namespace upci::virtio_tests {

namespace ring = virtio::spec::ring;

/// The device's side: reads what the driver made available, writes whatever it likes.
class DeviceSide {
 public:
  DeviceSide(std::byte* memory, std::uint16_t size, const virtio::SplitLayout& layout)
      : memory_(memory), size_(size), layout_(layout) {}

  std::uint16_t avail_index() const { return load<std::uint16_t>(layout_.avail + ring::kIndexOffset); }
  std::uint16_t avail_flags() const { return load<std::uint16_t>(layout_.avail + ring::kFlagsOffset); }
  std::uint16_t avail_entry(std::uint16_t index) const {
    return load<std::uint16_t>(layout_.avail + ring::kRingOffset + 2U * (index % size_));
  }
  ring::Descriptor descriptor(std::uint16_t index) const {
    return load<ring::Descriptor>(sizeof(ring::Descriptor) * index);
  }

  void set_used_flags(std::uint16_t flags) { store(layout_.used + ring::kFlagsOffset, flags); }
  std::uint16_t used_event() const { return load<std::uint16_t>(layout_.avail + ring::used_event_offset(size_)); }
  void set_avail_event(std::uint16_t event) { store(layout_.used + ring::avail_event_offset(size_), event); }
  /// IN_ORDER: one element for `count` chains, of which this is the last one.
  void use_batch(std::uint32_t id, std::uint32_t len, std::uint16_t count) {
    store(layout_.used + ring::kRingOffset + sizeof(ring::UsedElement) * (used_ % size_),
          ring::UsedElement{.id = id, .len = len});
    set_used_index(static_cast<std::uint16_t>(used_ + count));
  }
  void set_used_index(std::uint16_t index) {
    used_ = index;
    // As a device does: whoever sees it sees the elements.
    std::atomic_ref<std::uint16_t>(*reinterpret_cast<std::uint16_t*>(memory_ + layout_.used + ring::kIndexOffset))
        .store(index, std::memory_order_release);
  }
  /// Writes the next used element and moves the index.
  void use(std::uint32_t id, std::uint32_t len) {
    store(layout_.used + ring::kRingOffset + sizeof(ring::UsedElement) * (used_ % size_),
          ring::UsedElement{.id = id, .len = len});
    set_used_index(static_cast<std::uint16_t>(used_ + 1));
  }
  /// The head of the next chain that the driver made available.
  std::uint16_t take() { return avail_entry(taken_++); }

 private:
  template <class T>
  T load(std::size_t offset) const {
    T value;
    std::memcpy(&value, memory_ + offset, sizeof(T));
    return value;
  }
  template <class T>
  void store(std::size_t offset, const T& value) {
    std::memcpy(memory_ + offset, &value, sizeof(T));
  }

  std::byte* memory_;
  std::uint16_t size_;
  virtio::SplitLayout layout_;
  std::uint16_t used_ = 0;
  std::uint16_t taken_ = 0;
};

template <class Access>
class RingTest : public testing::Test {
 protected:
  static constexpr std::uint16_t kSize = 8;
  static constexpr std::uint16_t kTable = 4;
  static constexpr std::uint64_t kTables = 0x7000'0000;

  RingTest() { make(kSize, false); }
  ~RingTest() override {
    // Whatever a test does to the ring: the driver's side never breaks its own rules.
    EXPECT_EQ(lint->violations(), 0U);
    EXPECT_EQ(lint->accesses() != 0, (std::is_same_v<Access, virtio::ObservedAccess>));
    for (std::size_t i = layout.bytes; i < memory_bytes(); ++i)
      EXPECT_EQ(memory[i], kGuard) << "written beyond the ring at " << i;
  }

  void make(std::uint16_t size, bool legacy) { make(size, virtio::RingOptions{.legacy = legacy}); }
  void make(std::uint16_t size, virtio::RingOptions options, bool indirect = false) {
    options.indirect = indirect;
    layout = virtio::SplitLayout::of(size, options.legacy);
    tables.assign(virtio::IndirectTables::bytes(size, kTable), std::byte{0});
    block.assign((memory_bytes() + 4096) / 4096 + 1, Page{});
    memory = block[0].bytes;
    std::memset(memory, 0, layout.bytes);
    std::memset(memory + layout.bytes, std::to_integer<int>(kGuard), kGuardBytes);
    lint = std::make_unique<virtio::RingLint>(size, options);
    virtio::PlainAccess plain(memory, size, layout,
                              indirect
                                  ? virtio::IndirectTables{.memory = tables.data(), .iova = kTables, .length = kTable}
                                  : virtio::IndirectTables{});
    if constexpr (std::is_same_v<Access, virtio::PlainAccess>) {
      queue = std::make_unique<virtio::SplitRing<Access>>(plain, size, options);
    } else {
      queue = std::make_unique<virtio::SplitRing<Access>>(Access(plain, *lint), size, options);
    }
    device = std::make_unique<DeviceSide>(memory, size, layout);
  }

  bool add_readable(void* cookie, std::uint32_t len = 100) {
    const virtio::Segment segment{.iova = 0x1000, .len = len};
    return queue->add(std::span(&segment, 1), cookie);
  }
  bool add_writable(void* cookie, std::uint32_t len = 100) {
    const virtio::Segment segment{.iova = 0x2000, .len = len, .device_writes = true};
    return queue->add(std::span(&segment, 1), cookie);
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

  virtio::SplitLayout layout;
  std::unique_ptr<virtio::RingLint> lint;
  std::unique_ptr<virtio::SplitRing<Access>> queue;
  std::unique_ptr<DeviceSide> device;
  std::byte* memory = nullptr;
  std::vector<std::byte> tables;

 private:
  static constexpr std::byte kGuard{0xa5};
  static constexpr std::size_t kGuardBytes = 256;
  struct alignas(4096) Page {
    std::byte bytes[4096];
  };
  std::size_t memory_bytes() const { return layout.bytes + kGuardBytes; }
  std::vector<Page> block;
  int cookies[64] = {};
};

using Policies = testing::Types<virtio::PlainAccess, virtio::ObservedAccess>;
struct PolicyNames {
  template <class T>
  static std::string GetName(int) {
    return std::is_same_v<T, virtio::PlainAccess> ? "Plain" : "Observed";
  }
};

}  // namespace upci::virtio_tests
