// SPDX-License-Identifier: Apache-2.0
// Rules 28 and 29, and what callers do wrong: each is an Error or a Report that names the caller, and nothing else happens.
#include <cstring>
#include <new>

#include "tests/workqueue/rules.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

using Kind = Report::Kind;

Engine::Options reporting_to(Reports& reports) {
  Engine::Options options = engine_options();
  options.report = reports.sink();
  return options;
}

/// Exactly so many of that kind, each with its caller's stack.
void expect_reports(const Reports& reports, Kind kind, std::size_t count) {
  const auto found = reports.all(kind);
  EXPECT_EQ(found.size(), count) << to_string(kind);
  for (const Report& report : found) EXPECT_GT(report.caller.depth, 0U) << report.text;
}

// --- rule 28 ---

TEST(ReportRules, Rule28WaitingForAQueueWithoutARescuerFromAnItemWithOneIsReported) {
  under_many_schedules([] {
    Reports reports;
    auto engine = make_engine(reporting_to(reports));
    auto with = make_queue(*engine, kWqPercpu | kWqMemReclaim, 0, "with");
    auto with_too = make_queue(*engine, kWqPercpu | kWqMemReclaim, 0, "with_too");
    auto without = make_queue(*engine, kWqPercpu, 0, "without");
    Task flushes([&] {
      engine->flush_workqueue(*with_too);
      EXPECT_EQ(reports.count(Kind::kFlushDependency), 0U);
      engine->flush_workqueue(*without);
    });
    engine->queue_work_on(1, *with, flushes.work);
    engine->flush_work(flushes.work);
    expect_reports(reports, Kind::kFlushDependency, 1);
    const std::string text = reports.first(Kind::kFlushDependency);
    EXPECT_NE(text.find("'with'"), std::string::npos) << text;
    EXPECT_NE(text.find("'without'"), std::string::npos) << text;
    // The other way round there is nothing to say.
    Task harmless([&] { engine->flush_workqueue(*with); });
    engine->queue_work_on(1, *without, harmless.work);
    engine->flush_work(harmless.work);
    expect_reports(reports, Kind::kFlushDependency, 1);
  });
}

TEST(ReportRules, Rule28SoIsWaitingForAnItemOfSuchAQueueButNotCancellingIt) {
  under_many_schedules([] {
    Reports reports;
    auto engine = make_engine(reporting_to(reports));
    auto with = make_queue(*engine, kWqPercpu | kWqMemReclaim, 0, "with");
    auto without = make_queue(*engine, kWqPercpu, 0, "without");
    Gate gate;
    Tasks held = gate.tasks(2);
    for (const auto& task : held) engine->queue_work_on(2, *without, task->work);
    EXPECT_TRUE(eventually([&] { return gate.started() == 2; }));
    platform::Atomic<int> stage{0};
    Task waits([&] {
      stage.store(1);
      engine->cancel_work_sync(held[0]->work);
      EXPECT_EQ(reports.count(Kind::kFlushDependency), 0U);
    });
    Task flushes([&] { engine->flush_work(held[1]->work); });
    engine->queue_work_on(1, *with, waits.work);
    EXPECT_TRUE(eventually([&] { return stage.load() == 1; }));
    gate.open();
    engine->flush_work(waits.work);
    engine->flush_workqueue(*without);
    Gate again;
    Task runs([&] { again.pass(); });
    engine->queue_work_on(2, *without, runs.work);
    EXPECT_TRUE(eventually([&] { return again.started() == 1; }));
    Task asks([&] { engine->flush_work(runs.work); });
    engine->queue_work_on(1, *with, asks.work);
    EXPECT_TRUE(eventually([&] { return reports.count(Kind::kFlushDependency) == 1; }));
    again.open();
    engine->flush_work(asks.work);
    expect_reports(reports, Kind::kFlushDependency, 1);
  });
}

TEST(ReportRules, Rule28FlushingASystemQueueIsReported) {
  under_many_schedules([] {
    Reports reports;
    auto engine = make_engine(reporting_to(reports));
    auto own = make_queue(*engine, kWqPercpu);
    engine->flush_workqueue(*own);
    expect_reports(reports, Kind::kFlushDependency, 0);
    Counter counter;
    engine->schedule_work(counter.work);
    engine->flush_scheduled_work();  // still flushes
    EXPECT_EQ(counter.runs.load(), 1);
    engine->flush_workqueue(engine->system_unbound_wq());
    expect_reports(reports, Kind::kFlushDependency, 2);
    EXPECT_NE(reports.first(Kind::kFlushDependency).find("'events'"), std::string::npos);
  });
}

TEST(ReportRules, Rule28FlushingOneselfIsReportedAndDoesNotHang) {
  under_many_schedules([] {
    Reports reports;
    auto engine = make_engine(reporting_to(reports));
    auto queue = make_queue(*engine, kWqPercpu);
    Work* self = nullptr;
    Task selfish([&] {
      EXPECT_FALSE(engine->flush_work(*self));
      EXPECT_FALSE(engine->cancel_work_sync(*self));
      engine->flush_workqueue(*queue);
      engine->drain_workqueue(*queue);
      queue.reset();  // the queue stays
    });
    self = &selfish.work;
    Workqueue* raw = queue.get();
    engine->queue_work_on(1, *queue, selfish.work);
    engine->flush_work(selfish.work);
    EXPECT_EQ(selfish.runs.load(), 1);
    expect_reports(reports, Kind::kSelfFlush, 5);
    Counter counter;
    EXPECT_TRUE(engine->queue_work(*raw, counter.work));
    engine->flush_work(counter.work);
    EXPECT_EQ(counter.runs.load(), 1);
  });
}

// --- rule 29 ---

#if defined(UPCI_SIM)
Engine::Options watched(Reports& reports) {
  Engine::Options options = reporting_to(reports);
  options.watchdog = 20ms;
  return options;
}

TEST(ReportRules, Rule29AStalledPoolIsReportedOncePerPeriod) {
  under_many_schedules(
      [] {
        Reports reports;
        auto engine = make_engine(watched(reports));
        Counter behind;
        Task hog([] { platform::sim::consume(75ms); });
        engine->queue_work_on(1, engine->system_wq(), hog.work);
        engine->queue_work_on(1, engine->system_wq(), behind.work);
        engine->flush_work(behind.work);
        EXPECT_EQ(reports.count(Kind::kStall), 3U);  // at 20, 40 and 60 ms
        sleep_for(200ms);
        EXPECT_EQ(reports.count(Kind::kStall), 3U);
      },
      1, 5);
}

TEST(ReportRules, Rule29AnEmptyPoolAndAFrozenOneAreNot) {
  under_many_schedules(
      [] {
        Reports reports;
        auto engine = make_engine(watched(reports));
        auto frozen = make_queue(*engine, kWqPercpu | kWqFreezable);
        engine->freeze_workqueues();
        Counter waits;
        engine->queue_work_on(2, *frozen, waits.work);
        Task hog([] { platform::sim::consume(75ms); });
        engine->queue_work_on(1, engine->system_wq(), hog.work);
        engine->flush_work(hog.work);
        sleep_for(100ms);
        EXPECT_EQ(reports.count(Kind::kStall), 0U);
        engine->thaw_workqueues();
        engine->flush_workqueue(*frozen);
      },
      1, 300);
}

TEST(ReportRules, Rule29APoolThatStartsItemsIsNot) {
  under_many_schedules(
      [] {
        Reports reports;
        auto engine = make_engine(watched(reports));
        Tasks tasks;
        for (int i = 0; i < 10; i++) {
          tasks.push_back(std::make_unique<Task>([] { platform::sim::consume(15ms); }));
          engine->queue_work_on(1, engine->system_wq(), tasks.back()->work);
        }
        for (const auto& task : tasks) engine->flush_work(task->work);
        EXPECT_EQ(reports.count(Kind::kStall), 0U);
      },
      1, 300);
}
#endif

// --- misuse ---

TEST(Misuse, AWorkWithoutAFunctionIsRefused) {
  under_many_schedules([] {
    Reports reports;
    auto engine = make_engine(reporting_to(reports));
    Work null{static_cast<WorkFunction::Plain>(nullptr)};
    DelayedWork late{static_cast<WorkFunction::Plain>(nullptr)};
    alignas(Work) std::byte place[sizeof(Work)] = {};
    EXPECT_FALSE(engine->schedule_work(null));
    EXPECT_FALSE(engine->schedule_work(*std::launder(reinterpret_cast<Work*>(place))));  // zeroed, never constructed
    EXPECT_FALSE(engine->schedule_delayed_work(late, 1ms));
    EXPECT_FALSE(engine->mod_delayed_work(engine->system_wq(), late, 1ms));
    EXPECT_FALSE(null.is_pending());
    EXPECT_FALSE(engine->flush_work(null));
    EXPECT_FALSE(engine->cancel_work_sync(null));
    expect_reports(reports, Kind::kMisuse, 4);
  });
}

TEST(Misuse, ADestroyedQueueIsRefusedAlsoWhenManyHaveBeenMadeSince) {
  under_many_schedules(
      [] {
        Reports reports;
        auto engine = make_engine(reporting_to(reports));
        Counter counter;
        DelayedWork late{[](Work&) {}};
        Workqueue* stale = nullptr;
        {
          auto queue = make_queue(*engine, kWqUnbound);
          stale = queue.get();
        }
        for (int i = 0; i < 20; i++) make_queue(*engine, i % 2 == 0 ? kWqUnbound : kWqPercpu);
        EXPECT_FALSE(engine->queue_work(*stale, counter.work));
        EXPECT_FALSE(engine->queue_delayed_work(*stale, late, 1ms));
        EXPECT_FALSE(engine->mod_delayed_work(*stale, late, 1ms));
        engine->flush_workqueue(*stale);
        engine->drain_workqueue(*stale);
        EXPECT_EQ(engine->set_max_active(*stale, 3).error().code, Errc::kState);
        EXPECT_EQ(engine->set_min_active(*stale, 3).error().code, Errc::kState);
        EXPECT_EQ(engine->apply_workqueue_attrs(*stale, {}).error().code, Errc::kState);
        EXPECT_EQ(engine->workqueue_attrs(*stale).error().code, Errc::kState);
        expect_reports(reports, Kind::kMisuse, 9);
        EXPECT_FALSE(counter.work.is_pending());
      },
      3, 50);
}

TEST(Misuse, AQueueOfAnotherEngineIsRefused) {
  under_many_schedules(
      [] {
        Reports reports;
        auto engine = make_engine(reporting_to(reports));
        auto other = make_engine();
        auto queue = make_queue(*other, kWqPercpu);
        Counter counter;
        DelayedWork late{[](Work&) {}};
        EXPECT_FALSE(engine->queue_work(*queue, counter.work));
        EXPECT_FALSE(engine->queue_work_node(0, *queue, counter.work));
        EXPECT_FALSE(engine->queue_delayed_work(*queue, late, 0ns));
        engine->flush_workqueue(*queue);
        expect_reports(reports, Kind::kMisuse, 4);
        EXPECT_TRUE(other->queue_work(*queue, counter.work));
        other->flush_workqueue(*queue);
      },
      3, 100);
}

TEST(Misuse, ACpuThatDoesNotExistIsRefused) {
  under_many_schedules(
      [] {
        Reports reports;
        auto engine = make_engine(reporting_to(reports));
        Counter counter;
        DelayedWork late{[](Work&) {}};
        for (const int cpu : {4, 1 << 20, -2, INT32_MAX, INT32_MIN}) {
          EXPECT_FALSE(engine->queue_work_on(cpu, engine->system_wq(), counter.work));
          EXPECT_FALSE(engine->queue_delayed_work_on(cpu, engine->system_wq(), late, 1ms));
        }
        expect_reports(reports, Kind::kMisuse, 10);
        EXPECT_FALSE(late.is_pending());
      },
      3, 100);
}

TEST(Misuse, LimitsFlagsAndAttributesOutOfRangeAreErrors) {
  under_many_schedules(
      [] {
        auto engine = make_engine();
        const auto refused = [&](WqFlags flags, int max_active, std::string name = "bad") {
          auto made = engine->alloc_workqueue(std::move(name), flags, max_active);
          return !made && made.error().code == Errc::kInvalid;
        };
        EXPECT_TRUE(refused(kWqPercpu, -1));
        EXPECT_TRUE(refused(kWqPercpu, kWqMaxActive + 1));
        EXPECT_TRUE(refused(kWqPercpu | kWqUnbound, 0));
        EXPECT_TRUE(refused(kWqBh | kWqUnbound, 0));
        EXPECT_TRUE(refused(kWqBh | kWqMemReclaim, 0));
        EXPECT_TRUE(refused(kWqBh, 1));
        EXPECT_TRUE(refused(1U << 30, 0));
        EXPECT_TRUE(refused(kWqPercpu, 0, ""));
        auto bound = make_queue(*engine, kWqPercpu);
        auto unbound = make_queue(*engine, kWqUnbound);
        EXPECT_EQ(engine->set_max_active(*bound, 0).error().code, Errc::kInvalid);
        EXPECT_EQ(engine->set_max_active(*bound, -5).error().code, Errc::kInvalid);
        EXPECT_EQ(engine->set_max_active(*bound, kWqMaxActive + 1).error().code, Errc::kInvalid);
        EXPECT_EQ(engine->set_min_active(*bound, 1).error().code, Errc::kInvalid);
        EXPECT_EQ(engine->apply_workqueue_attrs(*bound, {}).error().code, Errc::kInvalid);
        EXPECT_EQ(engine->apply_workqueue_attrs(*unbound, {.nice = 20}).error().code, Errc::kInvalid);
        EXPECT_EQ(engine->apply_workqueue_attrs(*unbound, {.cpumask = {17}}).error().code, Errc::kInvalid);
        EXPECT_EQ(engine->set_unbound_cpumask({}).error().code, Errc::kInvalid);
      },
      3, 50);
}

TEST(Misuse, UnmatchedEnableAndDisablesWithoutEndAreReported) {
  under_many_schedules(
      [] {
        Reports reports;
        auto engine = make_engine(reporting_to(reports));
        Counter counter;
        EXPECT_FALSE(engine->enable_work(counter.work));
        expect_reports(reports, Kind::kMisuse, 1);
        for (int i = 0; i < 65536; i++) engine->disable_work(counter.work);
        expect_reports(reports, Kind::kMisuse, 2);  // the last one found no room
        for (int i = 0; i < 65534; i++) EXPECT_FALSE(engine->enable_work(counter.work));
        EXPECT_FALSE(engine->schedule_work(counter.work));
        EXPECT_TRUE(engine->enable_work(counter.work));
        EXPECT_TRUE(engine->schedule_work(counter.work));
        engine->flush_work(counter.work);
      },
      2, 5);
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
