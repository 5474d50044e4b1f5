// SPDX-License-Identifier: Apache-2.0
// An EngineSnapshot as JSON.
#include <fmt/format.h>
#include <unistd.h>

#include <string>

#include "workqueue/control_server.h"
#include "workqueue/json_text.h"
#include "workqueue/snapshot.h"

namespace upci::inline UPCI_VARIANT {

namespace {

/// Puts commas between what is added.
class List {
 public:
  void add(const std::string& item) {
    if (!text_.empty()) text_ += ",";
    text_ += item;
  }
  std::string array() const { return "[" + text_ + "]"; }

 private:
  std::string text_;
};

double us(std::chrono::nanoseconds span) { return static_cast<double>(span.count()) / 1000; }

std::string flag_names(const WorkqueueSnapshot& wq) {
  constexpr std::pair<WqFlags, const char*> kNames[] = {{kWqBh, "bh"},
                                                        {kWqUnbound, "unbound"},
                                                        {kWqFreezable, "freezable"},
                                                        {kWqMemReclaim, "mem_reclaim"},
                                                        {kWqHighpri, "highpri"},
                                                        {kWqCpuIntensive, "cpu_intensive"},
                                                        {kWqSysfs, "sysfs"},
                                                        {kWqPowerEfficient, "power_efficient"},
                                                        {kWqPercpu, "percpu"}};
  List list;
  for (const auto& [flag, name] : kNames) {
    if ((wq.flags & flag) != 0) list.add(json_string(name));
  }
  if (wq.ordered) list.add("\"ordered\"");
  return list.array();
}

std::string worker_json(const WorkerSnapshot& worker) {
  return fmt::format(
      R"({{"name":{},"thread":{},"function":{},"workqueue":{},"description":{},"sleeping":{},"counts":{}}})",
      json_string(worker.name), worker.thread, json_string(worker.function), json_string(worker.workqueue),
      json_string(worker.description), worker.sleeping, worker.counts);
}

std::string pool_json(const PoolSnapshot& pool, const std::string& tier) {
  List busy;
  for (const WorkerSnapshot& worker : pool.busy) busy.add(worker_json(worker));
  const PoolStats& stats = pool.stats;
  // Others' concurrency is not managed: nobody looks whether their items sleep.
  std::string text = fmt::format(
      R"({{"pool":{},"kind":{},"cpu":{},"cpus":{},"pod":{},"nice":{},"node":{},"cpu_away":{},"tier":{},)", pool.number,
      json_string(pool.kind), pool.cpu < 0 ? "null" : std::to_string(pool.cpu), json_string(pool.cpus),
      json_string(pool.pod), pool.nice, pool.node < 0 ? "null" : std::to_string(pool.node), pool.cpu_away,
      pool.kind == "percpu" ? json_string(tier) : "null");
  text += fmt::format(R"("workers":{},"idle":{},"running":{},"waiting":{},"watchdog_age_ms":{:.3f},)", pool.workers,
                      pool.idle, pool.running, pool.waiting, us(pool.watchdog_age) / 1000);
  text +=
      fmt::format(R"("executed":{},"wakeups":{},"switch_wakeups":{},"events":{},"workers_created":{},"cm_wakeups":{},)",
                  stats.executed, stats.wakeups, stats.switch_wakeups, stats.events, stats.workers, stats.cm_wakeups);
  return text + fmt::format(R"("written_off":{},"displaced":{},"repatriated":{},"busy":{}}})", stats.written_off,
                            stats.displaced, stats.repatriated, busy.array());
}

std::string workqueue_json(const WorkqueueSnapshot& wq) {
  List pwqs;
  for (const PwqSnapshot& pwq : wq.pwqs) {
    pwqs.add(fmt::format(R"({{"pool":{},"active":{},"in_flight":{},"inactive":{}}})", pwq.pool, pwq.active,
                         pwq.in_flight, pwq.inactive));
  }
  std::string text = fmt::format(
      R"({{"number":{},"name":{},"flags":{},"frozen":{},"draining":{},"max_active":{},"min_active":{},)", wq.number,
      json_string(wq.name), flag_names(wq), wq.frozen, wq.draining, wq.max_active, wq.min_active);
  text +=
      fmt::format(R"("nice":{},"cpumask":{},"affinity_scope":{},"affinity_strict":{},)", wq.attrs.nice,
                  json_string(wq.attrs.cpumask.to_string()), json_string(to_string(wq.attrs.scope)), wq.attrs.strict);
  text += fmt::format(R"("total":{},"in_flight":{},"cpu_time_ms":{:.3f},"cpu_intensive":{},"cm_wakeups":{},)", wq.total,
                      wq.in_flight, us(wq.cpu_time) / 1000, wq.cpu_intensive, wq.cm_wakeups);
  return text + fmt::format(R"("repatriated":{},"mayday":{},"rescued":{},"pwqs":{}}})", wq.repatriated, wq.mayday,
                            wq.rescued, pwqs.array());
}

std::string latency_json(const LatencySummary& latency) {
  List octaves;
  for (std::size_t i = 0; i < latency.octaves.size(); i++) {
    if (latency.octaves[i] == 0) continue;
    octaves.add(fmt::format(R"({{"below_us":{:.3f},"count":{}}})",
                            static_cast<double>(std::uint64_t{2} << std::min<std::size_t>(i, 62)) / 1000,
                            latency.octaves[i]));
  }
  return fmt::format(R"({{"count":{},"p50_us":{:.3f},"p90_us":{:.3f},"p99_us":{:.3f},"max_us":{:.3f},"octaves":{}}})",
                     latency.count, us(latency.p50), us(latency.p90), us(latency.p99), us(latency.max),
                     octaves.array());
}

}  // namespace

std::string dump_json(const EngineSnapshot& shot) {
  List pools;
  for (const PoolSnapshot& pool : shot.pools) pools.add(pool_json(pool, shot.tier));
  List queues;
  for (const WorkqueueSnapshot& wq : shot.workqueues) queues.add(workqueue_json(wq));
  List latencies;
  for (const FunctionLatency& one : shot.latencies) {
    latencies.add(fmt::format(R"({{"function":{},"wait":{},"run":{}}})", json_string(one.function),
                              latency_json(one.wait), latency_json(one.run)));
  }
  return fmt::format(
      "{{\"schema\":1,\"pid\":{},\"tier\":{},\"tier_note\":{},\"unbound_cpumask\":{},\n\"pools\":{},\n"
      "\"workqueues\":{},\n\"measures_latency\":{},\"latencies\":{}}}\n",
      ::getpid(), json_string(shot.tier), json_string(shot.tier_note), json_string(shot.unbound_cpumask), pools.array(),
      queues.array(), shot.measures_latency, latencies.array());
}

}  // namespace upci::inline UPCI_VARIANT
