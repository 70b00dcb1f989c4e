/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/bisect.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/units.h"
#include "cli/client.h"

#define LEASE_NS                                                                                   \
    (7 * 86400 * NS_PER_S) /* of an image that nobody closes, as this program was killed */
#define UNCLEAR_MAX 64u
#define CODE_UNCLEAR 125
#define CODE_MAX 127

enum verdict { GOOD, BAD, UNCLEAR };

struct bisect {
    const struct cli *cli;
    const struct cli_command *command;
    struct cli_failure *failure;
    const char *volume;
    json_int_t good, bad;            /* sequence numbers; `bad` is that of a write */
    json_t *first_bad;               /* that write */
    json_int_t unclear[UNCLEAR_MAX]; /* between them */
    uint32_t unclear_count;
    json_t *steps;
    sigset_t mask; /* of this program, while there is no image */
};

/* A new reference to the result, or NULL, and the failure is told. args: its reference is taken. */
static json_t *ask(struct bisect *b, const char *op, json_t *args) {
    struct ctl_reply reply;
    json_t *result = NULL;
    uint64_t deadline_ns = client_now_ns() + b->cli->timeout_ns;
    if (!args) {
        cli_fail(b->failure, ERR_NOMEM, "out of memory");
        return NULL;
    }
    int err =
        client_call(b->cli->socket_path, deadline_ns, ctl_op_find(op), args, &reply, b->failure);
    json_decref(args);
    if (err)
        return NULL;
    if (reply.ok) {
        result = json_incref(reply.result);
    } else {
        cli_fail(b->failure, reply.err, "%s", reply.message);
        if (reply.hint)
            cli_hint(b->failure, "%s", reply.hint);
    }
    json_decref(reply.json);
    return result;
}

static json_int_t sequence_of(const json_t *row) {
    return json_integer_value(json_object_get(json_object_get(row, "at"), "sequence"));
}

static json_t *sequence_text(json_int_t sequence) {
    return json_sprintf("seq:%" JSON_INTEGER_FORMAT, sequence);
}

/* The newest write between two moments, in as many answers as it takes: a new reference, or NULL, and *err is 0: there
 * is none. The moments' references are taken; *first is the first answer, if that is asked for. */
static json_t *newest_between(struct bisect *b, json_t *from, json_t *to, json_t **first,
                              int *err) {
    json_t *row = NULL, *result = NULL;
    json_int_t below = 0;
    *err = OK;
    do {
        json_decref(result);
        result = ask(b, "when",
                     json_pack("{s:s,s:O,s:O,s:i,s:I}", "name", b->volume, "from", from, "to", to,
                               "limit", 1, "below", below));
        *err = result ? OK : b->failure->err;
        row = json_incref(json_array_get(json_object_get(result, "writes"), 0));
        below = json_integer_value(json_object_get(result, "older"));
        if (first && !*first)
            *first = json_incref(result);
    } while (result && !row && below);
    json_decref(result);
    json_decref(from);
    json_decref(to);
    return row;
}

/* That with from < number <= to, which ends a request. */
static json_t *newest_write(struct bisect *b, json_int_t from, json_int_t to, int *err) {
    *err = OK;
    return to > from ? newest_between(b, sequence_text(from), sequence_text(to), NULL, err) : NULL;
}

/* The command with {} replaced; the words are argv's, or allocated and never freed: this is a child. */
static void exec_command(const struct bisect *b, const char *uri) {
    const struct cli_command *c = b->command;
    char **words = calloc((size_t)c->rest_count + 1, sizeof *words);
    for (int i = 0; words && i < c->rest_count; i++)
        words[i] = strcmp(c->rest[i], "{}") == 0 ? strdup(uri) : c->rest[i];
    sigprocmask(SIG_SETMASK, &b->mask, NULL);
    if (b->cli->json) /* the result alone goes to standard output */
        dup2(STDERR_FILENO, STDOUT_FILENO);
    if (words && setenv("PERDURE_IMAGE_URI", uri, 1) == 0)
        execvp(words[0], words);
    fprintf(stderr, "perdure: %s cannot be run: %s\n", c->rest[0], strerror(errno));
    _exit(CODE_MAX + 1);
}

static const int enders[] = {SIGINT, SIGTERM, SIGHUP};

static int is_to_end(void) {
    sigset_t waits;
    int n = 0;
    sigpending(&waits);
    for (uint32_t i = 0; i < sizeof enders / sizeof *enders; i++)
        n |= sigismember(&waits, enders[i]) == 1;
    return n;
}

static int judge(struct bisect *b, const char *uri, enum verdict *verdict) {
    int status = 0;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        exec_command(b, uri);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (pid < 0)
        return cli_fail(b->failure, ERR_IO, "the command could not be started: %s",
                        strerror(errno));
    if (WIFSIGNALED(status))
        return cli_fail(b->failure, ERR_CANCELLED, "the command was ended by signal %d",
                        WTERMSIG(status));
    int code = WEXITSTATUS(status);
    if (code > CODE_MAX)
        return cli_fail(b->failure, ERR_CANCELLED,
                        "the command ended with exit code %d, which ends the search", code);
    *verdict = code == 0 ? GOOD : code == CODE_UNCLEAR ? UNCLEAR : BAD;
    return OK;
}

static int close_image(struct bisect *b, const json_t *image) {
    struct cli_failure before = *b->failure;
    json_t *done = ask(b, "image.close",
                       json_pack("{s:O,s:b}", "name", json_object_get(image, "name"), "force", 1));
    int err = done ? OK : b->failure->err;
    json_decref(done);
    if (before.err)
        *b->failure = before; /* the first failure counts */
    return err;
}

/* Of a moment, in local time; "-" if that is not known. */
static void local_time(const struct bisect *b, const json_t *at, char text[MOMENT_TEXT_BYTES]) {
    const char *s = json_string_value(json_object_get(at, "time"));
    struct moment m;
    if (s && moment_parse(s, strlen(s), 0, NULL, &m, NULL) == OK && m.kind == MOMENT_TIME)
        moment_format_local(m.time_ns, 6, &b->cli->zone, text);
    else
        snprintf(text, MOMENT_TEXT_BYTES, "-");
}

static const char *const words_of[] = {[GOOD] = "good", [BAD] = "bad", [UNCLEAR] = "unclear"};

static void put_step(struct bisect *b, json_int_t sequence, const json_t *image,
                     enum verdict verdict) {
    char time[MOMENT_TEXT_BYTES];
    local_time(b, json_object_get(image, "at"), time);
    json_array_append_new(
        b->steps, json_pack("{s:I,s:s}", "sequence", sequence, "verdict", words_of[verdict]));
    if (!b->cli->json)
        printf("seq:%" JSON_INTEGER_FORMAT "  %s  %s\n", sequence, time, words_of[verdict]);
}

static int judge_moment(struct bisect *b, json_int_t sequence, enum verdict *verdict) {
    json_t *image = ask(b, "image.open",
                        json_pack("{s:[s],s:o,s:I}", "volumes", b->volume, "at",
                                  sequence_text(sequence), "lease_ns", (json_int_t)LEASE_NS));
    if (!image)
        return b->failure->err;
    const json_t *disk = json_array_get(json_object_get(image, "disks"), 0);
    const char *uri = json_string_value(json_array_get(json_object_get(disk, "addresses"), 0));
    int err = OK;
    *verdict = UNCLEAR;
    if (!uri)
        err = cli_fail(b->failure, ERR_UNSUPPORTED,
                       "the image has no address that a command could use");
    else if (is_to_end())
        err = cli_fail(b->failure, ERR_CANCELLED, "interrupted");
    else if (sequence_of(image) ==
             sequence) /* else that moment is not kept, and another is shown */
        err = judge(b, uri, verdict);
    if (!err)
        put_step(b, sequence, image, *verdict);
    int closed = close_image(b, image);
    json_decref(image);
    return err ? err : closed;
}

/* While there is an image, signals that would end this program wait; they reach the command. One that came ends
 * it when the image is closed. */
static int try_moment(struct bisect *b, json_int_t sequence, enum verdict *verdict) {
    sigset_t wait;
    sigemptyset(&wait);
    for (uint32_t i = 0; i < sizeof enders / sizeof *enders; i++)
        sigaddset(&wait, enders[i]);
    sigprocmask(SIG_BLOCK, &wait, &b->mask);
    int err = judge_moment(b, sequence, verdict);
    fflush(stdout);
    sigprocmask(SIG_SETMASK, &b->mask, NULL);
    return err;
}

static int is_unclear(const struct bisect *b, json_int_t sequence) {
    for (uint32_t i = 0; i < b->unclear_count; i++)
        if (b->unclear[i] == sequence)
            return 1;
    return 0;
}

/* The newest write that was not judged yet, up to a number; NULL: none. */
static json_t *newest_unjudged(struct bisect *b, json_int_t to, int *err) {
    json_t *row = newest_write(b, b->good, to, err);
    while (row && is_unclear(b, sequence_of(row))) {
        json_int_t at = sequence_of(row);
        json_decref(row);
        row = newest_write(b, b->good, at - 1, err);
    }
    return row;
}

/* A write between good and bad, near the middle of their numbers. */
static json_t *choose(struct bisect *b, int *err) {
    json_int_t low = b->good;
    while (b->bad - low > 1) {
        json_int_t middle = low + (b->bad - low) / 2;
        json_t *row = newest_unjudged(b, middle, err);
        if (row || *err)
            return row;
        low = middle; /* nothing to be judged up to there */
    }
    return NULL;
}

static int search(struct bisect *b) {
    for (;;) {
        int err;
        enum verdict verdict = UNCLEAR;
        json_t *row = choose(b, &err);
        if (!row)
            return err;
        json_int_t at = sequence_of(row);
        err = try_moment(b, at, &verdict);
        if (!err && verdict == BAD) {
            json_decref(b->first_bad);
            b->first_bad = json_incref(row);
            b->bad = at;
        }
        json_decref(row);
        if (err)
            return err;
        if (verdict == GOOD)
            b->good = at;
        else if (verdict == UNCLEAR && b->unclear_count == UNCLEAR_MAX)
            return cli_fail(b->failure, ERR_TOOBIG, "the command could not tell %u times",
                            UNCLEAR_MAX + 1);
        else if (verdict == UNCLEAR)
            b->unclear[b->unclear_count++] = at;
    }
}

/* What the two ends are, and that the command sees them so. */
static int begin(struct bisect *b) {
    int err;
    json_t *ends = NULL;
    b->first_bad =
        newest_between(b, json_incref(json_object_get(b->command->args, "good")),
                       json_incref(json_object_get(b->command->args, "bad")), &ends, &err);
    b->good = json_integer_value(json_object_get(json_object_get(ends, "from"), "sequence"));
    json_decref(ends);
    if (err == ERR_INVAL) {
        cli_fail(b->failure, err, "the good moment is later than the bad one");
        cli_hint(b->failure,
                 "it looks for what broke; for what mended, exchange the two, and what the "
                 "command says");
    }
    if (err)
        return err;
    if (!b->first_bad)
        return cli_fail(b->failure, ERR_RANGE, "nothing was written to %s between the two moments",
                        b->volume);
    b->bad = sequence_of(b->first_bad);
    enum verdict good = UNCLEAR, bad = UNCLEAR;
    err = try_moment(b, b->good, &good);
    if (!err && good != GOOD)
        return cli_fail(b->failure, ERR_INVAL,
                        "the command does not say of the good moment that it is good");
    if (!err)
        err = try_moment(b, b->bad, &bad);
    if (!err && bad != BAD)
        return cli_fail(b->failure, ERR_INVAL,
                        "the command does not say of the bad moment that it is bad");
    return err;
}

static uint32_t unclear_between(const struct bisect *b) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < b->unclear_count; i++)
        n += b->unclear[i] > b->good && b->unclear[i] < b->bad;
    return n;
}

static void show(struct bisect *b) {
    if (b->cli->json) {
        json_t *result = json_pack("{s:s,s:I,s:O,s:i,s:O}", "volume", b->volume, "last_good",
                                   b->good, "first_bad", b->first_bad, "unclear",
                                   (int)unclear_between(b), "steps", b->steps);
        json_dumpf(result, stdout, isatty(STDOUT_FILENO) ? JSON_INDENT(2) : JSON_COMPACT);
        fputc('\n', stdout);
        json_decref(result);
        return;
    }
    const char *kind = json_string_value(json_object_get(b->first_bad, "kind"));
    char time[MOMENT_TEXT_BYTES];
    local_time(b, json_object_get(b->first_bad, "at"), time);
    printf("the first bad moment is %s (seq:%" JSON_INTEGER_FORMAT ")", time, b->bad);
    if (kind)
        printf(": a %s of %" JSON_INTEGER_FORMAT " bytes at %" JSON_INTEGER_FORMAT, kind,
               json_integer_value(json_object_get(b->first_bad, "length_bytes")),
               json_integer_value(json_object_get(b->first_bad, "offset_bytes")));
    putchar('\n');
    if (unclear_between(b))
        printf("or one of %u before it, of which the command could not tell\n", unclear_between(b));
    printf("go back to the last good one with: perdure restore %s --at seq:%" JSON_INTEGER_FORMAT
           "\n",
           b->volume, b->good);
}

int bisect_run(const struct cli *cli, const struct cli_command *command, struct cli_failure *f) {
    struct bisect b = {.cli = cli,
                       .command = command,
                       .failure = f,
                       .volume = json_string_value(json_object_get(command->args, "name")),
                       .steps = json_array()};
    int err = begin(&b);
    if (!err)
        err = search(&b);
    if (!err)
        show(&b);
    json_decref(b.first_bad);
    json_decref(b.steps);
    return err;
}
