// SPDX-License-Identifier: Apache-2.0
#include "workqueue/hotplug_state.h"

#include <algorithm>
#include <utility>

namespace upci::inline UPCI_VARIANT {
namespace {

bool may_run_on(const std::vector<int>& online, const Topology::Cpu& cpu) {
  return std::binary_search(online.begin(), online.end(), cpu.os_cpu);
}

std::unexpected<Error> not_from_a_callback(const std::string& what) {
  return fail(Errc::kState, what + " was called by a CPU hotplug callback: it would wait for itself",
              "do it from another thread, or after the callback");
}

}  // namespace

/// Holds the lock around callbacks, and knows a callback that calls back.
class HotplugCallbacks::Turn {
 public:
  explicit Turn(const HotplugCallbacks& callbacks) : callbacks_(callbacks), self_(platform::this_thread::id()) {
    recursive_ = callbacks.owner_.load(std::memory_order_relaxed) == self_;
    if (recursive_) return;
    callbacks.lock_.lock();
    callbacks.owner_.store(self_, std::memory_order_relaxed);
  }
  ~Turn() {
    if (recursive_) return;
    callbacks_.owner_.store(0, std::memory_order_relaxed);
    callbacks_.lock_.unlock();
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  bool recursive() const noexcept { return recursive_; }

 private:
  const HotplugCallbacks& callbacks_;
  platform::ThreadId self_;
  bool recursive_ = false;
};

HotplugCallbacks::HotplugCallbacks(const Topology& topology) {
  const std::vector<int> online = platform::online_cpus();
  for (const Topology::Cpu& cpu : topology.cpus()) {
    cpus_.push_back({.id = cpu.id, .online = may_run_on(online, cpu)});
  }
  std::sort(cpus_.begin(), cpus_.end(), [](const Cpu& a, const Cpu& b) { return a.id < b.id; });
}

HotplugCallbacks::~HotplugCallbacks() = default;

Result<void> HotplugCallbacks::start(const Entry& entry, int cpu) {
  if (!entry.startup) return {};
  Result<void> started = entry.startup(cpu);
  if (!started) {
    started.error().what =
        "CPU " + std::to_string(cpu) + " cannot reach the state '" + entry.name + "': " + started.error().what;
  }
  return started;
}

void HotplugCallbacks::stop(const Entry& entry, int cpu) {
  if (entry.teardown) entry.teardown(cpu);
}

Result<HotplugCallbacks::State> HotplugCallbacks::setup_state(std::string name, Startup startup, Teardown teardown) {
  return install(std::move(name), std::move(startup), std::move(teardown), true);
}

Result<HotplugCallbacks::State> HotplugCallbacks::setup_state_nocalls(std::string name, Startup startup,
                                                                      Teardown teardown) {
  return install(std::move(name), std::move(startup), std::move(teardown), false);
}

Result<HotplugCallbacks::State> HotplugCallbacks::install(std::string name, Startup startup, Teardown teardown,
                                                          bool call) {
  const Turn turn(*this);
  if (turn.recursive()) return not_from_a_callback("setup_state('" + name + "')");
  Entry entry{.id = next_, .name = std::move(name), .startup = std::move(startup), .teardown = std::move(teardown)};
  for (std::size_t i = 0; call && i < cpus_.size(); ++i) {
    if (!cpus_[i].online) continue;
    Result<void> started = start(entry, cpus_[i].id);
    if (started) continue;
    while (i-- > 0) {
      if (cpus_[i].online) stop(entry, cpus_[i].id);
    }
    return std::unexpected(std::move(started).error());
  }
  states_.push_back(std::move(entry));
  return next_++;
}

Result<void> HotplugCallbacks::remove_state(State state) { return uninstall(state, true); }
Result<void> HotplugCallbacks::remove_state_nocalls(State state) { return uninstall(state, false); }

Result<void> HotplugCallbacks::uninstall(State state, bool call) {
  const Turn turn(*this);
  if (turn.recursive()) return not_from_a_callback("remove_state()");
  const auto entry =
      std::find_if(states_.begin(), states_.end(), [state](const Entry& each) { return each.id == state; });
  if (entry == states_.end()) {
    return fail(Errc::kInvalid, "there is no CPU hotplug state " + std::to_string(state), "it was removed already");
  }
  for (const Cpu& cpu : cpus_) {
    if (call && cpu.online) stop(*entry, cpu.id);
  }
  states_.erase(entry);
  return {};
}

Result<void> HotplugCallbacks::cpu_online(int cpu) {
  const Turn turn(*this);
  if (turn.recursive()) return not_from_a_callback("cpu_online()");
  const auto own = std::find_if(cpus_.begin(), cpus_.end(), [cpu](const Cpu& each) { return each.id == cpu; });
  if (own == cpus_.end()) return fail(Errc::kInvalid, "there is no CPU " + std::to_string(cpu));
  if (own->online) return {};
  for (std::size_t i = 0; i < states_.size(); ++i) {
    Result<void> started = start(states_[i], cpu);
    if (started) continue;
    while (i-- > 0) stop(states_[i], cpu);
    return started;
  }
  own->online = true;
  return {};
}

Result<void> HotplugCallbacks::cpu_offline(int cpu) {
  const Turn turn(*this);
  if (turn.recursive()) return not_from_a_callback("cpu_offline()");
  const auto own = std::find_if(cpus_.begin(), cpus_.end(), [cpu](const Cpu& each) { return each.id == cpu; });
  if (own == cpus_.end()) return fail(Errc::kInvalid, "there is no CPU " + std::to_string(cpu));
  if (!own->online) return {};
  own->online = false;
  for (std::size_t i = states_.size(); i-- > 0;) stop(states_[i], cpu);
  return {};
}

std::vector<int> HotplugCallbacks::online() const {
  const Turn turn(*this);  // a callback may ask, too
  std::vector<int> numbers;
  for (const Cpu& cpu : cpus_) {
    if (cpu.online) numbers.push_back(cpu.id);
  }
  return numbers;
}

std::vector<int> HotplugCallbacks::cpus() const {
  const Turn turn(*this);  // a callback may ask, too
  std::vector<int> numbers;
  for (const Cpu& cpu : cpus_) numbers.push_back(cpu.id);
  return numbers;
}

std::vector<std::string> HotplugCallbacks::states() const {
  const Turn turn(*this);  // a callback may ask, too
  std::vector<std::string> names;
  for (const Entry& entry : states_) names.push_back(entry.name);
  return names;
}

// CpuWatcher

CpuWatcher::CpuWatcher(const Topology& topology, HotplugCallbacks& callbacks)
    : cpus_(topology.cpus()), callbacks_(callbacks) {
  const std::vector<int> online = callbacks.online();
  for (const Topology::Cpu& cpu : cpus_) {
    was_online_.push_back(std::binary_search(online.begin(), online.end(), cpu.id));
  }
}

std::vector<CpuWatcher::Change> CpuWatcher::poll() {
  const std::vector<int> online = platform::online_cpus();
  const auto is_online = [&online](const Topology::Cpu& cpu) { return may_run_on(online, cpu); };
  std::vector<Change> changes;
  if (std::none_of(cpus_.begin(), cpus_.end(), is_online)) return changes;
  for (const bool now : {false, true}) {
    for (std::size_t i = 0; i < cpus_.size(); ++i) {
      if (is_online(cpus_[i]) != now || was_online_[i] == now) continue;
      was_online_[i] = now;
      const int cpu = cpus_[i].id;
      changes.push_back(
          {.cpu = cpu, .online = now, .result = now ? callbacks_.cpu_online(cpu) : callbacks_.cpu_offline(cpu)});
    }
  }
  return changes;
}

}  // namespace upci::inline UPCI_VARIANT
