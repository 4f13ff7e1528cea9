/**
 * @file small_run.h
 * @brief A run that passes through every part of the cuda backend, small enough to be repeated once for each call it
 * makes.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_TESTS_SMALL_RUN_H
#define SOFTNTK_TESTS_SMALL_RUN_H

#include <stdio.h>
#include <stdlib.h>

#include "softntk/softntk.h"

enum { SMALL_SAMPLES = 5, SMALL_OUTPUTS = 2, SMALL_WIDTH = 24, SMALL_ROWS = SMALL_SAMPLES * SMALL_OUTPUTS };

/* Moves a network as an adversary would: the kernel's change and its gradient. */
static inline sntk_status small_moves(sntk_context *ctx, const sntk_network_options *options, const double *inputs) {
  sntk_perturb *perturb = NULL;
  int64_t ascents;
  sntk_status status = sntk_perturb_create(ctx, options, inputs, SMALL_SAMPLES, &perturb);
  if (status == SNTK_OK) status = sntk_perturb_adversarial(ctx, perturb, SNTK_GOAL_CHANGE, 0.1, 1, &ascents);
  sntk_perturb_free(perturb);
  return status;
}

/* Trains, takes the Gram matrix and its eigenvalues. `dim` above 128 is beyond the fused gradient. */
static inline sntk_status small_problem(sntk_context *ctx, int64_t dim, sntk_precision precision) {
  sntk_network_options options = SNTK_NETWORK_OPTIONS_INIT;
  options.width = SMALL_WIDTH;
  options.dim = dim;
  options.outputs = SMALL_OUTPUTS;
  options.precision = precision;
  sntk_train_options train = SNTK_TRAIN_OPTIONS_INIT;
  train.steps = 4;
  train.tolerance = 0.0;
  train.kernel_every = 4;
  sntk_train_result result = {0};
  sntk_network *net = NULL;
  double targets[SMALL_ROWS], gram[SMALL_ROWS * SMALL_ROWS], values[SMALL_ROWS];
  double *inputs = malloc((size_t)(SMALL_SAMPLES * dim) * sizeof *inputs);
  if (!inputs) return SNTK_ERR_MEMORY;
  for (int64_t j = 0; j < SMALL_SAMPLES * dim; j++) inputs[j] = sntk_rng_uniform(5, 0, (uint64_t)j) - 0.5;
  for (int j = 0; j < SMALL_ROWS; j++) targets[j] = sntk_rng_uniform(6, 0, (uint64_t)j) - 0.5;
  sntk_status status = sntk_network_create(ctx, &options, &net);
  if (status == SNTK_OK) status = sntk_train(ctx, net, inputs, targets, SMALL_SAMPLES, &train, &result);
  if (status == SNTK_OK) status = sntk_ntk_gram(ctx, net, inputs, SMALL_SAMPLES, gram);
  if (status == SNTK_OK) status = sntk_eigenvalues(ctx, gram, SMALL_ROWS, values);
  if (status == SNTK_OK && precision == SNTK_F32) status = small_moves(ctx, &options, inputs);
  sntk_train_result_clear(&result);
  sntk_network_free(net);
  free(inputs);
  return status;
}

/* Opens the backend, runs, and closes it; `error` is what the context said. */
static inline sntk_status small_run(char *error, size_t size) {
  const sntk_context_options options = {.backend = "cuda"};
  sntk_context *ctx = NULL;
  sntk_status status = sntk_context_create(&ctx);
  if (status == SNTK_OK) status = sntk_context_open(ctx, &options);
  if (status == SNTK_OK) status = small_problem(ctx, 3, SNTK_F32);
  if (status == SNTK_OK) status = small_problem(ctx, 130, SNTK_F64);
  snprintf(error, size, "%s", ctx ? sntk_context_error(ctx) : "no context");
  sntk_context_free(ctx);
  return status;
}

#endif
