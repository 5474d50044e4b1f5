// SPDX-License-Identifier: Apache-2.0
// Interrupt moderation on QEMU's card, with and without messages.
#include "emulation/qemu/qemu.h"
#include "tests/drivers/moderation.h"

namespace upci::inline UPCI_VARIANT::driver_tests {
namespace {

class QemuModeration : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Cards, QemuModeration,
                         testing::Values("packed=off", "packed=on", "event_idx=off", "vectors=2"),
                         [](const auto& card) {
                           std::string name = card.param;
                           std::erase_if(name, [](char c) { return c == '_' || c == '='; });
                           return name;
                         });

TEST_P(QemuModeration, ABusyCardIsPolledAndAnIdleOneIsNot) {
  Bench bench;
  emulation::DeviceSpec spec = emu_spec({"disable-legacy=on", GetParam()});
  spec.uri = "qemu:virtio-net-pci";
  spec.model = "virtio-net-pci";
  auto opened = emulation::qemu::open(spec, bench.cables);
  ASSERT_TRUE(opened) << opened.error().message() << " / " << opened.error().advice;
  const device::Report report = bench.probe(std::move(*opened), bind(true), 10s);
  ASSERT_TRUE(report.ok()) << describe(report);
  check_adaptive(*bench.nic());
  EXPECT_FALSE(bench.nic()->failed().has_value());
  bench.remove();
}

}  // namespace
}  // namespace upci::inline UPCI_VARIANT::driver_tests
