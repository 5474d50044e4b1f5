// SPDX-License-Identifier: Apache-2.0
#include "tools/upci/report_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace upci::tool {
namespace {

std::unexpected<Error> cannot_write(const std::string& path, int sys_errno) {
  return fail(Errc::kUnavailable, fmt::format("--report {}: cannot be written: {}", path, std::strerror(sys_errno)),
              "name a file in a folder that exists and that you may write to");
}

mode_t mode_of_new_files() {
  const mode_t mask = ::umask(0);
  ::umask(mask);
  return 0666 & ~mask;
}

}  // namespace

ReportFile::ReportFile(std::string path, std::string temporary, UniqueFd fd) noexcept
    : path_(std::move(path)), temporary_(std::move(temporary)), fd_(std::move(fd)) {}

ReportFile::ReportFile(ReportFile&& other) noexcept
    : path_(std::move(other.path_)), temporary_(std::exchange(other.temporary_, {})), fd_(std::move(other.fd_)) {}

ReportFile::~ReportFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

Result<ReportFile> ReportFile::open(const std::string& path) {
  struct stat target = {};
  const bool exists = ::stat(path.c_str(), &target) == 0;
  if (exists && S_ISDIR(target.st_mode)) return cannot_write(path, EISDIR);
  if (exists && !S_ISREG(target.st_mode)) {
    UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY));
    if (!fd) return cannot_write(path, errno);
    return ReportFile(path, {}, std::move(fd));
  }
  std::string temporary = path + ".XXXXXX";
  UniqueFd fd(::mkostemp(temporary.data(), O_CLOEXEC));
  if (!fd) return cannot_write(path, errno);
  ::fchmod(fd.get(), exists ? target.st_mode & 07777 : mode_of_new_files());
  return ReportFile(path, std::move(temporary), std::move(fd));
}

Result<void> ReportFile::commit(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd_.get(), text.data(), text.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return fail_errno(fmt::format("writing the report to {}", path_), "look for a full disk or a closed pipe");
    }
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  if (temporary_.empty()) return {};
  // The report is there to survive what comes next, a crash of the machine included.
  if (::fsync(fd_.get()) != 0 || std::rename(temporary_.c_str(), path_.c_str()) != 0) {
    return fail_errno(fmt::format("writing the report to {}", path_));
  }
  temporary_.clear();
  return {};
}

}  // namespace upci::tool
