// SPDX-License-Identifier: Apache-2.0
// A virtio disk, as an application uses it.
//
//   virtio_blk::Disk* disk = device::find<virtio_blk::Disk>(*context.bound(*device));
//
// All calls from any thread; each waits for its own requests only, by interrupt or by looking at the ring (set_polling). Data
// pass through memory of the driver's, so that a request that is given up leaves nothing of the caller's with the device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>

#include "base/deadline.h"
#include "base/error.h"
#include "virtio/driver.h"
#include "virtio/request_device.h"

namespace upci::inline UPCI_VARIANT::virtio_blk {

/// What the disk said of itself when it was probed. Sectors have 512 bytes whatever block_size is. A limit of 0 means that the
/// disk gives none; a feature that was not negotiated leaves its fields 0.
struct DiskInfo {
  std::uint64_t capacity = 0;      // sectors; see Disk::capacity for the present one
  std::uint32_t block_size = 512;  // bytes: first sectors and lengths are multiples of it
  std::uint32_t max_transfer = 0;  // bytes of one request; longer transfers are split
  std::uint32_t size_max = 0;      // bytes of one segment
  std::uint32_t seg_max = 0;       // segments of one request
  bool read_only = false;
  bool flush = false;        // the disk takes flushes
  bool write_cache = false;  // and needs them: what was written may be lost until then
  struct Geometry {
    std::uint16_t cylinders = 0;
    std::uint8_t heads = 0;
    std::uint8_t sectors = 0;
  } geometry;
  struct Topology {
    std::uint8_t physical_block_exp = 0;  // blocks per physical block, log2
    std::uint8_t alignment_offset = 0;    // blocks
    std::uint16_t min_io_size = 0;        // blocks
    std::uint32_t opt_io_size = 0;        // blocks
  } topology;
  bool discard = false;
  std::uint32_t max_discard_sectors = 0;   // of one range
  std::uint32_t max_discard_segments = 0;  // ranges of one request
  std::uint32_t discard_alignment = 0;     // sectors
  bool write_zeroes = false;
  std::uint32_t max_write_zeroes_sectors = 0;   // of one range
  std::uint32_t max_write_zeroes_segments = 0;  // ranges of one request
  bool write_zeroes_may_unmap = false;          // they may give the space back when that is allowed
  std::uint16_t device_queues = 1;              // what the disk has
  std::uint16_t queues = 1;                     // what is used: one per CPU at most
};

/// Counters since the probe. A snapshot.
struct DiskStats {
  virtio::RequestStats requests;
  virtio::InterruptStats interrupts;
  std::uint64_t io_errors = 0;       // requests that the disk ended with IOERR
  std::uint64_t unsupported = 0;     // and with UNSUPP
  std::uint64_t config_changes = 0;  // times the disk said that its configuration has changed
};

/// What a disk can tell its application.
enum class DiskEvent : std::uint8_t {
  kCapacity,  // Disk::capacity has changed
  kReset,     // the disk was reset and is live again: because it asked for that or broke a ring, or by a restore
};

/// One operation of a batch.
struct Io {
  enum class Op : std::uint8_t { kRead, kWrite, kFlush, kDiscard, kWriteZeroes };
  Op op = Op::kRead;
  std::uint64_t sector = 0;              // the first one; not for kFlush
  std::span<std::byte> into = {};        // kRead
  std::span<const std::byte> from = {};  // kWrite
  std::uint64_t sectors = 0;             // kDiscard, kWriteZeroes: how many
  bool may_unmap = false;                // kWriteZeroes: the space may be given back
  Result<void> result = {};              // how it ended
};

class Disk : public virtio::Bound {
 public:
  virtual const DiskInfo& info() const = 0;
  /// In sectors, as last read: by the probe, after a change of configuration, or by update_capacity.
  virtual std::uint64_t capacity() const = 0;
  /// Reads the capacity from the disk now. Errors: those of Transport::read_config. May wait.
  virtual Result<std::uint64_t> update_capacity(Deadline deadline) = 0;

  /// Operations of a batch run at the same time and in any order: a flush among writes covers none of them. Each gets its result:
  ///   kInvalid: no multiple of the block size, beyond the capacity, an empty range, no such queue, a deadline without end;
  ///   kUnavailable: the disk is read-only, cannot do this at all, or answered UNSUPP;
  ///   kSystem with EIO: the disk answered IOERR;
  ///   kSystem with ECANCELED: the disk was reset while it had the request (it asked for that, broke a ring, or was frozen); what
  ///     became of it is unknown, and the disk goes on: ask again, where twice does no harm;
  ///   kDevice: it answered what no disk may (status, length, descriptor);
  ///   kVerdict stuck (step "request"): no answer by the deadline, what became of it is unknown; gone, needs_reset;
  ///   kState: it is being removed, or was frozen until the deadline and has seen nothing of it.
  /// While the disk is frozen (Context::freeze) or being reset, what comes waits, within its deadline.
  /// After an error part of an operation may have been done. `queue` is below info().queues, or kAnyQueue: that of the CPU.
  virtual void run(std::span<Io> batch, Deadline deadline, int queue = virtio::RequestDevice::kAnyQueue) = 0;

  /// One operation; its errors are those of run().
  Result<void> read(std::uint64_t sector, std::span<std::byte> into, Deadline deadline) {
    return one({.op = Io::Op::kRead, .sector = sector, .into = into}, deadline);
  }
  Result<void> write(std::uint64_t sector, std::span<const std::byte> from, Deadline deadline) {
    return one({.op = Io::Op::kWrite, .sector = sector, .from = from}, deadline);
  }
  /// Everything whose write has ended before is on stable storage afterwards. At once on a disk without a cache to flush.
  Result<void> flush(Deadline deadline) { return one({.op = Io::Op::kFlush}, deadline); }
  /// The range's contents are not needed any more; what reads of it give afterwards is not defined.
  Result<void> discard(std::uint64_t sector, std::uint64_t sectors, Deadline deadline) {
    return one({.op = Io::Op::kDiscard, .sector = sector, .sectors = sectors}, deadline);
  }
  /// The range reads as zeroes afterwards. `may_unmap`: its space may be given back.
  Result<void> write_zeroes(std::uint64_t sector, std::uint64_t sectors, bool may_unmap, Deadline deadline) {
    return one({.op = Io::Op::kWriteZeroes, .sector = sector, .sectors = sectors, .may_unmap = may_unmap}, deadline);
  }
  /// The disk's own name, of up to 20 characters; others than printable ones are replaced by dots. Errors: those of run().
  virtual Result<std::string> serial(Deadline deadline) = 0;

  /// Whether callers look at the rings themselves instead of waiting for interrupts. Without interrupts they always do.
  virtual void set_polling(bool on) = 0;
  using EventHandler = std::function<void(DiskEvent)>;
  /// Replaces the handler; an empty one is none. It runs in a worker, and must not ask the disk for anything.
  virtual void set_event_handler(EventHandler handler) = 0;
  /// Why the disk is of no more use: it has left, does not end its reset, or needs too many of them.
  virtual std::optional<Error> failed() const = 0;
  virtual DiskStats stats() const = 0;

 private:
  Result<void> one(Io io, Deadline deadline) {
    run(std::span(&io, 1), deadline);
    return std::move(io.result);
  }
};

}  // namespace upci::inline UPCI_VARIANT::virtio_blk
