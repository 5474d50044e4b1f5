// SPDX-License-Identifier: Apache-2.0
#include "emulation/qemu/interrupts.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/pci_regs.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <mutex>

namespace upci::inline UPCI_VARIANT::emulation::qemu {
namespace {

/// For all messages to QEMU of one call, and for QEMU to have taken them: it needs microseconds.
constexpr platform::Nanoseconds kRoutingLimit = std::chrono::seconds(5);
/// An MSI message is 16 bits wide, so that the peer in its upper half is 0 (doorbell.h).
constexpr std::uint16_t kMsiPeer = 0;

constexpr std::uint32_t message_of(std::uint16_t peer, unsigned vector) noexcept {
  return std::uint32_t{peer} << 16 | vector;
}

/// A QEMU that ends while it takes an eventfd leaves it blocking (see confirm()).
void set_nonblocking(int fd) noexcept {
  if (const int flags = ::fcntl(fd, F_GETFL); flags >= 0) ::fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

std::unexpected<Error> gone() {
  return fail_verdict(Verdict::kGone, {}, {}, "QEMU has ended, and the device with it", "open the device again");
}

}  // namespace

Interrupts::Interrupts(platform::Mutex& access, Qtest& qtest, Fabric& fabric, Doorbell doorbell, bool wanted)
    : access_(access), qtest_(qtest), fabric_(fabric), doorbell_(std::move(doorbell)) {
  if (!wanted) return;
  const std::scoped_lock lock(access_);
  if (const std::uint16_t msix = fabric_.find_capability(PCI_CAP_ID_MSIX); msix != 0) find_msix(msix);
  if (kind_ != Kind::kNone) return;
  if (const std::uint16_t msi = fabric_.find_capability(PCI_CAP_ID_MSI); msi != 0) {
    kind_ = Kind::kMsi;
    count_ = 1;
    capability_ = msi;
    msi_wide_ = (fabric_.config_read(Fabric::Slot::kDevice, static_cast<std::uint16_t>(msi + PCI_MSI_FLAGS), 2) &
                 PCI_MSI_FLAGS_64BIT) != 0;
  }
}

void Interrupts::find_msix(std::uint16_t capability) {
  const auto at = [capability](unsigned offset) { return static_cast<std::uint16_t>(capability + offset); };
  const unsigned size = (fabric_.config_read(Fabric::Slot::kDevice, at(PCI_MSIX_FLAGS), 2) & PCI_MSIX_FLAGS_QSIZE) + 1;
  const std::uint32_t table = fabric_.config_read(Fabric::Slot::kDevice, at(PCI_MSIX_TABLE), 4);
  const unsigned bar = table & PCI_MSIX_TABLE_BIR;
  const std::uint64_t offset = table & PCI_MSIX_TABLE_OFFSET;
  // The device has written these. A table that is not inside its BAR is as good as none.
  if (bar >= Fabric::kBars) return;
  const BarPlace& place = fabric_.bar(bar);
  if (place.io || offset > place.size || std::uint64_t{size} * PCI_MSIX_ENTRY_SIZE > place.size - offset) return;
  kind_ = Kind::kMsix;
  count_ = std::min(size, kMaxVectors);
  capability_ = capability;
  table_bar_ = bar;
  table_offset_ = offset;
}

Result<void> Interrupts::enable(std::span<const int> eventfds) {
  if (eventfds.empty() || eventfds.size() > count_) {
    return fail(Errc::kInvalid,
                fmt::format("{} interrupt vectors were asked for; the device has {}", eventfds.size(), count_),
                count_ == 0 ? "poll the device" : "");
  }
  if (std::ranges::any_of(eventfds, [](int fd) { return fd < 0; })) {
    return fail(Errc::kInvalid, "an interrupt vector was given no eventfd");
  }
  UPCI_TRY(disable());
  const std::scoped_lock lock(access_);
  if (!qtest_.alive()) return gone();
  if (Result<void> routed = route(eventfds, Deadline::after(kRoutingLimit)); !routed) {
    forget();
    for (const int fd : eventfds) set_nonblocking(fd);
    return qtest_.alive() ? routed : gone();
  }
  program();
  if (!qtest_.alive()) return gone();
  return {};
}

/// Makes `vectors_` and tells QEMU of their eventfds; on success QEMU knows them all.
Result<void> Interrupts::route(std::span<const int> eventfds, Deadline deadline) {
  UPCI_TRY_ASSIGN(EventFd probe, EventFd::create());
  vectors_.clear();
  std::uint16_t peer = kMsiPeer;
  std::uint16_t first = 0;
  if (kind_ == Kind::kMsix) {
    UPCI_TRY_ASSIGN(peer, doorbell_.new_peer());
    peer_ = peer;
  } else {
    // A peer that has left cannot come back, and there is only the one: each routing takes its next vectors.
    if (next_msi_vector_ + 2U > Doorbell::kVectors) {
      return fail(Errc::kUnavailable,
                  fmt::format("MSI has been routed {} times: QEMU has no more vectors for it", Doorbell::kVectors / 2),
                  "open the device again");
    }
    first = next_msi_vector_;
    next_msi_vector_ = static_cast<std::uint16_t>(next_msi_vector_ + 2);
  }
  for (std::size_t i = 0; i < eventfds.size(); ++i) {
    UPCI_TRY(doorbell_.add_vector(peer, eventfds[i], deadline));
    Vector& vector = vectors_.emplace_back();
    vector.message = message_of(peer, first + static_cast<unsigned>(i));
    if (kind_ == Kind::kMsi) {
      vector.eventfd.reset(::fcntl(eventfds[i], F_DUPFD_CLOEXEC, 0));
      if (!vector.eventfd) return fail_errno("cannot keep the interrupt's eventfd");
    }
  }
  UPCI_TRY(doorbell_.add_vector(peer, probe.fd(), deadline));
  parking_message_ = message_of(peer, first + static_cast<unsigned>(eventfds.size()));
  probe_ = std::move(probe);
  return confirm(parking_message_, deadline);
}

/// QEMU takes what comes through the doorbell's socket when it finds time. It takes it in order: once the last eventfd
/// can be rung, all can.
///
/// While QEMU takes an eventfd it clears its O_NONBLOCK, which is the sender's too, and sets it again a moment later.
/// So the eventfd must not be read before it is known to be signalled.
Result<void> Interrupts::confirm(std::uint32_t message, Deadline deadline) {
  while (qtest_.alive()) {
    qtest_.write(fabric_.doorbell_address(), 4, message);
    pollfd signalled{.fd = probe_->fd(), .events = POLLIN, .revents = 0};
    if (::poll(&signalled, 1, 0) == 1) {
      probe_->drain();
      return {};
    }
    if (deadline.expired()) return fail(Errc::kTimeout, "QEMU has not taken the eventfds of the interrupts");
  }
  return gone();
}

void Interrupts::program() {
  if (vectors_.empty()) return;
  if (kind_ == Kind::kMsix) {
    program_msix();
  } else {
    program_msi();
  }
}

/// Entry by entry under mask, then on as a whole, then unmasked: PCI Express Base Specification, "MSI-X Configuration".
void Interrupts::program_msix() {
  const std::uint64_t address = fabric_.doorbell_address();
  for (unsigned i = 0; i < vectors_.size(); ++i) {
    const std::uint64_t entry = table_offset_ + std::uint64_t{i} * PCI_MSIX_ENTRY_SIZE;
    set_msix_mask(i, true);
    fabric_.bar_write(table_bar_, entry + PCI_MSIX_ENTRY_LOWER_ADDR, 4, address & 0xffffffff);
    fabric_.bar_write(table_bar_, entry + PCI_MSIX_ENTRY_UPPER_ADDR, 4, address >> 32);
    fabric_.bar_write(table_bar_, entry + PCI_MSIX_ENTRY_DATA, 4, vectors_[i].message);
  }
  const auto control = static_cast<std::uint16_t>(capability_ + PCI_MSIX_FLAGS);
  std::uint32_t flags = fabric_.config_read(Fabric::Slot::kDevice, control, 2);
  flags = (flags & ~std::uint32_t{PCI_MSIX_FLAGS_MASKALL}) | PCI_MSIX_FLAGS_ENABLE;
  fabric_.config_write(Fabric::Slot::kDevice, control, 2, flags);
  for (unsigned i = 0; i < vectors_.size(); ++i) {
    if (!vectors_[i].masked) set_msix_mask(i, false);
  }
}

void Interrupts::set_msix_mask(unsigned vector, bool masked) {
  const std::uint64_t entry = table_offset_ + std::uint64_t{vector} * PCI_MSIX_ENTRY_SIZE;
  fabric_.bar_write(table_bar_, entry + PCI_MSIX_ENTRY_VECTOR_CTRL, 4, masked ? PCI_MSIX_ENTRY_CTRL_MASKBIT : 0);
}

std::uint32_t Interrupts::msi_message() const noexcept {
  return vectors_[0].masked ? parking_message_ : vectors_[0].message;
}

void Interrupts::program_msi() {
  const auto write = [this](unsigned offset, unsigned width, std::uint32_t value) {
    fabric_.config_write(Fabric::Slot::kDevice, static_cast<std::uint16_t>(capability_ + offset), width, value);
  };
  const std::uint64_t address = fabric_.doorbell_address();
  write(PCI_MSI_ADDRESS_LO, 4, static_cast<std::uint32_t>(address));
  if (msi_wide_) write(PCI_MSI_ADDRESS_HI, 4, static_cast<std::uint32_t>(address >> 32));
  write(msi_wide_ ? PCI_MSI_DATA_64 : PCI_MSI_DATA_32, 2, msi_message());
  const auto control = static_cast<std::uint16_t>(capability_ + PCI_MSI_FLAGS);
  std::uint32_t flags = fabric_.config_read(Fabric::Slot::kDevice, control, 2);
  flags = (flags & ~std::uint32_t{PCI_MSI_FLAGS_QSIZE}) | PCI_MSI_FLAGS_ENABLE;  // one message
  fabric_.config_write(Fabric::Slot::kDevice, control, 2, flags);
}

Result<void> Interrupts::disable() {
  const std::scoped_lock lock(access_);
  if (vectors_.empty()) return {};
  switch_off();
  forget();
  return {};
}

void Interrupts::forget() {
  // Only so that QEMU closes its copies of the eventfds: the device is silent by now. A QEMU that has ended has closed
  // them.
  if (peer_ && qtest_.alive()) static_cast<void>(doorbell_.remove_peer(*peer_, Deadline::after(kRoutingLimit)));
  peer_.reset();
  vectors_.clear();
  probe_.reset();
}

void Interrupts::switch_off() {
  const bool msix = kind_ == Kind::kMsix;
  for (unsigned i = 0; msix && i < vectors_.size(); ++i) set_msix_mask(i, true);
  const auto control = static_cast<std::uint16_t>(capability_ + (msix ? PCI_MSIX_FLAGS : PCI_MSI_FLAGS));
  const std::uint32_t on = msix ? PCI_MSIX_FLAGS_ENABLE : PCI_MSI_FLAGS_ENABLE;
  const std::uint32_t flags = fabric_.config_read(Fabric::Slot::kDevice, control, 2);
  fabric_.config_write(Fabric::Slot::kDevice, control, 2, flags & ~on);
}

Result<void> Interrupts::set_mask(unsigned vector, bool masked) {
  const std::scoped_lock lock(access_);
  if (vector >= vectors_.size()) {
    return fail(Errc::kInvalid, fmt::format("interrupt vector {} is not enabled", vector));
  }
  Vector& entry = vectors_[vector];
  if (entry.masked == masked) return {};
  entry.masked = masked;
  if (kind_ == Kind::kMsix) {
    set_msix_mask(vector, masked);
    return {};
  }
  // MSI need not have mask bits. A masked vector's messages go to an eventfd of ours, and are made up for afterwards.
  fabric_.config_write(Fabric::Slot::kDevice,
                       static_cast<std::uint16_t>(capability_ + (msi_wide_ ? PCI_MSI_DATA_64 : PCI_MSI_DATA_32)), 2,
                       msi_message());
  if (!masked && probe_->drain() != 0) {
    const std::uint64_t one = 1;
    while (::write(entry.eventfd.get(), &one, sizeof(one)) < 0 && errno == EINTR) {}
  }
  return {};
}

Result<void> Interrupts::set_affinity(unsigned, int) {
  return fail(Errc::kUnavailable, "QEMU signals interrupts from a thread of its own, on whatever CPU that runs");
}

void Interrupts::restore() { program(); }

}  // namespace upci::inline UPCI_VARIANT::emulation::qemu
