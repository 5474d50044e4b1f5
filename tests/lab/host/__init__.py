# SPDX-License-Identifier: Apache-2.0
"""The part of the laboratory that runs on this machine: kernel, initramfs, QEMU, results."""
