#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds the presets, runs their suites and counts every single test. tools/test calls this; see its --help.

The suites that are about real time run one program at a time, with the machine to themselves as far as that goes. What has time
runs beside them with less of a claim to the CPUs, two things at once: the builds for the sanitizers, the laboratory's guests, what
is simulated, counted, compiled or looked over.
"""

import argparse
import shutil
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import source_checks  # noqa: E402
import suites  # noqa: E402
from suites import BUILD, ROOT, Suite, note  # noqa: E402

QUICK_LABELS = ["unit", "sim", "cli", "house"]
# Suites of real threads and real time: their bounds are on this machine's clock. (A mutation of what the engine makes of a
# worker that is preempted is found by a test that must not be preempted itself.)
REAL_TIME = {"release": {"unit", "qemu", "real", "cli", "mutations"}, "asan": {"unit", "qemu", "real"},
             "tsan": {"unit", "qemu", "real"}}
BESIDE = ("nice", "-n", "10")
# Without these the run was no run. (The simulated variant is single-threaded and not built for tsan.)
REQUIRED = {"release": {"unit", "sim", "house", "mutations"}, "asan": {"unit", "sim"}, "tsan": {"unit", "mutations"}}


class Runner:
    def __init__(self, logs):
        self._logs = logs
        self._beside = ThreadPoolExecutor(2)
        self._suites = []  # Suite, or what will be one

    def run(self, presets, labels, checks):
        """All of these presets' suites with these labels (None: all), and these checks."""
        builds = {preset: Future() for preset in presets}
        self._beside.submit(self._build, builds)
        for place, preset in enumerate(presets):
            broken = builds[preset].result()
            if place == len(presets) - 1:
                self._check(checks)  # tidy configures a preset: not while one is built
            if broken:
                self._suites.append(broken)
            else:
                self._run_preset(preset, labels)
        if not presets:
            self._check(checks)
        self._beside.shutdown()
        return [suite if isinstance(suite, Suite) else suite.result() for suite in self._suites]

    def _build(self, builds):
        """One after another: the first at once, the others while suites run."""
        for place, (preset, built) in enumerate(builds.items()):
            try:
                built.set_result(suites.build(preset, self._logs, suites.IDLE if place else ()))
            except BaseException as error:  # who waits for it gets it
                built.set_exception(error)

    def _run_preset(self, preset, labels):
        by_label = suites.by_label(preset, labels)
        required = REQUIRED[preset] if labels is None else REQUIRED[preset] & set(labels)
        for label in sorted(required - set(by_label)):
            self._suites.append(Suite(f"{preset} {label}", failed=[f"{preset}: there is no test labelled {label}"]))
        # The laboratory is the longest, so it comes first.
        for label in sorted(set(by_label) - REAL_TIME[preset], key=lambda label: (label != "lab", label)):
            self._suites.append(self._beside.submit(suites.run_suite, preset, label, by_label[label], self._logs, BESIDE))
        for label in sorted(set(by_label) & REAL_TIME[preset]):
            self._suites.append(suites.run_suite(preset, label, by_label[label], self._logs))

    def _check(self, checks):
        self._suites += [self._beside.submit(check, self._logs) for check in checks]


def report(found):
    note("")
    width = max([len(suite.name) for suite in found] + [5])
    note(f"{'suite':<{width}}  passed  failed  skipped  seconds")
    for suite in found:
        note(f"{suite.name:<{width}}  {suite.passed:>6}  {len(suite.failed):>6}  {len(suite.skipped):>7}"
             f"  {suite.seconds:>7.1f}")
    for suite in found:
        for what, reason in suite.skipped:
            note(f"skipped: {suite.name}: {what}: {reason}")
    for suite in found:
        for what in suite.failed:
            note(f"FAILED: {suite.name}: {what}")
    passed = sum(suite.passed for suite in found)
    failed = sum(len(suite.failed) for suite in found)
    skipped = sum(len(suite.skipped) for suite in found)
    note(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 0 if failed == 0 and passed > 0 else 1


def main():
    parser = argparse.ArgumentParser(prog="tools/test", description="Builds and runs all suites: release, asan+ubsan, "
                                     "tsan, clang-format, clang-tidy. Logs are left in build/logs/.")
    parser.add_argument("--quick", action="store_true", help="release only, without the suites that start QEMU")
    parser.add_argument("--only", choices=[*BUILD, "format", "tidy"], help="one part of the whole")
    options = parser.parse_args()
    logs = ROOT / "build/logs"
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    parts = [options.only] if options.only else ["release"] if options.quick else [*BUILD, "tidy", "format"]
    checks = {"format": source_checks.check_format, "tidy": source_checks.check_tidy}
    found = Runner(logs).run([part for part in parts if part in BUILD], QUICK_LABELS if options.quick else None,
                             [checks[part] for part in parts if part in checks])
    return report(found)


if __name__ == "__main__":
    sys.exit(main())
