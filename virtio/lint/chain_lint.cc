// SPDX-License-Identifier: Apache-2.0
// Counting, the entropy device and the block device; the network card is in chain_net.cc.
#include "virtio/lint/chain_lint.h"

#include <fmt/format.h>

#include "base/log.h"
#include "virtio/lint/chain_look.h"
#include "virtio/lint/clauses.h"
#include "virtio/spec/blk.h"
#include "virtio/spec/features.h"
#include "virtio/spec/ids.h"

namespace upci::inline UPCI_VARIANT::virtio::lint {
namespace {

namespace blk = spec::blk;

constexpr std::size_t kKept = 64;

}  // namespace

std::uint64_t ChainLint::chains() const {
  const std::lock_guard lock(mutex_);
  return chains_;
}
std::uint64_t ChainLint::violations() const {
  const std::lock_guard lock(mutex_);
  std::uint64_t all = 0;
  for (const std::uint64_t count : counts_) all += count;
  return all;
}
std::uint64_t ChainLint::violations(ChainRule rule) const {
  const std::lock_guard lock(mutex_);
  return counts_[static_cast<std::size_t>(rule)];
}
std::vector<std::string> ChainLint::breaches() const {
  const std::lock_guard lock(mutex_);
  return breaches_;
}

void ChainLint::breach(ChainRule rule, std::string detail) {
  ++counts_[static_cast<std::size_t>(rule)];
  if (breaches_.size() == kKept) return;
  breaches_.push_back(fmt::format("{}: {}: {}", clause_id(rule), to_string(rule), detail));
  log::warn("the driver breaks the specification: {}", breaches_.back());
}

std::uint64_t ChainLint::field(std::uint32_t offset, std::uint64_t otherwise) const {
  return registers_->configured(offset).value_or(otherwise);
}

void ChainLint::on_restart(std::uint16_t) {
  const std::lock_guard lock(mutex_);
  pairs_ = 1;
}

void ChainLint::on_chain(std::uint16_t queue, std::span<const Segment> chain) {
  const Look look(chain, *memory_);
  const std::lock_guard lock(mutex_);
  ++chains_;
  features_ = registers_->accepted();
  legacy_ = registers_->legacy();
  switch (registers_->device_id()) {
    case spec::kDeviceNet: return net(queue, look);
    case spec::kDeviceBlock: return block(look);
    case spec::kDeviceEntropy:
      if (look.readable() != 0) breach(ChainRule::kRngReadable, fmt::format("{} bytes", look.readable()));
      return;
    default: return;
  }
}

void ChainLint::block(const Look& look) {
  const auto type = look.at<std::uint32_t>(0);
  const auto sector = look.at<std::uint64_t>(8);
  if (!type || !sector || look.writable() == 0) {
    return breach(ChainRule::kBlkLength, "a request without header or status");
  }
  const auto segments = look.segments();
  if (legacy_ && (features_ & spec::mask_of(spec::feature::kAnyLayout)) == 0 &&
      (segments.front().len != sizeof(blk::Header) || segments.back().len != 1)) {
    breach(ChainRule::kBlkFraming, fmt::format("{} and {} bytes", segments.front().len, segments.back().len));
  }
  const std::uint64_t out = look.readable() - sizeof(blk::Header);
  const std::uint64_t in = look.writable() - 1;
  const std::uint64_t capacity = field(blk::config::kCapacity, 0) | field(blk::config::kCapacity + 4, 0) << 32;
  switch (*type) {
    case blk::kTypeIn:
    case blk::kTypeOut: {
      const std::uint64_t bytes = *type == blk::kTypeIn ? in : out;
      if (bytes % blk::kSectorBytes != 0) breach(ChainRule::kBlkLength, fmt::format("{} bytes", bytes));
      if (*sector > capacity || bytes / blk::kSectorBytes > capacity - *sector) {
        breach(ChainRule::kBlkBeyondCapacity, fmt::format("{} bytes at sector {} of {}", bytes, *sector, capacity));
      }
      return;
    }
    case blk::kTypeFlush:
      if (*sector != 0) breach(ChainRule::kBlkFlushSector, fmt::format("{}", *sector));
      return;
    case blk::kTypeGetId:
      if (in != blk::kIdBytes) breach(ChainRule::kBlkIdLength, fmt::format("{}", in));
      return;
    case blk::kTypeDiscard:
    case blk::kTypeWriteZeroes: return block_ranges(*type, look);
    default: return;
  }
}

void ChainLint::block_ranges(std::uint32_t type, const Look& look) {
  const std::uint64_t bytes = look.readable() - sizeof(blk::Header);
  if (bytes % sizeof(blk::Range) != 0) return breach(ChainRule::kBlkRanges, fmt::format("{} bytes", bytes));
  const std::uint64_t count = bytes / sizeof(blk::Range);
  const bool discard = type == blk::kTypeDiscard;
  const std::uint64_t most =
      field(discard ? blk::config::kMaxDiscardSeg : blk::config::kMaxWriteZeroesSeg, ~std::uint64_t{0});
  if (count > most) breach(ChainRule::kBlkTooManyRanges, fmt::format("{} of {}", count, most));
  for (std::uint64_t i = 0; discard && i < count; ++i) {
    const auto flags = look.at<std::uint32_t>(sizeof(blk::Header) + i * sizeof(blk::Range) + 12);
    if (flags.value_or(0) != 0) breach(ChainRule::kBlkUnmap, fmt::format("{:#x}", *flags));
  }
}

}  // namespace upci::inline UPCI_VARIANT::virtio::lint
