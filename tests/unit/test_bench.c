/**
 * @file test_bench.c
 * @brief The benchmark's model of a case, against numbers worked out by hand.
 *
 * SPDX-License-Identifier: MIT
 */
#include "support.h"

#include "bench/bench.h"

static sntk_bench_case step_of(sntk_activation activation, sntk_form form, sntk_precision precision, int64_t p) {
  sntk_bench_case c = {.kind = SNTK_BENCH_STEP, .network = SNTK_NETWORK_OPTIONS_INIT, .samples = 10};
  c.network.activation = activation;
  c.network.form = form;
  c.network.precision = precision;
  c.network.width = 100;
  c.network.dim = 32;
  c.network.outputs = p;
  return c;
}

/* A machine of one slot a second and endless memory: the bound is the slots. */
static double slots(sntk_bench_case c) {
  const sntk_roofline limits = {.multiply_adds = 1.0, .syrk = 1e300, .bandwidth = 1e300};
  return sntk_bench_bound(&c, &limits) / (10.0 * 100.0);
}

static void slots_of_a_step(void **state) {
  (void)state;
  /* forward 32 + 1 + (12 + 2), gradient 64 + 1 + (12 + 2) */
  assert_near(slots(step_of(SNTK_SOFTMAX, SNTK_FORM_PLAIN, SNTK_F32, 1)), 126.0, 1e-9);
  assert_near(slots(step_of(SNTK_SOFTMAX, SNTK_FORM_PLAIN, SNTK_F32, 64)), 252.0, 1e-9);
  /* an exponential of 17 slots */
  assert_near(slots(step_of(SNTK_SOFTMAX, SNTK_FORM_PLAIN, SNTK_F64, 1)), 136.0, 1e-9);
  assert_near(slots(step_of(SNTK_RELU, SNTK_FORM_PLAIN, SNTK_F32, 1)), 34.0 + 67.0, 1e-9);
  assert_near(slots(step_of(SNTK_EXP, SNTK_FORM_PLAIN, SNTK_F32, 1)), 45.0 + 79.0, 1e-9);
  /* a pair: forward 96 + 1 + 5 + 12 + 10, gradient 160 + 1 + 7 + 12 + 10 */
  assert_near(slots(step_of(SNTK_SOFTMAX, SNTK_FORM_DISPLACEMENT, SNTK_F32, 1)), (124.0 + 190.0) / 2.0, 1e-9);
}

static void memory_binds_where_it_is_slower(void **state) {
  (void)state;
  sntk_roofline limits = {.multiply_adds = 1e300, .bandwidth = 1.0};
  const sntk_bench_case plain = step_of(SNTK_SOFTMAX, SNTK_FORM_PLAIN, SNTK_F32, 3);
  /* read and written once, and the signs */
  assert_near(sntk_bench_bound(&plain, &limits), 100.0 * (2.0 * 32.0 * 4.0 + 3.0), 1e-9);
  const sntk_bench_case displaced = step_of(SNTK_SOFTMAX, SNTK_FORM_DISPLACEMENT, SNTK_F32, 3);
  /* half a base and a displacement a neuron read, the displacement written */
  assert_near(sntk_bench_bound(&displaced, &limits), 100.0 * (2.5 * 32.0 * 4.0 + 3.0), 1e-9);
  limits.bandwidth = 0.0; /* not measured */
  assert_true(isnan(sntk_bench_bound(&plain, &limits)));
}

static void the_gram_matrix_is_bound_by_its_product_and_the_passes(void **state) {
  (void)state;
  sntk_bench_case c = step_of(SNTK_SOFTMAX, SNTK_FORM_PLAIN, SNTK_F32, 2);
  c.kind = SNTK_BENCH_GRAM;
  const sntk_roofline limits = {.multiply_adds = 2.0, .syrk = 5.0, .bandwidth = 1.0};
  /* statistics 32 + 2 + 14, features 32 + 13 + 2; U U^T of 20 rows */
  assert_near(sntk_bench_bound(&c, &limits), 20.0 * 21.0 * 100.0 / 5.0 + 1000.0 * (48.0 + 47.0) / 2.0, 1e-9);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(slots_of_a_step),
      cmocka_unit_test(memory_binds_where_it_is_slower),
      cmocka_unit_test(the_gram_matrix_is_bound_by_its_product_and_the_passes),
  };
  return cmocka_run_group_tests_name("bench", tests, NULL, NULL);
}
