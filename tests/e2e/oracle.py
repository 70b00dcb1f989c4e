# SPDX-License-Identifier: Apache-2.0
"""A model of volumes that remembers every write.

A *step* is one change that was answered: a write, zeroes, a trim, a restore. `reached[i]` is the newest
sequence number that the server told after step i; what a volume held then is made again from the nearest
snapshot. Between two steps nothing else changes the volumes, so the moment seq:reached[i] is step i.
"""

SNAPSHOT_EVERY = 64


class Model:
    def __init__(self, sizes, sequence):
        self.now = {name: bytearray(size) for name, size in sizes.items()}
        self.steps = []  # (volume, offset, bytes) of step 1, 2, …
        self.reached = [sequence]
        self.durable = 0  # what follows this step may be lost when all processes die
        self.snapshots = {0: self.copy(self.now)}

    @staticmethod
    def copy(disks):
        return {name: bytes(disk) for name, disk in disks.items()}

    def last(self):
        return len(self.steps)

    def step(self, volume, offset, data, sequence):
        self.steps.append((volume, offset, bytes(data)))
        self.reached.append(sequence)
        self.now[volume][offset:offset + len(data)] = data
        if self.last() % SNAPSHOT_EVERY == 0:
            self.snapshots[self.last()] = self.copy(self.now)

    def at(self, step):
        """All volumes after a step."""
        base = step - step % SNAPSHOT_EVERY
        disks = {name: bytearray(disk) for name, disk in self.snapshots[base].items()}
        for volume, offset, data in self.steps[base:step]:
            disks[volume][offset:offset + len(data)] = data
        return disks

    def cut(self, step):
        """What came after a step never happened."""
        self.now = self.at(step)
        del self.steps[step:]
        del self.reached[step + 1:]
        self.snapshots = {at: disks for at, disks in self.snapshots.items() if at <= step}
        self.durable = min(self.durable, step)
