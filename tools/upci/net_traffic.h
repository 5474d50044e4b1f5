// SPDX-License-Identifier: Apache-2.0
// The run of `upci net test`: frames over one card and back, or between two cards both ways; by interrupt or polled.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "drivers/virtio_net/nic.h"
#include "tools/upci/net_flow.h"
#include "workqueue/engine.h"

namespace upci::tool {

struct TrafficOptions {
  std::uint64_t frames = 0;  // each way
  FrameSizes sizes;
  bool poll = false;
  bool observed = false;         // the cards were opened with the observed access policy
  platform::Nanoseconds idle{};  // nothing moved for so long: what has not arrived is lost
};

struct TrafficResult {
  std::uint64_t sent = 0, received = 0, lost = 0, corrupt = 0, duplicated = 0, reordered = 0;  // all directions
  std::uint64_t interrupts = 0, bottom_halves = 0;  // all vectors of the cards
  std::uint64_t wakeups = 0;      // of the workers of the CPUs that serve the vectors, from their idle wait
  std::vector<int> cpus = {};     // where bottom halves ran
  std::uint64_t queue_pairs = 0;  // of all cards
  std::uint64_t kicks = 0, kicks_suppressed = 0;  // times a device was told of buffers, and times it need not be
  std::uint64_t indirect_chains = 0, batched_chains = 0, merged_frames = 0;  // see virtio_net::QueueStats
  std::uint64_t ring_accesses = 0, ring_violations = 0;                      // with the observed access policy only
  std::optional<std::uint64_t> captured = {};  // frames written to a file, where that was asked for
  std::vector<std::string> notes = {};  // what else a reader should know: where interrupts are raised, CPUs that went
  double seconds = 0;                   // from the first frame to the last arrival
  std::optional<Error> error = {};      // why a card stopped
};

/// Sends and checks. One card: its frames come back to it. Two: each sends to the other. By interrupt, each card's receiver
/// is set by this call, so it can run once per card. Errors: kUnavailable (a card without interrupts), kState (a frame of
/// this size does not fit the card).
Result<TrafficResult> run_traffic(Engine& engine, std::span<virtio_net::Nic* const> nics,
                                  const TrafficOptions& options);

}  // namespace upci::tool
