/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

const char *err_word(int err) {
    switch (err) {
#define ERR_WORD(name, number, word, text)                                                         \
    case ERR_##name:                                                                               \
        return word;
        ERR_LIST(ERR_WORD)
    case OK:
        return "ok";
    default:
        return "unknown";
    }
}

const char *err_text(int err) {
    switch (err) {
#define ERR_TEXT(name, number, word, text)                                                         \
    case ERR_##name:                                                                               \
        return text;
        ERR_LIST(ERR_TEXT)
    case OK:
        return "done";
    default:
        return "unknown error";
    }
}
