// SPDX-License-Identifier: Apache-2.0
// Private. What the registers and configurations consist of, field by field, and which features belong together. Written from
// the specification, not from the drivers: they are what is checked.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "base/variant.h"

namespace upci::inline UPCI_VARIANT::virtio::lint {

struct Field {
  std::uint32_t offset = 0;
  std::uint8_t bytes = 0;    // of the field; 8: two accesses of 4
  std::uint8_t count = 1;    // of an array
  bool writable = false;     // by the driver
  std::uint64_t any_of = 0;  // it exists when one of these is offered; 0: always

  std::uint32_t end() const noexcept { return offset + std::uint32_t{bytes} * count; }
};

/// struct virtio_pci_common_cfg with what versions 1.2 and 1.3 added; and the legacy header with its two vectors.
std::span<const Field> common_fields() noexcept;
std::span<const Field> legacy_fields() noexcept;
/// The device's own configuration; empty for a type that has none, or that no driver here is for.
std::span<const Field> config_fields(std::uint32_t device_id) noexcept;

/// The field that has the byte at `offset`, or nullptr.
const Field* field_at(std::span<const Field> fields, std::uint64_t offset) noexcept;
/// Section "PCI Device Layout", Driver Requirements: whole fields, aligned; the halves of one with 64 bits.
bool proper_access(const Field& field, std::uint64_t offset, unsigned width) noexcept;

/// The first accepted feature that lacks one which it requires, or nothing. Section "Feature bit requirements".
std::optional<unsigned> orphan(std::uint32_t device_id, std::uint64_t features) noexcept;
/// The bits that have a meaning for this device type on PCI. `sr_iov`: the function has that capability.
std::uint64_t known_features(std::uint32_t device_id, bool legacy, bool sr_iov) noexcept;

}  // namespace upci::inline UPCI_VARIANT::virtio::lint
