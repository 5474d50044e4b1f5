// SPDX-License-Identifier: Apache-2.0
// A script: workqueues, works and lines of operations, as tests/oracle/README.md defines them.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace upci::inline UPCI_VARIANT::oracle {

/// The time that `soon` usually stands for.
inline constexpr int kSoonMs = 100;
inline constexpr int kLongMs = 3600 * 1000;
inline constexpr int kMaxThreads = 4;

/// What an operation gives.
enum class Gives { kNothing, kBool, kBusy };

/// One operation of the language.
struct OpKind {
  std::string_view word;
  std::string_view takes;  // w work, d delayed work, q queue, g gate, n number, t time; in this order, a blank between
  Gives gives = Gives::kNothing;
  bool body_only = false;
};

/// The operation of that name, or nullptr.
const OpKind* find_op(std::string_view word) noexcept;

/// One operation with what it is done to.
struct Op {
  const OpKind* kind = nullptr;
  std::string text;        // as it stands in the script
  std::string command;     // as a Subject wants it: times in milliseconds
  std::string work = {};   // the work that it names, if any
  std::string queue = {};  // the queue that it names, if any
  int delay_ms = -1;       // the time that it names, if any

  /// Whether it arms a timer that can go off in the course of the script.
  bool arms() const noexcept { return delay_ms > 0 && delay_ms < kLongMs; }
};

struct QueueSpec {
  std::string name;
  int max_active = 0;  // 0: the default
  bool ordered = false;
  bool unbound = false;
  bool highpri = false;
};

struct WorkSpec {
  std::string name;
  bool delayed = false;
  std::vector<Op> body = {};
};

/// A line that does something: a definition, an operation of a thread, or `elapse`.
struct Line {
  enum class Kind { kDefinition, kOp, kElapse };
  Kind kind = Kind::kDefinition;
  std::string text;  // as it stands in the script, blanks made single
  int thread = 0;
  Op op;                // kOp
  std::string command;  // kDefinition: as a Subject wants it
};

struct Script {
  std::vector<QueueSpec> queues;
  std::vector<WorkSpec> works;
  std::vector<Line> lines;
  int threads = 0;        // the highest thread number
  int soon_ms = kSoonMs;  // what `soon` stands for

  /// After this a timer that was armed for `soon` has gone off for sure.
  std::chrono::milliseconds elapse() const noexcept { return std::chrono::milliseconds(soon_ms + 40); }

  const QueueSpec* queue(std::string_view name) const noexcept;
  const WorkSpec* work(std::string_view name) const noexcept;
};

/// Reads a script, or a transcript: what a transcript adds (results, events) is passed over.
/// `soon_ms`: what `soon` is to stand for. Errors: kInvalid, with the number of the line.
Result<Script> parse_script(std::string_view text, int soon_ms = kSoonMs);

/// The words of a text, split at blanks.
std::vector<std::string> words_of(std::string_view text);

}  // namespace upci::inline UPCI_VARIANT::oracle
