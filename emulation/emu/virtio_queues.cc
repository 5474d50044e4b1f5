// SPDX-License-Identifier: Apache-2.0
// Setting up queues, notifications, and giving buffers back.
#include <fmt/format.h>

#include <optional>

#include "emulation/emu/virtio_core.h"
#include "virtio/spec/features.h"
#include "virtio/spec/packed_ring.h"
#include "virtio/spec/ring.h"
#include "virtio/spec/status.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {
namespace {

namespace ring = virtio::spec::ring;
namespace status = virtio::spec::status;
namespace feature = virtio::spec::feature;
namespace vpci = virtio::spec::pci;

constexpr std::uint16_t kOddSize = 100;
constexpr std::uint16_t kHugeSize = 65535;
constexpr std::uint32_t kAbsurdLength = 0xffff'ffff;
constexpr std::uint32_t kShortLength = 4;

}  // namespace

std::uint16_t VirtioCore::max_queue_size() const noexcept {
  switch (options_.fault) {
    case Fault::kQueueSizeZero: return 0;
    case Fault::kQueueSizeHuge: return kHugeSize;
    case Fault::kQueueSizeOdd: return kOddSize;
    default: return options_.queue_size;
  }
}

std::uint16_t VirtioCore::notify_offset(std::uint16_t index) const noexcept {
  if (index >= kQueues) return 0;
  return options_.fault == Fault::kNotifyOutOfRange ? std::uint16_t{0x4000} : index;
}

VirtQueue* VirtioCore::queue_for_setup(Via via, std::uint16_t index, std::string_view field) {
  if (index >= kQueues) {
    violation(fmt::format("{} is written for queue {}, which does not exist", field, index));
    return nullptr;
  }
  // Section "Device Initialization": the queues come after FEATURES_OK and before DRIVER_OK. A legacy device has no
  // FEATURES_OK; there DRIVER is enough.
  const std::uint8_t needed = via == Via::kLegacy ? status::kDriver : status::kFeaturesOk;
  if ((status_ & needed) == 0 || resetting_) {
    violation(fmt::format("{} of queue {} is written before {}", field, index,
                          via == Via::kLegacy ? "DRIVER" : "FEATURES_OK"));
    return nullptr;
  }
  // Section "Virtqueue Re-enable": as in the initialization.
  if ((status_ & status::kDriverOk) != 0 && !queues_[index].was_reset) {
    violation(fmt::format("{} of queue {} is written after DRIVER_OK", field, index));
    return nullptr;
  }
  VirtQueue& queue = queues_[index];
  if (queue.enabled && via == Via::kModern) {
    violation(fmt::format("{} of queue {} is written while the queue is enabled", field, index));
    return nullptr;
  }
  return &queue;
}

void VirtioCore::write_queue_size(Via via, std::uint16_t index, std::uint16_t size) {
  VirtQueue* const queue = queue_for_setup(via, index, "queue_size");
  if (queue == nullptr) return;
  // Section "Common configuration structure layout": "The driver MUST NOT write a value which is not a power of 2 to
  // queue_size.", but for packed rings. Nor one above what the device offers.
  if (!is_valid_size(size) || size > max_queue_size()) {
    violation(fmt::format("queue_size {} is written where {} is offered", size, max_queue_size()));
    return;
  }
  queue->size = size;
}

void VirtioCore::write_queue_vector(Via via, std::uint16_t index, std::uint16_t vector) {
  // Drivers take their vectors back after a reset, when nothing is set up any more.
  if (vector == vpci::kNoVector && status_ == 0 && index < kQueues) return;
  VirtQueue* const queue = queue_for_setup(via, index, "queue_msix_vector");
  if (queue == nullptr) return;
  const bool takes = interrupts_.has_msix() && vector < interrupts_.count() && options_.fault != Fault::kVectorRejected;
  queue->vector = takes ? vector : vpci::kNoVector;
}

bool VirtioCore::is_valid_size(std::uint16_t size) const noexcept {
  return has_feature(feature::kRingPacked) ? virtio::spec::packed::is_valid_size(size) : ring::is_valid_size(size);
}

bool VirtioCore::start_queue(std::uint16_t index, VirtQueue& queue) {
  if (!is_valid_size(queue.size)) {
    violation(fmt::format("queue {} is enabled with a size of {}", index, queue.size));
    return false;
  }
  const DeviceRing::Layout layout{.packed = has_feature(feature::kRingPacked),
                                  .size = queue.size,
                                  .descriptors = queue.descriptors,
                                  .driver = queue.driver,
                                  .device = queue.device,
                                  .event_idx = has_feature(feature::kEventIdx),
                                  .indirect = has_feature(feature::kIndirectDesc),
                                  .in_order = has_feature(feature::kInOrder)};
  const DmaAccess dma(dma_, dma_kind());
  for (const DeviceRing::Area& area : DeviceRing::areas(layout)) {
    if (area.iova % area.align != 0) {
      violation(fmt::format("the rings of queue {} are not aligned: {:#x}, {:#x}, {:#x}", index, queue.descriptors,
                            queue.driver, queue.device));
      return false;
    }
    if (has_rings_ && dma.at(area.iova, area.bytes) == nullptr) {
      violation(fmt::format("the rings of queue {}: {}", index, dma.why_not(area.iova, area.bytes)));
      return false;
    }
  }
  if (has_rings_) queue.ring = DeviceRing::make(layout);
  queue.enabled = true;
  return true;
}

void VirtioCore::enable_queue(std::uint16_t index) {
  VirtQueue* const queue = queue_for_setup(Via::kModern, index, "queue_enable");
  if (queue != nullptr) start_queue(index, *queue);
}

void VirtioCore::write_legacy_address(std::uint16_t index, std::uint32_t page) {
  if (page == 0) {
    // Drivers take their queues away after a reset, whatever the status is then.
    if (index < kQueues) queues_[index].enabled = false;
    return;
  }
  VirtQueue* const queue = queue_for_setup(Via::kLegacy, index, "queue_address");
  if (queue == nullptr) return;
  // Section "Legacy Interfaces: A Note on Virtqueue Layout".
  queue->size = max_queue_size();
  queue->descriptors = std::uint64_t{page} << vpci::kLegacyAddressShift;
  queue->driver = queue->descriptors + ring::legacy_avail_offset(queue->size);
  queue->device = queue->descriptors + ring::legacy_used_offset(queue->size);
  if (!start_queue(index, *queue)) queue->descriptors = 0;
}

void VirtioCore::notify(Via via, std::uint16_t index) {
  if (index >= kQueues || !queues_[index].enabled) {
    violation(fmt::format("queue {} is notified and not enabled", index));
    return;
  }
  // Section "Device Initialization": "The driver MUST NOT send any buffer available notifications to the device before
  // setting DRIVER_OK." Legacy drivers did.
  if (via == Via::kModern && (status_ & status::kDriverOk) == 0) {
    violation(fmt::format("queue {} is notified before DRIVER_OK", index));
    return;
  }
  if (!bus_master_) violation(fmt::format("queue {} is notified while bus mastering is off", index));
  queues_[index].kicked = true;
  wake_ = true;
}

void VirtioCore::notify(Via via, std::uint16_t index, std::uint16_t position) {
  if (has_rings_ && index < kQueues && queues_[index].enabled) {
    const DmaAccess dma(dma_, dma_kind());
    // Whoever notifies has made nothing available since: section "Driver Notifications".
    const std::optional<std::uint16_t> found = queues_[index].ring->driver_position(dma);
    if (found && *found != position) {
      violation(
          fmt::format("a notification says that queue {} stands at {}, its ring says {}", index, position, *found));
    }
  }
  notify(via, index);
}

void VirtioCore::reset_queue(std::uint16_t index) {
  if (!has_feature(feature::kRingReset)) return violation("queue_reset is written without RING_RESET");
  if (index >= kQueues || !queues_[index].enabled) {
    // "The driver MUST NOT ..." is not said, but there is nothing to reset: a driver that does it is confused.
    return violation(fmt::format("queue_reset of queue {}, which is not enabled", index));
  }
  if (options_.fault == Fault::kQueueResetStuck) {
    queues_[index].resetting = true;
    return;
  }
  queues_[index] = {};
  queues_[index].size = max_queue_size();
  queues_[index].was_reset = true;
  queue_resets_ |= 1U << index;
}

bool VirtioCore::complete(const DmaAccess& dma, std::uint16_t index, ChainId id, std::uint32_t len, bool publish) {
  VirtQueue& queue = queues_[index];
  if (options_.fault == Fault::kUsedIdOutOfRange) id.id = static_cast<std::uint16_t>(queue.size + 7U);
  if (index == virtio::spec::net::kReceiveQueue) {
    if (options_.fault == Fault::kUsedLenOutOfRange) len = kAbsurdLength;
    if (options_.fault == Fault::kUsedLenShort) len = kShortLength;
  }
  // What was only read has no length to be told: with IN_ORDER the last one of a batch stands for all of it.
  const bool batched = has_feature(feature::kInOrder) && index == virtio::spec::net::kTransmitQueue;
  const bool pushed = batched ? queue.ring->push_in_batch(dma, id) : queue.ring->push(dma, id, len);
  if (!pushed) return lose_ring(dma, index);
  return !publish || this->publish(dma, index);
}

bool VirtioCore::publish(const DmaAccess& dma, std::uint16_t index) {
  return queues_[index].ring->publish(dma, options_.fault == Fault::kUsedIndexJump) || lose_ring(dma, index);
}

bool VirtioCore::lose_ring(const DmaAccess& dma, std::uint16_t index) {
  const auto areas = DeviceRing::areas(queues_[index].ring->layout());
  const DeviceRing::Area& used = queues_[index].ring->layout().packed ? areas[0] : areas[2];
  break_down(fmt::format("what queue {} has used: {}", index, dma.why_not(used.iova, used.bytes)));
  return false;
}

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
