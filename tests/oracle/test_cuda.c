/**
 * @file test_cuda.c
 * @brief Every operation of the cuda backend against ref in float64, on a device or emulated: tile, warp, block and
 * chunk edges, both types, all layouts; and what is promised of its bits.
 *
 * test_cuda [quick | long | all [PATTERN]]; by default all, and of that the tests whose name matches PATTERN. Ends with
 * 77, and the reason, where the backend cannot be opened. The last line is a digest of every number that came back: it
 * must not depend on the order in which threads, blocks and streams run.
 *
 * SPDX-License-Identifier: MIT
 */
#include "operations.h"

#include <float.h>
#include <stdio.h>

/* A thread adds up to 8192 columns, tile after tile of at least 32 columns, each of which may raise the maximum. An
 * exponent's offset is the maximum rounded to the type, then to its product with log2 e. */
static const arithmetic cuda_arithmetic = {
    .piece = 8192, .pieces = 16, .offset = 2.0, .rescaled = 32, .product = 0.0, .addition = 1.0};
/* On tensor cores a product is three of TensorFloat-32: both factors are cut in two parts that together miss 2^-22 = 4
 * u of each, and the product of the small parts, another 4 u, is left out; sums are cut off and not rounded. */
static const arithmetic tensor_arithmetic = {
    .piece = 8192, .pieces = 16, .offset = 2.0, .rescaled = 16, .product = 12.0, .addition = 2.0};

typedef struct setting {
  sntk_context *ref, *cpu, *cuda;
  sntk_context *tensor; /* cuda with tensor cores; NULL where the device has none */
  bool brief;           /* the quick part */
} setting;

static setting global;

static const char *const activation_names[] = {"softmax", "relu", "exp"};
static const char *const layout_names[] = {"plain", "displaced", "paired"};

static void name_case(shape s, int activation, int layout, int type, double size) {
  snprintf(support_case, sizeof support_case, "%s %s %s, n %lld, d %lld, columns %lld, p %lld, pad %lld, shift %g",
           activation_names[activation], layout_names[layout], type == SNTK_F32 ? "f32" : "f64", (long long)s.n,
           (long long)s.d, (long long)s.count, (long long)s.p, (long long)s.pad, size);
}

static problem *problem_for(arithmetic rounding, shape s, int activation, int layout, int type, uint64_t seed,
                            double size) {
  name_case(s, activation, layout, type, size);
  return make_problem(global.ref, rounding, s, (sntk_activation)activation, (sntk_layout)layout, (sntk_precision)type,
                      seed, size, global.brief ? 300000 : 2000000);
}

static problem *cuda_problem(shape s, int activation, int layout, int type, uint64_t seed, double size) {
  return problem_for(cuda_arithmetic, s, activation, layout, type, seed, size);
}

/* ---- the operations ---- */

static const double shift_sizes[] = {0x1p-12, 1.9, 20.0};

/* One shape: both types, all layouts. */
static void check_shape(shape s, int activation, uint64_t seed, double size) {
  for (int layout = SNTK_LAYOUT_PLAIN; layout <= SNTK_LAYOUT_PAIRED; layout++)
    for (int type = SNTK_F32; type <= SNTK_F64; type++) {
      check_all(global.cuda, cuda_problem(s, activation, layout, type, seed, size));
      device_clear();
    }
}

/* ---- the change of the features and of the kernel, and the kernel's gradient, against the formulas ---- */

static long double logit_of(const problem *q, const double *weights, int64_t i, int64_t column) {
  long double z = 0.0L;
  for (int64_t k = 0; k < q->s.d; k++) z += (long double)q->x[i * q->s.d + k] * weights[k * q->s.count + column];
  return z;
}

/* What the engine gives for the change: the normalizer of the base, its relative change, f of the base and its change.
 */
typedef struct change_data {
  double *sum0, *delta, *f0, *df;
  double *away0, *away; /* n x p x 2: 1 - f and -1 - f of the base and of the network */
} change_data;

static change_data change_of(const problem *q) {
  const int64_t n = q->s.n, p = q->s.p, m = q->m;
  change_data c = {.sum0 = reals(n), .delta = reals(n), .f0 = reals(n * p), .df = reals(n * p)};
  c.away0 = reals(2 * n * p);
  c.away = reals(2 * n * p);
  long double *t0 = pool(p, sizeof *t0), *t = pool(p, sizeof *t);
  for (int64_t i = 0; i < n && q->activation == SNTK_SOFTMAX; i++) {
    long double sum0 = 0.0L, sum = 0.0L;
    memset(t0, 0, (size_t)p * sizeof *t0);
    memset(t, 0, (size_t)p * sizeof *t);
    for (int64_t r = 0; r < m; r++) {
      const int64_t j = column_of(q, r);
      const long double z0 = logit_of(q, q->base, i, j), z = z0 + logit_of(q, q->shift[half_of(q, r)], i, j);
      const long double part0 = expl(z0 - q->fixed[i]), part = expl(z - q->fixed[i]);
      sum0 += part0;
      sum += part;
      for (int64_t l = 0; l < p; l++) {
        t0[l] += q->a[l * m + r] * part0;
        t[l] += q->a[l * m + r] * part;
      }
    }
    c.sum0[i] = (double)sum0;
    c.delta[i] = (double)((sum - sum0) / sum0);
    for (int64_t l = 0; l < p; l++) {
      c.f0[i * p + l] = (double)(t0[l] / sum0);
      c.df[i * p + l] = (double)(t[l] / sum - t0[l] / sum0);
      for (int sign = 0; sign < 2; sign++) {
        c.away0[2 * (i * p + l) + sign] = (double)((sign ? -1.0L : 1.0L) - t0[l] / sum0);
        c.away[2 * (i * p + l) + sign] = (double)((sign ? -1.0L : 1.0L) - t[l] / sum);
      }
    }
  }
  return c;
}

/* An entry of dU = U - U0, of Um = U0 + dU / 2, and their bounds in units of u. */
typedef struct change_entry {
  double du, um, du_bound, um_bound;
} change_entry;

/* U - U0 as it stands, in long double, whose own rounding is the last term of the bound. The backend's: S0 has the
 * logit's and the exponential's error; exp(d) - 1 a few units, and the error of the shift's own logit times exp(d);
 * delta, f and df are rounded to the type. */
static change_entry entry_of_change(const problem *q, const change_data *c, int64_t i, int64_t l, int64_t r) {
  const int64_t j = column_of(q, r), p = q->s.p;
  const long double z0 = logit_of(q, q->base, i, j), d = logit_of(q, q->shift[half_of(q, r)], i, j);
  const long double root = sqrtl((long double)q->m), fixed = q->fixed[i];
  const double a = q->a[l * q->m + r];
  const double own = logit_terms(q) * q->x_norm[i] * q->shift_norm, each = q->logit_error[i] + q->exp_error[i] + 12.0;
  change_entry e = {0};
  if (q->activation == SNTK_RELU) { /* exact but for the factor and one product, and a sum of them */
    e.du = (double)(a * ((z0 + d > 0.0L) - (z0 > 0.0L)) / root);
    e.um = (double)(a * (z0 > 0.0L) / root) + e.du / 2.0;
    e.du_bound = 3.0 / (double)root;
    e.um_bound = 5.0 / (double)root;
    return e;
  }
  long double u0, u, size; /* size of a unit of the slope in U */
  double reach = 1.0, df = 0.0, change = (double)expm1l(d), rest = fabs(change), below = 1.0;
  if (q->activation == SNTK_EXP) {
    size = expl(z0) / root;
    u0 = a * size;
    u = a * expl(z0 + d) / root;
  } else {
    const long double f0 = c->f0[i * p + l];
    df = c->df[i * p + l];
    size = root * expl(z0 - fixed) / c->sum0[i];
    u0 = size * (a - f0);
    u = root * expl(z0 + d - fixed) / ((long double)c->sum0[i] * (1.0L + c->delta[i])) * (a - (f0 + df));
    reach = 1.0 + fabs((double)f0) + fabs(df);
    below = 1.0 + c->delta[i];
    rest = fabs(change) + fabs(c->delta[i]);
    change = (change - c->delta[i]) / below;
  }
  e.du = (double)(u - u0);
  e.um = (double)((u + u0) / 2.0L);
  e.du_bound = (double)size *
               (fabs(change) * reach * each + reach * (6.0 * rest + (double)expl(d) * own) / below + fabs(df) * each);
  e.um_bound = (double)size * reach * each + e.du_bound;
  const double reference = 0x1p-8 * (double)(fabsl(u) + fabsl(u0)) * (1.0 + (double)fabsl(z0) + fabs(q->fixed[i]));
  e.du_bound += reference;
  e.um_bound += reference;
  return e;
}

static int64_t place_of(const problem *q, int64_t r) { return column_of(q, r) + half_of(q, r) * q->s.count; }

static void check_feature_change(sntk_context *ctx, const problem *q, const sntk_neurons *v, const sntk_samples *s,
                                 const change_data *c) {
  const int64_t n = q->s.n, m = q->m, rows = n * q->s.p, ld = m + q->s.pad;
  const double u = eps_of(q->type);
  const bool softmax = q->activation == SNTK_SOFTMAX;
  const sntk_change change = {.max = q->fixed,
                              .sum0 = softmax ? c->sum0 : NULL,
                              .delta = softmax ? c->delta : NULL,
                              .away0 = softmax ? c->away0 : NULL,
                              .away = softmax ? c->away : NULL,
                              .df = softmax ? c->df : NULL};
  void *du = device_matrix(ctx, q->type, NULL, rows, m, q->s.pad),
       *um = device_matrix(ctx, q->type, NULL, rows, m, q->s.pad);
  assert_ok(ctx, ctx->backend->feature_change(ctx, v, s, &change, du, um, ld));
  const void *host_du = fetch_matrix(ctx, q->type, du, rows, m, q->s.pad),
             *host_um = fetch_matrix(ctx, q->type, um, rows, m, q->s.pad);
  for (int64_t row = 0; row < rows; row++)
    for (int64_t r = 0; r < m; r++) {
      const change_entry e = entry_of_change(q, c, row % n, row / n, r);
      assert_near(get(q->type, host_du, row * ld + place_of(q, r)), e.du, u * e.du_bound);
      assert_near(get(q->type, host_um, row * ld + place_of(q, r)), e.um, u * e.um_bound);
    }
}

/* Slabs of columns through two pairs of buffers in turn. What the entries' errors make of a sum of products, and its
 * own rounding: at most as many additions as neurons, in the type. */
static void check_gram_change(sntk_context *ctx, const problem *q, const sntk_neurons *v, const sntk_samples *s,
                              const change_data *c) {
  const int64_t n = q->s.n, m = q->m, rows = n * q->s.p, each = q->layout == SNTK_LAYOUT_PAIRED ? 2 : 1;
  const int64_t step = (q->s.count + 4) / 5, ld = each * step + q->s.pad;
  const double u = eps_of(q->type);
  const sntk_change change = {
      .max = q->fixed, .sum0 = c->sum0, .delta = c->delta, .away0 = c->away0, .away = c->away, .df = c->df};
  void *slab[2][2], *gram = device_alloc(ctx, rows * rows * (int64_t)sizeof(double));
  for (int h = 0; h < 4; h++) slab[h / 2][h % 2] = device_matrix(ctx, q->type, NULL, rows, each * step, q->s.pad);
  int turn = 0;
  for (int64_t at = 0; at < q->s.count; at += step, turn = 1 - turn) {
    const sntk_neurons part = sntk_neurons_slice(v, at, q->s.count - at < step ? q->s.count - at : step);
    void *du = slab[turn][0], *um = slab[turn][1];
    assert_ok(ctx, ctx->backend->feature_change(ctx, &part, s, &change, du, um, ld));
    assert_ok(ctx, ctx->backend->gram_add_change(ctx, q->type, du, um, rows, each * part.count, ld, gram));
  }
  assert_ok(ctx, ctx->backend->gram_finish(ctx, s, q->s.p, gram));
  const double *host = fetch(ctx, gram, rows * rows * (int64_t)sizeof(double));
  change_entry *entries = pool(rows * m, sizeof *entries);
  for (int64_t row = 0; row < rows; row++)
    for (int64_t r = 0; r < m; r++) entries[row * m + r] = entry_of_change(q, c, row % n, row / n, r);
  for (int64_t a = 0; a < rows; a++)
    for (int64_t b = 0; b <= a; b++) {
      double expected = 0.0, bound = 0.0, xx = 0.0;
      for (int64_t k = 0; k < q->s.d; k++) xx += q->x[a % n * q->s.d + k] * q->x[b % n * q->s.d + k];
      for (int64_t r = 0; r < m; r++) {
        const change_entry *x = &entries[a * m + r], *y = &entries[b * m + r];
        expected += x->du * y->um + x->um * y->du;
        bound += x->du_bound * (fabs(y->um) + u * y->um_bound) + fabs(x->du) * y->um_bound +
                 y->du_bound * (fabs(x->um) + u * x->um_bound) + fabs(y->du) * x->um_bound +
                 (double)(2 * m + q->s.d + 6) * (fabs(x->du * y->um) + fabs(x->um * y->du));
      }
      bound *= q->x_norm[a % n] * q->x_norm[b % n];
      assert_near(host[a * rows + b], expected * xx, u * bound);
      assert_near(host[b * rows + a], host[a * rows + b], 0.0);
    }
}

/* M symmetric, V = 2 M U; sums over l and i of V w. */
static void check_kernel_gradient(sntk_context *ctx, const problem *q, const sntk_neurons *v, const sntk_samples *s) {
  const int64_t n = q->s.n, d = q->s.d, p = q->s.p, m = q->m, rows = n * p;
  const double u = eps_of(q->type), root = sqrt((double)m);
  const bool softmax = q->activation == SNTK_SOFTMAX, relu = q->activation == SNTK_RELU;
  double *matrix = reals(rows * rows), *band = reals(n), *pulled = reals(rows * m), *pulled_bound = reals(rows * m);
  double *u_bound = reals(rows * m);
  for (int64_t a = 0; a < rows; a++)
    for (int64_t b = 0; b <= a; b++) matrix[a * rows + b] = matrix[b * rows + a] = uniform(77, a * rows + b);
  for (int64_t i = 0; i < n; i++) band[i] = 0.3 + 0.1 * (double)(i % 5); /* between relu's logits, multiples of 2^-15 */
  for (int64_t row = 0; row < rows; row++)
    for (int64_t r = 0; r < m; r++) {
      const int64_t i = row % n;
      const double f = softmax ? q->f[i * p + row / n] : 0.0, slope = q->slope[i * m + r];
      const double size = softmax ? root * slope * (1.0 + fabs(f)) : slope / root;
      u_bound[row * m + r] = size * (q->logit_error[i] + q->exp_error[i] + 6.0);
    }
  for (int64_t a = 0; a < rows; a++)
    for (int64_t b = 0; b < rows; b++)
      for (int64_t r = 0; r < m; r++) {
        const double entry = 2.0 * matrix[a * rows + b];
        pulled[a * m + r] += entry * q->u[b * m + r];
        pulled_bound[a * m + r] += fabs(entry) * (u_bound[b * m + r] + (double)(rows + 3) * fabs(q->u[b * m + r]));
      }
  const void *on_device = to_device(ctx, matrix, rows * rows * (int64_t)sizeof *matrix);
  void *out = device_matrix(ctx, q->type, NULL, d, m, q->s.pad);
  if (softmax) {
    double *sums = reals(rows);
    for (int64_t j = 0; j < rows; j++) sums[j] = 0.5; /* results are added to what is there */
    assert_ok(ctx,
              ctx->backend->kernel_gradient(ctx, v, s, q->fixed, q->whole, q->away, NULL, on_device, out, v->ld, sums));
    digest(sums, rows * (int64_t)sizeof *sums);
    for (int64_t row = 0; row < rows; row++) {
      double expected = 0.5, bound = 1.0;
      const int64_t i = row % n;
      for (int64_t r = 0; r < m; r++) {
        const double factor = root * q->slope[i * m + r];
        expected += pulled[row * m + r] * factor;
        bound += factor *
                 (pulled_bound[row * m + r] + fabs(pulled[row * m + r]) * (q->logit_error[i] + q->exp_error[i] + 6.0));
      }
      assert_near(sums[i * p + row / n], expected, u * bound);
    }
    const void *left = fetch_matrix(ctx, q->type, out, d, m, q->s.pad);
    for (int64_t k = 0; k < d; k++)
      for (int64_t r = 0; r < m; r++) assert_near(get(q->type, left, k * v->ld + r), SENTINEL, 0.0);
  }
  assert_ok(ctx, ctx->backend->kernel_gradient(ctx, v, s, q->fixed, q->whole, q->away, relu ? band : NULL, on_device,
                                               out, v->ld, NULL));
  const void *host = fetch_matrix(ctx, q->type, out, d, m, q->s.pad);
  for (int64_t r = 0; r < m; r++)
    for (int64_t k = 0; k < d; k++) {
      double expected = 0.0, bound = 0.0;
      for (int64_t row = 0; row < rows; row++) {
        const int64_t i = row % n;
        double w = q->u[row * m + r], w_bound = u_bound[row * m + r];
        if (relu) {
          double z = 0.0;
          for (int64_t e = 0; e < d; e++) z += q->x[i * d + e] * q->w[e * m + r];
          w = fabs(z) < band[i] ? q->a[row / n * m + r] / (2.0 * band[i] * root) : 0.0;
          w_bound = 3.0 * fabs(w);
        }
        const double x = q->x[i * d + k], product = pulled[row * m + r] * w;
        expected += x * product;
        bound += fabs(x) * (pulled_bound[row * m + r] * (fabs(w) + u * w_bound) + fabs(pulled[row * m + r]) * w_bound +
                            (double)(n + p + 6) * fabs(product));
      }
      assert_near(get(q->type, host, k * v->ld + r), expected, u * bound);
    }
}

/* Around the edges of warps, tiles and blocks; one and several outputs. */
static void check_changes(int activation) {
  static const shape shapes[] = {{1, 1, 1, 1, 3},   {2, 3, 33, 1, 0},   {5, 4, 31, 3, 1},  {17, 5, 70, 1, 3},
                                 {33, 2, 65, 1, 4}, {9, 129, 64, 3, 2}, {65, 8, 17, 1, 1}, {3, 33, 129, 3, 3}};
  for (int64_t j = 0; j < LENGTH(shapes); j++)
    for (int layout = SNTK_LAYOUT_PLAIN; layout <= SNTK_LAYOUT_PAIRED; layout++)
      for (int type = SNTK_F32; type <= SNTK_F64; type++) {
        const problem *q = cuda_problem(shapes[j], activation, layout, type, 500 + (uint64_t)j, shift_sizes[j % 2]);
        const sntk_neurons v = device_view(global.cuda, q);
        const sntk_samples samples = device_samples(global.cuda, q);
        if (layout != SNTK_LAYOUT_PLAIN) {
          const change_data c = change_of(q);
          check_feature_change(global.cuda, q, &v, &samples, &c);
          check_gram_change(global.cuda, q, &v, &samples, &c);
        }
        if (layout != SNTK_LAYOUT_PAIRED) check_kernel_gradient(global.cuda, q, &v, &samples);
        device_clear();
      }
}

static void changes_softmax(void **state) {
  (void)state;
  check_changes(SNTK_SOFTMAX);
}
static void changes_relu(void **state) {
  (void)state;
  check_changes(SNTK_RELU);
}
static void changes_exp(void **state) {
  (void)state;
  check_changes(SNTK_EXP);
}

/* More columns than a slab of logits holds (1024 of so many samples), and than stand beside the features of so many
 * outputs (512). */
static void several_slabs_of_changes(void **state) {
  (void)state;
  const problem *q = cuda_problem((shape){16383, 2, 1030, 1, 1}, SNTK_EXP, SNTK_LAYOUT_DISPLACED, SNTK_F32, 45, 1.9);
  sntk_neurons v = device_view(global.cuda, q);
  sntk_samples samples = device_samples(global.cuda, q);
  const change_data c = change_of(q);
  check_feature_change(global.cuda, q, &v, &samples, &c);
  device_clear();
  q = cuda_problem((shape){4, 2, 530, 128, 3}, SNTK_SOFTMAX, SNTK_LAYOUT_DISPLACED, SNTK_F32, 47, 1.9);
  v = device_view(global.cuda, q);
  samples = device_samples(global.cuda, q);
  check_kernel_gradient(global.cuda, q, &v, &samples);
}

/* Each dispatch once: one and several outputs, whole tiles that are copied 16 bytes at a time and ragged ones, several
 * tiles of samples and of neurons, samples split over blocks, inputs and outputs beyond the fused kernels of one type
 * or of both. */
static void check_each_kernel(int activation) {
  static const shape shapes[] = {
      {17, 5, 70, 1, 3},   {64, 8, 128, 8, 4}, {65, 33, 34, 10, 2}, {3, 129, 65, 2, 3}, {5, 31, 33, 65, 3},
      {2, 200, 19, 33, 1}, {1, 1, 1, 1, 3},    {3, 2, 2, 3, 0},     {330, 3, 20, 2, 4},
  };
  for (int64_t j = 0; j < LENGTH(shapes); j++)
    check_shape(shapes[j], activation, 700 + (uint64_t)j, shift_sizes[j % LENGTH(shift_sizes)]);
}

static void each_kernel_softmax(void **state) {
  (void)state;
  check_each_kernel(SNTK_SOFTMAX);
}
static void each_kernel_relu(void **state) {
  (void)state;
  check_each_kernel(SNTK_RELU);
}
static void each_kernel_exp(void **state) {
  (void)state;
  check_each_kernel(SNTK_EXP);
}

/* The fused passes on tensor cores, which take float32 and one output: tiles of 128 samples, inputs in steps of 16. */
static void tensor_cores(void **state) {
  (void)state;
  static const shape shapes[] = {{17, 17, 33, 1, 4}, {130, 5, 70, 1, 3}, {128, 16, 128, 1, 0}, {2, 33, 130, 1, 1},
                                 {1, 1, 1, 1, 3},    {520, 3, 20, 1, 4}, {9, 64, 40, 1, 3}};
  if (!global.tensor) {
    print_message("no TensorFloat-32 on this device\n");
    skip();
  }
  for (int64_t j = 0; j < (global.brief ? 1 : LENGTH(shapes)) * 3; j++)
    for (int layout = SNTK_LAYOUT_PLAIN; layout <= SNTK_LAYOUT_PAIRED; layout++) {
      check_all(global.tensor, problem_for(tensor_arithmetic, shapes[j / 3], (int)(j % 3), layout, SNTK_F32,
                                           900 + (uint64_t)j, shift_sizes[j / 3 % 3]));
      device_clear();
    }
}

/* Around 1, a warp, the tiles of 64 and 128 samples and of 16, 32 and 64 neurons, a block, a chunk; every size of one
 * kind meets several of the others. */
static void check_shapes(int activation) {
  static const int64_t ns[] = {1, 2, 3, 31, 33, 63, 64, 65, 127, 128, 129, 200};
  static const int64_t ds[] = {1, 2, 3, 4, 5, 6, 7, 8, 31, 32, 33, 63, 64, 65, 128, 129, 200};
  static const int64_t counts[] = {1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 257};
  static const int64_t ps[] = {1, 2, 3, 8, 10, 33, 64, 65};
  static const int64_t pads[] = {3, 0, 4, 1};
  int64_t turn = 0;
  for (int64_t j = 0; j < LENGTH(ds); j++)
    for (int64_t i = 0; i < 2; i++, turn++) {
      shape s = {.n = ns[(5 * turn + i) % LENGTH(ns)], .d = ds[j], .count = counts[(7 * turn + j) % LENGTH(counts)]};
      s.p = ps[(turn + j) % LENGTH(ps)];
      s.pad = pads[turn % LENGTH(pads)];
      if (s.n * s.p > 600) s.n = s.n % 7 + 1; /* rows of features */
      check_shape(s, activation, 100 + (uint64_t)turn, shift_sizes[turn % LENGTH(shift_sizes)]);
    }
  /* more columns than a thread's chunk and a slab's piece, more samples than one split walks */
  static const shape edges[] = {{2, 3, 2047, 2, 1}, {3, 2, 2048, 1, 4}, {2, 130, 2049, 2, 3},
                                {1, 2, 8191, 1, 3}, {2, 1, 8193, 2, 3}, {700, 2, 17, 3, 3}};
  for (int64_t j = 0; j < LENGTH(edges); j++)
    check_shape(edges[j], activation, 300 + (uint64_t)j, shift_sizes[j % LENGTH(shift_sizes)]);
}

static void shapes_softmax(void **state) {
  (void)state;
  check_shapes(SNTK_SOFTMAX);
}
static void shapes_relu(void **state) {
  (void)state;
  check_shapes(SNTK_RELU);
}
static void shapes_exp(void **state) {
  (void)state;
  check_shapes(SNTK_EXP);
}

/* More logits than a slab holds (2^24): the passes over slabs of logits take several launches. */
static void several_slabs(void **state) {
  (void)state;
  const shape s = {16383, 2, 1100, 1, 3}; /* slabs of 1024 columns */
  for (int layout = SNTK_LAYOUT_PLAIN; layout <= SNTK_LAYOUT_PAIRED; layout += 2) {
    const problem *q = cuda_problem(s, SNTK_SOFTMAX, layout, SNTK_F32, 41, shift_sizes[0]);
    const sntk_neurons v = device_view(global.cuda, q);
    const sntk_samples samples = device_samples(global.cuda, q);
    check_statistics(global.cuda, q, &v, &samples); /* the base's, in float64 */
    check_push(global.cuda, q, &v, &samples);
    check_features(global.cuda, q, &v, &samples);
    device_clear();
  }
}

/* The same for inputs beyond the fused kernels. */
static void several_slabs_of_wide_inputs(void **state) {
  (void)state;
  const shape s = {16383, 137, 1030, 1, 3};
  sntk_neurons v;
  const problem *q = cuda_problem(s, SNTK_RELU, SNTK_LAYOUT_PLAIN, SNTK_F32, 43, shift_sizes[0]);
  v = device_view(global.cuda, q);
  const sntk_samples samples = device_samples(global.cuda, q);
  check_gradient(global.cuda, q, &v, &samples);
  check_descent(global.cuda, q, &v, &samples);
}

/* ---- memory ---- */

static void memory_is_zeroed_and_keeps_what_is_sent(void **state) {
  (void)state;
  static const int64_t sizes[] = {0, 1, 2, 255, 256, 257, 4099, 1 << 20};
  sntk_context *ctx = global.cuda;
  for (int64_t j = 0; j < LENGTH(sizes); j++) {
    void *block = device_alloc(ctx, sizes[j]);
    assert_non_null(block);
    unsigned char *there = fetch(ctx, block, sizes[j]), *sent = pool(sizes[j], 1);
    for (int64_t i = 0; i < sizes[j]; i++) {
      assert_int_equal(there[i], 0);
      sent[i] = (unsigned char)(i * 7 + j);
    }
    assert_ok(ctx, ctx->backend->upload(ctx, block, sent, sizes[j]));
    assert_memory_equal(fetch(ctx, block, sizes[j]), sent, (size_t)sizes[j]);
  }
  ctx->backend->free(ctx, NULL);
}

static void too_much_memory_is_refused(void **state) {
  (void)state;
  sntk_context *ctx = global.cuda;
  void *block = &block;
  const int64_t there = ctx->backend->memory(ctx);
  assert_true(there > 0);
  assert_status(ctx, ctx->backend->alloc(ctx, "weights", there + 1, &block), SNTK_ERR_MEMORY);
  assert_null(block);
  assert_non_null(strstr(sntk_context_error(ctx), "weights"));
  assert_status(ctx, ctx->backend->alloc(ctx, "weights", -1, &block), SNTK_ERR_MEMORY);
  assert_int_equal(ctx->backend->memory(ctx), there);
}

/* ---- random weights and signs: those of ref and cpu, bit for bit ---- */

static void check_random(int64_t first, int64_t count, int64_t d, int64_t p, int kind) {
  enum { PAD = 3 };
  /* kind: iid, symmetric, pairs. A pair's numbers are those of neuron q of an iid network. */
  const sntk_source source = {.seed = 77, .sigma = 0.7, .symmetric = kind > 0},
                    of_ref = {.seed = 77, .sigma = 0.7, .symmetric = kind == 1};
  sntk_neurons expected = {.type = SNTK_F64,
                           .layout = SNTK_LAYOUT_PLAIN,
                           .count = count,
                           .dim = d,
                           .outputs = p,
                           .ld = count,
                           .ld_signs = count};
  expected.base = reals(d * count);
  expected.signs = pool(p * count, 1);
  assert_ok(global.ref, global.ref->backend->random_weights(global.ref, &of_ref, first, &expected));
  assert_ok(global.ref, global.ref->backend->random_signs(global.ref, &of_ref, first, &expected));
  for (int type = SNTK_F32; type <= SNTK_F64; type++) {
    const int64_t ld = count + PAD, bytes = d * ld * (int64_t)sntk_type_size((sntk_precision)type);
    snprintf(support_case, sizeof support_case, "first %lld, columns %lld, d %lld, p %lld, kind %d, type %d",
             (long long)first, (long long)count, (long long)d, (long long)p, kind, type);
    sntk_neurons v = expected, of_cpu;
    v.type = (sntk_precision)type;
    v.layout = kind == 2 ? SNTK_LAYOUT_PAIRED : SNTK_LAYOUT_PLAIN;
    v.ld = v.ld_signs = ld;
    of_cpu = v;
    of_cpu.base = padded(v.type, NULL, d, count, PAD);
    of_cpu.signs = pool(p * ld, 1);
    v.base = device_matrix(global.cuda, v.type, NULL, d, count, PAD);
    v.signs = device_alloc(global.cuda, p * ld);
    assert_ok(global.cpu, global.cpu->backend->random_weights(global.cpu, &source, first, &of_cpu));
    assert_ok(global.cpu, global.cpu->backend->random_signs(global.cpu, &source, first, &of_cpu));
    assert_ok(global.cuda, global.cuda->backend->random_weights(global.cuda, &source, first, &v));
    assert_ok(global.cuda, global.cuda->backend->random_signs(global.cuda, &source, first, &v));
    const void *weights = fetch_matrix(global.cuda, v.type, v.base, d, count, PAD);
    assert_memory_equal(weights, of_cpu.base, (size_t)bytes);
    assert_memory_equal(fetch(global.cuda, v.signs, p * ld), of_cpu.signs, (size_t)(p * ld));
    for (int64_t k = 0; k < d; k++)
      for (int64_t r = 0; r < count; r++)
        assert_near(get(v.type, weights, k * ld + r), ((double *)expected.base)[k * count + r], 0.0);
    for (int64_t l = 0; l < p; l++)
      assert_memory_equal(of_cpu.signs + l * ld, expected.signs + l * count, (size_t)count);
  }
  device_clear();
}

static void random_numbers_are_those_of_ref_and_cpu(void **state) {
  (void)state;
  static const int64_t firsts[] = {0, 1, 2, 255, 256, 257, 100001}, counts[] = {1, 2, 3, 255, 256, 257, 600},
                       dims[] = {1, 3, 16};
  for (int64_t j = 0; j < LENGTH(firsts) * LENGTH(counts) * LENGTH(dims) * 3; j += global.brief ? 10 : 1)
    check_random(firsts[j % LENGTH(firsts)], counts[j / LENGTH(firsts) % LENGTH(counts)],
                 dims[j / LENGTH(firsts) / LENGTH(counts) % LENGTH(dims)], 1 + j % 3,
                 (int)(j / LENGTH(firsts) / LENGTH(counts) / LENGTH(dims)));
}

/* ---- what is not finite, and what is large ---- */

static void check_bad(const problem *q, int64_t position, double value, int where) {
  sntk_context *ctx = global.cuda;
  const int64_t n = q->s.n, size = (int64_t)sntk_type_size(q->type);
  const sntk_neurons v = device_view(ctx, q);
  const sntk_samples samples = device_samples(ctx, q);
  double *max = reals(n), *sum = reals(n), *t = reals(n * q->s.p), bad = 0.0;
  put(q->type, &bad, 0, value);
  assert_ok(ctx,
            ctx->backend->upload(ctx, (char *)(where ? v.shift[where - 1] : v.base) + position * size, &bad, size));
  sntk_stats stats = empty_stats(q, max, sum, t);
  if (q->layout != SNTK_LAYOUT_PLAIN) {
    assert_status(ctx, ctx->backend->base_statistics(ctx, &v, &samples, &stats), where ? SNTK_OK : SNTK_ERR_OVERFLOW);
    memcpy(max, q->base_max, (size_t)n * sizeof *max);
    memset(sum, 0, (size_t)n * sizeof *sum);
    memset(t, 0, (size_t)(n * q->s.p) * sizeof *t);
  }
  assert_status(ctx, ctx->backend->statistics(ctx, &v, &samples, &stats), SNTK_ERR_OVERFLOW);
  assert_non_null(strstr(sntk_context_error(ctx), "sample 0"));
}

/* In the fused kernels (d 2) and in those over a slab (d 1200), at the first and the last column and between. */
static void numbers_that_are_not_finite_are_reported(void **state) {
  (void)state;
  static const double bad[] = {NAN, INFINITY, -INFINITY};
  static const shape shapes[] = {{3, 2, 130, 2, 3}, {2, 1200, 33, 1, 3}};
  for (int64_t k = 0; k < LENGTH(shapes); k++)
    for (int activation = SNTK_SOFTMAX; activation <= SNTK_EXP; activation++)
      for (int layout = SNTK_LAYOUT_PLAIN; layout <= SNTK_LAYOUT_PAIRED; layout++)
        for (int type = SNTK_F32; type <= SNTK_F64; type++)
          for (int64_t at = 0; at < LENGTH(bad) * (layout + 1); at++) {
            const int where = (int)(at / LENGTH(bad)); /* base, first shift, second shift */
            const int64_t positions[] = {0, shapes[k].count / 2, shapes[k].count - 1};
            const problem *q = cuda_problem(shapes[k], activation, layout, type, 1, 0.5);
            check_bad(q, positions[(at + type + activation) % 3], bad[at % LENGTH(bad)], where);
            device_clear();
          }
}

/* exp overflows where its type does. softmax takes any logit in float64, and in float32 those whose exponent's offset
 * is not lost. */
static void large_logits(void **state) {
  (void)state;
  static const struct {
    sntk_activation activation;
    sntk_precision type;
    double logit;
    sntk_status status;
  } cases[] = {{SNTK_EXP, SNTK_F32, 88.7, SNTK_OK},      {SNTK_EXP, SNTK_F32, 88.8, SNTK_ERR_OVERFLOW},
               {SNTK_EXP, SNTK_F64, 709.7, SNTK_OK},     {SNTK_EXP, SNTK_F64, 709.8, SNTK_ERR_OVERFLOW},
               {SNTK_EXP, SNTK_F32, -1e30, SNTK_OK},     {SNTK_EXP, SNTK_F64, -1e300, SNTK_OK},
               {SNTK_SOFTMAX, SNTK_F32, 1e6, SNTK_OK},   {SNTK_SOFTMAX, SNTK_F32, 1e30, SNTK_ERR_OVERFLOW},
               {SNTK_SOFTMAX, SNTK_F64, 1e300, SNTK_OK}, {SNTK_RELU, SNTK_F32, 1e30, SNTK_OK},
               {SNTK_RELU, SNTK_F64, 1e300, SNTK_OK}};
  enum { M = 37 };
  sntk_context *ctx = global.cuda;
  for (int64_t k = 0; k < LENGTH(cases); k++)
    for (int64_t at = 0; at < M; at += 9) {
      const sntk_precision type = cases[k].type;
      const double one = 1.0;
      const float narrow_one = 1.0f;
      double weights[M] = {0.0};
      int8_t signs[M];
      weights[at] = cases[k].logit;
      memset(signs, 1, sizeof signs);
      snprintf(support_case, sizeof support_case, "%s of %g", activation_names[cases[k].activation], cases[k].logit);
      const sntk_neurons v = {.activation = cases[k].activation,
                              .type = type,
                              .width = M,
                              .count = M,
                              .dim = 1,
                              .outputs = 1,
                              .base = device_matrix(ctx, type, weights, 1, M, 0),
                              .signs = to_device(ctx, signs, M),
                              .ld = M,
                              .ld_signs = M};
      const double *x64 = to_device(ctx, &one, sizeof one);
      const sntk_samples s = {
          .count = 1,
          .dim = 1,
          .type = type,
          .x = type == SNTK_F32 ? to_device(ctx, &narrow_one, sizeof narrow_one) : (const void *)x64,
          .x64 = x64};
      double max = cases[k].activation == SNTK_SOFTMAX ? -INFINITY : 0.0, sum = 0.0, t = 0.0;
      sntk_stats stats = {.samples = 1, .outputs = 1, .max = &max, .sum = &sum, .t = &t};
      assert_status(ctx, ctx->backend->statistics(ctx, &v, &s, &stats), cases[k].status);
      if (cases[k].status == SNTK_OK) assert_true(isfinite(t) && isfinite(sum));
      if (cases[k].activation == SNTK_SOFTMAX && cases[k].status == SNTK_OK)
        assert_near(t / sum, 1.0, eps_of(type) * M);
      device_clear();
    }
}

/* The status of statistics, and for layouts with a base those against its maximum of zero. */
static sntk_status status_of_statistics(sntk_context *ctx, const problem *q) {
  const sntk_neurons v = device_view(ctx, q);
  const sntk_samples samples = device_samples(ctx, q);
  double *max = reals(q->s.n), *sum = reals(q->s.n), *t = reals(q->s.n * q->s.p);
  sntk_stats stats = empty_stats(q, max, sum, t);
  if (q->layout != SNTK_LAYOUT_PLAIN) memset(max, 0, (size_t)q->s.n * sizeof *max);
  return ctx->backend->statistics(ctx, &v, &samples, &stats);
}

/* One column of finite weights, of the base or of a shift, whose logits are `logit` times the largest number. */
static problem *overflowing(shape s, int activation, int layout, int type, int where, double logit) {
  problem *q = cuda_problem(s, activation, layout, type, 3, 0.5);
  const double input = type == SNTK_F32 ? 0x1p40 : 0x1p400, largest = type == SNTK_F32 ? FLT_MAX : DBL_MAX;
  double *const to = where ? q->shift[where - 1] : q->base;
  memset(q->base, 0, (size_t)(s.d * s.count) * sizeof *q->base);
  for (int h = 0; h < 2; h++) memset(q->shift[h], 0, (size_t)(s.d * s.count) * sizeof **q->shift);
  for (int64_t i = 0; i < s.n; i++)
    for (int64_t k = 0; k < s.d; k++) q->x[i * s.d + k] = k == 0 ? input : 0.0;
  to[s.count / 2] = rounded(q->type, logit * (largest / input));
  return q;
}

/* A logit beyond the type's range is an overflow, whatever its sign, and one just within is none: also where the
 * activation would make nothing of it. As the cpu backend has it, in the fused kernels and over a slab. */
static void logits_that_overflow(void **state) {
  (void)state;
  static const shape shapes[] = {{3, 2, 130, 2, 3}, {130, 3, 70, 1, 1}, {2, 1200, 33, 1, 3}};
  static const double logits[] = {-4.0, 4.0, -0.25};
  for (int64_t k = 0; k < LENGTH(shapes); k++)
    for (int activation = SNTK_SOFTMAX; activation <= SNTK_EXP; activation++)
      for (int layout = SNTK_LAYOUT_PLAIN; layout <= SNTK_LAYOUT_PAIRED; layout++)
        for (int type = SNTK_F32; type <= SNTK_F64; type++)
          for (int64_t at = 0; at < LENGTH(logits) * (layout + 1); at++) {
            const int where = (int)(at / LENGTH(logits));
            const double logit = logits[at % LENGTH(logits)];
            if (where && fabs(logit) < 1.0) continue; /* a shift so large has the base moved, and then is none */
            const problem *q = overflowing(shapes[k], activation, layout, type, where, logit);
            const sntk_status expected = fabs(logit) < 1.0 ? SNTK_OK : SNTK_ERR_OVERFLOW;
            assert_status(global.cpu, status_of_statistics(global.cpu, q), expected);
            assert_status(global.cuda, status_of_statistics(global.cuda, q), expected);
            if (global.tensor && type == SNTK_F32)
              assert_status(global.tensor, status_of_statistics(global.tensor, q), expected);
            device_clear();
          }
}

/* Beyond a shift of 60 the engine moves the base; it must be told of the shift, and not of an overflow. */
static void shifts_too_large_for_expm1_are_seen(void **state) {
  (void)state;
  sntk_context *ctx = global.cuda;
  const shape s = {2, 3, 70, 1, 3};
  for (int type = SNTK_F32; type <= SNTK_F64; type++)
    for (int sign = -1; sign <= 1; sign += 2) {
      problem *q = cuda_problem(s, SNTK_SOFTMAX, SNTK_LAYOUT_PAIRED, type, 5, 0.5);
      double expected = 0.0;
      for (int64_t k = 0; k < s.d; k++)
        q->shift[1][k * s.count + s.count - 1] = rounded(q->type, sign * 1000.0 * q->x[k]);
      const sntk_neurons v = device_view(ctx, q);
      const sntk_samples samples = device_samples(ctx, q);
      double *max = reals(s.n), *sum = reals(s.n), *t = reals(s.n);
      sntk_stats stats = empty_stats(q, max, sum, t);
      memcpy(max, q->base_max, (size_t)s.n * sizeof *max);
      for (int64_t i = 0; i < s.n; i++) {
        double dot = 0.0;
        for (int64_t k = 0; k < s.d; k++) dot += q->x[i * s.d + k] * q->shift[1][k * s.count + s.count - 1];
        expected = fmax(expected, fabs(dot));
      }
      assert_true(expected > 60.0);
      assert_ok(ctx, ctx->backend->statistics(ctx, &v, &samples, &stats));
      assert_near(stats.shift_max, expected, 5.0 * eps_of(q->type) * 1000.0);
      device_clear();
    }
}

/* ---- bits ---- */

static uint64_t digest_of_all(const problem *q) {
  support_digest = 0;
  check_all(global.cuda, q);
  const uint64_t result = support_digest;
  device_clear();
  return result;
}

/* The same operations twice: the same bits, whatever ran between. */
static void results_repeat_to_the_last_bit(void **state) {
  (void)state;
  static const shape shapes[] = {{70, 5, 150, 3, 3}, {330, 2, 33, 1, 1}, {9, 140, 65, 2, 3}};
  const uint64_t before = support_digest;
  uint64_t all = 0;
  for (int64_t k = 0; k < LENGTH(shapes); k++)
    for (int layout = SNTK_LAYOUT_PLAIN; layout <= SNTK_LAYOUT_PAIRED; layout++)
      for (int type = SNTK_F32; type <= SNTK_F64; type++) {
        const uint64_t first = digest_of_all(cuda_problem(shapes[k], SNTK_SOFTMAX, layout, type, 9, 1.0));
        digest_of_all(cuda_problem(shapes[(k + 1) % LENGTH(shapes)], SNTK_EXP, layout, type, 10, 1.0));
        const uint64_t second = digest_of_all(cuda_problem(shapes[k], SNTK_SOFTMAX, layout, type, 9, 1.0));
        assert_true(first == second);
        all = all * 31 + first;
      }
  support_digest = before;
  digest(&all, sizeof all);
}

/* Samples that are uploaded anew to where others stood: nothing that a backend keeps of those may be left. Inputs of 5:
 * their rows are no whole vectors. */
static void samples_may_change_in_place(void **state) {
  (void)state;
  sntk_context *ctx = global.cuda;
  const shape s = {70, 5, 33, 1, 3};
  for (int type = SNTK_F32; type <= SNTK_F64; type++) {
    const problem *q = cuda_problem(s, SNTK_SOFTMAX, SNTK_LAYOUT_PLAIN, type, 51, 0.5),
                  *other = cuda_problem(s, SNTK_SOFTMAX, SNTK_LAYOUT_PLAIN, type, 52, 0.5);
    const sntk_neurons v = device_view(ctx, q);
    void *x = device_matrix(ctx, q->type, other->x, s.n, s.d, 0), *x64 = to_device(ctx, other->x, s.n * s.d * 8);
    const sntk_samples samples = {.count = s.n, .dim = s.d, .type = q->type, .x = x, .x64 = x64};
    double *max = reals(s.n), *sum = reals(s.n), *t = reals(s.n);
    sntk_stats stats = empty_stats(q, max, sum, t);
    assert_ok(ctx, ctx->backend->statistics(ctx, &v, &samples, &stats));
    assert_ok(ctx, ctx->backend->upload(ctx, x, padded(q->type, q->x, s.n, s.d, 0),
                                        s.n * s.d * (int64_t)sntk_type_size(q->type)));
    assert_ok(ctx, ctx->backend->upload(ctx, x64, q->x, s.n * s.d * 8));
    check_statistics(ctx, q, &v, &samples);
    check_gradient(ctx, q, &v, &samples);
    device_clear();
  }
}

/* ---- networks, through the engine ---- */

/* A network that is stored, and one whose weights are made anew for each slab: the same numbers, and those of the cpu
 * backend. */
static void streamed_and_stored_networks_agree(void **state) {
  (void)state;
  enum { N = 9, D = 3, P = 2, M = 130 };
  double *x = sphere_rows(3, N, D);
  for (int activation = SNTK_SOFTMAX; activation <= SNTK_EXP; activation++)
    for (int init = SNTK_INIT_SYMMETRIC; init <= SNTK_INIT_IID; init++)
      for (int type = SNTK_F32; type <= SNTK_F64; type++) {
        sntk_network_options options = SNTK_NETWORK_OPTIONS_INIT;
        options.activation = (sntk_activation)activation;
        options.width = M;
        options.dim = D;
        options.outputs = P;
        options.init = (sntk_init)init;
        options.precision = (sntk_precision)type;
        options.form = SNTK_FORM_PLAIN;
        double f[3][N * P], gram[3][N * P * N * P];
        for (int which = 0; which < 3; which++) {
          sntk_context *ctx = which == 2 ? global.cpu : global.cuda;
          options.streamed = which == 1;
          sntk_network *net = make_network(ctx, &options);
          const sntk_status forward = sntk_network_forward(ctx, net, x, N, f[which]);
          const sntk_status ntk = sntk_ntk_gram(ctx, net, x, N, gram[which]);
          sntk_network_free(net);
          assert_ok(ctx, forward);
          assert_ok(ctx, ntk);
        }
        snprintf(support_case, sizeof support_case, "%s, init %d, type %d", activation_names[activation], init, type);
        assert_memory_equal(f[0], f[1], sizeof f[0]);
        assert_memory_equal(gram[0], gram[1], sizeof gram[0]);
        /* both backends: d products and roundings a logit, exponents up to 5 sigma = 5, m terms of size up to e^5 */
        const double u = eps_of(options.precision),
                     most = activation == SNTK_SOFTMAX ? sqrt((double)M) : exp(5.0) * sqrt((double)M);
        for (int64_t j = 0; j < N * P; j++) assert_near(f[0][j], f[2][j], 2.0 * u * (M + 5.0 * (D + 2) + 20.0) * most);
        for (int64_t a = 0; a < N * P; a++)
          for (int64_t b = 0; b < N * P; b++)
            assert_near(
                gram[0][a * N * P + b], gram[2][a * N * P + b],
                2.0 * u * (M + 10.0 * (D + 2) + 40.0) *
                    (sqrt(gram[2][a * N * P + a] * gram[2][b * N * P + b]) + (activation == SNTK_RELU ? 1.0 : 0.0)));
      }
  pool_clear();
}

/* ---- main ---- */

int main(int argc, char **argv) {
  const char *part = argc > 1 ? argv[1] : "all";
  const bool quick = strcmp(part, "long") != 0, thorough = strcmp(part, "quick") != 0;
  if (argc > 3 || (quick && thorough && strcmp(part, "all") != 0)) {
    fprintf(stderr, "usage: test_cuda [quick|long|all [PATTERN]]\n");
    return 2;
  }
  if (argc > 2) cmocka_set_test_filter(argv[2]);
  const struct CMUnitTest quick_tests[] = {
      cmocka_unit_test_teardown(memory_is_zeroed_and_keeps_what_is_sent, device_teardown),
      cmocka_unit_test_teardown(too_much_memory_is_refused, device_teardown),
      cmocka_unit_test_teardown(each_kernel_softmax, device_teardown),
      cmocka_unit_test_teardown(each_kernel_relu, device_teardown),
      cmocka_unit_test_teardown(each_kernel_exp, device_teardown),
      cmocka_unit_test_teardown(changes_softmax, device_teardown),
      cmocka_unit_test_teardown(changes_relu, device_teardown),
      cmocka_unit_test_teardown(changes_exp, device_teardown),
      cmocka_unit_test_teardown(samples_may_change_in_place, device_teardown),
      cmocka_unit_test_teardown(tensor_cores, device_teardown),
      cmocka_unit_test_teardown(random_numbers_are_those_of_ref_and_cpu, device_teardown),
      cmocka_unit_test_teardown(numbers_that_are_not_finite_are_reported, device_teardown),
      cmocka_unit_test_teardown(large_logits, device_teardown),
      cmocka_unit_test_teardown(logits_that_overflow, device_teardown),
      cmocka_unit_test_teardown(shifts_too_large_for_expm1_are_seen, device_teardown),
      cmocka_unit_test_teardown(streamed_and_stored_networks_agree, device_teardown),
  };
  const struct CMUnitTest long_tests[] = {
      cmocka_unit_test_teardown(tensor_cores, device_teardown),
      cmocka_unit_test_teardown(shapes_softmax, device_teardown),
      cmocka_unit_test_teardown(shapes_relu, device_teardown),
      cmocka_unit_test_teardown(shapes_exp, device_teardown),
      cmocka_unit_test_teardown(random_numbers_are_those_of_ref_and_cpu, device_teardown),
      cmocka_unit_test_teardown(results_repeat_to_the_last_bit, device_teardown),
      cmocka_unit_test_teardown(several_slabs, device_teardown),
      cmocka_unit_test_teardown(several_slabs_of_wide_inputs, device_teardown),
      cmocka_unit_test_teardown(several_slabs_of_changes, device_teardown),
  };
  sntk_context *probe;
  const sntk_context_options options = {.backend = "cuda"};
  if (sntk_context_create(&probe) != SNTK_OK) return 1;
  if (sntk_context_open(probe, &options) != SNTK_OK) {
    printf("skipped: %s\n", sntk_context_error(probe));
    sntk_context_free(probe);
    return 77;
  }
  printf("%s\n", sntk_context_device(probe));
  global.cuda = probe;
  const sntk_context_options with_tensor_cores = {.backend = "cuda", .tensor_cores = true};
  if (sntk_context_create(&global.tensor) != SNTK_OK) return 1;
  if (sntk_context_open(global.tensor, &with_tensor_cores) != SNTK_OK) {
    sntk_context_free(global.tensor);
    global.tensor = NULL;
  }
  global.ref = open_context("ref", 1);
  global.cpu = open_context("cpu", 1);
  int failed = 0;
  if (quick) {
    global.brief = true;
    failed += cmocka_run_group_tests_name("cuda, quick", quick_tests, NULL, NULL);
    printf("digest of the quick part: %016llx\n", (unsigned long long)support_digest);
  }
  if (thorough) {
    global.brief = false;
    failed += cmocka_run_group_tests_name("cuda, long", long_tests, NULL, NULL);
    printf("digest: %016llx\n", (unsigned long long)support_digest);
  }
  sntk_context_free(global.ref);
  sntk_context_free(global.cpu);
  sntk_context_free(global.tensor);
  sntk_context_free(global.cuda);
  return failed ? 1 : 0;
}
