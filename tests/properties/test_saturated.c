/**
 * @file test_saturated.c
 * @brief Softmax where one neuron carries nearly all of a sample: A - f of the kernel, gradient, J J^T and the kernel's
 * change must not be a difference of numbers near one. Against long double, in which A - f is taken from the sums of
 * the neurons of the other sign.
 *
 * SPDX-License-Identifier: MIT
 */
#include "support.h"

#include <stdio.h>

enum { N = 4, D = 3, M = 6, MOST_P = 3, ROWS = N * MOST_P, WAYS = 5 };

static const struct {
  const char *backend;
  sntk_precision precision;
  sntk_form form;
} ways[WAYS] = {{"ref", SNTK_F64, SNTK_FORM_PLAIN},
                {"cpu", SNTK_F64, SNTK_FORM_PLAIN},
                {"cpu", SNTK_F64, SNTK_FORM_DISPLACEMENT},
                {"cpu", SNTK_F32, SNTK_FORM_PLAIN},
                {"cpu", SNTK_F32, SNTK_FORM_DISPLACEMENT}};

static const double gaps[] = {3.0, 20.0, 38.0};

typedef struct problem {
  sntk_network_options network;
  double inputs[N * D], targets[N * MOST_P];
  double *weights, *signs; /* float32 numbers */
} problem;

/* Neuron 0 stands so far along all inputs that its logit exceeds the others by about `gap`; inputs 1 and 2 have a
 * second neuron of the same or the opposite sign close to it. */
static problem make_problem(int way, int64_t p, double gap) {
  problem q = {.network = SNTK_NETWORK_OPTIONS_INIT, .weights = reals(D * M), .signs = reals(MOST_P * M)};
  for (int i = 0; i < N; i++)
    for (int k = 0; k < D; k++) q.inputs[i * D + k] = (double)(float)(0.5 + 0.25 * uniform(1, i * D + k));
  for (int j = 0; j < N * p; j++) q.targets[j] = uniform(2, j);
  for (int k = 0; k < D; k++)
    for (int r = 0; r < M; r++)
      q.weights[k * M + r] = (double)(float)(r == 0 ? gap / (0.5 * D) : 0.7 * uniform(3, k * M + r));
  for (int j = 0; j < p * M; j++) q.signs[j] = uniform(4, j) > 0.0 ? 1.0 : -1.0;
  for (int l = 0; l < p; l++) q.signs[l * M + 1] = -q.signs[l * M]; /* some neuron of either sign */
  q.network.width = M;
  q.network.dim = D;
  q.network.outputs = p;
  q.network.precision = ways[way].precision;
  q.network.form = ways[way].form;
  q.network.weights = q.weights;
  q.network.signs = q.signs;
  snprintf(support_case, sizeof support_case, "%s %s %s, p %d, gap %g", ways[way].backend,
           ways[way].precision == SNTK_F32 ? "f32" : "f64",
           ways[way].form == SNTK_FORM_PLAIN ? "plain" : "displacement", (int)p, gap);
  return q;
}

/* Of sample i: the shares S_r, and A_lr - f_il for each output and sign. */
typedef struct exact_sample {
  long double s[M], away[MOST_P][2], f[MOST_P];
} exact_sample;

static exact_sample exact(const problem *q, const double *weights, int i) {
  exact_sample e = {{0}, {{0}}, {0}};
  long double z[M], top = -INFINITY, sum = 0.0L;
  for (int r = 0; r < M; r++) {
    z[r] = 0.0L;
    for (int k = 0; k < D; k++) z[r] += (long double)q->inputs[i * D + k] * (long double)weights[k * M + r];
    top = fmaxl(top, z[r]);
  }
  for (int r = 0; r < M; r++) sum += e.s[r] = expl(z[r] - top);
  for (int r = 0; r < M; r++) e.s[r] /= sum;
  for (int l = 0; l < q->network.outputs; l++) {
    long double shares[2] = {0.0L, 0.0L};
    for (int r = 0; r < M; r++) shares[q->signs[l * M + r] > 0.0] += e.s[r];
    e.away[l][1] = 2.0L * shares[0];
    e.away[l][0] = -2.0L * shares[1];
    e.f[l] = shares[1] - shares[0];
  }
  return e;
}

static void exact_gram(const problem *q, const double *weights, long double *gram) {
  const int p = (int)q->network.outputs, rows = N * p;
  long double u[ROWS][M];
  for (int i = 0; i < N; i++) {
    const exact_sample e = exact(q, weights, i);
    for (int l = 0; l < p; l++)
      for (int r = 0; r < M; r++) u[i + N * l][r] = sqrtl(M) * e.s[r] * e.away[l][q->signs[l * M + r] > 0.0];
  }
  for (int a = 0; a < rows; a++)
    for (int b = 0; b < rows; b++) {
      long double k = 0.0L, product = 0.0L;
      for (int c = 0; c < D; c++) k += (long double)q->inputs[a % N * D + c] * (long double)q->inputs[b % N * D + c];
      for (int r = 0; r < M; r++) product += u[a][r] * u[b][r];
      gram[a * rows + b] = k * product;
    }
}

/* The relative error that rounding of logits of size `gap` leaves, with room. */
static double tolerance(int way, double gap) {
  return (ways[way].precision == SNTK_F32 ? EPS32 : EPS64) * (64.0 + 16.0 * gap);
}

typedef void (*body)(sntk_context *ctx, int way, int64_t p, double gap);

static void everywhere(body test) {
  for (int way = 0; way < WAYS; way++) {
    sntk_context *ctx = open_context(ways[way].backend, 1);
    for (int64_t p = 1; p <= MOST_P; p += 2)
      for (size_t g = 0; g < sizeof gaps / sizeof *gaps; g++) {
        test(ctx, way, p, gaps[g]);
        pool_clear();
      }
    sntk_context_free(ctx);
  }
}

static void check_gram(sntk_context *ctx, int way, int64_t p, double gap) {
  const problem q = make_problem(way, p, gap);
  const int rows = (int)(N * p);
  double gram[ROWS * ROWS], trace[N * N], diagonal[ROWS];
  long double expected[ROWS * ROWS];
  exact_gram(&q, q.weights, expected);
  sntk_network *net = make_network(ctx, &q.network);
  assert_ok(ctx, sntk_ntk_gram(ctx, net, q.inputs, N, gram));
  assert_ok(ctx, sntk_ntk_trace(ctx, net, q.inputs, N, trace));
  assert_ok(ctx, sntk_ntk_diagonal(ctx, net, q.inputs, N, diagonal));
  sntk_network_free(net);
  for (int a = 0; a < rows; a++) {
    for (int b = 0; b < rows; b++) {
      const double size = (double)sqrtl(expected[a * rows + a] * expected[b * rows + b]);
      assert_near(gram[a * rows + b], (double)expected[a * rows + b], tolerance(way, gap) * size);
    }
    assert_near(diagonal[a], gram[a * rows + a], tolerance(way, gap) * gram[a * rows + a]);
  }
  for (int i = 0; i < N; i++) {
    double sum = 0.0;
    for (int l = 0; l < p; l++) sum += gram[(i + N * l) * rows + i + N * l];
    assert_near(trace[i * N + i], sum, tolerance(way, gap) * sum);
  }
}

static void the_kernel_keeps_its_digits(void **state) {
  (void)state;
  everywhere(check_gram);
  /* The case of two neurons and one sample (1, 0), weights (20, 0) and (0, 0): 16 e^-40 / (1 + e^-20)^4, by mpmath. */
  static const double weights[] = {20.0, 0.0, 0.0, 0.0}, signs[] = {1.0, -1.0}, input[] = {1.0, 0.0};
  for (int way = 0; way < WAYS; way++) {
    sntk_context *ctx = open_context(ways[way].backend, 1);
    sntk_network_options o = SNTK_NETWORK_OPTIONS_INIT;
    double gram;
    o.width = o.dim = 2;
    o.precision = ways[way].precision;
    o.form = ways[way].form;
    o.weights = weights;
    o.signs = signs;
    sntk_network *net = make_network(ctx, &o);
    assert_ok(ctx, sntk_ntk_gram(ctx, net, input, 1, &gram));
    assert_near(gram, 6.797366752424874e-17, tolerance(way, 20.0) * 6.8e-17);
    sntk_network_free(net);
    sntk_context_free(ctx);
  }
}

/* As far as float32's exponentials reach, in a network so wide that sqrt(m) over the share that is left is beyond it.
 * One sample 1, logits gap and 0 of either sign, and others that have no share: H = m 8 e^(-2 gap) / (1 + e^-gap)^4. */
static void the_kernel_of_the_smallest_shares_is_finite(void **state) {
  (void)state;
  enum { WIDE = 1 << 14 };
  const double gap = 85.0, input = 1.0, share = exp(-gap) / (1.0 + exp(-gap));
  const double expected = 8.0 * WIDE * share * share * (1.0 - share) * (1.0 - share);
  for (int way = 0; way < WAYS; way++) {
    sntk_context *ctx = open_context(ways[way].backend, 1);
    sntk_network_options o = SNTK_NETWORK_OPTIONS_INIT;
    double *const weights = reals(WIDE), *const signs = reals(WIDE), gram;
    for (int r = 0; r < WIDE; r++) weights[r] = -300.0, signs[r] = 1.0;
    weights[0] = gap;
    weights[1] = 0.0;
    signs[1] = -1.0;
    o.width = WIDE;
    o.dim = 1;
    o.precision = ways[way].precision;
    o.form = ways[way].form;
    o.weights = weights;
    o.signs = signs;
    sntk_network *net = make_network(ctx, &o);
    assert_ok(ctx, sntk_ntk_gram(ctx, net, &input, 1, &gram));
    assert_near(gram, expected, tolerance(way, gap) * expected);
    sntk_network_free(net);
    sntk_context_free(ctx);
    pool_clear();
  }
}

/* One step, so large that the weights show it, from F - Y as the network has it. */
static void check_gradient(sntk_context *ctx, int way, int64_t p, double gap) {
  const problem q = make_problem(way, p, gap);
  const double s = sntk_output_scale(SNTK_SOFTMAX, SNTK_SCALE_NTK, M);
  long double gradient[D * M] = {0.0L}, size = 0.0L;
  double after[D * M];
  for (int i = 0; i < N; i++) {
    const exact_sample e = exact(&q, q.weights, i);
    for (int r = 0; r < M; r++) {
      long double pull = 0.0L;
      for (int l = 0; l < p; l++)
        pull += (s * e.f[l] - (long double)q.targets[i * p + l]) * e.away[l][q.signs[l * M + r] > 0.0];
      for (int k = 0; k < D; k++) gradient[k * M + r] += (long double)q.inputs[i * D + k] * s * e.s[r] * pull;
    }
  }
  for (int j = 0; j < D * M; j++) size = fmaxl(size, fabsl(gradient[j]));
  sntk_train_options train = SNTK_TRAIN_OPTIONS_INIT;
  train.steps = 1;
  train.tolerance = 0.0;
  train.eta_rule = SNTK_ETA_VALUE;
  train.eta = (double)(0.5L / size);
  train.divergence = INFINITY;
  sntk_train_result result;
  sntk_network *net = make_network(ctx, &q.network);
  assert_ok(ctx, sntk_train(ctx, net, q.inputs, q.targets, N, &train, &result));
  assert_ok(ctx, sntk_network_weights(ctx, net, 0, M, after));
  for (int j = 0; j < D * M; j++)
    assert_near(q.weights[j] - after[j], train.eta * (double)gradient[j], tolerance(way, gap) * (0.5 + fabs(after[j])));
  sntk_train_result_clear(&result);
  sntk_network_free(net);
}

static void the_gradient_keeps_its_digits(void **state) {
  (void)state;
  everywhere(check_gradient);
}

/* lambda_max(J J^T) through J v and J^T u, accepted at 1e-6, against the largest eigenvalue of q H. */
static void check_products(sntk_context *ctx, int way, int64_t p, double gap) {
  const problem q = make_problem(way, p, gap);
  const int rows = (int)(N * p);
  long double gram[ROWS * ROWS], v[ROWS], w[ROWS], lambda = 0.0L;
  exact_gram(&q, q.weights, gram);
  for (int a = 0; a < rows; a++) v[a] = 1.0L + 0.1L * a;
  for (int turn = 0; turn < 2000; turn++) {
    long double norm = 0.0L;
    for (int a = 0; a < rows; a++) {
      w[a] = 0.0L;
      for (int b = 0; b < rows; b++) w[a] += gram[a * rows + b] * v[b];
      norm += w[a] * w[a];
    }
    lambda = sqrtl(norm);
    for (int a = 0; a < rows; a++) v[a] = w[a] / lambda;
  }
  sntk_train_options train = SNTK_TRAIN_OPTIONS_INIT;
  train.steps = 0;
  sntk_train_result result;
  sntk_network *net = make_network(ctx, &q.network);
  assert_ok(ctx, sntk_train(ctx, net, q.inputs, q.targets, N, &train, &result));
  const double expected = (double)lambda * sntk_kernel_scale(SNTK_SOFTMAX, SNTK_SCALE_NTK, M);
  assert_near(result.jj_lambda_max, expected, (4e-6 + tolerance(way, gap)) * expected);
  sntk_train_result_clear(&result);
  sntk_network_free(net);
}

static void products_with_the_jacobian_keep_their_digits(void **state) {
  (void)state;
  everywhere(check_products);
}

/* |H(W) - H(W0)| / |H(W0)| after a few steps. In displacement form without cancellation; in plain form a difference of
 * float64 matrices, of weights that float32 rounds: there the weights as they are tell the expected value. */
static void check_drift(sntk_context *ctx, int way, int64_t p, double gap) {
  const problem q = make_problem(way, p, gap);
  const int rows = (int)(N * p);
  long double before[ROWS * ROWS], now[ROWS * ROWS], square = 0.0L, moved = 0.0L;
  double after[D * M];
  exact_gram(&q, q.weights, before);
  for (int j = 0; j < rows * rows; j++) square += before[j] * before[j];
  sntk_train_options train = SNTK_TRAIN_OPTIONS_INIT;
  train.steps = 3;
  train.tolerance = 0.0;
  train.kernel_every = 3;
  train.eta_rule = SNTK_ETA_VALUE;
  train.eta = (double)(0.003L / sqrtl(sqrtl(square)));
  train.divergence = INFINITY;
  sntk_train_result result;
  sntk_network *net = make_network(ctx, &q.network);
  assert_ok(ctx, sntk_train(ctx, net, q.inputs, q.targets, N, &train, &result));
  assert_ok(ctx, sntk_network_weights(ctx, net, 0, M, after));
  exact_gram(&q, after, now);
  for (int j = 0; j < rows * rows; j++) moved += (now[j] - before[j]) * (now[j] - before[j]);
  const double drift = (double)sqrtl(moved / square);
  assert_true(drift > 1e-6);
  const double floor = ways[way].form == SNTK_FORM_PLAIN ? EPS64 * (64.0 + 16.0 * gap) : 0.0;
  assert_near(result.kernel_drift, drift, tolerance(way, gap) * drift * 4.0 + floor);
  sntk_train_result_clear(&result);
  sntk_network_free(net);
}

static void the_change_of_the_kernel_keeps_its_digits(void **state) {
  (void)state;
  everywhere(check_drift);
}

/* The gradient of 1/2 |H(W0 + R D) - H(W0)|_F^2 with respect to the weights, by central differences in long double. */
static void check_ascent(sntk_context *ctx, int way, int64_t p, double gap) {
  if (ways[way].precision == SNTK_F32) return;
  problem q = make_problem(way, p, gap);
  const int rows = (int)(N * p);
  const double radius = 0.05;
  static const double sides[] = {1.0, -1.0};
  sntk_perturb *perturb;
  double direction[D * M], gradient[D * M], largest = 0.0;
  long double before[ROWS * ROWS], now[ROWS * ROWS], expected[D * M];
  q.network.form = SNTK_FORM_AUTO;
  assert_ok(ctx, sntk_perturb_create(ctx, &q.network, q.inputs, N, &perturb));
  assert_ok(ctx, sntk_perturb_direction(ctx, perturb, 0, M, direction));
  assert_ok(ctx, sntk_perturb_gradient(ctx, perturb, SNTK_GOAL_CHANGE, radius, gradient));
  sntk_perturb_free(perturb);
  exact_gram(&q, q.weights, before);
  for (int j = 0; j < D * M; j++) {
    long double phi[2] = {0.0L, 0.0L};
    const double h = 0x1p-13;
    for (int side = 0; side < 2; side++) {
      double weights[D * M];
      for (int i = 0; i < D * M; i++)
        weights[i] = q.weights[i] + radius * direction[i] + (i == j ? sides[side] * h : 0.0);
      exact_gram(&q, weights, now);
      for (int i = 0; i < rows * rows; i++) phi[side] += 0.5L * (now[i] - before[i]) * (now[i] - before[i]);
    }
    expected[j] = (phi[0] - phi[1]) / (2.0L * h);
    largest = fmax(largest, (double)fabsl(expected[j]));
  }
  for (int j = 0; j < D * M; j++) assert_near(gradient[j], (double)expected[j], 1e-5 * largest);
}

static void the_gradient_of_an_ascent_keeps_its_digits(void **state) {
  (void)state;
  everywhere(check_ascent);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(the_kernel_keeps_its_digits, pool_teardown),
      cmocka_unit_test_teardown(the_kernel_of_the_smallest_shares_is_finite, pool_teardown),
      cmocka_unit_test_teardown(the_gradient_keeps_its_digits, pool_teardown),
      cmocka_unit_test_teardown(products_with_the_jacobian_keep_their_digits, pool_teardown),
      cmocka_unit_test_teardown(the_change_of_the_kernel_keeps_its_digits, pool_teardown),
      cmocka_unit_test_teardown(the_gradient_of_an_ascent_keeps_its_digits, pool_teardown),
  };
  return cmocka_run_group_tests_name("saturated", tests, NULL, NULL);
}
