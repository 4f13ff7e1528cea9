/**
 * @file normal.h
 * @brief Two words to two standard normals in float32: the same bits on host and device.
 *
 * Box-Muller (Box, Muller, Ann. Math. Stat. 29, 1958): radius sqrt(-2 ln u) with u = (w0 + 1/2) 2^-32, angle 2 pi w1
 * 2^-32. Logarithm, sine and cosine are polynomials fitted for this file (minimax by reweighted least squares);
 * relative error of the radius' square and absolute error of sine and cosine below 4 eps, eps = 2^-24.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_NORMAL_H
#define SOFTNTK_NORMAL_H

#include "core/float_ops.h"

/* -2 ln((w + 1/2) 2^-32), > 0. */
SNTK_HD float sntk_minus_two_log(uint32_t w) {
  const float u = sntk_f_fma(sntk_f_from_u32(w), 0x1p-32f, 0x1p-33f);
  /* u = 2^e (1 + f) with 1 + f in [sqrt 1/2, sqrt 2): 0x3f3504f3 are the bits of sqrt 1/2. Above it f = u - 1 is taken
   * from the word itself, since u has lost the last bits of 1 - u. */
  const uint32_t shifted = sntk_f_bits(u) - 0x3f3504f3u;
  const int32_t e = w < 0xb504f300u ? (int32_t)shifted >> 23 : 0;
  const float f_low = sntk_f_add(sntk_f_of_bits((shifted & 0x007fffffu) + 0x3f3504f3u), -1.0f);
  const float f_top = sntk_f_fma(sntk_f_from_u32(~w), -0x1p-32f, -0x1p-33f);
  const float f = w < 0xb504f300u ? f_low : f_top;
  float p = 0x1.14573ep-4f;
  p = sntk_f_fma(p, f, -0x1.de3bf8p-4f);
  p = sntk_f_fma(p, f, 0x1.e6f08cp-4f);
  p = sntk_f_fma(p, f, -0x1.fc220ep-4f);
  p = sntk_f_fma(p, f, 0x1.233766p-3f);
  p = sntk_f_fma(p, f, -0x1.555c4ep-3f);
  p = sntk_f_fma(p, f, 0x1.99a4b6p-3f);
  p = sntk_f_fma(p, f, -0x1.000006p-2f);
  p = sntk_f_fma(p, f, 0x1.555548p-2f);
  p = sntk_f_fma(p, f, -0.5f); /* ln(1 + f) = f + f^2 p */
  const float ln = sntk_f_fma(sntk_f_mul(f, f), p, f);
  return sntk_f_mul(-2.0f, sntk_f_fma(sntk_f_from_i32(e), 0x1.62e430p-1f, ln));
}

/* out[0] = radius cos(angle), out[1] = radius sin(angle). */
SNTK_HD void sntk_normal_pair(uint32_t w0, uint32_t w1, float *out0, float *out1) {
  const float radius = sntk_f_sqrt(sntk_minus_two_log(w0));
  const uint32_t quadrant = (w1 + 0x20000000u) >> 30;
  const float x = sntk_f_mul(sntk_f_from_i32((int32_t)(w1 - (quadrant << 30))), 0x1.921fb6p-30f); /* |x| <= pi / 4 */
  const float x2 = sntk_f_mul(x, x);
  float s = sntk_f_fma(-0x1.994eb2p-13f, x2, 0x1.110760p-7f);
  s = sntk_f_fma(s, x2, -0x1.555546p-3f);
  s = sntk_f_fma(sntk_f_mul(s, x2), x, x);
  float c = sntk_f_fma(0x1.9a0258p-16f, x2, -0x1.6c0c8cp-10f);
  c = sntk_f_fma(c, x2, 0x1.55554ap-5f);
  c = sntk_f_fma(c, x2, -0.5f);
  c = sntk_f_fma(c, x2, 1.0f);
  /* quadrant 0: (c, s), 1: (-s, c), 2: (-c, -s), 3: (s, -c) */
  const uint32_t odd = quadrant & 1u;
  const uint32_t flip_cos = ((quadrant + 1u) & 2u) << 30, flip_sin = (quadrant & 2u) << 30;
  const float cosine = sntk_f_of_bits(sntk_f_bits(odd ? s : c) ^ flip_cos);
  const float sine = sntk_f_of_bits(sntk_f_bits(odd ? c : s) ^ flip_sin);
  *out0 = sntk_f_mul(radius, cosine);
  *out1 = sntk_f_mul(radius, sine);
}

#endif
