// SPDX-License-Identifier: Apache-2.0
// Status, features and configuration; the queues are in register_queues.cc.
#include "virtio/lint/register_lint.h"

#include <fmt/format.h>

#include "base/log.h"
#include "virtio/lint/clauses.h"
#include "virtio/spec/blk.h"
#include "virtio/spec/features.h"
#include "virtio/spec/ids.h"
#include "virtio/spec/pci.h"
#include "virtio/spec/status.h"

namespace upci::inline UPCI_VARIANT::virtio::lint {
namespace {

namespace status = spec::status;
namespace feature = spec::feature;
using Common = spec::pci::Common;
using Legacy = spec::pci::Legacy;

constexpr std::size_t kKept = 64;

constexpr std::uint8_t kSteps = status::kAcknowledge | status::kDriver | status::kDriverOk | status::kFeaturesOk;

}  // namespace

std::uint64_t RegisterLint::accesses() const {
  const std::lock_guard lock(mutex_);
  return accesses_;
}
std::uint64_t RegisterLint::violations() const {
  const std::lock_guard lock(mutex_);
  std::uint64_t all = 0;
  for (const std::uint64_t count : counts_) all += count;
  return all;
}
std::uint64_t RegisterLint::violations(RegisterRule rule) const {
  const std::lock_guard lock(mutex_);
  return counts_[static_cast<std::size_t>(rule)];
}
std::uint64_t RegisterLint::device_violations() const {
  const std::lock_guard lock(mutex_);
  std::uint64_t all = 0;
  for (const std::uint64_t count : device_counts_) all += count;
  return all;
}
std::uint64_t RegisterLint::device_violations(DeviceRule rule) const {
  const std::lock_guard lock(mutex_);
  return device_counts_[static_cast<std::size_t>(rule)];
}
std::vector<std::string> RegisterLint::breaches() const {
  const std::lock_guard lock(mutex_);
  return breaches_;
}
std::vector<std::string> RegisterLint::device_breaches() const {
  const std::lock_guard lock(mutex_);
  return device_breaches_;
}
std::uint64_t RegisterLint::accepted() const {
  const std::lock_guard lock(mutex_);
  return driver_features_;
}

bool RegisterLint::legacy() const {
  const std::lock_guard lock(mutex_);
  return legacy_;
}
std::optional<std::uint64_t> RegisterLint::configured(std::uint32_t offset) const {
  const std::lock_guard lock(mutex_);
  const auto found = configuration_.find(offset);
  if (found == configuration_.end()) return std::nullopt;
  return found->second;
}

void RegisterLint::breach(RegisterRule rule, std::string detail) {
  ++counts_[static_cast<std::size_t>(rule)];
  if (breaches_.size() == kKept) return;
  breaches_.push_back(fmt::format("{}: {}: {}", clause_id(rule), to_string(rule), detail));
  log::warn("the driver breaks the specification: {}", breaches_.back());
}

void RegisterLint::device_breach(DeviceRule rule, std::string detail) {
  ++device_counts_[static_cast<std::size_t>(rule)];
  if (device_breaches_.size() == kKept) return;
  device_breaches_.push_back(fmt::format("{}: {}", to_string(rule), detail));
  log::info("the device breaks the specification: {}", device_breaches_.back());
}

/// True when the access is one to a known field that may go on to be judged.
bool RegisterLint::check_field(std::span<const Field> fields, std::uint64_t offset, unsigned width, bool write) {
  ++accesses_;
  const Field* const field = field_at(fields, offset);
  if (field == nullptr || !proper_access(*field, offset, width)) {
    breach(RegisterRule::kAccessWidth, fmt::format("{} bytes at {:#x}", width, offset));
    return false;
  }
  if (write && !field->writable) {
    breach(RegisterRule::kReadOnlyWritten, fmt::format("the register at {:#x}", offset));
    return false;
  }
  return true;
}

// --- status ---

void RegisterLint::begin_anew() {
  ever_reset_ = true;
  reset_pending_ = true;
  failed_ = false;
  status_ = 0;
  confirmed_ = Confirmation::kNone;
  if (halves_offered_ == (legacy_ ? 1 : 3)) offered_before_ = offered_;
  offered_ = driver_features_ = 0;
  halves_offered_ = 0;
  queues_.clear();
  config_vector_.reset();
  config_readers_.clear();
}

void RegisterLint::write_status(std::uint8_t value) {
  if (value == status::kReset) return begin_anew();
  if (!ever_reset_) breach(RegisterRule::kStatusOrder, fmt::format("status {:#04x} before the first reset", value));
  if (reset_pending_) breach(RegisterRule::kResetNotAwaited, fmt::format("status {:#04x}", value));
  const auto added = static_cast<std::uint8_t>(value & ~status_);
  const auto cleared = static_cast<std::uint8_t>(status_ & ~value & ~status::kNeedsReset);
  if (cleared != 0) { breach(RegisterRule::kStatusBitCleared, fmt::format("from {:#04x} to {:#04x}", status_, value)); }
  if (failed_ && (added & kSteps) != 0) breach(RegisterRule::kFailedNotReset, fmt::format("status {:#04x}", value));
  const auto has = [value](std::uint8_t bit) { return (value & bit) != 0; };
  const auto adds = [added](std::uint8_t bit) { return (added & bit) != 0; };
  if (adds(status::kNeedsReset) || adds(status::kReserved) || (adds(status::kDriver) && !has(status::kAcknowledge)) ||
      (adds(status::kFeaturesOk) && !has(status::kDriver)) || (adds(status::kDriverOk) && !has(status::kDriver))) {
    breach(RegisterRule::kStatusOrder, fmt::format("from {:#04x} to {:#04x}", status_, value));
  }
  if (adds(status::kFeaturesOk)) {
    if (legacy_) breach(RegisterRule::kLegacyFeaturesOk, fmt::format("status {:#04x}", value));
    if (halves_offered_ != 3 && !legacy_) breach(RegisterRule::kStatusOrder, "the offered features were not read");
    confirmed_ = Confirmation::kPending;
    judge_features();
  }
  if (adds(status::kDriverOk)) {
    if (legacy_) {
      judge_features();
    } else {
      must_be_confirmed("DRIVER_OK");
    }
    if (config_vector_) breach(RegisterRule::kVectorNotReadBack, "the configuration's, at DRIVER_OK");
    for (const auto& [index, queue] : queues_) {
      if (queue.vector) breach(RegisterRule::kVectorNotReadBack, fmt::format("queue {}'s, at DRIVER_OK", index));
    }
  }
  failed_ = failed_ || has(status::kFailed);
  status_ = value;
}

void RegisterLint::read_status(std::uint8_t value) {
  if (value == 0xff) return;  // a device that has left
  if (value == status::kReset) {
    if (!reset_pending_ && status_ != 0) device_breach(DeviceRule::kStatusBitLost, fmt::format("{:#04x}", status_));
    reset_pending_ = false;
    status_ = 0;
    return;
  }
  if (reset_pending_) return;
  const bool refused = (status_ & status::kFeaturesOk) != 0 && (value & status::kFeaturesOk) == 0;
  if (confirmed_ == Confirmation::kPending) confirmed_ = refused ? Confirmation::kRefused : Confirmation::kSeen;
  auto lost = static_cast<std::uint8_t>(status_ & ~value);
  if (confirmed_ == Confirmation::kRefused) lost &= static_cast<std::uint8_t>(~status::kFeaturesOk);
  if (lost != 0) device_breach(DeviceRule::kStatusBitLost, fmt::format("from {:#04x} to {:#04x}", status_, value));
  status_ = value;
}

void RegisterLint::must_be_confirmed(std::string_view what) {
  if (legacy_ || confirmed_ == Confirmation::kSeen) return;
  if (confirmed_ == Confirmation::kNone) {
    breach(RegisterRule::kStatusOrder, fmt::format("{} before FEATURES_OK", what));
  } else {
    breach(RegisterRule::kFeaturesNotConfirmed,
           fmt::format("{} after FEATURES_OK was {}", what,
                       confirmed_ == Confirmation::kPending ? "set and not read back" : "refused"));
  }
}

// --- features ---

void RegisterLint::offer(unsigned half, std::uint32_t bits) {
  if (half > 1) return;              // bits that nobody here knows
  if (bits == 0xffff'ffffU) return;  // a device that has left
  offered_ = (offered_ & ~(std::uint64_t{0xffff'ffffU} << (32 * half))) | std::uint64_t{bits} << (32 * half);
  halves_offered_ = static_cast<std::uint8_t>(halves_offered_ | (1U << half));
  if (halves_offered_ != (legacy_ ? 1 : 3)) return;
  if (!legacy_ && (offered_ >> feature::kVersion1 & 1) == 0) device_breach(DeviceRule::kVersion1Missing, "");
  if (const auto bit = orphan(facts_.device_id, offered_)) {
    device_breach(DeviceRule::kFeatureNeedsAnother, fmt::format("{}", spec::feature_name(facts_.device_id, *bit)));
  }
  if (offered_before_ && *offered_before_ != offered_) {
    device_breach(DeviceRule::kFeaturesChanged, fmt::format("{:#x}, before {:#x}", offered_, *offered_before_));
  }
  offered_before_.reset();
}

void RegisterLint::accept(unsigned half, std::uint32_t bits) {
  if ((status_ & status::kDriver) == 0) breach(RegisterRule::kStatusOrder, "features before DRIVER");
  if (confirmed_ != Confirmation::kNone || (legacy_ && (status_ & status::kDriverOk) != 0)) {
    breach(RegisterRule::kFeaturesAfterOk, fmt::format("{:#x}", bits));
  }
  if (half > 1) {
    if (bits != 0) breach(RegisterRule::kFeatureUnknown, fmt::format("bits {} and above", 32 * half));
    return;
  }
  const std::uint64_t mask = std::uint64_t{0xffff'ffffU} << (32 * half);
  driver_features_ = (driver_features_ & ~mask) | std::uint64_t{bits} << (32 * half);
}

/// At the moment from which on they count.
void RegisterLint::judge_features() {
  if (const std::uint64_t wrong = driver_features_ & ~offered_; wrong != 0) {
    breach(RegisterRule::kFeatureNotOffered, fmt::format("{:#x}", wrong));
  }
  if (const auto bit = orphan(facts_.device_id, driver_features_)) {
    breach(RegisterRule::kFeatureNeedsAnother, fmt::format("{}", spec::feature_name(facts_.device_id, *bit)));
  }
  const std::uint64_t known = known_features(facts_.device_id, legacy_, facts_.sr_iov);
  if (const std::uint64_t wrong = driver_features_ & ~known; wrong != 0) {
    breach(RegisterRule::kFeatureUnknown, fmt::format("{:#x}", wrong));
  }
  const std::uint64_t declined = offered_ & ~driver_features_;
  if (!legacy_ && (declined >> feature::kVersion1 & 1) != 0) breach(RegisterRule::kVersion1Declined, "");
  if (legacy_ && (declined >> feature::kAnyLayout & 1) != 0) breach(RegisterRule::kAnyLayoutDeclined, "");
}

// --- configuration ---

void RegisterLint::config_read(std::uint64_t offset, unsigned width, std::uint64_t value) {
  const std::lock_guard lock(mutex_);
  ++accesses_;
  configuration_[static_cast<std::uint32_t>(offset)] = value;
  const Field* const field = field_at(config_fields(facts_.device_id), offset);
  if (field == nullptr) return;
  if (!proper_access(*field, offset, width)) {
    return breach(RegisterRule::kAccessWidth, fmt::format("{} bytes at {:#x} of the configuration", width, offset));
  }
  // A reset takes no offer back: who looked before it knows what there is.
  const bool offered_anew = halves_offered_ == (legacy_ ? 1 : 3);
  const std::uint64_t offered = offered_anew ? offered_ : offered_before_.value_or(offered_);
  if (field->any_of != 0 && (offered & field->any_of) == 0) {
    breach(RegisterRule::kConfigFieldNotOffered, fmt::format("at {:#x}", offset));
  }
  if (legacy_) return;
  if (facts_.device_id == spec::kDeviceBlock && offset == spec::blk::config::kWriteback &&
      confirmed_ == Confirmation::kNone) {
    breach(RegisterRule::kWritebackReadEarly, "");
  }
  if (field->bytes > 4) {
    const auto reader = config_readers_.find(platform::this_thread::id());
    if (reader == config_readers_.end()) {
      return breach(RegisterRule::kConfigTorn, fmt::format("at {:#x}: not read before", offset));
    }
    reader->second = true;
  }
}

void RegisterLint::config_write(std::uint64_t offset, unsigned width) {
  const std::lock_guard lock(mutex_);
  ++accesses_;
  if (!legacy_ && confirmed_ != Confirmation::kSeen) {
    breach(RegisterRule::kConfigWrittenEarly, fmt::format("at {:#x}", offset));
  }
  const Field* const field = field_at(config_fields(facts_.device_id), offset);
  if (field == nullptr) return;
  if (!proper_access(*field, offset, width)) {
    breach(RegisterRule::kAccessWidth, fmt::format("{} bytes at {:#x} of the configuration", width, offset));
  }
  // Section "Legacy Interface: Device configuration layout": there the driver may set the address.
  const bool legacy_mac = legacy_ && facts_.device_id == spec::kDeviceNet && field->offset == 0;
  if (!field->writable && !legacy_mac) { breach(RegisterRule::kConfigNotForDriver, fmt::format("at {:#x}", offset)); }
}

/// Something else than the configuration and its generation is accessed. What other threads access meanwhile makes no difference
/// to who reads the configuration.
void RegisterLint::leave_configuration() {
  const auto reader = config_readers_.find(platform::this_thread::id());
  if (reader == config_readers_.end()) return;
  if (reader->second) breach(RegisterRule::kConfigTorn, "config_generation was not read afterwards");
  config_readers_.erase(reader);
}

void RegisterLint::capability_write(std::uint16_t offset) {
  const std::lock_guard lock(mutex_);
  ++accesses_;
  breach(RegisterRule::kCapabilityWritten, fmt::format("at {:#x} of the config space", offset));
}

// --- the registers themselves ---

void RegisterLint::common_read(std::uint64_t offset, unsigned width, std::uint64_t value) {
  const std::lock_guard lock(mutex_);
  if (!check_field(common_fields(), offset, width, false)) return;
  legacy_ = false;
  if (offset == Common::ConfigGeneration::offset) {
    config_readers_[platform::this_thread::id()] = false;
    return;
  }
  leave_configuration();
  const auto value16 = static_cast<std::uint16_t>(value);
  switch (offset) {
    case Common::DeviceFeature::offset: return offer(device_select_, static_cast<std::uint32_t>(value));
    case Common::DeviceStatus::offset: return read_status(static_cast<std::uint8_t>(value));
    case Common::ConfigMsixVector::offset: return read_vector(config_vector_, value16);
    case Common::QueueMsixVector::offset: return read_vector(queues_[queue_select_].vector, value16);
    case Common::QueueSize::offset: return read_queue_size(value16);
    case Common::QueueNotifyOff::offset: queues_[queue_select_].notify_off = value16; return;
    case Common::QueueNotifyData::offset: queues_[queue_select_].notify_data = value16; return;
    case Common::QueueReset::offset: return read_queue_reset(value16);
    case Common::QueueEnable::offset:
      if (value16 == 1 && !queues_[queue_select_].enabled) {
        device_breach(DeviceRule::kEnabledAfterReset, fmt::format("queue {}", queue_select_));
      }
      return;
    default: return;
  }
}

void RegisterLint::common_write(std::uint64_t offset, unsigned width, std::uint64_t value) {
  const std::lock_guard lock(mutex_);
  if (!check_field(common_fields(), offset, width, true)) return;
  legacy_ = false;
  leave_configuration();
  const auto value16 = static_cast<std::uint16_t>(value);
  const auto value32 = static_cast<std::uint32_t>(value);
  switch (offset) {
    case Common::DeviceFeatureSelect::offset: device_select_ = value32; return;
    case Common::DriverFeatureSelect::offset: driver_select_ = value32; return;
    case Common::DriverFeature::offset: return accept(driver_select_, value32);
    case Common::DeviceStatus::offset: return write_status(static_cast<std::uint8_t>(value));
    case Common::ConfigMsixVector::offset: return write_vector(config_vector_, value16);
    case Common::QueueSelect::offset: queue_select_ = value16; return;
    case Common::QueueSize::offset: return write_queue_size(value16);
    case Common::QueueMsixVector::offset: return write_vector(queue_field("queue_msix_vector").vector, value16);
    case Common::QueueEnable::offset: return write_queue_enable(value16);
    case Common::QueueReset::offset: return write_queue_reset(value16);
    default: return write_queue_address(offset, value32);
  }
}

void RegisterLint::legacy_read(std::uint64_t offset, unsigned width, std::uint64_t value) {
  const std::lock_guard lock(mutex_);
  if (!check_field(legacy_fields(), offset, width, false)) return;
  legacy_ = true;
  const auto value16 = static_cast<std::uint16_t>(value);
  switch (offset) {
    case Legacy::DeviceFeatures::offset: return offer(0, static_cast<std::uint32_t>(value));
    case Legacy::DeviceStatus::offset: return read_status(static_cast<std::uint8_t>(value));
    case Legacy::ConfigMsixVector::offset: return read_vector(config_vector_, value16);
    case Legacy::QueueMsixVector::offset: return read_vector(queues_[queue_select_].vector, value16);
    case Legacy::QueueSize::offset: return read_queue_size(value16);
    case Legacy::QueueAddress::offset:
      if (value != 0 && value != 0xffff'ffffU && !queues_[queue_select_].enabled) {
        device_breach(DeviceRule::kEnabledAfterReset, fmt::format("queue {}", queue_select_));
      }
      return;
    default: return;
  }
}

void RegisterLint::legacy_write(std::uint64_t offset, unsigned width, std::uint64_t value) {
  const std::lock_guard lock(mutex_);
  if (!check_field(legacy_fields(), offset, width, true)) return;
  legacy_ = true;
  const auto value16 = static_cast<std::uint16_t>(value);
  switch (offset) {
    case Legacy::DriverFeatures::offset: return accept(0, static_cast<std::uint32_t>(value));
    case Legacy::DeviceStatus::offset: return write_status(static_cast<std::uint8_t>(value));
    case Legacy::ConfigMsixVector::offset: return write_vector(config_vector_, value16);
    case Legacy::QueueMsixVector::offset: return write_vector(queues_[queue_select_].vector, value16);
    case Legacy::QueueSelect::offset: queue_select_ = value16; return;
    case Legacy::QueueNotify::offset: return notify_queue(value16, "by the legacy interface");
    case Legacy::QueueAddress::offset: {
      Queue& queue = queues_[queue_select_];
      queue.enabled = value != 0;
      const std::uint64_t address = value << spec::pci::kLegacyAddressShift;
      if (memory_ && queue.enabled && memory_->at(address, spec::pci::kLegacyConfigOffset) == nullptr) {
        breach(RegisterRule::kQueueAddressForeign, fmt::format("queue {} at {:#x}", queue_select_, address));
      }
      return;
    }
    default: return;
  }
}

}  // namespace upci::inline UPCI_VARIANT::virtio::lint
