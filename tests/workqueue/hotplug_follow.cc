// SPDX-License-Identifier: Apache-2.0
// Follows the CPUs that this process may run on: per-CPU threads, hotplug callbacks and the watcher, for the guest
// laboratory, where CPUs really go and come back. Takes orders on descriptor 0, one a line, and answers each with a line:
//   poll    what changed since the last time: "1-" CPU 1 went, "1+" it came, "1+!" its startup failed
//   look    for each CPU "1:parked" or "1:3", the OS CPU on which its thread runs a function now
//   quit
#include <algorithm>
#include <array>
#include <iostream>
#include <string>
#include <vector>

#include "base/wait.h"
#include "workqueue/hotplug_state.h"
#include "workqueue/percpu_thread.h"
#include "workqueue/topology.h"

namespace {

using namespace upci;

constexpr std::chrono::seconds kPatience{20};

/// Asks each thread where it runs.
class Where {
 public:
  explicit Where(std::size_t cpus) : asked_(cpus), answer_(cpus) {}
  PerCpuThread::Callbacks callbacks() {
    return {.thread_should_run = [this](int cpu) { return asked(cpu).load() != 0; },
            .thread_fn =
                [this](int cpu) {
                  answer(cpu).store(platform::this_thread::current_cpu());
                  asked(cpu).store(0);
                }};
  }
  std::string ask(PerCpuThread& threads, int cpu) {
    if (threads.is_parked(cpu)) return "parked";
    asked(cpu).store(1);
    threads.wake(cpu);
    const Deadline deadline = Deadline::after(kPatience);
    while (asked(cpu).load() != 0) {
      if (deadline.expired()) return "silent";
      sleep_for(std::chrono::milliseconds(1));
    }
    return std::to_string(answer(cpu).load());
  }

 private:
  platform::Atomic<int>& asked(int cpu) { return asked_[static_cast<std::size_t>(cpu)]; }
  platform::Atomic<int>& answer(int cpu) { return answer_[static_cast<std::size_t>(cpu)]; }
  std::vector<platform::Atomic<int>> asked_;
  std::vector<platform::Atomic<int>> answer_;
};

int fail_with(const Error& error) {
  std::cerr << error.message() << '\n';
  return 1;
}

}  // namespace

int main() {
  const auto topology = Topology::detect();
  if (!topology) return fail_with(topology.error());
  int highest = 0;
  for (const Topology::Cpu& cpu : topology->cpus()) highest = std::max(highest, cpu.id);
  Where where(static_cast<std::size_t>(highest) + 1);
  HotplugCallbacks callbacks(*topology);
  auto threads = PerCpuThread::create(*topology, {.name = "follow/%u", .callbacks = where.callbacks()});
  if (!threads) return fail_with(threads.error());
  const auto state = callbacks.setup_state_nocalls(
      "follow", [&](int cpu) { return (*threads)->cpu_online(cpu); },
      [&](int cpu) {
        if (auto parked = (*threads)->cpu_offline(cpu); !parked) std::cerr << parked.error().message() << '\n';
      });
  if (!state) return fail_with(state.error());
  CpuWatcher watcher(*topology, callbacks);

  for (std::string order; std::getline(std::cin, order) && order != "quit";) {
    std::string answer;
    if (order == "poll") {
      for (const CpuWatcher::Change& change : watcher.poll()) {
        answer += std::to_string(change.cpu) + (change.online ? "+" : "-") + (change.result ? " " : "! ");
      }
    } else if (order == "look") {
      for (const int cpu : (*threads)->cpus()) {
        answer += std::to_string(cpu) + ":" + where.ask(**threads, cpu) + " ";
      }
    } else {
      answer = "unknown order";
    }
    std::cout << answer << std::endl;
  }
  return 0;
}
