// SPDX-License-Identifier: Apache-2.0
// Whether a stretch of code makes a system call, found out without tracing the process.
#pragma once

namespace bench {

/// While one lives, the calling thread's system calls are dispatched to a handler by the kernel (syscall user dispatch,
/// Linux 5.11 and x86): the first one is noted and carried out, and watching ends there. Costs nothing while nothing is
/// called. One per thread at a time.
class SystemCallWatch {
 public:
  SystemCallWatch();
  ~SystemCallWatch();
  SystemCallWatch(const SystemCallWatch&) = delete;
  SystemCallWatch& operator=(const SystemCallWatch&) = delete;
  bool seen() const noexcept;
  /// False where the kernel cannot do it: then nothing is ever seen.
  static bool available();
};

}  // namespace bench
