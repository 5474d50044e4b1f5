// SPDX-License-Identifier: Apache-2.0
#include "tools/upci/net_traffic.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <map>
#include <set>
#include <utility>

#include "tools/upci/interruption.h"

namespace upci::tool {
namespace {

using platform::Clock;
using virtio_net::Nic;
using virtio_net::Packet;

// How often a waiting sender looks whether its card has failed or a signal came.
constexpr auto kLook = std::chrono::milliseconds(50);
// After the last frame: time for what should not come (duplicates) and for the bottom half that brought it to end.
constexpr auto kSettle = std::chrono::milliseconds(20);
constexpr std::size_t kBurst = 32;

/// One flow per direction; shared with the receivers, which live as long as the cards.
using Flows = std::vector<std::unique_ptr<Flow>>;

Flows make_flows(std::span<Nic* const> nics, const TrafficOptions& options) {
  Flows flows;
  for (std::size_t i = 0; i < nics.size(); ++i) {
    Nic& from = *nics[i];
    Nic& to = *nics[nics.size() - 1 - i];
    const FrameFormat format(from.mac(), to.mac(), static_cast<std::uint8_t>(i), options.sizes);
    flows.push_back(std::make_unique<Flow>(from, to, format, options.frames));
  }
  return flows;
}

/// The flow that ends at this card.
Flow& flow_to(const Flows& flows, const Nic& nic) {
  return **std::ranges::find_if(flows, [&](const auto& flow) { return &flow->to() == &nic; });
}

Result<void> check_size(Nic& nic, std::size_t size) {
  const std::size_t room = nic.mtu() + kEthernetHeader;
  if (size <= room) return {};
  return fail(Errc::kState, fmt::format("the card takes frames of at most {} bytes", room),
              fmt::format("say --size {} or less", room));
}

/// Whether a run must end before all frames have arrived: no progress for too long, a failed card, a signal.
class Patience {
 public:
  explicit Patience(platform::Nanoseconds idle) : idle_(idle), last_(Clock::now()) {}
  /// `progress` is any number that changes when something moves.
  bool is_over(std::uint64_t progress) noexcept {
    if (Interruption::signal() != 0) return true;
    if (progress != std::exchange(progress_, progress)) last_ = Clock::now();
    return Clock::now() - last_ >= idle_;
  }

 private:
  const platform::Nanoseconds idle_;
  platform::TimePoint last_;
  std::uint64_t progress_ = 0;
};

/// Sends one direction by interrupt and waits until all of it has arrived. Returns why the card stopped, if it did. `over` ends
/// it, and is set where it ended before all was there: the other direction is of no use then.
std::optional<Error> send_by_interrupt(Flow& flow, platform::Nanoseconds idle, platform::Atomic<bool>& over) {
  Patience patience(idle);
  Nic& nic = flow.from();
  while (!flow.all_sent() || !flow.all_arrived()) {
    const std::uint32_t seen = flow.arrivals();
    const bool may_send = !flow.all_sent() && !flow.window_full();
    if (may_send && !over.load() && flow.send_some() > 0) continue;
    for (Nic* card : {&nic, &flow.to()}) {
      if (auto failed = card->failed()) {
        over.store(true);
        return failed;
      }
    }
    if (patience.is_over(flow.sent() + seen)) over.store(true);
    if (over.load()) return std::nullopt;
    if (may_send) {  // there is room in the window, so it is the ring that is full
      auto room = nic.wait_tx_room(Deadline::after(kLook), flow.tx_pair());
      if (!room && room.error().code != Errc::kTimeout) {
        over.store(true);
        return std::move(room).error();
      }
    } else {
      flow.wait_for_arrival(seen, Clock::now() + kLook);
    }
  }
  return std::nullopt;
}

std::optional<Error> run_by_interrupt(const Flows& flows, const TrafficOptions& options) {
  std::vector<std::optional<Error>> errors(flows.size());
  platform::Atomic<bool> over{false};
  std::vector<platform::Thread> senders;
  for (std::size_t i = 1; i < flows.size(); ++i) {
    auto thread = platform::Thread::create({.name = "upci/send"},
                                           [&, i] { errors[i] = send_by_interrupt(*flows[i], options.idle, over); });
    if (!thread) {
      errors[i] = std::move(thread).error();
      continue;
    }
    senders.push_back(std::move(*thread));
  }
  errors[0] = send_by_interrupt(*flows[0], options.idle, over);
  for (platform::Thread& sender : senders) sender.join();
  const auto failed = std::ranges::find_if(errors, [](const auto& error) { return error.has_value(); });
  return failed == errors.end() ? std::nullopt : std::move(*failed);
}

/// Takes what has arrived at one card.
std::size_t receive_some(Flow& flow) {
  std::array<Packet*, kBurst> packets;
  std::size_t sum = 0;
  for (unsigned pair = 0; pair < flow.to().queue_pairs(); pair++) {
    const std::size_t n = flow.to().rx_burst(packets, pair);
    if (n > 0) flow.take(std::span<Packet* const>(packets).first(n));
    sum += n;
  }
  return sum;
}

std::optional<Error> run_polled(const Flows& flows, const TrafficOptions& options) {
  // One for each direction: one that stands still is not made up for by the other.
  std::vector<Patience> patience(flows.size(), Patience(options.idle));
  std::optional<Error> failed;
  const auto is_over = [&] {
    for (std::size_t i = 0; i < flows.size(); i++) {
      Flow& flow = *flows[i];
      failed = flow.from().failed();
      const bool still = patience[i].is_over(flow.sent() + flow.arrivals());
      if (failed || (still && !(flow.all_sent() && flow.all_arrived()))) return true;
    }
    return false;
  };
  constexpr std::uint64_t kIdleRounds = 64, kBusyRounds = 4096;  // between two looks
  for (std::uint64_t idle = 0, rounds = 1;; ++rounds) {
    std::size_t moved = 0;
    bool done = true;
    for (const auto& flow : flows) {
      if (!flow->all_sent() && !flow->window_full()) moved += flow->send_some();
      moved += receive_some(*flow);
      done = done && flow->all_sent() && flow->all_arrived();
    }
    if (done) return std::nullopt;
    idle = moved == 0 ? idle + 1 : 0;
    if (idle != 0) platform::relax();
    const bool waits = idle != 0 && idle % kIdleRounds == 0;
    if ((waits || rounds % kBusyRounds == 0) && is_over()) return failed;
    if (waits) platform::this_thread::yield();  // the device may be a thread or a process that wants this very CPU
  }
}

/// Frames that come although all are here would be duplicates.
void settle(const Flows& flows, bool poll) {
  const platform::TimePoint until = Clock::now() + kSettle;
  do {
    for (const auto& flow : flows) {
      if (poll) {
        receive_some(*flow);
      } else {
        flow->wait_for_arrival(flow->arrivals(), until);
      }
    }
  } while (Clock::now() < until);
}

/// Counters of the cards and of the workers of their CPUs, all summed up.
struct Counters {
  std::uint64_t interrupts = 0, bottom_halves = 0, wakeups = 0, ring_accesses = 0, ring_violations = 0;
  std::uint64_t kicks = 0, kicks_suppressed = 0, indirect_chains = 0, batched_chains = 0, merged_frames = 0;
  std::set<int> cpus = {};
  std::map<int, std::uint64_t> displaced = {};  // per CPU
};

Counters read_counters(const Engine& engine, std::span<Nic* const> nics) {
  Counters counters;
  for (const Nic* nic : nics) {
    const virtio_net::NicStats stats = nic->stats();
    counters.interrupts += stats.interrupts;
    counters.bottom_halves += stats.bottom_halves;
    counters.ring_accesses += stats.ring_accesses;
    counters.ring_violations += stats.ring_violations;
    counters.kicks += stats.kicks;
    counters.kicks_suppressed += stats.kicks_suppressed;
    counters.indirect_chains += stats.indirect_chains;
    counters.batched_chains += stats.batched_chains;
    counters.merged_frames += stats.rx_merged;
    counters.cpus.insert(stats.cpus.begin(), stats.cpus.end());
  }
  for (const int cpu : counters.cpus) {
    const PoolStats stats = engine.stats(cpu);
    counters.wakeups += stats.wakeups;
    counters.displaced[cpu] = stats.displaced;
  }
  return counters;
}

std::vector<std::string> make_notes(std::span<Nic* const> nics, const Counters& before, const Counters& after) {
  std::vector<std::string> notes;
  for (std::size_t i = 0; i < nics.size(); ++i) {
    const virtio_net::NicStats stats = nics[i]->stats();
    if (stats.cpus.empty()) continue;
    const std::string card = nics.size() > 1 ? fmt::format("card {}: ", i + 1) : std::string();
    notes.push_back(
        stats.affinity_set
            ? fmt::format("{}its interrupts are raised on CPU {}", card,
                          fmt::join(std::set<int>(stats.cpus.begin(), stats.cpus.end()), ", "))
            : fmt::format("{}where its interrupts are raised is not ours to say: {}", card, stats.affinity_note));
  }
  for (const auto& [cpu, count] : after.displaced) {
    const auto earlier = before.displaced.find(cpu);
    const std::uint64_t times = count - (earlier == before.displaced.end() ? 0 : earlier->second);
    if (times == 0) continue;
    notes.push_back(fmt::format("CPU {} went offline meanwhile: its work went on elsewhere, {} times", cpu, times));
  }
  return notes;
}

}  // namespace

Result<TrafficResult> run_traffic(Engine& engine, std::span<Nic* const> nics, const TrafficOptions& options) {
  for (Nic* nic : nics) UPCI_TRY(check_size(*nic, options.sizes.longest));
  const auto flows = std::make_shared<const Flows>(make_flows(nics, options));
  if (!options.poll) {
    for (Nic* nic : nics) {
      Flow& flow = flow_to(*flows, *nic);
      // The receiver keeps the flows: a frame may come as long as the card is bound.
      auto set = nic->set_receiver([flows, &flow](std::span<Packet* const> packets) { flow.take(packets); });
      if (!set && set.error().code == Errc::kUnavailable) set.error().advice = "say --poll";
      UPCI_TRY(std::move(set));
    }
  }

  TrafficResult result;
  const Counters before = read_counters(engine, nics);
  const platform::TimePoint start = Clock::now();
  result.error = options.poll ? run_polled(*flows, options) : run_by_interrupt(*flows, options);
  result.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  settle(*flows, options.poll);
  const Counters after = read_counters(engine, nics);

  for (const auto& flow : *flows) {
    result.sent += flow->sent();
    result.received += flow->received();
    result.lost += flow->lost();
    result.corrupt += flow->corrupt();
    result.duplicated += flow->duplicated();
    result.reordered += flow->reordered();
  }
  result.interrupts = after.interrupts - before.interrupts;
  result.bottom_halves = after.bottom_halves - before.bottom_halves;
  result.wakeups = after.wakeups - before.wakeups;
  result.kicks = after.kicks - before.kicks;
  result.kicks_suppressed = after.kicks_suppressed - before.kicks_suppressed;
  result.indirect_chains = after.indirect_chains - before.indirect_chains;
  result.batched_chains = after.batched_chains - before.batched_chains;
  result.merged_frames = after.merged_frames - before.merged_frames;
  for (const Nic* nic : nics) result.queue_pairs += nic->queue_pairs();
  result.ring_accesses = after.ring_accesses - before.ring_accesses;
  result.ring_violations = after.ring_violations;  // since the probe
  result.notes = make_notes(nics, before, after);
  if (result.bottom_halves > 0) result.cpus.assign(after.cpus.begin(), after.cpus.end());
  return result;
}

}  // namespace upci::tool
