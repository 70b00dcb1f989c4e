/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index as a whole, on the simulated machine: random versions on a tree of timelines, memtables
 * that become runs, a small block table, processes that die. The model is the list of all versions.
 * In the place of the log stands the least that the index asks of it: segments with files.
 */
#include "engine/index/index_world_test.h"

static void answers_as_the_list_of_all_versions(void **state) {
    uint64_t runs = 0, misses = 0, reads = 0, waited = 0;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct prng p = prng_seed(seed);
        struct world *w = open_world(seed, seed % 3 ? 1 : 64, seed % 2 ? 20000 : 1 << 20);
        uint64_t chunks = 2 + prng_below(&p, 30);
        uint32_t timelines = 1;
        new_timeline(w, 1, 0, 0);
        next_segment(w);
        commit(w);
        for (int turn = 0; turn < 250; turn++) {
            for (uint64_t n = prng_below(&p, 16); n > 0; n--)
                random_version(w, &p, timelines, chunks, 248);
            commit(w);
            if (prng_one_in(&p, 20)) {
                uint32_t parent = 1 + (uint32_t)prng_below(&p, timelines);
                new_timeline(w, ++timelines, parent, prng_below(&p, w->sequence + 1));
                commit(w);
            }
            for (int q = 0; q < 8; q++) {
                uint64_t limit = prng_one_in(&p, 2) ? INDEX_NOW : prng_below(&p, w->sequence + 1);
                look_up(w, 1 + (uint32_t)prng_below(&p, timelines), limit,
                        prng_below(&p, chunks + 1),
                        prng_one_in(&p, 2) ? UINT64_MAX : UINT64_C(1) << prng_below(&p, 64));
            }
            if (prng_one_in(&p, 60))
                die_and_attach(w);
        }
        struct memtable_h all[INDEX_MEMTABLES_MAX];
        for (uint32_t i = index_memtables(w->x, all); i-- > 0;)
            memtable_check(w->a, all[i]);
        struct index_counts n = index_counts(w->x);
        assert_true(n.cache_bytes <= w->cache_bytes + 200000);
        runs += n.runs;
        misses += n.table_misses;
        reads += n.leaf_reads + n.directory_reads;
        waited += w->deepest > 0;
        assert_int_equal(w->alerts, 0);
        while (w->x->merging || !w->x->merges_wait)
            step(w);
        for (uint32_t i = 0; i < SEGMENTS; i++)
            assert_int_equal(w->log.pins[i], 0);
        close_world(w);
    }
    assert_true(runs > 50 && misses > 1000 && reads > 100 && waited > 6);
}

/* Versions of one request are shown together, and a crash between makes no difference. */
static void a_request_is_shown_whole(void **state) {
    struct world *w = open_world(1, 4, 1 << 20);
    new_timeline(w, 1, 0, 0);
    next_segment(w);
    put_data(w, 1, 0, 4);
    commit(w);
    uint64_t before = w->sequence;
    struct version v = {
        .timeline = 1, .block = 1, .blocks = 2, .place = place_data(1, 0), .flags = VERSION_MORE};
    uint32_t crc[2] = {7, 8};
    put(w, &v, crc);
    commit(w);
    assert_int_equal(index_applied(w->x), before);
    next_segment(w); /* the request goes on in another segment */
    put(w, &v, crc);
    commit(w);
    for (int attached = 0; attached < 2; attached++) {
        struct asked q;
        ask(w, &q, 1, INDEX_NOW, 0, 15);
        compare(w, &q, before);
        assert_int_equal(index_applied(w->x), before);
        assert_true(w->x->dirty);
        die_and_attach(w);
    }
    v.flags = 0;
    put(w, &v, crc);
    commit(w);
    assert_int_equal(index_applied(w->x), w->sequence);
    look_up(w, 1, INDEX_NOW, 0, 15);
    close_world(w);
}

/* Planted: a block is written while its look-up is under way, and its page is under pressure. */
static void a_write_during_an_unknown_look_up(void **state) {
    uint32_t tried = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct world *w = open_world(seed, 1, 4096);
        new_timeline(w, 1, 0, 0);
        for (uint32_t i = 0; i < 4; i++) {
            next_segment(w);
            put_data(w, 1, 5, 1);
            put_data(w, 1, 64 * (10 + i), 1);
            commit(w);
        }
        for (uint32_t i = 1; i <= 4; i++)
            if (!index_segment_is_sealed(w->x, i))
                seal(w, i);
        next_segment(w);
        commit(w);
        die_and_attach(w);
        block_table_drop(&w->x->table, 1, 0, 1);
        struct asked q;
        ask(w, &q, 1, INDEX_NOW, 0, 1 << 5);
        if (!q.ended) {
            tried++;
            uint64_t as_of = w->sequence;
            put_data(w, 1, 5, 1);
            commit(w);
            for (uint32_t chunk = 100; chunk < 140; chunk++)
                put_data(w, 1, chunk * 64, 1);
            commit(w);
            wait_for(w, &q);
            compare(w, &q, as_of);
        } else {
            compare(w, &q, INDEX_NOW);
        }
        look_up(w, 1, INDEX_NOW, 0, 1 << 5);
        look_up(w, 1, INDEX_NOW, 0, UINT64_MAX);
        close_world(w);
    }
    assert_true(tried > 5);
}

static void a_chain_of_a_thousand_forks(void **state) {
    enum { DEPTH = 1000 };
    struct world *w = open_world(3, 64, 1 << 22);
    for (uint32_t id = 1; id <= DEPTH; id++) {
        new_timeline(w, id, id - 1, w->sequence);
        if (w->segment_number == 0 || id % 70 == 0)
            next_segment(w);
        put_data(w, id, id % 640, 1);
        if (id % 10 == 0)
            put_data(w, id, 7, 1);
        commit(w);
    }
    put_other(w, PLACE_REFERENCE, DEPTH, 100, 100, 400,
              model_find(w, 400, INDEX_NOW, 0).place ? 500 : 0);
    commit(w);
    for (uint32_t id = DEPTH; id > 111; id -= 111)
        for (uint64_t chunk = 0; chunk < 10; chunk++)
            look_up(w, id, INDEX_NOW, chunk, UINT64_MAX);
    const struct ancestry *v = ancestry_take(w->ancestries, DEPTH);
    assert_int_equal(v->count, DEPTH);
    ancestry_give(w->ancestries, v);
    close_world(w);
}

/* A range restored from a range restored, and so on: each step goes back in sequence. */
static void references_to_references(void **state) {
    struct world *w = open_world(4, 8, 1 << 20);
    new_timeline(w, 1, 0, 0);
    next_segment(w);
    put_data(w, 1, 10, 20);
    uint64_t at = w->sequence;
    commit(w);
    for (int i = 0; i < 300; i++) {
        put_data(w, 1, 10 + (uint64_t)i % 20, 1);
        put_other(w, PLACE_REFERENCE, 1, 10, 20, 1, i % 7 ? w->sequence - 1 : at);
        if (i % 7 == 0)
            at = w->sequence;
        commit(w);
    }
    look_up(w, 1, INDEX_NOW, 0, UINT64_MAX);
    look_up(w, 1, w->sequence / 2, 0, UINT64_MAX);
    /* A timeline that is gone: an error, not a wrong answer. */
    put_other(w, PLACE_REFERENCE, 1, 10, 1, 99, 3);
    commit(w);
    struct asked q;
    ask(w, &q, 1, INDEX_NOW, 0, 1 << 10);
    wait_for(w, &q);
    assert_int_equal(q.result, ERR_INTEGRITY);
    ancestry_give(w->ancestries, q.f.view);
    close_world(w);
}

/* A volume and its fork, whose pages of the block table are their own. */
static void look_up_both(struct world *w, uint64_t chunk) {
    look_up(w, 1, INDEX_NOW, chunk, UINT64_MAX);
    look_up(w, 2, INDEX_NOW, chunk, UINT64_MAX);
}

/* Versions 7 to 10, whose frames could not be written, go elsewhere: behind where they were, or into
 * another segment, and partly both; and the process dies before or after the commit. */
static void a_moved_frame_keeps_its_versions(void **state) {
    enum { FIRST = 6, LAST = 10 };
    for (int how = 0; how < 3; how++)
        for (int dies = 0; dies < 3; dies++) {
            struct world *w = open_world(5, 8, 1 << 20);
            new_timeline(w, 1, 0, 0);
            new_timeline(w, 2, 1, LAST);
            w->log.under_way = 1;
            next_segment(w);
            for (int i = 0; i < LAST; i++) {
                put_data(w, 1, (uint64_t)i * 15, 20);
                if (i == 8)
                    put_other(w, PLACE_ZERO, 1, 100, 200, 0, 0);
            }
            commit(w);
            struct segment_h from = w->segment;
            for (uint64_t chunk = 0; chunk < 6; chunk++)
                look_up_both(w, chunk);
            for (int again = 0; again < 2; again++) {
                struct version at[LAST + 1];
                if (how > 0 && again == 0) {
                    next_segment(w);
                    commit(w);
                }
                for (uint32_t i = FIRST; i < w->count; i++) {
                    struct segment_h to = how == 1 || i > 8 ? w->segment : from;
                    at[i] = w->all[i].v;
                    if (place_kind(at[i].place) == PLACE_DATA)
                        at[i].place = place_data(segment_view(w->a, to)->number,
                                                 (500 + i * 30 + (uint32_t)again) * 4096);
                    index_log_ops.moved(w->x, to, &at[i]);
                }
                if (again == 0 && dies == 1) {
                    die_and_attach(w); /* the turn did not happen */
                    for (uint64_t chunk = 0; chunk < 6; chunk++)
                        look_up_both(w, chunk);
                    continue;
                }
                struct asked q; /* in this turn a look-up waits */
                ask(w, &q, 1, 3, 0, 1);
                assert_false(q.ended);
                for (uint32_t i = FIRST; i < w->count; i++)
                    w->all[i].v.place = at[i].place;
                commit(w);
                wait_for(w, &q);
                compare(w, &q, 3);
                if (dies == 2)
                    die_and_attach(w);
                for (uint64_t chunk = 0; chunk < 6; chunk++) {
                    look_up_both(w, chunk);
                    look_up(w, 1, 8, chunk, UINT64_MAX);
                }
            }
            w->log.under_way = 0;
            put_data(w, 1, 3, 1);
            commit(w);
            struct memtable_h all[INDEX_MEMTABLES_MAX];
            for (uint32_t i = index_memtables(w->x, all); i-- > 0;)
                memtable_check(w->a, all[i]);
            seal(w, segment_view(w->a, from)->number);
            for (uint64_t chunk = 0; chunk < 6; chunk++) {
                look_up_both(w, chunk);
                look_up(w, 1, 8, chunk, UINT64_MAX);
            }
            close_world(w);
        }
}

static void a_freed_segment_is_unknown(void **state) {
    struct world *w = open_world(6, 8, 1 << 20);
    new_timeline(w, 1, 0, 0);
    next_segment(w);
    put_data(w, 1, 5, 1);
    commit(w);
    next_segment(w);
    put_data(w, 1, 6, 1);
    commit(w);
    seal(w, 1);
    look_up(w, 1, INDEX_NOW, 0, 3 << 5);
    assert_true(index_segment_is_live(w->x, 1) && index_segment_is_sealed(w->x, 1));
    assert_true(index_segment_is_live(w->x, 2) && !index_segment_is_sealed(w->x, 2));
    index_log_ops.freed(w->x, segment_slot(w, 1));
    segment_free(w->a, segment_slot(w, 1));
    w->log.device[1] = -1;
    commit(w);
    assert_false(index_segment_is_live(w->x, 1));
    w->all[0].v.blocks = 0; /* the model forgets */
    look_up(w, 1, INDEX_NOW, 0, 3 << 5);
    close_world(w);
}

/* A run whose leaf or directory is damaged: only what needs it fails, and it is told. */
static void damage_is_reported(void **state) {
    struct world *w = open_world(7, 1, 1 << 20);
    new_timeline(w, 1, 0, 0);
    next_segment(w);
    for (int i = 0; i < 200; i++)
        put_data(w, 1, (uint64_t)i * 64, 1);
    commit(w);
    next_segment(w);
    seal(w, 1);
    uint32_t failed = 0;
    uint64_t size = 0;
    size = segment_view(w->a, segment_slot(w, 1))->run_bytes;
    for (uint64_t at = 1; at < size; at += 100) {
        assert_int_equal(sim_corrupt(w->sim, "log/slot-00000001", RUN_OFFSET + at, 16), 0);
        die_and_attach(w);
        block_table_drop(&w->x->table, 1, 0, 1000);
        for (uint64_t chunk = at % 7; chunk < 200; chunk += 20) {
            struct asked q;
            ask(w, &q, 1, INDEX_NOW, chunk, 1);
            wait_for(w, &q);
            if (q.result == 0) {
                compare(w, &q, INDEX_NOW);
                continue;
            }
            assert_int_equal(q.result, ERR_INTEGRITY);
            assert_true(w->alerts > failed);
            ancestry_give(w->ancestries, q.f.view);
            failed++;
        }
        assert_int_equal(sim_corrupt(w->sim, "log/slot-00000001", RUN_OFFSET + at, 16), 0);
    }
    assert_true(failed > 20);
    close_world(w);
}

/* A process that dies at its n-th store of turn and apply, for every n: the successor shows the
 * last committed turn. */
static void death_at_every_store(void **state) {
    int finished = 0;
    uint32_t deaths = 0;
    for (uint64_t n = 1; !finished; n += 1 + n / 60) {
        struct world *w = open_world(8, 1, 1 << 20);
        struct prng p = prng_seed(9);
        new_timeline(w, 1, 0, 0);
        next_segment(w);
        commit(w);
        for (int i = 0; i < 20; i++)
            random_version(w, &p, 1, 12, 3);
        commit(w);
        uint32_t *done =
            mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        done[0] = done[1] = w->count;
        pid_t pid = fork();
        if (pid == 0) {
            signal(SIGABRT, SIG_DFL);
            w->a->crash_after = n;
            for (int turn = 0; turn < 12; turn++) {
                for (int i = 0; i < 3; i++)
                    random_version(w, &p, 1, 12, 3);
                done[1] = w->count;
                arena_commit(w->a);
                done[0] = w->count;
                buffer_commit(&w->buffers);
                index_apply(w->x);
            }
            _exit(0);
        }
        int status;
        waitpid(pid, &status, 0);
        finished = WIFEXITED(status);
        deaths += !finished;
        /* Between the commit and the note of it the turn has happened. */
        w->a->crash_after = 0;
        arena_roll_back(w->a->base);
        struct memtable_h h = memtable_next(w->a, (struct memtable_h){0});
        uint64_t last = memtable_view(w->a, h)->last_sequence;
        assert_true(last == w->all[done[0] - 1].v.sequence ||
                    last == w->all[done[1] - 1].v.sequence);
        w->count = last == w->all[done[0] - 1].v.sequence ? done[0] : done[1];
        w->sequence = last;
        for (uint32_t i = 0; i < w->count; i++)
            w->all[i].v.crc = w->all[i].crc;
        die_and_attach(w);
        memtable_check(w->a, h);
        for (uint64_t chunk = 0; chunk < 13; chunk++)
            look_up(w, 1, INDEX_NOW, chunk, UINT64_MAX);
        for (int i = 0; i < 5; i++)
            random_version(w, &p, 1, 12, 3);
        commit(w);
        for (uint64_t chunk = 0; chunk < 13; chunk++)
            look_up(w, 1, INDEX_NOW, chunk, UINT64_MAX);
        memtable_check(w->a, h);
        munmap(done, 4096);
        close_world(w);
    }
    assert_true(deaths > 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_as_the_list_of_all_versions),
        cmocka_unit_test(a_request_is_shown_whole),
        cmocka_unit_test(a_write_during_an_unknown_look_up),
        cmocka_unit_test(a_chain_of_a_thousand_forks),
        cmocka_unit_test(references_to_references),
        cmocka_unit_test(a_moved_frame_keeps_its_versions),
        cmocka_unit_test(a_freed_segment_is_unknown),
        cmocka_unit_test(damage_is_reported),
        cmocka_unit_test(death_at_every_store),
    };
    return cmocka_run_group_tests_name("index", tests, NULL, NULL);
}
