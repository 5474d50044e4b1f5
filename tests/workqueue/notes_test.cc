// SPDX-License-Identifier: Apache-2.0
// What an engine notes when it is asked to: latencies by function, and a trace.
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "base/unique_fd.h"
#include "tests/workqueue/rules.h"
#include "workqueue/json_text.h"
#include "workqueue/latency_table.h"
#include "workqueue/snapshot.h"
#include "workqueue/trace_recorder.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

void quick_item(Work&) {}
void slow_item(Work&) { sleep_for(20ms); }

const FunctionLatency* find(const EngineSnapshot& shot, const std::string& name) {
  for (const FunctionLatency& one : shot.latencies) {
    if (one.function.find(name) != std::string::npos) return &one;
  }
  return nullptr;
}

TEST(Latency, IsTakenByFunctionWhileItIsAskedFor) {
  auto engine = make_engine();
  Work quick(&quick_item);
  Work slow(&slow_item);
  const auto run_both = [&] {
    for (Work* work : {&quick, &slow}) {
      engine->schedule_work_on(0, *work);
      engine->flush_work(*work);
    }
  };
  run_both();
  EXPECT_TRUE(engine->snapshot().latencies.empty()) << "nobody has asked";

  engine->measure_latency(true);
  run_both();
  run_both();
  const EngineSnapshot shot = engine->snapshot();
  EXPECT_TRUE(shot.measures_latency);
  const FunctionLatency* one = find(shot, "quick_item");
  const FunctionLatency* other = find(shot, "slow_item");
  ASSERT_NE(one, nullptr);
  ASSERT_NE(other, nullptr);
  EXPECT_EQ(one->run.count, 2U);
  EXPECT_EQ(one->wait.count, 2U);
  EXPECT_EQ(other->run.count, 2U);
  EXPECT_GE(other->run.p50, 15ms);
  EXPECT_GE(other->run.max, 20ms);
  EXPECT_LE(other->run.p99, other->run.max);
  EXPECT_LT(one->run.p50, 15ms);

  engine->measure_latency(false);
  run_both();
  EXPECT_EQ(find(engine->snapshot(), "quick_item")->run.count, 2U) << "what was measured stays, and no more comes";
  engine->measure_latency(true);
  EXPECT_TRUE(engine->snapshot().latencies.empty()) << "it begins anew";
}

TEST(Latency, AQueueingFromBeforeDoesNotCount) {
  auto engine = make_engine();
  Work work(&quick_item);
  {
    Occupied occupied(*engine, 1);
    engine->schedule_work_on(1, work);
    engine->measure_latency(true);
  }
  engine->flush_work(work);
  const EngineSnapshot shot = engine->snapshot();
  const FunctionLatency* one = find(shot, "quick_item");
  ASSERT_NE(one, nullptr);
  EXPECT_EQ(one->run.count, 1U);
  EXPECT_EQ(one->wait.count, 0U) << "nobody knows since when it has waited";
}

TEST(Latency, QuantilesAreWithinAnEighth) {
  Histogram histogram;
  for (std::uint64_t ns = 1; ns <= 100'000; ns++) histogram.add(ns);
  const LatencySummary summary = histogram.summary();
  EXPECT_EQ(summary.count, 100'000U);
  EXPECT_NEAR(static_cast<double>(summary.p50.count()), 50'000, 50'000 / 8.0);
  EXPECT_NEAR(static_cast<double>(summary.p90.count()), 90'000, 90'000 / 8.0);
  EXPECT_NEAR(static_cast<double>(summary.p99.count()), 99'000, 99'000 / 8.0);
  EXPECT_EQ(summary.max.count(), 100'000);
  std::uint64_t in_octaves = 0;
  for (const std::uint64_t count : summary.octaves) in_octaves += count;
  EXPECT_EQ(in_octaves, 100'000U);
  EXPECT_EQ(summary.octaves[10], 1024U) << "1024 to 2047";
}

TEST(Latency, ExtremesHaveAPlace) {
  Histogram histogram;
  for (const std::uint64_t ns : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{3}, ~std::uint64_t{0} >> 1}) {
    histogram.add(ns);
  }
  EXPECT_EQ(histogram.summary().count, 4U);
  EXPECT_EQ(histogram.summary().max.count(), INT64_MAX);
}

TEST(Latency, FunctionsBeyondTheTableShareAnEntry) {
  LatencyTable table;
  for (std::uintptr_t function = 1; function <= 1000; function++) table.add_run(function * 16, 5);
  std::uint64_t runs = 0;
  bool others = false;
  for (const FunctionLatency& one : table.snapshot()) {
    runs += one.run.count;
    others = others || one.function == "(others)";
  }
  EXPECT_EQ(runs, 1000U);
  EXPECT_TRUE(others);
}

TEST(JsonText, EscapesWhatJsonDoesNotTake) {
  EXPECT_EQ(json_string("a\"b\\c\n"), R"("a\"b\\c\u000a")");
  EXPECT_EQ(json_string("\xc3\xa4\xff\xe2\x82"), "\"\xc3\xa4\\ufffd\\ufffd\\ufffd\"");
  EXPECT_EQ(nlohmann::json::parse(json_string("\xed\xa0\x80 \xf0\x9f\x98\x80")).get<std::string>().size(), 14U);
}

class TraceFile {
 public:
  TraceFile() {
    const UniqueFd fd(::mkstemp(path_.data()));
    EXPECT_TRUE(fd);
  }
  ~TraceFile() { ::unlink(path_.c_str()); }
  TraceFile(const TraceFile&) = delete;
  TraceFile& operator=(const TraceFile&) = delete;
  const std::string& path() const { return path_; }
  nlohmann::json read() const {
    std::ifstream file(path_);
    return nlohmann::json::parse(std::string(std::istreambuf_iterator<char>(file), {}), nullptr, false);
  }

 private:
  std::string path_ = testing::TempDir() + "upci-trace-XXXXXX";
};

/// One thread does one thing at a time: its slices lie behind or inside each other, never across.
void check_nesting(const nlohmann::json& trace) {
  std::map<long, std::vector<std::pair<double, double>>> tracks;  // from when till when, in us
  for (const auto& event : trace.at("traceEvents")) {
    if (event.at("ph") != "X") continue;
    const double begin = event.at("ts");
    tracks[event.at("tid")].emplace_back(begin, begin + event.at("dur").get<double>());
  }
  constexpr double kRounding = 0.0015;  // of nanoseconds to text
  for (auto& [thread, slices] : tracks) {
    std::ranges::sort(slices, [](const auto& a, const auto& b) {
      return a.first != b.first ? a.first < b.first : a.second > b.second;
    });
    std::vector<double> around;  // the ends of the slices that this one lies in
    for (const auto& [begin, end] : slices) {
      while (!around.empty() && around.back() <= begin + kRounding) around.pop_back();
      if (!around.empty()) { EXPECT_LE(end, around.back() + kRounding) << "thread " << thread << " at " << begin; }
      around.push_back(end);
    }
  }
}

/// What must hold of every trace.
void check(const nlohmann::json& trace) {
  ASSERT_FALSE(trace.is_discarded()) << "no JSON";
  std::map<std::uint64_t, double> begun;
  std::set<std::uint64_t> ended;
  for (const auto& event : trace.at("traceEvents")) {
    const std::string kind = event.at("ph");
    if (kind == "s") begun[event.at("id")] = event.at("ts");
    if (kind == "f") ended.insert(event.at("id").get<std::uint64_t>());
    if (kind == "X") { EXPECT_GE(event.at("dur").get<double>(), 0); }
  }
  EXPECT_EQ(begun.size(), ended.size());
  for (const auto& event : trace.at("traceEvents")) {
    if (event.at("ph") != "f") continue;
    ASSERT_TRUE(begun.contains(event.at("id"))) << event;
    EXPECT_LE(begun[event.at("id")], event.at("ts").get<double>()) << "an arrow leads into the future";
  }
  check_nesting(trace);
}

TEST(Trace, LeadsFromEachQueueingToItsRun) {
  auto engine = make_engine();
  TraceFile file;
  ASSERT_TRUE(engine->start_trace(file.path()));
  EXPECT_FALSE(engine->start_trace(file.path())) << "one at a time";
  Work quick(&quick_item);
  Work slow(&slow_item);
  for (int i = 0; i < 50; i++) {
    engine->queue_work_on(1, engine->system_wq(), quick);
    engine->flush_work(quick);
  }
  engine->queue_work_on(2, engine->system_long_wq(), slow);
  engine->flush_work(slow);
  Counter cancelled;
  {
    Occupied occupied(*engine, 3);
    engine->schedule_work_on(3, cancelled.work);
    engine->cancel_work(cancelled.work);
  }
  const auto summary = engine->stop_trace();
  ASSERT_TRUE(summary) << summary.error().message();
  EXPECT_EQ(summary->dropped, 0U);
  EXPECT_FALSE(engine->stop_trace());

  const nlohmann::json trace = file.read();
  ASSERT_NO_FATAL_FAILURE(check(trace));
  int queued = 0;
  int ran = 0;
  int arrows = 0;
  int blocked = 0;
  std::set<std::string> threads;
  for (const auto& event : trace.at("traceEvents")) {
    const std::string name = event.at("name");
    if (name.starts_with("queue_work") && name.find("quick_item") != std::string::npos) queued++;
    if (!name.starts_with("queue_work") && name.find("quick_item") != std::string::npos) ran++;
    if (event.at("ph") == "s") arrows++;
    if (name == "blocked") {
      blocked++;
      EXPECT_GE(event.at("dur").get<double>(), 15'000) << event;
    }
    if (name == "thread_name") threads.insert(event.at("args").at("name").get<std::string>());
  }
  EXPECT_EQ(queued, 50);
  EXPECT_EQ(ran, 50);
  EXPECT_EQ(arrows, 52) << "the 50, the slow one, the one that kept its CPU; not the one that was taken back";
  EXPECT_EQ(blocked, 1) << "the slow one's sleep";
#if !defined(UPCI_SIM)
  const auto is_worker = [](const std::string& name) { return name.starts_with("kworker/"); };
  EXPECT_TRUE(std::ranges::any_of(threads, is_worker));
#endif
}

TEST(Trace, ThatCannotBeWrittenIsAnError) {
  auto engine = make_engine();
  EXPECT_FALSE(engine->start_trace("/nonexistent/trace.json"));
  EXPECT_FALSE(engine->stop_trace()) << "nothing has begun";
  TraceFile file;
  EXPECT_TRUE(engine->start_trace(file.path())) << "the failed one is not in the way";
}

TEST(Trace, OfTheOptionsIsWrittenAtTheEnd) {
  TraceFile file;
  {
    Engine::Options options = engine_options();
    options.trace = file.path();
    auto engine = make_engine(std::move(options));
    Work work(&quick_item);
    engine->schedule_work(work);
    engine->flush_work(work);
  }
  const nlohmann::json trace = file.read();
  ASSERT_NO_FATAL_FAILURE(check(trace));
  EXPECT_GT(trace.at("traceEvents").size(), 3U);
}

TEST(Trace, SurvivesStartsAndStopsWhileItemsRun) {
  auto engine = make_engine();
  TraceFile file;
  platform::Atomic<bool> over{false};
  auto toggler = platform::Thread::create({.name = "toggler"}, [&] {
    for (int i = 0; i < 5; i++) {
      EXPECT_TRUE(engine->start_trace(file.path()));
      engine->measure_latency(i % 2 == 0);
      sleep_for(1ms);
      EXPECT_TRUE(engine->stop_trace());
      check(file.read());
    }
    over.store(true);
  });
  ASSERT_TRUE(toggler);
  in_threads(3, [&](unsigned i) {
    Work work(&quick_item);
    while (!over.load()) {
      engine->queue_work_on(static_cast<int>(i), engine->system_wq(), work);
      if (i == 0) engine->flush_work(work);
      sleep_for(10us);  // so that a toggler that waits for its CPU does not find a million events
    }
    engine->flush_work(work);
  });
  toggler->join();
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
