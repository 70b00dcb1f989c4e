/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The main() of a fuzz target in a plain build: gives the target each file that is named, and each
 * file of a folder that is named. So the corpus of a target is a test, with any compiler.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        return -1;
    }
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    /* The exact size, so that a sanitizer sees a read beyond the end. */
    uint8_t *data = size >= 0 ? malloc((size_t)size) : NULL;
    int done = -1;
    if ((data || size == 0) && fread(data, 1, (size_t)size, file) == (size_t)size) {
        LLVMFuzzerTestOneInput(data, (size_t)size);
        done = 1;
    }
    free(data);
    fclose(file);
    return done;
}

/* Returns the number of inputs, -1 if one could not be read. */
static int replay(const char *path) {
    DIR *dir = opendir(path);
    if (!dir)
        return replay_file(path);
    int total = 0;
    struct dirent *entry;
    while (total >= 0 && (entry = readdir(dir))) {
        char inside[4096];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(inside, sizeof inside, "%s/%s", path, entry->d_name);
        int done = replay_file(inside);
        total = done < 0 ? -1 : total + done;
    }
    closedir(dir);
    return total;
}

int main(int argc, char **argv) {
    int total = 0;
    for (int i = 1; i < argc; i++) {
        int done = replay(argv[i]);
        if (done < 0)
            return 1;
        total += done;
    }
    printf("%d inputs\n", total);
    return total > 0 ? 0 : 1;
}
