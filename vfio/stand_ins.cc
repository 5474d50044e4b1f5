// SPDX-License-Identifier: Apache-2.0
#include "vfio/stand_ins.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <vector>

#include "base/log.h"
#include "vfio/failure.h"
#include "vfio/memory.h"

namespace upci::inline UPCI_VARIANT::vfio {

Result<std::shared_ptr<const StandIns>> StandIns::create(const std::shared_ptr<Kernel>& kernel) {
  constexpr const char* kOn = "what stands in for a device that was given back";
  const int null = kernel->open("/dev/null", O_RDONLY);
  if (null < 0) return refused("open(/dev/null)", kOn, null);
  KernelFd nothing(kernel, null);
  const int file = kernel->memory_file(kHugePage);
  if (file < 0) return refused("memfd_create", kOn, file);
  KernelFd ones(kernel, file);
  const std::vector<unsigned char> piece(kHugePage, 0xff);
  const std::int64_t put = kernel->pwrite(ones.get(), piece.data(), piece.size(), 0);
  if (put < 0) return refused("pwrite", kOn, put);
  if (static_cast<std::size_t>(put) != piece.size()) return implausible("pwrite", kOn, "it took only a part");
  return std::shared_ptr<const StandIns>(new StandIns(kernel, std::move(nothing), std::move(ones)));
}

void StandIns::cover(std::byte* at, std::size_t len) const noexcept {
  for (std::size_t done = 0; done < len;) {
    const std::size_t piece = std::min(len - done, kHugePage);
    if (!kernel_->mmap(at + done, piece, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, ones_.get(), 0)) {
      // Out of mappings, most likely: one for all that is left, which must not go on holding the device.
      log::warn("{} bytes of a device that was given back read zeroes, not ones: mmap failed", len - done);
      const auto last =
          kernel_->mmap(at + done, len - done, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0);
      if (!last) log::error("a device that was given back stays mapped: mmap failed with errno {}", last.error());
      return;
    }
    done += piece;
  }
}

}  // namespace upci::inline UPCI_VARIANT::vfio
