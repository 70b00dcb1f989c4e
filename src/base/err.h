/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Expected failures: what a peer, a disk, a full table or a person can cause. Functions return 0 or
 * a count on success and one of these negative codes otherwise. The numbers stand in preserved
 * memory and are never reused. Sentences are made by server and command line, not here.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#define ERR_LIST(E)                                                                                \
    E(AGAIN, 1, "again", "not ready yet")                                                          \
    E(INVAL, 2, "invalid", "the request is not valid")                                             \
    E(RANGE, 3, "range", "beyond the end of the volume")                                           \
    E(READONLY, 4, "read_only", "the disk is read-only")                                           \
    E(NOSPC, 5, "no_space", "the store has no room")                                               \
    E(IO, 6, "io", "the device failed")                                                            \
    E(INTEGRITY, 7, "integrity", "a checksum does not match")                                      \
    E(NOTFOUND, 8, "not_found", "there is no such object")                                         \
    E(EXISTS, 9, "exists", "an object of this name exists")                                        \
    E(BUSY, 10, "busy", "the object is in use")                                                    \
    E(REFUSED, 11, "refused", "refused unless forced")                                             \
    E(PERM, 12, "not_permitted", "not permitted")                                                  \
    E(TIMEDOUT, 13, "timed_out", "the time limit has passed")                                      \
    E(UNSUPPORTED, 14, "unsupported", "not supported")                                             \
    E(PROTO, 15, "protocol", "the peer broke the protocol")                                        \
    E(NOMEM, 16, "no_memory", "a bounded table or pool is full")                                   \
    E(TOOBIG, 17, "too_big", "larger than the limit")                                              \
    E(SHUTDOWN, 18, "shutting_down", "the server is shutting down")                                \
    E(FORMAT, 19, "format", "unknown or damaged format")                                           \
    E(CANCELLED, 20, "cancelled", "cancelled before it was done")                                  \
    E(AMBIGUOUS, 21, "ambiguous", "more than one reading is possible")                             \
    E(UNREACHABLE, 22, "unreachable", "the other side cannot be reached")                          \
    E(CLOSED, 23, "closed", "the other side has closed")                                           \
    E(CHANGED, 24, "changed", "the object changed meanwhile")                                      \
    E(LIMIT, 25, "limit", "as many as are allowed are open")

enum err {
    OK = 0,
#define ERR_ENUM(name, number, word, text) ERR_##name = -(number),
    ERR_LIST(ERR_ENUM)
#undef ERR_ENUM
};

/* A short stable word for programs ("no_space") and a clause for people. Any int is accepted. */
const char *err_word(int err);
const char *err_text(int err);

#endif
