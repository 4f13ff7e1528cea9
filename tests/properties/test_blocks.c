/**
 * @file test_blocks.c
 * @brief Trace, diagonal and blocks of H against the full matrix.
 *
 * SPDX-License-Identifier: MIT
 */
#include "support.h"

#include <stdio.h>

#define LENGTH(array) (int64_t)(sizeof(array) / sizeof *(array))

static const char *const activation_names[] = {"softmax", "relu", "exp", "exp_normalized"};

static sntk_network_options options_of(sntk_activation activation, int64_t width, int64_t dim, int64_t outputs) {
  sntk_network_options options = SNTK_NETWORK_OPTIONS_INIT;
  options.activation = activation;
  options.width = width;
  options.dim = dim;
  options.outputs = outputs;
  options.precision = SNTK_F64;
  options.seed = 51;
  return options;
}

/* What a walk over blocks is held against, and what it has taken. */
typedef struct collector {
  const double *gram; /* n p x n p */
  double bound;
  int64_t n, p, size;
  int64_t taken, fail_at;
  sntk_status failure;
  int64_t rows[64], columns[64]; /* ranges in the order taken */
} collector;

static sntk_status take(void *user, const sntk_ntk_block *block) {
  collector *c = user;
  if (c->taken == c->fail_at) return c->failure;
  assert_true(c->taken < 64);
  c->rows[c->taken] = block->row;
  c->columns[c->taken++] = block->column;
  assert_int_equal(block->first, block->row * c->size);
  assert_int_equal(block->other, block->column * c->size);
  assert_int_equal(block->rows, c->n - block->first < c->size ? c->n - block->first : c->size);
  assert_int_equal(block->columns, c->n - block->other < c->size ? c->n - block->other : c->size);
  for (int64_t i = 0; i < block->rows; i++)
    for (int64_t l = 0; l < c->p; l++)
      for (int64_t j = 0; j < block->columns; j++)
        for (int64_t k = 0; k < c->p; k++)
          assert_near(block->values[(i + block->rows * l) * block->columns * c->p + j + block->columns * k],
                      c->gram[(block->first + i + c->n * l) * c->n * c->p + block->other + j + c->n * k], c->bound);
  return SNTK_OK;
}

/* Every size of range from single samples to more than there are; all blocks, and chosen ones. */
static void check_blocks(sntk_context *ctx, sntk_network *net, const double *inputs, int64_t n, const double *gram,
                         double bound) {
  static const int64_t sizes[] = {2, 3, 4, 7, 8, 1000, INT64_MAX};
  const int64_t p = sntk_network_get_options(net)->outputs;
  for (int64_t s = 0; s < LENGTH(sizes); s++) {
    const int64_t ranges = sizes[s] >= n ? 1 : (n + sizes[s] - 1) / sizes[s];
    collector c = {.gram = gram, .bound = bound, .n = n, .p = p, .size = sizes[s], .fail_at = -1};
    assert_ok(ctx, sntk_ntk_blocks(ctx, net, inputs, n, sizes[s], NULL, 0, take, &c));
    assert_int_equal(c.taken, ranges * (ranges + 1) / 2);
    int64_t at = 0;
    for (int64_t a = 0; a < ranges; a++)
      for (int64_t b = 0; b <= a; b++, at++) {
        assert_int_equal(c.rows[at], a);
        assert_int_equal(c.columns[at], b);
      }
    if (ranges < 3) continue;
    const int64_t last = ranges - 1;
    const int64_t pairs[] = {0, 1, last, 0, 0, last, 1, 1, last, last, 0, 1};
    c.taken = 0;
    assert_ok(ctx, sntk_ntk_blocks(ctx, net, inputs, n, sizes[s], pairs, LENGTH(pairs) / 2, take, &c));
    assert_int_equal(c.taken, LENGTH(pairs) / 2);
    for (int64_t j = 0; j < LENGTH(pairs) / 2; j++) {
      assert_int_equal(c.rows[j], pairs[2 * j]);
      assert_int_equal(c.columns[j], pairs[2 * j + 1]);
    }
  }
}

static void check_all(sntk_context *ctx, sntk_network *net, const double *inputs, int64_t n, double eps) {
  const int64_t p = sntk_network_get_options(net)->outputs, rows = n * p;
  double *gram = reals(rows * rows), *trace = reals(n * n), *values = reals(rows), largest = 0.0;
  assert_ok(ctx, sntk_ntk_gram(ctx, net, inputs, n, gram));
  for (int64_t a = 0; a < rows; a++) largest = fmax(largest, gram[a * rows + a]);
  const double bound = 64.0 * eps * largest; /* the same terms, added in another order */
  assert_ok(ctx, sntk_ntk_trace(ctx, net, inputs, n, trace));
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < n; j++) {
      double sum = 0.0;
      for (int64_t l = 0; l < p; l++) sum += gram[(i + n * l) * rows + j + n * l];
      assert_near(trace[i * n + j], sum, (double)p * bound);
      assert_near(trace[i * n + j], trace[j * n + i], 0.0);
    }
  assert_ok(ctx, sntk_ntk_diagonal(ctx, net, inputs, n, values));
  for (int64_t a = 0; a < rows; a++) assert_near(values[a], gram[a * rows + a], bound);
  check_blocks(ctx, net, inputs, n, gram, bound);
}

static void parts_are_those_of_the_matrix(void **state) {
  (void)state;
  enum { N = 11, D = 3 };
  sntk_context *ref = open_context("ref", 1), *cpu = open_context("cpu", 2);
  for (int turn = 0; turn < 4 * 2 * 2 * 4; turn++) {
    /* stored plain, streamed, displaced (paired where symmetric), float32 of each */
    const int kind = turn / 16;
    sntk_network_options options = options_of((sntk_activation)(turn % 4), 134, D, turn / 4 % 2 ? 3 : 1);
    options.init = turn / 8 % 2 ? SNTK_INIT_IID : SNTK_INIT_SYMMETRIC;
    options.form = kind / 2 ? SNTK_FORM_DISPLACEMENT : SNTK_FORM_PLAIN;
    options.streamed = kind == 1;
    const double *inputs = sphere_rows(52, N, D);
    for (int precision = 0; precision < 2; precision++) {
      options.precision = precision == 0 ? SNTK_F64 : SNTK_F32;
      snprintf(support_case, sizeof support_case, "%s, p %lld, init %d, form %d, streamed %d, precision %d",
               activation_names[turn % 4], (long long)options.outputs, (int)options.init, (int)options.form,
               (int)options.streamed, (int)options.precision);
      sntk_network *net = make_network(cpu, &options);
      if (kind == 3) { /* away from W0 */
        sntk_train_options train = SNTK_TRAIN_OPTIONS_INIT;
        train.steps = 4;
        sntk_train_result result;
        assert_ok(cpu, sntk_train(cpu, net, inputs, gaussian_targets(53, N, options.outputs), N, &train, &result));
        sntk_train_result_clear(&result);
      }
      check_all(cpu, net, inputs, N, precision == 0 ? EPS64 : EPS32);
      sntk_network_free(net);
    }
    if (kind < 2) {
      options.precision = SNTK_F64;
      sntk_network *net = make_network(ref, &options);
      check_all(ref, net, inputs, N, EPS64);
      sntk_network_free(net);
    }
    pool_clear();
  }
  sntk_context_free(ref);
  sntk_context_free(cpu);
}

/* More than one chunk of a streamed width, more samples than a block of the diagonal holds. */
static void wide_and_many(void **state) {
  (void)state;
  enum { N = 70, D = 2, P = 2, ROWS = N * P };
  sntk_context *cpu = open_context("cpu", 2);
  for (int activation = SNTK_SOFTMAX; activation <= SNTK_EXP_NORMALIZED; activation++) {
    const double *inputs = sphere_rows(54, N, D);
    sntk_network_options options = options_of((sntk_activation)activation, 70002, D, P);
    options.streamed = true;
    options.precision = SNTK_F32;
    double *gram = reals(ROWS * ROWS), *trace = reals(N * N), *values = reals(ROWS), largest = 0.0;
    sntk_network *net = make_network(cpu, &options);
    assert_ok(cpu, sntk_ntk_gram(cpu, net, inputs, N, gram));
    assert_ok(cpu, sntk_ntk_trace(cpu, net, inputs, N, trace));
    assert_ok(cpu, sntk_ntk_diagonal(cpu, net, inputs, N, values));
    for (int64_t a = 0; a < ROWS; a++) largest = fmax(largest, gram[a * ROWS + a]);
    for (int64_t a = 0; a < ROWS; a++) assert_near(values[a], gram[a * ROWS + a], 256.0 * EPS32 * largest);
    for (int64_t i = 0; i < N; i++)
      for (int64_t j = 0; j < N; j++)
        assert_near(trace[i * N + j], gram[i * ROWS + j] + gram[(i + N) * ROWS + j + N], 512.0 * EPS32 * largest);
    const int64_t pairs[] = {1, 2, 2, 1, 2, 2};
    collector c = {.gram = gram, .bound = 256.0 * EPS32 * largest, .n = N, .p = P, .size = 32, .fail_at = -1};
    assert_ok(cpu, sntk_ntk_blocks(cpu, net, inputs, N, 32, pairs, 3, take, &c));
    assert_int_equal(c.taken, 3);
    sntk_network_free(net);
    pool_clear();
  }
  sntk_context_free(cpu);
}

static void a_taker_that_fails_ends_the_walk(void **state) {
  (void)state;
  enum { N = 6, D = 2 };
  sntk_context *cpu = open_context("cpu", 1);
  const double *inputs = sphere_rows(55, N, D);
  sntk_network_options options = options_of(SNTK_SOFTMAX, 20, D, 1);
  sntk_network *net = make_network(cpu, &options);
  double gram[N * N];
  assert_ok(cpu, sntk_ntk_gram(cpu, net, inputs, N, gram));
  static const sntk_status failures[] = {SNTK_ERR_INTERRUPTED, SNTK_ERR_MEMORY, SNTK_ERR_NUMERICAL};
  for (int64_t j = 0; j < LENGTH(failures); j++) {
    collector c = {.gram = gram, .bound = 1e-12, .n = N, .p = 1, .size = 2, .fail_at = j, .failure = failures[j]};
    assert_status(cpu, sntk_ntk_blocks(cpu, net, inputs, N, 2, NULL, 0, take, &c), failures[j]);
    assert_int_equal(c.taken, j);
  }
  sntk_network_free(net);
  sntk_context_free(cpu);
}

static void arguments_outside_their_domain(void **state) {
  (void)state;
  enum { N = 6, D = 2 };
  sntk_context *cpu = open_context("cpu", 1);
  double *inputs = sphere_rows(56, N, D), values[N * N];
  sntk_network_options options = options_of(SNTK_EXP, 20, D, 1);
  sntk_network *net = make_network(cpu, &options);
  collector c = {.fail_at = 0, .failure = SNTK_ERR_DEVICE}; /* not to be called */
  static const int64_t outside[][2] = {{3, 0}, {0, 3}, {-1, 0}, {0, -1}, {INT64_MAX, 0}};
  for (int64_t j = 0; j < LENGTH(outside); j++)
    assert_status(cpu, sntk_ntk_blocks(cpu, net, inputs, N, 2, outside[j], 1, take, &c), SNTK_ERR_ARGUMENT);
  assert_status(cpu, sntk_ntk_blocks(cpu, net, inputs, N, 0, NULL, 0, take, &c), SNTK_ERR_ARGUMENT);
  assert_status(cpu, sntk_ntk_blocks(cpu, net, inputs, N, -2, NULL, 0, take, &c), SNTK_ERR_ARGUMENT);
  static const int64_t counts[] = {0, -1, -100, INT64_MIN};
  for (int64_t j = 0; j < LENGTH(counts); j++) {
    assert_status(cpu, sntk_ntk_blocks(cpu, net, inputs, counts[j], 2, NULL, 0, take, &c), SNTK_ERR_ARGUMENT);
    assert_status(cpu, sntk_ntk_trace(cpu, net, inputs, counts[j], values), SNTK_ERR_ARGUMENT);
    assert_status(cpu, sntk_ntk_diagonal(cpu, net, inputs, counts[j], values), SNTK_ERR_ARGUMENT);
  }
  inputs[3] = NAN;
  assert_status(cpu, sntk_ntk_blocks(cpu, net, inputs, N, 2, NULL, 0, take, &c), SNTK_ERR_ARGUMENT);
  assert_status(cpu, sntk_ntk_trace(cpu, net, inputs, N, values), SNTK_ERR_ARGUMENT);
  assert_status(cpu, sntk_ntk_diagonal(cpu, net, inputs, N, values), SNTK_ERR_ARGUMENT);
  inputs[3] = 2000.0; /* exp of it is past every number */
  assert_status(cpu, sntk_ntk_blocks(cpu, net, inputs, N, 2, NULL, 0, take, &c), SNTK_ERR_OVERFLOW);
  assert_status(cpu, sntk_ntk_trace(cpu, net, inputs, N, values), SNTK_ERR_OVERFLOW);
  assert_status(cpu, sntk_ntk_diagonal(cpu, net, inputs, N, values), SNTK_ERR_OVERFLOW);
  assert_int_equal(c.taken, 0);
  sntk_network_free(net);
  sntk_context_free(cpu);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(parts_are_those_of_the_matrix, pool_teardown),
      cmocka_unit_test_teardown(wide_and_many, pool_teardown),
      cmocka_unit_test_teardown(a_taker_that_fails_ends_the_walk, pool_teardown),
      cmocka_unit_test_teardown(arguments_outside_their_domain, pool_teardown),
  };
  return cmocka_run_group_tests_name("blocks", tests, NULL, NULL);
}
