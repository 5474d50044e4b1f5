// SPDX-License-Identifier: Apache-2.0
// Requests to devices that answer rightly, wrongly, late or never. On the simulated clock a deadline of minutes costs nothing.
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <functional>

#include "drivers/virtio_blk/block_request.h"
#include "drivers/virtio_rng/entropy_request.h"
#include "tests/virtio/request_rig.h"

#if defined(UPCI_SIM)
#include "tests/sim.h"
#endif

namespace upci::virtio_tests {
namespace {

using namespace std::chrono_literals;
using virtio_blk::AnswerRules;
using virtio_blk::BlockRequest;
using virtio_blk::RequestLayout;
using virtio_rng::EntropyRequest;

template <class F>
void simulate(F body) {
#if defined(UPCI_SIM)
  test::for_each_seed(20, body, {.max_steps = 10'000'000});
#else
  body();
#endif
}

/// An upper bound on time: exact on the simulated clock, generous in real time.
platform::Nanoseconds at_most(platform::Nanoseconds exact) {
#if defined(UPCI_SIM)
  return exact;
#else
  return exact + 10s;
#endif
}

constexpr virtio::RequestQueueShape kSmall = {.at_most = 16, .slots = 4, .segments = 1, .slot_bytes = 4096};
constexpr virtio::RequestQueueShape kDisk = {
    .at_most = 16, .slots = 4, .segments = 3, .slot_bytes = RequestLayout::kBytes};

class Requests : public testing::TestWithParam<RigShape> {};
std::string shape_name(const testing::TestParamInfo<RigShape>& info) {
  const RigShape& shape = info.param;
  return std::string(shape.legacy ? "Legacy" : "") + (shape.packed ? "Packed" : "Split") +
         (shape.indirect ? "Indirect" : "") + (shape.observed ? "Observed" : "Plain");
}
INSTANTIATE_TEST_SUITE_P(Rings, Requests,
                         testing::Values(RigShape{}, RigShape{.observed = true}, RigShape{.packed = true},
                                         RigShape{.packed = true, .observed = true},
                                         RigShape{.indirect = true, .observed = true},
                                         RigShape{.packed = true, .indirect = true, .observed = true},
                                         RigShape{.observed = true, .legacy = true}),
                         shape_name);

/// Fills every byte that the device may write.
std::uint32_t fill(const Served& served, std::byte value) {
  std::uint32_t written = 0;
  for (const Served::Piece& piece : served.pieces) {
    if (!piece.device_writes) continue;
    std::memset(piece.at, std::to_integer<int>(value), piece.len);
    written += piece.len;
  }
  return written;
}

TEST_P(Requests, RandomBytesAreThoseThatTheDeviceWroteAndNoMore) {
  simulate([shape = GetParam()] {
    RigBench bench(shape, kSmall);
    bench.rig->answer = [&](const Served& served) {
      ASSERT_EQ(served.pieces.size(), 1U);
      EXPECT_TRUE(served.pieces[0].device_writes) << "nothing for the device to read";
      EXPECT_EQ(served.pieces[0].len, 100U);
      fill(served, std::byte{0x77});
      bench.rig->use(served, 10);
    };
    std::array<std::byte, 100> bytes{};
    EntropyRequest request(bytes);
    ASSERT_TRUE(bench.run(request, 1s));
    EXPECT_EQ(request.received(), 10U);
    EXPECT_EQ(std::count(bytes.begin(), bytes.end(), std::byte{0x77}), 10);
  });
}

TEST_P(Requests, ALengthOfNothingIsTheDevicesErrorAndOfThisRequestOnly) {
  simulate([shape = GetParam()] {
    RigBench bench(shape, kSmall);
    std::uint32_t length = 0;
    bench.rig->answer = [&](const Served& served) { bench.rig->use(served, length); };
    std::array<std::byte, 8> bytes{};
    EntropyRequest request(bytes);
    const auto refused = bench.run(request, 1s);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::kDevice);
    EXPECT_EQ(refused.error().reg, "used.len");
    length = 8;
    EXPECT_TRUE(bench.run(request, 1s));
  });
}

TEST_P(Requests, ForgedIdsAndLengthsBreakTheRingAndEveryRequestSaysSo) {
  const std::vector<std::function<void(Rig&, const Served&)>> lies = {
      [](Rig& rig, const Served& served) { rig.use(served, 9); },             // more than there was room for
      [](Rig& rig, const Served& served) { rig.use(served, ~0U); },           // much more
      [](Rig& rig, const Served&) { rig.use_id(Rig::kQueueSize, 4); },        // no such descriptor
      [](Rig& rig, const Served&) { rig.use_id(0xffff, 4); },                 // nor this
      [](Rig& rig, const Served& served) { rig.use_id(served.id + 5U, 4); },  // one that is not in flight
  };
  simulate([&, shape = GetParam()] {
    for (const auto& lie : lies) {
      RigBench bench(shape, kSmall);
      bench.rig->answer = [&](const Served& served) { lie(*bench.rig, served); };
      std::array<std::byte, 8> bytes{};
      EntropyRequest request(bytes);
      const auto refused = bench.run(request, 100s);
      ASSERT_FALSE(refused);
      EXPECT_EQ(refused.error().code, Errc::kDevice);
      EXPECT_EQ(refused.error().step, "ring");
      EXPECT_TRUE(bench.requests->failed().has_value());
      EXPECT_EQ(std::count(bytes.begin(), bytes.end(), std::byte{0}), 8) << "nothing of it is believed";
      EntropyRequest next(bytes);
      EXPECT_EQ(bench.run(next, 100s).error().step, "ring");
    }
  });
}

TEST_P(Requests, AnswersOfADiskAreBelievedOnlyWhenStatusAndLengthFit) {
  struct Answer {
    int status;  // -1: none is written
    std::uint32_t length;
    std::optional<Errc> error;
  };
  const bool legacy = GetParam().legacy;
  const Answer answers[] = {{0, 513, std::nullopt},
                            {1, 513, Errc::kSystem},
                            {1, 1, Errc::kSystem},
                            {2, 513, Errc::kUnavailable},
                            {3, 513, Errc::kDevice},
                            {0xfe, 513, Errc::kDevice},
                            {-1, 513, Errc::kDevice},
                            // A legacy device's lengths mean nothing.
                            {0, 0, legacy ? std::nullopt : std::optional(Errc::kDevice)},
                            {0, 1, legacy ? std::nullopt : std::optional(Errc::kDevice)},
                            {0, 512, legacy ? std::nullopt : std::optional(Errc::kDevice)}};
  simulate([&, shape = GetParam()] {
    for (const Answer& answer : answers) {
      RigBench bench(shape, kDisk);
      bench.rig->answer = [&](const Served& served) {
        ASSERT_EQ(served.pieces.size(), 3U);
        EXPECT_FALSE(served.pieces[0].device_writes);
        virtio::spec::blk::Header header{};
        std::memcpy(&header, served.pieces[0].at, sizeof header);
        EXPECT_EQ(header.type, virtio::spec::blk::kTypeIn);
        EXPECT_EQ(header.sector, 7U);
        std::memset(served.pieces[1].at, 0x42, served.pieces[1].len);
        if (answer.status >= 0) *served.pieces[2].at = static_cast<std::byte>(answer.status);
        bench.rig->use(served, answer.length);
      };
      std::vector<std::byte> data(512, std::byte{0xee});
      auto request = BlockRequest::read(AnswerRules{.ignore_length = legacy}, 7, data);
      const auto result = bench.run(request, 1s);
      EXPECT_EQ(result.has_value(), !answer.error.has_value()) << answer.status << " with " << answer.length;
      if (!result) {
        EXPECT_EQ(result.error().code, answer.error.value()) << answer.status << " with " << answer.length;
        EXPECT_EQ(result.error().sys_errno, answer.status == 1 ? EIO : 0);
      }
      EXPECT_EQ(data[511], result ? std::byte{0x42} : std::byte{0xee}) << "data of a bad answer reach nobody";
      EXPECT_FALSE(bench.requests->failed().has_value()) << "one bad answer does not end the others";
    }
  });
}

TEST_P(Requests, WithoutAnAnswerTheVerdictComesAtTheDeadlineAndNotBefore) {
  simulate([shape = GetParam()] {
#if defined(UPCI_SIM)
    constexpr platform::Nanoseconds kLimit = 180s;
#else
    constexpr platform::Nanoseconds kLimit = 200ms;
#endif
    RigBench bench(shape, kSmall);
    std::array<std::byte, 8> bytes{};
    EntropyRequest request(bytes);
    const platform::TimePoint begin = platform::Clock::now();
    const auto refused = bench.run(request, kLimit);
    const platform::Nanoseconds took = platform::Clock::now() - begin;
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().verdict, Verdict::kStuck);
    EXPECT_EQ(refused.error().step, "request");
    EXPECT_GE(took, kLimit);
    EXPECT_LE(took, at_most(kLimit + 2ms));
    EXPECT_EQ(bench.requests->stats().given_up, 1U);
  });
}

TEST_P(Requests, ALateAnswerReachesNobodyAndFreesItsMemoryForTheNext) {
  simulate([shape = GetParam()] {
    RigBench bench(shape, kSmall);
    std::vector<std::array<std::byte, 8>> lost(bench.requests->slots());
    for (std::size_t i = 0; i < lost.size(); ++i) {
      // On a busy machine one's time may be over before its turn comes: then another one is lost.
      for (int tries = 0; tries < 100 && bench.requests->stats().submitted <= i; ++tries) {
        EntropyRequest request(lost[i]);
        EXPECT_EQ(bench.run(request, 10ms).error().verdict, Verdict::kStuck);
      }
      ASSERT_EQ(bench.requests->stats().submitted, i + 1);
    }
    // All memory is the device's now: a further request has none, and is not even submitted.
    const auto submitted = bench.requests->stats().submitted;
    std::array<std::byte, 8> bytes{};
    EntropyRequest waits(bytes);
    EXPECT_EQ(bench.run(waits, 10ms).error().verdict, Verdict::kStuck);
    EXPECT_EQ(bench.requests->stats().submitted, submitted);

    // The device returns one after all, and goes on writing to the others as long as it likes.
    for (const Served& served : bench.rig->held) fill(served, std::byte{0xdd});
    const Served returned = bench.rig->held.back();
    bench.rig->held.pop_back();
    bench.rig->use(returned, 8);
    bench.rig->answer = [&](const Served& served) {
      for (const Served& old : bench.rig->held) EXPECT_NE(served.pieces[0].at, old.pieces[0].at) << "memory used twice";
      fill(served, std::byte{0x11});
      for (const Served& old : bench.rig->held) fill(old, std::byte{0xdd});
      bench.rig->use(served, 8);
    };
    for (int i = 0; i < 20; ++i) {
      EntropyRequest request(bytes);
      ASSERT_TRUE(bench.run(request, 1s));
      EXPECT_EQ(std::count(bytes.begin(), bytes.end(), std::byte{0x11}), 8);
    }
    for (const auto& old : lost) EXPECT_EQ(std::count(old.begin(), old.end(), std::byte{0}), 8);
    EXPECT_EQ(bench.requests->stats().returned_late, 1U);
  });
}

TEST_P(Requests, ADeviceThatAsksToBeResetOrHasLeftIsSeenLongBeforeTheDeadline) {
  simulate([shape = GetParam()] {
    for (const bool gone : {false, true}) {
      RigBench bench(shape, kSmall);
      bench.rig->on_status = [&] {
        bench.rig->the_status.store(gone ? 0xff : 0x4f);
        bench.rig->rig_device().control_.present_ = !gone;
      };
      std::array<std::byte, 8> bytes{};
      EntropyRequest request(bytes);
      const platform::TimePoint begin = platform::Clock::now();
      const auto refused = bench.run(request, 1000s);
      ASSERT_FALSE(refused);
      EXPECT_EQ(refused.error().verdict, gone ? Verdict::kGone : Verdict::kNeedsReset);
      EXPECT_LE(platform::Clock::now() - begin, at_most(60ms));
      EXPECT_EQ(bench.run(request, 1000s).error().verdict, refused.error().verdict) << "and so it stays";
    }
  });
}

TEST_P(Requests, AllOnesFromADeviceThatIsThereAreStuckAtTheDeadline) {
  simulate([shape = GetParam()] {
    RigBench bench(shape, kSmall);
    bench.rig->the_status.store(0xff);
    std::array<std::byte, 8> bytes{};
    EntropyRequest request(bytes);
    EXPECT_EQ(bench.run(request, 150ms).error().verdict, Verdict::kStuck);
  });
}

TEST_P(Requests, EachThreadGetsItsOwnAnswerAlthoughTheyAreMoreThanTheSlots) {
  simulate([shape = GetParam()] {
    RigBench bench(shape, kDisk);
    // Answers in the wrong order: the newest of those that one doorbell announces first.
    bench.rig->answer = [&](const Served& served) { bench.rig->held.push_front(served); };
    bench.rig->after_bell = [&] {
      for (; !bench.rig->held.empty(); bench.rig->held.pop_front()) {
        const Served& one = bench.rig->held.front();
        virtio::spec::blk::Header header{};
        std::memcpy(&header, one.pieces[0].at, sizeof header);
        std::memset(one.pieces[1].at, static_cast<int>(header.sector), one.pieces[1].len);
        *one.pieces[2].at = std::byte{0};
        bench.rig->use(one, one.pieces[1].len + 1);
      }
    };
    platform::Atomic<int> good{0};
    std::vector<platform::Thread> threads;
    for (int t = 0; t < 3; ++t) {
      auto thread = platform::Thread::create({.name = "caller"}, [&, t] {
        // More at once than there are slots.
        std::vector<std::vector<std::byte>> data(6, std::vector<std::byte>(1024));
        std::vector<BlockRequest> requests;
        std::vector<virtio::Request*> pointers;
        for (std::size_t i = 0; i < data.size(); ++i)
          requests.push_back(BlockRequest::read({}, static_cast<std::uint64_t>(t) * 6 + i + 1, data[i]));
        for (BlockRequest& request : requests) pointers.push_back(&request);
        bench.requests->run(pointers, Deadline::after(10s));
        for (std::size_t i = 0; i < data.size(); ++i) {
          const auto value = static_cast<std::byte>(static_cast<std::size_t>(t) * 6 + i + 1);
          if (requests[i].result && std::count(data[i].begin(), data[i].end(), value) == 1024) good.fetch_add(1);
        }
      });
      ASSERT_TRUE(thread);
      threads.push_back(std::move(*thread));
    }
    for (platform::Thread& thread : threads) thread.join();
    EXPECT_EQ(good.load(), 18);
  });
}

TEST_P(Requests, RemovalEndsThemWithAResult) {
  simulate([shape = GetParam()] {
    RigBench bench(shape, kSmall);
    platform::Atomic<bool> inside{false};
    bench.rig->on_status = [&] { inside.store(true); };
    Result<void> result;
    std::array<std::byte, 8> bytes{};
    auto thread = platform::Thread::create({.name = "caller"}, [&] {
      EntropyRequest request(bytes);
      result = bench.run(request, 100s);
    });
    ASSERT_TRUE(thread);
    while (!inside.load()) platform::this_thread::sleep_until(platform::Clock::now() + 1ms);
    const platform::TimePoint begin = platform::Clock::now();
    EXPECT_TRUE(bench.requests->quiesce(Deadline::after(400ms)));
    EXPECT_GE(platform::Clock::now() - begin, 200ms) << "half of the time it may still end by itself";
    thread->join();
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, Errc::kState);
    EntropyRequest late(bytes);
    EXPECT_EQ(bench.run(late, 1s).error().code, Errc::kState) << "nothing begins any more";
  });
}

TEST(RequestQueue, NeedsADeadlineAndOneOfItsQueues) {
  simulate([] {
    RigBench bench({}, kSmall);
    std::array<std::byte, 8> bytes{};
    EntropyRequest request(bytes);
    virtio::Request* const one = &request;
    bench.requests->run(std::span(&one, 1), Deadline::never());
    EXPECT_EQ(request.result.error().code, Errc::kInvalid);
    for (const int queue : {1, -2, 1000}) {
      bench.requests->run(std::span(&one, 1), Deadline::after(1s), queue);
      EXPECT_EQ(request.result.error().code, Errc::kInvalid) << queue;
    }
  });
}

}  // namespace
}  // namespace upci::virtio_tests
