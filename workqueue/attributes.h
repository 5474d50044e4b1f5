// SPDX-License-Identifier: Apache-2.0
// What a workqueue is asked to be: flags, and the attributes of unbound ones. Kernel: include/linux/workqueue.h.
#pragma once

#include <cstdint>
#include <string_view>

#include "workqueue/cpu_set.h"

namespace upci::inline UPCI_VARIANT {

/// Flags of alloc_workqueue, by the kernel's names. They can be or-ed.
using WqFlags = std::uint32_t;
inline constexpr WqFlags kWqBh = 1U << 0;              // runs in the CPU's bottom-half worker; must not sleep
inline constexpr WqFlags kWqUnbound = 1U << 1;         // not bound to a CPU; concurrency is not managed
inline constexpr WqFlags kWqFreezable = 1U << 2;       // takes part in freeze_workqueues()
inline constexpr WqFlags kWqMemReclaim = 1U << 3;      // has a rescuer, so that it progresses without new threads
inline constexpr WqFlags kWqHighpri = 1U << 4;         // nice -20
inline constexpr WqFlags kWqCpuIntensive = 1U << 5;    // its items do not count as running
inline constexpr WqFlags kWqSysfs = 1U << 6;           // its attributes may be changed from outside (`upci wq set`)
inline constexpr WqFlags kWqPowerEfficient = 1U << 7;  // unbound when Engine::Options::power_efficient, else per CPU
inline constexpr WqFlags kWqPercpu = 1U << 8;          // bound to CPUs; the default, said aloud

inline constexpr int kWqMaxActive = 2048;      // the most that max_active may be. Kernel: WQ_MAX_ACTIVE
inline constexpr int kWqDefaultActive = 1024;  // what 0 stands for. Kernel: WQ_DFL_ACTIVE
inline constexpr int kWqDefaultMinActive = 8;  // per node, for unbound ones. Kernel: WQ_DFL_MIN_ACTIVE

/// Which CPUs share the workers of an unbound workqueue. Kernel: enum wq_affn_scope.
enum class AffinityScope : std::uint8_t { kDefault, kCpu, kSmt, kCache, kCacheShard, kNuma, kSystem };

/// "default", "cpu", "smt", "cache", "cache_shard", "numa", "system".
std::string_view to_string(AffinityScope scope) noexcept;
/// Errors: kInvalid.
Result<AffinityScope> parse_affinity_scope(std::string_view name);

/// Attributes of an unbound workqueue. A value. Kernel: struct workqueue_attrs.
struct WorkqueueAttrs {
  int nice = 0;                                   // -20..19, of its workers
  CpuSet cpumask = {};                            // CPUs that its items may run on; empty: all
  AffinityScope scope = AffinityScope::kDefault;  // kDefault: the engine's default scope
  bool strict = false;                            // its workers never leave their pod of the scope

  friend bool operator==(const WorkqueueAttrs&, const WorkqueueAttrs&) = default;
};

}  // namespace upci::inline UPCI_VARIANT
