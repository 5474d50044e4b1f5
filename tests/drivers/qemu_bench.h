// SPDX-License-Identifier: Apache-2.0
// One of QEMU's virtio disks or entropy devices with its driver, for tests.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "device/context.h"
#include "drivers/virtio_blk/virtio_blk.h"
#include "drivers/virtio_pci/virtio_pci.h"
#include "drivers/virtio_rng/virtio_rng.h"
#include "emulation/qemu/qemu.h"
#include "pci/device.h"
#include "tests/drivers/watched.h"

namespace upci::inline UPCI_VARIANT::driver_tests {

using namespace std::chrono_literals;
using Interface = device::BindOptions::Interface;
using Words = std::vector<std::pair<std::string, std::string>>;

/// An interface of a QEMU device, and the ring on it.
struct Personality {
  std::string name;
  Words words;
  Interface interface = Interface::kAuto;
  bool legacy = false;  // what it must come out as
  bool packed = false;
};

inline std::vector<Personality> personalities() {
  return {
      {"Modern", {{"disable-legacy", "on"}}},
      {"ModernPacked", {{"disable-legacy", "on"}, {"packed", "on"}}, Interface::kAuto, false, true},
      {"Legacy", {{"disable-modern", "on"}, {"disable-legacy", "off"}}, Interface::kAuto, true},
      {"TransitionalAsModern", {{"disable-legacy", "off"}}, Interface::kModern},
      {"TransitionalAsModernPacked", {{"disable-legacy", "off"}, {"packed", "on"}}, Interface::kModern, false, true},
      {"TransitionalAsLegacy", {{"disable-legacy", "off"}}, Interface::kLegacy, true},
  };
}

/// A personality with and without each feature of the rings, plain and observed.
struct RingCase {
  Personality personality;
  bool indirect = true;
  bool event_idx = true;
  bool observed = false;

  Words words() const {
    Words words = personality.words;
    words.emplace_back("indirect_desc", indirect ? "on" : "off");
    words.emplace_back("event_idx", event_idx ? "on" : "off");
    return words;
  }
};

inline std::vector<RingCase> ring_cases() {
  std::vector<RingCase> cases;
  for (const Personality& personality : personalities()) {
    for (const bool indirect : {true, false}) {
      for (const bool event_idx : {true, false}) {
        for (const bool observed : {false, true}) cases.push_back({personality, indirect, event_idx, observed});
      }
    }
  }
  return cases;
}

inline std::string ring_case_name(const testing::TestParamInfo<RingCase>& info) {
  const RingCase& one = info.param;
  return one.personality.name + (one.indirect ? "Indirect" : "") + (one.event_idx ? "EventIdx" : "") +
         (one.observed ? "Observed" : "Plain");
}

/// A context with the drivers, and the device that a test opens in it.
class QemuBench {
 public:
  QemuBench() {
    auto topology = Topology::synthetic("numa:2 core:2");
    auto made = device::Context::create({.engine = {.topology = topology.value()}});
    context = std::move(made.value());
    std::vector<std::unique_ptr<virtio::Driver>> drivers;
    drivers.push_back(virtio_blk::make_driver({.observers = watched.watch.observers()}));
    drivers.push_back(virtio_rng::make_driver({.observers = watched.watch.observers()}));
    context->add_driver(virtio_pci::make_driver(std::move(drivers)));
  }

  /// Opens and probes; a failure ends the test.
  void open(const std::string& model, const Words& words, device::BindOptions options = {},
            const emulation::qemu::Options& qemu = {}, const std::string& disk = {}) {
    emulation::DeviceSpec spec{.uri = "qemu:" + model, .model = model, .words = {}, .disk = disk};
    for (const auto& [key, value] : words) spec.words.push_back({.key = key, .value = value, .has_value = true});
    auto opened = emulation::qemu::open(spec, cables, qemu);
    ASSERT_TRUE(opened) << opened.error().message() << " / " << opened.error().advice;
    auto made = pci::Device::create(watched.watch.wrap(std::move(*opened)), std::move(options));
    ASSERT_TRUE(made) << made.error().message();
    device = std::move(*made);
    ASSERT_TRUE(context->add_device(device));
    probe();
  }
  /// Again, after remove().
  void probe() {
    report = context->probe(device, 20s);
    ASSERT_TRUE(report.ok()) << report.result << " at " << report.step << "/" << report.reg
                             << (report.error ? ": " + report.error->message() : "");
  }
  template <class T>
  T* find() {
    device::Bound* bound = context->bound(*device);
    T* found = bound == nullptr ? nullptr : device::find<T>(*bound);
    EXPECT_NE(found, nullptr);
    return found;
  }
  bool negotiated(std::string_view feature) const {
    return std::find(report.features.begin(), report.features.end(), feature) != report.features.end();
  }
  /// The device must be quiet afterwards.
  void remove() {
    const auto removed = context->remove(device, Deadline::after(20s));
    EXPECT_TRUE(removed) << removed.error().message();
    EXPECT_FALSE(device->state()->quarantined());
    watched.expect_watching(device->options().observed);
  }

  Watched watched;
  emulation::Cables cables;
  std::unique_ptr<device::Context> context;
  std::shared_ptr<pci::Device> device;
  device::Report report;
};

inline device::BindOptions options_of(const RingCase& one) {
  device::BindOptions options;
  options.observed = one.observed;
  options.interface = one.personality.interface;
  return options;
}

}  // namespace upci::inline UPCI_VARIANT::driver_tests
