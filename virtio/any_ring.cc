// SPDX-License-Identifier: Apache-2.0
#include "virtio/any_ring.h"

#include <cstring>
#include <utility>

#include "virtio/packed_lint.h"
#include "virtio/ring_lint.h"
#include "virtio/ring_memory.h"
#include "virtio/spec/features.h"

namespace upci::inline UPCI_VARIANT::virtio {
namespace {

template <class Ring>
class RingOf final : public AnyRing {
 public:
  using Observer = typename RingTraits<Ring>::Observer;
  RingOf(OwnedRing<Ring> owned, std::unique_ptr<Observer> observer)
      : observer_(std::move(observer)),
        memory_(std::move(owned.memory)),
        addresses_(owned.addresses),
        ring_(std::move(owned.ring)) {}

  std::uint16_t size() const noexcept override { return ring_.size(); }
  const QueueAddresses& addresses() const noexcept override { return addresses_; }
  bool add(std::span<const Segment> chain, void* cookie) override { return ring_.add(chain, cookie); }
  bool publish() override { return ring_.publish(); }
  std::uint16_t next_position() const noexcept override { return ring_.next_position(); }
  bool enable_interrupts() override { return ring_.enable_interrupts(); }
  void disable_interrupts() override { ring_.disable_interrupts(); }
  std::size_t poll(std::span<Used> used) override {
    std::size_t count = 0;
    ring_.poll(used.size(),
               [&](void* cookie, std::uint32_t length) { used[count++] = {.cookie = cookie, .length = length}; });
    return count;
  }
  std::optional<Error> error() const override { return ring_.error(); }
  void restart() override {
    ring_.detach_all([](void*) {});
    std::memset(memory_.va(), 0, memory_.size());
    ring_.restart();
  }
  const RingCounters& counters() const noexcept override { return ring_.counters(); }
  const RingWatcher* watcher() const noexcept override { return observer_.get(); }

 private:
  const std::unique_ptr<Observer> observer_;  // outlives the ring
  const device::DmaBuffer memory_;            // the same
  const QueueAddresses addresses_;
  Ring ring_;
};

template <class Ring>
Result<std::unique_ptr<AnyRing>> make(const Device& device, std::uint16_t queue, std::uint16_t size,
                                      const ObserverFactory& observers) {
  using Traits = RingTraits<Ring>;
  std::unique_ptr<typename Traits::Observer> observer;
  if constexpr (Traits::kObserved) {
    if constexpr (Traits::kPacked) {
      if (observers.packed) observer = observers.packed(queue, size);
    } else {
      if (observers.split) observer = observers.split(queue, size);
    }
    if (!observer) observer = std::make_unique<typename Traits::Lint>(size, ring_options(device));
  }
  UPCI_TRY_ASSIGN(OwnedRing<Ring> owned, make_ring<Ring>(device, size, observer.get()));
  return std::make_unique<RingOf<Ring>>(std::move(owned), std::move(observer));
}

}  // namespace

Result<std::unique_ptr<AnyRing>> make_any_ring(const Device& device, std::uint16_t queue, std::uint16_t size,
                                               const ObserverFactory& observers) {
  const bool observed = device.device().options().observed;
  if (device.has(spec::feature::kRingPacked)) {
    return observed ? make<PackedRing<PackedObservedAccess>>(device, queue, size, observers)
                    : make<PackedRing<PackedPlainAccess>>(device, queue, size, observers);
  }
  return observed ? make<SplitRing<ObservedAccess>>(device, queue, size, observers)
                  : make<SplitRing<PlainAccess>>(device, queue, size, observers);
}

}  // namespace upci::inline UPCI_VARIANT::virtio
