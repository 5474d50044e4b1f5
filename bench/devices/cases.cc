// SPDX-License-Identifier: Apache-2.0
#include "bench/devices/cases.h"

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <utility>

#include "drivers/virtio_net/virtio_net.h"
#include "drivers/virtio_pci/virtio_pci.h"

namespace bench {

const char* const kDescription = "Measures probing and interrupts of devices, by turns in one run.";

std::vector<PeerVersion> peer_versions() { return {}; }
std::vector<std::string> missing_packages() { return {}; }

std::vector<Case> all_cases() {
  std::vector<Case> cases = probing_cases();
  std::vector<Case> more = light_load_cases();
  std::move(more.begin(), more.end(), std::back_inserter(cases));
  return cases;
}

std::unique_ptr<upci::device::Context> make_net_context() {
  auto topology = upci::Topology::detect();
  if (!topology) give_up(topology.error().message());
  auto context = upci::device::Context::create({.engine = {.topology = *topology}});
  if (!context) give_up(context.error().message());
  std::vector<std::unique_ptr<upci::virtio::Driver>> drivers;
  drivers.push_back(upci::virtio_net::make_driver());
  (*context)->add_driver(upci::virtio_pci::make_driver(std::move(drivers)));
  return std::move(*context);
}

void give_up(const std::string& why) {
  fmt::print(stderr, "devices_bench: {}\n", why);
  std::exit(1);
}

}  // namespace bench
