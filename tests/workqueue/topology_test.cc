// SPDX-License-Identifier: Apache-2.0
#include "workqueue/topology.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/platform.h"

namespace upci {
namespace {

TEST(Topology, OfThisMachineHasTheCpusOfTheAffinityMask) {
  auto topology = Topology::detect();
  ASSERT_TRUE(topology.has_value()) << topology.error().message();
  std::vector<int> cpus;
  for (const auto& cpu : topology->cpus()) {
    cpus.push_back(cpu.os_cpu);
    EXPECT_EQ(cpu.id, cpu.os_cpu);
    EXPECT_TRUE(topology->has_node(cpu.node));
  }
  EXPECT_EQ(cpus, platform::online_cpus());
  EXPECT_FALSE(topology->is_synthetic());
  EXPECT_FALSE(topology->housekeeping_cpus().empty());
}

TEST(Topology, SyntheticCpusAreMappedOntoTheOnesThatExist) {
  auto topology = Topology::synthetic("numa:2 core:4");
  ASSERT_TRUE(topology.has_value()) << topology.error().message();
  ASSERT_EQ(topology->cpus().size(), 8U);
  EXPECT_EQ(topology->nodes(), 2);
  const std::vector<int> exist = platform::online_cpus();
  for (const auto& cpu : topology->cpus()) {
    EXPECT_EQ(cpu.node, cpu.id / 4);
    EXPECT_NE(std::ranges::find(exist, cpu.os_cpu), exist.end());
  }
  EXPECT_EQ(topology->housekeeping_cpus_of(1), (std::vector<int>{4, 5, 6, 7}));
  EXPECT_TRUE(topology->housekeeping_cpus_of(2).empty());
  EXPECT_FALSE(topology->has_node(2));
  EXPECT_EQ(topology->find(8), nullptr);
}

TEST(Topology, ADescriptionThatHwlocCannotReadIsRefused) {
  for (const char* description : {"", "nodes=2", "numa:0 core:2", "core:"}) {
    auto topology = Topology::synthetic(description);
    ASSERT_FALSE(topology.has_value()) << description;
    EXPECT_EQ(topology.error().code, Errc::kInvalid);
    EXPECT_FALSE(topology.error().advice.empty());
  }
}

}  // namespace
}  // namespace upci
