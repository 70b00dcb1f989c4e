/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/must.h"
#include "base/units.h"
#include "cli/bisect.h"
#include "cli/check.h"
#include "cli/client.h"
#include "cli/exit_code.h"
#include "cli/help.h"
#include "cli/hook.h"
#include "cli/local_zone.h"
#include "cli/options.h"
#include "cli/reload.h"
#include "cli/render.h"
#include "cli/table.h"

#define TIMEOUT_NS (60 * NS_PER_S)

struct call {
    const struct cli *cli;
    const struct cli_command *command;
    uint64_t deadline_ns;
    json_t *result;
};

static uint64_t wall_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* Lines that the command line itself made keep their line feeds; what a server sent is cleaned. */
static void put_lines(const char *text, FILE *out) {
    char line[sizeof((struct cli_failure *)0)->message];
    for (;; fputc('\n', out)) {
        size_t len = strcspn(text, "\n");
        snprintf(line, sizeof line, "%.*s", (int)len, text);
        table_put_clean(line, out);
        if (!text[len])
            return;
        text += len + 1;
    }
}

static int put_failure(const struct cli *cli, const struct cli_failure *f) {
    json_t *json = NULL;
    if (cli->json)
        json = json_pack("{s:b,s:s,s:s,s:s*}", "ok", 0, "code", err_word(f->err), "message",
                         f->message, "hint", f->hint[0] ? f->hint : NULL);
    if (json) {
        json_dumpf(json, stderr, JSON_COMPACT);
        json_decref(json);
    } else {
        fputs("perdure: ", stderr);
        put_lines(f->message, stderr);
        if (f->hint[0]) {
            fputs("\n  hint: ", stderr);
            put_lines(f->hint, stderr);
        }
    }
    fputc('\n', stderr);
    return exit_code_of(f->err);
}

static int call_server(void *ctx, struct cli_failure *f) {
    struct call *c = ctx;
    struct ctl_reply reply;
    const struct ctl_op *op = c->command->op;
    int err = client_call(c->cli->socket_path, c->deadline_ns, op, c->command->args, &reply, f);
    if (err)
        return err;
    if (reply.ok) {
        c->result = json_incref(reply.result);
    } else {
        err = cli_fail(f, reply.err, "%s", reply.message);
        if (reply.hint)
            cli_hint(f, "%s", reply.hint);
    }
    json_decref(reply.json);
    return err;
}

/* The lists of the next answer behind those of this one. */
static int append_lists(json_t *result, const json_t *more) {
    const char *key;
    json_t *list;
    json_object_foreach(result, key, list) {
        const json_t *next = json_object_get(more, key);
        if (json_is_array(list) && json_is_array(next) &&
            json_array_extend(list, (json_t *)(uintptr_t)next) < 0)
            return ERR_NOMEM;
    }
    return json_object_set(result, "next", json_object_get(more, "next"));
}

/* The parts are of the same moments, in the same steps: those of the first answer. */
static int keep_moments(const struct ctl_op *op, json_t *args, const json_t *result) {
    static const char *const keys[] = {"from", "to", "step_ns"};
    for (int i = 0; i < 3; i++) {
        const json_t *told = json_object_get(result, keys[i]);
        const json_t *n = json_object_get(told, "sequence");
        if (!ctl_arg_find(op, keys[i]))
            continue;
        if (json_is_integer(n)
                ? json_object_set_new(
                      args, keys[i],
                      json_sprintf("seq:%" JSON_INTEGER_FORMAT, json_integer_value(n))) < 0
                : told && json_object_set(args, keys[i], (json_t *)(uintptr_t)told) < 0)
            return ERR_NOMEM;
    }
    return 0;
}

/* Some lists come in parts: "next" of an answer is "after" of the next request. */
static int ask_all(struct call *c, struct cli_failure *f) {
    int err = call_server(c, f);
    json_t *all = c->result;
    while (!err && json_is_integer(json_object_get(all, "next"))) {
        if (json_object_set(c->command->args, "after", json_object_get(all, "next")) < 0 ||
            keep_moments(c->command->op, c->command->args, all) < 0)
            return cli_fail(f, ERR_NOMEM, "out of memory");
        err = call_server(c, f);
        if (err)
            break;
        if (append_lists(all, c->result) != 0)
            err = cli_fail(f, ERR_NOMEM, "out of memory");
        json_decref(c->result);
    }
    c->result = all;
    return err;
}

/* `when`: an answer may end before the limit; "older" of it is "below" of the next request. */
static int ask_older(struct call *c, struct cli_failure *f) {
    const struct ctl_op *op = c->command->op;
    json_int_t limit = json_integer_value(json_object_get(c->command->args, "limit"));
    limit = limit ? limit : strtoll(ctl_arg_find(op, "limit")->fallback, NULL, 10);
    int err = call_server(c, f);
    json_t *all = c->result;
    json_t *writes = json_object_get(all, "writes");
    while (!err && json_is_integer(json_object_get(all, "older")) &&
           (json_int_t)json_array_size(writes) < limit) {
        if (json_object_set(c->command->args, "below", json_object_get(all, "older")) < 0 ||
            json_object_set_new(c->command->args, "limit",
                                json_integer(limit - (json_int_t)json_array_size(writes))) < 0)
            return cli_fail(f, ERR_NOMEM, "out of memory");
        err = call_server(c, f);
        if (err)
            break;
        if (json_array_extend(writes, json_object_get(c->result, "writes")) < 0 ||
            json_object_set(all, "older", json_object_get(c->result, "older")) < 0)
            err = cli_fail(f, ERR_NOMEM, "out of memory");
        json_decref(c->result);
    }
    c->result = all;
    return err;
}

static const char *local_text(const struct cli_command *command, const char *key) {
    const struct ctl_arg *arg = ctl_arg_find(command->op, key);
    return arg ? command->local[arg - command->op->args] : NULL;
}

static int show(const struct call *c) {
    if (c->cli->json) {
        json_dumpf(c->result, stdout, isatty(STDOUT_FILENO) ? JSON_INDENT(2) : JSON_COMPACT);
        fputc('\n', stdout);
    } else {
        bool shown = render_result(c->cli, c->command->op, c->command->args, c->result, stdout);
        must(shown);
    }
    return OK;
}

static int run(const struct cli *cli, const struct cli_command *command, struct cli_failure *f) {
    struct call c = {
        .cli = cli, .command = command, .deadline_ns = client_now_ns() + cli->timeout_ns};
    int err;
    if (strcmp(command->op->name, "bisect") == 0)
        return bisect_run(cli, command, f);
    if (strcmp(command->op->name, "check") == 0)
        return check_run(cli, command, f);
    if (strcmp(command->op->name, "mark.create") == 0)
        err = hook_around(local_text(command, "exec_before"), local_text(command, "exec_after"),
                          call_server, &c, f);
    else if (strcmp(command->op->name, "when") == 0)
        err = ask_older(&c, f);
    else
        err = ask_all(&c, f);
    if (!err && strcmp(command->op->name, "reload") == 0) {
        json_t *done = NULL;
        err = reload_follow(cli->socket_path, c.deadline_ns, c.result, &done, f);
        json_decref(c.result);
        c.result = done;
    }
    if (!err)
        err = show(&c);
    json_decref(c.result);
    return err;
}

static int run_help(int argc, char **argv, struct cli_failure *f) {
    if (argc == 0)
        help_all(stdout);
    else if (argc == 1 && strcmp(argv[0], "--markdown") == 0)
        help_markdown(stdout);
    else if (argc == 1 && strcmp(argv[0], "--man") == 0)
        help_man(stdout);
    else if (argc == 2 && strcmp(argv[0], "--completion") == 0 && strcmp(argv[1], "bash") == 0)
        help_completion_bash(stdout);
    else if (argv[0][0] == '-' && strcmp(argv[0], "--help") != 0)
        return cli_fail(f, ERR_INVAL, "help knows --markdown, --man and --completion bash");
    else
        help_all(stdout);
    return OK;
}

/* "help NOUN VERB" is "NOUN VERB --help". */
static int help_command(int argc, char **argv, struct cli *cli, struct cli_failure *f) {
    char help[] = "--help";
    char *words[3];
    struct cli_command command;
    if (argc == 0 || argv[0][0] == '-')
        return run_help(argc, argv, f);
    if (argc > 2)
        return cli_fail(f, ERR_INVAL, "help takes a command, as in: perdure help volume create");
    for (int i = 0; i < argc; i++)
        words[i] = argv[i];
    words[argc] = help;
    int err = options_parse(argc + 1, words, 0, cli, &command, f);
    if (!err && command.op)
        help_op(command.op, stdout);
    else if (!err)
        help_noun(command.noun, stdout);
    json_decref(command.args);
    return err;
}

static int dispatch(int argc, char **argv, struct cli *cli, struct cli_failure *f) {
    struct cli_command command;
    if (argc == 0) {
        help_all(stderr);
        return ERR_INVAL;
    }
    if (strcmp(argv[0], "help") == 0)
        return help_command(argc - 1, argv + 1, cli, f);
    int err = options_parse(argc, argv, wall_ns(), cli, &command, f);
    if (!err && command.task == CLI_VERSION)
        puts("perdure " PERDURE_VERSION);
    else if (!err && command.task == CLI_HELP && command.op)
        help_op(command.op, stdout);
    else if (!err && command.task == CLI_HELP && command.noun)
        help_noun(command.noun, stdout);
    else if (!err && command.task == CLI_HELP)
        help_all(stdout);
    else if (!err)
        err = run(cli, &command, f);
    json_decref(command.args);
    return err;
}

int main(int argc, char **argv) {
    struct cli cli = {
        .socket_path = client_default_socket(), .timeout_ns = TIMEOUT_NS, .zone = local_zone()};
    struct cli_failure failure = {.err = OK};
    int err = dispatch(argc - 1, argv + (argc > 0), &cli, &failure);
    if (!err && (fflush(stdout) != 0 || ferror(stdout)))
        err = cli_fail(&failure, ERR_IO, "the output could not be written: %s", strerror(errno));
    if (!err)
        return EXIT_DONE;
    if (failure.err)
        return put_failure(&cli, &failure);
    return exit_code_of(err);
}
