// SPDX-License-Identifier: Apache-2.0
#include "emulation/emu/vhost_path.h"

#include <utility>

#include "virtio/spec/features.h"
#include "virtio/spec/net.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {
namespace {

namespace feature = virtio::spec::feature;
namespace net_feature = virtio::spec::net_feature;
using virtio::spec::mask_of;

constexpr std::uint64_t kSocketToken = VirtioCore::kQueues;  // below it: the queues' calls

/// What the configuration space and the registers do alone.
constexpr std::uint64_t kOfTheCard = mask_of(net_feature::kMac) | mask_of(net_feature::kStatus) |
                                     mask_of(net_feature::kMtu) | mask_of(feature::kRingReset) |
                                     mask_of(feature::kOrderPlatform);
/// It would have to ask the card for each address.
constexpr std::uint64_t kNotPassedOn = mask_of(feature::kAccessPlatform);

}  // namespace

VhostPath::VhostPath(VirtioCore& core, std::unique_ptr<VhostUser> back_end)
    : core_(core), back_end_(std::move(back_end)) {
  core_.leave_rings_to_others((back_end_->features() & ~kNotPassedOn) | kOfTheCard);
}

Result<void> VhostPath::watch(platform::EventQueue& events) {
  for (std::uint16_t i = 0; i < VirtioCore::kQueues; ++i) UPCI_TRY(events.add(back_end_->call_fd(i), i));
  return events.add(back_end_->fd(), kSocketToken);
}

void VhostPath::ready(std::uint64_t token) {
  if (token == kSocketToken) {
    // Answers make it readable, too; whoever asked has read them.
    if (!lost_ && back_end_->lost())
      lose({.code = Errc::kDevice, .what = "the connection to the vhost-user back end is lost"});
    return;
  }
  const auto index = static_cast<std::uint16_t>(token);
  if (back_end_->take_call(index) && core_.live() && runs_[index]) core_.interrupt(index);
}

DataPath::Next VhostPath::run() {
  if (!core_.live()) return {};
  if (auto started = start(); !started) {
    lose(started.error());
    return {};
  }
  for (std::uint16_t i = 0; i < VirtioCore::kQueues; ++i) {
    if (runs_[i] && std::exchange(core_.queue_at(i).kicked, false)) back_end_->kick(i);
  }
  return {};
}

/// Whatever runs not yet, of what the driver has set up.
Result<void> VhostPath::start() {
  if (lost_) return fail(Errc::kDevice, "the vhost-user back end is gone");
  if (!started_) {
    UPCI_TRY(back_end_->start(core_.accepted_features()));
    started_ = true;
  }
  for (std::uint16_t i = 0; i < VirtioCore::kQueues; ++i) {
    const VirtQueue& queue = core_.queue_at(i);
    if (!queue.enabled || runs_[i]) continue;
    const bool packed = core_.has_feature(feature::kRingPacked);
    UPCI_TRY(back_end_->start_ring(i,
                                   {.packed = packed,
                                    .size = queue.size,
                                    .descriptors = queue.descriptors,
                                    .driver = queue.driver,
                                    .device = queue.device},
                                   stopped_at_[i].value_or(VhostUser::fresh(packed))));
    stopped_at_[i].reset();
    runs_[i] = true;
  }
  return {};
}

void VhostPath::stop(std::uint16_t index) noexcept {
  stopped_at_[index].reset();
  if (!std::exchange(runs_[index], false)) return;
  if (auto position = back_end_->stop_ring(index)) {
    stopped_at_[index] = *position;
  } else {
    // Who has gone touches nothing any more.
    silent_ = silent_ || position.error().code == Errc::kTimeout;
    lose(position.error());
  }
}

bool VhostPath::pause() noexcept {
  for (std::uint16_t i = 0; i < VirtioCore::kQueues; ++i) {
    if (runs_[i]) stop(i);
  }
  return quiet();
}

void VhostPath::forget(std::uint32_t queues) noexcept {
  for (std::uint16_t i = 0; i < VirtioCore::kQueues; ++i) {
    if ((queues >> i & 1U) == 0) continue;
    stop(i);
    stopped_at_[i].reset();
  }
}

bool VhostPath::reset() noexcept {
  forget((1U << VirtioCore::kQueues) - 1);
  started_ = false;
  return quiet();
}

void VhostPath::lose(const Error& error) {
  lost_ = true;
  runs_.fill(false);
  if (core_.live()) core_.break_down(error.message());
}

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
