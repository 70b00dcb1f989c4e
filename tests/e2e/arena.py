# SPDX-License-Identifier: Apache-2.0
"""Changing the memory of a server under test."""
import contextlib
import mmap
import os
import struct

from perdure import must_hold

# src/arena/header.h: the identity page and the live words behind it.
MAGIC_AT, CRC_AT, LAYOUT_AT, IDENTITY_BYTES = 0, 12, 64, 96 + 48 * 32
PART_LAYOUT_AT = 96 + 40
PHASE_AT = 4096 + 24


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


class Arena:
    """The arena that an engine has; who changes more than a word of it stops the engine first."""

    def __init__(self, pid):
        folder = f'/proc/{pid}/fd'
        for number in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):
                if os.readlink(f'{folder}/{number}').startswith('/memfd:perdure-arena'):
                    self.fd = os.open(f'{folder}/{number}', os.O_RDWR)
                    break
        self.map = mmap.mmap(self.fd, 0)

    def never_completed(self):
        struct.pack_into('<I', self.map, PHASE_AT, 9)

    def other_layout(self):
        """As an engine of another build leaves it: sound, but its first table is not what we know."""
        self.map[LAYOUT_AT] ^= 1
        self.map[PART_LAYOUT_AT] ^= 1
        struct.pack_into('<I', self.map, CRC_AT, 0)
        struct.pack_into('<I', self.map, CRC_AT, crc32c(self.map[:IDENTITY_BYTES]))

    def no_arena(self):
        self.map[MAGIC_AT] ^= 1

    def damage(self, data):
        """Flips a bit wherever these bytes lie."""
        at, found = self.map.find(data), 0
        while at >= 0:
            self.map[at + len(data) // 2] ^= 1
            found += 1
            at = self.map.find(data, at + 1)
        must_hold('the written bytes lie in the arena', found > 0)

    def close(self):
        self.map.close()
        os.close(self.fd)
