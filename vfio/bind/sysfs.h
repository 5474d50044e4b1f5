// SPDX-License-Identifier: Apache-2.0
// The boundary between `upci bind` and the operating system: sysfs, proc, the folder of records, modules. Whatever bind and
// unbind do passes through here, so that a test can let each call fail, or let the process end after it.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "base/deadline.h"
#include "base/error.h"

namespace upci::inline UPCI_VARIANT::vfio::bind {

/// Every failed system call is a kSystem error with its errno, unless the function says otherwise. Not thread-safe.
class Sysfs {
 public:
  /// Held until it is destroyed.
  class Lock {
   public:
    Lock() = default;
    virtual ~Lock() = default;
    Lock(const Lock&) = delete;
    Lock& operator=(const Lock&) = delete;
  };

  Sysfs() = default;
  virtual ~Sysfs() = default;
  Sysfs(const Sysfs&) = delete;
  Sysfs& operator=(const Sysfs&) = delete;

  virtual bool is_root() = 0;
  /// Whether the path is there, links followed. Errors: those of stat(2) but ENOENT and ENOTDIR.
  virtual Result<bool> exists(const std::string& path) = 0;
  /// The first `most` bytes of a file that can be read without waiting for a device.
  virtual Result<std::string> read(const std::string& path, std::size_t most = kMost) = 0;
  /// What the link says.
  virtual Result<std::string> read_link(const std::string& path) = 0;
  /// The path without links.
  virtual Result<std::string> real_path(const std::string& path) = 0;
  /// The names in a folder, sorted.
  virtual Result<std::vector<std::string>> list(const std::string& path) = 0;
  /// "8:1" for the node of a block device, "" for any other file.
  virtual Result<std::string> block_number(const std::string& path) = 0;

  /// Attributes of a device that the kernel reads and writes under the device's lock, which a driver's probe that does not end
  /// holds for ever (the kernel's device_lock(); driver_override, unbind, bind, drivers_probe). A child process does the
  /// access; at the deadline it is killed, and left behind where the kernel does not let it die.
  /// Errors: kTimeout at the deadline; then the kernel may still do the access, later.
  virtual Result<std::string> read_attribute(const std::string& path, Deadline deadline) = 0;
  virtual Result<void> write_attribute(const std::string& path, const std::string& text, Deadline deadline) = 0;

  /// Makes the folder when it is not there, and takes its lock. A child that is left behind by a killed upci holds it on.
  /// Errors: kUnavailable when another upci holds it at the deadline; kSystem.
  virtual Result<std::unique_ptr<Lock>> lock_folder(const std::string& folder, Deadline deadline) = 0;
  /// Replaces a file as a whole: after a crash at any moment it is the old one or the new one.
  virtual Result<void> write_file(const std::string& path, const std::string& text) = 0;
  /// A regular file that only this user, or root, can have written. Errors: kUnavailable for any other; kSystem.
  virtual Result<std::string> read_own_file(const std::string& path) = 0;
  virtual Result<void> remove_file(const std::string& path) = 0;

  /// Runs modprobe. Errors: kUnavailable when it is missing, fails, or does not end by the deadline.
  virtual Result<void> load_module(const std::string& name, Deadline deadline) = 0;

  static constexpr std::size_t kMost = std::size_t{1} << 24;
};

/// The operating system.
std::unique_ptr<Sysfs> make_sysfs();

}  // namespace upci::inline UPCI_VARIANT::vfio::bind
