/**
 * @file app.c
 * @brief What the commands share: problems, memory, runs, points, progress.
 *
 * SPDX-License-Identifier: MIT
 */
#include "app/app.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- progress ---- */

static struct {
  bool shown;
  double began, printed;
  const char *what;
  int64_t first;
} line;

static void on_progress(void *user, const sntk_progress *progress) {
  app *a = user;
  const double now = sntk_seconds();
  if (progress->what != line.what || progress->done < line.first) {
    line.what = progress->what;
    line.began = now;
    line.first = progress->done;
  }
  if (now - line.printed < 0.2 || now - line.began < 0.5) return;
  line.printed = now;
  const double rate = (double)(progress->done - line.first) / (now - line.began);
  char point[64] = "", loss[32] = "", left[32] = "";
  if (a->point_count > 1)
    snprintf(point, sizeof point, "point %lld/%lld, ", (long long)a->point_index + 1, (long long)a->point_count);
  if (isfinite(progress->loss)) snprintf(loss, sizeof loss, ", loss %.3e", progress->loss);
  if (rate > 0.0 && progress->total > progress->done)
    snprintf(left, sizeof left, ", at most %.0f s left", (double)(progress->total - progress->done) / rate);
  char text[256], shown[sizeof text * 4];
  snprintf(text, sizeof text, "%s%s %lld/%lld%s, %.4g/s%s", point, progress->what, (long long)progress->done,
           (long long)progress->total, loss, rate, left);
  app_escape(text, shown, sizeof shown);
  fprintf(stderr, "\r%s\033[K", shown);
  fflush(stderr);
  line.shown = true;
}

void app_progress_begin(app *a) {
  if (!a->options.quiet && isatty(STDERR_FILENO)) sntk_context_set_progress(a->ctx, on_progress, a);
}

void app_progress_end(app *a) {
  sntk_context_set_progress(a->ctx, NULL, NULL);
  if (line.shown) fprintf(stderr, "\r\033[K");
  line.shown = false;
}

/* ---- JSON members ---- */

double app_real(const json_t *object, const char *key) {
  const json_t *value = json_object_get(object, key);
  return json_is_number(value) ? json_number_value(value) : NAN;
}

const char *app_text(const json_t *object, const char *key) {
  const char *text = json_string_value(json_object_get(object, key));
  return text ? text : "";
}

int64_t app_int(const json_t *object, const char *key) { return json_integer_value(json_object_get(object, key)); }

/* ---- backend ---- */

sntk_status app_open_backend(app *a) {
  const sntk_context_options options = {.backend = sntk_config_text(a->config, "backend"),
                                        .device = a->options.device,
                                        .threads = (int)sntk_config_int(a->config, "threads"),
                                        .memory_limit = a->options.memory_limit,
                                        .tensor_cores = sntk_config_bool(a->config, "tensor_cores")};
  return sntk_context_open(a->ctx, &options);
}

/* ---- problems ---- */

static sntk_status read_data(app *a, const sntk_config *c, app_problem *problem) {
  SNTK_TRY(sntk_config_require(a->ctx, c, "data.source"));
  sntk_data_options o = SNTK_DATA_OPTIONS_INIT;
  o.source = (sntk_data_source)sntk_config_choice(c, "data.source");
  if (o.source <= SNTK_DATA_CLUSTERS) {
    SNTK_TRY(sntk_config_require(a->ctx, c, "data.samples"));
    SNTK_TRY(sntk_config_require(a->ctx, c, "data.dim"));
    static const char *const of_files[] = {"data.inputs", "data.labels", "data.label_columns"};
    for (size_t i = 0; i < sizeof of_files / sizeof *of_files; i++)
      if (sntk_config_has(c, of_files[i]))
        return sntk_config_error(
            a->ctx, c, of_files[i], SNTK_ERR_CONFIG,
            "source %s makes its own inputs and targets; remove the key or use npy, csv, hdf5 or idx",
            sntk_config_text(c, "data.source"));
  } else {
    SNTK_TRY(sntk_config_require(a->ctx, c, "data.inputs"));
  }
  if (o.source != SNTK_DATA_CSV && sntk_config_given(c, "data.header"))
    return sntk_config_error(a->ctx, c, "data.header", SNTK_ERR_CONFIG, "source %s has no header line; remove the key",
                             sntk_config_text(c, "data.source"));
  o.targets_given = sntk_config_has(c, "data.targets");
  if (o.targets_given) o.targets = (sntk_targets)sntk_config_choice(c, "data.targets");
  o.normalize = (sntk_normalize)sntk_config_choice(c, "data.normalize");
  o.seed = (uint64_t)sntk_config_int(c, sntk_config_has(c, "data.seed") ? "data.seed" : "seed");
  if (sntk_config_has(c, "data.samples")) o.samples = sntk_config_int(c, "data.samples");
  o.test_samples = sntk_config_int(c, "data.test_samples");
  if (sntk_config_has(c, "data.dim")) o.dim = sntk_config_int(c, "data.dim");
  if (sntk_config_has(c, "network.outputs")) o.outputs = sntk_config_int(c, "network.outputs");
  o.clusters = sntk_config_int(c, "data.clusters");
  o.spread = sntk_config_real(c, "data.spread");
  /* a teacher's normalizer is its own: frozen or not is a matter of what learns from it */
  o.activation = problem->network.activation == SNTK_EXP_NORMALIZED ? SNTK_SOFTMAX : problem->network.activation;
  o.sigma = problem->network.sigma;
  o.teacher_width = sntk_config_int(c, "data.teacher_width");
  o.harmonic_degree = sntk_config_int(c, "data.harmonic_degree");
  if (sntk_config_has(c, "data.inputs")) o.inputs = sntk_config_text(c, "data.inputs");
  if (sntk_config_has(c, "data.labels")) o.labels = sntk_config_text(c, "data.labels");
  if (o.source != SNTK_DATA_HDF5 && sntk_config_given(c, "data.allow_external"))
    return sntk_config_error(a->ctx, c, "data.allow_external", SNTK_ERR_CONFIG,
                             "source %s refers to no other files; remove the key", sntk_config_text(c, "data.source"));
  o.allow_external = sntk_config_has(c, "data.allow_external") && sntk_config_bool(c, "data.allow_external");
  o.header = (const int[]){-1, 1, 0}[sntk_config_choice(c, "data.header")];
  if (sntk_config_has(c, "data.label_columns"))
    o.label_columns = sntk_config_ints(c, "data.label_columns", &o.label_column_count);
  app_signals_end_calls(true);
  const sntk_status status = sntk_data_create(a->ctx, &o, &problem->data);
  app_signals_end_calls(false);
  if (status == SNTK_OK) return SNTK_OK;
  SNTK_TRY(sntk_check_interrupt(a->ctx)); /* a call that a signal ended fails with a text of its own */
  /* the loader's text names the file; the configuration's line says who asked for it */
  const char *key = !o.inputs                                                  ? "data.source"
                    : o.labels && strstr(sntk_context_error(a->ctx), o.labels) ? "data.labels"
                                                                               : "data.inputs";
  return sntk_fail_prefix(a->ctx, status, "%s: %s", sntk_config_origin(c, key), key);
}

/* Reads an array of the network from NPY; `cols` of 0 takes the file's. */
static sntk_status read_array(app *a, const sntk_config *c, const char *key, int64_t rows, int64_t cols,
                              sntk_array *array) {
  if (!sntk_config_has(c, key)) return SNTK_OK;
  const sntk_status status = sntk_npy_read(a->ctx, sntk_config_text(c, key), array);
  if (status != SNTK_OK) return sntk_fail_prefix(a->ctx, status, "%s: %s", sntk_config_origin(c, key), key);
  if (rows == 1 && array->cols == 1 && array->rows > 1) { /* signs of one output as a plain vector */
    array->cols = array->rows;
    array->rows = 1;
  }
  if (array->rows != rows || (cols > 0 && array->cols != cols))
    return sntk_config_error(a->ctx, c, key, SNTK_ERR_SHAPE, "%s holds %lld x %lld; %lld x %s%.0lld is needed",
                             sntk_config_text(c, key), (long long)array->rows, (long long)array->cols, (long long)rows,
                             cols > 0 ? "" : "width", (long long)cols);
  return SNTK_OK;
}

sntk_status app_check_width(app *a, const sntk_config *c, bool needed) {
  if (!needed || sntk_config_has(c, "network.weights")) return SNTK_OK;
  SNTK_TRY(sntk_config_require(a->ctx, c, "network.width"));
  const int64_t width = sntk_config_int(c, "network.width");
  if (sntk_config_choice(c, "network.init") == SNTK_INIT_SYMMETRIC && width % 2)
    return sntk_config_error(
        a->ctx, c, "network.width", SNTK_ERR_CONFIG,
        "%lld is odd, and symmetric initialization pairs neurons; use an even width or network.init iid",
        (long long)width);
  return SNTK_OK;
}

static sntk_status read_network(app *a, const sntk_config *c, bool has_width, app_problem *problem) {
  sntk_network_options *o = &problem->network;
  o->dim = problem->data->dim;
  o->outputs = problem->data->outputs;
  SNTK_TRY(read_array(a, c, "network.weights", o->dim,
                      sntk_config_has(c, "network.width") && has_width ? sntk_config_int(c, "network.width") : 0,
                      &problem->weights));
  o->weights = problem->weights.values;
  if (o->weights) {
    o->width = problem->weights.cols;
    for (int64_t j = 0; j < o->dim * o->width; j++)
      if (!isfinite(o->weights[j]))
        return sntk_config_error(a->ctx, c, "network.weights", SNTK_ERR_DATA, "%s: weight (%lld, %lld) is not finite",
                                 sntk_config_text(c, "network.weights"), (long long)(j / o->width),
                                 (long long)(j % o->width));
  } else if (has_width) {
    SNTK_TRY(app_check_width(a, c, true));
    o->width = sntk_config_int(c, "network.width");
  }
  if (o->weights && !sntk_config_has(c, "network.signs"))
    return sntk_config_error(a->ctx, c, "network.weights", SNTK_ERR_CONFIG,
                             "weights without their signs are another network; give network.signs too (run.h5 has them "
                             "as /signs)");
  if (sntk_config_has(c, "network.signs") && !o->weights && o->init == SNTK_INIT_SYMMETRIC)
    return sntk_config_error(
        a->ctx, c, "network.signs", SNTK_ERR_CONFIG,
        "symmetric initialization has its own signs; give network.weights too, or network.init iid");
  SNTK_TRY(read_array(a, c, "network.signs", o->outputs, o->width, &problem->signs));
  o->signs = problem->signs.values;
  if (o->signs)
    for (int64_t j = 0; j < o->outputs * o->width; j++)
      if (o->signs[j] != 1.0 && o->signs[j] != -1.0)
        return sntk_config_error(
            a->ctx, c, "network.signs", SNTK_ERR_DATA, "%s: sign (%lld, %lld) is %g; signs are +1 or -1",
            sntk_config_text(c, "network.signs"), (long long)(j / o->width), (long long)(j % o->width), o->signs[j]);
  SNTK_TRY(read_array(a, c, "network.displacement", o->dim, o->width, &problem->displacement));
  o->displacement = problem->displacement.values;
  for (int64_t j = 0; o->displacement && j < o->dim * o->width; j++)
    if (!isfinite(o->displacement[j]))
      return sntk_config_error(
          a->ctx, c, "network.displacement", SNTK_ERR_DATA, "%s: displacement (%lld, %lld) is not finite",
          sntk_config_text(c, "network.displacement"), (long long)(j / o->width), (long long)(j % o->width));
  const bool plain = o->form == SNTK_FORM_PLAIN ||
                     (o->form == SNTK_FORM_AUTO && (sntk_context_precision(a->ctx, o->precision) == SNTK_F64 ||
                                                    strcmp(sntk_context_backend(a->ctx), "ref") == 0));
  if (o->displacement && plain)
    return sntk_config_error(a->ctx, c, "network.displacement", SNTK_ERR_CONFIG,
                             "the network is kept in plain form, which has none; use network.form displacement");
  if (o->form == SNTK_FORM_DISPLACEMENT && strcmp(sntk_context_backend(a->ctx), "ref") == 0)
    return sntk_config_error(a->ctx, c, "network.form", SNTK_ERR_CONFIG,
                             "backend ref has only the plain form; use form plain or auto, or --backend cpu");
  return SNTK_OK;
}

static void read_train(const sntk_config *c, sntk_train_options *o) {
  *o = (sntk_train_options)SNTK_TRAIN_OPTIONS_INIT;
  o->steps = sntk_config_int(c, "train.steps");
  o->eta_rule = sntk_config_number(c, "train.eta", &o->eta)               ? SNTK_ETA_VALUE
                : strcmp(sntk_config_text(c, "train.eta"), "theory") == 0 ? SNTK_ETA_THEORY
                                                                          : SNTK_ETA_AUTO;
  o->tolerance = sntk_config_real(c, "train.tolerance");
  o->theory_c = sntk_config_real(c, "train.theory_c");
  o->theory_delta = sntk_config_real(c, "train.theory_delta");
  o->record_every = sntk_config_int(c, "train.record_every");
  o->kernel_every = sntk_config_int(c, "train.kernel_every");
  o->divergence = sntk_config_real(c, "train.divergence");
  o->linearized = sntk_config_bool(c, "train.linearized");
}

sntk_status app_problem_create(app *a, const sntk_config *c, bool has_width, app_problem *problem) {
  *problem = (app_problem){.config = c, .network = SNTK_NETWORK_OPTIONS_INIT};
  SNTK_TRY(sntk_config_require(a->ctx, c, "network.activation"));
  sntk_network_options *o = &problem->network;
  o->activation = (sntk_activation)sntk_config_choice(c, "network.activation");
  o->sigma = sntk_config_real(c, "network.sigma");
  o->scale = (sntk_scale)sntk_config_choice(c, "network.scale");
  o->init = (sntk_init)sntk_config_choice(c, "network.init");
  o->form = (sntk_form)sntk_config_choice(c, "network.form");
  o->precision = (sntk_precision)sntk_config_choice(c, "precision");
  o->seed = (uint64_t)sntk_config_int(c, "seed");
  read_train(c, &problem->train);
  problem->train.profile_start = a->options.profile_start;
  problem->train.profile_count = a->options.profile_count;
  sntk_status status = read_data(a, c, problem);
  if (status == SNTK_OK) status = read_network(a, c, has_width, problem);
  if (status == SNTK_OK && problem->data->test_samples > 0) {
    const sntk_data *data = problem->data;
    problem->train.test_samples = data->test_samples;
    problem->train.test_inputs = data->inputs + data->samples * data->dim;
    problem->train.test_targets = data->targets + data->samples * data->outputs;
  }
  if (status != SNTK_OK) app_problem_clear(problem);
  return status;
}

void app_problem_clear(app_problem *problem) {
  sntk_data_free(problem->data);
  sntk_array_free(&problem->weights);
  sntk_array_free(&problem->signs);
  sntk_array_free(&problem->displacement);
  problem->data = NULL;
}

/* What the program and its libraries come to touch while they run, beyond what they have at the start. */
static const int64_t LIBRARIES = INT64_C(4) << 20;

int64_t app_memory(app *a, int64_t bytes) {
  const int64_t held = sntk_context_held(a->ctx);
  if (a->loading == 0) a->loading = sntk_context_peak(a->ctx);
  const int64_t all = sntk_size_add(held > 0 ? held + LIBRARIES : 0, bytes);
  return all >= 0 && all < a->loading ? a->loading : all;
}

sntk_status app_check_memory(app *a, const app_problem *problem, const char *key, int64_t bytes) {
  const bool limited = a->options.memory_limit > 0;
  const int64_t needed = limited ? app_memory(a, bytes) : bytes, available = sntk_context_memory(a->ctx);
  char text[32], limit[32];
  if (available < 0) return SNTK_ERR_DEVICE; /* the reason is the context's error */
  if (needed >= 0 && needed <= available) return SNTK_OK;
  return sntk_config_error(
      a->ctx, problem->config, key, SNTK_ERR_MEMORY,
      "width %lld with %lld samples needs %s%s, and %s is %s; use a smaller width or a larger --memory-limit",
      (long long)problem->network.width, (long long)problem->data->samples,
      needed < 0 ? "more than an address space" : sntk_format_bytes(needed, text), limited ? "" : " more",
      limited ? "the limit" : "what the machine has free", sntk_format_bytes(available, limit));
}

sntk_status app_measure_eigenvalues(app *a, int64_t size, double *seconds) {
  const int64_t n = size < 256 ? size : 256;
  double *matrix = NULL, *values = NULL;
  *seconds = 0.0;
  sntk_status status = sntk_alloc(a->ctx, "estimate", n * n, sizeof *matrix, (void **)&matrix);
  if (status == SNTK_OK) status = sntk_alloc(a->ctx, "estimate", n, sizeof *values, (void **)&values);
  if (status == SNTK_OK) {
    for (int64_t i = 0; i < n * n; i++) matrix[i] = 1.0 / (1.0 + fabs((double)(i / n - i % n)));
    const double began = sntk_seconds();
    status = sntk_eigenvalues(a->ctx, matrix, n, values);
    *seconds = (sntk_seconds() - began) * pow((double)size / (double)n, 3.0);
  }
  free(matrix);
  free(values);
  return status;
}

/* Seconds of one Gram matrix of the first n samples. */
static sntk_status measure_gram(app *a, const app_problem *problem, const sntk_network_options *o, int64_t n,
                                double *seconds) {
  const int64_t rows = sntk_size_mul(n, o->outputs);
  sntk_network *net;
  double *gram = NULL;
  SNTK_TRY(sntk_network_create(a->ctx, o, &net));
  sntk_status status = sntk_alloc(a->ctx, "estimate", sntk_size_mul(rows, rows), sizeof *gram, (void **)&gram);
  const double began = sntk_seconds();
  if (status == SNTK_OK) status = sntk_ntk_gram(a->ctx, net, problem->data->inputs, n, gram);
  *seconds = sntk_seconds() - began;
  free(gram);
  sntk_network_free(net);
  return status;
}

sntk_status app_measure(app *a, const app_problem *problem, int64_t width, app_estimate *estimate) {
  /* Small enough for a fraction of a second, large enough to reach the rate. */
  const bool slow = strcmp(sntk_context_backend(a->ctx), "ref") == 0 || sntk_context_emulated(a->ctx);
  const int64_t rows = slow ? 32 : 512, most = slow ? 256 : 8192;
  const int64_t fits = rows / problem->network.outputs > 0 ? rows / problem->network.outputs : 1;
  const int64_t n = problem->data->samples < fits ? problem->data->samples : fits;
  sntk_network_options o = problem->network;
  o.weights = o.signs = o.displacement = NULL;
  o.streamed = false;
  o.width = width < most ? width + width % 2 : most;
  sntk_network *net;
  SNTK_TRY(sntk_network_create(a->ctx, &o, &net));
  sntk_train_options t = SNTK_TRAIN_OPTIONS_INIT;
  t.steps = 3;
  t.eta_rule = SNTK_ETA_VALUE;
  t.eta = 1e-12;
  t.tolerance = 0.0;
  t.record_every = 0;
  t.divergence = 1e30;
  sntk_train_result result;
  sntk_status status = sntk_train(a->ctx, net, problem->data->inputs, problem->data->targets, n, &t, &result);
  const double scale = (double)problem->data->samples / (double)n * ((double)width / (double)o.width);
  estimate->step_seconds = result.seconds / 3.0 * scale;
  /* up to 60 applications of J J^T, each a gradient and a pass forward */
  estimate->eta_seconds = problem->train.eta_rule == SNTK_ETA_AUTO ? 60.0 * 1.5 * estimate->step_seconds : 0.0;
  sntk_train_result_clear(&result);
  sntk_network_free(net);
  const double square = scale * ((double)problem->data->samples / (double)n);
  if (status == SNTK_OK) status = measure_gram(a, problem, &o, n, &estimate->gram_seconds);
  estimate->gram_seconds *= square;
  o.precision = SNTK_F64;
  if (status == SNTK_OK) status = measure_gram(a, problem, &o, n, &estimate->gram64_seconds);
  estimate->gram64_seconds *= square;
  return status;
}

sntk_status app_print_dry_run(app *a, int64_t points, int64_t bytes, double seconds, const char *note) {
  char needed[32], available[32];
  int64_t free_bytes = sntk_context_memory(a->ctx);
  /* what is free, and what the process has already: both figures are of the whole of it */
  if (free_bytes >= 0 && a->options.memory_limit == 0)
    free_bytes = sntk_size_add(free_bytes, sntk_context_held(a->ctx));
  if (a->options.json) {
    sntk_record *record = sntk_record_create();
    sntk_record_text(record, "kind", "dry_run");
    sntk_record_int(record, "points", points);
    sntk_record_int(record, "memory_bytes", bytes);
    sntk_record_int(record, "memory_available_bytes", free_bytes);
    sntk_record_real(record, "estimate_seconds", seconds);
    sntk_record_text(record, "note", note);
    return app_print_record(a, record);
  }
  app_line(stdout, "dry run: %lld point%s; memory %s of %s; time about %.3g s (%s)", (long long)points,
           points == 1 ? "" : "s", sntk_format_bytes(bytes, needed), sntk_format_bytes(free_bytes, available), seconds,
           note);
  return SNTK_OK;
}

/* ---- runs ---- */

sntk_status app_refuse_save(app *a) {
  if (!sntk_config_bool(a->config, "save.weights")) return SNTK_OK;
  return sntk_config_error(a->ctx, a->config, "save.weights", SNTK_ERR_CONFIG,
                           "%s keeps no weights, only train and ntk do; remove the key", a->options.command->name);
}

sntk_status app_run_open(app *a) {
  const char *name = sntk_config_text(a->config, "name");
  const size_t size = strlen(a->options.out ? a->options.out : name) + 6;
  a->directory = malloc(size);
  json_t *config = sntk_config_to_json(a->config);
  char *text = config ? sntk_json_text(config) : NULL;
  json_decref(config);
  if (!a->directory || !text) {
    free(text);
    return sntk_fail(a->ctx, SNTK_ERR_MEMORY, "no memory for the run's configuration");
  }
  snprintf(a->directory, size, "%s%s", a->options.out ? "" : "runs/", a->options.out ? a->options.out : name);
  const sntk_run_options options = {.directory = a->directory,
                                    .command = a->options.command->name,
                                    .config = text,
                                    .resume = a->options.resume,
                                    .shard_index = a->options.shard.index,
                                    .shard_count = a->options.shard.count};
  const sntk_status status = sntk_run_open(a->ctx, &options, &a->run);
  free(text);
  SNTK_TRY(status);
  sntk_run_set_items(a->run, sntk_config_grid_count(a->config));
  const sntk_run_device device = {.backend = sntk_context_backend(a->ctx),
                                  .name = sntk_context_device(a->ctx),
                                  .threads = sntk_context_threads(a->ctx),
                                  .emulated = sntk_context_emulated(a->ctx)};
  const sntk_status described = sntk_run_set_device(a->ctx, a->run, &device);
  if (described != SNTK_OK) return app_run_close(a, described);
  if (sntk_run_notice(a->run)) app_line(stderr, "softntk: note: %s", sntk_run_notice(a->run));
  app_progress_begin(a);
  return SNTK_OK;
}

void app_run_gather(app *a) {
  char kept[SNTK_ERROR_CHARS];
  app_progress_end(a);
  if (a->options.shard.count == 1) return;
  snprintf(kept, sizeof kept, "%s", sntk_context_error(a->ctx));
  const sntk_status status = sntk_run_refresh(a->ctx, a->run);
  if (status == SNTK_OK) return;
  a->untold |= status == SNTK_ERR_MEMORY;
  app_line(stderr, "softntk: note: points of other shards are left out: %s", sntk_context_error(a->ctx));
  sntk_fail(a->ctx, status, "%s", kept);
}

void app_result(app *a, const char *path, sntk_status written) {
  const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
  char why[SNTK_ERROR_CHARS];
  const sntk_status status = written == SNTK_OK ? sntk_run_keep(a->ctx, a->run, name) : written;
  if (status == SNTK_OK) return;
  snprintf(why, sizeof why, "%s", sntk_context_error(a->ctx));
  if (written != SNTK_OK) sntk_run_miss(a->ctx, a->run, name, why); /* without memory the exit code alone tells */
  if (a->lost != SNTK_OK) return;
  a->lost = status;
  snprintf(a->lost_text, sizeof a->lost_text, "%s", why);
}

/* What a reader of run.json must know without reading every point. */
typedef struct point_counts {
  int64_t recorded, failed, below;
  int64_t whole, bad; /* without parts of points (prefixes) and what is found from others (a width, by trials) */
  char error[SNTK_ERROR_CHARS]; /* of the first failed one */
} point_counts;

static sntk_status count_points(app *a, point_counts *counts) {
  *counts = (point_counts){0};
  for (int64_t i = 0; i < sntk_run_count(a->run); i++) {
    json_t *point;
    SNTK_TRY(app_recorded(a, sntk_run_point(a->run, i), &point));
    const bool failed = strcmp(app_text(point, "status"), "failed") == 0;
    const char *kind = app_text(point, "kind");
    const bool whole = strcmp(kind, "ntk_prefix") != 0 && strcmp(kind, "width") != 0;
    if (failed && whole && counts->bad == 0)
      snprintf(counts->error, sizeof counts->error, "%s: %s", app_text(point, "id"), app_text(point, "error"));
    counts->failed += failed;
    counts->whole += whole;
    counts->bad += whole && failed;
    counts->below += json_is_true(json_object_get(point, "updates_below_resolution"));
    counts->recorded++;
    json_decref(point);
  }
  return SNTK_OK;
}

static bool none_good(const point_counts *counts) { return counts->whole > 0 && counts->bad == counts->whole; }

/* NULL without memory. */
static char *flags_text(const point_counts *counts) {
  json_t *flags = json_pack("{s:I, s:I}", "failed_points", (json_int_t)counts->failed,
                            "updates_below_resolution_points", (json_int_t)counts->below);
  char *text = flags ? sntk_json_text(flags) : NULL;
  json_decref(flags);
  return text;
}

/* What the command says of a run that is over, given what it came to. */
static sntk_status tell_result(app *a, sntk_status result, const char *text, const point_counts *counts,
                               sntk_status closed) {
  if (result == SNTK_ERR_INTERRUPTED && counts->recorded == 0)
    return sntk_fail(
        a->ctx, result,
        "interrupted; no point was finished, and there are no checkpoints within one: --resume begins it anew");
  if (result == SNTK_ERR_INTERRUPTED)
    return sntk_fail(a->ctx, result,
                     "interrupted; what was finished is in %s, and --resume goes on with the rest; the point under way "
                     "begins anew",
                     a->directory);
  if (result != SNTK_OK) return sntk_fail(a->ctx, result, "%s", text);
  if (closed != SNTK_OK) return closed;
  if (a->lost != SNTK_OK)
    return sntk_fail(a->ctx, a->lost, "%s; the points are kept in %s, and --resume makes the file again", a->lost_text,
                     a->directory);
  if (none_good(counts))
    return sntk_fail(a->ctx, SNTK_ERR_NUMERICAL, "no point is good: all %lld failed; the first: %s",
                     (long long)counts->whole, counts->error);
  return SNTK_OK;
}

sntk_status app_run_close(app *a, sntk_status result) {
  char kept[SNTK_ERROR_CHARS]; /* closing must not lose the run's own error */
  snprintf(kept, sizeof kept, "%s", sntk_context_error(a->ctx));
  app_progress_end(a);
  if (result != SNTK_OK && result != SNTK_ERR_INTERRUPTED && sntk_run_discard(a->run)) {
    a->run = NULL;
    return result;
  }
  point_counts counts;
  const sntk_status counted = count_points(a, &counts);
  if (counted != SNTK_OK) counts = (point_counts){.recorded = sntk_run_count(a->run)};
  const char *state = result == SNTK_ERR_INTERRUPTED            ? "interrupted"
                      : result != SNTK_OK || a->lost != SNTK_OK ? "failed"
                                                                : "done";
  char *flags = counted == SNTK_OK ? flags_text(&counts) : NULL;
  sntk_status closed = sntk_run_finish(a->ctx, a->run, state, none_good(&counts) ? "failed" : "done", flags);
  if (closed == SNTK_OK && !flags)
    closed = sntk_fail(a->ctx, SNTK_ERR_MEMORY, "%s: no memory to count the points", a->directory);
  if (closed == SNTK_OK && sntk_run_unfinished(a->run))
    app_line(stderr, "softntk: note: %s", sntk_run_unfinished(a->run));
  free(flags);
  sntk_run_free(a->run);
  a->run = NULL;
  return tell_result(a, result, kept, &counts, closed);
}

/* ---- points ---- */

static const char *word(const app_problem *problem, const char *key) { return sntk_config_text(problem->config, key); }

sntk_record *app_point(app *a, const app_problem *problem, const char *kind, const char *id) {
  const sntk_network_options *o = &problem->network;
  const sntk_precision computed = sntk_context_precision(a->ctx, o->precision);
  sntk_record *point = sntk_record_create();
  sntk_record_text(point, "kind", kind);
  sntk_record_text(point, "id", id);
  sntk_record_text(point, "status", "done");
  sntk_record_text(point, "activation", word(problem, "network.activation"));
  if (o->width > 0) sntk_record_int(point, "width", o->width);
  sntk_record_int(point, "samples", problem->data->samples);
  sntk_record_int(point, "dim", o->dim);
  sntk_record_int(point, "outputs", o->outputs);
  sntk_record_real(point, "sigma", o->sigma);
  sntk_record_text(point, "scale", word(problem, "network.scale"));
  sntk_record_text(point, "init", o->weights ? "given" : word(problem, "network.init"));
  sntk_record_int(point, "seed", o->seed);
  sntk_record_text(point, "backend", sntk_context_backend(a->ctx));
  sntk_record_text(point, "precision", word(problem, "precision"));
  if (sntk_config_bool(problem->config, "tensor_cores")) sntk_record_bool(point, "tensor_cores", true);
  sntk_record_text(point, "computed_in", computed == SNTK_F32 ? "f32" : "f64");
  return point;
}

double app_dense_error(const app *a, const app_problem *problem, int64_t width, double lambda_max) {
  const double order = (double)problem->data->samples * (double)problem->network.outputs;
  sntk_network_options wide = problem->network;
  wide.width = width;
  wide.precision = SNTK_F64;
  /* backward stability: eigenvalues of a matrix within about order eps |H|_2 of this one */
  return lambda_max *
         (order * 0x1p-53 + sntk_ntk_rounding(a->ctx, &wide, problem->data->inputs, problem->data->samples));
}

void app_point_dense(sntk_record *point, double lambda_min, double error) {
  sntk_record_text(point, "solver", "dense");
  sntk_record_real(point, "lambda_min_error", error);
  sntk_record_bool(point, "lambda_min_resolved", lambda_min > error);
}

void app_point_fail(app *a, sntk_record *point) {
  sntk_record_text(point, "status", "failed");
  sntk_record_text(point, "error", sntk_context_error(a->ctx));
}

bool app_point_failure(sntk_status status) {
  return status == SNTK_ERR_OVERFLOW || status == SNTK_ERR_DIVERGED || status == SNTK_ERR_NUMERICAL;
}

static sntk_status print_line(app *a, const sntk_record *record) {
  char *text = sntk_record_complete(record) ? sntk_json_text(sntk_record_members(record)) : NULL;
  if (!text) return sntk_fail(a->ctx, SNTK_ERR_MEMORY, "no memory for a record's text");
  printf("%s\n", text);
  fflush(stdout);
  free(text);
  return SNTK_OK;
}

sntk_status app_print_record(app *a, sntk_record *record) {
  const sntk_status status = print_line(a, record);
  sntk_record_free(record);
  return status;
}

sntk_status app_record(app *a, const sntk_record *point) {
  if (!sntk_record_complete(point)) return sntk_fail(a->ctx, SNTK_ERR_MEMORY, "no memory for a point");
  SNTK_TRY(sntk_run_add_json(a->ctx, a->run, sntk_record_members(point)));
  return a->options.json ? print_line(a, point) : SNTK_OK;
}

sntk_status app_recorded(app *a, const char *text, json_t **point) {
  json_error_t error;
  *point = sntk_json_parse(text, strlen(text), &error);
  return *point ? SNTK_OK : sntk_fail(a->ctx, SNTK_ERR_MEMORY, "no memory for a recorded point");
}

json_t *app_points(app *a, const char *kind) {
  json_t *array = json_array();
  bool whole = array != NULL;
  for (int64_t i = 0; whole && i < sntk_run_count(a->run); i++) {
    json_error_t error;
    const char *text = sntk_run_point(a->run, i);
    json_t *point = sntk_json_parse(text, strlen(text), &error);
    whole = point && (strcmp(app_text(point, "kind"), kind) != 0 || json_array_append(array, point) == 0);
    json_decref(point);
  }
  if (whole) return array;
  a->untold = true;
  json_decref(array);
  return NULL;
}
