// SPDX-License-Identifier: Apache-2.0
// upci blk test and upci rng over QEMU's own models.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/cli/upci_process.h"

namespace upci::test {
namespace {

using nlohmann::json;
using Arguments = std::vector<std::string>;

json run_good(Arguments arguments) {
  arguments.emplace_back("--json");
  const Outcome outcome = run_upci(arguments);
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
  EXPECT_FALSE(outcome.left_processes);
  return outcome.json();
}

/// A disk image of 4 MiB whose bytes are all 0x5a.
class Image {
 public:
  Image() {
    std::string folder = (std::filesystem::temp_directory_path() / "upci-image-XXXXXX").string();
    EXPECT_NE(::mkdtemp(folder.data()), nullptr);
    folder_ = folder;
    std::ofstream(path(), std::ios::binary) << std::string(4 << 20, 'Z');
  }
  ~Image() { std::filesystem::remove_all(folder_); }
  std::string path() const { return folder_ + "/disk.img"; }
  bool is_untouched() const {
    std::ifstream file(path(), std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), {});
    return bytes.size() == 4 << 20 && std::count(bytes.begin(), bytes.end(), 'Z') == 4 << 20;
  }

 private:
  std::string folder_;
};

TEST(BlkTest, WritesAndReadsAndChecksByEachRing) {
  for (const std::string disk :
       {"qemu:virtio-blk-pci,disable-legacy=on", "qemu:virtio-blk-pci,disable-legacy=on,packed=on,num-queues=4",
        "qemu:virtio-blk-pci,disable-modern=on"}) {
    const json run =
        run_good({"blk", "test", disk, "--destroy-contents", "--requests", "400", "--observed", "--seed", "7"});
    EXPECT_EQ(run["schema"], 1);
    EXPECT_GE(run["reads"].get<int>() + run["writes"].get<int>(), 400) << run;
    EXPECT_GT(run["writes"], 0) << run;
    EXPECT_GT(run["flushes"], 0) << run;
    for (const char* bad : {"errors", "corrupt", "ring_violations"}) EXPECT_EQ(run[bad], 0) << run;
    EXPECT_GT(run["ring_accesses"], 0) << run;
    EXPECT_GT(run["interrupts"], 0) << run;
    EXPECT_GT(run["batch_latency_us"]["median"].get<double>(), 0) << run;
    EXPECT_TRUE(run["error"].is_null()) << run;
  }
}

TEST(BlkTest, WritesNothingUnlessItIsToldTo) {
  const Image image;
  const std::string disk = "qemu:virtio-blk-pci,disk=" + image.path();
  for (const Arguments& more : {Arguments{}, Arguments{"--read-only"}, Arguments{"--poll", "--size", "65536"}}) {
    Arguments arguments = {"blk", "test", disk, "--requests", "200"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const json run = run_good(arguments);
    EXPECT_GE(run["reads"], 200) << run;
    EXPECT_EQ(run["writes"], 0) << run;
    EXPECT_EQ(run["disk"]["capacity_sectors"], 8192) << run;
    EXPECT_TRUE(image.is_untouched());
  }
  run_good({"blk", "test", disk, "--requests", "50", "--destroy-contents"});
  EXPECT_FALSE(image.is_untouched());
}

TEST(BlkTest, AFileThatNobodyMayWriteToIsAReadOnlyDisk) {
  const Image image;
  ASSERT_EQ(::chmod(image.path().c_str(), 0444), 0);
  const std::string disk = "qemu:virtio-blk-pci,disk=" + image.path();
  EXPECT_EQ(run_good({"blk", "test", disk, "--requests", "20"})["disk"]["read_only"], true);
  const Outcome refused = run_upci({"blk", "test", disk, "--destroy-contents", "--json"});
  EXPECT_EQ(refused.exit_code, 5) << refused;
  EXPECT_TRUE(refused.json()["error"].is_string()) << refused;
  EXPECT_TRUE(image.is_untouched());
}

TEST(BlkTest, SaysWhatIsWrong) {
  EXPECT_EQ(run_upci({"blk", "test", "qemu:virtio-rng-pci"}).exit_code, 4);
  EXPECT_EQ(run_upci({"blk", "test", "qemu:virtio-blk-pci,disk=/nonexistent.img"}).exit_code, 5);
  EXPECT_EQ(run_upci({"blk", "test", "qemu:virtio-blk-pci,disk=/dev/null"}).exit_code, 2);
  EXPECT_EQ(run_upci({"blk", "test", "qemu:virtio-net-pci,disk=/nonexistent.img"}).exit_code, 2);
  const Outcome size = run_upci(
      {"blk", "test", "qemu:virtio-blk-pci,logical_block_size=4096,physical_block_size=4096", "--size", "512"});
  EXPECT_EQ(size.exit_code, 2) << size;
  EXPECT_NE(size.err.find("4096"), std::string::npos) << size;
}

TEST(Rng, GivesAsManyBytesAsAskedForRawAsHexAndAsJson) {
  const Outcome raw = run_upci({"rng", "qemu:virtio-rng-pci", "--bytes", "10000"});
  EXPECT_EQ(raw.exit_code, 0) << raw.err;
  EXPECT_EQ(raw.out.size(), 10'000U);
  const Outcome hex = run_upci({"rng", "qemu:virtio-rng-pci,disable-modern=on", "--bytes", "40", "--hex", "--poll"});
  EXPECT_EQ(hex.exit_code, 0) << hex;
  EXPECT_EQ(hex.out.size(), 82U) << "two lines: " << hex;
  const json run = run_good({"rng", "qemu:virtio-rng-pci,disable-legacy=on,packed=on", "--bytes", "32"});
  EXPECT_EQ(run["bytes"], 32) << run;
  EXPECT_EQ(run["hex"].get<std::string>().size(), 64U) << run;
  EXPECT_NE(run["hex"], run_good({"rng", "qemu:virtio-rng-pci", "--bytes", "32"})["hex"]);
}

TEST(Rng, ADeviceThatGivesNothingIsAVerdict) {
  const Outcome stuck =
      run_upci({"rng", "qemu:virtio-rng-pci,max-bytes=8,period=60000", "--bytes", "64", "--limit", "300ms", "--json"});
  EXPECT_EQ(stuck.exit_code, 3) << stuck;
  EXPECT_EQ(stuck.json()["bytes"], 8) << stuck;
  EXPECT_NE(stuck.json()["error"].get<std::string>().find("stuck"), std::string::npos) << stuck;
  EXPECT_EQ(run_upci({"rng", "qemu:virtio-blk-pci", "--hex"}).exit_code, 4);
}

}  // namespace
}  // namespace upci::test
