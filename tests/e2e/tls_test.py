#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""TLS with other people's clients, and through reloads and deaths: tls_test.py PERDURED PERDURE NBD_STORM [ROUNDS]

Clients of four makers prove each other what was written; those that may not come are turned away, and what is wrong
with certificates and keys is told before anything is touched. Then nbd_storm works over TLS 1.3 and 1.2, with each
cipher, while engines are reloaded and killed ROUNDS times in a row: no error, no new connection, no wrong byte.
Reports TAP.
"""
import contextlib
import os
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
import nbd
from certificates import KEY, SERVER, USER, authority, certify, write
from nbd_storm import Client
from perdure import LIMIT_S, Server, Tap, expect, must_hold, run, wait_until

PROGRAMS, STORM = sys.argv[1:3], sys.argv[3]
ROUNDS = int(sys.argv[4]) if len(sys.argv) > 4 else 10
MANY = 10000  # if PERDURE_MANY=1
MIB = 1 << 20
OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_STARTTLS, OPT_GO, OPT_STRUCTURED = 1, 2, 3, 5, 7, 8
ACK, ERR_UNSUP, ERR_POLICY, ERR_INVALID, ERR_TLS_REQD = 1, *(0x80000000 + n for n in (1, 2, 3, 5))


def keys(folder, policy, *more):
    words = ['--set', f'nbd.tls={policy}', '--set', f'nbd.tls-certificates={folder}',
             '--set', f'nbd.tls-psk={folder}/keys.psk']
    for word in more:
        words += ['--set', word]
    return words


@contextlib.contextmanager
def serving(folder, policy, *more):
    with Server(PROGRAMS, *keys(folder, policy, *more)) as server:
        server.cli('volume', 'create', 'disk', '--size', 64 * MIB)
        yield server


def link_to(server, folder=None, psk=False, tls=nbd.TLS_REQUIRE):
    link = nbd.NBD()
    link.set_tls(tls)
    if psk:
        link.set_tls_username(USER)
        link.set_tls_psk_file(folder + '/keys.psk')
    elif folder:
        link.set_tls_certificates(folder)
    link.set_export_name('disk')
    link.connect_tcp('localhost', str(server.port))
    return link


def is_refused(server, *args, **more):
    try:
        link_to(server, *args, **more).shutdown()
    except nbd.Error:
        return True
    return False


class Raw:
    """The option phase, byte by byte."""

    def __init__(self, server, flags=3):
        self.link = socket.create_connection(('127.0.0.1', server.port), LIMIT_S)
        self.link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.receive(18)
        self.link.sendall(struct.pack('>I', flags))

    def receive(self, count):
        got = b''
        while len(got) < count:
            part = self.link.recv(count - len(got))
            if not part:
                raise ConnectionResetError('closed')
            got += part
        return got

    @staticmethod
    def option(number, data=b''):
        return b'IHAVEOPT' + struct.pack('>II', number, len(data)) + data

    def ask(self, number, data=b''):
        self.link.sendall(self.option(number, data))
        return self.answer()

    def answer(self):
        magic, _, kind, length = struct.unpack('>QIII', self.receive(20))
        expect('magic', magic, 0x3e889045565a9)
        self.receive(length)
        return kind

    def secure(self, folder, version=None):
        context = ssl.create_default_context(cafile=folder + '/ca-cert.pem')
        if version:
            context.minimum_version = context.maximum_version = version
        self.link = context.wrap_socket(self.link, server_hostname='localhost')

    def is_closed(self):
        try:
            while self.link.recv(65536):
                pass
        except OSError:
            pass
        return True


def everybody(folder):
    """Each client writes what the next one reads, over x509 and PSK."""
    x509 = ['--object', f'tls-creds-x509,id=t,dir={folder},endpoint=client']
    psk = ['--object', f'tls-creds-psk,id=t,dir={folder},username={USER},endpoint=client']
    with serving(folder, 'require') as server:
        disk = ['--image-opts', f'driver=nbd,host=127.0.0.1,port={server.port},export=disk,tls-creds=t,tls-hostname=localhost']
        image = os.path.join(server.dir, 'image')
        for psk_too in (False, True):
            data = os.urandom(8 * MIB)
            link = link_to(server, folder, psk_too)
            must_hold('TLS is negotiated', link.get_tls_negotiated())
            link.pwrite(data, 4096)
            expect('what libnbd reads', bytes(link.pread(len(data), 4096)) == data, True)
            link.shutdown()
            run('qemu-io', *(psk if psk_too else x509), *disk, '-c', 'write -P 0x5a 16M 4M', '-c', 'read -P 0x5a 16M 4M')
            run('qemu-img', 'convert', '-O', 'raw', *(psk if psk_too else x509), *disk, image)
            with open(image, 'rb') as file:
                whole = file.read()
            must_hold('qemu-img reads what libnbd wrote', whole[4096:4096 + len(data)] == data)
            must_hold('and what qemu-io wrote', whole[16 * MIB:20 * MIB] == b'\x5a' * 4 * MIB)
        run('nbdcopy', f'nbds://localhost:{server.port}/disk?tls-certificates={folder}', image + '2')
        with open(image + '2', 'rb') as file:
            must_hold('nbdcopy reads the same', file.read() == whole)
        if shutil.which('nbd-client', path='/usr/sbin:/sbin'):
            told = run('/usr/sbin/nbd-client', '-l', 'localhost', server.port, '-x', '-A', folder + '/ca-cert.pem')
            must_hold('nbd-client lists it: ' + told, 'disk' in told)


def policies(folder):
    with serving(folder, 'off') as server:
        expect('STARTTLS, off', Raw(server).ask(OPT_STARTTLS), ERR_UNSUP)
        must_hold('nobody gets TLS', is_refused(server, folder))
        link_to(server, tls=nbd.TLS_DISABLE).shutdown()
    with serving(folder, 'on') as server:
        link_to(server, tls=nbd.TLS_DISABLE).shutdown()
        link_to(server, folder).shutdown()
        raw = Raw(server)
        expect('STARTTLS with data', raw.ask(OPT_STARTTLS, b'x'), ERR_INVALID)
        expect('STARTTLS', raw.ask(OPT_STARTTLS), ACK)
        raw.secure(folder)
        expect('STARTTLS again', raw.ask(OPT_STARTTLS), ERR_INVALID)
    with serving(folder, 'require') as server:
        must_hold('plain is refused', is_refused(server, tls=nbd.TLS_DISABLE))
        raw = Raw(server)
        for option, data in ((OPT_LIST, b''), (OPT_STRUCTURED, b''), (OPT_GO, b'\0' * 6), (99, b''),
                             (OPT_GO, b'\0' * 40000)):
            expect(f'option {option}', raw.ask(option, data), ERR_TLS_REQD)
        expect('ABORT', raw.ask(OPT_ABORT), ACK)
        raw = Raw(server)
        raw.link.sendall(raw.option(OPT_EXPORT_NAME, b'disk'))
        must_hold('EXPORT_NAME closes', raw.is_closed())


def nothing_is_kept(folder):
    """What was negotiated in plain does not count; what comes behind STARTTLS in plain ends the connection."""
    with serving(folder, 'on') as server:
        raw = Raw(server)
        expect('structured replies', raw.ask(OPT_STRUCTURED), ACK)
        expect('STARTTLS', raw.ask(OPT_STARTTLS), ACK)
        raw.secure(folder)
        raw.link.sendall(raw.option(OPT_GO, struct.pack('>I', 4) + b'disk\0\0'))
        while raw.answer() != ACK:
            pass
        raw.link.sendall(struct.pack('>IHHQQI', 0x25609513, 0, 0, 7, 0, 4096))
        expect('a simple reply', raw.receive(4), b'\x67\x44\x66\x98')
        for behind in (Raw.option(OPT_LIST), b'x', Raw.option(OPT_GO, b'\0' * 6) * 100):
            raw = Raw(server)
            raw.link.sendall(raw.option(OPT_STARTTLS) + behind)
            with contextlib.suppress(ConnectionError):
                expect('the answer to STARTTLS', raw.answer(), ACK)
            must_hold('closed', raw.is_closed())
        wait_until('none is left but the first', lambda: server.status()['connections'] <= 1)


def strangers(folder):
    """Certificates and keys of somebody else."""
    other = authority(folder + '-other')
    with serving(folder, 'require', 'nbd.tls-verify-peer=yes') as server:
        must_hold('the server is verified', is_refused(server, other))
        link_to(server, folder).shutdown()
        mixed = folder + '-mixed'
        shutil.copytree(other, mixed)
        shutil.copy(folder + '/ca-cert.pem', mixed)
        must_hold('a client of another authority', is_refused(server, mixed))
        os.remove(mixed + '/client-cert.pem')
        os.remove(mixed + '/client-key.pem')
        must_hold('a client without a certificate', is_refused(server, mixed))
        write(mixed, 'keys.psk', f'{USER}:{KEY[::-1]}\n')
        must_hold('a wrong key', is_refused(server, mixed, psk=True))
        write(mixed, 'keys.psk', f'{USER}:{KEY}\n')
        link_to(server, mixed, psk=True).shutdown()
        raw = Raw(server)
        expect('STARTTLS', raw.ask(OPT_STARTTLS), ACK)
        raw.link.sendall(b'no TLS at all, but plain words' * 100)
        must_hold('closed', raw.is_closed())
        wait_until('none is left', lambda: server.status()['connections'] == 0)


def configuration(folder):
    """What is wrong is told before anything is touched, at a start and at a reload."""
    bad = folder + '-bad'
    shutil.copytree(folder, bad)
    store = os.path.join(folder, 'never')

    def told(*words):
        said = subprocess.run([PROGRAMS[0], '--store', store, '--nbd', '127.0.0.1:0', *words], capture_output=True,
                              text=True, timeout=LIMIT_S, check=False)
        must_hold('it does not start', said.returncode != 0)
        return said.stderr

    must_hold('nothing to prove oneself with', 'name a folder in nbd.tls-certificates' in told('--set', 'nbd.tls=on'))
    must_hold('verify', 'no authority' in told('--set', 'nbd.tls-verify-peer=yes'))
    must_hold('word', 'there are off, on and require' in told('--set', 'nbd.tls=maybe'))
    cases = [(lambda: shutil.copy(folder + '/client-key.pem', bad + '/server-key.pem'), 'is not the key of'),
             (lambda: os.remove(bad + '/server-key.pem'), "the server's private key, cannot be read: No such file"),
             (lambda: write(bad, 'ca-crl.pem', 'rubbish'), 'no list of revoked certificates'),
             (lambda: write(bad, 'server-cert.pem', 'rubbish'), 'no certificate and key (PEM)'),
             (lambda: write(bad, 'ca-cert.pem', ''), 'holds no certificate'),
             (lambda: write(bad, 'keys.psk', '# none\n'), 'has no line USER:KEY'),
             (lambda: write(bad, 'keys.psk', f'{USER}:{KEY}\nbob:xyz\n'), 'line 2: not USER:KEY')]
    for spoil, text in cases:
        shutil.rmtree(bad)
        shutil.copytree(folder, bad)
        spoil()
        said = told(*keys(bad, 'require'))
        must_hold(f'{text}: {said}', text in said)
    must_hold('the store is not made', not os.path.exists(store + '/store'))
    shutil.rmtree(bad)
    shutil.copytree(folder, bad)
    with serving(bad, 'require') as server:
        link = link_to(server, bad)
        os.rename(bad + '/server-key.pem', bad + '/gone')
        generation = server.generation()
        os.kill(server.process.pid, 1)
        status = wait_until('the reload is refused', lambda: server.status()['reload']['failures'] and server.status())
        must_hold('told why', 'server-key.pem' in status['reload']['failure'])
        dry = subprocess.run([PROGRAMS[0], '--qualify', '--store', server.store, '--control', server.control_path,
                              *keys(bad, 'require')], capture_output=True, text=True, timeout=LIMIT_S, check=False)
        must_hold(f'a dry run tells it: {dry.stdout}', dry.returncode == 1 and 'server-key.pem' in dry.stdout
                  and '"certificates"' in dry.stdout)
        expect('engine', status['reload']['generation'], generation)
        link.pwrite(b'a' * 4096, 0)
        server.disturb('kill')
        link.pwrite(b'b' * 4096, 4096)
        must_hold('an alert tells it', any(one['code'] == 'tls_credentials' for one in server.ask('alerts')['alerts']))
        raw = Raw(server)
        expect('STARTTLS', raw.ask(OPT_STARTTLS), ERR_POLICY)
        expect('LIST', raw.ask(OPT_LIST), ERR_TLS_REQD)
        os.rename(bad + '/gone', bad + '/server-key.pem')
        dry = subprocess.run([PROGRAMS[0], '--qualify', '--store', server.store, '--control', server.control_path,
                              *keys(bad, 'require')], capture_output=True, text=True, timeout=LIMIT_S, check=False)
        must_hold(f'it would do now: {dry.stdout}', dry.returncode == 0)
        server.disturb('reload')
        expect('what was written', bytes(link.pread(8192, 0)), b'a' * 4096 + b'b' * 4096)
        link_to(server, bad).shutdown()
        link.shutdown()


def half_handshake(server, folder):
    """The client's first flight is sent and answered; what it says next."""
    half = Raw(server)
    expect('STARTTLS', half.ask(OPT_STARTTLS), ACK)
    coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context(cafile=folder + '/ca-cert.pem')
    client = context.wrap_bio(coming, going, server_hostname='localhost')
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    half.link.sendall(going.read())
    done = False
    while not done:
        coming.write(half.link.recv(65536))
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
            done = True
    client.write(Raw.option(OPT_LIST))
    return half, client, coming, going.read()


def reload_waits(folder):
    """For a handshake that goes on. A machine that stands still for a second has more than one try."""
    with serving(folder, 'require') as server:
        for _ in range(5):
            half, client, coming, rest = half_handshake(server, folder)
            generation = server.generation()
            os.kill(server.process.pid, 1)
            time.sleep(0.3)  # many times what a reload takes: without a wait it is over
            with contextlib.suppress(OSError):
                half.link.sendall(rest)
                server.wait_generation(generation)
                coming.write(half.link.recv(65536))
                expect('an answer', client.read(8), struct.pack('>Q', 0x3e889045565a9))
                return
        raise AssertionError('no handshake outlived a reload')


def in_the_middle(folder):
    """A handshake: a reload waits for it, but not for ever; a death ends it, unless it has not begun."""
    with serving(folder, 'require') as server:
        early = Raw(server)
        expect('STARTTLS', early.ask(OPT_STARTTLS), ACK)
        server.disturb('kill')
        early.secure(folder)
        expect('over TLS', early.ask(OPT_STRUCTURED), ACK)
        for kind in ('kill', 'reload'):
            half = half_handshake(server, folder)[0]
            server.disturb(kind)
            must_hold('closed', half.is_closed())
            must_hold('and told', 'in the middle of their TLS handshake' in server.log())
            expect('over TLS', early.ask(OPT_STRUCTURED), ACK)


def dumps(folder):
    """Shared memory, where clients' data and keys lie, is in no core dump."""
    with serving(folder, 'on') as server:
        pid = server.engine_pid() if hasattr(server, 'engine_pid') else newest_engine(server)
        with open(f'/proc/{pid}/smaps', encoding='utf-8') as file:
            parts = file.read().split('/memfd:perdure-arena')
        must_hold('the arena is mapped', len(parts) > 1)
        for part in parts[1:]:
            flags = next(line for line in part.splitlines() if line.startswith('VmFlags:'))
            must_hold(f'not dumped: {flags}', 'dd' in flags.split())
        with open(f'/proc/{pid}/coredump_filter', encoding='utf-8') as file:
            expect('kinds of shared memory that are dumped', int(file.read(), 16) & 0x4a, 0)


def newest_engine(server):
    from perdure import children_of
    for pid in children_of(server.process.pid):
        with contextlib.suppress(OSError), open(f'/proc/{pid}/comm', encoding='utf-8') as file:
            if file.read().strip() == 'perdure-engine':
                return pid
    raise AssertionError('no engine')


class Memory:
    """A client whose records can be changed on their way."""

    def __init__(self, server, folder, version):
        self.raw = Raw(server)
        expect('STARTTLS', self.raw.ask(OPT_STARTTLS), ACK)
        self.coming, self.going = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cafile=folder + '/ca-cert.pem')
        context.minimum_version = context.maximum_version = version
        self.tls = context.wrap_bio(self.coming, self.going, server_hostname='localhost')
        self.until(self.tls.do_handshake)
        self.tls.write(Raw.option(OPT_GO, struct.pack('>I', 4) + b'disk\0\0'))
        while self.read(20)[12:16] != struct.pack('>I', ACK):
            self.read({0: 12, 3: 14}[self.read(2)[1]] - 2)

    def until(self, call, *args):
        while True:
            try:
                return call(*args)
            except ssl.SSLWantReadError:
                self.raw.link.sendall(self.going.read())
                part = self.raw.link.recv(65536)
                if not part:
                    raise ConnectionResetError('closed') from None
                self.coming.write(part)

    def read(self, count):
        got = b''
        while len(got) < count:
            got += self.until(self.tls.read, count - len(got))
        return got

    def write_records(self, block):
        self.tls.write(struct.pack('>IHHQQI', 0x25609513, 0, 1, 1, 0, len(block)) + block)
        return bytearray(self.going.read())


def damaged(folder):
    """A record that was changed on its way ends its connection, and nothing of it counts; nobody else notices."""
    good, bad = b'good' * 1024, b'evil' * 1024
    with serving(folder, 'require', 'shadow=1') as server:
        other = link_to(server, folder)
        other.pwrite(good, 0)
        cases = [lambda b, at=at: b.__setitem__(at, b[at] ^ 1) for at in (0, 3, 5, 13, 40, 2000, 4000, -1)]
        cases += [lambda b: b.__setitem__(slice(3, 5), b'\xff\xff'), lambda b: b.__setitem__(slice(0, 0), os.urandom(99)),
                  lambda b: b.__setitem__(slice(0, 0), b'\x17\3\3\0\x13' + bytes(19)),
                  lambda b: b.__setitem__(slice(0, 0), b'\x15\3\3\0\2\1\0')]
        for version in ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2:
            for number, spoil in enumerate(cases):
                client = Memory(server, folder, version)
                records = client.write_records(bad)
                spoil(records)
                client.raw.link.sendall(records)
                if number == 1:  # it is longer now, and its end does not come
                    client.raw.link.shutdown(socket.SHUT_WR)
                must_hold('closed', client.raw.is_closed())
                expect(f'the block after case {number}', bytes(other.pread(4096, 0)), good)
            client = Memory(server, folder, version)
            client.raw.link.sendall(client.write_records(good))
            expect('the answer', client.read(4), b'\x67\x44\x66\x98')
            client.raw.link.close()
        other.shutdown()
        must_hold('no broken invariant', 'broken invariant' not in server.log())
        wait_until('no connection is left', lambda: server.status()['connections'] == 0)


def crowded(folder):
    """Far more requests at once than are taken: records wait, and are delivered in parts, over deaths too."""
    count, blocks = 6000, 512
    with serving(folder, 'require', 'shadow=1') as server:
        link = link_to(server, folder)
        link.pwrite(b''.join(n.to_bytes(4, 'big') * 1024 for n in range(blocks)), 0)
        link.shutdown()
        for version in ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2:
            client = Memory(server, folder, version)
            client.tls.write(b''.join(struct.pack('>IHHQQI', 0x25609513, 0, 0, n, n % blocks * 4096, 4096)
                                      for n in range(count)))
            sender = threading.Thread(target=client.raw.link.sendall, args=(client.going.read(),))
            sender.start()
            sender.join(1)  # nothing is read meanwhile; what is proven does not depend on how long that is
            left = set(range(count))
            while left:
                if len(left) % 1500 == 0:
                    server.disturb('kill' if len(left) % 3000 == 0 else 'reload')
                magic, error, cookie = struct.unpack('>IIQ', client.read(16))
                expect('reply', (magic, error), (0x67446698, 0))
                left.remove(cookie)
                expect(f'block of request {cookie}', client.read(4096), (cookie % blocks).to_bytes(4, 'big') * 1024)
            sender.join(LIMIT_S)
            client.raw.link.close()


def storm(folder, kind, connections, priority, rounds, *more):
    with Server(PROGRAMS, *keys(folder, 'require'), *more) as server:
        model = os.path.join(server.dir, 'model')
        server.cli('volume', 'create', 'storm', '--size', 256 * MIB, '--block-size', 512)
        tls = ['--priority', priority, '--tls', folder]
        share = ['--share', 40, '--size', connections // 40 * MIB] if connections >= MANY else []
        with Client(STORM, server, '--connections', connections, '--rate', 6000, '--to', model, '--rough',
                    *tls, *share) as client:
            for number in range(rounds):
                time.sleep(0.1)
                this = kind if kind != 'both' else ('kill', 'reload')[number % 2]
                status = server.disturb(this, client.tell)
                expect('how the engine began', status['reload']['kind'], {'kill': 'uninvited', 'reload': 'planned'}[this])
            outlived = {one['reloads'] for one in server.ask('connections')['connections']}
            expect('engines that each connection has outlived', outlived, {rounds})
            version = '1.2' if 'TLS1.2' in priority else '1.3'
            expect('TLS', {one['tls'] for one in server.ask('connections')['connections']}, {version})
            told = client.finish()
        must_hold('there was work', told['replies'] > connections)
        must_hold('no broken invariant', 'broken invariant' not in server.log())
        wait_until('no connection is left', lambda: server.status()['connections'] == 0)
        run(STORM, *tls, '--verify', '--connections', 4, '--from', model, server.port, 'storm')
        return f'{told["replies"]} replies'


def main():
    tap = Tap()
    with tempfile.TemporaryDirectory(prefix='perdure-tls-') as scratch:
        folder = authority(os.path.join(scratch, 'pki'))
        for name, case in (('clients of four makers, x509 and PSK', everybody), ('off, on, require', policies),
                           ('nothing said in plain counts', nothing_is_kept), ('strangers', strangers),
                           ('what is wrong is told in time', configuration),
                           ('engines go in the middle of a handshake', in_the_middle), ('a reload waits for a handshake', reload_waits), ('core dumps', dumps),
                           ('records that are changed on their way', damaged),
                           ('more requests at once than are taken', crowded)):
            tap.case(name, case, folder)
        certify(folder, 'server', SERVER)
        many = [('both', MANY, 'NORMAL')] if os.environ.get('PERDURE_MANY') == '1' else []
        for kind, connections, priority in (
                *many, ('both', 1, 'NORMAL'), ('both', 100, 'NORMAL'), ('both', 1000, 'NORMAL'), ('reload', 300, 'NORMAL'), ('kill', 300, 'NORMAL'),
                ('both', 40, 'NORMAL:-CIPHER-ALL:+AES-128-GCM'), ('both', 40, 'NORMAL:-CIPHER-ALL:+CHACHA20-POLY1305'),
                ('both', 40, 'NORMAL:-VERS-ALL:+VERS-TLS1.2'),
                ('both', 40, 'NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+CHACHA20-POLY1305')):
            tap.case(f'{ROUNDS} times {kind}, {connections} connections, {priority}', storm, folder, kind, connections,
                     priority, ROUNDS)
        tap.case(f'{ROUNDS} times both, 400 connections, few buffers', storm, folder, 'both', 400, 'NORMAL', ROUNDS,
                 '--set', 'buffers=80M', '--set', 'requests=256', '--set', 'shadow=1')
    tap.end()


if __name__ == '__main__':
    main()
