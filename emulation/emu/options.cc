// SPDX-License-Identifier: Apache-2.0
#include "emulation/emu/options.h"

#include <charconv>
#include <optional>

#include "virtio/spec/net.h"
#include "virtio/spec/ring.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {
namespace {

constexpr WordInfo kWords[] = {
    {"modern", "virtio 1 registers only (the default)"},
    {"legacy", "the legacy registers only"},
    {"transitional", "both"},
    {"mac=XX:XX:XX:XX:XX:XX", "the MAC address (default: made from the URI)"},
    {"mtu=N", "offers MTU with this value, 68 to 65521"},
    {"queue_size=N", "descriptors per queue up to 32768, without packed=on a power of two (256)"},
    {"vectors=N", "MSI-X vectors, up to 32; 0 gives one INTx line (3)"},
    {"link=up|down", "the link's state (up)"},
    {"mrg_rxbuf=on|off", "whether MRG_RXBUF is offered (on)"},
    {"event_idx=on|off", "whether EVENT_IDX is offered (on)"},
    {"indirect_desc=on|off", "whether INDIRECT_DESC is offered (on)"},
    {"access_platform=on|off", "whether the modern interface offers ACCESS_PLATFORM (on)"},
    {"notification_data=on|off", "whether it offers NOTIFICATION_DATA (off)"},
    {"order_platform=on|off", "whether it offers ORDER_PLATFORM (off)"},
    {"ring_reset=on|off", "whether it offers RING_RESET (off)"},
    {"packed=on|off", "whether it offers RING_PACKED (off)"},
    {"in_order=on|off", "whether it offers IN_ORDER, and then gives back what was sent in batches (off)"},
    {"uso=on|off", "whether it offers HOST_USO, GUEST_USO4 and GUEST_USO6, with CSUM and GUEST_CSUM (off)"},
    {"fault_ms=N", "how late the fault status-slow is, in milliseconds (1200)"},
};

constexpr std::uint16_t kMaxVectors = 32;
constexpr std::uint32_t kMaxMtu = 65535 - virtio::spec::net::kEthernetHeaderBytes;

std::unexpected<Error> bad_value(const Word& word, const std::string& allowed) {
  return fail(Errc::kInvalid, "'" + word.key + "=" + word.value + "' is no value that an emulated device takes",
              word.key + " is " + allowed);
}

std::unexpected<Error> bad_word(const Word& word) {
  std::string known;
  for (const WordInfo& info : kWords) {
    if (!known.empty()) known += ", ";
    known += info.word;
  }
  return fail(Errc::kInvalid, "emu:virtio-net does not know the word '" + word.key + "'", "it knows " + known);
}

Result<std::uint32_t> number(const Word& word, std::uint32_t low, std::uint32_t high) {
  std::uint32_t value = 0;
  const char* const end = word.value.data() + word.value.size();
  const auto [stop, error] = std::from_chars(word.value.data(), end, value);
  if (error != std::errc{} || stop != end || value < low || value > high) {
    return bad_value(word, "a number from " + std::to_string(low) + " to " + std::to_string(high));
  }
  return value;
}

Result<bool> choice(const Word& word, std::string_view yes, std::string_view no) {
  if (word.value == yes) return true;
  if (word.value == no) return false;
  return bad_value(word, std::string(yes) + " or " + std::string(no));
}

Result<std::array<std::uint8_t, 6>> parse_mac(const Word& word) {
  const std::string allowed = "six pairs of hexadecimal digits with colons between, not a group address";
  std::array<std::uint8_t, 6> mac{};
  if (word.value.size() != 17) return bad_value(word, allowed);
  for (std::size_t i = 0; i < mac.size(); ++i) {
    const char* const at = word.value.data() + 3 * i;
    const auto [stop, error] = std::from_chars(at, at + 2, mac[i], 16);
    if (error != std::errc{} || stop != at + 2) return bad_value(word, allowed);
    if (i + 1 < mac.size() && at[2] != ':') return bad_value(word, allowed);
  }
  if ((mac[0] & 1U) != 0) return bad_value(word, allowed);
  return mac;
}

/// A locally administered address that is the same for the same URI in every run.
std::array<std::uint8_t, 6> made_mac(std::string_view uri) {
  std::uint32_t hash = 2166136261U;  // FNV-1a
  for (const char c : uri) hash = (hash ^ static_cast<std::uint8_t>(c)) * 16777619U;
  std::array<std::uint8_t, 6> mac{0x02, 0x55};
  for (std::size_t i = 0; i < 4; ++i) mac[2 + i] = static_cast<std::uint8_t>(hash >> (8 * i));
  return mac;
}

std::optional<Interface> interface_of(const Word& word) {
  if (word.has_value) return std::nullopt;
  if (word.key == "modern") return Interface::kModern;
  if (word.key == "legacy") return Interface::kLegacy;
  if (word.key == "transitional") return Interface::kTransitional;
  return std::nullopt;
}

Result<void> take_word(const Word& word, Options& options) {
  if (const auto interface = interface_of(word)) {
    options.interface = *interface;
    return {};
  }
  if (!word.has_value) return bad_word(word);
  if (word.key == "mac") {
    UPCI_TRY_ASSIGN(options.mac, parse_mac(word));
  } else if (word.key == "mtu") {
    UPCI_TRY_ASSIGN(const std::uint32_t mtu, number(word, virtio::spec::net::kMinMtu, kMaxMtu));
    options.mtu = static_cast<std::uint16_t>(mtu);
  } else if (word.key == "queue_size") {
    UPCI_TRY_ASSIGN(const std::uint32_t size, number(word, 1, virtio::spec::ring::kMaxSize));
    options.queue_size = static_cast<std::uint16_t>(size);
  } else if (word.key == "vectors") {
    UPCI_TRY_ASSIGN(const std::uint32_t vectors, number(word, 0, kMaxVectors));
    options.vectors = static_cast<std::uint16_t>(vectors);
  } else if (word.key == "link") {
    UPCI_TRY_ASSIGN(options.link_up, choice(word, "up", "down"));
  } else if (word.key == "mrg_rxbuf") {
    UPCI_TRY_ASSIGN(options.mrg_rxbuf, choice(word, "on", "off"));
  } else if (word.key == "event_idx") {
    UPCI_TRY_ASSIGN(options.event_idx, choice(word, "on", "off"));
  } else if (word.key == "indirect_desc") {
    UPCI_TRY_ASSIGN(options.indirect_desc, choice(word, "on", "off"));
  } else if (word.key == "access_platform") {
    UPCI_TRY_ASSIGN(options.access_platform, choice(word, "on", "off"));
  } else if (word.key == "notification_data") {
    UPCI_TRY_ASSIGN(options.notification_data, choice(word, "on", "off"));
  } else if (word.key == "order_platform") {
    UPCI_TRY_ASSIGN(options.order_platform, choice(word, "on", "off"));
  } else if (word.key == "ring_reset") {
    UPCI_TRY_ASSIGN(options.ring_reset, choice(word, "on", "off"));
  } else if (word.key == "packed") {
    UPCI_TRY_ASSIGN(options.packed, choice(word, "on", "off"));
  } else if (word.key == "in_order") {
    UPCI_TRY_ASSIGN(options.in_order, choice(word, "on", "off"));
  } else if (word.key == "uso") {
    UPCI_TRY_ASSIGN(options.uso, choice(word, "on", "off"));
  } else if (word.key == "fault_ms") {
    if (options.fault != Fault::kStatusSlow) return bad_value(word, "only for fault=status-slow");
    UPCI_TRY_ASSIGN(const std::uint32_t ms, number(word, 1, 600'000));
    options.fault_delay = std::chrono::milliseconds(ms);
  } else {
    return bad_word(word);
  }
  return {};
}

/// What a card can be whose queues a vhost-user back end works on.
Result<void> check_back_end(const DeviceSpec& spec, const Options& options, const FaultInfo* fault) {
  if (options.has_legacy())
    return fail(Errc::kInvalid, "a card with wire=vhost-user: has the modern registers only",
                "leave out the interface");
  if (spec.wire.queues != 1)
    return fail(Errc::kInvalid, "an emulated card has one queue pair", "say vhost-user:PATH without a number");
  if (fault != nullptr && fault->expected == "ok")
    return fail(Errc::kInvalid, "the fault '" + spec.fault + "' is one of rings, and these are the back end's",
                "choose another fault, or a wire that is not vhost-user:");
  return {};
}

}  // namespace

std::span<const WordInfo> all_words() noexcept { return kWords; }

Result<Options> parse_options(const DeviceSpec& spec) {
  if (spec.model != "virtio-net") {
    return fail(Errc::kInvalid, "there is no emulated model '" + spec.model + "'", "models of emu: are virtio-net");
  }
  Options options;
  options.name = spec.uri.empty() ? "emu:" + spec.model : spec.uri;
  options.mac = made_mac(options.name);
  options.node = spec.node;
  UPCI_TRY_ASSIGN(options.fault, parse_fault(spec.fault));
  for (const Word& word : spec.words) UPCI_TRY(take_word(word, options));
  if (!virtio::spec::ring::is_valid_size(options.queue_size) && (!options.packed || options.has_legacy())) {
    return fail(Errc::kInvalid, "split rings cannot have " + std::to_string(options.queue_size) + " descriptors",
                "queue_size is a power of two, but for a modern device with packed=on");
  }
  if (options.packed && options.fault == Fault::kQueueSizeOdd) {
    return fail(Errc::kInvalid, "packed rings may have any size, so that '" + spec.fault + "' is no fault of theirs",
                "leave out 'packed=on'");
  }
  const FaultInfo* const fault = find_fault(options.fault);
  if (spec.wire.kind == WireSpec::Kind::kVhostUser) UPCI_TRY(check_back_end(spec, options, fault));
  if (fault != nullptr && fault->modern_only && !options.has_modern()) {
    return fail(Errc::kInvalid, "a legacy device cannot have the fault '" + spec.fault + "'",
                "leave out 'legacy', or say 'transitional'");
  }
  return options;
}

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
