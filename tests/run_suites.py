#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds the presets, runs their suites and counts every single test. tools/test calls this; see its --help.

A suite is a ctest label of a preset. GoogleTest programs leave one XML file each, whose cases are counted one by one;
any other ctest entry counts as one test. A program that fails without a failed case (a crash, a leak, a time-out)
counts as one more failure, so that nothing can fail unseen.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "house"))
import source_tree  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
BUILD = {"release": ROOT / "build", "asan": ROOT / "build/asan", "tsan": ROOT / "build/tsan"}
QUICK_LABELS = ["unit", "sim", "cli", "house"]
# Suites of real threads and real time run one program at a time: their bounds are on this machine's clock.
ALONE = {"unit", "qemu", "real", "cli", "lab"}
# Without these the run was no run. (The simulated variant is single-threaded and not built for tsan.)
REQUIRED = {"release": {"unit", "sim", "house", "mutations"}, "asan": {"unit", "sim"}, "tsan": {"unit", "mutations"}}
TIDY_FOLDERS = ["base", "workqueue", "device", "pci", "vfio", "virtio", "emulation", "drivers"]
# addr2line comes with the compiler; llvm-symbolizer would be one more package.
SANITIZER_OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=1:halt_on_error=1:strict_string_checks=1:allow_addr2line=1",
    "LSAN_OPTIONS": "print_suppressions=0",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:allow_addr2line=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1:allow_addr2line=1",
}
SUPPRESSIONS = {"LSAN_OPTIONS": "lsan.supp", "TSAN_OPTIONS": "tsan.supp"}  # in tests/sanitizers/, each with a reason


@dataclass
class Suite:
    name: str
    passed: int = 0
    failed: list = field(default_factory=list)  # what, one line each
    skipped: list = field(default_factory=list)  # (what, reason)
    seconds: float = 0.0


def run(command, log, environment=None):
    """Runs a command into a log file; returns its exit code."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as file:
        file.write(f"$ {' '.join(map(str, command))}\n".encode())
        file.flush()
        return subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
                              env=environment, check=False).returncode


def tail(log, lines=60):
    text = log.read_text(errors="replace").splitlines()
    return "\n".join("    " + line for line in text[-lines:])


def note(text):
    print(text, flush=True)


def sanitizer_environment():
    environment = dict(os.environ)
    for name, options in SANITIZER_OPTIONS.items():
        file = ROOT / "tests/sanitizers" / SUPPRESSIONS.get(name, "-")
        if file.is_file():
            options += f":suppressions={file}"
        environment[name] = options
    return environment


def build(preset, logs):
    """None when it built, else a Suite that says that it did not."""
    note(f"== {preset}: build")
    start = time.monotonic()
    log = logs / f"{preset}-build.log"
    log.unlink(missing_ok=True)
    code = run([ROOT / "tools/build", preset], log)
    seconds = time.monotonic() - start
    note(f"   {seconds:.0f} s")
    if code == 0:
        return None
    note(tail(log))
    return Suite(f"{preset} build", failed=[f"{preset}: it does not build ({log.relative_to(ROOT)})"], seconds=seconds)


def ctest_entries(preset):
    """ctest entry -> its first label."""
    shown = subprocess.run(["ctest", "--test-dir", BUILD[preset], "--show-only=json-v1"], stdin=subprocess.DEVNULL,
                           capture_output=True, text=True, check=True)
    entries = {}
    for test in json.loads(shown.stdout)["tests"]:
        properties = {p["name"]: p["value"] for p in test.get("properties", [])}
        labels = properties.get("LABELS") or ["unlabelled"]
        entries[test["name"]] = labels[0]
    return entries


def tsan_prefix(preset):
    """ThreadSanitizer cannot place its shadow where the kernel randomises addresses too widely."""
    if preset != "tsan":
        return []
    for program in sorted((BUILD[preset] / "tests").glob("*")):
        if program.is_file() and os.access(program, os.X_OK):
            tried = subprocess.run([program, "--gtest_list_tests"], stdin=subprocess.DEVNULL, capture_output=True,
                                   check=False)
            if tried.returncode != 0 and b"ThreadSanitizer" in tried.stderr + tried.stdout:
                return ["setarch", "-R"]
            break
    return []


def run_suite(preset, label, names, logs):
    suite = Suite(f"{preset} {label}")
    note(f"== {suite.name}: {len(names)} programs")
    results = BUILD[preset] / "test-results"
    for name in names:
        (results / f"{name}.xml").unlink(missing_ok=True)
    log, junit = logs / f"{preset}-{label}.log", logs / f"{preset}-{label}.xml"
    log.unlink(missing_ok=True)
    junit.unlink(missing_ok=True)
    jobs = 1 if label in ALONE else os.cpu_count() or 1
    start = time.monotonic()
    run(tsan_prefix(preset) +
        ["ctest", "--test-dir", BUILD[preset], "-R", "^(" + "|".join(names) + ")$", "-j", str(jobs),
         "--output-on-failure", "--output-junit", junit], log, None if preset == "release" else sanitizer_environment())
    suite.seconds = time.monotonic() - start
    status = {}
    if junit.is_file():
        for case in ElementTree.parse(junit).getroot().iter("testcase"):
            status[case.get("name")] = case
    for name in names:
        count_entry(suite, name, status.get(name), results / f"{name}.xml")
    if suite.failed:
        note(tail(log, 120))
    note(f"   {suite.passed} passed, {len(suite.failed)} failed, {len(suite.skipped)} skipped, {suite.seconds:.0f} s")
    return suite


def count_entry(suite, name, entry, xml):
    """Adds one ctest entry: its cases where it is a GoogleTest program, else itself."""
    if entry is None:
        suite.failed.append(f"{name}: ctest has not run it")
        return
    ok = entry.get("status") == "run" and entry.find("failure") is None and entry.find("skipped") is None
    if not xml.is_file():
        skip = entry.find("skipped")
        why = skip.get("message") or "" if skip is not None else ""
        if ok:
            suite.passed += 1
        elif why.startswith("SKIP_"):  # it asked for it; ctest also says "skipped" of a program that is not there
            said = (entry.findtext("system-out") or "").strip().splitlines()
            suite.skipped.append((name, said[-1] if said else why))
        else:
            suite.failed.append(f"{name}: the program failed {why}".rstrip())
        return
    failed_before, cases = len(suite.failed), 0
    for case in ElementTree.parse(xml).getroot().iter("testcase"):
        cases += 1
        what = f"{name}: {case.get('classname')}.{case.get('name')}"
        skip = case.find("skipped")
        if case.find("failure") is not None:
            suite.failed.append(what)
        elif skip is not None:
            reason = (skip.get("message") or "").split("\n", 1)[-1].strip()
            suite.skipped.append((what, " ".join(reason.split()) or "gives no reason"))
        elif case.get("status") == "notrun":
            suite.skipped.append((what, "disabled"))
        else:
            suite.passed += 1
    if cases == 0:
        suite.failed.append(f"{name}: holds no test")
    elif not ok and len(suite.failed) == failed_before:
        suite.failed.append(f"{name}: all cases passed, but the program failed (a leak, or a crash at its end)")


def run_preset(preset, labels, logs):
    broken = build(preset, logs)
    if broken:
        return [broken]
    by_label = {}
    for name, label in ctest_entries(preset).items():
        if labels is None or label in labels:
            by_label.setdefault(label, []).append(name)
    suites = [run_suite(preset, label, names, logs) for label, names in sorted(by_label.items())]
    required = REQUIRED[preset] if labels is None else REQUIRED[preset] & set(labels)
    for label in sorted(required - set(by_label)):
        suites.append(Suite(f"{preset} {label}", failed=[f"{preset}: there is no test labelled {label}"]))
    return suites


def check_format(logs):
    note("== format")
    start = time.monotonic()
    sources = [str(path) for path in source_tree.files(ROOT) if source_tree.is_cxx(path)]
    log = logs / "format.log"
    log.unlink(missing_ok=True)
    suite = Suite("format")
    for at in range(0, len(sources), 50):
        if run(["clang-format-19", "--dry-run", "-Werror", *sources[at:at + 50]], log) == 0:
            suite.passed += len(sources[at:at + 50])
            continue
        for source in sources[at:at + 50]:  # which ones
            if run(["clang-format-19", "--dry-run", "-Werror", source], log) == 0:
                suite.passed += 1
            else:
                suite.failed.append(f"{source}: run clang-format-19 -i {source}")
    suite.seconds = time.monotonic() - start
    return suite


def check_tidy(logs):
    """clang-tidy over the libraries, as the tsan preset compiles them; one test per file. About 5 s a file and core: the
    command line and the tests are left out to keep this below four minutes on two cores."""
    suite = Suite("tidy")
    note("== tidy")
    start = time.monotonic()
    database = BUILD["tsan"] / "compile_commands.json"
    if run(["cmake", "--preset", "tsan"], logs / "tidy-configure.log") != 0:
        suite.failed.append("tidy: the tsan preset does not configure")
        return suite
    entries = [Path(entry["file"]) for entry in json.loads(database.read_text())]
    sources = sorted({path for path in entries
                      if any(path.is_relative_to(ROOT / folder) for folder in TIDY_FOLDERS)})
    log = logs / "tidy.log"
    log.unlink(missing_ok=True)
    pending, running = list(sources), []
    while pending or running:
        while pending and len(running) < (os.cpu_count() or 1):
            source = pending.pop(0)
            output = logs / "tidy" / (str(source.relative_to(ROOT)).replace("/", "_") + ".log")
            output.parent.mkdir(parents=True, exist_ok=True)
            with open(output, "wb") as file:
                running.append((source, output, subprocess.Popen(
                    ["clang-tidy-19", "-p", BUILD["tsan"], "--quiet", source], cwd=ROOT, stdin=subprocess.DEVNULL,
                    stdout=file, stderr=subprocess.DEVNULL)))
        source, output, process = running.pop(0)
        if process.wait() == 0:
            suite.passed += 1
        else:
            suite.failed.append(f"{source.relative_to(ROOT)}: clang-tidy-19 -p build/tsan {source.relative_to(ROOT)}")
            note(tail(output, 30))
    suite.seconds = time.monotonic() - start
    note(f"   {suite.passed} files clean, {len(suite.failed)} not, {suite.seconds:.0f} s")
    return suite


def report(suites):
    note("")
    width = max([len(suite.name) for suite in suites] + [5])
    note(f"{'suite':<{width}}  passed  failed  skipped  seconds")
    for suite in suites:
        note(f"{suite.name:<{width}}  {suite.passed:>6}  {len(suite.failed):>6}  {len(suite.skipped):>7}"
             f"  {suite.seconds:>7.1f}")
    for suite in suites:
        for what, reason in suite.skipped:
            note(f"skipped: {suite.name}: {what}: {reason}")
    for suite in suites:
        for what in suite.failed:
            note(f"FAILED: {suite.name}: {what}")
    passed = sum(suite.passed for suite in suites)
    failed = sum(len(suite.failed) for suite in suites)
    skipped = sum(len(suite.skipped) for suite in suites)
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
    parts = [options.only] if options.only else ["release"] if options.quick else [*BUILD, "format", "tidy"]
    suites = []
    for part in parts:
        if part == "format":
            suites.append(check_format(logs))
        elif part == "tidy":
            suites.append(check_tidy(logs))
        else:
            suites += run_preset(part, QUICK_LABELS if options.quick else None, logs)
    return report(suites)


if __name__ == "__main__":
    sys.exit(main())
