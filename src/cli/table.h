/* SPDX-License-Identifier: Apache-2.0 */
/* Aligned text for a terminal. Cells are printf texts; what a terminal would obey (control
 * characters, from names that others chose) is shown as '?'. */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H

#include <stdint.h>
#include <stdio.h>

#define TABLE_COLUMNS_MAX 12u
#define TABLE_CELL_MAX 512u

struct table {
    uint32_t columns, cells;
    uint32_t right; /* bit per column: aligned to the right */
    uint32_t room;
    char **cell;
};

/* columns: titles separated by '|', "NAME|>SIZE|STATE"; '>' aligns to the right. A title may be
 * empty; a table without any title has no head line. */
void table_begin(struct table *t, const char *columns);
__attribute__((format(printf, 2, 3))) void table_cell(struct table *t, const char *format, ...);
void table_end(struct table *t, FILE *out);

/* Prints text with control characters replaced. */
void table_put_clean(const char *text, FILE *out);

#endif
