// SPDX-License-Identifier: Apache-2.0
// What both transports share: reading fields of the device's own configuration, and their errors.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "device/state.h"
#include "pci/bar.h"

namespace upci::inline UPCI_VARIANT::virtio_pci {

/// A step within a step, for the flight recorder: reading the configuration while the queues are set up. Goes back on done();
/// when the inner step fails, the recorder stays there.
class StepScope {
 public:
  StepScope(device::DeviceState& state, std::string_view step) : state_(state) {
    if (!state_.records()) return;
    outer_ = state_.recorder().step();
    state_.recorder().enter_step(step);
  }
  void done() const {
    if (state_.records()) state_.recorder().enter_step(outer_);
  }

 private:
  device::DeviceState& state_;
  std::string outer_;
};

/// Reads one field with the widths that section "Device Configuration Space" (Driver Requirements) asks for: fields of 8, 16
/// and 32 bits in one access each, 64 bits in two of 32, anything else byte by byte.
inline void read_field(const pci::Bar& window, std::uint64_t offset, std::span<std::byte> into) {
  constexpr std::string_view kName = "device_config";
  const auto copy = [&into](std::size_t at, auto value) { std::memcpy(into.data() + at, &value, sizeof(value)); };
  const std::size_t size = into.size();
  if (size == 2 && offset % 2 == 0) {
    copy(0, window.load<std::uint16_t>(offset, kName));
  } else if ((size == 4 || size == 8) && offset % 4 == 0) {
    for (std::size_t at = 0; at < size; at += 4) copy(at, window.load<std::uint32_t>(offset + at, kName));
  } else {
    for (std::size_t at = 0; at < size; ++at) copy(at, window.load<std::uint8_t>(offset + at, kName));
  }
}

/// What the device does wrong while its queues are set up.
inline std::unexpected<Error> queue_error(Errc code, std::string reg, std::string what, std::string advice = {}) {
  return std::unexpected(Error{
      .code = code, .what = std::move(what), .advice = std::move(advice), .step = "queues", .reg = std::move(reg)});
}

/// A vector that does not read back. Section "MSI-X Vector Configuration": "the driver MUST verify success by reading the
/// Vector field value: on success, the previously written value is returned, and on failure, NO_VECTOR is returned".
inline std::unexpected<Error> vector_rejected(std::string reg, std::uint16_t vector) {
  return fail_verdict(Verdict::kRejected, "queues", std::move(reg),
                      "the device does not take interrupt vector " + std::to_string(vector),
                      "the device is out of interrupt resources; poll it, or free some");
}

}  // namespace upci::inline UPCI_VARIANT::virtio_pci
