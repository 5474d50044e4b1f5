// SPDX-License-Identifier: Apache-2.0
// Records on disk: what is written is what is read, and anything else is refused.
#include "vfio/bind/state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/vfio/bind_support.h"

namespace upci::test {
namespace {

using testing::HasSubstr;
using vfio::bind::parse_record;
using vfio::bind::Record;
using vfio::bind::Records;
using vfio::bind::Step;

Record example() {
  return {.address = pci::Address::parse(kNic).value(),
          .vendor = 0x1af4,
          .device = 0x1041,
          .previous_driver = "virtio-pci",
          .previous_override = "",
          .group = 12,
          .step = Step::kBound};
}

TEST(Record, IsReadAsItWasWritten) {
  for (const Step step : {Step::kRecorded, Step::kBound}) {
    for (const int group : {-1, 0, 12}) {
      for (const char* driver : {"", "virtio-pci", "Intel(R) X"}) {
        Record record = example();
        record.step = step;
        record.group = group;
        record.previous_driver = driver;
        record.previous_override = driver;
        const auto read = parse_record(vfio::bind::to_text(record));
        ASSERT_TRUE(read) << read.error().what;
        EXPECT_EQ(read->address, record.address);
        EXPECT_EQ(read->vendor, record.vendor);
        EXPECT_EQ(read->device, record.device);
        EXPECT_EQ(read->previous_driver, driver);
        EXPECT_EQ(read->previous_override, driver);
        EXPECT_EQ(read->group, group);
        EXPECT_EQ(read->step, step);
      }
    }
  }
}

/// The example's text with one thing replaced.
std::string with(const std::string& what, const std::string& by) {
  std::string text = vfio::bind::to_text(example());
  const std::size_t at = text.find(what);
  EXPECT_NE(at, std::string::npos) << what;
  return text.replace(at, what.size(), by);
}

TEST(Record, ThatIsDamagedOrForeignIsRefused) {
  const std::string whole = vfio::bind::to_text(example());
  ASSERT_TRUE(parse_record(whole));
  const std::vector<std::string> hostile = {
      "",
      "{",
      "null",
      "[]",
      "7",
      "\"text\"",
      "{}",
      std::string(100000, '['),
      std::string(16, '\0'),
      "\xff\xfe{}",
      with("\"schema\": 1", "\"schema\": 2"),
      with("\"schema\": 1", "\"schema\": \"1\""),
      with("\"schema\": 1", "\"schem\": 1"),
      with("\"0000:41:00.0\"", "\"../../etc/passwd\""),
      with("\"0000:41:00.0\"", "41"),
      with("\"0x1af4\"", "\"0x1AF\""),
      with("\"0x1af4\"", "\"0x1af4 \""),
      with("\"0x1041\"", "4161"),
      with("\"virtio-pci\"", "\"../../../etc\""),
      with("\"virtio-pci\"", "\"..\""),
      with("\"virtio-pci\"", "\".\""),
      with("\"virtio-pci\"", "\"\""),
      with("\"virtio-pci\"", "\"a/b\""),
      with("\"virtio-pci\"", "\"a\\nb\""),
      with("\"virtio-pci\"", "\"a\\u0000b\""),
      with("\"virtio-pci\"", "\"" + std::string(129, 'a') + "\""),
      with("\"virtio-pci\"", "[\"virtio-pci\"]"),
      with("\"previous_override\": null", "\"previous_override\": 5"),
      with("\"previous_override\": null", "\"previous_override\": \"a\\nb\""),
      with("\"group\": 12", "\"group\": -12"),
      with("\"group\": 12", "\"group\": 1e300"),
      with("\"group\": 12", "\"group\": 99999999999"),
      with("\"group\": 12", "\"group\": \"12\""),
      with("\"bound\"", "\"unheard of\""),
      with("\"bound\"", "null"),
  };
  for (const std::string& text : hostile) {
    const auto record = parse_record(text);
    ASSERT_FALSE(record) << text.substr(0, 400);
    EXPECT_EQ(record.error().code, Errc::kUnavailable);
    EXPECT_THAT(record.error().what, HasSubstr("damaged"));
  }
  for (std::size_t length = 0; length + 2 < whole.size(); ++length) {
    EXPECT_FALSE(parse_record(whole.substr(0, length))) << "torn after " << length << " bytes";
  }
}

TEST(Record, ThatIsDamagedKeepsUnbindFromTouchingTheFunctionAndSaysWhatToDo) {
  Machine machine = plain_machine();
  ASSERT_TRUE(bind(machine, {kNic}));
  const std::string path = kStateFolder + "/" + kNic + ".json";
  machine.files[path] = "{ nonsense";
  const std::string before = machine.state();
  const auto restored = unbind(machine, {kNic});
  ASSERT_TRUE(restored->front().error);
  EXPECT_EQ(restored->front().error->code, Errc::kUnavailable);
  EXPECT_THAT(restored->front().error->what, HasSubstr(path));
  EXPECT_THAT(restored->front().error->advice, HasSubstr(path));
  EXPECT_EQ(machine.state(), before);
  EXPECT_TRUE(machine.has_record(kNic)) << "nobody's evidence is thrown away";
}

TEST(Record, OfAnotherAddressIsRefused) {
  Machine machine = plain_machine();
  ASSERT_TRUE(bind(machine, {kNic}));
  machine.files[kStateFolder + "/" + kNic2 + ".json"] = machine.files[kStateFolder + "/" + kNic + ".json"];
  const std::string before = machine.state();
  ASSERT_TRUE(unbind(machine, {kNic2})->front().error);
  EXPECT_EQ(machine.state(), before);
}

TEST(Records, AllAreTheFilesThatAreNamedByAnAddress) {
  Machine machine = plain_machine();
  for (const char* name :
       {"0000:41:00.0.json", "0000:42:00.0.json", "lock", "0000:43:00.0.json.new", "x.json", ".json"}) {
    machine.files[kStateFolder + "/" + name] = "";
  }
  FakeSysfs sysfs(machine);
  const auto all = Records(sysfs, kStateFolder).all();
  ASSERT_TRUE(all);
  EXPECT_EQ(*all, addresses({"0000:41:00.0", "0000:42:00.0"}));
}

TEST(StateFolder, IsTheEnvironmentsOrTheUsualOne) {
  ::unsetenv("UPCI_STATE_DIR");
  EXPECT_EQ(vfio::bind::state_folder().value(), "/run/upci/bind");
  ::setenv("UPCI_STATE_DIR", "/elsewhere/records//", 1);
  EXPECT_EQ(vfio::bind::state_folder().value(), "/elsewhere/records");
  for (const char* bad : {"", "relative", "/", "///"}) {
    ::setenv("UPCI_STATE_DIR", bad, 1);
    ASSERT_FALSE(vfio::bind::state_folder()) << bad;
    EXPECT_EQ(vfio::bind::state_folder().error().code, Errc::kInvalid);
  }
  ::unsetenv("UPCI_STATE_DIR");
}

}  // namespace
}  // namespace upci::test
