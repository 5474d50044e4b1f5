// SPDX-License-Identifier: Apache-2.0
// A driver of few words that is watched: it brings a modern or legacy device up as it should be, as far as a test wants.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "virtio/lint/register_lint.h"
#include "virtio/spec/features.h"
#include "virtio/spec/pci.h"
#include "virtio/spec/status.h"

namespace upci::virtio_tests {

namespace lint = virtio::lint;
namespace vstatus = virtio::spec::status;
using Common = virtio::spec::pci::Common;
using Legacy = virtio::spec::pci::Legacy;

struct LintRig {
  static constexpr std::uint8_t kPresent = vstatus::kAcknowledge | vstatus::kDriver;
  static constexpr std::uint8_t kSettled = kPresent | vstatus::kFeaturesOk;
  static constexpr std::uint64_t kVersion1 = virtio::spec::mask_of(virtio::spec::feature::kVersion1);
  static constexpr std::uint64_t kRings = 0x10000;  // IOVA of the memory that the device was given

  explicit LintRig(std::uint32_t type = 1, std::uint64_t wanted = 0)
      : registers(std::make_shared<lint::RegisterLint>(
            lint::FunctionFacts{.device_id = type, .msix_vectors = 4, .sr_iov = false, .notify_multiplier = 4}, map)),
        features(wanted) {
    map->add(kRings, memory.data(), memory.size());
  }

  template <class R>
  void write(std::uint64_t value) {
    registers->common_write(R::offset, sizeof(typename R::Value), value);
  }
  template <class R>
  void read(std::uint64_t value) {
    registers->common_read(R::offset, sizeof(typename R::Value), value);
  }
  template <class R>
  void legacy_write(std::uint64_t value) {
    registers->legacy_write(R::offset, sizeof(typename R::Value), value);
  }
  template <class R>
  void legacy_read(std::uint64_t value) {
    registers->legacy_read(R::offset, sizeof(typename R::Value), value);
  }

  void reset() {
    write<Common::DeviceStatus>(0);
    read<Common::DeviceStatus>(0);
  }
  void acknowledge() {
    reset();
    write<Common::DeviceStatus>(vstatus::kAcknowledge);
    write<Common::DeviceStatus>(kPresent);
  }
  void offer(std::uint64_t offered) {
    for (std::uint32_t half = 0; half < 2; ++half) {
      write<Common::DeviceFeatureSelect>(half);
      read<Common::DeviceFeature>(offered >> (32 * half) & 0xffff'ffffU);
    }
  }
  void accept(std::uint64_t accepted) {
    for (std::uint32_t half = 0; half < 2; ++half) {
      write<Common::DriverFeatureSelect>(half);
      write<Common::DriverFeature>(accepted >> (32 * half) & 0xffff'ffffU);
    }
  }
  /// Up to the choice of features: these are offered beside what the rig was made for, and accepted.
  void negotiate(std::uint64_t offered, std::uint64_t accepted) {
    acknowledge();
    offer(offered);
    accept(accepted);
    write<Common::DeviceStatus>(kSettled);
  }
  void settle() {
    negotiate(kVersion1 | features, kVersion1 | features);
    read<Common::DeviceStatus>(kSettled);
  }
  void addresses(std::uint64_t descriptors = kRings) {
    write<Common::QueueDescLow>(descriptors);
    write<Common::QueueDescHigh>(0);
    write<Common::QueueDriverLow>(kRings + 0x1000);
    write<Common::QueueDriverHigh>(0);
    write<Common::QueueDeviceLow>(kRings + 0x2000);
    write<Common::QueueDeviceHigh>(0);
  }
  void select(std::uint16_t queue) {
    write<Common::QueueSelect>(queue);
    read<Common::QueueNotifyOff>(queue);
  }
  void enable(std::uint16_t queue) {
    select(queue);
    write<Common::QueueSize>(8);
    addresses();
    write<Common::QueueEnable>(1);
  }
  void live() {
    settle();
    enable(0);
    write<Common::DeviceStatus>(kSettled | vstatus::kDriverOk);
  }
  void legacy_present(std::uint64_t offered, std::uint64_t accepted) {
    legacy_write<Legacy::DeviceStatus>(0);
    legacy_read<Legacy::DeviceStatus>(0);
    legacy_write<Legacy::DeviceStatus>(vstatus::kAcknowledge);
    legacy_write<Legacy::DeviceStatus>(kPresent);
    legacy_read<Legacy::DeviceFeatures>(offered);
    legacy_write<Legacy::DriverFeatures>(accepted);
  }

  std::vector<std::byte> memory = std::vector<std::byte>(0x10000);
  std::shared_ptr<lint::DmaMap> map = std::make_shared<lint::DmaMap>();
  std::shared_ptr<lint::RegisterLint> registers;
  std::uint64_t features;
};

}  // namespace upci::virtio_tests
