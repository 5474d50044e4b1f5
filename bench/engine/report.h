// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/engine/runner.h"

namespace bench {

/// A case as a table for people: one row for each contestant, one line for each target.
std::string text_of(const Result& result);

/// Everything, each sample included, for programs. The fields are described in tools/bench.
nlohmann::ordered_json json_of(const Result& result);

/// What it ran on: CPU, kernel, compiler, peers and their versions, and what was missing.
nlohmann::ordered_json machine();

/// Above this share of the machine taken by others a sample is marked.
inline constexpr double kDisturbed = 0.05;

}  // namespace bench
