/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <errno.h>

#include "plat/posix/posix.h"

int posix_err(int error_number) {
    switch (error_number) {
    case 0:
        return 0;
    case ENOENT:
    case ENOTDIR:
        return ERR_NOTFOUND;
    case EEXIST:
        return ERR_EXISTS;
    case ENOTEMPTY:
    case EBUSY:
        return ERR_BUSY;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return ERR_NOSPC;
    case EACCES:
    case EPERM:
    case EROFS:
    case EBADF: /* written to, but opened for reading */
        return ERR_PERM;
    case EINVAL:
    case EISDIR:
    case ENAMETOOLONG:
        return ERR_INVAL;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
        return ERR_NOMEM;
    case EOPNOTSUPP:
    case ENOSYS:
        return ERR_UNSUPPORTED;
    default:
        return ERR_IO;
    }
}
