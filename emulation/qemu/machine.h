// SPDX-License-Identifier: Apache-2.0
// A running QEMU: the process, its guest's RAM and the sockets that lead to it.
#pragma once

#include <memory>
#include <string>

#include "base/deadline.h"
#include "base/error.h"
#include "base/process.h"
#include "emulation/guest_ram.h"
#include "emulation/qemu/doorbell.h"
#include "emulation/qemu/model.h"
#include "emulation/qemu/netdev.h"
#include "emulation/qemu/program.h"
#include "emulation/qemu/qemu.h"
#include "emulation/qemu/qtest.h"

namespace upci::inline UPCI_VARIANT::emulation::qemu {

/// What is to be plugged into the machine.
struct Plug {
  std::shared_ptr<const Model> model;
  std::string properties;  // from device_properties(); "" for none
  Netdev netdev;           // for a network model; needed only during launch()
  int disk = -1;           // a file for a block model, or -1; only needed during launch()
  bool disk_read_only = false;
};

class Machine {
 public:
  /// Starts QEMU and waits until it answers. Errors: those of qemu::open.
  static Result<std::unique_ptr<Machine>> launch(const Plug& plug, const Options& options);
  /// Ends QEMU and reaps it.
  ~Machine();

  Qtest& qtest() noexcept { return qtest_; }
  const std::shared_ptr<GuestRam>& ram() const noexcept { return ram_; }
  Doorbell take_doorbell() noexcept { return std::move(doorbell_); }

  /// Ends QEMU at once: an access that waits for it returns. Does not wait for its end. Any thread, any number of
  /// times.
  void kill() noexcept;
  /// Waits for QEMU's end, at most `limit`. True when it has ended: nothing of it can touch the guest's RAM then. Any
  /// thread.
  bool ended(platform::Nanoseconds limit) const noexcept;

 private:
  Machine(ChildProcess child, OutputCapture output, std::shared_ptr<GuestRam> ram, Doorbell doorbell, UniqueFd qtest,
          platform::Nanoseconds access_limit) noexcept
      : child_(std::move(child)),
        output_(std::move(output)),
        ram_(std::move(ram)),
        doorbell_(std::move(doorbell)),
        qtest_(std::move(qtest), access_limit) {}
  Result<void> await_start(const Plug& plug, const Options& options, Deadline deadline);
  std::unexpected<Error> explain_end(const Plug& plug, const Options& options) const;

  ChildProcess child_;
  const OutputCapture output_;
  const std::shared_ptr<GuestRam> ram_;
  Doorbell doorbell_;
  Qtest qtest_;
};

}  // namespace upci::inline UPCI_VARIANT::emulation::qemu
