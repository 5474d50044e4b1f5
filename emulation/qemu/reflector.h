// SPDX-License-Identifier: Apache-2.0
// The far end of a loopback wire: sends each frame back to where it came from.
#pragma once

#include <memory>

#include "base/error.h"
#include "base/event_fd.h"
#include "base/platform.h"
#include "base/unique_fd.h"

namespace upci::inline UPCI_VARIANT::emulation::qemu {

/// A thread and one end of a datagram socket pair. No frame is lost, and their order is kept: frames that the other
/// side does not take yet are held in memory, and when kMaxHeld of them are, none is read, so that the other side has
/// to wait.
class Reflector {
 public:
  static constexpr std::size_t kMaxHeld = 4096;

  /// Errors: kSystem.
  static Result<std::unique_ptr<Reflector>> create();
  /// Ends the thread at once; frames that it holds are dropped, as in a cable that is cut.
  ~Reflector();

  /// The device's end, to be handed over at launch and closed here afterwards.
  int device_fd() const noexcept { return device_end_.get(); }
  void handed_over() noexcept { device_end_.reset(); }

 private:
  Reflector(UniqueFd own_end, UniqueFd device_end, EventFd stop) noexcept
      : own_end_(std::move(own_end)), device_end_(std::move(device_end)), stop_(std::move(stop)) {}
  void run();

  const UniqueFd own_end_;
  UniqueFd device_end_;  // the launching thread's
  const EventFd stop_;
  platform::Thread thread_;
};

}  // namespace upci::inline UPCI_VARIANT::emulation::qemu
