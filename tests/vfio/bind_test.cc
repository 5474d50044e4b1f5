// SPDX-License-Identifier: Apache-2.0
// What bind and unbind do to a machine when nothing goes wrong, and what they refuse once they have begun.
#include "vfio/bind/bind.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "tests/vfio/bind_support.h"

namespace upci::test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using vfio::bind::Binder;
using vfio::bind::Bound;

const std::string kOverride = "/sys/bus/pci/devices/" + kNic + "/driver_override = ";

TEST(Bind, GivesTheFunctionToVfioPciByDriverOverrideOnly) {
  Machine machine = plain_machine();
  const auto bound = bind(machine, {kNic});
  ASSERT_TRUE(bound) << bound.error().message();
  ASSERT_EQ(bound->size(), 1U);
  const Bound& nic = bound->front();
  EXPECT_EQ(nic.address.to_string(), kNic);
  EXPECT_EQ(nic.driver, "vfio-pci");
  EXPECT_EQ(nic.previous_driver, "virtio-pci");
  EXPECT_EQ(nic.previous_override, "");
  EXPECT_EQ(nic.group, 12);
  EXPECT_EQ(nic.node, 0);
  EXPECT_TRUE(nic.changed);
  EXPECT_EQ(machine.driver_of(kNic), "vfio-pci");
  EXPECT_THAT(machine.written, ElementsAre(kOverride + "vfio-pci", "/sys/bus/pci/drivers/virtio-pci/unbind = " + kNic,
                                           "/sys/bus/pci/drivers_probe = " + kNic));
  EXPECT_TRUE(machine.has_record(kNic));
  EXPECT_EQ(machine.driver_of(kNic2), "virtio-pci") << "another device of the same kind is untouched";
}

TEST(Bind, WritesDownWhatWasBeforeItChangesAnything) {
  Machine machine = plain_machine();
  FakeSysfs sysfs(machine);
  ASSERT_TRUE(Binder(sysfs, kStateFolder).bind(addresses({kNic})));
  const auto at = [&](const std::string& begin) {
    return std::ranges::find_if(sysfs.log, [&](const std::string& call) { return call.starts_with(begin); });
  };
  EXPECT_LT(at("writing " + kStateFolder), at("writing '"));
}

TEST(Bind, ThenUnbindLeavesTheMachineAsItWas) {
  for (const char* driver : {"virtio-pci", ""}) {
    for (const char* override : {"", "virtio-pci", "another-driver"}) {
      Machine machine = plain_machine();
      machine.add({.address = "0000:43:00.0", .group = 14, .driver = driver, .override_ = override});
      const std::string before = machine.state();
      ASSERT_TRUE(bind(machine, {"0000:43:00.0"}));
      const auto restored = unbind(machine, {"0000:43:00.0"});
      ASSERT_TRUE(restored && !restored->front().error) << restored->front().error->message();
      EXPECT_EQ(restored->front().driver, driver);
      EXPECT_FALSE(restored->front().repaired);
      EXPECT_EQ(machine.state(), before) << driver << ", " << override;
      EXPECT_FALSE(machine.has_record("0000:43:00.0"));
    }
  }
}

TEST(Bind, OfWhatIsOnVfioPciAlreadyChangesNothing) {
  Machine machine = plain_machine();
  machine.add({.address = "0000:43:00.0", .group = 14, .driver = "vfio-pci", .override_ = "vfio-pci"});
  const std::string before = machine.state();
  const auto bound = bind(machine, {"0000:43:00.0"});
  ASSERT_TRUE(bound);
  EXPECT_FALSE(bound->front().changed);
  EXPECT_THAT(bound->front().note, HasSubstr("not bound by upci"));
  EXPECT_EQ(machine.state(), before);
  EXPECT_FALSE(machine.has_record("0000:43:00.0"));
}

TEST(Bind, TwiceSaysWhatWasBeforeTheFirst) {
  Machine machine = plain_machine();
  ASSERT_TRUE(bind(machine, {kNic}));
  const auto again = bind(machine, {kNic});
  ASSERT_TRUE(again);
  EXPECT_FALSE(again->front().changed);
  EXPECT_EQ(again->front().previous_driver, "virtio-pci");
  ASSERT_FALSE(unbind(machine, {kNic})->front().error);
  EXPECT_EQ(machine.driver_of(kNic), "virtio-pci");
}

TEST(Bind, ReleasesANamedBridgeFromItsDriverAndNoMore) {
  Machine machine = bridge_machine();
  const std::string before = machine.state();
  const auto bound = bind(machine, {kBehindBridge, kBridge});
  ASSERT_TRUE(bound) << bound.error().message();
  EXPECT_EQ(machine.driver_of(kBridge), "");
  EXPECT_EQ(machine.override_of(kBridge), "none");
  EXPECT_EQ(machine.driver_of(kBehindBridge), "vfio-pci");
  EXPECT_EQ(bound->at(1).driver, "");
  EXPECT_EQ(bound->at(1).previous_driver, "shpchp");
  EXPECT_TRUE(bound->at(1).changed);
  const auto restored = unbind(machine, {kBehindBridge, kBridge});
  ASSERT_TRUE(restored && !restored->at(0).error && !restored->at(1).error);
  EXPECT_EQ(machine.state(), before);
}

TEST(Bind, LeavesABridgeThatIsInNobodysWay) {
  Machine machine = bridge_machine();
  machine.links["/sys/devices/pci0000:40/" + kBridge + "/driver"] = "/sys/bus/pci/drivers/pcieport";
  const auto bound = bind(machine, {kBehindBridge, kBridge});
  ASSERT_TRUE(bound);
  EXPECT_FALSE(bound->at(1).changed);
  EXPECT_EQ(bound->at(1).driver, "pcieport");
  EXPECT_EQ(machine.driver_of(kBridge), "pcieport");
}

TEST(Bind, RestoresAllWhenTheKernelGivesTheLastOneToNobody) {
  Machine machine = plain_machine();
  machine.refusing = {"vfio-pci " + kNic2};
  const std::string before = machine.state();
  const auto bound = bind(machine, {kNic, kNic2});
  ASSERT_FALSE(bound);
  EXPECT_THAT(bound.error().what, AllOf(HasSubstr(kNic2), HasSubstr("no driver"), HasSubstr("restored")));
  EXPECT_EQ(machine.state(), before);
  EXPECT_FALSE(machine.has_record(kNic));
  EXPECT_FALSE(machine.has_record(kNic2));
}

TEST(Bind, InterruptedAtAnyStepRestores) {
  for (int step = 1;; ++step) {
    Machine machine = plain_machine();
    const std::string before = machine.state();
    FakeSysfs sysfs(machine);
    int asked = 0;
    const auto bound = Binder(sysfs, kStateFolder).bind(addresses({kNic, kNic2}), [&] { return ++asked >= step; });
    if (bound) {
      EXPECT_GT(step, 6) << "it is asked before each change";
      return;
    }
    EXPECT_THAT(bound.error().what, HasSubstr("interrupted"));
    EXPECT_EQ(machine.state(), before) << "step " << step;
    EXPECT_FALSE(machine.has_record(kNic) || machine.has_record(kNic2));
  }
}

TEST(Bind, GivesUpOnADeviceThatTheKernelHolds) {
  Machine machine = plain_machine();
  machine.hung = {kNic};
  const std::string before = machine.state();
  const auto bound = bind(machine, {kNic2, kNic});
  ASSERT_FALSE(bound);
  EXPECT_EQ(bound.error().code, Errc::kTimeout);
  EXPECT_THAT(bound.error().what, HasSubstr(kNic));
  EXPECT_EQ(machine.state(), before) << "it is found out before the other one is let go";
}

TEST(Bind, LeavesADeviceWhoseDriverDoesNotLetGoOfItToTheNextUnbindAndRestoresTheOthers) {
  Machine machine = plain_machine();
  const std::string before = machine.state();
  machine.hangs_at["/sys/bus/pci/drivers/virtio-pci/unbind"] = kNic2;
  const auto bound = bind(machine, {kNic, kNic2});
  ASSERT_FALSE(bound);
  EXPECT_EQ(bound.error().code, Errc::kTimeout);
  EXPECT_THAT(bound.error().what,
              AllOf(HasSubstr("restoring failed for " + kNic2), testing::Not(HasSubstr(kNic + " ("))));
  EXPECT_EQ(machine.driver_of(kNic), "virtio-pci");
  EXPECT_FALSE(machine.has_record(kNic));
  EXPECT_TRUE(machine.has_record(kNic2));
  machine.hung.clear();
  machine.hangs_at.clear();
  ASSERT_FALSE(unbind(machine, {kNic2})->front().error);
  EXPECT_EQ(machine.state(), before);
}

TEST(Bind, KeepsTheRecordOfADeviceThatTheKernelHoldsSinceItWasLetGo) {
  Machine machine = plain_machine();
  ASSERT_TRUE(bind(machine, {kNic, kNic2}));
  machine.hung = {kNic};
  const auto restored = unbind(machine, {kNic, kNic2});
  ASSERT_TRUE(restored);
  ASSERT_TRUE(restored->at(0).error);
  EXPECT_EQ(restored->at(0).error->code, Errc::kTimeout);
  EXPECT_FALSE(restored->at(1).error) << "the other one is not held up";
  EXPECT_TRUE(machine.has_record(kNic));
  machine.hung.clear();
  ASSERT_FALSE(unbind(machine, {kNic})->front().error);
  EXPECT_EQ(machine.driver_of(kNic), "virtio-pci");
}

TEST(Bind, AfterABrokenOffOneRemembersWhatWasBeforeThat) {
  Machine machine = plain_machine();
  const std::string before = machine.state();
  FakeSysfs killed(machine);
  killed.die_after = call_of_write(plain_machine(), "/sys/bus/pci/drivers/virtio-pci/unbind");
  EXPECT_FALSE(Binder(killed, kStateFolder).bind(addresses({kNic})));
  ASSERT_EQ(machine.driver_of(kNic), "");
  const auto bound = bind(machine, {kNic});
  ASSERT_TRUE(bound);
  EXPECT_EQ(bound->front().previous_driver, "virtio-pci");
  EXPECT_EQ(bound->front().previous_override, "");
  ASSERT_FALSE(unbind(machine, {kNic})->front().error);
  EXPECT_EQ(machine.state(), before);
}

TEST(Unbind, WithoutARecordIsRefused) {
  Machine machine = plain_machine();
  const std::string before = machine.state();
  const auto restored = unbind(machine, {kNic, "0000:99:00.0"});
  ASSERT_TRUE(restored);
  ASSERT_TRUE(restored->at(0).error && restored->at(1).error);
  EXPECT_EQ(restored->at(0).error->code, Errc::kUnavailable);
  EXPECT_THAT(restored->at(0).error->what, AllOf(HasSubstr("did not bind"), HasSubstr("virtio-pci")));
  EXPECT_EQ(restored->at(0).driver, "virtio-pci");
  EXPECT_EQ(restored->at(1).error->code, Errc::kUnavailable);
  EXPECT_EQ(machine.state(), before);
}

TEST(Unbind, OfWhatSomebodyElseBoundSaysHowItIsDoneByHand) {
  Machine machine = plain_machine();
  machine.add({.address = "0000:43:00.0", .group = 14, .driver = "vfio-pci", .override_ = "vfio-pci"});
  const auto restored = unbind(machine, {"0000:43:00.0"});
  ASSERT_TRUE(restored->front().error);
  EXPECT_EQ(restored->front().error->code, Errc::kUnavailable);
  EXPECT_THAT(restored->front().error->advice, HasSubstr("driver_override"));
  EXPECT_EQ(machine.driver_of("0000:43:00.0"), "vfio-pci");
}

TEST(Unbind, IsRefusedWhileAProcessHasItOpenAndNamesTheProcess) {
  for (const char* node : {"/dev/vfio/12", "/dev/vfio/noiommu-12", "/dev/vfio/devices/vfio0"}) {
    Machine machine = plain_machine();
    ASSERT_TRUE(bind(machine, {kNic}));
    machine.files[machine.resolve("/sys/bus/pci/devices/" + kNic) + "/vfio-dev/vfio0/dev"] = "511:0\n";
    machine.links["/proc/4711/fd/9"] = node;
    machine.files["/proc/4711/comm"] = "testpmd\n";
    const std::string before = machine.state();
    const auto restored = unbind(machine, {kNic});
    ASSERT_TRUE(restored->front().error);
    EXPECT_EQ(restored->front().error->code, Errc::kUnavailable);
    EXPECT_THAT(restored->front().error->what, AllOf(HasSubstr("4711"), HasSubstr("testpmd"), HasSubstr(node)));
    EXPECT_EQ(machine.state(), before) << "nothing is changed";
    machine.links.erase("/proc/4711/fd/9");
    EXPECT_FALSE(unbind(machine, {kNic})->front().error);
  }
}

TEST(Unbind, LeavesAnotherDeviceThatIsAtTheAddressNow) {
  Machine machine = plain_machine();
  ASSERT_TRUE(bind(machine, {kNic}));
  machine.unplug(kNic);
  machine.add({.address = kNic, .id = "8086:10d3", .group = 12, .driver = "e1000e"});
  const std::string before = machine.state();
  const auto restored = unbind(machine, {kNic});
  ASSERT_FALSE(restored->front().error);
  EXPECT_THAT(restored->front().note, HasSubstr("another device"));
  EXPECT_EQ(restored->front().driver, "e1000e");
  EXPECT_EQ(machine.state(), before);
  EXPECT_FALSE(machine.has_record(kNic));
}

TEST(Unbind, ForgetsADeviceThatHasGone) {
  Machine machine = plain_machine();
  ASSERT_TRUE(bind(machine, {kNic}));
  machine.unplug(kNic);
  const auto restored = unbind(machine, {kNic});
  ASSERT_FALSE(restored->front().error) << restored->front().error->message();
  EXPECT_THAT(restored->front().note, HasSubstr("not there any more"));
  EXPECT_FALSE(machine.has_record(kNic));
}

TEST(Unbind, DoesNotTakeItFromADriverThatSomebodyElseHasGivenIt) {
  Machine machine = plain_machine();
  ASSERT_TRUE(bind(machine, {kNic}));
  machine.add_driver("uio_pci_generic");
  machine.links[machine.resolve("/sys/bus/pci/devices/" + kNic) + "/driver"] = "/sys/bus/pci/drivers/uio_pci_generic";
  const std::string before = machine.state();
  const auto restored = unbind(machine, {kNic});
  ASSERT_TRUE(restored->front().error);
  EXPECT_THAT(restored->front().error->what, AllOf(HasSubstr("uio_pci_generic"), HasSubstr("virtio-pci")));
  EXPECT_EQ(machine.state(), before);
  EXPECT_TRUE(machine.has_record(kNic)) << "so that it goes on once the function is free";
}

TEST(Unbind, IsDoneWhereTheFunctionIsAsItWasAlready) {
  Machine machine = plain_machine();
  const std::string before = machine.state();
  ASSERT_TRUE(bind(machine, {kNic}));
  machine.write("/sys/bus/pci/devices/" + kNic + "/driver_override", "\n");
  machine.write("/sys/bus/pci/drivers/vfio-pci/unbind", kNic);
  machine.write("/sys/bus/pci/drivers_probe", kNic);
  const auto restored = unbind(machine, {kNic});
  ASSERT_FALSE(restored->front().error);
  EXPECT_TRUE(restored->front().repaired);
  EXPECT_EQ(machine.state(), before);
}

TEST(Unbind, SaysThatThePreviousDriverHasGoneAndGoesOnWhenItIsBack) {
  Machine machine = plain_machine();
  const std::string before = machine.state();
  ASSERT_TRUE(bind(machine, {kNic}));
  machine.unplug(kNic2);
  machine.remove_driver("virtio-pci");
  const auto restored = unbind(machine, {kNic});
  ASSERT_TRUE(restored->front().error);
  EXPECT_THAT(restored->front().error->message(), HasSubstr("not to virtio-pci"));
  EXPECT_TRUE(machine.has_record(kNic));
  machine.add_driver("virtio-pci", {"1af4:1041"});
  const auto again = unbind(machine, {kNic});
  ASSERT_FALSE(again->front().error);
  EXPECT_TRUE(again->front().repaired);
  EXPECT_EQ(machine.driver_of(kNic), "virtio-pci");
}

TEST(Unbind, PrefersThePreviousDriverToTheOneThatTheKernelWouldChoose) {
  Machine machine = plain_machine();
  machine.add_driver("a-first-choice", {"1af4:1041"});
  const std::string before = machine.state();
  ASSERT_TRUE(bind(machine, {kNic}));
  ASSERT_FALSE(unbind(machine, {kNic})->front().error);
  EXPECT_EQ(machine.driver_of(kNic), "virtio-pci");
  EXPECT_EQ(machine.state(), before);
}

TEST(UnbindAll, RestoresEveryRecord) {
  Machine machine = plain_machine();
  const std::string before = machine.state();
  ASSERT_TRUE(bind(machine, {kNic}));
  ASSERT_TRUE(bind(machine, {kNic2}));
  machine.files[kStateFolder + "/lock"] = "";
  machine.files[kStateFolder + "/" + kNic + ".json.new"] = "{";
  FakeSysfs sysfs(machine);
  const auto restored = Binder(sysfs, kStateFolder).unbind_all();
  ASSERT_TRUE(restored);
  ASSERT_EQ(restored->size(), 2U);
  EXPECT_FALSE(restored->at(0).error || restored->at(1).error);
  EXPECT_EQ(machine.state(), before);
  FakeSysfs later(machine);
  const auto nothing = Binder(later, kStateFolder).unbind_all();
  ASSERT_TRUE(nothing);
  EXPECT_THAT(*nothing, IsEmpty());
}

TEST(BindAndUnbind, NeedRoot) {
  Machine machine = plain_machine();
  FakeSysfs sysfs(machine);
  sysfs.root = false;
  Binder binder(sysfs, kStateFolder);
  EXPECT_EQ(binder.bind(addresses({kNic})).error().code, Errc::kUnavailable);
  EXPECT_EQ(binder.unbind(addresses({kNic})).error().code, Errc::kUnavailable);
  EXPECT_EQ(binder.unbind_all().error().code, Errc::kUnavailable);
  EXPECT_EQ(sysfs.calls, 0) << "and find out before anything else";
}

TEST(BindAndUnbind, OneAtATime) {
  Machine machine = plain_machine();
  machine.locked = true;
  EXPECT_EQ(bind(machine, {kNic}).error().code, Errc::kUnavailable);
  EXPECT_EQ(unbind(machine, {kNic}).error().code, Errc::kUnavailable);
  EXPECT_THAT(machine.written, IsEmpty());
}

}  // namespace
}  // namespace upci::test
