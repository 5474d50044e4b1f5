// SPDX-License-Identifier: Apache-2.0
#include "device/report_text.h"

#include <fmt/format.h>

#include <chrono>
#include <iterator>
#include <string_view>

namespace upci::inline UPCI_VARIANT::device {
namespace {

using Out = std::back_insert_iterator<std::string>;

double in_ms(platform::Nanoseconds span) { return std::chrono::duration<double, std::milli>(span).count(); }

/// What the result word means, as the rest of a sentence about the device.
std::string_view meaning(std::string_view result) {
  if (result == "ok") return "is bound";
  if (result == "slow") return "is bound, but took more than half of its time";
  if (result == "stuck") return "is stuck: a register did not change to what it must by the deadline";
  if (result == "gone") return "is gone: it left its bus";
  if (result == "needs_reset") return "asks for a reset (DEVICE_NEEDS_RESET)";
  if (result == "rejected") return "rejects what the driver offered, or offers too little";
  if (result == "stalled") return "stalls: an access to it has not returned by the deadline";
  if (result == "no_driver") return "has no driver";
  return "could not be probed";
}

void headline(Out out, const Report& report) {
  fmt::format_to(out, "{}: {}: the device {}\n", report.device, report.result, meaning(report.result));
}

void where(Out out, const Report& report) {
  if (!report.driver.empty()) fmt::format_to(out, "  driver      {}\n", report.driver);
  if (!report.step.empty()) fmt::format_to(out, "  step        {}\n", report.step);
  if (!report.reg.empty()) fmt::format_to(out, "  register    {}\n", report.reg);
  fmt::format_to(out, "  time        {:.3f} ms of {:.3f} ms\n", in_ms(report.elapsed), in_ms(report.deadline));
  if (report.cpu >= 0) {
    fmt::format_to(out, "  ran on      CPU {}", report.cpu);
    if (report.node >= 0) fmt::format_to(out, ", device on node {}", report.node);
    *out++ = '\n';
  }
  if (!report.inline_reason.empty()) fmt::format_to(out, "  not placed  {}\n", report.inline_reason);
  if (!report.features.empty()) fmt::format_to(out, "  features    {}\n", fmt::join(report.features, " "));
}

void timeline(Out out, const Report& report) {
  if (report.timeline.empty()) return;
  fmt::format_to(out, "  what {} read, when first and how often:\n", report.reg);
  for (const TimelineEntry& entry : report.timeline) {
    fmt::format_to(out, "    {:12.3f} ms  {:#x}  x {}\n", static_cast<double>(entry.t_us) / 1000, entry.value,
                   entry.count);
  }
}

void stack(Out out, std::string_view title, const StackTrace& trace) {
  if (trace.depth == 0) return;
  fmt::format_to(out, "  {}:\n", title);
  int number = 0;
  for (const StackFrame& frame : symbolize(trace)) {
    const std::string_view function = frame.function.empty() ? std::string_view("?") : std::string_view(frame.function);
    fmt::format_to(out, "    #{:<2} {}", number++, function);
    if (!frame.file.empty()) fmt::format_to(out, " at {}:{}", frame.file, frame.line);
    if (frame.function.empty()) fmt::format_to(out, " ({:#x})", frame.address);
    *out++ = '\n';
  }
}

}  // namespace

std::string to_text(const Report& report) {
  std::string text;
  const Out out = std::back_inserter(text);
  headline(out, report);
  if (report.error) fmt::format_to(out, "  {}\n", report.error->message());
  if (report.error && !report.error->advice.empty()) fmt::format_to(out, "  what to do  {}\n", report.error->advice);
  where(out, report);
  for (const std::string& note : report.notes) fmt::format_to(out, "  note        {}\n", note);
  timeline(out, report);
  stack(out, "the probing worker's stack at that time", report.backtrace);
  if (!report.ok()) stack(out, "the probe was asked for by", report.requested_by);
  return text;
}

}  // namespace upci::inline UPCI_VARIANT::device
