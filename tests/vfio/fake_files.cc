// SPDX-License-Identifier: Apache-2.0
// The files below /sys and /proc of the kernel that exists only here.
#include <fmt/format.h>
#include <linux/vfio.h>

#include <cerrno>
#include <string>

#include "tests/vfio/fake_kernel.h"

namespace upci::inline UPCI_VARIANT::test {

auto FakeKernel::read_link(const std::string& path) -> Answer<std::string> {
  const std::string last = path.substr(path.rfind('/') + 1);
  if (const int error = gate("readlink " + last); error != 0) return std::unexpected(-error);
  for (const FakeFunction& function : functions_) {
    const std::string folder = "/sys/bus/pci/devices/" + function.address;
    if (path == folder + "/driver" && !function.driver.empty()) return "../../../bus/pci/drivers/" + function.driver;
    if (path == folder + "/iommu_group" && !function.group.empty())
      return "../../../kernel/iommu_groups/" + function.group;
  }
  return std::unexpected(ENOENT);
}

auto FakeKernel::read_file(const std::string& path) -> Answer<std::string> {
  const std::string last = path.substr(path.rfind('/') + 1);
  if (const int error = gate("reading " + last); error != 0) return std::unexpected(-error);
  if (path == "/proc/interrupts") return interrupts();
  if (path.starts_with("/sys/devices/system/node/node")) {
    return fmt::format("Node 0 MemTotal:  9999 kB\nNode 0 MemFree:     {} kB\n", node_free_kib);
  }
  for (const FakeFunction& function : functions_) {
    const std::string folder = "/sys/bus/pci/devices/" + function.address;
    if (path == folder + "/vendor") return std::string("0x1af4\n");
    if (path == folder + "/numa_node") return fmt::format("{}\n", function.node);
  }
  if (path.starts_with("/proc/irq/")) {
    std::pair<unsigned, unsigned> which;
    FakeFunction* const function = of_irq(static_cast<unsigned>(std::stoul(path.substr(10))), which);
    if (function == nullptr) return std::unexpected(ENOENT);
    const auto kept = kept_effective.find(last);
    return (kept != kept_effective.end() ? std::to_string(kept->second) : function->affinity[which]) + "\n";
  }
  return std::unexpected(ENOENT);
}

int FakeKernel::write_file(const std::string& path, const std::string& text) {
  if (const int error = gate("writing " + path.substr(path.rfind('/') + 1)); error != 0) return error;
  std::pair<unsigned, unsigned> which;
  FakeFunction* const function = of_irq(static_cast<unsigned>(std::stoul(path.substr(10))), which);
  if (function == nullptr) return -ENOENT;
  function->affinity[which] = text.substr(0, text.find('\n'));
  return 0;
}

auto FakeKernel::list(const std::string& path) -> Answer<std::vector<std::string>> {
  if (const int error = gate("opendir"); error != 0) return std::unexpected(-error);
  std::vector<std::string> names;
  for (const FakeFunction& function : functions_) {
    if (path == "/sys/kernel/iommu_groups/" + function.group + "/devices") names.push_back(function.address);
  }
  return names;
}

unsigned FakeKernel::irq_number(const FakeFunction& function, unsigned index, unsigned vector) const {
  unsigned place = 0;
  for (const FakeFunction& each : functions_) {
    if (&each == &function) break;
    ++place;
  }
  return kFirstIrq + place * 100 + index * 20 + vector;
}

FakeFunction* FakeKernel::of_irq(unsigned number, std::pair<unsigned, unsigned>& which) {
  for (FakeFunction& function : functions_) {
    for (const auto& [route, fd] : function.routes) {
      if (irq_number(function, route.first, route.second) != number) continue;
      which = route;
      return &function;
    }
  }
  return nullptr;
}

std::string FakeKernel::interrupts() const {
  std::string text = "            CPU0       CPU1\n   0:         32          0  IR-IO-APIC   2-edge      timer\n";
  for (const FakeFunction& function : functions_) {
    for (const auto& [route, fd] : function.routes) {
      const auto& [index, vector] = route;
      const unsigned number = irq_number(function, index, vector);
      if (index == VFIO_PCI_INTX_IRQ_INDEX) {
        text += fmt::format("  {}:   5   0  IR-IO-APIC  11-fasteoi   uhci, vfio-intx({})\n", number, function.address);
      } else if (index <= VFIO_PCI_MSIX_IRQ_INDEX) {
        text += fmt::format("  {}:   5   0  IR-PCI-MSI 524289-edge      vfio-msi{}[{}]({})\n", number,
                            index == VFIO_PCI_MSIX_IRQ_INDEX ? "x" : "", vector, function.address);
      }
    }
  }
  return text + " NMI:          0          0   Non-maskable interrupts\n";
}

}  // namespace upci::inline UPCI_VARIANT::test
