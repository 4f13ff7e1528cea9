/**
 * @file test_restore.c
 * @brief A trained float32 network made again from what it can be asked for: the same F to the bit from base and
 * displacement, and to float32's accuracy from their sum.
 *
 * SPDX-License-Identifier: MIT
 */
#include "support.h"

#include <stdio.h>

enum { N = 6, D = 5, M = 64 };

static const char *const activation_names[] = {"softmax", "relu", "exp", "exp_normalized"};

static sntk_network_options options_of(int activation, int64_t outputs, sntk_init init) {
  sntk_network_options o = SNTK_NETWORK_OPTIONS_INIT;
  o.activation = (sntk_activation)activation;
  o.width = M;
  o.dim = D;
  o.outputs = outputs;
  o.init = init;
  o.scale = SNTK_SCALE_PAPER;
  o.form = SNTK_FORM_DISPLACEMENT;
  o.seed = 9;
  return o;
}

/* eta times that of auto: beyond a few the base moves. */
static sntk_network *trained(sntk_context *ctx, const sntk_network_options *o, const double *inputs, double factor,
                             int64_t *base_moves) {
  sntk_network *net = make_network(ctx, o);
  sntk_train_options train = SNTK_TRAIN_OPTIONS_INIT;
  sntk_train_result result;
  double *targets = gaussian_targets(4, N, o->outputs);
  train.steps = 0;
  train.tolerance = 0.0;
  assert_ok(ctx, sntk_train(ctx, net, inputs, targets, N, &train, &result));
  train.eta_rule = SNTK_ETA_VALUE;
  train.eta = factor * result.eta;
  train.divergence = INFINITY;
  train.steps = 12;
  sntk_train_result_clear(&result);
  assert_ok(ctx, sntk_train(ctx, net, inputs, targets, N, &train, &result));
  *base_moves = result.base_moves;
  double *again = reals(N * o->outputs); /* what training ended with is what the weights give */
  assert_ok(ctx, sntk_network_forward(ctx, net, inputs, N, again));
  assert_memory_equal(again, result.outputs, (size_t)(N * o->outputs) * sizeof *again);
  sntk_train_result_clear(&result);
  return net;
}

static double *outputs_of(sntk_context *ctx, const sntk_network_options *o, const double *inputs) {
  double *outputs = reals(N * o->outputs);
  sntk_network *net = make_network(ctx, o);
  assert_ok(ctx, sntk_network_forward(ctx, net, inputs, N, outputs));
  sntk_network_free(net);
  return outputs;
}

static double *signs_of(sntk_context *ctx, sntk_network *net, int64_t outputs) {
  int8_t *bytes = pool(outputs * M, 1);
  double *signs = reals(outputs * M);
  assert_ok(ctx, sntk_network_signs(ctx, net, 0, M, bytes));
  for (int64_t j = 0; j < outputs * M; j++) signs[j] = bytes[j];
  return signs;
}

static void base_and_displacement_give_the_same_bits(void **state) {
  (void)state;
  bool moved = false, stayed = false;
  sntk_context *ctx = open_context("cpu", 1), *ref = open_context("ref", 1);
  for (int turn = 0; turn < 4 * 2 * 2 * 2; turn++) {
    sntk_network_options o =
        options_of(turn % 4, turn / 4 % 2 ? 3 : 1, turn / 8 % 2 ? SNTK_INIT_IID : SNTK_INIT_SYMMETRIC);
    const double *inputs = sphere_rows(12, N, D);
    int64_t base_moves;
    double *base = reals(D * M), *displacement = reals(D * M), *weights = reals(D * M);
    snprintf(support_case, sizeof support_case, "%s, p %d, init %d, turn %d", activation_names[turn % 4],
             (int)o.outputs, (int)o.init, turn);
    const double far = turn % 4 == SNTK_SOFTMAX || turn % 4 == SNTK_RELU ? 40.0 : 3.0; /* exp would overflow */
    sntk_network *net = trained(ctx, &o, inputs, turn / 16 ? far : 0.9, &base_moves);
    double *outputs = reals(N * o.outputs);
    assert_ok(ctx, sntk_network_forward(ctx, net, inputs, N, outputs));
    assert_ok(ctx, sntk_network_parts(ctx, net, 0, M, base, displacement));
    assert_ok(ctx, sntk_network_weights(ctx, net, 0, M, weights));
    const double *signs = signs_of(ctx, net, o.outputs);
    double part[3 * D], first = 0.0;
    assert_ok(ctx, sntk_network_parts(ctx, net, 5, 3, NULL, part)); /* from inside a pair to inside another */
    for (int k = 0; k < D; k++)
      for (int r = 0; r < 3; r++) assert_true(part[k * 3 + r] == displacement[k * M + 5 + r]);
    for (int j = 0; j < D * M; j++) {
      assert_true(base[j] + displacement[j] == weights[j]);
      first = fmax(first, fabs(displacement[j]));
    }
    assert_true(first > 0.0);
    assert_int_equal(sntk_network_base_drawn(net), base_moves == 0);
    moved = moved || base_moves > 0;
    stayed = stayed || base_moves == 0;
    sntk_network_free(net);
    sntk_network_options again = o;
    again.displacement = displacement;
    if (base_moves > 0) {
      again.weights = base;
      again.signs = signs;
    }
    assert_memory_equal(outputs_of(ctx, &again, inputs), outputs, (size_t)(N * o.outputs) * sizeof *outputs);

    /* the sum alone: float32's accuracy of what F sums up, where rounding it to float32 would lose the training */
    sntk_network_options sum = o, exact = o;
    sum.weights = exact.weights = weights;
    sum.signs = exact.signs = signs;
    exact.form = SNTK_FORM_PLAIN;
    exact.precision = SNTK_F64;
    const double *wanted = outputs_of(ref, &exact, inputs);
    const double unit = o.activation == SNTK_SOFTMAX ? (double)M : 8.0;
    if (base_moves == 0)
      assert_true(distance(outputs_of(ctx, &sum, inputs), wanted, N * o.outputs) <=
                  256.0 * EPS32 * (distance(wanted, NULL, N * o.outputs) + 0.02 * unit));
    /* and a run from it has not moved yet */
    sntk_train_options train = SNTK_TRAIN_OPTIONS_INIT;
    sntk_train_result result;
    train.steps = 0;
    train.eta_rule = SNTK_ETA_VALUE;
    train.eta = 1.0;
    net = make_network(ctx, &sum);
    assert_ok(ctx, sntk_train(ctx, net, inputs, outputs, N, &train, &result));
    assert_near(result.weight_movement, 0.0, 1e-13);
    sntk_train_result_clear(&result);
    sntk_network_free(net);
    pool_clear();
  }
  assert_true(moved && stayed);
  sntk_context_free(ctx);
  sntk_context_free(ref);
}

/* Weights of a long training in paper scale have moved by less than float32's last bit of themselves. */
static void what_float32_leaves_of_given_weights_is_kept(void **state) {
  (void)state;
  sntk_context *ctx = open_context("cpu", 1), *ref = open_context("ref", 1);
  sntk_network_options o = options_of(SNTK_SOFTMAX, 1, SNTK_INIT_IID), exact = o;
  double *weights = reals(D * M), *signs = reals(M);
  const double *inputs = sphere_rows(13, N, D);
  for (int j = 0; j < D * M; j++) weights[j] = (double)(float)normal(3, j / 2) + 1e-9 * normal(5, j);
  for (int j = 0; j < M; j++) signs[j] = j % 2 ? -1.0 : 1.0; /* pairs but for the last digits: F is theirs alone */
  o.weights = exact.weights = weights;
  o.signs = exact.signs = signs;
  exact.form = SNTK_FORM_PLAIN;
  exact.precision = SNTK_F64;
  const double *wanted = outputs_of(ref, &exact, inputs), size = distance(wanted, NULL, N);
  assert_between(size, 1e-10, 1e-7);
  assert_true(distance(outputs_of(ctx, &o, inputs), wanted, N) <= 1e-4 * size);
  sntk_context_free(ctx);
  sntk_context_free(ref);
}

static void displacements_that_are_refused(void **state) {
  (void)state;
  sntk_context *ctx = open_context("cpu", 1);
  double displacement[D * M] = {0.0};
  sntk_network_options o = options_of(SNTK_RELU, 1, SNTK_INIT_SYMMETRIC);
  sntk_network *net;
  o.displacement = displacement;
  o.form = SNTK_FORM_PLAIN;
  assert_status(ctx, sntk_network_create(ctx, &o, &net), SNTK_ERR_ARGUMENT);
  o.form = SNTK_FORM_AUTO;
  o.precision = SNTK_F64;
  assert_status(ctx, sntk_network_create(ctx, &o, &net), SNTK_ERR_ARGUMENT);
  o.precision = SNTK_F32;
  displacement[7] = NAN;
  assert_status(ctx, sntk_network_create(ctx, &o, &net), SNTK_ERR_ARGUMENT);
  o.displacement = NULL;
  o.form = SNTK_FORM_PLAIN;
  net = make_network(ctx, &o);
  assert_status(ctx, sntk_network_parts(ctx, net, 0, 1, displacement, NULL), SNTK_ERR_ARGUMENT);
  assert_false(sntk_network_base_drawn(net));
  sntk_network_free(net);
  sntk_context_free(ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(base_and_displacement_give_the_same_bits, pool_teardown),
      cmocka_unit_test_teardown(what_float32_leaves_of_given_weights_is_kept, pool_teardown),
      cmocka_unit_test_teardown(displacements_that_are_refused, pool_teardown),
  };
  return cmocka_run_group_tests_name("restore", tests, NULL, NULL);
}
