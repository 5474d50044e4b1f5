// SPDX-License-Identifier: Apache-2.0
// Gives a fuzz target the files that it is named, and all in the folders: the corpus as an ordinary test, and one input
// under a debugger. Needs no libFuzzer.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/fuzz/input.h"

namespace {

std::vector<std::filesystem::path> files_of(int count, char** names) {
  std::vector<std::filesystem::path> files;
  for (int i = 0; i < count; ++i) {
    if (!std::filesystem::is_directory(names[i])) {
      files.emplace_back(names[i]);
      continue;
    }
    for (const auto& entry : std::filesystem::recursive_directory_iterator(names[i])) {
      if (entry.is_regular_file()) files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

int main(int argc, char** argv) {
  const auto files = files_of(argc - 1, argv + 1);
  if (files.empty()) {
    std::fprintf(stderr, "usage: %s FILE|FOLDER...   (there was no file)\n", argv[0]);
    return 2;
  }
  for (const auto& file : files) {
    std::ifstream stream(file, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(stream), {}};
    if (!stream) {
      std::fprintf(stderr, "%s cannot be read\n", file.c_str());
      return 1;
    }
    // Copied exactly, so that a sanitizer sees who reads behind the end. Named before it runs: one that crashes is known.
    const std::vector<std::uint8_t> exact(bytes.begin(), bytes.end());
    std::printf("%s: %zu bytes\n", file.c_str(), exact.size());
    std::fflush(stdout);
    LLVMFuzzerTestOneInput(exact.data(), exact.size());
  }
  std::printf("%zu inputs, all rules kept\n", files.size());
  return 0;
}
