# SPDX-License-Identifier: Apache-2.0
"""Takes the uncompressed kernel out of a bzImage. QEMU boots that by PVH, which saves decompressing it under emulation.

The places in the file are those of the kernel's Documentation/x86/boot.rst: setup_sects at 0x1f1, the magic number "HdrS"
at 0x202, payload_offset and payload_length at 0x248 and 0x24c, counted from the end of the setup sectors.
"""

import lzma
import struct
import subprocess
import zlib

from host.errors import Lacking


def _xz(payload):
    return lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(payload)


def _lzma(payload):
    return lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(payload)


def _gzip(payload):
    return zlib.decompressobj(wbits=31).decompress(payload)


def _tool(*command):
    def unpack(payload):
        # The four bytes after the stream (the size) make the tools complain after they have written everything.
        return subprocess.run(command, input=payload, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout
    return unpack


_FORMATS = [
    (b"\xfd7zXZ\x00", "xz", _xz),
    (b"\x5d\x00\x00", "lzma", _lzma),
    (b"\x1f\x8b", "gzip", _gzip),
    (b"\x28\xb5\x2f\xfd", "zstd", _tool("zstd", "-dcq")),
    (b"\x02\x21\x4c\x18", "lz4", _tool("lz4", "-dcq")),
]


def extract(image):
    """The ELF file inside the bytes of a bzImage."""
    if len(image) < 0x260 or image[0x202:0x206] != b"HdrS":
        raise Lacking("the package's vmlinuz is no bzImage: its boot header lacks HdrS")
    setup = (image[0x1F1] or 4) + 1
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = setup * 512 + offset
    payload = image[start:start + length]
    for magic, name, unpack in _FORMATS:
        if payload.startswith(magic):
            try:
                kernel = unpack(payload)
            except (lzma.LZMAError, zlib.error, OSError) as error:
                raise Lacking(f"the kernel's {name} payload cannot be decompressed: {error}") from error
            if kernel[:4] != b"\x7fELF":
                raise Lacking(f"the kernel's {name} payload holds no ELF file (is the tool {name} installed?)")
            return kernel
    raise Lacking(f"the kernel's payload is compressed in an unknown way: it begins with {payload[:6].hex()}")
