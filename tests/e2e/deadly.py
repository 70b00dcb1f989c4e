# SPDX-License-Identifier: Apache-2.0
"""Telling perdured_deadly where to die, and how: the file that deadly.c describes."""
import mmap
import os
import struct
import tempfile

PARSE, SUBMIT, WORK, ATTACH = PLACES = range(4)
ABORT, HANG, EXIT = range(3)
ORDER_BYTES, DEATHS_AT = 64, 32
MARK_OFFSET, MARK_BYTES = 1 << 20, 4096


class Deadly:
    def __init__(self):
        self.file = tempfile.NamedTemporaryFile(prefix='perdure-deadly-')
        self.file.truncate(ORDER_BYTES * len(PLACES))
        self.map = mmap.mmap(self.file.fileno(), 0)
        os.environ['PERDURE_DEADLY'] = self.file.name

    def order(self, place, times, way=ABORT, skip=0, any_request=False):
        """Engines die there so many times."""
        struct.pack_into('<Q', self.map, place * ORDER_BYTES, 0)
        struct.pack_into('<QQQ', self.map, place * ORDER_BYTES + 8, way, skip, any_request)
        struct.pack_into('<Q', self.map, place * ORDER_BYTES, times)

    def deaths(self, place):
        return struct.unpack_from('<Q', self.map, place * ORDER_BYTES + DEATHS_AT)[0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        del os.environ['PERDURE_DEADLY']
        self.map.close()
        self.file.close()
