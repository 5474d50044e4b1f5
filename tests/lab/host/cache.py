# SPDX-License-Identifier: Apache-2.0
"""The folder that keeps what is slow to make: the kernel and the initramfs. Outside the build folder, shared by runs.

Each entry is a folder or file that appears by one rename, so that whoever sees it sees all of it. Writers hold the lock.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from host.errors import Lacking


def folder():
    """$UPCI_LAB_CACHE, else upci/lab below the user's cache folder; created where absent."""
    chosen = os.environ.get("UPCI_LAB_CACHE")
    if chosen:
        path = Path(chosen)
    else:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        path = Path(base) / "upci/lab"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Lacking(f"cannot make the cache folder {path}: {error.strerror}; "
                      "set UPCI_LAB_CACHE to a folder that can be written") from error
    return path.resolve()


@contextlib.contextmanager
def locked(cache):
    """One writer at a time; the second waits and then finds what the first has made."""
    with open(cache / "lock", "w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def appearing(target):
    """Gives a folder to fill; it becomes `target` by a rename, or vanishes where filling it fails."""
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield work
        os.chmod(work, 0o755)
        os.rename(work, target)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
