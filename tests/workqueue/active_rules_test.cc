// SPDX-License-Identifier: Apache-2.0
// Rules 11 to 13: max_active, its shares on nodes, and ordered queues; and rules 1 and 5 while attributes change.
#include <cstdint>

#include "tests/workqueue/rules.h"
#include "workqueue/snapshot.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

WorkqueueSnapshot look_at(const Engine& engine, const std::string& queue) {
  for (const WorkqueueSnapshot& shot : engine.snapshot(false).workqueues) {
    if (shot.name == queue) return shot;
  }
  return {};
}

int active_items(const Engine& engine, const std::string& queue = "test") {
  int active = 0;
  for (const PwqSnapshot& pwq : look_at(engine, queue).pwqs) active += pwq.active;
  return active;
}

/// A limit of the pool of a CPU, and one of a node: the same rules.
template <class F>
void on_bound_and_unbound(F body) {
  for (const WqFlags flags : {kWqPercpu, kWqUnbound}) {
    under_many_schedules(
        [&] {
          Engine::Options options = engine_options();
          static const Topology one_node = *Topology::synthetic("numa:1 core:2");
          options.topology = one_node;
          auto engine = make_engine(std::move(options));
          body(*engine, flags);
        },
        10);
  }
}

TEST(ActiveRules, Rule11NoMoreThanMaxActiveAreActive) {
  on_bound_and_unbound([](Engine& engine, WqFlags flags) {
    auto queue = make_queue(engine, flags, 2);
    Gate gate;
    Tasks tasks = gate.tasks(6);
    for (const auto& task : tasks) engine.queue_work_on(0, *queue, task->work);
    EXPECT_TRUE(eventually([&] { return gate.started() == 2; }));
    EXPECT_EQ(active_items(engine), 2);
    EXPECT_EQ(engine.work_on_cpu(0, [&] { return gate.started(); }), 2);
    gate.open();
    engine.flush_workqueue(*queue);
    EXPECT_EQ(gate.started(), 6);
    EXPECT_LE(gate.most(), 2);
    EXPECT_EQ(active_items(engine), 0);
  });
}

TEST(ActiveRules, Rule11TheExcessStartsInOrder) {
  on_bound_and_unbound([](Engine& engine, WqFlags flags) {
    auto queue = make_queue(engine, flags, 1);
    Gate gate;
    Order order;
    Tasks tasks = gate.tasks(1);
    for (int i = 0; i < 8; i++) tasks.push_back(std::make_unique<Task>([&order, i] { order.add(i); }));
    for (const auto& task : tasks) engine.queue_work_on(0, *queue, task->work);
    gate.open();
    engine.flush_workqueue(*queue);
    EXPECT_EQ(order.numbers(), ascending(8));
  });
}

TEST(ActiveRules, Rule11ANewItemDoesNotOvertakeTheWaitingOnes) {
  on_bound_and_unbound([](Engine& engine, WqFlags flags) {
    auto queue = make_queue(engine, flags | kWqFreezable, 1);
    Order order;
    Tasks tasks;
    for (int i = 0; i < 12; i++) tasks.push_back(std::make_unique<Task>([&order, i] { order.add(i); }));
    // Slots become free all the time meanwhile: items end, and the limit itself rises.
    in_threads(2, [&](unsigned thread) {
      if (thread == 0) {
        for (int i = 0; i < 4; i++) {
          engine.freeze_workqueues();
          platform::this_thread::yield();
          engine.thaw_workqueues();
        }
        return;
      }
      for (const auto& task : tasks) {
        engine.queue_work_on(0, *queue, task->work);
        platform::this_thread::yield();
      }
    });
    engine.flush_workqueue(*queue);
    EXPECT_EQ(order.numbers(), ascending(12));
  });
}

TEST(ActiveRules, Rule11FlushBarriersDoNotCount) {
  on_bound_and_unbound([](Engine& engine, WqFlags flags) {
    auto queue = make_queue(engine, flags, 1);
    Gate gate;
    Tasks tasks = gate.tasks(3);
    for (const auto& task : tasks) engine.queue_work_on(0, *queue, task->work);
    EXPECT_TRUE(eventually([&] { return gate.started() == 1; }));
    in_threads(4, [&](unsigned thread) {
      if (thread == 3) return gate.open();
      engine.flush_work(tasks[thread]->work);
      EXPECT_EQ(tasks[thread]->runs.load(), 1);
    });
    engine.flush_workqueue(*queue);
    const WorkqueueSnapshot shot = look_at(engine, "test");
    EXPECT_EQ(shot.total, 3U);
    EXPECT_EQ(shot.in_flight, 0U);
    EXPECT_EQ(active_items(engine), 0);
  });
}

TEST(ActiveRules, Rule11RaisingTheLimitStartsItemsAtOnce) {
  on_bound_and_unbound([](Engine& engine, WqFlags flags) {
    auto queue = make_queue(engine, flags, 1);
    Gate gate;
    Tasks tasks = gate.tasks(5);
    for (const auto& task : tasks) engine.queue_work_on(0, *queue, task->work);
    EXPECT_TRUE(eventually([&] { return gate.started() == 1; }));
    ASSERT_TRUE(engine.set_max_active(*queue, 3).has_value());
    EXPECT_EQ(active_items(engine), 3);
    EXPECT_TRUE(eventually([&] { return gate.started() == 3; }));  // although none has ended
    ASSERT_TRUE(engine.set_max_active(*queue, 1).has_value());
    EXPECT_EQ(active_items(engine), 3);  // what is active stays
    gate.open();
    engine.flush_workqueue(*queue);
    EXPECT_EQ(gate.started(), 5);
    EXPECT_LE(gate.most(), 3);
  });
}

TEST(ActiveRules, Rule11HoldsWhileThreadsQueueAndCancelAndTheLimitChanges) {
  on_bound_and_unbound([](Engine& engine, WqFlags flags) {
    auto queue = make_queue(engine, flags, 2);
    platform::Atomic<int> inside{0};
    Tasks tasks;
    for (int i = 0; i < 6; i++) {
      tasks.push_back(std::make_unique<Task>([&inside] {
        EXPECT_LE(inside.fetch_add(1), 2);
        sleep_for(5us);
        inside.fetch_sub(1);
      }));
    }
    platform::Atomic<int> due{0};
    in_threads(3, [&](unsigned thread) {
      for (int i = 0; i < 6; i++) {
        auto& work = tasks[static_cast<std::size_t>(i)]->work;
        if (thread == 2) {
          EXPECT_TRUE(engine.set_max_active(*queue, 1 + i % 3).has_value());
          if (engine.cancel_work(work)) due.fetch_sub(1);
        } else if (engine.queue_work_on(0, *queue, work)) {
          due.fetch_add(1);
        }
      }
    });
    engine.flush_workqueue(*queue);
    int runs = 0;
    for (const auto& task : tasks) runs += task->runs.load();
    EXPECT_EQ(runs, due.load());
    EXPECT_EQ(active_items(engine), 0);
  });
}

// --- rule 12 ---

/// Two nodes with four CPUs each.
Engine::Options wide_options() {
  static const Topology wide = *Topology::synthetic("numa:2 core:4");
  Engine::Options options = engine_options();
  options.topology = wide;
  return options;
}

/// By node; the last one: of pools that span nodes.
std::vector<int> active_by_node(const Engine& engine) {
  const EngineSnapshot shot = engine.snapshot(false);
  std::vector<int> active(3);
  for (const WorkqueueSnapshot& queue : shot.workqueues) {
    if (queue.name != "test") continue;
    for (const PwqSnapshot& pwq : queue.pwqs) {
      const int node = shot.pools[static_cast<std::size_t>(pwq.pool)].node;
      active[node < 0 ? 2 : static_cast<std::size_t>(node)] += pwq.active;
    }
  }
  return active;
}

/// Fills both nodes, and returns how many are active on each.
std::vector<int> fill(Engine& engine, Workqueue& queue) {
  Gate gate;
  Tasks tasks = gate.tasks(40);
  for (int i = 0; i < 40; i++) engine.queue_work_on(i < 20 ? 0 : 7, queue, tasks[static_cast<std::size_t>(i)]->work);
  const std::vector<int> active = active_by_node(engine);
  gate.open();
  engine.flush_workqueue(queue);
  EXPECT_EQ(gate.started(), 40);
  return active;
}

TEST(ActiveRules, Rule12TheShareOfANodeIsInProportionToItsOnlineCpus) {
  under_many_schedules(
      [] {
        auto engine = make_engine(wide_options());
        auto queue = make_queue(*engine, kWqUnbound, 10);
        ASSERT_TRUE(engine->set_min_active(*queue, 1).has_value());
        EXPECT_EQ(fill(*engine, *queue), (std::vector{5, 5, 0}));
        for (const int cpu : {4, 5, 6}) ASSERT_TRUE(engine->cpu_offline(cpu).has_value());
        EXPECT_EQ(fill(*engine, *queue), (std::vector{8, 2, 0}));  // 4 of 5 CPUs, 1 of 5
        ASSERT_TRUE(engine->cpu_online(4).has_value());
        EXPECT_EQ(fill(*engine, *queue), (std::vector{7, 4, 0}));  // 6.7 and 3.3, rounded up
      },
      3, 60);
}

TEST(ActiveRules, Rule12AShareStaysBetweenMinActiveAndMaxActive) {
  under_many_schedules(
      [] {
        auto engine = make_engine(wide_options());
        for (const int cpu : {4, 5, 6}) ASSERT_TRUE(engine->cpu_offline(cpu).has_value());
        auto queue = make_queue(*engine, kWqUnbound, 15);
        EXPECT_EQ(fill(*engine, *queue), (std::vector{12, 8, 0}));  // min_active is 8 by default
        ASSERT_TRUE(engine->set_min_active(*queue, 14).has_value());
        EXPECT_EQ(fill(*engine, *queue), (std::vector{14, 14, 0}));
        ASSERT_TRUE(engine->set_max_active(*queue, 6).has_value());
        EXPECT_EQ(fill(*engine, *queue), (std::vector{6, 6, 0}));  // never beyond max_active
      },
      3, 60);
}

TEST(ActiveRules, Rule12ANodesSlotsPassBetweenItsPools) {
  under_many_schedules(
      [] {
        auto engine = make_engine(wide_options());
        auto queue = make_queue(*engine, kWqUnbound, 2);
        ASSERT_TRUE(engine->set_min_active(*queue, 1).has_value());
        ASSERT_TRUE(engine->apply_workqueue_attrs(*queue, {.scope = AffinityScope::kCpu}).has_value());
        // One slot for the node; four pools want it.
        platform::Atomic<int> inside{0};
        Tasks tasks;
        for (int i = 0; i < 12; i++) {
          tasks.push_back(std::make_unique<Task>([&inside] {
            EXPECT_EQ(inside.fetch_add(1), 0);
            platform::this_thread::yield();
            inside.fetch_sub(1);
          }));
        }
        in_threads(2, [&](unsigned thread) {
          for (unsigned i = thread; i < 12; i += 2) {
            engine->queue_work_on(static_cast<int>(i % 4), *queue, tasks[i]->work);
          }
        });
        engine->flush_workqueue(*queue);
        for (const auto& task : tasks) EXPECT_EQ(task->runs.load(), 1);
      },
      10);
}

// --- rule 13, and rules 1 and 5 while attributes change ---

enum class Change { kAttributes, kMask, kCpus };

void change_something(Engine& engine, Workqueue& queue, Change what, int step) {
  const CpuSet masks[] = {{0, 1}, {2, 3}, {0, 1, 2, 3}};
  switch (what) {
    case Change::kAttributes:
      EXPECT_TRUE(engine.apply_workqueue_attrs(queue, {.nice = step % 2, .cpumask = masks[step % 3]}).has_value());
      break;
    case Change::kMask: EXPECT_TRUE(engine.set_unbound_cpumask(masks[step % 3]).has_value()); break;
    case Change::kCpus:
      EXPECT_TRUE((step % 2 == 0 ? engine.cpu_offline(1 + step % 3) : engine.cpu_online(step % 3)).has_value());
      break;
  }
}

void ordered_while(Change what) {
  under_many_schedules(
      [what] {
        auto engine = make_engine();
        auto queue = make_ordered(*engine);
        constexpr int kItems = 12;
        Order order;
        platform::Atomic<int> inside{0};
        Tasks tasks;
        for (int i = 0; i < kItems; i++) {
          tasks.push_back(std::make_unique<Task>([&, i] {
            EXPECT_EQ(inside.fetch_add(1), 0);
            order.add(i);
            if (i % 3 == 0) sleep_for(3us);
            inside.fetch_sub(1);
          }));
        }
        Mutex turn;
        int next = 0;
        in_threads(3, [&](unsigned thread) {
          if (thread == 0) {
            for (int step = 0; step < 6; step++) change_something(*engine, *queue, what, step);
            return;
          }
          for (int i = 0; i < kItems / 2; i++) {
            std::lock_guard guard(turn);  // so that there is an order of queueing
            EXPECT_TRUE(engine->queue_work(*queue, tasks[static_cast<std::size_t>(next++)]->work));
          }
        });
        engine->flush_workqueue(*queue);
        EXPECT_EQ(order.numbers(), ascending(kItems));
      },
      10);
}

TEST(ActiveRules, Rule13OrderedQueuesKeepTheOrderWhileAttributesChange) { ordered_while(Change::kAttributes); }
TEST(ActiveRules, Rule13OrderedQueuesKeepTheOrderWhileTheUnboundMaskChanges) { ordered_while(Change::kMask); }
TEST(ActiveRules, Rule13OrderedQueuesKeepTheOrderWhileCpusGoAndCome) { ordered_while(Change::kCpus); }

TEST(ActiveRules, Rule13AnOrderedQueueHasALimitOfOneForEver) {
  under_many_schedules(
      [] {
        auto engine = make_engine();
        auto queue = make_ordered(*engine);
        EXPECT_EQ(engine->set_max_active(*queue, 2).error().code, Errc::kInvalid);
        EXPECT_EQ(engine->set_min_active(*queue, 2).error().code, Errc::kInvalid);
        EXPECT_EQ(engine->alloc_ordered_workqueue("both", kWqPercpu).error().code, Errc::kInvalid);
      },
      2, 20);
}

TEST(ActiveRules, Rule05RunsOfOneWorkNeverOverlapWhileAttributesChange) {
  under_many_schedules(
      [] {
        auto engine = make_engine();
        auto queue = make_queue(*engine, kWqUnbound);
        platform::Atomic<int> inside{0};
        Task task([&inside] {
          EXPECT_EQ(inside.fetch_add(1), 0);
          platform::this_thread::yield();
          inside.fetch_sub(1);
        });
        platform::Atomic<int> due{0};
        in_threads(3, [&](unsigned thread) {
          for (int step = 0; step < 6; step++) {
            if (thread == 0) {
              change_something(*engine, *queue, Change::kAttributes, step);
            } else if (engine->queue_work_on((step + static_cast<int>(thread)) % 4, *queue, task.work)) {
              due.fetch_add(1);
            }
          }
        });
        engine->flush_workqueue(*queue);
        EXPECT_EQ(task.runs.load(), due.load());  // rule 1: each true is one run
        EXPECT_FALSE(task.work.is_pending());
      },
      10);
}

TEST(ActiveRules, Rule01NoItemIsLostWhileAttributesChange) {
  under_many_schedules(
      [] {
        auto engine = make_engine();
        auto queue = make_queue(*engine, kWqUnbound);
        std::vector<std::unique_ptr<Counter>> counters;
        for (int i = 0; i < 16; i++) counters.push_back(std::make_unique<Counter>());
        in_threads(3, [&](unsigned thread) {
          if (thread == 0) {
            for (int step = 0; step < 4; step++) {
              change_something(*engine, *queue, Change::kMask, step);
              change_something(*engine, *queue, Change::kAttributes, step);
              change_something(*engine, *queue, Change::kCpus, step);
            }
            return;
          }
          for (unsigned i = thread - 1; i < 16; i += 2) {
            EXPECT_TRUE(engine->queue_work_on(static_cast<int>(i % 4), *queue, counters[i]->work));
          }
        });
        engine->flush_workqueue(*queue);
        for (const auto& counter : counters) EXPECT_EQ(counter->runs.load(), 1);
      },
      10);
}

/// The pool of old attributes goes while a flusher of a work that was taken back still waits there.
TEST(ActiveRules, Rule15AFlushEndsThoughItsWorkWasTakenBackAndAttributesChange) {
  under_many_schedules(
      [] {
        auto engine = make_engine();
        auto queue = make_queue(*engine, kWqUnbound | kWqFreezable);
        engine->freeze_workqueues();  // so that the work waits, and its flushers with it
        Task task([] {});
        in_threads(3, [&](unsigned thread) {
          for (int step = 0; step < 5; step++) {
            if (thread == 0) {
              change_something(*engine, *queue, Change::kAttributes, step);
            } else if (thread == 1) {
              engine->queue_work(*queue, task.work);
              platform::this_thread::yield();
              engine->cancel_work(task.work);
            } else {
              engine->flush_work(task.work);
            }
          }
        });
        engine->thaw_workqueues();
        EXPECT_EQ(task.runs.load(), 0);
      },
      10);
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
