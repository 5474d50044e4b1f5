// SPDX-License-Identifier: Apache-2.0
// A device with one request queue in this process, whose answers a test decides: honest or not. It answers from within the
// doorbell, or when the test calls serve(), so that nothing of it runs beside the driver.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "device/context.h"
#include "tests/virtio/fake_transport.h"
#include "tests/virtio/packed_fixture.h"
#include "tests/virtio/ring_fixture.h"
#include "virtio/request_device.h"
#include "virtio/spec/features.h"

namespace upci::virtio_tests {

/// Memory whose IOVA is its address. Counts what is alive.
class FlatDma final : public device::DmaSpace {
 public:
  Result<std::unique_ptr<device::DmaMemory>> alloc(const device::DmaRequest& request) override {
    return std::make_unique<Memory>(request.len, live);
  }
  Result<std::unique_ptr<device::DmaMemory>> register_memory(std::span<std::byte>, const device::DmaRequest&) override {
    return fail(Errc::kUnavailable, "not here");
  }
  int live = 0;

 private:
  struct Memory final : device::DmaMemory {
    static constexpr std::align_val_t kPage{4096};
    Memory(std::size_t len, int& count) : Memory(static_cast<std::byte*>(::operator new(len, kPage)), len, count) {}
    Memory(std::byte* block, std::size_t len, int& count)
        : DmaMemory(block, reinterpret_cast<std::uintptr_t>(block), len), live(count) {
      std::memset(block, 0, len);
      ++live;
    }
    ~Memory() override {
      ::operator delete(va(), kPage);
      --live;
    }
    int& live;
  };
};

class RigDevice final : public device::Device {
 public:
  explicit RigDevice(device::BindOptions options)
      : device::Device("rig", std::move(options),
                       std::make_shared<device::DeviceState>(FlightRecorder::create().value())) {}
  int node() const override { return 0; }
  device::DeviceControl& control() override { return control_; }
  device::DmaSpace& dma() override { return dma_; }
  device::IrqSource& irqs() override { return irqs_; }

  FakeControl control_;
  FlatDma dma_;
  NoIrqs irqs_;
};

/// What the driver made available: pieces of memory, in order.
struct Served {
  struct Piece {
    std::byte* at;
    std::uint32_t len;
    bool device_writes;
  };
  std::uint32_t id = 0;
  std::size_t descriptors = 0;  // of the ring
  std::vector<Piece> pieces;
};

struct RigShape {
  bool packed = false;
  bool indirect = false;
  bool observed = false;
  bool legacy = false;

  std::uint64_t features() const {
    using virtio::spec::mask_of;
    namespace feature = virtio::spec::feature;
    return (legacy ? 0 : mask_of(feature::kVersion1)) | (packed ? mask_of(feature::kRingPacked) : 0) |
           (indirect ? mask_of(feature::kIndirectDesc) : 0);
  }
};

class Rig final : public virtio::Transport {
 public:
  static constexpr std::uint16_t kQueueSize = 16;

  explicit Rig(const RigShape& shape) : shape_(shape) {
    device::BindOptions options;
    options.observed = shape.observed;
    device_ = std::make_shared<RigDevice>(std::move(options));
  }

  // --- the transport ---
  device::Device& device() noexcept override { return *device_; }
  RigDevice& rig_device() noexcept { return *device_; }
  std::uint32_t device_id() const noexcept override { return virtio::spec::kDeviceBlock; }
  bool legacy() const noexcept override { return shape_.legacy; }
  std::uint8_t status() override {
    if (on_status) on_status();
    return the_status.load();
  }
  void set_status(std::uint8_t status) override {
    if (status != virtio::spec::status::kReset) return the_status.store(status);
    if (on_reset) on_reset();
    held.clear();
    if (!ignores_reset) the_status.store(status);
  }
  std::uint64_t device_features() override { return shape_.features(); }
  void set_driver_features(std::uint64_t) override {}
  Result<void> read_config(std::uint32_t, std::span<std::byte>, Deadline) override { return {}; }
  std::uint16_t queue_count() override { return 1; }
  std::uint16_t queue_max_size(std::uint16_t) override { return kQueueSize; }
  Result<std::unique_ptr<virtio::Notifier>> setup_queue(std::uint16_t, std::uint16_t size,
                                                        const virtio::QueueAddresses& addresses,
                                                        std::uint16_t) override {
    auto* memory = reinterpret_cast<std::byte*>(addresses.descriptors);
    taken_ = 0;
    if (shape_.packed) {
      packed_.emplace(memory, size, virtio::PackedLayout::of(size));
    } else {
      split_.emplace(memory, size, virtio::SplitLayout::of(size, shape_.legacy));
    }
    return std::make_unique<Doorbell>(*this);
  }
  Result<void> reset_queue(std::uint16_t, Deadline) override { return fail(Errc::kUnavailable, "not used"); }
  Result<void> set_config_vector(std::uint16_t) override { return {}; }
  std::uint8_t isr() override { return 0; }

  // --- the device ---
  /// What it does with each request; the default keeps it in `held`.
  std::function<void(const Served&)> answer;
  std::deque<Served> held;
  /// Called when one doorbell's requests have been answered or kept.
  std::function<void()> after_bell;
  /// Called when the driver writes 0 to the status register, before anything else happens.
  std::function<void()> on_reset;
  platform::Atomic<bool> ignores_reset{false};
  /// Called for each read of the status register.
  std::function<void()> on_status;
  platform::Atomic<std::uint8_t> the_status{0x0f};

  /// Takes what is available and answers it.
  void serve() {
    for (auto one = take(); one; one = take()) {
      if (answer) {
        answer(*one);
      } else {
        held.push_back(std::move(*one));
      }
    }
    if (after_bell) after_bell();
  }
  /// Returns a request, saying that so many bytes were written.
  void use(const Served& served, std::uint32_t length) { use_id(served.id, length, served.descriptors); }
  void use_id(std::uint32_t id, std::uint32_t length, std::size_t descriptors = 1) {
    if (packed_) {
      packed_->use(id, length, descriptors);
    } else {
      split_->use(id, length);
    }
  }

 private:
  struct Doorbell final : virtio::Notifier {
    explicit Doorbell(Rig& rig) : rig_(rig) {}
    void notify(std::uint16_t) noexcept override { rig_.serve(); }
    Rig& rig_;
  };

  template <class Descriptor>
  static Served::Piece piece(const Descriptor& descriptor) {
    static_assert(ring::kDescWrite == packed::kDescWrite);
    return {reinterpret_cast<std::byte*>(descriptor.addr), descriptor.len, (descriptor.flags & ring::kDescWrite) != 0};
  }
  template <class Descriptor>
  static void append(const Descriptor& descriptor, std::vector<Served::Piece>& pieces) {
    if ((descriptor.flags & ring::kDescIndirect) == 0) {
      pieces.push_back(piece(descriptor));
      return;
    }
    const auto* table = reinterpret_cast<const Descriptor*>(descriptor.addr);
    for (std::size_t i = 0; i < descriptor.len / sizeof(Descriptor); ++i) pieces.push_back(piece(table[i]));
  }

  std::optional<Served> take() {
    Served served;
    if (packed_) {
      const auto chain = packed_->take();
      if (!chain) return std::nullopt;
      served.id = chain->id;
      served.descriptors = chain->descriptors.size();
      for (const packed::Descriptor& descriptor : chain->descriptors) append(descriptor, served.pieces);
      return served;
    }
    if (taken_ == split_->avail_index()) return std::nullopt;
    ++taken_;
    std::uint16_t index = split_->take();
    served.id = index;
    for (;;) {
      const ring::Descriptor descriptor = split_->descriptor(index);
      ++served.descriptors;
      append(descriptor, served.pieces);
      if ((descriptor.flags & ring::kDescNext) == 0) return served;
      index = descriptor.next;
    }
  }

  const RigShape shape_;
  std::shared_ptr<RigDevice> device_;
  std::optional<DeviceSide> split_;
  std::optional<PackedDevice> packed_;
  std::uint16_t taken_ = 0;
};

/// The rig and a driver's request queue on it, polled.
struct RigBench {
  explicit RigBench(const RigShape& shape, const virtio::RequestQueueShape& queue,
                    virtio::OnTrouble on_trouble = virtio::OnTrouble::kFail)
      : context(on_trouble == virtio::OnTrouble::kReset ? make_context() : nullptr),
        rig(std::make_shared<Rig>(shape)),
        requests(std::make_unique<virtio::RequestDevice>(virtio::Device(rig, shape.features()))),
        observed(shape.observed) {
    if (context) { EXPECT_TRUE(context->add_device(rig->rig_device().shared_from_this())); }
    EXPECT_TRUE(requests->make_queues(1, queue));
    EXPECT_TRUE(requests->set_up());
    requests->start({}, on_trouble);
  }
  ~RigBench() {
    // Whatever the device does: the driver's side never breaks its own rules, and nothing of it is left.
    EXPECT_EQ(requests->stats().ring_violations, 0U);
    EXPECT_EQ(requests->stats().ring_accesses != 0, observed);
    requests.reset();
    EXPECT_EQ(rig->rig_device().dma_.live, 0);
  }
  Result<void> run(virtio::Request& request, platform::Nanoseconds limit) {
    virtio::Request* const one = &request;
    requests->run(std::span(&one, 1), Deadline::after(limit));
    return request.result;
  }

  static std::unique_ptr<device::Context> make_context() {
    return std::move(device::Context::create({.engine = {.topology = Topology::synthetic("core:2").value()}}).value());
  }

  const std::unique_ptr<device::Context> context;  // whose engine recovers the device; null where it is not to be
  std::shared_ptr<Rig> rig;
  std::unique_ptr<virtio::RequestDevice> requests;
  const bool observed;
};

}  // namespace upci::virtio_tests
