/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/table.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/must.h"

static char *copy_text(const char *text, size_t len) {
    char *copy = malloc(len + 1);
    must(copy != NULL);
    memcpy(copy, text, len);
    copy[len] = '\0';
    return copy;
}

static void add(struct table *t, char *text) {
    if (t->cells == t->room) {
        t->room = t->room ? t->room * 2 : 64;
        t->cell = realloc(t->cell, t->room * sizeof t->cell[0]);
        must(t->cell != NULL);
    }
    t->cell[t->cells++] = text;
}

void table_begin(struct table *t, const char *columns) {
    *t = (struct table){0};
    for (const char *at = columns;;) {
        size_t len = strcspn(at, "|");
        must(t->columns < TABLE_COLUMNS_MAX);
        if (*at == '>') {
            t->right |= 1u << t->columns;
            at++;
            len--;
        }
        add(t, copy_text(at, len));
        t->columns++;
        at += len;
        if (!*at)
            break;
        at++;
    }
}

void table_cell(struct table *t, const char *format, ...) {
    char text[TABLE_CELL_MAX];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    add(t, copy_text(text, strlen(text)));
}

/* Characters, not bytes: continuation bytes of UTF-8 take no room. */
static uint32_t width_of(const char *text) {
    uint32_t width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

void table_put_clean(const char *text, FILE *out) {
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        fputc(c < 0x20 || c == 0x7f ? '?' : c, out);
    }
}

static void put_row(const struct table *t, const uint32_t *width, uint32_t first, FILE *out) {
    uint32_t last = t->columns;
    while (last > 0 && t->cell[first + last - 1][0] == '\0')
        last--;
    for (uint32_t i = 0; i < last; i++) {
        const char *text = t->cell[first + i];
        uint32_t pad = width[i] - width_of(text);
        if (t->right >> i & 1)
            fprintf(out, "%*s", (int)pad, "");
        table_put_clean(text, out);
        if (!(t->right >> i & 1) && i + 1 < last)
            fprintf(out, "%*s", (int)pad, "");
        if (i + 1 < last)
            fputs("  ", out);
    }
    fputc('\n', out);
}

void table_end(struct table *t, FILE *out) {
    uint32_t width[TABLE_COLUMNS_MAX] = {0};
    must(t->cells % t->columns == 0);
    for (uint32_t i = 0; i < t->cells; i++) {
        uint32_t w = width_of(t->cell[i]);
        if (w > width[i % t->columns])
            width[i % t->columns] = w;
    }
    uint32_t titles = 0;
    for (uint32_t i = 0; i < t->columns; i++)
        titles += t->cell[i][0] != '\0';
    for (uint32_t i = titles ? 0 : t->columns; i < t->cells; i += t->columns)
        put_row(t, width, i, out);
    for (uint32_t i = 0; i < t->cells; i++)
        free(t->cell[i]);
    free(t->cell);
    *t = (struct table){0};
}
