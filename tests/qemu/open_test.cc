// SPDX-License-Identifier: Apache-2.0
// Opening and closing QEMU devices: what is refused, and that nothing is left behind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "emulation/qemu/model.h"
#include "tests/qemu/support.h"

namespace upci::qemu_tests {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

/// Opens it, expects a refusal, and expects that the refusal has left nothing running or open.
Error refusal(const emulation::DeviceSpec& wanted, const emulation::qemu::Options& options = {}) {
  // The first spawn of a process leaves its spawner thread behind, and that has no descriptors.
  const std::size_t before = open_descriptors();
  const auto opened = try_open(wanted, options);
  EXPECT_FALSE(opened) << "it was opened";
  EXPECT_EQ(open_descriptors(), before);
  EXPECT_THAT(qemu_children(), IsEmpty());
  return opened ? Error{} : opened.error();
}

TEST(QemuOpen, ClosingLeavesNoProcessAndNoDescriptor) {
  const std::size_t before = open_descriptors();
  for (const char* model : {"virtio-net-pci", "edu"}) {
    {
      const auto backend = open_or_fail(model);
      ASSERT_TRUE(backend);
      EXPECT_EQ(qemu_children().size(), 1U);
      EXPECT_GT(open_descriptors(), before);
    }
    EXPECT_THAT(qemu_children(), IsEmpty());
    EXPECT_EQ(open_descriptors(), before);
  }
}

TEST(QemuOpen, AnUnknownModelIsInvalidAndNearNamesAreTold) {
  const Error error = refusal(spec("virtio-nte-pci"));
  EXPECT_EQ(error.code, Errc::kInvalid);
  EXPECT_THAT(error.what, HasSubstr("virtio-nte-pci"));
  EXPECT_THAT(error.advice, HasSubstr("virtio-net-pci"));
}

TEST(QemuOpen, AModelThatIsNoPciDeviceIsInvalid) {
  for (const char* model : {"usb-kbd", "isa-serial", "help", "", "edu,help", "edu edu", "pcie-root-port", "vfio-pci"}) {
    const Error error = refusal(spec(model));
    EXPECT_EQ(error.code, Errc::kInvalid) << model << ": " << error.message();
  }
}

TEST(QemuOpen, AnUnknownPropertyIsInvalidAndNearNamesAreTold) {
  const Error error = refusal(spec("virtio-net-pci", {{"disable-legcy", "on"}}));
  EXPECT_EQ(error.code, Errc::kInvalid);
  EXPECT_THAT(error.what, HasSubstr("disable-legcy"));
  EXPECT_THAT(error.advice, HasSubstr("disable-legacy"));
}

TEST(QemuOpen, AValueThatQemuRefusesIsInvalidInQemusOwnWords) {
  const Error error = refusal(spec("virtio-net-pci", {{"mac", "nonsense"}}));
  EXPECT_EQ(error.code, Errc::kInvalid);
  EXPECT_THAT(error.what, HasSubstr("mac"));
  EXPECT_THAT(error.what, HasSubstr("nonsense"));
  EXPECT_THAT(error.what, testing::Not(HasSubstr("\n")));
}

TEST(QemuOpen, PropertiesThatContradictEachOtherAreInvalid) {
  const Error error = refusal(spec("virtio-net-pci", {{"disable-modern", "on"}, {"disable-legacy", "on"}}));
  EXPECT_EQ(error.code, Errc::kInvalid) << error.message();
}

TEST(QemuOpen, ABareWordIsInvalid) {
  emulation::DeviceSpec wanted = spec("virtio-net-pci");
  wanted.words.push_back({.key = "modern"});
  const Error error = refusal(wanted);
  EXPECT_EQ(error.code, Errc::kInvalid);
  EXPECT_THAT(error.what, HasSubstr("modern"));
}

TEST(QemuOpen, PropertiesOfTheHarnessAreInvalid) {
  for (const char* key : {"id", "bus", "addr", "netdev", "multifunction", "driver"}) {
    const Error error = refusal(spec("virtio-net-pci", {{key, "x"}}));
    EXPECT_EQ(error.code, Errc::kInvalid) << key;
    EXPECT_THAT(error.what, HasSubstr(key));
  }
}

TEST(QemuOpen, AValueCannotBringInAnotherOption) {
  // If the commas were not escaped, these would be further properties, of which the last turns the modern interface
  // off.
  const Error error =
      refusal(spec("virtio-net-pci", {{"mac", "52:54:00:12:34:56,disable-modern=on,disable-legacy=off"}}));
  EXPECT_EQ(error.code, Errc::kInvalid) << "the whole is no MAC address";
  EXPECT_THAT(error.what, HasSubstr("disable-modern=on"));
  EXPECT_EQ(refusal(spec("virtio-net-pci", {{"mac", "52:54:00:12:34:56 -daemonize"}})).code, Errc::kInvalid);
  EXPECT_EQ(refusal(spec("virtio-net-pci", {{"mac", "52:54:00:12:34:56\n"}})).code, Errc::kInvalid);
  EXPECT_EQ(refusal(spec("virtio-net-pci", {{"mac=52:54:00:12:34:56,romfile", ""}})).code, Errc::kInvalid);
}

TEST(QemuOpen, ACommaInAValueReachesQemuAsAComma) {
  // Without a disk, a serial number may be any text: a value with a comma has to be taken as one value.
  const auto backend = open_or_fail("nvme", {{"serial", "a,b,,c"}});
  EXPECT_TRUE(backend);
}

TEST(QemuOpen, AMissingQemuIsUnavailableAndTheAdviceNamesThePackage) {
  for (const char* program : {"upci-no-such-program", "/nonexistent/qemu-system-x86_64", "/etc/passwd"}) {
    const Error error = refusal(spec("edu"), {.program = program});
    EXPECT_EQ(error.code, Errc::kUnavailable) << program;
    EXPECT_THAT(error.advice, HasSubstr("qemu-system-x86"));
  }
}

TEST(QemuOpen, AProgramThatIsNotQemuIsRefused) {
  const Error error = refusal(spec("edu"), {.program = "/bin/true"});
  EXPECT_EQ(error.code, Errc::kInvalid) << "it knows no such model";
}

TEST(QemuOpen, AProgramThatNeverAnswersTimesOut) {
  const Deadline limit = Deadline::after(std::chrono::seconds(20));
  const Script silent("exec sleep 100");
  EXPECT_EQ(refusal(spec("edu"), {.program = silent.path(), .start_limit = std::chrono::milliseconds(300)}).code,
            Errc::kTimeout);
  EXPECT_FALSE(limit.expired());
}

TEST(QemuOpen, AProgramThatNeverStopsTalkingFillsNoMemory) {
  // What it says is cut off, and `true` makes its loop go on after a failed write.
  const Script chatter("while true; do echo talk; done 2>/dev/null");
  EXPECT_EQ(refusal(spec("edu"), {.program = chatter.path(), .start_limit = std::chrono::milliseconds(500)}).code,
            Errc::kTimeout);
  const Script yes("exec yes");
  EXPECT_EQ(refusal(spec("edu"), {.program = yes.path()}).code, Errc::kInvalid)
      << "it ends when it cannot write, with no model";
}

TEST(QemuOpen, AMachineThatNeverAnswersTimesOut) {
  const Script half("case \"$*\" in *,help) exec qemu-system-x86_64 \"$@\";; esac; exec sleep 100");
  EXPECT_EQ(refusal(spec("edu"), {.program = half.path(), .start_limit = std::chrono::seconds(1)}).code,
            Errc::kTimeout);
}

TEST(QemuOpen, AMachineThatEndsAtOnceIsUnavailableInItsOwnWords) {
  const Script broken("case \"$*\" in *,help) exec qemu-system-x86_64 \"$@\";; esac; echo no such machine; exit 1");
  const Error error = refusal(spec("edu"), {.program = broken.path()});
  EXPECT_EQ(error.code, Errc::kUnavailable);
  EXPECT_THAT(error.what, HasSubstr("no such machine"));
}

TEST(QemuOpen, FaultsAndWiresThatTheModelCannotHaveAreInvalid) {
  emulation::DeviceSpec faulty = spec("virtio-net-pci");
  faulty.fault = "status-stuck";
  EXPECT_EQ(refusal(faulty).code, Errc::kInvalid);
  emulation::DeviceSpec wired = spec("edu");
  wired.wire = {.kind = emulation::WireSpec::Kind::kCable, .name = "a"};
  EXPECT_EQ(refusal(wired).code, Errc::kInvalid);
}

TEST(QemuOpen, ManyMachinesRunSideBySide) {
  std::vector<std::shared_ptr<pci::Backend>> backends;
  for (int i = 0; i < 4; ++i) backends.push_back(open_or_fail("edu"));
  for (std::uint32_t i = 0; i < 4; ++i) {
    ASSERT_TRUE(backends[i]);
    backends[i]->bar_write(0, edu::kLiveness, 4, i);
  }
  for (std::uint32_t i = 0; i < 4; ++i) EXPECT_EQ(backends[i]->bar_read(0, edu::kLiveness, 4), ~i);
}

TEST(NearestNames, AreSortedByDistanceAndLeaveOutStrangers) {
  using emulation::qemu::nearest_names;
  EXPECT_THAT(nearest_names("mca", {"mac", "rombar", "status", "mq"}, 2), testing::ElementsAre("mac", "mq"));
  EXPECT_THAT(nearest_names("virtio-net", {"edu", "virtio-net-pci", "virtio-nat"}, 5),
              testing::ElementsAre("virtio-nat", "virtio-net-pci"));
  EXPECT_THAT(nearest_names("zzzzzz", {"mac", "edu"}, 5), IsEmpty());
}

}  // namespace
}  // namespace upci::qemu_tests
