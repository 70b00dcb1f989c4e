/* SPDX-License-Identifier: Apache-2.0 */
#include "arena/request.h"

LAYOUT_FIELDS(request, REQUEST_FIELDS)
const struct arena_table_spec request_spec = TABLE_SPEC(request, TABLE_REQUEST, 1);

unsigned char *request_data_at(const struct buffer_pool *p, const struct request *r, uint64_t at,
                               uint64_t *run) {
    uint64_t left = r->data_start + at;
    for (uint32_t i = 0; i < r->data_extents; i++) {
        uint64_t bytes = (uint64_t)r->data[i].pages * BUFFER_PAGE_BYTES;
        if (left < bytes) {
            must(r->data[i].first + r->data[i].pages <= p->pages);
            *run = bytes - left;
            return buffer_data(p, r->data[i].first) + left;
        }
        left -= bytes;
    }
    must_fail("at lies in the buffers", __FILE__, __LINE__);
}

uint64_t request_data_room(const struct request *r) {
    uint64_t pages = 0;
    for (uint32_t i = 0; i < r->data_extents; i++)
        pages += r->data[i].pages;
    must(pages * BUFFER_PAGE_BYTES >= r->data_start);
    return pages * BUFFER_PAGE_BYTES - r->data_start;
}
