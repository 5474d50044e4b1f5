# SPDX-License-Identifier: Apache-2.0
"""Which kernel modules the guest needs, and in which order: each module's own .modinfo names what it depends on.

A package that was unpacked but not installed has no modules.dep, hence no list of dependencies but the modules' own.
"""

import lzma
import re

from host.errors import Lacking

# What the guest uses; dependencies are found. Those that the kernel has built in are left out.
WANTED = ["virtio_pci", "9pnet_virtio", "9p", "overlay", "virtio_net", "af_packet", "vfio_iommu_type1", "vfio-pci"]


def _key(name):
    return name.replace("-", "_")


def _depends(content):
    found = re.search(rb"(?:^|\0)depends=([^\0]*)\0", content)
    return [name for name in found[1].decode().split(",") if name] if found else []


def _read(path):
    content = path.read_bytes()
    return lzma.decompress(content) if path.suffix == ".xz" else content


def in_order(root):
    """root: lib/modules/VERSION. Gives (file name, content) of all that WANTED needs, dependencies first."""
    files = {_key(path.name.split(".ko")[0]): path for path in root.glob("kernel/**/*.ko*")}
    builtin_list = root / "modules.builtin"
    builtin = set()
    if builtin_list.is_file():
        builtin = {_key(line.rsplit("/", 1)[-1].removesuffix(".ko")) for line in builtin_list.read_text().split()}
    ordered, seen = [], set()

    def add(name):
        key = _key(name)
        if key in seen:
            return
        seen.add(key)
        if key not in files:
            if key in builtin:
                return
            raise Lacking(f"the kernel has no module {name} in {root}")
        content = _read(files[key])
        for needed in _depends(content):
            add(needed)
        ordered.append((f"{key}.ko", content))

    for name in WANTED:
        add(name)
    return ordered
