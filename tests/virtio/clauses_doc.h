// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace upci::virtio_tests {

/// The whole text of docs/virtio-clauses.md.
std::string clauses_document();

}  // namespace upci::virtio_tests
