// SPDX-License-Identifier: Apache-2.0
// The engine, as a Subject: the same as the kernel's module, on upci::workqueue.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/wait.h"
#include "tests/oracle/runner/subject.h"
#include "workqueue/engine.h"
#include "workqueue/workqueue.h"

namespace upci::inline UPCI_VARIANT::oracle {

/// What bodies wait at.
///
/// Locking:  M = mutex_.
class Gate {
 public:
  /// Until the next pulse, or while closed; sleeps by the framework, so that the worker's pool knows.
  void wait();
  /// The same, keeping the CPU.
  void spin();
  /// Lets through who waits now; `open`: and whoever comes.
  void let_through(bool open);
  void close();
  /// Adds those who keep their CPU here.
  void add_spinning(std::set<platform::ThreadId>& threads);

 private:
  std::mutex mutex_;
  std::vector<Completion*> waiters_;       // M
  std::set<platform::ThreadId> spinning_;  // M
  std::atomic<unsigned> pulses_{0};        // M to write
  std::atomic<bool> open_{false};          // M to write
};

class EngineSubject;

/// A work of the script: a plain or a delayed one.
struct OracleWork {
  OracleWork(EngineSubject& owner, std::string given, bool with_timer)
      : subject(owner),
        name(std::move(given)),
        delayed(with_timer),
        timed(this, &OracleWork::body),
        plain(this, &OracleWork::body) {}
  void body(Work& work);
  Work& work() { return delayed ? timed.work() : plain; }

  EngineSubject& subject;
  const std::string name;
  const bool delayed;
  std::vector<std::string> steps;
  std::atomic<int> runs{0};
  DelayedWork timed;
  Work plain;
};

/// Locking:  M = mutex_ (entries only come while the session lasts), L = log_mutex_.
class EngineSubject final : public Subject {
 public:
  explicit EngineSubject(std::unique_ptr<Engine> engine) : engine_(std::move(engine)) {}
  ~EngineSubject() override;

  Result<void> command(const std::string& text) override;
  std::string read_log() override;
  std::set<platform::ThreadId> spinning() override;
  void quit() override;

  /// For bodies.
  Result<void> execute(const std::string& actor, OracleWork* self, const std::string& text);
  void log(const std::string& line);
  bool stopping() const { return stopping_.load(); }
  Engine& engine() { return *engine_; }

 private:
  Result<void> new_queue(const std::vector<std::string>& words);
  Result<void> new_work(std::string_view text, bool delayed);
  friend struct EngineCall;
  Gate& gate(const std::string& name);

  std::unique_ptr<Engine> engine_;
  std::mutex mutex_;
  std::map<std::string, WorkqueuePtr> queues_;                // M
  std::map<std::string, std::unique_ptr<OracleWork>> works_;  // M
  std::map<std::string, std::unique_ptr<Gate>> gates_;        // M
  std::mutex log_mutex_;
  std::string log_;  // L
  std::atomic<bool> stopping_{false};
};

}  // namespace upci::inline UPCI_VARIANT::oracle
