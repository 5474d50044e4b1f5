#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Counts the instructions that the engine spends on queueing a work and running it, and compares with the budget.

The simulated variant is one thread and the same each time, and valgrind interprets it, so neither the machine nor its load
changes the count. Of what is executed, only lines of workqueue/ and base/ (less base/platform) are counted: the simulator's
own scheduling does not count. Two runs that differ in length give the cost of an item without the cost of starting and
stopping; several seeds give several interleavings, whose mean hardly moves when one of them takes another course.

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
from pathlib import Path

BUDGET = Path(__file__).with_name("budget.json")
SHORT, LONG, BATCH = 10, 50, 16  # rounds; works in a round: kBatch of count_main.cc
SEEDS = [str(seed) for seed in range(1, 41)]
MARGIN = 0.03
SKIPPED = 77
# The C library chooses its string functions by the processor; without these it takes the ones that all have.
PLAIN_PROCESSOR = "glibc.cpu.hwcaps=-AVX2,-AVX512F,-AVX512VL,-AVX512BW,-ERMS,-FSRM,-BMI2,-RTM"


def instructions(program, mode, rounds):
    """Instructions by folder of the source: {"workqueue": n, "base": n}."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "cachegrind.out"
        environment = dict(os.environ, GLIBC_TUNABLES=PLAIN_PROCESSOR)
        done = subprocess.run(
            ["valgrind", "--quiet", "--tool=cachegrind", "--cache-sim=no", f"--cachegrind-out-file={output}", program, mode,
             str(rounds), *SEEDS], stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment, check=False)
        if done.returncode != 0:
            sys.exit(f"{program} under valgrind ended with {done.returncode}:\n{done.stderr}")
        return by_folder(output.read_text())


def by_folder(text):
    """cachegrind's file: `fl=FILE` opens the lines of a file, each `LINE COUNT`."""
    counts = {"workqueue": 0, "base": 0}
    folder = None
    for line in text.splitlines():
        if line.startswith("fl="):
            folder = folder_of(line[3:])
        elif folder and line[:1].isdigit():
            counts[folder] += int(line.split()[1])
    return counts


def folder_of(path):
    found = re.search(r"/(workqueue|base)/(?!platform)[^/]+\.(?:cc|h)$", path)
    return found[1] if found else None


def measure(program, mode="plain"):
    short, long = instructions(program, mode, SHORT), instructions(program, mode, LONG)
    items = (LONG - SHORT) * BATCH * len(SEEDS)
    return {folder: round((long[folder] - short[folder]) / items, 1) for folder in long}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("program", type=Path, help="instructions_count, as the release preset builds it")
    parser.add_argument("compiler", help="what compiled it, as CMake names it: GNU 12.2.0")
    parser.add_argument("--expect-refusal", action="store_true",
                        help="the guard's own test: with one more call for each work it must refuse")
    parser.add_argument("--update", action="store_true", help="write what was counted as the new budget")
    options = parser.parse_args()
    if not shutil.which("valgrind"):
        print("valgrind is not installed: tools/setup installs it")
        sys.exit(SKIPPED)
    if options.update:
        counted = measure(options.program)
        BUDGET.write_text(json.dumps({"compiler": options.compiler, "instructions_per_item": counted}, indent=1) + "\n")
        print(f"{BUDGET.name}: {counted}")
        return
    budget = json.loads(BUDGET.read_text())
    if budget["compiler"] != options.compiler:
        print(f"the budget is for {budget['compiler']}, this is {options.compiler}")
        sys.exit(SKIPPED)
    counted, allowed = measure(options.program, "extra" if options.expect_refusal else "plain"), budget["instructions_per_item"]
    for folder in counted:
        print(f"{folder}: {counted[folder]} instructions an item, budget {allowed[folder]}")
    total, limit = sum(counted.values()), sum(allowed.values())
    print(f"together: {total:.1f}, budget {limit:.1f}, {total / limit - 1:+.1%}")
    if options.expect_refusal:
        if total < limit or not complaint(total, limit):
            sys.exit("one more call for each work, and the guard has not noticed")
        return
    if problem := complaint(total, limit):
        update = f"tests/instructions/instructions.py {options.program} '{options.compiler}' --update"
        sys.exit(f"{problem}\nto write a new one: {update}")


def complaint(total, limit):
    """What is wrong with the count, or nothing."""
    if total > limit * (1 + MARGIN):
        return (f"queueing and running a work takes over {MARGIN:.0%} more instructions than the budget allows. If they are"
                " worth it, raise it, and say why in the commit")
    if total < limit * (1 - MARGIN):
        return f"it takes over {MARGIN:.0%} fewer than the budget: lower it, so that they cannot creep back"
    return None


if __name__ == "__main__":
    main()
