/**
 * @file ref.c
 * @brief The oracle: serial float64 loops that read like the formulas. Plain layout only.
 *
 * Slow on purpose: one logit at a time, recomputed wherever it is needed, nothing of size n x m stored, no library
 * beneath but libm.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/backend.h"
#include "backends/ref/ref_linalg.h"
#include "softntk/rng.h"

static sntk_status ref_open(sntk_context *ctx, int device) {
  if (device != 0) return sntk_fail(ctx, SNTK_ERR_DEVICE, "backend ref has no device %d; use device 0", device);
  ctx->threads = 1;
  snprintf(ctx->device_name, sizeof ctx->device_name, "host, serial float64 loops");
  return SNTK_OK;
}

static void ref_close(sntk_context *ctx) { (void)ctx; }

static sntk_precision ref_precision(const sntk_context *ctx, sntk_precision wanted) {
  (void)ctx;
  (void)wanted;
  return SNTK_F64;
}

static bool ref_supports(const sntk_context *ctx, sntk_layout layout) {
  (void)ctx;
  return layout == SNTK_LAYOUT_PLAIN;
}

/* A neuron's gradient, or its features and twice M times them. */
static void ref_plan(const sntk_context *ctx, const sntk_neurons *shape, int64_t samples, int work, sntk_plan *plan) {
  (void)ctx;
  (void)work;
  sntk_plan_brief(plan, sntk_size_add(shape->dim, sntk_size_mul(2 * samples, shape->outputs)), sizeof(double));
}

static sntk_status ref_alloc(sntk_context *ctx, const char *what, int64_t bytes, void **out) {
  SNTK_TRY(sntk_alloc(ctx, what, bytes, 1, out));
  memset(*out, 0, (size_t)bytes);
  return SNTK_OK;
}

static void ref_free(sntk_context *ctx, void *pointer) {
  (void)ctx;
  free(pointer);
}

static sntk_status ref_copy(sntk_context *ctx, void *to, const void *from, int64_t bytes) {
  (void)ctx;
  memcpy(to, from, (size_t)bytes);
  return SNTK_OK;
}

/* ---- accessors: W (d x m), A (p x m), X (n x d) ---- */

static double weight(const sntk_neurons *v, int64_t k, int64_t r) { return ((const double *)v->base)[k * v->ld + r]; }

static double sign(const sntk_neurons *v, int64_t l, int64_t r) { return v->signs[l * v->ld_signs + r]; }

static double input(const sntk_samples *s, int64_t i, int64_t k) { return ((const double *)s->x)[i * s->dim + k]; }

/* Z_ir = x_i . w_r */
static double logit(const sntk_samples *s, const sntk_neurons *v, int64_t i, int64_t r) {
  double z = 0.0;
  for (int64_t k = 0; k < v->dim; k++) z += input(s, i, k) * weight(v, k, r);
  return z;
}

/* S_ir (softmax), exp(z) (exp) or [z > 0] (relu): what multiplies (r A - c) in G, and A - f in the features. */
static double slope(const sntk_neurons *v, double z, const double *max, const double *sum, int64_t i) {
  switch (v->activation) {
    case SNTK_SOFTMAX:
      return exp(z - max[i]) / sum[i];
    case SNTK_EXP:
      return exp(z);
    default:
      return z > 0.0 ? 1.0 : 0.0;
  }
}

static sntk_status ref_random_weights(sntk_context *ctx, const sntk_source *source, int64_t first, sntk_neurons *v) {
  (void)ctx;
  double *base = v->base;
  for (int64_t r = 0; r < v->count; r++) {
    const int64_t q = source->symmetric ? (first + r) / 2 : first + r;
    for (int64_t k = 0; k < v->dim; k++)
      base[k * v->ld + r] =
          (float)source->sigma * sntk_rng_normal(source->seed, SNTK_STREAM_WEIGHTS, (uint64_t)(k + v->dim * q));
  }
  return SNTK_OK;
}

static sntk_status ref_random_signs(sntk_context *ctx, const sntk_source *source, int64_t first, sntk_neurons *v) {
  (void)ctx;
  for (int64_t r = 0; r < v->count; r++) {
    const int64_t q = source->symmetric ? (first + r) / 2 : first + r;
    const int flip = source->symmetric && (first + r) % 2 ? -1 : 1;
    for (int64_t l = 0; l < v->outputs; l++) {
      const uint32_t word = sntk_rng_word(source->seed, SNTK_STREAM_SIGNS, (uint64_t)(l + v->outputs * q));
      v->signs[l * v->ld_signs + r] = (int8_t)(word >> 31 ? -flip : flip);
    }
  }
  return SNTK_OK;
}

static sntk_status ref_statistics(sntk_context *ctx, const sntk_neurons *v, const sntk_samples *s, sntk_stats *stats) {
  const int64_t p = v->outputs;
  double *t;
  SNTK_TRY(sntk_alloc(ctx, "signed sums", p, sizeof *t, (void **)&t));
  sntk_status status = SNTK_OK;
  for (int64_t i = 0; i < s->count && status == SNTK_OK; i++) {
    double max = v->activation == SNTK_SOFTMAX ? -INFINITY : 0.0, sum = 0.0;
    memset(t, 0, (size_t)p * sizeof *t);
    bool finite = true;
    if (v->activation == SNTK_SOFTMAX)
      for (int64_t r = 0; r < v->count; r++) max = fmax(max, logit(s, v, i, r));
    for (int64_t r = 0; r < v->count; r++) {
      const double z = logit(s, v, i, r);
      const double phi = v->activation == SNTK_RELU ? (z > 0.0 ? z : 0.0) : exp(z - max);
      finite = finite && isfinite(z) && isfinite(phi);
      if (v->activation == SNTK_SOFTMAX) sum += phi;
      for (int64_t l = 0; l < p; l++) t[l] += sign(v, l, r) * phi;
    }
    if (!finite)
      status = sntk_fail(
          ctx, SNTK_ERR_OVERFLOW,
          "sample %lld: a logit or activation is not finite; use a smaller sigma, smaller inputs or a smaller eta",
          (long long)i);
    sntk_merge(&stats->max[i], &stats->sum[i], &stats->t[i * p], max, sum, t, p);
  }
  free(t);
  return status;
}

/* out_k = sum_i x_ik G_ir of neuron r: a neuron's gradient needs that neuron's weights only. */
static void neuron_gradient(const sntk_neurons *v, const sntk_samples *s, const sntk_pull *pull, int64_t r, double *out,
                            int64_t ld) {
  for (int64_t k = 0; k < v->dim; k++) out[k * ld] = 0.0;
  for (int64_t i = 0; i < s->count; i++) {
    double ra = 0.0;
    for (int64_t l = 0; l < v->outputs; l++) ra += pull->r[i * v->outputs + l] * sign(v, l, r);
    const double g = pull->scale * slope(v, logit(s, v, i, r), pull->max, pull->sum, i) * (ra - pull->c[i]);
    for (int64_t k = 0; k < v->dim; k++) out[k * ld] += input(s, i, k) * g;
  }
}

static sntk_status ref_gradient(sntk_context *ctx, const sntk_neurons *v, const sntk_samples *s, const sntk_pull *pull,
                                void *const out[2], int64_t ld) {
  (void)ctx;
  for (int64_t r = 0; r < v->count; r++) neuron_gradient(v, s, pull, r, (double *)out[0] + r, ld);
  return SNTK_OK;
}

static sntk_status ref_descent(sntk_context *ctx, sntk_neurons *v, const sntk_samples *s, const sntk_pull *pull,
                               double eta, double norms[2], sntk_stats *next) {
  double *gradient;
  SNTK_TRY(sntk_alloc(ctx, "gradient of a neuron", v->dim, sizeof *gradient, (void **)&gradient));
  double *w = v->base;
  for (int64_t r = 0; r < v->count; r++) {
    neuron_gradient(v, s, pull, r, gradient, 1);
    for (int64_t k = 0; k < v->dim; k++) {
      const double update = -eta * gradient[k], before = w[k * v->ld + r], after = before + update;
      w[k * v->ld + r] = after;
      norms[0] += update * update;
      norms[1] += (after - before - update) * (after - before - update);
    }
  }
  free(gradient);
  return next ? ref_statistics(ctx, v, s, next) : SNTK_OK;
}

static sntk_status ref_push(sntk_context *ctx, const sntk_neurons *v, const sntk_samples *s, const double *max,
                            const double *sum, const void *const direction[2], int64_t ld, double *dot, double *mean) {
  (void)ctx;
  const double *d = direction[0];
  for (int64_t i = 0; i < s->count; i++)
    for (int64_t r = 0; r < v->count; r++) {
      double xv = 0.0;
      for (int64_t k = 0; k < v->dim; k++) xv += input(s, i, k) * d[k * ld + r];
      const double part = slope(v, logit(s, v, i, r), max, sum, i) * xv;
      mean[i] += part;
      for (int64_t l = 0; l < v->outputs; l++) dot[i * v->outputs + l] += sign(v, l, r) * part;
    }
  return SNTK_OK;
}

static sntk_status ref_features(sntk_context *ctx, const sntk_neurons *v, const sntk_samples *s, const double *max,
                                const double *sum, const double *away, void *u, int64_t ld) {
  (void)ctx;
  double *rows = u;
  const double root = sqrt((double)v->width);
  for (int64_t i = 0; i < s->count; i++)
    for (int64_t r = 0; r < v->count; r++) {
      const double g = slope(v, logit(s, v, i, r), max, sum, i);
      for (int64_t l = 0; l < v->outputs; l++)
        rows[(i + s->count * l) * ld + r] = v->activation == SNTK_SOFTMAX
                                                ? root * g * away[2 * (i * v->outputs + l) + (sign(v, l, r) < 0.0)]
                                                : g * sign(v, l, r) / root;
    }
  return SNTK_OK;
}

static sntk_status ref_gram_add(sntk_context *ctx, sntk_precision type, const void *u, int64_t rows, int64_t cols,
                                int64_t ld, double *gram) {
  (void)ctx;
  (void)type; /* always float64 here */
  const double *features = u;
  for (int64_t a = 0; a < rows; a++)
    for (int64_t b = 0; b <= a; b++)
      for (int64_t r = 0; r < cols; r++) gram[a * rows + b] += features[a * ld + r] * features[b * ld + r];
  return SNTK_OK;
}

/* v = 2 M U of one neuron, np numbers, from its features u. */
static void weigh(int64_t rows, const double *matrix, const double *u, double *v) {
  for (int64_t a = 0; a < rows; a++) {
    v[a] = 0.0;
    for (int64_t b = 0; b < rows; b++) v[a] += 2.0 * matrix[a * rows + b] * u[b];
  }
}

static sntk_status ref_kernel_gradient(sntk_context *ctx, const sntk_neurons *v, const sntk_samples *s,
                                       const double *max, const double *sum, const double *away, const double *band,
                                       const double *matrix, void *out, int64_t ld, double *sums) {
  const int64_t n = s->count, p = v->outputs, rows = n * p;
  const double root = sqrt((double)v->width);
  double *u, *weighed, *gradient = out;
  SNTK_TRY(sntk_alloc(ctx, "features of a neuron", 2 * rows, sizeof *u, (void **)&u));
  weighed = u + rows;
  for (int64_t r = 0; r < v->count; r++) {
    const sntk_neurons one = sntk_neurons_slice(v, r, 1);
    const sntk_status status = ref_features(ctx, &one, s, max, sum, away, u, 1);
    if (status != SNTK_OK) {
      free(u);
      return status;
    }
    weigh(rows, matrix, u, weighed);
    for (int64_t k = 0; k < v->dim && !sums; k++) gradient[k * ld + r] = 0.0;
    for (int64_t i = 0; i < n; i++) {
      const double z = logit(s, v, i, r);
      double zbar = 0.0;
      for (int64_t l = 0; l < p; l++) {
        const double vil = weighed[i + n * l];
        if (sums)
          sums[i * p + l] += vil * root * slope(v, z, max, sum, i);
        else if (v->activation != SNTK_RELU)
          zbar += vil * u[i + n * l];
        else if (fabs(z) < band[i])
          zbar += vil * sign(v, l, r) / (2.0 * band[i] * root);
      }
      for (int64_t k = 0; k < v->dim && !sums; k++) gradient[k * ld + r] += input(s, i, k) * zbar;
    }
  }
  free(u);
  return SNTK_OK;
}

static sntk_status ref_gram_finish(sntk_context *ctx, const sntk_samples *s, int64_t outputs, double *gram) {
  (void)ctx;
  const int64_t n = s->count, size = n * outputs;
  for (int64_t a = 0; a < size; a++)
    for (int64_t b = 0; b <= a; b++) {
      double k = 0.0;
      for (int64_t j = 0; j < s->dim; j++) k += s->x64[a % n * s->dim + j] * s->x64[b % n * s->dim + j];
      gram[a * size + b] *= k;
      gram[b * size + a] = gram[a * size + b];
    }
  return SNTK_OK;
}

static sntk_status ref_movement(sntk_context *ctx, const sntk_neurons *v, const void *origin, int64_t ld,
                                double *movement) {
  (void)ctx;
  const double *w0 = origin;
  for (int64_t r = 0; r < v->count && w0;
       r++) { /* plain weights are their own base: without an origin nothing has moved */
    double square = 0.0;
    for (int64_t k = 0; k < v->dim; k++) {
      const double moved = weight(v, k, r) - w0[k * ld + r];
      square += moved * moved;
    }
    *movement = fmax(*movement, sqrt(square));
  }
  return SNTK_OK;
}

static sntk_status ref_read_weights(sntk_context *ctx, const sntk_neurons *v, double *out, int64_t ld) {
  (void)ctx;
  for (int64_t k = 0; k < v->dim; k++)
    for (int64_t r = 0; r < v->count; r++) out[k * ld + r] = weight(v, k, r);
  return SNTK_OK;
}

/* The operations of the displacement form are absent: supports() says so, and the engine asks before it chooses a
 * layout. */
const sntk_backend sntk_backend_ref = {
    .name = "ref",
    .feature_slabs = 1,
    .chunk_columns = 1 << 16,
    .open = ref_open,
    .close = ref_close,
    .precision = ref_precision,
    .supports = ref_supports,
    .plan = ref_plan,
    .alloc = ref_alloc,
    .free = ref_free,
    .upload = ref_copy,
    .download = ref_copy,
    .random_weights = ref_random_weights,
    .random_signs = ref_random_signs,
    .statistics = ref_statistics,
    .gradient = ref_gradient,
    .descent = ref_descent,
    .push = ref_push,
    .features = ref_features,
    .gram_add = ref_gram_add,
    .kernel_gradient = ref_kernel_gradient,
    .gram_finish = ref_gram_finish,
    .eigenvalues = sntk_ref_eigenvalues,
    .movement = ref_movement,
    .read_weights = ref_read_weights,
};
