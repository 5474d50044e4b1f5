// SPDX-License-Identifier: Apache-2.0
#include "vfio/failure.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdlib>

namespace upci::inline UPCI_VARIANT::vfio {
namespace {

struct Meaning {
  int error;
  Errc code;
  std::string_view advice;
};

constexpr Meaning kMeanings[] = {
    {EPERM, Errc::kUnavailable,
     "run as root, or give this user the device's file in /dev/vfio; a container or a lockdown "
     "policy may forbid it, too"},
    {EACCES, Errc::kUnavailable,
     "run as root, or give this user the device's file in /dev/vfio (chown, or a udev rule)"},
    {EBUSY, Errc::kUnavailable,
     "something else uses it: see who has it open (fuser -v /dev/vfio/*), end that program, and "
     "try again"},
    {ENODEV, Errc::kUnavailable,
     "the device has left its bus or its driver: look at `dmesg` and bind it again (upci bind)"},
    {ENXIO, Errc::kUnavailable,
     "the device has left its bus or its driver: look at `dmesg` and bind it again (upci bind)"},
    {ENOENT, Errc::kUnavailable,
     "see whether it is there (ls /dev/vfio /sys/kernel/iommu_groups) and bind it (upci bind)"},
    {ENOMEM, Errc::kUnavailable,
     "memory or the limit on locked memory is exhausted: raise it (ulimit -l unlimited), or use fewer "
     "or smaller buffers"},
    {EMFILE, Errc::kSystem, "raise the limit on open files (ulimit -n)"},
    {ENFILE, Errc::kSystem, "the machine has too many files open: end other programs, or raise fs.file-max"},
    {EINVAL, Errc::kSystem,
     "this kernel's VFIO does not take the request: look at `dmesg`, and update the kernel if it is "
     "older than 5.10"},
    {ENOTTY, Errc::kSystem, "this kernel's VFIO does not know the request: update the kernel if it is older than 5.10"},
};

}  // namespace

std::unexpected<Error> refused(std::string_view call, std::string_view on, std::int64_t error, std::string advice) {
  const int number = static_cast<int>(std::abs(error));
  Errc code = Errc::kSystem;
  std::string_view general = "look at `dmesg` for what the kernel says about it";
  for (const Meaning& meaning : kMeanings) {
    if (meaning.error != number) continue;
    code = meaning.code;
    general = meaning.advice;
  }
  if (advice.empty()) advice = general;
  return std::unexpected(Error{
      .code = code, .what = fmt::format("{}: {} failed", on, call), .advice = std::move(advice), .sys_errno = number});
}

std::unexpected<Error> implausible(std::string_view call, std::string_view on, std::string_view what) {
  return fail(Errc::kDevice, fmt::format("{}: {} gave something that cannot be: {}", on, call, what),
              "the kernel and this program do not understand each other: look at `dmesg`, and report it");
}

}  // namespace upci::inline UPCI_VARIANT::vfio
