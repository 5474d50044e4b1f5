// SPDX-License-Identifier: Apache-2.0
#include "tools/upci/schemes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <utility>

#include "emulation/emu/emu.h"
#include "emulation/interposer/interposer.h"
#include "emulation/qemu/qemu.h"

namespace upci::tool {
namespace {

/// Two of modern, legacy and transitional contradict each other.
Result<void> check_emu(const Uri& uri) {
  const auto is_interface = [](const emulation::Word& word) {
    return word.key == "modern" || word.key == "legacy" || word.key == "transitional";
  };
  if (std::ranges::count_if(uri.spec.words, is_interface) > 1) {
    return fail(Errc::kInvalid, "a device is either modern, legacy or transitional", "leave one of these words");
  }
  return emulation::emu::check(uri.spec);
}

/// What QEMU itself knows (models and their properties) is asked of it when the device is opened.
Result<void> check_qemu(const Uri& uri) {
  const auto is_name = [](unsigned char c) { return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.'; };
  if (!std::ranges::all_of(uri.spec.model, is_name) || uri.spec.model.front() == '-') {
    return fail(Errc::kInvalid, fmt::format("'{}' is no name of a QEMU model", uri.spec.model),
                "'qemu-system-x86_64 -device help' lists them");
  }
  for (const emulation::Word& word : uri.spec.words) {
    if (word.has_value) continue;
    return fail(Errc::kInvalid, fmt::format("'{}' is no property: it has no value", word.key),
                fmt::format("properties of QEMU's are written as {}=on", word.key));
  }
  return {};
}

Result<std::shared_ptr<pci::Backend>> open_function(const Uri& uri, vfio::Vfio& vfio) {
  for (const emulation::Word& word : uri.spec.words) {
    if (word.key != "access" || word.value == "auto" || word.value == "group") continue;
    return fail(Errc::kUnavailable, fmt::format("'{}': access={} is not carried by this version", uri.text, word.value),
                "leave access= out: functions are reached through VFIO's groups");
  }
  return vfio.open(uri.address, uri.text);
}

Result<std::shared_ptr<pci::Backend>> open_backend(const Uri& uri, Environment& environment) {
  switch (uri.scheme) {
    case Scheme::kEmu: return emulation::emu::open(uri.spec, environment.cables);
    case Scheme::kQemu: return emulation::qemu::open(uri.spec, environment.cables);
    case Scheme::kVfio: break;
  }
  return open_function(uri, environment.vfio);
}

}  // namespace

std::vector<std::string_view> fault_names() {
  std::vector<std::string_view> names;
  for (const auto& fault : emulation::emu::faults()) names.push_back(fault.name);
  return names;
}

std::vector<std::string_view> platform_fault_names() {
  std::vector<std::string_view> names;
  for (const auto& fault : emulation::interposer::faults()) names.push_back(fault.name);
  return names;
}

std::vector<std::string_view> emu_words() {
  std::vector<std::string_view> words;
  for (const auto& word : emulation::emu::words()) words.push_back(word.word);
  return words;
}

Result<void> check_emulated(const Uri& uri) {
  auto checked = uri.scheme == Scheme::kEmu ? check_emu(uri) : check_qemu(uri);
  if (!checked) checked.error().what = fmt::format("'{}': {}", uri.text, checked.error().what);
  return checked;
}

Result<std::shared_ptr<pci::Device>> open_device(const Uri& uri, Environment& environment) {
  UPCI_TRY_ASSIGN(std::shared_ptr<pci::Backend> backend, open_backend(uri, environment));
  if (!uri.platform_fault.empty()) {
    UPCI_TRY_ASSIGN(backend, emulation::interposer::wrap(std::move(backend), uri.platform_fault));
  }
  return pci::Device::create(std::move(backend), uri.options);
}

}  // namespace upci::tool
