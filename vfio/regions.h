// SPDX-License-Identifier: Apache-2.0
// Private. A function's config space and BARs.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/error.h"
#include "base/platform.h"
#include "pci/backend.h"
#include "vfio/device_file.h"
#include "vfio/stand_ins.h"

namespace upci::inline UPCI_VARIANT::vfio {

/// Accesses are thread-safe and take no lock. What cannot be read reads all ones.
class Regions {
 public:
  static constexpr unsigned kBars = 6;

  explicit Regions(DeviceFile& file) noexcept : file_(file) {}
  ~Regions() { unmap(); }
  Regions(const Regions&) = delete;
  Regions& operator=(const Regions&) = delete;

  /// Asks the kernel for the regions, switches their decoding on and maps what may be mapped. A BAR that is to be mapped
  /// and cannot be is accessed by system calls, which is noted. Errors: kSystem, kUnavailable, kDevice (sizes or offsets
  /// that cannot be).
  Result<void> open();

  /// All ones where there is nothing, also after a failure. `width` is 1, 2 or 4.
  std::uint32_t config_read(std::uint64_t offset, unsigned width);
  /// Keeps the bits that mapped BARs need: without memory decoding, or in a sleep state, the kernel answers an access to a
  /// mapped BAR with SIGBUS.
  void config_write(std::uint64_t offset, unsigned width, std::uint32_t value);
  /// As config_read, and tells how it went. Errors: kSystem, kUnavailable.
  Result<std::uint32_t> try_config_read(std::uint64_t offset, unsigned width);
  /// As config_write, and tells how it went. Errors: kSystem, kUnavailable.
  Result<void> try_config_write(std::uint64_t offset, unsigned width, std::uint32_t value);

  /// The first capability with this id, or 0. The list is walked with a bound.
  std::uint16_t find_capability(std::uint8_t id);

  pci::BarInfo bar(unsigned bar) const noexcept;
  std::uint64_t bar_read(unsigned bar, std::uint64_t offset, unsigned width);
  void bar_write(unsigned bar, std::uint64_t offset, unsigned width, std::uint64_t value);

  /// Mapped BARs read all ones from now on; the device is not mapped any more. The mappings stay until the destructor.
  void cover(const StandIns& stand_ins) noexcept;

 private:
  struct Region {
    std::uint64_t size = 0;
    std::uint64_t offset = 0;  // in the device's file
    bool readable = false;
    bool writable = false;
    bool mappable = false;
    bool io = false;
    std::byte* mapping = nullptr;
  };
  Result<Region> ask(unsigned index);
  Result<void> enable_decoding();
  void map(unsigned bar);
  void unmap() noexcept;
  bool any_mapped() const noexcept;
  std::uint64_t read(const Region& region, std::uint64_t offset, unsigned width);
  std::int64_t write(const Region& region, std::uint64_t offset, unsigned width, std::uint64_t value);
  std::uint32_t keep_decoding(std::uint64_t offset, unsigned width, std::uint32_t value);
  void note_failure(const char* call, std::uint64_t offset, std::int64_t result);

  DeviceFile& file_;
  Region config_;                        // const after open()
  std::array<Region, kBars> bars_{};     // const after open()
  std::uint16_t power_management_ = 0;   // const after open(): the capability, or 0
  platform::Atomic<bool> noted_{false};  // a failed access has been logged
  platform::Atomic<bool> kept_{false};   // a kept bit has been logged
};

}  // namespace upci::inline UPCI_VARIANT::vfio
