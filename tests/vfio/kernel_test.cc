// SPDX-License-Identifier: Apache-2.0
// The real kernel, as far as it can be asked without a device.
#include "vfio/kernel.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <thread>
#include <vector>

#include "base/event_fd.h"
#include "vfio/device_file.h"
#include "vfio/memory.h"
#include "vfio/stand_ins.h"

namespace upci::inline UPCI_VARIANT::test {
namespace {

using vfio::Kernel;
using vfio::KernelFd;
using vfio::Memory;

TEST(VfioKernel, DescriptorsAreClosedOnExecAndReplacedInPlace) {
  const auto kernel = Kernel::real();
  const KernelFd file(kernel, kernel->memory_file(4096));
  const KernelFd null(kernel, kernel->open("/dev/null", O_RDONLY));
  ASSERT_TRUE(file && null);
  EXPECT_EQ(::fcntl(null.get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  const char text[] = "abc";
  EXPECT_EQ(kernel->pwrite(file.get(), text, 3, 10), 3);
  char back[3] = {};
  EXPECT_EQ(kernel->pread(file.get(), back, 3, 10), 3);
  EXPECT_EQ(back[2], 'c');
  EXPECT_EQ(kernel->replace(file.get(), null.get()), file.get());
  EXPECT_EQ(::fcntl(file.get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  EXPECT_EQ(kernel->pread(file.get(), back, 3, 10), 0);
  EXPECT_EQ(kernel->pwrite(file.get(), text, 3, 10), -EBADF) << "writes go nowhere";
  EXPECT_EQ(kernel->ioctl(file.get(), 0x3b6b, 0), -ENOTTY);
}

TEST(VfioKernel, FailuresAreErrnos) {
  const auto kernel = Kernel::real();
  EXPECT_EQ(kernel->open("/nowhere/at/all", O_RDONLY), -ENOENT);
  EXPECT_EQ(kernel->read_link("/nowhere").error(), ENOENT);
  EXPECT_EQ(kernel->read_link("/").error(), EINVAL);
  EXPECT_EQ(kernel->read_file("/nowhere").error(), ENOENT);
  EXPECT_EQ(kernel->write_file("/nowhere", "x"), -ENOENT);
  EXPECT_EQ(kernel->list("/nowhere").error(), ENOENT);
  EXPECT_EQ(kernel->pread(-1, nullptr, 0, 0), -EBADF);
  EXPECT_EQ(kernel->mmap(nullptr, 4096, PROT_READ, MAP_SHARED, -1, 0).error(), EBADF);
  EXPECT_EQ(kernel->mbind(nullptr, 4096, 2, -1), -EINVAL);
}

TEST(VfioKernel, ReadsFilesAndFoldersWhole) {
  const auto kernel = Kernel::real();
  const auto stat = kernel->read_file("/proc/self/maps");
  ASSERT_TRUE(stat);
  EXPECT_THAT(*stat, testing::HasSubstr("vfio_test"));
  const auto names = kernel->list("/proc/self");
  ASSERT_TRUE(names);
  EXPECT_THAT(*names, testing::Contains("maps"));
  EXPECT_TRUE(std::ranges::is_sorted(*names));
  EXPECT_THAT(*names, testing::Not(testing::Contains(".")));
}

TEST(VfioKernel, WatchesSeveralEventfds) {
  const auto kernel = Kernel::real();
  const EventFd one = EventFd::create().value();
  const EventFd two = EventFd::create().value();
  const int fds[] = {one.fd(), two.fd()};
  const KernelFd watch(kernel, kernel->watch(fds));
  ASSERT_TRUE(watch);
  pollfd look{.fd = watch.get(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&look, 1, 0), 0);
  two.signal();
  EXPECT_EQ(::poll(&look, 1, 0), 1);
}

TEST(VfioMemory, IsPresentZeroedAndAligned) {
  const auto kernel = Kernel::real();
  for (const auto pages : {Memory::Pages::kAny, Memory::Pages::kTransparent}) {
    const std::size_t len = pages == Memory::Pages::kAny ? 3 * vfio::kPage : vfio::kHugePage;
    const auto memory = Memory::allocate(kernel, len, 0, pages);
    ASSERT_TRUE(memory) << memory.error().message();
    ASSERT_EQ(memory->size(), len);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory->data()) %
                  (pages == Memory::Pages::kAny ? vfio::kPage : vfio::kHugePage),
              0U);
    std::vector<unsigned char> present(len / vfio::kPage);
    ASSERT_EQ(::mincore(memory->data(), len, present.data()), 0);
    EXPECT_THAT(present, testing::Each(testing::Ne(0)));
    EXPECT_TRUE(
        std::ranges::all_of(std::span(memory->data(), len), [](std::byte byte) { return byte == std::byte{0}; }));
    memory->data()[len - 1] = std::byte{1};
  }
}

TEST(VfioMemory, GivesBackWhatIsNotKept) {
  const auto kernel = Kernel::real();
  auto memory = Memory::allocate(kernel, 8 * vfio::kPage, -1, Memory::Pages::kAny);
  ASSERT_TRUE(memory);
  std::byte* const begin = memory->data();
  memory->keep_only(2 * vfio::kPage, 3 * vfio::kPage);
  EXPECT_EQ(memory->data(), begin + 2 * vfio::kPage);
  memory->data()[3 * vfio::kPage - 1] = std::byte{1};
  unsigned char present = 0;
  EXPECT_EQ(::mincore(begin, vfio::kPage, &present), -1);
  EXPECT_EQ(::mincore(begin + 5 * vfio::kPage, vfio::kPage, &present), -1);
}

TEST(VfioMemory, PhysicalAddressesAreOfWholePagesOrRefusedWithTheRightThatIsMissing) {
  const auto kernel = Kernel::real();
  const auto memory = Memory::allocate(kernel, 4 * vfio::kPage, -1, Memory::Pages::kAny);
  ASSERT_TRUE(memory);
  const auto pages = vfio::physical_pages(kernel, memory->data(), memory->size());
  if (!pages) {
    EXPECT_EQ(pages.error().code, Errc::kUnavailable);
    EXPECT_THAT(pages.error().advice, testing::HasSubstr("CAP_SYS_ADMIN"));
    return;
  }
  ASSERT_EQ(pages->size(), 4U);
  for (const std::uint64_t page : *pages) {
    EXPECT_EQ(page % vfio::kPage, 0U);
    EXPECT_NE(page, 0U);
    EXPECT_EQ(std::ranges::count(*pages, page), 1) << "each page has a frame of its own";
  }
}

TEST(VfioDeviceFile, AccessesGoOnWhileItIsSurrendered) {
  const auto kernel = Kernel::real();
  const KernelFd null(kernel, kernel->open("/dev/null", O_RDONLY));
  for (int round = 0; round < 20; ++round) {
    vfio::DeviceFile file(kernel, kernel->memory_file(4096), "name", "address");
    std::atomic<bool> begun = false;
    std::vector<std::int64_t> answers;
    std::thread reader([&] {
      char byte = 1;
      do {
        answers.push_back(kernel->pread(file.fd(), &byte, 1, 0));
        begun = true;
      } while (answers.back() == 1);
    });
    while (!begun) std::this_thread::yield();
    file.surrender(null.get());
    reader.join();  // it ends, since it reads nothing any more
    EXPECT_TRUE(file.surrendered());
    EXPECT_EQ(answers.back(), 0) << "not an error of a descriptor that is closed, nor the file of somebody else";
  }
}

TEST(VfioStandIns, CoverAMappingOfAFileWithOnes) {
  const auto kernel = Kernel::real();
  const auto stand_ins = vfio::StandIns::create(kernel);
  ASSERT_TRUE(stand_ins);
  const std::size_t len = vfio::kHugePage + 2 * vfio::kPage;
  const KernelFd file(kernel, kernel->memory_file(len));
  const auto mapping = kernel->mmap(nullptr, len, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  ASSERT_TRUE(mapping);
  (*mapping)[0] = (*mapping)[len - 1] = std::byte{7};
  (*stand_ins)->cover(*mapping, len);
  EXPECT_TRUE(std::ranges::all_of(std::span(*mapping, len), [](std::byte byte) { return byte == std::byte{0xff}; }));
  (*mapping)[0] = std::byte{9};
  std::byte behind{};
  EXPECT_EQ(kernel->pread(file.get(), &behind, 1, 0), 1);
  EXPECT_EQ(behind, std::byte{7}) << "the file keeps what it had";
  // Another one that is covered later does not see what was written to the first.
  const auto other = kernel->mmap(nullptr, vfio::kPage, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  ASSERT_TRUE(other);
  (*stand_ins)->cover(*other, vfio::kPage);
  EXPECT_EQ((*other)[0], std::byte{0xff});
  kernel->munmap(*mapping, len);
  kernel->munmap(*other, vfio::kPage);
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::test
