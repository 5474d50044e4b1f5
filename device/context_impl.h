// SPDX-License-Identifier: Apache-2.0
// Private. What a Context holds.
#pragma once

#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "base/log.h"
#include "device/context.h"
#include "device/job.h"
#include "device/placement.h"

namespace upci::inline UPCI_VARIANT::device {

class WithdrawalWatch;  // device/withdrawal.h

struct Context::Impl {
  ~Impl();
  explicit Impl(Options the_options, std::unique_ptr<Engine> the_engine)
      : options(std::move(the_options)), engine(std::move(the_engine)), placement(engine->topology()) {}

  struct Entry {
    enum class State : std::uint8_t { kProbing, kBound, kSuspending, kRemoving };
    std::shared_ptr<Device> device;
    State state = State::kProbing;
    bool frozen = false;                     // kBound: by freeze()
    std::unique_ptr<Bound> bound;            // exactly while kBound; a job has it while kSuspending
    Bound* instance = nullptr;               // while kBound or kSuspending: `bound`, wherever it is
    std::shared_ptr<WithdrawalWatch> watch;  // the same; stopped before `bound` goes
  };

  const Options options;
  std::unique_ptr<Engine> engine;                               // const until the destructor
  Placement placement;                                          // its own rules
  const std::shared_ptr<Bell> bell = std::make_shared<Bell>();  // rung for every job of this context
  platform::Atomic<bool> closing{false};                        // atomic; set once

  platform::Mutex mutex;
  std::vector<std::shared_ptr<Driver>> drivers;      // mutex; jobs share them, a late one may outlive the context
  std::unordered_map<const Device*, Entry> entries;  // mutex; devices that are being probed, bound or being removed
  std::vector<Stray> strays;                         // mutex; jobs that were given up and have not come back
  unsigned calls = 0;                                // mutex; probe() and remove() that have not returned

  /// Takes the device for a probe. Errors: kState.
  Result<void> take_for_probe(const std::shared_ptr<Device>& device);
  void untake(const Device& device);
  std::shared_ptr<Driver> driver_for(const Device& device);
  void publish(const std::shared_ptr<Device>& device, std::unique_ptr<Bound> bound);
  void add_stray(const std::shared_ptr<Job>& job);
  Result<void> remove(const std::shared_ptr<Device>& device, Deadline deadline);
  /// freeze() and restore().
  Result<void> suspend(const std::shared_ptr<Device>& device, bool freeze, Deadline deadline);

  enum class Ended : std::uint8_t {
    kInTime,  // the job is kJudged
    kLate,    // the same, but only after the device had been given up
    kHung,    // not even then: the job was given up
  };
  /// Runs the job on a CPU of the device's node, and gives the device up when it has not ended by `limit`.
  Ended run_bounded(const std::shared_ptr<Job>& job, const std::shared_ptr<Device>& device, platform::TimePoint limit);
};

/// While it lives the destructor of the context waits.
class ContextCall {
 public:
  explicit ContextCall(Context::Impl& impl) : ContextCall(impl, std::unique_lock(impl.mutex)) {}
  /// Null once the destructor has begun: it may not look at the count again. It sets `closing` before it takes the lock.
  static std::unique_ptr<ContextCall> unless_closing(Context::Impl& impl) {
    std::unique_lock lock(impl.mutex);
    if (impl.closing.load(std::memory_order_acquire)) return nullptr;
    return std::unique_ptr<ContextCall>(new ContextCall(impl, std::move(lock)));
  }
  ~ContextCall() {
    {
      const std::lock_guard lock(impl_.mutex);
      --impl_.calls;
    }
    bell_->ring();  // the context may be gone by now
  }
  ContextCall(const ContextCall&) = delete;
  ContextCall& operator=(const ContextCall&) = delete;

 private:
  ContextCall(Context::Impl& impl, std::unique_lock<platform::Mutex>) : impl_(impl), bell_(impl.bell) { ++impl_.calls; }
  Context::Impl& impl_;
  const std::shared_ptr<Bell> bell_;
};

}  // namespace upci::inline UPCI_VARIANT::device
