// SPDX-License-Identifier: Apache-2.0
#include "vfio/bind/state.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "vfio/bind/errors.h"

namespace upci::inline UPCI_VARIANT::vfio::bind {
namespace {

using namespace std::chrono_literals;
using Json = nlohmann::ordered_json;

constexpr std::string_view kSuffix = ".json";
constexpr std::size_t kLongestName = 128;

std::string_view to_word(Step step) { return step == Step::kBound ? "bound" : "recorded"; }

std::unexpected<Error> damaged(std::string_view why) {
  return fail(Errc::kUnavailable, fmt::format("the record is damaged: {}", why));
}

/// The text of a field; nullptr when it is missing or no text.
const std::string* text_of(const Json& json, const char* field) {
  const auto it = json.find(field);
  return it == json.end() ? nullptr : it->get_ptr<const std::string*>();
}

/// "0x1af4".
std::optional<std::uint16_t> id_of(const Json& json, const char* field) {
  const std::string* text = text_of(json, field);
  if (text == nullptr || text->size() != 6 || !text->starts_with("0x")) return std::nullopt;
  if (text->find_first_not_of("0123456789abcdef", 2) != std::string::npos) return std::nullopt;
  return static_cast<std::uint16_t>(std::strtoul(text->c_str() + 2, nullptr, 16));
}

/// A name, or null for none.
std::optional<std::string> name_of(const Json& json, const char* field) {
  const auto it = json.find(field);
  if (it == json.end()) return std::nullopt;
  if (it->is_null()) return std::string();
  const std::string* text = it->get_ptr<const std::string*>();
  if (text == nullptr || !is_driver_name(*text)) return std::nullopt;
  return *text;
}

std::optional<int> group_of(const Json& json) {
  const auto it = json.find("group");
  if (it == json.end()) return std::nullopt;
  if (it->is_null()) return -1;
  if (!it->is_number_unsigned() || it->get<std::uint64_t>() > 0x7fffffff) return std::nullopt;
  return it->get<int>();
}

std::optional<Step> step_of(const Json& json) {
  const std::string* word = text_of(json, "step");
  if (word != nullptr && *word == to_word(Step::kRecorded)) return Step::kRecorded;
  if (word != nullptr && *word == to_word(Step::kBound)) return Step::kBound;
  return std::nullopt;
}

Json or_null(const std::string& name) { return name.empty() ? Json(nullptr) : Json(name); }

}  // namespace

bool is_driver_name(std::string_view name) {
  if (name.empty() || name.size() > kLongestName || name == "." || name == "..") return false;
  return std::ranges::all_of(name, [](char c) { return c >= 0x20 && c < 0x7f && c != '/'; });
}

std::string to_text(const Record& record) {
  const Json json = {{"schema", 1},
                     {"address", record.address.to_string()},
                     {"vendor", fmt::format("0x{:04x}", record.vendor)},
                     {"device", fmt::format("0x{:04x}", record.device)},
                     {"previous_driver", or_null(record.previous_driver)},
                     {"previous_override", or_null(record.previous_override)},
                     {"group", record.group < 0 ? Json(nullptr) : Json(record.group)},
                     {"step", to_word(record.step)}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

Result<Record> parse_record(std::string_view text) {
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return damaged("it is no JSON object");
  const auto schema = json.find("schema");
  if (schema == json.end() || *schema != 1) return damaged("its schema is not 1: another version of upci wrote it");
  const std::string* address = text_of(json, "address");
  const auto parsed = address == nullptr ? fail(Errc::kInvalid, "") : pci::Address::parse(*address);
  if (!parsed) return damaged("it has no PCI address");
  const auto vendor = id_of(json, "vendor");
  const auto device = id_of(json, "device");
  if (!vendor || !device) return damaged("its vendor or device id is none");
  const auto driver = name_of(json, "previous_driver");
  if (!driver) return damaged("its previous_driver is not a driver's name");
  const auto override = name_of(json, "previous_override");
  if (!override) return damaged("its previous_override is not a driver's name");
  const auto group = group_of(json);
  if (!group) return damaged("its group is no number");
  const auto step = step_of(json);
  if (!step) return damaged("its step is unknown");
  return Record{.address = *parsed,
                .vendor = *vendor,
                .device = *device,
                .previous_driver = *driver,
                .previous_override = *override,
                .group = *group,
                .step = *step};
}

Result<std::string> state_folder() {
  const char* given = std::getenv("UPCI_STATE_DIR");
  if (given == nullptr) return std::string("/run/upci/bind");
  std::string folder = given;
  while (folder.size() > 1 && folder.ends_with('/')) folder.pop_back();
  if (!folder.starts_with('/') || folder == "/") {
    return fail(Errc::kInvalid, fmt::format("UPCI_STATE_DIR is '{}': not the absolute path of a folder", given),
                "unset it for /run/upci/bind");
  }
  return folder;
}

std::string Records::path_of(const pci::Address& address) const {
  return fmt::format("{}/{}{}", folder_, address.to_string(), kSuffix);
}

Result<std::unique_ptr<Sysfs::Lock>> Records::lock() {
  auto lock = sysfs_.lock_folder(folder_, Deadline::after(2s));
  if (!lock) return std::unexpected(as_environment(std::move(lock).error()));
  return lock;
}

Result<std::optional<Record>> Records::load(const pci::Address& address) {
  const std::string path = path_of(address);
  auto text = sysfs_.read_own_file(path);
  if (!text) {
    if (text.error().sys_errno == ENOENT) return std::nullopt;
    return std::unexpected(as_environment(std::move(text).error()));
  }
  auto record = parse_record(*text);
  if (record && record->address == address) return *record;
  return fail(Errc::kUnavailable,
              fmt::format("{}: {}", path, record ? "the record is of another address" : record.error().what),
              fmt::format("give the function back by hand ('upci help unbind' says how) and remove the file {}", path));
}

Result<void> Records::save(const Record& record) {
  auto written = sysfs_.write_file(path_of(record.address), to_text(record));
  if (!written) return std::unexpected(as_environment(std::move(written).error()));
  return {};
}

Result<void> Records::remove(const pci::Address& address) {
  auto removed = sysfs_.remove_file(path_of(address));
  if (!removed && removed.error().sys_errno != ENOENT)
    return std::unexpected(as_environment(std::move(removed).error()));
  return {};
}

Result<std::vector<pci::Address>> Records::all() {
  auto names = sysfs_.list(folder_);
  if (!names) return std::unexpected(as_environment(std::move(names).error()));
  std::vector<pci::Address> addresses;
  for (const std::string& name : *names) {
    if (!name.ends_with(kSuffix)) continue;
    const auto address = pci::Address::parse(std::string_view(name).substr(0, name.size() - kSuffix.size()));
    if (address) addresses.push_back(*address);
  }
  return addresses;
}

}  // namespace upci::inline UPCI_VARIANT::vfio::bind
