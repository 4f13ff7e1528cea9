/**
 * @file test_arguments.c
 * @brief Every public function refuses a NULL, and sizes that cannot be, with a text; getters have a safe answer.
 *
 * SPDX-License-Identifier: MIT
 */
#include "support.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

enum { N = 3, D = 2, M = 4, SIDE = N };

static sntk_context *ctx, *closed; /* closed: no backend is open in it */
static sntk_network *net;
static double x[N * D] = {1, 0, 0, 1, 0.6, 0.8}, y[N] = {0.5, -0.5, 0.25}, out[64],
                    matrix[SIDE * SIDE] = {2, 0, 0, 0, 3, 0, 0, 0, 4};
static const int64_t bad_sizes[] = {0, -1, INT64_MIN, INT64_MAX, INT64_MAX / 8, INT64_MAX / 16};
enum { BAD = sizeof bad_sizes / sizeof *bad_sizes };

static sntk_network_options options_of(int64_t width) {
  sntk_network_options o = SNTK_NETWORK_OPTIONS_INIT;
  o.width = width;
  o.dim = D;
  return o;
}

static int setup(void **state) {
  (void)state;
  const sntk_context_options o = {.backend = "cpu", .threads = 1};
  const sntk_network_options network = options_of(M);
  if (sntk_context_create(&closed) != SNTK_OK || sntk_context_create(&ctx) != SNTK_OK) return -1;
  return sntk_context_open(ctx, &o) == SNTK_OK && sntk_network_create(ctx, &network, &net) == SNTK_OK ? 0 : -1;
}

static int teardown(void **state) {
  (void)state;
  sntk_network_free(net);
  sntk_context_free(ctx);
  sntk_context_free(closed);
  return 0;
}

/* An argument error, or for a size that overflows a shape error, with a text. */
static void refused_(sntk_status status, sntk_context *of, const char *call, int line) {
  if (status != SNTK_ERR_ARGUMENT && status != SNTK_ERR_SHAPE)
    fail_msg("line %d: %s: %s", line, call, sntk_status_name(status));
  if (of && !*sntk_context_error(of)) fail_msg("line %d: %s has no text", line, call);
}
#define refused(of, call) refused_(call, of, #call, __LINE__)

/* A call on no context, and on one without a backend. */
#define refused_unopened(call_on)                                                                                      \
  do {                                                                                                                 \
    sntk_context *on = NULL;                                                                                           \
    refused(NULL, call_on);                                                                                            \
    on = closed;                                                                                                       \
    refused(on, call_on);                                                                                              \
  } while (0)

static void contexts(void **state) {
  (void)state;
  const sntk_context_options o = SNTK_CONTEXT_OPTIONS_INIT;
  refused(NULL, sntk_context_create(NULL));
  refused(NULL, sntk_context_open(NULL, &o));
  refused(closed, sntk_context_open(closed, NULL));
  const int threads[] = {-1, INT32_MIN, 4097, INT32_MAX};
  for (size_t i = 0; i < sizeof threads / sizeof *threads; i++)
    refused(closed, sntk_context_open(closed, &(sntk_context_options){.backend = "cpu", .threads = threads[i]}));
  refused(closed, sntk_context_open(closed, &(sntk_context_options){.backend = "cpu", .device = -1}));
  refused(closed, sntk_context_open(closed, &(sntk_context_options){.backend = "cpu", .memory_limit = -1}));
  refused(closed, sntk_context_open(closed, &(sntk_context_options){.backend = "gpu"}));
  refused(ctx, sntk_context_open(ctx, &o));
  sntk_context_free(NULL);
  assert_non_null(sntk_context_error(NULL));
  assert_string_equal(sntk_context_backend(NULL), "none");
  assert_string_equal(sntk_context_backend(closed), "none");
  assert_false(sntk_context_emulated(NULL));
  assert_false(sntk_context_emulated(closed));
  assert_non_null(sntk_context_device(NULL));
  assert_non_null(sntk_context_device(closed));
  assert_int_equal(sntk_context_threads(NULL), 1);
  assert_int_equal(sntk_context_memory(NULL), -1);
  assert_true(sntk_context_memory(closed) > 0);
  assert_int_equal(sntk_context_precision(NULL, SNTK_F32), SNTK_F32);
  assert_int_equal(sntk_context_precision(closed, SNTK_F64), SNTK_F64);
  sntk_context_set_interrupt(NULL, NULL);
  sntk_context_set_progress(NULL, NULL, NULL);
  assert_non_null(sntk_version());
  assert_non_null(sntk_git_commit());
  assert_non_null(sntk_status_name((sntk_status)-1));
  assert_non_null(sntk_status_name((sntk_status)1000));
  assert_int_equal(sntk_status_exit_code((sntk_status)1000), 1);
}

static void random_numbers(void **state) {
  (void)state;
  sntk_rng_words(1, 2, 3, 4, NULL);
  sntk_rng_normals(1, 2, 3, 4, NULL);
  uint32_t word = 7;
  float normal = 7.0f;
  sntk_rng_words(1, 2, 3, -1, &word);
  sntk_rng_normals(1, 2, 3, INT64_MIN, &normal);
  assert_int_equal(word, 7);
  assert_true(normal == 7.0f);
  sntk_rng_words(1, 2, UINT64_MAX, 1, &word);
  assert_int_equal(word, sntk_rng_word(1, 2, UINT64_MAX));
  assert_true(sntk_rng_uniform(UINT64_MAX, UINT64_MAX, UINT64_MAX) > 0.0);
  assert_true(fabsf(sntk_rng_normal(UINT64_MAX, UINT64_MAX, UINT64_MAX)) < 7.0f);
}

static void data(void **state) {
  (void)state;
  sntk_data_options o = SNTK_DATA_OPTIONS_INIT;
  sntk_data *made = NULL;
  o.samples = N;
  o.dim = D;
  refused(NULL, sntk_data_create(NULL, &o, &made));
  refused(ctx, sntk_data_create(ctx, NULL, &made));
  refused(ctx, sntk_data_create(ctx, &o, NULL));
  for (int i = 0; i < BAD; i++) {
    int64_t *const sizes[] = {&o.samples, &o.dim};
    for (int s = 0; s < 2; s++) {
      const int64_t kept = *sizes[s];
      *sizes[s] = bad_sizes[i];
      const sntk_status status = sntk_data_create(ctx, &o, &made);
      assert_true(status == SNTK_ERR_ARGUMENT || status == SNTK_ERR_SHAPE || status == SNTK_ERR_MEMORY);
      assert_null(made);
      *sizes[s] = kept;
    }
  }
  o.source = SNTK_DATA_NPY;
  refused(ctx, sntk_data_create(ctx, &o, &made)); /* no path */
  o.inputs = "x.npy";
  o.label_column_count = 1;
  refused(ctx, sntk_data_create(ctx, &o, &made)); /* no columns */
  sntk_data_free(NULL);
  sntk_array array;
  refused(NULL, sntk_npy_read(NULL, "x.npy", &array));
  refused(ctx, sntk_npy_read(ctx, NULL, &array));
  refused(ctx, sntk_npy_read(ctx, "x.npy", NULL));
  refused(NULL, sntk_npy_write(NULL, "never.npy", 1, 1, out));
  refused(ctx, sntk_npy_write(ctx, NULL, 1, 1, out));
  refused(ctx, sntk_npy_write(ctx, "never.npy", 1, 1, NULL));
  refused(ctx, sntk_npy_write(ctx, "never.npy", -1, 1, out));
  refused(ctx, sntk_npy_write(ctx, "never.npy", 1, INT64_MIN, out));
  refused(ctx, sntk_npy_write(ctx, "never.npy", INT64_MAX, 2, out));
  assert_int_not_equal(access("never.npy", F_OK), 0);
  sntk_array_free(NULL);
}

static void networks(void **state) {
  (void)state;
  sntk_network_options o = options_of(M);
  sntk_network *made = NULL;
  refused_unopened(sntk_network_create(on, &o, &made));
  refused(ctx, sntk_network_create(ctx, NULL, &made));
  refused(ctx, sntk_network_create(ctx, &o, NULL));
  int64_t *const sizes[] = {&o.width, &o.dim, &o.outputs};
  for (int s = 0; s < 3; s++)
    for (int i = 0; i < BAD; i++) {
      const int64_t kept = *sizes[s];
      *sizes[s] = bad_sizes[i];
      refused(ctx, sntk_network_create(ctx, &o, &made));
      if (bad_sizes[i] < 1) assert_int_equal(sntk_network_bytes(ctx, &o), -1);
      *sizes[s] = kept;
    }
  void *const words[] = {&o.activation, &o.scale, &o.init, &o.form, &o.precision};
  for (size_t w = 0; w < sizeof words / sizeof *words; w++) {
    int kept, unknown = 99;
    memcpy(&kept, words[w], sizeof kept);
    memcpy(words[w], &unknown, sizeof unknown);
    refused(ctx, sntk_network_create(ctx, &o, &made));
    memcpy(words[w], &kept, sizeof kept);
  }
  assert_null(made);
  sntk_network_free(NULL);
  assert_int_equal(sntk_network_bytes(NULL, &o), -1);
  assert_int_equal(sntk_network_bytes(closed, &o), -1);
  assert_int_equal(sntk_network_bytes(ctx, NULL), -1);
  assert_int_equal(sntk_network_form(NULL), SNTK_FORM_AUTO);
  assert_null(sntk_network_get_options(NULL));
  (void)sntk_output_scale((sntk_activation)99, (sntk_scale)99, 0);
  (void)sntk_kernel_scale((sntk_activation)99, (sntk_scale)99, -1);
  refused_unopened(sntk_network_forward(on, net, x, N, out));
  refused(ctx, sntk_network_forward(ctx, NULL, x, N, out));
  refused(ctx, sntk_network_forward(ctx, net, NULL, N, out));
  refused(ctx, sntk_network_forward(ctx, net, x, N, NULL));
  int8_t signs[M];
  refused_unopened(sntk_network_weights(on, net, 0, 1, out));
  refused(ctx, sntk_network_weights(ctx, NULL, 0, 1, out));
  refused(ctx, sntk_network_weights(ctx, net, 0, 1, NULL));
  refused_unopened(sntk_network_signs(on, net, 0, 1, signs));
  refused(ctx, sntk_network_parts(ctx, NULL, 0, 1, out, out));
  refused(ctx, sntk_network_parts(ctx, net, 0, INT64_MAX, out, out));
  assert_false(sntk_network_base_drawn(NULL));
  refused(ctx, sntk_network_signs(ctx, NULL, 0, 1, signs));
  refused(ctx, sntk_network_signs(ctx, net, 0, 1, NULL));
  for (int i = 1; i < BAD; i++) {
    refused(ctx, sntk_network_forward(ctx, net, x, bad_sizes[i], out));
    refused(ctx, sntk_network_weights(ctx, net, 0, bad_sizes[i], out));
    refused(ctx, sntk_network_weights(ctx, net, bad_sizes[i], 1, out));
    refused(ctx, sntk_network_signs(ctx, net, 0, bad_sizes[i], signs));
    refused(ctx, sntk_network_signs(ctx, net, bad_sizes[i], 1, signs));
  }
  refused(ctx, sntk_network_forward(ctx, net, x, 0, out));
}

static sntk_status take(void *user, const sntk_ntk_block *block) {
  (void)user;
  (void)block;
  return SNTK_OK;
}

static void kernels(void **state) {
  (void)state;
  const sntk_network_options o = options_of(M);
  const int64_t pairs[2] = {0, 0}, beyond[2] = {0, 9};
  sntk_status (*const matrices[])(sntk_context *, sntk_network *, const double *, int64_t, double *) = {
      sntk_ntk_gram, sntk_ntk_trace, sntk_ntk_diagonal};
  for (size_t k = 0; k < sizeof matrices / sizeof *matrices; k++) {
    refused_unopened(matrices[k](on, net, x, N, out));
    refused(ctx, matrices[k](ctx, NULL, x, N, out));
    refused(ctx, matrices[k](ctx, net, NULL, N, out));
    refused(ctx, matrices[k](ctx, net, x, N, NULL));
    for (int i = 0; i < BAD; i++) refused(ctx, matrices[k](ctx, net, x, bad_sizes[i], out));
  }
  refused_unopened(sntk_ntk_blocks(on, net, x, N, 1, pairs, 1, take, NULL));
  refused(ctx, sntk_ntk_blocks(ctx, NULL, x, N, 1, pairs, 1, take, NULL));
  refused(ctx, sntk_ntk_blocks(ctx, net, NULL, N, 1, pairs, 1, take, NULL));
  refused(ctx, sntk_ntk_blocks(ctx, net, x, N, 1, NULL, 1, take, NULL));
  refused(ctx, sntk_ntk_blocks(ctx, net, x, N, 1, pairs, 1, NULL, NULL));
  refused(ctx, sntk_ntk_blocks(ctx, net, x, N, 1, beyond, 1, take, NULL));
  for (int i = 0; i < BAD; i++) {
    refused(ctx, sntk_ntk_blocks(ctx, net, x, bad_sizes[i], 1, pairs, 1, take, NULL));
    if (bad_sizes[i] < 1) refused(ctx, sntk_ntk_blocks(ctx, net, x, N, bad_sizes[i], pairs, 1, take, NULL));
    if (bad_sizes[i]) refused(ctx, sntk_ntk_blocks(ctx, net, x, N, 1, pairs, bad_sizes[i], take, NULL));
    refused(ctx, sntk_ntk_infinite(ctx, SNTK_RELU, 1.0, x, bad_sizes[i], D, out));
    refused(ctx, sntk_ntk_infinite(ctx, SNTK_RELU, 1.0, x, N, bad_sizes[i], out));
    refused(ctx, sntk_eigenvalues(ctx, matrix, bad_sizes[i], out));
    refused(ctx, sntk_extreme_eigenvalues(ctx, matrix, bad_sizes[i], &(sntk_extremes){0}));
    if (bad_sizes[i] < 1) assert_int_equal(sntk_ntk_bytes(ctx, &o, bad_sizes[i]), -1);
  }
  /* a block larger than all the samples is all of them */
  assert_ok(ctx, sntk_ntk_blocks(ctx, net, x, N, INT64_MAX, pairs, 1, take, NULL));
  assert_int_equal(sntk_ntk_bytes(NULL, &o, N), -1);
  assert_int_equal(sntk_ntk_bytes(closed, &o, N), -1);
  assert_int_equal(sntk_ntk_bytes(ctx, NULL, N), -1);
  assert_int_equal(sntk_ntk_bytes(ctx, &o, INT64_MAX), -1);
  assert_true(isnan(sntk_ntk_rounding(NULL, &o, x, N)) && isnan(sntk_ntk_rounding(closed, &o, x, N)));
  assert_true(isnan(sntk_ntk_rounding(ctx, NULL, x, N)) && isnan(sntk_ntk_rounding(ctx, &o, NULL, N)));
  for (int i = 0; i < BAD; i++)
    if (bad_sizes[i] < 1) assert_true(isnan(sntk_ntk_rounding(ctx, &o, x, bad_sizes[i])));
  refused(NULL, sntk_ntk_infinite(NULL, SNTK_RELU, 1.0, x, N, D, out));
  refused(ctx, sntk_ntk_infinite(ctx, (sntk_activation)99, 1.0, x, N, D, out));
  refused(ctx, sntk_ntk_infinite(ctx, SNTK_EXP, NAN, x, N, D, out));
  refused(ctx, sntk_ntk_infinite(ctx, SNTK_EXP, 1.0, NULL, N, D, out));
  refused(ctx, sntk_ntk_infinite(ctx, SNTK_EXP, 1.0, x, N, D, NULL));
  refused_unopened(sntk_eigenvalues(on, matrix, SIDE, out));
  refused(ctx, sntk_eigenvalues(ctx, NULL, SIDE, out));
  refused(ctx, sntk_eigenvalues(ctx, matrix, SIDE, NULL));
  sntk_extremes extremes;
  refused(NULL, sntk_extreme_eigenvalues(NULL, matrix, SIDE, &extremes));
  refused(ctx, sntk_extreme_eigenvalues(ctx, NULL, SIDE, &extremes));
  refused(ctx, sntk_extreme_eigenvalues(ctx, matrix, SIDE, NULL));
}

static void training(void **state) {
  (void)state;
  const sntk_network_options network = options_of(M);
  sntk_train_options o = SNTK_TRAIN_OPTIONS_INIT;
  sntk_train_result result = {0};
  o.steps = 1;
  refused_unopened(sntk_train(on, net, x, y, N, &o, &result));
  refused(ctx, sntk_train(ctx, NULL, x, y, N, &o, &result));
  refused(ctx, sntk_train(ctx, net, NULL, y, N, &o, &result));
  refused(ctx, sntk_train(ctx, net, x, NULL, N, &o, &result));
  refused(ctx, sntk_train(ctx, net, x, y, N, NULL, &result));
  refused(ctx, sntk_train(ctx, net, x, y, N, &o, NULL));
  int64_t *const numbers[] = {&o.steps, &o.record_every, &o.kernel_every, &o.profile_start, &o.profile_count};
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    const int64_t kept = *numbers[i];
    *numbers[i] = -1;
    refused(ctx, sntk_train(ctx, net, x, y, N, &o, &result));
    *numbers[i] = kept;
  }
  o.eta_rule = (sntk_eta_rule)99;
  refused(ctx, sntk_train(ctx, net, x, y, N, &o, &result));
  o.eta_rule = SNTK_ETA_AUTO;
  for (int i = 0; i < BAD; i++) {
    refused(ctx, sntk_train(ctx, net, x, y, bad_sizes[i], &o, &result));
    o.test_samples = bad_sizes[i];
    if (bad_sizes[i]) refused(ctx, sntk_train(ctx, net, x, y, N, &o, &result)); /* no inputs */
    o.test_inputs = x;
    o.test_targets = y;
    if (bad_sizes[i]) refused(ctx, sntk_train(ctx, net, x, y, N, &o, &result));
    o.test_inputs = o.test_targets = NULL;
    o.test_samples = 0;
    if (bad_sizes[i] < 1) assert_int_equal(sntk_train_bytes(ctx, &network, bad_sizes[i], &o), -1);
  }
  sntk_train_result_clear(NULL);
  sntk_train_result_clear(&result);
  assert_int_equal(sntk_train_bytes(NULL, &network, N, &o), -1);
  assert_int_equal(sntk_train_bytes(closed, &network, N, &o), -1);
  assert_int_equal(sntk_train_bytes(ctx, NULL, N, &o), -1);
  assert_int_equal(sntk_train_bytes(ctx, &network, N, NULL), -1);
}

static void moves(void **state) {
  (void)state;
  const sntk_network_options o = options_of(M);
  sntk_train_options train = SNTK_TRAIN_OPTIONS_INIT;
  sntk_perturb *p = NULL;
  train.steps = 1;
  refused_unopened(sntk_perturb_create(on, &o, x, N, &p));
  refused(ctx, sntk_perturb_create(ctx, NULL, x, N, &p));
  refused(ctx, sntk_perturb_create(ctx, &o, NULL, N, &p));
  refused(ctx, sntk_perturb_create(ctx, &o, x, N, NULL));
  for (int i = 0; i < BAD; i++) {
    refused(ctx, sntk_perturb_create(ctx, &o, x, bad_sizes[i], &p));
    assert_null(p);
    if (bad_sizes[i] < 1) assert_int_equal(sntk_perturb_bytes(ctx, &o, bad_sizes[i]), -1);
  }
  assert_int_equal(sntk_perturb_bytes(NULL, &o, N), -1);
  assert_int_equal(sntk_perturb_bytes(closed, &o, N), -1);
  assert_int_equal(sntk_perturb_bytes(ctx, NULL, N), -1);
  sntk_perturb_free(NULL);
  double number = 0.0;
  int64_t ascents = 0;
  sntk_perturbation result;
  sntk_perturb_kernel(NULL, &number, NULL, NULL);
  assert_true(isnan(number));
  assert_ok(ctx, sntk_perturb_create(ctx, &o, x, N, &p));
  sntk_perturb_kernel(p, NULL, NULL, NULL);
  refused_unopened(sntk_perturb_random(on, p));
  refused(ctx, sntk_perturb_random(ctx, NULL));
  refused_unopened(sntk_perturb_training(on, p, y, &train, &number));
  refused(ctx, sntk_perturb_training(ctx, NULL, y, &train, &number));
  refused(ctx, sntk_perturb_training(ctx, p, NULL, &train, &number));
  refused(ctx, sntk_perturb_training(ctx, p, y, NULL, &number));
  refused(ctx, sntk_perturb_training(ctx, p, y, &train, NULL));
  refused_unopened(sntk_perturb_adversarial(on, p, SNTK_GOAL_CHANGE, 0.1, 1, &ascents));
  refused(ctx, sntk_perturb_adversarial(ctx, NULL, SNTK_GOAL_CHANGE, 0.1, 1, &ascents));
  refused(ctx, sntk_perturb_adversarial(ctx, p, (sntk_goal)99, 0.1, 1, &ascents));
  refused(ctx, sntk_perturb_adversarial(ctx, p, SNTK_GOAL_CHANGE, NAN, 1, &ascents));
  refused(ctx, sntk_perturb_adversarial(ctx, p, SNTK_GOAL_CHANGE, 0.1, 0, &ascents));
  refused(ctx, sntk_perturb_adversarial(ctx, p, SNTK_GOAL_CHANGE, 0.1, -1, &ascents));
  refused(ctx, sntk_perturb_adversarial(ctx, p, SNTK_GOAL_CHANGE, 0.1, 1, NULL));
  refused_unopened(sntk_perturb_measure(on, p, 0.1, &result));
  refused(ctx, sntk_perturb_measure(ctx, NULL, 0.1, &result));
  refused(ctx, sntk_perturb_measure(ctx, p, -0.1, &result));
  refused(ctx, sntk_perturb_measure(ctx, p, 0.1, NULL));
  refused_unopened(sntk_perturb_logit(on, p, &number));
  refused(ctx, sntk_perturb_logit(ctx, NULL, &number));
  refused(ctx, sntk_perturb_logit(ctx, p, NULL));
  (void)sntk_perturb_bound(NAN, -1, INT64_MIN, 1e300);
  refused_unopened(sntk_perturb_direction(on, p, 0, 1, out));
  refused(ctx, sntk_perturb_direction(ctx, NULL, 0, 1, out));
  refused(ctx, sntk_perturb_direction(ctx, p, 0, 1, NULL));
  for (int i = 1; i < BAD; i++) {
    refused(ctx, sntk_perturb_direction(ctx, p, 0, bad_sizes[i], out));
    refused(ctx, sntk_perturb_direction(ctx, p, bad_sizes[i], 1, out));
  }
  refused_unopened(sntk_perturb_gradient(on, p, SNTK_GOAL_CHANGE, 0.1, out));
  refused(ctx, sntk_perturb_gradient(ctx, NULL, SNTK_GOAL_CHANGE, 0.1, out));
  refused(ctx, sntk_perturb_gradient(ctx, p, (sntk_goal)99, 0.1, out));
  refused(ctx, sntk_perturb_gradient(ctx, p, SNTK_GOAL_CHANGE, 0.1, NULL));
  sntk_perturb_free(p);
}

static sntk_status suffices(void *user, int64_t width, bool *enough) {
  (void)user;
  *enough = width >= 8;
  return SNTK_OK;
}

static void widths(void **state) {
  (void)state;
  const sntk_network_options network = options_of(M);
  sntk_train_options train = SNTK_TRAIN_OPTIONS_INIT;
  sntk_width_trial trial;
  train.steps = 1;
  refused_unopened(sntk_width_try(on, &network, M, x, y, N, &train, 0.5, &trial));
  refused(ctx, sntk_width_try(ctx, NULL, M, x, y, N, &train, 0.5, &trial));
  refused(ctx, sntk_width_try(ctx, &network, M, NULL, y, N, &train, 0.5, &trial));
  refused(ctx, sntk_width_try(ctx, &network, M, x, NULL, N, &train, 0.5, &trial));
  refused(ctx, sntk_width_try(ctx, &network, M, x, y, N, NULL, 0.5, &trial));
  refused(ctx, sntk_width_try(ctx, &network, M, x, y, N, &train, 0.5, NULL));
  refused(ctx, sntk_width_try(ctx, &network, M, x, y, N, &train, NAN, &trial));
  refused(ctx, sntk_width_try(ctx, &network, M, x, y, N, &train, 0.0, &trial));
  for (int i = 0; i < BAD; i++) {
    refused(ctx, sntk_width_try(ctx, &network, bad_sizes[i], x, y, N, &train, 0.5, &trial));
    refused(ctx, sntk_width_try(ctx, &network, M, x, y, bad_sizes[i], &train, 0.5, &trial));
  }
  sntk_width_options o = SNTK_WIDTH_OPTIONS_INIT;
  int64_t width = 0;
  refused(NULL, sntk_width_search(NULL, &o, suffices, NULL, &width));
  refused(ctx, sntk_width_search(ctx, NULL, suffices, NULL, &width));
  refused(ctx, sntk_width_search(ctx, &o, NULL, NULL, &width));
  refused(ctx, sntk_width_search(ctx, &o, suffices, NULL, NULL));
  int64_t *const numbers[] = {&o.min_width, &o.max_width, &o.multiple};
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
    for (int64_t bad = -1; bad < 1; bad++) {
      const int64_t kept = *numbers[i];
      *numbers[i] = bad;
      refused(ctx, sntk_width_search(ctx, &o, suffices, NULL, &width));
      *numbers[i] = kept;
    }
  o.max_width = INT64_MAX;
  assert_ok(ctx, sntk_width_search(ctx, &o, suffices, NULL, &width));
  assert_int_equal(width, 8);
}

static void laws(void **state) {
  (void)state;
  const double values[4] = {1, 2, 3, 4};
  const int64_t group[4] = {0, 0, 1, 1}, beyond[4] = {0, 0, 1, 2};
  sntk_power_fit fit;
  refused(NULL, sntk_power_law(NULL, values, values, NULL, group, 4, 2, NULL, &fit));
  refused(ctx, sntk_power_law(ctx, NULL, values, NULL, group, 4, 2, NULL, &fit));
  refused(ctx, sntk_power_law(ctx, values, NULL, NULL, group, 4, 2, NULL, &fit));
  refused(ctx, sntk_power_law(ctx, values, values, NULL, NULL, 4, 2, NULL, &fit));
  refused(ctx, sntk_power_law(ctx, values, values, NULL, beyond, 4, 2, NULL, &fit));
  for (int word = -2; word < 3; word += 4) {
    const sntk_censoring unknown[4] = {SNTK_CENSORED_NOT, SNTK_CENSORED_NOT, (sntk_censoring)word, SNTK_CENSORED_NOT};
    refused(ctx, sntk_power_law(ctx, values, values, unknown, group, 4, 2, NULL, &fit));
  }
  refused(ctx, sntk_power_law(ctx, values, values, NULL, group, 4, 2, NULL, NULL));
  for (int i = 0; i < BAD; i++) {
    refused(ctx, sntk_power_law(ctx, values, values, NULL, group, bad_sizes[i], 2, NULL, &fit));
    refused(ctx, sntk_power_law(ctx, values, values, NULL, group, 4, bad_sizes[i], NULL, &fit));
  }
}

static void intervals(void **state) {
  (void)state;
  const double values[2] = {1, 2};
  assert_int_equal(sntk_mean_interval(NULL, 2).count, 0);
  assert_true(isnan(sntk_mean_interval(NULL, 2).mean));
  assert_int_equal(sntk_mean_interval(values, -1).count, 0);
  assert_int_equal(sntk_mean_interval(values, INT64_MIN).count, 0);
  assert_true(isnan(sntk_student_quantile(NAN, 1)));
  assert_true(isnan(sntk_student_quantile(0.5, 0)));
  assert_true(isnan(sntk_student_quantile(0.5, INT64_MIN)));
  assert_true(isfinite(sntk_student_quantile(0.9, INT64_MAX)));
}

static void runs(void **state) {
  (void)state;
  char folder[] = "/tmp/softntk_arguments_XXXXXX";
  assert_non_null(mkdtemp(folder));
  char directory[64];
  snprintf(directory, sizeof directory, "%s/run", folder);
  const sntk_run_options good = {.directory = directory, .command = "train", .config = "{}", .shard_count = 1};
  sntk_run *run = NULL;
  refused(NULL, sntk_run_open(NULL, &good, &run));
  refused(ctx, sntk_run_open(ctx, NULL, &run));
  refused(ctx, sntk_run_open(ctx, &good, NULL));
  sntk_run_options bad = good;
  const char **const texts[] = {&bad.directory, &bad.command, &bad.config};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    bad = good;
    *texts[i] = NULL;
    refused(ctx, sntk_run_open(ctx, &bad, &run));
  }
  const int shards[][2] = {{0, 0}, {-1, 1}, {1, 1}, {0, -1}, {INT32_MAX, INT32_MIN}};
  for (size_t i = 0; i < sizeof shards / sizeof *shards; i++) {
    bad = good;
    bad.shard_index = shards[i][0];
    bad.shard_count = shards[i][1];
    refused(ctx, sntk_run_open(ctx, &bad, &run));
  }
  assert_null(run);
  assert_int_equal(access(directory, F_OK), -1);
  assert_null(sntk_run_notice(NULL));
  assert_int_equal(sntk_run_count(NULL), 0);
  assert_null(sntk_run_point(NULL, 0));
  assert_null(sntk_run_find(NULL, "train", "-"));
  assert_ok(ctx, sntk_run_close(ctx, NULL, "done", NULL));
  assert_ok(ctx, sntk_run_open(ctx, &good, &run));
  assert_null(sntk_run_point(run, -1));
  assert_null(sntk_run_point(run, INT64_MAX));
  assert_null(sntk_run_find(run, NULL, "-"));
  assert_null(sntk_run_find(run, "train", NULL));
  refused(NULL, sntk_run_add(NULL, run, "{}"));
  refused(ctx, sntk_run_add(ctx, NULL, "{}"));
  refused(ctx, sntk_run_add(ctx, run, NULL));
  refused(ctx, sntk_run_add(ctx, run, ""));
  refused(ctx, sntk_run_close(ctx, run, NULL, NULL)); /* and frees it */
  bad = good;
  bad.resume = true;
  assert_ok(ctx, sntk_run_open(ctx, &bad, &run));
  refused(NULL, sntk_run_close(NULL, run, "done", NULL));
  char command[128];
  snprintf(command, sizeof command, "rm -rf %s", folder);
  assert_int_equal(system(command), 0);
}

/* What a caller frees whatever the status is nothing after a refusal, also of the context itself. */
static void nothing_is_made(void **state) {
  (void)state;
  static char garbage[1];
  sntk_context *const both[] = {NULL, closed};
  const sntk_network_options network = options_of(M);
  const sntk_data_options options = SNTK_DATA_OPTIONS_INIT;
  const sntk_run_options run_options = {0};
  for (int i = 0; i < 2; i++) {
    sntk_context *const on = both[i];
    sntk_network *made = (sntk_network *)(void *)garbage;
    sntk_perturb *perturb = (sntk_perturb *)(void *)garbage;
    sntk_data *made_data = (sntk_data *)(void *)garbage;
    sntk_run *run = (sntk_run *)(void *)garbage;
    sntk_array array = {.values = (double *)(void *)garbage};
    refused(on, sntk_network_create(on, &network, &made));
    refused(on, sntk_perturb_create(on, &network, x, N, &perturb));
    refused(on, sntk_data_create(on, on ? NULL : &options, &made_data));
    refused(on, sntk_run_open(on, &run_options, &run));
    refused(on, sntk_npy_read(on, NULL, &array));
    assert_true(!made && !perturb && !made_data && !run && !array.values);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(contexts),  cmocka_unit_test(random_numbers), cmocka_unit_test(data),
      cmocka_unit_test(networks),  cmocka_unit_test(kernels),        cmocka_unit_test(training),
      cmocka_unit_test(moves),     cmocka_unit_test(widths),         cmocka_unit_test(laws),
      cmocka_unit_test(intervals), cmocka_unit_test(runs),           cmocka_unit_test(nothing_is_made),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
