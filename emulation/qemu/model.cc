// SPDX-License-Identifier: Apache-2.0
#include "emulation/qemu/model.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <numeric>

#include "base/platform.h"
#include "emulation/qemu/program.h"

namespace upci::inline UPCI_VARIANT::emulation::qemu {
namespace {

/// Set by the harness: where the device sits, and what it is plugged into.
constexpr std::array<std::string_view, 9> kReserved = {"id",      "bus",   "addr",   "multifunction",   "netdev",
                                                       "chardev", "drive", "driver", "failover_pair_id"};

constexpr std::string_view kNameCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";

/// Calls `with_line` for each line of `text`.
template <class F>
void for_each_line(std::string_view text, F with_line) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    with_line(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

/// "  mac=<str>   - Ethernet 6-byte MAC Address" -> "mac". Children (`x=<child<y>>`) are objects, nothing to be set.
void add_property(Model& model, std::string_view line) {
  if (!line.starts_with("  ")) return;
  line.remove_prefix(2);
  const std::size_t equals = line.find("=<");
  if (equals == std::string_view::npos || line.substr(equals).starts_with("=<child<")) return;
  model.properties.emplace(line.substr(0, equals));
}

/// The PCI models in the list of `-device help`: 'name "edu", bus PCI, ...'.
std::vector<std::string> pci_models(std::string_view help) {
  std::vector<std::string> names;
  for_each_line(help, [&names](std::string_view line) {
    constexpr std::string_view kStart = "name \"";
    if (!line.starts_with(kStart)) return;
    line.remove_prefix(kStart.size());
    const std::size_t quote = line.find('"');
    if (quote == std::string_view::npos || !line.substr(quote).starts_with("\", bus PCI")) return;
    names.emplace_back(line.substr(0, quote));
  });
  return names;
}

std::unexpected<Error> unknown_model(const std::string& program, const std::string& name, Deadline deadline) {
  std::string advice;
  if (const auto help = run_program(program, {"-device", "help"}, deadline)) {
    const std::vector<std::string> near = nearest_names(name, pci_models(help->output), 4);
    if (!near.empty()) advice = fmt::format("near it are {}; ", fmt::join(near, ", "));
  }
  advice += fmt::format("try virtio-net-pci, e1000e or edu; '{} -device help' lists all (bus PCI)", program);
  return fail(Errc::kInvalid, fmt::format("QEMU has no PCI device model '{}'", name), std::move(advice));
}

Result<std::shared_ptr<const Model>> ask_qemu(const std::string& program, const std::string& name, Deadline deadline) {
  UPCI_TRY_ASSIGN(const ProgramRun run, run_program(program, {"-device", name + ",help"}, deadline));
  auto model = std::make_shared<Model>();
  model->name = name;
  for_each_line(run.output, [&model](std::string_view line) { add_property(*model, line); });
  // Every PCI device has these two; others (USB, ISA) lack one or the other.
  if (!model->has("addr") || !model->has("multifunction")) return unknown_model(program, name, deadline);
  return model;
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t above = row[j + 1];
      row[j + 1] = std::min({above + 1, row[j] + 1, diagonal + (a[i] == b[j] ? 0U : 1U)});
      diagonal = above;
    }
  }
  return row.back();
}

}  // namespace

std::vector<std::string> nearest_names(std::string_view wanted, const std::vector<std::string>& names,
                                       std::size_t count) {
  std::vector<std::pair<std::size_t, std::string>> scored;
  for (const std::string& name : names) {
    std::size_t distance = edit_distance(wanted, name);
    // "virtio-net" is meant to find "virtio-net-pci", however much is missing.
    if (wanted.size() >= 3 && name.find(wanted) != std::string::npos) distance = std::min<std::size_t>(distance, 2);
    if (distance <= std::max<std::size_t>(2, wanted.size() / 3)) scored.emplace_back(distance, name);
  }
  std::ranges::sort(scored);
  std::vector<std::string> result;
  for (auto& [distance, name] : scored) {
    if (result.size() == count) break;
    result.push_back(std::move(name));
  }
  return result;
}

Result<std::shared_ptr<const Model>> describe_model(const std::string& program, const std::string& name,
                                                    Deadline deadline) {
  if (name.empty() || name.find_first_not_of(kNameCharacters) != std::string::npos || name == "help") {
    return fail(Errc::kInvalid, fmt::format("'{}' cannot be the name of a QEMU device model", name),
                "name one, such as qemu:virtio-net-pci");
  }
  if (name.starts_with("vfio-")) {
    return fail(Errc::kInvalid, fmt::format("QEMU's '{}' is not a model: it drives a device of this machine", name),
                "give the device's PCI address, such as 0000:65:00.0");
  }
  // What an installed program says of itself does not change, so that this is a memory, not a state.
  struct Memory {
    platform::Mutex mutex;
    std::map<std::pair<std::string, std::string>, std::shared_ptr<const Model>> models;  // mutex
  };
  static Memory& memory = *new Memory;  // never destroyed: threads may open devices while the process ends
  {
    const std::scoped_lock lock(memory.mutex);
    if (const auto found = memory.models.find({program, name}); found != memory.models.end()) return found->second;
  }
  // Two threads may ask at once; both get the same answer.
  UPCI_TRY_ASSIGN(std::shared_ptr<const Model> model, ask_qemu(program, name, deadline));
  const std::scoped_lock lock(memory.mutex);
  return memory.models.emplace(std::pair(program, name), std::move(model)).first->second;
}

Result<std::string> device_properties(const Model& model, const std::vector<Word>& words) {
  std::string text;
  for (const Word& word : words) {
    if (!word.has_value) {
      return fail(Errc::kInvalid, fmt::format("qemu:{}: the word '{}' has no value", model.name, word.key),
                  "properties of a QEMU device are given as NAME=VALUE, such as mac=52:54:00:12:34:56");
    }
    if (std::ranges::find(kReserved, word.key) != kReserved.end()) {
      return fail(Errc::kInvalid, fmt::format("qemu:{}: the property '{}' is set by upci itself", model.name, word.key),
                  "leave it out; wire= and node= say what the device is plugged into");
    }
    if (!model.has(word.key)) {
      const std::vector<std::string> names(model.properties.begin(), model.properties.end());
      const std::vector<std::string> near = nearest_names(word.key, names, 3);
      return fail(Errc::kInvalid, fmt::format("qemu:{}: there is no property '{}'", model.name, word.key),
                  near.empty() ? fmt::format("'qemu-system-x86_64 -device {},help' lists them", model.name)
                               : fmt::format("did you mean {}?", fmt::join(near, ", ")));
    }
    if (std::ranges::any_of(word.value, [](char c) { return static_cast<unsigned char>(c) < 0x20; })) {
      return fail(Errc::kInvalid,
                  fmt::format("qemu:{}: the value of '{}' has a control character in it", model.name, word.key));
    }
    if (!text.empty()) text += ',';
    text += word.key;
    text += '=';
    for (const char c : word.value) text.append(c == ',' ? 2U : 1U, c);
  }
  return text;
}

}  // namespace upci::inline UPCI_VARIANT::emulation::qemu
