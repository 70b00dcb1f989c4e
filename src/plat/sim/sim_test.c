/* SPDX-License-Identifier: Apache-2.0 */
/* Many small worlds, one per seed. What a rule forbids must never be seen; what it allows must be
 * seen for some seed, or the rule is not simulated. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/prng.h"
#include "base/units.h"
#include "plat/sim/sim.h"

#define SEEDS 200

/* Vocabulary. */

struct world {
    struct sim *sim;
    struct file_system fs;
    struct io_router io;
};

static struct world world_open(uint64_t seed) {
    struct sim *sim = sim_new(&(struct sim_options){.seed = seed});
    return (struct world){sim, sim_files(sim), sim_router(sim)};
}

static int open_new(struct world *w, const char *path) {
    int f = w->fs.ops->open(w->fs.ctx, path, FILE_WRITE | FILE_CREATE);
    assert_true(f >= 0);
    return f;
}

static void fill_write(struct world *w, int f, int byte, size_t bytes, uint64_t offset) {
    unsigned char *b = malloc(bytes);
    memset(b, byte, bytes);
    assert_int_equal(w->fs.ops->write(w->fs.ctx, f, b, bytes, offset), bytes);
    free(b);
}

static void sync_all(struct world *w, int f) {
    assert_int_equal(w->fs.ops->sync(w->fs.ctx, f), 0);
    assert_int_equal(w->fs.ops->sync_dir(w->fs.ctx, "."), 0);
}

/* The one byte that all bytes of the sector have, or -1. */
static int sector_byte(struct world *w, int f, uint64_t sector) {
    unsigned char b[SECTOR_BYTES];
    if (w->fs.ops->read(w->fs.ctx, f, b, sizeof b, sector * SECTOR_BYTES) != SECTOR_BYTES)
        return -2;
    for (size_t i = 1; i < sizeof b; i++) {
        if (b[i] != b[0])
            return -1;
    }
    return b[0];
}

static uint32_t send(struct world *w, int op, uint32_t flags, int32_t device, void *base,
                     size_t bytes, uint64_t offset, uint64_t cookie) {
    struct io_vec vec = {base, bytes};
    uint32_t position;
    struct io_submission s = {.op = (uint32_t)op,
                              .flags = flags,
                              .device = device,
                              .vec_count = 1,
                              .vecs = &vec,
                              .offset_bytes = offset,
                              .cookie = cookie};
    assert_int_equal(w->io.ops->queue(w->io.ctx, &s, &position), 0);
    return position;
}

static int take(struct world *w, struct io_completion *c) {
    int n = w->io.ops->peek(w->io.ctx, c, 1);
    w->io.ops->retire(w->io.ctx, n);
    return n;
}

static void a_synced_write_survives_every_cut(void **state) {
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct world w = world_open(seed);
        int f = open_new(&w, "a");
        fill_write(&w, f, 1, 40000, 100);
        sync_all(&w, f);
        sim_power_cut(w.sim);
        f = w.fs.ops->open(w.fs.ctx, "a", FILE_READ);
        assert_int_equal(w.fs.ops->size(w.fs.ctx, f), 40100);
        for (uint64_t s = 1; s < 78; s++)
            assert_int_equal(sector_byte(&w, f, s), 1);
        sim_free(w.sim);
    }
}

static void an_unsynced_write_is_kept_lost_or_torn(void **state) {
    int kept = 0, lost = 0, torn = 0, first_wins = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct world w = world_open(seed);
        int f = open_new(&w, "a");
        fill_write(&w, f, 1, 8192, 0);
        sync_all(&w, f);
        fill_write(&w, f, 2, 8192, 0);
        fill_write(&w, f, 3, 512, 512);
        sim_power_cut(w.sim);
        f = w.fs.ops->open(w.fs.ctx, "a", FILE_READ);
        int twos = 0;
        for (uint64_t s = 0; s < 16; s++) {
            int byte = sector_byte(&w, f, s);
            if (s == 1) {
                assert_in_range(byte, 1, 3);
                first_wins += byte == 2;
                continue;
            }
            assert_in_range(byte, 1, 2);
            twos += byte == 2;
        }
        kept += twos == 15;
        lost += twos == 0;
        torn += twos > 0 && twos < 15;
        sim_free(w.sim);
    }
    assert_true(kept > 10 && lost > 10 && torn > 10 && first_wins > 5);
}

static void a_size_may_come_without_its_data(void **state) {
    int short_file = 0, whole = 0, zeroes = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct world w = world_open(seed);
        int f = open_new(&w, "a");
        sync_all(&w, f);
        fill_write(&w, f, 1, 512, 0);
        sim_power_cut(w.sim);
        f = w.fs.ops->open(w.fs.ctx, "a", FILE_READ);
        int64_t size = w.fs.ops->size(w.fs.ctx, f);
        assert_true(size == 0 || size == 512);
        int byte = sector_byte(&w, f, 0);
        short_file += size == 0;
        whole += byte == 1;
        zeroes += byte == 0;
        sim_free(w.sim);
    }
    assert_true(short_file > 10 && whole > 10 && zeroes > 10);
}

static void a_truncate_is_whole(void **state) {
    int done = 0, undone = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct world w = world_open(seed);
        int f = open_new(&w, "a");
        fill_write(&w, f, 1, 12288, 0);
        sync_all(&w, f);
        assert_int_equal(w.fs.ops->truncate(w.fs.ctx, f, 512), 0);
        assert_int_equal(w.fs.ops->size(w.fs.ctx, f), 512);
        if (seed % 4 == 0)
            sync_all(&w, f);
        sim_power_cut(w.sim);
        f = w.fs.ops->open(w.fs.ctx, "a", FILE_WRITE);
        int64_t size = w.fs.ops->size(w.fs.ctx, f);
        assert_true(size == 512 || (size == 12288 && seed % 4 != 0));
        done += size == 512;
        undone += size == 12288;
        w.fs.ops->truncate(w.fs.ctx, f, 12288);
        for (uint64_t s = 1; s < 24; s++)
            assert_int_equal(sector_byte(&w, f, s), size == 512 ? 0 : 1);
        sim_free(w.sim);
    }
    assert_true(done > 60 && undone > 10);
}

static void names_need_their_directory_synced(void **state) {
    int lost = 0, kept = 0, back = 0, dir_lost = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct world w = world_open(seed);
        int f = open_new(&w, "kept");
        w.fs.ops->sync(w.fs.ctx, f);
        open_new(&w, "doomed");
        sync_all(&w, f);
        int g = open_new(&w, "new");
        fill_write(&w, g, 1, 512, 0);
        w.fs.ops->sync(w.fs.ctx, g);
        assert_int_equal(w.fs.ops->remove(w.fs.ctx, "doomed"), 0);
        assert_int_equal(w.fs.ops->make_dir(w.fs.ctx, "dir"), 0);
        open_new(&w, "dir/in");
        assert_int_equal(w.fs.ops->sync_dir(w.fs.ctx, "dir"), 0);
        sim_power_cut(w.sim);
        assert_int_equal(w.fs.ops->exists(w.fs.ctx, "kept"), 1);
        assert_int_equal(w.fs.ops->exists(w.fs.ctx, "dir"), w.fs.ops->exists(w.fs.ctx, "dir/in"));
        int there = w.fs.ops->exists(w.fs.ctx, "new");
        kept += there;
        lost += !there;
        back += w.fs.ops->exists(w.fs.ctx, "doomed");
        dir_lost += !w.fs.ops->exists(w.fs.ctx, "dir");
        if (there)
            assert_int_equal(sector_byte(&w, w.fs.ops->open(w.fs.ctx, "new", FILE_READ), 0), 1);
        sim_free(w.sim);
    }
    assert_true(lost > 20 && kept > 20 && back > 20 && dir_lost > 20);
}

static void a_rename_is_whole_and_in_order(void **state) {
    int old = 0, new = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct world w = world_open(seed);
        int f = open_new(&w, "x");
        fill_write(&w, f, 1, 512, 0);
        sync_all(&w, f);
        int g = open_new(&w, "x.tmp");
        fill_write(&w, g, 2, 512, 0);
        w.fs.ops->sync(w.fs.ctx, g);
        assert_int_equal(w.fs.ops->rename(w.fs.ctx, "x.tmp", "x"), 0);
        if (seed % 4 == 0)
            w.fs.ops->sync_dir(w.fs.ctx, ".");
        sim_power_cut(w.sim);
        int byte = sector_byte(&w, w.fs.ops->open(w.fs.ctx, "x", FILE_READ), 0);
        assert_in_range(byte, seed % 4 == 0 ? 2 : 1, 2);
        if (byte == 2)
            assert_int_equal(w.fs.ops->exists(w.fs.ctx, "x.tmp"), 0);
        old += byte == 1;
        new += byte == 2;
        sim_free(w.sim);
    }
    assert_true(old > 20 && new > 60);
}

static void a_file_has_one_name_of_its_chain(void **state) {
    int seen[4] = {0};
    static const char *const names[] = {"a/t", "a/u", "b/v"};
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct world w = world_open(seed);
        w.fs.ops->make_dir(w.fs.ctx, "a");
        w.fs.ops->make_dir(w.fs.ctx, "b");
        w.fs.ops->sync_dir(w.fs.ctx, ".");
        open_new(&w, "a/t");
        assert_int_equal(w.fs.ops->rename(w.fs.ctx, "a/t", "a/u"), 0);
        assert_int_equal(w.fs.ops->rename(w.fs.ctx, "a/u", "b/v"), 0);
        if (seed % 4 == 0)
            assert_int_equal(w.fs.ops->sync_dir(w.fs.ctx, "b"), 0);
        sim_power_cut(w.sim);
        int which = 3, count = 0;
        for (int i = 0; i < 3; i++) {
            if (w.fs.ops->exists(w.fs.ctx, names[i])) {
                which = i;
                count++;
            }
        }
        assert_true(seed % 4 == 0 ? count == 1 && which == 2 : count <= 1);
        seen[which]++;
        sim_free(w.sim);
    }
    assert_true(seen[0] > 5 && seen[1] > 5 && seen[2] > 50 && seen[3] > 5);
}

static void a_durable_write_is_durable_when_it_completes(void **state) {
    int landed = 0, missing = 0, part = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct world w = world_open(seed);
        unsigned char one[8192], two[8192];
        memset(one, 1, sizeof one);
        memset(two, 2, sizeof two);
        int32_t d = w.io.ops->open(w.io.ctx, "log", IO_OPEN_WRITE | IO_OPEN_CREATE);
        w.fs.ops->sync_dir(w.fs.ctx, ".");
        send(&w, IO_WRITE, IO_DURABLE, d, one, sizeof one, 0, 7);
        w.io.ops->submit(w.io.ctx);
        struct io_completion c;
        assert_int_equal(take(&w, &c), 0);
        assert_int_equal(sim_settle(w.sim), 1);
        assert_int_equal(take(&w, &c), 1);
        assert_true(c.cookie == 7 && c.result == 8192 && c.adopted == 0);
        send(&w, IO_WRITE, IO_DURABLE, d, two, sizeof two, 8192, 8);
        w.io.ops->submit(w.io.ctx);
        sim_power_cut(w.sim);
        int f = w.fs.ops->open(w.fs.ctx, "log", FILE_READ), twos = 0;
        for (uint64_t s = 0; s < 16; s++)
            assert_int_equal(sector_byte(&w, f, s), 1);
        for (uint64_t s = 16; s < 32; s++)
            twos += sector_byte(&w, f, s) == 2;
        landed += twos == 16;
        missing += twos == 0;
        part += twos > 0 && twos < 16;
        sim_free(w.sim);
    }
    assert_true(landed > 10 && missing > 10 && part > 5);
}

/* Random writes with version numbers, syncs, durable writes; after a cut every sector holds its
 * durable version or one written since. */
#define MODEL_SECTORS 64
#define MODEL_VERSIONS 400

static void sectors_against_a_model(void **state) {
    static unsigned char maybe[MODEL_SECTORS][MODEL_VERSIONS];
    int surprises = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct world w = world_open(seed);
        struct prng p = prng_seed(seed);
        uint32_t now[MODEL_SECTORS] = {0};
        unsigned char buf[16 * SECTOR_BYTES];
        int f = open_new(&w, "a");
        int32_t d = w.io.ops->open(w.io.ctx, "a", IO_OPEN_WRITE);
        w.fs.ops->allocate(w.fs.ctx, f, 0, MODEL_SECTORS * SECTOR_BYTES);
        sync_all(&w, f);
        memset(maybe, 0, sizeof maybe);
        for (uint32_t s = 0; s < MODEL_SECTORS; s++)
            maybe[s][0] = 1;
        uint32_t version = 0, versions = 1 + (uint32_t)prng_below(&p, MODEL_VERSIONS - 1);
        while (++version < versions) {
            uint32_t count = 1 + (uint32_t)prng_below(&p, 16);
            uint32_t first = (uint32_t)prng_below(&p, MODEL_SECTORS - count + 1);
            uint32_t kind = (uint32_t)prng_below(&p, 16);
            if (kind == 0) {
                assert_int_equal(w.fs.ops->sync(w.fs.ctx, f), 0);
                memset(maybe, 0, sizeof maybe);
                for (uint32_t s = 0; s < MODEL_SECTORS; s++)
                    maybe[s][now[s]] = 1;
                continue;
            }
            for (size_t i = 0; i < sizeof buf; i += 4)
                put_le32(buf + i, version);
            if (kind < 5) {
                send(&w, IO_WRITE, kind < 4 ? IO_DURABLE : 0, d, buf, count * SECTOR_BYTES,
                     first * SECTOR_BYTES, version);
                w.io.ops->submit(w.io.ctx);
                struct io_completion c;
                sim_settle(w.sim);
                assert_int_equal(take(&w, &c), 1);
                assert_int_equal(c.result, count * SECTOR_BYTES);
            } else {
                assert_int_equal(
                    w.fs.ops->write(w.fs.ctx, f, buf, count * SECTOR_BYTES, first * SECTOR_BYTES),
                    count * SECTOR_BYTES);
            }
            for (uint32_t s = first; s < first + count; s++) {
                if (kind < 4)
                    memset(maybe[s], 0, MODEL_VERSIONS);
                maybe[s][version] = 1;
                now[s] = version;
            }
        }
        for (uint32_t s = 0; s < MODEL_SECTORS; s++) {
            w.fs.ops->read(w.fs.ctx, f, buf, SECTOR_BYTES, s * SECTOR_BYTES);
            assert_int_equal(get_le32(buf), now[s]);
        }
        sim_power_cut(w.sim);
        f = w.fs.ops->open(w.fs.ctx, "a", FILE_READ);
        for (uint32_t s = 0; s < MODEL_SECTORS; s++) {
            w.fs.ops->read(w.fs.ctx, f, buf, SECTOR_BYTES, s * SECTOR_BYTES);
            uint32_t v = get_le32(buf);
            assert_true(v < MODEL_VERSIONS && maybe[s][v]);
            for (size_t i = 4; i < SECTOR_BYTES; i += 4)
                assert_int_equal(get_le32(buf + i), v);
            surprises += v != now[s];
        }
        sim_free(w.sim);
    }
    assert_true(surprises > 1000);
}

static void a_kill_leaves_orphans_to_adopt(void **state) {
    int now = 0, later = 0, cancelled = 0, done = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct world w = world_open(seed);
        static unsigned char buf[8][4096];
        int32_t d = w.io.ops->open(w.io.ctx, "a", IO_OPEN_WRITE | IO_OPEN_CREATE);
        uint32_t first = 0, position = 0, taken;
        for (int i = 0; i < 8; i++) {
            memset(buf[i], i + 1, sizeof buf[i]);
            position = send(&w, IO_WRITE, 0, d, buf[i], 4096, (uint64_t)i * 4096, (uint64_t)i);
            if (i == 0)
                first = position;
            assert_true(position == first + (uint32_t)i);
            if (i == 6)
                w.io.ops->submit(w.io.ctx);
        }
        sim_step(w.sim);
        sim_step(w.sim);
        struct io_completion c[16], again;
        assert_int_equal(take(&w, &c[8]), 1); /* told and retired: never again */
        assert_int_equal(w.io.ops->peek(w.io.ctx, &again, 1), 1); /* not retired: adopted */
        assert_int_equal(w.io.ops->peek(w.io.ctx, c, 1), 0);
        uint32_t number = sim_queue_number(w.sim);
        sim_kill(w.sim);
        if (seed % 2)
            sim_settle(w.sim);
        assert_int_equal(w.io.ops->peek(w.io.ctx, c, 8), 0);
        if (seed % 3 == 0) { /* a successor that dies having retired nothing changes nothing */
            assert_int_equal(sim_adopt(w.sim, number, &taken), 6);
            sim_kill(w.sim);
        }
        assert_int_equal(sim_adopt(w.sim, number, &taken), 6);
        assert_true(first == 0 && taken == 7);
        assert_int_equal(sim_adopt(w.sim, number, &taken), 0);
        assert_int_equal(sim_adopt(w.sim, number + 5, &taken), ERR_NOTFOUND);
        uint64_t before = clock_monotonic_ns(&(struct clock){sim_clock(w.sim).ops, w.sim});
        int seen[8] = {0};
        seen[c[8].cookie] = 1;
        for (;;) {
            while (take(&w, c)) {
                assert_int_equal(c->adopted, 1);
                assert_int_equal(seen[c->cookie]++, 0);
                cancelled += c->result == ERR_CANCELLED;
                int f = w.fs.ops->open(w.fs.ctx, "a", FILE_READ);
                int byte = sector_byte(&w, f, c->cookie * 8);
                if (c->result == 4096)
                    assert_int_equal(byte, c->cookie + 1);
                else
                    assert_true(byte <= 0 || (uint64_t)byte == c->cookie + 1);
                done += c->result == ERR_CANCELLED && byte > 0;
                w.fs.ops->close(w.fs.ctx, f);
                now += clock_monotonic_ns(&(struct clock){sim_clock(w.sim).ops, w.sim}) == before;
                later += clock_monotonic_ns(&(struct clock){sim_clock(w.sim).ops, w.sim}) > before;
            }
            if (!sim_step(w.sim))
                break;
        }
        for (int i = 0; i < 7; i++)
            assert_int_equal(seen[i], 1);
        assert_int_equal(seen[7], 0);
        sim_free(w.sim);
    }
    assert_true(now > 100 && later > 100 && cancelled > 100 && done > 100 && done < cancelled);
}

static void orphans_land_on_what_is_new(void **state) {
    int hit = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct world w = world_open(seed);
        unsigned char *old = malloc(4096), new[4096];
        memset(old, 1, 4096);
        memset(new, 2, 4096);
        int32_t d = w.io.ops->open(w.io.ctx, "a", IO_OPEN_WRITE | IO_OPEN_CREATE);
        send(&w, IO_WRITE, IO_DURABLE, d, old, 4096, 0, 1);
        w.io.ops->submit(w.io.ctx);
        sim_kill(w.sim);
        free(old); /* its memory is gone with it */
        d = w.io.ops->open(w.io.ctx, "a", IO_OPEN_WRITE);
        send(&w, IO_WRITE, IO_DURABLE, d, new, 4096, 0, 2);
        w.io.ops->submit(w.io.ctx);
        sim_settle(w.sim);
        struct io_completion c[4];
        assert_int_equal(w.io.ops->peek(w.io.ctx, c, 4), 1);
        assert_true(c[0].cookie == 2 && c[0].result == 4096);
        hit += sector_byte(&w, w.fs.ops->open(w.fs.ctx, "a", FILE_READ), 0) == 1;
        sim_free(w.sim);
    }
    assert_true(hit > 20 && hit < SEEDS - 20);
}

/* One fault of each kind, on the second operation of three. */
static void faults_on_demand(void **state) {
    static const struct {
        enum sim_fault_kind kind;
        int err;
        int64_t write, read; /* result of the operation hit */
    } rows[] = {
        {SIM_WRITE_FAILS, ERR_IO, ERR_IO, 4096}, {SIM_WRITE_FAILS, ERR_NOSPC, ERR_NOSPC, 4096},
        {SIM_WRITE_SHORT, 0, ERR_IO, 4096},      {SIM_WRITE_LOST, 0, 4096, 4096},
        {SIM_WRITE_MISDIRECTED, 0, 4096, 4096},  {SIM_READ_FAILS, 0, 4096, ERR_IO},
        {SIM_READ_FLIPS, 0, 4096, 4096},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct world w = world_open(i + 1);
        unsigned char b[4096], r[4096], zero[4096] = {0};
        int f = open_new(&w, "a"), other = open_new(&w, "b");
        w.fs.ops->truncate(w.fs.ctx, f, 65536);
        memset(b, 5, sizeof b);
        sim_fault_add(w.sim, &(struct sim_fault){.path = "a",
                                                 .kind = rows[i].kind,
                                                 .err = rows[i].err,
                                                 .skip = 1,
                                                 .count = 1,
                                                 .shift_bytes = 16384});
        assert_int_equal(w.fs.ops->write(w.fs.ctx, other, b, 4096, 4096), 4096);
        for (uint64_t k = 0; k < 3; k++) {
            assert_int_equal(w.fs.ops->write(w.fs.ctx, f, b, 4096, k * 4096),
                             k == 1 ? rows[i].write : 4096);
        }
        for (uint64_t k = 0; k < 3; k++) {
            assert_int_equal(w.fs.ops->read(w.fs.ctx, f, r, 4096, k * 4096),
                             k == 1 ? rows[i].read : 4096);
            if (k != 1 || rows[i].kind == SIM_READ_FAILS)
                continue;
            int differ = 0;
            for (int at = 0; at < 4096; at++)
                differ += __builtin_popcount((unsigned)(r[at] ^ b[at]));
            if (rows[i].kind == SIM_READ_FLIPS)
                assert_int_equal(differ, 1);
            else if (rows[i].kind == SIM_WRITE_LOST || rows[i].kind == SIM_WRITE_MISDIRECTED ||
                     rows[i].err == ERR_NOSPC)
                assert_memory_equal(r, zero, 4096);
        }
        assert_int_equal(sim_fault_hits(w.sim), 1);
        if (rows[i].kind == SIM_WRITE_MISDIRECTED)
            assert_int_equal(sector_byte(&w, f, (16384 + 4096) / 512), 5);
        sim_free(w.sim);
    }
}

static void a_failed_sync_loses_its_grip(void **state) {
    int lost = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct world w = world_open(seed);
        int f = open_new(&w, "a");
        fill_write(&w, f, 1, 4096, 0);
        sync_all(&w, f);
        fill_write(&w, f, 2, 512, 0);
        sim_fault_add(w.sim, &(struct sim_fault){.path = "a", .kind = SIM_SYNC_FAILS, .count = 1});
        assert_int_equal(w.fs.ops->sync(w.fs.ctx, f), ERR_IO);
        assert_int_equal(sector_byte(&w, f, 0), 2);
        fill_write(&w, f, 3, 512, 512);
        assert_int_equal(w.fs.ops->sync(w.fs.ctx, f), 0);
        sim_power_cut(w.sim);
        f = w.fs.ops->open(w.fs.ctx, "a", FILE_READ);
        assert_int_equal(sector_byte(&w, f, 1), 3);
        lost += sector_byte(&w, f, 0) == 1;
        sim_free(w.sim);
    }
    assert_true(lost > 20 && lost < SEEDS - 20);
}

static void the_disk_fills_and_empties(void **state) {
    struct world w = world_open(1);
    uint64_t total, free_bytes;
    unsigned char b[4096] = {0};
    sim_disk_limit(w.sim, 64 * 4096);
    int f = open_new(&w, "a"), g = open_new(&w, "b");
    assert_int_equal(w.fs.ops->allocate(w.fs.ctx, f, 0, 60 * 4096), 0);
    assert_int_equal(w.fs.ops->allocate(w.fs.ctx, g, 0, 5 * 4096), ERR_NOSPC);
    for (uint64_t k = 0; k < 4; k++)
        assert_int_equal(w.fs.ops->write(w.fs.ctx, g, b, 4096, k * 8192), 4096);
    assert_int_equal(w.fs.ops->write(w.fs.ctx, g, b, 4096, 4096), ERR_NOSPC);
    assert_int_equal(w.fs.ops->write(w.fs.ctx, f, b, 4096, 4096), 4096); /* allocated before */
    assert_int_equal(w.fs.ops->space(w.fs.ctx, &total, &free_bytes), 0);
    assert_true(total == 64 * 4096 && free_bytes == 0);
    assert_int_equal(w.fs.ops->remove(w.fs.ctx, "a"), 0);
    w.fs.ops->space(w.fs.ctx, &total, &free_bytes);
    assert_int_equal(free_bytes, 0); /* still open */
    w.fs.ops->close(w.fs.ctx, f);
    w.fs.ops->space(w.fs.ctx, &total, &free_bytes);
    assert_int_equal(free_bytes, 60 * 4096);
    assert_int_equal(w.fs.ops->truncate(w.fs.ctx, g, 0), 0);
    w.fs.ops->space(w.fs.ctx, &total, &free_bytes);
    assert_int_equal(free_bytes, 64 * 4096);
    sim_free(w.sim);
}

struct counted {
    struct job job;
    struct world *w;
    int ran, done;
};

static void run_three_writes(struct job *job) {
    struct counted *c = (struct counted *)(void *)job;
    int f = c->w->fs.ops->open(c->w->fs.ctx, "job", FILE_WRITE);
    unsigned char b[512];
    memset(b, 9, sizeof b);
    for (uint64_t i = 0; f >= 0 && i < 3; i++)
        c->ran += c->w->fs.ops->write(c->w->fs.ctx, f, b, sizeof b, i * 512) == 512;
}

static void count_done(struct job *job) {
    ((struct counted *)(void *)job)->done++;
}

static void jobs_run_and_stop_anywhere(void **state) {
    for (uint64_t stop = 0; stop <= 6; stop++) {
        struct world w = world_open(stop + 1);
        struct job_runner jobs = sim_jobs(w.sim);
        struct counted c[2] = {{{run_three_writes, count_done, NULL}, &w, 0, 0},
                               {{run_three_writes, count_done, NULL}, &w, 0, 0}};
        int f = open_new(&w, "job");
        w.fs.ops->close(w.fs.ctx, f);
        jobs.ops->start(jobs.ctx, &c[0].job);
        assert_int_equal(jobs.ops->reap(jobs.ctx), 0);
        sim_stop_after(w.sim, stop);
        sim_settle(w.sim);
        int ran = stop == 0 || stop > 5 ? 3 : stop > 2 ? (int)stop - 2 : 0;
        assert_int_equal(c[0].ran, ran);
        assert_int_equal(sim_stopped(w.sim), stop > 0 && stop < 5);
        assert_int_equal(jobs.ops->reap(jobs.ctx), !sim_stopped(w.sim));
        assert_int_equal(c[0].done, !sim_stopped(w.sim));
        sim_kill(w.sim);
        f = w.fs.ops->open(w.fs.ctx, "job", FILE_READ);
        assert_int_equal(w.fs.ops->size(w.fs.ctx, f), ran * 512);
        jobs.ops->start(jobs.ctx, &c[0].job);
        jobs.ops->start(jobs.ctx, &c[1].job);
        jobs.ops->drain(jobs.ctx);
        assert_int_equal(c[1].ran, 3);
        assert_int_equal(c[1].done, 0);
        assert_int_equal(jobs.ops->reap(jobs.ctx), 2);
        jobs.ops->start(jobs.ctx, &c[0].job);
        sim_kill(w.sim);
        assert_int_equal(sim_settle(w.sim), 0);
        sim_free(w.sim);
    }
}

static void clocks(void **state) {
    struct world w = world_open(4);
    struct clock c = sim_clock(w.sim);
    uint64_t m = clock_monotonic_ns(&c), wall = clock_wall_ns(&c);
    assert_int_equal(sim_advance(w.sim, 1000), 0);
    assert_int_equal(clock_monotonic_ns(&c), m + 1000);
    assert_int_equal(clock_wall_ns(&c), wall + 1000);
    sim_wall_jump(w.sim, -3600 * (int64_t)NS_PER_S);
    assert_int_equal(clock_wall_ns(&c), wall + 1000 - 3600 * NS_PER_S);
    assert_int_equal(clock_monotonic_ns(&c), m + 1000);
    sim_free(w.sim);
}

/* Everything at once, only to be compared with itself. */
static uint64_t storm(uint64_t seed) {
    struct world w = world_open(seed);
    struct prng p = prng_seed(seed / 2);
    static unsigned char buf[16][4096];
    int32_t d = w.io.ops->open(w.io.ctx, "d", IO_OPEN_WRITE | IO_OPEN_CREATE);
    for (int i = 0; i < 2000; i++) {
        struct io_completion c[8];
        unsigned char *b = buf[i % 16];
        char name[16];
        uint32_t position;
        switch (prng_below(&p, 8)) {
        case 0:
        case 1:
        case 2:
        case 3:
            if (w.io.ops->peek(w.io.ctx, c, 8) == 0 && i % 3) {
                struct io_vec vec = {b, 4096};
                struct io_submission s = {IO_READ, 0, d, 1, &vec, prng_below(&p, 99) * 4096, 0};
                w.io.ops->queue(w.io.ctx, &s, &position);
                w.io.ops->submit(w.io.ctx);
            }
            break;
        case 4:
            sim_step(w.sim);
            break;
        case 5:
            w.io.ops->retire(w.io.ctx, w.io.ops->peek(w.io.ctx, c, 8));
            break;
        case 6: {
            snprintf(name, sizeof name, "f%u", (unsigned)prng_below(&p, 20));
            int f = open_new(&w, name);
            fill_write(&w, f, i, 700, prng_below(&p, 90000));
            if (prng_one_in(&p, 3))
                sync_all(&w, f);
            w.fs.ops->close(w.fs.ctx, f);
            break;
        }
        default:
            if (prng_one_in(&p, 20)) {
                if (prng_one_in(&p, 2))
                    sim_kill(w.sim);
                else
                    sim_power_cut(w.sim);
                d = w.io.ops->open(w.io.ctx, "d", IO_OPEN_WRITE | IO_OPEN_CREATE);
            }
        }
    }
    uint64_t trace = sim_trace(w.sim);
    sim_free(w.sim);
    return trace;
}

static void same_seed_same_trace(void **state) {
    for (uint64_t seed = 2; seed < 22; seed += 2) {
        assert_true(storm(seed) == storm(seed));
        assert_true(storm(seed) != storm(seed + 1)); /* the same calls in another world */
    }
}

/* The canary: a log that says "stored" after its write has completed but does not sync it. The
 * checker (every stored record is there after a cut) must find it out; with the sync it must not.
 */
static int log_loses_data(uint64_t seed, int durable) {
    struct world w = world_open(seed);
    unsigned char b[512];
    int32_t d = w.io.ops->open(w.io.ctx, "log", IO_OPEN_WRITE | IO_OPEN_CREATE);
    w.fs.ops->sync_dir(w.fs.ctx, ".");
    uint64_t records = 1 + seed % 10;
    for (uint64_t i = 0; i < records; i++) {
        struct io_completion c;
        memset(b, (int)i + 1, sizeof b);
        send(&w, IO_WRITE, durable ? IO_DURABLE : 0, d, b, sizeof b, i * 512, i);
        w.io.ops->submit(w.io.ctx);
        sim_settle(w.sim);
        assert_int_equal(take(&w, &c), 1);
        assert_int_equal(c.result, 512);
    }
    sim_power_cut(w.sim);
    int f = w.fs.ops->open(w.fs.ctx, "log", FILE_READ), lost = 0;
    for (uint64_t i = 0; i < records; i++)
        lost |= sector_byte(&w, f, i) != (int)i + 1;
    sim_free(w.sim);
    return lost;
}

static void canary_a_log_without_sync_is_caught(void **state) {
    int caught = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        caught += log_loses_data(seed, 0);
        assert_int_equal(log_loses_data(seed, 1), 0);
    }
    assert_true(caught > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_synced_write_survives_every_cut),
        cmocka_unit_test(an_unsynced_write_is_kept_lost_or_torn),
        cmocka_unit_test(a_size_may_come_without_its_data),
        cmocka_unit_test(a_truncate_is_whole),
        cmocka_unit_test(names_need_their_directory_synced),
        cmocka_unit_test(a_rename_is_whole_and_in_order),
        cmocka_unit_test(a_file_has_one_name_of_its_chain),
        cmocka_unit_test(a_durable_write_is_durable_when_it_completes),
        cmocka_unit_test(sectors_against_a_model),
        cmocka_unit_test(a_kill_leaves_orphans_to_adopt),
        cmocka_unit_test(orphans_land_on_what_is_new),
        cmocka_unit_test(faults_on_demand),
        cmocka_unit_test(a_failed_sync_loses_its_grip),
        cmocka_unit_test(the_disk_fills_and_empties),
        cmocka_unit_test(jobs_run_and_stop_anywhere),
        cmocka_unit_test(clocks),
        cmocka_unit_test(same_seed_same_trace),
        cmocka_unit_test(canary_a_log_without_sync_is_caught),
    };
    return cmocka_run_group_tests_name("sim", tests, NULL, NULL);
}
