/* SPDX-License-Identifier: Apache-2.0 */
#include "server/pauses.h"

uint32_t pauses_step(uint64_t pause_ns) {
    uint32_t step = 0;
    while (step + 1 < PAUSE_STEPS && pause_ns >= pauses_step_end(step))
        step++;
    return step;
}

uint64_t pauses_step_end(uint32_t step) {
    return step + 1 < PAUSE_STEPS ? PAUSE_STEP_NS << step : 0;
}

void pauses_note(struct server *s, const struct pause *p) {
    s->pauses[(s->reloads + s->crashes) % SERVER_PAUSES] = *p;
    s->last_pause_ns = p->pause_ns;
    s->longest_pause_ns = max_u64(s->longest_pause_ns, p->pause_ns);
    s->conns_closed += p->closed;
    uint32_t *steps = p->is_uninvited ? s->uninvited : s->planned;
    steps[pauses_step(p->pause_ns)]++;
    if (p->is_uninvited)
        s->crashes++;
    else
        s->reloads++;
}

uint64_t pauses_quantile(const uint32_t steps[PAUSE_STEPS], uint32_t thousandths) {
    uint64_t all = 0, seen = 0;
    for (uint32_t i = 0; i < PAUSE_STEPS; i++)
        all += steps[i];
    for (uint32_t i = 0; i < PAUSE_STEPS; i++) {
        seen += steps[i];
        if (seen > 0 && seen * 1000 >= all * thousandths)
            return i + 1 < PAUSE_STEPS ? pauses_step_end(i) : UINT64_MAX;
    }
    return 0;
}
