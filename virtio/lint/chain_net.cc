// SPDX-License-Identifier: Apache-2.0
// What binds the driver of a network card in its buffers.
#include <fmt/format.h>

#include <bit>

#include "virtio/lint/chain_look.h"
#include "virtio/spec/features.h"
#include "virtio/spec/net.h"

namespace upci::inline UPCI_VARIANT::virtio::lint {
namespace {

namespace net_spec = spec::net;
namespace feature = spec::net_feature;
using spec::mask_of;

// What the tables of the drivers do not name, since they do not use it. Section "Control Virtqueue".
constexpr std::uint8_t kRssConfig = 1;   // of class MQ
constexpr std::uint8_t kCoalescing = 6;  // a class
constexpr std::size_t kHashHeaderBytes = 20;
constexpr std::size_t kCommandBytes = 2;  // class and command
constexpr std::uint8_t kGsoBits = 0x7f;   // of gso_type, without ECN
constexpr std::uint64_t kMacBytes = 6;

/// The features of which one has to be negotiated for a command; all for commands that nobody knows.
std::uint64_t needed(std::uint8_t command_class, std::uint8_t command) noexcept {
  switch (command_class) {
    case net_spec::kControlRx: return mask_of(command < 2 ? feature::kCtrlRx : feature::kCtrlRxExtra);
    case net_spec::kControlMac:
      // The address has a feature of its own; section "Setting MAC Address Filtering" asks for CTRL_RX.
      return mask_of(feature::kCtrlRx) | (command == net_spec::kMacAddressSet ? mask_of(feature::kCtrlMacAddr) : 0);
    case net_spec::kControlVlan: return mask_of(feature::kCtrlVlan);
    case net_spec::kControlAnnounce: return mask_of(feature::kGuestAnnounce);
    case net_spec::kControlMq:
      if (command == net_spec::kMqPairsSet) return mask_of(feature::kMq) | mask_of(feature::kRss);
      return mask_of(command == kRssConfig ? feature::kRss : feature::kHashReport);
    case net_spec::kControlOffloads: return mask_of(feature::kCtrlGuestOffloads);
    case kCoalescing: return command < 2 ? mask_of(feature::kNotfCoal) : mask_of(52);  // VQ_NOTF_COAL
    default: return 0;
  }
}

}  // namespace

std::uint64_t ChainLint::most_pairs() const {
  if ((features_ & (mask_of(feature::kMq) | mask_of(feature::kRss))) == 0) return 1;
  return field(net_spec::config::kMaxPairs, 1);
}

void ChainLint::net(std::uint16_t queue, const Look& look) {
  if (queue == 2 * most_pairs()) return net_command(look);
  if (queue % 2 == 0) return net_receive(look);
  net_transmit(queue, look);
}

void ChainLint::net_receive(const Look& look) {
  const bool hash = (features_ & mask_of(feature::kHashReport)) != 0;
  const std::size_t header =
      hash ? kHashHeaderBytes : net_spec::header_bytes(!legacy_, (features_ & mask_of(feature::kMrgRxbuf)) != 0);
  if (look.writable() < header || look.readable() != 0) {
    breach(ChainRule::kNetBufferShort, fmt::format("{} bytes, of which {} are the device's to read",
                                                   look.writable() + look.readable(), look.readable()));
  }
}

void ChainLint::net_transmit(std::uint16_t queue, const Look& look) {
  const bool merge = (features_ & mask_of(feature::kMrgRxbuf)) != 0;
  const bool hash = (features_ & mask_of(feature::kHashReport)) != 0;
  const std::size_t header = hash ? kHashHeaderBytes : net_spec::header_bytes(!legacy_, merge);
  if (look.readable() <= header || look.writable() != 0) {
    return breach(ChainRule::kNetHeaderShort, fmt::format("{} bytes, header {}", look.readable(), header));
  }
  if (queue / 2U >= pairs_) breach(ChainRule::kNetTransmitEarly, fmt::format("queue {} of {} pairs", queue, pairs_));
  if (legacy_ && (features_ & mask_of(spec::feature::kAnyLayout)) == 0 && look.segments().front().len != header) {
    breach(ChainRule::kNetFraming, fmt::format("the first descriptor has {} bytes", look.segments().front().len));
  }
  net_header(look);
  const std::uint8_t gso = look.at<std::uint8_t>(1).value_or(0) & kGsoBits;
  // Room for a VLAN's tag, which Ethernet counts apart.
  const std::uint64_t longest =
      field(net_spec::config::kMtu, ~std::uint64_t{0} >> 1) + net_spec::kEthernetHeaderBytes + 4;
  if (gso == net_spec::kGsoNone && (features_ & mask_of(feature::kMtu)) != 0 && look.readable() - header > longest) {
    breach(ChainRule::kNetTooLong, fmt::format("{} bytes of {}", look.readable() - header, longest));
  }
  const bool sums = (look.at<std::uint8_t>(0).value_or(0) & net_spec::kHeaderNeedsCsum) != 0;
  const std::uint64_t start = look.at<std::uint16_t>(6).value_or(0);
  const std::uint64_t offset = look.at<std::uint16_t>(8).value_or(0);
  if (sums && start + offset + 2 > look.readable() - header) {
    breach(ChainRule::kNetChecksumOutside, fmt::format("{} + {} of {} bytes", start, offset, look.readable() - header));
  }
}

void ChainLint::net_header(const Look& look) {
  const auto flags = look.at<std::uint8_t>(0);
  const auto type = look.at<std::uint8_t>(1);
  if (!flags || !type) return breach(ChainRule::kNetHeaderShort, "its memory was not mapped for the device");
  const bool merge = (features_ & mask_of(feature::kMrgRxbuf)) != 0;
  if ((!legacy_ || merge) && look.at<std::uint16_t>(10).value_or(0) != 0) {
    breach(ChainRule::kNetNumBuffers, fmt::format("{}", *look.at<std::uint16_t>(10)));
  }
  if (*flags != 0 && (features_ & mask_of(feature::kCsum)) == 0) {
    breach(ChainRule::kNetFlagsWithoutCsum, fmt::format("{:#x}", *flags));
  } else if ((*flags & ~net_spec::kHeaderNeedsCsum) != 0) {
    breach(ChainRule::kNetFlagsOfDevice, fmt::format("{:#x}", *flags));
  }
  if (*type == net_spec::kGsoNone) return;
  const auto allowed = [this](unsigned bit) { return (features_ & mask_of(bit)) != 0; };
  bool known = (*type & net_spec::kGsoEcn) == 0 || allowed(feature::kHostEcn);
  switch (*type & kGsoBits) {
    case net_spec::kGsoTcp4: known = known && allowed(feature::kHostTso4); break;
    case net_spec::kGsoTcp6: known = known && allowed(feature::kHostTso6); break;
    case net_spec::kGsoUdp: known = known && allowed(feature::kHostUfo); break;
    case net_spec::kGsoUdpL4: known = known && allowed(feature::kHostUso); break;
    default: known = false; break;
  }
  if (!known) breach(ChainRule::kNetGsoNotNegotiated, fmt::format("{:#x}", *type));
  if ((*flags & net_spec::kHeaderNeedsCsum) == 0 || look.at<std::uint16_t>(4).value_or(0) == 0) {
    breach(ChainRule::kNetGsoWithoutCsum, fmt::format("flags {:#x}", *flags));
  }
}

void ChainLint::net_command(const Look& look) {
  const auto command_class = look.at<std::uint8_t>(0);
  const auto command = look.at<std::uint8_t>(1);
  if (!command_class || !command || look.writable() == 0) {
    return breach(ChainRule::kNetCommandLength, "no command, or no room for its answer");
  }
  const auto segments = look.segments();
  if (legacy_ && (features_ & mask_of(spec::feature::kAnyLayout)) == 0 &&
      (segments.front().len != kCommandBytes || segments.back().len != 1)) {
    breach(ChainRule::kNetFraming, fmt::format("{} and {} bytes", segments.front().len, segments.back().len));
  }
  if ((features_ & needed(*command_class, *command)) == 0) {
    breach(ChainRule::kNetCommandNotNegotiated, fmt::format("class {}, command {}", *command_class, *command));
  }
  switch (*command_class) {
    case net_spec::kControlMac: return net_mac(*command, look);
    case net_spec::kControlMq: return net_steering(*command, look);
    case net_spec::kControlOffloads: {
      const auto wanted = look.at<std::uint64_t>(kCommandBytes);
      if (!wanted) return breach(ChainRule::kNetCommandLength, "offloads");
      if ((*wanted & ~features_) != 0) breach(ChainRule::kNetOffloads, fmt::format("{:#x}", *wanted & ~features_));
      return;
    }
    default: return;
  }
}

void ChainLint::net_mac(std::uint8_t command, const Look& look) {
  const std::uint64_t bytes = look.readable() - kCommandBytes;
  if (command == net_spec::kMacAddressSet) {
    if (bytes != kMacBytes) breach(ChainRule::kNetCommandLength, fmt::format("an address of {} bytes", bytes));
    return;
  }
  const auto first = look.at<std::uint32_t>(kCommandBytes);
  const auto second = look.at<std::uint32_t>(kCommandBytes + 4 + first.value_or(0) * kMacBytes);
  if (!first || !second || bytes != 8 + (std::uint64_t{*first} + *second) * kMacBytes) {
    breach(ChainRule::kNetCommandLength, fmt::format("a table of addresses of {} bytes", bytes));
  }
}

void ChainLint::net_pairs(std::uint64_t pairs) {
  if (pairs == 0 || pairs > most_pairs()) {
    return breach(ChainRule::kNetPairs, fmt::format("{} of {}", pairs, most_pairs()));
  }
  pairs_ = pairs;
}

void ChainLint::net_steering(std::uint8_t command, const Look& look) {
  if (command == net_spec::kMqPairsSet) {
    const auto pairs = look.at<std::uint16_t>(kCommandBytes);
    if (!pairs) return breach(ChainRule::kNetCommandLength, "the number of pairs");
    return net_pairs(*pairs);
  }
  const std::uint64_t types = look.at<std::uint32_t>(kCommandBytes).value_or(0);
  const std::uint64_t supported = field(net_spec::config::kHashTypes, 0xffff'ffffU);
  if ((types & ~supported) != 0) breach(ChainRule::kNetRssHash, fmt::format("{:#x}", types & ~supported));
  if (command == kRssConfig) net_rss(look);
}

/// Section "Receive-side scaling (RSS)": struct virtio_net_rss_config.
void ChainLint::net_rss(const Look& look) {
  constexpr std::uint64_t kMask = kCommandBytes + 4;
  constexpr std::uint64_t kTable = kMask + 4;
  const auto mask = look.at<std::uint16_t>(kMask);
  if (!mask) return breach(ChainRule::kNetCommandLength, "RSS_CONFIG");
  const std::uint32_t length = *mask + 1U;
  const std::uint64_t most = field(net_spec::config::kRssMaxTable, 0x10000);
  if (!std::has_single_bit(length) || *mask >= most) {
    return breach(ChainRule::kNetRssTable, fmt::format("{} entries of {}", length, most));
  }
  const auto pairs = look.at<std::uint16_t>(kTable + 2U * length);
  if (!pairs) return breach(ChainRule::kNetCommandLength, "RSS_CONFIG");
  net_pairs(*pairs);
  for (std::uint32_t i = 0; i < length; ++i) {
    // An id is that of the receive queue without the transmit queues: queue 2n is n.
    const std::uint16_t id = look.at<std::uint16_t>(kTable + 2U * i).value_or(0xffff);
    if (id >= most_pairs()) return breach(ChainRule::kNetRssTable, fmt::format("receive queue {}", id));
  }
}

}  // namespace upci::inline UPCI_VARIANT::virtio::lint
