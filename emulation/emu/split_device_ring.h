// SPDX-License-Identifier: Apache-2.0
// The device's side of a split virtqueue. Section "Split Virtqueues".
#pragma once

#include "emulation/emu/device_ring.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {

class SplitDeviceRing final : public DeviceRing {
 public:
  explicit SplitDeviceRing(const Layout& layout) noexcept
      : DeviceRing(layout), avail_area_(areas(layout)[1]), used_area_(areas(layout)[2]) {}

  std::optional<std::uint16_t> driver_position(const DmaAccess& dma) const noexcept override;
  Pop pop(const DmaAccess& dma, Chain& chain, std::string& why) override;
  std::uint16_t position() const noexcept override { return last_avail_; }
  void rewind(std::uint16_t position) noexcept override { last_avail_ = position; }
  bool push(const DmaAccess& dma, ChainId id, std::uint32_t len) noexcept override;
  bool publish(const DmaAccess& dma, bool wrong) noexcept override;
  bool push_in_batch(const DmaAccess& dma, ChainId id) noexcept override;
  bool wants_interrupt(const DmaAccess& dma) noexcept override;
  bool set_notifications(const DmaAccess& dma, bool wanted) noexcept override;

 private:
  bool walk(const DmaAccess& dma, std::uint16_t head, Chain& chain, std::string& why) const;
  bool write_used(const DmaAccess& dma, std::uint16_t place, std::uint32_t id, std::uint32_t len) noexcept;

  const Area avail_area_;
  const Area used_area_;
  std::uint16_t last_avail_ = 0;  // the next entry of avail to be looked at
  std::uint16_t used_ = 0;        // the next entry of used to be written
  std::uint16_t published_ = 0;   // the used index as the driver sees it
  std::uint16_t signalled_ = 0;   // the used index when wants_interrupt() was last asked
};

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
