/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Merged runs, on the simulated machine of index_world_test.h: many small segments, so that runs are
 * merged over several levels while others look up; deaths within; damage; files that are none.
 */
#include "engine/index/index_world_test.h"

#include "base/bytes.h"

/* Which blocks of a chunk changed, against the list of all versions. */
static uint64_t compare_changes(struct world *w, uint32_t timeline, uint64_t since, uint64_t limit,
                                uint64_t chunk) {
    struct asked q = {.f = {.view = ancestry_take(w->ancestries, timeline),
                            .limit = limit,
                            .changes = 1,
                            .since = since,
                            .chunk = chunk,
                            .want = UINT64_MAX,
                            .done = answered}};
    q.f.owner = &q;
    int err = index_find(w->x, &q.f);
    if (err != ERR_AGAIN) {
        q.ended = 1;
        q.result = err;
    }
    wait_for(w, &q);
    assert_int_equal(q.result, 0);
    uint64_t changed = 0, newest = 0;
    for (uint32_t i = 0; i < w->count; i++) {
        const struct version *v = &w->all[i].v;
        if (v->sequence <= since || v->sequence > limit ||
            v->sequence > ancestry_limit(q.f.view, v->timeline))
            continue;
        uint64_t blocks = chunk_mask(chunk * CHUNK_BLOCKS, v->block, v->block + v->blocks);
        changed |= blocks;
        newest = blocks ? max_u64(newest, v->sequence) : newest;
    }
    assert_true(q.f.changed == changed && q.f.newest == newest);
    ancestry_give(w->ancestries, q.f.view);
    return changed;
}

/* Until no run is left to merge and no file to remove. */
static void settle(struct world *w) {
    for (int quiet = 0, i = 0; quiet < 3; i++) {
        step(w);
        quiet = w->x->merging || !w->x->merges_wait || !w->x->merged_are_known ? 0 : quiet + 1;
        assert_true(i < 20000);
    }
}

static void assert_no_pins(const struct world *w) {
    for (uint32_t i = 0; i < SEGMENTS; i++)
        assert_int_equal(w->log.pins[i], 0);
    for (uint32_t i = 0; i < INDEX_MERGED_MAX; i++)
        if (w->x->merged[i])
            assert_int_equal(w->x->merged[i]->pins, 0);
}

static uint32_t level_count(const struct world *w, uint32_t level) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < INDEX_MERGED_MAX; i++)
        n += w->x->merged[i] && w->x->merged[i]->t.level == level;
    return n;
}

static void look_everywhere(struct world *w, uint32_t timelines, uint64_t chunks, uint64_t limit) {
    for (uint32_t t = 1; t <= timelines; t++)
        for (uint64_t c = 0; c < chunks; c++)
            look_up(w, t, limit, c, UINT64_MAX);
}

static void count_name(void *arg, const char *name) {
    (*(uint32_t *)arg)++;
}
static uint32_t files_in_directory(struct world *w) {
    struct file_system fs = sim_files(w->sim);
    uint32_t n = 0;
    fs.ops->list(fs.ctx, MERGE_DIR, count_name, &n);
    return n;
}

/* Segments of a few versions each, one chunk written again and again, large intervals. */
static struct world *many_runs_with(uint64_t seed, uint32_t segments, uint64_t chunks,
                                    const struct sim_fault *fault) {
    struct prng p = prng_seed(seed);
    struct world *w = open_world(seed, 1, 60000);
    if (fault)
        sim_fault_add(w->sim, fault);
    new_timeline(w, 1, 0, 0);
    next_segment(w);
    commit(w);
    new_timeline(w, 2, 1, 0);
    while (w->segment_number < segments) {
        if (prng_one_in(&p, 3))
            put_data(w, 1 + (uint32_t)prng_below(&p, 2), 3 * CHUNK_BLOCKS + prng_below(&p, 64), 1);
        else
            random_version(w, &p, 2, chunks, prng_one_in(&p, 9) ? 200 : 4);
        if (prng_one_in(&p, 4))
            commit(w);
    }
    commit(w);
    return w;
}

static struct world *many_runs(uint64_t seed, uint32_t segments, uint64_t chunks) {
    return many_runs_with(seed, segments, chunks, NULL);
}

static void runs_are_merged_over_levels(void **state) {
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct world *w = many_runs(seed, 90, 20);
        settle(w);
        struct index_counts n = index_counts(w->x);
        assert_true(n.runs >= 80 && n.uncovered < 16);
        assert_int_equal(level_count(w, 2), 1);
        assert_in_range(level_count(w, 1), 1, INDEX_FAN_IN - 1);
        assert_int_equal(files_in_directory(w), level_count(w, 1) + level_count(w, 2));
        assert_no_pins(w);
        uint32_t pieces = 0, going_on = 0;
        for (uint32_t i = 0; i < INDEX_MERGED_MAX; i++)
            for (uint32_t k = 0; w->x->merged[i] && k < w->x->merged[i]->t.piece_count; k++) {
                pieces++;
                going_on += w->x->merged[i]->t.pieces[k].continues;
            }
        assert_true(pieces > 100 && going_on > 5);
        for (int i = 0; i < 2; i++) {
            block_table_drop(&w->x->table, 1, 0, 100);
            block_table_drop(&w->x->table, 2, 0, 100);
            look_everywhere(w, 2, 22, INDEX_NOW);
            look_everywhere(w, 2, 22, w->sequence / 2);
            look_everywhere(w, 2, 22, w->sequence / 9);
            die_and_attach(w); /* the files tell what there is */
            settle(w);
            assert_int_equal(level_count(w, 2), 1);
            assert_int_equal(index_counts(w->x).merges, 0);
        }
        close_world(w);
    }
}

static void changes_between_moments(void **state) {
    struct world *w = many_runs(5, 60, 20);
    struct prng p = prng_seed(6);
    uint32_t some = 0, none = 0, all = 0;
    for (int i = 0; i < 3000; i++) {
        uint64_t limit = 1 + prng_below(&p, w->sequence);
        uint64_t since =
            prng_one_in(&p, 2) ? limit - prng_below(&p, min_u64(limit, 40)) : prng_below(&p, limit);
        uint64_t changed =
            compare_changes(w, 1 + (uint32_t)prng_below(&p, 2), since, limit, prng_below(&p, 22));
        none += changed == 0;
        all += changed == UINT64_MAX;
        some += changed != 0 && changed != UINT64_MAX;
        if (i == 1000)
            settle(w);
    }
    assert_true(none > 100 && some > 100 && all > 20);
    close_world(w);
}

/* Segments by the hundred that were never merged, as when the index's folder was removed: there is no room for a merged
 * run of the first level for all of them. */
static struct world *never_merged(uint64_t seed) {
    struct prng p = prng_seed(seed);
    struct world *w = open_world(seed, 1, 60000);
    w->x->parts.merge_fan_in = 1000; /* none is merged yet */
    new_timeline(w, 1, 0, 0);
    next_segment(w);
    commit(w);
    new_timeline(w, 2, 1, 0);
    while (w->segment_number < 2 * INDEX_MERGED_MAX + 90) {
        next_segment(w);
        for (int i = 0; i < 8; i++)
            random_version(w, &p, 2, 20, 4);
        commit(w);
    }
    assert_int_equal(index_counts(w->x).merges, 0);
    w->x->parts.merge_fan_in = 2;
    w->x->merges_wait = 0;
    return w;
}

static void more_runs_than_there_is_room_for(void **state) {
    struct world *w = never_merged(51);
    settle(w);
    struct index_counts n = index_counts(w->x);
    assert_true(n.runs > 2 * INDEX_MERGED_MAX && n.uncovered < 16);
    assert_in_range(n.merged, 1, 16);
    assert_int_equal(files_in_directory(w), n.merged);
    look_everywhere(w, 2, 22, INDEX_NOW);
    look_everywhere(w, 2, 22, w->sequence / 3);
    assert_int_equal(w->alerts, 0);
    assert_no_pins(w);
    close_world(w);
}

/* Merged runs that cannot be merged further take all the room: no merge is begun of which the result would have none,
 * and merging goes on when one of them has left. */
static void no_room_is_left(void **state) {
    struct world *w = never_merged(53);
    for (uint32_t quiet = 0; quiet < 10; quiet = w->x->merging ? 0 : quiet + 1) {
        for (uint32_t i = 0; i < INDEX_MERGED_MAX; i++)
            if (w->x->merged[i])
                w->x->merged[i]->is_final = 1;
        step(w);
    }
    struct index_counts n = index_counts(w->x);
    assert_int_equal(n.merged, INDEX_MERGED_MAX);
    assert_true(n.uncovered > 16);
    for (int i = 0; i < 20; i++) {
        w->x->merges_wait = 0; /* as if a segment had been sealed */
        step(w);
        assert_null(w->x->merging);
    }
    assert_int_equal(files_in_directory(w), INDEX_MERGED_MAX);
    for (uint32_t i = 0; i < INDEX_MERGED_MAX; i++)
        w->x->merged[i]->is_final = 0;
    index_distrust(w->x, w->x->merged[7]);
    settle(w);
    n = index_counts(w->x);
    assert_true(n.merged <= 16 && n.uncovered < 16);
    assert_int_equal(files_in_directory(w), n.merged);
    look_everywhere(w, 2, 22, w->sequence / 3);
    assert_no_pins(w);
    close_world(w);
}

/* A merged run of this store, whole, of a segment that is gone. */
static void put_file_of_what_is_gone(struct world *w, uint32_t segment, uint32_t level) {
    struct file_system fs = sim_files(w->sim);
    struct merged_piece piece = {.offset = MERGED_PAGE_BYTES, .bytes = MERGED_PAGE_BYTES};
    struct merged_segment gone = {segment, 5, 9};
    struct merged_table t = {.identity = merged_identity(segment, level),
                             .level = level,
                             .piece_count = 1,
                             .segment_count = 1,
                             .pieces = &piece,
                             .segments = &gone};
    uint8_t table[256], page[MERGED_PAGE_BYTES];
    char path[MERGE_PATH_BYTES];
    memcpy(t.store_id, log_store_id(&w->log), sizeof t.store_id);
    merged_encode(&t, 2 * MERGED_PAGE_BYTES, table, page);
    snprintf(path, sizeof path, MERGE_DIR "/run-%08x-%u", segment, level);
    int f = fs.ops->open(fs.ctx, path, FILE_WRITE | FILE_CREATE);
    assert_true(f >= 0);
    assert_int_equal(fs.ops->write(fs.ctx, f, page, sizeof page, 0), sizeof page);
    assert_int_equal(fs.ops->write(fs.ctx, f, page, sizeof page, MERGED_PAGE_BYTES), sizeof page);
    size_t bytes = merged_table_bytes(&t);
    assert_int_equal(fs.ops->write(fs.ctx, f, table, bytes, 2 * MERGED_PAGE_BYTES), bytes);
    fs.ops->close(fs.ctx, f);
    struct merged_table read;
    assert_int_equal(merge_read_table(&fs, path, &read), 0);
    merged_free(&read);
}

/* However many files there are that are not used, those that are used are found, and the others go. */
static void more_files_than_there_is_room_for(void **state) {
    struct world *w = many_runs(52, 30, 20);
    settle(w);
    struct index_counts n = index_counts(w->x);
    assert_int_equal(files_in_directory(w), n.merged);
    for (uint32_t i = 0; i < 3 * INDEX_MERGED_MAX; i++)
        put_file_of_what_is_gone(w, 5000 + i, 1 + i % MERGED_LEVEL_MAX);
    assert_int_equal(files_in_directory(w), n.merged + 3 * INDEX_MERGED_MAX);
    die_and_attach(w);
    settle(w);
    assert_int_equal(files_in_directory(w), n.merged);
    assert_int_equal(index_counts(w->x).merged, n.merged);
    assert_int_equal(index_counts(w->x).uncovered, n.uncovered);
    assert_int_equal(index_counts(w->x).merges, 0); /* nothing was merged again */
    look_everywhere(w, 2, 22, w->sequence / 2);
    assert_no_pins(w);
    close_world(w);
}

/* Deaths at any moment of merges, and look-ups and new segments meanwhile. */
static void deaths_while_merging(void **state) {
    uint64_t merges = 0;
    for (uint64_t seed = 11; seed <= 14; seed++) {
        struct prng p = prng_seed(seed);
        struct world *w = many_runs(seed, 30, 20);
        while (w->segment_number < 140) {
            for (uint64_t n = prng_below(&p, 60); n > 0; n--)
                random_version(w, &p, 2, 20, 200);
            commit(w);
            for (uint64_t n = prng_below(&p, 20); n > 0; n--)
                step(w);
            for (int q = 0; q < 6; q++)
                look_up(w, 1 + (uint32_t)prng_below(&p, 2),
                        prng_one_in(&p, 2) ? INDEX_NOW : prng_below(&p, w->sequence + 1),
                        prng_below(&p, 22), UINT64_MAX);
            merges += index_counts(w->x).merges;
            if (prng_one_in(&p, 6))
                die_and_attach(w);
        }
        settle(w);
        look_everywhere(w, 2, 22, INDEX_NOW);
        assert_int_equal(w->alerts, 0);
        assert_int_equal(files_in_directory(w), index_counts(w->x).merged);
        assert_no_pins(w);
        close_world(w);
    }
    assert_true(merges > 20);
}

static const struct index_merged *some_merged(const struct world *w, uint32_t level) {
    for (uint32_t i = 0; i < INDEX_MERGED_MAX; i++)
        if (w->x->merged[i] && w->x->merged[i]->t.level == level)
            return w->x->merged[i];
    fail_msg("no merged run of level %u", level);
    return NULL;
}

/* Any byte of a merged run may be wrong: the answers are right, and it is made again. */
static void damage_does_not_matter(void **state) {
    struct world *w = many_runs(21, 30, 20);
    settle(w);
    char path[MERGE_PATH_BYTES];
    memcpy(path, some_merged(w, 1)->path, sizeof path);
    struct file_system fs = sim_files(w->sim);
    int file = fs.ops->open(fs.ctx, path, FILE_READ);
    uint64_t size = (uint64_t)fs.ops->size(fs.ctx, file);
    fs.ops->close(fs.ctx, file);
    uint32_t seen = 0;
    for (uint64_t at = 0; at + 8 < size; at += 331) {
        uint32_t alerts = w->alerts;
        assert_int_equal(sim_corrupt(w->sim, path, at, 4), 0);
        die_and_attach(w);
        look_everywhere(w, 2, 22, INDEX_NOW);
        look_everywhere(w, 1, 22, w->sequence / 2);
        seen += w->alerts > alerts;
        settle(w);
        if (w->alerts == alerts && sim_corrupt(w->sim, path, at, 4) == 0)
            continue; /* a byte that nobody has asked for is put back */
        assert_int_equal(index_counts(w->x).uncovered < 16, 1);
    }
    assert_true(seen > 20);
    assert_no_pins(w);
    close_world(w);
}

/* A run of a segment that does not check is not merged, and what it says is an error as before. */
static void a_damaged_run_is_left_alone(void **state) {
    struct world *w = open_world(22, 1, 1 << 20);
    new_timeline(w, 1, 0, 0);
    next_segment(w);
    for (uint64_t i = 0; i < 9; i++) {
        put_data(w, 1, i * CHUNK_BLOCKS, 3);
        commit(w);
        if (i == 3)
            seal(w, w->segment_number), next_segment(w);
        else
            next_segment(w);
    }
    commit(w);
    for (uint32_t n = 1; n < w->segment_number; n++)
        if (segment_view(w->a, segment_slot(w, n))->slot.state == SEGMENT_OPEN) {
            if (n == 8) {
                char path[40];
                snprintf(path, sizeof path, "log/slot-%08u", 3);
                sim_corrupt(w->sim, path, RUN_OFFSET + 4200, 16);
            }
            seal(w, n);
        }
    settle(w);
    assert_int_equal(index_counts(w->x).merges, 0);
    look_up(w, 1, INDEX_NOW, 6, 7);
    struct asked q;
    block_table_drop(&w->x->table, 1, 0, 100);
    ask(w, &q, 1, INDEX_NOW, 0, 7);
    wait_for(w, &q);
    assert_int_equal(q.result, ERR_INTEGRITY);
    ancestry_give(w->ancestries, q.f.view);
    close_world(w);
}

/* What is in the directory and is no merged run of this store goes; what a later build has written
 * stays. */
static void strange_files(void **state) {
    struct world *w = many_runs(23, 30, 20);
    settle(w);
    struct file_system fs = sim_files(w->sim);
    uint32_t before = files_in_directory(w);
    const char *names_of[] = {MERGE_DIR "/new-00000007-00000001-1", MERGE_DIR "/run-00000001-3",
                              MERGE_DIR "/a"};
    for (int i = 0; i < 3; i++) {
        uint8_t page[4096] = {0};
        if (i == 1) {
            int from = fs.ops->open(fs.ctx, some_merged(w, 1)->path, FILE_READ);
            fs.ops->read(fs.ctx, from, page, sizeof page, 0);
            fs.ops->close(fs.ctx, from);
        }
        int f = fs.ops->open(fs.ctx, names_of[i], FILE_WRITE | FILE_CREATE);
        assert_true(f >= 0);
        fs.ops->write(fs.ctx, f, page, i == 2 ? 100 : sizeof page, 0);
        fs.ops->close(fs.ctx, f);
    }
    assert_int_equal(files_in_directory(w), before + 3);
    die_and_attach(w);
    settle(w);
    assert_int_equal(files_in_directory(w), before);
    look_everywhere(w, 2, 22, INDEX_NOW);
    close_world(w);
}

/* A merged run of which a segment is freed goes, with its file. */
static void freed_segments(void **state) {
    struct world *w = many_runs(24, 30, 20);
    settle(w);
    const struct index_merged *m = some_merged(w, 1);
    uint32_t merged = index_counts(w->x).merged, numbers[64], count = m->t.segment_count;
    for (uint32_t i = 0; i < count; i++)
        numbers[i] = m->t.segments[i].number;
    for (uint32_t i = 0; i < count; i++) {
        index_log_ops.freed(w->x, segment_slot(w, numbers[i]));
        segment_free(w->a, segment_slot(w, numbers[i]));
        w->log.device[numbers[i]] = -1;
        commit(w);
        assert_int_equal(index_counts(w->x).merged, merged - 1);
    }
    settle(w);
    assert_int_equal(files_in_directory(w), merged - 1);
    close_world(w);
}

static int names_segment(const struct index_merged *m, uint32_t number) {
    for (uint32_t i = 0; i < m->t.segment_count; i++)
        if (m->t.segments[i].number == number)
            return 1;
    return 0;
}

/* A segment is freed while its run is merged with others: what was made of it is not looked into, and goes. */
static void freed_while_merging(void **state) {
    struct world *w = never_merged(54);
    step(w);
    assert_non_null(w->x->merging);
    uint32_t number = 0;
    while (w->log.pins[number] == 0)
        number++;
    index_log_ops.freed(w->x, segment_slot(w, number));
    segment_free(w->a, segment_slot(w, number));
    w->log.device[number] = -1;
    commit(w);
    for (uint32_t quiet = 0; quiet < 10; quiet = w->x->merging ? 0 : quiet + 1) {
        step(w);
        for (uint32_t i = 0; i < INDEX_MERGED_MAX; i++)
            if (w->x->merged[i] && !w->x->merged[i]->is_leaving)
                assert_false(names_segment(w->x->merged[i], number));
    }
    settle(w);
    assert_true(index_counts(w->x).merges > 0 && index_counts(w->x).uncovered < 16);
    assert_int_equal(files_in_directory(w), index_counts(w->x).merged);
    assert_no_pins(w);
    close_world(w);
}

/* A merged run that is made again has the name of the one before, and is not what that was: of a
 * segment freed meanwhile it has nothing, and so the next one is in it. */
static void made_again_of_other_segments(void **state) {
    struct world *w = open_world(25, 1, 8 << 20);
    new_timeline(w, 1, 0, 0);
    new_timeline(w, 3, 0, 0);
    next_segment(w);
    while (w->segment_number < 14) {
        for (uint64_t c = 0; c < 20; c++)
            put_data(w, w->segment_number == 3 ? 3 : 1, c * CHUNK_BLOCKS, 1);
        commit(w);
        next_segment(w);
    }
    settle(w);
    assert_int_equal(some_merged(w, 1)->t.segment_count, INDEX_FAN_IN);
    block_table_drop(&w->x->table, 1, 0, 100);
    look_everywhere(w, 1, 20, INDEX_NOW);
    look_everywhere(w, 1, 20, w->sequence / 2);
    index_log_ops.freed(w->x, segment_slot(w, 3));
    segment_free(w->a, segment_slot(w, 3));
    commit(w);
    index_distrust(w->x, w->x->merged[0]);
    settle(w);
    assert_int_equal(some_merged(w, 1)->t.segments[INDEX_FAN_IN - 1].number, 9);
    for (uint64_t n = 9; n > 5; n--) {
        block_table_drop(&w->x->table, 1, 0, 100);
        look_everywhere(w, 1, 20, n * 20);
    }
    close_world(w);
}

static void distrust_all(struct world *w) {
    for (uint32_t i = 0; i < INDEX_MERGED_MAX; i++)
        if (w->x->merged[i])
            index_distrust(w->x, w->x->merged[i]);
    w->x->merges_wait = 0;
}

/* Each call of a merge fails, or all of its kind from then on: look-ups are right, nothing stays
 * behind, and when the disk is well again, all is merged. */
static void faults_at_every_call(void **state) {
    static const struct {
        enum sim_fault_kind kind;
        int err;
    } faults[] = {
        {SIM_WRITE_FAILS, ERR_IO},   {SIM_WRITE_FAILS, ERR_NOSPC}, {SIM_WRITE_SHORT, 0},
        {SIM_SYNC_FAILS, ERR_IO},    {SIM_SYNC_FAILS, ERR_NOSPC},  {SIM_READ_FAILS, ERR_IO},
        {SIM_READ_FLIPS, 0},         {SIM_NAME_FAILS, ERR_IO},     {SIM_NAME_FAILS, ERR_NOSPC},
        {SIM_NAME_FAILS, ERR_NOMEM}, {SIM_LOOK_FAILS, ERR_IO},
    };
    struct world *w = many_runs(26, 12, 4);
    settle(w);
    assert_int_equal(index_counts(w->x).merged, 1);
    uint32_t hit = 0;
    for (size_t k = 0; k < sizeof faults / sizeof faults[0]; k++)
        for (uint32_t skip = 0, hits = 1; hits > 0; skip++) {
            uint64_t before = sim_fault_hits(w->sim);
            sim_fault_add(w->sim, &(struct sim_fault){.kind = faults[k].kind,
                                                      .err = faults[k].err,
                                                      .skip = skip,
                                                      .count = skip % 3 ? 1 : 0});
            distrust_all(w);
            settle(w);
            sim_fault_clear(w->sim);
            hits = (uint32_t)(sim_fault_hits(w->sim) - before);
            hit += hits > 0;
            assert_no_pins(w);
            look_everywhere(w, 1, 5, w->sequence / 2);
            for (int i = 0; i < 2; i++) {
                w->x->merges_wait = 0;
                for (uint32_t r = 0; r < w->x->run_count; r++)
                    w->x->runs[r].is_final = 0;
                settle(w);
                assert_int_equal(index_counts(w->x).merged, 1);
                look_everywhere(w, 1, 5, w->sequence / 2);
                die_and_attach(w);
            }
            settle(w);
            assert_int_equal(files_in_directory(w), 1);
        }
    assert_true(hit > 60);
    close_world(w);
}

/* What is there cannot be listed, or a directory not be made for good: it is merged again. */
static void a_directory_that_fails(void **state) {
    static const struct sim_fault faults[] = {{.kind = SIM_LOOK_FAILS, .path = "index"},
                                              {.kind = SIM_NAME_FAILS, .path = "index"},
                                              {.kind = SIM_SYNC_FAILS, .path = "."},
                                              {.kind = SIM_SYNC_FAILS, .path = "index"}};
    for (size_t k = 0; k < sizeof faults / sizeof faults[0]; k++) {
        struct world *w = many_runs_with(40 + k, 12, 4, k == 0 ? NULL : &faults[k]);
        settle(w);
        if (k == 0)
            sim_fault_add(w->sim, &faults[k]);
        die_and_attach(w);
        settle(w);
        assert_true(sim_fault_hits(w->sim) > 0);
        look_everywhere(w, 1, 5, w->sequence / 2);
        sim_fault_clear(w->sim);
        for (int i = 0; i < 2; i++) {
            w->x->merges_wait = 0;
            settle(w);
            assert_int_equal(index_counts(w->x).merged, 1);
            look_everywhere(w, 1, 5, w->sequence / 2);
            die_and_attach(w);
        }
        settle(w);
        assert_int_equal(files_in_directory(w), 1);
        close_world(w);
    }
}

/* A run that cannot be read is left out, and the others are merged all the same. */
static void a_run_that_cannot_be_read(void **state) {
    struct world *w = many_runs(27, 30, 4);
    settle(w);
    char path[40];
    snprintf(path, sizeof path, "log/slot-%08u", w->x->runs[3].piece.segment);
    sim_fault_add(w->sim, &(struct sim_fault){.kind = SIM_READ_FAILS, .path = path});
    distrust_all(w);
    settle(w);
    struct index_counts n = index_counts(w->x);
    assert_true(n.merged >= 2 && n.uncovered < n.runs);
    assert_null(w->x->runs[3].covered_by);
    assert_no_pins(w);
    close_world(w);
}

/* Segments whose records have no blocks, as marks: their runs say nothing, and are merged. */
static void runs_without_versions(void **state) {
    struct world *w = open_world(28, 1, 1 << 20);
    new_timeline(w, 1, 0, 0);
    for (int i = 0; i < 30; i++) {
        next_segment(w);
        if (i >= 10 && i % 3 == 0)
            put_data(w, 1, (uint64_t)i * CHUNK_BLOCKS, 3);
        commit(w);
        seal(w, w->segment_number);
    }
    settle(w);
    assert_int_equal(index_counts(w->x).uncovered, 30 % INDEX_FAN_IN);
    for (int i = 0; i < 2; i++) {
        block_table_drop(&w->x->table, 1, 0, 100);
        look_everywhere(w, 1, 31, INDEX_NOW);
        die_and_attach(w);
        settle(w);
        assert_int_equal(index_counts(w->x).merges, 0);
    }
    close_world(w);
}

/* Intervals that reach over everything would be in each piece again: beyond a number that a look-up
 * can bear, runs stay as they are, and others are merged. */
static void too_many_intervals(void **state) {
    struct world *w = open_world(29, 1, 1 << 20);
    new_timeline(w, 1, 0, 0);
    next_segment(w);
    while (w->segment_number < 30) {
        if (w->segment_number == 4)
            put_other(w, PLACE_HOLE, 1, 0, 20 * CHUNK_BLOCKS, 0, 0);
        else
            put_data(w, 1, w->count % 20 * CHUNK_BLOCKS, 3);
        if (w->count % 20 == 0)
            commit(w);
    }
    commit(w);
    w->x->parts.merge_intervals = 100;
    distrust_all(w);
    uint32_t alerts = w->alerts;
    settle(w);
    struct index_counts n = index_counts(w->x);
    assert_true(n.merged >= 2 && n.uncovered >= 8 && n.uncovered < 16);
    assert_null(w->x->runs[3].covered_by);
    assert_int_equal(w->alerts, alerts);
    assert_int_equal(files_in_directory(w), n.merged);
    assert_no_pins(w);
    look_everywhere(w, 1, 21, w->sequence);
    look_everywhere(w, 1, 21, w->sequence / 2);
    close_world(w);
}

/* The entries of a leaf the other way round, with its checksum right. */
static void turn_round(struct world *w, uint32_t segment) {
    struct file_system fs = sim_files(w->sim);
    struct run_directory d;
    struct leaf_reader r;
    struct run_entry entries[8];
    uint32_t crc[8], count = 0;
    uint8_t *run = malloc(1 << 16), page[RUN_PAGE_BYTES];
    char path[40];
    snprintf(path, sizeof path, "log/slot-%08u", segment);
    int f = fs.ops->open(fs.ctx, path, FILE_WRITE);
    int64_t bytes = fs.ops->read(fs.ctx, f, run, 1 << 16, RUN_OFFSET);
    assert_int_equal(run_directory_open(&d, run, (uint64_t)bytes, run_identity(segment)), 0);
    assert_int_equal(d.header.leaves, 1);
    uint64_t at = (uint64_t)d.header.first_leaf_page * RUN_PAGE_BYTES;
    assert_int_equal(leaf_seek(&r, &d.tables, run + at, 0, 0), 0);
    for (; leaf_next(&r) > 0; count++) {
        assert_true(count < 8 && r.entry.blocks == 1);
        entries[count] = r.entry;
        crc[count] = get_le32(r.crc);
        entries[count].crc = &crc[count];
    }
    struct leaf_numbers n = {.base_sequence = get_le64(d.tables.segments + 8)};
    struct leaf_writer writer;
    leaf_begin(&writer, page, d.header.identity);
    assert_true(count > 2);
    while (count-- > 0)
        assert_int_equal(leaf_add(&writer, &entries[count], &n), 1);
    leaf_end(&writer, 0);
    fs.ops->write(fs.ctx, f, page, sizeof page, RUN_OFFSET + at);
    fs.ops->close(fs.ctx, f);
    run_directory_close(&d);
}

/* A run that checks and stands in the wrong order: what is merged of it could not be found. */
static void a_run_in_the_wrong_order(void **state) {
    struct world *w = open_world(30, 1, 1 << 20);
    new_timeline(w, 1, 0, 0);
    for (uint64_t i = 0; i < 12; i++) {
        next_segment(w);
        for (uint64_t c = 0; c < 5; c++)
            put_data(w, 1, c * CHUNK_BLOCKS + i, 1);
        commit(w);
        seal(w, w->segment_number);
    }
    settle(w);
    turn_round(w, 3);
    distrust_all(w);
    settle(w);
    assert_null(w->x->runs[2].covered_by);
    assert_non_null(w->x->runs[3].covered_by);
    assert_int_equal(index_counts(w->x).merged, 1);
    assert_int_equal(files_in_directory(w), 1);
    close_world(w);
}

/* A look-up goes on by itself when one merged run after the other turns out to be damaged: nobody
 * needs to come by. */
static void nobody_comes_by(void **state) {
    uint32_t waited = 0;
    for (uint64_t seed = 31; seed < 37; seed++) {
        struct world *w = many_runs(seed, 60, 20);
        settle(w);
        assert_true(level_count(w, 1) >= 5);
        for (uint32_t i = 0; i < INDEX_MERGED_MAX; i++)
            for (uint32_t k = 0; w->x->merged[i] && k < w->x->merged[i]->t.piece_count; k++)
                sim_corrupt(w->sim, w->x->merged[i]->path, w->x->merged[i]->pieces[k].offset_bytes,
                            1);
        die_and_attach(w);
        settle(w);
        struct asked q;
        ask(w, &q, 2, w->sequence, 21, UINT64_MAX);
        commit(w);
        while (!q.ended) {
            int happened = sim_step(w->sim);
            assert_true(happened || index_waits(w->x));
            waited += !happened;
            sim_jobs(w->sim).ops->reap(sim_jobs(w->sim).ctx);
            io_take(&w->io, 64);
            index_turn(w->x);
            commit(w);
        }
        compare(w, &q, w->sequence);
        close_world(w);
    }
    assert_true(waited > 0);
}

static void see_new(void *arg, const char *name) {
    *(int *)arg |= strncmp(name, "new-", 4) == 0;
}

/* A disk that becomes full while runs are merged is left to the log. */
static void the_disk_becomes_full(void **state) {
    struct world *w = many_runs(38, 12, 20);
    struct file_system fs = sim_files(w->sim);
    uint64_t total, left;
    settle(w);
    assert_int_equal(index_counts(w->x).merged, 1);
    distrust_all(w);
    for (int begun = 0, i = 0; !begun; i++) {
        step(w);
        fs.ops->list(fs.ctx, MERGE_DIR, see_new, &begun);
        assert_true(i < 1000);
    }
    assert_int_equal(fs.ops->space(fs.ctx, &total, &left), 0);
    sim_disk_limit(w->sim, total - left + MERGE_LEAVES_BYTES - MIB);
    settle(w);
    assert_int_equal(index_counts(w->x).merged, 0);
    assert_int_equal(files_in_directory(w), 0);
    assert_no_pins(w);
    look_everywhere(w, 2, 21, w->sequence);
    sim_disk_limit(w->sim, total);
    w->x->merges_wait = 0;
    settle(w);
    assert_int_equal(index_counts(w->x).merged, 1);
    close_world(w);
}

/* A table before the header would have a piece that goes once round all numbers. */
static void a_table_in_no_place(void **state) {
    struct merged_piece piece = {.offset = MERGED_PAGE_BYTES,
                                 .bytes = -(uint64_t)MERGED_PAGE_BYTES};
    struct merged_segment segment = {1, 5, 9};
    struct merged_table t = {.identity = merged_identity(1, 1),
                             .level = 1,
                             .piece_count = 1,
                             .segment_count = 1,
                             .pieces = &piece,
                             .segments = &segment};
    struct merged_table out;
    uint8_t table[256], header[MERGED_PAGE_BYTES];
    assert_true(merged_table_bytes(&t) <= sizeof table);
    merged_encode(&t, 0, table, header);
    assert_int_equal(merged_decode(header, table, &out), ERR_FORMAT);
    piece.bytes = MERGED_PAGE_BYTES;
    merged_encode(&t, 2 * MERGED_PAGE_BYTES, table, header);
    assert_int_equal(merged_decode(header, table, &out), 0);
    merged_free(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_are_merged_over_levels),
        cmocka_unit_test(changes_between_moments),
        cmocka_unit_test(more_runs_than_there_is_room_for),
        cmocka_unit_test(no_room_is_left),
        cmocka_unit_test(more_files_than_there_is_room_for),
        cmocka_unit_test(deaths_while_merging),
        cmocka_unit_test(damage_does_not_matter),
        cmocka_unit_test(a_damaged_run_is_left_alone),
        cmocka_unit_test(strange_files),
        cmocka_unit_test(freed_segments),
        cmocka_unit_test(freed_while_merging),
        cmocka_unit_test(made_again_of_other_segments),
        cmocka_unit_test(faults_at_every_call),
        cmocka_unit_test(a_directory_that_fails),
        cmocka_unit_test(a_run_that_cannot_be_read),
        cmocka_unit_test(runs_without_versions),
        cmocka_unit_test(too_many_intervals),
        cmocka_unit_test(a_run_in_the_wrong_order),
        cmocka_unit_test(nobody_comes_by),
        cmocka_unit_test(the_disk_becomes_full),
        cmocka_unit_test(a_table_in_no_place),
    };
    return cmocka_run_group_tests_name("merge", tests, NULL, NULL);
}
