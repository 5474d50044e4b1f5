// SPDX-License-Identifier: Apache-2.0
#include "workqueue/latency_table.h"

#include <algorithm>
#include <bit>
#include <mutex>

#include "workqueue/requesters.h"

namespace upci::inline UPCI_VARIANT {

std::size_t Histogram::bucket_of(std::uint64_t ns) noexcept {
  if (ns < kSub) return static_cast<std::size_t>(ns);
  const auto octave = static_cast<std::size_t>(std::bit_width(ns)) - 1;  // 2 or more
  const auto sub = static_cast<std::size_t>(ns >> (octave - 2)) & (kSub - 1);
  return (octave - 1) * kSub + sub;
}

std::uint64_t Histogram::floor_of(std::size_t bucket) noexcept {
  if (bucket < kSub) return bucket;
  const std::size_t octave = bucket / kSub + 1;
  return octave > 63 ? ~std::uint64_t{0} : (kSub + bucket % kSub) << (octave - 2);
}

void Histogram::add(std::uint64_t ns) noexcept {
  counts_[bucket_of(ns)].fetch_add(1, std::memory_order_relaxed);
  std::uint64_t max = max_.load(std::memory_order_relaxed);
  while (ns > max && !max_.compare_exchange_weak(max, ns, std::memory_order_relaxed)) {}
}

void Histogram::clear() noexcept {
  for (auto& count : counts_) count.store(0, std::memory_order_relaxed);
  max_.store(0, std::memory_order_relaxed);
}

LatencySummary Histogram::summary() const {
  std::array<std::uint64_t, kBuckets> counts;
  LatencySummary result;
  for (std::size_t i = 0; i < kBuckets; i++) {
    counts[i] = counts_[i].load(std::memory_order_relaxed);
    result.count += counts[i];
    if (counts[i] == 0) continue;
    // For people, one line to each power of two.
    const std::size_t octave = i < kSub ? (i < 2 ? 0 : 1) : i / kSub + 1;
    if (result.octaves.size() <= octave) result.octaves.resize(octave + 1);
    result.octaves[octave] += counts[i];
  }
  const std::uint64_t max = max_.load(std::memory_order_relaxed);
  result.max = std::chrono::nanoseconds(max);
  // The value below which the given share of them is, as if they were spread evenly inside of a bucket.
  const auto quantile = [&](double share) {
    const double wanted = share * static_cast<double>(result.count);
    double before = 0;
    for (std::size_t i = 0; i < kBuckets; i++) {
      const auto here = static_cast<double>(counts[i]);
      if (here > 0 && before + here >= wanted) {
        const auto low = static_cast<double>(floor_of(i));
        const auto high = static_cast<double>(std::min(floor_of(i + 1), max + 1));
        const double value = low + std::max(0.0, high - low) * (wanted - before) / here;
        return std::chrono::nanoseconds(std::min(static_cast<std::uint64_t>(value), max));
      }
      before += here;
    }
    return std::chrono::nanoseconds(0);
  };
  result.p50 = quantile(0.50);
  result.p90 = quantile(0.90);
  result.p99 = quantile(0.99);
  return result;
}

LatencyTable::Entry& LatencyTable::entry(std::uintptr_t function) noexcept {
  const std::size_t first = (function >> 4) * 0x9e3779b97f4a7c15ULL >> 32;
  for (std::size_t i = 0; i < kMost - 1; i++) {
    Entry& candidate = entries_[(first + i) % (kMost - 1)];
    std::uintptr_t owner = candidate.function.load(std::memory_order_relaxed);
    if (owner == 0 && candidate.function.compare_exchange_strong(owner, function, std::memory_order_relaxed)) {
      return candidate;
    }
    if (owner == function) return candidate;
  }
  return entries_[kMost - 1];
}

std::vector<FunctionLatency> LatencyTable::snapshot() {
  std::vector<FunctionLatency> all;
  for (std::size_t i = 0; i < kMost; i++) {
    const std::uintptr_t function = entries_[i].function.load(std::memory_order_relaxed);
    FunctionLatency one;
    one.wait = entries_[i].wait.summary();
    one.run = entries_[i].run.summary();
    if (one.wait.count == 0 && one.run.count == 0) continue;
    if (i == kMost - 1) {
      one.function = "(others)";
    } else {
      std::lock_guard guard(names_lock_);
      std::string& name = names_[function];
      if (name.empty()) name = name_function_at(function);
      one.function = name;
    }
    all.push_back(std::move(one));
  }
  std::ranges::sort(all, {}, &FunctionLatency::function);
  return all;
}

void LatencyTable::clear() noexcept {
  for (std::size_t i = 0; i < kMost; i++) {
    entries_[i].wait.clear();
    entries_[i].run.clear();
  }
}

}  // namespace upci::inline UPCI_VARIANT
