// SPDX-License-Identifier: Apache-2.0
// What the text of a device's URI decides.
#include "tests/emu/tiny_driver.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

Error error_of(std::string_view words) {
  auto checked = emu::check(spec_of(words));
  if (!checked) return checked.error();
  ADD_FAILURE() << "'" << words << "' was taken";
  return {};
}

TEST(EmuOptions, WrongWordsAndValuesAreInvalidAndTheAdviceNamesWhatIsAllowed) {
  const struct {
    std::string_view words, advice;
  } cases[] = {
      {"colour=red", "transitional"},
      {"modern=1", "modern"},
      {"mac", "mac="},
      {"mac=02:11:22:33:44", "pairs"},
      {"mac=02:11:22:33:44:zz", ""},
      {"mac=02-11-22-33-44-55", ""},
      {"mac=01:00:00:00:00:00", ""},
      {"mtu=67", "68"},
      {"mtu=65522", "65521"},
      {"mtu=1500x", ""},
      {"mtu=", ""},
      {"queue_size=0", ""},
      {"queue_size=100", "power"},
      {"queue_size=100,packed=on,transitional", "power"},
      {"packed=on,fault=queue-size-odd", "packed=on"},
      {"queue_size=65536", ""},
      {"queue_size=-1", ""},
      {"vectors=33", "32"},
      {"link=sideways", "up or down"},
      {"event_idx=yes", "on or off"},
      {"fault_ms=10", "status-slow"},
      {"fault=nonsense", "status-stuck"},
      {"fault=nonsense", "used-index-jump"},
      {"legacy,fault=features-rejected", "transitional"},
      {"fault=status-slow,fault_ms=0", ""},
  };
  for (const auto& one : cases) {
    const Error error = error_of(one.words);
    EXPECT_EQ(error.code, Errc::kInvalid) << one.words;
    EXPECT_NE(error.advice.find(one.advice), std::string::npos) << one.words << ": " << error.advice;
  }
}

TEST(EmuOptions, AnUnknownModelIsInvalid) {
  auto spec = spec_of("");
  spec.model = "virtio-tape";
  auto checked = emu::check(spec);
  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().code, Errc::kInvalid);
  EXPECT_NE(checked.error().advice.find("virtio-net"), std::string::npos);
}

TEST(EmuOptions, EveryFaultHasANameAWordOfExplanationAndAResult) {
  ASSERT_FALSE(emu::faults().empty());
  for (const auto& fault : emu::faults()) {
    EXPECT_TRUE(emu::check(spec_of("fault=" + std::string(fault.name)))) << fault.name;
    EXPECT_FALSE(fault.what.empty()) << fault.name;
    EXPECT_FALSE(fault.expected.empty()) << fault.name;
  }
}

TEST(EmuOptions, EveryVerdictHasAFault) {
  for (const Verdict verdict :
       {Verdict::kSlow, Verdict::kStuck, Verdict::kGone, Verdict::kNeedsReset, Verdict::kRejected, Verdict::kStalled}) {
    bool found = false;
    for (const auto& fault : emu::faults()) found = found || fault.expected == to_string(verdict);
    EXPECT_TRUE(found) << to_string(verdict);
  }
}

TEST(EmuOptions, NameAndNodeAreAsAsked) {
  each_run(
      [] {
        auto spec = spec_of("legacy");
        spec.node = 1;
        emulation::Cables cables;
        auto opened = emu::open(spec, cables);
        ASSERT_TRUE(opened);
        EXPECT_EQ((*opened)->name(), "emu:virtio-net,legacy");
        EXPECT_EQ((*opened)->node(), 1);
      },
      1);
}

TEST(EmuOptions, QueueSizeIsWhatTheRegistersShow) {
  each_run(
      [] {
        TinyDriver modern(open_device("queue_size=32768"));
        EXPECT_EQ(modern.read<vpci::Common::QueueSize>(), 32768);
        TinyDriver legacy(open_device("legacy,queue_size=2"), true);
        EXPECT_EQ(legacy.read<vpci::Legacy::QueueSize>(), 2);
      },
      1);
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
