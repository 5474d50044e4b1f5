// SPDX-License-Identifier: Apache-2.0
// Every call to the kernel fails once, with each of several errnos: each time there is an Error that names the call, its
// errno and what to do, or the call is one of those below that may fail; and never is anything left behind.
#include <fmt/format.h>
#include <linux/vfio.h>

#include <cerrno>
#include <cstring>
#include <optional>

#include "base/event_fd.h"
#include "base/log.h"
#include "tests/vfio/support.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

constexpr int kErrnos[] = {EPERM, ENOMEM, EINVAL, EBUSY, ENODEV};

/// What a call's failure is allowed to do other than to end in an Error.
struct Tolerated {
  const char* label;  // how the label begins
  const char* why;
  int only_errno = 0;   // 0: any
  bool leaves = false;  // it may leave memory behind
};

constexpr Tolerated kTolerated[] = {
    {"reading numa_node", "the node is unknown then"},
    {"reading meminfo", "the node is only preferred then"},
    {"mbind", "memory elsewhere is better than none"},
    {"mmap huge", "normal pages do"},
    {"madvise(MADV_POPULATE_WRITE) huge", "normal pages do"},
    {"madvise(MADV_DONTFORK) huge", "normal pages do"},
    {"madvise(MADV_HUGEPAGE)", "it is advice"},
    {"madvise(MADV_POPULATE_WRITE)", "an older kernel: the pages are touched", EINVAL},
    {"mmap BAR", "its accesses take a system call each"},
    {"VFIO_DEVICE_GET_IRQ_INFO", "so the kernel says that the function has none of that kind", EINVAL},
    {"open /dev/kmsg", "there is no evidence then, and it says so"},
    {"lseek /dev/kmsg", "the same"},
    {"read /dev/kmsg", "the same"},
    {"pread config 0x6", "a capability that is not found is as good as none"},
    {"pread config 0x34", "the same"},
    {"pread config 0x40", "the same"},
    {"pread config 0x41", "the same"},
    {"look: pread config", "a read that fails is all ones: not present, not proven quiet"},
    {"reset: pread config", "the proof of silence is withheld"},
    {"pread BAR", "a read that fails is all ones"},
    {"pwrite BAR", "a write that fails is lost, as on a bus"},
    {"reading effective_affinity_list", "what was asked for is read back"},
    {"munmap", "nobody can do anything about that", 0, true},
    {"VFIO_IOMMU_UNMAP_DMA", "the memory is kept: the device may still reach it", 0, true},
    {"close: VFIO_GROUP_UNSET_CONTAINER", "nobody has confirmed that the device reaches no memory: it is kept", 0,
     true},
    {"close: ", "whatever fails, the device is let go"},
};

const Tolerated* tolerated(const std::string& label, int error) {
  for (const Tolerated& each : kTolerated) {
    const bool begins =
        label.starts_with(each.label) || label.find(std::string(": ") + each.label) != std::string::npos;
    if (begins && (each.only_errno == 0 || each.only_errno == error)) return &each;
  }
  return nullptr;
}

/// Life of two functions of one group. The first Error ends it.
std::optional<Error> live(FakeKernel& kernel, const std::shared_ptr<FakeKernel>& shared, bool with_hugepages) {
  kernel.hugepages = with_hugepages ? 4 : 0;
  kernel.run_pages = 64;
  FakeFunction& line = kernel.add("0000:01:00.1");
  FakeFunction& messages = kernel.add("0000:01:00.0");
  line.msix = 0;

  std::vector<EventFd> events;
  for (int i = 0; i < 3; ++i) events.push_back(EventFd::create().value());
  const int fds[] = {events[0].fd(), events[1].fd(), events[2].fd()};

  vfio::Vfio vfio(shared);
  std::optional<Error> failed;
  // Once something has failed, the rest is not tried any more.
  const auto step = [&](const char* phase, auto&& action) {
    if (failed) return;
    kernel.phase = phase;
    if (auto done = action(); !done) failed = std::move(done).error();
  };
  std::shared_ptr<pci::Backend> first, second;
  std::vector<std::unique_ptr<device::DmaMemory>> memory;
  const auto open = [&](std::shared_ptr<pci::Backend>& backend, const char* address) {
    return [&, address]() -> Result<void> {
      UPCI_TRY_ASSIGN(backend, vfio.open(pci::Address::parse(address).value(), address));
      return {};
    };
  };
  const auto alloc = [&](pci::Backend& backend, std::size_t len, device::DmaKind kind) -> Result<void> {
    UPCI_TRY_ASSIGN(auto piece, backend.dma().alloc({.len = len, .node = 1, .kind = kind}));
    std::memset(piece->va(), 0x11, len);
    memory.push_back(std::move(piece));
    return {};
  };
  step("", open(first, "0000:01:00.0"));
  step("", open(second, "0000:01:00.1"));
  step("", [&] { return alloc(*first, 100, device::DmaKind::kTranslated); });
  step("", [&] { return alloc(*first, 3 << 20, device::DmaKind::kTranslated); });
  step("", [&] { return alloc(*first, 8192, device::DmaKind::kPhysical); });
  step("", [&] { return alloc(*second, 8192, device::DmaKind::kPhysical); });
  alignas(4096) static std::byte foreign[4096];
  step("", [&]() -> Result<void> {
    UPCI_TRY_ASSIGN(auto piece, first->dma().register_memory(foreign, {}));
    memory.push_back(std::move(piece));
    return {};
  });
  // The line may be taken for absent when the kernel does not know its index: then it cannot be enabled, and that is right.
  step("", [&] { return first->irqs().count() == 4 ? first->irqs().enable(fds) : Result<void>(); });
  step("", [&] { return second->irqs().count() == 1 ? second->irqs().enable(std::span(fds, 1)) : Result<void>(); });
  step("", [&] { return first->irqs().count() == 4 ? first->irqs().set_affinity(1, 1) : Result<void>(); });
  step("", [&] { return first->irqs().count() == 4 ? first->irqs().set_mask(1, true) : Result<void>(); });
  step("", [&] { return first->irqs().count() == 4 ? first->irqs().set_mask(1, false) : Result<void>(); });
  step("", [&] { return second->irqs().count() == 1 ? second->irqs().set_mask(0, false) : Result<void>(); });
  step("", [&] { return first->control().set_bus_master(true); });
  step("", [&]() -> Result<void> {
    first->bar_write(0, 0, 1, 5);
    static_cast<void>(first->bar_read(0, 0, 1));
    kernel.raise(messages, VFIO_PCI_REQ_IRQ_INDEX, 0);
    static_cast<void>(first->control().evidence());
    return {};
  });
  step("", [&] { return first->irqs().disable(); });
  step("", [&] { return first->control().set_bus_master(false); });
  step("reset: ", [&] { return first->control().reset(Deadline::after(std::chrono::seconds(5))); });
  step("look: ", [&]() -> Result<void> {
    static_cast<void>(first->control().present());
    static_cast<void>(second->control().present());
    static_cast<void>(first->control().proven_quiet());
    return {};
  });
  kernel.phase = "close: ";
  if (first && !failed) first->control().give_back();
  kernel.phase = "free: ";
  memory.resize(memory.size() / 2);  // some before its container goes, some after
  kernel.phase = "close: ";
  first.reset();
  second.reset();
  kernel.phase = "free: ";
  memory.clear();
  return failed;
}

/// What the label says that the Error has to name: the call, without what it was on.
std::string call_of(const std::string& label) {
  std::string call = label.substr(label.rfind(": ") == std::string::npos ? 0 : label.rfind(": ") + 2);
  call = call.substr(0, call.find(' '));
  return call.substr(0, call.find('('));
}

/// Thousands of failures would say in the log what they are.
class VfioFailureTable : public testing::TestWithParam<bool> {
 protected:
  VfioFailureTable() { log::set_level(log::Level::kOff); }
  ~VfioFailureTable() override { log::set_level(level_); }

 private:
  const log::Level level_ = log::level();
};

TEST_P(VfioFailureTable, TheLifeItselfHasNoFault) {
  const auto kernel = std::make_shared<FakeKernel>();
  const auto failed = live(*kernel, kernel, GetParam());
  EXPECT_FALSE(failed) << failed->message();
  EXPECT_EQ(kernel->leaks(), "");
  EXPECT_THAT(kernel->violations, testing::IsEmpty());
  EXPECT_GT(kernel->calls, 100U);
}

TEST_P(VfioFailureTable, EachCallFailsInTurnAndNothingIsLeftBehind) {
  std::size_t calls = 0;
  {
    const auto kernel = std::make_shared<FakeKernel>();
    ASSERT_FALSE(live(*kernel, kernel, GetParam()));
    calls = kernel->calls;
  }
  std::size_t errors = 0;
  for (std::size_t number = 1; number <= calls; ++number) {
    for (const int error : kErrnos) {
      const auto kernel = std::make_shared<FakeKernel>();
      kernel->fail_at = number;
      kernel->fail_errno = error;
      const auto failed = live(*kernel, kernel, GetParam());
      SCOPED_TRACE(fmt::format("call {} ({}), errno {}", number, kernel->failed, std::strerror(error)));
      ASSERT_NE(kernel->failed, "");
      const Tolerated* const may = tolerated(kernel->failed, error);
      if (may != nullptr) {
        EXPECT_FALSE(failed) << failed->message() << "; but: " << may->why;
      } else {
        ++errors;
        ASSERT_TRUE(failed) << "no Error";
        EXPECT_THAT(failed->what, testing::HasSubstr(call_of(kernel->failed)));
        EXPECT_EQ(failed->sys_errno, error);
        EXPECT_NE(failed->advice, "");
      }
      if (may == nullptr || !may->leaves) { EXPECT_EQ(kernel->leaks(), ""); }
      EXPECT_EQ(kernel->open_files(), 0U);
      EXPECT_EQ(kernel->dma_mappings(), 0U);
      EXPECT_THAT(kernel->violations, testing::IsEmpty());
      if (testing::Test::HasFailure()) return;  // one is enough to read
    }
  }
  EXPECT_GT(errors, 200U) << "most calls are not of the tolerated kind";
}

/// What the table relies on.
TEST(VfioFakeKernel, SeesWhatIsLeftBehindAndWhatIsFreedTooEarly) {
  const auto kernel = std::make_shared<FakeKernel>();
  kernel->add("0000:01:00.0");
  vfio::Vfio vfio(kernel);
  {
    const auto backend = vfio.open(pci::Address::parse("0000:01:00.0").value(), "nic").value();
    EXPECT_THAT(kernel->leaks(), testing::HasSubstr("descriptor"));
    EXPECT_THAT(kernel->leaks(), testing::HasSubstr("pages"));
    EXPECT_THAT(kernel->leaks(), testing::HasSubstr("interrupts of 0000:01:00.0")) << "its notices are routed";
    const auto memory = backend->dma().alloc({.len = 4096}).value();
    EXPECT_THAT(kernel->violations, testing::IsEmpty());
    kernel->munmap(memory->va(), 4096);
    EXPECT_THAT(kernel->violations, testing::ElementsAre("munmap of memory that a device can reach"));
  }
  EXPECT_THAT(kernel->violations, testing::Contains("munmap of what is not mapped"));
  EXPECT_EQ(kernel->leaks(), "");
}

INSTANTIATE_TEST_SUITE_P(Machines, VfioFailureTable, testing::Bool(),
                         [](const auto& each) { return each.param ? "WithHugePages" : "WithoutHugePages"; });

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
