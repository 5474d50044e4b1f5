// SPDX-License-Identifier: Apache-2.0
#include "emulation/qemu/qtest.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <climits>

#include "base/log.h"

namespace upci::inline UPCI_VARIANT::emulation::qemu {
namespace {

/// No reply of the commands used here comes near it.
constexpr std::size_t kMaxLine = 4096;

constexpr std::uint64_t ones(unsigned width) noexcept {
  return width >= 8 ? ~std::uint64_t{0} : (std::uint64_t{1} << (8 * width)) - 1;
}

constexpr char letter(unsigned width) noexcept {
  switch (width) {
    case 1: return 'b';
    case 2: return 'w';
    case 4: return 'l';
    default: return 'q';
  }
}

/// A command line, made without an allocation.
class Command {
 public:
  template <class... Args>
  explicit Command(fmt::format_string<Args...> format, Args&&... args) {
    const auto result = fmt::format_to_n(text_.data(), text_.size(), format, std::forward<Args>(args)...);
    size_ = std::min<std::size_t>(result.size, text_.size());
  }
  std::string_view text() const noexcept { return {text_.data(), size_}; }

 private:
  std::array<char, 80> text_;
  std::size_t size_ = 0;
};

}  // namespace

std::uint64_t Qtest::read(std::uint64_t address, unsigned width) {
  return ask(Command("read{} {:#x}\n", letter(width), address).text(), width);
}

void Qtest::write(std::uint64_t address, unsigned width, std::uint64_t value) {
  tell(Command("write{} {:#x} {:#x}\n", letter(width), address, value & ones(width)).text(), Deadline::after(limit_));
}

std::uint32_t Qtest::in(std::uint16_t port, unsigned width) {
  return static_cast<std::uint32_t>(ask(Command("in{} {:#x}\n", letter(width), port).text(), width));
}

void Qtest::out(std::uint16_t port, unsigned width, std::uint32_t value) {
  tell(Command("out{} {:#x} {:#x}\n", letter(width), port, value & ones(width)).text(), Deadline::after(limit_));
}

bool Qtest::await_ready(Deadline deadline) {
  tell("outl 0xcf8 0x0\n", deadline);  // selects a config register, which does nothing
  return alive();
}

void Qtest::sever() noexcept {
  alive_.store(false, std::memory_order_release);
  // Wakes a poll() of this socket. The descriptor itself stays, since another thread may be using it.
  ::shutdown(socket_.get(), SHUT_RDWR);
}

std::uint64_t Qtest::ask(std::string_view command, unsigned width) {
  const Deadline deadline = Deadline::after(limit_);
  std::uint64_t value = 0;
  if (!alive()) return ones(width);
  if (!send_all(command, deadline) || !take_reply(deadline, &value)) {
    sever();
    return ones(width);
  }
  return value & ones(width);
}

void Qtest::tell(std::string_view command, Deadline deadline) {
  if (!alive()) return;
  if (!send_all(command, deadline) || !take_reply(deadline, nullptr)) sever();
}

bool Qtest::send_all(std::string_view bytes, Deadline deadline) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    } else if (errno == EAGAIN) {
      if (!await(POLLOUT, deadline)) return false;
    } else if (errno != EINTR) {
      return false;
    }
  }
  return true;
}

bool Qtest::take_reply(Deadline deadline, std::uint64_t* value) {
  std::string line;
  do {
    if (!take_line(deadline, line)) return false;
    // "IRQ raise 3": an interrupt line that somebody asked QEMU to tell of. It can come ahead of any reply.
  } while (line.starts_with("IRQ "));
  const std::string_view reply = line;
  if (reply != "OK" && !reply.starts_with("OK ")) {
    log::warn("qemu: not a qtest reply: '{}'", reply.substr(0, 80));
    return false;
  }
  if (value == nullptr) return true;
  if (!reply.starts_with("OK 0x")) return false;
  const std::string_view digits = reply.substr(5);
  return std::from_chars(digits.data(), digits.data() + digits.size(), *value, 16).ec == std::errc{};
}

bool Qtest::take_line(Deadline deadline, std::string& line) {
  for (;;) {
    if (const std::size_t end = received_.find('\n'); end != std::string::npos) {
      line.assign(received_, 0, end);
      received_.erase(0, end + 1);
      return true;
    }
    if (received_.size() > kMaxLine) return false;
    if (!await(POLLIN, deadline)) return false;
    std::array<char, 1024> buffer;
    const ssize_t got = ::recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got > 0) {
      received_.append(buffer.data(), static_cast<std::size_t>(got));
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
      return false;
    }
  }
}

bool Qtest::await(short events, Deadline deadline) {
  for (;;) {
    pollfd entry{.fd = socket_.get(), .events = events, .revents = 0};
    int timeout = -1;
    if (deadline.is_bounded()) {
      const std::int64_t ms = deadline.remaining().count() / 1'000'000 + 1;
      timeout = static_cast<int>(std::min<std::int64_t>(ms, INT_MAX));
    }
    const int ready = ::poll(&entry, 1, timeout);
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
    if (!alive() || deadline.expired()) return false;
  }
}

}  // namespace upci::inline UPCI_VARIANT::emulation::qemu
