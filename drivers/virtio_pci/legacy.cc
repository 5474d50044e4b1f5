// SPDX-License-Identifier: Apache-2.0
#include "drivers/virtio_pci/legacy.h"

#include <fmt/format.h>

#include <vector>

#include "device/wait.h"
#include "drivers/virtio_pci/config_access.h"
#include "virtio/queue.h"
#include "virtio/spec/pci.h"

namespace upci::inline UPCI_VARIANT::virtio_pci {
namespace {

using Legacy = virtio::spec::pci::Legacy;
namespace spec = virtio::spec::pci;

constexpr std::uint8_t kMsixCapability = 0x11;  // PCI_CAP_ID_MSIX
constexpr std::uint16_t kMsixControl = 2;       // offset of Message Control
constexpr std::uint16_t kMsixEnable = 0x8000;
// The legacy header does not say how many queues there are; nobody looks further than this.
constexpr std::uint16_t kMaxProbedQueues = 64;

/// The driver writes the queue's index; section "Legacy Interfaces: A Note on PCI Device Layout", "Queue Notify".
class LegacyNotifier final : public virtio::Notifier {
 public:
  LegacyNotifier(pci::Bar header, std::uint16_t queue) noexcept : header_(std::move(header)), queue_(queue) {}
  void notify(std::uint16_t) noexcept override { header_.write<Legacy::QueueNotify>(queue_, "queue_notify"); }

 private:
  const pci::Bar header_;
  const std::uint16_t queue_;
};

/// Whoever asked for the legacy interface asked for one that is not there; otherwise the device has none at all, and is broken.
std::unexpected<Error> no_legacy(const pci::Device& device, std::string what) {
  if (device.options().interface == device::BindOptions::Interface::kLegacy) {
    return fail(Errc::kUnavailable, std::move(what), "the device has no legacy interface: leave driver=legacy out");
  }
  return fail(Errc::kDevice, std::move(what),
              "the device has neither virtio capabilities nor legacy registers: it is broken");
}

}  // namespace

Result<std::shared_ptr<LegacyTransport>> LegacyTransport::create(std::shared_ptr<pci::Device> device,
                                                                 std::uint32_t device_id) {
  auto header = device->bar(spec::kLegacyBar);
  if (!header) return no_legacy(*device, fmt::format("no legacy registers: {}", header.error().what));
  if (!header->io()) return no_legacy(*device, "no legacy registers: BAR 0 is not in port space");
  if (header->size() < spec::kLegacyConfigOffset) {
    return no_legacy(*device, fmt::format("no legacy registers: BAR 0 has {} bytes", header->size()));
  }
  UPCI_TRY_ASSIGN(const auto capabilities, device->config().capabilities());
  std::optional<std::uint16_t> msix;
  for (const pci::Capability& capability : capabilities) {
    if (capability.id == kMsixCapability) msix = capability.offset;
  }
  return std::shared_ptr<LegacyTransport>(new LegacyTransport(std::move(device), std::move(*header), device_id, msix));
}

bool LegacyTransport::msix_enabled() const {
  return msix_ && (device_->config().read16(static_cast<std::uint16_t>(*msix_ + kMsixControl)) & kMsixEnable) != 0;
}

std::uint8_t LegacyTransport::status() { return header_.read<Legacy::DeviceStatus>("device_status"); }
void LegacyTransport::set_status(std::uint8_t status) { header_.write<Legacy::DeviceStatus>(status, "device_status"); }
std::uint64_t LegacyTransport::device_features() { return header_.read<Legacy::DeviceFeatures>("device_feature"); }
void LegacyTransport::set_driver_features(std::uint64_t features) {
  header_.write<Legacy::DriverFeatures>(static_cast<std::uint32_t>(features), "driver_feature");
}

// Section "Legacy Interface: Device Configuration Space": there is no generation counter; "drivers read the configuration
// fields multiple times until two reads generate a consistent result".
[[gnu::noinline]] Result<void> LegacyTransport::read_config(std::uint32_t offset, std::span<std::byte> into,
                                                            Deadline deadline) {
  const std::uint64_t start =
      std::uint64_t{offset} + (msix_enabled() ? spec::kLegacyConfigOffsetMsix : spec::kLegacyConfigOffset);
  if (start > header_.size() || into.size() > header_.size() - start) {
    return fail(Errc::kDevice,
                fmt::format("the device's registers have {} bytes; its configuration is needed up to byte {}",
                            header_.size(), start + into.size()));
  }
  if (into.size() == 1) {
    read_field(header_, start, into);
    return {};
  }
  const StepScope config_step(*device_->state(), "config");
  std::vector<std::byte> previous(into.size());
  read_field(header_, start, previous);
  auto seen = device::wait_for_register(*device_->state(), device_->control(),
                                        {.step = "config",
                                         .reg = "device_config",
                                         .deadline = deadline,
                                         .all_ones = 0xff,
                                         .read =
                                             [&] {
                                               read_field(header_, start, into);
                                               return std::to_integer<std::uint64_t>(into[0]);
                                             },
                                         .judge =
                                             [&](std::uint64_t) {
                                               const bool same = std::equal(into.begin(), into.end(), previous.begin());
                                               std::copy(into.begin(), into.end(), previous.begin());
                                               return same ? device::WaitStep::kDone : device::WaitStep::kAgain;
                                             },
                                         .stuck_advice = "the device's configuration changes all the time"});
  if (!seen) return std::unexpected(std::move(seen).error());
  config_step.done();
  return {};
}

std::uint16_t LegacyTransport::queue_count() {
  std::uint16_t count = 0;
  while (count < kMaxProbedQueues && queue_max_size(count) != 0) ++count;
  return count;
}

std::uint16_t LegacyTransport::queue_max_size(std::uint16_t queue) {
  header_.write<Legacy::QueueSelect>(queue, "queue_select");
  return header_.read<Legacy::QueueSize>("queue_size");
}

Result<std::unique_ptr<virtio::Notifier>> LegacyTransport::setup_queue(std::uint16_t queue, std::uint16_t size,
                                                                       const virtio::QueueAddresses& addresses,
                                                                       std::uint16_t vector) {
  const std::uint16_t fixed = queue_max_size(queue);
  UPCI_TRY(virtio::check_queue_size(queue, fixed));
  // Section "Legacy Interfaces: A Note on Virtqueue Layout": there is no negotiation of the size.
  if (size != fixed) {
    return queue_error(Errc::kDevice, "queue_size", fmt::format("queue {} has {} entries, not {}", queue, fixed, size));
  }
  const std::uint64_t page = addresses.descriptors >> spec::kLegacyAddressShift;
  if (addresses.descriptors != page << spec::kLegacyAddressShift || page == 0 || page > 0xffff'ffffU) {
    return queue_error(Errc::kInvalid, "queue_address",
                       fmt::format("a legacy device cannot be given a ring at 0x{:x}", addresses.descriptors),
                       "it takes a page number of 32 bits");
  }
  if (header_.read<Legacy::QueueAddress>("queue_address") != 0) {
    return queue_error(Errc::kDevice, "queue_address",
                       fmt::format("queue {} is in use already, right after a reset", queue),
                       "the device's reset does not reset its queues");
  }
  if (msix_enabled()) {
    header_.write<Legacy::QueueMsixVector>(vector, "queue_msix_vector");
    if (header_.read<Legacy::QueueMsixVector>("queue_msix_vector") != vector) {
      return vector_rejected("queue_msix_vector", vector);
    }
  } else if (vector != kNoVector) {
    return vector_rejected("queue_msix_vector", vector);
  }
  header_.write<Legacy::QueueAddress>(static_cast<std::uint32_t>(page), "queue_address");
  return std::make_unique<LegacyNotifier>(header_, queue);
}

Result<void> LegacyTransport::reset_queue(std::uint16_t, Deadline) {
  return fail(Errc::kUnavailable, "the legacy interface cannot reset queues one by one", "reset the whole device");
}

Result<void> LegacyTransport::set_config_vector(std::uint16_t vector) {
  if (!msix_enabled()) {
    if (vector == kNoVector) return {};
    return vector_rejected("config_msix_vector", vector);
  }
  header_.write<Legacy::ConfigMsixVector>(vector, "config_msix_vector");
  if (header_.read<Legacy::ConfigMsixVector>("config_msix_vector") != vector) {
    return vector_rejected("config_msix_vector", vector);
  }
  return {};
}

std::uint8_t LegacyTransport::isr() { return header_.read<Legacy::IsrStatus>("isr_status"); }

}  // namespace upci::inline UPCI_VARIANT::virtio_pci
