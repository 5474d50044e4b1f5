// SPDX-License-Identifier: Apache-2.0
// upci net test --capture: what Wireshark's command line program finds in the file.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <sstream>

#include "tests/cli/upci_process.h"

namespace upci::test {
namespace {

struct Row {
  std::string interface, direction, queue, length, comment, data;
};

class Capture : public testing::Test {
 protected:
  void SetUp() override {
    if (std::system("command -v tshark >/dev/null") != 0) GTEST_SKIP() << "no tshark: apt-get install tshark";
    std::string folder = (std::filesystem::temp_directory_path() / "upci-capture-XXXXXX").string();
    ASSERT_NE(::mkdtemp(folder.data()), nullptr);
    folder_ = folder;
    file_ = folder + "/frames.pcapng";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  /// Captures a test, and reads the file back; every frame must be there twice, sent and received.
  std::vector<Row> capture(const std::vector<std::string>& devices, const std::string& frames,
                           const std::string& size) {
    std::vector<std::string> arguments = {"net", "test"};
    arguments.insert(arguments.end(), devices.begin(), devices.end());
    arguments.insert(arguments.end(), {"--frames", frames, "--size", size, "--capture", file_, "--json"});
    const Outcome outcome = run_upci(arguments);
    EXPECT_EQ(outcome.exit_code, 0) << outcome;
    const std::vector<Row> rows = read();
    EXPECT_EQ(outcome.json()["captured"], rows.size()) << outcome;
    std::map<std::string, int> balance;  // sent less received, by content
    for (const Row& row : rows) {
      EXPECT_EQ(row.length, size);
      EXPECT_TRUE(row.direction == "0x00000001" || row.direction == "0x00000002") << row.direction;
      balance[row.data] += row.direction == "0x00000002" ? 1 : -1;
      EXPECT_TRUE(row.comment.starts_with("ring position=")) << row.comment;
    }
    EXPECT_TRUE(std::ranges::all_of(balance, [](const auto& one) { return one.second == 0; }));
    EXPECT_EQ(balance.size(), devices.size() * std::stoul(frames)) << "each frame has bytes of its own";
    return rows;
  }

 private:
  std::vector<Row> read() const {
    const std::string command = "tshark -r " + file_ +
                                " -T fields -E separator='|' -e frame.interface_name -e frame.packet_flags_direction"
                                " -e frame.interface_queue -e frame.len -e frame.comment -e data.data 2>/dev/null";
    FILE* const pipe = ::popen(command.c_str(), "r");
    EXPECT_NE(pipe, nullptr);
    std::string text;
    char piece[65536];
    while (const std::size_t count = std::fread(piece, 1, sizeof(piece), pipe)) text.append(piece, count);
    EXPECT_EQ(::pclose(pipe), 0) << "tshark finds the file broken";
    std::vector<Row> rows;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      std::istringstream fields(line);
      Row row;
      for (std::string* field : {&row.interface, &row.direction, &row.queue, &row.length, &row.comment, &row.data}) {
        std::getline(fields, *field, '|');
      }
      rows.push_back(std::move(row));
    }
    return rows;
  }

  std::string folder_, file_;
};

TEST_F(Capture, HoldsEachFrameOnItsWayOutAndBack) {
  const std::vector<Row> rows = capture({"emu:virtio-net"}, "300", "200");
  ASSERT_EQ(rows.size(), 600U);
  EXPECT_EQ(rows.front().interface, "emu:virtio-net");
  EXPECT_EQ(rows.front().comment, "ring position=0 in_flight=1 size=256 buffers=1");
}

TEST_F(Capture, OfTwoCardsSaysWhichOneItWas) {
  const std::vector<Row> rows =
      capture({"emu:virtio-net,mac=02:00:00:00:00:01", "emu:virtio-net,legacy"}, "100", "100");
  ASSERT_EQ(rows.size(), 400U);
  for (const std::string name : {"emu:virtio-net,mac=02:00:00:00:00:01", "emu:virtio-net,legacy"}) {
    EXPECT_EQ(std::ranges::count(rows, name, &Row::interface), 200) << name;
  }
}

TEST_F(Capture, IsOpenedBeforeAnythingIsDone) {
  const Outcome outcome = run_upci({"net", "test", "emu:virtio-net", "--frames", "1", "--capture", "/nowhere/a"});
  EXPECT_EQ(outcome.exit_code, 5) << outcome;
  EXPECT_NE(outcome.err.find("/nowhere/a"), std::string::npos) << outcome;
  const Outcome full = run_upci({"net", "test", "emu:virtio-net", "--frames", "100", "--capture", "/dev/full"});
  EXPECT_EQ(full.exit_code, 1) << full;
  EXPECT_NE(full.err.find("No space left"), std::string::npos) << full;
}

class QemuCapture : public Capture {};

TEST_F(QemuCapture, OfLongFramesCountsTheBuffers) {
  for (const std::string ring : {"packed=off", "packed=on"}) {
    const std::vector<Row> rows =
        capture({"qemu:virtio-net-pci,disable-legacy=on,host_mtu=9000," + ring}, "50", "8000");
    ASSERT_EQ(rows.size(), 100U);
    for (const Row& row : rows) EXPECT_FALSE(row.comment.ends_with("buffers=1")) << row.comment;
  }
}

}  // namespace
}  // namespace upci::test
