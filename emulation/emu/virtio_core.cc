// SPDX-License-Identifier: Apache-2.0
// Status, features and configuration; the queues are in virtio_queues.cc.
#include "emulation/emu/virtio_core.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "virtio/spec/features.h"
#include "virtio/spec/status.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {
namespace {

namespace status = virtio::spec::status;
namespace feature = virtio::spec::feature;
namespace net = virtio::spec::net;
namespace net_feature = virtio::spec::net_feature;
using virtio::spec::mask_of;

// Section "Feature bit requirements": USO rests on the checksums.
constexpr std::uint64_t kSegmentation = mask_of(net_feature::kCsum) | mask_of(net_feature::kHostUso) |
                                        mask_of(net_feature::kGuestCsum) | mask_of(net_feature::kGuestUso4) |
                                        mask_of(net_feature::kGuestUso6);

/// What a device shows that firmware has driven and not reset.
constexpr std::uint8_t kLeftByFirmware =
    status::kAcknowledge | status::kDriver | status::kDriverOk | status::kFeaturesOk;

}  // namespace

VirtioCore::VirtioCore(const Options& options, Violations& violations, DmaTable& dma, Interrupts& interrupts)
    : options_(options), violations_(violations), dma_(dma), interrupts_(interrupts) {
  clear();
  std::ranges::copy(options.mac, config_.begin() + net::config::kMac);
  config_[net::config::kStatus] = options.link_up ? net::kLinkUp : 0;
  config_[net::config::kMtu] = static_cast<std::uint8_t>(options.mtu & 0xffU);
  config_[net::config::kMtu + 1] = static_cast<std::uint8_t>(options.mtu >> 8);
  // With these faults the driver must find a status that is not 0 already.
  if (options.fault == Fault::kStatusSlow || options.fault == Fault::kStatusStuck) status_ = kLeftByFirmware;
}

std::uint8_t VirtioCore::read_status() { return status_; }

void VirtioCore::write_status(Via via, std::uint8_t value) {
  wake_ = true;
  if (value == status::kReset) {
    if (options_.fault == Fault::kAccessStalled) stall_ = true;
    if (resetting_ || status_ == status::kReset) return;
    resetting_ = true;
    switch (options_.fault) {
      case Fault::kStatusStuck: break;  // never due
      case Fault::kStatusSlow: reset_due_ = platform::Clock::now() + options_.fault_delay; break;
      default: reset_due_ = platform::Clock::now(); break;
    }
    return;
  }
  if (resetting_) {
    // Section "Common configuration structure layout": "The driver MUST wait for a read of device_status to return 0
    // before reinitializing the device."
    violation(fmt::format("device_status is set to {:#04x} before the reset has ended", value));
    return;
  }
  const auto added = static_cast<std::uint8_t>(value & ~status_);
  check_status_write(via, value, added);
  if (status_ == 0) via_ = via;
  std::uint8_t taken = value & static_cast<std::uint8_t>(~status::kNeedsReset);
  if ((added & status::kFeaturesOk) != 0 && !accept_features())
    taken &= static_cast<std::uint8_t>(~status::kFeaturesOk);
  if ((added & status::kDriverOk) != 0 && !may_go_live(via)) taken &= static_cast<std::uint8_t>(~status::kDriverOk);
  status_ = static_cast<std::uint8_t>(taken | (status_ & status::kNeedsReset));

  const bool last_step = (added & (via == Via::kLegacy ? status::kDriverOk : status::kFeaturesOk)) != 0;
  if (last_step && options_.fault == Fault::kNeedsReset) status_ |= status::kNeedsReset;
  if (via == Via::kModern && (added & status::kFeaturesOk) != 0 && options_.fault == Fault::kGone) gone_ = true;
}

void VirtioCore::check_status_write(Via via, std::uint8_t value, std::uint8_t added) {
  // Section "Device Status Field", driver requirements: "The driver MUST NOT clear a device status bit."
  const auto cleared = static_cast<std::uint8_t>(status_ & ~value & ~status::kNeedsReset);
  if (cleared != 0)
    violation(fmt::format("device_status goes from {:#04x} to {:#04x}: bits are cleared", status_, value));
  if (via_ != Via::kNone && via != via_) violation("device_status is written through the other interface");
  if ((added & status::kNeedsReset) != 0) violation("the driver sets DEVICE_NEEDS_RESET, which is the device's");
  if ((added & status::kReserved) != 0) violation(fmt::format("device_status {:#04x} has reserved bits", value));
  if ((added & status::kDriver) != 0 && (value & status::kAcknowledge) == 0) violation("DRIVER without ACKNOWLEDGE");
  if ((added & status::kFeaturesOk) != 0 && via == Via::kLegacy) {
    violation("FEATURES_OK is set through the legacy interface, which has none");
  }
  if ((added & status::kFeaturesOk) != 0 && (status_ & status::kDriver) == 0) violation("FEATURES_OK before DRIVER");
  if ((added & status::kDriverOk) != 0 && (value & status::kFailed) != 0) violation("DRIVER_OK together with FAILED");
}

bool VirtioCore::accept_features() {
  const std::uint64_t extra = driver_features_ & ~offered(via_);
  // Section "Feature Bits": "The driver MUST NOT accept a feature which the device did not offer".
  if (extra != 0) violation(fmt::format("features {:#x} are accepted and not offered", extra));
  // Section "Reserved Feature Bits": "A driver MUST accept VIRTIO_F_VERSION_1 if it is offered."
  const bool version_1 = has_feature(feature::kVersion1);
  const bool offers_it = (offered(via_) & mask_of(feature::kVersion1)) != 0;
  if (offers_it && !version_1) violation("VERSION_1 is offered and not accepted");
  return extra == 0 && version_1 == offers_it && options_.fault != Fault::kFeaturesRejected;
}

bool VirtioCore::may_go_live(Via via) {
  if (via == Via::kLegacy || (status_ & status::kFeaturesOk) != 0) return true;
  violation("DRIVER_OK without FEATURES_OK");
  return false;
}

void VirtioCore::finish_reset(bool quiet) {
  if (!quiet) {
    reset_due_ = platform::kNever;
    return;
  }
  clear();
  wake_ = false;
}

void VirtioCore::hard_reset() {
  clear();
  stall_ = false;
}

void VirtioCore::clear() noexcept {
  status_ = status::kReset;
  reset_due_ = platform::kNever;
  resetting_ = false;
  via_ = Via::kNone;
  driver_features_ = 0;
  queues_ = {};
  for (VirtQueue& queue : queues_) queue.size = max_queue_size();
  config_vector_ = virtio::spec::pci::kNoVector;
  take_isr();
  broken_ = false;
}

std::uint64_t VirtioCore::offered(Via via) const noexcept {
  std::uint64_t bits = mask_of(net_feature::kMac) | mask_of(net_feature::kStatus);
  if (options_.mtu != 0) bits |= mask_of(net_feature::kMtu);
  if (options_.mrg_rxbuf) bits |= mask_of(net_feature::kMrgRxbuf);
  if (options_.event_idx) bits |= mask_of(feature::kEventIdx);
  if (options_.indirect_desc) bits |= mask_of(feature::kIndirectDesc);
  if (via == Via::kLegacy) return bits | mask_of(feature::kAnyLayout);
  if (options_.fault != Fault::kVersionMissing) bits |= mask_of(feature::kVersion1);
  if (options_.access_platform) bits |= mask_of(feature::kAccessPlatform);
  if (options_.notification_data) bits |= mask_of(feature::kNotificationData);
  if (options_.order_platform) bits |= mask_of(feature::kOrderPlatform);
  if (options_.ring_reset) bits |= mask_of(feature::kRingReset);
  if (options_.packed) bits |= mask_of(feature::kRingPacked);
  if (options_.in_order) bits |= mask_of(feature::kInOrder);
  if (options_.uso) bits |= kSegmentation;
  return bits & can_have_;
}

std::uint32_t VirtioCore::driver_features(std::uint32_t half) const noexcept {
  return half < 2 ? static_cast<std::uint32_t>(driver_features_ >> (32 * half)) : 0;
}

void VirtioCore::write_driver_features(Via via, std::uint32_t half, std::uint32_t value) {
  if ((status_ & status::kDriver) == 0) violation("features are written before DRIVER is set");
  // Section "Device Initialization": "The driver MUST NOT accept new feature bits after this step" (FEATURES_OK).
  if ((status_ & (status::kFeaturesOk | status::kDriverOk)) != 0) {
    violation("features are written after FEATURES_OK");
    return;
  }
  if (half > 1) {
    if (value != 0) violation(fmt::format("feature bits are written beyond 63 (select {})", half));
    return;
  }
  const std::uint64_t keep = half == 0 ? ~std::uint64_t{0xffff'ffff} : std::uint64_t{0xffff'ffff};
  driver_features_ = (driver_features_ & keep) | (std::uint64_t{value} << (32 * half));
  if (via != Via::kLegacy) return;
  if (const std::uint64_t extra = driver_features_ & ~offered(via); extra != 0) {
    violation(fmt::format("features {:#x} are accepted and not offered", extra));
    driver_features_ &= offered(via);
  }
  if (options_.fault == Fault::kGone) gone_ = true;
}

std::uint8_t VirtioCore::generation() {
  if (options_.fault == Fault::kGenerationUnstable) ++generation_;
  return generation_;
}

void VirtioCore::write_config_vector(std::uint16_t vector) {
  // Section "MSI-X Vector Configuration": a vector that the device cannot use reads back as NO_VECTOR.
  const bool takes = interrupts_.has_msix() && vector < interrupts_.count() && options_.fault != Fault::kVectorRejected;
  config_vector_ = takes ? vector : virtio::spec::pci::kNoVector;
}

std::uint8_t VirtioCore::read_config(std::uint64_t offset) const noexcept {
  return offset < config_.size() ? config_[offset] : std::uint8_t{0};
}

void VirtioCore::write_config(Via via, std::uint64_t offset, std::uint8_t value) {
  // Section "Legacy Interface: Device configuration layout": a legacy driver sets the MAC by writing it here.
  if (via == Via::kLegacy && offset < net::kMacBytes) {
    config_[offset] = value;
    return;
  }
  violation(fmt::format("the read-only configuration byte {} is written", offset));
}

std::uint8_t VirtioCore::take_isr() noexcept {
  interrupts_.lower_line();
  return std::exchange(isr_, std::uint8_t{0});
}

void VirtioCore::set_link(bool up) {
  const std::uint8_t wanted = up ? net::kLinkUp : 0;
  if (config_[net::config::kStatus] == wanted) return;
  config_[net::config::kStatus] = wanted;
  ++generation_;
  if ((status_ & status::kDriverOk) != 0) config_interrupt();
}

void VirtioCore::config_interrupt() {
  isr_ |= virtio::spec::pci::kIsrConfig;
  if (interrupts_.msix_enabled()) {
    interrupts_.raise(config_vector_);
  } else {
    interrupts_.raise_line();
  }
}

void VirtioCore::interrupt(std::uint16_t queue) {
  if (interrupts_.msix_enabled()) {
    interrupts_.raise(queues_[queue].vector);
    return;
  }
  isr_ |= virtio::spec::pci::kIsrQueue;
  interrupts_.raise_line();
}

bool VirtioCore::live() const noexcept {
  const std::uint8_t wrong = status::kFailed | status::kNeedsReset;
  return (status_ & status::kDriverOk) != 0 && (status_ & wrong) == 0 && !resetting_ && !broken_ && !gone_ &&
         bus_master_;
}

device::DmaKind VirtioCore::dma_kind() const noexcept {
  // Section "Reserved Feature Bits", ACCESS_PLATFORM: without it the device uses physical addresses.
  return has_feature(feature::kAccessPlatform) ? device::DmaKind::kTranslated : device::DmaKind::kPhysical;
}

void VirtioCore::break_down(const std::string& why) {
  violation(why);
  request_reset();
}

void VirtioCore::request_reset() {
  broken_ = true;
  // Section "Device Status Field", device requirements: DEVICE_NEEDS_RESET, and a configuration change notification if
  // DRIVER_OK is set. Legacy drivers do not know the bit.
  if (legacy()) return;
  status_ |= status::kNeedsReset;
  if ((status_ & status::kDriverOk) != 0) config_interrupt();
}

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
