/* SPDX-License-Identifier: Apache-2.0 */
#include "base/must.h"
#include "engine/check/check.h"

struct words {
    const char *name, *text, *advice;
};

#define NEXT_START "nothing: the next start of the server writes it anew"
#define FROM_COPY "keep the store as it is; take what is lost from a copy or from another moment"

static const struct words words[CHECK_CODES] = {
    [CHECK_STORE_HEADER] = {"store_header", "one of the two copies of the store header is damaged",
                            NEXT_START},
    [CHECK_STORE_HEADERS] = {"store_headers", "both copies of the store header are damaged",
                             "put the file `store` back from a copy of this store"},
    [CHECK_STORE_HEADER_OLD] = {"store_header_old",
                                "the store header is older than the log: a file of former days",
                                "put the newest file `store` back"},
    [CHECK_FILE_READ] = {"file_read", "the file cannot be read",
                         "look at the disk and at the kernel's log"},
    [CHECK_FILE_SIZE] = {"file_size", "the file is not as long as it was made",
                         "put the file back from a copy of this store"},
    [CHECK_FILE_FOREIGN] = {"file_foreign",
                            "the file is another one's: of another store, or "
                            "exchanged with another of this store",
                            "put the right file back"},
    [CHECK_FILE_EXTRA] = {"file_extra", "the file is none of the store's",
                          "nothing: it is not looked at; remove it if you know it"},
    [CHECK_FILE_STRAY] = {"file_stray", "the file is left of work that was cut off",
                          "nothing: the next start removes it"},
    [CHECK_SEGMENT_TWICE] = {"segment_twice", "two files hold the same segment",
                             "remove the copy that does not belong there"},
    [CHECK_SEGMENT_HEADER] = {"segment_header", "the segment's header is damaged",
                              "nothing: its frames and its footer tell the same"},
    [CHECK_FOOTER] = {"footer", "the segment's footer is damaged",
                      "nothing: the next start reads the frames, and writes run and footer anew"},
    [CHECK_FOOTER_DISAGREES] = {"footer_disagrees",
                                "the segment's footer does not say what its frames say", FROM_COPY},
    [CHECK_FRAME] = {"frame", "a frame of the log is damaged", FROM_COPY},
    [CHECK_BLOCK] = {"block", "a block of data is damaged; reading it fails", FROM_COPY},
    [CHECK_RUN] =
        {"run", "the index of the segment is damaged; looking up what it has fails",
         "repair the stopped store with perdured --check --repair: the frames have it all"},
    [CHECK_RUN_DISAGREES] = {"run_disagrees",
                             "the index of the segment does not say what its frames say",
                             FROM_COPY},
    [CHECK_CHAIN] = {"chain",
                     "what stood before this in the log is not there: a file is missing, "
                     "or one of former days stands in its place",
                     "put the missing file back"},
    [CHECK_LOG_END] = {"log_end",
                       "the end of the log is not there: a file is missing, or one of "
                       "former days stands in its place",
                       "put the missing file back"},
    [CHECK_MERGED] = {"merged_run", "a merged run of the index is damaged",
                      "nothing: the server removes it and makes it anew"},
    [CHECK_MERGED_DISAGREES] = {"merged_run_disagrees",
                                "a merged run does not have what the runs of its segments have",
                                "remove the file: the server makes it anew"},
    [CHECK_CATALOGUE] = {"catalogue", "the catalogue is damaged",
                         "put catalogue.db and catalogue.db-journal back from a copy"},
    [CHECK_CATALOGUE_OLD] = {"catalogue_old", "the catalogue is older than the log",
                             "put the newest catalogue.db back"},
};

static const struct words *words_of(enum check_code code) {
    must(code > 0 && code < CHECK_CODES);
    return &words[code];
}

const char *check_name(enum check_code code) {
    return words_of(code)->name;
}
const char *check_text(enum check_code code) {
    return words_of(code)->text;
}
const char *check_advice(enum check_code code) {
    return words_of(code)->advice;
}
