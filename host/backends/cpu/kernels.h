/**
 * @file kernels.h
 * @brief Row kernels of the cpu backend: what happens to one sample's logits over a slab of neurons, between two matrix
 * products.
 *
 * One table an instruction set (kernels.c is compiled once for each), entries in float and double. A row has `b`
 * columns: neurons, or pairs in the paired layout. Nothing here allocates or fails; a logit that is not finite comes
 * back as `finite` false.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_CPU_KERNELS_H
#define SOFTNTK_CPU_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

#include "backends/backend.h"

/* Statistics of one sample over a slab, before they are merged. */
typedef struct sntk_row_stats {
  double max, sum, shift_max;
  bool finite;
} sntk_row_stats;

/* Entries for one type; `real` rows are passed as void. */
typedef struct sntk_row_kernels {
  /* Statistics of a row. z: logits of the weights (plain) or the base; d1, d2: logits of the shifts, NULL where the
   * layout has none; signs: real, p rows of b; max: the fixed maximum of the displaced and paired layouts; t: p sums.
   */
  void (*statistics)(sntk_activation activation, sntk_layout layout, int64_t b, int64_t p, const void *z,
                     const void *d1, const void *d2, const void *signs, double max, sntk_row_stats *out, double *t);
  /* Slopes exp(z - max), exp(z) or [z > 0] at the true weights: plain in place of z; displaced in place of d1; paired
   * d1 and d2. */
  void (*slopes)(sntk_activation activation, sntk_layout layout, int64_t b, double max, void *z, void *d1, void *d2);
  /* g_j = slope_j (flip ra_j - c), ra_j = sum_l r_l A_lj; in place. r and c carry scale and normalizer. flip is +1 or
   * -1. */
  void (*pull)(int64_t b, int64_t p, const void *signs, const double *r, double c, double flip, void *slope);
  /* dot_l += flip sum_j A_lj slope_j v_j, mean += sum_j slope_j v_j. */
  void (*push)(int64_t b, int64_t p, const void *signs, const void *slope, const void *v, double flip, double *dot,
               double *mean);
  /* u_j = factor slope_j (flip A_j - f). */
  void (*feature)(int64_t b, const void *sign, const void *slope, double factor, double flip, double f, void *u);
  /* w_j += -eta g_j; adds |update|^2 and |stored - update|^2. */
  void (*descend)(int64_t b, double eta, const void *g, void *w, double norms[2]);
} sntk_row_kernels;

typedef struct sntk_cpu_kernels {
  const char *name;
  sntk_row_kernels rows[2]; /* by sntk_precision */
} sntk_cpu_kernels;

/* The best table for this processor. */
const sntk_cpu_kernels *sntk_cpu_kernels_pick(void);

#endif
