/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names in the simulated store: two maps from path to file, one that the process sees and one that
 * is durable, and the list of operations that lie between them, oldest first (sim.h, rule 5).
 * Applying all of them, in order, to the durable map gives the live one.
 *
 * Two operations touch if they have a name in common; only then does their order matter.
 */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "plat/sim/sim_priv.h"

static uint64_t path_hash(const char *path) {
    return hash_bytes(HASH_BYTES_START, path, strlen(path)) | 1;
}

static struct sim_name **find(struct sim_names *names, const char *path, uint64_t hash) {
    struct sim_name **at = &names->buckets[hash_mix(hash) % SIM_NAME_BUCKETS];
    while (*at && ((*at)->hash != hash || strcmp((*at)->path, path) != 0))
        at = &(*at)->next;
    return at;
}

struct sim_inode *sim_name_find(const struct sim_names *names, const char *path) {
    uint64_t hash = path_hash(path);
    const struct sim_name *n = names->buckets[hash_mix(hash) % SIM_NAME_BUCKETS];
    while (n && (n->hash != hash || strcmp(n->path, path) != 0))
        n = n->next;
    return n ? n->inode : NULL;
}

static void set(struct sim *sim, struct sim_names *names, const char *path,
                struct sim_inode *inode) {
    int live = names == &sim->live;
    struct sim_name **at = find(names, path, path_hash(path)), *n = *at;
    if (inode)
        sim_inode_hold(sim, inode, live);
    if (n) {
        sim_inode_drop(sim, n->inode, live);
        n->inode = inode;
        if (!inode) {
            *at = n->next;
            free(n);
        }
    } else if (inode) {
        n = sim_alloc(sizeof *n);
        n->hash = path_hash(path);
        n->inode = inode;
        strcpy(n->path, path);
        *at = n;
    }
}

/* Bytes of the path that name the directory; 0: the store itself. */
static size_t dir_bytes(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) : 0;
}

int sim_name_in_dir(const char *path, const char *dir) {
    size_t n = strcmp(dir, ".") == 0 ? 0 : strlen(dir);
    return dir_bytes(path) == n && memcmp(path, dir, n) == 0;
}

static int has_parent(const struct sim_names *names, const char *path) {
    char dir[SIM_PATH_MAX];
    size_t n = dir_bytes(path);
    if (n == 0)
        return 1;
    memcpy(dir, path, n);
    dir[n] = 0;
    const struct sim_inode *parent = sim_name_find(names, dir);
    return parent && parent->is_dir;
}

int sim_name_check(const struct sim *sim, const char *path) {
    size_t n = strlen(path);
    if (n == 0 || n >= SIM_PATH_MAX || path[0] == '/' || path[n - 1] == '/' || strstr(path, "//") ||
        strcmp(path, ".") == 0 || strstr(path, ".."))
        return ERR_INVAL;
    return has_parent(&sim->live, path) ? 0 : ERR_NOTFOUND;
}

int sim_names_touch(const struct sim_name_op *a, const struct sim_name_op *b) {
    return a->from_hash == b->from_hash || (a->to_hash && a->to_hash == b->to_hash) ||
           a->from_hash == b->to_hash || a->to_hash == b->from_hash;
}

void sim_name_apply(struct sim *sim, const struct sim_name_op *op) {
    switch (op->kind) {
    case SIM_NAME_BIND:
        set(sim, &sim->durable, op->from, op->inode);
        break;
    case SIM_NAME_RENAME:
        set(sim, &sim->durable, op->to, op->inode);
        set(sim, &sim->durable, op->from, NULL);
        break;
    case SIM_NAME_REMOVE:
        set(sim, &sim->durable, op->from, NULL);
        break;
    }
}

static void forget(struct sim *sim, uint32_t i) {
    sim_inode_drop(sim, sim->name_ops[i].inode, 0);
    sim->name_op_count--;
    memmove(sim->name_ops + i, sim->name_ops + i + 1,
            (sim->name_op_count - i) * sizeof *sim->name_ops);
}

void sim_name_ops_forget(struct sim *sim) {
    for (uint32_t i = 0; i < sim->name_op_count; i++)
        sim_inode_drop(sim, sim->name_ops[i].inode, 0);
    sim->name_op_count = 0;
}

static void op_add(struct sim *sim, enum sim_name_op_kind kind, struct sim_inode *inode,
                   const char *from, const char *to) {
    if (sim->name_op_count == SIM_NAMES_PENDING_MAX) {
        sim_name_apply(sim, &sim->name_ops[0]);
        forget(sim, 0);
    }
    struct sim_name_op *op = &sim->name_ops[sim->name_op_count++];
    *op = (struct sim_name_op){.kind = kind,
                               .id = sim_new_id(sim),
                               .inode = inode,
                               .from_hash = path_hash(from),
                               .to_hash = to ? path_hash(to) : 0};
    strcpy(op->from, from);
    if (to)
        strcpy(op->to, to);
    sim_inode_hold(sim, inode, 0);
}

void sim_name_bind(struct sim *sim, const char *path, struct sim_inode *inode) {
    strcpy(inode->path, path);
    set(sim, &sim->live, path, inode);
    op_add(sim, SIM_NAME_BIND, inode, path, NULL);
}

void sim_name_rename(struct sim *sim, const char *from, const char *to) {
    struct sim_inode *inode = sim_name_find(&sim->live, from);
    strcpy(inode->path, to);
    op_add(sim, SIM_NAME_RENAME, inode, from, to);
    set(sim, &sim->live, to, inode);
    set(sim, &sim->live, from, NULL);
}

void sim_name_remove(struct sim *sim, const char *path) {
    op_add(sim, SIM_NAME_REMOVE, sim_name_find(&sim->live, path), path, NULL);
    set(sim, &sim->live, path, NULL);
}

void sim_name_sync_dir(struct sim *sim, const char *dir) {
    uint8_t now[SIM_NAMES_PENDING_MAX] = {0};
    for (uint32_t i = sim->name_op_count; i-- > 0;) {
        const struct sim_name_op *op = &sim->name_ops[i];
        now[i] = sim_name_in_dir(op->from, dir) || (op->to_hash && sim_name_in_dir(op->to, dir));
        for (uint32_t k = i + 1; k < sim->name_op_count && !now[i]; k++)
            now[i] = now[k] && sim_names_touch(op, &sim->name_ops[k]);
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < sim->name_op_count; i++) {
        if (now[i]) {
            sim_name_apply(sim, &sim->name_ops[i]);
            sim_inode_drop(sim, sim->name_ops[i].inode, 0);
        } else {
            sim->name_ops[kept++] = sim->name_ops[i];
        }
    }
    sim->name_op_count = kept;
}

void sim_names_drop_all(struct sim *sim, struct sim_names *names, int live) {
    for (uint32_t b = 0; b < SIM_NAME_BUCKETS; b++) {
        while (names->buckets[b]) {
            struct sim_name *n = names->buckets[b];
            names->buckets[b] = n->next;
            sim_inode_drop(sim, n->inode, live);
            free(n);
        }
    }
}

/* After a cut: what has lost its directory goes, the rest is live. */
void sim_names_sweep(struct sim *sim) {
    int gone;
    do {
        gone = 0;
        for (uint32_t b = 0; b < SIM_NAME_BUCKETS; b++) {
            struct sim_name **at = &sim->durable.buckets[b];
            while (*at) {
                struct sim_name *n = *at;
                if (has_parent(&sim->durable, n->path)) {
                    at = &n->next;
                    continue;
                }
                *at = n->next;
                sim_inode_drop(sim, n->inode, 0);
                free(n);
                gone = 1;
            }
        }
    } while (gone);
    for (uint32_t b = 0; b < SIM_NAME_BUCKETS; b++) {
        for (struct sim_name *n = sim->durable.buckets[b]; n; n = n->next) {
            strcpy(n->inode->path, n->path);
            set(sim, &sim->live, n->path, n->inode);
        }
    }
}
