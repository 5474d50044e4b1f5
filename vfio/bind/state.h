// SPDX-License-Identifier: Apache-2.0
// What was before a bind, written down: one JSON file per function, which outlives a killed upci.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pci/address.h"
#include "vfio/bind/sysfs.h"

namespace upci::inline UPCI_VARIANT::vfio::bind {

/// How far a bind came.
enum class Step : std::uint8_t {
  kRecorded,  // written down; anything between nothing and all of it may have been done
  kBound,     // done
};

struct Record {
  pci::Address address;
  std::uint16_t vendor = 0, device = 0;  // of the function that was there: a record is of no use to another one
  std::string previous_driver = {};      // "" when none was bound
  std::string previous_override = {};    // driver_override; "" when there was none
  int group = -1;                        // the IOMMU group, or -1
  Step step = Step::kRecorded;
};

/// The file's text.
std::string to_text(const Record& record);

/// Reads a file's text, which may be anything: what is taken over is checked, since root writes it to the kernel.
/// Errors: kUnavailable, with what is wrong.
Result<Record> parse_record(std::string_view text);

/// A driver's name as it may be in a path of sysfs: printable ASCII without '/', not "." or "..", 1 to 128
/// bytes.
bool is_driver_name(std::string_view name);

/// UPCI_STATE_DIR, or /run/upci/bind. Errors: kInvalid when the variable holds no absolute path.
Result<std::string> state_folder();

/// The folder of the records. Whoever changes anything holds its lock.
class Records {
 public:
  Records(Sysfs& sysfs, std::string folder) : sysfs_(sysfs), folder_(std::move(folder)) {}
  const std::string& folder() const { return folder_; }
  std::string path_of(const pci::Address& address) const;

  /// Waits for at most 2 s. Errors: kUnavailable (another upci is at work; not permitted), kSystem.
  Result<std::unique_ptr<Sysfs::Lock>> lock();

  /// nullopt when there is none. Errors: kUnavailable for a damaged file, with what to do about it; kSystem.
  Result<std::optional<Record>> load(const pci::Address& address);
  /// On disk when it returns.
  Result<void> save(const Record& record);
  Result<void> remove(const pci::Address& address);
  /// The functions that have a record, readable or not.
  Result<std::vector<pci::Address>> all();

 private:
  Sysfs& sysfs_;
  const std::string folder_;
};

}  // namespace upci::inline UPCI_VARIANT::vfio::bind
