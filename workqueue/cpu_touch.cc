// SPDX-License-Identifier: Apache-2.0
#include "workqueue/cpu_touch.h"

#include <fmt/format.h>

#include "base/log.h"

namespace upci::inline UPCI_VARIANT {

namespace {

double milliseconds(platform::Nanoseconds span) { return static_cast<double>(span.count()) / 1e6; }

}  // namespace

CpuTouch::CpuTouch(const Topology& topology) {
  for (const Topology::Cpu& cpu : topology.cpus()) {
    cpus_.push_back(std::make_unique<Cpu>());
    cpus_.back()->id = cpu.id;
  }
}

Result<std::unique_ptr<CpuTouch>> CpuTouch::create(const Topology& topology) {
  std::unique_ptr<CpuTouch> touch(new CpuTouch(topology));
  PerCpuThread::Options options;
  options.name = "kwatchdog/%u";
  options.callbacks.thread_should_run = [raw = touch.get()](int id) {
    const Cpu& cpu = *raw->find(id);
    return cpu.answered.load(std::memory_order_relaxed) != cpu.asked.load(std::memory_order_acquire);
  };
  options.callbacks.thread_fn = [raw = touch.get()](int id) {
    Cpu& cpu = *raw->find(id);
    const std::uint32_t question = cpu.asked.load(std::memory_order_acquire);
    cpu.answered_at.store(platform::Clock::now(), std::memory_order_relaxed);
    cpu.answered.store(question, std::memory_order_release);
  };
  UPCI_TRY_ASSIGN(touch->threads_, PerCpuThread::create(topology, std::move(options)));
  return touch;
}

CpuTouch::Cpu* CpuTouch::find(int cpu) const noexcept {
  for (const auto& one : cpus_) {
    if (one->id == cpu) return one.get();
  }
  return nullptr;
}

void CpuTouch::ask(int cpu) noexcept {
  Cpu* one = find(cpu);
  if (one == nullptr) return;
  one->asked_at.store(platform::Clock::now(), std::memory_order_relaxed);
  one->asked.fetch_add(1, std::memory_order_release);
  threads_->wake(cpu);
}

std::string CpuTouch::describe(int cpu) const {
  const Cpu* one = find(cpu);
  if (one == nullptr || one->asked.load(std::memory_order_relaxed) == 0) return {};
  const platform::TimePoint asked_at = one->asked_at.load(std::memory_order_relaxed);
  if (one->answered.load(std::memory_order_acquire) == one->asked.load(std::memory_order_relaxed)) {
    return fmt::format("CPU {} runs other threads: its watchdog thread answered within {:.3f} ms", cpu,
                       milliseconds(one->answered_at.load(std::memory_order_relaxed) - asked_at));
  }
  return fmt::format("CPU {} is kept from us: its watchdog thread has not run for {:.0f} ms", cpu,
                     milliseconds(platform::Clock::now() - asked_at));
}

void CpuTouch::follow(int cpu, bool online) {
  const auto followed = online ? threads_->cpu_online(cpu) : threads_->cpu_offline(cpu);
  if (!followed) log::debug("the watchdog thread of CPU {}: {}", cpu, followed.error().message());
}

}  // namespace upci::inline UPCI_VARIANT
