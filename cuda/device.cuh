/**
 * @file device.cuh
 * @brief What every kernel file shares: the launch, dynamic shared memory, vectors of 16 bytes, exponentials, asynchronous copies.
 *
 * The kernels are C-like CUDA C++. The same sources are compiled by nvcc for real devices and by a host compiler against the emulator's
 * headers (tests/emulator), so kernels are started through cudaLaunchKernelEx and shared memory is taken through a macro.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_CUDA_DEVICE_CUH
#define SOFTNTK_CUDA_DEVICE_CUH

#include <cuda_pipeline.h>
#include <cuda_runtime.h>
#include <math.h>
#include <stdint.h>

#include "backends/backend.h"

#if defined(__CUDACC__)
#define SNTK_DYNAMIC_SHARED(type, name)                            \
  extern __shared__ __align__(16) unsigned char sntk_dynamic_[]; \
  type *name = reinterpret_cast<type *>(sntk_dynamic_)
#endif

/* ---- 16-byte vectors: 4 floats or 2 doubles ---- */

template <class R>
struct vec16;
template <>
struct vec16<float> {
  typedef float4 type;
  static constexpr int count = 4;
};
template <>
struct vec16<double> {
  typedef double2 type;
  static constexpr int count = 2;
};

/* out[0 .. count) = 16 bytes at p, which must be aligned. */
static __device__ __forceinline__ void load16(const float *p, float *out) {
  const float4 v = *reinterpret_cast<const float4 *>(p);
  out[0] = v.x, out[1] = v.y, out[2] = v.z, out[3] = v.w;
}
static __device__ __forceinline__ void load16(const double *p, double *out) {
  const double2 v = *reinterpret_cast<const double2 *>(p);
  out[0] = v.x, out[1] = v.y;
}
static __device__ __forceinline__ void store16(float *p, const float *in) {
  *reinterpret_cast<float4 *>(p) = make_float4(in[0], in[1], in[2], in[3]);
}
static __device__ __forceinline__ void store16(double *p, const double *in) { *reinterpret_cast<double2 *>(p) = make_double2(in[0], in[1]); }

/* ---- arithmetic that has a name on the device ---- */

static __device__ __forceinline__ float fused(float a, float b, float c) { return fmaf(a, b, c); }
static __device__ __forceinline__ double fused(double a, double b, double c) { return fma(a, b, c); }
static __device__ __forceinline__ float larger(float a, float b) { return fmaxf(a, b); }
static __device__ __forceinline__ double larger(double a, double b) { return fmax(a, b); }

/* 2^x in one instruction (ex2.approx.ftz.f32): at most 2 ulp, results below 2^-126 are 0. */
static __device__ __forceinline__ float exp2_fast(float x) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#elif defined(SNTK_EMULATED)
  return emu_ex2_approx(x);
#else
  return exp2f(x);
#endif
}

/* exp(x - shift): one fused multiply-add folds the base change and the shift into the exponent. `shift` is already in units of the base
 * (see exp_shift): float works in powers of two, double in powers of e. */
static __device__ __forceinline__ float exp_minus(float x, float shift) { return exp2_fast(fmaf(x, 1.44269504f, -shift)); }
static __device__ __forceinline__ double exp_minus(double x, double shift) { return exp(x - shift); }
static __device__ __forceinline__ float exp_shift(float max) { return max * 1.44269504f; }
static __device__ __forceinline__ double exp_shift(double max) { return max; }

/* exp(x) - 1 without cancellation for |x| up to a few units. float: x = n ln 2 + r, r + r^2 P(r) as in the cpu backend. */
static __device__ __forceinline__ float expm1_short(float x) {
  const float n = rintf(x * 1.44269504f);
  const float r = fmaf(n, -0x1.7f7d1cp-20f, fmaf(n, -0x1.62e400p-1f, x));
  float p = 0x1.a19ebap-13f;
  p = fmaf(p, r, 0x1.6d74fcp-10f);
  p = fmaf(p, r, 0x1.111092p-7f);
  p = fmaf(p, r, 0x1.5554aep-5f);
  p = fmaf(p, r, 0x1.555556p-3f);
  p = fmaf(p, r, 0.5f);
  p = fmaf(p, r * r, r);
  const float two_n = exp2_fast(n);
  return fmaf(p, two_n, two_n - 1.0f);
}
static __device__ __forceinline__ double expm1_short(double x) { return expm1(x); }

/* ---- copies into shared memory that do not stop the thread ---- */

/* rows x cols elements from global `from` (ld) to shared `to` (to_rows x to_cols, no gaps), by all threads of the block; what lies beyond `rows` or
 * `cols` becomes 0. 16 bytes at a time where everything is aligned and whole, else an element at a time. The caller commits, waits and
 * synchronizes. Rows and columns advance by steps taken once: a division for each vector would cost more than its copy. */
template <class R, int THREADS>
static __device__ __forceinline__ void copy_async(R *to, int to_rows, int to_cols, const R *from, int64_t ld, int64_t rows, int64_t cols, int thread) {
  constexpr int V = vec16<R>::count;
  const int vectors = to_cols / V;
  const int step_row = THREADS / vectors, step_col = THREADS % vectors * V;
  int row = thread / vectors, col = thread % vectors * V;
  if ((reinterpret_cast<uintptr_t>(from) | static_cast<uintptr_t>(ld * static_cast<int64_t>(sizeof(R)))) % 16 == 0 && rows >= to_rows && cols >= to_cols) {
    const R *source = from + row * ld + col;
    R *target = to + row * to_cols + col;
    const int64_t source_step = step_row * ld + step_col, source_wrap = ld - to_cols;
    const int target_step = step_row * to_cols + step_col;
#pragma unroll 1
    for (; row < to_rows; row += step_row) {
      __pipeline_memcpy_async(target, source, 16);
      source += source_step;
      target += target_step;
      col += step_col;
      if (col >= to_cols) { /* into the next row; in `to` that is where it already points */
        col -= to_cols;
        row++;
        source += source_wrap;
      }
    }
    return;
  }
#pragma unroll 1
  for (; row < to_rows; row += step_row) {
#pragma unroll 1
    for (int e = 0; e < V; e++) {
      R *target = to + row * to_cols + col + e;
      if (row < rows && col + e < cols)
        __pipeline_memcpy_async(target, from + row * ld + col + e, sizeof(R));
      else
        *target = R(0);
    }
    col += step_col;
    if (col >= to_cols) {
      col -= to_cols;
      row++;
    }
  }
}

/* ---- launch ---- */

template <class... P, class... A>
static inline cudaError_t launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream, A &&...arguments) {
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, static_cast<P>(arguments)...);
}

/* Blocks of `threads` that cover `items`; kernels stride over the grid where a dimension would be exceeded. */
static inline unsigned blocks_for(int64_t items, int threads) {
  const int64_t blocks = (items + threads - 1) / threads;
  return static_cast<unsigned>(blocks < 1 ? 1 : blocks > 1 << 20 ? 1 << 20 : blocks);
}

#endif
