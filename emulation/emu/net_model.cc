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
constexpr std::size_t kLongestPacket = 65535;  // IP has no longer one

}  // namespace

NetModel::NetModel(const Options& options, VirtioCore& core, DmaTable& dma, UniqueFd wire)
    : options_(options), core_(core), dma_(dma), wire_(std::move(wire)), wire_readable_(bool(wire_)) {}

Result<void> NetModel::watch(platform::EventQueue& events) {
  return wire_ ? events.add(wire_.get(), 0) : Result<void>();
}

std::size_t NetModel::header_bytes() const noexcept {
  return net::header_bytes(core_.has_feature(virtio::spec::feature::kVersion1),
                           core_.has_feature(virtio::spec::net_feature::kMrgRxbuf));
}

std::size_t NetModel::max_frame() const noexcept {
  if (options_.mtu == 0) return net::kMaxFrame + kVlanTag;
  return std::size_t{options_.mtu} + net::kEthernetHeaderBytes + kVlanTag;
}

/// A frame that is to be cut is as long as a packet can be.
std::size_t NetModel::max_sent() const noexcept {
  if (!core_.has_feature(virtio::spec::net_feature::kHostUso)) return max_frame();
  return kLongestPacket + net::kEthernetHeaderBytes + kVlanTag;
}

bool NetModel::reset() noexcept {
  receive_starved_ = false;
  header_layout_checked_ = false;
  pending_.reset();
  retry_ = {};
  backlog_.clear();
  held_.reset();
  return true;
}

void NetModel::forget(std::uint32_t queues) noexcept {
  if ((queues & (1U << virtio::spec::net::kTransmitQueue)) != 0) {
    pending_.reset();
    retry_ = {};
  }
  if ((queues & (1U << virtio::spec::net::kReceiveQueue)) != 0) receive_starved_ = false;
}

DataPath::Next NetModel::run() {
  Next next;
  if (!core_.live()) return next;
  const DmaAccess dma(dma_, core_.dma_kind());
  const bool more_to_send = transmit(dma);
  const bool more_to_receive = core_.live() && receive(dma);
  next.again = core_.live() && (more_to_send || more_to_receive);
  if (pending_) next.alarm = platform::Clock::now() + retry_;
  for (const std::uint16_t index : {net::kReceiveQueue, net::kTransmitQueue}) {
    VirtQueue& queue = core_.queue_at(index);
    if (core_.live() && queue.enabled && queue.ring->wants_interrupt(dma)) core_.interrupt(index);
  }
  return next;
}

/// Returns true when there is more to do at once.
bool NetModel::transmit(const DmaAccess& dma) {
  VirtQueue& queue = core_.queue_at(net::kTransmitQueue);
  if (!queue.enabled || !queue.kicked) return false;
  const bool more = transmit_some(dma, queue);
  if (publishes_each() || !core_.live()) return more;
  // With IN_ORDER one used element stands for all that are shown together.
  return core_.publish(dma, net::kTransmitQueue) && more;
}

bool NetModel::transmit_some(const DmaAccess& dma, VirtQueue& queue) {
  if (pending_ && !flush_pending(dma)) return false;
  queue.ring->set_notifications(dma, false);
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
  DeviceRing::Pop pop = queue.ring->pop(dma, chain_, why);
  if (pop == DeviceRing::Pop::kEmpty) {
    queue.ring->set_notifications(dma, true);
    pop = queue.ring->pop(dma, chain_, why);
    if (pop == DeviceRing::Pop::kEmpty) {
      queue.kicked = false;
      return false;
    }
    queue.ring->set_notifications(dma, false);
  }
  if (pop == DeviceRing::Pop::kBroken) {
    core_.break_down("transmit queue: " + why);
    return false;
  }
  Frame frame;
  if (!take_frame(dma, chain_, frame)) {
    ++stats_.dropped;
    return core_.complete(dma, net::kTransmitQueue, chain_.id, 0, publishes_each());
  }
  pending_ = Pending{.id = chain_.id, .frames = as_received(std::move(frame))};
  retry_ = kFirstRetry / 2;  // each try without room doubles it
  return flush_pending(dma);
}

/// False when the wire is full, or the device broken.
bool NetModel::flush_pending(const DmaAccess& dma) {
  for (; pending_->next < pending_->frames.size(); ++pending_->next) {
    const Sent sent = put_on_wire(pending_->frames[pending_->next]);
    if (sent == Sent::kNoRoom) {
      retry_ = std::min(2 * retry_, kLastRetry);
      return false;
    }
    ++(sent == Sent::kYes ? stats_.sent : stats_.dropped);
  }
  const ChainId id = pending_->id;
  pending_.reset();
  return core_.complete(dma, net::kTransmitQueue, id, 0, publishes_each());
}

bool NetModel::publishes_each() const noexcept { return !core_.has_feature(virtio::spec::feature::kInOrder); }

/// As it comes to the other side: on a wire finished, and so by the loopback, unless the driver takes over what is left to do.
std::vector<Frame> NetModel::as_received(Frame frame) const {
  namespace net_feature = virtio::spec::net_feature;
  const std::uint32_t needed = frame.header.gso_type == net::kGsoNone ? net_feature::kGuestCsum
                               : frame.ipv6()                         ? net_feature::kGuestUso6
                                                                      : net_feature::kGuestUso4;
  if (!frame.finished() && (wire_ || !core_.has_feature(needed))) return finish(frame);
  std::vector<Frame> whole;
  whole.push_back(std::move(frame));
  return whole;
}

/// Copies a frame out of the driver's buffers. False, with the violation noted, when it is none.
bool NetModel::take_frame(const DmaAccess& dma, const Chain& chain, Frame& frame) {
  const std::size_t header = header_bytes();
  if (chain.readable_bytes < header + net::kEthernetHeaderBytes) {
    core_.violation(fmt::format("a frame to send of {} bytes, header included", chain.readable_bytes));
    return false;
  }
  if (chain.readable_bytes > header + max_sent()) {
    core_.violation(
        fmt::format("a frame to send of {} bytes where {} are allowed", chain.readable_bytes - header, max_sent()));
    return false;
  }
  if (!chain.writable.empty()) core_.violation("a device-writable buffer in the transmit queue");
  check_header_layout(chain.readable.front());

  frame.bytes.resize(chain.readable_bytes);
  std::size_t at = 0;
  for (const Chain::Segment& segment : chain.readable) {
    const std::byte* const from = dma.at(segment.iova, segment.len);
    if (from == nullptr) return false;  // pop() has seen it under the same hold
    std::memcpy(frame.bytes.data() + at, from, segment.len);
    at += segment.len;
  }
  std::memcpy(&frame.header, frame.bytes.data(), std::min(header, sizeof(frame.header)));
  frame.bytes.erase(frame.bytes.begin(), frame.bytes.begin() + static_cast<std::ptrdiff_t>(header));
  return check_header(frame);
}

/// False, with the violation noted, where what it asks for cannot be done.
bool NetModel::check_header(Frame& frame) {
  namespace net_feature = virtio::spec::net_feature;
  const net::Header& sent = frame.header;
  const unsigned flags = core_.has_feature(net_feature::kCsum) ? net::kHeaderNeedsCsum : 0U;
  const bool cut = sent.gso_type == net::kGsoUdpL4 && core_.has_feature(net_feature::kHostUso);
  // Section "Packet Transmission": without the offloads flags and gso_type are 0, and so is num_buffers, always.
  if ((sent.flags & ~flags) != 0 || (sent.gso_type != net::kGsoNone && !cut) || sent.num_buffers != 0) {
    core_.violation(fmt::format("a frame's header asks for what was not negotiated: flags {:#x}, gso {:#x}, buffers {}",
                                sent.flags, sent.gso_type, sent.num_buffers));
    frame.header = {};
    return true;
  }
  const std::string_view wrong = misfit(frame);
  if (wrong.empty() && (!frame.finished() || frame.bytes.size() <= max_frame())) return true;
  core_.violation(fmt::format("a frame of {} bytes, of which {}", frame.bytes.size(),
                              wrong.empty() ? "only one that is to be cut may have so many" : wrong));
  return false;
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
    if (::send(wire_.get(), frame.bytes.data(), frame.bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) {
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
