// SPDX-License-Identifier: Apache-2.0
// The control queue: one command at a time, each waited for, with a deadline. Section "Control Virtqueue".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <span>
#include <utility>

#include "base/wait.h"
#include "device/wait.h"
#include "virtio/driver.h"
#include "virtio/queue.h"
#include "virtio/ring_memory.h"
#include "virtio/spec/net.h"
#include "virtio/spec/status.h"

namespace upci::inline UPCI_VARIANT::virtio_net {

/// What the control path needs of a control queue, whatever its rings are.
class ControlQueue {
 public:
  virtual ~ControlQueue() = default;
  /// Sends a command and waits for its end. `tables` splits command-specific data that is more than one piece
  /// (MAC_TABLE_SET); others have one or none. Errors: kVerdict (stuck, gone, needs_reset; step "control"), kDevice when the
  /// device refuses or breaks the ring, kState after a command that was never answered. Any thread that may sleep.
  virtual Result<void> command(std::uint8_t command_class, std::uint8_t command,
                               std::span<const std::span<const std::byte>> pieces, Deadline deadline) = 0;
  /// Keeps commands out, until the lock goes.
  virtual std::unique_lock<Mutex> hold() = 0;
  /// Under that lock, after a reset of the device: begins anew.
  virtual void restart() = 0;
  /// Under that lock: commands are refused, those that wait for the lock too.
  virtual void set_frozen(bool frozen) noexcept = 0;
  virtual void set_notifier(std::unique_ptr<virtio::Notifier> notifier) noexcept = 0;
};

template <class Ring>
class ControlQueueImpl final : public ControlQueue {
 public:
  /// `buffer`: kBytes of DMA memory.
  ControlQueueImpl(virtio::Device device, virtio::OwnedRing<Ring> part, device::DmaBuffer buffer)
      : device_(std::move(device)),
        ring_memory_(std::move(part.memory)),
        buffer_(std::move(buffer)),
        ring_(std::move(part.ring)) {
    ring_.disable_interrupts();  // it is waited for by looking
  }

  static constexpr std::size_t kBytes = 4096;

  void set_notifier(std::unique_ptr<virtio::Notifier> notifier) noexcept override { notifier_ = std::move(notifier); }
  std::unique_lock<Mutex> hold() override { return std::unique_lock(mutex_); }
  void restart() override {
    ring_.detach_all([](void*) {});
    std::memset(ring_memory_.va(), 0, ring_memory_.size());
    ring_.restart();
    ring_.disable_interrupts();
    unanswered_ = false;
  }

  void set_frozen(bool frozen) noexcept override { frozen_ = frozen; }

  Result<void> command(std::uint8_t command_class, std::uint8_t command,
                       std::span<const std::span<const std::byte>> pieces, Deadline deadline) override {
    namespace net = virtio::spec::net;
    const std::lock_guard lock(mutex_);
    if (frozen_) {
      return fail(Errc::kState, device_.device().name() + ": the network card is frozen", "restore it first");
    }
    if (unanswered_) {
      return fail(Errc::kState, device_.device().name() + ": the control queue waits for an answer that did not come",
                  "remove the device and probe it again");
    }
    // Section "Legacy Interface: Framing Requirements" wants the header, each table and the answer in descriptors of their
    // own; a modern device takes any layout, so this one as well.
    std::array<virtio::Segment, 5> chain;
    std::size_t count = 0;
    std::size_t at = kDataAt;
    const std::array<std::uint8_t, 2> header = {command_class, command};
    std::memcpy(buffer_.va(), header.data(), header.size());
    chain[count++] = {.iova = buffer_.iova(), .len = header.size(), .device_writes = false};
    for (const std::span<const std::byte> piece : pieces) {
      if (count + 1 == chain.size() || piece.size() > kBytes - at) {
        return fail(Errc::kInvalid, "a command for the network card is too long", "give it fewer entries");
      }
      std::memcpy(buffer_.va() + at, piece.data(), piece.size());
      chain[count++] = {
          .iova = buffer_.iova() + at, .len = static_cast<std::uint32_t>(piece.size()), .device_writes = false};
      at += piece.size();
    }
    buffer_.va()[kAckAt] = std::byte{kNoAnswer};
    chain[count++] = {.iova = buffer_.iova() + kAckAt, .len = 1, .device_writes = true};
    if (!ring_.add(std::span(chain).first(count), this)) return std::unexpected(broken());
    unanswered_ = true;
    if (ring_.publish()) notifier_->notify(ring_.next_position());
    UPCI_TRY(wait(deadline));
    if (ring_.poll(1, [](void*, std::uint32_t) {}) != 1) return std::unexpected(broken());
    unanswered_ = false;
    const auto ack = static_cast<std::uint8_t>(buffer_.va()[kAckAt]);
    if (ack == net::kControlOk) return {};
    return std::unexpected(
        Error{.code = Errc::kDevice,
              .what = device_.device().name() + ": the network card answers " + std::to_string(ack) + " to command " +
                      std::to_string(command) + " of class " + std::to_string(command_class),
              .advice = ack == kNoAnswer ? "it has used the buffer without an answer: the device is at fault"
                                         : "it does not take the values, or has too little room for them",
              .step = "control"});
  }

 private:
  static constexpr std::size_t kAckAt = 64;
  static constexpr std::size_t kDataAt = 128;
  static constexpr std::uint8_t kNoAnswer = 0xff;

  /// The specification has no time limit here. While waiting, a device that wants to be reset or has left is noticed.
  Result<void> wait(Deadline deadline) {
    auto seen = device::wait_for_register(
        *device_.device().state(), device_.device().control(),
        {.step = "control",
         .reg = "device_status",
         .deadline = deadline,
         .all_ones = 0xff,
         .read = [this] { return std::uint64_t{device_.transport().status()}; },
         .judge =
             [this](std::uint64_t status) {
               if (ring_.has_used() || ring_.broken()) return device::WaitStep::kDone;
               return (status & virtio::spec::status::kNeedsReset) != 0 ? device::WaitStep::kNeedsReset
                                                                        : device::WaitStep::kAgain;
             },
         .stuck_advice =
             "the network card does not answer on its control queue: remove the device and probe it again"});
    if (!seen) return std::unexpected(std::move(seen).error());
    return {};
  }

  Error broken() const {
    if (auto error = ring_.error()) return *error;
    return {.code = Errc::kDevice, .what = device_.device().name() + ": the control queue has no room"};
  }

  const virtio::Device device_;
  const device::DmaBuffer ring_memory_;
  const device::DmaBuffer buffer_;
  Mutex mutex_;
  std::unique_ptr<virtio::Notifier> notifier_;  // mutex_ once the card is live
  Ring ring_;                                   // mutex_
  bool unanswered_ = false;  // mutex_: a command is in the device's hands; after a verdict until a reset
  bool frozen_ = false;      // mutex_
};

}  // namespace upci::inline UPCI_VARIANT::virtio_net
