// SPDX-License-Identifier: Apache-2.0
#include "device/quarantine.h"

#include <exception>
#include <iterator>
#include <mutex>
#include <utility>
#include <vector>

#include "base/log.h"

namespace upci::inline UPCI_VARIANT::device::quarantine {
namespace {

struct Kept {
  std::shared_ptr<DeviceState> state;
  std::unique_ptr<DmaMemory> memory;
};

// The memory outlives everything that could destroy it, static destructors included: hence a pointer that nobody deletes.
struct List {
  platform::Mutex mutex;
  std::vector<Kept> kept;  // mutex
};

List& list() {
  static List* const the_list = new List;
  return *the_list;
}

}  // namespace

void keep(std::shared_ptr<DeviceState> state, std::unique_ptr<DmaMemory> memory) {
  if (!memory) return;
  List& l = list();
  const std::lock_guard lock(l.mutex);
  try {
    // Growth first: a push_back that throws would destroy the memory that the device may still write to.
    if (l.kept.size() == l.kept.capacity()) l.kept.reserve(2 * l.kept.size() + 8);
  } catch (const std::exception&) {
    log::error("no memory to list {} bytes in quarantine: they are lost for the life of the process", memory->size());
    static_cast<void>(memory.release());
    return;
  }
  l.kept.push_back({std::move(state), std::move(memory)});
}

std::size_t release(const DeviceState& state) {
  if (state.quarantined()) return 0;
  std::vector<Kept> freed;  // destroyed without the lock: what frees memory may be slow
  List& l = list();
  {
    const std::lock_guard lock(l.mutex);
    std::vector<Kept> rest;
    rest.reserve(l.kept.capacity());
    for (Kept& kept : l.kept) (kept.state.get() == &state ? freed : rest).push_back(std::move(kept));
    l.kept = std::move(rest);
  }
  return freed.size();
}

Totals totals() {
  List& l = list();
  const std::lock_guard lock(l.mutex);
  Totals sum;
  for (const Kept& kept : l.kept) {
    ++sum.regions;
    sum.bytes += kept.memory->size();
  }
  return sum;
}

}  // namespace upci::inline UPCI_VARIANT::device::quarantine
