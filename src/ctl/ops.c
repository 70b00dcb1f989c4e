/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table. Results are written as shapes: JSON with types in place of values, see shapes.c.
 */
#include "ctl/ops.h"

#include <stdio.h>
#include <string.h>

#include "base/units.h"

#define SIZE_MAX_BYTES (UINT64_C(64) * 1024 * TIB)
#define NS_PER_DAY (UINT64_C(86400) * NS_PER_S)

#define ARGS(array) .arg_count = sizeof(array) / sizeof((array)[0]), .args = (array)

#define VOLUME_WORD                                                                                \
    {                                                                                              \
        .key = "name", .meta = "NAME", .type = CTL_VOLUME, .flags = CTL_REQUIRED,                  \
        .help = "the volume"                                                                       \
    }
#define VOLUMES_WORD                                                                               \
    {                                                                                              \
        .key = "volumes", .meta = "NAME", .type = CTL_VOLUME, .flags = CTL_REQUIRED | CTL_LIST,    \
        .help = "the volumes; several share one moment"                                            \
    }
#define AT_OPTION(what)                                                                            \
    {                                                                                              \
        .key = "at", .option = "at", .meta = "T", .type = CTL_MOMENT, .flags = CTL_REQUIRED,       \
        .help = (what)                                                                             \
    }
#define LABEL_OPTION(what)                                                                         \
    {                                                                                              \
        .key = "label", .option = "label", .meta = "L", .type = CTL_LABEL, .flags = CTL_REQUIRED,  \
        .help = (what)                                                                             \
    }
#define FORCE_OPTION(what)                                                                         \
    { .key = "force", .option = "force", .type = CTL_BOOL, .help = (what) }

#define RETAIN_OPTION(otherwise)                                                                   \
    {                                                                                              \
        .key = "retain_ns", .option = "retain", .meta = "AGE", .type = CTL_DURATION,               \
        .min = NS_PER_S,                                                                           \
        .help =                                                                                    \
            "how far back its moments open; older history may be given up (else " otherwise ")"    \
    }

#define RETAIN_BYTES_OPTION(otherwise)                                                             \
    {                                                                                              \
        .key = "retain_bytes", .option = "retain-bytes", .meta = "SIZE", .type = CTL_SIZE,         \
        .min = BLOCK_BYTES, .max = SIZE_MAX_BYTES,                                                 \
        .help = "how much written data its history holds at most; older history may be given up "  \
                "(else " otherwise ")"                                                             \
    }

#define THINNING_OPTION(otherwise)                                                                 \
    {                                                                                              \
        .key = "thin_after", .option = "thin-after", .meta = "LEVELS", .type = CTL_THINNING,       \
        .help = "thin its history: AGE:STEP[,AGE:STEP]..., as in 1d:1m,7d:1h, keeps of what is "   \
                "older than a day one moment a minute, of what is older than a week one an hour; " \
                "steps are 1m 5m 15m 1h 6h 1d 7d (else " otherwise ")"                             \
    }

#define EXACT_OPTION                                                                               \
    {                                                                                              \
        .key = "exact", .option = "exact", .type = CTL_BOOL,                                       \
        .help = "only if that moment itself is kept; without it, where history is thinned, the "   \
                "one kept before it is taken"                                                      \
    }

static const struct ctl_arg volume_create_args[] = {
    {.key = "name",
     .meta = "NAME",
     .type = CTL_VOLUME,
     .flags = CTL_REQUIRED,
     .help = "its name: lower-case letters, digits and '-'"},
    {.key = "size_bytes",
     .option = "size",
     .meta = "SIZE",
     .type = CTL_SIZE,
     .flags = CTL_REQUIRED,
     .min = BLOCK_BYTES,
     .max = SIZE_MAX_BYTES,
     .help = "its size, a multiple of 4096 bytes"},
    {.key = "block_size_bytes",
     .option = "block-size",
     .meta = "BYTES",
     .type = CTL_SIZE,
     .choices = "512|4096",
     .fallback = "4096",
     .help = "the smallest unit that clients may write"},
    {.key = "durability",
     .option = "durability",
     .meta = "WHEN",
     .type = CTL_CHOICE,
     .choices = "flush|write",
     .fallback = "flush",
     .help = "when a write is on disk: at the next flush, as with any disk, or before its answer"},
    RETAIN_OPTION("for ever"),
    RETAIN_BYTES_OPTION("no limit"),
    THINNING_OPTION("every moment stays"),
};

static const struct ctl_arg volume_args[] = {VOLUME_WORD};

static const struct ctl_arg volume_set_args[] = {
    VOLUME_WORD,
    {.key = "durability",
     .option = "durability",
     .meta = "WHEN",
     .type = CTL_CHOICE,
     .choices = "flush|write",
     .help = "when a write is on disk: at the next flush, or before its answer"},
    RETAIN_OPTION("as before"),
    RETAIN_BYTES_OPTION("as before"),
    THINNING_OPTION("as before; \"never\" ends it"),
    {.key = "retain_all",
     .option = "retain-all",
     .type = CTL_BOOL,
     .help = "keep every write from now on, whatever its age and their bytes, as long as the store "
             "has room"},
};

static const struct ctl_arg volume_resize_args[] = {
    VOLUME_WORD,
    {.key = "size_bytes",
     .meta = "SIZE",
     .type = CTL_SIZE,
     .flags = CTL_REQUIRED,
     .min = BLOCK_BYTES,
     .max = SIZE_MAX_BYTES,
     .help = "its new size, a multiple of 4096 bytes"},
    FORCE_OPTION("make it smaller; what is cut off stays in the past"),
};

static const struct ctl_arg volume_delete_args[] = {
    VOLUME_WORD,
    {.key = "now",
     .option = "now",
     .type = CTL_BOOL,
     .help = "give its space back at once; it cannot be brought back"},
    FORCE_OPTION("even while clients have it open"),
};

static const struct ctl_arg image_open_args[] = {
    VOLUMES_WORD,
    AT_OPTION("the moment that the image shows"),
    {.key = "name",
     .option = "name",
     .meta = "N",
     .type = CTL_IMAGE,
     .help = "the image's name; without it, one is made"},
    {.key = "writable",
     .option = "writable",
     .type = CTL_BOOL,
     .help = "allow writes, which touch neither the volume nor its past"},
    {.key = "lease_ns",
     .option = "for",
     .meta = "DURATION",
     .type = CTL_DURATION,
     .min = NS_PER_S,
     .max = 3660 * NS_PER_DAY,
     .help = "close it by itself after this time; without it, it stays open"},
    EXACT_OPTION,
};

static const struct ctl_arg image_close_args[] = {
    {.key = "name", .meta = "IMAGE", .type = CTL_IMAGE, .flags = CTL_REQUIRED, .help = "the image"},
    FORCE_OPTION("even while clients have it open"),
};

static const struct ctl_arg image_promote_args[] = {
    {.key = "name",
     .meta = "IMAGE",
     .type = CTL_IMAGE,
     .flags = CTL_REQUIRED,
     .help = "the image, of one volume"},
    {.key = "volume",
     .meta = "NEWVOLUME",
     .type = CTL_VOLUME,
     .flags = CTL_REQUIRED,
     .help = "the name of the volume that it becomes"},
};

static const struct ctl_arg restore_args[] = {
    VOLUMES_WORD,
    AT_OPTION("the moment to go back to"),
    {.key = "range",
     .option = "range",
     .meta = "OFFSET:LENGTH",
     .type = CTL_RANGE,
     .help = "only this part of the volume"},
    FORCE_OPTION("even while clients have it open; they see the disk change under them"),
    {.key = "destructive",
     .option = "destructive",
     .type = CTL_BOOL,
     .help =
         "give up what came after that moment: its room is used again, and nothing undoes it; with "
         "--force, even what marks hold"},
    {.key = "dry_run",
     .option = "dry-run",
     .type = CTL_BOOL,
     .help = "change nothing, tell what would be taken back"},
    EXACT_OPTION,
};

static const struct ctl_arg diff_args[] = {
    VOLUME_WORD,
    {.key = "from",
     .option = "from",
     .meta = "T",
     .type = CTL_MOMENT,
     .flags = CTL_REQUIRED,
     .help = "the earlier moment"},
    {.key = "to",
     .option = "to",
     .meta = "T",
     .type = CTL_MOMENT,
     .flags = CTL_REQUIRED,
     .help = "the later moment"},
    {.key = "after",
     .option = "after",
     .meta = "OFFSET",
     .type = CTL_SIZE,
     .fallback = "0",
     .help = "begin at this offset"},
};

static const struct ctl_arg when_args[] = {
    VOLUME_WORD,
    {.key = "range",
     .option = "range",
     .meta = "OFFSET:LENGTH",
     .type = CTL_RANGE,
     .help = "only what touched this part of the volume"},
    {.key = "from",
     .option = "from",
     .meta = "T",
     .type = CTL_MOMENT,
     .help = "what was written after this moment; the volume's oldest without it"},
    {.key = "to",
     .option = "to",
     .meta = "T",
     .type = CTL_MOMENT,
     .help = "what was written up to this moment; now without it"},
    {.key = "below",
     .option = "below",
     .meta = "SEQUENCE",
     .type = CTL_NUMBER,
     .fallback = "0",
     .help = "only writes with lower numbers, to go on where an answer ended"},
    {.key = "limit",
     .option = "limit",
     .meta = "N",
     .type = CTL_NUMBER,
     .min = 1,
     .max = 4096,
     .fallback = "100",
     .help = "so many writes at most"},
};

static const struct ctl_arg check_args[] = {
    {.key = "dir",
     .meta = "DIR",
     .type = CTL_TEXT,
     .flags = CTL_REQUIRED | CTL_LOCAL,
     .help = "the folder of the store"},
    {.key = "repair",
     .option = "repair",
     .type = CTL_BOOL,
     .help = "write what is proven to be what was there"},
};

static const struct ctl_arg bisect_args[] = {
    VOLUME_WORD,
    {.key = "good",
     .option = "good",
     .meta = "T",
     .type = CTL_MOMENT,
     .flags = CTL_REQUIRED,
     .help = "a moment at which all was well"},
    {.key = "bad",
     .option = "bad",
     .meta = "T",
     .type = CTL_MOMENT,
     .flags = CTL_REQUIRED,
     .help = "a later one at which it was not"},
};

static const struct ctl_arg history_args[] = {
    VOLUME_WORD,
    {.key = "from",
     .option = "from",
     .meta = "T",
     .type = CTL_MOMENT,
     .help = "the first time; an hour before the last without it"},
    {.key = "to",
     .option = "to",
     .meta = "T",
     .type = CTL_MOMENT,
     .help = "the last time; now without it"},
    {.key = "step_ns",
     .option = "step",
     .meta = "DURATION",
     .type = CTL_DURATION,
     .min = NS_PER_S,
     .max = 366 * NS_PER_DAY,
     .help = "sum so much time up; without it, what gives a readable list"},
    {.key = "after",
     .option = "after",
     .meta = "SECOND",
     .type = CTL_NUMBER,
     .max = UINT32_MAX,
     .fallback = "0",
     .help = "begin at this second since 1970"},
};

static const struct ctl_arg mark_create_args[] = {
    VOLUMES_WORD,
    LABEL_OPTION("the mark's name; begins with a letter"),
    {.key = "hold",
     .option = "hold",
     .type = CTL_BOOL,
     .help = "the moment opens as long as the mark is there, however old it gets"},
    {.key = "exec_before",
     .option = "exec-before",
     .meta = "CMD",
     .type = CTL_TEXT,
     .flags = CTL_LOCAL,
     .help = "run this shell command first, to bring an application to rest"},
    {.key = "exec_after",
     .option = "exec-after",
     .meta = "CMD",
     .type = CTL_TEXT,
     .flags = CTL_LOCAL,
     .help = "run this one afterwards, in any case, to let it go on"},
};

static const struct ctl_arg mark_list_args[] = {
    {.key = "name", .meta = "NAME", .type = CTL_VOLUME, .help = "only marks of this volume"},
};

static const struct ctl_arg pins_args[] = {
    {.key = "name", .meta = "NAME", .type = CTL_VOLUME, .help = "only of this volume"},
};

static const struct ctl_arg mark_delete_args[] = {
    VOLUMES_WORD,
    LABEL_OPTION("the mark's name"),
    FORCE_OPTION("even if it holds its moment"),
};

static const struct ctl_arg reload_args[] = {
    {.key = "binary",
     .option = "binary",
     .meta = "PATH",
     .type = CTL_TEXT,
     .help = "the program to go on with; without it, the present one is read anew"},
};

static const struct ctl_arg trace_args[] = {
    {.key = "deaths_ago",
     .option = "deaths-ago",
     .meta = "N",
     .type = CTL_CHOICE,
     .choices = "0|1|2|3",
     .fallback = "0",
     .help = "of the engines before the last N deaths: 1 shows what the one that died last did"},
    {.key = "limit",
     .option = "limit",
     .meta = "N",
     .type = CTL_NUMBER,
     .min = 1,
     .max = 16384,
     .fallback = "2000",
     .help = "so many points at most, the newest"},
};

static const struct ctl_arg connections_args[] = {
    {.key = "after",
     .option = "after",
     .meta = "ID",
     .type = CTL_NUMBER,
     .max = UINT32_MAX,
     .fallback = "0",
     .help = "begin behind this one"},
};

const struct ctl_op ctl_ops[] = {
    {
        .name = "volume.create",
        .noun = "volume",
        .verb = "create",
        ARGS(volume_create_args),
        .summary = "make a volume and serve it at once",
        .detail = "The volume reads as zeroes and takes no space until it is written. Every write "
                  "to it is kept.",
        .result = "VOLUME",
        .example = "perdure volume create demo --size 10G\n"
                   "perdure volume create db --size 1.5T --block-size 512 --durability write",
    },
    {
        .name = "volume.list",
        .noun = "volume",
        .verb = "list",
        .flags = CTL_READ,
        .summary = "list the volumes, those in the trash too",
        .result = "{\"volumes\": [VOLUME]}",
        .example = "perdure volume list",
    },
    {
        .name = "volume.show",
        .noun = "volume",
        .verb = "show",
        .flags = CTL_READ,
        ARGS(volume_args),
        .summary = "show one volume",
        .result = "VOLUME",
        .example = "perdure volume show demo",
    },
    {
        .name = "volume.set",
        .noun = "volume",
        .verb = "set",
        ARGS(volume_set_args),
        .summary = "change what a volume promises",
        .result = "VOLUME",
        .detail = "What has been given up does not come back when more is to be retained.",
        .example = "perdure volume set demo --durability write\n"
                   "perdure volume set demo --retain 30d --retain-bytes 200G",
    },
    {
        .name = "volume.resize",
        .noun = "volume",
        .verb = "resize",
        ARGS(volume_resize_args),
        .summary = "change a volume's size",
        .detail = "Moments of before keep the size that they had. Clients see the new size when "
                  "they connect next.",
        .result = "VOLUME",
        .example = "perdure volume resize demo 20G",
    },
    {
        .name = "volume.delete",
        .noun = "volume",
        .verb = "delete",
        ARGS(volume_delete_args),
        .summary = "delete a volume",
        .detail =
            "It is no longer served and lies in the trash, its name taken and its past kept, until "
            "it "
            "is taken out again, or deleted for good: with --now, or when it has lain there for as "
            "long as it was to retain its past. "
            "With --now its space is given back, but for what images and other volumes that "
            "came from it still need.",
        .result = "{\"name\": string, \"deleted_at\": time, \"now\": boolean, "
                  "\"freed_bytes\": integer}",
        .example = "perdure volume delete demo\n"
                   "perdure volume delete demo --now",
    },
    {
        .name = "volume.undelete",
        .noun = "volume",
        .verb = "undelete",
        ARGS(volume_args),
        .summary = "take a volume out of the trash and serve it again",
        .result = "VOLUME",
        .example = "perdure volume undelete demo",
    },
    {
        .name = "volume.accept-loss",
        .noun = "volume",
        .verb = "accept-loss",
        ARGS(volume_args),
        .summary = "serve a volume again although answered writes were lost",
        .detail =
            "After a start that could not save writes which had been answered but not yet "
            "logged, the volume is refused until a person has said that the loss is known. So "
            "are its writable images, which are served again with it; images that are only "
            "read show a moment that was on disk before they were opened, and are served.",
        .result = "VOLUME",
        .example = "perdure volume accept-loss demo",
    },
    {
        .name = "image.open",
        .noun = "image",
        .verb = "open",
        ARGS(image_open_args),
        .summary = "open a moment of volumes as disks",
        .detail = "Prints the addresses to attach. For a single look, no image is needed: the "
                  "export NAME@T opens by itself and closes with its last client.",
        .result = "IMAGE",
        .example =
            "perdure image open demo --at -5min\n"
            "perdure image open db logs --at before-upgrade --name check --writable --for 2h",
    },
    {
        .name = "image.list",
        .noun = "image",
        .verb = "list",
        .flags = CTL_READ,
        .summary = "list the open images",
        .result = "{\"images\": [IMAGE]}",
        .example = "perdure image list",
    },
    {
        .name = "image.close",
        .noun = "image",
        .verb = "close",
        ARGS(image_close_args),
        .summary = "close an image and drop what was written to it",
        .result = "{\"name\": string, \"closed_at\": time}",
        .example = "perdure image close check",
    },
    {
        .name = "image.promote",
        .noun = "image",
        .verb = "promote",
        ARGS(image_promote_args),
        .summary = "make an image a volume of its own",
        .detail = "Nothing is copied. The image ends, the volume begins with its content and has "
                  "the past of the volume that it came from.",
        .result = "VOLUME",
        .example = "perdure image promote check demo-fixed",
    },
    {
        .name = "restore",
        .noun = "restore",
        ARGS(restore_args),
        .summary = "bring volumes back to a moment, at once",
        .detail =
            "Nothing is lost, unless it is said: what is taken back stays in the past, and the "
            "command that undoes the restore is printed. Images that are open stay, whatever they "
            "show.",
        .result = "{\"dry_run\": boolean, \"destructive\": boolean, \"to\": MOMENT, \"exact\": "
                  "boolean, \"before\": MOMENT?, "
                  "\"volumes\": "
                  "[{\"volume\": string, \"offset_bytes\": integer, \"length_bytes\": integer, "
                  "\"clients\": integer}]}",
        .example = "perdure restore demo --at -10min --dry-run\n"
                   "perdure restore demo --at 17:00:03\n"
                   "perdure restore db logs --at before-upgrade --force\n"
                   "perdure restore demo --at -1h --range 1G:64M\n"
                   "perdure restore demo --at installed --destructive",
    },
    {
        .name = "diff",
        .noun = "diff",
        .flags = CTL_READ,
        ARGS(diff_args),
        .summary = "tell which parts of a volume were written between two moments",
        .detail =
            "Of the volume as it is now: what a restore took back is not among it. Units are "
            "blocks of 4096 bytes; one that was written with what it had counts. An answer has "
            "at most 4096 ranges; \"next\" is what the next request asks with as \"after\", "
            "null at the end. The command asks until then.",
        .result = "{\"volume\": string, \"from\": MOMENT, \"to\": MOMENT, \"next\": integer?, "
                  "\"ranges\": [{\"offset_bytes\": integer, \"length_bytes\": integer}]}",
        .example = "perdure diff demo --from -1h --to now\n"
                   "perdure diff demo --from nightly --to now --json",
    },
    {
        .name = "when",
        .noun = "when",
        .flags = CTL_READ,
        ARGS(when_args),
        .summary = "list the writes of a volume, or of a part of it, newest first",
        .detail =
            "Of the volume as it is now: what a restore took back is not among it. Each write's "
            "data are those of the export NAME@seq:N, and what was there before those of "
            "NAME@seq:M with M one less; a write of several records is a row for each, of which "
            "the newest ends the request, and is the moment that shows it. What is zero is told "
            "as such, whoever wrote it; of a trim, the whole blocks that it took. \"connection\" "
            "is the id that it had in the list of connections, \"restored_from\" the moment "
            "whose content a restored range got. \"from\" is not before the oldest moment. "
            "Where \"every_write_since\" is later, older history was thinned: of writes there, "
            "only the number may be known, or they are left out. \"older\" is null at the end, "
            "else there may be older ones: --below that. A server ends an answer before the limit "
            "if it had to look far; the command asks on.",
        .result = "{\"volume\": string, \"from\": MOMENT, \"to\": MOMENT, "
                  "\"every_write_since\": MOMENT, \"older\": integer?, "
                  "\"writes\": [{\"at\": MOMENT, \"kind\": \"write\" | \"zero\" | \"trim\" | "
                  "\"restore\"?, \"offset_bytes\": integer?, \"length_bytes\": integer?, "
                  "\"ends_request\": boolean?, \"connection\": integer?, \"restored_from\": "
                  "integer?}]}",
        .example = "perdure when demo\n"
                   "perdure when demo --range 1M:64K --from -1h --json",
    },
    {
        .name = "bisect",
        .noun = "bisect",
        .flags = CTL_COMPOSED | CTL_TAKES_COMMAND,
        ARGS(bisect_args),
        .summary = "find the write that made something go wrong",
        .detail =
            "Opens read-only images of moments between the two, halving what lies between them, "
            "and runs the command on each, with the image's NBD address in place of the word {} "
            "and in PERDURE_IMAGE_URI. Exit code 0 says good, 125 that it cannot tell, others up "
            "to 127 bad; a signal, or a code above, ends the search. Both ends are judged first. "
            "With --json, what the command prints goes to standard error.",
        .result = "{\"volume\": string, \"last_good\": integer, \"first_bad\": {\"at\": MOMENT, "
                  "\"kind\": string?, \"offset_bytes\": integer?, \"length_bytes\": integer?, "
                  "\"ends_request\": boolean?, \"connection\": integer?, \"restored_from\": "
                  "integer?}, \"unclear\": integer, \"steps\": [{\"sequence\": "
                  "integer, \"verdict\": \"good\" | \"bad\" | \"unclear\"}]}",
        .example = "perdure bisect demo --good -1h --bad now -- sh -c 'nbdcopy $PERDURE_IMAGE_URI "
                   "a.img && e2fsck -fn a.img'",
    },
    {
        .name = "check",
        .noun = "check",
        .flags = CTL_COMPOSED,
        ARGS(check_args),
        .summary = "look whether the store of a stopped server is whole",
        .detail = "Runs perdured --check, which reads every byte that counts and compares it with "
                  "its checksums and with the rest of the store; it may take hours, and --timeout "
                  "does not end it. Exit code 9 says that something is damaged, or was and is "
                  "repaired; 4 that a server has the store.",
        .result = "{\"store\": string, \"clean\": boolean, \"findings\": [object], \"looked_at\": "
                  "object, \"error\": string?}",
        .example = "perdure check /var/lib/perdure\n"
                   "perdure check --repair /var/lib/perdure --json",
    },
    {
        .name = "history",
        .noun = "history",
        .flags = CTL_READ,
        ARGS(history_args),
        .summary = "show what clients did to a volume over time",
        .detail =
            "Steps in which nothing was done are left out. Seconds are kept for two hours, minutes "
            "for two weeks, hours for five years; \"kept_since\" says from when on steps of this "
            "size are complete. overwritten_bytes counts blocks that were known in memory to hold "
            "data before, reread_bytes those that had been read in the last minute, and some that "
            "had not; one block in 64 is tried with LZ4: of sampled_bytes it made packed_bytes. "
            "The seconds before a power cut may be missing. \"clock_jumps\" tells where the "
            "wall clock was set by more than a minute: times before may come twice, or not at "
            "all. An answer has at most 256 steps; \"next\" "
            "is "
            "what the next request asks with as \"after\", null at the end. The command asks until "
            "then.",
        .result =
            "{\"volume\": string, \"from\": time, \"to\": time, \"step_ns\": integer, "
            "\"kept_since\": time, \"next\": integer?, \"steps\": [{\"time\": time, "
            "\"first_sequence\": integer?, \"last_sequence\": integer?, \"clean_sequence\": "
            "integer?, \"writes\": integer, "
            "\"write_bytes\": integer, \"recorded_bytes\": integer, \"overwritten_bytes\": "
            "integer, \"reread_bytes\": integer, \"trims\": integer, \"trim_bytes\": integer, "
            "\"zeroes\": integer, \"zero_bytes\": integer, \"flushes\": integer, "
            "\"sampled_bytes\": integer, \"packed_bytes\": integer}], \"marks\": [{\"label\": "
            "string, \"at\": MOMENT}], \"clock_jumps\": [{\"from\": time, \"to\": time}]}",
        .example = "perdure history demo\n"
                   "perdure history demo --from -2d --step 1h",
    },
    {
        .name = "mark.create",
        .noun = "mark",
        .verb = "create",
        .flags = CTL_DEFAULT_VERB,
        ARGS(mark_create_args),
        .summary = "give the present moment a name",
        .detail = "The moment is durable when the command ends. --exec-before and --exec-after run "
                  "here, in the command line; if the first fails, no mark is made; once it was "
                  "started, the second always runs.",
        .result = "{\"label\": string, \"volumes\": [string], \"at\": MOMENT}",
        .example = "perdure mark demo --label before-upgrade\n"
                   "perdure mark db logs --label nightly --exec-before 'fsfreeze -f /db' "
                   "--exec-after 'fsfreeze -u /db'",
    },
    {
        .name = "mark.list",
        .noun = "mark",
        .verb = "list",
        .flags = CTL_READ,
        ARGS(mark_list_args),
        .summary = "list the marks",
        .result = "{\"marks\": [MARK]}",
        .example = "perdure mark list demo",
    },
    {
        .name = "mark.delete",
        .noun = "mark",
        .verb = "delete",
        ARGS(mark_delete_args),
        .summary = "forget a mark; the moment itself stays",
        .result = "{\"label\": string, \"volumes\": [string]}",
        .example = "perdure mark delete demo --label before-upgrade",
    },
    {
        .name = "pins",
        .noun = "pins",
        .flags = CTL_READ,
        ARGS(pins_args),
        .summary = "tell what keeps history from being given up",
        .detail =
            "Held marks, open images and parts of volumes that were restored, the oldest moment "
            "first. What they show stays as long as they do, whatever volumes retain: a mark until "
            "it "
            "is deleted, an image until it is closed or its lease ends, the moment of a part "
            "that was restored as long as the volume shows that. With "
            "\"is_older_than_retained\" it would have gone without them.",
        .result =
            "{\"pins\": [{\"volume\": string, \"kind\": \"mark\" or \"image\" or \"range\", "
            "\"name\": "
            "string?, \"at\": MOMENT, \"until\": time?, \"is_older_than_retained\": boolean}]}",
        .example = "perdure pins demo",
    },
    {
        .name = "status",
        .noun = "status",
        .flags = CTL_READ,
        .summary = "show how the server is",
        .result =
            "{\"version\": string, \"state\": \"serving\" | \"reloading\", "
            "\"pid\": integer, \"started_at\": time, \"platform\": \"linux\" | \"posix\", "
            "\"disks\": \"io_uring\" | \"threads\", \"reload\": RELOAD, "
            "\"store\": {\"path\": string, \"size_bytes\": integer, \"free_bytes\": integer, "
            "\"used_bytes\": integer, \"reserve_bytes\": integer, \"newest\": MOMENT, "
            "\"durable_sequence\": integer, \"recorded_bytes_per_day\": integer?, "
            "\"free_lasts_ns\": integer?}, "
            "\"cleaning\": {\"running\": boolean, \"passes\": integer, \"segments_freed\": "
            "integer, \"segments_made\": integer, \"moved_bytes\": integer}, "
            "\"arena\": {\"made_by\": string, \"size_bytes\": integer, \"used_bytes\": integer, "
            "\"huge_bytes\": integer}, "
            "\"index\": {\"runs\": integer, \"unmerged\": integer, \"merged\": integer, "
            "\"cache_bytes\": integer}, "
            "\"listeners\": [{\"protocol\": string, \"address\": string}], "
            "\"volumes\": integer, \"images\": integer, \"connections\": integer, "
            "\"alerts\": integer}",
        .example = "perdure status",
    },
    {
        .name = "connections",
        .noun = "connections",
        .flags = CTL_READ,
        ARGS(connections_args),
        .summary = "list the clients' connections",
        .detail =
            "An answer has at most 1000; \"next\" is what the next request asks with as "
            "\"after\", null at the end. The command asks until then. Connections that come "
            "or go meanwhile may be listed or not, the others once. tls is the version of TLS, "
            "null for a connection in plain.",
        .result = "{\"next\": integer?, \"connections\": [{\"id\": integer, \"protocol\": \"nbd\", "
                  "\"transport\": \"tcp\" | \"unix\", \"peer\": string, "
                  "\"state\": \"negotiating\" | \"serving\" | \"closing\", \"export\": string?, "
                  "\"connected_at\": time, \"tls\": string?, \"preserved\": boolean, "
                  "\"reloads\": integer, "
                  "\"in_flight\": integer, \"requests\": integer, \"read_bytes\": integer, "
                  "\"written_bytes\": integer}]}",
        .example = "perdure connections",
    },
    {
        .name = "reload",
        .noun = "reload",
        ARGS(reload_args),
        .summary = "replace all the server's code without dropping a connection",
        .detail = "The server answers when the successor has qualified and waits to take over; "
                  "the answer's RELOAD is that of the engine that goes. The command then waits for "
                  "the next one and tells how long the pause was.",
        .result = "RELOAD",
        .example = "perdure reload\n"
                   "perdure reload --binary ./build/src/server/perdured",
    },
    {
        .name = "pauses",
        .noun = "pauses",
        .flags = CTL_READ,
        .summary = "show how long clients waited for reloads and deaths",
        .detail =
            "Since the last cold start. Steps are powers of two; those without a pause are left "
            "out, \"below_ns\" of the longest is null. The last 32 pauses are listed, oldest "
            "first. What clients see beside it is the time that the kernel takes to wake them.",
        .result =
            "{\"since\": time, \"planned\": PAUSES, \"uninvited\": PAUSES, \"longest_ns\": "
            "integer, \"closed\": integer, \"steps\": [{\"below_ns\": integer?, \"planned\": "
            "integer, \"uninvited\": integer}], \"last\": [{\"at\": time, \"generation\": "
            "integer, \"kind\": \"planned\" | \"uninvited\", \"pause_ns\": integer, \"kept\": "
            "integer, \"closed\": integer}]}",
        .example = "perdure pauses",
    },
    {
        .name = "clean",
        .noun = "clean",
        .summary = "give up now what is older than volumes retain",
        .detail =
            "The server does so by itself when it is worth the work. Status tells what came of "
            "it.",
        .result = "{}",
        .example = "perdure clean",
    },
    {
        .name = "scrub.show",
        .noun = "scrub",
        .verb = "show",
        .flags = CTL_READ,
        .summary = "tell how far the check of all that is stored has come",
        .result = "SCRUB",
        .example = "perdure scrub show",
    },
    {
        .name = "scrub.start",
        .noun = "scrub",
        .verb = "start",
        .flags = 0,
        .summary = "read and check everything that is stored",
        .detail = "In the background, file by file, as fast as the configuration allows "
                  "(scrub-mib-s); it goes on over "
                  "reloads and deaths of the engine. What is damaged is told in alerts, each with "
                  "the file, what is "
                  "wrong and what to do; nothing of it is ever returned to a client. The server "
                  "does so by itself "
                  "now and then (scrub-days).",
        .result = "SCRUB",
        .example = "perdure scrub start",
    },
    {
        .name = "scrub.stop",
        .noun = "scrub",
        .verb = "stop",
        .flags = 0,
        .summary = "stop that, without its end",
        .result = "SCRUB",
        .example = "perdure scrub stop",
    },
    {
        .name = "clock.confirm",
        .noun = "clock",
        .verb = "confirm",
        .summary = "say that the wall clock, which jumped, is right now",
        .detail = "After a jump of more than a minute nothing is given up or thinned by age, as "
                  "nobody knows "
                  "which time was the right one. It goes on by itself when the clock is set back "
                  "to what it would "
                  "have shown, or with the next start; or at once with this, and history is as old "
                  "then as "
                  "the clock says.",
        .result = "{\"was_suspect\": boolean, \"time\": time}",
        .example = "perdure clock confirm",
    },
    {
        .name = "alerts",
        .noun = "alerts",
        .flags = CTL_READ,
        .summary = "list what needs a person's attention",
        .result = "{\"alerts\": [{\"level\": \"info\" | \"warning\" | \"error\" | \"critical\", "
                  "\"code\": string, \"subject\": string, \"text\": string, \"raised_at\": time}]}",
        .example = "perdure alerts",
    },
    {
        .name = "trace",
        .noun = "trace",
        .flags = CTL_READ,
        ARGS(trace_args),
        .summary = "show what the engine did last, or one that died",
        .detail = "The newest points, oldest first. They lie in the memory that "
                  "outlives the "
                  "engine, so they tell what it did just before a death, in the turn that was "
                  "undone too. "
                  "A cold start begins anew.",
        .result = "{\"points\": [{\"time\": time, \"event\": string, \"detail\": string}]}",
        .example = "perdure trace\n"
                   "perdure trace --deaths-ago 1",
    },
};

const uint32_t ctl_op_count = sizeof ctl_ops / sizeof ctl_ops[0];

const struct ctl_op *ctl_op_find(const char *name) {
    for (uint32_t i = 0; i < ctl_op_count; i++)
        if (strcmp(ctl_ops[i].name, name) == 0)
            return &ctl_ops[i];
    return NULL;
}

const struct ctl_arg *ctl_arg_find(const struct ctl_op *op, const char *key) {
    for (uint32_t i = 0; i < op->arg_count; i++)
        if (strcmp(op->args[i].key, key) == 0)
            return &op->args[i];
    return NULL;
}

void ctl_op_command(const struct ctl_op *op, char out[CTL_COMMAND_BYTES]) {
    snprintf(out, CTL_COMMAND_BYTES, "%s%s%s", op->noun, op->verb ? " " : "",
             op->verb ? op->verb : "");
}

size_t ctl_choice_next(const char *choices, const char **next) {
    size_t len = strcspn(choices, "|");
    *next = choices[len] ? choices + len + 1 : NULL;
    return len;
}
