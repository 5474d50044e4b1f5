// SPDX-License-Identifier: Apache-2.0
// The split ring, with the fuzzer as its device.
#include "virtio/split_ring.h"

#include <algorithm>

#include "tests/fuzz/ring_session.h"
#include "virtio/ring_lint.h"

namespace {

using namespace upci;

void run(fuzz::Input input) {
  const std::uint8_t features = input.u8();
  const auto size = static_cast<std::uint16_t>(1U << (features >> 5) % 7);
  const virtio::RingOptions options{.legacy = (features & 1) != 0,
                                    .event_idx = (features & 2) != 0,
                                    .in_order = (features & 4) != 0,
                                    .indirect = (features & 8) != 0};
  const auto length = static_cast<std::uint16_t>(options.indirect ? std::min<std::uint64_t>(input.below(9), size) : 0);
  const auto layout = virtio::SplitLayout::of(size, options.legacy);
  fuzz::RingMemory memory(layout.bytes, virtio::IndirectTables::bytes(size, length));
  const virtio::IndirectTables tables{.memory = memory.tables(), .iova = 0x100000, .length = length};
  const virtio::PlainAccess plain(memory.ring(), size, layout, tables);
  fuzz::SplitDevice device(memory.ring(), size, layout);
  if ((features & 16) == 0) {
    virtio::SplitRing<virtio::PlainAccess> ring(plain, size, options);
    fuzz::RingSession(input, ring, device, memory, options, length).run();
    return;
  }
  virtio::RingLint lint(size, options);
  virtio::SplitRing<virtio::ObservedAccess> ring({plain, lint}, size, options);
  fuzz::RingSession(input, ring, device, memory, options, length).run();
  FUZZ_CHECK(lint.violations() == 0, "the device has led the driver to break a rule of its own");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  run({data, size});
  return 0;
}
