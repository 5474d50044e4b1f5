// SPDX-License-Identifier: Apache-2.0
// What a driver does around a queue before it has a ring: sizes that the device gives, memory for the ring, making the
// device quiet before that memory goes away.
#pragma once

#include <cstdint>

#include "base/deadline.h"
#include "base/error.h"
#include "device/device.h"
#include "virtio/driver.h"
#include "virtio/transport.h"

namespace upci::inline UPCI_VARIANT::virtio {

/// The size to use for a queue that the driver needs: the device's own (legacy), or the device's maximum cut to `at_most`, a
/// power of two. Errors: kDevice, step "queues", register "queue_size", when the device gives 0, more than 32768 or, with
/// split rings, no power of two (section "Virtqueue Configuration"; section "Split Virtqueues": "Queue Size value is always a
/// power of 2").
Result<std::uint16_t> choose_queue_size(const Device& device, std::uint16_t queue, std::uint16_t at_most);

/// Checks a size as a device gave it, with the errors above.
Result<void> check_queue_size(std::uint16_t queue, std::uint32_t size, bool packed = false);

/// How the device reaches memory: through the platform's translation only with ACCESS_PLATFORM. Section "Reserved Feature
/// Bits".
device::DmaKind dma_kind(const Device& device) noexcept;

/// DMA memory for buffers of this device, on its node.
Result<device::DmaBuffer> alloc_buffers(const Device& device, std::size_t bytes);

/// Memory for a ring, zeroed, aligned and reachable as the interface demands.
Result<device::DmaBuffer> alloc_ring(const Device& device, std::size_t bytes);

/// Resets the device before its memory is freed. Where the reset fails, the device is marked as quarantined, so that its DMA
/// buffers are kept. Errors: those of reset().
Result<void> silence(Transport& transport, Deadline deadline);

}  // namespace upci::inline UPCI_VARIANT::virtio
