/**
 * @file spectrum.c
 * @brief Largest eigenvalue of J J^T without forming it: Lanczos through u -> J (J^T u).
 *
 * Krylov vectors live in sample space (np numbers each), J^T u a chunk of neurons at a time, so memory does not grow
 * with the width. Full reorthogonalization; accepted by the residual bound |J J^T y - theta y| = beta |s_last|, which
 * bounds the distance of theta to an eigenvalue (Parlett, "The Symmetric Eigenvalue Problem", chapter 13).
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "softntk/rng.h"

enum { MAX_KRYLOV = 60 };
static const double RESIDUAL = 1e-6; /* relative; eta needs no more */

/* out = J (J^T u), both n x p. work: n x (2 + rows) */
static sntk_status apply(sntk_context *ctx, sntk_network *net, sntk_pass *pass, void *const direction[2], int64_t step,
                         const double *u, double *work, double *out) {
  const int64_t n = pass->samples.count, size = n * pass->outputs;
  double *const mean = work + n, *const dot = mean + n;
  const sntk_pull pull = sntk_pass_pull(net, pass, u, net->scale, work);
  memset(mean, 0, (size_t)(n * (1 + pass->rows)) * sizeof *mean);
  for (int64_t at = 0; at < net->v.count; at += step) {
    sntk_neurons chunk;
    SNTK_TRY(sntk_check_interrupt(ctx));
    SNTK_TRY(sntk_pass_chunk(ctx, net, pass, at, net->v.count - at < step ? net->v.count - at : step, &chunk));
    SNTK_TRY(ctx->backend->gradient(ctx, &chunk, &pass->samples, &pull, direction, chunk.count));
    SNTK_TRY(ctx->backend->push(ctx, &chunk, &pass->samples, pass->stats.max, pass->sum,
                                (const void *const[2]){direction[0], direction[1]}, chunk.count, dot, mean));
  }
  sntk_pass_pushed(net, pass, dot, mean, out);
  for (int64_t j = 0; j < size; j++) out[j] *= net->scale;
  return SNTK_OK;
}

/* Does the tridiagonal matrix (alpha, beta) of order k have an eigenvalue above x? The pivots of x - T then are not all
 * positive. */
static bool eigenvalue_above(const double *alpha, const double *beta, int k, double x) {
  double pivot = x - alpha[0];
  for (int j = 1; j < k && pivot > 0.0; j++) pivot = x - alpha[j] - beta[j - 1] * beta[j - 1] / pivot;
  return !(pivot > 0.0);
}

static double tridiagonal_max(const double *alpha, const double *beta, int k) {
  double low = alpha[0], high = alpha[0];
  for (int j = 0; j < k; j++) {
    low = fmax(low, alpha[j]);
    high = fmax(high, alpha[j] + (j > 0 ? fabs(beta[j - 1]) : 0.0) + (j + 1 < k ? fabs(beta[j]) : 0.0));
  }
  high += fabs(high) * 0x1p-50;
  for (int bisect = 0; bisect < 80 && low < high; bisect++) {
    const double middle = 0.5 * (low + high);
    if (eigenvalue_above(alpha, beta, k, middle))
      low = middle;
    else
      high = middle;
  }
  return 0.5 * (low + high);
}

/* |last component| of T's unit eigenvector for its largest eigenvalue: the recurrence from the last row upward, in
 * which the vector grows. */
static double last_component(const double *alpha, const double *beta, int k, double theta) {
  double next = 0.0, here = 1.0, square = 1.0;
  for (int j = k - 1; j > 0; j--) {
    const double up = ((theta - alpha[j]) * here - (j + 1 < k ? beta[j] * next : 0.0)) / beta[j - 1];
    next = here;
    here = up;
    square += up * up;
  }
  return 1.0 / sqrt(square);
}

void sntk_plan_jj_lambda_max(const sntk_context *ctx, const sntk_neurons *shape, int64_t samples, sntk_plan *plan) {
  const int64_t held = plan->held, size = sntk_size_mul(samples, shape->outputs);
  const int64_t step = sntk_chunk_columns(ctx, false, shape->dim, shape->count);
  const int64_t direction = sntk_size_mul(sntk_size_mul(step, shape->dim), (int64_t)sntk_type_size(shape->type));
  sntk_plan_take(plan, sntk_size_mul(size, size < MAX_KRYLOV ? size + 1 : MAX_KRYLOV + 1), sizeof(double));
  sntk_plan_take(plan, sntk_size_add(2 * samples, size), sizeof(double));
  sntk_plan_take(plan, direction, shape->layout == SNTK_LAYOUT_PAIRED ? 2 : 1);
  sntk_plan_drop(plan, held);
}

sntk_status sntk_pass_jj_lambda_max(sntk_context *ctx, sntk_network *net, sntk_pass *pass, double *lambda,
                                    double *bound) {
  const int64_t n = pass->samples.count, p = pass->outputs, size = n * p;
  const int most = size < MAX_KRYLOV ? (int)size : MAX_KRYLOV;
  const int64_t step = sntk_pass_columns(net, pass);
  const int64_t direction_bytes = sntk_size_mul(step * net->v.dim, (int64_t)sntk_type_size(net->v.type));
  double *krylov = NULL, *work = NULL;
  void *direction[2] = {NULL, NULL};
  double alpha[MAX_KRYLOV], beta[MAX_KRYLOV];
  *lambda = 0.0;
  *bound = 0.0;
  sntk_status status =
      sntk_alloc(ctx, "Krylov vectors", sntk_size_mul(size, most + 1), sizeof *krylov, (void **)&krylov);
  if (status == SNTK_OK)
    status = sntk_alloc(ctx, "work space for eta", sntk_size_mul(n, 2 + pass->rows), sizeof *work, (void **)&work);
  for (int h = 0; h < (net->v.layout == SNTK_LAYOUT_PAIRED ? 2 : 1) && status == SNTK_OK; h++)
    status = ctx->backend->alloc(ctx, "directions", direction_bytes, &direction[h]);
  if (status != SNTK_OK) goto cleanup;

  for (int64_t j = 0; j < size; j++) krylov[j] = sntk_rng_normal(net->options.seed, SNTK_STREAM_KRYLOV, (uint64_t)j);
  double norm = sqrt(sntk_dot(krylov, krylov, size));
  for (int64_t j = 0; j < size; j++) krylov[j] /= norm;
  for (int k = 0; k < most; k++) {
    double *q = krylov + k * size, *next = krylov + (k + 1) * size;
    status = apply(ctx, net, pass, direction, step, q, work, next);
    if (status != SNTK_OK) goto cleanup;
    alpha[k] = sntk_dot(q, next, size);
    for (int twice = 0; twice < 2; twice++)
      for (int j = k; j >= 0; j--) {
        const double along = sntk_dot(krylov + j * size, next, size);
        for (int64_t i = 0; i < size; i++) next[i] -= along * krylov[j * size + i];
      }
    norm = sqrt(sntk_dot(next, next, size));
    const double theta = tridiagonal_max(alpha, beta, k + 1);
    if (!isfinite(theta)) {
      status = sntk_fail(ctx, SNTK_ERR_OVERFLOW, "J J^T is not finite; use a smaller sigma, smaller inputs%s",
                         net->v.type == SNTK_F32 ? " or precision f64" : "");
      goto cleanup;
    }
    *lambda = theta;
    *bound = norm * last_component(alpha, beta, k + 1, theta);
    sntk_report_progress(ctx, "eta", k + 1, most, NAN);
    if (*bound <= RESIDUAL * theta) break;
    beta[k] = norm;
    for (int64_t i = 0; i < size; i++) next[i] /= norm;
  }
cleanup:
  ctx->backend->free(ctx, direction[0]);
  ctx->backend->free(ctx, direction[1]);
  free(work);
  free(krylov);
  return status;
}
