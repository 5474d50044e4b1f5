# SPDX-License-Identifier: Apache-2.0
"""Proves that the check of the documents' code can fail."""

import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True

import snippets  # noqa: E402

SOURCE = "// licence\n// doc: one\nint a;\n// doc: end\n\n// doc: two\n  int b;\n\n    int c;\n// doc: end\n"
DOCUMENT = ("# Title\n<!-- complete: x.cc -->\n<!-- code: x.cc one -->\n```cpp\nint a;\n```\ntext\n"
            "<!-- code: x.cc two -->\n```cpp\nint b;\n\n  int c;\n```\n")


class Snippets(unittest.TestCase):
    def problems(self, document=DOCUMENT, source=SOURCE):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (root / "docs").mkdir()
            (root / "docs/d.md").write_text(document)
            (root / "x.cc").write_text(source)
            found = snippets.check(root)
            self.written = snippets.rendered(root, Path("docs/d.md"))[0]
            return "\n".join(found)

    def test_the_same_code_passes(self):
        self.assertEqual(self.problems(), "")

    def test_a_changed_source_is_noticed_and_written(self):
        problems = self.problems(source=SOURCE.replace("int a;", "long a;"))
        self.assertIn("+long a;", problems)
        self.assertEqual(self.written, DOCUMENT.replace("int a;", "long a;"))

    def test_a_changed_document_is_noticed(self):
        self.assertIn("-int x;", self.problems(DOCUMENT.replace("int b;", "int x;")))

    def test_a_part_or_file_that_is_not_there_is_named(self):
        self.assertIn("has no part three", self.problems(DOCUMENT.replace("x.cc two", "x.cc three")))
        self.assertIn("no such file", self.problems(DOCUMENT.replace("x.cc two", "y.cc two")))

    def test_a_part_that_is_not_shown_is_named(self):
        self.assertIn("does not show x.cc two", self.problems(DOCUMENT[:DOCUMENT.index("text")]))

    def test_code_in_no_part_is_named(self):
        self.assertIn("x.cc:12: is in no part", self.problems(source=SOURCE + "\nint hidden;\n"))

    def test_marks_that_do_not_match_are_named(self):
        self.assertIn("has no end", self.problems(source=SOURCE + "// doc: three\n"))
        self.assertIn("ends no part", self.problems(source=SOURCE + "// doc: end\n"))


if __name__ == "__main__":
    unittest.main()
