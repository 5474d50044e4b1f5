// SPDX-License-Identifier: Apache-2.0
#include "tools/upci/schemes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <utility>

#include "emulation/emu/emu.h"
#include "emulation/qemu/qemu.h"
#include "pci/enumerate.h"

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

/// A PCI function of this machine: said precisely why it cannot be driven. Only the bus is read.
Error refuse_function(const Uri& uri) {
  const std::string address = uri.address.to_string();
  const auto functions = pci::enumerate();
  const bool there =
      functions && std::ranges::find(*functions, uri.address, &pci::Function::address) != functions->end();
  if (!there) {
    return {.code = Errc::kUnavailable,
            .what = fmt::format("there is no PCI function at {}", address),
            .advice = "'upci list' shows what is there"};
  }
  return {.code = Errc::kUnavailable,
          .what = fmt::format("this version of upci does not drive functions of the machine, such as {}, through VFIO",
                              address),
          .advice = "emulated devices can be driven: qemu:virtio-net-pci or emu:virtio-net"};
}

}  // namespace

std::vector<std::string_view> fault_names() {
  std::vector<std::string_view> names;
  for (const auto& fault : emulation::emu::faults()) names.push_back(fault.name);
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

Result<std::shared_ptr<pci::Device>> open_device(const Uri& uri, emulation::Cables& cables) {
  if (uri.scheme == Scheme::kVfio) return std::unexpected(refuse_function(uri));
  if (uri.scheme == Scheme::kEmu) {
    UPCI_TRY_ASSIGN(std::shared_ptr<pci::Backend> backend, emulation::emu::open(uri.spec, cables));
    return pci::Device::create(std::move(backend), uri.options);
  }
  UPCI_TRY_ASSIGN(std::shared_ptr<pci::Backend> backend, emulation::qemu::open(uri.spec, cables));
  return pci::Device::create(std::move(backend), uri.options);
}

}  // namespace upci::tool
