/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration model: settings are text by key, and changes arrive as callbacks. Where they come from
 * (a file, a command line, a control operation) is the business of whoever calls config_changed.
 *
 * A part of the product describes its keys in a table; the model is a list of such tables. Rules:
 *
 *  1. A set of changes is taken whole or not at all: all are checked before the first is told.
 *  2. check() changes nothing and says what is wrong with a value: ERR_INVAL, ERR_RANGE, or ERR_REFUSED
 *     (not while running). Each value is checked by itself.
 *  3. changed() cannot fail. It comes once a change, in the order of the changes, in a turn of the loop;
 *     what it changes in slots is committed with that turn. The text is the caller's.
 *  4. No callback changes the configuration.
 */
#ifndef PLAT_CONFIG_H
#define PLAT_CONFIG_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/err.h"

struct config_key {
    const char *name;
    int (*check)(void *arg, const char *value); /* 0 or an error */
    void (*changed)(void *arg, const char *value);
};

struct config_part {
    const struct config_key *keys;
    uint32_t key_count;
    void *arg; /* of its callbacks */
};

struct config_model {
    const struct config_part *parts; /* each key is in one of them */
    uint32_t part_count;
};

struct config_change {
    const char *name;
    const char *value;
};

/* The key of this name, and whose it is; NULL: there is none. */
static inline const struct config_key *config_find(const struct config_model *m, const char *name,
                                                   const struct config_part **part) {
    for (uint32_t i = 0; i < m->part_count; i++) {
        *part = &m->parts[i];
        for (uint32_t k = 0; k < (*part)->key_count; k++)
            if (strcmp((*part)->keys[k].name, name) == 0)
                return &(*part)->keys[k];
    }
    return NULL;
}

/* 0; or what is wrong with changes[*wrong], and nothing has happened: ERR_NOTFOUND (no such key), or what
 * its check says. */
static inline int config_changed(const struct config_model *m, const struct config_change *changes,
                                 uint32_t count, uint32_t *wrong) {
    const struct config_part *part;
    const struct config_key *key;
    for (uint32_t i = 0; i < count; i++) {
        *wrong = i;
        key = config_find(m, changes[i].name, &part);
        int err = key ? key->check(part->arg, changes[i].value) : ERR_NOTFOUND;
        if (err < 0)
            return err;
    }
    for (uint32_t i = 0; i < count; i++) {
        key = config_find(m, changes[i].name, &part);
        key->changed(part->arg, changes[i].value);
    }
    return 0;
}

#endif
