// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "base/process.h"

namespace upci {
namespace {

// What a fresh process writes to stderr when it logs one line of each level, with UPCI_LOG set to this.
std::string logged_with(const char* level) {
  Pipe pipe = Pipe::create().value();
  const pid_t child = ::fork();
  if (child == 0) {
    ::setenv("UPCI_LOG", level, 1);
    ::dup2(pipe.write.get(), STDERR_FILENO);
    log::debug("one {}", 1);
    log::info("two {}", 2);
    log::warn("three {}", 3);
    log::error("four {}", 4);
    ::_exit(0);
  }
  pipe.write.reset();
  std::string text;
  char buffer[256];
  for (ssize_t got = 0; (got = ::read(pipe.read.get(), buffer, sizeof(buffer))) > 0;) {
    text.append(buffer, static_cast<std::size_t>(got));
  }
  ::waitpid(child, nullptr, 0);
  return text;
}

TEST(Log, GoesToStderrFromWarningsOnAndUpciLogChangesThat) {
  EXPECT_EQ(logged_with(""), "upci: warning: three 3\nupci: error: four 4\n");
  EXPECT_EQ(logged_with("no-such-level"), logged_with(""));
  EXPECT_EQ(logged_with("info"), "upci: info: two 2\nupci: warning: three 3\nupci: error: four 4\n");
  EXPECT_EQ(logged_with("debug").find("upci: debug: one 1\n"), 0u);
  EXPECT_EQ(logged_with("off"), "");
}

}  // namespace
}  // namespace upci
