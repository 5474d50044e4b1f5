// SPDX-License-Identifier: Apache-2.0
#include "vfio/kernel.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>

#include "base/unique_fd.h"

namespace upci::inline UPCI_VARIANT::vfio {
namespace {

constexpr std::size_t kLongestFile = std::size_t{16} << 20;
constexpr unsigned kMostNodes = 1024;

template <class Call>
auto repeated(Call call) {
  for (;;) {
    const auto result = call();
    if (result >= 0) return result;
    if (errno != EINTR) return static_cast<decltype(result)>(-errno);
  }
}

class RealKernel final : public Kernel {
 public:
  int open(const std::string& path, int flags) override {
    return repeated([&] { return ::open(path.c_str(), flags | O_CLOEXEC); });
  }

  void close(int fd) noexcept override { ::close(fd); }

  int replace(int fd, int source) noexcept override {
    return repeated([&] { return ::dup3(source, fd, O_CLOEXEC); });
  }

  int ioctl(int fd, unsigned long request, std::uintptr_t argument) override {
    return repeated([&] { return ::ioctl(fd, request, argument); });
  }

  std::int64_t read(int fd, void* to, std::size_t len) override {
    return repeated([&] { return std::int64_t{::read(fd, to, len)}; });
  }

  int seek_end(int fd) override { return ::lseek(fd, 0, SEEK_END) < 0 ? -errno : 0; }

  std::int64_t pread(int fd, void* to, std::size_t len, std::uint64_t offset) override {
    return repeated([&] { return std::int64_t{::pread(fd, to, len, static_cast<off_t>(offset))}; });
  }

  std::int64_t pwrite(int fd, const void* from, std::size_t len, std::uint64_t offset) override {
    return repeated([&] { return std::int64_t{::pwrite(fd, from, len, static_cast<off_t>(offset))}; });
  }

  Answer<std::byte*> mmap(std::byte* at, std::size_t len, int protection, int flags, int fd,
                          std::uint64_t offset) override {
    void* const mapping = ::mmap(at, len, protection, flags, fd, static_cast<off_t>(offset));
    if (mapping == MAP_FAILED) return std::unexpected(errno);
    return static_cast<std::byte*>(mapping);
  }

  int munmap(std::byte* at, std::size_t len) noexcept override { return ::munmap(at, len) == 0 ? 0 : -errno; }
  int madvise(std::byte* at, std::size_t len, int advice) override {
    return repeated([&] { return ::madvise(at, len, advice); });
  }
  int mlock(std::byte* at, std::size_t len) override { return ::mlock(at, len) == 0 ? 0 : -errno; }

  int mbind(std::byte* at, std::size_t len, int mode, int node) override {
    constexpr unsigned kBits = sizeof(unsigned long) * CHAR_BIT;
    if (node < 0 || static_cast<unsigned>(node) >= kMostNodes) return -EINVAL;
    const auto bit = static_cast<unsigned>(node);
    std::array<unsigned long, kMostNodes / kBits> nodes{};
    nodes[bit / kBits] = 1UL << (bit % kBits);
    // The kernel takes one bit less than it is told of.
    return ::syscall(SYS_mbind, at, len, mode, nodes.data(), kMostNodes, 0) == 0 ? 0 : -errno;
  }

  int memory_file(std::size_t len) override {
    UniqueFd file(::memfd_create("upci-vfio", MFD_CLOEXEC));
    if (!file) return -errno;
    if (::ftruncate(file.get(), static_cast<off_t>(len)) != 0) return -errno;
    return file.release();
  }

  int watch(std::span<const int> fds) override {
    UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
    if (!epoll) return -errno;
    for (const int fd : fds) {
      epoll_event event{};
      event.events = EPOLLIN;
      if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event) != 0) return -errno;
    }
    return epoll.release();
  }

  Answer<std::string> read_link(const std::string& path) override {
    std::array<char, PATH_MAX> target{};
    const ssize_t len = ::readlink(path.c_str(), target.data(), target.size());
    if (len < 0) return std::unexpected(errno);
    return std::string(target.data(), static_cast<std::size_t>(len));
  }

  Answer<std::string> read_file(const std::string& path) override {
    const UniqueFd file(open(path, O_RDONLY));
    if (!file) return std::unexpected(errno);
    std::string text;
    std::array<char, 16384> piece{};
    while (text.size() < kLongestFile) {
      const ssize_t got = repeated([&] { return ::read(file.get(), piece.data(), piece.size()); });
      if (got < 0) return std::unexpected(static_cast<int>(-got));
      if (got == 0) break;
      text.append(piece.data(), static_cast<std::size_t>(got));
    }
    return text;
  }

  int write_file(const std::string& path, const std::string& text) override {
    const UniqueFd file(open(path, O_WRONLY));
    if (!file) return -errno;
    // One write: sysfs and procfs take a value as a whole.
    const ssize_t put = repeated([&] { return ::write(file.get(), text.data(), text.size()); });
    if (put < 0) return static_cast<int>(put);
    return static_cast<std::size_t>(put) == text.size() ? 0 : -EIO;
  }

  Answer<std::vector<std::string>> list(const std::string& path) override {
    DIR* const folder = ::opendir(path.c_str());
    if (folder == nullptr) return std::unexpected(errno);
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* entry = ::readdir(folder)) {
      const std::string name = entry->d_name;
      if (name != "." && name != "..") names.push_back(name);
      errno = 0;
    }
    const int error = errno;
    ::closedir(folder);
    if (error != 0) return std::unexpected(error);
    std::ranges::sort(names);
    return names;
  }
};

}  // namespace

std::shared_ptr<Kernel> Kernel::real() { return std::make_shared<RealKernel>(); }

}  // namespace upci::inline UPCI_VARIANT::vfio
