// SPDX-License-Identifier: Apache-2.0
// Callbacks for CPUs that come and go, as the kernel's cpuhp_setup_state orders them, and the watcher.
#include "workqueue/hotplug_state.h"

#include <string>

#include "tests/workqueue/rules.h"
#include "workqueue/percpu_thread.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

/// Callbacks that write "a0+" and "a0-", for the state a and CPU 0.
struct Script {
  HotplugCallbacks::Startup up(char name, int fails_on = -1) {
    return [this, name, fails_on](int cpu) -> Result<void> {
      log += std::string(1, name) + std::to_string(cpu) + (cpu == fails_on ? "! " : "+ ");
      if (cpu == fails_on) return fail(Errc::kSystem, "no memory");
      return {};
    };
  }
  HotplugCallbacks::Teardown down(char name) {
    return [this, name](int cpu) { log += std::string(1, name) + std::to_string(cpu) + "- "; };
  }
  std::string take() { return std::exchange(log, ""); }
  std::string log;
};

TEST(HotplugState, SetupCallsEachOnlineCpuAndRemovalTearsDown) {
  under_many_schedules(
      [] {
        HotplugCallbacks callbacks(small_topology());
        Script script;
        auto a = callbacks.setup_state("a", script.up('a'), script.down('a'));
        ASSERT_TRUE(a.has_value());
        EXPECT_EQ(script.take(), "a0+ a1+ a2+ a3+ ");
        EXPECT_EQ(callbacks.states(), std::vector<std::string>{"a"});
        EXPECT_TRUE(callbacks.cpu_offline(2).has_value());
        EXPECT_EQ(script.take(), "a2- ");
        EXPECT_EQ(callbacks.online(), (std::vector<int>{0, 1, 3}));
        EXPECT_TRUE(callbacks.remove_state(*a).has_value());
        EXPECT_EQ(script.take(), "a0- a1- a3- ") << "not the one that is offline";
        EXPECT_EQ(callbacks.remove_state(*a).error().code, Errc::kInvalid);
      },
      3);
}

TEST(HotplugState, TransitionsGoUpInOrderAndDownInReverse) {
  HotplugCallbacks* callbacks = nullptr;
  under_many_schedules(
      [&] {
        HotplugCallbacks own(small_topology());
        callbacks = &own;
        Script script;
        ASSERT_TRUE(own.setup_state_nocalls("a", script.up('a'), script.down('a')).has_value());
        ASSERT_TRUE(own.setup_state_nocalls("b", script.up('b'), {}).has_value());
        ASSERT_TRUE(own.setup_state_nocalls("c", {}, script.down('c')).has_value());
        EXPECT_EQ(script.take(), "");
        EXPECT_TRUE(own.cpu_offline(1).has_value());
        EXPECT_TRUE(own.cpu_offline(1).has_value());
        EXPECT_EQ(script.take(), "c1- a1- ") << "once";
        EXPECT_TRUE(own.cpu_online(1).has_value());
        EXPECT_TRUE(own.cpu_online(1).has_value());
        EXPECT_EQ(script.take(), "a1+ b1+ ");
        EXPECT_EQ(own.cpu_online(7).error().code, Errc::kInvalid);
        EXPECT_EQ(own.cpu_offline(-1).error().code, Errc::kInvalid);
      },
      3);
}

TEST(HotplugState, AFailedSetupIsRolledBackInReverseAndNotRegistered) {
  under_many_schedules(
      [] {
        HotplugCallbacks callbacks(small_topology());
        Script script;
        const auto failed = callbacks.setup_state("bad", script.up('x', 2), script.down('x'));
        ASSERT_FALSE(failed.has_value());
        EXPECT_EQ(script.take(), "x0+ x1+ x2! x1- x0- ");
        EXPECT_EQ(failed.error().what, "CPU 2 cannot reach the state 'bad': no memory");
        EXPECT_TRUE(callbacks.states().empty());
        EXPECT_EQ(callbacks.online(), (std::vector<int>{0, 1, 2, 3}));
      },
      3);
}

TEST(HotplugState, AFailedStartupKeepsTheCpuOut) {
  under_many_schedules(
      [] {
        HotplugCallbacks callbacks(small_topology());
        Script script;
        bool broken = false;
        ASSERT_TRUE(callbacks.setup_state_nocalls("a", script.up('a'), script.down('a')).has_value());
        ASSERT_TRUE(callbacks
                        .setup_state_nocalls(
                            "b",
                            [&](int) -> Result<void> {
                              if (broken) return fail(Errc::kSystem, "no memory");
                              return {};
                            },
                            script.down('b'))
                        .has_value());
        ASSERT_TRUE(callbacks.setup_state_nocalls("c", script.up('c'), script.down('c')).has_value());
        EXPECT_TRUE(callbacks.cpu_offline(0).has_value());
        script.take();
        broken = true;
        EXPECT_FALSE(callbacks.cpu_online(0).has_value());
        EXPECT_EQ(script.take(), "a0+ a0- ") << "c was never reached";
        EXPECT_EQ(callbacks.online(), (std::vector<int>{1, 2, 3}));
        broken = false;
        EXPECT_TRUE(callbacks.cpu_online(0).has_value());
        EXPECT_EQ(script.take(), "a0+ c0+ ");
      },
      3);
}

TEST(HotplugState, ACallbackThatCallsBackIsToldSoAndMayAsk) {
  under_many_schedules(
      [] {
        HotplugCallbacks callbacks(small_topology());
        Errc inside = Errc::kSystem;
        std::size_t online = 0;
        const auto state = callbacks.setup_state("a",
                                                 [&](int cpu) -> Result<void> {
                                                   inside = callbacks.cpu_offline(cpu).error().code;
                                                   online = callbacks.online().size();
                                                   return {};
                                                 },
                                                 {});
        EXPECT_TRUE(state.has_value());
        EXPECT_EQ(inside, Errc::kState);
        EXPECT_EQ(online, 4U);
      },
      3);
}

TEST(HotplugState, CallersTakeTurns) {
  under_many_schedules([] {
    HotplugCallbacks callbacks(small_topology());
    platform::Atomic<int> inside{0};
    int up = 0;  // the turns protect it
    const auto state = callbacks.setup_state_nocalls(
        "a",
        [&](int) -> Result<void> {
          EXPECT_EQ(inside.fetch_add(1), 0);
          ++up;
          inside.fetch_sub(1);
          return {};
        },
        [&](int) {
          EXPECT_EQ(inside.fetch_add(1), 0);
          --up;
          inside.fetch_sub(1);
        });
    ASSERT_TRUE(state.has_value());
    in_threads(3, [&](unsigned number) {
      const int cpu = static_cast<int>(number) % 2;
      for (int i = 0; i < 4; ++i) {
        EXPECT_TRUE(callbacks.cpu_offline(cpu).has_value());
        EXPECT_TRUE(callbacks.cpu_online(cpu).has_value());
      }
    });
    EXPECT_EQ(up, 0) << "as often up as down";
  });
}

TEST(HotplugState, PerCpuThreadsFollow) {
  under_many_schedules([] {
    HotplugCallbacks callbacks(small_topology());
    platform::Atomic<int> parked{0};
    auto threads = PerCpuThread::create(small_topology(), {.callbacks = {.thread_should_run = [](int) { return false; },
                                                                         .thread_fn = [](int) {},
                                                                         .park = [&](int) { parked.fetch_add(1); },
                                                                         .unpark = [&](int) { parked.fetch_sub(1); }}});
    ASSERT_TRUE(threads.has_value());
    const auto state = callbacks.setup_state_nocalls(
        "threads", [&](int cpu) { return (*threads)->cpu_online(cpu); },
        [&](int cpu) { EXPECT_TRUE((*threads)->cpu_offline(cpu).has_value()); });
    ASSERT_TRUE(state.has_value());
    EXPECT_TRUE(callbacks.cpu_offline(3).has_value());
    EXPECT_TRUE((*threads)->is_parked(3));
    EXPECT_TRUE(callbacks.cpu_online(3).has_value());
    EXPECT_TRUE(eventually([&] { return !(*threads)->is_parked(3) && parked.load() == 0; }));
    EXPECT_TRUE(callbacks.remove_state(*state).has_value());
    for (int cpu = 0; cpu < 4; ++cpu) EXPECT_TRUE((*threads)->is_parked(cpu));
  });
}

TEST(CpuWatcher, NothingChangesByItself) {
  under_many_schedules(
      [] {
        HotplugCallbacks callbacks(small_topology());
        CpuWatcher watcher(small_topology(), callbacks);
        EXPECT_TRUE(watcher.poll().empty());
        EXPECT_EQ(callbacks.online().size(), 4U);
      },
      3);
}

#if defined(UPCI_SIM)

TEST(CpuWatcher, TurnsDifferencesIntoTransitions) {
  for_each_seed(100, [] {
    HotplugCallbacks callbacks(small_topology());
    Script script;
    ASSERT_TRUE(callbacks.setup_state_nocalls("a", script.up('a', 0), script.down('a')).has_value());
    CpuWatcher watcher(small_topology(), callbacks);
    const auto os_cpu = [](int cpu) { return small_topology().find(cpu)->os_cpu; };
    platform::sim::set_online(os_cpu(3), false);
    platform::sim::set_online(os_cpu(0), false);
    auto changes = watcher.poll();
    ASSERT_EQ(changes.size(), 2U);
    EXPECT_EQ(changes[0].cpu, 0);
    EXPECT_FALSE(changes[0].online);
    EXPECT_EQ(script.take(), "a0- a3- ");
    EXPECT_TRUE(watcher.poll().empty());

    platform::sim::set_online(os_cpu(1), false);
    platform::sim::set_online(os_cpu(0), true);
    platform::sim::set_online(os_cpu(3), true);
    changes = watcher.poll();
    EXPECT_EQ(script.take(), "a1- a0! a3+ ") << "first what goes, then what comes";
    ASSERT_EQ(changes.size(), 3U);
    EXPECT_FALSE(changes[1].result.has_value());
    EXPECT_EQ(callbacks.online(), (std::vector<int>{2, 3}));
    EXPECT_TRUE(watcher.poll().empty()) << "a failure is not tried again and again";
  });
}

#endif

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
