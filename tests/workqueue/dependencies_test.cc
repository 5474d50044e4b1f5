// SPDX-License-Identifier: Apache-2.0
// Waits that together can deadlock are reported the first time that their order is seen.
#include <functional>

#include "tests/workqueue/rules.h"
#include "workqueue/untracked_waits.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

using Kind = Report::Kind;

/// Items of different functions, so that each N is a class of its own.
template <int N>
struct Item {
  explicit Item(std::function<void()> todo = {}) : body(std::move(todo)) {}
  void run(Work&) {
    if (body) body();
  }
  std::function<void()> body;
  Work work{this, &Item::run};
};

struct Scene {
  explicit Scene(DependencyTracking tracking = DependencyTracking::kCompletions) {
    auto options = engine_options();
    options.report = reports.sink();
    options.track_dependencies = tracking;
    engine = make_engine(std::move(options));
    q = *engine->alloc_workqueue("q", 0);
    r = *engine->alloc_workqueue("r", 0);
    ordered = *engine->alloc_ordered_workqueue("ordered");
  }
  /// Queues, and waits from outside, which is nobody's dependency.
  void run(Workqueue& wq, Work& work, int cpu = 1) {
    EXPECT_TRUE(engine->queue_work_on(cpu, wq, work));
    engine->flush_work(work);
  }
  std::size_t cycles() const { return reports.count(Kind::kDependencyCycle); }

  Reports reports;
  std::unique_ptr<Engine> engine;
  WorkqueuePtr q, r, ordered;
};

/// For what does not depend on the interleaving; each report costs milliseconds.
template <class F>
void once(F body) {
#if defined(UPCI_SIM)
  for_each_seed(3, body);
#else
  body();
#endif
}

TEST(Dependencies, TwoItemsThatFlushEachOtherAreReportedThoughTheyNeverMeet) {
  under_many_schedules(
      [] {
        Scene s;
        Item<1> a;
        Item<2> b;
        a.body = [&] { s.engine->flush_work(b.work); };
        b.body = [&] { s.engine->flush_work(a.work); };
        s.run(*s.q, a.work);
        EXPECT_EQ(s.cycles(), 0U);
        s.run(*s.r, b.work);
        EXPECT_EQ(s.cycles(), 1U);
        for (int i = 0; i < 3; i++) {
          s.run(*s.q, a.work);
          s.run(*s.r, b.work);
        }
        EXPECT_EQ(s.cycles(), 1U);  // said once
      },
      3);
}

TEST(Dependencies, ACycleIsReportedWithBothStacks) {
  once([] {
    Scene s;
    Item<1> a;
    Item<2> b;
    a.body = [&] { s.engine->flush_work(b.work); };
    b.body = [&] { s.engine->flush_work(a.work); };
    s.run(*s.q, a.work);
    s.run(*s.r, b.work);
    const Report report = s.reports.first_report(Kind::kDependencyCycle);
    EXPECT_GT(report.caller.depth, 0U);
    ASSERT_EQ(report.evidence.size(), 1U);
    EXPECT_GT(report.evidence[0].stack.depth, 0U);
    const std::string text = report.to_text();
    EXPECT_NE(report.text.find("Item<1>"), std::string::npos) << text;
    EXPECT_NE(report.text.find("Item<2>"), std::string::npos) << text;
    EXPECT_NE(report.text.find("flush_work, seen before"), std::string::npos) << text;
  });
}

TEST(Dependencies, TheOrderOfOneObjectIsKnownForItsKind) {
  under_many_schedules(
      [] {
        Scene s;
        Item<1> a, other_a;
        Item<2> b, other_b;
        a.body = [&] { s.engine->flush_work(b.work); };
        other_b.body = [&] { s.engine->flush_work(other_a.work); };
        s.run(*s.q, a.work);
        s.run(*s.q, other_b.work);
        EXPECT_EQ(s.cycles(), 1U);
      },
      3);
}

TEST(Dependencies, ACancelThatWaitsCountsToo) {
  under_many_schedules(
      [] {
        Scene s;
        Item<1> a;
        Item<2> b;
        a.body = [&] { s.engine->cancel_work_sync(b.work); };
        b.body = [&] { s.engine->disable_work_sync(a.work); };
        s.run(*s.q, a.work);
        s.run(*s.q, b.work);
        EXPECT_EQ(s.cycles(), 1U);
        s.engine->enable_work(a.work);
      },
      3);
}

TEST(Dependencies, QueuesThatAreFlushedByEachOthersItems) {
  under_many_schedules(
      [] {
        Scene s;
        Item<1> a([&] { s.engine->flush_workqueue(*s.r); });
        Item<2> b([&] { s.engine->drain_workqueue(*s.q); });
        s.run(*s.q, a.work);
        EXPECT_EQ(s.cycles(), 0U);
        s.run(*s.r, b.work);
        EXPECT_EQ(s.cycles(), 1U);
        s.run(*s.r, b.work);
        s.run(*s.q, a.work);
        EXPECT_EQ(s.cycles(), 1U);
      },
      3);
}

TEST(Dependencies, AThreeItemCycleThroughAQueueIsFound) {
  once([] {
    Scene s;
    Item<1> a;
    Item<2> b([&] { s.engine->flush_workqueue(*s.q); });
    Item<3> c([&] { s.engine->flush_work(b.work); });
    a.body = [&] { s.engine->flush_work(c.work); };
    s.run(*s.r, b.work);
    s.run(*s.r, c.work);
    EXPECT_EQ(s.cycles(), 0U);
    s.run(*s.q, a.work);  // of q; b waits for all of q
    EXPECT_EQ(s.cycles(), 1U);
    EXPECT_EQ(s.reports.first_report(Kind::kDependencyCycle).evidence.size(), 2U);
  });
}

TEST(Dependencies, OnAnOrderedQueueAnItemThatIsWaitedForNeedsItsTurn) {
  under_many_schedules(
      [] {
        Scene s;
        Item<1> helper;
        Item<2> first;
        first.body = [&] { s.engine->flush_work(helper.work); };
        // Seen on another queue, or idle: legal.
        s.run(*s.r, helper.work);
        s.run(*s.q, first.work);
        EXPECT_EQ(s.cycles(), 0U);
        // A third one, elsewhere, waits for an item of the ordered queue while another of that queue waits for the third.
        Item<3> outside;
        Item<4> inside([] { sleep_for(1ms); });
        outside.body = [&] {
          s.engine->queue_work(*s.ordered, inside.work);
          s.engine->flush_work(inside.work);
        };
        Item<5> front([&] { s.engine->flush_work(outside.work); });
        s.run(*s.q, outside.work);
        EXPECT_EQ(s.cycles(), 0U);
        s.run(*s.ordered, front.work);
        EXPECT_EQ(s.cycles(), 1U);
        EXPECT_NE(s.reports.first(Kind::kDependencyCycle).find("its turn"), std::string::npos);
      },
      3);
}

TEST(Dependencies, CancellingWhatWaitsForItsTurnIsLegal) {
  under_many_schedules(
      [] {
        Scene s;
        Item<1> victim;
        Item<2> canceller([&] {
          s.engine->queue_work(*s.ordered, victim.work);
          EXPECT_TRUE(s.engine->cancel_work_sync(victim.work));
        });
        s.run(*s.ordered, canceller.work);
        s.run(*s.ordered, victim.work);
        EXPECT_EQ(s.cycles(), 0U);
      },
      3);
}

TEST(Dependencies, LegalOrdersAreNotReported) {
  under_many_schedules(
      [] {
        Scene s;
        Item<1> a;
        Item<2> b([&] { s.engine->flush_work(a.work); });
        Item<3> c([&] {
          s.engine->flush_work(b.work);
          s.engine->flush_work(a.work);
          s.engine->cancel_work_sync(a.work);
        });
        // A parent of its children's function, and they of theirs.
        Item<4> leaf;
        Item<4> middle([&] {
          s.engine->queue_work(*s.q, leaf.work);
          s.engine->flush_work(leaf.work);
        });
        Item<4> root([&] {
          s.engine->queue_work(*s.q, middle.work);
          s.engine->flush_work(middle.work);
        });
        Item<5> flusher([&] { s.engine->flush_workqueue(*s.q); });
        for (int i = 0; i < 2; i++) {
          for (Work* work : {&a.work, &b.work, &c.work, &root.work}) s.engine->queue_work_on(i, *s.q, *work);
          s.run(*s.r, flusher.work);
          s.engine->flush_workqueue(*s.q);
        }
        EXPECT_EQ(s.cycles(), 0U) << s.reports.first(Kind::kDependencyCycle);
      },
      3);
}

TEST(Dependencies, TwoObjectsOfOneFunctionThatWaitForEachOther) {
  under_many_schedules(
      [] {
        Scene s;
        Item<1> a;
        Item<1> b([&] { s.engine->flush_work(a.work); });
        a.body = [&] { s.engine->flush_work(b.work); };
        s.run(*s.q, a.work);
        s.run(*s.q, b.work);
        EXPECT_EQ(s.cycles(), 1U);
      },
      3);
}

TEST(Dependencies, AnObjectMadeAnewIsAnotherOne) {
  under_many_schedules(
      [] {
        Scene s;
        std::optional<Item<1>> one, two;
        const auto wait_for = [&](std::optional<Item<1>>& waiter, std::optional<Item<1>>& other) {
          one.emplace();
          two.emplace();
          waiter->body = [&] { s.engine->flush_work(other->work); };
          s.run(*s.q, other->work);
          s.run(*s.q, waiter->work);
        };
        wait_for(one, two);
        wait_for(two, one);
        EXPECT_EQ(s.cycles(), 0U);
      },
      3);
}

TEST(Dependencies, AnExemptedWaitIsNotRemembered) {
  once([] {
    Scene s;
    Item<1> a;
    Item<2> b;
    a.body = [&] {
      const UntrackedWaits never_together;
      s.engine->flush_work(b.work);
    };
    b.body = [&] { s.engine->flush_work(a.work); };
    s.run(*s.q, a.work);
    s.run(*s.q, b.work);
    EXPECT_EQ(s.cycles(), 0U);
  });
}

// Rule 31's deadlock: an item of an ordered queue sleeps for what a later item of the queue would give.
void wait_for_what_comes_later(Scene& s) {
  Completion given;
  Item<1> giver([&] { given.complete(); });
  Item<2> taker([&] { EXPECT_TRUE(given.wait(Deadline::after(5s))); });
  // This time the other way round: it does not deadlock.
  s.run(*s.ordered, giver.work);
  s.run(*s.ordered, taker.work);
}

TEST(Dependencies, Rule31ACompletionOfALaterItemOfAnOrderedQueueIsNamed) {
  under_many_schedules(
      [] {
        Scene s;
        wait_for_what_comes_later(s);
        EXPECT_EQ(s.cycles(), 1U);
        const std::string text = s.reports.first(Kind::kDependencyCycle);
        EXPECT_NE(text.find("Item<1>"), std::string::npos) << text;
        EXPECT_NE(text.find("Item<2>"), std::string::npos) << text;
        EXPECT_NE(text.find("Completion::wait"), std::string::npos) << text;
      },
      3);
}

TEST(Dependencies, ACompletionAndAFlushTogether) {
  under_many_schedules(
      [] {
        Scene s;
        Completion given;
        Item<1> giver;
        Item<2> taker([&] { EXPECT_TRUE(given.wait(Deadline::after(5s))); });
        giver.body = [&] { given.complete(); };
        s.engine->queue_work_on(1, *s.q, taker.work);
        s.run(*s.q, giver.work);
        s.engine->flush_work(taker.work);
        EXPECT_EQ(s.cycles(), 0U);  // on a queue for many that resolves by itself
        giver.body = [&] { s.engine->flush_work(taker.work); };
        s.run(*s.q, giver.work);
        EXPECT_EQ(s.cycles(), 1U);
      },
      3);
}

TEST(Dependencies, CompletionsAreNotTrackedUnlessAskedFor) {
  once([] {
    Scene s(DependencyTracking::kWaits);
    wait_for_what_comes_later(s);
    EXPECT_EQ(s.cycles(), 0U);
  });
}

TEST(Dependencies, OffMeansOff) {
  once([] {
    Scene s(DependencyTracking::kOff);
    Item<1> a;
    Item<2> b([&] { s.engine->flush_work(a.work); });
    a.body = [&] { s.engine->flush_work(b.work); };
    s.run(*s.q, a.work);
    s.run(*s.q, b.work);
    EXPECT_EQ(s.cycles(), 0U);
  });
}

TEST(Dependencies, ADestroyedQueueIsForgotten) {
  once([] {
    Scene s;
    Item<1> a;
    Item<2> b([&] { s.engine->flush_workqueue(*s.q); });
    s.run(*s.r, b.work);
    s.r.reset();
    s.r = *s.engine->alloc_workqueue("another", 0);
    a.body = [&] { s.engine->flush_workqueue(*s.r); };
    s.run(*s.q, a.work);
    EXPECT_EQ(s.cycles(), 0U);
  });
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
