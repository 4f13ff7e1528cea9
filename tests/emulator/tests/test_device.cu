/**
 * @file test_device.cu
 * @brief Kernels give the right answers under every order of threads and blocks.
 *
 * SPDX-License-Identifier: MIT
 */
#include <mma.h>

#include <cmath>
#include <set>

#include "check.h"
#include "kernels.h"

static constexpr double eps = 0x1p-24;

static void test_softmax() {
  const int rows = 7, n = 333;
  const std::vector<float> x = random_floats((size_t)rows * n, 11);
  float *dx = device_copy(x), *dy;
  require_success(cudaMalloc(&dy, x.size() * sizeof(float)));
  require_success(launch(softmax_rows<96>, rows, 96, n * sizeof(float), nullptr, dx, dy, n));
  const std::vector<float> y = host_copy(dy, x.size());
  double worst = 0;
  for (int r = 0; r < rows; ++r) {
    double sum = 0, largest = -1;
    for (int i = 0; i < n; ++i) largest = std::fmax(largest, x[(size_t)r * n + i]);
    for (int i = 0; i < n; ++i) sum += std::exp((double)x[(size_t)r * n + i] - largest);
    for (int i = 0; i < n; ++i) {
      const double want = std::exp((double)x[(size_t)r * n + i] - largest) / sum;
      worst = std::fmax(worst, std::fabs(y[(size_t)r * n + i] - want) / want);
    }
  }
  /* |x| <= 1: each __expf has relative error (3 + 2 * 1.173) ulp of 2 eps at most; one in the numerator, one in each
   * term of the sum, one in each of the 5 + 3 merges; the longest chain of additions is 4 + 5 + 3. */
  CHECK(worst <= (2 * (3 + 2 * 1.173) * (2 + 8) + 12 + 4) * eps);
  cudaFree(dx);
  cudaFree(dy);
}

static void test_product() {
  const int m = 128, n = 128, k = 48;
  const std::vector<float> x = random_floats((size_t)m * k, 1), w = random_floats((size_t)k * n, 2);
  float *dx = device_copy(x), *dw = device_copy(w), *ds;
  require_success(cudaMalloc(&ds, (size_t)(n / 64) * m * sizeof(float)));
  require_success(launch(product_exp, dim3(n / 64, m / 64), dim3(16, 16), 0, nullptr, dx, dw, ds, m, n, k));
  const std::vector<float> sums = host_copy(ds, (size_t)(n / 64) * m);
  double worst = 0;
  for (int tile = 0; tile < n / 64; ++tile) {
    for (int i = 0; i < m; ++i) {
      double sum = 0;
      for (int j = 0; j < 64; ++j) {
        double z = 0;
        for (int l = 0; l < k; ++l) z += (double)x[(size_t)i * k + l] * w[(size_t)l * n + tile * 64 + j];
        sum += std::exp(z);
      }
      worst = std::fmax(worst, std::fabs(sums[(size_t)tile * m + i] - sum) / sum);
    }
  }
  /* |z| error <= k eps sum |x w| <= k^2 eps; expf 2 ulp; 4 + 4 additions */
  CHECK(worst <= (double)(k * k + 4 + 8) * eps);
  cudaFree(dx);
  cudaFree(dw);
  cudaFree(ds);
}

static void test_double_buffer() {
  const int tiles = 9;
  const std::vector<float> x = random_floats((size_t)tiles * 512, 3);
  float *dx = device_copy(x), *dy;
  require_success(cudaMalloc(&dy, x.size() * sizeof(float)));
  require_success(launch(double_buffer, 1, 128, 0, nullptr, dx, dy, tiles));
  const std::vector<float> y = host_copy(dy, x.size());
  bool right = true;
  for (size_t i = 0; i < x.size(); ++i) right = right && y[i] == 2.0f * x[i];
  CHECK_NAMED(right, "asynchronous copies through a double buffer");
  cudaFree(dx);
  cudaFree(dy);
}

static __global__ void zero_filled(const float *x, float *y) {
  __shared__ __align__(16) float tile[4];
  __pipeline_memcpy_async(tile, x, 16, 8);
  __pipeline_commit();
  __pipeline_wait_prior(0);
  for (int i = 0; i < 4; ++i) y[i] = tile[i];
}

static void test_zero_fill() {
  float *dx = device_copy(std::vector<float>{5, 6}), *dy; /* what is zero-filled is not read */
  require_success(cudaMalloc(&dy, 4 * sizeof(float)));
  require_success(launch(zero_filled, 1, 1, 0, nullptr, dx, dy));
  CHECK(host_copy(dy, 4) == (std::vector<float>{5, 6, 0, 0}));
  cudaFree(dx);
  cudaFree(dy);
}

/* Words of cuRAND's generator for seed 1234, subsequences 0, 1, 2. */
static __global__ void philox(unsigned *words) {
  curandStatePhilox4_32_10_t state;
  curand_init(1234ULL, threadIdx.x, 0, &state);
  const uint4 v = curand4(&state);
  reinterpret_cast<uint4 *>(words)[threadIdx.x] = v;
  /* a word at any offset is that word of the sequence */
  curandStatePhilox4_32_10_t at;
  for (unsigned offset = 0; offset < 11; ++offset) {
    curandStatePhilox4_32_10_t walk;
    curand_init(1234ULL, threadIdx.x, 0, &walk);
    for (unsigned i = 0; i < offset; ++i) curand(&walk);
    curand_init(1234ULL, threadIdx.x, offset, &at);
    if (curand(&walk) != curand(&at)) words[0] = 0;
  }
}

static void test_philox() {
  unsigned *d;
  require_success(cudaMalloc(&d, 3 * 16));
  require_success(launch(philox, 1, 3, 0, nullptr, d));
  const std::vector<unsigned> w = host_copy(d, 12);
  CHECK(w[0] == 0x2090b348u && w[3] == 0xcbca470eu && w[4] == 0xd115a128u && w[11] == 0x421d9aa5u);
  cudaFree(d);
}

static __global__ void collectives(int *out) {
  const int t = threadIdx.x, lane = t & 31;
  int bad = 0;
  bad += __shfl_sync(0xffffffffu, t, 5) != (t & ~31) + 5;
  bad += __shfl_sync(0xffffffffu, t, 9, 8) != (t & ~7) + 1;
  bad += __shfl_up_sync(0xffffffffu, t, 3) != (lane < 3 ? t : t - 3);
  bad += __shfl_up_sync(0xffffffffu, t, 3, 16) != ((lane & 15) < 3 ? t : t - 3);
  bad += __shfl_down_sync(0xffffffffu, t, 3) != (lane > 28 ? t : t + 3);
  bad += __shfl_down_sync(0xffffffffu, t, 3, 4) != ((lane & 3) > 0 ? t : t + 3);
  bad += __shfl_xor_sync(0xffffffffu, t, 16) != (t ^ 16);
  bad += __shfl_xor_sync(0xffffffffu, t, 6, 4) != ((t & 4) ? t ^ 6 : t); /* only earlier groups can be read */
  bad += __shfl_xor_sync(0xffffffffu, 1.5 * t, 1) != 1.5 * (t ^ 1);
  bad += __shfl_sync(0xffffffffu, (long long)t << 33, 2) != (long long)((t & ~31) + 2) << 33;
  bad += __ballot_sync(0xffffffffu, t & 1) != 0xaaaaaaaau;
  bad += __any_sync(0xffffffffu, lane == 7) != 1 || __any_sync(0xffffffffu, 0) != 0;
  bad += __all_sync(0xffffffffu, 1) != 1 || __all_sync(0xffffffffu, lane != 7) != 0;
  bad += !(__activemask() >> lane & 1u);
  if (lane < 12) {
    bad += __shfl_xor_sync(0xfffu, t, 1) != (t ^ 1); /* part of a warp, while the rest waits below */
    __syncwarp(0xfffu);
  }
  bad += __ballot_sync(0xffffffffu, 1) != 0xffffffffu;
  bad += __syncthreads_count(t < 10) != 10;
  bad += __syncthreads_or(t == 40) != 1 || __syncthreads_or(0) != 0;
  bad += __syncthreads_and(t >= 0) != 1 || __syncthreads_and(t != 40) != 0;
  out[t] = bad;
}

/* A warp whose lanes leave one after the other: those that ended are not waited for. */
static __global__ void shrinking(unsigned *out) {
  unsigned ballot = 0;
  for (unsigned i = 0; i <= threadIdx.x; ++i) ballot = __ballot_sync(0xffffffffu, 1);
  out[threadIdx.x] = ballot;
}

static void test_collectives() {
  int *d;
  require_success(cudaMalloc(&d, 64 * sizeof(int)));
  require_success(launch(collectives, 1, 64, 0, nullptr, d));
  CHECK_NAMED(host_copy(d, 64) == std::vector<int>(64, 0), "shuffles, votes, barriers with a vote");
  unsigned *u = reinterpret_cast<unsigned *>(d);
  require_success(launch(shrinking, 1, 20, 0, nullptr, u));
  const std::vector<unsigned> ballots = host_copy(u, 20);
  bool right = true;
  for (unsigned i = 0; i < 20; ++i) right = right && ballots[i] == (0xfffffu & ~((1u << i) - 1u));
  CHECK_NAMED(right, "a vote counts the lanes that have not ended");
  cudaFree(d);
}

/* The last block to finish adds what the others left: ordered by a fence and an atomic. */
static __global__ void last_block_sums(const int *x, int *partial, unsigned *counter, int *total) {
  __shared__ int sums[64];
  __shared__ bool last;
  const int t = threadIdx.x;
  sums[t] = x[blockIdx.x * 64 + t];
  __syncthreads();
  for (int half = 32; half > 0; half >>= 1) {
    if (t < half) sums[t] += sums[t + half];
    __syncthreads();
  }
  if (t == 0) {
    partial[blockIdx.x] = sums[0];
    __threadfence();
    last = atomicAdd(counter, 1u) == gridDim.x - 1;
  }
  __syncthreads();
  if (last && t == 0) {
    int sum = 0;
    for (unsigned b = 0; b < gridDim.x; ++b) sum += partial[b];
    *total = sum;
    *counter = 0;
  }
}

static void test_last_block() {
  const int blocks = 13;
  std::vector<int> x(blocks * 64);
  int want = 0;
  for (size_t i = 0; i < x.size(); ++i) want += x[i] = (int)(i * 7 % 31) - 11;
  int *dx = device_copy(x), *partial, *total;
  unsigned *counter = device_copy(std::vector<unsigned>{0});
  require_success(cudaMalloc(&partial, blocks * sizeof(int)));
  require_success(cudaMalloc(&total, sizeof(int)));
  for (int repeat = 0; repeat < 2; ++repeat) {
    require_success(launch(last_block_sums, blocks, 64, 0, nullptr, dx, partial, counter, total));
    CHECK(host_copy(total, 1)[0] == want && host_copy(counter, 1)[0] == 0u);
  }
  cudaFree(dx);
  cudaFree(partial);
  cudaFree(total);
  cudaFree(counter);
}

static __global__ void atomics(unsigned *u, int *i, unsigned long long *l) {
  const int t = threadIdx.x;
  atomicAdd(&u[0], 2u);
  atomicMax(&i[0], t - 100);
  atomicMin(&i[1], t - 100);
  atomicOr(&u[1], 1u << (t & 31));
  atomicAnd(&u[2], ~(1u << (t & 31)));
  atomicXor(&u[3], (unsigned)t);
  atomicAdd(l, 1ULL << 40);
  unsigned seen = 0; /* a lock-free maximum */
  while (true) {
    const unsigned before = atomicCAS(&u[4], seen, max(seen, (unsigned)t));
    if (before == seen) break;
    seen = before;
  }
}

static void test_atomics() {
  unsigned *u = device_copy(std::vector<unsigned>{0, 0, ~0u, 0, 0});
  int *i = device_copy(std::vector<int>{-1000, 1000});
  unsigned long long *l = device_copy(std::vector<unsigned long long>{0});
  require_success(launch(atomics, 2, 64, 0, nullptr, u, i, l));
  CHECK(host_copy(u, 5) == (std::vector<unsigned>{256, ~0u, 0, 0, 63}));
  CHECK(host_copy(i, 2) == (std::vector<int>{-37, -100}));
  CHECK(host_copy(l, 1)[0] == 128ULL << 40);
  cudaFree(u);
  cudaFree(i);
  cudaFree(l);
}

static __global__ void indices(unsigned *out) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] = block * 1000 + thread;
}

static void test_indices() {
  unsigned *d;
  require_success(cudaMalloc(&d, 24 * 60 * sizeof(unsigned)));
  require_success(launch(indices, dim3(2, 3, 4), dim3(5, 4, 3), 0, nullptr, d));
  const std::vector<unsigned> v = host_copy(d, 24 * 60);
  bool right = true;
  for (unsigned i = 0; i < v.size(); ++i) right = right && v[i] == i / 60 * 1000 + i % 60;
  CHECK_NAMED(right, "three-dimensional grids and blocks");
  cudaFree(d);
}

/* Bytes of one word written by different threads do not race; broadcasts do not either. */
static __global__ void bytes(const unsigned char *in, unsigned char *out) {
  __shared__ unsigned char tile[64];
  __shared__ float factor;
  if (threadIdx.x == 0) factor = 2.0f;
  tile[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = (unsigned char)((float)tile[63 - threadIdx.x] * factor);
}

static void test_bytes() {
  std::vector<unsigned char> in(64), want(64);
  for (int i = 0; i < 64; ++i) want[(size_t)(63 - i)] = (unsigned char)(2 * (in[(size_t)i] = (unsigned char)i));
  unsigned char *d = device_copy(in), *o;
  require_success(cudaMalloc(&o, 64));
  require_success(launch(bytes, 1, 64, 0, nullptr, d, o));
  CHECK(host_copy(o, 64) == want);
  cudaFree(d);
  cudaFree(o);
}

/* Within a warp __syncwarp is enough. */
static __global__ void warp_transpose(const int *in, int *out) {
  __shared__ int tile[32];
  tile[threadIdx.x] = in[threadIdx.x];
  __syncwarp();
  const int v = tile[31 - threadIdx.x];
  __syncwarp();
  tile[threadIdx.x] = v + 1;
  __syncwarp();
  out[threadIdx.x] = tile[threadIdx.x ^ 1];
}

static void test_syncwarp() {
  std::vector<int> in(32), want(32);
  for (int i = 0; i < 32; ++i) in[(size_t)i] = i * i;
  for (int i = 0; i < 32; ++i) want[(size_t)i] = in[(size_t)(31 - (i ^ 1))] + 1;
  int *d = device_copy(in), *o;
  require_success(cudaMalloc(&o, 32 * sizeof(int)));
  require_success(launch(warp_transpose, 1, 32, 0, nullptr, d, o));
  CHECK(host_copy(o, 32) == want);
  cudaFree(d);
  cudaFree(o);
}

static __global__ void tensor_product(const float *A, const float *B, float *C) {
  using namespace nvcuda;
  wmma::fragment<wmma::matrix_a, 16, 16, 8, wmma::precision::tf32, wmma::row_major> a;
  wmma::fragment<wmma::matrix_b, 16, 16, 8, wmma::precision::tf32, wmma::col_major> b;
  wmma::fragment<wmma::accumulator, 16, 16, 8, float> c;
  wmma::fill_fragment(c, 1.0f);
  wmma::load_matrix_sync(a, A, 8);
  wmma::load_matrix_sync(b, B, 8);
  for (int i = 0; i < a.num_elements; ++i) a.x[i] = wmma::__float_to_tf32(a.x[i]);
  for (int i = 0; i < b.num_elements; ++i) b.x[i] = wmma::__float_to_tf32(b.x[i]);
  wmma::mma_sync(c, a, b, c);
  wmma::store_matrix_sync(C, c, 16, wmma::mem_row_major);
}

static void test_tensor_product() {
  const std::vector<float> a = random_floats(128, 5), b = random_floats(128, 6);
  float *da = device_copy(a), *db = device_copy(b), *dc;
  require_success(cudaMalloc(&dc, 256 * sizeof(float)));
  require_success(launch(tensor_product, 1, 32, 0, nullptr, da, db, dc));
  const std::vector<float> c = host_copy(dc, 256);
  double worst = 0;
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 16; ++j) {
      double want = 1;
      for (int k = 0; k < 8; ++k) want += (double)a[(size_t)(i * 8 + k)] * b[(size_t)(j * 8 + k)];
      worst = std::fmax(worst, std::fabs(c[(size_t)(i * 16 + j)] - want));
    }
  }
  CHECK(worst <= 8 * (2 * 0x1p-11 + 0x1p-22) + 9 * 9 * eps); /* each factor rounded to 11 bits */
  CHECK(worst > 0x1p-14);                                    /* and it was */
  cudaFree(da);
  cudaFree(db);
  cudaFree(dc);
}

static __global__ void large_shared(float *out, int n) {
  SNTK_DYNAMIC_SHARED(float, all);
  for (int i = threadIdx.x; i < n; i += blockDim.x) all[i] = (float)i;
  __syncthreads();
  float sum = 0.0f;
  for (int i = 0; i < n; i += 1000) sum += all[n - 1 - i];
  out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}

static void test_large_shared() {
  const int n = 227 * 256;
  float *d;
  require_success(cudaMalloc(&d, 128 * sizeof(float)));
  require_success(cudaFuncSetAttribute(large_shared, cudaFuncAttributeMaxDynamicSharedMemorySize, 227 << 10));
  require_success(launch(large_shared, 2, 64, 227 << 10, nullptr, d, n));
  float want = 0.0f;
  for (int i = 0; i < n; i += 1000) want += (float)(n - 1 - i);
  CHECK(host_copy(d, 128) == std::vector<float>(128, want));
  cudaFree(d);
}

/* Two orders of blocks and threads are really two orders. */
static __global__ void arrival(unsigned *counter, unsigned *order) {
  order[atomicAdd(counter, 1u)] = blockIdx.x * blockDim.x + threadIdx.x;
}

static std::vector<unsigned> order_with_seed(uint64_t seed) {
  emu_set_seed(seed);
  unsigned *counter = device_copy(std::vector<unsigned>{0}), *order;
  require_success(cudaMalloc(&order, 256 * sizeof(unsigned)));
  require_success(launch(arrival, 8, 32, 0, nullptr, counter, order));
  const std::vector<unsigned> v = host_copy(order, 256);
  cudaFree(counter);
  cudaFree(order);
  return v;
}

static void test_orders() {
  std::set<std::vector<unsigned>> seen;
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    const std::vector<unsigned> v = order_with_seed(seed);
    CHECK(std::set<unsigned>(v.begin(), v.end()).size() == 256); /* every thread of every block once */
    seen.insert(v);
  }
  CHECK(seen.size() == 5);
  const std::vector<unsigned> first = order_with_seed(0);
  bool sorted = true;
  for (unsigned i = 0; i < 256; ++i) sorted = sorted && first[i] == i;
  CHECK_NAMED(sorted, "without a seed the order is that of the indices");
}

int main() {
  test_softmax();
  test_product();
  test_double_buffer();
  test_zero_fill();
  test_philox();
  test_collectives();
  test_last_block();
  test_atomics();
  test_indices();
  test_bytes();
  test_syncwarp();
  test_tensor_product();
  test_large_shared();
  test_orders();
  CHECK(emu_live() == 0);
  emu_statistics s;
  emu_get_statistics(&s);
  CHECK(s.races == 0);
#ifdef EMU_TEST_RACE
  CHECK(s.checked_accesses > 100000); /* the hooks are in */
#else
  CHECK(s.checked_accesses == 0);
#endif
  return check_summary();
}
