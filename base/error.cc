// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"

#include <cerrno>
#include <system_error>

namespace upci::inline UPCI_VARIANT {

std::string Error::message() const {
  std::string text = what;
  if (sys_errno != 0) text += ": " + std::generic_category().message(sys_errno);
  if (verdict) {
    text += " (verdict: ";
    text += to_string(*verdict);
    text += ')';
  }
  return text;
}

std::unexpected<Error> fail_errno(std::string what, std::string advice, int sys_errno) {
  const int error = sys_errno != 0 ? sys_errno : errno;
  return std::unexpected(
      Error{.code = Errc::kSystem, .what = std::move(what), .advice = std::move(advice), .sys_errno = error});
}

std::unexpected<Error> fail_verdict(Verdict verdict, std::string step, std::string reg, std::string what,
                                    std::string advice) {
  return std::unexpected(Error{.code = Errc::kVerdict,
                               .what = std::move(what),
                               .advice = std::move(advice),
                               .verdict = verdict,
                               .step = std::move(step),
                               .reg = std::move(reg)});
}

}  // namespace upci::inline UPCI_VARIANT
