// SPDX-License-Identifier: Apache-2.0
// The packed ring, with the fuzzer as its device.
#include "virtio/packed_ring.h"

#include <algorithm>

#include "tests/fuzz/ring_session.h"
#include "virtio/packed_lint.h"

namespace {

using namespace upci;

void run(fuzz::Input input) {
  const std::uint8_t features = input.u8();
  const auto size = static_cast<std::uint16_t>(input.below(64) + 1);
  const virtio::RingOptions options{.legacy = false,
                                    .event_idx = (features & 2) != 0,
                                    .in_order = (features & 4) != 0,
                                    .indirect = (features & 8) != 0};
  const auto length = static_cast<std::uint16_t>(options.indirect ? std::min<std::uint64_t>(input.below(9), size) : 0);
  const auto layout = virtio::PackedLayout::of(size);
  fuzz::RingMemory memory(layout.bytes, virtio::IndirectTables::bytes(size, length));
  const virtio::IndirectTables tables{.memory = memory.tables(), .iova = 0x100000, .length = length};
  const virtio::PackedPlainAccess plain(memory.ring(), layout, tables);
  fuzz::PackedDevice device(memory.ring(), size, layout);
  if ((features & 16) == 0) {
    virtio::PackedRing<virtio::PackedPlainAccess> ring(plain, size, options);
    fuzz::RingSession(input, ring, device, memory, options, length).run();
    return;
  }
  virtio::PackedLint lint(size, options);
  virtio::PackedRing<virtio::PackedObservedAccess> ring({plain, lint}, size, options);
  fuzz::RingSession(input, ring, device, memory, options, length).run();
  FUZZ_CHECK(lint.violations() == 0, "the device has led the driver to break a rule of its own");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  run({data, size});
  return 0;
}
