// SPDX-License-Identifier: Apache-2.0
#include "drivers/virtio_pci/modern.h"

#include <fmt/format.h>

#include <optional>

#include "device/wait.h"
#include "drivers/virtio_pci/config_access.h"
#include "virtio/queue.h"
#include "virtio/spec/features.h"
#include "virtio/spec/pci.h"
#include "virtio/spec/status.h"

namespace upci::inline UPCI_VARIANT::virtio_pci {
namespace {

using Common = virtio::spec::pci::Common;
namespace spec = virtio::spec::pci;

// No value of a 16-bit register: it is being reset, and the device asks to be reset as a whole.
constexpr std::uint64_t kBrokenDown = 0x1'0000;

/// Section "Available Buffer Notifications": without NOTIFICATION_DATA the driver writes the 16-bit queue index. The ring's
/// stores are visible before: publish() ends with a full barrier.
class ModernNotifier final : public virtio::Notifier {
 public:
  ModernNotifier(pci::Bar doorbell, std::uint16_t queue) noexcept : doorbell_(std::move(doorbell)), queue_(queue) {}
  void notify(std::uint16_t) noexcept override { doorbell_.store<std::uint16_t>(0, queue_, "queue_notify"); }

 private:
  const pci::Bar doorbell_;
  const std::uint16_t queue_;
};

/// The same section, with NOTIFICATION_DATA: 32 bits, the queue's index below, where the ring stands above.
class PositionNotifier final : public virtio::Notifier {
 public:
  PositionNotifier(pci::Bar doorbell, std::uint16_t queue) noexcept : doorbell_(std::move(doorbell)), queue_(queue) {}
  void notify(std::uint16_t position) noexcept override {
    doorbell_.store<std::uint32_t>(0, (std::uint32_t{position} << 16) | queue_, "queue_notify");
  }

 private:
  const pci::Bar doorbell_;
  const std::uint16_t queue_;
};

}  // namespace

std::uint8_t ModernTransport::status() { return structures_.common.read<Common::DeviceStatus>("device_status"); }

void ModernTransport::set_status(std::uint8_t status) {
  if (status == virtio::spec::status::kReset) seen_ = {};
  structures_.common.write<Common::DeviceStatus>(status, "device_status");
}

std::uint64_t ModernTransport::device_features() {
  std::uint64_t features = 0;
  for (std::uint32_t half = 0; half < 2; ++half) {
    structures_.common.write<Common::DeviceFeatureSelect>(half, "device_feature_select");
    features |= std::uint64_t{structures_.common.read<Common::DeviceFeature>("device_feature")} << (32 * half);
  }
  return features;
}

void ModernTransport::set_driver_features(std::uint64_t features) {
  features_ = features;
  for (std::uint32_t half = 0; half < 2; ++half) {
    structures_.common.write<Common::DriverFeatureSelect>(half, "driver_feature_select");
    structures_.common.write<Common::DriverFeature>(static_cast<std::uint32_t>(features >> (32 * half)),
                                                    "driver_feature");
  }
}

// Section "Device Configuration Space": a field may change while it is read; config_generation tells. A device whose
// generation never rests ends in `stuck`.
[[gnu::noinline]] Result<void> ModernTransport::read_config(std::uint32_t offset, std::span<std::byte> into,
                                                            Deadline deadline) {
  if (!structures_.device || into.size() > structures_.device.size() ||
      offset > structures_.device.size() - into.size()) {
    return fail(Errc::kDevice, fmt::format("the device's configuration has {} bytes; bytes {} to {} are needed",
                                           structures_.device.size(), offset, offset + into.size()));
  }
  const StepScope config_step(*device_->state(), "config");
  std::optional<std::uint8_t> before;
  auto seen = device::wait_for_register(
      *device_->state(), device_->control(),
      {.step = "config",
       .reg = "config_generation",
       .deadline = deadline,
       .all_ones = 0xff,
       .read =
           [&] {
             if (!before) before = structures_.common.read<Common::ConfigGeneration>("config_generation");
             read_field(structures_.device, offset, into);
             return std::uint64_t{structures_.common.read<Common::ConfigGeneration>("config_generation")};
           },
       .judge =
           [&](std::uint64_t after) {
             const bool rested = before == after;
             before = static_cast<std::uint8_t>(after);
             if (rested) return device::WaitStep::kDone;
             const bool broken_down = (status() & virtio::spec::status::kNeedsReset) != 0;
             return broken_down ? device::WaitStep::kNeedsReset : device::WaitStep::kAgain;
           },
       .stuck_advice = "the device's configuration changes all the time, so that it cannot be read in one piece"});
  if (!seen) return std::unexpected(std::move(seen).error());
  config_step.done();
  return {};
}

std::uint16_t ModernTransport::queue_count() {
  if (!seen_.queues) seen_.queues = structures_.common.read<Common::NumQueues>("num_queues");
  return *seen_.queues;
}

void ModernTransport::select_queue(std::uint16_t queue) {
  if (seen_.selected == queue) return;
  structures_.common.write<Common::QueueSelect>(queue, "queue_select");
  seen_.selected = queue;
}

std::uint16_t ModernTransport::queue_max_size(std::uint16_t queue) {
  if (queue >= queue_count()) return 0;
  const auto known = seen_.sizes.find(queue);
  if (known != seen_.sizes.end()) return known->second;
  select_queue(queue);
  return seen_.sizes[queue] = structures_.common.read<Common::QueueSize>("queue_size");
}

Result<pci::Bar> ModernTransport::doorbell_of(std::uint16_t queue, std::uint64_t bytes) {
  const std::uint64_t index = structures_.common.read<Common::QueueNotifyOff>("queue_notify_off");
  // At most 2^16 * 2^32: cannot overflow. Section "Notification structure layout": "cap.length >= queue_notify_off *
  // notify_off_multiplier + 2", with NOTIFICATION_DATA + 4; the multiplier is 0 or an even power of two, with
  // NOTIFICATION_DATA a multiple of 4.
  const std::uint64_t offset = index * structures_.notify_multiplier;
  const std::uint64_t length = structures_.notify.size();
  if (length < bytes || offset > length - bytes || offset % bytes != 0) {
    return queue_error(
        Errc::kDevice, "queue_notify_off",
        fmt::format("queue {} has its notification address at {} of a structure of {} bytes", queue, offset, length),
        "the device's notification capability is broken");
  }
  return structures_.notify.window(offset, bytes);
}

Result<std::unique_ptr<virtio::Notifier>> ModernTransport::setup_queue(std::uint16_t queue, std::uint16_t size,
                                                                       const virtio::QueueAddresses& addresses,
                                                                       std::uint16_t vector) {
  const pci::Bar& common = structures_.common;
  const std::uint16_t max = queue_max_size(queue);
  UPCI_TRY(virtio::check_queue_size(queue, max, true));
  UPCI_TRY(virtio::check_queue_size(queue, size, true));
  if (size > max) {
    return queue_error(Errc::kDevice, "queue_size",
                       fmt::format("queue {} can have {} entries, not {}", queue, max, size));
  }
  select_queue(queue);
  if (common.read<Common::QueueEnable>("queue_enable") != 0) {
    return queue_error(Errc::kDevice, "queue_enable",
                       fmt::format("queue {} is enabled already, right after a reset", queue),
                       "the device's reset does not reset its queues");
  }
  // Until it is written it is what the device can have, after a reset as well.
  if (size != max) common.write<Common::QueueSize>(size, "queue_size");
  const auto low = [](std::uint64_t address) { return static_cast<std::uint32_t>(address); };
  const auto high = [](std::uint64_t address) { return static_cast<std::uint32_t>(address >> 32); };
  // Section "Common configuration structure layout", Driver Requirements: 64-bit fields take two 32-bit accesses.
  common.write<Common::QueueDescLow>(low(addresses.descriptors), "queue_desc");
  common.write<Common::QueueDescHigh>(high(addresses.descriptors), "queue_desc");
  common.write<Common::QueueDriverLow>(low(addresses.driver), "queue_driver");
  common.write<Common::QueueDriverHigh>(high(addresses.driver), "queue_driver");
  common.write<Common::QueueDeviceLow>(low(addresses.device), "queue_device");
  common.write<Common::QueueDeviceHigh>(high(addresses.device), "queue_device");
  // After a reset there is none.
  if (vector != kNoVector) {
    common.write<Common::QueueMsixVector>(vector, "queue_msix_vector");
    if (common.read<Common::QueueMsixVector>("queue_msix_vector") != vector)
      return vector_rejected("queue_msix_vector", vector);
  }
  const bool position = has(virtio::spec::feature::kNotificationData);
  UPCI_TRY_ASSIGN(pci::Bar doorbell, doorbell_of(queue, position ? sizeof(std::uint32_t) : sizeof(std::uint16_t)));
  // "The driver MUST configure the other virtqueue fields before enabling the virtqueue with queue_enable."
  common.write<Common::QueueEnable>(1, "queue_enable");
  if (position) return std::make_unique<PositionNotifier>(std::move(doorbell), queue);
  return std::make_unique<ModernNotifier>(std::move(doorbell), queue);
}

[[gnu::noinline]] Result<void> ModernTransport::reset_queue(std::uint16_t queue, Deadline deadline) {
  const pci::Bar& common = structures_.common;
  if (!has(virtio::spec::feature::kRingReset)) {
    return fail(Errc::kUnavailable, "queues cannot be reset one by one: RING_RESET was not negotiated",
                "reset the whole device");
  }
  if (common.size() < spec::kCommonSizeWithReset) {
    return queue_error(
        Errc::kDevice, "queue_reset",
        fmt::format("the device offers RING_RESET, but its common configuration ends after {} bytes", common.size()),
        "decline it with features=-RING_RESET, or repair the device");
  }
  const StepScope step(*device_->state(), "queue_reset");
  select_queue(queue);
  common.write<Common::QueueReset>(1, "queue_reset");
  // Section "Common configuration structure layout": "the driver MUST NOT consider queue reset to be complete until it reads
  // back 0 in queue_reset". A device that breaks down meanwhile says so in its status.
  auto seen = device::wait_for_register(
      *device_->state(), device_->control(),
      {.step = "queue_reset",
       .reg = "queue_reset",
       .deadline = deadline,
       .all_ones = 0xffff,
       .read =
           [&] {
             const std::uint64_t ongoing = common.read<Common::QueueReset>("queue_reset");
             return ongoing == 1 && (status() & virtio::spec::status::kNeedsReset) != 0 ? kBrokenDown : ongoing;
           },
       .judge =
           [](std::uint64_t value) {
             if (value == kBrokenDown) return device::WaitStep::kNeedsReset;
             return value == 0 ? device::WaitStep::kDone : device::WaitStep::kAgain;
           },
       .stuck_advice = "the device does not finish the reset of a queue: reset the device"});
  if (!seen) return std::unexpected(std::move(seen).error());
  if (common.read<Common::QueueEnable>("queue_enable") != 0) {
    return queue_error(Errc::kDevice, "queue_enable", fmt::format("queue {} is still enabled after its reset", queue),
                       "reset the device");
  }
  step.done();
  return {};
}

Result<void> ModernTransport::set_config_vector(std::uint16_t vector) {
  structures_.common.write<Common::ConfigMsixVector>(vector, "config_msix_vector");
  if (structures_.common.read<Common::ConfigMsixVector>("config_msix_vector") != vector) {
    return vector_rejected("config_msix_vector", vector);
  }
  return {};
}

std::uint8_t ModernTransport::isr() { return structures_.isr.read<spec::Isr::Status>("isr_status"); }

}  // namespace upci::inline UPCI_VARIANT::virtio_pci
