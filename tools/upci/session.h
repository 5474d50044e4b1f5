// SPDX-License-Identifier: Apache-2.0
// The devices of one command: opened, bound to their drivers, and given back.
#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "base/error.h"
#include "device/context.h"
#include "pci/device.h"
#include "tools/upci/exit_code.h"
#include "tools/upci/interruption.h"
#include "tools/upci/schemes.h"
#include "tools/upci/uri.h"

namespace upci::tool {

/// How long the kernel is given to write down what a probe has done.
inline constexpr auto kEvidenceDelay = std::chrono::milliseconds(50);

class Session {
 public:
  /// An engine with the drivers of this program. Errors: kUnavailable, kSystem.
  static Result<std::unique_ptr<Session>> create();
  /// Gives the devices back: removes their drivers, closes them (a QEMU ends with its device).
  ~Session();

  /// Opens the devices, several at once, and probes those that could be opened, all at once, each within `timeout`.
  /// One report per URI, in their order; a device that could not be opened has the result `error` or its verdict. Once.
  /// A signal makes the devices abandoned, so that it returns soon.
  std::vector<device::Report> probe(const std::vector<Uri>& uris, platform::Nanoseconds timeout,
                                    Interruption& interruption);

  device::Context& context() noexcept { return *context_; }
  Engine& engine() noexcept { return context_->engine(); }
  /// As many as URIs, in their order; nullptr where it could not be opened.
  const std::vector<std::shared_ptr<pci::Device>>& devices() const noexcept { return devices_; }
  /// What the platform has recorded against the devices; after a failure also why there may be more.
  void add_evidence(std::vector<std::string>& notes, bool failed);
  /// To the reports of probe(uris): what the kernel has written down against functions of this machine since their probe ended.
  /// It writes when the IOMMU's interrupt is served, which can be after the probe that it is about. Takes kEvidenceDelay.
  void add_late_evidence(const std::vector<Uri>& uris, std::vector<device::Report>& reports);
  /// Removes the devices that were withdrawn, since their lender waits for them; says so, or what went wrong.
  void give_back_withdrawn(std::vector<std::string>& notes);
  /// Gives all devices up at once; probes and waits on them end soon. Any thread.
  void abandon() noexcept;

 private:
  explicit Session(std::unique_ptr<device::Context> context) noexcept : context_(std::move(context)) {}

  Environment environment_;
  std::unique_ptr<device::Context> context_;
  std::vector<std::shared_ptr<pci::Device>> devices_;  // const once probe() has opened them
};

/// The exit code of a set of reports.
ExitCode exit_code_of(const std::vector<device::Report>& reports) noexcept;

}  // namespace upci::tool
