// SPDX-License-Identifier: Apache-2.0
// The block device and the entropy device.
#include "virtio/lint/clauses.h"

namespace upci::inline UPCI_VARIANT::virtio::lint {
namespace {

using namespace table;
using enum ChainRule;

constexpr std::string_view kNoZones = "ZONED is never accepted";

constexpr Clause kLegacyConfig[] = {
    tested(1, "by the legacy interface the configuration has the guest's byte order",
           "tests/drivers/qemu_blk_test.cc: GeometryTopologyAndLimitsAreTheDisks"),
};
constexpr Clause kInitialization[] = {
    seen(1, "writeback is not read before FEATURES_OK", RegisterRule::kWritebackReadEarly),
    unused(3, "when ZONED and DISCARD are accepted, and what ends the initialization", kNoZones),
};
constexpr Clause kOperation[] = {
    seen(1, "no request reaches beyond the capacity", kBlkBeyondCapacity),
    seen(1, "a flush has sector 0", kBlkFlushSector),
    seen(1, "reads and writes are of whole sectors", kBlkLength),
    seen(1, "discards, erasures and write zeroes carry whole ranges", kBlkRanges),
    seen(1, "GET_ID has room for 20 bytes, no more and no less", kBlkIdLength),
    seen(1, "no more ranges than max_discard_seg in a discard", kBlkTooManyRanges),
    unused(1, "no more than max_secure_erase_seg in an erasure", "SECURE_ERASE is never accepted"),
    seen(1, "no more than max_write_zeroes_seg in write zeroes", kBlkTooManyRanges),
    tested(1, "what was written is not taken to be persistent after writeback was set to 0",
           "tests/drivers/qemu_blk_fault_test.cc: EveryWriteThatHasEndedIsFollowedByTheFlushAlsoAcrossAReset"),
    seen(1, "a discard has no unmap flag", kBlkUnmap),
    unchecked(2, "nothing is assumed of what was discarded, or of the ranges of a request that failed",
              "it is the application that would assume it"),
    unused(8, "zones", kNoZones),
};
constexpr Clause kLegacyOperation[] = {
    tested(1, "by the legacy interface requests have the guest's byte order",
           "tests/drivers/qemu_blk_test.cc: WhatIsWrittenIsReadByInterruptAndPolled"),
    unused(1, "FLUSH_OUT is a flush", "it is never sent, and a driver receives no requests"),
};
constexpr Clause kLegacyFraming[] = {
    seen(1, "legacy without ANY_LAYOUT: header and status have descriptors of their own", kBlkFraming),
    unused(2, "how a SCSI command is laid out", "SCSI is never accepted"),
};
constexpr Clause kEntropy[] = {
    seen(1, "no buffer that the device reads", kRngReadable),
    tested(1, "only as many bytes are taken as the device says it wrote",
           "tests/virtio/request_test.cc: RandomBytesAreThoseThatTheDeviceWroteAndNoMore"),
};

constexpr Section kSections[] = {
    {"blk-legacy-config",
     "sec:Device Types / Block Device / Device configuration layout / Legacy Interface: Device configuration layout", 1,
     kLegacyConfig},
    {"blk-init", "drivernormative:Device Types / Block Device / Device Initialization", 4, kInitialization},
    {"blk", "drivernormative:Device Types / Block Device / Device Operation", 20, kOperation},
    {"blk-legacy", "sec:Device Types / Block Device / Device Operation / Legacy Interface: Device Operation", 2,
     kLegacyOperation},
    {"blk-legacy-framing", "sec:Device Types / Block Device / Legacy Interface: Framing Requirements", 3,
     kLegacyFraming},
    {"rng", "drivernormative:Device Types / Entropy Device / Device Operation", 2, kEntropy},
};

}  // namespace

std::span<const Section> block_sections() noexcept { return kSections; }

}  // namespace upci::inline UPCI_VARIANT::virtio::lint
