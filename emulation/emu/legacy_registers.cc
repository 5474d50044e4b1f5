// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "emulation/emu/registers.h"
#include "virtio/spec/pci.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {
namespace {

using Legacy = virtio::spec::pci::Legacy;
namespace vpci = virtio::spec::pci;

template <class R>
bool is(std::uint64_t offset, unsigned width) noexcept {
  return offset == R::offset && width == sizeof(typename R::Value);
}

}  // namespace

std::uint64_t LegacyRegisters::config_offset() const noexcept {
  return interrupts_.msix_enabled() ? vpci::kLegacyConfigOffsetMsix : vpci::kLegacyConfigOffset;
}

std::uint64_t LegacyRegisters::read(std::uint64_t offset, unsigned width) {
  if (offset >= config_offset()) {
    std::uint64_t value = 0;
    for (unsigned i = 0; i < width; ++i) {
      value |= std::uint64_t{core_.read_config(offset - config_offset() + i)} << (8 * i);
    }
    return value;
  }
  const VirtQueue* const queue = core_.queue(queue_select_);
  if (is<Legacy::DeviceFeatures>(offset, width)) return core_.offered(Via::kLegacy) & 0xffff'ffff;
  if (is<Legacy::DriverFeatures>(offset, width)) return core_.driver_features(0);
  if (is<Legacy::QueueAddress>(offset, width)) {
    return queue != nullptr && queue->enabled ? queue->descriptors >> vpci::kLegacyAddressShift : 0;
  }
  if (is<Legacy::QueueSize>(offset, width)) return queue != nullptr ? core_.max_queue_size() : 0;
  if (is<Legacy::QueueSelect>(offset, width)) return queue_select_;
  if (is<Legacy::QueueNotify>(offset, width)) return 0;
  if (is<Legacy::DeviceStatus>(offset, width)) return core_.read_status();
  if (is<Legacy::IsrStatus>(offset, width)) return core_.take_isr();
  if (is<Legacy::ConfigMsixVector>(offset, width)) return core_.config_vector();
  if (is<Legacy::QueueMsixVector>(offset, width)) return queue != nullptr ? queue->vector : vpci::kNoVector;
  core_.violation(fmt::format("{} bytes at {:#x} of the legacy registers are no field to read", width, offset));
  return all_ones(width);
}

void LegacyRegisters::write(std::uint64_t offset, unsigned width, std::uint64_t value) {
  const auto value16 = static_cast<std::uint16_t>(value);
  if (offset >= config_offset()) {
    for (unsigned i = 0; i < width; ++i) {
      core_.write_config(Via::kLegacy, offset - config_offset() + i, static_cast<std::uint8_t>(value >> (8 * i)));
    }
  } else if (is<Legacy::DriverFeatures>(offset, width)) {
    core_.write_driver_features(Via::kLegacy, 0, static_cast<std::uint32_t>(value));
  } else if (is<Legacy::QueueAddress>(offset, width)) {
    core_.write_legacy_address(queue_select_, static_cast<std::uint32_t>(value));
  } else if (is<Legacy::QueueSelect>(offset, width)) {
    queue_select_ = value16;
  } else if (is<Legacy::QueueNotify>(offset, width)) {
    core_.notify(Via::kLegacy, value16);
  } else if (is<Legacy::DeviceStatus>(offset, width)) {
    core_.write_status(Via::kLegacy, static_cast<std::uint8_t>(value));
  } else if (is<Legacy::ConfigMsixVector>(offset, width)) {
    core_.write_config_vector(value16);
  } else if (is<Legacy::QueueMsixVector>(offset, width)) {
    core_.write_queue_vector(Via::kLegacy, queue_select_, value16);
  } else {
    core_.violation(fmt::format("{} bytes at {:#x} of the legacy registers are no field to write", width, offset));
  }
}

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
