// SPDX-License-Identifier: Apache-2.0
// The device's side of a packed virtqueue. Section "Packed Virtqueues".
#pragma once

#include "emulation/emu/device_ring.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {

class PackedDeviceRing final : public DeviceRing {
 public:
  explicit PackedDeviceRing(const Layout& layout) noexcept
      : DeviceRing(layout), table_(areas(layout)[0]), wish_(areas(layout)[1]), own_wish_(areas(layout)[2]) {}

  std::optional<std::uint16_t> driver_position(const DmaAccess& dma) const noexcept override;
  Pop pop(const DmaAccess& dma, Chain& chain, std::string& why) override;
  std::uint16_t position() const noexcept override;
  void rewind(std::uint16_t position) noexcept override;
  bool push(const DmaAccess& dma, ChainId id, std::uint32_t len) noexcept override;
  bool publish(const DmaAccess& dma, bool wrong) noexcept override;
  bool push_in_batch(const DmaAccess& dma, ChainId id) noexcept override;
  bool wants_interrupt(const DmaAccess& dma) noexcept override;
  bool set_notifications(const DmaAccess& dma, bool wanted) noexcept override;

 private:
  /// A descriptor, and the lap on which it is reached: section "Driver and Device Ring Wrap Counters".
  struct Place {
    std::uint16_t index = 0;
    bool wrap = true;
  };
  /// `count` is at most the ring's size.
  Place after(Place place, std::uint16_t count) const noexcept;
  bool walk(const DmaAccess& dma, std::byte* table, Chain& chain, std::string& why);
  bool walk_table(const DmaAccess& dma, std::uint64_t iova, std::uint32_t bytes, Chain& chain, std::string& why) const;

  const Area table_;
  const Area wish_;      // the driver's, about interrupts
  const Area own_wish_;  // the device's, about notifications
  Place next_;           // the descriptor to be looked at next
  Place used_;           // where the next used descriptor goes
  // What was used and is not published: the driver stops at the first one, whose flags are written last.
  Place first_;
  std::uint16_t first_flags_ = 0;
  std::uint16_t unpublished_ = 0;  // descriptors
  std::uint16_t last_id_ = 0;
  Place signalled_;                // used_ when wants_interrupt() was last asked,
  std::uint32_t unsignalled_ = 0;  // and the descriptors published since
};

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
