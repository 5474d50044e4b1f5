// SPDX-License-Identifier: Apache-2.0
// Puts the observers where they see everything: between a driver and its device.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "pci/backend.h"
#include "virtio/any_ring.h"
#include "virtio/lint/chain_lint.h"
#include "virtio/lint/dma_map.h"
#include "virtio/lint/register_lint.h"

namespace upci::inline UPCI_VARIANT::virtio::lint {

/// What watches one device. Thread-safe. Its factory is for the drivers; it may be given to them before there is a device, and
/// serves the device that is wrapped last.
class Watch {
 public:
  Watch();
  ~Watch();
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  /// A backend that shows each access of the registers, and the memory that is mapped for the device, to the observers. It has no
  /// mapped BARs. A function that is not virtio's passes unseen. The result does not need this object any more.
  std::shared_ptr<pci::Backend> wrap(std::shared_ptr<pci::Backend> backend);
  /// RingLint and PackedLint that show the chains to the observer of buffers. Used where BindOptions::observed is set.
  ObserverFactory observers();

  /// Null before wrap(), and for a function that is not virtio's.
  std::shared_ptr<const RegisterLint> registers() const;
  std::shared_ptr<const ChainLint> chains() const;
  /// The driver's breaches at registers and in buffers, in words: tests expect none.
  std::vector<std::string> breaches() const;
  /// The device's.
  std::vector<std::string> device_breaches() const;

 private:
  struct State;
  const std::shared_ptr<State> state_;
};

}  // namespace upci::inline UPCI_VARIANT::virtio::lint
