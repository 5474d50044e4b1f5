// SPDX-License-Identifier: Apache-2.0
// Capabilities and ids that a driver must put up with: the in-process card, with another config space in front of it.
#include <map>

#include "pci/config.h"
#include "tests/drivers/bench.h"
#include "virtio/spec/pci.h"

namespace upci::inline UPCI_VARIANT::driver_tests {
namespace {

namespace vpci = virtio::spec::pci;

/// Shows other bytes in places.
class OtherConfig final : public pci::Backend {
 public:
  explicit OtherConfig(std::shared_ptr<pci::Backend> real) : real_(std::move(real)) {}

  void set(std::uint16_t offset, std::uint8_t value) { bytes_[offset] = value; }
  /// Where the first virtio capability of this type lies.
  std::uint16_t find(vpci::CapType type) {
    const pci::ConfigSpace config(real_);
    const auto capabilities = config.capabilities();
    for (const pci::Capability& one : capabilities.value()) {
      if (one.id == vpci::kVendorCapability &&
          config.read8(static_cast<std::uint16_t>(one.offset + vpci::cap::kType)) == static_cast<std::uint8_t>(type)) {
        return one.offset;
      }
    }
    ADD_FAILURE() << "no such capability";
    return 0;
  }
  void set(vpci::CapType type, std::uint8_t field, std::uint8_t value) {
    set(static_cast<std::uint16_t>(find(type) + field), value);
  }

  const std::string& name() const override { return real_->name(); }
  int node() const override { return real_->node(); }
  std::uint32_t config_read(std::uint16_t offset, unsigned width) override {
    std::uint32_t value = real_->config_read(offset, width);
    for (unsigned i = 0; i < width; ++i) {
      const auto other = bytes_.find(static_cast<std::uint16_t>(offset + i));
      if (other == bytes_.end()) continue;
      value = (value & ~(0xffU << (8 * i))) | std::uint32_t{other->second} << (8 * i);
    }
    return value;
  }
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
  device::DmaSpace& dma() override { return real_->dma(); }
  device::IrqSource& irqs() override { return real_->irqs(); }

 private:
  const std::shared_ptr<pci::Backend> real_;
  std::map<std::uint16_t, std::uint8_t> bytes_;
};

/// The card is driven although its config space has been changed.
template <class F>
void drives_with(F change) {
  run(1, [&change] {
    Bench bench;
    auto opened = emulation::emu::open(emu_spec({"modern"}), bench.cables);
    ASSERT_TRUE(opened) << opened.error().message();
    auto other = std::make_shared<OtherConfig>(*opened);
    change(*other);
    const device::Report report = bench.probe(other);
    ASSERT_EQ(report.result, "ok") << describe(report);
    loop_polled(*bench.nic(), {.frames = 10});
    EXPECT_TRUE(bench.context->remove(bench.device, Deadline::after(20s)));
  });
}

constexpr vpci::CapType kSpare = vpci::CapType::kPci;  // the driver does not need that one

TEST(Capabilities, ReservedTypesAndBarsAreIgnored) {
  for (const std::uint8_t type : {std::uint8_t{0}, std::uint8_t{7}, std::uint8_t{0xff}}) {
    drives_with([type](OtherConfig& config) { config.set(kSpare, vpci::cap::kType, type); });
  }
  // As if it were another common configuration, but in a BAR that nothing has.
  for (const std::uint8_t bar : {std::uint8_t{6}, std::uint8_t{0xff}}) {
    drives_with([bar](OtherConfig& config) {
      const std::uint16_t at = config.find(kSpare);
      config.set(static_cast<std::uint16_t>(at + vpci::cap::kType), static_cast<std::uint8_t>(vpci::CapType::kCommon));
      config.set(static_cast<std::uint16_t>(at + vpci::cap::kBar), bar);
    });
  }
}

TEST(Capabilities, LongerCapabilitiesAndStructuresAreTaken) {
  for (const vpci::CapType type : {vpci::CapType::kCommon, vpci::CapType::kNotify, vpci::CapType::kDevice}) {
    drives_with([type](OtherConfig& config) { config.set(type, vpci::cap::kLength, 0x40); });
  }
  // The third byte of the length: so much longer that it reaches as far as its BAR.
  drives_with([](OtherConfig& config) {
    const std::uint16_t at = config.find(vpci::CapType::kIsr);
    config.set(static_cast<std::uint16_t>(at + vpci::cap::kStructLength), 0x40);
  });
}

TEST(Capabilities, AnyRevisionIsDriven) {
  constexpr std::uint16_t kRevision = 8;
  for (const std::uint8_t revision : {std::uint8_t{0}, std::uint8_t{1}, std::uint8_t{0x7f}, std::uint8_t{0xff}}) {
    drives_with([revision](OtherConfig& config) { config.set(kRevision, revision); });
  }
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::driver_tests
