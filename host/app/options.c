/**
 * @file options.c
 * @brief The command line.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/app.h"

static const app_command *const commands[] = {&app_cmd_info,  &app_cmd_train, &app_cmd_ntk,  &app_cmd_perturb,
                                              &app_cmd_width, &app_cmd_sweep, &app_cmd_bench};

typedef enum option_id {
  OPT_KEY,
  OPT_SET,
  OPT_BACKEND,
  OPT_DEVICE,
  OPT_THREADS,
  OPT_PRECISION,
  OPT_SEED,
  OPT_OUT,
  OPT_MEMORY,
  OPT_SHARD,
  OPT_RESUME,
  OPT_PROFILE,
  OPT_DRY_RUN,
  OPT_JSON,
  OPT_QUIET,
  OPT_VERSION,
  OPT_HELP
} option_id;

static const struct {
  const char *name, *value, *help; /* value NULL: a flag */
  option_id id;
  const char *key; /* OPT_KEY: the configuration's key that it sets */
} table[] = {
    {"--set", "a.b=value", "override a key of the configuration (repeat)", OPT_SET, NULL},
    {"--backend", "auto|ref|cpu|cuda", "who computes", OPT_BACKEND, NULL},
    {"--device", "I", "index of the device, from 0", OPT_DEVICE, NULL},
    {"--threads", "T", "host threads; 0: all processors", OPT_THREADS, NULL},
    {"--precision", "f32|f64", "element type of the computation", OPT_PRECISION, NULL},
    {"--seed", "S", "seed of weights and data", OPT_SEED, NULL},
    {"--out", "DIR", "where the run's files go; default runs/<name>", OPT_OUT, NULL},
    {"--memory-limit", "4G", "most memory that the process may have; suffixes K, M, G, T", OPT_MEMORY, NULL},
    {"--shard", "I/N|auto",
     "run every N-th point, from the I-th (sweep, width, perturb); auto: from the job's environment", OPT_SHARD, NULL},
    {"--resume", NULL, "go on with the run in --out; what is recorded is not run again", OPT_RESUME, NULL},
    {"--profile", "START:COUNT", "bracket training steps for the device's profiler (cuda backend)", OPT_PROFILE, NULL},
    {"--dry-run", NULL, "estimate the process's peak memory and the time; run nothing", OPT_DRY_RUN, NULL},
    {"--json", NULL, "results as JSON, one object a line, on standard output", OPT_JSON, NULL},
    {"--quiet", NULL, "no progress, no tables; errors always", OPT_QUIET, NULL},
    {"--activation", "A", "bench: softmax, relu, exp or exp_normalized", OPT_KEY, "network.activation"},
    {"--samples", "N", "bench: samples", OPT_KEY, "data.samples"},
    {"--dim", "D", "bench: input dimension", OPT_KEY, "data.dim"},
    {"--outputs", "P", "bench: outputs", OPT_KEY, "network.outputs"},
    {"--width", "M", "bench: neurons", OPT_KEY, "network.width"},
    {"--form", "plain|displacement", "bench: how the weights are kept", OPT_KEY, "network.form"},
    {"--version", NULL, "print the version", OPT_VERSION, NULL},
    {"--help", NULL, "print this, or a command's help with all configuration keys", OPT_HELP, NULL},
};

void app_print_help(const app_command *command) {
  printf("usage: softntk %s %s[options]\n\n", command ? command->name : "COMMAND",
         command == &app_cmd_bench           ? "step|gram|rng|compare "
         : command && !command->needs_config ? ""
                                             : "[CONFIG.yaml] ");
  if (command) {
    printf("%s\n\n", command->summary);
  } else {
    printf("Wide two-layer softmax, ReLU and exponential networks in the kernel (NTK) regime.\n\ncommands:\n");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
      printf("  %-8s %s\n", commands[i]->name, commands[i]->summary);
    printf("\n");
  }
  printf("options:\n");
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    char left[64];
    snprintf(left, sizeof left, "%s%s%s", table[i].name, table[i].value ? " " : "",
             table[i].value ? table[i].value : "");
    printf("  %-28s %s\n", left, table[i].help);
  }
  if (command && command->needs_config) {
    printf("\nconfiguration (YAML; also by --set):\n");
    sntk_config_print_schema(stdout);
  }
  printf(
      "\nexit codes: 0 done; 2 bad usage, configuration or data; 3 backend or device not available; 4 not enough "
      "memory;\n"
      "5 numerical failure (overflow, divergence, no good point in a grid); 75 interrupted, resumable\n");
}

static sntk_status whole_number(app *a, const char *option, const char *text, int64_t most, int64_t *value) {
  char *end;
  errno = 0;
  const long long parsed = strtoll(text, &end, 10);
  if (*text < '0' || *text > '9' || *end || errno || parsed > most)
    return sntk_fail(a->ctx, SNTK_ERR_ARGUMENT, "%s %s: a whole number from 0 to %lld is needed", option, text,
                     (long long)most);
  *value = parsed;
  return SNTK_OK;
}

/* "4G", "512M", "1.5G", "1000000": binary units. */
static sntk_status bytes(app *a, const char *text, int64_t *value) {
  char *end;
  const double number = strtod(text, &end);
  static const char units[] = "KMGT";
  double factor = 1.0;
  const char *unit = *end ? strchr(units, *end) : NULL;
  if (unit) {
    factor = ldexp(1.0, 10 * (int)(unit - units + 1));
    end++;
  }
  if (*text < '0' || *text > '9' || text[strspn(text, "0123456789.KMGT")] || *end ||
      !(number * factor >= 1.0 && number * factor < 9e18))
    return sntk_fail(a->ctx, SNTK_ERR_ARGUMENT, "--memory-limit %s: a size such as 4G, 512M or 1000000 is needed",
                     text);
  *value = (int64_t)(number * factor);
  return SNTK_OK;
}

static sntk_status profile(app *a, const char *text) {
  int used = 0;
  long long start, count;
  if (sscanf(text, "%lld:%lld%n", &start, &count, &used) != 2 || text[used] || start < 0 || count < 1 ||
      start > INT64_MAX - count)
    return sntk_fail(a->ctx, SNTK_ERR_ARGUMENT, "--profile %s: START:COUNT is needed, as in 10:5", text);
  a->options.profile_start = start;
  a->options.profile_count = count;
  return SNTK_OK;
}

static sntk_status apply(app *a, option_id id, const char *name, const char *value) {
  app_options *o = &a->options;
  int64_t number = 0;
  switch (id) {
    case OPT_KEY:
      return SNTK_ERR_INTERNAL; /* app_parse takes it */
    case OPT_SET:
      o->sets[o->set_count++] = value;
      return SNTK_OK;
    case OPT_BACKEND:
      o->backend = value;
      return SNTK_OK;
    case OPT_PRECISION:
      o->precision = value;
      return SNTK_OK;
    case OPT_SEED:
      o->seed = value;
      return SNTK_OK;
    case OPT_THREADS:
      o->threads = value;
      return SNTK_OK;
    case OPT_DEVICE:
      SNTK_TRY(whole_number(a, name, value, 1 << 16, &number));
      o->device = (int)number;
      return SNTK_OK;
    case OPT_OUT:
      if (!*value) return sntk_fail(a->ctx, SNTK_ERR_ARGUMENT, "--out is empty; name a directory");
      o->out = value;
      return SNTK_OK;
    case OPT_MEMORY:
      return bytes(a, value, &o->memory_limit);
    case OPT_SHARD:
      return sntk_shard_parse(a->ctx, value, &o->shard);
    case OPT_PROFILE:
      return profile(a, value);
    case OPT_RESUME:
      o->resume = true;
      return SNTK_OK;
    case OPT_DRY_RUN:
      o->dry_run = true;
      return SNTK_OK;
    case OPT_JSON:
      o->json = true;
      return SNTK_OK;
    case OPT_QUIET:
      o->quiet = true;
      return SNTK_OK;
    case OPT_VERSION:
      o->version = true;
      return SNTK_OK;
    case OPT_HELP:
      o->help = true;
      return SNTK_OK;
  }
  return SNTK_ERR_INTERNAL;
}

static sntk_status positional(app *a, const char *text) {
  app_options *o = &a->options;
  if (!o->command) {
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
      if (strcmp(commands[i]->name, text) == 0) o->command = commands[i];
    if (!o->command)
      return sntk_fail(
          a->ctx, SNTK_ERR_ARGUMENT,
          "command \"%s\" is unknown; use info, train, ntk, perturb, width, sweep or bench (softntk --help)", text);
    return SNTK_OK;
  }
  if (o->command == &app_cmd_bench) {
    if (o->bench_kind)
      return sntk_fail(a->ctx, SNTK_ERR_ARGUMENT, "two benchmarks, \"%s\" and \"%s\"; give one", o->bench_kind, text);
    o->bench_kind = text;
    return SNTK_OK;
  }
  if (o->config_path)
    return sntk_fail(a->ctx, SNTK_ERR_ARGUMENT, "two configuration files, \"%s\" and \"%s\"; give one", o->config_path,
                     text);
  o->config_path = text;
  return SNTK_OK;
}

/* An option that the command would not look at. */
static sntk_status check_unused(app *a) {
  const app_options *o = &a->options;
  const bool info = o->command == &app_cmd_info, trains = !info && o->command != &app_cmd_ntk;
  const struct {
    bool given, used;
    const char *option;
  } options[] = {{o->out != NULL, !info, "--out"},
                 {o->resume, !info, "--resume"},
                 {o->dry_run, !info, "--dry-run"},
                 {o->seed != NULL, !info, "--seed"},
                 {o->precision != NULL, !info, "--precision"},
                 {o->profile_count > 0, trains, "--profile"}};
  for (size_t i = 0; i < sizeof options / sizeof *options; i++)
    if (options[i].given && !options[i].used)
      return sntk_fail(a->ctx, SNTK_ERR_ARGUMENT, "%s has no effect in softntk %s; leave it out", options[i].option,
                       o->command->name);
  return SNTK_OK;
}

sntk_status app_parse(app *a, int argc, char **argv) {
  app_options *o = &a->options;
  o->shard = (sntk_shard){.index = 0, .count = 1};
  o->sets = calloc((size_t)argc, sizeof *o->sets);
  o->keys = calloc((size_t)argc, sizeof *o->keys);
  if (!o->sets || !o->keys) return sntk_fail(a->ctx, SNTK_ERR_MEMORY, "no memory for the command line");
  bool only_positional = false;
  for (int i = 1; i < argc; i++) {
    const char *text = argv[i];
    if (!only_positional && strcmp(text, "--") == 0) {
      only_positional = true;
      continue;
    }
    if (only_positional || text[0] != '-') {
      SNTK_TRY(positional(a, text));
      continue;
    }
    if (strcmp(text, "-h") == 0) text = "--help";
    const size_t length = strcspn(text, "=");
    size_t found = 0;
    while (found < sizeof table / sizeof *table &&
           !(strlen(table[found].name) == length && strncmp(table[found].name, text, length) == 0))
      found++;
    if (found == sizeof table / sizeof *table)
      return sntk_fail(a->ctx, SNTK_ERR_ARGUMENT, "option \"%.*s\" is unknown; softntk --help lists them", (int)length,
                       text);
    const char *value = text[length] == '=' ? text + length + 1 : NULL;
    if (table[found].value && !value) {
      if (i + 1 == argc)
        return sntk_fail(a->ctx, SNTK_ERR_ARGUMENT, "%s needs a value: %s", table[found].name, table[found].value);
      value = argv[++i];
    } else if (!table[found].value && value) {
      return sntk_fail(a->ctx, SNTK_ERR_ARGUMENT, "%s takes no value", table[found].name);
    }
    if (table[found].id == OPT_KEY)
      o->keys[o->key_count++] = (app_key){.option = table[found].name, .key = table[found].key, .value = value};
    else
      SNTK_TRY(apply(a, table[found].id, table[found].name, value));
  }
  if (o->help || o->version) return SNTK_OK;
  if (!o->command)
    return sntk_fail(a->ctx, SNTK_ERR_ARGUMENT,
                     "no command; use info, train, ntk, perturb, width, sweep or bench (softntk --help)");
  if (o->command->needs_config && !o->config_path && o->set_count == 0)
    return sntk_fail(a->ctx, SNTK_ERR_ARGUMENT, "softntk %s needs a configuration file (or --set for each key)",
                     o->command->name);
  if (o->key_count && o->command != &app_cmd_bench)
    return sntk_fail(a->ctx, SNTK_ERR_ARGUMENT, "%s is for bench; give %s in the configuration or by --set",
                     o->keys[0].option, o->keys[0].key);
  if (!o->command->needs_config && (o->config_path || o->set_count))
    return sntk_fail(a->ctx, SNTK_ERR_ARGUMENT, "softntk %s takes no configuration", o->command->name);
  if (o->shard.count > 1 && o->command != &app_cmd_sweep && o->command != &app_cmd_width &&
      o->command != &app_cmd_perturb)
    return sntk_fail(a->ctx, SNTK_ERR_ARGUMENT, "--shard is for sweep, width and perturb; %s runs one point",
                     o->command->name);
  return check_unused(a);
}
