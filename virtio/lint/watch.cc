// SPDX-License-Identifier: Apache-2.0
#include "virtio/lint/watch.h"

#include <mutex>
#include <type_traits>
#include <utility>

#include "virtio/lint/watched_backend.h"
#include "virtio/packed_lint.h"
#include "virtio/ring_lint.h"
#include "virtio/spec/features.h"

namespace upci::inline UPCI_VARIANT::virtio::lint {

struct Watch::State {
  platform::Mutex mutex;
  std::shared_ptr<RegisterLint> registers;  // mutex
  std::shared_ptr<ChainLint> chains;        // mutex

  std::shared_ptr<ChainLint> current() {
    const std::lock_guard lock(mutex);
    return chains;
  }
};

namespace {

/// The chains of one queue.
class QueueSink final : public ChainSink {
 public:
  QueueSink(std::shared_ptr<ChainLint> lint, std::uint16_t queue) : lint_(std::move(lint)), queue_(queue) {}
  void on_chain(std::span<const Segment> chain) override { lint_->on_chain(queue_, chain); }
  void on_restart() override { lint_->on_restart(queue_); }

 private:
  const std::shared_ptr<ChainLint> lint_;
  const std::uint16_t queue_;
};

RingOptions options_of(const RegisterLint& registers) {
  const auto has = [features = registers.accepted()](unsigned bit) { return (features & spec::mask_of(bit)) != 0; };
  return {.legacy = registers.legacy(),
          .event_idx = has(spec::feature::kEventIdx),
          .in_order = has(spec::feature::kInOrder),
          .indirect = has(spec::feature::kIndirectDesc)};
}

}  // namespace

Watch::Watch() : state_(std::make_shared<State>()) {}
Watch::~Watch() = default;

std::shared_ptr<pci::Backend> Watch::wrap(std::shared_ptr<pci::Backend> backend) {
  auto watched = WatchedBackend::wrap(backend);
  if (!watched) return backend;
  auto chains = std::make_shared<ChainLint>(watched->registers(), watched->memory());
  const std::lock_guard lock(state_->mutex);
  state_->registers = watched->registers();
  state_->chains = std::move(chains);
  return watched;
}

ObserverFactory Watch::observers() {
  const auto make = [state = state_]<class Lint>(std::type_identity<Lint>, std::uint16_t queue, std::uint16_t size) {
    std::shared_ptr<RegisterLint> registers;
    std::shared_ptr<ChainLint> chains;
    {
      const std::lock_guard lock(state->mutex);
      registers = state->registers;
      chains = state->chains;
    }
    auto lint = std::make_unique<Lint>(size, registers ? options_of(*registers) : RingOptions{.indirect = true});
    if (chains) lint->set_sink(std::make_shared<QueueSink>(std::move(chains), queue));
    return lint;
  };
  return {.split = [make](std::uint16_t queue, std::uint16_t size) -> std::unique_ptr<RingObserver> {
            return make(std::type_identity<RingLint>{}, queue, size);
          },
          .packed = [make](std::uint16_t queue, std::uint16_t size) -> std::unique_ptr<PackedObserver> {
            return make(std::type_identity<PackedLint>{}, queue, size);
          }};
}

std::shared_ptr<const RegisterLint> Watch::registers() const {
  const std::lock_guard lock(state_->mutex);
  return state_->registers;
}
std::shared_ptr<const ChainLint> Watch::chains() const { return state_->current(); }

std::vector<std::string> Watch::breaches() const {
  std::vector<std::string> all;
  if (const auto lint = registers()) all = lint->breaches();
  if (const auto lint = chains()) {
    for (std::string& one : lint->breaches()) all.push_back(std::move(one));
  }
  return all;
}

std::vector<std::string> Watch::device_breaches() const {
  const auto lint = registers();
  return lint ? lint->device_breaches() : std::vector<std::string>();
}

}  // namespace upci::inline UPCI_VARIANT::virtio::lint
