/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers and shapes of the NBD protocol, as in doc/proto.md of NetworkBlockDevice/nbd; names are
 * that document's. All integers are big endian.
 *
 * Greeting (server)                        Client flags (client)
 *   0   8  NBD_MAGIC                         0   4  flags, NBD_FLAG_C_*
 *   8   8  NBD_OPTION_MAGIC
 *  16   2  handshake flags
 *
 * Option (client)                          Option reply (server)
 *   0   8  NBD_OPTION_MAGIC                  0   8  NBD_OPTION_REPLY_MAGIC
 *   8   4  option, NBD_OPT_*                 8   4  option
 *  12   4  length of the data               12   4  NBD_REP_*
 *  16      data                             16   4  length of the data
 *                                           20      data
 *
 * Request, compact (client)                Request, extended (client)
 *   0   4  NBD_REQUEST_MAGIC                 0   4  NBD_EXTENDED_REQUEST_MAGIC
 *   4   2  NBD_CMD_FLAG_*                    4   2  NBD_CMD_FLAG_*
 *   6   2  NBD_CMD_*                         6   2  NBD_CMD_*
 *   8   8  cookie                            8   8  cookie
 *  16   8  offset                           16   8  offset
 *  24   4  length                           24   8  length of the payload if PAYLOAD_LEN is set,
 *  28      payload of a WRITE                       else of the effect
 *                                           32      payload if PAYLOAD_LEN is set
 *
 * Simple reply (server)    Structured chunk (server)   Extended chunk (server)
 *   0   4  magic             0   4  magic                0   4  magic
 *   4   4  error             4   2  NBD_REPLY_FLAG_*     4   2  NBD_REPLY_FLAG_*
 *   8   8  cookie            6   2  NBD_REPLY_TYPE_*     6   2  NBD_REPLY_TYPE_*
 *  16      data of a READ    8   8  cookie               8   8  cookie
 *                           16   4  length              16   8  offset of the request
 *                           20      payload             24   8  length
 *                                                       32      payload
 *
 * Payload of chunks:
 *   OFFSET_DATA        8 offset, data
 *   BLOCK_STATUS       4 context, then descriptors: 4 length, 4 status
 *   BLOCK_STATUS_EXT   4 context, 4 descriptors, then descriptors: 8 length, 4 zero, 4 status
 *   ERROR              4 error, 2 length of the text, text
 */
#ifndef PROTO_NBD_NBD_WIRE_H
#define PROTO_NBD_NBD_WIRE_H

#include <stdint.h>

#define NBD_MAGIC UINT64_C(0x4e42444d41474943)        /* "NBDMAGIC" */
#define NBD_OPTION_MAGIC UINT64_C(0x49484156454f5054) /* "IHAVEOPT" */
#define NBD_OPTION_REPLY_MAGIC UINT64_C(0x0003e889045565a9)
#define NBD_REQUEST_MAGIC UINT32_C(0x25609513)
#define NBD_EXTENDED_REQUEST_MAGIC UINT32_C(0x21e41c71)
#define NBD_SIMPLE_REPLY_MAGIC UINT32_C(0x67446698)
#define NBD_STRUCTURED_REPLY_MAGIC UINT32_C(0x668e33ef)
#define NBD_EXTENDED_REPLY_MAGIC UINT32_C(0x6e8a278c)

#define NBD_GREETING_BYTES 18u
#define NBD_CLIENT_FLAGS_BYTES 4u
#define NBD_OPTION_HEADER_BYTES 16u
#define NBD_OPTION_REPLY_HEADER_BYTES 20u
#define NBD_REQUEST_HEADER_BYTES 28u
#define NBD_EXTENDED_REQUEST_HEADER_BYTES 32u
#define NBD_SIMPLE_REPLY_BYTES 16u
#define NBD_STRUCTURED_REPLY_HEADER_BYTES 20u
#define NBD_EXTENDED_REPLY_HEADER_BYTES 32u
#define NBD_EXPORT_REPLY_BYTES 10u
#define NBD_EXPORT_REPLY_ZEROES 124u

/* Longest string of the protocol. */
#define NBD_STRING_MAX 4096u

enum nbd_handshake_flag { NBD_FLAG_FIXED_NEWSTYLE = 1 << 0, NBD_FLAG_NO_ZEROES = 1 << 1 };
enum nbd_client_flag { NBD_FLAG_C_FIXED_NEWSTYLE = 1 << 0, NBD_FLAG_C_NO_ZEROES = 1 << 1 };

enum nbd_transmission_flag {
    NBD_FLAG_HAS_FLAGS = 1 << 0,
    NBD_FLAG_READ_ONLY = 1 << 1,
    NBD_FLAG_SEND_FLUSH = 1 << 2,
    NBD_FLAG_SEND_FUA = 1 << 3,
    NBD_FLAG_ROTATIONAL = 1 << 4,
    NBD_FLAG_SEND_TRIM = 1 << 5,
    NBD_FLAG_SEND_WRITE_ZEROES = 1 << 6,
    NBD_FLAG_SEND_DF = 1 << 7,
    NBD_FLAG_CAN_MULTI_CONN = 1 << 8,
    NBD_FLAG_SEND_RESIZE = 1 << 9,
    NBD_FLAG_SEND_CACHE = 1 << 10,
    NBD_FLAG_SEND_FAST_ZERO = 1 << 11,
    NBD_FLAG_BLOCK_STAT_PAYLOAD = 1 << 12,
};

enum nbd_option {
    NBD_OPT_EXPORT_NAME = 1,
    NBD_OPT_ABORT = 2,
    NBD_OPT_LIST = 3,
    NBD_OPT_PEEK_EXPORT = 4, /* withdrawn */
    NBD_OPT_STARTTLS = 5,
    NBD_OPT_INFO = 6,
    NBD_OPT_GO = 7,
    NBD_OPT_STRUCTURED_REPLY = 8,
    NBD_OPT_LIST_META_CONTEXT = 9,
    NBD_OPT_SET_META_CONTEXT = 10,
    NBD_OPT_EXTENDED_HEADERS = 11,
};

#define NBD_REP_ERR UINT32_C(0x80000000)
#define NBD_REP_ACK UINT32_C(1)
#define NBD_REP_SERVER UINT32_C(2)
#define NBD_REP_INFO UINT32_C(3)
#define NBD_REP_META_CONTEXT UINT32_C(4)
#define NBD_REP_ERR_UNSUP (NBD_REP_ERR + 1)
#define NBD_REP_ERR_POLICY (NBD_REP_ERR + 2)
#define NBD_REP_ERR_INVALID (NBD_REP_ERR + 3)
#define NBD_REP_ERR_PLATFORM (NBD_REP_ERR + 4)
#define NBD_REP_ERR_TLS_REQD (NBD_REP_ERR + 5)
#define NBD_REP_ERR_UNKNOWN (NBD_REP_ERR + 6)
#define NBD_REP_ERR_SHUTDOWN (NBD_REP_ERR + 7)
#define NBD_REP_ERR_BLOCK_SIZE_REQD (NBD_REP_ERR + 8)
#define NBD_REP_ERR_TOO_BIG (NBD_REP_ERR + 9)
#define NBD_REP_ERR_EXT_HEADER_REQD (NBD_REP_ERR + 10)

enum nbd_info {
    NBD_INFO_EXPORT = 0,
    NBD_INFO_NAME = 1,
    NBD_INFO_DESCRIPTION = 2,
    NBD_INFO_BLOCK_SIZE = 3,
};

enum nbd_command {
    NBD_CMD_READ = 0,
    NBD_CMD_WRITE = 1,
    NBD_CMD_DISC = 2,
    NBD_CMD_FLUSH = 3,
    NBD_CMD_TRIM = 4,
    NBD_CMD_CACHE = 5,
    NBD_CMD_WRITE_ZEROES = 6,
    NBD_CMD_BLOCK_STATUS = 7,
};

enum nbd_command_flag {
    NBD_CMD_FLAG_FUA = 1 << 0,
    NBD_CMD_FLAG_NO_HOLE = 1 << 1,
    NBD_CMD_FLAG_DF = 1 << 2,
    NBD_CMD_FLAG_REQ_ONE = 1 << 3,
    NBD_CMD_FLAG_FAST_ZERO = 1 << 4,
    NBD_CMD_FLAG_PAYLOAD_LEN = 1 << 5,
};

#define NBD_REPLY_FLAG_DONE 1u

enum nbd_reply_type {
    NBD_REPLY_TYPE_NONE = 0,
    NBD_REPLY_TYPE_OFFSET_DATA = 1,
    NBD_REPLY_TYPE_OFFSET_HOLE = 2,
    NBD_REPLY_TYPE_BLOCK_STATUS = 5,
    NBD_REPLY_TYPE_BLOCK_STATUS_EXT = 6,
    NBD_REPLY_TYPE_ERROR = 0x8001,
    NBD_REPLY_TYPE_ERROR_OFFSET = 0x8002,
};

enum nbd_errno {
    NBD_EPERM = 1,
    NBD_EIO = 5,
    NBD_ENOMEM = 12,
    NBD_EINVAL = 22,
    NBD_ENOSPC = 28,
    NBD_EOVERFLOW = 75,
    NBD_ENOTSUP = 95,
    NBD_ESHUTDOWN = 108,
};

/* Status of base:allocation. */
#define NBD_STATE_HOLE 1u
#define NBD_STATE_ZERO 2u

#endif
