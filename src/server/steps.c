/* SPDX-License-Identifier: Apache-2.0 */
/* Steps between layouts (arena/convert.h): each structure of the past stands here as it was, with its way up and
 * its way down. There is no layout before the present one yet. docs/reload.md tells how one is added. */
#include "server/perdured.h"

const struct arena_steps perdured_steps = {0};
