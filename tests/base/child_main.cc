// SPDX-License-Identifier: Apache-2.0
// The child of process_test.cc. Takes one order:
//   exit N      ends with that code
//   sleep       waits to be killed
//   stubborn    the same, deaf to SIGTERM; says "ready" on descriptor 1 first
//   fds         prints the numbers of its open descriptors to descriptor 1
//   say TEXT    writes the text to descriptor 2
//   env NAME    prints a variable
//   sum FD      reads lines from the descriptor until its end and exits with their number
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>

int main(int argc, char** argv) {
  const std::string order = argc > 1 ? argv[1] : "";
  const std::string argument = argc > 2 ? argv[2] : "";
  if (order == "exit") return std::atoi(argument.c_str());
  if (order == "sleep") {
    for (;;) ::pause();
  }
  if (order == "stubborn") {
    std::signal(SIGTERM, SIG_IGN);
    std::puts("ready");
    std::fflush(stdout);
    for (;;) ::pause();
  }
  if (order == "fds") {
    DIR* folder = ::opendir("/proc/self/fd");
    while (const dirent* entry = ::readdir(folder)) {
      const int fd = std::atoi(entry->d_name);
      if (entry->d_name[0] != '.' && fd != ::dirfd(folder)) std::printf("%d\n", fd);
    }
    ::closedir(folder);
    return 0;
  }
  if (order == "say") {
    std::fputs(argument.c_str(), stderr);
    return 0;
  }
  if (order == "env") {
    const char* value = std::getenv(argument.c_str());
    std::fputs(value != nullptr ? value : "(none)", stdout);
    return 0;
  }
  if (order == "sum") {
    int lines = 0;
    char byte = 0;
    while (::read(std::atoi(argument.c_str()), &byte, 1) == 1) lines += byte == '\n' ? 1 : 0;
    return lines;
  }
  return 99;
}
