// SPDX-License-Identifier: Apache-2.0
// Observers that show a ring an id that is none, once for each time they are asked to: a device's lie, with an honest device.
#pragma once

#include <memory>

#include "base/platform.h"
#include "drivers/virtio_net/virtio_net.h"
#include "virtio/packed_access.h"
#include "virtio/ring_access.h"

namespace upci::inline UPCI_VARIANT::driver_tests {

/// How many lies are still to be told. Any thread.
class Lies {
 public:
  void ask_for(unsigned count) { left_.store(count); }
  bool all_told() const { return left_.load() == 0; }
  virtio::spec::ring::UsedElement pass(virtio::spec::ring::UsedElement element) {
    unsigned left = left_.load();
    if (left == 0) return element;
    left_.store(left - 1);  // one ring, one thread at a time
    element.id = 0xffff;
    return element;
  }

 private:
  platform::Atomic<unsigned> left_{0};
};

struct SplitLiar final : virtio::RingObserver {
  explicit SplitLiar(Lies* told) : lies(told) {}
  void on_write_descriptor(std::uint16_t, const virtio::spec::ring::Descriptor&) override {}
  void on_write_table_entry(std::uint16_t, std::uint16_t, const virtio::spec::ring::Descriptor&) override {}
  void on_write_avail_entry(std::uint16_t, std::uint16_t) override {}
  void on_publish_avail_index(std::uint16_t) override {}
  void on_write_avail_flags(std::uint16_t) override {}
  void on_write_used_event(std::uint16_t) override {}
  std::uint16_t on_read_avail_event(std::uint16_t event) override { return event; }
  std::uint16_t on_read_used_flags(std::uint16_t flags) override { return flags; }
  std::uint16_t on_read_used_index(std::uint16_t index) override { return index; }
  virtio::spec::ring::UsedElement on_read_used_element(std::uint16_t, virtio::spec::ring::UsedElement e) override {
    return lies == nullptr ? e : lies->pass(e);
  }
  Lies* const lies;
};

struct PackedLiar final : virtio::PackedObserver {
  explicit PackedLiar(Lies* told) : lies(told) {}
  void on_write_body(std::uint16_t, std::uint64_t, std::uint32_t, std::uint16_t) override {}
  void on_write_flags(std::uint16_t, std::uint16_t, bool) override {}
  void on_write_table_entry(std::uint16_t, std::uint16_t, const virtio::spec::packed::Descriptor&) override {}
  void on_write_driver_event(const virtio::spec::packed::EventSuppression&) override {}
  virtio::spec::packed::EventSuppression on_read_device_event(virtio::spec::packed::EventSuppression event) override {
    return event;
  }
  std::uint16_t on_read_flags(std::uint16_t, std::uint16_t flags) override { return flags; }
  virtio::spec::ring::UsedElement on_read_used(std::uint16_t, virtio::spec::ring::UsedElement e) override {
    return lies == nullptr ? e : lies->pass(e);
  }
  Lies* const lies;
};

/// For a driver whose queue `queue` is lied about; the others are only watched.
inline virtio_net::Options liars(Lies& lies, std::uint16_t queue) {
  return {.make_observer = [&lies, queue](
                               std::uint16_t index,
                               std::uint16_t) { return std::make_unique<SplitLiar>(index == queue ? &lies : nullptr); },
          .make_packed_observer =
              [&lies, queue](std::uint16_t index, std::uint16_t) {
                return std::make_unique<PackedLiar>(index == queue ? &lies : nullptr);
              }};
}

}  // namespace upci::inline UPCI_VARIANT::driver_tests
