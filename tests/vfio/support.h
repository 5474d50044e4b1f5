// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <memory>
#include <string>

#include "pci/address.h"
#include "tests/vfio/fake_kernel.h"
#include "vfio/vfio.h"

namespace upci::inline UPCI_VARIANT::test {

/// A machine with the function 0000:01:00.0, and what may not be left behind by any test.
class VfioTest : public testing::Test {
 protected:
  VfioTest() : kernel(std::make_shared<FakeKernel>()), function(kernel->add("0000:01:00.0")), vfio(kernel) {}
  ~VfioTest() override {
    if (expect_clean) { EXPECT_EQ(kernel->leaks(), ""); }
    EXPECT_THAT(kernel->violations, testing::IsEmpty());
  }

  Result<std::shared_ptr<pci::Backend>> try_open(const std::string& address = "0000:01:00.0") {
    return vfio.open(pci::Address::parse(address).value(), address);
  }
  std::shared_ptr<pci::Backend> open(const std::string& address = "0000:01:00.0") {
    auto backend = try_open(address);
    if (!backend) {
      ADD_FAILURE() << backend.error().message();
      return nullptr;
    }
    return *backend;
  }
  static bool readable(int fd) {
    pollfd look{.fd = fd, .events = POLLIN, .revents = 0};
    return ::poll(&look, 1, 0) == 1;
  }
  static Deadline soon() { return Deadline::after(std::chrono::seconds(5)); }

  const std::shared_ptr<FakeKernel> kernel;
  FakeFunction& function;
  vfio::Vfio vfio;
  bool expect_clean = true;
};

}  // namespace upci::inline UPCI_VARIANT::test
