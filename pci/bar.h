// SPDX-License-Identifier: Apache-2.0
// A BAR as drivers see it: typed registers, checked bounds, one predicted branch on the way to a mapped register.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>

#include "base/error.h"
#include "base/platform.h"
#include "base/reg.h"
#include "device/state.h"
#include "pci/backend.h"

namespace upci::inline UPCI_VARIANT::pci {

/// What all copies of a Bar share. Kept alive by each of them, so that an access after abandonment finds it.
struct BarState {
  std::shared_ptr<Backend> backend;
  std::shared_ptr<device::DeviceState> device;
  unsigned index = 0;
  std::uint64_t size = 0;
  bool io = false;
  std::byte* mapping = nullptr;
  /// The mapping while accesses may go straight to it; nullptr while they are recorded (during a probe), trapped (no
  /// mapping) or void (after abandonment). Atomic, relaxed: a stale value means one more access to a live mapping.
  platform::Atomic<std::byte*> direct{nullptr};
};

/// A window of a BAR. A value: copies share the state. One thread at a time per register, as the device demands; no lock.
class Bar {
 public:
  Bar() = default;
  Bar(std::shared_ptr<BarState> state, std::uint64_t offset, std::uint64_t length) noexcept
      : state_(std::move(state)), offset_(offset), length_(length) {}

  explicit operator bool() const noexcept { return state_ != nullptr; }
  std::uint64_t size() const noexcept { return length_; }
  bool io() const noexcept { return state_ && state_->io; }
  unsigned index() const noexcept { return state_ ? state_->index : 0; }
  /// A part of this window. Errors: kDevice when it does not lie inside it (the numbers come from the device).
  Result<Bar> window(std::uint64_t offset, std::uint64_t length) const;

  template <class R>
    requires ReadableReg<R>
  typename R::Value read(std::string_view name = {}) const {
    return load<typename R::Value>(R::offset, name);
  }
  template <class R>
    requires WritableReg<R>
  void write(typename R::Value value, std::string_view name = {}) const {
    store<typename R::Value>(R::offset, value, name);
  }

  /// Untyped accesses. Outside the window: reads are all ones, writes are dropped, and the recorder notes it. `name` is the
  /// register's name in the flight recorder.
  template <class V>
  V load(std::uint64_t offset, std::string_view name = {}) const {
    if (offset > length_ || sizeof(V) > length_ - offset) [[unlikely]]
      return static_cast<V>(~V{});
    if (std::byte* direct = state_->direct.load(std::memory_order_relaxed)) [[likely]] {
      return *reinterpret_cast<const volatile V*>(direct + offset_ + offset);
    }
    return static_cast<V>(slow_read(offset, sizeof(V), name));
  }
  template <class V>
  void store(std::uint64_t offset, V value, std::string_view name = {}) const {
    if (offset > length_ || sizeof(V) > length_ - offset) [[unlikely]]
      return;
    if (std::byte* direct = state_->direct.load(std::memory_order_relaxed)) [[likely]] {
      *reinterpret_cast<volatile V*>(direct + offset_ + offset) = value;
      return;
    }
    slow_write(offset, sizeof(V), value, name);
  }

 private:
  std::uint64_t slow_read(std::uint64_t offset, unsigned width, std::string_view name) const;
  void slow_write(std::uint64_t offset, unsigned width, std::uint64_t value, std::string_view name) const;

  std::shared_ptr<BarState> state_;
  std::uint64_t offset_ = 0;
  std::uint64_t length_ = 0;
};

}  // namespace upci::inline UPCI_VARIANT::pci
