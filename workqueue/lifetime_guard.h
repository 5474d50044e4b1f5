// SPDX-License-Identifier: Apache-2.0
// What a Work has besides in builds that check lifetimes; see workqueue/lifetime.h.
#pragma once

#include "base/variant.h"

namespace upci::inline UPCI_VARIANT {

class Work;

#if defined(UPCI_CHECK_LIFETIME)
namespace detail {

void work_is_made(void* at) noexcept;
void work_goes(Work& work) noexcept;

/// The first base of Work, so that it sees what was in that place before.
struct LifetimeGuard {
  LifetimeGuard() noexcept { work_is_made(this); }
};

}  // namespace detail
#endif

}  // namespace upci::inline UPCI_VARIANT
