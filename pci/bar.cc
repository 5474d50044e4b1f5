// SPDX-License-Identifier: Apache-2.0
#include "pci/bar.h"

#include <fmt/format.h>

#include <array>

namespace upci::inline UPCI_VARIANT::pci {
namespace {

constexpr std::uint64_t kAllOnes = ~std::uint64_t{0};

/// Notes one access in the flight recorder, when the calling thread is the one that drives the device.
class RecordedAccess {
 public:
  RecordedAccess(const BarState& bar, std::string_view name, std::uint64_t offset, bool write, std::uint64_t value)
      : state_(*bar.device), records_(state_.records()) {
    if (!records_) return;
    std::array<char, 32> text;
    if (name.empty()) {
      const auto end = fmt::format_to_n(text.data(), text.size(), "bar{}+{:#x}", bar.index, offset).out;
      name = std::string_view(text.data(), static_cast<std::size_t>(end - text.data()));
    }
    state_.recorder().begin_access(name, write, value);
  }
  /// False when the device was given up meanwhile. The access then stays open in the record: it is what hung.
  bool end(std::uint64_t value) {
    if (state_.abandoned()) return false;
    if (records_) state_.recorder().end_access(value);
    return true;
  }

 private:
  device::DeviceState& state_;
  const bool records_;
};

template <class V>
std::uint64_t load_mapped(const std::byte* at) {
  return *reinterpret_cast<const volatile V*>(at);
}
template <class V>
void store_mapped(std::byte* at, std::uint64_t value) {
  *reinterpret_cast<volatile V*>(at) = static_cast<V>(value);
}

std::uint64_t raw_read(const BarState& bar, std::uint64_t offset, unsigned width) {
  if (bar.mapping == nullptr) return bar.backend->bar_read(bar.index, offset, width);
  const std::byte* at = bar.mapping + offset;
  switch (width) {
    case 1: return load_mapped<std::uint8_t>(at);
    case 2: return load_mapped<std::uint16_t>(at);
    case 4: return load_mapped<std::uint32_t>(at);
    default: return load_mapped<std::uint64_t>(at);
  }
}

void raw_write(const BarState& bar, std::uint64_t offset, unsigned width, std::uint64_t value) {
  if (bar.mapping == nullptr) return bar.backend->bar_write(bar.index, offset, width, value);
  std::byte* at = bar.mapping + offset;
  switch (width) {
    case 1: return store_mapped<std::uint8_t>(at, value);
    case 2: return store_mapped<std::uint16_t>(at, value);
    case 4: return store_mapped<std::uint32_t>(at, value);
    default: return store_mapped<std::uint64_t>(at, value);
  }
}

}  // namespace

Result<Bar> Bar::window(std::uint64_t offset, std::uint64_t length) const {
  if (!state_ || offset > length_ || length > length_ - offset) {
    return fail(Errc::kDevice,
                fmt::format("a window of {:#x} bytes at {:#x} does not lie inside of BAR {} ({:#x} bytes)", length,
                            offset, index(), length_));
  }
  return Bar(state_, offset_ + offset, length);
}

std::uint64_t Bar::slow_read(std::uint64_t offset, unsigned width, std::string_view name) const {
  const std::uint64_t at = offset_ + offset;
  if (state_->device->abandoned() || at % width != 0) return kAllOnes;
  RecordedAccess access(*state_, name, at, false, 0);
  const std::uint64_t value = raw_read(*state_, at, width);
  return access.end(value) ? value : kAllOnes;
}

void Bar::slow_write(std::uint64_t offset, unsigned width, std::uint64_t value, std::string_view name) const {
  const std::uint64_t at = offset_ + offset;
  if (state_->device->abandoned() || at % width != 0) return;
  RecordedAccess access(*state_, name, at, true, value);
  raw_write(*state_, at, width, value);
  access.end(value);
}

}  // namespace upci::inline UPCI_VARIANT::pci
