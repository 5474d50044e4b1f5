// SPDX-License-Identifier: Apache-2.0
#include "vfio/info.h"

#include <fmt/format.h>

#include "vfio/failure.h"

namespace upci::inline UPCI_VARIANT::vfio {

Result<std::optional<std::span<const std::byte>>> find_info_capability(std::span<const std::byte> buffer,
                                                                       std::size_t fixed, std::uint32_t first,
                                                                       std::uint16_t id, std::string_view call,
                                                                       std::string_view on) {
  // Each header takes its room, so more steps than this are a loop.
  std::size_t steps = buffer.size() / sizeof(vfio_info_cap_header);
  std::uint32_t offset = first;
  while (offset != 0) {
    const auto header = value_at<vfio_info_cap_header>(buffer, offset);
    if (!header || offset < fixed) {
      return implausible(call, on,
                         fmt::format("a capability at {:#x} of an answer of {} bytes", offset, buffer.size()));
    }
    if (steps-- == 0) return implausible(call, on, "its capabilities form a loop");
    if (header->id == id) return std::optional(buffer.subspan(offset));
    offset = header->next;
  }
  return std::optional<std::span<const std::byte>>();
}

/// Every INFO structure begins with argsz, which the kernel sets to what it would have liked.
Result<std::vector<std::byte>> ask_info_bytes(Kernel& kernel, int fd, unsigned long request, std::string_view call,
                                              std::string_view on, std::span<const std::byte> question) {
  std::size_t len = question.size();
  // What there is to say can grow between two questions; it does not do so for ever.
  for (int tries = 0; tries < 4; ++tries) {
    std::vector<std::byte> buffer(len);
    std::memcpy(buffer.data(), question.data(), question.size());
    const auto argsz = static_cast<std::uint32_t>(len);
    std::memcpy(buffer.data(), &argsz, sizeof(argsz));
    if (const int result = kernel.ioctl(fd, request, argument_of(buffer.data())); result < 0) {
      return refused(call, on, result);
    }
    std::uint32_t wanted = 0;
    std::memcpy(&wanted, buffer.data(), sizeof(wanted));
    if (wanted <= len) return buffer;
    if (wanted > kLongestInfo) return implausible(call, on, fmt::format("an answer of {} bytes", wanted));
    len = wanted;
  }
  return implausible(call, on, "an answer that grows with each question");
}

}  // namespace upci::inline UPCI_VARIANT::vfio
