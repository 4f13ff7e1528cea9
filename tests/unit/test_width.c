/**
 * @file test_width.c
 * @brief The width search on made-up sufficiency, and trials at a width.
 *
 * SPDX-License-Identifier: MIT
 */
#include "support.h"

#include <stdio.h>

#define LENGTH(array) (int64_t)(sizeof(array) / sizeof *(array))

static int setup(void **state) { return sntk_context_create((sntk_context **)state) == SNTK_OK ? 0 : -1; }

static int teardown(void **state) {
  sntk_context_free(*state);
  pool_clear();
  return 0;
}

/* ---- search ---- */

enum { MOST_CALLS = 200 };

/* Widths from `threshold` on suffice, but those in `holes` do not; and what was asked. */
typedef struct oracle {
  int64_t threshold, holes[4];
  int hole_count;
  int64_t fail_at; /* the test itself fails there */
  int64_t multiple, asked[MOST_CALLS];
  int calls;
} oracle;

static bool suffices(const oracle *o, int64_t width) {
  for (int h = 0; h < o->hole_count; h++)
    if (width == o->holes[h]) return false;
  return width >= o->threshold;
}

static sntk_status ask(void *user, int64_t width, bool *answer) {
  oracle *o = user;
  assert_true(o->calls < MOST_CALLS);
  assert_true(width % o->multiple == 0);
  for (int c = 0; c < o->calls; c++) assert_int_not_equal(o->asked[c], width); /* trials are dear: none twice */
  o->asked[o->calls++] = width;
  if (width == o->fail_at) return SNTK_ERR_INTERRUPTED;
  *answer = suffices(o, width);
  return SNTK_OK;
}

static sntk_status search(sntk_context *ctx, oracle *o, int64_t low, int64_t high, int64_t multiple, double resolution,
                          int64_t *width) {
  const sntk_width_options options = {
      .min_width = low, .max_width = high, .resolution = resolution, .multiple = multiple};
  o->multiple = multiple;
  return sntk_width_search(ctx, &options, ask, o, width);
}

static void monotone_thresholds_are_found_exactly(void **state) {
  static const int64_t multiples[] = {1, 2, 6};
  for (int64_t k = 0; k < LENGTH(multiples); k++) {
    const int64_t multiple = multiples[k], most = 1000 / multiple * multiple;
    for (int64_t threshold = 1; threshold <= 1010; threshold++) {
      oracle o = {.threshold = threshold};
      int64_t width = -1;
      assert_ok(*state, search(*state, &o, multiple, 1000, multiple, 0.0, &width));
      const int64_t expected = (threshold + multiple - 1) / multiple * multiple;
      assert_int_equal(width, expected <= most ? expected : 0);
      assert_true(o.calls <= 2 * 11); /* doubling and bisection: log2 each */
    }
  }
}

static void the_first_width_may_suffice_and_the_last_may_not(void **state) {
  int64_t width = -1;
  oracle easy = {.threshold = 1};
  assert_ok(*state, search(*state, &easy, 48, 4096, 2, 0.0, &width));
  assert_int_equal(width, 48);
  assert_int_equal(easy.calls, 1);

  oracle hopeless = {.threshold = 5000};
  assert_ok(*state, search(*state, &hopeless, 2, 4097, 2, 0.0, &width));
  assert_int_equal(width, 0);
  assert_int_equal(hopeless.asked[hopeless.calls - 1], 4096); /* the last multiple below the limit is tried */

  oracle only_top = {.threshold = 100};
  assert_ok(*state, search(*state, &only_top, 64, 100, 1, 0.0, &width));
  assert_int_equal(width, 100);

  oracle single = {.threshold = 7};
  assert_ok(*state, search(*state, &single, 10, 10, 1, 0.0, &width));
  assert_int_equal(width, 10);
}

/* No overflow where doubling would pass the end of the type. */
static void huge_limits(void **state) {
  int64_t width = -1;
  oracle far = {.threshold = INT64_C(3000000000000001)};
  assert_ok(*state, search(*state, &far, 1, INT64_MAX, 1, 0.0, &width));
  assert_int_equal(width, far.threshold);
  oracle last = {.threshold = INT64_MAX, .holes = {INT64_MAX}, .hole_count = 1};
  assert_ok(*state, search(*state, &last, 1, INT64_MAX, 1, 0.0, &width));
  assert_int_equal(width, 0);
  assert_int_equal(last.asked[last.calls - 1], INT64_MAX);
}

static void resolution_ends_the_bisection_early(void **state) {
  static const double resolutions[] = {0.01, 0.1, 0.5};
  for (int64_t k = 0; k < LENGTH(resolutions); k++)
    for (int64_t threshold = 3; threshold < 100000; threshold = threshold * 3 / 2) {
      oracle fine = {.threshold = threshold}, coarse = {.threshold = threshold};
      int64_t exact, width;
      assert_ok(*state, search(*state, &fine, 1, 1 << 20, 1, 0.0, &exact));
      assert_ok(*state, search(*state, &coarse, 1, 1 << 20, 1, resolutions[k], &width));
      assert_int_equal(exact, threshold);
      assert_true(width >= threshold && (double)width <= (1.0 + resolutions[k]) * (double)threshold);
      assert_true(coarse.calls <= fine.calls);
    }
}

/* Where sufficiency is not monotone: a width that suffices beside one that was asked and does not. */
static void holes_do_not_break_it(void **state) {
  for (int64_t threshold = 2; threshold < 300; threshold += 7)
    for (int64_t hole = threshold; hole < threshold + 200; hole += 3) {
      oracle o = {.threshold = threshold, .holes = {hole, hole + 1, 2 * hole, 4 * hole}, .hole_count = 4};
      int64_t width;
      assert_ok(*state, search(*state, &o, 1, 100000, 1, 0.0, &width));
      assert_true(width > 0 && suffices(&o, width) && !suffices(&o, width - 1));
    }
}

static void a_failing_test_ends_the_search(void **state) {
  for (int64_t fail_at = 1; fail_at <= 64; fail_at *= 2) {
    oracle o = {.threshold = 50, .fail_at = fail_at};
    int64_t width = -1;
    assert_status(*state, search(*state, &o, 1, 1000, 1, 0.0, &width), SNTK_ERR_INTERRUPTED);
    assert_int_equal(width, 0);
    assert_int_equal(o.asked[o.calls - 1], fail_at);
  }
}

static void ranges_that_cannot_be_searched(void **state) {
  static const struct {
    int64_t low, high, multiple;
    double resolution;
  } wrong[] = {{0, 10, 1, 0}, {-2, 10, 1, 0},   {11, 10, 1, 0}, {3, 10, 2, 0},
               {2, 10, 0, 0}, {2, 10, 2, -0.1}, {2, 10, 2, NAN}};
  for (int64_t k = 0; k < LENGTH(wrong); k++) {
    const sntk_width_options options = {wrong[k].low, wrong[k].high, wrong[k].resolution, wrong[k].multiple};
    oracle o = {.threshold = 1, .multiple = 1};
    int64_t width = -1;
    assert_status(*state, sntk_width_search(*state, &options, ask, &o, &width), SNTK_ERR_ARGUMENT);
    assert_int_equal(width, 0);
    assert_int_equal(o.calls, 0);
  }
}

/* ---- a trial ---- */

static void trials_report_what_training_showed(void **state) {
  (void)state;
  enum { N = 6, D = 4 };
  sntk_context *ctx = open_context("cpu", 1);
  const double *inputs = sphere_rows(1, N, D), *targets = gaussian_targets(1, N, 1);
  sntk_network_options network = SNTK_NETWORK_OPTIONS_INIT;
  network.dim = D;
  network.precision = SNTK_F64;
  sntk_train_options train = SNTK_TRAIN_OPTIONS_INIT;
  train.tolerance = 1e-3;
  sntk_width_trial trial;
  assert_ok(ctx, sntk_width_try(ctx, &network, 4096, inputs, targets, N, &train, 0.5, &trial));
  assert_int_equal(trial.width, 4096);
  assert_int_equal(trial.status, SNTK_OK);
  assert_true(trial.converged && trial.kernel_kept && trial.loss <= 1e-3 && trial.steps > 0);
  assert_true(trial.lambda > 0.0 && trial.lambda <= trial.lambda_max && trial.lambda_final >= 0.5 * trial.lambda);
  assert_true(trial.weight_movement > 0.0 && trial.kernel_drift > 0.0 && trial.kernel_drift < 0.1);
  /* ntk scale: q = 1, and eta auto = 1 / lambda_max to the residual bound of 1e-6 */
  assert_near(trial.eta * trial.lambda_max, 1.0, 1e-5);
  assert_near(trial.eta_q_lambda, trial.eta * trial.lambda, 4.0 * EPS64 * trial.eta_q_lambda);

  /* too few neurons for n p rows of rank: the kernel is singular, and nothing is kept */
  network.activation = SNTK_RELU;
  assert_ok(ctx, sntk_width_try(ctx, &network, 2, inputs, targets, N, &train, 0.5, &trial));
  assert_false(trial.kernel_kept);

  /* a run that diverges is a width that does not suffice, not a failure of the search */
  train.eta_rule = SNTK_ETA_VALUE;
  train.eta = 1e6;
  network.activation = SNTK_EXP;
  assert_ok(ctx, sntk_width_try(ctx, &network, 64, inputs, targets, N, &train, 0.5, &trial));
  assert_true(trial.status == SNTK_ERR_OVERFLOW || trial.status == SNTK_ERR_DIVERGED);
  assert_false(trial.converged || trial.kernel_kept);
  sntk_context_free(ctx);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(monotone_thresholds_are_found_exactly),
      TEST(the_first_width_may_suffice_and_the_last_may_not),
      TEST(huge_limits),
      TEST(resolution_ends_the_bisection_early),
      TEST(holes_do_not_break_it),
      TEST(a_failing_test_ends_the_search),
      TEST(ranges_that_cannot_be_searched),
      TEST(trials_report_what_training_showed),
  };
  return cmocka_run_group_tests_name("width", tests, NULL, NULL);
}
