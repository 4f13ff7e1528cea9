/**
 * @file cmd_width.c
 * @brief softntk width: how wide must the network be? The width-scaling benchmark.
 *
 * At every point of the grid (activation, samples, dim, outputs, sigma, seed, ...) two searches over the width: the
 * smallest that trains to the tolerance within the step budget, and the smallest that keeps lambda_min(H(T)) >=
 * lambda_ratio lambda. Every width tried is recorded as a point of kind width_trial and never run again; a finished
 * search as a point of kind width. Then power laws in n.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/app.h"
#include "engine/engine.h"

/* One search under way. */
typedef struct search {
  app *a;
  const app_problem *problem;
  const char *id; /* of the grid point */
  double ratio;
  bool kernel;    /* which of the two questions */
  int64_t trials; /* widths looked at, recorded ones included */
} search;

/* ---- trials ---- */

static sntk_record *trial_point(app *a, const app_problem *problem, const char *id, const sntk_width_trial *t) {
  app_problem at_width = *problem;
  at_width.network.width = t->width;
  sntk_record *point = app_point(a, &at_width, "width_trial", id);
  sntk_record_text(point, "form", t->form == SNTK_FORM_PLAIN ? "plain" : "displacement");
  sntk_record_int(point, "steps", t->steps);
  sntk_record_bool(point, "converged", t->converged);
  sntk_record_bool(point, "kernel_kept", t->kernel_kept);
  sntk_record_real(point, "loss", t->loss);
  sntk_record_real(point, "eta", t->eta);
  sntk_record_real(point, "eta_q_lambda", t->eta_q_lambda);
  sntk_record_real(point, "lambda_min", t->lambda);
  sntk_record_real(point, "lambda_max", t->lambda_max);
  app_point_dense(point, t->lambda, app_dense_error(a, problem, t->width, t->lambda_max));
  sntk_record_real(point, "lambda_min_final", t->lambda_final);
  sntk_record_real(point, "weight_movement", t->weight_movement);
  sntk_record_real(point, "kernel_drift", t->kernel_drift);
  sntk_record_bool(point, "updates_below_resolution", t->below_resolution);
  sntk_record_real(point, "trial_seconds", t->seconds);
  if (t->status != SNTK_OK) app_point_fail(a, point);
  return point;
}

static int64_t trial_bytes(app *a, const app_problem *problem, int64_t width) {
  sntk_network_options network = problem->network;
  sntk_train_options train = problem->train;
  sntk_plan plan = {0};
  network.width = width;
  train.kernel_every = INT64_MAX; /* as sntk_width_try sets them */
  train.record_every = 0;
  sntk_plan_network(a->ctx, &network, &plan);
  sntk_plan_train(a->ctx, &network, problem->data->samples, &train, &plan);
  return sntk_plan_bytes(&plan);
}

/* The recorded trial at a width, run first where it is not recorded yet. New reference. */
static sntk_status trial_named(search *s, const char *id, int64_t width, json_t **point) {
  app *a = s->a;
  const app_problem *problem = s->problem;
  *point = NULL;
  s->trials++;
  const char *recorded = sntk_run_find(a->run, "width_trial", id);
  if (recorded) return app_recorded(a, recorded, point);
  app_problem at_width = *problem;
  at_width.network.width = width;
  SNTK_TRY(app_check_memory(a, &at_width, "width.max_width", trial_bytes(a, problem, width)));
  sntk_width_trial t;
  SNTK_TRY(sntk_width_try(a->ctx, &problem->network, width, problem->data->inputs, problem->data->targets,
                          problem->data->samples, &problem->train, s->ratio, &t));
  sntk_record *made = trial_point(a, problem, id, &t);
  app_progress_end(a); /* the line must not mix with a record on standard output */
  const sntk_status status = app_record(a, made);
  app_progress_begin(a);
  if (status == SNTK_OK) *point = json_incref(sntk_record_members(made));
  sntk_record_free(made);
  return status;
}

static sntk_status trial_at(search *s, int64_t width, json_t **point) {
  const size_t size = strlen(s->id) + 32;
  char *id = malloc(size);
  *point = NULL;
  if (!id) return sntk_fail(s->a->ctx, SNTK_ERR_MEMORY, "no memory for a trial's name");
  snprintf(id, size, "%s,width=%lld", s->id, (long long)width);
  const sntk_status status = trial_named(s, id, width, point);
  free(id);
  return status;
}

static sntk_status test_width(void *user, int64_t width, bool *suffices) {
  search *s = user;
  json_t *point;
  SNTK_TRY(trial_at(s, width, &point));
  *suffices = json_is_true(json_object_get(point, s->kernel ? "kernel_kept" : "converged"));
  json_decref(point);
  return SNTK_OK;
}

/* ---- a grid point ---- */

/* A width that was found, or null and what it is known to be more than; "at most" where the first one tried sufficed
 * and narrower ones were not. */
static void set_width(sntk_record *point, const char *key, const sntk_width_options *o, int64_t width) {
  char bound[64];
  if (width > 0) {
    sntk_record_int(point, key, width);
  } else {
    sntk_record_null(point, key);
    snprintf(bound, sizeof bound, "%s_above", key);
    sntk_record_int(point, bound, o->max_width / o->multiple * o->multiple);
  }
  if (width != o->min_width || width == o->multiple) return;
  snprintf(bound, sizeof bound, "%s_at_most", key);
  sntk_record_int(point, bound, width);
}

/* Copies members of a trial under new names. */
static void copy_members(sntk_record *to, const json_t *trial, const char *const (*names)[2], size_t count) {
  for (size_t i = 0; i < count; i++) {
    json_t *value = json_object_get(trial, names[i][0]);
    sntk_record_json(to, names[i][1], value ? json_copy(value) : json_null());
  }
}

static sntk_width_options search_options(const app_problem *problem) {
  const sntk_config *config = problem->config;
  return (sntk_width_options){.min_width = sntk_config_int(config, "width.min_width"),
                              .max_width = sntk_config_int(config, "width.max_width"),
                              .resolution = sntk_config_real(config, "width.resolution"),
                              .multiple = problem->network.init == SNTK_INIT_SYMMETRIC ? 2 : 1};
}

static sntk_status search_point(app *a, const app_problem *problem, const char *id) {
  const sntk_config *config = problem->config;
  const sntk_width_options options = search_options(problem);
  search s = {.a = a, .problem = problem, .id = id, .ratio = sntk_config_real(config, "width.lambda_ratio")};
  int64_t width_loss, width_kernel;
  SNTK_TRY(sntk_width_search(a->ctx, &options, test_width, &s, &width_loss));
  s.kernel = true;
  SNTK_TRY(sntk_width_search(a->ctx, &options, test_width, &s, &width_kernel));
  sntk_record *point = app_point(a, problem, "width", id);
  set_width(point, "width_loss", &options, width_loss);
  set_width(point, "width_kernel", &options, width_kernel);
  sntk_record_real(point, "lambda_ratio", s.ratio);
  sntk_record_real(point, "theory_c", problem->train.theory_c);
  sntk_record_real(point, "theory_delta", problem->train.theory_delta);
  /* At the smallest width itself T is near the budget by construction; a few times wider it says how long training
   * takes. Where no width trains, the widest one tried still says what lambda is. */
  const int64_t top = options.max_width / options.multiple * options.multiple;
  int64_t width_steps = width_loss > 0 ? sntk_size_mul(width_loss, sntk_config_int(config, "width.steps_factor")) : top;
  if (width_steps < 0 || width_steps > top) width_steps = top;
  static const char *const at_loss[][2] = {{"steps", "steps_at_width_loss"}};
  static const char *const at_steps[][2] = {{"form", "form"},
                                            {"steps", "steps"},
                                            {"eta_q_lambda", "eta_q_lambda"},
                                            {"lambda_min", "lambda_min"},
                                            {"lambda_max", "lambda_max"}};
  json_t *trial = NULL;
  sntk_status status = SNTK_OK;
  if (width_loss > 0) {
    status = trial_at(&s, width_loss, &trial);
    if (status == SNTK_OK) copy_members(point, trial, at_loss, sizeof at_loss / sizeof *at_loss);
    json_decref(trial);
    trial = NULL;
  }
  if (status == SNTK_OK) status = trial_at(&s, width_steps, &trial);
  if (status == SNTK_OK) {
    sntk_record_int(point, "width_steps", width_steps);
    copy_members(point, trial, at_steps, sizeof at_steps / sizeof *at_steps);
    if (!json_is_true(json_object_get(trial, "converged"))) {
      sntk_record_null(point, "steps");
      sntk_record_int(point, "steps_above", problem->train.steps); /* of a run that diverged too: it has no T */
    }
  }
  json_decref(trial);
  sntk_record_int(point, "trials", s.trials);
  if (status == SNTK_OK) status = app_record(a, point);
  sntk_record_free(point);
  return status;
}

static sntk_status check_range(app *a, const app_problem *problem) {
  const sntk_config *c = problem->config;
  const int64_t low = sntk_config_int(c, "width.min_width"), high = sntk_config_int(c, "width.max_width");
  if (problem->network.init == SNTK_INIT_SYMMETRIC && low % 2)
    return sntk_config_error(
        a->ctx, c, "width.min_width", SNTK_ERR_CONFIG,
        "%lld is odd, and symmetric initialization pairs neurons; use an even width or network.init iid",
        (long long)low);
  if (high < low)
    return sntk_config_error(a->ctx, c, "width.max_width", SNTK_ERR_CONFIG,
                             "%lld is below width.min_width, %lld; give a range", (long long)high, (long long)low);
  if (sntk_config_has(c, "network.displacement"))
    return sntk_config_error(a->ctx, c, "network.displacement", SNTK_ERR_CONFIG,
                             "a search over widths starts each at its own W0; remove the key");
  if (problem->network.weights || sntk_config_has(c, "network.signs"))
    return sntk_config_error(a->ctx, c, problem->network.weights ? "network.weights" : "network.signs", SNTK_ERR_CONFIG,
                             "a search over widths draws its own; remove the key");
  return SNTK_OK;
}

static sntk_status grid_point(app *a, int64_t index) {
  SNTK_TRY(sntk_check_interrupt(a->ctx));
  char *id = sntk_config_grid_id(a->config, index);
  if (!id) return sntk_fail(a->ctx, SNTK_ERR_MEMORY, "no memory for a point's name");
  sntk_config *config = NULL;
  app_problem problem = {0};
  sntk_status status = SNTK_OK;
  if (!sntk_run_find(a->run, "width", id)) {
    status = sntk_config_grid_point(a->ctx, a->config, index, &config);
    if (status == SNTK_OK) status = app_problem_create(a, config, false, &problem);
    if (status == SNTK_OK) status = check_range(a, &problem);
    if (status == SNTK_OK) status = search_point(a, &problem, id);
    app_problem_clear(&problem);
    sntk_config_free(config);
  }
  free(id);
  return status;
}

/* ---- tables and fits ---- */

/* Axes that have columns of their own. */
static const char *const shown_axes[] = {"network.activation", "data.samples", "data.dim", "network.outputs",
                                         "network.sigma",      "seed",         "data.seed"};

enum { SHOWN_AXES = sizeof shown_axes / sizeof *shown_axes };

static const app_quantity width_loss = {"width_loss", "m* loss", "width_loss_above", "width_loss_at_most"};
static const app_quantity width_kernel = {"width_kernel", "m* kernel", "width_kernel_above", "width_kernel_at_most"};
static const app_quantity steps = {"steps", "T", "steps_above", NULL};
static const app_quantity lambda = {.key = "lambda_min", .name = "lambda"};

static void print_points(app *a, const json_t *points) {
  static const char *const headers[] = {"activation",   "n",         "d",       "p",
                                        "sigma",        "seeds",     "m* loss", "m* kernel",
                                        "T at m* loss", "wider m",   "T there", "eta q lambda",
                                        "lambda",       "other axes"};
  const app_quantity shown[] = {
      width_loss, width_kernel, {.key = "steps_at_width_loss"}, {.key = "width_steps"}, steps, {.key = "eta_q_lambda"},
      lambda};
  const bool more = app_more_axes(points, shown_axes, SHOWN_AXES);
  app_table *table = app_table_create((int)(sizeof headers / sizeof *headers) - !more, headers);
  for (size_t i = 0; i < json_array_size(points); i++) {
    const json_t *point = json_array_get(points, i);
    bool first;
    const int64_t seeds = app_law_draws(points, i, "samples", &first);
    if (!first) continue;
    app_table_cell(table, "%s", app_text(point, "activation"));
    app_table_cell(table, "%lld", (long long)app_int(point, "samples"));
    app_table_cell(table, "%lld", (long long)app_int(point, "dim"));
    app_table_cell(table, "%lld", (long long)app_int(point, "outputs"));
    app_table_number(table, app_real(point, "sigma"));
    app_table_cell(table, "%lld", (long long)seeds);
    for (size_t k = 0; k < sizeof shown / sizeof *shown; k++)
      app_median_cell(table, points, point, "samples", &shown[k]);
    if (more) app_axes_cell(table, point, shown_axes, SHOWN_AXES);
  }
  printf(
      "medians over the seeds; >: more than the widest m or the budget of steps\n"
      "m* kernel: the narrowest network that keeps its share of its own lambda_min(H(0)), which must not be 0 first: "
      "a matter of rank,\nm d / 2 >= n p (independent neurons: m d; min(n, d) for d)\n\n");
  app_table_print(a, table);
  app_table_free(table);
}

/* The papers' upper bounds: lambda^-2 n^2 up to logarithms, times exp(weight B) for softmax and exp, which their n^o(1)
 * hides; B = max(C sigma sqrt(log(np / delta)), 1). */
typedef struct theory {
  double weight;            /* of B; 0: no such factor */
  double polynomial, whole; /* exponents in n; NaN without lambda's */
  double c, delta;          /* the constants of B */
} theory;

static double theory_b(const json_t *like, const theory *t, double samples) {
  return fmax(t->c * app_real(like, "sigma") * sqrt(log(samples * app_real(like, "outputs") / t->delta)), 1.0);
}

/* With lambda's exponent as measured, and exp(weight B)'s over the samples that were measured. */
static theory theory_of(const json_t *like, double weight, const app_law *of_lambda) {
  const bool relu = strcmp(app_text(like, "activation"), "relu") == 0;
  theory t = {.weight = relu ? 0.0 : weight, .c = app_real(like, "theory_c"), .delta = app_real(like, "theory_delta")};
  const double low = of_lambda->low, high = of_lambda->high;
  t.polynomial = of_lambda->determined ? 2.0 - 2.0 * of_lambda->fit.exponent : NAN;
  t.whole = t.polynomial;
  if (t.weight > 0.0) t.whole += t.weight * (theory_b(like, &t, high) - theory_b(like, &t, low)) / log(high / low);
  return t;
}

static void theory_cells(app_table *table, const theory *t) {
  if (!isfinite(t->polynomial)) {
    app_table_cell(table, "-");
    app_table_cell(table, "-");
    return;
  }
  app_table_cell(table, "<= 2 - 2(%.2f) = %.2f", 1.0 - 0.5 * t->polynomial, t->polynomial);
  if (t->weight > 0.0)
    app_table_cell(table, "<= %.2f, exp(%.0f B), C = %g", t->whole, t->weight, t->c);
  else
    app_table_cell(table, "<= %.2f", t->whole);
}

static sntk_status tell_fit(app *a, app_table *table, const json_t *like, const app_quantity *q, const app_law *law,
                            const theory *t) {
  if (a->options.json) {
    sntk_record *record = app_fit_point("width_fit", like, "samples", q, law);
    if (t) {
      sntk_record_real(record, "theory_exponent", t->polynomial);
      sntk_record_real(record, "theory_exponent_whole", t->whole);
      sntk_record_real(record, "theory_c", t->c);
      sntk_record_real(record, "theory_delta", t->delta);
    }
    return app_print_record(a, record);
  }
  app_table_cell(table, "%s", app_text(like, "activation"));
  app_table_cell(table, "%lld", (long long)app_int(like, "dim"));
  app_table_cell(table, "%lld", (long long)app_int(like, "outputs"));
  app_table_number(table, app_real(like, "sigma"));
  app_table_cell(table, "%s", q->name);
  app_law_cells(table, law);
  app_table_number(table, law->fit.r_squared);
  if (t) {
    theory_cells(table, t);
  } else {
    app_table_cell(table, "%s", "");
    app_table_cell(table, "%s", "");
  }
  return SNTK_OK;
}

static sntk_status print_fits(app *a, const json_t *points) {
  static const char *const headers[] = {"activation",
                                        "d",
                                        "p",
                                        "sigma",
                                        "quantity",
                                        "points",
                                        "seeds",
                                        "exponent in n",
                                        "95% interval",
                                        "R^2",
                                        "theory, polynomial",
                                        "theory, whole",
                                        "other axes"};
  const app_quantity quantities[] = {width_loss, width_kernel, steps, lambda};
  static const double weights[] = {18.0, 18.0, 16.0, 0.0}; /* of B in the bounds on m and T */
  enum { QUANTITIES = sizeof quantities / sizeof *quantities, LAMBDA = QUANTITIES - 1 };
  const bool more = app_more_axes(points, shown_axes, SHOWN_AXES);
  app_table *table = app_table_create((int)(sizeof headers / sizeof *headers) - !more, headers);
  bool any = false;
  sntk_status status = SNTK_OK;
  for (size_t i = 0; i < json_array_size(points) && status == SNTK_OK; i++) {
    const json_t *like = json_array_get(points, i);
    if (!app_first_of_law(points, i)) continue;
    app_law of_lambda, law;
    status = app_fit_law(a, points, like, "samples", &lambda, &of_lambda);
    for (int k = 0; k < QUANTITIES && status == SNTK_OK; k++) {
      status = app_fit_law(a, points, like, "samples", &quantities[k], &law);
      if (status == SNTK_OK && app_law_told(&law)) {
        const theory t = theory_of(like, weights[k], &of_lambda);
        any = true;
        status = tell_fit(a, table, like, &quantities[k], &law, k == LAMBDA ? NULL : &t);
        if (more && !a->options.json) app_axes_cell(table, like, shown_axes, SHOWN_AXES);
      }
      app_law_clear(&law);
    }
    app_law_clear(&of_lambda);
  }
  if (any && !a->options.json) {
    printf("\n");
    app_table_print(a, table);
    printf(
        "theory: upper bounds on m* and T. polynomial: lambda^-2 n^2, with lambda as measured; whole: times exp(18 B) "
        "or "
        "exp(16 B) over the n measured,\nB = max(C sigma sqrt(log(np / delta)), 1) with C = train.theory_c, which the "
        "papers leave open, and delta = train.theory_delta; logarithms left out\n");
  }
  app_table_free(table);
  if (status == SNTK_OK) status = app_print_differences(a, points, "width_fit", "samples", quantities, QUANTITIES);
  return status;
}

/* ---- the command ---- */

static sntk_status check_grid(app *a) {
  for (int64_t axis = 0; axis < sntk_config_grid_axes(a->config); axis++) {
    int64_t values;
    if (strcmp(sntk_config_grid_axis(a->config, axis, &values), "network.width") == 0)
      return sntk_fail(a->ctx, SNTK_ERR_CONFIG,
                       "%s: grid.network.width: the width is what is searched for; use width.min_width and "
                       "width.max_width, or softntk sweep",
                       sntk_config_origin(a->config, "network.width"));
  }
  return SNTK_OK;
}

/* A search for the dry run: how wide it goes decides its memory, and most end far below width.max_width. It is made, as
 * long as the work stays within what a short measurement may take: counted in operations, for a figure that does not
 * change from call to call. */
typedef struct probe {
  app *a;
  const app_problem *problem;
  bool kernel;
  double left;    /* operations */
  int64_t widest; /* tried */
} probe;

static sntk_status probe_width(void *user, int64_t width, bool *suffices) {
  probe *q = user;
  const sntk_data *data = q->problem->data;
  const double n = (double)data->samples, p = (double)data->outputs, m = (double)width;
  const double step = 6.0 * n * m * ((double)data->dim + p), eta = 90.0 * step;
  q->left -= eta + 4.0 * n * p * n * p * (m + 4.0 * n * p);
  *suffices = true; /* where nothing is left, nothing wider is tried */
  if (q->left < step) {
    q->left = -1.0;
    return SNTK_OK;
  }
  sntk_train_options train = q->problem->train;
  const bool cut = (double)train.steps * step > q->left;
  if (cut) train.steps = (int64_t)(q->left / step);
  sntk_width_trial t;
  SNTK_TRY(sntk_width_try(q->a->ctx, &q->problem->network, width, data->inputs, data->targets, data->samples, &train,
                          sntk_config_real(q->problem->config, "width.lambda_ratio"), &t));
  q->left = cut && !t.converged ? -1.0 : q->left - (double)t.steps * step;
  if (width > q->widest) q->widest = width;
  *suffices = q->left < 0.0 || (q->kernel ? t.kernel_kept : t.converged);
  return SNTK_OK;
}

/* The widest network that the point's searches come to, or their end where that takes longer to know. */
static sntk_status expected_width(app *a, const app_problem *problem, int64_t *width) {
  const sntk_width_options options = search_options(problem);
  const bool slow = strcmp(sntk_context_backend(a->ctx), "ref") == 0 || sntk_context_emulated(a->ctx);
  probe q = {.a = a, .problem = problem, .left = slow ? 1e8 : 4e9};
  int64_t loss = 0, kernel;
  SNTK_TRY(sntk_width_search(a->ctx, &options, probe_width, &q, &loss));
  q.kernel = true;
  if (q.left >= 0.0) SNTK_TRY(sntk_width_search(a->ctx, &options, probe_width, &q, &kernel));
  const int64_t after = sntk_size_mul(loss, sntk_config_int(problem->config, "width.steps_factor"));
  *width = q.left < 0.0 || loss == 0 || after < 0 ? options.max_width : after > q.widest ? after : q.widest;
  if (*width > options.max_width) *width = options.max_width;
  return SNTK_OK;
}

static sntk_status dry_run(app *a, int64_t count) {
  double total = 0.0;
  int64_t most = 0, owned = 0;
  for (int64_t i = 0; i < count; i++) {
    if (!sntk_shard_owns(a->options.shard, i)) continue;
    sntk_config *config;
    app_problem problem;
    app_estimate estimate;
    SNTK_TRY(sntk_check_interrupt(a->ctx));
    SNTK_TRY(sntk_config_grid_point(a->ctx, a->config, i, &config));
    sntk_status status = app_problem_create(a, config, false, &problem);
    if (status == SNTK_OK) {
      const int64_t top = sntk_config_int(config, "width.max_width");
      status = check_range(a, &problem);
      problem.network.width = top;
      const int64_t more = trial_bytes(a, &problem, top), at_top = app_memory(a, more);
      int64_t widest = top;
      if (status == SNTK_OK) status = app_check_memory(a, &problem, "width.max_width", more);
      if (status == SNTK_OK) status = expected_width(a, &problem, &widest);
      const int64_t less = at_top - (more - trial_bytes(a, &problem, widest));
      const int64_t bytes = less > a->loading ? less : a->loading;
      if (status == SNTK_OK) status = app_measure(a, &problem, top, &estimate);
      /* doubling up to the top costs twice the top; bisection below it no more than a few of the same */
      double eigen = 0.0;
      if (status == SNTK_OK)
        status = app_measure_eigenvalues(a, problem.data->samples * problem.network.outputs, &eigen);
      if (status == SNTK_OK)
        total += 2.0 * (estimate.step_seconds * (double)problem.train.steps + estimate.eta_seconds +
                        2.0 * (estimate.gram64_seconds + eigen));
      if (bytes > most) most = bytes;
      owned++;
      app_problem_clear(&problem);
    }
    sntk_config_free(config);
    SNTK_TRY(status);
  }
  return app_print_dry_run(a, owned, most, total,
                           "if no width below width.max_width sufficed and every trial used its whole budget of steps; "
                           "memory of the widths that short trials need, or of width.max_width");
}

static sntk_status run(app *a) {
  const int64_t count = sntk_config_grid_count(a->config);
  if (count < 0) return sntk_fail(a->ctx, SNTK_ERR_CONFIG, "grid: the number of points does not fit 63 bits");
  SNTK_TRY(check_grid(a));
  SNTK_TRY(app_refuse_save(a));
  SNTK_TRY(app_open_backend(a));
  if (a->options.dry_run) return dry_run(a, count);
  SNTK_TRY(app_run_open(a));
  a->point_count = count;
  sntk_status status = SNTK_OK;
  for (int64_t i = 0; i < count && status == SNTK_OK; i++) {
    if (!sntk_shard_owns(a->options.shard, i)) continue;
    a->point_index = i;
    status = grid_point(a, i);
  }
  app_run_gather(a);
  json_t *points = app_points(a, "width");
  sntk_status told = app_name_laws(a, points, "data.samples");
  if (told == SNTK_OK && !a->options.quiet && json_array_size(points) > 0) {
    if (!a->options.json) print_points(a, points);
    told = print_fits(a, points);
  }
  json_decref(points);
  SNTK_TRY(app_run_close(a, status));
  return told;
}

const app_command app_cmd_width = {
    "width", "Smallest sufficient width at every point of the grid, and its power law in n.", true, run};
