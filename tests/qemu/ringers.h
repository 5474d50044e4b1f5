// SPDX-License-Identifier: Apache-2.0
// Devices that send an interrupt message on demand.
#pragma once

#include <memory>

#include "tests/qemu/legacy_queue.h"

namespace upci::qemu_tests {

class Ringer {
 public:
  virtual ~Ringer() = default;
  /// Has the device send the message of one vector; it has been sent when this returns.
  virtual void raise(unsigned vector) = 0;
};

/// MSI: QEMU's edu, which interrupts when it is told to.
class EduRinger final : public Ringer {
 public:
  explicit EduRinger(pci::Backend& backend) : backend_(backend) {}
  void raise(unsigned) override {
    backend_.bar_write(0, edu::kIrqRaise, 4, 1);
    backend_.bar_write(0, edu::kIrqAck, 4, 1);
    backend_.bar_read(0, edu::kId, 4);  // the writes are done
  }

 private:
  pci::Backend& backend_;
};

/// MSI-X: a legacy virtio entropy source. It interrupts for each buffer that it has filled, by the vector that its
/// queue has been given.
class RngRinger final : public Ringer {
 public:
  explicit RngRinger(pci::Backend& backend)
      : backend_(backend), buffer_(std::move(*backend.dma().alloc({.len = 64}))), queue_(backend, 0) {}
  ~RngRinger() override { LegacyQueue::reset(backend_); }

  void raise(unsigned vector) override {
    if (backend_.bar_read(0, VIRTIO_PCI_STATUS, 1) == 0) {
      LegacyQueue::begin(backend_);
      queue_.set_up();
      LegacyQueue::go(backend_);
    }
    backend_.bar_write(0, VIRTIO_PCI_QUEUE_SEL, 2, 0);
    backend_.bar_write(0, VIRTIO_MSI_QUEUE_VECTOR, 2, vector);
    queue_.add(buffer_->iova(), 64, true);
    EXPECT_TRUE(queue_.await_used()) << "the device filled no buffer";
    // QEMU sends the message in the same turn of its main loop; this waits for the next one.
    backend_.bar_read(0, VIRTIO_PCI_STATUS, 1);
  }

 private:
  pci::Backend& backend_;
  const std::unique_ptr<device::DmaMemory> buffer_;
  LegacyQueue queue_;
};

inline std::shared_ptr<pci::Backend> open_msix_device(unsigned vectors) {
  return open_or_fail("virtio-rng-pci", {{"disable-modern", "on"}, {"vectors", std::to_string(vectors)}});
}

}  // namespace upci::qemu_tests
