/**
 * @file kernels.c
 * @brief The fused passes for one instruction set, SNTK_ISA: one source for all.
 *
 * Vectors are the compiler's vector extension; tiles are as many registers as the instruction set has. What the
 * extension lacks is defined here, first by intrinsics, else by operators.
 *
 * SPDX-License-Identifier: MIT
 */
#include "backends/cpu/kernels.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#define SNTK_JOIN_(a, b) a##b
#define SNTK_JOIN(a, b) SNTK_JOIN_(a, b)
#define SNTK_TEXT_(a) #a
#define SNTK_TEXT(a) SNTK_TEXT_(a)

/* Rows and vectors of a register tile: NS x NV sums, NV operands and a broadcast fit 32 registers of AVX-512, and with
 * NV = 2 the 16 of others. */
#if defined(__AVX512F__) && defined(__AVX512DQ__)
#include <immintrin.h>
enum { VECTOR_BYTES = 64, NV = 4 };
#elif defined(__AVX2__)
#include <immintrin.h>
enum { VECTOR_BYTES = 32, NV = 2 };
#else
enum { VECTOR_BYTES = 16, NV = 2 };
#endif
enum { NS = 6 };

typedef float v_f32 __attribute__((vector_size(VECTOR_BYTES)));
typedef int32_t i_f32 __attribute__((vector_size(VECTOR_BYTES)));
typedef double v_f64 __attribute__((vector_size(VECTOR_BYTES)));
typedef int64_t i_f64 __attribute__((vector_size(VECTOR_BYTES)));
typedef uint32_t u_f32 __attribute__((vector_size(VECTOR_BYTES)));
typedef uint64_t u_f64 __attribute__((vector_size(VECTOR_BYTES)));
typedef v_f32 memory_f32 __attribute__((may_alias)); /* numbers in memory, read as vectors */
typedef v_f64 memory_f64 __attribute__((may_alias));

/* larger, smaller: the second operand where either is NaN. positive(x, a, b): a where x > 0, else b. any_above(a, b):
 * is a > b in some lane? scale(q, shifted, n): q 2^n, the low bits of `shifted` being n. */
#if defined(__AVX512F__) && defined(__AVX512DQ__)
static inline v_f32 larger_f32(v_f32 a, v_f32 b) { return (v_f32)_mm512_max_ps((__m512)a, (__m512)b); }
static inline v_f64 larger_f64(v_f64 a, v_f64 b) { return (v_f64)_mm512_max_pd((__m512d)a, (__m512d)b); }
static inline v_f32 smaller_f32(v_f32 a, v_f32 b) { return (v_f32)_mm512_min_ps((__m512)a, (__m512)b); }
static inline v_f64 smaller_f64(v_f64 a, v_f64 b) { return (v_f64)_mm512_min_pd((__m512d)a, (__m512d)b); }
static inline v_f32 positive_f32(v_f32 x, v_f32 a, v_f32 b) {
  return (v_f32)_mm512_mask_blend_ps(_mm512_cmp_ps_mask((__m512)x, _mm512_setzero_ps(), _CMP_GT_OQ), (__m512)b,
                                     (__m512)a);
}
static inline v_f64 positive_f64(v_f64 x, v_f64 a, v_f64 b) {
  return (v_f64)_mm512_mask_blend_pd(_mm512_cmp_pd_mask((__m512d)x, _mm512_setzero_pd(), _CMP_GT_OQ), (__m512d)b,
                                     (__m512d)a);
}
static inline bool any_above_f32(v_f32 a, v_f32 b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GT_OQ) != 0; }
static inline bool any_above_f64(v_f64 a, v_f64 b) {
  return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_GT_OQ) != 0;
}
static inline v_f32 scale_f32(v_f32 q, v_f32 shifted, v_f32 n) {
  (void)shifted;
  return (v_f32)_mm512_scalef_ps((__m512)q, (__m512)n);
}
static inline v_f64 scale_f64(v_f64 q, v_f64 shifted, v_f64 n) {
  (void)shifted;
  return (v_f64)_mm512_scalef_pd((__m512d)q, (__m512d)n);
}
#else
#if defined(__AVX2__)
static inline v_f32 larger_f32(v_f32 a, v_f32 b) { return (v_f32)_mm256_max_ps((__m256)a, (__m256)b); }
static inline v_f64 larger_f64(v_f64 a, v_f64 b) { return (v_f64)_mm256_max_pd((__m256d)a, (__m256d)b); }
static inline v_f32 smaller_f32(v_f32 a, v_f32 b) { return (v_f32)_mm256_min_ps((__m256)a, (__m256)b); }
static inline v_f64 smaller_f64(v_f64 a, v_f64 b) { return (v_f64)_mm256_min_pd((__m256d)a, (__m256d)b); }
static inline bool any_above_f32(v_f32 a, v_f32 b) { return _mm256_movemask_ps((__m256)(a > b)) != 0; }
static inline bool any_above_f64(v_f64 a, v_f64 b) { return _mm256_movemask_pd((__m256d)(a > b)) != 0; }
#else
static inline v_f32 choose_f32(i_f32 which, v_f32 a, v_f32 b) {
  return (v_f32)((which & (i_f32)a) | (~which & (i_f32)b));
}
static inline v_f64 choose_f64(i_f64 which, v_f64 a, v_f64 b) {
  return (v_f64)((which & (i_f64)a) | (~which & (i_f64)b));
}
static inline v_f32 larger_f32(v_f32 a, v_f32 b) { return choose_f32(a > b, a, b); }
static inline v_f64 larger_f64(v_f64 a, v_f64 b) { return choose_f64(a > b, a, b); }
static inline v_f32 smaller_f32(v_f32 a, v_f32 b) { return choose_f32(a < b, a, b); }
static inline v_f64 smaller_f64(v_f64 a, v_f64 b) { return choose_f64(a < b, a, b); }
static inline bool any_above_f32(v_f32 a, v_f32 b) {
  const i_f64 both = (i_f64)(a > b);
  return (both[0] | both[1]) != 0;
}
static inline bool any_above_f64(v_f64 a, v_f64 b) {
  const i_f64 both = a > b;
  return (both[0] | both[1]) != 0;
}
#endif
static inline v_f32 positive_f32(v_f32 x, v_f32 a, v_f32 b) {
  const i_f32 which = x > 0;
  return (v_f32)((which & (i_f32)a) | (~which & (i_f32)b));
}
static inline v_f64 positive_f64(v_f64 x, v_f64 a, v_f64 b) {
  const i_f64 which = x > 0;
  return (v_f64)((which & (i_f64)a) | (~which & (i_f64)b));
}
static inline v_f32 scale_f32(v_f32 q, v_f32 shifted, v_f32 n) {
  (void)n;
  return (v_f32)((u_f32)q + ((u_f32)shifted << 23));
}
static inline v_f64 scale_f64(v_f64 q, v_f64 shifted, v_f64 n) {
  (void)n;
  return (v_f64)((u_f64)q + ((u_f64)shifted << 52));
}
#endif

/* What exp's argument is clamped to. Above: the result is not finite. Below: AVX-512 scales into subnormal numbers and
 * to zero; the others add to the exponent, down to 2^-127 2^0, whose bits are zero: -127 ln 2 and -1023 ln 2, rounded
 * up. */
#if defined(__AVX512F__) && defined(__AVX512DQ__)
#define EXP_LOWEST_f32 (-120.0f)
#define EXP_LOWEST_f64 (-800.0)
#else
#define EXP_LOWEST_f32 (-0x1.601e66p+6f)
#define EXP_LOWEST_f64 (-0x1.628b76e3a7b5ep+9)
#endif
enum { EXP_TERMS_f32 = 5, TENTH_TERMS_f32 = 4, ONE_TERMS_f32 = 8 };
#define EXP_HIGHEST_f32 89.0f
#define LOG2E_f32 0x1.715476p+0f
#define SHIFT_f32 0x1.8p23f
#define LN2_HIGH_f32 0x1.62e400p-1f
#define LN2_LOW_f32 0x1.7f7d1cp-20f
#define LARGEST_f32 FLT_MAX
static const float exp_terms_f32[] = {0x1.6a23cap-10f, 0x1.123a2p-7f, 0x1.5558f2p-5f, 0x1.555492p-3f, 0x1.fffffcp-2f};
static const float tenth_terms_f32[] = {0x1.1114dap-7f, 0x1.55799cp-5f, 0x1.555556p-3f, 0x1.fffffep-2f};
static const float one_terms_f32[] = {0x1.720bap-19f, 0x1.aa5868p-16f, 0x1.a03c7ep-13f, 0x1.6bf91ap-10f,
                                      0x1.1110a4p-7f, 0x1.555594p-5f,  0x1.555556p-3f,  0x1p-1f};

enum { EXP_TERMS_f64 = 10, TENTH_TERMS_f64 = 8, ONE_TERMS_f64 = 14 };
#define EXP_HIGHEST_f64 710.0
#define LOG2E_f64 0x1.71547652b82fep+0
#define SHIFT_f64 0x1.8p52
#define LN2_HIGH_f64 0x1.62e42fefa0000p-1
#define LN2_LOW_f64 0x1.cf79abc9e3b3ap-40
#define LARGEST_f64 DBL_MAX
static const double exp_terms_f64[] = {
    0x1.ad7f3b22740dcp-26, 0x1.28ad9b7868661p-22, 0x1.71df25b516d4cp-19, 0x1.a01999e274b14p-16, 0x1.a01a012a0e7e8p-13,
    0x1.6c16c18438a89p-10, 0x1.1111111127d10p-7,  0x1.555555555083fp-5,  0x1.55555555554f9p-3,  0x1.000000000000ap-1};
static const double tenth_terms_f64[] = {0x1.71df520d7819ep-19, 0x1.a03498e7aefddp-16, 0x1.a01a0278a8b77p-13,
                                         0x1.6c16c0a0612edp-10, 0x1.111111110a08bp-7,  0x1.5555555559d6ep-5,
                                         0x1.5555555555559p-3,  0x1.ffffffffffffep-2};
static const double one_terms_f64[] = {
    0x1.ae89a5f2ed997p-41, 0x1.99db22e848090p-37, 0x1.612fe6afa85f1p-33, 0x1.1ee44c0cac750p-29, 0x1.ae642ccf48a38p-26,
    0x1.27e5095500169p-22, 0x1.71de3a93f2678p-19, 0x1.a01a018a08943p-16, 0x1.a01a019fbffd8p-13, 0x1.6c16c16c2891ep-10,
    0x1.11111111114b8p-7,  0x1.555555555548fp-5,  0x1.5555555555552p-3,  0x1.0000000000000p-1};

/* Vectors of float64 for what a step adds up, from REAL in memory. */
enum { DL = VECTOR_BYTES / (int)sizeof(double) };
typedef float half_f32 __attribute__((vector_size(VECTOR_BYTES / 2)));
static inline v_f64 widen_f32(const float *from) {
  half_f32 x;
  memcpy(&x, from, sizeof x);
  return __builtin_convertvector(x, v_f64);
}
static inline v_f64 widen_f64(const double *from) { return *(const memory_f64 *)from; }
static inline void add_narrowed_f32(float *to, v_f64 update) {
  half_f32 x;
  memcpy(&x, to, sizeof x);
  x += __builtin_convertvector(update, half_f32);
  memcpy(to, &x, sizeof x);
}
static inline void add_narrowed_f64(double *to, v_f64 update) { *(memory_f64 *)to += update; }

#define REAL float
#define FN(name) name##_f32
#define REAL_TYPE SNTK_F32
#define VL (VECTOR_BYTES / (int)sizeof(REAL))
#define TILE (NV * VL)
#include "backends/cpu/simd.h"

#include "backends/cpu/tile.h"

#include "backends/cpu/passes.h"
#undef REAL
#undef FN
#undef REAL_TYPE

#define REAL double
#define FN(name) name##_f64
#define REAL_TYPE SNTK_F64
#include "backends/cpu/simd.h"

#include "backends/cpu/tile.h"

#include "backends/cpu/passes.h"
#undef REAL
#undef FN
#undef REAL_TYPE

/* Register tiles of 16-byte vectors are too small for products to reach the matrix library's rate. */
#if defined(__AVX512F__) || defined(__AVX2__)
#define SNTK_GRAM(suffix)                                                                                              \
  .gram_ready = gram_ready_##suffix, .gram_inputs = gram_inputs_##suffix, .gram_panel = gram_panel_##suffix,           \
  .gram_row = gram_row_##suffix, .gram_flush = gram_flush_##suffix
#else
#define SNTK_GRAM(suffix) .gram_row = NULL
#endif

#define SNTK_PASSES(suffix, type)                                                                                      \
  {                                                                                                                    \
    .tile = NV * VECTOR_BYTES / (int64_t)sizeof(type), .work_bytes = work_bytes_##suffix,                              \
    .statistics = statistics_##suffix, .gradient = gradient_##suffix, .descent = descent_##suffix,                     \
    .push = push_##suffix, .features = features_##suffix, .feature_change = feature_change_##suffix, SNTK_GRAM(suffix) \
  }

extern const sntk_cpu_kernels SNTK_JOIN(sntk_cpu_kernels_, SNTK_ISA);
const sntk_cpu_kernels SNTK_JOIN(sntk_cpu_kernels_, SNTK_ISA) = {
    .name = SNTK_TEXT(SNTK_ISA),
    .passes = {[SNTK_F32] = SNTK_PASSES(f32, float), [SNTK_F64] = SNTK_PASSES(f64, double)},
    .exp_f32 = exp_array_f32,
    .exp_f64 = exp_array_f64,
    .expm1_f32 = expm1_array_f32,
    .expm1_f64 = expm1_array_f64,
    .multiply_adds = {[SNTK_F32] = {NS * NV * VECTOR_BYTES / 4, multiply_adds_f32},
                      [SNTK_F64] = {NS * NV * VECTOR_BYTES / 8, multiply_adds_f64}}};
