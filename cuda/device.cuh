/**
 * @file device.cuh
 * @brief What every kernel file shares: the launch, dynamic shared memory, vectors of 16 bytes, exponentials,
 * asynchronous copies.
 *
 * The kernels are C-like CUDA C++. The same sources are compiled by nvcc for real devices and by a host compiler
 * against the emulator's headers (tests/emulator), so kernels are started through cudaLaunchKernelEx and shared memory
 * is taken through a macro.
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
#define SNTK_DYNAMIC_SHARED(type, name)                                                                                \
  extern __shared__ __align__(16) unsigned char sntk_dynamic_[];                                                       \
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
static __device__ __forceinline__ void store16(double *p, const double *in) {
  *reinterpret_cast<double2 *>(p) = make_double2(in[0], in[1]);
}

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

/* exp(x - shift): one fused multiply-add folds the base change and the shift into the exponent. `shift` is already in
 * units of the base (see exp_shift): float works in powers of two, double in powers of e. */
static __device__ __forceinline__ float exp_minus(float x, float shift) {
  return exp2_fast(fmaf(x, 1.44269504f, -shift));
}
static __device__ __forceinline__ double exp_minus(double x, double shift) { return exp(x - shift); }
static __device__ __forceinline__ float exp_shift(float max) { return max * 1.44269504f; }
static __device__ __forceinline__ double exp_shift(double max) { return max; }

/* What turns exponentials of one shift into those of another; exactly 1 where they are the same. A subtraction that the
 * compiler fused with the product that made `before` (exp_shift) would see its rounding error instead of 0, and make a
 * NaN of two infinite shifts that are equal. */
static __device__ __forceinline__ float exp_rescale(float before, float shift) {
  return exp2_fast(__fsub_rn(before, shift));
}
static __device__ __forceinline__ double exp_rescale(double before, double shift) {
  return before == shift ? 1.0 : exp(before - shift);
}

/* exp(x) - 1 without cancellation for |x| up to a few units. float: x = n ln 2 + r, r + r^2 P(r) as in the cpu backend.
 */
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

/* How the vectors of a tile are dealt to the threads: a thread's first one, and the way to its next. Taken once a
 * kernel, since its divisions cost more than a copy. */
struct copy_turns {
  int row, col, step_row, step_col;
};

template <class R, int THREADS>
static __device__ __forceinline__ copy_turns deal(int cols, int thread) {
  constexpr int V = vec16<R>::count;
  const int vectors = cols / V;
  return {thread / vectors, thread % vectors * V, THREADS / vectors, THREADS % vectors * V};
}

/* The next turn; `to_cols` as dealt. */
static __device__ __forceinline__ void advance(const copy_turns &t, int to_cols, int *row, int *col) {
  *row += t.step_row;
  *col += t.step_col;
  if (*col >= to_cols) {
    *col -= to_cols;
    *row += 1;
  }
}

/* copy_async where vectors are not whole or not aligned: an element at a time. */
template <class R>
static __device__ __forceinline__ void copy_elements(R *to, int row_step, int vector_step, int to_rows, int to_cols,
                                                     const copy_turns &t, const R *from, int64_t ld, int rows,
                                                     int cols) {
  constexpr int V = vec16<R>::count;
  int row = t.row, col = t.col;
#pragma unroll 1
  while (row < to_rows) {
#pragma unroll 1
    for (int e = 0; e < V; e++) {
      R *target = to + row * row_step + col / V * vector_step + e;
      if (row < rows && col + e < cols)
        __pipeline_memcpy_async(target, from + row * ld + col + e, sizeof(R));
      else
        *target = R(0);
    }
    advance(t, to_cols, &row, &col);
  }
}

/* rows x cols elements from global `from` (ld) to a shared tile of to_rows x to_cols, by all threads of the block; what
 * lies beyond `rows` or `cols` becomes 0. In shared memory rows are row_step apart and the vectors of a row
 * vector_step. The caller commits, waits and synchronizes. */
template <class R>
static __device__ __forceinline__ void copy_async(R *to, int row_step, int vector_step, int to_rows, int to_cols,
                                                  const copy_turns &t, const R *from, int64_t ld, int64_t rows,
                                                  int64_t cols) {
  constexpr int V = vec16<R>::count;
  const int have_rows = rows < to_rows ? static_cast<int>(rows) : to_rows,
            have_cols = cols < to_cols ? static_cast<int>(cols) : to_cols;
  const uintptr_t alignment =
      reinterpret_cast<uintptr_t>(from) | static_cast<uintptr_t>(ld * static_cast<int64_t>(sizeof(R)));
  if (alignment % 16 != 0 || have_cols % V != 0) {
    copy_elements(to, row_step, vector_step, to_rows, to_cols, t, from, ld, have_rows, have_cols);
    return;
  }
  const R zeros[V] = {};
  const R *source = from + t.row * ld + t.col;
  R *target = to + t.row * row_step + t.col / V * vector_step;
  int row = t.row, col = t.col;
  if (t.step_col == 0) { /* a thread keeps its column */
    const int last = col < have_cols ? have_rows : 0;
    const int64_t source_step = t.step_row * ld;
    const int target_step = t.step_row * row_step;
#pragma unroll 1
    for (; row < last; row += t.step_row) {
      __pipeline_memcpy_async(target, source, 16);
      source += source_step;
      target += target_step;
    }
#pragma unroll 1
    for (; row < to_rows; row += t.step_row) {
      store16(target, zeros);
      target += target_step;
    }
    return;
  }
#pragma unroll 1
  while (row < to_rows) {
    target = to + row * row_step + col / V * vector_step;
    if (row < have_rows && col < have_cols)
      __pipeline_memcpy_async(target, from + row * ld + col, 16);
    else
      store16(target, zeros);
    advance(t, to_cols, &row, &col);
  }
}

/* ---- launch ---- */

template <class... P, class... A>
static inline cudaError_t launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                                 A &&...arguments) {
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
