// SPDX-License-Identifier: Apache-2.0
// Runs one script on one subject.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tests/oracle/runner/script.h"
#include "tests/oracle/runner/subject.h"

namespace upci::inline UPCI_VARIANT::oracle {

/// How long to wait until nothing more happens after a line.
struct Patience {
  std::chrono::milliseconds quiet{15};      // without an expectation: no event for so long
  std::chrono::milliseconds blocked{60};    // the same, while the line's operation has not returned
  std::chrono::milliseconds settled{2};     // with one: it has come true, and nothing for so long
  std::chrono::milliseconds longest{3000};  // with one: given up after so long
};

/// What came of a script.
struct Outcome {
  std::vector<std::string> transcript;
  std::string difference;  // empty: as expected, or nothing was expected
  bool late = false;       // a line took so long that a timer may have gone off before its turn: this says nothing
};

/// Runs the script: each line is begun once the one before has had its effect. With `expected` (a transcript) the first
/// line with another effect ends the run. Errors: a command that the subject refuses, kTimeout (a thread does not come back).
Result<Outcome> run_script(const Script& script, Subject& subject, const Patience& patience,
                           const std::vector<std::string>* expected = nullptr);

/// Reads and runs a script or transcript, each time on a fresh subject, until none of its timers was late: on a machine that
/// is busy with other things `soon` must be later. Errors: those of all three, kTimeout (too busy for any of the times tried).
Result<Outcome> run_in_time(std::string_view text,
                            const std::function<Result<std::unique_ptr<Subject>>()>& make_subject,
                            const Patience& patience, const std::vector<std::string>* expected = nullptr);

}  // namespace upci::inline UPCI_VARIANT::oracle
