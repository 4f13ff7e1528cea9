/**
 * @file test_perturb.c
 * @brief Perturbations of the kernel against Gram matrices of networks with the moved weights given as numbers.
 *
 * What is measured takes the features' change; what it is compared with takes float64 matrices of two networks and
 * subtracts them. The gradient is compared with central differences of such matrices, every weight of a small case.
 *
 * SPDX-License-Identifier: MIT
 */
#include "support.h"

#include <stdio.h>

#define LENGTH(array) (int64_t)(sizeof(array) / sizeof *(array))

static const char *const activation_names[] = {"softmax", "relu", "exp", "exp_normalized"};

/* A network's start as numbers, and H there. */
typedef struct problem {
  sntk_network_options options;
  int64_t n, rows;
  double *inputs, *weights, *signs, *gram0;
} problem;

/* H at given weights, float64 on ref. */
static double *gram_at(sntk_context *ref, const problem *q, const double *weights) {
  sntk_network_options options = q->options;
  options.weights = weights;
  options.signs = q->signs;
  options.form = SNTK_FORM_PLAIN;
  options.precision = SNTK_F64;
  sntk_network *net = make_network(ref, &options);
  double *gram = reals(q->rows * q->rows);
  assert_ok(ref, sntk_ntk_gram(ref, net, q->inputs, q->n, gram));
  sntk_network_free(net);
  return gram;
}

/* Random weights are float32 numbers: the start is the same in both precisions. */
static problem make_problem(sntk_context *ref, sntk_activation activation, int64_t n, int64_t dim, int64_t outputs,
                            int64_t width, sntk_init init, uint64_t seed) {
  problem q = {.options = SNTK_NETWORK_OPTIONS_INIT, .n = n, .rows = n * outputs};
  q.options.activation = activation;
  q.options.dim = dim;
  q.options.outputs = outputs;
  q.options.width = width;
  q.options.init = init;
  q.options.seed = seed;
  q.options.precision = SNTK_F64;
  q.inputs = sphere_rows(200 + seed, n, dim);
  for (int64_t k = 0; k < dim; k++) q.inputs[k] *= 0.6; /* not all of norm one */
  q.weights = reals(dim * width);
  q.signs = reals(outputs * width);
  int8_t *drawn = pool(outputs * width, 1);
  sntk_network *net = make_network(ref, &q.options);
  assert_ok(ref, sntk_network_weights(ref, net, 0, width, q.weights));
  assert_ok(ref, sntk_network_signs(ref, net, 0, width, drawn));
  sntk_network_free(net);
  for (int64_t j = 0; j < outputs * width; j++) q.signs[j] = drawn[j];
  q.gram0 = gram_at(ref, &q, q.weights);
  return q;
}

static sntk_perturb *make_perturb(sntk_context *ctx, const problem *q, sntk_precision precision) {
  sntk_network_options options = q->options;
  options.precision = precision;
  sntk_perturb *p;
  assert_ok(ctx, sntk_perturb_create(ctx, &options, q->inputs, q->n, &p));
  return p;
}

static double *direction_of(sntk_context *ctx, const sntk_perturb *p, const problem *q) {
  double *direction = reals(q->options.dim * q->options.width);
  assert_ok(ctx, sntk_perturb_direction(ctx, p, 0, q->options.width, direction));
  return direction;
}

/* W0 + R D; the displacement rounded as the precision stores it. */
static double *moved(const problem *q, const double *direction, double radius, sntk_precision precision) {
  const int64_t count = q->options.dim * q->options.width;
  double *weights = reals(count);
  for (int64_t j = 0; j < count; j++) {
    const double by = radius * direction[j];
    weights[j] = q->weights[j] + (precision == SNTK_F32 ? (double)(float)by : by);
  }
  return weights;
}

/* 1/2 |H - H(W0)|_F^2 */
static double half_square(sntk_context *ref, const problem *q, const double *weights) {
  const double norm = distance(gram_at(ref, q, weights), q->gram0, q->rows * q->rows);
  return 0.5 * norm * norm;
}

/* |column r|_2 */
static double column_norm(const double *matrix, int64_t dim, int64_t width, int64_t r) {
  double square = 0.0;
  for (int64_t k = 0; k < dim; k++) square += matrix[k * width + r] * matrix[k * width + r];
  return sqrt(square);
}

static double longest_column(const double *matrix, int64_t dim, int64_t width) {
  double longest = 0.0;
  for (int64_t r = 0; r < width; r++) longest = fmax(longest, column_norm(matrix, dim, width, r));
  return longest;
}

/* ---- the gradient ---- */

static double *gradient_of(sntk_context *ctx, const problem *q, sntk_precision precision, double radius,
                           const double **direction) {
  double *gradient = reals(q->options.dim * q->options.width);
  sntk_perturb *p = make_perturb(ctx, q, precision);
  assert_ok(ctx, sntk_perturb_gradient(ctx, p, SNTK_GOAL_CHANGE, radius, gradient));
  if (direction) *direction = direction_of(ctx, p, q);
  sntk_perturb_free(p);
  return gradient;
}

/* Richardson's extrapolation of central differences, every weight. Pooled memory is given back by the caller. */
static double *differences(sntk_context *ref, const problem *q, const double *weights, double h) {
  static const double steps[] = {1.0, -1.0, 0.5, -0.5};
  const int64_t count = q->options.dim * q->options.width;
  double *result = reals(count), *shifted = reals(count);
  memcpy(shifted, weights, (size_t)count * sizeof *shifted);
  for (int64_t j = 0; j < count; j++) {
    double values[4];
    for (int s = 0; s < 4; s++) {
      shifted[j] = weights[j] + steps[s] * h;
      values[s] = half_square(ref, q, shifted);
    }
    shifted[j] = weights[j];
    result[j] = (4.0 * (values[2] - values[3]) / h - (values[0] - values[1]) / (2.0 * h)) / 3.0;
  }
  return result;
}

/* -lambda_min(H) */
static double minus_lambda_min(sntk_context *ref, const problem *q, const double *weights) {
  double *values = reals(q->rows);
  assert_ok(ref, sntk_eigenvalues(ref, gram_at(ref, q, weights), q->rows, values));
  return -values[0];
}

/* Central differences of -lambda_min, a simple eigenvalue here, at every weight; and the ascent lowers it. */
static void the_gradient_is_that_of_lambda_min(void **state) {
  (void)state;
  sntk_context *ref = open_context("ref", 1), *cpu = open_context("cpu", 2);
  static const sntk_activation activations[] = {SNTK_SOFTMAX, SNTK_EXP, SNTK_EXP_NORMALIZED};
  for (int64_t turn = 0; turn < LENGTH(activations) * 2 * 2; turn++) {
    const int64_t outputs = turn / 3 % 2 ? 2 : 1;
    const double radius = 0.3, h = 0x1p-14;
    problem q = make_problem(ref, activations[turn % 3], 3, 3, outputs, 12,
                             turn / 6 % 2 ? SNTK_INIT_IID : SNTK_INIT_SYMMETRIC, 80 + (uint64_t)turn);
    const int64_t count = q.options.dim * q.options.width;
    sntk_context *const contexts[] = {ref, cpu};
    double *gradients[2], after[2];
    const double *direction = NULL;
    for (int c = 0; c < 2; c++) {
      sntk_perturb *p = make_perturb(contexts[c], &q, SNTK_F64);
      gradients[c] = reals(count);
      assert_ok(contexts[c], sntk_perturb_gradient(contexts[c], p, SNTK_GOAL_LAMBDA_MIN, radius, gradients[c]));
      direction = direction_of(contexts[c], p, &q);
      int64_t ascents;
      sntk_perturbation seen;
      assert_ok(contexts[c], sntk_perturb_adversarial(contexts[c], p, SNTK_GOAL_LAMBDA_MIN, radius, 10, &ascents));
      assert_ok(contexts[c], sntk_perturb_measure(contexts[c], p, radius, &seen));
      after[c] = seen.lambda_min;
      sntk_perturb_free(p);
    }
    double *const weights = moved(&q, direction, radius, SNTK_F64);
    const double before = -minus_lambda_min(ref, &q, weights), norm = distance(q.gram0, NULL, q.rows * q.rows);
    snprintf(support_case, sizeof support_case, "activation %d, p %lld, init %d: lambda_min %g, after %g",
             (int)activations[turn % 3], (long long)outputs, (int)q.options.init, before, after[0]);
    double largest = 0.0;
    for (int64_t j = 0; j < count; j++) {
      const double kept = weights[j];
      weights[j] = kept + h;
      const double above = minus_lambda_min(ref, &q, weights);
      weights[j] = kept - h;
      const double below = minus_lambda_min(ref, &q, weights);
      weights[j] = kept;
      /* truncation h^2 times a third derivative of a few |H|, which a gap between eigenvalues magnifies; rounding of
       * the eigenvalues over h */
      assert_near(gradients[0][j], (above - below) / (2.0 * h), 1e3 * h * h * norm + 64.0 * EPS64 * norm / h);
      assert_near(gradients[1][j], gradients[0][j], 1e5 * EPS64 * norm);
      largest = fmax(largest, fabs(gradients[0][j]));
    }
    assert_true(largest > 1e-3 * norm);
    assert_true(after[0] < before && after[1] < before);
    pool_clear();
  }
  sntk_context_free(ref);
  sntk_context_free(cpu);
}

static void the_gradient_is_that_of_the_change(void **state) {
  (void)state;
  sntk_context *ref = open_context("ref", 1), *cpu = open_context("cpu", 2);
  static const sntk_activation activations[] = {SNTK_SOFTMAX, SNTK_EXP, SNTK_EXP_NORMALIZED};
  static const double radii[] = {0.03, 0.7};
  const double h = 0x1p-9;
  for (int64_t turn = 0; turn < LENGTH(activations) * 2 * 2 * LENGTH(radii); turn++) {
    const sntk_activation activation = activations[turn % 3];
    const int64_t outputs = turn / 3 % 2 ? 3 : 1;
    const double radius = radii[turn / 12];
    problem q = make_problem(ref, activation, 3, 3, outputs, 8, turn / 6 % 2 ? SNTK_INIT_IID : SNTK_INIT_SYMMETRIC,
                             30 + (uint64_t)turn);
    q.options.scale = turn % 2 ? SNTK_SCALE_PAPER : SNTK_SCALE_NTK; /* H does not know it */
    const int64_t count = q.options.dim * q.options.width;
    const double *direction;
    const double *const on_ref = gradient_of(ref, &q, SNTK_F64, radius, &direction);
    const double *const on_cpu = gradient_of(cpu, &q, SNTK_F64, radius, NULL);
    const double *const in_f32 = gradient_of(cpu, &q, SNTK_F32, radius, NULL);
    const double *const weights = moved(&q, direction, radius, SNTK_F64);
    const double *const expected = differences(ref, &q, weights, h);
    const double change = sqrt(2.0 * half_square(ref, &q, weights));
    const double norm = fmax(distance(q.gram0, NULL, q.rows * q.rows), change);
    double largest = 0.0;
    for (int64_t j = 0; j < count; j++) largest = fmax(largest, fabs(expected[j]));
    snprintf(support_case, sizeof support_case, "%s, p %lld, init %d, radius %g: largest %g, change %g, |H| %g",
             activation_names[activation], (long long)outputs, (int)q.options.init, radius, largest, change, norm);
    assert_true(largest > 1e-5 * norm * norm);
    /* Truncation: a feature is an exponential of one weight's logit, so five derivatives of products of four stay below
     * 4^5 of them: h^4 4^5 / 120. Rounding: of a matrix of order |H| and its difference to H(W0), over h. */
    const double truncation = 10.0 * h * h * h * h * norm * norm, rounding = 64.0 * EPS64 * norm * change / h;
    const double terms = 2.0 * change * (norm + change); /* V U and the couplings, added over samples */
    for (int64_t j = 0; j < count; j++) {
      assert_near(on_ref[j], expected[j], truncation + rounding);
      assert_near(on_cpu[j], expected[j], truncation + rounding);
      assert_near(on_cpu[j], on_ref[j], 100.0 * EPS64 * norm * norm);
      assert_near(in_f32[j], on_cpu[j], 32.0 * EPS32 * terms);
    }
    pool_clear();
  }
  sntk_context_free(ref);
  sntk_context_free(cpu);
}

/* More than a chunk of neurons, several slabs, and an order of the threads' shares: cpu against ref. */
static void the_gradient_of_a_wide_network(void **state) {
  (void)state;
  enum { N = 3, D = 2, P = 2, M = 70002 };
  sntk_context *ref = open_context("ref", 1), *cpu = open_context("cpu", 2);
  for (int turn = 0; turn < 4; turn++) {
    const problem q = make_problem(ref, (sntk_activation)turn, N, D, P, M, SNTK_INIT_SYMMETRIC, 50);
    const double radius = 0.3;
    const double *const on_ref = gradient_of(ref, &q, SNTK_F64, radius, NULL);
    const double *const on_cpu = gradient_of(cpu, &q, SNTK_F64, radius, NULL);
    const double *const in_f32 = gradient_of(cpu, &q, SNTK_F32, radius, NULL);
    double largest = 0.0, difference = 0.0;
    for (int64_t j = 0; j < (int64_t)D * M; j++) largest = fmax(largest, fabs(on_ref[j]));
    snprintf(support_case, sizeof support_case, "%s, largest %g", activation_names[turn], largest);
    assert_true(largest > 0.0);
    for (int64_t j = 0; j < (int64_t)D * M; j++) {
      assert_near(on_cpu[j], on_ref[j], 1e-9 * largest);
      difference = fmax(difference, fabs(in_f32[j] - on_cpu[j]));
    }
    /* relu in float32: a neuron within its rounding of an edge of the band falls to the other side */
    if (turn != SNTK_RELU) assert_near(difference, 0.0, 1e-4 * largest);
    pool_clear();
  }
  sntk_context_free(ref);
  sntk_context_free(cpu);
}

/* relu: the documented smeared step, written out. */
static double *smeared(sntk_context *ref, const problem *q, const double *weights, double radius) {
  const int64_t n = q->n, d = q->options.dim, m = q->options.width, rows = q->rows;
  const double *gram = gram_at(ref, q, weights), root = sqrt((double)m);
  double *result = reals(d * m), *u = reals(rows);
  for (int64_t r = 0; r < m; r++) {
    for (int64_t a = 0; a < rows; a++) {
      double z = 0.0;
      for (int64_t k = 0; k < d; k++) z += q->inputs[a % n * d + k] * weights[k * m + r];
      u[a] = z > 0.0 ? q->signs[a / n * m + r] / root : 0.0;
    }
    for (int64_t a = 0; a < rows; a++) {
      const double *x = q->inputs + a % n * d;
      double z = 0.0, v = 0.0, square = 0.0;
      for (int64_t k = 0; k < d; k++) z += x[k] * weights[k * m + r], square += x[k] * x[k];
      for (int64_t b = 0; b < rows; b++) {
        double inner = 0.0;
        for (int64_t k = 0; k < d; k++) inner += x[k] * q->inputs[b % n * d + k];
        v += 2.0 * inner * (gram[a * rows + b] - q->gram0[a * rows + b]) * u[b];
      }
      const double band = radius * sqrt(square);
      if (fabs(z) < band)
        for (int64_t k = 0; k < d; k++) result[k * m + r] += x[k] * v * q->signs[a / n * m + r] / root / (2.0 * band);
    }
  }
  return result;
}

static void relu_ascends_the_smeared_step(void **state) {
  (void)state;
  sntk_context *ref = open_context("ref", 1), *cpu = open_context("cpu", 2);
  for (int64_t turn = 0; turn < 2 * 2 * 2; turn++) {
    const double radius = turn / 4 ? 1.0 : 0.2;
    const problem q = make_problem(ref, SNTK_RELU, 5, 3, turn % 2 ? 3 : 1, 200,
                                   turn / 2 % 2 ? SNTK_INIT_IID : SNTK_INIT_SYMMETRIC, 60 + (uint64_t)turn);
    const int64_t count = q.options.dim * q.options.width;
    const double *direction;
    const double *const on_ref = gradient_of(ref, &q, SNTK_F64, radius, &direction);
    const double *const on_cpu = gradient_of(cpu, &q, SNTK_F64, radius, NULL);
    const double *const in_f32 = gradient_of(cpu, &q, SNTK_F32, radius, NULL);
    const double *const expected = smeared(ref, &q, moved(&q, direction, radius, SNTK_F64), radius);
    double largest = 0.0;
    for (int64_t j = 0; j < count; j++) largest = fmax(largest, fabs(expected[j]));
    snprintf(support_case, sizeof support_case, "p %lld, init %d, radius %g: largest %g", (long long)q.options.outputs,
             (int)q.options.init, radius, largest);
    assert_true(largest > 0.0);
    for (int64_t j = 0; j < count; j++) {
      assert_near(on_ref[j], expected[j], 1e-12 * largest);
      assert_near(on_cpu[j], expected[j], 1e-12 * largest);
      assert_near(in_f32[j], expected[j], 64.0 * EPS32 * largest);
    }
    pool_clear();
  }
  sntk_context_free(ref);
  sntk_context_free(cpu);
}

/* ---- figures ---- */

static void compare_figures(sntk_context *ctx, sntk_context *ref, const problem *q, sntk_precision precision,
                            const char *backend) {
  static const double radii[] = {1e-6, 1e-4, 1e-2, 0.3, 2.0};
  const int64_t square = q->rows * q->rows;
  sntk_perturb *p = make_perturb(ctx, q, precision);
  const double *direction = direction_of(ctx, p, q);
  const double norm0 = distance(q->gram0, NULL, square);
  double *values = reals(q->rows), kernel[3];
  assert_ok(ref, sntk_eigenvalues(ref, q->gram0, q->rows, values));
  sntk_perturb_kernel(p, &kernel[0], &kernel[1], &kernel[2]);
  const double lambda = values[0], of_spectrum = 64.0 * (double)q->rows * EPS64 * values[q->rows - 1];
  assert_near(kernel[0], lambda, of_spectrum);
  assert_near(kernel[1], values[q->rows - 1], of_spectrum);
  assert_near(kernel[2], norm0, 64.0 * EPS64 * norm0);
  for (int64_t c = 0; c < LENGTH(radii); c++) {
    const double radius = radii[c];
    const double *gram = gram_at(ref, q, moved(q, direction, radius, precision));
    const double change = distance(gram, q->gram0, square), norm = distance(gram, NULL, square);
    sntk_perturbation seen;
    assert_ok(ctx, sntk_perturb_measure(ctx, p, radius, &seen));
    snprintf(support_case, sizeof support_case, "%s, %s, p %lld, init %d, precision %d, radius %g, change %g", backend,
             activation_names[q->options.activation], (long long)q->options.outputs, (int)q->options.init,
             (int)precision, radius, change);
    /* The reference rounds both matrices, entries of |U|^2 a row, and so do the weights W0 + R D. float32: a few eps of
     * the change, whatever the radius; relu's features jump, and none is near its own there. */
    const double rounding = 64.0 * EPS64 * (norm0 + norm);
    const double bound = rounding + (precision == SNTK_F32 ? 2e-5 * change : 1e-12 * change);
    if (q->options.activation != SNTK_RELU || radius > 0.1) assert_true(change > 0.0);
    assert_near(seen.change, change, bound);
    assert_true(bound < 1e-4 * change || q->options.activation == SNTK_RELU);
    assert_near(seen.radius, radius, 0.0);
    assert_near(seen.ratio, seen.change / (radius * (double)q->rows), 4.0 * EPS64 * seen.ratio);
    assert_near(seen.relative, seen.change / norm0, 64.0 * EPS64 * seen.relative);
    assert_ok(ref, sntk_eigenvalues(ref, gram, q->rows, values));
    assert_near(seen.lambda_min, values[0], bound + 64.0 * (double)q->rows * EPS64 * norm);
    assert_near(seen.lambda_share, seen.lambda_min / lambda,
                4.0 * EPS64 * fabs(seen.lambda_share) + of_spectrum / lambda);
  }
  sntk_perturb_free(p);
}

/* Subtraction of float32 matrices would leave nothing of a change of 1e-7 at R = 1e-6. */
static void figures_are_those_of_the_moved_weights(void **state) {
  (void)state;
  sntk_context *ref = open_context("ref", 1), *cpu = open_context("cpu", 2);
  for (int turn = 0; turn < 4 * 2 * 2; turn++) {
    const problem q = make_problem(ref, (sntk_activation)(turn % 4), 6, 5, turn / 4 % 2 ? 3 : 1, 206,
                                   turn / 8 ? SNTK_INIT_IID : SNTK_INIT_SYMMETRIC, 90 + (uint64_t)turn);
    compare_figures(cpu, ref, &q, SNTK_F64, "cpu");
    compare_figures(cpu, ref, &q, SNTK_F32, "cpu");
    if (turn % 8 < 4) compare_figures(ref, ref, &q, SNTK_F64, "ref");
    pool_clear();
  }
  sntk_context_free(ref);
  sntk_context_free(cpu);
}

/* Given weights and signs, and an odd width, which no pairs need: the same network as numbers. */
static void weights_may_be_given(void **state) {
  (void)state;
  sntk_context *ref = open_context("ref", 1), *cpu = open_context("cpu", 2);
  for (int turn = 0; turn < 4; turn++) {
    problem q = make_problem(ref, (sntk_activation)turn, 4, 3, 2, 33, SNTK_INIT_IID, 120);
    q.options.weights = q.weights;
    q.options.signs = q.signs;
    q.options.init = SNTK_INIT_SYMMETRIC; /* not looked at */
    compare_figures(cpu, ref, &q, SNTK_F64, "cpu");
    compare_figures(cpu, ref, &q, SNTK_F32, "cpu");
    sntk_perturb *p = make_perturb(cpu, &q, SNTK_F64);
    sntk_train_options train = SNTK_TRAIN_OPTIONS_INIT;
    train.steps = 3;
    double far;
    assert_ok(cpu, sntk_perturb_training(cpu, p, gaussian_targets(3, 4, 2), &train, &far));
    assert_true(far > 0.0);
    sntk_perturb_free(p);
    pool_clear();
  }
  sntk_context_free(ref);
  sntk_context_free(cpu);
}

/* ---- directions ---- */

static void the_random_direction_moves_every_neuron_by_the_radius(void **state) {
  (void)state;
  sntk_context *ref = open_context("ref", 1), *cpu = open_context("cpu", 2);
  for (int turn = 0; turn < 4; turn++) {
    const problem q = make_problem(ref, SNTK_SOFTMAX, 3, turn % 2 ? 7 : 1, 1, 50, SNTK_INIT_SYMMETRIC, 130);
    const int64_t d = q.options.dim, m = q.options.width;
    sntk_perturb *p = make_perturb(turn / 2 ? ref : cpu, &q, SNTK_F64);
    sntk_context *ctx = turn / 2 ? ref : cpu;
    const double *first = direction_of(ctx, p, &q);
    double *part = reals(d * 20), mean = 0.0;
    for (int64_t r = 0; r < m; r++) assert_near(column_norm(first, d, m, r), 1.0, 8.0 * EPS64);
    for (int64_t j = 0; j < d * m; j++) mean += first[j] / (double)(d * m);
    assert_near(mean, 0.0, 5.0 / sqrt((double)(d * m) * (double)d)); /* entries of variance 1 / d */
    assert_ok(ctx, sntk_perturb_direction(ctx, p, 13, 20, part));
    for (int64_t k = 0; k < d; k++) assert_memory_equal(part + k * 20, first + k * m + 13, 20 * sizeof *part);
    sntk_train_options train = SNTK_TRAIN_OPTIONS_INIT;
    train.steps = 2;
    double far;
    assert_ok(ctx, sntk_perturb_training(ctx, p, gaussian_targets(3, 3, 1), &train, &far));
    assert_true(distance(first, direction_of(ctx, p, &q), d * m) > 0.1);
    assert_ok(ctx, sntk_perturb_random(ctx, p));
    assert_memory_equal(first, direction_of(ctx, p, &q), (size_t)(d * m) * sizeof *first);
    sntk_perturb_free(p);
    problem other = q;
    other.options.seed++;
    p = make_perturb(ctx, &other, SNTK_F64);
    assert_true(distance(first, direction_of(ctx, p, &q), d * m) > 0.1);
    sntk_perturb_free(p);
    pool_clear();
  }
  sntk_context_free(ref);
  sntk_context_free(cpu);
}

/* As sntk_train moves a network of the same options. */
static void the_training_direction_is_that_of_training(void **state) {
  (void)state;
  enum { N = 5, D = 3, P = 2, M = 40 };
  sntk_context *ref = open_context("ref", 1), *cpu = open_context("cpu", 2);
  for (int turn = 0; turn < 4 * 2 * 3; turn++) {
    sntk_context *ctx = turn / 8 == 2 ? ref : cpu;
    const problem q = make_problem(ref, (sntk_activation)(turn % 4), N, D, P, M,
                                   turn / 4 % 2 ? SNTK_INIT_IID : SNTK_INIT_SYMMETRIC, 140);
    const sntk_precision precision = turn / 8 == 1 ? SNTK_F32 : SNTK_F64;
    const double *targets = gaussian_targets(4, N, P);
    sntk_train_options train = SNTK_TRAIN_OPTIONS_INIT;
    train.steps = 7;
    train.tolerance = 0.0;
    sntk_network_options options = q.options;
    options.precision = precision;
    options.form = ctx == cpu ? SNTK_FORM_DISPLACEMENT : SNTK_FORM_PLAIN;
    sntk_network *net = make_network(ctx, &options);
    sntk_train_result result;
    double after[D * M], by[D * M], far;
    assert_ok(ctx, sntk_train(ctx, net, q.inputs, targets, N, &train, &result));
    assert_ok(ctx, sntk_network_weights(ctx, net, 0, M, after));
    sntk_network_free(net);
    snprintf(support_case, sizeof support_case, "%s, turn %d", activation_names[turn % 4], turn);
    sntk_perturb *p = make_perturb(ctx, &q, precision);
    assert_ok(ctx, sntk_perturb_training(ctx, p, targets, &train, &far));
    assert_true(far > 1e-3);
    assert_near(far, result.weight_movement, 64.0 * EPS64 * 5.0); /* weights below 5 are subtracted */
    const double *direction = direction_of(ctx, p, &q);
    assert_near(longest_column(direction, D, M), 1.0, 16.0 * EPS64);
    for (int64_t j = 0; j < D * M; j++) {
      by[j] = after[j] - q.weights[j];
      assert_near(far * direction[j], by[j], 64.0 * EPS64 * 5.0);
    }
    /* back where training ended, the change is that of training: within what rounding the displacement does */
    sntk_perturbation seen;
    assert_ok(ctx, sntk_perturb_measure(ctx, p, far, &seen));
    const double change = distance(gram_at(ref, &q, after), q.gram0, (int64_t)N * P * N * P);
    assert_near(seen.change, change, precision == SNTK_F32 ? 3e-5 * change : 1e-10 * change);
    sntk_train_result_clear(&result);
    sntk_perturb_free(p);
    pool_clear();
  }
  sntk_context_free(ref);
  sntk_context_free(cpu);
}

/* A direction that cannot be had leaves the one there was. */
static void a_failed_training_keeps_the_direction(void **state) {
  (void)state;
  enum { N = 4, D = 3, M = 20 };
  sntk_context *cpu = open_context("cpu", 1), *ref = open_context("ref", 1);
  const problem q = make_problem(ref, SNTK_EXP, N, D, 1, M, SNTK_INIT_SYMMETRIC, 150);
  sntk_perturb *p = make_perturb(cpu, &q, SNTK_F64);
  const double *before = direction_of(cpu, p, &q);
  double targets[N] = {0.0}, far = -1.0;
  sntk_train_options train = SNTK_TRAIN_OPTIONS_INIT;
  train.steps = 0;
  assert_status(cpu, sntk_perturb_training(cpu, p, targets, &train, &far), SNTK_ERR_NUMERICAL);
  assert_near(far, 0.0, 0.0);
  assert_memory_equal(before, direction_of(cpu, p, &q), D * M * sizeof *before);
  targets[0] = 1.0;
  train.steps = 100;
  train.eta_rule = SNTK_ETA_VALUE;
  train.eta = 1e6;
  assert_true(sntk_perturb_training(cpu, p, targets, &train, &far) != SNTK_OK);
  assert_memory_equal(before, direction_of(cpu, p, &q), D * M * sizeof *before);
  targets[0] = NAN;
  assert_status(cpu, sntk_perturb_training(cpu, p, targets, &train, &far), SNTK_ERR_ARGUMENT);
  sntk_perturbation seen;
  assert_ok(cpu, sntk_perturb_measure(cpu, p, 0.1, &seen));
  assert_true(seen.change > 0.0);
  sntk_perturb_free(p);
  sntk_context_free(cpu);
  sntk_context_free(ref);
}

/* Steps of a random direction partly cancel over the neurons, those of the ascent all go one way. Seen here: 3.1 to 3.7
 * times the random change, relu 2.3 to 2.5; in float32 as in float64. */
static void the_adversarial_direction_changes_more(void **state) {
  (void)state;
  enum { N = 6, D = 4, M = 400, STEPS = 12 };
  sntk_context *ref = open_context("ref", 1), *cpu = open_context("cpu", 2);
  for (int turn = 0; turn < 4 * 2 * 2; turn++) {
    const problem q =
        make_problem(ref, (sntk_activation)(turn % 4), N, D, turn / 8 ? 2 : 1, M, SNTK_INIT_SYMMETRIC, 160);
    const sntk_precision precision = turn / 4 % 2 ? SNTK_F32 : SNTK_F64;
    const double radius = 0.05;
    sntk_perturb *p = make_perturb(cpu, &q, precision);
    sntk_perturbation random, found;
    int64_t ascents = -1;
    assert_ok(cpu, sntk_perturb_measure(cpu, p, radius, &random));
    assert_ok(cpu, sntk_perturb_adversarial(cpu, p, SNTK_GOAL_CHANGE, radius, STEPS, &ascents));
    assert_ok(cpu, sntk_perturb_measure(cpu, p, radius, &found));
    const double *direction = direction_of(cpu, p, &q);
    snprintf(support_case, sizeof support_case, "%s, p %lld, precision %d: random %g, found %g, %lld ascents",
             activation_names[turn % 4], (long long)q.options.outputs, (int)precision, random.change, found.change,
             (long long)ascents);
    assert_between(longest_column(direction, D, M), 0.5, 1.0 + 8.0 * EPS64);
    assert_between((double)ascents, 1.0, STEPS);
    assert_true(found.change > (q.options.activation == SNTK_RELU ? 1.5 : 2.0) * random.change);
    /* and it is a change of the real thing */
    const double *gram = gram_at(ref, &q, moved(&q, direction, radius, precision));
    const double change = distance(gram, q.gram0, q.rows * q.rows);
    assert_near(found.change, change, (precision == SNTK_F32 ? 2e-5 : 1e-12) * change + 1e-13);
    /* again from there: never below */
    assert_ok(cpu, sntk_perturb_adversarial(cpu, p, SNTK_GOAL_CHANGE, radius, 2, &ascents));
    sntk_perturbation again;
    assert_ok(cpu, sntk_perturb_measure(cpu, p, radius, &again));
    assert_true(again.change >= found.change);
    /* a change far below float32's resolution of H is climbed too; relu has no kink as near as that */
    sntk_perturbation small, raised;
    assert_ok(cpu, sntk_perturb_random(cpu, p));
    assert_ok(cpu, sntk_perturb_measure(cpu, p, 1e-8, &small));
    assert_ok(cpu, sntk_perturb_adversarial(cpu, p, SNTK_GOAL_CHANGE, 1e-8, STEPS, &ascents));
    assert_ok(cpu, sntk_perturb_measure(cpu, p, 1e-8, &raised));
    if (q.options.activation == SNTK_RELU)
      assert_true(raised.change >= small.change);
    else
      assert_true(raised.change > 2.0 * small.change);
    sntk_perturb_free(p);
    pool_clear();
  }
  sntk_context_free(ref);
  sntk_context_free(cpu);
}

/* ---- the rest ---- */

static double largest_logit(const problem *q, const double *weights) {
  const int64_t d = q->options.dim, m = q->options.width;
  double largest = 0.0;
  for (int64_t i = 0; i < q->n; i++)
    for (int64_t r = 0; r < m; r++) {
      double z = 0.0;
      for (int64_t k = 0; k < d; k++) z += q->inputs[i * d + k] * weights[k * m + r];
      largest = fmax(largest, fabs(z));
    }
  return largest;
}

/* The B of a run: of both signs, at W0 and where the weights were moved to, over more neurons than a piece has. */
static void the_largest_logit_is_that_of_both_weights(void **state) {
  (void)state;
  enum { N = 5, D = 3, M = 5000 };
  static const sntk_activation activations[] = {SNTK_SOFTMAX, SNTK_RELU, SNTK_EXP};
  static const double radii[] = {1e-3, 0.5, 4.0};
  sntk_context *cpu = open_context("cpu", 2), *ref = open_context("ref", 1);
  for (int turn = 0; turn < 12; turn++) {
    sntk_context *ctx = turn % 2 ? cpu : ref;
    const sntk_precision precision = turn % 4 == 1 ? SNTK_F32 : SNTK_F64;
    const problem q = make_problem(ref, activations[turn % 3], N, D, 1, turn % 3 ? 40 : M,
                                   turn % 2 ? SNTK_INIT_IID : SNTK_INIT_SYMMETRIC, 300 + (uint64_t)turn);
    sntk_perturb *p = make_perturb(ctx, &q, precision);
    for (int64_t k = 0; k < LENGTH(radii); k++) {
      sntk_perturbation seen;
      double logit;
      assert_ok(ctx, sntk_perturb_measure(ctx, p, radii[k], &seen));
      assert_ok(ctx, sntk_perturb_logit(ctx, p, &logit));
      const double *const after = moved(&q, direction_of(ctx, p, &q), radii[k], precision);
      const double before = largest_logit(&q, q.weights), expected = fmax(before, largest_logit(&q, after));
      snprintf(support_case, sizeof support_case, "turn %d, radius %g", turn, radii[k]);
      assert_near(logit, expected, (precision == SNTK_F32 ? 8.0 * EPS32 : 16.0 * EPS64) * D * expected);
    }
    sntk_perturb_free(p);
    pool_clear();
  }
  sntk_context_free(cpu);
  sntk_context_free(ref);
}

static void the_bound_is_the_formula(void **state) {
  (void)state;
  assert_near(sntk_perturb_bound(0.01, 32, 2, 1.0), 0.64 * exp(10.0), 0.64 * 64.0 * EPS64 * exp(10.0));
  const double expected = 0.002 * 36.0 * exp(10.0 * 4.1);
  assert_near(sntk_perturb_bound(0.002, 12, 3, 4.1), expected, 1e-13 * expected);
  assert_near(sntk_perturb_bound(0.004, 12, 3, 4.1), 2.0 * expected, 2e-13 * expected);
}

static void arguments_outside_their_domain(void **state) {
  (void)state;
  enum { N = 4, D = 3, M = 20 };
  sntk_context *cpu = open_context("cpu", 1), *ref = open_context("ref", 1);
  for (int turn = 0; turn < 2; turn++) {
    sntk_context *ctx = turn ? ref : cpu;
    const problem q = make_problem(ref, SNTK_SOFTMAX, N, D, 1, M, SNTK_INIT_SYMMETRIC, 170);
    sntk_perturb *p = make_perturb(ctx, &q, SNTK_F64);
    sntk_perturbation seen;
    double gradient[D * M], part[D];
    int64_t ascents;
    static const double radii[] = {0.0, -1.0, NAN, INFINITY, 51.0};
    for (int64_t c = 0; c < LENGTH(radii); c++) {
      assert_status(ctx, sntk_perturb_measure(ctx, p, radii[c], &seen), SNTK_ERR_ARGUMENT);
      assert_status(ctx, sntk_perturb_gradient(ctx, p, SNTK_GOAL_CHANGE, radii[c], gradient), SNTK_ERR_ARGUMENT);
      assert_status(ctx, sntk_perturb_adversarial(ctx, p, SNTK_GOAL_CHANGE, radii[c], 3, &ascents), SNTK_ERR_ARGUMENT);
      assert_int_equal(ascents, 0);
    }
    assert_ok(ctx, sntk_perturb_measure(ctx, p, 49.0, &seen));
    assert_status(ctx, sntk_perturb_adversarial(ctx, p, SNTK_GOAL_CHANGE, 0.1, 0, &ascents), SNTK_ERR_ARGUMENT);
    assert_status(ctx, sntk_perturb_adversarial(ctx, p, SNTK_GOAL_CHANGE, 0.1, -1, &ascents), SNTK_ERR_ARGUMENT);
    assert_status(ctx, sntk_perturb_direction(ctx, p, M, 1, part), SNTK_ERR_ARGUMENT);
    assert_status(ctx, sntk_perturb_direction(ctx, p, -1, 1, part), SNTK_ERR_ARGUMENT);
    assert_status(ctx, sntk_perturb_direction(ctx, p, 0, -1, part), SNTK_ERR_ARGUMENT);
    assert_ok(ctx, sntk_perturb_direction(ctx, p, M - 1, 1, part));
    sntk_perturb_free(p);

    sntk_network_options options = q.options;
    options.width = M + 1; /* no pairs, and no weights given */
    assert_status(ctx, sntk_perturb_create(ctx, &options, q.inputs, N, &p), SNTK_ERR_ARGUMENT);
    assert_null(p);
    assert_status(ctx, sntk_perturb_create(ctx, &q.options, q.inputs, 0, &p), SNTK_ERR_ARGUMENT);
    assert_null(p);
    q.inputs[1] = NAN;
    assert_status(ctx, sntk_perturb_create(ctx, &q.options, q.inputs, N, &p), SNTK_ERR_ARGUMENT);
    assert_null(p);
    sntk_perturb_free(NULL);
    pool_clear();
  }
  sntk_context_free(ref);
  sntk_context_free(cpu);
  sntk_context *closed;
  sntk_perturb *p;
  const double input[1] = {1.0};
  sntk_network_options options = SNTK_NETWORK_OPTIONS_INIT;
  options.width = 2;
  options.dim = 1;
  assert_int_equal(sntk_context_create(&closed), SNTK_OK);
  assert_status(closed, sntk_perturb_create(closed, &options, input, 1, &p), SNTK_ERR_ARGUMENT);
  assert_null(p);
  sntk_context_free(closed);
}

/* Where the bytes of a matrix or of the weights pass what numbers can say. */
static void memory_is_told_or_refused(void **state) {
  (void)state;
  sntk_context *cpu = open_context("cpu", 1);
  sntk_network_options options = SNTK_NETWORK_OPTIONS_INIT;
  options.width = 1000;
  options.dim = 10;
  const int64_t bytes = sntk_perturb_bytes(cpu, &options, 50);
  assert_between((double)bytes, 1000.0 * 10.0 * 8.0 * 2.0 + 50.0 * 50.0 * 8.0 * 4.0, 1e9);
  options.width = 2000;
  assert_true(sntk_perturb_bytes(cpu, &options, 50) > bytes);
  options.width = INT64_MAX / 2;
  assert_int_equal(sntk_perturb_bytes(cpu, &options, 50), -1);
  sntk_context_free(cpu);
}

static void the_same_run_gives_the_same_bits(void **state) {
  (void)state;
  enum { N = 6, D = 4, P = 2, M = 3000 };
  sntk_context *ref = open_context("ref", 1);
  for (int turn = 0; turn < 4 * 2; turn++) {
    const problem q = make_problem(ref, (sntk_activation)(turn % 4), N, D, P, M, SNTK_INIT_SYMMETRIC, 180);
    sntk_perturbation seen[2][2];
    const double *direction[2];
    double *gradient[2], far[2];
    for (int again = 0; again < 2; again++) {
      sntk_context *cpu = open_context("cpu", 2);
      sntk_perturb *p = make_perturb(cpu, &q, turn / 4 ? SNTK_F32 : SNTK_F64);
      memset(seen[again], 0, sizeof seen[again]);
      gradient[again] = reals(D * M);
      int64_t ascents;
      assert_ok(cpu, sntk_perturb_adversarial(cpu, p, SNTK_GOAL_CHANGE, 0.1, 2, &ascents));
      assert_ok(cpu, sntk_perturb_measure(cpu, p, 0.2, &seen[again][0]));
      assert_ok(cpu, sntk_perturb_gradient(cpu, p, SNTK_GOAL_CHANGE, 0.1, gradient[again]));
      sntk_train_options train = SNTK_TRAIN_OPTIONS_INIT;
      train.steps = 3;
      assert_ok(cpu, sntk_perturb_training(cpu, p, gaussian_targets(3, N, P), &train, &far[again]));
      assert_ok(cpu, sntk_perturb_measure(cpu, p, 0.2, &seen[again][1]));
      direction[again] = direction_of(cpu, p, &q);
      sntk_perturb_free(p);
      sntk_context_free(cpu);
    }
    assert_memory_equal(seen[0], seen[1], sizeof seen[0]);
    assert_memory_equal(gradient[0], gradient[1], D * M * sizeof(double));
    assert_memory_equal(direction[0], direction[1], D * M * sizeof(double));
    assert_true(far[0] == far[1]);
    pool_clear();
  }
  sntk_context_free(ref);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(the_gradient_is_that_of_the_change, pool_teardown),
      cmocka_unit_test_teardown(the_gradient_of_a_wide_network, pool_teardown),
      cmocka_unit_test_teardown(the_gradient_is_that_of_lambda_min, pool_teardown),
      cmocka_unit_test_teardown(relu_ascends_the_smeared_step, pool_teardown),
      cmocka_unit_test_teardown(figures_are_those_of_the_moved_weights, pool_teardown),
      cmocka_unit_test_teardown(weights_may_be_given, pool_teardown),
      cmocka_unit_test_teardown(the_random_direction_moves_every_neuron_by_the_radius, pool_teardown),
      cmocka_unit_test_teardown(the_training_direction_is_that_of_training, pool_teardown),
      cmocka_unit_test_teardown(a_failed_training_keeps_the_direction, pool_teardown),
      cmocka_unit_test_teardown(the_adversarial_direction_changes_more, pool_teardown),
      cmocka_unit_test_teardown(the_largest_logit_is_that_of_both_weights, pool_teardown),
      cmocka_unit_test_teardown(the_bound_is_the_formula, pool_teardown),
      cmocka_unit_test_teardown(arguments_outside_their_domain, pool_teardown),
      cmocka_unit_test_teardown(memory_is_told_or_refused, pool_teardown),
      cmocka_unit_test_teardown(the_same_run_gives_the_same_bits, pool_teardown),
  };
  return cmocka_run_group_tests_name("perturb", tests, NULL, NULL);
}
