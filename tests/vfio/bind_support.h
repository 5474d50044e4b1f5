// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "tests/vfio/fake_machine.h"
#include "vfio/bind/bind.h"

namespace upci::test {

inline std::vector<pci::Address> addresses(const std::vector<std::string>& texts) {
  std::vector<pci::Address> result;
  for (const std::string& text : texts) result.push_back(pci::Address::parse(text).value());
  return result;
}

/// In a process of its own.
inline Result<std::vector<vfio::bind::Bound>> bind(Machine& machine, const std::vector<std::string>& names) {
  FakeSysfs sysfs(machine);
  return vfio::bind::Binder(sysfs, kStateFolder).bind(addresses(names));
}
inline Result<std::vector<vfio::bind::Restored>> unbind(Machine& machine, const std::vector<std::string>& names) {
  FakeSysfs sysfs(machine);
  return vfio::bind::Binder(sysfs, kStateFolder).unbind(addresses(names));
}

inline const std::string kBridge = "0000:40:02.0";
inline const std::string kBehindBridge = "0000:44:01.0";

/// A conventional bus behind a bridge that shpchp has, in one group.
inline Machine bridge_machine() {
  Machine machine = plain_machine();
  machine.add(
      {.address = kBridge, .id = "1b36:0001", .class_code = "0x060400", .header = 1, .group = 15, .driver = "shpchp"});
  machine.add_driver("pcieport");
  machine.add({.address = kBehindBridge, .parent = "/sys/devices/pci0000:40/" + kBridge, .group = 15});
  return machine;
}

/// The number of the call that writes this attribute in a bind of the first NIC.
inline int call_of_write(Machine machine, const std::string& path) {
  FakeSysfs sysfs(machine);
  (void)vfio::bind::Binder(sysfs, kStateFolder).bind(addresses({kNic}));
  for (std::size_t i = 0; i < sysfs.log.size(); ++i) {
    if (sysfs.log[i].ends_with("' to " + path)) return static_cast<int>(i) + 1;
  }
  return 0;
}

}  // namespace upci::test
