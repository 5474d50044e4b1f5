// SPDX-License-Identifier: Apache-2.0
#include "vfio/bind/sysfs.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdlib>

#include "base/process.h"
#include "base/unique_fd.h"
#include "base/wait.h"
#include "vfio/bind/attribute.h"

namespace upci::inline UPCI_VARIANT::vfio::bind {
namespace {

using namespace std::chrono_literals;

std::string folder_of(const std::string& path) { return path.substr(0, path.rfind('/')); }

Result<std::string> read_all(int fd, const std::string& path, std::size_t most) {
  std::string text;
  std::array<char, 16384> bytes;
  while (text.size() < most) {
    const ssize_t n = ::read(fd, bytes.data(), std::min(bytes.size(), most - text.size()));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(fmt::format("reading {}", path));
    if (n == 0) break;
    text.append(bytes.data(), static_cast<std::size_t>(n));
  }
  return text;
}

Result<void> write_all(int fd, std::string_view text, const std::string& path) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(fmt::format("writing {}", path));
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  return {};
}

Result<void> sync_folder(const std::string& folder) {
  const UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd || ::fsync(fd.get()) != 0) return fail_errno(fmt::format("fsync of {}", folder));
  return {};
}

Result<void> make_folder(const std::string& folder) {
  for (std::size_t end = folder.find('/', 1);; end = folder.find('/', end + 1)) {
    const std::string part = folder.substr(0, end);
    if (::mkdir(part.c_str(), 0755) != 0 && errno != EEXIST)
      return fail_errno(fmt::format("making the folder {}", part));
    if (end == std::string::npos) return {};
  }
}

class RealSysfs final : public Sysfs {
 public:
  bool is_root() override { return ::geteuid() == 0; }

  Result<bool> exists(const std::string& path) override {
    struct stat status = {};
    if (::stat(path.c_str(), &status) == 0) return true;
    if (errno == ENOENT || errno == ENOTDIR) return false;
    return fail_errno(fmt::format("stat of {}", path));
  }

  Result<std::string> read(const std::string& path, std::size_t most) override {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) return fail_errno(fmt::format("opening {}", path));
    return read_all(fd.get(), path, most);
  }

  Result<std::string> read_link(const std::string& path) override {
    std::array<char, PATH_MAX> target;
    const ssize_t n = ::readlink(path.c_str(), target.data(), target.size());
    if (n < 0) return fail_errno(fmt::format("readlink of {}", path));
    return std::string(target.data(), static_cast<std::size_t>(n));
  }

  Result<std::string> real_path(const std::string& path) override {
    std::array<char, PATH_MAX> resolved;
    if (::realpath(path.c_str(), resolved.data()) == nullptr) return fail_errno(fmt::format("realpath of {}", path));
    return std::string(resolved.data());
  }

  Result<std::vector<std::string>> list(const std::string& path) override {
    struct Closer {
      void operator()(DIR* folder) const { ::closedir(folder); }
    };
    const std::unique_ptr<DIR, Closer> folder(::opendir(path.c_str()));
    if (!folder) return fail_errno(fmt::format("opening the folder {}", path));
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* entry = ::readdir(folder.get())) {
      const std::string name = entry->d_name;
      if (name != "." && name != "..") names.push_back(name);
      errno = 0;
    }
    if (errno != 0) return fail_errno(fmt::format("reading the folder {}", path));
    std::sort(names.begin(), names.end());
    return names;
  }

  Result<std::string> block_number(const std::string& path) override {
    struct stat status = {};
    if (::stat(path.c_str(), &status) != 0) return fail_errno(fmt::format("stat of {}", path));
    if (!S_ISBLK(status.st_mode)) return std::string();
    return fmt::format("{}:{}", major(status.st_rdev), minor(status.st_rdev));
  }

  Result<std::string> read_attribute(const std::string& path, Deadline deadline) override {
    return access_attribute(path, nullptr, lock_fd_, deadline);
  }

  Result<void> write_attribute(const std::string& path, const std::string& text, Deadline deadline) override {
    UPCI_TRY(access_attribute(path, &text, lock_fd_, deadline));
    return {};
  }

  Result<std::unique_ptr<Lock>> lock_folder(const std::string& folder, Deadline deadline) override;
  Result<void> write_file(const std::string& path, const std::string& text) override;
  Result<std::string> read_own_file(const std::string& path) override;

  Result<void> remove_file(const std::string& path) override {
    if (::unlink(path.c_str()) != 0) return fail_errno(fmt::format("removing {}", path));
    return sync_folder(folder_of(path));
  }

  Result<void> load_module(const std::string& name, Deadline deadline) override;

 private:
  class FolderLock;
  int lock_fd_ = -1;  // that of the lock held now, or -1
};

class RealSysfs::FolderLock final : public Lock {
 public:
  FolderLock(RealSysfs& owner, UniqueFd fd) : owner_(owner), fd_(std::move(fd)) { owner_.lock_fd_ = fd_.get(); }
  ~FolderLock() override {
    owner_.lock_fd_ = -1;
    // Not only closed: a child that the kernel holds up has the descriptor as well, and is of no concern to others.
    ::flock(fd_.get(), LOCK_UN);
  }

 private:
  RealSysfs& owner_;
  UniqueFd fd_;
};

Result<std::unique_ptr<Sysfs::Lock>> RealSysfs::lock_folder(const std::string& folder, Deadline deadline) {
  UPCI_TRY(make_folder(folder));
  const std::string path = folder + "/lock";
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) return fail_errno(fmt::format("opening {}", path));
  while (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) return fail_errno(fmt::format("flock of {}", path));
    if (deadline.expired()) {
      auto holder = read_all(fd.get(), path, 32);
      return fail(Errc::kUnavailable,
                  fmt::format("another upci{} is binding or unbinding: {} is locked",
                              holder && !holder->empty() ? fmt::format(" (process {})", *holder) : std::string(), path),
                  "try again when it has ended; when it has been killed, the kernel still holds up a write of its own");
    }
    sleep_for(20ms);
  }
  // For the message above; nothing depends on it.
  const std::string pid = std::to_string(::getpid());
  if (::ftruncate(fd.get(), 0) == 0 && ::pwrite(fd.get(), pid.data(), pid.size(), 0) < 0) errno = 0;
  return std::make_unique<FolderLock>(*this, std::move(fd));
}

Result<void> RealSysfs::write_file(const std::string& path, const std::string& text) {
  const std::string temporary = path + ".new";
  {
    const UniqueFd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644));
    if (!fd) return fail_errno(fmt::format("making {}", temporary));
    UPCI_TRY(write_all(fd.get(), text, temporary));
    if (::fsync(fd.get()) != 0) return fail_errno(fmt::format("fsync of {}", temporary));
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    return fail_errno(fmt::format("renaming {} to {}", temporary, path));
  }
  return sync_folder(folder_of(path));
}

Result<std::string> RealSysfs::read_own_file(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd) return fail_errno(fmt::format("opening {}", path));
  struct stat status = {};
  if (::fstat(fd.get(), &status) != 0) return fail_errno(fmt::format("fstat of {}", path));
  const bool ours = status.st_uid == ::geteuid() || status.st_uid == 0;
  if (!S_ISREG(status.st_mode) || !ours || (status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return fail(Errc::kUnavailable,
                fmt::format("{} is not a file that only root, or this user, can have written: it is not trusted", path),
                "look at who made it, and at the permissions of its folder");
  }
  return read_all(fd.get(), path, kMost);
}

Result<void> RealSysfs::load_module(const std::string& name, Deadline deadline) {
  const std::string advice = fmt::format("run 'modprobe {}', and see what it says", name);
  // What it prints goes to stderr, where its reasons are read beside ours: stdout is the command's result.
  // The kernel's own path of it, since root's PATH can be without /sbin.
  std::string modprobe = "modprobe";
  if (auto path = read("/proc/sys/kernel/modprobe", PATH_MAX); path && path->starts_with('/')) {
    modprobe = path->substr(0, path->find('\n'));
  }
  auto child = ChildProcess::spawn({.argv = {modprobe, name}, .stdout_fd = STDERR_FILENO});
  if (!child) {
    return fail(Errc::kUnavailable, fmt::format("loading the module {}: {}", name, child.error().message()), advice);
  }
  const auto status = child->wait(deadline);
  if (!status) {
    // Its destructor kills it; an insertion that hangs in the kernel is left to the kernel.
    return fail(Errc::kUnavailable, fmt::format("loading the module {}: modprobe does not end", name), advice);
  }
  if (!status->ok()) {
    return fail(Errc::kUnavailable, fmt::format("loading the module {}: modprobe {}", name, status->text()), advice);
  }
  return {};
}

}  // namespace

std::unique_ptr<Sysfs> make_sysfs() { return std::make_unique<RealSysfs>(); }

}  // namespace upci::inline UPCI_VARIANT::vfio::bind
