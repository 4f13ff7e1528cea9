/**
 * @file mma_tf32.cuh
 * @brief Float products on tensor cores: each operand split into two TensorFloat-32 parts, three products, small terms
 * first.
 *
 * a = a_hi + a_lo with 11 significant bits in each part, so a b = a_hi b_hi + (a_hi b_lo + a_lo b_hi) up to 2^-22 |a
 * b|: float accuracy at three TensorFloat-32 products (Markidis et al., IPDPSW 2018; Ootomo, Yokota, IJHPCA 2022). What
 * real tensor cores round in their sums beyond IEEE float is not modelled by the emulator, which is one reason why this
 * is asked for by an option and never chosen unasked.
 *
 * Fragments of mma.m16n8k8 (PTX ISA): lane = 4 g + t; A (16 x 8) holds (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4);
 * B (8 x 8) holds (t, g), (t + 4, g); the accumulator (16 x 8) holds (g, 2 t), (g, 2 t + 1), (g + 8, 2 t), (g + 8, 2 t
 * + 1).
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_CUDA_MMA_TF32_CUH
#define SOFTNTK_CUDA_MMA_TF32_CUH

#include "device.cuh"
#if defined(SNTK_EMULATED)
#include <mma.h> /* emu::warp_gather */
#endif

/* The nearest TensorFloat-32, ties away from zero, as a float. */
static __device__ __forceinline__ float to_tf32(float x) {
#if defined(__CUDA_ARCH__)
#if __CUDA_ARCH__ >= 800
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return __uint_as_float(bits);
#else
  return x; /* never launched there */
#endif
#else
  return __uint_as_float((__float_as_uint(x) + 0x1000u) & 0xffffe000u);
#endif
}

/* d += a b for one m16n8k8 tile. The whole warp takes part. */
static __device__ __forceinline__ void mma_tf32(float d[4], const float a[4], const float b[2]) {
#if defined(__CUDA_ARCH__)
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])), "r"(__float_as_uint(a[3])),
        "r"(__float_as_uint(b[0])), "r"(__float_as_uint(b[1])));
#endif
#elif defined(SNTK_EMULATED)
  /* The same product from all lanes' fragments: products exact, sums in float. */
  const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
  float all_a[32][4], all_b[32][2];
  emu::warp_gather("mma.sync", a, sizeof all_a[0], all_a, {__FILE__, __LINE__});
  emu::warp_gather("mma.sync", b, sizeof all_b[0], all_b, {__FILE__, __LINE__});
  for (int k = 0; k < 8; k++)
    for (int e = 0; e < 4; e++) /* rows g and g + 8, columns 2 t and 2 t + 1 */
      d[e] = fmaf(all_a[4 * g + k % 4][k / 4 * 2 + e / 2], all_b[4 * (2 * t + e % 2) + k % 4][k / 4], d[e]);
#else
  (void)d, (void)a, (void)b; /* the host side of nvcc never runs it */
#endif
}

/* hi[i] + lo[i] = x[i] up to 2^-22 |x[i]|. */
template <int N>
static __device__ __forceinline__ void split_tf32(const float x[N], float hi[N], float lo[N]) {
#pragma unroll
  for (int i = 0; i < N; i++) {
    hi[i] = to_tf32(x[i]);
    lo[i] = to_tf32(x[i] - hi[i]);
  }
}

/* d += (a_hi + a_lo) (b_hi + b_lo) without the last term, small ones first. */
static __device__ __forceinline__ void mma_3xtf32(float d[4], const float a_hi[4], const float a_lo[4],
                                                  const float b_hi[2], const float b_lo[2]) {
  mma_tf32(d, a_lo, b_hi);
  mma_tf32(d, a_hi, b_lo);
  mma_tf32(d, a_hi, b_hi);
}

#endif
