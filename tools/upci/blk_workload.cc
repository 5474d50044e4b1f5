// SPDX-License-Identifier: Apache-2.0
#include "tools/upci/blk_workload.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <random>
#include <set>
#include <span>
#include <utility>

namespace upci::tool {
namespace {

using virtio_blk::Io;

constexpr std::uint32_t kSector = 512;
// Places that are written and remembered: enough to be spread over any disk, few enough to be read back often.
constexpr std::uint64_t kMostPlaces = 4096;
// After so many batches the cache is flushed; with discards and zeroes where the disk has them.
constexpr std::uint64_t kFlushEvery = 16;

class Workload {
 public:
  Workload(virtio_blk::Disk& disk, const WorkloadOptions& options)
      : disk_(disk), options_(options), random_(options.seed), per_place_(options.size / kSector) {
    const std::uint64_t slots = disk.capacity() / per_place_;
    const std::uint64_t count = std::min(slots, kMostPlaces);
    // One place in each of `count` equal parts of the disk; the first and the last place are among them.
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::uint64_t begin = slots / count * i;
      const std::uint64_t end = i + 1 == count ? slots : slots / count * (i + 1);
      std::uint64_t slot = begin + random_() % (end - begin);
      if (i == 0) slot = 0;
      if (i + 1 == count) slot = slots - 1;
      places_.push_back({.sector = slot * per_place_});
    }
  }

  WorkloadResult run() {
    const platform::TimePoint begin = platform::Clock::now();
    for (std::uint64_t done = 0, batch = 1; done < options_.requests && go_on(); ++batch) {
      const auto count = std::min<std::uint64_t>({options_.depth, options_.requests - done, places_.size()});
      done += options_.destroy ? mixed_batch(count) : paired_batch(count);
      if (options_.destroy && batch % kFlushEvery == 0 && go_on()) maintain();
    }
    if (options_.destroy && go_on()) {
      single({.op = Io::Op::kFlush});
      for (std::size_t at = 0; at < places_.size() && go_on(); at += options_.depth) read_back(at);
    }
    result_.seconds = std::chrono::duration<double>(platform::Clock::now() - begin).count();
    result_.batch_us = latency();
    return std::move(result_);
  }

 private:
  struct Place {
    std::uint64_t sector = 0;
    std::uint64_t version = 0;  // 0: what is there is not known; kZero: zeroes
  };
  static constexpr std::uint64_t kZero = ~std::uint64_t{0};

  bool go_on() const { return !result_.error && result_.corrupt == 0 && Interruption::signal() == 0; }

  std::vector<std::byte> contents(const Place& place) const {
    std::vector<std::byte> bytes(options_.size);
    if (place.version == kZero) return bytes;
    std::mt19937_64 generator(options_.seed ^ (place.sector * 0x9e37'79b9'7f4a'7c15ULL) ^ (place.version << 40U));
    for (std::size_t i = 0; i < bytes.size(); i += 8) {
      const std::uint64_t value = generator();
      std::memcpy(bytes.data() + i, &value, 8);
    }
    return bytes;
  }

  /// Indices of `count` different places.
  std::vector<std::size_t> pick(std::uint64_t count) {
    std::set<std::size_t> picked;
    while (picked.size() < count) picked.insert(random_() % places_.size());
    return {picked.begin(), picked.end()};
  }

  /// Runs them at once, on each queue in its turn; counts and times them. False when one failed.
  bool run_batch(std::span<Io> batch) {
    const int queue = static_cast<int>(next_queue_++ % disk_.info().queues);
    const platform::TimePoint begin = platform::Clock::now();
    disk_.run(batch, Deadline::after(options_.limit), queue);
    times_.push_back(std::chrono::duration<double, std::micro>(platform::Clock::now() - begin).count());
    for (Io& io : batch) {
      switch (io.op) {
        case Io::Op::kRead: ++result_.reads, result_.bytes_read += io.into.size(); break;
        case Io::Op::kWrite: ++result_.writes, result_.bytes_written += io.from.size(); break;
        case Io::Op::kFlush: ++result_.flushes; break;
        case Io::Op::kDiscard: ++result_.discards; break;
        case Io::Op::kWriteZeroes: ++result_.zeroes; break;
      }
      if (io.result) continue;
      ++result_.errors;
      if (!result_.error) result_.error = std::move(io.result).error();
    }
    return !result_.error;
  }
  bool single(Io io) { return run_batch(std::span(&io, 1)); }

  /// The same places twice, one after the other: a disk that nobody writes to gives the same.
  std::uint64_t paired_batch(std::uint64_t count) {
    const std::vector<std::size_t> picked = pick(count);
    std::vector<std::vector<std::byte>> buffers[2];
    for (auto& round : buffers) {
      round.assign(count, std::vector<std::byte>(options_.size, &round == buffers ? std::byte{0x55} : std::byte{0xaa}));
      std::vector<Io> batch;
      for (std::size_t i = 0; i < count; ++i)
        batch.push_back({.op = Io::Op::kRead, .sector = places_[picked[i]].sector, .into = round[i]});
      if (!run_batch(batch)) return 2 * count;
    }
    for (std::size_t i = 0; i < count; ++i) result_.corrupt += buffers[0][i] == buffers[1][i] ? 0U : 1U;
    return 2 * count;
  }

  /// Half of them writes, the others reads of what was written before.
  std::uint64_t mixed_batch(std::uint64_t count) {
    const std::vector<std::size_t> picked = pick(count);
    std::vector<std::vector<std::byte>> buffers;
    buffers.reserve(count);
    std::vector<Io> batch;
    for (const std::size_t index : picked) {
      Place& place = places_[index];
      if (place.version == 0 || random_() % 2 == 0) {
        place.version = ++version_;
        buffers.push_back(contents(place));
        batch.push_back({.op = Io::Op::kWrite, .sector = place.sector, .from = buffers.back()});
      } else {
        buffers.emplace_back(options_.size, std::byte{0x55});
        batch.push_back({.op = Io::Op::kRead, .sector = place.sector, .into = buffers.back()});
      }
    }
    if (run_batch(batch)) {
      for (std::size_t i = 0; i < count; ++i) {
        if (batch[i].op == Io::Op::kRead && buffers[i] != contents(places_[picked[i]])) ++result_.corrupt;
      }
    }
    return count;
  }

  /// A flush, and where the disk can do it a place of zeroes and one that is discarded and then not known any more.
  void maintain() {
    if (!single({.op = Io::Op::kFlush})) return;
    if (disk_.info().write_zeroes) {
      Place& place = places_[random_() % places_.size()];
      place.version = kZero;
      if (!single({.op = Io::Op::kWriteZeroes, .sector = place.sector, .sectors = per_place_, .may_unmap = true}))
        return;
    }
    if (disk_.info().discard) {
      Place& place = places_[random_() % places_.size()];
      place.version = 0;
      single({.op = Io::Op::kDiscard, .sector = place.sector, .sectors = per_place_});
    }
  }

  void read_back(std::size_t at) {
    std::vector<std::vector<std::byte>> buffers;
    std::vector<std::size_t> written;
    for (std::size_t i = at; i < std::min<std::size_t>(places_.size(), at + options_.depth); ++i) {
      if (places_[i].version != 0) written.push_back(i);
    }
    if (written.empty()) return;
    buffers.assign(written.size(), std::vector<std::byte>(options_.size, std::byte{0x55}));
    std::vector<Io> batch;
    for (std::size_t i = 0; i < written.size(); ++i)
      batch.push_back({.op = Io::Op::kRead, .sector = places_[written[i]].sector, .into = buffers[i]});
    if (!run_batch(batch)) return;
    for (std::size_t i = 0; i < written.size(); ++i)
      result_.corrupt += buffers[i] == contents(places_[written[i]]) ? 0U : 1U;
  }

  Latency latency() {
    if (times_.empty()) return {};
    std::ranges::sort(times_);
    const auto at = [this](std::size_t percent) { return times_[(times_.size() - 1) * percent / 100]; };
    return {.min = at(0), .median = at(50), .p99 = at(99), .max = at(100)};
  }

  virtio_blk::Disk& disk_;
  const WorkloadOptions options_;
  std::mt19937_64 random_;
  const std::uint64_t per_place_;  // sectors
  std::vector<Place> places_;
  std::vector<double> times_;
  std::uint64_t version_ = 0;
  std::uint64_t next_queue_ = 0;
  WorkloadResult result_;
};

}  // namespace

WorkloadResult run_workload(virtio_blk::Disk& disk, const WorkloadOptions& options) {
  WorkloadResult refused;
  const std::uint32_t block = disk.info().block_size;
  if (options.size % block != 0) {
    refused.error = fail(Errc::kInvalid, fmt::format("--size {}: the disk's blocks have {} bytes", options.size, block),
                         "give a multiple of that")
                        .error();
    return refused;
  }
  if (disk.capacity() < options.size / kSector) {
    refused.error =
        fail(Errc::kUnavailable,
             fmt::format("the disk has {} sectors: too few for requests of {} bytes", disk.capacity(), options.size),
             "give a smaller --size")
            .error();
    return refused;
  }
  if (options.destroy && disk.info().read_only) {
    refused.error =
        fail(Errc::kUnavailable, "the disk is read-only", "leave --destroy-contents out: it can be read").error();
    return refused;
  }
  disk.set_polling(options.poll);
  return Workload(disk, options).run();
}

}  // namespace upci::tool
