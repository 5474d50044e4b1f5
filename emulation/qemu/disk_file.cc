// SPDX-License-Identifier: Apache-2.0
#include "emulation/qemu/disk_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace upci::inline UPCI_VARIANT::emulation::qemu {
namespace {

constexpr off_t kScratchBytes = off_t{64} << 20;
constexpr off_t kSectorBytes = 512;
constexpr mode_t kWriteBits = S_IWUSR | S_IWGRP | S_IWOTH;

Result<DiskFile> make_scratch() {
  UniqueFd fd(::memfd_create("upci-disk", MFD_CLOEXEC));
  if (!fd || ::ftruncate(fd.get(), kScratchBytes) != 0) return fail_errno("cannot make a scratch disk");
  return DiskFile{.fd = std::move(fd)};
}

}  // namespace

Result<DiskFile> open_disk(const std::string& path) {
  if (path.empty()) return make_scratch();
  struct stat status{};
  // Before it is opened: opening a FIFO would wait, and opening a device can do things.
  if (::stat(path.c_str(), &status) != 0) {
    auto error = fail_errno(fmt::format("disk={}: cannot look at the file", path), "name a file that is there");
    error.error().code = Errc::kUnavailable;
    return error;
  }
  if (!S_ISREG(status.st_mode)) {
    return fail(Errc::kInvalid, fmt::format("disk={} is no regular file", path),
                "make one, as with 'truncate -s 64M disk.img'");
  }
  if (status.st_size == 0 || status.st_size % kSectorBytes != 0) {
    return fail(Errc::kInvalid, fmt::format("disk={} has {} bytes: no whole number of sectors", path, status.st_size),
                "its size must be a multiple of 512, as after 'truncate -s 64M disk.img'");
  }
  const bool read_only = (status.st_mode & kWriteBits) == 0;
  UniqueFd fd(::open(path.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC));
  if (!fd) {
    auto error = fail_errno(fmt::format("disk={}: cannot open the file", path),
                            "a file that nobody may write to is opened for reading only");
    error.error().code = Errc::kUnavailable;
    return error;
  }
  return DiskFile{.fd = std::move(fd), .read_only = read_only};
}

}  // namespace upci::inline UPCI_VARIANT::emulation::qemu
