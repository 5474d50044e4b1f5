// SPDX-License-Identifier: Apache-2.0
// The seam between the PCI layer and what carries its accesses: Linux VFIO, QEMU over qtest, an in-process model, or a
// backend that wraps another one to record, delay or change accesses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "device/control.h"
#include "device/dma.h"

namespace upci::inline UPCI_VARIANT::pci {

struct BarInfo {
  std::uint64_t size = 0;        // bytes; 0 when the BAR is not implemented
  bool io = false;               // port space
  std::byte* mapping = nullptr;  // where the BAR is mapped into this process, or nullptr when accesses must trap
};

/// One opened PCI function. Thread-safe. Accesses to a function that has left the bus read all ones and write nowhere, as
/// on a real bus; control().present() tells. Closing (the destructor) leaves nothing running, bound or mapped.
class Backend {
 public:
  virtual ~Backend() = default;

  /// What the user called it (the URI).
  virtual const std::string& name() const = 0;
  /// The NUMA node, or -1 when unknown.
  virtual int node() const = 0;

  /// `width` is 1, 2 or 4; `offset` below 4096 and aligned to the width. Out of the device's config space: all ones.
  virtual std::uint32_t config_read(std::uint16_t offset, unsigned width) = 0;
  virtual void config_write(std::uint16_t offset, unsigned width, std::uint32_t value) = 0;

  /// `bar` is 0..5.
  virtual BarInfo bar(unsigned bar) = 0;
  /// Trapping access; the caller has checked the offset against the BAR's size. `width` is 1, 2, 4 or 8.
  virtual std::uint64_t bar_read(unsigned bar, std::uint64_t offset, unsigned width) = 0;
  virtual void bar_write(unsigned bar, std::uint64_t offset, unsigned width, std::uint64_t value) = 0;

  virtual device::DeviceControl& control() = 0;
  virtual device::DmaSpace& dma() = 0;
  virtual device::IrqSource& irqs() = 0;
};

}  // namespace upci::inline UPCI_VARIANT::pci
