// SPDX-License-Identifier: Apache-2.0
// Queues, vectors and notifications, as the registers show them.
#include <fmt/format.h>

#include <bit>
#include <cstring>

#include "virtio/lint/register_lint.h"
#include "virtio/spec/features.h"
#include "virtio/spec/pci.h"
#include "virtio/spec/status.h"

namespace upci::inline UPCI_VARIANT::virtio::lint {
namespace {

namespace feature = spec::feature;
using Common = spec::pci::Common;

constexpr std::uint8_t kAllHalves = 0x3f;
// Sections "Virtqueues" and "Packed Virtqueues": of the descriptors, the driver's part and the device's.
constexpr std::array<std::uint64_t, 3> kSplitAlign = {16, 2, 4};
constexpr std::array<std::uint64_t, 3> kPackedAlign = {16, 4, 4};
constexpr std::array<const char*, 3> kParts = {"descriptor area", "driver area", "device area"};

}  // namespace

void RegisterLint::write_vector(std::optional<std::uint16_t>& unread, std::uint16_t vector) {
  unread.reset();
  if (vector == spec::pci::kNoVector) return;
  unread = vector;
  if (vector >= facts_.msix_vectors) {
    breach(RegisterRule::kVectorOutsideTable, fmt::format("{} of {}", vector, facts_.msix_vectors));
  }
}

void RegisterLint::read_vector(std::optional<std::uint16_t>& unread, std::uint16_t vector) {
  if (unread && vector != *unread && vector != spec::pci::kNoVector) {
    device_breach(DeviceRule::kVectorChanged, fmt::format("{} reads back as {}", *unread, vector));
  }
  unread.reset();
}

RegisterLint::Queue& RegisterLint::queue_field(std::string_view what) {
  must_be_confirmed(what);
  Queue& queue = queues_[queue_select_];
  if (queue.resetting) {
    breach(RegisterRule::kQueueResetNotAwaited, fmt::format("{} of queue {} is set", what, queue_select_));
  } else if (queue.enabled) {
    breach(RegisterRule::kQueueIncomplete,
           fmt::format("{} of queue {} is set while it is enabled", what, queue_select_));
  }
  return queue;
}

void RegisterLint::write_queue_size(std::uint16_t size) {
  queue_field("queue_size");
  const bool packed = accepts(feature::kRingPacked);
  if (packed && size == 0) breach(RegisterRule::kQueueSizeZero, fmt::format("queue {}", queue_select_));
  if (!packed && !std::has_single_bit(size)) {
    breach(RegisterRule::kQueueSizeNoPower, fmt::format("queue {} of {} entries", queue_select_, size));
  }
}

void RegisterLint::read_queue_size(std::uint16_t size) {
  // 0: there is no such queue; all ones: no such device.
  if (size == 0 || size == 0xffff || accepts(feature::kRingPacked) || std::has_single_bit(size)) return;
  device_breach(DeviceRule::kQueueSizeNoPower, fmt::format("queue {} of {} entries", queue_select_, size));
}

void RegisterLint::write_queue_address(std::uint64_t offset, std::uint32_t value) {
  Queue& queue = queue_field("an address");
  const auto half = static_cast<unsigned>((offset - Common::QueueDescLow::offset) / 4);
  if (half >= 6) return;
  std::uint64_t& address = queue.addresses[half / 2];
  const unsigned shift = half % 2 * 32;
  address = (address & ~(std::uint64_t{0xffff'ffffU} << shift)) | std::uint64_t{value} << shift;
  queue.written = static_cast<std::uint8_t>(queue.written | (1U << half));
}

void RegisterLint::check_addresses(const Queue& queue) {
  const auto& align = accepts(feature::kRingPacked) ? kPackedAlign : kSplitAlign;
  for (std::size_t part = 0; part < align.size(); ++part) {
    const std::uint64_t address = queue.addresses[part];
    if (address % align[part] != 0) {
      breach(RegisterRule::kQueueMisaligned,
             fmt::format("{} of queue {} at {:#x}", kParts[part], queue_select_, address));
    }
    if (memory_ && memory_->at(address, align[part]) == nullptr) {
      breach(RegisterRule::kQueueAddressForeign,
             fmt::format("{} of queue {} at {:#x}", kParts[part], queue_select_, address));
    }
  }
}

void RegisterLint::write_queue_enable(std::uint16_t value) {
  must_be_confirmed("queue_enable");
  if (value != 1) return breach(RegisterRule::kQueueEnableZero, fmt::format("queue {}: {}", queue_select_, value));
  Queue& queue = queues_[queue_select_];
  if (queue.resetting) breach(RegisterRule::kQueueResetNotAwaited, fmt::format("queue {} is enabled", queue_select_));
  if (queue.written != kAllHalves) {
    breach(queue.was_reset ? RegisterRule::kQueueNotSetAgain : RegisterRule::kQueueIncomplete,
           fmt::format("queue {} is enabled without all its addresses", queue_select_));
  } else {
    check_addresses(queue);
  }
  if (queue.vector) {
    breach(RegisterRule::kVectorNotReadBack, fmt::format("queue {} is enabled", queue_select_));
    queue.vector.reset();
  }
  queue.enabled = true;
}

void RegisterLint::write_queue_reset(std::uint16_t value) {
  if (value != 1) return;
  Queue& queue = queues_[queue_select_];
  queue.resetting = true;
}

void RegisterLint::read_queue_reset(std::uint16_t value) {
  Queue& queue = queues_[queue_select_];
  if (value != 0 || !queue.resetting) return;
  Queue fresh;
  fresh.was_reset = true;
  fresh.notify_off = queue.notify_off;
  fresh.notify_data = queue.notify_data;
  queue = fresh;
}

void RegisterLint::notify_queue(std::uint16_t index, const char* what) {
  if ((status_ & spec::status::kDriverOk) == 0) {
    breach(RegisterRule::kNotifiedEarly, fmt::format("queue {} at status {:#04x}", index, status_));
  }
  const auto queue = queues_.find(index);
  if (queue == queues_.end() || !queue->second.enabled) {
    breach(RegisterRule::kNotifyValue, fmt::format("queue {}, which is not enabled, is notified {}", index, what));
  } else if (queue->second.resetting) {
    breach(RegisterRule::kQueueResetNotAwaited, fmt::format("queue {} is notified", index));
  }
}

void RegisterLint::notify(std::uint64_t offset, unsigned width, std::uint64_t value) {
  const std::lock_guard lock(mutex_);
  ++accesses_;
  const unsigned expected = accepts(feature::kNotificationData) ? 4 : 2;
  if (width != expected) breach(RegisterRule::kNotifyWidth, fmt::format("{} bytes instead of {}", width, expected));
  const auto named = static_cast<std::uint16_t>(value);
  const bool by_data = accepts(feature::kNotifConfigData);
  // Whose address it is; with a multiplier of 0 all queues have the same, and the value alone tells.
  for (const auto& [index, queue] : queues_) {
    const std::uint16_t expected_value = by_data ? queue.notify_data.value_or(index) : index;
    if (!queue.notify_off || std::uint64_t{*queue.notify_off} * facts_.notify_multiplier != offset) continue;
    if (expected_value == named) return notify_queue(index, "");
  }
  if ((status_ & spec::status::kDriverOk) == 0) {
    return breach(RegisterRule::kNotifiedEarly, fmt::format("{} at status {:#04x}", named, status_));
  }
  breach(RegisterRule::kNotifyValue, fmt::format("{} at {:#x} is no queue's", named, offset));
}

}  // namespace upci::inline UPCI_VARIANT::virtio::lint
