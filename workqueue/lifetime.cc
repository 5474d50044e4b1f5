// SPDX-License-Identifier: Apache-2.0
#include "workqueue/lifetime.h"

#if defined(UPCI_CHECK_LIFETIME)
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "workqueue/engine_state.h"
#include "workqueue/grab.h"

namespace upci::inline UPCI_VARIANT {

namespace {

using namespace std::chrono_literals;

/// What a pending work waits for.
enum class Wait : std::uint8_t { kNone, kTurn, kTimer, kReaders };

/// A pending or running work, or both.
struct Entry {
  EngineState* engine = nullptr;
  Wait wait = Wait::kNone;
  DelayedWork* timer = nullptr;    // Wait::kTimer
  const Worker* runner = nullptr;  // running; only compared
  platform::ThreadId thread = 0;   // the runner's
  bool handed_over = false;        // running: its function has said so
  WorkFunction function{nullptr};
  StackTrace queued_by = {};
};

#if defined(UPCI_SIM)
// Fibers change at scheduling points only, and there is none in here: a lock would only add some.
struct ShardLock {
  void lock() noexcept {}
  void unlock() noexcept {}
};
#else
using ShardLock = platform::Mutex;
#endif

/// T = lock.
struct alignas(64) Shard {
  ShardLock lock;
  std::unordered_map<const void*, Entry> works;  // T
};

constexpr std::size_t kShards = 64;

// Never destroyed: works of static storage may go after it.
std::array<Shard, kShards>& table() {
  static auto* shards = new std::array<Shard, kShards>;
  return *shards;
}
Shard& shard_of(const void* work) { return table()[(reinterpret_cast<std::uintptr_t>(work) >> 6) % kShards]; }

/// The entry of a work that may not go now, taken out of the table; none for one that may. Waits for a function that is
/// about to return.
std::optional<Entry> take_objection(const void* work) noexcept {
  std::optional<platform::TimePoint> give_up;  // the clock is not read for a work that nobody knows
  bool expired = false;
  int yields = 100;  // first: the function's last instructions take no time
  Shard& shard = shard_of(work);
  for (platform::Nanoseconds pause = 20us;;) {
    {
      std::lock_guard guard(shard.lock);
      const auto found = shard.works.find(work);
      if (found == shard.works.end()) return std::nullopt;
      const Entry& entry = found->second;
      const bool may_go = entry.runner == nullptr || entry.runner == Worker::current() || entry.handed_over;
      if (entry.wait == Wait::kNone && may_go) {
        shard.works.erase(found);
        return std::nullopt;
      }
      if (entry.wait != Wait::kNone || expired) {
        std::optional<Entry> taken(entry);
        shard.works.erase(found);
        if (may_go) taken->runner = nullptr;
        return taken;
      }
    }
    // The clock is a scheduling point, so not above. Not a wait that a pool is told of: an item that destroys another one's
    // work holds up only itself.
    const platform::TimePoint now = platform::Clock::now();
    if (!give_up) give_up = now + lifetime::kLastWords;
    expired = now >= *give_up;
    if (expired) continue;
    if (yields-- > 0) {
      platform::this_thread::yield();
      continue;
    }
    platform::this_thread::sleep_until(now + pause);
    pause = std::min<platform::Nanoseconds>(2 * pause, 5ms);
  }
}

std::string_view describe(Wait wait) noexcept {
  switch (wait) {
    case Wait::kNone: return "was running";
    case Wait::kTurn: return "was pending";
    case Wait::kTimer: return "was pending on its timer";
    case Wait::kReaders: return "was waiting for a grace period";
  }
  return "";
}

/// With a sink the program goes on; else it ends here, with the report.
void tell(const EngineState& engine, const Report& report) noexcept {
  if (engine.options().report) return engine.report(report);
  std::fputs(fmt::format("workqueue: {}\n", report.to_text()).c_str(), stderr);
  std::abort();
}

/// `work` still has its old content, unless somebody has written over it. Inline, so that the stack begins where it should.
[[gnu::always_inline]] inline void object(Work& work, const char* what) noexcept {
  const std::optional<Entry> entry = take_objection(&work);
  if (!entry) return;
  EngineState& engine = *entry->engine;
  const bool running = entry->runner != nullptr;
  const bool can_cancel = (entry->wait == Wait::kTurn || entry->wait == Wait::kTimer) &&
                          (WorkAccess::data(work).load(std::memory_order_relaxed) & WorkAccess::kPending) != 0;
  Report report{.kind = Report::Kind::kLifetime, .caller = capture_stack(1)};
  report.text = fmt::format("a work was {} while it {}{}: {}; {}", what, describe(entry->wait),
                            running && entry->wait != Wait::kNone ? " and running" : "", name_function(entry->function),
                            can_cancel ? "it is cancelled" : "whoever comes to it will find what is there then");
  if (engine.keeps_history()) {
    report.text += "\n  what can queue it, in the order to stop it:\n" + to_text(engine.history().find(work));
  }
  if (entry->queued_by.depth != 0) report.evidence.push_back({.what = "queued by", .stack = entry->queued_by});
  if (running) {
    if (const auto stack = capture_stack_of(entry->thread, Deadline::after(200ms))) {
      report.evidence.push_back({.what = fmt::format("thread {} runs it", entry->thread), .stack = *stack});
    }
  }
  tell(engine, report);
  if (can_cancel) (void)take_back(engine, work, entry->timer);
}

/// `wait` is what it waits for now.
void note_pending(EngineState& engine, Work& work, Wait wait, DelayedWork* timer, const StackTrace& stack) noexcept {
  Shard& shard = shard_of(&work);
  std::lock_guard guard(shard.lock);
  Entry& entry = shard.works[&work];
  // A timer that has expired, and a grace period that is over, hand on what they had: whoever began it is to blame.
  const bool handed_on = wait == Wait::kTurn && (entry.wait == Wait::kTimer || entry.wait == Wait::kReaders);
  if (!handed_on) entry.queued_by = stack;
  entry.engine = &engine;
  entry.wait = wait;
  entry.timer = timer;
  entry.function = WorkAccess::function(work);
}

}  // namespace

void lifetime::note_queued(EngineState& engine, Work& work, DelayedWork* timer) noexcept {
  note_pending(engine, work, timer != nullptr ? Wait::kTimer : Wait::kTurn, timer, capture_stack(1));
}

void lifetime::note_awaits_readers(EngineState& engine, Work& work) noexcept {
  note_pending(engine, work, Wait::kReaders, nullptr, capture_stack(1));
}

void lifetime::note_idle(const Work& work) noexcept {
  Shard& shard = shard_of(&work);
  std::lock_guard guard(shard.lock);
  const auto found = shard.works.find(&work);
  if (found == shard.works.end()) return;
  found->second.wait = Wait::kNone;
  if (found->second.runner == nullptr) shard.works.erase(found);
}

void lifetime::note_running(const Work& work, const Worker& worker) noexcept {
  Shard& shard = shard_of(&work);
  std::lock_guard guard(shard.lock);
  const auto found = shard.works.find(&work);
  if (found == shard.works.end()) return;
  found->second.wait = Wait::kNone;
  found->second.handed_over = false;
  found->second.runner = &worker;
  found->second.thread = platform::this_thread::id();
}

void lifetime::note_ended(const Work* work, const Worker& worker) noexcept {
  Shard& shard = shard_of(work);
  std::lock_guard guard(shard.lock);
  const auto found = shard.works.find(work);
  if (found == shard.works.end() || found->second.runner != &worker) return;
  found->second.runner = nullptr;
  if (found->second.wait == Wait::kNone) shard.works.erase(found);
}

void lifetime::hand_over(const Work& work) noexcept {
  Shard& shard = shard_of(&work);
  std::lock_guard guard(shard.lock);
  const auto found = shard.works.find(&work);
  if (found != shard.works.end()) found->second.handed_over = true;
}

void lifetime::forget(const EngineState& engine) noexcept {
  for (Shard& shard : table()) {
    std::lock_guard guard(shard.lock);
    std::erase_if(shard.works, [&engine](const auto& work) { return work.second.engine == &engine; });
  }
}

[[gnu::noinline]] void detail::work_is_made(void* at) noexcept {
  // The first thing that a constructor does: what was there before is still as it was.
  object(*static_cast<Work*>(at), "made anew");
}
[[gnu::noinline]] void detail::work_goes(Work& work) noexcept { object(work, "destroyed"); }

}  // namespace upci::inline UPCI_VARIANT
#endif
