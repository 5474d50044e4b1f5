// SPDX-License-Identifier: Apache-2.0
#include "emulation/emu/interrupts.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

namespace upci::inline UPCI_VARIANT::emulation::emu {
namespace {

constexpr std::uint16_t kControlEnable = 0x8000;
constexpr std::uint16_t kControlMask = 0x4000;
constexpr std::uint64_t kEntryBytes = 16;

}  // namespace

Interrupts::Interrupts(unsigned vectors) : msix_(vectors != 0), vectors_(msix_ ? vectors : 1) { reset(); }

Result<void> Interrupts::enable(std::span<const int> eventfds) {
  if (eventfds.size() > vectors_.size()) {
    return fail(Errc::kInvalid, "the device has " + std::to_string(vectors_.size()) + " vectors, not " +
                                    std::to_string(eventfds.size()));
  }
  std::vector<UniqueFd> fds;
  for (const int fd : eventfds) {
    fds.emplace_back(fd < 0 ? -1 : ::fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (fd >= 0 && !fds.back()) return fail_errno("cannot route an interrupt to descriptor " + std::to_string(fd));
  }
  const std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < vectors_.size(); ++i) {
    vectors_[i].fd = i < fds.size() ? std::move(fds[i]) : UniqueFd();
    vectors_[i].masked = false;
  }
  enabled_ = true;
  function_masked_ = false;
  deliver_pending();
  return {};
}

Result<void> Interrupts::disable() {
  const std::lock_guard lock(mutex_);
  enabled_ = false;
  for (Vector& vector : vectors_) {
    vector.fd.reset();
    vector.masked = true;
    if (msix_) vector.pending = false;  // what the line stands at is the device's
  }
  return {};
}

Result<void> Interrupts::set_mask(unsigned vector, bool masked) {
  if (vector >= vectors_.size()) return fail(Errc::kInvalid, "the device has no vector " + std::to_string(vector));
  const std::lock_guard lock(mutex_);
  vectors_[vector].masked = masked;
  deliver_pending();
  return {};
}

Result<void> Interrupts::set_affinity(unsigned, int) {
  return fail(Errc::kUnavailable, "an emulated device's interrupts come from a thread, not from a CPU");
}

void Interrupts::raise(unsigned vector) noexcept {
  const std::lock_guard lock(mutex_);
  // A function sends no message while MSI-X is disabled, and keeps none for later.
  if (!msix_ || !enabled_ || vector >= vectors_.size()) return;
  vectors_[vector].pending = true;
  deliver_pending();
}

void Interrupts::raise_line() noexcept {
  const std::lock_guard lock(mutex_);
  if (msix_) return;
  vectors_[0].pending = true;
  deliver_pending();
}

void Interrupts::lower_line() noexcept {
  const std::lock_guard lock(mutex_);
  if (!msix_) vectors_[0].pending = false;
}

bool Interrupts::msix_enabled() const noexcept {
  const std::lock_guard lock(mutex_);
  return msix_ && enabled_;
}

void Interrupts::disable_line(bool disabled) noexcept {
  const std::lock_guard lock(mutex_);
  line_disabled_ = disabled;
  deliver_pending();
}

void Interrupts::reset() noexcept {
  const std::lock_guard lock(mutex_);
  enabled_ = false;
  function_masked_ = false;
  for (Vector& vector : vectors_) {
    vector.masked = true;
    vector.pending = false;
    for (std::uint32_t& word : vector.message) word = 0;
  }
}

std::uint16_t Interrupts::message_control() const noexcept {
  const std::lock_guard lock(mutex_);
  auto control = static_cast<std::uint16_t>(vectors_.size() - 1);
  if (enabled_) control = static_cast<std::uint16_t>(control | kControlEnable);
  if (function_masked_) control = static_cast<std::uint16_t>(control | kControlMask);
  return control;
}

void Interrupts::write_message_control(std::uint16_t value) noexcept {
  const std::lock_guard lock(mutex_);
  enabled_ = (value & kControlEnable) != 0;
  function_masked_ = (value & kControlMask) != 0;
  deliver_pending();
}

std::uint32_t Interrupts::read_table(std::uint64_t offset) const noexcept {
  const std::lock_guard lock(mutex_);
  if (offset == kPendingOffset) {
    std::uint32_t bits = 0;
    for (std::size_t i = 0; i < vectors_.size(); ++i) {
      if (vectors_[i].pending) bits |= std::uint32_t{1} << i;
    }
    return bits;
  }
  const std::uint64_t entry = offset / kEntryBytes;
  if (entry >= vectors_.size()) return 0;
  const std::uint64_t word = offset % kEntryBytes / 4;
  return word < 3 ? vectors_[entry].message[word] : static_cast<std::uint32_t>(vectors_[entry].masked);
}

void Interrupts::write_table(std::uint64_t offset, std::uint32_t value) noexcept {
  const std::lock_guard lock(mutex_);
  const std::uint64_t entry = offset / kEntryBytes;
  if (entry >= vectors_.size()) return;
  const std::uint64_t word = offset % kEntryBytes / 4;
  if (word < 3) {
    vectors_[entry].message[word] = value;
  } else {
    vectors_[entry].masked = (value & 1U) != 0;
    deliver_pending();
  }
}

void Interrupts::deliver(Vector& vector) noexcept {
  if (msix_) {
    vector.pending = false;
  } else {
    vector.masked = true;
  }
  if (!vector.fd) return;
  const std::uint64_t one = 1;
  while (::write(vector.fd.get(), &one, sizeof(one)) < 0 && errno == EINTR) {}
  platform::fd_signalled();
}

void Interrupts::deliver_pending() noexcept {
  if (!enabled_ || function_masked_ || (!msix_ && line_disabled_)) return;
  for (Vector& vector : vectors_) {
    if (vector.pending && !vector.masked) deliver(vector);
  }
}

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
