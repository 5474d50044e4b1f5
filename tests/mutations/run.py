#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Breaks the engine on purpose, one rule at a time, and demands that a test of that rule notices.

Each *.patch beside this file is a unified diff against workqueue/*.cc or base/platform/*.cc, with lines in front of it:
  # rule: 11            the rule or rules that it breaks
  # what: ...           how
  # test: Suite.Name    the GoogleTest filter that must fail
  # seeds: 200          how many interleavings it gets for that (default 200)
  # variant: sim        which program must notice: sim (the default), real (threads, and what the kernel does with them), or
                        tsan (ThreadSanitizer, in its own build directory: the simulation is sequentially consistent and
                        cannot see that a fence is missing)

The changed files alone are compiled, with the flags of that variant in its build directory, and linked in front of its
libraries; the build directory itself is not changed. A patch that does not apply, does not compile, or is not noticed
fails the run, and so does a rule without a patch: the tests must be able to fail, and the patches must stay current.
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
PROGRAMS = {  # the test program, and what the folders of its libraries' objects begin with
    "sim": ("tests/workqueue_sim_test", "/upci_sim_"),
    "real": ("tests/workqueue_tiers_test", "/upci_"),
    "tsan": ("tests/workqueue_test", "/upci_"),
}
RULES = range(1, 32)
HEADER = re.compile(r"^# (rule|what|test|seeds|variant): (.*)$", re.MULTILINE)
TIMEOUT = 100  # of one mutation's tests; a hang is noticed by the simulation itself, long before
RUNS = {"real": 5}  # of a variant's tests, at most: what real threads do differs from run to run (the rest runs once)
SEEDS_TO_CRASH = 500  # a crash does not say its seed: so many are tried one by one


@dataclass
class Mutation:
    name: str
    rule: str
    what: str
    test: str
    seeds: str
    variant: str
    caught: str = ""  # the test that failed
    seed: str = ""
    problem: str = ""


def run(command, cwd, environment=None, timeout=None):
    return subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                          env=environment, timeout=timeout, check=False)


def compile_commands(build, objects):
    """Source (relative to the root) -> command, of the engine and what it stands on."""
    commands = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        file = Path(entry["file"])
        if any(f"{objects}{part}.dir" in entry["command"] for part in ("base", "workqueue")) and file.is_relative_to(ROOT):
            commands[str(file.relative_to(ROOT))] = shlex.split(entry["command"])
    return commands


def link_command(build, program):
    shown = run(["ninja", "-t", "commands", program], build)
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
                        fields.get("seeds", "200"), fields.get("variant", "sim"))
    if mutation.variant not in PROGRAMS:
        mutation.problem = f"there is no variant {mutation.variant}"
    elif not mutation.rule or not mutation.test or not mutation.what:
        mutation.problem = "its header lacks rule, what or test"
    return mutation, re.findall(r"^\+\+\+ b/(\S+)", text, re.MULTILINE)


def build_mutant(path, files, scratch, build, commands, link):
    """The program, or what went wrong."""
    for folder in {Path(file).parts[0] for file in files}:
        shutil.copytree(ROOT / folder, scratch / folder)
    applied = run(["patch", "-p1", "--batch", "--no-backup-if-mismatch", "-i", path], scratch)
    if applied.returncode != 0:
        return None, "does not apply: " + applied.stdout.strip().replace("\n", " ")
    objects = []
    for file in files:
        if file not in commands:
            return None, f"{file} is no source of the engine"
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


def try_mutation(mutation, path, files, build, commands, link):
    if mutation.problem:
        return mutation
    with tempfile.TemporaryDirectory(prefix="upci-mutation-") as folder:
        scratch = Path(folder)
        program, mutation.problem = build_mutant(path, files, scratch, build, commands, link)
        if mutation.problem:
            return mutation
        command = [program, f"--gtest_filter={mutation.test}", "--gtest_fail_fast"]
        environment = dict(os.environ, UPCI_SEEDS=mutation.seeds)
        environment.setdefault("TSAN_OPTIONS", "halt_on_error=1")
        try:
            for _ in range(RUNS.get(mutation.variant, 1)):
                result = run(command, scratch, environment, TIMEOUT)
                if result.returncode != 0:
                    break
        except subprocess.TimeoutExpired:
            mutation.problem = f"{mutation.test} did not end within {TIMEOUT} s"
            return mutation
        failed = re.findall(r"^\[  FAILED  \] ([\w/]+\.[\w/]+)", result.stdout, re.MULTILINE)
        begun = re.findall(r"^\[ RUN      \] ([\w/]+\.[\w/]+)", result.stdout, re.MULTILINE)
        if not begun:
            mutation.problem = f"no test is named {mutation.test}, or it did not start: {result.stderr.strip()[:300]}"
        elif result.returncode == 0:
            mutation.problem = "survives " + mutation.test
        elif failed:
            mutation.caught = failed[0]
            seed = re.search(r"seed (\d+) fails", result.stdout) or re.search(r"UPCI_SCHEDULE='([^']*)'", result.stdout)
            mutation.seed = seed.group(1) if seed else "-"
        else:  # it crashed in the midst of one
            mutation.caught = begun[-1]
            mutation.seed = crashing_seed(program, begun[-1], scratch) if mutation.variant == "sim" else "-"
    return mutation


def numbers(rule):
    return [int(number) for number in re.findall(r"\d+", rule)]


def write_table(done, file):
    lines = ["# What the tests of the rules notice", "",
             "The engine broken on purpose, one way a row: the rules that the change breaks (numbered as in",
             "the names of the tests), the patch in tests/mutations, the first test that failed, and its seed. Written by",
             "`tests/mutations/run.py --write`, which applies each patch to a copy of the engine; `tools/test` runs it, too.",
             "A seed replays with the patch applied: `UPCI_SEED=n build/tests/workqueue_sim_test --gtest_filter=TEST`; a seed",
             "with commas is a schedule, for `UPCI_SCHEDULE`. The simulation is sequentially consistent and runs no machine's",
             "scheduler: what takes a fence away is shown to ThreadSanitizer (tsan), what the kernel's scheduler does to real",
             "threads (real); these have no seed.", "",
             "| rule | mutation | what it does | caught by | seed |", "| --- | --- | --- | --- | --- |"]
    for mutation in sorted(done, key=lambda each: (numbers(each.rule), each.name)):
        seed = mutation.seed if mutation.variant == "sim" else mutation.variant
        lines.append(f"| {mutation.rule} | {mutation.name} | {mutation.what} | {mutation.caught} | {seed} |")
    file.write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / "build", help="a build directory with the simulated tests")
    parser.add_argument("--tsan-build", type=Path, help="one of the preset tsan; without it the variant tsan is left out")
    parser.add_argument("--only", choices=PROGRAMS, help="one variant's")
    parser.add_argument("--write", type=Path, help="a file for the table, when all are caught; wants --tsan-build")
    parser.add_argument("names", nargs="*", help="patches, without .patch; default: all")
    options = parser.parse_args()
    builds = {"sim": options.build, "real": options.build, "tsan": options.tsan_build}
    variants = [variant for variant in PROGRAMS if builds[variant] and options.only in (None, variant)]
    if options.write and len(variants) < len(PROGRAMS):
        parser.error("the table is of all variants: give --tsan-build, and not --only")
    start = time.monotonic()
    done = []
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        waiting = []
        tools = {}
        for path in sorted(HERE.glob("*.patch")):
            mutation, files = read(path)
            if options.names and path.stem not in options.names:
                continue
            if mutation.problem:
                done.append(mutation)
            if mutation.problem or mutation.variant not in variants:
                continue
            build = builds[mutation.variant].resolve()
            if mutation.variant not in tools:
                program, objects = PROGRAMS[mutation.variant]
                tools[mutation.variant] = compile_commands(build, objects), link_command(build, program)
            waiting.append(pool.submit(try_mutation, mutation, path, files, build, *tools[mutation.variant]))
        done += [each.result() for each in waiting]
    done.sort(key=lambda each: (numbers(each.rule), each.name))
    width = max((len(mutation.name) for mutation in done), default=8)
    print(f"rule    {'mutation':<{width}}  seed   caught by")
    for mutation in done:
        print(f"{mutation.rule:<6}  {mutation.name:<{width}}  {mutation.seed or '-':<5}  "
              f"{mutation.caught or 'NOT CAUGHT: ' + mutation.problem}")
    bad = [mutation for mutation in done if mutation.problem]
    print(f"{len(done) - len(bad)} of {len(done)} mutations caught, in {time.monotonic() - start:.0f} s")
    unbroken = set()
    if not options.names and not options.only:
        unbroken = set(RULES) - {number for mutation in done for number in numbers(mutation.rule)}
        for rule in sorted(unbroken):
            print(f"NO MUTATION of rule {rule}")
    if options.write and not bad:
        write_table(done, options.write)
    return 1 if bad or unbroken or not done else 0


if __name__ == "__main__":
    sys.exit(main())
