// SPDX-License-Identifier: Apache-2.0
// The device of the data path's benchmark: a testpmd whose vhost port polls on a CPU of its own. One at a time.
#pragma once

#include <string>

namespace bench::datapath {

/// The socket of a testpmd in that mode (rxonly, txonly, io) that polls on `cpu`; the one that runs already where it is the
/// same, so that all contestants of a case have the same one. Ends the program with a message when there is none.
std::string backend_socket(const std::string& case_name, const std::string& mode, unsigned queues, int cpu);

}  // namespace bench::datapath
