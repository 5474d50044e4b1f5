// SPDX-License-Identifier: Apache-2.0
// The device's half of the virtio handshake, whatever registers the driver uses: status, features, queues,
// configuration. It does what the specification asks of a device, and notes what the driver does against it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/platform.h"
#include "emulation/emu/device_ring.h"
#include "emulation/emu/dma.h"
#include "emulation/emu/interrupts.h"
#include "emulation/emu/options.h"
#include "emulation/emu/violations.h"
#include "virtio/spec/net.h"
#include "virtio/spec/pci.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {

/// Which registers the driver uses.
enum class Via : std::uint8_t { kNone, kModern, kLegacy };

struct VirtQueue {
  std::uint16_t size = 0;
  std::uint16_t vector = virtio::spec::pci::kNoVector;
  std::uint64_t descriptors = 0;  // IOVAs
  std::uint64_t driver = 0;
  std::uint64_t device = 0;
  bool enabled = false;
  bool kicked = false;               // the driver has notified, and the device has not looked since
  bool resetting = false;            // RING_RESET: for ever (a fault)
  bool was_reset = false;            // by RING_RESET: it may be set up again
  std::unique_ptr<DeviceRing> ring;  // made when enabled; none where the rings are another's
};

/// Protected as a whole by the device's mutex.
class VirtioCore {
 public:
  static constexpr std::uint16_t kQueues = 2;

  VirtioCore(const Options& options, Violations& violations, DmaTable& dma, Interrupts& interrupts);

  // Status. A reset takes effect when the device's thread calls finish_reset(), not before reset_due().
  std::uint8_t read_status();
  void write_status(Via via, std::uint8_t value);
  platform::TimePoint reset_due() const noexcept { return reset_due_; }
  /// `quiet`: nobody works on the queues any more. Else the reset never ends.
  void finish_reset(bool quiet);
  /// Function-level reset: at once, whatever the fault.
  void hard_reset();

  // Features. `half` is 0 for bits 0..31, 1 for bits 32..63.
  std::uint64_t offered(Via via) const noexcept;
  std::uint64_t accepted_features() const noexcept { return driver_features_; }
  /// The rings are another's, who looks at them by itself; of the features it can have these.
  void leave_rings_to_others(std::uint64_t features) noexcept {
    has_rings_ = false;
    can_have_ = features;
  }
  std::uint32_t driver_features(std::uint32_t half) const noexcept;
  void write_driver_features(Via via, std::uint32_t half, std::uint32_t value);
  bool has_feature(unsigned bit) const noexcept { return (driver_features_ >> bit & 1U) != 0; }
  bool legacy() const noexcept { return via_ == Via::kLegacy; }

  // Queues.
  const VirtQueue* queue(std::uint16_t index) const noexcept { return index < kQueues ? &queues_[index] : nullptr; }
  VirtQueue& queue_at(std::uint16_t index) noexcept { return queues_[index]; }
  std::uint16_t max_queue_size() const noexcept;
  std::uint16_t notify_offset(std::uint16_t index) const noexcept;
  /// The queue when its fields may be written now; else notes the violation and returns nullptr.
  VirtQueue* queue_for_setup(Via via, std::uint16_t index, std::string_view field);
  void write_queue_size(Via via, std::uint16_t index, std::uint16_t size);
  void write_queue_vector(Via via, std::uint16_t index, std::uint16_t vector);
  void enable_queue(std::uint16_t index);
  void write_legacy_address(std::uint16_t index, std::uint32_t page);
  void notify(Via via, std::uint16_t index);
  /// With NOTIFICATION_DATA: `position` is where the driver says that its ring stands.
  void notify(Via via, std::uint16_t index, std::uint16_t position);
  /// RING_RESET. Done at once: who calls holds the lock under which the device works.
  void reset_queue(std::uint16_t index);
  bool queue_resetting(std::uint16_t index) const noexcept { return index < kQueues && queues_[index].resetting; }
  /// The queues that were reset since the last call, a bit each.
  std::uint32_t take_queue_resets() noexcept { return std::exchange(queue_resets_, 0); }

  // Configuration and interrupts.
  std::uint8_t generation();
  std::uint16_t config_vector() const noexcept { return config_vector_; }
  void write_config_vector(std::uint16_t vector);
  std::uint8_t read_config(std::uint64_t offset) const noexcept;
  void write_config(Via via, std::uint64_t offset, std::uint8_t value);
  std::uint8_t take_isr() noexcept;
  void set_link(bool up);
  /// DEVICE_NEEDS_RESET, as of an error of its own: nothing is done until the driver resets it. Not the legacy interface.
  void request_reset();
  bool link_up() const noexcept { return config_[virtio::spec::net::config::kStatus] == virtio::spec::net::kLinkUp; }
  void interrupt(std::uint16_t queue);

  // The data path.
  /// Whether the device may work on its queues: DRIVER_OK, nothing wrong, bus mastering on.
  bool live() const noexcept;
  device::DmaKind dma_kind() const noexcept;
  /// Returns a chain to the driver, who sees it and those before it once `publish` is true. False when the ring's
  /// memory is gone; the device is broken then.
  bool complete(const DmaAccess& dma, std::uint16_t queue, ChainId id, std::uint32_t len, bool publish = true);
  /// Shows the driver what was completed and not published. False as above.
  bool publish(const DmaAccess& dma, std::uint16_t queue);
  /// The driver broke the rules in memory: the device stops and, where it can, asks to be reset.
  void break_down(const std::string& why);

  void set_bus_master(bool on) noexcept { bus_master_ = on; }
  /// What register accesses have set in motion; each is told once.
  bool take_wake() noexcept { return std::exchange(wake_, false); }
  bool take_stall() noexcept { return std::exchange(stall_, false); }
  bool gone() const noexcept { return gone_; }

  void violation(std::string what) { violations_.add(std::move(what)); }

 private:
  void clear() noexcept;
  void check_status_write(Via via, std::uint8_t value, std::uint8_t added);
  bool accept_features();
  bool may_go_live(Via via);
  bool is_valid_size(std::uint16_t size) const noexcept;
  bool start_queue(std::uint16_t index, VirtQueue& queue);
  bool lose_ring(const DmaAccess& dma, std::uint16_t index);  // false
  void config_interrupt();

  const Options& options_;
  Violations& violations_;
  DmaTable& dma_;
  Interrupts& interrupts_;

  bool has_rings_ = true;
  std::uint64_t can_have_ = ~std::uint64_t{0};
  std::uint8_t status_ = 0;
  platform::TimePoint reset_due_ = platform::kNever;
  bool resetting_ = false;
  Via via_ = Via::kNone;
  std::uint64_t driver_features_ = 0;
  std::array<VirtQueue, kQueues> queues_;
  std::uint16_t config_vector_ = virtio::spec::pci::kNoVector;
  std::uint8_t isr_ = 0;
  std::uint8_t generation_ = 0;
  std::array<std::uint8_t, virtio::spec::net::config::kSize> config_{};
  bool bus_master_ = false;
  bool broken_ = false;
  bool gone_ = false;
  std::uint32_t queue_resets_ = 0;
  bool wake_ = false;
  bool stall_ = false;
};

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
