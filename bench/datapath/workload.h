// SPDX-License-Identifier: Apache-2.0
// What each side does with each frame, and how that is measured: one text, compiled into our program and into the peer's.
// No dependency on either.
#pragma once

#include <time.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "bench/engine/clock.h"

namespace bench::datapath {

inline constexpr std::size_t kBatch = 32;
inline constexpr std::uint16_t kRing = 256;
inline constexpr std::uint32_t kFrameBytes = 64;
inline constexpr std::size_t kWords = kFrameBytes / sizeof(std::uint64_t);
/// Frames between sender and reflector at most: with the receive ring at most an eighth empty nothing is dropped.
inline constexpr std::uint64_t kWindow = 128;
/// After a batch that was not full both sides wait this long for the next one, so that both handle full batches: the time is
/// counted as empty. A quarter of the ring comes meanwhile at 20 million frames a second.
inline constexpr double kPauseNanoseconds = 3000;
/// Nothing moved for so long: the backend is gone.
inline constexpr double kStuckNanoseconds = 5e9;

/// Ethernet header and a payload that follows from the number; returns the sum of its words.
inline std::uint64_t write_frame(std::byte* data, std::uint64_t number) noexcept {
  std::array<std::uint64_t, kWords> words;
  words[0] = 0x0211'ffff'ffff'ffff;  // broadcast, from 11:02:...
  words[1] = 0x0000'b588'5544'3322;  // ..., an experimental EtherType
  std::uint64_t sum = words[0] + words[1];
  for (std::size_t i = 2; i < kWords; i++) {
    words[i] = number * 0x9e37'79b9'7f4a'7c15 + i;
    sum += words[i];
  }
  std::memcpy(data, words.data(), sizeof words);
  return sum;
}

inline std::uint64_t sum_of(const std::byte* data) noexcept {
  std::array<std::uint64_t, kWords> words;
  std::memcpy(words.data(), data, sizeof words);
  std::uint64_t sum = 0;
  for (const std::uint64_t word : words) sum += word;
  return sum;
}

/// What came out. Ticks are the clock's (bench/engine/clock.h), on the CPU or not.
struct Figures {
  std::uint64_t frames = 0;
  std::uint64_t sum = 0;         // of all payload words
  std::uint64_t busy_ticks = 0;  // of rounds that moved something
  std::uint64_t all_ticks = 0;
  std::uint64_t rounds = 0;  // that moved something
  double on_cpu_seconds = 0;
  bool stuck = false;
};

inline double thread_cpu_seconds() noexcept {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

/// Counts a run from its construction on.
class Stopwatch {
 public:
  Stopwatch() noexcept : cpu_(thread_cpu_seconds()), begin_(ticks()), last_(begin_), moved_(begin_) {}

  /// The end of a round. False when the backend does not move any more.
  bool round(bool moved) noexcept {
    const std::uint64_t now = ticks();
    if (moved) {
      figures_.busy_ticks += now - last_;
      figures_.rounds++;
      moved_ = now;
    } else if (now - moved_ > stuck_) {
      figures_.stuck = true;
    }
    last_ = now;
    return !figures_.stuck;
  }
  /// Time that is counted as empty.
  void pause() noexcept {
    const std::uint64_t until = last_ + pause_;
    while (last_ < until) {
      relax();
      last_ = ticks();
    }
  }
  Figures finish(std::uint64_t frames, std::uint64_t sum) noexcept {
    figures_.all_ticks = ticks() - begin_;
    figures_.on_cpu_seconds = thread_cpu_seconds() - cpu_;
    figures_.frames = frames;
    figures_.sum = sum;
    return figures_;
  }

 private:
  const std::uint64_t pause_ = static_cast<std::uint64_t>(kPauseNanoseconds / nanoseconds_per_tick());
  const std::uint64_t stuck_ = static_cast<std::uint64_t>(kStuckNanoseconds / nanoseconds_per_tick());
  Figures figures_;
  double cpu_;
  std::uint64_t begin_;
  std::uint64_t last_;
  std::uint64_t moved_;
};

// A Port has a type Packet (a pointer) and:
//   std::size_t alloc(std::span<Packet>)       all of them, or none
//   void free(std::span<Packet>)
//   std::size_t send(std::span<Packet>)        how many were taken
//   std::size_t receive(std::span<Packet>)
//   std::byte* data(Packet)
//   void set_length(Packet, std::uint32_t)

/// Allocates, writes and sends frames; the backend drops them. `begin` is the first frame's number.
template <class Port>
Figures transmit(Port& port, std::uint64_t begin, std::uint64_t frames) {
  std::array<typename Port::Packet, kBatch> batch;
  std::uint64_t sum = 0;
  std::uint64_t done = 0;
  Stopwatch watch;
  while (done < frames) {
    const std::size_t want = std::min<std::uint64_t>(kBatch, frames - done);
    auto packets = std::span(batch).first(want);
    if (port.alloc(packets) != want) {
      if (!watch.round(false)) break;
      continue;
    }
    for (const auto packet : packets) {
      sum += write_frame(port.data(packet), begin + done++);
      port.set_length(packet, kFrameBytes);
    }
    for (;;) {
      const std::size_t sent = port.send(packets);
      packets = packets.subspan(sent);
      if (!watch.round(sent != 0)) break;
      if (packets.empty()) break;
      watch.pause();
    }
    if (!packets.empty()) {
      port.free(packets);
      break;
    }
  }
  return watch.finish(done, sum);
}

/// Receives what the backend sends, sums its words, frees it.
template <class Port>
Figures receive(Port& port, std::uint64_t frames) {
  std::array<typename Port::Packet, kBatch> batch;
  std::uint64_t sum = 0;
  std::uint64_t done = 0;
  Stopwatch watch;
  while (done < frames) {
    const std::size_t got = port.receive(std::span(batch).first(std::min<std::uint64_t>(kBatch, frames - done)));
    const auto packets = std::span(batch).first(got);
    for (const auto packet : packets) sum += sum_of(port.data(packet));
    if (got != 0) port.free(packets);
    done += got;
    if (!watch.round(got != 0)) break;
    if (got < kBatch) watch.pause();
  }
  return watch.finish(done, sum);
}

/// Both: the backend sends back what it gets. Sums what came back.
template <class Port>
Figures loop(Port& port, std::uint64_t begin, std::uint64_t frames) {
  std::array<typename Port::Packet, kBatch> batch;
  std::uint64_t sum = 0;
  std::uint64_t sent = 0;
  std::uint64_t done = 0;
  Stopwatch watch;
  while (done < frames) {
    const std::size_t got = port.receive(batch);
    const auto received = std::span(batch).first(got);
    for (const auto packet : received) sum += sum_of(port.data(packet));
    if (got != 0) port.free(received);
    done += got;
    std::size_t out = 0;
    if (sent - done + kBatch <= kWindow && sent < frames) {
      const std::size_t want = std::min<std::uint64_t>(kBatch, frames - sent);
      auto packets = std::span(batch).first(want);
      if (port.alloc(packets) == want) {
        for (const auto packet : packets) {
          write_frame(port.data(packet), begin + sent + out++);
          port.set_length(packet, kFrameBytes);
        }
        out = port.send(packets);
        sent += out;
        if (out < want) port.free(packets.subspan(out));
      }
    }
    if (!watch.round(got + out != 0)) break;
    if (got < kBatch && out == 0) watch.pause();
  }
  return watch.finish(done, sum);
}

/// Leaves nothing under way behind: the next run begins at a full receive ring.
template <class Port>
void drain(Port& port) {
  std::array<typename Port::Packet, kBatch> batch;
  const std::uint64_t begin = ticks();
  const auto length = static_cast<std::uint64_t>(2e6 / nanoseconds_per_tick());
  while (ticks() - begin < length) {
    const std::size_t got = port.receive(batch);
    if (got != 0) port.free(std::span(batch).first(got));
  }
}

}  // namespace bench::datapath
