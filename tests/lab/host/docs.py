# SPDX-License-Identifier: Apache-2.0
"""Writes docs/probe-hang.md: the story, told with what this run of the laboratory printed (the cases' data)."""

import re
import string
from pathlib import Path

CASES = ["status-overlay", "kernel-hang"]
_PROJECT = Path(__file__).resolve().parent.parent.parent.parent
_TEMPLATE = _PROJECT / "tests/lab/probe-hang.md.in"


def write(found, machines, path):
    """machines: by the name of their boot, their kernel first. False where this run has not what the story needs; then nothing is written."""
    data = {result.case: result.data for result in found if result.passed}
    if not all(data.get(case) for case in CASES):
        return False
    text = string.Template(_TEMPLATE.read_text()).substitute(_values(data[CASES[0]], data[CASES[1]], machines["main"][0].version))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return True


def _values(upci, kernel, version):
    return {
        "version": version, "address": kernel["address"], "node": kernel["node"], "memory": kernel["memory"],
        "table": "\n".join(f"| {' | '.join(row)} |" for row in _rows(upci, kernel)),
        "hung_task_seconds": kernel["hung_task_seconds"],
        "caller": kernel["caller"]["name"], "caller_pid": kernel["caller"]["pid"],
        "caller_stack": kernel["caller"]["stack"], "seconds": f"{kernel['seconds']:.1f}",
        "worker": kernel["worker"]["name"], "worker_pid": kernel["worker"]["pid"], "worker_stack": kernel["worker"]["stack"],
        "hung_task": "\n".join(_without_registers(kernel["hung_task"])), "poweroff_stack": kernel["poweroff_stack"],
        "kernel_command": kernel["command"], "upci_command": upci["command"], "upci_text": upci["text"].rstrip().replace(f"{_PROJECT}/", ""),
        "lifted_result": upci["lifted"]["result"], "lifted_ms": f"{upci['lifted']['elapsed_ms']:.0f}",
        "overlay_commands": "\n".join(upci["overlay_commands"]), "lift_commands": "\n".join(upci["lift_commands"]),
    }


def _rows(upci, kernel):
    report = upci["report"]
    seconds = f"{kernel['seconds']:.1f} s"
    others = ", ".join(f"`{other['device']}` {other['result']} after {other['elapsed_ms']:.0f} ms" for other in upci["others"])
    other = kernel["other"]
    return [
        ("asked by", f"`{kernel['command']}`", f"`{upci['command']}`"),
        ("answer", f"none: still waiting after {seconds}, and for ever",
         f"`{report['result']}` after {report['elapsed_ms']:.1f} ms, its deadline being {report['deadline_ms']:.0f} ms"),
        ("what is wrong", "nothing says", f"step `{report['step']}`, register `{report['register']}`"),
        ("values read", "not recorded", _timeline(report["timeline"])),
        ("who asked", f"`{kernel['caller']['name']}`, uninterruptible: " + _chain(_kernel_functions(kernel["caller"]["stack"]), 7),
         "has its answer; `requested_by` in the report: " + _chain(_functions(report["requested_by"]), 3)),
        ("the worker", f"`{kernel['worker']['name']}`, CPU {kernel['worker']['cpu']} of node {kernel['node']}: "
         + _chain(_kernel_functions(kernel["worker"]["stack"]), 7),
         f"CPU {report['cpu']} of node {report['node']}: " + _chain(_functions(report["backtrace"]), 7)),
        ("who prints that", "hung_task, the caller's only; the worker's is in `/proc` as long as somebody can still log in",
         "the report, both of them, as text and as JSON"),
        ("other NICs meanwhile", f"`{other['address']}` bound in {other['ms']:.0f} ms, where another task asks for it", others),
        ("afterwards", "the device is locked for ever; `poweroff` hangs in "
         + _chain(_kernel_functions(kernel["poweroff_stack"]), 2),
         f"fault lifted: `{upci['lifted']['result']}` after {upci['lifted']['elapsed_ms']:.0f} ms, no reboot"),
    ]


def _timeline(entries):
    return ", ".join(f"{entry['value']:#04x} {entry['count']} times from {entry['t_us'] / 1000:.1f} ms on" for entry in entries)


def _chain(names, most):
    return " ← ".join(f"`{name}`" for name in names[:most])


def _kernel_functions(stack):
    return re.findall(r"\] ([\w.]+)\+0x", stack)


def _functions(frames):
    """upci's own functions of a backtrace, without namespaces, arguments and the standard library's."""
    names = [re.sub(r"\(.*", "", (frame["function"] or "").replace("(anonymous namespace)::", "")) for frame in frames]
    return [name.replace("upci::real::", "").replace("upci::", "") for name in names if name.startswith("upci::")]


def _without_registers(lines):
    """The stack of a hung_task message, without the caller's registers below it."""
    return [line for line in lines if not re.search(r"\b(R[A-Z0-9]{2}|RIP): ", line)]
