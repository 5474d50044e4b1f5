// SPDX-License-Identifier: Apache-2.0
// Who is asked: the kernel or the engine. Both take the same commands and keep the same log.
#pragma once

#include <memory>
#include <set>
#include <string>

#include "base/error.h"
#include "base/platform.h"

namespace upci::inline UPCI_VARIANT::oracle {

/// One session with a workqueue implementation. The commands:
///
///   wq NAME MAX_ACTIVE FLAG...       work NAME STEP; STEP...       dwork NAME STEP; STEP...       ACTOR OPERATION
///
/// The log, in an order in which things were:
///
///   start WORK CPU · end WORK · call ACTOR OPERATION · return ACTOR VALUE · error ACTOR STEP
class Subject {
 public:
  Subject() = default;
  Subject(const Subject&) = delete;
  Subject& operator=(const Subject&) = delete;
  virtual ~Subject() = default;

  /// Does a command; blocks as long as what it calls does. Any number of threads.
  virtual Result<void> command(const std::string& text) = 0;
  /// What the log has gained since the last call: whole lines. One thread.
  virtual std::string read_log() = 0;
  /// The threads of this process that keep their CPU at a gate: they have come to where they wait.
  virtual std::set<platform::ThreadId> spinning() { return {}; }
  /// Whether its calls wait in state D. Elsewhere that state is a page on its way from the disk, and passes by itself.
  virtual bool waits_uninterruptibly() const { return false; }
  /// Opens all gates, thaws and cancels, so that every command that still blocks comes to its end.
  virtual void quit() = 0;
};

/// The kernel, by its module's device. Errors: kUnavailable (no module), kSystem.
Result<std::unique_ptr<Subject>> open_kernel(const std::string& device);
/// A fresh engine of this library. Errors: those of Engine::create.
Result<std::unique_ptr<Subject>> make_engine_subject();

}  // namespace upci::inline UPCI_VARIANT::oracle
