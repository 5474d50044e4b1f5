// SPDX-License-Identifier: Apache-2.0
#include "virtio/request_queue.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <climits>
#include <mutex>
#include <utility>

#include "base/blocking.h"
#include "virtio/queue.h"
#include "virtio/request_device.h"
#include "virtio/ring_memory.h"
#include "virtio/spec/features.h"

namespace upci::inline UPCI_VARIANT::virtio {
namespace {

using namespace std::chrono_literals;

// How often a thread that waits asks whether the device is still there and well. The question is a register access.
constexpr platform::Nanoseconds kLookEvery = 50ms;
// Polling: looks without a pause, then pauses that double. Most devices answer within microseconds.
constexpr unsigned kBusyLooks = 64;
constexpr platform::Nanoseconds kShortestPause = 10us;
constexpr platform::Nanoseconds kLongestPause = 1ms;
// Pauses below this are too short to hand the CPU to another item.
constexpr platform::Nanoseconds kWorthTelling = 100us;
constexpr std::size_t kReapAtOnce = 32;

/// Descriptors of the ring that the longest chain takes.
std::size_t descriptors_of(const Device& device, const RequestQueueShape& shape) noexcept {
  return device.has(spec::feature::kIndirectDesc) && shape.segments <= kTableLength ? 1 : shape.segments;
}

/// One piece where the device's addresses are translated, one for each slot where they must be physically contiguous. Fewer
/// than asked for when no more is there; at least one.
Result<std::vector<device::DmaBuffer>> alloc_slots(const Device& device, std::size_t slots, std::size_t slot_bytes) {
  std::vector<device::DmaBuffer> memory;
  const std::size_t pieces = dma_kind(device) == device::DmaKind::kPhysical ? slots : 1;
  for (std::size_t i = 0; i < pieces; ++i) {
    auto piece = alloc_buffers(device, slots / pieces * slot_bytes);
    if (!piece) {
      if (memory.empty() || piece.error().code == Errc::kVerdict) return std::unexpected(std::move(piece).error());
      break;
    }
    memory.push_back(std::move(*piece));
  }
  return memory;
}

}  // namespace

/// One call of run(): lives on its thread's stack, and no slot points to it once that call has ended.
struct RequestQueue::Run {
  std::span<Request* const> requests;
  std::size_t next = 0;   // the first request that no slot was lent to
  std::size_t ended = 0;  // requests that have their result
  std::array<Slot*, kMostSlots> lent{};
  std::size_t lent_count = 0;
  std::array<Slot*, kMostSlots> done{};
  std::size_t done_count = 0;
  platform::TimePoint next_look{};
  unsigned busy_looks = 0;
  platform::Nanoseconds pause = kShortestPause;
};

Result<std::unique_ptr<RequestQueue>> RequestQueue::create(RequestDevice& owner, const Device& device,
                                                           std::uint16_t index, const RequestQueueShape& shape,
                                                           const ObserverFactory& observers) {
  UPCI_TRY_ASSIGN(const std::uint16_t size, choose_queue_size(device, index, shape.at_most));
  const std::size_t slots = std::min({std::size_t{shape.slots}, kMostSlots, size / descriptors_of(device, shape)});
  if (slots == 0) {
    return std::unexpected(Error{.code = Errc::kDevice,
                                 .what = fmt::format("queue {} has {} entries, and one request takes {}", index, size,
                                                     descriptors_of(device, shape)),
                                 .advice = "the device's queue is too small for any request",
                                 .step = "queues",
                                 .reg = "queue_size"});
  }
  UPCI_TRY_ASSIGN(std::unique_ptr<AnyRing> ring, make_any_ring(device, index, size, observers));
  UPCI_TRY_ASSIGN(std::vector<device::DmaBuffer> memory, alloc_slots(device, slots, shape.slot_bytes));
  return std::unique_ptr<RequestQueue>(
      new RequestQueue(owner, device, index, std::move(ring), std::move(memory), shape));
}

RequestQueue::RequestQueue(RequestDevice& owner, const Device& device, std::uint16_t index,
                           std::unique_ptr<AnyRing> ring, std::vector<device::DmaBuffer> memory,
                           const RequestQueueShape& shape)
    : owner_(owner), name_(device.device().name()), index_(index), memory_(std::move(memory)), ring_(std::move(ring)) {
  for (const device::DmaBuffer& piece : memory_) {
    for (std::size_t at = 0; at + shape.slot_bytes <= piece.size() && slots_.size() < kMostSlots;
         at += shape.slot_bytes) {
      Slot& slot = slots_.emplace_back();
      slot.memory = {.va = piece.va() + at, .iova = piece.iova() + at, .size = shape.slot_bytes};
      slot.chain.resize(shape.segments);
      if (memory_.size() > 1) break;  // a piece of its own for each
    }
  }
  for (Slot& slot : slots_) free_.push_back(&slot);
  ring_->disable_interrupts();  // until set_interrupts
}

void RequestQueue::wake_all() noexcept {
  events_.fetch_add(1, std::memory_order_acq_rel);
  platform::wake_word(&events_, INT_MAX);
}

void RequestQueue::set_notifier(std::unique_ptr<Notifier> notifier) noexcept {
  const std::lock_guard lock(mutex_);
  notifier_ = std::move(notifier);
}

void RequestQueue::release(Slot& slot) {
  slot.state = Slot::State::kFree;
  slot.cancelled = false;
  slot.run = nullptr;
  slot.request = nullptr;
  free_.push_back(&slot);
}

/// Takes what the device has returned. Under mutex_.
void RequestQueue::reap() {
  if (gate_ == Gate::kClosed) return;
  std::array<AnyRing::Used, kReapAtOnce> used;
  bool any = false;
  for (std::size_t count = used.size(); count == used.size();) {
    count = ring_->poll(used);
    for (const AnyRing::Used& one : std::span(used).first(count)) {
      auto& slot = *static_cast<Slot*>(one.cookie);
      any = true;
      if (slot.state == Slot::State::kLost) {
        ++counted_.returned_late;
        release(slot);
        continue;
      }
      ++counted_.completed;
      slot.state = Slot::State::kDone;
      slot.length = one.length;
    }
  }
  if (auto error = ring_->error()) {
    error->what = fmt::format("{}: queue {}: {}", name_, index_, error->what);
    owner_.note_trouble(std::move(*error), owner_.resets());
    any = true;  // for who waits until the ring is empty
  }
  if (any) wake_all();
}

/// What has come back for this run, and slots for what is still to go (`more`). False when there is neither. What was
/// prepared when the gate closed keeps its slots, and goes when it opens.
bool RequestQueue::take_done(Run& run, bool look, bool more) {
  const std::lock_guard lock(mutex_);
  if (look) {
    const std::uint64_t before = counted_.completed;
    reap();
    if (interrupts()) counted_.without_interrupt += counted_.completed - before;
  }
  for (Slot& slot : slots_) {
    if (slot.run == &run && slot.state == Slot::State::kDone) run.done[run.done_count++] = &slot;
  }
  if (!more || gate_ != Gate::kOpen || ring_->error()) return run.done_count != 0;
  while (run.next < run.requests.size() && !free_.empty()) {
    Slot& slot = *free_.back();
    free_.pop_back();
    slot.state = Slot::State::kLent;
    slot.run = &run;
    slot.request = run.requests[run.next++];
    run.lent[run.lent_count++] = &slot;
  }
  return run.done_count + run.lent_count != 0;
}

/// Gives the requests that came back their results. Without the lock: what is done here is the driver's, and may copy much.
void RequestQueue::finish_done(Run& run) {
  for (Slot* slot : std::span(run.done).first(run.done_count)) {
    slot->request->result = slot->cancelled ? Result<void>(std::unexpected(owner_.cancelled(*slot->request)))
                                            : slot->request->finish(slot->memory, slot->length);
    slot->request->ended_ = true;
    ++run.ended;
  }
}

/// Gives the slots back that are done with, and the device what was prepared.
void RequestQueue::submit(Run& run) {
  const std::lock_guard lock(mutex_);
  for (Slot* slot : std::span(run.done).first(run.done_count)) release(*slot);
  bool others = run.done_count != 0;
  run.done_count = 0;
  bool added = false;
  std::size_t kept = 0;
  for (Slot* slot : std::span(run.lent).first(run.lent_count)) {
    // There is room for what the slots can hold; a broken ring takes nothing, until the device has been reset.
    if (gate_ != Gate::kOpen || !ring_->add(std::span(slot->chain).first(slot->segments), slot)) {
      run.lent[kept++] = slot;
      continue;
    }
    slot->state = Slot::State::kInFlight;
    ++counted_.submitted;
    added = true;
  }
  run.lent_count = kept;
  if (added && ring_->publish()) notifier_->notify(ring_->next_position());
  if (others) wake_all();  // somebody may wait for a slot
}

void RequestQueue::give_up(Run& run, const Error& error) {
  {
    const std::lock_guard lock(mutex_);
    for (Slot& slot : slots_) {
      if (slot.run != &run) continue;
      if (slot.state == Slot::State::kDone) {  // it came this moment
        run.done[run.done_count++] = &slot;
      } else if (slot.state == Slot::State::kLent) {
        release(slot);  // the device has never had it
      } else {
        slot.state = Slot::State::kLost;
        slot.run = nullptr;
        slot.request = nullptr;
        ++counted_.given_up;
      }
    }
  }
  run.lent_count = 0;
  finish_done(run);
  submit(run);
  wake_all();  // somebody may wait for a slot
  for (Request* request : run.requests) {
    if (request->ended_) continue;
    request->result = std::unexpected(error);
    request->ended_ = true;
  }
}

Error RequestQueue::why_give_up(Run& run, Deadline deadline) {
  if (auto error = owner_.failed()) return *error;
  const Request* first = nullptr;
  std::size_t waiting = 0;
  for (const Request* request : run.requests) {
    if (request->ended_) continue;
    if (first == nullptr) first = request;
    ++waiting;
  }
  {
    const std::lock_guard lock(mutex_);
    const auto with_the_device = [&run](const Slot& slot) {
      return slot.run == &run && slot.state == Slot::State::kInFlight;
    };
    if (gate_ != Gate::kOpen && std::none_of(slots_.begin(), slots_.end(), with_the_device)) {
      return fail(Errc::kState, fmt::format("{}: the device is {}; it was never given {}", name_, owner_.why_blocked(),
                                            first->describe()))
          .error();
    }
  }
  if (owner_.cut()) {
    return fail(Errc::kState, name_ + ": the device is being removed; what became of the request is unknown").error();
  }
  const auto ms = std::chrono::duration<double, std::milli>(deadline.length()).count();
  std::string what =
      fmt::format("{}: {} has not come back from queue {} within {:.3f} ms", name_, first->describe(), index_, ms);
  if (waiting > 1) what += fmt::format(", nor have {} others", waiting - 1);
  return fail_verdict(Verdict::kStuck, "request", "used.idx", std::move(what),
                      "the device does not answer: remove it and probe it again, or give it more time; what became of "
                      "the request is unknown")
      .error();
}

void RequestQueue::rest(Run& run, std::uint32_t seen, Deadline deadline) {
  const platform::TimePoint now = platform::Clock::now();
  if (now >= run.next_look) {
    owner_.look();
    run.next_look = now + kLookEvery;
    return;
  }
  platform::TimePoint until = std::min(deadline.when(), run.next_look);
  if (!interrupts()) {
    if (run.busy_looks < kBusyLooks) {
      ++run.busy_looks;
      platform::this_thread::yield();
      return;
    }
    until = std::min(until, now + run.pause);
    run.pause = std::min(run.pause * 2, kLongestPause);
    if (until - now < kWorthTelling) {
      platform::wait_word(events_, seen, until);
      return;
    }
  }
  BlockingScope blocking;
  platform::wait_word(events_, seen, until);
}

// Not inlined: a backtrace names this function as the one that waited.
[[gnu::noinline]] void RequestQueue::run(std::span<Request* const> requests, Deadline deadline) {
  Run run{.requests = requests};
  run.next_look = platform::Clock::now() + kLookEvery;
  for (Request* request : requests) request->ended_ = false;
  while (run.ended < requests.size()) {
    // Both before the look at the ring: what comes after it changes the count, and the last look is one at the deadline.
    const std::uint32_t seen = events_.load(std::memory_order_acquire);
    const bool last = deadline.expired();
    const bool over = owner_.has_failed() || owner_.cut();
    if (take_done(run, last || !interrupts(), !last && !over)) {
      finish_done(run);
      for (Slot* slot : std::span(run.lent).first(run.lent_count)) {
        slot->segments = std::min(slot->request->prepare(slot->memory, slot->chain), slot->chain.size());
      }
      const bool came = run.done_count != 0;
      submit(run);
      run.busy_looks = 0;
      run.pause = kShortestPause;
      if (came) continue;  // with its slot the next one may go
    }
    if (last && !over) owner_.look();  // a device that has left is gone, not stuck
    if (last || over) return give_up(run, why_give_up(run, deadline));
    rest(run, seen, deadline);
  }
}

/// Ends: the device can return no more than was in flight, and nothing is added meanwhile.
void RequestQueue::arm() {
  if (gate_ == Gate::kClosed) return;  // when it opens
  if (interrupts()) {
    while (ring_->enable_interrupts()) reap();
  } else {
    ring_->disable_interrupts();
  }
}

void RequestQueue::set_interrupts(bool on) {
  {
    const std::lock_guard lock(mutex_);
    interrupts_.store(on, std::memory_order_release);
    arm();
  }
  wake_all();  // those who wait go on in the other way
}

void RequestQueue::bottom_half(Work&) {
  const std::lock_guard lock(mutex_);
  if (!interrupts()) return;
  reap();
  arm();
}

void RequestQueue::add_stats(RequestStats& stats) const {
  const std::lock_guard lock(mutex_);
  stats.submitted += counted_.submitted;
  stats.completed += counted_.completed;
  stats.given_up += counted_.given_up;
  stats.returned_late += counted_.returned_late;
  stats.cancelled += counted_.cancelled;
  stats.without_interrupt += counted_.without_interrupt;
  const RingCounters& ring = ring_->counters();
  stats.kicks += ring.kicks.load(std::memory_order_relaxed);
  stats.kicks_suppressed += ring.kicks_suppressed.load(std::memory_order_relaxed);
  stats.indirect_chains += ring.indirect.load(std::memory_order_relaxed);
  if (const RingWatcher* watcher = ring_->watcher()) {
    stats.ring_accesses += watcher->accesses();
    stats.ring_violations += watcher->violations();
  }
}

}  // namespace upci::inline UPCI_VARIANT::virtio
