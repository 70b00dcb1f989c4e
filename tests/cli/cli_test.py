# SPDX-License-Identifier: Apache-2.0
"""The command line against a scripted server: requests sent, output, exit codes.

usage: cli_test.py PERDURE REFERENCE
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import unittest

sys.dont_write_bytecode = True
from fake_server import SILENCE, FakeServer, Refusal

PERDURE, REFERENCE = sys.argv[1:3]

# Central Europe, written out: the test needs no zone files.
ZONE = "CET-1CEST,M3.5.0,M10.5.0/3"


def moment(sequence, time):
    return {"sequence": sequence, "time": time}


def wider(text, width, was, at, more):
    """A table of two columns with a wider first one, as more rows, behind the first `at`, make it."""
    lines = [line[:was].ljust(width) + line[was:] if line[was - 1:was] == " " else line
             for line in text.splitlines(keepends=True)]
    return "".join(lines[:at]) + more + "".join(lines[at:])


VOLUME = {
    "name": "demo", "size_bytes": 10 << 30, "block_size_bytes": 4096, "durability": "flush",
    "state": "serving", "reason": None, "created_at": "2026-11-22T16:00:00Z", "deleted_at": None,
    "clients": 2, "images": 1,
    "oldest": moment(1, "2026-11-22T16:00:00.000000001Z"),
    "newest": moment(4711, "2026-11-22T16:30:00.25Z"),
    "addresses": ["nbd://127.0.0.1:10809/demo", "nbd+unix:///demo?socket=run/nbd.sock"],
}

VOLUME_TEXT = """\
volume       demo
size         10 GiB
block size   4 KiB
durable at   flush
state        serving
clients      2
open images  1
oldest       2026-11-22 17:00:00.000 +01:00 (seq:1)
newest       2026-11-22 17:30:00.250 +01:00 (seq:4711)
created      2026-11-22 17:00:00 +01:00
address      nbd://127.0.0.1:10809/demo
             nbd+unix:///demo?socket=run/nbd.sock
"""

IMAGE = {
    "name": "check", "at": moment(99, "2026-07-01T10:00:00.5Z"), "writable": True,
    "opened_at": "2026-11-22T16:00:00Z", "lease_ends_at": "2026-11-22T18:00:00Z",
    "disks": [
        {"volume": "db", "size_bytes": 1 << 40, "export": "db.check", "clients": 1,
         "addresses": ["nbd://127.0.0.1:10809/db.check"]},
        {"volume": "logs", "size_bytes": 512 << 20, "export": "logs.check", "clients": 0,
         "addresses": ["nbd://127.0.0.1:10809/logs.check"]},
    ],
}

HISTORY = {"volume": "demo", "from": "2026-11-22T15:00:00Z", "to": "2026-11-22T16:00:00Z", "step_ns": 60 * 10**9,
           "kept_since": "2026-11-22T15:00:01Z", "next": None, "steps": [], "marks": [], "clock_jumps": []}
STEP = {"first_sequence": 3, "last_sequence": 5, "clean_sequence": 4, "writes": 3, "write_bytes": 12288, "recorded_bytes": 12288,
        "overwritten_bytes": 4096, "reread_bytes": 0, "trims": 1, "trim_bytes": 4096, "zeroes": 1,
        "zero_bytes": 8192, "flushes": 0, "sampled_bytes": 4096, "packed_bytes": 1024}

PAUSES = {"since": "2026-11-22T15:00:00Z", "longest_ns": 120 * 10**9, "closed": 1,
          "planned": {"count": 3, "half_below_ns": 1000000, "p99_below_ns": 4000000},
          "uninvited": {"count": 1, "half_below_ns": None, "p99_below_ns": None},
          "steps": [{"below_ns": 1000000, "planned": 2, "uninvited": 0},
                    {"below_ns": 4000000, "planned": 1, "uninvited": 0},
                    {"below_ns": None, "planned": 0, "uninvited": 1}],
          "last": [{"at": "2026-11-22T15:30:00.25Z", "generation": 3, "kind": "uninvited", "pause_ns": 120 * 10**9,
                    "kept": 10, "closed": 1}]}

RESTORED = {
    "dry_run": False, "destructive": False, "to": moment(50, "2026-11-22T16:00:00Z"),
    "before": moment(99, "2026-11-22T16:10:00Z"),
    "volumes": [
        {"volume": "db", "offset_bytes": 1 << 30, "length_bytes": 64 << 20, "clients": 1},
        {"volume": "logs", "offset_bytes": 1 << 30, "length_bytes": 64 << 20, "clients": 0},
    ],
}

RELOAD = {"generation": 3, "kind": "planned", "at": "2026-11-22T16:00:00Z", "pause_ns": 1830000,
          "failures": 0, "failure": None, "reason": None, "death": "the engine died of signal 6 (Aborted)",
          "poison": "192.0.2.7:40000",
          "converted": [{"kind": "table", "number": 1, "name": "conn", "from": 1, "to": 2},
                        {"kind": "region", "number": 4, "name": None, "from": 0, "to": 1}]}

STATUS = {
    "version": "0.1.0", "state": "serving", "pid": 42, "started_at": "2026-11-22T15:00:00Z",
    "platform": "linux", "disks": "io_uring",
    "reload": RELOAD,
    "store": {"path": "/srv/store", "size_bytes": 1 << 40, "free_bytes": 512 << 30,
              "used_bytes": 511 << 30, "reserve_bytes": 1 << 30,
              "newest": moment(4711, "2026-11-22T16:30:00.25Z"), "durable_sequence": 4700, "recorded_bytes_per_day": 24 << 30,
              "free_lasts_ns": 21 * 86400 * 10**9},
    "arena": {"size_bytes": 1 << 30, "used_bytes": 300 << 20, "huge_bytes": 0},
    "index": {"runs": 27, "unmerged": 3, "merged": 3, "cache_bytes": 5 << 20},
    "listeners": [{"protocol": "nbd", "address": "127.0.0.1:10809"},
                  {"protocol": "control", "address": "/srv/store/control.sock"}],
    "cleaning": {"running": False, "passes": 2, "segments_freed": 20, "segments_made": 1, "moved_bytes": 2 << 20},
    "volumes": 3, "images": 1, "connections": 17, "alerts": 0,
}

STATUS_TEXT = """\
server         serving, version 0.1.0, process 42
started        2026-11-22 16:00:00 +01:00
platform       linux, disks by io_uring
engine         number 3, since 2026-11-22 17:00:00 +01:00, start planned, pause 1.83 ms
before         the engine died of signal 6 (Aborted)
poison from    192.0.2.7:40000
converted      table conn, version 1 to 2
               region 4, version 0 to 1
store          /srv/store
space          511 GiB used, 512 GiB free of 1 TiB, 1 GiB held in reserve
recorded       24 GiB a day; the free room lasts 21 d
given up       20 segments freed, 1 made, 2 MiB moved in 2 cleanings
newest         2026-11-22 17:30:00.250 +01:00 (seq:4711)
durable up to  4700
arena          300 MiB used of 1 GiB, 0 B in huge pages
index          27 runs, 3 of them not merged; 5 MiB in memory
listens        nbd on 127.0.0.1:10809
               control on /srv/store/control.sock
volumes        3
open images    1
connections    17
alerts         0
"""

CONNECTION = {
    "id": 7, "protocol": "nbd", "transport": "tcp", "peer": "127.0.0.1:51234",
    "state": "serving", "export": "demo", "connected_at": "2026-11-22T16:00:00Z",
    "tls": "1.3", "preserved": True, "reloads": 12, "in_flight": 32, "requests": 1000,
    "read_bytes": 4096, "written_bytes": 10 << 20,
}

# words, operation, arguments sent, result, output (None: shown by another row)
SCRUB = {"running": False, "files": 7, "of_files": 8, "bytes": 448 << 20, "damaged_files": 0, "mended_files": 0,
         "began_at": None, "ended_at": "2026-11-22T16:00:00Z"}

ROWS = [
    ("volume create demo --size 10G", "volume.create",
     {"name": "demo", "size_bytes": 10 << 30}, VOLUME, VOLUME_TEXT),
    ("volume create --size=1.5T db --block-size 512 --durability write", "volume.create",
     {"name": "db", "size_bytes": 3 << 39, "block_size_bytes": 512, "durability": "write"},
     VOLUME, None),
    ("volume list", "volume.list", {}, {"volumes": []},
     "no volumes; make one: perdure volume create NAME --size 10G\n"),
    ("volume list", "volume.list", {},
     {"volumes": [VOLUME, dict(VOLUME, name="db-of-\u00e9toile", size_bytes=512, clients=100,
                               state="deleted")]},
     "NAME            SIZE  BLOCK  STATE    CLIENTS  IMAGES  OLDEST\n"
     "demo          10 GiB   4096  serving        2       1  2026-11-22 17:00:00 +01:00\n"
     "db-of-\u00e9toile   512 B   4096  deleted      100       1"
     "  2026-11-22 17:00:00 +01:00\n"),
    ("volume show demo", "volume.show", {"name": "demo"}, VOLUME, VOLUME_TEXT),
    ("volume show demo", "volume.show", {"name": "demo"},
     {"name": "demo", "state": "refused", "reason": "writes were lost", "oldest": None},
     "volume       demo\nsize         -\nblock size   -\ndurable at   -\nstate        refused\n"
     "reason       writes were lost\nclients      -\nopen images  -\n"
     "oldest       -\nnewest       -\ncreated      -\n\n"
     "it is served again after: perdure volume accept-loss demo\n"),
    ("volume set demo --durability write", "volume.set",
     {"name": "demo", "durability": "write"}, VOLUME, VOLUME_TEXT),
    ("volume set demo --retain 7d --retain-bytes 200G", "volume.set",
     {"name": "demo", "retain_ns": 7 * 86400 * 10**9, "retain_bytes": 200 << 30},
     dict(VOLUME, retain_ns=7 * 86400 * 10**9, retain_bytes=200 << 30),
     wider(VOLUME_TEXT, 17, 13, 4, "retains          7 d\nretains at most  200 GiB\n")),
    ("volume set demo --thin-after 1d:1m,7d:1h", "volume.set",
     {"name": "demo", "thin_after": "1d:1m,7d:1h"},
     dict(VOLUME, thin_after="1d:1m,7d:1h"),
     VOLUME_TEXT.replace("state ", "thins after  1d:1m,7d:1h\nstate ")),
    ("volume resize demo 20G", "volume.resize", {"name": "demo", "size_bytes": 20 << 30},
     VOLUME, VOLUME_TEXT),
    ("volume resize demo 5G --force", "volume.resize",
     {"name": "demo", "size_bytes": 5 << 30, "force": True}, VOLUME, VOLUME_TEXT),
    ("volume delete demo", "volume.delete", {"name": "demo"},
     {"name": "demo", "deleted_at": "2026-11-22T16:00:00Z", "now": False, "freed_bytes": 0},
     "demo is in the trash; perdure volume undelete demo takes it out again, perdure volume delete demo --now gives "
     "its space back\n"),
    ("volume delete demo --now --force", "volume.delete",
     {"name": "demo", "now": True, "force": True},
     {"name": "demo", "deleted_at": "2026-11-22T16:00:00Z", "now": True,
      "freed_bytes": 5 << 30},
     "demo is deleted; 5 GiB given back\n"),
    ("volume undelete demo", "volume.undelete", {"name": "demo"}, VOLUME, VOLUME_TEXT),
    ("volume accept-loss demo", "volume.accept-loss", {"name": "demo"}, VOLUME, VOLUME_TEXT),
    ("image open db logs --at -5min --name check --writable --for 2h", "image.open",
     {"volumes": ["db", "logs"], "at": "-5min", "name": "check", "writable": True,
      "lease_ns": 7200 * 10**9}, IMAGE,
     "image   check\n"
     "moment  2026-07-01 12:00:00.500 +02:00 (seq:99)\n"
     "access  writable\n"
     "closes  2026-11-22 19:00:00 +01:00\n"
     "db      nbd://127.0.0.1:10809/db.check\n"
     "logs    nbd://127.0.0.1:10809/logs.check\n"),
    ("image open demo --at before-upgrade", "image.open",
     {"volumes": ["demo"], "at": "before-upgrade"},
     dict(IMAGE, writable=False, lease_ends_at=None, disks=IMAGE["disks"][:1]),
     "image   check\n"
     "moment  2026-07-01 12:00:00.500 +02:00 (seq:99)\n"
     "access  read-only\n"
     "closes  when told\n"
     "db      nbd://127.0.0.1:10809/db.check\n"),
    ("image open demo --at before-upgrade --exact", "image.open",
     {"volumes": ["demo"], "at": "before-upgrade", "exact": True},
     dict(IMAGE, exact=False, writable=False, lease_ends_at=None, disks=IMAGE["disks"][:1]),
     "image   check\n"
     "moment  2026-07-01 12:00:00.500 +02:00 (seq:99)\n"
     "access  read-only\n"
     "closes  when told\n"
     "db      nbd://127.0.0.1:10809/db.check\n"
     "not every moment of that time is kept: this is the one before it\n"),
    ("image list", "image.list", {}, {"images": []}, "no open images\n"),
    ("image list", "image.list", {}, {"images": [IMAGE]},
     "IMAGE  EXPORT         SIZE  MOMENT                          ACCESS    CLIENTS  CLOSES\n"
     "check  db.check      1 TiB  2026-07-01 12:00:00.500 +02:00  writable        1"
     "  2026-11-22 19:00:00 +01:00\n"
     "check  logs.check  512 MiB  2026-07-01 12:00:00.500 +02:00  writable        0"
     "  2026-11-22 19:00:00 +01:00\n"),
    ("image close check", "image.close", {"name": "check"},
     {"name": "check", "closed_at": "2026-11-22T16:00:00Z"}, "check is closed\n"),
    ("image close check --force", "image.close", {"name": "check", "force": True},
     {"name": "check", "closed_at": "2026-11-22T16:00:00Z"}, "check is closed\n"),
    ("image promote check demo-fixed", "image.promote",
     {"name": "check", "volume": "demo-fixed"}, VOLUME, VOLUME_TEXT),
    ("restore db logs --at seq:50 --range 1G:64M --force", "restore",
     {"volumes": ["db", "logs"], "at": "seq:50", "force": True,
      "range": {"offset_bytes": 1 << 30, "length_bytes": 64 << 20}}, RESTORED,
     "db, logs went back to 2026-11-22 17:00:00.000 +01:00 (seq:50)\n"
     "VOLUME      OFFSET  LENGTH  CLIENTS\n"
     "db      1073741824  64 MiB        1\n"
     "logs    1073741824  64 MiB        0\n"
     "undo it with: perdure restore db logs --at seq:99 --range 1073741824:67108864\n"),
    ("restore demo --at now --dry-run", "restore",
     {"volumes": ["demo"], "at": "now", "dry_run": True},
     dict(RESTORED, dry_run=True, volumes=[dict(RESTORED["volumes"][0], volume="demo")]),
     "demo would go back to 2026-11-22 17:00:00.000 +01:00 (seq:50)\n"
     "VOLUME      OFFSET  LENGTH  CLIENTS\n"
     "demo    1073741824  64 MiB        1\n"
     "nothing was changed\n"),
    ("restore demo --at seq:50 --destructive", "restore", {"volumes": ["demo"], "at": "seq:50", "destructive": True},
     dict(RESTORED, destructive=True, before=None, volumes=[dict(RESTORED["volumes"][0], volume="demo")]),
     "demo went back to 2026-11-22 17:00:00.000 +01:00 (seq:50)\n"
     "VOLUME      OFFSET  LENGTH  CLIENTS\n"
     "demo    1073741824  64 MiB        1\n"
     "what came after that moment is given up\n"),
    ("restore demo --at now --destructive --dry-run", "restore",
     {"volumes": ["demo"], "at": "now", "destructive": True, "dry_run": True},
     dict(RESTORED, dry_run=True, destructive=True, before=None,
          volumes=[dict(RESTORED["volumes"][0], volume="demo")]),
     "demo would go back to 2026-11-22 17:00:00.000 +01:00 (seq:50)\n"
     "VOLUME      OFFSET  LENGTH  CLIENTS\n"
     "demo    1073741824  64 MiB        1\n"
     "what came after that moment would be given up, and nothing would undo it\nnothing was changed\n"),
    ("mark db logs --label nightly", "mark.create", {"volumes": ["db", "logs"],
                                                     "label": "nightly"},
     {"label": "nightly", "volumes": ["db", "logs"], "at": moment(5, "2026-11-22T16:00:00Z")},
     "nightly of db, logs is 2026-11-22 17:00:00.000 +01:00 (seq:5)\n"),
    ("mark create list --label nightly", "mark.create", {"volumes": ["list"],
                                                         "label": "nightly"},
     {"label": "nightly", "volumes": ["list"], "at": moment(5, "2026-11-22T16:00:00Z")},
     "nightly of list is 2026-11-22 17:00:00.000 +01:00 (seq:5)\n"),
    ("mark --label nightly -- list", "mark.create", {"volumes": ["list"], "label": "nightly"},
     {"label": "nightly", "volumes": ["list"], "at": moment(5, "2026-11-22T16:00:00Z")}, None),
    ("mark list", "mark.list", {}, {"marks": []}, "no marks\n"),
    ("mark list demo", "mark.list", {"name": "demo"},
     {"marks": [{"volume": "demo", "label": "before-upgrade",
                 "at": moment(5, "2026-11-22T16:00:00.123456789Z"), "hold": True,
                 "created_at": "2026-11-22T16:00:00Z"}]},
     "VOLUME  LABEL           MOMENT                          SEQUENCE  HELD\n"
     "demo    before-upgrade  2026-11-22 17:00:00.123 +01:00         5  yes\n"),
    ("pins", "pins", {}, {"pins": []}, "nothing but what volumes retain\n"),
    ("pins demo", "pins", {"name": "demo"},
     {"pins": [{"volume": "demo", "kind": "mark", "name": "before-upgrade", "at": moment(5, "2026-11-22T16:00:00Z"),
                "until": None, "is_older_than_retained": True},
               {"volume": "demo", "kind": "image", "name": "check", "at": moment(9, "2026-11-22T16:00:00Z"),
                "until": "2026-11-22T18:00:00Z", "is_older_than_retained": False},
               {"volume": "demo", "kind": "range", "name": None, "at": moment(11, None),
                "until": None, "is_older_than_retained": False}]},
     "VOLUME  KEPT BY  NAME            MOMENT                          SEQUENCE  UNTIL                       OLDER THAN RETAINED\n"
     "demo    mark     before-upgrade  2026-11-22 17:00:00.000 +01:00         5  -                           yes\n"
     "demo    image    check           2026-11-22 17:00:00.000 +01:00         9  2026-11-22 19:00:00 +01:00\n"
     "demo    range    -               -                                     11  -\n"),
    ("mark delete db logs --label nightly", "mark.delete",
     {"volumes": ["db", "logs"], "label": "nightly"},
     {"label": "nightly", "volumes": ["db", "logs"]}, "nightly of db, logs is forgotten\n"),
    ("diff demo --from seq:5 --to now", "diff", {"name": "demo", "from": "seq:5", "to": "now"},
     {"volume": "demo", "from": moment(5, "2026-11-22T16:00:00Z"), "to": moment(9, "2026-11-22T16:00:01Z"),
      "next": None, "ranges": [{"offset_bytes": 4096, "length_bytes": 8192},
                               {"offset_bytes": 1 << 20, "length_bytes": 4096}]},
     "12 KiB of demo written from 2026-11-22 17:00:00.000 +01:00 (seq:5) to "
     "2026-11-22 17:00:01.000 +01:00 (seq:9)\n"
     " OFFSET  LENGTH\n   4096    8192\n1048576    4096\n"),
    ("when demo --range 4K:8K --from seq:5", "when",
     {"name": "demo", "from": "seq:5", "range": {"offset_bytes": 4096, "length_bytes": 8192}},
     {"volume": "demo", "from": moment(5, "2026-11-22T16:00:00Z"), "to": moment(9, "2026-11-22T16:00:01Z"), "older": None,
      "every_write_since": moment(8, "2026-11-22T16:00:01Z"),
      "writes": [{"at": moment(9, "2026-11-22T16:00:01Z"), "kind": "trim", "offset_bytes": 0, "length_bytes": 8192,
                  "ends_request": True, "connection": 65537, "restored_from": None},
                 {"at": moment(8, "2026-11-22T16:00:01Z"), "kind": "restore", "offset_bytes": 0, "length_bytes": 4096,
                  "ends_request": True, "connection": None, "restored_from": 3},
                 {"at": moment(7, None), "kind": None, "offset_bytes": None, "length_bytes": None,
                  "ends_request": None, "connection": None, "restored_from": None}]},
     "MOMENT                             SEQUENCE  WHAT              OFFSET  LENGTH  CONNECTION\n"
     "2026-11-22 17:00:01.000000 +01:00         9  trim                   0    8192       65537\n"
     "2026-11-22 17:00:01.000000 +01:00         8  restore of seq:3       0    4096           -\n"
     "-                                         7  -                      -       -           -\n"
     "up to 2026-11-22 17:00:01.000 +01:00 (seq:8) history was thinned: writes may be missing\n"),
    ("when demo", "when", {"name": "demo"},
     {"volume": "demo", "from": moment(5, "2026-11-22T16:00:00Z"), "to": moment(9, "2026-11-22T16:00:01Z"),
      "older": None, "writes": []},
     "nothing is known to have been written from 2026-11-22 17:00:00.000 +01:00 (seq:5) to "
     "2026-11-22 17:00:01.000 +01:00 (seq:9)\n"),
    ("history demo --from -1h --step 1m", "history", {"name": "demo", "from": "-1h", "step_ns": 60 * 10**9},
     dict(HISTORY, steps=[
         dict(STEP, time="2026-11-22T15:00:00Z"),
         dict(STEP, time="2026-11-22T15:02:00Z", writes=0, write_bytes=0, recorded_bytes=0, overwritten_bytes=0,
              reread_bytes=0, sampled_bytes=0, packed_bytes=0, last_sequence=None, clean_sequence=None, flushes=3)],
         marks=[{"label": "nightly", "at": moment(7, "2026-11-22T15:01:00Z")}],
         clock_jumps=[{"from": "2026-11-22T14:00:00Z", "to": "2026-11-22T15:03:00Z"}]),
     "12 KiB written to demo from 2026-11-22 16:00:00 +01:00 to 2026-11-22 17:00:00 +01:00, by 1 min\n"
     "such steps are kept since 2026-11-22 16:00:01 +01:00; a longer --step goes further back\n"
     "TIME                        WRITES  WRITTEN   OVER  REREAD  TRIMMED  ZEROED  FLUSHES   LZ4  NEWEST  CLEAN\n"
     "2026-11-22 16:00:00 +01:00       3   12 KiB  4 KiB     0 B    4 KiB   8 KiB        0  25 %       5      4\n"
     "2026-11-22 16:02:00 +01:00       0      0 B    0 B     0 B    4 KiB   8 KiB        3     -       -      -\n"
     "mark nightly: 2026-11-22 16:01:00.000 +01:00 (seq:7)\n"
     "the clock was set from 2026-11-22 15:00:00 +01:00 to 2026-11-22 16:03:00 +01:00\n"),
    ("history demo", "history", {"name": "demo"}, dict(HISTORY, kept_since="2026-11-22T15:00:00Z"),
     "0 B written to demo from 2026-11-22 16:00:00 +01:00 to 2026-11-22 17:00:00 +01:00, by 1 min\n"),
    ("pauses", "pauses", {}, PAUSES,
     "since 2026-11-22 16:00:00 +01:00, longest 2 min, 1 connections closed\n"
     "planned: 3, half of them below 1 ms, 99 of 100 below 4 ms\n"
     "uninvited: 1, half of them below -, 99 of 100 below -\n"
     "BELOW  PLANNED  UNINVITED\n 1 ms        2          0\n 4 ms        1          0\n    -        0          1\n"
     "AT                              ENGINE  KIND       PAUSE  KEPT  CLOSED\n"
     "2026-11-22 16:30:00.250 +01:00       3  uninvited  2 min    10       1\n"),
    ("pauses", "pauses", {},
     dict(PAUSES, planned={"count": 0, "half_below_ns": None, "p99_below_ns": None},
          uninvited={"count": 0, "half_below_ns": None, "p99_below_ns": None}, steps=[], last=[]),
     "no pause since 2026-11-22 16:00:00 +01:00\n"),
    ("diff demo --from seq:9 --to seq:9", "diff", {"name": "demo", "from": "seq:9", "to": "seq:9"},
     {"volume": "demo", "from": moment(9, "2026-11-22T16:00:01Z"), "to": moment(9, "2026-11-22T16:00:01Z"),
      "next": None, "ranges": []},
     "0 B of demo written from 2026-11-22 17:00:01.000 +01:00 (seq:9) to "
     "2026-11-22 17:00:01.000 +01:00 (seq:9)\n"),
    ("status", "status", {}, STATUS, STATUS_TEXT),
    ("connections", "connections", {}, {"next": None, "connections": []}, "no connections\n"),
    ("connections --after 7", "connections", {"after": 7}, {"next": None, "connections": []}, None),
    ("connections", "connections", {}, {"next": None, "connections": [CONNECTION]},
     "ID  PEER             EXPORT  STATE    REQUESTS  UNDER WAY   READ  WRITTEN  RELOADS  SINCE\n"
     " 7  127.0.0.1:51234  demo    serving      1000         32  4 KiB   10 MiB       12"
     "  2026-11-22 17:00:00 +01:00\n"),
    ("clean", "clean", {}, {}, "a cleaning begins; status tells what comes of it\n"),
    ("scrub show", "scrub.show", {}, SCRUB,
     "under way since  -\nlast whole pass  2026-11-22 17:00:00 +01:00\nlooked at        7 of 8 files, 448 MiB\n"
     "damaged files    0\nfiles that mend  0\n"),
    ("scrub start", "scrub.start", {}, dict(SCRUB, running=True, began_at="2026-11-22T16:00:00Z", ended_at=None,
                                            damaged_files=1),
     "under way since  2026-11-22 17:00:00 +01:00\nlast whole pass  -\nlooked at        7 of 8 files, 448 MiB\n"
     "damaged files    1\nfiles that mend  0\nperdure alerts tells what is wrong\n"),
    ("scrub stop", "scrub.stop", {}, SCRUB, None),
    ("clock confirm", "clock.confirm", {}, {"was_suspect": True, "time": "2026-11-22T16:00:00Z"},
     "it is 2026-11-22 17:00:00 +01:00; history is as old as that says\n"),
    ("clock confirm", "clock.confirm", {}, {"was_suspect": False, "time": "2026-11-22T16:00:00Z"},
     "it is 2026-11-22 17:00:00 +01:00, and nobody doubted it\n"),
    ("alerts", "alerts", {}, {"alerts": []}, "no alerts\n"),
    ("alerts", "alerts", {},
     {"alerts": [{"level": "warning", "code": "log_write_failed", "subject": "demo",
                  "text": "evil \u001b[2J text", "raised_at": "2026-11-22T16:00:00Z"}]},
     "LEVEL    SINCE                       SUBJECT  ALERT\n"
     "warning  2026-11-22 17:00:00 +01:00  demo     evil ?[2J text\n"),
    ("trace", "trace", {}, {"points": []}, "TIME  EVENT  DETAIL\n"),
    ("trace --deaths-ago 2", "trace", {"deaths_ago": "2"},
     {"points": [{"time": "2026-11-22T16:00:00.123456789Z", "event": "turn",
                  "detail": "number 7, events 1"}]},
     "TIME                               EVENT  DETAIL\n"
     "2026-11-22 17:00:00.123456 +01:00  turn   number 7, events 1\n"),
]

# words, exit code, part of the message: nothing is sent
USAGE = [
    ("", 2, "usage: perdure"),
    ("frobnicate", 2, 'there is no command "frobnicate"'),
    ("volum list", 2, "perhaps perdure volume is meant"),
    ("volume", 2, "volume needs a verb"),
    ("volume lits", 2, "perhaps perdure volume list is meant"),
    ("volume create", 2, "volume create needs NAME"),
    ("volume create demo", 2, "volume create needs --size SIZE"),
    ("volume create demo --size", 2, "--size needs a value"),
    ("volume create demo --size 10GB", 2, "powers of 1024"),
    ("volume create demo --size 10X", 2, "  10X\n    ^\n"),
    ("volume create demo --size 1K", 2, "between 4 KiB and 64 PiB"),
    ("volume create Demo --size 1G", 2, "lower-case"),
    ("volume create demo --size 1G --block-size 1024", 2, "one of 512|4096"),
    ("volume create demo --size 1G --durability never", 2, "one of flush|write"),
    ("volume create demo --size 1G --size 2G", 2, "--size is given twice"),
    ("volume create demo --sise 1G", 2, "perhaps --size is meant"),
    ("volume create demo other --size 1G", 2, 'takes no argument "other"'),
    ("volume list --jsn", 2, "perhaps --json is meant"),
    ("volume list -x", 2, "there is no option -x"),
    ("volume list --json=yes", 2, "--json takes no value"),
    ("volume delete demo --now=1", 2, "--now takes no value"),
    ("connections --after 7K", 2, "a whole number"),
    ("connections --after 4294967296", 2, "between 0 and 4294967295"),
    ("status now", 2, 'takes no argument "now"'),
    ("restore --at now", 2, "restore needs NAME"),
    ("restore demo", 2, "restore needs --at T"),
    ("restore demo demo --at now", 2, '"demo" is given twice'),
    ("restore demo --at 5min", 2, "begins with '-'"),
    ("restore demo --at 2026-13-01T00:00:00Z", 2, "  2026-13-01T00:00:00Z\n       ^\n"),
    ("restore demo --at 2026-10-25T02:30:00", 2,
     'write "2026-10-25 02:30:00 +02:00" or "2026-10-25 02:30:00 +01:00"'),
    ("restore demo --at 2026-03-29T02:30:00", 2, "never showed this time"),
    ("restore demo --at now --range 1G", 2, "OFFSET:LENGTH"),
    ("volume set demo --thin-after 1d", 2, "AGE:STEP"),
    ("volume create demo --size 1G --thin-after 1d:2m", 2, "a step is one of 1m"),
    ("image open demo --at now --for 1", 2, "a unit of time"),
    ("image open demo --at now --for 1ms", 2, "between 1 s"),
    ("when demo --range 5", 2, "OFFSET:LENGTH"),
    ("bisect demo --good -1h -- true", 2, "bisect needs --bad T"),
    ("bisect demo --good -1h --bad now", 2, "bisect needs -- COMMAND"),
    ("check", 2, "check needs DIR"),
    ("check a b", 2, "\"b\""),
    ("mark demo", 2, "mark create needs --label L"),
    ("mark demo --label 1st", 2, "begins with a letter"),
    ("--timeout 5 status", 2, "--timeout"),
    ("--timeout 0s status", 2, "at least 1 ms"),
    ("--size 5 volume create demo", 2, "there is no option --size here"),
    ("help --nroff", 2, "help knows --markdown"),
    ("help frobnicate", 2, "there is no command"),
    ("help a b c", 2, "help takes a command"),
]

CODES = [
    ("invalid", 2), ("range", 2), ("too_big", 2), ("ambiguous", 2), ("not_found", 3),
    ("exists", 4), ("busy", 4), ("refused", 5), ("no_space", 6), ("shutting_down", 7),
    ("unreachable", 7), ("closed", 7), ("not_permitted", 8), ("read_only", 8), ("integrity", 9),
    ("format", 9), ("timed_out", 10), ("io", 1), ("unsupported", 1), ("no_memory", 1),
    ("cancelled", 1), ("changed", 1), ("again", 1), ("protocol", 1), ("unheard_of", 1),
]


class CliTest(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="perdure-cli-")
        self.socket = os.path.join(self.dir, "control.sock")
        self.addCleanup(shutil.rmtree, self.dir)

    def perdure(self, words, socket=True, env=None, cwd=None):
        words = words.split() if isinstance(words, str) else words
        full_env = {"PATH": os.environ["PATH"], "TZ": ZONE}
        if socket:
            full_env["PERDURE_SOCKET"] = self.socket
        full_env.update(env or {})
        return subprocess.run([PERDURE] + words, capture_output=True, text=True, env=full_env,
                              cwd=cwd or self.dir, timeout=60)

    def ask(self, words, *script, **kwargs):
        with FakeServer(self.socket, script) as server:
            done = self.perdure(words, **kwargs)
        return done, server.requests

    def test_rows(self):
        for i, (words, op, args, result, output) in enumerate(ROWS):
            with self.subTest(row=i, words=words):
                done, requests = self.ask(words, result)
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                self.assertEqual(requests, [{"id": 1, "op": op, "args": args}])
                if output is not None:
                    self.assertEqual(done.stdout, output)

    def test_rows_json(self):
        for i, (words, op, args, result, _) in enumerate(ROWS):
            with self.subTest(row=i, words=words):
                done, requests = self.ask("--json " + words, result)
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                self.assertEqual(json.loads(done.stdout), result)
                self.assertEqual(done.stdout.count("\n"), 1)
                self.assertEqual(requests[0]["args"], args)

    def test_every_operation_has_a_row(self):
        text = self.perdure("help --markdown").stdout
        named = {line.split("`")[1] for line in text.splitlines()
                 if line.startswith("Operation `")}
        self.assertEqual({row[1] for row in ROWS} | {"reload", "bisect", "check"}, named)

    def test_usage(self):
        for i, (words, code, part) in enumerate(USAGE):
            with self.subTest(row=i, words=words):
                done = self.perdure(words)
                self.assertEqual((done.returncode, done.stdout), (code, ""))
                self.assertIn(part, done.stderr)
                self.assertNotIn("cannot be reached", done.stderr)

    def test_local_times_go_out_in_utc(self):
        cases = [("2026-07-01 12:00:00", "2026-07-01T10:00:00Z"),
                 ("2026-11-22T17:00:03.25", "2026-11-22T16:00:03.25Z"),
                 ("2026-10-25 02:30:00 +01:00", "2026-10-25T01:30:00Z")]
        for text, sent in cases:
            done, requests = self.ask(["image", "open", "demo", "--at", text], IMAGE)
            self.assertEqual(done.returncode, 0)
            self.assertEqual(requests[0]["args"]["at"], sent)
        done, requests = self.ask("image open demo --at 00:00", IMAGE)
        self.assertRegex(requests[0]["args"]["at"], r"^\d{4}-\d\d-\d\dT2[23]:00:00Z$")

    def test_exit_codes(self):
        for code, exit_code in CODES:
            with self.subTest(code=code):
                done, _ = self.ask("volume show demo", Refusal(code, "that is why", "do this"))
                self.assertEqual((done.returncode, done.stdout), (exit_code, ""))
                self.assertEqual(done.stderr, "perdure: that is why\n  hint: do this\n")
        done, _ = self.ask("volume show demo --json", Refusal("not_found", "no \"demo\""))
        self.assertEqual((done.returncode, done.stdout), (3, ""))
        self.assertEqual(json.loads(done.stderr),
                         {"ok": False, "code": "not_found", "message": "no \"demo\""})
        done, _ = self.ask("status", Refusal("io", "evil \u001b[2J\u0007"))
        self.assertEqual(done.stderr, "perdure: evil ?[2J?\n")

    def test_no_server(self):
        done = self.perdure("status")
        self.assertEqual(done.returncode, 7)
        self.assertIn("cannot be reached: No such file", done.stderr)
        self.assertIn(f"hint: start it (perdured --store DIR --control {self.socket}), or",
                      done.stderr)
        with FakeServer(self.socket, []):
            os.rename(self.socket, self.socket + ".gone")
            os.symlink(self.socket + ".gone", self.socket)
        done = self.perdure("status")
        self.assertEqual(done.returncode, 7)
        done = self.perdure(["--socket", "/" + "x" * 200, "status"])
        self.assertEqual(done.returncode, 2)

    def test_which_socket(self):
        with FakeServer(self.socket, [{"volumes": []}]) as server:
            done = self.perdure(["--socket", self.socket, "volume", "list"],
                                env={"PERDURE_SOCKET": "/nowhere"})
            self.assertEqual((done.returncode, len(server.requests)), (0, 1))
        os.mkdir(os.path.join(self.dir, "run"))
        self.socket = os.path.join(self.dir, "run", "control.sock")
        done, requests = self.ask("volume list", {"volumes": []}, socket=False)
        self.assertEqual((done.returncode, len(requests)), (0, 1))
        done = self.perdure("volume list", socket=False, cwd=self.dir + "/run")
        self.assertIn("/run/perdure/control.sock", done.stderr)

    def test_broken_answers(self):
        for answer in (b"nonsense\n", b"[]\n", b"{}\n", b'{"id":1,"ok":true}\n',
                       b'{"id":2,"ok":true,"result":{}}\n', b"\n"):
            done, _ = self.ask("status", answer)
            self.assertEqual((done.returncode, done.stdout), (1, ""), answer)
            self.assertIn("answer", done.stderr)

    def test_closed_without_answer(self):
        # What only reads is asked again; what changes something is not.
        done, requests = self.ask("status", None, b'{"id":1,', STATUS)
        self.assertEqual((done.returncode, done.stdout), (0, STATUS_TEXT))
        self.assertEqual(len(requests), 3)
        done, requests = self.ask("volume delete demo", None, {"name": "demo"})
        self.assertEqual((done.returncode, len(requests)), (7, 1))
        self.assertIn("look before you repeat it", done.stderr)

    def test_time_limit(self):
        done, _ = self.ask("--timeout 50ms status", SILENCE)
        self.assertEqual((done.returncode, done.stdout), (10, ""))
        self.assertIn("did not answer in time", done.stderr)

    def test_long_answer(self):
        volumes = {"volumes": [dict(VOLUME, name="v%d" % i) for i in range(3000)]}
        done, _ = self.ask("volume list --json", volumes)
        self.assertEqual(json.loads(done.stdout), volumes)

    def test_answer_in_parts(self):
        parts = [[dict(CONNECTION, id=7), dict(CONNECTION, id=9)], [dict(CONNECTION, id=11)], []]
        done, requests = self.ask("connections --json", {"next": 9, "connections": parts[0]},
                                  {"next": 11, "connections": parts[1]}, {"next": None, "connections": parts[2]})
        self.assertEqual(json.loads(done.stdout), {"next": None, "connections": sum(parts, [])})
        self.assertEqual([request["args"] for request in requests], [{}, {"after": 9}, {"after": 11}])
        ranges = [[{"offset_bytes": 0, "length_bytes": 4096}], [{"offset_bytes": 8192, "length_bytes": 4096}]]
        told = {"volume": "demo", "from": moment(5, "2026-11-22T16:00:00Z"),
                "to": moment(9, "2026-11-22T16:00:01Z")}
        done, requests = self.ask("diff demo --from -1h --to now --json",
                                  dict(told, next=8192, ranges=ranges[0]), dict(told, next=None, ranges=ranges[1]))
        self.assertEqual(json.loads(done.stdout)["ranges"], sum(ranges, []))
        self.assertEqual(requests[1]["args"], {"name": "demo", "from": "seq:5", "to": "seq:9", "after": 8192})
        steps = [[dict(STEP, time="2026-11-22T15:00:00Z")], [dict(STEP, time="2026-11-22T15:01:00Z")]]
        done, requests = self.ask("history demo --from -1h --json", dict(HISTORY, next=1795359660, steps=steps[0]),
                                  dict(HISTORY, steps=steps[1]))
        self.assertEqual(json.loads(done.stdout)["steps"], sum(steps, []))
        self.assertEqual(requests[1]["args"], {"name": "demo", "from": "2026-11-22T15:00:00Z", "step_ns": 60 * 10**9,
                                               "to": "2026-11-22T16:00:00Z", "after": 1795359660})
        done, _ = self.ask("connections", {"next": 9, "connections": parts[0]}, Refusal("io", "that is why"))
        self.assertEqual((done.returncode, done.stdout), (1, ""))

    def test_writes_in_parts(self):
        told = {"volume": "demo", "from": moment(5, None), "to": moment(9, None), "every_write_since": moment(5, None)}
        rows = [{"at": moment(9, None)}, {"at": moment(6, None)}]
        done, requests = self.ask("when demo --limit 3 --json", dict(told, older=8, writes=rows[:1]),
                                  dict(told, older=7, writes=[]), dict(told, older=None, writes=rows[1:]))
        self.assertEqual(json.loads(done.stdout), dict(told, older=None, writes=rows))
        self.assertEqual([request["args"] for request in requests],
                         [{"name": "demo", "limit": 3}, {"name": "demo", "limit": 2, "below": 8},
                          {"name": "demo", "limit": 2, "below": 7}])
        done, requests = self.ask("when demo --limit 1 --json", dict(told, older=8, writes=rows[:1]))
        self.assertEqual((json.loads(done.stdout)["older"], len(requests)), (8, 1))
        done, requests = self.ask("when demo --json", *[dict(told, older=2, writes=rows)] * 50)
        self.assertEqual(len(json.loads(done.stdout)["writes"]), 100)

    def bisect(self, words, first_bad, serve=None):
        """Writes 10, 12, ... 40; a server that never tells of one in its first answer."""
        def past(request):
            op, args = request["op"], request["args"]
            if op == "image.open":
                n = int(args["at"][4:])
                return {"name": f"i-{n}", "at": moment(n, f"2026-11-22T16:00:{n}Z"),
                        "disks": [{"volume": "demo", "addresses": [f"nbd://here/{n}"]}]}
            if op == "image.close":
                return {}
            after, to = (9 if args[key] == "-1h" else 41 if args[key] == "now" else int(args[key][4:])
                         for key in ("from", "to"))
            if after > to:
                return Refusal("invalid", "--from is a later moment than --to")
            newest = max((n for n in range(10, 42, 2) if after < n <= to), default=None)
            asked = args.get("below")
            return {"from": moment(after, None), "to": moment(to, None), "older": None if asked else to + 1,
                    "writes": [{"at": moment(newest, f"2026-11-22T16:00:{newest}Z"), "kind": "write",
                                "offset_bytes": 512, "length_bytes": 4096}] if asked and newest else []}
        judge = f"echo judged; test ${{PERDURE_IMAGE_URI##*/}} -lt {first_bad} && test $0 = $PERDURE_IMAGE_URI"
        return self.ask(words.split() + ["--", "sh", "-c", judge, "{}"], *[serve or past] * 100)

    def test_bisect(self):
        words = "bisect demo --good -1h --bad now"
        for first_bad in (10, 12, 26, 40):
            done, requests = self.bisect(words, first_bad)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertIn(f"the first bad moment is 2026-11-22 17:00:{first_bad}.000000 +01:00 (seq:{first_bad}): "
                          "a write of 4096 bytes at 512\n", done.stdout)
            last_good = first_bad - 2 if first_bad > 10 else 9
            self.assertIn(f"perdure restore demo --at seq:{last_good}\n", done.stdout)
            ops = [request["op"] for request in requests]
            self.assertEqual(ops.count("image.open"), ops.count("image.close"))
            self.assertLessEqual(ops.count("image.open"), 2 + 5)
        done, _ = self.bisect(words + " --json", 26)
        self.assertEqual((done.returncode, json.loads(done.stdout)["first_bad"]["at"]["sequence"]), (0, 26))
        self.assertIn("judged", done.stderr)
        done, requests = self.bisect("bisect demo --good now --bad -1h", 26)
        self.assertEqual((done.returncode, len(requests)), (2, 1))
        self.assertIn("the good moment is later than the bad one", done.stderr)

    def test_bisect_is_interrupted(self):
        """While an image is being opened: it is closed, and the command does not run."""
        child, started, ran = [], threading.Event(), os.path.join(self.dir, "ran")
        told = {"from": moment(9, None), "to": moment(41, None), "older": None, "writes": [{"at": moment(40, None)}]}

        def interrupt(_):
            started.wait()
            child[0].send_signal(signal.SIGINT)
            return dict(IMAGE, at=moment(9, None))
        with FakeServer(self.socket, [told, interrupt, {}, told]) as server:
            child.append(subprocess.Popen([PERDURE, "bisect", "demo", "--good", "-1h", "--bad", "now", "--", "touch", ran],
                                          env={"PATH": os.environ["PATH"], "PERDURE_SOCKET": self.socket}))
            started.set()
            self.assertEqual(child[0].wait(60), -signal.SIGINT)
        self.assertEqual([request["op"] for request in server.requests], ["when", "image.open", "image.close"])
        self.assertFalse(os.path.exists(ran))

    def test_full_output(self):
        with FakeServer(self.socket, [STATUS]), open("/dev/full", "w") as full:
            done = subprocess.run([PERDURE, "--socket", self.socket, "status"], stdout=full,
                                  stderr=subprocess.PIPE, text=True, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertIn("could not be written", done.stderr)

    def test_check(self):
        """It becomes the perdured that belongs to it: of its folder, or beside that, or of PATH."""
        places = ["here/bin", "here/sbin", "here/server", "path"]
        for place in places:
            os.makedirs(os.path.join(self.dir, place))
        perdure = shutil.copy(PERDURE, os.path.join(self.dir, "here/bin/perdure"))
        path = os.path.join(self.dir, "path")

        def check(*words):
            return subprocess.run([perdure, "check", *words], capture_output=True, text=True, check=False,
                                  cwd=self.dir, env={"PATH": path}, timeout=60)

        done = check("store")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("no perdured beside this program, nor in PATH", done.stderr)
        self.assertIn("hint: a store is looked at by the server's program", done.stderr)
        for place, code in reversed(list(zip(places, (9, 4, 3, 0)))):
            program = os.path.join(self.dir, place, "perdured")
            with open(program, "w", encoding="utf-8") as file:
                file.write(f"#!/bin/sh\nprintf '%s|' {place} \"$@\"\nexit {code}\n")
            os.chmod(program, 0o755)
            done = check("a store", "--json", "--repair")
            self.assertEqual((done.stdout, done.stderr, done.returncode),
                             (f"{place}|--check|--repair|--json|--store|a store|", "", code))
        self.assertEqual(check("-s").stdout, "")
        self.assertEqual(check("--", "-s").stdout, "here/bin|--check|--store|-s|")
        os.chmod(os.path.join(self.dir, "here/bin/perdured"), 0o644)
        self.assertEqual(check("store").stdout, "here/sbin|--check|--store|store|")

    def test_reload(self):
        after = dict(RELOAD, generation=4, pause_ns=1750000)
        script = [RELOAD, dict(STATUS, reload=RELOAD), None, dict(STATUS, reload=after)]
        done, requests = self.ask("reload --binary /opt/perdured", *script)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(done.stdout, "reloaded: engine 4 serves, the pause was 1.75 ms\n")
        self.assertEqual(requests[0]["args"], {"binary": "/opt/perdured"})
        self.assertEqual([r["op"] for r in requests], ["reload"] + ["status"] * 3)
        done, _ = self.ask("reload --json", *script)
        self.assertEqual(json.loads(done.stdout), after)

        taken_back = dict(RELOAD, generation=5, failures=1, failure="its self-check failed")
        done, _ = self.ask("reload", RELOAD, dict(STATUS, reload=taken_back))
        self.assertEqual(done.returncode, 1)
        self.assertIn("serves on: its self-check failed", done.stderr)

        done, requests = self.ask("reload", Refusal("refused", "it does not qualify: layout"))
        self.assertEqual((done.returncode, len(requests)), (5, 1))

        done, _ = self.ask("--timeout 100ms reload", RELOAD, *[STATUS] * 50)
        self.assertEqual(done.returncode, 10)

    def hooks(self, before, after, *script):
        log = os.path.join(self.dir, "log")
        if os.path.exists(log):
            os.unlink(log)

        def note(word, rest):
            return "echo %s >> %s; %s" % (word, log, rest)

        def noting(step):
            def run(request):
                with open(log, "a") as f:
                    f.write(request["op"] + "\n")
                return step
            return run

        done, _ = self.ask(["mark", "demo", "--label", "l", "--exec-before",
                            note("before", before), "--exec-after", note("after", after)],
                           *[noting(s) for s in script])
        with open(log) as f:
            return done, f.read().split()

    def test_hooks(self):
        good = {"label": "l", "volumes": ["demo"], "at": moment(5, "2026-11-22T16:00:00Z")}
        done, order = self.hooks("true", "true", good)
        self.assertEqual((done.returncode, order), (0, ["before", "mark.create", "after"]))
        # A failed first hook: no mark, but what it may have frozen is thawed.
        done, order = self.hooks("exit 3", "true", good)
        self.assertEqual((done.returncode, order), (1, ["before", "after"]))
        self.assertIn("--exec-before ended with exit code 3", done.stderr)
        # A failed mark: the second hook runs, the mark's error counts.
        done, order = self.hooks("true", "exit 4", Refusal("no_space", "full"))
        self.assertEqual((done.returncode, order), (6, ["before", "mark.create", "after"]))
        self.assertIn("full", done.stderr)
        self.assertIn("--exec-after ended with exit code 4", done.stderr)
        done, order = self.hooks("true", "kill -9 $$", good)
        self.assertEqual(done.returncode, 1)
        self.assertIn("--exec-after was ended by signal 9", done.stderr)
        # A signal while the application is at rest waits until it is let go.
        done, order = self.hooks("kill -TERM $PPID", "true", good)
        self.assertEqual((done.returncode, order), (-15, ["before", "mark.create", "after"]))

    def test_help(self):
        for words in ("--help", "help", "-h", "help --help"):
            done = self.perdure(words)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertIn("volume create", done.stdout)
        for words in ("volume create --help", "help volume create", "volume create demo -h"):
            done = self.perdure(words)
            self.assertEqual(done.returncode, 0)
            self.assertTrue(done.stdout.startswith(
                "usage: perdure volume create NAME --size SIZE [--block-size BYTES]"))
        for words in ("help mark", "mark --help"):
            done = self.perdure(words)
            self.assertIn("mark delete", done.stdout)
            self.assertNotIn("volume", done.stdout.replace("VOLUME", ""))
        done = self.perdure("--version")
        self.assertRegex(done.stdout, r"^perdure \d+\.\d+\.\d+\n$")

    def test_reference_is_current(self):
        with open(REFERENCE) as f:
            self.assertEqual(f.read(), self.perdure("help --markdown").stdout,
                             "run: perdure help --markdown > docs/reference.md")

    def test_manual_page(self):
        page = self.perdure("help --man").stdout
        for line in page.splitlines():
            if line.startswith("."):
                self.assertRegex(line, r"^\.(TH|SH|SS|TP|PP|RS|RE|nf|fi)\b")
            self.assertFalse(line.startswith("'"))
        if shutil.which("groff"):
            done = subprocess.run(["groff", "-man", "-Tascii", "-ww", "-z"], input=page,
                                  capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stderr), (0, ""))

    def complete(self, line, *script):
        words = line.split(" ")
        program = ("%s help --completion bash > c; . ./c; PATH=%s:$PATH; "
                   "COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _perdure; "
                   "echo ${COMPREPLY[@]}" % (PERDURE, os.path.dirname(PERDURE)))
        with FakeServer(self.socket, script):
            done = subprocess.run(["bash", "-c", program, "bash"] + words, capture_output=True,
                                  text=True, cwd=self.dir, timeout=60,
                                  env={"PATH": os.environ["PATH"],
                                       "PERDURE_SOCKET": self.socket,
                                       "PERDURE_COMPLETION_TIMEOUT": "1min"})
        self.assertEqual(done.stderr, "")
        return done.stdout.split()

    def test_completion(self):
        self.assertEqual(self.complete("perdure vo"), ["volume"])
        self.assertIn("restore", self.complete("perdure "))
        self.assertEqual(self.complete("perdure volume res"), ["resize"])
        self.assertEqual(self.complete("perdure --json volume sh"), ["show"])
        self.assertEqual(self.complete("perdure volume create d --b"), ["--block-size"])
        self.assertEqual(self.complete("perdure volume create d --block-size "), ["512", "4096"])
        self.assertEqual(self.complete("perdure mark demo --exec-b"), ["--exec-before"])
        volumes = {"volumes": [VOLUME, dict(VOLUME, name="db")]}
        self.assertEqual(self.complete("perdure volume show d", volumes), ["demo", "db"])
        self.assertEqual(self.complete("perdure restore de", volumes), ["demo"])
        self.assertEqual(self.complete("perdure image close ", {"images": [
            dict(IMAGE, disks=IMAGE["disks"][:1])]}), ["check"])
        self.assertEqual(self.complete("perdure volume create "), [])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
