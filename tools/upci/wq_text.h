// SPDX-License-Identifier: Apache-2.0
// What `upci wq` prints for people, from the JSON document that a process gives. Columns as in the kernel's tools.
#pragma once

#include <string>

#include "tools/upci/output.h"

namespace upci::tool {

/// As wq_monitor.py: per workqueue total, infl, CPUtime, CPUitsv, CMW/RPR, mayday, rescued; then the pools and latencies.
/// Throws Json::exception where the document is not what it should be.
std::string wq_top_text(const Json& dump);
/// As wq_dump.py: pools, workqueues with their attributes and pools, busy workers, latencies. Throws as above.
std::string wq_dump_text(const Json& dump);

}  // namespace upci::tool
