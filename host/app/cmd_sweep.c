/**
 * @file cmd_sweep.c
 * @brief Commands over points: one point (train, ntk), or every point of the grid (sweep).
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/app.h"
#include "core/files.h"

/* Runs the point and records it. One that is recorded already is run for its files alone. */
static sntk_status run_point(app *a, app_point_fn point_of, const json_t *recorded, sntk_status *failure) {
  sntk_record *point = NULL;
  char *h5 = sntk_format("%s/run.h5", a->directory);
  sntk_status status = h5 ? point_of(a, a->config, "-", h5, &point, failure)
                          : sntk_fail(a->ctx, SNTK_ERR_MEMORY, "no memory for a path");
  free(h5);
  app_progress_end(a);
  if (status == SNTK_OK && !recorded) status = app_record(a, point);
  if (status == SNTK_OK && recorded && !sntk_same_result(recorded, sntk_record_members(point)))
    app_line(stderr,
             "softntk: note: %s: run.h5 was made again, with figures that differ from the recorded point's: another "
             "machine, version or number of threads",
             a->directory);
  sntk_record_free(point);
  return status;
}

/* The point as it is recorded, and its failure as the command's; *point NULL where it is not. New reference. */
static sntk_status recorded_point(app *a, const char *kind, json_t **point, sntk_status *failure) {
  const char *text = sntk_run_find(a->run, kind, "-");
  *point = NULL;
  if (!text) return SNTK_OK;
  SNTK_TRY(app_recorded(a, text, point));
  if (a->options.json) printf("%s\n", text);
  if (strcmp(app_text(*point, "status"), "failed") == 0)
    *failure = sntk_fail(a->ctx, SNTK_ERR_NUMERICAL, "%s", app_text(*point, "error"));
  return SNTK_OK;
}

sntk_status app_single(app *a, const char *kind, app_point_fn point_of, app_cost_fn cost_of, app_table_fn table_of) {
  if (sntk_config_grid_axes(a->config) > 0) {
    int64_t values;
    const char *axis = sntk_config_grid_axis(a->config, 0, &values);
    return sntk_fail(a->ctx, SNTK_ERR_CONFIG,
                     "%s: grid.%s: a grid has many points, and %s runs one; use softntk sweep, or remove the grid",
                     sntk_config_origin(a->config, axis), axis, kind);
  }
  SNTK_TRY(app_open_backend(a));
  if (a->options.dry_run) {
    int64_t bytes;
    double seconds;
    SNTK_TRY(cost_of(a, a->config, &bytes, &seconds));
    return app_print_dry_run(a, 1, bytes, seconds,
                             point_of == app_train_point
                                 ? "from a short measurement; training at its full budget of steps"
                                 : "from a short measurement");
  }
  SNTK_TRY(app_run_open(a));
  sntk_status failure = SNTK_OK;
  json_t *recorded;
  const char *absent = NULL;
  sntk_status status = recorded_point(a, kind, &recorded, &failure);
  bool there = recorded != NULL;
  if (status == SNTK_OK && recorded) status = sntk_run_results(a->ctx, a->run, failure == SNTK_OK, &absent);
  if (status == SNTK_OK && recorded) status = app_prefixes_there(a, &there);
  if (absent || there != (recorded != NULL))
    app_line(stderr, "softntk: note: %s/%s is not there; it is made again", a->directory,
             absent ? absent : "prefix_*.h5");
  if (status == SNTK_OK && (absent || !there)) status = run_point(a, point_of, recorded, &failure);
  app_progress_end(a);
  json_decref(recorded);
  if (status == SNTK_OK && !a->options.json && !a->options.quiet) table_of(a);
  /* a numerical failure is recorded, and still the command's result */
  return app_run_close(a, status != SNTK_OK ? status : failure);
}

typedef struct point_kind {
  const char *name;
  app_point_fn point_of;
  app_cost_fn cost_of;
  app_table_fn table_of;
  app_quantity laws[7]; /* figures with a power law in the width, {NULL} behind the last */
} point_kind;

static const point_kind kinds[] = {{"train",
                                    app_train_point,
                                    app_train_cost,
                                    app_train_table,
                                    {{.key = "weight_movement"},
                                     {.key = "kernel_drift"},
                                     {.key = "distance_linearized"},
                                     {.key = "distance_infinite"},
                                     {.key = "test_distance_linearized"},
                                     {.key = "test_distance_infinite"}}},
                                   {"ntk", app_ntk_point, app_ntk_cost, app_ntk_table, {{.key = "infinite_distance"}}}};

static sntk_status print_laws(app *a, const point_kind *kind) {
  size_t count = 0;
  while (kind->laws[count].key) count++;
  json_t *points = app_points(a, kind->name);
  const sntk_status status = app_print_laws(a, points, "sweep_fit", "network.width", "width", kind->laws, count);
  json_decref(points);
  return status;
}

static sntk_status dry_run(app *a, const point_kind *kind, int64_t count) {
  int64_t most = 0, owned = 0;
  double total = 0.0;
  for (int64_t i = 0; i < count; i++) {
    if (!sntk_shard_owns(a->options.shard, i)) continue;
    sntk_config *config;
    int64_t bytes;
    double seconds;
    SNTK_TRY(sntk_check_interrupt(a->ctx));
    SNTK_TRY(sntk_config_grid_point(a->ctx, a->config, i, &config));
    const sntk_status status = kind->cost_of(a, config, &bytes, &seconds);
    sntk_config_free(config);
    SNTK_TRY(status);
    if (bytes > most) most = bytes;
    total += seconds;
    owned++;
  }
  return app_print_dry_run(a, owned, most, total,
                           kind->point_of == app_train_point
                               ? "from short measurements; training at its full budget of steps"
                               : "from short measurements");
}

static sntk_status sweep_point(app *a, const point_kind *kind, int64_t index) {
  SNTK_TRY(sntk_check_interrupt(a->ctx));
  char *id = sntk_config_grid_id(a->config, index);
  if (!id) return sntk_fail(a->ctx, SNTK_ERR_MEMORY, "no memory for a point's name");
  sntk_status status = SNTK_OK, failure;
  if (!sntk_run_find(a->run, kind->name, id)) {
    sntk_config *config = NULL;
    sntk_record *point = NULL;
    status = sntk_config_grid_point(a->ctx, a->config, index, &config);
    if (status == SNTK_OK) status = kind->point_of(a, config, id, NULL, &point, &failure);
    if (status == SNTK_OK) status = app_record(a, point);
    sntk_record_free(point);
    sntk_config_free(config);
  }
  free(id);
  return status;
}

/* Of the axes from `axis` on, only those that the check looks at are gone through: a grid may have more points than can
 * be visited. `index` counts in the axes before. */
static sntk_status check_axes(app *a, int64_t axis, int64_t index, bool needs_width) {
  if (axis < sntk_config_grid_axes(a->config)) {
    int64_t values;
    const char *key = sntk_config_grid_axis(a->config, axis, &values);
    const bool matters = strcmp(key, "network.width") == 0 || strcmp(key, "network.init") == 0;
    for (int64_t v = 0; v < (matters ? values : 1); v++)
      SNTK_TRY(check_axes(a, axis + 1, index * values + v, needs_width));
    return SNTK_OK;
  }
  sntk_config *config;
  SNTK_TRY(sntk_check_interrupt(a->ctx));
  SNTK_TRY(sntk_config_grid_point(a->ctx, a->config, index, &config));
  const sntk_status status = app_check_width(a, config, needs_width || sntk_config_has(config, "network.width"));
  sntk_config_free(config);
  return status;
}

sntk_status app_check_points(app *a, bool needs_width) { return check_axes(a, 0, 0, needs_width); }

static sntk_status run(app *a) {
  const point_kind *kind = &kinds[sntk_config_choice(a->config, "sweep.command")];
  const int64_t count = sntk_config_grid_count(a->config);
  if (count < 0) return sntk_fail(a->ctx, SNTK_ERR_CONFIG, "grid: the number of points does not fit 63 bits");
  SNTK_TRY(app_check_points(a, kind->point_of == app_train_point));
  SNTK_TRY(app_refuse_save(a));
  SNTK_TRY(app_open_backend(a));
  if (a->options.dry_run) return dry_run(a, kind, count);
  SNTK_TRY(app_run_open(a));
  a->point_count = count;
  sntk_status status = SNTK_OK;
  for (int64_t i = 0; i < count && status == SNTK_OK; i++) {
    if (!sntk_shard_owns(a->options.shard, i)) continue;
    a->point_index = i;
    status = sweep_point(a, kind, i);
  }
  app_run_gather(a);
  if (!a->options.json && !a->options.quiet && sntk_run_count(a->run) > 0) kind->table_of(a);
  const sntk_status told = a->options.quiet ? SNTK_OK : print_laws(a, kind);
  SNTK_TRY(app_run_close(a, status));
  return told;
}

const app_command app_cmd_sweep = {"sweep", "Train (or sweep.command) at every point of the grid.", true, run};
