/**
 * @file test_train.c
 * @brief Training: step counts, linear rate, step sizes, stops, forms, moves of the base, repeatability.
 *
 * SPDX-License-Identifier: MIT
 */
#include "support.h"

#include <float.h>
#include <stdio.h>

#define LENGTH(array) (int64_t)(sizeof(array) / sizeof *(array))

static const char *const activation_names[] = {"softmax", "relu", "exp", "exp_normalized"};

/* A data set, a network and a run. */
typedef struct experiment {
  int64_t n;
  double *inputs, *targets;
  sntk_network_options network;
  sntk_train_options train;
} experiment;

static experiment make_experiment(sntk_activation activation, int64_t n, int64_t dim, int64_t outputs, int64_t width,
                                  uint64_t seed) {
  experiment e = {.n = n,
                  .inputs = sphere_rows(100 + seed, n, dim),
                  .targets = gaussian_targets(seed, n, outputs),
                  .network = SNTK_NETWORK_OPTIONS_INIT,
                  .train = SNTK_TRAIN_OPTIONS_INIT};
  e.network.activation = activation;
  e.network.width = width;
  e.network.dim = dim;
  e.network.outputs = outputs;
  e.network.seed = seed;
  e.network.precision = SNTK_F64;
  return e;
}

/* What a run leaves: the pool owns the copies. */
typedef struct outcome {
  sntk_status status;
  sntk_train_result result; /* its arrays are copies */
  double *weights;          /* dim x width at the end */
  double moved;             /* max_r |w_r(T) - w_r(0)| from the weights themselves */
} outcome;

static outcome run(sntk_context *ctx, const experiment *e) {
  outcome o = {0};
  const int64_t m = e->network.width, d = e->network.dim, size = e->n * e->network.outputs;
  sntk_network *net = make_network(ctx, &e->network);
  double *before = reals(d * m);
  o.weights = reals(d * m);
  assert_ok(ctx, sntk_network_weights(ctx, net, 0, m, before));
  o.status = sntk_train(ctx, net, e->inputs, e->targets, e->n, &e->train, &o.result);
  assert_ok(ctx, sntk_network_weights(ctx, net, 0, m, o.weights));
  for (int64_t r = 0; r < m; r++) {
    double square = 0.0;
    for (int64_t k = 0; k < d; k++)
      square += (o.weights[k * m + r] - before[k * m + r]) * (o.weights[k * m + r] - before[k * m + r]);
    o.moved = fmax(o.moved, sqrt(square));
  }
  sntk_train_result kept = o.result;
  if (kept.history) {
    o.result.history = pool(kept.history_rows, sizeof *kept.history);
    memcpy(o.result.history, kept.history, (size_t)kept.history_rows * sizeof *kept.history);
  }
  if (kept.outputs) {
    o.result.outputs = reals(size);
    memcpy(o.result.outputs, kept.outputs, (size_t)size * sizeof *kept.outputs);
  }
  sntk_train_result_clear(&kept);
  sntk_network_free(net);
  return o;
}

/* ---- orders of the step counts, and the rate ---- */

/* n = 32, d = 16, sigma = 1, eta auto, tolerance 1e-4. One float64 run of another implementation: m = 64 / 1024 /
 * 65536: softmax 47 / 29 / 25, exp 94 / 31 / 25, relu 48 / 36 / 35, and drifts softmax .020 / .0062 / .0002, relu .073
 * / .011 / .0008. Ten seeds here: m = 64 softmax 48 to 79, relu 36 to 96, exp 84 to 430; m = 1024 20 to 114; m = 65536
 * 24 to 43. The ranges asked for leave a factor of two to those. Along the way the loss falls monotonically and stays
 * below (1 - eta q lambda / 2)^(2t) L(0). */
static void step_counts_have_the_known_orders(void **state) {
  (void)state;
  static const struct {
    sntk_activation activation;
    int64_t width;
    double fewest, most, drift_low, drift_high;
  } cases[] = {{SNTK_SOFTMAX, 64, 24, 160, 4e-3, 7e-2},   {SNTK_SOFTMAX, 1024, 10, 150, 2e-3, 4e-2},
               {SNTK_SOFTMAX, 65536, 12, 90, 1e-4, 2e-3}, {SNTK_RELU, 64, 18, 200, 2e-2, 2e-1},
               {SNTK_RELU, 1024, 13, 100, 3e-3, 3e-2},    {SNTK_RELU, 65536, 16, 90, 3e-4, 2e-3},
               {SNTK_EXP, 64, 42, 900, 4e-3, 1e-1},       {SNTK_EXP, 1024, 11, 230, 1.5e-3, 2e-2},
               {SNTK_EXP, 65536, 12, 90, 5e-5, 1e-3}};
  sntk_context *ctx = open_context("cpu", 2);
  for (int64_t c = 0; c < LENGTH(cases); c++)
    for (uint64_t seed = 1; seed <= (cases[c].width > 10000 ? 1 : 3); seed++) {
      experiment e = make_experiment(cases[c].activation, 32, 16, 1, cases[c].width, seed);
      e.train.kernel_every = 1000000; /* at W0 and at the end */
      if (cases[c].width > 10000) e.network.precision = SNTK_F32;
      snprintf(support_case, sizeof support_case, "%s, m %lld, seed %d", activation_names[cases[c].activation],
               (long long)cases[c].width, (int)seed);
      const outcome o = run(ctx, &e);
      assert_int_equal(o.status, SNTK_OK);
      assert_true(o.result.converged && o.result.loss <= 1e-4);
      assert_between((double)o.result.steps, cases[c].fewest, cases[c].most);
      assert_between(o.result.kernel_drift, cases[c].drift_low, cases[c].drift_high);
      assert_true(o.result.lambda_min > 0.0 && o.result.lambda_min_final > 0.0 && !o.result.below_resolution);
      assert_int_equal(o.result.history_rows, o.result.steps + 1);
      const double q = sntk_kernel_scale(cases[c].activation, e.network.scale, cases[c].width);
      const double rate = 1.0 - 0.5 * o.result.eta * q * o.result.lambda_min;
      for (int64_t t = 0; t < o.result.history_rows; t++) {
        assert_int_equal(o.result.history[t].step, t);
        assert_between(o.result.history[t].loss, t == o.result.steps ? 0.0 : 1e-4,
                       pow(rate, 2.0 * (double)t) * o.result.loss_initial * (1.0 + 1e-6));
        if (t > 0) assert_true(o.result.history[t].loss < o.result.history[t - 1].loss);
        if (t > 0) assert_true(o.result.history[t].weight_movement > 0.0);
      }
      pool_clear();
    }
  sntk_context_free(ctx);
}

/* ---- step sizes ---- */

/* eta auto = 1 / lambda_max(q H): Lanczos stops at a relative residual of 1e-6; float32 adds tens of its eps. */
static void eta_auto_is_one_over_the_largest_eigenvalue(void **state) {
  (void)state;
  sntk_context *contexts[] = {open_context("ref", 1), open_context("cpu", 1)};
  for (int turn = 0; turn < 4 * 2 * 2 * 4; turn++) {
    experiment e = make_experiment((sntk_activation)(turn % 4), 9, 4, turn / 8 % 2 ? 3 : 1, 300, 3 + (uint64_t)turn);
    static const sntk_form forms[] = {SNTK_FORM_PLAIN, SNTK_FORM_PLAIN, SNTK_FORM_PLAIN, SNTK_FORM_DISPLACEMENT};
    const int variant = turn / 16;
    sntk_context *ctx = contexts[variant > 0];
    e.network.scale = turn / 4 % 2 ? SNTK_SCALE_PAPER : SNTK_SCALE_NTK;
    e.network.form = forms[variant];
    e.network.precision = variant == 2 ? SNTK_F32 : SNTK_F64;
    e.train.steps = 0;
    for (int64_t k = 0; k < 4; k++) e.inputs[k] *= 0.5; /* not all of one length */
    const int64_t rows = e.n * e.network.outputs;
    double *gram = reals(rows * rows), *values = reals(rows);
    sntk_network *net = make_network(ctx, &e.network);
    assert_ok(ctx, sntk_ntk_gram(ctx, net, e.inputs, e.n, gram));
    sntk_network_free(net);
    assert_ok(ctx, sntk_eigenvalues(ctx, gram, rows, values));
    const double q = sntk_kernel_scale(e.network.activation, e.network.scale, e.network.width);
    const outcome o = run(ctx, &e);
    snprintf(support_case, sizeof support_case, "%s, variant %d, scale %d, p %lld", activation_names[turn % 4], variant,
             (int)e.network.scale, (long long)e.network.outputs);
    assert_int_equal(o.status, SNTK_OK);
    assert_near(o.result.eta * q * values[rows - 1], 1.0, 1e-5);
    assert_near(o.result.jj_lambda_max, 1.0 / o.result.eta, 4.0 * EPS64 / o.result.eta);
    pool_clear();
  }
  sntk_context_free(contexts[0]);
  sntk_context_free(contexts[1]);
}

/* eta q = 0.1 lambda / ((n p)^2 exp(16 B)), B = max(C sigma sqrt(log(n p / delta)), 1); relu: B = 0. */
static void eta_theory_is_the_formula(void **state) {
  (void)state;
  sntk_context *ctx = open_context("cpu", 1);
  for (int turn = 0; turn < 4 * 2 * 2; turn++) {
    experiment e = make_experiment((sntk_activation)(turn % 4), 5, 4, 2, 500, 7);
    e.network.scale = turn / 4 % 2 ? SNTK_SCALE_PAPER : SNTK_SCALE_NTK;
    e.network.sigma = 0.5;
    e.train.steps = 1;
    e.train.eta_rule = SNTK_ETA_THEORY;
    e.train.theory_c = turn / 8 ? 2.0 : 0.1;
    e.train.theory_delta = 0.2;
    const outcome o = run(ctx, &e);
    const double np = 10.0, q = sntk_kernel_scale(e.network.activation, e.network.scale, 500);
    const double b = e.network.activation == SNTK_RELU ? 0.0 : fmax(e.train.theory_c * 0.5 * sqrt(log(np / 0.2)), 1.0);
    assert_int_equal(o.status, SNTK_OK);
    assert_true(o.result.lambda_min > 0.0);
    const double expected = 0.1 * o.result.lambda_min / (q * np * np * exp(16.0 * b));
    assert_near(o.result.eta, expected, 16.0 * (1.0 + 16.0 * b) * EPS64 * expected);
    pool_clear();
  }
  sntk_context_free(ctx);
}

/* ---- budgets and stops ---- */

static void no_steps_change_nothing(void **state) {
  (void)state;
  sntk_context *ctx = open_context("cpu", 1);
  for (int turn = 0; turn < 6; turn++) {
    experiment e = make_experiment((sntk_activation)(turn % 3), 6, 4, 2, 40, 2);
    e.network.init = SNTK_INIT_IID; /* outputs other than zero */
    e.network.precision = turn / 3 ? SNTK_F32 : SNTK_F64;
    e.train.steps = 0;
    sntk_network *net = make_network(ctx, &e.network);
    double *outputs = reals(12);
    assert_ok(ctx, sntk_network_forward(ctx, net, e.inputs, e.n, outputs));
    sntk_network_free(net);
    const outcome o = run(ctx, &e);
    assert_int_equal(o.status, SNTK_OK);
    assert_int_equal(o.result.steps, 0);
    assert_false(o.result.converged);
    assert_int_equal(o.result.history_rows, 1);
    assert_memory_equal(o.result.outputs, outputs, 12 * sizeof *outputs);
    assert_near(o.moved, 0.0, 0.0);
    assert_near(o.result.weight_movement, 0.0, 0.0);
    const double loss = 0.5 * pow(distance(outputs, e.targets, 12), 2.0);
    assert_near(o.result.loss, loss, 32.0 * EPS64 * loss);
    assert_near(o.result.loss_initial, o.result.loss, 0.0);
    /* a tolerance above the loss is reached at once */
    e.train.steps = 10;
    e.train.tolerance = 2.0 * loss;
    const outcome at_once = run(ctx, &e);
    assert_true(at_once.result.converged);
    assert_int_equal(at_once.result.steps, 0);
    pool_clear();
  }
  sntk_context_free(ctx);
}

static void tolerance_zero_runs_every_step(void **state) {
  (void)state;
  sntk_context *ctx = open_context("cpu", 1);
  static const int64_t every[] = {0, 1, 7, 1000};
  for (int64_t k = 0; k < LENGTH(every); k++) {
    experiment e = make_experiment(SNTK_SOFTMAX, 4, 5, 1, 64, 2);
    e.train.tolerance = 0.0;
    e.train.steps = 50;
    e.train.record_every = every[k];
    const outcome o = run(ctx, &e);
    assert_int_equal(o.status, SNTK_OK);
    assert_int_equal(o.result.steps, 50);
    assert_false(o.result.converged);
    /* rows at 0, at multiples, at the last */
    const int64_t rows = every[k] == 0 ? 2 : 1 + 50 / every[k] + (50 % every[k] != 0);
    assert_int_equal(o.result.history_rows, rows);
    assert_int_equal(o.result.history[0].step, 0);
    assert_int_equal(o.result.history[rows - 1].step, 50);
    assert_near(o.result.history[rows - 1].loss, o.result.loss, 0.0);
    assert_true(isnan(o.result.kernel_drift) && isnan(o.result.lambda_min) && isnan(o.result.lambda_min_final));
  }
  sntk_context_free(ctx);
}

/* A residual of zero meets any tolerance but zero, which asks for every step. */
static void a_loss_of_zero_stays_there(void **state) {
  (void)state;
  sntk_context *ctx = open_context("cpu", 1);
  for (int turn = 0; turn < 3; turn++) {
    experiment e = make_experiment((sntk_activation)turn, 5, 4, 2, 20, 3);
    memset(e.targets, 0, 10 * sizeof *e.targets);
    e.network.form = SNTK_FORM_DISPLACEMENT; /* pairs cancel exactly: F = 0 */
    e.train.steps = 5;
    e.train.tolerance = 0.0;
    const outcome o = run(ctx, &e);
    assert_int_equal(o.status, SNTK_OK);
    assert_int_equal(o.result.steps, 5);
    assert_false(o.result.converged || o.result.below_resolution);
    assert_near(o.result.loss, 0.0, 0.0);
    assert_near(o.moved, 0.0, 0.0);
    assert_near(o.result.update_lost, 0.0, 0.0);
    pool_clear();
  }
  sntk_context_free(ctx);
}

/* |stored update - update|_F / |update|_F of one step: the update from float64, the stored one from the weights. Their
 * gradients differ by float32's error in it, C eps with C below 100 here. */
static void lost_updates_are_measured(void **state) {
  (void)state;
  sntk_context *ctx = open_context("cpu", 1);
  static const double etas[] = {1e-1, 1e-3, 1e-4, 1e-6};
  for (int turn = 0; turn < 3 * LENGTH(etas); turn++) {
    experiment e = make_experiment((sntk_activation)(turn % 3), 8, 4, 1, 400, 3);
    e.network.form = SNTK_FORM_PLAIN;
    e.train.steps = 1;
    e.train.tolerance = 0.0;
    e.train.eta_rule = SNTK_ETA_VALUE;
    e.train.eta = etas[turn / 3];
    const int64_t count = 4 * 400;
    double *before = reals(count), *update = reals(count), *stored = reals(count);
    sntk_network *net = make_network(ctx, &e.network);
    assert_ok(ctx, sntk_network_weights(ctx, net, 0, 400, before));
    sntk_network_free(net);
    e.network.form = SNTK_FORM_DISPLACEMENT; /* in float64 too: plain float64 would lose some of the smallest */
    const outcome exact = run(ctx, &e);
    e.network.form = SNTK_FORM_PLAIN;
    e.network.precision = SNTK_F32;
    const outcome plain = run(ctx, &e);
    for (int64_t j = 0; j < count; j++) {
      update[j] = exact.weights[j] - before[j];
      stored[j] = plain.weights[j] - before[j];
    }
    const double lost = distance(stored, update, count) / distance(update, NULL, count);
    snprintf(support_case, sizeof support_case, "%s, eta %g", activation_names[turn % 3], e.train.eta);
    assert_near(plain.result.update_lost, lost, 100.0 * EPS32 + 0.01 * lost);
    assert_int_equal(plain.result.below_resolution, plain.result.update_lost > SNTK_UPDATE_LOST_LIMIT);
    if (turn / 3 == 3) assert_true(plain.result.below_resolution);
    if (turn / 3 == 0) assert_false(plain.result.below_resolution);
    pool_clear();
  }
  sntk_context_free(ctx);
}

static void divergence_is_reported_with_the_result_kept(void **state) {
  (void)state;
  sntk_context *contexts[] = {open_context("ref", 1), open_context("cpu", 1)};
  for (int turn = 0; turn < 4; turn++) {
    sntk_context *ctx = contexts[turn > 0];
    experiment e = make_experiment(SNTK_RELU, 6, 4, 1, 64, 2);
    e.network.precision = turn > 1 ? SNTK_F32 : SNTK_F64;
    e.network.form = turn == 3 ? SNTK_FORM_DISPLACEMENT : SNTK_FORM_PLAIN;
    e.train.eta_rule = SNTK_ETA_VALUE;
    e.train.eta = 30.0; /* lambda_max is near 1 */
    e.train.divergence = 100.0;
    const outcome o = run(ctx, &e);
    assert_status(ctx, o.status, SNTK_ERR_DIVERGED);
    assert_true(o.result.steps > 0 && o.result.steps < e.train.steps);
    assert_true(o.result.loss > 100.0 && isfinite(o.result.loss));
    assert_false(o.result.converged);
    assert_true(o.result.history_rows >= 1 && o.result.history[0].step == 0);
    const double loss = 0.5 * pow(distance(o.result.outputs, e.targets, 6), 2.0);
    assert_near(o.result.loss, loss, 64.0 * EPS64 * loss);
    assert_non_null(strstr(sntk_context_error(ctx), "eta 30"));
    pool_clear();
  }
  sntk_context_free(contexts[0]);
  sntk_context_free(contexts[1]);
}

static void overflow_is_reported_with_the_result_kept(void **state) {
  (void)state;
  sntk_context *contexts[] = {open_context("ref", 1), open_context("cpu", 1)};
  for (int turn = 0; turn < 4; turn++) {
    sntk_context *ctx = contexts[turn > 0];
    experiment e = make_experiment(SNTK_EXP, 6, 4, 1, 64, 2);
    e.network.precision = turn > 1 ? SNTK_F32 : SNTK_F64;
    e.network.form = turn == 3 ? SNTK_FORM_DISPLACEMENT : SNTK_FORM_PLAIN;
    e.train.eta_rule = SNTK_ETA_VALUE;
    e.train.eta = 1e8;
    snprintf(support_case, sizeof support_case, "turn %d", turn);
    const outcome o = run(ctx, &e);
    assert_status(ctx, o.status, SNTK_ERR_OVERFLOW);
    assert_int_equal(o.result.steps, 0);
    assert_true(isfinite(o.result.loss) && o.result.loss == o.result.loss_initial);
    assert_int_equal(o.result.history_rows, 1);
    for (int j = 0; j < 6; j++) assert_true(isfinite(o.result.outputs[j]));

    /* before the first step: nothing to keep, and nothing made up */
    e.network.sigma = 1000.0;
    e.network.init = SNTK_INIT_IID;
    const outcome at_once = run(ctx, &e);
    assert_status(ctx, at_once.status, SNTK_ERR_OVERFLOW);
    assert_int_equal(at_once.result.steps, 0);
    assert_int_equal(at_once.result.history_rows, 0);
    assert_true(isnan(at_once.result.loss) && isnan(at_once.result.loss_initial));
    for (int j = 0; j < 6; j++) assert_true(isnan(at_once.result.outputs[j]));
    pool_clear();
  }
  sntk_context_free(contexts[0]);
  sntk_context_free(contexts[1]);
}

static void arguments_outside_their_domain(void **state) {
  (void)state;
  sntk_context *ctx = open_context("cpu", 1);
  for (int turn = 0; turn < 12; turn++) {
    experiment e = make_experiment(SNTK_SOFTMAX, 4, 3, 1, 8, 1);
    switch (turn) {
      case 0:
        e.train.steps = -1;
        break;
      case 1:
        e.train.record_every = -1;
        break;
      case 2:
        e.train.kernel_every = -1;
        break;
      case 3:
        e.train.tolerance = -1e-9;
        break;
      case 4:
        e.train.tolerance = NAN;
        break;
      case 5:
        e.train.divergence = 1.0;
        break;
      case 6:
        e.train.eta_rule = SNTK_ETA_VALUE;
        break; /* eta 0 */
      case 7:
        e.train.eta_rule = SNTK_ETA_VALUE, e.train.eta = INFINITY;
        break;
      case 8:
        e.train.eta_rule = SNTK_ETA_THEORY, e.train.theory_delta = 1.0;
        break;
      case 9:
        e.targets[2] = NAN;
        break;
      case 10:
        e.inputs[5] = INFINITY;
        break;
      default:
        e.network.streamed = true;
        break;
    }
    sntk_network *net = make_network(ctx, &e.network);
    sntk_train_result result;
    assert_status(ctx, sntk_train(ctx, net, e.inputs, e.targets, e.n, &e.train, &result), SNTK_ERR_ARGUMENT);
    sntk_train_result_clear(&result);
    sntk_network_free(net);
    pool_clear();
  }
  sntk_context_free(ctx);
}

static volatile sig_atomic_t stop;

static void stop_at_seven(void *user, const sntk_progress *progress) {
  int *calls = user;
  if (strcmp(progress->what, "train") == 0) {
    assert_int_equal(progress->done, *calls);
    assert_int_equal(progress->total, 1000);
    ++*calls;
    if (progress->done == 7) stop = 1;
  }
}

/* The flag stops the run; what it reports belongs together: the loss and outputs after `steps` steps. */
static void interruption_keeps_what_was_reached(void **state) {
  (void)state;
  sntk_context *ctx = open_context("cpu", 1);
  experiment e = make_experiment(SNTK_SOFTMAX, 6, 4, 1, 64, 2);
  e.train.tolerance = 0.0;
  int calls = 0;
  stop = 0;
  sntk_context_set_interrupt(ctx, &stop);
  sntk_context_set_progress(ctx, stop_at_seven, &calls);
  const outcome o = run(ctx, &e);
  assert_status(ctx, o.status, SNTK_ERR_INTERRUPTED);
  assert_int_equal(calls, 8);
  assert_true(o.result.steps == 7 || o.result.steps == 8);
  stop = 0;
  sntk_context_set_progress(ctx, NULL, NULL);
  e.train.steps = o.result.steps;
  const outcome whole = run(ctx, &e);
  assert_int_equal(whole.status, SNTK_OK);
  assert_near(o.result.loss, whole.result.loss, 0.0);
  assert_memory_equal(o.result.outputs, whole.result.outputs, 6 * sizeof(double));
  /* raised before the start */
  sntk_network *net = make_network(ctx, &e.network);
  sntk_train_result result;
  stop = 1;
  assert_status(ctx, sntk_train(ctx, net, e.inputs, e.targets, e.n, &e.train, &result), SNTK_ERR_INTERRUPTED);
  assert_int_equal(result.steps, 0);
  sntk_train_result_clear(&result);
  sntk_network_free(net);
  stop = 0;
  sntk_context_free(ctx);
}

/* ---- forms ---- */

/* Short runs with a fixed eta agree between all ways of keeping the weights: each of 15 steps adds 64 eps of the
 * outputs' size; measured a third of that. Plain float32 has no such bound in paper scale and is left out. */
static void forms_and_backends_agree(void **state) {
  (void)state;
  sntk_context *ref = open_context("ref", 1), *cpu = open_context("cpu", 1);
  for (int turn = 0; turn < 4 * 2 * 2 * 2; turn++) {
    experiment e = make_experiment((sntk_activation)(turn % 4), 8, 5, turn / 16 ? 2 : 1, 200, 5);
    e.network.scale = turn / 4 % 2 ? SNTK_SCALE_PAPER : SNTK_SCALE_NTK;
    e.network.init = turn / 8 % 2 ? SNTK_INIT_IID : SNTK_INIT_SYMMETRIC;
    e.network.form = SNTK_FORM_PLAIN;
    e.network.sigma = 0.7;
    e.train.tolerance = 0.0;
    e.train.steps = 15;
    /* fixed, so that all take the same steps */
    e.train.eta_rule = SNTK_ETA_VALUE;
    e.train.eta = 0.2 / sntk_kernel_scale(e.network.activation, e.network.scale, e.network.width);
    const outcome expected = run(ref, &e);
    assert_int_equal(expected.status, SNTK_OK);
    const int64_t size = e.n * e.network.outputs;
    const double start = fmax(1.0, sqrt(2.0 * expected.result.loss_initial));
    static const struct {
      sntk_form form;
      sntk_precision precision;
    } kinds[] = {{SNTK_FORM_PLAIN, SNTK_F64}, {SNTK_FORM_DISPLACEMENT, SNTK_F64}, {SNTK_FORM_DISPLACEMENT, SNTK_F32}};
    for (int64_t k = 0; k < LENGTH(kinds); k++) {
      e.network.form = kinds[k].form;
      e.network.precision = kinds[k].precision;
      const outcome o = run(cpu, &e);
      const double eps = kinds[k].precision == SNTK_F32 ? EPS32 : EPS64, bound = 64.0 * 15.0 * eps * start;
      snprintf(support_case, sizeof support_case, "%s, scale %d, init %d, p %lld, kind %d", activation_names[turn % 4],
               (int)e.network.scale, (int)e.network.init, (long long)e.network.outputs, (int)k);
      assert_int_equal(o.status, SNTK_OK);
      assert_int_equal(o.result.form, kinds[k].form);
      assert_near(distance(o.result.outputs, expected.result.outputs, size), 0.0, bound);
      assert_near(o.result.weight_movement, expected.result.weight_movement,
                  bound * expected.result.weight_movement + 8.0 * eps * (kinds[k].form == SNTK_FORM_PLAIN));
      /* what is reported is what the weights did; those are read as float64, base and shift added */
      assert_near(o.result.weight_movement, o.moved, 16.0 * EPS64 * 4.0 * sqrt(5.0));
      assert_false(o.result.below_resolution);
    }
    pool_clear();
  }
  sntk_context_free(ref);
  sntk_context_free(cpu);
}

/* Lazy training in float32, n = 32, d = 16, 20 steps: the displacement form stays with float64, in both scales: within
 * 5e-6 = 84 eps of outputs of norm 3, 20 steps that round each a little above one eps. In paper scale plain weights
 * cannot take the updates up, and say so (another implementation measured an error of 7.6e-5 at m = 1024, 3.9e-3 at
 * 65536). */
static void displacement_keeps_float32_right(void **state) {
  (void)state;
  sntk_context *ctx = open_context("cpu", 1);
  for (int turn = 0; turn < 6; turn++) {
    experiment e = make_experiment((sntk_activation)(turn % 3), 32, 16, 1, 1 << 15, 1);
    e.network.scale = turn / 3 ? SNTK_SCALE_PAPER : SNTK_SCALE_NTK;
    e.train.tolerance = 0.0;
    e.train.steps = 20;
    e.train.record_every = 0;
    snprintf(support_case, sizeof support_case, "%s, scale %d", activation_names[turn % 3], (int)e.network.scale);
    const outcome exact = run(ctx, &e);
    assert_int_equal(exact.status, SNTK_OK);
    e.train.eta_rule = SNTK_ETA_VALUE;
    e.train.eta = exact.result.eta;
    e.network.precision = SNTK_F32;
    const outcome displaced = run(ctx, &e);
    assert_int_equal(displaced.status, SNTK_OK);
    assert_int_equal(displaced.result.form, SNTK_FORM_DISPLACEMENT);
    assert_near(distance(displaced.result.outputs, exact.result.outputs, 32), 0.0, 5e-6);
    assert_false(displaced.result.below_resolution);
    if (e.network.activation == SNTK_SOFTMAX && e.network.scale == SNTK_SCALE_PAPER) {
      e.network.form = SNTK_FORM_PLAIN;
      const outcome plain = run(ctx, &e);
      assert_between(distance(plain.result.outputs, exact.result.outputs, 32), 1e-4, INFINITY);
      assert_true(plain.result.below_resolution);
    }
    pool_clear();
  }
  sntk_context_free(ctx);
}

/* Kernel figures of a run are those of the Gram matrices before and after it. */
static void kernel_figures_are_those_of_the_gram_matrices(void **state) {
  (void)state;
  sntk_context *ctx = open_context("cpu", 1);
  enum { N = 6, P = 2, ROWS = N * P };
  for (int turn = 0; turn < 6; turn++) {
    experiment e = make_experiment((sntk_activation)(turn % 3), N, 4, P, 100, 4);
    e.network.form = turn / 3 ? SNTK_FORM_DISPLACEMENT : SNTK_FORM_PLAIN;
    e.train.steps = 10;
    e.train.kernel_every = 5;
    double before[ROWS * ROWS], after[ROWS * ROWS], values[2][ROWS];
    sntk_train_result result;
    sntk_network *net = make_network(ctx, &e.network);
    assert_ok(ctx, sntk_ntk_gram(ctx, net, e.inputs, N, before));
    assert_ok(ctx, sntk_train(ctx, net, e.inputs, e.targets, N, &e.train, &result));
    assert_ok(ctx, sntk_ntk_gram(ctx, net, e.inputs, N, after));
    sntk_network_free(net);
    assert_ok(ctx, sntk_eigenvalues(ctx, before, ROWS, values[0]));
    assert_ok(ctx, sntk_eigenvalues(ctx, after, ROWS, values[1]));
    const double bound = 200.0 * ROWS * EPS64 * values[0][ROWS - 1];
    assert_near(result.lambda_min, values[0][0], bound);
    assert_near(result.lambda_max, values[0][ROWS - 1], bound);
    assert_near(result.lambda_min_final, values[1][0], bound);
    const double norm = distance(before, NULL, ROWS * ROWS);
    assert_near(result.kernel_drift, distance(after, before, ROWS * ROWS) / norm, 200.0 * ROWS * EPS64);
    assert_true(result.kernel_drift > 1e-4);
    for (int64_t r = 0; r < result.history_rows; r++) {
      const bool due = result.history[r].step % 5 == 0;
      assert_int_equal(isnan(result.history[r].kernel_drift), !due);
      assert_int_equal(isnan(result.history[r].lambda_min), !due);
    }
    sntk_train_result_clear(&result);
    pool_clear();
  }
  sntk_context_free(ctx);
}

/* Narrow networks in few dimensions move far: |x . D| passes 2, the base moves, pairs part, and the run still is the
 * one of plain float64. Errors of a step are carried on but not amplified while the loss falls: C steps eps, and twice
 * for relu, a kink passed a little earlier or later. */
static void the_base_moves_and_the_run_stays_right(void **state) {
  (void)state;
  sntk_context *cpu = open_context("cpu", 1);
  for (int turn = 0; turn < 4 * 2 * 2; turn++) {
    experiment e = make_experiment((sntk_activation)(turn % 4), 3, 2, 1, 6, 11);
    for (int64_t j = 0; j < e.n; j++) e.targets[j] *= 12.0; /* far away */
    e.network.init = turn / 4 % 2 ? SNTK_INIT_IID : SNTK_INIT_SYMMETRIC;
    e.network.form = SNTK_FORM_PLAIN;
    e.train.tolerance = 0.0;
    e.train.steps = 60;
    e.train.eta_rule = SNTK_ETA_VALUE;
    e.train.eta = e.network.activation == SNTK_EXP ? 0.004 : e.network.activation == SNTK_EXP_NORMALIZED ? 0.01 : 0.02;
    const outcome expected = run(cpu, &e);
    assert_int_equal(expected.status, SNTK_OK);
    for (int64_t t = 1; t < expected.result.history_rows; t++)
      assert_true(expected.result.history[t].loss < expected.result.history[t - 1].loss);
    e.network.form = SNTK_FORM_DISPLACEMENT;
    e.network.precision = turn / 8 ? SNTK_F32 : SNTK_F64;
    const outcome o = run(cpu, &e);
    const double eps = turn / 8 ? EPS32 : EPS64;
    snprintf(support_case, sizeof support_case, "%s, init %d, precision %d: %lld moves, loss %g to %g, moved %g",
             activation_names[turn % 4], (int)e.network.init, (int)e.network.precision, (long long)o.result.base_moves,
             o.result.loss_initial, o.result.loss, o.moved);
    assert_int_equal(o.status, SNTK_OK);
    assert_true(o.result.base_moves > 0);
    const double bound = 12.0 * 60.0 * eps;
    assert_near(distance(o.result.outputs, expected.result.outputs, 3), 0.0, bound);
    assert_near(distance(o.weights, expected.weights, 12), 0.0, bound);
    assert_near(o.result.weight_movement, expected.result.weight_movement, bound);
    assert_near(o.result.weight_movement, o.moved, 64.0 * EPS64 * o.moved);
    pool_clear();
  }
  sntk_context_free(cpu);
}

/* ---- repeatability ---- */

/* Same seed, backend and threads: same bits, with one thread and with two. */
static void the_same_run_gives_the_same_bits(void **state) {
  (void)state;
  for (int turn = 0; turn < 4 * 2 * 2; turn++) {
    const int threads = 1 + turn / 8;
    outcome o[2];
    experiment e = make_experiment((sntk_activation)(turn % 4), 40, 7, 2, 9000, 6); /* three slabs */
    e.network.precision = turn / 4 % 2 ? SNTK_F32 : SNTK_F64;
    e.train.steps = 4;
    e.train.kernel_every = 2;
    for (int again = 0; again < 2; again++) {
      sntk_context *ctx = open_context("cpu", threads);
      o[again] = run(ctx, &e);
      assert_int_equal(o[again].status, SNTK_OK);
      sntk_context_free(ctx);
    }
    assert_memory_equal(o[0].weights, o[1].weights, 7 * 9000 * sizeof(double));
    assert_memory_equal(o[0].result.outputs, o[1].result.outputs, 80 * sizeof(double));
    assert_int_equal(o[0].result.history_rows, o[1].result.history_rows);
    assert_memory_equal(o[0].result.history, o[1].result.history,
                        (size_t)o[0].result.history_rows * sizeof *o[0].result.history);
    assert_true(o[0].result.eta == o[1].result.eta);
    pool_clear();
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(step_counts_have_the_known_orders, pool_teardown),
      cmocka_unit_test_teardown(eta_auto_is_one_over_the_largest_eigenvalue, pool_teardown),
      cmocka_unit_test_teardown(eta_theory_is_the_formula, pool_teardown),
      cmocka_unit_test_teardown(no_steps_change_nothing, pool_teardown),
      cmocka_unit_test_teardown(tolerance_zero_runs_every_step, pool_teardown),
      cmocka_unit_test_teardown(a_loss_of_zero_stays_there, pool_teardown),
      cmocka_unit_test_teardown(lost_updates_are_measured, pool_teardown),
      cmocka_unit_test_teardown(divergence_is_reported_with_the_result_kept, pool_teardown),
      cmocka_unit_test_teardown(overflow_is_reported_with_the_result_kept, pool_teardown),
      cmocka_unit_test_teardown(arguments_outside_their_domain, pool_teardown),
      cmocka_unit_test_teardown(interruption_keeps_what_was_reached, pool_teardown),
      cmocka_unit_test_teardown(forms_and_backends_agree, pool_teardown),
      cmocka_unit_test_teardown(displacement_keeps_float32_right, pool_teardown),
      cmocka_unit_test_teardown(kernel_figures_are_those_of_the_gram_matrices, pool_teardown),
      cmocka_unit_test_teardown(the_base_moves_and_the_run_stays_right, pool_teardown),
      cmocka_unit_test_teardown(the_same_run_gives_the_same_bits, pool_teardown),
  };
  return cmocka_run_group_tests_name("train", tests, NULL, NULL);
}
