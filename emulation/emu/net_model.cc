// SPDX-License-Identifier: Apache-2.0
// The transmit half and the wire; the receive half is in net_receive.cc.
#include "emulation/emu/net_model.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "virtio/spec/features.h"
#include "virtio/spec/net.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {
namespace {

namespace net = virtio::spec::net;

// How much is done before others get the device's lock.
constexpr int kBatch = 64;
// Frames that the loopback wire holds while the driver gives no buffers; beyond that the transmit queue waits.
constexpr std::size_t kBacklog = 4096;
constexpr platform::Nanoseconds kFirstRetry = std::chrono::microseconds(50);
constexpr platform::Nanoseconds kLastRetry = std::chrono::milliseconds(5);
constexpr std::size_t kVlanTag = 4;

}  // namespace

NetModel::NetModel(const Options& options, VirtioCore& core, DmaTable& dma, UniqueFd wire)
    : options_(options), core_(core), dma_(dma), wire_(std::move(wire)), wire_readable_(bool(wire_)) {}

std::size_t NetModel::header_bytes() const noexcept {
  return net::header_bytes(core_.has_feature(virtio::spec::feature::kVersion1),
                           core_.has_feature(virtio::spec::net_feature::kMrgRxbuf));
}

std::size_t NetModel::max_frame() const noexcept {
  if (options_.mtu == 0) return net::kMaxFrame + kVlanTag;
  return std::size_t{options_.mtu} + net::kEthernetHeaderBytes + kVlanTag;
}

void NetModel::reset() noexcept {
  receive_starved_ = false;
  header_layout_checked_ = false;
  pending_.reset();
  retry_ = {};
  backlog_.clear();
  held_.reset();
}

void NetModel::forget(std::uint32_t queues) noexcept {
  if ((queues & (1U << virtio::spec::net::kTransmitQueue)) != 0) {
    pending_.reset();
    retry_ = {};
  }
  if ((queues & (1U << virtio::spec::net::kReceiveQueue)) != 0) receive_starved_ = false;
}

NetModel::Next NetModel::run() {
  Next next;
  if (!core_.live()) return next;
  const DmaAccess dma(dma_, core_.dma_kind());
  const bool more_to_send = transmit(dma);
  const bool more_to_receive = core_.live() && receive(dma);
  next.again = core_.live() && (more_to_send || more_to_receive);
  if (pending_) next.alarm = platform::Clock::now() + retry_;
  for (const std::uint16_t index : {net::kReceiveQueue, net::kTransmitQueue}) {
    VirtQueue& queue = core_.queue_at(index);
    if (core_.live() && queue.enabled && queue.ring.wants_interrupt(dma)) core_.interrupt(index);
  }
  return next;
}

/// Returns true when there is more to do at once.
bool NetModel::transmit(const DmaAccess& dma) {
  VirtQueue& queue = core_.queue_at(net::kTransmitQueue);
  if (!queue.enabled || !queue.kicked) return false;
  if (pending_ && !flush_pending(dma)) return false;
  queue.ring.set_notifications(dma, false);
  for (int done = 0; done < kBatch; ++done) {
    // The loopback wire is full: receive() makes room, and the notification that it waits for starts both again.
    if (!wire_ && backlog_.size() >= kBacklog) return false;
    if (!transmit_one(dma, queue)) return false;
  }
  return true;
}

/// Returns false when the queue is empty, the wire full, or the device broken.
bool NetModel::transmit_one(const DmaAccess& dma, VirtQueue& queue) {
  std::string why;
  DeviceRing::Pop pop = queue.ring.pop(dma, chain_, why);
  if (pop == DeviceRing::Pop::kEmpty) {
    queue.ring.set_notifications(dma, true);
    pop = queue.ring.pop(dma, chain_, why);
    if (pop == DeviceRing::Pop::kEmpty) {
      queue.kicked = false;
      return false;
    }
    queue.ring.set_notifications(dma, false);
  }
  if (pop == DeviceRing::Pop::kBroken) {
    core_.break_down("transmit queue: " + why);
    return false;
  }
  Frame frame;
  if (!take_frame(dma, chain_, frame)) {
    ++stats_.dropped;
    return core_.complete(dma, net::kTransmitQueue, chain_.head, 0);
  }
  const Sent sent = put_on_wire(frame);
  if (sent == Sent::kNoRoom) {
    pending_ = Pending{.head = chain_.head, .frame = std::move(frame)};
    retry_ = kFirstRetry;
    return false;
  }
  ++(sent == Sent::kYes ? stats_.sent : stats_.dropped);
  return core_.complete(dma, net::kTransmitQueue, chain_.head, 0);
}

bool NetModel::flush_pending(const DmaAccess& dma) {
  const Sent sent = put_on_wire(pending_->frame);
  if (sent == Sent::kNoRoom) {
    retry_ = std::min(2 * retry_, kLastRetry);
    return false;
  }
  ++(sent == Sent::kYes ? stats_.sent : stats_.dropped);
  const std::uint16_t head = pending_->head;
  pending_.reset();
  return core_.complete(dma, net::kTransmitQueue, head, 0);
}

/// Copies a frame out of the driver's buffers. False, with the violation noted, when it is none.
bool NetModel::take_frame(const DmaAccess& dma, const Chain& chain, Frame& frame) {
  const std::size_t header = header_bytes();
  if (chain.readable_bytes < header + net::kEthernetHeaderBytes) {
    core_.violation(fmt::format("a frame to send of {} bytes, header included", chain.readable_bytes));
    return false;
  }
  if (chain.readable_bytes > header + max_frame()) {
    core_.violation(
        fmt::format("a frame to send of {} bytes where {} are allowed", chain.readable_bytes - header, max_frame()));
    return false;
  }
  if (!chain.writable.empty()) core_.violation("a device-writable buffer in the transmit queue");
  check_header_layout(chain.readable.front());

  frame.resize(chain.readable_bytes);
  std::size_t at = 0;
  for (const Chain::Segment& segment : chain.readable) {
    const std::byte* const from = dma.at(segment.iova, segment.len);
    if (from == nullptr) return false;  // pop() has seen it under the same hold
    std::memcpy(frame.data() + at, from, segment.len);
    at += segment.len;
  }
  net::Header sent{};
  std::memcpy(&sent, frame.data(), std::min(header, sizeof(sent)));
  // Section "Packet Transmission": without the offloads flags and gso_type are 0, and so is num_buffers.
  if (sent.flags != 0 || sent.gso_type != net::kGsoNone || sent.num_buffers != 0) {
    core_.violation(fmt::format("a frame's header asks for what was not negotiated: flags {:#x}, gso {:#x}, buffers {}",
                                sent.flags, sent.gso_type, sent.num_buffers));
  }
  frame.erase(frame.begin(), frame.begin() + static_cast<std::ptrdiff_t>(header));
  return true;
}

/// Section "Legacy Interface: Framing Requirements": without ANY_LAYOUT the header has a descriptor of its own.
void NetModel::check_header_layout(const Chain::Segment& first) {
  if (!core_.legacy() || header_layout_checked_) return;
  if (core_.has_feature(virtio::spec::feature::kAnyLayout) || first.len == header_bytes()) return;
  header_layout_checked_ = true;  // once is enough
  core_.violation(fmt::format("without ANY_LAYOUT the first descriptor must be the header of {} bytes, it has {}",
                              header_bytes(), first.len));
}

NetModel::Sent NetModel::put_on_wire(Frame& frame) {
  if (!core_.link_up()) return Sent::kNobody;
  if (!wire_) {
    if (backlog_.size() >= kBacklog) return Sent::kNoRoom;
    backlog_.push_back(std::move(frame));
    return Sent::kYes;
  }
  for (;;) {
    if (::send(wire_.get(), frame.data(), frame.size(), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) {
      platform::fd_signalled();
      return Sent::kYes;
    }
    switch (errno) {
      case EINTR: continue;
      case EAGAIN:
      case ENOBUFS:
      case ENOMEM: return Sent::kNoRoom;
      default: return Sent::kNobody;  // the other end was closed
    }
  }
}

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
