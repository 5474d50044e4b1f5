// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "base/unique_fd.h"
#include "tests/oracle/runner/subject.h"

namespace upci::inline UPCI_VARIANT::oracle {

namespace {

class KernelSubject final : public Subject {
 public:
  explicit KernelSubject(UniqueFd device) : device_(std::move(device)) {}

  Result<void> command(const std::string& text) override {
    if (::pwrite(device_.get(), text.data(), text.size(), 0) < 0)
      return fail_errno("the kernel's module refuses '" + text + "'");
    return {};
  }

  std::string read_log() override {
    char buffer[16384];
    for (;;) {
      const ssize_t got = ::pread(device_.get(), buffer, sizeof buffer, offset_);
      if (got <= 0) break;
      offset_ += got;
      partial_.append(buffer, static_cast<std::size_t>(got));
    }
    const std::size_t end = partial_.rfind('\n') + 1;  // npos + 1 is 0
    std::string lines = partial_.substr(0, end);
    partial_.erase(0, end);
    return lines;
  }

  bool waits_uninterruptibly() const override { return true; }

  void quit() override { (void)command("quit"); }

 private:
  UniqueFd device_;
  off_t offset_ = 0;
  std::string partial_;
};

}  // namespace

Result<std::unique_ptr<Subject>> open_kernel(const std::string& device) {
  UniqueFd file(::open(device.c_str(), O_RDWR | O_CLOEXEC));
  if (!file) {
    if (errno == ENOENT) return fail(Errc::kUnavailable, "there is no " + device, "load upci_oracle.ko first");
    return fail_errno("cannot open " + device);
  }
  return std::make_unique<KernelSubject>(std::move(file));
}

}  // namespace upci::inline UPCI_VARIANT::oracle
