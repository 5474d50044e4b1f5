// SPDX-License-Identifier: Apache-2.0
// The flight recorder: what happened to one device, from the first access on, in shared memory, so that another process
// can read it after this one was killed. Every report is a view of it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/platform.h"
#include "base/stack.h"
#include "base/unique_fd.h"

namespace upci::inline UPCI_VARIANT {

struct FlightRecord;  // the layout in shared memory (flight_recorder.cc)

/// One distinct value read from a register, when it was first seen and how often in a row.
struct TimelineEntry {
  std::int64_t t_us = 0;  // since the recorder was started
  std::uint64_t value = 0;
  std::uint64_t count = 0;
};

/// An access that was begun and has not returned.
struct PendingAccess {
  std::string reg;
  bool write = false;
  std::uint64_t value = 0;  // what is being written
  std::int64_t t_us = 0;    // when it was begun, since the recorder was started
};

/// Writers: one at a time, the thread that drives the device (probe worker, later the control path under its lock).
/// Readers: any thread or process at any time; what they see of an entry is whole.
class FlightRecorder {
 public:
  /// Errors: kSystem when no shared memory can be had.
  static Result<FlightRecorder> create();
  /// The record behind a descriptor that another process made (see fd()).
  /// Errors: kInvalid when it is no record of this version; kSystem.
  static Result<FlightRecorder> open(UniqueFd fd);
  FlightRecorder(FlightRecorder&&) noexcept;
  FlightRecorder& operator=(FlightRecorder&&) noexcept;
  ~FlightRecorder();

  /// Restarts the clock and forgets the timeline (a new probe of the same device).
  void start() noexcept;
  void enter_step(std::string_view step) noexcept;
  void begin_access(std::string_view reg, bool write, std::uint64_t value = 0) noexcept;
  void end_access(std::uint64_t value) noexcept;
  /// Keeps the stack of the waiting function beside the verdict.
  void keep_stack(const StackTrace& trace) noexcept;

  std::string step() const;
  /// The register of the newest access, or "".
  std::string last_register() const;
  /// The reads of one register, oldest first. When there are more than the record holds, the first and the latest are kept.
  std::vector<TimelineEntry> timeline(std::string_view reg) const;
  /// The access that was begun and has not returned, if any.
  std::optional<PendingAccess> pending() const;
  /// What keep_stack() kept. Addresses are those of the process that wrote it.
  StackTrace stack() const;
  /// The descriptor of the shared memory: hand it to a process that is to read the record.
  int fd() const noexcept { return fd_.get(); }

 private:
  FlightRecorder(UniqueFd fd, FlightRecord* record) noexcept;
  UniqueFd fd_;
  FlightRecord* record_ = nullptr;
};

}  // namespace upci::inline UPCI_VARIANT
