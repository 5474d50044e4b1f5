// SPDX-License-Identifier: Apache-2.0
// Split and packed rings.
#include "virtio/lint/clauses.h"

namespace upci::inline UPCI_VARIANT::virtio::lint {
namespace {

using namespace table;
using Split = RingClause;
using Packed = PackedClause;

constexpr std::string_view kOrder =
    "the order of the machine's stores is not visible to an observer; the rings' comments say which barrier is meant, "
    "and the suites under ThreadSanitizer drive them";

constexpr Clause kParts[] = {
    seen(1, "each part of a queue has its alignment", RegisterRule::kQueueMisaligned),
};
constexpr Clause kLegacyLayout[] = {
    tested(2, "by the legacy interface the queue has the device's size, and the bytes that the formula gives",
           "tests/virtio/queue_test.cc: ALegacyQueueHasTheDevicesSize, "
           "tests/virtio/split_ring_test.cc: TheLegacyLayoutPutsTheUsedRingOnAPageOfItsOwn"),
    tested(1, "and the layout of the legacy structure",
           "tests/virtio/split_ring_test.cc: TheLegacyLayoutPutsTheUsedRingOnAPageOfItsOwn"),
};
constexpr Clause kLegacyEndian[] = {
    tested(1, "by the legacy interface fields and rings have the guest's byte order",
           "tests/drivers/qemu_nic_test.cc: EveryFrameOf60To9000BytesComesBack"),
};
constexpr Clause kFraming[] = {
    seen(1, "what the device writes comes after what it reads", Split::kWritableFirst),
};
constexpr Clause kDescriptors[] = {
    seen(1, "no chain of more than 2^32 bytes, and so no loop", Split::kChainTooLong, Split::kDescriptorLoop),
    seen(1, "with IN_ORDER each descriptor of a chain is followed by its neighbour in the table",
         Split::kOutOfSequence),
};
constexpr Clause kIndirect[] = {
    seen(1, "no indirect descriptor unless that was negotiated", Split::kIndirectUnasked),
    seen(1, "no table within a table", Split::kTableMalformed),
    seen(1, "no chain longer than the queue", Split::kChainTooLong, Split::kDescriptorLoop),
    seen(1, "INDIRECT and NEXT are not set together", Split::kTableMalformed),
    seen(1, "with IN_ORDER a table's entries follow each other", Split::kOutOfSequence),
};
constexpr Clause kAvailable[] = {
    seen(1, "the available index is not decremented", Split::kIndexJump),
};
constexpr Clause kUsedNotices[] = {
    seen(1, "without EVENT_IDX the flags are 0 or 1", Split::kFlagsReserved),
    seen(1, "with EVENT_IDX the flags are 0", Split::kFlagsWithEventIdx),
    tested(1, "a notification without a reason does no harm",
           "tests/drivers/nic_api_test.cc: OneInterruptServesTheQueuesAndTheConfiguration"),
};
constexpr Clause kUsed[] = {
    tested(1, "nothing is assumed of a buffer behind the length that the device says it wrote",
           "tests/virtio/request_test.cc: RandomBytesAreThoseThatTheDeviceWroteAndNoMore"),
};
constexpr Clause kAvailableNotices[] = {
    tested(1, "the used ring's flags begin as 0: its memory is zeroed",
           "tests/emu/dma_test.cc: MemoryIsZeroedAlignedAndReachedByItsIovaOnly"),
    tested(2, "without EVENT_IDX the flags decide about a notification, and avail_event does not",
           "tests/virtio/split_ring_test.cc: PublishAsksForANotificationUnlessTheDeviceDeclines"),
    tested(2, "with EVENT_IDX avail_event decides, and the flags do not",
           "tests/virtio/ring_features_test.cc: WithEventIdxTheDeviceIsToldAtTheIndexThatItNamed"),
};
constexpr Clause kUpdatingIndex[] = {unchecked(1, "a barrier before the available index is written", kOrder)};
constexpr Clause kNotifying[] = {unchecked(1, "a barrier before flags or avail_event are read", kOrder)};

constexpr Clause kPackedParts[] = {
    seen(1, "each part of a queue has its alignment", RegisterRule::kQueueMisaligned),
};
constexpr Clause kPackedTable[] = {
    seen(1, "a descriptor is not changed before the device has marked it as used", Packed::kDescriptorInFlight,
         Packed::kOutOfTurn),
    seen(1, "a descriptor is not changed once it was marked as available", Packed::kDescriptorInFlight,
         Packed::kMarksWrong),
    unchecked(1, "a notification's next_off and next_wrap are those of the next descriptor",
              "only with NOTIFICATION_DATA; the observer of the registers does not know the ring"),
};
constexpr Clause kPackedLists[] = {
    seen(1, "no list longer than the device allows", Packed::kChainTooLong, Packed::kDescriptorInFlight),
    seen(1, "no list longer than the queue, and so no loop", Packed::kChainTooLong, Packed::kDescriptorInFlight),
    seen(1, "what the device writes comes after what it reads", Packed::kWritableFirst),
    tested(1, "no list counts on descriptors that the device has yet to use",
           "tests/virtio/packed_ring_test.cc: AFullRingTakesNoMoreAndAChainIsRefusedWhole"),
    seen(1, "there is room for the whole list before its first descriptor becomes available", Packed::kChainUnended),
    seen(1, "the first descriptor of a list becomes available last", Packed::kChainUnended),
};
constexpr Clause kPackedIndirect[] = {
    seen(1, "no indirect descriptor unless that was negotiated", Packed::kIndirectUnasked),
    seen(1, "no flag but WRITE within a table", Packed::kTableMalformed),
    seen(1, "no table longer than the device allows", Packed::kChainTooLong),
    seen(1, "no indirect descriptor in a list of several", Packed::kIndirectInChain),
};
constexpr Clause kPackedFlags[] = {unchecked(1, "a barrier before the flags are written", kOrder)};
constexpr Clause kPackedNotifying[] = {unchecked(1, "a barrier before the device's event suppression is read", kOrder)};

constexpr Section kSections[] = {
    {"split", "drivernormative:Basic Facilities of a Virtio Device / Virtqueues", 1, kParts},
    {"legacy-layout",
     "sec:Basic Facilities of a Virtio Device / Virtqueues / Legacy Interfaces: A Note on Virtqueue Layout", 3,
     kLegacyLayout},
    {"legacy-endian",
     "sec:Basic Facilities of a Virtio Device / Virtqueues / Legacy Interfaces: A Note on Virtqueue Endianness", 1,
     kLegacyEndian},
    {"framing", "drivernormative:Basic Facilities of a Virtio Device / Message Framing", 1, kFraming},
    {"descriptors", "drivernormative:Basic Facilities of a Virtio Device / Virtqueues / The Virtqueue Descriptor Table",
     2, kDescriptors},
    {"indirect",
     "drivernormative:Basic Facilities of a Virtio Device / Virtqueues / The Virtqueue Descriptor Table / Indirect "
     "Descriptors",
     5, kIndirect},
    {"available", "drivernormative:Basic Facilities of a Virtio Device / Virtqueues / The Virtqueue Available Ring", 1,
     kAvailable},
    {"used-notices",
     "drivernormative:Basic Facilities of a Virtio Device / Virtqueues / Used Buffer Notification Suppression", 3,
     kUsedNotices},
    {"used", "drivernormative:Basic Facilities of a Virtio Device / Virtqueues / The Virtqueue Used Ring", 1, kUsed},
    {"available-notices",
     "drivernormative:Basic Facilities of a Virtio Device / Virtqueues / Available Buffer Notification Suppression", 5,
     kAvailableNotices},
    {"updating-idx",
     "drivernormative:Basic Facilities of a Virtio Device / Virtqueues / Supplying Buffers to The Device / Updating "
     "idx",
     1, kUpdatingIndex},
    {"notifying",
     "drivernormative:Basic Facilities of a Virtio Device / Virtqueues / Supplying Buffers to The Device / Notifying "
     "The "
     "Device",
     1, kNotifying},
    {"packed", "drivernormative:Basic Facilities of a Virtio Device / Packed Virtqueues", 1, kPackedParts},
    {"packed-table",
     "drivernormative:Basic Facilities of a Virtio Device / PAcked Virtqueues / The Virtqueue Descriptor Table", 3,
     kPackedTable},
    {"packed-lists", "drivernormative:Basic Facilities of a Virtio Device / Packed Virtqueues / Scatter-Gather Support",
     6, kPackedLists},
    {"packed-indirect",
     "drivernormative:Basic Facilities of a Virtio Device / Packed Virtqueues / The Virtqueue Descriptor Table / "
     "Indirect "
     "Descriptors",
     4, kPackedIndirect},
    {"packed-flags",
     "drivernormative:Basic Facilities of a Virtio Device / Packed Virtqueues / Supplying Buffers to The Device / "
     "Updating "
     "flags",
     1, kPackedFlags},
    {"packed-notifying",
     "drivernormative:Basic Facilities of a Virtio Device / Packed Virtqueues / Supplying Buffers to The Device / "
     "Sending "
     "Available Buffer Notifications",
     1, kPackedNotifying},
};

}  // namespace

std::span<const Section> ring_sections() noexcept { return kSections; }

}  // namespace upci::inline UPCI_VARIANT::virtio::lint
