// SPDX-License-Identifier: Apache-2.0
#include "emulation/emu/nic.h"

#include <algorithm>
#include <array>
#include <climits>
#include <utility>

#include "emulation/emu/net_model.h"
#include "emulation/emu/vhost_path.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {
namespace {

std::unique_ptr<DataPath> make_data_path(const Options& options, VirtioCore& core, DmaTable& dma, UniqueFd wire,
                                         std::unique_ptr<VhostUser> back_end) {
  if (back_end != nullptr) return std::make_unique<VhostPath>(core, std::move(back_end));
  return std::make_unique<NetModel>(options, core, dma, std::move(wire));
}

}  // namespace

Result<std::shared_ptr<Nic>> Nic::create(Options options, UniqueFd wire, std::unique_ptr<VhostUser> back_end) {
  UPCI_TRY_ASSIGN(platform::EventQueue events, platform::EventQueue::create());
  std::shared_ptr<Nic> nic(new Nic(std::move(options), std::move(wire), std::move(back_end), std::move(events)));
  UPCI_TRY(nic->data_->watch(nic->events_));
  UPCI_TRY_ASSIGN(nic->thread_,
                  platform::Thread::create({.name = "upci-emu"}, [raw = nic.get()] { raw->thread_main(); }));
  return nic;
}

Nic::Nic(Options options, UniqueFd wire, std::unique_ptr<VhostUser> back_end, platform::EventQueue events)
    : options_(std::move(options)),
      violations_(options_.name),
      interrupts_(options_.vectors),
      events_(std::move(events)),
      config_(options_, interrupts_),
      core_(options_, violations_, dma_.table(), interrupts_),
      modern_(core_),
      legacy_(core_, interrupts_),
      data_(make_data_path(options_, core_, dma_.table(), std::move(wire), std::move(back_end))),
      shared_memory_(data_->memory()) {}

Nic::~Nic() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  events_.notify();
  if (thread_.joinable()) thread_.join();
  release_stalled();
}

std::uint32_t Nic::config_read(std::uint16_t offset, unsigned width) {
  const auto ones = static_cast<std::uint32_t>(all_ones(width));
  const std::lock_guard lock(mutex_);
  if (silent() || options_.fault == Fault::kConfigOnes) return ones;
  if (const auto window = config_.window(offset, width)) {
    const auto value = static_cast<std::uint32_t>(read_register(window->bar, window->offset, window->width));
    wake_if_needed();
    return value;
  }
  return config_.read(offset, width) & ones;
}

void Nic::config_write(std::uint16_t offset, unsigned width, std::uint32_t value) {
  const std::lock_guard lock(mutex_);
  if (silent() || options_.fault == Fault::kConfigOnes) return;
  if (const auto window = config_.window(offset, width)) {
    write_register(window->bar, window->offset, window->width, value);
    wake_if_needed();
    return;
  }
  if (config_.write(offset, width, value)) function_reset();
  command_changed();
}

pci::BarInfo Nic::bar(unsigned bar) {
  const std::lock_guard lock(mutex_);
  return {.size = config_.bar_size(bar), .io = config_.bar_is_io(bar), .mapping = nullptr};
}

std::uint64_t Nic::bar_read(unsigned bar, std::uint64_t offset, unsigned width) {
  std::uint64_t value = 0;
  {
    const std::lock_guard lock(mutex_);
    if (silent()) return all_ones(width);
    value = read_register(bar, offset, width);
    wake_if_needed();
    if (!core_.take_stall()) return value;
    stalled_.fetch_add(1);
  }
  stall();
  return all_ones(width);
}

void Nic::bar_write(unsigned bar, std::uint64_t offset, unsigned width, std::uint64_t value) {
  const std::lock_guard lock(mutex_);
  if (silent()) return;
  write_register(bar, offset, width, value);
  wake_if_needed();
}

bool Nic::silent() const noexcept { return core_.gone() || abandoned_; }

std::uint64_t Nic::read_register(unsigned bar, std::uint64_t offset, unsigned width) {
  if (!config_.decodes(bar) || offset >= config_.bar_size(bar) || width > config_.bar_size(bar) - offset) {
    return all_ones(width);
  }
  switch (bar) {
    case ConfigSpace::kLegacyBar: return legacy_.read(offset, width) & all_ones(width);
    case ConfigSpace::kModernBar: return modern_.read(offset, width) & all_ones(width);
    default: return interrupts_.read_table(offset) & all_ones(width);
  }
}

void Nic::write_register(unsigned bar, std::uint64_t offset, unsigned width, std::uint64_t value) {
  if (!config_.decodes(bar) || offset >= config_.bar_size(bar) || width > config_.bar_size(bar) - offset) return;
  switch (bar) {
    case ConfigSpace::kLegacyBar: legacy_.write(offset, width, value); break;
    case ConfigSpace::kModernBar:
      modern_.write(offset, width, value);
      if (const std::uint32_t queues = core_.take_queue_resets(); queues != 0) data_->forget(queues);
      break;
    default: interrupts_.write_table(offset, static_cast<std::uint32_t>(value)); break;
  }
}

void Nic::wake_if_needed() {
  if (core_.take_wake()) events_.notify();
}

// --- device::DeviceControl -----------------------------------------------------------------------------------------

bool Nic::present() {
  const std::lock_guard lock(mutex_);
  return !core_.gone() && options_.fault != Fault::kConfigOnes;
}

Result<void> Nic::set_bus_master(bool on) {
  const std::lock_guard lock(mutex_);
  if (core_.gone()) {
    if (!on) return {};  // a function that is not there masters nothing
    return fail(Errc::kUnavailable, options_.name + ": the device has left the bus");
  }
  config_.set_bus_master(on);
  command_changed();
  return {};
}

/// The device works on its queues under mutex_, and looks at this first: once bus mastering is off and the lock was
/// given back, no access to memory is under way and none will begin.
void Nic::command_changed() {
  const bool on = config_.bus_master();
  if (on) reset_while_silent_ = false;
  core_.set_bus_master(on);
  if (!on) quiet_ = data_->pause();
  interrupts_.disable_line(config_.line_disabled());
  events_.notify();
}

Result<void> Nic::reset(Deadline) {
  const std::lock_guard lock(mutex_);
  if (core_.gone()) return fail(Errc::kUnavailable, options_.name + ": the device has left the bus");
  // As the kernel does it: the header is saved before and restored after, bus mastering included.
  const ConfigSpace::Saved saved = config_.save();
  function_reset();
  config_.restore(saved);
  command_changed();
  return {};
}

void Nic::function_reset() {
  config_.reset();
  interrupts_.reset();
  core_.hard_reset();
  modern_.reset();
  legacy_.reset();
  quiet_ = data_->reset();
  reset_while_silent_ = true;  // command_changed() takes it back where bus mastering is on
}

bool Nic::proven_quiet() {
  const std::lock_guard lock(mutex_);
  if (core_.gone()) return true;  // live() is false for good
  return !config_.bus_master() && reset_while_silent_ && quiet_;
}

void Nic::abandon() noexcept {
  {
    const std::lock_guard lock(mutex_);
    abandoned_ = true;
  }
  release_stalled();
}

// --- an access that does not return --------------------------------------------------------------------------------

/// Not a framework wait: a CPU that waits for its bus sleeps for no scheduler, so no worker pool is told.
void Nic::stall() {
  while (released_.load(std::memory_order_acquire) == 0) platform::wait_word(released_, 0);
  // Nothing of this object may be touched after this store: release_stalled() may be the destructor's.
  const platform::Atomic<std::uint32_t>* const word = &stalled_;
  if (stalled_.fetch_sub(1, std::memory_order_acq_rel) == 1) platform::wake_word(word, INT_MAX);
}

void Nic::release_stalled() noexcept {
  released_.store(1, std::memory_order_release);
  platform::wake_word(&released_, INT_MAX);
  // They have only to return; no device is waited for.
  for (std::uint32_t left = stalled_.load(std::memory_order_acquire); left != 0;
       left = stalled_.load(std::memory_order_acquire)) {
    platform::wait_word(stalled_, left);
  }
}

// --- the device's thread -------------------------------------------------------------------------------------------

void Nic::thread_main() {
  std::array<platform::Event, 4> ready;
  for (;;) {
    const platform::TimePoint until = work();
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
    }
    const platform::EventWait woken = events_.wait(ready, until);
    if (woken.events == 0) continue;
    const std::lock_guard lock(mutex_);
    for (std::size_t i = 0; i < woken.events; ++i) data_->ready(ready[i].token);
  }
}

/// Does what there is to do. Returns when to look again without being woken.
platform::TimePoint Nic::work() {
  for (;;) {
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return platform::kNever;
      if (core_.reset_due() <= platform::Clock::now()) {
        const bool quiet = data_->reset();
        core_.finish_reset(quiet);
        if (quiet) {
          modern_.reset();
          legacy_.reset();
        }
      }
      const DataPath::Next next = data_->run();
      if (!next.again) return std::min(core_.reset_due(), next.alarm);
    }
    platform::this_thread::yield();  // let the driver at its registers between two shares of the work
  }
}

Stats Nic::stats() const {
  const std::lock_guard lock(mutex_);
  return data_->stats();
}

void Nic::request_reset() {
  const std::lock_guard lock(mutex_);
  if (silent()) return;
  core_.request_reset();
  events_.notify();
}

void Nic::set_link(bool up) {
  const std::lock_guard lock(mutex_);
  if (silent()) return;
  core_.set_link(up);
  events_.notify();
}

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
