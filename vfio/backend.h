// SPDX-License-Identifier: Apache-2.0
// Private. The seam's side of a function that was opened through VFIO.
#pragma once

#include <memory>
#include <string>

#include "pci/address.h"
#include "pci/backend.h"
#include "vfio/control.h"
#include "vfio/device_file.h"
#include "vfio/dma_space.h"
#include "vfio/faults.h"
#include "vfio/group.h"
#include "vfio/irqs.h"
#include "vfio/notices.h"
#include "vfio/regions.h"

namespace upci::inline UPCI_VARIANT::vfio {

class Backend final : public pci::Backend {
 public:
  /// Errors: those of Vfio::open().
  static Result<std::shared_ptr<Backend>> open(const std::shared_ptr<Groups>& groups, const pci::Address& address,
                                               std::string name);

  const std::string& name() const override { return file_.name(); }
  int node() const override { return node_; }
  std::uint32_t config_read(std::uint16_t offset, unsigned width) override;
  void config_write(std::uint16_t offset, unsigned width, std::uint32_t value) override;
  pci::BarInfo bar(unsigned bar) override { return regions_.bar(bar); }
  std::uint64_t bar_read(unsigned bar, std::uint64_t offset, unsigned width) override;
  void bar_write(unsigned bar, std::uint64_t offset, unsigned width, std::uint64_t value) override;
  device::DeviceControl& control() override { return control_; }
  device::DmaSpace& dma() override { return dma_; }
  device::IrqSource& irqs() override { return irqs_; }

 private:
  Backend(Groups::Member member, KernelFd file, std::string name, std::string address, int node, bool has_reset,
          std::shared_ptr<const StandIns> stand_ins);

  // In this order, so that the last to go is what the others need: control_ gives the device back first.
  const int node_;
  Groups::Member member_;
  DeviceFile file_;
  DmaSpace dma_;
  Regions regions_;
  Irqs irqs_;
  Notices notices_;
  Faults faults_;
  Control control_;
};

}  // namespace upci::inline UPCI_VARIANT::vfio
