// SPDX-License-Identifier: Apache-2.0
// Private. The boundary to the operating system: every call that this folder makes for a device goes through here, so that
// a test can stand in for the kernel and let each call fail.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/variant.h"

namespace upci::inline UPCI_VARIANT::vfio {

/// Thread-safe. A call that fails returns its errno, as a negative number where it returns a number. Calls that a signal
/// interrupts are repeated.
class Kernel {
 public:
  template <class T>
  using Answer = std::expected<T, int>;

  virtual ~Kernel() = default;
  /// The real one.
  static std::shared_ptr<Kernel> real();

  /// Close-on-exec, always.
  virtual int open(const std::string& path, int flags) = 0;
  virtual void close(int fd) noexcept = 0;
  /// `fd` becomes another descriptor of what `source` is open on, in one step: whoever uses the number at this moment
  /// reaches one or the other (dup3).
  virtual int replace(int fd, int source) noexcept = 0;
  /// `argument` is a pointer or a number, as the request wants it.
  virtual int ioctl(int fd, unsigned long request, std::uintptr_t argument) = 0;
  virtual std::int64_t read(int fd, void* to, std::size_t len) = 0;
  /// lseek to the end.
  virtual int seek_end(int fd) = 0;
  virtual std::int64_t pread(int fd, void* to, std::size_t len, std::uint64_t offset) = 0;
  virtual std::int64_t pwrite(int fd, const void* from, std::size_t len, std::uint64_t offset) = 0;

  virtual Answer<std::byte*> mmap(std::byte* at, std::size_t len, int protection, int flags, int fd,
                                  std::uint64_t offset) = 0;
  virtual int munmap(std::byte* at, std::size_t len) noexcept = 0;
  virtual int madvise(std::byte* at, std::size_t len, int advice) = 0;
  virtual int mlock(std::byte* at, std::size_t len) = 0;
  /// mbind(2) for one node.
  virtual int mbind(std::byte* at, std::size_t len, int mode, int node) = 0;
  /// A descriptor of new memory of `len` bytes of zeroes (memfd_create).
  virtual int memory_file(std::size_t len) = 0;
  /// A descriptor that is readable while one of `fds` is (epoll).
  virtual int watch(std::span<const int> fds) = 0;

  virtual Answer<std::string> read_link(const std::string& path) = 0;
  /// A whole file of sysfs or procfs, at most 16 MiB of it.
  virtual Answer<std::string> read_file(const std::string& path) = 0;
  virtual int write_file(const std::string& path, const std::string& text) = 0;
  /// The names in a folder, in order, without "." and "..".
  virtual Answer<std::vector<std::string>> list(const std::string& path) = 0;
};

/// Owns a descriptor of a Kernel.
class KernelFd {
 public:
  KernelFd() noexcept = default;
  KernelFd(std::shared_ptr<Kernel> kernel, int fd) noexcept : kernel_(std::move(kernel)), fd_(fd) {}
  KernelFd(KernelFd&& other) noexcept : kernel_(std::move(other.kernel_)), fd_(std::exchange(other.fd_, -1)) {}
  KernelFd& operator=(KernelFd&& other) noexcept {
    if (this != &other) {
      reset();
      kernel_ = std::move(other.kernel_);
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~KernelFd() { reset(); }

  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }
  int release() noexcept { return std::exchange(fd_, -1); }
  void reset() noexcept {
    if (fd_ >= 0) kernel_->close(fd_);
    fd_ = -1;
  }

 private:
  std::shared_ptr<Kernel> kernel_;
  int fd_ = -1;
};

/// A pointer as the argument of an ioctl.
template <class T>
std::uintptr_t argument_of(T* pointer) noexcept {
  return reinterpret_cast<std::uintptr_t>(pointer);
}

}  // namespace upci::inline UPCI_VARIANT::vfio
