/* Vectors of REAL and their exponentials: included by kernels.c once a type, with REAL and FN defined.
 *
 * FN(v) is a vector of VL numbers, FN(i) of as many integers. What the compiler's vector extension writes well is
 * written with operators; the rest (larger of two, choice, scale by a power of two) kernels.c defines for each
 * instruction set.
 *
 * Exponentials: x = n ln 2 + r, |r| <= ln 2 / 2, exp(x) = 2^n (1 + r + r^2 Q(r)). Q and the polynomials of expm1 are
 * minimax fits of the relative error (Remez's exchange), made for this file: 3e-9 and 1e-9 in float32, 4e-18 and 3e-18
 * in float64. With rounding, results that are normal numbers are within 2 units in the last place of the exact ones
 * (tests/oracle/test_cpu.c); smaller ones are off by less than the smallest normal number. A NaN stays one.
 *
 * SPDX-License-Identifier: MIT */

static inline FN(v) FN(load)(const REAL *from) { return *(const FN(memory) *)from; }
static inline void FN(store)(REAL *to, FN(v) x) { *(FN(memory) *)to = x; }
static inline FN(v) FN(all)(REAL x) { return x - (FN(v)){0}; }
static inline FN(v) FN(size)(FN(v) x) { return (FN(v))((FN(i))x & ~(FN(i))FN(all)(-(REAL)0)); }

/* In double and in a fixed order. */
static inline double FN(sum_lanes)(const REAL *x) {
  double sum[2] = {0.0, 0.0};
  for (int j = 0; j < VL; j += 2) {
    sum[0] += (double)x[j];
    sum[1] += (double)x[j + 1];
  }
  return sum[0] + sum[1];
}

static inline REAL FN(max_lanes)(FN(v) x) {
  REAL top[VL];
  memcpy(top, &x, sizeof top);
  for (int half = VL / 2; half > 0; half /= 2)
    for (int j = 0; j < half; j++) top[j] = top[j] > top[j + half] ? top[j] : top[j + half];
  return top[0];
}

/* n and r of x; the low bits of `shifted` are n. */
static inline FN(v) FN(reduce)(FN(v) x, FN(v) * shifted, FN(v) * n) {
  *shifted = x * FN(LOG2E) + FN(SHIFT);
  *n = *shifted - FN(SHIFT);
  return (x - *n * FN(LN2_HIGH)) - *n * FN(LN2_LOW);
}

/* Q(r), lowest coefficient last. */
static inline FN(v) FN(horner)(FN(v) r, const REAL *coefficients, int count) {
  FN(v) q = FN(all)(coefficients[0]);
#pragma GCC unroll 16
  for (int j = 1; j < count; j++) q = q * r + coefficients[j];
  return q;
}

static inline FN(v) FN(exp_reduced)(FN(v) x) {
  FN(v) shifted, n;
  const FN(v) r = FN(reduce)(x, &shifted, &n);
  const FN(v) q = (FN(horner)(r, FN(exp_terms), FN(EXP_TERMS)) * r + 1) * r + 1;
  return FN(scale)(q, shifted, n);
}

/* exp(x) for x <= 0, or NaN. */
static inline FN(v) FN(exp_negative)(FN(v) x) { return FN(exp_reduced)(FN(larger)(FN(all)(FN(EXP_LOWEST)), x)); }

/* exp(x) for any x; not finite where the result is too large. */
static inline FN(v) FN(exp)(FN(v) x) { return FN(exp_negative)(FN(smaller)(FN(all)(FN(EXP_HIGHEST)), x)); }

/* exp(x) - 1 for |x| <= 0.1 and for |x| <= 1, without reduction. */
static inline FN(v) FN(expm1_tenth)(FN(v) x) { return (FN(horner)(x, FN(tenth_terms), FN(TENTH_TERMS)) * x + 1) * x; }
static inline FN(v) FN(expm1_one)(FN(v) x) { return (FN(horner)(x, FN(one_terms), FN(ONE_TERMS)) * x + 1) * x; }

/* exp(x) - 1, |x| clamped to 60: a shift beyond 2 makes the engine move the base and take the statistics anew, so a
 * clamped value is never used. */
static inline FN(v) FN(expm1)(FN(v) x) {
  FN(v) shifted, n;
  x = FN(larger)(FN(all)(-60), FN(smaller)(FN(all)(60), x));
  const FN(v) r = FN(reduce)(x, &shifted, &n), two_n = FN(scale)(FN(all)(1), shifted, n);
  return ((FN(horner)(r, FN(exp_terms), FN(EXP_TERMS)) * r + 1) * r) * two_n + (two_n - 1);
}
