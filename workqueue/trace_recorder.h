// SPDX-License-Identifier: Apache-2.0
// Records what an engine does and writes it as a trace that Perfetto (and chrome://tracing) reads: a track for each thread,
// a slice for each run, an arrow from each queueing to the run that it led to. Kernel: ftrace's workqueue events.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/platform.h"
#include "base/unique_fd.h"
#include "workqueue/work.h"

namespace upci::inline UPCI_VARIANT {

struct TraceEvent {
  enum class Kind : std::uint8_t { kQueue, kStart, kEnd, kSleep, kWake };
  std::int64_t ns = 0;            // on the platform's clock
  std::uint64_t queued_at = 0;    // kQueue, kStart: names, with the work, the queueing that the run belongs to
  const Work* work = nullptr;     // kQueue, kStart, kEnd; only its address
  std::uintptr_t function = 0;    // the same
  platform::ThreadId thread = 0;  // whose track it is on
  std::int32_t req_cpu = -1;      // kQueue
  std::int32_t cpu = -1;          // kQueue, kStart: of the pool, or -1
  Kind kind = Kind::kQueue;
  std::array<char, 32> workqueue{};  // its name, cut; empty: a flush barrier

  void name_workqueue(std::string_view name) noexcept;
};

/// What a trace holds.
struct TraceSummary {
  std::uint64_t events = 0;
  std::uint64_t dropped = 0;  // beyond what a trace may hold
};

/// All members are thread-safe. Threads write into shards by their id, so that two seldom meet. L = lock_; S = the shard's lock.
class TraceRecorder {
 public:
  static constexpr std::size_t kMostEvents = 1'000'000;  // 80 MB

  /// From now on record() keeps what it is given. Errors: kState (it records already).
  Result<void> start(UniqueFd file);
  /// The same, into a file, which is made or emptied. Errors: also kSystem.
  Result<void> start(const std::string& path);
  /// Writes the trace and forgets it. Errors: kState (it does not record), kSystem (writing failed).
  Result<TraceSummary> stop();
  /// Never blocks for long, never fails: what finds no place is counted.
  void record(const TraceEvent& event) noexcept;

 private:
  static constexpr std::size_t kShards = 64;
  struct alignas(64) Shard {
    platform::Mutex lock;
    bool open = false;                                  // S
    std::deque<TraceEvent> events;                      // S
    std::map<platform::ThreadId, std::string> threads;  // S: names of those that recorded something themselves
  };

  platform::Mutex lock_;
  UniqueFd file_;                              // L: valid while it records
  std::int64_t started_ns_ = 0;                // L
  platform::Atomic<std::size_t> recorded_{0};  // A
  platform::Atomic<std::size_t> dropped_{0};   // A
  std::array<Shard, kShards> shards_;
};

/// What stop() writes.
struct Trace {
  std::vector<TraceEvent> events = {};  // of each thread in the order of time
  std::map<platform::ThreadId, std::string> threads = {};
  std::int64_t started_ns = 0;
  std::uint64_t dropped = 0;
};
/// Chrome's trace event format, as JSON. Errors: kSystem.
Result<void> write_trace(int fd, Trace trace);

}  // namespace upci::inline UPCI_VARIANT
