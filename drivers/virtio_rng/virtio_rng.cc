// SPDX-License-Identifier: Apache-2.0
#include "drivers/virtio_rng/virtio_rng.h"

#include <string_view>
#include <utility>

#include "drivers/virtio_rng/entropy_request.h"
#include "drivers/virtio_rng/rng.h"
#include "virtio/spec/features.h"
#include "virtio/spec/ids.h"

namespace upci::inline UPCI_VARIANT::virtio_rng {
namespace {

/// A few threads can wait at once; each reads up to a page at a time.
constexpr virtio::RequestQueueShape kShape = {.at_most = 16, .slots = 8, .segments = 1, .slot_bytes = 4096};

class RngImpl final : public Rng {
 public:
  explicit RngImpl(std::unique_ptr<virtio::RequestDevice> requests) : requests_(std::move(requests)) {
    for (Work* work : requests_->works()) adopt_work(*work);
  }

  /// Tells the device its queue; the last step of the probe.
  Result<void> set_up() { return requests_->set_up(); }

  Result<void> start(Deadline) override {
    requests_->start({}, virtio::OnTrouble::kReset);
    return {};
  }
  Result<void> quiesce(Deadline deadline) override { return requests_->quiesce(deadline); }
  Result<void> freeze(Deadline deadline) override { return requests_->freeze(deadline); }
  Result<void> restore(Deadline deadline) override { return requests_->restore(deadline); }
  void withdrawn(const Error& error) override { requests_->set_failed(error); }

  Result<std::size_t> read(std::span<std::byte> into, Deadline deadline) override {
    if (into.empty()) return std::size_t{0};
    EntropyRequest request(into);
    virtio::Request* const one = &request;
    requests_->run(std::span(&one, 1), deadline);
    if (!request.result) return std::unexpected(std::move(request.result).error());
    return request.received();
  }
  void set_polling(bool on) override { requests_->set_polling(on); }
  std::optional<Error> failed() const override { return requests_->failed(); }
  virtio::RequestStats stats() const override { return requests_->stats(); }
  virtio::InterruptStats interrupt_stats() const override { return requests_->interrupt_stats(); }

 private:
  const std::unique_ptr<virtio::RequestDevice> requests_;
};

class RngDriver final : public virtio::Driver {
 public:
  explicit RngDriver(Options options) : options_(std::move(options)) {}

  std::string_view name() const override { return "virtio_rng"; }
  std::uint32_t device_id() const override { return virtio::spec::kDeviceEntropy; }

  // Section "Entropy Device / Feature bits": none of its own. A chain is one descriptor: INDIRECT_DESC would serve nothing.
  virtio::FeatureTable features(bool legacy) const override {
    namespace feature = virtio::spec::feature;
    using virtio::spec::mask_of;
    std::uint64_t wanted = mask_of(feature::kEventIdx);
    if (!legacy) wanted |= mask_of(feature::kRingPacked) | mask_of(feature::kInOrder);
    return {.wanted = wanted, .required = 0};
  }

  Result<std::unique_ptr<virtio::Bound>> probe(virtio::Device& device, Deadline) override {
    auto requests = std::make_unique<virtio::RequestDevice>(device);
    UPCI_TRY(requests->make_queues(1, kShape, options_.observers));
    auto rng = std::make_unique<RngImpl>(std::move(requests));
    UPCI_TRY(rng->set_up());
    return rng;
  }

 private:
  const Options options_;
};

}  // namespace

std::unique_ptr<virtio::Driver> make_driver(Options options) { return std::make_unique<RngDriver>(std::move(options)); }

}  // namespace upci::inline UPCI_VARIANT::virtio_rng
