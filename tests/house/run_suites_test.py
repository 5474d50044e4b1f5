# SPDX-License-Identifier: Apache-2.0
"""Proves that tools/test counts every test and lets no failure pass unseen."""

import contextlib
import io
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import run_suites  # noqa: E402
import suites  # noqa: E402

RUN = '<testcase name="p" status="run"/>'
FAIL = '<testcase name="p" status="fail"><failure message=""/></testcase>'
NO_PROGRAM = '<testcase name="p" status="notrun"><skipped message="Unable to find executable"/></testcase>'
PASSED = '<testcase name="a" classname="S" status="run" result="completed"/>'
FAILED = '<testcase name="b" classname="S" status="run" result="completed"><failure message="x"/></testcase>'
SKIPPED = ('<testcase name="c" classname="S" status="run" result="skipped">'
           '<skipped message="f.cc:2&#x0A;no VFIO"/></testcase>')
DISABLED = '<testcase name="d" classname="S" status="notrun" result="suppressed"/>'


class Counting(unittest.TestCase):
    def count(self, entry, *cases, xml=True):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "p.xml"
            if xml:
                file.write_text(f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>")
            suite = suites.Suite("s")
            suites.count_entry(suite, "p", ElementTree.fromstring(entry) if entry else None, file)
            return suite

    def assert_counts(self, suite, passed, failed, skipped):
        self.assertEqual((suite.passed, len(suite.failed), len(suite.skipped)), (passed, failed, skipped))

    def test_each_case_of_a_program_counts(self):
        suite = self.count(FAIL, PASSED, FAILED, SKIPPED, DISABLED)
        self.assert_counts(suite, 1, 1, 2)
        self.assertEqual(suite.failed, ["p: S.b"])
        self.assertEqual(suite.skipped, [("p: S.c", "no VFIO"), ("p: S.d", "disabled")])

    def test_a_program_that_fails_after_its_cases_passed_is_a_failure(self):
        self.assert_counts(self.count(FAIL, PASSED, PASSED), 2, 1, 0)

    def test_a_program_that_crashed_before_it_could_report_is_a_failure(self):
        self.assert_counts(self.count(FAIL, xml=False), 0, 1, 0)

    def test_a_program_that_was_not_run_is_a_failure(self):
        self.assert_counts(self.count(None, xml=False), 0, 1, 0)
        self.assert_counts(self.count(NO_PROGRAM, xml=False), 0, 1, 0)

    def test_a_program_without_tests_is_a_failure(self):
        self.assert_counts(self.count(RUN), 0, 1, 0)

    def test_an_entry_that_asks_for_it_is_skipped(self):
        entry = '<testcase name="p" status="notrun"><skipped message="SKIP_RETURN_CODE=77"/></testcase>'
        self.assert_counts(self.count(entry, xml=False), 0, 0, 1)

    def test_any_other_entry_counts_as_one(self):
        self.assert_counts(self.count(RUN, xml=False), 1, 0, 0)

    def last_line(self, *found):
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            code = run_suites.report(list(found))
        return code, output.getvalue().splitlines()[-1]

    def test_the_last_line_sums_up(self):
        one = suites.Suite("one", passed=2, skipped=[("x", "why")])
        two = suites.Suite("two", passed=3)
        self.assertEqual(self.last_line(one, two), (0, "5 passed, 0 failed, 1 skipped"))
        two.failed.append("y")
        self.assertEqual(self.last_line(one, two), (1, "5 passed, 1 failed, 1 skipped"))

    def test_a_run_of_nothing_fails(self):
        self.assertEqual(self.last_line(), (1, "0 passed, 0 failed, 0 skipped"))
        self.assertEqual(self.last_line(suites.Suite("s", skipped=[("x", "why")]))[0], 1)


if __name__ == "__main__":
    unittest.main()
