// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "emulation/qemu/backend.h"
#include "emulation/qemu/disk_file.h"
#include "emulation/qemu/machine.h"
#include "emulation/qemu/model.h"
#include "emulation/qemu/qemu.h"
#include "emulation/qemu/reflector.h"

namespace upci::inline UPCI_VARIANT::emulation::qemu {
namespace {

bool is_on(std::string_view value) { return value == "on" || value == "yes" || value == "true" || value == "y"; }

/// The words, and what upci adds where the user has not said otherwise.
std::vector<Word> with_defaults(std::vector<Word> words, const Model& model, const WireSpec& wire) {
  const auto find = [&words](std::string_view key) { return std::ranges::find(words, key, &Word::key); };
  // A virtio device on a PCI Express port has no legacy interface unless told; with the modern one off it had none at
  // all.
  const auto modern = find("disable-modern");
  if (modern != words.end() && is_on(modern->value) && model.has("disable-legacy") &&
      find("disable-legacy") == words.end()) {
    words.push_back({.key = "disable-legacy", .value = "off", .has_value = true});
  }
  // The card takes no more queue pairs than its backend has, and is told to use them; a vector for each queue.
  if (wire.queues > 1 && model.has("mq")) {
    if (find("mq") == words.end()) words.push_back({.key = "mq", .value = "on", .has_value = true});
    if (find("vectors") == words.end()) {
      words.push_back({.key = "vectors", .value = fmt::format("{}", 2 * wire.queues + 2), .has_value = true});
    }
  }
  // Without firmware nobody reads an option ROM, and its file may not be installed.
  if (model.has("romfile") && find("romfile") == words.end()) {
    words.push_back({.key = "romfile", .value = "", .has_value = true});
  }
  return words;
}

}  // namespace

Result<std::shared_ptr<pci::Backend>> open(const DeviceSpec& spec, Cables& cables, const Options& options) {
  if (!spec.fault.empty()) {
    return fail(Errc::kInvalid,
                fmt::format("fault={}: a device of QEMU has no faults that upci could switch on", spec.fault),
                "use emu:virtio-net,fault=NAME");
  }
  Plug plug;
  UPCI_TRY_ASSIGN(plug.model, describe_model(options.program, spec.model, Deadline::after(options.start_limit)));
  UPCI_TRY_ASSIGN(plug.properties, device_properties(*plug.model, with_defaults(spec.words, *plug.model, spec.wire)));

  if (plug.model->is_network()) {
    UPCI_TRY_ASSIGN(plug.netdev, make_netdev(spec.wire, cables));
  } else if (spec.wire.kind != WireSpec::Kind::kLoopback) {
    return fail(Errc::kInvalid,
                fmt::format("qemu:{}: wire= is for network devices, which this model is not", spec.model),
                "leave wire= out");
  }

  DiskFile disk;
  if (!plug.model->is_block() && !spec.disk.empty()) {
    return fail(Errc::kInvalid, fmt::format("qemu:{}: disk= is for block devices, which this model is not", spec.model),
                "leave disk= out");
  }
  if (plug.model->is_block() && options.disk_node.empty()) {
    UPCI_TRY_ASSIGN(disk, open_disk(spec.disk));
    plug.disk = disk.fd.get();
    plug.disk_read_only = disk.read_only;
  }

  UPCI_TRY_ASSIGN(std::unique_ptr<Machine> machine, Machine::launch(plug, options));
  // From here on QEMU's end of the wire is QEMU's alone: when QEMU ends, the other side is to see it.
  std::unique_ptr<Reflector> reflector = std::move(plug.netdev.reflector);
  if (reflector) reflector->handed_over();
  plug.netdev.owned.clear();
  // QEMU 7.2 without KVM ends by a signal when a vhost-user backend is to signal MSI-X vectors.
  const bool messages = options.messages && spec.wire.kind != WireSpec::Kind::kVhostUser;
  UPCI_TRY_ASSIGN(std::shared_ptr<pci::Backend> backend,
                  Backend::create(spec.uri, spec.node, std::move(machine), std::move(reflector),
                                  {.messages = messages, .any = options.interrupts}));
  return backend;
}

}  // namespace upci::inline UPCI_VARIANT::emulation::qemu
