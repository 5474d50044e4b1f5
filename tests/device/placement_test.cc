// SPDX-License-Identifier: Apache-2.0
// Where a probe runs (kernel: pci_call_probe), and what it says when that is not the device's node.
#include "device/placement.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/device/fake_device.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

using device::Placement;
using device::reason_against_node;

TEST(Placement, ReasonsAgainstTheNodeAreThoseOfTheKernel) {
  EXPECT_EQ(reason_against_node(0, true, true), "");
  EXPECT_NE(reason_against_node(-1, false, false).find("unknown"), std::string::npos);
  EXPECT_NE(reason_against_node(7, false, false).find("7 is not in the topology"), std::string::npos);
  EXPECT_NE(reason_against_node(1, true, false).find("no housekeeping CPU"), std::string::npos);
}

TEST(Placement, SpreadsProbesOverTheCpusOfTheNode) {
  on_platform([] {
    Placement placement(small_topology());
    const std::set<int> first{placement.take(1).cpu, placement.take(1).cpu};
    EXPECT_EQ(first, (std::set<int>{2, 3}));
  });
}

TEST(Placement, PrefersTheCpuWithTheFewestProbes) {
  on_platform([] {
    Placement placement(small_topology());
    const int busy = placement.take(0).cpu;
    const int idle = placement.take(0).cpu;
    placement.give_back(idle);
    EXPECT_EQ(placement.take(0).cpu, idle);
    placement.give_back(busy);
    EXPECT_EQ(placement.take(0).cpu, busy);
  });
}

TEST(Placement, ProbeRunsOnACpuOfTheDevicesNode) {
  on_platform([] {
    auto context = make_context();
    platform::Atomic<int> ran_on{-1};
    auto device = make_device(
        *context, "fake:node1",
        [&](FakeDevice& fake, Deadline deadline) {
          ran_on.store(fake.engine().current_worker_cpu());
          return binds(fake, deadline);
        },
        1);
    const Report report = context->probe(device, 1s);
    EXPECT_EQ(report.result, "ok");
    EXPECT_EQ(report.node, 1);
    EXPECT_EQ(report.inline_reason, "");
    EXPECT_EQ(report.cpu, ran_on.load());
    EXPECT_EQ(small_topology().find(report.cpu)->node, 1);
  });
}

TEST(Placement, UnknownNodeAndNodeOutsideTheTopologyRunInAnyWorkerAndSayWhy) {
  on_platform([] {
    auto context = make_context();
    auto unknown = make_device(*context, "fake:unknown", binds, -1);
    auto outside = make_device(*context, "fake:outside", binds, 9);
    const std::shared_ptr<Device> both[] = {unknown, outside};
    const auto reports = context->probe(both, 1s);
    ASSERT_EQ(reports.size(), 2U);
    EXPECT_NE(reports[0].inline_reason.find("unknown"), std::string::npos);
    EXPECT_NE(reports[1].inline_reason.find("not in the topology"), std::string::npos);
    for (const Report& report : reports) {
      EXPECT_EQ(report.result, "ok");
      EXPECT_GE(report.cpu, 0);
    }
  });
}

TEST(Placement, ProbeWithinAProbeIsNotNestedButRunsOnTheCallersThread) {
  on_platform([] {
    auto context = make_context();
    Report inner_report;
    platform::ThreadId outer_thread{}, inner_thread{};
    auto inner = make_device(*context, "fake:virtual function", [&](FakeDevice& fake, Deadline deadline) {
      inner_thread = platform::this_thread::id();
      return binds(fake, deadline);
    });
    auto outer = make_device(*context, "fake:physical function", [&](FakeDevice& fake, Deadline deadline) {
      outer_thread = platform::this_thread::id();
      inner_report = context->probe(inner, 1s);
      return binds(fake, deadline);
    });
    EXPECT_EQ(context->probe(outer, 1s).result, "ok");
    EXPECT_EQ(inner_report.result, "ok");
    EXPECT_NE(inner_report.inline_reason.find("in a probe"), std::string::npos);
    EXPECT_EQ(inner_thread, outer_thread);
  });
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
