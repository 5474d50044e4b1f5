// SPDX-License-Identifier: Apache-2.0
// Works that go while they are pending or running. Of builds that check lifetimes.
#include "workqueue/lifetime.h"

#include <cstring>
#include <memory>
#include <new>

#include "tests/workqueue/rules.h"
#include "workqueue/rcu_work.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

using Kind = Report::Kind;

static_assert(lifetime::kChecked);

Engine::Options reporting_to(Reports& reports) {
  auto options = engine_options();
  options.report = reports.sink();
  return options;
}

bool names(const StackTrace& stack, std::string_view function) {
  return std::ranges::any_of(symbolize(stack), [function](const StackFrame& frame) {
    return frame.function.find(function) != std::string::npos;
  });
}

// Functions to be found in stacks.
template <class T>
[[gnu::noinline]] void who_destroys(std::unique_ptr<T>& owner) {
  owner.reset();
  asm volatile("");  // no tail call
}
[[gnu::noinline]] bool who_queues(Engine& engine, Work& work) {
  const bool queued = engine.queue_work_on(1, engine.system_wq(), work);
  asm volatile("");
  return queued;
}
[[gnu::noinline]] bool who_delays(Engine& engine, DelayedWork& work) {
  const bool queued = engine.schedule_delayed_work(work, 1h);
  asm volatile("");
  return queued;
}
[[gnu::noinline]] bool who_modifies(Engine& engine, DelayedWork& work) {
  const bool was_pending = engine.mod_delayed_work_on(1, engine.system_wq(), work, 0ns);
  asm volatile("");
  return was_pending;
}

/// Exactly one report, with the stack of whoever let the work go and that of `queuer`.
void expect_one_report(const Reports& reports, std::string_view text, std::string_view queuer) {
  ASSERT_EQ(reports.count(Kind::kLifetime), 1U);
  const Report report = reports.first_report(Kind::kLifetime);
  EXPECT_EQ(report.text.find(text), 0U) << report.text;
  ASSERT_GE(report.evidence.size(), 1U);
  EXPECT_EQ(report.evidence[0].what, "queued by");
  EXPECT_TRUE(names(report.evidence[0].stack, queuer)) << report.to_text();
}

TEST(Lifetime, DestroyingAPendingWorkIsReportedWithBothStacksAndTheWorkIsCancelled) {
  under_many_schedules(
      [] {
        Reports reports;
        auto engine = make_engine(reporting_to(reports));
        auto counter = std::make_unique<Counter>();
        Counter next;
        {
          Occupied occupied(*engine, 1);
          EXPECT_TRUE(who_queues(*engine, counter->work));
          EXPECT_TRUE(who_queues(*engine, next.work));
          who_destroys(counter);
        }
        engine->flush_work(next.work);  // the list is whole
        EXPECT_EQ(next.runs.load(), 1);
        expect_one_report(reports, "a work was destroyed while it was pending: ", "who_queues");
        EXPECT_TRUE(names(reports.first_report(Kind::kLifetime).caller, "who_destroys"))
            << reports.first_report(Kind::kLifetime).to_text();
      },
      3, 100);
}

TEST(Lifetime, DestroyingADelayedWorkWithAnArmedTimerIsReportedWithBothStacks) {
  under_many_schedules(
      [] {
        Reports reports;
        auto engine = make_engine(reporting_to(reports));
        auto work = std::make_unique<DelayedWork>(+[](Work&) { ADD_FAILURE() << "it ran"; });
        EXPECT_TRUE(who_delays(*engine, *work));
        who_destroys(work);
        expect_one_report(reports, "a work was destroyed while it was pending on its timer: ", "who_delays");
        EXPECT_TRUE(names(reports.first_report(Kind::kLifetime).caller, "who_destroys"));
      },
      3, 100);
}

TEST(Lifetime, WhoeverModifiedADelayedWorkLastIsToBlame) {
  under_many_schedules(
      [] {
        Reports reports;
        auto engine = make_engine(reporting_to(reports));
        auto work = std::make_unique<DelayedWork>(+[](Work&) { ADD_FAILURE() << "it ran"; });
        {
          Occupied occupied(*engine, 1);
          EXPECT_TRUE(who_delays(*engine, *work));
          EXPECT_TRUE(who_modifies(*engine, *work));
          who_destroys(work);
        }
        expect_one_report(reports, "a work was destroyed while it was pending: ", "who_modifies");
      },
      3, 100);
}

/// Room for a T that is made in place. With braces: parentheses would zero all of a Counter first.
template <class T>
class Place {
 public:
  template <class... Args>
  T& make(Args&&... args) {
    return *new (&room_) T{std::forward<Args>(args)...};
  }

 private:
  alignas(T) std::byte room_[sizeof(T)];
};

TEST(Lifetime, MakingAWorkAnewWhileItsTimerIsArmedIsReported) {
  under_many_schedules(
      [] {
        Reports reports;
        auto engine = make_engine(reporting_to(reports));
        const auto place = std::make_unique<Place<DelayedWork>>();
        const auto nothing = +[](Work&) {};
        EXPECT_TRUE(who_delays(*engine, place->make(nothing)));
        DelayedWork& work = place->make(nothing);
        expect_one_report(reports, "a work was made anew while it was pending on its timer: ", "who_delays");
        EXPECT_TRUE(engine->schedule_delayed_work(work, 0ns));  // the new one is as good as any
        engine->flush_delayed_work(work);
        work.~DelayedWork();
        EXPECT_EQ(reports.count(Kind::kLifetime), 1U);
      },
      3, 100);
}

TEST(Lifetime, MakingAWorkAnewWhileItIsPendingIsReported) {
  under_many_schedules(
      [] {
        Reports reports;
        auto engine = make_engine(reporting_to(reports));
        const auto place = std::make_unique<Place<Counter>>();
        Counter* counter = &place->make();
        {
          Occupied occupied(*engine, 1);
          EXPECT_TRUE(who_queues(*engine, counter->work));
          counter = &place->make();
          expect_one_report(reports, "a work was made anew while it was pending: ", "who_queues");
          EXPECT_TRUE(engine->queue_work_on(1, engine->system_wq(), counter->work));
        }
        engine->flush_work(counter->work);
        EXPECT_EQ(counter->runs.load(), 1);
        counter->~Counter();
        EXPECT_EQ(reports.count(Kind::kLifetime), 1U);
      },
      3, 100);
}

/// Runs until it is let go; what it needs for that is not its own.
struct LongRun {
  LongRun(Completion& has_started, Completion& may_go, bool says_so)
      : started(&has_started), go(&may_go), hands_over(says_so) {}
  void run(Work&) { go_on(*started, *go); }
  [[gnu::noinline]] void go_on(Completion& has_started, Completion& may_go) const {
    if (hands_over) lifetime::hand_over(work);
    has_started.complete();
    may_go.wait();
    asm volatile("");
  }
  Completion* started;
  Completion* go;
  bool hands_over;
  Work work{this, &LongRun::run};
};

TEST(Lifetime, DestroyingAWorkThatGoesOnRunningIsReportedWithWhereItIs) {
  under_many_schedules(
      [] {
        Reports reports;
        Completion started, go;
        auto engine = make_engine(reporting_to(reports));
        auto work = std::make_unique<LongRun>(started, go, false);
        EXPECT_TRUE(who_queues(*engine, work->work));
        started.wait();
        who_destroys(work);
        expect_one_report(reports, "a work was destroyed while it was running: ", "who_queues");
        const Report report = reports.first_report(Kind::kLifetime);
        EXPECT_TRUE(names(report.caller, "who_destroys"));
#if !defined(UPCI_SIM)  // a fiber has no live stack
        ASSERT_EQ(report.evidence.size(), 2U);
        EXPECT_TRUE(names(report.evidence[1].stack, "LongRun::go_on")) << report.to_text();
#endif
        go.complete();
      },
      1, 100);
}

TEST(Lifetime, AFunctionThatHasHandedItsWorkOverMayGoOn) {
  under_many_schedules(
      [] {
        Reports reports;
        Completion started, go;
        auto engine = make_engine(reporting_to(reports));
        auto work = std::make_unique<LongRun>(started, go, true);
        EXPECT_TRUE(who_queues(*engine, work->work));
        started.wait();
        const auto before = platform::Clock::now();
        work.reset();
        EXPECT_LT(platform::Clock::now() - before, lifetime::kLastWords);  // nor is it waited for
        EXPECT_EQ(reports.count(Kind::kLifetime), 0U) << reports.first(Kind::kLifetime);
        go.complete();
      },
      3, 100);
}

TEST(Lifetime, WhoIsToldByAFunctionThatItIsDoneMayFreeItsWork) {
  under_many_schedules(
      [] {
        Reports reports;
        auto engine = make_engine(reporting_to(reports));
        for (int i = 0; i < 8; i++) {
          Counter counter;
          engine->schedule_work(counter.work);
          while (counter.runs.load() == 0) sleep_for(1us);
        }
        EXPECT_EQ(reports.count(Kind::kLifetime), 0U) << reports.first(Kind::kLifetime);
      },
      20, 100);
}

struct Suicidal : Work {
  explicit Suicidal(Engine* again = nullptr) : Work(&run), engine(again) {}
  static void run(Work& work) {
    auto* self = static_cast<Suicidal*>(&work);
    if (self->engine != nullptr) self->engine->schedule_work(work);
    delete self;
  }
  Engine* engine;
};

TEST(Lifetime, Rule06AFunctionMayFreeItsWorkAndIdleWorksMayGo) {
  under_many_schedules(
      [] {
        Reports reports;
        auto engine = make_engine(reporting_to(reports));
        for (int i = 0; i < 4; i++) {
          engine->schedule_work(*new Suicidal);
          Counter counter;
          engine->schedule_work(counter.work);
          engine->flush_work(counter.work);
          engine->schedule_work(counter.work);
          engine->cancel_work_sync(counter.work);
          DelayedWork delayed(+[](Work&) {});
          engine->schedule_delayed_work(delayed, 1h);
          engine->mod_delayed_work(engine->system_wq(), delayed, 2h);
          engine->cancel_delayed_work_sync(delayed);
          (void)engine->work_on_cpu(1, [] { return 1; });
        }
        engine->flush_workqueue(engine->system_wq());
        EXPECT_EQ(reports.count(Kind::kLifetime), 0U) << reports.first(Kind::kLifetime);
      },
      3, 100);
}

TEST(Lifetime, AFunctionThatFreesItsWorkAfterQueueingItAgainIsReported) {
  under_many_schedules(
      [] {
        Reports reports;
        auto engine = make_engine(reporting_to(reports));
        engine->schedule_work(*new Suicidal(engine.get()));
        EXPECT_TRUE(eventually([&] { return reports.count(Kind::kLifetime) == 1; }));
        expect_one_report(reports, "a work was destroyed while it was pending: ", "Suicidal::run");
      },
      3, 100);
}

TEST(Lifetime, WhatAnEngineDropsAtItsEndMayGo) {
  under_many_schedules(
      [] {
        Reports reports;
        DelayedWork late(+[](Work&) {});
        auto engine = make_engine(reporting_to(reports));
        engine->schedule_delayed_work(late, 1h);
        engine.reset();
        EXPECT_FALSE(late.is_pending());
      },
      3, 100);
}

#if !defined(UPCI_SIM)
/// An engine whose program has no sink.
std::unique_ptr<Engine> trapping_engine() {
  auto options = engine_options();
  options.report = nullptr;
  return make_engine(std::move(options));
}

TEST(LifetimeDeathTest, WithoutASinkTheReportIsPrintedAndTheProcessTrapped) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        const auto engine = trapping_engine();
        auto work = std::make_unique<DelayedWork>(+[](Work&) {});
        who_delays(*engine, *work);
        who_destroys(work);
      },
      "a work was destroyed while it was pending on its timer.*\n(.*\n)*.*who_destroys(.*\n)*.*queued "
      "by(.*\n)*.*who_delays");
}

TEST(LifetimeDeathTest, DestroyingAWorkThatWaitsForReadersIsTrapped) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        const auto engine = trapping_engine();
        const RcuReader reader(engine->rcu());
        auto work = std::make_unique<RcuWork>(+[](Work&) {});
        engine->queue_rcu_work(engine->system_wq(), *work);
        who_destroys(work);
      },
      "a work was destroyed while it was waiting for a grace period");
}

TEST(LifetimeDeathTest, MakingAnewAWorkWhosePlaceWasZeroedWhileItWasPendingIsTrapped) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        const auto engine = trapping_engine();
        const auto place = std::make_unique<Place<DelayedWork>>();
        const auto nothing = +[](Work&) {};
        DelayedWork& work = place->make(nothing);
        who_delays(*engine, work);
        std::memset(static_cast<void*>(&work), 0, sizeof work);
        place->make(nothing);
      },
      "a work was made anew while it was pending on its timer: .*; whoever comes to it will find what is there then");
}
#endif

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
