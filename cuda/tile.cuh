/**
 * @file tile.cuh
 * @brief The register-tiled product that both fused passes are built on.
 *
 * A block of 128 threads, 16 (ty) x 8 (tx), multiplies a tile of samples (TS = 16 TI rows, dp columns) with a tile of
 * neurons (dp rows, TN = 8 TJ columns). A thread holds TI x TJ accumulators: rows ty + 16 i, columns in vectors of 16
 * bytes that are 8 vectors apart. Per 4 values of k (float, 8 x 8): 16 loads of 16 bytes for 256 fused multiply-adds.
 *
 * The tile of samples lies by vectors: values k .. k + V - 1 of row i at (k / V) vector_step(TS) + i V. So every load
 * of the product is at a constant distance from one of two pointers (no address arithmetic), and neighbouring ty are in
 * different banks. Lanes are numbered so that lanes n and n ^ 1 read the same neurons, n and n ^ 2 the same samples: a
 * 16-byte load of a warp then takes two passes over shared memory, not four, where the device merges equal addresses.
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

/* Place of a thread in the tile: bit 0 is ty's, bits 1 to 3 are tx, the others ty's again. */
static __device__ __forceinline__ int tile_x(int thread) { return thread / 2 % TILE_X; }
static __device__ __forceinline__ int tile_y(int thread) { return thread % 2 + thread / (2 * TILE_X) * 2; }

/* Distance of the vectors of a row, in a tile by vectors with `gap` rows of padding: 1 where neighbouring threads write
 * the vectors of a row, 2 where they write two rows and four vectors (see tile_x): each puts the 8 threads of a phase
 * into different banks. */
template <class R>
static __host__ __device__ constexpr int vector_step(int rows, int gap) {
  return (rows + gap) * vec16<R>::count;
}
constexpr int GAP_COPY = 1, GAP_TILE = 2;

/* Bytes of shared memory that let two blocks share a multiprocessor, of those that one block may ask for: the system
 * takes 1 KiB a block. */
static inline int64_t shared_for_two(int shared_bytes) { return (shared_bytes - 1024) / 2; }

/* Column of accumulator j of thread tx. */
template <class R>
static __device__ __forceinline__ int tile_column(int tx, int j) {
  constexpr int V = vec16<R>::count;
  return j / V * (TILE_X * V) + tx * V + j % V;
}

/* acc[i][j] += sum_k x(row i, k) w(k, column j); x: TS x dp by vectors, w: dp x TN; dp a multiple of the vector, at
 * least one. */
template <class R, int TI, int TJ>
static __device__ __forceinline__ void tile_product(const R *x, const R *w, int dp, int ty, int tx, R acc[TI][TJ]) {
  constexpr int V = vec16<R>::count, TN = TILE_X * TJ;
  const R *rows = x + ty * V;
  const R *cols = w + tx * V;
  int left = dp;
#pragma unroll 2
  do {
    R xv[TI][V];
#pragma unroll
    for (int i = 0; i < TI; i++) load16(rows + i * TILE_Y * V, xv[i]);
#pragma unroll
    for (int e = 0; e < V; e++) {
      R wv[TJ];
#pragma unroll
      for (int j = 0; j < TJ; j += V) load16(cols + e * TN + j * TILE_X, wv + j);
#pragma unroll
      for (int i = 0; i < TI; i++)
#pragma unroll
        for (int j = 0; j < TJ; j++) acc[i][j] = fused(xv[i][e], wv[j], acc[i][j]);
    }
    rows += vector_step<R>(TILE_Y * TI, GAP_COPY);
    cols += V * TN;
    left -= V;
  } while (left > 0);
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
static __device__ __forceinline__ void load_signs(R *to, int pp, const int8_t *signs, int64_t ld, int p, int64_t first,
                                                  int64_t count, int thread) {
  static_assert(TILE_THREADS % TN == 0, "a thread keeps its column");
  const int j = thread % TN;
  const bool inside = first + j < count;
#pragma unroll 1
  for (int l = thread / TN; l < pp; l += TILE_THREADS / TN)
    to[l * TN + j] = inside && l < p ? R(signs[l * ld + first + j]) : R(0);
}

#endif
