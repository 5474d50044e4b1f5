// SPDX-License-Identifier: Apache-2.0
#include "virtio/request_device.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <climits>
#include <mutex>
#include <utility>

#include "base/blocking.h"
#include "base/log.h"
#include "virtio/queue.h"
#include "virtio/spec/pci.h"
#include "virtio/spec/status.h"

namespace upci::inline UPCI_VARIANT::virtio {
namespace {

constexpr std::uint8_t kAllOnes = 0xff;
constexpr std::string_view kStatusRegister = "device_status";

/// The same error for all of them.
void refuse(std::span<Request* const> requests, const Error& error) {
  for (Request* request : requests) request->result = std::unexpected(error);
}

}  // namespace

RequestDevice::RequestDevice(Device device) : device_(std::move(device)) {}

RequestDevice::~RequestDevice() {
  // After a probe that failed nobody has done this yet; after a removal they find nothing to do. Without vectors and
  // without recovery no work was ever queued.
  const bool queues_works = vectors_ != nullptr || on_trouble_ == OnTrouble::kReset;
  if (!queues_works) return;
  // The works first: the end of a recovery uses the vectors, and a vector may still queue a work that is disabled.
  for (Work* work : works()) device_.device().engine().disable_work_sync(*work);
  vectors_.reset();
}

Result<void> RequestDevice::make_queues(std::uint16_t count, const RequestQueueShape& shape,
                                        const ObserverFactory& observers) {
  for (std::uint16_t i = 0; i < count; ++i) {
    UPCI_TRY_ASSIGN(auto queue, RequestQueue::create(*this, device_, i, shape, observers));
    queues_.push_back(std::move(queue));
  }
  if (count > 1 || device_.device().irqs().count() != 0) {
    const std::vector<int> cpus = device_.device().engine().topology().housekeeping_cpus();
    for (std::uint16_t i = 0; i < count; ++i) cpus_.push_back(cpus[i % cpus.size()]);
  }
  return {};
}

unsigned RequestDevice::vector_of(std::size_t queue) const noexcept {
  const unsigned count = vectors_->count();
  return count == 1 ? kConfigVector : 1 + static_cast<unsigned>(queue) % (count - 1);
}

Result<void> RequestDevice::set_up() {
  device::Device& device = device_.device();
  if (const unsigned offered = device.irqs().count(); offered != 0) {
    const unsigned count = std::min<unsigned>(offered, 1U + queues());
    // The configuration's vector where the probe runs: a CPU of the device's node.
    const int here = device.engine().current_worker_cpu();
    std::vector<int> cpus = {here >= 0 ? here : cpus_.front()};
    for (unsigned i = 1; i < count; ++i) cpus.push_back(cpus_[i - 1]);
    UPCI_TRY_ASSIGN(vectors_, device::IrqVectors::create(device, count, std::move(cpus)));
    for (unsigned i = 0; i < count; ++i) {
      servers_.push_back(std::make_unique<VectorServer>(*this, i));
      vectors_->set_handler<&VectorServer::top_half>(i, servers_.back().get());
    }
    // Before the queues are told their vectors: a legacy device has the vector registers only while MSI-X is enabled.
    UPCI_TRY(vectors_->enable());
  }
  return tell_queues();
}

Result<void> RequestDevice::tell_queues() {
  Transport& transport = device_.transport();
  const bool messages = vectors_ != nullptr && !(*vectors_)[0].line();
  if (messages) UPCI_TRY(transport.set_config_vector(static_cast<std::uint16_t>(kConfigVector)));
  for (std::size_t i = 0; i < queues_.size(); ++i) {
    RequestQueue& queue = *queues_[i];
    const std::uint16_t vector = messages ? static_cast<std::uint16_t>(vector_of(i)) : Transport::kNoVector;
    UPCI_TRY_ASSIGN(auto notifier,
                    transport.setup_queue(queue.index(), queue.ring().size(), queue.ring().addresses(), vector));
    queue.set_notifier(std::move(notifier));
  }
  return {};
}

std::vector<Work*> RequestDevice::works() {
  std::vector<Work*> works = {&config_work_, &recovery_work_};
  for (const auto& queue : queues_) works.push_back(&queue->work());
  return works;
}

void RequestDevice::start(RequestHooks hooks, OnTrouble on_trouble) {
  hooks_ = std::move(hooks);
  on_trouble_ = on_trouble;
  for (const auto& queue : queues_) queue->set_interrupts(vectors_ != nullptr);
  serving_.store(true);
  if (config_missed_.load()) (*vectors_)[kConfigVector].queue(config_work_);
}

void RequestDevice::set_polling(bool on) {
  for (const auto& queue : queues_) queue->set_interrupts(!on && vectors_ != nullptr);
}

// Top half: INTx is for queues or configuration, and reading the ISR status says which and ends it (section "ISR status
// capability"); a message vector is for whatever was put on it.
void RequestDevice::top_half(device::Irq& irq, unsigned vector) {
  bool config = vector == kConfigVector;
  bool queue = vectors_->count() == 1 || !config;
  if (irq.line()) {
    const std::uint8_t isr = device_.transport().isr();
    config = (isr & spec::pci::kIsrConfig) != 0;
    queue = (isr & spec::pci::kIsrQueue) != 0;
  }
  for (std::size_t i = 0; queue && i < queues_.size(); ++i) {
    if (vector_of(i) == vector) irq.queue(queues_[i]->work());
  }
  if (config) irq.queue(config_work_);
}

void RequestDevice::config_bottom_half(Work&) {
  if (!serving_.load()) {
    // The probe still drives the device. start() looks at this flag after it has set serving_; we set it before we look again:
    // one of the two sees the other.
    config_missed_.store(true);
    if (!serving_.load()) return;
  }
  if (stopping_.load()) return;
  look();
  if (!has_failed() && !blocked() && hooks_.config_changed) hooks_.config_changed();
}

// Section "Device Status Field": DEVICE_NEEDS_RESET, and what a device that is not there reads as.
void RequestDevice::look() {
  // While it is being reset, whoever does that sees what is to be seen.
  const std::uint32_t seen = resets();
  if (has_failed() || blocked()) return;
  device::Device& device = device_.device();
  const auto gone = [&device](std::string_view why) {
    return fail_verdict(Verdict::kGone, "request", std::string(kStatusRegister),
                        fmt::format("{}: {}", device.name(), why), "open the device again once it is back")
        .error();
  };
  const std::uint8_t status = device_.transport().status();
  if (device.state()->abandoned()) return set_failed(gone("the device was given up"));
  if (device.control().notice() != device::DeviceControl::Notice::kNone)
    return set_failed(gone("the device was withdrawn"));
  if (status == kAllOnes) {
    // All ones from a device that is there are no answer: its decoding is off. The deadline says stuck.
    if (!device.control().present()) set_failed(gone("the device has left its bus"));
    return;
  }
  if ((status & spec::status::kNeedsReset) != 0) {
    note_trouble(fail_verdict(Verdict::kNeedsReset, "request", std::string(kStatusRegister),
                              device.name() + ": the device asks to be reset", "remove the device and probe it again")
                     .error(),
                 seen);
  }
}

void RequestDevice::set_failed(Error error) {
  {
    const std::lock_guard lock(failed_mutex_);
    if (failed_) return;
    failed_ = std::move(error);
    log::error("{}", failed_->message());
  }
  has_failed_.store(true, std::memory_order_release);
  for (const auto& queue : queues_) queue->wake_all();
}

std::optional<Error> RequestDevice::failed() const {
  if (!has_failed()) return std::nullopt;
  const std::lock_guard lock(failed_mutex_);
  return failed_;
}

bool RequestDevice::enter() noexcept {
  users_.fetch_add(1, std::memory_order_seq_cst);
  // Pairs with quiesce(), which sets stopping_ before it looks at users_.
  if (!stopping_.load(std::memory_order_seq_cst)) return true;
  leave();
  return false;
}

void RequestDevice::leave() noexcept {
  // Nothing is touched after the subtraction: who sees 0 may destroy this.
  auto* const word = &users_;
  if (word->fetch_sub(1, std::memory_order_seq_cst) == 1) platform::wake_word(word, INT_MAX);
}

RequestQueue& RequestDevice::queue_here() noexcept {
  if (queues_.size() == 1) return *queues_.front();
  Engine& engine = device_.device().engine();
  const int worker = engine.current_worker_cpu();
  const int os_cpu = platform::this_thread::current_cpu();
  for (std::size_t i = 0; i < cpus_.size(); ++i) {
    if (worker >= 0 ? cpus_[i] == worker : engine.topology().find(cpus_[i])->os_cpu == os_cpu) return *queues_[i];
  }
  return *queues_[static_cast<std::size_t>(std::max(0, worker >= 0 ? worker : os_cpu)) % queues_.size()];
}

void RequestDevice::run(std::span<Request* const> requests, Deadline deadline, int queue) {
  if (requests.empty()) return;
  if (!deadline.is_bounded()) {
    return refuse(requests, fail(Errc::kInvalid, "a request needs a deadline", "use Deadline::after").error());
  }
  if (queue != kAnyQueue && (queue < 0 || queue >= queues())) {
    return refuse(requests,
                  fail(Errc::kInvalid, fmt::format("{}: there is no queue {}", device_.device().name(), queue),
                       fmt::format("queues are 0 to {}", queues() - 1))
                      .error());
  }
  if (!enter()) {
    return refuse(requests, fail(Errc::kState, device_.device().name() + ": the device is being removed").error());
  }
  (queue == kAnyQueue ? queue_here() : *queues_[static_cast<std::size_t>(queue)]).run(requests, deadline);
  leave();
}

Result<void> RequestDevice::quiesce(Deadline deadline) {
  stopping_.store(true, std::memory_order_seq_cst);
  if (on_trouble_ == OnTrouble::kReset) {
    // A recovery that has begun drives the device: it ends first, in its own time limit. No other one begins, and whoever waits
    // for one that was only asked for waits in vain.
    device_.device().engine().disable_work_sync(recovery_work_);
    std::optional<Error> trouble;
    if ((blocked_.load() & kRecovering) != 0) {
      const std::lock_guard lock(failed_mutex_);
      trouble = trouble_;
    }
    if (trouble) set_failed(std::move(*trouble));
  }
  // Who waits for a device that sleeps waits in vain, too.
  if (blocked()) cut_.store(true, std::memory_order_release);
  for (const auto& queue : queues_) queue->wake_all();
  for (const Deadline limit :
       {deadline.at_most(deadline.is_bounded() ? deadline.remaining() / 2 : std::chrono::seconds(1)), deadline}) {
    for (std::uint32_t users = users_.load(); users != 0; users = users_.load()) {
      if (limit.expired()) break;
      const BlockingScope blocking;
      platform::wait_word(users_, users, limit.when());
    }
    if (users_.load() == 0) return {};
    cut_.store(true, std::memory_order_release);
    for (const auto& queue : queues_) queue->wake_all();
  }
  return fail(Errc::kTimeout, device_.device().name() + ": a request is still waited for while the device is removed");
}

std::size_t RequestDevice::slots() const noexcept {
  std::size_t slots = 0;
  for (const auto& queue : queues_) slots += queue->slots();
  return slots;
}

RequestStats RequestDevice::stats() const {
  RequestStats stats;
  for (const auto& queue : queues_) queue->add_stats(stats);
  stats.recoveries = recoveries_.load(std::memory_order_relaxed);
  return stats;
}

InterruptStats RequestDevice::interrupt_stats() const {
  InterruptStats stats;
  if (!vectors_) return stats;
  stats.affinity_set = true;
  stats.affinity_note = vectors_->affinity_note();
  for (unsigned i = 0; i < vectors_->count(); ++i) {
    const device::Irq& irq = (*vectors_)[i];
    stats.interrupts += irq.signals();
    stats.top_halves += irq.interrupts();
    stats.cpus.push_back(irq.cpu());
    stats.affinity_set = stats.affinity_set && irq.affinity_set();
  }
  return stats;
}

}  // namespace upci::inline UPCI_VARIANT::virtio
