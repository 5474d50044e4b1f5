// SPDX-License-Identifier: Apache-2.0
// A trace as JSON in Chrome's trace event format: "X" a slice, "i" an instant, "s" and "f" the two ends of an arrow, "M" a
// name. Times are microseconds.
#include <fmt/format.h>
#include <unistd.h>
#include <numeric>
#include <tuple>
#include <vector>

#include <algorithm>
#include <cerrno>
#include <map>
#include <unordered_map>
#include <utility>

#include "workqueue/json_text.h"
#include "workqueue/requesters.h"
#include "workqueue/trace_recorder.h"

namespace upci::inline UPCI_VARIANT {

namespace {

using Kind = TraceEvent::Kind;

class Writer {
 public:
  Writer(int fd, Trace trace) : fd_(fd), trace_(std::move(trace)) {}

  Result<void> write() {
    // Threads' events come from one shard each, but what is told of a sleeping thread comes from others.
    // Equal times stay in the order of their noting.
    std::vector<std::size_t> order(trace_.events.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::sort(order, {},
                      [this](std::size_t i) { return std::tuple(trace_.events[i].thread, trace_.events[i].ns, i); });
    std::vector<TraceEvent> sorted;
    sorted.reserve(order.size());
    for (const std::size_t i : order) sorted.push_back(trace_.events[i]);
    trace_.events = std::move(sorted);
    pair_up();
    text_ = fmt::format(
        "{{\"displayTimeUnit\":\"ns\",\"otherData\":{{\"program\":\"upci\",\"dropped_events\":{}}},\n\"traceEvents\":["
        "\n",
        trace_.dropped);
    add(fmt::format(R"({{"ph":"M","pid":{},"name":"process_name","args":{{"name":"upci"}}}})", pid_));
    name_threads();
    for (std::size_t begin = 0; begin < trace_.events.size();) {
      std::size_t end = begin;
      while (end < trace_.events.size() && trace_.events[end].thread == trace_.events[begin].thread) end++;
      UPCI_TRY(write_track(begin, end));
      begin = end;
    }
    text_ += "\n]}\n";
    return flush();
  }

 private:
  struct Key {
    const Work* work;
    std::uint64_t queued_at;
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    std::size_t operator()(const Key& key) const noexcept {
      return std::hash<const void*>()(key.work) * 31 + std::hash<std::uint64_t>()(key.queued_at);
    }
  };

  /// Finds the run of each queueing. One that was taken back, or has not run yet, gets no arrow.
  void pair_up() {
    arrows_.assign(trace_.events.size(), 0);
    std::unordered_map<Key, std::size_t, KeyHash> queued;
    for (std::size_t i = 0; i < trace_.events.size(); i++) {
      const TraceEvent& event = trace_.events[i];
      if (event.kind == Kind::kQueue) queued[{event.work, event.queued_at}] = i;
    }
    for (std::size_t i = 0; i < trace_.events.size(); i++) {
      const TraceEvent& event = trace_.events[i];
      if (event.kind != Kind::kStart || event.queued_at == 0) continue;
      const auto found = queued.find({event.work, event.queued_at});
      if (found == queued.end()) continue;
      arrows_[i] = arrows_[found->second] = ++last_arrow_;
      queued.erase(found);
    }
  }

  void name_threads() {
    for (const auto& [thread, name] : trace_.threads) {
      add(fmt::format(R"({{"ph":"M","pid":{},"tid":{},"name":"thread_name","args":{{"name":{}}}}})", pid_, thread,
                      json_string(name)));
    }
  }

  Result<void> write_track(std::size_t begin, std::size_t end) {
    const TraceEvent* running = nullptr;
    std::size_t started = 0;
    const TraceEvent* asleep = nullptr;
    for (std::size_t i = begin; i < end; i++) {
      const TraceEvent& event = trace_.events[i];
      switch (event.kind) {
        case Kind::kQueue: {
          // An arrow begins in a slice, so this is one, which ends before whatever comes next.
          const std::int64_t next = i + 1 < end ? trace_.events[i + 1].ns : event.ns + kQueueNs;
          slice("queue_work " + name(event.function), event, std::min(next - event.ns, kQueueNs),
                fmt::format(R"("work":"{:#x}","workqueue":{},"req_cpu":{},"cpu":{})", address(event.work),
                            json_string(event.workqueue.data()), event.req_cpu, event.cpu));
          arrow('s', i, "");
          break;
        }
        case Kind::kStart:
          running = &event;
          started = i;
          break;
        case Kind::kEnd:
          if (asleep != nullptr) blocked(*asleep, event.ns);
          asleep = nullptr;
          if (running != nullptr) run(started, event.ns - running->ns);
          running = nullptr;
          break;
        case Kind::kSleep:
          if (running != nullptr && asleep == nullptr) asleep = &event;
          break;
        case Kind::kWake:
          if (asleep != nullptr) blocked(*asleep, event.ns);
          asleep = nullptr;
          break;
      }
      if (text_.size() > kChunk) UPCI_TRY(flush());
    }
    // What still ran when the trace ended, ends with it here.
    const std::int64_t last = trace_.events[end - 1].ns;
    if (asleep != nullptr) blocked(*asleep, last);
    if (running != nullptr) run(started, last - running->ns);
    return {};
  }

  void run(std::size_t i, std::int64_t length) {
    const TraceEvent& event = trace_.events[i];
    slice(name(event.function), event, length,
          fmt::format(R"("work":"{:#x}","workqueue":{},"cpu":{})", address(event.work),
                      json_string(event.workqueue.data()), event.cpu));
    arrow('f', i, R"(,"bp":"e")");
  }
  void blocked(const TraceEvent& from, std::int64_t until) { slice("blocked", from, until - from.ns, ""); }

  void slice(const std::string& title, const TraceEvent& event, std::int64_t length, const std::string& args) {
    add(fmt::format(R"({{"ph":"X","cat":"workqueue","name":{},"pid":{},"tid":{},"ts":{},"dur":{},"args":{{{}}}}})",
                    json_string(title), pid_, event.thread, time(event.ns - trace_.started_ns),
                    time(std::max<std::int64_t>(length, 0)), args));
  }
  void arrow(char end, std::size_t i, const char* more) {
    if (arrows_[i] == 0) return;
    const TraceEvent& event = trace_.events[i];
    add(fmt::format(R"({{"ph":"{}","cat":"workqueue","name":"queued","id":{},"pid":{},"tid":{},"ts":{}{}}})", end,
                    arrows_[i], pid_, event.thread, time(event.ns - trace_.started_ns), more));
  }

  const std::string& name(std::uintptr_t function) {
    std::string& known = names_[function];
    if (known.empty()) known = name_function_at(function);
    return known;
  }
  static std::uintptr_t address(const Work* work) { return reinterpret_cast<std::uintptr_t>(work); }
  /// Nanoseconds as microseconds, exactly.
  static std::string time(std::int64_t ns) {
    const char* sign = ns < 0 ? "-" : "";
    const std::int64_t whole = ns < 0 ? -ns : ns;
    return fmt::format("{}{}.{:03}", sign, whole / 1000, whole % 1000);
  }

  void add(const std::string& line) {
    if (!std::exchange(first_, false)) text_ += ",\n";
    text_ += line;
  }
  Result<void> flush() {
    for (std::size_t done = 0; done < text_.size();) {
      const ssize_t n = ::write(fd_, text_.data() + done, text_.size() - done);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return fail_errno("writing the trace", "look for a full disk");
      done += static_cast<std::size_t>(n);
    }
    text_.clear();
    return {};
  }

  static constexpr std::int64_t kQueueNs = 500;  // how long a queueing looks
  static constexpr std::size_t kChunk = 1 << 20;
  const int fd_;
  Trace trace_;
  const int pid_ = ::getpid();
  std::vector<std::uint64_t> arrows_;  // of each event: the number of its arrow, or 0
  std::uint64_t last_arrow_ = 0;
  std::map<std::uintptr_t, std::string> names_;
  std::string text_;
  bool first_ = true;
};

}  // namespace

Result<void> write_trace(int fd, Trace trace) { return Writer(fd, std::move(trace)).write(); }

}  // namespace upci::inline UPCI_VARIANT
