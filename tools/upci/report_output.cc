// SPDX-License-Identifier: Apache-2.0
#include "tools/upci/report_output.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>

#include "base/stack.h"
#include "device/report_text.h"

namespace upci::tool {
namespace {

// In whole microseconds, rounded up: what has taken as long as its deadline must never print as less.
double to_ms(platform::Nanoseconds span) {
  const auto microseconds = std::chrono::ceil<std::chrono::microseconds>(span);
  return static_cast<double>(microseconds.count()) / 1000.0;
}

Json to_json(const StackTrace& trace) {
  Json frames = Json::array();
  if (trace.depth == 0) return frames;
  for (const StackFrame& frame : symbolize(trace)) {
    frames.push_back({{"function", or_null(frame.function)},
                      {"file", or_null(frame.file)},
                      {"line", frame.line > 0 ? Json(frame.line) : Json(nullptr)},
                      {"address", fmt::format("{:#x}", frame.address)}});
  }
  return frames;
}

Json to_json(const std::vector<TimelineEntry>& timeline) {
  Json entries = Json::array();
  for (const TimelineEntry& entry : timeline) {
    entries.push_back({{"t_us", entry.t_us}, {"value", entry.value}, {"count", entry.count}});
  }
  return entries;
}

std::string place(const device::Report& report) {
  if (report.cpu < 0) return {};
  if (report.node < 0) return fmt::format("CPU {}", report.cpu);
  return fmt::format("node {}, CPU {}", report.node, report.cpu);
}

std::string headline(const device::Report& report, std::size_t width) {
  std::string line = fmt::format("{:<{}}  {:<11}  {:<12}", report.device, width, report.result,
                                 report.driver.empty() ? "-" : report.driver);
  if (was_probed(report)) line += fmt::format("  {:>9.3f} ms  {}", to_ms(report.elapsed), place(report));
  while (line.ends_with(' ')) line.pop_back();
  return line + "\n";
}

std::string why_not_probed(const device::Report& report) {
  std::string text = fmt::format("{}: {}: {}\n", report.device, report.result, report.error->message());
  if (!report.error->advice.empty()) text += fmt::format("  what to do  {}\n", report.error->advice);
  return text;
}

}  // namespace

bool was_probed(const device::Report& report) { return report.cpu >= 0 || report.elapsed.count() > 0; }

Json to_json(const device::Report& report) {
  Json json;
  json["device"] = report.device;
  json["driver"] = or_null(report.driver);
  json["result"] = report.result;
  json["step"] = or_null(report.step);
  json["register"] = or_null(report.reg);
  json["elapsed_ms"] = was_probed(report) ? Json(to_ms(report.elapsed)) : Json(nullptr);
  json["deadline_ms"] = to_ms(report.deadline);
  json["node"] = or_null(report.node);
  json["cpu"] = or_null(report.cpu);
  json["inline"] = !report.inline_reason.empty();
  json["inline_reason"] = or_null(report.inline_reason);
  json["features"] = report.features;
  json["timeline"] = to_json(report.timeline);
  json["backtrace"] = to_json(report.backtrace);
  json["requested_by"] = to_json(report.requested_by);
  json["notes"] = report.notes;
  add_error(json, report.error ? &*report.error : nullptr);
  return json;
}

Json to_json(std::span<const device::Report> reports) {
  Json devices = Json::array();
  for (const device::Report& report : reports) devices.push_back(to_json(report));
  return devices;
}

std::string to_text(std::span<const device::Report> reports) {
  std::size_t width = 0;
  for (const device::Report& report : reports) width = std::max(width, report.device.size());
  std::string text;
  for (const device::Report& report : reports) {
    text += headline(report, width);
    if (report.ok()) {
      if (!report.features.empty()) text += fmt::format("    features: {}\n", fmt::join(report.features, " "));
      if (!report.inline_reason.empty()) text += fmt::format("    probed inline: {}\n", report.inline_reason);
      for (const std::string& note : report.notes) text += fmt::format("    {}\n", note);
    }
  }
  for (const device::Report& report : reports) {
    if (report.ok()) continue;
    text += "\n" + (was_probed(report) || !report.error ? device::to_text(report) : why_not_probed(report));
  }
  return text;
}

}  // namespace upci::tool
