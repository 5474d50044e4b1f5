// SPDX-License-Identifier: Apache-2.0
// A device that cannot be stopped: its resets never end, nobody can prove it quiet, and it goes on writing to every buffer that it
// was ever given. Whatever else the process does must not notice. The pattern that it writes is its own: wherever else that is
// found, memory was given back too soon.
#include "device/quarantine.h"
#include "tests/drivers/bench.h"

namespace upci::inline UPCI_VARIANT::driver_tests {
namespace {

/// What a driver was given, with the addresses that the device keeps.
class Remembered final : public device::DmaSpace {
 public:
  struct Region {
    std::byte* va;
    std::size_t size;
  };
  explicit Remembered(device::DmaSpace& real) noexcept : real_(real) {}
  Result<std::unique_ptr<device::DmaMemory>> alloc(const device::DmaRequest& request) override {
    auto memory = real_.alloc(request);
    if (memory) remember({.va = (*memory)->va(), .size = (*memory)->size()});
    return memory;
  }
  Result<std::unique_ptr<device::DmaMemory>> register_memory(std::span<std::byte> memory,
                                                             const device::DmaRequest& request) override {
    return real_.register_memory(memory, request);
  }
  std::vector<Region> regions() {
    const std::lock_guard lock(mutex_);
    return regions_;
  }

 private:
  void remember(Region region) {
    const std::lock_guard lock(mutex_);
    regions_.push_back(region);
  }
  device::DmaSpace& real_;
  platform::Mutex mutex_;
  std::vector<Region> regions_;  // mutex_
};

/// Around the in-process card: honest until go_rogue().
class Rogue final : public pci::Backend, private device::DeviceControl {
 public:
  explicit Rogue(std::shared_ptr<pci::Backend> card) : card_(std::move(card)), dma_(card_->dma()) {}
  ~Rogue() override { stop(); }

  /// From now on its status never changes, and a thread of it writes to all its old buffers.
  void go_rogue() {
    rogue_.store(true);
    auto thread = platform::Thread::create({.name = "rogue"}, [this] { write_for_ever(); });
    ASSERT_TRUE(thread);
    thread_ = std::move(*thread);
  }
  void stop() {
    if (!rogue_.load() || stop_.exchange(true)) return;
    thread_.join();
  }
  std::uint64_t rounds() const { return rounds_.load(); }
  std::size_t bytes() {
    std::size_t sum = 0;
    for (const Remembered::Region& region : dma_.regions()) sum += region.size;
    return sum;
  }

  const std::string& name() const override { return card_->name(); }
  int node() const override { return card_->node(); }
  std::uint32_t config_read(std::uint16_t offset, unsigned width) override { return card_->config_read(offset, width); }
  void config_write(std::uint16_t offset, unsigned width, std::uint32_t value) override {
    if (!rogue_.load()) card_->config_write(offset, width, value);
  }
  pci::BarInfo bar(unsigned bar) override { return card_->bar(bar); }
  std::uint64_t bar_read(unsigned bar, std::uint64_t offset, unsigned width) override {
    constexpr std::uint64_t kStatus = 0x14;  // in the in-process card's modern registers
    if (rogue_.load() && bar == 4 && offset == kStatus) return 0x0f;
    return card_->bar_read(bar, offset, width);
  }
  void bar_write(unsigned bar, std::uint64_t offset, unsigned width, std::uint64_t value) override {
    if (!rogue_.load()) card_->bar_write(bar, offset, width, value);
  }
  device::DeviceControl& control() override { return *this; }
  device::DmaSpace& dma() override { return dma_; }
  device::IrqSource& irqs() override { return card_->irqs(); }

 private:
  bool present() override { return true; }
  Result<void> set_bus_master(bool on) override {
    return rogue_.load() ? Result<void>() : card_->control().set_bus_master(on);
  }
  Result<void> reset(Deadline deadline) override {
    if (!rogue_.load()) return card_->control().reset(deadline);
    return fail(Errc::kTimeout, "its function-level reset does not end");
  }
  bool proven_quiet() override { return !rogue_.load() && card_->control().proven_quiet(); }
  void abandon() noexcept override {}

  // A device takes no lock: ThreadSanitizer must not mind that it races with nobody it knows of.
  void write_for_ever() {
    while (!stop_.load()) {
      for (const Remembered::Region& region : dma_.regions()) {
        for (std::size_t i = 0; i < region.size; i += 64) {
          std::atomic_ref<std::uint64_t>(*reinterpret_cast<std::uint64_t*>(region.va + i))
              .store(0xeeee'eeee'eeee'eeeeULL, std::memory_order_relaxed);
        }
      }
      rounds_.fetch_add(1);
      platform::this_thread::yield();
    }
  }

  const std::shared_ptr<pci::Backend> card_;
  Remembered dma_;
  platform::Atomic<bool> rogue_{false};
  platform::Atomic<bool> stop_{false};
  platform::Atomic<std::uint64_t> rounds_{0};
  platform::Thread thread_;
};

/// Memory of the process's own, taken and given back all the time, so that whatever was freed too soon is found in it.
class Crop {
 public:
  void grow() {
    for (std::size_t i = 0; i < 64; i++) {
      const std::size_t size = std::size_t{64} << (i % 12);
      fields_.emplace_back(size, static_cast<std::byte>(i));
    }
  }
  void check_and_harvest() {
    for (std::size_t i = 0; i < fields_.size(); i++) {
      const auto want = static_cast<std::byte>(i % 64);
      for (const std::byte byte : fields_[i]) ASSERT_EQ(byte, want) << "memory of ours was written to";
    }
    fields_.clear();
  }

 private:
  std::vector<std::vector<std::byte>> fields_;
};

TEST(RogueDevice, WritesOnAfterItWasAbandonedAndCorruptsNothing) {
  const auto before = device::quarantine::totals();
  Bench bench;
  auto opened = emulation::emu::open(emu_spec({"modern"}), bench.cables);
  ASSERT_TRUE(opened);
  const auto rogue = std::make_shared<Rogue>(*opened);
  ASSERT_EQ(bench.probe(rogue, {}, 5s).result, "ok");
  loop_polled(*bench.nic(), {.frames = 500});
  rogue->go_rogue();

  // Its driver is taken away in spite of it: an error says so, and its memory stays.
  const auto removed = bench.context->remove(bench.device, Deadline::after(300ms));
  ASSERT_FALSE(removed);
  EXPECT_TRUE(bench.device->state()->quarantined());
  const auto kept = device::quarantine::totals();
  EXPECT_GT(kept.regions, before.regions);
  EXPECT_GE(kept.bytes - before.bytes, rogue->bytes() - 4096 * 16) << "all that the device knows of";

  // Another card and the process's own memory come and go meanwhile.
  const std::uint64_t rounds = rogue->rounds();
  for (int i = 0; i < 20; i++) {
    Crop crop;
    crop.grow();
    Bench other;
    ASSERT_EQ(other.probe_emu(emu_spec({"modern"}), bind(i % 2 == 0), 5s).result, "ok");
    loop_polled(*other.nic(), {.frames = 2000, .length = 60, .longest = 1514});
    loop_by_interrupt(*other.nic(), {.frames = 500, .length = 1514});
    other.remove();
    crop.check_and_harvest();
  }
  EXPECT_GT(rogue->rounds(), rounds) << "it wrote all the time";

  // What it wrote is where it may be: in what is kept for it.
  rogue->stop();
  EXPECT_EQ(device::quarantine::totals().regions, kept.regions);
  bench.device->state()->set_quarantined(false);
  device::quarantine::release(*bench.device->state());
  EXPECT_EQ(device::quarantine::totals().regions, before.regions);
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::driver_tests
