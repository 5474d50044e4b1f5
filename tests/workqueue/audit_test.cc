// SPDX-License-Identifier: Apache-2.0
// What can queue a work, in the order to stop it.
#include "workqueue/audit.h"
#include "tests/workqueue/rules.h"
#include "workqueue/rcu_work.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

TEST(Audit, NamesWhatCanQueueAWorkInTheOrderToStopIt) {
  under_many_schedules(
      [] {
        auto options = engine_options();
        options.keep_requesters = true;
        auto engine = make_engine(std::move(options));
        struct Target {
          void run(Work& self) {
            if (requeue.exchange(0) == 1) engine->schedule_work(self);
          }
          Engine* engine;
          platform::Atomic<int> requeue{0};
          DelayedWork delayed{this, &Target::run};
        } target{engine.get()};
        struct Other {
          void run(Work&) { engine->schedule_work(*target); }
          Engine* engine;
          Work* target;
          Work work{this, &Other::run};
        } other{engine.get(), &target.delayed.work()};
        Work& work = target.delayed.work();

        EXPECT_TRUE(engine->what_can_queue(work).empty());
        EXPECT_EQ(to_text(engine->what_can_queue(work)), "nothing");
        target.requeue.store(1);
        engine->schedule_work(other.work);
        engine->flush_work(other.work);
        while (engine->flush_work(work)) {}
        engine->schedule_delayed_work(target.delayed, 1h);

        auto all = engine->what_can_queue(work);
        std::vector<Requester::Kind> kinds;
        for (const Requester& one : all) kinds.push_back(one.kind);
        using enum Requester::Kind;
        EXPECT_EQ(kinds, (std::vector{kThread, kItem, kTimer, kItself}));
        EXPECT_NE(all[1].name.find("Other::run"), std::string::npos) << all[1].name;
        EXPECT_TRUE(all[2].armed);
        EXPECT_NE(to_text(all).find("3. timer (armed now)"), std::string::npos) << to_text(all);
        EXPECT_TRUE(engine->what_can_queue(target.delayed)[2].armed);
        engine->cancel_delayed_work_sync(target.delayed);
        EXPECT_FALSE(engine->what_can_queue(work)[2].armed);
        EXPECT_FALSE(engine->what_can_queue(target.delayed)[2].armed);
      },
      3, 100);
}

TEST(Audit, NamesTheInterrupt) {
  under_many_schedules(
      [] {
        auto options = engine_options();
        options.keep_requesters = true;
        auto engine = make_engine(std::move(options));
        struct Device {
          static void top(void* self) {
            auto& device = *static_cast<Device*>(self);
            device.fd->drain();
            device.engine->schedule_work(device.bottom.work);
          }
          Engine* engine;
          const EventFd* fd;
          Counter bottom{};
          EventSource source{&Device::top, this};
        };
        auto fd = EventFd::create();
        ASSERT_TRUE(fd.has_value());
        Device device{.engine = engine.get(), .fd = &*fd};
        ASSERT_TRUE(engine->add_event_source(device.source, fd->fd(), 1).has_value());
        fd->signal();
        EXPECT_TRUE(eventually([&] { return device.bottom.runs.load() == 1; }));
        const auto all = engine->what_can_queue(device.bottom.work);
        ASSERT_EQ(all.size(), 1U);
        EXPECT_EQ(all[0].kind, Requester::Kind::kEventSource);
        EXPECT_EQ(all[0].name.find("fd " + std::to_string(fd->fd()) + " ("), 0U) << all[0].name;
        EXPECT_NE(all[0].name.find("Device::top"), std::string::npos) << all[0].name;
        engine->remove_event_source(device.source);
        engine->cancel_work_sync(device.bottom.work);
      },
      3, 100);
}

TEST(Audit, NamesAnArmedTimerAlsoWhenNobodyKeepsWhoQueuesWhat) {
  under_many_schedules(
      [] {
        auto engine = make_engine();
        DelayedWork work(+[](Work&) {});
        EXPECT_TRUE(engine->what_can_queue(work).empty());
        engine->schedule_delayed_work(work, 1h);
        const auto all = engine->what_can_queue(work);
        ASSERT_EQ(all.size(), 1U);
        EXPECT_EQ(all[0].kind, Requester::Kind::kTimer);
        EXPECT_TRUE(all[0].armed);
        EXPECT_TRUE(engine->cancel_delayed_work(work));
        EXPECT_TRUE(engine->what_can_queue(work).empty());
      },
      3, 100);
}

TEST(Audit, NamesTheGracePeriod) {
  under_many_schedules(
      [] {
        auto options = engine_options();
        options.keep_requesters = true;
        auto engine = make_engine(std::move(options));
        RcuWork work(+[](Work&) {});
        std::vector<Requester> all;
        {
          const RcuReader reader(engine->rcu());
          EXPECT_TRUE(engine->queue_rcu_work(engine->system_wq(), work));
          all = engine->what_can_queue(work.work());
        }
        engine->flush_rcu_work(work);
        ASSERT_EQ(all.size(), 2U);
        EXPECT_EQ(all[0].kind, Requester::Kind::kThread);
        EXPECT_EQ(all[1].kind, Requester::Kind::kGracePeriod);
        EXPECT_TRUE(all[1].armed);
        EXPECT_FALSE(engine->what_can_queue(work.work())[1].armed);
      },
      3, 100);
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
