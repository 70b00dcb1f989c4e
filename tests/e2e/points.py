# SPDX-License-Identifier: Apache-2.0
"""Telling perdured_points where to die: the file that points.c describes."""
import contextlib
import mmap
import os
import struct
import subprocess
import tempfile

ATTACHING, SERVING, STARTING = STATES = 0, 1, 2
ANY_STORE, NEW_SITE = 0, 1
SITES, SITES_AT, SITE_BYTES = 16384, 4096, 64
ORDER_BYTES, DEATHS_AT, ATTACH_STORES_AT = 64, 192, 216


class Points:
    def __init__(self, program):
        self.program = program
        self.file = tempfile.NamedTemporaryFile(prefix='perdure-points-')
        self.file.truncate(SITES_AT + SITES * SITE_BYTES)
        self.map = mmap.mmap(self.file.fileno(), 0)
        os.environ['PERDURE_POINTS'] = self.file.name

    def order(self, state, times, left=1, what=ANY_STORE, then=(1, ANY_STORE)):
        """Engines in that state die so many times: at the `left`th store that counts, later as `then` says."""
        struct.pack_into('<Q', self.map, state * ORDER_BYTES, 0)
        struct.pack_into('<QQQQ', self.map, state * ORDER_BYTES + 8, left, what, *then)
        struct.pack_into('<Q', self.map, state * ORDER_BYTES, times)

    def word(self, at):
        return struct.unpack_from('<Q', self.map, at)[0]

    def left(self, state):
        """Deaths that were ordered and have not come yet."""
        return self.word(state * ORDER_BYTES)

    def deaths(self, state):
        return self.word(DEATHS_AT + 8 * state)

    def attach_stores(self):
        return self.word(ATTACH_STORES_AT)

    def sites(self):
        """(address, hits, deaths) of each site; hits and deaths have a number for each state."""
        for at in range(SITES_AT, len(self.map), SITE_BYTES):
            address, *n = struct.unpack_from('<7Q', self.map, at)
            if address:
                yield address, n[:3], n[3:]

    def forget(self):
        """Hits are counted from now on."""
        for at in range(SITES_AT, len(self.map), SITE_BYTES):
            struct.pack_into('<3Q', self.map, at + 8, 0, 0, 0)

    def places(self, addresses):
        """Where each site stands in the sources: 'file:line' of the innermost function."""
        said = subprocess.run(['addr2line', '-e', self.program], text=True, check=True,
                              input='\n'.join(f'{address - 1:x}' for address in addresses),
                              stdout=subprocess.PIPE).stdout.splitlines()
        return {address: place.split(' ')[0].rsplit('src/', 1)[-1]
                for address, place in zip(addresses, said)}

    def close(self):
        del os.environ['PERDURE_POINTS']
        with contextlib.suppress(BufferError):
            self.map.close()
        self.file.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
