#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Breaks the engine on purpose, one rule at a time, and demands that a test of that rule notices.

Each *.patch beside this file is a unified diff against workqueue/*.cc, with lines in front of it:
  # rule: 11            the rule or rules that it breaks
  # what: ...           how
  # test: Suite.Name    the GoogleTest filter that must fail
  # seeds: 200          how many interleavings it gets for that (default 200)

The changed files alone are compiled, with the flags of the simulated variant in the build directory, and linked in front
of its library; the build directory itself is not changed. A patch that does not apply, does not compile, or is not noticed
fails the run: the tests must be able to fail, and the patches must stay current.
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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PROGRAM = "tests/workqueue_sim_test"
HEADER = re.compile(r"^# (rule|what|test|seeds): (.*)$", re.MULTILINE)
SEED = re.compile(r"UPCI_SEED=(\d+)|schedule '?([\d:*,]+)'?")
TIMEOUT = 100  # of one mutation's tests; a hang is noticed by the simulation itself, long before


@dataclass
class Mutation:
    name: str
    rule: str
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
        if "upci_sim_workqueue.dir" in entry["command"] and file.is_relative_to(ROOT):
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
    mutation = Mutation(path.stem, fields.get("rule", ""), fields.get("test", ""), fields.get("seeds", "200"))
    if not mutation.rule or not mutation.test or "what" not in fields:
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
            return None, "does not compile: " + compiled.stderr.strip().splitlines()[0]
        objects.append(str(target))
    program = scratch / "test"
    words = list(link)
    words[words.index("-o") + 1] = str(program)
    first = next(i for i, word in enumerate(words) if word.endswith(".a"))
    linked = run(words[:first] + objects + words[first:], build)
    if linked.returncode != 0:
        return None, "does not link: " + linked.stderr.strip().splitlines()[-1]
    return program, ""


def try_mutation(path, build, commands, link):
    mutation, files = read(path)
    if mutation.problem:
        return mutation
    with tempfile.TemporaryDirectory(prefix="upci-mutation-") as folder:
        scratch = Path(folder)
        program, mutation.problem = build_mutant(path, files, scratch, build, commands, link)
        if mutation.problem:
            return mutation
        environment = dict(os.environ, UPCI_SEEDS=mutation.seeds)
        try:
            result = run([program, f"--gtest_filter={mutation.test}"], scratch, environment, TIMEOUT)
        except subprocess.TimeoutExpired:
            mutation.problem = f"{mutation.test} did not end within {TIMEOUT} s"
            return mutation
        failed = re.findall(r"^\[  FAILED  \] (\w+\.\w+)", result.stdout, re.MULTILINE)
        if result.returncode == 0:
            mutation.problem = "survives: " + ("no test ran" if " 0 tests" in result.stdout else mutation.test)
        elif failed:
            mutation.caught = failed[0]
            seed = re.search(r"seed (\d+) fails", result.stdout) or re.search(r"UPCI_SCHEDULE='([^']*)'", result.stdout)
            mutation.seed = seed.group(1) if seed else "-"
        else:
            mutation.caught, mutation.seed = mutation.test, f"crash ({result.returncode})"
    return mutation


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / "build", help="a build directory with the simulated tests")
    parser.add_argument("names", nargs="*", help="patches, without .patch; default: all")
    options = parser.parse_args()
    build = options.build.resolve()
    patches = sorted(HERE.glob("*.patch"))
    if options.names:
        patches = [patch for patch in patches if patch.stem in options.names]
    commands, link = compile_commands(build), link_command(build)
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        done = list(pool.map(lambda patch: try_mutation(patch, build, commands, link), patches))
    width = max((len(mutation.name) for mutation in done), default=8)
    print(f"{'mutation':<{width}}  {'rule':<6}  {'seed':<6}  caught by")
    for mutation in done:
        print(f"{mutation.name:<{width}}  {mutation.rule:<6}  {mutation.seed or '-':<6}  "
              f"{mutation.caught or 'NOT CAUGHT: ' + mutation.problem}")
    bad = [mutation for mutation in done if mutation.problem]
    print(f"{len(done) - len(bad)} of {len(done)} mutations caught")
    return 1 if bad or not done else 0


if __name__ == "__main__":
    sys.exit(main())
