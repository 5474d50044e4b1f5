// SPDX-License-Identifier: Apache-2.0
// Private. IOMMU groups: what the kernel lets a program open once, for all functions of the group together.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/platform.h"
#include "vfio/container.h"
#include "vfio/kernel.h"
#include "vfio/physical_pool.h"
#include "vfio/stand_ins.h"

namespace upci::inline UPCI_VARIANT::vfio {

/// A group that is open and has joined a container of its own.
class Group {
 public:
  /// `number` is the group's name in /sys/kernel/iommu_groups; `address` the function it is opened for, for the advice.
  /// Errors: kUnavailable (not there, not permitted, in use, not viable, no interrupt remapping), kSystem.
  static Result<std::unique_ptr<Group>> open(const std::shared_ptr<Kernel>& kernel, const std::string& number,
                                             const std::string& address);
  /// Leaves the container. When the kernel confirms it, no mapping of the container is reachable any more.
  ~Group();
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  int fd() const noexcept { return fd_.get(); }
  const std::shared_ptr<Container>& container() const noexcept { return container_; }
  const std::shared_ptr<PhysicalPool>& pool() const noexcept { return pool_; }

 private:
  Group(std::shared_ptr<Kernel> kernel, KernelFd fd, std::shared_ptr<Container> container, std::string number)
      : kernel_(std::move(kernel)),
        container_(std::move(container)),
        pool_(std::make_shared<PhysicalPool>(container_)),
        number_(std::move(number)),
        fd_(std::move(fd)) {}

  const std::shared_ptr<Kernel> kernel_;
  const std::shared_ptr<Container> container_;
  const std::shared_ptr<PhysicalPool> pool_;
  const std::string number_;
  bool joined_ = false;  // const after open()
  KernelFd fd_;          // closed before the container
};

/// The groups that one Vfio has open, and how many functions use each. Thread-safe. A group is opened and closed under one
/// lock: the kernel refuses to open it while the last user's descriptor is still open.
class Groups : public std::enable_shared_from_this<Groups> {
 public:
  class Member;

  explicit Groups(std::shared_ptr<Kernel> kernel) noexcept : kernel_(std::move(kernel)) {}
  const std::shared_ptr<Kernel>& kernel() const noexcept { return kernel_; }

  /// Errors: those of Group::open().
  Result<Member> join(const std::string& number, const std::string& address);
  /// Errors: kSystem.
  Result<std::shared_ptr<const StandIns>> stand_ins();

 private:
  struct Entry {
    std::unique_ptr<Group> group;
    unsigned members = 0;
  };
  void leave(const std::string& number) noexcept;
  unsigned members(const std::string& number) const noexcept;

  const std::shared_ptr<Kernel> kernel_;
  mutable platform::Mutex mutex_;
  std::map<std::string, Entry> entries_;     // mutex_
  std::weak_ptr<const StandIns> stand_ins_;  // mutex_
};

/// One function's use of its group.
class Groups::Member {
 public:
  Member(Member&&) noexcept = default;
  Member& operator=(Member&&) = delete;
  ~Member() { leave(); }

  int group_fd() const noexcept { return fd_; }
  const std::shared_ptr<Container>& container() const noexcept { return container_; }
  const std::shared_ptr<PhysicalPool>& pool() const noexcept { return pool_; }
  /// No other function of the program uses the group.
  bool alone() const noexcept;
  /// The function's descriptor has been closed. Idempotent; one thread at a time.
  void leave() noexcept;

 private:
  friend class Groups;
  Member(std::shared_ptr<Groups> groups, std::string number, const Group& group) noexcept
      : groups_(std::move(groups)),
        number_(std::move(number)),
        fd_(group.fd()),
        container_(group.container()),
        pool_(group.pool()) {}

  std::shared_ptr<Groups> groups_;  // null once it has left
  std::string number_;
  int fd_;
  std::shared_ptr<Container> container_;
  std::shared_ptr<PhysicalPool> pool_;
};

}  // namespace upci::inline UPCI_VARIANT::vfio
