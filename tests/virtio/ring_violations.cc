// SPDX-License-Identifier: Apache-2.0
#include <functional>

#include "tests/virtio/lint_cases.h"

namespace upci::virtio_tests {
namespace {

using virtio::PackedClause;
using virtio::PackedLint;
using virtio::RingClause;
using virtio::RingLint;
using virtio::RingOptions;
namespace ring = virtio::spec::ring;
namespace packed = virtio::spec::packed;

constexpr std::uint16_t kSize = 4;
constexpr std::uint32_t kEntry = sizeof(ring::Descriptor);

ring::Descriptor entry(std::uint16_t flags = 0, std::uint16_t next = 0, std::uint32_t len = 10) {
  return {.addr = 0x1000, .len = len, .flags = flags, .next = next};
}
void send(RingLint& lint, std::uint16_t index, std::uint16_t head) {
  lint.on_write_avail_entry(index, head);
  lint.on_publish_avail_index(static_cast<std::uint16_t>(index + 1));
}

Violation split(RingClause rule, RingOptions options, std::function<void(RingLint&)> act) {
  return {rule, [=] {
            RingLint lint(kSize, options);
            act(lint);
            return Counted{lint.violations(rule), lint.violations()};
          }};
}

constexpr std::uint16_t kAvail = packed::kDescAvail;  // of the first lap

void body(PackedLint& lint, std::uint16_t index, std::uint16_t id, std::uint32_t len = 10) {
  lint.on_write_body(index, 0x1000, len, id);
}
void send(PackedLint& lint, std::uint16_t index, std::uint16_t id, std::uint16_t flags = kAvail,
          std::uint32_t len = 10) {
  body(lint, index, id, len);
  lint.on_write_flags(index, flags, true);
}
packed::Descriptor table_entry(std::uint16_t flags = 0) { return {.addr = 1, .len = 1, .id = 0, .flags = flags}; }

Violation in_packed(PackedClause rule, RingOptions options, std::function<void(PackedLint&)> act) {
  return {rule, [=] {
            PackedLint lint(kSize, options);
            act(lint);
            return Counted{lint.violations(rule), lint.violations()};
          }};
}

}  // namespace

std::vector<Violation> split_ring_violations() {
  RingOptions plain;
  RingOptions indirect;
  indirect.indirect = true;
  RingOptions event_idx;
  event_idx.event_idx = true;
  RingOptions in_order;
  in_order.in_order = true;
  return {
      split(RingClause::kDescriptorInFlight, plain,
            [](RingLint& lint) {
              lint.on_write_descriptor(0, entry());
              send(lint, 0, 0);
              lint.on_write_descriptor(0, entry());
            }),
      split(RingClause::kDescriptorLoop, plain,
            [](RingLint& lint) {
              lint.on_write_descriptor(0, entry(ring::kDescNext, 0));
              send(lint, 0, 0);
            }),
      split(RingClause::kWritableFirst, plain,
            [](RingLint& lint) {
              lint.on_write_descriptor(0, entry(ring::kDescNext | ring::kDescWrite, 1));
              lint.on_write_descriptor(1, entry());
              send(lint, 0, 0);
            }),
      split(RingClause::kHeadOutOfRange, plain, [](RingLint& lint) { lint.on_write_avail_entry(0, kSize); }),
      split(RingClause::kHeadInFlight, plain,
            [](RingLint& lint) {
              lint.on_write_descriptor(0, entry());
              send(lint, 0, 0);
              send(lint, 1, 0);
            }),
      split(RingClause::kIndexJump, plain,
            [](RingLint& lint) {
              lint.on_write_descriptor(0, entry());
              send(lint, 0, 0);
              lint.on_publish_avail_index(0);
            }),
      split(RingClause::kIndexUnwritten, plain, [](RingLint& lint) { lint.on_publish_avail_index(1); }),
      split(RingClause::kEntryInFlight, plain,
            [](RingLint& lint) {
              for (std::uint16_t i = 0; i < kSize; ++i) {
                lint.on_write_descriptor(i, entry());
                send(lint, i, i);
              }
              lint.on_write_avail_entry(kSize, 0);
            }),
      split(RingClause::kTableInFlight, indirect,
            [](RingLint& lint) {
              lint.on_write_table_entry(0, 0, entry());
              lint.on_write_descriptor(0, entry(ring::kDescIndirect, 0, kEntry));
              send(lint, 0, 0);
              lint.on_write_table_entry(0, 0, entry());
            }),
      split(RingClause::kTableMalformed, indirect,
            [](RingLint& lint) {
              lint.on_write_table_entry(0, 0, entry(ring::kDescIndirect));
              lint.on_write_descriptor(0, entry(ring::kDescIndirect, 0, kEntry));
              send(lint, 0, 0);
            }),
      split(RingClause::kFlagsWithEventIdx, event_idx, [](RingLint& lint) { lint.on_write_avail_flags(1); }),
      split(RingClause::kFlagsReserved, plain, [](RingLint& lint) { lint.on_write_avail_flags(2); }),
      split(RingClause::kIndirectUnasked, plain,
            [](RingLint& lint) {
              lint.on_write_table_entry(0, 0, entry());
              lint.on_write_descriptor(0, entry(ring::kDescIndirect, 0, kEntry));
              send(lint, 0, 0);
            }),
      split(RingClause::kChainTooLong, plain,
            [](RingLint& lint) {
              lint.on_write_descriptor(0, entry(ring::kDescNext, 1, 0xffff'ffff));
              lint.on_write_descriptor(1, entry(0, 0, 2));
              send(lint, 0, 0);
            }),
      split(RingClause::kOutOfSequence, in_order,
            [](RingLint& lint) {
              lint.on_write_descriptor(0, entry(ring::kDescNext, 2));
              lint.on_write_descriptor(2, entry());
              send(lint, 0, 0);
            }),
  };
}

std::vector<Violation> packed_ring_violations() {
  RingOptions plain;
  RingOptions indirect;
  indirect.indirect = true;
  const auto one_table = [](PackedLint& lint, std::uint16_t flags) {
    lint.on_write_table_entry(0, 0, table_entry(flags));
    send(lint, 0, 0, kAvail | packed::kDescIndirect, kEntry);
  };
  return {
      in_packed(PackedClause::kOutOfRange, plain, [](PackedLint& lint) { body(lint, kSize, 0); }),
      in_packed(PackedClause::kDescriptorInFlight, plain,
                [](PackedLint& lint) {
                  for (std::uint16_t i = 0; i < kSize; ++i) send(lint, i, i);
                  body(lint, 0, 0);
                }),
      in_packed(PackedClause::kOutOfTurn, plain, [](PackedLint& lint) { send(lint, 1, 0); }),
      in_packed(PackedClause::kMarksWrong, plain, [](PackedLint& lint) { send(lint, 0, 0, packed::kDescUsed); }),
      in_packed(PackedClause::kIdInFlight, plain,
                [](PackedLint& lint) {
                  send(lint, 0, 2);
                  send(lint, 1, 2);
                }),
      in_packed(PackedClause::kIdChanges, plain,
                [](PackedLint& lint) {
                  body(lint, 0, 0);
                  body(lint, 1, 1);
                  lint.on_write_flags(1, kAvail, false);
                  lint.on_write_flags(0, kAvail | packed::kDescNext, true);
                }),
      in_packed(PackedClause::kWritableFirst, plain,
                [](PackedLint& lint) {
                  body(lint, 0, 0);
                  body(lint, 1, 0);
                  lint.on_write_flags(1, kAvail, false);
                  lint.on_write_flags(0, kAvail | packed::kDescNext | packed::kDescWrite, true);
                }),
      in_packed(PackedClause::kTableInFlight, indirect,
                [one_table](PackedLint& lint) {
                  one_table(lint, 0);
                  lint.on_write_table_entry(0, 0, table_entry());
                }),
      in_packed(PackedClause::kTableMalformed, indirect,
                [one_table](PackedLint& lint) { one_table(lint, packed::kDescNext); }),
      in_packed(PackedClause::kChainUnended, plain,
                [](PackedLint& lint) { send(lint, 0, 0, kAvail | packed::kDescNext); }),
      in_packed(
          PackedClause::kEventFlags, plain,
          [](PackedLint& lint) { lint.on_write_driver_event({.offset_wrap = 0, .flags = packed::kEventDescriptor}); }),
      in_packed(PackedClause::kIndirectUnasked, plain, [one_table](PackedLint& lint) { one_table(lint, 0); }),
      in_packed(PackedClause::kIndirectInChain, indirect,
                [](PackedLint& lint) {
                  lint.on_write_table_entry(0, 0, table_entry());
                  body(lint, 0, 0);
                  body(lint, 1, 0, kEntry);
                  lint.on_write_flags(1, kAvail | packed::kDescIndirect, false);
                  lint.on_write_flags(0, kAvail | packed::kDescNext, true);
                }),
      in_packed(PackedClause::kChainTooLong, indirect,
                [](PackedLint& lint) {
                  for (std::uint16_t i = 0; i <= kSize; ++i) lint.on_write_table_entry(0, i, table_entry());
                  send(lint, 0, 0, kAvail | packed::kDescIndirect, kEntry * (kSize + 1));
                }),
  };
}

}  // namespace upci::virtio_tests
