// SPDX-License-Identifier: Apache-2.0
#include <functional>

#include "tests/virtio/lint_cases.h"
#include "tests/virtio/lint_rig.h"

namespace upci::virtio_tests {
namespace {

using enum lint::RegisterRule;
namespace feature = virtio::spec::feature;
namespace net = virtio::spec::net_feature;
using virtio::spec::mask_of;

constexpr std::uint64_t kVersion1 = LintRig::kVersion1;

Violation at(lint::RegisterRule rule, std::function<void(LintRig&)> act, std::uint32_t type = 1,
             std::uint64_t features = 0) {
  return {rule, [=] {
            LintRig rig(type, features);
            act(rig);
            return Counted{rig.registers->violations(rule), rig.registers->violations()};
          }};
}

std::vector<Violation> of_status() {
  return {
      at(kStatusBitCleared,
         [](LintRig& rig) {
           rig.acknowledge();
           rig.write<Common::DeviceStatus>(vstatus::kDriver);
         }),
      at(kStatusOrder,
         [](LintRig& rig) {
           rig.reset();
           rig.write<Common::DeviceStatus>(vstatus::kDriver);
         }),
      at(kFailedNotReset,
         [](LintRig& rig) {
           rig.reset();
           rig.write<Common::DeviceStatus>(vstatus::kAcknowledge | vstatus::kFailed);
           rig.write<Common::DeviceStatus>(LintRig::kPresent | vstatus::kFailed);
         }),
      at(kResetNotAwaited,
         [](LintRig& rig) {
           rig.write<Common::DeviceStatus>(0);
           rig.write<Common::DeviceStatus>(vstatus::kAcknowledge);
         }),
  };
}

std::vector<Violation> of_features() {
  return {
      at(kFeatureNotOffered, [](LintRig& rig) { rig.negotiate(kVersion1, kVersion1 | mask_of(feature::kEventIdx)); }),
      at(kFeatureNeedsAnother,
         [](LintRig& rig) {
           rig.negotiate(kVersion1 | mask_of(net::kMq) | mask_of(net::kCtrlVq), kVersion1 | mask_of(net::kMq));
         }),
      at(kFeatureUnknown,
         [](LintRig& rig) {
           rig.negotiate(kVersion1 | mask_of(feature::kSrIov), kVersion1 | mask_of(feature::kSrIov));
         }),
      at(kFeaturesAfterOk,
         [](LintRig& rig) {
           rig.settle();
           rig.write<Common::DriverFeature>(0);
         }),
      at(kFeaturesNotConfirmed,
         [](LintRig& rig) {
           rig.negotiate(kVersion1, kVersion1);
           rig.write<Common::DeviceStatus>(LintRig::kSettled | vstatus::kDriverOk);
         }),
      at(kVersion1Declined, [](LintRig& rig) { rig.negotiate(kVersion1, 0); }),
      at(kAnyLayoutDeclined,
         [](LintRig& rig) {
           rig.legacy_present(mask_of(feature::kAnyLayout), 0);
           rig.legacy_write<Legacy::DeviceStatus>(LintRig::kPresent | vstatus::kDriverOk);
         }),
      at(kLegacyFeaturesOk,
         [](LintRig& rig) {
           rig.legacy_present(0, 0);
           rig.legacy_write<Legacy::DeviceStatus>(LintRig::kSettled);
         }),
  };
}

std::vector<Violation> of_notifications() {
  return {
      at(kNotifiedEarly,
         [](LintRig& rig) {
           rig.settle();
           rig.enable(0);
           rig.registers->notify(0, 2, 0);
         }),
      at(kNotifyWidth,
         [](LintRig& rig) {
           rig.live();
           rig.registers->notify(0, 4, 0);
         }),
      at(kNotifyValue,
         [](LintRig& rig) {
           rig.live();
           rig.registers->notify(4, 2, 0);  // another queue's address
         }),
      at(kAccessWidth, [](LintRig& rig) { rig.registers->common_read(Common::QueueSize::offset, 4, 0); }),
      at(kReadOnlyWritten, [](LintRig& rig) { rig.registers->common_write(Common::NumQueues::offset, 2, 0); }),
      at(kVectorOutsideTable,
         [](LintRig& rig) {
           rig.settle();
           rig.write<Common::QueueMsixVector>(4);
           rig.read<Common::QueueMsixVector>(virtio::spec::pci::kNoVector);
         }),
      at(kVectorNotReadBack,
         [](LintRig& rig) {
           rig.settle();
           rig.write<Common::ConfigMsixVector>(0);
           rig.write<Common::DeviceStatus>(LintRig::kSettled | vstatus::kDriverOk);
         }),
      at(kCapabilityWritten, [](LintRig& rig) { rig.registers->capability_write(0x40); }),
  };
}

std::vector<Violation> of_queues() {
  const std::uint64_t reset = mask_of(feature::kRingReset);
  return {
      at(
          kQueueSizeZero,
          [](LintRig& rig) {
            rig.settle();
            rig.write<Common::QueueSize>(0);
          },
          1, mask_of(feature::kRingPacked)),
      at(kQueueSizeNoPower,
         [](LintRig& rig) {
           rig.settle();
           rig.write<Common::QueueSize>(12);
         }),
      at(kQueueEnableZero,
         [](LintRig& rig) {
           rig.settle();
           rig.write<Common::QueueEnable>(0);
         }),
      at(kQueueIncomplete,
         [](LintRig& rig) {
           rig.settle();
           rig.enable(0);
           rig.write<Common::QueueSize>(4);
         }),
      at(kQueueMisaligned,
         [](LintRig& rig) {
           rig.settle();
           rig.select(0);
           rig.addresses(LintRig::kRings + 8);
           rig.write<Common::QueueEnable>(1);
         }),
      at(kQueueAddressForeign,
         [](LintRig& rig) {
           rig.settle();
           rig.select(0);
           rig.addresses(0x1000);
           rig.write<Common::QueueEnable>(1);
         }),
      at(
          kQueueResetNotAwaited,
          [](LintRig& rig) {
            rig.live();
            rig.write<Common::QueueReset>(1);
            rig.read<Common::QueueReset>(1);
            rig.write<Common::QueueSize>(8);
          },
          1, reset),
      at(
          kQueueNotSetAgain,
          [](LintRig& rig) {
            rig.live();
            rig.write<Common::QueueReset>(1);
            rig.read<Common::QueueReset>(0);
            rig.write<Common::QueueEnable>(1);
          },
          1, reset),
  };
}

std::vector<Violation> of_configuration() {
  namespace blk = virtio::spec::blk_feature;
  return {
      at(
          kConfigWrittenEarly,
          [](LintRig& rig) {
            rig.negotiate(kVersion1 | mask_of(blk::kConfigWce), kVersion1 | mask_of(blk::kConfigWce));
            rig.registers->config_write(32, 1);
          },
          2),
      at(kConfigNotForDriver,
         [](LintRig& rig) {
           rig.settle();
           rig.registers->config_write(6, 2);
         }),
      at(kConfigFieldNotOffered,
         [](LintRig& rig) {
           rig.settle();
           rig.registers->config_read(10, 2, 1500);
         }),
      at(
          kConfigTorn,
          [](LintRig& rig) {
            rig.settle();
            rig.read<Common::ConfigGeneration>(0);
            rig.registers->config_read(0, 4, 0);
            rig.registers->config_read(4, 4, 0);
            rig.read<Common::DeviceStatus>(LintRig::kSettled);
          },
          2),
      at(
          kWritebackReadEarly,
          [](LintRig& rig) {
            rig.acknowledge();
            rig.offer(kVersion1 | mask_of(blk::kConfigWce));
            rig.registers->config_read(32, 1, 0);
          },
          2),
  };
}

}  // namespace

std::vector<Violation> register_violations() {
  std::vector<Violation> all;
  for (const auto& part : {of_status(), of_features(), of_notifications(), of_queues(), of_configuration()}) {
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

}  // namespace upci::virtio_tests
