// SPDX-License-Identifier: Apache-2.0
// work_on_cpu: a function run by a worker of a given CPU, waited for, with or without a deadline. Kernel: work_on_cpu.
#include <fmt/format.h>

#include "base/wait.h"
#include "workqueue/engine_state.h"
#include "workqueue/lifetime.h"
#include "workqueue/untracked_waits.h"

namespace upci::inline UPCI_VARIANT {

namespace {

/// The call, on the heap: shared by the caller and the worker, since either may be the last to need it.
struct CpuCall : Work {
  explicit CpuCall(std::function<void()> function) : Work(&run), body(std::move(function)) {}

  static void run(Work& work) {
    auto& call = static_cast<CpuCall&>(work);
    const std::shared_ptr<CpuCall> keep = std::move(call.self);
    {
      // The class of the call is this function, whatever the body is: its waits would be taken for one another's.
      const UntrackedWaits all_sorts;
      call.body();
    }
    lifetime::hand_over(work);
    call.body = nullptr;  // what it owns goes before the caller goes on
    call.done.complete();
  }

  std::function<void()> body;     // the worker's once queued
  Completion done;                // its own rules
  std::shared_ptr<CpuCall> self;  // the queue's reference; the worker's once it runs, the canceller's once taken back
};

}  // namespace

Result<void> Engine::run_on_cpu(int cpu, Deadline deadline, std::function<void()> body) {
  if (state_->cpu_index(cpu) < 0) {
    return fail(Errc::kInvalid, fmt::format("work_on_cpu on CPU {}, which does not exist", cpu));
  }
  auto call = std::make_shared<CpuCall>(std::move(body));
  call->self = call;
  queue_work_on(cpu, state_->system(0), *call);
  const UntrackedWaits all_sorts;
  if (call->done.wait(deadline)) return {};
  if (cancel_work(*call)) {
    call->self.reset();
    return fail(Errc::kTimeout, fmt::format("work_on_cpu on CPU {}: not started within the deadline", cpu));
  }
  // Running, or just done: then it is not found, and nothing is written off.
  write_off(*call);
  if (call->done.is_complete()) return {};
  return fail(Errc::kTimeout, fmt::format("work_on_cpu on CPU {}: not finished within the deadline", cpu));
}

void Engine::schedule_on_each_cpu(std::function<void()> function) {
  struct Call : Work {
    Call() noexcept : Work(&run) {}
    static void run(Work& work) {
      const UntrackedWaits all_sorts;  // as above
      (*static_cast<Call&>(work).function)();
    }
    const std::function<void()>* function = nullptr;
  };
  const auto& cpus = state_->topology().cpus();
  std::vector<std::unique_ptr<Call>> calls;
  for (const Topology::Cpu& cpu : cpus) {
    if (!state_->is_online(cpu.id)) continue;
    calls.push_back(std::make_unique<Call>());
    calls.back()->function = &function;
    queue_work_on(cpu.id, state_->system(0), *calls.back());
  }
  const UntrackedWaits all_sorts;
  for (const auto& call : calls) state_->flush(*call, false);
}

}  // namespace upci::inline UPCI_VARIANT
