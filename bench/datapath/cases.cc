// SPDX-License-Identifier: Apache-2.0
// The cases: transmit, receive and loop, on split and on packed rings, our driver and DPDK's before the same backend.
#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "bench/datapath/backend.h"
#include "bench/datapath/workload.h"
#include "bench/engine/affinity.h"
#include "bench/engine/case.h"
#include "emulation/qemu/program.h"

#ifndef BENCH_DPDK_VERSION
#define BENCH_DPDK_VERSION ""
#endif

namespace bench {

namespace {

constexpr std::uint64_t kFrames = 4'000'000;
// Percent of the time that ours finds nothing to do: from then on it is not the driver that limits the rate.
constexpr double kWaits = 10;

struct Direction {
  std::string name;
  std::string mode;  // testpmd's
  std::string what;
};

[[noreturn]] void give_up(const std::string& what) {
  fmt::print(stderr, "datapath_bench: {}\n", what);
  std::exit(1);
}

/// Both sides must have seen the same payload, in every sample of a case.
void expect_same_sum(const std::string& case_name, const std::string& sum) {
  static std::map<std::string, std::string> sums;
  const auto [known, first] = sums.emplace(case_name, sum);
  if (!first && known->second != sum)
    give_up(fmt::format("{}: the payload sums {} and {} differ", case_name, known->second, sum));
}

nlohmann::json run_once(const std::string& program, const std::vector<std::string>& words) {
  const auto done =
      upci::emulation::qemu::run_program(program, words, upci::Deadline::after(std::chrono::seconds(120)));
  if (!done) give_up(fmt::format("{}: {}", program, done.error().message()));
  const std::size_t at = done->output.rfind("{\"frames\"");
  const auto json = nlohmann::json::parse(at == std::string::npos ? "" : done->output.substr(at), nullptr, false);
  if (!done->status.ok() || json.is_discarded())
    give_up(fmt::format("{} {}: {}", program, done->status.text(), done->output));
  return json;
}

Sample measure(const std::string& case_name, const Direction& direction, bool packed, unsigned pairs,
               const std::string& program, const std::vector<std::string>& words) {
  std::vector<std::string> arguments = {datapath::backend_socket(case_name, direction.mode, pairs, submitter_cpu()),
                                        direction.name,
                                        packed ? "packed" : "split",
                                        std::to_string(pairs),
                                        std::to_string(kFrames),
                                        std::to_string(worker_cpu()),
                                        std::to_string(submitter_cpu())};
  arguments.insert(arguments.end(), words.begin(), words.end());
  const auto folder = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  const nlohmann::json json = run_once(folder / program, arguments);
  expect_same_sum(case_name, json.at("sum"));
  Sample sample;
  sample.value = json.at("cycles");
  sample.usage.seconds = json.at("seconds");
  sample.usage.cpu_seconds = json.at("cpu_seconds");
  sample.usage.wait_seconds = json.at("wait_seconds");
  // Of the machine's time the backend takes its CPU's share: others are what is beyond that.
  sample.usage.others =
      std::max(0.0, json.at("others").get<double>() - 1.0 / static_cast<double>(machine_cpus().size()));
  sample.usage.voluntary_switches = json.at("voluntary_switches");
  sample.more["Mpps"] = json.at("mpps");
  sample.more["empty %"] = 100 * json.at("empty").get<double>();
  sample.more["frames/round"] = json.at("batch");
  sample.more["cache line ns"] = json.at("line");
  sample.more["steal %"] = 100 * json.at("steal").get<double>();
  return sample;
}

Case make_case(const Direction& direction, bool packed) {
  Case one;
  one.name = fmt::format("{}-{}", direction.name, packed ? "packed" : "split");
  one.title = fmt::format("{}, {} ring", direction.what, packed ? "packed" : "split");
  one.unit = "TSC cycles/packet on the CPU";
  one.method = fmt::format(
      "{} million frames of {} bytes in batches of {}, ring of {}, one queue pair, after a tenth as many to warm up. "
      "CPU {} is "
      "measured; testpmd in {} mode polls on CPU {}. Rounds that moved nothing are left out.",
      kFrames / 1'000'000, datapath::kFrameBytes, datapath::kBatch, datapath::kRing, worker_cpu(), direction.mode,
      submitter_cpu());
  const auto add = [&](Contestant::Kind kind, std::string name, std::string settings, std::string program,
                       std::vector<std::string> words) {
    one.contestants.push_back(
        {.kind = kind,
         .name = std::move(name),
         .settings = std::move(settings),
         .run = [case_name = one.name, direction, packed, program = std::move(program), words = std::move(words)] {
           return measure(case_name, direction, packed, 1, program, words);
         }});
  };
  using Kind = Contestant::Kind;
  add(Kind::kOurs, "upci", "the PCI driver on QEMU's virtio-net-pci; MRG_RXBUF, INDIRECT_DESC; polled", "datapath_upci",
      {});
  if (std::string(BENCH_DPDK_VERSION).empty()) return one;
  add(Kind::kPeer, "DPDK", "virtio-user, in_order=0: the same features", "datapath_dpdk", {"in_order=0"});
  add(Kind::kPeer, "DPDK, in order", "virtio-user with IN_ORDER, which QEMU 7.2 does not pass on to ours",
      "datapath_dpdk", {});
  using Against = Target::Against;
  one.targets = {
      {.against = Against::kPeer, .name = "DPDK", .at_most = true, .ratio = 0.83},
      {.against = Against::kPeer,
       .name = "DPDK",
       .of = "Mpps",
       .at_most = false,
       .ratio = 1.2,
       .limit = Target::Limit{
           .figure = "empty %", .from = kWaits, .ratio = 1.0, .what = "the backend's CPU, for which ours waits,"}}};
  return one;
}

/// What a packet costs on many queues, and on one pair.
Case make_queues_case(const Direction& direction, bool packed) {
  constexpr unsigned kMany = 128;  // pairs: DPDK's vhost has no more
  Case one;
  one.name = fmt::format("queues-{}-{}", direction.name, packed ? "packed" : "split");
  one.title = fmt::format("{}, {} ring, on {} queues", direction.what, packed ? "packed" : "split", 2 * kMany);
  one.unit = "TSC cycles/packet on the CPU";
  one.method = fmt::format(
      "{} million frames of {} bytes in batches of {}, each on the next queue pair, one thread. CPU {} is measured; "
      "testpmd in {} "
      "mode polls all queues on CPU {}. Rounds that moved nothing are left out.",
      kFrames / 1'000'000, datapath::kFrameBytes, datapath::kBatch, worker_cpu(), direction.mode, submitter_cpu());
  const auto add = [&](Contestant::Kind kind, unsigned pairs) {
    one.contestants.push_back({.kind = kind,
                               .name = pairs == 1 ? "2 queues" : fmt::format("{} queues", 2 * pairs),
                               .settings = fmt::format("Options::queue_pairs = {}", pairs),
                               .run = [case_name = one.name, direction, packed, pairs] {
                                 return measure(case_name, direction, packed, pairs, "datapath_upci", {});
                               }});
  };
  add(Contestant::Kind::kOurs, kMany);
  add(Contestant::Kind::kVariant, 1);
  one.targets = {{.against = Target::Against::kVariant, .name = "2 queues", .at_most = true, .ratio = 1.5}};
  return one;
}

}  // namespace

const char* const kDescription = "Measures the data path beside DPDK's virtio driver, by turns in one run.";

std::vector<PeerVersion> peer_versions() {
  if (std::string(BENCH_DPDK_VERSION).empty()) return {};
  return {{"DPDK virtio-user and vhost", BENCH_DPDK_VERSION}};
}
std::vector<std::string> missing_packages() {
  if (std::string(BENCH_DPDK_VERSION).empty()) return {"libdpdk-dev"};
  return {};
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  const Direction transmit{"transmit", "rxonly", "written and sent, the backend drops"};
  const Direction receive{"receive", "txonly", "the backend sends, received and summed"};
  const Direction loop{"loop", "io", "written, sent, reflected by the backend, received and summed"};
  for (const Direction& direction : {transmit, receive, loop}) {
    for (const bool packed : {false, true}) cases.push_back(make_case(direction, packed));
  }
  for (const Direction& direction : {transmit, receive}) {
    for (const bool packed : {false, true}) cases.push_back(make_queues_case(direction, packed));
  }
  return cases;
}

}  // namespace bench
