// SPDX-License-Identifier: Apache-2.0
#include "tools/upci/uri.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "emulation/wire.h"
#include "tools/upci/schemes.h"
#include "tools/upci/uri_words.h"

namespace upci::tool {
namespace {

constexpr std::string_view kForms =
    "a device is written as emu:virtio-net, qemu:virtio-net-pci or 0000:65:00.0, each with "
    "words after commas";

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (std::size_t begin = 0;;) {
    const std::size_t end = text.find(separator, begin);
    parts.push_back(text.substr(begin, end - begin));
    if (end == std::string_view::npos) return parts;
    begin = end + 1;
  }
}

emulation::Word to_word(std::string_view text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos) return {.key = std::string(text)};
  return {.key = std::string(text.substr(0, equals)), .value = std::string(text.substr(equals + 1)), .has_value = true};
}

/// The parts between the commas: none empty, no key twice.
Result<std::vector<emulation::Word>> to_words(std::string_view uri, std::span<const std::string_view> parts) {
  std::vector<emulation::Word> words;
  std::set<std::string> keys;
  for (const std::string_view part : parts) {
    emulation::Word word = to_word(part);
    if (word.key.empty()) {
      return fail(Errc::kInvalid, fmt::format("'{}': there is an empty word between its commas", uri),
                  std::string(kForms));
    }
    if (!keys.insert(word.key).second) {
      return fail(Errc::kInvalid, fmt::format("'{}': '{}' is there twice", uri, word.key), "leave one of the two out");
    }
    words.push_back(std::move(word));
  }
  return words;
}

/// What a PCI function of this machine can be told. `words` are what is left after the reserved ones.
Result<void> check_vfio(const Uri& uri) {
  for (const emulation::Word& word : uri.spec.words) {
    if (word.key != "access") {
      return fail(Errc::kInvalid, fmt::format("'{}': a PCI function has no word '{}'", uri.text, word.key),
                  "what can follow an address: access=, driver=, fault=, features=");
    }
    constexpr std::string_view kAccess[] = {"auto", "group", "iommufd", "noiommu"};
    if (!word.has_value || std::ranges::find(kAccess, word.value) == std::end(kAccess)) {
      return fail(Errc::kInvalid, fmt::format("'{}': access='{}' is no way to a PCI function", uri.text, word.value),
                  "write access=auto, group, iommufd or noiommu");
    }
  }
  return {};
}

/// Splits "scheme:model" or a bare address.
Result<void> read_head(Uri& uri, std::string_view head) {
  const std::size_t colon = head.find(':');
  const std::string_view scheme = head.substr(0, colon);
  const std::string_view rest = colon == std::string_view::npos ? std::string_view{} : head.substr(colon + 1);
  if (scheme == "emu" || scheme == "qemu") {
    uri.scheme = scheme == "emu" ? Scheme::kEmu : Scheme::kQemu;
    uri.spec.model = std::string(rest);
    if (rest.empty()) {
      return fail(Errc::kInvalid, fmt::format("'{}': the model is missing", uri.text), std::string(kForms));
    }
    return {};
  }
  uri.scheme = Scheme::kVfio;
  const bool named = scheme == "vfio" && colon != std::string_view::npos;
  const std::string_view address = named ? rest : head;
  if (!named && address.find_first_not_of("0123456789abcdefABCDEF:.") != std::string_view::npos) {
    return fail(Errc::kInvalid, fmt::format("'{}': '{}' is neither a scheme nor a PCI address", uri.text, scheme),
                std::string(kForms));
  }
  UPCI_TRY_ASSIGN(uri.address, pci::Address::parse(address));
  return {};
}

}  // namespace

Result<Uri> parse_uri(std::string_view text) {
  Uri uri{.text = std::string(text)};
  const std::vector<std::string_view> parts = split(text, ',');
  UPCI_TRY(read_head(uri, parts.front()));
  UPCI_TRY_ASSIGN(std::vector<emulation::Word> words, to_words(text, std::span(parts).subspan(1)));

  uri.spec.uri = uri.text;
  for (emulation::Word& word : words) {
    if (is_reserved(word.key)) {
      UPCI_TRY(take_reserved(uri, word));
    } else {
      uri.spec.words.push_back(std::move(word));
    }
  }
  if (uri.scheme == Scheme::kVfio) {
    UPCI_TRY(check_vfio(uri));
  } else {
    UPCI_TRY(check_emulated(uri));
  }
  return uri;
}

Result<std::vector<Uri>> parse_uris(const std::vector<std::string>& texts) {
  std::vector<Uri> uris;
  uris.reserve(texts.size());
  for (const std::string& text : texts) {
    UPCI_TRY_ASSIGN(Uri uri, parse_uri(text));
    uris.push_back(std::move(uri));
  }
  return uris;
}

}  // namespace upci::tool
