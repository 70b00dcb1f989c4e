/* SPDX-License-Identifier: Apache-2.0 */
/* The time zone of this process (TZ, else the system's) as ctl/moment.h wants it. */
#ifndef CLI_LOCAL_ZONE_H
#define CLI_LOCAL_ZONE_H

#include "ctl/moment.h"

struct moment_zone local_zone(void);

#endif
