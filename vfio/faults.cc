// SPDX-License-Identifier: Apache-2.0
#include "vfio/faults.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <mutex>

#include "vfio/failure.h"

namespace upci::inline UPCI_VARIANT::vfio {
namespace {

constexpr const char* kLog = "/dev/kmsg";
/// Of one call; each is a line of the log.
constexpr int kMostRecords = 100'000;

}  // namespace

/// Documentation/ABI/testing/dev-kmsg: "6,339,5140900,-;text\\n", then lines of a dictionary.
std::string_view fault_in_record(std::string_view record, std::string_view address) {
  const std::size_t text_at = record.find(';');
  if (text_at == std::string_view::npos) return {};
  std::string_view text = record.substr(text_at + 1);
  text = text.substr(0, text.find('\n'));
  const auto named = [&](std::string_view word) { return text.find(word) != std::string_view::npos; };
  // "vfio-pci 0000:65:00.0: PCIe Bus Error: severity=..." (drivers/pci/pcie/aer.c); the lines after it have the details.
  if (named("PCIe Bus Error") && named(address)) return text;
  constexpr std::array<std::string_view, 4> kWriters = {"DMAR", "AMD-Vi", "iommu", "smmu"};
  if (!std::ranges::any_of(kWriters, named)) return {};
  // "[65:00.0]" of Intel; others give the whole address.
  const std::string_view short_form = address.substr(address.find(':') + 1);
  if (!named(address) && !named(fmt::format("[{}]", short_form))) return {};
  constexpr std::array<std::string_view, 3> kFaults = {"fault", "FAULT", "Event logged"};
  return std::ranges::any_of(kFaults, named) ? text : std::string_view{};
}

void Faults::open() noexcept {
  const std::scoped_lock lock(mutex_);
  Kernel& kernel = file_.kernel();
  const int opened = kernel.open(kLog, O_RDONLY | O_NONBLOCK);
  if (opened < 0) {
    refused_ = opened;
    return;
  }
  log_ = KernelFd(file_.shared_kernel(), opened);
  if (const int result = kernel.seek_end(opened); result < 0) {
    refused_ = result;
    log_.reset();
  }
}

device::DeviceControl::Evidence Faults::read() {
  const std::scoped_lock lock(mutex_);
  std::array<char, 8192> record{};
  for (int i = 0; log_ && i < kMostRecords; ++i) {
    const std::int64_t got = file_.kernel().read(log_.get(), record.data(), record.size());
    if (got == -EPIPE) {
      lost_ = true;  // the next read goes on with the oldest that is left
      continue;
    }
    if (got == 0 || got == -EAGAIN) break;
    if (got < 0) {
      refused_ = static_cast<int>(got);
      log_.reset();
      break;
    }
    const std::string_view text =
        fault_in_record(std::string_view(record.data(), static_cast<std::size_t>(got)), file_.address());
    if (!text.empty() && lines_.size() < kMost) lines_.emplace_back(text);
  }
  device::DeviceControl::Evidence evidence{.faults = lines_, .unreadable = {}};
  if (refused_ != 0) {
    const Error error = refused(fmt::format("open({})", kLog), "the IOMMU's faults", refused_).error();
    evidence.unreadable = error.message() + " (reading the kernel's log needs CAP_SYSLOG or kernel.dmesg_restrict=0)";
  } else if (lost_) {
    evidence.unreadable = "the kernel's log has overflowed: faults of the IOMMU may be among what is lost";
  }
  return evidence;
}

}  // namespace upci::inline UPCI_VARIANT::vfio
