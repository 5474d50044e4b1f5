// SPDX-License-Identifier: Apache-2.0
// PCI functions of this machine, through Linux VFIO: a group, its type 1 container, the function's regions and interrupts.
#pragma once

#include <memory>
#include <string>

#include "base/error.h"
#include "pci/address.h"
#include "pci/backend.h"

namespace upci::inline UPCI_VARIANT::vfio {

class Kernel;
class Groups;

/// What the functions that one program opens share: functions of the same IOMMU group share its descriptor and container,
/// since the kernel lets a group be opened once. Thread-safe. What was opened keeps what it needs alive.
class Vfio {
 public:
  /// `kernel` is the boundary to the operating system (vfio/kernel.h); the real one when left out.
  explicit Vfio(std::shared_ptr<Kernel> kernel = nullptr);
  ~Vfio();
  Vfio(const Vfio&) = delete;
  Vfio& operator=(const Vfio&) = delete;

  /// Opens a function that is bound to vfio-pci; `name` is what reports call it. Errors: kUnavailable (absent, not bound to
  /// vfio-pci, group not viable, not permitted, no interrupt remapping), each with what to do; kSystem.
  Result<std::shared_ptr<pci::Backend>> open(const pci::Address& address, std::string name);

 private:
  const std::shared_ptr<Groups> groups_;
};

}  // namespace upci::inline UPCI_VARIANT::vfio
