/**
 * @file data.c
 * @brief Making a data set: the source, its labels, the normalization, the targets, in this order.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdlib.h>

#include "data/loaders.h"

void sntk_array_free(sntk_array *array) {
  if (!array) return;
  free(array->values);
  *array = (sntk_array){0};
}

void sntk_data_free(sntk_data *data) {
  if (!data) return;
  free(data->inputs);
  free(data->targets);
  free(data);
}

static bool is_file(sntk_data_source source) { return source >= SNTK_DATA_NPY && source <= SNTK_DATA_IDX; }

static bool has_labels(const sntk_data_options *options) {
  return is_file(options->source) && (options->labels || options->label_column_count > 0);
}

static sntk_targets find_rule(const sntk_data_options *options) {
  if (options->targets_given) return options->targets;
  return has_labels(options) ? SNTK_TARGETS_VALUES : SNTK_TARGETS_RANDOM;
}

static sntk_status check_options(sntk_context *ctx, const sntk_data_options *options) {
  const sntk_targets rule = find_rule(options);
  if (options->source < SNTK_DATA_SPHERE || options->source > SNTK_DATA_IDX)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT,
                     "data source %d is unknown; sphere, gaussian, clusters, npy, csv, hdf5 and idx are",
                     (int)options->source);
  if (options->normalize < SNTK_NORMALIZE_NONE || options->normalize > SNTK_NORMALIZE_STANDARDIZE)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT,
                     "normalization %d is unknown; none, unit-ball, unit-sphere and standardize are",
                     (int)options->normalize);
  if (options->samples < 0 || options->dim < 0 || options->outputs < 0 || options->label_column_count < 0 ||
      options->test_samples < 0)
    return sntk_fail(
        ctx, SNTK_ERR_ARGUMENT,
        "samples %lld, test_samples %lld, dim %lld, outputs %lld and %lld label columns: none may be negative",
        (long long)options->samples, (long long)options->test_samples, (long long)options->dim,
        (long long)options->outputs, (long long)options->label_column_count);
  if (sntk_size_add(options->samples, options->test_samples) < 0)
    return sntk_fail(ctx, SNTK_ERR_SHAPE, "samples %lld and test_samples %lld: their sum does not fit 63 bits",
                     (long long)options->samples, (long long)options->test_samples);
  if (options->label_column_count > 0 && !options->label_columns)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "label_columns is NULL, and there are to be %lld of them",
                     (long long)options->label_column_count);
  if (is_file(options->source)) {
    if (!options->inputs)
      return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "inputs is missing: a data source that is a file needs its path");
    if (options->labels && options->label_column_count > 0)
      return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "both labels, %s, and label_columns are given; give one of them",
                       options->labels);
  }
  if (rule == SNTK_TARGETS_VALUES && !has_labels(options))
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "targets: values needs labels of a file: give labels or label_columns");
  if (rule == SNTK_TARGETS_CLASSES && !has_labels(options) && options->source != SNTK_DATA_CLUSTERS)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT,
                     "targets: classes needs labels of a file (labels or label_columns) or the source clusters");
  return SNTK_OK;
}

/* ---- files ---- */

static sntk_status check_finite(sntk_context *ctx, const char *path, const sntk_array *array) {
  for (int64_t j = 0; j < array->rows * array->cols; j++)
    if (!isfinite(array->values[j]))
      return sntk_fail(ctx, SNTK_ERR_DATA,
                       "%s: element [%lld, %lld] is %g; every value must be finite: remove its row or fill it in", path,
                       (long long)(j / array->cols), (long long)(j % array->cols), array->values[j]);
  return SNTK_OK;
}

/* A file in the source's format: all of it, or the samples and the held-out rows behind them; *total is what it has. */
static sntk_status load_file(sntk_context *ctx, const sntk_data_options *options, const char *path, sntk_array *array,
                             int64_t *total) {
  const bool labels = path == options->labels;
  const int header = labels && options->header < 0 ? SNTK_HEADER_OF_LABELS : options->header;
  const int64_t limit = options->samples > 0 ? options->samples + options->test_samples : 0;
  sntk_status status = SNTK_ERR_INTERNAL;
  if (options->source == SNTK_DATA_NPY) status = sntk_npy_load(ctx, path, limit, array, total);
  if (options->source == SNTK_DATA_CSV) status = sntk_csv_load(ctx, path, header, limit, array, total);
  if (options->source == SNTK_DATA_HDF5)
    status = sntk_hdf5_load(ctx, path, options->allow_external, limit, array, total);
  if (options->source == SNTK_DATA_IDX) status = sntk_idx_load(ctx, path, limit, array, total);
  if (status != SNTK_OK) return status;
  status = check_finite(ctx, path, array);
  if (status != SNTK_OK) sntk_array_free(array);
  return status;
}

/* Has the file of the inputs the rows that are asked for? */
static sntk_status check_rows(sntk_context *ctx, const sntk_data_options *options, int64_t total) {
  const int64_t samples = options->samples, held_out = options->test_samples;
  if (held_out == 0 && samples > total)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "samples is %lld, but %s has %lld rows; without it all are taken",
                     (long long)samples, options->inputs, (long long)total);
  if (samples > 0 && samples + held_out > total)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT,
                     "samples %lld and test_samples %lld are %lld rows, but %s has %lld; take fewer of either",
                     (long long)samples, (long long)held_out, (long long)(samples + held_out), options->inputs,
                     (long long)total);
  if (samples == 0 && held_out >= total)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT,
                     "test_samples is %lld, but %s has %lld rows, of which at least one must stay a sample",
                     (long long)held_out, options->inputs, (long long)total);
  return SNTK_OK;
}

/* Marks the label columns in `is_label` and writes their indices from 0 to `columns`. */
static sntk_status find_label_columns(sntk_context *ctx, const sntk_data_options *options, int64_t cols, bool *is_label,
                                      int64_t *columns) {
  for (int64_t k = 0; k < cols; k++) is_label[k] = false;
  for (int64_t l = 0; l < options->label_column_count; l++) {
    const int64_t given = options->label_columns[l];
    if (given < -cols || given >= cols)
      return sntk_fail(ctx, SNTK_ERR_ARGUMENT,
                       "label_columns: %lld is out of range: %s has %lld columns, 0 to %lld, or -1 (the last) to %lld",
                       (long long)given, options->inputs, (long long)cols, (long long)cols - 1, -(long long)cols);
    columns[l] = given < 0 ? given + cols : given;
    if (is_label[columns[l]])
      return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "label_columns: %lld names column %lld of %s a second time",
                       (long long)given, (long long)columns[l], options->inputs);
    is_label[columns[l]] = true;
  }
  if (options->label_column_count >= cols)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT,
                     "label_columns: all %lld columns of %s are labels; at least one must be an input", (long long)cols,
                     options->inputs);
  return SNTK_OK;
}

/* Moves the label columns, in the order given, from `inputs` to `labels`. */
static sntk_status split_labels(sntk_context *ctx, const sntk_data_options *options, sntk_array *inputs,
                                sntk_array *labels) {
  const int64_t rows = inputs->rows, cols = inputs->cols, count = options->label_column_count;
  void *is_label = NULL, *columns = NULL;
  sntk_status status = sntk_alloc(ctx, "label columns", cols, sizeof(bool), &is_label);
  if (status == SNTK_OK) status = sntk_alloc(ctx, "label columns", count, sizeof(int64_t), &columns);
  if (status == SNTK_OK) status = find_label_columns(ctx, options, cols, is_label, columns);
  if (status == SNTK_OK) status = sntk_array_create(ctx, "labels", rows, count, labels);
  if (status != SNTK_OK) goto cleanup;
  const bool *const skip = is_label;
  const int64_t *const from = columns;
  double *to = inputs->values;
  for (int64_t i = 0; i < rows; i++) {
    const double *row = inputs->values + i * cols;
    for (int64_t l = 0; l < count; l++) labels->values[i * count + l] = row[from[l]];
    for (int64_t k = 0; k < cols; k++)
      if (!skip[k]) *to++ = row[k]; /* never ahead of what is read */
  }
  inputs->cols = cols - count;
cleanup:
  free(is_label);
  free(columns);
  return status;
}

static sntk_status load_files(sntk_context *ctx, const sntk_data_options *options, sntk_data *data,
                              sntk_array *labels) {
  sntk_array inputs;
  int64_t total, label_total;
  SNTK_TRY(load_file(ctx, options, options->inputs, &inputs, &total));
  data->inputs = inputs.values; /* the data set owns them from here on */
  SNTK_TRY(check_rows(ctx, options, total));
  if (options->label_column_count > 0) SNTK_TRY(split_labels(ctx, options, &inputs, labels));
  data->test_samples = options->test_samples;
  data->samples = inputs.rows - data->test_samples;
  data->dim = inputs.cols;
  if (options->dim > 0 && options->dim != data->dim)
    return sntk_fail(ctx, SNTK_ERR_SHAPE,
                     "dim is %lld, but %s has %lld input columns; leave dim out or make them equal",
                     (long long)options->dim, options->inputs, (long long)data->dim);
  const sntk_targets rule = find_rule(options);
  if (!options->labels || (rule != SNTK_TARGETS_VALUES && rule != SNTK_TARGETS_CLASSES)) return SNTK_OK;
  SNTK_TRY(load_file(ctx, options, options->labels, labels, &label_total));
  if (label_total != total)
    return sntk_fail(ctx, SNTK_ERR_SHAPE, "%s has %lld rows of labels, but %s has %lld of inputs; they must be equal",
                     options->labels, (long long)label_total, options->inputs, (long long)total);
  return SNTK_OK;
}

/* ---- normalization: maps taken from the samples, applied to the held-out rows too ---- */

static sntk_status norm_overflow(sntk_context *ctx, int64_t row) {
  return sntk_fail(ctx, SNTK_ERR_DATA,
                   "normalize: the norm of row %lld (counted from 0) overflows float64; scale the inputs down",
                   (long long)row);
}

/* Held-out rows may be so much larger than the samples that the samples' scale does not bring them into range. */
static sntk_status held_out_overflow(sntk_context *ctx, int64_t row) {
  return sntk_fail(ctx, SNTK_ERR_DATA,
                   "normalize: held-out row %lld (counted from 0, samples included) overflows float64 under the scale "
                   "of the samples; remove the row or use none or unit-sphere",
                   (long long)row);
}

static sntk_status to_unit_ball(sntk_context *ctx, sntk_data *data) {
  double largest = 0.0, largest_held_out = 0.0;
  int64_t farthest = 0;
  for (int64_t i = 0; i < sntk_data_rows(data); i++) {
    SNTK_TRY(sntk_check_interrupt(ctx));
    const double norm = sntk_row_norm(data->inputs + i * data->dim, data->dim);
    if (!isfinite(norm)) return norm_overflow(ctx, i);
    if (i < data->samples) {
      largest = fmax(largest, norm);
    } else if (norm > largest_held_out) {
      largest_held_out = norm;
      farthest = i;
    }
  }
  if (largest == 0.0)
    return sntk_fail(ctx, SNTK_ERR_DATA,
                     "normalize: unit-ball divides by the largest norm, but every sample is zero; use none");
  if (!isfinite(largest_held_out / largest)) return held_out_overflow(ctx, farthest);
  for (int64_t j = 0; j < sntk_data_rows(data) * data->dim; j++) data->inputs[j] /= largest;
  return SNTK_OK;
}

static sntk_status to_unit_sphere(sntk_context *ctx, sntk_data *data) {
  for (int64_t i = 0; i < sntk_data_rows(data); i++) {
    SNTK_TRY(sntk_check_interrupt(ctx));
    double *row = data->inputs + i * data->dim;
    const double norm = sntk_row_norm(row, data->dim);
    if (!isfinite(norm)) return norm_overflow(ctx, i);
    if (norm == 0.0)
      return sntk_fail(
          ctx, SNTK_ERR_DATA,
          "normalize: unit-sphere divides row %lld (counted from 0) by its norm, which is zero; remove the row or use "
          "unit-ball",
          (long long)i);
    for (int64_t k = 0; k < data->dim; k++) row[k] /= norm;
  }
  return SNTK_OK;
}

/* A column at a time. The deviation is taken relative to the largest distance from the mean, so that no square over- or
 * underflows. */
static sntk_status standardize(sntk_context *ctx, sntk_data *data) {
  const double n = (double)data->samples;
  const int64_t end = data->samples * data->dim, all = sntk_data_rows(data) * data->dim;
  for (int64_t k = 0; k < data->dim; k++) {
    SNTK_TRY(sntk_check_interrupt(ctx));
    double *const x = data->inputs + k;
    double sum = 0.0, low = x[0], high = x[0];
    for (int64_t j = 0; j < end - k; j += data->dim) {
      sum += x[j];
      low = fmin(low, x[j]);
      high = fmax(high, x[j]);
    }
    /* By equality: the rounded mean of equal numbers may differ from them, and its deviation would then be made 1. In
     * held-out rows too: no sample trains the weights that would meet another value. */
    if (low == high) {
      for (int64_t j = 0; j < all - k; j += data->dim) x[j] = 0.0;
      continue;
    }
    double rest = 0.0; /* the rounding of the first mean; kept apart, as their sum would round it away */
    const double first = sum / n;
    for (int64_t j = 0; j < end - k; j += data->dim) rest += x[j] - first;
    rest /= n;
    const double largest = fmax((high - first) - rest, (first - low) + rest);
    if (!isfinite(largest))
      return sntk_fail(
          ctx, SNTK_ERR_DATA,
          "normalize: the mean or deviation of column %lld (counted from 0) overflows float64; scale the inputs down",
          (long long)k);
    double squares = 0.0;
    for (int64_t j = 0; j < all - k; j += data->dim) {
      x[j] = ((x[j] - first) - rest) / largest;
      if (j < end) squares += x[j] * x[j];
    }
    const double deviation = sqrt(squares / n);
    for (int64_t j = 0; j < all - k; j += data->dim) {
      x[j] /= deviation;
      if (!isfinite(x[j])) return held_out_overflow(ctx, j / data->dim);
    }
  }
  return SNTK_OK;
}

static sntk_status normalize(sntk_context *ctx, sntk_normalize rule, sntk_data *data) {
  switch (rule) {
    case SNTK_NORMALIZE_NONE:
      return SNTK_OK;
    case SNTK_NORMALIZE_UNIT_BALL:
      return to_unit_ball(ctx, data);
    case SNTK_NORMALIZE_UNIT_SPHERE:
      return to_unit_sphere(ctx, data);
    case SNTK_NORMALIZE_STANDARDIZE:
      return standardize(ctx, data);
  }
  return SNTK_ERR_INTERNAL; /* checked with the options */
}

sntk_status sntk_data_create(sntk_context *ctx, const sntk_data_options *options, sntk_data **data) {
  SNTK_NEED(ctx, data, "data");
  *data = NULL;
  SNTK_NEED(ctx, ctx, "ctx");
  SNTK_NEED(ctx, options, "options");
  SNTK_TRY(check_options(ctx, options));
  sntk_data *made = calloc(1, sizeof *made);
  if (!made) return sntk_fail(ctx, SNTK_ERR_MEMORY, "no memory for a data set");
  sntk_array labels = {0};
  sntk_status status =
      is_file(options->source) ? load_files(ctx, options, made, &labels) : sntk_generate_inputs(ctx, options, made);
  if (status == SNTK_OK) status = normalize(ctx, options->normalize, made);
  if (status == SNTK_OK) status = sntk_make_targets(ctx, options, find_rule(options), &labels, made);
  sntk_array_free(&labels);
  if (status != SNTK_OK) {
    sntk_data_free(made);
    return status;
  }
  *data = made;
  return SNTK_OK;
}
