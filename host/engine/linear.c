/**
 * @file linear.c
 * @brief The linearized run: training with the kernel held fixed, on the samples and on held-out inputs.
 *
 * With u = F(W0) at the start, u(t+1) = u(t) - eta q H[., samples] (u(t) - y)[samples], H at W0 or at infinite width.
 * On the samples this is gradient descent of the network linearized at W0; on other inputs its prediction, that is
 * kernel regression stopped at step t.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"

/* Without the Gram matrix: the caller fills it. */
void sntk_plan_linear(int64_t samples, int64_t all, int64_t outputs, bool gaussian, sntk_plan *plan) {
  const int64_t size = sntk_size_mul(all, outputs);
  sntk_plan_take(plan, size, sizeof(double));
  sntk_plan_take(plan, sntk_size_mul(samples, outputs), sizeof(double));
  if (!gaussian) return;
  sntk_plan_take(plan, size, sizeof(double));
  sntk_plan_take(plan, sntk_size_mul(all, all), sizeof(double));
}

sntk_status sntk_linear_create(sntk_context *ctx, const sntk_network_options *o, const double *inputs, int64_t samples,
                               int64_t all, bool gaussian, sntk_linear *run) {
  const int64_t p = o->outputs, size = sntk_size_mul(all, p);
  *run = (sntk_linear){.samples = samples, .all = all, .outputs = p};
  sntk_status status = sntk_alloc(ctx, "Gram matrix of the linearized run", sntk_size_mul(size, size),
                                  sizeof *run->gram, (void **)&run->gram);
  if (status == SNTK_OK) status = sntk_alloc(ctx, "linearized run", size, sizeof *run->u, (void **)&run->u);
  if (status == SNTK_OK)
    status = sntk_alloc(ctx, "residuals", sntk_size_mul(samples, p), sizeof *run->residual, (void **)&run->residual);
  if (status == SNTK_OK && gaussian) { /* the limit belongs to Gaussian weights */
    status = sntk_alloc(ctx, "run at infinite width", size, sizeof *run->u_infinite, (void **)&run->u_infinite);
    if (status == SNTK_OK)
      status = sntk_alloc(ctx, "infinite-width kernel", sntk_size_mul(all, all), sizeof *run->infinite,
                          (void **)&run->infinite);
    if (status == SNTK_OK) status = sntk_ntk_infinite(ctx, o->activation, o->sigma, inputs, all, o->dim, run->infinite);
    if (status == SNTK_ERR_OVERFLOW) { /* the limit alone overflows: the run with H at W0 is there all the same */
      free(run->infinite);
      free(run->u_infinite);
      run->infinite = run->u_infinite = NULL;
      status = SNTK_OK;
    }
  }
  if (status != SNTK_OK) sntk_linear_clear(run);
  return status;
}

void sntk_linear_clear(sntk_linear *run) {
  free(run->gram);
  free(run->u);
  free(run->residual);
  free(run->infinite);
  free(run->u_infinite);
  *run = (sntk_linear){0};
}

void sntk_linear_begin(sntk_linear *run, const double *outputs, double rate) {
  const int64_t size = run->all * run->outputs;
  run->rate = rate;
  memcpy(run->u, outputs, (size_t)size * sizeof *run->u);
  if (run->u_infinite) memcpy(run->u_infinite, outputs, (size_t)size * sizeof *run->u);
}

/* Residual of u on the samples, output by output: n numbers each, as the rows of H have them. */
static void residual_of(const sntk_linear *run, const double *u, const double *targets) {
  const int64_t n = run->samples, p = run->outputs;
  for (int64_t l = 0; l < p; l++)
    for (int64_t i = 0; i < n; i++) run->residual[l * n + i] = u[i * p + l] - targets[i * p + l];
}

void sntk_linear_step(sntk_linear *run, const double *targets) {
  const int64_t n = run->samples, all = run->all, p = run->outputs;
  residual_of(run, run->u, targets);
  for (int64_t a = 0; a < all * p; a++) {
    double change = 0.0;
    for (int64_t l = 0; l < p; l++) change += sntk_dot(run->gram + a * all * p + l * all, run->residual + l * n, n);
    run->u[a % all * p + a / all] -= run->rate * change;
  }
  if (!run->u_infinite) return;
  residual_of(run, run->u_infinite, targets);
  for (int64_t a = 0; a < all * p; a++)
    run->u_infinite[a % all * p + a / all] -=
        run->rate * sntk_dot(run->infinite + a % all * all, run->residual + a / all * n, n);
}
