/* SPDX-License-Identifier: Apache-2.0 */
/* Whose versions a sealed segment holds, told by the directory of its run. */
#include "base/bytes.h"
#include "base/err.h"
#include "engine/index/index_priv.h"

static int contains(const uint32_t *families, uint32_t count, uint32_t family) {
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (families[middle] < family)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && families[low] == family;
}

int index_segment_families(struct index *x, uint32_t segment, const uint32_t *families,
                           uint32_t count) {
    struct index_run *run = index_run_of(x, segment);
    int err;
    if (!run)
        return 0;
    const struct cache_item *item = index_fetch(x, &run->piece, ITEM_DIRECTORY, NULL, &err);
    if (!item)
        return err == ERR_AGAIN ? ERR_AGAIN : 0; /* what cannot be read is kept */
    const struct run_tables *t = &item->directory.tables;
    for (uint32_t i = 0; i < t->family_count; i++)
        if (!contains(families, count, get_le32(t->families + (size_t)i * RUN_FAMILY_BYTES)))
            return 0;
    return 1;
}
