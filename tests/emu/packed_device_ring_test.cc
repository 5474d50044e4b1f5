// SPDX-License-Identifier: Apache-2.0
// The device's side of a packed ring, against descriptors that the test writes by itself, right and wrong.
#include "emulation/emu/packed_device_ring.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "tests/emu/tiny_driver.h"
#include "virtio/spec/packed_ring.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {
namespace {

namespace packed = virtio::spec::packed;
using test::each_run;

constexpr std::uint16_t kSize = 5;  // a packed ring's size may be anything
constexpr std::uint64_t kDriverEvent = 0x200, kDeviceEvent = 0x240, kTable = 0x280, kBuffers = 0x400;
constexpr std::uint16_t kNext = packed::kDescNext, kWrite = packed::kDescWrite, kIndirect = packed::kDescIndirect;

/// A ring with the memory of a driver.
class Rig {
 public:
  explicit Rig(DeviceRing::Layout layout = {.event_idx = true, .indirect = true}) {
    auto allocated = space_.alloc({.len = 4096});
    EXPECT_TRUE(allocated);
    memory_ = std::move(*allocated);
    layout.packed = true;
    layout.size = kSize;
    layout.descriptors = iova(0);
    layout.driver = iova(kDriverEvent);
    layout.device = iova(kDeviceEvent);
    ring_ = DeviceRing::make(layout);
  }

  std::uint64_t iova(std::uint64_t at) const { return memory_->iova() + at; }
  DeviceRing& ring() { return *ring_; }
  DmaAccess dma() { return {space_.table(), device::DmaKind::kTranslated}; }
  void lose_memory() { memory_.reset(); }

  template <class T>
  T load(std::uint64_t at) const {
    T value;
    std::memcpy(&value, memory_->va() + at, sizeof value);
    return value;
  }
  template <class T>
  void store(std::uint64_t at, const T& value) {
    std::memcpy(memory_->va() + at, &value, sizeof value);
  }
  packed::Descriptor descriptor(std::uint16_t index) const { return load<packed::Descriptor>(16U * index); }

  /// Makes a descriptor available on a lap; its buffer is 64 bytes of the driver's unless `addr` says otherwise.
  void offer(std::uint16_t index, std::uint16_t flags, std::uint16_t id, bool wrap = true) {
    offer_at(index, iova(kBuffers), 64, flags, id, wrap);
  }
  void offer_at(std::uint16_t index, std::uint64_t addr, std::uint32_t len, std::uint16_t flags, std::uint16_t id,
                bool wrap = true) {
    store(16U * index, packed::Descriptor{.addr = addr,
                                          .len = len,
                                          .id = id,
                                          .flags = static_cast<std::uint16_t>(flags | packed::available_marks(wrap))});
  }
  void table_entry(std::uint16_t index, std::uint16_t flags, std::uint32_t len = 64) {
    store(kTable + 16U * index, packed::Descriptor{.addr = iova(kBuffers), .len = len, .id = 0, .flags = flags});
  }
  void driver_wants(std::uint16_t flags, std::uint16_t index = 0, bool wrap = true) {
    store(kDriverEvent, packed::EventSuppression{.offset_wrap = packed::offset_wrap(index, wrap), .flags = flags});
  }

  DeviceRing::Pop pop() {
    const DmaAccess held = dma();
    return ring_->pop(held, chain, why);
  }
  /// Uses what was popped last.
  void use(std::uint32_t len) {
    const DmaAccess held = dma();
    EXPECT_TRUE(ring_->push(held, chain.id, len));
    EXPECT_TRUE(ring_->publish(held));
  }
  bool wants_interrupt() {
    const DmaAccess held = dma();
    return ring_->wants_interrupt(held);
  }

  Chain chain;
  std::string why;

 private:
  EmulatedDmaSpace space_;
  std::unique_ptr<device::DmaMemory> memory_;
  std::unique_ptr<DeviceRing> ring_;
};

TEST(PackedDeviceRing, AChainIsTakenWithTheIdOfItsLastDescriptor) {
  each_run([] {
    Rig rig;
    EXPECT_EQ(rig.pop(), DeviceRing::Pop::kEmpty);
    rig.offer(0, kNext, 9);
    rig.offer(1, kNext, 9);
    rig.offer(2, kWrite, 3);
    ASSERT_EQ(rig.pop(), DeviceRing::Pop::kChain) << rig.why;
    EXPECT_EQ(rig.chain.id.id, 3);
    EXPECT_EQ(rig.chain.id.descriptors, 3);
    EXPECT_EQ(rig.chain.readable_bytes, 128U);
    EXPECT_EQ(rig.chain.writable_bytes, 64U);
    EXPECT_EQ(rig.pop(), DeviceRing::Pop::kEmpty);
    rig.use(64);
    const packed::Descriptor used = rig.descriptor(0);
    EXPECT_TRUE(packed::is_used(used.flags, true));
    EXPECT_NE(used.flags & kWrite, 0);
    EXPECT_EQ(used.id, 3);
    EXPECT_EQ(used.len, 64U);
  });
}

TEST(PackedDeviceRing, TheWrapCountersTurnWhereTheRingEnds) {
  each_run([] {
    Rig rig;
    bool wrap = true;
    std::uint16_t at = 0;
    for (unsigned lap = 0; lap < 7 * kSize; ++lap) {
      rig.offer(at, 0, 0, !wrap);
      EXPECT_EQ(rig.pop(), DeviceRing::Pop::kEmpty) << "of the lap before";
      rig.offer(at, 0, static_cast<std::uint16_t>(lap), wrap);
      ASSERT_EQ(rig.pop(), DeviceRing::Pop::kChain) << lap;
      rig.use(0);
      EXPECT_TRUE(packed::is_used(rig.descriptor(at).flags, wrap));
      EXPECT_EQ(rig.descriptor(at).id, lap);
      if (++at == kSize) {
        at = 0;
        wrap = !wrap;
      }
    }
  });
}

TEST(PackedDeviceRing, WhatIsPublishedTogetherIsSeenTogether) {
  each_run([] {
    Rig rig;
    const DmaAccess held = rig.dma();
    for (std::uint16_t i = 0; i < 3; ++i) rig.offer(i, kWrite, i);
    for (std::uint16_t i = 0; i < 3; ++i) {
      ASSERT_EQ(rig.ring().pop(held, rig.chain, rig.why), DeviceRing::Pop::kChain);
      ASSERT_TRUE(rig.ring().push(held, rig.chain.id, 10));
      EXPECT_FALSE(packed::is_used(rig.descriptor(0).flags, true)) << "the driver stops here";
    }
    ASSERT_TRUE(rig.ring().publish(held));
    for (std::uint16_t i = 0; i < 3; ++i) EXPECT_TRUE(packed::is_used(rig.descriptor(i).flags, true));
  });
}

TEST(PackedDeviceRing, ABatchIsOneUsedDescriptorWhereItsFirstChainWas) {
  each_run([] {
    Rig rig({.in_order = true});
    const DmaAccess held = rig.dma();
    rig.offer(0, kNext, 0);
    rig.offer(1, 0, 0);
    rig.offer(2, 0, 1);
    rig.offer(3, 0, 2);
    const auto take = [&] {
      ASSERT_EQ(rig.ring().pop(held, rig.chain, rig.why), DeviceRing::Pop::kChain);
      ASSERT_TRUE(rig.ring().push_in_batch(held, rig.chain.id));
    };
    for (int i = 0; i < 2; ++i) take();
    ASSERT_TRUE(rig.ring().publish(held));
    EXPECT_TRUE(packed::is_used(rig.descriptor(0).flags, true));
    EXPECT_EQ(rig.descriptor(0).id, 1) << "the last of the batch";
    EXPECT_FALSE(packed::is_used(rig.descriptor(2).flags, true));
    take();
    ASSERT_TRUE(rig.ring().publish(held));
    EXPECT_TRUE(packed::is_used(rig.descriptor(3).flags, true)) << "behind the whole batch";
    EXPECT_EQ(rig.descriptor(3).id, 2);
  });
}

TEST(PackedDeviceRing, AnIndirectTableIsReadInItsOrder) {
  each_run([] {
    Rig rig;
    rig.table_entry(0, kNext, 10);  // NEXT says nothing here
    rig.table_entry(1, 0, 20);
    rig.table_entry(2, kWrite, 30);
    rig.offer_at(0, rig.iova(kTable), 48, kIndirect, 4);
    ASSERT_EQ(rig.pop(), DeviceRing::Pop::kChain) << rig.why;
    EXPECT_EQ(rig.chain.id.descriptors, 1);
    EXPECT_EQ(rig.chain.readable_bytes, 30U);
    EXPECT_EQ(rig.chain.writable_bytes, 30U);
  });
}

TEST(PackedDeviceRing, WhatADriverMayNotDoIsRefused) {
  const struct {
    const char* why;
    std::function<void(Rig&)> wrong;
    bool indirect = true;
  } cases[] = {
      {"not available", [](Rig& rig) { rig.offer(0, kNext, 0); }},
      {"longer than its ring",
       [](Rig& rig) {
         for (std::uint16_t i = 0; i < kSize; ++i) rig.offer(i, kNext, 0);
       }},
      {"follows a device-writable one",
       [](Rig& rig) {
         rig.offer(0, kNext | kWrite, 0);
         rig.offer(1, 0, 0);
       }},
      {"the buffer of descriptor 0", [](Rig& rig) { rig.offer_at(0, rig.iova(4090), 64, 0, 0); }},
      {"the buffer of descriptor 0", [](Rig& rig) { rig.offer_at(0, ~std::uint64_t{0} - 8, 64, 0, 0); }},
      {"an indirect descriptor where none may be",
       [](Rig& rig) { rig.offer_at(0, rig.iova(kTable), 16, kIndirect, 0); }, false},
      {"an indirect descriptor where none may be",
       [](Rig& rig) { rig.offer_at(0, rig.iova(kTable), 16, kIndirect | kNext, 0); }},
      {"inside an indirect table",
       [](Rig& rig) {
         rig.table_entry(0, kIndirect);
         rig.offer_at(0, rig.iova(kTable), 16, kIndirect, 0);
       }},
      {"an indirect table of 0 bytes", [](Rig& rig) { rig.offer_at(0, rig.iova(kTable), 0, kIndirect, 0); }},
      {"an indirect table of 24 bytes", [](Rig& rig) { rig.offer_at(0, rig.iova(kTable), 24, kIndirect, 0); }},
      {"an indirect table of 96 bytes", [](Rig& rig) { rig.offer_at(0, rig.iova(kTable), 96, kIndirect, 0); }},
      {"an indirect table: ", [](Rig& rig) { rig.offer_at(0, rig.iova(4090), 16, kIndirect, 0); }},
  };
  for (const auto& one : cases) {
    each_run([&] {
      Rig rig({.event_idx = true, .indirect = one.indirect});
      one.wrong(rig);
      EXPECT_EQ(rig.pop(), DeviceRing::Pop::kBroken) << one.why;
      EXPECT_NE(rig.why.find(one.why), std::string::npos) << rig.why;
    });
  }
}

TEST(PackedDeviceRing, MemoryThatIsTakenAwayIsNotTouched) {
  each_run([] {
    Rig rig;
    rig.offer(0, 0, 0);
    ASSERT_EQ(rig.pop(), DeviceRing::Pop::kChain);
    rig.lose_memory();
    EXPECT_EQ(rig.pop(), DeviceRing::Pop::kBroken);
    EXPECT_NE(rig.why.find("the descriptor ring"), std::string::npos) << rig.why;
    const DmaAccess held = rig.dma();
    EXPECT_FALSE(rig.ring().push(held, rig.chain.id, 0));
    EXPECT_FALSE(rig.ring().push_in_batch(held, rig.chain.id));
    EXPECT_FALSE(rig.ring().publish(held));
    EXPECT_FALSE(rig.ring().wants_interrupt(held));
    EXPECT_FALSE(rig.ring().set_notifications(held, true));
    EXPECT_FALSE(rig.ring().driver_position(held).has_value());
  });
}

TEST(PackedDeviceRing, AnInterruptIsWantedAtTheDescriptorThatTheDriverNamed) {
  each_run([] {
    Rig rig;
    const auto pass = [&](std::uint16_t index, bool wrap) {
      rig.offer(index, 0, 0, wrap);
      ASSERT_EQ(rig.pop(), DeviceRing::Pop::kChain);
      rig.use(0);
    };
    EXPECT_FALSE(rig.wants_interrupt()) << "nothing was used";
    rig.driver_wants(packed::kEventDescriptor, 1);
    pass(0, true);
    EXPECT_FALSE(rig.wants_interrupt());
    pass(1, true);
    EXPECT_TRUE(rig.wants_interrupt());
    pass(2, true);
    EXPECT_FALSE(rig.wants_interrupt()) << "it lies behind";
    rig.driver_wants(packed::kEventDescriptor, 0, false);
    pass(3, true);
    pass(4, true);
    EXPECT_FALSE(rig.wants_interrupt()) << "on the next lap";
    pass(0, false);
    EXPECT_TRUE(rig.wants_interrupt());
    rig.driver_wants(packed::kEventDisable);
    pass(1, false);
    EXPECT_FALSE(rig.wants_interrupt());
    rig.driver_wants(packed::kEventEnable);
    pass(2, false);
    EXPECT_TRUE(rig.wants_interrupt());
  });
}

TEST(PackedDeviceRing, ItSaysWhereItWaitsForTheDriver) {
  each_run([] {
    for (const bool event_idx : {true, false}) {
      Rig rig({.event_idx = event_idx});
      rig.offer(0, 0, 0);
      ASSERT_EQ(rig.pop(), DeviceRing::Pop::kChain);
      const DmaAccess held = rig.dma();
      EXPECT_TRUE(rig.ring().set_notifications(held, true));
      const auto asked = rig.load<packed::EventSuppression>(kDeviceEvent);
      EXPECT_EQ(asked.flags, event_idx ? packed::kEventDescriptor : packed::kEventEnable);
      EXPECT_EQ(asked.offset_wrap, event_idx ? packed::offset_wrap(1, true) : 0);
      EXPECT_TRUE(rig.ring().set_notifications(held, false));
      EXPECT_EQ(rig.load<packed::EventSuppression>(kDeviceEvent).flags, packed::kEventDisable);
    }
  });
}

TEST(PackedDeviceRing, TheDriversPositionIsBehindWhatIsAvailable) {
  each_run([] {
    Rig rig;
    for (std::uint16_t i = 0; i < kSize; ++i) {
      EXPECT_EQ(rig.ring().driver_position(rig.dma()), packed::offset_wrap(i, true));
      rig.offer(i, 0, i);
    }
    EXPECT_EQ(rig.ring().driver_position(rig.dma()), packed::offset_wrap(0, false));
    ASSERT_EQ(rig.pop(), DeviceRing::Pop::kChain);
    EXPECT_EQ(rig.ring().driver_position(rig.dma()), packed::offset_wrap(0, false));
    const std::uint16_t before = rig.ring().position();
    ASSERT_EQ(rig.pop(), DeviceRing::Pop::kChain);
    EXPECT_EQ(rig.chain.id.id, 1);
    rig.ring().rewind(before);
    ASSERT_EQ(rig.pop(), DeviceRing::Pop::kChain);
    EXPECT_EQ(rig.chain.id.id, 1) << "once more";
  });
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::emulation::emu
