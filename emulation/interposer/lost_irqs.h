// SPDX-License-Identifier: Apache-2.0
// Private. An IrqSource whose interrupts reach nobody, though the device is told that they are routed.
#pragma once

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "base/event_fd.h"
#include "device/control.h"

namespace upci::inline UPCI_VARIANT::emulation::interposer {

class LostIrqs final : public device::IrqSource {
 public:
  explicit LostIrqs(device::IrqSource& real) noexcept : real_(real) {}

  unsigned count() const override { return real_.count(); }
  Kind kind() const override { return real_.kind(); }
  Result<void> enable(std::span<const int> eventfds) override {
    std::vector<EventFd> nobody;
    std::vector<int> fds;
    for (std::size_t i = 0; i < eventfds.size(); ++i) {
      UPCI_TRY_ASSIGN(EventFd fd, EventFd::create());
      fds.push_back(fd.fd());
      nobody.push_back(std::move(fd));
    }
    UPCI_TRY(real_.enable(fds));
    nobody_ = std::move(nobody);
    return {};
  }
  Result<void> disable() override { return real_.disable(); }
  Result<void> set_mask(unsigned vector, bool masked) override { return real_.set_mask(vector, masked); }
  Result<void> set_affinity(unsigned vector, int os_cpu) override { return real_.set_affinity(vector, os_cpu); }

 private:
  device::IrqSource& real_;
  std::vector<EventFd> nobody_;  // the control path only
};

}  // namespace upci::inline UPCI_VARIANT::emulation::interposer
