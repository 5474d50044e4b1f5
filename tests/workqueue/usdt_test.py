#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""usdt_test.py UPCI: the tracepoints are in the program, and bpftrace counts what they tell.

Exit code 77 (skipped), saying why, where this machine cannot trace: not root, no bpftrace, a kernel without uprobes.
"""

import json
import os
import re
import shutil
import subprocess
import sys

FRAMES = 500
NAMES = ("queue_work", "activate_work", "execute_start", "execute_end")
ARGUMENTS = {"queue_work": 5, "activate_work": 2, "execute_start": 2, "execute_end": 2}


def skip(why):
    print(f"SKIPPED: {why}")
    sys.exit(77)


def check(condition, what):
    if not condition:
        sys.exit(f"FAILED: {what}")


def run(*command, timeout=110):
    return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=timeout)


def check_notes(upci):
    """The notes are there without any privilege."""
    if shutil.which("readelf") is None:
        skip("no readelf (binutils)")
    notes = run("readelf", "-n", "--wide", upci).stdout
    for name in NAMES:
        found = re.findall(rf"Provider: upci\s+Name: workqueue_{name}\s.*?Arguments: ([^\n]*)", notes, re.DOTALL)
        check(found, f"readelf -n shows no probe upci:workqueue_{name}")
        counts = {len(arguments.split()) for arguments in found}
        check(counts == {ARGUMENTS[name]}, f"workqueue_{name} has {counts} arguments, not {ARGUMENTS[name]}")
        print(f"readelf: upci:workqueue_{name}, {len(found)} place(s)")


def count_with_bpftrace(upci):
    if os.geteuid() != 0:
        skip("the probes are in the program; counting them takes root")
    if shutil.which("bpftrace") is None:
        skip("the probes are in the program; counting them takes bpftrace (tools/setup)")
    if not os.path.exists("/sys/bus/event_source/devices/uprobe"):
        skip("the probes are in the program; this kernel has no uprobes")
    script = " ".join(f"usdt:{upci}:upci:workqueue_{name} {{ @{name} = count(); }}" for name in NAMES)
    # What the arguments are: the workqueue's name is a string; a run's work was queued before.
    script += f" usdt:{upci}:upci:workqueue_queue_work {{ @names[str(arg2)] = count(); @queued[arg0] = 1; }}"
    script += f" usdt:{upci}:upci:workqueue_execute_start /@queued[arg0] == 1/ {{ @known = count(); }}"
    script += " END { clear(@queued); }"
    traced = run("bpftrace", "-f", "json", "-e", script, "-c", f"{upci} net test emu:virtio-net --frames {FRAMES}")
    counts, names = {}, {}
    for line in traced.stdout.splitlines():
        try:
            data = json.loads(line)
        except ValueError:
            continue
        if data.get("type") in ("map", "stats") or isinstance(data.get("data"), dict):
            for key, value in data.get("data", {}).items():
                if key == "@names":
                    names = value
                elif isinstance(value, (int, float)):
                    counts[key] = value
    if not counts:
        skip(f"the probes are in the program; bpftrace cannot attach here: {traced.stderr.strip()[-300:]}")
    print(f"bpftrace: {counts}, queued on {names}")
    for name in NAMES:
        check(counts.get(f"@{name}", 0) > 0, f"bpftrace counted no workqueue_{name}")
    started, ended = counts["@execute_start"], counts["@execute_end"]
    # The workers that still run when the program ends lose their last event.
    check(abs(started - ended) <= 16, f"{started} runs began, {ended} ended")
    check(counts["@queue_work"] <= started, "more was queued than ran")
    check(counts.get("@known", 0) > 0, "no run's work was seen when it was queued")
    check(all(re.fullmatch(r"[\x20-\x7e]+", name) for name in names) and names, f"names of workqueues: {names}")


def main():
    upci = sys.argv[1]
    version = json.loads(run(upci, "version", "--json").stdout)
    if not version["usdt"]:
        skip("this build has no tracepoints: <sys/sdt.h> was not there (Debian: systemtap-sdt-dev)")
    check_notes(upci)
    count_with_bpftrace(upci)
    print("ok")


main()
