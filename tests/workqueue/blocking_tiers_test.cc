// SPDX-License-Identifier: Apache-2.0
// Rule 8 on real threads, for each way in which an engine notices that an item sleeps: what blocks lets the next item of
// its CPU start; what only spins, yields or is preempted lets none. The program runs twice: as it is started (by root,
// that is), and with --as-user as nobody.
#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string_view>

#include "tests/workqueue/rules.h"
#include "tests/workqueue/sleeps.h"
#include "workqueue/snapshot.h"

namespace upci::inline UPCI_VARIANT::test {

namespace {

constexpr auto kPatience = 20s;  // for what must happen
constexpr auto kWatched = 30ms;  // for what must not: some thirty looks of the slowest tier

/// An item that spins until it is sent on; then it does what it was made for. Another one waits behind it meanwhile.
class Pair {
 public:
  Pair(
      Engine& engine, int cpu, std::function<void()> then = [] {})
      : engine_(engine), first_([this, then = std::move(then)] {
          thread_.store(platform::this_thread::id());
          spin();
          then();
          ended_.store(true);
        }) {
    engine_.queue_work_on(cpu, engine_.system_wq(), first_.work);
    EXPECT_TRUE(eventually([this] { return rounds_.load() > 1000; }));
    engine_.queue_work_on(cpu, engine_.system_wq(), next_.work);
  }
  ~Pair() {
    send_on();
    engine_.flush_work(first_.work);
    engine_.flush_work(next_.work);
    EXPECT_EQ(next_.runs.load(), 1);
  }
  void send_on() { sent_on_.store(true); }
  bool next_starts() { return next_started_.wait(Deadline::after(kPatience)); }
  bool next_has_started() const { return next_started_.is_complete(); }
  bool started_beside() const { return beside_.load(); }
  bool ended() const { return ended_.load(); }
  platform::ThreadId thread() const { return thread_.load(); }

 private:
  void spin() {
    while (!sent_on_.load()) {
      rounds_.fetch_add(1);
      platform::relax();
    }
  }
  Engine& engine_;
  platform::Atomic<platform::ThreadId> thread_{};
  platform::Atomic<unsigned> rounds_{0};
  platform::Atomic<bool> sent_on_{false};
  platform::Atomic<bool> ended_{false};
  platform::Atomic<bool> beside_{false};
  Completion next_started_;
  Task first_;
  Task next_{[this] {
    beside_.store(!ended_.load());
    next_started_.complete();
  }};
};

/// How often the kernel took the CPU from a thread, or the thread gave it up with a yield.
unsigned long preemptions(platform::ThreadId thread) {
  std::ifstream status("/proc/self/task/" + std::to_string(thread) + "/status");
  constexpr std::string_view kName = "nonvoluntary_ctxt_switches:";
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(kName)) return std::strtoul(line.c_str() + kName.size(), nullptr, 10);
  }
  ADD_FAILURE() << "no " << kName << " of thread " << thread;
  return 0;
}

std::string who() {
  std::string level = "absent";
  std::ifstream("/proc/sys/kernel/perf_event_paranoid") >> level;
  return "uid " + std::to_string(::geteuid()) + ", perf_event_paranoid " + level;
}

class BlockingTiers : public testing::TestWithParam<BlockingTier> {
 protected:
  void SetUp() override {
    if (GetParam() == BlockingTier::kSwitches) {
      if (const auto works = platform::SwitchWatch::self_test(); !works)
        GTEST_SKIP() << who() << ": " << works.error().message();
    }
    // The machine's own CPUs, so that each pool's workers really share one. Nobody here computes up to the threshold.
    engine_ = make_engine({.topology = *Topology::detect(), .hog_threshold = 30s, .blocking = GetParam()});
    ASSERT_NE(engine_, nullptr);
    ASSERT_EQ(engine_->blocking_tier(), GetParam());
    cpu_ = engine_->topology().cpus().front().id;
    os_cpu_ = engine_->topology().cpus().front().os_cpu;
  }

  std::uint64_t wakeups() const { return engine_->stats(cpu_).cm_wakeups; }

  void expect_next_starts_during(Sleep& way) {
    const std::uint64_t before = wakeups();
    Pair pair(*engine_, cpu_, [&way] { way.sleep(); });
    EXPECT_FALSE(pair.next_has_started()) << "while the first one spins";
    pair.send_on();
    EXPECT_TRUE(pair.next_starts()) << "while the first one sleeps";
    EXPECT_FALSE(pair.ended());
    EXPECT_GE(wakeups(), before + 1);
    way.let_go();
    EXPECT_TRUE(eventually([&pair] { return pair.ended(); }));
    EXPECT_TRUE(pair.started_beside());
  }

  /// Nothing notices it: the next one starts after the first has ended.
  void expect_next_waits_for(Sleep& way) {
    const std::uint64_t before = wakeups();
    {
      Pair pair(*engine_, cpu_, [&way] { way.sleep(); });
      pair.send_on();
      const auto probe = platform::ThreadProbe::open(pair.thread());
      ASSERT_TRUE(probe.has_value());
      EXPECT_TRUE(eventually([&probe] { return probe->asleep(); }));
      expect_no_start(pair);
      way.let_go();
      EXPECT_TRUE(pair.next_starts());
      EXPECT_FALSE(pair.started_beside());
    }
    EXPECT_EQ(wakeups(), before);
  }

  void expect_no_start(const Pair& pair) {
    const Deadline end = Deadline::after(kWatched);
    while (!end.expired()) {
      ASSERT_FALSE(pair.next_has_started());
      sleep_for(1ms);
    }
  }

  void expect(Sleep& way) {
    if (GetParam() == BlockingTier::kFramework) return expect_next_waits_for(way);
    expect_next_starts_during(way);
  }

  /// Runs `body` in a thread that competes for the items' CPU.
  void beside_a_rival(const std::function<void()>& body) {
    platform::Atomic<bool> over{false};
    auto rival = platform::Thread::create({.name = "rival", .cpu = os_cpu_}, [&over] {
      while (!over.load()) platform::relax();
    });
    ASSERT_TRUE(rival.has_value()) << rival.error().message();
    body();
    over.store(true);
    rival->join();
  }

  std::unique_ptr<Engine> engine_;
  int cpu_ = 0;
  int os_cpu_ = 0;
};

TEST_P(BlockingTiers, Rule08AnItemThatWaitsByTheFrameworkLetsTheNextStart) {
  FrameworkWait way;
  expect_next_starts_during(way);
}

TEST_P(BlockingTiers, Rule08AnItemThatBlocksInReadLetsTheNextStartWhereTheTierSeesIt) {
  Read way;
  expect(way);
}

TEST_P(BlockingTiers, Rule08AnItemThatBlocksOnAForeignMutexLetsTheNextStartWhereTheTierSeesIt) {
  ForeignMutex way;
  expect(way);
}

TEST_P(BlockingTiers, Rule08AnItemThatBlocksInAPageFaultLetsTheNextStartWhereTheTierSeesIt) {
  PageFault way;
  if (!way.ready()) GTEST_SKIP() << "this kernel lets " << who() << " handle no page faults (userfaultfd)";
  expect(way);
}

TEST_P(BlockingTiers, Rule08AnItemThatSpinsLetsNoneStart) {
  const std::uint64_t before = wakeups();
  {
    Pair pair(*engine_, cpu_);
    expect_no_start(pair);
    pair.send_on();
    EXPECT_TRUE(pair.next_starts());
    EXPECT_FALSE(pair.started_beside());
  }
  EXPECT_EQ(wakeups(), before);
}

TEST_P(BlockingTiers, Rule08AnItemThatIsPreemptedLetsNoneStart) {
  const std::uint64_t before = wakeups();
  beside_a_rival([this] {
    Pair pair(*engine_, cpu_);
    // Below its rival: whatever time there is, that one has most of it. Lowering needs no privilege.
    EXPECT_EQ(::setpriority(PRIO_PROCESS, static_cast<id_t>(pair.thread()), 5), 0);
    const unsigned long at_first = preemptions(pair.thread());
    EXPECT_TRUE(eventually([&] { return preemptions(pair.thread()) >= at_first + 5; }));
    expect_no_start(pair);
    pair.send_on();
    EXPECT_TRUE(pair.next_starts());
    EXPECT_FALSE(pair.started_beside());
  });
  EXPECT_EQ(wakeups(), before);
}

/// Each look of a standby takes the CPU from the item once more. Were that a reason for the next look, there would be no end:
/// tens of thousands of looks a second, and half of the CPU gone, for as long as the item runs.
TEST_P(BlockingTiers, Rule08ThatAnItemWasPreemptedIsLookedAtOnce) {
  constexpr unsigned kTimes = 20;
  const std::uint64_t looks = engine_->stats(cpu_).switch_wakeups;
  unsigned long taken = 0;
  platform::Nanoseconds used{};
  {
    Pair pair(*engine_, cpu_);
    const auto probe = platform::ThreadProbe::open(pair.thread());
    ASSERT_TRUE(probe.has_value());
    auto rival = platform::Thread::create({.name = "rival", .cpu = os_cpu_}, [] {
      for (unsigned i = 0; i < kTimes; i++) sleep_for(2ms);
    });
    ASSERT_TRUE(rival.has_value()) << rival.error().message();
    rival->join();
    taken = preemptions(pair.thread());
    used = probe->cpu_time();
    pair.send_on();
    EXPECT_TRUE(pair.next_starts());
  }
  // Others may take the CPU as well, about once a millisecond of the item's at most; a storm has 30 to 70 looks in each.
  EXPECT_LE(engine_->stats(cpu_).switch_wakeups - looks, 5 * kTimes + 10 * static_cast<std::uint64_t>(used / 1ms))
      << "the CPU was taken " << taken << " times, in " << used / 1us << " us";
}

TEST_P(BlockingTiers, Rule08AnItemThatYieldsLetsNoneStart) {
  const std::uint64_t before = wakeups();
  beside_a_rival([this] {
    platform::Atomic<bool> enough{false};
    Pair pair(*engine_, cpu_, [&enough] {
      while (!enough.load()) platform::this_thread::yield();
    });
    pair.send_on();
    const unsigned long at_first = preemptions(pair.thread());
    EXPECT_TRUE(eventually([&] { return preemptions(pair.thread()) >= at_first + 5; }));
    expect_no_start(pair);
    enough.store(true);
    EXPECT_TRUE(pair.next_starts());
    EXPECT_FALSE(pair.started_beside());
  });
  EXPECT_EQ(wakeups(), before);
}

class BlockingTiersThatSee : public BlockingTiers {};

TEST_P(BlockingTiersThatSee, Rule08AnItemThatRunsAgainAfterItsSleepCountsAgain) {
  Read first_sleep;
  Read second_sleep;
  platform::Atomic<bool> awake{false};
  platform::Atomic<bool> again{false};
  Counter third;
  {
    Pair pair(*engine_, cpu_, [&] {
      first_sleep.sleep();
      awake.store(true);
      while (!again.load()) platform::relax();
      second_sleep.sleep();
    });
    pair.send_on();
    EXPECT_TRUE(pair.next_starts());
    first_sleep.let_go();
    EXPECT_TRUE(eventually([&awake] { return awake.load(); }));
    engine_->queue_work_on(cpu_, engine_->system_wq(), third.work);
    const Deadline end = Deadline::after(kWatched);
    while (!end.expired()) {
      ASSERT_EQ(third.runs.load(), 0) << "while the first one computes";
      sleep_for(1ms);
    }
    again.store(true);
    EXPECT_TRUE(eventually([&third] { return third.runs.load() == 1; })) << "while the first one sleeps again";
    EXPECT_FALSE(pair.ended());
    second_sleep.let_go();
  }
  engine_->flush_work(third.work);
}

constexpr auto kTierName = [](const auto& tier) { return std::string(to_string(tier.param)); };
INSTANTIATE_TEST_SUITE_P(Tiers, BlockingTiers,
                         testing::Values(BlockingTier::kFramework, BlockingTier::kSwitches, BlockingTier::kSampling),
                         kTierName);
INSTANTIATE_TEST_SUITE_P(Tiers, BlockingTiersThatSee, testing::Values(BlockingTier::kSwitches, BlockingTier::kSampling),
                         kTierName);

TEST(BlockingTierChoice, TheSelfTestChoosesTheTierAndItIsShown) {
  const auto works = platform::SwitchWatch::self_test();
  auto engine = make_engine({.topology = *Topology::detect()});
  ASSERT_NE(engine, nullptr);
  const auto tier = std::string(to_string(engine->blocking_tier()));
  std::printf("[   TIER   ] %s: %s\n", who().c_str(), tier.c_str());
  RecordProperty("tier", tier);
  EXPECT_EQ(engine->blocking_tier(), works ? BlockingTier::kSwitches : BlockingTier::kSampling);
  EXPECT_EQ(engine->blocking_note().empty(), works.has_value()) << engine->blocking_note();
  const std::string reason = works ? "" : works.error().message();
  EXPECT_TRUE(engine->blocking_note().starts_with(reason)) << engine->blocking_note();
  const EngineSnapshot shot = engine->snapshot(false);
  EXPECT_EQ(shot.tier, tier);
  EXPECT_EQ(shot.tier_note, engine->blocking_note());
}

/// In the calling thread and those that it makes, perf_event_open is refused as a container's profile may.
void refuse_switch_records() {
  const auto statement = [](unsigned code, std::uint32_t k) {
    return sock_filter{.code = static_cast<std::uint16_t>(code), .jt = 0, .jf = 0, .k = k};
  };
  sock_filter program[] = {
      statement(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      {.code = BPF_JMP | BPF_JEQ | BPF_K, .jt = 0, .jf = 1, .k = SYS_perf_event_open},
      statement(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
      statement(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter{.len = static_cast<unsigned short>(std::size(program)), .filter = program};
  ASSERT_EQ(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
  ASSERT_EQ(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), 0);
}

TEST(BlockingTierChoice, WhereSwitchRecordsAreRefusedItSamplesAndSaysWhy) {
  in_threads(1, [](unsigned) {
    refuse_switch_records();
    auto engine = make_engine({.topology = *Topology::detect(), .hog_threshold = 30s});
    ASSERT_NE(engine, nullptr);
    EXPECT_EQ(engine->blocking_tier(), BlockingTier::kSampling);
    EXPECT_NE(engine->blocking_note().find("perf_event_open"), std::string::npos) << engine->blocking_note();
    EXPECT_NE(engine->blocking_note().find("perf_event_paranoid"), std::string::npos) << engine->blocking_note();
    Read way;
    Pair pair(*engine, engine->topology().cpus().front().id, [&way] { way.sleep(); });
    pair.send_on();
    EXPECT_TRUE(pair.next_starts());
    way.let_go();
  });
}

/// Goes on as nobody. What is written at the end is opened now: a user may not write where root builds.
bool become_user() {
  constexpr uid_t kNobody = 65534;
  std::string output = GTEST_FLAG_GET(output);
  if (constexpr std::string_view kXml = "xml:"; output.starts_with(kXml)) {
    std::error_code trouble;  // open() tells
    std::filesystem::create_directories(std::filesystem::path(output.substr(kXml.size())).parent_path(), trouble);
    // Stays open: the path that gtest opens leads to it.
    const int file = ::open(output.c_str() + kXml.size(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (file < 0 || ::fchown(file, kNobody, kNobody) != 0) return false;
    GTEST_FLAG_SET(output, "xml:/proc/self/fd/" + std::to_string(file));
  }
  // The last: an ordinary user's process may look at itself.
  return ::setgroups(0, nullptr) == 0 && ::setresgid(kNobody, kNobody, kNobody) == 0 &&
         ::setresuid(kNobody, kNobody, kNobody) == 0 && ::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0;
}

}  // namespace

}  // namespace upci::inline UPCI_VARIANT::test

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const bool as_user = argc > 1 && std::string_view(argv[1]) == "--as-user";
  if (as_user && ::geteuid() == 0 && !upci::test::become_user()) {
    std::perror("cannot go on as an ordinary user");
    return 1;
  }
  return RUN_ALL_TESTS();
}
