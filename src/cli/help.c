/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/help.h"

#include <stdbool.h>
#include <string.h>

#include "cli/exit_code.h"
#include "cli/options.h"
#include "cli/table.h"

#define LINE_CHARS 88u

const struct help_moment help_moments[] = {
    {"2026-11-22T17:00:03.25Z", "a date and time with its zone (RFC 3339)"},
    {"\"2026-11-22 17:00:03\"", "the same in local time"},
    {"17:00:03", "the last time the clock showed it"},
    {"-5min, -2h30m, -10s, -1d", "before now"},
    {"now", "the present"},
    {"seq:123456", "a sequence number"},
    {"before-upgrade", "a mark's label"},
};

const uint32_t help_moment_count = sizeof help_moments / sizeof help_moments[0];

void help_usage(const struct ctl_op *op, char out[HELP_USAGE_BYTES]) {
    char command[CTL_COMMAND_BYTES];
    ctl_op_command(op, command);
    int at = snprintf(out, HELP_USAGE_BYTES, "perdure %s", command);
    for (uint32_t i = 0; i < op->arg_count; i++) {
        const struct ctl_arg *arg = &op->args[i];
        bool needed = arg->flags & CTL_REQUIRED;
        const char *list = arg->flags & CTL_LIST ? "..." : "";
        at += snprintf(out + at, HELP_USAGE_BYTES - (size_t)at, " %s%s%s%s%s%s%s",
                       needed ? "" : "[", arg->option ? "--" : "", arg->option ? arg->option : "",
                       arg->option && arg->meta ? " " : "", arg->meta ? arg->meta : "", list,
                       needed ? "" : "]");
    }
}

static void put_options(FILE *out) {
    struct table t;
    fputs("\noptions of every command:\n", out);
    table_begin(&t, "|");
    for (uint32_t i = 0; i < cli_global_option_count; i++) {
        const struct cli_option *o = &cli_global_options[i];
        table_cell(&t, "  --%s%s%s", o->name, o->meta ? " " : "", o->meta ? o->meta : "");
        table_cell(&t, "%s", o->help);
    }
    table_end(&t, out);
}

static void put_commands(const char *noun, FILE *out) {
    struct table t;
    table_begin(&t, "|");
    for (uint32_t i = 0; i < ctl_op_count; i++) {
        char command[CTL_COMMAND_BYTES];
        if (noun && strcmp(ctl_ops[i].noun, noun) != 0)
            continue;
        ctl_op_command(&ctl_ops[i], command);
        table_cell(&t, "  %s", command);
        table_cell(&t, "%s", ctl_ops[i].summary);
    }
    table_end(&t, out);
}

static void put_moments(FILE *out) {
    struct table t;
    fputs("\nmoments (T):\n", out);
    table_begin(&t, "|");
    for (uint32_t i = 0; i < help_moment_count; i++) {
        table_cell(&t, "  %s", help_moments[i].text);
        table_cell(&t, "%s", help_moments[i].meaning);
    }
    table_end(&t, out);
}

void help_all(FILE *out) {
    fputs("usage: perdure [--socket PATH] [--json] [--timeout DURATION] COMMAND ...\n"
          "\nPerdure keeps every write to its volumes: any moment opens as a disk, or becomes the\n"
          "volume again.\n"
          "\ncommands:\n",
          out);
    put_commands(NULL, out);
    put_options(out);
    put_moments(out);
    fputs("\nmore: perdure help COMMAND, man perdure\n", out);
}

void help_noun(const char *noun, FILE *out) {
    put_commands(noun, out);
    fprintf(out, "\nmore: perdure help %s VERB\n", noun);
}

/* Words in lines of at most LINE_CHARS. */
static void put_wrapped(const char *text, FILE *out) {
    for (size_t column = 0; *text;) {
        size_t len = strcspn(text, " ");
        if (column > 0 && column + 1 + len > LINE_CHARS) {
            fputc('\n', out);
            column = 0;
        }
        column += (size_t)fprintf(out, "%s%.*s", column ? " " : "", (int)len, text);
        text += len + (text[len] == ' ');
    }
    fputc('\n', out);
}

static void put_arguments(const struct ctl_op *op, FILE *out) {
    struct table t;
    table_begin(&t, "|");
    for (uint32_t i = 0; i < op->arg_count; i++) {
        const struct ctl_arg *arg = &op->args[i];
        table_cell(&t, "  %s%s%s%s", arg->option ? "--" : "", arg->option ? arg->option : "",
                   arg->option && arg->meta ? " " : "", arg->meta ? arg->meta : "");
        table_cell(&t, "%s%s%s%s%s%s", arg->help, arg->choices ? " (" : "",
                   arg->choices ? arg->choices : "", arg->choices ? ")" : "",
                   arg->fallback ? "; otherwise " : "", arg->fallback ? arg->fallback : "");
    }
    table_end(&t, out);
}

static void put_examples(const struct ctl_op *op, FILE *out) {
    fputs("\nexamples:\n", out);
    for (const char *at = op->example; *at;) {
        size_t len = strcspn(at, "\n");
        fprintf(out, "  %.*s\n", (int)len, at);
        at += len + (at[len] == '\n');
    }
}

void help_op(const struct ctl_op *op, FILE *out) {
    char usage[HELP_USAGE_BYTES];
    bool moments = false;
    for (uint32_t i = 0; i < op->arg_count; i++)
        moments |= op->args[i].type == CTL_MOMENT;
    help_usage(op, usage);
    fprintf(out, "usage: %s\n\n%s.\n", usage, op->summary);
    if (op->detail)
        put_wrapped(op->detail, out);
    if (op->arg_count) {
        fputc('\n', out);
        put_arguments(op, out);
    }
    if (moments)
        put_moments(out);
    put_examples(op, out);
}
