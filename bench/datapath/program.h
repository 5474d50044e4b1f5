// SPDX-License-Identifier: Apache-2.0
// The measured programs, ours and the peer's, are called and answer alike: words in, one line of JSON out.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bench/datapath/line.h"
#include "bench/datapath/workload.h"
#include "bench/engine/usage.h"

namespace bench::datapath {

struct Request {
  std::string socket;
  std::string direction;  // transmit, receive or loop
  bool packed = false;
  unsigned queues = 1;
  std::uint64_t frames = 0;
  int cpu = 0;
  int backend_cpu = 0;
  std::vector<std::string> words;  // for the port, where a variant is measured: NAME=VALUE

  bool has(std::string_view word) const {
    for (const std::string& one : words) {
      if (one == word) return true;
    }
    return false;
  }
};

/// SOCKET transmit|receive|loop split|packed QUEUES FRAMES CPU BACKEND_CPU [WORD...]; nothing for anything else.
inline std::optional<Request> parse(int argc, char** argv) {
  if (argc < 8) return std::nullopt;
  Request request{.socket = argv[1],
                  .direction = argv[2],
                  .packed = std::string_view(argv[3]) == "packed",
                  .queues = static_cast<unsigned>(std::atoi(argv[4])),
                  .frames = std::strtoull(argv[5], nullptr, 10),
                  .cpu = std::atoi(argv[6]),
                  .backend_cpu = std::atoi(argv[7]),
                  .words = {argv + 8, argv + argc}};
  const bool known = request.direction == "transmit" || request.direction == "receive" || request.direction == "loop";
  if (!known || request.frames == 0 || request.queues == 0) return std::nullopt;
  return request;
}

inline int usage(const char* program) {
  std::fprintf(stderr, "usage: %s SOCKET transmit|receive|loop split|packed QUEUES FRAMES CPU BACKEND_CPU [WORD...]\n",
               program);
  return 2;
}

/// Warms up with a tenth of the frames, measures, prints. `features` says what was negotiated. Returns the exit code.
template <class Port>
int measure(Port& port, const Request& request, const std::string& features) {
  const auto run = [&](std::uint64_t begin, std::uint64_t frames) {
    if (request.direction == "transmit") return transmit(port, begin, frames);
    if (request.direction == "receive") return receive(port, frames);
    return loop(port, begin, frames);
  };
  const std::uint64_t warm_up = request.frames / 10 + kRing;
  if (run(0, warm_up).stuck) {
    std::fputs("the backend moves nothing\n", stderr);
    return 1;
  }
  if (request.direction == "loop") drain(port);
  const double line = line_nanoseconds(request.cpu, request.backend_cpu);
  const Meter meter;
  const Figures figures = run(warm_up, request.frames);
  const Usage used = meter.read();
  if (figures.stuck) {
    std::fputs("the backend moves nothing any more\n", stderr);
    return 1;
  }
  const double seconds = static_cast<double>(figures.all_ticks) * nanoseconds_per_tick() * 1e-9;
  // Rounds during which the thread was taken off the CPU count in full: the share of the time that it was on it corrects that.
  const double on_cpu = std::min(1.0, figures.on_cpu_seconds / seconds);
  const auto frames = static_cast<double>(figures.frames);
  std::printf(
      "{\"frames\": %llu, \"sum\": \"%016llx\", \"mpps\": %.6f, \"cycles\": %.4f, \"empty\": %.4f, \"batch\": %.3f,"
      " \"seconds\": %.6f, \"cpu_seconds\": %.6f, \"wait_seconds\": %.6f, \"others\": %.4f, \"steal\": %.4f, \"line\": "
      "%.1f,"
      " \"voluntary_switches\": %llu, \"features\": \"%s\"}\n",
      static_cast<unsigned long long>(figures.frames), static_cast<unsigned long long>(figures.sum),
      frames / seconds * 1e-6, static_cast<double>(figures.busy_ticks) * on_cpu / frames,
      1 - static_cast<double>(figures.busy_ticks) / static_cast<double>(figures.all_ticks),
      frames / static_cast<double>(figures.rounds), seconds, used.cpu_seconds, used.wait_seconds, used.others,
      used.steal, line, static_cast<unsigned long long>(used.voluntary_switches), features.c_str());
  return 0;
}

}  // namespace bench::datapath
