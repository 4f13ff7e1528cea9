/**
 * @file test_gram.c
 * @brief The Gram matrix: symmetric, PSD, q H = J J^T, row order, invariances, prefixes, streaming, cpu against ref.
 *
 * Everything goes through the public interface.
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
  options.seed = 5;
  return options;
}

static double *gram_of(sntk_context *ctx, const sntk_network_options *options, const double *inputs, int64_t samples) {
  const int64_t rows = samples * options->outputs;
  sntk_network *net = make_network(ctx, options);
  double *gram = reals(rows * rows);
  assert_ok(ctx, sntk_ntk_gram(ctx, net, inputs, samples, gram));
  sntk_network_free(net);
  return gram;
}

/* Row (i, l) of J: W(0) - W(1) of one step with eta 1 towards targets F - e_il, whose residual is e_il alone. */
static void jacobian_row(sntk_context *ctx, const sntk_network_options *options, const double *inputs, int64_t samples,
                         int64_t il, double *row) {
  const int64_t size = samples * options->outputs, count = options->dim * options->width;
  sntk_network *net = make_network(ctx, options);
  double *targets = reals(size), *after = reals(count);
  assert_ok(ctx, sntk_network_forward(ctx, net, inputs, samples, targets));
  targets[il] -= 1.0;
  sntk_train_options train = SNTK_TRAIN_OPTIONS_INIT;
  train.steps = 1;
  train.eta_rule = SNTK_ETA_VALUE;
  train.eta = 1.0;
  train.tolerance = 0.0;
  train.divergence = INFINITY; /* a probe: the loss may grow */
  sntk_train_result result;
  assert_ok(ctx, sntk_network_weights(ctx, net, 0, options->width, row));
  assert_ok(ctx, sntk_train(ctx, net, inputs, targets, samples, &train, &result));
  sntk_train_result_clear(&result);
  assert_ok(ctx, sntk_network_weights(ctx, net, 0, options->width, after));
  for (int64_t j = 0; j < count; j++) row[j] -= after[j];
  sntk_network_free(net);
}

/* q H_(i + n l)(j + n l') = <J_il, J_jl'>. Stored weights below 8 round J's entries to 8 eps each; the residual itself,
 * F - (F - e), is exact to eps (1 + |F|). */
static void gram_is_jacobian_times_its_transpose(void **state) {
  (void)state;
  enum { N = 4, D = 3, M = 14 };
  static const char *const backends[] = {"ref", "cpu"};
  for (int b = 0; b < 2; b++) {
    sntk_context *ctx = open_context(backends[b], 1);
    for (int turn = 0; turn < 4 * 2 * 2 * 3 * 2; turn++) {
      const sntk_activation activation = (sntk_activation)(turn % 4);
      sntk_network_options options = options_of(activation, M, D, 1 + turn / 16 % 3);
      options.scale = turn / 4 % 2 ? SNTK_SCALE_PAPER : SNTK_SCALE_NTK;
      options.init = turn / 8 % 2 ? SNTK_INIT_IID : SNTK_INIT_SYMMETRIC;
      options.form = turn / 48 && b ? SNTK_FORM_DISPLACEMENT : SNTK_FORM_PLAIN;
      options.sigma = 0.6;
      snprintf(support_case, sizeof support_case, "%s %s, p %lld, scale %d, init %d, form %d", backends[b],
               activation_names[activation], (long long)options.outputs, (int)options.scale, (int)options.init,
               (int)options.form);
      const int64_t p = options.outputs, rows = N * p, count = D * M;
      const double *inputs = sphere_rows(8, N, D);
      const double q = sntk_kernel_scale(activation, options.scale, M);
      double *jacobian = reals(rows * count), largest = 0.0;
      for (int64_t il = 0; il < rows; il++) jacobian_row(ctx, &options, inputs, N, il, jacobian + il * count);
      for (int64_t j = 0; j < rows; j++) largest = fmax(largest, distance(jacobian + j * count, NULL, count));
      const double *gram = gram_of(ctx, &options, inputs, N);
      const double of_row = 8.0 * EPS64 * sqrt((double)count) + 64.0 * EPS64 * largest;
      for (int64_t a = 0; a < rows; a++)
        for (int64_t c = 0; c < rows; c++) {
          /* rows of the Jacobian by targets: (i, l) at i p + l; rows of H: i + n l */
          const double *ja = jacobian + (a % N * p + a / N) * count, *jc = jacobian + (c % N * p + c / N) * count;
          double dot = 0.0;
          for (int64_t j = 0; j < count; j++) dot += ja[j] * jc[j];
          assert_near(q * gram[a * rows + c], dot, 4.0 * of_row * largest);
        }
      pool_clear();
    }
    sntk_context_free(ctx);
  }
}

/* Symmetric to the last bit; smallest eigenvalue not below the rounding of entries and solver. */
static void gram_is_symmetric_and_psd(void **state) {
  (void)state;
  enum { N = 12, D = 3 };
  sntk_context *ctx = open_context("cpu", 1);
  static const int64_t widths[] = {2, 10, 64, 5000}; /* narrower than rows: singular */
  for (int turn = 0; turn < 4 * 2 * 2 * LENGTH(widths); turn++) {
    const sntk_activation activation = (sntk_activation)(turn % 4);
    sntk_network_options options = options_of(activation, widths[turn / 16], D, 2);
    options.precision = turn / 4 % 2 ? SNTK_F32 : SNTK_F64;
    options.init = turn / 8 % 2 ? SNTK_INIT_IID : SNTK_INIT_SYMMETRIC;
    const int64_t rows = N * 2;
    const double *inputs = sphere_rows(9, N, D), *gram = gram_of(ctx, &options, inputs, N);
    double values[2 * N], trace = 0.0;
    for (int64_t a = 0; a < rows; a++) {
      trace += gram[a * rows + a];
      for (int64_t b = 0; b < a; b++) assert_near(gram[a * rows + b], gram[b * rows + a], 0.0);
    }
    assert_ok(ctx, sntk_eigenvalues(ctx, gram, rows, values));
    const double eps = options.precision == SNTK_F32 ? EPS32 : EPS64;
    snprintf(support_case, sizeof support_case, "%s width %lld precision %d", activation_names[activation],
             (long long)options.width, (int)options.precision);
    /* SYRK adds at most a slab of 4096 columns; an entry is off by at most that many eps of the diagonal's */
    assert_between(values[0], -(fmin((double)options.width, 4096.0) + (double)rows) * eps * trace, INFINITY);
    double sum = 0.0;
    for (int64_t a = 0; a < rows; a++) sum += values[a];
    assert_near(sum, trace, 16.0 * (double)rows * EPS64 * trace);
    pool_clear();
  }
  sntk_context_free(ctx);
}

/* Softmax sees differences of logits only: w_r += v changes nothing but the roundings of the logits, whose size is
 * d |x| (|w| + |v|) eps; the others do change. */
static void a_common_shift_of_the_weights_changes_nothing_for_softmax(void **state) {
  (void)state;
  enum { N = 6, D = 4, M = 50 };
  for (int turn = 0; turn < 8; turn++) {
    const sntk_activation activation = (sntk_activation)(turn % 4);
    sntk_context *ctx = open_context(turn / 4 ? "cpu" : "ref", 1);
    sntk_network_options options = options_of(activation, M, D, 2);
    const double *inputs = sphere_rows(10, N, D);
    const int64_t rows = 2 * N;
    double weights[D * M], signs[2 * M];
    int8_t drawn[2 * M];
    sntk_network *net = make_network(ctx, &options);
    assert_ok(ctx, sntk_network_weights(ctx, net, 0, M, weights));
    assert_ok(ctx, sntk_network_signs(ctx, net, 0, M, drawn));
    sntk_network_free(net);
    for (int64_t j = 0; j < 2 * M; j++) signs[j] = drawn[j];
    options.weights = weights;
    options.signs = signs;
    const double *before = gram_of(ctx, &options, inputs, N);
    double longest = 0.0;
    for (int64_t r = 0; r < M; r++) {
      double square = 0.0;
      for (int64_t k = 0; k < D; k++) {
        weights[k * M + r] += 1.5 - 0.75 * (double)k;
        square += weights[k * M + r] * weights[k * M + r];
      }
      longest = fmax(longest, sqrt(square));
    }
    const double *after = gram_of(ctx, &options, inputs, N);
    const double norm = distance(before, NULL, rows * rows), change = distance(before, after, rows * rows);
    /* four factors S in an entry, each off by twice a logit's error, before and after; and 100 other roundings */
    const double bound = (16.0 * (D + 2) * 2.0 * longest + 100.0) * EPS64 * norm;
    if (activation == SNTK_SOFTMAX)
      assert_near(change, 0.0, bound);
    else
      assert_true(change > 0.01 * norm);
    sntk_context_free(ctx);
    pool_clear();
  }
}

/* A network of width m is the first half of one of width 2 m: weights and signs, both inits, both precisions. */
static void narrow_networks_are_prefixes_of_wide_ones(void **state) {
  (void)state;
  enum { D = 7, M = 1030, P = 3 };
  double *all[2][2]; /* by init: what f32 and f64 gave */
  sntk_context *ctx = open_context("cpu", 1), *ref = open_context("ref", 1);
  for (int init = 0; init < 2; init++) {
    for (int precision = 0; precision < 2; precision++) {
      sntk_network_options options = options_of(SNTK_SOFTMAX, M, D, P);
      options.init = (sntk_init)init;
      options.precision = (sntk_precision)precision;
      options.sigma = 0.3;
      double *narrow = reals(D * M), *wide = reals(D * 2 * M);
      int8_t *narrow_signs = pool(P * M, 1), *wide_signs = pool(2 * P * M, 1);
      sntk_network *net = make_network(ctx, &options);
      assert_ok(ctx, sntk_network_weights(ctx, net, 0, M, narrow));
      assert_ok(ctx, sntk_network_signs(ctx, net, 0, M, narrow_signs));
      sntk_network_free(net);
      options.width = 2 * M;
      net = make_network(precision ? ref : ctx, &options);
      assert_ok(ctx, sntk_network_weights(precision ? ref : ctx, net, 0, 2 * M, wide));
      assert_ok(ctx, sntk_network_signs(precision ? ref : ctx, net, 0, 2 * M, wide_signs));
      /* any range, also one that begins and ends inside a pair */
      double *part = reals(D * 101);
      int8_t *part_signs = pool(P * 101, 1);
      assert_ok(ctx, sntk_network_weights(precision ? ref : ctx, net, 333, 101, part));
      assert_ok(ctx, sntk_network_signs(precision ? ref : ctx, net, 333, 101, part_signs));
      assert_status(ctx, sntk_network_weights(precision ? ref : ctx, net, 2 * M - 1, 2, part), SNTK_ERR_ARGUMENT);
      assert_status(ctx, sntk_network_signs(precision ? ref : ctx, net, -1, 2, part_signs), SNTK_ERR_ARGUMENT);
      sntk_network_free(net);
      for (int64_t k = 0; k < D; k++) {
        assert_memory_equal(narrow + k * M, wide + k * 2 * M, M * sizeof *narrow);
        assert_memory_equal(part + k * 101, wide + k * 2 * M + 333, 101 * sizeof *part);
      }
      for (int64_t l = 0; l < P; l++) {
        assert_memory_equal(narrow_signs + l * M, wide_signs + l * 2 * M, M);
        assert_memory_equal(part_signs + l * 101, wide_signs + l * 2 * M + 333, 101);
      }
      for (int64_t j = 0; j < D * M; j++) assert_near(narrow[j], (double)(float)narrow[j], 0.0);
      for (int64_t r = 0; r < M && init == SNTK_INIT_SYMMETRIC; r += 2) {
        for (int64_t k = 0; k < D; k++) assert_near(narrow[k * M + r], narrow[k * M + r + 1], 0.0);
        for (int64_t l = 0; l < P; l++) assert_int_equal(narrow_signs[l * M + r], -narrow_signs[l * M + r + 1]);
      }
      all[init][precision] = narrow;
    }
    assert_memory_equal(all[init][0], all[init][1], D * M * sizeof(double));
  }
  sntk_context_free(ctx);
  sntk_context_free(ref);
}

/* Made anew for each slab or stored: the same bits, beyond one chunk of 65536 columns too. */
static void streamed_networks_equal_stored_ones(void **state) {
  (void)state;
  enum { N = 5, D = 3, P = 2 };
  sntk_context *ctx = open_context("cpu", 1);
  static const int64_t widths[] = {6, 4098, 70002};
  const double *inputs = sphere_rows(11, N, D);
  for (int64_t turn = 0; turn < 4 * 2 * 2 * LENGTH(widths); turn++) {
    const sntk_activation activation = (sntk_activation)(turn % 4);
    sntk_network_options options = options_of(activation, widths[turn / 16], D, P);
    options.precision = turn / 4 % 2 ? SNTK_F32 : SNTK_F64;
    options.init = turn / 8 % 2 ? SNTK_INIT_IID : SNTK_INIT_SYMMETRIC;
    options.form = SNTK_FORM_PLAIN;
    double outputs[2][N * P], gram[2][N * P * N * P];
    for (int streamed = 0; streamed < 2; streamed++) {
      options.streamed = streamed;
      sntk_network *net = make_network(ctx, &options);
      assert_ok(ctx, sntk_network_forward(ctx, net, inputs, N, outputs[streamed]));
      assert_ok(ctx, sntk_ntk_gram(ctx, net, inputs, N, gram[streamed]));
      sntk_network_free(net);
    }
    assert_memory_equal(outputs[0], outputs[1], sizeof outputs[0]);
    assert_memory_equal(gram[0], gram[1], sizeof gram[0]);
  }
  sntk_context_free(ctx);
}

/* F(W0) = 0 with symmetric initialization: to the last bit where pairs are kept as pairs, else to the rounding of sums
 * of up to m terms. */
static void symmetric_initialization_starts_at_zero(void **state) {
  (void)state;
  enum { N = 5, D = 3, P = 2, M = 600 };
  sntk_context *ctx = open_context("cpu", 1);
  const double *inputs = sphere_rows(12, N, D);
  for (int turn = 0; turn < 16; turn++) {
    sntk_network_options options = options_of((sntk_activation)(turn % 4), M, D, P);
    options.precision = turn / 4 % 2 ? SNTK_F32 : SNTK_F64;
    options.form = turn / 8 ? SNTK_FORM_DISPLACEMENT : SNTK_FORM_PLAIN;
    const double eps = options.precision == SNTK_F32 ? EPS32 : EPS64;
    double outputs[N * P];
    sntk_network *net = make_network(ctx, &options);
    assert_ok(ctx, sntk_network_forward(ctx, net, inputs, N, outputs));
    sntk_network_free(net);
    /* sum_r phi(z_r) eps in each of the chains of 256, with F's scale: |phi| is below exp(4) = 55 on average */
    for (int j = 0; j < N * P; j++) assert_near(outputs[j], 0.0, turn / 8 ? 0.0 : 256.0 * eps * 55.0 * sqrt((double)M));
  }
  sntk_context_free(ctx);
}

/* The normalized exponential is the exponential with a factor exp(-sigma^2 |x|^2 / 2) a sample, in outputs and in H:
 * rows of different lengths, zero among them. */
static void exp_normalized_is_exp_with_factors(void **state) {
  (void)state;
  enum { N = 5, D = 3, P = 2, M = 500, ROWS = N * P };
  static const double lengths[N] = {0.0, 0.3, 0.7, 1.0, 1.6};
  for (int turn = 0; turn < 3 * 2 * 2; turn++) {
    sntk_context *ctx = open_context(turn % 3 ? "cpu" : "ref", 1);
    sntk_network_options options = options_of(SNTK_EXP, M, D, P);
    options.sigma = 0.8;
    options.init = turn / 3 % 2 ? SNTK_INIT_IID : SNTK_INIT_SYMMETRIC;
    options.scale = turn / 6 ? SNTK_SCALE_PAPER : SNTK_SCALE_NTK;
    options.form = turn % 3 == 2 ? SNTK_FORM_DISPLACEMENT : SNTK_FORM_PLAIN;
    double *inputs = sphere_rows(14, N, D), factors[N], plain[N * P], normalized[N * P];
    for (int64_t i = 0; i < N; i++) {
      for (int64_t k = 0; k < D; k++) inputs[i * D + k] *= lengths[i];
      factors[i] = exp(-0.5 * 0.64 * lengths[i] * lengths[i]);
    }
    const double *exponential = gram_of(ctx, &options, inputs, N);
    assert_near(sntk_kernel_scale(SNTK_EXP_NORMALIZED, options.scale, M), sntk_kernel_scale(SNTK_EXP, options.scale, M),
                0.0);
    sntk_network *net = make_network(ctx, &options);
    assert_ok(ctx, sntk_network_forward(ctx, net, inputs, N, plain));
    sntk_network_free(net);
    options.activation = SNTK_EXP_NORMALIZED;
    const double *gram = gram_of(ctx, &options, inputs, N);
    net = make_network(ctx, &options);
    assert_ok(ctx, sntk_network_forward(ctx, net, inputs, N, normalized));
    sntk_network_free(net);
    for (int64_t j = 0; j < N * P; j++)
      assert_near(normalized[j], factors[j / P] * plain[j], 8.0 * EPS64 * fabs(plain[j]));
    for (int64_t a = 0; a < ROWS; a++)
      for (int64_t b = 0; b < ROWS; b++) {
        const double expected = factors[a % N] * factors[b % N] * exponential[a * ROWS + b];
        assert_near(gram[a * ROWS + b], expected, 16.0 * EPS64 * fabs(expected));
      }
    sntk_context_free(ctx);
    pool_clear();
  }
}

/* Relative error in |H|_F: a few C eps with C = d |x| |w| + 1.5 max|z - max z| + h + 4 (network.h), h a slab. */
static void cpu_agrees_with_ref(void **state) {
  (void)state;
  enum { N = 7, D = 5, P = 2, M = 1000 };
  sntk_context *cpu = open_context("cpu", 1), *ref = open_context("ref", 1);
  const double *inputs = sphere_rows(13, N, D);
  for (int turn = 0; turn < 4 * 2 * 2 * 2; turn++) {
    const sntk_activation activation = (sntk_activation)(turn % 4);
    sntk_network_options options = options_of(activation, M, D, P);
    options.init = turn / 4 % 2 ? SNTK_INIT_IID : SNTK_INIT_SYMMETRIC;
    options.form = SNTK_FORM_PLAIN;
    const double *expected = gram_of(ref, &options, inputs, N);
    options.precision = turn / 8 % 2 ? SNTK_F32 : SNTK_F64;
    options.form = turn / 16 ? SNTK_FORM_DISPLACEMENT : SNTK_FORM_PLAIN;
    const double *actual = gram_of(cpu, &options, inputs, N);
    const double eps = (options.precision == SNTK_F32 ? EPS32 : EPS64) + EPS64;
    const double longest = 5.0, c = D * longest + 1.5 * 2.0 * longest + (double)M + 4.0; /* |w| below 5 sigma */
    snprintf(support_case, sizeof support_case, "%s, init %d, precision %d, form %d", activation_names[activation],
             (int)options.init, (int)options.precision, (int)options.form);
    /* relu: a logit within its rounding of zero falls to either side: one feature of size 1 / sqrt m */
    const double flip = activation == SNTK_RELU ? N * P / (double)M : 0.0;
    const double norm = distance(expected, NULL, N * P * N * P);
    assert_near(distance(actual, expected, N * P * N * P), 0.0, 4.0 * c * eps * norm + (eps > EPS32 ? flip : 0.0));
  }
  sntk_context_free(cpu);
  sntk_context_free(ref);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(gram_is_jacobian_times_its_transpose, pool_teardown),
      cmocka_unit_test_teardown(gram_is_symmetric_and_psd, pool_teardown),
      cmocka_unit_test_teardown(a_common_shift_of_the_weights_changes_nothing_for_softmax, pool_teardown),
      cmocka_unit_test_teardown(narrow_networks_are_prefixes_of_wide_ones, pool_teardown),
      cmocka_unit_test_teardown(streamed_networks_equal_stored_ones, pool_teardown),
      cmocka_unit_test_teardown(symmetric_initialization_starts_at_zero, pool_teardown),
      cmocka_unit_test_teardown(exp_normalized_is_exp_with_factors, pool_teardown),
      cmocka_unit_test_teardown(cpu_agrees_with_ref, pool_teardown),
  };
  return cmocka_run_group_tests_name("gram", tests, NULL, NULL);
}
