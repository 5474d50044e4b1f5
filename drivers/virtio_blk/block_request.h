// SPDX-License-Identifier: Apache-2.0
// One request to a disk: header, data, status. Section "Block Device / Device Operation".
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "virtio/request.h"
#include "virtio/spec/blk.h"

namespace upci::inline UPCI_VARIANT::virtio_blk {

/// Where the parts of a request lie in its memory: the data have pages of their own, and the status byte, which the device
/// writes, a cache line.
struct RequestLayout {
  static constexpr std::size_t kHeader = 0;
  static constexpr std::size_t kStatus = 64;
  static constexpr std::size_t kData = 4096;
  static constexpr std::size_t kDataBytes = 64 * 1024;
  static constexpr std::size_t kBytes = kData + kDataBytes;
  /// Ranges of one discard or write zeroes; more go into further requests.
  static constexpr std::size_t kMostRanges = 64;
  static_assert(kMostRanges * sizeof(virtio::spec::blk::Range) <= kDataBytes);
};

/// What the answer to a request may look like.
struct AnswerRules {
  /// Section "Block Device / Legacy Interface: Device Operation": "transitional drivers SHOULD ignore the used length values".
  bool ignore_length = false;
  std::uint32_t size_max = ~std::uint32_t{0};  // of one segment
};

class BlockRequest final : public virtio::Request {
 public:
  static BlockRequest read(const AnswerRules& rules, std::uint64_t sector, std::span<std::byte> into);
  static BlockRequest write(const AnswerRules& rules, std::uint64_t sector, std::span<const std::byte> from);
  static BlockRequest flush(const AnswerRules& rules);
  /// `type` is kTypeDiscard or kTypeWriteZeroes; at most RequestLayout::kMostRanges.
  static BlockRequest ranges(const AnswerRules& rules, std::uint32_t type,
                             std::vector<virtio::spec::blk::Range> ranges);
  static BlockRequest get_id(const AnswerRules& rules, std::span<std::byte, virtio::spec::blk::kIdBytes> into);

  std::size_t prepare(const virtio::RequestMemory& memory, std::span<virtio::Segment> chain) override;
  Result<void> finish(const virtio::RequestMemory& memory, std::uint32_t length) override;
  std::string describe() const override;

 private:
  BlockRequest(const AnswerRules& rules, std::uint32_t type, std::uint64_t sector) noexcept
      : rules_(rules), type_(type), sector_(sector) {}
  std::unexpected<Error> broken(std::string_view reg, std::string what) const;
  std::size_t data_bytes() const noexcept;

  AnswerRules rules_;
  std::uint32_t type_;
  std::uint64_t sector_;
  std::span<std::byte> into_ = {};
  std::span<const std::byte> from_ = {};
  std::vector<virtio::spec::blk::Range> ranges_ = {};
};

}  // namespace upci::inline UPCI_VARIANT::virtio_blk
