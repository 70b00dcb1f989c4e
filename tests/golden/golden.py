# SPDX-License-Identifier: Apache-2.0
"""Arenas in files: the size (8 bytes), then each page that is not zero behind its offset (8 bytes), all in xz.
And the checksum of the store's formats."""
import lzma
import struct

PAGE = 4096


def pack(arena):
    zero, parts = bytes(PAGE), [struct.pack('<Q', len(arena))]
    for at in range(0, len(arena), PAGE):
        page = arena[at:at + PAGE]
        if page != zero[:len(page)]:
            parts += [struct.pack('<Q', at), page]
    return lzma.compress(b''.join(parts), preset=9 | lzma.PRESET_EXTREME)


def unpack(packed, file):
    said = lzma.decompress(packed)
    file.truncate(struct.unpack_from('<Q', said)[0])
    for at in range(8, len(said), 8 + PAGE):
        file.seek(struct.unpack_from('<Q', said, at)[0])
        file.write(said[at + 8:at + 8 + PAGE])
    file.flush()


def crc_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82f63b78 if value & 1 else 0)
        table.append(value)
    return table


def crc32c(data, table=tuple(crc_table())):
    crc = 0xffffffff
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xff]
    return crc ^ 0xffffffff
