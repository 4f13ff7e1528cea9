/**
 * @file test_eigen.c
 * @brief The ends of a spectrum: against matrices made from their eigenvalues, and against all eigenvalues.
 *
 * SPDX-License-Identifier: MIT
 */
#include <pthread.h>
#include <stdio.h>

#include "support.h"

#define LENGTH(a) ((int64_t)(sizeof(a) / sizeof *(a)))

static const int64_t orders[] = {1, 2, 3, 31, 32, 33, 41, 300};

static int setup(void **state) {
  *state = open_context("cpu", 2);
  return 0;
}

static int teardown(void **state) {
  sntk_context_free(*state);
  pool_clear();
  return 0;
}

/* Q D Q with Q a product of two Householder reflections, in long double, so that rounding of the entries to float64 is
 * the only error worth the name: |error|_2 <= eps |H|_F. */
static double *with_spectrum(uint64_t seed, const double *spectrum, int64_t n) {
  long double *h = pool(n * n, sizeof *h), *v = pool(n, sizeof *v), *w = pool(n, sizeof *w);
  double *matrix = reals(n * n);
  for (int64_t i = 0; i < n; i++) h[i * n + i] = spectrum[i];
  for (int64_t reflection = 0; reflection < 2; reflection++) {
    long double square = 0.0L, along = 0.0L;
    for (int64_t i = 0; i < n; i++) {
      v[i] = normal(seed, reflection * n + i);
      square += v[i] * v[i];
    }
    for (int64_t i = 0; i < n; i++) {
      w[i] = 0.0L;
      for (int64_t j = 0; j < n; j++) w[i] += h[i * n + j] * v[j];
      along += v[i] * w[i];
    }
    /* P H P = H - 2/q (v w^T + w v^T) + 4/q^2 (v.w) v v^T, q = |v|^2 */
    for (int64_t i = 0; i < n; i++)
      for (int64_t j = 0; j < n; j++)
        h[i * n + j] += (4.0L * along / square * v[i] * v[j] - 2.0L * (v[i] * w[j] + w[i] * v[j])) / square;
  }
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j <= i; j++) matrix[i * n + j] = matrix[j * n + i] = (double)h[i * n + j];
  return matrix;
}

/* Another solve in between: what the solver keeps from call to call must not show. */
static void solve_another(sntk_context *ctx) {
  enum { N = 37 };
  double *matrix = reals(N * N);
  sntk_extremes other;
  for (int64_t i = 0; i < N; i++) matrix[i * N + i] = 1.0 + (double)(i % 2);
  assert_ok(ctx, sntk_extreme_eigenvalues(ctx, matrix, N, &other));
  assert_near(other.min, 1.0, other.min_error);
  assert_near(other.max, 2.0, other.max_error);
}

static void assert_same(const sntk_extremes *a, const sntk_extremes *b) {
  assert_memory_equal(&a->min, &b->min, sizeof a->min);
  assert_memory_equal(&a->max, &b->max, sizeof a->max);
  assert_memory_equal(&a->min_error, &b->min_error, sizeof a->min_error);
  assert_memory_equal(&a->max_error, &b->max_error, sizeof a->max_error);
  assert_int_equal(a->iterations, b->iterations);
}

static void check_matrix(sntk_context *ctx, const double *matrix, int64_t n, double low, double high) {
  const double norm = fmax(fabs(low), fabs(high)), entries = EPS64 * distance(matrix, NULL, n * n);
  double *values = reals(n), *before = reals(n * n);
  sntk_extremes e, again;
  memcpy(before, matrix, (size_t)(n * n) * sizeof *before);
  assert_ok(ctx, sntk_extreme_eigenvalues(ctx, matrix, n, &e));
  assert_memory_equal(matrix, before, (size_t)(n * n) * sizeof *before);
  assert_near(e.min, low, e.min_error + entries);
  assert_near(e.max, high, e.max_error + entries);
  /* the bounds are of use: rounding, whose own share is (4 + sqrt n) eps |H|, and a residual of about as much */
  assert_between(e.min_error, 0.0, 64.0 * (4.0 + sqrt((double)n)) * EPS64 * norm);
  assert_between(e.max_error, 0.0, 64.0 * (4.0 + sqrt((double)n)) * EPS64 * norm);
  assert_true(n < 32 ? e.iterations == 0 : e.iterations > 0);
  /* dsyevd is off by a few eps |H| itself */
  assert_ok(ctx, sntk_eigenvalues(ctx, matrix, n, values));
  assert_near(e.min, values[0], e.min_error + 4.0 * (4.0 + sqrt((double)n)) * EPS64 * norm);
  assert_near(e.max, values[n - 1], e.max_error + 4.0 * (4.0 + sqrt((double)n)) * EPS64 * norm);
  solve_another(ctx);
  assert_ok(ctx, sntk_extreme_eigenvalues(ctx, matrix, n, &again));
  assert_same(&e, &again);
}

/* A spectrum as a function of t, which goes from 0 to 1 over the eigenvalues. */
static void check_spectrum(sntk_context *ctx, const char *name, double (*spectrum)(double t)) {
  for (int64_t k = 0; k < LENGTH(orders); k++) {
    const int64_t n = orders[k];
    double *d = reals(n), low = INFINITY, high = -INFINITY;
    for (int64_t i = 0; i < n; i++) {
      d[i] = spectrum(n > 1 ? (double)i / (double)(n - 1) : 1.0);
      low = fmin(low, d[i]);
      high = fmax(high, d[i]);
    }
    snprintf(support_case, sizeof support_case, "%s, order %lld", name, (long long)n);
    check_matrix(ctx, with_spectrum((uint64_t)(100 + n), d, n), n, low, high);
  }
}

static double even(double t) { return 0.5 + t; }
static double condition_1e10(double t) { return pow(10.0, -10.0 * (1.0 - t)); }
static double repeated(double t) { return t < 0.3 ? 0.01 : t > 0.8 ? 3.0 : 1.0 + t; }
static double repeated_ill(double t) { return t < 0.3 ? 1e-10 : t > 0.8 ? 3.0 : 1.0 + t; }
static double two_values(double t) { return t < 0.5 ? 1.0 : 2.0; }
static double one_zero(double t) { return t; }
static double half_zero(double t) { return t < 0.5 ? 0.0 : t; }
static double all_zero_but_one(double t) { return t < 1.0 ? 0.0 : 5.0; }
static double below_zero(double t) { return t < 0.5 ? -1e-17 * (1.0 + t) : t; }
static double float32_noise(double t) { return t < 0.5 ? 1e-8 * (t - 0.3) : t; }
static double dense_ends(double t) { return 0.01 + t * t * (3.0 - 2.0 * t); }
static double indefinite(double t) { return t - 0.7; }

static void known_spectra(void **state) {
  check_spectrum(*state, "even", even);
  check_spectrum(*state, "condition 1e10", condition_1e10);
  check_spectrum(*state, "dense ends", dense_ends);
}

static void repeated_ends(void **state) {
  check_spectrum(*state, "repeated", repeated);
  check_spectrum(*state, "repeated, condition 3e10", repeated_ill);
  check_spectrum(*state, "two values", two_values);
}

static void singular_and_slightly_negative(void **state) {
  check_spectrum(*state, "one zero", one_zero);
  check_spectrum(*state, "half zero", half_zero);
  check_spectrum(*state, "all zero but one", all_zero_but_one);
  check_spectrum(*state, "-1e-17", below_zero);
  check_spectrum(*state, "-3e-9", float32_noise);
  check_spectrum(*state, "indefinite", indefinite);
}

/* A lower end so crowded that the tight round may not converge: the error is larger, and still a bound. */
static void crowded_end(void **state) {
  enum { N = 500 };
  double *d = reals(N);
  sntk_extremes e, again;
  for (int64_t i = 0; i < N; i++) d[i] = 1e-3 + pow((double)i / (N - 1), 6.0);
  const double *matrix = with_spectrum(6, d, N);
  const double entries = EPS64 * distance(matrix, NULL, N * N);
  assert_ok(*state, sntk_extreme_eigenvalues(*state, matrix, N, &e));
  assert_near(e.min, d[0], e.min_error + entries);
  assert_near(e.max, d[N - 1], e.max_error + entries);
  assert_between(e.min_error, 0.0, 1e-6 * d[0]);
  solve_another(*state);
  assert_ok(*state, sntk_extreme_eigenvalues(*state, matrix, N, &again));
  assert_same(&e, &again);
}

/* Krylov spaces that close early, exactly: the solver's own way on is a random vector. */
static void few_distinct_eigenvalues(void **state) {
  static const double values[] = {2.0, 0.7, 0.2, 5.0, 1.0};
  for (int64_t n = 31; n <= 65; n += 17)
    for (int64_t distinct = 1; distinct <= LENGTH(values); distinct++) {
      double *matrix = reals(n * n), low = values[0], high = values[0];
      for (int64_t i = 0; i < n; i++) {
        matrix[i * n + i] = values[i % distinct];
        low = fmin(low, matrix[i * n + i]);
        high = fmax(high, matrix[i * n + i]);
      }
      snprintf(support_case, sizeof support_case, "diagonal, %lld values, order %lld", (long long)distinct,
               (long long)n);
      check_matrix(*state, matrix, n, low, high);
    }
}

/* One step into a space that is invariant, from a start vector that is not in it. */
static void projections(void **state) {
  for (int64_t n = 31; n <= 65; n += 17)
    for (int64_t rank = 1; rank < n; rank += 15) {
      double *matrix = reals(n * n);
      for (int64_t i = 0; i < rank; i++) matrix[i * n + i] = 4.0;
      snprintf(support_case, sizeof support_case, "rank %lld, order %lld", (long long)rank, (long long)n);
      check_matrix(*state, matrix, n, 0.0, 4.0);
    }
}

static void zero_matrix(void **state) {
  for (int64_t k = 0; k < LENGTH(orders); k++) {
    sntk_extremes e;
    memset(&e, 0xff, sizeof e);
    assert_ok(*state, sntk_extreme_eigenvalues(*state, reals(orders[k] * orders[k]), orders[k], &e));
    assert_true(e.min == 0.0 && e.max == 0.0 && e.min_error == 0.0 && e.max_error == 0.0 && e.iterations == 0);
  }
}

/* ARPACK's tolerance has an absolute part; a matrix's unit must not matter. Powers of two change no bit. */
static void units_do_not_matter(void **state) {
  static const int exponents[] = {-700, -40, 40, 700};
  for (int64_t k = 0; k < LENGTH(orders); k++) {
    const int64_t n = orders[k];
    double *d = reals(n), *scaled = reals(n * n);
    for (int64_t i = 0; i < n; i++) d[i] = 0.1 + uniform(3, i) * uniform(3, i);
    const double *matrix = with_spectrum(5, d, n);
    sntk_extremes e, f;
    assert_ok(*state, sntk_extreme_eigenvalues(*state, matrix, n, &e));
    for (int64_t x = 0; x < LENGTH(exponents); x++) {
      const double unit = ldexp(1.0, exponents[x]);
      for (int64_t j = 0; j < n * n; j++) scaled[j] = unit * matrix[j];
      assert_ok(*state, sntk_extreme_eigenvalues(*state, scaled, n, &f));
      f.min /= unit;
      f.max /= unit;
      f.min_error /= unit;
      f.max_error /= unit;
      assert_same(&e, &f);
    }
  }
}

static void entries_that_are_not_finite(void **state) {
  static const double bad[] = {NAN, INFINITY, -INFINITY};
  for (int64_t k = 0; k < LENGTH(orders); k++)
    for (int64_t b = 0; b < LENGTH(bad); b++)
      for (int where = 0; where < 3; where++) {
        const int64_t n = orders[k], row = where == 0 ? n - 1 : where == 1 ? 0 : n / 2;
        const int64_t col = where == 0 ? 0 : where == 1 ? n - 1 : n / 2;
        double *matrix = reals(n * n);
        sntk_extremes e;
        for (int64_t i = 0; i < n; i++) matrix[i * n + i] = 1.0;
        matrix[row * n + col] = matrix[col * n + row] = bad[b];
        assert_status(*state, sntk_extreme_eigenvalues(*state, matrix, n, &e), SNTK_ERR_NUMERICAL);
        assert_non_null(strstr(sntk_context_error(*state), "not finite"));
      }
}

static void orders_that_are_none(void **state) {
  const double matrix = 1.0;
  sntk_extremes e;
  assert_status(*state, sntk_extreme_eigenvalues(*state, &matrix, 0, &e), SNTK_ERR_SHAPE);
  assert_status(*state, sntk_extreme_eigenvalues(*state, &matrix, -1, &e), SNTK_ERR_SHAPE);
  assert_status(*state, sntk_extreme_eigenvalues(*state, &matrix, INT64_C(1) << 40, &e), SNTK_ERR_SHAPE);
}

enum { SHARED_ORDER = 120 };

static double *shared_matrix(void) {
  double *d = reals(SHARED_ORDER);
  for (int64_t i = 0; i < SHARED_ORDER; i++) d[i] = 0.01 + (double)(i * i);
  return with_spectrum(8, d, SHARED_ORDER);
}

/* An interrupt leaves the solver in the middle of a solve; the next one must not notice. */
static void interrupts(void **state) {
  volatile sig_atomic_t flag = 0;
  const double *matrix = shared_matrix();
  sntk_extremes before, after;
  sntk_context_set_interrupt(*state, &flag);
  assert_ok(*state, sntk_extreme_eigenvalues(*state, matrix, SHARED_ORDER, &before));
  flag = 1;
  assert_status(*state, sntk_extreme_eigenvalues(*state, matrix, SHARED_ORDER, &after), SNTK_ERR_INTERRUPTED);
  flag = 0;
  assert_ok(*state, sntk_extreme_eigenvalues(*state, matrix, SHARED_ORDER, &after));
  sntk_context_set_interrupt(*state, NULL);
  assert_same(&before, &after);
}

typedef struct solver {
  sntk_context *ctx;
  const double *matrix;
  sntk_extremes extremes[4];
  sntk_status status;
} solver;

static void *solve_repeatedly(void *user) {
  solver *s = user;
  for (int64_t k = 0; k < LENGTH(s->extremes) && s->status == SNTK_OK; k++)
    s->status = sntk_extreme_eigenvalues(s->ctx, s->matrix, SHARED_ORDER, &s->extremes[k]);
  return NULL;
}

static void solves_of_two_threads(void **state) {
  const double *matrix = shared_matrix();
  sntk_extremes alone;
  solver solvers[2];
  pthread_t threads[2];
  int started = 0;
  /* a context's number of threads is its own: neither the environment's nor the one of another, opened later */
  for (int k = 0; k < 2; k++) solvers[k] = (solver){.ctx = open_context("cpu", 2), .matrix = matrix, .status = SNTK_OK};
  sntk_context_free(open_context("cpu", 1));
  assert_ok(*state, sntk_extreme_eigenvalues(*state, matrix, SHARED_ORDER, &alone));
  for (; started < 2; started++)
    if (pthread_create(&threads[started], NULL, solve_repeatedly, &solvers[started]) != 0) break;
  for (int k = 0; k < started; k++) pthread_join(threads[k], NULL);
  for (int k = 0; k < 2; k++) sntk_context_free(solvers[k].ctx);
  assert_int_equal(started, 2);
  for (int k = 0; k < 2; k++) {
    assert_int_equal(solvers[k].status, SNTK_OK);
    for (int64_t j = 0; j < LENGTH(solvers[k].extremes); j++) assert_same(&solvers[k].extremes[j], &alone);
  }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(known_spectra),
      TEST(repeated_ends),
      TEST(singular_and_slightly_negative),
      TEST(crowded_end),
      TEST(few_distinct_eigenvalues),
      TEST(projections),
      TEST(zero_matrix),
      TEST(units_do_not_matter),
      TEST(entries_that_are_not_finite),
      TEST(orders_that_are_none),
      TEST(interrupts),
      TEST(solves_of_two_threads),
  };
  return cmocka_run_group_tests_name("eigen", tests, NULL, NULL);
}
