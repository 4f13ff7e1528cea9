/**
 * @file init.cu
 * @brief Random weights and signs: words from cuRAND's device API, normals from the header shared with the host, so the
 * same bits everywhere.
 *
 * Weight (k, q) is normal k + d q of stream WEIGHTS, sign (l, q) the top bit of word l + p q of stream SIGNS, q the
 * neuron's or pair's number. A thread makes four consecutive normals (one Philox block) and scatters them: a column's
 * numbers are contiguous in the stream, a row's in memory.
 *
 * SPDX-License-Identifier: MIT
 */
#include <curand_kernel.h>

#include "core/normal.h"
#include "device.cuh"
#include "kernels.cuh"
#include "softntk/rng.h"

namespace {

constexpr int THREADS = 256;

/* The four words of a block of the stream. */
__device__ __forceinline__ uint4 philox_block(uint64_t seed, uint64_t stream, uint64_t block) {
  curandStatePhilox4_32_10_t state;
  curand_init(seed, stream, block * 4, &state);
  return curand4(&state);
}

/* Writes normal `index` = k + d q into the columns that number q belongs to. */
template <class R>
__device__ __forceinline__ void place(float normal, int64_t index, float sigma, bool halved, int64_t first,
                                      int64_t count, int64_t dim, R *base, int64_t ld) {
  const int64_t q = index / dim, k = index % dim;
  const R weight = static_cast<R>(sntk_f_mul(sigma, normal));
  for (int64_t r = halved ? 2 * q : q; r <= (halved ? 2 * q + 1 : q); r++)
    if (r >= first && r < first + count) base[k * ld + r - first] = weight;
}

template <class R>
__global__ void __launch_bounds__(THREADS) weights_kernel(uint64_t seed, float sigma, bool halved, int64_t first,
                                                          int64_t count, int64_t dim, R *base, int64_t ld) {
  const int64_t q0 = halved ? first / 2 : first, q1 = halved ? (first + count - 1) / 2 : first + count - 1;
  const int64_t block0 = dim * q0 / 4, block1 = (dim * (q1 + 1) + 3) / 4;
  for (int64_t block = block0 + static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x; block < block1;
       block += static_cast<int64_t>(gridDim.x) * THREADS) {
    const uint4 words = philox_block(seed, SNTK_STREAM_WEIGHTS, static_cast<uint64_t>(block));
    float normals[4];
    sntk_normal_pair(words.x, words.y, &normals[0], &normals[1]);
    sntk_normal_pair(words.z, words.w, &normals[2], &normals[3]);
#pragma unroll
    for (int e = 0; e < 4; e++) place(normals[e], 4 * block + e, sigma, halved, first, count, dim, base, ld);
  }
}

__global__ void __launch_bounds__(THREADS)
    signs_kernel(uint64_t seed, bool halved, int64_t first, int64_t count, int64_t outputs, int8_t *signs, int64_t ld) {
  for (int64_t at = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x; at < outputs * count;
       at += static_cast<int64_t>(gridDim.x) * THREADS) {
    const int64_t l = at / count, r = first + at % count, q = halved ? r / 2 : r;
    const uint64_t index = static_cast<uint64_t>(l + outputs * q);
    const uint4 words = philox_block(seed, SNTK_STREAM_SIGNS, index / 4);
    const uint32_t word = index % 4 == 0 ? words.x : index % 4 == 1 ? words.y : index % 4 == 2 ? words.z : words.w;
    const int flip = halved && r % 2 ? -1 : 1;
    signs[l * ld + at % count] = static_cast<int8_t>(word >> 31 ? -flip : flip);
  }
}

bool halved(const sntk_source &source, const sntk_neurons &v) {
  return source.symmetric && v.layout != SNTK_LAYOUT_PAIRED;
}

}  // namespace

cudaError_t launch_random_weights(cudaStream_t stream, const sntk_source &source, int64_t first,
                                  const sntk_neurons &v) {
  const dim3 blocks(blocks_for(v.dim * v.count / 4 + 1, THREADS));
  const float sigma = static_cast<float>(source.sigma);
  if (v.type == SNTK_F32)
    return launch(weights_kernel<float>, blocks, dim3(THREADS), 0, stream, source.seed, sigma, halved(source, v), first,
                  v.count, v.dim, static_cast<float *>(v.base), v.ld);
  return launch(weights_kernel<double>, blocks, dim3(THREADS), 0, stream, source.seed, sigma, halved(source, v), first,
                v.count, v.dim, static_cast<double *>(v.base), v.ld);
}

cudaError_t launch_random_signs(cudaStream_t stream, const sntk_source &source, int64_t first, const sntk_neurons &v) {
  return launch(signs_kernel, dim3(blocks_for(v.outputs * v.count, THREADS)), dim3(THREADS), 0, stream, source.seed,
                halved(source, v), first, v.count, v.outputs, v.signs, v.ld_signs);
}
