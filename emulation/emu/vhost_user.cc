// SPDX-License-Identifier: Apache-2.0
#include "emulation/emu/vhost_user.h"

#include <fmt/format.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

namespace upci::inline UPCI_VARIANT::emulation::emu {
namespace {

enum Request : std::uint32_t {
  kGetFeatures = 1,
  kSetFeatures = 2,
  kSetOwner = 3,
  kSetMemTable = 5,
  kSetVringNum = 8,
  kSetVringAddr = 9,
  kSetVringBase = 10,
  kGetVringBase = 11,
  kSetVringKick = 12,
  kSetVringCall = 13,
  kGetProtocolFeatures = 15,
  kSetProtocolFeatures = 16,
  kSetVringEnable = 18,
};

constexpr std::uint32_t kVersion = 1;
constexpr std::uint32_t kReply = 1U << 2;
constexpr std::uint32_t kNeedReply = 1U << 3;
constexpr std::uint64_t kProtocolFeatures = std::uint64_t{1} << 30;  // among the features of virtio
constexpr std::uint64_t kReplyAck = std::uint64_t{1} << 3;           // among those of the protocol

/// Ring addresses are told as the front end's own; any will do that lie where its memory is said to.
constexpr std::uint64_t kUserBase = std::uint64_t{1} << 40;
constexpr std::size_t kMemory = std::size_t{64} << 20;

struct VringState {
  std::uint32_t index;
  std::uint32_t number;
};
struct VringAddress {
  std::uint32_t index;
  std::uint32_t flags;
  std::uint64_t descriptors;
  std::uint64_t used;
  std::uint64_t available;
  std::uint64_t log;
};
struct MemoryTable {
  std::uint32_t regions;
  std::uint32_t padding;
  std::uint64_t guest_address;
  std::uint64_t size;
  std::uint64_t user_address;
  std::uint64_t offset;
};

Error no_back_end(std::string what) {
  return Error{.code = Errc::kUnavailable,
               .what = std::move(what),
               .advice = "start a vhost-user back end that listens there as the server, DPDK's for example"};
}

}  // namespace

struct VhostUser::Message {
  std::uint32_t request = 0;
  std::uint32_t flags = kVersion;
  std::uint32_t size = 0;
  alignas(8) std::array<std::byte, 40> payload{};

  static constexpr std::size_t kHeader = 12;

  explicit Message(std::uint32_t number = 0) noexcept : request(number) {}
  template <class T>
  Message(std::uint32_t number, const T& value) noexcept : request(number), size(sizeof value) {
    static_assert(sizeof value <= sizeof payload);
    std::memcpy(payload.data(), &value, sizeof value);
  }
  template <class T>
  T as() const noexcept {
    T value;
    std::memcpy(&value, payload.data(), sizeof value);
    return value;
  }
};

Result<std::unique_ptr<VhostUser>> VhostUser::connect(const std::string& path, std::uint16_t rings) {
  sockaddr_un peer{};
  peer.sun_family = AF_UNIX;
  if (path.size() >= sizeof(peer.sun_path))
    return fail(Errc::kInvalid, "the socket's path is too long: " + path, "use a shorter one");
  std::memcpy(peer.sun_path, path.data(), path.size());
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return fail_errno("cannot create a socket for wire=vhost-user:" + path);
  const timeval patience{.tv_sec = kPatience.count(), .tv_usec = 0};
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  const void* const address = &peer;
  if (::connect(socket.get(), static_cast<const sockaddr*>(address), sizeof peer) != 0) {
    Error error = no_back_end("cannot connect to wire=vhost-user:" + path);
    error.sys_errno = errno;
    return std::unexpected(std::move(error));
  }
  UPCI_TRY_ASSIGN(std::shared_ptr<GuestRam> memory, GuestRam::create(kMemory));
  std::unique_ptr<VhostUser> made(new VhostUser(std::move(socket), std::move(memory)));
  if (auto introduced = made->introduce(rings); !introduced) {
    if (introduced.error().code != Errc::kDevice) return std::unexpected(std::move(introduced.error()));
    return std::unexpected(
        no_back_end(fmt::format("what listens at {} is no vhost-user back end: {}", path, introduced.error().what)));
  }
  return made;
}

Result<void> VhostUser::introduce(std::uint16_t rings) {
  for (std::uint16_t i = 0; i < rings; ++i) {
    kicks_.emplace_back(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    calls_.emplace_back(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!kicks_.back() || !calls_.back()) return fail_errno("cannot make the eventfds of a ring");
  }
  UPCI_TRY(send(Message(kSetOwner)));
  UPCI_TRY_ASSIGN(features_, ask(Message(kGetFeatures)));
  if ((features_ & kProtocolFeatures) == 0) return fail(Errc::kDevice, "it has no protocol features");
  UPCI_TRY_ASSIGN(const std::uint64_t protocol, ask(Message(kGetProtocolFeatures)));
  if ((protocol & kReplyAck) == 0) return fail(Errc::kDevice, "it does not say whether it has done what it was told");
  return send(Message(kSetProtocolFeatures, kReplyAck));
}

Result<void> VhostUser::start(std::uint64_t features) {
  UPCI_TRY(demand(Message(kSetFeatures, (features & features_) | kProtocolFeatures)));
  const MemoryTable table{
      .regions = 1, .padding = 0, .guest_address = 0, .size = memory_->size(), .user_address = kUserBase, .offset = 0};
  const int fd = memory_->fd();
  return demand(Message(kSetMemTable, table), std::span(&fd, 1));
}

Result<void> VhostUser::start_ring(std::uint16_t index, const Ring& ring, std::uint32_t position) {
  UPCI_TRY(demand(Message(kSetVringNum, VringState{index, ring.size})));
  UPCI_TRY(demand(Message(kSetVringBase, VringState{index, position})));
  UPCI_TRY(demand(Message(kSetVringAddr, VringAddress{.index = index,
                                                      .flags = 0,
                                                      .descriptors = kUserBase + ring.descriptors,
                                                      .used = kUserBase + ring.device,
                                                      .available = kUserBase + ring.driver,
                                                      .log = 0})));
  const int call = calls_[index].get();
  UPCI_TRY(demand(Message(kSetVringCall, std::uint64_t{index}), std::span(&call, 1)));
  const int kick = kicks_[index].get();
  UPCI_TRY(demand(Message(kSetVringKick, std::uint64_t{index}), std::span(&kick, 1)));
  return demand(Message(kSetVringEnable, VringState{index, 1}));
}

Result<std::uint32_t> VhostUser::stop_ring(std::uint16_t index) {
  UPCI_TRY(send(Message(kGetVringBase, VringState{index, 0})));
  UPCI_TRY_ASSIGN(const Message answer, receive(kGetVringBase));
  if (answer.size != sizeof(VringState) || answer.as<VringState>().index != index)
    return fail(Errc::kDevice, "the vhost-user back end answers for another ring than it was asked about");
  return answer.as<VringState>().number;
}

void VhostUser::kick(std::uint16_t index) noexcept {
  const std::uint64_t one = 1;
  // A full counter is a kick already.
  static_cast<void>(::write(kicks_[index].get(), &one, sizeof one));
}

bool VhostUser::take_call(std::uint16_t index) noexcept {
  std::uint64_t count = 0;
  return ::read(calls_[index].get(), &count, sizeof count) == sizeof count;
}

bool VhostUser::lost() const noexcept {
  char byte = 0;
  return ::recv(socket_.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

Result<void> VhostUser::send(const Message& message, std::span<const int> fds) {
  std::array<std::byte, Message::kHeader + 40> bytes{};
  std::memcpy(bytes.data(), &message.request, 4);
  std::memcpy(bytes.data() + 4, &message.flags, 4);
  std::memcpy(bytes.data() + 8, &message.size, 4);
  std::memcpy(bytes.data() + Message::kHeader, message.payload.data(), message.size);
  iovec parts{bytes.data(), Message::kHeader + message.size};
  msghdr header{};
  header.msg_iov = &parts;
  header.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  if (!fds.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    cmsghdr* const descriptors = CMSG_FIRSTHDR(&header);
    descriptors->cmsg_level = SOL_SOCKET;
    descriptors->cmsg_type = SCM_RIGHTS;
    descriptors->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(descriptors), fds.data(), sizeof(int));
  }
  // So short a message goes as a whole, or not at all.
  ssize_t sent = -1;
  do sent = ::sendmsg(socket_.get(), &header, MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  if (sent == static_cast<ssize_t>(parts.iov_len)) return {};
  if (sent < 0 && errno == EAGAIN)
    return fail(Errc::kTimeout, fmt::format("the vhost-user back end took no message for {} s", kPatience.count()));
  return fail(Errc::kDevice, "the connection to the vhost-user back end is lost");
}

Result<VhostUser::Message> VhostUser::receive(std::uint32_t request) {
  Message answer;
  const auto read_all = [this](void* to, std::size_t count) -> Result<void> {
    auto* at = static_cast<std::byte*>(to);
    while (count != 0) {
      const ssize_t got = ::recv(socket_.get(), at, count, 0);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0 && errno == EAGAIN)
        return fail(Errc::kTimeout, fmt::format("the vhost-user back end did not answer for {} s", kPatience.count()));
      if (got <= 0) return fail(Errc::kDevice, "the connection to the vhost-user back end is lost");
      at += got;
      count -= static_cast<std::size_t>(got);
    }
    return {};
  };
  std::array<std::uint32_t, 3> header{};
  UPCI_TRY(read_all(header.data(), sizeof header));
  answer.request = header[0];
  answer.flags = header[1];
  answer.size = header[2];
  if (answer.request != request || (answer.flags & kReply) == 0 || answer.size > answer.payload.size()) {
    return fail(Errc::kDevice, fmt::format("the vhost-user back end answers request {} with {} ({} bytes)", request,
                                           answer.request, answer.size));
  }
  UPCI_TRY(read_all(answer.payload.data(), answer.size));
  return answer;
}

Result<std::uint64_t> VhostUser::ask(Message message) {
  UPCI_TRY(send(message));
  UPCI_TRY_ASSIGN(const Message answer, receive(message.request));
  if (answer.size != sizeof(std::uint64_t))
    return fail(Errc::kDevice,
                fmt::format("the vhost-user back end answers request {} with {} bytes", message.request, answer.size));
  return answer.as<std::uint64_t>();
}

Result<void> VhostUser::demand(Message message, std::span<const int> fds) {
  message.flags |= kNeedReply;
  UPCI_TRY(send(message, fds));
  UPCI_TRY_ASSIGN(const Message answer, receive(message.request));
  if (answer.size == sizeof(std::uint64_t) && answer.as<std::uint64_t>() == 0) return {};
  return fail(Errc::kDevice, fmt::format("the vhost-user back end refuses request {}", message.request));
}

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
