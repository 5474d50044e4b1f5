// SPDX-License-Identifier: Apache-2.0
// The network card behind the rings: frames between the queues and the wire. No frame that the driver sent is dropped
// silently: where the other side has no room, it waits in its queue.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "base/platform.h"
#include "base/unique_fd.h"
#include "emulation/emu/data_path.h"
#include "emulation/emu/offload.h"
#include "emulation/emu/virtio_core.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {

/// Protected as a whole by the device's mutex.
class NetModel final : public DataPath {
 public:
  /// Without a wire each frame sent comes back as one received.
  NetModel(const Options& options, VirtioCore& core, DmaTable& dma, UniqueFd wire);

  Result<void> watch(platform::EventQueue& events) override;
  void ready(std::uint64_t) override { wire_readable_ = true; }
  Next run() override;
  void forget(std::uint32_t queues) noexcept override;
  bool reset() noexcept override;
  Stats stats() const noexcept override { return stats_; }

 private:
  enum class Sent { kYes, kNoRoom, kNobody };
  struct Pending {
    ChainId id;
    std::vector<Frame> frames;  // one, or the pieces of a long one
    std::size_t next = 0;       // of them
  };

  bool transmit(const DmaAccess& dma);
  bool transmit_some(const DmaAccess& dma, VirtQueue& queue);
  bool transmit_one(const DmaAccess& dma, VirtQueue& queue);
  bool take_frame(const DmaAccess& dma, const Chain& chain, Frame& frame);
  bool check_header(Frame& frame);
  std::vector<Frame> as_received(Frame frame) const;
  Sent put_on_wire(Frame& frame);
  bool flush_pending(const DmaAccess& dma);
  bool publishes_each() const noexcept;

  bool receive(const DmaAccess& dma);
  bool next_frame();
  bool deliver(const DmaAccess& dma, VirtQueue& queue);
  bool collect_buffers(const DmaAccess& dma, VirtQueue& queue, std::size_t need);
  void fill_buffers(const DmaAccess& dma);
  void check_header_layout(const Chain::Segment& first);

  std::size_t header_bytes() const noexcept;
  std::size_t max_frame() const noexcept;
  std::size_t max_sent() const noexcept;

  const Options& options_;
  VirtioCore& core_;
  DmaTable& dma_;
  const UniqueFd wire_;

  bool wire_readable_;
  bool receive_starved_ = false;  // frames wait, and the driver has given no buffer since
  bool header_layout_checked_ = false;
  std::optional<Pending> pending_;  // taken from the transmit queue, not yet on the wire
  platform::Nanoseconds retry_{};   // how long the next try to send waits
  std::deque<Frame> backlog_;       // loopback: sent and not yet received
  std::optional<Frame> held_;       // the next frame to be received
  Chain chain_;                     // these three are kept for their memory
  std::vector<Chain> buffers_;
  std::size_t buffers_used_ = 0;
  std::vector<std::byte> staging_;
  Stats stats_;
};

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
