# SPDX-License-Identifier: Apache-2.0
"""The guest's kernel: Debian's own 6.1 for amd64, fetched with apt as a package, never installed.

A kernel that is in the cache is used as it is, without a look at the archive: runs without a network work. Remove the
cache folder to get a newer one.
"""

import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from host import cache, modules, vmlinux
from host.errors import Lacking

_PACKAGE = re.compile(r"^linux-image-(6\.1\.0-(\d+)-amd64)(-unsigned)?$")
# Whoever changes how entries are made changes this, and old ones are not used any more.
_LAYOUT = "1"


@dataclass(frozen=True)
class Kernel:
    version: str
    image: Path  # uncompressed
    modules: list  # paths, in the order of loading


def _run(*command, cwd=None):
    try:
        return subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                              timeout=300, env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"})
    except FileNotFoundError as error:
        raise Lacking(f"there is no {command[0]}: the laboratory's kernel comes from a Debian archive") from error
    except subprocess.TimeoutExpired as error:
        raise Lacking(f"{' '.join(command)} did not end within 300 s: is the archive reachable?") from error


def _newest_package():
    """The newest full 6.1 kernel that apt's lists know, signed rather than unsigned; None where they know none."""
    for line in _run("apt-cache", "depends", "linux-image-amd64").stdout.splitlines():
        name = line.strip().removeprefix("Depends: ")
        if _PACKAGE.match(name):
            return name
    names = [line.split(" ", 1)[0] for line in
             _run("apt-cache", "search", "--names-only", r"^linux-image-6\.1\.0-").stdout.splitlines()]
    found = [(int(match[2]), match[3] is None, name) for name in names if (match := _PACKAGE.match(name))]
    return max(found)[2] if found else None


def _update_lists():
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    updated = _run(*as_root, "apt-get", "update")
    return "" if updated.returncode == 0 else f"apt-get update: {updated.stderr.strip()}"


def _download(folder):
    """Downloads the package into the folder; gives its file and version."""
    trouble = ""
    for attempt in range(2):
        name = _newest_package()
        if name:
            got = _run("apt-get", "download", name, cwd=folder)
            files = list(folder.glob("*.deb"))
            if got.returncode == 0 and files:
                return files[0], _PACKAGE.match(name)[1]
            trouble = f"apt-get download {name}: {got.stderr.strip()}"
        else:
            trouble = "apt knows no linux-image-6.1.0-*-amd64"
        if attempt == 0 and (failed := _update_lists()):
            trouble += f"; {failed}"
    raise Lacking(f"no kernel for the guest: {trouble}. It needs a Debian 12 archive in apt's sources")


def _entry_name(version):
    wanted = hashlib.sha256(" ".join([_LAYOUT, *modules.WANTED]).encode()).hexdigest()[:12]
    return f"kernel-{version}-{wanted}"


def _load(entry):
    order = (entry / "modules/order").read_text().split()
    return Kernel((entry / "version").read_text().strip(), entry / "vmlinux", [entry / "modules" / name for name in order])


def _cached(folder):
    entries = [path for path in folder.glob(_entry_name("*")) if (path / "vmlinux").is_file()]
    return max(entries, key=lambda path: int(re.search(r"-(\d+)-amd64", path.name)[1])) if entries else None


def _make(folder, say):
    say("fetching the guest's kernel with apt (once, about 70 MB)")
    scratch = folder / ".download"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        package, version = _download(scratch)
        unpacked = scratch / "root"
        done = _run("dpkg", "-x", str(package), str(unpacked))
        if done.returncode != 0:
            raise Lacking(f"dpkg -x {package.name}: {done.stderr.strip()}")
        entry = folder / _entry_name(version)
        with cache.appearing(entry) as work:
            (work / "vmlinux").write_bytes(vmlinux.extract((unpacked / f"boot/vmlinuz-{version}").read_bytes()))
            (work / "version").write_text(version + "\n")
            (work / "modules").mkdir()
            order = []
            for name, content in modules.in_order(unpacked / "lib/modules" / version):
                (work / "modules" / name).write_bytes(content)
                order.append(name)
            (work / "modules/order").write_text("\n".join(order) + "\n")
        return entry
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def get(say):
    """The kernel, from the cache or, the first time, from the archive. say: called with a line for people."""
    folder = cache.folder()
    entry = _cached(folder)
    if entry is None:
        with cache.locked(folder):
            entry = _cached(folder) or _make(folder, say)
    return _load(entry)
