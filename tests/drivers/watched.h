// SPDX-License-Identifier: Apache-2.0
// The observers of a test's device: always on at the registers, and in rings and buffers where the test is an observed one.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "virtio/lint/watch.h"

namespace upci::inline UPCI_VARIANT::driver_tests {

/// The first member of a bench, so that it is the last to go: then the driver must have kept each rule, to the end of its device.
/// What the device did wrong is noted in the test's results.
struct Watched {
  Watched() = default;
  Watched(const Watched&) = delete;
  Watched& operator=(const Watched&) = delete;
  ~Watched() {
    EXPECT_EQ(watch.breaches(), std::vector<std::string>()) << "the driver broke the specification";
    std::string device;
    for (const std::string& one : watch.device_breaches()) device += (device.empty() ? "" : "; ") + one;
    if (!device.empty()) testing::Test::RecordProperty("device_breaches", device);
  }

  /// That the observers were there at all: those of the registers, and those of rings and buffers where they should be.
  void expect_watching(bool in_the_rings) const {
    const auto registers = watch.registers();
    ASSERT_NE(registers, nullptr);
    EXPECT_GT(registers->accesses(), 0U);
    EXPECT_EQ(watch.chains()->chains() != 0, in_the_rings);
  }

  virtio::lint::Watch watch;
};

}  // namespace upci::inline UPCI_VARIANT::driver_tests
