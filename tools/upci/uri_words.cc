// SPDX-License-Identifier: Apache-2.0
#include "tools/upci/uri_words.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <string>
#include <utility>

#include "emulation/interposer/interposer.h"
#include "emulation/wire.h"
#include "tools/upci/numbers.h"
#include "virtio/spec/features.h"
#include "virtio/spec/ids.h"

namespace upci::tool {
namespace {

using Interface = device::BindOptions::Interface;

// More than any kernel is built for (MAX_NUMNODES).
constexpr std::uint64_t kLargestNode = 1023;

std::unexpected<Error> wrong(const Uri& uri, std::string what, std::string advice) {
  return fail(Errc::kInvalid, fmt::format("'{}': {}", uri.text, what), std::move(advice));
}

Result<void> take_driver(Uri& uri, const std::string& value) {
  if (value != "legacy" && value != "modern") {
    return wrong(uri, fmt::format("driver={} names no interface", value), "write driver=legacy or driver=modern");
  }
  uri.options.interface = value == "legacy" ? Interface::kLegacy : Interface::kModern;
  return {};
}

Result<void> take_fault(Uri& uri, const std::string& value) {
  if (value.empty()) return wrong(uri, "fault= names no fault", "upci probe --help lists the faults");
  if (emulation::interposer::is_fault(value)) {
    uri.platform_fault = value;
    return {};
  }
  if (uri.scheme != Scheme::kEmu) {
    return wrong(
        uri, fmt::format("fault={} is no fault of the platform, and the device itself is not ours to mislead", value),
        "a device that misbehaves is emu:virtio-net,fault=NAME; upci probe --help lists both kinds");
  }
  uri.spec.fault = value;
  return {};
}

Result<void> take_wire(Uri& uri, const std::string& value) {
  if (uri.scheme == Scheme::kVfio) {
    return wrong(uri, "wire= is for emulated devices; this one has a cable of its own", "leave wire= out");
  }
  auto wire = emulation::WireSpec::parse(value);
  if (!wire) return wrong(uri, wire.error().what, wire.error().advice);
  if (wire->kind == emulation::WireSpec::Kind::kTap && uri.scheme != Scheme::kQemu) {
    return wrong(uri, "wire=tap: is for QEMU's cards",
                 "this one takes loopback, cable:NAME, unix:PATH or vhost-user:PATH; or name qemu:virtio-net-pci");
  }
  uri.spec.wire = std::move(*wire);
  uri.wire_given = true;
  return {};
}

Result<void> take_node(Uri& uri, const std::string& value) {
  if (uri.scheme == Scheme::kVfio) {
    return wrong(uri, "node= cannot be chosen: the machine says where a PCI function is", "leave node= out");
  }
  auto node = parse_count("node=", value, 0, kLargestNode);
  if (!node) return wrong(uri, node.error().what, "nodes are counted from 0");
  uri.spec.node = static_cast<int>(*node);
  return {};
}

/// The name as the specification has it, without prefix: "mrg_rxbuf" and "VIRTIO_NET_F_MRG_RXBUF" are MRG_RXBUF.
std::string feature_name_of(std::string_view text) {
  std::string name(text);
  std::ranges::transform(name, name.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  for (const std::string_view prefix : {"VIRTIO_NET_F_", "VIRTIO_BLK_F_", "VIRTIO_F_"}) {
    if (name.starts_with(prefix)) return name.substr(prefix.size());
  }
  return name;
}

Result<void> take_features(Uri& uri, const std::string& value) {
  constexpr std::string_view kForm = "write features=+NAME:-NAME; + insists on a feature, - declines it";
  for (std::string_view rest = value;;) {
    const std::size_t colon = rest.find(':');
    const std::string_view item = rest.substr(0, colon);
    if (item.size() < 2 || (item.front() != '+' && item.front() != '-')) {
      return wrong(uri, fmt::format("features={}: '{}' does not begin with + or - and a name", value, item),
                   std::string(kForm));
    }
    std::string name = feature_name_of(item.substr(1));
    // Which of the types it is turns out when the device is opened: the driver knows its own names only.
    if (!virtio::spec::feature_bit(virtio::spec::kDeviceNet, name) &&
        !virtio::spec::feature_bit(virtio::spec::kDeviceBlock, name)) {
      return wrong(uri, fmt::format("features={}: virtio has no feature '{}'", value, item.substr(1)),
                   "names are the specification's without VIRTIO_F_, VIRTIO_NET_F_ or VIRTIO_BLK_F_, as in "
                   "+MRG_RXBUF:-EVENT_IDX");
    }
    device::BindOptions& options = uri.options;
    for (const std::vector<std::string>* list : {&options.require_features, &options.decline_features}) {
      if (std::ranges::find(*list, name) != list->end()) {
        return wrong(uri, fmt::format("features={}: {} is there twice", value, name), std::string(kForm));
      }
    }
    (item.front() == '+' ? options.require_features : options.decline_features).push_back(std::move(name));
    if (colon == std::string_view::npos) return {};
    rest = rest.substr(colon + 1);
  }
}

Result<void> take_disk(Uri& uri, const std::string& value) {
  if (uri.scheme != Scheme::kQemu) {
    return wrong(uri, "disk= is for QEMU's block devices", "leave disk= out, or write qemu:virtio-blk-pci,disk=PATH");
  }
  if (value.empty()) return wrong(uri, "disk= names no file", "write disk=PATH");
  uri.spec.disk = value;
  return {};
}

struct Reserved {
  std::string_view key;
  Result<void> (*take)(Uri&, const std::string&);
};
constexpr Reserved kReserved[] = {
    {"driver", take_driver}, {"fault", take_fault}, {"wire", take_wire},
    {"disk", take_disk},     {"node", take_node},   {"features", take_features},
};

const Reserved* find_reserved(std::string_view key) {
  const Reserved* found = std::ranges::find(kReserved, key, &Reserved::key);
  return found == std::end(kReserved) ? nullptr : found;
}

}  // namespace

bool is_reserved(std::string_view key) { return find_reserved(key) != nullptr; }

Result<void> take_reserved(Uri& uri, const emulation::Word& word) {
  const Reserved* reserved = find_reserved(word.key);
  if (!word.has_value) {
    return wrong(uri, fmt::format("'{}' needs a value", word.key), fmt::format("write {}=...", word.key));
  }
  return reserved->take(uri, word.value);
}

}  // namespace upci::tool
