#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds the benchmarks, runs them in a session of their own and leaves tables, JSON and plots. tools/bench calls this."""

import argparse
import datetime
import json
import os
import subprocess
import sys
from pathlib import Path

import plots
import tables

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ROOT / "build/bin"
DEFAULT_OUTPUT = ROOT / "build/bench-results"


def priority():
    """Called in the child, which leads a session: where the kernel schedules by session (autogroup), plain nice is weak
    against other sessions, and this one's group is what can be preferred."""
    os.setsid()
    try:
        Path("/proc/self/autogroup").write_text("-19")
    except OSError:
        pass  # no autogroup, or no permission: what_priority() says which


def what_priority():
    """What priority() achieves here, in words for the report."""
    probe = "import pathlib, sys; sys.stdout.write(pathlib.Path('/proc/self/autogroup').read_text())"
    shown = subprocess.run([sys.executable, "-c", probe], preexec_fn=priority, stdin=subprocess.DEVNULL,
                           capture_output=True, text=True, check=False)
    enabled = Path("/proc/sys/kernel/sched_autogroup_enabled")
    if not enabled.exists() or enabled.read_text().strip() != "1":
        return "a session of its own; this kernel has no autogroups"
    if "nice -19" in shown.stdout:
        return "a session of its own, its autogroup at nice -19"
    return "a session of its own; its autogroup could not be given nice -19 (that takes root)"


def run(command):
    """Runs a program of ours; ends this one when it fails."""
    print(f"$ {' '.join(map(str, command))}", flush=True)
    code = subprocess.run(command, cwd=ROOT, preexec_fn=priority, stdin=subprocess.DEVNULL, check=False).returncode
    if code != 0:
        sys.exit(f"{command[0]} ended with {code}")


def shown(command):
    """A command line as it is printed: paths from the root of the project."""
    return " ".join(str(word).replace(f"{ROOT}/", "") for word in command)


def revision():
    git = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, stdin=subprocess.DEVNULL,
                         capture_output=True, text=True, check=False)
    return git.stdout.strip() or "unknown"


def main():
    parser = argparse.ArgumentParser(prog="tools/bench", description=__doc__.split("\n")[0],
                                     epilog="Exit codes: 0 measured (whatever came out), 1 a program failed, 2 usage.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help="only these: a name, or its part before a hyphen")
    parser.add_argument("--quick", action="store_true", help="2 pairs instead of 10: a first look")
    parser.add_argument("--pairs", type=int, default=10, help="how often each contestant is measured (10)")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, help="folder for JSON and plots (build/bench-results)")
    parser.add_argument("--write-docs", action="store_true", help="rewrite docs/performance.md from this run")
    parser.add_argument("--list", action="store_true", help="name the cases and end")
    options = parser.parse_args()
    if options.write_docs and options.cases:
        parser.error("--write-docs takes a run of all cases")
    pairs = 2 if options.quick else options.pairs
    if pairs < 1:
        parser.error("--pairs: at least 1")

    for step in ([ROOT / "tools/setup"], [ROOT / "tools/build", "release", "engine_bench", "engine_operations"]):
        done = subprocess.run(step, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"{shown(step)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    if options.list:
        subprocess.run([PROGRAMS / "engine_bench", "--list"], check=True)
        return

    options.output.mkdir(parents=True, exist_ok=True)
    engine_file, operations_file = options.output / "engine.json", options.output / "operations.json"
    engine = [PROGRAMS / "engine_bench", "--pairs", str(pairs), "--json", engine_file, *options.cases]
    operations = [PROGRAMS / "engine_operations", f"--benchmark_out={operations_file}", "--benchmark_out_format=json",
                  f"--benchmark_repetitions={pairs}", "--benchmark_report_aggregates_only=true",
                  "--benchmark_min_time=0.05"]
    run(engine)
    results = json.loads(engine_file.read_text())
    if not options.cases:
        run(operations)
        results["operations"] = tables.operations(json.loads(operations_file.read_text()))
    results["run"] = {
        "date": datetime.date.today().isoformat(),
        "revision": revision(),
        "priority": what_priority(),
        "command_lines": [shown(engine)] + ([] if options.cases else [shown(operations)]),
    }
    result_file = options.output / "results.json"
    result_file.write_text(json.dumps(results, indent=1) + "\n")
    for case in results["cases"]:
        (options.output / f"{case['case']}.svg").write_text(plots.case(case))
    overview = plots.overview(results["cases"])
    (options.output / "ratios.svg").write_text(overview)
    print(tables.text(results))
    print(f"written: {shown([result_file])} and {len(results['cases']) + 1} plots beside it")
    if options.write_docs:
        (ROOT / "docs/performance.svg").write_text(overview)
        notes = tables.notes((ROOT / "bench/notes.md").read_text())
        (ROOT / "docs/performance.md").write_text(tables.markdown(results, notes))
        print("written: docs/performance.md, docs/performance.svg")


if __name__ == "__main__":
    main()
