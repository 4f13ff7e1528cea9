/**
 * @file test_cpu.c
 * @brief Every operation of the cpu backend against ref in float64: odd sizes, both types, all layouts, each
 * instruction set.
 *
 * Bounds are first-order rounding bounds, entry by entry, in u = eps of the type plus eps of ref's float64, with
 * - L_i = (d + 2) |x_i| max_r (|base_r| + |shift_r|): error of a logit,
 * - E_i = 1.5 max_r |z_ir - max_i| + 8: rounding of an exponential's argument, the exponential (2 ulp) and a few
 *   products,
 * - h: the longest chain of additions in the type, see chain().
 * relu's data are multiples of small powers of two, so that its logits are exact and no comparison with zero depends on
 * rounding; some of them are exactly zero.
 *
 * SPDX-License-Identifier: MIT
 */
#include "support.h"

#include <stdio.h>

#include "backends/backend.h"
#include "backends/cpu/kernels.h"

#define LENGTH(array) (int64_t)(sizeof(array) / sizeof *(array))

enum { PAD = 3 }; /* columns between a row's end and the next row: they must stay as they are */
static const double SENTINEL = -12345.0;

typedef struct shape {
  int64_t n, d, count, p; /* count: columns, in the paired layout pairs */
} shape;

/* A range of neurons, what ref makes of it, and the bounds' ingredients. */
typedef struct problem {
  shape s;
  sntk_activation activation;
  sntk_layout layout;
  sntk_precision type;
  int64_t m;                            /* neurons */
  double *x, *base, *shift[2], *origin; /* n x d; d x count */
  int8_t *signs;                        /* p x count */
  double *w;                            /* d x m: single neurons, as ref sees them */
  int8_t *a;                            /* p x m */
  double *r, *c, *v;                    /* n x p, n, d x m */
  double scale;
  double *max, *sum, *t, *f;                  /* ref at the weights */
  double *away;                               /* n x p x 2: 1 - f and -1 - f */
  double *base_max, *base_sum, *base_t;       /* ref at the base */
  double *fixed;                              /* the maximum that slopes are taken against */
  double *whole;                              /* the normalizer against that maximum */
  double *gradient, *dot, *mean, *u, *gram;   /* ref; gram NULL where it would take too long */
  double *slope;                              /* n x m */
  double *logit_error, *exp_error, *x_norm;   /* L_i, E_i, |x_i| */
  double *sum_bound, *t_bound, *change_bound; /* of whole sums, and of the change against the base, in units of u */
  double *base_bound;                         /* of sums of the base */
  double *gradient_bound, *gram_bound;        /* of entries */
  double shift_max, shift_norm;
} problem;

static double eps_of(sntk_precision type) { return (type == SNTK_F32 ? EPS32 : EPS64) + EPS64; }

static double rounded(sntk_precision type, double value) { return type == SNTK_F32 ? (double)(float)value : value; }

/* A lane adds a chunk's 4096 numbers in vectors of 2 to 16, so up to 2048; 272 is kept as the bound, which the errors'
 * different signs leave room for. */
static double chain(int64_t count) {
  const double pieces = ceil((double)count / 256.0);
  return (count < 256 ? (double)count : 256.0) + (pieces < 16.0 ? pieces : 16.0);
}

static double column_norm(const double *matrix, int64_t d, int64_t ld, int64_t column) {
  double square = 0.0;
  for (int64_t k = 0; k < d; k++) square += matrix[k * ld + column] * matrix[k * ld + column];
  return sqrt(square);
}

/* Column of a single neuron: (half, column). */
static int half_of(const problem *q, int64_t r) { return q->layout == SNTK_LAYOUT_PAIRED ? (int)(r % 2) : 0; }
static int64_t column_of(const problem *q, int64_t r) { return q->layout == SNTK_LAYOUT_PAIRED ? r / 2 : r; }

static double shift_of(const problem *q, int64_t k, int64_t r) {
  return q->shift[half_of(q, r)][k * q->s.count + column_of(q, r)];
}

/* Inputs, weights and shifts. `size` is the largest |x . shift| but for relu, whose shifts are multiples of 2^-12. */
static void make_data(problem *q, uint64_t seed, double size) {
  const int64_t n = q->s.n, d = q->s.d, count = q->s.count, p = q->s.p;
  const bool exact = q->activation == SNTK_RELU;
  const int shifts = q->layout == SNTK_LAYOUT_PLAIN ? 0 : q->layout == SNTK_LAYOUT_PAIRED ? 2 : 1;
  for (int64_t j = 0; j < n * d; j++)
    q->x[j] = exact ? rint(8.0 * uniform(seed, j)) / 8.0 : rounded(q->type, uniform(seed, j) / sqrt((double)d));
  for (int64_t j = 0; j < d * count; j++) {
    q->base[j] = exact ? rint(32.0 * uniform(seed + 1, j)) / 16.0 : rounded(q->type, 1.5 * normal(seed + 1, j));
    for (int h = 0; h < shifts; h++) {
      const double part = uniform(seed + 2 + (uint64_t)h, j);
      q->shift[h][j] = exact ? rint(part * size * 1024.0) / 4096.0 : rounded(q->type, part * size / sqrt((double)d));
    }
    q->origin[j] = rounded(q->type, q->base[j] + 0.125 * uniform(seed + 4, j));
  }
  for (int64_t j = 0; j < p * count; j++) q->signs[j] = uniform(seed + 5, j) < 0.0 ? -1 : 1;
  for (int64_t j = 0; j < n * p; j++) q->r[j] = uniform(seed + 6, j);
  for (int64_t j = 0; j < d * q->m; j++) q->v[j] = rounded(q->type, uniform(seed + 7, j));
  /* the same network neuron by neuron */
  const int each = q->layout == SNTK_LAYOUT_PAIRED ? 2 : 1;
  for (int64_t r = 0; r < q->m; r++) {
    const int64_t j = r / each;
    const int h = (int)(r % each);
    for (int64_t k = 0; k < d; k++)
      q->w[k * q->m + r] = q->base[k * count + j] + (shifts ? q->shift[h][k * count + j] : 0.0);
    for (int64_t l = 0; l < p; l++)
      q->a[l * q->m + r] = (int8_t)(h ? -q->signs[l * count + j] : q->signs[l * count + j]);
  }
}

static sntk_neurons ref_view(const problem *q, double *weights) {
  return (sntk_neurons){.activation = q->activation,
                        .layout = SNTK_LAYOUT_PLAIN,
                        .type = SNTK_F64,
                        .width = q->m,
                        .count = q->m,
                        .dim = q->s.d,
                        .outputs = q->s.p,
                        .base = weights,
                        .signs = q->a,
                        .ld = q->m,
                        .ld_signs = q->m};
}

static sntk_stats empty_stats(const problem *q, double *max, double *sum, double *t) {
  for (int64_t i = 0; i < q->s.n; i++) max[i] = q->activation == SNTK_SOFTMAX ? -INFINITY : 0.0;
  memset(sum, 0, (size_t)q->s.n * sizeof *sum);
  memset(t, 0, (size_t)(q->s.n * q->s.p) * sizeof *t);
  return (sntk_stats){.samples = q->s.n, .outputs = q->s.p, .max = max, .sum = sum, .t = t};
}

/* Base weights of single neurons. */
static double *single_base(const problem *q) {
  const int each = q->layout == SNTK_LAYOUT_PAIRED ? 2 : 1;
  double *w0 = reals(q->s.d * q->m);
  for (int64_t k = 0; k < q->s.d; k++)
    for (int64_t r = 0; r < q->m; r++) w0[k * q->m + r] = q->base[k * q->s.count + r / each];
  return w0;
}

/* Bound on an entry of X^T G, in units of u. */
static double gradient_entry_bound(const problem *q, int64_t k, int64_t r) {
  const int64_t n = q->s.n, p = q->s.p;
  double bound = 0.0;
  for (int64_t i = 0; i < n; i++) {
    double size = fabs(q->c[i]);
    for (int64_t l = 0; l < p; l++) size += fabs(q->r[i * p + l]);
    bound += fabs(q->x[i * q->s.d + k]) * q->scale * q->slope[i * q->m + r] * size *
             (q->logit_error[i] + q->exp_error[i] + (double)(p + n) + 6.0);
  }
  return bound;
}

/* Bound on an entry of H, in units of u. */
static double gram_entry_bound(const problem *q, int64_t a, int64_t b) {
  const int64_t n = q->s.n, p = q->s.p, m = q->m, i = a % n, j = b % n;
  const bool softmax = q->activation == SNTK_SOFTMAX;
  double size = 0.0;
  for (int64_t r = 0; r < m; r++) size += q->slope[i * m + r] * q->slope[j * m + r];
  size *= softmax ? (double)m * (1.0 + fabs(q->f[i * p + a / n])) * (1.0 + fabs(q->f[j * p + b / n])) : 1.0 / (double)m;
  const double each = q->logit_error[i] + q->logit_error[j] + q->exp_error[i] + q->exp_error[j] + 12.0 + (double)m;
  return (each + (double)q->s.d) * size * q->x_norm[i] * q->x_norm[j];
}

/* Ref's answers, and what the bounds are made of. */
static void solve(sntk_context *ref, problem *q) {
  const int64_t n = q->s.n, d = q->s.d, p = q->s.p, m = q->m;
  const sntk_samples samples = {.count = n, .dim = d, .type = SNTK_F64, .x = q->x, .x64 = q->x};
  const sntk_backend *backend = ref->backend;
  const bool softmax = q->activation == SNTK_SOFTMAX, shifted = q->layout != SNTK_LAYOUT_PLAIN;
  double *w0 = single_base(q);
  sntk_neurons v = ref_view(q, q->w), v0 = ref_view(q, w0);
  sntk_stats stats = empty_stats(q, q->max, q->sum, q->t), base = empty_stats(q, q->base_max, q->base_sum, q->base_t);
  assert_ok(ref, backend->statistics(ref, &v, &samples, &stats));
  assert_ok(ref, backend->statistics(ref, &v0, &samples, &base));
  for (int64_t i = 0; i < n; i++) {
    q->fixed[i] = shifted ? q->base_max[i] : q->max[i];
    q->whole[i] = softmax ? q->sum[i] * exp(q->max[i] - q->fixed[i]) : 0.0;
    q->c[i] = 0.0;
    for (int64_t l = 0; l < p; l++) {
      q->f[i * p + l] = softmax ? q->t[i * p + l] / q->sum[i] : q->t[i * p + l];
      if (softmax) q->c[i] += q->r[i * p + l] * q->f[i * p + l];
      q->away[2 * (i * p + l)] = 1.0 - q->f[i * p + l];
      q->away[2 * (i * p + l) + 1] = -1.0 - q->f[i * p + l];
    }
  }
  const sntk_pull pull = {.scale = q->scale, .max = q->max, .sum = q->sum, .r = q->r, .c = q->c};
  assert_ok(ref, backend->gradient(ref, &v, &samples, &pull, (void *const[2]){q->gradient, NULL}, m));
  assert_ok(ref,
            backend->push(ref, &v, &samples, q->max, q->sum, (const void *const[2]){q->v, NULL}, m, q->dot, q->mean));
  assert_ok(ref, backend->features(ref, &v, &samples, q->max, q->sum, q->away, q->u, m));
  if (q->gram) {
    assert_ok(ref, backend->gram_add(ref, SNTK_F64, q->u, n * p, m, m, q->gram));
    assert_ok(ref, backend->gram_finish(ref, &samples, p, q->gram));
  }
  double weight_norm = 0.0;
  for (int64_t r = 0; r < m; r++) {
    double of_shift = 0.0;
    for (int64_t k = 0; k < d; k++) of_shift = hypot(of_shift, shift_of(q, k, r));
    q->shift_norm = fmax(q->shift_norm, of_shift);
    weight_norm = fmax(weight_norm, column_norm(w0, d, m, r) + of_shift);
  }
  const double h = chain(q->s.count);
  for (int64_t i = 0; i < n; i++) {
    double span = 0.0, mass = 0.0, base_mass = 0.0, changed = 0.0, moved = 0.0, square = 0.0;
    for (int64_t k = 0; k < d; k++) square += q->x[i * d + k] * q->x[i * d + k];
    q->x_norm[i] = sqrt(square);
    q->logit_error[i] = q->activation == SNTK_RELU ? 0.0 : (double)(d + 2) * q->x_norm[i] * weight_norm;
    for (int64_t r = 0; r < m; r++) {
      double z = 0.0, z0 = 0.0, delta = 0.0;
      for (int64_t k = 0; k < d; k++) {
        z += q->x[i * d + k] * q->w[k * m + r];
        z0 += q->x[i * d + k] * w0[k * m + r];
        delta += q->x[i * d + k] * shift_of(q, k, r);
      }
      q->shift_max = fmax(q->shift_max, fabs(delta));
      if (q->activation == SNTK_RELU) {
        q->slope[i * m + r] = z > 0.0 ? 1.0 : 0.0;
        mass += fmax(z, 0.0);
        base_mass += fmax(z0, 0.0);
        changed += fabs(fmax(z, 0.0) - fmax(z0, 0.0));
        continue;
      }
      span = fmax(span, fabs(z - q->fixed[i]) + fabs(delta));
      q->slope[i * m + r] = exp(z - q->fixed[i]) / (softmax ? q->whole[i] : 1.0);
      mass += exp(z - q->fixed[i]);
      base_mass += exp(z0 - q->fixed[i]);
      changed += exp(z0 - q->fixed[i]) * fabs(expm1(delta));
      moved += exp(z0 - q->fixed[i] + fabs(delta));
    }
    q->exp_error[i] = q->activation == SNTK_RELU ? 0.0 : 1.5 * span + 8.0;
    const double relative = 2.0 * q->logit_error[i] + q->exp_error[i] + h;
    q->sum_bound[i] = softmax ? relative * mass : 0.0;
    q->t_bound[i] = (relative + 8.0) * mass;
    q->base_bound[i] = (relative + 8.0) * base_mass;
    /* the change: relative to itself, and the error of the shift's own logit */
    const double own = q->activation == SNTK_RELU ? 0.0 : (double)(d + 2) * q->x_norm[i] * q->shift_norm;
    q->change_bound[i] = (relative + 8.0) * changed + own * moved;
  }
  for (int64_t k = 0; k < d; k++)
    for (int64_t r = 0; r < m; r++) q->gradient_bound[k * m + r] = gradient_entry_bound(q, k, r);
  for (int64_t a = 0; a < n * p && q->gram; a++)
    for (int64_t b = 0; b < n * p; b++) q->gram_bound[a * n * p + b] = gram_entry_bound(q, a, b);
}

static problem *make_problem(sntk_context *ref, shape s, sntk_activation activation, sntk_layout layout,
                             sntk_precision type, uint64_t seed, double size) {
  problem *q = pool(1, sizeof *q);
  *q = (problem){.s = s, .activation = activation, .layout = layout, .type = type, .scale = 0.75};
  q->m = layout == SNTK_LAYOUT_PAIRED ? 2 * s.count : s.count;
  const int64_t np = s.n * s.p, rows = np;
  q->x = reals(s.n * s.d);
  q->base = reals(s.d * s.count);
  q->origin = reals(s.d * s.count);
  for (int h = 0; h < 2; h++) q->shift[h] = reals(s.d * s.count);
  q->signs = pool(s.p * s.count, 1);
  q->w = reals(s.d * q->m);
  q->a = pool(s.p * q->m, 1);
  q->v = reals(s.d * q->m);
  q->gradient = reals(s.d * q->m);
  q->gradient_bound = reals(s.d * q->m);
  double **const of_np[] = {&q->r, &q->t, &q->f, &q->base_t, &q->dot};
  for (int64_t j = 0; j < LENGTH(of_np); j++) *of_np[j] = reals(np);
  q->away = reals(2 * np);
  double **const of_n[] = {&q->c,      &q->max,       &q->sum,     &q->base_max,     &q->base_sum,
                           &q->fixed,  &q->whole,     &q->mean,    &q->logit_error,  &q->exp_error,
                           &q->x_norm, &q->sum_bound, &q->t_bound, &q->change_bound, &q->base_bound};
  for (int64_t j = 0; j < LENGTH(of_n); j++) *of_n[j] = reals(s.n);
  q->slope = reals(s.n * q->m);
  q->u = reals(np * q->m);
  if (rows * rows * q->m <= 2000000) {
    q->gram = reals(rows * rows);
    q->gram_bound = reals(rows * rows);
  }
  make_data(q, seed, size);
  solve(ref, q);
  return q;
}

/* ---- typed arrays of the cpu backend, with padding behind each row ---- */

static double get(sntk_precision type, const void *array, int64_t index) {
  return type == SNTK_F32 ? (double)((const float *)array)[index] : ((const double *)array)[index];
}

static void put(sntk_precision type, void *array, int64_t index, double value) {
  if (type == SNTK_F32)
    ((float *)array)[index] = (float)value;
  else
    ((double *)array)[index] = value;
}

/* rows x cols with leading dimension cols + PAD; from NULL: all sentinels. */
static void *padded(sntk_precision type, const double *from, int64_t rows, int64_t cols) {
  void *array = pool(rows * (cols + PAD), sntk_type_size(type));
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < cols + PAD; j++)
      put(type, array, i * (cols + PAD) + j, from && j < cols ? from[i * cols + j] : SENTINEL);
  return array;
}

static void assert_padding_kept(sntk_precision type, const void *array, int64_t rows, int64_t cols) {
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = cols; j < cols + PAD; j++) assert_near(get(type, array, i * (cols + PAD) + j), SENTINEL, 0.0);
}

static sntk_neurons cpu_view(const problem *q) {
  const int64_t count = q->s.count, d = q->s.d;
  sntk_neurons v = {.activation = q->activation,
                    .layout = q->layout,
                    .type = q->type,
                    .width = q->m,
                    .count = count,
                    .dim = d,
                    .outputs = q->s.p,
                    .base = padded(q->type, q->base, d, count),
                    .signs = pool(q->s.p * (count + PAD), 1),
                    .ld = count + PAD,
                    .ld_signs = count + PAD};
  for (int64_t l = 0; l < q->s.p; l++) memcpy(v.signs + l * v.ld_signs, q->signs + l * count, (size_t)count);
  if (q->layout != SNTK_LAYOUT_PLAIN) v.shift[0] = padded(q->type, q->shift[0], d, count);
  if (q->layout == SNTK_LAYOUT_PAIRED) v.shift[1] = padded(q->type, q->shift[1], d, count);
  return v;
}

static sntk_samples cpu_samples(const problem *q) {
  void *x = pool(q->s.n * q->s.d, sntk_type_size(q->type));
  for (int64_t j = 0; j < q->s.n * q->s.d; j++) put(q->type, x, j, q->x[j]);
  return (sntk_samples){.count = q->s.n, .dim = q->s.d, .type = q->type, .x = x, .x64 = q->x};
}

/* ---- the operations ---- */

static void check_statistics(sntk_context *ctx, const problem *q, const sntk_neurons *v, const sntk_samples *s) {
  const int64_t n = q->s.n, p = q->s.p, cut = q->s.count / 2;
  const double u = eps_of(q->type);
  const bool softmax = q->activation == SNTK_SOFTMAX;
  double *max = reals(n), *sum = reals(n), *t = reals(n * p), *base_sum = reals(n), *base_t = reals(n * p);
  sntk_stats stats = empty_stats(q, max, sum, t);
  const sntk_neurons parts[2] = {sntk_neurons_slice(v, 0, cut), sntk_neurons_slice(v, cut, q->s.count - cut)};
  if (q->layout != SNTK_LAYOUT_PLAIN) {
    sntk_stats base = empty_stats(q, max, base_sum, base_t);
    for (int h = 0; h < 2; h++) assert_ok(ctx, ctx->backend->base_statistics(ctx, &parts[h], s, &base));
    for (int64_t i = 0; i < n; i++) { /* float64 whatever the type */
      assert_near(max[i], q->base_max[i], 2.0 * EPS64 * q->logit_error[i]);
      const double factor = exp(max[i] - q->base_max[i]);
      assert_near(base_sum[i] * factor, q->base_sum[i], softmax ? 2.0 * EPS64 * q->base_bound[i] : 0.0);
      for (int64_t l = 0; l < p; l++) {
        assert_near(base_t[i * p + l] * factor, q->base_t[i * p + l], 2.0 * EPS64 * q->base_bound[i]);
        if (q->layout == SNTK_LAYOUT_PAIRED) assert_near(base_t[i * p + l], 0.0, 0.0);
      }
    }
    memcpy(max, q->base_max, (size_t)n * sizeof *max);
  }
  for (int h = 0; h < 2; h++) assert_ok(ctx, ctx->backend->statistics(ctx, &parts[h], s, &stats));
  for (int64_t i = 0; i < n; i++) {
    if (q->layout == SNTK_LAYOUT_PLAIN) {
      assert_near(max[i], q->max[i], u * q->logit_error[i]);
      const double factor = exp(max[i] - q->max[i]); /* 1 unless softmax */
      assert_near(sum[i] * factor, q->sum[i], u * q->sum_bound[i]);
      for (int64_t l = 0; l < p; l++) assert_near(t[i * p + l] * factor, q->t[i * p + l], u * q->t_bound[i]);
      continue;
    }
    assert_near(max[i], q->base_max[i], 0.0);
    const double carry = exp(q->max[i] - q->fixed[i]); /* ref's sums against the fixed maximum */
    const double bound = u * q->change_bound[i] + 2.0 * EPS64 * (q->t_bound[i] + q->base_bound[i]);
    assert_near(sum[i], softmax ? q->sum[i] * carry - q->base_sum[i] : 0.0, bound);
    for (int64_t l = 0; l < p; l++) assert_near(t[i * p + l], q->t[i * p + l] * carry - q->base_t[i * p + l], bound);
  }
  const double x_largest = distance(q->x_norm, NULL, n);
  assert_near(stats.shift_max, q->layout == SNTK_LAYOUT_PLAIN ? 0.0 : q->shift_max,
              u * (double)(q->s.d + 2) * x_largest * q->shift_norm);
}

static void check_gradient_and_descent(sntk_context *ctx, const problem *q, sntk_neurons *v, const sntk_samples *s) {
  const int64_t d = q->s.d, count = q->s.count, m = q->m;
  const double u = eps_of(q->type), eta = 0.375;
  const int halves = q->layout == SNTK_LAYOUT_PAIRED ? 2 : 1;
  const sntk_pull pull = {.scale = q->scale, .max = q->fixed, .sum = q->whole, .r = q->r, .c = q->c};
  void *out[2] = {padded(q->type, NULL, d, count), padded(q->type, NULL, d, count)};
  assert_ok(ctx, ctx->backend->gradient(ctx, v, s, &pull, out, v->ld));
  for (int64_t k = 0; k < d; k++)
    for (int64_t r = 0; r < m; r++)
      assert_near(get(q->type, out[half_of(q, r)], k * v->ld + column_of(q, r)), q->gradient[k * m + r],
                  u * q->gradient_bound[k * m + r]);
  for (int h = 0; h < 2; h++) assert_padding_kept(q->type, out[h], d, count);
  if (halves == 1) assert_true(get(q->type, out[1], 0) == SENTINEL);

  double norms[2] = {1.0, 2.0}, square = 0.0, square_bound = 0.0, lost = 0.0; /* norms are added to */
  assert_ok(ctx, ctx->backend->descent(ctx, v, s, &pull, eta, norms, NULL));
  for (int64_t k = 0; k < d; k++)
    for (int64_t r = 0; r < m; r++) {
      const int64_t j = column_of(q, r);
      const double *was = q->layout == SNTK_LAYOUT_PLAIN ? q->base : q->shift[half_of(q, r)];
      const void *now = q->layout == SNTK_LAYOUT_PLAIN ? v->base : v->shift[half_of(q, r)];
      const double before = was[k * count + j], after = get(q->type, now, k * v->ld + j);
      const double update = -eta * q->gradient[k * m + r];
      const double bound = u * (eta * q->gradient_bound[k * m + r] + 2.0 * fabs(update));
      assert_near(after, before + update, bound + u * (fabs(before) + fabs(update)));
      square += update * update;
      square_bound += (2.0 * fabs(update) + bound) * bound;
      /* what was lost is at most the rounding of the sum, and is what is missing from the stored weight */
      const double most = u * (fabs(before) + fabs(update) + bound) * 1.01 + 2.0 * u * fabs(update);
      lost += most * most;
    }
  assert_near(norms[0] - 1.0, square, square_bound + EPS64 * (double)(d * m + 4) * (square + 1.0));
  assert_between(norms[1], 2.0, 2.0 + lost + 4.0 * EPS64);
  /* the other matrix of a displaced network is its base: untouched */
  if (q->layout != SNTK_LAYOUT_PLAIN)
    for (int64_t k = 0; k < d; k++)
      for (int64_t j = 0; j < count; j++)
        assert_near(get(q->type, v->base, k * v->ld + j), q->base[k * count + j], 0.0);
  assert_padding_kept(q->type, v->base, d, count);
  for (int h = 0; h < halves && q->layout != SNTK_LAYOUT_PLAIN; h++)
    assert_padding_kept(q->type, v->shift[h], d, count);
}

static void check_push(sntk_context *ctx, const problem *q, const sntk_neurons *v, const sntk_samples *s) {
  const int64_t n = q->s.n, d = q->s.d, p = q->s.p, count = q->s.count, m = q->m;
  const double u = eps_of(q->type);
  void *direction[2] = {padded(q->type, NULL, d, count), padded(q->type, NULL, d, count)};
  for (int64_t k = 0; k < d; k++)
    for (int64_t r = 0; r < m; r++)
      put(q->type, direction[half_of(q, r)], k * v->ld + column_of(q, r), q->v[k * m + r]);
  double *dot = reals(n * p), *mean = reals(n);
  for (int64_t j = 0; j < n * p; j++) dot[j] = 0.5; /* results are added to what is there */
  assert_ok(ctx, ctx->backend->push(ctx, v, s, q->fixed, q->whole, (const void *const[2]){direction[0], direction[1]},
                                    v->ld, dot, mean));
  for (int64_t i = 0; i < n; i++) {
    double bound = 1.0; /* of the 0.5 */
    for (int64_t r = 0; r < m; r++) {
      double xv = 0.0;
      for (int64_t k = 0; k < d; k++) xv += q->x[i * d + k] * q->v[k * m + r];
      bound += q->slope[i * m + r] * (fabs(xv) * (q->logit_error[i] + q->exp_error[i] + chain(count) + 6.0) +
                                      (double)(d + 2) * q->x_norm[i] * column_norm(q->v, d, m, r));
    }
    assert_near(mean[i], q->mean[i], u * bound);
    for (int64_t l = 0; l < p; l++) assert_near(dot[i * p + l] - 0.5, q->dot[i * p + l], u * bound);
  }
}

static void check_features_and_gram(sntk_context *ctx, const problem *q, const sntk_neurons *v, const sntk_samples *s) {
  const int64_t n = q->s.n, p = q->s.p, count = q->s.count, m = q->m, rows = n * p, ld = m + PAD;
  const double u = eps_of(q->type);
  void *features = padded(q->type, NULL, rows, m);
  assert_ok(ctx, ctx->backend->features(ctx, v, s, q->fixed, q->whole, q->away, features, ld));
  for (int64_t row = 0; row < rows; row++) {
    const int64_t i = row % n, l = row / n;
    for (int64_t r = 0; r < m; r++) {
      const double f = q->activation == SNTK_SOFTMAX ? q->f[i * p + l] : 0.0;
      const double slope = q->slope[i * m + r];
      const double size =
          q->activation == SNTK_SOFTMAX ? sqrt((double)m) * slope * (1.0 + fabs(f)) : slope / sqrt((double)m);
      assert_near(get(q->type, features, row * ld + column_of(q, r) + half_of(q, r) * count), q->u[row * m + r],
                  u * size * (q->logit_error[i] + q->exp_error[i] + 6.0));
    }
  }
  assert_padding_kept(q->type, features, rows, m);
  if (!q->gram) return;
  /* in two slabs of columns */
  double *gram = reals(rows * rows);
  const int64_t cut = m / 3;
  const char *second = (const char *)features + (size_t)cut * sntk_type_size(q->type);
  if (cut > 0) assert_ok(ctx, ctx->backend->gram_add(ctx, q->type, features, rows, cut, ld, gram));
  assert_ok(ctx, ctx->backend->gram_add(ctx, q->type, second, rows, m - cut, ld, gram));
  assert_ok(ctx, ctx->backend->gram_finish(ctx, s, p, gram));
  for (int64_t a = 0; a < rows; a++)
    for (int64_t b = 0; b < rows; b++) {
      assert_near(gram[a * rows + b], q->gram[a * rows + b], u * q->gram_bound[a * rows + b]);
      assert_near(gram[a * rows + b], gram[b * rows + a], 0.0);
    }
  /* without U, in two ranges of columns, added to what is there */
  memset(gram, 0, (size_t)(rows * rows) * sizeof *gram);
  const int64_t first = count / 3;
  for (int part = 0; part < 2; part++) {
    const sntk_neurons range = sntk_neurons_slice(v, part ? first : 0, part ? count - first : first);
    if (range.count > 0) assert_ok(ctx, ctx->backend->gram(ctx, &range, s, q->fixed, q->whole, q->away, gram));
  }
  assert_ok(ctx, ctx->backend->gram_finish(ctx, s, p, gram));
  for (int64_t a = 0; a < rows * rows; a++) assert_near(gram[a], q->gram[a], u * q->gram_bound[a]);
}

static void check_weights(sntk_context *ctx, const problem *q, const sntk_neurons *v) {
  const int64_t d = q->s.d, count = q->s.count, m = q->m, ld = m + PAD;
  double *weights = padded(SNTK_F64, NULL, d, m);
  assert_ok(ctx, ctx->backend->read_weights(ctx, v, weights, ld));
  for (int64_t k = 0; k < d; k++)
    for (int64_t r = 0; r < m; r++) assert_near(weights[k * ld + r], q->w[k * m + r], 0.0);
  assert_padding_kept(SNTK_F64, weights, d, m);

  /* movement: against the base, and against an origin; it only grows */
  void *origin = padded(q->type, q->origin, d, count);
  double own = 0.0, against = 0.0, movement = 0.0;
  for (int64_t r = 0; r < m; r++) {
    double square = 0.0, square_own = 0.0;
    for (int64_t k = 0; k < d; k++) {
      const int64_t at = k * count + column_of(q, r);
      const double moved = q->w[k * m + r] - q->origin[at], shift = q->w[k * m + r] - q->base[at];
      square += moved * moved;
      square_own += shift * shift;
    }
    own = fmax(own, sqrt(square_own));
    against = fmax(against, sqrt(square));
  }
  const double bound = 4.0 * EPS64 * ((double)(d + 4) * (own + against) + 8.0 * sqrt((double)d));
  assert_ok(ctx, ctx->backend->movement(ctx, v, NULL, 0, &movement));
  assert_near(movement, own, bound);
  movement = 0.0;
  assert_ok(ctx, ctx->backend->movement(ctx, v, origin, v->ld, &movement));
  assert_near(movement, against, bound);
  movement = 1e6;
  assert_ok(ctx, ctx->backend->movement(ctx, v, origin, v->ld, &movement));
  assert_true(movement == 1e6);
}

/* A move of the base leaves base + shift as it was, to the last bit: the remainder of a rounded sum is representable.
 * So does unpairing. */
static void check_moves(sntk_context *ctx, const problem *q, sntk_neurons *v) {
  const int64_t d = q->s.d, count = q->s.count, m = q->m;
  double *weights = reals(d * m);
  sntk_neurons single = *v;
  if (q->layout == SNTK_LAYOUT_PLAIN) return;
  if (q->layout == SNTK_LAYOUT_PAIRED) {
    single.layout = SNTK_LAYOUT_DISPLACED;
    single.count = m;
    single.ld = single.ld_signs = m + PAD;
    single.base = padded(q->type, NULL, d, m);
    single.shift[0] = padded(q->type, NULL, d, m);
    single.shift[1] = NULL;
    single.signs = pool(q->s.p * single.ld_signs, 1);
    assert_ok(ctx, ctx->backend->unpair(ctx, v, &single));
    assert_ok(ctx, ctx->backend->read_weights(ctx, &single, weights, m));
    assert_memory_equal(weights, q->w, (size_t)(d * m) * sizeof *weights);
    for (int64_t l = 0; l < q->s.p; l++)
      assert_memory_equal(single.signs + l * single.ld_signs, q->a + l * m, (size_t)m);
    assert_padding_kept(q->type, single.base, d, m);
    assert_padding_kept(q->type, single.shift[0], d, m);
  }
  assert_ok(ctx, ctx->backend->move_base(ctx, &single));
  for (int64_t k = 0; k < d; k++)
    for (int64_t r = 0; r < m; r++) {
      const int64_t j = column_of(q, r);
      const double base = q->base[k * count + j], shift = q->shift[half_of(q, r)][k * count + j];
      const double new_base = get(q->type, single.base, k * single.ld + r);
      const double rest = get(q->type, single.shift[0], k * single.ld + r);
      const double sum = base + shift, part = sum - base;
      const double beneath = (base - (sum - part)) + (shift - part); /* base + shift = sum + beneath exactly */
      assert_near(new_base, rounded(q->type, sum), 0.0);
      assert_near(rest, (sum - new_base) + beneath, 0.0);
      assert_near(rest, 0.0, 1.001 * (q->type == SNTK_F32 ? EPS32 : EPS64) * fabs(new_base));
    }
}

static void check_all(sntk_context *ctx, const problem *q) {
  sntk_neurons v = cpu_view(q);
  const sntk_samples s = cpu_samples(q);
  check_statistics(ctx, q, &v, &s);
  check_push(ctx, q, &v, &s);
  check_features_and_gram(ctx, q, &v, &s);
  check_weights(ctx, q, &v);
  sntk_neurons moved = cpu_view(q);
  check_moves(ctx, q, &moved);
  check_gradient_and_descent(ctx, q, &v, &s); /* last: it changes the weights */
}

/* ---- tests: each for one instruction set ---- */

static const char *const isas[] = {"portable", "avx2", "avx512"};

/* A context with the named kernels, or NULL where the processor lacks them. */
static sntk_context *open_isa(const char *isa, int threads) {
  char text[64];
  assert_int_equal(setenv("SOFTNTK_ISA", isa, 1), 0);
  if (!sntk_cpu_kernels_pick()) return NULL;
  sntk_context *ctx = open_context("cpu", threads);
  snprintf(text, sizeof text, "%s kernels", isa);
  if (strstr(sntk_context_device(ctx), text)) return ctx;
  sntk_context_free(ctx);
  return NULL;
}

enum { ISAS = 3 };

typedef struct setting {
  sntk_context *ref, *cpu[ISAS]; /* NULL where the processor lacks the instructions */
} setting;

static int setup(void **state) {
  setting *c = calloc(1, sizeof *c);
  if (!c) return -1;
  c->ref = open_context("ref", 1);
  for (int a = 0; a < ISAS; a++) {
    c->cpu[a] = open_isa(isas[a], 1); /* threads that wait for each other would take most of the time */
    if (!c->cpu[a]) print_message("no %s on this processor: its kernels are not tested\n", isas[a]);
  }
  unsetenv("SOFTNTK_ISA");
  *state = c;
  return 0;
}

static int teardown(void **state) {
  setting *c = *state;
  sntk_context_free(c->ref);
  for (int a = 0; a < ISAS; a++) sntk_context_free(c->cpu[a]);
  free(c);
  return 0;
}

static const char *const activation_names[] = {"softmax", "relu", "exp"};
static const char *const layout_names[] = {"plain", "displaced", "paired"};

/* One shape: both types, all layouts, all instruction sets. */
static void check_shape(setting *c, shape s, sntk_activation activation, uint64_t seed, double size) {
  for (int layout = SNTK_LAYOUT_PLAIN; layout <= SNTK_LAYOUT_PAIRED; layout++)
    for (int type = SNTK_F32; type <= SNTK_F64; type++) {
      const problem *q = make_problem(c->ref, s, activation, (sntk_layout)layout, (sntk_precision)type, seed, size);
      for (int a = 0; a < ISAS; a++) {
        snprintf(support_case, sizeof support_case, "%s %s %s %s, n %lld, d %lld, columns %lld, p %lld, shift %g",
                 activation_names[activation], layout_names[layout], type == SNTK_F32 ? "f32" : "f64", isas[a],
                 (long long)s.n, (long long)s.d, (long long)s.count, (long long)s.p, size);
        if (c->cpu[a]) check_all(c->cpu[a], q);
      }
      pool_clear();
    }
}

/* Around one, lanes, a cache line's pairs and a slab; every n, d and p meets every kind of width. */
static void check_shapes(setting *c, sntk_activation activation) {
  static const int64_t ns[] = {1, 2, 3, 17, 33}, ds[] = {1, 2, 5, 16, 31}, ps[] = {1, 2, 3, 10};
  static const int64_t counts[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 255, 256, 257};
  static const int64_t edges[] = {4095, 4096, 4097};
  static const double sizes[] = {0x1p-12, 1.9, 20.0};
  int64_t turn = 0;
  for (int64_t m = 0; m < LENGTH(counts); m++)
    for (int64_t i = 0; i < LENGTH(ns); i++, turn++) {
      const shape s = {ns[i], ds[(i + m) % LENGTH(ds)], counts[m], ps[(i + 2 * m + turn) % LENGTH(ps)]};
      check_shape(c, s, activation, 100 + (uint64_t)turn, sizes[turn % LENGTH(sizes)]);
    }
  for (int64_t m = 0; m < LENGTH(edges); m++) {
    const shape s = {ns[m + 1], ds[m + 1], edges[m], ps[m]};
    check_shape(c, s, activation, 300 + (uint64_t)m, sizes[m]);
  }
  /* more samples than a slab of 4096 columns allows: slabs of 1728 */
  const shape many = {300, 3, 1729, 1};
  check_shape(c, many, activation, 400, sizes[0]);
  const shape deep = {7, 1100, 70, 2}; /* more input dimensions than a product takes at once */
  check_shape(c, deep, activation, 401, 0.01);
  /* outputs at the edges of how they are summed, with more than one block of samples; several threads */
  static const shape outputs[] = {{49, 3, 65, 8}, {49, 3, 65, 9}, {53, 2, 700, 64}};
  for (int64_t o = 0; o < LENGTH(outputs); o++) check_shape(c, outputs[o], activation, 402 + (uint64_t)o, sizes[0]);
}

static void operations_softmax(void **state) { check_shapes(*state, SNTK_SOFTMAX); }
static void operations_relu(void **state) { check_shapes(*state, SNTK_RELU); }
static void operations_exp(void **state) { check_shapes(*state, SNTK_EXP); }

/* ---- random weights and signs: ref's, bit for bit ---- */

static void random_numbers_are_those_of_ref(void **state) {
  setting *c = *state;
  static const int64_t firsts[] = {0, 1, 2, 255, 256, 257, 100001}, counts[] = {1, 2, 3, 255, 256, 257, 600};
  static const int64_t dims[] = {1, 3, 16};
  for (int64_t j = 0; j < LENGTH(firsts) * LENGTH(counts) * LENGTH(dims) * 3; j++) {
    const int64_t first = firsts[j % LENGTH(firsts)], count = counts[j / LENGTH(firsts) % LENGTH(counts)];
    const int64_t d = dims[j / LENGTH(firsts) / LENGTH(counts) % LENGTH(dims)], p = 1 + j % 3;
    const int kind = (int)(j / LENGTH(firsts) / LENGTH(counts) / LENGTH(dims)); /* iid, symmetric, paired */
    const sntk_source source = {.seed = 77, .sigma = 0.7, .symmetric = kind > 0};
    /* a pair's numbers are those of neuron q of an iid network */
    const sntk_source of_ref = {.seed = 77, .sigma = 0.7, .symmetric = kind == 1};
    sntk_neurons expected = {.type = SNTK_F64, .layout = SNTK_LAYOUT_PLAIN, .count = count, .dim = d, .outputs = p};
    expected.ld = expected.ld_signs = count;
    expected.base = reals(d * count);
    expected.signs = pool(p * count, 1);
    assert_ok(c->ref, c->ref->backend->random_weights(c->ref, &of_ref, first, &expected));
    assert_ok(c->ref, c->ref->backend->random_signs(c->ref, &of_ref, first, &expected));
    for (int type = SNTK_F32; type <= SNTK_F64; type++) {
      sntk_context *ctx = c->cpu[0];
      sntk_neurons v = expected;
      v.type = (sntk_precision)type;
      v.layout = kind == 2 ? SNTK_LAYOUT_PAIRED : SNTK_LAYOUT_PLAIN;
      v.ld = v.ld_signs = count + PAD;
      v.base = padded(v.type, NULL, d, count);
      v.signs = pool(p * v.ld_signs, 1);
      assert_ok(ctx, ctx->backend->random_weights(ctx, &source, first, &v));
      assert_ok(ctx, ctx->backend->random_signs(ctx, &source, first, &v));
      for (int64_t k = 0; k < d; k++)
        for (int64_t r = 0; r < count; r++)
          assert_near(get(v.type, v.base, k * v.ld + r), ((double *)expected.base)[k * count + r], 0.0);
      for (int64_t l = 0; l < p; l++)
        assert_memory_equal(v.signs + l * v.ld_signs, expected.signs + l * count, (size_t)count);
      assert_padding_kept(v.type, v.base, d, count);
    }
    pool_clear();
  }
}

/* ---- exponentials ---- */

static const sntk_cpu_kernels *pick(const char *isa) {
  assert_int_equal(setenv("SOFTNTK_ISA", isa, 1), 0);
  const sntk_cpu_kernels *kernels = sntk_cpu_kernels_pick();
  unsetenv("SOFTNTK_ISA");
  return kernels && strcmp(kernels->name, isa) == 0 ? kernels : NULL;
}

/* Distance in units of the last place that a number of this size has in the type, subnormals included. */
static double ulps(sntk_precision type, double actual, long double exact) {
  const int digits = type == SNTK_F32 ? 23 : 52, least = type == SNTK_F32 ? -126 : -1022;
  const int exponent = exact == 0.0L ? least : ilogbl(exact);
  return (double)(fabsl((long double)actual - exact) / ldexpl(1.0L, (exponent < least ? least : exponent) - digits));
}

enum { BLOCK = 1024 };

/* exp, or expm1 by the polynomial for |x| <= bound, of `count` numbers of the type. */
static void exponential(const sntk_cpu_kernels *kernels, sntk_precision type, double bound, int64_t count,
                        const void *x, void *out) {
  if (type == SNTK_F32 && bound == 0.0) kernels->exp_f32(count, x, out);
  if (type == SNTK_F64 && bound == 0.0) kernels->exp_f64(count, x, out);
  if (type == SNTK_F32 && bound > 0.0) kernels->expm1_f32(count, bound, x, out);
  if (type == SNTK_F64 && bound > 0.0) kernels->expm1_f64(count, bound, x, out);
}

static void check_exp(const sntk_cpu_kernels *kernels, sntk_precision type, const double *x) {
  void *argument = pool(BLOCK, sntk_type_size(type)), *result = pool(BLOCK, sntk_type_size(type));
  for (int64_t j = 0; j < BLOCK; j++) put(type, argument, j, x[j]);
  exponential(kernels, type, 0.0, BLOCK, argument, result);
  const long double largest = type == SNTK_F32 ? 0x1.fffffep127L : 0x1.fffffffffffffp1023L;
  const long double smallest = type == SNTK_F32 ? 0x1p-126L : 0x1p-1022L; /* normal */
  for (int64_t j = 0; j < BLOCK; j++) {
    const double actual = get(type, result, j);
    const long double exact = expl((long double)get(type, argument, j));
    snprintf(support_case, sizeof support_case, "exp(%.17g), %s", get(type, argument, j), kernels->name);
    if (exact > largest * (1.0L + 2.0L * EPS32)) {
      assert_false(isfinite(actual));
    } else if (exact < largest * (1.0L - 4.0L * EPS64)) {
      if (!isfinite(actual) && exact > largest * (1.0L - 4.0L * (type == SNTK_F32 ? EPS32 : EPS64))) continue;
      if (exact < smallest)
        assert_between(actual, 0.0, (double)(exact + smallest));
      else
        assert_between(ulps(type, actual, exact), 0.0, 2.0);
    }
  }
  pool_clear();
}

/* At most 2 units in the last place, up to the largest number; below the smallest normal one off by less than that. */
static void exponentials_are_right_to_two_ulps(void **state) {
  (void)state;
  for (int a = 0; a < ISAS; a++) {
    const sntk_cpu_kernels *kernels = pick(isas[a]);
    for (int type = SNTK_F32; type <= SNTK_F64 && kernels; type++) {
      const double low = type == SNTK_F32 ? -110.0 : -750.0, high = type == SNTK_F32 ? 90.0 : 711.0;
      const int blocks = 400;
      double x[BLOCK];
      for (int b = 0; b < blocks; b++) { /* evenly over the range */
        for (int64_t j = 0; j < BLOCK; j++)
          x[j] = low + (high - low) * ((double)(b * BLOCK + j) + 0.5) / (double)(blocks * BLOCK);
        check_exp(kernels, (sntk_precision)type, x);
      }
      for (int b = 0; b < blocks; b++) { /* evenly in the logarithm, both signs */
        for (int64_t j = 0; j < BLOCK; j++) {
          const double size = exp2(-60.0 + 66.0 * ((double)(b * BLOCK + j) + 0.5) / (double)(blocks * BLOCK));
          x[j] = j % 2 ? -size : size;
        }
        check_exp(kernels, (sntk_precision)type, x);
      }
    }
  }
}

static void exponentials_at_the_ends(void **state) {
  (void)state;
  for (int a = 0; a < ISAS; a++) {
    const sntk_cpu_kernels *kernels = pick(isas[a]);
    for (int type = SNTK_F32; type <= SNTK_F64 && kernels; type++) {
      const sntk_precision t = (sntk_precision)type;
      static const double x[] = {0.0, -0.0, INFINITY, -INFINITY, NAN, 1e30, -1e30, 1000.0, -1000.0};
      static const double expected[] = {1.0, 1.0, INFINITY, 0.0, NAN, INFINITY, 0.0, INFINITY, 0.0};
      for (int64_t lane = 0; lane < 40; lane++) { /* in whole vectors and in the rest behind them */
        void *z = pool(40, sntk_type_size(t)), *result = pool(40, sntk_type_size(t));
        for (int64_t j = 0; j < LENGTH(x); j++) {
          for (int64_t i = 0; i < 40; i++) put(t, z, i, i == lane ? x[j] : 0.5);
          exponential(kernels, t, 0.0, 40, z, result);
          const double actual = get(t, result, lane);
          snprintf(support_case, sizeof support_case, "exp(%g), %s", x[j], isas[a]);
          if (isnan(expected[j]))
            assert_true(isnan(actual));
          else if (isinf(expected[j]))
            assert_false(isfinite(actual));
          else if (expected[j] == 0.0)
            assert_between(actual, 0.0, t == SNTK_F32 ? 0x1p-126 : 0x1p-1022);
          else
            assert_near(actual, expected[j], 0.0);
        }
        pool_clear();
      }
    }
  }
}

/* Each polynomial over its own range. */
static void expm1_is_right_to_three_ulps(void **state) {
  (void)state;
  static const double bounds[] = {0.1, 1.0, 60.0};
  enum { B = 64, TURNS = 4000 };
  for (int a = 0; a < ISAS; a++) {
    const sntk_cpu_kernels *kernels = pick(isas[a]);
    for (int type = SNTK_F32; type <= SNTK_F64 && kernels; type++)
      for (int64_t b = 0; b < LENGTH(bounds); b++) {
        const sntk_precision t = (sntk_precision)type;
        void *d = pool(B, sntk_type_size(t)), *result = pool(B, sntk_type_size(t));
        for (int64_t turn = 0; turn < TURNS; turn++) {
          for (int64_t j = 0; j < B; j++) {
            const double share = ((double)(turn * B + j) + 0.5) / (TURNS * B);
            const double even = bounds[b] * (2.0 * share - 1.0), size = bounds[b] * exp2(-40.0 + 40.0 * share);
            put(t, d, j, turn % 2 ? even : j % 2 ? size : -size);
          }
          exponential(kernels, t, bounds[b], B, d, result);
          for (int64_t j = 0; j < B; j++) {
            snprintf(support_case, sizeof support_case, "expm1(%.17g), %s", get(t, d, j), isas[a]);
            assert_between(ulps(t, get(t, result, j), expm1l((long double)get(t, d, j))), 0.0, 3.0);
          }
        }
        pool_clear();
      }
  }
}

/* ---- what is not finite ---- */

static void numbers_that_are_not_finite_are_reported(void **state) {
  setting *c = *state;
  static const double bad[] = {NAN, INFINITY, -INFINITY};
  static const int64_t positions[] = {0, 15, 64, 4096};
  const shape s = {3, 2, 4097, 2};
  for (int activation = SNTK_SOFTMAX; activation <= SNTK_EXP; activation++)
    for (int layout = SNTK_LAYOUT_PLAIN; layout <= SNTK_LAYOUT_PAIRED; layout++)
      for (int type = SNTK_F32; type <= SNTK_F64; type++) {
        const problem *q =
            make_problem(c->ref, s, (sntk_activation)activation, (sntk_layout)layout, (sntk_precision)type, 1, 0.5);
        const sntk_samples samples = cpu_samples(q);
        double *max = reals(s.n), *sum = reals(s.n), *t = reals(s.n * s.p);
        for (int a = 0; a < ISAS; a++)
          for (int64_t at = 0; at < LENGTH(positions) * LENGTH(bad) * 3 && c->cpu[a]; at++) {
            const int64_t position = positions[at % LENGTH(positions)];
            const double value = bad[at / LENGTH(positions) % LENGTH(bad)];
            const int where = (int)(at / LENGTH(positions) / LENGTH(bad)); /* base, first shift, second shift */
            if (where > layout) continue;
            sntk_context *ctx = c->cpu[a];
            sntk_neurons v = cpu_view(q);
            put(q->type, where ? v.shift[where - 1] : v.base, position, value);
            sntk_stats stats = empty_stats(q, max, sum, t);
            if (layout != SNTK_LAYOUT_PLAIN) {
              assert_status(ctx, ctx->backend->base_statistics(ctx, &v, &samples, &stats),
                            where ? SNTK_OK : SNTK_ERR_OVERFLOW);
              memcpy(max, q->base_max, (size_t)s.n * sizeof *max);
              memset(sum, 0, (size_t)s.n * sizeof *sum);
            }
            assert_status(ctx, ctx->backend->statistics(ctx, &v, &samples, &stats), SNTK_ERR_OVERFLOW);
            assert_non_null(strstr(sntk_context_error(ctx), "sample 0"));
          }
        pool_clear();
      }
}

/* exp overflows where its type does; softmax takes any finite logit. */
static void large_logits(void **state) {
  setting *c = *state;
  static const struct {
    sntk_activation activation;
    sntk_precision type;
    double logit;
    sntk_status status;
  } cases[] = {{SNTK_EXP, SNTK_F32, 88.7, SNTK_OK},     {SNTK_EXP, SNTK_F32, 88.8, SNTK_ERR_OVERFLOW},
               {SNTK_EXP, SNTK_F64, 709.7, SNTK_OK},    {SNTK_EXP, SNTK_F64, 709.8, SNTK_ERR_OVERFLOW},
               {SNTK_EXP, SNTK_F32, -1e30, SNTK_OK},    {SNTK_EXP, SNTK_F64, -1e300, SNTK_OK},
               {SNTK_SOFTMAX, SNTK_F32, 1e30, SNTK_OK}, {SNTK_SOFTMAX, SNTK_F64, 1e300, SNTK_OK},
               {SNTK_RELU, SNTK_F32, 1e30, SNTK_OK},    {SNTK_RELU, SNTK_F64, 1e300, SNTK_OK}};
  enum { M = 37 };
  for (int64_t k = 0; k < LENGTH(cases); k++)
    for (int a = 0; a < ISAS; a++)
      for (int64_t at = 0; at < M && c->cpu[a]; at++) {
        sntk_context *ctx = c->cpu[a];
        const sntk_precision type = cases[k].type;
        const double one = 1.0;
        const float narrow_one = 1.0f;
        int8_t signs[M];
        memset(signs, 1, sizeof signs);
        sntk_neurons v = {
            .activation = cases[k].activation, .type = type, .width = M, .count = M, .dim = 1, .outputs = 1};
        v.base = pool(M, sntk_type_size(type));
        v.signs = signs;
        v.ld = v.ld_signs = M;
        put(type, v.base, at, cases[k].logit);
        const sntk_samples s = {
            .count = 1, .dim = 1, .type = type, .x = type == SNTK_F32 ? (const void *)&narrow_one : &one, .x64 = &one};
        double max = cases[k].activation == SNTK_SOFTMAX ? -INFINITY : 0.0, sum = 0.0, t = 0.0;
        sntk_stats stats = {.samples = 1, .outputs = 1, .max = &max, .sum = &sum, .t = &t};
        assert_status(ctx, ctx->backend->statistics(ctx, &v, &s, &stats), cases[k].status);
        if (cases[k].status == SNTK_OK) assert_true(isfinite(t) && isfinite(sum));
        if (cases[k].activation == SNTK_SOFTMAX) assert_near(t / sum, 1.0, eps_of(type) * M);
        pool_clear();
      }
}

/* Beyond a shift of 60 the engine moves the base; it must be told of the shift, and not of an overflow. */
static void shifts_too_large_for_expm1_are_seen(void **state) {
  setting *c = *state;
  for (int a = 0; a < ISAS; a++)
    for (int type = SNTK_F32; type <= SNTK_F64 && c->cpu[a]; type++)
      for (int sign = -1; sign <= 1; sign += 2) {
        const shape s = {2, 3, 70, 1};
        const problem *q = make_problem(c->ref, s, SNTK_SOFTMAX, SNTK_LAYOUT_PAIRED, (sntk_precision)type, 5, 0.5);
        sntk_context *ctx = c->cpu[a];
        sntk_neurons v = cpu_view(q);
        const sntk_samples samples = cpu_samples(q);
        double *max = reals(s.n), *sum = reals(s.n), *t = reals(s.n);
        sntk_stats stats = empty_stats(q, max, sum, t);
        memcpy(max, q->base_max, (size_t)s.n * sizeof *max);
        double expected = 0.0;
        for (int64_t k = 0; k < s.d; k++) put(q->type, v.shift[1], k * v.ld + 69, sign * 1000.0 * q->x[k]);
        for (int64_t i = 0; i < s.n; i++) {
          double dot = 0.0;
          for (int64_t k = 0; k < s.d; k++) dot += q->x[i * s.d + k] * rounded(q->type, sign * 1000.0 * q->x[k]);
          expected = fmax(expected, fabs(dot));
        }
        assert_true(expected > 60.0);
        assert_ok(ctx, ctx->backend->statistics(ctx, &v, &samples, &stats));
        assert_near(stats.shift_max, expected, 5.0 * eps_of(q->type) * 1000.0);
        pool_clear();
      }
}

/* Where a unit stays on, relu's change is the shift's logit itself: its relative error does not grow as the shift
 * shrinks against the base. One input of 1 makes both logits exact. */
static void small_changes_of_relu_do_not_cancel(void **state) {
  setting *c = *state;
  enum { M = 300 };
  for (int a = 0; a < ISAS; a++)
    for (int type = SNTK_F32; type <= SNTK_F64 && c->cpu[a]; type++)
      for (int layout = SNTK_LAYOUT_DISPLACED; layout <= SNTK_LAYOUT_PAIRED; layout++) {
        const shape s = {1, 1, M, 1};
        problem *q = make_problem(c->ref, s, SNTK_RELU, (sntk_layout)layout, (sntk_precision)type, 8, 0.5);
        double expected = 0.0, size = 0.0;
        q->x[0] = 1.0;
        for (int64_t j = 0; j < M; j++) {
          q->base[j] = rounded(q->type, uniform(50, j) + (j % 2 ? 1.5 : -1.5)); /* on, off, on, ... */
          for (int h = 0; h <= layout - SNTK_LAYOUT_DISPLACED; h++) {
            q->shift[h][j] = rounded(q->type, 1e-6 * uniform(51 + (uint64_t)h, j));
            expected += (j % 2) * (h ? -1.0 : 1.0) * q->signs[j] * q->shift[h][j];
            size += fabs(q->shift[h][j]);
          }
        }
        const sntk_neurons v = cpu_view(q);
        const sntk_samples samples = cpu_samples(q);
        double max = 0.0, sum = 0.0, t = 0.0;
        sntk_stats stats = {.samples = 1, .outputs = 1, .max = &max, .sum = &sum, .t = &t};
        assert_ok(c->cpu[a], c->cpu[a]->backend->statistics(c->cpu[a], &v, &samples, &stats));
        assert_near(t, expected, (chain(M) + 2.0) * eps_of(q->type) * size);
        pool_clear();
      }
}

/* OpenMP's thread count is the process's: a context opened for fewer threads than a later one must stay within its own.
 */
static void contexts_with_different_thread_counts_stay_apart(void **state) {
  setting *c = *state;
  const shape s = {33, 5, 2100, 10}; /* enough for several threads to be woken */
  sntk_context *one = open_context("cpu", 1), *four = open_context("cpu", 4);
  for (int layout = SNTK_LAYOUT_PLAIN; layout <= SNTK_LAYOUT_PAIRED; layout++) {
    const problem *q = make_problem(c->ref, s, SNTK_SOFTMAX, (sntk_layout)layout, SNTK_F32, 6, 0.5);
    for (int turn = 0; turn < 2; turn++) {
      check_all(four, q);
      check_all(one, q);
    }
  }
  sntk_context_free(one);
  sntk_context_free(four);
}

/* Columns past the last neuron weigh nothing, however small the logits are; and inputs beyond float32 are logits that
 * are not finite. */
static void logits_far_below_zero(void **state) {
  setting *c = *state;
  enum { M = 3 };
  float weights[M] = {-2e38f, -2e38f, -2e38f}, narrow = 1.0f;
  int8_t signs[M] = {1, 1, -1};
  double wide = 1.0;
  sntk_neurons v = {.type = SNTK_F32, .width = M, .count = M, .dim = 1, .outputs = 1, .ld = M, .ld_signs = M};
  v.base = weights;
  v.signs = signs;
  const sntk_samples s = {.count = 1, .dim = 1, .type = SNTK_F32, .x = &narrow, .x64 = &wide};
  for (int a = 0; a < ISAS; a++) {
    sntk_context *ctx = c->cpu[a];
    if (!ctx) continue;
    double max = -INFINITY, sum = 0.0, t = 0.0;
    sntk_stats stats = {.samples = 1, .outputs = 1, .max = &max, .sum = &sum, .t = &t};
    weights[0] = weights[1] = weights[2] = -2e38f;
    narrow = 1.0f;
    wide = 1.0;
    v.activation = SNTK_SOFTMAX;
    assert_ok(ctx, ctx->backend->statistics(ctx, &v, &s, &stats));
    assert_near(max, (double)-2e38f, 0.0);
    assert_near(sum, 3.0, 0.0);
    assert_near(t, 1.0, 0.0);
    weights[0] = weights[1] = weights[2] = -1e-12f;
    narrow = INFINITY;
    wide = 1e39;
    v.activation = SNTK_RELU;
    max = sum = t = 0.0;
    assert_status(ctx, ctx->backend->statistics(ctx, &v, &s, &stats), SNTK_ERR_OVERFLOW);
  }
}

/* So many rows that the threads share panels and products: the same matrix by way of the features. */
static void many_rows_of_the_gram_matrix(void **state) {
  setting *c = *state;
  enum { THREADS = 5 };
  const shape s = {900, 3, 400, 2};
  const int64_t rows = s.n * s.p;
  for (int a = 0; a < ISAS; a++) {
    sntk_context *ctx = open_isa(isas[a], THREADS);
    for (int layout = SNTK_LAYOUT_PLAIN; layout <= SNTK_LAYOUT_PAIRED && ctx; layout++) {
      const problem *q = make_problem(c->ref, s, SNTK_SOFTMAX, (sntk_layout)layout, SNTK_F32, 5, 0.5);
      const sntk_neurons v = cpu_view(q);
      const sntk_samples samples = cpu_samples(q);
      double *gram = reals(rows * rows), *again = reals(rows * rows), *exact = reals(rows * rows);
      assert_ok(ctx, ctx->backend->gram(ctx, &v, &samples, q->fixed, q->whole, q->away, gram));
      assert_ok(ctx, ctx->backend->gram(ctx, &v, &samples, q->fixed, q->whole, q->away, again));
      assert_memory_equal(gram, again, (size_t)(rows * rows) * sizeof *gram); /* whoever took what */
      assert_ok(c->ref, c->ref->backend->gram_add(c->ref, SNTK_F64, q->u, rows, q->m, q->m, exact));
      for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j <= i; j++) {
          const double size = sqrt(exact[i * rows + i] * exact[j * rows + j]);
          assert_near(gram[i * rows + j], exact[i * rows + j], 100.0 * EPS32 * size);
        }
    }
    sntk_context_free(ctx);
    pool_clear();
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(operations_softmax, pool_teardown),
      cmocka_unit_test_teardown(operations_relu, pool_teardown),
      cmocka_unit_test_teardown(operations_exp, pool_teardown),
      cmocka_unit_test_teardown(random_numbers_are_those_of_ref, pool_teardown),
      cmocka_unit_test_teardown(exponentials_are_right_to_two_ulps, pool_teardown),
      cmocka_unit_test_teardown(exponentials_at_the_ends, pool_teardown),
      cmocka_unit_test_teardown(expm1_is_right_to_three_ulps, pool_teardown),
      cmocka_unit_test_teardown(numbers_that_are_not_finite_are_reported, pool_teardown),
      cmocka_unit_test_teardown(large_logits, pool_teardown),
      cmocka_unit_test_teardown(shifts_too_large_for_expm1_are_seen, pool_teardown),
      cmocka_unit_test_teardown(small_changes_of_relu_do_not_cancel, pool_teardown),
      cmocka_unit_test_teardown(contexts_with_different_thread_counts_stay_apart, pool_teardown),
      cmocka_unit_test_teardown(many_rows_of_the_gram_matrix, pool_teardown),
      cmocka_unit_test_teardown(logits_far_below_zero, pool_teardown),
  };
  return cmocka_run_group_tests_name("cpu", tests, setup, teardown);
}
