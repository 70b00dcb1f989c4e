# SPDX-License-Identifier: Apache-2.0
"""Changing the memory of a server under test."""
import contextlib
import mmap
import os
import struct

from perdure import must_hold

# src/arena/header.h: the identity page and the live words behind it.
MAGIC_AT, CRC_AT, LAYOUT_AT, IDENTITY_BYTES = 0, 12, 64, 96 + 48 * 32
PARTS_AT, PART_BYTES = 96, 48
PART_LAYOUT_AT = PARTS_AT + 40
BOOT_AT, UNDO_BYTES_AT = 32, 80
UNDO_USED_AT, PHASE_AT, DEATHS_AT, UNFIT_AT = 4096, 4096 + 24, 4096 + 44, 4096 + 56 + 4 * 32


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

    def bad_conn(self, layouts, field, value):
        """32 bits of a field in the first slot of the connections are what they cannot be."""
        fields = layouts[layouts.index('table 1 conn '):].splitlines()
        at = next(int(line.split()[0]) for line in fields if line.endswith(' ' + field))
        parts = [struct.unpack_from('<IIIIQQ', self.map, PARTS_AT + PART_BYTES * i) for i in range(32)]
        conns = next(offset for kind, number, _, _, offset, _ in parts if (kind, number) == (1, 1))
        struct.pack_into('<I', self.map, conns + at, value)

    def no_arena(self):
        self.map[MAGIC_AT] ^= 1

    # Done twice, these leave everything as it was.

    def flip(self, at, bits, sound=True):
        """Other bits of a word of the header; the identity page stays sound, unless it is not to."""
        word, = struct.unpack_from('<I', self.map, at)
        struct.pack_into('<I', self.map, at, word ^ bits)
        if at < IDENTITY_BYTES and sound:
            struct.pack_into('<I', self.map, CRC_AT, 0)
            struct.pack_into('<I', self.map, CRC_AT, crc32c(self.map[:IDENTITY_BYTES]))

    def bad_identity(self):
        self.flip(UNDO_BYTES_AT, 4096, sound=False)

    def other_boot(self):
        self.flip(BOOT_AT, 1)

    def empty(self):
        self.flip(PHASE_AT, 1)

    def many_deaths(self):
        self.flip(DEATHS_AT, 16)

    def long_undo(self):
        self.flip(UNDO_USED_AT + 4, 1)

    def unfit(self):
        self.flip(UNFIT_AT, 11)

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
