// SPDX-License-Identifier: Apache-2.0
// The control socket: what it answers, and that no client disturbs the engine.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <filesystem>
#include <string>

#include "tests/workqueue/rules.h"
#include "tools/upci/wq_client.h"
#include "workqueue/control.h"
#include "workqueue/snapshot.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

namespace fs = std::filesystem;

/// A runtime directory of the test's own, for as long as it lives.
class Control : public testing::Test {
 protected:
  Control() {
    std::string path = testing::TempDir() + "upci-control-XXXXXX";
    directory_ = ::mkdtemp(path.data());
    ::setenv("XDG_RUNTIME_DIR", directory_.c_str(), 1);
  }
  ~Control() override { fs::remove_all(directory_); }
  std::unique_ptr<Engine> serving() {
    Engine::Options options = engine_options();
    options.control = true;
    return make_engine(std::move(options));
  }
  tool::WqTarget target(int engine = 0) const {
    return {.pid = ::getpid(),
            .engine = engine,
            .path = directory_ + "/upci/" + std::to_string(::getpid()) + "." + std::to_string(engine) + ".sock"};
  }
  tool::WqClient client(int engine = 0) const {
    auto connected = tool::WqClient::connect(target(engine));
    EXPECT_TRUE(connected) << connected.error().message();
    return std::move(*connected);
  }
  UniqueFd raw() const {
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    target().path.copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return fd;
  }
  std::string directory_;
};

TEST_F(Control, SocketIsTheOwnersAndGoneAfterwards) {
  auto engine = serving();
  const std::string path = target().path;
  struct stat status = {};
  ASSERT_EQ(::lstat(path.c_str(), &status), 0);
  EXPECT_TRUE(S_ISSOCK(status.st_mode));
  EXPECT_EQ(status.st_mode & 0777, 0600U);
  EXPECT_FALSE(engine->serve_control()) << "it does already";
  auto second = serving();
  EXPECT_TRUE(fs::exists(target(1).path)) << "each engine has its own";
  second.reset();
  engine.reset();
  EXPECT_FALSE(fs::exists(path));
}

TEST_F(Control, ASocketThatWasLeftBehindIsReplaced) {
  fs::create_directory(directory_ + "/upci");
  fs::permissions(directory_ + "/upci", fs::perms::owner_all);
  {
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    target().path.copy(address.sun_path, sizeof address.sun_path - 1);
    ASSERT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  auto engine = serving();
  EXPECT_TRUE(client().ask({"dump"}));
}

TEST_F(Control, DumpHoldsWhatASnapshotHolds) {
  auto engine = serving();
  auto wq = engine->alloc_workqueue("strange \"name\"\t\xff", kWqUnbound | kWqSysfs, 7);
  ASSERT_TRUE(wq);
  const auto json = client().ask_json({"dump"});
  ASSERT_TRUE(json) << json.error().message();
  EXPECT_EQ(json->at("schema"), 1);
  EXPECT_EQ(json->at("pid"), ::getpid());
  EXPECT_GE(json->at("pools").size(), 16U) << "four for each of four CPUs, and unbound ones";
  EXPECT_EQ(json->at("tier"), std::string(to_string(engine->blocking_tier())));
  EXPECT_EQ(json->at("tier_note"), engine->blocking_note());
  for (const auto& pool : json->at("pools")) {
    // Elsewhere nobody counts who runs.
    EXPECT_EQ(pool.at("tier").is_null(), pool.at("kind") != "percpu");
    if (!pool.at("tier").is_null()) { EXPECT_EQ(pool.at("tier"), json->at("tier")); }
  }
  bool found = false;
  for (const auto& queue : json->at("workqueues")) {
    if (queue.at("number") != (*wq)->number()) continue;
    found = true;
    EXPECT_EQ(queue.at("name"), "strange \"name\"\t\xef\xbf\xbd");
    EXPECT_EQ(queue.at("max_active"), 7);
  }
  EXPECT_TRUE(found);
}

TEST_F(Control, SetChangesWhatTheKernelWouldLetOneChange) {
  auto engine = serving();
  auto open = engine->alloc_workqueue("open", kWqUnbound | kWqSysfs, 7);
  auto percpu = engine->alloc_workqueue("percpu", kWqSysfs, 7);
  auto closed = engine->alloc_workqueue("closed", kWqUnbound, 7);
  auto client = this->client();
  ASSERT_TRUE(
      client.ask({"set", "open", "max_active=3", "nice=5", "cpumask=1-2", "affinity_scope=cpu", "affinity_strict=1"}));
  const auto attrs = engine->workqueue_attrs(**open);
  ASSERT_TRUE(attrs);
  EXPECT_EQ(*attrs, (WorkqueueAttrs{.nice = 5, .cpumask = {1, 2}, .scope = AffinityScope::kCpu, .strict = true}));
  ASSERT_TRUE(client.ask({"set", "open", "nice=0"}));
  EXPECT_EQ(engine->workqueue_attrs(**open)->cpumask, (CpuSet{1, 2})) << "what is not named stays";
  EXPECT_TRUE(client.ask({"set", "percpu", "max_active=1"}));
  EXPECT_TRUE(client.ask({"set", "#" + std::to_string((*percpu)->number()), "max_active=2"}));

  EXPECT_EQ(client.ask({"set", "closed", "max_active=1"}).error().code, Errc::kUnavailable);
  EXPECT_EQ(client.ask({"set", "events", "max_active=1"}).error().code, Errc::kUnavailable);
  EXPECT_EQ(client.ask({"set", "nobody", "max_active=1"}).error().code, Errc::kUnavailable);
  EXPECT_FALSE(client.ask({"set", "percpu", "nice=1"}));
  EXPECT_FALSE(client.ask({"set", "percpu", "min_active=1"}));
  EXPECT_FALSE(client.ask({"set", "open", "cpumask=99"})) << "there is no such CPU";
  EXPECT_TRUE(client.ask({"unbound", "cpumask=0-1"}));
  EXPECT_EQ(engine->snapshot().unbound_cpumask, "0-1");
}

TEST_F(Control, HostileClientsDoNotDisturbOthers) {
  auto engine = serving();
  std::vector<UniqueFd> clients;
  const auto send = [](const UniqueFd& fd, const std::string& text) {
    (void)!::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  };
  for (int i = 0; i < 40; i++) clients.push_back(raw());  // more than it serves at once
  clients.clear();
  for (const std::string& text :
       {std::string(200'000, 'x'), std::string("\0\xff\t\t\n", 5), std::string("\n\n\n\n"), std::string("set\n"),
        std::string("set\topen\n"), std::string("trace\tstart\n"), std::string("trace\tstop\n"), std::string("dum")}) {
    UniqueFd fd = raw();
    send(fd, text);
    clients.push_back(std::move(fd));
  }
  // Asks a lot and reads nothing.
  UniqueFd deaf = raw();
  for (int i = 0; i < 2000; i++) send(deaf, "dump\n");
  auto other = client();
  EXPECT_TRUE(other.ask({"dump"}));
  Counter counter;
  for (int cpu = 0; cpu < 4; cpu++) {
    engine->schedule_work_on(cpu, counter.work);
    engine->flush_work(counter.work);
  }
  EXPECT_EQ(counter.runs.load(), 4);
  clients.clear();
  EXPECT_TRUE(client().ask({"dump"}));
}

TEST_F(Control, EndsWhileClientsAreThere) {
  for (int i = 0; i < 20; i++) {
    auto engine = serving();
    const UniqueFd silent = raw();
    const UniqueFd asking = raw();
    (void)!::send(asking.get(), "dump\ndump\n", 10, MSG_NOSIGNAL);
    engine.reset();
  }
}

TEST_F(Control, ATraceEndsWithItsConnection) {
  auto engine = serving();
  const std::string path = directory_ + "/trace.json";
  const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600));
  {
    auto client = this->client();
    EXPECT_FALSE(client.ask({"trace", "start"})) << "without a file";
    ASSERT_TRUE(client.ask({"trace", "start"}, file.get()));
    EXPECT_FALSE(client.ask({"trace", "start"}, file.get())) << "one at a time";
  }
  EXPECT_TRUE(eventually([&] { return fs::file_size(path) > 0; }));
  EXPECT_TRUE(client().ask({"trace", "start"}, file.get())) << "the next one may";
}

TEST(ControlChange, RefusesWhatItsTextShowsToBeWrong) {
  for (const char* pair : {"", "nice", "nice=", "nice=x", "nice=20", "nice=-21", "max_active=0", "max_active=2049",
                           "cpumask=", "cpumask=a", "affinity_scope=moon", "affinity_strict=2", "color=red"}) {
    EXPECT_FALSE(parse_control_change(std::vector<std::string>{pair})) << pair;
  }
  EXPECT_FALSE(parse_control_change(std::vector<std::string>{}));
  EXPECT_FALSE(parse_control_change(std::vector<std::string>{"nice=1", "nice=1"}));
  EXPECT_TRUE(parse_control_change(std::vector<std::string>{"nice=-20", "max_active=2048", "affinity_scope=numa"}));
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
