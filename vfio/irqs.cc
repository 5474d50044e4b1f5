// SPDX-License-Identifier: Apache-2.0
#include "vfio/irqs.h"

#include <fmt/format.h>
#include <linux/vfio.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <mutex>
#include <string_view>

#include "vfio/failure.h"
#include "vfio/info.h"

namespace upci::inline UPCI_VARIANT::vfio {
namespace {

/// PCI Express Base Specification: an MSI-X table has at most 2048 entries.
constexpr unsigned kMostVectors = 2048;
constexpr const char* kSetIrqs = "VFIO_DEVICE_SET_IRQS";

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  return text;
}

}  // namespace

int route_irqs(const DeviceFile& file, unsigned index, unsigned start, std::span<const int> eventfds) {
  std::vector<std::byte> request(sizeof(vfio_irq_set) + eventfds.size_bytes());
  vfio_irq_set head{};
  head.argsz = static_cast<std::uint32_t>(request.size());
  head.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
  head.index = index;
  head.start = start;
  head.count = static_cast<std::uint32_t>(eventfds.size());
  std::memcpy(request.data(), &head, sizeof(head));
  std::memcpy(request.data() + sizeof(head), eventfds.data(), eventfds.size_bytes());
  return file.ioctl(VFIO_DEVICE_SET_IRQS, request.data());
}

int act_on_irqs(const DeviceFile& file, unsigned index, std::uint32_t action, unsigned start, unsigned count) {
  vfio_irq_set request{};
  request.argsz = sizeof(request);
  request.flags = VFIO_IRQ_SET_DATA_NONE | action;
  request.index = index;
  request.start = start;
  request.count = count;
  return file.ioctl(VFIO_DEVICE_SET_IRQS, &request);
}

Result<unsigned> count_irqs(const DeviceFile& file, unsigned index, const std::string& on) {
  constexpr const char* kCall = "VFIO_DEVICE_GET_IRQ_INFO";
  vfio_irq_info info{};
  info.argsz = sizeof(info);
  info.index = index;
  if (const int result = file.ioctl(VFIO_DEVICE_GET_IRQ_INFO, &info); result < 0) {
    if (result == -EINVAL) return 0U;  // the kernel's answer for an index that this function does not have
    return refused(kCall, on, result);
  }
  if (info.count > kMostVectors) return implausible(kCall, on, fmt::format("{} interrupt vectors", info.count));
  return (info.flags & VFIO_IRQ_INFO_EVENTFD) != 0 ? info.count : 0U;
}

Result<void> Irqs::open() {
  for (const unsigned index : {VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_INTX_IRQ_INDEX}) {
    UPCI_TRY_ASSIGN(const unsigned count, count_irqs(file_, index, fmt::format("{}: interrupts", file_.name())));
    if (count == 0) continue;
    index_ = index;
    count_ = index == VFIO_PCI_INTX_IRQ_INDEX ? 1 : count;
    return {};
  }
  return {};
}

Result<void> Irqs::enable(std::span<const int> eventfds) {
  if (eventfds.empty() || eventfds.size() > count_) {
    return fail(Errc::kInvalid,
                fmt::format("{}: {} interrupt vectors were asked for; the device has {}", file_.name(), eventfds.size(),
                            count_),
                count_ == 0 ? "poll the device" : "ask for fewer");
  }
  if (std::ranges::any_of(eventfds, [](int fd) { return fd < 0; })) {
    return fail(Errc::kInvalid, file_.name() + ": an interrupt vector was given no eventfd", "create it first");
  }
  const std::scoped_lock lock(mutex_);
  if (file_.surrendered())
    return fail(Errc::kState, file_.name() + ": the device has been given back", "open it again");
  UPCI_TRY(disable_locked());
  const std::string on = fmt::format("{}: routing of {} interrupts", file_.name(), eventfds.size());
  const int result = route_irqs(file_, index_, 0, eventfds);
  if (result < 0) return refused(kSetIrqs, on, result);
  if (result > 0) {
    // The kernel's way of saying how many it could have given.
    return refused(kSetIrqs, fmt::format("{} (the kernel has {} left)", on, result), ENOSPC,
                   "use fewer interrupts, or free some of other devices");
  }
  for (const int fd : eventfds) vectors_.push_back({.eventfd = fd});
  return {};
}

Result<void> Irqs::disable() {
  const std::scoped_lock lock(mutex_);
  return disable_locked();
}

/// The kernel waits for running handlers (free_irq), so no eventfd is signalled afterwards.
Result<void> Irqs::disable_locked() {
  if (vectors_.empty()) return {};
  const int result = file_.surrendered() ? 0 : act_on_irqs(file_, index_, VFIO_IRQ_SET_ACTION_TRIGGER, 0, 0);
  if (result < 0) return refused(kSetIrqs, file_.name() + ": switching interrupts off", result);
  vectors_.clear();
  return {};
}

Result<void> Irqs::set_mask(unsigned vector, bool masked) {
  const std::scoped_lock lock(mutex_);
  if (vector >= count_)
    return fail(Errc::kInvalid, fmt::format("{}: there is no interrupt vector {}", file_.name(), vector),
                "ask count()");
  if (vector >= vectors_.size()) {
    return fail(Errc::kState, fmt::format("{}: interrupt vector {} is not enabled", file_.name(), vector),
                "enable it first");
  }
  if (file_.surrendered()) return {};
  const std::string on = fmt::format("{}: {}masking of vector {}", file_.name(), masked ? "" : "un", vector);
  Vector& entry = vectors_[vector];
  if (kind() == Kind::kLine) {
    // Asked for each time: the kernel masks by itself at each signal.
    const std::uint32_t action = masked ? VFIO_IRQ_SET_ACTION_MASK : VFIO_IRQ_SET_ACTION_UNMASK;
    if (const int result = act_on_irqs(file_, index_, action, 0, 1); result < 0) return refused(kSetIrqs, on, result);
    entry.masked = masked;
    return {};
  }
  if (entry.masked == masked) return {};
  const int eventfd = masked ? -1 : entry.eventfd;
  if (const int result = route_irqs(file_, index_, vector, std::span(&eventfd, 1)); result != 0) {
    return refused(kSetIrqs, on, result > 0 ? ENOSPC : result);
  }
  entry.masked = masked;
  if (masked) return {};
  if (const int result = act_on_irqs(file_, index_, VFIO_IRQ_SET_ACTION_TRIGGER, vector, 1); result < 0) {
    return refused(kSetIrqs, on, result);
  }
  return {};
}

/// vfio_pci_intrs.c: vfio_intx_enable() and vfio_msi_set_vector_signal().
std::string Irqs::linux_name(unsigned vector) const {
  if (kind() == Kind::kLine) return fmt::format("vfio-intx({})", file_.address());
  return fmt::format("vfio-msi{}[{}]({})", index_ == VFIO_PCI_MSIX_IRQ_INDEX ? "x" : "", vector, file_.address());
}

std::optional<unsigned> find_linux_irq(const std::string& interrupts, const std::string& name) {
  constexpr std::string_view kBetween = " ,\t\n";
  const std::string_view text = interrupts;
  for (std::size_t at = text.find(name); at != std::string_view::npos; at = text.find(name, at + 1)) {
    const std::size_t end = at + name.size();
    const bool whole =
        at != 0 && kBetween.contains(text[at - 1]) && (end == text.size() || kBetween.contains(text[end]));
    if (!whole) continue;
    const std::size_t before = text.rfind('\n', at);
    const std::size_t line = text.find_first_not_of(' ', before == std::string_view::npos ? 0 : before + 1);
    unsigned number = 0;
    const auto [stopped, error] = std::from_chars(text.data() + line, text.data() + text.size(), number);
    if (error == std::errc() && stopped != text.data() + text.size() && *stopped == ':') return number;
  }
  return std::nullopt;
}

Result<void> Irqs::set_affinity(unsigned vector, int os_cpu) {
  const std::scoped_lock lock(mutex_);
  const std::string what = fmt::format("{}: affinity of interrupt vector {}", file_.name(), vector);
  if (vector >= vectors_.size() || vectors_[vector].masked || file_.surrendered()) {
    return fail(Errc::kUnavailable, what + ": the vector is not enabled", "set the affinity after enabling it");
  }
  Kernel& kernel = file_.kernel();
  const auto unavailable = [&](const std::string& call, int error, std::string advice) {
    auto failed = refused(call, what, error, std::move(advice));
    failed.error().code = Errc::kUnavailable;
    return failed;
  };
  const auto interrupts = kernel.read_file("/proc/interrupts");
  if (!interrupts) return unavailable("reading /proc/interrupts", interrupts.error(), "mount /proc");
  const std::string name = linux_name(vector);
  const auto number = find_linux_irq(*interrupts, name);
  if (!number) {
    return fail(
        Errc::kUnavailable, fmt::format("{}: /proc/interrupts has no {}", what, name),
        "the interrupt works on a CPU of the kernel's choice; a /proc of another PID or network namespace may hide it");
  }
  const std::string folder = fmt::format("/proc/irq/{}/", *number);
  const std::string wanted = std::to_string(os_cpu);
  if (const int result = kernel.write_file(folder + "smp_affinity_list", wanted + "\n"); result < 0) {
    return unavailable(
        "writing " + folder + "smp_affinity_list", result,
        "run as root with a writable /proc to place interrupts, and name a CPU that is online; without it the "
        "interrupt works on a CPU of the kernel's choice");
  }
  const auto effective = kernel.read_file(folder + "effective_affinity_list");
  if (effective && trimmed(*effective) == wanted) return {};
  // Some interrupts move only when the next one comes; until then the request is what there is to see.
  const auto asked = kernel.read_file(folder + "smp_affinity_list");
  if (asked && trimmed(*asked) == wanted) return {};
  if (!asked) return unavailable("reading " + folder + "smp_affinity_list", asked.error(), "mount /proc");
  return fail(Errc::kUnavailable,
              fmt::format("{}: it was asked onto CPU {}, the kernel has put it on {}", what, wanted,
                          effective ? trimmed(*effective) : trimmed(*asked)),
              "look at irqbalance, and at isolcpus= of the kernel's command line");
}

}  // namespace upci::inline UPCI_VARIANT::vfio
