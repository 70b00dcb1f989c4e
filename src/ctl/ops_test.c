/* SPDX-License-Identifier: Apache-2.0 */
/* The table obeys the rules that its readers rely on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <stdio.h>

#include "base/err.h"
#include "ctl/args.h"
#include "ctl/proto.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static const char *const global_options[] = {"socket", "json", "timeout", "help", "version"};

static void names(void **state) {
    for (uint32_t i = 0; i < ctl_op_count; i++) {
        const struct ctl_op *op = &ctl_ops[i];
        char want[64];
        snprintf(want, sizeof want, "%s%s%s", op->noun, op->verb ? "." : "",
                 op->verb ? op->verb : "");
        assert_string_equal(op->name, want);
        assert_ptr_equal(ctl_op_find(op->name), op);
        char command[CTL_COMMAND_BYTES];
        ctl_op_command(op, command);
        assert_int_equal(strlen(command), strlen(op->name));
        unsigned same_noun_default = 0;
        for (uint32_t j = 0; j < ctl_op_count; j++) {
            if (strcmp(ctl_ops[j].noun, op->noun) != 0)
                continue;
            same_noun_default += (ctl_ops[j].flags & CTL_DEFAULT_VERB) != 0;
            /* A noun is either a command or has verbs. */
            assert_true(i == j || (op->verb && ctl_ops[j].verb));
        }
        assert_true(same_noun_default <= 1);
    }
    assert_null(ctl_op_find(""));
    assert_null(ctl_op_find("volume"));
}

static void check_arg(const struct ctl_op *op, const struct ctl_arg *arg) {
    assert_non_null(arg->help);
    assert_ptr_equal(ctl_arg_find(op, arg->key), arg);
    assert_int_equal(arg->meta == NULL, arg->type == CTL_BOOL);
    assert_true(arg->type != CTL_BOOL || (arg->option && !(arg->flags & CTL_REQUIRED)));
    assert_true(arg->type != CTL_CHOICE || arg->choices);
    assert_true(!(arg->flags & CTL_LIST) || arg->type == CTL_VOLUME);
    assert_true(!arg->fallback || !(arg->flags & CTL_REQUIRED));
    for (size_t i = 0; arg->option && i < COUNT_OF(global_options); i++)
        assert_string_not_equal(arg->option, global_options[i]);
    for (const struct ctl_arg *other = op->args; other < arg; other++)
        assert_true(!arg->option || !other->option || strcmp(arg->option, other->option) != 0);
}

static void arguments(void **state) {
    for (uint32_t i = 0; i < ctl_op_count; i++) {
        const struct ctl_op *op = &ctl_ops[i];
        assert_true(op->arg_count <= CTL_ARGS_MAX);
        bool list = false, optional = false;
        for (uint32_t j = 0; j < op->arg_count; j++) {
            const struct ctl_arg *arg = &op->args[j];
            check_arg(op, arg);
            if (arg->option) {
                assert_false(arg->flags & CTL_LIST);
                continue;
            }
            /* Words: needed ones first, a list last. */
            assert_false(list);
            assert_false(optional && arg->flags & CTL_REQUIRED);
            list = arg->flags & CTL_LIST;
            optional = !(arg->flags & CTL_REQUIRED);
        }
    }
}

/* Every fallback and every choice passes the check that a person's text passes. */
static void choices_and_fallbacks(void **state) {
    unsigned seen = 0;
    for (uint32_t i = 0; i < ctl_op_count; i++) {
        for (uint32_t j = 0; j < ctl_ops[i].arg_count; j++) {
            const struct ctl_arg *arg = &ctl_ops[i].args[j];
            json_t *json = NULL;
            if (arg->fallback) {
                assert_int_equal(ctl_text_to_json(arg, arg->fallback, 0, NULL, &json, NULL), OK);
                json_decref(json);
            }
            for (const char *c = arg->choices, *next; c; c = next) {
                char text[32] = {0};
                memcpy(text, c, ctl_choice_next(c, &next));
                assert_int_equal(ctl_text_to_json(arg, text, 0, NULL, &json, NULL), OK);
                json_decref(json);
                seen++;
            }
        }
    }
    assert_int_equal(seen, 10);
}

static int run_nothing(void *ctx, const struct ctl_request *r) {
    return OK;
}

static void handlers(void **state) {
    struct ctl_handler all[64];
    assert_true(ctl_op_count < COUNT_OF(all));
    uint32_t count = 0;
    for (uint32_t i = ctl_op_count; i-- > 0;)
        if (!(ctl_ops[i].flags & CTL_COMPOSED))
            all[count++] = (struct ctl_handler){ctl_ops[i].name, run_nothing};
    assert_true(count < ctl_op_count);
    assert_true(ctl_handlers_complete(all, count));
    assert_ptr_equal(ctl_handler_find(all, count, "volume.create"), &all[count - 1]);
    assert_null(ctl_handler_find(all, count, "volume"));
    assert_false(ctl_handlers_complete(all, count - 1));
    all[count] = (struct ctl_handler){"bisect", run_nothing};
    assert_false(ctl_handlers_complete(all, count + 1));
    all[0].op = all[1].op;
    assert_false(ctl_handlers_complete(all, count));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(names), cmocka_unit_test(arguments),
                                       cmocka_unit_test(choices_and_fallbacks),
                                       cmocka_unit_test(handlers)};
    return cmocka_run_group_tests_name("ctl_ops", tests, NULL, NULL);
}
