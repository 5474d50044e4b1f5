// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/net_session.h"

#include <array>
#include <chrono>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/wait.h"
#include "device/context.h"
#include "device/quarantine.h"
#include "drivers/virtio_net/nic.h"
#include "drivers/virtio_net/virtio_net.h"
#include "drivers/virtio_pci/virtio_pci.h"
#include "pci/device.h"
#include "tests/fuzz/net_card.h"

namespace upci::inline UPCI_VARIANT::fuzz {
namespace {

using namespace std::chrono_literals;
using virtio_net::Nic;
using virtio_net::Packet;

constexpr platform::Nanoseconds kTimeout = 50ms;
// Beyond a deadline: what ends a probe from outside, the reset of a device that is given up.
constexpr platform::Nanoseconds kGrace = 5s;

class Bounded {
 public:
  explicit Bounded(platform::Nanoseconds limit) : end_(platform::Clock::now() + limit + kGrace) {}
  ~Bounded() { FUZZ_CHECK(platform::Clock::now() <= end_, "a wait has not kept its deadline"); }
  Bounded(const Bounded&) = delete;
  Bounded& operator=(const Bounded&) = delete;

 private:
  const platform::TimePoint end_;
};

/// What an application does with a card.
class Application {
 public:
  Application(Input& input, NetCard& card, Nic& nic) : input_(input), card_(card), nic_(nic) {}

  void run() {
    for (unsigned steps = 0; !input_.empty() && steps < 400; ++steps) step();
    free_all();
  }
  /// After the removal nobody may give packets any more.
  void expect_end() const { FUZZ_CHECK(held_.empty(), "a packet came late"); }

 private:
  void step() {
    const unsigned pair = input_.below(2) % nic_.queue_pairs();
    switch (input_.below(14)) {
      case 0:
      case 1: send(pair); break;
      case 2:
      case 3: receive(pair); break;
      case 4: free_all(); break;
      case 5: sleep_for(1ms); break;
      case 6: command(); break;
      case 7: {
        const Bounded bounded(kTimeout);
        static_cast<void>(nic_.update_link(Deadline::after(kTimeout)));
        break;
      }
      case 8: card_.ask_for_reset(); break;
      case 9: card_.change_config(); break;
      case 10: {
        static_cast<void>(nic_.set_receiver([this](std::span<Packet* const> packets) {
          take(packets);
          free_all();
        }));
        break;
      }
      default: card_.act(); break;
    }
    static_cast<void>(nic_.stats());
  }

  void send(unsigned pair) {
    std::array<Packet*, 8> packets{};
    const std::size_t count = nic_.alloc(std::span(packets).first(input_.below(8) + 1));
    take(std::span(packets).first(count));
    for (std::size_t i = 0; i < count; ++i) {
      packets[i]->next = nullptr;
      packets[i]->length = input_.u16() % (packets[i]->capacity + 2);
    }
    // Before the call, since they may be sent, and received again elsewhere, before it returns.
    for (std::size_t i = 0; i < count; ++i) {
      held_.erase(packets[i]);
      std::erase(frames_, packets[i]);
    }
    const std::size_t sent = nic_.tx_burst(std::span(packets).first(count), pair);
    FUZZ_CHECK(sent <= count, "more was sent than was given");
    take(std::span(packets).subspan(sent, count - sent), false);
  }

  void receive(unsigned pair) {
    std::array<Packet*, 16> packets{};
    const std::size_t count = nic_.rx_burst(packets, pair);
    FUZZ_CHECK(count <= packets.size(), "more was received than fits");
    take(std::span(packets).first(count));
  }

  /// The caller's from now on: it cannot have been before.
  void take(std::span<Packet* const> packets, bool looks = true) {
    for (Packet* packet : packets) {
      for (const Packet* part = packet; part != nullptr; part = part->next) {
        FUZZ_CHECK(held_.insert(part).second, "a packet that its user has is given a second time");
        if (!looks) continue;  // its length is what we made it
        FUZZ_CHECK(part->length <= part->capacity, "a packet longer than its memory");
        // A sanitizer looks at whether it is memory at all.
        unsigned sum = 0;
        for (std::uint32_t i = 0; i < part->length; i += 61) sum += std::to_integer<unsigned>(part->data[i]);
        if (part->length != 0) sum += std::to_integer<unsigned>(part->data[part->length - 1]);
        sum_ += sum;
      }
      frames_.push_back(packet);
    }
  }

  void free_all() {
    const std::vector<Packet*> frames = std::exchange(frames_, {});
    for (const Packet* packet : frames) {
      for (const Packet* part = packet; part != nullptr; part = part->next) held_.erase(part);
    }
    nic_.free(frames);
  }

  void command() {
    const Deadline deadline = Deadline::after(kTimeout);
    const Bounded bounded(kTimeout);
    const std::uint8_t argument = input_.u8();
    switch (input_.below(5)) {
      case 0:
        static_cast<void>(
            nic_.set_receive_mode(static_cast<virtio_net::ReceiveMode>(argument % 6), argument >= 0x80, deadline));
        break;
      case 1: static_cast<void>(nic_.set_mac({2, 0, 0, 0, 0, argument}, deadline)); break;
      case 2: static_cast<void>(nic_.set_vlan(argument, true, deadline)); break;
      case 3: static_cast<void>(nic_.set_active_pairs(argument % 4, deadline)); break;
      default: static_cast<void>(nic_.wait_tx_room(deadline)); break;
    }
  }

  Input& input_;
  NetCard& card_;
  Nic& nic_;
  std::set<const Packet*> held_;
  std::vector<Packet*> frames_;
  unsigned sum_ = 0;
};

void session(Input input, bool legacy) {
  const std::uint8_t kind = input.u8();
  const unsigned vectors = kind % 5;
  const bool line = (kind & 0x20) != 0 && vectors == 1;
  device::BindOptions options;
  options.observed = (kind & 0x40) != 0;
  {
    auto made = device::Context::create({.engine = {.topology = Topology::synthetic("core:2").value()}});
    FUZZ_CHECK(made.has_value(), "no context");
    device::Context& context = **made;
    std::vector<std::unique_ptr<virtio::Driver>> drivers;
    drivers.push_back(virtio_net::make_driver({.make_observer = {}, .make_packed_observer = {}, .queue_pairs = 2}));
    context.add_driver(virtio_pci::make_driver(std::move(drivers)));

    auto card = std::make_shared<NetCard>(input, NetCard::Kind{.legacy = legacy, .vectors = vectors, .line = line});
    auto device = pci::Device::create(card, std::move(options));
    FUZZ_CHECK(device.has_value(), "no device");
    FUZZ_CHECK(context.add_device(*device).has_value(), "the device cannot be added");
    const bool ok = [&] {
      const Bounded bounded(kTimeout);
      return context.probe(*device, kTimeout).ok();
    }();
    device::Bound* const bound = context.bound(**device);
    FUZZ_CHECK(ok == (bound != nullptr), "the report does not say whether it is bound");
    if (bound != nullptr) {
      Nic* const nic = device::find<Nic>(*bound);
      FUZZ_CHECK(nic != nullptr, "it is bound, and no network card");
      Application application(input, *card, *nic);
      application.run();
      FUZZ_CHECK(nic->stats().ring_violations == 0, "the card has led the driver to break a rule of the ring");
      const Bounded bounded(kTimeout);
      static_cast<void>(context.remove(*device, Deadline::after(kTimeout)));
      application.expect_end();
    }
  }
  FUZZ_CHECK(device::quarantine::totals().regions == 0, "memory is kept of a device that is proven quiet");
}

}  // namespace

void run_net_session(Input input, bool legacy) {
  static const bool silent = [] {
    log::set_level(log::Level::kOff);
    return true;
  }();
  static_cast<void>(silent);
  const std::uint8_t seed = input.u8();
  const auto outcome =
      platform::sim::run({.seed = seed + 1U, .cpus = 2, .max_steps = 3'000'000}, [&] { session(input, legacy); });
  if (!outcome.ok()) std::fprintf(stderr, "%s\n", outcome.text.c_str());
  FUZZ_CHECK(outcome.ok(), "a hang, a deadlock, or a livelock");
}

}  // namespace upci::inline UPCI_VARIANT::fuzz
