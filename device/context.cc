// SPDX-License-Identifier: Apache-2.0
#include "device/context.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/stack.h"
#include "device/context_impl.h"
#include "device/probe_batch.h"
#include "device/withdrawal.h"

namespace upci::inline UPCI_VARIANT::device {
namespace {

bool all_back(const std::vector<Stray>& strays) { return std::all_of(strays.begin(), strays.end(), is_back); }

/// An engine that must outlive its context, because a worker is still inside a driver.
struct KeptEngine {
  std::unique_ptr<Engine> engine;
  std::vector<Stray> strays;
};

/// Reachable for the life of the process; swept whenever a context is made or destroyed.
struct KeptEngines {
  platform::Mutex mutex;
  std::vector<KeptEngine> kept;  // mutex

  static KeptEngines& all() {
    static KeptEngines* const the_engines = new KeptEngines;
    return *the_engines;
  }

  void add(KeptEngine engine) {
    const std::lock_guard lock(mutex);
    kept.push_back(std::move(engine));
  }

  void sweep() {
    std::vector<KeptEngine> over;  // destroyed without the lock: an engine's destructor waits for its workers
    const std::lock_guard lock(mutex);
    for (KeptEngine& k : kept) {
      if (all_back(k.strays) && k.engine->current_worker_cpu() < 0) over.push_back(std::move(k));
    }
    std::erase_if(kept, [](const KeptEngine& k) { return k.engine == nullptr; });
  }
};

}  // namespace

// --- Context::Impl ---

Context::Impl::~Impl() = default;

Result<void> Context::Impl::take_for_probe(const std::shared_ptr<Device>& device) {
  if (device->engine_ != engine.get()) {
    return fail(Errc::kState, device->name() + ": the device does not belong to this context",
                "add_device() comes first");
  }
  if (closing.load(std::memory_order_acquire))
    return fail(Errc::kState, device->name() + ": the context is being closed");
  if (device->state()->abandoned()) {
    return fail(Errc::kState, device->name() + ": the device was given up before", "open it anew to try again");
  }
  const std::lock_guard lock(mutex);
  const auto [it, fresh] = entries.try_emplace(device.get());
  if (!fresh) {
    switch (it->second.state) {
      case Entry::State::kProbing: return fail(Errc::kState, device->name() + ": the device is being probed already");
      case Entry::State::kBound:
      case Entry::State::kSuspending: return fail(Errc::kState, device->name() + ": the device is bound already");
      case Entry::State::kRemoving: return fail(Errc::kState, device->name() + ": the device is being removed");
    }
  }
  it->second.device = device;
  return {};
}

void Context::Impl::untake(const Device& device) {
  std::unordered_map<const Device*, Entry>::node_type entry;  // destroyed without the lock: it may close the device
  const std::lock_guard lock(mutex);
  entry = entries.extract(&device);
}

std::shared_ptr<Driver> Context::Impl::driver_for(const Device& device) {
  std::vector<std::shared_ptr<Driver>> candidates;
  {
    const std::lock_guard lock(mutex);
    candidates = drivers;
  }
  const auto it = std::find_if(candidates.begin(), candidates.end(), [&](const auto& d) { return d->match(device); });
  return it == candidates.end() ? nullptr : *it;
}

void Context::Impl::publish(const std::shared_ptr<Device>& device, std::unique_ptr<Bound> bound) {
  const auto watch = std::make_shared<WithdrawalWatch>(*this, device, *bound);
  {
    const std::lock_guard lock(mutex);
    Entry& entry = entries.at(device.get());
    entry.instance = bound.get();
    entry.bound = std::move(bound);
    entry.watch = watch;
    entry.state = Entry::State::kBound;
  }
  // Only now: a withdrawal removes the device.
  if (auto started = watch->start(); !started) {
    log::warn("{}: its withdrawal cannot be watched for: {}", device->name(), started.error().message());
  }
}

void Context::Impl::add_stray(const std::shared_ptr<Job>& job) {
  const std::lock_guard lock(mutex);
  std::erase_if(strays, is_back);
  strays.push_back(job);
}

// --- Context ---

Context::Context(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}

Result<std::unique_ptr<Context>> Context::create(Options options) {
  KeptEngines::all().sweep();
  UPCI_TRY_ASSIGN(std::unique_ptr<Engine> engine, Engine::create(options.engine));
  return std::unique_ptr<Context>(new Context(std::make_unique<Impl>(std::move(options), std::move(engine))));
}

Context::~Context() {
  Impl& impl = *impl_;
  impl.closing.store(true, std::memory_order_release);
  std::vector<std::shared_ptr<Device>> devices;
  {
    const std::lock_guard lock(impl.mutex);
    for (auto& [key, entry] : impl.entries) {
      devices.push_back(entry.device);
      // Its waits end now; bound devices are quiesced in order below.
      if (entry.state == Impl::Entry::State::kProbing) devices.back()->abandon();
    }
  }
  impl.bell->ring();
  // Calls end by themselves: each of their waits is bounded, and now ends early.
  for (;;) {
    const std::uint32_t seen = impl.bell->rings();
    {
      const std::lock_guard lock(impl.mutex);
      if (impl.calls == 0) break;
    }
    impl.bell->wait(seen, platform::kNever);
  }
  for (const auto& device : devices) {
    if (bound(*device) == nullptr) continue;
    if (auto done = impl.remove(device, Deadline::after(impl.options.remove_timeout)); !done) {
      log::warn("{}: removed with an error: {}", device->name(), done.error().message());
    }
  }
  devices.clear();

  const Deadline patience = Deadline::after(impl.options.engine.teardown);
  for (;;) {
    const std::uint32_t seen = impl.bell->rings();
    if (all_back(impl.strays) || patience.expired()) break;
    impl.bell->wait(seen, patience.when());
  }
  if (!all_back(impl.strays)) {
    log::warn("a worker is still inside a driver: its engine stays until it comes back");
    KeptEngines::all().add({std::move(impl.engine), std::move(impl.strays)});
  }
  impl.strays.clear();
  impl.engine.reset();
  KeptEngines::all().sweep();
}

Engine& Context::engine() noexcept { return *impl_->engine; }

void Context::add_driver(std::unique_ptr<Driver> driver) {
  const std::lock_guard lock(impl_->mutex);
  impl_->drivers.push_back(std::move(driver));
}

Result<void> Context::add_device(std::shared_ptr<Device> device) {
  if (!device) return fail(Errc::kInvalid, "no device was given");
  const std::lock_guard lock(device->mutex_);
  if (device->engine_ != nullptr)
    return fail(Errc::kState, device->name() + ": the device belongs to a context already");
  device->engine_ = impl_->engine.get();
  return {};
}

std::vector<Report> Context::probe(std::span<const std::shared_ptr<Device>> devices, platform::Nanoseconds timeout) {
  const ContextCall call(*impl_);
  return ProbeBatch(*impl_, timeout, capture_stack()).run(devices);
}

Report Context::probe(const std::shared_ptr<Device>& device, platform::Nanoseconds timeout) {
  const ContextCall call(*impl_);
  return std::move(ProbeBatch(*impl_, timeout, capture_stack()).run(std::span(&device, 1)).front());
}

Bound* Context::bound(const Device& device) noexcept {
  const std::lock_guard lock(impl_->mutex);
  const auto it = impl_->entries.find(&device);
  return it == impl_->entries.end() ? nullptr : it->second.instance;
}

Result<void> Context::remove(const std::shared_ptr<Device>& device, Deadline deadline) {
  const ContextCall call(*impl_);
  if (!device) return fail(Errc::kInvalid, "no device was given");
  return impl_->remove(device, deadline);
}

Result<void> Context::freeze(const std::shared_ptr<Device>& device, Deadline deadline) {
  const ContextCall call(*impl_);
  if (!device) return fail(Errc::kInvalid, "no device was given");
  return impl_->suspend(device, true, deadline);
}

Result<void> Context::restore(const std::shared_ptr<Device>& device, Deadline deadline) {
  const ContextCall call(*impl_);
  if (!device) return fail(Errc::kInvalid, "no device was given");
  return impl_->suspend(device, false, deadline);
}

}  // namespace upci::inline UPCI_VARIANT::device
