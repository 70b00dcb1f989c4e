/* SPDX-License-Identifier: Apache-2.0 */
/* In the place of src/server/conn_fields.h. */
#ifndef LAYOUTS_2_CONN_FIELDS_H
#define LAYOUTS_2_CONN_FIELDS_H

#include "../../conn_versions.h"

#define CONN_VERSION 2
#define CONN_FIELDS CONN_2_FIELDS

#endif
