// SPDX-License-Identifier: Apache-2.0
// What goes over a card as a pcap-ng file: the frames, and for each of them what the ring knew (its queue, its place in the
// ring, what the virtio header said). Format: draft-ietf-opsawg-pcapng.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/platform.h"
#include "base/unique_fd.h"
#include "drivers/virtio_net/packet.h"

namespace upci::inline UPCI_VARIANT::virtio_net {

/// Where in a ring a frame was seen.
struct RingPlace {
  std::uint16_t pair = 0;
  std::uint16_t position =
      0;  // sent: where its chain begins; received: behind the burst that it came in. Packed rings: bit 15 wraps
  std::uint16_t in_flight = 0;  // chains that the device has, with this one when it is sent
  std::uint16_t size = 0;       // of the ring
};

/// One file; one or several cards write to it. All members are thread-safe.
class Capture {
 public:
  /// Makes the file, or empties it. Of each frame at most `most_bytes` are kept. Errors: kUnavailable, with what is in the way.
  static Result<std::shared_ptr<Capture>> create(const std::string& path, std::uint32_t most_bytes = 262'144);
  /// Writes what is left; what goes wrong then is said in the log. finish() tells.
  ~Capture();
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  /// Frames taken so far.
  std::uint64_t frames() const;
  /// Writes everything to the file. Errors: kSystem, also for what went wrong before (a full disk): the file ends there.
  Result<void> finish();

 private:
  friend class CaptureTap;
  Capture(std::string path, UniqueFd fd, std::uint32_t most_bytes);

  std::uint32_t add_interface(std::string_view name);
  void add(std::uint32_t interface, bool inbound, const Packet& frame, const RingPlace& place);

  // With mutex_ held.
  template <class T>
  void put(T value);
  void put_bytes(const void* bytes, std::size_t count);
  void put_option(std::uint16_t code, std::string_view value);
  template <std::integral T>
  void put_option(std::uint16_t code, T value);
  void pad();
  void begin_block(std::uint32_t type);
  void end_block();
  void write_out();

  const std::string path_;
  const UniqueFd fd_;
  const std::uint32_t most_bytes_;
  const platform::Nanoseconds epoch_;  // the time of day at the steady clock's zero
  mutable platform::Mutex mutex_;
  std::vector<std::byte> buffer_;  // mutex_: whole blocks, but while one is put together
  std::size_t block_ = 0;          // mutex_: where the current block begins in it
  std::uint32_t interfaces_ = 0;   // mutex_
  std::uint64_t frames_ = 0;       // mutex_
  std::optional<Error> error_;     // mutex_: the first one; nothing is written any more
  bool told_ = false;              // mutex_: finish() has said it
};

/// One card's place in a capture. Any thread.
class CaptureTap {
 public:
  CaptureTap(std::shared_ptr<Capture> capture, std::string_view card)
      : capture_(std::move(capture)), interface_(capture_->add_interface(card)) {}
  void sent(const Packet& frame, const RingPlace& place) const { capture_->add(interface_, false, frame, place); }
  void received(const Packet& frame, const RingPlace& place) const { capture_->add(interface_, true, frame, place); }

 private:
  const std::shared_ptr<Capture> capture_;
  const std::uint32_t interface_;
};

}  // namespace upci::inline UPCI_VARIANT::virtio_net
