/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/args.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/must.h"
#include "ctl/size.h"
#include "ctl/thinning.h"

static const struct ctl_value *value_of(const struct ctl_args *a, const char *key, uint32_t types,
                                        bool list) {
    const struct ctl_arg *arg = ctl_arg_find(a->op, key);
    must(arg != NULL);
    must(types >> arg->type & 1);
    must(list == ((arg->flags & CTL_LIST) != 0));
    return &a->value[arg - a->op->args];
}

#define TEXT_TYPES                                                                                 \
    (1u << CTL_TEXT | 1u << CTL_VOLUME | 1u << CTL_IMAGE | 1u << CTL_LABEL | 1u << CTL_CHOICE |    \
     1u << CTL_THINNING)
#define NUMBER_TYPES (1u << CTL_SIZE | 1u << CTL_DURATION | 1u << CTL_NUMBER)

bool ctl_has(const struct ctl_args *a, const char *key) {
    const struct ctl_arg *arg = ctl_arg_find(a->op, key);
    must(arg != NULL);
    return a->value[arg - a->op->args].set;
}
const char *ctl_text(const struct ctl_args *a, const char *key) {
    return value_of(a, key, TEXT_TYPES, false)->text;
}
uint64_t ctl_number(const struct ctl_args *a, const char *key) {
    return value_of(a, key, NUMBER_TYPES, false)->number;
}
bool ctl_flag(const struct ctl_args *a, const char *key) {
    return value_of(a, key, 1u << CTL_BOOL, false)->flag;
}
struct ctl_range ctl_range(const struct ctl_args *a, const char *key) {
    const struct ctl_value *v = value_of(a, key, 1u << CTL_RANGE, false);
    must(v->set);
    return v->range;
}
const struct moment *ctl_moment(const struct ctl_args *a, const char *key) {
    const struct ctl_value *v = value_of(a, key, 1u << CTL_MOMENT, false);
    must(v->set);
    return &v->moment;
}
const struct ctl_list *ctl_list(const struct ctl_args *a, const char *key) {
    return &value_of(a, key, TEXT_TYPES, true)->list;
}

static uint64_t max_of(const struct ctl_arg *arg) {
    return arg->max ? arg->max : (uint64_t)INT64_MAX;
}

static void format_number(const struct ctl_arg *arg, uint64_t number, char out[SIZE_TEXT_BYTES]) {
    if (arg->type == CTL_SIZE)
        size_format(out, number);
    else if (arg->type == CTL_NUMBER)
        snprintf(out, SIZE_TEXT_BYTES, "%" PRIu64, number);
    else
        duration_format(out, number);
}

static int check_number(const struct ctl_arg *arg, uint64_t number, struct fault *f) {
    if (number < arg->min || number > max_of(arg)) {
        char low[SIZE_TEXT_BYTES], high[SIZE_TEXT_BYTES];
        format_number(arg, arg->min, low);
        format_number(arg, max_of(arg), high);
        return fault_set(f, ERR_RANGE, 0, "it lies between %s and %s", low, high);
    }
    if (!arg->choices)
        return OK;
    for (const char *choice = arg->choices, *next; choice; choice = next) {
        size_t len = ctl_choice_next(choice, &next);
        uint64_t allowed = 0;
        int err = size_parse(choice, len, &allowed, NULL);
        must(err == OK);
        if (allowed == number)
            return OK;
    }
    return fault_set(f, ERR_INVAL, 0, "it is one of %s", arg->choices);
}

static int check_choice(const struct ctl_arg *arg, const char *text, size_t len, struct fault *f) {
    for (const char *choice = arg->choices, *next; choice; choice = next) {
        size_t choice_len = ctl_choice_next(choice, &next);
        if (choice_len == len && memcmp(choice, text, len) == 0)
            return OK;
    }
    return fault_set(f, ERR_INVAL, 0, "it is one of %s", arg->choices);
}

static int check_text(const struct ctl_arg *arg, const char *text, size_t len, struct fault *f) {
    uint64_t levels[THINNING_LEVELS];
    switch (arg->type) {
    case CTL_VOLUME:
        return name_check(NAME_VOLUME, text, len, f);
    case CTL_IMAGE:
        return name_check(NAME_IMAGE, text, len, f);
    case CTL_LABEL:
        return name_check(NAME_LABEL, text, len, f);
    case CTL_CHOICE:
        return check_choice(arg, text, len, f);
    case CTL_THINNING:
        return thinning_parse(text, len, levels, f);
    default:
        must(arg->type == CTL_TEXT);
        if (len == 0)
            return fault_set(f, ERR_INVAL, 0, "it is empty");
        if (len > CTL_TEXT_MAX)
            return fault_set(f, ERR_TOOBIG, CTL_TEXT_MAX, "it is longer than %u bytes",
                             CTL_TEXT_MAX);
        return OK;
    }
}

static int number_from_text(const struct ctl_arg *arg, const char *text, uint64_t *number,
                            struct fault *f) {
    if (arg->type == CTL_NUMBER && text[strspn(text, "0123456789")])
        return fault_set(f, ERR_INVAL, 0, "it must be a whole number");
    int err = arg->type != CTL_DURATION ? size_parse(text, strlen(text), number, f)
                                        : duration_parse(text, strlen(text), number, f);
    return err ? err : check_number(arg, *number, f);
}

int ctl_text_to_json(const struct ctl_arg *arg, const char *text, uint64_t now_ns,
                     const struct moment_zone *zone, json_t **out, struct fault *f) {
    int err = OK;
    *out = NULL;
    switch (arg->type) {
    case CTL_SIZE:
    case CTL_NUMBER:
    case CTL_DURATION: {
        uint64_t number = 0;
        err = number_from_text(arg, text, &number, f);
        if (!err)
            *out = json_integer((json_int_t)number);
        break;
    }
    case CTL_RANGE: {
        struct ctl_range r = {0};
        err = range_parse(text, strlen(text), &r.offset_bytes, &r.length_bytes, f);
        if (!err)
            *out = json_pack("{s:I,s:I}", "offset_bytes", (json_int_t)r.offset_bytes,
                             "length_bytes", (json_int_t)r.length_bytes);
        break;
    }
    case CTL_MOMENT: {
        struct moment m;
        char canonical[MOMENT_TEXT_BYTES];
        err = moment_parse(text, strlen(text), now_ns, zone, &m, f);
        if (err)
            break;
        bool relative = m.kind == MOMENT_TIME && m.form == MOMENT_RELATIVE;
        moment_to_text(&m, canonical);
        *out = json_string(relative ? text : canonical);
        break;
    }
    case CTL_BOOL:
        must(strcmp(text, "true") == 0 || strcmp(text, "false") == 0);
        *out = json_boolean(text[0] == 't');
        break;
    default:
        err = check_text(arg, text, strlen(text), f);
        if (!err)
            *out = json_string(text);
        if (!err && !*out)
            return fault_set(f, ERR_INVAL, 0, "it is not valid UTF-8");
    }
    if (err)
        return err;
    return *out ? OK : fault_set(f, ERR_NOMEM, 0, "out of memory");
}

static int take_integer(const json_t *json, uint64_t *number, struct fault *f) {
    if (!json_is_integer(json))
        return fault_set(f, ERR_INVAL, 0, "it must be an integer");
    if (json_integer_value(json) < 0)
        return fault_set(f, ERR_INVAL, 0, "it must not be negative");
    *number = (uint64_t)json_integer_value(json);
    return OK;
}

static int take_range(const json_t *json, struct ctl_range *r, struct fault *f) {
    const json_t *offset = json_object_get(json, "offset_bytes");
    const json_t *length = json_object_get(json, "length_bytes");
    if (!json_is_object(json) || !offset || !length || json_object_size(json) != 2)
        return fault_set(f, ERR_INVAL, 0,
                         "it must be {\"offset_bytes\": integer, \"length_bytes\": integer}");
    int err = take_integer(offset, &r->offset_bytes, f);
    if (!err)
        err = take_integer(length, &r->length_bytes, f);
    if (err)
        return err;
    if (r->length_bytes == 0)
        return fault_set(f, ERR_INVAL, 0, "its length is at least 1");
    if (r->length_bytes > (uint64_t)INT64_MAX - r->offset_bytes)
        return fault_set(f, ERR_RANGE, 0, "it ends beyond 8 EiB");
    return OK;
}

static int take_list(const struct ctl_arg *arg, const json_t *json, struct ctl_list *list,
                     struct fault *f) {
    if (!json_is_array(json))
        return fault_set(f, ERR_INVAL, 0, "it must be an array of strings");
    size_t count = json_array_size(json);
    if (count == 0)
        return fault_set(f, ERR_INVAL, 0, "it is empty");
    if (count > CTL_LIST_MAX)
        return fault_set(f, ERR_TOOBIG, 0, "it has more than %u items", CTL_LIST_MAX);
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(json, i);
        if (!json_is_string(item))
            return fault_set(f, ERR_INVAL, 0, "it must be an array of strings");
        int err = check_text(arg, json_string_value(item), json_string_length(item), f);
        if (err)
            return err;
        for (uint32_t j = 0; j < list->count; j++)
            if (strcmp(list->item[j], json_string_value(item)) == 0)
                return fault_set(f, ERR_INVAL, 0, "\"%s\" stands there twice", list->item[j]);
        list->item[list->count++] = json_string_value(item);
    }
    return OK;
}

static int take_value(const struct ctl_arg *arg, const json_t *json, uint64_t now_ns,
                      const struct moment_zone *zone, struct ctl_value *v, struct fault *f) {
    int err;
    if (arg->flags & CTL_LIST)
        return take_list(arg, json, &v->list, f);
    switch (arg->type) {
    case CTL_SIZE:
    case CTL_NUMBER:
    case CTL_DURATION:
        err = take_integer(json, &v->number, f);
        return err ? err : check_number(arg, v->number, f);
    case CTL_BOOL:
        if (!json_is_boolean(json))
            return fault_set(f, ERR_INVAL, 0, "it must be true or false");
        v->flag = json_is_true(json);
        return OK;
    case CTL_RANGE:
        return take_range(json, &v->range, f);
    default:
        break;
    }
    if (!json_is_string(json))
        return fault_set(f, ERR_INVAL, 0, "it must be a string");
    if (arg->type == CTL_MOMENT)
        return moment_parse(json_string_value(json), json_string_length(json), now_ns, zone,
                            &v->moment, f);
    v->text = json_string_value(json);
    return check_text(arg, v->text, json_string_length(json), f);
}

static int take_fallback(const struct ctl_arg *arg, struct ctl_value *v) {
    if (arg->type == CTL_CHOICE) {
        v->text = arg->fallback;
        return check_choice(arg, v->text, strlen(v->text), NULL);
    }
    must(NUMBER_TYPES >> arg->type & 1);
    return number_from_text(arg, arg->fallback, &v->number, NULL);
}

int ctl_args_parse(const struct ctl_op *op, const json_t *args, uint64_t now_ns,
                   const struct moment_zone *zone, struct ctl_args *out, struct fault *f) {
    memset(out, 0, sizeof *out);
    out->op = op;
    if (args && !json_is_object(args))
        return fault_set(f, ERR_INVAL, 0, "\"args\" must be an object");
    const char *key;
    json_t *ignored;
    /* The iteration changes nothing; jansson's iterators take no const object. */
    json_object_foreach((json_t *)(uintptr_t)args, key, ignored) {
        const struct ctl_arg *arg = ctl_arg_find(op, key);
        if (!arg || arg->flags & CTL_LOCAL)
            return fault_set(f, ERR_INVAL, 0, "%s has no argument \"%.64s\"", op->name, key);
    }
    for (uint32_t i = 0; i < op->arg_count; i++) {
        const struct ctl_arg *arg = &op->args[i];
        const json_t *json = json_object_get(args, arg->key);
        struct ctl_value *v = &out->value[i];
        if (!json && arg->flags & CTL_REQUIRED)
            return fault_set(f, ERR_INVAL, 0, "%s needs \"%s\"", op->name, arg->key);
        if (!json && !arg->fallback)
            continue;
        if (json) {
            struct fault inner;
            int err = take_value(arg, json, now_ns, zone, v, &inner);
            if (err)
                return fault_set(f, err, inner.at, "\"%s\": %.250s", arg->key, inner.text);
        } else {
            int err = take_fallback(arg, v);
            must(err == OK);
        }
        v->set = true;
    }
    return OK;
}
