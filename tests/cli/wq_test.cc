// SPDX-License-Identifier: Apache-2.0
// upci wq, against an engine of this very process.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>

#include "tests/cli/upci_process.h"
#include "workqueue/engine.h"

namespace upci::test {
namespace {

namespace fs = std::filesystem;

class Wq : public testing::Test {
 protected:
  Wq() {
    std::string path = testing::TempDir() + "upci-wq-XXXXXX";
    directory_ = ::mkdtemp(path.data());
    ::setenv("XDG_RUNTIME_DIR", directory_.c_str(), 1);
    engine_ = make_engine();
    queue_ = *engine_->alloc_workqueue("crypto", kWqUnbound | kWqSysfs, 7);
  }
  ~Wq() override {
    queue_.reset();
    engine_.reset();
    fs::remove_all(directory_);
  }
  static std::unique_ptr<Engine> make_engine() {
    Engine::Options options{.topology = *Topology::synthetic("numa:2 core:2")};
    options.control = true;
    return *Engine::create(std::move(options));
  }
  Outcome run(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), "wq");
    return run_upci(arguments);
  }
  const std::string pid_ = std::to_string(::getpid());
  std::string directory_;
  std::unique_ptr<Engine> engine_;
  WorkqueuePtr queue_;
};

TEST_F(Wq, TopHasTheKernelsColumns) {
  const Outcome text = run({"top", pid_, "--count", "2", "--interval", "10ms"});
  EXPECT_EQ(text.exit_code, 0) << text;
  const std::string columns = "total  infl  CPUtime CPUitsv CMW/RPR  mayday rescued\n";
  const std::size_t first = text.out.find(columns);
  EXPECT_NE(first, std::string::npos) << text;
  EXPECT_NE(text.out.find(columns, first + 1), std::string::npos) << "twice: " << text;
  EXPECT_NE(text.out.find("\ncrypto "), std::string::npos) << text;
  EXPECT_NE(text.out.find("watchdog"), std::string::npos) << text;

  const auto json = run({"top", pid_, "--count", "2", "--interval", "10ms", "--json"}).json();
  ASSERT_FALSE(json.is_discarded());
  EXPECT_EQ(json.at("schema"), 1);
  EXPECT_EQ(json.at("samples").size(), 2U);
}

TEST_F(Wq, DumpShowsEverything) {
  const Outcome text = run({"dump", pid_});
  EXPECT_EQ(text.exit_code, 0) << text;
  for (const char* word : {"crypto", "events_unbound", "upci_control", "percpu", "unbound cpumask 0-3", "sysfs"}) {
    EXPECT_NE(text.out.find(word), std::string::npos) << word << ": " << text;
  }
  const auto json = run({"dump", pid_, "--json"}).json();
  ASSERT_FALSE(json.is_discarded());
  EXPECT_EQ(json.at("schema"), 1);
  EXPECT_EQ(json.at("pid"), ::getpid());
}

TEST_F(Wq, SetChangesTheQueue) {
  const Outcome done = run({"set", pid_, "crypto", "max_active=3", "nice=4"});
  EXPECT_EQ(done.exit_code, 0) << done;
  EXPECT_EQ(done.out, "");
  EXPECT_EQ(engine_->workqueue_attrs(*queue_)->nice, 4);
  EXPECT_EQ(run({"set", pid_, "unbound", "cpumask=0"}).exit_code, 0);
  EXPECT_EQ(run({"set", pid_, "crypto", "nice=99"}).exit_code, 2);
  EXPECT_EQ(run({"set", pid_, "crypto", "colour=red"}).exit_code, 2);
  EXPECT_EQ(run({"set", pid_, "unbound", "nice=1"}).exit_code, 2);
  EXPECT_EQ(run({"set", pid_, "crypto"}).exit_code, 2);
  const Outcome closed = run({"set", pid_, "events", "max_active=1"});
  EXPECT_EQ(closed.exit_code, 5) << closed;
  EXPECT_NE(closed.err.find("kWqSysfs"), std::string::npos) << closed;
  EXPECT_EQ(run({"set", pid_, "nobody", "max_active=1"}).exit_code, 5);
  EXPECT_EQ(run({"set", pid_, "crypto", "cpumask=77"}).exit_code, 1) << "the process says that there is no such CPU";
}

TEST_F(Wq, TheProcessMustBeThereAndClear) {
  EXPECT_EQ(run({"dump", "x"}).exit_code, 2);
  EXPECT_EQ(run({"dump", "0"}).exit_code, 2);
  EXPECT_EQ(run({"dump", "1.7"}).exit_code, 5);
  EXPECT_EQ(run({"top", pid_, "--interval", "soon"}).exit_code, 2);
  EXPECT_EQ(run({"top", pid_, "--count", "0"}).exit_code, 2);
  EXPECT_EQ(run({"latency", pid_, "perhaps"}).exit_code, 2);
  const auto second = make_engine();
  const Outcome several = run({"dump", pid_});
  EXPECT_EQ(several.exit_code, 2) << several;
  EXPECT_NE(several.err.find(pid_ + ".1"), std::string::npos) << several;
  EXPECT_EQ(run({"dump", pid_ + ".1"}).exit_code, 0);
}

TEST_F(Wq, LatencyAndTraceWhileItRuns) {
  EXPECT_EQ(run({"latency", pid_, "on"}).exit_code, 0);
  const Outcome text = run({"dump", pid_});
  EXPECT_NE(text.out.find("queue -> start"), std::string::npos) << text;
  EXPECT_EQ(run({"latency", pid_, "off"}).exit_code, 0);

  const std::string path = directory_ + "/trace.json";
  const Outcome traced = run({"trace", pid_, path, "--seconds", "1", "--json"});
  EXPECT_EQ(traced.exit_code, 0) << traced;
  std::ifstream file(path);
  const auto trace = nlohmann::json::parse(std::string(std::istreambuf_iterator<char>(file), {}), nullptr, false);
  ASSERT_FALSE(trace.is_discarded());
  EXPECT_TRUE(trace.contains("traceEvents"));
  EXPECT_EQ(run({"trace", pid_, "/nonexistent/trace.json"}).exit_code, 1);
  EXPECT_EQ(run({"trace", pid_, path, "--seconds", "0"}).exit_code, 2);
}

}  // namespace
}  // namespace upci::test
