// SPDX-License-Identifier: Apache-2.0
// 64 devices that take 20 ms to reset: all at once, one after another, and all at once with one among them that never does.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "bench/devices/cases.h"
#include "bench/engine/clock.h"
#include "emulation/emu/emu.h"
#include "pci/device.h"

namespace bench {
namespace {

using namespace std::chrono_literals;

constexpr int kDevices = 64;
constexpr auto kTimeout = 500ms;  // of one probe

using Devices = std::vector<std::shared_ptr<upci::device::Device>>;

Devices make_devices(upci::device::Context& context, upci::emulation::Cables& cables, bool one_stuck) {
  Devices devices;
  for (int i = 0; i < kDevices; i++) {
    const bool stuck = one_stuck && i == kDevices / 2;
    upci::emulation::DeviceSpec spec{
        .uri = fmt::format("emu:virtio-net,number {}", i), .model = "virtio-net", .words = {}};
    spec.fault = stuck ? "status-stuck" : "status-slow";
    if (!stuck) spec.words.push_back({.key = "fault_ms", .value = "20", .has_value = true});
    auto opened = upci::emulation::emu::open(spec, cables);
    if (!opened) give_up(opened.error().message());
    auto made = upci::pci::Device::create(std::move(*opened), {});
    if (!made) give_up(made.error().message());
    if (auto added = context.add_device(*made); !added) give_up(added.error().message());
    devices.push_back(std::move(*made));
  }
  return devices;
}

double milliseconds(std::uint64_t from, std::uint64_t to) { return nanoseconds(from, to) / 1e6; }

Sample probe_one_by_one() {
  upci::emulation::Cables cables;
  const auto context = make_net_context();
  const Devices devices = make_devices(*context, cables, false);
  const Meter meter;
  const std::uint64_t begin = ticks();
  for (const auto& device : devices) {
    if (!context->probe(device, kTimeout).ok()) give_up("a probe failed");
  }
  Sample sample{.value = milliseconds(begin, ticks()), .usage = meter.read(), .more = {}};
  return sample;
}

/// Value: until the last of the good ones is bound, ms.
Sample probe_all_at_once(bool one_stuck) {
  upci::emulation::Cables cables;
  const auto context = make_net_context();
  const Devices devices = make_devices(*context, cables, one_stuck);
  const Meter meter;
  const std::uint64_t begin = ticks();
  const std::vector<upci::device::Report> reports = context->probe(devices, kTimeout);
  const double whole = milliseconds(begin, ticks());
  Sample sample{.value = 0, .usage = meter.read(), .more = {}};
  const auto good = std::ranges::count_if(reports, [](const auto& report) { return report.ok(); });
  if (good != kDevices - (one_stuck ? 1 : 0)) give_up(fmt::format("{} of {} probes succeeded", good, kDevices));
  for (const auto& report : reports) {
    if (!report.ok()) continue;
    sample.value = std::max(sample.value, std::chrono::duration<double, std::milli>(report.elapsed).count());
  }
  // With all good ones the call itself is the better clock: it has what comes before each probe's own start.
  if (!one_stuck) sample.more["the call, ms"] = whole;
  return sample;
}

}  // namespace

std::vector<Case> probing_cases() {
  Case many{
      .name = "probe-64",
      .title = "64 devices that take 20 ms to reset are probed",
      .unit = "ms",
      .method = "In-process cards (fault=status-slow,fault_ms=20); from the call of Context::probe to its return.",
      .targets = {{.against = Target::Against::kVariant, .name = "one after another", .ratio = 0.1}},
      .contestants = {},
      .remark = {}};
  many.contestants.push_back(
      {.kind = Contestant::Kind::kOurs, .name = "all at once", .settings = "one call with 64 devices", .run = [] {
         Sample sample = probe_all_at_once(false);
         sample.value = sample.more["the call, ms"];
         sample.more.clear();
         return sample;
       }});
  many.contestants.push_back(
      {.kind = Contestant::Kind::kVariant, .name = "one after another", .settings = "64 calls", .run = [] {
         return probe_one_by_one();
       }});
  Case stuck{.name = "probe-64-stuck",
             .title = "the same, one of them never finishes its reset: the other 63",
             .unit = "ms",
             .method = "The longest of the good probes, from its start to its result (Report::elapsed).",
             .targets = {{.against = Target::Against::kVariant, .name = "none stuck", .ratio = 1.1}},
             .contestants = {},
             .remark = {}};
  stuck.contestants.push_back({.kind = Contestant::Kind::kOurs,
                               .name = "one stuck",
                               .settings = "fault=status-stuck for the 33rd, given 500 ms",
                               .run = [] { return probe_all_at_once(true); }});
  stuck.contestants.push_back(
      {.kind = Contestant::Kind::kVariant, .name = "none stuck", .settings = "the same call, all good", .run = [] {
         return probe_all_at_once(false);
       }});
  return {many, stuck};
}

}  // namespace bench
