// SPDX-License-Identifier: Apache-2.0
// What the tests of virtio drivers share: a context with the drivers, one device in it, and checked traffic. The same test
// files are built on real threads and on the simulated scheduler.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/wait.h"
#include "device/context.h"
#include "drivers/virtio_net/frame.h"
#include "drivers/virtio_net/nic.h"
#include "drivers/virtio_net/virtio_net.h"
#include "drivers/virtio_pci/virtio_pci.h"
#include "emulation/emu/emu.h"
#include "pci/device.h"
#include "tests/drivers/watched.h"

#if defined(UPCI_SIM)
#include "tests/sim.h"
#endif

namespace upci::inline UPCI_VARIANT::driver_tests {

using namespace std::chrono_literals;

/// Runs the body once on real threads, or under `seeds` seeds in simulation.
template <class F>
void run([[maybe_unused]] unsigned seeds, F body) {
#if defined(UPCI_SIM)
  test::for_each_seed(seeds, body, {.max_steps = 50'000'000});
#else
  body();
#endif
}

inline emulation::DeviceSpec emu_spec(const std::vector<std::string>& words = {}, std::string fault = {}) {
  emulation::DeviceSpec spec{.uri = "emu:virtio-net", .model = "virtio-net", .words = {}, .fault = std::move(fault)};
  for (const std::string& word : words) {
    spec.uri += "," + word;
    const std::size_t equals = word.find('=');
    if (equals == std::string::npos) {
      spec.words.push_back({.key = word});
    } else {
      spec.words.push_back({.key = word.substr(0, equals), .value = word.substr(equals + 1), .has_value = true});
    }
  }
  return spec;
}

/// The access policy and the interface that a test wants.
inline device::BindOptions bind(bool observed,
                                device::BindOptions::Interface interface = device::BindOptions::Interface::kAuto) {
  device::BindOptions options;
  options.observed = observed;
  options.interface = interface;
  return options;
}

/// For tests with the access policy as their parameter.
inline std::string policy_name(const testing::TestParamInfo<bool>& observed) {
  return observed.param ? "Observed" : "Plain";
}

/// A context that knows the virtio drivers, and the devices that a test adds.
class Bench {
 public:
  explicit Bench(virtio_net::Options net = {}, bool with_net = true) {
    auto topology = Topology::synthetic("numa:2 core:2");
    auto made = device::Context::create({.engine = {.topology = topology.value()}});
    context = std::move(made.value());
    std::vector<std::unique_ptr<virtio::Driver>> drivers;
    watched_rings = !net.make_observer && !net.make_packed_observer;
    const virtio::ObserverFactory observers = watched.watch.observers();
    if (!net.make_observer) net.make_observer = observers.split;
    if (!net.make_packed_observer) net.make_packed_observer = observers.packed;
    if (with_net) drivers.push_back(virtio_net::make_driver(std::move(net)));
    context->add_driver(virtio_pci::make_driver(std::move(drivers)));
  }

  /// Takes a backend over and probes it.
  device::Report probe(std::shared_ptr<pci::Backend> opened, device::BindOptions options = {},
                       platform::Nanoseconds timeout = 2s) {
    backend = opened;
    auto made = pci::Device::create(watched.watch.wrap(std::move(opened)), std::move(options));
    if (!made) {
      ADD_FAILURE() << made.error().message();
      return {};
    }
    device = std::move(*made);
    EXPECT_TRUE(context->add_device(device));
    return context->probe(device, timeout);
  }
  device::Report probe_emu(const emulation::DeviceSpec& spec, device::BindOptions options = {},
                           platform::Nanoseconds timeout = 2s) {
    auto opened = emulation::emu::open(spec, cables);
    if (!opened) {
      ADD_FAILURE() << opened.error().message();
      return {};
    }
    return probe(std::move(*opened), std::move(options), timeout);
  }
  /// The card, or nullptr with a failure noted.
  virtio_net::Nic* nic() {
    device::Bound* bound = context->bound(*device);
    virtio_net::Nic* found = bound == nullptr ? nullptr : device::find<virtio_net::Nic>(*bound);
    EXPECT_NE(found, nullptr);
    return found;
  }
  /// Removes the device; it must be quiet, and the driver must have kept the specification all the time.
  void remove() {
    const auto removed = context->remove(device, Deadline::after(20s));
    EXPECT_TRUE(removed) << removed.error().message();
    EXPECT_FALSE(device->state()->quarantined());
    EXPECT_EQ(emulation::emu::violations(*backend), std::vector<std::string>());
    watched.expect_watching(device->options().observed && watched_rings);
  }

  Watched watched;
  bool watched_rings = true;  // where they are observed at all: a test may bring its own observers
  emulation::Cables cables;
  std::unique_ptr<device::Context> context;
  std::shared_ptr<pci::Backend> backend;  // as it was opened, without the observers
  std::shared_ptr<pci::Device> device;
};

inline bool has_feature(const device::Report& report, std::string_view name) {
  return std::ranges::find(report.features, name) != report.features.end();
}

inline std::string describe(const device::Report& report) {
  return report.result + " at " + report.step + "/" + report.reg + (report.error ? ": " + report.error->message() : "");
}

// --- frames ---

/// The bytes of a frame that can be checked: broadcast, then its number, then bytes that follow from it.
inline std::vector<std::byte> frame_of(const virtio_net::Nic::Mac& from, std::uint32_t number, std::uint32_t length) {
  std::vector<std::byte> frame(length, std::byte{0xff});
  std::memcpy(frame.data() + 6, from.data(), from.size());
  frame[12] = std::byte{0x88};
  frame[13] = std::byte{0xb5};  // an experimental EtherType
  std::memcpy(frame.data() + 14, &number, sizeof(number));
  for (std::uint32_t i = 18; i < length; ++i) frame[i] = static_cast<std::byte>(number * 31 + i);
  return frame;
}

/// Such a frame in a single packet.
inline void write_frame(virtio_net::Packet& packet, const virtio_net::Nic::Mac& from, std::uint32_t number,
                        std::uint32_t length) {
  ASSERT_LE(length, packet.capacity);
  const std::vector<std::byte> frame = frame_of(from, number, length);
  std::memcpy(packet.data, frame.data(), frame.size());
  packet.length = length;
}

/// How long each frame is: all the same, or, where `longest` says so, by its number anything from `length` to that.
struct Lengths {
  std::uint32_t length = 60;
  std::uint32_t longest = 0;
  std::uint32_t of(std::uint32_t number) const {
    return longest == 0 ? length
                        : length + static_cast<std::uint32_t>(std::uint64_t{number} * 7919 % (longest - length + 1));
  }
};

/// Counts frames by number. Thread-safe.
class Checker {
 public:
  Checker(std::uint32_t frames, Lengths lengths) : seen_(frames, 0), lengths_(lengths) {}

  void check(const virtio_net::Packet& packet) {
    const std::lock_guard lock(mutex_);
    std::vector<std::byte> frame(packet.frame_bytes());
    virtio_net::read_frame(packet, frame);
    std::uint32_t number = 0;
    if (frame.size() >= 18) std::memcpy(&number, frame.data() + 14, sizeof(number));
    bool good = number < seen_.size() && frame.size() == lengths_.of(number);
    for (std::uint32_t i = 18; good && i < frame.size(); ++i)
      good = frame[i] == static_cast<std::byte>(number * 31 + i);
    if (!good) {
      ++corrupt_;
      return;
    }
    if (number < last_) ++reordered_;
    last_ = number;
    if (seen_[number]++ == 0) ++received_;
  }
  std::uint32_t received() {
    const std::lock_guard lock(mutex_);
    return received_;
  }
  void expect_all() {
    const std::lock_guard lock(mutex_);
    EXPECT_EQ(received_, seen_.size()) << "lost";
    EXPECT_EQ(corrupt_, 0U);
    EXPECT_EQ(reordered_, 0U);
    EXPECT_EQ(std::count_if(seen_.begin(), seen_.end(), [](auto count) { return count > 1; }), 0) << "duplicated";
  }

 private:
  platform::Mutex mutex_;
  std::vector<std::uint8_t> seen_;
  const Lengths lengths_;
  std::uint32_t received_ = 0, corrupt_ = 0, reordered_ = 0, last_ = 0;
};

struct Traffic {
  std::uint32_t frames = 1000;
  std::uint32_t length = 60;
  std::uint32_t longest = 0;  // see Lengths
  std::uint32_t window = 0;   // frames in flight at most; 0: as many as the receive ring holds
  platform::Nanoseconds limit = 60s;

  Lengths lengths() const { return {.length = length, .longest = longest}; }
  std::uint32_t window_of(const virtio_net::Nic& nic) const { return window != 0 ? window : nic.rx_slots(); }
};

/// Sends up to `count` frames from `next` on; returns how many the card took.
inline std::uint32_t send(virtio_net::Nic& nic, std::uint32_t next, std::uint32_t count, Lengths lengths) {
  std::array<virtio_net::Packet*, 32> packets;
  const std::size_t got = nic.alloc(std::span(packets).first(std::min<std::size_t>(count, packets.size())));
  std::size_t written = 0;
  for (; written < got; ++written) {
    const std::uint32_t number = next + static_cast<std::uint32_t>(written);
    if (!virtio_net::write_frame(nic, *packets[written], frame_of(nic.mac(), number, lengths.of(number)))) break;
  }
  const std::size_t taken = nic.tx_burst(std::span(packets).first(written));
  nic.free(std::span(packets).subspan(taken, got - taken));
  return static_cast<std::uint32_t>(taken);
}

inline std::uint32_t send(virtio_net::Nic& nic, std::uint32_t next, std::uint32_t count, std::uint32_t length) {
  return send(nic, next, count, Lengths{.length = length});
}

/// Everything out and back again by the loopback wire, polled by this thread.
inline void loop_polled(virtio_net::Nic& nic, Traffic traffic) {
  Checker checker(traffic.frames, traffic.lengths());
  const Deadline deadline = Deadline::after(traffic.limit);
  std::uint32_t sent = 0;
  std::uint32_t received = 0;
  while (received < traffic.frames && !deadline.expired() && !nic.failed()) {
    const std::uint32_t room = std::min(traffic.window_of(nic) - (sent - received), traffic.frames - sent);
    if (room != 0) sent += send(nic, sent, room, traffic.lengths());
    std::array<virtio_net::Packet*, 32> packets;
    const std::size_t count = nic.rx_burst(packets);
    for (std::size_t i = 0; i < count; ++i) checker.check(*packets[i]);
    nic.free(std::span(packets).first(count));
    received += static_cast<std::uint32_t>(count);
    if (count == 0) platform::this_thread::yield();
  }
  checker.expect_all();
}

/// The same by interrupt: this thread sends and sleeps, the bottom half receives.
inline void loop_by_interrupt(virtio_net::Nic& nic, Traffic traffic) {
  Checker checker(traffic.frames, traffic.lengths());
  platform::Atomic<std::uint32_t> arrived{0};
  auto set = nic.set_receiver([&](std::span<virtio_net::Packet* const> packets) {
    for (const virtio_net::Packet* packet : packets) checker.check(*packet);
    nic.free(packets);
    arrived.fetch_add(static_cast<std::uint32_t>(packets.size()));
    platform::wake_word(&arrived, 1);
  });
  ASSERT_TRUE(set) << set.error().message();
  const Deadline deadline = Deadline::after(traffic.limit);
  std::uint32_t sent = 0;
  for (;;) {
    const std::uint32_t received = arrived.load();
    if (received >= traffic.frames || deadline.expired() || nic.failed()) break;
    const std::uint32_t room = std::min(traffic.window_of(nic) - (sent - received), traffic.frames - sent);
    if (room == 0) {
      platform::wait_word(arrived, received, deadline.when());
      continue;
    }
    const std::uint32_t taken = send(nic, sent, room, traffic.lengths());
    sent += taken;
    if (taken == 0) {
      auto waited = nic.wait_tx_room(deadline);
      ASSERT_TRUE(waited) << waited.error().message();
    }
  }
  checker.expect_all();
}

}  // namespace upci::inline UPCI_VARIANT::driver_tests
