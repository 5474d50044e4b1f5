// SPDX-License-Identifier: Apache-2.0
// A driver with a ring, and a device that does what the fuzzer says. The rules:
//   every completion is a buffer that the device was given, once, with a length within it;
//   the ring counts right, and gives everything back at its end, broken or not;
//   whatever the device does, the driver keeps its own side of the contract (the lint finds nothing).
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "tests/fuzz/input.h"
#include "tests/fuzz/ring_devices.h"
#include "virtio/ring.h"

namespace upci::inline UPCI_VARIANT::fuzz {

/// Memory that is as large as it must be and no larger, so that a sanitizer sees the first byte behind it.
class RingMemory {
 public:
  RingMemory(std::size_t ring_bytes, std::size_t table_bytes)
      : ring_(ring_bytes / 16 + 1), tables_(table_bytes / 16 + 1) {}
  std::byte* ring() noexcept { return ring_.data()->bytes.data(); }
  std::byte* tables() noexcept { return tables_.data()->bytes.data(); }
  /// The device may write anywhere.
  void scribble(std::uint16_t at, std::uint8_t value) noexcept {
    auto& block = (at & 1) != 0 ? tables_ : ring_;
    block[(at >> 1) / 16 % block.size()].bytes[(at >> 1) % 16] = static_cast<std::byte>(value);
  }

 private:
  struct alignas(16) Line {
    std::array<std::byte, 16> bytes{};
  };
  std::vector<Line> ring_, tables_;
};

template <class Ring>
class RingSession {
 public:
  RingSession(Input& input, Ring& ring, RingDevice& device, RingMemory& memory, const virtio::RingOptions& options,
              std::uint16_t table_length)
      : input_(input), ring_(ring), device_(device), memory_(memory), options_(options), table_length_(table_length) {}

  void run() {
    while (!input_.empty()) step();
    // A ring that broke, and one that did not, gives back what it still has, each once.
    ring_.detach_all([this](void* cookie) { end_of(cookie); });
    FUZZ_CHECK(live_ == 0, "a buffer that was given is lost");
    FUZZ_CHECK(ring_.broken() == ring_.error().has_value(), "a broken ring has a reason");
  }

 private:
  struct Buffer {
    std::uint64_t writable = 0;
    std::uint16_t descriptors = 0;
    bool live = false, published = false;
  };

  void step() {
    switch (input_.below(12)) {
      case 0:
      case 1: add(); break;
      case 2: publish(); break;
      case 3:
      case 4: poll(); break;
      case 5: {  // as it should be, but for the length
        const auto id = device_.take();
        const std::uint8_t kind = input_.u8();
        if (id) device_.use(*id, kind < 250 ? kind % 64U : input_.u32());
        break;
      }
      case 6: {
        const std::uint8_t id = input_.u8();
        device_.use(id < 250 ? id : input_.u32(), input_.u8());
        break;
      }
      case 7: device_.jump(input_.u16()); break;
      case 8: device_.wish(input_.u16(), input_.u16()); break;
      case 9: memory_.scribble(input_.u16(), input_.u8()); break;
      case 10: ring_.enable_interrupts(); break;
      default: ring_.disable_interrupts(); break;
    }
    FUZZ_CHECK(ring_.in_flight() == live_, "the ring has lost count of its buffers");
    FUZZ_CHECK(ring_.room() + descriptors_ == ring_.size(), "the ring has lost count of its descriptors");
  }

  void add() {
    std::array<virtio::Segment, 10> segments;
    const std::uint8_t shape = input_.u8();
    const std::size_t count = shape % segments.size() + 1;
    const std::size_t readable = (shape >> 4) % (count + 1);
    Buffer buffer{.writable = 0, .descriptors = static_cast<std::uint16_t>(count)};
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint8_t length = input_.u8();
      // A driver must not make a chain of more than 4 GiB: one segment alone may have nearly as much.
      const bool huge = length == 255 && count == 1;
      segments[i] = {
          .iova = 0x1000 * (i + 1), .len = huge ? ~std::uint32_t{0} : length, .device_writes = i >= readable};
      if (segments[i].device_writes) buffer.writable += segments[i].len;
    }
    if (count > 1 && count <= table_length_) buffer.descriptors = 1;
    const bool fits = !ring_.broken() && buffer.descriptors <= ring_.room();
    buffers_.push_back(buffer);
    const bool added = ring_.add(std::span(segments).first(count), reinterpret_cast<void*>(buffers_.size()));
    FUZZ_CHECK(added == fits, "a chain that fits was refused, or one that does not was taken");
    if (!added) return buffers_.pop_back();
    buffers_.back().live = true;
    ++live_;
    descriptors_ += buffer.descriptors;
  }

  void publish() {
    ring_.publish();
    for (Buffer& buffer : buffers_) buffer.published = true;
  }

  void poll() {
    const std::uint8_t how = input_.u8();
    const std::size_t limit = how & 0x3f;
    const bool had_used = ring_.has_used();
    const std::size_t before = live_;
    const std::size_t added_before = buffers_.size();
    const std::size_t taken = ring_.poll(limit, [this, how](void* cookie, std::uint32_t length) {
      const Buffer& buffer = end_of(cookie);
      FUZZ_CHECK(buffer.published, "a completion of what the device was not given yet");
      FUZZ_CHECK(length <= buffer.writable, "a length that the buffer does not have");
      if ((how & 0x40) != 0) add();
    });
    FUZZ_CHECK(taken <= limit, "more was taken than was asked for");
    FUZZ_CHECK(live_ + taken == before + (buffers_.size() - added_before), "poll() and its callback count differently");
    FUZZ_CHECK(taken == 0 || had_used, "has_used() has not said what poll() found");
  }

  const Buffer& end_of(void* cookie) {
    const auto number = reinterpret_cast<std::uintptr_t>(cookie);
    FUZZ_CHECK(number != 0 && number <= buffers_.size(), "a cookie that was never given");
    Buffer& buffer = buffers_[number - 1];
    FUZZ_CHECK(buffer.live, "a buffer came back twice");
    buffer.live = false;
    --live_;
    descriptors_ -= buffer.descriptors;
    return buffer;
  }

  Input& input_;
  Ring& ring_;
  RingDevice& device_;
  RingMemory& memory_;
  const virtio::RingOptions options_;
  const std::uint16_t table_length_;
  std::vector<Buffer> buffers_;  // all that were ever added; a cookie is its number, from 1
  std::size_t live_ = 0;
  std::size_t descriptors_ = 0;
};

}  // namespace upci::inline UPCI_VARIANT::fuzz
