// SPDX-License-Identifier: Apache-2.0
// Private. Watches whether a bound device is wanted back by whoever lent it (an unplugged or unbound function of VFIO's).
#pragma once

#include <memory>

#include "base/error.h"
#include "device/context_impl.h"
#include "workqueue/event_source.h"

namespace upci::inline UPCI_VARIANT::device {

/// From start() to stop(), which comes before the driver's instance goes away. A device whose backend gives no notices costs
/// nothing.
class WithdrawalWatch {
 public:
  /// `bound` outlives the watch.
  WithdrawalWatch(Context::Impl& context, std::shared_ptr<Device> device, Bound& bound);
  ~WithdrawalWatch() { stop(); }
  WithdrawalWatch(const WithdrawalWatch&) = delete;
  WithdrawalWatch& operator=(const WithdrawalWatch&) = delete;

  /// Errors: kSystem; then the withdrawal is met by the driver's own waits only.
  Result<void> start();
  /// Waits for a top half that runs; a later start() does nothing. Idempotent; not from the top half itself.
  void stop() noexcept;

 private:
  static void on_event(void* self);
  void announce();

  Context::Impl& context_;
  const std::shared_ptr<Device> device_;
  Bound& bound_;
  EventSource source_{&WithdrawalWatch::on_event, this};  // its own rules
  platform::Mutex mutex_;                                 // not taken by the top half
  bool started_ = false;                                  // mutex_
  bool stopped_ = false;                                  // mutex_
  bool announced_ = false;                                // the top half
};

/// What a notice means to a driver and its user: verdict gone, step "removal".
Error withdrawal_error(const Device& device, DeviceControl::Notice notice);

}  // namespace upci::inline UPCI_VARIANT::device
