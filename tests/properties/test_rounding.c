/**
 * @file test_rounding.c
 * @brief The bound on what rounding does to H: true over activations, sizes and seeds, and not far above what is seen.
 *
 * SPDX-License-Identifier: MIT
 */
#include "support.h"

#include <stdio.h>

static const char *const activation_names[] = {"softmax", "relu", "exp", "exp_normalized"};

/* |a - b|_2 of symmetric matrices. */
static double spectral_distance(sntk_context *ctx, const double *a, const double *b, int64_t size) {
  double *difference = reals(size * size), *values = reals(size);
  for (int64_t j = 0; j < size * size; j++) difference[j] = a[j] - b[j];
  assert_ok(ctx, sntk_eigenvalues(ctx, difference, size, values));
  return fmax(fabs(values[0]), fabs(values[size - 1]));
}

static double *gram_of(sntk_context *ctx, const sntk_network_options *options, const double *inputs, int64_t n) {
  double *gram = reals(n * n * options->outputs * options->outputs);
  sntk_network *net = make_network(ctx, options);
  assert_ok(ctx, sntk_ntk_gram(ctx, net, inputs, n, gram));
  sntk_network_free(net);
  return gram;
}

/* float32 against float64. relu with few neurons: one whose logit is zero to rounding would count for its whole share.
 */
static void of_float32(void **state) {
  (void)state;
  static const int64_t samples[] = {2, 7, 40}, dims[] = {2, 16, 150}, widths[] = {2, 64, 3000};
  static const double sigmas[] = {0.3, 1.0, 3.0};
  sntk_context *ctx = open_context("cpu", 1);
  double worst = 0.0;
  for (int turn = 0; turn < 4 * 3 * 3 * 3 * 3; turn++) {
    sntk_network_options options = SNTK_NETWORK_OPTIONS_INIT;
    options.activation = (sntk_activation)(turn % 4);
    options.dim = dims[turn / 4 % 3];
    options.width = widths[turn / 12 % 3];
    options.sigma = sigmas[turn / 36 % 3];
    options.outputs = turn % 5 == 0 ? 2 : 1;
    options.init = turn % 2 ? SNTK_INIT_IID : SNTK_INIT_SYMMETRIC;
    options.form = turn % 3 ? SNTK_FORM_PLAIN : SNTK_FORM_DISPLACEMENT;
    options.seed = (uint64_t)turn + 1;
    const int64_t n = samples[turn / 108], size = n * options.outputs;
    const double *inputs = sphere_rows(500 + (uint64_t)turn, n, options.dim);
    options.precision = SNTK_F64;
    const double *exact = gram_of(ctx, &options, inputs, n);
    double *values = reals(size), *zero = reals(size * size);
    assert_ok(ctx, sntk_eigenvalues(ctx, exact, size, values));
    options.precision = SNTK_F32;
    const double bound = sntk_ntk_rounding(ctx, &options, inputs, n) * spectral_distance(ctx, exact, zero, size);
    const double off = spectral_distance(ctx, gram_of(ctx, &options, inputs, n), exact, size);
    snprintf(support_case, sizeof support_case, "%s, n %d, d %d, p %d, m %d, sigma %g",
             activation_names[options.activation], (int)n, (int)options.dim, (int)options.outputs, (int)options.width,
             options.sigma);
    assert_between(off, 0.0, bound);
    if (bound > 0.0) worst = fmax(worst, off / bound);
    assert_between(sntk_ntk_rounding(ctx, &options, inputs, n), EPS32, 500.0 * EPS32); /* |x||w| is 37 at the most */
    pool_clear();
  }
  assert_between(worst, 0.05, 1.0); /* the nearest that any comes */
  sntk_context_free(ctx);
}

/* float64 against long double, softmax and exp written out. */
static void of_float64(void **state) {
  (void)state;
  enum { N = 5, D = 6, M = 200 };
  static const char *const backends[] = {"ref", "cpu"};
  for (int turn = 0; turn < 2 * 2 * 2 * 6; turn++) {
    sntk_context *ctx = open_context(backends[turn % 2], 1);
    sntk_network_options options = SNTK_NETWORK_OPTIONS_INIT;
    const bool softmax = turn / 2 % 2;
    options.activation = softmax ? SNTK_SOFTMAX : SNTK_EXP;
    options.width = M;
    options.dim = D;
    options.sigma = turn / 4 % 2 ? 1.0 : 2.0;
    options.init = SNTK_INIT_IID;
    options.precision = SNTK_F64;
    options.seed = (uint64_t)turn;
    const double *inputs = sphere_rows(900 + (uint64_t)turn, N, D);
    double weights[D * M], expected[N * N];
    int8_t signs[M];
    long double u[N][M];
    sntk_network *net = make_network(ctx, &options);
    assert_ok(ctx, sntk_network_weights(ctx, net, 0, M, weights));
    assert_ok(ctx, sntk_network_signs(ctx, net, 0, M, signs));
    sntk_network_free(net);
    for (int i = 0; i < N; i++) {
      long double sum = 0.0L, f = 0.0L;
      for (int r = 0; r < M; r++) {
        long double z = 0.0L;
        for (int k = 0; k < D; k++) z += (long double)inputs[i * D + k] * (long double)weights[k * M + r];
        u[i][r] = expl(z);
        sum += u[i][r];
        f += signs[r] * u[i][r];
      }
      for (int r = 0; r < M; r++)
        u[i][r] = softmax ? sqrtl(M) * u[i][r] / sum * (signs[r] - f / sum) : u[i][r] * signs[r] / sqrtl(M);
    }
    for (int a = 0; a < N; a++)
      for (int b = 0; b < N; b++) {
        long double k = 0.0L, product = 0.0L;
        for (int c = 0; c < D; c++) k += (long double)inputs[a * D + c] * (long double)inputs[b * D + c];
        for (int r = 0; r < M; r++) product += u[a][r] * u[b][r];
        expected[a * N + b] = (double)(k * product);
      }
    const double zero[N * N] = {0.0};
    const double bound = sntk_ntk_rounding(ctx, &options, inputs, N) * spectral_distance(ctx, expected, zero, N);
    snprintf(support_case, sizeof support_case, "%s %s, turn %d", backends[turn % 2], softmax ? "softmax" : "exp",
             turn);
    assert_between(spectral_distance(ctx, gram_of(ctx, &options, inputs, N), expected, N), 0.0, bound);
    assert_between(bound, 0.0, 1e-12 * spectral_distance(ctx, expected, zero, N));
    sntk_context_free(ctx);
    pool_clear();
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(of_float32, pool_teardown),
      cmocka_unit_test_teardown(of_float64, pool_teardown),
  };
  return cmocka_run_group_tests_name("rounding", tests, NULL, NULL);
}
