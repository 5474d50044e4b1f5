// SPDX-License-Identifier: Apache-2.0
// What a stall report says of the CPU.
#include "tests/workqueue/rules.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

TEST(Watchdog, AStallReportSaysWhetherTheCpuItselfRuns) {
  under_many_schedules(
      [] {
        Reports reports;
        Engine::Options options = engine_options();
        options.watchdog = 40ms;
        options.report = reports.sink();
        auto engine = make_engine(std::move(options));
        Counter behind;
        Occupied spinning(*engine, 1);                                   // yields, so the CPU runs others
        const std::size_t before = reports.count(Report::Kind::kStall);  // on a busy machine it came late
        engine->queue_work_on(1, engine->system_wq(), behind.work);
        ASSERT_TRUE(eventually([&] { return reports.count(Report::Kind::kStall) > before; }));
        const std::string text = reports.all(Report::Kind::kStall)[before].text;
        EXPECT_NE(text.find("watchdog thread answered within"), std::string::npos) << text;
        EXPECT_NE(text.find("Occupied::spin"), std::string::npos) << text;
        spinning.release();
        engine->flush_work(behind.work);
      },
      1);
}

TEST(Watchdog, HotplugCallbacksOfTheEngineFollowItsCpus) {
  under_many_schedules([] {
    auto engine = make_engine();
    std::vector<int> gone;
    std::vector<int> back;
    auto state = engine->hotplug().setup_state_nocalls(
        "test",
        [&](int cpu) {
          back.push_back(cpu);
          return Result<void>();
        },
        [&](int cpu) { gone.push_back(cpu); });
    ASSERT_TRUE(state.has_value());
    EXPECT_TRUE(engine->cpu_offline(2).has_value());
    EXPECT_TRUE(engine->cpu_offline(2).has_value());
    EXPECT_EQ(gone, std::vector<int>{2});
    EXPECT_TRUE(engine->cpu_online(2).has_value());
    EXPECT_EQ(back, std::vector<int>{2});
    EXPECT_TRUE(engine->hotplug().remove_state(*state).has_value());
  });
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
