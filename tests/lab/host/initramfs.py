# SPDX-License-Identifier: Apache-2.0
"""The guest's first file system: busybox, the kernel's modules and guest/init, as a cpio archive in the "newc" format.

The format is the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
"""

import hashlib
import os
import tempfile
from pathlib import Path

from host import cache
from host.errors import Lacking

INIT = Path(__file__).resolve().parent.parent / "guest/init"
_BUSYBOX = [Path("/bin/busybox"), Path("/usr/bin/busybox")]
_FOLDERS = ["bin", "dev", "lower", "modules", "proc", "root", "sys", "upper"]


def _busybox():
    """The statically linked one: nothing else is there to link it with."""
    for path in _BUSYBOX:
        if path.is_file():
            content = path.read_bytes()
            if b"/lib64/ld-linux" not in content[:4096]:
                return content
    raise Lacking("there is no statically linked busybox: install the package busybox-static (tools/setup does)")


class _Archive:
    def __init__(self):
        self._parts, self._inode = [], 0

    def _entry(self, name, mode, content=b"", device=(0, 0)):
        self._inode += 1
        encoded = name.encode() + b"\0"
        fields = [self._inode, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(encoded), 0]
        self._padded(b"070701" + b"".join(b"%08X" % field for field in fields) + encoded)
        self._padded(content)

    def _padded(self, content):
        self._parts += [content, b"\0" * (-len(content) % 4)]

    def folder(self, name):
        self._entry(name, 0o040755)

    def file(self, name, content, mode=0o644):
        self._entry(name, 0o100000 | mode, content)

    def console(self):
        self._entry("dev/console", 0o020600, device=(5, 1))

    def finish(self):
        self._entry("TRAILER!!!", 0)
        return b"".join(self._parts)


def get(kernel):
    """The archive for this kernel: a file in the cache, named after the hash of all that goes in."""
    archive = _Archive()
    for name in _FOLDERS:
        archive.folder(name)
    archive.console()
    archive.file("init", INIT.read_bytes(), 0o755)
    archive.file("bin/busybox", _busybox(), 0o755)
    archive.file("modules/order", "".join(path.name + "\n" for path in kernel.modules).encode())
    for path in kernel.modules:
        archive.file(f"modules/{path.name}", path.read_bytes())
    content = archive.finish()
    folder = cache.folder()
    target = folder / f"initramfs-{kernel.version}-{hashlib.sha256(content).hexdigest()[:16]}.cpio"
    if not target.is_file():
        with cache.locked(folder):
            for old in folder.glob(f"initramfs-{kernel.version}-*.cpio"):  # a running QEMU has read it already
                old.unlink(missing_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".initramfs.", delete=False) as file:
                file.write(content)
            os.rename(file.name, target)
    return target
