/**
 * @file test_ref.c
 * @brief The ref backend against numbers written out: statistics, outputs, gradient, step, features, Gram, J v,
 * spectra.
 *
 * Bounds: every value comes from a few tens of float64 operations on numbers below 10, so 100 eps of the largest
 * intermediate bounds it.
 *
 * SPDX-License-Identifier: MIT
 */
#include "support.h"

#include "backends/backend.h"
#include "ref_cases.h"

enum { N = CASE_SAMPLES, D = CASE_DIM, M = CASE_WIDTH, P = CASE_OUTPUTS };
#define COUNT(array) (sizeof(array) / sizeof *(array))
static const double BOUND = 100.0 * EPS64;

typedef struct fixture {
  sntk_context *ctx;
  double weights[D * M];
  int8_t signs[P * M];
  double x[N * D];
  sntk_neurons v;
  sntk_samples s;
} fixture;

static int setup(void **state) {
  fixture *f = pool(1, sizeof *f);
  f->ctx = open_context("ref", 0);
  memcpy(f->weights, case_weights, sizeof f->weights);
  memcpy(f->signs, case_signs, sizeof f->signs);
  memcpy(f->x, case_inputs, sizeof f->x);
  *state = f;
  return 0;
}

static int teardown(void **state) {
  sntk_context_free(((fixture *)*state)->ctx);
  pool_clear();
  return 0;
}

static void use(fixture *f, sntk_activation activation, int outputs) {
  f->v = (sntk_neurons){.activation = activation,
                        .layout = SNTK_LAYOUT_PLAIN,
                        .type = SNTK_F64,
                        .width = M,
                        .count = M,
                        .dim = D,
                        .outputs = outputs,
                        .base = f->weights,
                        .signs = f->signs,
                        .ld = M,
                        .ld_signs = M};
  f->s = (sntk_samples){.count = N, .dim = D, .type = SNTK_F64, .x = f->x, .x64 = f->x};
}

static void check(const char *what, const double *actual, const double *expected, int count) {
  for (int j = 0; j < count; j++)
    if (!(fabs(actual[j] - expected[j]) <= BOUND * fmax(1.0, fabs(expected[j]))))
      fail_msg("%s[%d] = %.17g, expected %.17g", what, j, actual[j], expected[j]);
}

static void empty(sntk_activation activation, sntk_stats *stats, double *max, double *sum, double *t, int outputs) {
  for (int i = 0; i < N; i++) max[i] = activation == SNTK_SOFTMAX ? -INFINITY : 0.0;
  memset(sum, 0, N * sizeof *sum);
  memset(t, 0, (size_t)(N * outputs) * sizeof *t);
  *stats = (sntk_stats){.samples = N, .outputs = outputs, .max = max, .sum = sum, .t = t};
}

static void statistics(void **state) {
  fixture *f = *state;
  for (size_t c = 0; c < COUNT(kernel_cases); c++) {
    const ref_kernel_case *e = &kernel_cases[c];
    use(f, e->activation, e->outputs);
    /* whole, and cut into ranges that are merged: also ranges of one neuron, and an empty one */
    static const int cuts[][5] = {{0, 4, 4, 4, 4}, {0, 1, 4, 4, 4}, {0, 2, 2, 3, 4}, {0, 1, 2, 3, 4}};
    for (size_t k = 0; k < COUNT(cuts); k++) {
      double max[N], sum[N], t[N * P];
      sntk_stats stats;
      empty(e->activation, &stats, max, sum, t, e->outputs);
      for (int r = 0; r < 4; r++) {
        const sntk_neurons range = sntk_neurons_slice(&f->v, cuts[k][r], cuts[k][r + 1] - cuts[k][r]);
        assert_ok(f->ctx, f->ctx->backend->statistics(f->ctx, &range, &f->s, &stats));
      }
      check("max", max, e->max, N);
      check("sum", sum, e->sum, N);
      check("t", t, e->t, N * e->outputs);
    }
  }
}

static void features_and_gram(void **state) {
  fixture *f = *state;
  for (size_t c = 0; c < COUNT(kernel_cases); c++) {
    const ref_kernel_case *e = &kernel_cases[c];
    const sntk_backend *backend = f->ctx->backend;
    const int rows = N * e->outputs;
    use(f, e->activation, e->outputs);
    double u[N * P * M], gram[N * P * N * P] = {0}, away[2 * N * P];
    for (int j = 0; j < 2 * N * e->outputs; j++) away[j] = (j % 2 ? -1.0 : 1.0) - e->f[j / 2];
    assert_ok(f->ctx, backend->features(f->ctx, &f->v, &f->s, e->max, e->sum, away, u, M));
    check("features", u, e->features, rows * M);
    /* in two slabs of columns */
    assert_ok(f->ctx, backend->gram_add(f->ctx, SNTK_F64, u, rows, 3, M, gram));
    assert_ok(f->ctx, backend->gram_add(f->ctx, SNTK_F64, u + 3, rows, 1, M, gram));
    assert_ok(f->ctx, backend->gram_finish(f->ctx, &f->s, e->outputs, gram));
    check("gram", gram, e->gram, rows * rows);
  }
}

static const ref_kernel_case *kernel_of(const ref_train_case *e) {
  for (size_t c = 0; c < COUNT(kernel_cases); c++)
    if (kernel_cases[c].activation == e->activation && kernel_cases[c].outputs == e->outputs) return &kernel_cases[c];
  fail();
  return NULL;
}

static void gradient_step_and_jv(void **state) {
  fixture *f = *state;
  for (size_t c = 0; c < COUNT(train_cases); c++) {
    const ref_train_case *e = &train_cases[c];
    const ref_kernel_case *k = kernel_of(e);
    const sntk_backend *backend = f->ctx->backend;
    const int p = e->outputs;
    const double s = sntk_output_scale(e->activation, e->scale, M);
    use(f, e->activation, p);
    double residual[N * P], centre[N] = {0};
    for (int i = 0; i < N; i++)
      for (int l = 0; l < p; l++) {
        residual[i * p + l] = e->outputs_at_w[i * p + l] - case_targets[i * P + l];
        if (e->activation == SNTK_SOFTMAX) centre[i] += residual[i * p + l] * k->f[i * p + l];
      }
    const sntk_pull pull = {.scale = s, .max = k->max, .sum = k->sum, .r = residual, .c = centre};
    double gradient[D * M];
    assert_ok(f->ctx, backend->gradient(f->ctx, &f->v, &f->s, &pull, (void *const[2]){gradient, NULL}, M));
    check("gradient", gradient, e->gradient, D * M);

    double dot[N * P] = {0}, mean[N] = {0};
    assert_ok(f->ctx, backend->push(f->ctx, &f->v, &f->s, k->max, k->sum, (const void *const[2]){case_direction, NULL},
                                    M, dot, mean));
    for (int j = 0; j < N * p; j++)
      dot[j] = s * (dot[j] - (e->activation == SNTK_SOFTMAX ? k->f[j] * mean[j / p] : 0.0));
    check("J v", dot, e->jv, N * p);

    double norms[2] = {0, 0}, square = 0.0, moved = 0.0, origin[D * M];
    assert_ok(f->ctx, backend->descent(f->ctx, &f->v, &f->s, &pull, case_eta, norms, NULL));
    check("weights after a step", f->weights, e->stepped, D * M);
    for (int j = 0; j < D * M; j++) square += case_eta * case_eta * e->gradient[j] * e->gradient[j];
    assert_near(norms[0], square, BOUND * fmax(1.0, square));
    assert_near(norms[1], 0.0, EPS64 * EPS64 * 4.0 * D * M * 4.0); /* a rounding of numbers below 4 for each */
    memcpy(origin, case_weights, sizeof origin);
    double movement = 0.0;
    for (int r = 0; r < M; r++) moved = fmax(moved, case_eta * hypot(e->gradient[r], e->gradient[M + r]));
    assert_ok(f->ctx, backend->movement(f->ctx, &f->v, origin, M, &movement));
    assert_near(movement, moved, BOUND);
    memcpy(f->weights, case_weights, sizeof f->weights);
  }
}

/* The same through the public interface. */
static void public_forward_gram_and_training(void **state) {
  fixture *f = *state;
  for (size_t c = 0; c < COUNT(train_cases); c++) {
    const ref_train_case *e = &train_cases[c];
    const int p = e->outputs;
    double signs[P * M], targets[N * P], outputs[N * P], gram[N * P * N * P], weights[D * M];
    for (int j = 0; j < p * M; j++) signs[j] = case_signs[j];
    for (int i = 0; i < N; i++)
      for (int l = 0; l < p; l++) targets[i * p + l] = case_targets[i * P + l];
    sntk_network_options options = SNTK_NETWORK_OPTIONS_INIT;
    options.activation = e->activation;
    options.width = M;
    options.dim = D;
    options.outputs = p;
    options.scale = e->scale;
    options.weights = case_weights;
    options.signs = signs;
    sntk_network *net = make_network(f->ctx, &options);
    assert_ok(f->ctx, sntk_network_forward(f->ctx, net, case_inputs, N, outputs));
    check("F", outputs, e->outputs_at_w, N * p);
    assert_ok(f->ctx, sntk_ntk_gram(f->ctx, net, case_inputs, N, gram));
    check("H", gram, kernel_of(e)->gram, N * p * N * p);
    sntk_train_options train = SNTK_TRAIN_OPTIONS_INIT;
    train.steps = 1;
    train.eta_rule = SNTK_ETA_VALUE;
    train.eta = case_eta;
    train.tolerance = 0.0;
    sntk_train_result result;
    assert_ok(f->ctx, sntk_train(f->ctx, net, case_inputs, targets, N, &train, &result));
    assert_near(result.loss_initial, e->loss, BOUND * fmax(1.0, e->loss));
    assert_int_equal(result.steps, 1);
    assert_int_equal(result.history_rows, 2);
    sntk_train_result_clear(&result);
    assert_ok(f->ctx, sntk_network_weights(f->ctx, net, 0, M, weights));
    check("weights after a step", weights, e->stepped, D * M);
    sntk_network_free(net);
  }
}

/* J J^T = q H in both scales, from the scales alone. */
static void scales(void **state) {
  (void)state;
  static const struct {
    sntk_activation activation;
    sntk_scale scale;
    double s, q;
  } expected[] = {{SNTK_SOFTMAX, SNTK_SCALE_NTK, 8.0, 1.0}, {SNTK_SOFTMAX, SNTK_SCALE_PAPER, 64.0, 64.0},
                  {SNTK_RELU, SNTK_SCALE_NTK, 0.125, 1.0},  {SNTK_RELU, SNTK_SCALE_PAPER, 0.125, 1.0},
                  {SNTK_EXP, SNTK_SCALE_NTK, 0.125, 1.0},   {SNTK_EXP, SNTK_SCALE_PAPER, 1.0, 64.0}};
  for (size_t c = 0; c < COUNT(expected); c++) {
    assert_true(sntk_output_scale(expected[c].activation, expected[c].scale, 64) == expected[c].s);
    assert_true(sntk_kernel_scale(expected[c].activation, expected[c].scale, 64) == expected[c].q);
  }
}

/* Second differences: 2 - 2 cos(k pi / (size + 1)). Bound for both backends: 10 size eps |H|_2, since Jacobi takes up
 * to ten sweeps, in each of which a row is rotated size - 1 times. */
static void eigenvalues(void **state) {
  (void)state;
  static const char *const backends[] = {"ref", "cpu"};
  static const int64_t sizes[] = {1, 2, 3, 7, 64, 101};
  const double pi = acos(-1.0);
  for (size_t b = 0; b < COUNT(backends); b++) {
    sntk_context *ctx = open_context(backends[b], 1);
    for (size_t c = 0; c < COUNT(sizes); c++) {
      const int64_t size = sizes[c];
      double *matrix = reals(size * size), *copy = reals(size * size), *values = reals(size);
      for (int64_t i = 0; i < size; i++) {
        matrix[i * size + i] = 2.0;
        if (i > 0) matrix[i * size + i - 1] = matrix[(i - 1) * size + i] = -1.0;
      }
      memcpy(copy, matrix, (size_t)(size * size) * sizeof *matrix);
      assert_ok(ctx, sntk_eigenvalues(ctx, matrix, size, values));
      assert_memory_equal(matrix, copy, (size_t)(size * size) * sizeof *matrix);
      for (int64_t i = 0; i < size; i++)
        assert_near(values[i], 2.0 - 2.0 * cos((double)(i + 1) * pi / (double)(size + 1)),
                    10.0 * (double)size * EPS64 * 4.0);
    }
    /* dense, rank one beside the identity: 1 (three times) and 1 + |v|^2 = 31 */
    double dense[16], values[4];
    for (int i = 0; i < 16; i++) dense[i] = (i / 4 == i % 4) + (i / 4 + 1.0) * (i % 4 + 1.0);
    assert_ok(ctx, sntk_eigenvalues(ctx, dense, 4, values));
    for (int i = 0; i < 4; i++) assert_near(values[i], i < 3 ? 1.0 : 31.0, 10.0 * 4.0 * EPS64 * 31.0);
    double zero[9] = {0};
    assert_ok(ctx, sntk_eigenvalues(ctx, zero, 3, values));
    for (int i = 0; i < 3; i++) assert_true(values[i] == 0.0);
    static const double broken[] = {NAN, INFINITY, -INFINITY};
    for (size_t k = 0; k < COUNT(broken); k++) {
      dense[5] = broken[k];
      assert_status(ctx, sntk_eigenvalues(ctx, dense, 4, values), SNTK_ERR_NUMERICAL);
    }
    sntk_context_free(ctx);
  }
}

/* Numbers that are not finite never come out as results. */
static void overflow_is_reported(void **state) {
  fixture *f = *state;
  static const struct {
    sntk_activation activation;
    double weight;
    sntk_status status;
  } cases[] = {{SNTK_SOFTMAX, 1e300, SNTK_OK},
               {SNTK_SOFTMAX, INFINITY, SNTK_ERR_OVERFLOW},
               {SNTK_SOFTMAX, NAN, SNTK_ERR_OVERFLOW},
               {SNTK_RELU, 1e300, SNTK_OK},
               {SNTK_RELU, INFINITY, SNTK_ERR_OVERFLOW},
               {SNTK_RELU, -INFINITY, SNTK_ERR_OVERFLOW},
               {SNTK_EXP, 900.0, SNTK_OK},
               {SNTK_EXP, 1500.0, SNTK_ERR_OVERFLOW},
               {SNTK_EXP, NAN, SNTK_ERR_OVERFLOW}};
  for (size_t c = 0; c < COUNT(cases); c++) {
    use(f, cases[c].activation, 1);
    f->weights[2] = cases[c].weight; /* times 0.75 in sample 1: exp(675) is finite, exp(1125) is not */
    double max[N], sum[N], t[N];
    sntk_stats stats;
    empty(cases[c].activation, &stats, max, sum, t, 1);
    assert_status(f->ctx, f->ctx->backend->statistics(f->ctx, &f->v, &f->s, &stats), cases[c].status);
    if (cases[c].status != SNTK_OK) assert_non_null(strstr(sntk_context_error(f->ctx), "sample"));
    memcpy(f->weights, case_weights, sizeof f->weights);
  }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(statistics), TEST(features_and_gram), TEST(gradient_step_and_jv), TEST(public_forward_gram_and_training),
      TEST(scales),     TEST(eigenvalues),       TEST(overflow_is_reported),
  };
  return cmocka_run_group_tests_name("ref", tests, NULL, NULL);
}
