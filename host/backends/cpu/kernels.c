/**
 * @file kernels.c
 * @brief The row kernels for one instruction set, SNTK_ISA: one source, vectorized by the compiler.
 *
 * SPDX-License-Identifier: MIT
 */
#include "backends/cpu/kernels.h"

#include <math.h>
#include <string.h>

#define SNTK_JOIN_(a, b) a##b
#define SNTK_JOIN(a, b) SNTK_JOIN_(a, b)
#define SNTK_TEXT_(a) #a
#define SNTK_TEXT(a) SNTK_TEXT_(a)

/* ---- exponentials: x = n ln 2 + r, |r| <= ln 2 / 2, expm1(r) = r + r^2 P(r) ---- */

/* 2^n for a whole number n held as n + 1.5 2^23 in a float: the low bits of that float are n. */
static inline float power_of_two_f32(float shifted) {
  uint32_t bits;
  memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + 127u) << 23;
  float result;
  memcpy(&result, &bits, sizeof result);
  return result;
}

static inline double power_of_two_f64(double shifted) {
  uint64_t bits;
  memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + 1023u) << 52;
  double result;
  memcpy(&result, &bits, sizeof result);
  return result;
}

/* r + r^2 P(r); P fitted for this file (minimax by reweighted least squares, relative error 2.4e-10). */
static inline float expm1_reduced_f32(float r) {
  float p = 0x1.a19ebap-13f;
  p = p * r + 0x1.6d74fcp-10f;
  p = p * r + 0x1.111092p-7f;
  p = p * r + 0x1.5554aep-5f;
  p = p * r + 0x1.555556p-3f;
  p = p * r + 0.5f;
  return p * (r * r) + r;
}

/* Taylor to r^13: relative error 2e-17. */
static inline double expm1_reduced_f64(double r) {
  double p = 1.0 / 6227020800.0;
  p = p * r + 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  return p * (r * r) + r;
}

/* Comparisons are written so that a NaN passes through to the result. */
static inline float exp_f32(float x) {
  x = x < -104.0f ? -104.0f : x;
  x = x > 89.0f ? 89.0f : x;
  const float shift = 0x1.8p23f;
  const float n = (x * 0x1.715476p+0f + shift) - shift;
  const float r = (x - n * 0x1.62e400p-1f) - n * 0x1.7f7d1cp-20f;
  /* Two factors, so that 2^128 and the subnormals come out right. */
  const float half = (n * 0.5f + shift) - shift;
  return (1.0f + expm1_reduced_f32(r)) * power_of_two_f32(half + shift) * power_of_two_f32((n - half) + shift);
}

static inline double exp_f64(double x) {
  x = x < -746.0 ? -746.0 : x;
  x = x > 710.0 ? 710.0 : x;
  const double shift = 0x1.8p52;
  const double n = (x * 0x1.71547652b82fep+0 + shift) - shift;
  const double r = (x - n * 0x1.62e42fefa0000p-1) - n * 0x1.cf79abc9e3b3ap-40;
  const double half = (n * 0.5 + shift) - shift;
  return (1.0 + expm1_reduced_f64(r)) * power_of_two_f64(half + shift) * power_of_two_f64((n - half) + shift);
}

/* exp(x) - 1 without cancellation. x is clamped to |x| <= 60: a shift beyond 2 makes the engine move the base and take
 * the statistics anew, so a clamped value is never used. */
static inline float expm1_f32(float x) {
  x = x < -60.0f ? -60.0f : x;
  x = x > 60.0f ? 60.0f : x;
  const float shift = 0x1.8p23f;
  const float n = (x * 0x1.715476p+0f + shift) - shift;
  const float r = (x - n * 0x1.62e400p-1f) - n * 0x1.7f7d1cp-20f;
  const float two_n = power_of_two_f32(n + shift);
  return expm1_reduced_f32(r) * two_n + (two_n - 1.0f);
}

static inline double expm1_f64(double x) {
  x = x < -60.0 ? -60.0 : x;
  x = x > 60.0 ? 60.0 : x;
  const double shift = 0x1.8p52;
  const double n = (x * 0x1.71547652b82fep+0 + shift) - shift;
  const double r = (x - n * 0x1.62e42fefa0000p-1) - n * 0x1.cf79abc9e3b3ap-40;
  const double two_n = power_of_two_f64(n + shift);
  return expm1_reduced_f64(r) * two_n + (two_n - 1.0);
}

#define REAL float
#define FN(name) name##_f32
#include "backends/cpu/rows.h"
#undef REAL
#undef FN

#define REAL double
#define FN(name) name##_f64
#include "backends/cpu/rows.h"
#undef REAL
#undef FN

#define SNTK_ROWS(suffix)                                                                                              \
  {                                                                                                                    \
    .statistics = statistics_##suffix, .slopes = slopes_##suffix, .pull = pull_##suffix, .push = push_##suffix,        \
    .feature = feature_##suffix, .descend = descend_##suffix                                                           \
  }

extern const sntk_cpu_kernels SNTK_JOIN(sntk_cpu_kernels_, SNTK_ISA);
const sntk_cpu_kernels SNTK_JOIN(sntk_cpu_kernels_, SNTK_ISA) = {
    .name = SNTK_TEXT(SNTK_ISA), .rows = {[SNTK_F32] = SNTK_ROWS(f32), [SNTK_F64] = SNTK_ROWS(f64)}};
