// SPDX-License-Identifier: Apache-2.0
#include "device/device.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "device/irq.h"
#include "device/quarantine.h"

namespace upci::inline UPCI_VARIANT::device {

// --- DmaBuffer ---

DmaBuffer& DmaBuffer::operator=(DmaBuffer&& other) noexcept {
  if (this != &other) {
    release();
    state_ = std::move(other.state_);
    memory_ = std::move(other.memory_);
  }
  return *this;
}

DmaBuffer::~DmaBuffer() { release(); }

void DmaBuffer::release() noexcept {
  if (memory_ && state_ && state_->quarantined()) quarantine::keep(std::move(state_), std::move(memory_));
  memory_.reset();
  state_.reset();
}

// --- Device ---

Result<DmaBuffer> Device::dma_alloc(DmaRequest request) {
  if (state_->abandoned()) {
    return fail_verdict(Verdict::kGone, state_->recorder().step(), "",
                        name_ + ": no DMA memory for a device that was given up");
  }
  if (request.node < 0) request.node = node();
  UPCI_TRY_ASSIGN(std::unique_ptr<DmaMemory> memory, dma().alloc(request));
  return DmaBuffer(state_, std::move(memory));
}

void Device::set_features(std::vector<std::string> names) {
  const std::lock_guard lock(mutex_);
  features_ = std::move(names);
}

std::vector<std::string> Device::features() const {
  const std::lock_guard lock(mutex_);
  return features_;
}

void Device::abandon() noexcept {
  // First the flag: an access that the backend now lets go must find the device given up.
  state_->abandon();
  control().abandon();
}

void Device::probe_finished(bool) noexcept {}

void Device::shutdown_irqs() noexcept {
  std::vector<IrqVectors*> vectors;
  {
    const std::lock_guard lock(mutex_);
    vectors = irqs_;
  }
  // Without the lock: this waits for top halves. The owner of the vectors is being dismantled by the caller, so they stay.
  for (IrqVectors* v : vectors) v->shutdown();
}

// --- Bound ---

Result<void> Bound::freeze(Deadline) {
  return fail(Errc::kUnavailable, "the driver cannot put its device to sleep", "remove the device and probe it again");
}

Result<void> Bound::restore(Deadline) { return fail(Errc::kUnavailable, "the driver cannot wake its device up"); }

}  // namespace upci::inline UPCI_VARIANT::device
