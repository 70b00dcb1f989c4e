/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/name.h"

#include <stdbool.h>

#include "base/err.h"

static bool is_lower(char c) {
    return c >= 'a' && c <= 'z';
}
static bool is_upper(char c) {
    return c >= 'A' && c <= 'Z';
}
static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

const char *name_kind_word(enum name_kind kind) {
    switch (kind) {
    case NAME_VOLUME:
        return "volume";
    case NAME_IMAGE:
        return "image";
    case NAME_LABEL:
        return "label";
    }
    return "name";
}

static bool is_now(const char *text, size_t len) {
    return len == 3 && (text[0] | 32) == 'n' && (text[1] | 32) == 'o' && (text[2] | 32) == 'w';
}

static int check_label(const char *text, size_t len, struct fault *f) {
    if (!is_lower(text[0]) && !is_upper(text[0]))
        return fault_set(f, ERR_INVAL, 0, "a label begins with a letter");
    for (size_t i = 1; i < len; i++) {
        char c = text[i];
        if (!is_lower(c) && !is_upper(c) && !is_digit(c) && c != '.' && c != '_' && c != '-')
            return fault_set(f, ERR_INVAL, i,
                             "a label holds only letters, digits, '.', '_' and '-'");
    }
    if (is_now(text, len))
        return fault_set(f, ERR_INVAL, 0, "\"now\" is the present moment and cannot be a label");
    return OK;
}

int name_check(enum name_kind kind, const char *text, size_t len, struct fault *f) {
    const char *word = name_kind_word(kind);
    if (len == 0)
        return fault_set(f, ERR_INVAL, 0, "the %s name is empty", word);
    if (len > NAME_MAX_LEN)
        return fault_set(f, ERR_TOOBIG, NAME_MAX_LEN, "the %s name is longer than %u characters",
                         word, NAME_MAX_LEN);
    if (kind == NAME_LABEL)
        return check_label(text, len, f);
    for (size_t i = 0; i < len; i++) {
        if (is_upper(text[i]))
            return fault_set(f, ERR_INVAL, i,
                             "names of %ss are lower-case, because iSCSI does not tell the cases "
                             "apart",
                             word);
        if (!is_lower(text[i]) && !is_digit(text[i]) && text[i] != '-')
            return fault_set(f, ERR_INVAL, i,
                             "the %s name holds only lower-case letters, digits and '-'", word);
        if (text[i] == '-' && (i == 0 || i == len - 1))
            return fault_set(f, ERR_INVAL, i, "the %s name begins and ends with a letter or digit",
                             word);
    }
    return OK;
}
