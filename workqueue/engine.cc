// SPDX-License-Identifier: Apache-2.0
// An engine's making and ending, and what it tells about itself.
#include "workqueue/engine.h"

#include <fmt/format.h>

#include <mutex>

#include "base/log.h"
#include "workqueue/control_server.h"
#include "workqueue/engine_state.h"
#include "workqueue/trace_recorder.h"

namespace upci::inline UPCI_VARIANT {

namespace {

/// The best tier that works here; `why` says what speaks against a better one, and what to do about it.
BlockingTier choose_tier(std::string& why) {
  const auto works = platform::SwitchWatch::self_test();
  if (works) return BlockingTier::kSwitches;
  why = works.error().message();
  if (const std::string& advice = works.error().advice; !advice.empty()) why += "; " + advice;
  return BlockingTier::kSampling;
}

}  // namespace

std::string_view to_string(BlockingTier tier) noexcept {
  switch (tier) {
    case BlockingTier::kAuto: return "auto";
    case BlockingTier::kFramework: return "framework";
    case BlockingTier::kSwitches: return "switches";
    case BlockingTier::kSampling: return "sampling";
  }
  return "unknown";
}

Engine::Engine(std::shared_ptr<EngineState> state) noexcept : state_(std::move(state)) {}

Result<std::unique_ptr<Engine>> Engine::create(Options options) {
  if (options.topology.cpus().empty()) {
    return fail(Errc::kInvalid, "an engine without CPUs", "give it Topology::detect() or Topology::synthetic()");
  }
  std::string note;
  if (options.blocking == BlockingTier::kAuto) options.blocking = choose_tier(note);
  // The handle first: if a pool cannot be made, its destructor ends those that were.
  std::unique_ptr<Engine> engine(new Engine(std::make_shared<EngineState>(std::move(options), std::move(note))));
  UPCI_TRY(engine->state_->start());
  if (const std::string& trace = engine->state_->options().trace; !trace.empty()) {
    UPCI_TRY(engine->start_trace(trace));
  }
  if (engine->state_->options().control) {
    if (const auto served = engine->serve_control(); !served) log::warn("{}", served.error().message());
  }
  return engine;
}

Result<std::unique_ptr<Engine>> Engine::create() {
  UPCI_TRY_ASSIGN(Topology topology, Topology::detect());
  return create(Options{.topology = std::move(topology)});
}

Result<void> Engine::serve_control() {
  if (control_) return fail(Errc::kState, "this engine serves a control socket already");
  UPCI_TRY_ASSIGN(control_, ControlServer::start(*this, *state_));
  return {};
}

Engine::~Engine() {
  control_.reset();
  const std::size_t stuck = state_->stop(Deadline::after(state_->options().teardown));
  if (stuck != 0) log::warn("engine ended while {} item(s) still ran; their threads go on without it", stuck);
  if ((state_->notes().bits() & NoteSwitch::kTrace) == 0) return;
  if (const auto written = state_->stop_trace(); !written) log::warn("{}", written.error().message());
}

const Topology& Engine::topology() const noexcept { return state_->topology(); }
Workqueue& Engine::system_wq() noexcept { return state_->system(0); }
Workqueue& Engine::system_highpri_wq() noexcept { return state_->system(1); }
Workqueue& Engine::system_long_wq() noexcept { return state_->system(2); }
Workqueue& Engine::system_unbound_wq() noexcept { return state_->system(3); }
Workqueue& Engine::system_freezable_wq() noexcept { return state_->system(4); }
Workqueue& Engine::system_power_efficient_wq() noexcept { return state_->system(5); }
Workqueue& Engine::system_freezable_power_efficient_wq() noexcept { return state_->system(6); }

Workqueue& Engine::system_bh_wq() noexcept {
  state_->want_bh();
  return state_->system(7);
}
Workqueue& Engine::system_bh_highpri_wq() noexcept {
  state_->want_bh();
  return state_->system(8);
}

HotplugCallbacks& Engine::hotplug() noexcept { return state_->hotplug(); }

BlockingTier Engine::blocking_tier() const noexcept { return state_->options().blocking; }
const std::string& Engine::blocking_note() const noexcept { return state_->blocking_note(); }

Result<void> Engine::add_event_source(EventSource& source, int fd, int cpu) {
  const int index = state_->cpu_index(cpu);
  if (index < 0) return fail(Errc::kInvalid, fmt::format("event source for CPU {}, which does not exist", cpu));
  return state_->percpu_pool(index, false).add_source(source, fd);
}

void Engine::remove_event_source(EventSource& source) noexcept {
  if (source.pool_ != nullptr) source.pool_->remove_source(source);
}

bool Engine::write_off(const Work& work) noexcept {
  bool found = false;
  state_->for_each_pool([&](WorkerPool& pool) {
    std::lock_guard guard(pool.lock());
    if (Worker* worker = pool.find_worker_executing(work); worker != nullptr && !found) {
      pool.write_off(*worker);
      found = true;
    }
  });
  return found;
}

platform::ThreadId Engine::thread_running(const Work& work) noexcept {
  platform::ThreadId thread = 0;
  state_->for_each_pool([&](WorkerPool& pool) {
    std::lock_guard guard(pool.lock());
    if (const Worker* worker = pool.find_worker_executing(work)) thread = WorkerPool::thread_of(*worker);
  });
  return thread;
}

unsigned Engine::work_busy(const Work& work) noexcept {
  return (work.is_pending() ? kWorkBusyPending : 0U) | (thread_running(work) != 0 ? kWorkBusyRunning : 0U);
}

bool Engine::workqueue_congested(int cpu, Workqueue& wq) noexcept {
  QueueState* queue = state_->checked(wq, "workqueue_congested");
  const int index = state_->cpu_index(cpu == kAnyCpu ? state_->local_cpu() : cpu);
  if (queue == nullptr || index < 0) return false;
  const PoolWorkqueue* pwq = queue->by_cpu[static_cast<std::size_t>(index)].load(std::memory_order_acquire);
  if (pwq == nullptr) return false;
  std::lock_guard guard(pwq->pool->lock());
  pwq->pool->take_inbox();
  pwq->pool->kick();
  return !pwq->inactive.empty();
}

void Engine::set_worker_desc(std::string text) noexcept {
  if (Worker* worker = Worker::current()) worker->describe(std::move(text));
}

PoolStats Engine::stats(int cpu) const {
  const int index = state_->cpu_index(cpu);
  return index >= 0 ? state_->percpu_pool(index, false).stats() : PoolStats{};
}

int Engine::current_worker_cpu() const noexcept {
  const Worker* worker = Worker::current();
  return worker != nullptr && &worker->pool().engine() == state_.get() ? worker->pool().cpu() : -1;
}

const Work* Engine::current_work() const noexcept {
  const Worker* worker = Worker::current();
  return worker != nullptr && &worker->pool().engine() == state_.get() ? worker->current_work() : nullptr;
}

}  // namespace upci::inline UPCI_VARIANT
