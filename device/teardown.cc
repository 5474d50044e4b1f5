// SPDX-License-Identifier: Apache-2.0
#include "device/teardown.h"

#include <utility>

#include "device/quarantine.h"

namespace upci::inline UPCI_VARIANT::device {
namespace {

void keep_first(Result<void>& first, Result<void> next) {
  if (first && !next) first = std::move(next);
}

}  // namespace

void disable_works(Engine& engine, Bound& bound) {
  for (Bound* b = &bound; b != nullptr; b = b->child()) {
    for (Work* work : b->works()) engine.disable_work_sync(*work);
    for (DelayedWork* work : b->delayed_works()) engine.disable_delayed_work_sync(*work);
  }
}

void enable_works(Engine& engine, Bound& bound) {
  for (Bound* b = &bound; b != nullptr; b = b->child()) {
    for (Work* work : b->works()) engine.enable_work(*work);
    for (DelayedWork* work : b->delayed_works()) engine.enable_delayed_work(*work);
  }
}

Result<void> silence(Device& device, Deadline deadline) {
  Result<void> done = device.control().set_bus_master(false);
  const bool own_reset = done && device.state()->own_reset();
  keep_first(done, device.control().reset(deadline));
  if (!own_reset && !device.control().proven_quiet()) {
    device.state()->set_quarantined(true);
    if (done) {
      done = fail(Errc::kUnavailable, device.name() + ": the device cannot be proven to have stopped writing to memory",
                  "its memory stays in quarantine for the life of this process");
    }
    return done;
  }
  // A device without a function-level reset may be quiet all the same; what matters is the proof.
  device.state()->set_quarantined(false);
  quarantine::release(*device.state());
  return {};
}

Result<void> dismantle(Device& device, std::unique_ptr<Bound> bound, Deadline deadline) {
  device.probe_finished(false);
  Result<void> done;
  if (bound) done = bound->quiesce(deadline);
  device.shutdown_irqs();
  if (bound) disable_works(device.engine(), *bound);
  keep_first(done, silence(device, Deadline::after(kSilenceTimeout)));
  // Its buffers are freed now, or quarantined when the device may still write to them.
  bound.reset();
  return done;
}

}  // namespace upci::inline UPCI_VARIANT::device
