// SPDX-License-Identifier: Apache-2.0
// Holds a driver to what binds it at the registers of its device, and the device to what binds that. It is shown each access
// and knows the device by nothing else.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/platform.h"
#include "virtio/lint/dma_map.h"
#include "virtio/lint/fields.h"
#include "virtio/lint/rules.h"

namespace upci::inline UPCI_VARIANT::virtio::lint {

/// What has to be known of the PCI function before its registers make sense.
struct FunctionFacts {
  std::uint32_t device_id = 0;     // virtio's: 1 = network card
  std::uint16_t msix_vectors = 0;  // of its MSI-X table
  bool sr_iov = false;
  std::uint32_t notify_multiplier = 0;
};

/// Thread-safe: the control path and the notifications of each queue come from threads of their own. Writes are shown before they
/// take effect, reads after them.
class RegisterLint {
 public:
  /// `memory` may be null: then nothing is said about the addresses of queues.
  explicit RegisterLint(FunctionFacts facts, std::shared_ptr<const DmaMap> memory = nullptr)
      : facts_(facts), memory_(std::move(memory)) {}

  void common_read(std::uint64_t offset, unsigned width, std::uint64_t value);
  void common_write(std::uint64_t offset, unsigned width, std::uint64_t value);
  /// `offset` within the notification structure.
  void notify(std::uint64_t offset, unsigned width, std::uint64_t value);
  /// `offset` within the device's own configuration, by either interface.
  void config_read(std::uint64_t offset, unsigned width, std::uint64_t value);
  void config_write(std::uint64_t offset, unsigned width);
  /// `offset` within the legacy header.
  void legacy_read(std::uint64_t offset, unsigned width, std::uint64_t value);
  void legacy_write(std::uint64_t offset, unsigned width, std::uint64_t value);
  /// A write into one of the virtio capabilities in config space.
  void capability_write(std::uint16_t offset);

  std::uint64_t accesses() const;
  /// All breaches, or those of one rule.
  std::uint64_t violations() const;
  std::uint64_t violations(RegisterRule rule) const;
  std::uint64_t device_violations() const;
  std::uint64_t device_violations(DeviceRule rule) const;
  /// The first of each side's, in words: the clause's id, the rule, and what was seen. Kept up to a bound.
  std::vector<std::string> breaches() const;
  std::vector<std::string> device_breaches() const;

  /// What the driver accepted, as it wrote it.
  std::uint64_t accepted() const;
  bool legacy() const;
  std::uint32_t device_id() const noexcept { return facts_.device_id; }
  /// A field of the configuration, as the driver has read it; nothing when it has not.
  std::optional<std::uint64_t> configured(std::uint32_t offset) const;

 private:
  enum class Confirmation : std::uint8_t { kNone, kPending, kSeen, kRefused };
  struct Queue {
    std::array<std::uint64_t, 3> addresses{};  // descriptors, driver, device
    std::uint8_t written = 0;                  // one bit for each half of them
    bool enabled = false;
    bool resetting = false;
    bool was_reset = false;
    std::optional<std::uint16_t> vector;  // written and not read back
    std::optional<std::uint16_t> notify_off;
    std::optional<std::uint16_t> notify_data;
  };

  // All of these: mutex_ held.
  void breach(RegisterRule rule, std::string detail);
  void device_breach(DeviceRule rule, std::string detail);
  bool accepts(unsigned feature) const noexcept { return (driver_features_ >> feature & 1) != 0; }
  bool check_field(std::span<const Field> fields, std::uint64_t offset, unsigned width, bool write);
  void begin_anew();
  void write_status(std::uint8_t value);
  void read_status(std::uint8_t value);
  void offer(unsigned half, std::uint32_t bits);
  void accept(unsigned half, std::uint32_t bits);
  void judge_features();
  void must_be_confirmed(std::string_view what);
  void write_vector(std::optional<std::uint16_t>& unread, std::uint16_t vector);
  void read_vector(std::optional<std::uint16_t>& unread, std::uint16_t vector);
  void leave_configuration();
  void write_queue_size(std::uint16_t size);
  void write_queue_address(std::uint64_t offset, std::uint32_t value);
  void write_queue_enable(std::uint16_t value);
  void write_queue_reset(std::uint16_t value);
  void read_queue_size(std::uint16_t size);
  void read_queue_reset(std::uint16_t value);
  void check_addresses(const Queue& queue);
  /// A field of the selected queue is set.
  Queue& queue_field(std::string_view what);
  void notify_queue(std::uint16_t index, const char* what);

  const FunctionFacts facts_;
  const std::shared_ptr<const DmaMap> memory_;
  mutable platform::Mutex mutex_;
  // All of these: mutex_.
  std::uint64_t accesses_ = 0;
  std::array<std::uint64_t, kRegisterRules> counts_{};
  std::array<std::uint64_t, kDeviceRules> device_counts_{};
  std::vector<std::string> breaches_;
  std::vector<std::string> device_breaches_;

  bool legacy_ = false;         // what the last status was written through
  bool ever_reset_ = false;     // by this driver
  bool reset_pending_ = false;  // 0 was written and not read yet
  std::uint8_t status_ = 0;     // as it was written or, later, read
  bool failed_ = false;
  Confirmation confirmed_ = Confirmation::kNone;

  std::uint32_t device_select_ = 0;
  std::uint32_t driver_select_ = 0;
  std::uint64_t offered_ = 0;
  std::uint8_t halves_offered_ = 0;              // a bit for each half that was read
  std::optional<std::uint64_t> offered_before_;  // by a device that was reset since
  std::uint64_t driver_features_ = 0;

  std::uint16_t queue_select_ = 0;
  std::map<std::uint16_t, Queue> queues_;
  std::map<std::uint32_t, std::uint64_t> configuration_;  // by field; those of 64 bits by half
  std::optional<std::uint16_t> config_vector_;            // written and not read back
  /// Threads that read config_generation and nothing since but the configuration; whether a long field was read since.
  std::map<platform::ThreadId, bool> config_readers_;
};

}  // namespace upci::inline UPCI_VARIANT::virtio::lint
