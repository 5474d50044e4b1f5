// SPDX-License-Identifier: Apache-2.0
// What an emulated network card was asked to be, after its words were checked.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/platform.h"
#include "emulation/device_spec.h"
#include "emulation/emu/faults.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {

enum class Interface : std::uint8_t { kModern, kLegacy, kTransitional };

struct Options {
  std::string name;
  Interface interface = Interface::kModern;
  std::array<std::uint8_t, 6> mac{};
  std::uint16_t mtu = 0;  // 0: MTU is not offered
  std::uint16_t queue_size = 256;
  std::uint16_t vectors = 3;  // MSI-X vectors; 0: one INTx line
  bool link_up = true;
  bool mrg_rxbuf = true;
  bool event_idx = true;
  bool indirect_desc = true;
  bool access_platform = true;  // modern interface only, as those that follow
  bool notification_data = false;
  bool order_platform = false;
  bool ring_reset = false;
  bool in_order = false;
  bool packed = false;
  bool uso = false;  // with the checksums that it rests on
  Fault fault = Fault::kNone;
  platform::Nanoseconds fault_delay = std::chrono::milliseconds(1200);
  int node = 0;

  bool has_modern() const noexcept { return interface != Interface::kLegacy; }
  bool has_legacy() const noexcept { return interface != Interface::kModern; }
};

struct WordInfo {
  std::string_view word;  // as it is written: "mtu=68..65521"
  std::string_view what;
};
/// The words that a device of this scheme understands, for help texts.
std::span<const WordInfo> all_words() noexcept;

/// Errors: kInvalid for a model, word, value or fault that does not exist or does not fit the others.
Result<Options> parse_options(const DeviceSpec& spec);

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
