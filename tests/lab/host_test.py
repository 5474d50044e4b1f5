# SPDX-License-Identifier: Apache-2.0
"""Of the laboratory's host side, without a guest: a QEMU that is a script plays the guests that die, hang and lie."""

import gzip
import io
import json
import lzma
import os
import struct
import sys
import tempfile
import time
import unittest
import xml.etree.ElementTree as ElementTree
from contextlib import redirect_stderr
from pathlib import Path
from unittest import mock

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

import lab  # noqa: E402
import registry  # noqa: E402
import topology  # noqa: E402
from guest import oracle as guest_oracle  # noqa: E402
from host import docs, initramfs, kernel, modules, oracle, results, session, vmlinux  # noqa: E402
from host.boots import BOOTS, Boot  # noqa: E402
from host.errors import Lacking  # noqa: E402

_FAKE_QEMU = """#!{python}
import json, os, signal, socket, sys, time
fds = dict(part.split(",fd=") for word in sys.argv if word.startswith("socket,id=") for part in [word[len("socket,id="):]])
line = {{name: socket.socket(fileno=int(fd)) for name, fd in fds.items()}}
def say(name, **message): line[name].sendall(json.dumps(message).encode() + b"\\n")
say("qmp", QMP={{}})
qmp = line["qmp"].makefile()
json.loads(qmp.readline())
say("qmp", **{{"return": {{}}}})
line["console"].sendall(b"the guest's console\\r\\n")
if os.environ.get("FAKE_GUEST") == "dies": sys.exit(1)
say("channel", type="ready", uptime=1.0)
for text in line["channel"].makefile():
    name = json.loads(text)["run"]
    if name == "dies": sys.exit(0)
    if name == "crashes": os.kill(os.getpid(), signal.SIGSEGV)
    if name == "crashes once" and not os.path.exists(os.environ["FAKE_MARK"]):
        open(os.environ["FAKE_MARK"], "w").close()
        os.kill(os.getpid(), signal.SIGSEGV)
    if name == "hangs": time.sleep(60)
    if name == "babbles": line["channel"].sendall(b"no message\\n")
    say("channel", type="evidence", text="seen in " + name)
    say("channel", type="result", passed=name != "fails", failure="" if name != "fails" else "it is so", data={{}})
"""


def _case(name, timeout=20, last=False):
    return registry.Case(name, "", "main", timeout, last, None)


class Boots(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        program = self.folder / "qemu-system-x86_64"
        program.write_text(_FAKE_QEMU.format(python=sys.executable))
        program.chmod(0o755)
        patched = mock.patch.dict(os.environ, {"PATH": f"{self.folder}:{os.environ['PATH']}"})
        patched.start()
        self.addCleanup(patched.stop)

    def run_cases(self, *cases):
        machine = (kernel.Kernel("6.1", self.folder / "vmlinux", []), self.folder / "initramfs", None)
        with redirect_stderr(io.StringIO()):
            return lab.run_boot(Boot("main", None, True, True), list(cases), machine, self.folder)

    def test_results_and_evidence_come_in_order(self):
        found = self.run_cases(_case("one"), _case("two"))
        self.assertEqual([(result.case, result.passed, result.evidence) for result in found],
                         [("one", True, ["seen in one"]), ("two", True, ["seen in two"])])

    def test_a_failed_case_does_not_keep_the_next_from_running(self):
        found = self.run_cases(_case("fails"), _case("two"))
        self.assertEqual([(result.passed, result.failure) for result in found], [(False, "it is so"), (True, "")])

    def test_a_guest_that_dies_fails_its_case_and_those_that_are_left(self):
        found = self.run_cases(_case("one"), _case("dies"), _case("two"))
        self.assertEqual([(result.passed, result.ran) for result in found], [(True, True), (False, True), (False, False)])
        self.assertIn("the guest has ended", found[1].failure)
        self.assertIn("the guest's console", found[1].failure)
        self.assertIn("dies", found[2].failure)

    def test_a_case_that_hangs_fails_at_its_time_and_qemu_is_gone(self):
        start = time.monotonic()
        found = self.run_cases(_case("hangs", timeout=1), _case("two"))
        self.assertLess(time.monotonic() - start, 30)
        self.assertEqual([result.passed for result in found], [False, False])
        self.assertIn("did not answer in time", found[0].failure)

    def test_a_qemu_that_crashes_gives_its_case_a_second_guest(self):
        with mock.patch.dict(os.environ, {"FAKE_MARK": str(self.folder / "mark")}):
            found = self.run_cases(_case("fails"), _case("crashes once"), _case("two"))
        self.assertEqual([result.passed for result in found], [False, True, True])
        self.assertIn("signal 11", found[1].evidence[-1])

    def test_a_qemu_that_crashes_twice_fails_its_case_and_those_that_are_left(self):
        found = self.run_cases(_case("one"), _case("crashes"), _case("two"))
        self.assertEqual([result.passed for result in found], [True, False, False])
        self.assertFalse(found[2].ran)

    def test_a_guest_that_sends_nonsense_is_lost(self):
        found = self.run_cases(_case("babbles"), _case("two"))
        self.assertEqual([result.passed for result in found], [False, False])

    def test_a_guest_that_does_not_boot_fails_all_cases(self):
        with mock.patch.dict(os.environ, {"FAKE_GUEST": "dies"}):
            found = self.run_cases(_case("one"), _case("two"))
        self.assertEqual([(result.passed, result.ran) for result in found], [(False, False), (False, False)])

    def test_nothing_runs_after_a_last_case(self):
        found = self.run_cases(_case("one", last=True), _case("two"))
        self.assertEqual([result.passed for result in found], [True, False])


class LackingKernels(unittest.TestCase):
    def machines(self, named):
        def machine_for(boot):
            if boot.oracle:
                raise Lacking("no 6.12 here")
            return boot.name
        with mock.patch.object(lab, "machine_for", machine_for), redirect_stderr(io.StringIO()):
            return lab.machines_for(BOOTS, named)

    def test_without_the_oracles_kernel_the_others_run(self):
        machines, lacking = self.machines(named=False)
        self.assertEqual(machines, {"main": "main", "rings": "rings", "no-remap": "no-remap"})
        self.assertEqual(lacking, {"oracle": "no 6.12 here"})

    def test_what_was_asked_for_by_name_must_be_there(self):
        with self.assertRaises(Lacking):
            self.machines(named=True)

    def test_what_was_skipped_is_counted_with_its_reason(self):
        found = [results.Result("one", True), results.Result("two", False, ran=False, lacking="no 6.12 here")]
        self.assertTrue(results.table(found).endswith("1 passed, 0 failed, 1 skipped"))
        with tempfile.TemporaryDirectory() as folder:
            results.write_junit(found, Path(folder) / "lab.xml")
            root = ElementTree.parse(Path(folder) / "lab.xml").getroot()
        self.assertEqual(root.get("failures"), "0")
        self.assertEqual([case.find("skipped") is not None for case in root.iter("testcase")], [False, True])
        self.assertEqual(root.find(".//skipped").get("message"), "no 6.12 here")


class OracleTexts(unittest.TestCase):
    def test_what_comes_before_the_first_script_or_is_a_remark_is_passed_over(self):
        found = guest_oracle.entries("# a remark\n=== one\nwq q\n# another\n> 1: drain q\n=== two\n")
        self.assertEqual(found, {"one": ["wq q", "> 1: drain q"], "two": []})

    def test_an_answer_belongs_to_the_script_that_has_its_lines(self):
        script = ["wq q", "work a:  gate g", "1: queue a q", "2: flush_work a", "elapse"]
        answer = ["wq q", "work a: gate g", "> 1: queue a q = 1", "  a starts on 0", "> 2: flush_work a ...", "> elapse"]
        self.assertTrue(guest_oracle.is_of(answer, script))
        self.assertFalse(guest_oracle.is_of(answer, script[:-1]))
        self.assertFalse(guest_oracle.is_of(answer, [*script[:-1], "1: drain q"]))

    def test_each_recorded_answer_is_of_the_script_that_there_is(self):
        scripts = guest_oracle.handwritten() | guest_oracle.generated(range(1, 31))
        for name, answer in guest_oracle.recorded().items():
            self.assertTrue(guest_oracle.is_of(answer, scripts[name]), name)

    def test_the_engine_is_held_to_an_answer(self):
        if not oracle.RUNNER.is_file():
            self.skipTest("oracle_runner is not built")
        right = ["wq q", "work a", "> 1: queue a q = 1", "  a starts on 0", "  a ends"]
        wrong = ["wq q", "work a", "> 1: pending a = 1"]
        said = oracle.differences({"x/right": right, "x/wrong": wrong}, patience_ms=500)
        self.assertEqual(list(said), ["x/wrong"])
        self.assertIn("> 1: pending a = 0", said["x/wrong"])


class Files(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def test_the_kernel_comes_out_of_a_bzimage(self):
        content = b"\x7fELF" + os.urandom(5000)
        for payload in (lzma.compress(content), gzip.compress(content), lzma.compress(content, lzma.FORMAT_ALONE)):
            setup = bytearray(3 * 512)
            setup[0x1F1], setup[0x202:0x206] = 2, b"HdrS"
            struct.pack_into("<II", setup, 0x248, 64, len(payload))
            self.assertEqual(vmlinux.extract(bytes(setup) + bytes(64) + payload + b"tail"), content)

    def test_what_is_no_kernel_is_refused(self):
        for image in (b"", bytes(4096), bytes(0x202) + b"HdrS" + bytes(4096)):
            with self.assertRaises(Lacking):
                vmlinux.extract(image)

    def module(self, name, depends):
        path = self.folder / "kernel" / f"{name}.ko"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"\x7fELF\0license=GPL\0depends=" + depends.encode() + b"\0name=x\0")

    def test_modules_come_after_what_they_depend_on(self):
        (self.folder / "modules.builtin").write_text("kernel/net/af-packet.ko\n")
        self.module("top", "left,right")
        self.module("left", "bottom-one")
        self.module("right", "bottom_one,left")
        self.module("bottom-one", "")
        with mock.patch.object(modules, "WANTED", ["top", "af_packet", "left"]):
            names = [name for name, _ in modules.in_order(self.folder)]
        self.assertEqual(names, ["bottom_one.ko", "left.ko", "right.ko", "top.ko"])

    def test_a_module_that_is_missing_is_named(self):
        self.module("top", "nowhere")
        with mock.patch.object(modules, "WANTED", ["top"]), self.assertRaisesRegex(Lacking, "nowhere"):
            modules.in_order(self.folder)

    def test_the_archive_holds_what_was_put_in(self):
        archive = initramfs._Archive()
        archive.folder("bin")
        archive.file("bin/x", b"12345", 0o755)
        data, found = archive.finish(), {}
        while data[:6] == b"070701":
            fields = [int(data[6 + 8 * i:14 + 8 * i], 16) for i in range(13)]
            mode, size, name_size = fields[1], fields[6], fields[11]
            name, start = data[110:110 + name_size - 1].decode(), (110 + name_size + 3) & ~3
            found[name] = (mode, data[start:start + size])
            data = data[(start + size + 3) & ~3:]
        self.assertEqual(found, {"bin": (0o040755, b""), "bin/x": (0o100755, b"12345"), "TRAILER!!!": (0, b"")})
        self.assertEqual(data, b"")

    def test_counts_and_xml_agree(self):
        found = [results.Result("good", True, 1.0, ["saw it"]), results.Result("bad", False, 2.0, failure="no\x1b[0m\nmore")]
        self.assertTrue(results.table(found).endswith("\n1 passed, 1 failed, 0 skipped"))
        results.write_junit(found, self.folder / "x" / "lab.xml")
        cases = list(ElementTree.parse(self.folder / "x/lab.xml").getroot().iter("testcase"))
        self.assertEqual([(case.get("name"), case.find("failure") is not None) for case in cases],
                         [("good", False), ("bad", True)])
        results.write_json(found, self.folder / "lab.json")
        self.assertEqual(json.loads((self.folder / "lab.json").read_text())["cases"][0]["evidence"], ["saw it"])

    def test_no_story_without_its_cases(self):
        path = self.folder / "story.md"
        self.assertFalse(docs.write([results.Result("kernel-hang", True, data={"address": "x"})], {}, path))
        self.assertFalse(path.exists())


class Lists(unittest.TestCase):
    def test_cases_have_a_summary_and_a_boot_that_there_is(self):
        cases = registry.cases()
        self.assertGreater(len(cases), 15)
        for case in cases:
            self.assertTrue(case.summary, case.name)
            self.assertIn(case.boot, [boot.name for boot in BOOTS], case.name)
            self.assertLess(case.timeout, session.BOOT_TOTAL_SECONDS)
        self.assertEqual([case.name for case in cases if case.last], [cases[-1].name])

    def test_the_cases_of_the_story_exist(self):
        self.assertLessEqual(set(docs.CASES), {case.name for case in registry.cases()})

    def test_pairs_are_pairs_and_addresses_unique(self):
        macs = [nic.mac for nic in topology.NICS]
        self.assertEqual(len(set(macs)), len(macs))
        for nic in topology.NICS:
            self.assertEqual(topology.nic(nic.peer).pair, nic.pair)

    def test_every_nic_has_a_bus_and_no_rom(self):
        arguments = topology.qemu_arguments(None)
        nics = [word for word in arguments if word.startswith("virtio-net-pci,")]
        self.assertEqual(len(nics), len(topology.NICS))
        for nic in nics:
            self.assertIn(",bus=", nic)
            self.assertIn(",romfile=,", nic)

    def test_wrong_usage_is_2(self):
        for arguments in (["fly"], [], ["run", "no-such-case"], ["run", "--no-such-option"]):
            with redirect_stderr(io.StringIO()), mock.patch.object(sys, "argv", ["lab", *arguments]):
                try:
                    code = lab.main()
                except SystemExit as error:
                    code = error.code
            self.assertEqual(code, 2, arguments)

    def test_a_missing_qemu_is_5(self):
        with tempfile.TemporaryDirectory() as folder, redirect_stderr(io.StringIO()) as said, \
                mock.patch.dict(os.environ, {"PATH": folder}), mock.patch.object(sys, "argv", ["lab", "run", "boot"]):
            self.assertEqual(lab.main(), 5)
        self.assertIn("qemu-system-x86", said.getvalue())


if __name__ == "__main__":
    unittest.main()
