// SPDX-License-Identifier: Apache-2.0
// Ways for an item to sleep, of which all but one are such that no framework wait tells. For tests on real threads.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/unique_fd.h"
#include "base/wait.h"

namespace upci::inline UPCI_VARIANT::test {

/// A place to sleep at.
class Sleep {
 public:
  virtual ~Sleep() = default;
  /// By the item: until it is let go.
  virtual void sleep() = 0;
  /// By the test; before it or while it lasts.
  virtual void let_go() = 0;
};

/// read(2) of an empty pipe.
class Read final : public Sleep {
 public:
  Read() { EXPECT_EQ(::pipe2(ends_, O_CLOEXEC), 0); }
  ~Read() override {
    ::close(ends_[0]);
    ::close(ends_[1]);
  }
  void sleep() override {
    char byte = 0;
    EXPECT_EQ(::read(ends_[0], &byte, 1), 1);
  }
  void let_go() override { EXPECT_EQ(::write(ends_[1], "x", 1), 1); }

 private:
  int ends_[2] = {-1, -1};
};

/// The futex in a library's mutex that somebody else holds.
class ForeignMutex final : public Sleep {
 public:
  ForeignMutex() { EXPECT_EQ(pthread_mutex_lock(&mutex_), 0); }
  ~ForeignMutex() override { EXPECT_EQ(pthread_mutex_destroy(&mutex_), 0); }
  void sleep() override {
    EXPECT_EQ(pthread_mutex_lock(&mutex_), 0);
    EXPECT_EQ(pthread_mutex_unlock(&mutex_), 0);
  }
  void let_go() override { EXPECT_EQ(pthread_mutex_unlock(&mutex_), 0); }

 private:
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
};

/// A load from a page that is not there until the test supplies it (userfaultfd; faults of user code only, which any
/// user may ask for).
class PageFault final : public Sleep {
 public:
  PageFault() : size_(static_cast<std::size_t>(::sysconf(_SC_PAGESIZE))) {
    faults_ = UniqueFd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY)));
    page_ = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!faults_ || page_ == MAP_FAILED) return;
    uffdio_api api{};
    api.api = UFFD_API;
    uffdio_register range{};
    range.range = {.start = address(), .len = size_};
    range.mode = UFFDIO_REGISTER_MODE_MISSING;
    ready_ = ::ioctl(faults_.get(), UFFDIO_API, &api) == 0 && ::ioctl(faults_.get(), UFFDIO_REGISTER, &range) == 0;
  }
  ~PageFault() override {
    if (page_ != MAP_FAILED) ::munmap(page_, size_);
  }
  bool ready() const { return ready_; }
  void sleep() override { EXPECT_EQ(*static_cast<volatile unsigned char*>(page_), 0); }
  void let_go() override {
    uffdio_zeropage zeros{};
    zeros.range = {.start = address(), .len = size_};
    EXPECT_EQ(::ioctl(faults_.get(), UFFDIO_ZEROPAGE, &zeros), 0) << std::strerror(errno);
  }

 private:
  std::uint64_t address() const { return reinterpret_cast<std::uintptr_t>(page_); }
  const std::size_t size_;
  UniqueFd faults_;
  void* page_ = MAP_FAILED;
  bool ready_ = false;
};

/// A framework wait, which tells.
class FrameworkWait final : public Sleep {
 public:
  void sleep() override { gate_.wait(); }
  void let_go() override { gate_.complete(); }

 private:
  Completion gate_;
};

}  // namespace upci::inline UPCI_VARIANT::test
