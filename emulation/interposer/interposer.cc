// SPDX-License-Identifier: Apache-2.0
#include "emulation/interposer/interposer.h"

#include <string>
#include <utility>

#include "emulation/interposer/faulty_dma.h"
#include "emulation/interposer/lost_irqs.h"

namespace upci::inline UPCI_VARIANT::emulation::interposer {
namespace {

constexpr std::string_view kDmaUnmapped = "dma-unmapped";
constexpr std::string_view kIrqLost = "irq-lost";

constexpr FaultDescription kFaults[] = {
    {kDmaUnmapped, "the driver is told DMA addresses at which nothing is mapped, which the IOMMU records and blocks"},
    {kIrqLost, "no interrupt reaches the driver"},
};

/// Everything but what the fault is about goes straight through.
class Interposer final : public pci::Backend {
 public:
  Interposer(std::shared_ptr<pci::Backend> real, std::string_view fault)
      : real_(std::move(real)),
        faulty_dma_(real_->dma()),
        lost_irqs_(real_->irqs()),
        dma_(fault == kDmaUnmapped ? faulty_dma_ : real_->dma()),
        irqs_(fault == kIrqLost ? lost_irqs_ : real_->irqs()) {}

  const std::string& name() const override { return real_->name(); }
  int node() const override { return real_->node(); }
  std::uint32_t config_read(std::uint16_t offset, unsigned width) override { return real_->config_read(offset, width); }
  void config_write(std::uint16_t offset, unsigned width, std::uint32_t value) override {
    real_->config_write(offset, width, value);
  }
  pci::BarInfo bar(unsigned bar) override { return real_->bar(bar); }
  std::uint64_t bar_read(unsigned bar, std::uint64_t offset, unsigned width) override {
    return real_->bar_read(bar, offset, width);
  }
  void bar_write(unsigned bar, std::uint64_t offset, unsigned width, std::uint64_t value) override {
    real_->bar_write(bar, offset, width, value);
  }
  device::DeviceControl& control() override { return real_->control(); }
  device::DmaSpace& dma() override { return dma_; }
  device::IrqSource& irqs() override { return irqs_; }

 private:
  const std::shared_ptr<pci::Backend> real_;
  FaultyDma faulty_dma_;
  LostIrqs lost_irqs_;
  device::DmaSpace& dma_;
  device::IrqSource& irqs_;
};

}  // namespace

std::vector<FaultDescription> faults() { return {std::begin(kFaults), std::end(kFaults)}; }

bool is_fault(std::string_view name) noexcept {
  for (const FaultDescription& fault : kFaults) {
    if (fault.name == name) return true;
  }
  return false;
}

Result<std::shared_ptr<pci::Backend>> wrap(std::shared_ptr<pci::Backend> backend, std::string_view fault) {
  if (!is_fault(fault)) return fail(Errc::kInvalid, "there is no fault '" + std::string(fault) + "' of the platform");
  return std::make_shared<Interposer>(std::move(backend), fault);
}

}  // namespace upci::inline UPCI_VARIANT::emulation::interposer
