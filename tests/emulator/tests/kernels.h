/**
 * @file kernels.h
 * @brief Kernels of the kinds that the project writes, to test the emulator with.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef EMU_TESTS_KERNELS_H
#define EMU_TESTS_KERNELS_H

#include <cuda_pipeline.h>
#include <cuda_runtime.h>
#include <curand_kernel.h>
#include <math.h>

#include <random>
#include <vector>

/* Softmax of a row of n values, a block a row; n floats of dynamic shared memory. sums (rows): of the results. */
template <int THREADS>
__global__ void __launch_bounds__(THREADS) softmax_rows(const float *__restrict__ x, float *__restrict__ y, int n) {
  SNTK_DYNAMIC_SHARED(float, cache);
  __shared__ float part_max[THREADS / 32], part_sum[THREADS / 32];
  const int t = threadIdx.x;
  const float *row = x + (size_t)blockIdx.x * n;
  float m = -INFINITY, s = 0.0f;
  for (int i = t; i < n; i += THREADS) {
    const float v = row[i];
    cache[i] = v;
    const float larger = fmaxf(m, v);
    s = (m == larger ? s : s * __expf(m - larger)) + __expf(v - larger);
    m = larger;
  }
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) {
    const float other_m = __shfl_xor_sync(0xffffffffu, m, offset), other_s = __shfl_xor_sync(0xffffffffu, s, offset);
    const float larger = fmaxf(m, other_m);
    s = (m == larger ? s : s * __expf(m - larger)) + (other_m == larger ? other_s : other_s * __expf(other_m - larger));
    m = larger;
  }
  if ((t & 31) == 0) {
    part_max[t >> 5] = m;
    part_sum[t >> 5] = s;
  }
  __syncthreads();
  m = part_max[0];
  s = part_sum[0];
#pragma unroll
  for (int w = 1; w < THREADS / 32; ++w) {
    const float larger = fmaxf(m, part_max[w]);
    s = s * __expf(m - larger) + part_sum[w] * __expf(part_max[w] - larger);
    m = larger;
  }
  for (int i = t; i < n; i += THREADS) y[(size_t)blockIdx.x * n + i] = __expf(cache[i] - m) / s;
}

/* Z = X W, X (M, K), W (K, N), tiles of 64 x 64 in registers of 4 x 4; sums (N / 64, M) of exp(Z) over each tile's
 * columns. Loads are 16 bytes wide. */
inline __global__ void __launch_bounds__(256, 2) product_exp(const float *__restrict__ X, const float *__restrict__ W,
                                                             float *__restrict__ sums, int M, int N, int K) {
  constexpr int T = 64, BK = 16;
  __shared__ __align__(16) float Xs[BK][T];
  __shared__ __align__(16) float Ws[BK][T];
  const int tx = threadIdx.x, ty = threadIdx.y, t = ty * 16 + tx;
  const int r0 = blockIdx.y * T, c0 = blockIdx.x * T;
  float acc[4][4] = {};
  for (int k0 = 0; k0 < K; k0 += BK) {
    {
      const int r = t >> 2, k = (t & 3) * 4;
      const float4 v = *reinterpret_cast<const float4 *>(X + (size_t)(r0 + r) * K + k0 + k);
      Xs[k][r] = v.x;
      Xs[k + 1][r] = v.y;
      Xs[k + 2][r] = v.z;
      Xs[k + 3][r] = v.w;
    }
    {
      const int k = t >> 4, c = (t & 15) * 4;
      *reinterpret_cast<float4 *>(&Ws[k][c]) =
          __ldg(reinterpret_cast<const float4 *>(W + (size_t)(k0 + k) * N + c0 + c));
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < BK; ++k) {
      const float4 a = *reinterpret_cast<const float4 *>(&Xs[k][ty * 4]);
      const float4 b = *reinterpret_cast<const float4 *>(&Ws[k][tx * 4]);
      const float av[4] = {a.x, a.y, a.z, a.w}, bv[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) acc[i][j] = fmaf(av[i], bv[j], acc[i][j]);
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    float e = 0.0f;
#pragma unroll
    for (int j = 0; j < 4; ++j) e += expf(acc[i][j]);
    for (int offset = 8; offset > 0; offset >>= 1) e += __shfl_xor_sync(0xffffffffu, e, offset, 16);
    if (tx == 0) sums[(size_t)blockIdx.x * M + r0 + ty * 4 + i] = e;
  }
}

/* y = 2 x through a double buffer filled by asynchronous copies; 128 threads, tiles of 512 floats. */
inline __global__ void double_buffer(const float *__restrict__ x, float *__restrict__ y, int tiles) {
  __shared__ __align__(16) float buffer[2][512];
  const int t = threadIdx.x;
  __pipeline_memcpy_async(&buffer[0][t * 4], x + t * 4, 16);
  __pipeline_commit();
  for (int i = 0; i < tiles; ++i) {
    if (i + 1 < tiles) {
      __pipeline_memcpy_async(&buffer[(i + 1) & 1][t * 4], x + (size_t)(i + 1) * 512 + t * 4, 16);
      __pipeline_commit();
      __pipeline_wait_prior(1);
    } else {
      __pipeline_wait_prior(0);
    }
    __syncthreads();
    const int u = (t + 37) & 127; /* what another thread copied */
    for (int k = 0; k < 4; ++k) y[(size_t)i * 512 + u * 4 + k] = 2.0f * buffer[i & 1][u * 4 + k];
    __syncthreads();
  }
}

/* Uniform in [-1, 1), always the same for a seed. */
static inline std::vector<float> random_floats(size_t n, unsigned seed) {
  std::mt19937 generator(seed);
  std::vector<float> v(n);
  for (float &f : v) f = (float)(generator() >> 8) * 0x1p-23f - 1.0f;
  return v;
}

template <class T>
static inline T *device_copy(const std::vector<T> &v) {
  T *p = nullptr;
  if (cudaMalloc(&p, v.size() * sizeof(T)) != cudaSuccess) abort();
  if (cudaMemcpy(p, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice) != cudaSuccess) abort();
  return p;
}

template <class T>
static inline std::vector<T> host_copy(const T *p, size_t n) {
  std::vector<T> v(n);
  if (cudaMemcpy(v.data(), p, n * sizeof(T), cudaMemcpyDeviceToHost) != cudaSuccess) abort();
  return v;
}

#endif
