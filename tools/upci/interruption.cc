// SPDX-License-Identifier: Apache-2.0
#include "tools/upci/interruption.h"

#include <poll.h>

#include <cerrno>
#include <csignal>
#include <mutex>
#include <optional>
#include <utility>

namespace upci::tool {
namespace {

// A signal handler can reach nothing else.
platform::Atomic<int> g_signal{0};
std::optional<EventFd> g_wake;

void on_signal(int number) {
  const int saved = errno;
  g_signal.store(number, std::memory_order_release);
  g_wake->signal();  // one write()
  errno = saved;
}

constexpr int kSignals[] = {SIGINT, SIGTERM};

}  // namespace

int Interruption::signal() noexcept { return g_signal.load(std::memory_order_acquire); }

int Interruption::take() noexcept { return g_signal.exchange(0, std::memory_order_acq_rel); }

Result<void> Interruption::install(Interruption& interruption) {
  UPCI_TRY_ASSIGN(EventFd wake, EventFd::create());
  g_wake.emplace(std::move(wake));
  UPCI_TRY_ASSIGN(interruption.watcher_,
                  platform::Thread::create({.name = "upci/signals"}, [&interruption] { interruption.watch(); }));
  struct sigaction action = {};
  action.sa_handler = on_signal;
  // The second one finds the default again, for somebody who has no patience with our tidying up.
  action.sa_flags = SA_RESTART | static_cast<int>(SA_RESETHAND);
  ::sigemptyset(&action.sa_mask);
  for (const int number : kSignals) {
    struct sigaction before = {};
    ::sigaction(number, nullptr, &before);
    // Somebody who started us with the signal ignored (nohup, a background job of a plain shell) wants it so.
    if (before.sa_handler != SIG_IGN) ::sigaction(number, &action, nullptr);
  }
  return {};
}

Interruption::~Interruption() {
  if (!watcher_.joinable()) return;
  stop_.store(true, std::memory_order_release);
  g_wake->signal();
  watcher_.join();
}

void Interruption::set_action(std::function<void()> action) {
  const std::lock_guard lock(mutex_);
  action_ = std::move(action);
  if (came_ && action_) action_();
}

void Interruption::watch() {
  for (;;) {
    pollfd readable = {.fd = g_wake->fd(), .events = POLLIN, .revents = 0};
    if (::poll(&readable, 1, -1) < 0 && errno != EINTR) return;
    g_wake->drain();
    if (stop_.load(std::memory_order_acquire)) return;
    if (signal() == 0) continue;
    const std::lock_guard lock(mutex_);
    if (!std::exchange(came_, true) && action_) action_();
  }
}

}  // namespace upci::tool
