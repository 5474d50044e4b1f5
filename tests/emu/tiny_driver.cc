// SPDX-License-Identifier: Apache-2.0
#include "tests/emu/tiny_driver.h"

#include <cstring>
#include <utility>

namespace upci::inline UPCI_VARIANT::test {
namespace {

using Common = vpci::Common;
using Legacy = vpci::Legacy;

// Where the emulated device has them; a driver that is no test reads the capabilities.
constexpr unsigned kModernBar = 4;
constexpr std::uint64_t kModernConfig = 0x2000, kModernNotify = 0x3000;

}  // namespace

emulation::DeviceSpec spec_of(std::string_view words) {
  emulation::DeviceSpec spec{.uri = "emu:virtio-net", .model = "virtio-net", .words = {}};
  if (!words.empty()) spec.uri += "," + std::string(words);
  while (!words.empty()) {
    const std::string_view word = words.substr(0, words.find(','));
    words.remove_prefix(std::min(words.size(), word.size() + 1));
    const std::size_t equals = word.find('=');
    const std::string key(word.substr(0, equals));
    const bool has_value = equals != std::string_view::npos;
    const std::string value(has_value ? word.substr(equals + 1) : std::string_view());
    if (key == "fault") {
      spec.fault = value;
    } else if (key == "wire") {
      auto wire = emulation::WireSpec::parse(value);
      EXPECT_TRUE(wire) << wire.error().message();
      if (wire) spec.wire = *wire;
    } else {
      spec.words.push_back({.key = key, .value = value, .has_value = has_value});
    }
  }
  return spec;
}

std::shared_ptr<pci::Backend> open_device(std::string_view words, emulation::Cables& cables) {
  auto opened = emu::open(spec_of(words), cables);
  EXPECT_TRUE(opened) << opened.error().message();
  return opened ? *opened : nullptr;
}

std::shared_ptr<pci::Backend> open_device(std::string_view words) {
  emulation::Cables cables;
  return open_device(words, cables);
}

Frame make_frame(std::size_t size, std::uint32_t number) {
  Frame frame(size);
  for (std::size_t i = 0; i < size; ++i) frame[i] = static_cast<std::uint8_t>(number * 31 + i * 7);
  return frame;
}

TinyDriver::TinyDriver(std::shared_ptr<pci::Backend> backend, bool legacy)
    : backend_(std::move(backend)),
      legacy_(legacy),
      bar_(legacy ? vpci::kLegacyBar : kModernBar),
      events_(std::move(*platform::EventQueue::create())) {}

void TinyDriver::enable_interrupts(unsigned count) {
  std::vector<int> fds;
  for (unsigned i = 0; i < count; ++i) {
    eventfds_.push_back(std::move(*EventFd::create()));
    fds.push_back(eventfds_.back().fd());
    EXPECT_TRUE(events_.add(fds.back(), i));
  }
  EXPECT_TRUE(backend_->irqs().enable(fds));
}

void TinyDriver::master(bool on) { EXPECT_TRUE(backend_->control().set_bus_master(on)); }

std::uint8_t TinyDriver::status() { return legacy_ ? read<Legacy::DeviceStatus>() : read<Common::DeviceStatus>(); }

void TinyDriver::set_status(std::uint8_t value) {
  if (legacy_) {
    write<Legacy::DeviceStatus>(value);
  } else {
    write<Common::DeviceStatus>(value);
  }
}

void TinyDriver::reset() {
  set_status(0);
  EXPECT_TRUE(eventually([this] { return status() == 0; }));
}

std::uint64_t TinyDriver::features() {
  if (legacy_) return read<Legacy::DeviceFeatures>();
  write<Common::DeviceFeatureSelect>(0);
  const std::uint64_t low = read<Common::DeviceFeature>();
  write<Common::DeviceFeatureSelect>(1);
  return low | std::uint64_t{read<Common::DeviceFeature>()} << 32;
}

void TinyDriver::set_features(std::uint64_t features) {
  accepted_ = features;
  if (legacy_) {
    write<Legacy::DriverFeatures>(static_cast<std::uint32_t>(features));
    return;
  }
  write<Common::DriverFeatureSelect>(0);
  write<Common::DriverFeature>(static_cast<std::uint32_t>(features));
  write<Common::DriverFeatureSelect>(1);
  write<Common::DriverFeature>(static_cast<std::uint32_t>(features >> 32));
}

void TinyDriver::make_queue(std::uint16_t index) {
  Queue& queue = queues_[index];
  queue = Queue{};
  const bool physical = !has(vspec::feature::kAccessPlatform);
  const auto kind = physical ? device::DmaKind::kPhysical : device::DmaKind::kTranslated;
  queue.descriptors = 0;
  queue.avail = vring::legacy_avail_offset(kSize);
  queue.used = vring::legacy_used_offset(kSize);
  queue.memory = std::move(*backend_->dma().alloc({.len = vring::legacy_bytes(kSize), .kind = kind}));
  queue.buffers = std::move(*backend_->dma().alloc({.len = std::size_t{kSize} * kBuffer, .kind = kind}));
  const std::uint64_t iova = queue.memory->iova();
  const auto vector = static_cast<std::uint16_t>(eventfds_.empty() ? vpci::kNoVector : index + 1);
  if (legacy_) {
    write<Legacy::QueueSelect>(index);
    if (eventfds_.size() > 1) write<Legacy::QueueMsixVector>(vector);
    write<Legacy::QueueAddress>(static_cast<std::uint32_t>(iova >> vpci::kLegacyAddressShift));
    return;
  }
  write<Common::QueueSelect>(index);
  write<Common::QueueSize>(kSize);
  write<Common::QueueMsixVector>(vector);
  write<Common::QueueDescLow>(static_cast<std::uint32_t>(iova));
  write<Common::QueueDescHigh>(static_cast<std::uint32_t>(iova >> 32));
  write<Common::QueueDriverLow>(static_cast<std::uint32_t>(iova + queue.avail));
  write<Common::QueueDriverHigh>(static_cast<std::uint32_t>((iova + queue.avail) >> 32));
  write<Common::QueueDeviceLow>(static_cast<std::uint32_t>(iova + queue.used));
  write<Common::QueueDeviceHigh>(static_cast<std::uint32_t>((iova + queue.used) >> 32));
  write<Common::QueueEnable>(1);
}

void TinyDriver::bring_up_to_queues(std::uint64_t features) {
  reset();
  master();
  set_status(vstatus::kAcknowledge);
  add_status(vstatus::kDriver);
  set_features(features);
  if (!legacy_) {
    add_status(vstatus::kFeaturesOk);
    EXPECT_NE(status() & vstatus::kFeaturesOk, 0);
  }
  make_queue(vspec::net::kReceiveQueue);
  make_queue(vspec::net::kTransmitQueue);
}

void TinyDriver::bring_up(std::uint64_t features, std::uint16_t receive_buffers) {
  if (eventfds_.empty()) enable_interrupts();
  bring_up_to_queues(features);
  add_status(vstatus::kDriverOk);
  offer_receive_buffers(receive_buffers);
}

void TinyDriver::offer_receive_buffers(std::uint16_t count) {
  Queue& queue = queues_[vspec::net::kReceiveQueue];
  for (std::uint16_t i = 0; i < count; ++i) {
    const std::uint16_t at = queue.avail_index % kSize;
    set_descriptor(vspec::net::kReceiveQueue, at,
                   {.addr = queue.buffers->iova() + std::uint64_t{at} * kBuffer,
                    .len = kBuffer,
                    .flags = vring::kDescWrite,
                    .next = 0});
    make_available(vspec::net::kReceiveQueue, at);
  }
}

void TinyDriver::send(const Frame& frame) {
  Queue& queue = queues_[vspec::net::kTransmitQueue];
  const std::uint16_t at = queue.avail_index % kSize;
  std::byte* const buffer = queue.buffers->va() + std::size_t{at} * kBuffer;
  std::memset(buffer, 0, header_bytes());
  std::memcpy(buffer + header_bytes(), frame.data(), frame.size());
  set_descriptor(vspec::net::kTransmitQueue, at,
                 {.addr = queue.buffers->iova() + std::uint64_t{at} * kBuffer,
                  .len = static_cast<std::uint32_t>(header_bytes() + frame.size()),
                  .flags = 0,
                  .next = 0});
  make_available(vspec::net::kTransmitQueue, at);
}

std::optional<Frame> TinyDriver::receive(platform::Nanoseconds span) {
  Queue& queue = queues_[vspec::net::kReceiveQueue];
  const unsigned vector = eventfds_.size() > 1 ? 1 : 0;
  const Deadline deadline = Deadline::after(span);
  while (used_index(vspec::net::kReceiveQueue) == queue.used_seen) {
    if (!wait_for_interrupt(vector, deadline.remaining())) return std::nullopt;
  }
  const vring::UsedElement element = used_element(vspec::net::kReceiveQueue, queue.used_seen);
  ++queue.used_seen;
  if (element.id >= kSize || element.len < header_bytes() || element.len > kBuffer) {
    ADD_FAILURE() << "used element: id " << element.id << ", length " << element.len;
    return std::nullopt;
  }
  const std::byte* const buffer = queue.buffers->va() + std::size_t{element.id} * kBuffer;
  if (header_bytes() == vspec::net::kHeaderBytes) std::memcpy(&num_buffers_, buffer + 10, sizeof(num_buffers_));
  Frame frame(element.len - header_bytes());
  std::memcpy(frame.data(), buffer + header_bytes(), frame.size());
  offer_receive_buffers(1);
  return frame;
}

bool TinyDriver::wait_for_transmit() {
  Queue& queue = queues_[vspec::net::kTransmitQueue];
  const bool done = eventually([&] { return used_index(vspec::net::kTransmitQueue) == queue.avail_index; });
  queue.used_seen = used_index(vspec::net::kTransmitQueue);
  return done;
}

std::uint64_t TinyDriver::read_config(std::uint32_t offset, unsigned width) {
  if (!legacy_) return backend_->bar_read(bar_, kModernConfig + offset, width);
  const std::uint32_t base = eventfds_.size() > 1 ? vpci::kLegacyConfigOffsetMsix : vpci::kLegacyConfigOffset;
  return backend_->bar_read(bar_, base + offset, width);
}

void TinyDriver::notify(std::uint16_t queue) {
  if (legacy_) {
    write<Legacy::QueueNotify>(queue);
  } else {
    backend_->bar_write(bar_, kModernNotify + 4ULL * queue, 2, queue);
  }
}

bool TinyDriver::wait_for_interrupt(unsigned vector, platform::Nanoseconds span) {
  const Deadline deadline = Deadline::after(span);
  std::array<platform::Event, 4> ready;
  for (;;) {
    if (eventfds_[vector].drain() != 0) return true;
    if (deadline.expired()) return false;
    events_.wait(ready, deadline.when());
  }
}

platform::Atomic<std::uint16_t>& TinyDriver::shared(std::uint16_t queue, std::uint64_t offset) {
  void* const at = queues_[queue].memory->va() + offset;
  return *static_cast<platform::Atomic<std::uint16_t>*>(at);
}

std::uint16_t TinyDriver::used_index(std::uint16_t queue) {
  return shared(queue, queues_[queue].used + vring::kIndexOffset).load(std::memory_order_acquire);
}

vring::UsedElement TinyDriver::used_element(std::uint16_t queue, std::uint16_t at) {
  vring::UsedElement element{};
  std::memcpy(&element,
              queues_[queue].memory->va() + queues_[queue].used + vring::kRingOffset + sizeof(element) * (at % kSize),
              sizeof(element));
  return element;
}

void TinyDriver::set_descriptor(std::uint16_t queue, std::uint16_t at, const vring::Descriptor& descriptor) {
  std::memcpy(queues_[queue].memory->va() + sizeof(descriptor) * at, &descriptor, sizeof(descriptor));
}

void TinyDriver::make_available(std::uint16_t index, std::uint16_t head) {
  Queue& queue = queues_[index];
  std::byte* const avail = queue.memory->va() + queue.avail;
  std::memcpy(avail + vring::kRingOffset + 2 * std::size_t{queue.avail_index % std::size_t{kSize}}, &head,
              sizeof(head));
  const std::uint16_t before = queue.avail_index++;
  shared(index, queue.avail + vring::kIndexOffset).store(queue.avail_index, std::memory_order_release);
  // Pairs with the fence in the device between asking for notifications and its last look at the index.
  platform::fence(std::memory_order_seq_cst);
  bool wanted = false;
  if (has(vspec::feature::kEventIdx)) {
    const std::uint16_t event = shared(index, queue.used + vring::avail_event_offset(kSize)).load();
    wanted = vring::event_reached(event, queue.avail_index, before);
  } else {
    wanted = (shared(index, queue.used + vring::kFlagsOffset).load() & vring::kUsedNoNotify) == 0;
  }
  if (wanted) notify(index);
}

void TinyDriver::set_avail_flags(std::uint16_t queue, std::uint16_t flags) {
  shared(queue, queues_[queue].avail + vring::kFlagsOffset).store(flags);
}

void TinyDriver::set_used_event(std::uint16_t queue, std::uint16_t event) {
  shared(queue, queues_[queue].avail + vring::used_event_offset(kSize)).store(event);
}

}  // namespace upci::inline UPCI_VARIANT::test
