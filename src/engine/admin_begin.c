/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked is checked as far as the slots tell, and all that a committed operation will need of
 * the tables is taken now, as it cannot fail then. */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/must.h"
#include "engine/admin_priv.h"

/* Bytes of a name in its field; 0: it is empty, or its end is missing. */
static size_t name_bytes(const char *name) {
    const char *end = memchr(name, 0, VOLUME_NAME_BYTES);
    return end ? (size_t)(end - name) : 0;
}

static int name_is_sound(const char *name) {
    size_t n = name_bytes(name);
    return n > 0 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == n;
}

static int take_name(struct admin *ad, struct operation_h h, const char *name) {
    if (!name_is_sound(name))
        return admin_refuse(ad, h, ERR_INVAL, "a name has 1 to %d of a-z, 0-9 and '-'",
                            VOLUME_NAME_BYTES - 1);
    memcpy(operation_edit(ad->c.a, h)->name, name, strlen(name) + 1);
    return 0;
}

static int take_label(struct admin *ad, struct operation_h h, uint8_t *out, const char *label) {
    size_t n = name_bytes(label);
    if (n == 0)
        return admin_refuse(ad, h, ERR_INVAL, "a mark's name has 1 to %d bytes",
                            VOLUME_NAME_BYTES - 1);
    memcpy(out, label, n + 1);
    return 0;
}

static int check_size(struct admin *ad, struct operation_h h, uint64_t size_bytes) {
    if (size_bytes == 0 || size_bytes % BLOCK_BYTES != 0)
        return admin_refuse(ad, h, ERR_INVAL, "a size is a multiple of %u bytes, and not 0",
                            BLOCK_BYTES);
    if (size_bytes > ADMIN_VOLUME_BYTES_MAX)
        return admin_refuse(ad, h, ERR_TOOBIG, "a volume has at most 64 PiB");
    return 0;
}

/* The volumes by name: one of those that are served (or wait for accept-loss), or one in the trash.
 */
static int take_volumes(struct admin *ad, struct operation_h h, const struct admin_request *q,
                        uint32_t max, int trashed_too) {
    struct operation *op = operation_edit(ad->c.a, h);
    if (q->volume_count == 0 || q->volume_count > max)
        return admin_refuse(ad, h, ERR_INVAL, "this takes 1 to %u volumes", max);
    for (uint32_t i = 0; i < q->volume_count; i++) {
        const char *name = q->volumes[i];
        if (!name_is_sound(name))
            return admin_refuse(ad, h, ERR_INVAL, "a name has 1 to %d of a-z, 0-9 and '-'",
                                VOLUME_NAME_BYTES - 1);
        struct volume_h v = volumes_find(ad->c.a, name);
        if (!v.v)
            return admin_refuse(ad, h, ERR_NOTFOUND, "no volume is called %s", name);
        uint16_t state = volume_view(ad->c.a, v)->slot.state;
        if (state == VOLUME_DELETED && !trashed_too)
            return admin_refuse(ad, h, ERR_NOTFOUND, "%s is in the trash", name);
        for (uint32_t k = 0; k < i; k++) {
            if (volume_h_same(op->volumes[k], v))
                return admin_refuse(ad, h, ERR_INVAL, "%s is named twice", name);
        }
        op->volumes[i] = v;
        op->volume_count = i + 1;
    }
    return 0;
}

static int take_image(struct admin *ad, struct operation_h h, const char *name) {
    struct operation *op = operation_edit(ad->c.a, h);
    struct volume_h v = {0};
    while ((v = volume_next(ad->c.a, v)).v) {
        const struct volume *s = volume_view(ad->c.a, v);
        if (s->slot.state == VOLUME_CREATING || !(s->flags & VOLUME_IMAGE) ||
            strncmp((const char *)s->name, name, VOLUME_NAME_BYTES) != 0)
            continue;
        if (op->volume_count == OPERATION_VOLUMES_MAX)
            return admin_refuse(ad, h, ERR_TOOBIG, "%.63s has too many disks", name);
        op->volumes[op->volume_count++] = v;
    }
    if (op->volume_count == 0)
        return admin_refuse(ad, h, ERR_NOTFOUND, "no open image is called %.63s", name);
    return 0;
}

static int take_moment(struct admin *ad, struct operation_h h, const struct admin_request *q) {
    struct operation *op = operation_edit(ad->c.a, h);
    op->moment_kind = q->moment_kind;
    op->moment = q->moment;
    return q->moment_kind == OPERATION_AT_MARK ? take_label(ad, h, op->label, q->label) : 0;
}

static int reserve(struct admin *ad, struct operation_h h, uint32_t volumes, uint32_t lines) {
    struct operation *op = operation_edit(ad->c.a, h);
    for (uint32_t i = 0; i < volumes; i++) {
        op->made[i] = volume_new(ad->c.a, VOLUME_CREATING);
        if (!op->made[i].v)
            return admin_refuse(ad, h, ERR_NOMEM, "the table of volumes and images is full");
    }
    for (uint32_t i = 0; i < lines; i++) {
        op->made_lines[i] = timeline_new(ad->c.a, TIMELINE_CREATING);
        if (!op->made_lines[i].v)
            return admin_refuse(ad, h, ERR_NOMEM, "the table of timelines is full");
    }
    return 0;
}

/* How much history the volume is to keep. */
static int take_policy(struct admin *ad, struct operation_h h, const struct admin_request *q) {
    struct operation *op = operation_edit(ad->c.a, h);
    if (q->retain_ns > 0 && q->retain_ns < ADMIN_RETAIN_NS_MIN)
        return admin_refuse(ad, h, ERR_INVAL, "a volume keeps at least one second of its history");
    if (q->retain_ns > INT64_MAX || q->retain_bytes > INT64_MAX)
        return admin_refuse(ad, h, ERR_TOOBIG, "no volume can keep that much history");
    if (!thinning_is_valid(q->thinning))
        return admin_refuse(ad, h, ERR_INVAL, "that is no way to thin history");
    memcpy(op->thinning, q->thinning, sizeof op->thinning);
    op->retain_ns = q->retain_ns;
    op->retain_bytes = q->retain_bytes;
    return 0;
}

static int check_set(struct admin *ad, struct operation_h h, const struct admin_request *q) {
    int rc = take_volumes(ad, h, q, 1, 0);
    return rc < 0 ? rc : take_policy(ad, h, q);
}

static int check_create(struct admin *ad, struct operation_h h, const struct admin_request *q) {
    struct operation *op = operation_edit(ad->c.a, h);
    int rc = take_name(ad, h, q->name);
    if (rc == 0)
        rc = check_size(ad, h, q->size_bytes);
    if (rc == 0)
        rc = take_policy(ad, h, q);
    if (rc < 0)
        return rc;
    if (q->block_size != SECTOR_BYTES && q->block_size != BLOCK_BYTES)
        return admin_refuse(ad, h, ERR_INVAL, "a block has 512 or 4096 bytes");
    if (volumes_find(ad->c.a, q->name).v)
        return admin_refuse(ad, h, ERR_EXISTS, "a volume is called %s already", q->name);
    op->size_bytes = q->size_bytes;
    op->block_size = q->block_size;
    ad->c.random.ops->fill(ad->c.random.ctx, op->uuid, sizeof op->uuid);
    return reserve(ad, h, 1, 1);
}

static int check_resize(struct admin *ad, struct operation_h h, const struct admin_request *q) {
    int rc = take_volumes(ad, h, q, 1, 0);
    if (rc == 0)
        rc = check_size(ad, h, q->size_bytes);
    if (rc < 0)
        return rc;
    struct operation *op = operation_edit(ad->c.a, h);
    op->size_bytes = q->size_bytes;
    if (q->size_bytes < volume_view(ad->c.a, op->volumes[0])->size_bytes &&
        !(q->flags & OPERATION_FORCE))
        return admin_refuse(ad, h, ERR_REFUSED, "%s would become smaller",
                            admin_name(ad, op->volumes[0]));
    return 0;
}

static int check_image_open(struct admin *ad, struct operation_h h, const struct admin_request *q) {
    struct operation *op = operation_edit(ad->c.a, h);
    int rc = take_volumes(ad, h, q, OPERATION_VOLUMES_MAX, 0);
    /* Which of its moments are whole, nobody knows yet. */
    for (uint32_t i = 0; rc == 0 && i < op->volume_count; i++)
        if (volume_view(ad->c.a, op->volumes[i])->slot.state == VOLUME_LOST)
            return admin_refuse(ad, h, ERR_REFUSED, "%s waits for accept-loss",
                                admin_name(ad, op->volumes[i]));
    if (rc == 0)
        rc = take_moment(ad, h, q);
    if (rc == 0 && q->name[0])
        rc = take_name(ad, h, q->name);
    op->lease_ns = q->lease_ns;
    return rc < 0 ? rc : reserve(ad, h, q->volume_count, q->volume_count);
}

static int check_promote(struct admin *ad, struct operation_h h, const struct admin_request *q) {
    struct operation *op = operation_edit(ad->c.a, h);
    int rc = take_image(ad, h, q->image);
    if (rc == 0)
        rc = take_name(ad, h, q->name);
    if (rc < 0)
        return rc;
    if (op->volume_count > 1)
        return admin_refuse(ad, h, ERR_INVAL,
                            "%.63s shows %u volumes, and only an image of one "
                            "can become a volume",
                            q->image, op->volume_count);
    if (volumes_find(ad->c.a, q->name).v)
        return admin_refuse(ad, h, ERR_EXISTS, "a volume is called %s already", q->name);
    ad->c.random.ops->fill(ad->c.random.ctx, op->uuid, sizeof op->uuid);
    return 0;
}

static int check_restore(struct admin *ad, struct operation_h h, const struct admin_request *q) {
    struct operation *op = operation_edit(ad->c.a, h);
    uint32_t max = q->kind == OPERATION_RESTORE ? OPERATION_VOLUMES_MAX : 1;
    int rc = take_volumes(ad, h, q, max, 0);
    if (rc == 0)
        rc = take_moment(ad, h, q);
    if (rc < 0)
        return rc;
    if (q->kind == OPERATION_RESTORE)
        return q->flags & OPERATION_DRY_RUN ? 0 : reserve(ad, h, 0, q->volume_count);
    const struct volume *v = volume_view(ad->c.a, op->volumes[0]);
    if (q->offset_bytes % BLOCK_BYTES || q->length_bytes % BLOCK_BYTES || q->length_bytes == 0)
        return admin_refuse(ad, h, ERR_INVAL, "a range begins and ends at multiples of %u bytes",
                            BLOCK_BYTES);
    if (q->offset_bytes > v->size_bytes || q->length_bytes > v->size_bytes - q->offset_bytes)
        return admin_refuse(ad, h, ERR_RANGE, "the range goes beyond the end of %s", v->name);
    op->offset_bytes = q->offset_bytes;
    op->length_bytes = q->length_bytes;
    return 0;
}

int admin_check(struct admin *ad, struct operation_h h, const struct admin_request *q) {
    struct operation *op = operation_edit(ad->c.a, h);
    int rc = 0;
    switch (q->kind) {
    case OPERATION_VOLUME_CREATE:
        return check_create(ad, h, q);
    case OPERATION_VOLUME_RESIZE:
        return check_resize(ad, h, q);
    case OPERATION_VOLUME_SET:
        return check_set(ad, h, q);
    case OPERATION_VOLUME_DELETE:
        rc = take_volumes(ad, h, q, 1, (q->flags & OPERATION_NOW) != 0);
        break;
    case OPERATION_VOLUME_UNDELETE:
        rc = take_volumes(ad, h, q, 1, 1);
        if (rc == 0 && volume_view(ad->c.a, op->volumes[0])->slot.state != VOLUME_DELETED &&
            volume_view(ad->c.a, op->volumes[0])->slot.state != VOLUME_LEAVING)
            return admin_refuse(ad, h, ERR_INVAL, "%s is not in the trash",
                                admin_name(ad, op->volumes[0]));
        break;
    case OPERATION_ACCEPT_LOSS:
        /* One in the trash may have lost something, too, and its images wait for it. */
        rc = take_volumes(ad, h, q, 1, 1);
        if (rc == 0 && volume_view(ad->c.a, op->volumes[0])->slot.state == VOLUME_ONLINE)
            return admin_refuse(ad, h, ERR_INVAL, "%s has lost nothing",
                                admin_name(ad, op->volumes[0]));
        break;
    case OPERATION_IMAGE_OPEN:
        return check_image_open(ad, h, q);
    case OPERATION_IMAGE_CLOSE:
        return take_image(ad, h, q->image);
    case OPERATION_IMAGE_PROMOTE:
        return check_promote(ad, h, q);
    case OPERATION_RESTORE:
    case OPERATION_RESTORE_RANGE:
        return check_restore(ad, h, q);
    case OPERATION_MARK:
    case OPERATION_MARK_DELETE:
        rc = take_volumes(ad, h, q, OPERATION_VOLUMES_MAX, 0);
        if (rc == 0)
            rc = take_label(ad, h, op->name, q->name);
        return rc == 0 && q->kind == OPERATION_MARK ? take_moment(ad, h, q) : rc;
    default: /* DECLARE_LOSS, SWEEP, CLEAN */
        break;
    }
    return rc;
}
