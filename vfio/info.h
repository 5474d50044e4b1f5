// SPDX-License-Identifier: Apache-2.0
// Private. VFIO's INFO ioctls: a fixed part, and behind it a chain of capabilities. Nothing in the chain is trusted.
#pragma once

#include <linux/vfio.h>

#include <cstddef>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "vfio/kernel.h"

namespace upci::inline UPCI_VARIANT::vfio {

/// The bytes of the first capability `id` in the chain that begins at `first` (0: none), from its header to the end of the
/// buffer. Errors: kDevice: an offset outside the buffer or inside the `fixed` part, or a loop.
Result<std::optional<std::span<const std::byte>>> find_info_capability(std::span<const std::byte> buffer,
                                                                       std::size_t fixed, std::uint32_t first,
                                                                       std::uint16_t id, std::string_view call,
                                                                       std::string_view on);

/// Reads a T at `offset` of `bytes`, or nothing when it does not fit.
template <class T>
std::optional<T> value_at(std::span<const std::byte> bytes, std::size_t offset) {
  if (offset > bytes.size() || bytes.size() - offset < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

/// The answer to one INFO ioctl, with its whole chain.
template <class T>
struct Info {
  T fixed = {};
  std::vector<std::byte> buffer = {};  // the fixed part again, and the chain
};

/// More than this is no answer that a kernel gives.
inline constexpr std::size_t kLongestInfo = std::size_t{64} << 10;

/// `question` holds what the kernel is to know (the index). Errors: kSystem, kUnavailable, kDevice (a size that cannot be).
template <class T>
Result<Info<T>> ask_info(Kernel& kernel, int fd, unsigned long request, std::string_view call, std::string_view on,
                         T question);

// The rest is of the template.

Result<std::vector<std::byte>> ask_info_bytes(Kernel& kernel, int fd, unsigned long request, std::string_view call,
                                              std::string_view on, std::span<const std::byte> question);

template <class T>
Result<Info<T>> ask_info(Kernel& kernel, int fd, unsigned long request, std::string_view call, std::string_view on,
                         T question) {
  UPCI_TRY_ASSIGN(std::vector<std::byte> bytes,
                  ask_info_bytes(kernel, fd, request, call, on, std::as_bytes(std::span(&question, 1))));
  Info<T> info;
  std::memcpy(&info.fixed, bytes.data(), sizeof(T));
  info.buffer = std::move(bytes);
  return info;
}

}  // namespace upci::inline UPCI_VARIANT::vfio
