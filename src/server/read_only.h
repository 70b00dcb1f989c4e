/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file system whose files are read into memory when they are opened, and are written there alone: what
 * has to finish or roll back something before it can tell what is there, as SQLite has, does so without a trace.
 * For a few small files.
 */
#ifndef SERVER_READ_ONLY_H
#define SERVER_READ_ONLY_H

#include "plat/file.h"

#define READ_ONLY_FILES_MAX 8

struct read_only {
    struct file_system below;
    struct {
        char path[64];
        unsigned char *bytes;
        uint64_t size, room;
        int is_there;
    } files[READ_ONLY_FILES_MAX];
    int count;
};

struct file_system read_only_files(struct read_only *r, struct file_system below);
void read_only_close(struct read_only *r);

#endif
