// SPDX-License-Identifier: Apache-2.0
#include "tests/vfio/fake_machine.h"

#include <fmt/format.h>

#include <cerrno>

namespace upci::test {
namespace {

const std::string kDevices = "/sys/bus/pci/devices/";
const std::string kDrivers = "/sys/bus/pci/drivers/";

std::string parent_of(const std::string& path) { return path.substr(0, path.rfind('/')); }
std::string last_of(const std::string& path) { return path.substr(path.rfind('/') + 1); }

}  // namespace

void Machine::add(const Function& function) {
  const std::string path = function.parent + "/" + function.address;
  links[kDevices + function.address] = path;
  files[path + "/vendor"] = "0x" + function.id.substr(0, 4) + "\n";
  files[path + "/device"] = "0x" + function.id.substr(5) + "\n";
  files[path + "/class"] = function.class_code + "\n";
  files[path + "/numa_node"] = fmt::format("{}\n", function.node);
  files[path + "/driver_override"] = function.override_.empty() ? "(null)\n" : function.override_ + "\n";
  std::string config(64, '\0');
  config[0x0e] = function.header;
  files[path + "/config"] = config;
  if (!function.driver.empty()) {
    if (!drivers.contains(function.driver)) add_driver(function.driver, {function.id});
    links[path + "/driver"] = kDrivers + function.driver;
  }
  if (function.group >= 0) {
    const std::string group = fmt::format("/sys/kernel/iommu_groups/{}", function.group);
    links[path + "/iommu_group"] = group;
    links[group + "/devices/" + function.address] = path;
  }
}

void Machine::add_driver(const std::string& name, const std::set<std::string>& ids) {
  drivers[name] = ids;
  files[kDrivers + name + "/bind"] = "";
  files[kDrivers + name + "/unbind"] = "";
}

void Machine::remove_driver(const std::string& name) {
  drivers.erase(name);
  files.erase(kDrivers + name + "/bind");
  files.erase(kDrivers + name + "/unbind");
}

void Machine::unplug(const std::string& address) {
  const std::string path = resolve(kDevices + address);
  std::erase_if(files, [&](const auto& file) { return file.first.starts_with(path + "/"); });
  std::erase_if(links, [&](const auto& link) { return link.first.starts_with(path + "/") || link.second == path; });
}

std::string Machine::driver_of(const std::string& address) const {
  const auto link = links.find(resolve(kDevices + address) + "/driver");
  return link == links.end() ? "" : last_of(link->second);
}

std::string Machine::override_of(const std::string& address) const {
  const std::string text = files.at(resolve(kDevices + address) + "/driver_override");
  return text == "(null)\n" ? "" : text.substr(0, text.size() - 1);
}

std::string Machine::state() const {
  std::string text;
  for (const auto& [path, content] : files) {
    if (!path.starts_with(kStateFolder)) text += fmt::format("{}: {}\n", path, content);
  }
  for (const auto& [path, target] : links) text += fmt::format("{} -> {}\n", path, target);
  return text;
}

std::string Machine::resolve(const std::string& path) const {
  std::string resolved;
  for (std::size_t begin = 1; begin <= path.size();) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    resolved += "/" + path.substr(begin, end - begin);
    for (auto link = links.find(resolved); link != links.end(); link = links.find(resolved))
      resolved = resolve(link->second);
    begin = end + 1;
  }
  return resolved;
}

bool Machine::is_there(const std::string& path) const {
  const std::string resolved = resolve(path);
  return files.contains(resolved) || !names_in(resolved).empty();
}

std::set<std::string> Machine::names_in(const std::string& folder) const {
  const std::string prefix = resolve(folder) + "/";
  std::set<std::string> names;
  const auto collect = [&](const auto& entries) {
    for (const auto& [path, _] : entries) {
      if (path.starts_with(prefix))
        names.insert(path.substr(prefix.size(), path.find('/', prefix.size()) - prefix.size()));
    }
  };
  collect(files);
  collect(links);
  return names;
}

bool Machine::matches(const std::string& driver, const std::string& address) const {
  const std::string path = resolve(kDevices + address);
  if (const std::string given = override_of(address); !given.empty()) return given == driver;
  return drivers.at(driver).contains(files.at(path + "/vendor").substr(2, 4) + ":" +
                                     files.at(path + "/device").substr(2, 4));
}

int Machine::attach(const std::string& driver, const std::string& address) {
  if (refusing.contains(driver + " " + address)) return EIO;
  links[resolve(kDevices + address) + "/driver"] = kDrivers + driver;
  return 0;
}

int Machine::write(const std::string& path, const std::string& text) {
  written.push_back(path + " = " + text);
  if (last_of(path) == "driver_override") {
    files[resolve(path)] = text == "\n" ? "(null)\n" : text + "\n";
    return 0;
  }
  if (!links.contains(kDevices + text)) return path == "/sys/bus/pci/drivers_probe" ? EINVAL : ENODEV;
  if (path == "/sys/bus/pci/drivers_probe") {
    if (!driver_of(text).empty()) return 0;
    for (const auto& [name, ids] : drivers) {
      if (matches(name, text)) return attach(name, text), 0;
    }
    return 0;
  }
  const std::string driver = last_of(parent_of(path));
  if (!drivers.contains(driver)) return ENOENT;
  if (last_of(path) == "unbind") {
    if (driver_of(text) != driver) return ENODEV;
    links.erase(resolve(kDevices + text) + "/driver");
    return 0;
  }
  if (last_of(path) != "bind") return EACCES;
  if (!matches(driver, text)) return ENODEV;
  if (!driver_of(text).empty()) return EBUSY;
  return attach(driver, text);
}

Machine plain_machine() {
  Machine machine;
  machine.add_driver("vfio-pci");
  machine.add_driver("virtio-pci", {"1af4:1041"});
  machine.add({.address = kNic, .parent = "/sys/devices/pci0000:40/0000:40:00.0", .group = 12});
  machine.add({.address = kNic2, .parent = "/sys/devices/pci0000:40/0000:40:01.0", .group = 13, .node = 1});
  machine.add({.address = kDisk,
               .id = "8086:2922",
               .class_code = "0x010601",
               .parent = "/sys/devices/pci0000:00",
               .group = 3,
               .driver = "ahci"});
  machine.files["/proc/self/mountinfo"] =
      "22 1 0:21 / / rw - overlay overlay rw\n24 22 0:23 / /proc rw - proc proc rw\n";
  machine.files["/proc/1/mountinfo"] = machine.files["/proc/self/mountinfo"];
  machine.files["/proc/1/comm"] = "init\n";
  machine.links["/proc/1/ns/mnt"] = "mnt:[1]";
  machine.links["/proc/1/root"] = "/";
  machine.links["/proc/1/fd/0"] = "/dev/null";
  machine.files["/proc/swaps"] = "Filename Type Size Used Priority\n";
  machine.files["/proc/net/route"] = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n";
  machine.files["/proc/net/ipv6_route"] = "";
  return machine;
}

Result<void> FakeSysfs::begin(const std::string& what) {
  ++calls;
  log.push_back(what);
  if (dead()) return fail_errno("the process is dead", {}, ESRCH);
  if (calls == fail_at) return fail_errno(what, {}, fail_with);
  return {};
}

Result<void> FakeSysfs::not_hung(const std::string& path, const std::string& text) const {
  for (const std::string& address : machine_.hung) {
    if (path.find(address) == std::string::npos && text != address) continue;
    return fail(Errc::kTimeout, path + ": the kernel has not let go of it");
  }
  return {};
}

Result<bool> FakeSysfs::exists(const std::string& path) {
  UPCI_TRY(begin("stat of " + path));
  return machine_.is_there(path);
}

Result<std::string> FakeSysfs::read(const std::string& path, std::size_t most) {
  UPCI_TRY(begin("reading " + path));
  const auto file = machine_.files.find(machine_.resolve(path));
  if (file == machine_.files.end()) return fail_errno("opening " + path, {}, ENOENT);
  return file->second.substr(0, most);
}

Result<std::string> FakeSysfs::read_link(const std::string& path) {
  UPCI_TRY(begin("readlink of " + path));
  const auto link = machine_.links.find(machine_.resolve(parent_of(path)) + "/" + last_of(path));
  if (link == machine_.links.end()) return fail_errno("readlink of " + path, {}, ENOENT);
  return link->second;
}

Result<std::string> FakeSysfs::real_path(const std::string& path) {
  UPCI_TRY(begin("realpath of " + path));
  if (!machine_.is_there(path)) return fail_errno("realpath of " + path, {}, ENOENT);
  return machine_.resolve(path);
}

Result<std::vector<std::string>> FakeSysfs::list(const std::string& path) {
  UPCI_TRY(begin("opening the folder " + path));
  const std::set<std::string> names = machine_.names_in(path);
  if (names.empty() && path != kStateFolder) return fail_errno("opening the folder " + path, {}, ENOENT);
  return std::vector<std::string>(names.begin(), names.end());
}

Result<std::string> FakeSysfs::block_number(const std::string& path) {
  UPCI_TRY(begin("stat of " + path));
  const auto device = machine_.block_devices.find(path);
  if (device == machine_.block_devices.end()) return fail_errno("stat of " + path, {}, ENOENT);
  return device->second;
}

Result<std::string> FakeSysfs::read_attribute(const std::string& path, Deadline) {
  UPCI_TRY(begin("reading " + path));
  UPCI_TRY(not_hung(path, {}));
  const auto file = machine_.files.find(machine_.resolve(path));
  if (file == machine_.files.end()) return fail_errno("opening " + path, {}, ENOENT);
  return file->second;
}

Result<void> FakeSysfs::write_attribute(const std::string& path, const std::string& text, Deadline) {
  UPCI_TRY(begin(fmt::format("writing '{}' to {}", text, path)));
  if (const auto hangs = machine_.hangs_at.find(path); hangs != machine_.hangs_at.end() && hangs->second == text) {
    machine_.hung.insert(text);
  }
  UPCI_TRY(not_hung(path, text));
  if (const int error = machine_.write(path, text); error != 0) return fail_errno("writing " + path, {}, error);
  return {};
}

Result<std::unique_ptr<vfio::bind::Sysfs::Lock>> FakeSysfs::lock_folder(const std::string& folder, Deadline) {
  class FakeLock final : public Lock {
   public:
    explicit FakeLock(Machine& machine) : machine_(machine) { machine_.locked = true; }
    ~FakeLock() override { machine_.locked = false; }

   private:
    Machine& machine_;
  };
  UPCI_TRY(begin("locking " + folder));
  if (machine_.locked) return fail(Errc::kUnavailable, "another upci is binding or unbinding", "wait");
  return std::make_unique<FakeLock>(machine_);
}

Result<void> FakeSysfs::write_file(const std::string& path, const std::string& text) {
  const bool was_dead = dead();
  const auto begun = begin("writing " + path);
  if (!begun) {
    // A process that dies in here leaves the file that was to replace the other, perhaps not all of it.
    if (!was_dead && dead()) machine_.files[path + ".new"] = text.substr(0, text.size() / 2);
    return begun;
  }
  machine_.files[path] = text;
  machine_.files.erase(path + ".new");
  return {};
}

Result<std::string> FakeSysfs::read_own_file(const std::string& path) { return read(path, kMost); }

Result<void> FakeSysfs::remove_file(const std::string& path) {
  UPCI_TRY(begin("removing " + path));
  if (machine_.files.erase(path) == 0) return fail_errno("removing " + path, {}, ENOENT);
  return {};
}

Result<void> FakeSysfs::load_module(const std::string& name, Deadline) {
  UPCI_TRY(begin("modprobe " + name));
  if (!machine_.loadable.contains(name)) {
    return fail(Errc::kUnavailable, "loading the module " + name, "run 'modprobe " + name + "'");
  }
  machine_.add_driver(name);
  return {};
}

}  // namespace upci::test
