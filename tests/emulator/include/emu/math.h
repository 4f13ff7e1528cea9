/**
 * @file math.h
 * @brief CUDA's device mathematics: exact operations as the IEEE 754 ones, approximate ones with the documented error.
 *
 * A function whose device body differs from the host's is modelled as "any value within the documented bound": with
 * EMU_APPROX_SEED=0 the correctly rounded one, otherwise one chosen by a hash of the seed, the function and the
 * argument, so that no test passes only because the host's expf is exact. The f-suffixed functions of <math.h> are
 * replaced by macros for that (EMU_HOST_MATH keeps the host's); outside kernels they are the host's.
 *
 * Bounds: CUDA C++ Programming Guide, "Mathematical Functions" (the larger where editions differ), in units in the last
 * place of the result unless stated.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef EMU_MATH_H
#define EMU_MATH_H

#include <math.h>
#include <string.h>

#include "types.h"

/** ex2.approx: 2^x, at most 2 ulp, exactly 1 at 0; a subnormal result is flushed to zero unless keep_subnormal. */
EMU_API float emu_ex2_approx(float x, bool keep_subnormal = false);

namespace emu {
EMU_API float approx_expf(float x);          /* __expf: 2 + floor(|1.173 x|) ulp, subnormal results flushed */
EMU_API float approx_logf(float x);          /* __logf: 2^-21.41 absolute in [0.5, 2], else 3 ulp */
EMU_API float approx_log2f(float x);         /* __log2f: 2^-22 absolute in [0.5, 2], else 2 ulp */
EMU_API float approx_sinf(float x);          /* __sinf: 2^-21.41 absolute in [-pi, pi] */
EMU_API float approx_cosf(float x);          /* __cosf: 2^-21.19 absolute in [-pi, pi] */
EMU_API float approx_divf(float x, float y); /* __fdividef: 2 ulp; zero for 2^126 < |y| < 2^128 */
EMU_API float approx_rsqrtf(float x);        /* rsqrtf: 2 ulp */
EMU_API float device_expf(float x);          /* 2 ulp */
EMU_API float device_exp2f(float x);         /* 2 ulp */
EMU_API float device_expm1f(float x);        /* 1 ulp */
EMU_API float device_logf(float x);          /* 1 ulp */
EMU_API float device_log2f(float x);         /* 1 ulp */
EMU_API float device_log1pf(float x);        /* 1 ulp */
EMU_API float device_sinf(float x);          /* 2 ulp */
EMU_API float device_cosf(float x);          /* 2 ulp */
EMU_API float device_tanhf(float x);         /* 2 ulp */
EMU_API float device_erff(float x);          /* 2 ulp */
EMU_API float device_powf(float x, float y); /* 8 ulp */
}  // namespace emu

inline float __expf(float x) { return emu::approx_expf(x); }
inline float __logf(float x) { return emu::approx_logf(x); }
inline float __log2f(float x) { return emu::approx_log2f(x); }
inline float __sinf(float x) { return emu::approx_sinf(x); }
inline float __cosf(float x) { return emu::approx_cosf(x); }
inline void __sincosf(float x, float *s, float *c) {
  *s = emu::approx_sinf(x);
  *c = emu::approx_cosf(x);
}
inline float __fdividef(float x, float y) { return emu::approx_divf(x, y); }
inline float rsqrtf(float x) { return emu::approx_rsqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }

#ifndef EMU_HOST_MATH
#define expf(x) emu::device_expf(x)
#define exp2f(x) emu::device_exp2f(x)
#define expm1f(x) emu::device_expm1f(x)
#define logf(x) emu::device_logf(x)
#define log2f(x) emu::device_log2f(x)
#define log1pf(x) emu::device_log1pf(x)
#define sinf(x) emu::device_sinf(x)
#define cosf(x) emu::device_cosf(x)
#define tanhf(x) emu::device_tanhf(x)
#define erff(x) emu::device_erff(x)
#define powf(x, y) emu::device_powf(x, y)
#endif

namespace emu {
/* A product or sum that has been rounded: the compiler cannot see what made it, so it contracts it with nothing. */
template <class R>
inline R rounded(R value) {
#if defined(__x86_64__)
  __asm__("" : "+x"(value));
  return value;
#else
  volatile R kept = value;
  return kept;
#endif
}
}  // namespace emu

/* Correctly rounded operations that nvcc never contracts: nor does the host, also where it contracts all else. */
inline float __fadd_rn(float a, float b) { return emu::rounded(emu::rounded(a) + emu::rounded(b)); }
inline float __fsub_rn(float a, float b) { return emu::rounded(emu::rounded(a) - emu::rounded(b)); }
inline float __fmul_rn(float a, float b) { return emu::rounded(a * b); }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline double __dadd_rn(double a, double b) { return emu::rounded(emu::rounded(a) + emu::rounded(b)); }
inline double __dsub_rn(double a, double b) { return emu::rounded(emu::rounded(a) - emu::rounded(b)); }
inline double __dmul_rn(double a, double b) { return emu::rounded(a * b); }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __drcp_rn(double a) { return 1.0 / a; }
inline double __dsqrt_rn(double a) { return sqrt(a); }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
inline float __saturatef(float a) { return a > 0.0f ? (a < 1.0f ? a : 1.0f) : 0.0f; } /* NaN becomes 0 */

/* Conversions. The device's conversions to integers saturate and take NaN to 0, where C's are undefined. */
inline float __uint2float_rn(unsigned a) { return (float)a; }
inline float __int2float_rn(int a) { return (float)a; }
inline float __ull2float_rn(unsigned long long a) { return (float)a; }
inline float __ll2float_rn(long long a) { return (float)a; }
inline double __uint2double_rn(unsigned a) { return (double)a; }
inline double __int2double_rn(int a) { return (double)a; }
inline double __ull2double_rn(unsigned long long a) { return (double)a; }
inline double __ll2double_rn(long long a) { return (double)a; }
inline float __double2float_rn(double a) { return (float)a; }
inline int __float2int_rz(float a) {
  return a != a ? 0 : a >= 0x1p31f ? 0x7fffffff : a <= -0x1p31f ? (int)0x80000000 : (int)a;
}
inline int __float2int_rn(float a) { return __float2int_rz(rintf(a)); }
inline int __float2int_rd(float a) { return __float2int_rz(floorf(a)); }
inline int __float2int_ru(float a) { return __float2int_rz(ceilf(a)); }
inline unsigned __float2uint_rz(float a) { return !(a > 0.0f) ? 0u : a >= 0x1p32f ? 0xffffffffu : (unsigned)a; }
inline unsigned __float2uint_rn(float a) { return __float2uint_rz(rintf(a)); }

namespace emu {
template <class To, class From>
inline To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "bit_cast keeps the size");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}
}  // namespace emu
inline unsigned __float_as_uint(float a) { return emu::bit_cast<unsigned>(a); }
inline int __float_as_int(float a) { return emu::bit_cast<int>(a); }
inline float __uint_as_float(unsigned a) { return emu::bit_cast<float>(a); }
inline float __int_as_float(int a) { return emu::bit_cast<float>(a); }
inline long long __double_as_longlong(double a) { return emu::bit_cast<long long>(a); }
inline double __longlong_as_double(long long a) { return emu::bit_cast<double>(a); }
inline int __double2hiint(double a) { return (int)(__double_as_longlong(a) >> 32); }
inline int __double2loint(double a) { return (int)__double_as_longlong(a); }
inline double __hiloint2double(int hi, int lo) {
  return __longlong_as_double((long long)((unsigned long long)(unsigned)hi << 32 | (unsigned)lo));
}

/* Integer intrinsics, with the device's definition at zero and for shifts of 32 and more. */
inline int __clz(int a) { return a == 0 ? 32 : __builtin_clz((unsigned)a); }
inline int __clzll(long long a) { return a == 0 ? 64 : __builtin_clzll((unsigned long long)a); }
inline int __ffs(int a) { return __builtin_ffs(a); }
inline int __ffsll(long long a) { return __builtin_ffsll(a); }
inline int __popc(unsigned a) { return __builtin_popcount(a); }
inline int __popcll(unsigned long long a) { return __builtin_popcountll(a); }
inline unsigned __brev(unsigned a) {
  unsigned r = 0;
  for (int i = 0; i < 32; ++i) r |= (a >> i & 1u) << (31 - i);
  return r;
}
inline unsigned __funnelshift_l(unsigned lo, unsigned hi, unsigned shift) {
  return (unsigned)(((uint64_t)hi << 32 | lo) << (shift & 31u) >> 32);
}
inline unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned shift) {
  return (unsigned)(((uint64_t)hi << 32 | lo) >> (shift & 31u));
}
inline unsigned __funnelshift_lc(unsigned lo, unsigned hi, unsigned shift) {
  return shift >= 32 ? lo : __funnelshift_l(lo, hi, shift);
}
inline unsigned __funnelshift_rc(unsigned lo, unsigned hi, unsigned shift) {
  return shift >= 32 ? hi : __funnelshift_r(lo, hi, shift);
}
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
inline int __mulhi(int a, int b) { return (int)((int64_t)a * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  __extension__ typedef unsigned __int128 wide;
  return (unsigned long long)((wide)a * b >> 64);
}

/* min and max, as CUDA overloads them: mixed signs compare as unsigned, floats ignore one NaN. */
#define EMU_MIN_MAX(T)                                                                                                 \
  inline T min(T a, T b) { return b < a ? b : a; }                                                                     \
  inline T max(T a, T b) { return a < b ? b : a; }
EMU_MIN_MAX(int)
EMU_MIN_MAX(unsigned)
EMU_MIN_MAX(long)
EMU_MIN_MAX(unsigned long)
EMU_MIN_MAX(long long)
EMU_MIN_MAX(unsigned long long)
#undef EMU_MIN_MAX
inline unsigned min(int a, unsigned b) { return min((unsigned)a, b); }
inline unsigned min(unsigned a, int b) { return min(a, (unsigned)b); }
inline unsigned max(int a, unsigned b) { return max((unsigned)a, b); }
inline unsigned max(unsigned a, int b) { return max(a, (unsigned)b); }
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
inline double min(float a, double b) { return fmin(a, b); }
inline double min(double a, float b) { return fmin(a, b); }
inline double max(float a, double b) { return fmax(a, b); }
inline double max(double a, float b) { return fmax(a, b); }

#endif
