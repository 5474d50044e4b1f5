// SPDX-License-Identifier: Apache-2.0
// Who works on the queues of an emulated card: the card itself (net_model.h), or a vhost-user back end (vhost_path.h).
#pragma once

#include <cstdint>

#include "base/error.h"
#include "base/platform.h"
#include "device/dma.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {

struct Stats {
  std::uint64_t sent = 0;      // frames that went from the driver to the wire
  std::uint64_t received = 0;  // frames that went from the wire to the driver
  std::uint64_t dropped =
      0;  // frames that could not be passed on: malformed, too long, no link, or the other side is gone
};

/// Protected as a whole by the device's mutex.
class DataPath {
 public:
  virtual ~DataPath() = default;
  DataPath(const DataPath&) = delete;
  DataPath& operator=(const DataPath&) = delete;

  /// Puts the descriptors that the device's thread is to wait for into its queue. Errors: kSystem.
  virtual Result<void> watch(platform::EventQueue& events) = 0;
  /// One of them was reported with this token.
  virtual void ready(std::uint64_t token) = 0;

  struct Next {
    bool again = false;                            // there is more to do at once
    platform::TimePoint alarm = platform::kNever;  // or at this time
  };
  /// Does a bounded share of what there is to do.
  virtual Next run() = 0;
  /// These queues (a bit each) were reset: what was taken from them is gone.
  virtual void forget(std::uint32_t queues) noexcept = 0;
  /// The device is reset: frames under way inside it are gone. True when its queues are not touched any more.
  virtual bool reset() noexcept = 0;
  /// Bus mastering went off: the same, but the queues stay as they are.
  virtual bool pause() noexcept { return true; }

  /// The memory that the queues must lie in, or nullptr for the card's own.
  virtual device::DmaSpace* memory() noexcept { return nullptr; }
  virtual Stats stats() const noexcept = 0;

 protected:
  DataPath() = default;
};

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
