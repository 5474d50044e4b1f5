// SPDX-License-Identifier: Apache-2.0
// One function for each adapter; CMake compiles those whose package is installed and defines BENCH_HAVE_<PEER>.
#pragma once

#include "bench/engine/peers/pool.h"

namespace bench {

PoolKind tbb_pool();
PoolKind asio_pool();
PoolKind glib_pool();
PoolKind uv_pool();
PoolKind moodycamel_pool();
PoolKind rte_ring_pool();

}  // namespace bench
