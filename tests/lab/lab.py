# SPDX-License-Identifier: Apache-2.0
"""The command line of tools/lab."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True

import registry  # noqa: E402
import topology  # noqa: E402
from host import docs, expected, initramfs, kernel, oracle, qemu, results, session  # noqa: E402
from host.boots import BOOTS  # noqa: E402
from host.errors import GuestLost, Lacking  # noqa: E402

PROJECT = Path(__file__).resolve().parent.parent.parent
LOGS = PROJECT / "build/lab"
DONE, FAILED, USAGE, LACKING = 0, 1, 2, 5


def say(text):
    print(f"lab: {text}", file=sys.stderr, flush=True)


def check_environment():
    qemu.program()
    if not (PROJECT / "build/bin/upci").is_file():
        raise Lacking("there is no build/bin/upci: run tools/build first")


def machine_for(boot):
    """The kernel, its first file system, and the module for the oracle where the boot wants one."""
    if boot.oracle and not oracle.RUNNER.is_file():
        raise Lacking("there is no build/tests/oracle_runner: run tools/build first")
    made = kernel.get(say, boot.kernel)
    return made, initramfs.get(made), oracle.module(made, say) if boot.oracle else None


def machines_for(boots, named):
    """By the names of the boots: their machines, and why there is none. Not every archive has every kernel: what the usual one
    shows is shown without the others, unless they were asked for by name."""
    machines, lacking = {}, {}
    for boot in boots:
        try:
            machines[boot.name] = machine_for(boot)
        except Lacking as error:
            if named or not boot.oracle:
                raise
            say(f"boot {boot.name} is skipped: {error}")
            lacking[boot.name] = str(error)
    return machines, lacking


def run_boot(boot, cases, machine, folder, records=False):
    """The results of these cases, each shown as it comes. A guest that is lost takes those that are left with it; but where
    QEMU itself crashed, which is no case's doing, a second guest goes on from the case that ran then."""
    found, crash = run_guest(boot, cases, machine, folder, records)
    if not crash:
        return found
    again = max(place for place, result in enumerate(found) if result.ran)
    say(f"QEMU died of signal {crash} in {found[again].case}; a new guest goes on from there")
    rest, _ = run_guest(boot, cases[again:], machine, folder, records)
    rest[0].evidence.append(f"the second try: QEMU died of signal {crash} in the first one")
    return found[:again] + rest


def run_guest(boot, cases, machine, folder, records=False):
    """The results, and the signal that QEMU died of in the midst of them, if it did."""
    found, lost, crash = [], "", 0
    started = time.monotonic()
    guest = session.Session(boot, *machine, folder, PROJECT, records)
    try:
        guest.start()
        say(f"boot {boot.name}: the guest is up after {time.monotonic() - started:.1f} s")
        for case in cases:
            found.append(guest.run(case))
            say(results.line(found[-1]))
            if guest.lost:
                lost, crash = f"not run: the guest was lost in {case.name}", guest.crash()
                break
            if case.last:
                lost = f"not run: {case.name} leaves no usable guest behind"
                break
    except GuestLost as error:
        lost = f"not run: boot {boot.name} failed: {error}\n{guest.console_tail()}"
        say(f"boot {boot.name} failed: {error}")
    finally:
        guest.close()
    found += [results.Result(case.name, False, failure=lost, ran=False) for case in cases[len(found):]]
    return found, crash


def run(options):
    cases = registry.cases()
    known = {case.name for case in cases}
    unknown = [name for name in options.case if name not in known]
    if unknown:
        print(f"lab: there is no case {', '.join(unknown)}; tools/lab list shows them", file=sys.stderr)
        return USAGE
    chosen = [case for case in cases if not options.case or case.name in options.case]
    check_environment()
    boots = [boot for boot in BOOTS if any(case.boot == boot.name for case in chosen)]
    machines, lacking = machines_for(boots, bool(options.case))
    folder = Path(tempfile.mkdtemp(prefix="upci-lab."))
    found = []
    try:
        for boot in boots:
            here = [case for case in chosen if case.boot == boot.name]
            if boot.name in lacking:
                found += [results.Result(case.name, False, ran=False, lacking=lacking[boot.name]) for case in here]
                continue
            found += run_boot(boot, here, machines[boot.name], folder, options.write_expected)
        LOGS.mkdir(parents=True, exist_ok=True)
        docs.write(found, machines, LOGS / "probe-hang.md")
        written = not options.write_docs or docs.write(found, machines, PROJECT / "docs/probe-hang.md")
        recorded = not options.write_expected or expected.write(found)
        if options.json:
            results.write_json(found, options.json)
        if options.junit:
            results.write_junit(found, options.junit)
    finally:
        if options.keep_logs:
            for log in folder.glob("*.log"):
                shutil.copy(log, LOGS / log.name)
            say(f"logs: {LOGS}")
        shutil.rmtree(folder, ignore_errors=True)
    print(results.table(found), flush=True)
    if not written:
        say("docs/probe-hang.md is as it was: it needs the cases " + " and ".join(docs.CASES) + " to pass in the same run")
    if not recorded:
        say(f"tests/oracle/expected is as it was: it needs the case {expected.CASE} to come to the kernel's answers")
    return DONE if written and recorded and not any(result.verdict() == "FAILED" for result in found) else FAILED


def list_cases(_options):
    for case in registry.cases():
        print(f"{case.name:<22} {case.summary}")
    return DONE


def shell(_options):
    check_environment()
    made, archive, _ = machine_for(BOOTS[0])
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    folder = Path(tempfile.mkdtemp(prefix="upci-lab."))
    try:
        overlay = folder / "overlay.bin"
        overlay.write_bytes(topology.overlay_memory())
        size = shutil.get_terminal_size()
        parameters = {"mode": "shell", "project": PROJECT, "rows": size.lines, "columns": size.columns,
                      "term": os.environ.get("TERM", "vt100")}
        if not terminal:
            (folder / "script").write_bytes(sys.stdin.buffer.read())
            parameters |= {"mode": "script", "script": folder / "script"}
        guest = qemu.Qemu(made, archive, topology.qemu_arguments(None, overlay), folder / "qemu.log", parameters, terminal)
        try:
            if not terminal:
                relay(guest.console)
            code = guest.wait()
            if code != 0:
                raise Lacking(f"QEMU ended with {code}: {guest.said()}")
        finally:
            guest.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if terminal:
            subprocess.run(["stty", "sane"], check=False)
    return DONE


def relay(console):
    """What the guest's console says, until the guest ends."""
    while received := console.recv(65536):
        sys.stdout.buffer.write(received.replace(b"\r\n", b"\n"))
        sys.stdout.buffer.flush()


def parse(arguments):
    parser = argparse.ArgumentParser(
        prog="tools/lab", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="The guest laboratory: boots stock Debian kernels in QEMU (software emulation, no KVM, no root) with\n"
                    "two NUMA nodes, a virtual IOMMU and virtio NICs, and runs cases with the host's build/bin/upci there.",
        epilog="Exit codes: 0 all passed, 1 a case failed, 2 wrong usage, 5 something that is needed is missing.\n"
               "The kernel is kept in $UPCI_LAB_CACHE, else ~/.cache/upci/lab; remove it to get a newer one.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="the cases, one line each").set_defaults(call=list_cases)
    runner = commands.add_parser("run", help="run cases and print a table; all of them if none is named")
    runner.add_argument("case", nargs="*", metavar="CASE")
    runner.add_argument("--json", type=Path, metavar="FILE", help="write the results, with all that was found, as JSON")
    runner.add_argument("--junit", type=Path, metavar="FILE", help="write them as XML, as GoogleTest does")
    runner.add_argument("--keep-logs", action="store_true", help="keep consoles and QEMU's messages in build/lab")
    runner.add_argument("--write-docs", action="store_true", help="generate docs/probe-hang.md from this run")
    runner.add_argument("--write-expected", action="store_true", help="record the kernel's answers in tests/oracle/expected")
    runner.set_defaults(call=run)
    commands.add_parser("shell", help="a prompt in the guest, with build/bin in PATH; exit ends it; "
                        "commands from a pipe are run as a script").set_defaults(call=shell)
    return parser.parse_args(arguments)


def main():
    # An orderly end, so that run folders are removed; QEMU is killed with this process in any case.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    options = parse(sys.argv[1:])
    try:
        return options.call(options)
    except Lacking as error:
        print(f"lab: {error}", file=sys.stderr)
        return LACKING
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
