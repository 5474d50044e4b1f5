// SPDX-License-Identifier: Apache-2.0
// The device's side of a split virtqueue. The driver wrote the memory, so nothing in it is trusted: each address, index
// and length is checked, and no chain is longer than its table.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "emulation/emu/dma.h"
#include "virtio/spec/ring.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {

/// One descriptor chain that the driver made available: device-readable buffers, then device-writable ones.
struct Chain {
  struct Segment {
    std::uint64_t iova = 0;
    std::uint32_t len = 0;
  };
  std::uint16_t head = 0;
  std::vector<Segment> readable;
  std::vector<Segment> writable;
  std::uint64_t readable_bytes = 0;
  std::uint64_t writable_bytes = 0;
};

/// One thread at a time. Every call is made under a DmaAccess.
class DeviceRing {
 public:
  struct Layout {
    std::uint16_t size = 0;  // a valid queue size
    std::uint64_t descriptors = 0;
    std::uint64_t avail = 0;
    std::uint64_t used = 0;
    bool event_idx = false;
    bool indirect = false;
    bool in_order = false;
  };
  enum class Pop { kEmpty, kChain, kBroken };

  void start(const Layout& layout) noexcept;
  std::uint16_t size() const noexcept { return layout_.size; }

  /// The driver's available index; nothing when the ring's memory is gone.
  std::optional<std::uint16_t> avail_index(const DmaAccess& dma) const noexcept;

  /// The next chain. kBroken: the driver broke the rules, `why` says how; the queue cannot go on.
  Pop pop(const DmaAccess& dma, Chain& chain, std::string& why);
  /// Gives the newest `count` chains back, to be popped again.
  void unpop(std::uint16_t count) noexcept { last_avail_ = static_cast<std::uint16_t>(last_avail_ - count); }

  /// Writes a used element behind those that are not published yet; publish() makes them visible, and moves the index
  /// by `extra` more than it should (a fault). False when the ring's memory is gone.
  bool push(const DmaAccess& dma, std::uint32_t id, std::uint32_t len) noexcept;
  bool publish(const DmaAccess& dma, std::uint16_t extra = 0) noexcept;
  /// IN_ORDER: the same for a chain that the device only read. Of those that are published together only the last one is named,
  /// where the first one would have been. Not in a queue with push(). Section "In-order use of descriptors".
  bool push_in_batch(const DmaAccess& dma, std::uint32_t id) noexcept;
  /// Whether the driver wants an interrupt for what was published since the last call.
  bool wants_interrupt(const DmaAccess& dma) noexcept;

  /// Asks the driver for notifications, or to leave them out. After asking for them look at the ring once more.
  bool set_notifications(const DmaAccess& dma, bool wanted) noexcept;

 private:
  bool walk(const DmaAccess& dma, std::uint16_t head, Chain& chain, std::string& why) const;
  bool write_used(const DmaAccess& dma, std::uint16_t place, std::uint32_t id, std::uint32_t len) noexcept;

  Layout layout_;
  std::uint16_t last_avail_ = 0;  // the next entry of avail to be looked at
  std::uint16_t used_ = 0;        // the next entry of used to be written
  std::uint16_t published_ = 0;   // the used index as the driver sees it
  std::uint16_t signalled_ = 0;   // the used index when wants_interrupt() was last asked
};

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
