// SPDX-License-Identifier: Apache-2.0
#include "emulation/qemu/fabric.h"

#include <fmt/format.h>
#include <linux/pci_regs.h>

#include "emulation/qemu/doorbell.h"

namespace upci::inline UPCI_VARIANT::emulation::qemu {
namespace {

// q35's PCIEXBAR, in the host bridge's config space (Intel 3 Series Express Chipset datasheet, section 5.1.16).
constexpr std::uint32_t kPciExBar = 0x60;
constexpr std::uint32_t kPciExBarEnable = 1;
constexpr std::uint16_t kConfigAddressPort = 0xcf8;
constexpr std::uint16_t kConfigDataPort = 0xcfc;
constexpr std::uint32_t kConfigEnable = 0x80000000;

// The guest's memory map above its RAM.
constexpr std::uint64_t kEcam = 0xb0000000;  // 256 buses of 1 MiB
constexpr std::uint64_t kDoorbellBar = 0xc0000000;
constexpr std::uint64_t kWindow = 0xc0100000;     // the bridge's memory window; in whole MiB
constexpr std::uint64_t kWindowEnd = 0xfe000000;  // the interrupt controllers come soon after
constexpr std::uint64_t kMiB = 0x100000;
constexpr std::uint64_t kIoWindow = 0x6000;  // the bridge's port window; in whole 4 KiB
constexpr std::uint64_t kIoWindowEnd = 0x10000;
constexpr std::uint64_t kIoStep = 0x1000;

constexpr std::uint32_t kCommandAll = PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
constexpr unsigned kMaxCapabilities = 48;  // as many as fit into 192 bytes

constexpr std::uint64_t align_up(std::uint64_t value, std::uint64_t to) noexcept { return (value + to - 1) / to * to; }
constexpr std::uint16_t bar_register(unsigned index) noexcept {
  return static_cast<std::uint16_t>(PCI_BASE_ADDRESS_0 + 4 * index);
}

}  // namespace

std::uint64_t Fabric::config_address(Slot slot, std::uint16_t offset) noexcept {
  return kEcam + (static_cast<std::uint64_t>(slot) << 12) + offset;
}

Result<void> Fabric::bring_up() {
  qtest_.out(kConfigAddressPort, 4, kConfigEnable | kPciExBar);
  qtest_.out(kConfigDataPort, 4, static_cast<std::uint32_t>(kEcam) | kPciExBarEnable);

  config_write(Slot::kDoorbell, PCI_BASE_ADDRESS_0, 4, static_cast<std::uint32_t>(kDoorbellBar));
  config_write(Slot::kDoorbell, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);

  config_write(Slot::kRootPort, PCI_PRIMARY_BUS, 1, 0);
  config_write(Slot::kRootPort, PCI_SECONDARY_BUS, 1, 1);
  config_write(Slot::kRootPort, PCI_SUBORDINATE_BUS, 1, 1);

  const std::uint32_t vendor = config_read(Slot::kDevice, PCI_VENDOR_ID, 2);
  if (!qtest_.alive()) return fail(Errc::kUnavailable, "QEMU has started but does not answer");
  if (vendor == 0xffff) return fail(Errc::kUnavailable, "QEMU has started without the device");
  if ((config_read(Slot::kDevice, PCI_HEADER_TYPE, 1) & 0x7f) != PCI_HEADER_TYPE_NORMAL) {
    return fail(Errc::kInvalid, "the model is a PCI bridge, not a device that a driver could drive");
  }
  size_bars();
  UPCI_TRY(place_bars());
  restore_bars();
  open_windows();
  config_write(Slot::kRootPort, PCI_COMMAND, 2, kCommandAll);
  config_write(Slot::kDevice, PCI_COMMAND, 2, kCommandAll);
  if (config_read(Slot::kDevice, PCI_VENDOR_ID, 2) != vendor) {
    return fail(Errc::kUnavailable, "QEMU stopped answering while its device was being set up");
  }
  return {};
}

std::uint16_t Fabric::find_capability(std::uint8_t id) {
  if ((config_read(Slot::kDevice, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST) == 0) return 0;
  std::uint32_t offset = config_read(Slot::kDevice, PCI_CAPABILITY_LIST, 1);
  for (unsigned i = 0; i < kMaxCapabilities && offset >= 0x40 && offset % 4 == 0; ++i) {
    const std::uint32_t header = config_read(Slot::kDevice, static_cast<std::uint16_t>(offset), 2);
    if ((header & 0xff) == id) return static_cast<std::uint16_t>(offset);
    offset = header >> 8;
  }
  return 0;
}

std::uint64_t Fabric::bar_read(unsigned index, std::uint64_t offset, unsigned width) {
  const BarPlace& place = bars_[index];
  if (!place.io) return qtest_.read(place.address + offset, width);
  const auto port = static_cast<std::uint16_t>(place.address + offset);
  if (width <= 4) return qtest_.in(port, width);
  // Ports are at most 32 bits wide.
  const std::uint64_t low = qtest_.in(port, 4);
  return low | std::uint64_t{qtest_.in(static_cast<std::uint16_t>(port + 4), 4)} << 32;
}

void Fabric::bar_write(unsigned index, std::uint64_t offset, unsigned width, std::uint64_t value) {
  const BarPlace& place = bars_[index];
  if (!place.io) return qtest_.write(place.address + offset, width, value);
  const auto port = static_cast<std::uint16_t>(place.address + offset);
  qtest_.out(port, width <= 4 ? width : 4, static_cast<std::uint32_t>(value));
  if (width > 4) qtest_.out(static_cast<std::uint16_t>(port + 4), 4, static_cast<std::uint32_t>(value >> 32));
}

std::uint64_t Fabric::doorbell_address() const noexcept { return kDoorbellBar + Doorbell::kRegister; }

void Fabric::size_bars() {
  config_write(Slot::kDevice, PCI_COMMAND, 2, 0);
  for (unsigned i = 0; i < kBars; ++i) {
    config_write(Slot::kDevice, bar_register(i), 4, 0xffffffff);
    const std::uint32_t low = config_read(Slot::kDevice, bar_register(i), 4);
    if (low == 0) continue;
    BarPlace& place = bars_[i];
    place.io = (low & PCI_BASE_ADDRESS_SPACE) == PCI_BASE_ADDRESS_SPACE_IO;
    if (place.io) {
      // The upper half may read as zeroes: ports are 16 bits wide here.
      place.size = (~(low & ~std::uint32_t{3}) + 1) & 0xffff;
      continue;
    }
    std::uint64_t mask = low & ~std::uint32_t{0xf};
    const bool wide = (low & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64;
    if (wide && i + 1 < kBars) {
      config_write(Slot::kDevice, bar_register(i + 1), 4, 0xffffffff);
      mask |= std::uint64_t{config_read(Slot::kDevice, bar_register(i + 1), 4)} << 32;
      ++i;  // the next register is this BAR's upper half
    } else {
      mask |= std::uint64_t{0xffffffff} << 32;
    }
    place.size = ~mask + 1;
  }
}

Result<void> Fabric::place_bars() {
  std::uint64_t memory = kWindow;
  std::uint64_t io = kIoWindow;
  for (unsigned i = 0; i < kBars; ++i) {
    BarPlace& place = bars_[i];
    if (place.size == 0) continue;
    std::uint64_t& next = place.io ? io : memory;
    const std::uint64_t end = place.io ? kIoWindowEnd : kWindowEnd;
    const std::uint64_t start = align_up(next, place.size);
    if ((place.size & (place.size - 1)) != 0 || start < next || start > end || place.size > end - start) {
      return fail(Errc::kUnavailable,
                  fmt::format("BAR {} of {:#x} bytes does not fit into the machine's {} space below 4 GiB", i,
                              place.size, place.io ? "port" : "memory"),
                  "give the device a smaller memory");
    }
    place.address = start;
    next = start + place.size;
  }
  memory_end_ = memory;
  io_end_ = io;
  return {};
}

void Fabric::restore_bars() {
  for (unsigned i = 0; i < kBars; ++i) {
    // Below 4 GiB, all of them: the upper half of a 64-bit BAR is 0, as is a register that is not implemented.
    config_write(Slot::kDevice, bar_register(i), 4, static_cast<std::uint32_t>(bars_[i].address));
  }
}

void Fabric::open_windows() {
  // A window whose base lies above its limit is closed. PCI-to-PCI Bridge Architecture Specification 1.2, section
  // 3.2.5.
  constexpr std::uint32_t kClosed = 0x0000fff0;
  const std::uint64_t memory_last = align_up(memory_end_, kMiB) - kMiB;
  const bool memory = memory_end_ > kWindow;
  config_write(Slot::kRootPort, PCI_MEMORY_BASE, 4,
               memory ? static_cast<std::uint32_t>(kWindow >> 16 | (memory_last & 0xfff00000)) : kClosed);
  config_write(Slot::kRootPort, PCI_PREF_MEMORY_BASE, 4, kClosed);
  const std::uint64_t io_last = align_up(io_end_, kIoStep) - kIoStep;
  const bool io = io_end_ > kIoWindow;
  config_write(Slot::kRootPort, PCI_IO_BASE, 1, io ? static_cast<std::uint32_t>(kIoWindow >> 8) : 0xf0);
  config_write(Slot::kRootPort, PCI_IO_LIMIT, 1, io ? static_cast<std::uint32_t>(io_last >> 8) : 0x00);
}

void Fabric::reset_bus() {
  const std::uint32_t control = config_read(Slot::kRootPort, PCI_BRIDGE_CONTROL, 2);
  config_write(Slot::kRootPort, PCI_BRIDGE_CONTROL, 2, control | PCI_BRIDGE_CTL_BUS_RESET);
  config_write(Slot::kRootPort, PCI_BRIDGE_CONTROL, 2, control & ~std::uint32_t{PCI_BRIDGE_CTL_BUS_RESET});
}

}  // namespace upci::inline UPCI_VARIANT::emulation::qemu
