/**
 * @file generate.c
 * @brief Synthetic inputs: uniform on the sphere, Gaussian, clusters.
 *
 * Stream INPUTS holds normal k + dim i for column k of row i, and from CENTRES on normal CENTRES + k + dim c for column
 * k of centre c. Neither depends on how many rows there are, so a data set of n rows is the beginning of that of 2n
 * (before a normalization that looks at all rows), and held-out rows, which come behind the samples, change no sample.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdlib.h>

#include "data/loaders.h"
#include "softntk/rng.h"

enum { BATCH = 1024 };

/* Behind every row that fits a memory: 2^48 float64 numbers are 2 PiB. */
#define CENTRES (UINT64_C(1) << 48)

sntk_status sntk_fill_normals(sntk_context *ctx, uint64_t seed, uint64_t stream, uint64_t first, int64_t count,
                              double *out) {
  float batch[BATCH];
  for (int64_t done = 0; done < count; done += BATCH) {
    SNTK_TRY(sntk_check_interrupt(ctx));
    const int64_t part = count - done < BATCH ? count - done : BATCH;
    sntk_rng_normals(seed, stream, first + (uint64_t)done, part, batch);
    for (int64_t j = 0; j < part; j++) out[done + j] = (double)batch[j];
  }
  return SNTK_OK;
}

void sntk_make_direction(double *row, int64_t dim) {
  const double norm = sntk_row_norm(row, dim);
  /* A normal can be exactly 0, so in few dimensions a row can; one fixed direction of so rare a row changes no
   * statistic. */
  if (norm == 0.0) row[0] = 1.0;
  for (int64_t k = 0; norm > 0.0 && k < dim; k++) row[k] /= norm;
}

static sntk_status make_clusters(sntk_context *ctx, const sntk_data_options *options, sntk_data *data) {
  const int64_t dim = data->dim, clusters = options->clusters;
  void *memory;
  SNTK_TRY(sntk_check_memory(ctx, "cluster centres", clusters, dim));
  SNTK_TRY(sntk_alloc(ctx, "cluster centres", clusters * dim, sizeof(double), &memory));
  double *centres = memory;
  sntk_status status = sntk_fill_normals(ctx, options->seed, SNTK_STREAM_INPUTS, CENTRES, clusters * dim, centres);
  for (int64_t c = 0; c < clusters && status == SNTK_OK; c++) sntk_make_direction(centres + c * dim, dim);
  const double root = sqrt((double)dim);
  for (int64_t i = 0; i < sntk_data_rows(data) && status == SNTK_OK; i++) {
    const double *centre = centres + i % clusters * dim;
    double *row = data->inputs + i * dim;
    for (int64_t k = 0; k < dim; k++) row[k] = centre[k] + options->spread * row[k] / root;
  }
  free(centres);
  return status;
}

sntk_status sntk_generate_inputs(sntk_context *ctx, const sntk_data_options *options, sntk_data *data) {
  const int64_t samples = options->samples, dim = options->dim;
  if (samples < 1)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "samples is %lld; synthetic data need at least 1", (long long)samples);
  if (dim < 1) return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "dim is %lld; synthetic data need at least 1", (long long)dim);
  if (options->source == SNTK_DATA_CLUSTERS) {
    if (options->clusters < 1 || options->clusters > samples)
      return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "clusters is %lld; it must be from 1 to the number of samples, %lld",
                       (long long)options->clusters, (long long)samples);
    if (!(options->spread >= 0.0 && isfinite(options->spread)))
      return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "spread is %g; it must be finite and at least 0", options->spread);
  }
  data->samples = samples;
  data->test_samples = options->test_samples;
  data->dim = dim;
  const int64_t rows = sntk_data_rows(data);
  SNTK_TRY(sntk_check_memory(ctx, "inputs", rows, dim));
  void *inputs;
  SNTK_TRY(sntk_alloc(ctx, "inputs", sntk_size_mul(rows, dim), sizeof(double), &inputs));
  data->inputs = inputs;
  SNTK_TRY(sntk_fill_normals(ctx, options->seed, SNTK_STREAM_INPUTS, 0, rows * dim, data->inputs));
  if (options->source == SNTK_DATA_CLUSTERS) return make_clusters(ctx, options, data);
  const double root = sqrt((double)dim);
  for (int64_t i = 0; i < rows; i++) {
    SNTK_TRY(sntk_check_interrupt(ctx));
    double *row = data->inputs + i * dim;
    if (options->source == SNTK_DATA_SPHERE) {
      sntk_make_direction(row, dim);
    } else {
      for (int64_t k = 0; k < dim; k++) row[k] /= root;
    }
  }
  return SNTK_OK;
}
