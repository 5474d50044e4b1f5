// SPDX-License-Identifier: Apache-2.0
// Our side of the data path's benchmark: the PCI virtio-net driver as it is, on QEMU's card in front of a vhost-user backend.
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "bench/datapath/program.h"
#include "bench/engine/affinity.h"
#include "device/context.h"
#include "drivers/virtio_net/nic.h"
#include "drivers/virtio_net/virtio_net.h"
#include "drivers/virtio_pci/virtio_pci.h"
#include "emulation/qemu/qemu.h"
#include "pci/device.h"

namespace {

using upci::Deadline;
using upci::Result;
namespace virtio_net = upci::virtio_net;
using namespace std::chrono_literals;

class OurPort {
 public:
  using Packet = virtio_net::Packet*;
  OurPort(virtio_net::Nic& nic, unsigned pairs) : nic_(nic), pairs_(pairs) {}

  std::size_t alloc(std::span<Packet> packets) {
    const std::size_t got = nic_.alloc(packets);
    if (got == packets.size()) return got;
    nic_.free(packets.first(got));
    return 0;
  }
  void free(std::span<Packet> packets) { nic_.free(packets); }
  /// A batch goes to one queue pair, the next one to the next.
  std::size_t send(std::span<Packet> packets) {
    const std::size_t sent = nic_.tx_burst(packets, sending_);
    if (sent == packets.size()) sending_ = next(sending_);
    return sent;
  }
  std::size_t receive(std::span<Packet> packets) {
    const unsigned pair = std::exchange(receiving_, next(receiving_));
    return nic_.rx_burst(packets, pair);
  }
  static std::byte* data(Packet packet) noexcept { return packet->data; }
  static void set_length(Packet packet, std::uint32_t length) noexcept { packet->length = length; }

 private:
  unsigned next(unsigned pair) const noexcept { return pair + 1 == pairs_ ? 0 : pair + 1; }

  virtio_net::Nic& nic_;
  const unsigned pairs_;
  unsigned sending_ = 0;
  unsigned receiving_ = 0;
};

/// The features that DPDK's driver would take of the same backend, and no others.
upci::emulation::DeviceSpec card(const bench::datapath::Request& request) {
  upci::emulation::DeviceSpec spec{.uri = "qemu:virtio-net-pci", .model = "virtio-net-pci", .words = {}};
  const auto word = [&spec](std::string key, std::string value) {
    spec.words.push_back({.key = std::move(key), .value = std::move(value), .has_value = true});
  };
  word("disable-legacy", "on");
  word("packed", request.packed ? "on" : "off");
  for (const char* off : {"event_idx", "csum", "gso", "host_tso4", "host_tso6", "host_ecn", "host_ufo"})
    word(off, "off");
  word("mrg_rxbuf", request.has("mrg_rxbuf=0") ? "off" : "on");
  spec.wire = {.kind = upci::emulation::WireSpec::Kind::kVhostUser,
               .name = request.socket,
               .queues = static_cast<std::uint16_t>(request.queues)};
  return spec;
}

int fail(const upci::Error& error) {
  std::fprintf(stderr, "datapath_upci: %s: %s\n", error.message().c_str(), error.advice.c_str());
  return 1;
}

int run(const bench::datapath::Request& request) {
  upci::emulation::Cables cables;
  auto topology = upci::Topology::detect();
  if (!topology) return fail(topology.error());
  auto context = upci::device::Context::create({.engine = {.topology = *topology}});
  if (!context) return fail(context.error());
  std::vector<std::unique_ptr<upci::virtio::Driver>> drivers;
  drivers.push_back(virtio_net::make_driver({.queue_pairs = static_cast<std::uint16_t>(request.queues)}));
  (*context)->add_driver(upci::virtio_pci::make_driver(std::move(drivers)));
  // Polled only: a line interrupt would have a thread of its own that looks at the card.
  auto backend = upci::emulation::qemu::open(card(request), cables, {.access_limit = 30s, .interrupts = false});
  if (!backend) return fail(backend.error());
  auto device = upci::pci::Device::create(std::move(*backend));
  if (!device) return fail(device.error());
  if (auto added = (*context)->add_device(*device); !added) return fail(added.error());
  const upci::device::Report report = (*context)->probe(*device, 60s);
  if (!report.ok()) return report.error ? fail(*report.error) : 1;
  auto* nic = upci::device::find<virtio_net::Nic>(*(*context)->bound(**device));
  if (nic == nullptr) return 1;
  std::string features;
  for (const std::string& feature : report.features) features += (features.empty() ? "" : " ") + feature;
  int code = 0;
  {
    const bench::PinScope pinned(request.cpu);
    OurPort port(*nic, request.queues);
    code = bench::datapath::measure(port, request, features);
  }
  if (nic->failed()) return fail(*nic->failed());
  if (auto removed = (*context)->remove(*device, Deadline::after(20s)); !removed) return fail(removed.error());
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  const auto request = bench::datapath::parse(argc, argv);
  return request ? run(*request) : bench::datapath::usage("datapath_upci");
}
