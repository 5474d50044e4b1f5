# SPDX-License-Identifier: Apache-2.0
"""One suite: the ctest entries of a preset that carry a label, run and counted test by test.

GoogleTest programs leave one XML file each, whose cases are counted one by one; any other ctest entry counts as one test. A
program that fails without a failed case (a crash, a leak, a time-out) counts as one more failure, so that nothing can fail unseen.
"""

import json
import os
import re
import subprocess
import threading
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = {"release": ROOT / "build", "asan": ROOT / "build/asan", "tsan": ROOT / "build/tsan"}
# addr2line comes with the compiler; llvm-symbolizer would be one more package.
SANITIZER_OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=1:halt_on_error=1:strict_string_checks=1:allow_addr2line=1",
    "LSAN_OPTIONS": "print_suppressions=0",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:allow_addr2line=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1:allow_addr2line=1",
}
SUPPRESSIONS = {"LSAN_OPTIONS": "lsan.supp", "TSAN_OPTIONS": "tsan.supp"}  # in tests/sanitizers/, each with a reason

_printing = threading.Lock()


@dataclass
class Suite:
    name: str
    passed: int = 0
    failed: list = field(default_factory=list)  # what, one line each
    skipped: list = field(default_factory=list)  # (what, reason)
    seconds: float = 0.0


def note(text):
    with _printing:
        print(text, flush=True)


def _idle():
    """In front of what gets only the time that nobody else wants: the scheduler takes a CPU that runs it for an idle one."""
    try:
        subprocess.run(["chrt", "-i", "0", "true"], stdin=subprocess.DEVNULL, capture_output=True, check=True)
        return ("chrt", "-i", "0")
    except (OSError, subprocess.SubprocessError):  # not in every container
        return ("nice", "-n", "19")


IDLE = _idle()


def run(command, log, environment=None, prefix=()):
    """Runs a command into a log file; returns its exit code. prefix: what lessens its claim to the CPUs, as IDLE."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as file:
        file.write(f"$ {' '.join(map(str, command))}\n".encode())
        file.flush()
        return subprocess.run([*prefix, *command], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=file,
                              stderr=subprocess.STDOUT, env=environment, check=False).returncode


def tail(log, lines=60):
    text = log.read_text(errors="replace").splitlines()
    return "\n".join("    " + line for line in text[-lines:])


def failures(log, each=40, at_most=200):
    """What the failed GoogleTest cases of a log printed: of each the last lines, up to its verdict."""
    shown, case = [], []
    for line in log.read_text(errors="replace").splitlines():
        if "[ RUN      ]" in line:
            case = []
        case.append(line)
        if re.search(r"\[  FAILED  \] .* \(\d+ ms\)$", line):
            shown += case[-each:]
            case = []
    return "\n".join("    " + line for line in shown[:at_most])


def sanitizer_environment():
    environment = dict(os.environ)
    for name, options in SANITIZER_OPTIONS.items():
        file = ROOT / "tests/sanitizers" / SUPPRESSIONS.get(name, "-")
        if file.is_file():
            options += f":suppressions={file}"
        environment[name] = options
    return environment


def build(preset, logs, prefix=()):
    """None when it built, else a Suite that says that it did not."""
    note(f"== {preset}: build")
    start = time.monotonic()
    log = logs / f"{preset}-build.log"
    log.unlink(missing_ok=True)
    code = run([ROOT / "tools/build", preset], log, prefix=prefix)
    seconds = time.monotonic() - start
    if code == 0:
        note(f"   {preset}: built, {seconds:.0f} s")
        return None
    note(f"   {preset}: does not build, {seconds:.0f} s\n{tail(log)}")
    return Suite(f"{preset} build", failed=[f"{preset}: it does not build ({log.relative_to(ROOT)})"], seconds=seconds)


def by_label(preset, labels=None):
    """label -> its ctest entries; an entry belongs to its first label. labels: only these."""
    shown = subprocess.run(["ctest", "--test-dir", BUILD[preset], "--show-only=json-v1"], stdin=subprocess.DEVNULL,
                           capture_output=True, text=True, check=True)
    found = {}
    for test in json.loads(shown.stdout)["tests"]:
        properties = {p["name"]: p["value"] for p in test.get("properties", [])}
        label = (properties.get("LABELS") or ["unlabelled"])[0]
        if labels is None or label in labels:
            found.setdefault(label, []).append(test["name"])
    return found


def _tsan_prefix(preset):
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


def _folder_for(preset, label):
    """A folder that is the preset's build to ctest, but in which it keeps the logs of this suite only: several run at once."""
    folder = BUILD[preset] / "suites" / label
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "CTestTestfile.cmake").write_text(f'subdirs("{BUILD[preset]}")\n')
    return folder


def run_suite(preset, label, names, logs, prefix=()):
    suite = Suite(f"{preset} {label}")
    note(f"== {suite.name}: {len(names)} programs")
    results = BUILD[preset] / "test-results"
    for name in names:
        (results / f"{name}.xml").unlink(missing_ok=True)
    log, junit = logs / f"{preset}-{label}.log", logs / f"{preset}-{label}.xml"
    log.unlink(missing_ok=True)
    junit.unlink(missing_ok=True)
    start = time.monotonic()
    run(_tsan_prefix(preset) +
        ["ctest", "--test-dir", _folder_for(preset, label), "-R", "^(" + "|".join(names) + ")$",
         "--output-on-failure", "--output-junit", junit], log, None if preset == "release" else sanitizer_environment(),
        prefix)
    suite.seconds = time.monotonic() - start
    status = {}
    if junit.is_file():
        for case in ElementTree.parse(junit).getroot().iter("testcase"):
            status[case.get("name")] = case
    for name in names:
        count_entry(suite, name, status.get(name), results / f"{name}.xml")
    said = [f"   {suite.name}: {suite.passed} passed, {len(suite.failed)} failed, {len(suite.skipped)} skipped, {suite.seconds:.0f} s"]
    if suite.failed:
        said += [*("   FAILED: " + what for what in suite.failed), failures(log), tail(log)]
    note("\n".join(said))
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
