// SPDX-License-Identifier: Apache-2.0
#include "vfio/vfio.h"

#include "vfio/backend.h"
#include "vfio/group.h"

namespace upci::inline UPCI_VARIANT::vfio {

Vfio::Vfio(std::shared_ptr<Kernel> kernel)
    : groups_(std::make_shared<Groups>(kernel ? std::move(kernel) : Kernel::real())) {}

Vfio::~Vfio() = default;

Result<std::shared_ptr<pci::Backend>> Vfio::open(const pci::Address& address, std::string name) {
  UPCI_TRY_ASSIGN(std::shared_ptr<Backend> backend, Backend::open(groups_, address, std::move(name)));
  return backend;
}

}  // namespace upci::inline UPCI_VARIANT::vfio
