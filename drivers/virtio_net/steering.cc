// SPDX-License-Identifier: Apache-2.0
#include "drivers/virtio_net/steering.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace upci::inline UPCI_VARIANT::virtio_net {
namespace {

/// Little-endian fields, one after the other.
class Command {
 public:
  template <class T>
  void add(T value) {
    const std::size_t at = bytes_.size();
    bytes_.resize(at + sizeof(value));
    std::memcpy(bytes_.data() + at, &value, sizeof(value));
  }
  void add(std::span<const std::uint8_t> bytes) {
    for (const std::uint8_t byte : bytes) bytes_.push_back(std::byte{byte});
  }
  std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  static_assert(std::endian::native == std::endian::little);
  std::vector<std::byte> bytes_;
};

}  // namespace

Result<void> check_hash(std::uint32_t types, std::span<const std::uint8_t> key, const SteeringLimits& limits) {
  if (const std::uint32_t unknown = types & ~limits.hash_types; unknown != 0) {
    return fail(Errc::kInvalid, fmt::format("the network card cannot hash by the types {:#x}", unknown),
                fmt::format("it can by {:#x}", limits.hash_types));
  }
  if (key.empty() || key.size() > limits.key_bytes) {
    return fail(Errc::kInvalid, fmt::format("a hash key of {} bytes", key.size()),
                fmt::format("the network card takes 1 to {}", limits.key_bytes));
  }
  return {};
}

Result<void> check_rss(const Rss& rss, const SteeringLimits& limits, unsigned pairs) {
  UPCI_TRY(check_hash(rss.hash_types, rss.key, limits));
  if (!std::has_single_bit(rss.table.size()) || rss.table.size() > limits.table_entries) {
    return fail(Errc::kInvalid, fmt::format("an indirection table of {} entries", rss.table.size()),
                fmt::format("it must have as many as a power of two, at most {}", limits.table_entries));
  }
  const auto beyond = [pairs](std::uint16_t pair) { return pair >= pairs; };
  if (std::ranges::any_of(rss.table, beyond) || beyond(rss.unclassified)) {
    return fail(Errc::kInvalid, "the indirection table names a queue pair that there is not",
                fmt::format("the driver has set up {}", pairs));
  }
  return {};
}

std::vector<std::byte> rss_command(const Rss& rss, unsigned pairs) {
  Command command;
  command.add(rss.hash_types);
  command.add(static_cast<std::uint16_t>(rss.table.size() - 1));
  command.add(rss.unclassified);
  for (const std::uint16_t pair : rss.table) command.add(pair);
  command.add(static_cast<std::uint16_t>(pairs));  // of transmit queues
  command.add(static_cast<std::uint8_t>(rss.key.size()));
  command.add(std::span<const std::uint8_t>(rss.key));
  return command.take();
}

std::vector<std::byte> hash_command(std::uint32_t types, std::span<const std::uint8_t> key) {
  Command command;
  command.add(types);
  for (int i = 0; i < 4; i++) command.add(std::uint16_t{0});  // "reserved MUST contain zeroes"
  command.add(static_cast<std::uint8_t>(key.size()));
  command.add(key);
  return command.take();
}

}  // namespace upci::inline UPCI_VARIANT::virtio_net
