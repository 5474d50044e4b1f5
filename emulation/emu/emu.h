// SPDX-License-Identifier: Apache-2.0
// In-process emulated devices: emu:virtio-net. They do what the specification asks of a device, note what the driver
// does against it, and can be told to misbehave.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "emulation/device_spec.h"
#include "pci/backend.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {

/// Makes the device. A device has one thread of its own until the backend is destroyed. Errors: kInvalid for a model,
/// word, value, fault or cable that does not exist or does not fit; kUnavailable where nobody listens on a unix: or vhost-user: wire;
/// kSystem.
Result<std::shared_ptr<pci::Backend>> open(const DeviceSpec& spec, Cables& cables);

/// Checks all that the text alone decides, without making anything. Errors: kInvalid.
Result<void> check(const DeviceSpec& spec);

struct FaultDescription {
  std::string_view name;      // fault=NAME
  std::string_view what;      // what the device does
  std::string_view expected;  // what a probe ends in: a verdict's word, "error", or "ok" when only traffic meets it
};
/// The faults that open() takes, for help and tests.
std::vector<FaultDescription> faults();

struct WordDescription {
  std::string_view word;  // as it is written: "mtu=N"
  std::string_view what;
};
/// The words that open() takes.
std::vector<WordDescription> words();

// What tests ask a device that open() made. For any other backend: nothing, and no effect. Thread-safe.

/// What the driver did against the specification, oldest first; each was logged as a warning too.
std::vector<std::string> violations(pci::Backend& backend);

struct FrameCounts {
  std::uint64_t sent = 0;      // frames from the driver to the wire
  std::uint64_t received = 0;  // frames from the wire to the driver
  std::uint64_t dropped = 0;   // malformed, too long, without a link, or nobody at the other end
};
FrameCounts frame_counts(pci::Backend& backend);

/// Pulls or plugs the cable: link status, config generation, configuration change interrupt.
void set_link(pci::Backend& backend, bool up);

/// The device finds itself in error: DEVICE_NEEDS_RESET (not the legacy interface), and it does nothing until it is reset.
void request_reset(pci::Backend& backend);

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
