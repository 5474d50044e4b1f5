// SPDX-License-Identifier: Apache-2.0
// What a disk says of itself, read and checked.
#pragma once

#include <cstdint>

#include "base/deadline.h"
#include "base/error.h"
#include "drivers/virtio_blk/disk.h"
#include "virtio/driver.h"

namespace upci::inline UPCI_VARIANT::virtio_blk {

/// All but `queues` and `max_transfer`. After FEATURES_OK only. Errors: those of Transport::read_config; kDevice (step "config") for
/// what no disk may say.
Result<DiskInfo> read_info(const virtio::Device& device, Deadline deadline);
Result<std::uint64_t> read_capacity(const virtio::Device& device, Deadline deadline);

/// How requests are cut to the disk's limits: segments of data in one chain, and bytes that they hold.
struct TransferLimits {
  std::uint16_t data_segments = 1;
  std::uint32_t bytes = 0;
};
/// `queue_size` is that of the smallest queue. Errors: kDevice when not one block fits a request.
Result<TransferLimits> transfer_limits(const DiskInfo& info, std::uint16_t queue_size);

}  // namespace upci::inline UPCI_VARIANT::virtio_blk
