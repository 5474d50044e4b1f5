// SPDX-License-Identifier: Apache-2.0
// Which features of a network card the driver can use, and which of them need which others.
#pragma once

#include "virtio/driver.h"

namespace upci::inline UPCI_VARIANT::virtio_net {

/// Receive offloads change what an application gets (frames longer than the MTU, checksums left out), so they are there on
/// request only: features=+GUEST_CSUM and the like.
virtio::FeatureTable feature_table(bool legacy);

}  // namespace upci::inline UPCI_VARIANT::virtio_net
