/**
 * @file float_ops.h
 * @brief The float32 operations whose bits must agree on host and device, and nothing else.
 *
 * Each is one correctly rounded IEEE 754 operation. The device side, emulated or not, uses the _rn intrinsics, which
 * are never contracted; the host side must be compiled with -ffp-contract=off (the file that includes this sets it).
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_FLOAT_OPS_H
#define SOFTNTK_FLOAT_OPS_H

#include <stdint.h>

#if defined(__CUDA_ARCH__) || defined(SNTK_EMULATED)
#define SNTK_HD __host__ __device__ __forceinline__
SNTK_HD float sntk_f_add(float a, float b) { return __fadd_rn(a, b); }
SNTK_HD float sntk_f_mul(float a, float b) { return __fmul_rn(a, b); }
SNTK_HD float sntk_f_fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
SNTK_HD float sntk_f_sqrt(float a) { return __fsqrt_rn(a); }
SNTK_HD float sntk_f_from_u32(uint32_t a) { return __uint2float_rn(a); }
SNTK_HD float sntk_f_from_i32(int32_t a) { return __int2float_rn(a); }
SNTK_HD uint32_t sntk_f_bits(float a) { return __float_as_uint(a); }
SNTK_HD float sntk_f_of_bits(uint32_t a) { return __uint_as_float(a); }
#else
#include <math.h>
#include <string.h>
#if defined(__CUDACC__)
#define SNTK_HD __host__ __device__ inline
#else
#define SNTK_HD static inline __attribute__((always_inline))
#endif
SNTK_HD float sntk_f_add(float a, float b) { return a + b; }
SNTK_HD float sntk_f_mul(float a, float b) { return a * b; }
SNTK_HD float sntk_f_fma(float a, float b, float c) { return fmaf(a, b, c); }
SNTK_HD float sntk_f_sqrt(float a) { return sqrtf(a); }
SNTK_HD float sntk_f_from_u32(uint32_t a) { return (float)a; }
SNTK_HD float sntk_f_from_i32(int32_t a) { return (float)a; }
SNTK_HD uint32_t sntk_f_bits(float a) {
  uint32_t u;
  memcpy(&u, &a, sizeof u);
  return u;
}
SNTK_HD float sntk_f_of_bits(uint32_t a) {
  float f;
  memcpy(&f, &a, sizeof f);
  return f;
}
#endif

#endif
