/**
 * @file unused.c
 * @brief Keys that are given and change nothing: an error that names the key and what it needs.
 *
 * Commands may share a file and options, so that the sections of the others are let be; but not an axis of the grid,
 * whose points would all be the same.
 *
 * SPDX-License-Identifier: MIT
 */
#include <string.h>

#include "app/app.h"

/* ---- what this command does ---- */

static bool is_command(const app *a, const app_command *command) { return a->options.command == command; }

static bool runs_ntk(const app *a) {
  return is_command(a, &app_cmd_ntk) ||
         (is_command(a, &app_cmd_sweep) && sntk_config_takes(a->config, "sweep.command", "ntk"));
}

static bool runs_train(const app *a) {
  return is_command(a, &app_cmd_train) || (is_command(a, &app_cmd_sweep) && !runs_ntk(a));
}

static bool runs_perturb(const app *a) { return is_command(a, &app_cmd_perturb); }

static bool takes(const app *a, const char *key, const char *text) { return sntk_config_takes(a->config, key, text); }

static bool asked(const app *a, const char *key) { return sntk_config_asked(a->config, key); }

/* ---- what a key needs ---- */

static bool of_clusters(const app *a) { return takes(a, "data.source", "clusters"); }
static bool of_teacher(const app *a) { return takes(a, "data.targets", "teacher"); }
static bool of_harmonic(const app *a) { return takes(a, "data.targets", "harmonic"); }

static bool of_labels(const app *a) {
  return !asked(a, "data.targets") || takes(a, "data.targets", "values") || takes(a, "data.targets", "classes");
}

/* Inputs or targets that are drawn. Where nothing is said of the targets, labels are taken as they are. */
static bool of_draws(const app *a) {
  static const char *const sources[] = {"sphere", "gaussian", "clusters"};
  for (size_t i = 0; i < sizeof sources / sizeof *sources; i++)
    if (takes(a, "data.source", sources[i])) return true;
  if (takes(a, "data.targets", "random") || of_teacher(a) || of_harmonic(a)) return true;
  return !asked(a, "data.targets") && !asked(a, "data.labels") && !asked(a, "data.label_columns");
}

static bool of_file(const app *a) {
  static const char *const sources[] = {"npy", "csv", "hdf5", "idx"};
  for (size_t i = 0; i < sizeof sources / sizeof *sources; i++)
    if (takes(a, "data.source", sources[i])) return true;
  return false;
}

/* A file's last rows are held out of what any command takes for the samples, where their number is not given. */
static bool of_held_out(const app *a) {
  return runs_train(a) || takes(a, "data.test_samples", "0") || (of_file(a) && !asked(a, "data.samples"));
}

static bool of_theory(const app *a) { return !runs_train(a) || takes(a, "train.eta", "theory"); }

static bool of_prefixes(const app *a) { return !runs_ntk(a) || takes(a, "ntk.prefixes", "true"); }

static bool of_halves(const app *a) {
  return !runs_ntk(a) || (of_prefixes(a) && (!asked(a, "ntk.prefix_widths") || takes(a, "ntk.prefix_widths", "[]")));
}

static bool has_spectrum(const app *a) { return takes(a, "ntk.matrix", "full") || takes(a, "ntk.matrix", "trace"); }

static bool of_spectrum(const app *a) {
  return !runs_ntk(a) || (has_spectrum(a) && takes(a, "ntk.eigenvalues", "true"));
}

static bool of_matrix(const app *a) { return !runs_ntk(a) || has_spectrum(a) || !takes(a, "ntk.eigenvalues", "true"); }

static bool of_kept_prefixes(const app *a) { return of_prefixes(a) || !takes(a, "save.prefixes", "true"); }

static bool of_adversary(const app *a) { return !runs_perturb(a) || takes(a, "perturb.adversarial", "true"); }

static bool of_region(const app *a) { return !runs_perturb(a) || takes(a, "perturb.convex_region", "true"); }

static const struct {
  const char *key;
  bool (*used)(const app *a);
  const char *needs;
  const char *by[2]; /* the keys that decide it */
} rules[] = {
    {"data.clusters", of_clusters, "data.source clusters", {"data.source"}},
    {"data.spread", of_clusters, "data.source clusters", {"data.source"}},
    {"data.teacher_width", of_teacher, "data.targets teacher", {"data.targets"}},
    {"data.harmonic_degree", of_harmonic, "data.targets harmonic", {"data.targets"}},
    {"data.labels", of_labels, "data.targets values or classes", {"data.targets"}},
    {"data.seed", of_draws, "inputs or targets that are drawn", {"data.source", "data.targets"}},
    {"data.test_samples", of_held_out, "train or a sweep of it", {NULL}},
    {"train.theory_c", of_theory, "train.eta theory", {"train.eta"}},
    {"train.theory_delta", of_theory, "train.eta theory", {"train.eta"}},
    {"ntk.min_prefix", of_halves, "ntk.prefixes true without ntk.prefix_widths", {"ntk.prefixes", "ntk.prefix_widths"}},
    {"ntk.solver", of_spectrum, "ntk.eigenvalues true and ntk.matrix full or trace", {"ntk.eigenvalues", "ntk.matrix"}},
    {"ntk.eigenvalues", of_matrix, "ntk.matrix full or trace", {"ntk.matrix"}},
    {"save.prefixes", of_kept_prefixes, "ntk.prefixes true", {"ntk.prefixes"}},
    {"perturb.ascent_steps", of_adversary, "perturb.adversarial true", {"perturb.adversarial"}},
    {"perturb.lambda_ratio", of_region, "perturb.convex_region true", {"perturb.convex_region"}},
    {"perturb.max_radius", of_region, "perturb.convex_region true", {"perturb.convex_region"}},
    {"perturb.resolution", of_region, "perturb.convex_region true", {"perturb.convex_region"}},
};

enum { RULES = sizeof rules / sizeof *rules };

static bool by_option(const app *a, const char *key) {
  return asked(a, key) && strncmp(sntk_config_origin(a->config, key), "--", 2) == 0;
}

/* A key of the file that an option made idle: the file is used for less than it says, and that is meant. */
static bool made_idle(const app *a, int rule) {
  if (by_option(a, rules[rule].key)) return false;
  for (int i = 0; i < 2; i++)
    if (rules[rule].by[i] && by_option(a, rules[rule].by[i])) return true;
  return false;
}

static sntk_status no_effect(app *a, const char *key, const char *needs) {
  return sntk_config_error(a->ctx, a->config, key, SNTK_ERR_CONFIG,
                           "has no effect in %s here, it needs %s; remove the key", a->options.command->name, needs);
}

/* ---- sections ---- */

/* Does the command look at the section? Those that it shares with the others are not in the list. */
static bool looks_at(const app *a, const char *section) {
  if (strncmp(section, "train.", 6) == 0) return !runs_ntk(a);
  if (strncmp(section, "ntk.", 4) == 0) return runs_ntk(a);
  if (strncmp(section, "perturb.", 8) == 0) return runs_perturb(a);
  if (strncmp(section, "width.", 6) == 0) return is_command(a, &app_cmd_width);
  if (strncmp(section, "sweep.", 6) == 0) return is_command(a, &app_cmd_sweep);
  return true;
}

static sntk_status foreign(app *a, const char *origin, const char *key) {
  return sntk_fail(a->ctx, SNTK_ERR_CONFIG,
                   "%s: %.*s: has no effect in %s, which does not look at that section; remove it", origin,
                   (int)strcspn(key, "="), key, a->options.command->name);
}

sntk_status app_check_keys(app *a) {
  for (int i = 0; i < RULES; i++)
    if (asked(a, rules[i].key) && !rules[i].used(a) && !made_idle(a, i))
      return no_effect(a, rules[i].key, rules[i].needs);
  for (int64_t axis = 0; axis < sntk_config_grid_axes(a->config); axis++) {
    int64_t values;
    const char *key = sntk_config_grid_axis(a->config, axis, &values);
    if (!looks_at(a, key)) return foreign(a, sntk_config_origin(a->config, key), key);
  }
  return SNTK_OK;
}
