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
from typing import NamedTuple

import plots
import tables

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ROOT / "build/bin"
DEFAULT_OUTPUT = ROOT / "build/bench-results"


class Subject(NamedTuple):
    """What is measured: a program, and the page that its results go to."""
    option: str  # of tools/bench
    what: str
    targets: list
    page: str  # docs/PAGE.md
    notes: str  # bench/NOTES
    results: str


SUBJECTS = {
    "engine": Subject("", "engine", ["engine_bench", "engine_operations"], "performance", "notes.md", "results.json"),
    "datapath": Subject(" --datapath", "data path", ["datapath_bench", "datapath_upci", "datapath_dpdk"],
                        "performance-datapath", "datapath/notes.md", "datapath-results.json"),
    "devices": Subject(" --devices", "control path", ["devices_bench"], "performance-devices", "devices/notes.md",
                       "devices-results.json"),
}


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
    parser.add_argument("--write-docs", action="store_true", help="rewrite the page in docs/ from this run")
    subject_options = parser.add_mutually_exclusive_group()
    subject_options.add_argument("--datapath", action="store_const", dest="name", const="datapath", default="engine",
                                 help="the data path beside DPDK's instead of the engine (docs/performance-datapath.md)")
    subject_options.add_argument("--devices", action="store_const", dest="name", const="devices",
                                 help="probing many devices, and interrupts at light load (docs/performance-devices.md)")
    parser.add_argument("--list", action="store_true", help="name the cases and end")
    options = parser.parse_args()
    if options.write_docs and options.cases:
        parser.error("--write-docs takes a run of all cases")
    pairs = 2 if options.quick else options.pairs
    if pairs < 1:
        parser.error("--pairs: at least 1")

    name, subject = options.name, SUBJECTS[options.name]
    for step in ([ROOT / "tools/setup"], [ROOT / "tools/build", "release", *subject.targets]):
        done = subprocess.run(step, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"{shown(step)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    if options.list:
        subprocess.run([PROGRAMS / f"{name}_bench", "--list"], check=True)
        return

    options.output.mkdir(parents=True, exist_ok=True)
    cases_file, operations_file = options.output / f"{name}.json", options.output / "operations.json"
    cases = [PROGRAMS / f"{name}_bench", "--pairs", str(pairs), "--json", cases_file, *options.cases]
    operations = [PROGRAMS / "engine_operations", f"--benchmark_out={operations_file}", "--benchmark_out_format=json",
                  f"--benchmark_repetitions={pairs}", "--benchmark_report_aggregates_only=true",
                  "--benchmark_min_time=0.05"]
    run(cases)
    results = json.loads(cases_file.read_text())
    with_operations = not options.cases and name == "engine"
    if with_operations:
        run(operations)
        results["operations"] = tables.operations(json.loads(operations_file.read_text()))
    results["run"] = {
        "date": datetime.date.today().isoformat(),
        "revision": revision(),
        "priority": what_priority(),
        "command_lines": [shown(cases)] + ([shown(operations)] if with_operations else []),
    }
    result_file = options.output / subject.results
    result_file.write_text(json.dumps(results, indent=1) + "\n")
    for case in results["cases"]:
        (options.output / f"{case['case']}.svg").write_text(plots.case(case))
    overview = plots.overview(results["cases"])
    (options.output / f"{name}-ratios.svg").write_text(overview)
    print(tables.text(results))
    print(f"written: {shown([result_file])} and {len(results['cases']) + 1} plots beside it")
    if options.write_docs:
        (ROOT / f"docs/{subject.page}.svg").write_text(overview)
        notes = tables.notes((ROOT / "bench" / subject.notes).read_text())
        (ROOT / f"docs/{subject.page}.md").write_text(tables.markdown(results, notes, subject))
        print(f"written: docs/{subject.page}.md, docs/{subject.page}.svg")


if __name__ == "__main__":
    main()
