/**
 * @file test_host.cu
 * @brief The host interface: errors, limits, order of streams, capture, libraries, injected failures, misuse.
 *
 * SPDX-License-Identifier: MIT
 */
#include <cublas_v2.h>
#include <cuda_profiler_api.h>
#include <cusolverDn.h>
#include <nvtx3/nvToolsExt.h>

#include <cmath>

#include "check.h"
#include "kernels.h"

static __global__ void add_to(float *p, float v) { p[threadIdx.x] += v; }
static __global__ void scale(float *p, float v) { p[threadIdx.x] *= v; }
static __global__ void copy_floats(const float *from, float *to) { to[threadIdx.x] = from[threadIdx.x]; }
static __global__ void nothing() {}
static __global__ void with_static_shared(float *out) {
  __shared__ float tile[1000];
  tile[threadIdx.x] = 1.0f;
  out[threadIdx.x] = tile[threadIdx.x];
}

static cudaStream_t make_stream(unsigned flags) {
  cudaStream_t s;
  require_success(cudaStreamCreateWithFlags(&s, flags));
  return s;
}
static cudaEvent_t make_event(unsigned flags) {
  cudaEvent_t e;
  require_success(cudaEventCreateWithFlags(&e, flags));
  return e;
}
static float *device_floats(size_t n, float value) { return device_copy(std::vector<float>(n, value)); }
/* clang counts AddressSanitizer's red zones into the size of a variable. */
#if defined(__clang__) && defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CLANG_RED_ZONES true
#endif
#endif
#ifndef CLANG_RED_ZONES
#define CLANG_RED_ZONES false
#endif
static const char wrong[] = "the result is wrong";

/* ---- devices, limits ----------------------------------------------------------------------------------------------
 */

static void test_devices() {
  int count = -1, value = 0, device = -1;
  CHECK(cudaGetDeviceCount(&count) == cudaSuccess && count == 1);
  cudaDeviceProp p;
  CHECK(cudaGetDeviceProperties(&p, 0) == cudaSuccess && strcmp(p.name, "emulated device") == 0 && p.warpSize == 32);
  CHECK(cudaGetDeviceProperties(&p, 1) == cudaErrorInvalidDevice && cudaGetLastError() == cudaErrorInvalidDevice);
  CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0) == cudaSuccess &&
        value == 227 << 10);
  CHECK(cudaDeviceGetAttribute(&value, (cudaDeviceAttr)127, 0) == cudaErrorInvalidValue);
  CHECK(cudaSetDevice(0) == cudaSuccess && cudaGetDevice(&device) == cudaSuccess && device == 0);
  CHECK(cudaSetDevice(-1) == cudaErrorInvalidDevice);
  CHECK(cudaPeekAtLastError() == cudaErrorInvalidDevice && cudaGetLastError() == cudaErrorInvalidDevice);
  CHECK(cudaGetLastError() == cudaSuccess);
  CHECK(cudaRuntimeGetVersion(&value) == cudaSuccess && value >= 12000 && cudaDriverGetVersion(&value) == cudaSuccess);
  CHECK(strcmp(cudaGetErrorName(cudaErrorMemoryAllocation), "cudaErrorMemoryAllocation") == 0);
  CHECK(strcmp(cudaGetErrorString(cudaErrorMemoryAllocation), "out of memory") == 0);
  CHECK(strcmp(cudaGetErrorName((cudaError_t)1000), "unrecognized error code") == 0);
}

static void run_without_device() {
  int count = -1;
  void *p;
  require(cudaGetDeviceCount(&count) == cudaErrorNoDevice && count == 0, wrong);
  require(cudaMalloc(&p, 4) == cudaErrorNoDevice && cudaGetLastError() == cudaErrorNoDevice, wrong);
}
static void run_two_devices() {
  int count = 0;
  require(cudaGetDeviceCount(&count) == cudaSuccess && count == 2, wrong);
  cudaStream_t s = make_stream(cudaStreamDefault);
  require_success(cudaSetDevice(1));
  require(launch(nothing, 1, 1, 0, s) == cudaErrorInvalidResourceHandle, wrong); /* a stream of device 0 */
  require_success(launch(nothing, 1, 1, 0, nullptr));
  require_success(cudaDeviceSynchronize());
}
static void run_little_memory() {
  void *p, *q;
  size_t free_bytes, total;
  require_success(cudaMalloc(&p, 3000));
  require(cudaMalloc(&q, 2000) == cudaErrorMemoryAllocation && q == nullptr, wrong);
  require_success(cudaMemGetInfo(&free_bytes, &total));
  require(total == 4096 && free_bytes == 1096, wrong);
  require_success(cudaFree(p));
  require_success(cudaMalloc(&q, 4096));
  require_success(cudaMallocHost(&p, 100000)); /* host memory is not the device's */
}

static void test_limits() {
  const cudaError_t bad = cudaErrorInvalidConfiguration;
  CHECK(launch(nothing, dim3(1, 65535, 1), 1, 0, nullptr) == cudaSuccess);
  CHECK(launch(nothing, dim3(1, 65536, 1), 1, 0, nullptr) == bad &&
        launch(nothing, dim3(1, 1, 65536), 1, 0, nullptr) == bad);
  CHECK(launch(nothing, dim3(0x80000000u), 1, 0, nullptr) == bad && launch(nothing, 0, 1, 0, nullptr) == bad);
  CHECK(launch(nothing, 1, 1024, 0, nullptr) == cudaSuccess && launch(nothing, 1, 1025, 0, nullptr) == bad);
  CHECK(launch(nothing, 1, dim3(33, 32), 0, nullptr) == bad && launch(nothing, 1, 0, 0, nullptr) == bad);
  CHECK(launch(nothing, 1, dim3(1, 1, 64), 0, nullptr) == cudaSuccess &&
        launch(nothing, 1, dim3(1, 1, 65), 0, nullptr) == bad);
  CHECK(cudaGetLastError() == bad && cudaGetLastError() == cudaSuccess);
  /* shared memory: 48 KiB, more by the function's attribute, 227 KiB with the static part */
  CHECK(launch(nothing, 1, 1, 48 << 10, nullptr) == cudaSuccess);
  CHECK(launch(nothing, 1, 1, (48 << 10) + 1, nullptr) == cudaErrorInvalidValue);
  cudaFuncAttributes a;
  CHECK(cudaFuncGetAttributes(&a, with_static_shared) == cudaSuccess);
  const size_t fixed = a.sharedSizeBytes;
  CHECK(CLANG_RED_ZONES ? fixed >= 4000 : fixed == 4000);
  float *out = device_floats(32, 0);
  CHECK(launch(with_static_shared, 1, 32, (48 << 10) - fixed, nullptr, out) == cudaSuccess);
  CHECK(launch(with_static_shared, 1, 32, (48 << 10) - fixed + 1, nullptr, out) == cudaErrorInvalidValue);
  const cudaFuncAttribute most = cudaFuncAttributeMaxDynamicSharedMemorySize;
  const int rest = (227 << 10) - (int)fixed;
  CHECK(cudaFuncSetAttribute(with_static_shared, most, rest + 1) == cudaErrorInvalidValue);
  CHECK(cudaFuncSetAttribute(with_static_shared, most, rest) == cudaSuccess);
  CHECK(launch(with_static_shared, 1, 32, (size_t)rest, nullptr, out) == cudaSuccess);
  CHECK(cudaFuncSetAttribute(nothing, cudaFuncAttributePreferredSharedMemoryCarveout, 100) == cudaSuccess);
  int blocks = 0;
  CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, nothing, 256, 0) == cudaSuccess && blocks == 8);
  CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, nothing, 32, 40 << 10) == cudaSuccess && blocks == 5);
  CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, with_static_shared, 1024, 0) == cudaSuccess &&
        blocks == 2);
  cudaGetLastError();
  cudaFree(out);
  CHECK(cudaDeviceSynchronize() == cudaSuccess && emu_live() == 0);
}

/* ---- copies and order ---------------------------------------------------------------------------------------------
 */

static void test_copies() {
  float *d, *e;
  CHECK(cudaMalloc(&d, 0) == cudaSuccess && d == nullptr && cudaFree(nullptr) == cudaSuccess);
  d = device_floats(12, 1);
  e = device_floats(12, 2);
  CHECK((uintptr_t)d % 256 == 0);
  CHECK(cudaMemcpy(d, e, 4 * sizeof(float), cudaMemcpyDeviceToDevice) == cudaSuccess);
  CHECK(host_copy(d, 5) == (std::vector<float>{2, 2, 2, 2, 1}));
  const std::vector<float> rows = {1, 2, 3, 4, 5, 6};
  CHECK(cudaMemcpy2DAsync(d, 16, rows.data(), 12, 12, 2, cudaMemcpyDefault, nullptr) == cudaSuccess);
  CHECK(host_copy(d, 8) == (std::vector<float>{1, 2, 3, 2, 4, 5, 6, 1}));
  CHECK(cudaMemcpy2DAsync(d, 8, rows.data(), 12, 12, 2, cudaMemcpyDefault, nullptr) == cudaErrorInvalidPitchValue);
  CHECK(cudaMemcpy(d, e, 4, (cudaMemcpyKind)7) == cudaErrorInvalidMemcpyDirection);
  CHECK(cudaMemset(d, 0, 8) == cudaSuccess && host_copy(d, 3) == (std::vector<float>{0, 0, 3}));
  cudaGetLastError();
  cudaFree(d);
  cudaFree(e);
}

/* What the host may touch when: as on a device. */
static void test_host_memory() {
  float *d = device_floats(32, 1), *pinned;
  CHECK(cudaMallocHost(&pinned, 32 * sizeof(float)) == cudaSuccess);
  cudaStream_t s = make_stream(cudaStreamNonBlocking);
  /* from pageable memory: staged at once, so it may be overwritten */
  std::vector<float> v(32, 5);
  cudaMemcpyAsync(d, v.data(), 32 * sizeof(float), cudaMemcpyHostToDevice, s);
  v.assign(32, 6);
  cudaStreamSynchronize(s);
  CHECK(host_copy(d, 1)[0] == 5);
  /* from pinned memory: read when the copy runs */
  for (int i = 0; i < 32; ++i) pinned[i] = 7;
  cudaMemcpyAsync(d, pinned, 32 * sizeof(float), cudaMemcpyHostToDevice, s);
  for (int i = 0; i < 32; ++i) pinned[i] = 8;
  cudaStreamSynchronize(s);
  CHECK(host_copy(d, 1)[0] == 8);
  /* to pinned memory: there after the synchronization, and not before */
  launch(add_to, 1, 32, 0, s, d, 1.0f);
  cudaMemcpyAsync(pinned, d, 32 * sizeof(float), cudaMemcpyDeviceToHost, s);
  CHECK(pinned[0] == 8 && emu_pending() > 0);
  cudaStreamSynchronize(s);
  CHECK(pinned[0] == 9 && emu_pending() == 0);
  /* to pageable memory: the call waits */
  launch(add_to, 1, 32, 0, s, d, 1.0f);
  cudaMemcpyAsync(v.data(), d, 32 * sizeof(float), cudaMemcpyDeviceToHost, s);
  CHECK(v[0] == 10);
  cudaFree(d);
  cudaFreeHost(pinned);
  cudaStreamDestroy(s);
}

/* Two streams, with or without the event between them: x = (0 + 1) * 10, or what a wrong order makes of it. */
template <bool WAIT, unsigned FLAGS>
static void run_two_streams() {
  for (int repeat = 0; repeat < 20; ++repeat) {
    float *d = device_floats(32, 0);
    require_success(cudaDeviceSynchronize());
    cudaStream_t a = make_stream(FLAGS), b = make_stream(FLAGS);
    cudaEvent_t e = make_event(cudaEventDisableTiming);
    launch(add_to, 1, 32, 0, a, d, 1.0f);
    cudaEventRecord(e, a);
    if (WAIT) cudaStreamWaitEvent(b, e);
    launch(scale, 1, 32, 0, b, d, 10.0f);
    cudaStreamSynchronize(b);
    const std::vector<float> v(32, 10);
    cudaStreamSynchronize(a);
    require(host_copy(d, 32) == v, wrong);
    cudaFree(d);
    cudaStreamDestroy(a);
    cudaStreamDestroy(b);
    cudaEventDestroy(e);
  }
}
/* The legacy default stream orders blocking streams, and not the others. */
template <unsigned FLAGS>
static void run_legacy() {
  for (int repeat = 0; repeat < 20; ++repeat) {
    float *d = device_floats(32, 0);
    require_success(cudaDeviceSynchronize());
    cudaStream_t a = make_stream(FLAGS), b = make_stream(FLAGS);
    launch(add_to, 1, 32, 0, a, d, 1.0f);
    launch(scale, 1, 32, 0, nullptr, d, 10.0f);
    launch(add_to, 1, 32, 0, b, d, 3.0f);
    cudaDeviceSynchronize();
    require(host_copy(d, 32) == std::vector<float>(32, 13), wrong);
    cudaFree(d);
    cudaStreamDestroy(a);
    cudaStreamDestroy(b);
  }
}
/* A synchronous copy from pageable memory is in the default stream: a non-blocking stream does not wait for it. */
static void run_copy_then_other_stream() {
  for (int repeat = 0; repeat < 20; ++repeat) {
    float *d, *o = device_floats(32, 0);
    require_success(cudaMalloc(&d, 32 * sizeof(float)));
    require_success(cudaDeviceSynchronize());
    cudaStream_t s = make_stream(cudaStreamNonBlocking);
    const std::vector<float> v(32, 4);
    require_success(cudaMemcpy(d, v.data(), 128, cudaMemcpyHostToDevice));
    launch(copy_floats, 1, 32, 0, s, d, o);
    require_success(cudaStreamSynchronize(s));
    require(host_copy(o, 32) == v, wrong);
    cudaFree(d);
    cudaFree(o);
    cudaStreamDestroy(s);
  }
}
static void run_read_too_early() {
  float *pinned, *d = device_floats(32, 3);
  require_success(cudaMallocHost(&pinned, 128));
  memset(pinned, 0, 128);
  cudaMemcpyAsync(pinned, d, 128, cudaMemcpyDeviceToHost, nullptr);
  require(pinned[0] == 3, wrong);
}

static void test_order() {
  check_clean("two streams with an event", run_two_streams<true, cudaStreamNonBlocking>, {"EMU_SEED=1"});
  check_fault("two streams without", run_two_streams<false, cudaStreamNonBlocking>, wrong, {"EMU_SEED=1"});
  check_fault("two blocking streams without", run_two_streams<false, cudaStreamDefault>, wrong, {"EMU_SEED=2"});
  check_clean("without a seed, the order of submission", run_two_streams<false, cudaStreamNonBlocking>);
  check_clean("the default stream orders blocking streams", run_legacy<cudaStreamDefault>, {"EMU_SEED=1"});
  check_fault("and not the others", run_legacy<cudaStreamNonBlocking>, wrong, {"EMU_SEED=1"});
  check_fault("a synchronous copy is not ordered before another stream", run_copy_then_other_stream, wrong,
              {"EMU_SEED=1"});
  check_fault("the host reads too early", run_read_too_early, wrong);

  cudaEvent_t start = make_event(cudaEventDefault), stop = make_event(cudaEventDefault),
              plain = make_event(cudaEventDisableTiming);
  float ms = -1;
  CHECK(cudaEventElapsedTime(&ms, start, stop) == cudaErrorInvalidResourceHandle); /* never recorded */
  CHECK(cudaEventSynchronize(start) == cudaSuccess && cudaStreamWaitEvent(nullptr, start) == cudaSuccess);
  cudaEventRecord(start, nullptr);
  launch(nothing, 100, 32, 0, nullptr);
  cudaEventRecord(stop, nullptr);
  cudaEventRecord(plain, nullptr);
  CHECK(cudaEventElapsedTime(&ms, start, stop) == cudaErrorNotReady);
  CHECK(cudaEventSynchronize(stop) == cudaSuccess && cudaEventElapsedTime(&ms, start, stop) == cudaSuccess && ms > 0);
  CHECK(cudaEventElapsedTime(&ms, start, plain) == cudaErrorInvalidResourceHandle);
  while (cudaEventQuery(plain) == cudaErrorNotReady) {
  }
  CHECK(cudaStreamQuery(nullptr) == cudaSuccess);
  cudaEventDestroy(start);
  cudaEventDestroy(stop);
  cudaEventDestroy(plain);
  cudaGetLastError();
  /* many launches and no wait: the queue stays bounded, and the end is right */
  float *d = device_floats(32, 0);
  for (int i = 0; i < 5000; ++i) launch(add_to, 1, 32, 0, nullptr, d, 1.0f);
  CHECK(emu_pending() <= 1024 && host_copy(d, 1)[0] == 5000);
  cudaFree(d);
  CHECK(emu_live() == 0);
}

/* ---- capture ------------------------------------------------------------------------------------------------------
 */

/* d = (d + 1) * 10 with the two steps in two streams, `d` then copied to `copy`. */
static cudaError_t record(cudaStream_t a, cudaStream_t b, cudaEvent_t fork, cudaEvent_t join, float *d, float *copy,
                          cudaGraph_t *graph, bool rejoin) {
  cudaStreamBeginCapture(a, cudaStreamCaptureModeGlobal);
  launch(add_to, 1, 32, 0, a, d, 1.0f);
  cudaEventRecord(fork, a);
  cudaStreamWaitEvent(b, fork);
  launch(scale, 1, 32, 0, b, d, 10.0f);
  cudaEventRecord(join, b);
  if (rejoin) cudaStreamWaitEvent(a, join);
  cudaMemcpyAsync(copy, d, 128, cudaMemcpyDeviceToDevice, a);
  return cudaStreamEndCapture(a, graph);
}

static void run_graph() {
  float *d = device_floats(32, 0), *copy = device_floats(32, 0);
  cudaStream_t a = make_stream(cudaStreamNonBlocking), b = make_stream(cudaStreamNonBlocking);
  cudaEvent_t fork = make_event(cudaEventDisableTiming), join = make_event(cudaEventDisableTiming);
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  require_success(cudaDeviceSynchronize());
  require_success(record(a, b, fork, join, d, copy, &graph, true));
  require(host_copy(d, 1)[0] == 0, "capturing must run nothing");
  require_success(cudaGraphInstantiate(&exec, graph, 0));
  require_success(cudaGraphDestroy(graph));
  for (int i = 0; i < 3; ++i) {
    require_success(cudaGraphLaunch(exec, i == 1 ? b : a)); /* launches of one graph do not overlap */
    launch(add_to, 1, 32, 0, i == 1 ? b : a, d, 2.0f);
    cudaDeviceSynchronize();
  }
  require(host_copy(copy, 32) == std::vector<float>(32, 1330) && host_copy(d, 1)[0] == 1332, wrong);
  cudaGraphExecDestroy(exec);
  cudaStreamDestroy(a);
  cudaStreamDestroy(b);
  cudaEventDestroy(fork);
  cudaEventDestroy(join);
  cudaFree(d);
  cudaFree(copy);
  require(emu_live() == 0, "something is left");
}

static cudaError_t end_capture(cudaStream_t s) {
  cudaGraph_t graph = nullptr;
  const cudaError_t error = cudaStreamEndCapture(s, &graph);
  if (graph) cudaGraphDestroy(graph);
  return error;
}

static void test_capture() {
  for (const char *seed : {"EMU_SEED=0", "EMU_SEED=1", "EMU_SEED=2", "EMU_SEED=3"})
    check_clean("graph of two streams", run_graph, {seed});

  float *d = device_floats(32, 0), *copy = device_floats(32, 0), *p;
  cudaStream_t a = make_stream(cudaStreamNonBlocking), b = make_stream(cudaStreamNonBlocking),
               c = make_stream(cudaStreamDefault);
  cudaEvent_t fork = make_event(cudaEventDisableTiming), join = make_event(cudaEventDisableTiming);
  cudaGraph_t graph;
  const cudaStreamCaptureMode global = cudaStreamCaptureModeGlobal, relaxed = cudaStreamCaptureModeRelaxed;
  cudaDeviceSynchronize();
  CHECK(record(a, b, fork, join, d, copy, &graph, false) == cudaErrorStreamCaptureUnjoined && graph == nullptr);
  CHECK(cudaStreamEndCapture(a, &graph) == cudaErrorIllegalState);
  CHECK(cudaStreamBeginCapture(nullptr, global) == cudaErrorStreamCaptureUnsupported);
  CHECK(cudaStreamWaitEvent(b, fork) == cudaErrorCapturedEvent);

  /* each of these is refused, and the capture is lost */
  cudaStreamCaptureStatus status;
  CHECK(cudaStreamBeginCapture(a, global) == cudaSuccess && cudaStreamBeginCapture(a, global) == cudaErrorIllegalState);
  CHECK(cudaMalloc(&p, 4) == cudaErrorStreamCaptureUnsupported);
  CHECK(cudaStreamIsCapturing(a, &status) == cudaSuccess && status == cudaStreamCaptureStatusInvalidated);
  CHECK(launch(nothing, 1, 1, 0, a) == cudaErrorStreamCaptureInvalidated);
  CHECK(end_capture(a) == cudaErrorStreamCaptureInvalidated);
  cudaStreamBeginCapture(a, global);
  CHECK(cudaDeviceSynchronize() == cudaErrorStreamCaptureUnsupported &&
        end_capture(a) == cudaErrorStreamCaptureInvalidated);
  cudaStreamBeginCapture(a, global);
  CHECK(cudaStreamSynchronize(a) == cudaErrorStreamCaptureUnsupported &&
        end_capture(a) == cudaErrorStreamCaptureInvalidated);
  cudaStreamBeginCapture(a, global);
  CHECK(cudaMemcpy(d, copy, 4, cudaMemcpyDeviceToDevice) == cudaErrorStreamCaptureUnsupported);
  CHECK(end_capture(a) == cudaErrorStreamCaptureInvalidated);
  cudaStreamBeginCapture(a, global);
  cudaEventRecord(fork, a);
  CHECK(cudaEventSynchronize(fork) == cudaErrorCapturedEvent && end_capture(a) == cudaErrorStreamCaptureInvalidated);
  cudaEventRecord(join, b);
  cudaStreamBeginCapture(a, global);
  CHECK(cudaStreamWaitEvent(a, join) == cudaErrorStreamCaptureIsolation &&
        end_capture(a) == cudaErrorStreamCaptureInvalidated);
  cudaStreamBeginCapture(c, global);
  CHECK(launch(nothing, 1, 1, 0, nullptr) == cudaErrorStreamCaptureImplicit &&
        end_capture(c) == cudaErrorStreamCaptureInvalidated);
  cudaStreamBeginCapture(a, relaxed);
  cudaStreamBeginCapture(b, relaxed);
  cudaEventRecord(fork, a);
  CHECK(cudaStreamWaitEvent(b, fork) == cudaErrorStreamCaptureMerge);
  CHECK(end_capture(a) == cudaErrorStreamCaptureInvalidated && end_capture(b) == cudaErrorStreamCaptureInvalidated);
  cudaStreamBeginCapture(a, global);
  cudaEventRecord(fork, a);
  cudaStreamWaitEvent(b, fork);
  CHECK(end_capture(b) == cudaErrorStreamCaptureUnmatched && end_capture(a) == cudaSuccess);
  /* allowed: other streams, and with the relaxed mode allocation */
  cudaStreamBeginCapture(a, relaxed);
  CHECK(cudaMalloc(&p, 4) == cudaSuccess && launch(nothing, 1, 1, 0, b) == cudaSuccess &&
        cudaStreamSynchronize(b) == cudaSuccess);
  CHECK(end_capture(a) == cudaSuccess);
  cudaGetLastError();
  cudaFree(p);
  cudaFree(d);
  cudaFree(copy);
  for (cudaStream_t s : {a, b, c}) cudaStreamDestroy(s);
  cudaEventDestroy(fork);
  cudaEventDestroy(join);
  CHECK(emu_live() == 0);
}

/* ---- libraries ----------------------------------------------------------------------------------------------------
 */

template <class T>
static T entry(const std::vector<T> &a, int ld, bool transposed, int i, int j) {
  return transposed ? a[(size_t)i * (size_t)ld + (size_t)j] : a[(size_t)j * (size_t)ld + (size_t)i];
}

template <class T, class Gemm>
static void test_gemm(const char *name, Gemm gemm, cublasHandle_t handle, double unit) {
  const int m = 7, n = 5, k = 9, lda = 12, ldb = 11, ldc = 8;
  const std::vector<float> random = random_floats(400, 9);
  const std::vector<T> a(random.begin(), random.begin() + lda * 9),
      b(random.begin() + 150, random.begin() + 150 + ldb * 9);
  for (int ta = 0; ta < 2; ++ta) {
    for (int tb = 0; tb < 2; ++tb) {
      std::vector<T> c0((size_t)ldc * n, (T)0.5);
      T *da = device_copy(a), *db = device_copy(b), *dc = device_copy(c0);
      const T alpha = (T)1.5, beta = (T)-0.25;
      const cublasStatus_t status = gemm(handle, ta ? CUBLAS_OP_T : CUBLAS_OP_N, tb ? CUBLAS_OP_T : CUBLAS_OP_N, m, n,
                                         k, &alpha, da, lda, db, ldb, &beta, dc, ldc);
      const std::vector<T> c = host_copy(dc, c0.size());
      double worst = 0;
      for (int j = 0; j < n; ++j) {
        for (int i = 0; i < m; ++i) {
          double sum = 0;
          for (int l = 0; l < k; ++l)
            sum += (double)entry(a, lda, ta != 0, i, l) * (double)entry(b, ldb, tb != 0, l, j);
          worst = std::fmax(worst, std::fabs((double)c[(size_t)(j * ldc + i)] - (1.5 * sum - 0.125)));
        }
      }
      char line[80];
      snprintf(line, sizeof line, "%s, transposes %d %d", name, ta, tb);
      CHECK_NAMED(status == CUBLAS_STATUS_SUCCESS && worst <= 1.5 * (k + 3) * k * unit && c[(size_t)m] == (T)0.5, line);
      cudaFree(da);
      cudaFree(db);
      cudaFree(dc);
    }
  }
}

static void test_blas() {
  cublasHandle_t handle;
  int version = 0;
  CHECK(cublasCreate(&handle) == CUBLAS_STATUS_SUCCESS && emu_live() == 1);
  CHECK(cublasGetVersion(handle, &version) == CUBLAS_STATUS_SUCCESS && version >= 120000);
  test_gemm<float>("cublasSgemm", cublasSgemm, handle, 0x1p-24);
  test_gemm<double>("cublasDgemm", cublasDgemm, handle, 0x1p-53);
  const std::vector<double> a = {1, 2, 3, 4, 5, 6}; /* 2 x 3 */
  double *da = device_copy(a), *dc = device_copy(std::vector<double>(4, NAN));
  double one = 1, none = 0;
  CHECK(cublasDsyrk(handle, CUBLAS_FILL_MODE_LOWER, CUBLAS_OP_N, 2, 3, &one, da, 2, &none, dc, 2) ==
        CUBLAS_STATUS_SUCCESS);
  std::vector<double> c = host_copy(dc, 4);
  CHECK(c[0] == 35 && c[1] == 44 && c[3] == 56 &&
        std::isnan(c[2])); /* beta = 0 reads nothing, the upper part is left */
  const std::vector<float> fa = {1, 2, 3, 4, 5, 6};
  float *dfa = device_copy(fa), *dfc = device_copy(std::vector<float>(4, 0));
  const float fone = 1, fnone = 0;
  cublasSsyrk(handle, CUBLAS_FILL_MODE_UPPER, CUBLAS_OP_N, 2, 3, &fone, dfa, 2, &fnone, dfc, 2);
  const std::vector<float> fc = host_copy(dfc, 4);
  CHECK(fc[0] == 35 && fc[2] == 44 && fc[3] == 56 && fc[1] == 0);
  const std::vector<double> b = {1, 0, 0, 1, 2, 0}; /* 2 x 3; A B^T + B A^T */
  double *db = device_copy(b), *dd = device_copy(std::vector<double>{1, 1, NAN, 1});
  CHECK(cublasDsyr2k(handle, CUBLAS_FILL_MODE_LOWER, CUBLAS_OP_N, 2, 3, &one, da, 2, db, 2, &one, dd, 2) ==
        CUBLAS_STATUS_SUCCESS);
  c = host_copy(dd, 4);
  CHECK(c[0] == 23 && c[1] == 18 && c[3] == 9 && std::isnan(c[2]));
  float *dfb = device_copy(std::vector<float>{1, 0, 0, 1, 2, 0}), *dfd = device_copy(std::vector<float>(4, 5));
  cublasSsyr2k(handle, CUBLAS_FILL_MODE_UPPER, CUBLAS_OP_N, 2, 3, &fone, dfa, 2, dfb, 2, &fnone, dfd, 2);
  const std::vector<float> fd = host_copy(dfd, 4);
  CHECK(fd[0] == 22 && fd[2] == 17 && fd[3] == 8 && fd[1] == 5);
  CHECK(cublasSsyr2k(handle, CUBLAS_FILL_MODE_UPPER, CUBLAS_OP_N, 2, 3, &fone, dfa, 2, dfb, 1, &fnone, dfd, 2) ==
        CUBLAS_STATUS_INVALID_VALUE);
  for (void *p : {(void *)db, (void *)dd, (void *)dfb, (void *)dfd}) cudaFree(p);
  /* scalars on the device are read when it runs */
  double *dalpha = device_copy(std::vector<double>{2}), *dbeta = device_copy(std::vector<double>{0});
  CHECK(cublasSetPointerMode(handle, CUBLAS_POINTER_MODE_DEVICE) == CUBLAS_STATUS_SUCCESS);
  CHECK(cublasDsyrk(handle, CUBLAS_FILL_MODE_LOWER, CUBLAS_OP_N, 2, 3, dalpha, da, 2, dbeta, dc, 2) ==
        CUBLAS_STATUS_SUCCESS);
  CHECK(host_copy(dc, 1)[0] == 70);
  cublasSetPointerMode(handle, CUBLAS_POINTER_MODE_HOST);
  /* TF32 where it is asked for, and only there */
  float *dx = device_copy(std::vector<float>{1.0f + 0x1p-13f}), *dy = device_copy(std::vector<float>{0});
  cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &fone, dx, 1, dx, 1, &fnone, dy, 1);
  CHECK(host_copy(dy, 1)[0] > 1.0f);
  CHECK(cublasSetMathMode(handle, CUBLAS_TF32_TENSOR_OP_MATH) == CUBLAS_STATUS_SUCCESS);
  cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &fone, dx, 1, dx, 1, &fnone, dy, 1);
  CHECK(host_copy(dy, 1)[0] == 1.0f);
  CHECK(cublasDgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, &one, da, 1, da, 2, &none, dc, 2) ==
        CUBLAS_STATUS_INVALID_VALUE);
  CHECK(strcmp(cublasGetStatusName(CUBLAS_STATUS_INVALID_VALUE), "CUBLAS_STATUS_INVALID_VALUE") == 0);
  /* in stream order, also into a graph */
  cudaStream_t s = make_stream(cudaStreamNonBlocking);
  cublasSetStream(handle, s);
  cublasSetMathMode(handle, CUBLAS_DEFAULT_MATH);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal);
  CHECK(cublasDsyrk(handle, CUBLAS_FILL_MODE_LOWER, CUBLAS_OP_N, 2, 3, &one, da, 2, &one, dc, 2) ==
        CUBLAS_STATUS_SUCCESS);
  CHECK(cudaStreamEndCapture(s, &graph) == cudaSuccess && cudaGraphInstantiate(&exec, graph) == cudaSuccess);
  one = 100; /* a scalar on the host was read by the call */
  cudaGraphLaunch(exec, s);
  cudaGraphLaunch(exec, s);
  cudaStreamSynchronize(s);
  CHECK(host_copy(dc, 1)[0] == 70 + 2 * 35);
  cudaGraphDestroy(graph);
  cudaGraphExecDestroy(exec);
  cudaStreamDestroy(s);
  for (void *p :
       {(void *)da, (void *)dc, (void *)dfa, (void *)dfc, (void *)dalpha, (void *)dbeta, (void *)dx, (void *)dy})
    cudaFree(p);
  CHECK(cublasDestroy(handle) == CUBLAS_STATUS_SUCCESS && emu_live() == 0);
}

static void test_solver() {
  const int n = 4;
  /* the second difference: eigenvalues 2 - 2 cos(k pi / (n + 1)) */
  std::vector<double> a((size_t)n * n, NAN); /* the upper triangle is not read */
  for (int j = 0; j < n; ++j) {
    for (int i = j; i < n; ++i) a[(size_t)(j * n + i)] = i == j ? 2 : i == j + 1 ? -1 : 0;
  }
  double *da = device_copy(a), *dw = device_copy(std::vector<double>(n)), *work;
  int *info = device_copy(std::vector<int>{-7}), lwork = 0;
  cusolverDnHandle_t handle;
  CHECK(cusolverDnCreate(&handle) == CUSOLVER_STATUS_SUCCESS);
  const cusolverEigMode_t values = CUSOLVER_EIG_MODE_NOVECTOR;
  CHECK(cusolverDnDsyevd_bufferSize(handle, values, CUBLAS_FILL_MODE_LOWER, n, da, n, dw, &lwork) ==
        CUSOLVER_STATUS_SUCCESS);
  require_success(cudaMalloc(&work, (size_t)lwork * sizeof(double)));
  CHECK(cusolverDnDsyevd(handle, values, CUBLAS_FILL_MODE_LOWER, n, da, n, dw, work, lwork, info) ==
        CUSOLVER_STATUS_SUCCESS);
  const std::vector<double> w = host_copy(dw, n);
  bool right = host_copy(info, 1)[0] == 0;
  for (int k = 0; k < n; ++k)
    right = right && std::fabs(w[(size_t)k] - (2 - 2 * std::cos((k + 1) * M_PI / (n + 1)))) <= 16 * n * 0x1p-53 * 4;
  CHECK_NAMED(right, "eigenvalues, ascending");
  CHECK(cusolverDnDsyevd(handle, values, CUBLAS_FILL_MODE_LOWER, n, da, n, dw, work, 1, info) ==
        CUSOLVER_STATUS_INVALID_VALUE);
  CHECK(cusolverDnSetStream(handle, nullptr) == CUSOLVER_STATUS_SUCCESS &&
        cusolverDnDestroy(handle) == CUSOLVER_STATUS_SUCCESS);
  for (void *p : {(void *)da, (void *)dw, (void *)work, (void *)info}) cudaFree(p);
  CHECK(emu_live() == 0);
}

static void test_nvtx() {
  nvtxDomainHandle_t domain = nvtxDomainCreateA("test");
  nvtxEventAttributes_t a = {};
  a.version = NVTX_VERSION;
  a.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
  a.messageType = NVTX_MESSAGE_TYPE_ASCII;
  a.message.ascii = "outer";
  const int64_t first = emu_nvtx_count();
  CHECK(nvtxDomainRangePushEx(domain, &a) == 0);
  a.message.ascii = "inner";
  nvtxDomainMarkEx(domain, &a);
  CHECK(nvtxDomainRangePop(domain) == 0 && emu_nvtx_count() == first + 3);
  const emu_nvtx_record *r = emu_nvtx_at(first), *mark = emu_nvtx_at(first + 1);
  CHECK(r->kind == EMU_NVTX_PUSH && strcmp(r->text, "outer") == 0 && strcmp(r->domain, "test") == 0 && r->depth == 0);
  CHECK(mark->kind == EMU_NVTX_MARK && strcmp(mark->text, "inner") == 0 && mark->depth == 1);
  CHECK(emu_nvtx_at(first + 2)->kind == EMU_NVTX_POP && emu_nvtx_at(first + 3) == nullptr);
  nvtxDomainDestroy(domain);
  CHECK(cudaProfilerStart() == cudaSuccess && emu_profiler_running() == 1);
  CHECK(cudaProfilerStop() == cudaSuccess && emu_profiler_running() == 0);
}

/* ---- injected failures --------------------------------------------------------------------------------------------
 */

/* A small program that checks every call and gives everything back. */
static cudaError_t careful_program(float *result) {
  cudaError_t error;
  float *d = nullptr;
  cudaStream_t s = nullptr;
  cudaEvent_t e = nullptr;
  cublasHandle_t handle = nullptr;
  const std::vector<float> v(32, 1);
  const float one = 1, zero = 0;
  if ((error = cudaMalloc(&d, 3 * 128)) != cudaSuccess) goto cleanup;
  if ((error = cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking)) != cudaSuccess) goto cleanup;
  if ((error = cudaEventCreateWithFlags(&e, cudaEventDisableTiming)) != cudaSuccess) goto cleanup;
  if (cublasCreate(&handle) != CUBLAS_STATUS_SUCCESS || cublasSetStream(handle, s) != CUBLAS_STATUS_SUCCESS) {
    error = cudaErrorUnknown;
    goto cleanup;
  }
  if ((error = cudaMemcpyAsync(d, v.data(), 128, cudaMemcpyHostToDevice, s)) != cudaSuccess) goto cleanup;
  if ((error = launch(add_to, 1, 32, 0, s, d, 2.0f)) != cudaSuccess) goto cleanup;
  if (cublasSgemm(handle, CUBLAS_OP_T, CUBLAS_OP_N, 1, 1, 32, &one, d, 32, d, 32, &zero, d + 32, 1) !=
      CUBLAS_STATUS_SUCCESS) {
    error = cudaErrorUnknown;
    goto cleanup;
  }
  if ((error = cudaEventRecord(e, s)) != cudaSuccess) goto cleanup;
  if ((error = cudaEventSynchronize(e)) != cudaSuccess) goto cleanup;
  error = cudaMemcpy(result, d + 32, sizeof *result, cudaMemcpyDeviceToHost);
cleanup:
  if (handle) cublasDestroy(handle);
  if (e) cudaEventDestroy(e);
  if (s) cudaStreamDestroy(s);
  cudaFree(d);
  return error;
}

static void test_injection() {
  float result = 0;
  emu_fail_at(0);
  CHECK(careful_program(&result) == cudaSuccess && result == 32 * 9);
  const int64_t calls = emu_call_count();
  CHECK(calls == 11);
  bool failed = true, clean = true;
  for (int64_t k = 1; k <= calls; ++k) {
    emu_fail_at(k);
    failed = failed && careful_program(&result) != cudaSuccess;
    clean = clean && emu_live() == 0;
    cudaGetLastError();
  }
  CHECK_NAMED(failed, "each call in turn fails");
  CHECK_NAMED(clean, "and nothing is left");
  void *p;
  emu_fail_at(1);
  CHECK(cudaMalloc(&p, 4) == cudaErrorMemoryAllocation && cudaGetLastError() == cudaErrorMemoryAllocation);
  emu_fail_at(1);
  CHECK(launch(nothing, 1, 1, 0, nullptr) == cudaErrorLaunchFailure);
  emu_fail_at(2);
  CHECK(launch(nothing, 1, 1, 0, nullptr) == cudaSuccess && cudaDeviceSynchronize() == cudaErrorLaunchFailure);
  emu_fail_at(0);
  cudaStream_t s = make_stream(cudaStreamNonBlocking);
  cudaGraph_t graph;
  cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal);
  emu_fail_at(1);
  CHECK(cudaStreamEndCapture(s, &graph) == cudaErrorStreamCaptureInvalidated);
  emu_fail_at(0);
  CHECK(cudaMalloc(&p, 4) == cudaSuccess); /* the capture has ended */
  cudaFree(p);
  cudaStreamDestroy(s);
  cudaGetLastError();
}
static void run_injection_by_environment() {
  void *p, *q;
  require(cudaMalloc(&p, 4) == cudaSuccess && cudaMalloc(&q, 4) == cudaErrorMemoryAllocation &&
              cudaMalloc(&q, 4) == cudaSuccess,
          wrong);
}

/* ---- misuse -------------------------------------------------------------------------------------------------------
 */

static void free_twice() {
  float *d = device_floats(4, 0);
  cudaFree(d);
  cudaFree(d);
}
static void free_inside() { cudaFree(device_floats(4, 0) + 1); }
static void free_host_pointer() {
  float v[4] = {};
  cudaFree(v);
}
static void free_with_wrong_call() {
  float *p;
  cudaMallocHost(&p, 16);
  cudaFree(p);
}
static void copy_to_host_as_device() {
  float v[4] = {}, w[4] = {};
  cudaMemcpy(v, w, 16, cudaMemcpyHostToDevice);
}
static void copy_from_device_as_host() {
  float *d = device_floats(4, 0), *e = device_floats(4, 0);
  cudaMemcpy(d, e, 16, cudaMemcpyHostToDevice);
}
static void copy_too_much() {
  float v[8] = {};
  cudaMemcpy(device_floats(4, 0), v, 32, cudaMemcpyHostToDevice);
}
static void copy_onto_itself() {
  float *d = device_floats(8, 0);
  cudaMemcpy(d, d + 2, 16, cudaMemcpyDeviceToDevice);
}
static void set_too_much() { cudaMemset(device_floats(4, 0), 0, 17); }
static void use_destroyed_stream() {
  cudaStream_t s = make_stream(cudaStreamDefault);
  cudaStreamDestroy(s);
  launch(nothing, 1, 1, 0, s);
}
static void use_unknown_stream() { launch(nothing, 1, 1, 0, reinterpret_cast<cudaStream_t>(&failed_checks)); }
static void use_destroyed_event() {
  cudaEvent_t e = make_event(cudaEventDefault);
  cudaEventDestroy(e);
  cudaEventRecord(e, nullptr);
}
static void free_pinned_too_early() {
  float *p, *d = device_floats(4, 0);
  cudaMallocHost(&p, 16);
  cudaMemcpyAsync(d, p, 16, cudaMemcpyHostToDevice, nullptr);
  cudaFreeHost(p);
}
static void free_memory_of_a_graph() {
  float *d = device_floats(4, 0), *e = device_floats(4, 0);
  cudaStream_t s = make_stream(cudaStreamNonBlocking);
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal);
  cudaMemcpyAsync(d, e, 16, cudaMemcpyDeviceToDevice, s);
  cudaStreamEndCapture(s, &graph);
  cudaGraphInstantiate(&exec, graph);
  cudaFree(d);
  cudaGraphLaunch(exec, s);
  cudaStreamSynchronize(s);
}
static void blas_on_host_memory() {
  cublasHandle_t handle;
  cublasCreate(&handle);
  std::vector<float> v(4, 1);
  const float one = 1;
  cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, &one, v.data(), 2, v.data(), 2, &one, device_floats(4, 0), 2);
}
static void blas_too_large() {
  cublasHandle_t handle;
  cublasCreate(&handle);
  float *d = device_floats(4, 0);
  const float one = 1;
  cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, &one, d, 3, d, 2, &one, d, 2);
}
static void blas_with_wrong_scalars() {
  cublasHandle_t handle;
  cublasCreate(&handle);
  float *d = device_floats(4, 0);
  cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, d, d, 2, d, 2, d, d, 2);
}
static void pop_too_often() { nvtxRangePop(); }
static void bad_setting() {}

static void test_misuse() {
  check_fault("memory freed twice", free_twice, "freed twice");
  check_fault("memory freed inside", free_inside, "not the start of an allocation");
  check_fault("host memory freed by cudaFree", free_host_pointer, "not device memory");
  check_fault("pinned memory freed by cudaFree", free_with_wrong_call, "this is pinned host memory");
  check_fault("a host pointer as a device pointer", copy_to_host_as_device,
              "is host memory, but the kind of copy says device");
  check_fault("a device pointer as a host pointer", copy_from_device_as_host,
              "is device memory, but the kind of copy says host");
  check_fault("a copy over the end", copy_too_much, "out of bounds: the destination");
  check_fault("a copy onto itself", copy_onto_itself, "overlap");
  check_fault("a memset over the end", set_too_much, "out of bounds");
  check_fault("a destroyed stream", use_destroyed_stream, "a stream that was destroyed is used");
  check_fault("an unknown stream", use_unknown_stream, "is not a stream");
  check_fault("a destroyed event", use_destroyed_event, "an event that was destroyed is used");
  check_fault("pinned memory freed under a copy", free_pinned_too_early, "a queued operation still uses this memory");
  check_fault("memory of a graph freed", free_memory_of_a_graph, "was freed before it ran");
  check_fault("cuBLAS on host memory", blas_on_host_memory, "is not device memory");
  check_fault("a matrix larger than its memory", blas_too_large, "out of bounds: A, 2 x 2");
  check_fault("scalars on the device in host mode", blas_with_wrong_scalars, "the pointer mode says host");
  check_fault("a range popped too often", pop_too_often, "no range is open");
  check_fault("a setting that is no number", bad_setting, "EMU_MEMORY=much: not a number", {"EMU_MEMORY=much"});
  check_fault("a setting with rubbish behind it", bad_setting, "EMU_SEED=1x: not a number", {"EMU_SEED=1x"});
}

int main() {
  test_devices();
  check_clean("no device", run_without_device, {"EMU_DEVICES=0"});
  check_clean("two devices", run_two_devices, {"EMU_DEVICES=2"});
  check_clean("a device of 4 KiB", run_little_memory, {"EMU_MEMORY=4K"});
  test_limits();
  test_copies();
  test_host_memory();
  test_order();
  test_capture();
  test_blas();
  test_solver();
  test_nvtx();
  test_injection();
  check_clean("injection by the environment", run_injection_by_environment, {"EMU_FAIL_AT=2"});
  test_misuse();
  return check_summary();
}
