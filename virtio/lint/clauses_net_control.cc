// SPDX-License-Identifier: Apache-2.0
// The network device's control queue.
#include "virtio/lint/clauses.h"

namespace upci::inline UPCI_VARIANT::virtio::lint {
namespace {

using namespace table;
using enum ChainRule;

constexpr Clause kInnerHash[] = {
    unused(3, "hashes of inner headers", "HASH_TUNNEL is never accepted; net.filter.1's rule would see the command"),
};
constexpr Clause kFilter[] = {
    seen(1, "PROMISC and ALLMULTI only with CTRL_RX", kNetCommandNotNegotiated),
    seen(1, "the other modes only with CTRL_RX_EXTRA", kNetCommandNotNegotiated),
};
constexpr Clause kMac[] = {
    seen(1, "commands of the MAC class only where they were negotiated", kNetCommandNotNegotiated),
    seen(1, "the table of addresses is two counts with as many addresses", kNetCommandLength),
};
constexpr Clause kLegacyMac[] = {
    seen(1, "by the legacy interface its counts have the guest's byte order", kNetCommandLength),
};
constexpr Clause kLegacyVlan[] = {
    tested(1, "by the legacy interface a VLAN has the guest's byte order",
           "tests/drivers/qemu_control_test.cc: VlansAreFiltered"),
};
constexpr Clause kAnnounce[] = {
    tested(1, "an announcement that the device asks for is acknowledged",
           "tests/drivers/qemu_link_test.cc: AnAnnouncementIsToldAndAcknowledged"),
};
constexpr Clause kSteering[] = {
    tested(1, "queues are configured before they are enabled by VQ_PAIRS_SET",
           "tests/drivers/tap_test.cc: FourQueuePairsEachHaveTheirFlowsAndBottomHalves"),
    seen(1, "not 0 pairs, and no more than there are", kNetPairs),
    seen(1, "before VQ_PAIRS_SET frames are sent by the first pair only", kNetTransmitEarly),
    seen(1, "and afterwards by the pairs that it enabled", kNetTransmitEarly),
};
constexpr Clause kLegacySteering[] = {
    seen(1, "by the legacy interface the number of pairs has the guest's byte order", kNetPairs),
};
constexpr Clause kRss[] = {
    seen(1, "RSS_CONFIG only with RSS", kNetCommandNotNegotiated),
    seen(1, "the indirection table names enabled receive queues only", kNetRssTable),
    seen(1, "its length is a power of two", kNetRssTable),
    seen(1, "and no more than the device allows", kNetRssTable),
    seen(1, "hash types are those that the device has", kNetRssHash),
};
constexpr Clause kContexts[] = {
    unused(3, "RSS contexts", "RSS_CONTEXT is bit 64; none above 63 is ever accepted"),
};
constexpr Clause kOffloads[] = {
    seen(1, "no offload is turned on that was not negotiated", kNetOffloads),
};
constexpr Clause kLegacyOffloads[] = {
    seen(1, "by the legacy interface the offloads have the guest's byte order", kNetOffloads),
};
constexpr Clause kCoalescing[] = {
    seen(2, "commands for coalescing only where they were negotiated", kNetCommandNotNegotiated),
    unused(2, "which queue a command is for, and an answer that is an error",
           "the commands for single queues are not used"),
};
constexpr Clause kStatistics[] = {
    unused(3, "the device's own statistics", "DEVICE_STATS is never accepted"),
};
constexpr Clause kFlows[] = {
    unused(5, "flow filters", "they need administration commands, which are not used"),
};
constexpr Clause kIpsec[] = {
    unused(6, "IPsec", "it needs administration commands, which are not used"),
};

constexpr Section kSections[] = {
    {"net-inner-hash",
     "drivernormative:Device Types / Network Device / Device Operation / Control Virtqueue / Inner Header Hash", 3,
     kInnerHash},
    {"net-filter",
     "drivernormative:Device Types / Network Device / Device Operation / Control Virtqueue / Packet Receive Filtering",
     2, kFilter},
    {"net-mac",
     "drivernormative:Device Types / Network Device / Device Operation / Control Virtqueue / Setting MAC Address "
     "Filtering",
     2, kMac},
    {"net-legacy-mac",
     "sec:Device Types / Network Device / Device Operation / Control Virtqueue / Setting MAC Address Filtering / "
     "Legacy "
     "Interface: Setting MAC Address Filtering",
     1, kLegacyMac},
    {"net-legacy-vlan",
     "sec:Device Types / Network Device / Device Operation / Control Virtqueue / VLAN Filtering / Legacy Interface: "
     "VLAN "
     "Filtering",
     1, kLegacyVlan},
    {"net-announce",
     "drivernormative:Device Types / Network Device / Device Operation / Control Virtqueue / Gratuitous Packet Sending",
     1, kAnnounce},
    {"net-steering",
     "drivernormative:Device Types / Network Device / Device Operation / Control Virtqueue / Automatic receive "
     "steering in "
     "multiqueue mode",
     4, kSteering},
    {"net-legacy-steering",
     "sec:Device Types / Network Device / Device Operation / Control Virtqueue / Automatic receive steering in "
     "multiqueue "
     "mode / Legacy Interface: Automatic receive steering in multiqueue mode",
     1, kLegacySteering},
    {"net-rss",
     "drivernormative:Device Types / Network Device / Device Operation / Control Virtqueue / Receive-side scaling "
     "(RSS)",
     5, kRss},
    {"net-rss-contexts",
     "drivernormative:Device Types / Network Device / Device Operation / Control Virtqueue / RSS Context", 3,
     kContexts},
    {"net-offloads",
     "drivernormative:Device Types / Network Device / Device Operation / Control Virtqueue / Offloads State "
     "Configuration / "
     "Setting Offloads State",
     1, kOffloads},
    {"net-legacy-offloads",
     "sec:Device Types / Network Device / Device Operation / Control Virtqueue / Offloads State Configuration / "
     "Setting "
     "Offloads State / Legacy Interface: Setting Offloads State",
     1, kLegacyOffloads},
    {"net-coalescing",
     "drivernormative:Device Types / Network Device / Device Operation / Control Virtqueue / Notifications Coalescing",
     4, kCoalescing},
    {"net-statistics",
     "drivernormative:Device Types / Network Device / Device Operation / Control Virtqueue / Device Statistics", 3,
     kStatistics},
    {"net-flows", "drivernormative:Device Types / Network Device / Device Operation / Flow filter", 5, kFlows},
    {"net-ipsec", "drivernormative:Device Types / Network Device / Device Operation / IPsec Operation", 6, kIpsec},
};

}  // namespace

std::span<const Section> net_control_sections() noexcept { return kSections; }

}  // namespace upci::inline UPCI_VARIANT::virtio::lint
