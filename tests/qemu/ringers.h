// SPDX-License-Identifier: Apache-2.0
// Devices that send an interrupt message on demand.
#pragma once

#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>

#include <memory>

#include "tests/qemu/support.h"

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

/// MSI-X: a legacy virtio entropy source. It interrupts for each buffer that it has filled, by the vector that its queue
/// has been given. Just enough of a driver for that. Virtio 1.2, "Legacy Interfaces".
class RngRinger final : public Ringer {
 public:
  explicit RngRinger(pci::Backend& backend)
      : backend_(backend),
        queue_(std::move(*backend.dma().alloc({.len = 2 * kPage}))),
        buffer_(std::move(*backend.dma().alloc({.len = 64}))) {}
  ~RngRinger() override { backend_.bar_write(0, VIRTIO_PCI_STATUS, 1, 0); }

  void raise(unsigned vector) override {
    if (backend_.bar_read(0, VIRTIO_PCI_STATUS, 1) == 0) start();
    backend_.bar_write(0, VIRTIO_PCI_QUEUE_SEL, 2, 0);
    backend_.bar_write(0, VIRTIO_MSI_QUEUE_VECTOR, 2, vector);
    ++added_;
    volatile auto* const avail = at<std::uint16_t>(16 * entries_);  // flags, index, ring
    avail[1] = added_;  // each entry of the ring names descriptor 0
    backend_.bar_write(0, VIRTIO_PCI_QUEUE_NOTIFY, 2, 0);
    volatile auto* const used = at<std::uint16_t>(kPage);
    const Deadline deadline = Deadline::after(std::chrono::seconds(5));
    while (used[1] != added_ && !deadline.expired()) platform::this_thread::yield();
    EXPECT_EQ(used[1], added_) << "the device filled no buffer";
    // QEMU sends the message in the same turn of its main loop; this waits for the next one.
    backend_.bar_read(0, VIRTIO_PCI_STATUS, 1);
  }

 private:
  struct Descriptor {
    std::uint64_t address;
    std::uint32_t len;
    std::uint16_t flags, next;
  };
  static constexpr std::uint16_t kDeviceWrites = 2;
  static constexpr std::size_t kPage = 4096;

  template <class T>
  T* at(std::size_t offset) {
    return reinterpret_cast<T*>(queue_->va() + offset);
  }
  void start() {
    std::memset(queue_->va(), 0, queue_->size());
    added_ = 0;
    backend_.bar_write(0, VIRTIO_PCI_STATUS, 1, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
    backend_.bar_write(0, VIRTIO_PCI_QUEUE_SEL, 2, 0);
    entries_ = backend_.bar_read(0, VIRTIO_PCI_QUEUE_NUM, 2);
    ASSERT_LE(16 * entries_ + 6 + 2 * entries_, kPage);
    *at<Descriptor>(0) = {.address = buffer_->iova(), .len = 64, .flags = kDeviceWrites, .next = 0};
    backend_.bar_write(0, VIRTIO_PCI_QUEUE_PFN, 4, queue_->iova() >> VIRTIO_PCI_QUEUE_ADDR_SHIFT);
    backend_.bar_write(0, VIRTIO_PCI_STATUS, 1,
                       VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_DRIVER_OK);
  }

  pci::Backend& backend_;
  const std::unique_ptr<device::DmaMemory> queue_;
  const std::unique_ptr<device::DmaMemory> buffer_;
  std::size_t entries_ = 0;
  std::uint16_t added_ = 0;
};

inline std::shared_ptr<pci::Backend> open_msix_device(unsigned vectors) {
  return open_or_fail("virtio-rng-pci", {{"disable-modern", "on"}, {"vectors", std::to_string(vectors)}});
}

}  // namespace upci::qemu_tests
