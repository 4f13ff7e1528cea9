/**
 * @file laws.c
 * @brief Power laws through recorded points: which points belong together, medians over seeds, fits.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/app.h"

/* Draws of seeds repeat a law's points. */
static const char *const draw_axes[] = {"seed", "data.seed"};
enum { DRAW_AXES = sizeof draw_axes / sizeof *draw_axes };

sntk_status app_name_laws(app *a, json_t *points, const char *abscissa) {
  const char *const apart[] = {abscissa, draw_axes[0], draw_axes[1]};
  int failed = 0;
  for (size_t i = 0; i < json_array_size(points); i++) {
    json_t *point = json_array_get(points, i);
    char *law = app_axes(app_text(point, "id"), false, apart, 1 + DRAW_AXES);
    char *draw = app_axes(app_text(point, "id"), true, draw_axes, DRAW_AXES);
    failed |= json_object_set_new(point, "law", json_string(law)); /* a NULL is a failure to it */
    failed |= json_object_set_new(point, "draw", json_string(draw));
    free(law);
    free(draw);
  }
  return failed ? sntk_fail(a->ctx, SNTK_ERR_MEMORY, "no memory for the laws") : SNTK_OK;
}

bool app_same_law(const json_t *a, const json_t *b) { return strcmp(app_text(a, "law"), app_text(b, "law")) == 0; }

bool app_first_of_law(const json_t *points, size_t index) {
  for (size_t j = 0; j < index; j++)
    if (app_same_law(json_array_get(points, j), json_array_get(points, index))) return false;
  return true;
}

/* Of one law at one abscissa? */
static bool together(const json_t *a, const json_t *b, const char *x) {
  return app_same_law(a, b) && app_real(a, x) == app_real(b, x);
}

int64_t app_law_draws(const json_t *points, size_t index, const char *x, bool *first) {
  int64_t draws = 0;
  *first = true;
  for (size_t j = 0; j < json_array_size(points); j++) {
    if (!together(json_array_get(points, j), json_array_get(points, index), x)) continue;
    draws++;
    if (j < index) *first = false;
  }
  return draws;
}

static int ascending(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

double app_law_median(const json_t *points, const json_t *like, const char *x, const char *y) {
  const size_t count = json_array_size(points);
  double *values = malloc((count + 1) * sizeof *values);
  size_t have = 0, all = 0;
  for (size_t i = 0; i < count && values; i++) {
    const json_t *point = json_array_get(points, i);
    if (!together(point, like, x)) continue;
    all++;
    if (isfinite(app_real(point, y))) values[have++] = app_real(point, y);
  }
  double result = NAN;
  if (have > 0 && 2 * have >= all) {
    qsort(values, have, sizeof *values, ascending);
    result = have % 2 ? values[have / 2] : 0.5 * (values[have / 2 - 1] + values[have / 2]);
  }
  free(values);
  return result;
}

sntk_status app_fit_law(app *a, const json_t *points, const json_t *like, const char *x, const char *y,
                        sntk_power_fit *fit, int64_t *missing) {
  const size_t count = json_array_size(points);
  double *abscissas = NULL, *values = NULL;
  int64_t *group = NULL, used = 0, groups = 0;
  const char **draws = NULL;
  *missing = 0;
  sntk_status status = sntk_alloc(a->ctx, "fit", (int64_t)count, sizeof *abscissas, (void **)&abscissas);
  if (status == SNTK_OK) status = sntk_alloc(a->ctx, "fit", (int64_t)count, sizeof *values, (void **)&values);
  if (status == SNTK_OK) status = sntk_alloc(a->ctx, "fit", (int64_t)count, sizeof *group, (void **)&group);
  if (status == SNTK_OK) status = sntk_alloc(a->ctx, "fit", (int64_t)count, sizeof *draws, (void **)&draws);
  for (size_t i = 0; i < count && status == SNTK_OK; i++) {
    const json_t *point = json_array_get(points, i);
    if (!app_same_law(point, like)) continue;
    const double value = app_real(point, y);
    if (!(value > 0.0)) {
      (*missing)++;
      continue;
    }
    int64_t g = 0;
    while (g < groups && strcmp(draws[g], app_text(point, "draw")) != 0) g++;
    if (g == groups) draws[groups++] = app_text(point, "draw");
    abscissas[used] = app_real(point, x);
    values[used] = value;
    group[used++] = g;
  }
  /* laws are told at the end of runs that failed too: one that is not determined must not take their error's place */
  char kept[SNTK_ERROR_CHARS];
  snprintf(kept, sizeof kept, "%s", sntk_context_error(a->ctx));
  if (status == SNTK_OK)
    status = sntk_power_law(a->ctx, abscissas, values, NULL, group, used, groups, NULL, fit);
  if (status != SNTK_OK) sntk_fail(a->ctx, status, "%s", kept);
  free(abscissas);
  free(values);
  free(group);
  free(draws);
  return status;
}

sntk_record *app_fit_point(const char *kind, const json_t *like, const char *x, const char *y,
                           const sntk_power_fit *fit, int64_t missing) {
  static const char *const shared[] = {"law", "activation", "dim", "outputs", "sigma"};
  sntk_record *record = sntk_record_create();
  sntk_record_text(record, "kind", kind);
  for (size_t i = 0; i < sizeof shared / sizeof *shared; i++)
    sntk_record_json(record, shared[i], json_incref(json_object_get(like, shared[i])));
  sntk_record_text(record, "abscissa", x);
  sntk_record_text(record, "quantity", y);
  sntk_record_int(record, "points", fit->points);
  sntk_record_int(record, "missing", missing);
  sntk_record_real(record, "exponent", fit->exponent);
  sntk_record_real(record, "exponent_low", fit->low);
  sntk_record_real(record, "exponent_high", fit->high);
  sntk_record_real(record, "factor", fit->factor);
  sntk_record_real(record, "r_squared", fit->r_squared);
  return record;
}

void app_interval_cell(app_table *table, const sntk_power_fit *fit) {
  if (isfinite(fit->low))
    app_table_cell(table, "[%.2f, %.2f]", fit->low, fit->high);
  else
    app_table_cell(table, "not determined"); /* one seed, or too few draws that determine a line */
}

sntk_status app_print_laws(app *a, json_t *points, const char *kind, const char *axis, const char *x,
                           const char *const *quantities, size_t count) {
  static const char *const headers[] = {"law of", "points", "exponent", "95% interval", "factor", "R^2", "at"};
  char title[64];
  const char *titles[sizeof headers / sizeof *headers];
  memcpy(titles, headers, sizeof headers);
  snprintf(title, sizeof title, "exponent in %s", x);
  titles[2] = title;
  SNTK_TRY(app_name_laws(a, points, axis));
  app_table *table = app_table_create((int)(sizeof headers / sizeof *headers), titles);
  bool any = false;
  sntk_status status = SNTK_OK;
  for (size_t i = 0; i < json_array_size(points) && status == SNTK_OK; i++) {
    const json_t *like = json_array_get(points, i);
    if (!app_first_of_law(points, i)) continue;
    for (size_t k = 0; k < count && status == SNTK_OK; k++) {
      sntk_power_fit fit;
      int64_t missing;
      if (app_fit_law(a, points, like, x, quantities[k], &fit, &missing) != SNTK_OK) continue;
      any = true;
      if (a->options.json) {
        status = app_print_record(a, app_fit_point(kind, like, x, quantities[k], &fit, missing));
        continue;
      }
      app_table_cell(table, "%s", quantities[k]);
      if (missing)
        app_table_cell(table, "%lld (%lld none)", (long long)fit.points, (long long)missing);
      else
        app_table_cell(table, "%lld", (long long)fit.points);
      app_table_number(table, fit.exponent);
      app_interval_cell(table, &fit);
      app_table_number(table, fit.factor);
      app_table_number(table, fit.r_squared);
      app_table_cell(table, "%s", *app_text(like, "law") ? app_text(like, "law") : app_text(like, "activation"));
    }
  }
  if (any && !a->options.json) {
    printf("\n");
    app_table_print(table);
  }
  app_table_free(table);
  return status;
}
