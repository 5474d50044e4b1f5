// SPDX-License-Identifier: Apache-2.0
// A kernel with VFIO that exists only here: groups, containers, functions, and memory with physical addresses. It counts
// what is open, mapped and reachable by a device, notes what no program may do, and lets any call fail.
#pragma once

#include <array>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "vfio/kernel.h"

namespace upci::inline UPCI_VARIANT::test {

struct FakeBar {
  std::uint64_t size = 0;
  bool io = false;
  bool mappable = true;
  std::optional<std::vector<std::pair<std::uint64_t, std::uint64_t>>> sparse = {};  // offset, size
};

/// One PCI function. What a test sets before the function is opened, and what became of it.
struct FakeFunction {
  std::string address;
  std::string driver = "vfio-pci";  // "" for none
  std::string group = "7";
  int node = 0;
  std::array<FakeBar, 6> bars = {
      FakeBar{.size = 32, .io = true}, FakeBar{.size = 0x1000}, {}, {}, FakeBar{.size = 0x4000}, {}};
  unsigned msix = 4, msi = 0, intx = 1;
  bool request = true, error = true;  // it has these notices
  bool has_reset = true;
  int reset_refusal = 0;      // errno that VFIO_DEVICE_RESET gives
  int reset_busy = 0;         // so many times EAGAIN first
  bool pending = false;       // Transactions Pending
  bool stuck_master = false;  // the bus master bit does not go off

  std::vector<std::uint8_t> config = std::vector<std::uint8_t>(256);
  int memory = -1;                                           // memfd with the contents of all BARs
  std::map<std::pair<unsigned, unsigned>, int> routes = {};  // index, vector -> eventfd
  bool line_masked = false;
  unsigned resets = 0;
  std::map<std::pair<unsigned, unsigned>, std::string> affinity = {};

  std::uint16_t command() const { return static_cast<std::uint16_t>(config[4] | config[5] << 8); }
};

class FakeKernel final : public vfio::Kernel {
 public:
  static constexpr std::uint64_t kBarSpan = 0x1000000;  // of FakeFunction::memory for each BAR
  static constexpr unsigned kFirstIrq = 40;

  FakeKernel() = default;
  ~FakeKernel() override;

  /// Makes a function with usual capabilities; what it is made of can be changed until it is opened.
  FakeFunction& add(std::string address);
  /// What the function would send; lost where nothing is routed.
  void raise(FakeFunction& function, unsigned index, unsigned vector);

  // How the machine is.
  std::uint64_t hugepages = 0;
  unsigned run_pages = 1;                     // so many normal pages lie side by side
  std::uint64_t next_physical = 0x100000000;  // where the next ones lie
  bool frame_numbers = true;                  // pagemap shows them
  bool interrupt_remapping = true;
  bool type1v2 = true;
  std::optional<std::vector<std::pair<std::uint64_t, std::uint64_t>>> iova_ranges = {
      {{0, 0xfedfffff}, {0xfef00000, 0x7fffffffff}}};
  std::uint64_t page_sizes = 0xfffffffffffff000;
  std::uint64_t node_free_kib = 1 << 20;
  std::size_t most_mappings = 65535;
  unsigned vectors_left = 2048;
  bool populate_known = true;                          // the kernel knows MADV_POPULATE_WRITE
  bool moves_when_pinned = false;                      // the next pin moves the pages first
  bool short_unmap = false;                            // UNMAP_DMA says that it has unmapped nothing
  std::optional<std::uint32_t> bad_region_chain = {};  // cap_offset of all BAR regions
  std::optional<std::uint64_t> bad_region_offset = {};
  std::map<std::string, int> kept_effective = {};
  std::vector<std::string> log = {};  // records of /dev/kmsg

  // Failures.
  std::map<std::string, int> refusals = {};  // label -> errno: each such call fails
  std::size_t fail_at = 0;                   // the number of the call that fails, from 1; 0 for none
  int fail_errno = 0;
  std::string phase = {};  // begins the labels from now on

  // What happened.
  std::size_t calls = 0;
  std::vector<std::string> labels = {};
  std::string failed = {};                   // the label of the call that failed
  std::vector<std::string> violations = {};  // what no program may do
  std::vector<std::pair<std::uint64_t, std::uint64_t>> mapped_ever = {};
  std::vector<int> policies = {};  // modes of mbind

  /// Everything that is left, in words; empty when nothing is.
  std::string leaks() const;
  std::size_t open_files() const { return files_.size(); }
  std::size_t mapped_pages() const { return pages_.size(); }
  std::size_t dma_mappings() const;
  bool device_open(const FakeFunction& function) const;
  std::optional<std::uint64_t> physical(const std::byte* at) const;

  int open(const std::string& path, int flags) override;
  void close(int fd) noexcept override;
  int replace(int fd, int source) noexcept override;
  int ioctl(int fd, unsigned long request, std::uintptr_t argument) override;
  std::int64_t read(int fd, void* to, std::size_t len) override;
  int seek_end(int fd) override;
  std::int64_t pread(int fd, void* to, std::size_t len, std::uint64_t offset) override;
  std::int64_t pwrite(int fd, const void* from, std::size_t len, std::uint64_t offset) override;
  Answer<std::byte*> mmap(std::byte* at, std::size_t len, int protection, int flags, int fd,
                          std::uint64_t offset) override;
  int munmap(std::byte* at, std::size_t len) noexcept override;
  int madvise(std::byte* at, std::size_t len, int advice) override;
  int mlock(std::byte* at, std::size_t len) override;
  int mbind(std::byte* at, std::size_t len, int mode, int node) override;
  int memory_file(std::size_t len) override;
  int watch(std::span<const int> fds) override;
  Answer<std::string> read_link(const std::string& path) override;
  Answer<std::string> read_file(const std::string& path) override;
  int write_file(const std::string& path, const std::string& text) override;
  Answer<std::vector<std::string>> list(const std::string& path) override;

 private:
  struct Container {
    unsigned groups = 0;
    bool typed = false;
    std::map<std::uint64_t, std::pair<std::uintptr_t, std::uint64_t>> mappings = {};  // iova -> va, size
  };
  struct File {
    enum class Kind { kContainer, kGroup, kDevice, kNothing, kPagemap, kLog, kReal } kind = Kind::kNothing;
    std::string group = {};
    std::shared_ptr<Container> container = {};  // of a container, or the one that a group has joined
    FakeFunction* function = nullptr;
    int real = -1;
    std::size_t read = 0;
  };
  struct Page {
    FakeFunction* function = nullptr;  // whose registers it shows
    bool huge = false;
    std::uint64_t physical = 0;
  };

  int gate(const std::string& label);
  int add_file(File file);
  void let_go(File& file);
  FakeFunction* find(const std::string& address);
  bool group_open(const std::string& group) const;
  int group_ioctl(File& file, unsigned long request, std::uintptr_t argument);
  int container_ioctl(File& file, unsigned long request, std::uintptr_t argument);
  int device_ioctl(File& file, unsigned long request, std::uintptr_t argument);
  int iommu_info(std::uintptr_t argument);
  int map_dma(Container& container, std::uintptr_t argument);
  int unmap_dma(Container& container, std::uintptr_t argument);
  int region_info(FakeFunction& function, std::uintptr_t argument);
  int irq_info(FakeFunction& function, std::uintptr_t argument);
  int set_irqs(FakeFunction& function, std::uintptr_t argument);
  std::string interrupts() const;
  FakeFunction* of_irq(unsigned number, std::pair<unsigned, unsigned>& which);
  unsigned irq_number(const FakeFunction& function, unsigned index, unsigned vector) const;
  bool reachable(std::uintptr_t page) const;

  std::list<FakeFunction> functions_;
  std::map<int, File> files_;
  std::map<std::uintptr_t, Page> pages_;
  int next_fd_ = 100000;
};

}  // namespace upci::inline UPCI_VARIANT::test
