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
  const char *const apart[] = {abscissa, draw_axes[0], draw_axes[1], "network.activation"};
  int failed = 0;
  for (size_t i = 0; i < json_array_size(points); i++) {
    json_t *point = json_array_get(points, i);
    char *law = app_axes(app_text(point, "id"), false, apart, 1 + DRAW_AXES);
    char *others = app_axes(app_text(point, "id"), false, apart, 2 + DRAW_AXES);
    char *draw = app_axes(app_text(point, "id"), true, draw_axes, DRAW_AXES);
    failed |= json_object_set_new(point, "law", json_string(law)); /* a NULL is a failure to it */
    failed |= json_object_set_new(point, "apart", json_string(others));
    failed |= json_object_set_new(point, "draw", json_string(draw));
    free(law);
    free(others);
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

/* A run that failed has figures of where it came to: no law's. */
static bool has_failed(const json_t *point) { return strcmp(app_text(point, "status"), "failed") == 0; }

/* What a point knows of a quantity: its value, or a bound where the value was not found. False: nothing. */
static bool known(const json_t *point, const app_quantity *q, double *value, sntk_censoring *censored) {
  if (has_failed(point)) return false;
  const double least = q->above ? app_real(point, q->above) : NAN;
  const double most = q->at_most ? app_real(point, q->at_most) : NAN;
  *value = app_real(point, q->key);
  *censored = SNTK_CENSORED_NOT;
  if (*value > 0.0 && !(*value >= most)) return true;
  if (!(*value > 0.0) && least > 0.0) {
    *value = least;
    *censored = SNTK_CENSORED_BELOW;
    return true;
  }
  *value = most;
  *censored = SNTK_CENSORED_ABOVE;
  return most > 0.0;
}

typedef struct reading {
  double value;
  bool beyond; /* the truth is more */
} reading;

/* By value; one that is only a bound lies behind an equal value. */
static int ascending(const void *a, const void *b) {
  const reading *x = a, *y = b;
  return x->value != y->value ? (x->value > y->value) - (x->value < y->value) : x->beyond - y->beyond;
}

/* Median of a figure over the points of one law and abscissa, NaN where fewer than half have it; *beyond: it is more
 * than that. False without memory. Values that were not found below a bound take part as the largest there are: leaving
 * them out would make the median one of the others. */
static bool law_median(const json_t *points, const json_t *like, const char *x, const app_quantity *q, double *median,
                       bool *beyond) {
  const size_t count = json_array_size(points);
  reading *readings = malloc((count + 1) * sizeof *readings);
  size_t have = 0, all = 0;
  *median = NAN;
  *beyond = false;
  if (!readings) return false;
  for (size_t i = 0; i < count; i++) {
    const json_t *point = json_array_get(points, i);
    sntk_censoring censored;
    if (!together(point, like, x)) continue;
    all++;
    if (has_failed(point)) continue;
    readings[have].value = app_real(point, q->key);
    readings[have].beyond = false;
    if (!isfinite(readings[have].value)) {
      if (!known(point, q, &readings[have].value, &censored) || censored != SNTK_CENSORED_BELOW) continue;
      readings[have].beyond = true;
    }
    have++;
  }
  if (have > 0 && 2 * have >= all) {
    qsort(readings, have, sizeof *readings, ascending);
    const reading low = readings[(have - 1) / 2], high = readings[have / 2];
    *median = low.value == high.value ? low.value : 0.5 * (low.value + high.value);
    *beyond = low.beyond || high.beyond;
  }
  free(readings);
  return true;
}

void app_median_cell(app_table *table, const json_t *points, const json_t *like, const char *x, const app_quantity *q) {
  bool beyond;
  double median;
  if (!law_median(points, like, x, q, &median, &beyond))
    app_table_text(table, NULL);
  else if (beyond)
    app_table_cell(table, ">%.6g", median);
  else
    app_table_number(table, median);
}

/* Index of a point's draw among those seen. */
static int64_t draw_of(app_law *law, const json_t *point) {
  const char *const draw = app_text(point, "draw");
  for (int64_t g = 0; g < law->draws; g++)
    if (strcmp(law->draw[g], draw) == 0) return g;
  law->draw[law->draws] = draw;
  return law->draws++;
}

void app_law_clear(app_law *law) {
  free(law->draw);
  free(law->exponents);
  *law = (app_law){0};
}

/* Gathers a law's points and fits them; `reals` has room for two of every point, `group` and `censored` for one. */
static sntk_status fit_points(app *a, const json_t *points, const json_t *like, const char *x, const app_quantity *q,
                              double *reals, int64_t *group, sntk_censoring *censored, app_law *law) {
  const size_t count = json_array_size(points);
  double *const abscissas = reals, *const values = reals + count;
  int64_t used = 0;
  for (size_t i = 0; i < count; i++) {
    const json_t *point = json_array_get(points, i);
    if (!app_same_law(point, like)) continue;
    if (!known(point, q, &values[used], &censored[used])) {
      law->missing++;
      continue;
    }
    abscissas[used] = app_real(point, x);
    group[used++] = draw_of(law, point);
  }
  for (int64_t j = 0; j < used; j++) {
    law->low = j ? fmin(law->low, abscissas[j]) : abscissas[j];
    law->high = j ? fmax(law->high, abscissas[j]) : abscissas[j];
  }
  const sntk_status status =
      sntk_power_law(a->ctx, abscissas, values, censored, group, used, law->draws, law->exponents, &law->fit);
  law->determined = status == SNTK_OK;
  return status == SNTK_ERR_ARGUMENT ? SNTK_OK : status;
}

sntk_status app_fit_law(app *a, const json_t *points, const json_t *like, const char *x, const app_quantity *q,
                        app_law *law) {
  const int64_t count = (int64_t)json_array_size(points);
  double *reals = NULL;
  int64_t *group = NULL;
  sntk_censoring *censored = NULL;
  /* laws are told at the end of runs that failed too: one that is not determined must not take their error's place */
  char kept[SNTK_ERROR_CHARS];
  snprintf(kept, sizeof kept, "%s", sntk_context_error(a->ctx));
  *law = (app_law){.low = NAN, .high = NAN};
  sntk_status status = sntk_alloc(a->ctx, "fit", 2 * count, sizeof *reals, (void **)&reals);
  if (status == SNTK_OK) status = sntk_alloc(a->ctx, "fit", count, sizeof *group, (void **)&group);
  if (status == SNTK_OK) status = sntk_alloc(a->ctx, "fit", count, sizeof *censored, (void **)&censored);
  if (status == SNTK_OK) status = sntk_alloc(a->ctx, "fit", count, sizeof *law->draw, (void **)&law->draw);
  if (status == SNTK_OK) status = sntk_alloc(a->ctx, "fit", count, sizeof *law->exponents, (void **)&law->exponents);
  if (status == SNTK_OK) status = fit_points(a, points, like, x, q, reals, group, censored, law);
  if (status == SNTK_OK && !law->determined) sntk_fail(a->ctx, SNTK_ERR_ARGUMENT, "%s", kept);
  free(reals);
  free(group);
  free(censored);
  if (status != SNTK_OK) app_law_clear(law);
  return status;
}

bool app_law_told(const app_law *law) { return law->determined || (law->fit.censored > 0 && law->high > law->low); }

static const char *method_text(const app_law *law) {
  const bool censored = law->fit.method == SNTK_POWER_LIKELIHOOD;
  if (!law->determined) return "too many censored points";
  if (law->fit.seeds < 2)
    return censored ? "maximum likelihood with censored points, one seed" : "least squares, one seed";
  return censored ? "maximum likelihood with censored points, Student t of the jackknife over seeds"
                  : "mean of the seeds' least-squares slopes, Student t";
}

sntk_record *app_fit_point(const char *kind, const json_t *like, const char *x, const app_quantity *q,
                           const app_law *law) {
  static const char *const shared[] = {"law", "activation", "dim", "outputs", "sigma"};
  sntk_record *record = sntk_record_create();
  sntk_record_text(record, "kind", kind);
  for (size_t i = 0; i < sizeof shared / sizeof *shared; i++)
    sntk_record_json(record, shared[i], json_incref(json_object_get(like, shared[i])));
  sntk_record_text(record, "abscissa", x);
  sntk_record_text(record, "quantity", q->key);
  sntk_record_int(record, "points", law->fit.points);
  sntk_record_int(record, "censored", law->fit.censored);
  sntk_record_int(record, "missing", law->missing);
  sntk_record_int(record, "seeds", law->fit.seeds);
  sntk_record_text(record, "method", method_text(law));
  sntk_record_real(record, "exponent", law->fit.exponent);
  sntk_record_real(record, "exponent_low", law->fit.low);
  sntk_record_real(record, "exponent_high", law->fit.high);
  sntk_record_real(record, "factor", law->fit.factor);
  sntk_record_real(record, "r_squared", law->fit.r_squared);
  return record;
}

/* Values that agree to the last bit are whole numbers that agree, not an interval of no length. */
static void interval_cell(app_table *table, double low, double high) {
  const int digits = high - low < 0.01 ? 4 : high - low < 0.1 ? 3 : 2; /* so that the ends differ */
  if (!isfinite(low))
    app_table_cell(table, "not determined"); /* one seed, or too many censored points */
  else if (low == high)
    app_table_cell(table, "same in every seed");
  else
    app_table_cell(table, "[%.*f, %.*f]", digits, low, digits, high);
}

void app_law_cells(app_table *table, const app_law *law) {
  const long long points = law->fit.points, censored = law->fit.censored, missing = law->missing;
  if (censored && missing)
    app_table_cell(table, "%lld (%lld censored, %lld none)", points, censored, missing);
  else if (censored)
    app_table_cell(table, "%lld (%lld censored)", points, censored);
  else if (missing)
    app_table_cell(table, "%lld (%lld none)", points, missing);
  else
    app_table_cell(table, "%lld", points);
  app_table_cell(table, "%lld", (long long)law->fit.seeds);
  app_table_number(table, law->fit.exponent);
  interval_cell(table, law->fit.low, law->fit.high);
}

/* ---- differences between activations ---- */

/* Two laws that differ in the activation alone. */
static bool compared(const json_t *a, const json_t *b) {
  return strcmp(app_text(a, "apart"), app_text(b, "apart")) == 0 &&
         strcmp(app_text(a, "activation"), app_text(b, "activation")) != 0;
}

/* The mean over the draws that both have: the same seed gives both the same inputs, and what that does to both leaves
 * their difference. `minus` is overwritten. */
static sntk_interval pair_exponents(const app_law *law, app_law *minus) {
  for (int64_t h = 0; h < minus->draws; h++) {
    double own = NAN;
    for (int64_t g = 0; g < law->draws; g++)
      if (strcmp(law->draw[g], minus->draw[h]) == 0) own = law->exponents[g];
    minus->exponents[h] = own - minus->exponents[h];
  }
  return sntk_mean_interval(minus->exponents, minus->draws);
}

static sntk_record *difference_point(const char *kind, const json_t *like, const json_t *other, const char *x,
                                     const app_quantity *q, int64_t censored, const sntk_interval *difference) {
  static const char *const shared[] = {"activation", "dim", "outputs", "sigma"};
  char name[64];
  snprintf(name, sizeof name, "%s_difference", kind);
  sntk_record *record = sntk_record_create();
  sntk_record_text(record, "kind", name);
  sntk_record_text(record, "law", app_text(like, "apart"));
  for (size_t i = 0; i < sizeof shared / sizeof *shared; i++)
    sntk_record_json(record, shared[i], json_incref(json_object_get(like, shared[i])));
  sntk_record_text(record, "minus", app_text(other, "activation"));
  sntk_record_text(record, "abscissa", x);
  sntk_record_text(record, "quantity", q->key);
  sntk_record_int(record, "censored", censored);
  sntk_record_int(record, "seeds", difference->count);
  sntk_record_text(record, "method", difference->count < 2 ? "one seed" : "paired by seed, Student t");
  sntk_record_real(record, "difference", difference->mean);
  sntk_record_real(record, "difference_low", difference->low);
  sntk_record_real(record, "difference_high", difference->high);
  return record;
}

/* The table's row or the record of one pair; nothing where they share no draw. */
static sntk_status tell_difference(app *a, app_table *table, const char *kind, const json_t *points, const json_t *like,
                                   const json_t *other, const char *x, const app_quantity *q, bool *any) {
  app_law law, minus;
  SNTK_TRY(app_fit_law(a, points, like, x, q, &law));
  sntk_status status = app_fit_law(a, points, other, x, q, &minus);
  if (status == SNTK_OK) {
    const sntk_interval difference = pair_exponents(&law, &minus);
    const int64_t censored = law.fit.censored + minus.fit.censored;
    if (difference.count > 0 && a->options.json)
      status = app_print_record(a, difference_point(kind, like, other, x, q, censored, &difference));
    if (difference.count > 0 && !a->options.json) {
      *any = true;
      app_table_cell(table, "%s - %s", app_text(like, "activation"), app_text(other, "activation"));
      app_table_cell(table, "%s", q->name ? q->name : q->key);
      app_table_cell(table, "%lld", (long long)difference.count);
      app_table_number(table, difference.mean);
      interval_cell(table, difference.low, difference.high);
      if (*app_text(like, "apart")) app_table_cell(table, "%s", app_text(like, "apart"));
    }
    app_law_clear(&minus);
  }
  app_law_clear(&law);
  return status;
}

sntk_status app_print_differences(app *a, const json_t *points, const char *kind, const char *x,
                                  const app_quantity *quantities, size_t count) {
  static const char *const headers[] = {"difference of exponents",      "of", "seeds", "difference",
                                        "95% interval, paired by seed", "at"};
  bool any = false, axes = false;
  for (size_t i = 0; i < json_array_size(points); i++) axes |= *app_text(json_array_get(points, i), "apart") != 0;
  app_table *table = app_table_create((int)(sizeof headers / sizeof *headers) - !axes, headers);
  sntk_status status = SNTK_OK;
  for (size_t i = 0; i < json_array_size(points) && status == SNTK_OK; i++) {
    if (!app_first_of_law(points, i)) continue;
    for (size_t j = i + 1; j < json_array_size(points) && status == SNTK_OK; j++) {
      const json_t *like = json_array_get(points, i), *other = json_array_get(points, j);
      if (!compared(like, other) || !app_first_of_law(points, j)) continue;
      for (size_t k = 0; k < count && status == SNTK_OK; k++)
        status = tell_difference(a, table, kind, points, like, other, x, &quantities[k], &any);
    }
  }
  if (any) {
    printf("\n");
    app_table_print(a, table);
  }
  app_table_free(table);
  return status;
}

/* ---- tables of laws ---- */

sntk_status app_print_laws(app *a, json_t *points, const char *kind, const char *axis, const char *x,
                           const app_quantity *quantities, size_t count) {
  static const char *const headers[] = {"law of", "points", "seeds", "exponent", "95% interval", "factor", "R^2", "at"};
  char title[64];
  const char *titles[sizeof headers / sizeof *headers];
  memcpy(titles, headers, sizeof headers);
  snprintf(title, sizeof title, "exponent in %s", x);
  titles[3] = title;
  SNTK_TRY(app_name_laws(a, points, axis));
  app_table *table = app_table_create((int)(sizeof headers / sizeof *headers), titles);
  bool any = false;
  sntk_status status = SNTK_OK;
  for (size_t i = 0; i < json_array_size(points) && status == SNTK_OK; i++) {
    const json_t *like = json_array_get(points, i);
    if (!app_first_of_law(points, i)) continue;
    for (size_t k = 0; k < count && status == SNTK_OK; k++) {
      app_law law;
      status = app_fit_law(a, points, like, x, &quantities[k], &law);
      if (status != SNTK_OK || !app_law_told(&law)) {
        app_law_clear(&law);
        continue;
      }
      any = true;
      if (a->options.json) {
        status = app_print_record(a, app_fit_point(kind, like, x, &quantities[k], &law));
      } else {
        app_table_cell(table, "%s", quantities[k].name ? quantities[k].name : quantities[k].key);
        app_law_cells(table, &law);
        app_table_number(table, law.fit.factor);
        app_table_number(table, law.fit.r_squared);
        app_table_cell(table, "%s", *app_text(like, "law") ? app_text(like, "law") : app_text(like, "activation"));
      }
      app_law_clear(&law);
    }
  }
  if (any && !a->options.json) {
    printf("\n");
    app_table_print(a, table);
  }
  app_table_free(table);
  if (status == SNTK_OK) status = app_print_differences(a, points, kind, x, quantities, count);
  return status;
}
