/**
 * @file tile.cuh
 * @brief The register-tiled product that both fused passes are built on.
 *
 * A block of 128 threads, 16 (ty) x 8 (tx), multiplies a tile of samples (TS = 16 TI rows, row-major, dp columns) with a tile of neurons
 * (dp rows, TN = 8 TJ columns). A thread holds TI x TJ accumulators: rows ty TI + i, columns in vectors of 16 bytes that are 8 vectors apart,
 * so that the 8 threads that share a phase of a 16-byte shared-memory load read 128 contiguous bytes (neurons) or one address (samples):
 * no bank conflicts. Per 4 values of k (float, 8 x 8): 16 loads of 16 bytes for 256 fused multiply-adds.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_CUDA_TILE_CUH
#define SOFTNTK_CUDA_TILE_CUH

#include "device.cuh"

constexpr int TILE_THREADS = 128, TILE_Y = 16, TILE_X = 8;

/* Sizes of a tile: TI x TJ accumulators a thread and weight matrix (1 plain, 2 displaced, 3 paired). */
template <class R, int LAYOUT, int TI_>
struct tile_shape {
  static constexpr int matrices = LAYOUT == SNTK_LAYOUT_PLAIN ? 1 : LAYOUT == SNTK_LAYOUT_DISPLACED ? 2 : 3;
  static constexpr int halves = LAYOUT == SNTK_LAYOUT_PAIRED ? 2 : 1; /* neurons a column */
  static constexpr int V = vec16<R>::count;
  static constexpr int TI = TI_;
  static constexpr int TJ = LAYOUT == SNTK_LAYOUT_PLAIN ? 2 * V : V;
  static constexpr int TS = TILE_Y * TI;
  static constexpr int TN = TILE_X * TJ;
  static constexpr int T2 = 2 * V; /* edge of a thread's tile in the second products */
};

/* Column of accumulator j of thread tx. */
template <class R>
static __device__ __forceinline__ int tile_column(int tx, int j) {
  constexpr int V = vec16<R>::count;
  return j / V * (TILE_X * V) + tx * V + j % V;
}

/* acc[i][j] += sum_k x(row i, k) w(k, column j); x: TS x dp with x_ld, w: dp x TN; dp a multiple of the vector. */
template <class R, int TI, int TJ>
static __device__ __forceinline__ void tile_product(const R *x, int x_ld, const R *w, int dp, int ty, int tx, R acc[TI][TJ]) {
  constexpr int V = vec16<R>::count, TN = TILE_X * TJ;
  const R *rows = x + ty * TI * x_ld;
  const R *cols = w + tx * V;
#pragma unroll 2
  for (int k = 0; k < dp; k += V) {
    R xv[TI][V];
#pragma unroll
    for (int i = 0; i < TI; i++) load16(rows + i * x_ld + k, xv[i]);
#pragma unroll
    for (int e = 0; e < V; e++) {
      R wv[TJ];
#pragma unroll
      for (int j = 0; j < TJ; j += V) load16(cols + (k + e) * TN + j * TILE_X, wv + j);
#pragma unroll
      for (int i = 0; i < TI; i++)
#pragma unroll
        for (int j = 0; j < TJ; j++) acc[i][j] = fused(xv[i][e], wv[j], acc[i][j]);
    }
  }
}

template <class R, int TI, int TJ>
static __device__ __forceinline__ void tile_zero(R acc[TI][TJ]) {
#pragma unroll
  for (int i = 0; i < TI; i++)
#pragma unroll
    for (int j = 0; j < TJ; j++) acc[i][j] = R(0);
}

/* Signs of columns [first, first + TN) as reals: to (pp x TN), zero beyond p and `count`. */
template <class R, int TN>
static __device__ __forceinline__ void load_signs(R *to, int pp, const int8_t *signs, int64_t ld, int p, int64_t first, int64_t count, int thread) {
  for (int at = thread; at < pp * TN; at += TILE_THREADS) {
    const int l = at / TN, j = at % TN;
    to[at] = l < p && first + j < count ? R(signs[l * ld + first + j]) : R(0);
  }
}

#endif
