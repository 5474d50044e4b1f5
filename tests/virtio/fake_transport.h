// SPDX-License-Identifier: Apache-2.0
// A virtio device without a bus: a status register that can be told to misbehave, and a log of what the driver wrote to it.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "device/device.h"
#include "virtio/driver.h"
#include "virtio/spec/features.h"
#include "virtio/spec/ids.h"
#include "virtio/spec/status.h"
#include "virtio/transport.h"

namespace upci::virtio_tests {

namespace status = virtio::spec::status;

class FakeControl final : public device::DeviceControl {
 public:
  bool present() override { return present_; }
  Result<void> set_bus_master(bool on) override {
    if (log_) log_(on ? "bus_master on" : "bus_master off");
    return {};
  }
  Result<void> reset(Deadline) override { return {}; }
  bool proven_quiet() override { return true; }
  void abandon() noexcept override {}

  bool present_ = true;
  std::function<void(std::string)> log_;
};

class FakeDma final : public device::DmaSpace {
 public:
  Result<std::unique_ptr<device::DmaMemory>> alloc(const device::DmaRequest& request) override {
    requests.push_back(request);
    return std::make_unique<Memory>(request.len);
  }
  Result<std::unique_ptr<device::DmaMemory>> register_memory(std::span<std::byte>, const device::DmaRequest&) override {
    return fail(Errc::kUnavailable, "not here");
  }
  std::vector<device::DmaRequest> requests;

 private:
  struct Memory final : device::DmaMemory {
    explicit Memory(std::size_t len) : Memory(std::make_unique<std::byte[]>(len), len) {}
    Memory(std::unique_ptr<std::byte[]> block, std::size_t len)
        : DmaMemory(block.get(), 0x10'0000, len), owned(std::move(block)) {}
    std::unique_ptr<std::byte[]> owned;
  };
};

class NoIrqs final : public device::IrqSource {
 public:
  unsigned count() const override { return 0; }
  Result<void> enable(std::span<const int>) override { return fail(Errc::kInvalid, "none"); }
  Result<void> disable() override { return {}; }
  Result<void> set_mask(unsigned, bool) override { return fail(Errc::kInvalid, "none"); }
  Result<void> set_affinity(unsigned, int) override { return fail(Errc::kUnavailable, "none"); }
};

class FakeDevice final : public device::Device {
 public:
  static std::shared_ptr<FakeDevice> make(device::BindOptions options = {}) {
    return std::make_shared<FakeDevice>(std::move(options),
                                        std::make_shared<device::DeviceState>(FlightRecorder::create().value()));
  }
  FakeDevice(device::BindOptions options, std::shared_ptr<device::DeviceState> state)
      : device::Device("fake", std::move(options), std::move(state)) {}
  int node() const override { return 0; }
  device::DeviceControl& control() override { return control_; }
  device::DmaSpace& dma() override { return dma_; }
  device::IrqSource& irqs() override { return irqs_; }

  FakeControl control_;
  FakeDma dma_;
  NoIrqs irqs_;
};

class FakeTransport final : public virtio::Transport {
 public:
  explicit FakeTransport(std::shared_ptr<FakeDevice> device, bool legacy = false)
      : device_(std::move(device)), legacy_(legacy) {
    device_->control_.log_ = [this](std::string entry) { log.push_back(std::move(entry)); };
  }

  device::Device& device() noexcept override { return *device_; }
  FakeDevice& fake() noexcept { return *device_; }
  std::uint32_t device_id() const noexcept override { return virtio::spec::kDeviceNet; }
  bool legacy() const noexcept override { return legacy_; }

  std::uint8_t status() override {
    if (!device_->control_.present_ || decode_off) return 0xff;
    if (resetting_ && platform::Clock::now() >= reset_done_) {
      resetting_ = false;
      status_ = 0;
    }
    return status_;
  }
  void set_status(std::uint8_t value) override {
    log.push_back("status " + std::to_string(value));
    if (leaves_at == value) device_->control_.present_ = false;
    if (!device_->control_.present_ || decode_off || deaf) return;
    if (value == 0) {
      if (reset_never) return;
      resetting_ = true;
      reset_done_ = platform::Clock::now() + reset_takes;
      return;
    }
    EXPECT_FALSE(resetting_) << "a write to device_status while the reset still runs";
    if (features_rejected) value = static_cast<std::uint8_t>(value & ~status::kFeaturesOk);
    if (needs_reset_at == value) value |= status::kNeedsReset;
    status_ = value;
  }
  std::uint64_t device_features() override { return offered; }
  void set_driver_features(std::uint64_t features) override {
    log.push_back("features");
    accepted = features;
  }
  Result<void> read_config(std::uint32_t, std::span<std::byte> into, Deadline) override {
    std::memset(into.data(), 0, into.size());
    return {};
  }
  std::uint16_t queue_count() override { return 2; }
  std::uint16_t queue_max_size(std::uint16_t) override { return queue_size; }
  Result<std::unique_ptr<virtio::Notifier>> setup_queue(std::uint16_t, std::uint16_t, const virtio::QueueAddresses&,
                                                        std::uint16_t) override {
    return fail(Errc::kState, "not used");
  }
  Result<void> reset_queue(std::uint16_t, Deadline) override { return fail(Errc::kUnavailable, "not used"); }
  Result<void> set_config_vector(std::uint16_t) override { return {}; }
  std::uint8_t isr() override { return 0; }

  // How it behaves.
  std::uint64_t offered =
      virtio::spec::mask_of(virtio::spec::feature::kVersion1) | virtio::spec::mask_of(virtio::spec::net_feature::kMac);
  platform::Nanoseconds reset_takes{0};
  bool reset_never = false;
  bool features_rejected = false;
  bool decode_off = false;  // registers read all ones, the config space answers
  bool deaf = false;        // writes have no effect
  int needs_reset_at = -1;  // sets DEVICE_NEEDS_RESET when this status is written
  int leaves_at = -1;       // leaves the bus when this status is written
  std::uint16_t queue_size = 256;
  void set_initial_status(std::uint8_t value) { status_ = value; }

  // What the driver did.
  std::vector<std::string> log;
  std::uint64_t accepted = 0;

 private:
  std::shared_ptr<FakeDevice> device_;
  const bool legacy_;
  std::uint8_t status_ = 0;
  bool resetting_ = false;
  platform::TimePoint reset_done_{};
};

/// A driver whose probe and start end as the test wants.
class FakeDriver final : public virtio::Driver {
 public:
  explicit FakeDriver(FakeTransport& transport) : transport_(transport) {}
  std::string_view name() const override { return "fake"; }
  std::uint32_t device_id() const override { return virtio::spec::kDeviceNet; }
  virtio::FeatureTable features(bool) const override {
    return {.wanted = virtio::spec::mask_of(virtio::spec::net_feature::kMac)};
  }
  Result<std::unique_ptr<virtio::Bound>> probe(virtio::Device& device, Deadline) override {
    transport_.log.push_back("probe");
    seen_features = device.features();
    if (probe_fails) return fail(Errc::kSystem, "the probe fails");
    return std::make_unique<FakeBound>(transport_, start_fails);
  }
  bool probe_fails = false;
  bool start_fails = false;
  std::uint64_t seen_features = 0;

 private:
  struct FakeBound final : virtio::Bound {
    FakeBound(FakeTransport& transport, bool fails) : transport_(transport), fails_(fails) {}
    ~FakeBound() override { transport_.log.push_back("gone"); }
    Result<void> start(Deadline) override {
      transport_.log.push_back("start");
      if (fails_) return fail(Errc::kSystem, "the start fails");
      return {};
    }
    Result<void> quiesce(Deadline) override { return {}; }
    FakeTransport& transport_;
    bool fails_;
  };
  FakeTransport& transport_;
};

}  // namespace upci::virtio_tests
