// SPDX-License-Identifier: Apache-2.0
#include "drivers/virtio_net/frame.h"

#include <algorithm>
#include <cstring>

namespace upci::inline UPCI_VARIANT::virtio_net {

bool write_frame(Nic& nic, Packet& head, std::span<const std::byte> frame) {
  for (Packet* part = &head;; part = part->next) {
    const std::size_t here = std::min<std::size_t>(frame.size(), part->capacity);
    if (here != 0) std::memcpy(part->data, frame.data(), here);
    part->length = static_cast<std::uint32_t>(here);
    frame = frame.subspan(here);
    if (frame.empty()) return true;
    part->next = nic.alloc();
    if (part->next != nullptr) continue;
    if (head.next != nullptr) nic.free(head.next);
    head.next = nullptr;
    head.length = 0;
    return false;
  }
}

std::size_t read_frame(const Packet& head, std::span<std::byte> into) noexcept {
  std::size_t done = 0;
  for (const Packet* part = &head; part != nullptr && done < into.size(); part = part->next) {
    const std::size_t here = std::min<std::size_t>(part->length, into.size() - done);
    if (here != 0) std::memcpy(into.data() + done, part->data, here);
    done += here;
  }
  return done;
}

}  // namespace upci::inline UPCI_VARIANT::virtio_net
