# SPDX-License-Identifier: Apache-2.0
"""The guest's kernels: Debian's own for amd64, fetched with apt as packages, never installed. 6.1 is what the cases run on;
6.12 is asked what a workqueue does (tests/oracle), and comes with what a module for it is built against.

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

@dataclass(frozen=True)
class Series:
    package: re.Pattern  # groups: the version, what orders versions, -unsigned
    search: str  # for apt-cache
    meta: str  # a package that depends on the newest one, or nothing
    headers: bool  # with what modules are built against


SERIES = {
    "6.1": Series(re.compile(r"^linux-image-(6\.1\.0-(\d+)-amd64)(-unsigned)?$"), r"^linux-image-6\.1\.0-",
                  "linux-image-amd64", False),
    "6.12": Series(re.compile(r"^linux-image-(6\.12\.(\d+)\+deb12-amd64)(-unsigned)?$"), r"^linux-image-6\.12\.", "", True),
}
# Whoever changes how entries are made changes this, and old ones are not used any more.
_LAYOUT = "1"


@dataclass(frozen=True)
class Kernel:
    version: str
    image: Path  # uncompressed
    modules: list  # paths, in the order of loading
    headers: Path = None  # the folder to run make in, where the series has them


def _run(*command, cwd=None):
    try:
        return subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                              timeout=300, env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"})
    except FileNotFoundError as error:
        raise Lacking(f"there is no {command[0]}: the laboratory's kernel comes from a Debian archive") from error
    except subprocess.TimeoutExpired as error:
        raise Lacking(f"{' '.join(command)} did not end within 300 s: is the archive reachable?") from error


def _newest_package(series):
    """The newest full kernel that apt's lists know, signed rather than unsigned; None where they know none."""
    if series.meta:
        for line in _run("apt-cache", "depends", series.meta).stdout.splitlines():
            name = line.strip().removeprefix("Depends: ")
            if series.package.match(name):
                return name
    names = [line.split(" ", 1)[0] for line in _run("apt-cache", "search", "--names-only", series.search).stdout.splitlines()]
    found = [(int(match[2]), match[3] is None, name) for name in names if (match := series.package.match(name))]
    return max(found)[2] if found else None


def _update_lists():
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    updated = _run(*as_root, "apt-get", "update")
    return "" if updated.returncode == 0 else f"apt-get update: {updated.stderr.strip()}"


def _wanted_packages(series, name):
    """The kernel's package and those of its headers."""
    if not series.headers:
        return [name]
    version = series.package.match(name)[1]
    common = version.removesuffix("-amd64")
    return [name, f"linux-headers-{version}", f"linux-headers-{common}-common", f"linux-kbuild-{common}"]


def _download(folder, series):
    """Downloads the packages into the folder; gives their files and the version."""
    trouble = ""
    for attempt in range(2):
        name = _newest_package(series)
        if name:
            wanted = _wanted_packages(series, name)
            got = _run("apt-get", "download", *wanted, cwd=folder)
            files = list(folder.glob("*.deb"))
            if got.returncode == 0 and len(files) == len(wanted):
                return files, series.package.match(name)[1]
            trouble = f"apt-get download {' '.join(wanted)}: {got.stderr.strip()}"
        else:
            trouble = f"apt knows no package like {series.package.pattern}"
        if attempt == 0 and (failed := _update_lists()):
            trouble += f"; {failed}"
    raise Lacking(f"no kernel for the guest: {trouble}. It needs a Debian 12 archive in apt's sources")


def _entry_name(version):
    wanted = hashlib.sha256(" ".join([_LAYOUT, *modules.WANTED]).encode()).hexdigest()[:12]
    return f"kernel-{version}-{wanted}"


def _load(entry):
    order = (entry / "modules/order").read_text().split()
    version = (entry / "version").read_text().strip()
    headers = entry / f"headers/src/linux-headers-{version}"
    return Kernel(version, entry / "vmlinux", [entry / "modules" / name for name in order],
                  headers if headers.is_dir() else None)


def _cached(folder, series):
    entries = []
    for path in folder.glob(_entry_name("*")):
        match = series.package.match("linux-image-" + path.name.removeprefix("kernel-").rsplit("-", 1)[0])
        if match and (path / "vmlinux").is_file():
            entries.append((int(match[2]), path))
    return max(entries)[1] if entries else None


def _keep_headers(unpacked, version, work, entry):
    """Moves /usr/src and /usr/lib of the packages into the entry. They stand at fixed places when they are installed, so what
    names these is written anew; links between them are relative and stay right."""
    (work / "headers").mkdir()
    for name in ("src", "lib"):
        os.rename(unpacked / "usr" / name, work / "headers" / name)
    headers = work / f"headers/src/linux-headers-{version}"
    common = entry / f"headers/src/linux-headers-{version.removesuffix('-amd64')}-common"
    (headers / "Makefile").write_text(f"include {common}/Makefile\n")
    # With this file a module's build wants pahole, for type information that nobody reads here.
    (headers / "vmlinux").unlink(missing_ok=True)


def _make(folder, series, say):
    say(f"fetching the guest's kernel with apt (once, about {110 if series.headers else 70} MB)")
    scratch = folder / ".download"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        packages, version = _download(scratch, series)
        unpacked = scratch / "root"
        for package in packages:
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
            if series.headers:
                _keep_headers(unpacked, version, work, entry)
        return entry
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def get(say, series="6.1"):
    """The kernel, from the cache or, the first time, from the archive. say: called with a line for people."""
    folder = cache.folder()
    wanted = SERIES[series]
    entry = _cached(folder, wanted)
    if entry is None:
        with cache.locked(folder):
            entry = _cached(folder, wanted) or _make(folder, wanted, say)
    return _load(entry)
