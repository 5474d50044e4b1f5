// SPDX-License-Identifier: Apache-2.0
// Work: one deferred call. Intrusive: queueing it allocates nothing. The kernel's struct work_struct.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "base/platform.h"
#include "workqueue/lifetime_guard.h"

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
    std::memcpy(&target_, &function, sizeof function);
  }
  template <class T>
  WorkFunction(T* object, void (T::*method)(Work&)) noexcept : invoke_(&invoke_method<T>), object_(object) {
    // Two words (Itanium C++ ABI, section 2.3). The second is an offset within T, which 32 bits hold.
    std::int64_t offset = 0;
    static_assert(sizeof method == sizeof target_ + sizeof offset);
    std::memcpy(&target_, &method, sizeof target_);
    std::memcpy(&offset, reinterpret_cast<const char*>(&method) + sizeof target_, sizeof offset);
    offset_ = static_cast<std::int32_t>(offset);
  }

  void operator()(Work& work) const { invoke_(*this, work); }
  /// False for one that was zeroed or made of a null function.
  explicit operator bool() const noexcept { return invoke_ != nullptr && (target_ != 0 || offset_ != 0); }
  /// A number that tells functions apart, for tables and traces: the address of a plain function or of a method.
  std::uintptr_t address() const noexcept { return target_; }
  friend bool operator==(const WorkFunction& a, const WorkFunction& b) noexcept {
    return a.invoke_ == b.invoke_ && a.target_ == b.target_ && a.offset_ == b.offset_;
  }

 private:
  static void invoke_plain(const WorkFunction& self, Work& work) {
    Plain function;
    std::memcpy(&function, &self.target_, sizeof function);
    function(work);
  }
  template <class T>
  static void invoke_method(const WorkFunction& self, Work& work) {
    void (T::*method)(Work&);
    const std::int64_t words[2] = {static_cast<std::int64_t>(self.target_), self.offset_};
    static_assert(sizeof method == sizeof words);
    std::memcpy(&method, words, sizeof words);
    (static_cast<T*>(self.object_)->*method)(work);
  }

  void (*invoke_)(const WorkFunction&, Work&);
  void* object_ = nullptr;
  std::uintptr_t target_ = 0;  // the function, or the first word of the method's pointer
  std::int32_t offset_ = 0;    // its second word
};

/// A deferred call. It must outlive its being queued, but not its run: the function may free it.
///
/// Either a free function or a method:  Work work{&function};  Work work{this, &Nic::bottom_half};
/// An owner that has a member `adopt_work(Work&)` (device::Bound does) is told of the work, so that it can be disabled
/// before the owner's destructor runs.
#if defined(UPCI_CHECK_LIFETIME)
class Work : private detail::LifetimeGuard, private WorkNode {
#else
class Work : private WorkNode {
#endif
 public:
  explicit Work(WorkFunction::Plain function) noexcept : function_(function) {}
  template <class T, class Base>
    requires std::is_base_of_v<Base, T>
  Work(T* object, void (Base::*method)(Work&)) : function_(static_cast<Base*>(object), method) {
    if constexpr (requires { object->adopt_work(*this); }) object->adopt_work(*this);
  }
  Work(const Work&) = delete;
  Work& operator=(const Work&) = delete;
#if defined(UPCI_CHECK_LIFETIME)
  ~Work() { detail::work_goes(*this); }
#else
  ~Work() = default;
#endif

  /// True from the queueing that took it until just before its function runs. A hint: it may change at any time.
  bool is_pending() const noexcept { return (data_.load(std::memory_order_relaxed) & kPending) != 0; }

 private:
  friend struct WorkAccess;  // workqueue/work_data.h: how the engine reads and changes a work

  static constexpr std::uint64_t kPending = 1;

  platform::Atomic<std::uint64_t> data_{0};  // atomic; its fields are described in workqueue/work_data.h
  std::uint64_t queued_at_ = 0;  // when it was queued, in ns, while latencies are measured: as WorkNode::next
  [[no_unique_address]] const WorkFunction function_;  // const; leaves room for the next one in its last word
  platform::Atomic<std::uint32_t> place_{0};           // atomic; written under the lock of the pool that it names
};
static_assert(sizeof(Work) <= 64);  // one cache line

}  // namespace upci::inline UPCI_VARIANT
