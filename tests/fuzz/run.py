#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fuzzes the drivers with libFuzzer as their device: tools/soak fuzz calls this.

Builds the preset fuzz and runs each target for the minutes, as many at once as there are CPUs. What is found on the way is
kept in build/fuzz/corpus/TARGET and used again by the next run; --keep puts the smallest set of inputs that reaches as much
into tests/fuzz/corpus/TARGET, which the test suites replay.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
CORPUS = ROOT / "tests/fuzz/corpus"
BUILD = ROOT / "build/fuzz"
# A longer input finds nothing that a shorter one does not: these are small state machines.
MAX_LENGTH = 1024
ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_leaks=1:allow_addr2line=1:quarantine_size_mb=32",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:allow_addr2line=1",
}


def targets():
    return sorted(path.name for path in CORPUS.iterdir() if path.is_dir())


def program(target, kind="fuzz"):
    return BUILD / "tests" / f"{kind}_{target}"


def build(names):
    wanted = [f"{kind}_{name}" for name in names for kind in ("fuzz", "fuzz_replay")]
    commands = [["cmake", "--build", "--preset", "fuzz", "--target", *wanted]]
    if not (BUILD / "build.ninja").is_file():
        commands.insert(0, ["cmake", "--preset", "fuzz"])
    for command in commands:
        done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"{done.stdout[-5000:]}{done.stderr[-5000:]}\ntools/soak fuzz: {' '.join(command)} failed")


class Run:
    """One target, fuzzed for some time by a process of its own."""

    def __init__(self, target, seconds):
        self.target = target
        self.work = BUILD / "corpus" / target
        self.findings = BUILD / "findings" / target
        self.log = BUILD / "corpus" / f"{target}.log"
        self.work.mkdir(parents=True, exist_ok=True)
        self.findings.mkdir(parents=True, exist_ok=True)
        self.before = set(self.findings.iterdir())
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [program(target), f"-max_total_time={seconds}", f"-max_len={MAX_LENGTH}", "-len_control=0", "-timeout=60",
                 "-report_slow_units=60",  # on a busy machine any is slow now and then
                 "-rss_limit_mb=2048", "-print_final_stats=1", f"-artifact_prefix={self.findings}/", self.work,
                 CORPUS / target],
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env=dict(os.environ, **ENVIRONMENT))

    def report(self):
        """Prints what came of it; True when nothing was found."""
        text = self.log.read_text(errors="replace")
        statistics = dict(re.findall(r"^stat::(\w+): +(\d+)$", text, re.MULTILINE))
        reached = re.findall(r" cov: (\d+) ft: (\d+) corp: (\d+)", text)
        coverage, features, _ = reached[-1] if reached else ("?", "?", "?")
        print(f"{self.target:<16} {statistics.get('number_of_executed_units', '?'):>10} executions,"
              f" {statistics.get('average_exec_per_sec', '?'):>6}/s, coverage {coverage} ({features} features),"
              f" {statistics.get('new_units_added', '?')} new inputs", flush=True)
        found = sorted(set(self.findings.iterdir()) - self.before)
        for path in found:
            print(f"  FOUND {path.relative_to(ROOT)}\n"
                  f"  replay: {program(self.target, 'fuzz_replay').relative_to(ROOT)} {path.relative_to(ROOT)}")
        if self.process.returncode != 0:
            print(f"  exit code {self.process.returncode}; the end of {self.log.relative_to(ROOT)}:")
            print("\n".join("    " + line for line in text.splitlines()[-25:]))
        return self.process.returncode == 0 and not found


def keep(target):
    """The smallest set of inputs, of the committed ones and the new ones, that reaches as much as all."""
    chosen = BUILD / "corpus" / f"{target}.chosen"
    chosen.mkdir(parents=True, exist_ok=True)
    for path in chosen.iterdir():
        path.unlink()
    # By the branches that are reached, without how often: the set stays small, and its replay quick.
    subprocess.run([program(target), "-merge=1", "-use_counters=0", f"-max_len={MAX_LENGTH}", chosen, CORPUS / target,
                    BUILD / "corpus" / target], cwd=ROOT, check=True, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ, **ENVIRONMENT))
    known = {path.name for path in (CORPUS / target).iterdir()}
    for path in chosen.iterdir():
        (CORPUS / target / path.name).write_bytes(path.read_bytes())
    # Inputs with a name of their own stand for a fault that was mended: they stay.
    for name in known - {path.name for path in chosen.iterdir()}:
        if re.fullmatch(r"[0-9a-f]{40}", name):
            (CORPUS / target / name).unlink()
    print(f"{target:<16} keeps {len(list((CORPUS / target).iterdir()))} inputs", flush=True)


def main():
    parser = argparse.ArgumentParser(prog="tools/soak fuzz", description=__doc__.split("\n\n", maxsplit=1)[0],
                                     epilog=f"Targets: {', '.join(targets())}.")
    parser.add_argument("target", nargs="*", metavar="TARGET", help="all of them when none is named")
    parser.add_argument("--minutes", type=float, default=10, help="for each target (10)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="targets at once (the number of CPUs)")
    parser.add_argument("--keep", action="store_true", help="put what was reached into tests/fuzz/corpus")
    options = parser.parse_args()
    names = options.target or targets()
    unknown = sorted(set(names) - set(targets()))
    if unknown or options.minutes <= 0 or options.jobs < 1:
        parser.error(f"no such target: {', '.join(unknown)}" if unknown else "--minutes and --jobs take a positive number")
    build(names)
    clean, waiting, running = True, list(names), []
    while waiting or running:
        while waiting and len(running) < options.jobs:
            running.append(Run(waiting.pop(0), max(1, round(options.minutes * 60))))
        time.sleep(0.2)
        for run in [run for run in running if run.process.poll() is not None]:
            running.remove(run)
            clean = run.report() and clean
    if options.keep:
        for name in names:
            keep(name)
    return 0 if clean else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        sys.exit(f"tools/soak fuzz: {' '.join(map(str, error.cmd))}: exit code {error.returncode}")
