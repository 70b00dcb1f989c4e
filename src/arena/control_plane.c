/* SPDX-License-Identifier: Apache-2.0 */
#include "arena/control_plane.h"

#include <string.h>

#include "base/err.h"
#include "base/must.h"
#include "base/units.h"

LAYOUT_FIELDS(lane, LANE_FIELDS)
const struct arena_table_spec lane_spec = TABLE_SPEC(lane, TABLE_LANE, 1);

/* Parts of a lane are saved separately and once a turn; a lane as a whole would fill the undo
 * log. */
static const struct lane *view(const struct cp_lanes *cp, const struct cp_lane *l) {
    return arena_view(cp->arena, TABLE_LANE, l->lane.v);
}

static struct lane *edit_header(struct cp_lanes *cp, struct cp_lane *l) {
    if (l->header_turn == cp->arena->turn)
        return (struct lane *)(void *)arena_slot_at(cp->arena, TABLE_LANE, handle_index(l->lane.v));
    l->header_turn = cp->arena->turn;
    return arena_edit_part(cp->arena, TABLE_LANE, l->lane.v, 0, offsetof(struct lane, senders));
}

static struct lane_sender *edit_sender(struct cp_lanes *cp, struct cp_lane *l, uint32_t i) {
    uint32_t offset = (uint32_t)(offsetof(struct lane, senders) + i * sizeof(struct lane_sender));
    struct lane *s =
        l->sender_turn[i] == cp->arena->turn
            ? (void *)arena_slot_at(cp->arena, TABLE_LANE, handle_index(l->lane.v))
            : arena_edit_part(cp->arena, TABLE_LANE, l->lane.v, offset, sizeof *s->senders);
    l->sender_turn[i] = cp->arena->turn;
    return &s->senders[i];
}

static struct lane_message *edit_message(struct cp_lanes *cp, struct cp_lane *l,
                                         uint64_t position) {
    uint32_t i = (uint32_t)(position % LANE_PLACES);
    uint32_t offset = (uint32_t)(offsetof(struct lane, ring) + i * sizeof(struct lane_message));
    struct lane *s = arena_edit_part(cp->arena, TABLE_LANE, l->lane.v, offset, sizeof *s->ring);
    return &s->ring[i];
}

static const struct lane_message *message(const struct lane *s, uint64_t position) {
    return &s->ring[position % LANE_PLACES];
}

static int has_place(const struct lane *s, uint32_t sender) {
    return s->tail - s->head < LANE_PLACES &&
           (s->senders[sender].used < s->per_sender || s->slop_used < s->slop);
}

static int lane_is_sound(const struct lane *s) {
    uint32_t used[CP_SENDERS_MAX] = {0}, slop = 0;
    if (s->slot.state != LANE_OPEN || s->head > s->tail || s->tail - s->head > LANE_PLACES)
        return 0;
    for (uint64_t p = s->head; p < s->tail; p++) {
        const struct lane_message *m = message(s, p);
        if (m->sender >= CP_SENDERS_MAX || m->state < LANE_QUEUED || m->state > LANE_RELEASED ||
            (m->state == LANE_RELEASED && p == s->head))
            return 0;
        used[m->sender] += m->state != LANE_RELEASED;
    }
    for (uint32_t i = 0; i < CP_SENDERS_MAX; i++) {
        const struct lane_sender *sender = &s->senders[i];
        if (used[i] != sender->used || sender->told > sender->sent ||
            (sender->number == 0 && (used[i] > 0 || s->waiting >> i & 1)))
            return 0;
        slop += used[i] > s->per_sender ? used[i] - s->per_sender : 0;
    }
    return slop == s->slop_used && slop <= s->slop && s->waiting >> CP_SENDERS_MAX == 0;
}

int cp_lanes_open(struct cp_lanes *cp, struct arena *arena) {
    uint32_t n = 0;
    memset(cp, 0, sizeof *cp);
    cp->arena = arena;
    for (uint32_t h = arena_next(arena, TABLE_LANE, 0); h; h = arena_next(arena, TABLE_LANE, h)) {
        if (n == LANES_MAX || !lane_is_sound(arena_view(arena, TABLE_LANE, h)))
            return ERR_FORMAT;
        cp->lanes[n].lane.v = h;
        cp->lanes[n].enabled = -1;
        n++;
    }
    return 0;
}

static struct cp_lane *find(struct cp_lanes *cp, struct cp_group group) {
    for (uint32_t i = 0; i < LANES_MAX; i++) {
        struct cp_lane *l = &cp->lanes[i];
        if (l->lane.v && view(cp, l)->group_id == group.id &&
            view(cp, l)->group_instance == group.instance)
            return l;
    }
    return NULL;
}

static struct cp_lane *lane_make(struct cp_lanes *cp, struct cp_group group,
                                 const struct cp_limits *limits) {
    struct cp_lane *l = cp->lanes;
    /* A connection to a group that has ended still says so. */
    while (l < cp->lanes + LANES_MAX && (l->lane.v || l->connected))
        l++;
    if (l == cp->lanes + LANES_MAX || limits->per_sender == 0 ||
        (uint64_t)limits->per_sender + limits->slop > LANE_PLACES)
        return NULL;
    uint32_t h = arena_new(cp->arena, TABLE_LANE, LANE_OPEN);
    if (h == 0)
        return NULL;
    struct lane *s = arena_edit(cp->arena, TABLE_LANE, h);
    s->group_id = group.id;
    s->group_instance = group.instance;
    s->per_sender = limits->per_sender;
    s->slop = limits->slop;
    memset(l, 0, sizeof *l);
    l->lane.v = h;
    l->enabled = -1;
    return l;
}

static int listen_group(void *ctx, struct cp_group group, const struct cp_limits *limits) {
    struct cp_lanes *cp = ctx;
    struct cp_lane *l = find(cp, group);
    if (!l && !(l = lane_make(cp, group, limits)))
        return ERR_NOMEM;
    for (int i = 0; i < CP_LISTENERS_MAX; i++) {
        if (!l->listeners[i].registered) {
            l->listeners[i] = (struct cp_listener){.registered = 1};
            return (int)(l - cp->lanes) * CP_LISTENERS_MAX + i;
        }
    }
    return ERR_NOMEM;
}

static struct cp_lane *lane_of_listener(struct cp_lanes *cp, int listener) {
    must(listener >= 0 && listener < LANES_MAX * CP_LISTENERS_MAX);
    struct cp_lane *l = &cp->lanes[listener / CP_LISTENERS_MAX];
    must(l->lane.v && l->listeners[listener % CP_LISTENERS_MAX].registered);
    return l;
}

static struct cp_lane *lane_of_enabled(struct cp_lanes *cp, int listener) {
    struct cp_lane *l = lane_of_listener(cp, listener);
    must(l->enabled == listener % CP_LISTENERS_MAX);
    return l;
}

static int enable(void *ctx, int listener, const struct cp_listener_calls *calls) {
    struct cp_lanes *cp = ctx;
    struct cp_lane *l = lane_of_listener(cp, listener);
    must(calls->max_msgs > 0 && calls->ready != NULL);
    if (l->enabled >= 0 && l->enabled != listener % CP_LISTENERS_MAX)
        return ERR_BUSY;
    l->enabled = listener % CP_LISTENERS_MAX;
    l->listeners[l->enabled].calls = *calls;
    l->cursor = view(cp, l)->head;
    l->called = l->waits = 0;
    return 0;
}

static void disable(void *ctx, int listener) {
    struct cp_lanes *cp = ctx;
    struct cp_lane *l = lane_of_listener(cp, listener);
    if (l->enabled == listener % CP_LISTENERS_MAX)
        l->enabled = -1;
}

static void unlisten(void *ctx, int listener) {
    struct cp_lanes *cp = ctx;
    struct cp_lane *l = lane_of_listener(cp, listener);
    disable(ctx, listener);
    l->listeners[listener % CP_LISTENERS_MAX].registered = 0;
    for (int i = 0; i < CP_LISTENERS_MAX; i++) {
        if (l->listeners[i].registered)
            return;
    }
    arena_free(cp->arena, TABLE_LANE, l->lane.v);
    l->lane.v = 0;
}

/* The place of a released message is its sender's again. */
static void give_back(struct cp_lanes *cp, struct cp_lane *l, struct lane *s, uint32_t sender) {
    struct lane_sender *from = edit_sender(cp, l, sender);
    if (from->used-- > s->per_sender)
        s->slop_used--;
    if (from->used == 0 && from->leaving)
        from->number = 0;
}

static void advance_head(struct cp_lane *l, struct lane *s) {
    while (s->head < l->cursor && message(s, s->head)->state == LANE_RELEASED)
        s->head++;
}

static void copy_out(const struct lane *s, uint64_t position, struct cp_msg *out) {
    const struct lane_message *m = message(s, position);
    *out = (struct cp_msg){.type = m->type,
                           .flags = m->flags,
                           .word = m->word,
                           .id = position,
                           .sender = s->senders[m->sender].number,
                           .seen = m->state == LANE_RECEIVED ? CP_SEEN : 0};
}

static int receive(void *ctx, int listener, struct cp_msg *out, int max) {
    struct cp_lanes *cp = ctx;
    struct cp_lane *l = lane_of_enabled(cp, listener);
    const struct lane *s = view(cp, l);
    int n = 0;
    for (; n < max && l->cursor < s->tail; l->cursor++) {
        if (message(s, l->cursor)->state == LANE_RELEASED)
            continue;
        copy_out(s, l->cursor, &out[n++]);
        struct lane_message *m = edit_message(cp, l, l->cursor);
        m->state = LANE_RECEIVED;
        m->refs = 1;
    }
    l->waits &= l->cursor < s->tail;
    return n;
}

/* As long as nothing is held, only the head moves: the entries stay as they are. */
static int take(void *ctx, int listener, struct cp_msg *out, int max) {
    struct cp_lanes *cp = ctx;
    struct cp_lane *l = lane_of_enabled(cp, listener);
    int n = 0;
    if (l->cursor == view(cp, l)->tail || max <= 0)
        return 0;
    struct lane *s = edit_header(cp, l);
    for (; n < max && l->cursor < s->tail; l->cursor++) {
        if (message(s, l->cursor)->state == LANE_RELEASED) {
            s->head += s->head == l->cursor;
            continue;
        }
        copy_out(s, l->cursor, &out[n++]);
        give_back(cp, l, s, message(s, l->cursor)->sender);
        if (s->head == l->cursor)
            s->head++;
        else
            edit_message(cp, l, l->cursor)->state = LANE_RELEASED;
    }
    advance_head(l, s);
    l->waits &= l->cursor < s->tail;
    return n;
}

static struct lane_message *edit_received(struct cp_lanes *cp, struct cp_lane *l, uint64_t id) {
    const struct lane *s = view(cp, l);
    must(id >= s->head && id < l->cursor && message(s, id)->state == LANE_RECEIVED);
    return edit_message(cp, l, id);
}

static void hold(void *ctx, int listener, uint64_t id) {
    struct cp_lanes *cp = ctx;
    struct lane_message *m = edit_received(cp, lane_of_enabled(cp, listener), id);
    must(m->refs < UINT16_MAX);
    m->refs++;
}

static void release(void *ctx, int listener, uint64_t id) {
    struct cp_lanes *cp = ctx;
    struct cp_lane *l = lane_of_enabled(cp, listener);
    struct lane_message *m = edit_received(cp, l, id);
    must(m->refs > 0);
    if (--m->refs > 0)
        return;
    m->state = LANE_RELEASED;
    struct lane *s = edit_header(cp, l);
    give_back(cp, l, s, m->sender);
    advance_head(l, s);
}

static int connect_group(void *ctx, struct cp_group group, uint16_t sender,
                         const struct cp_sender_calls *calls) {
    struct cp_lanes *cp = ctx;
    struct cp_lane *l = find(cp, group);
    must(sender != 0);
    if (!l)
        return ERR_NOTFOUND;
    const struct lane *s = view(cp, l);
    uint32_t at = CP_SENDERS_MAX, count = 1;
    for (uint32_t i = CP_SENDERS_MAX; i-- > 0;) {
        if (s->senders[i].number == 0 && at == CP_SENDERS_MAX)
            at = i;
        count += s->senders[i].number != 0;
    }
    for (uint32_t i = 0; i < CP_SENDERS_MAX; i++) {
        if (s->senders[i].number == sender) {
            at = i;
            count = 0;
        }
    }
    if (at == CP_SENDERS_MAX || (uint64_t)count * s->per_sender + s->slop > LANE_PLACES)
        return ERR_NOMEM;
    if (count > 0)
        *edit_sender(cp, l, at) = (struct lane_sender){.number = sender};
    else if (s->senders[at].leaving)
        edit_sender(cp, l, at)->leaving = 0;
    l->senders[at] = *calls;
    l->connected |= 1u << at;
    return (int)(l - cp->lanes) * CP_SENDERS_MAX + (int)at;
}

static struct cp_lane *lane_of_connection(struct cp_lanes *cp, int connection) {
    must(connection >= 0 && connection < LANES_MAX * CP_SENDERS_MAX);
    return &cp->lanes[connection / CP_SENDERS_MAX];
}

/* The sender's place in the lane is kept until its last message is released. */
static void disconnect(void *ctx, int connection) {
    struct cp_lanes *cp = ctx;
    struct cp_lane *l = lane_of_connection(cp, connection);
    uint32_t i = (uint32_t)connection % CP_SENDERS_MAX;
    l->connected &= ~(1u << i);
    if (!l->lane.v)
        return;
    edit_header(cp, l)->waiting &= ~(1u << i);
    struct lane_sender *sender = edit_sender(cp, l, i);
    sender->leaving = 1;
    if (sender->used == 0)
        sender->number = 0;
}

static int send_message(void *ctx, int connection, uint16_t type, uint16_t flags, uint64_t word) {
    struct cp_lanes *cp = ctx;
    struct cp_lane *l = lane_of_connection(cp, connection);
    uint32_t i = (uint32_t)connection % CP_SENDERS_MAX;
    must(l->connected >> i & 1);
    if (!l->lane.v)
        return ERR_CLOSED;
    struct lane *s = edit_header(cp, l);
    if (!has_place(s, i)) {
        s->waiting |= 1u << i;
        return ERR_AGAIN;
    }
    struct lane_sender *sender = edit_sender(cp, l, i);
    if (sender->used++ >= s->per_sender)
        s->slop_used++;
    sender->sent++;
    *edit_message(cp, l, s->tail) = (struct lane_message){
        .type = type, .flags = flags, .sender = (uint8_t)i, .state = LANE_QUEUED, .word = word};
    s->tail++;
    return 0;
}

/* One sender that has something to be told. */
static int tell_a_sender(struct cp_lanes *cp, struct cp_lane *l) {
    const struct lane *s = view(cp, l);
    for (uint32_t i = 0; i < CP_SENDERS_MAX; i++) {
        const struct cp_sender_calls *calls = &l->senders[i];
        if (!(l->connected >> i & 1))
            continue;
        if (calls->delivered && s->senders[i].told < s->senders[i].sent) {
            edit_sender(cp, l, i)->told = s->senders[i].sent;
            calls->delivered(calls->arg, s->senders[i].sent);
            return 1;
        }
        if (s->waiting >> i & 1 && has_place(s, i)) {
            edit_header(cp, l)->waiting &= ~(1u << i);
            if (calls->room) {
                calls->room(calls->arg);
                return 1;
            }
        }
    }
    return 0;
}

/* When the enabled listener is to be called: 0 now, UINT64_MAX if nothing waits. */
static uint64_t ready_at(const struct cp_lane *l, const struct lane *s) {
    if (l->enabled < 0 || l->cursor == s->tail)
        return UINT64_MAX;
    const struct cp_listener_calls *calls = &l->listeners[l->enabled].calls;
    int moved = !l->called || l->cursor != l->seen_cursor || s->tail != l->seen_tail;
    if (moved && (s->tail - l->cursor >= calls->max_msgs || calls->max_usecs == 0))
        return 0;
    /* At least a tick later: a receiver that takes nothing does not hold the loop. */
    return l->waits ? l->since_ns + max_u64(calls->max_usecs * NS_PER_US, 1) : 0;
}

static int call_listener(struct cp_lanes *cp, struct cp_lane *l, uint64_t now_ns) {
    const struct lane *s = view(cp, l);
    if (l->enabled < 0 || l->cursor == s->tail) {
        l->waits = 0;
        return 0;
    }
    const struct cp_listener_calls *calls = &l->listeners[l->enabled].calls;
    if (!l->waits) {
        l->waits = 1;
        l->called = 0;
        l->since_ns = now_ns;
    }
    if (ready_at(l, s) > now_ns)
        return 0;
    l->called = 1;
    l->since_ns = now_ns;
    l->seen_cursor = l->cursor;
    l->seen_tail = s->tail;
    calls->ready(calls->arg, (int)(l - cp->lanes) * CP_LISTENERS_MAX + l->enabled);
    return 1;
}

static int dispatch(void *ctx, uint64_t now_ns) {
    struct cp_lanes *cp = ctx;
    for (uint32_t k = 0; k < LANES_MAX; k++) {
        uint32_t i = (cp->next + k) % LANES_MAX;
        struct cp_lane *l = &cp->lanes[i];
        if (l->lane.v && (tell_a_sender(cp, l) || call_listener(cp, l, now_ns))) {
            cp->next = (i + 1) % LANES_MAX;
            return 1;
        }
    }
    return 0;
}

static uint64_t next_ns(void *ctx) {
    struct cp_lanes *cp = ctx;
    uint64_t next = UINT64_MAX;
    for (uint32_t i = 0; i < LANES_MAX; i++) {
        const struct cp_lane *l = &cp->lanes[i];
        if (!l->lane.v)
            continue;
        const struct lane *s = view(cp, l);
        for (uint32_t k = 0; k < CP_SENDERS_MAX; k++) {
            if (l->connected >> k & 1 &&
                ((l->senders[k].delivered && s->senders[k].told < s->senders[k].sent) ||
                 (s->waiting >> k & 1 && has_place(s, k))))
                return 0;
        }
        next = min_u64(next, ready_at(l, s));
    }
    return next;
}

static const struct control_plane_ops lane_ops = {
    .listen = listen_group,
    .enable = enable,
    .disable = disable,
    .unlisten = unlisten,
    .receive = receive,
    .take = take,
    .hold = hold,
    .release = release,
    .connect = connect_group,
    .disconnect = disconnect,
    .send = send_message,
    .dispatch = dispatch,
    .next_ns = next_ns,
};

struct control_plane cp_lanes_interface(struct cp_lanes *cp) {
    return (struct control_plane){&lane_ops, cp};
}
