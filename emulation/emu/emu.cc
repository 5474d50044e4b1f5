// SPDX-License-Identifier: Apache-2.0
#include "emulation/emu/emu.h"

#include <utility>

#include "emulation/emu/nic.h"

namespace upci::inline UPCI_VARIANT::emulation::emu {

Result<std::shared_ptr<pci::Backend>> open(const DeviceSpec& spec, Cables& cables) {
  UPCI_TRY_ASSIGN(Options options, parse_options(spec));
  if (spec.wire.kind == WireSpec::Kind::kVhostUser) {
    UPCI_TRY_ASSIGN(std::unique_ptr<VhostUser> back_end, VhostUser::connect(spec.wire.name, VirtioCore::kQueues));
    UPCI_TRY_ASSIGN(std::shared_ptr<Nic> nic, Nic::create(std::move(options), UniqueFd(), std::move(back_end)));
    return nic;
  }
  UPCI_TRY_ASSIGN(UniqueFd wire, open_wire(spec.wire, cables));
  UPCI_TRY_ASSIGN(std::shared_ptr<Nic> nic, Nic::create(std::move(options), std::move(wire)));
  return nic;
}

Result<void> check(const DeviceSpec& spec) {
  UPCI_TRY(parse_options(spec));
  return {};
}

std::vector<FaultDescription> faults() {
  std::vector<FaultDescription> list;
  for (const FaultInfo& info : all_faults()) list.push_back({info.name, info.what, info.expected});
  return list;
}

std::vector<WordDescription> words() {
  std::vector<WordDescription> list;
  for (const WordInfo& info : all_words()) list.push_back({info.word, info.what});
  return list;
}

std::vector<std::string> violations(pci::Backend& backend) {
  const auto* const nic = dynamic_cast<const Nic*>(&backend);
  return nic != nullptr ? nic->violations() : std::vector<std::string>();
}

FrameCounts frame_counts(pci::Backend& backend) {
  const auto* const nic = dynamic_cast<const Nic*>(&backend);
  if (nic == nullptr) return {};
  const Stats stats = nic->stats();
  return {.sent = stats.sent, .received = stats.received, .dropped = stats.dropped};
}

void request_reset(pci::Backend& backend) {
  if (auto* const nic = dynamic_cast<Nic*>(&backend)) nic->request_reset();
}

void set_link(pci::Backend& backend, bool up) {
  if (auto* const nic = dynamic_cast<Nic*>(&backend)) nic->set_link(up);
}

}  // namespace upci::inline UPCI_VARIANT::emulation::emu
