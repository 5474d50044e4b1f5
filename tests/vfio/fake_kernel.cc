// SPDX-License-Identifier: Apache-2.0
#include "tests/vfio/fake_kernel.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <linux/mman.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace upci::inline UPCI_VARIANT::test {
namespace {

constexpr std::uint64_t kPageSize = 4096;
constexpr std::uint64_t kHuge = 2 << 20;
constexpr int kHugeFlags = static_cast<int>(MAP_HUGETLB | MAP_HUGE_2MB);

std::uint64_t pages_up(std::uint64_t len) { return (len + kPageSize - 1) / kPageSize * kPageSize; }

void put(std::vector<std::uint8_t>& config, std::size_t at, std::uint32_t value, unsigned width) {
  for (unsigned i = 0; i < width; ++i) config[at + i] = static_cast<std::uint8_t>(value >> (8 * i));
}

}  // namespace

FakeKernel::~FakeKernel() {
  for (auto& [fd, file] : files_) {
    if (file.real >= 0) ::close(file.real);
  }
  for (const auto& [at, page] : pages_) ::munmap(reinterpret_cast<void*>(at), kPageSize);
  for (FakeFunction& function : functions_) ::close(function.memory);
}

FakeFunction& FakeKernel::add(std::string address) {
  FakeFunction& function = functions_.emplace_back();
  function.address = std::move(address);
  put(function.config, PCI_VENDOR_ID, 0x1af4, 2);
  put(function.config, PCI_DEVICE_ID, 0x1041, 2);
  put(function.config, PCI_STATUS, PCI_STATUS_CAP_LIST, 2);
  put(function.config, PCI_CAPABILITY_LIST, 0x40, 1);
  put(function.config, 0x40, PCI_CAP_ID_PM | 0x5000, 2);
  put(function.config, 0x50, PCI_CAP_ID_EXP, 2);
  function.memory = ::memfd_create("fake-bars", MFD_CLOEXEC);
  if (::ftruncate(function.memory, 6 * kBarSpan) != 0) violations.push_back("no memory for the BARs");
  return function;
}

int FakeKernel::gate(const std::string& label) {
  ++calls;
  labels.push_back(phase + label);
  if (fail_at != 0 && calls == fail_at) {
    failed = phase + label;
    return -fail_errno;
  }
  const auto refusal = refusals.find(label);
  return refusal == refusals.end() ? 0 : -refusal->second;
}

std::string FakeKernel::leaks() const {
  std::vector<std::string> left;
  for (const auto& [fd, file] : files_)
    left.push_back(fmt::format("descriptor {} of kind {}", fd, static_cast<int>(file.kind)));
  if (!pages_.empty()) left.push_back(fmt::format("{} pages", pages_.size()));
  for (const FakeFunction& function : functions_) {
    if (!function.routes.empty())
      left.push_back(fmt::format("{} interrupts of {}", function.routes.size(), function.address));
  }
  return fmt::format("{}", fmt::join(left, ", "));
}

std::size_t FakeKernel::dma_mappings() const {
  std::size_t count = 0;
  for (const auto& [fd, file] : files_) {
    if (file.kind == File::Kind::kContainer) count += file.container->mappings.size();
  }
  return count;
}

bool FakeKernel::device_open(const FakeFunction& function) const {
  return std::ranges::any_of(files_, [&](const auto& each) { return each.second.function == &function; }) ||
         std::ranges::any_of(pages_, [&](const auto& each) { return each.second.function == &function; });
}

std::optional<std::uint64_t> FakeKernel::physical(const std::byte* at) const {
  const auto address = reinterpret_cast<std::uintptr_t>(at);
  const auto page = pages_.find(address / kPageSize * kPageSize);
  if (page == pages_.end() || page->second.physical == 0) return std::nullopt;
  return page->second.physical + address % kPageSize;
}

FakeFunction* FakeKernel::find(const std::string& address) {
  const auto found = std::ranges::find(functions_, address, &FakeFunction::address);
  return found == functions_.end() ? nullptr : &*found;
}

bool FakeKernel::group_open(const std::string& group) const {
  return std::ranges::any_of(
      files_, [&](const auto& each) { return each.second.kind == File::Kind::kGroup && each.second.group == group; });
}

int FakeKernel::add_file(File file) {
  files_.emplace(next_fd_, std::move(file));
  return next_fd_++;
}

int FakeKernel::open(const std::string& path, int) {
  if (const int error = gate("open " + path); error != 0) return error;
  if (path == "/dev/vfio/vfio")
    return add_file({.kind = File::Kind::kContainer, .container = std::make_shared<Container>()});
  if (path == "/dev/null") return add_file({.kind = File::Kind::kNothing});
  if (path == "/proc/self/pagemap") return add_file({.kind = File::Kind::kPagemap});
  if (path == "/dev/kmsg") return add_file({.kind = File::Kind::kLog});
  for (const FakeFunction& function : functions_) {
    if (path != "/dev/vfio/" + function.group || !function.driver.ends_with("vfio-pci")) continue;
    if (group_open(function.group)) return -EBUSY;
    return add_file({.kind = File::Kind::kGroup, .group = function.group});
  }
  return -ENOENT;
}

/// What the kernel does when the last reference of a file goes.
void FakeKernel::let_go(File& file) {
  if (file.real >= 0) ::close(file.real);
  if (file.kind == File::Kind::kGroup && file.container && --file.container->groups == 0)
    file.container->mappings.clear();
  FakeFunction* const function = file.function;
  file = {};
  if (function != nullptr && !device_open(*function)) {
    function->routes.clear();
    function->config[4] &= static_cast<std::uint8_t>(~PCI_COMMAND_MASTER);
  }
}

void FakeKernel::close(int fd) noexcept {
  const auto file = files_.find(fd);
  if (file == files_.end()) {
    violations.push_back(fmt::format("close of {}, which is not open", fd));
    return;
  }
  File taken = std::move(file->second);
  files_.erase(file);
  let_go(taken);
}

int FakeKernel::replace(int fd, int source) noexcept {
  if (const int error = gate("dup3"); error != 0) return error;
  if (!files_.contains(fd) || !files_.contains(source)) return -EBADF;
  File taken = std::move(files_[fd]);
  files_[fd] = {.kind = files_[source].kind};
  let_go(taken);
  return fd;
}

std::int64_t FakeKernel::read(int fd, void* to, std::size_t len) {
  if (const int error = gate("read /dev/kmsg"); error != 0) return error;
  File& file = files_.at(fd);
  if (file.read >= log.size()) return -EAGAIN;
  const std::string& record = log[file.read++];
  const std::size_t count = std::min(len, record.size());
  std::memcpy(to, record.data(), count);
  return static_cast<std::int64_t>(count);
}

int FakeKernel::seek_end(int fd) {
  if (const int error = gate("lseek /dev/kmsg"); error != 0) return error;
  files_.at(fd).read = log.size();
  return 0;
}

std::int64_t FakeKernel::pread(int fd, void* to, std::size_t len, std::uint64_t offset) {
  const File& file = files_.at(fd);
  if (file.kind == File::Kind::kNothing) return 0;
  if (file.kind == File::Kind::kPagemap) {
    const std::uintptr_t first = offset / 8 * kPageSize;
    const bool huge = pages_.contains(first) && pages_[first].huge;
    if (const int error = gate(huge ? "pread pagemap of huge pages" : "pread pagemap"); error != 0) return error;
    for (std::size_t i = 0; i < len / 8; ++i) {
      const auto page = pages_.find(first + i * kPageSize);
      std::uint64_t entry = page == pages_.end() ? 0 : std::uint64_t{1} << 63;
      if (page != pages_.end() && frame_numbers) entry |= page->second.physical / kPageSize;
      std::memcpy(static_cast<std::byte*>(to) + i * 8, &entry, 8);
    }
    return static_cast<std::int64_t>(len);
  }
  FakeFunction* const function = file.function;
  if (function == nullptr) return -EBADF;
  const unsigned index = static_cast<unsigned>(offset >> 40);
  const std::uint64_t at = offset & ((std::uint64_t{1} << 40) - 1);
  if (index == VFIO_PCI_CONFIG_REGION_INDEX) {
    if (const int error = gate(fmt::format("pread config {:#x}", at)); error != 0) return error;
    std::vector<std::uint8_t> config = function->config;
    if (function->pending) config[0x50 + PCI_EXP_DEVSTA] |= PCI_EXP_DEVSTA_TRPND;
    std::memcpy(to, config.data() + at, len);
    return static_cast<std::int64_t>(len);
  }
  if (const int error = gate(fmt::format("pread BAR {}", index)); error != 0) return error;
  const std::uint16_t needs = function->bars[index].io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
  if ((function->command() & needs) == 0) return -EIO;
  return ::pread(function->memory, to, len, static_cast<off_t>(index * kBarSpan + at));
}

std::int64_t FakeKernel::pwrite(int fd, const void* from, std::size_t len, std::uint64_t offset) {
  const File& file = files_.at(fd);
  if (file.kind == File::Kind::kNothing) return -EBADF;
  if (file.kind == File::Kind::kReal) {
    if (const int error = gate("pwrite"); error != 0) return error;
    return ::pwrite(file.real, from, len, static_cast<off_t>(offset));
  }
  FakeFunction* const function = file.function;
  if (function == nullptr) return -EBADF;
  const unsigned index = static_cast<unsigned>(offset >> 40);
  const std::uint64_t at = offset & ((std::uint64_t{1} << 40) - 1);
  if (index == VFIO_PCI_CONFIG_REGION_INDEX) {
    if (const int error = gate(fmt::format("pwrite config {:#x}", at)); error != 0) return error;
    const std::uint16_t before = function->command();
    std::memcpy(function->config.data() + at, from, len);
    if (function->stuck_master) function->config[4] |= before & PCI_COMMAND_MASTER;
    const bool shown = std::ranges::any_of(pages_, [&](const auto& each) { return each.second.function == function; });
    if (shown && (function->command() & PCI_COMMAND_MEMORY) == 0) violations.push_back("mapped BARs switched off");
    return static_cast<std::int64_t>(len);
  }
  if (const int error = gate(fmt::format("pwrite BAR {}", index)); error != 0) return error;
  return ::pwrite(function->memory, from, len, static_cast<off_t>(index * kBarSpan + at));
}

auto FakeKernel::mmap(std::byte* at, std::size_t len, int protection, int flags, int fd, std::uint64_t offset)
    -> Answer<std::byte*> {
  const bool anonymous = (flags & MAP_ANONYMOUS) != 0;
  const bool huge = (flags & MAP_HUGETLB) != 0;
  const File* const file = anonymous ? nullptr : &files_.at(fd);
  const bool device = file != nullptr && file->function != nullptr;
  if (const int error = gate(huge ? "mmap huge" : device ? "mmap BAR" : "mmap"); error != 0)
    return std::unexpected(-error);
  len = pages_up(len);
  if (huge && len > hugepages * kHuge) return std::unexpected(ENOMEM);
  if (huge) hugepages -= len / kHuge;
  int real = -1;
  std::uint64_t from = 0;
  if (device) {
    real = file->function->memory;
    from = (offset >> 40) * kBarSpan;
  } else if (!anonymous) {
    real = file->real;
  }
  void* const mapping = ::mmap(at, len, protection, flags & ~kHugeFlags, real, static_cast<off_t>(from));
  if (mapping == MAP_FAILED) return std::unexpected(errno);
  if (huge) next_physical = (next_physical + kHuge - 1) / kHuge * kHuge;
  std::vector<FakeFunction*> covered;
  for (std::uint64_t done = 0; done < len; done += kPageSize) {
    Page& page = pages_[reinterpret_cast<std::uintptr_t>(mapping) + done];
    if (page.function != nullptr) covered.push_back(page.function);
    page = {.function = device ? file->function : nullptr, .huge = huge, .physical = 0};
    if (!anonymous) continue;
    page.physical = next_physical;
    next_physical += kPageSize;
    if (!huge && run_pages != 0 && done / kPageSize % run_pages == run_pages - 1) next_physical += kPageSize;
  }
  for (FakeFunction* function : covered) {
    if (!device_open(*function)) function->routes.clear();
  }
  return static_cast<std::byte*>(mapping);
}

/// A page that a device may still write to must not go back to the system.
bool FakeKernel::reachable(std::uintptr_t page) const {
  for (const auto& [fd, file] : files_) {
    if (file.kind != File::Kind::kContainer) continue;
    for (const auto& [iova, range] : file.container->mappings) {
      if (page >= range.first && page < range.first + range.second) return true;
    }
  }
  return false;
}

int FakeKernel::munmap(std::byte* at, std::size_t len) noexcept {
  const auto address = reinterpret_cast<std::uintptr_t>(at);
  if (const int error = gate("munmap"); error != 0) return error;
  std::vector<FakeFunction*> uncovered;
  for (std::uint64_t done = 0; done < pages_up(len); done += kPageSize) {
    const auto page = pages_.find(address + done);
    if (page == pages_.end()) {
      violations.push_back("munmap of what is not mapped");
      continue;
    }
    if (reachable(address + done)) violations.push_back("munmap of memory that a device can reach");
    if (page->second.function != nullptr) uncovered.push_back(page->second.function);
    if (page->second.huge && done % kHuge == 0) ++hugepages;
    pages_.erase(page);
  }
  for (FakeFunction* function : uncovered) {
    if (!device_open(*function)) function->routes.clear();
  }
  return ::munmap(at, pages_up(len));
}

int FakeKernel::madvise(std::byte* at, std::size_t len, int advice) {
  const auto page = pages_.find(reinterpret_cast<std::uintptr_t>(at));
  if (page == pages_.end()) violations.push_back("madvise of what is not mapped");
  const bool huge = page != pages_.end() && page->second.huge;
  const char* const name = advice == MADV_HUGEPAGE   ? "MADV_HUGEPAGE"
                           : advice == MADV_DONTFORK ? "MADV_DONTFORK"
                                                     : "MADV_POPULATE_WRITE";
  if (const int error = gate(fmt::format("madvise({}){}", name, huge ? " huge" : "")); error != 0) return error;
  if (advice == MADV_DONTFORK) return ::madvise(at, len, advice) == 0 ? 0 : -errno;
  return advice != MADV_HUGEPAGE && !populate_known ? -EINVAL : 0;
}

int FakeKernel::mlock(std::byte* at, std::size_t) {
  const auto page = pages_.find(reinterpret_cast<std::uintptr_t>(at));
  return gate(page != pages_.end() && page->second.huge ? "mlock huge" : "mlock");
}

int FakeKernel::mbind(std::byte*, std::size_t, int mode, int) {
  policies.push_back(mode);
  return gate("mbind");
}

int FakeKernel::memory_file(std::size_t len) {
  if (const int error = gate("memfd_create"); error != 0) return error;
  const int real = ::memfd_create("fake", MFD_CLOEXEC);
  if (real < 0 || ::ftruncate(real, static_cast<off_t>(len)) != 0) return -errno;
  return add_file({.kind = File::Kind::kReal, .real = real});
}

/// Its number is a real one: a test polls it.
int FakeKernel::watch(std::span<const int> fds) {
  if (const int error = gate("epoll_ctl"); error != 0) return error;
  const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0) return -errno;
  for (const int fd : fds) {
    epoll_event event{};
    event.events = EPOLLIN;
    if (::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) violations.push_back("epoll_ctl failed");
  }
  files_.emplace(epoll, File{.kind = File::Kind::kReal, .real = epoll});
  return epoll;
}

}  // namespace upci::inline UPCI_VARIANT::test
