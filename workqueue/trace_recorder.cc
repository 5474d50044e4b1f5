// SPDX-License-Identifier: Apache-2.0
#include "workqueue/trace_recorder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>

#include <algorithm>
#include <mutex>
#include <utility>

namespace upci::inline UPCI_VARIANT {

namespace {

/// As the kernel shows it, which is how other tools name the thread.
std::string own_name() {
  char name[17] = {};
  return ::prctl(PR_GET_NAME, name) == 0 ? std::string(name) : std::string();
}

}  // namespace

void TraceEvent::name_workqueue(std::string_view name) noexcept {
  const std::size_t length = std::min(name.size(), workqueue.size() - 1);
  std::copy_n(name.begin(), length, workqueue.begin());
  workqueue[length] = '\0';
}

Result<void> TraceRecorder::start(const std::string& path) {
  UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!file) return fail_errno(fmt::format("opening the trace file {}", path), "name a file that can be written");
  return start(std::move(file));
}

Result<void> TraceRecorder::start(UniqueFd file) {
  std::lock_guard guard(lock_);
  if (file_) return fail(Errc::kState, "a trace is being recorded already", "stop it first");
  file_ = std::move(file);
  recorded_.store(0, std::memory_order_relaxed);
  dropped_.store(0, std::memory_order_relaxed);
  started_ns_ = platform::Clock::now().time_since_epoch().count();
  for (Shard& shard : shards_) {
    std::lock_guard shard_guard(shard.lock);
    shard.open = true;
  }
  return {};
}

void TraceRecorder::record(const TraceEvent& event) noexcept {
  const platform::ThreadId self = platform::this_thread::id();
  Shard& shard = shards_[static_cast<std::size_t>(static_cast<unsigned>(self)) % kShards];
  // Counted before it is kept, so that all shards together stay below the limit.
  if (recorded_.fetch_add(1, std::memory_order_relaxed) >= kMostEvents) {
    dropped_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  std::lock_guard guard(shard.lock);
  if (!shard.open) return;
  try {
    if (event.thread == self && !shard.threads.contains(self)) shard.threads[self] = own_name();
    shard.events.push_back(event);
  } catch (const std::bad_alloc&) { dropped_.fetch_add(1, std::memory_order_relaxed); }
}

Result<TraceSummary> TraceRecorder::stop() {
  std::lock_guard guard(lock_);
  if (!file_) return fail(Errc::kState, "no trace is being recorded", "start one first");
  const UniqueFd file = std::move(file_);
  Trace trace;
  trace.started_ns = started_ns_;
  for (Shard& shard : shards_) {
    std::deque<TraceEvent> events;
    {
      std::lock_guard shard_guard(shard.lock);
      shard.open = false;
      events.swap(shard.events);
      trace.threads.merge(shard.threads);
      shard.threads.clear();
    }
    trace.events.insert(trace.events.end(), events.begin(), events.end());
  }
  trace.dropped = dropped_.load(std::memory_order_relaxed);
  const TraceSummary summary{.events = trace.events.size(), .dropped = trace.dropped};
  UPCI_TRY(write_trace(file.get(), std::move(trace)));
  return summary;
}

}  // namespace upci::inline UPCI_VARIANT
