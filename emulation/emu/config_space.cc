// SPDX-License-Identifier: Apache-2.0
#include "emulation/emu/config_space.h"

#include "emulation/emu/registers.h"
#include "virtio/spec/ids.h"
#include "virtio/spec/net.h"
#include "virtio/spec/pci.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {
namespace {

namespace vpci = virtio::spec::pci;

// PCI Local Bus Specification 3.0, section 6.1 (header) and 6.2.2 (command).
constexpr std::uint16_t kVendor = 0x00, kDevice = 0x02, kCommand = 0x04, kStatus = 0x06, kRevision = 0x08;
constexpr std::uint16_t kClassInterface = 0x09, kBar0 = 0x10, kSubsystemVendor = 0x2c, kSubsystem = 0x2e;
constexpr std::uint16_t kCapabilities = 0x34, kInterruptPin = 0x3d;
constexpr std::uint16_t kCommandIo = 0x0001, kCommandMemory = 0x0002, kCommandMaster = 0x0004;
constexpr std::uint16_t kCommandLineDisable = 0x0400;
constexpr std::uint16_t kStatusCapabilities = 0x0010;
constexpr std::uint32_t kEthernet = 0x020000;  // network controller, Ethernet, no interface
constexpr std::uint16_t kSubsystemModern = 0x1100;

constexpr std::uint8_t kCapExpress = 0x10, kCapMsix = 0x11;
// PCI Express Base Specification, section 7.5.3.
constexpr std::uint16_t kExpressFlags = 2, kExpressDeviceCap = 4, kExpressDeviceControl = 8;
constexpr std::uint8_t kExpressSize = 0x3c;
constexpr std::uint16_t kExpressVersion2Endpoint = 0x0002;
constexpr std::uint32_t kExpressErrorReporting = 0x8000, kExpressFlr = 0x1000'0000;
constexpr std::uint16_t kInitiateFlr = 0x8000;
constexpr std::uint16_t kMsixControl = 2, kMsixTable = 4, kMsixPending = 8;
constexpr std::uint8_t kMsixSize = 12;

// Where firmware would have put the BARs.
constexpr std::uint32_t kIoAddress = 0xc000, kMsixAddress = 0xfebf'0000, kModernAddress = 0xfebe'0000;
constexpr std::uint8_t kAbsentBar = 7;

static_assert(ConfigSpace::kModernBar == ModernRegisters::kBar && ConfigSpace::kLegacyBar == vpci::kLegacyBar);

}  // namespace

ConfigSpace::ConfigSpace(const Options& options, Interrupts& interrupts) : interrupts_(interrupts) {
  build_header(options);
  build_bars(options);
  build_capabilities(options);
  apply_fault(options);
  power_on_ = bytes_;
  // Firmware or the kernel has switched decoding on by the time a driver comes; a reset switches it off.
  if (options.fault != Fault::kMemoryDecodeOff) put(kCommand, 2, kCommandIo | kCommandMemory);
}

void ConfigSpace::put(std::uint16_t offset, unsigned width, std::uint32_t value, std::uint32_t writable) {
  for (unsigned i = 0; i < width; ++i) {
    bytes_[offset + i] = static_cast<std::uint8_t>(value >> (8 * i));
    writable_[offset + i] |= static_cast<std::uint8_t>(writable >> (8 * i));
  }
}

std::uint32_t ConfigSpace::get(std::uint16_t offset, unsigned width) const {
  std::uint32_t value = 0;
  for (unsigned i = 0; i < width; ++i) value |= std::uint32_t{bytes_[offset + i]} << (8 * i);
  return value;
}

void ConfigSpace::build_header(const Options& options) {
  // Section "PCI Device Discovery": the ids; a transitional device has revision 0 and the device type as subsystem id.
  const bool modern = options.interface == Interface::kModern;
  put(kVendor, 2, vpci::kVendor);
  put(kDevice, 2, modern ? vpci::kFirstModern + virtio::spec::kDeviceNet : vpci::kTransitionalNet);
  put(kRevision, 1, modern ? vpci::kModernRevision : vpci::kLegacyRevision);
  put(kClassInterface, 1, kEthernet & 0xff);
  put(kClassInterface + 1, 2, kEthernet >> 8);
  put(kSubsystemVendor, 2, vpci::kVendor);
  put(kSubsystem, 2, modern ? kSubsystemModern : virtio::spec::kDeviceNet);
  put(kStatus, 2, kStatusCapabilities);
  put(kInterruptPin, 1, 1);
  std::uint16_t writable = kCommandMaster | kCommandLineDisable;
  if (options.fault != Fault::kMemoryDecodeOff) writable |= kCommandIo | kCommandMemory;
  put(kCommand, 2, 0, writable);
}

void ConfigSpace::build_bars(const Options& options) {
  const bool none = options.fault == Fault::kBarSizeZero;
  if (options.has_legacy()) bars_[kLegacyBar] = {.size = none ? 0 : LegacyRegisters::kBarSize, .io = true};
  if (interrupts_.has_msix()) bars_[kMsixBar] = {.size = Interrupts::kTableBarSize, .io = false};
  if (options.has_modern()) bars_[kModernBar] = {.size = none ? 0 : ModernRegisters::kBarSize, .io = false};
  constexpr std::uint32_t kAddresses[] = {kIoAddress, kMsixAddress, 0, 0, kModernAddress, 0};
  for (std::uint16_t i = 0; i < bars_.size(); ++i) {
    if (bars_[i].size == 0) continue;
    // The lowest bit says I/O. The bits below the size are read-only, by which a driver learns the size.
    put(static_cast<std::uint16_t>(kBar0 + 4 * i), 4, kAddresses[i] | (bars_[i].io ? 1U : 0U), ~(bars_[i].size - 1));
  }
}

std::uint8_t ConfigSpace::add_capability(std::uint8_t id, std::uint8_t length) {
  const std::uint8_t at = next_free_;
  put(last_link_, 1, at);
  put(at, 1, id);
  last_link_ = static_cast<std::uint8_t>(at + 1);
  next_free_ = static_cast<std::uint8_t>((at + length + 3) & ~3);
  return at;
}

void ConfigSpace::add_virtio_capability(std::uint8_t type, std::uint8_t length, std::uint32_t offset,
                                        std::uint32_t size) {
  const std::uint8_t at = add_capability(vpci::kVendorCapability, length);
  put(at + vpci::cap::kLength, 1, length);
  put(at + vpci::cap::kType, 1, type);
  put(at + vpci::cap::kBar, 1, kModernBar);
  put(at + vpci::cap::kOffset, 4, offset);
  put(at + vpci::cap::kStructLength, 4, size);
}

void ConfigSpace::build_capabilities(const Options& options) {
  express_ = add_capability(kCapExpress, kExpressSize);
  put(express_ + kExpressFlags, 2, kExpressVersion2Endpoint);
  put(express_ + kExpressDeviceCap, 4, kExpressErrorReporting | kExpressFlr);

  if (interrupts_.has_msix()) {
    msix_ = add_capability(kCapMsix, kMsixSize);
    put(msix_ + kMsixTable, 4, kMsixBar);
    put(msix_ + kMsixPending, 4, Interrupts::kPendingOffset | kMsixBar);
  }
  if (!options.has_modern()) return;

  using Type = vpci::CapType;
  using Registers = ModernRegisters;
  if (options.fault != Fault::kCapMissing) {
    common_ = next_free_;
    add_virtio_capability(static_cast<std::uint8_t>(Type::kCommon), vpci::cap::kSize, Registers::kCommonOffset,
                          vpci::kCommonSizeWithReset);
  }
  add_virtio_capability(static_cast<std::uint8_t>(Type::kIsr), vpci::cap::kSize, Registers::kIsrOffset, 1);
  add_virtio_capability(static_cast<std::uint8_t>(Type::kDevice), vpci::cap::kSize, Registers::kDeviceOffset,
                        virtio::spec::net::config::kSize);
  const std::uint8_t notify = next_free_;
  add_virtio_capability(static_cast<std::uint8_t>(Type::kNotify), vpci::cap::kNotifySize, Registers::kNotifyOffset,
                        Registers::kNotifyLength);
  put(notify + vpci::cap::kNotifyMultiplier, 4, Registers::kNotifyMultiplier);
  pci_access_ = next_free_;
  add_virtio_capability(static_cast<std::uint8_t>(Type::kPci), vpci::cap::kPciSize, 0, 0);
  put(pci_access_ + vpci::cap::kBar, 1, 0, 0xff);
  put(pci_access_ + vpci::cap::kOffset, 4, 0, 0xffff'ffff);
  put(pci_access_ + vpci::cap::kStructLength, 4, 0, 0xffff'ffff);
}

void ConfigSpace::apply_fault(const Options& options) {
  switch (options.fault) {
    case Fault::kCapLoop: put(last_link_, 1, bytes_[kCapabilities]); break;
    case Fault::kCapPointerLow: put(last_link_, 1, kCommand); break;
    case Fault::kCapOutOfRange: put(common_ + vpci::cap::kOffset, 4, ModernRegisters::kBarSize - 4); break;
    case Fault::kCapShort: put(common_ + vpci::cap::kStructLength, 4, 4); break;
    case Fault::kCapBarInvalid:
      for (std::uint8_t at = bytes_[kCapabilities]; at != 0; at = bytes_[at + vpci::cap::kNext]) {
        if (bytes_[at] == vpci::kVendorCapability) put(at + vpci::cap::kBar, 1, kAbsentBar);
      }
      break;
    default: break;
  }
}

std::uint32_t ConfigSpace::read(std::uint16_t offset, unsigned width) const {
  // The extended space is there and empty.
  if (offset + width > bytes_.size()) return offset + width > kSize ? ~std::uint32_t{0} : 0;
  std::uint32_t value = get(offset, width);
  if (msix_ != 0) {
    // Message control lives with the interrupts.
    const std::uint32_t control = interrupts_.message_control();
    for (unsigned i = 0; i < width; ++i) {
      const int byte = offset + static_cast<int>(i) - (msix_ + kMsixControl);
      if (byte == 0 || byte == 1) value |= (control >> (8 * byte) & 0xffU) << (8 * i);
    }
  }
  return value;
}

bool ConfigSpace::write(std::uint16_t offset, unsigned width, std::uint32_t value) {
  if (offset + width > bytes_.size()) return false;
  for (unsigned i = 0; i < width; ++i) {
    const auto byte = static_cast<std::uint8_t>(value >> (8 * i));
    const std::uint8_t mask = writable_[offset + i];
    bytes_[offset + i] = static_cast<std::uint8_t>((bytes_[offset + i] & ~mask) | (byte & mask));
  }
  const auto covers = [&](unsigned at, unsigned& byte) {
    if (at < offset || at >= offset + width) return false;
    byte = value >> (8 * (at - offset)) & 0xffU;
    return true;
  };
  unsigned high = 0;
  if (msix_ != 0 && covers(msix_ + kMsixControl + 1U, high)) {
    interrupts_.write_message_control(static_cast<std::uint16_t>(high << 8));
  }
  return covers(express_ + kExpressDeviceControl + 1U, high) && (high & (kInitiateFlr >> 8)) != 0;
}

bool ConfigSpace::decodes(unsigned bar) const noexcept {
  const std::uint32_t needed = bar_is_io(bar) ? kCommandIo : kCommandMemory;
  return bar_size(bar) != 0 && (get(kCommand, 2) & needed) != 0;
}

bool ConfigSpace::bus_master() const noexcept { return (get(kCommand, 2) & kCommandMaster) != 0; }

void ConfigSpace::set_bus_master(bool on) noexcept {
  const std::uint32_t others = get(kCommand, 2) & ~std::uint32_t{kCommandMaster};
  put(kCommand, 2, others | (on ? kCommandMaster : 0));
}

bool ConfigSpace::line_disabled() const noexcept { return (get(kCommand, 2) & kCommandLineDisable) != 0; }

void ConfigSpace::reset() { bytes_ = power_on_; }

ConfigSpace::Saved ConfigSpace::save() const {
  Saved saved{.command = static_cast<std::uint16_t>(get(kCommand, 2))};
  for (std::uint16_t i = 0; i < saved.bars.size(); ++i) {
    saved.bars[i] = get(static_cast<std::uint16_t>(kBar0 + 4 * i), 4);
  }
  return saved;
}

void ConfigSpace::restore(const Saved& saved) {
  put(kCommand, 2, saved.command);
  for (std::uint16_t i = 0; i < saved.bars.size(); ++i) {
    put(static_cast<std::uint16_t>(kBar0 + 4 * i), 4, saved.bars[i]);
  }
}

std::optional<ConfigSpace::Window> ConfigSpace::window(std::uint16_t offset, unsigned width) const {
  if (pci_access_ == 0 || offset != pci_access_ + vpci::cap::kPciData) return std::nullopt;
  const Window window{.bar = bytes_[pci_access_ + vpci::cap::kBar],
                      .offset = get(static_cast<std::uint16_t>(pci_access_ + vpci::cap::kOffset), 4),
                      .width = get(static_cast<std::uint16_t>(pci_access_ + vpci::cap::kStructLength), 4)};
  // The driver has to give a length of 1, 2 or 4 and an offset that is a multiple of it. Section "PCI configuration
  // access capability".
  const bool valid = window.width == width && window.offset % width == 0 && window.bar < bars_.size() &&
                     window.offset < bar_size(window.bar) && width <= bar_size(window.bar) - window.offset;
  return valid ? std::optional(window) : std::nullopt;
}

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
