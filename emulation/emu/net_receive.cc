// SPDX-License-Identifier: Apache-2.0
// The receive half of the network card: from the wire into the driver's buffers.
#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>
#include <utility>

#include "emulation/emu/net_model.h"
#include "virtio/spec/features.h"
#include "virtio/spec/net.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {
namespace {

namespace net = virtio::spec::net;

constexpr int kBatch = 64;
constexpr std::size_t kLongestDatagram = 65536;

}  // namespace

/// Returns true when there is more to do at once.
bool NetModel::receive(const DmaAccess& dma) {
  VirtQueue& queue = core_.queue_at(net::kReceiveQueue);
  if (!queue.enabled || !core_.link_up()) return false;
  if (std::exchange(queue.kicked, false)) receive_starved_ = false;
  const bool was_full = !wire_ && !backlog_.empty();
  int done = 0;
  while (done < kBatch && !receive_starved_ && next_frame()) {
    if (deliver(dma, queue)) ++done;
    if (!core_.live()) return false;
  }
  // Room on the loopback wire again: the transmit queue may have waited for it.
  const bool transmit_waits = was_full && done > 0 && core_.queue_at(net::kTransmitQueue).kicked;
  return done == kBatch || transmit_waits;
}

/// Makes `held_` the next frame. False when there is none.
bool NetModel::next_frame() {
  if (held_) return true;
  if (!wire_) {
    if (backlog_.empty()) return false;
    held_ = std::move(backlog_.front());
    backlog_.pop_front();
    return true;
  }
  while (wire_readable_) {
    staging_.resize(kLongestDatagram);
    const ssize_t got = ::recv(wire_.get(), staging_.data(), staging_.size(), MSG_DONTWAIT | MSG_TRUNC);
    if (got < 0) {
      if (errno == EINTR) continue;
      // Empty, or the other side is gone; what comes next makes the descriptor readable anew.
      wire_readable_ = false;
      return false;
    }
    const auto length = static_cast<std::size_t>(got);
    if (length < net::kEthernetHeaderBytes || length > max_frame()) {
      ++stats_.dropped;
      continue;
    }
    held_ = Frame{.bytes = {staging_.begin(), staging_.begin() + got}};
    return true;
  }
  return false;
}

/// Puts `held_` into the driver's buffers. False when it has to wait for buffers, or was dropped.
bool NetModel::deliver(const DmaAccess& dma, VirtQueue& queue) {
  const std::size_t header = header_bytes();
  if (!collect_buffers(dma, queue, header + held_->bytes.size())) return false;

  staging_.assign(header, std::byte{0});
  // Section "Processing of Incoming Packets": num_buffers, where the header has it, counts the chains; 1 without MRG_RXBUF.
  held_->header.num_buffers = static_cast<std::uint16_t>(buffers_used_);
  if (options_.fault == Fault::kBufferCountWrong) held_->header.num_buffers = 0xffff;
  if (options_.fault == Fault::kOffloadWrong) {
    held_->header.flags = net::kHeaderNeedsCsum;
    held_->header.csum_start = static_cast<std::uint16_t>(held_->bytes.size());
  }
  std::memcpy(staging_.data(), &held_->header, std::min(header, sizeof held_->header));
  staging_.insert(staging_.end(), held_->bytes.begin(), held_->bytes.end());
  held_.reset();
  fill_buffers(dma);
  ++stats_.received;
  return true;
}

/// Pops chains until `need` bytes fit. False when there are too few (they are given back), or the frame was dropped.
bool NetModel::collect_buffers(const DmaAccess& dma, VirtQueue& queue, std::size_t need) {
  const bool mergeable = core_.has_feature(virtio::spec::net_feature::kMrgRxbuf);
  const std::uint16_t begin = queue.ring->position();
  bool asked = false;
  buffers_used_ = 0;
  for (std::size_t room = 0; room < need;) {
    if (buffers_used_ == buffers_.size()) buffers_.emplace_back();
    Chain& chain = buffers_[buffers_used_];
    std::string why;
    const DeviceRing::Pop pop = queue.ring->pop(dma, chain, why);
    if (pop == DeviceRing::Pop::kBroken) {
      core_.break_down("receive queue: " + why);
      return false;
    }
    if (pop == DeviceRing::Pop::kEmpty) {
      // Ask to be told of new buffers, and look once more: they may have come in between.
      if (!std::exchange(asked, true)) {
        queue.ring->set_notifications(dma, true);
        continue;
      }
      queue.ring->rewind(begin);
      if (buffers_used_ == queue.size) {
        core_.violation(fmt::format("all buffers of the receive queue together are too small for {} bytes", need));
        held_.reset();
        ++stats_.dropped;
      }
      receive_starved_ = true;
      return false;
    }
    if (chain.readable_bytes != 0) core_.violation("a device-readable buffer in the receive queue");
    if (!chain.writable.empty()) check_header_layout(chain.writable.front());
    asked = false;
    ++buffers_used_;
    room += chain.writable_bytes;
    // Section "Setting Up Receive Buffers": large enough for a whole frame, or with MRG_RXBUF at least for the header.
    const bool too_small = mergeable ? chain.writable_bytes < net::kHeaderBytes : room < need;
    if (too_small) {
      core_.violation(fmt::format("a receive buffer of {} bytes is too small for {}", chain.writable_bytes, need));
      queue.ring->rewind(begin);
      held_.reset();
      ++stats_.dropped;
      return false;
    }
  }
  return true;
}

/// Spreads `staging_` over the collected buffers and gives them back.
void NetModel::fill_buffers(const DmaAccess& dma) {
  std::span<const std::byte> left(staging_);
  for (std::size_t i = 0; i < buffers_used_; ++i) {
    std::uint32_t written = 0;
    for (const Chain::Segment& segment : buffers_[i].writable) {
      const std::size_t part = std::min<std::size_t>(segment.len, left.size());
      std::byte* const to = dma.at(segment.iova, segment.len);
      if (part == 0 || to == nullptr) break;
      std::memcpy(to, left.data(), part);
      left = left.subspan(part);
      written += static_cast<std::uint32_t>(part);
    }
    // The buffers of one frame become visible together: the driver finds as many as num_buffers says.
    const bool last = i + 1 == buffers_used_;
    if (!core_.complete(dma, net::kReceiveQueue, buffers_[i].id, written, last)) return;
  }
}

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
