// SPDX-License-Identifier: Apache-2.0
// Atomic<T> of the simulation: a plain value with a scheduling point around each access. One OS thread runs everything, so
// each access is indivisible, and their order is sequentially consistent whatever order was asked for.
#pragma once

#include <atomic>  // for std::memory_order only
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/variant.h"

namespace upci::inline UPCI_VARIANT::platform {

namespace sim::detail {
class Scheduler;
extern Scheduler* active;  // the run that the scheduling points belong to, or nullptr
void step_slow() noexcept;
bool spurious_slow() noexcept;

/// A scheduling point: another fiber may run here.
inline void point() noexcept {
  if (active != nullptr) step_slow();
}
/// Whether what may fail without a cause shall do so now.
inline bool spurious() noexcept { return active != nullptr && spurious_slow(); }
}  // namespace sim::detail

template <class T>
class Atomic {
  static_assert(std::is_trivially_copyable_v<T>);
  static constexpr bool kArithmetic = std::is_integral_v<T> && !std::is_same_v<T, bool>;
  using Difference = std::conditional_t<std::is_pointer_v<T>, std::ptrdiff_t, T>;

 public:
  using value_type = T;
  static constexpr bool is_always_lock_free = true;

  constexpr Atomic() noexcept : value_() {}
  constexpr Atomic(T value) noexcept : value_(value) {}  // NOLINT(google-explicit-constructor): as std::atomic
  Atomic(const Atomic&) = delete;
  Atomic& operator=(const Atomic&) = delete;

  bool is_lock_free() const noexcept { return true; }
  T load(std::memory_order = std::memory_order_seq_cst) const noexcept {
    sim::detail::point();
    return value_;
  }
  operator T() const noexcept { return load(); }  // NOLINT(google-explicit-constructor): as std::atomic
  void store(T value, std::memory_order = std::memory_order_seq_cst) noexcept {
    sim::detail::point();
    value_ = value;
    sim::detail::point();
  }
  T operator=(T value) noexcept {  // NOLINT(misc-unconventional-assign-operator): as std::atomic
    store(value);
    return value;
  }
  T exchange(T value, std::memory_order = std::memory_order_seq_cst) noexcept {
    return change([value](T) { return value; });
  }

  bool compare_exchange_strong(T& expected, T desired, std::memory_order = std::memory_order_seq_cst,
                               std::memory_order = std::memory_order_seq_cst) noexcept {
    sim::detail::point();
    if (!(value_ == expected)) {
      expected = value_;
      return false;
    }
    value_ = desired;
    sim::detail::point();
    return true;
  }
  bool compare_exchange_weak(T& expected, T desired, std::memory_order success = std::memory_order_seq_cst,
                             std::memory_order failure = std::memory_order_seq_cst) noexcept {
    if (sim::detail::spurious()) {
      expected = value_;
      return false;
    }
    return compare_exchange_strong(expected, desired, success, failure);
  }

  T fetch_add(Difference by, std::memory_order = std::memory_order_seq_cst) noexcept
    requires(kArithmetic || std::is_pointer_v<T>)
  {
    return change([by](T old) { return static_cast<T>(old + by); });
  }
  T fetch_sub(Difference by, std::memory_order = std::memory_order_seq_cst) noexcept
    requires(kArithmetic || std::is_pointer_v<T>)
  {
    return change([by](T old) { return static_cast<T>(old - by); });
  }
  T fetch_or(T bits, std::memory_order = std::memory_order_seq_cst) noexcept
    requires kArithmetic
  {
    return change([bits](T old) { return static_cast<T>(old | bits); });
  }
  T fetch_and(T bits, std::memory_order = std::memory_order_seq_cst) noexcept
    requires kArithmetic
  {
    return change([bits](T old) { return static_cast<T>(old & bits); });
  }
  T fetch_xor(T bits, std::memory_order = std::memory_order_seq_cst) noexcept
    requires kArithmetic
  {
    return change([bits](T old) { return static_cast<T>(old ^ bits); });
  }
  T operator++() noexcept
    requires(kArithmetic || std::is_pointer_v<T>)
  {
    return static_cast<T>(fetch_add(1) + 1);
  }
  T operator++(int) noexcept
    requires(kArithmetic || std::is_pointer_v<T>)
  {
    return fetch_add(1);
  }
  T operator--() noexcept
    requires(kArithmetic || std::is_pointer_v<T>)
  {
    return static_cast<T>(fetch_sub(1) - 1);
  }
  T operator--(int) noexcept
    requires(kArithmetic || std::is_pointer_v<T>)
  {
    return fetch_sub(1);
  }
  T operator+=(Difference by) noexcept
    requires(kArithmetic || std::is_pointer_v<T>)
  {
    return static_cast<T>(fetch_add(by) + by);
  }
  T operator-=(Difference by) noexcept
    requires(kArithmetic || std::is_pointer_v<T>)
  {
    return static_cast<T>(fetch_sub(by) - by);
  }
  T operator|=(T bits) noexcept
    requires kArithmetic
  {
    return static_cast<T>(fetch_or(bits) | bits);
  }
  T operator&=(T bits) noexcept
    requires kArithmetic
  {
    return static_cast<T>(fetch_and(bits) & bits);
  }
  T operator^=(T bits) noexcept
    requires kArithmetic
  {
    return static_cast<T>(fetch_xor(bits) ^ bits);
  }

  /// Not a scheduling point. For the simulation itself, and for a test's look from outside.
  T peek() const noexcept { return value_; }

 private:
  template <class F>
  T change(F next) noexcept {
    sim::detail::point();
    const T old = value_;
    value_ = next(old);
    // A second point: what the fiber does next without an atomic access must bear a switch before it, too.
    sim::detail::point();
    return old;
  }

  T value_;
};

}  // namespace upci::inline UPCI_VARIANT::platform
