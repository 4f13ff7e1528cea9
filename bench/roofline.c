/**
 * @file roofline.c
 * @brief The machine's own limits, measured beside the cases.
 *
 * SPDX-License-Identifier: MIT
 */
#include <cblas.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "backends/cpu/kernels.h"
#include "bench/bench.h"

/* Each limit is the best of a few tries: what the machine can do, not what it did on average. */
enum { TRIES = 5 };

static double best_of(double best, double rate) { return rate > best ? rate : best; }

static void measure_processor(const sntk_context *ctx, sntk_precision type, sntk_roofline *limits) {
  const sntk_cpu_kernels *kernels = sntk_cpu_kernels_pick();
  enum { ROUNDS = 2000000, LENGTH = 4096, PASSES = 2000 };
  for (int i = 0; i < TRIES; i++) {
    volatile double sink = 0.0; /* keeps the loop */
    double began = sntk_seconds();
#pragma omp parallel num_threads(ctx->threads)
    {
      const double value = kernels->multiply_adds[type].run(ROUNDS, 0.5);
#pragma omp critical
      sink = sink + value;
    }
    limits->multiply_adds = best_of(limits->multiply_adds, (double)kernels->multiply_adds[type].chains * ROUNDS *
                                                               (double)ctx->threads / (sntk_seconds() - began));
    began = sntk_seconds();
#pragma omp parallel num_threads(ctx->threads)
    {
      union {
        float f32[LENGTH];
        double f64[LENGTH];
      } x, y;
      memset(&x, 0, sizeof x);
      for (int pass = 0; pass < PASSES; pass++) {
        if (type == SNTK_F32)
          kernels->exp_f32(LENGTH, x.f32, y.f32);
        else
          kernels->exp_f64(LENGTH, x.f64, y.f64);
      }
    }
    limits->exponentials =
        best_of(limits->exponentials, (double)LENGTH * PASSES * (double)ctx->threads / (sntk_seconds() - began));
  }
}

/* The rate of a product of rows x terms and terms x rows, or (triangle) of the lower triangle of U U^T, U rows x terms.
 */
static double matrix_rate(sntk_precision type, int64_t rows, int64_t terms, bool triangle, const void *a, void *out) {
  double best = 0.0;
  const int m = (int)rows, k = (int)terms;
  for (int i = 0; i < TRIES; i++) {
    const double began = sntk_seconds();
    if (triangle && type == SNTK_F32)
      cblas_ssyrk(CblasRowMajor, CblasLower, CblasNoTrans, m, k, 1.0f, a, k, 0.0f, out, m);
    else if (triangle)
      cblas_dsyrk(CblasRowMajor, CblasLower, CblasNoTrans, m, k, 1.0, a, k, 0.0, out, m);
    else if (type == SNTK_F32)
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, m, k, 1.0f, a, k, a, m, 0.0f, out, m);
    else
      cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, m, k, 1.0, a, k, a, m, 0.0, out, m);
    const double work = triangle ? (double)rows * (double)(rows + 1) * (double)terms
                                 : 2.0 * (double)rows * (double)rows * (double)terms;
    best = best_of(best, work / (sntk_seconds() - began));
  }
  return best;
}

/* Sizes of the products: a square one, and U of so many columns and at most so many rows. */
enum { SIZE = 2048, TERMS = 8192, ROWS_MOST = 4096 };

static sntk_status measure_products(sntk_context *ctx, sntk_precision type, int64_t rows, sntk_roofline *limits) {
  if (rows > ROWS_MOST) rows = ROWS_MOST;
  const int64_t count = rows * TERMS > SIZE * SIZE ? rows * TERMS : SIZE * SIZE;
  const int64_t square = rows > SIZE ? rows * rows : SIZE * SIZE;
  void *a = NULL, *out = NULL;
  sntk_status status = sntk_alloc(ctx, "matrices of the benchmark", count, sntk_type_size(type), &a);
  if (status == SNTK_OK) status = sntk_alloc(ctx, "matrices of the benchmark", square, sntk_type_size(type), &out);
  if (status == SNTK_OK) {
    for (int64_t j = 0; j < count; j++) {
      const double value = (double)(j % 7) - 3.0;
      if (type == SNTK_F32)
        ((float *)a)[j] = (float)value;
      else
        ((double *)a)[j] = value;
    }
    limits->gemm = matrix_rate(type, SIZE, SIZE, false, a, out);
    if (rows > 0) limits->syrk = matrix_rate(type, rows, TERMS, true, a, out);
  }
  free(a);
  free(out);
  return status;
}

enum { ARRAY = 1 << 25 }; /* of doubles: 256 MiB, beyond most caches */

/* A copy also fetches the lines that it writes over, an update in place does not: the better of the two. */
static sntk_status measure_bandwidth(sntk_context *ctx, sntk_roofline *limits) {
  double *from = NULL, *to = NULL;
  sntk_status status = sntk_alloc(ctx, "array of the benchmark", ARRAY, sizeof *from, (void **)&from);
  if (status == SNTK_OK) status = sntk_alloc(ctx, "array of the benchmark", ARRAY, sizeof *to, (void **)&to);
  for (int i = 0; i <= 2 * TRIES && status == SNTK_OK; i++) {
    const double began = sntk_seconds();
    if (i == 0) { /* touched by the threads that will use it, and not counted */
#pragma omp parallel for num_threads(ctx->threads) schedule(static)
      for (int64_t j = 0; j < ARRAY; j++) to[j] = from[j] = 1.0;
      continue;
    }
    if (i % 2) {
#pragma omp parallel for num_threads(ctx->threads) schedule(static)
      for (int64_t j = 0; j < ARRAY; j++) to[j] = from[j];
    } else {
#pragma omp parallel for num_threads(ctx->threads) schedule(static)
      for (int64_t j = 0; j < ARRAY; j++) to[j] += 1.0;
    }
    limits->bandwidth = best_of(limits->bandwidth, 2.0 * (double)ARRAY * sizeof *to / (sntk_seconds() - began));
  }
  free(from);
  free(to);
  return status;
}

static bool measured(const sntk_context *ctx) { return strcmp(ctx->backend->name, "cpu") == 0; }

sntk_status sntk_roofline_measure(sntk_context *ctx, sntk_precision type, int64_t rows, sntk_roofline *limits) {
  memset(limits, 0, sizeof *limits);
  if (!measured(ctx)) return SNTK_OK;
  measure_processor(ctx, type, limits);
  SNTK_TRY(measure_products(ctx, type, rows, limits));
  return measure_bandwidth(ctx, limits);
}

int64_t sntk_roofline_bytes(const sntk_context *ctx, int64_t rows) {
  if (!measured(ctx)) return 0;
  const int64_t u = (rows > ROWS_MOST ? ROWS_MOST : rows) * TERMS * (int64_t)sizeof(double);
  const int64_t arrays = 2 * ARRAY * (int64_t)sizeof(double);
  return u > arrays ? u : arrays;
}
