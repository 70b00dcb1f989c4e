/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into the server: of the programs that are started with --convert, the second one that sees the file which
 * LATE_CHILD names does not begin before a file of this name and ".go" is there. A file of this name and ".waits" has
 * its process id. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int is_there(const char *flag, const char *end) {
    char path[256];
    snprintf(path, sizeof path, "%s%s", flag, end);
    return access(path, F_OK) == 0;
}

static int make(const char *flag, const char *end, const char *text) {
    char path[256];
    snprintf(path, sizeof path, "%s%s", flag, end);
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);
    if (fd < 0)
        return 0;
    int written = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    close(fd);
    return written;
}

static int is_converter(void) {
    char args[256] = "";
    int fd = open("/proc/self/cmdline", O_RDONLY);
    ssize_t n = fd < 0 ? 0 : read(fd, args, sizeof args - 1);
    if (fd >= 0)
        close(fd);
    const char *second = args + strlen(args) + 1;
    return n > 0 && second < args + n && strncmp(second, "--convert=", 10) == 0;
}

__attribute__((constructor)) static void be_late(void) {
    const struct timespec pause = {.tv_nsec = 1000000};
    const char *flag = getenv("LATE_CHILD");
    char pid[16];
    if (!flag || !is_there(flag, "") || !is_converter() || make(flag, ".first", ""))
        return;
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    if (!make(flag, ".waits", pid))
        return;
    while (!is_there(flag, ".go"))
        nanosleep(&pause, NULL);
}
