/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/reload.h"

#include "base/err.h"
#include "base/must.h"
#include "base/units.h"
#include "cli/client.h"

#define ASK_PAUSE_NS (20 * NS_PER_MS)

static json_int_t number_of(const json_t *reload, const char *key) {
    return json_integer_value(json_object_get(reload, key));
}

static int fail_reload(const json_t *now, struct cli_failure *f) {
    const char *reason = json_string_value(json_object_get(now, "failure"));
    cli_fail(f, ERR_CANCELLED, "the reload failed, the code of before serves on: %.400s",
             reason ? reason : "no reason is known");
    cli_hint(f, "connections were kept; perdure alerts may tell more");
    return f->err;
}

int reload_follow(const char *socket_path, uint64_t deadline_ns, const json_t *started,
                  json_t **done, struct cli_failure *f) {
    const struct ctl_op *status = ctl_op_find("status");
    must(status != NULL);
    json_t *no_args = json_object();
    int err = no_args ? OK : cli_fail(f, ERR_NOMEM, "out of memory");
    *done = NULL;
    while (!err && !*done) {
        struct ctl_reply reply;
        err = client_call(socket_path, deadline_ns, status, no_args, &reply, f);
        if (err == ERR_UNREACHABLE && client_pause(ASK_PAUSE_NS, deadline_ns)) {
            err = OK;
            continue;
        }
        if (err)
            break;
        json_t *now = json_object_get(reply.result, "reload");
        if (!reply.ok)
            err = cli_fail(f, reply.err, "%.500s", reply.message);
        else if (number_of(now, "failures") > number_of(started, "failures"))
            err = fail_reload(now, f);
        else if (number_of(now, "generation") > number_of(started, "generation"))
            *done = json_incref(now);
        else if (!client_pause(ASK_PAUSE_NS, deadline_ns))
            err = cli_fail(f, ERR_TIMEDOUT, "the reload has begun but did not end in time");
        json_decref(reply.json);
    }
    json_decref(no_args);
    return err;
}
