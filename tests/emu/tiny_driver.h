// SPDX-License-Identifier: Apache-2.0
// A network driver as small as can be, for tests of the emulated device: registers, two rings, no error handling. It
// can be used step by step, so that a test can leave a step out or do it wrong.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/deadline.h"
#include "base/event_fd.h"
#include "base/platform.h"
#include "emulation/emu/emu.h"
#include "virtio/spec/features.h"
#include "virtio/spec/net.h"
#include "virtio/spec/pci.h"
#include "virtio/spec/ring.h"
#include "virtio/spec/status.h"

#if defined(UPCI_SIM)
#include "tests/sim.h"
#endif

namespace upci::inline UPCI_VARIANT::test {

namespace emu = emulation::emu;
namespace vspec = virtio::spec;
namespace vpci = virtio::spec::pci;
namespace vring = virtio::spec::ring;
namespace vstatus = virtio::spec::status;

/// Runs a test's body: once on real threads, or under several seeds of the simulation.
template <class F>
void each_run(F body, unsigned seeds = 20) {
#if defined(UPCI_SIM)
  for_each_seed(seeds, body);
#else
  static_cast<void>(seeds);
  body();
#endif
}

/// "legacy,fault=gone,mtu=1500" and so on: what the command line would make of "emu:virtio-net,...".
emulation::DeviceSpec spec_of(std::string_view words);
/// A device with a loopback wire unless `words` name another; a test failure, and nullptr, when it cannot be opened.
std::shared_ptr<pci::Backend> open_device(std::string_view words = "");
std::shared_ptr<pci::Backend> open_device(std::string_view words, emulation::Cables& cables);

/// Waits until `done()` holds, for at most ten seconds; returns whether it does.
template <class F>
bool eventually(F done) {
  const Deadline deadline = Deadline::after(std::chrono::seconds(10));
  while (!done()) {
    if (deadline.expired()) return false;
    platform::this_thread::yield();
  }
  return true;
}

using Frame = std::vector<std::uint8_t>;
/// A frame with recognisable content.
Frame make_frame(std::size_t size, std::uint32_t number);

class TinyDriver {
 public:
  static constexpr std::uint64_t kUsual =
      vspec::mask_of(vspec::feature::kVersion1) | vspec::mask_of(vspec::feature::kAccessPlatform) |
      vspec::mask_of(vspec::net_feature::kMac) | vspec::mask_of(vspec::net_feature::kStatus);
  static constexpr std::uint64_t kUsualLegacy = vspec::mask_of(vspec::feature::kAnyLayout) |
                                                vspec::mask_of(vspec::net_feature::kMac) |
                                                vspec::mask_of(vspec::net_feature::kStatus);
  static constexpr std::uint16_t kSize =
      16;  // descriptors per queue; a legacy device must be opened with queue_size=16
  static constexpr std::uint32_t kBuffer = 2048;

  explicit TinyDriver(std::shared_ptr<pci::Backend> backend, bool legacy = false);

  /// All steps; after it frames flow. Interrupts: vector 0 configuration, 1 receive, 2 transmit.
  void bring_up(std::uint64_t features, std::uint16_t receive_buffers = kSize);
  void bring_up() { bring_up(legacy_ ? kUsualLegacy : kUsual); }
  /// Leaves out DRIVER_OK and what follows.
  void bring_up_to_queues(std::uint64_t features);

  // The steps.
  void enable_interrupts(unsigned count = 3);
  void master(bool on = true);
  void reset();
  std::uint8_t status();
  void set_status(std::uint8_t value);
  void add_status(std::uint8_t bits) { set_status(static_cast<std::uint8_t>(status() | bits)); }
  std::uint64_t features();
  void set_features(std::uint64_t features);
  void make_queue(std::uint16_t index);
  void offer_receive_buffers(std::uint16_t count);

  // Frames.
  void send(const Frame& frame);
  /// Waits for the next frame by interrupt; nothing when none came within `span`.
  std::optional<Frame> receive(platform::Nanoseconds span = std::chrono::seconds(10));
  /// Takes what was sent back from the device; waits for all of it.
  bool wait_for_transmit();
  std::uint16_t used_index(std::uint16_t queue);
  std::uint16_t num_buffers() const { return num_buffers_; }  // of the last frame received

  // Registers and memory, for tests that do something else.
  template <class R>
  typename R::Value read() {
    return static_cast<typename R::Value>(backend_->bar_read(bar_, R::offset, sizeof(typename R::Value)));
  }
  template <class R>
  void write(typename R::Value value) {
    backend_->bar_write(bar_, R::offset, sizeof(typename R::Value), value);
  }
  std::uint64_t read_config(std::uint32_t offset, unsigned width);
  void notify(std::uint16_t queue);
  bool wait_for_interrupt(unsigned vector, platform::Nanoseconds span = std::chrono::seconds(10));
  std::uint64_t interrupts(unsigned vector) { return eventfds_[vector].drain(); }
  pci::Backend& backend() { return *backend_; }
  std::vector<std::string> violations() { return emu::violations(*backend_); }

  struct Queue {
    std::unique_ptr<device::DmaMemory> memory;
    std::uint64_t descriptors = 0, avail = 0, used = 0;  // offsets in `memory`
    std::unique_ptr<device::DmaMemory> buffers;          // kSize of kBuffer bytes
    std::uint16_t avail_index = 0;                       // the next entry to be written
    std::uint16_t used_seen = 0;                         // the next entry to be read
  };
  Queue& queue(std::uint16_t index) { return queues_[index]; }
  void set_descriptor(std::uint16_t queue, std::uint16_t at, const vring::Descriptor& descriptor);
  vring::UsedElement used_element(std::uint16_t queue, std::uint16_t at);
  /// Makes one chain available, and notifies if the device wants it.
  void make_available(std::uint16_t queue, std::uint16_t head);
  void set_avail_flags(std::uint16_t queue, std::uint16_t flags);
  void set_used_event(std::uint16_t queue, std::uint16_t event);
  std::size_t header_bytes() const { return vspec::net::header_bytes(!legacy_, has(vspec::net_feature::kMrgRxbuf)); }

 private:
  bool has(unsigned bit) const { return ((accepted_ >> bit) & 1U) != 0; }
  platform::Atomic<std::uint16_t>& shared(std::uint16_t queue, std::uint64_t offset);

  std::shared_ptr<pci::Backend> backend_;
  const bool legacy_;
  const unsigned bar_;
  std::uint64_t accepted_ = 0;
  std::uint16_t num_buffers_ = 0;
  std::array<Queue, 2> queues_;
  std::vector<EventFd> eventfds_;
  platform::EventQueue events_;
};

}  // namespace upci::inline UPCI_VARIANT::test
