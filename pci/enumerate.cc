// SPDX-License-Identifier: Apache-2.0
#include "pci/enumerate.h"

#include <pciaccess.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <system_error>

#include "base/platform.h"
#include "pci/capability_walk.h"

namespace upci::inline UPCI_VARIANT::pci {
namespace {

namespace fs = std::filesystem;

constexpr std::uint16_t kVirtioVendor = 0x1af4;
constexpr std::uint8_t kVendorCapability = 0x09;
constexpr std::uint16_t kBar0 = 0x10;
constexpr std::uint32_t kBarIo = 1;

/// libpciaccess keeps one list per process. It is made anew for each enumeration, so that what was plugged in or out is seen.
class PciSystem {
 public:
  PciSystem() : lock_(mutex()), error_(pci_system_init()) {}
  ~PciSystem() {
    if (error_ == 0) pci_system_cleanup();
  }
  PciSystem(const PciSystem&) = delete;
  PciSystem& operator=(const PciSystem&) = delete;
  int error() const noexcept { return error_; }

 private:
  static platform::Mutex& mutex() {
    static platform::Mutex the_mutex;
    return the_mutex;
  }
  const std::lock_guard<platform::Mutex> lock_;
  const int error_;
};

struct IteratorDeleter {
  void operator()(pci_device_iterator* iterator) const { pci_iterator_destroy(iterator); }
};

/// The last part of what a link in sysfs points to, or "".
std::string link_name(const fs::path& link) {
  std::error_code error;
  const fs::path target = fs::read_symlink(link, error);
  return error ? std::string() : target.filename().string();
}

int to_number(const std::string& text) {
  int value = -1;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && rest == text.data() + text.size() ? value : -1;
}

int read_number(const fs::path& file) {
  std::ifstream in(file);
  std::string text;
  in >> text;
  return to_number(text);
}

ConfigReader reader_of(pci_device* device) {
  return [device](std::uint16_t offset, unsigned width) -> Result<std::uint32_t> {
    std::array<std::uint8_t, 4> bytes{};
    pciaddr_t got = 0;
    const int error = pci_device_cfg_read(device, bytes.data(), offset, width, &got);
    if (error != 0 || got != width) return fail(Errc::kUnavailable, "this part of the config space may not be read");
    return std::uint32_t{bytes[0]} | std::uint32_t{bytes[1]} << 8 | std::uint32_t{bytes[2]} << 16 |
           std::uint32_t{bytes[3]} << 24;
  };
}

/// Virtio 1.x, section "PCI Device Discovery": device ids 0x1000..0x107f; from 0x1040 on modern, below transitional. A
/// legacy device has a transitional one's id but no virtio capabilities.
VirtioInterface virtio_of(const Function& function, const ConfigReader& read) {
  if (function.vendor != kVirtioVendor || function.device < 0x1000 || function.device > 0x107f)
    return VirtioInterface::kNone;
  if (function.device >= 0x1040) return VirtioInterface::kModern;
  const auto capabilities = walk_capabilities(read);
  if (!capabilities) return VirtioInterface::kUnknown;
  if (std::none_of(capabilities->begin(), capabilities->end(),
                   [](const Capability& c) { return c.id == kVendorCapability; })) {
    return VirtioInterface::kLegacy;
  }
  // The legacy interface of a transitional device is in port space, in BAR 0.
  const auto bar0 = read(kBar0, 4);
  if (!bar0) return VirtioInterface::kUnknown;
  return (*bar0 & kBarIo) != 0 ? VirtioInterface::kTransitional : VirtioInterface::kModern;
}

Function describe(pci_device* device) {
  Function function;
  function.address = {.domain = device->domain,
                      .bus = static_cast<std::uint8_t>(device->bus),
                      .device = static_cast<std::uint8_t>(device->dev),
                      .function = static_cast<std::uint8_t>(device->func)};
  function.vendor = static_cast<std::uint16_t>(device->vendor_id);
  function.device = static_cast<std::uint16_t>(device->device_id);
  function.class_code = device->device_class;
  const fs::path sysfs = fs::path("/sys/bus/pci/devices") / function.address.to_string();
  function.driver = link_name(sysfs / "driver");
  function.node = read_number(sysfs / "numa_node");
  function.iommu_group = to_number(link_name(sysfs / "iommu_group"));
  function.virtio = virtio_of(function, reader_of(device));
  return function;
}

}  // namespace

Result<std::vector<Function>> enumerate() {
  const PciSystem system;
  const std::unique_ptr<pci_device_iterator, IteratorDeleter> iterator(
      system.error() == 0 ? pci_slot_match_iterator_create(nullptr) : nullptr);
  if (!iterator) {
    return fail(Errc::kUnavailable, "this machine shows no PCI bus to this process",
                "a container or a virtual machine without PCI has none: use the emu: and qemu: devices there");
  }
  std::vector<Function> functions;
  while (pci_device* device = pci_device_next(iterator.get())) functions.push_back(describe(device));
  std::sort(functions.begin(), functions.end(),
            [](const Function& a, const Function& b) { return a.address < b.address; });
  return functions;
}

}  // namespace upci::inline UPCI_VARIANT::pci
