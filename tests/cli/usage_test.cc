// SPDX-License-Identifier: Apache-2.0
// What the text of the command line alone shows to be wrong: exit code 2, a message, nothing on stdout, nothing started.
#include <gtest/gtest.h>

#include "tests/cli/upci_process.h"

namespace upci::test {
namespace {

using Arguments = std::vector<std::string>;

class Usage : public testing::TestWithParam<Arguments> {};

TEST_P(Usage, IsRefusedWithExitCode2AndAMessage) {
  const Outcome outcome = run_upci(GetParam());
  EXPECT_EQ(outcome.exit_code, 2) << outcome;
  EXPECT_EQ(outcome.out, "") << outcome;
  EXPECT_TRUE(outcome.err.starts_with("upci: ")) << outcome;
  EXPECT_NE(outcome.err.find("--help"), std::string::npos) << "it says where to read more: " << outcome;
  EXPECT_FALSE(outcome.left_processes);
}

const std::string kDevice = "emu:virtio-net";

INSTANTIATE_TEST_SUITE_P(Commands, Usage,
                         testing::Values(Arguments{"nonsense"}, Arguments{"--nonsense"}, Arguments{"list", "nonsense"},
                                         Arguments{"list", "--nonsense"}, Arguments{"list", "version"},
                                         Arguments{"help", "nonsense"}, Arguments{"help", "net", "nonsense"},
                                         Arguments{"net"}, Arguments{"net", "nonsense"},
                                         Arguments{"version", "--jso"}));

INSTANTIATE_TEST_SUITE_P(
    Probe, Usage,
    testing::Values(Arguments{"probe"}, Arguments{"probe", "--json"}, Arguments{"probe", "nonsense"},
                    Arguments{"probe", "xyz:virtio-net"}, Arguments{"probe", "emu:nonsense"},
                    Arguments{"probe", "emu:virtio-net,nonsense"}, Arguments{"probe", "emu:virtio-net,fault=nonsense"},
                    Arguments{"probe", "qemu:virtio-net-pci,fault=status-stuck"},
                    Arguments{"probe", "emu:virtio-net,wire=tap:t0"}, Arguments{"probe", "0000:65:00.9"},
                    Arguments{"probe", "0000:65:00.0,access=nonsense"}, Arguments{"probe", kDevice, "emu:nonsense"},
                    Arguments{"probe", kDevice, "--json", "emu:nonsense"},
                    Arguments{"probe", "emu:virtio-net,wire=cable:a", "emu:virtio-net,wire=cable:a",
                              "emu:virtio-net,wire=cable:a"},
                    Arguments{"probe", kDevice, "--timeout"}, Arguments{"probe", kDevice, "--timeout", "0s"},
                    Arguments{"probe", kDevice, "--timeout", "-1s"}, Arguments{"probe", kDevice, "--timeout=-1s"},
                    Arguments{"probe", kDevice, "--timeout", "2"}, Arguments{"probe", kDevice, "--timeout", "2 s"},
                    Arguments{"probe", kDevice, "--timeout", "99999999999999s"},
                    Arguments{"probe", kDevice, "--timeout", "1s", "--timeout", "2s"},
                    Arguments{"probe", kDevice, "--report"}, Arguments{"probe", kDevice, "--nonsense"}));

INSTANTIATE_TEST_SUITE_P(
    NetTest, Usage,
    testing::Values(
        Arguments{"net", "test", kDevice}, Arguments{"net", "test", "--frames", "1"},
        Arguments{"net", "test", kDevice, "--frames", "0"}, Arguments{"net", "test", kDevice, "--frames", "-1"},
        Arguments{"net", "test", kDevice, "--frames=-1"}, Arguments{"net", "test", kDevice, "--frames", "x"},
        Arguments{"net", "test", kDevice, "--frames", "99999999999999999999"},
        Arguments{"net", "test", kDevice, "--frames", "1", "--size", "59"},
        Arguments{"net", "test", kDevice, "--frames", "1", "--size", "9015"},
        Arguments{"net", "test", kDevice, "--frames", "1", "--size", "100-60"},
        Arguments{"net", "test", kDevice, "--frames", "1", "--size", "60-"},
        Arguments{"net", "test", kDevice, "--frames", "1", "--size", "60-9015"},
        Arguments{"net", "test", kDevice, "--frames", "1", "--idle", "0s"},
        Arguments{"net", "test", kDevice, kDevice, kDevice, "--frames", "1"},
        Arguments{"net", "test", kDevice, "emu:virtio-net,wire=cable:a", "--frames", "1"},
        Arguments{"net", "test", "emu:virtio-net,wire=cable:b", "emu:virtio-net,wire=cable:a", "--frames", "1"},
        Arguments{"net", "test", "emu:virtio-net,wire=loopback", "emu:virtio-net,wire=loopback", "--frames", "1"}));

const std::string kDisk = "qemu:virtio-blk-pci";

INSTANTIATE_TEST_SUITE_P(
    BlkTest, Usage,
    testing::Values(Arguments{"blk"}, Arguments{"blk", "nonsense"}, Arguments{"blk", "test"},
                    Arguments{"blk", "test", kDisk, kDisk}, Arguments{"blk", "test", kDisk, "--requests", "0"},
                    Arguments{"blk", "test", kDisk, "--requests", "x"}, Arguments{"blk", "test", kDisk, "--size", "0"},
                    Arguments{"blk", "test", kDisk, "--size", "513"}, Arguments{"blk", "test", kDisk, "--depth", "0"},
                    Arguments{"blk", "test", kDisk, "--seed", "-1"}, Arguments{"blk", "test", kDisk, "--limit", "0s"},
                    Arguments{"blk", "test", kDisk, "--destroy-contents", "--read-only"},
                    Arguments{"blk", "test", "emu:virtio-net,disk=a"}, Arguments{"blk", "test", kDisk + ",disk="}));

INSTANTIATE_TEST_SUITE_P(Rng, Usage,
                         testing::Values(Arguments{"rng"}, Arguments{"rng", "nonsense"},
                                         Arguments{"rng", "qemu:virtio-rng-pci", "--bytes", "0"},
                                         Arguments{"rng", "qemu:virtio-rng-pci", "--bytes", "-1"},
                                         Arguments{"rng", "qemu:virtio-rng-pci", "--bytes", "99999999999"},
                                         Arguments{"rng", "qemu:virtio-rng-pci", "--limit", "2"},
                                         Arguments{"rng", "qemu:virtio-rng-pci", "qemu:virtio-rng-pci"}));

INSTANTIATE_TEST_SUITE_P(BindAndUnbind, Usage,
                         testing::Values(Arguments{"bind"}, Arguments{"bind", "nonsense"}, Arguments{"bind", "41:00.0"},
                                         Arguments{"bind", "vfio:ffff:ff:1f.7"}, Arguments{"bind", "ffff:ff:1f.8"},
                                         Arguments{"bind", "ffff:ff:1f.7", "ffff:ff:1f.7"},
                                         Arguments{"bind", "ffff:ff:1f.7", "nonsense"}, Arguments{"bind", "--hold"},
                                         Arguments{"bind", "ffff:ff:1f.7", "--all"}, Arguments{"bind", ""},
                                         Arguments{"unbind"}, Arguments{"unbind", "nonsense"},
                                         Arguments{"unbind", "--all", "ffff:ff:1f.7"},
                                         Arguments{"unbind", "ffff:ff:1f.7", "FFFF:FF:1F.7"},
                                         Arguments{"unbind", "ffff:ff:1f.7", "--hold"}));

TEST(UsageMessage, NamesWhatIsWrongAndWhatCouldBeWritten) {
  const Outcome fault = run_upci({"probe", "emu:virtio-net,fault=nonsense"});
  EXPECT_NE(fault.err.find("nonsense"), std::string::npos) << fault;
  EXPECT_NE(fault.err.find("status-stuck"), std::string::npos) << fault;
  const Outcome command = run_upci({"prode", "emu:virtio-net"});
  EXPECT_NE(command.err.find("'prode'"), std::string::npos) << command;
}

}  // namespace
}  // namespace upci::test
