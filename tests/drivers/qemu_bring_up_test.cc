// SPDX-License-Identifier: Apache-2.0
// How many accesses the bring-up of QEMU's card takes: each is a round trip to the device, on hardware a microsecond or two.
#include <map>
#include <numeric>

#include "emulation/qemu/qemu.h"
#include "tests/drivers/bench.h"

namespace upci::inline UPCI_VARIANT::driver_tests {
namespace {

/// Counts what a driver does to the registers of a device.
class Counting final : public pci::Backend {
 public:
  explicit Counting(std::shared_ptr<pci::Backend> real) : real_(std::move(real)) {}
  const std::string& name() const override { return real_->name(); }
  int node() const override { return real_->node(); }
  std::uint32_t config_read(std::uint16_t offset, unsigned width) override { return real_->config_read(offset, width); }
  void config_write(std::uint16_t offset, unsigned width, std::uint32_t value) override {
    real_->config_write(offset, width, value);
  }
  pci::BarInfo bar(unsigned bar) override { return real_->bar(bar); }
  std::uint64_t bar_read(unsigned bar, std::uint64_t offset, unsigned width) override {
    count("read", bar, offset);
    return real_->bar_read(bar, offset, width);
  }
  void bar_write(unsigned bar, std::uint64_t offset, unsigned width, std::uint64_t value) override {
    count("write", bar, offset);
    real_->bar_write(bar, offset, width, value);
  }
  device::DeviceControl& control() override { return real_->control(); }
  device::DmaSpace& dma() override { return real_->dma(); }
  device::IrqSource& irqs() override { return real_->irqs(); }

  unsigned total() {
    const std::lock_guard lock(mutex_);
    return std::accumulate(counts_.begin(), counts_.end(), 0U,
                           [](unsigned sum, const auto& one) { return sum + one.second; });
  }
  std::string list() {
    const std::lock_guard lock(mutex_);
    std::string text;
    for (const auto& [what, times] : counts_) text += what + ": " + std::to_string(times) + "\n";
    return text;
  }

 private:
  void count(const char* what, unsigned bar, std::uint64_t offset) {
    const std::lock_guard lock(mutex_);
    counts_[std::string(what) + " BAR " + std::to_string(bar) + " + " + std::to_string(offset)]++;
  }
  const std::shared_ptr<pci::Backend> real_;
  platform::Mutex mutex_;
  std::map<std::string, unsigned> counts_;  // mutex_
};

/// What sections "Device Initialization", "Common configuration structure layout" and "MSI-X Vector Configuration" cannot do
/// without, for a card with `queues` queues of the size that the device proposes.
unsigned needed(unsigned queues, bool messages) {
  const unsigned status =
      5 + 2;  // reset, ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK; read after the first and the fourth
  const unsigned features = 4 + 4;                    // two halves each way, selected and accessed
  const unsigned configuration = 2 + 6 + 1;           // the generation before and after, the address, the link status
  const unsigned vector = messages ? 2 : 0;           // written and read back
  const unsigned queue = 1 + 1 + 6 + vector + 1 + 1;  // selected, size, addresses, vector, where to notify, enabled
  const unsigned notifications = 1;                   // of the first receive buffers
  return status + features + configuration + vector + 1 /* how many queues */ + queues * queue + notifications;
}

TEST(BringUp, TakesAtMostAFifthMoreRoundTripsThanTheHandshakeNeeds) {
  for (const bool messages : {true, false}) {
    Bench bench;
    emulation::DeviceSpec spec = emu_spec({"disable-legacy=on", messages ? "vectors=4" : "vectors=0"});
    spec.uri = "qemu:virtio-net-pci";
    spec.model = "virtio-net-pci";
    auto opened = emulation::qemu::open(spec, bench.cables);
    ASSERT_TRUE(opened) << opened.error().message() << " / " << opened.error().advice;
    const auto counting = std::make_shared<Counting>(std::move(*opened));
    const device::Report report = bench.probe(counting, {}, 10s);
    ASSERT_TRUE(report.ok()) << describe(report);
    const unsigned least = needed(3, messages);
    const unsigned total = counting->total();
    RecordProperty(messages ? "round_trips" : "round_trips_by_line", static_cast<int>(total));
    // By line there is less to do, and what else is looked at (the status between the steps) weighs more.
    EXPECT_LE(total * 100, least * (messages ? 120U : 125U)) << total << " accesses, " << least << " are needed:\n"
                                                             << counting->list();
    EXPECT_GE(total, least) << "then this test counts wrongly";
    bench.remove();
  }
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::driver_tests
