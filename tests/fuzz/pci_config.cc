// SPDX-License-Identifier: Apache-2.0
// Config space, BARs and virtio's structures, with the fuzzer as the function: its bytes may differ each time they are read.
#include <array>
#include <memory>

#include "drivers/virtio_pci/legacy.h"
#include "drivers/virtio_pci/structures.h"
#include "pci/device.h"
#include "tests/fuzz/function.h"

namespace {

using namespace upci;

class ConfigFunction final : public fuzz::Function {
 public:
  explicit ConfigFunction(fuzz::Input& input) : input_(input) {
    const std::uint8_t how = input.u8();
    changes_ = (how & 1) != 0;
    for (pci::BarInfo& bar : bars_) {
      const std::uint8_t shape = input.u8();
      bar.size = (shape & 0x1f) == 0 ? 0 : std::uint64_t{1} << (shape & 0x1f);
      if ((shape & 0x40) != 0) bar.size -= 1;
      bar.io = (shape & 0x80) != 0;
    }
    for (std::uint8_t& byte : space_) byte = input.u8();
    // Most of what follows is for devices with capabilities.
    if ((how & 2) == 0) space_[0x06] |= 0x10;
    if ((how & 4) == 0) space_[0x34] &= 0xfc;
  }

  std::uint32_t config_read(std::uint16_t offset, unsigned width) override {
    FUZZ_CHECK(width == 1 || width == 2 || width == 4, "no width of an access");
    FUZZ_CHECK(offset % width == 0 && offset + width <= space_.size(), "an access out of the config space");
    std::uint32_t value = 0;
    for (unsigned i = 0; i < width; ++i) {
      if (changes_ && !input_.empty()) space_[offset + i] = static_cast<std::uint8_t>(space_[offset + i] ^ input_.u8());
      value |= std::uint32_t{space_[offset + i]} << (8 * i);
    }
    return value;
  }
  void config_write(std::uint16_t, unsigned, std::uint32_t) override { FUZZ_CHECK(false, "nothing writes here"); }
  pci::BarInfo bar(unsigned index) override { return bars_.at(index); }
  std::uint64_t bar_read(unsigned index, std::uint64_t offset, unsigned width) override {
    check(index, offset, width);
    return input_.number(width);
  }
  void bar_write(unsigned index, std::uint64_t offset, unsigned width, std::uint64_t) override {
    check(index, offset, width);
  }

 private:
  void check(unsigned index, std::uint64_t offset, unsigned width) const {
    const std::uint64_t size = bars_.at(index).size;
    FUZZ_CHECK(offset % width == 0 && offset <= size && width <= size - offset, "an access beside its BAR");
  }
  fuzz::Input& input_;
  bool changes_ = false;
  std::array<pci::BarInfo, 6> bars_{};
  std::array<std::uint8_t, 256> space_{};
};

/// Within it everything can be reached, behind it nothing.
void touch(const pci::Bar& bar) {
  if (!bar) return;
  FUZZ_CHECK(bar.size() != 0, "an empty window");
  bar.load<std::uint8_t>(0);
  bar.load<std::uint8_t>(bar.size() - 1);
  bar.store<std::uint8_t>(bar.size() - 1, 0);
  bar.load<std::uint64_t>(bar.size() & ~std::uint64_t{7});
  FUZZ_CHECK(bar.load<std::uint8_t>(bar.size()) == 0xff, "an access behind the window has reached something");
  FUZZ_CHECK(bar.load<std::uint32_t>(~std::uint64_t{0} - 3) == 0xffff'ffffU, "the same, at the end of all addresses");
}

void run(fuzz::Input input) {
  auto function = std::make_shared<ConfigFunction>(input);
  auto made = pci::Device::create(function);
  if (!made) return;
  pci::Device& device = **made;
  if (auto capabilities = device.config().capabilities()) {
    FUZZ_CHECK(capabilities->size() <= 48, "more capabilities than there is room for");
    for (const pci::Capability& capability : *capabilities) {
      FUZZ_CHECK(capability.offset >= 0x40 && capability.offset % 4 == 0, "a capability in the header");
    }
  }
  for (unsigned i = 0; i < 8; ++i) {
    if (auto bar = device.bar(i)) touch(*bar);
  }
  if (auto structures = virtio_pci::find_structures(device); structures && *structures) {
    const virtio_pci::Structures& found = **structures;
    FUZZ_CHECK(found.common && found.notify && found.isr, "a structure that every device has is missing");
    FUZZ_CHECK(found.common.size() >= 0x38 && found.notify.size() >= 2, "a structure that is too short");
    for (const pci::Bar* window : {&found.common, &found.notify, &found.isr, &found.device}) touch(*window);
  }
  static_cast<void>(virtio_pci::LegacyTransport::create(*made, 1));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  run({data, size});
  return 0;
}
