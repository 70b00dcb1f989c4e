/* SPDX-License-Identifier: Apache-2.0 */
/* docs/reference.md and perdure(1). */
#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#include "cli/exit_code.h"
#include "cli/help.h"
#include "cli/options.h"

static const char *type_text(const struct ctl_arg *arg) {
    switch (arg->type) {
    case CTL_TEXT:
        return "string";
    case CTL_VOLUME:
        return arg->flags & CTL_LIST ? "array of volume names" : "volume name";
    case CTL_IMAGE:
        return "image name";
    case CTL_LABEL:
        return "label";
    case CTL_SIZE:
        return "integer, bytes";
    case CTL_MOMENT:
        return "string, a moment";
    case CTL_BOOL:
        return "boolean";
    case CTL_DURATION:
        return "integer, nanoseconds";
    case CTL_RANGE:
        return "{\"offset_bytes\": integer, \"length_bytes\": integer}";
    case CTL_CHOICE:
        return "string";
    case CTL_NUMBER:
        return "integer";
    case CTL_THINNING:
        return "string, AGE:STEP[,AGE:STEP]...";
    }
    return "";
}

static void put_sentence(const char *text, FILE *out) {
    fprintf(out, "%c%s.", toupper((unsigned char)text[0]), text + 1);
}

static void markdown_cell(const char *text, FILE *out) {
    for (; *text; text++)
        fprintf(out, *text == '|' ? "\\|" : "%c", *text);
}

static void markdown_args(const struct ctl_op *op, FILE *out) {
    if (!op->arg_count)
        return;
    fputs("| argument | key | type | |\n|---|---|---|---|\n", out);
    for (uint32_t i = 0; i < op->arg_count; i++) {
        const struct ctl_arg *arg = &op->args[i];
        fprintf(out, "| `%s%s%s%s`", arg->option ? "--" : "", arg->option ? arg->option : "",
                arg->option && arg->meta ? " " : "", arg->meta ? arg->meta : "");
        if (arg->flags & CTL_LOCAL)
            fputs(" | | | ", out);
        else
            fprintf(out, " | `%s` | %s | ", arg->key, type_text(arg));
        markdown_cell(arg->help, out);
        if (arg->choices) {
            fputs("; one of ", out);
            for (const char *c = arg->choices, *next; c; c = next) {
                size_t len = ctl_choice_next(c, &next);
                fprintf(out, "`%.*s`%s", (int)len, c, next ? ", " : "");
            }
        }
        if (arg->fallback)
            fprintf(out, "; otherwise `%s`", arg->fallback);
        if (arg->flags & CTL_REQUIRED)
            fputs("; **needed**", out);
        fputs(" |\n", out);
    }
    fputc('\n', out);
}

static void markdown_op(const struct ctl_op *op, FILE *out) {
    char usage[HELP_USAGE_BYTES], command[CTL_COMMAND_BYTES];
    help_usage(op, usage);
    ctl_op_command(op, command);
    fprintf(out, "### %s\n\n", command);
    put_sentence(op->summary, out);
    if (op->detail)
        fprintf(out, " %s", op->detail);
    fprintf(out, "\n\n```\n%s\n```\n\n", usage);
    markdown_args(op, out);
    fprintf(out, "Operation `%s`; result:\n\n```\n%s\n```\n\nExamples:\n\n```sh\n%s\n```\n\n",
            op->name, op->result, op->example);
}

void help_markdown(FILE *out) {
    fputs("# Reference\n\n"
          "Made by `perdure help --markdown` from the table in `src/ctl/ops.c`; a test holds the "
          "two together.\n\n"
          "## Every command\n\n"
          "`perdure [--socket PATH] [--json] [--timeout DURATION] COMMAND ...`\n\n"
          "| option | |\n|---|---|\n",
          out);
    for (uint32_t i = 0; i < cli_global_option_count; i++) {
        const struct cli_option *o = &cli_global_options[i];
        fprintf(out, "| `--%s%s%s` | %s |\n", o->name, o->meta ? " " : "", o->meta ? o->meta : "",
                o->help);
    }
    fputs("\n| exit code | |\n|---|---|\n", out);
    for (int i = 0; i < EXIT_CODE_COUNT; i++)
        fprintf(out, "| %d | %s |\n", i, exit_code_text((enum exit_code)i));
    fputs("\n## Moments\n\n| written | means |\n|---|---|\n", out);
    for (uint32_t i = 0; i < help_moment_count; i++)
        fprintf(out, "| `%s` | %s |\n", help_moments[i].text, help_moments[i].meaning);
    fputs("\nA local time that the clock showed twice, or never, is refused with the two moments "
          "that it may mean. So is a time that the server's clock showed twice because it was set "
          "back; the two are named by their sequence numbers. No moment shows half of a write: a "
          "number or time within one means the moment before it, and the answer tells which that "
          "is. Sizes are bytes, or numbers with "
          "`K`, `M`, `G`, `T`, `P` or `E` "
          "(powers of 1024). Durations are parts of `w d h m s ms us ns`, larger units first.\n\n"
          "Names of volumes and images are 1 to 63 lower-case letters, digits and `-`. A label "
          "begins with a letter and may also hold upper case, `.` and `_`.\n\n"
          "An NBD export is `VOLUME`, an open image `VOLUME.IMAGE`, a moment `VOLUME@T` "
          "(read-only) or `VOLUME@T+rw` (writable, thrown away with its last client).\n\n"
          "## Control socket\n\n"
          "One JSON object a line, at most 64 KiB and 8 levels deep:\n\n"
          "```\n"
          "{\"id\": 7, \"op\": \"image.open\", \"args\": {\"volumes\": [\"demo\"], "
          "\"at\": \"-5min\"}}\n"
          "{\"id\": 7, \"ok\": true, \"result\": {...}}\n"
          "{\"id\": 7, \"ok\": false, \"code\": \"not_found\", \"message\": \"...\", "
          "\"hint\": \"...\"}\n"
          "```\n\n"
          "Times are RFC 3339 in UTC. In the shapes below, `?` means that a value may be null. "
          "These are shared:\n\n```\n",
          out);
    for (uint32_t i = 0; i < ctl_shape_count; i++)
        fprintf(out, "%s%s =\n%s\n", i ? "\n" : "", ctl_shapes[i].name, ctl_shapes[i].json);
    fputs("```\n\n## Commands\n\n", out);
    for (uint32_t i = 0; i < ctl_op_count; i++)
        markdown_op(&ctl_ops[i], out);
    fputs("## Help\n\n"
          "`perdure help [COMMAND]` tells this on a terminal; `perdure help --man` prints the "
          "manual page, `perdure help --completion bash` the completion for a shell, "
          "`perdure help --markdown` this page.\n",
          out);
}

/* Text for troff: backslashes and dashes are escaped, and no line begins with a control dot. */
static void roff(const char *text, FILE *out) {
    for (const char *at = text; *at; at++) {
        if ((at == text || at[-1] == '\n') && (*at == '.' || *at == '\''))
            fputs("\\&", out);
        if (*at == '\\')
            fputs("\\e", out);
        else if (*at == '-')
            fputs("\\-", out);
        else if (*at == '\'')
            fputs("\\(aq", out);
        else
            fputc(*at, out);
    }
}

static void roff_item(const char *option, const char *meta, const char *help, FILE *out) {
    fputs(".TP\n\\fB", out);
    roff(option, out);
    fputs("\\fR", out);
    if (meta) {
        fputs(option[0] ? " \\fI" : "\\fI", out);
        roff(meta, out);
        fputs("\\fR", out);
    }
    fputc('\n', out);
    roff(help, out);
    fputc('\n', out);
}

static void man_op(const struct ctl_op *op, FILE *out) {
    char usage[HELP_USAGE_BYTES], option[64];
    help_usage(op, usage);
    fputs(".SS ", out);
    roff(usage + strlen("perdure "), out);
    fputc('\n', out);
    roff(op->summary, out);
    fputs(".\n", out);
    if (op->detail) {
        roff(op->detail, out);
        fputc('\n', out);
    }
    for (uint32_t i = 0; i < op->arg_count; i++) {
        const struct ctl_arg *arg = &op->args[i];
        snprintf(option, sizeof option, "%s%s", arg->option ? "--" : "",
                 arg->option ? arg->option : "");
        roff_item(option, arg->meta, arg->help, out);
        if (arg->choices) {
            fputs("(", out);
            roff(arg->choices, out);
            fputs(")\n", out);
        }
        if (arg->fallback) {
            fputs("Otherwise ", out);
            roff(arg->fallback, out);
            fputs(".\n", out);
        }
    }
    fputs(".PP\n.nf\n.RS\n", out);
    roff(op->example, out);
    fputs("\n.RE\n.fi\n", out);
}

void help_man(FILE *out) {
    char option[64], number[8];
    fputs(".TH PERDURE 1 \"\" \"Perdure " PERDURE_VERSION "\" \"User commands\"\n"
          ".SH NAME\nperdure \\- command line of the Perdure block\\-storage server\n"
          ".SH SYNOPSIS\n\\fBperdure\\fR [\\fIoptions\\fR] \\fICOMMAND\\fR ...\n"
          ".SH DESCRIPTION\n"
          "Perdure serves volumes over the network and keeps every write to them: any moment opens "
          "as a disk, or becomes the volume again. This program makes volumes, opens moments, "
          "restores, and asks a running server how it is.\n"
          ".SH OPTIONS\n",
          out);
    for (uint32_t i = 0; i < cli_global_option_count; i++) {
        const struct cli_option *o = &cli_global_options[i];
        snprintf(option, sizeof option, "--%s", o->name);
        roff_item(option, o->meta, o->help, out);
    }
    fputs(".SH COMMANDS\n", out);
    for (uint32_t i = 0; i < ctl_op_count; i++)
        man_op(&ctl_ops[i], out);
    fputs(".SH MOMENTS\n", out);
    for (uint32_t i = 0; i < help_moment_count; i++)
        roff_item(help_moments[i].text, NULL, help_moments[i].meaning, out);
    fputs(".PP\nA local time that the clock showed twice, or never, is refused with the two "
          "moments that it may mean. So is a time that the server's clock showed twice because "
          "it was set back; the two are named by their sequence numbers. No moment shows half of "
          "a write: a number or time within one means the moment before it, and the answer tells "
          "which that is.\n"
          ".SH EXIT STATUS\n",
          out);
    for (int i = 0; i < EXIT_CODE_COUNT; i++) {
        snprintf(number, sizeof number, "%d", i);
        roff_item(number, NULL, exit_code_text((enum exit_code)i), out);
    }
    fputs(".SH ENVIRONMENT\n", out);
    roff_item("PERDURE_SOCKET", NULL, "the server's control socket", out);
    roff_item("TZ", NULL, "the time zone of moments without one, and of times shown", out);
}
