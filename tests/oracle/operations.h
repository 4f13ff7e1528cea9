/**
 * @file operations.h
 * @brief Every operation of a backend's table against ref in float64, through the table alone: what a backend allocates
 * is never touched.
 *
 * Bounds are first-order rounding bounds, entry by entry, in u = eps of the type plus eps of ref's float64, with
 * - L_i = (c d + 2 + b) |x_i| max_r (|base_r| + |shift_r|): error of a logit, b that of a product, c that of an
 * addition,
 * - E_i = 1.5 max_r |z_ir - max_i| + o |max_i| + 8: rounding of an exponential's argument and of its offset, the
 * exponential (2 ulp) and a few products,
 * - h: the longest chain of additions in the type, and what rescaling to a larger maximum loses.
 * The backend's own figures b, c, o and those of h are in `arithmetic`. relu's data are multiples of small powers of
 * two, so that its logits are exact and no comparison with zero depends on rounding; some of them are exactly zero.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_TESTS_OPERATIONS_H
#define SOFTNTK_TESTS_OPERATIONS_H

#include "support.h"

#include <stdio.h>

#include "backends/backend.h"

#define LENGTH(array) (int64_t)(sizeof(array) / sizeof *(array))

/* How a backend computes. */
typedef struct arithmetic {
  int64_t piece, pieces;    /* terms that one accumulator adds, and partial sums that are then added in the type */
  double offset;            /* o: roundings of an exponent's offset, each of |max| */
  double product, addition; /* b, c of the matrix products: 0 and 1 for fused multiply-adds */
  int64_t rescaled;         /* columns after which a running maximum may grow; 0: the maximum is taken first */
} arithmetic;

typedef struct shape {
  int64_t n, d, count, p; /* count: columns, in the paired layout pairs */
  int64_t pad;            /* columns between a row's end and the next row: they must stay as they are */
} shape;

static const double SENTINEL = -12345.0;

/* A range of neurons, what ref makes of it, and the bounds' ingredients. */
typedef struct problem {
  shape s;
  arithmetic rounding;
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

/* L over |x| |w|. */
static double logit_terms(const problem *q) {
  return q->rounding.addition * (double)q->s.d + 2.0 + q->rounding.product;
}

/* h over so many columns, for exponents as large as `max`. */
static double chain(const arithmetic *a, int64_t count, double max) {
  const int64_t length = count < a->piece ? count : a->piece, pieces = (count + a->piece - 1) / a->piece;
  const int64_t rescales = a->rescaled ? (length + a->rescaled - 1) / a->rescaled : 0;
  return (double)length + (double)(pieces < a->pieces ? pieces : a->pieces) +
         (double)rescales * (a->offset * fabs(max) + 4.0);
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

/* ---- a problem: data, ref's answers, bounds ---- */

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
             (q->logit_error[i] + q->exp_error[i] + (double)p + q->rounding.addition * (double)n + q->rounding.product +
              6.0);
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

/* A sample's share of the bounds: sums over its logits. */
static void sample_bounds(problem *q, const double *w0, double weight_norm, int64_t i) {
  const int64_t d = q->s.d, m = q->m;
  const bool softmax = q->activation == SNTK_SOFTMAX;
  double span = 0.0, mass = 0.0, base_mass = 0.0, changed = 0.0, moved = 0.0, square = 0.0;
  for (int64_t k = 0; k < d; k++) square += q->x[i * d + k] * q->x[i * d + k];
  q->x_norm[i] = sqrt(square);
  q->logit_error[i] = q->activation == SNTK_RELU ? 0.0 : logit_terms(q) * q->x_norm[i] * weight_norm;
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
  q->exp_error[i] = q->activation == SNTK_RELU ? 0.0 : 1.5 * span + q->rounding.offset * fabs(q->fixed[i]) + 8.0;
  const double relative = 2.0 * q->logit_error[i] + q->exp_error[i] + chain(&q->rounding, q->s.count, q->fixed[i]);
  q->sum_bound[i] = softmax ? relative * mass : 0.0;
  q->t_bound[i] = (relative + 8.0) * mass;
  q->base_bound[i] = (relative + 8.0) * base_mass;
  /* the change: relative to itself, and the error of the shift's own logit */
  const double own = q->activation == SNTK_RELU ? 0.0 : logit_terms(q) * q->x_norm[i] * q->shift_norm;
  q->change_bound[i] = (relative + 8.0) * changed + own * moved;
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
  for (int64_t i = 0; i < n; i++) sample_bounds(q, w0, weight_norm, i);
  for (int64_t k = 0; k < d; k++)
    for (int64_t r = 0; r < m; r++) q->gradient_bound[k * m + r] = gradient_entry_bound(q, k, r);
  for (int64_t a = 0; a < n * p && q->gram; a++)
    for (int64_t b = 0; b < n * p; b++) q->gram_bound[a * n * p + b] = gram_entry_bound(q, a, b);
}

/* `gram_work`: multiplications that ref's Gram matrix may take; beyond, it is not checked. */
static problem *make_problem(sntk_context *ref, arithmetic rounding, shape s, sntk_activation activation,
                             sntk_layout layout, sntk_precision type, uint64_t seed, double size, int64_t gram_work) {
  problem *q = pool(1, sizeof *q);
  *q = (problem){.s = s, .rounding = rounding, .activation = activation, .layout = layout, .type = type, .scale = 0.75};
  q->m = layout == SNTK_LAYOUT_PAIRED ? 2 * s.count : s.count;
  const int64_t np = s.n * s.p;
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
  double **const of_n[] = {&q->c,         &q->max,       &q->sum,     &q->base_max,     &q->base_sum,
                           &q->fixed,     &q->whole,     &q->mean,    &q->x_norm,       &q->logit_error,
                           &q->exp_error, &q->sum_bound, &q->t_bound, &q->change_bound, &q->base_bound};
  for (int64_t j = 0; j < LENGTH(of_n); j++) *of_n[j] = reals(s.n);
  q->slope = reals(s.n * q->m);
  q->u = reals(np * q->m);
  if (np * np * q->m <= gram_work) {
    q->gram = reals(np * np);
    q->gram_bound = reals(np * np);
  }
  make_data(q, seed, size);
  solve(ref, q);
  return q;
}

/* ---- typed numbers in host memory ---- */

static double get(sntk_precision type, const void *array, int64_t index) {
  return type == SNTK_F32 ? (double)((const float *)array)[index] : ((const double *)array)[index];
}

static void put(sntk_precision type, void *array, int64_t index, double value) {
  if (type == SNTK_F32)
    ((float *)array)[index] = (float)value;
  else
    ((double *)array)[index] = value;
}

/* rows x cols, `pad` sentinels behind each row; from NULL: all sentinels. */
static void *padded(sntk_precision type, const double *from, int64_t rows, int64_t cols, int64_t pad) {
  void *array = pool(rows * (cols + pad), sntk_type_size(type));
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < cols + pad; j++)
      put(type, array, i * (cols + pad) + j, from && j < cols ? from[i * cols + j] : SENTINEL);
  return array;
}

static void assert_padding_kept(sntk_precision type, const void *array, int64_t rows, int64_t cols, int64_t pad) {
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = cols; j < cols + pad; j++) assert_near(get(type, array, i * (cols + pad) + j), SENTINEL, 0.0);
}

/* ---- a backend's memory, reached by upload and download only; kept in a list, so that a failed assertion leaks
 * nothing ---- */

typedef struct device_block {
  sntk_context *ctx;
  void *pointer;
} device_block;

static device_block *device_blocks;
static int64_t device_block_count;

/* All numbers fetched, and all statistics, go in here: equal digests mean equal bits. */
static uint64_t support_digest = UINT64_C(0xcbf29ce484222325);

static void digest(const void *data, int64_t bytes) {
  const unsigned char *byte = data;
  for (int64_t i = 0; i < bytes; i++)
    support_digest = (support_digest ^ byte[i]) * UINT64_C(0x100000001b3); /* FNV-1a */
}

static void *device_alloc(sntk_context *ctx, int64_t bytes) {
  void *pointer;
  device_block *grown = realloc(device_blocks, (size_t)(device_block_count + 1) * sizeof *grown);
  assert_non_null(grown);
  device_blocks = grown;
  assert_ok(ctx, ctx->backend->alloc(ctx, "a test's array", bytes, &pointer));
  device_blocks[device_block_count++] = (device_block){ctx, pointer};
  return pointer;
}

static void *to_device(sntk_context *ctx, const void *from, int64_t bytes) {
  void *pointer = device_alloc(ctx, bytes);
  assert_ok(ctx, ctx->backend->upload(ctx, pointer, from, bytes));
  return pointer;
}

static void *fetch(sntk_context *ctx, const void *pointer, int64_t bytes) {
  void *host = pool(bytes, 1);
  assert_ok(ctx, ctx->backend->download(ctx, host, pointer, bytes));
  digest(host, bytes);
  return host;
}

static void device_clear(void) {
  for (int64_t i = 0; i < device_block_count; i++)
    device_blocks[i].ctx->backend->free(device_blocks[i].ctx, device_blocks[i].pointer);
  free(device_blocks);
  device_blocks = NULL;
  device_block_count = 0;
  pool_clear();
}

static int device_teardown(void **state) {
  (void)state;
  device_clear();
  return 0;
}

/* rows x cols with padding, in backend memory. */
static void *device_matrix(sntk_context *ctx, sntk_precision type, const double *from, int64_t rows, int64_t cols,
                           int64_t pad) {
  return to_device(ctx, padded(type, from, rows, cols, pad), rows * (cols + pad) * (int64_t)sntk_type_size(type));
}

static void *fetch_matrix(sntk_context *ctx, sntk_precision type, const void *pointer, int64_t rows, int64_t cols,
                          int64_t pad) {
  void *host = fetch(ctx, pointer, rows * (cols + pad) * (int64_t)sntk_type_size(type));
  assert_padding_kept(type, host, rows, cols, pad);
  return host;
}

static sntk_neurons device_view(sntk_context *ctx, const problem *q) {
  const int64_t count = q->s.count, d = q->s.d, p = q->s.p, ld = count + q->s.pad;
  int8_t *signs = pool(p * ld, 1);
  for (int64_t l = 0; l < p; l++) memcpy(signs + l * ld, q->signs + l * count, (size_t)count);
  sntk_neurons v = {.activation = q->activation,
                    .layout = q->layout,
                    .type = q->type,
                    .width = q->m,
                    .count = count,
                    .dim = d,
                    .outputs = p,
                    .base = device_matrix(ctx, q->type, q->base, d, count, q->s.pad),
                    .signs = to_device(ctx, signs, p * ld),
                    .ld = ld,
                    .ld_signs = ld};
  for (int h = 0; h < (q->layout == SNTK_LAYOUT_PLAIN ? 0 : q->layout == SNTK_LAYOUT_PAIRED ? 2 : 1); h++)
    v.shift[h] = device_matrix(ctx, q->type, q->shift[h], d, count, q->s.pad);
  return v;
}

static sntk_samples device_samples(sntk_context *ctx, const problem *q) {
  sntk_samples s = {.count = q->s.n, .dim = q->s.d, .type = q->type};
  s.x64 = to_device(ctx, q->x, q->s.n * q->s.d * (int64_t)sizeof(double));
  s.x = q->type == SNTK_F64 ? (const void *)s.x64 : device_matrix(ctx, q->type, q->x, q->s.n, q->s.d, 0);
  return s;
}

/* ---- the operations ---- */

/* In two ranges, the cut odd or even as the shape has it. */
static void check_statistics(sntk_context *ctx, const problem *q, const sntk_neurons *v, const sntk_samples *s) {
  const int64_t n = q->s.n, p = q->s.p, cut = q->s.count / 2;
  const double u = eps_of(q->type);
  const bool softmax = q->activation == SNTK_SOFTMAX;
  double *max = reals(n), *sum = reals(n), *t = reals(n * p), *base_sum = reals(n), *base_t = reals(n * p);
  sntk_stats stats = empty_stats(q, max, sum, t);
  const sntk_neurons parts[2] = {sntk_neurons_slice(v, 0, cut), sntk_neurons_slice(v, cut, q->s.count - cut)};
  if (q->layout != SNTK_LAYOUT_PLAIN) {
    sntk_stats base = empty_stats(q, max, base_sum, base_t);
    for (int h = 0; h < 2; h++)
      if (parts[h].count > 0) assert_ok(ctx, ctx->backend->base_statistics(ctx, &parts[h], s, &base));
    digest(base_sum, n * (int64_t)sizeof *base_sum);
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
  for (int h = 0; h < 2; h++)
    if (parts[h].count > 0) assert_ok(ctx, ctx->backend->statistics(ctx, &parts[h], s, &stats));
  digest(sum, n * (int64_t)sizeof *sum);
  digest(t, n * p * (int64_t)sizeof *t);
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
  double x_largest = 0.0;
  for (int64_t i = 0; i < n; i++) x_largest = fmax(x_largest, q->x_norm[i]);
  assert_near(stats.shift_max, q->layout == SNTK_LAYOUT_PLAIN ? 0.0 : q->shift_max,
              u * logit_terms(q) * x_largest * q->shift_norm);
}

static sntk_pull pull_of(const problem *q) {
  return (sntk_pull){.scale = q->scale, .max = q->fixed, .sum = q->whole, .r = q->r, .c = q->c};
}

static void check_gradient(sntk_context *ctx, const problem *q, const sntk_neurons *v, const sntk_samples *s) {
  const int64_t d = q->s.d, count = q->s.count, m = q->m, pad = q->s.pad;
  const double u = eps_of(q->type);
  const sntk_pull pull = pull_of(q);
  void *out[2], *host[2];
  for (int h = 0; h < 2; h++) out[h] = device_matrix(ctx, q->type, NULL, d, count, pad);
  assert_ok(ctx, ctx->backend->gradient(ctx, v, s, &pull, out, v->ld));
  for (int h = 0; h < 2; h++) host[h] = fetch_matrix(ctx, q->type, out[h], d, count, pad);
  for (int64_t k = 0; k < d; k++)
    for (int64_t r = 0; r < m; r++)
      assert_near(get(q->type, host[half_of(q, r)], k * v->ld + column_of(q, r)), q->gradient[k * m + r],
                  u * q->gradient_bound[k * m + r]);
  if (q->layout != SNTK_LAYOUT_PAIRED) assert_true(get(q->type, host[1], 0) == SENTINEL);
}

/* Changes the weights. */
static void check_descent(sntk_context *ctx, const problem *q, sntk_neurons *v, const sntk_samples *s) {
  const int64_t d = q->s.d, count = q->s.count, m = q->m, pad = q->s.pad;
  const double u = eps_of(q->type), eta = 0.375;
  const bool shifted = q->layout != SNTK_LAYOUT_PLAIN;
  const int halves = q->layout == SNTK_LAYOUT_PAIRED ? 2 : 1;
  const sntk_pull pull = pull_of(q);
  double norms[2] = {1.0, 2.0}, square = 0.0, square_bound = 0.0, lost = 0.0; /* norms are added to */
  assert_ok(ctx, ctx->backend->descent(ctx, v, s, &pull, eta, norms, NULL));
  const void *base = fetch_matrix(ctx, q->type, v->base, d, count, pad), *now[2] = {base, NULL};
  for (int h = 0; h < halves && shifted; h++) now[h] = fetch_matrix(ctx, q->type, v->shift[h], d, count, pad);
  digest(norms, sizeof norms);
  for (int64_t k = 0; k < d; k++)
    for (int64_t r = 0; r < m; r++) {
      const int64_t j = column_of(q, r);
      const double before = (shifted ? q->shift[half_of(q, r)] : q->base)[k * count + j];
      const double after = get(q->type, now[half_of(q, r)], k * v->ld + j), update = -eta * q->gradient[k * m + r];
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
  for (int64_t k = 0; k < d && shifted; k++)
    for (int64_t j = 0; j < count; j++) assert_near(get(q->type, base, k * v->ld + j), q->base[k * count + j], 0.0);
}

/* Steps that take the next statistics on the way, against steps and statistics of their own: the same bits. The same
 * step several times, since a backend may do it in another way once it knows it. */
static void check_steps(sntk_context *ctx, const problem *q, const sntk_samples *s) {
  enum { STEPS = 4 };
  const int64_t n = q->s.n, d = q->s.d, p = q->s.p, count = q->s.count, pad = q->s.pad;
  const double eta = 0.0625;
  const bool shifted = q->layout != SNTK_LAYOUT_PLAIN;
  const sntk_pull pull = pull_of(q);
  sntk_neurons apart = device_view(ctx, q), together = device_view(ctx, q);
  double *max[2], *sum[2], *t[2], norms[2][2] = {{0.0}};
  for (int h = 0; h < 2; h++) {
    max[h] = reals(n);
    sum[h] = reals(n);
    t[h] = reals(n * p);
  }
  sntk_status status = SNTK_OK;
  for (int step = 0; step < STEPS && status == SNTK_OK; step++) {
    sntk_stats after[2];
    for (int h = 0; h < 2; h++) {
      after[h] = empty_stats(q, max[h], sum[h], t[h]);
      if (shifted) memcpy(max[h], q->fixed, (size_t)n * sizeof **max);
    }
    assert_ok(ctx, ctx->backend->descent(ctx, &apart, s, &pull, eta, norms[0], NULL));
    status = ctx->backend->statistics(ctx, &apart, s, &after[0]); /* large steps may overflow exp: then both must */
    assert_status(ctx, ctx->backend->descent(ctx, &together, s, &pull, eta, norms[1], &after[1]), status);
    assert_memory_equal(norms[0], norms[1], sizeof norms[0]);
    if (status != SNTK_OK) break;
    assert_memory_equal(max[0], max[1], (size_t)n * sizeof **max);
    assert_memory_equal(sum[0], sum[1], (size_t)n * sizeof **sum);
    assert_memory_equal(t[0], t[1], (size_t)(n * p) * sizeof **t);
    assert_near(after[1].shift_max, after[0].shift_max, 0.0);
  }
  const void *const both[3][2] = {
      {apart.base, together.base}, {apart.shift[0], together.shift[0]}, {apart.shift[1], together.shift[1]}};
  for (int matrix = 0; matrix < 3 && both[matrix][0]; matrix++) {
    const void *one = fetch_matrix(ctx, q->type, both[matrix][0], d, count, pad),
               *other = fetch_matrix(ctx, q->type, both[matrix][1], d, count, pad);
    assert_memory_equal(one, other, (size_t)(d * (count + pad)) * sntk_type_size(q->type));
  }
}

static void check_push(sntk_context *ctx, const problem *q, const sntk_neurons *v, const sntk_samples *s) {
  const int64_t n = q->s.n, d = q->s.d, p = q->s.p, count = q->s.count, m = q->m;
  const double u = eps_of(q->type);
  const void *direction[2];
  for (int h = 0; h < 2; h++) {
    void *host = padded(q->type, NULL, d, count, q->s.pad);
    for (int64_t k = 0; k < d; k++)
      for (int64_t r = 0; r < m; r++)
        if (half_of(q, r) == h) put(q->type, host, k * v->ld + column_of(q, r), q->v[k * m + r]);
    direction[h] = to_device(ctx, host, d * v->ld * (int64_t)sntk_type_size(q->type));
  }
  double *dot = reals(n * p), *mean = reals(n);
  for (int64_t j = 0; j < n * p; j++) dot[j] = 0.5; /* results are added to what is there */
  assert_ok(ctx, ctx->backend->push(ctx, v, s, q->fixed, q->whole, direction, v->ld, dot, mean));
  digest(dot, n * p * (int64_t)sizeof *dot);
  for (int64_t i = 0; i < n; i++) {
    double bound = 1.0; /* of the 0.5 */
    for (int64_t r = 0; r < m; r++) {
      double xv = 0.0;
      for (int64_t k = 0; k < d; k++) xv += q->x[i * d + k] * q->v[k * m + r];
      bound += q->slope[i * m + r] *
               (fabs(xv) * (q->logit_error[i] + q->exp_error[i] + chain(&q->rounding, count, 0.0) + 6.0) +
                (double)(d + 2) * q->x_norm[i] * column_norm(q->v, d, m, r));
    }
    assert_near(mean[i], q->mean[i], u * bound);
    for (int64_t l = 0; l < p; l++) assert_near(dot[i * p + l] - 0.5, q->dot[i * p + l], u * bound);
  }
}

static void check_features(sntk_context *ctx, const problem *q, const sntk_neurons *v, const sntk_samples *s) {
  const int64_t n = q->s.n, p = q->s.p, count = q->s.count, m = q->m, rows = n * p, ld = m + q->s.pad;
  const double u = eps_of(q->type);
  const bool softmax = q->activation == SNTK_SOFTMAX;
  void *features = device_matrix(ctx, q->type, NULL, rows, m, q->s.pad);
  assert_ok(ctx, ctx->backend->features(ctx, v, s, q->fixed, q->whole, q->away, features, ld));
  const void *host = fetch_matrix(ctx, q->type, features, rows, m, q->s.pad);
  for (int64_t row = 0; row < rows; row++) {
    const int64_t i = row % n, l = row / n;
    for (int64_t r = 0; r < m; r++) {
      const double f = softmax ? q->f[i * p + l] : 0.0, slope = q->slope[i * m + r];
      const double size = softmax ? sqrt((double)m) * slope * (1.0 + fabs(f)) : slope / sqrt((double)m);
      assert_near(get(q->type, host, row * ld + column_of(q, r) + half_of(q, r) * count), q->u[row * m + r],
                  u * size * (q->logit_error[i] + q->exp_error[i] + 6.0));
    }
  }
}

/* Slabs of columns through two buffers in turn, as the engine does it: a buffer is filled again while the other one may
 * still be read. */
static void check_gram(sntk_context *ctx, const problem *q, const sntk_neurons *v, const sntk_samples *s) {
  if (!q->gram) return;
  const int64_t n = q->s.n, p = q->s.p, rows = n * p, each = q->layout == SNTK_LAYOUT_PAIRED ? 2 : 1;
  const int64_t step = (q->s.count + 4) / 5, ld = each * step + q->s.pad;
  const double u = eps_of(q->type);
  void *slab[2], *gram = device_alloc(ctx, rows * rows * (int64_t)sizeof(double));
  for (int h = 0; h < 2; h++) slab[h] = device_matrix(ctx, q->type, NULL, rows, each * step, q->s.pad);
  int turn = 0;
  for (int64_t at = 0; at < q->s.count; at += step, turn = 1 - turn) {
    const sntk_neurons part = sntk_neurons_slice(v, at, q->s.count - at < step ? q->s.count - at : step);
    assert_ok(ctx, ctx->backend->features(ctx, &part, s, q->fixed, q->whole, q->away, slab[turn], ld));
    assert_ok(ctx, ctx->backend->gram_add(ctx, q->type, slab[turn], rows, each * part.count, ld, gram));
  }
  assert_ok(ctx, ctx->backend->gram_finish(ctx, s, p, gram));
  const double *host = fetch(ctx, gram, rows * rows * (int64_t)sizeof(double));
  double trace = 0.0, trace_bound = 0.0;
  for (int64_t a = 0; a < rows; a++) {
    for (int64_t b = 0; b < rows; b++) {
      assert_near(host[a * rows + b], q->gram[a * rows + b], u * q->gram_bound[a * rows + b]);
      assert_near(host[a * rows + b], host[b * rows + a], 0.0);
    }
    trace += host[a * rows + a];
    trace_bound += fabs(host[a * rows + a]);
  }
  /* ascending, and their sum is the trace (backward error of the solver: a modest multiple of the order) */
  double *values = reals(rows), sum = 0.0;
  assert_ok(ctx, ctx->backend->eigenvalues(ctx, gram, rows, values));
  for (int64_t a = 0; a < rows; a++) {
    if (a > 0) assert_true(values[a] >= values[a - 1]);
    sum += values[a];
  }
  assert_near(sum, trace, 8.0 * EPS64 * (double)(rows * rows) * trace_bound);
}

static void check_weights(sntk_context *ctx, const problem *q, const sntk_neurons *v) {
  const int64_t d = q->s.d, count = q->s.count, m = q->m, ld = m + q->s.pad;
  double *weights = padded(SNTK_F64, NULL, d, m, q->s.pad);
  assert_ok(ctx, ctx->backend->read_weights(ctx, v, weights, ld));
  for (int64_t k = 0; k < d; k++)
    for (int64_t r = 0; r < m; r++) assert_near(weights[k * ld + r], q->w[k * m + r], 0.0);
  assert_padding_kept(SNTK_F64, weights, d, m, q->s.pad);

  /* movement: against the base, and against an origin; it only grows */
  const void *origin = device_matrix(ctx, q->type, q->origin, d, count, q->s.pad);
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
 * So does unpairing. Changes the weights. */
static void check_moves(sntk_context *ctx, const problem *q, const sntk_neurons *v) {
  const int64_t d = q->s.d, count = q->s.count, p = q->s.p, m = q->m, pad = q->s.pad;
  double *weights = reals(d * m);
  sntk_neurons single = *v;
  if (q->layout == SNTK_LAYOUT_PLAIN) return;
  if (q->layout == SNTK_LAYOUT_PAIRED) {
    single.layout = SNTK_LAYOUT_DISPLACED;
    single.count = m;
    single.ld = single.ld_signs = m + pad;
    single.base = device_matrix(ctx, q->type, NULL, d, m, pad);
    single.shift[0] = device_matrix(ctx, q->type, NULL, d, m, pad);
    single.shift[1] = NULL;
    single.signs = device_alloc(ctx, p * single.ld_signs);
    assert_ok(ctx, ctx->backend->unpair(ctx, v, &single));
    assert_ok(ctx, ctx->backend->read_weights(ctx, &single, weights, m));
    assert_memory_equal(weights, q->w, (size_t)(d * m) * sizeof *weights);
    const int8_t *signs = fetch(ctx, single.signs, p * single.ld_signs);
    for (int64_t l = 0; l < p; l++) {
      assert_memory_equal(signs + l * single.ld_signs, q->a + l * m, (size_t)m);
      for (int64_t j = m; j < single.ld_signs; j++)
        assert_int_equal(signs[l * single.ld_signs + j], 0); /* as allocated */
    }
  }
  assert_ok(ctx, ctx->backend->move_base(ctx, &single));
  const void *moved = fetch_matrix(ctx, q->type, single.base, d, m, pad),
             *left = fetch_matrix(ctx, q->type, single.shift[0], d, m, pad);
  for (int64_t k = 0; k < d; k++)
    for (int64_t r = 0; r < m; r++) {
      const int64_t j = column_of(q, r);
      const double base = q->base[k * count + j], shift = q->shift[half_of(q, r)][k * count + j];
      const double new_base = get(q->type, moved, k * single.ld + r), rest = get(q->type, left, k * single.ld + r);
      const double sum = base + shift, part = sum - base;
      const double beneath = (base - (sum - part)) + (shift - part); /* base + shift = sum + beneath exactly */
      assert_near(new_base, rounded(q->type, sum), 0.0);
      assert_near(rest, (sum - new_base) + beneath, 0.0);
      assert_near(rest, 0.0, 1.001 * (q->type == SNTK_F32 ? EPS32 : EPS64) * fabs(new_base));
    }
}

static void check_all(sntk_context *ctx, const problem *q) {
  sntk_neurons v = device_view(ctx, q);
  const sntk_samples s = device_samples(ctx, q);
  check_statistics(ctx, q, &v, &s);
  check_push(ctx, q, &v, &s);
  check_features(ctx, q, &v, &s);
  check_gram(ctx, q, &v, &s);
  check_weights(ctx, q, &v);
  check_gradient(ctx, q, &v, &s);
  const sntk_neurons moved = device_view(ctx, q);
  check_moves(ctx, q, &moved);
  check_steps(ctx, q, &s);
  check_descent(ctx, q, &v, &s); /* last: it changes the weights */
}

#endif
