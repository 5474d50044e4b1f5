// SPDX-License-Identifier: Apache-2.0
#include "vfio/notices.h"

#include <linux/vfio.h>
#include <poll.h>

#include <iterator>
#include <span>
#include <vector>

#include "vfio/failure.h"
#include "vfio/irqs.h"

namespace upci::inline UPCI_VARIANT::vfio {

Result<std::optional<EventFd>> Notices::route(unsigned index) {
  const std::string on = file_.name() + (index == VFIO_PCI_REQ_IRQ_INDEX ? ": its withdrawal" : ": its errors");
  UPCI_TRY_ASSIGN(const unsigned count, count_irqs(file_, index, on));
  if (count == 0) return std::optional<EventFd>();  // conventional PCI reports no errors; old kernels no request
  UPCI_TRY_ASSIGN(EventFd eventfd, EventFd::create());
  const int fd = eventfd.fd();
  if (const int result = route_irqs(file_, index, 0, std::span(&fd, 1)); result < 0) {
    return refused("VFIO_DEVICE_SET_IRQS", on, result);
  }
  return std::optional(std::move(eventfd));
}

Result<void> Notices::open() {
  UPCI_TRY_ASSIGN(request_, route(VFIO_PCI_REQ_IRQ_INDEX));
  UPCI_TRY_ASSIGN(error_, route(VFIO_PCI_ERR_IRQ_INDEX));
  std::vector<int> fds;
  if (request_) fds.push_back(request_->fd());
  if (error_) fds.push_back(error_->fd());
  if (fds.empty()) return {};
  const int watch = file_.kernel().watch(fds);
  if (watch < 0) return refused("epoll_ctl", file_.name() + ": watching for its withdrawal", watch);
  watch_ = KernelFd(file_.shared_kernel(), watch);
  return {};
}

void Notices::close() noexcept {
  if (file_.surrendered()) return;
  if (request_) static_cast<void>(act_on_irqs(file_, VFIO_PCI_REQ_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, 0, 0));
  if (error_) static_cast<void>(act_on_irqs(file_, VFIO_PCI_ERR_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, 0, 0));
}

Notices::Notice Notices::get() noexcept {
  const Notice known = notice_.load(std::memory_order_acquire);
  if (known != Notice::kNone || !watch_) return known;
  // A negative descriptor is left out.
  pollfd looks[] = {{.fd = error_ ? error_->fd() : -1, .events = POLLIN, .revents = 0},
                    {.fd = request_ ? request_->fd() : -1, .events = POLLIN, .revents = 0}};
  if (::poll(looks, std::size(looks), 0) <= 0) return Notice::kNone;
  Notice seen = Notice::kNone;
  const Notice found = looks[0].revents != 0 ? Notice::kError : Notice::kWithdrawn;
  return notice_.compare_exchange_strong(seen, found) ? found : seen;
}

}  // namespace upci::inline UPCI_VARIANT::vfio
