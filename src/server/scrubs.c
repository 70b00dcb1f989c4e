/* SPDX-License-Identifier: Apache-2.0 */
/* The operations on scrubs (engine/scrub.h). */
#include "server/perdured.h"
#include "server/reply.h"

static uint32_t sealed(const struct perdured *p) {
    const struct arena *a = &p->core.r.a;
    uint32_t n = 0;
    for (struct segment_h h = segment_next(a, (struct segment_h){0}); h.v; h = segment_next(a, h))
        n += segment_view(a, h)->slot.state == SEGMENT_SEALED;
    return n;
}

static int show(struct perdured *p, const struct ctl_request *q) {
    struct scrub_state s = scrub_state(p->scrub);
    uint32_t files = sealed(p) + index_counts(p->index).merged;
    return reply_now(p, q,
                     json_pack("{s:b,s:I,s:I,s:I,s:I,s:I,s:o,s:o}", "running", s.is_running,
                               "files", (json_int_t)s.files, "of_files", (json_int_t)files, "bytes",
                               (json_int_t)s.bytes, "damaged_files", (json_int_t)s.damaged,
                               "mended_files", (json_int_t)s.mended, "began_at",
                               reply_time(s.began_ns), "ended_at", reply_time(s.ended_ns)));
}

int scrub_start_handler(void *ctx, const struct ctl_request *q) {
    struct perdured *p = ctx;
    scrub_begin(p->scrub);
    return show(p, q);
}

int scrub_stop_handler(void *ctx, const struct ctl_request *q) {
    struct perdured *p = ctx;
    scrub_stop(p->scrub);
    return show(p, q);
}

int scrub_show_handler(void *ctx, const struct ctl_request *q) {
    return show(ctx, q);
}
