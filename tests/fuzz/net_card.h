// SPDX-License-Identifier: Apache-2.0
// A virtio network card whose registers, rings and memory the fuzzer may have at any access. Between its interventions it is
// a card that works, so that the drivers get far.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/fuzz/function.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/ring_devices.h"

namespace upci::inline UPCI_VARIANT::fuzz {

class NetCard final : public Function {
 public:
  static constexpr unsigned kQueues = 5;  // two pairs and the control queue
  struct Kind {
    bool legacy = false;
    unsigned vectors = 0;
    bool line = false;
  };
  NetCard(Input& input, const Kind& kind);

  std::uint32_t config_read(std::uint16_t offset, unsigned width) override;
  void config_write(std::uint16_t, unsigned, std::uint32_t) override {}
  pci::BarInfo bar(unsigned index) override;
  std::uint64_t bar_read(unsigned bar, std::uint64_t offset, unsigned width) override;
  void bar_write(unsigned bar, std::uint64_t offset, unsigned width, std::uint64_t value) override;

  /// One thing that a device can do to a queue, or to memory; the fuzzer says which.
  void act();
  void ask_for_reset() { status_ |= 0x40; }
  void change_config() { config_[input_.below(static_cast<unsigned>(config_.size()))] = input_.u8(); }

 private:
  struct Queue {
    std::uint16_t size = 0;
    std::uint64_t address = 0;
    std::uint16_t vector = 0xffff;
    bool enabled = false;
    std::unique_ptr<RingDevice> ring;
  };
  /// Something of its own in the place of what the card would say: at the access that the fuzzer has chosen, once or for ever.
  std::uint64_t interfere(std::uint64_t offset, unsigned width, std::uint64_t value);
  std::uint64_t modern_read(std::uint64_t offset);
  void modern_write(std::uint64_t offset, std::uint64_t value);
  std::uint64_t legacy_read(std::uint64_t offset, unsigned width);
  void legacy_write(std::uint64_t offset, std::uint64_t value);
  void set_status(std::uint8_t status);
  void start(Queue& queue);
  void serve(Queue& queue);
  bool alive(Queue& queue);
  std::byte* buffer(const Queue& queue, bool last, std::size_t bytes);
  void on_reset() override { set_status(0); }
  Queue& selected() { return queues_[select_ % kQueues]; }
  std::uint64_t device_config(std::uint64_t offset, unsigned width) const;

  Input& input_;
  const Kind kind_;
  std::array<std::uint8_t, 256> space_{};  // PCI's configuration
  std::array<std::uint8_t, 24> config_{};  // virtio's
  std::uint64_t offered_ = 0, accepted_ = 0;
  std::uint32_t feature_select_ = 0, driver_select_ = 0;
  std::uint8_t status_ = 0, isr_ = 0;
  std::uint16_t config_vector_ = 0xffff;
  std::uint16_t select_ = 0;
  std::uint16_t queue_size_ = 0;
  std::array<Queue, kQueues> queues_;
  unsigned countdown_ = 0;                        // accesses until the next intervention; 0: there is none
  std::map<std::uint64_t, std::uint64_t> stuck_;  // registers that read this for ever
};

}  // namespace upci::inline UPCI_VARIANT::fuzz
