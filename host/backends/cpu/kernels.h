/**
 * @file kernels.h
 * @brief The cpu backend's fused passes: what one thread does with its share of the neurons.
 *
 * One table an instruction set (kernels.c is compiled once for each), entries in float and double. A pass takes neurons
 * a tile at a time: the tile's weights are packed, its logits for a block of samples are made in registers and go
 * through a buffer of first-level-cache size into activations, sums, slopes and gradient. Nothing of size n x m exists,
 * nothing is allocated, no pass fails: a sample whose logit or activation is not finite comes back in `bad`.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_CPU_KERNELS_H
#define SOFTNTK_CPU_KERNELS_H

#include <stdint.h>

#include "backends/backend.h"

/* One thread's share of a pass. */
typedef struct sntk_cpu_share {
  const sntk_neurons *v;
  const sntk_samples *s;
  int64_t first, count; /* its columns of v */
  double input_size;    /* max |x_ik| */
  void *work;           /* work_bytes() of it, aligned to 64 bytes */
  int64_t bad;          /* in: the number of samples; out: the first sample that met a number that is not finite */
  double norms[2];      /* what a step adds up */
} sntk_cpu_share;

typedef struct sntk_cpu_passes {
  int64_t tile; /* columns in a tile: shares start at multiples of it */
  /* Bytes that a share needs; -1 on overflow. */
  int64_t (*work_bytes)(int64_t samples, int64_t dim, int64_t outputs);
  /* Statistics of the share merged into `own`, see sntk_backend.statistics. The views' type may be float32 where the
   * entry's is float64 (the numbers are widened, samples taken from x64). */
  void (*statistics)(sntk_cpu_share *share, sntk_stats *own);
  /* out = X^T G (see sntk_backend.gradient); out points to column 0 of v. */
  void (*gradient)(sntk_cpu_share *share, const sntk_pull *pull, void *const out[2], int64_t ld);
  /* The step, see sntk_backend.descent; its norms are added to the share's. next: NULL, or merged into. */
  void (*descent)(sntk_cpu_share *share, const sntk_pull *pull, double eta, sntk_stats *next);
  /* Sums of the slopes exp(z - max), exp(z) or [z > 0] (without the normalizer) times x . direction: added to
   * dot (n x p) and mean (n); see sntk_backend.push. direction points to column 0 of v. */
  void (*push)(sntk_cpu_share *share, const double *max, const void *const direction[2], int64_t ld, double *dot,
               double *mean);
  /* Feature rows, see sntk_backend.features; u points to the row's column 0 of v. */
  void (*features)(sntk_cpu_share *share, const double *max, const double *sum, const double *away, void *u,
                   int64_t ld);
  /* The features' change, see sntk_backend.feature_change; du and um point to the rows' column 0 of v. */
  void (*feature_change)(sntk_cpu_share *share, const sntk_change *change, void *du, void *um, int64_t ld);

  /* The Gram matrix by slabs of columns; NULL where the matrix library is the better choice. gram_ready once a call for
   * each thread's work space, gram_inputs for each panel of `tile` samples (inputs: panels x dim x tile). Then for each
   * slab gram_panel for each of these, which writes panels of `tile` feature rows (stride x tile; the indices of a
   * pair's second neuron follow at + count), and gram_row for each block row of the products (tile x tile blocks of the
   * lower triangle, row by row). gram_flush adds a block row to the matrix in float64. Any thread may take any panel or
   * row. */
  void (*gram_ready)(sntk_cpu_share *share, const double *max, const double *sum, const double *away);
  void (*gram_inputs)(const sntk_cpu_share *share, int64_t panel, void *inputs);
  void (*gram_panel)(sntk_cpu_share *share, int64_t panel, const void *inputs, int64_t first, int64_t count,
                     void *panels, int64_t stride);
  void (*gram_row)(int64_t row, const void *panels, int64_t depth, int64_t stride, void *blocks);
  void (*gram_flush)(int64_t row, const void *blocks, int64_t rows, double *gram);
} sntk_cpu_passes;

typedef struct sntk_cpu_kernels {
  const char *name;
  sntk_cpu_passes passes[2]; /* by sntk_precision */
  /* The vector exponentials, for their test: out = exp(x), and expm1(x) by the polynomial for |x| <= `bound` (0.1, 1,
   * or anything larger for the general one). */
  void (*exp_f32)(int64_t count, const float *x, float *out);
  void (*exp_f64)(int64_t count, const double *x, double *out);
  void (*expm1_f32)(int64_t count, double bound, const float *x, float *out);
  void (*expm1_f64)(int64_t count, double bound, const double *x, double *out);
  /* Multiply-adds in registers, `chains` numbers a round: the processor's own limit. The result says nothing. */
  struct {
    int64_t chains;
    double (*run)(int64_t rounds, double factor);
  } multiply_adds[2]; /* by sntk_precision */
} sntk_cpu_kernels;

/* The best table for this processor, or that of SOFTNTK_ISA; NULL where sntk_isa_check refuses it. */
const sntk_cpu_kernels *sntk_cpu_kernels_pick(void);

#endif
