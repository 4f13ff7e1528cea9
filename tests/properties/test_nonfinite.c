/**
 * @file test_nonfinite.c
 * @brief Numbers that are not finite, and runs that end worse than they began: a status, never a silent success.
 *
 * SPDX-License-Identifier: MIT
 */
#include "support.h"

#include <float.h>
#include <stdio.h>

enum { N = 6, D = 4, M = 16, TESTS = 2, WAYS = 5 };

static const char *const activation_names[] = {"softmax", "relu", "exp", "exp_normalized"};

/* Each backend, precision and form. */
static const struct {
  const char *backend;
  sntk_precision precision;
  sntk_form form;
} ways[WAYS] = {{"ref", SNTK_F64, SNTK_FORM_PLAIN},
                {"cpu", SNTK_F64, SNTK_FORM_PLAIN},
                {"cpu", SNTK_F64, SNTK_FORM_DISPLACEMENT},
                {"cpu", SNTK_F32, SNTK_FORM_PLAIN},
                {"cpu", SNTK_F32, SNTK_FORM_DISPLACEMENT}};

typedef struct experiment {
  sntk_network_options network;
  sntk_train_options train;
  double *inputs, *targets;
} experiment;

static experiment make_experiment(int way, sntk_activation activation) {
  experiment e = {.network = SNTK_NETWORK_OPTIONS_INIT, .train = SNTK_TRAIN_OPTIONS_INIT};
  e.network.activation = activation;
  e.network.width = M;
  e.network.dim = D;
  e.network.precision = ways[way].precision;
  e.network.form = ways[way].form;
  e.network.seed = 3;
  e.train.steps = 4;
  e.train.tolerance = 0.0;
  e.train.eta_rule = SNTK_ETA_VALUE;
  e.train.eta = 0.05;
  e.inputs = sphere_rows(5, N + TESTS, D);
  e.targets = gaussian_targets(6, N + TESTS, 1);
  snprintf(support_case, sizeof support_case, "%s %s %s, %s", ways[way].backend,
           ways[way].precision == SNTK_F32 ? "f32" : "f64",
           ways[way].form == SNTK_FORM_PLAIN ? "plain" : "displacement", activation_names[activation]);
  return e;
}

/* Held-out samples are the last TESTS rows. */
static void hold_out(experiment *e) {
  e->train.test_inputs = e->inputs + N * D;
  e->train.test_targets = e->targets + N;
  e->train.test_samples = TESTS;
}

static sntk_status train(sntk_context *ctx, const experiment *e, sntk_train_result *result) {
  sntk_network *net = make_network(ctx, &e->network);
  const sntk_status status = sntk_train(ctx, net, e->inputs, e->targets, N, &e->train, result);
  sntk_network_free(net);
  return status;
}

/* Trains with an outcome that must be this failure, whose text has these words. */
static void fails(sntk_context *ctx, const experiment *e, sntk_status expected, const char *words,
                  sntk_train_result *result) {
  assert_status(ctx, train(ctx, e, result), expected);
  if (!strstr(sntk_context_error(ctx), words))
    fail_msg("'%s' lacks '%s'; %s", sntk_context_error(ctx), words, support_case);
  sntk_train_result_clear(result);
}

typedef void (*body)(sntk_context *ctx, int way, sntk_activation activation);

static void everywhere(body test) {
  for (int way = 0; way < WAYS; way++) {
    sntk_context *ctx = open_context(ways[way].backend, 1);
    for (int activation = SNTK_SOFTMAX; activation <= SNTK_EXP_NORMALIZED; activation++) {
      test(ctx, way, (sntk_activation)activation);
      pool_clear();
    }
    sntk_context_free(ctx);
  }
}

/* |y|^2 overflows: there is no loss to begin with. */
static void overflowing_loss(sntk_context *ctx, int way, sntk_activation activation) {
  experiment e = make_experiment(way, activation);
  sntk_train_result r;
  for (int i = 0; i < N; i++) e.targets[i] = i % 2 ? -1e300 : 1e300;
  fails(ctx, &e, SNTK_ERR_OVERFLOW, "the loss overflows", &r);
  assert_true(isnan(r.loss) && isnan(r.loss_initial) && r.steps == 0 && r.history_rows == 0);
}

static void a_loss_that_overflows_is_no_success(void **state) {
  (void)state;
  everywhere(overflowing_loss);
}

static void overflowing_held_out_loss(sntk_context *ctx, int way, sntk_activation activation) {
  experiment e = make_experiment(way, activation);
  sntk_train_result r;
  hold_out(&e);
  e.targets[N] = 1e200;
  fails(ctx, &e, SNTK_ERR_OVERFLOW, "held-out", &r);
}

static void a_held_out_loss_that_overflows_is_no_success(void **state) {
  (void)state;
  everywhere(overflowing_held_out_loss);
}

/* The loss is finite in float64, the residual in float32 is not. */
static void overflowing_residual(sntk_context *ctx, int way, sntk_activation activation) {
  if (ways[way].precision != SNTK_F32) return;
  experiment e = make_experiment(way, activation);
  sntk_train_result r;
  for (int i = 0; i < N; i++) e.targets[i] = i % 2 ? -1e60 : 1e60;
  fails(ctx, &e, SNTK_ERR_OVERFLOW, "not finite", &r);
}

static void a_residual_beyond_float32_is_no_success(void **state) {
  (void)state;
  everywhere(overflowing_residual);
}

/* softmax's outputs are bounded, so that no factor of growth is ever reached. */
static void grown_loss(sntk_context *ctx, int way, sntk_activation activation) {
  if (activation != SNTK_SOFTMAX) return;
  static const double etas[] = {100.0, 1e4, 1e10};
  for (size_t i = 0; i < sizeof etas / sizeof *etas; i++) {
    experiment e = make_experiment(way, activation);
    sntk_train_result r;
    e.train.steps = 50;
    e.train.eta = etas[i];
    const sntk_status status = train(ctx, &e, &r);
    if (status == SNTK_ERR_OVERFLOW && etas[i] > 1e9) { /* its logits are beyond the exponentials */
      sntk_train_result_clear(&r);
      continue;
    }
    assert_status(ctx, status, SNTK_ERR_DIVERGED);
    assert_true(r.steps == 50 && !r.converged && isfinite(r.loss) && r.loss > r.loss_initial);
    assert_int_equal(r.history_rows, 51);
    assert_non_null(strstr(sntk_context_error(ctx), "the loss grew from"));
    sntk_train_result_clear(&r);
  }
}

static void a_loss_above_its_start_is_no_success(void **state) {
  (void)state;
  everywhere(grown_loss);
}

/* Targets met to rounding from the start: losses that differ by rounding alone are no growth. */
static void at_the_minimum(sntk_context *ctx, int way, sntk_activation activation) {
  experiment e = make_experiment(way, activation);
  sntk_train_result r;
  e.network.init = SNTK_INIT_IID;
  sntk_network *net = make_network(ctx, &e.network);
  assert_ok(ctx, sntk_network_forward(ctx, net, e.inputs, N, e.targets));
  sntk_network_free(net);
  e.train.steps = 60;
  assert_ok(ctx, train(ctx, &e, &r));
  assert_true(r.steps == 60);
  sntk_train_result_clear(&r);
  for (int i = 0; i < N; i++) e.targets[i] *= 1.0 + 1e-7;
  assert_ok(ctx, train(ctx, &e, &r));
  sntk_train_result_clear(&r);
  e.train.steps = 0; /* without a step there is nothing to have grown */
  e.targets[0] += 1.0;
  assert_ok(ctx, train(ctx, &e, &r));
  assert_true(r.loss == r.loss_initial);
  sntk_train_result_clear(&r);
}

static void rounding_is_no_growth(void **state) {
  (void)state;
  everywhere(at_the_minimum);
}

/* 1 / lambda_max overflows; and a step below the normal numbers is none. */
static void steps_that_are_no_numbers(void **state) {
  (void)state;
  sntk_context *ctx = open_context("cpu", 1);
  experiment e = make_experiment(1, SNTK_RELU);
  sntk_train_result r;
  e.train.eta_rule = SNTK_ETA_AUTO;
  for (int j = 0; j < N * D; j++) e.inputs[j] *= 1e-157;
  fails(ctx, &e, SNTK_ERR_NUMERICAL, "no normal number", &r);
  e = make_experiment(1, SNTK_RELU);
  e.train.eta = DBL_MIN / 4.0;
  fails(ctx, &e, SNTK_ERR_ARGUMENT, "smallest normal", &r);
  sntk_context_free(ctx);
}

/* relu with inputs and targets 2^260 times as large, and 2^-230: the same run in other units, whose kernel's squared
 * norm overflows or vanishes. */
static void drift_in_any_units(void **state) {
  (void)state;
  static const int powers[] = {260, -230};
  for (int way = 0; way < 3; way++) {
    sntk_context *ctx = open_context(ways[way].backend, 1);
    experiment e = make_experiment(way, SNTK_RELU);
    sntk_train_result unit, scaled;
    e.train.kernel_every = 2;
    assert_ok(ctx, train(ctx, &e, &unit));
    assert_true(unit.kernel_drift > 0.0);
    for (size_t i = 0; i < sizeof powers / sizeof *powers; i++) {
      experiment s = e;
      s.inputs = reals(N * D);
      s.targets = reals(N);
      for (int j = 0; j < N * D; j++) s.inputs[j] = ldexp(e.inputs[j], powers[i]);
      for (int j = 0; j < N; j++) s.targets[j] = ldexp(e.targets[j], powers[i]);
      s.train.eta = ldexp(e.train.eta, -2 * powers[i]);
      s.train.divergence = 1e12; /* of max(L(0), 1) */
      assert_ok(ctx, train(ctx, &s, &scaled));
      assert_near(scaled.kernel_drift, unit.kernel_drift, 64.0 * EPS64 * unit.kernel_drift);
      sntk_train_result_clear(&scaled);
    }
    sntk_train_result_clear(&unit);
    sntk_context_free(ctx);
    pool_clear();
  }
}

/* What is said of a J J^T that is zero is why. */
static void reasons_of_a_kernel_that_is_zero(void **state) {
  (void)state;
  sntk_context *ctx = open_context("cpu", 1);
  sntk_train_result r;
  experiment e = make_experiment(1, SNTK_SOFTMAX);
  e.train.eta_rule = SNTK_ETA_AUTO;
  memset(e.inputs, 0, N * D * sizeof *e.inputs);
  fails(ctx, &e, SNTK_ERR_NUMERICAL, "all inputs are zero", &r);
  e = make_experiment(1, SNTK_RELU);
  double weights[D * M], signs[M];
  for (int j = 0; j < D * M; j++) weights[j] = -1.0;
  for (int j = 0; j < M; j++) signs[j] = j % 2 ? 1.0 : -1.0;
  for (int j = 0; j < N * D; j++) e.inputs[j] = fabs(e.inputs[j]);
  e.train.eta_rule = SNTK_ETA_AUTO;
  e.network.weights = weights;
  e.network.signs = signs;
  fails(ctx, &e, SNTK_ERR_NUMERICAL, "no neuron is active", &r);
  e.network.activation = SNTK_EXP;
  for (int j = 0; j < D * M; j++) weights[j] = -4000.0;
  fails(ctx, &e, SNTK_ERR_NUMERICAL, "exp(z) underflows", &r);
  sntk_context_free(ctx);
}

/* H of a sample with itself, K sum_r exp(2 z_r - sigma^2 |x|^2) / m, where the factors' product is below all numbers
 * but H is not; and factors that underflow by themselves, which are named. */
static void factors_that_underflow(void **state) {
  (void)state;
  enum { WIDTH = 1000 };
  static const char *const backends[] = {"ref", "cpu"};
  for (int b = 0; b < 2; b++) {
    sntk_context *ctx = open_context(backends[b], 1);
    experiment e = make_experiment(b, SNTK_EXP_NORMALIZED);
    e.network.width = WIDTH;
    e.network.init = SNTK_INIT_IID;
    e.network.sigma = 28.0;
    double weights[D * WIDTH], gram[N * N];
    sntk_network *net = make_network(ctx, &e.network);
    assert_ok(ctx, sntk_network_weights(ctx, net, 0, WIDTH, weights));
    assert_ok(ctx, sntk_ntk_gram(ctx, net, e.inputs, N, gram));
    sntk_network_free(net);
    for (int i = 0; i < N; i++) {
      double sum = 0.0;
      for (int r = 0; r < WIDTH; r++) {
        double z = 0.0;
        for (int k = 0; k < D; k++) z += e.inputs[i * D + k] * weights[k * WIDTH + r];
        sum += exp(2.0 * z - 28.0 * 28.0) / WIDTH;
      }
      assert_near(gram[i * N + i], sum, 1e4 * EPS64 * sum); /* 2 z - 784 carries 784 eps, and more of z */
      assert_true(sum > 0.0);
    }
    e.network.sigma = 39.0;
    net = make_network(ctx, &e.network);
    assert_status(ctx, sntk_ntk_gram(ctx, net, e.inputs, N, gram), SNTK_ERR_NUMERICAL);
    assert_non_null(
        strstr(sntk_context_error(ctx), "exp(-sigma^2 |x|^2 / 2), the outputs' factor in exp_normalized, underflows"));
    sntk_network_free(net);
    sntk_train_result r;
    e.train.eta_rule = SNTK_ETA_AUTO;
    fails(ctx, &e, SNTK_ERR_NUMERICAL, "underflows", &r);
    sntk_context_free(ctx);
  }
}

/* A limit that overflows where the finite kernel does not: the run and its linearized one are there, without it. */
static void a_limit_that_overflows_takes_nothing_with_it(void **state) {
  (void)state;
  sntk_context *ctx = open_context("cpu", 1);
  experiment e = make_experiment(1, SNTK_SOFTMAX);
  sntk_train_result r;
  e.network.sigma = 27.0; /* exp(729) */
  e.train.linearized = true;
  e.train.eta_rule = SNTK_ETA_AUTO;
  assert_ok(ctx, train(ctx, &e, &r));
  assert_true(r.steps == 4 && isfinite(r.linearized.loss) && isnan(r.infinite.loss));
  sntk_train_result_clear(&r);
  sntk_context_free(ctx);
}

/* Signs that were drawn would make another network of weights that were trained with others. */
static void weights_without_their_signs_are_refused(void **state) {
  (void)state;
  sntk_context *ctx = open_context("cpu", 1);
  experiment e = make_experiment(1, SNTK_SOFTMAX);
  double weights[D * M] = {0.0};
  sntk_network *net;
  e.network.weights = weights;
  assert_status(ctx, sntk_network_create(ctx, &e.network, &net), SNTK_ERR_ARGUMENT);
  assert_non_null(strstr(sntk_context_error(ctx), "without signs"));
  assert_null(net);
  sntk_context_free(ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(a_loss_that_overflows_is_no_success, pool_teardown),
      cmocka_unit_test_teardown(a_held_out_loss_that_overflows_is_no_success, pool_teardown),
      cmocka_unit_test_teardown(a_residual_beyond_float32_is_no_success, pool_teardown),
      cmocka_unit_test_teardown(a_loss_above_its_start_is_no_success, pool_teardown),
      cmocka_unit_test_teardown(rounding_is_no_growth, pool_teardown),
      cmocka_unit_test_teardown(steps_that_are_no_numbers, pool_teardown),
      cmocka_unit_test_teardown(drift_in_any_units, pool_teardown),
      cmocka_unit_test_teardown(reasons_of_a_kernel_that_is_zero, pool_teardown),
      cmocka_unit_test_teardown(factors_that_underflow, pool_teardown),
      cmocka_unit_test_teardown(a_limit_that_overflows_takes_nothing_with_it, pool_teardown),
      cmocka_unit_test_teardown(weights_without_their_signs_are_refused, pool_teardown),
  };
  return cmocka_run_group_tests_name("nonfinite", tests, NULL, NULL);
}
