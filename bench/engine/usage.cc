// SPDX-License-Identifier: Apache-2.0
#include "bench/engine/usage.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <string>

namespace bench {

namespace {

double seconds_of(const timeval& time) {
  return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
}

/// /proc/<pid>/task/<tid>/schedstat: time on a CPU, time waiting on a run queue (both in ns), time slices.
double run_queue_wait() {
  double wait = 0;
  DIR* tasks = ::opendir("/proc/self/task");
  if (tasks == nullptr) return 0;
  while (const dirent* entry = ::readdir(tasks)) {
    if (entry->d_name[0] == '.') continue;
    std::ifstream file(std::string("/proc/self/task/") + entry->d_name + "/schedstat");
    double on_cpu = 0;
    double waited = 0;
    if (file >> on_cpu >> waited) wait += waited;
  }
  ::closedir(tasks);
  return wait * 1e-9;
}

}  // namespace

Meter::Moment Meter::now() noexcept {
  Moment moment;
  moment.wall = std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  moment.wait = run_queue_wait();
  // The first line of /proc/stat: user nice system idle iowait irq softirq steal, in ticks of the user's clock.
  std::ifstream stat("/proc/stat");
  std::string name;
  stat >> name;
  const double tick = 1.0 / static_cast<double>(::sysconf(_SC_CLK_TCK));
  for (int field = 0; field < 8; field++) {
    double value = 0;
    stat >> value;
    moment.machine_total += value * tick;
    if (field != 3 && field != 4) moment.machine_busy += value * tick;
    if (field == 7) moment.stolen = value * tick;
  }
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  moment.cpu = seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime);
  moment.switches = static_cast<std::uint64_t>(usage.ru_nvcsw);
  return moment;
}

Meter::Meter() noexcept : start_(now()) {}

Usage Meter::read() const noexcept {
  const Moment end = now();
  Usage usage;
  usage.seconds = end.wall - start_.wall;
  usage.cpu_seconds = end.cpu - start_.cpu;
  usage.wait_seconds = std::max(0.0, end.wait - start_.wait);
  usage.voluntary_switches = end.switches - start_.switches;
  const double total = end.machine_total - start_.machine_total;
  if (total > 0) usage.steal = std::clamp((end.stolen - start_.stolen) / total, 0.0, 1.0);
  if (total > 0)
    usage.others = std::clamp((end.machine_busy - start_.machine_busy - usage.cpu_seconds) / total, 0.0, 1.0);
  return usage;
}

}  // namespace bench
