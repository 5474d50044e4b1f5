# SPDX-License-Identifier: Apache-2.0
"""The libraries that are built twice reach threads, time and atomics through base/platform only.

A name that slips through would be real in the simulated variant: a run would no longer depend on its seed alone.
"""

import re

from source_tree import files, is_cxx, line_of, read, without_comments, without_comments_and_strings

BUILT_TWICE = ("base/", "workqueue/", "device/", "pci/", "virtio/", "drivers/", "emulation/")
NOT_BUILT_TWICE = ("emulation/qemu/",)
THE_SEAM = ("base/platform/", "base/platform.h")

# <mutex> itself is not among them: std::lock_guard and std::unique_lock of a platform::Mutex are what it is needed for.
HEADERS = (
    "thread shared_mutex condition_variable atomic semaphore latch barrier future stop_token stdatomic.h threads.h"
    " pthread.h sched.h poll.h time.h ctime sys/epoll.h sys/poll.h sys/select.h sys/time.h sys/timerfd.h linux/futex.h"
).split()

_STD = (
    "thread jthread mutex timed_mutex recursive_mutex recursive_timed_mutex shared_mutex shared_timed_mutex call_once"
    " once_flag condition_variable condition_variable_any atomic this_thread"
    " async future promise packaged_task counting_semaphore binary_semaphore latch"
    " barrier stop_token stop_source"
).split()

_CALLS = r"(?<![\w.>:])(?:::\s*)?(?:sleep|poll|ppoll|select|pselect)\s*\(\s*(?![\w:<>]+\s*[&*]*\s+\w)"

# What is refused -> why, in the words of the message.
NAMES = {
    rf"\bstd\s*::\s*(?:{'|'.join(_STD)})\b": "use upci::platform",
    r"\bstd\s*::\s*atomic_\w+": "use upci::platform",
    r"\b(?:steady_clock|system_clock|high_resolution_clock|utc_clock|tai_clock)\b": "use upci::platform::Clock",
    r"\b(?:thread_local|__thread)\b": "use upci::platform::thread_slot",
    r"\b(?:epoll_create1?|epoll_ctl|epoll_p?wait2?|EPOLL\w+)\b": "use upci::platform::EventQueue",
    r"\b(?:timerfd_\w+|TFD_\w+)\b": "use upci::platform::EventQueue",
    r"\b(?:SYS_futex\w*|__NR_futex\w*|FUTEX_\w+)\b": "use upci::platform::wait_word",
    r"\b(?:pthread_\w+|PTHREAD_\w+)\b": "use upci::platform",
    r"\b(?:sched_\w+|CPU_(?:SET|ZERO|ISSET)|cpu_set_t)\b": "use upci::platform::this_thread",
    r"\b(?:usleep|nanosleep|clock_nanosleep)\b": "use base/wait.h",
    r"\b(?:clock_gettime|gettimeofday|timespec_get)\b": "use upci::platform::Clock",
    r"\b(?:__atomic_\w+|__sync_\w+|__builtin_ia32_pause)\b": "use upci::platform::Atomic, fence or relax",
    # As members or in a namespace these words are the field's own; as the C library's calls they are refused.
    _CALLS: "use base/wait.h or upci::platform::EventQueue",
}

# (file, what is allowed there): why. One that is no longer needed fails the test.
EXCEPTIONS = {}

_INCLUDE = re.compile(r"^[ \t]*#[ \t]*include[ \t]*<(?P<path>[^>]+)>", re.MULTILINE)
_DECLARES = re.compile(r"(?:\b(?!return\b|co_return\b|else\b|case\b)[\w>&*]+[ \t&*]+)$")


def applies_to(path):
    name = str(path)
    return name.startswith(BUILT_TWICE) and not name.startswith(NOT_BUILT_TWICE + THE_SEAM)


def check(root, exceptions=None):
    exceptions = EXCEPTIONS if exceptions is None else exceptions
    problems = []
    used = set()
    for path in files(root):
        if not is_cxx(path) or not applies_to(path):
            continue
        for line, what, why in _findings(root, path):
            if (str(path), what) in exceptions:
                used.add((str(path), what))
            else:
                problems.append(f"{path}:{line}: {what} outside base/platform: {why}")
    for file, what in sorted(set(exceptions) - used):
        problems.append(f"{file}: the exception for {what} in tests/house/names.py is not needed any more")
    return problems


def _findings(root, path):
    text = read(root, path)
    directives = without_comments(text)
    for match in _INCLUDE.finditer(directives):
        if match["path"] in HEADERS:
            yield line_of(directives, match.start()), f"<{match['path']}>", "include base/platform.h"
    code = without_comments_and_strings(text)
    # The headers named above would be found again, as words, in their own include lines.
    code = re.sub(r"^[ \t]*#[ \t]*include[^\n]*", "", code, flags=re.MULTILINE)
    for pattern, why in NAMES.items():
        for match in re.finditer(pattern, code):
            if pattern is _CALLS and _DECLARES.search(code[: match.start()]):
                continue  # declares a member function of that name
            yield line_of(code, match.start()), re.sub(r"[\s(]+", "", match[0]), why
