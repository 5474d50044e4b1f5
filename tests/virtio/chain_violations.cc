// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <functional>
#include <initializer_list>

#include "tests/virtio/lint_cases.h"
#include "tests/virtio/lint_rig.h"
#include "virtio/lint/chain_lint.h"
#include "virtio/spec/blk.h"
#include "virtio/spec/net.h"

namespace upci::virtio_tests {
namespace {

using enum lint::ChainRule;
namespace feature = virtio::spec::feature;
namespace net = virtio::spec::net_feature;
namespace net_spec = virtio::spec::net;
namespace blk = virtio::spec::blk;
using virtio::Segment;
using virtio::spec::mask_of;

constexpr std::uint16_t kTransmit = 1;
constexpr std::uint16_t kControl = 2;

/// A device of a type that has accepted features, and buffers in its memory.
struct ChainRig : LintRig {
  ChainRig(std::uint32_t type, std::uint64_t wanted, bool by_legacy = false)
      : LintRig(type, wanted), chains(registers, map) {
    if (by_legacy) {
      legacy_present(wanted, wanted);
    } else {
      settle();
    }
  }
  /// A segment with these bytes, or so many zeroes.
  Segment out(const std::vector<std::uint8_t>& bytes, std::uint32_t length = 0) {
    const auto size = length != 0 ? length : static_cast<std::uint32_t>(bytes.size());
    if (!bytes.empty()) std::memcpy(memory.data() + used, bytes.data(), bytes.size());
    used += size;
    return {.iova = kRings + used - size, .len = size, .device_writes = false};
  }
  Segment in(std::uint32_t length) {
    used += length;
    return {.iova = kRings + used - length, .len = length, .device_writes = true};
  }
  void send(std::uint16_t queue, std::vector<Segment> chain) { chains.on_chain(queue, chain); }
  /// A frame of 60 bytes behind this header.
  void frame(std::vector<std::uint8_t> header, std::uint16_t queue = kTransmit) {
    header.resize(net_spec::kHeaderBytes);
    send(queue, {out(header), out({}, 60)});
  }
  void command(const std::vector<std::uint8_t>& bytes) {
    send(kControl, {out({bytes[0], bytes[1]}), rest(bytes), in(1)});
  }
  Segment rest(const std::vector<std::uint8_t>& bytes) { return out({bytes.begin() + 2, bytes.end()}); }
  void request(std::uint8_t type, std::uint8_t sector, std::vector<Segment> data) {
    std::vector<std::uint8_t> header(sizeof(blk::Header));
    header[0] = type;
    header[8] = sector;
    data.insert(data.begin(), out(header));
    data.push_back(in(1));
    send(0, std::move(data));
  }

  std::uint32_t used = 0;
  lint::ChainLint chains;
};

Violation in_type(std::uint32_t type, lint::ChainRule rule, std::uint64_t features, std::function<void(ChainRig&)> act,
                  bool by_legacy = false) {
  return {rule, [=] {
            ChainRig rig(type, features, by_legacy);
            act(rig);
            return Counted{rig.chains.violations(rule), rig.chains.violations()};
          }};
}
Violation of_card(lint::ChainRule rule, std::uint64_t features, std::function<void(ChainRig&)> act) {
  return in_type(1, rule, features, std::move(act));
}
Violation of_disk(lint::ChainRule rule, std::function<void(ChainRig&)> act) {
  return in_type(2, rule, 0, std::move(act));
}

std::vector<Violation> of_frames() {
  constexpr std::uint64_t kCsum = mask_of(net::kCsum);
  constexpr std::uint64_t kMtu = mask_of(net::kMtu);
  return {
      of_card(kNetNumBuffers, 0, [](ChainRig& rig) { rig.frame({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0}); }),
      of_card(kNetFlagsWithoutCsum, 0, [](ChainRig& rig) { rig.frame({net_spec::kHeaderNeedsCsum}); }),
      of_card(kNetFlagsOfDevice, kCsum, [](ChainRig& rig) { rig.frame({net_spec::kHeaderDataValid}); }),
      of_card(kNetGsoNotNegotiated, kCsum,
              [](ChainRig& rig) { rig.frame({net_spec::kHeaderNeedsCsum, net_spec::kGsoTcp4, 0, 0, 100, 0}); }),
      of_card(kNetGsoWithoutCsum, kCsum | mask_of(net::kHostTso4),
              [](ChainRig& rig) { rig.frame({0, net_spec::kGsoTcp4, 0, 0, 100, 0}); }),
      of_card(kNetChecksumOutside, kCsum,
              [](ChainRig& rig) { rig.frame({net_spec::kHeaderNeedsCsum, 0, 0, 0, 0, 0, 50, 0, 9, 0}); }),
      of_card(kNetTooLong, kMtu,
              [](ChainRig& rig) {
                rig.registers->config_read(net_spec::config::kMtu, 2, 1500);
                rig.send(kTransmit, {rig.out({}, 12), rig.out({}, 1519)});
              }),
      of_card(kNetHeaderShort, 0, [](ChainRig& rig) { rig.send(kTransmit, {rig.out({}, 12)}); }),
      in_type(
          1, kNetFraming, 0, [](ChainRig& rig) { rig.send(kTransmit, {rig.out({}, 70)}); }, true),
      of_card(kNetBufferShort, 0, [](ChainRig& rig) { rig.send(0, {rig.in(11)}); }),
      of_card(kNetTransmitEarly, mask_of(net::kMq) | mask_of(net::kCtrlVq),
              [](ChainRig& rig) {
                rig.registers->config_read(net_spec::config::kMaxPairs, 2, 2);
                rig.frame({}, 3);
              }),
  };
}

std::vector<Violation> of_commands() {
  constexpr std::uint64_t kVq = mask_of(net::kCtrlVq);
  constexpr std::uint64_t kRss = kVq | mask_of(net::kRss);
  // Hash types 0, 3 entries, 1 pair.
  const std::vector<std::uint8_t> three = {4, 1, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0};
  // Hash types 2, 1 entry, 1 pair.
  const std::vector<std::uint8_t> types = {4, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0};
  return {
      of_card(kNetCommandNotNegotiated, kVq, [](ChainRig& rig) { rig.command({net_spec::kControlRx, 0, 1}); }),
      of_card(
          kNetCommandLength, kVq | mask_of(net::kCtrlRx),
          [](ChainRig& rig) { rig.command({net_spec::kControlMac, net_spec::kMacTableSet, 1, 0, 0, 0, 0, 0, 0, 0}); }),
      of_card(kNetPairs, kVq | mask_of(net::kMq),
              [](ChainRig& rig) { rig.command({net_spec::kControlMq, net_spec::kMqPairsSet, 0, 0}); }),
      of_card(kNetOffloads, kVq | mask_of(net::kCtrlGuestOffloads),
              [](ChainRig& rig) {
                rig.command({net_spec::kControlOffloads, net_spec::kOffloadsSet, 2, 0, 0, 0, 0, 0, 0, 0});
              }),
      of_card(kNetRssTable, kRss, [three](ChainRig& rig) { rig.command(three); }),
      of_card(kNetRssHash, kRss,
              [types](ChainRig& rig) {
                rig.registers->config_read(net_spec::config::kHashTypes, 4, 1);
                rig.command(types);
              }),
      in_type(4, kRngReadable, 0, [](ChainRig& rig) { rig.send(0, {rig.out({}, 8), rig.in(8)}); }),
  };
}

std::vector<Violation> of_requests() {
  const auto capacity = [](ChainRig& rig) { rig.registers->config_read(blk::config::kCapacity, 4, 8); };
  const std::vector<std::uint8_t> unmap = {0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0};
  return {
      of_disk(kBlkBeyondCapacity,
              [capacity](ChainRig& rig) {
                capacity(rig);
                rig.request(blk::kTypeIn, 7, {rig.in(1024)});
              }),
      of_disk(kBlkFlushSector, [](ChainRig& rig) { rig.request(blk::kTypeFlush, 1, {}); }),
      of_disk(kBlkLength,
              [capacity](ChainRig& rig) {
                capacity(rig);
                rig.request(blk::kTypeOut, 0, {rig.out({}, 511)});
              }),
      of_disk(kBlkRanges, [](ChainRig& rig) { rig.request(blk::kTypeDiscard, 0, {rig.out({}, 17)}); }),
      of_disk(kBlkTooManyRanges,
              [](ChainRig& rig) {
                rig.registers->config_read(blk::config::kMaxWriteZeroesSeg, 4, 1);
                rig.request(blk::kTypeWriteZeroes, 0, {rig.out({}, 32)});
              }),
      of_disk(kBlkIdLength, [](ChainRig& rig) { rig.request(blk::kTypeGetId, 0, {rig.in(19)}); }),
      of_disk(kBlkUnmap, [unmap](ChainRig& rig) { rig.request(blk::kTypeDiscard, 0, {rig.out(unmap)}); }),
      in_type(
          2, kBlkFraming, 0,
          [capacity](ChainRig& rig) {
            capacity(rig);
            rig.send(0, {rig.out({}, 16 + 512), rig.in(1)});
          },
          true),
  };
}

}  // namespace

std::vector<Violation> chain_violations() {
  std::vector<Violation> all;
  for (const auto& part : {of_frames(), of_commands(), of_requests()}) all.insert(all.end(), part.begin(), part.end());
  return all;
}

}  // namespace upci::virtio_tests
