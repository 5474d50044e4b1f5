// SPDX-License-Identifier: Apache-2.0
#include "device/withdrawal.h"

#include <fmt/format.h>

#include <mutex>
#include <utility>

#include "base/log.h"

namespace upci::inline UPCI_VARIANT::device {
namespace {

/// Tells the application, or takes the device off its driver. In a worker: both may wait.
class WithdrawalJob final : public Job {
 public:
  WithdrawalJob(Context::Impl& context, std::unique_ptr<ContextCall> call, int cpu,
                std::shared_ptr<Device> device) noexcept
      : Job(*context.engine, cpu, context.bell),
        context_(context),
        call_(std::move(call)),
        device_(std::move(device)) {}

 private:
  void body() override {
    if (context_.options.withdrawn) {
      context_.options.withdrawn(device_);
    } else if (auto done = context_.remove(device_, Deadline::after(context_.options.remove_timeout));
               !done && done.error().code != Errc::kState) {  // kState: somebody else removes it
      log::warn("{}: withdrawn, and removed with an error: {}", device_->name(), done.error().message());
    }
    claim();
  }

  Context::Impl& context_;
  const std::unique_ptr<ContextCall> call_;  // the context waits for us
  const std::shared_ptr<Device> device_;
};

int watching_cpu(const Context::Impl& context, const Device& device) {
  const Topology& topology = context.engine->topology();
  const std::vector<int> near = topology.housekeeping_cpus_of(device.node());
  return near.empty() ? topology.housekeeping_cpus().front() : near.front();
}

}  // namespace

Error withdrawal_error(const Device& device, DeviceControl::Notice notice) {
  const bool broken = notice == DeviceControl::Notice::kError;
  return fail_verdict(Verdict::kGone, "removal", "",
                      broken ? device.name() + ": the platform reports an uncorrectable error of the device"
                             : device.name() + ": the device was withdrawn: it is being unplugged or unbound",
                      broken ? "look at the kernel's log for its PCI Express error report (AER), and reset the device"
                             : "nothing is to be done here; the driver gives it back")
      .error();
}

WithdrawalWatch::WithdrawalWatch(Context::Impl& context, std::shared_ptr<Device> device, Bound& bound)
    : context_(context), device_(std::move(device)), bound_(bound) {}

Result<void> WithdrawalWatch::start() {
  const int fd = device_->control().notice_fd();
  const std::lock_guard lock(mutex_);
  if (fd < 0 || stopped_) return {};
  UPCI_TRY(context_.engine->add_event_source(source_, fd, watching_cpu(context_, *device_)));
  started_ = true;
  return {};
}

void WithdrawalWatch::stop() noexcept {
  const std::lock_guard lock(mutex_);
  stopped_ = true;
  if (std::exchange(started_, false)) context_.engine->remove_event_source(source_);
}

void WithdrawalWatch::on_event(void* self) { static_cast<WithdrawalWatch*>(self)->announce(); }

void WithdrawalWatch::announce() {
  const DeviceControl::Notice notice = device_->control().notice();
  if (notice == DeviceControl::Notice::kNone || std::exchange(announced_, true)) return;
  const Error error = withdrawal_error(*device_, notice);
  for (Bound* bound = &bound_; bound != nullptr; bound = bound->child()) bound->withdrawn(error);

  auto call = ContextCall::unless_closing(context_);
  if (!call) return;  // the destructor of the context removes the device itself
  const auto job =
      std::make_shared<WithdrawalJob>(context_, std::move(call), watching_cpu(context_, *device_), device_);
  if (!job->queue()) log::error("{}: withdrawn, but its CPU takes no work", device_->name());
}

}  // namespace upci::inline UPCI_VARIANT::device
