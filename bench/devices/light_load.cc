// SPDX-License-Identifier: Apache-2.0
// A frame a millisecond over QEMU's card and back: taken by interrupt, or by a thread that does nothing but look.
#include <fmt/format.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "bench/devices/cases.h"
#include "bench/engine/affinity.h"
#include "bench/engine/clock.h"
#include "bench/engine/floors/floors.h"
#include "bench/engine/statistics.h"
#include "drivers/virtio_net/nic.h"
#include "emulation/qemu/qemu.h"
#include "pci/device.h"

namespace bench {
namespace {

using namespace std::chrono_literals;
using upci::virtio_net::Nic;
using upci::virtio_net::Packet;

constexpr int kFrames = 1000;
constexpr auto kGap = 1ms;
constexpr std::uint32_t kLength = 64;

struct Card {
  Card() : context(make_net_context()) {
    upci::emulation::DeviceSpec spec{.uri = "qemu:virtio-net-pci", .model = "virtio-net-pci", .words = {}};
    auto opened = upci::emulation::qemu::open(spec, cables);
    if (!opened) give_up(opened.error().message());
    auto made = upci::pci::Device::create(std::move(*opened), {});
    if (!made) give_up(made.error().message());
    device = std::move(*made);
    if (auto added = context->add_device(device); !added) give_up(added.error().message());
    const auto report = context->probe(device, 10s);
    if (!report.ok()) give_up(report.error ? report.error->message() : report.result);
    nic = upci::device::find<Nic>(*context->bound(*device));
  }
  ~Card() { (void)context->remove(device, upci::Deadline::after(10s)); }
  Card(const Card&) = delete;
  Card& operator=(const Card&) = delete;

  upci::emulation::Cables cables;
  std::unique_ptr<upci::device::Context> context;
  std::shared_ptr<upci::pci::Device> device;
  Nic* nic = nullptr;
};

/// Sends the frames, a millisecond apart, and waits for each; `times` has how long each took.
class Pace {
 public:
  void arrived() noexcept { arrived_at_.store(ticks(), std::memory_order_release); }

  Sample run(Nic& nic) {
    std::vector<double> times;
    const Meter meter;
    auto next = std::chrono::steady_clock::now();
    for (int i = 0; i < kFrames; i++) {
      next += kGap;
      std::this_thread::sleep_until(next);
      arrived_at_.store(0, std::memory_order_relaxed);
      Packet* packet = nic.alloc();
      if (packet == nullptr) give_up("no packet is free");
      std::fill_n(packet->data, kLength, std::byte{0xff});
      packet->length = kLength;
      const std::uint64_t begin = ticks();
      if (nic.tx_burst(std::span(&packet, 1)) != 1) give_up("the card takes no frame");
      std::uint64_t end = 0;
      // Asleep meanwhile: whoever waits here must not cost what is to be measured.
      for (int turn = 0; (end = arrived_at_.load(std::memory_order_acquire)) == 0; turn++) {
        if (turn > 1000) give_up("a frame did not come back");
        std::this_thread::sleep_for(200us);
      }
      times.push_back(nanoseconds(begin, end));
    }
    Sample sample;
    sample.usage = meter.read();
    sample.value = median(times);
    sample.more["p99 ns"] = percentile(times, 0.99);
    return sample;
  }

 private:
  std::atomic<std::uint64_t> arrived_at_{0};
};

Sample by_interrupt() {
  Card card;
  Pace pace;
  auto set = card.nic->set_receiver([&](std::span<Packet* const> packets) {
    pace.arrived();
    card.nic->free(packets);
  });
  if (!set) give_up(set.error().message());
  Sample sample = pace.run(*card.nic);
  sample.more["judged ns"] = sample.more["p99 ns"];
  sample.more["interrupts/frame"] = static_cast<double>(card.nic->stats().interrupts) / kFrames;
  (void)card.context->remove(card.device, upci::Deadline::after(10s));
  return sample;
}

Sample polled() {
  Card card;
  Pace pace;
  std::atomic<bool> stop{false};
  std::thread poller([&] {
    while (!stop.load(std::memory_order_relaxed)) {
      Packet* packet = nullptr;
      if (card.nic->rx_burst(std::span(&packet, 1)) == 0) continue;
      pace.arrived();
      card.nic->free(packet);
    }
  });
  Sample sample = pace.run(*card.nic);
  stop.store(true);
  poller.join();
  // What an interrupt cannot do without: somebody who sleeps is woken.
  const Sample wake = futex_wake_floor(200, 50e3);
  sample.more["raw wake ns"] = wake.value;
  sample.more["judged ns"] = sample.more["p99 ns"] + wake.value;
  return sample;
}

}  // namespace

std::vector<Case> light_load_cases() {
  if (machine_cpus().size() < 2) return {};
  Case one{
      .name = "light-load",
      .title = "a frame a millisecond over QEMU's card and back",
      .unit = "ns",
      .method = fmt::format("{} frames of {} bytes, QEMU's own netdev, our end of the wire sends them back. From "
                            "tx_burst to the receiver, median. CPU seconds are those of this process, QEMU's left out; "
                            "\"judged\" is p99, for polling p99 and one raw wake.",
                            kFrames, kLength),
      .targets = {{.against = Target::Against::kVariant, .name = "polled", .of = "cpu_seconds", .ratio = 0.1},
                  {.against = Target::Against::kVariant, .name = "polled", .of = "judged ns", .ratio = 1.5}},
      .contestants = {},
      .remark = {}};
  one.contestants.push_back({.kind = Contestant::Kind::kOurs,
                             .name = "by interrupt",
                             .settings = "set_receiver: the bottom half on the vector's CPU",
                             .run = [] { return by_interrupt(); }});
  one.contestants.push_back({.kind = Contestant::Kind::kVariant,
                             .name = "polled",
                             .settings = "a thread that calls rx_burst without pause",
                             .run = [] { return polled(); }});
  return {one};
}

}  // namespace bench
