/**
 * @file cmd_ntk.c
 * @brief softntk ntk: the Gram matrix of the neural tangent kernel, its spectrum, and its infinite-width limit.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/app.h"

/* What one point computes; NULL where it does not. */
typedef struct kernels {
  int64_t size, block;          /* np, n */
  double *gram;                 /* np x np */
  double *eigenvalues;          /* np */
  double *infinite;             /* n x n, one output's block */
  double *infinite_eigenvalues; /* n */
} kernels;

static void kernels_clear(kernels *k) {
  free(k->gram);
  free(k->eigenvalues);
  free(k->infinite);
  free(k->infinite_eigenvalues);
}

static bool finite_width(const sntk_config *config) {
  return sntk_config_has(config, "network.width") || sntk_config_has(config, "network.weights");
}

static int64_t kernel_bytes(app *a, const app_problem *problem) {
  const int64_t n = problem->data->samples, size = sntk_size_mul(n, problem->network.outputs);
  int64_t bytes = sntk_size_mul(sntk_size_mul(n, n), 16);
  if (problem->network.width == 0) return bytes;
  bytes = sntk_size_add(bytes, sntk_size_mul(sntk_size_mul(size, size), 2 * (int64_t)sizeof(double)));
  bytes = sntk_size_add(bytes, sntk_network_bytes(a->ctx, &problem->network));
  return sntk_size_add(bytes, sntk_ntk_bytes(a->ctx, &problem->network, n));
}

/* Without weights to be loaded or saved nothing of size width is held. */
static void stream_if_possible(app_problem *problem) {
  problem->network.streamed =
      problem->network.form != SNTK_FORM_DISPLACEMENT && !problem->network.weights && !problem->network.signs;
}

static const char *memory_key(const app_problem *problem) {
  return problem->weights.values ? "network.weights" : problem->network.width > 0 ? "network.width" : "data.source";
}

static sntk_status compute(app *a, const app_problem *problem, sntk_network *net, kernels *k) {
  const sntk_config *config = problem->config;
  const int64_t n = problem->data->samples;
  k->block = n;
  k->size = sntk_size_mul(n, problem->network.outputs);
  const bool eigenvalues = sntk_config_bool(config, "ntk.eigenvalues");
  if (net) {
    SNTK_TRY(sntk_alloc(a->ctx, "Gram matrix", sntk_size_mul(k->size, k->size), sizeof *k->gram, (void **)&k->gram));
    SNTK_TRY(sntk_ntk_gram(a->ctx, net, problem->data->inputs, n, k->gram));
    if (eigenvalues) {
      SNTK_TRY(sntk_alloc(a->ctx, "eigenvalues", k->size, sizeof *k->eigenvalues, (void **)&k->eigenvalues));
      SNTK_TRY(sntk_eigenvalues(a->ctx, k->gram, k->size, k->eigenvalues));
    }
  }
  /* the limit belongs to Gaussian weights */
  if (problem->network.weights || !(sntk_config_bool(config, "ntk.infinite") || !net)) return SNTK_OK;
  SNTK_TRY(
      sntk_alloc(a->ctx, "infinite-width kernel", sntk_size_mul(n, n), sizeof *k->infinite, (void **)&k->infinite));
  SNTK_TRY(sntk_ntk_infinite(a->ctx, problem->network.activation, problem->network.sigma, problem->data->inputs, n,
                             problem->network.dim, k->infinite));
  if (eigenvalues) {
    SNTK_TRY(sntk_alloc(a->ctx, "eigenvalues", n, sizeof *k->infinite_eigenvalues, (void **)&k->infinite_eigenvalues));
    SNTK_TRY(sntk_eigenvalues(a->ctx, k->infinite, n, k->infinite_eigenvalues));
  }
  return SNTK_OK;
}

/* |H - H_inf|_F / |H_inf|_F with H_inf block diagonal over the outputs. */
static double distance_to_infinite(const kernels *k) {
  double difference = 0.0, norm = 0.0;
  for (int64_t i = 0; i < k->size; i++)
    for (int64_t j = 0; j < k->size; j++) {
      const double limit = i / k->block == j / k->block ? k->infinite[i % k->block * k->block + j % k->block] : 0.0;
      const double d = k->gram[i * k->size + j] - limit;
      difference += d * d;
      norm += limit * limit;
    }
  return sqrt(difference / norm);
}

static void add_spectrum(json_t *point, const char *suffix, const double *values, int64_t count) {
  char key[48];
  snprintf(key, sizeof key, "lambda_min%s", suffix);
  json_object_set_new(point, key, sntk_json_real(values[0]));
  snprintf(key, sizeof key, "lambda_max%s", suffix);
  json_object_set_new(point, key, sntk_json_real(values[count - 1]));
  snprintf(key, sizeof key, "condition%s", suffix);
  json_object_set_new(point, key, sntk_json_real(values[0] > 0.0 ? values[count - 1] / values[0] : INFINITY));
}

static json_t *make_point(app *a, const app_problem *problem, sntk_network *net, const char *id, const kernels *k,
                          double seconds) {
  json_t *point = app_point(a, problem, "ntk", id);
  if (!point) return NULL;
  if (net)
    json_object_set_new(point, "form",
                        json_string(sntk_network_form(net) == SNTK_FORM_PLAIN ? "plain" : "displacement"));
  if (k->gram) {
    double norm = 0.0;
    for (int64_t j = 0; j < k->size * k->size; j++) norm += k->gram[j] * k->gram[j];
    json_object_set_new(point, "gram_norm", sntk_json_real(sqrt(norm)));
  }
  if (k->eigenvalues) add_spectrum(point, "", k->eigenvalues, k->size);
  if (k->infinite_eigenvalues) add_spectrum(point, "_infinite", k->infinite_eigenvalues, k->block);
  if (k->gram && k->infinite) json_object_set_new(point, "infinite_distance", sntk_json_real(distance_to_infinite(k)));
  json_object_set_new(point, "ntk_seconds", sntk_json_real(seconds));
  return point;
}

/* /gram_infinite as the whole block-diagonal matrix, so that it can be subtracted from /gram as it is. */
static sntk_status write_infinite(app *a, sntk_h5 *file, const kernels *k) {
  double *rows;
  SNTK_TRY(sntk_alloc(a->ctx, "infinite-width kernel to write", sntk_size_mul(k->size, k->block), sizeof *rows,
                      (void **)&rows));
  sntk_status status = sntk_h5_begin(a->ctx, file, "/gram_infinite", 'd', k->size, k->size);
  for (int64_t at = 0; at < k->size && status == SNTK_OK; at += k->block) {
    for (int64_t i = 0; i < k->size; i++)
      for (int64_t j = 0; j < k->block; j++)
        rows[i * k->block + j] = i / k->block == at / k->block ? k->infinite[i % k->block * k->block + j] : 0.0;
    status = sntk_h5_write_columns(a->ctx, file, "/gram_infinite", at, k->block, rows);
  }
  free(rows);
  return status;
}

static sntk_status write_h5(app *a, const char *path, const app_problem *problem, sntk_network *net, const kernels *k) {
  sntk_h5 *file;
  SNTK_TRY(sntk_h5_create(a->ctx, path, &file));
  sntk_status status = SNTK_OK;
  if (k->gram) status = sntk_h5_write_f64(a->ctx, file, "/gram", k->size, k->size, k->gram);
  if (status == SNTK_OK && k->eigenvalues)
    status = sntk_h5_write_f64(a->ctx, file, "/eigenvalues", k->size, 0, k->eigenvalues);
  if (status == SNTK_OK && k->infinite) status = write_infinite(a, file, k);
  if (status == SNTK_OK && net && sntk_config_bool(problem->config, "save.weights"))
    status = app_write_network(a, file, net);
  const sntk_status closed = sntk_h5_close(a->ctx, file, status == SNTK_OK);
  return status != SNTK_OK ? status : closed;
}

sntk_status app_ntk_point(app *a, const sntk_config *config, const char *id, const char *h5, json_t **point,
                          sntk_status *failure) {
  app_problem problem;
  sntk_network *net = NULL;
  kernels k = {0};
  *point = NULL;
  *failure = SNTK_OK;
  SNTK_TRY(app_problem_create(a, config, finite_width(config), &problem));
  stream_if_possible(&problem);
  sntk_status status = app_check_memory(a, &problem, memory_key(&problem), kernel_bytes(a, &problem));
  const double began = sntk_seconds();
  if (status == SNTK_OK && problem.network.width > 0) status = sntk_network_create(a->ctx, &problem.network, &net);
  if (status == SNTK_OK) {
    status = compute(a, &problem, net, &k);
    if (status == SNTK_OK || app_point_failure(status)) {
      *point = make_point(a, &problem, net, id, &k, sntk_seconds() - began);
      if (!*point) {
        status = sntk_fail(a->ctx, SNTK_ERR_MEMORY, "no memory for a point");
      } else if (status != SNTK_OK) {
        app_point_fail(a, *point);
        *failure = status;
        status = SNTK_OK;
      } else if (h5) {
        status = write_h5(a, h5, &problem, net, &k);
      }
    }
  }
  if (status != SNTK_OK) {
    json_decref(*point);
    *point = NULL;
  }
  kernels_clear(&k);
  sntk_network_free(net);
  app_problem_clear(&problem);
  return status;
}

sntk_status app_ntk_cost(app *a, const sntk_config *config, int64_t *bytes, double *seconds) {
  app_problem problem;
  app_estimate estimate = {0};
  SNTK_TRY(app_problem_create(a, config, finite_width(config), &problem));
  stream_if_possible(&problem);
  *bytes = kernel_bytes(a, &problem);
  sntk_status status = app_check_memory(a, &problem, memory_key(&problem), *bytes);
  const int64_t n = problem.data->samples;
  const bool eigenvalues = sntk_config_bool(config, "ntk.eigenvalues");
  double whole = 0.0, block = 0.0;
  if (status == SNTK_OK && problem.network.width > 0)
    status = app_measure(a, &problem, problem.network.width, &estimate);
  if (status == SNTK_OK && eigenvalues && problem.network.width > 0)
    status = app_measure_eigenvalues(a, n * problem.network.outputs, &whole);
  if (status == SNTK_OK && eigenvalues) status = app_measure_eigenvalues(a, n, &block);
  *seconds = estimate.gram_seconds + whole + block;
  app_problem_clear(&problem);
  return status;
}

static const char *const shown_axes[] = {"network.activation", "network.width",   "data.samples",
                                         "data.dim",           "network.outputs", "seed"};

void app_ntk_table(app *a) {
  static const char *const headers[] = {
      "activation",     "width",           "n",       "d",         "p", "seed", "lambda_min", "lambda_max", "condition",
      "lambda_min inf", "distance to inf", "seconds", "other axes"};
  json_t *points = app_points(a, "ntk"), *point;
  const size_t shown = sizeof shown_axes / sizeof *shown_axes;
  const bool more = app_more_axes(points, shown_axes, shown);
  app_table *table = app_table_create((int)(sizeof headers / sizeof *headers) - !more, headers);
  size_t index;
  json_array_foreach(points, index, point) {
    app_table_cell(table, "%s", app_text(point, "activation"));
    if (app_int(point, "width") > 0)
      app_table_cell(table, "%lld", (long long)app_int(point, "width"));
    else
      app_table_cell(table, "inf");
    app_table_cell(table, "%lld", (long long)app_int(point, "samples"));
    app_table_cell(table, "%lld", (long long)app_int(point, "dim"));
    app_table_cell(table, "%lld", (long long)app_int(point, "outputs"));
    app_table_cell(table, "%lld", (long long)app_int(point, "seed"));
    app_table_number(table, app_real(point, "lambda_min"));
    app_table_number(table, app_real(point, "lambda_max"));
    app_table_number(table, app_real(point, "condition"));
    app_table_number(table, app_real(point, "lambda_min_infinite"));
    app_table_number(table, app_real(point, "infinite_distance"));
    app_table_number(table, app_real(point, "ntk_seconds"));
    if (more) {
      char *rest = app_axes(app_text(point, "id"), false, shown_axes, shown);
      app_table_cell(table, "%s", rest ? rest : "");
      free(rest);
    }
  }
  app_table_print(table);
  app_table_free(table);
  json_array_foreach(points, index, point) {
    if (strcmp(app_text(point, "status"), "failed") == 0)
      printf("failed: %s, width %lld: %s\n", app_text(point, "activation"), (long long)app_int(point, "width"),
             app_text(point, "error"));
  }
  json_decref(points);
}

static sntk_status run(app *a) { return app_single(a, "ntk", app_ntk_point, app_ntk_cost, app_ntk_table); }

const app_command app_cmd_ntk = {"ntk", "The NTK Gram matrix, its spectrum and its infinite-width limit.", true, run};
