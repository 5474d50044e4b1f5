// SPDX-License-Identifier: Apache-2.0
// Holds a driver to what binds it in the buffers that it makes available: the headers of frames, commands, requests.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/platform.h"
#include "virtio/lint/dma_map.h"
#include "virtio/lint/register_lint.h"
#include "virtio/lint/rules.h"
#include "virtio/ring.h"

namespace upci::inline UPCI_VARIANT::virtio::lint {

/// One per device, for all its queues. Thread-safe. What was negotiated, and what the configuration says, it asks the observer of
/// the registers.
class ChainLint {
 public:
  ChainLint(std::shared_ptr<const RegisterLint> registers, std::shared_ptr<const DmaMap> memory)
      : registers_(std::move(registers)), memory_(std::move(memory)) {}

  /// A chain of `queue` becomes available.
  void on_chain(std::uint16_t queue, std::span<const Segment> chain);
  /// The queue begins anew: the device was reset.
  void on_restart(std::uint16_t queue);

  std::uint64_t chains() const;  // seen so far
  std::uint64_t violations() const;
  std::uint64_t violations(ChainRule rule) const;
  /// As RegisterLint::breaches().
  std::vector<std::string> breaches() const;

 private:
  class Look;
  struct NetQueues;
  void breach(ChainRule rule, std::string detail);
  std::uint64_t field(std::uint32_t offset, std::uint64_t otherwise) const;
  void net(std::uint16_t queue, const Look& look);
  void net_transmit(std::uint16_t queue, const Look& look);
  void net_header(const Look& look);
  void net_receive(const Look& look);
  void net_command(const Look& look);
  void net_mac(std::uint8_t command, const Look& look);
  void net_pairs(std::uint64_t pairs);
  void net_steering(std::uint8_t command, const Look& look);
  void net_rss(const Look& look);
  std::uint64_t most_pairs() const;
  void block(const Look& look);
  void block_ranges(std::uint32_t type, const Look& look);

  const std::shared_ptr<const RegisterLint> registers_;
  const std::shared_ptr<const DmaMap> memory_;
  mutable platform::Mutex mutex_;
  // All of these: mutex_.
  std::uint64_t chains_ = 0;
  std::array<std::uint64_t, kChainRules> counts_{};
  std::vector<std::string> breaches_;
  std::uint64_t pairs_ = 1;  // network card: enabled ones
  std::uint64_t features_ = 0;
  bool legacy_ = false;
};

}  // namespace upci::inline UPCI_VARIANT::virtio::lint
