// SPDX-License-Identifier: Apache-2.0
// The network device: configuration, frames in both directions.
#include "virtio/lint/clauses.h"

namespace upci::inline UPCI_VARIANT::virtio::lint {
namespace {

using namespace table;
using enum ChainRule;

constexpr std::string_view kNoTunnels =
    "the features for UDP tunnels are bits above 63, none of which is ever accepted";
constexpr std::string_view kSends = "tests/drivers/qemu_nic_test.cc: EveryFrameOf60To9000BytesComesBack";

constexpr Clause kConfig[] = {
    seen(1, "no field of the configuration is written", RegisterRule::kConfigNotForDriver),
    tested(1, "the card's address is the one in mac", "tests/drivers/nic_api_test.cc: MacAndMtuAreTheCards"),
    tested(1, "with MTU the receive buffers take frames that long", kSends),
    seen(1, "with MTU no longer frame is sent without segmentation", kNetTooLong),
    unchecked(1, "speed and duplex out of their ranges are taken as unknown",
              "no emulated device here shows such values"),
};
constexpr Clause kLegacyEndian[] = {
    tested(1, "by the legacy interface the configuration has the guest's byte order",
           "tests/drivers/qemu_nic_test.cc: EveryFrameOf60To9000BytesComesBack"),
};
constexpr Clause kLegacyHeader[] = {
    tested(1, "and so has the header of a frame", "tests/drivers/qemu_nic_test.cc: EveryFrameOf60To9000BytesComesBack"),
};
constexpr Clause kTransmit[] = {
    seen(1, "a sent frame's header is as long as a received one's", kNetHeaderShort),
    seen(1, "num_buffers is 0", kNetNumBuffers),
    seen(1, "without CSUM the flags are 0", kNetFlagsWithoutCsum),
    seen(4, "no kind of segmentation that was not negotiated", kNetGsoNotNegotiated),
    tested(1, "segments of a flow with ECN carry its bit: it is refused without HOST_ECN",
           "tests/drivers/tap_test.cc: ATcpSegmentOf32KibIsSegmentedOnTheWay"),
    seen(7, "no bit of a UDP tunnel without its feature, nor two that exclude each other", kNetGsoNotNegotiated,
         kNetFlagsOfDevice),
    unused(3, "how a frame in a UDP tunnel is described", kNoTunnels),
    tested(2, "the sum in a frame with NEEDS_CSUM is that of its pseudo header, and valid before it",
           "tests/drivers/tap_test.cc: LinuxFillsInTheChecksumThatIsAskedFor"),
    seen(1, "csum_start and csum_offset say where the sum goes", kNetChecksumOutside),
    seen(1, "without any segmentation feature gso_type is NONE", kNetGsoNotNegotiated),
    seen(2, "with a gso_type there are NEEDS_CSUM and a gso_size", kNetGsoWithoutCsum),
    unused(1, "with GUEST_HDRLEN hdr_len is exact", "it is never accepted"),
    unused(4, "sums and offsets of a frame in a UDP tunnel", kNoTunnels),
    seen(2, "no bit of a UDP tunnel without the feature", kNetGsoNotNegotiated, kNetFlagsOfDevice),
    seen(2, "DATA_VALID and RSC_INFO are not set, with a tunnel or without", kNetFlagsOfDevice),
    unused(2, "IPsec: its objects come first", "the IPsec feature is a bit above 63"),
};
constexpr Clause kReceive[] = {
    seen(1, "with MRG_RXBUF a buffer has room for the header at least", kNetBufferShort),
    seen(1, "the header is as long as its features make it", kNetBufferShort, kNetHeaderShort),
};
constexpr Clause kIncoming[] = {
    tested(1, "unknown flags of a received frame are ignored", kSends),
    unused(1, "outer_nh_offset only where it was negotiated", "OUT_NET_HEADER is a bit above 63"),
    tested(1, "csum_start and csum_offset are used with NEEDS_CSUM only",
           "tests/drivers/tap_test.cc: LinuxFillsInTheChecksumThatIsAskedFor"),
    tested(1, "hdr_len is not relied on", "tests/drivers/tap_test.cc: ATcpSegmentOf32KibIsSegmentedOnTheWay"),
    unchecked(1, "without NEEDS_CSUM or DATA_VALID the sum is not relied on",
              "it is the application that looks at sums"),
    unused(3, "which frames in a UDP tunnel are not accepted", kNoTunnels),
};
constexpr Clause kLegacyFraming[] = {
    seen(1, "legacy without ANY_LAYOUT: the header has a descriptor of its own", kNetFraming),
    seen(3, "and so have the parts of a command", kNetFraming),
};

constexpr Section kSections[] = {
    {"net-config", "drivernormative:Device Types / Network Device / Device configuration layout", 5, kConfig},
    {"net-legacy-config",
     "sec:Device Types / Network Device / Device configuration layout / Legacy Interface: Device configuration layout",
     1, kLegacyEndian},
    {"net-legacy-header", "sec:Device Types / Network Device / Device Operation / Legacy Interface: Device Operation",
     1, kLegacyHeader},
    {"net-transmit", "drivernormative:Device Types / Network Device / Device Operation / Packet Transmission", 35,
     kTransmit},
    {"net-receive", "drivernormative:Device Types / Network Device / Device Operation / Setting Up Receive Buffers", 2,
     kReceive},
    {"net-incoming",
     "drivernormative:Device Types / Network Device / Device Operation / Processing of Incoming Packets", 8, kIncoming},
    {"net-legacy-framing", "sec:Device Types / Network Device / Legacy Interface: Framing Requirements", 4,
     kLegacyFraming},
};

}  // namespace

std::span<const Section> net_sections() noexcept { return kSections; }

}  // namespace upci::inline UPCI_VARIANT::virtio::lint
