/* SPDX-License-Identifier: Apache-2.0 */
/* What each code of base/err.h is called in NBD. Both functions list all codes, so that a new one
 * does not compile until somebody has decided; a number that is no code is an I/O error. */
#include "base/err.h"
#include "proto/nbd/nbd_priv.h"

uint32_t nbd_error(int err, uint16_t command, uint16_t flags) {
    int writes = command == NBD_CMD_WRITE || command == NBD_CMD_WRITE_ZEROES;
    switch ((enum err)err) {
    case OK:
        return 0;
    case ERR_READONLY:
    case ERR_PERM:
    case ERR_REFUSED:
        return NBD_EPERM;
    case ERR_RANGE: /* "ENOSPC if it receives a write request beyond the size of the device" */
        return writes ? NBD_ENOSPC : NBD_EINVAL;
    case ERR_NOSPC:
        return NBD_ENOSPC;
    case ERR_TOOBIG: /* EOVERFLOW is for reads that may not be cut */
        return command == NBD_CMD_READ && (flags & NBD_CMD_FLAG_DF) ? NBD_EOVERFLOW : NBD_EINVAL;
    case ERR_UNSUPPORTED: /* ENOTSUP is for zeroing that would not be fast */
        return command == NBD_CMD_WRITE_ZEROES && (flags & NBD_CMD_FLAG_FAST_ZERO) ? NBD_ENOTSUP
                                                                                   : NBD_EINVAL;
    case ERR_INVAL:
    case ERR_PROTO:
    case ERR_AMBIGUOUS:
        return NBD_EINVAL;
    case ERR_NOMEM:
        return NBD_ENOMEM;
    case ERR_SHUTDOWN:
        return NBD_ESHUTDOWN;
    case ERR_AGAIN:
    case ERR_IO:
    case ERR_INTEGRITY:
    case ERR_NOTFOUND:
    case ERR_EXISTS:
    case ERR_BUSY:
    case ERR_TIMEDOUT:
    case ERR_FORMAT:
    case ERR_CANCELLED:
    case ERR_UNREACHABLE:
    case ERR_CLOSED:
    case ERR_CHANGED:
    case ERR_LIMIT:
        return NBD_EIO;
    }
    return NBD_EIO;
}

uint32_t nbd_option_error(int err) {
    switch ((enum err)err) {
    case OK:
        return NBD_REP_ACK;
    case ERR_INVAL:
    case ERR_RANGE:
    case ERR_PROTO:
    case ERR_AMBIGUOUS:
        return NBD_REP_ERR_INVALID;
    case ERR_UNSUPPORTED:
        return NBD_REP_ERR_UNSUP;
    case ERR_PERM:
    case ERR_REFUSED:
    case ERR_READONLY:
    case ERR_LIMIT:
        return NBD_REP_ERR_POLICY;
    case ERR_TOOBIG:
        return NBD_REP_ERR_TOO_BIG;
    case ERR_SHUTDOWN:
        return NBD_REP_ERR_SHUTDOWN;
    case ERR_NOTFOUND:
    case ERR_AGAIN:
    case ERR_NOSPC:
    case ERR_IO:
    case ERR_INTEGRITY:
    case ERR_EXISTS:
    case ERR_BUSY:
    case ERR_TIMEDOUT:
    case ERR_NOMEM:
    case ERR_FORMAT:
    case ERR_CANCELLED:
    case ERR_UNREACHABLE:
    case ERR_CLOSED:
    case ERR_CHANGED: /* "The requested export is not available." */
        return NBD_REP_ERR_UNKNOWN;
    }
    return NBD_REP_ERR_UNKNOWN;
}
