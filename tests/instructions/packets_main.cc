// SPDX-License-Identifier: Apache-2.0
// What instructions.py counts the instructions of: frames are sent and received by the virtio-net driver, polled, in the simulated
// variant, which is one thread and the same each time. Usage: instructions_packets card|packed[-extra] ROUNDS SEED...
//   card    an emulated card that sends each frame back, with a split ring
//   packed  a packed ring and a device of the test's own: chains of one segment are made available, used and taken back
// With -extra each frame costs something more: for the proof that the count notices.
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/platform.h"
#include "base/wait.h"
#include "device/context.h"
#include "drivers/virtio_net/nic.h"
#include "drivers/virtio_net/virtio_net.h"
#include "drivers/virtio_pci/virtio_pci.h"
#include "emulation/emu/emu.h"
#include "pci/device.h"
#include "virtio/packed_access.h"
#include "virtio/packed_ring.h"

namespace {

namespace sim = upci::platform::sim;
namespace virtio = upci::virtio;
namespace packed = upci::virtio::spec::packed;
using namespace std::chrono_literals;

constexpr std::size_t kBatch = 32;
constexpr std::uint32_t kFrameBytes = 60;

void must(bool holds, const char* what) {
  if (!holds) sim::fail_run(what);
}

void one_batch(upci::virtio_net::Nic& nic, upci::pci::Backend& card, bool extra) {
  std::array<upci::virtio_net::Packet*, kBatch> packets{};
  must(nic.alloc(packets) == kBatch, "the pool is empty");
  for (auto* packet : packets) {
    std::memset(packet->data, 0xff, kFrameBytes);
    packet->length = kFrameBytes;
    if (!extra) continue;
    auto* other = nic.alloc();
    nic.free(std::span(&other, 1));
  }
  const std::uint64_t before = upci::emulation::emu::frame_counts(card).received;
  must(nic.tx_burst(packets) == kBatch, "the transmit ring is full");
  // The card's turn: afterwards one burst finds all, whatever the seed.
  const upci::Deadline deadline = upci::Deadline::after(10s);
  while (upci::emulation::emu::frame_counts(card).received != before + kBatch && !deadline.expired())
    upci::sleep_for(1ms);
  must(nic.rx_burst(packets) == kBatch, "frames are missing");
  nic.free(packets);
}

void send_and_receive(bool extra, int rounds) {
  upci::emulation::Cables cables;
  auto topology = upci::Topology::synthetic("core:1");
  must(topology.has_value(), "no topology");
  auto context = upci::device::Context::create({.engine = {.topology = *topology}});
  must(context.has_value(), "no context");
  std::vector<std::unique_ptr<virtio::Driver>> drivers;
  drivers.push_back(upci::virtio_net::make_driver());
  (*context)->add_driver(upci::virtio_pci::make_driver(std::move(drivers)));
  auto backend = upci::emulation::emu::open(
      {.uri = "emu:virtio-net,modern", .model = "virtio-net", .words = {{.key = "modern"}}}, cables);
  must(backend.has_value(), "no card");
  upci::pci::Backend& card = **backend;
  auto device = upci::pci::Device::create(std::move(*backend));
  must(device.has_value() && (*context)->add_device(*device).has_value(), "no device");
  must((*context)->probe(*device, 10s).ok(), "the probe failed");
  auto* nic = upci::device::find<upci::virtio_net::Nic>(*(*context)->bound(**device));
  must(nic != nullptr, "no network card");
  for (int round = 0; round < rounds; round++) one_batch(*nic, card, extra);
  must((*context)->remove(*device, upci::Deadline::after(10s)).has_value(), "the removal failed");
}

void through_a_packed_ring(bool extra, int rounds) {
  constexpr std::uint16_t kSize = 256;
  const auto layout = virtio::PackedLayout::of(kSize);
  std::vector<packed::Descriptor> memory(layout.bytes / sizeof(packed::Descriptor));
  auto* const bytes = reinterpret_cast<std::byte*>(memory.data());
  virtio::PackedRing<virtio::PackedPlainAccess> ring(virtio::PackedPlainAccess(bytes, layout), kSize, {});
  std::size_t taken = 0;
  std::size_t at = 0;
  for (int round = 0; round < rounds; round++) {
    for (std::size_t i = 0; i < kBatch; i++) {
      must(ring.add_one({.iova = 4096 * (i + 1), .len = kFrameBytes, .device_writes = true}, &ring),
           "the ring is full");
      if (extra && ring.has_used()) taken++;
    }
    static_cast<void>(ring.publish());
    for (std::size_t i = 0; i < kBatch; i++, at = (at + 1) % kSize) {
      const bool wrap = (memory[at].flags & packed::kDescAvail) != 0;
      memory[at].flags =
          static_cast<std::uint16_t>(packed::kDescWrite | (wrap ? packed::kDescAvail | packed::kDescUsed : 0));
    }
    taken += ring.poll(kBatch, [](void*, std::uint32_t) {});
  }
  must(taken == kBatch * static_cast<std::size_t>(rounds), "chains are missing");
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view mode = argc > 1 ? argv[1] : "";
  const bool extra = mode.ends_with("-extra");
  const std::string_view what = mode.substr(0, mode.size() - (extra ? std::string_view("-extra").size() : 0));
  if (argc < 4 || (what != "card" && what != "packed")) {
    std::fputs("usage: instructions_packets card|packed[-extra] ROUNDS SEED...\n", stderr);
    return 2;
  }
  const int rounds = std::atoi(argv[2]);
  for (int i = 3; i < argc; i++) {
    sim::Options options;
    options.seed = std::strtoull(argv[i], nullptr, 10);
    options.spurious = false;
    options.max_steps = 100'000'000;
    const sim::Outcome outcome = sim::run(options, [what, extra, rounds] {
      what == "card" ? send_and_receive(extra, rounds) : through_a_packed_ring(extra, rounds);
    });
    if (outcome.ok()) continue;
    std::fprintf(stderr, "seed %s: %s\n", argv[i], outcome.text.c_str());
    return 1;
  }
  return 0;
}
