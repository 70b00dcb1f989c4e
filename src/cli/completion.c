/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Completion for bash: a function with the words of the table in it. Names of volumes and images
 * are asked from the server while completing, within a second or $PERDURE_COMPLETION_TIMEOUT.
 */
#include <stdbool.h>
#include <string.h>

#include "cli/help.h"
#include "cli/options.h"

static void put_nouns(FILE *out) {
    for (uint32_t i = 0; i < ctl_op_count; i++) {
        bool seen = false;
        for (uint32_t j = 0; j < i; j++)
            seen |= strcmp(ctl_ops[j].noun, ctl_ops[i].noun) == 0;
        if (!seen)
            fprintf(out, "%s ", ctl_ops[i].noun);
    }
    fputs("help", out);
}

static void put_verbs(FILE *out) {
    for (uint32_t i = 0; i < ctl_op_count; i++) {
        const struct ctl_op *op = &ctl_ops[i];
        if (!op->verb || (i > 0 && strcmp(ctl_ops[i - 1].noun, op->noun) == 0))
            continue;
        fprintf(out, "    %s) verbs=\"", op->noun);
        for (uint32_t j = i; j < ctl_op_count && strcmp(ctl_ops[j].noun, op->noun) == 0; j++)
            fprintf(out, "%s%s", j > i ? " " : "", ctl_ops[j].verb);
        fputs("\" ;;\n", out);
    }
}

static void put_op(const struct ctl_op *op, FILE *out) {
    const char *names = "";
    fprintf(out, "    \"%s %s\"", op->noun, op->verb ? op->verb : "");
    if (op->flags & CTL_DEFAULT_VERB)
        fprintf(out, "|\"%s \"", op->noun);
    fputs(") options=\"", out);
    for (uint32_t i = 0; i < op->arg_count; i++) {
        const struct ctl_arg *arg = &op->args[i];
        if (arg->option)
            fprintf(out, "--%s ", arg->option);
        else if (!names[0] && strcmp(op->name, "volume.create") != 0)
            names = arg->type == CTL_VOLUME ? "volume" : arg->type == CTL_IMAGE ? "image" : "";
    }
    fprintf(out, "\"; names=%s ;;\n", names[0] ? names : "\"\"");
}

/* For the word before the one to complete: what its value may be. */
static void put_values(FILE *out) {
    for (uint32_t i = 0; i < ctl_op_count; i++)
        for (uint32_t j = 0; j < ctl_ops[i].arg_count; j++) {
            const struct ctl_arg *arg = &ctl_ops[i].args[j];
            if (!arg->option || arg->type == CTL_BOOL)
                continue;
            fprintf(out, "    \"%s %s --%s\")", ctl_ops[i].noun,
                    ctl_ops[i].verb ? ctl_ops[i].verb : "", arg->option);
            if (ctl_ops[i].flags & CTL_DEFAULT_VERB)
                fprintf(out, " ;& \"%s  --%s\")", ctl_ops[i].noun, arg->option);
            fputs(" value=", out);
            if (!arg->choices) {
                fputs("other ;;\n", out);
                continue;
            }
            fputs("\"", out);
            for (const char *c = arg->choices, *next; c; c = next) {
                size_t len = ctl_choice_next(c, &next);
                fprintf(out, "%.*s%s", (int)len, c, next ? " " : "");
            }
            fputs("\" ;;\n", out);
        }
}

void help_completion_bash(FILE *out) {
    fputs("# Completion of perdure for bash.\n"
          "_perdure() {\n"
          "  local word=\"${COMP_WORDS[COMP_CWORD]}\" last=\"\" noun=\"\" verb=\"\" verbs=\"\"\n"
          "  local options=\"\" names=\"\" value=\"\" i\n"
          "  ((COMP_CWORD > 0)) && last=\"${COMP_WORDS[COMP_CWORD-1]}\"\n"
          "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
          "    case \"${COMP_WORDS[i]}\" in\n"
          "    --socket|--timeout) ((i++)) ;;\n"
          "    -*) [ -z \"$noun\" ] || break ;;\n"
          "    *)\n"
          "      if [ -z \"$noun\" ]; then noun=\"${COMP_WORDS[i]}\"\n"
          "      else verb=\"${COMP_WORDS[i]}\"; break; fi ;;\n"
          "    esac\n"
          "  done\n"
          "  case \"$noun\" in\n",
          out);
    put_verbs(out);
    fputs("  esac\n"
          "  [[ \" $verbs \" == *\" $verb \"* ]] || verb=\"\"\n"
          "  case \"$noun $verb $last\" in\n",
          out);
    put_values(out);
    fputs("    *\" --socket\") value=other ;;\n"
          "    *\" --timeout\") value=other ;;\n"
          "  esac\n"
          "  case \"$noun $verb\" in\n",
          out);
    for (uint32_t i = 0; i < ctl_op_count; i++)
        put_op(&ctl_ops[i], out);
    fputs("  esac\n"
          "  if [ \"$value\" = other ]; then\n"
          "    COMPREPLY=($(compgen -f -- \"$word\"))\n"
          "    return\n"
          "  elif [ -n \"$value\" ]; then\n"
          "    COMPREPLY=($(compgen -W \"$value\" -- \"$word\"))\n"
          "    return\n"
          "  elif [[ \"$word\" == -* ]]; then\n"
          "    options+=\"",
          out);
    for (uint32_t i = 0; i < cli_global_option_count; i++)
        fprintf(out, "--%s%s", cli_global_options[i].name,
                i + 1 < cli_global_option_count ? " " : "");
    fputs("\"\n"
          "  elif [ -z \"$noun\" ]; then options=\"",
          out);
    put_nouns(out);
    fputs("\"\n"
          "  else\n"
          "    options=\"\"\n"
          "    [ -n \"$verb\" ] || options=\"$verbs\"\n"
          "    [ -z \"$names\" ] || options+=\" $(perdure --timeout "
          "${PERDURE_COMPLETION_TIMEOUT:-1s} $names list 2>/dev/null |\n"
          "      awk 'NR > 1 { print $1 }')\"\n"
          "  fi\n"
          "  COMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n"
          "}\n"
          "complete -F _perdure perdure\n",
          out);
}
