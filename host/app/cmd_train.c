/**
 * @file cmd_train.c
 * @brief softntk train: gradient descent at one configuration.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/app.h"
#include "engine/engine.h"

/* ---- run.h5 ---- */

typedef double (*history_column)(const sntk_history_row *row);
static double column_loss(const sntk_history_row *row) { return row->loss; }
static double column_movement(const sntk_history_row *row) { return row->weight_movement; }
static double column_drift(const sntk_history_row *row) { return row->kernel_drift; }
static double column_lambda(const sntk_history_row *row) { return row->lambda_min; }
static double column_bound(const sntk_history_row *row) { return row->loss_bound; }
static double column_linearized(const sntk_history_row *row) { return row->loss_linearized; }
static double column_infinite(const sntk_history_row *row) { return row->loss_infinite; }
static double column_test(const sntk_history_row *row) { return row->test_loss; }

static sntk_status write_history(app *a, sntk_h5 *file, const sntk_train_result *result) {
  static const struct {
    const char *name;
    history_column value;
    bool asked; /* only where some row has it */
  } columns[] = {{"/history/loss", column_loss, false},
                 {"/history/weight_movement", column_movement, false},
                 {"/history/kernel_drift", column_drift, false},
                 {"/history/lambda_min", column_lambda, false},
                 {"/history/loss_bound", column_bound, true},
                 {"/history/loss_linearized", column_linearized, true},
                 {"/history/loss_infinite", column_infinite, true},
                 {"/history/test_loss", column_test, true}};
  const int64_t rows = result->history_rows;
  double *values;
  int64_t *steps;
  SNTK_TRY(sntk_alloc(a->ctx, "history", rows, sizeof *values, (void **)&values));
  sntk_status status = sntk_alloc(a->ctx, "history", rows, sizeof *steps, (void **)&steps);
  for (int64_t r = 0; r < rows && status == SNTK_OK; r++) steps[r] = result->history[r].step;
  if (status == SNTK_OK) status = sntk_h5_write_i64(a->ctx, file, "/history/step", rows, 0, steps);
  for (size_t c = 0; c < sizeof columns / sizeof *columns && status == SNTK_OK; c++) {
    bool any = !columns[c].asked;
    for (int64_t r = 0; r < rows; r++) {
      values[r] = columns[c].value(&result->history[r]);
      any = any || !isnan(values[r]);
    }
    if (any) status = sntk_h5_write_f64(a->ctx, file, columns[c].name, rows, 0, values);
  }
  free(values);
  free(steps);
  return status;
}

/* Columns at a time of a matrix that is written: float32 where its numbers are float32. */
static sntk_status write_columns(app *a, sntk_h5 *file, const char *name, bool narrow, int64_t at, int64_t b,
                                 int64_t dim, double *values) {
  float *to = (float *)(void *)values; /* in place: a float is never behind its double */
  for (int64_t j = 0; j < b * dim && narrow; j++) {
    const float value = (float)values[j];
    memcpy(to + j, &value, sizeof value);
  }
  return sntk_h5_write_columns(a->ctx, file, name, at, b, values);
}

/* /weights (d x m) and /signs (p x m), a range of neurons at a time. In displacement form /weights are sums in float64,
 * for float32 would lose the training, and /displacement is beside them; /base too where the seed does not draw it.
 * From /displacement, and /base as weights, a network has the same F to the bit. */
sntk_status app_write_network(app *a, sntk_h5 *file, sntk_network *net) {
  const sntk_network_options *o = sntk_network_get_options(net);
  const int64_t step = o->width < 4096 ? o->width : 4096;
  const bool parts = sntk_network_form(net) == SNTK_FORM_DISPLACEMENT, base = parts && !sntk_network_base_drawn(net);
  const bool narrow = o->precision == SNTK_F32;
  double *values = NULL;
  int8_t *signs = NULL;
  sntk_status status = sntk_alloc(a->ctx, "weights to write", step * o->dim, sizeof *values, (void **)&values);
  if (status == SNTK_OK)
    status = sntk_alloc(a->ctx, "signs to write", step * o->outputs, sizeof *signs, (void **)&signs);
  if (status == SNTK_OK)
    status = sntk_h5_begin(a->ctx, file, "/weights", narrow && !parts ? 'f' : 'd', o->dim, o->width);
  if (status == SNTK_OK && parts)
    status = sntk_h5_begin(a->ctx, file, "/displacement", narrow ? 'f' : 'd', o->dim, o->width);
  if (status == SNTK_OK && base) status = sntk_h5_begin(a->ctx, file, "/base", narrow ? 'f' : 'd', o->dim, o->width);
  if (status == SNTK_OK) status = sntk_h5_begin(a->ctx, file, "/signs", 'b', o->outputs, o->width);
  for (int64_t at = 0; at < o->width && status == SNTK_OK; at += step) {
    const int64_t b = o->width - at < step ? o->width - at : step;
    status = sntk_network_weights(a->ctx, net, at, b, values);
    if (status == SNTK_OK) status = write_columns(a, file, "/weights", narrow && !parts, at, b, o->dim, values);
    if (status == SNTK_OK && parts) status = sntk_network_parts(a->ctx, net, at, b, NULL, values);
    if (status == SNTK_OK && parts) status = write_columns(a, file, "/displacement", narrow, at, b, o->dim, values);
    if (status == SNTK_OK && base) status = sntk_network_parts(a->ctx, net, at, b, values, NULL);
    if (status == SNTK_OK && base) status = write_columns(a, file, "/base", narrow, at, b, o->dim, values);
    if (status == SNTK_OK) status = sntk_network_signs(a->ctx, net, at, b, signs);
    if (status == SNTK_OK) status = sntk_h5_write_columns(a->ctx, file, "/signs", at, b, signs);
  }
  free(values);
  free(signs);
  return status;
}

/* Twice as much again while the engine copies a range of base or displacement. */
void app_plan_write_network(const sntk_network_options *o, sntk_plan *plan) {
  const int64_t step = o->width < 4096 ? o->width : 4096;
  sntk_plan_brief(plan, sntk_size_mul(step, o->dim), 3 * sizeof(double));
}

static sntk_status write_h5(app *a, const char *path, const app_problem *problem, sntk_network *net,
                            const sntk_train_result *result) {
  sntk_h5 *file;
  SNTK_TRY(sntk_h5_create(a->ctx, path, &file));
  sntk_status status = write_history(a, file, result);
  if (status == SNTK_OK && result->outputs)
    status =
        sntk_h5_write_f64(a->ctx, file, "/output", problem->data->samples, problem->network.outputs, result->outputs);
  if (status == SNTK_OK && result->test_outputs)
    status = sntk_h5_write_f64(a->ctx, file, "/test_output", problem->data->test_samples, problem->network.outputs,
                               result->test_outputs);
  if (status == SNTK_OK && sntk_config_bool(problem->config, "save.weights")) status = app_write_network(a, file, net);
  const sntk_status closed = sntk_h5_close(a->ctx, file, status == SNTK_OK);
  return status != SNTK_OK ? status : closed;
}

/* ---- a point ---- */

/* Keys loss_<which>, distance_<which>, and with held-out samples test_loss_<which>, test_distance_<which>: null where a
 * run that grew without bound has none. */
static void add_prediction(sntk_record *point, const char *which, const sntk_prediction *p, bool tests) {
  const struct {
    const char *name;
    double value;
  } members[] = {
      {"loss", p->loss}, {"distance", p->distance}, {"test_loss", p->test_loss}, {"test_distance", p->test_distance}};
  const size_t count = sizeof members / sizeof *members;
  for (size_t i = 0; i < (tests ? count : count / 2); i++) {
    char key[48];
    snprintf(key, sizeof key, "%s_%s", members[i].name, which);
    sntk_record_real(point, key, members[i].value);
  }
}

static void add_result(const app *a, sntk_record *point, const app_problem *problem, const sntk_train_result *r) {
  sntk_record_text(point, "form", r->form == SNTK_FORM_PLAIN ? "plain" : "displacement");
  sntk_record_int(point, "steps", r->steps);
  sntk_record_bool(point, "converged", r->converged);
  sntk_record_real(point, "loss", r->loss);
  sntk_record_real(point, "loss_initial", r->loss_initial);
  sntk_record_real(point, "eta", r->eta);
  if (isfinite(r->jj_lambda_max)) sntk_record_real(point, "jj_lambda_max", r->jj_lambda_max);
  if (isfinite(r->lambda_min)) {
    sntk_record_real(point, "lambda_min", r->lambda_min);
    sntk_record_real(point, "lambda_max", r->lambda_max);
    app_point_dense(point, r->lambda_min, app_dense_error(a, problem, problem->network.width, r->lambda_max));
    const double q = sntk_kernel_scale(problem->network.activation, problem->network.scale, problem->network.width);
    sntk_record_real(point, "eta_q_lambda", r->eta * q * r->lambda_min);
  }
  if (isfinite(r->kernel_drift)) {
    sntk_record_real(point, "lambda_min_final", r->lambda_min_final);
    sntk_record_real(point, "kernel_drift", r->kernel_drift);
  }
  if (isfinite(r->lambda_min)) {
    sntk_record_bool(point, "rate_kept", r->rate_kept);
    sntk_record_bool(point, "rate_kept_paper", r->rate_kept_paper);
  }
  const bool tests = problem->data->test_samples > 0;
  if (tests) {
    sntk_record_int(point, "test_samples", problem->data->test_samples);
    sntk_record_real(point, "test_loss", r->test_loss);
  }
  if (problem->train.linearized) add_prediction(point, "linearized", &r->linearized, tests);
  if (problem->train.linearized && !problem->network.weights) add_prediction(point, "infinite", &r->infinite, tests);
  sntk_record_real(point, "weight_movement", r->weight_movement);
  sntk_record_real(point, "update_lost", r->update_lost);
  sntk_record_bool(point, "updates_below_resolution", r->below_resolution);
  sntk_record_int(point, "base_moves", r->base_moves);
  sntk_record_real(point, "setup_seconds", r->setup_seconds);
  sntk_record_real(point, "train_seconds", r->seconds);
}

static int64_t train_bytes(app *a, const app_problem *problem) {
  sntk_plan plan = {0};
  sntk_plan_network(a->ctx, &problem->network, &plan);
  sntk_plan_train(a->ctx, &problem->network, problem->data->samples, &problem->train, &plan);
  if (sntk_config_bool(problem->config, "save.weights")) app_plan_write_network(&problem->network, &plan);
  return sntk_plan_bytes(&plan);
}

sntk_status app_train_point(app *a, const sntk_config *config, const char *id, const char *h5, sntk_record **point,
                            sntk_status *failure) {
  app_problem problem;
  sntk_network *net = NULL;
  sntk_train_result result = {0};
  *point = NULL;
  *failure = SNTK_OK;
  SNTK_TRY(app_problem_create(a, config, true, &problem));
  sntk_status status = app_check_memory(a, &problem, problem.weights.values ? "network.weights" : "network.width",
                                        train_bytes(a, &problem));
  if (status == SNTK_OK) status = sntk_network_create(a->ctx, &problem.network, &net);
  if (status == SNTK_OK) {
    status = sntk_train(a->ctx, net, problem.data->inputs, problem.data->targets, problem.data->samples, &problem.train,
                        &result);
    const bool failed = app_point_failure(status);
    if (status == SNTK_OK || failed) {
      *point = app_point(a, &problem, "train", id);
      add_result(a, *point, &problem, &result);
      if (failed) app_point_fail(a, *point);
    }
    char kept[SNTK_ERROR_CHARS];
    snprintf(kept, sizeof kept, "%s", sntk_context_error(a->ctx));
    if (h5 && (status == SNTK_OK || failed || status == SNTK_ERR_INTERRUPTED)) {
      const sntk_status written = write_h5(a, h5, &problem, net, &result);
      app_result(a, h5, written);
      if (status != SNTK_OK) sntk_fail(a->ctx, status, "%s", kept); /* writing may have left a text of its own */
    }
    if (failed && app_point_failure(status)) {
      *failure = status;
      status = SNTK_OK;
    }
  }
  if (status != SNTK_OK) {
    sntk_record_free(*point);
    *point = NULL;
  }
  sntk_train_result_clear(&result);
  sntk_network_free(net);
  app_problem_clear(&problem);
  return status;
}

sntk_status app_train_cost(app *a, const sntk_config *config, int64_t *bytes, double *seconds) {
  app_problem problem;
  app_estimate estimate;
  SNTK_TRY(app_problem_create(a, config, true, &problem));
  const int64_t more = train_bytes(a, &problem);
  *bytes = app_memory(a, more);
  sntk_status status =
      app_check_memory(a, &problem, problem.weights.values ? "network.weights" : "network.width", more);
  if (status == SNTK_OK) status = app_measure(a, &problem, problem.network.width, &estimate);
  const int64_t every = problem.train.kernel_every;
  double eigen = 0.0;
  if (status == SNTK_OK && (every > 0 || problem.train.linearized || problem.train.eta_rule == SNTK_ETA_THEORY))
    status = app_measure_eigenvalues(a, problem.data->samples * problem.network.outputs, &eigen);
  if (status == SNTK_OK) {
    const double held_out = (double)problem.data->test_samples / (double)problem.data->samples;
    const double kernels = (every > 0     ? 2.0 + (double)(problem.train.steps / every)
                            : eigen > 0.0 ? 1.0
                                          : 0.0) +
                           (problem.train.linearized ? pow(1.0 + held_out, 2.0) : 0.0);
    *seconds = estimate.step_seconds * (double)problem.train.steps + estimate.eta_seconds +
               (estimate.gram64_seconds + eigen) * kernels;
  }
  app_problem_clear(&problem);
  return status;
}

static const char *const shown_axes[] = {"network.activation", "network.width",   "data.samples",
                                         "data.dim",           "network.outputs", "seed"};

void app_train_table(app *a) {
  static const char *const headers[] = {"activation", "width", "n",   "d",     "p",     "seed",    "steps",
                                        "converged",  "loss",  "eta", "moved", "drift", "seconds", "other axes"};
  json_t *points = app_points(a, "train"), *point;
  const size_t shown = sizeof shown_axes / sizeof *shown_axes;
  const bool more = app_more_axes(points, shown_axes, shown);
  app_table *table = app_table_create((int)(sizeof headers / sizeof *headers) - !more, headers);
  size_t index;
  json_array_foreach(points, index, point) {
    app_table_cell(table, "%s", app_text(point, "activation"));
    app_table_cell(table, "%lld", (long long)app_int(point, "width"));
    app_table_cell(table, "%lld", (long long)app_int(point, "samples"));
    app_table_cell(table, "%lld", (long long)app_int(point, "dim"));
    app_table_cell(table, "%lld", (long long)app_int(point, "outputs"));
    app_table_cell(table, "%lld", (long long)app_int(point, "seed"));
    app_table_cell(table, "%lld", (long long)app_int(point, "steps"));
    app_table_cell(table, "%s",
                   strcmp(app_text(point, "status"), "failed") == 0    ? "failed"
                   : json_is_true(json_object_get(point, "converged")) ? "yes"
                                                                       : "no");
    app_table_number(table, app_real(point, "loss"));
    app_table_number(table, app_real(point, "eta"));
    app_table_number(table, app_real(point, "weight_movement"));
    app_table_number(table, app_real(point, "kernel_drift"));
    app_table_number(table, app_real(point, "train_seconds"));
    if (more) app_axes_cell(table, point, shown_axes, shown);
  }
  app_table_print(a, table);
  app_table_free(table);
  json_array_foreach(points, index, point) {
    if (strcmp(app_text(point, "status"), "failed") == 0)
      app_line(stdout, "failed: %s, width %lld: %s", app_text(point, "activation"), (long long)app_int(point, "width"),
               app_text(point, "error"));
    if (strcmp(app_text(point, "status"), "failed") == 0 ||
        !json_is_true(json_object_get(point, "updates_below_resolution")))
      continue;
    const bool coarse =
        strcmp(app_text(point, "form"), "plain") == 0 && strcmp(app_text(point, "computed_in"), "f32") == 0;
    app_line(
        stdout,
        "note: %s, width %lld: updates fell below the resolution of the weights (a share of %.2g of one was lost); %s",
        app_text(point, "activation"), (long long)app_int(point, "width"), app_real(point, "update_lost"),
        coarse ? "use network.form displacement or precision f64"
               : "they had all but vanished: the run stood still, or ran far past its tolerance");
  }
  json_decref(points);
}

static sntk_status run(app *a) { return app_single(a, "train", app_train_point, app_train_cost, app_train_table); }

const app_command app_cmd_train = {"train", "Train one network by gradient descent.", true, run};
