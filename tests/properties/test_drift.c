/**
 * @file test_drift.c
 * @brief The kernel's change along a run against matrices of the weights as numbers, and the kernel against a Jacobian
 * by dual numbers.
 *
 * SPDX-License-Identifier: MIT
 */
#include "support.h"

#include <stdio.h>

#include "engine/engine.h"

#define LENGTH(array) (int64_t)(sizeof(array) / sizeof *(array))

static const char *const activation_names[] = {"softmax", "relu", "exp", "exp_normalized"};

/* Kinds of start: each has its own layout in the displacement form. */
enum { SYMMETRIC, IID, GIVEN, STARTS };

static const char *const start_names[] = {"symmetric", "iid", "given weights"};

static sntk_network_options options_of(sntk_activation activation, int64_t width, int64_t dim, int64_t outputs,
                                       int start) {
  sntk_network_options options = SNTK_NETWORK_OPTIONS_INIT;
  options.activation = activation;
  options.width = width;
  options.dim = dim;
  options.outputs = outputs;
  options.init = start == SYMMETRIC ? SNTK_INIT_SYMMETRIC : SNTK_INIT_IID;
  options.precision = SNTK_F64;
  options.seed = 21;
  if (start == GIVEN) {
    double *weights = reals(dim * width), *signs = reals(outputs * width);
    for (int64_t j = 0; j < dim * width; j++) weights[j] = (double)(float)(1.2 * uniform(22, j)); /* f32 keeps them */
    for (int64_t j = 0; j < outputs * width; j++) signs[j] = uniform(23, j) > 0.0 ? 1.0 : -1.0;
    options.weights = weights;
    options.signs = signs;
  }
  return options;
}

static double *weights_of(sntk_context *ctx, sntk_network *net) {
  const sntk_network_options *o = sntk_network_get_options(net);
  double *weights = reals(o->dim * o->width);
  assert_ok(ctx, sntk_network_weights(ctx, net, 0, o->width, weights));
  return weights;
}

static double *signs_of(sntk_context *ctx, sntk_network *net) {
  const sntk_network_options *o = sntk_network_get_options(net);
  double *signs = reals(o->outputs * o->width);
  int8_t *bytes = pool(o->outputs * o->width, 1);
  assert_ok(ctx, sntk_network_signs(ctx, net, 0, o->width, bytes));
  for (int64_t j = 0; j < o->outputs * o->width; j++) signs[j] = bytes[j];
  return signs;
}

/* H of a network of such weights, float64 on ref. */
static double *gram_at(sntk_context *ref, const sntk_network_options *like, const double *weights, const double *signs,
                       const double *inputs, int64_t n) {
  sntk_network_options options = *like;
  options.weights = weights;
  options.signs = signs;
  options.form = SNTK_FORM_PLAIN;
  options.precision = SNTK_F64;
  const int64_t rows = n * options.outputs;
  double *gram = reals(rows * rows);
  sntk_network *net = make_network(ref, &options);
  assert_ok(ref, sntk_ntk_gram(ref, net, inputs, n, gram));
  sntk_network_free(net);
  return gram;
}

/* A run's drift and smallest eigenvalue, and what the weights before and after it give. */
typedef struct drifts {
  sntk_train_result result; /* arrays freed */
  double drift, lambda_min, norm;
} drifts;

static drifts train_once(sntk_context *ctx, sntk_context *ref, sntk_network *net, const double *inputs,
                         const double *targets, int64_t n, const sntk_train_options *train) {
  const sntk_network_options options = *sntk_network_get_options(net);
  const int64_t rows = n * options.outputs;
  const double *signs = signs_of(ctx, net);
  const double *before = gram_at(ref, &options, weights_of(ctx, net), signs, inputs, n);
  drifts d = {0};
  assert_ok(ctx, sntk_train(ctx, net, inputs, targets, n, train, &d.result));
  sntk_train_result_clear(&d.result);
  const double *after = gram_at(ref, &options, weights_of(ctx, net), signs, inputs, n);
  double *values = reals(rows);
  assert_ok(ref, sntk_eigenvalues(ref, after, rows, values));
  d.norm = distance(before, NULL, rows * rows);
  d.drift = distance(after, before, rows * rows) / d.norm;
  d.lambda_min = values[0];
  return d;
}

/* After a few steps. The matrices compared with are of the run's own weights, read exactly: what is left is the
 * rounding of the features' change, a few eps of the change, and of the reference, a few eps of H. */
static void drift_is_that_of_the_weights(void **state) {
  (void)state;
  enum { N = 5, D = 4, M = 300 };
  sntk_context *ref = open_context("ref", 1), *cpu = open_context("cpu", 2);
  for (int turn = 0; turn < 4 * 2 * STARTS; turn++) {
    const int start = turn / 8;
    const int64_t outputs = turn / 4 % 2 ? 3 : 1;
    const sntk_network_options options = options_of((sntk_activation)(turn % 4), M, D, outputs, start);
    const double *inputs = sphere_rows(31, N, D), *targets = gaussian_targets(32, N, outputs);
    sntk_train_options train = SNTK_TRAIN_OPTIONS_INIT;
    train.steps = 6;
    train.tolerance = 0.0;
    train.kernel_every = 3;
    double exact = 0.0;
    for (int kind = 0; kind < 4; kind++) { /* f64 plain, f64 displaced, f32 plain, f32 displaced */
      sntk_network_options own = options;
      own.precision = kind / 2 ? SNTK_F32 : SNTK_F64;
      own.form = kind % 2 ? SNTK_FORM_DISPLACEMENT : SNTK_FORM_PLAIN;
      sntk_network *net = make_network(cpu, &own);
      const drifts d = train_once(cpu, ref, net, inputs, targets, N, &train);
      sntk_network_free(net);
      snprintf(support_case, sizeof support_case, "%s, p %lld, %s, kind %d: drift %g", activation_names[turn % 4],
               (long long)outputs, start_names[start], kind, d.drift);
      assert_int_equal(d.result.base_moves, 0);
      assert_true(d.drift > 1e-5);
      const double rounding = 200.0 * EPS64;
      assert_near(d.result.kernel_drift, d.drift, rounding + (kind == 3 ? 2e-5 * d.drift : 0.0));
      assert_near(d.result.lambda_min_final, d.lambda_min, d.norm * (rounding + (kind == 3 ? 2e-5 * d.drift : 0.0)));
      if (kind == 0) exact = d.drift;
      /* and the runs are one run: float32's steps differ by a few eps of their size, and relu's kinks, passed a little
       * earlier or later, by single features */
      const double same = kind < 2 ? 1e-12 : kind == 2 ? 1e-3 : 1e-4;
      const double flip = kind >= 2 && options.activation == SNTK_RELU ? 2.0 / M : 0.0;
      assert_near(d.result.kernel_drift, exact, same * exact + flip + rounding);
    }
    pool_clear();
  }
  sntk_context_free(ref);
  sntk_context_free(cpu);
}

/* A run of two small steps: its drift, and that of its weights taken by float64 matrices. */
static double small_drift(sntk_context *ctx, const sntk_network_options *options, double eta, double *of_weights) {
  enum { N = 4, D = 3 };
  const double *inputs = sphere_rows(33, N, D), *targets = gaussian_targets(34, N, options->outputs);
  sntk_train_options train = SNTK_TRAIN_OPTIONS_INIT;
  train.steps = 2;
  train.tolerance = 0.0;
  train.record_every = 0;
  train.kernel_every = 100;
  train.eta_rule = SNTK_ETA_VALUE;
  train.eta = eta;
  sntk_network *net = make_network(ctx, options);
  const drifts d = train_once(ctx, ctx, net, inputs, targets, N, &train);
  sntk_network_free(net);
  *of_weights = d.drift;
  return d.result.kernel_drift;
}

/* At m = 2^16 with an eta so small that the drift is near 1e-9, a hundredth of float32's last bit of H: float32 in
 * displacement form agrees with float64. relu is left out: no kink is as near as the weights move. With symmetric
 * initialization the first-order changes of a pair's two cancel; what is left goes with eta squared, here 3e-5 of what
 * cancels, and float32's two displacements of a pair cancel to 6e-8 / 3e-5 = 2e-3 of it. Seen 2.7e-3, iid 1e-5. */
static void drift_far_below_the_resolution_of_h(void **state) {
  (void)state;
  sntk_context *cpu = open_context("cpu", 2);
  static const sntk_activation activations[] = {SNTK_SOFTMAX, SNTK_EXP, SNTK_EXP_NORMALIZED};
  for (int turn = 0; turn < 3 * 2 * 2; turn++) {
    const int start = turn / 3 % 2;
    sntk_network_options options = options_of(activations[turn % 3], 1 << 16, 3, turn / 6 ? 3 : 1, start);
    double eta = 1e-5, ignored, of_weights;
    options.form = SNTK_FORM_DISPLACEMENT;
    const double first = small_drift(cpu, &options, eta, &ignored);
    eta *= start == SYMMETRIC ? sqrt(1e-9 / first) : 1e-9 / first;
    const double exact = small_drift(cpu, &options, eta, &ignored);
    assert_near(ignored, exact, 1e-5 * exact);
    options.form = SNTK_FORM_PLAIN;
    const double plain = small_drift(cpu, &options, eta, &ignored);
    options.form = SNTK_FORM_DISPLACEMENT;
    options.precision = SNTK_F32;
    const double narrow = small_drift(cpu, &options, eta, &of_weights);
    snprintf(support_case, sizeof support_case,
             "%s, p %lld, %s, eta %g: f64 %.6g, plain %.6g, f32 %.6g, of its weights %.6g",
             activation_names[options.activation], (long long)options.outputs, start_names[start], eta, exact, plain,
             narrow, of_weights);
    assert_between(exact, 3e-10, 3e-9);
    assert_near(plain, exact, 1e-4 * exact); /* subtraction in float64 */
    assert_near(narrow, exact, (start == SYMMETRIC ? 4e-3 : 1e-4) * exact);
    assert_near(narrow, of_weights, (start == SYMMETRIC ? 4e-3 : 1e-4) * exact);
    pool_clear();
  }
  sntk_context_free(cpu);
}

/* Narrow networks in few dimensions move far: the base moves, pairs part, and the drift stays that from W0. */
static void drift_after_the_base_has_moved(void **state) {
  (void)state;
  enum { N = 3, D = 2, M = 6 };
  sntk_context *ref = open_context("ref", 1), *cpu = open_context("cpu", 1);
  for (int turn = 0; turn < 4 * STARTS * 2; turn++) {
    sntk_network_options options = options_of((sntk_activation)(turn % 4), M, D, 1, turn / 4 % STARTS);
    options.form = SNTK_FORM_DISPLACEMENT;
    options.precision = turn / 12 ? SNTK_F32 : SNTK_F64;
    const double *inputs = sphere_rows(35, N, D);
    double *targets = gaussian_targets(36, N, 1);
    for (int j = 0; j < N; j++) targets[j] *= 12.0;
    sntk_train_options train = SNTK_TRAIN_OPTIONS_INIT;
    train.steps = 80;
    train.tolerance = 0.0;
    train.kernel_every = 7;
    train.eta_rule = SNTK_ETA_VALUE;
    train.eta = turn % 4 == SNTK_EXP ? 0.004 : 0.02;
    sntk_network *net = make_network(cpu, &options);
    const drifts d = train_once(cpu, ref, net, inputs, targets, N, &train);
    sntk_network_free(net);
    snprintf(support_case, sizeof support_case, "%s, %s, precision %d: %lld moves, drift %g",
             activation_names[turn % 4], start_names[turn / 4 % STARTS], (int)options.precision,
             (long long)d.result.base_moves, d.drift);
    assert_true(d.result.base_moves > 0);
    const double bound = 500.0 * EPS64 * (1.0 + d.drift);
    assert_near(d.result.kernel_drift, d.drift, bound);
    assert_near(d.result.lambda_min_final, d.lambda_min, bound * d.norm);
    pool_clear();
  }
  sntk_context_free(ref);
  sntk_context_free(cpu);
}

/* A network trained twice: H(0) is that where the second run starts, in every form. */
static void a_second_run_starts_anew(void **state) {
  (void)state;
  enum { N = 5, D = 4, M = 100 };
  sntk_context *ref = open_context("ref", 1), *cpu = open_context("cpu", 1);
  for (int turn = 0; turn < 4 * STARTS * 3; turn++) {
    sntk_network_options options = options_of((sntk_activation)(turn % 4), M, D, 2, turn / 4 % STARTS);
    options.form = turn / 12 ? SNTK_FORM_DISPLACEMENT : SNTK_FORM_PLAIN;
    options.precision = turn / 24 ? SNTK_F32 : SNTK_F64;
    const double *inputs = sphere_rows(37, N, D), *targets = gaussian_targets(38, N, 2);
    sntk_train_options train = SNTK_TRAIN_OPTIONS_INIT;
    train.steps = 8;
    train.tolerance = 0.0;
    train.kernel_every = 4;
    sntk_network *net = make_network(cpu, &options);
    train_once(cpu, ref, net, inputs, targets, N, &train);
    const drifts d = train_once(cpu, ref, net, inputs, targets, N, &train);
    sntk_network_free(net);
    snprintf(support_case, sizeof support_case, "%s, %s, form %d, precision %d", activation_names[turn % 4],
             start_names[turn / 4 % STARTS], (int)options.form, (int)options.precision);
    assert_near(d.result.kernel_drift, d.drift, 200.0 * EPS64 + 2e-5 * d.drift);
    assert_near(d.result.lambda_min_final, d.lambda_min, 200.0 * EPS64 * d.norm + 2e-5 * d.drift * d.norm);
    pool_clear();
  }
  sntk_context_free(ref);
  sntk_context_free(cpu);
}

/* ---- the change of chosen displacements ---- */

/* The displacements: columns of each half (paired: two). */
static void displace(sntk_context *ctx, sntk_network *net, double size, bool common, uint64_t seed) {
  const sntk_neurons *v = &net->v;
  double *row = reals(v->count);
  for (int h = 0; h < 2 && v->shift[h]; h++)
    for (int64_t k = 0; k < v->dim; k++) {
      for (int64_t r = 0; r < v->count; r++) row[r] = size * uniform(seed, common ? k : 2 * (k * v->count + r) + h);
      assert_ok(ctx, sntk_upload_real(ctx, v->type, row, v->count,
                                      (char *)v->shift[h] + (size_t)(k * v->ld) * sntk_type_size(v->type)));
    }
}

static double *change_of(sntk_context *ctx, sntk_network *net, const double *inputs, int64_t n) {
  const int64_t rows = n * net->options.outputs;
  double *change = reals(rows * rows);
  sntk_pass pass;
  assert_ok(ctx, sntk_pass_create(ctx, net, inputs, n, &pass));
  assert_ok(ctx, sntk_pass_base(ctx, net, &pass));
  assert_ok(ctx, sntk_pass_forward(ctx, net, &pass, NULL));
  assert_ok(ctx, sntk_pass_gram_change(ctx, net, &pass, change));
  sntk_pass_clear(ctx, &pass);
  return change;
}

/* Entry by entry, from moves of 1e-7 to moves of several; each layout; more than a slab of neurons; a sample that is
 * zero. The reference subtracts in float64. */
static void change_of_chosen_displacements(void **state) {
  (void)state;
  enum { N = 5, D = 3, P = 2, ROWS = N * P };
  static const double sizes[] = {1e-7, 1e-3, 0.5, 3.0};
  sntk_context *ref = open_context("ref", 1), *cpu = open_context("cpu", 2);
  double *inputs = sphere_rows(41, N, D);
  for (int64_t k = 0; k < D; k++) inputs[2 * D + k] = 0.0;
  double *const kept = malloc(N * D * sizeof *kept);
  assert_non_null(kept);
  memcpy(kept, inputs, N * D * sizeof *kept);
  for (int turn = 0; turn < 4 * STARTS * 2 * 2; turn++)
    for (int64_t c = 0; c < LENGTH(sizes); c++) {
      sntk_network_options options =
          options_of((sntk_activation)(turn % 4), turn / 24 ? 66 : 2050, D, P, turn / 4 % STARTS);
      options.form = SNTK_FORM_DISPLACEMENT;
      options.precision = turn / 12 % 2 ? SNTK_F32 : SNTK_F64;
      sntk_network *net = make_network(cpu, &options);
      const double *signs = signs_of(cpu, net);
      const double *before = gram_at(ref, &options, weights_of(cpu, net), signs, kept, N);
      displace(cpu, net, sizes[c], false, 42);
      const double *after = gram_at(ref, &options, weights_of(cpu, net), signs, kept, N);
      const double *change = change_of(cpu, net, kept, N);
      sntk_network_free(net);
      const double norm = distance(before, NULL, ROWS * ROWS) + distance(after, NULL, ROWS * ROWS);
      const double moved = distance(after, before, ROWS * ROWS);
      snprintf(support_case, sizeof support_case, "%s, %s, precision %d, m %lld, size %g: |H| %g, change %g",
               activation_names[turn % 4], start_names[turn / 4 % STARTS], (int)options.precision,
               (long long)options.width, sizes[c], norm, moved);
      /* relu in float32: a logit within its rounding of zero may fall to either side, one feature of 1 / sqrt m */
      const double flip = options.activation == SNTK_RELU && options.precision == SNTK_F32 ? 2.0 * N / 2050.0 : 0.0;
      const double bound = 200.0 * EPS64 * norm + (options.precision == SNTK_F32 ? 3e-5 : 1e-12) * moved + flip;
      for (int64_t j = 0; j < ROWS * ROWS; j++) assert_near(change[j], after[j] - before[j], bound);
      pool_clear();
    }
  free(kept);
  sntk_context_free(ref);
  sntk_context_free(cpu);
}

/* Softmax sees differences of logits only. A shift common to all neurons leaves of its features' change the rounding of
 * that change, not of the features. */
static void a_common_shift_is_no_change_for_softmax(void **state) {
  (void)state;
  enum { N = 5, D = 3, P = 2, M = 700, ROWS = N * P };
  static const double sizes[] = {1e-6, 1e-2, 1.0};
  sntk_context *cpu = open_context("cpu", 2);
  for (int turn = 0; turn < 4 * STARTS * 2; turn++)
    for (int64_t c = 0; c < LENGTH(sizes); c++) {
      const double *inputs = sphere_rows(43, N, D);
      sntk_network_options options = options_of((sntk_activation)(turn % 4), M, D, P, turn / 4 % STARTS);
      options.form = SNTK_FORM_DISPLACEMENT;
      options.precision = turn / 12 ? SNTK_F32 : SNTK_F64;
      sntk_network *net = make_network(cpu, &options);
      double *gram = reals(ROWS * ROWS);
      assert_ok(cpu, sntk_ntk_gram(cpu, net, inputs, N, gram));
      displace(cpu, net, sizes[c], true, 44);
      const double change = distance(change_of(cpu, net, inputs, N), NULL, ROWS * ROWS);
      const double norm = distance(gram, NULL, ROWS * ROWS);
      sntk_network_free(net);
      snprintf(support_case, sizeof support_case, "%s, %s, precision %d, size %g: change %g of %g",
               activation_names[turn % 4], start_names[turn / 4 % STARTS], (int)options.precision, sizes[c], change,
               norm);
      if (options.activation == SNTK_SOFTMAX)
        assert_near(change, 0.0, 32.0 * (options.precision == SNTK_F32 ? EPS32 : EPS64) * 4.0 * sizes[c] * norm);
      else if (options.activation != SNTK_RELU)
        assert_true(change > 0.01 * sizes[c] * norm);
      pool_clear();
    }
  sntk_context_free(cpu);
}

/* ---- the Jacobian by dual numbers ---- */

typedef struct dual {
  double value, slope;
} dual;

static dual times(dual a, dual b) { return (dual){a.value * b.value, a.slope * b.value + a.value * b.slope}; }
static dual plus(dual a, dual b) { return (dual){a.value + b.value, a.slope + b.slope}; }
static dual over(dual a, dual b) {
  return (dual){a.value / b.value, (a.slope * b.value - a.value * b.slope) / (b.value * b.value)};
}
static dual exponential(dual a) { return (dual){exp(a.value), exp(a.value) * a.slope}; }
static dual positive(dual a) { return a.value > 0.0 ? a : (dual){0.0, 0.0}; }
static dual constant(double a) { return (dual){a, 0.0}; }

/* F of one sample, p duals, along weight (k, r). */
static void forward(const sntk_network_options *o, const double *weights, const double *signs, const double *x,
                    int64_t along_k, int64_t along_r, dual *f) {
  const int64_t d = o->dim, m = o->width, p = o->outputs;
  dual sum = constant(0.0);
  double square = 0.0;
  for (int64_t k = 0; k < d; k++) square += x[k] * x[k];
  for (int64_t l = 0; l < p; l++) f[l] = constant(0.0);
  for (int64_t r = 0; r < m; r++) {
    dual z = constant(0.0);
    for (int64_t k = 0; k < d; k++) {
      const dual w = {weights[k * m + r], k == along_k && r == along_r ? 1.0 : 0.0};
      z = plus(z, times(constant(x[k]), w));
    }
    const dual phi = o->activation == SNTK_RELU ? positive(z) : exponential(z);
    sum = plus(sum, phi);
    for (int64_t l = 0; l < p; l++) f[l] = plus(f[l], times(constant(signs[l * m + r]), phi));
  }
  const double root = sqrt((double)m);
  for (int64_t l = 0; l < p; l++) {
    if (o->activation == SNTK_SOFTMAX)
      f[l] = times(constant(o->scale == SNTK_SCALE_PAPER ? (double)m : root), over(f[l], sum));
    else if (o->activation == SNTK_RELU || o->scale == SNTK_SCALE_NTK)
      f[l] = times(constant(1.0 / root), f[l]);
    if (o->activation == SNTK_EXP_NORMALIZED) f[l] = times(constant(exp(-0.5 * o->sigma * o->sigma * square)), f[l]);
  }
}

/* J, rows i + n l, and F by the same numbers. */
static double *jacobian(const sntk_network_options *o, const double *weights, const double *signs, const double *inputs,
                        int64_t n, double *outputs) {
  const int64_t d = o->dim, m = o->width, p = o->outputs, count = d * m;
  double *j = reals(n * p * count);
  dual *f = pool(p, sizeof *f);
  for (int64_t i = 0; i < n; i++)
    for (int64_t at = 0; at < count; at++) {
      forward(o, weights, signs, inputs + i * d, at / m, at % m, f);
      for (int64_t l = 0; l < p; l++) {
        j[(i + n * l) * count + at] = f[l].slope;
        outputs[i * p + l] = f[l].value;
      }
    }
  return j;
}

static void kernel_is_the_jacobian_of_dual_numbers(void **state) {
  (void)state;
  enum { N = 4, D = 3, M = 24 };
  sntk_context *cpu = open_context("cpu", 1);
  for (int turn = 0; turn < 4 * 2 * 2 * STARTS * 2; turn++) {
    const int64_t p = turn / 8 % 2 ? 2 : 1, rows = N * p, count = D * M;
    sntk_network_options options = options_of((sntk_activation)(turn % 4), M, D, p, turn / 16 % STARTS);
    options.scale = turn / 4 % 2 ? SNTK_SCALE_PAPER : SNTK_SCALE_NTK;
    options.precision = turn / 48 ? SNTK_F32 : SNTK_F64;
    options.form = turn / 48 ? SNTK_FORM_DISPLACEMENT : SNTK_FORM_PLAIN;
    options.sigma = 0.8;
    double *inputs = sphere_rows(45, N, D);
    for (int64_t k = 0; k < D; k++) inputs[k] *= 0.4, inputs[D + k] *= 0.8; /* rows of different lengths */
    const double *targets = gaussian_targets(46, N, p);
    sntk_train_options train = SNTK_TRAIN_OPTIONS_INIT;
    train.steps = 10;
    train.tolerance = 0.0;
    sntk_train_result result;
    sntk_network *net = make_network(cpu, &options);
    assert_ok(cpu, sntk_train(cpu, net, inputs, targets, N, &train, &result));
    const double *weights = weights_of(cpu, net), *signs = signs_of(cpu, net);
    double *gram = reals(rows * rows), *product = reals(rows * rows), *outputs = reals(N * p), *f = reals(N * p);
    assert_ok(cpu, sntk_ntk_gram(cpu, net, inputs, N, gram));
    assert_ok(cpu, sntk_network_forward(cpu, net, inputs, N, f));
    sntk_network_free(net);
    const double *j = jacobian(&options, weights, signs, inputs, N, outputs);
    const double q = sntk_kernel_scale(options.activation, options.scale, M);
    for (int64_t a = 0; a < rows; a++)
      for (int64_t b = 0; b < rows; b++) {
        for (int64_t c = 0; c < count; c++) product[a * rows + b] += j[a * count + c] * j[b * count + c];
        gram[a * rows + b] *= q;
      }
    const double norm = distance(product, NULL, rows * rows);
    snprintf(support_case, sizeof support_case, "%s, scale %d, p %lld, %s, precision %d: |J J^T| %g",
             activation_names[turn % 4], (int)options.scale, (long long)p, start_names[turn / 16 % STARTS],
             (int)options.precision, norm);
    assert_true(result.weight_movement > 1e-4 && norm > 1e-3);
    /* C of the outputs' error: |x| 1, |w| below 4, logits within 8 of the largest, chains of M */
    const double eps = turn / 48 ? EPS32 : EPS64, c = D * 4.0 + 1.5 * 8.0 + M + 4.0;
    assert_near(distance(gram, product, rows * rows), 0.0, 4.0 * c * eps * norm);
    const double s = sntk_output_scale(options.activation, options.scale, M);
    const double terms = options.activation == SNTK_SOFTMAX ? 1.0 : M * exp(4.0); /* what f is the sum of, at most */
    for (int64_t a = 0; a < N * p; a++) {
      assert_near(f[a], outputs[a], c * eps * s * terms);
      assert_near(result.outputs[a], f[a], c * eps * s * terms);
    }
    sntk_train_result_clear(&result);
    pool_clear();
  }
  sntk_context_free(cpu);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(drift_is_that_of_the_weights, pool_teardown),
      cmocka_unit_test_teardown(drift_far_below_the_resolution_of_h, pool_teardown),
      cmocka_unit_test_teardown(drift_after_the_base_has_moved, pool_teardown),
      cmocka_unit_test_teardown(a_second_run_starts_anew, pool_teardown),
      cmocka_unit_test_teardown(change_of_chosen_displacements, pool_teardown),
      cmocka_unit_test_teardown(a_common_shift_is_no_change_for_softmax, pool_teardown),
      cmocka_unit_test_teardown(kernel_is_the_jacobian_of_dual_numbers, pool_teardown),
  };
  return cmocka_run_group_tests_name("drift", tests, NULL, NULL);
}
