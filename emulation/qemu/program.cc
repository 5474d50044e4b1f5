// SPDX-License-Identifier: Apache-2.0
#include "emulation/qemu/program.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

namespace upci::inline UPCI_VARIANT::emulation::qemu {

Result<OutputCapture> OutputCapture::create() {
  UniqueFd memfd(::memfd_create("upci-qemu-output", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memfd) return fail_errno("cannot make room for QEMU's messages");
  // A child that never stops talking must not fill the memory: it can write up to here and no further.
  if (::ftruncate(memfd.get(), static_cast<off_t>(kRoom)) != 0 ||
      ::fcntl(memfd.get(), F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK) != 0) {
    return fail_errno("cannot limit the room for QEMU's messages");
  }
  return OutputCapture(std::move(memfd));
}

std::string OutputCapture::text() const {
  std::string text(kRoom, '\0');
  std::size_t have = 0;
  while (have < text.size()) {
    const ssize_t got = ::pread(memfd_.get(), text.data() + have, text.size() - have, static_cast<off_t>(have));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    have += static_cast<std::size_t>(got);
  }
  // What has not been written reads as zeroes.
  text.resize(std::min(have, text.find('\0')));
  return text;
}

Result<ChildProcess> start_program(const std::string& program, const std::vector<std::string>& arguments,
                                   const OutputCapture& output, std::vector<ChildProcess::InheritedFd> fds) {
  ChildProcess::Spec spec;
  spec.argv.push_back(program);
  spec.argv.insert(spec.argv.end(), arguments.begin(), arguments.end());
  spec.fds = std::move(fds);
  spec.stdout_fd = output.fd();
  spec.stderr_fd = output.fd();
  Result<ChildProcess> child = ChildProcess::spawn(std::move(spec));
  if (!child && child.error().code == Errc::kUnavailable) {
    return fail(Errc::kUnavailable, fmt::format("QEMU cannot be started: {}", child.error().message()),
                "install it (Debian: apt install qemu-system-x86), or use an emu: device, which needs no QEMU");
  }
  return child;
}

Result<ProgramRun> run_program(const std::string& program, const std::vector<std::string>& arguments,
                               Deadline deadline) {
  UPCI_TRY_ASSIGN(const OutputCapture output, OutputCapture::create());
  UPCI_TRY_ASSIGN(ChildProcess child, start_program(program, arguments, output));
  const Result<ExitStatus> status = child.wait(deadline);
  if (!status)
    return fail(Errc::kTimeout, fmt::format("'{}' has not ended in time", program), "is the machine overloaded?");
  return ProgramRun{.status = *status, .output = output.text()};
}

}  // namespace upci::inline UPCI_VARIANT::emulation::qemu
