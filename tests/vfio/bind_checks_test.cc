// SPDX-License-Identifier: Apache-2.0
// What bind refuses before it lets go of anything.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/vfio/bind_support.h"
#include "vfio/bind/mounts.h"

namespace upci::test {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

const std::string kVirtual = "/sys/devices/virtual/block/";
const std::string kSata = "/sys/devices/pci0000:00/" + kDisk + "/ata1/host0/block/sda";
const std::string kNicPath = "/sys/devices/pci0000:40/0000:40:00.0/" + kNic;

/// Refused, with a reason that says this and with advice, and nothing has changed.
void expect_refused(Machine machine, const std::vector<std::string>& functions, const std::string& reason) {
  const std::string before = machine.state();
  const auto bound = bind(machine, functions);
  ASSERT_FALSE(bound) << "not refused: " << reason;
  EXPECT_EQ(bound.error().code, Errc::kUnavailable);
  EXPECT_THAT(bound.error().message(), HasSubstr(reason));
  EXPECT_FALSE(bound.error().advice.empty());
  EXPECT_THAT(machine.written, IsEmpty());
  EXPECT_EQ(machine.state(), before);
}

void expect_bound(Machine machine, const std::vector<std::string>& functions) {
  const auto bound = bind(machine, functions);
  EXPECT_TRUE(bound) << bound.error().message();
}

void mount(Machine& machine, const std::string& number, const std::string& point, const std::string& type,
           const std::string& source, const std::string& process = "self") {
  machine.files["/proc/" + process + "/mountinfo"] +=
      "30 22 " + number + " / " + point + " rw,relatime shared:1 - " + type + " " + source + " rw\n";
}

/// A disk with a partition behind the SATA controller.
Machine with_disk() {
  Machine machine = plain_machine();
  machine.files[kSata + "/dev"] = "8:0\n";
  machine.files[kSata + "/sda1/partition"] = "1\n";
  machine.links["/sys/dev/block/8:0"] = kSata;
  machine.links["/sys/dev/block/8:1"] = kSata + "/sda1";
  return machine;
}

TEST(BindChecks, AFunctionThatIsNotThere) { expect_refused(plain_machine(), {"0000:99:00.0"}, "no PCI function"); }

TEST(BindChecks, OneBadFunctionKeepsAllFromBeingChanged) {
  expect_refused(plain_machine(), {kNic, "0000:99:00.0"}, "0000:99:00.0");
}

TEST(BindChecks, AFunctionThatIsNoOrdinaryOne) {
  Machine machine = plain_machine();
  machine.add({.address = "0000:45:00.0", .class_code = "0x060700", .header = 2, .driver = ""});
  expect_refused(machine, {"0000:45:00.0"}, "header type 2");
  machine.add({.address = "0000:46:00.0", .header = 0x7f});
  expect_refused(machine, {"0000:46:00.0"}, "header type 127");
  machine.add({.address = "0000:47:00.0", .header = static_cast<char>(0x80), .group = 40});
  expect_bound(machine, {"0000:47:00.0"});
}

TEST(BindChecks, VfioPciThatCannotBeLoaded) {
  Machine machine = plain_machine();
  machine.remove_driver("vfio-pci");
  expect_refused(machine, {kNic}, "vfio-pci");
  machine.loadable = {"vfio-pci"};
  expect_bound(machine, {kNic});
}

TEST(BindChecks, NoIommuGroup) {
  Machine machine = plain_machine();
  machine.links.erase(kNicPath + "/iommu_group");
  expect_refused(machine, {kNic}, "no IOMMU group");
  machine.files["/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"] = "N\n";
  expect_refused(machine, {kNic}, "no IOMMU group");
  machine.files["/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"] = "Y\n";
  expect_bound(machine, {kNic});
}

TEST(BindChecks, AGroupWithAFunctionThatAnotherDriverHas) {
  Machine machine = plain_machine();
  machine.add({.address = "0000:41:00.1", .group = 12, .driver = "e1000e"});
  expect_refused(machine, {kNic}, "0000:41:00.1 (driver e1000e)");
  expect_bound(machine, {kNic, "0000:41:00.1"});
  for (const char* harmless : {"", "vfio-pci", "pci-stub", "pcieport"}) {
    Machine other = plain_machine();
    other.add({.address = "0000:41:00.1", .group = 12, .driver = harmless});
    expect_bound(other, {kNic});
  }
}

TEST(BindChecks, ABridgeWhoseDriverIsInTheWayIsNamedWithIt) {
  expect_refused(bridge_machine(), {kBehindBridge}, kBridge + " (driver shpchp)");
  expect_bound(bridge_machine(), {kBehindBridge, kBridge});
}

TEST(BindChecks, TheAdviceForAGroupIsACommandThatIsNotRefused) {
  Machine machine = bridge_machine();
  const std::string other = "0000:44:02.0";
  machine.add({.address = other, .parent = "/sys/devices/pci0000:40/" + kBridge, .group = 15});
  const auto refused = bind(machine, {kBehindBridge, other});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().advice, HasSubstr("upci bind " + kBridge + " " + kBehindBridge + " " + other + "'"));
  expect_bound(machine, {kBridge, kBehindBridge, other});
}

TEST(BindChecks, ThePartitionThatIsMounted) {
  Machine machine = with_disk();
  mount(machine, "8:1", "/", "ext4", "/dev/sda1");
  expect_refused(machine, {kDisk}, "mounted at / (/dev/sda1)");
  expect_bound(machine, {kNic});
}

TEST(BindChecks, ABridgeAboveADiskThatIsMounted) {
  Machine machine = bridge_machine();
  const std::string disk = "/sys/devices/pci0000:40/" + kBridge + "/" + kBehindBridge + "/virtio3/block/vda";
  machine.files[disk + "/dev"] = "254:0\n";
  machine.links["/sys/dev/block/254:0"] = disk;
  mount(machine, "254:0", "/home", "xfs", "/dev/vda");
  expect_refused(machine, {kBridge}, "mounted at /home");
  expect_refused(machine, {kBehindBridge, kBridge}, "mounted at /home");
}

TEST(BindChecks, AMountThatOnlyAnotherProcessSees) {
  Machine machine = with_disk();
  machine.files["/proc/77/mountinfo"] = "";
  machine.links["/proc/77/ns/mnt"] = "mnt:[2]";
  machine.links["/proc/77/root"] = "/";
  mount(machine, "8:1", "/data", "ext4", "/dev/sda1", "77");
  expect_refused(machine, {kDisk}, "mounted at /data");
}

TEST(BindChecks, AFileSystemOnAStackOfMappings) {
  Machine machine = with_disk();
  machine.files[kVirtual + "dm-0/dev"] = "253:0\n";
  machine.links["/sys/dev/block/253:0"] = kVirtual + "dm-0";
  machine.links[kVirtual + "dm-0/slaves/md0p1"] = kVirtual + "md0/md0p1";
  machine.files[kVirtual + "md0/md0p1/partition"] = "1\n";
  machine.links[kVirtual + "md0/slaves/sda1"] = kSata + "/sda1";
  mount(machine, "253:0", "/", "ext4", "/dev/mapper/root");
  expect_refused(machine, {kDisk}, "/dev/mapper/root");
}

TEST(BindChecks, AnNvmeNamespaceWithSeveralPaths) {
  Machine machine = plain_machine();
  const std::string subsystem = "/sys/devices/virtual/nvme-subsystem/nvme-subsys0";
  machine.add({.address = "0000:48:00.0", .id = "1b36:0010", .class_code = "0x010802", .group = 50, .driver = "nvme"});
  machine.files[subsystem + "/nvme0n1/nvme0n1p1/partition"] = "1\n";
  machine.links["/sys/dev/block/259:1"] = subsystem + "/nvme0n1/nvme0n1p1";
  machine.files["/sys/devices/pci0000:40/0000:48:00.0/nvme/nvme0/state"] = "live\n";
  machine.links[subsystem + "/nvme0"] = "/sys/devices/pci0000:40/0000:48:00.0/nvme/nvme0";
  mount(machine, "259:1", "/", "ext4", "/dev/nvme0n1p1");
  expect_refused(machine, {"0000:48:00.0"}, "mounted at /");
}

TEST(BindChecks, ABtrfsWhoseMountHasANumberOfItsOwn) {
  Machine by_source = with_disk();
  mount(by_source, "0:40", "/", "btrfs", "/dev/sda1");
  by_source.block_devices["/dev/sda1"] = "8:1";
  expect_refused(by_source, {kDisk}, "/dev/sda1");
  Machine by_list = with_disk();
  by_list.links["/sys/fs/btrfs/0b1c/devices/sda1"] = kSata + "/sda1";
  expect_refused(by_list, {kDisk}, "btrfs 0b1c");
}

TEST(BindChecks, ActiveSwap) {
  Machine machine = with_disk();
  machine.files["/proc/swaps"] += "/dev/sda1 partition 1000 0 -2\n";
  machine.block_devices["/dev/sda1"] = "8:1";
  expect_refused(machine, {kDisk}, "swap /dev/sda1");
}

/// A 9p or virtiofs channel behind the first NIC's address.
Machine with_channel(const std::string& driver) {
  Machine machine = plain_machine();
  machine.files[kNicPath + "/virtio5/status"] = "0x0f\n";
  machine.links["/sys/bus/virtio/drivers/" + driver + "/virtio5"] = kNicPath + "/virtio5";
  return machine;
}

TEST(BindChecks, AMounted9pChannelByItsTag) {
  Machine machine = with_channel("9pnet_virtio");
  machine.files[kNicPath + "/virtio5/mount_tag"] = std::string("host_root\0", 10);
  expect_bound(machine, {kNic});
  mount(machine, "0:50", "/other", "9p", "another");
  expect_bound(machine, {kNic});
  mount(machine, "0:51", "/", "9p", "host_root");
  expect_refused(machine, {kNic}, "host_root");
}

TEST(BindChecks, AVirtiofsChannelWhoseTagIsNotShown) {
  Machine machine = with_channel("virtiofs");
  expect_bound(machine, {kNic});
  mount(machine, "0:51", "/mnt", "virtiofs", "share");
  expect_refused(machine, {kNic}, "mounted at /mnt");
}

/// eth0 is the first NIC.
Machine with_interface() {
  Machine machine = plain_machine();
  const std::string device = kNicPath + "/virtio1";
  machine.files[device + "/net/eth0/mtu"] = "1500\n";
  machine.links[device + "/net/eth0/device"] = device;
  machine.links["/sys/class/net/eth0"] = device + "/net/eth0";
  return machine;
}

TEST(BindChecks, TheDefaultRoute) {
  Machine machine = with_interface();
  machine.files["/proc/net/route"] += "eth0 000AA8C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n";
  expect_bound(machine, {kNic});
  machine.files["/proc/net/route"] += "eth0 00000000 0100A8C0 0003 0 0 100 00000000 0 0 0\n";
  expect_refused(machine, {kNic}, "default route (interface eth0)");
  expect_refused(machine, {kNic2, kNic}, "default route (interface eth0)");
  expect_bound(machine, {kNic2});
}

TEST(BindChecks, TheIpv6DefaultRoute) {
  const std::string zero(32, '0');
  Machine machine = with_interface();
  machine.files["/proc/net/ipv6_route"] =
      zero + " 00 " + zero + " 00 " + zero + " ffffffff 00000001 00000000 00200200 eth0\n" +  // unreachable
      "fe80" + std::string(28, '0') + " 40 " + zero + " 00 " + zero + " 00000100 00000001 00000000 00000001 eth0\n";
  expect_bound(machine, {kNic});
  machine.files["/proc/net/ipv6_route"] +=
      zero + " 00 " + zero + " 00 fe80" + std::string(28, '0') + " 00000400 00000001 00000000 00000003 eth0\n";
  expect_refused(machine, {kNic}, "IPv6 default route (interface eth0)");
}

TEST(BindChecks, ADefaultRouteOverWhatIsStackedOnTheInterface) {
  Machine machine = with_interface();
  machine.files["/sys/devices/virtual/net/br0/mtu"] = "1500\n";
  machine.links["/sys/class/net/br0"] = "/sys/devices/virtual/net/br0";
  machine.links["/sys/devices/virtual/net/br0/lower_bond0"] = "/sys/devices/virtual/net/bond0";
  machine.links["/sys/class/net/bond0"] = "/sys/devices/virtual/net/bond0";
  machine.links["/sys/devices/virtual/net/bond0/lower_eth0"] = kNicPath + "/virtio1/net/eth0";
  machine.files["/proc/net/route"] += "br0 00000000 0100A8C0 0003 0 0 100 00000000 0 0 0\n";
  expect_refused(machine, {kNic}, "default route (interface br0)");
}

TEST(Mountinfo, LinesThatAreNoneAreLeftOutAndNamesAreUnescaped) {
  using vfio::bind::parse_mountinfo;
  EXPECT_THAT(parse_mountinfo(""), IsEmpty());
  EXPECT_THAT(parse_mountinfo("\n\n - \nx\n1 2 3 4 5\n1 2 8:1 / / rw -\n1 2 8:1 / / rw - ext4\n"), IsEmpty());
  const auto mounts =
      parse_mountinfo("36 35 98:0 /mnt1 /mnt\\040two rw,noatime master:1 shared:2 - ext3 /dev/a\\134b rw\n");
  ASSERT_EQ(mounts.size(), 1U);
  EXPECT_EQ(mounts[0].number, "98:0");
  EXPECT_EQ(mounts[0].point, "/mnt two");
  EXPECT_EQ(mounts[0].type, "ext3");
  EXPECT_EQ(mounts[0].source, "/dev/a\\b");
  EXPECT_EQ(vfio::bind::unescaped("\\04"), "\\04");
  EXPECT_EQ(vfio::bind::unescaped("\\089"), "\\089");
}

}  // namespace
}  // namespace upci::test
