// SPDX-License-Identifier: Apache-2.0
#include "tools/upci/output.h"

#include <fmt/format.h>

#include <cstdio>

namespace upci::tool {

Json document() { return {{"schema", 1}}; }

std::string document_text(const Json& json) { return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"; }

ExitCode print_text(std::string_view text) {
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  if (written && std::fflush(stdout) == 0) return ExitCode::kDone;
  print_error(fail_errno("writing the result to stdout", "look for a full disk or a closed pipe").error());
  return ExitCode::kError;
}

ExitCode print_document(const Json& json) { return print_text(document_text(json)); }

void print_error(std::string_view what, std::string_view advice) {
  std::string line = fmt::format("upci: {}\n", what);
  if (!advice.empty()) line += fmt::format("      {}\n", advice);
  std::fputs(line.c_str(), stderr);
}

void print_error(const Error& error) { print_error(error.message(), error.advice); }

ExitCode give_up(const Error& error) {
  print_error(error);
  return exit_code_of(error.code);
}

Json or_null(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

Json or_null(int number) { return number < 0 ? Json(nullptr) : Json(number); }

void add_error(Json& json, const Error* error) {
  json["error"] = error == nullptr ? Json(nullptr) : Json(error->message());
  json["advice"] = error == nullptr ? Json(nullptr) : or_null(error->advice);
}

}  // namespace upci::tool
