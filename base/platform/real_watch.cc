// SPDX-License-Identifier: Apache-2.0
// SwitchWatch on Linux. How arming works without a system call is told in base/platform/switch_ring.h; facts of the kernel
// are from kernel/events/ring_buffer.c (room, dropped records, wake-ups) and kernel/events/core.c (the records, and the
// mapped page's `lock`, which is raised by two each time that the event is scheduled in with its thread).
#include <linux/perf_event.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <new>
#include <utility>

#include "base/platform.h"

namespace upci::inline UPCI_VARIANT::platform {
namespace {

std::string advice_for(int error) {
  if (error == EPERM || error == EACCES) {
    std::ifstream file("/proc/sys/kernel/perf_event_paranoid");
    int level = 0;
    std::string said = file >> level ? " (it is " + std::to_string(level) + ")" : std::string();
    return "set kernel.perf_event_paranoid to 2 or less" + said +
           ", or give the program CAP_PERFMON; a container's seccomp profile can refuse it as well";
  }
  if (error == ENOSYS || error == ENOENT || error == EOPNOTSUPP) return "the kernel is built without perf events";
  if (error == EMFILE) return "raise the limit on open files (ulimit -n)";
  return {};
}

template <class T>
std::atomic_ref<T> shared(void* mapping, std::size_t offset) noexcept {
  // perf_event_mmap_page is the kernel's to write; all that is read of it here is read as an atomic.
  return std::atomic_ref<T>(*std::launder(reinterpret_cast<T*>(static_cast<std::byte*>(mapping) + offset)));
}

}  // namespace

Result<SwitchWatch> SwitchWatch::create() {
  perf_event_attr attributes{};
  attributes.type = PERF_TYPE_SOFTWARE;
  attributes.size = sizeof(attributes);
  attributes.config = PERF_COUNT_SW_DUMMY;
  attributes.context_switch = 1;
  attributes.exclude_kernel = 1;  // nothing is sampled; this only says so, and needs no privilege then
  attributes.exclude_hv = 1;
  attributes.watermark = 1;
  attributes.wakeup_watermark = 1;  // each record that finds room wakes
  UniqueFd event(static_cast<int>(::syscall(SYS_perf_event_open, &attributes, 0, -1, -1, PERF_FLAG_FD_CLOEXEC)));
  if (!event) return fail_errno("cannot watch a thread's context switches (perf_event_open)", advice_for(errno));
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  void* mapping = ::mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED, event.get(), 0);
  if (mapping == MAP_FAILED) {
    return fail_errno("cannot map the records of a thread's context switches",
                      "raise the limit on locked memory (ulimit -l) or kernel.perf_event_mlock_kb");
  }
  SwitchWatch watch(std::move(event), mapping, page);
  watch.disarm();
  return watch;
}

SwitchWatch::SwitchWatch(UniqueFd event, void* mapping, std::size_t page) noexcept
    : event_(std::move(event)), mapping_(mapping), page_(page) {}

SwitchWatch::SwitchWatch(SwitchWatch&& other) noexcept
    : event_(std::move(other.event_)), mapping_(std::exchange(other.mapping_, nullptr)), page_(other.page_) {}

SwitchWatch& SwitchWatch::operator=(SwitchWatch&& other) noexcept {
  std::swap(event_, other.event_);
  std::swap(mapping_, other.mapping_);
  std::swap(page_, other.page_);
  return *this;
}

SwitchWatch::~SwitchWatch() {
  if (mapping_ != nullptr) ::munmap(mapping_, 2 * page_);
}

std::uint64_t SwitchWatch::head() const noexcept {
  return shared<std::uint64_t>(mapping_, offsetof(perf_event_mmap_page, data_head)).load(std::memory_order_acquire);
}

std::uint32_t SwitchWatch::ins() const noexcept {
  // Odd while the kernel is at it: the switch in has begun then.
  const auto lock = shared<std::uint32_t>(mapping_, offsetof(perf_event_mmap_page, lock));
  return (lock.load(std::memory_order_acquire) + 1U) / 2U;
}

std::atomic_ref<std::uint64_t> SwitchWatch::tail() const noexcept {
  return shared<std::uint64_t>(mapping_, offsetof(perf_event_mmap_page, data_tail));
}

void SwitchWatch::arm() noexcept {
  // A switch between the loads and the store would make the word stale; none can be half done while this thread runs.
  for (;;) {
    const std::uint64_t at = head();
    const std::uint32_t count = ins();
    const detail::SwitchWindow window{
        .from = static_cast<std::uint32_t>(at), .ins = count, .armed = true, .state = State::kRunning};
    tail().store(window.pack(), std::memory_order_release);
    if (head() == at && ins() == count) return;
  }
}

void SwitchWatch::disarm() noexcept {
  // With a stale head the tail would leave nearly the whole ring open.
  for (;;) {
    const std::uint64_t at = head();
    const detail::SwitchWindow window{
        .from = static_cast<std::uint32_t>(at), .ins = ins(), .armed = false, .state = State::kRunning};
    tail().store(window.pack(), std::memory_order_release);
    if (head() == at) return;
  }
}

// Says what the records since the word was written tell, and which window would go on from there. False when the records
// cannot be read: the ring has gone round, or the word was replaced and what it spoke of may have been overwritten.
bool SwitchWatch::judge(std::uint64_t word, State& state, detail::SwitchWindow& next, bool& slept) const noexcept {
  const detail::SwitchWindow window = detail::SwitchWindow::unpack(word);
  // First the count, then the records: a switch in between the two looks like one too many recorded, which is unknown.
  const std::uint32_t count = ins();
  const auto at = static_cast<std::uint32_t>(head());
  detail::SwitchRecords records{.used = at - window.from};
  next = {.from = at, .ins = count, .armed = true, .state = State::kUnknown};
  if (records.used > page_) return false;
  const std::byte* const data = static_cast<const std::byte*>(mapping_) + page_;
  for (std::uint32_t place = window.from; place != at;) {
    perf_event_header header{};
    std::memcpy(&header, data + place % page_, sizeof(header));  // records are aligned to 8 bytes: it does not wrap
    if (header.size < sizeof(header) || header.size % sizeof(header) != 0 || header.size > at - place) return false;
    place += header.size;
    if (header.type != PERF_RECORD_SWITCH) continue;  // PERF_RECORD_LOST
    records.any = true;
    if ((header.misc & PERF_RECORD_MISC_SWITCH_OUT) == 0) {
      ++records.ins;
      records.last = State::kRunning;
    } else if ((header.misc & PERF_RECORD_MISC_SWITCH_OUT_PREEMPT) != 0) {
      records.last = State::kPreempted;
    } else {
      records.last = State::kBlocked;
      records.slept = true;
    }
  }
  std::atomic_thread_fence(std::memory_order_acquire);
  if (tail().load(std::memory_order_relaxed) != word) return false;
  state = next.state = detail::judge(window, records, count);
  slept = records.slept;
  return true;
}

SwitchWatch::State SwitchWatch::state() const noexcept {
  State state = State::kUnknown;
  detail::SwitchWindow next;
  bool slept = false;
  judge(tail().load(std::memory_order_acquire), state, next, slept);
  return state;
}

bool SwitchWatch::slept_since_armed() const noexcept {
  State state = State::kUnknown;
  detail::SwitchWindow next;
  bool slept = false;
  return judge(tail().load(std::memory_order_acquire), state, next, slept) && slept;
}

bool SwitchWatch::lapsed() const noexcept {
  return detail::SwitchWindow::unpack(tail().load(std::memory_order_acquire)).lapsed();
}

SwitchWatch::State SwitchWatch::rearm(const ThreadProbe& probe, int cpu) noexcept {
  for (;;) {
    std::uint64_t word = tail().load(std::memory_order_acquire);
    const detail::SwitchWindow window = detail::SwitchWindow::unpack(word);
    if (!window.armed && !window.lapsed()) break;
    State state = State::kUnknown;
    detail::SwitchWindow next;
    bool slept = false;
    judge(word, state, next, slept);
    if (next.state == State::kUnknown && this_thread::current_cpu() == cpu && !probe.asleep()) {
      next.state = State::kPreempted;
    }
    next.armed = next.state != State::kPreempted;
    // Only if the watched thread has not armed or disarmed by itself: then it knows better.
    if (!tail().compare_exchange_strong(word, next.pack(), std::memory_order_seq_cst)) break;
    // Without room the tail stands just behind the head: if that has moved meanwhile, nearly the whole ring is open.
    if (next.armed || static_cast<std::uint32_t>(head()) == next.from) break;
  }
  // A switch that was dropped before that store shows in the count, or the state before was unknown already.
  const State state = this->state();
  if (state != State::kUnknown) return state;
  return probe.asleep() ? State::kBlocked : State::kRunning;
}

}  // namespace upci::inline UPCI_VARIANT::platform
