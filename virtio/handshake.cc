// SPDX-License-Identifier: Apache-2.0
// The status handshake. Section "General Initialization And Device Operation / Device Initialization".
//
// Each step is a function of its own that is never inlined: the backtrace in a report then names the step that waited.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <chrono>
#include <string_view>
#include <utility>

#include "base/log.h"
#include "device/wait.h"
#include "virtio/driver.h"
#include "virtio/negotiate.h"
#include "virtio/queue.h"
#include "virtio/spec/features.h"
#include "virtio/spec/status.h"

namespace upci::inline UPCI_VARIANT::virtio {
namespace {

namespace status = spec::status;

constexpr std::uint8_t kAllOnes = 0xff;
constexpr std::string_view kStatusRegister = "device_status";
// A failed probe whose deadline has passed still has to silence the device before its memory is freed.
constexpr auto kCleanupTime = std::chrono::milliseconds(100);

device::DeviceState& state_of(Transport& transport) { return *transport.device().state(); }

/// Waits until the status register is as `judge` wants it. NEEDS_RESET ends the wait; all ones on a device that is still
/// there can mean nothing but that it does not decode its registers, so they are waited out.
template <class Judge>
Result<void> wait_for_status(Transport& transport, std::string_view step, Deadline deadline, Judge judge) {
  auto seen = device::wait_for_register(state_of(transport), transport.device().control(),
                                        {.step = step,
                                         .reg = kStatusRegister,
                                         .deadline = deadline,
                                         .all_ones = kAllOnes,
                                         .read = [&transport] { return std::uint64_t{transport.status()}; },
                                         .judge =
                                             [&judge](std::uint64_t value) {
                                               if (value == kAllOnes) return device::WaitStep::kAgain;
                                               if ((value & status::kNeedsReset) != 0)
                                                 return device::WaitStep::kNeedsReset;
                                               return judge(static_cast<std::uint8_t>(value));
                                             },
                                         .stuck_advice = "what was written does not read back, although the device is "
                                                         "there: the accesses do not reach it; check that "
                                                         "memory or I/O decoding is on (bits 1 and 0 of the Command "
                                                         "register) in the device and in every bridge above "
                                                         "it"});
  if (!seen) return std::unexpected(std::move(seen).error());
  return {};
}

constexpr std::uint8_t kPresent = status::kAcknowledge | status::kDriver;

device::WaitStep any(std::uint8_t) { return device::WaitStep::kDone; }

/// A status bit that was written must read back; where it does not, writes do not reach the device.
template <std::uint8_t Bits>
device::WaitStep reads_back(std::uint8_t value) {
  return (value & Bits) == Bits ? device::WaitStep::kDone : device::WaitStep::kAgain;
}

/// Steps 2 and 3: "Set the ACKNOWLEDGE status bit", "Set the DRIVER status bit".
[[gnu::noinline]] Result<void> acknowledge(Transport& transport, Deadline deadline) {
  state_of(transport).recorder().enter_step("acknowledge");
  transport.set_status(status::kAcknowledge);
  transport.set_status(kPresent);
  return wait_for_status(transport, "acknowledge", deadline, reads_back<kPresent>);
}

/// Step 4: "Read device feature bits, and write the subset of feature bits understood by the OS and driver to the device."
[[gnu::noinline]] Result<std::uint64_t> negotiate_features(Transport& transport, Driver& driver, Deadline deadline) {
  state_of(transport).recorder().enter_step("features");
  const std::uint64_t offered = transport.device_features();
  // Before they are believed: what a dead device offers is all ones.
  const std::uint64_t everything = transport.legacy() ? 0xffff'ffffU : ~std::uint64_t{0};
  if (offered == everything) UPCI_TRY(wait_for_status(transport, "features", deadline, any));
  UPCI_TRY_ASSIGN(const std::uint64_t features,
                  negotiate(driver.features(transport.legacy()), offered, transport.device_id(), transport.legacy(),
                            transport.device().options()));
  transport.set_driver_features(features);
  transport.device().set_features(feature_names(transport.device_id(), features));
  return features;
}

/// Steps 5 and 6: "Set the FEATURES_OK status bit. The driver MUST NOT accept new feature bits after this step", "Re-read
/// device status to ensure the FEATURES_OK bit is still set". Section "Legacy Interface: Device Initialization": legacy
/// devices have neither.
[[gnu::noinline]] Result<void> confirm_features(Transport& transport, Deadline deadline) {
  state_of(transport).recorder().enter_step("features_ok");
  transport.set_status(kPresent | status::kFeaturesOk);
  return wait_for_status(transport, "features_ok", deadline, [](std::uint8_t value) {
    return (value & status::kFeaturesOk) != 0 ? device::WaitStep::kDone : device::WaitStep::kRejected;
  });
}

/// Step 7: "Perform device-specific setup". `bound` is set as soon as there is one: the caller then silences the device
/// before it goes away.
[[gnu::noinline]] Result<void> set_up_queues(const std::shared_ptr<Transport>& transport, Driver& driver,
                                             std::uint64_t features, Deadline deadline, std::unique_ptr<Bound>& bound) {
  state_of(*transport).recorder().enter_step("queues");
  Device device(transport, features);
  UPCI_TRY_ASSIGN(bound, driver.probe(device, deadline));
  return wait_for_status(*transport, "queues", deadline, any);
}

/// Step 8: "Set the DRIVER_OK status bit. At this point the device is 'live'."
[[gnu::noinline]] Result<void> go_live(Transport& transport, Deadline deadline) {
  state_of(transport).recorder().enter_step("driver_ok");
  const std::uint8_t features_ok = transport.legacy() ? std::uint8_t{0} : status::kFeaturesOk;
  transport.set_status(static_cast<std::uint8_t>(kPresent | features_ok | status::kDriverOk));
  return wait_for_status(transport, "driver_ok", deadline, reads_back<status::kDriverOk>);
}

/// "If any of these steps go irrecoverably wrong, the driver SHOULD set the FAILED status bit to indicate that it has given
/// up on the device". Not on a device that is not there.
void give_up(Transport& transport, const Error& error) {
  if (error.verdict == Verdict::kGone || state_of(transport).abandoned()) return;
  transport.set_status(static_cast<std::uint8_t>(transport.status() | status::kFailed));
}

/// The steps after the reset. `bound` as in set_up_queues.
Result<void> bring_up(const std::shared_ptr<Transport>& transport, Driver& driver, Deadline deadline,
                      std::unique_ptr<Bound>& bound) {
  // Only now, after the reset: a device that was left running with another driver's rings must not reach memory.
  state_of(*transport).set_own_reset(false);
  UPCI_TRY(transport->device().control().set_bus_master(true));
  UPCI_TRY(acknowledge(*transport, deadline));
  UPCI_TRY_ASSIGN(const std::uint64_t features, negotiate_features(*transport, driver, deadline));
  if (!transport->legacy()) UPCI_TRY(confirm_features(*transport, deadline));
  UPCI_TRY(set_up_queues(transport, driver, features, deadline, bound));
  UPCI_TRY(go_live(*transport, deadline));
  return bound->start(deadline);
}

}  // namespace

// The last read of a wait is made at the deadline itself; see device/wait.h.
[[gnu::noinline]] Result<void> reset(Transport& transport, Deadline deadline) {
  state_of(transport).recorder().enter_step("reset");
  transport.set_status(status::kReset);
  auto seen = device::wait_for_register(
      state_of(transport), transport.device().control(),
      {.step = "reset",
       .reg = kStatusRegister,
       .deadline = deadline,
       .all_ones = kAllOnes,
       .read = [&transport] { return std::uint64_t{transport.status()}; },
       // NEEDS_RESET means nothing here: it is being reset.
       .judge =
           [](std::uint64_t value) {
             return value == status::kReset ? device::WaitStep::kDone : device::WaitStep::kAgain;
           },
       .stuck_advice =
           "the device does not finish its reset; if it reads all ones, check that memory or I/O decoding is on in "
           "the device and in every bridge above it; otherwise reset the function or the machine's slot"});
  if (!seen) return std::unexpected(std::move(seen).error());
  return {};
}

Result<std::unique_ptr<Bound>> initialize(std::shared_ptr<Transport> transport, Driver& driver, Deadline deadline) {
  UPCI_TRY(reset(*transport, deadline));
  std::unique_ptr<Bound> bound;
  auto live = bring_up(transport, driver, deadline, bound);
  if (live) return bound;

  Error error = std::move(live).error();
  if (error.code == Errc::kDevice && !transport->device().control().present()) {
    // What a device that has left reads as is nonsense; say the cause.
    const FlightRecorder& recorder = state_of(*transport).recorder();
    error = fail_verdict(Verdict::kGone, recorder.step(), recorder.last_register(),
                         "the device has left its bus: " + error.what)
                .error();
  }
  bool quiet = true;
  if (bound != nullptr) {
    // The device knows the queues: it has to be quiet before their memory goes away with `bound`. The report is about what
    // failed first, so the recorder goes back to that.
    FlightRecorder& recorder = state_of(*transport).recorder();
    const std::string step = recorder.step();
    const StackTrace stack = recorder.stack();
    if (auto done = silence(*transport, Deadline::after(kCleanupTime)); !done) {
      log::debug("{}: reset after a failed probe: {}", transport->device().name(), done.error().message());
      quiet = false;
    }
    recorder.enter_step(step);
    if (stack.depth != 0) recorder.keep_stack(stack);
  }
  // Never over the stale status of a device whose reset did not end.
  if (quiet) give_up(*transport, error);
  return std::unexpected(std::move(error));
}

// Section "Device Status Field": of a device that has set DEVICE_NEEDS_RESET the driver "can attempt to recover by issuing a
// reset".
Result<void> restart(Transport& transport, std::uint64_t features, const std::function<void()>& silent,
                     const std::function<Result<void>()>& set_up, Deadline deadline) {
  UPCI_TRY(reset(transport, deadline));
  silent();
  state_of(transport).set_own_reset(false);
  UPCI_TRY(transport.device().control().set_bus_master(true));  // off since it was frozen, if it was
  UPCI_TRY(acknowledge(transport, deadline));
  state_of(transport).recorder().enter_step("features");
  const std::uint64_t offered = transport.device_features();
  UPCI_TRY(wait_for_status(transport, "features", deadline, any));
  if (const std::uint64_t missing = features & ~offered; missing != 0) {
    return fail_verdict(Verdict::kRejected, "features", "device_feature",
                        fmt::format("after a reset the device offers {} no more",
                                    fmt::join(feature_names(transport.device_id(), missing), ", ")),
                        "remove the device and probe it again");
  }
  transport.set_driver_features(features);
  if (!transport.legacy()) UPCI_TRY(confirm_features(transport, deadline));
  state_of(transport).recorder().enter_step("queues");
  UPCI_TRY(set_up());
  UPCI_TRY(wait_for_status(transport, "queues", deadline, any));
  return go_live(transport, deadline);
}

}  // namespace upci::inline UPCI_VARIANT::virtio
