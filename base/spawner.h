// SPDX-License-Identifier: Apache-2.0
// Internal to base/: the one thread that starts all child processes.
//
// A child asks to be killed when its parent ends (PR_SET_PDEATHSIG), and the kernel takes the *thread* that forked for the
// parent. So all are forked by a thread that lives as long as the process.
#pragma once

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"

namespace upci::inline UPCI_VARIANT::detail {

/// A checked order: the program's path, and which descriptor here becomes which number there.
struct SpawnOrder {
  std::string path;
  std::vector<std::string> argv;
  std::vector<std::string> environment;  // all of it
  std::vector<std::pair<int, int>> fds;  // {here, there}; each number there once
  std::vector<UniqueFd> owned;           // descriptors that the order itself needs until it is carried out
};

struct Spawned {
  pid_t pid = -1;
  UniqueFd pidfd;
};

/// Has the order carried out by the spawner thread. Errors: as ChildProcess::spawn().
Result<Spawned> spawn_by_thread(SpawnOrder order);

/// Takes a killed child that would not end; it is reaped when it does, at the latest before a next one is spawned.
void reap_later(UniqueFd pidfd) noexcept;

}  // namespace upci::inline UPCI_VARIANT::detail
