// SPDX-License-Identifier: Apache-2.0
// What the commands print: one JSON document for programs, or text for people. Messages about errors go to stderr.
#pragma once

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>

#include "base/error.h"
#include "tools/upci/exit_code.h"

namespace upci::tool {

/// Keeps the fields in the order in which they were added: the order of the contract.
using Json = nlohmann::ordered_json;

/// A document with its "schema".
Json document();

/// The document as text that ends with a newline. Bytes that are no UTF-8 (a URI may hold any) are replaced.
std::string document_text(const Json& json);

/// Writes to stdout and makes sure that it has arrived. kError, with a message, when it has not (a full disk, a closed pipe).
ExitCode print_text(std::string_view text);
ExitCode print_document(const Json& json);

/// "upci: what; what to do", on stderr.
void print_error(const Error& error);
void print_error(std::string_view what, std::string_view advice = {});

/// Ends a command by an error before it could do anything: the message, and the exit code of the error.
ExitCode give_up(const Error& error);

/// null for an empty string.
Json or_null(const std::string& text);
/// null for a negative number: a node, CPU or group that is not known.
Json or_null(int number);
/// "error" and "advice", null where there is none.
void add_error(Json& json, const Error* error);

}  // namespace upci::tool
