// SPDX-License-Identifier: Apache-2.0
#include "workqueue/timer.h"

#include <utility>

namespace upci::inline UPCI_VARIANT {

Timer* TimerHeap::meld(Timer* a, Timer* b) noexcept {
  if (a == nullptr) return b;
  if (b == nullptr) return a;
  if (b->expires < a->expires) std::swap(a, b);
  b->back = a;
  b->next = a->child;
  if (a->child != nullptr) a->child->back = b;
  a->child = b;
  return a;
}

// The two passes of a pairing heap: meld neighbours from the left, then the results from the right.
Timer* TimerHeap::meld_children(Timer* first) noexcept {
  Timer* pairs = nullptr;  // a stack through `next`
  while (first != nullptr) {
    Timer* a = first;
    Timer* b = a->next;
    first = b != nullptr ? b->next : nullptr;
    a->next = a->back = nullptr;
    if (b != nullptr) b->next = b->back = nullptr;
    Timer* pair = meld(a, b);
    pair->next = pairs;
    pairs = pair;
  }
  Timer* root = nullptr;
  while (pairs != nullptr) {
    Timer* rest = pairs->next;
    pairs->next = nullptr;
    root = meld(root, pairs);
    pairs = rest;
  }
  return root;
}

void TimerHeap::insert(Timer& timer, platform::TimePoint expires) noexcept {
  timer.expires = expires;
  timer.child = timer.next = timer.back = nullptr;
  timer.armed = true;
  root_ = meld(root_, &timer);
}

void TimerHeap::erase(Timer& timer) noexcept {
  Timer* children = meld_children(timer.child);
  if (&timer == root_) {
    root_ = children;
  } else {
    if (timer.back->child == &timer) {
      timer.back->child = timer.next;
    } else {
      timer.back->next = timer.next;
    }
    if (timer.next != nullptr) timer.next->back = timer.back;
    root_ = meld(root_, children);
  }
  timer.child = timer.next = timer.back = nullptr;
  timer.armed = false;
}

Timer* TimerHeap::pop_expired(platform::TimePoint now) noexcept {
  Timer* timer = root_;
  if (timer == nullptr || timer->expires > now) return nullptr;
  erase(*timer);
  return timer;
}

}  // namespace upci::inline UPCI_VARIANT
