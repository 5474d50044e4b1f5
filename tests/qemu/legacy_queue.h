// SPDX-License-Identifier: Apache-2.0 The least that makes a legacy virtio device work: one buffer at a time in each
// queue, by hand. The tests here are about the backend; they must not stand on the drivers that stand on it. Virtio
// 1.2, "Legacy Interfaces" and "Split Virtqueues".
#pragma once

#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>

#include <cstring>
#include <memory>

#include "tests/qemu/support.h"

namespace upci::qemu_tests {

class LegacyQueue {
 public:
  static void reset(pci::Backend& backend) { backend.bar_write(0, VIRTIO_PCI_STATUS, 1, 0); }
  static void begin(pci::Backend& backend) {
    reset(backend);
    backend.bar_write(0, VIRTIO_PCI_STATUS, 1, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
  }
  /// After all queues have been set up.
  static void go(pci::Backend& backend) {
    backend.bar_write(0, VIRTIO_PCI_STATUS, 1,
                      VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_DRIVER_OK);
  }

  LegacyQueue(pci::Backend& backend, std::uint16_t index)
      : backend_(backend), index_(index), memory_(std::move(*backend.dma().alloc({.len = 4 * kPage}))) {}

  void set_up() {
    std::memset(memory_->va(), 0, memory_->size());
    added_ = 0;
    backend_.bar_write(0, VIRTIO_PCI_QUEUE_SEL, 2, index_);
    entries_ = backend_.bar_read(0, VIRTIO_PCI_QUEUE_NUM, 2);
    // The used ring begins at the next page behind the available ring.
    used_ = (16 * entries_ + 6 + 2 * entries_ + kPage - 1) / kPage * kPage;
    ASSERT_LE(used_ + 6 + 8 * entries_, memory_->size());
    backend_.bar_write(0, VIRTIO_PCI_QUEUE_PFN, 4, memory_->iova() >> VIRTIO_PCI_QUEUE_ADDR_SHIFT);
  }
  /// Gives the device one buffer, in descriptor 0: the one before must have been used.
  void add(std::uint64_t address, std::uint32_t len, bool device_writes) {
    *at<Descriptor>(0) = {
        .address = address, .len = len, .flags = static_cast<std::uint16_t>(device_writes ? 2 : 0), .next = 0};
    ++added_;
    at<volatile std::uint16_t>(16 * entries_)[1] = added_;  // each entry of the available ring names descriptor 0
    backend_.bar_write(0, VIRTIO_PCI_QUEUE_NOTIFY, 2, index_);
  }
  /// Until the device has used the buffer, at most 5 s.
  bool await_used() {
    const volatile std::uint16_t* const used = at<volatile std::uint16_t>(used_);
    const Deadline deadline = Deadline::after(std::chrono::seconds(5));
    while (used[1] != added_ && !deadline.expired()) platform::this_thread::yield();
    return used[1] == added_;
  }

 private:
  struct Descriptor {
    std::uint64_t address;
    std::uint32_t len;
    std::uint16_t flags, next;
  };
  static constexpr std::size_t kPage = 4096;

  template <class T>
  T* at(std::size_t offset) {
    return reinterpret_cast<T*>(memory_->va() + offset);
  }

  pci::Backend& backend_;
  const std::uint16_t index_;
  const std::unique_ptr<device::DmaMemory> memory_;
  std::size_t entries_ = 0;
  std::size_t used_ = 0;
  std::uint16_t added_ = 0;
};

}  // namespace upci::qemu_tests
