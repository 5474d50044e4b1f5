// SPDX-License-Identifier: Apache-2.0
// How long items wait and run, by function: histograms that any number of threads fill at once.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/platform.h"
#include "workqueue/snapshot.h"

namespace upci::inline UPCI_VARIANT {

/// Counts durations in buckets of four to each power of two. All members are thread-safe; a snapshot taken while somebody
/// adds may miss the newest. A = atomic.
class Histogram {
 public:
  void add(std::uint64_t ns) noexcept;
  LatencySummary summary() const;
  void clear() noexcept;

 private:
  static constexpr std::size_t kSub = 4;
  static constexpr std::size_t kBuckets = 64 * kSub;
  static std::size_t bucket_of(std::uint64_t ns) noexcept;
  static std::uint64_t floor_of(std::size_t bucket) noexcept;

  std::array<platform::Atomic<std::uint64_t>, kBuckets> counts_{};  // A
  platform::Atomic<std::uint64_t> max_{0};                          // A
};

/// Bounded: functions beyond the first kMost - 1 share one entry. C = const; A = atomic; N = names_lock_.
class LatencyTable {
 public:
  LatencyTable() : entries_(std::make_unique<Entry[]>(kMost)) {}
  void add_wait(std::uintptr_t function, std::uint64_t ns) noexcept { entry(function).wait.add(ns); }
  void add_run(std::uintptr_t function, std::uint64_t ns) noexcept { entry(function).run.add(ns); }
  /// Slow where a function is named for the first time.
  std::vector<FunctionLatency> snapshot();
  /// Begins anew.
  void clear() noexcept;

 private:
  static constexpr std::size_t kMost = 128;
  struct Entry {
    platform::Atomic<std::uintptr_t> function{0};  // A: 0: free; set once
    Histogram wait;
    Histogram run;
  };
  Entry& entry(std::uintptr_t function) noexcept;

  std::unique_ptr<Entry[]> entries_;             // C; the last one is for all that found no place
  platform::Mutex names_lock_;                   // names_
  std::map<std::uintptr_t, std::string> names_;  // N
};

}  // namespace upci::inline UPCI_VARIANT
