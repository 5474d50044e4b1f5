// SPDX-License-Identifier: Apache-2.0
// Each rule of each observer is broken on purpose, and found; what is as it should be is no breach; and what a device does wrong is
// counted as its own.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <string>

#include "tests/virtio/lint_cases.h"
#include "tests/virtio/lint_rig.h"
#include "virtio/spec/ids.h"

namespace upci::virtio_tests {
namespace {

using lint::DeviceRule;
using lint::Observer;
using lint::RuleRef;

std::vector<RuleRef> all_rules() {
  std::vector<RuleRef> all;
  for (const Observer observer :
       {Observer::kSplitRing, Observer::kPackedRing, Observer::kRegisters, Observer::kChains}) {
    for (std::size_t i = 0; i < lint::rule_count(observer); ++i) all.emplace_back(observer, i);
  }
  return all;
}

const std::vector<Violation>& all_violations() {
  static const std::vector<Violation> all = [] {
    std::vector<Violation> cases;
    for (const auto& part :
         {split_ring_violations(), packed_ring_violations(), register_violations(), chain_violations()}) {
      cases.insert(cases.end(), part.begin(), part.end());
    }
    return cases;
  }();
  return all;
}

std::string rule_name(const testing::TestParamInfo<RuleRef>& info) {
  std::string name;
  bool upper = true;
  for (const char c : std::string(to_string(info.param.observer)) + " " + std::string(text_of(info.param))) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) {
      upper = true;
      continue;
    }
    name += upper ? static_cast<char>(std::toupper(static_cast<unsigned char>(c))) : c;
    upper = false;
  }
  return name;
}

class LintRule : public testing::TestWithParam<RuleRef> {};
INSTANTIATE_TEST_SUITE_P(All, LintRule, testing::ValuesIn(all_rules()), rule_name);

TEST_P(LintRule, FindsItsBreachAndTakesItForNoOther) {
  EXPECT_NE(text_of(GetParam()), "unknown");
  bool broken = false;
  for (const Violation& one : all_violations()) {
    if (one.rule != GetParam()) continue;
    broken = true;
    const Counted counted = one.commit();
    EXPECT_EQ(counted.of_the_rule, 1U);
    EXPECT_EQ(counted.of_all, 1U);
  }
  EXPECT_TRUE(broken) << "no test breaks this rule";
}

TEST(RegisterLint, AProperBringUpIsNoViolation) {
  LintRig rig;
  rig.live();
  rig.registers->notify(0, 2, 0);
  rig.reset();
  rig.live();
  rig.legacy_present(0, 0);
  rig.legacy_write<Legacy::DeviceStatus>(LintRig::kPresent | vstatus::kDriverOk);
  EXPECT_EQ(rig.registers->breaches(), std::vector<std::string>());
  EXPECT_EQ(rig.registers->device_breaches(), std::vector<std::string>());
  EXPECT_EQ(rig.registers->accesses(), 60U);
}

TEST(RegisterLint, ABreachNamesItsClause) {
  LintRig rig;
  rig.acknowledge();
  rig.write<Common::DeviceStatus>(vstatus::kDriver);
  ASSERT_EQ(rig.registers->breaches().size(), 1U);
  EXPECT_EQ(rig.registers->breaches()[0], "status.2: status bit cleared: from 0x03 to 0x02");
}

TEST(RegisterLint, WhatAnotherThreadReadsMeanwhileTearsNoField) {
  LintRig rig(virtio::spec::kDeviceBlock);
  rig.settle();
  const auto elsewhere = [](auto access) {
    auto thread = platform::Thread::create({.name = "elsewhere"}, access);
    ASSERT_TRUE(thread);
    thread->join();
  };
  rig.read<Common::ConfigGeneration>(0);
  rig.registers->config_read(0, 4, 0);
  elsewhere([&rig] { rig.read<Common::DeviceStatus>(LintRig::kSettled); });
  rig.registers->config_read(4, 4, 0);
  rig.read<Common::ConfigGeneration>(0);
  EXPECT_TRUE(rig.registers->breaches().empty());
  // But a generation that another thread has read is of no use.
  elsewhere([&rig] { rig.registers->config_read(0, 4, 0); });
  EXPECT_EQ(rig.registers->violations(lint::RegisterRule::kConfigTorn), 1U);
}

TEST(RegisterLint, AResetTakesNoOfferBack) {
  LintRig rig(1, virtio::spec::mask_of(virtio::spec::net_feature::kStatus));
  rig.live();
  rig.reset();
  rig.registers->config_read(6, 2, 1);
  EXPECT_EQ(rig.registers->violations(), 0U);
  rig.settle();
  rig.registers->config_read(10, 2, 1500);
  EXPECT_EQ(rig.registers->violations(lint::RegisterRule::kConfigFieldNotOffered), 1U);
}

TEST(RegisterLint, RefusedFeaturesMayNotBeBuiltUpon) {
  LintRig rig;
  rig.negotiate(LintRig::kVersion1, LintRig::kVersion1);
  rig.read<Common::DeviceStatus>(LintRig::kPresent);
  rig.write<Common::QueueSize>(8);
  EXPECT_EQ(rig.registers->violations(lint::RegisterRule::kFeaturesNotConfirmed), 1U);
  EXPECT_EQ(rig.registers->device_violations(), 0U);
}

TEST(RegisterLint, WithNotificationDataANotificationHas32Bits) {
  LintRig rig(1, virtio::spec::mask_of(virtio::spec::feature::kNotificationData));
  rig.live();
  rig.registers->notify(0, 4, 0x0003'0000);
  EXPECT_EQ(rig.registers->violations(), 0U);
  rig.registers->notify(0, 2, 0);
  EXPECT_EQ(rig.registers->violations(lint::RegisterRule::kNotifyWidth), 1U);
}

TEST(RegisterLint, WithNotifConfigDataTheDeviceSaysWhatANotificationCarries) {
  LintRig rig(1, virtio::spec::mask_of(virtio::spec::feature::kNotifConfigData));
  rig.settle();
  rig.enable(0);
  rig.read<Common::QueueNotifyData>(7);
  rig.write<Common::DeviceStatus>(LintRig::kSettled | vstatus::kDriverOk);
  rig.registers->notify(0, 2, 7);
  EXPECT_EQ(rig.registers->violations(), 0U);
  rig.registers->notify(0, 2, 0);
  EXPECT_EQ(rig.registers->violations(lint::RegisterRule::kNotifyValue), 1U);
}

void expect_only(const LintRig& rig, DeviceRule rule) {
  EXPECT_EQ(rig.registers->device_violations(rule), 1U) << to_string(rule);
  EXPECT_EQ(rig.registers->device_violations(), 1U);
  EXPECT_EQ(rig.registers->breaches(), std::vector<std::string>()) << "no fault of the driver's";
}

TEST(RegisterLint, ADevicesBreachIsTheDevices) {
  {
    LintRig rig;
    rig.live();
    rig.read<Common::DeviceStatus>(LintRig::kPresent | vstatus::kDriverOk);
    expect_only(rig, DeviceRule::kStatusBitLost);
  }
  {
    LintRig rig;
    rig.settle();
    rig.read<Common::QueueSize>(12);
    expect_only(rig, DeviceRule::kQueueSizeNoPower);
  }
  {
    LintRig rig;
    rig.settle();
    rig.read<Common::QueueEnable>(1);
    expect_only(rig, DeviceRule::kEnabledAfterReset);
  }
  {
    LintRig rig;
    rig.settle();
    rig.write<Common::QueueMsixVector>(1);
    rig.read<Common::QueueMsixVector>(2);
    expect_only(rig, DeviceRule::kVectorChanged);
  }
  {
    LintRig rig;
    rig.negotiate(0, 0);
    expect_only(rig, DeviceRule::kVersion1Missing);
  }
  {
    LintRig rig;
    rig.negotiate(LintRig::kVersion1 | virtio::spec::mask_of(virtio::spec::net_feature::kMq), LintRig::kVersion1);
    expect_only(rig, DeviceRule::kFeatureNeedsAnother);
  }
  {
    LintRig rig;
    rig.settle();
    rig.negotiate(LintRig::kVersion1 | virtio::spec::mask_of(virtio::spec::net_feature::kMac), LintRig::kVersion1);
    expect_only(rig, DeviceRule::kFeaturesChanged);
  }
}

}  // namespace
}  // namespace upci::virtio_tests
