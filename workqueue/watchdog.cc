// SPDX-License-Identifier: Apache-2.0
// What the overseer says of hogs and stalled pools, with evidence. Kernel: wq_cpu_intensive_report, show_cpu_pool_hog.
#include <fmt/format.h>

#include <mutex>

#include "base/stack.h"
#include "workqueue/engine_state.h"
#include "workqueue/overseer.h"
#include "workqueue/requesters.h"

namespace upci::inline UPCI_VARIANT {

namespace {

using namespace std::chrono_literals;

long long ms(platform::Nanoseconds span) { return std::chrono::duration_cast<std::chrono::milliseconds>(span).count(); }

}  // namespace

/// Rate-limited by function: the 4th time, then at powers of two. Under the pool's lock.
void Overseer::note_hog(const WorkerPool& pool, const Worker& worker, platform::Nanoseconds used) {
  HogRecord& record = hogs_[worker.current_function_.address()];
  if (++record.hits < record.report_at) return;
  record.report_at *= 2;
  found_hogs_.push_back({.function = worker.current_function_,
                         .work = worker.current_work_,
                         .thread = worker.thread_id_,
                         .hits = record.hits,
                         .where = fmt::format("item of '{}' in {}, for {} ms of CPU time",
                                              worker.current_queue()->name(), pool.thread_name(worker.id_), ms(used))});
}

/// Under no lock: naming functions takes milliseconds. The item may have ended meanwhile; then the stack shows it.
void Overseer::report_hogs() {
  for (const Hog& hog : found_hogs_) {
    std::string text =
        fmt::format("{} hogged its CPU for more than {} ms {} times, consider kWqUnbound\n  {}\n",
                    name_function(hog.function), ms(engine_.options().hog_threshold), hog.hits, hog.where);
    if (const auto stack = capture_stack_of(hog.thread, Deadline::after(100ms))) text += format_stack(*stack, "    ");
    if (const auto requester = requesters::find(engine_, hog.work)) {
      text += "  queued by\n" + format_stack(*requester, "    ");
    }
    engine_.report(Report::Kind::kHog, std::move(text));
  }
  found_hogs_.clear();
}

/// A pool whose items wait while none starts (rule 29).
void Overseer::look_for_stall(WorkerPool& pool, platform::TimePoint now) {
  const platform::Nanoseconds limit = engine_.options().watchdog;
  {
    std::unique_lock under(pool.lock());
    if (pool.stats_.executed != pool.seen_executed_ || !pool.has_waiting_items()) {
      pool.seen_executed_ = pool.stats_.executed;
      pool.restart_watchdog(now);
      return;
    }
    if (limit <= 0ns || now - pool.stall_reported_ < limit / 2) return;
    if (now - pool.stall_reported_ < limit) {
      if (pool.asked_for_ == pool.stall_reported_) return;
      pool.asked_for_ = pool.stall_reported_;
      under.unlock();
      return ask_cpu(pool);
    }
    pool.stall_reported_ = now;
  }
  report_stall(pool, now - pool.stalled_since_.load(std::memory_order_relaxed));
}

/// Half-way to a report: does the CPU run anything of ours?
void Overseer::ask_cpu(WorkerPool& pool) {
  if (pool.cpu() < 0) return;
  if (!touch_) {
    auto made = CpuTouch::create(engine_.topology());
    if (!made) return;  // then the report goes without
    touch_ = std::move(*made);
    CpuTouch* touch = touch_.get();
    (void)engine_.hotplug().setup_state_nocalls(
        "workqueue/watchdog", [touch](int cpu) -> Result<void> { return touch->follow(cpu, true), Result<void>(); },
        [touch](int cpu) { touch->follow(cpu, false); });
  }
  touch_->ask(pool.cpu());
}

void Overseer::report_stall(WorkerPool& pool, platform::Nanoseconds since) {
  struct Busy {
    std::string line;
    platform::ThreadId thread = 0;
    const Work* work = nullptr;
  };
  std::vector<Busy> busy;
  std::string text;
  {
    std::lock_guard guard(pool.lock());
    text = fmt::format("pool {} ({}) has items that have waited {} ms while none started\n", pool.number(),
                       pool.describe(), ms(since));
    text += fmt::format("  {} workers, {} idle, {} running{}\n", pool.nr_workers_,
                        pool.nr_idle_.load(std::memory_order_relaxed), pool.nr_running_.load(std::memory_order_relaxed),
                        pool.lacks_worker_ ? ", no thread for another one" : "");
    for (PoolWorkqueue* pwq : pool.pwqs_) {
      if (pwq == nullptr || !pwq->in_flight()) continue;
      text += fmt::format("  workqueue '{}': {} active of {}, inactive: {}\n", pwq->queue->name(), pwq->nr_active,
                          pwq->queue->max_active.load(std::memory_order_relaxed),
                          pwq->inactive.empty() ? "none" : name_works(*pwq));
    }
    for (Worker* bucket : pool.busy_) {
      for (Worker* worker = bucket; worker != nullptr; worker = worker->next_busy_) {
        busy.push_back({.line = fmt::format(
                            "  {} runs {}{}{}", pool.thread_name(worker->id_), name_function(worker->current_function_),
                            worker->current_pwq_ != nullptr ? " of '" + worker->current_queue()->name() + "'" : "",
                            worker->description_.empty() ? "" : " (" + worker->description_ + ")"),
                        .thread = worker->thread_id_,
                        .work = worker->current_work_});
      }
    }
  }
  if (busy.empty()) text += "  no worker runs anything\n";
  if (const std::string cpu = touch_ ? touch_->describe(pool.cpu()) : ""; !cpu.empty()) text += "  " + cpu + '\n';
  for (const Busy& worker : busy) {
    text += worker.line;
    if (const auto probe = platform::ThreadProbe::open(worker.thread)) {
      const std::string where = probe->where();
      text += !probe->asleep() ? ", running or preempted" : where.empty() ? ", blocked" : ", blocked in " + where;
    }
    text += '\n';
    if (const auto stack = capture_stack_of(worker.thread, Deadline::after(200ms)))
      text += format_stack(*stack, "    ");
    if (const auto requester = requesters::find(engine_, worker.work)) {
      text += "   queued by\n" + format_stack(*requester, "    ");
    }
  }
  engine_.report(Report::Kind::kStall, std::move(text));
}

}  // namespace upci::inline UPCI_VARIANT
