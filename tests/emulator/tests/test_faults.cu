/**
 * @file test_faults.cu
 * @brief Planted faults in kernels: each must be found, and its repaired twin must not.
 *
 * Built three times (CMakeLists.txt): what finds a fault differs between the fast build, the one with AddressSanitizer
 * and the one with the race detector, and so does the message.
 *
 * SPDX-License-Identifier: MIT
 */
#include <functional>
#include <type_traits>

#include "check.h"
#include "kernels.h"

#if defined(EMU_TEST_PLAIN)
static constexpr bool plain = true, address = false, race = false;
#elif defined(EMU_TEST_ADDRESS)
static constexpr bool plain = false, address = true, race = false;
#else
static constexpr bool plain = false, address = false, race = true;
#endif

/* Values that the compiler does not know. */
static volatile int zero = 0;
static float *device_floats(size_t n) {
  float *p;
  require_success(cudaMalloc(&p, n * sizeof(float)));
  return p;
}
static float *device_zeros(size_t n) {
  float *p = device_floats(n);
  require_success(cudaMemset(p, 0, n * sizeof(float)));
  return p;
}
static void run() { require_success(cudaDeviceSynchronize()); }
static const char wrong[] = "the result is wrong";

/* ---- barriers and collectives -------------------------------------------------------------------------------------
 */

static __global__ void barrier_after_return() {
  if (threadIdx.x < 16) return;
  __syncthreads();
}
static __global__ void barrier_in_branch(int *out) {
  if (threadIdx.x < 16) __syncthreads();
  out[threadIdx.x] = 1;
}
static __global__ void two_barriers() {
  if (threadIdx.x < 16) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}
static __global__ void barrier_against_shuffle(int *out) {
  if (threadIdx.x < 16) {
    __syncthreads();
  } else {
    out[threadIdx.x] = __shfl_sync(0xffffffffu, 1, 0);
  }
}
static __global__ void shuffle_with_foreign_mask(int *out) { out[threadIdx.x] = __shfl_sync(0x0000ffffu, 1, 0); }
static __global__ void shuffle_from_outside_mask(int *out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_xor_sync(0x0000ffffu, 1, 16);
}
static __global__ void shuffle_from_ended_lane(int *out) {
  if (threadIdx.x >= 16) return;
  out[threadIdx.x] = __shfl_down_sync(0xffffffffu, 1, 16);
}
static __global__ void two_collectives(int *out) {
  if (threadIdx.x < 16) {
    out[threadIdx.x] = __shfl_sync(0xffffffffu, 1, 0);
  } else {
    out[threadIdx.x] = __any_sync(0xffffffffu, 1);
  }
}
static __global__ void two_masks(int *out) {
  out[threadIdx.x] = __shfl_sync(threadIdx.x < 16 ? 0xffffffffu : 0xfffffffeu, 1, 1);
}
static __global__ void odd_width(int *out) { out[threadIdx.x] = __shfl_sync(0xffffffffu, 1, 0, 12); }

template <void (*kernel)()>
static void run_alone() {
  require_success(launch(kernel, 1, 32, 0, nullptr));
  run();
}
template <void (*kernel)(int *)>
static void run_warp() {
  require_success(launch(kernel, 1, 32, 0, nullptr, reinterpret_cast<int *>(device_zeros(32))));
  run();
}

static void collective_faults() {
  check_fault("barrier after some threads returned", run_alone<barrier_after_return>, "divergent barrier");
  check_fault("barrier in a branch", run_warp<barrier_in_branch>, "divergent barrier");
  check_fault("two barriers in two branches", run_alone<two_barriers>, "divergent barrier");
  check_fault("the same, in random orders", run_alone<two_barriers>, "divergent barrier", {"EMU_SEED=3"});
  check_fault("barrier in one branch, shuffle in the other", run_warp<barrier_against_shuffle>, "deadlock");
  check_fault("shuffle by a lane outside the mask", run_warp<shuffle_with_foreign_mask>, "not in its own mask");
  check_fault("shuffle from a lane outside the mask", run_warp<shuffle_from_outside_mask>, "does not take part");
  check_fault("shuffle from a lane that ended", run_warp<shuffle_from_ended_lane>, "does not take part");
  check_fault("two collectives in two branches", run_warp<two_collectives>, "different collectives");
  check_fault("lanes with two masks", run_warp<two_masks>, "disagree about the mask");
  check_fault("a width that is no power of two", run_warp<odd_width>, "power of two");
}

/* ---- missing barriers ---------------------------------------------------------------------------------------------
 */

template <int BEFORE_READ, int BEFORE_WRITE>
__global__ void reverse_twice(const int *in, int *out) {
  __shared__ int tile[128];
  const int t = threadIdx.x;
  tile[t] = in[t];
  if (BEFORE_READ) __syncthreads();
  const int v = tile[127 - t];
  if (BEFORE_WRITE) __syncthreads();
  tile[t] = v + 1;
  __syncthreads();
  out[t] = tile[127 - t];
}
template <int BEFORE_READ, int BEFORE_WRITE>
static void run_reverse() {
  std::vector<int> in(128);
  for (int i = 0; i < 128; ++i) in[(size_t)i] = 3 * i;
  int *d = device_copy(in);
  require_success(launch(reverse_twice<BEFORE_READ, BEFORE_WRITE>, 1, 128, 0, nullptr, d, d));
  const std::vector<int> out = host_copy(d, 128);
  for (int i = 0; i < 128; ++i) require(out[(size_t)i] == in[(size_t)i] + 1, wrong);
}

enum Sync { NOTHING, SHUFFLE, SYNCWARP, HALVES };
template <int SYNC>
__global__ void warp_exchange(int *out) {
  __shared__ int tile[32];
  const int t = threadIdx.x;
  tile[t] = t;
  if (SYNC == SHUFFLE) out[t] = __shfl_sync(0xffffffffu, t, 0);
  if (SYNC == SYNCWARP) __syncwarp();
  if (SYNC == HALVES) __syncwarp(t < 16 ? 0xffffu : 0xffff0000u);
  out[t] = tile[t ^ 16];
}
template <int SYNC>
static void run_warp_exchange() {
  int *d = reinterpret_cast<int *>(device_zeros(32));
  require_success(launch(warp_exchange<SYNC>, 1, 32, 0, nullptr, d));
  const std::vector<int> out = host_copy(d, 32);
  for (int i = 0; i < 32; ++i) require(out[(size_t)i] == (i ^ 16), wrong);
}

static void barrier_faults() {
  const char *const raw = race ? "race: read after an unordered write of shared memory, tile" : wrong;
  const char *const war = race ? "race: write after an unordered read of shared memory, tile" : wrong;
  for (const char *seed : {"EMU_SEED=1", "EMU_SEED=2", "EMU_SEED=3"}) {
    check_fault("missing barrier, read after write", run_reverse<0, 1>, raw, {seed});
    check_fault("missing barrier, write after read", run_reverse<1, 0>, war, {seed});
    check_clean("both barriers", run_reverse<1, 1>, {seed});
  }
  if (race) {
    check_fault("missing barrier, found in the order of threads too", run_reverse<1, 0>, war);
    check_fault("the message names file and line", run_reverse<0, 1>, "test_faults.cu:");
    check_fault("missing __syncwarp", run_warp_exchange<NOTHING>, raw);
    check_fault("a shuffle orders no memory", run_warp_exchange<SHUFFLE>, raw);
    check_fault("__syncwarp of the wrong lanes", run_warp_exchange<HALVES>, raw);
  } else {
    check_fault("missing __syncwarp", run_warp_exchange<NOTHING>, wrong, {"EMU_SEED=1"});
  }
  check_clean("__syncwarp", run_warp_exchange<SYNCWARP>, {"EMU_SEED=1"});
}

/* ---- memory that was not written ----------------------------------------------------------------------------------
 */

static __global__ void uninitialised_static(float *out) {
  __shared__ float tile[32];
  if (blockIdx.x == 0) tile[threadIdx.x] = 1.0f; /* later blocks must not see this */
  out[blockIdx.x * 32 + threadIdx.x] = tile[threadIdx.x];
}
template <int N>
__global__ void uninitialised_template(float *out) {
  __shared__ float tile[N];
  if (threadIdx.x > 0) tile[threadIdx.x] = 1.0f;
  out[threadIdx.x] = tile[threadIdx.x];
}
static __global__ void never_written(float *out) {
  __shared__ float tile[32];
  out[threadIdx.x] = tile[threadIdx.x];
}
static __device__ float tile_of_device_function(float v) {
  __shared__ float tile[32];
  if (v > 0.0f) tile[threadIdx.x] = v;
  return tile[threadIdx.x];
}
static __global__ void uninitialised_in_device_function(float *out) {
  out[blockIdx.x * 32 + threadIdx.x] = tile_of_device_function(blockIdx.x == 0 ? 1.0f : 0.0f);
}
static __global__ void uninitialised_dynamic(float *out) {
  SNTK_DYNAMIC_SHARED(float, tile);
  if (blockIdx.x == 0) tile[threadIdx.x] = 1.0f;
  out[blockIdx.x * 32 + threadIdx.x] = tile[threadIdx.x];
}
static __global__ void copy_floats(const float *in, float *out) { out[threadIdx.x] = in[threadIdx.x]; }

template <void (*kernel)(float *), int BLOCKS, int SHARED>
static void run_poisoned() {
  float *d = device_floats(BLOCKS * 32);
  require_success(launch(kernel, BLOCKS, 32, SHARED, nullptr, d));
  for (float v : host_copy(d, BLOCKS * 32)) require(v == 1.0f, wrong);
}
static void run_uninitialised_global() {
  float *from = device_floats(32), *to = device_floats(32);
  require_success(launch(copy_floats, 1, 32, 0, nullptr, from, to));
  for (float v : host_copy(to, 32)) require(v == v, "the result is NaN");
}

static void initialisation_faults() {
  const char *const expected = race ? "uninitialised: read of shared memory" : wrong;
  check_fault("static shared memory left from another block", run_poisoned<uninitialised_static, 2, 0>, expected);
  check_fault("static shared memory of a template", run_poisoned<uninitialised_template<32>, 1, 0>, expected);
  check_fault("static shared memory that nobody writes", run_poisoned<never_written, 1, 0>, expected);
  check_fault("static shared memory of a device function", run_poisoned<uninitialised_in_device_function, 2, 0>,
              expected);
  check_fault("dynamic shared memory left from another block", run_poisoned<uninitialised_dynamic, 2, 128>, expected);
  check_fault("device memory that was not written", run_uninitialised_global, "the result is NaN");
}

/* ---- asynchronous copies ------------------------------------------------------------------------------------------
 */

enum Copies {
  RIGHT,
  NO_WAIT,
  WAIT_TOO_FEW,
  NO_COMMIT,
  NO_BARRIER,
  NO_SECOND_BARRIER,
  MISALIGNED_COPY,
  NEVER,
  BEYOND,
  TO_GLOBAL
};
template <int FAULT>
__global__ void staged(const float *x, float *y, int tiles) {
  __shared__ __align__(16) float buffer[2][128 + 4];
  const int t = threadIdx.x;
  const auto issue = [&](int tile) {
    float *to = &buffer[tile & 1][t * 4];
    if (FAULT == MISALIGNED_COPY) ++to;
    if (FAULT == TO_GLOBAL) to = y + t * 4;
    __pipeline_memcpy_async(to, x + (size_t)tile * 128 + t * 4 + (FAULT == BEYOND ? 4 : 0), 16);
    if (FAULT != NO_COMMIT) __pipeline_commit();
  };
  issue(0);
  for (int i = 0; i < tiles; ++i) {
    const bool more = i + 1 < tiles;
    if (more) issue(i + 1);
    if (FAULT == WAIT_TOO_FEW) {
      __pipeline_wait_prior(1);
    } else if (FAULT != NO_WAIT && FAULT != NEVER) {
      __pipeline_wait_prior(more ? 1 : 0);
    }
    if (FAULT != NO_BARRIER) __syncthreads();
    const int u = 31 - t;
    if (FAULT != NEVER) {
      for (int k = 0; k < 4; ++k) y[(size_t)i * 128 + u * 4 + k] = 2.0f * buffer[i & 1][u * 4 + k];
    }
    if (FAULT != NO_SECOND_BARRIER) __syncthreads();
  }
  if (FAULT == NO_WAIT || FAULT == WAIT_TOO_FEW || FAULT == NO_COMMIT) { /* so that the first fault is the wrong data */
    __pipeline_commit();
    __pipeline_wait_prior(0);
  }
}
template <int FAULT>
static void run_staged() {
  const int tiles = 5;
  const std::vector<float> x = random_floats(tiles * 128, 4);
  float *dx = device_copy(x), *dy = device_zeros(tiles * 128);
  require_success(launch(staged<FAULT>, 1, 32, 0, nullptr, dx, dy, tiles));
  const std::vector<float> y = host_copy(dy, tiles * 128);
  for (size_t i = 0; i < y.size(); ++i) require(y[i] == 2.0f * x[i], wrong);
}

static void copy_faults() {
  check_clean("asynchronous copies with all waits", run_staged<RIGHT>, {"EMU_SEED=1"});
  check_clean("the same, copied early", run_staged<RIGHT>, {"EMU_SEED=1", "EMU_ASYNC_COPY=early"});
  const char *const pending = race ? "asynchronous copy that was not waited for" : wrong;
  check_fault("no wait", run_staged<NO_WAIT>, pending);
  check_fault("a wait for one stage too few", run_staged<WAIT_TOO_FEW>, pending);
  check_fault("no commit before the wait", run_staged<NO_COMMIT>, pending);
  check_fault("a wait without a barrier before others read", run_staged<NO_BARRIER>,
              race ? "asynchronous copy that was not waited for" : wrong, {"EMU_SEED=1"});
  check_fault("a buffer refilled while others read it", run_staged<NO_SECOND_BARRIER>,
              race ? "race: write after an unordered read of shared memory, buffer" : wrong,
              {"EMU_SEED=2", "EMU_ASYNC_COPY=early"});
  check_fault("copies that are never waited for", run_staged<NEVER>, "did not wait for");
  check_fault("misaligned copy", run_staged<MISALIGNED_COPY>, "misaligned: asynchronous copy");
  check_fault("copy from beyond the end", run_staged<BEYOND>, "out of bounds: asynchronous copy");
  check_fault("copy to global memory", run_staged<TO_GLOBAL>, "not shared memory");
}

/* ---- out of bounds ------------------------------------------------------------------------------------------------
 */

static __global__ void write_at(float *p, int i) {
  if (threadIdx.x == 0) p[i] = 1.0f;
}
static __global__ void read_at(const float *p, float *out, int i) {
  if (threadIdx.x == 0) *out = p[i];
}
static __global__ void dynamic_write_at(int i) {
  SNTK_DYNAMIC_SHARED(float, tile);
  if (threadIdx.x == 0) tile[i] = 1.0f;
}
static __global__ void dynamic_read_at(float *out, int i) {
  SNTK_DYNAMIC_SHARED(float, tile);
  tile[threadIdx.x] = 0.0f;
  __syncthreads();
  if (threadIdx.x == 0) *out = tile[i];
}
/* Not inlined: the compiler does not know how large the array is. */
static __attribute__((noinline)) __device__ void poke(float *p, int i) { p[i] = 1.0f; }
static __global__ void static_write_at(float *out, int i) {
  __shared__ float tile[64];
  tile[threadIdx.x] = 0.0f;
  __syncthreads();
  if (threadIdx.x == 0) poke(tile, i);
  out[threadIdx.x] = tile[threadIdx.x];
}
template <int N>
__global__ void template_write_at(float *out, int i) {
  __shared__ float tile[N];
  tile[threadIdx.x] = 0.0f;
  __syncthreads();
  if (threadIdx.x == 0) poke(tile, i);
  out[threadIdx.x] = tile[threadIdx.x];
}
template <int N>
__global__ void template_index(float *out, int i) {
  __shared__ float tile[4][N];
  for (int k = 0; k < 4; ++k) tile[k][threadIdx.x] = 0.0f;
  __syncthreads();
  out[threadIdx.x] = tile[1][i]; /* inside the array, outside the row */
}

template <int I>
static void run_write() {
  require_success(launch(write_at, 1, 32, 0, nullptr, device_zeros(37), I + zero));
  run();
}
template <int I>
static void run_read() {
  require_success(launch(read_at, 1, 32, 0, nullptr, device_zeros(37), device_zeros(1), I + zero));
  run();
}
template <int I>
static void run_dynamic_write() {
  require_success(launch(dynamic_write_at, 1, 32, 37 * 4, nullptr, I + zero));
  run();
}
template <int I>
static void run_dynamic_read() {
  require_success(launch(dynamic_read_at, 1, 32, 37 * 4, nullptr, device_zeros(1), I + zero));
  run();
}
template <void (*kernel)(float *, int), int I>
static void run_static() {
  require_success(launch(kernel, 1, 32, 0, nullptr, device_zeros(64), I + zero));
  run();
}
static void run_without_dynamic() {
  require_success(launch(dynamic_write_at, 1, 32, 0, nullptr, 0));
  run();
}
static void run_freed() {
  float *p = device_zeros(37);
  cudaFree(p);
  require_success(launch(read_at, 1, 32, 0, nullptr, p, device_zeros(1), 3));
  run();
}
static void run_null() {
  require_success(launch(read_at, 1, 32, 0, nullptr, (const float *)nullptr, device_zeros(1), 3));
  run();
}
static float host_variable[4];
static void run_host_memory() {
  float *p = static_cast<float *>(malloc(64));
  memset(p, 0, 64);
  require_success(launch(read_at, 1, 32, 0, nullptr, p, device_zeros(1), 3));
  run();
  free(p);
  host_variable[0] = 1.0f;
}

static __global__ void neighbours_local(float **pointers, float *out) {
  float mine[4] = {1, 2, 3, (float)threadIdx.x};
  pointers[threadIdx.x] = mine;
  __syncthreads();
  out[threadIdx.x] = pointers[threadIdx.x ^ 1][3];
  __syncthreads();
}
static void run_neighbours_local() {
  float **pointers;
  require_success(cudaMalloc(&pointers, 32 * sizeof *pointers));
  require_success(launch(neighbours_local, 1, 32, 0, nullptr, pointers, device_zeros(32)));
  run();
}
static __global__ void vector_read(const float *p, float *out, int i) {
  const float4 v = *reinterpret_cast<const float4 *>(p + i);
  out[threadIdx.x] = v.x + v.y + v.z + v.w;
}
template <int I>
static void run_vector_read() {
  require_success(launch(vector_read, 1, 1, 0, nullptr, device_zeros(64), device_zeros(1), I + zero));
  run();
}

static void bounds_faults() {
  const char *const write = plain     ? "out of bounds: kernel write_at"
                            : address ? "AddressSanitizer"
                                      : "out of bounds: write of 4 bytes";
  check_fault("write behind an allocation", run_write<37>, write);
  check_fault("write before an allocation", run_write<-1>, write);
  check_clean("write at the end of an allocation", run_write<36>);
  const char *const dynamic = plain     ? "out of bounds: a block wrote"
                              : address ? "AddressSanitizer"
                                        : "bytes of dynamic shared memory";
  check_fault("write behind dynamic shared memory", run_dynamic_write<37>, dynamic);
  check_fault("write before dynamic shared memory", run_dynamic_write<-1>, dynamic);
  check_clean("write at the end of dynamic shared memory", run_dynamic_write<36>);
  check_fault("dynamic shared memory that the launch did not ask for", run_without_dynamic, "asked for none");
  check_fault("null pointer", run_null,
              plain     ? "invalid address"
              : address ? "AddressSanitizer"
                        : "which is host memory");
  if (plain) return;
  const char *const global_read = address ? "AddressSanitizer" : "out of bounds: read of 4 bytes";
  check_fault("read behind an allocation", run_read<37>, global_read);
  check_fault("read before an allocation", run_read<-1>, global_read);
  check_fault("read behind dynamic shared memory", run_dynamic_read<37>, dynamic);
  check_fault("freed memory", run_freed, address ? "heap-use-after-free" : "freed memory");
  const char *const shared = address ? "AddressSanitizer" : "beside a __shared__ variable";
  check_fault("write behind static shared memory", run_static<static_write_at, 64>, shared);
  check_fault("write before static shared memory", run_static<static_write_at, -1>, shared);
  check_clean("write at the end of static shared memory", run_static<static_write_at, 63>);
  check_fault("write behind static shared memory of a template", run_static<template_write_at<64>, 64>, shared);
  check_fault("write before static shared memory of a template", run_static<template_write_at<64>, -1>, shared);
  check_clean("write at the end of static shared memory of a template", run_static<template_write_at<64>, 63>);
  check_fault("index beyond a row of a template's array", run_static<template_index<33>, 33>, "out of bounds");
#ifdef __clang__
  printf("skip misaligned 16-byte reads: clang checks no copies of structures (README.md)\n");
#else
  check_fault("misaligned 16-byte read", run_vector_read<2>, "misaligned");
  check_fault("misaligned 16-byte read, off by 4 bytes", run_vector_read<1>, "misaligned");
#endif
  check_clean("aligned 16-byte read", run_vector_read<4>);
  if (race) {
    check_fault("host memory in a kernel", run_host_memory, "which is host memory");
    check_fault("another thread's local variable", run_neighbours_local, "another thread's local memory");
  }
}

/* ---- races in global memory ---------------------------------------------------------------------------------------
 */

static __global__ void same_place(int *p) { *p = (int)blockIdx.x; }
static __global__ void next_place(int *p) {
  const unsigned i = blockIdx.x * 32 + threadIdx.x;
  p[i] = i + 1 < gridDim.x * 32 ? p[i + 1] : 0;
}
static __global__ void own_place(int *p) { p[blockIdx.x * 32 + threadIdx.x] += 1; }
static __global__ void count_plainly(unsigned *p) {
  if (threadIdx.x == 0) *p += 1;
}
static __global__ void atomic_and_plain(unsigned *p, unsigned *out) {
  atomicAdd(p, 1u);
  out[threadIdx.x] = *p;
}
template <int FENCE, int BARRIER>
__global__ void last_block(int *partial, unsigned *counter, int *total) {
  __shared__ bool last;
  partial[blockIdx.x * 32 + threadIdx.x] = (int)threadIdx.x;
  if (BARRIER) __syncthreads();
  if (threadIdx.x == 0) {
    if (FENCE) __threadfence();
    last = atomicAdd(counter, 1u) == gridDim.x - 1;
  }
  __syncthreads();
  if (last && threadIdx.x == 0) {
    int sum = 0;
    for (unsigned i = 0; i < gridDim.x * 32; ++i) sum += partial[i];
    *total = sum;
  }
}

template <void (*kernel)(int *), int BLOCKS>
static void run_on_zeros() {
  require_success(launch(kernel, BLOCKS, 32, 0, nullptr, reinterpret_cast<int *>(device_zeros(BLOCKS * 32))));
  run();
}
static void run_twice_in_turn() {
  int *p = reinterpret_cast<int *>(device_zeros(128));
  require_success(launch(own_place, 4, 32, 0, nullptr, p));
  require_success(launch(next_place, 1, 1, 0, nullptr, p)); /* another launch: no race with the first */
  require_success(launch(own_place, 3, 32, 0, nullptr, p));
  run();
  cudaFree(p);
}
static void run_count_plainly() {
  require_success(launch(count_plainly, 4, 32, 0, nullptr, reinterpret_cast<unsigned *>(device_zeros(1))));
  run();
}
static void run_atomic_and_plain() {
  unsigned *p = reinterpret_cast<unsigned *>(device_zeros(33));
  require_success(launch(atomic_and_plain, 1, 32, 0, nullptr, p, p + 1));
  run();
}
template <int FENCE, int BARRIER>
static void run_last_block() {
  int *p = reinterpret_cast<int *>(device_zeros(4 * 32 + 2));
  require_success(
      launch(last_block<FENCE, BARRIER>, 4, 32, 0, nullptr, p, reinterpret_cast<unsigned *>(p + 128), p + 129));
  run();
}

static void global_races() {
  check_fault("blocks write one place", run_on_zeros<same_place, 2>, "write after an unordered write of global memory");
  check_fault("threads of a block write one place", run_on_zeros<same_place, 1>, "write after an unordered write");
  check_fault("a block reads what the next writes", run_on_zeros<next_place, 2>, "race: ");
  check_fault("the same, blocks in a random order", run_on_zeros<next_place, 2>, "race: ", {"EMU_SEED=4"});
  check_clean("every thread its place", run_on_zeros<own_place, 4>);
  check_clean("launches one after another", run_twice_in_turn);
  check_fault("a plain count", run_count_plainly, "race: ");
  check_fault("atomic and plain access", run_atomic_and_plain, "race: ");
  check_clean("last block, with fence and barrier", run_last_block<1, 1>, {"EMU_SEED=6"});
  check_fault("last block, no fence", run_last_block<0, 1>, "read after an unordered write of global memory",
              {"EMU_SEED=6"});
  check_fault("last block, no barrier before the fence", run_last_block<1, 0>,
              "read after an unordered write of global");
}

/* ---- the rest -----------------------------------------------------------------------------------------------------
 */

static __global__ void assume_wrongly(int n) { __builtin_assume(n % 4 == 0); }
static __global__ void trap(int n) {
  if (n == 3) __trap();
}
static __global__ void call_host(int) { cudaGetDevice(nullptr); }
static __global__ void deep(int *out) {
  volatile char large[400 << 10];
  for (int i = 0; i < (int)sizeof large; i += 64) large[i] = 1;
  *out = large[128];
}
static __global__ void wide_alignment(int *) {
  struct alignas(32) Wide {
    float f[8];
  };
  SNTK_DYNAMIC_SHARED(Wide, w);
  w[0].f[0] = 1.0f;
}
template <void (*kernel)(int)>
static void run_with_three() {
  require_success(launch(kernel, 1, 32, 0, nullptr, 3));
  run();
}
static void run_deep() {
  require_success(launch(deep, 1, 1, 0, nullptr, reinterpret_cast<int *>(device_zeros(1))));
  run();
}
static void run_wide() {
  require_success(launch(wide_alignment, 1, 1, 64, nullptr, (int *)nullptr));
  run();
}

template <class T, class = void>
struct has_atomic_add : std::false_type {};
template <class T>
struct has_atomic_add<T, decltype((void)atomicAdd((T *)nullptr, T()))> : std::true_type {};

static void other_faults() {
  check_fault("an assumption that does not hold", run_with_three<assume_wrongly>,
              "assumption does not hold: n % 4 == 0");
  check_fault("__trap", run_with_three<trap>, "__trap() was reached");
  check_fault("a host call from a kernel", run_with_three<call_host>, "was called from a kernel");
  check_fault("alignment that shared memory does not have", run_wide, "an alignment of 32 bytes");
  if (plain) check_fault("stack overflow", run_deep, "stack overflow in a kernel");
  CHECK_NAMED(has_atomic_add<int>::value && has_atomic_add<unsigned long long>::value, "integer atomics exist");
  CHECK_NAMED(!has_atomic_add<float>::value && !has_atomic_add<double>::value, "floating-point atomics do not compile");
}

int main() {
  collective_faults();
  barrier_faults();
  initialisation_faults();
  copy_faults();
  bounds_faults();
  if (race) global_races();
  other_faults();
  return check_summary();
}
