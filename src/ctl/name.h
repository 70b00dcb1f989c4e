/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of volumes, images and marks.
 *
 *   volume, image   1 to 63 of a-z 0-9 '-', beginning and ending with a letter or digit
 *   label of a mark 1 to 63 of A-Z a-z 0-9 '.' '_' '-', beginning with a letter, not "now"
 *
 * Volume and image names stand in iSCSI names (RFC 3722 leaves lower-case letters, digits, '-',
 * '.', ':' and folds case) as VOLUME.IMAGE, so neither may hold a '.'; they stand in export names
 * as VOLUME@MOMENT, so they hold no '@'. A label begins with a letter and holds no ':' '@' or '+',
 * so no other kind of moment can be read as a label.
 */
#ifndef CTL_NAME_H
#define CTL_NAME_H

#include <stddef.h>

#include "ctl/fault.h"

#define NAME_MAX_LEN 63u

enum name_kind { NAME_VOLUME, NAME_IMAGE, NAME_LABEL };

/* "volume", "image" or "label". */
const char *name_kind_word(enum name_kind kind);

/* 0, or ERR_INVAL or ERR_TOOBIG with the fault filled. */
int name_check(enum name_kind kind, const char *text, size_t len, struct fault *f);

#endif
