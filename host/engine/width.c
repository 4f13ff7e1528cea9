/**
 * @file width.c
 * @brief Trials at one width, the search for the smallest that suffices, and power laws.
 *
 * SPDX-License-Identifier: MIT
 */
#include "softntk/width.h"

#include <math.h>
#include <stdlib.h>

#include "engine/engine.h"
#include "softntk/rng.h"

/* Kernel figures at W0 and at the end only. */
static const int64_t KERNEL_AT_ENDS = INT64_MAX;

sntk_status sntk_width_try(sntk_context *ctx, const sntk_network_options *network, int64_t width, const double *inputs,
                           const double *targets, int64_t samples, const sntk_train_options *train, double ratio,
                           sntk_width_trial *trial) {
  *trial = (sntk_width_trial){.width = width,
                              .loss = NAN,
                              .eta = NAN,
                              .lambda = NAN,
                              .lambda_max = NAN,
                              .lambda_final = NAN,
                              .eta_q_lambda = NAN,
                              .weight_movement = NAN,
                              .kernel_drift = NAN};
  sntk_network_options options = *network;
  options.width = width;
  sntk_train_options train_options = *train;
  train_options.kernel_every = KERNEL_AT_ENDS;
  train_options.record_every = 0;
  sntk_network *net;
  SNTK_TRY(sntk_network_create(ctx, &options, &net));
  sntk_train_result result;
  sntk_status status = sntk_train(ctx, net, inputs, targets, samples, &train_options, &result);
  trial->status = status;
  trial->form = result.form;
  trial->converged = result.converged && status == SNTK_OK;
  trial->steps = result.steps;
  trial->loss = result.loss;
  trial->eta = result.eta;
  trial->lambda = result.lambda_min;
  trial->lambda_max = result.lambda_max;
  trial->lambda_final = result.lambda_min_final;
  trial->eta_q_lambda = result.eta * sntk_kernel_scale(options.activation, options.scale, width) * result.lambda_min;
  trial->weight_movement = result.weight_movement;
  trial->kernel_drift = result.kernel_drift;
  trial->below_resolution = result.below_resolution;
  trial->seconds = result.seconds + result.setup_seconds;
  /* An eigenvalue below the rounding of the matrix is no eigenvalue: the kernel is singular there, and keeps nothing.
   */
  const double eps = sntk_network_get_options(net)->precision == SNTK_F32 ? 0x1p-24 : 0x1p-53;
  const double resolution = eps * (double)(samples * options.outputs) * result.lambda_max;
  trial->kernel_kept =
      status == SNTK_OK && result.lambda_min > resolution && result.lambda_min_final >= ratio * result.lambda_min;
  sntk_train_result_clear(&result);
  sntk_network_free(net);
  return status == SNTK_ERR_OVERFLOW || status == SNTK_ERR_DIVERGED || status == SNTK_ERR_NUMERICAL ? SNTK_OK : status;
}

sntk_status sntk_width_search(sntk_context *ctx, const sntk_width_options *o, sntk_width_test_fn test, void *user,
                              int64_t *width) {
  *width = 0;
  if (o->multiple < 1 || o->min_width < 1 || o->max_width < o->min_width || o->min_width % o->multiple ||
      !(o->resolution >= 0.0))
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT,
                     "widths from %lld to %lld in multiples of %lld: not a range that can be searched",
                     (long long)o->min_width, (long long)o->max_width, (long long)o->multiple);
  const int64_t top = o->max_width / o->multiple * o->multiple;
  int64_t low = 0, high = o->min_width; /* low: too narrow (0: not known), high: to be tried */
  bool suffices = false;
  for (;;) {
    SNTK_TRY(test(user, high, &suffices));
    if (suffices || high == top) break;
    low = high;
    high = high > top / 2 ? top : 2 * high;
  }
  if (!suffices) return SNTK_OK;
  while (low > 0 && high - low > o->multiple && (double)high > (1.0 + o->resolution) * (double)low) {
    const int64_t middle = low + (high - low) / 2 / o->multiple * o->multiple;
    SNTK_TRY(test(user, middle, &suffices));
    if (suffices)
      high = middle;
    else
      low = middle;
  }
  *width = high;
  return SNTK_OK;
}

/* ---- power laws ---- */

enum { RESAMPLES = 2000 };

typedef struct line {
  double slope, intercept, r_squared;
  bool determined; /* at least two distinct x */
} line;

/* Least squares of y on x with weights: how often each pair was drawn. */
static line fit_line(const double *x, const double *y, const int64_t *weight, int64_t count) {
  double w = 0.0, mx = 0.0, my = 0.0;
  for (int64_t j = 0; j < count; j++) {
    w += (double)weight[j];
    mx += (double)weight[j] * x[j];
    my += (double)weight[j] * y[j];
  }
  mx /= w;
  my /= w;
  double xx = 0.0, xy = 0.0, yy = 0.0;
  for (int64_t j = 0; j < count; j++) {
    xx += (double)weight[j] * (x[j] - mx) * (x[j] - mx);
    xy += (double)weight[j] * (x[j] - mx) * (y[j] - my);
    yy += (double)weight[j] * (y[j] - my) * (y[j] - my);
  }
  line fit = {.determined = w > 0.0 && xx > 1e-12 * w};
  if (!fit.determined) return fit;
  fit.slope = xy / xx;
  fit.intercept = my - fit.slope * mx;
  fit.r_squared = yy > 0.0 ? xy * xy / (xx * yy) : 1.0;
  return fit;
}

static int ascending(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

sntk_status sntk_power_law(sntk_context *ctx, const double *x, const double *y, const int64_t *group, int64_t count,
                           int64_t groups, uint64_t seed, sntk_power_fit *fit) {
  *fit = (sntk_power_fit){.points = count, .exponent = NAN, .factor = NAN, .low = NAN, .high = NAN, .r_squared = NAN};
  if (count < 2 || groups < 1) return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "a power law needs at least two points");
  for (int64_t j = 0; j < count; j++)
    if (!(x[j] > 0.0 && y[j] > 0.0 && isfinite(x[j]) && isfinite(y[j])) || group[j] < 0 || group[j] >= groups)
      return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "a power law needs positive values: pair %lld is (%g, %g)", (long long)j,
                       x[j], y[j]);
  double *logs = NULL, *slopes = NULL;
  int64_t *weights = NULL;
  sntk_status status = sntk_alloc(ctx, "logarithms", 2 * count, sizeof *logs, (void **)&logs);
  if (status == SNTK_OK) status = sntk_alloc(ctx, "bootstrap", RESAMPLES, sizeof *slopes, (void **)&slopes);
  if (status == SNTK_OK)
    status = sntk_alloc(ctx, "bootstrap", sntk_size_add(count, groups), sizeof *weights, (void **)&weights);
  if (status != SNTK_OK) goto cleanup;
  double *const lx = logs, *const ly = logs + count;
  int64_t *const drawn = weights + count;
  for (int64_t j = 0; j < count; j++) {
    lx[j] = log(x[j]);
    ly[j] = log(y[j]);
    weights[j] = 1;
  }
  const line best = fit_line(lx, ly, weights, count);
  if (!best.determined) {
    status = sntk_fail(ctx, SNTK_ERR_ARGUMENT, "a power law needs at least two distinct abscissas");
    goto cleanup;
  }
  fit->exponent = best.slope;
  fit->factor = exp(best.intercept);
  fit->r_squared = best.r_squared;
  int64_t used = 0, present = 0;
  for (int64_t g = 0; g < groups; g++) drawn[g] = 0;
  for (int64_t j = 0; j < count; j++) drawn[group[j]] = 1;
  for (int64_t g = 0; g < groups; g++) present += drawn[g];
  for (uint64_t b = 0; b < RESAMPLES && present > 1; b++) {
    for (int64_t g = 0; g < groups; g++) drawn[g] = 0;
    for (int64_t g = 0; g < groups; g++) {
      const double u = sntk_rng_uniform(seed, SNTK_STREAM_BOOTSTRAP, b * (uint64_t)groups + (uint64_t)g);
      drawn[(int64_t)(u * (double)groups)]++;
    }
    for (int64_t j = 0; j < count; j++) weights[j] = drawn[group[j]];
    const line resampled = fit_line(lx, ly, weights, count);
    if (resampled.determined) slopes[used++] = resampled.slope;
  }
  if (used >= RESAMPLES / 2) { /* else too few draws determine a line for percentiles to mean anything */
    qsort(slopes, (size_t)used, sizeof *slopes, ascending);
    fit->low = slopes[(int64_t)(0.025 * (double)(used - 1))];
    fit->high = slopes[(int64_t)ceil(0.975 * (double)(used - 1))];
  }
cleanup:
  free(weights);
  free(slopes);
  free(logs);
  return status;
}
