// SPDX-License-Identifier: Apache-2.0
// The block device: configuration, requests and their ends. Section "Block Device".
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/variant.h"

namespace upci::inline UPCI_VARIANT::virtio::spec::blk {

// Section "Block Device / Device configuration layout": offsets into struct virtio_blk_config.
namespace config {
inline constexpr std::uint32_t kCapacity = 0;              // 64 bits, in sectors
inline constexpr std::uint32_t kSizeMax = 8;               // 32 bits, with SIZE_MAX
inline constexpr std::uint32_t kSegMax = 12;               // 32 bits, with SEG_MAX
inline constexpr std::uint32_t kCylinders = 16;            // 16 bits, with GEOMETRY
inline constexpr std::uint32_t kHeads = 18;                // 8 bits, with GEOMETRY
inline constexpr std::uint32_t kSectors = 19;              // 8 bits, with GEOMETRY
inline constexpr std::uint32_t kBlockSize = 20;            // 32 bits, with BLK_SIZE
inline constexpr std::uint32_t kPhysicalBlockExp = 24;     // 8 bits, with TOPOLOGY
inline constexpr std::uint32_t kAlignmentOffset = 25;      // 8 bits, with TOPOLOGY
inline constexpr std::uint32_t kMinIoSize = 26;            // 16 bits, with TOPOLOGY
inline constexpr std::uint32_t kOptIoSize = 28;            // 32 bits, with TOPOLOGY
inline constexpr std::uint32_t kWriteback = 32;            // 8 bits, with CONFIG_WCE
inline constexpr std::uint32_t kNumQueues = 34;            // 16 bits, with MQ
inline constexpr std::uint32_t kMaxDiscardSectors = 36;    // 32 bits, with DISCARD
inline constexpr std::uint32_t kMaxDiscardSeg = 40;        // 32 bits, with DISCARD
inline constexpr std::uint32_t kDiscardAlignment = 44;     // 32 bits, with DISCARD
inline constexpr std::uint32_t kMaxWriteZeroes = 48;       // 32 bits, with WRITE_ZEROES
inline constexpr std::uint32_t kMaxWriteZeroesSeg = 52;    // 32 bits, with WRITE_ZEROES
inline constexpr std::uint32_t kWriteZeroesMayUnmap = 56;  // 8 bits, with WRITE_ZEROES
}  // namespace config

/// The unit of capacity, of sector numbers and of every length, whatever blk_size is.
inline constexpr std::uint32_t kSectorBytes = 512;

// Section "Block Device / Device Operation": what a request asks for.
inline constexpr std::uint32_t kTypeIn = 0;
inline constexpr std::uint32_t kTypeOut = 1;
inline constexpr std::uint32_t kTypeFlush = 4;
inline constexpr std::uint32_t kTypeGetId = 8;
inline constexpr std::uint32_t kTypeDiscard = 11;
inline constexpr std::uint32_t kTypeWriteZeroes = 13;

/// In front of each request; the device reads it.
struct Header {
  std::uint32_t type;
  std::uint32_t reserved;
  std::uint64_t sector;  // 0 for all but reads and writes
};

/// One range of a discard or of write zeroes.
struct Range {
  std::uint64_t sector;
  std::uint32_t num_sectors;
  std::uint32_t flags;
};
inline constexpr std::uint32_t kRangeUnmap = 1;  // for write zeroes only

inline constexpr std::size_t kIdBytes = 20;

// Behind each request; the device writes it.
inline constexpr std::uint8_t kStatusOk = 0;
inline constexpr std::uint8_t kStatusIoError = 1;
inline constexpr std::uint8_t kStatusUnsupported = 2;

}  // namespace upci::inline UPCI_VARIANT::virtio::spec::blk
