// SPDX-License-Identifier: Apache-2.0
#include "device/irq.h"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>
#include <utility>

#include "base/log.h"

namespace upci::inline UPCI_VARIANT::device {

// --- Irq ---

Irq::Irq(Device& device, unsigned vector, int cpu, EventFd eventfd)
    : device_(device),
      line_(device.irqs().kind() == IrqSource::Kind::kLine),
      vector_(vector),
      cpu_(cpu),
      eventfd_(std::move(eventfd)),
      source_(&Irq::on_event, this) {}

bool Irq::queue(Work& work) noexcept {
  Engine& engine = device_.engine();
  return engine.queue_work_on(cpu_, engine.system_wq(), work);
}

void Irq::on_event(void* self) {
  Irq& irq = *static_cast<Irq*>(self);
  const std::uint64_t signals = irq.eventfd_.drain();
  if (signals == 0) return;  // an earlier call has taken it already
  // Only this function writes them and it never runs twice at once: plain additions, atomic for the readers.
  irq.signals_.store(irq.signals_.load(std::memory_order_relaxed) + signals, std::memory_order_relaxed);
  irq.interrupts_.store(irq.interrupts_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  if (irq.handler_ != nullptr) irq.handler_(irq.context_, irq);
  if (!irq.line_) return;
  // Masked since it was signalled. A device that still holds its line down raises it again at once.
  auto unmasked = irq.device_.irqs().set_mask(irq.vector_, false);
  if (!unmasked && unmasked.error().code != Errc::kState) {  // kState: disabled meanwhile
    log::warn("{}: the interrupt line could not be unmasked: {}", irq.device_.name(), unmasked.error().message());
  }
}

// --- IrqVectors ---

Result<std::unique_ptr<IrqVectors>> IrqVectors::create(Device& device, unsigned count, std::vector<int> cpus) {
  const unsigned offered = device.irqs().count();
  if (count == 0) return fail(Errc::kInvalid, device.name() + ": no interrupt vector was asked for");
  if (count > offered) {
    return fail(Errc::kUnavailable, fmt::format("{}: {} interrupt vectors are needed, the device offers {}",
                                                device.name(), count, offered));
  }
  const Engine& engine = device.engine();
  const Topology& topology = engine.topology();
  if (cpus.empty()) {
    const int here = engine.current_worker_cpu();
    cpus.push_back(here >= 0 ? here : topology.housekeeping_cpus().front());
  }
  std::unique_ptr<IrqVectors> vectors(new IrqVectors(device.shared_from_this()));
  for (unsigned i = 0; i < count; ++i) {
    const int cpu = cpus[i % cpus.size()];
    if (topology.find(cpu) == nullptr) {
      return fail(Errc::kInvalid, fmt::format("{}: no CPU {} for interrupt vector {}", device.name(), cpu, i));
    }
    UPCI_TRY_ASSIGN(EventFd eventfd, EventFd::create());
    vectors->irqs_.push_back(std::unique_ptr<Irq>(new Irq(device, i, cpu, std::move(eventfd))));
  }
  vectors->ask_for_affinity();
  const std::lock_guard lock(device.mutex_);
  device.irqs_.push_back(vectors.get());
  return vectors;
}

IrqVectors::~IrqVectors() {
  shutdown();
  const std::lock_guard lock(device_->mutex_);
  std::erase(device_->irqs_, this);
}

void IrqVectors::ask_for_affinity() noexcept {
  const Topology& topology = device_->engine().topology();
  affinity_note_.clear();
  for (const auto& irq : irqs_) {
    if (irq->affinity_set()) continue;
    const auto set = device_->irqs().set_affinity(irq->vector_, topology.find(irq->cpu_)->os_cpu);
    irq->affinity_set_.store(set.has_value(), std::memory_order_relaxed);
    if (!set) affinity_note_ = set.error().message();
  }
}

Result<void> IrqVectors::enable() {
  if (enabled_) return fail(Errc::kState, device_->name() + ": the interrupt vectors are enabled already");
  Engine& engine = device_->engine();
  std::vector<int> eventfds;
  Result<void> done;
  std::size_t served = 0;
  // First the servers, then the signals: no event can come before somebody waits for it.
  for (; done && served < irqs_.size(); ++served) {
    Irq& irq = *irqs_[served];
    eventfds.push_back(irq.eventfd_.fd());
    done = engine.add_event_source(irq.source_, irq.eventfd_.fd(), irq.cpu_);
    if (!done) break;
  }
  if (done) done = device_->irqs().enable(eventfds);
  if (!done) {
    for (std::size_t i = 0; i < served; ++i) engine.remove_event_source(irqs_[i]->source_);
    return done;
  }
  enabled_ = true;
  ask_for_affinity();  // some backends have an interrupt to route only now
  return {};
}

void IrqVectors::shutdown() noexcept {
  if (!enabled_) return;
  enabled_ = false;
  if (auto done = device_->irqs().disable(); !done) {
    log::warn("{}: interrupts could not be disabled at the device: {}", device_->name(), done.error().message());
  }
  Engine& engine = device_->engine();
  for (const auto& irq : irqs_) engine.remove_event_source(irq->source_);
}

}  // namespace upci::inline UPCI_VARIANT::device
