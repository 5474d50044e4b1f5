// SPDX-License-Identifier: Apache-2.0
// Errors as values. An Error says what was tried, on what, and the errno or the verdict; advice says what to do about it.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <utility>

#include "base/verdict.h"

namespace upci::inline UPCI_VARIANT {

enum class Errc : std::uint8_t {
  kInvalid,      // an argument, a URI or a file that its text alone shows to be wrong (the command line's exit code 2)
  kUnavailable,  // not permitted, or the environment lacks something: no QEMU, no VFIO, address absent (exit code 5)
  kVerdict,      // a wait on the device ended in a verdict (exit code 3)
  kNoDriver,     // no driver matches (exit code 4)
  kDevice,       // the device gave something that no device may give: a bad capability, size, index or length
  kTimeout,      // a deadline passed without a device being to blame
  kSystem,       // a system call failed; sys_errno says how
  kState,        // the call does not fit the state of the object (already bound, shutting down, ...)
};

struct [[nodiscard]] Error {
  Errc code = Errc::kState;
  std::string what = {};    // what was tried, on what, and what came of it: one sentence without a full stop
  std::string advice = {};  // what the reader can do about it; may be empty
  int sys_errno = 0;        // 0, or the errno of the call that failed
  std::optional<Verdict> verdict = {};  // set exactly when code is kVerdict
  std::string step = {};                // step of the probe: "reset", "features_ok", ...; may be empty
  std::string reg = {};                 // the register waited on: "device_status", ...; may be empty

  /// One line for a person: what, the errno's text, the verdict.
  std::string message() const;
};

template <class T = void>
using Result = std::expected<T, Error>;

/// An error made of a code and a sentence; the optional advice says what to do about it.
inline std::unexpected<Error> fail(Errc code, std::string what, std::string advice = {}) {
  return std::unexpected(Error{.code = code, .what = std::move(what), .advice = std::move(advice)});
}

/// A failed system call. Reads errno (or takes the one given) before anything else can change it.
std::unexpected<Error> fail_errno(std::string what, std::string advice = {}, int sys_errno = 0);

/// A wait on a device that ended in a verdict.
std::unexpected<Error> fail_verdict(Verdict verdict, std::string step, std::string reg, std::string what,
                                    std::string advice = {});

}  // namespace upci::inline UPCI_VARIANT

/// Returns the error of a Result from the calling function; otherwise goes on.
#define UPCI_TRY(expr)                                            \
  do {                                                            \
    if (auto upci_try_result = (expr); !upci_try_result) {        \
      return std::unexpected(std::move(upci_try_result).error()); \
    }                                                             \
  } while (false)

/// Declares `decl` from the value of a Result, or returns its error from the calling function.
#define UPCI_TRY_ASSIGN(decl, expr) UPCI_TRY_ASSIGN_(UPCI_CONCAT(upci_try_, __LINE__), decl, expr)
#define UPCI_TRY_ASSIGN_(tmp, decl, expr)                   \
  auto tmp = (expr);                                        \
  if (!tmp) return std::unexpected(std::move(tmp).error()); \
  decl = std::move(*tmp)
#define UPCI_CONCAT(a, b) UPCI_CONCAT_(a, b)
#define UPCI_CONCAT_(a, b) a##b
