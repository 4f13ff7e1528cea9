/**
 * @file width.c
 * @brief Trials at one width, and the search for the smallest that suffices.
 *
 * SPDX-License-Identifier: MIT
 */
#include "softntk/width.h"

#include <math.h>
#include <stdlib.h>

#include "engine/engine.h"

/* Kernel figures at W0 and at the end only. */
static const int64_t KERNEL_AT_ENDS = INT64_MAX;

sntk_status sntk_width_try(sntk_context *ctx, const sntk_network_options *network, int64_t width, const double *inputs,
                           const double *targets, int64_t samples, const sntk_train_options *train, double ratio,
                           sntk_width_trial *trial) {
  SNTK_NEED(ctx, trial, "trial");
  *trial = (sntk_width_trial){.width = width,
                              .loss = NAN,
                              .eta = NAN,
                              .lambda = NAN,
                              .lambda_max = NAN,
                              .lambda_final = NAN,
                              .eta_q_lambda = NAN,
                              .weight_movement = NAN,
                              .kernel_drift = NAN};
  SNTK_NEED_OPEN(ctx);
  SNTK_NEED(ctx, network, "network");
  SNTK_NEED(ctx, train, "train");
  if (!(ratio > 0.0 && ratio <= 1.0))
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "ratio %g must be above 0 and at most 1", ratio);
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
  SNTK_NEED(ctx, width, "width");
  *width = 0;
  SNTK_NEED(ctx, ctx, "ctx");
  SNTK_NEED(ctx, o, "options");
  SNTK_NEED(ctx, test, "test");
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
