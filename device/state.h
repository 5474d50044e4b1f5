// SPDX-License-Identifier: Apache-2.0
// What outlives a probe that was given up: shared, reference-counted, between the device, its accessors and its worker.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/flight_recorder.h"
#include "base/platform.h"

namespace upci::inline UPCI_VARIANT::device {

/// The state that register accessors, waits and DMA buffers of one device share. Thread-safe where not said otherwise.
class DeviceState {
 public:
  explicit DeviceState(FlightRecorder recorder) : recorder_(std::move(recorder)) {}

  /// Written by the thread that drives the device only; readable by all.
  FlightRecorder& recorder() noexcept { return recorder_; }
  const FlightRecorder& recorder() const noexcept { return recorder_; }

  /// After this every access returns all ones and every wait ends in `gone`.
  void abandon() noexcept { abandoned_.store(true, std::memory_order_release); }
  bool abandoned() const noexcept { return abandoned_.load(std::memory_order_acquire); }

  /// Restarts the recorder for a new probe. The driving thread only.
  void start_probe() noexcept;
  /// True when the calling thread may write to the recorder. Until the driver core takes the device that is whoever uses it
  /// first; from then on only the thread in a DrivingScope: the data path's threads must not write between its entries.
  bool records() const noexcept;

  /// A wait that ended well, for the report of a slow probe: the longest one says what was slow. The driving thread only.
  struct LongestWait {
    std::string step;
    std::string reg;
    platform::Nanoseconds took{};
  };
  void note_wait(std::string_view step, std::string_view reg, platform::Nanoseconds took);
  const LongestWait& longest_wait() const noexcept { return longest_wait_; }

  /// The device may still write to its memory: DMA buffers are kept instead of freed, until it is proven quiet.
  void set_quarantined(bool on) noexcept { quarantined_.store(on, std::memory_order_release); }
  bool quarantined() const noexcept { return quarantined_.load(std::memory_order_acquire); }

  /// The driver has reset the device by the device's own means, the device has confirmed it, and nothing was started since.
  /// With bus mastering off that proves a function quiet that has no function-level reset.
  void set_own_reset(bool on) noexcept { own_reset_.store(on, std::memory_order_release); }
  bool own_reset() const noexcept { return own_reset_.load(std::memory_order_acquire); }

 private:
  friend class DrivingScope;
  FlightRecorder recorder_;                    // its own rules
  LongestWait longest_wait_;                   // the driving thread
  platform::Atomic<bool> taken_{false};        // atomic; set by the first DrivingScope
  platform::Atomic<bool> abandoned_{false};    // atomic; set once
  platform::Atomic<bool> quarantined_{false};  // atomic
  platform::Atomic<bool> own_reset_{false};    // atomic
};

/// While it lives, the calling thread is the one that drives the device: its accesses, and no other thread's, are recorded.
/// One at a time per device. Nests over different devices.
class DrivingScope {
 public:
  explicit DrivingScope(DeviceState& state) noexcept;
  ~DrivingScope();
  DrivingScope(const DrivingScope&) = delete;
  DrivingScope& operator=(const DrivingScope&) = delete;

 private:
  void* outer_;
};

}  // namespace upci::inline UPCI_VARIANT::device
