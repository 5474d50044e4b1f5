// SPDX-License-Identifier: Apache-2.0
// What the driver core needs of a device beside its registers: is it there, can it be silenced, is it proven quiet.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/deadline.h"
#include "base/error.h"

namespace upci::inline UPCI_VARIANT::device {

/// Given by the backend; thread-safe.
class DeviceControl {
 public:
  virtual ~DeviceControl() = default;
  /// False when the device has left its bus (the config space's vendor id reads all ones) or the backend withdrew it.
  virtual bool present() = 0;
  virtual Result<void> set_bus_master(bool on) = 0;
  /// A function-level reset or the nearest thing. Errors: kUnavailable (it has none), kTimeout.
  virtual Result<void> reset(Deadline deadline) = 0;
  /// True only when the device can be shown to write no more to memory: bus mastering off, a reset done and Transactions
  /// Pending clear, or its memory unmapped in the IOMMU. False means unknown.
  virtual bool proven_quiet() = 0;
  /// The framework has given the device up. Accesses that hang in the backend should return, where that can be done;
  /// later reads return all ones. Idempotent.
  virtual void abandon() noexcept = 0;

  /// What a backend that was lent its device has to say about it.
  enum class Notice : std::uint8_t {
    kNone,
    kWithdrawn,  // its lender wants it back: it is being unplugged or unbound (VFIO's request eventfd)
    kError,      // the platform met an error of the device that it cannot recover from (VFIO's error eventfd)
  };
  /// A descriptor that becomes readable when a notice comes, or -1 where none ever does. Valid as long as this object.
  virtual int notice_fd() const noexcept { return -1; }
  /// The notice that came, if one did, for ever after: then present() is false, too. Cheap; any thread.
  virtual Notice notice() noexcept { return Notice::kNone; }
  struct Evidence {
    std::vector<std::string> faults;  // oldest first, one line each
    std::string unreadable;           // why they cannot be read, or empty
  };
  /// What the platform has recorded against the device since it was opened: accesses that the IOMMU refused. Slow path; any
  /// thread.
  virtual Evidence evidence() { return {}; }
  /// Gives the device back to its lender, who may be waiting for it: what the backend holds open of it is closed, mapped
  /// registers read all ones from now on and take writes to nowhere. DMA memory stays valid. The driver is gone by then.
  /// Idempotent.
  virtual void give_back() noexcept {}
};

/// Given by the backend; thread-safe. Vectors are eventfds.
class IrqSource {
 public:
  virtual ~IrqSource() = default;
  enum class Kind : std::uint8_t {
    kMessage,  // MSI-X or MSI
    kLine,     // INTx: level-triggered; each signal masks the vector until set_mask(0, false)
  };
  /// Vectors that the device offers; 0 when it has no interrupt at all.
  virtual unsigned count() const = 0;
  virtual Kind kind() const { return Kind::kMessage; }
  /// Routes vector i to eventfds[i] and unmasks them all. Replaces an earlier routing. Errors: kInvalid (too many), kSystem.
  virtual Result<void> enable(std::span<const int> eventfds) = 0;
  /// No eventfd is signalled any more after it returns.
  virtual Result<void> disable() = 0;
  virtual Result<void> set_mask(unsigned vector, bool masked) = 0;
  /// Asks that the vector be raised on an OS CPU. Errors: kUnavailable where the backend has no say; that is reported, not
  /// an error of the driver.
  virtual Result<void> set_affinity(unsigned vector, int os_cpu) = 0;
};

}  // namespace upci::inline UPCI_VARIANT::device
