/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/log/log_priv.h"
void moments_close(struct log *l) {
}
