// SPDX-License-Identifier: Apache-2.0
#include "drivers/virtio_blk/block_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace upci::inline UPCI_VARIANT::virtio_blk {
namespace {

namespace blk = virtio::spec::blk;

// What no disk answers: found again, the disk has written no status.
constexpr std::uint8_t kNoStatus = 0xff;

/// The data as segments of at most `size_max` bytes; returns the number of segments that the chain then has.
std::size_t append(std::span<virtio::Segment> chain, std::size_t count, std::uint64_t iova, std::size_t bytes,
                   std::uint32_t size_max, bool device_writes) {
  while (bytes != 0 && count < chain.size()) {
    const auto len = static_cast<std::uint32_t>(std::min<std::size_t>(bytes, size_max));
    chain[count++] = {.iova = iova, .len = len, .device_writes = device_writes};
    iova += len;
    bytes -= len;
  }
  return count;
}

}  // namespace

BlockRequest BlockRequest::read(const AnswerRules& rules, std::uint64_t sector, std::span<std::byte> into) {
  BlockRequest request(rules, blk::kTypeIn, sector);
  request.into_ = into;
  return request;
}

BlockRequest BlockRequest::write(const AnswerRules& rules, std::uint64_t sector, std::span<const std::byte> from) {
  BlockRequest request(rules, blk::kTypeOut, sector);
  request.from_ = from;
  return request;
}

// "A driver MUST set sector to 0 for a VIRTIO_BLK_T_FLUSH request."
BlockRequest BlockRequest::flush(const AnswerRules& rules) { return {rules, blk::kTypeFlush, 0}; }

BlockRequest BlockRequest::ranges(const AnswerRules& rules, std::uint32_t type, std::vector<blk::Range> ranges) {
  BlockRequest request(rules, type, 0);
  request.ranges_ = std::move(ranges);
  return request;
}

// "The length of data MUST be 20 bytes for VIRTIO_BLK_T_GET_ID requests."
BlockRequest BlockRequest::get_id(const AnswerRules& rules, std::span<std::byte, blk::kIdBytes> into) {
  BlockRequest request(rules, blk::kTypeGetId, 0);
  request.into_ = into;
  return request;
}

std::size_t BlockRequest::data_bytes() const noexcept {
  return into_.size() + from_.size() + ranges_.size() * sizeof(blk::Range);
}

// Header, data and status in descriptors of their own: what section "Legacy Interface: Framing Requirements" wants suits modern
// devices, too.
std::size_t BlockRequest::prepare(const virtio::RequestMemory& memory, std::span<virtio::Segment> chain) {
  const blk::Header header{.type = type_, .reserved = 0, .sector = sector_};
  std::memcpy(memory.va + RequestLayout::kHeader, &header, sizeof header);
  std::memcpy(memory.va + RequestLayout::kStatus, &kNoStatus, sizeof kNoStatus);
  std::byte* const data = memory.va + RequestLayout::kData;
  if (!from_.empty()) std::memcpy(data, from_.data(), from_.size());
  if (!ranges_.empty()) std::memcpy(data, ranges_.data(), ranges_.size() * sizeof(blk::Range));

  chain[0] = {.iova = memory.iova + RequestLayout::kHeader, .len = sizeof header, .device_writes = false};
  std::size_t count = append(chain.first(chain.size() - 1), 1, memory.iova + RequestLayout::kData, data_bytes(),
                             rules_.size_max, !into_.empty());
  chain[count++] = {.iova = memory.iova + RequestLayout::kStatus, .len = 1, .device_writes = true};
  return count;
}

std::unexpected<Error> BlockRequest::broken(std::string_view reg, std::string what) const {
  return std::unexpected(Error{.code = Errc::kDevice,
                               .what = fmt::format("{}: {}", describe(), what),
                               .advice = "no disk may answer so: reset it",
                               .step = "request",
                               .reg = std::string(reg)});
}

Result<void> BlockRequest::finish(const virtio::RequestMemory& memory, std::uint32_t length) {
  std::uint8_t status = kNoStatus;
  std::memcpy(&status, memory.va + RequestLayout::kStatus, sizeof status);  // once: the device may go on writing
  const std::size_t expected = into_.size() + 1;
  if (!rules_.ignore_length && length == 0)
    return broken("used.len", "it came back with nothing written, not even a status");
  switch (status) {
    case blk::kStatusOk: break;
    case blk::kStatusIoError:
      return std::unexpected(Error{.code = Errc::kSystem,
                                   .what = describe() + ": the disk reports an error",
                                   .advice = "the disk could not do it: look at its own log",
                                   .sys_errno = EIO,
                                   .step = "request"});
    case blk::kStatusUnsupported:
      return std::unexpected(Error{.code = Errc::kUnavailable,
                                   .what = describe() + ": the disk does not support it",
                                   .advice = "the disk's features say what it can do: 'upci probe' shows them",
                                   .step = "request"});
    case kNoStatus: return broken("status", "it came back without a status");
    default: return broken("status", fmt::format("it came back with status {}, which means nothing", status));
  }
  if (!rules_.ignore_length && length < expected) {
    return broken("used.len",
                  fmt::format("the disk says that all is well, but that it wrote {} of {} bytes", length, expected));
  }
  if (!into_.empty()) std::memcpy(into_.data(), memory.va + RequestLayout::kData, into_.size());
  return {};
}

std::string BlockRequest::describe() const {
  const std::size_t sectors = (into_.size() + from_.size()) / blk::kSectorBytes;
  switch (type_) {
    case blk::kTypeIn: return fmt::format("a read of {} sectors at {}", sectors, sector_);
    case blk::kTypeOut: return fmt::format("a write of {} sectors at {}", sectors, sector_);
    case blk::kTypeFlush: return "a flush";
    case blk::kTypeGetId: return "a request for the serial number";
    default: break;
  }
  return fmt::format("a {} of {} sectors at {}{}", type_ == blk::kTypeDiscard ? "discard" : "write of zeroes",
                     ranges_.front().num_sectors, ranges_.front().sector,
                     ranges_.size() > 1 ? fmt::format(" and {} more ranges", ranges_.size() - 1) : "");
}

}  // namespace upci::inline UPCI_VARIANT::virtio_blk
