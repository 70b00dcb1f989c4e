/* SPDX-License-Identifier: Apache-2.0 */
/* Whole sessions, as the bytes of a client that never waits: one for each reply mode, with most of
 * what can be said and refused in it. */
#ifndef PROTO_NBD_NBD_SESSION_TEST_H
#define PROTO_NBD_NBD_SESSION_TEST_H

#include "proto/nbd/nbd_world_test.h"

static inline void session_options(struct bytes *c, enum nbd_mode mode) {
    static const char *const queries[] = {"x-none:", "base:", "base:allocation", NULL};
    static const int infos[] = {NBD_INFO_NAME, NBD_INFO_DESCRIPTION, NBD_INFO_BLOCK_SIZE, 9, -1};
    c_option(c, NBD_OPT_STARTTLS, NULL, 0);
    c_option(c, 200, "unknown", 7);
    if (mode != NBD_MODE_SIMPLE)
        c_option(c, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
    if (mode == NBD_MODE_EXTENDED)
        c_option(c, NBD_OPT_EXTENDED_HEADERS, NULL, 0);
    c_option(c, NBD_OPT_LIST, NULL, 0);
    c_option(c, NBD_OPT_LIST, "x", 1);
    c_info(c, NBD_OPT_INFO, "ro", infos);
    c_info(c, NBD_OPT_INFO, "nobody", NULL);
    c_meta(c, NBD_OPT_LIST_META_CONTEXT, "disk", NULL);
    c_meta(c, NBD_OPT_SET_META_CONTEXT, "disk", queries);
    if (mode == NBD_MODE_SIMPLE)
        c_option(c, NBD_OPT_EXPORT_NAME, "disk", 4);
    else
        c_info(c, NBD_OPT_GO, "disk", infos);
}

static inline void session_request(struct bytes *c, enum nbd_mode mode, uint16_t flags,
                                   uint16_t command, uint64_t cookie, uint64_t offset,
                                   uint32_t length) {
    if (mode == NBD_MODE_EXTENDED)
        c_extended(c, flags | (command == NBD_CMD_WRITE ? NBD_CMD_FLAG_PAYLOAD_LEN : 0), command,
                   cookie, offset, length);
    else
        c_request(c, flags, command, cookie, offset, length);
    if (command == NBD_CMD_WRITE)
        c_fill(c, (uint8_t)cookie, length);
}

static inline struct bytes session(enum nbd_mode mode) {
    static const struct {
        uint16_t flags, command;
        uint64_t offset;
        uint32_t length;
    } requests[] = {
        {0, NBD_CMD_WRITE, 512, 512},
        {NBD_CMD_FLAG_FUA, NBD_CMD_WRITE, 8192 - 512, 1024},
        {0, NBD_CMD_READ, 0, 2048},
        {0, NBD_CMD_WRITE, DISK_BYTES, 512}, /* refused, with payload */
        {0, NBD_CMD_READ, 1, 512},           /* refused */
        {0, NBD_CMD_BLOCK_STATUS, 0, DISK_BYTES},
        {NBD_CMD_FLAG_REQ_ONE, NBD_CMD_BLOCK_STATUS, 4096, 8192},
        {0, NBD_CMD_FLUSH, 0, 0},
        {NBD_CMD_FLAG_NO_HOLE, NBD_CMD_WRITE_ZEROES, 512, 512},
        {0, NBD_CMD_TRIM, 4096, 4096},
        {0, NBD_CMD_CACHE, 0, 4096},
        {0, 99, 0, 512},
        {0, NBD_CMD_READ, 0, 8192},
        {0, NBD_CMD_DISC, 0, 0},
        {0, NBD_CMD_READ, 0, 512}, /* not read any more */
    };
    struct bytes c = {0};
    c_flags(&c, NBD_FLAG_C_FIXED_NEWSTYLE | (mode == NBD_MODE_SIMPLE ? 0 : NBD_FLAG_C_NO_ZEROES));
    session_options(&c, mode);
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        if (mode == NBD_MODE_EXTENDED && i == 7) {
            c_extended(&c, NBD_CMD_FLAG_PAYLOAD_LEN, NBD_CMD_BLOCK_STATUS, 70, 0, 12);
            put_be(&c, 8192, 8);
            put_be(&c, NBD_ALLOCATION_ID, 4);
            c_extended(&c, NBD_CMD_FLAG_PAYLOAD_LEN, NBD_CMD_TRIM, 71, 0, 33);
            c_fill(&c, 0x21, 33);
        }
        session_request(&c, mode, requests[i].flags, requests[i].command, i + 1, requests[i].offset,
                        requests[i].length);
    }
    return c;
}

#endif
