// SPDX-License-Identifier: Apache-2.0
// The peer's side: DPDK's virtio-user driver, written against DPDK's libraries, doing the same work as ours.
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_memory.h>
#include <rte_mempool.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <span>
#include <string>
#include <vector>

#include "bench/datapath/program.h"

namespace {

constexpr std::uint16_t kPort = 0;
// As many as our driver's pool has with one pair of rings.
constexpr unsigned kMbufs = 1535;
constexpr unsigned kMbufCache = 256;

class PeerPort {
 public:
  using Packet = rte_mbuf*;
  explicit PeerPort(rte_mempool& pool) : pool_(pool) {}

  std::size_t alloc(std::span<Packet> packets) {
    return rte_pktmbuf_alloc_bulk(&pool_, packets.data(), static_cast<unsigned>(packets.size())) == 0 ? packets.size()
                                                                                                      : 0;
  }
  static void free(std::span<Packet> packets) {
    rte_pktmbuf_free_bulk(packets.data(), static_cast<unsigned>(packets.size()));
  }
  static std::size_t send(std::span<Packet> packets) {
    return rte_eth_tx_burst(kPort, 0, packets.data(), static_cast<std::uint16_t>(packets.size()));
  }
  static std::size_t receive(std::span<Packet> packets) {
    return rte_eth_rx_burst(kPort, 0, packets.data(), static_cast<std::uint16_t>(packets.size()));
  }
  static std::byte* data(Packet packet) noexcept { return rte_pktmbuf_mtod(packet, std::byte*); }
  static void set_length(Packet packet, std::uint32_t length) noexcept {
    packet->data_len = static_cast<std::uint16_t>(length);
    packet->pkt_len = length;
  }

 private:
  rte_mempool& pool_;
};

int fail(const char* what, int error) {
  std::fprintf(stderr, "datapath_dpdk: %s: %s\n", what, rte_strerror(error < 0 ? -error : error));
  return 1;
}

/// DPDK without huge pages keeps its memory in pages of 4 KiB; what is not touched yet can become huge ones.
int advise_huge(const rte_memseg_list*, const rte_memseg* segment, void*) {
  return ::madvise(segment->addr, segment->len, MADV_HUGEPAGE) == 0 ? 0 : -1;
}

bool start_eal(const bench::datapath::Request& request) {
  std::string port = "net_virtio_user0,path=" + request.socket + ",queues=" + std::to_string(request.queues) +
                     ",queue_size=" + std::to_string(bench::datapath::kRing) +
                     (request.packed ? ",packed_vq=1" : ",packed_vq=0");
  for (const std::string& word : request.words) {
    if (word != "huge") port += "," + word;
  }
  const std::string cpu = std::to_string(request.cpu);
  std::vector<std::string> words = {"datapath_dpdk",
                                    "--lcores",
                                    "0@" + cpu,
                                    "--no-huge",
                                    "-m",
                                    "256",
                                    "--no-pci",
                                    "--no-shconf",
                                    "--no-telemetry",
                                    "--log-level=4",
                                    "--vdev",
                                    port,
                                    "--force-max-simd-bitwidth=512",
                                    "--file-prefix=upci" + std::to_string(::getpid())};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  return rte_eal_init(static_cast<int>(arguments.size()), arguments.data()) >= 0;
}

/// What the driver says of itself: DPDK has no call that names the features of a virtio port.
std::string negotiated() {
  rte_eth_burst_mode mode{};
  std::string text;
  if (rte_eth_rx_burst_mode_get(kPort, 0, &mode) == 0) text += std::string("receive: ") + mode.info;
  if (rte_eth_tx_burst_mode_get(kPort, 0, &mode) == 0) text += std::string(" transmit: ") + mode.info;
  return text;
}

int run(const bench::datapath::Request& request) {
  if (!start_eal(request)) return fail("rte_eal_init", rte_errno);
  if (request.has("huge") && rte_memseg_walk(advise_huge, nullptr) != 0) return fail("madvise", errno);
  rte_mempool* const pool =
      rte_pktmbuf_pool_create("frames", kMbufs, kMbufCache, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
  if (pool == nullptr) return fail("rte_pktmbuf_pool_create", rte_errno);
  rte_eth_conf conf{};
  if (const int error = rte_eth_dev_configure(kPort, 1, 1, &conf); error != 0)
    return fail("rte_eth_dev_configure", error);
  const unsigned node = SOCKET_ID_ANY;
  if (const int error = rte_eth_rx_queue_setup(kPort, 0, bench::datapath::kRing, node, nullptr, pool); error != 0)
    return fail("rte_eth_rx_queue_setup", error);
  if (const int error = rte_eth_tx_queue_setup(kPort, 0, bench::datapath::kRing, node, nullptr); error != 0)
    return fail("rte_eth_tx_queue_setup", error);
  if (const int error = rte_eth_dev_start(kPort); error != 0) return fail("rte_eth_dev_start", error);
  PeerPort port(*pool);
  const int code = bench::datapath::measure(port, request, negotiated());
  rte_eth_dev_stop(kPort);
  rte_eth_dev_close(kPort);
  rte_eal_cleanup();
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  const auto request = bench::datapath::parse(argc, argv);
  return request ? run(*request) : bench::datapath::usage("datapath_dpdk");
}
