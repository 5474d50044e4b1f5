// SPDX-License-Identifier: Apache-2.0
#include "drivers/virtio_net/capture.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>

#include "base/log.h"
#include "virtio/spec/net.h"

namespace upci::inline UPCI_VARIANT::virtio_net {
namespace {

namespace net = virtio::spec::net;

// Sections "Section Header Block", "Interface Description Block", "Enhanced Packet Block" and their options.
constexpr std::uint32_t kSectionHeader = 0x0a0d0d0a;
constexpr std::uint32_t kByteOrder = 0x1a2b3c4d;
constexpr std::uint32_t kInterface = 1;
constexpr std::uint32_t kPacket = 6;
constexpr std::uint16_t kEthernet = 1;  // LINKTYPE_ETHERNET
constexpr std::uint16_t kEndOfOptions = 0;
constexpr std::uint16_t kComment = 1;
constexpr std::uint16_t kSectionApplication = 4;
constexpr std::uint16_t kInterfaceName = 2;
constexpr std::uint16_t kInterfaceResolution = 9;
constexpr std::uint8_t kNanoseconds = 9;  // as a power of ten
constexpr std::uint16_t kPacketFlags = 2;
constexpr std::uint32_t kInbound = 1, kOutbound = 2;
constexpr std::uint16_t kPacketQueue = 6;
constexpr std::size_t kFlushAt = 65'536;

std::string_view segmentation(std::uint8_t type) {
  switch (type & ~net::kGsoEcn) {
    case net::kGsoTcp4: return "tcp4";
    case net::kGsoUdp: return "udp";
    case net::kGsoTcp6: return "tcp6";
    case net::kGsoUdpL4: return "udp-l4";
    default: return "unknown";
  }
}

std::string_view hash_name(HashReport report) {
  constexpr std::string_view kNames[] = {"none", "ipv4", "tcp4",    "udp4",    "ipv6",
                                         "tcp6", "udp6", "ipv6-ex", "tcp6-ex", "udp6-ex"};
  const auto index = static_cast<std::size_t>(report);
  return index < std::size(kNames) ? kNames[index] : "unknown";
}

std::string comment_of(const Packet& frame, const RingPlace& place, unsigned buffers) {
  std::string text = fmt::format("ring position={} in_flight={} size={} buffers={}", place.position, place.in_flight,
                                 place.size, buffers);
  const Offload& offload = frame.offload;
  if ((offload.flags & net::kHeaderNeedsCsum) != 0) {
    text += fmt::format(" needs_csum={}+{}", offload.csum_start, offload.csum_offset);
  }
  if ((offload.flags & net::kHeaderDataValid) != 0) text += " data_valid";
  if (offload.gso_type != net::kGsoNone) {
    text += fmt::format(" gso={}{} gso_size={} hdr_len={}", segmentation(offload.gso_type),
                        (offload.gso_type & net::kGsoEcn) != 0 ? "+ecn" : "", offload.gso_size, offload.header_bytes);
  }
  if (frame.hash_report != HashReport::kNone) {
    text += fmt::format(" hash={:08x} hash_report={}", frame.hash, hash_name(frame.hash_report));
  }
  return text;
}

}  // namespace

Result<std::shared_ptr<Capture>> Capture::create(const std::string& path, std::uint32_t most_bytes) {
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0644));
  if (!fd) {
    return fail(Errc::kUnavailable, fmt::format("cannot write to {}: {}", path, std::strerror(errno)),
                "name a file in a directory that exists and may be written to");
  }
  return std::shared_ptr<Capture>(new Capture(path, std::move(fd), most_bytes));
}

Capture::Capture(std::string path, UniqueFd fd, std::uint32_t most_bytes)
    : path_(std::move(path)),
      fd_(std::move(fd)),
      most_bytes_(most_bytes),
      epoch_(platform::time_of_day() - platform::Clock::now().time_since_epoch()) {
  const std::lock_guard lock(mutex_);
  begin_block(kSectionHeader);
  put(kByteOrder);
  put(std::uint16_t{1});  // version 1.0
  put(std::uint16_t{0});
  put(~std::uint64_t{0});  // of unknown length
  put_option(kSectionApplication, "upci");
  put(kEndOfOptions);
  put(std::uint16_t{0});
  end_block();
}

Capture::~Capture() {
  const std::lock_guard lock(mutex_);
  write_out();
  if (error_ && !told_) log::warn("{}", error_->message());
}

std::uint64_t Capture::frames() const {
  const std::lock_guard lock(mutex_);
  return frames_;
}

Result<void> Capture::finish() {
  const std::lock_guard lock(mutex_);
  write_out();
  told_ = true;
  if (error_) return std::unexpected(*error_);
  return {};
}

std::uint32_t Capture::add_interface(std::string_view name) {
  const std::lock_guard lock(mutex_);
  begin_block(kInterface);
  put(kEthernet);
  put(std::uint16_t{0});
  put(most_bytes_);
  put_option(kInterfaceName, name);
  put_option(kInterfaceResolution, kNanoseconds);
  put(kEndOfOptions);
  put(std::uint16_t{0});
  end_block();
  return interfaces_++;
}

void Capture::add(std::uint32_t interface, bool inbound, const Packet& frame, const RingPlace& place) {
  const std::lock_guard lock(mutex_);
  if (error_) return;
  // Taken with the lock held: times do not go backwards in the file.
  const auto time = static_cast<std::uint64_t>((platform::Clock::now().time_since_epoch() + epoch_).count());
  const std::size_t whole = frame.frame_bytes();
  const std::size_t kept = std::min<std::size_t>(whole, most_bytes_);
  begin_block(kPacket);
  put(interface);
  put(static_cast<std::uint32_t>(time >> 32));
  put(static_cast<std::uint32_t>(time));
  put(static_cast<std::uint32_t>(kept));
  put(static_cast<std::uint32_t>(whole));
  unsigned buffers = 0;
  std::size_t left = kept;
  for (const Packet* part = &frame; part != nullptr; part = part->next, buffers++) {
    const std::size_t count = std::min<std::size_t>(part->length, left);
    put_bytes(part->data, count);
    left -= count;
  }
  pad();
  put_option(kPacketFlags, inbound ? kInbound : kOutbound);
  put_option(kPacketQueue, std::uint32_t{place.pair});
  put_option(kComment, comment_of(frame, place, buffers));
  put(kEndOfOptions);
  put(std::uint16_t{0});
  end_block();
  frames_++;
  if (buffer_.size() >= kFlushAt) write_out();
}

template <class T>
void Capture::put(T value) {
  put_bytes(&value, sizeof(value));
}

void Capture::put_bytes(const void* bytes, std::size_t count) {
  const std::size_t at = buffer_.size();
  buffer_.resize(at + count);
  if (count != 0) std::memcpy(buffer_.data() + at, bytes, count);
}

void Capture::pad() { buffer_.resize((buffer_.size() - block_ + 3) / 4 * 4 + block_); }

void Capture::put_option(std::uint16_t code, std::string_view value) {
  const auto count = static_cast<std::uint16_t>(std::min<std::size_t>(value.size(), 0xffff));
  put(code);
  put(count);
  put_bytes(value.data(), count);
  pad();
}

template <std::integral T>
void Capture::put_option(std::uint16_t code, T value) {
  put(code);
  put(static_cast<std::uint16_t>(sizeof(value)));
  put(value);
  pad();
}

void Capture::begin_block(std::uint32_t type) {
  block_ = buffer_.size();
  put(type);
  put(std::uint32_t{0});
}

// The length stands at both ends of a block.
void Capture::end_block() {
  const auto length = static_cast<std::uint32_t>(buffer_.size() - block_ + sizeof(std::uint32_t));
  std::memcpy(buffer_.data() + block_ + sizeof(std::uint32_t), &length, sizeof(length));
  put(length);
}

void Capture::write_out() {
  std::size_t done = 0;
  while (!error_ && done < buffer_.size()) {
    const ssize_t count = ::write(fd_.get(), buffer_.data() + done, buffer_.size() - done);
    if (count > 0) {
      done += static_cast<std::size_t>(count);
    } else if (count == 0 || errno != EINTR) {
      error_ = Error{.code = Errc::kSystem,
                     .what = fmt::format("writing the capture {}: {}", path_, std::strerror(errno)),
                     .advice = "the file ends with the last frame that could be written: make room and capture again"};
    }
  }
  buffer_.clear();
}

}  // namespace upci::inline UPCI_VARIANT::virtio_net
