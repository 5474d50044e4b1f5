// SPDX-License-Identifier: Apache-2.0
// The report for people says what happened, where, when, and what to do.
#include "device/report_text.h"

#include <gtest/gtest.h>

#include "base/stack.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

using device::Report;
using namespace std::chrono_literals;

TEST(ReportText, AStuckDevicesReportHoldsAllItsEvidence) {
  Report report;
  report.device = "emu:virtio-net,fault=status-stuck";
  report.driver = "virtio_pci";
  report.result = "stuck";
  report.step = "reset";
  report.reg = "device_status";
  report.elapsed = 300ms;
  report.deadline = 300ms;
  report.node = 0;
  report.cpu = 1;
  report.timeline = {{.t_us = 12, .value = 0xf, .count = 296}};
  report.backtrace = capture_stack();
  report.requested_by = capture_stack();
  report.notes = {"its worker was written off"};
  report.error =
      fail_verdict(Verdict::kStuck, "reset", "device_status", "device_status still reads 0xf", "power-cycle it")
          .error();
  const std::string text = to_text(report);
  EXPECT_EQ(text.find("emu:virtio-net,fault=status-stuck: stuck: the device is stuck"), 0U) << text;
  for (const char* part :
       {"device_status still reads 0xf", "power-cycle it", "reset", "300.000 ms of 300.000 ms", "CPU 1", "node 0",
        "0.012 ms  0xf  x 296", "its worker was written off", "asked for by", "AStuckDevicesReport"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " is missing in\n" << text;
  }
  EXPECT_EQ(text.back(), '\n');
}

TEST(ReportText, AGoodReportIsShort) {
  Report report;
  report.device = "emu:virtio-net";
  report.driver = "virtio_pci";
  report.result = "ok";
  report.inline_reason = "the device's NUMA node is unknown";
  report.features = {"MAC", "STATUS"};
  report.requested_by = capture_stack();
  const std::string text = to_text(report);
  EXPECT_EQ(text.find("emu:virtio-net: ok: the device is bound\n"), 0U) << text;
  EXPECT_NE(text.find("MAC STATUS"), std::string::npos);
  EXPECT_NE(text.find("not placed  the device's NUMA node is unknown"), std::string::npos);
  EXPECT_EQ(text.find("asked for by"), std::string::npos);
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
