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

  virtio::lint::Watch watch;
};

}  // namespace upci::inline UPCI_VARIANT::driver_tests
