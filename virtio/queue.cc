// SPDX-License-Identifier: Apache-2.0
#include "virtio/queue.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "virtio/ring_memory.h"
#include "virtio/spec/features.h"
#include "virtio/spec/packed_ring.h"
#include "virtio/spec/pci.h"
#include "virtio/spec/ring.h"
#include "virtio/spec/status.h"
#include "virtio/split_ring.h"

namespace upci::inline UPCI_VARIANT::virtio {
namespace {

// The legacy interface takes a page number of 32 bits.
constexpr std::uint64_t kLegacyMask = (std::uint64_t{1} << (32 + spec::pci::kLegacyAddressShift)) - 1;

}  // namespace

Result<void> check_queue_size(std::uint16_t queue, std::uint32_t size, bool packed) {
  if (packed ? spec::packed::is_valid_size(size) : spec::ring::is_valid_size(size)) return {};
  const std::string what = size == 0 ? fmt::format("the device has no queue {}, which the driver needs", queue)
                                     : fmt::format("the device gives queue {} a size of {}", queue, size);
  return std::unexpected(Error{.code = Errc::kDevice,
                               .what = what,
                               .advice = packed ? "a packed queue has 1 to 32768 entries: the device is broken"
                                                : "a split queue has 1 to 32768 entries, a power of two: the device is "
                                                  "broken",
                               .step = "queues",
                               .reg = "queue_size"});
}

Result<std::uint16_t> choose_queue_size(const Device& device, std::uint16_t queue, std::uint16_t at_most) {
  Transport& transport = device.transport();
  const std::uint16_t size = transport.queue_max_size(queue);
  UPCI_TRY(check_queue_size(queue, size, device.has(spec::feature::kRingPacked)));
  // The legacy interface has no way to make a queue smaller.
  if (transport.legacy()) return size;
  return std::min(size, std::bit_floor(at_most));
}

device::DmaKind dma_kind(const Device& device) noexcept {
  return device.has(spec::feature::kAccessPlatform) ? device::DmaKind::kTranslated : device::DmaKind::kPhysical;
}

Result<device::DmaBuffer> alloc_buffers(const Device& device, std::size_t bytes) {
  return device.device().dma_alloc({.len = bytes, .node = device.device().node(), .kind = dma_kind(device)});
}

Result<device::DmaBuffer> alloc_ring(const Device& device, std::size_t bytes) {
  const bool legacy = device.transport().legacy();
  return device.device().dma_alloc({.len = bytes,
                                    .align = spec::ring::kLegacyAlign,
                                    .mask = legacy ? kLegacyMask : ~std::uint64_t{0},
                                    .node = device.device().node(),
                                    .kind = dma_kind(device)});
}

RingOptions ring_options(const Device& device) noexcept {
  return {.legacy = device.transport().legacy(),
          .event_idx = device.has(spec::feature::kEventIdx),
          .in_order = device.has(spec::feature::kInOrder),
          .indirect = device.has(spec::feature::kIndirectDesc)};
}

Result<void> silence(Transport& transport, Deadline deadline) {
  // A device whose registers are not reached may read 0 as well: only one that was seen alive confirms anything.
  const bool alive = transport.status() != spec::status::kReset;
  auto done = reset(transport, deadline);
  device::DeviceState& state = *transport.device().state();
  state.set_own_reset(done && alive);
  if (!done) state.set_quarantined(true);
  return done;
}

}  // namespace upci::inline UPCI_VARIANT::virtio
