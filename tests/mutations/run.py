#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Breaks the engine on purpose, one rule at a time, and demands that a test of that rule notices.

Each *.patch beside this file is a unified diff against workqueue/*.cc, with lines in front of it:
  # rule: 11            the rule or rules that it breaks
  # what: ...           how
  # test: Suite.Name    the GoogleTest filter that must fail
  # seeds: 200          how many interleavings it gets for that (default 200)

The changed files alone are compiled, with the flags of the simulated variant in the build directory, and linked in
front of its library; the build directory itself is not changed. A patch that does not apply, does not compile, or is not
noticed fails the run, and so does a rule without a patch: the tests must be able to fail, and the patches must stay current.
The simulation is sequentially consistent: a fence too few is not seen here.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PROGRAM = "tests/workqueue_sim_test"
RULES = range(1, 32)
HEADER = re.compile(r"^# (rule|what|test|seeds): (.*)$", re.MULTILINE)
TIMEOUT = 100  # of one mutation's tests; a hang is noticed by the simulation itself, long before
SEEDS_TO_CRASH = 500  # a crash does not say its seed: so many are tried one by one


@dataclass
class Mutation:
    name: str
    rule: str
    what: str
    test: str
    seeds: str
    caught: str = ""  # the test that failed
    seed: str = ""
    problem: str = ""


def run(command, cwd, environment=None, timeout=None):
    return subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                          env=environment, timeout=timeout, check=False)


def compile_commands(build):
    """Source (relative to the root) -> command, of the simulated engine."""
    commands = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        file = Path(entry["file"])
        if "/upci_sim_workqueue.dir" in entry["command"] and file.is_relative_to(ROOT):
            commands[str(file.relative_to(ROOT))] = shlex.split(entry["command"])
    return commands


def link_command(build):
    shown = run(["ninja", "-t", "commands", PROGRAM], build)
    line = shown.stdout.strip().splitlines()[-1]
    words = shlex.split(line)
    if "&&" in words:  # ": && g++ ... && :"
        words = words[words.index("&&") + 1:]
        words = words[:words.index("&&")]
    return words


def read(path):
    text = path.read_text()
    fields = dict(HEADER.findall(text))
    mutation = Mutation(path.stem, fields.get("rule", ""), fields.get("what", ""), fields.get("test", ""),
                        fields.get("seeds", "200"))
    if not mutation.rule or not mutation.test or not mutation.what:
        mutation.problem = "its header lacks rule, what or test"
    return mutation, re.findall(r"^\+\+\+ b/(\S+)", text, re.MULTILINE)


def build_mutant(path, files, scratch, build, commands, link):
    """The program, or what went wrong."""
    shutil.copytree(ROOT / "workqueue", scratch / "workqueue")
    applied = run(["patch", "-p1", "--batch", "--no-backup-if-mismatch", "-i", path], scratch)
    if applied.returncode != 0:
        return None, "does not apply: " + applied.stdout.strip().replace("\n", " ")
    objects = []
    for file in files:
        if file not in commands:
            return None, f"{file} is no source of the simulated engine"
        words = list(commands[file])
        source, target = scratch / file, scratch / (Path(file).name + ".o")
        words[words.index("-o") + 1] = str(target)
        words[words.index("-c") + 1] = str(source)
        for option in ("-MF", "-MT"):
            if option in words:
                at = words.index(option)
                del words[at:at + 2]
        words = [word for word in words if word not in ("-MD", "-Werror", "-O2")] + ["-O1", "-w", f"-I{ROOT}"]
        compiled = run(words, build)
        if compiled.returncode != 0:
            return None, "does not compile: " + (compiled.stderr.strip().splitlines() or ["?"])[0]
        objects.append(str(target))
    program = scratch / "test"
    words = list(link)
    words[words.index("-o") + 1] = str(program)
    first = next(i for i, word in enumerate(words) if word.endswith(".a"))
    linked = run(words[:first] + objects + words[first:], build)
    if linked.returncode != 0:
        return None, "does not link: " + (linked.stderr.strip().splitlines() or ["?"])[-1]
    return program, ""


def crashing_seed(program, test, scratch):
    for seed in range(1, SEEDS_TO_CRASH + 1):
        result = run([program, f"--gtest_filter={test}"], scratch, dict(os.environ, UPCI_SEED=str(seed)), TIMEOUT)
        if result.returncode != 0:
            return str(seed)
    return "-"


def try_mutation(path, build, commands, link):
    mutation, files = read(path)
    if mutation.problem:
        return mutation
    with tempfile.TemporaryDirectory(prefix="upci-mutation-") as folder:
        scratch = Path(folder)
        program, mutation.problem = build_mutant(path, files, scratch, build, commands, link)
        if mutation.problem:
            return mutation
        command = [program, f"--gtest_filter={mutation.test}", "--gtest_fail_fast"]
        environment = dict(os.environ, UPCI_SEEDS=mutation.seeds)
        try:
            result = run(command, scratch, environment, TIMEOUT)
        except subprocess.TimeoutExpired:
            mutation.problem = f"{mutation.test} did not end within {TIMEOUT} s"
            return mutation
        failed = re.findall(r"^\[  FAILED  \] (\w+\.\w+)", result.stdout, re.MULTILINE)
        begun = re.findall(r"^\[ RUN      \] (\w+\.\w+)", result.stdout, re.MULTILINE)
        if not begun:
            mutation.problem = f"no test is named {mutation.test}"
        elif result.returncode == 0:
            mutation.problem = "survives " + mutation.test
        elif failed:
            mutation.caught = failed[0]
            seed = re.search(r"seed (\d+) fails", result.stdout) or re.search(r"UPCI_SCHEDULE='([^']*)'", result.stdout)
            mutation.seed = seed.group(1) if seed else "-"
        else:  # it crashed in the midst of one
            mutation.caught = begun[-1]
            mutation.seed = crashing_seed(program, begun[-1], scratch)
    return mutation


def numbers(rule):
    return [int(number) for number in re.findall(r"\d+", rule)]


def write_table(done, file):
    lines = ["# What the tests of the rules notice", "",
             "The engine broken on purpose, one way a row: the rules that the change breaks (numbered as in",
             "the names of the tests), the patch in tests/mutations, the first test that failed, and its seed. Written by",
             "`tests/mutations/run.py --write`, which applies each patch to a copy of the engine; `tools/test` runs it, too.",
             "A seed replays with the patch applied: `UPCI_SEED=n build/tests/workqueue_sim_test --gtest_filter=TEST`; a seed",
             "with commas is a schedule, for `UPCI_SCHEDULE`. The simulation is sequentially consistent: fences are no part of",
             "this; ThreadSanitizer and real threads look after those.", "",
             "| rule | mutation | what it does | caught by | seed |", "| --- | --- | --- | --- | --- |"]
    for mutation in sorted(done, key=lambda each: (numbers(each.rule), each.name)):
        lines.append(f"| {mutation.rule} | {mutation.name} | {mutation.what} | {mutation.caught} | {mutation.seed} |")
    file.write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / "build", help="a build directory with the simulated tests")
    parser.add_argument("--write", type=Path, help="a file for the table, when all are caught")
    parser.add_argument("names", nargs="*", help="patches, without .patch; default: all")
    options = parser.parse_args()
    build = options.build.resolve()
    patches = sorted(HERE.glob("*.patch"))
    if options.names:
        patches = [patch for patch in patches if patch.stem in options.names]
    commands, link = compile_commands(build), link_command(build)
    start = time.monotonic()
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        done = list(pool.map(lambda patch: try_mutation(patch, build, commands, link), patches))
    done.sort(key=lambda each: (numbers(each.rule), each.name))
    width = max((len(mutation.name) for mutation in done), default=8)
    print(f"rule    {'mutation':<{width}}  seed   caught by")
    for mutation in done:
        print(f"{mutation.rule:<6}  {mutation.name:<{width}}  {mutation.seed or '-':<5}  "
              f"{mutation.caught or 'NOT CAUGHT: ' + mutation.problem}")
    bad = [mutation for mutation in done if mutation.problem]
    print(f"{len(done) - len(bad)} of {len(done)} mutations caught, in {time.monotonic() - start:.0f} s")
    unbroken = set()
    if not options.names:
        unbroken = set(RULES) - {number for mutation in done for number in numbers(mutation.rule)}
        for rule in sorted(unbroken):
            print(f"NO MUTATION of rule {rule}")
    if options.write and not bad:
        write_table(done, options.write)
    return 1 if bad or unbroken or not done else 0


if __name__ == "__main__":
    sys.exit(main())
