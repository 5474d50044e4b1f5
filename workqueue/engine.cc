// SPDX-License-Identifier: Apache-2.0
// An engine's making and ending, and what it tells about itself.
#include "workqueue/engine.h"

#include <mutex>

#include "base/log.h"
#include "workqueue/engine_state.h"

namespace upci::inline UPCI_VARIANT {

Engine::Engine(std::shared_ptr<EngineState> state) noexcept : state_(std::move(state)) {}

Result<std::unique_ptr<Engine>> Engine::create(Options options) {
  if (options.topology.cpus().empty()) {
    return fail(Errc::kInvalid, "an engine without CPUs", "give it Topology::detect() or Topology::synthetic()");
  }
  // The handle first: if a pool cannot be made, its destructor ends those that were.
  std::unique_ptr<Engine> engine(new Engine(std::make_shared<EngineState>(std::move(options))));
  UPCI_TRY(engine->state_->create_pools());
  return engine;
}

Result<std::unique_ptr<Engine>> Engine::create() {
  UPCI_TRY_ASSIGN(Topology topology, Topology::detect());
  return create(Options{.topology = std::move(topology)});
}

Engine::~Engine() {
  const auto& pools = state_->pools();
  for (const auto& pool : pools) pool->stop();
  const Deadline deadline = Deadline::after(state_->options().teardown);
  std::size_t stuck = 0;
  for (const auto& pool : pools) stuck += pool->join(deadline);
  if (stuck != 0) log::warn("engine ended while {} item(s) still ran; their threads go on without it", stuck);
}

const Topology& Engine::topology() const noexcept { return state_->topology(); }
Workqueue& Engine::system_wq() noexcept { return state_->system_wq(); }
Workqueue& Engine::system_highpri_wq() noexcept { return state_->system_highpri_wq(); }
Workqueue& Engine::system_long_wq() noexcept { return state_->system_long_wq(); }

Result<void> Engine::add_event_source(EventSource& source, int fd, int cpu) {
  WorkerPool* pool = state_->pool_for(cpu, state_->system_wq());
  if (pool == nullptr)
    return fail(Errc::kInvalid, "event source for CPU " + std::to_string(cpu) + ", which does not exist");
  return pool->add_source(source, fd);
}

void Engine::remove_event_source(EventSource& source) noexcept {
  if (source.pool_ != nullptr) source.pool_->remove_source(source);
}

bool Engine::write_off(const Work& work) noexcept {
  for (const auto& pool : state_->pools()) {
    std::lock_guard guard(pool->lock());
    if (Worker* worker = pool->find_worker_executing(work)) {
      pool->write_off(*worker);
      return true;
    }
  }
  return false;
}

platform::ThreadId Engine::thread_running(const Work& work) noexcept {
  for (const auto& pool : state_->pools()) {
    std::lock_guard guard(pool->lock());
    if (const Worker* worker = pool->find_worker_executing(work)) return WorkerPool::thread_of(*worker);
  }
  return 0;
}

PoolStats Engine::stats(int cpu) const {
  WorkerPool* pool = state_->pool_for(cpu, state_->system_wq());
  return pool != nullptr ? pool->stats() : PoolStats{};
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
