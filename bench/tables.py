# SPDX-License-Identifier: Apache-2.0
"""Results as text for a terminal and as docs/performance.md."""

import re

DISTURBED = 0.05  # of the machine's CPU time taken by others: such a sample is marked (bench/engine/report.h)


def figure(value):
    if value is None:  # not a number: JSON has none
        return "?"
    size = abs(value)
    return f"{value:,.0f}" if size >= 1000 else f"{value:.1f}" if size >= 100 else f"{value:.2f}"


def spread(values):
    return f"{figure(values['median'])} ({figure(values['min'])} to {figure(values['max'])})"


def middle(values):
    values = sorted(value for value in values if value is not None)
    if not values:
        return None
    half = len(values) // 2
    return values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2


def verdict(target):
    return "not known" if not target["known"] else "met" if target["met"] else "**missed**"


def machine_lines(results):
    machine, run = results["machine"], results["run"]
    peers = ", ".join(f"{peer['name']} {peer['version']}" for peer in machine["peers"])
    lines = [
        f"{run['date']}, revision {run['revision']}, {results['pairs']} rounds",
        f"{machine['cpu']}, {machine['cpus']} CPUs, virtual machine: {machine['virtual_machine']}, {machine['kernel']}",
        f"compiler {machine['compiler']}; clock {machine['clock']}; {run['priority']}",
        f"peers: {peers}",
    ]
    if machine["missing_packages"]:
        lines.append("not built in, since not installed: " + " ".join(machine["missing_packages"]))
    return lines


def text(results):
    """The last lines of tools/bench: the machine, and every target on one line."""
    lines = machine_lines(results) + [""]
    rows = [(case["case"], target["text"], spread(target["ratio"]), verdict(target).strip("*"))
            for case in results["cases"] for target in case["targets"]]
    widths = [max([len(row[i]) for row in rows] or [0]) for i in range(3)]
    lines += [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:<{widths[2]}}  {d}" for a, b, c, d in rows]
    return "\n".join(lines)


def operations(report):
    """Google Benchmark's aggregates -> one row an operation."""
    rows = {}
    for entry in report["benchmarks"]:
        if entry.get("run_type") == "aggregate":
            row = rows.setdefault(entry["run_name"].removesuffix("/real_time"), {"unit": entry["time_unit"]})
            row[entry["aggregate_name"]] = entry["real_time"]
    return rows


def notes(source):
    """bench/notes.md: what must be known to judge a case, by its name."""
    parts = re.split(r"^## (\S+)\n", source, flags=re.MULTILINE)
    return {name: body.strip() for name, body in zip(parts[1::2], parts[2::2])}


def markdown_case(case, note):
    lines = [f"### {case['case']}: {case['title']}", "", f"{case['method']} {case['remark']}".strip(), ""]
    better = "less" if case["lower_is_better"] else "more"
    lines.append(f"| {case['unit']}, {better} is better | median (min to max) | ours : this, round by round |"
                 " CPU s | run-queue wait, ms | disturbed | beside |")
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for contestant in case["contestants"]:
        samples = contestant["samples"]
        names = sorted(samples[0]["more"])
        beside = ", ".join(f"{name} {figure(middle([s['more'].get(name) for s in samples]))}" for name in names)
        ratio = "" if contestant["kind"] == "ours" else spread(contestant["ours_to_this"])
        floor = "floor: " if contestant["kind"] == "floor" else ""
        lines.append(f"| {floor}{contestant['name']} | {spread(contestant['value'])} | {ratio} |"
                     f" {middle([s['cpu_seconds'] for s in samples]):.3f} |"
                     f" {middle([s['wait_seconds'] for s in samples]) * 1e3:.1f} |"
                     f" {contestant['disturbed']} of {len(samples)} | {beside} |")
    lines += ["", "Settings: " + "; ".join(f"{c['name']}: {c['settings']}" for c in case["contestants"]) + "."]
    for target in case["targets"]:
        lines += ["", f"Target: {target['text']}. Came out: {spread(target['ratio'])}, {verdict(target)}."]
    if note:
        lines += ["", note]
    return lines


def markdown(results, note_of, subject):
    """`subject`: see bench/run.py."""
    lines = [
        f"# Performance of the {subject.what}", "",
        f"Written by `tools/bench{subject.option} --write-docs`; change `bench/{subject.notes}` or the benchmarks, not this page.", "",
        note_of.get("reading", ""), "",
        *[f"- {line}" for line in machine_lines(results)],
        *[f"- `{line}`" for line in results["run"]["command_lines"]], "",
        f"![Ours divided by each of the others]({subject.page}.svg)", "",
        "## Targets", "",
        "| case | target | ours : other, median (min to max) | |", "| --- | --- | --- | --- |",
    ]
    for case in results["cases"]:
        lines += [f"| {case['case']} | {target['text']} | {spread(target['ratio'])} | {verdict(target)} |"
                  for target in case["targets"]]
    lines += ["", "## Cases"]
    for case in results["cases"]:
        lines += ["", *markdown_case(case, note_of.get(case["case"]))]
    if not results.get("operations"):
        return "\n".join(lines) + "\n"
    lines += ["", "## Single operations", "",
              "Of the calling thread, with Google Benchmark; nobody's peer, for the engine's own history.", "",
              "| operation | median | standard deviation |", "| --- | --- | --- |"]
    for name, row in results["operations"].items():
        lines.append(f"| {name} | {figure(row['median'])} {row['unit']} | {figure(row['stddev'])} |")
    return "\n".join(lines) + "\n"
