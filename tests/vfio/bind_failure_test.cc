// SPDX-License-Identifier: Apache-2.0
// Tables: each call to the operating system fails in turn; the process dies after each call in turn.
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>

#include "tests/vfio/bind_support.h"

namespace upci::test {
namespace {

using vfio::bind::Binder;

struct Case {
  const char* name;
  Machine (*machine)();
  std::vector<std::string> functions;
};

Machine with_override() {
  Machine machine = plain_machine();
  machine.add({.address = "0000:43:00.0", .group = 14, .override_ = "virtio-pci"});
  return machine;
}
Machine with_override_of_another_driver() {
  Machine machine = plain_machine();
  machine.add({.address = "0000:43:00.0", .group = 14, .override_ = "another-driver"});
  return machine;
}
Machine without_driver() {
  Machine machine = plain_machine();
  machine.add({.address = "0000:43:00.0", .group = 14, .driver = ""});
  return machine;
}
Machine to_be_loaded() {
  Machine machine = plain_machine();
  machine.remove_driver("vfio-pci");
  machine.loadable = {"vfio-pci"};
  return machine;
}

const Case kCases[] = {
    {"OneNic", plain_machine, {kNic}},
    {"TwoNics", plain_machine, {kNic, kNic2}},
    {"WithOverride", with_override, {"0000:43:00.0"}},
    {"WithOverrideOfAnotherDriver", with_override_of_another_driver, {"0000:43:00.0"}},
    {"WithoutDriver", without_driver, {"0000:43:00.0"}},
    {"ModuleToBeLoaded", to_be_loaded, {kNic}},
    {"BridgeAndNic", bridge_machine, {kBridge, kBehindBridge}},
};

/// The machine without what a loaded module leaves, which stays.
std::string state_of(Machine machine) {
  machine.remove_driver("vfio-pci");
  return machine.state();
}

bool has_records(const Machine& machine) {
  return std::ranges::any_of(machine.files, [](const auto& file) {
    return file.first.starts_with(kStateFolder) && file.first.ends_with(".json");
  });
}

class BindTable : public testing::TestWithParam<Case> {
 protected:
  int calls_of_bind() const {
    Machine machine = GetParam().machine();
    FakeSysfs sysfs(machine);
    EXPECT_TRUE(Binder(sysfs, kStateFolder).bind(addresses(GetParam().functions)));
    return sysfs.calls;
  }
  int calls_of_unbind() const {
    Machine machine = bound_machine();
    FakeSysfs sysfs(machine);
    EXPECT_TRUE(Binder(sysfs, kStateFolder).unbind(addresses(GetParam().functions)));
    return sysfs.calls;
  }
  Machine bound_machine() const {
    Machine machine = GetParam().machine();
    EXPECT_TRUE(bind(machine, GetParam().functions));
    return machine;
  }
  /// What somebody does after a crash: unbind what there are records of.
  static void repair(Machine& machine) {
    FakeSysfs sysfs(machine);
    const auto restored = Binder(sysfs, kStateFolder).unbind_all();
    ASSERT_TRUE(restored) << restored.error().message();
    for (const auto& each : *restored) EXPECT_FALSE(each.error) << each.error->message();
  }
  const std::string before_ = state_of(GetParam().machine());
};

TEST_P(BindTable, EachCallThatFailsInBindEndsInAWholeErrorAndTheMachineAsItWas) {
  const int calls = calls_of_bind();
  int failed = 0;
  for (int call = 1; call <= calls; ++call) {
    for (const int error : {EACCES, EIO, ENODEV}) {
      Machine machine = GetParam().machine();
      FakeSysfs sysfs(machine);
      sysfs.fail_at = call;
      sysfs.fail_with = error;
      const auto bound = Binder(sysfs, kStateFolder).bind(addresses(GetParam().functions));
      SCOPED_TRACE(sysfs.log.at(static_cast<std::size_t>(call) - 1) + ": errno " + std::to_string(error));
      EXPECT_FALSE(machine.locked);
      if (bound) {  // the call was not needed
        repair(machine);
        EXPECT_EQ(state_of(machine), before_);
        continue;
      }
      ++failed;
      EXPECT_EQ(state_of(machine), before_);
      EXPECT_FALSE(has_records(machine));
      EXPECT_FALSE(bound.error().what.empty());
      EXPECT_EQ(bound.error().sys_errno, error);
      if (error == EACCES) {
        EXPECT_EQ(bound.error().code, Errc::kUnavailable);
        EXPECT_FALSE(bound.error().advice.empty());
      }
    }
  }
  EXPECT_GT(failed, calls) << "few of the calls are such that their failure is of no interest";
}

TEST_P(BindTable, EachCallThatFailsInUnbindLeavesWhatTheNextOneRestores) {
  const int calls = calls_of_unbind();
  for (int call = 1; call <= calls; ++call) {
    for (const int error : {EACCES, EIO, ENODEV}) {
      Machine machine = bound_machine();
      FakeSysfs sysfs(machine);
      sysfs.fail_at = call;
      sysfs.fail_with = error;
      const auto restored = Binder(sysfs, kStateFolder).unbind(addresses(GetParam().functions));
      SCOPED_TRACE(sysfs.log.at(static_cast<std::size_t>(call) - 1) + ": errno " + std::to_string(error));
      const bool done =
          restored && std::ranges::none_of(*restored, [](const auto& each) { return each.error.has_value(); });
      EXPECT_EQ(has_records(machine), !done) << "a record goes when its function is restored, not before";
      if (done) { EXPECT_EQ(state_of(machine), before_); }
      repair(machine);
      EXPECT_EQ(state_of(machine), before_);
      EXPECT_FALSE(has_records(machine));
    }
  }
}

TEST_P(BindTable, ABindThatIsKilledAfterAnyCallIsRepairedByTheNextUnbind) {
  const int calls = calls_of_bind();
  for (int last = 0; last <= calls; ++last) {
    Machine machine = GetParam().machine();
    FakeSysfs killed(machine);
    killed.die_after = last;
    (void)Binder(killed, kStateFolder).bind(addresses(GetParam().functions));
    SCOPED_TRACE("killed after call " + std::to_string(last));
    if (!has_records(machine)) { EXPECT_EQ(state_of(machine), before_) << "nothing was changed yet"; }
    repair(machine);
    EXPECT_EQ(state_of(machine), before_);
    EXPECT_FALSE(has_records(machine));
  }
}

TEST_P(BindTable, ABindThatIsKilledAfterAnyCallCanBeDoneAgainAndUndone) {
  const int calls = calls_of_bind();
  for (int last = 0; last <= calls; ++last) {
    Machine machine = GetParam().machine();
    FakeSysfs killed(machine);
    killed.die_after = last;
    (void)Binder(killed, kStateFolder).bind(addresses(GetParam().functions));
    SCOPED_TRACE("killed after call " + std::to_string(last));
    const auto bound = bind(machine, GetParam().functions);
    ASSERT_TRUE(bound) << bound.error().message();
    repair(machine);
    EXPECT_EQ(state_of(machine), before_);
  }
}

TEST_P(BindTable, AnUnbindThatIsKilledAfterAnyCallIsRepairedByTheNextOne) {
  const int calls = calls_of_unbind();
  for (int last = 0; last <= calls; ++last) {
    Machine machine = bound_machine();
    FakeSysfs killed(machine);
    killed.die_after = last;
    (void)Binder(killed, kStateFolder).unbind(addresses(GetParam().functions));
    SCOPED_TRACE("killed after call " + std::to_string(last));
    repair(machine);
    EXPECT_EQ(state_of(machine), before_);
    EXPECT_FALSE(has_records(machine));
  }
}

TEST_P(BindTable, AKilledBindWhoseRepairIsKilledIsRepairedByTheOneAfterThat) {
  const int bind_calls = calls_of_bind();
  const int unbind_calls = calls_of_unbind();
  for (int first = 0; first <= bind_calls; ++first) {
    for (int second = 0; second <= unbind_calls; ++second) {
      Machine machine = GetParam().machine();
      FakeSysfs killed(machine);
      killed.die_after = first;
      (void)Binder(killed, kStateFolder).bind(addresses(GetParam().functions));
      FakeSysfs also_killed(machine);
      also_killed.die_after = second;
      (void)Binder(also_killed, kStateFolder).unbind_all();
      SCOPED_TRACE("killed after calls " + std::to_string(first) + " and " + std::to_string(second));
      repair(machine);
      EXPECT_EQ(state_of(machine), before_);
      EXPECT_FALSE(has_records(machine));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, BindTable, testing::ValuesIn(kCases),
                         [](const testing::TestParamInfo<Case>& each) { return each.param.name; });

TEST(BindFailure, SaysWhenRestoringFailsTooAndKeepsTheRecord) {
  Machine machine = plain_machine();
  const std::string before = machine.state();
  machine.refusing = {"vfio-pci " + kNic, "virtio-pci " + kNic};
  const auto bound = bind(machine, {kNic});
  ASSERT_FALSE(bound);
  EXPECT_NE(bound.error().what.find("restoring failed for " + kNic), std::string::npos) << bound.error().what;
  EXPECT_NE(bound.error().advice.find("upci unbind"), std::string::npos);
  EXPECT_TRUE(machine.has_record(kNic));
  machine.refusing.clear();
  ASSERT_FALSE(unbind(machine, {kNic})->front().error);
  EXPECT_EQ(machine.state(), before);
}

}  // namespace
}  // namespace upci::test
