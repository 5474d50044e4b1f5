// SPDX-License-Identifier: Apache-2.0
#include "drivers/virtio_blk/virtio_blk.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "drivers/virtio_blk/disk_config.h"
#include "drivers/virtio_blk/disk_impl.h"
#include "virtio/queue.h"
#include "virtio/spec/features.h"
#include "virtio/spec/ids.h"

namespace upci::inline UPCI_VARIANT::virtio_blk {
namespace {

constexpr std::uint16_t kQueueSize = 256;
// Requests in flight of all queues together; each queue has its share of them.
constexpr std::size_t kSlots = 128;
constexpr std::size_t kFewestSlots = 8;
constexpr std::size_t kMostSlots = 32;

class BlkDriver final : public virtio::Driver {
 public:
  explicit BlkDriver(Options options) : options_(std::move(options)) {}

  std::string_view name() const override { return "virtio_blk"; }
  std::uint32_t device_id() const override { return virtio::spec::kDeviceBlock; }

  virtio::FeatureTable features(bool legacy) const override {
    namespace feature = virtio::spec::feature;
    namespace blk = virtio::spec::blk_feature;
    std::uint64_t wanted = 0;
    // Not BARRIER and SCSI, which only legacy devices have; not ZONED: its requests are not known here.
    for (const unsigned bit :
         {blk::kSizeMax, blk::kSegMax, blk::kGeometry, blk::kRo, blk::kBlkSize, blk::kFlush, blk::kTopology,
          blk::kConfigWce, blk::kMq, blk::kDiscard, blk::kWriteZeroes, feature::kIndirectDesc, feature::kEventIdx}) {
      wanted |= virtio::spec::mask_of(bit);
    }
    if (!legacy) wanted |= virtio::spec::mask_of(feature::kRingPacked) | virtio::spec::mask_of(feature::kInOrder);
    return {.wanted = wanted, .required = 0};
  }

  // Section "Block Device / Device Initialization".
  Result<std::unique_ptr<virtio::Bound>> probe(virtio::Device& device, Deadline deadline) override {
    UPCI_TRY_ASSIGN(DiskInfo info, read_info(device, deadline));
    const std::size_t cpus = device.device().engine().topology().housekeeping_cpus().size();
    info.queues = static_cast<std::uint16_t>(std::min<std::size_t>(info.device_queues, cpus));
    UPCI_TRY_ASSIGN(const std::uint16_t queue_size, virtio::choose_queue_size(device, 0, kQueueSize));
    UPCI_TRY_ASSIGN(const TransferLimits limits, transfer_limits(info, queue_size));
    info.max_transfer = limits.bytes;

    const std::size_t slots = std::clamp(kSlots / info.queues, kFewestSlots, kMostSlots);
    auto requests = std::make_unique<virtio::RequestDevice>(device);
    UPCI_TRY(requests->make_queues(info.queues,
                                   {.at_most = kQueueSize,
                                    .slots = static_cast<std::uint16_t>(slots),
                                    .segments = static_cast<std::uint16_t>(limits.data_segments + 2),
                                    .slot_bytes = RequestLayout::kBytes},
                                   options_.observers));
    auto disk = std::make_unique<DiskImpl>(std::move(requests), info);
    UPCI_TRY(disk->set_up());
    return disk;
  }

 private:
  const Options options_;
};

}  // namespace

std::unique_ptr<virtio::Driver> make_driver(Options options) { return std::make_unique<BlkDriver>(std::move(options)); }

}  // namespace upci::inline UPCI_VARIANT::virtio_blk
