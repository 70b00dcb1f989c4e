/* SPDX-License-Identifier: Apache-2.0 */
/* What clients did: sums over steps, what is kept for how long, how far back a number of bytes goes. */
#include "engine/catalogue/world_test.h"

#include "base/prng.h"
#include "base/units.h"

static struct catalogue_activities rows;

static struct catalogue_activity row_of(uint64_t volume, uint64_t time, uint64_t sequence,
                                        uint64_t bytes) {
    struct catalogue_activity row = {.volume = volume,
                                     .time = time,
                                     .first_sequence = sequence,
                                     .last_sequence = sequence,
                                     .last_ns = time * NS_PER_S + 5};
    row.counted[ACTIVITY_writes] = 1;
    row.counted[ACTIVITY_recorded_bytes] = bytes;
    row.counted[ACTIVITY_packed_bytes] = 7;
    return row;
}

static void put(struct world *w) {
    struct catalogue_request r = world_request(w, CATALOGUE_ACTIVITY, "");
    r.activities = &rows;
    assert_int_equal(world_ask(w, &r), 0);
    struct catalogue_request again = r; /* of a process that died before it knew */
    assert_int_equal(world_ask(w, &again), 0);
    rows.count = 0;
}

static void add(struct world *w, struct catalogue_activity row) {
    rows.rows[rows.count++] = row;
    if (rows.count == CATALOGUE_ROWS_MAX)
        put(w);
}

static const struct catalogue_activities *list(struct world *w, uint64_t volume, uint64_t from,
                                               uint64_t to, uint64_t step) {
    static struct catalogue_activities out;
    struct catalogue_request r = world_request(w, CATALOGUE_LIST_ACTIVITY, "");
    r.args.volumes[0] = volume;
    r.args.volume_count = 1;
    r.args.from_s = from;
    r.args.to_s = to;
    r.args.step_s = step;
    r.activities = &out;
    assert_int_equal(world_ask(w, &r), 0);
    return &out;
}

static uint64_t sum(const struct catalogue_activities *a) {
    uint64_t n = 0;
    for (uint32_t i = 0; i < a->count; i++)
        n += a->rows[i].counted[ACTIVITY_recorded_bytes];
    return n;
}

static void seconds_are_summed_by_any_step(void **state) {
    struct world w;
    world_start(&w, 1);
    uint64_t v = world_create(&w, "v", 1).id, other = world_create(&w, "w", 2).id;
    for (uint64_t s = 0; s < 300; s++)
        add(&w, row_of(v, 360000 + s, 10 + s, 1000));
    add(&w, row_of(v, 360010, 400, 500)); /* the clock was set back */
    add(&w, row_of(other, 360000, 500, 9));
    add(&w, row_of(77777, 360000, 501, 9)); /* gone meanwhile */
    put(&w);
    assert_int_equal(list(&w, v, 360000, 360300, 1)->count, CATALOGUE_ROWS_MAX);
    const struct catalogue_activities *a = list(&w, v, 360000, 360060, 1);
    assert_int_equal(a->count, 60);
    assert_int_equal(a->rows[10].counted[ACTIVITY_recorded_bytes], 1500);
    assert_int_equal(a->rows[10].first_sequence, 20);
    assert_int_equal(a->rows[10].last_sequence, 400);
    assert_int_equal(a->rows[11].last_ns, 360011 * NS_PER_S + 5);
    assert_int_equal(list(&w, v, 360000, 360300, 60)->base_s, 60);
    a = list(&w, v, 360000, 360300, 90);
    assert_int_equal(a->base_s, 1);
    assert_int_equal(a->count, 4);
    assert_int_equal(a->rows[1].counted[ACTIVITY_writes], 90);
    assert_int_equal(a->rows[1].counted[ACTIVITY_packed_bytes], 90 * 7);
    assert_int_equal(sum(a), 300500);
    a = list(&w, v, 0, INT64_MAX, 86400);
    assert_int_equal(a->base_s, 3600);
    assert_int_equal(a->count, 1);
    assert_int_equal(sum(a), 300500);
    assert_int_equal(sum(list(&w, other, 0, INT64_MAX, 3600)), 9);
    assert_int_equal(list(&w, 77777, 0, INT64_MAX, 3600)->count, 0);
    world_end(&w);
}

static void finer_steps_are_kept_for_less_long(void **state) {
    struct world w;
    world_start(&w, 2);
    uint64_t v = world_create(&w, "v", 1).id, begin = 36000000;
    add(&w, row_of(v, begin, 10, 1000));
    add(&w, row_of(v, begin + CATALOGUE_SECONDS_KEPT, 11, 1000));
    put(&w);
    assert_int_equal(list(&w, v, 0, INT64_MAX, 1)->count, 2);
    add(&w, row_of(v, begin + CATALOGUE_SECONDS_KEPT + 1, 12, 1000));
    put(&w);
    assert_int_equal(list(&w, v, 0, INT64_MAX, 1)->count, 2);
    assert_int_equal(sum(list(&w, v, 0, INT64_MAX, 60)), 3000);
    add(&w, row_of(v, begin + CATALOGUE_MINUTES_KEPT + 60, 13, 1000));
    put(&w);
    assert_int_equal(list(&w, v, 0, INT64_MAX, 1)->count, 1);
    assert_int_equal(sum(list(&w, v, 0, INT64_MAX, 60)), 3000);
    assert_int_equal(sum(list(&w, v, 0, INT64_MAX, 3600)), 4000);
    struct catalogue_request r = world_request(&w, CATALOGUE_VOLUME_PURGE, "");
    r.args.volumes[0] = v;
    r.args.volume_count = 1;
    r.args.flags = CATALOGUE_FORCE;
    assert_int_equal(world_ask(&w, &r), 0);
    assert_int_equal(list(&w, v, 0, INT64_MAX, 3600)->count, 0);
    world_end(&w);
}

static struct catalogue_row limit(struct world *w, uint64_t volume, uint64_t bytes) {
    static struct catalogue_list out;
    struct catalogue_request set = world_request(w, CATALOGUE_VOLUME_SET, "");
    set.args.volumes[0] = volume;
    set.args.volume_count = 1;
    set.args.flags = CATALOGUE_SET_RETAIN_BYTES | CATALOGUE_KEEP_DURABILITY;
    set.args.retain_bytes = bytes;
    assert_int_equal(world_ask(w, &set), 0);
    struct catalogue_request r = world_request(w, CATALOGUE_LIMITS, "");
    r.list = &out;
    assert_int_equal(world_ask(w, &r), 0);
    assert_int_equal(out.count, bytes > 0);
    assert_int_equal(out.rows[0].volume, volume);
    assert_int_equal(out.rows[0].size_bytes, bytes);
    return out.rows[0];
}

/* Against the rows themselves: after the moment is no more than the limit; one row earlier, as finely as
 * it is kept, would be more. */
static void the_limit_is_as_close_as_what_is_kept(void **state) {
    struct world w;
    world_start(&w, 3);
    uint64_t v = world_create(&w, "v", 1).id;
    struct prng p = prng_seed(3);
    uint64_t times[600], bytes[600], now = 36000000;
    for (uint32_t i = 0; i < 600; i++) {
        times[i] = now;
        bytes[i] = 1 + prng_below(&p, 5000);
        add(&w, row_of(v, now, 1000 + i, bytes[i]));
        now += 1 + prng_below(&p, i % 200 == 0 ? 20000 : 40);
    }
    put(&w);
    uint64_t last = times[599], fine = 0, coarse = 0, all = 0;
    for (uint32_t i = 0; i < 600; i++)
        all += bytes[i];
    assert_int_equal(limit(&w, v, all).sequence, 0);
    for (int n = 0; n < 300; n++) {
        uint64_t most = 1 + prng_below(&p, all - 1), after = 0, more = 0;
        struct catalogue_row row = limit(&w, v, most);
        assert_in_range(row.sequence, 1000, 1599);
        uint32_t at = (uint32_t)row.sequence - 1000;
        assert_int_equal(row.time_ns, times[at] * NS_PER_S + 5);
        for (uint32_t i = at + 1; i < 600; i++)
            after += bytes[i];
        assert_true(after <= most);
        int is_fine = times[at] + CATALOGUE_SECONDS_KEPT >= last;
        uint64_t step = is_fine ? 1 : 60;
        for (uint32_t i = 0; i < 600; i++)
            more += times[i] >= times[at] - times[at] % step ? bytes[i] : 0;
        assert_true(more > most);
        fine += (uint64_t)is_fine;
        coarse += !is_fine;
    }
    assert_true(fine > 20 && coarse > 20);
    world_end(&w);
}

/* What was recorded last counts first, whatever the clock showed. */
static void the_limit_goes_by_records(void **state) {
    struct world w;
    world_start(&w, 4);
    uint64_t v = world_create(&w, "v", 1).id;
    add(&w, row_of(v, 36004000, 1000, 600)); /* the clock was wrong */
    add(&w, row_of(v, 36000000, 1001, 300));
    add(&w, row_of(v, 36000001, 1002, 300));
    put(&w);
    assert_int_equal(limit(&w, v, 500).sequence, 1001);
    assert_int_equal(limit(&w, v, 700).sequence, 1000);
    assert_int_equal(limit(&w, v, 299).sequence, 1002);
    world_end(&w);
}

static void rate(struct world *w, uint64_t from, uint64_t to, uint64_t bytes, uint64_t seconds) {
    struct catalogue_request r = world_request(w, CATALOGUE_RATE, "");
    r.args.from_s = from;
    r.args.to_s = to;
    assert_int_equal(world_ask(w, &r), 0);
    assert_int_equal(r.out.words[0], bytes);
    assert_int_equal(r.out.words[1], seconds);
}

static void how_much_is_recorded(void **state) {
    struct world w;
    world_start(&w, 5);
    uint64_t v = world_create(&w, "v", 1).id, u = world_create(&w, "u", 2).id;
    uint64_t made = clock_wall_ns(&w.c.clock) / NS_PER_S, hour = (made / 3600 + 1) * 3600;
    rate(&w, made - 100, made + 50, 0, 50);
    add(&w, row_of(v, hour, 1000, 600));
    add(&w, row_of(v, hour + 3599, 1001, 1));
    add(&w, row_of(u, hour + 7200, 1002, 20));
    put(&w);
    rate(&w, hour, hour + 3600, 601, 3600);
    rate(&w, hour, hour + 86400, 621, 86400);
    rate(&w, hour + 3600, hour + 86400, 20, 86400 - 3600);
    rate(&w, 5, 4, 0, 0);
    world_end(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(seconds_are_summed_by_any_step),
        cmocka_unit_test(finer_steps_are_kept_for_less_long),
        cmocka_unit_test(the_limit_is_as_close_as_what_is_kept),
        cmocka_unit_test(the_limit_goes_by_records),
        cmocka_unit_test(how_much_is_recorded),
    };
    return cmocka_run_group_tests_name("catalogue_activity", tests, NULL, NULL);
}
