// SPDX-License-Identifier: Apache-2.0
// The network drivers on a card that the fuzzer plays, from the probe to the removal, on the simulated clock.
#pragma once

#include "tests/fuzz/input.h"

namespace upci::inline UPCI_VARIANT::fuzz {

/// The rules:
///   a probe ends by its deadline, bound or not; so does each command, and the removal;
///   a packet that the card gives is the driver's, once, and as long as it can be;
///   afterwards nothing is left: no memory, no quarantine, no descriptor, no thread.
void run_net_session(Input input, bool legacy);

}  // namespace upci::inline UPCI_VARIANT::fuzz
