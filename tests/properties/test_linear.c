/**
 * @file test_linear.c
 * @brief The linearized run, the run with the kernel of infinite width, and held-out samples, against a plain
 * recursion.
 *
 * SPDX-License-Identifier: MIT
 */
#include "support.h"

#include <stdio.h>

static const char *const activation_names[] = {"softmax", "relu", "exp", "exp_normalized"};

enum { N = 6, T = 4, ALL = N + T, D = 4, M = 120, STEPS = 12 };

/* A problem whose held-out samples lie behind the others. */
typedef struct problem {
  sntk_network_options network;
  sntk_train_options train;
  double *inputs, *targets;
  int64_t tests;
} problem;

static problem make_problem(sntk_activation activation, int64_t outputs, sntk_init init, int64_t tests, uint64_t seed) {
  problem q = {.network = SNTK_NETWORK_OPTIONS_INIT, .train = SNTK_TRAIN_OPTIONS_INIT, .tests = tests};
  q.inputs = sphere_rows(300 + seed, ALL, D);
  q.targets = gaussian_targets(seed, ALL, outputs);
  q.network.activation = activation;
  q.network.width = M;
  q.network.dim = D;
  q.network.outputs = outputs;
  q.network.init = init;
  q.network.seed = seed;
  q.network.precision = SNTK_F64;
  q.train.steps = STEPS;
  q.train.tolerance = 0.0;
  q.train.linearized = true;
  if (tests > 0) {
    q.train.test_inputs = q.inputs + (int64_t)N * D;
    q.train.test_targets = q.targets + N * outputs;
    q.train.test_samples = tests;
  }
  return q;
}

static double half_square(const double *a, const double *b, int64_t count) {
  const double norm = distance(a, b, count);
  return 0.5 * norm * norm;
}

/* u(t+1) = u(t) - eta q H[., samples] (u(t) - y), element by element; gram: (all p)^2, its row i + all l. */
static void advance(const double *gram, int64_t all, int64_t p, const double *targets, double rate, double *u) {
  double *next = reals(all * p);
  for (int64_t i = 0; i < all; i++)
    for (int64_t l = 0; l < p; l++) {
      double sum = 0.0;
      for (int64_t j = 0; j < N; j++)
        for (int64_t k = 0; k < p; k++)
          sum += gram[(i + all * l) * all * p + j + all * k] * (u[j * p + k] - targets[j * p + k]);
      next[i * p + l] = u[i * p + l] - rate * sum;
    }
  memcpy(u, next, (size_t)(all * p) * sizeof *u);
}

/* F after each of the recorded steps: the same run, stopped there. */
static double *outputs_after(sntk_context *ctx, const problem *q, int64_t steps, double eta) {
  const int64_t p = q->network.outputs;
  sntk_train_options train = q->train;
  sntk_train_result result;
  train.linearized = false;
  train.test_samples = 0;
  train.steps = steps;
  train.eta_rule = SNTK_ETA_VALUE;
  train.eta = eta;
  double *outputs = reals(ALL * p);
  sntk_network *net = make_network(ctx, &q->network);
  assert_ok(ctx, sntk_train(ctx, net, q->inputs, q->targets, N, &train, &result));
  assert_ok(ctx, sntk_network_forward(ctx, net, q->inputs, N + q->tests, outputs));
  sntk_train_result_clear(&result);
  sntk_network_free(net);
  return outputs;
}

/* One prediction beside the recursion's. */
typedef struct expected {
  double *u, loss, distance;
} expected;

static void compare_prediction(const sntk_prediction *seen, const expected *e, const problem *q, const double *f,
                               double bound) {
  const int64_t p = q->network.outputs, size = N * p, tests = q->tests * p;
  assert_near(seen->loss, e->loss, bound);
  assert_near(seen->distance, e->distance, bound);
  if (tests == 0) {
    assert_true(isnan(seen->test_loss) && isnan(seen->test_distance));
    return;
  }
  assert_near(seen->test_loss, half_square(e->u + size, q->targets + size, tests), bound);
  assert_near(seen->test_distance, distance(e->u + size, f + size, tests) / distance(q->targets + size, NULL, tests),
              bound);
}

static void check_run(sntk_context *ctx, const problem *q, double eps) {
  const int64_t p = q->network.outputs, all = N + q->tests, rows = all * p, every = q->train.record_every;
  double *gram = reals(rows * rows), *infinite = reals(rows * rows), *block = reals(all * all);
  double *values = reals(N * p), *inner = reals(N * p * N * p);
  expected linear = {.u = reals(rows)}, limit = {.u = reals(rows)};
  sntk_network *net = make_network(ctx, &q->network);
  sntk_network_options exact = q->network;
  exact.precision = SNTK_F64;
  exact.form = SNTK_FORM_PLAIN; /* random weights are the same numbers in both precisions */
  sntk_network *wide = make_network(ctx, &exact);
  assert_ok(ctx, sntk_ntk_gram(ctx, wide, q->inputs, all, gram));
  assert_ok(ctx, sntk_network_forward(ctx, wide, q->inputs, all, linear.u));
  sntk_network_free(wide);
  memcpy(limit.u, linear.u, (size_t)rows * sizeof *limit.u);
  assert_ok(ctx, sntk_ntk_infinite(ctx, q->network.activation, q->network.sigma, q->inputs, all, D, block));
  for (int64_t a = 0; a < rows; a++)
    for (int64_t b = 0; b < rows; b++) infinite[a * rows + b] = a / all == b / all ? block[a % all * all + b % all] : 0;
  for (int64_t a = 0; a < N * p; a++)
    for (int64_t b = 0; b < N * p; b++) inner[a * N * p + b] = gram[(a % N + a / N * all) * rows + b % N + b / N * all];
  assert_ok(ctx, sntk_eigenvalues(ctx, inner, N * p, values));

  sntk_train_result r;
  assert_ok(ctx, sntk_train(ctx, net, q->inputs, q->targets, N, &q->train, &r));
  sntk_network_free(net);
  const double scale = sntk_kernel_scale(q->network.activation, q->network.scale, M), rate = r.eta * scale;
  const double norm = distance(gram, NULL, rows * rows), targets = distance(q->targets, NULL, N * p);
  const double start = 1.0 + distance(linear.u, NULL, rows);
  const double bound = 200.0 * eps * start * start * (1.0 + rate * norm) * STEPS;
  assert_near(r.lambda_min, values[0], 200.0 * EPS64 * norm);
  assert_near(r.lambda_max, values[N * p - 1], 200.0 * EPS64 * norm);
  int64_t row = 0;
  bool kept = true, kept_paper = true;
  const double *f = NULL;
  for (int64_t t = 0; t <= STEPS; t++) {
    if (t > 0) {
      advance(gram, all, p, q->targets, rate, linear.u);
      advance(infinite, all, p, q->targets, rate, limit.u);
    }
    if (t != 0 && t != STEPS && (every == 0 || t % every != 0)) continue;
    f = outputs_after(ctx, q, t, r.eta);
    const sntk_history_row *h = &r.history[row++];
    assert_int_equal(h->step, t);
    linear.loss = half_square(linear.u, q->targets, N * p);
    linear.distance = fmax(linear.distance, distance(linear.u, f, N * p) / targets);
    limit.loss = half_square(limit.u, q->targets, N * p);
    limit.distance = fmax(limit.distance, distance(limit.u, f, N * p) / targets);
    assert_near(h->loss, half_square(f, q->targets, N * p), bound);
    assert_near(h->loss_linearized, linear.loss, bound);
    assert_near(h->loss_infinite, limit.loss, bound);
    const double shrink = 1.0 - 0.5 * rate * values[0];
    double squared = 1.0, plain = 1.0;
    for (int64_t s = 0; s < t; s++) squared *= shrink * shrink, plain *= shrink;
    assert_near(h->loss_bound, squared * r.loss_initial, 1e-10 * r.loss_initial);
    kept = kept && h->loss <= h->loss_bound;
    kept_paper = kept_paper && h->loss <= plain * r.loss_initial;
    if (q->tests > 0)
      assert_near(h->test_loss, half_square(f + N * p, q->targets + N * p, q->tests * p), bound);
    else
      assert_true(isnan(h->test_loss));
    assert_true(isnan(h->kernel_drift) && isnan(h->lambda_min)); /* not asked for */
  }
  assert_int_equal(r.history_rows, row);
  assert_int_equal(r.rate_kept, kept);
  assert_int_equal(r.rate_kept_paper, kept_paper);
  assert_true(linear.distance > 1e-6); /* there is something to compare */
  compare_prediction(&r.linearized, &linear, q, f, bound);
  compare_prediction(&r.infinite, &limit, q, f, bound);
  assert_true(isnan(r.kernel_drift) && isnan(r.lambda_min_final));
  if (q->tests > 0) {
    for (int64_t j = 0; j < q->tests * p; j++) assert_near(r.test_outputs[j], f[N * p + j], bound);
    assert_near(r.test_loss, half_square(f + N * p, q->targets + N * p, q->tests * p), bound);
  } else {
    assert_null(r.test_outputs);
    assert_true(isnan(r.test_loss));
  }
  sntk_train_result_clear(&r);
}

static void runs_are_the_recursion(void **state) {
  (void)state;
  sntk_context *ref = open_context("ref", 1), *cpu = open_context("cpu", 2);
  for (int turn = 0; turn < 4 * 2 * 2 * 2 * 2; turn++) {
    const int64_t outputs = 1 + turn / 4 % 2;
    problem q = make_problem((sntk_activation)(turn % 4), outputs, turn / 8 % 2 ? SNTK_INIT_IID : SNTK_INIT_SYMMETRIC,
                             turn / 16 % 2 ? T : 0, 7 + (uint64_t)turn);
    q.network.precision = turn / 32 ? SNTK_F32 : SNTK_F64;
    q.network.sigma = 0.7;
    q.network.scale = turn % 3 ? SNTK_SCALE_NTK : SNTK_SCALE_PAPER;
    q.train.record_every = turn % 5 == 0 ? 0 : 1 + turn % 4;
    snprintf(support_case, sizeof support_case, "%s, p %lld, init %d, %lld tests, precision %d, scale %d, every %lld",
             activation_names[turn % 4], (long long)outputs, (int)q.network.init, (long long)q.tests,
             (int)q.network.precision, (int)q.network.scale, (long long)q.train.record_every);
    check_run(cpu, &q, turn / 32 ? EPS32 : EPS64);
    if (turn < 32) check_run(ref, &q, EPS64);
    pool_clear();
  }
  sntk_context_free(ref);
  sntk_context_free(cpu);
}

/* Stopped by the tolerance, the linearized run is stopped at the same step. */
static void both_stop_together(void **state) {
  (void)state;
  sntk_context *cpu = open_context("cpu", 1);
  problem q = make_problem(SNTK_SOFTMAX, 1, SNTK_INIT_SYMMETRIC, T, 3);
  q.network.width = 4000;
  q.train.tolerance = 0.05;
  q.train.steps = 1000;
  sntk_train_result r;
  sntk_network *net = make_network(cpu, &q.network);
  assert_ok(cpu, sntk_train(cpu, net, q.inputs, q.targets, N, &q.train, &r));
  sntk_network_free(net);
  assert_true(r.converged && r.steps < 1000);
  assert_near(r.linearized.loss, r.loss, 0.1 * r.loss); /* wide: the two hardly differ */
  assert_near(r.linearized.loss, r.history[r.history_rows - 1].loss_linearized, 0.0);
  assert_true(r.rate_kept && r.rate_kept_paper);
  assert_between(r.linearized.distance, 0.0, 0.1);
  assert_between(r.linearized.test_distance, 0.0, 0.1);
  sntk_train_result_clear(&r);
  sntk_context_free(cpu);
}

/* Each column only where it was asked for, or where what was asked for gives it. */
static void absent_where_not_asked_for(void **state) {
  (void)state;
  sntk_context *cpu = open_context("cpu", 1);
  for (int turn = 0; turn < 4; turn++) {
    problem q = make_problem(SNTK_EXP_NORMALIZED, 2, SNTK_INIT_IID, turn % 2 ? T : 0, 4);
    q.train.linearized = false;
    q.train.kernel_every = turn / 2 ? 5 : 0;
    sntk_train_result r;
    sntk_network *net = make_network(cpu, &q.network);
    assert_ok(cpu, sntk_train(cpu, net, q.inputs, q.targets, N, &q.train, &r));
    sntk_network_free(net);
    const sntk_prediction *none[] = {&r.linearized, &r.infinite};
    for (int i = 0; i < 2; i++)
      assert_true(isnan(none[i]->loss) && isnan(none[i]->distance) && isnan(none[i]->test_loss) &&
                  isnan(none[i]->test_distance));
    assert_int_equal(isnan(r.lambda_min), turn / 2 == 0);
    if (turn / 2 == 0) assert_true(!r.rate_kept && !r.rate_kept_paper);
    assert_int_equal(isnan(r.test_loss), turn % 2 == 0);
    for (int64_t t = 0; t < r.history_rows; t++) {
      assert_true(isnan(r.history[t].loss_linearized) && isnan(r.history[t].loss_infinite));
      assert_int_equal(isnan(r.history[t].loss_bound), turn / 2 == 0);
      assert_int_equal(isnan(r.history[t].test_loss), turn % 2 == 0);
      assert_int_equal(isnan(r.history[t].kernel_drift), turn / 2 == 0 || (t % 5 != 0 && t != STEPS));
    }
    sntk_train_result_clear(&r);
    pool_clear();
  }
  sntk_context_free(cpu);
}

/* The limit belongs to Gaussian weights; the linearized run to any. */
static void given_weights_have_no_limit(void **state) {
  (void)state;
  sntk_context *cpu = open_context("cpu", 1);
  problem q = make_problem(SNTK_RELU, 1, SNTK_INIT_IID, T, 5);
  double *weights = reals(D * M), *signs = reals(M);
  for (int64_t j = 0; j < D * M; j++) weights[j] = uniform(6, j);
  for (int64_t j = 0; j < M; j++) signs[j] = uniform(7, j) > 0.0 ? 1.0 : -1.0;
  q.network.weights = weights;
  q.network.signs = signs;
  sntk_train_result r;
  sntk_network *net = make_network(cpu, &q.network);
  assert_ok(cpu, sntk_train(cpu, net, q.inputs, q.targets, N, &q.train, &r));
  sntk_network_free(net);
  assert_true(isfinite(r.linearized.loss) && isfinite(r.linearized.test_distance));
  assert_true(isnan(r.infinite.loss) && isnan(r.infinite.distance) && isnan(r.infinite.test_loss));
  for (int64_t t = 0; t < r.history_rows; t++)
    assert_true(isfinite(r.history[t].loss_linearized) && isnan(r.history[t].loss_infinite));
  sntk_train_result_clear(&r);
  sntk_context_free(cpu);
}

/* Softmax's outputs are bounded: a far too large eta lets the linearized run grow past every number while the network
 * goes on. Its distance must not come out as small. */
static void a_linearized_run_without_bound_is_far(void **state) {
  (void)state;
  sntk_context *cpu = open_context("cpu", 1);
  problem q = make_problem(SNTK_SOFTMAX, 1, SNTK_INIT_SYMMETRIC, 0, 8);
  sntk_train_result r;
  sntk_network *net = make_network(cpu, &q.network);
  q.train.steps = 0;
  assert_ok(cpu, sntk_train(cpu, net, q.inputs, q.targets, N, &q.train, &r));
  q.train.eta = 20.0 * r.eta;
  sntk_train_result_clear(&r);
  q.train.eta_rule = SNTK_ETA_VALUE;
  q.train.steps = 640;
  sntk_network_free(net);
  for (int every = 0; every < 2; every++) { /* 0: from finite to NaN with nothing recorded in between */
    q.train.record_every = every;
    net = make_network(cpu, &q.network);
    assert_status(cpu, sntk_train(cpu, net, q.inputs, q.targets, N, &q.train, &r),
                  SNTK_ERR_DIVERGED); /* 277 times L(0) */
    sntk_network_free(net);
    assert_true(isfinite(r.loss) && r.loss < 1e6);
    assert_false(isfinite(r.linearized.loss));
    assert_true(r.linearized.distance > 1e100);
    assert_false(r.rate_kept);
    sntk_train_result_clear(&r);
  }
  sntk_context_free(cpu);
}

static void held_out_samples_outside_their_domain(void **state) {
  (void)state;
  sntk_context *cpu = open_context("cpu", 1);
  problem q = make_problem(SNTK_SOFTMAX, 2, SNTK_INIT_SYMMETRIC, T, 9);
  double bad[T * D];
  memcpy(bad, q.train.test_inputs, sizeof bad);
  bad[5] = INFINITY;
  struct {
    const double *inputs, *targets;
    int64_t samples;
  } cases[] = {{NULL, q.train.test_targets, T},
               {q.train.test_inputs, NULL, T},
               {NULL, NULL, 1},
               {q.train.test_inputs, q.train.test_targets, -1},
               {bad, q.train.test_targets, T},
               {q.train.test_inputs, bad, T}}; /* T * p of its numbers, the bad one among them */
  for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
    for (int linearized = 0; linearized < 2; linearized++) {
      sntk_train_options train = q.train;
      train.linearized = linearized;
      train.test_inputs = cases[c].inputs;
      train.test_targets = cases[c].targets;
      train.test_samples = cases[c].samples;
      sntk_train_result r;
      sntk_network *net = make_network(cpu, &q.network);
      assert_status(cpu, sntk_train(cpu, net, q.inputs, q.targets, N, &train, &r), SNTK_ERR_ARGUMENT);
      assert_true(isnan(r.test_loss) && isnan(r.linearized.loss));
      sntk_train_result_clear(&r);
      sntk_network_free(net);
    }
  /* none: pointers are not looked at */
  sntk_train_options train = q.train;
  train.test_inputs = bad;
  train.test_targets = NULL;
  train.test_samples = 0;
  sntk_train_result r;
  sntk_network *net = make_network(cpu, &q.network);
  assert_ok(cpu, sntk_train(cpu, net, q.inputs, q.targets, N, &train, &r));
  assert_true(isnan(r.test_loss) && r.test_outputs == NULL);
  sntk_train_result_clear(&r);
  sntk_network_free(net);
  sntk_context_free(cpu);
}

/* Same seed, threads: same bits. */
static void the_same_run_gives_the_same_bits(void **state) {
  (void)state;
  for (int turn = 0; turn < 4; turn++) {
    problem q = make_problem((sntk_activation)turn, 2, SNTK_INIT_SYMMETRIC, T, 10);
    q.network.precision = turn % 2 ? SNTK_F32 : SNTK_F64;
    q.network.width = 5000;
    q.train.kernel_every = 6;
    sntk_train_result r[2];
    for (int again = 0; again < 2; again++) {
      sntk_context *cpu = open_context("cpu", 2);
      sntk_network *net = make_network(cpu, &q.network);
      assert_ok(cpu, sntk_train(cpu, net, q.inputs, q.targets, N, &q.train, &r[again]));
      sntk_network_free(net);
      sntk_context_free(cpu);
    }
    assert_memory_equal(&r[0].linearized, &r[1].linearized, sizeof r[0].linearized);
    assert_memory_equal(&r[0].infinite, &r[1].infinite, sizeof r[0].infinite);
    assert_int_equal(r[0].history_rows, r[1].history_rows);
    assert_memory_equal(r[0].history, r[1].history, (size_t)r[0].history_rows * sizeof *r[0].history);
    sntk_train_result_clear(&r[0]);
    sntk_train_result_clear(&r[1]);
    pool_clear();
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(runs_are_the_recursion, pool_teardown),
      cmocka_unit_test_teardown(both_stop_together, pool_teardown),
      cmocka_unit_test_teardown(absent_where_not_asked_for, pool_teardown),
      cmocka_unit_test_teardown(given_weights_have_no_limit, pool_teardown),
      cmocka_unit_test_teardown(a_linearized_run_without_bound_is_far, pool_teardown),
      cmocka_unit_test_teardown(held_out_samples_outside_their_domain, pool_teardown),
      cmocka_unit_test_teardown(the_same_run_gives_the_same_bits, pool_teardown),
  };
  return cmocka_run_group_tests_name("linear", tests, NULL, NULL);
}
