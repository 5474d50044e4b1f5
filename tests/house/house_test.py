# SPDX-License-Identifier: Apache-2.0
"""Proves that the house rules can fail: each is shown a small tree that breaks it, and one beside it that does not."""

import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True

import includes  # noqa: E402
import layout  # noqa: E402
import names  # noqa: E402
import source_tree  # noqa: E402

HEAD = "// SPDX-License-Identifier: Apache-2.0\n#pragma once\n"


class HouseTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        for path in ("base/a.h", "workqueue/a.h", "device/a.h", "pci/a.h", "vfio/a.h", "virtio/a.h", "virtio/spec/a.h",
                     "emulation/a.h", "drivers/virtio_pci/a.h", "drivers/virtio_net/a.h", "tools/a.h"):
            self.write(path, HEAD)

    def write(self, path, text):
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def assert_one(self, problems, *words):
        self.assertEqual(len(problems), 1, problems)
        for word in words:
            self.assertIn(word, problems[0])


class Includes(HouseTest):
    def include(self, path, target):
        self.write(path, HEAD + f'#include "{target}"\n')
        return includes.check(self.root)

    def test_a_clean_tree_passes(self):
        self.assertEqual(includes.check(self.root), [])

    def test_every_pair_of_folders_that_the_table_lacks_is_refused(self):
        layers = ["base", "workqueue", "device", "pci", "vfio", "virtio", "virtio/spec", "emulation",
                  "drivers/virtio_pci", "drivers/virtio_net"]
        for source in layers:
            for target in layers:
                allowed = source == target or target in includes.MAY_INCLUDE[source]
                problems = self.include(f"{source}/probe.cc", f"{target}/a.h")
                (self.root / source / "probe.cc").unlink()
                if allowed:
                    self.assertEqual(problems, [], f"{source} -> {target}")
                else:
                    self.assert_one(problems, f"{source} must not include {target}", "probe.cc:3")

    def test_the_rows_of_the_design_that_matter_most(self):
        for source, target in (("base", "workqueue"), ("workqueue", "device"), ("virtio", "pci"), ("device", "pci"),
                               ("drivers/virtio_net", "pci"), ("drivers/virtio_pci", "emulation"), ("pci", "vfio"),
                               ("emulation", "virtio"), ("virtio/spec", "workqueue"), ("vfio", "emulation"),
                               ("drivers/virtio_net", "vfio"), ("device", "tools")):
            self.assertNotIn(target, includes.MAY_INCLUDE[source], f"{source} -> {target}")

    def test_tools_and_tests_may_include_anything(self):
        self.assertEqual(self.include("tools/x.cc", "drivers/virtio_net/a.h"), [])
        self.assertEqual(self.include("tests/x.cc", "vfio/a.h"), [])

    def test_spacing_and_comments_do_not_hide_an_include(self):
        self.write("base/x.h", HEAD + '  #  include /* why */ "device/a.h"\n')
        self.assert_one(includes.check(self.root), "base must not include device")

    def test_an_include_in_a_comment_is_none(self):
        self.write("base/x.h", HEAD + '/*\n#include "device/a.h"\n*/\n')
        self.assertEqual(includes.check(self.root), [])

    def test_an_include_in_angles_does_not_hide(self):
        self.write("base/x.h", HEAD + "#include <device/a.h>\n")
        self.assert_one(includes.check(self.root), "is a file of the project")

    def test_a_bare_or_relative_name_is_refused(self):
        self.assert_one(self.include("device/x.h", "a.h"), "no file of the project")
        self.assert_one(self.include("device/x.h", "../device/a.h"), "no file of the project")

    def test_a_macro_as_target_is_refused(self):
        self.write("base/x.h", HEAD + "#include CONFIG_HEADER\n")
        self.assert_one(includes.check(self.root), "macro")

    def test_a_new_folder_needs_a_row(self):
        self.write("surprise/x.cc", HEAD)
        self.assert_one(includes.check(self.root), "surprise/x.cc", "no row")


class Names(HouseTest):
    def uses(self, code, path="workqueue/x.cc", exceptions=None):
        self.write(path, HEAD + code + "\n")
        return names.check(self.root, exceptions or {})

    def test_each_forbidden_name_is_refused(self):
        for code in ("#include <thread>", "#include <atomic>", "#  include <shared_mutex>",
                     "std::lock_guard<std::mutex> l(m);", "std::thread t;", "std :: mutex m;",
                     "std::atomic<int> a;", "std::atomic_int a;", "std::atomic_thread_fence(o);",
                     "std::chrono::steady_clock::now();", "using std::chrono::system_clock;", "thread_local int x;",
                     "static __thread int x;", "std::this_thread::yield();", "int e = epoll_create1(0);",
                     "::usleep(1);", "nanosleep(&t, nullptr);", "syscall(SYS_futex, a);", "clock_gettime(c, &t);",
                     "pthread_create(&t, 0, f, 0);", "sched_yield();", "sleep(1);", "::sleep(1);", "::poll(f, 1, 0);",
                     "return poll(f, 1, 0);", "int n = select(1, a, b, c, d);", "__atomic_load_n(&x, 0);",
                     "std::condition_variable cv;", "std::future<int> f;", "timerfd_create(0, 0);"):
            with self.subTest(code=code):
                self.assert_one(self.uses(code), "workqueue/x.cc:3", "outside base/platform")

    def test_the_same_words_as_names_of_our_own_pass(self):
        for code in ("platform::Atomic<int> a;", "platform::this_thread::yield();", "queue.poll(3);",
                     "net->poll(budget);", "#include <mutex>", "std::lock_guard guard(platform_mutex);",
                     "Result<int> poll(Deadline deadline);", "void sleep(Deadline d) { wait(d); }", "sleep_for(span);",
                     "std::memory_order_acquire;", "platform::Thread thread;", "x.select(1);", "std::chrono::nanoseconds n;",
                     "int poll(int budget);", "std::vector<int> poll(int budget);", "net::poll(budget);"):
            with self.subTest(code=code):
                self.assertEqual(self.uses(code), [])

    def test_comments_and_strings_are_no_code(self):
        self.assertEqual(self.uses('// std::thread\n/* std::mutex */ const char* s = "std::atomic thread_local";'), [])
        self.assertEqual(self.uses('const char* s = R"x(std::thread " )x"; int big = 1\'000\'000;'), [])

    def test_code_after_a_digit_separator_or_raw_string_is_still_code(self):
        self.assert_one(self.uses("int big = 1'000; std::thread t; int b = 2'000;"), "std::thread")
        self.assert_one(self.uses('auto s = R"(")"; std::mutex m; auto t = R"(")";'), "std::mutex")

    def test_only_the_libraries_that_are_built_twice_are_bound(self):
        for path in ("base/platform/real.cc", "base/platform.h", "emulation/qemu/q.cc", "vfio/v.cc", "tools/t.cc",
                     "tests/t.cc"):
            self.assertEqual(self.uses("std::thread t;", path), [], path)
        for path in ("base/x.cc", "device/x.cc", "pci/x.h", "virtio/x.h", "drivers/virtio_net/x.cc",
                     "emulation/emu/x.cc"):
            self.assert_one(self.uses("std::thread t;", path), path)
            (self.root / path).unlink()

    def test_an_exception_holds_for_its_file_and_name_only_and_not_for_ever(self):
        exceptions = {("workqueue/x.cc", "std::thread"): "a reason"}
        self.assertEqual(self.uses("std::thread t;", exceptions=exceptions), [])
        self.assert_one(self.uses("std::thread t; std::mutex m;", exceptions=exceptions), "std::mutex")
        self.assert_one(self.uses("int x;", exceptions=exceptions), "not needed any more")


class Layout(HouseTest):
    def test_a_source_without_its_licence_is_refused(self):
        for path in ("base/x.cc", "base/CMakeLists.txt", "cmake/x.cmake", "tests/x.py"):
            self.write(path, "\n// SPDX-License-Identifier: Apache-2.0\n")
            self.assert_one(layout.check_spdx(self.root), f"{path}:1")
            (self.root / path).unlink()

    def test_a_script_has_it_below_its_first_line(self):
        self.write("tools/x", "#!/bin/sh\necho\n")
        self.assert_one(layout.check_spdx(self.root), "tools/x:1")
        self.write("tools/x", "#!/bin/sh\n# SPDX-License-Identifier: Apache-2.0\n")
        self.assertEqual(layout.check_spdx(self.root), [])

    def test_a_long_file_is_refused(self):
        self.write("base/x.cc", "int x;\n" * layout.MAX_LINES)
        self.assertEqual(layout.check_length(self.root), [])
        self.write("base/x.cc", "int x;\n" * (layout.MAX_LINES + 1))
        self.assert_one(layout.check_length(self.root), "base/x.cc")

    def test_a_source_that_does_not_include_its_header_first_is_refused(self):
        self.write("base/a.cc", '// #include "base/a.h"\n#include <vector>\n#include "base/a.h"\n')
        self.assert_one(layout.check_own_header(self.root), "base/a.cc", '"base/a.h"')
        self.write("base/a.cc", '// What it is.\n#include "base/a.h"\n\n#include <vector>\n')
        self.assertEqual(layout.check_own_header(self.root), [])

    def test_a_header_without_pragma_once_is_refused(self):
        self.write("base/x.h", "// #pragma once\n")
        self.assert_one(layout.check_pragma_once(self.root), "base/x.h")

    def test_a_test_file_without_a_test_is_refused(self):
        self.write("tests/base/x_test.cc", HEAD + "TEST(A, B) {}\n")
        self.assertEqual(layout.check_tests(self.root), [])
        self.write("tests/base/x_test.cc", HEAD + "// TEST(A, B) {}\n")
        self.assert_one(layout.check_tests(self.root), "x_test.cc")

    def test_a_public_header_on_a_private_one_is_refused(self):
        self.write("base/x.h", HEAD + '#include "base/a.h"\n')
        public = self.root / "public.txt"
        public.write_text(f"{self.root}/base/x.h\n{self.root}/base/a.h\n")
        self.assertEqual(layout.check_public_headers(self.root, public), [])
        public.write_text(f"{self.root}/base/x.h\n")
        self.assert_one(layout.check_public_headers(self.root, public), "base/x.h", "base/a.h")
        public.write_text("")
        self.assert_one(layout.check_public_headers(self.root, public), "no public headers")

    def test_build_folders_and_hidden_files_are_not_looked_at(self):
        self.write("build/x.cc", "int x;\n")
        self.write(".cache/x.cc", "int x;\n")
        self.assertEqual(layout.check_spdx(self.root), [])
        self.assertNotIn(Path("build/x.cc"), source_tree.files(self.root))


if __name__ == "__main__":
    unittest.main()
