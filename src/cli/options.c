/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One pass over the words. The first word that is no option is the noun; the next is its verb, if
 * the noun has verbs and this is one of them, else the noun's default verb is meant and the word is
 * already an argument. From then on the operation is known, and with it every option.
 */
#include "cli/options.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/must.h"
#include "base/units.h"
#include "ctl/args.h"
#include "ctl/size.h"

#define TIMEOUT_MIN_NS (NS_PER_MS)

const struct cli_option cli_global_options[] = {
    {"socket", "PATH",
     "the control socket; else $PERDURE_SOCKET, run/control.sock, /run/perdure/control.sock"},
    {"json", NULL, "print the result as JSON"},
    {"timeout", "DURATION", "give up after this time; 1min without it"},
    {"help", NULL, "tell how the command is used"},
    {"version", NULL, "print the version"},
};

const uint32_t cli_global_option_count = sizeof cli_global_options / sizeof cli_global_options[0];

struct scan {
    int argc, at;
    char **argv;
    uint64_t now_ns;
    struct cli *cli;
    struct cli_command *command;
    struct cli_failure *failure;
    uint32_t given;  /* bit per argument of the operation */
    bool words_only; /* after "--" */
};

bool options_is_noun(const char *word) {
    for (uint32_t i = 0; i < ctl_op_count; i++)
        if (strcmp(ctl_ops[i].noun, word) == 0)
            return true;
    return false;
}

static const struct ctl_op *find_op(const char *noun, const char *verb) {
    for (uint32_t i = 0; i < ctl_op_count; i++) {
        const struct ctl_op *op = &ctl_ops[i];
        if (strcmp(op->noun, noun) != 0)
            continue;
        if (verb ? op->verb && strcmp(op->verb, verb) == 0
                 : !op->verb || op->flags & CTL_DEFAULT_VERB)
            return op;
    }
    return NULL;
}

/* True if one letter added, left out, changed, or two neighbours swapped make a into b. */
static bool nearly(const char *a, const char *b) {
    size_t same = 0;
    while (a[same] && a[same] == b[same])
        same++;
    a += same;
    b += same;
    if (!*a || !*b)
        return strlen(a) + strlen(b) <= 1;
    if (strcmp(a + 1, b + 1) == 0 || strcmp(a + 1, b) == 0 || strcmp(a, b + 1) == 0)
        return true;
    return a[1] && b[1] && a[0] == b[1] && a[1] == b[0] && strcmp(a + 2, b + 2) == 0;
}

static void hint_help(struct scan *s) {
    char command[CTL_COMMAND_BYTES];
    if (s->failure->hint[0])
        return;
    if (s->command->op) {
        ctl_op_command(s->command->op, command);
        cli_hint(s->failure, "see perdure help %s", command);
    } else if (s->command->noun) {
        cli_hint(s->failure, "see perdure help %s", s->command->noun);
    } else {
        cli_hint(s->failure, "see perdure help");
    }
}

/* Shows where in a value the fault is, when pointing helps. */
static int fail_value(struct scan *s, const char *what, const char *value, int err,
                      const struct fault *fault) {
    size_t len = strlen(value);
    if (fault->at > 0 && len <= 80 && !strchr(value, '\n'))
        return cli_fail(s->failure, err, "%s: %s\n  %s\n  %*s^", what, fault->text, value,
                        (int)fault->at, "");
    return cli_fail(s->failure, err, "%s \"%.100s\": %s", what, value, fault->text);
}

static int set_value(struct scan *s, const struct ctl_arg *arg, const char *what,
                     const char *text) {
    struct cli_command *command = s->command;
    uint32_t index = (uint32_t)(arg - command->op->args);
    if (s->given >> index & 1 && !(arg->flags & CTL_LIST))
        return cli_fail(s->failure, ERR_INVAL, "%s is given twice", what);
    s->given |= 1u << index;
    if (arg->flags & CTL_LOCAL) {
        command->local[index] = text;
        return OK;
    }
    json_t *value = NULL;
    struct fault fault;
    int err = ctl_text_to_json(arg, text, s->now_ns, &s->cli->zone, &value, &fault);
    if (err)
        return fail_value(s, what, text, err, &fault);
    if (!(arg->flags & CTL_LIST))
        return json_object_set_new(command->args, arg->key, value) == 0
                   ? OK
                   : cli_fail(s->failure, ERR_NOMEM, "out of memory");
    json_t *list = json_object_get(command->args, arg->key);
    if (!list) {
        list = json_array();
        json_object_set_new(command->args, arg->key, list);
    }
    if (json_array_size(list) == CTL_LIST_MAX) {
        json_decref(value);
        return cli_fail(s->failure, ERR_TOOBIG, "at most %u of %s can be given", CTL_LIST_MAX,
                        what);
    }
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item) if (json_equal(item, value)) {
        json_decref(value);
        return cli_fail(s->failure, ERR_INVAL, "%s \"%s\" is given twice", what, text);
    }
    return json_array_append_new(list, value) == 0
               ? OK
               : cli_fail(s->failure, ERR_NOMEM, "out of memory");
}

/* The value of an option: after '=', or the next word. */
static int take_value(struct scan *s, const char *name, const char *equals, const char **value) {
    if (equals) {
        *value = equals + 1;
        return OK;
    }
    if (s->at == s->argc)
        return cli_fail(s->failure, ERR_INVAL, "--%s needs a value", name);
    *value = s->argv[s->at++];
    return OK;
}

static int take_global(struct scan *s, const struct cli_option *option, const char *equals) {
    const char *value = NULL;
    if (!option->meta && equals)
        return cli_fail(s->failure, ERR_INVAL, "--%s takes no value", option->name);
    int err = option->meta ? take_value(s, option->name, equals, &value) : OK;
    if (err)
        return err;
    if (strcmp(option->name, "socket") == 0) {
        s->cli->socket_path = value;
    } else if (strcmp(option->name, "json") == 0) {
        s->cli->json = true;
    } else if (strcmp(option->name, "help") == 0) {
        s->command->task = CLI_HELP;
    } else if (strcmp(option->name, "version") == 0) {
        s->command->task = CLI_VERSION;
    } else {
        struct fault fault;
        must(strcmp(option->name, "timeout") == 0);
        err = duration_parse(value, strlen(value), &s->cli->timeout_ns, &fault);
        if (!err && s->cli->timeout_ns < TIMEOUT_MIN_NS)
            err = fault_set(&fault, ERR_RANGE, 0, "it is at least 1 ms");
        if (err)
            return fail_value(s, "--timeout", value, err, &fault);
    }
    return OK;
}

static int fail_unknown_option(struct scan *s, const char *name) {
    const struct ctl_op *op = s->command->op;
    cli_fail(s->failure, ERR_INVAL, "there is no option --%s here", name);
    for (uint32_t i = 0; op && i < op->arg_count; i++)
        if (op->args[i].option && nearly(name, op->args[i].option))
            cli_hint(s->failure, "perhaps --%s is meant", op->args[i].option);
    for (uint32_t i = 0; i < cli_global_option_count; i++)
        if (nearly(name, cli_global_options[i].name))
            cli_hint(s->failure, "perhaps --%s is meant", cli_global_options[i].name);
    return s->failure->err;
}

static int take_option(struct scan *s, const char *word) {
    char name[64], what[68];
    const char *equals = strchr(word, '=');
    size_t len = equals ? (size_t)(equals - word) : strlen(word);
    if (strcmp(word, "-h") == 0) {
        s->command->task = CLI_HELP;
        return OK;
    }
    if (len < 3 || word[1] != '-' || len - 2 >= sizeof name)
        return cli_fail(s->failure, ERR_INVAL, "there is no option %.64s here", word);
    snprintf(name, sizeof name, "%.*s", (int)(len - 2), word + 2);
    snprintf(what, sizeof what, "--%s", name);
    for (uint32_t i = 0; i < cli_global_option_count; i++)
        if (strcmp(cli_global_options[i].name, name) == 0)
            return take_global(s, &cli_global_options[i], equals);
    if (!s->command->op && s->command->noun)
        s->command->op = find_op(s->command->noun, NULL);
    const struct ctl_op *op = s->command->op;
    for (uint32_t i = 0; op && i < op->arg_count; i++) {
        const struct ctl_arg *arg = &op->args[i];
        const char *value = NULL;
        if (!arg->option || strcmp(arg->option, name) != 0)
            continue;
        if (arg->type == CTL_BOOL)
            return equals ? cli_fail(s->failure, ERR_INVAL, "--%s takes no value", name)
                          : set_value(s, arg, what, "true");
        int err = take_value(s, name, equals, &value);
        return err ? err : set_value(s, arg, what, value);
    }
    return fail_unknown_option(s, name);
}

static int take_argument(struct scan *s, const char *word) {
    const struct ctl_op *op = s->command->op;
    for (uint32_t i = 0; i < op->arg_count; i++) {
        const struct ctl_arg *arg = &op->args[i];
        if (!arg->option && (arg->flags & CTL_LIST || !(s->given >> i & 1)))
            return set_value(s, arg, arg->meta, word);
    }
    char command[CTL_COMMAND_BYTES];
    ctl_op_command(op, command);
    return cli_fail(s->failure, ERR_INVAL, "%s takes no argument \"%.100s\"", command, word);
}

static int take_noun(struct scan *s, const char *word) {
    if (options_is_noun(word)) {
        s->command->noun = word;
        const struct ctl_op *op = find_op(word, NULL);
        if (op && !op->verb)
            s->command->op = op;
        return OK;
    }
    cli_fail(s->failure, ERR_INVAL, "there is no command \"%.100s\"", word);
    for (uint32_t i = 0; i < ctl_op_count; i++)
        if (nearly(word, ctl_ops[i].noun))
            cli_hint(s->failure, "perhaps perdure %s is meant", ctl_ops[i].noun);
    return s->failure->err;
}

static int take_verb(struct scan *s, const char *word) {
    const char *noun = s->command->noun;
    s->command->op = find_op(noun, word);
    if (s->command->op)
        return OK;
    s->command->op = find_op(noun, NULL);
    if (s->command->op)
        return take_argument(s, word);
    cli_fail(s->failure, ERR_INVAL, "there is no command \"%s %.100s\"", noun, word);
    for (uint32_t i = 0; i < ctl_op_count; i++)
        if (strcmp(ctl_ops[i].noun, noun) == 0 && nearly(word, ctl_ops[i].verb))
            cli_hint(s->failure, "perhaps perdure %s %s is meant", noun, ctl_ops[i].verb);
    return s->failure->err;
}

static int check_complete(struct scan *s) {
    const struct ctl_op *op = s->command->op;
    char name[CTL_COMMAND_BYTES];
    if (!op)
        return s->command->noun
                   ? cli_fail(s->failure, ERR_INVAL, "%s needs a verb", s->command->noun)
                   : cli_fail(s->failure, ERR_INVAL, "a command is missing");
    ctl_op_command(op, name);
    for (uint32_t i = 0; i < op->arg_count; i++) {
        const struct ctl_arg *arg = &op->args[i];
        if (!(arg->flags & CTL_REQUIRED) || s->given >> i & 1)
            continue;
        return cli_fail(s->failure, ERR_INVAL, "%s needs %s%s%s%s", name, arg->option ? "--" : "",
                        arg->option ? arg->option : "", arg->option ? " " : "", arg->meta);
    }
    if (op->flags & CTL_TAKES_COMMAND && s->command->rest_count == 0)
        return cli_fail(s->failure, ERR_INVAL, "%s needs -- COMMAND", name);
    return OK;
}

int options_parse(int argc, char **argv, uint64_t now_ns, struct cli *cli,
                  struct cli_command *command, struct cli_failure *f) {
    struct scan s = {
        .argc = argc, .argv = argv, .now_ns = now_ns, .cli = cli, .command = command, .failure = f};
    *command = (struct cli_command){.task = CLI_RUN, .args = json_object()};
    if (!command->args)
        return cli_fail(f, ERR_NOMEM, "out of memory");
    f->hint[0] = '\0';
    while (s.at < argc) {
        const char *word = argv[s.at++];
        int err;
        if (!s.words_only && strcmp(word, "--") == 0) {
            s.words_only = true;
            if (command->op && command->op->flags & CTL_TAKES_COMMAND) {
                command->rest = argv + s.at;
                command->rest_count = argc - s.at;
                break;
            }
            continue;
        }
        if (!s.words_only && word[0] == '-' && word[1])
            err = take_option(&s, word);
        else if (!command->noun)
            err = take_noun(&s, word);
        else if (!command->op)
            err = take_verb(&s, word);
        else
            err = take_argument(&s, word);
        if (command->task != CLI_RUN)
            return OK;
        if (err) {
            hint_help(&s);
            return err;
        }
    }
    int err = check_complete(&s);
    if (err)
        hint_help(&s);
    return err;
}
