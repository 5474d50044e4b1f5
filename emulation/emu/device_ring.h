// SPDX-License-Identifier: Apache-2.0
// The device's side of a virtqueue, split or packed. The driver wrote the memory, so nothing in it is trusted: each address,
// index and length is checked, and no chain is longer than its table.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "emulation/emu/dma.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {

/// What a chain is called when it is given back.
struct ChainId {
  std::uint16_t id = 0;           // its head in a split ring, the driver's buffer id in a packed one
  std::uint16_t descriptors = 1;  // how many the ring itself has of it; a split ring does not ask
};

/// One descriptor chain that the driver made available: device-readable buffers, then device-writable ones.
struct Chain {
  struct Segment {
    std::uint64_t iova = 0;
    std::uint32_t len = 0;
  };
  ChainId id;
  std::vector<Segment> readable;
  std::vector<Segment> writable;
  std::uint64_t readable_bytes = 0;
  std::uint64_t writable_bytes = 0;

  void clear() noexcept;
  /// Takes a buffer of a descriptor in. False, with the reason in `why`, when it is not the device's memory, or is to be read and
  /// follows one that is to be written.
  bool take(const DmaAccess& dma, const Segment& segment, bool device_writes, std::uint32_t descriptor,
            std::string& why);
};

/// One thread at a time. Every call is made under a DmaAccess.
class DeviceRing {
 public:
  struct Layout {
    bool packed = false;
    std::uint16_t size = 0;         // a valid queue size
    std::uint64_t descriptors = 0;  // IOVAs; of a split ring the available and the used ring are these two
    std::uint64_t driver = 0;
    std::uint64_t device = 0;
    bool event_idx = false;
    bool indirect = false;
    bool in_order = false;
  };
  /// A part of the ring's memory.
  struct Area {
    std::uint64_t iova = 0;
    std::uint64_t bytes = 0;
    std::uint64_t align = 1;
  };
  enum class Pop { kEmpty, kChain, kBroken };

  static std::array<Area, 3> areas(const Layout& layout) noexcept;
  static std::unique_ptr<DeviceRing> make(const Layout& layout);

  virtual ~DeviceRing() = default;
  DeviceRing(const DeviceRing&) = delete;
  DeviceRing& operator=(const DeviceRing&) = delete;

  const Layout& layout() const noexcept { return layout_; }

  /// Where the driver's ring stands, as it says it with NOTIFICATION_DATA; nothing when the ring's memory is gone.
  virtual std::optional<std::uint16_t> driver_position(const DmaAccess& dma) const noexcept = 0;

  /// The next chain. kBroken: the driver broke the rules, `why` says how; the queue cannot go on.
  virtual Pop pop(const DmaAccess& dma, Chain& chain, std::string& why) = 0;
  /// Where pop() goes on; rewind() there gives back what was popped since, to be popped again.
  virtual std::uint16_t position() const noexcept = 0;
  virtual void rewind(std::uint16_t position) noexcept = 0;

  /// Writes a used element behind those that are not published yet; publish() makes them visible, and when it is `wrong` (a fault)
  /// shows more than was used. False when the ring's memory is gone.
  virtual bool push(const DmaAccess& dma, ChainId id, std::uint32_t len) noexcept = 0;
  virtual bool publish(const DmaAccess& dma, bool wrong = false) noexcept = 0;
  /// IN_ORDER: the same for a chain that the device only read. Of those that are published together only the last one is named,
  /// where the first one would have been. Not in a queue with push(). Sections "In-order use of descriptors".
  virtual bool push_in_batch(const DmaAccess& dma, ChainId id) noexcept = 0;
  /// Whether the driver wants an interrupt for what was published since the last call.
  virtual bool wants_interrupt(const DmaAccess& dma) noexcept = 0;

  /// Asks the driver for notifications, or to leave them out. After asking for them look at the ring once more.
  virtual bool set_notifications(const DmaAccess& dma, bool wanted) noexcept = 0;

 protected:
  explicit DeviceRing(const Layout& layout) noexcept : layout_(layout) {}
  /// An area's memory, or nullptr when it is gone.
  static std::byte* memory(const DmaAccess& dma, const Area& area) noexcept {
    return dma.at(area.iova, area.bytes, area.align);
  }

  const Layout layout_;
};

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
