// SPDX-License-Identifier: Apache-2.0
// Section "Block Device / Device Initialization".
#include "drivers/virtio_blk/disk_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <span>
#include <string>
#include <utility>

#include "drivers/virtio_blk/block_request.h"
#include "virtio/spec/blk.h"
#include "virtio/spec/features.h"

namespace upci::inline UPCI_VARIANT::virtio_blk {
namespace {

namespace config = virtio::spec::blk::config;
namespace blk_feature = virtio::spec::blk_feature;

// Data segments of one request: more serve nothing, as the memory of a request is in one piece.
constexpr std::uint32_t kMostSegments = 30;

/// Reads fields as long as all goes well.
class Reader {
 public:
  Reader(const virtio::Device& device, Deadline deadline) noexcept : device_(device), deadline_(deadline) {}
  template <class T>
  void read(std::uint32_t offset, T& field) {
    if (done_) done_ = device_.transport().read_config(offset, std::as_writable_bytes(std::span(&field, 1)), deadline_);
  }
  Result<void> take() { return std::move(done_); }

 private:
  const virtio::Device& device_;
  const Deadline deadline_;
  Result<void> done_;
};

std::unexpected<Error> refused(std::string what, std::string advice) {
  return std::unexpected(Error{.code = Errc::kDevice,
                               .what = std::move(what),
                               .advice = std::move(advice),
                               .step = "config",
                               .reg = "device_config"});
}

Result<void> check(const DiskInfo& info) {
  constexpr std::uint32_t kSector = virtio::spec::blk::kSectorBytes;
  if (!std::has_single_bit(info.block_size) || info.block_size < kSector ||
      info.block_size > RequestLayout::kDataBytes) {
    return refused(fmt::format("the disk gives a block size of {} bytes", info.block_size),
                   fmt::format("a power of two from {} to {} is taken: decline it with features=-BLK_SIZE, or repair "
                               "the disk",
                               kSector, RequestLayout::kDataBytes));
  }
  if (info.device_queues == 0) {
    return refused("the disk gives 0 as the number of its queues", "decline it with features=-MQ, or repair the disk");
  }
  return {};
}

}  // namespace

Result<std::uint64_t> read_capacity(const virtio::Device& device, Deadline deadline) {
  std::uint64_t capacity = 0;
  UPCI_TRY(
      device.transport().read_config(config::kCapacity, std::as_writable_bytes(std::span(&capacity, 1)), deadline));
  return capacity;
}

Result<DiskInfo> read_info(const virtio::Device& device, Deadline deadline) {
  DiskInfo info;
  Reader reader(device, deadline);
  reader.read(config::kCapacity, info.capacity);
  if (device.has(blk_feature::kSizeMax)) reader.read(config::kSizeMax, info.size_max);
  if (device.has(blk_feature::kSegMax)) reader.read(config::kSegMax, info.seg_max);
  if (device.has(blk_feature::kGeometry)) {
    reader.read(config::kCylinders, info.geometry.cylinders);
    reader.read(config::kHeads, info.geometry.heads);
    reader.read(config::kSectors, info.geometry.sectors);
  }
  if (device.has(blk_feature::kBlkSize)) reader.read(config::kBlockSize, info.block_size);
  if (device.has(blk_feature::kTopology)) {
    reader.read(config::kPhysicalBlockExp, info.topology.physical_block_exp);
    reader.read(config::kAlignmentOffset, info.topology.alignment_offset);
    reader.read(config::kMinIoSize, info.topology.min_io_size);
    reader.read(config::kOptIoSize, info.topology.opt_io_size);
  }
  info.read_only = device.has(blk_feature::kRo);
  info.flush = device.has(blk_feature::kFlush);
  info.write_cache = info.flush;
  if (device.has(blk_feature::kConfigWce)) {
    // "The actual mode can be determined by reading writeback after feature negotiation."
    std::uint8_t writeback = 0;
    reader.read(config::kWriteback, writeback);
    info.write_cache = info.flush && writeback != 0;
  }
  if (device.has(blk_feature::kMq)) reader.read(config::kNumQueues, info.device_queues);
  info.discard = device.has(blk_feature::kDiscard);
  if (info.discard) {
    reader.read(config::kMaxDiscardSectors, info.max_discard_sectors);
    reader.read(config::kMaxDiscardSeg, info.max_discard_segments);
    reader.read(config::kDiscardAlignment, info.discard_alignment);
  }
  info.write_zeroes = device.has(blk_feature::kWriteZeroes);
  if (info.write_zeroes) {
    std::uint8_t may_unmap = 0;
    reader.read(config::kMaxWriteZeroes, info.max_write_zeroes_sectors);
    reader.read(config::kMaxWriteZeroesSeg, info.max_write_zeroes_segments);
    reader.read(config::kWriteZeroesMayUnmap, may_unmap);
    info.write_zeroes_may_unmap = may_unmap != 0;
  }
  UPCI_TRY(reader.take());
  UPCI_TRY(check(info));
  return info;
}

Result<TransferLimits> transfer_limits(const DiskInfo& info, std::uint16_t queue_size) {
  const std::uint64_t segment = info.size_max != 0 ? info.size_max : RequestLayout::kDataBytes;
  // Beside the data there are header and status: "seg_max" does not count them, the queue's size does.
  const std::uint32_t room = queue_size > 2 ? queue_size - 2U : 1U;
  const std::uint32_t segments = std::min({info.seg_max != 0 ? info.seg_max : 1U, kMostSegments, room});
  std::uint64_t bytes = std::min<std::uint64_t>(segment * segments, RequestLayout::kDataBytes);
  bytes -= bytes % info.block_size;
  if (bytes == 0) {
    return refused(fmt::format("the disk takes {} segments of {} bytes, and has blocks of {} bytes", segments, segment,
                               info.block_size),
                   "no block fits a request: decline the limits with features=-SIZE_MAX:-SEG_MAX, or repair the disk");
  }
  return TransferLimits{.data_segments = static_cast<std::uint16_t>((bytes + segment - 1) / segment),
                        .bytes = static_cast<std::uint32_t>(bytes)};
}

}  // namespace upci::inline UPCI_VARIANT::virtio_blk
