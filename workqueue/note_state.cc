// SPDX-License-Identifier: Apache-2.0
// The slow side of latency.h, and the switches: what is noted of queueings and runs, while it is asked for.
#include <mutex>
#include <utility>

#include "workqueue/engine_state.h"
#include "workqueue/latency_table.h"
#include "workqueue/trace_recorder.h"

namespace upci::inline UPCI_VARIANT {

namespace {

std::uint64_t now_ns() noexcept {
  return static_cast<std::uint64_t>(platform::Clock::now().time_since_epoch().count());
}

}  // namespace

void EngineState::note_queueing(const QueueState& queue, Work& work, int req_cpu, int pool_cpu) noexcept {
  const std::uint32_t bits = notes_.bits();
  if ((bits & NoteSwitch::kRequesters) != 0) {
    requesters_.note(work);
    history_.note(*this, work);
  }
  if ((bits & (NoteSwitch::kLatency | NoteSwitch::kTrace)) == 0) return;
  const std::uint64_t now = now_ns();
  WorkAccess::queued_at(work) = now;
  TraceRecorder* recorder = recorder_.load(std::memory_order_acquire);
  if ((bits & NoteSwitch::kTrace) == 0 || recorder == nullptr) return;
  TraceEvent event{.ns = static_cast<std::int64_t>(now),
                   .queued_at = now,
                   .work = &work,
                   .function = WorkAccess::function(work).address(),
                   .thread = platform::this_thread::id(),
                   .req_cpu = req_cpu,
                   .cpu = pool_cpu,
                   .kind = TraceEvent::Kind::kQueue};
  event.name_workqueue(queue.name());
  recorder->record(event);
}

void EngineState::note_start(RunNote& note) noexcept {
  const std::uint32_t bits = notes_.bits();
  note.started_at = now_ns();
  // A time from before the notes were taken belongs to an earlier queueing of the same work, or to none.
  if (note.queued_at < measured_since_.load(std::memory_order_acquire)) note.queued_at = 0;
  LatencyTable* table = latencies_.load(std::memory_order_acquire);
  if ((bits & NoteSwitch::kLatency) != 0 && table != nullptr && note.queued_at != 0) {
    table->add_wait(note.function, note.started_at > note.queued_at ? note.started_at - note.queued_at : 0);
  }
  if ((bits & NoteSwitch::kTrace) != 0) note_run(note, TraceEvent::Kind::kStart, note.started_at);
}

void EngineState::note_end(const RunNote& note) noexcept {
  const std::uint32_t bits = notes_.bits();
  const std::uint64_t now = now_ns();
  LatencyTable* table = latencies_.load(std::memory_order_acquire);
  if ((bits & NoteSwitch::kLatency) != 0 && table != nullptr && note.queue != nullptr) {
    table->add_run(note.function, now - note.started_at);
  }
  if ((bits & NoteSwitch::kTrace) != 0) note_run(note, TraceEvent::Kind::kEnd, now);
}

void EngineState::note_run(const RunNote& note, TraceEvent::Kind kind, std::uint64_t now) noexcept {
  TraceRecorder* recorder = recorder_.load(std::memory_order_acquire);
  if (recorder == nullptr) return;
  TraceEvent event{.ns = static_cast<std::int64_t>(now),
                   .queued_at = note.queued_at,
                   .work = note.work,
                   .function = note.function,
                   .thread = platform::this_thread::id(),
                   .cpu = note.cpu,
                   .kind = kind};
  if (note.queue != nullptr) event.name_workqueue(note.queue->name());
  recorder->record(event);
}

void EngineState::note_sleep(platform::ThreadId thread, bool asleep) noexcept {
  TraceRecorder* recorder = recorder_.load(std::memory_order_acquire);
  if (recorder == nullptr) return;
  recorder->record({.ns = static_cast<std::int64_t>(now_ns()),
                    .thread = thread,
                    .kind = asleep ? TraceEvent::Kind::kSleep : TraceEvent::Kind::kWake});
}

void EngineState::measure_latency(bool on) {
  std::lock_guard guard(notes_lock_);
  if (!on) return notes_.clear(NoteSwitch::kLatency);
  if (!latency_table_) {
    latency_table_ = std::make_unique<LatencyTable>();
    latencies_.store(latency_table_.get(), std::memory_order_release);
  }
  if ((notes_.bits() & NoteSwitch::kLatency) != 0) return;
  latency_table_->clear();
  begin_notes(NoteSwitch::kLatency);
}

/// Under notes_lock_.
void EngineState::begin_notes(std::uint32_t bit) {
  // While the one kind of notes is taken, queueings leave their times already.
  if ((notes_.bits() & (NoteSwitch::kLatency | NoteSwitch::kTrace)) == 0) {
    measured_since_.store(now_ns(), std::memory_order_release);
  }
  notes_.set(bit);
}

std::vector<FunctionLatency> EngineState::latencies() const {
  LatencyTable* table = latencies_.load(std::memory_order_acquire);
  return table != nullptr ? table->snapshot() : std::vector<FunctionLatency>();
}

template <class File>
Result<void> EngineState::start_trace_in(File file) {
  std::lock_guard guard(notes_lock_);
  if (!trace_recorder_) {
    trace_recorder_ = std::make_unique<TraceRecorder>();
    recorder_.store(trace_recorder_.get(), std::memory_order_release);
  }
  if ((notes_.bits() & NoteSwitch::kTrace) != 0) {
    return fail(Errc::kState, "a trace of this engine is being recorded already", "stop it first");
  }
  UPCI_TRY(trace_recorder_->start(std::move(file)));
  begin_notes(NoteSwitch::kTrace);
  return {};
}

Result<void> EngineState::start_trace(const std::string& path) { return start_trace_in(path); }
Result<void> EngineState::start_trace(UniqueFd file) { return start_trace_in(std::move(file)); }

Result<TraceSummary> EngineState::stop_trace() {
  std::lock_guard guard(notes_lock_);
  notes_.clear(NoteSwitch::kTrace);
  if (!trace_recorder_) return fail(Errc::kState, "no trace is being recorded", "start one first");
  return trace_recorder_->stop();
}

void Engine::measure_latency(bool on) { state_->measure_latency(on); }
Result<void> Engine::start_trace(const std::string& path) { return state_->start_trace(path); }
Result<void> Engine::start_trace(UniqueFd file) { return state_->start_trace(std::move(file)); }
Result<TraceSummary> Engine::stop_trace() { return state_->stop_trace(); }

}  // namespace upci::inline UPCI_VARIANT
