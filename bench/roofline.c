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

static void measure_processor(const sntk_context *ctx, sntk_roofline *limits) {
  const sntk_cpu_kernels *kernels = sntk_cpu_kernels_pick();
  enum { ROUNDS = 2000000, LENGTH = 4096, PASSES = 2000 };
  for (int type = SNTK_F32; type <= SNTK_F64; type++)
    for (int i = 0; i < TRIES; i++) {
      volatile double sink = 0.0; /* keeps the loop */
      double began = sntk_seconds();
#pragma omp parallel num_threads(ctx->threads)
      {
        const double value = kernels->multiply_adds[type].run(ROUNDS, 0.5);
#pragma omp critical
        sink = sink + value;
      }
      limits->multiply_adds[type] =
          best_of(limits->multiply_adds[type], (double)kernels->multiply_adds[type].chains * ROUNDS *
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
      limits->exponentials[type] = best_of(limits->exponentials[type],
                                           (double)LENGTH * PASSES * (double)ctx->threads / (sntk_seconds() - began));
    }
}

/* The rate of a square product, or (rows > 0) of the lower triangle of U U^T, U rows x terms. */
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

static sntk_status measure_products(sntk_context *ctx, int64_t rows, sntk_roofline *limits) {
  enum { SIZE = 2048, TERMS = 8192 };
  const int64_t count = rows * TERMS > SIZE * SIZE ? rows * TERMS : SIZE * SIZE;
  const int64_t square = rows > SIZE ? rows * rows : SIZE * SIZE;
  void *a = NULL, *out = NULL;
  sntk_status status = sntk_alloc(ctx, "matrices of the benchmark", count, sizeof(double), &a);
  if (status == SNTK_OK) status = sntk_alloc(ctx, "matrices of the benchmark", square, sizeof(double), &out);
  for (int type = SNTK_F32; type <= SNTK_F64 && status == SNTK_OK; type++) {
    for (int64_t j = 0; j < count; j++) {
      const double value = (double)(j % 7) - 3.0;
      if (type == SNTK_F32)
        ((float *)a)[j] = (float)value;
      else
        ((double *)a)[j] = value;
    }
    limits->gemm[type] = matrix_rate((sntk_precision)type, SIZE, SIZE, false, a, out);
    if (rows > 0) limits->syrk[type] = matrix_rate((sntk_precision)type, rows, TERMS, true, a, out);
  }
  free(a);
  free(out);
  return status;
}

static sntk_status measure_bandwidth(sntk_context *ctx, sntk_roofline *limits) {
  const int64_t count = (int64_t)1 << 25; /* 256 MiB each way */
  double *from = NULL, *to = NULL;
  sntk_status status = sntk_alloc(ctx, "array of the benchmark", count, sizeof *from, (void **)&from);
  if (status == SNTK_OK) status = sntk_alloc(ctx, "array of the benchmark", count, sizeof *to, (void **)&to);
  for (int i = 0; i <= TRIES && status == SNTK_OK; i++) {
    const double began = sntk_seconds();
#pragma omp parallel for num_threads(ctx->threads) schedule(static)
    for (int64_t j = 0; j < count; j++) to[j] = i ? from[j] : (from[j] = 1.0);
    if (i) limits->bandwidth = best_of(limits->bandwidth, 2.0 * (double)count * sizeof *to / (sntk_seconds() - began));
  }
  free(from);
  free(to);
  return status;
}

sntk_status sntk_roofline_measure(sntk_context *ctx, int64_t rows, sntk_roofline *limits) {
  memset(limits, 0, sizeof *limits);
  if (strcmp(ctx->backend->name, "cpu") != 0) return SNTK_OK;
  measure_processor(ctx, limits);
  SNTK_TRY(measure_products(ctx, rows, limits));
  return measure_bandwidth(ctx, limits);
}
