/* SPDX-License-Identifier: Apache-2.0 */
/* In the place of src/server/conn_fields.h. */
#ifndef LAYOUTS_3_CONN_FIELDS_H
#define LAYOUTS_3_CONN_FIELDS_H

#include "../../conn_versions.h"

#define CONN_VERSION 3
#define CONN_FIELDS CONN_3_FIELDS

#endif
