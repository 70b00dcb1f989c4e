#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Real files and other people's clients: clients_test.py PERDURED PERDURE

An ext4 file system with a few hundred real files goes in; files in it are changed through the server; every
moment must still be what it was. Then each client that people use does what it is used for, and what it
left is compared with a second client or with a file. Reports TAP.
"""
import contextlib
import glob
import hashlib
import json
import os
import random
import shutil
import stat
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
import nbd
from perdure import (ENVIRONMENT, LIMIT_S, Refused, Server, Tap, expect, must_hold, run, wait_until)
from qmp import StorageDaemon

PROGRAMS = sys.argv[1:3]
MIB = 1 << 20
DISK = 128 * MIB
FILES, FILES_BYTES = 400, 24 * MIB


def sha(path):
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while part := file.read(MIB):
            digest.update(part)
    return digest.hexdigest()


def some_files(folder):
    """Copies a few hundred files of this system, of all sizes, in their folders."""
    count = total = 0
    for where, names, files in os.walk('/usr/share'):
        names.sort()
        for name in sorted(files):
            path = os.path.join(where, name)
            info = os.lstat(path)
            if not stat.S_ISREG(info.st_mode) or info.st_size > MIB:
                continue
            target = os.path.join(folder, os.path.relpath(path, '/usr/share'))
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy(path, target)
            count, total = count + 1, total + info.st_size
            if count == FILES or total > FILES_BYTES:
                return
    must_hold('there are some hundred files to copy', count > 100)


@contextlib.contextmanager
def connected(uri):
    link = nbd.NBD()
    link.connect_uri(uri)
    try:
        yield link
    finally:
        link.shutdown()


@contextlib.contextmanager
def mounted(folder, uri):
    """The export as a file, and the file as a mounted ext4: the kernel's own file system writes."""
    point, mount = os.path.join(folder, 'fuse'), os.path.join(folder, 'mount')
    os.makedirs(point, exist_ok=True)
    os.makedirs(mount, exist_ok=True)
    with open(os.path.join(folder, 'nbdfuse.log'), 'w+', encoding='utf-8') as log:
        fuse = subprocess.Popen(['nbdfuse', point + '/disk', uri], env=ENVIRONMENT,
                                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        def there():
            must_hold('nbdfuse runs', fuse.poll() is None)
            return os.path.exists(point + '/disk')

        try:
            wait_until('nbdfuse shows the disk', there)
            run('mount', '-o', 'loop', point + '/disk', mount)
            try:
                yield mount
            finally:
                run('umount', mount)
        finally:
            run('umount', point, status=None)
            fuse.terminate()
            fuse.wait(LIMIT_S)


def can_mount():
    """Not in a bare container: it has neither FUSE nor loop devices."""
    return os.geteuid() == 0 and os.path.exists('/dev/fuse') and os.path.exists('/dev/loop-control') \
        and shutil.which('nbdfuse', path=ENVIRONMENT['PATH']) and \
        shutil.which('fusermount3', path=ENVIRONMENT['PATH'])


class RealFiles:
    """The story of one file system, told in cases that build on each other."""

    def __init__(self, server, folder):
        self.server, self.folder = server, folder
        self.uri = server.uri('files')
        self.old = os.path.join(folder, 'old.img')
        self.new = os.path.join(folder, 'new.img')
        self.moment = self.changed_path = self.changed_bytes = self.gone_path = None

    def fetch(self, export):
        path = os.path.join(self.folder, 'fetched.img')
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)
        run('nbdcopy', self.server.uri(export), path)
        return path

    def holds(self, export, image):
        expect(f'the bytes of {export}', sha(self.fetch(export)), sha(image))

    def copy_in(self):
        tree = os.path.join(self.folder, 'tree')
        os.makedirs(tree)
        some_files(tree)
        run('mke2fs', '-q', '-t', 'ext4', '-d', tree, self.old, f'{DISK // MIB}M')
        self.server.cli('volume', 'create', 'files', '--size', f'{DISK // MIB}M', '--block-size', '512')
        run('nbdcopy', '--flush', self.old, self.uri)
        self.holds('files', self.old)
        self.moment = self.server.cli('mark', 'files', '--label', 'copied')['at']
        paths = sorted(os.path.relpath(os.path.join(where, name), tree)
                       for where, _, names in os.walk(tree) for name in names)
        self.changed_path, self.gone_path = paths[len(paths) // 3], paths[len(paths) // 2]
        with open(os.path.join(tree, self.changed_path), 'rb') as file:
            self.changed_bytes = file.read()
        return f'{len(paths)} files'

    def change_mounted(self):
        with mounted(self.folder, self.uri) as mount:
            with open(os.path.join(mount, self.changed_path), 'wb') as file:
                file.write(b'changed\n' * 5000)
            os.remove(os.path.join(mount, self.gone_path))
            os.mkdir(os.path.join(mount, 'again'))
            for path in sorted(glob.glob(os.path.join(self.folder, 'tree', '**'), recursive=True))[::7]:
                if os.path.isfile(path):
                    shutil.copy(path, os.path.join(mount, 'again'))

    def change_by_debugfs(self):
        """Without the kernel's help: debugfs changes the file system in a copy, and only the blocks that
        differ are written back."""
        copy = self.fetch('files')
        changed = os.path.join(self.folder, 'changed')
        with open(changed, 'wb') as file:
            file.write(b'changed\n' * 5000)
        script = os.path.join(self.folder, 'script')
        with open(script, 'w', encoding='utf-8') as file:
            file.write(f'rm "/{self.changed_path}"\nwrite "{changed}" "/{self.changed_path}"\n'
                       f'rm "/{self.gone_path}"\n')
        run('debugfs', '-w', '-f', script, copy)
        with connected(self.uri) as link, open(copy, 'rb') as now, open(self.old, 'rb') as before:
            for at in range(0, DISK, 4096):
                block = now.read(4096)
                if block != before.read(4096):
                    link.pwrite(block, at)
            link.flush()

    def change(self):
        if can_mount():
            self.change_mounted()
        else:
            self.change_by_debugfs()
        shutil.copy(self.fetch('files'), self.new)
        must_hold('the volume has changed', sha(self.new) != sha(self.old))

    def past_is_sound(self):
        image = self.fetch('files@copied')
        run('e2fsck', '-fn', image)
        expect('the bytes of the past', sha(image), sha(self.old))
        out = os.path.join(self.folder, 'out')
        run('debugfs', '-R', f'dump "/{self.changed_path}" {out}', image)
        with open(out, 'rb') as file:
            expect('the old file', file.read(), self.changed_bytes)
        must_hold('the removed file is in the past',
                  'not found' not in run('debugfs', '-R', f'stat "/{self.gone_path}"', image))

    def past_by_other_names(self):
        sequence, when = self.moment['sequence'], self.moment['time']
        self.holds(f'files@seq:{sequence}', self.old)
        self.holds(f'files@{when}', self.old)

    def present_is_sound(self):
        image = self.fetch('files')
        run('e2fsck', '-fn', image)
        out = os.path.join(self.folder, 'out')
        run('debugfs', '-R', f'dump "/{self.changed_path}" {out}', image)
        with open(out, 'rb') as file:
            expect('the new file', file.read(), b'changed\n' * 5000)
        must_hold('the removed file is gone',
                  'not found' in run('debugfs', '-R', f'stat "/{self.gone_path}"', image))

    def carry_forward(self):
        """As a backup does: the old image and what has changed since make the new one."""
        told = self.server.cli('diff', 'files', '--from', 'copied', '--to', 'now')
        expect('from', told['from']['sequence'], self.moment['sequence'])
        changed = sum(one['length_bytes'] for one in told['ranges'])
        must_hold('a part has changed', 0 < changed < DISK // 2)
        wanted = os.path.join(self.folder, 'carried.img')
        shutil.copy(self.old, wanted)
        with connected(self.uri) as link, open(wanted, 'r+b') as out:
            for one in told['ranges']:
                for at in range(one['offset_bytes'], one['offset_bytes'] + one['length_bytes'], MIB):
                    out.seek(at)
                    out.write(link.pread(min(MIB, one['offset_bytes'] + one['length_bytes'] - at), at))
        expect('the image carried forward', sha(wanted), sha(self.new))
        nothing = self.server.cli('diff', 'files', '--from', 'now', '--to', 'now')
        expect('between now and now', nothing['ranges'], [])
        self.server.cli('diff', 'files', '--from', 'now', '--to', 'copied', status=2)
        self.server.cli('diff', 'files', '--from', 'never-made', '--to', 'now', status=3)
        self.server.cli('diff', 'no-such-volume', '--from', 'copied', '--to', 'now', status=3)
        return f'{changed // 1024} KiB in {len(told["ranges"])} ranges'

    def image_read_only(self):
        opened = self.server.cli('image', 'open', 'files', '--at', 'copied', '--name', 'look')
        expect('its export', opened['disks'][0]['export'], 'files.look')
        self.holds('files.look', self.old)
        with connected(self.server.uri('files.look')) as link:
            must_hold('it is read-only', link.is_read_only())
        self.server.cli('image', 'close', 'look')
        must_hold('it is gone', 'look' not in
                  [one['name'] for one in self.server.cli('image', 'list')['images']])

    def image_writable(self):
        self.server.cli('image', 'open', 'files', '--at', 'copied', '--name', 'try', '--writable')
        run('nbdcopy', self.new, self.server.uri('files.try'))
        with connected(self.server.uri('files.try')) as link:
            link.pwrite(b'x' * 8192, 40960)
        image = self.fetch('files.try')
        with open(image, 'rb') as file:
            file.seek(40960)
            expect('what was written to it', file.read(8192), b'x' * 8192)
        self.holds('files', self.new)
        self.holds('files@copied', self.old)
        self.server.cli('image', 'close', 'try')
        self.holds('files@copied', self.old)

    def throw_away(self):
        uri = self.server.uri('files@copied+rw')
        with connected(uri) as link:
            link.pwrite(b'y' * 4096, 0)
            expect('its own write', bytes(link.pread(4096, 0)), b'y' * 4096)
        self.holds('files', self.new)
        self.holds('files@copied', self.old)

    def restore(self):
        would = self.server.cli('restore', 'files', '--at', 'copied', '--dry-run')
        must_hold('a dry run changes nothing', would['dry_run'])
        self.holds('files', self.new)
        done = self.server.cli('restore', 'files', '--at', 'copied')
        self.holds('files', self.old)
        run('e2fsck', '-fn', self.fetch('files'))
        self.server.cli('restore', 'files', '--at', f'seq:{done["before"]["sequence"]}')
        self.holds('files', self.new)
        self.holds('files@copied', self.old)

    def restore_range(self):
        done = self.server.cli('restore', 'files', '--at', 'copied', '--range', f'{DISK // 4}:{DISK // 4}')
        wanted = os.path.join(self.folder, 'wanted.img')
        shutil.copy(self.new, wanted)
        with open(self.old, 'rb') as old, open(wanted, 'r+b') as out:
            old.seek(DISK // 4)
            out.seek(DISK // 4)
            out.write(old.read(DISK // 4))
        self.holds('files', wanted)
        self.server.cli('restore', 'files', '--at', f'seq:{done["before"]["sequence"]}')
        self.holds('files', self.new)

    def restore_under_clients(self):
        with connected(self.uri) as link:
            self.server.cli('restore', 'files', '--at', 'copied', status=5)
            with open(self.new, 'rb') as new, open(self.old, 'rb') as old:
                at = next(at for at in range(0, DISK, 4096)
                          if new.read(4096) != old.read(4096))
                new.seek(at)
                old.seek(at)
                before, after = new.read(4096), old.read(4096)
            expect('a client before', bytes(link.pread(4096, at)), before)
            done = self.server.cli('restore', 'files', '--at', 'copied', '--force')
            expect('the same client after', bytes(link.pread(4096, at)), after)
        self.server.cli('restore', 'files', '--at', f'seq:{done["before"]["sequence"]}')

    def after_starts(self):
        for how, again in (('restart', self.server.restart), ('cold start', self.server.cold),
                           ('kill', lambda: self.server.disturb('kill')),
                           ('reload', lambda: self.server.disturb('reload'))):
            again()
            self.holds('files', self.new)
            self.holds('files@copied', self.old)
            must_hold(how, any(mark['label'] == 'copied'
                               for mark in self.server.cli('mark', 'list')['marks']))

    def cases(self, tap):
        for name, case in (
                ('nbdcopy copies a file system of real files in and out', self.copy_in),
                ('the kernel changes files in it through nbdfuse' if can_mount() else
                 'debugfs changes files in it', self.change),
                ('the moment of before passes e2fsck and holds the old files', self.past_is_sound),
                ('a moment is found by mark, sequence and time', self.past_by_other_names),
                ('the volume passes e2fsck and holds the new files', self.present_is_sound),
                ('an image of the past and what has changed since make the present', self.carry_forward),
                ('a read-only image shows the past', self.image_read_only),
                ('writes to a writable image touch neither present nor past', self.image_writable),
                ('writes to a throw-away image touch neither', self.throw_away),
                ('a restore brings the old back, its undo the new', self.restore),
                ('a range is restored, and its undo', self.restore_range),
                ('a restore under clients needs --force, and they see it', self.restore_under_clients),
                ('present, past and marks outlive restart, cold start, kill, reload', self.after_starts)):
            if not tap.case(name, case, server=self.server) and case == self.copy_in:
                return


# ---- clients ----

def create(server, name, size_bytes, block=4096):
    server.cli('volume', 'create', name, '--size', size_bytes, '--block-size', block)
    return server.uri(name)


def random_file(path, size_bytes, seed):
    with open(path, 'wb') as file:
        file.write(random.Random(seed).randbytes(size_bytes))
    return path


def nbdinfo(server, folder):
    uri = create(server, 'info', 64 * MIB)
    info = json.loads(run('nbdinfo', '--json', '--no-content', uri))['exports'][0]
    expect('size', info['export-size'], 64 * MIB)
    for flag in ('can_flush', 'can_fua', 'can_trim', 'can_zero', 'can_multi_conn', 'can_df', 'can_cache'):
        must_hold(flag, info[flag])
    must_hold('it is writable', not info['is_read_only'])
    expect('smallest block', info['block_size_minimum'], 4096)
    names = [one['export-name'] for one in json.loads(run('nbdinfo', '--json', '--list',
                                                          server.uri('')))['exports']]
    must_hold('the list names the volume', 'info' in names)
    with connected(uri) as link:
        link.pwrite(b'a' * MIB, 16 * MIB)
        link.flush()
    extents = json.loads(run('nbdinfo', '--json', '--map', uri))
    data = [(one['offset'], one['length']) for one in extents if one['type'] == 0]
    expect('where data is', data, [(16 * MIB, MIB)])
    expect('bytes in the map', sum(one['length'] for one in extents), 64 * MIB)
    expect('exit status for an export that is not there',
           subprocess.run(['nbdinfo', server.uri('nothing')], env=ENVIRONMENT, check=False,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode != 0, True)


NBDSH = '''
import errno
assert h.get_structured_replies_negotiated()
h.pwrite(b"1" * 8192, 0)
h.pwrite(b"2" * 4096, 4096, nbd.CMD_FLAG_FUA)
h.zero(4096, 12288, nbd.CMD_FLAG_NO_HOLE)
h.pwrite(b"3" * 4096, 16384)
h.trim(4096, 16384)
h.cache(65536, 0)
h.flush()
assert h.pread(4096, 0) == b"1" * 4096
assert h.pread(8192, 4096, nbd.CMD_FLAG_DF) == b"2" * 4096 + bytes(4096)
assert h.pread(4096, 16384) == bytes(4096)
def refused(call, *args):
    try:
        call(*args)
    except nbd.Error as e:
        return e.errno
assert refused(h.pread, 4096, h.get_size()) == "EINVAL", "a read beyond the end"
assert refused(h.pwrite, b"x" * 4096, h.get_size()) in ("ENOSPC", "EINVAL"), "a write beyond the end"
# An error harms nothing else: the connection goes on.
assert h.pread(4096, 0) == b"1" * 4096
found = []
h.block_status(1048576, 0, lambda context, at, entries, error: found.extend(entries))
assert sum(found[0::2]) >= 1048576 and found[1] == 0, found
'''


def nbdsh(server, folder):
    uri = create(server, 'shell', 16 * MIB)
    script = os.path.join(folder, 'nbdsh.py')
    with open(script, 'w', encoding='utf-8') as file:
        # Requests that are wrong must reach the server.
        file.write('h.set_strict_mode(0)\nh.add_meta_context("base:allocation")\n'
                   f'h.connect_uri("{uri}")\n' + NBDSH)
    run('nbdsh', '-c', f'exec(open({script!r}).read())')


def read_only_moment(server, folder):
    uri = create(server, 'frozen', 16 * MIB)
    with connected(uri) as link:
        link.pwrite(b'f' * 4096, 0)
    moment = server.cli('mark', 'frozen', '--label', 'then')
    with connected(uri) as link:
        link.pwrite(b'g' * 4096, 0)
    with connected(server.uri('frozen@then')) as link:
        link.set_strict_mode(0)
        must_hold('a moment is read-only', link.is_read_only())
        expect('its bytes', bytes(link.pread(4096, 0)), b'f' * 4096)
        try:
            link.pwrite(b'h' * 4096, 0)
            raise AssertionError('a moment took a write')
        except nbd.Error as error:
            expect('the error', error.errno, 'EPERM')
        expect('its bytes after a refused write', bytes(link.pread(4096, 0)), b'f' * 4096)
    run('nbdinfo', server.uri(f'frozen@seq:{moment["at"]["sequence"] + 1000000}'), status=1)


def qemu_io(server, folder):
    uri = create(server, 'io', 64 * MIB, block=512)
    said = run('qemu-io', '-f', 'raw', '-c', 'write -P 0x11 0 1M', '-c', 'write -P 0x22 512 1536',
               '-c', 'writev -f -P 0x33 1M 64k', '-c', 'write -z 4096 4096', '-c', 'discard 64k 64k',
               '-c', 'flush', '-c', 'read -P 0x11 0 512', '-c', 'read -P 0x22 512 1536',
               '-c', 'read -P 0x11 2048 2048', '-c', 'read -P 0 4096 4096', '-c', 'read -P 0 64k 64k',
               '-c', 'read -P 0x33 1M 64k', '-c', 'aio_write -P 0x44 2M 1M', '-c', 'aio_flush',
               '-c', 'read -P 0x44 2M 1M', uri)
    must_hold('every pattern is there: ' + said, 'Pattern verification failed' not in said)
    # On blocks of 4096 bytes the client reads, changes and writes.
    uri = create(server, 'io-large', 16 * MIB, block=4096)
    said = run('qemu-io', '-f', 'raw', '-c', 'write -P 0x55 0 64k', '-c', 'write -P 0x66 1000 3000',
               '-c', 'read -P 0x55 0 1000', '-c', 'read -P 0x66 1000 3000', '-c', 'read -P 0x55 4000 61536',
               uri)
    must_hold('every pattern is there: ' + said, 'Pattern verification failed' not in said)


def qemu_img(server, folder):
    uri = create(server, 'convert', 48 * MIB)
    source = random_file(os.path.join(folder, 'source.img'), 20 * MIB, 2)
    with open(source, 'r+b') as file:
        file.truncate(48 * MIB)
    run('qemu-img', 'convert', '-n', '-f', 'raw', '-O', 'raw', '-W', '-m', '8', source, uri)
    run('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', source, uri)
    server.cli('mark', 'convert', '--label', 'whole')
    run('qemu-io', '-f', 'raw', '-c', 'write -P 0x77 8M 4k', uri)
    run('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', source, uri, status=1)
    run('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', source, server.uri('convert@whole'))
    out = os.path.join(folder, 'out.qcow2')
    run('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', server.uri('convert@whole'), out)
    run('qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2', source, out)


def mirror(server, folder):
    size = 32 * MIB
    create(server, 'second', size)
    source = random_file(os.path.join(folder, 'first.img'), size, 3)
    listen = os.path.join(folder, 'qsd.sock')
    with StorageDaemon(folder,
                       [{'driver': 'file', 'filename': source, 'node-name': 'first'},
                        {'driver': 'nbd', 'node-name': 'second', 'export': 'second',
                         'server': {'type': 'inet', 'host': '127.0.0.1', 'port': str(server.port)}}],
                       '--nbd-server', f'addr.type=unix,addr.path={listen}',
                       '--export', 'nbd,id=e,node-name=first,writable=on,name=first') as daemon:
        first = f'nbd+unix:///first?socket={listen}'
        daemon.ask('blockdev-mirror', **{'job-id': 'm', 'device': 'first', 'target': 'second',
                                         'sync': 'full', 'copy-mode': 'write-blocking'})
        daemon.wait_event('BLOCK_JOB_READY')
        server.cli('mark', 'second', '--label', 'mirrored')
        shutil.copy(source, os.path.join(folder, 'then.img'))
        run('qemu-io', '-f', 'raw', '-c', 'write -P 0x88 1M 2M', '-c', 'write -z 8M 1M', '-c', 'flush', first)
        # The leg is taken out in order; the volume is then what the first disk is.
        daemon.ask('block-job-cancel', device='m')
        must_hold('the job ends well', 'error' not in daemon.wait_event('BLOCK_JOB_COMPLETED'))
        run('qemu-io', '-f', 'raw', '-r', '-c', 'read -P 0x88 1M 2M', server.uri('second'))
        server.cli('mark', 'second', '--label', 'detached')
        run('qemu-io', '-f', 'raw', '-c', 'write -P 0x99 0 64k', first)
    run('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', os.path.join(folder, 'then.img'),
        server.uri('second@mirrored'))
    run('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', source, server.uri('second'), status=1)
    run('qemu-io', '-f', 'raw', '-c', 'write -P 0x99 0 64k', server.uri('second'))
    run('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', source, server.uri('second'))


def fio(server, folder):
    uri = create(server, 'fio', 64 * MIB)
    said = run('fio', '--name=verify', '--ioengine=nbd', f'--uri={uri}', '--rw=randwrite',
               '--bsrange=4k-64k', '--size=8M', '--numjobs=4', '--offset_increment=8M', '--iodepth=16',
               '--verify=crc32c', '--verify_fatal=1', '--do_verify=1', '--group_reporting',
               '--output-format=json', cwd=folder)
    job = json.loads(said[said.index('{'):])['jobs'][0]
    expect('errors', job['error'], 0)
    must_hold('everything was read back', job['read']['io_bytes'] >= 4 * 8 * MIB)


def many_volumes(server, folder):
    for name in ('one', 'two'):
        create(server, name, 8 * MIB)
    with connected(server.uri('one')) as one, connected(server.uri('two')) as two:
        for number in range(50):
            block = number.to_bytes(2, 'big') * 2048
            one.pwrite(block, 0)
            two.pwrite(block, 0)
            if number == 25:
                server.cli('mark', 'one', 'two', '--label', 'both')
    opened = server.cli('image', 'open', 'one', 'two', '--at', 'both', '--name', 'pair')
    expect('volumes of the image', sorted(disk['volume'] for disk in opened['disks']), ['one', 'two'])
    for name in ('one', 'two'):
        with connected(server.uri(name + '.pair')) as link:
            expect(f'{name} then', bytes(link.pread(4096, 0))[:2], (25).to_bytes(2, 'big'))
    try:
        server.control('volume.create', name='one', size_bytes=MIB, block_size_bytes=4096,
                       durability='flush')
        raise AssertionError('a volume was made twice')
    except Refused as refusal:
        expect('the reason', refusal.code, 'exists')
    server.cli('volume', 'create', 'one', '--size', '1M', status=4)
    server.cli('volume', 'show', 'three', status=3)


CLIENTS = [
    ('nbdinfo sees size, flags, block sizes, extents and the list', nbdinfo),
    ('nbdsh: FUA, zeroes, trim, cache, DF, errors that harm nothing else', nbdsh),
    ('a moment is read-only', read_only_moment),
    ('qemu-io: patterns, zeroes, discard, parts of blocks', qemu_io),
    ('qemu-img: convert in and out, compare with the past', qemu_img),
    ('qemu blockdev-mirror onto a volume, taken out in order', mirror),
    ('fio verifies what it wrote', fio),
    ('one moment holds for several volumes', many_volumes),
]


def main():
    tap = Tap()
    with Server(PROGRAMS) as server, tempfile.TemporaryDirectory(prefix='perdure-clients-') as folder:
        RealFiles(server, folder).cases(tap)
        for name, case in CLIENTS:
            tap.case(name, case, server, folder, server=server)
        tap.case('the server stops in order', lambda: expect('exit status', server.stop(), 0), server=server)
        tap.case('nothing was logged as an error',
                 lambda: expect('lines', [line for line in server.log().splitlines()
                                          if line[:3] in ('<0>', '<1>', '<2>', '<3>')], []))
    tap.end()


if __name__ == '__main__':
    main()
