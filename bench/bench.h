/**
 * @file bench.h
 * @brief The benchmark: cases timed beside the machine's own limits, measured in the same run.
 *
 * A step's bound is what the arithmetic below asks of the processor's multiply-add units or of its memory, whichever is
 * slower; the share of it that a case reaches is the figure to look at, since it does not depend on the machine's mood.
 * The Gram matrix is compared with the matrix library's U U^T plus the passes, which can be beaten.
 *
 * Work per (sample, neuron), in vector slots: d and more multiply-adds for the logit, the exponential's polynomial, the
 * signed sums. See bench/MODEL.md.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_BENCH_H
#define SOFTNTK_BENCH_H

#include <stdint.h>

#include "core/core.h"
#include "softntk/network.h"

/* What the machine can do with the context's threads, in one type; 0 where it was not measured (backends other than
 * cpu). */
typedef struct sntk_roofline {
  double multiply_adds; /* per second, in registers */
  double gemm;          /* floating-point operations per second of a large matrix product */
  double syrk;         /* the same of U U^T, the triangle's work counted, at the case's number of rows (at most 4096) */
  double exponentials; /* per second, the engine's own over a cached array */
  double bandwidth;    /* bytes per second between memory and processor, the better of a copy and an update in place,
                          read and write counted */
} sntk_roofline;

typedef enum sntk_bench_kind { SNTK_BENCH_STEP, SNTK_BENCH_GRAM, SNTK_BENCH_RNG } sntk_bench_kind;

typedef struct sntk_bench_case {
  sntk_bench_kind kind;
  sntk_network_options network;
  int64_t samples; /* 0 for rng */
} sntk_bench_case;

/* Times in seconds. Work of one run of the case. */
typedef struct sntk_bench_result {
  double median, q1, q3;
  int64_t runs;
  double flops;       /* 2 a multiply-add of the matrix products: step 6 n d m, gram n p (n p + 1) m */
  double exps;        /* exponentials that the formulas ask for */
  double bytes;       /* that must cross the memory bus where the weights do not fit a cache */
  double bound;       /* seconds; NAN where the machine's limits are not measured */
  double bound_share; /* bound / median */
  sntk_roofline limits;
} sntk_bench_result;

/* The machine's limits with the context's threads (cpu backend; zeros else), about a second. rows > 0: U U^T of so many
 * rows too. */
sntk_status sntk_roofline_measure(sntk_context *ctx, sntk_precision type, int64_t rows, sntk_roofline *limits);

/* Bytes of the arrays that this takes. */
int64_t sntk_roofline_bytes(const sntk_context *ctx, int64_t rows);

/* Bytes that a benchmark takes, the limits' arrays included; -1 where it does not fit 63 bits. */
int64_t sntk_bench_bytes(const sntk_context *ctx, const sntk_bench_case *c);

/* Seconds that the model asks for. */
double sntk_bench_bound(const sntk_bench_case *c, const sntk_roofline *limits);

/* Runs the cases alternately, for at least `seconds` in all and at least `least` times each, after one run of each that
 * is not counted. */
sntk_status sntk_bench_run(sntk_context *ctx, const sntk_bench_case *cases, int count, double seconds, int64_t least,
                           sntk_bench_result *results);

#endif
