// SPDX-License-Identifier: Apache-2.0
#include "tools/upci/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "base/log.h"
#include "base/platform.h"
#include "base/wait.h"
#include "drivers/edu/edu.h"
#include "drivers/virtio_blk/virtio_blk.h"
#include "drivers/virtio_net/virtio_net.h"
#include "drivers/virtio_pci/virtio_pci.h"
#include "drivers/virtio_rng/virtio_rng.h"
#include "tools/upci/schemes.h"

namespace upci::tool {
namespace {

using OpenResult = Result<std::shared_ptr<pci::Device>>;

constexpr auto kRemoveTimeout = std::chrono::seconds(2);
// Starting a QEMU is mostly waiting for it; more at once than this only makes each slower.
constexpr std::size_t kOpenersAtMost = 8;

/// Opens all, in parallel. Results are in the order of the URIs.
std::vector<OpenResult> open_all(const std::vector<Uri>& uris, Environment& environment) {
  std::vector<OpenResult> results(uris.size(), OpenResult(nullptr));
  platform::Atomic<std::size_t> next{0};
  const auto open_some = [&] {
    for (;;) {
      const std::size_t i = next.fetch_add(1, std::memory_order_relaxed);
      if (i >= uris.size()) return;
      results[i] = Interruption::signal() == 0 ? open_device(uris[i], environment)
                                               : OpenResult(fail(Errc::kState, "interrupted before it was opened"));
    }
  };
  std::vector<platform::Thread> helpers;
  for (std::size_t i = 1; i < std::min(uris.size(), kOpenersAtMost); ++i) {
    auto thread = platform::Thread::create({.name = "upci/open"}, open_some);
    if (!thread) break;  // this thread opens what they do not
    helpers.push_back(std::move(*thread));
  }
  open_some();
  for (platform::Thread& helper : helpers) helper.join();
  return results;
}

/// The report of a device that did not come as far as its probe.
device::Report not_opened(const Uri& uri, Error error, platform::Nanoseconds timeout) {
  device::Report report;
  report.device = uri.text;
  report.result = error.verdict ? std::string(to_string(*error.verdict)) : "error";
  report.step = error.step.empty() ? "open" : error.step;
  report.reg = error.reg;
  report.deadline = timeout;
  report.error = std::move(error);
  return report;
}

/// What whoever lent us the device has told us about it.
std::string_view why_withdrawn(device::Device& device) {
  return device.control().notice() == device::DeviceControl::Notice::kError ? "an error of the platform" : "withdrawn";
}

}  // namespace

Result<std::unique_ptr<Session>> Session::create() {
  UPCI_TRY_ASSIGN(Topology topology, Topology::detect());
  device::Context::Options options;
  options.engine.topology = std::move(topology);
  options.engine.control = true;
  // The commands see it by the card's failure, and remove the device when they do not use it any more.
  options.withdrawn = [](const std::shared_ptr<device::Device>& device) {
    log::warn("{}: {}", device->name(), why_withdrawn(*device));
  };
  UPCI_TRY_ASSIGN(std::unique_ptr<device::Context> context, device::Context::create(std::move(options)));
  std::vector<std::unique_ptr<virtio::Driver>> virtio_drivers;
  virtio_drivers.push_back(virtio_net::make_driver());
  virtio_drivers.push_back(virtio_blk::make_driver());
  virtio_drivers.push_back(virtio_rng::make_driver());
  context->add_driver(virtio_pci::make_driver(std::move(virtio_drivers)));
  context->add_driver(pci::make_driver<edu::Edu>("edu"));
  return std::unique_ptr<Session>(new Session(std::move(context)));
}

Session::~Session() {
  context_.reset();  // before the devices and what they hang on
  devices_.clear();
}

std::vector<device::Report> Session::probe(const std::vector<Uri>& uris, platform::Nanoseconds timeout,
                                           Interruption& interruption) {
  std::vector<device::Report> reports(uris.size());
  std::vector<std::shared_ptr<device::Device>> opened;
  std::vector<std::size_t> places;  // of the opened ones, in reports
  std::vector<OpenResult> results = open_all(uris, environment_);
  devices_.resize(uris.size());
  for (std::size_t i = 0; i < uris.size(); ++i) {
    if (results[i]) {
      if (auto added = context_->add_device(*results[i]); !added)
        results[i] = std::unexpected(std::move(added).error());
    }
    if (!results[i]) {
      reports[i] = not_opened(uris[i], std::move(results[i]).error(), timeout);
      continue;
    }
    devices_[i] = *results[i];
    opened.push_back(devices_[i]);
    places.push_back(i);
  }
  for (const std::string& name : environment_.cables.dangling()) {
    log::warn("cable {} has one end only: frames that are sent into it go nowhere", name);
  }
  if (Interruption::signal() != 0 || opened.empty()) return reports;

  const OnInterruption give_up(interruption, [this] { abandon(); });
  std::vector<device::Report> probed = context_->probe(opened, timeout);
  for (std::size_t i = 0; i < probed.size() && i < places.size(); ++i) reports[places[i]] = std::move(probed[i]);
  return reports;
}

void Session::add_evidence(std::vector<std::string>& notes, bool failed) {
  for (const std::shared_ptr<pci::Device>& device : devices_) {
    if (!device) continue;
    device::DeviceControl::Evidence evidence = device->control().evidence();
    for (std::string& fault : evidence.faults) notes.push_back(std::move(fault));
    if (failed && !evidence.unreadable.empty()) notes.push_back(std::move(evidence.unreadable));
  }
}

void Session::add_late_evidence(const std::vector<Uri>& uris, std::vector<device::Report>& reports) {
  bool waited = false;
  for (std::size_t i = 0; i < devices_.size(); ++i) {
    if (!devices_[i] || uris[i].scheme != Scheme::kVfio) continue;
    if (!std::exchange(waited, true)) sleep_for(kEvidenceDelay);
    std::vector<std::string>& notes = reports[i].notes;
    for (std::string& fault : devices_[i]->control().evidence().faults) {
      if (std::ranges::find(notes, fault) == notes.end()) notes.push_back(std::move(fault));
    }
  }
}

void Session::give_back_withdrawn(std::vector<std::string>& notes) {
  for (const std::shared_ptr<pci::Device>& device : devices_) {
    if (!device || device->control().notice() == device::DeviceControl::Notice::kNone) continue;
    const platform::TimePoint begin = platform::Clock::now();
    const bool was_bound = context_->bound(*device) != nullptr;
    const auto removed = was_bound ? context_->remove(device, Deadline::after(kRemoveTimeout)) : Result<void>();
    device->control().give_back();
    const auto took = std::chrono::duration<double, std::milli>(platform::Clock::now() - begin);
    notes.push_back(removed
                        ? fmt::format("{}: {}; its driver was removed and the device given back in {:.1f} ms",
                                      device->name(), why_withdrawn(*device), took.count())
                        : fmt::format("{}: {}; {}", device->name(), why_withdrawn(*device), removed.error().message()));
  }
}

void Session::abandon() noexcept {
  for (const std::shared_ptr<pci::Device>& device : devices_) {
    if (device) device->abandon();
  }
}

ExitCode exit_code_of(const std::vector<device::Report>& reports) noexcept {
  ExitCode code = ExitCode::kDone;
  for (const device::Report& report : reports) code = worse(code, exit_code_of(report));
  return code;
}

}  // namespace upci::tool
