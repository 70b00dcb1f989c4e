/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/ops.h"

/*
 * sequence      of a MOMENT: the last write that it includes.
 * state         "refused" waits for accept-loss, and then `reason` says why; "deleted" is in the
 *               trash.
 * clients       connections that have the disk open now.
 * recorded      the data of all writes recorded so far.
 * oldest        with newest: what can be opened.
 * generation    counts the engines since the cold start, from 1; `kind` and `at` tell how and when
 *               the present one began, pause_ns how long nothing was served then.
 * reason        why the present engine began cold, though there was an arena.
 * death         how the engine died before this one.
 * poison        whose connection this engine closed, as the former ones died of the same request of it.
 * failures      planned reloads that failed since the cold start; `failure` is why the last did.
 * converted     what was of another version in the arena that the present engine took over; from 0: it was
 *               not there, to 0: it is not known here.
 */
const struct ctl_shape ctl_shapes[] = {
    {"MOMENT", "{\"sequence\": integer, \"time\": time?}"},
    {"VOLUME", "{\"name\": string,\n"
               " \"size_bytes\": integer,\n"
               " \"block_size_bytes\": 512 | 4096,\n"
               " \"durability\": \"flush\" | \"write\",\n"
               " \"retain_ns\": integer?,\n"
               " \"retain_bytes\": integer?,\n"
               " \"thin_after\": string?,\n"
               " \"state\": \"serving\" | \"deleted\" | \"refused\",\n"
               " \"reason\": string?,\n"
               " \"created_at\": time,\n"
               " \"deleted_at\": time?,\n"
               " \"clients\": integer,\n"
               " \"images\": integer,\n"
               " \"oldest\": MOMENT,\n"
               " \"every_moment_since\": MOMENT,\n"
               " \"newest\": MOMENT,\n"
               " \"addresses\": [string]}"},
    {"IMAGE", "{\"name\": string,\n"
              " \"at\": MOMENT,\n"
              " \"exact\": boolean?,\n"
              " \"writable\": boolean,\n"
              " \"opened_at\": time,\n"
              " \"lease_ends_at\": time?,\n"
              " \"disks\": [{\"volume\": string,\n"
              "            \"size_bytes\": integer,\n"
              "            \"export\": string,\n"
              "            \"clients\": integer,\n"
              "            \"addresses\": [string]}]}"},
    {"SCRUB", "{\"running\": boolean,\n"
              " \"files\": integer,\n"
              " \"of_files\": integer,\n"
              " \"bytes\": integer,\n"
              " \"damaged_files\": integer,\n"
              " \"mended_files\": integer,\n"
              " \"began_at\": time?,\n"
              " \"ended_at\": time?}"},
    {"MARK", "{\"volume\": string, \"label\": string, \"at\": MOMENT, \"hold\": boolean, "
             "\"created_at\": time}"},
    {"PAUSES", "{\"count\": integer,\n"
               " \"half_below_ns\": integer?,\n"
               " \"p99_below_ns\": integer?}"},
    {"RELOAD", "{\"generation\": integer,\n"
               " \"kind\": \"cold\" | \"planned\" | \"uninvited\",\n"
               " \"reason\": string?,\n"
               " \"death\": string?,\n"
               " \"poison\": string?,\n"
               " \"at\": time,\n"
               " \"pause_ns\": integer?,\n"
               " \"failures\": integer,\n"
               " \"failure\": string?,\n"
               " \"converted\": [{\"kind\": \"table\" | \"region\",\n"
               "                \"number\": integer,\n"
               "                \"name\": string?,\n"
               "                \"from\": integer,\n"
               "                \"to\": integer}]}"},
};

const uint32_t ctl_shape_count = sizeof ctl_shapes / sizeof ctl_shapes[0];
