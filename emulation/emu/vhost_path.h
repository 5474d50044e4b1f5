// SPDX-License-Identifier: Apache-2.0
// A card whose queues somebody else works on: a vhost-user back end, as DPDK's. The card has the registers, tells the back end
// where the rings lie, and passes notifications and interrupts on.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>

#include "emulation/emu/data_path.h"
#include "emulation/emu/vhost_user.h"
#include "emulation/emu/virtio_core.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {

class VhostPath final : public DataPath {
 public:
  /// Of the card's features only those are offered that the back end has, or that are the card's alone.
  VhostPath(VirtioCore& core, std::unique_ptr<VhostUser> back_end);

  Result<void> watch(platform::EventQueue& events) override;
  void ready(std::uint64_t token) override;
  Next run() override;
  void forget(std::uint32_t queues) noexcept override;
  bool reset() noexcept override;
  bool pause() noexcept override;
  device::DmaSpace* memory() noexcept override { return back_end_->memory().get(); }
  Stats stats() const noexcept override { return {}; }  // the back end counts

 private:
  Result<void> start();
  bool quiet() const noexcept { return !silent_; }
  void stop(std::uint16_t index) noexcept;
  void lose(const Error& error);

  VirtioCore& core_;
  const std::unique_ptr<VhostUser> back_end_;
  bool started_ = false;  // since the last reset
  bool lost_ = false;     // for good: the back end has gone, or refuses
  bool silent_ = false;   // or it did not say that it has stopped, and may go on
  std::array<bool, VirtioCore::kQueues> runs_{};
  std::array<std::optional<std::uint32_t>, VirtioCore::kQueues> stopped_at_{};  // by pause()
};

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
