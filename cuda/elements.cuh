/**
 * @file elements.cuh
 * @brief What the fused passes do to one logit, one update and one block's sums, whatever tiles the logits come from.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_CUDA_ELEMENTS_CUH
#define SOFTNTK_CUDA_ELEMENTS_CUH

#include "device.cuh"
#include "kernels.cuh"

/* Below any logit, with room for its product with log2 e: where a thread has seen only columns beyond the end, exp(-inf
 * - lowest) must be 0 and not NaN. */
template <class R>
static __device__ __forceinline__ R lowest() {
  return R(-1e38);
}

/* The change of relu from z to z + d, and the difference of two neurons of a pair, without cancellation where both
 * sides are positive. A NaN passes through. */
template <class R>
static __device__ __forceinline__ R relu(R z) {
  return z < R(0) ? R(0) : z;
}
template <class R>
static __device__ __forceinline__ R relu_change(R z, R d) {
  return z > R(0) && z + d > R(0) ? d : relu(z + d) - relu(z);
}
template <class R>
static __device__ __forceinline__ R relu_difference(R z, R d1, R d2) {
  return z + d1 > R(0) && z + d2 > R(0) ? d1 - d2 : relu(z + d1) - relu(z + d2);
}

/* What one column adds: phi to the signed sums, part to the plain sum. a: logits of the base or weights and of the
 * shifts. */
template <class R, int LAYOUT, int ACT>
static __device__ __forceinline__ void contribution(const R *a, R shift, R *phi, R *part) {
  if (LAYOUT == SNTK_LAYOUT_PLAIN) {
    *phi = ACT == SNTK_RELU ? relu(a[0]) : exp_minus(a[0], shift);
    *part = *phi;
  } else if (ACT == SNTK_RELU) {
    *phi = LAYOUT == SNTK_LAYOUT_DISPLACED ? relu_change(a[0], a[1]) : relu_difference(a[0], a[1], a[2]);
    *part = R(0);
  } else {
    const R e = exp_minus(a[0], shift), e1 = expm1_short(a[1]);
    if (LAYOUT == SNTK_LAYOUT_DISPLACED) {
      *phi = e * e1;
      *part = *phi;
    } else {
      const R e2 = expm1_short(a[2]);
      *phi = e * (e1 - e2);
      *part = e * (e1 + e2);
    }
  }
}

/* check plus 2^-24 times the sizes of a tile's elements (rows x cols in shared memory), dealt to THREADS: scaled, so
 * that the sum over a chunk overflows for numbers that are not finite alone. A logit of -inf would vanish without a
 * trace in exp and relu. */
template <int THREADS, class R>
static __device__ __forceinline__ R add_sizes(const R *tile, int ld, int rows, int cols, R check) {
#pragma unroll 1
  for (int at = threadIdx.x; at < rows * cols; at += THREADS)
    check = fused(fabs(tile[at / cols * ld + at % cols]), R(0x1p-24), check);
  return check;
}

/* Where the threads' sums of sizes, of a chunk's weights and of a tile's inputs, all stay below, no logit overflows:
 * |x . w| <= max |x_k| sum_k |w_k|, a sum over at most all threads. */
template <class R>
static __device__ __forceinline__ constexpr R large() {
  return sizeof(R) == sizeof(float) ? R(0x1p34) : R(0x1p476);
}

/* What the block's rows report for their largest shift at least, from the threads' sums of sizes: infinity where a
 * number is not finite, LOOK_CLOSER where a logit may have overflowed. */
template <class R>
static __device__ __forceinline__ double least_shift(R check) {
  const bool is_large = __syncthreads_or(!(check < large<R>()));
  const bool is_bad = __syncthreads_or(!(check < R(INFINITY)));
  return is_bad ? static_cast<double>(INFINITY) : is_large ? LOOK_CLOSER : 0.0;
}

/* exp(z - max), exp(z) or [z > 0]: what multiplies r A - c in G. */
template <class R, int ACT>
static __device__ __forceinline__ R slope_of(R z, R shift) {
  return ACT == SNTK_RELU ? (z > R(0) ? R(1) : R(0)) : exp_minus(z, shift);
}

/* *w -= eta g as stored; adds |update|^2 and |stored - update|^2. The update is taken in float64, so that one below the
 * type's smallest number still counts as lost. */
template <class R>
static __device__ __forceinline__ void descend_one(double eta, R g, R *w, double *square, double *lost) {
  const double update = -eta * static_cast<double>(g);
  const R before = *w, after = before + static_cast<R>(update);
  *w = after;
  const double miss = (static_cast<double>(after) - static_cast<double>(before)) - update;
  *square += update * update;
  *lost += miss * miss;
}

/* Sum over a block of THREADS of a pair, in a fixed order; thread 0 writes. scratch: 2 THREADS / 32 doubles of shared
 * memory. */
template <int THREADS>
static __device__ __forceinline__ void store_block_pair(double a, double b, double *scratch, double *to) {
  const int thread = threadIdx.x;
#pragma unroll
  for (int o = 16; o > 0; o /= 2) {
    a += __shfl_xor_sync(0xffffffffu, a, o);
    b += __shfl_xor_sync(0xffffffffu, b, o);
  }
  __syncthreads();
  if (thread % 32 == 0) {
    scratch[2 * (thread / 32)] = a;
    scratch[2 * (thread / 32) + 1] = b;
  }
  __syncthreads();
  if (thread == 0) {
    a = b = 0.0;
    for (int w = 0; w < THREADS / 32; w++) {
      a += scratch[2 * w];
      b += scratch[2 * w + 1];
    }
    to[0] = a;
    to[1] = b;
  }
}

/* Sum and maximum over the WIDTH lanes that share a row: neighbours, or FIRST apart. */
template <int WIDTH, int FIRST = 1, class R>
static __device__ __forceinline__ R lanes_sum(R v) {
#pragma unroll
  for (int o = FIRST; o < WIDTH * FIRST; o *= 2) v += __shfl_xor_sync(0xffffffffu, v, o);
  return v;
}
template <int WIDTH, int FIRST = 1, class R>
static __device__ __forceinline__ R lanes_max(R v) {
#pragma unroll
  for (int o = FIRST; o < WIDTH * FIRST; o *= 2) v = larger(v, __shfl_xor_sync(0xffffffffu, v, o));
  return v;
}

/* Where X^T G of a tile goes, the last part of a fused gradient. */
struct gradient_target {
  void *out[2]; /* partial gradients of splits, gradients, or the weights that descend */
  int64_t ld, count, dim;
  bool partial; /* out[0] holds splits x halves x dim x count */
  bool descend; /* out += -eta g, else out = g */
  double eta;
  double *norms; /* a pair for each block, descend only */
};

/* g: dim x cols of shared memory (ld), columns of the second halves behind those of the first; the tile's first column
 * is `column0`. */
template <class R, int THREADS>
static __device__ __forceinline__ void store_gradient(const gradient_target &to, const R *g, int ld, int tile_columns,
                                                      int halves, int64_t column0, int64_t split, double *scratch) {
  double square = 0.0, lost = 0.0;
  const int cols = tile_columns * halves;
  for (int64_t at = threadIdx.x; at < to.dim * cols; at += THREADS) {
    const int64_t k = at / cols;
    const int c = static_cast<int>(at % cols), h = c / tile_columns;
    const int64_t column = column0 + c % tile_columns;
    if (column >= to.count) continue;
    const R value = g[k * ld + c];
    if (to.partial)
      static_cast<R *>(to.out[0])[((split * halves + h) * to.dim + k) * to.count + column] = value;
    else if (to.descend)
      descend_one(to.eta, value, static_cast<R *>(to.out[h]) + k * to.ld + column, &square, &lost);
    else
      static_cast<R *>(to.out[h])[k * to.ld + column] = value;
  }
  if (to.descend && !to.partial)
    store_block_pair<THREADS>(square, lost, scratch, to.norms + 2 * static_cast<int64_t>(blockIdx.x));
}

#endif
