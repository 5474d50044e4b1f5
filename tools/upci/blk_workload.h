// SPDX-License-Identifier: Apache-2.0
// Random operations on a disk, each read checked by content.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/error.h"
#include "base/platform.h"
#include "drivers/virtio_blk/disk.h"
#include "tools/upci/interruption.h"

namespace upci::tool {

struct WorkloadOptions {
  std::uint64_t requests = 1000;  // operations, flushes not counted
  std::uint32_t size = 4096;      // bytes of each
  std::uint32_t depth = 8;        // operations at the same time
  std::uint64_t seed = 1;
  bool destroy = false;  // write, too
  bool poll = false;
  platform::Nanoseconds limit{};  // of one batch
};

/// Times from the start of a batch to the end of its last operation, in microseconds.
struct Latency {
  double min = 0, median = 0, p99 = 0, max = 0;
};

struct WorkloadResult {
  std::uint64_t reads = 0, writes = 0, flushes = 0, discards = 0, zeroes = 0;
  std::uint64_t bytes_read = 0, bytes_written = 0;
  std::uint64_t errors = 0;   // operations that ended in an error
  std::uint64_t corrupt = 0;  // reads that gave something else than what is there
  Latency batch_us;
  double seconds = 0;
  std::optional<Error> error;  // the first one
};

/// Reads only: each place is read twice, and both must be equal. With `destroy`: writes places picked all over the disk, reads some of
/// them back at once and all of them at the end, after a flush; each write has contents of its own.
WorkloadResult run_workload(virtio_blk::Disk& disk, const WorkloadOptions& options);

}  // namespace upci::tool
