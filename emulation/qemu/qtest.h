// SPDX-License-Identifier: Apache-2.0
// QEMU's qtest protocol: one command a line ("readl 0xb0000000"), one reply a line ("OK 0x1af41041").
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/deadline.h"
#include "base/platform.h"
#include "base/unique_fd.h"

namespace upci::inline UPCI_VARIANT::emulation::qemu {

/// Accesses to the guest's memory and port space. One caller at a time, but for sever() and alive().
///
/// Each access, a write too, returns when QEMU has carried it out. (Posted writes would be faster. But then a device
/// could still be without its DRIVER_OK when the device at the other end of its cable sends, and the frame would be
/// lost.) An access that QEMU has not answered by the limit, a reply that is none, or a closed socket ends the
/// connection for good: all reads are all ones then, and writes go nowhere.
class Qtest {
 public:
  /// `socket` is a stream socket to QEMU. `limit` bounds each access.
  Qtest(UniqueFd socket, platform::Nanoseconds limit) noexcept : socket_(std::move(socket)), limit_(limit) {}

  /// `width` is 1, 2, 4 or 8.
  std::uint64_t read(std::uint64_t address, unsigned width);
  void write(std::uint64_t address, unsigned width, std::uint64_t value);
  /// `width` is 1, 2 or 4.
  std::uint32_t in(std::uint16_t port, unsigned width);
  void out(std::uint16_t port, unsigned width, std::uint32_t value);

  /// Waits until QEMU answers at all. False when it has not by the deadline, which ends the connection.
  bool await_ready(Deadline deadline);

  /// Ends the connection; an access that waits for QEMU returns at once. Any thread, also while another one is in a
  /// call.
  void sever() noexcept;
  bool alive() const noexcept { return alive_.load(std::memory_order_acquire); }

 private:
  /// All ones on failure.
  std::uint64_t ask(std::string_view command, unsigned width);
  void tell(std::string_view command, Deadline deadline);
  bool send_all(std::string_view bytes, Deadline deadline);
  /// Takes one reply; the number in it goes to `value`. False ends the connection.
  bool take_reply(Deadline deadline, std::uint64_t* value);
  bool take_line(Deadline deadline, std::string& line);
  bool await(short events, Deadline deadline);

  const UniqueFd socket_;
  const platform::Nanoseconds limit_;
  platform::Atomic<bool> alive_{true};  // goes to false once, by anybody
  std::string received_;                // the caller's; bytes that no line has been made of
};

}  // namespace upci::inline UPCI_VARIANT::emulation::qemu
