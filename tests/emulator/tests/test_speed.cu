/**
 * @file test_speed.cu
 * @brief How fast the emulator is: barriers, shuffles, a tiled product. Prints, judges nothing.
 *
 * SPDX-License-Identifier: MIT
 */
#include <chrono>

#include "check.h"
#include "kernels.h"

static __global__ void barriers(int repeats) {
  for (int i = 0; i < repeats; ++i) __syncthreads();
}

static __global__ void shuffles(int repeats, float *out) {
  float value = (float)threadIdx.x;
  for (int i = 0; i < repeats; ++i) value += __shfl_xor_sync(0xffffffffu, value, 1 + i % 16);
  if (threadIdx.x == 0) out[blockIdx.x] = value;
}

static double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

int main() {
  const int repeats = 4000, blocks = 8, threads = 256;
  float *out;
  require_success(cudaMalloc(&out, blocks * sizeof *out));
  for (int round = 0; round < 3; ++round) {
    auto start = std::chrono::steady_clock::now();
    require_success(launch(barriers, blocks, threads, 0, nullptr, repeats));
    require_success(cudaDeviceSynchronize());
    printf("%.1f M thread barriers/s", 1e-6 * repeats * blocks * threads / seconds_since(start));
    start = std::chrono::steady_clock::now();
    require_success(launch(shuffles, blocks, threads, 0, nullptr, repeats, out));
    require_success(cudaDeviceSynchronize());
    printf(", %.1f M thread shuffles/s", 1e-6 * repeats * blocks * threads / seconds_since(start));

    const int m = 256, n = 512, k = 128;
    const std::vector<float> a = random_floats((size_t)m * k, 1), b = random_floats((size_t)k * n, 2);
    float *x = device_copy(a), *w = device_copy(b), *sums;
    require_success(cudaMalloc(&sums, (size_t)(n / 64) * m * sizeof(float)));
    start = std::chrono::steady_clock::now();
    require_success(launch(product_exp, dim3(n / 64, m / 64), dim3(16, 16), 0, nullptr, x, w, sums, m, n, k));
    require_success(cudaDeviceSynchronize());
    printf(", %.2f GFLOP/s in a tiled product\n", 2e-9 * m * n * k / seconds_since(start));
    cudaFree(x);
    cudaFree(w);
    cudaFree(sums);
  }
  cudaFree(out);
  return 0;
}
