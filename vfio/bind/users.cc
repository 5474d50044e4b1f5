// SPDX-License-Identifier: Apache-2.0
#include "vfio/bind/users.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <set>
#include <sstream>
#include <string_view>

#include "vfio/bind/errors.h"
#include "vfio/bind/mounts.h"

namespace upci::inline UPCI_VARIANT::vfio::bind {
namespace {

bool is_gone(const Error& error) {
  return error.sys_errno == ENOENT || error.sys_errno == ENOTDIR || error.sys_errno == ESRCH;
}

/// The value, or an empty one for what is not there.
template <class T>
Result<T> if_there(Result<T> result) {
  if (!result && is_gone(result.error())) return T{};
  return in_environment(std::move(result));
}

std::vector<std::string> words(const std::string& line) {
  std::istringstream stream(line);
  std::vector<std::string> result;
  for (std::string word; stream >> word;) result.push_back(word);
  return result;
}

std::vector<std::vector<std::string>> lines_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::vector<std::string>> result;
  for (std::string line; std::getline(stream, line);) result.push_back(words(line));
  return result;
}

bool is_number(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

/// Follows what is stacked on each other down to devices. `seen` keeps a loop from being followed for ever.
class Collector {
 public:
  explicit Collector(Sysfs& sysfs) : sysfs_(sysfs) {}

  Result<void> mounts();
  Result<void> btrfs();
  Result<void> swap();
  Result<void> routes();
  std::vector<Use> take() { return std::move(uses_); }

 private:
  Result<void> mount_table(const std::string& text);
  Result<void> mounted(const Mount& mount);
  Result<void> block(const std::string& link, const std::string& what);
  Result<void> below(const std::string& path, const std::string& what);
  Result<void> channels(const Mount& mount, const std::string& what);
  Result<void> interface(const std::string& name, const std::string& what);

  /// The first time that this device is looked at for this use.
  bool is_new(const std::string& path, const std::string& what) { return seen_.insert({path, what}).second; }

  Sysfs& sysfs_;
  std::vector<Use> uses_;
  std::set<std::pair<std::string, std::string>> seen_;
};

// Every process can see another set of mounts: its namespace's, below its root. In an initramfs that went on with chroot, the
// root file system is one that only init sees.
Result<void> Collector::mounts() {
  UPCI_TRY_ASSIGN(const std::string own, in_environment(sysfs_.read("/proc/self/mountinfo")));
  UPCI_TRY(mount_table(own));
  UPCI_TRY_ASSIGN(const std::vector<std::string> processes, in_environment(sysfs_.list("/proc")));
  std::set<std::pair<std::string, std::string>> views;
  for (const std::string& pid : processes) {
    if (!is_number(pid)) continue;
    const auto space = sysfs_.read_link(fmt::format("/proc/{}/ns/mnt", pid));
    const auto root = sysfs_.read_link(fmt::format("/proc/{}/root", pid));
    if (!space || !root || !views.insert({*space, *root}).second) continue;  // it has ended, or was seen
    const auto table = sysfs_.read(fmt::format("/proc/{}/mountinfo", pid));
    if (table) UPCI_TRY(mount_table(*table));
  }
  return {};
}

Result<void> Collector::mount_table(const std::string& text) {
  for (const Mount& mount : parse_mountinfo(text)) UPCI_TRY(mounted(mount));
  return {};
}

Result<void> Collector::mounted(const Mount& mount) {
  const std::string what = fmt::format("the file system mounted at {} ({})", mount.point, mount.source);
  if (mount.type == "9p" || mount.type == "virtiofs") return channels(mount, what);
  if (!mount.number.starts_with("0:")) return block("/sys/dev/block/" + mount.number, what);
  // btrfs and others have a number of their own; their source can still be a disk.
  if (!mount.source.starts_with("/dev/")) return {};
  const auto number = sysfs_.block_number(mount.source);
  if (!number || number->empty()) return {};  // a name that is none here: of another root, or a pool
  return block("/sys/dev/block/" + *number, what);
}

Result<void> Collector::btrfs() {
  UPCI_TRY_ASSIGN(const std::vector<std::string> systems, if_there(sysfs_.list("/sys/fs/btrfs")));
  for (const std::string& id : systems) {
    const std::string folder = fmt::format("/sys/fs/btrfs/{}/devices", id);
    UPCI_TRY_ASSIGN(const std::vector<std::string> devices, if_there(sysfs_.list(folder)));
    for (const std::string& device : devices) {
      UPCI_TRY(block(fmt::format("{}/{}", folder, device), fmt::format("the mounted btrfs {}", id)));
    }
  }
  return {};
}

Result<void> Collector::swap() {
  UPCI_TRY_ASSIGN(const std::string table, if_there(sysfs_.read("/proc/swaps")));
  for (const auto& line : lines_of(table)) {
    if (line.size() < 2 || line[1] != "partition") continue;  // a file is on a mounted file system
    const std::string name = unescaped(line[0]);
    UPCI_TRY_ASSIGN(const std::string number, if_there(sysfs_.block_number(name)));
    if (!number.empty()) UPCI_TRY(block("/sys/dev/block/" + number, fmt::format("the active swap {}", name)));
  }
  return {};
}

Result<void> Collector::block(const std::string& link, const std::string& what) {
  UPCI_TRY_ASSIGN(const std::string path, if_there(sysfs_.real_path(link)));
  if (path.empty() || !is_new(path, what)) return {};
  uses_.push_back({path, what});
  UPCI_TRY(below(path, what));
  // A partition names its disk's slaves nowhere else.
  UPCI_TRY_ASSIGN(const bool partition, in_environment(sysfs_.exists(path + "/partition")));
  if (partition) UPCI_TRY(below(path.substr(0, path.rfind('/')), what));
  return {};
}

Result<void> Collector::below(const std::string& path, const std::string& what) {
  UPCI_TRY_ASSIGN(const std::vector<std::string> slaves, if_there(sysfs_.list(path + "/slaves")));
  for (const std::string& slave : slaves) UPCI_TRY(block(fmt::format("{}/slaves/{}", path, slave), what));
  // A namespace with several paths belongs to a subsystem, which links to its controllers.
  const std::size_t at = path.find("/nvme-subsystem/");
  if (at == std::string::npos) return {};
  const std::string subsystem = path.substr(0, path.find('/', at + 16));
  UPCI_TRY_ASSIGN(const std::vector<std::string> names, if_there(sysfs_.list(subsystem)));
  for (const std::string& name : names) {
    if (!name.starts_with("nvme") || name.find('n', 1) != std::string::npos) continue;  // nvme0n1: what we came from
    UPCI_TRY_ASSIGN(const std::string controller, if_there(sysfs_.real_path(fmt::format("{}/{}", subsystem, name))));
    if (!controller.empty() && is_new(controller, what)) uses_.push_back({controller, what});
  }
  return {};
}

// A virtio channel has a tag, which is the mount's source. Where the kernel does not show it (virtiofs before 6.9), each
// channel of the driver counts.
Result<void> Collector::channels(const Mount& mount, const std::string& what) {
  const std::string driver = mount.type == "9p" ? "9pnet_virtio" : "virtiofs";
  const std::string folder = "/sys/bus/virtio/drivers/" + driver;
  UPCI_TRY_ASSIGN(const std::vector<std::string> names, if_there(sysfs_.list(folder)));
  for (const std::string& name : names) {
    if (!name.starts_with("virtio")) continue;
    const auto tag = sysfs_.read(fmt::format("{}/{}/mount_tag", folder, name));
    if (tag && trimmed(*tag) != mount.source && mount.source != "/dev/root") continue;
    UPCI_TRY_ASSIGN(const std::string path, if_there(sysfs_.real_path(fmt::format("{}/{}", folder, name))));
    if (!path.empty() && is_new(path, what)) uses_.push_back({path, what});
  }
  return {};
}

Result<void> Collector::routes() {
  constexpr unsigned long kReject = 0x200;  // <linux/route.h>: RTF_REJECT
  const auto reject = [](const std::string& flags) {
    return (std::strtoul(flags.c_str(), nullptr, 16) & kReject) != 0;
  };
  UPCI_TRY_ASSIGN(const std::string v4, if_there(sysfs_.read("/proc/net/route")));
  for (const auto& line : lines_of(v4)) {
    // Iface Destination Gateway Flags RefCnt Use Metric Mask ...
    if (line.size() < 8 || line[1] != "00000000" || line[7] != "00000000" || reject(line[3])) continue;
    UPCI_TRY(interface(line[0], fmt::format("the default route (interface {})", line[0])));
  }
  UPCI_TRY_ASSIGN(const std::string v6, if_there(sysfs_.read("/proc/net/ipv6_route")));
  for (const auto& line : lines_of(v6)) {
    // destination length source length next_hop metric ref use flags interface
    if (line.size() < 10 || line[0] != std::string(32, '0') || line[1] != "00" || reject(line[8])) continue;
    UPCI_TRY(interface(line[9], fmt::format("the IPv6 default route (interface {})", line[9])));
  }
  return {};
}

Result<void> Collector::interface(const std::string& name, const std::string& what) {
  const std::string folder = "/sys/class/net/" + name;
  if (!is_new(folder, what)) return {};
  UPCI_TRY_ASSIGN(const std::string device, if_there(sysfs_.real_path(folder + "/device")));
  if (!device.empty()) uses_.push_back({device, what});
  // Bonds, bridges, VLANs and the like link to what is below them.
  UPCI_TRY_ASSIGN(const std::vector<std::string> names, if_there(sysfs_.list(folder)));
  for (const std::string& entry : names) {
    if (entry.starts_with("lower_")) UPCI_TRY(interface(entry.substr(6), what));
  }
  return {};
}

}  // namespace

Result<std::vector<Use>> uses_of_devices(Sysfs& sysfs) {
  Collector collector(sysfs);
  UPCI_TRY(collector.mounts());
  UPCI_TRY(collector.btrfs());
  UPCI_TRY(collector.swap());
  UPCI_TRY(collector.routes());
  return collector.take();
}

const Use* use_of(const std::vector<Use>& uses, const pci::Address& address) {
  const std::string part = "/" + address.to_string() + "/";
  const auto found =
      std::ranges::find_if(uses, [&](const Use& use) { return (use.device + "/").find(part) != std::string::npos; });
  return found == uses.end() ? nullptr : &*found;
}

Result<std::optional<std::string>> opener_of(Sysfs& sysfs, const Function& function) {
  std::set<std::string> nodes;
  if (function.group >= 0) {
    nodes.insert(fmt::format("/dev/vfio/{}", function.group));
    nodes.insert(fmt::format("/dev/vfio/noiommu-{}", function.group));
  }
  UPCI_TRY_ASSIGN(const std::vector<std::string> devices,
                  if_there(sysfs.list(device_path(function.address) + "/vfio-dev")));
  for (const std::string& device : devices) nodes.insert("/dev/vfio/devices/" + device);
  UPCI_TRY_ASSIGN(const std::vector<std::string> processes, in_environment(sysfs.list("/proc")));
  for (const std::string& pid : processes) {
    if (!is_number(pid)) continue;
    const auto fds = sysfs.list(fmt::format("/proc/{}/fd", pid));
    if (!fds) continue;  // it has ended
    for (const std::string& fd : *fds) {
      const auto target = sysfs.read_link(fmt::format("/proc/{}/fd/{}", pid, fd));
      if (!target || !nodes.contains(*target)) continue;
      const auto name = sysfs.read(fmt::format("/proc/{}/comm", pid));
      return fmt::format("process {} ({}) has {} open", pid, name ? trimmed(*name) : "?", *target);
    }
  }
  return std::nullopt;
}

}  // namespace upci::inline UPCI_VARIANT::vfio::bind
