// SPDX-License-Identifier: Apache-2.0 QEMU's own device models as PCI functions of this process: each device in a QEMU
// of its own, driven over qtest. No guest system runs, and neither root nor KVM is needed.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/platform.h"
#include "emulation/device_spec.h"
#include "emulation/wire.h"
#include "pci/backend.h"

namespace upci::inline UPCI_VARIANT::emulation::qemu {

struct Options {
  std::string program = "qemu-system-x86_64";  // looked for in PATH when it has no slash
  std::size_t ram = std::size_t{256} << 20;    // the guest's; DMA memory comes from it; taken only when used
  platform::Nanoseconds start_limit = std::chrono::seconds(10);
  /// A device that has not answered an access by then is declared gone, and its QEMU is ended.
  platform::Nanoseconds access_limit = std::chrono::seconds(5);
  bool messages = true;    // false: its INTx line, though it may have MSI-X or MSI
  bool interrupts = true;  // false: offers none at all, for who polls anyhow: then nobody looks at its line
  /// Further arguments, ahead of the device's: block layers, objects, a monitor.
  std::vector<std::string> arguments = {};
  /// A block node that `arguments` make: what a block model gets instead of a disk of upci's.
  std::string disk_node = {};
};

/// Starts a QEMU with the model `spec.model` and the properties `spec.words`, and sets up its PCI bus as firmware
/// would: BARs placed, memory, port and bus master decoding on. Network models are plugged into `spec.wire`; block
/// models get the file `spec.disk` (raw; read-only when nobody may write to it), or a scratch disk of 64 MiB that reads as
/// zeroes at first and ends with the device. The words are checked against what QEMU says about the model.
///
/// What the backend gives: BARs that trap (none is mapped); DMA memory from the guest's RAM; MSI-X or MSI vectors as
/// eventfds that QEMU itself signals, or one INTx line, which a thread polls (with wire=vhost-user always: QEMU 7.2 without
/// KVM ends by a signal when MSI-X is used with it); reset by FLR where the device has it,
/// otherwise of its bus. abandon() ends QEMU, which proves the device quiet. When the last reference goes, QEMU has been
/// ended and reaped.
///
/// `disable-modern=on` alone brings `disable-legacy=off` with it, since the device would otherwise have no interface
/// left.
///
/// Errors: kInvalid (model, words, wire, disk or fault; or QEMU refuses a value), kUnavailable (no QEMU, it does not start,
/// nobody listens at a unix: wire, no such disk file), kTimeout (it does not start in time), kSystem.
Result<std::shared_ptr<pci::Backend>> open(const DeviceSpec& spec, Cables& cables, const Options& options = {});

}  // namespace upci::inline UPCI_VARIANT::emulation::qemu
