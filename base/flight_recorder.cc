// SPDX-License-Identifier: Apache-2.0
#include "base/flight_recorder.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <new>
#include <utility>

#include "base/flight_record.h"

namespace upci::inline UPCI_VARIANT {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr auto kAcquire = std::memory_order_acquire;
constexpr auto kRelease = std::memory_order_release;

// FlightRecord::pending: bit 63 set, bit 62 write, 61..48 the register's name, 47..0 the time in microseconds (8 years).
constexpr std::uint64_t kPendingSet = std::uint64_t{1} << 63U;
constexpr std::uint64_t kPendingWrite = std::uint64_t{1} << 62U;
constexpr unsigned kPendingNameShift = 48;
constexpr std::uint64_t kPendingNameMask = 0x3fff;
constexpr std::uint64_t kPendingTimeMask = (std::uint64_t{1} << kPendingNameShift) - 1;
static_assert(FlightRecord::kNames <= kPendingNameMask);

std::int64_t now_ns() noexcept { return platform::Clock::now().time_since_epoch().count(); }

std::int64_t since_start_us(const FlightRecord& record) noexcept {
  return (now_ns() - record.start_ns.load(kRelaxed)) / 1000;
}

// Where the entry of this number lies, seen from the first of its start(): the first ones stay, the later ones go round.
std::size_t place_of(std::uint64_t nth) noexcept {
  if (nth < FlightRecord::kFirstEntries) return static_cast<std::size_t>(nth);
  return FlightRecord::kFirstEntries +
         static_cast<std::size_t>((nth - FlightRecord::kFirstEntries) % FlightRecord::kLatestEntries);
}

std::string name_at(const FlightRecord& record, std::uint32_t index) {
  if (index >= record.name_count.load(kAcquire) || index >= FlightRecord::kNames) return {};
  const auto& text = record.names[index].text;
  return std::string(text.data(), ::strnlen(text.data(), text.size()));
}

// The number of a name; enters it when it is new. When there is no room left, 0 (the empty name). Writer only.
std::uint32_t intern(FlightRecord& record, std::string_view name) noexcept {
  name = name.substr(0, std::min(name.find('\0'), FlightRecord::kNameLength - 1));
  const std::uint32_t count = record.name_count.load(kRelaxed);
  const auto matches = [&](std::uint32_t index) {
    const auto& text = record.names[index].text;
    return std::memcmp(text.data(), name.data(), name.size()) == 0 && text[name.size()] == '\0';
  };
  // A waiting loop reads the same register again and again.
  if (const std::uint32_t last = record.last_register.load(kRelaxed); last < count && matches(last)) return last;
  for (std::uint32_t index = 0; index < count; ++index) {
    if (matches(index)) return index;
  }
  if (count >= FlightRecord::kNames) return 0;
  FlightRecord::Name& fresh = record.names[count];
  name.copy(fresh.text.data(), name.size());
  record.name_count.store(count + 1, kRelease);  // pairs with name_at()
  return count;
}

// Reads one entry if it is whole and has the number `number`.
bool read_entry(const FlightRecord::Entry& entry, std::uint64_t number, std::uint32_t& name,
                TimelineEntry& out) noexcept {
  const std::uint64_t whole = 2 * number + 2;
  if (entry.version.load(kAcquire) != whole) return false;
  name = entry.name.load(kAcquire);
  out.t_us = entry.t_us.load(kAcquire);
  out.value = entry.value.load(kAcquire);
  out.count = entry.count.load(kAcquire);
  return entry.version.load(kAcquire) == whole;
}

void add_read(FlightRecord& record, std::uint32_t name, std::uint64_t value) noexcept {
  const std::uint64_t first = record.first_entry.load(kRelaxed);
  const std::uint64_t next = record.next_entry.load(kRelaxed);
  FlightRecord::Name& reg = record.names[name];
  if (reg.last_entry != FlightRecord::kNoEntry && reg.last_entry >= first) {
    FlightRecord::Entry& last = record.entries[place_of(reg.last_entry - first)];
    if (last.version.load(kRelaxed) == 2 * reg.last_entry + 2 && last.value.load(kRelaxed) == value) {
      last.count.store(last.count.load(kRelaxed) + 1, kRelease);
      return;
    }
  }
  FlightRecord::Entry& entry = record.entries[place_of(next - first)];
  entry.version.store(2 * next + 1, kRelaxed);  // odd; ordered before the fields by their release stores
  entry.name.store(name, kRelease);
  entry.t_us.store(since_start_us(record), kRelease);
  entry.value.store(value, kRelease);
  entry.count.store(1, kRelease);
  entry.version.store(2 * next + 2, kRelease);  // pairs with read_entry()
  reg.last_entry = next;
  record.next_entry.store(next + 1, kRelease);  // pairs with timeline()
}

std::unexpected<Error> no_record() {
  return fail(Errc::kInvalid, "the descriptor is not a flight record of this version");
}

Result<FlightRecord*> map_record(int fd) {
  void* memory = ::mmap(nullptr, sizeof(FlightRecord), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return fail_errno("cannot map a flight record");
  return static_cast<FlightRecord*>(memory);
}

}  // namespace

Result<FlightRecorder> FlightRecorder::create() {
  UniqueFd fd(::memfd_create("upci-flight-record", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return fail_errno("cannot create the shared memory of a flight record");
  if (::ftruncate(fd.get(), sizeof(FlightRecord)) != 0) return fail_errno("cannot size the memory of a flight record");
  // Whoever is handed the descriptor must not be able to cut it under the other's feet.
  if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0)
    return fail_errno("cannot seal a flight record");
  UPCI_TRY_ASSIGN(FlightRecord * memory, map_record(fd.get()));
  auto* record = ::new (static_cast<void*>(memory)) FlightRecord;
  record->size = sizeof(FlightRecord);
  record->start_ns.store(now_ns(), kRelease);
  return FlightRecorder(std::move(fd), record);
}

Result<FlightRecorder> FlightRecorder::open(UniqueFd fd) {
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) return fail_errno("cannot look at the descriptor of a flight record");
  if (!S_ISREG(status.st_mode) || status.st_size != static_cast<off_t>(sizeof(FlightRecord))) return no_record();
  UPCI_TRY_ASSIGN(FlightRecord * memory, map_record(fd.get()));
  FlightRecorder recorder(std::move(fd), std::launder(memory));  // unmaps it on every way out
  if (recorder.record_->magic != FlightRecord::kMagic || recorder.record_->version != FlightRecord::kVersion ||
      recorder.record_->size != sizeof(FlightRecord)) {
    return no_record();
  }
  return recorder;
}

FlightRecorder::FlightRecorder(UniqueFd fd, FlightRecord* record) noexcept : fd_(std::move(fd)), record_(record) {}

FlightRecorder::FlightRecorder(FlightRecorder&& other) noexcept
    : fd_(std::move(other.fd_)), record_(std::exchange(other.record_, nullptr)) {}

FlightRecorder& FlightRecorder::operator=(FlightRecorder&& other) noexcept {
  if (this == &other) return *this;
  if (record_ != nullptr) ::munmap(record_, sizeof(FlightRecord));
  fd_ = std::move(other.fd_);
  record_ = std::exchange(other.record_, nullptr);
  return *this;
}

FlightRecorder::~FlightRecorder() {
  if (record_ != nullptr) ::munmap(record_, sizeof(FlightRecord));
}

void FlightRecorder::start() noexcept {
  FlightRecord& record = *record_;
  record.pending.store(0, kRelease);
  record.step.store(0, kRelease);
  record.last_register.store(0, kRelease);
  record.start_ns.store(now_ns(), kRelease);
  record.first_entry.store(record.next_entry.load(kRelaxed), kRelease);
  keep_stack(StackTrace{});
}

void FlightRecorder::enter_step(std::string_view step) noexcept {
  record_->step.store(intern(*record_, step), kRelease);
}

void FlightRecorder::begin_access(std::string_view reg, bool write, std::uint64_t value) noexcept {
  FlightRecord& record = *record_;
  const std::uint32_t name = intern(record, reg);
  record.last_register.store(name, kRelease);
  const auto now = static_cast<std::uint64_t>(std::max<std::int64_t>(0, since_start_us(record)));
  record.pending.store(0, kRelaxed);
  record.pending_value.store(value, kRelease);
  record.pending.store(
      kPendingSet | (write ? kPendingWrite : 0) | (std::uint64_t{name} << kPendingNameShift) | (now & kPendingTimeMask),
      kRelease);
}

void FlightRecorder::end_access(std::uint64_t value) noexcept {
  FlightRecord& record = *record_;
  const std::uint64_t pending = record.pending.load(kRelaxed);
  if ((pending & kPendingSet) == 0) return;
  if ((pending & kPendingWrite) == 0) {
    add_read(record, static_cast<std::uint32_t>((pending >> kPendingNameShift) & kPendingNameMask), value);
  }
  record.pending.store(0, kRelease);
}

void FlightRecorder::keep_stack(const StackTrace& trace) noexcept {
  FlightRecord& record = *record_;
  const std::uint64_t version = record.stack_version.load(kRelaxed) | 1U;
  record.stack_version.store(version, kRelaxed);  // odd; ordered before the fields by their release stores
  for (std::size_t i = 0; i < trace.depth; ++i) record.stack_pc[i].store(trace.pc[i], kRelease);
  record.stack_depth.store(trace.depth, kRelease);
  record.stack_version.store(version + 1, kRelease);  // pairs with stack()
}

std::string FlightRecorder::step() const { return name_at(*record_, record_->step.load(kAcquire)); }

std::string FlightRecorder::last_register() const { return name_at(*record_, record_->last_register.load(kAcquire)); }

std::vector<TimelineEntry> FlightRecorder::timeline(std::string_view reg) const {
  const FlightRecord& record = *record_;
  std::vector<TimelineEntry> found;
  const std::string wanted(reg.substr(0, FlightRecord::kNameLength - 1));
  // Read in this order: start() moves first_entry up to next_entry, never past it.
  const std::uint64_t first = record.first_entry.load(kAcquire);
  const std::uint64_t next = record.next_entry.load(kAcquire);
  const std::uint64_t count = next - first;
  for (std::uint64_t nth = 0; nth < count; ++nth) {
    if (nth == FlightRecord::kFirstEntries && count > FlightRecord::kFirstEntries + FlightRecord::kLatestEntries) {
      nth = count - FlightRecord::kLatestEntries;  // those between have been overwritten
    }
    TimelineEntry entry;
    std::uint32_t name = 0;
    if (!read_entry(record.entries[place_of(nth)], first + nth, name, entry)) continue;
    if (name_at(record, name) == wanted) found.push_back(entry);
  }
  return found;
}

std::optional<PendingAccess> FlightRecorder::pending() const {
  const FlightRecord& record = *record_;
  for (int attempt = 0; attempt < 100; ++attempt) {
    const std::uint64_t pending = record.pending.load(kAcquire);
    if ((pending & kPendingSet) == 0) return std::nullopt;
    const std::uint64_t value = record.pending_value.load(kAcquire);
    if (record.pending.load(kAcquire) != pending) continue;  // the next access has begun meanwhile
    return PendingAccess{
        .reg = name_at(record, static_cast<std::uint32_t>((pending >> kPendingNameShift) & kPendingNameMask)),
        .write = (pending & kPendingWrite) != 0,
        .value = value,
        .t_us = static_cast<std::int64_t>(pending & kPendingTimeMask)};
  }
  return std::nullopt;  // accesses come and go: none hangs
}

StackTrace FlightRecorder::stack() const {
  const FlightRecord& record = *record_;
  // A writer that was killed in the middle leaves an odd version for ever: do not wait for it.
  for (int attempt = 0; attempt < 100; ++attempt) {
    const std::uint64_t version = record.stack_version.load(kAcquire);
    StackTrace trace;
    trace.depth = static_cast<std::size_t>(std::min<std::uint64_t>(record.stack_depth.load(kAcquire), trace.pc.size()));
    for (std::size_t i = 0; i < trace.depth; ++i)
      trace.pc[i] = static_cast<std::uintptr_t>(record.stack_pc[i].load(kAcquire));
    if ((version & 1U) == 0 && record.stack_version.load(kAcquire) == version) return trace;
    platform::relax();
  }
  return {};
}

}  // namespace upci::inline UPCI_VARIANT
