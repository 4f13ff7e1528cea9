/**
 * @file support.h
 * @brief What the numerical tests share: contexts, comparisons with a bound, memory freed after a failure, test data.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_TESTS_SUPPORT_H
#define SOFTNTK_TESTS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "softntk/softntk.h"

/* Unit roundoffs. */
#define EPS32 0x1p-24
#define EPS64 0x1p-53

/* ---- comparisons ---- */

#define assert_ok(ctx, call)                                                                                           \
  do {                                                                                                                 \
    const sntk_status support_status_ = (call);                                                                        \
    if (support_status_ != SNTK_OK)                                                                                    \
      fail_msg("%s: %s (%s)", #call, sntk_status_name(support_status_), sntk_context_error(ctx));                      \
  } while (0)

#define assert_status(ctx, call, expected)                                                                             \
  do {                                                                                                                 \
    const sntk_status support_status_ = (call);                                                                        \
    if (support_status_ != (expected))                                                                                 \
      fail_msg("%s: %s (%s), expected %s", #call, sntk_status_name(support_status_), sntk_context_error(ctx),          \
               sntk_status_name(expected));                                                                            \
  } while (0)

/* The case at hand, for the comparisons below to print when they fail. */
static char support_case[256];

/* |actual - expected| <= bound; NaN fails. */
#define assert_near(actual, expected, bound) support_near(actual, expected, bound, #actual, __FILE__, __LINE__)

static inline void support_near(double actual, double expected, double bound, const char *text, const char *file,
                                int line) {
  if (actual == expected || fabs(actual - expected) <= bound) return;
  print_error("%s = %.17g, expected %.17g: off by %.3g, allowed %.3g; %s\n", text, actual, expected,
              fabs(actual - expected), bound, support_case);
  _fail(file, line);
}

/* low <= value <= high; NaN fails. */
#define assert_between(value, low, high) support_between(value, low, high, #value, __FILE__, __LINE__)

static inline void support_between(double value, double low, double high, const char *text, const char *file,
                                   int line) {
  if (low <= value && value <= high) return;
  print_error("%s = %.10g, expected from %.10g to %.10g; %s\n", text, value, low, high, support_case);
  _fail(file, line);
}

/* ---- memory: freed by pool_clear, which a test's teardown calls, so that a failed assertion leaks nothing ---- */

static void **support_pool;
static size_t support_pool_count;

static inline void *pool(int64_t count, size_t size) {
  void **grown = realloc(support_pool, (support_pool_count + 1) * sizeof *grown);
  assert_non_null(grown);
  support_pool = grown;
  void *block = calloc(count > 0 ? (size_t)count : 1, size);
  assert_non_null(block);
  support_pool[support_pool_count++] = block;
  return block;
}

static inline double *reals(int64_t count) { return pool(count, sizeof(double)); }

static inline void pool_clear(void) {
  for (size_t i = 0; i < support_pool_count; i++) free(support_pool[i]);
  free(support_pool);
  support_pool = NULL;
  support_pool_count = 0;
  support_case[0] = '\0';
}

static inline int pool_teardown(void **state) {
  (void)state;
  pool_clear();
  return 0;
}

/* ---- contexts and networks ---- */

static inline sntk_context *open_context(const char *backend, int threads) {
  sntk_context *ctx;
  assert_int_equal(sntk_context_create(&ctx), SNTK_OK);
  sntk_context_options options = SNTK_CONTEXT_OPTIONS_INIT;
  options.backend = backend;
  options.threads = threads;
  assert_ok(ctx, sntk_context_open(ctx, &options));
  return ctx;
}

static inline sntk_network *make_network(sntk_context *ctx, const sntk_network_options *options) {
  sntk_network *net;
  assert_ok(ctx, sntk_network_create(ctx, options, &net));
  return net;
}

/* ---- data ---- */

/* Uniform in (-1, 1): number `index` of a sequence that no part of the library draws from. */
static inline double uniform(uint64_t seed, int64_t index) {
  return 2.0 * sntk_rng_uniform(seed, 1000, (uint64_t)index) - 1.0;
}

static inline double normal(uint64_t seed, int64_t index) {
  return (double)sntk_rng_normal(seed, 1001, (uint64_t)index);
}

/* Rows of norm one, uniform on the sphere. */
static inline double *sphere_rows(uint64_t seed, int64_t rows, int64_t dim) {
  double *x = reals(rows * dim);
  for (int64_t i = 0; i < rows; i++) {
    double square = 0.0;
    for (int64_t k = 0; k < dim; k++) {
      x[i * dim + k] = normal(seed, i * dim + k);
      square += x[i * dim + k] * x[i * dim + k];
    }
    for (int64_t k = 0; k < dim; k++) x[i * dim + k] /= sqrt(square);
  }
  return x;
}

/* Gaussian targets, scaled so that the longest row has norm one. */
static inline double *gaussian_targets(uint64_t seed, int64_t rows, int64_t outputs) {
  double *y = reals(rows * outputs), longest = 0.0;
  for (int64_t i = 0; i < rows; i++) {
    double square = 0.0;
    for (int64_t l = 0; l < outputs; l++) {
      y[i * outputs + l] = normal(seed + 1000, i * outputs + l);
      square += y[i * outputs + l] * y[i * outputs + l];
    }
    longest = fmax(longest, sqrt(square));
  }
  for (int64_t j = 0; j < rows * outputs; j++) y[j] /= longest;
  return y;
}

/* |a - b|_F; b NULL: |a|_F. */
static inline double distance(const double *a, const double *b, int64_t count) {
  double square = 0.0;
  for (int64_t j = 0; j < count; j++) square += (a[j] - (b ? b[j] : 0.0)) * (a[j] - (b ? b[j] : 0.0));
  return sqrt(square);
}

#endif
