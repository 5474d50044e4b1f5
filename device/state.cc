// SPDX-License-Identifier: Apache-2.0
#include "device/state.h"

namespace upci::inline UPCI_VARIANT::device {

namespace {
struct DrivenState;  // the thread's slot: the DeviceState that it drives
}

void DeviceState::start_probe() noexcept {
  recorder_.start();
  longest_wait_ = {};
}

bool DeviceState::records() const noexcept {
  return !taken_.load(std::memory_order_relaxed) || platform::thread_slot<DrivenState>() == this;
}

void DeviceState::note_wait(std::string_view step, std::string_view reg, platform::Nanoseconds took) {
  if (took <= longest_wait_.took) return;
  longest_wait_ = {.step = std::string(step), .reg = std::string(reg), .took = took};
}

DrivingScope::DrivingScope(DeviceState& state) noexcept : outer_(platform::thread_slot<DrivenState>()) {
  platform::thread_slot<DrivenState>() = &state;
  state.taken_.store(true, std::memory_order_relaxed);
}

DrivingScope::~DrivingScope() { platform::thread_slot<DrivenState>() = outer_; }

}  // namespace upci::inline UPCI_VARIANT::device
