// SPDX-License-Identifier: Apache-2.0
#include "drivers/virtio_pci/modern.h"

#include <fmt/format.h>

#include <optional>

#include "device/wait.h"
#include "drivers/virtio_pci/config_access.h"
#include "virtio/queue.h"
#include "virtio/spec/pci.h"

namespace upci::inline UPCI_VARIANT::virtio_pci {
namespace {

using Common = virtio::spec::pci::Common;
namespace spec = virtio::spec::pci;

/// Section "Available Buffer Notifications": without NOTIFICATION_DATA the driver writes the 16-bit queue index. The ring's
/// stores are visible before: publish() ends with a full barrier.
class ModernNotifier final : public virtio::Notifier {
 public:
  ModernNotifier(pci::Bar doorbell, std::uint16_t queue) noexcept : doorbell_(std::move(doorbell)), queue_(queue) {}
  void notify() noexcept override { doorbell_.store<std::uint16_t>(0, queue_, "queue_notify"); }

 private:
  const pci::Bar doorbell_;
  const std::uint16_t queue_;
};

}  // namespace

std::uint8_t ModernTransport::status() { return structures_.common.read<Common::DeviceStatus>("device_status"); }

void ModernTransport::set_status(std::uint8_t status) {
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
           [&before](std::uint64_t after) {
             const bool rested = before == after;
             before = static_cast<std::uint8_t>(after);
             return rested ? device::WaitStep::kDone : device::WaitStep::kAgain;
           },
       .stuck_advice = "the device's configuration changes all the time, so that it cannot be read in one piece"});
  if (!seen) return std::unexpected(std::move(seen).error());
  config_step.done();
  return {};
}

std::uint16_t ModernTransport::queue_count() { return structures_.common.read<Common::NumQueues>("num_queues"); }

std::uint16_t ModernTransport::queue_max_size(std::uint16_t queue) {
  if (queue >= queue_count()) return 0;
  structures_.common.write<Common::QueueSelect>(queue, "queue_select");
  return structures_.common.read<Common::QueueSize>("queue_size");
}

Result<std::uint64_t> ModernTransport::notify_offset(std::uint16_t queue) {
  const std::uint64_t index = structures_.common.read<Common::QueueNotifyOff>("queue_notify_off");
  // At most 2^16 * 2^32: cannot overflow. Section "Notification structure layout": "cap.length >= queue_notify_off *
  // notify_off_multiplier + 2"; the multiplier is 0 or an even power of two.
  const std::uint64_t offset = index * structures_.notify_multiplier;
  const std::uint64_t length = structures_.notify.size();
  if (length < 2 || offset > length - 2 || offset % 2 != 0) {
    return queue_error(
        Errc::kDevice, "queue_notify_off",
        fmt::format("queue {} has its notification address at {} of a structure of {} bytes", queue, offset, length),
        "the device's notification capability is broken");
  }
  return offset;
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
  if (common.read<Common::QueueEnable>("queue_enable") != 0) {
    return queue_error(Errc::kDevice, "queue_enable",
                       fmt::format("queue {} is enabled already, right after a reset", queue),
                       "the device's reset does not reset its queues");
  }
  common.write<Common::QueueSize>(size, "queue_size");
  const auto low = [](std::uint64_t address) { return static_cast<std::uint32_t>(address); };
  const auto high = [](std::uint64_t address) { return static_cast<std::uint32_t>(address >> 32); };
  // Section "Common configuration structure layout", Driver Requirements: 64-bit fields take two 32-bit accesses.
  common.write<Common::QueueDescLow>(low(addresses.descriptors), "queue_desc");
  common.write<Common::QueueDescHigh>(high(addresses.descriptors), "queue_desc");
  common.write<Common::QueueDriverLow>(low(addresses.driver), "queue_driver");
  common.write<Common::QueueDriverHigh>(high(addresses.driver), "queue_driver");
  common.write<Common::QueueDeviceLow>(low(addresses.device), "queue_device");
  common.write<Common::QueueDeviceHigh>(high(addresses.device), "queue_device");
  common.write<Common::QueueMsixVector>(vector, "queue_msix_vector");
  if (common.read<Common::QueueMsixVector>("queue_msix_vector") != vector)
    return vector_rejected("queue_msix_vector", vector);
  UPCI_TRY_ASSIGN(const std::uint64_t offset, notify_offset(queue));
  UPCI_TRY_ASSIGN(pci::Bar doorbell, structures_.notify.window(offset, sizeof(std::uint16_t)));
  // "The driver MUST configure the other virtqueue fields before enabling the virtqueue with queue_enable."
  common.write<Common::QueueEnable>(1, "queue_enable");
  return std::make_unique<ModernNotifier>(std::move(doorbell), queue);
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
