// SPDX-License-Identifier: Apache-2.0
// The legacy interface and the network driver on it, with the fuzzer as their device: registers, rings and memory.
#include "tests/fuzz/net_session.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  upci::fuzz::run_net_session({data, size}, true);
  return 0;
}
