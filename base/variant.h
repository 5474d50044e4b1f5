// SPDX-License-Identifier: Apache-2.0
// The two variants of the library. Every file opens its namespace as
//     namespace upci::inline UPCI_VARIANT { ... }
// so that the real and the simulated build of the same code have different symbols and can live in one program.
#pragma once

#if defined(UPCI_SIM)
#define UPCI_VARIANT simulated
#else
#define UPCI_VARIANT real
#endif
