/**
 * @file test_gradient.c
 * @brief The gradient against central differences of the loss, through the public interface alone.
 *
 * One step gives it: dL/dW = (W(0) - W(1)) / eta. The loss comes from sntk_network_forward() at shifted weights, in
 * float64 on the ref backend, whatever is tested.
 *
 * SPDX-License-Identifier: MIT
 */
#include "support.h"

#include <stdio.h>

#define LENGTH(array) (int64_t)(sizeof(array) / sizeof *(array))

enum { N = 5, D = 3, M = 10, MOST_P = 3 };

/* A power of two, small enough that the base does not move. */
static const double ETA = 0x1p-7;

static const char *const activation_names[] = {"softmax", "relu", "exp", "exp_normalized"};

typedef struct example {
  sntk_network_options options;
  double *inputs, *targets;
  double weights[D * M], signs[MOST_P * M]; /* at the start, as numbers */
} example;

/* L at given weights, float64 on ref. */
static double loss(sntk_context *ref, const example *e, const double *weights) {
  sntk_network_options options = e->options;
  options.weights = weights;
  options.signs = e->signs;
  options.form = SNTK_FORM_PLAIN;
  sntk_network *net = make_network(ref, &options);
  double outputs[N * MOST_P];
  assert_ok(ref, sntk_network_forward(ref, net, e->inputs, N, outputs));
  sntk_network_free(net);
  const double norm = distance(outputs, e->targets, N * e->options.outputs);
  return 0.5 * norm * norm;
}

/* dL/dW by Richardson's extrapolation of central differences: truncation h^4 L^(5) / 30 or so, rounding eps L / h. */
static double difference(sntk_context *ref, const example *e, int64_t at, double h) {
  double shifted[D * M], values[4];
  static const double steps[] = {1.0, -1.0, 0.5, -0.5};
  for (int s = 0; s < 4; s++) {
    memcpy(shifted, e->weights, sizeof shifted);
    shifted[at] += steps[s] * h;
    values[s] = loss(ref, e, shifted);
  }
  const double wide = (values[0] - values[1]) / (2.0 * h), narrow = (values[2] - values[3]) / h;
  return (4.0 * narrow - wide) / 3.0;
}

/* No logit within reach of zero: relu's loss is a polynomial of degree two there. */
static void assert_away_from_kinks(const example *e, double reach) {
  for (int64_t i = 0; i < N; i++)
    for (int64_t r = 0; r < M; r++) {
      double z = 0.0;
      for (int64_t k = 0; k < D; k++) z += e->inputs[i * D + k] * e->weights[k * M + r];
      assert_true(fabs(z) > reach);
    }
}

/* (W(0) - W(1)) / eta. */
static void step(sntk_context *ctx, const example *e, bool given, sntk_form form, sntk_precision precision,
                 double *gradient) {
  sntk_network_options options = e->options;
  options.form = form;
  options.precision = precision;
  options.weights = given ? e->weights : NULL;
  options.signs = given ? e->signs : NULL;
  sntk_network *net = make_network(ctx, &options);
  assert_int_equal(sntk_network_form(net), form);
  sntk_train_options train = SNTK_TRAIN_OPTIONS_INIT;
  train.steps = 1;
  train.eta_rule = SNTK_ETA_VALUE;
  train.eta = ETA;
  train.tolerance = 0.0;
  sntk_train_result result;
  double before[D * M], after[D * M];
  assert_ok(ctx, sntk_network_weights(ctx, net, 0, M, before));
  for (int64_t j = 0; j < D * M; j++)
    assert_near(before[j], e->weights[j], precision == SNTK_F32 && given ? EPS32 * fabs(before[j]) : 0.0);
  assert_ok(ctx, sntk_train(ctx, net, e->inputs, e->targets, N, &train, &result));
  assert_int_equal(result.form, form);
  assert_int_equal(result.base_moves, 0);
  sntk_train_result_clear(&result);
  assert_ok(ctx, sntk_network_weights(ctx, net, 0, M, after));
  for (int64_t j = 0; j < D * M; j++) gradient[j] = (before[j] - after[j]) / ETA;
  sntk_network_free(net);
}

static void check_example(sntk_context *ref, sntk_context *cpu, example *e, bool symmetric) {
  const double h = e->options.activation == SNTK_RELU ? 0x1p-16 : 0x1p-9;
  if (e->options.activation == SNTK_RELU) assert_away_from_kinks(e, h);
  double expected[D * M], largest = 0.0, gradient[D * M];
  for (int64_t j = 0; j < D * M; j++) {
    expected[j] = difference(ref, e, j, h);
    largest = fmax(largest, fabs(expected[j]));
  }
  assert_true(largest > 1e-3); /* there is something to compare */
  /* Truncation: derivatives of L along one weight of size up to 2^5 of the gradient, relu none. Rounding: of L over h,
   * and of the stored weights, which are below 4, over eta. */
  const double s = sntk_output_scale(e->options.activation, e->options.scale, M), size = 1.0 + s * s * M;
  const double truncation = e->options.activation == SNTK_RELU ? 0.0 : h * h * h * h * 32.0 * size;
  const double bound = truncation + 64.0 * EPS64 * size * M / h + 4.0 * EPS64 / ETA;
  /* float32: the logits, exponentials and sums of up to M, D and N terms, relative to the terms' size, not the sum's */
  const double bound32 = bound + 64.0 * EPS32 * size + 4.0 * EPS32 / ETA;
  static const struct {
    const char *name;
    bool on_cpu, given;
    sntk_form form;
    sntk_precision precision;
  } cases[] = {
      {"ref", false, true, SNTK_FORM_PLAIN, SNTK_F64},
      {"cpu plain", true, true, SNTK_FORM_PLAIN, SNTK_F64},
      {"cpu displaced", true, true, SNTK_FORM_DISPLACEMENT, SNTK_F64},
      {"ref random", false, false, SNTK_FORM_PLAIN, SNTK_F64},
      {"cpu plain random", true, false, SNTK_FORM_PLAIN, SNTK_F64},
      {"cpu displacement random", true, false, SNTK_FORM_DISPLACEMENT, SNTK_F64},
      {"cpu plain f32", true, true, SNTK_FORM_PLAIN, SNTK_F32},
      {"cpu displaced f32", true, true, SNTK_FORM_DISPLACEMENT, SNTK_F32},
      {"cpu displacement random f32", true, false, SNTK_FORM_DISPLACEMENT, SNTK_F32},
  };
  for (int64_t c = 0; c < LENGTH(cases); c++) {
    snprintf(support_case, sizeof support_case, "%s, %s, p %lld, %s scale, %s", cases[c].name,
             activation_names[e->options.activation], (long long)e->options.outputs,
             e->options.scale == SNTK_SCALE_NTK ? "ntk" : "paper", symmetric ? "symmetric" : "iid");
    step(cases[c].on_cpu ? cpu : ref, e, cases[c].given, cases[c].form, cases[c].precision, gradient);
    for (int64_t j = 0; j < D * M; j++)
      assert_near(gradient[j], expected[j], cases[c].precision == SNTK_F32 ? bound32 : bound);
  }
}

static void check_activation(sntk_activation activation) {
  sntk_context *ref = open_context("ref", 1), *cpu = open_context("cpu", 1);
  static const int64_t outputs[] = {1, 2, MOST_P};
  for (int64_t turn = 0; turn < LENGTH(outputs) * 4; turn++) {
    const bool symmetric = turn % 2, paper = turn / 2 % 2;
    example *e = pool(1, sizeof *e);
    e->options = (sntk_network_options)SNTK_NETWORK_OPTIONS_INIT;
    e->options.activation = activation;
    e->options.width = M;
    e->options.dim = D;
    e->options.outputs = outputs[turn / 4];
    e->options.scale = paper ? SNTK_SCALE_PAPER : SNTK_SCALE_NTK;
    e->options.init = symmetric ? SNTK_INIT_SYMMETRIC : SNTK_INIT_IID;
    e->options.form = SNTK_FORM_PLAIN;
    e->options.precision = SNTK_F64;
    e->options.seed = 40 + (uint64_t)turn;
    e->inputs = sphere_rows(60 + (uint64_t)turn, N, D);
    e->targets = gaussian_targets(80 + (uint64_t)turn, N, e->options.outputs);
    sntk_network *net = make_network(ref, &e->options);
    int8_t signs[MOST_P * M];
    assert_ok(ref, sntk_network_weights(ref, net, 0, M, e->weights));
    assert_ok(ref, sntk_network_signs(ref, net, 0, M, signs));
    for (int64_t j = 0; j < M * e->options.outputs; j++) e->signs[j] = signs[j];
    sntk_network_free(net);
    check_example(ref, cpu, e, symmetric);
    pool_clear();
  }
  sntk_context_free(ref);
  sntk_context_free(cpu);
}

static void gradient_softmax(void **state) {
  (void)state;
  check_activation(SNTK_SOFTMAX);
}

static void gradient_relu(void **state) {
  (void)state;
  check_activation(SNTK_RELU);
}

static void gradient_exp(void **state) {
  (void)state;
  check_activation(SNTK_EXP);
}

static void gradient_exp_normalized(void **state) {
  (void)state;
  check_activation(SNTK_EXP_NORMALIZED);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(gradient_softmax, pool_teardown),
      cmocka_unit_test_teardown(gradient_relu, pool_teardown),
      cmocka_unit_test_teardown(gradient_exp, pool_teardown),
      cmocka_unit_test_teardown(gradient_exp_normalized, pool_teardown),
  };
  return cmocka_run_group_tests_name("gradient", tests, NULL, NULL);
}
