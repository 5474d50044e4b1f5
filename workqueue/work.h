// SPDX-License-Identifier: Apache-2.0
// Work: one deferred call. Intrusive: queueing it allocates nothing. The kernel's struct work_struct.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "base/platform.h"

namespace upci::inline UPCI_VARIANT {

class Work;
struct WorkAccess;

/// Links a Work into a list. Both fields: whoever owns PENDING until the work is in a pool's inbox, where `next` leads to
/// the one queued before it; from then on the lock of that pool.
struct WorkNode {
  WorkNode* prev = nullptr;
  WorkNode* next = nullptr;
};

/// What a Work calls. The identity of the function (not of the object) decides what counts as a collision (rule 7).
class WorkFunction {
 public:
  using Plain = void (*)(Work&);

  explicit WorkFunction(Plain function) noexcept : invoke_(&invoke_plain) {
    std::memcpy(target_, &function, sizeof function);
  }
  template <class T>
  WorkFunction(T* object, void (T::*method)(Work&)) noexcept : invoke_(&invoke_method<T>), object_(object) {
    static_assert(sizeof method <= sizeof target_);
    std::memcpy(target_, &method, sizeof method);
  }

  void operator()(Work& work) const { invoke_(*this, work); }
  /// False for one that was zeroed or made of a null function.
  explicit operator bool() const noexcept {
    static constexpr std::byte kNone[sizeof target_] = {};
    return invoke_ != nullptr && std::memcmp(target_, kNone, sizeof target_) != 0;
  }
  /// A number that tells functions apart, for tables and traces: the address of a plain function or of a method.
  std::uintptr_t address() const noexcept {
    std::uintptr_t address = 0;
    std::memcpy(&address, target_, sizeof address);
    return address;
  }
  friend bool operator==(const WorkFunction& a, const WorkFunction& b) noexcept {
    return a.invoke_ == b.invoke_ && std::memcmp(a.target_, b.target_, sizeof a.target_) == 0;
  }

 private:
  static void invoke_plain(const WorkFunction& self, Work& work) {
    Plain function;
    std::memcpy(&function, self.target_, sizeof function);
    function(work);
  }
  template <class T>
  static void invoke_method(const WorkFunction& self, Work& work) {
    void (T::*method)(Work&);
    std::memcpy(&method, self.target_, sizeof method);
    (static_cast<T*>(self.object_)->*method)(work);
  }

  void (*invoke_)(const WorkFunction&, Work&);
  void* object_ = nullptr;
  std::byte target_[2 * sizeof(void*)] = {};
};

/// A deferred call. It must outlive its being queued, but not its run: the function may free it.
///
/// Either a free function or a method:  Work work{&function};  Work work{this, &Nic::bottom_half};
/// An owner that has a member `adopt_work(Work&)` (device::Bound does) is told of the work, so that it can be disabled
/// before the owner's destructor runs.
class Work : private WorkNode {
 public:
  explicit Work(WorkFunction::Plain function) noexcept : function_(function) {}
  template <class T, class Base>
    requires std::is_base_of_v<Base, T>
  Work(T* object, void (Base::*method)(Work&)) : function_(static_cast<Base*>(object), method) {
    if constexpr (requires { object->adopt_work(*this); }) object->adopt_work(*this);
  }
  Work(const Work&) = delete;
  Work& operator=(const Work&) = delete;
  ~Work() = default;

  /// True from the queueing that took it until just before its function runs. A hint: it may change at any time.
  bool is_pending() const noexcept { return (data_.load(std::memory_order_relaxed) & kPending) != 0; }

 private:
  friend struct WorkAccess;  // workqueue/work_data.h: how the engine reads and changes a work

  static constexpr std::uint64_t kPending = 1;

  platform::Atomic<std::uint64_t> data_{0};  // atomic; its fields are described in workqueue/work_data.h
  const WorkFunction function_;              // const
  std::uint64_t queued_at_ = 0;  // when it was queued, in ns, while latencies are measured: as WorkNode::next
};

}  // namespace upci::inline UPCI_VARIANT
