// SPDX-License-Identifier: Apache-2.0
#include "drivers/virtio_blk/disk_impl.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <limits>
#include <mutex>
#include <utility>

#include "base/log.h"
#include "drivers/virtio_blk/disk_config.h"

namespace upci::inline UPCI_VARIANT::virtio_blk {
namespace {

namespace blk = virtio::spec::blk;

// How long the configuration interrupt's bottom half may wait for the generation to rest.
constexpr auto kConfigTime = std::chrono::milliseconds(500);

std::string_view name_of(Io::Op op) {
  switch (op) {
    case Io::Op::kRead: return "read";
    case Io::Op::kWrite: return "write";
    case Io::Op::kFlush: return "flush";
    case Io::Op::kDiscard: return "discard";
    case Io::Op::kWriteZeroes: return "write zeroes";
  }
  return "operation";
}

AnswerRules rules_of(const virtio::Device& device, const DiskInfo& info) {
  return {.ignore_length = device.transport().legacy(),
          .size_max = info.size_max != 0 ? info.size_max : std::numeric_limits<std::uint32_t>::max()};
}

}  // namespace

DiskImpl::DiskImpl(std::unique_ptr<virtio::RequestDevice> requests, const DiskInfo& info)
    : requests_(std::move(requests)),
      info_(info),
      rules_(rules_of(requests_->device(), info)),
      capacity_(info.capacity) {
  for (Work* work : requests_->works()) adopt_work(*work);
}

Result<void> DiskImpl::start(Deadline) {
  requests_->start({.config_changed = [this] { config_changed(); }, .restored = [this] { restored(); }},
                   virtio::OnTrouble::kReset);
  return {};
}

Result<std::uint64_t> DiskImpl::update_capacity(Deadline deadline) {
  const std::lock_guard lock(config_mutex_);
  UPCI_TRY_ASSIGN(const std::uint64_t capacity, read_capacity(requests_->device(), deadline));
  capacity_.store(capacity, std::memory_order_relaxed);
  return capacity;
}

// "The driver SHOULD check if the content of the capacity field has changed upon receiving a configuration change
// notification."
void DiskImpl::config_changed() {
  config_changes_.fetch_add(1, std::memory_order_relaxed);
  check_capacity();
}

void DiskImpl::restored() {
  check_capacity();
  tell(DiskEvent::kReset);
}

void DiskImpl::check_capacity() {
  const std::uint64_t before = capacity();
  auto now = update_capacity(Deadline::after(kConfigTime));
  if (!now) {
    log::warn("{}: reading the capacity: {}", requests_->device().device().name(), now.error().message());
  } else if (*now != before) {
    tell(DiskEvent::kCapacity);
  }
}

void DiskImpl::set_event_handler(EventHandler handler) {
  const std::lock_guard lock(handler_mutex_);
  handler_ = std::move(handler);
}

void DiskImpl::tell(DiskEvent event) {
  EventHandler handler;
  {
    const std::lock_guard lock(handler_mutex_);
    handler = handler_;
  }
  if (handler) handler(event);
}

std::uint64_t DiskImpl::sectors_of(const Io& io) const noexcept {
  switch (io.op) {
    case Io::Op::kRead: return io.into.size() / blk::kSectorBytes;
    case Io::Op::kWrite: return io.from.size() / blk::kSectorBytes;
    case Io::Op::kFlush: return 0;
    case Io::Op::kDiscard:
    case Io::Op::kWriteZeroes: return io.sectors;
  }
  return 0;
}

// "A driver MUST NOT submit a request which would cause a read or write beyond capacity."
Result<void> DiskImpl::check_range(const Io& io, std::uint64_t sectors) const {
  const std::uint64_t capacity = this->capacity();
  const std::uint64_t block = info_.block_size / blk::kSectorBytes;
  const std::size_t bytes = io.op == Io::Op::kRead ? io.into.size() : io.op == Io::Op::kWrite ? io.from.size() : 0;
  if (bytes % info_.block_size != 0 || sectors % block != 0 || io.sector % block != 0) {
    return fail(Errc::kInvalid,
                fmt::format("{} of {} sectors at {}: the disk's blocks have {} bytes", name_of(io.op), sectors,
                            io.sector, info_.block_size),
                "first sector and length must be multiples of the block size");
  }
  if (sectors == 0) return fail(Errc::kInvalid, fmt::format("{} of nothing at sector {}", name_of(io.op), io.sector));
  if (io.sector > capacity || sectors > capacity - io.sector) {
    return fail(
        Errc::kInvalid,
        fmt::format("{} of {} sectors at {}: the disk has {} sectors", name_of(io.op), sectors, io.sector, capacity),
        "stay within its capacity");
  }
  return {};
}

Result<void> DiskImpl::check(const Io& io) const {
  const bool changes = io.op != Io::Op::kRead && io.op != Io::Op::kFlush;
  if (changes && info_.read_only) {
    return fail(Errc::kUnavailable, fmt::format("{}: the disk is read-only", name_of(io.op)));
  }
  if ((io.op == Io::Op::kDiscard && !info_.discard) || (io.op == Io::Op::kWriteZeroes && !info_.write_zeroes)) {
    return fail(Errc::kUnavailable, fmt::format("{}: the disk does not offer it", name_of(io.op)));
  }
  return io.op == Io::Op::kFlush ? Result<void>() : check_range(io, sectors_of(io));
}

void DiskImpl::append_ranges(const Io& io, std::vector<BlockRequest>& requests) const {
  const bool discard = io.op == Io::Op::kDiscard;
  const std::uint32_t block = info_.block_size / blk::kSectorBytes;
  const std::uint32_t limit = discard ? info_.max_discard_sectors : info_.max_write_zeroes_sectors;
  const std::uint32_t count = discard ? info_.max_discard_segments : info_.max_write_zeroes_segments;
  const std::size_t most = std::min(
      {std::size_t{count != 0 ? count : 1}, RequestLayout::kMostRanges, info_.max_transfer / sizeof(blk::Range)});
  std::uint64_t longest = limit != 0 ? limit : std::numeric_limits<std::uint32_t>::max();
  // Cut where the disk likes it, or at least at a block.
  const std::uint32_t grain = discard ? std::max(info_.discard_alignment, block) : block;
  if (longest > grain) longest -= longest % grain;
  // "The unmap bit MUST be zero for discard commands."
  const std::uint32_t flags = !discard && io.may_unmap && info_.write_zeroes_may_unmap ? blk::kRangeUnmap : 0;
  std::vector<blk::Range> ranges;
  for (std::uint64_t done = 0; done < io.sectors;) {
    const std::uint64_t now = std::min(longest, io.sectors - done);
    ranges.push_back({.sector = io.sector + done, .num_sectors = static_cast<std::uint32_t>(now), .flags = flags});
    done += now;
    if (ranges.size() < most && done < io.sectors) continue;
    requests.push_back(
        BlockRequest::ranges(rules_, discard ? blk::kTypeDiscard : blk::kTypeWriteZeroes, std::exchange(ranges, {})));
  }
}

void DiskImpl::append(const Io& io, std::vector<BlockRequest>& requests) const {
  const std::size_t chunk = info_.max_transfer;
  const auto cut = [chunk](auto data, std::size_t at) { return data.subspan(at, std::min(chunk, data.size() - at)); };
  switch (io.op) {
    case Io::Op::kRead:
      for (std::size_t at = 0; at < io.into.size(); at += chunk)
        requests.push_back(BlockRequest::read(rules_, io.sector + at / blk::kSectorBytes, cut(io.into, at)));
      break;
    case Io::Op::kWrite:
      for (std::size_t at = 0; at < io.from.size(); at += chunk)
        requests.push_back(BlockRequest::write(rules_, io.sector + at / blk::kSectorBytes, cut(io.from, at)));
      break;
    case Io::Op::kFlush:
      // Without FLUSH every write that has ended is stable already.
      if (info_.flush) requests.push_back(BlockRequest::flush(rules_));
      break;
    case Io::Op::kDiscard:
    case Io::Op::kWriteZeroes: append_ranges(io, requests); break;
  }
}

void DiskImpl::run_requests(std::span<BlockRequest> requests, Deadline deadline, int queue) {
  std::vector<virtio::Request*> pointers;
  pointers.reserve(requests.size());
  for (BlockRequest& request : requests) pointers.push_back(&request);
  requests_->run(pointers, deadline, queue);
  for (const BlockRequest& request : requests) {
    if (request.result || request.result.error().step != "request") continue;
    if (request.result.error().sys_errno == EIO) io_errors_.fetch_add(1, std::memory_order_relaxed);
    if (request.result.error().code == Errc::kUnavailable) unsupported_.fetch_add(1, std::memory_order_relaxed);
  }
}

void DiskImpl::run(std::span<Io> batch, Deadline deadline, int queue) {
  std::vector<BlockRequest> requests;
  std::vector<std::size_t> ends;  // where each operation's requests end
  requests.reserve(batch.size());
  ends.reserve(batch.size());
  for (Io& io : batch) {
    io.result = check(io);
    if (io.result) append(io, requests);
    ends.push_back(requests.size());
  }
  run_requests(requests, deadline, queue);
  std::size_t next = 0;
  for (std::size_t i = 0; i < batch.size(); ++i) {
    for (; next < ends[i]; ++next) {
      if (batch[i].result && !requests[next].result) batch[i].result = std::move(requests[next].result);
    }
  }
}

Result<std::string> DiskImpl::serial(Deadline deadline) {
  std::array<std::byte, blk::kIdBytes> id{};
  BlockRequest request = BlockRequest::get_id(rules_, id);
  run_requests(std::span(&request, 1), deadline, virtio::RequestDevice::kAnyQueue);
  UPCI_TRY(std::move(request.result));
  // "If the string is 20 bytes long then there is no NUL terminator."
  std::string text;
  for (const std::byte byte : id) {
    const char c = static_cast<char>(byte);
    if (c == '\0') break;
    text += c >= ' ' && c <= '~' ? c : '.';
  }
  return text;
}

DiskStats DiskImpl::stats() const {
  return {.requests = requests_->stats(),
          .interrupts = requests_->interrupt_stats(),
          .io_errors = io_errors_.load(std::memory_order_relaxed),
          .unsupported = unsupported_.load(std::memory_order_relaxed),
          .config_changes = config_changes_.load(std::memory_order_relaxed)};
}

}  // namespace upci::inline UPCI_VARIANT::virtio_blk
