// SPDX-License-Identifier: Apache-2.0
// A busy card is polled, an idle one interrupts: the same check for each kind of card.
#pragma once

#include "tests/drivers/bench.h"

namespace upci::inline UPCI_VARIANT::driver_tests {

inline constexpr virtio_net::Moderation kAdaptive{.budget = 32, .interval = 200us, .busy = 4, .idle_polls = 2};

/// A card that sends everything back, and a receiver that counts.
class Loop {
 public:
  explicit Loop(virtio_net::Nic& nic) : nic_(nic) {
    EXPECT_TRUE(nic.set_receiver([this](std::span<virtio_net::Packet* const> packets) {
      if (packets.size() > largest_.load()) largest_.store(static_cast<std::uint32_t>(packets.size()));
      nic_.free(packets);
      arrived_.fetch_add(static_cast<std::uint32_t>(packets.size()));
    }));
  }
  /// `frames` of them, up to `window` at once; then everything has come back.
  void run(std::uint32_t frames, std::uint32_t window) {
    const Deadline deadline = Deadline::after(60s);
    const std::uint32_t last = sent_ + frames;
    while (arrived_.load() < last && !deadline.expired()) {
      const std::uint32_t room = std::min(window - (sent_ - arrived_.load()), last - sent_);
      if (room != 0 && sent_ < last) sent_ += send(nic_, sent_, room, 60);
      sleep_for(10us);
    }
    EXPECT_EQ(arrived_.load(), last);
  }
  std::uint32_t largest() const { return largest_.load(); }

 private:
  virtio_net::Nic& nic_;
  std::uint32_t sent_ = 0;
  platform::Atomic<std::uint32_t> arrived_{0};
  platform::Atomic<std::uint32_t> largest_{0};  // frames in one call
};

inline bool eventually_rests(virtio_net::Nic& nic) {
  const Deadline deadline = Deadline::after(20s);
  for (std::uint64_t before = ~0ULL; !deadline.expired();) {
    const std::uint64_t runs = nic.stats().bottom_halves;
    if (runs == before) return true;
    before = runs;
    sleep_for(20ms);
  }
  return false;
}

inline void check_adaptive(virtio_net::Nic& nic) {
  Loop loop(nic);
  loop.run(500, 64);
  EXPECT_EQ(nic.stats().rx_polls, 0U) << "not asked for";
  ASSERT_TRUE(nic.set_moderation(kAdaptive));
  loop.run(4000, 64);
  EXPECT_GT(nic.stats().rx_polls, 0U) << "a busy card is polled";
  EXPECT_TRUE(eventually_rests(nic)) << "an idle card is not";
  // One by one: each comes by an interrupt, at once.
  const virtio_net::NicStats before = nic.stats();
  for (int i = 0; i < 50; i++) {
    sleep_for(1ms);
    loop.run(1, 1);
  }
  const virtio_net::NicStats after = nic.stats();
  EXPECT_EQ(after.rx_polls, before.rx_polls);
  EXPECT_GE(after.interrupts - before.interrupts, 50U);
  ASSERT_TRUE(nic.set_moderation({}));
  loop.run(500, 64);
  EXPECT_TRUE(eventually_rests(nic));
  const std::uint64_t polls = nic.stats().rx_polls;
  loop.run(500, 64);
  EXPECT_EQ(nic.stats().rx_polls, polls);
}

}  // namespace upci::inline UPCI_VARIANT::driver_tests
