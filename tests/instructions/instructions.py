#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Counts the instructions of what is done over and over, and compares with the budget: a work that is queued and run, a frame
that is sent and received.

The simulated variant is one thread and the same each time, and valgrind interprets it, so neither the machine nor its load
changes the count. Of what is executed, only lines of the subject's folders are counted (of base less base/platform): the
simulator's own scheduling does not count. Two runs that differ in length give the cost of an item without the cost of starting
and stopping; several seeds give several interleavings, whose mean hardly moves when one of them takes another course.

cachegrind counts, not callgrind: callgrind follows calls, and the simulator's fibers change stacks under its eyes; the
instruction counts of both are the same.

The budget holds for one compiler, since another one makes other instructions. Exit codes: 0 within the budget, 1 not,
77 skipped (another compiler, or no valgrind).
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

BUDGET = Path(__file__).with_name("budget.json")
SHORT, LONG = 10, 50  # rounds
MARGIN = 0.03
SKIPPED = 77
# The C library chooses its string functions by the processor; without these it takes the ones that all have.
PLAIN_PROCESSOR = "glibc.cpu.hwcaps=-AVX2,-AVX512F,-AVX512VL,-AVX512BW,-ERMS,-FSRM,-BMI2,-RTM"




@dataclass(frozen=True)
class Subject:
    """What is counted. The program is called with `mode`, or with `extra`, which must be noticed."""

    what: str
    mode: str
    extra: str
    folders: tuple
    batch: int  # items in a round: kBatch of the program
    seeds: int


SUBJECTS = {
    "work": Subject("queueing and running a work", "plain", "extra", ("workqueue", "base"), 16, 40),
    "frame": Subject("sending and receiving a frame", "card", "card-extra", ("drivers/virtio_net", "virtio", "base"), 32, 4),
    "packed": Subject("a chain through a packed ring", "packed", "packed-extra", ("virtio",), 32, 1),
}


def instructions(program, subject, mode, rounds):
    """Instructions by folder of the source: {"workqueue": n, "base": n}."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "cachegrind.out"
        environment = dict(os.environ, GLIBC_TUNABLES=PLAIN_PROCESSOR)
        seeds = [str(seed) for seed in range(1, subject.seeds + 1)]
        done = subprocess.run(
            ["valgrind", "--quiet", "--tool=cachegrind", "--cache-sim=no", f"--cachegrind-out-file={output}", program, mode,
             str(rounds), *seeds], stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment, check=False)
        if done.returncode != 0:
            sys.exit(f"{program} under valgrind ended with {done.returncode}:\n{done.stderr}")
        return by_folder(output.read_text(), subject.folders)


def by_folder(text, folders):
    """cachegrind's file: `fl=FILE` opens the lines of a file, each `LINE COUNT`."""
    counts = dict.fromkeys(folders, 0)
    pattern = re.compile(rf"/({'|'.join(folders)})/[^/]+\.(?:cc|h)$")
    folder = None
    for line in text.splitlines():
        if line.startswith("fl="):
            found = pattern.search(line)
            folder = found[1] if found else None
        elif folder and line[:1].isdigit():
            counts[folder] += int(line.split()[1])
    return counts


def measure(program, subject, mode):
    short, long = instructions(program, subject, mode, SHORT), instructions(program, subject, mode, LONG)
    items = (LONG - SHORT) * subject.batch * subject.seeds
    return {folder: round((long[folder] - short[folder]) / items, 1) for folder in long}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("program", type=Path, help="instructions_count or instructions_packets, as the release preset builds it")
    parser.add_argument("subject", choices=sorted(SUBJECTS))
    parser.add_argument("compiler", help="what compiled it, as CMake names it: GNU 12.2.0")
    parser.add_argument("--expect-refusal", action="store_true",
                        help="the guard's own test: with one more call for each work it must refuse")
    parser.add_argument("--update", action="store_true", help="write what was counted as the new budget")
    options = parser.parse_args()
    if not shutil.which("valgrind"):
        print("valgrind is not installed: tools/setup installs it")
        sys.exit(SKIPPED)
    subject = SUBJECTS[options.subject]
    budget = json.loads(BUDGET.read_text())
    if options.update:
        counted = measure(options.program, subject, subject.mode)
        budget["compiler"] = options.compiler
        budget["instructions_per_item"][options.subject] = counted
        BUDGET.write_text(json.dumps(budget, indent=1) + "\n")
        print(f"{BUDGET.name}: {counted}")
        return
    if budget["compiler"] != options.compiler:
        print(f"the budget is for {budget['compiler']}, this is {options.compiler}")
        sys.exit(SKIPPED)
    allowed = budget["instructions_per_item"][options.subject]
    counted = measure(options.program, subject, subject.extra if options.expect_refusal else subject.mode)
    for folder in counted:
        print(f"{folder}: {counted[folder]} instructions an item, budget {allowed[folder]}")
    total, limit = sum(counted.values()), sum(allowed.values())
    print(f"together: {total:.1f}, budget {limit:.1f}, {total / limit - 1:+.1%}")
    if options.expect_refusal:
        if total < limit or not complaint(subject, total, limit):
            sys.exit("something more for each item, and the guard has not noticed")
        return
    if problem := complaint(subject, total, limit):
        command = f"tests/instructions/instructions.py {options.program} {options.subject} '{options.compiler}' --update"
        sys.exit(f"{problem}\nto write a new one: {command}")


def complaint(subject, total, limit):
    """What is wrong with the count, or nothing."""
    if total > limit * (1 + MARGIN):
        return (f"{subject.what} takes over {MARGIN:.0%} more instructions than the budget allows. If they are worth it, raise it,"
                " and say why in the commit")
    if total < limit * (1 - MARGIN):
        return f"it takes over {MARGIN:.0%} fewer than the budget: lower it, so that they cannot creep back"
    return None


if __name__ == "__main__":
    main()
