# SPDX-License-Identifier: Apache-2.0
"""What came of the cases, and how it is shown: a table, JSON, and XML as GoogleTest writes it (tests/run_suites.py reads it)."""

import json
import textwrap
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict, dataclass, field


@dataclass
class Result:
    case: str
    passed: bool
    seconds: float = 0.0
    evidence: list = field(default_factory=list)  # one line each
    failure: str = ""
    data: dict = field(default_factory=dict)  # what docs.py tells the story with
    ran: bool = True
    lacking: str = ""  # it was skipped, since this was not to be had

    def verdict(self):
        return "passed" if self.passed else "skipped" if self.lacking else "FAILED"


def _counts(results):
    failed = sum(result.verdict() == "FAILED" for result in results)
    skipped = sum(result.verdict() == "skipped" for result in results)
    return len(results) - failed - skipped, failed, skipped


def line(result):
    """One line of a table, for progress."""
    verdict = result.verdict() if result.ran or result.lacking else "FAILED (not run)"
    return f"{result.case:<22} {verdict:<8} {result.seconds:6.1f} s"


def table(results):
    """The whole of it, its last line `N passed, N failed, N skipped`."""
    rows = [("case", "result", "seconds", "evidence")]
    for result in results:
        shown = result.evidence if result.passed else [(result.lacking or result.failure).strip().split("\n", 1)[0][:200]]
        seconds = f"{result.seconds:.1f}" if result.ran else "-"
        lines = [part for text in shown or [""] for part in textwrap.wrap(text, 100) or [""]]
        rows += [(result.case, result.verdict(), seconds, lines[0]), *(("", "", "", more) for more in lines[1:])]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    text = "\n".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d}".rstrip() for a, b, c, d in rows)
    for result in results:
        if result.verdict() == "FAILED":
            text += f"\n\nFAILED: {result.case}\n" + textwrap.indent(result.failure.strip(), "    ")
            if result.evidence:
                text += "\n  until then:\n" + textwrap.indent("\n".join(result.evidence), "    ")
    passed, failed, skipped = _counts(results)
    return f"{text}\n\n{passed} passed, {failed} failed, {skipped} skipped"


def write_json(results, path):
    path.write_text(json.dumps({"schema": 1, "cases": [asdict(result) for result in results]}, indent=1) + "\n")


def write_junit(results, path):
    failures = str(_counts(results)[1])
    root = ElementTree.Element("testsuites", tests=str(len(results)), failures=failures, name="lab")
    suite = ElementTree.SubElement(root, "testsuite", name="lab", tests=str(len(results)), failures=failures)
    for result in results:
        case = ElementTree.SubElement(suite, "testcase", classname="lab", name=result.case, status="run",
                                      time=f"{result.seconds:.3f}")
        if result.lacking:
            ElementTree.SubElement(case, "skipped", message=_printable(result.lacking))
        elif not result.passed:
            failure = ElementTree.SubElement(case, "failure", message=_printable(result.failure.split("\n", 1)[0]))
            failure.text = _printable(result.failure)
    path.parent.mkdir(parents=True, exist_ok=True)
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _printable(text):
    """XML has no place for most control characters, and consoles are full of them."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "?" for letter in text)
