// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "emulation/emu/registers.h"
#include "virtio/spec/features.h"
#include "virtio/spec/pci.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {
namespace {

using Common = virtio::spec::pci::Common;
namespace feature = virtio::spec::feature;

/// True when the access is to register R with R's own width. Section "Driver Requirements: PCI Device Layout": "For
/// device configuration access, the driver MUST use ... 16-bit wide and aligned accesses for 16-bit wide fields", and
/// so on.
template <class R>
bool is(std::uint64_t offset, unsigned width) noexcept {
  return offset == R::offset && width == sizeof(typename R::Value);
}

std::uint64_t set_low(std::uint64_t old, std::uint32_t value) noexcept {
  return (old & ~std::uint64_t{0xffff'ffff}) | value;
}
std::uint64_t set_high(std::uint64_t old, std::uint32_t value) noexcept {
  return (old & 0xffff'ffff) | (std::uint64_t{value} << 32);
}
std::uint64_t low(std::uint64_t value) noexcept { return value & 0xffff'ffff; }
std::uint64_t high(std::uint64_t value) noexcept { return value >> 32; }

}  // namespace

std::uint64_t ModernRegisters::read(std::uint64_t offset, unsigned width) {
  if (offset < virtio::spec::pci::kCommonSizeWithReset) return read_common(offset, width);
  if (offset == kIsrOffset && width == 1) return core_.take_isr();
  if (offset >= kDeviceOffset && offset < kNotifyOffset) {
    std::uint64_t value = 0;
    for (unsigned i = 0; i < width; ++i) {
      value |= std::uint64_t{core_.read_config(offset - kDeviceOffset + i)} << (8 * i);
    }
    return value;
  }
  core_.violation(fmt::format("there is no register of {} bytes at {:#x} to read", width, offset));
  return all_ones(width);
}

std::uint64_t ModernRegisters::read_common(std::uint64_t offset, unsigned width) {
  const VirtQueue* const queue = core_.queue(queue_select_);
  if (is<Common::DeviceFeatureSelect>(offset, width)) return device_select_;
  if (is<Common::DeviceFeature>(offset, width)) {
    return device_select_ < 2 ? low(core_.offered(Via::kModern) >> (32 * device_select_)) : 0;
  }
  if (is<Common::DriverFeatureSelect>(offset, width)) return driver_select_;
  if (is<Common::DriverFeature>(offset, width)) return core_.driver_features(driver_select_);
  if (is<Common::ConfigMsixVector>(offset, width)) return core_.config_vector();
  if (is<Common::NumQueues>(offset, width)) return VirtioCore::kQueues;
  if (is<Common::DeviceStatus>(offset, width)) return core_.read_status();
  if (is<Common::ConfigGeneration>(offset, width)) return core_.generation();
  if (is<Common::QueueSelect>(offset, width)) return queue_select_;
  // "The device MUST present a 0 in queue_size if the virtqueue corresponding to the current queue_select is
  // unavailable."
  if (is<Common::QueueSize>(offset, width)) return queue != nullptr ? queue->size : 0;
  if (is<Common::QueueMsixVector>(offset, width)) {
    return queue != nullptr ? queue->vector : virtio::spec::pci::kNoVector;
  }
  if (is<Common::QueueEnable>(offset, width)) return queue != nullptr && queue->enabled ? 1 : 0;
  // The device is done with a reset of a queue as soon as it is told to.
  if (is<Common::QueueReset>(offset, width) && core_.has_feature(feature::kRingReset))
    return core_.queue_resetting(queue_select_) ? 1U : 0U;
  if (is<Common::QueueNotifyOff>(offset, width)) return core_.notify_offset(queue_select_);
  if (is<Common::QueueDescLow>(offset, width)) return queue != nullptr ? low(queue->descriptors) : 0;
  if (is<Common::QueueDescHigh>(offset, width)) return queue != nullptr ? high(queue->descriptors) : 0;
  if (is<Common::QueueDriverLow>(offset, width)) return queue != nullptr ? low(queue->driver) : 0;
  if (is<Common::QueueDriverHigh>(offset, width)) return queue != nullptr ? high(queue->driver) : 0;
  if (is<Common::QueueDeviceLow>(offset, width)) return queue != nullptr ? low(queue->device) : 0;
  if (is<Common::QueueDeviceHigh>(offset, width)) return queue != nullptr ? high(queue->device) : 0;
  core_.violation(fmt::format("{} bytes at {:#x} of the common configuration are no field to read", width, offset));
  return all_ones(width);
}

void ModernRegisters::write(std::uint64_t offset, unsigned width, std::uint64_t value) {
  if (offset < virtio::spec::pci::kCommonSizeWithReset) return write_common(offset, width, value);
  if (offset >= kDeviceOffset && offset < kNotifyOffset) {
    for (unsigned i = 0; i < width; ++i) {
      core_.write_config(Via::kModern, offset - kDeviceOffset + i, static_cast<std::uint8_t>(value >> (8 * i)));
    }
    return;
  }
  if (offset >= kNotifyOffset) {
    // Section "Available Buffer Notifications": without NOTIFICATION_DATA 16 bits, the queue's index.
    const bool position = core_.has_feature(feature::kNotificationData);
    const unsigned bytes = position ? 4 : 2;
    if (width != bytes) core_.violation(fmt::format("a notification of {} bytes instead of {}", width, bytes));
    const auto index = static_cast<std::uint16_t>(value);
    if (offset != kNotifyOffset + std::uint64_t{index} * kNotifyMultiplier) {
      core_.violation(fmt::format("queue {} is notified at {:#x}", index, offset));
      return;
    }
    if (position) {
      core_.notify(Via::kModern, index, static_cast<std::uint16_t>(value >> 16));
    } else {
      core_.notify(Via::kModern, index);
    }
    return;
  }
  core_.violation(fmt::format("there is no register of {} bytes at {:#x} to write", width, offset));
}

void ModernRegisters::write_common(std::uint64_t offset, unsigned width, std::uint64_t value) {
  const auto value16 = static_cast<std::uint16_t>(value);
  const auto value32 = static_cast<std::uint32_t>(value);
  if (is<Common::DeviceFeatureSelect>(offset, width)) {
    device_select_ = value32;
  } else if (is<Common::DriverFeatureSelect>(offset, width)) {
    driver_select_ = value32;
  } else if (is<Common::DriverFeature>(offset, width)) {
    core_.write_driver_features(Via::kModern, driver_select_, value32);
  } else if (is<Common::ConfigMsixVector>(offset, width)) {
    core_.write_config_vector(value16);
  } else if (is<Common::DeviceStatus>(offset, width)) {
    core_.write_status(Via::kModern, static_cast<std::uint8_t>(value));
  } else if (is<Common::QueueSelect>(offset, width)) {
    queue_select_ = value16;
  } else if (is<Common::QueueSize>(offset, width)) {
    core_.write_queue_size(Via::kModern, queue_select_, value16);
  } else if (is<Common::QueueMsixVector>(offset, width)) {
    core_.write_queue_vector(Via::kModern, queue_select_, value16);
  } else if (is<Common::QueueEnable>(offset, width)) {
    // "The driver MUST NOT write a 0 to queue_enable."
    if (value16 == 1) {
      core_.enable_queue(queue_select_);
    } else {
      core_.violation(fmt::format("queue_enable of queue {} is set to {}", queue_select_, value16));
    }
  } else if (is<Common::QueueReset>(offset, width)) {
    if (value16 == 1) {
      core_.reset_queue(queue_select_);
    } else {
      core_.violation(fmt::format("queue_reset of queue {} is set to {}", queue_select_, value16));
    }
  } else if (offset >= Common::QueueDescLow::offset && offset <= Common::QueueDeviceHigh::offset && offset % 4 == 0 &&
             width == 4) {
    write_address(offset, value32);
  } else {
    core_.violation(fmt::format("{} bytes at {:#x} of the common configuration are no field to write", width, offset));
  }
}

void ModernRegisters::write_address(std::uint64_t offset, std::uint32_t value) {
  VirtQueue* const queue = core_.queue_for_setup(Via::kModern, queue_select_, "an address");
  if (queue == nullptr) return;
  switch (offset) {
    case Common::QueueDescLow::offset: queue->descriptors = set_low(queue->descriptors, value); break;
    case Common::QueueDescHigh::offset: queue->descriptors = set_high(queue->descriptors, value); break;
    case Common::QueueDriverLow::offset: queue->driver = set_low(queue->driver, value); break;
    case Common::QueueDriverHigh::offset: queue->driver = set_high(queue->driver, value); break;
    case Common::QueueDeviceLow::offset: queue->device = set_low(queue->device, value); break;
    case Common::QueueDeviceHigh::offset: queue->device = set_high(queue->device, value); break;
    default: break;  // the caller lets no other offset through
  }
}

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
