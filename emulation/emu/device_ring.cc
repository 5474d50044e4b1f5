// SPDX-License-Identifier: Apache-2.0
#include "emulation/emu/device_ring.h"

#include <fmt/format.h>

#include "emulation/emu/packed_device_ring.h"
#include "emulation/emu/split_device_ring.h"
#include "virtio/spec/packed_ring.h"
#include "virtio/spec/ring.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {

void Chain::clear() noexcept {
  id = {};
  readable.clear();
  writable.clear();
  readable_bytes = writable_bytes = 0;
}

bool Chain::take(const DmaAccess& dma, const Segment& segment, bool device_writes, std::uint32_t descriptor,
                 std::string& why) {
  if (dma.at(segment.iova, segment.len) == nullptr) {
    why = fmt::format("the buffer of descriptor {}: {}", descriptor, dma.why_not(segment.iova, segment.len));
    return false;
  }
  if (device_writes) {
    writable.push_back(segment);
    writable_bytes += segment.len;
    return true;
  }
  // Section "Message Framing": "The driver MUST place any device-writable descriptor elements after any device-readable
  // descriptor elements."
  if (!writable.empty()) {
    why = "a device-readable descriptor follows a device-writable one";
    return false;
  }
  readable.push_back(segment);
  readable_bytes += segment.len;
  return true;
}

std::array<DeviceRing::Area, 3> DeviceRing::areas(const Layout& layout) noexcept {
  namespace split = virtio::spec::ring;
  namespace packed = virtio::spec::packed;
  if (layout.packed) {
    return {{{layout.descriptors, packed::descriptors_bytes(layout.size), packed::kDescriptorAlign},
             {layout.driver, sizeof(packed::EventSuppression), packed::kEventAlign},
             {layout.device, sizeof(packed::EventSuppression), packed::kEventAlign}}};
  }
  return {{{layout.descriptors, split::descriptors_bytes(layout.size), split::kDescriptorAlign},
           {layout.driver, split::avail_bytes(layout.size), split::kAvailAlign},
           {layout.device, split::used_bytes(layout.size), split::kUsedAlign}}};
}

std::unique_ptr<DeviceRing> DeviceRing::make(const Layout& layout) {
  if (layout.packed) return std::make_unique<PackedDeviceRing>(layout);
  return std::make_unique<SplitDeviceRing>(layout);
}

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
