/* Row kernels for one type: included by kernels.c with REAL and FN defined. See kernels.h for what each does.
 *
 * Sums run in `REAL` lanes over at most a slab (see cpu.c) and leave in float64. In the paired layout a column is a
 * pair: neuron 2q with the sign, neuron 2q + 1 with its opposite.
 *
 * SPDX-License-Identifier: MIT */

/* z times zero is NaN exactly where z is not finite. */
static void FN(statistics_plain)(sntk_activation activation, int64_t b, int64_t p, const REAL *restrict z,
                                 const REAL *restrict signs, sntk_row_stats *out, double *t) {
  REAL max = 0, sum = 0, check = 0;
  if (activation == SNTK_SOFTMAX) {
    max = -(REAL)INFINITY;
#pragma omp simd reduction(max : max)
    for (int64_t j = 0; j < b; j++) max = z[j] > max ? z[j] : max;
  }
#pragma omp simd reduction(+ : check)
  for (int64_t j = 0; j < b; j++) check += z[j] * 0;
  /* The activations of a piece of the row, kept on the stack for the p signed sums. */
  enum { PIECE = 256 };
  REAL phi[PIECE];
  for (int64_t l = 0; l < p; l++) t[l] = 0.0;
  for (int64_t at = 0; at < b; at += PIECE) {
    const int64_t w = b - at < PIECE ? b - at : PIECE;
    REAL part = 0;
    if (activation == SNTK_RELU) {
#pragma omp simd
      for (int64_t j = 0; j < w; j++) phi[j] = z[at + j] > 0 ? z[at + j] : 0;
    } else {
#pragma omp simd reduction(+ : part)
      for (int64_t j = 0; j < w; j++) {
        phi[j] = FN(exp)(z[at + j] - max);
        part += phi[j];
      }
      if (activation == SNTK_SOFTMAX)
        sum += part;
      else
        check += part * 0;
    }
    for (int64_t l = 0; l < p; l++) {
      REAL part_l = 0;
#pragma omp simd reduction(+ : part_l)
      for (int64_t j = 0; j < w; j++) part_l += signs[l * b + at + j] * phi[j];
      t[l] += (double)part_l;
    }
  }
  *out =
      (sntk_row_stats){.max = (double)max, .sum = (double)sum, .shift_max = 0.0, .finite = check == 0 && isfinite(sum)};
}

/* The change of the activation when the logit z moves by d, without cancellation. */
static inline REAL FN(relu_change)(REAL z, REAL d) {
  const REAL after = z + d;
  const REAL direct = (after > 0 ? after : 0) - (z > 0 ? z : 0);
  return z > 0 && after > 0 ? d : direct;
}

/* relu(z + d1) - relu(z + d2), as d1 - d2 where both are positive. */
static inline REAL FN(relu_difference)(REAL z, REAL d1, REAL d2) {
  const REAL a = z + d1, c = z + d2;
  const REAL direct = (a > 0 ? a : 0) - (c > 0 ? c : 0);
  return a > 0 && c > 0 ? d1 - d2 : direct;
}

static void FN(statistics_shifted)(sntk_activation activation, int64_t b, int64_t p, const REAL *restrict z,
                                   const REAL *restrict d1, const REAL *restrict d2, const REAL *restrict signs,
                                   double fixed_max, sntk_row_stats *out, double *t) {
  const REAL max = (REAL)fixed_max;
  enum { PIECE = 256 };
  REAL phi[PIECE]; /* what the signs multiply: the change (displaced), the difference of the two neurons (paired) */
  REAL shift_max = 0, check = 0;
  double sum = 0.0;
  for (int64_t l = 0; l < p; l++) t[l] = 0.0;
  for (int64_t at = 0; at < b; at += PIECE) {
    const int64_t w = b - at < PIECE ? b - at : PIECE;
    REAL part = 0;
#pragma omp simd reduction(max : shift_max) reduction(+ : check)
    for (int64_t j = 0; j < w; j++) {
      const REAL a = d1[at + j] < 0 ? -d1[at + j] : d1[at + j];
      shift_max = a > shift_max ? a : shift_max;
      check += d1[at + j] * 0 + z[at + j] * 0;
    }
    if (d2) {
#pragma omp simd reduction(max : shift_max) reduction(+ : check)
      for (int64_t j = 0; j < w; j++) {
        const REAL a = d2[at + j] < 0 ? -d2[at + j] : d2[at + j];
        shift_max = a > shift_max ? a : shift_max;
        check += d2[at + j] * 0;
      }
    }
    if (activation == SNTK_RELU) {
      if (d2) {
#pragma omp simd
        for (int64_t j = 0; j < w; j++) phi[j] = FN(relu_difference)(z[at + j], d1[at + j], d2[at + j]);
      } else {
#pragma omp simd
        for (int64_t j = 0; j < w; j++) phi[j] = FN(relu_change)(z[at + j], d1[at + j]);
      }
    } else if (d2) {
#pragma omp simd reduction(+ : part)
      for (int64_t j = 0; j < w; j++) {
        const REAL e = FN(exp)(z[at + j] - max), e1 = FN(expm1)(d1[at + j]), e2 = FN(expm1)(d2[at + j]);
        phi[j] = e * (e1 - e2);
        part += e * (e1 + e2);
      }
    } else {
#pragma omp simd reduction(+ : part)
      for (int64_t j = 0; j < w; j++) {
        phi[j] = FN(exp)(z[at + j] - max) * FN(expm1)(d1[at + j]);
        part += phi[j];
      }
    }
    check += part * 0;
    sum += (double)part;
    for (int64_t l = 0; l < p; l++) {
      REAL part_l = 0;
#pragma omp simd reduction(+ : part_l)
      for (int64_t j = 0; j < w; j++) part_l += signs[l * b + at + j] * phi[j];
      t[l] += (double)part_l;
    }
  }
  *out = (sntk_row_stats){.max = fixed_max,
                          .sum = activation == SNTK_SOFTMAX ? sum : 0.0,
                          .shift_max = (double)shift_max,
                          .finite = check == 0};
}

static void FN(statistics)(sntk_activation activation, sntk_layout layout, int64_t b, int64_t p, const void *z,
                           const void *d1, const void *d2, const void *signs, double max, sntk_row_stats *out,
                           double *t) {
  if (layout == SNTK_LAYOUT_PLAIN)
    FN(statistics_plain)(activation, b, p, z, signs, out, t);
  else
    FN(statistics_shifted)(activation, b, p, z, d1, d2, signs, max, out, t);
}

/* In place of `d`: the slope at logit z + d. One exponential of the sum keeps the relative error at eps |z + d - max|
 * for any d, where exp(z - max) (1 + expm1(d)) would lose exp(|d|) for negative d. */
static void FN(slope_shifted)(sntk_activation activation, int64_t b, REAL max, const REAL *restrict z,
                              REAL *restrict d) {
  if (activation == SNTK_RELU) {
#pragma omp simd
    for (int64_t j = 0; j < b; j++) d[j] = z[j] + d[j] > 0 ? 1 : 0;
  } else {
#pragma omp simd
    for (int64_t j = 0; j < b; j++) d[j] = FN(exp)((z[j] - max) + d[j]);
  }
}

static void FN(slopes)(sntk_activation activation, sntk_layout layout, int64_t b, double max, void *z, void *d1,
                       void *d2) {
  if (layout == SNTK_LAYOUT_PLAIN) {
    REAL *restrict s = z;
    const REAL m = (REAL)max;
    if (activation == SNTK_RELU) {
#pragma omp simd
      for (int64_t j = 0; j < b; j++) s[j] = s[j] > 0 ? 1 : 0;
    } else {
#pragma omp simd
      for (int64_t j = 0; j < b; j++) s[j] = FN(exp)(s[j] - m);
    }
    return;
  }
  FN(slope_shifted)(activation, b, (REAL)max, z, d1);
  if (layout == SNTK_LAYOUT_PAIRED) FN(slope_shifted)(activation, b, (REAL)max, z, d2);
}

static void FN(pull)(int64_t b, int64_t p, const void *sign_rows, const double *r, double c, double flip, void *slope) {
  const REAL *restrict signs = sign_rows;
  REAL *restrict s = slope;
  const REAL minus_c = (REAL)-c;
  if (p == 1) {
    const REAL r0 = (REAL)(flip * r[0]);
#pragma omp simd
    for (int64_t j = 0; j < b; j++) s[j] *= signs[j] * r0 + minus_c;
    return;
  }
  enum { PIECE = 256 };
  REAL ra[PIECE];
  for (int64_t at = 0; at < b; at += PIECE) {
    const int64_t w = b - at < PIECE ? b - at : PIECE;
    for (int64_t j = 0; j < w; j++) ra[j] = minus_c;
    for (int64_t l = 0; l < p; l++) {
      const REAL rl = (REAL)(flip * r[l]);
#pragma omp simd
      for (int64_t j = 0; j < w; j++) ra[j] += signs[l * b + at + j] * rl;
    }
#pragma omp simd
    for (int64_t j = 0; j < w; j++) s[at + j] *= ra[j];
  }
}

static void FN(push)(int64_t b, int64_t p, const void *sign_rows, const void *slope, const void *direction, double flip,
                     double *dot, double *mean) {
  const REAL *restrict signs = sign_rows, *restrict s = slope, *restrict v = direction;
  enum { PIECE = 256 };
  REAL product[PIECE];
  for (int64_t at = 0; at < b; at += PIECE) {
    const int64_t w = b - at < PIECE ? b - at : PIECE;
    REAL part = 0;
#pragma omp simd reduction(+ : part)
    for (int64_t j = 0; j < w; j++) {
      product[j] = s[at + j] * v[at + j];
      part += product[j];
    }
    *mean += (double)part;
    for (int64_t l = 0; l < p; l++) {
      REAL part_l = 0;
#pragma omp simd reduction(+ : part_l)
      for (int64_t j = 0; j < w; j++) part_l += signs[l * b + at + j] * product[j];
      dot[l] += flip * (double)part_l;
    }
  }
}

static void FN(feature)(int64_t b, const void *sign, const void *slope, double factor, double flip, double f, void *u) {
  const REAL *restrict a = sign, *restrict s = slope;
  REAL *restrict out = u;
  const REAL scale = (REAL)factor, up = (REAL)flip, shift = (REAL)-f;
#pragma omp simd
  for (int64_t j = 0; j < b; j++) out[j] = (scale * s[j]) * (up * a[j] + shift);
}

static void FN(descend)(int64_t b, double eta, const void *gradient, void *weights, double norms[2]) {
  const REAL *restrict g = gradient;
  REAL *restrict w = weights;
  double square = 0.0, lost = 0.0;
#pragma omp simd reduction(+ : square, lost)
  for (int64_t j = 0; j < b; j++) {
    /* in float64, so that an update below the type's smallest number still counts as lost */
    const double update = -eta * (double)g[j];
    const REAL before = w[j], after = before + (REAL)update;
    w[j] = after;
    const double miss = ((double)after - (double)before) - update;
    square += update * update;
    lost += miss * miss;
  }
  norms[0] += square;
  norms[1] += lost;
}
