/**
 * @file backend.cu
 * @brief The cuda backend: fills the table of backend.h with kernels, cuBLAS and cuSOLVER. Built as a module that is
 * opened at run time.
 *
 * Two streams. `compute` runs everything in order; `gram` runs the rank updates H += U U^T, so that the features of the
 * next slab are computed while the current one is multiplied: the engine alternates between two slabs, and events say
 * when a slab is ready and when it is free again. Operations that return numbers to the host synchronize; the others
 * only enqueue. Host data pass through one pinned buffer. float32 products add up in float32 over a slab and in float64
 * over slabs (gram_add); no TensorFloat-32.
 *
 * SPDX-License-Identifier: MIT
 */
#include <cublas_v2.h>
#include <cuda_profiler_api.h>
#include <cusolverDn.h>
#include <nvtx3/nvToolsExt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device.cuh"
#include "kernels.cuh"
#include "softntk/version.h"

namespace {

/* ---- state ---- */

/* Buffers grown on demand and kept. */
enum scratch_slot {
  SLOT_PARTIAL,
  SLOT_STATS,
  SLOT_PULL,
  SLOT_NORMS,
  SLOT_GRADIENT,
  SLOT_Z,
  SLOT_D1,
  SLOT_D2,
  SLOT_V,
  SLOT_PRODUCT,
  SLOT_WIDE,
  SLOT_SAMPLES,
  SLOT_WORK,
  SLOT_PADDED,
  SLOTS
};

/* When a slab of features, or the two of a change, may be written again. */
struct slab_use {
  const void *u, *other; /* NULL: none */
  cudaEvent_t read;
};

/* What a recorded step depends on: the same bytes, the same step. Filled after memset, so that padding compares equal.
 */
struct step_key {
  sntk_neurons v;
  const void *x;
  int64_t samples;
  double eta;
  const void *buffers[8];
};

struct cuda_state {
  int device;
  device_limits limits;
  cudaStream_t compute, gram;
  cudaEvent_t ready; /* features of the slab under way are written */
  slab_use slabs[2];
  int next_slab;
  cublasHandle_t blas_compute, blas_gram;
  cusolverDnHandle_t solver;
  void *scratch[SLOTS];
  int64_t scratch_bytes[SLOTS];
  sntk_samples padded; /* what stands padded in SLOT_PADDED; x NULL: nothing */
  void *pinned;
  int64_t pinned_bytes;
  cudaGraphExec_t step; /* a training step recorded as a graph, valid for step_of; NULL: none */
  step_key step_of;
  nvtxDomainHandle_t domain;
};

cuda_state *state_of(const sntk_context *ctx) { return static_cast<cuda_state *>(ctx->backend_state); }

/* An NVTX range as long as the object lives, in the project's own domain. */
class range {
 public:
  range(const sntk_context *ctx, const char *name) : domain_(state_of(ctx)->domain) {
    nvtxEventAttributes_t attributes = {};
    attributes.version = NVTX_VERSION;
    attributes.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
    attributes.messageType = NVTX_MESSAGE_TYPE_ASCII;
    attributes.message.ascii = name;
    nvtxDomainRangePushEx(domain_, &attributes);
  }
  ~range() { nvtxDomainRangePop(domain_); }
  range(const range &) = delete;
  range &operator=(const range &) = delete;

 private:
  nvtxDomainHandle_t domain_;
};

/* ---- errors ---- */

sntk_status fail_cuda(sntk_context *ctx, cudaError_t error, const char *call, int64_t size) {
  const cuda_state *state = state_of(ctx);
  cudaGetLastError(); /* a sticky error stays; any other must not be seen again by the next launch */
  return sntk_fail(ctx, error == cudaErrorMemoryAllocation ? SNTK_ERR_MEMORY : SNTK_ERR_DEVICE,
                   "cuda device %d: %s (size %lld): %s: %s", state ? state->device : -1, call,
                   static_cast<long long>(size), cudaGetErrorName(error), cudaGetErrorString(error));
}

sntk_status fail_blas(sntk_context *ctx, cublasStatus_t status, const char *call, int64_t size) {
  return sntk_fail(ctx, status == CUBLAS_STATUS_ALLOC_FAILED ? SNTK_ERR_MEMORY : SNTK_ERR_DEVICE,
                   "cuda device %d: %s (size %lld): %s", state_of(ctx)->device, call, static_cast<long long>(size),
                   cublasGetStatusString(status));
}

sntk_status fail_solver(sntk_context *ctx, cusolverStatus_t status, const char *call, int64_t size) {
  return sntk_fail(ctx, status == CUSOLVER_STATUS_ALLOC_FAILED ? SNTK_ERR_MEMORY : SNTK_ERR_DEVICE,
                   "cuda device %d: %s (size %lld): cuSOLVER status %d", state_of(ctx)->device, call,
                   static_cast<long long>(size), static_cast<int>(status));
}

/* `size` is what the call was about: bytes, columns, samples. */
#define CUDA_TRY(ctx, call, size)                                                                                      \
  do {                                                                                                                 \
    const cudaError_t cuda_error_ = (call);                                                                            \
    if (cuda_error_ != cudaSuccess) return fail_cuda(ctx, cuda_error_, #call, size);                                   \
  } while (0)
#define BLAS_TRY(ctx, call, size)                                                                                      \
  do {                                                                                                                 \
    const cublasStatus_t blas_status_ = (call);                                                                        \
    if (blas_status_ != CUBLAS_STATUS_SUCCESS) return fail_blas(ctx, blas_status_, #call, size);                       \
  } while (0)
#define SOLVER_TRY(ctx, call, size)                                                                                    \
  do {                                                                                                                 \
    const cusolverStatus_t solver_status_ = (call);                                                                    \
    if (solver_status_ != CUSOLVER_STATUS_SUCCESS) return fail_solver(ctx, solver_status_, #call, size);               \
  } while (0)

/* ---- memory ---- */

sntk_status scratch(sntk_context *ctx, scratch_slot slot, int64_t bytes, void **out) {
  cuda_state *state = state_of(ctx);
  if (bytes < 0) return sntk_fail(ctx, SNTK_ERR_SHAPE, "work space of the cuda backend does not fit an address space");
  if (bytes > state->scratch_bytes[slot]) {
    /* the streams may still use the old buffer; cudaFree waits for the device */
    CUDA_TRY(ctx, cudaFree(state->scratch[slot]), state->scratch_bytes[slot]);
    state->scratch[slot] = NULL;
    state->scratch_bytes[slot] = 0;
    CUDA_TRY(ctx, cudaMalloc(&state->scratch[slot], static_cast<size_t>(bytes)), bytes);
    state->scratch_bytes[slot] = bytes;
  }
  *out = state->scratch[slot];
  return SNTK_OK;
}

template <class T>
sntk_status scratch_of(sntk_context *ctx, scratch_slot slot, int64_t count, T **out) {
  return scratch(ctx, slot, sntk_size_mul(count, sizeof(T)), reinterpret_cast<void **>(out));
}

/* The pinned buffer; its last use must have been synchronized with. */
sntk_status pinned(sntk_context *ctx, int64_t bytes, void **out) {
  cuda_state *state = state_of(ctx);
  if (bytes > state->pinned_bytes) {
    CUDA_TRY(ctx, cudaFreeHost(state->pinned), state->pinned_bytes);
    state->pinned = NULL;
    state->pinned_bytes = 0;
    CUDA_TRY(ctx, cudaMallocHost(&state->pinned, static_cast<size_t>(bytes)), bytes);
    state->pinned_bytes = bytes;
  }
  *out = state->pinned;
  return SNTK_OK;
}

sntk_status synchronize(sntk_context *ctx) {
  CUDA_TRY(ctx, cudaStreamSynchronize(state_of(ctx)->compute), 0);
  return SNTK_OK;
}

/* Host doubles to a device buffer of the slot; returns before the copy is done, the pinned buffer busy until the next
 * synchronize. */
sntk_status send(sntk_context *ctx, scratch_slot slot, const double *from, int64_t count, double **to) {
  void *staging = NULL;
  SNTK_TRY(synchronize(ctx));
  SNTK_TRY(pinned(ctx, count * static_cast<int64_t>(sizeof(double)), &staging));
  SNTK_TRY(scratch_of(ctx, slot, count, to));
  memcpy(staging, from, static_cast<size_t>(count) * sizeof(double));
  CUDA_TRY(ctx,
           cudaMemcpyAsync(*to, staging, static_cast<size_t>(count) * sizeof(double), cudaMemcpyHostToDevice,
                           state_of(ctx)->compute),
           count);
  return SNTK_OK;
}

/* Device doubles into the pinned buffer, complete on return. */
sntk_status receive(sntk_context *ctx, const double *from, int64_t count, double **host) {
  SNTK_TRY(synchronize(ctx));
  SNTK_TRY(pinned(ctx, count * static_cast<int64_t>(sizeof(double)), reinterpret_cast<void **>(host)));
  CUDA_TRY(ctx,
           cudaMemcpyAsync(*host, from, static_cast<size_t>(count) * sizeof(double), cudaMemcpyDeviceToHost,
                           state_of(ctx)->compute),
           count);
  return synchronize(ctx);
}

sntk_status cuda_alloc(sntk_context *ctx, const char *what, int64_t bytes, void **out) {
  *out = NULL;
  if (bytes < 0) return sntk_fail(ctx, SNTK_ERR_MEMORY, "%s: the size does not fit an address space", what);
  size_t free_bytes = 0, total = 0;
  CUDA_TRY(ctx, cudaMemGetInfo(&free_bytes, &total), bytes);
  if (static_cast<uint64_t>(bytes) > free_bytes) {
    char needed[32], there[32];
    return sntk_fail(ctx, SNTK_ERR_MEMORY, "%s: %s are needed and cuda device %d has %s free; use a smaller width",
                     what, sntk_format_bytes(bytes, needed), state_of(ctx)->device,
                     sntk_format_bytes(static_cast<int64_t>(free_bytes), there));
  }
  CUDA_TRY(ctx, cudaMalloc(out, static_cast<size_t>(bytes > 0 ? bytes : 1)), bytes);
  const cudaError_t error = cudaMemsetAsync(*out, 0, static_cast<size_t>(bytes), state_of(ctx)->compute);
  if (error != cudaSuccess) {
    cudaFree(*out);
    *out = NULL;
    return fail_cuda(ctx, error, "cudaMemsetAsync", bytes);
  }
  return SNTK_OK;
}

void cuda_free(sntk_context *ctx, void *pointer) {
  cuda_state *state = state_of(ctx);
  for (slab_use &use : state->slabs) {
    if (use.u == pointer) use.u = NULL;
    if (use.other == pointer) use.other = NULL;
  }
  state->padded.x = NULL; /* its memory may be another's soon */
  cudaFree(pointer);      /* waits for the work that uses it */
}

sntk_status cuda_upload(sntk_context *ctx, void *to, const void *from, int64_t bytes) {
  state_of(ctx)->padded.x = NULL; /* they may be the samples */
  /* the zero fill of a fresh buffer may still be under way on the stream */
  CUDA_TRY(ctx, cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, state_of(ctx)->compute),
           bytes);
  return synchronize(ctx);
}

sntk_status cuda_download(sntk_context *ctx, void *to, const void *from, int64_t bytes) {
  CUDA_TRY(ctx, cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost, state_of(ctx)->compute),
           bytes);
  return synchronize(ctx);
}

/* ---- opening ---- */

void cuda_close(sntk_context *ctx) {
  cuda_state *state = state_of(ctx);
  if (!state) return;
  if (state->step) cudaGraphExecDestroy(state->step);
  if (state->solver) cusolverDnDestroy(state->solver);
  if (state->blas_compute) cublasDestroy(state->blas_compute);
  if (state->blas_gram) cublasDestroy(state->blas_gram);
  for (int i = 0; i < SLOTS; i++) cudaFree(state->scratch[i]);
  cudaFreeHost(state->pinned);
  for (int i = 0; i < 2; i++)
    if (state->slabs[i].read) cudaEventDestroy(state->slabs[i].read);
  if (state->ready) cudaEventDestroy(state->ready);
  if (state->compute) cudaStreamDestroy(state->compute);
  if (state->gram) cudaStreamDestroy(state->gram);
  if (state->domain) nvtxDomainDestroy(state->domain);
  free(state);
  ctx->backend_state = NULL;
}

sntk_status open_device(sntk_context *ctx, cuda_state *state) {
  int count = 0, runtime = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    cudaGetLastError();
    return sntk_fail(ctx, SNTK_ERR_DEVICE, "no CUDA device: cudaGetDeviceCount: %s", cudaGetErrorString(error));
  }
  if (state->device >= count)
    return sntk_fail(ctx, SNTK_ERR_DEVICE, "cuda device %d does not exist; this machine has %d, counted from 0",
                     state->device, count);
  CUDA_TRY(ctx, cudaSetDevice(state->device), state->device);
  cudaDeviceProp properties;
  CUDA_TRY(ctx, cudaGetDeviceProperties(&properties, state->device), state->device);
  CUDA_TRY(ctx, cudaRuntimeGetVersion(&runtime), 0);
  state->limits.multiprocessors = properties.multiProcessorCount;
  state->limits.tensor_cores = ctx->tensor_cores && properties.major >= 8;
  if (ctx->tensor_cores && !state->limits.tensor_cores)
    return sntk_fail(
        ctx, SNTK_ERR_DEVICE,
        "cuda device %d has no TensorFloat-32 (compute capability %d.%d, 8.0 is needed); use tensor_cores false",
        state->device, properties.major, properties.minor);
  CUDA_TRY(ctx,
           cudaDeviceGetAttribute(&state->limits.shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, state->device),
           state->device);
  CUDA_TRY(ctx, cudaStreamCreateWithFlags(&state->compute, cudaStreamNonBlocking), 0);
  CUDA_TRY(ctx, cudaStreamCreateWithFlags(&state->gram, cudaStreamNonBlocking), 0);
  CUDA_TRY(ctx, cudaEventCreateWithFlags(&state->ready, cudaEventDisableTiming), 0);
  for (int i = 0; i < 2; i++) CUDA_TRY(ctx, cudaEventCreateWithFlags(&state->slabs[i].read, cudaEventDisableTiming), 0);
  BLAS_TRY(ctx, cublasCreate(&state->blas_compute), 0);
  BLAS_TRY(ctx, cublasCreate(&state->blas_gram), 0);
  BLAS_TRY(ctx, cublasSetStream(state->blas_compute, state->compute), 0);
  BLAS_TRY(ctx, cublasSetStream(state->blas_gram, state->gram), 0);
  SOLVER_TRY(ctx, cusolverDnCreate(&state->solver), 0);
  SOLVER_TRY(ctx, cusolverDnSetStream(state->solver, state->compute), 0);
#if defined(SNTK_EMULATED)
  const char *emulated = ", emulated on the host";
#else
  const char *emulated = "";
#endif
  snprintf(ctx->device_name, sizeof ctx->device_name,
           "%.100s%s, compute capability %d.%d, %d multiprocessors, %.1f GiB, CUDA runtime %d.%d", properties.name,
           emulated, properties.major, properties.minor, properties.multiProcessorCount,
           static_cast<double>(properties.totalGlobalMem) / (1 << 30), runtime / 1000, runtime % 1000 / 10);
  return SNTK_OK;
}

sntk_status cuda_open(sntk_context *ctx, int device) {
  cuda_state *state = static_cast<cuda_state *>(calloc(1, sizeof(cuda_state)));
  if (!state) return sntk_fail(ctx, SNTK_ERR_MEMORY, "no memory for the cuda backend");
  state->device = device;
  state->domain = nvtxDomainCreateA("softntk");
  ctx->backend_state = state;
  if (ctx->threads == 0) ctx->threads = 1;
  const sntk_status status = open_device(ctx, state);
  if (status != SNTK_OK) cuda_close(ctx);
  return status;
}

sntk_precision cuda_precision(const sntk_context *, sntk_precision wanted) { return wanted; }

bool cuda_supports(const sntk_context *, sntk_layout) { return true; }

/* Device memory that may be planned for; a limit given by the user holds there too. */
int64_t cuda_memory(sntk_context *ctx) {
  size_t free_bytes = 0, total = 0;
  const cudaError_t error = cudaMemGetInfo(&free_bytes, &total);
  if (error == cudaSuccess) return static_cast<int64_t>(free_bytes);
  fail_cuda(ctx, error, "cudaMemGetInfo", 0);
  return -1;
}

/* Columns of a slab of logits: a buffer of about 64 MiB in float32. */
int64_t slab_columns(int64_t samples, int64_t count) {
  int64_t b = (int64_t(1) << 24) / samples / 64 * 64;
  b = b < 64 ? 64 : b > 65536 ? 65536 : b;
  return b < count ? b : count;
}

/* Scratch of the plan: that of the passes, of a float32 product (or M for the kernel's gradient), of the inputs' inner
 * products. Features for a gradient, and twice M times them, fit in what the passes' slabs may take. */
enum { PLAN_PASSES, PLAN_PRODUCT, PLAN_INNER };

void cuda_plan(const sntk_context *, const sntk_neurons *v, int64_t samples, int work, sntk_plan *plan) {
  const int64_t dim = v->dim, outputs = v->outputs, size = static_cast<int64_t>(sntk_type_size(v->type));
  const int64_t np = sntk_size_mul(samples, outputs);
  if (samples < 1 || np < 1) {
    sntk_plan_take(plan, np, 1); /* more than 63 bits count */
    return;
  }
  const int64_t b = slab_columns(samples, v->count);
  const int64_t logits = sntk_size_mul(sntk_size_mul(sntk_size_mul(samples, b), 4), size);
  const int64_t columns = sntk_size_mul(sntk_size_mul(dim, 3 * b), sizeof(double));
  const int64_t rows =
      sntk_size_mul(sntk_size_mul(samples, sntk_size_add(outputs, 3)), 1024 * static_cast<int64_t>(sizeof(double)));
  /* of either type: the base's statistics are taken in float64 whatever the type */
  const int64_t padded = sntk_size_mul(sntk_size_mul(samples, padded_dim(SNTK_F64, dim)), sizeof(double));
  sntk_plan_scratch(plan, PLAN_PASSES, sntk_size_add(sntk_size_add(sntk_size_add(logits, columns), rows), padded));
  if (work && v->type == SNTK_F32) sntk_plan_scratch(plan, PLAN_PRODUCT, sntk_size_mul(sntk_size_mul(np, np), size));
  if (work & (SNTK_WORK_GRAM | SNTK_WORK_CHANGE))
    sntk_plan_scratch(plan, PLAN_INNER, sntk_size_mul(sntk_size_mul(samples, samples), sizeof(double)));
}

/* ---- random numbers ---- */

sntk_status cuda_random_weights(sntk_context *ctx, const sntk_source *source, int64_t first, sntk_neurons *v) {
  range named(ctx, "init");
  CUDA_TRY(ctx, launch_random_weights(state_of(ctx)->compute, *source, first, *v), v->count);
  return SNTK_OK;
}

sntk_status cuda_random_signs(sntk_context *ctx, const sntk_source *source, int64_t first, sntk_neurons *v) {
  range named(ctx, "init");
  CUDA_TRY(ctx, launch_random_signs(state_of(ctx)->compute, *source, first, *v), v->count);
  return SNTK_OK;
}

/* ---- matrix products. cuBLAS is column-major: a row-major product C = A B is C^T = B^T A^T there ---- */

/* out (n x b) = X (n x d) W (d x b, ld) */
sntk_status logits(sntk_context *ctx, sntk_precision type, int64_t n, int64_t b, int64_t d, const void *x,
                   const void *w, int64_t ld, void *out) {
  cublasHandle_t handle = state_of(ctx)->blas_compute;
  const int ni = static_cast<int>(n), bi = static_cast<int>(b), di = static_cast<int>(d), ldi = static_cast<int>(ld);
  if (ld > INT32_MAX)
    return sntk_fail(ctx, SNTK_ERR_SHAPE, "a row of %lld weights is too long for cuBLAS", static_cast<long long>(ld));
  const float one = 1.0f, zero = 0.0f;
  const double one64 = 1.0, zero64 = 0.0;
  if (type == SNTK_F32)
    BLAS_TRY(ctx,
             cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, bi, ni, di, &one, static_cast<const float *>(w), ldi,
                         static_cast<const float *>(x), di, &zero, static_cast<float *>(out), bi),
             b);
  else
    BLAS_TRY(ctx,
             cublasDgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, bi, ni, di, &one64, static_cast<const double *>(w), ldi,
                         static_cast<const double *>(x), di, &zero64, static_cast<double *>(out), bi),
             b);
  return SNTK_OK;
}

/* out (d x b, ld) = X^T G, G n x b */
sntk_status transposed_product(sntk_context *ctx, sntk_precision type, int64_t n, int64_t b, int64_t d, const void *x,
                               const void *g, void *out, int64_t ld) {
  cublasHandle_t handle = state_of(ctx)->blas_compute;
  const int ni = static_cast<int>(n), bi = static_cast<int>(b), di = static_cast<int>(d), ldi = static_cast<int>(ld);
  if (ld > INT32_MAX)
    return sntk_fail(ctx, SNTK_ERR_SHAPE, "a row of %lld weights is too long for cuBLAS", static_cast<long long>(ld));
  const float one = 1.0f, zero = 0.0f;
  const double one64 = 1.0, zero64 = 0.0;
  if (type == SNTK_F32)
    BLAS_TRY(ctx,
             cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_T, bi, di, ni, &one, static_cast<const float *>(g), bi,
                         static_cast<const float *>(x), di, &zero, static_cast<float *>(out), ldi),
             b);
  else
    BLAS_TRY(ctx,
             cublasDgemm(handle, CUBLAS_OP_N, CUBLAS_OP_T, bi, di, ni, &one64, static_cast<const double *>(g), bi,
                         static_cast<const double *>(x), di, &zero64, static_cast<double *>(out), ldi),
             b);
  return SNTK_OK;
}

int halves(const sntk_neurons *v) { return v->layout == SNTK_LAYOUT_PAIRED ? 2 : 1; }

/* A slab's logits in scratch, in the computation's type. */
sntk_status load_slab(sntk_context *ctx, const sntk_neurons *v, const sntk_samples *s, logit_slab *slab) {
  const int64_t bytes = sntk_size_mul(s->count * v->count, static_cast<int64_t>(sntk_type_size(v->type)));
  *slab = logit_slab{s->count, v->count, NULL, NULL, NULL};
  SNTK_TRY(scratch(ctx, SLOT_Z, bytes, &slab->z));
  SNTK_TRY(logits(ctx, v->type, s->count, v->count, v->dim, s->x, v->base, v->ld, slab->z));
  void **shifted[2] = {&slab->d1, &slab->d2};
  for (int h = 0; h < 2 && v->shift[h]; h++) {
    SNTK_TRY(scratch(ctx, h ? SLOT_D2 : SLOT_D1, bytes, shifted[h]));
    SNTK_TRY(logits(ctx, v->type, s->count, v->count, v->dim, s->x, v->shift[h], v->ld, *shifted[h]));
  }
  return SNTK_OK;
}

/* Rows of slopes after launch_slopes: of the neurons with the sign, and of those with its opposite. */
void *slope_rows(const sntk_neurons *v, const logit_slab *slab, int half) {
  return half ? slab->d2 : v->layout == SNTK_LAYOUT_PLAIN ? slab->z : slab->d1;
}

/* ---- statistics ---- */

/* Beyond this the engine moves the base and takes the statistics again, so that an expm1 that overflows is no failure;
 * far above the engine's limit. */
constexpr double SHIFT_BEYOND = 60.0;
/* A float32 exponent's offset is rounded in units of |max| 2^-24: above this a softmax would lose its accuracy, and
 * then its sum. */
constexpr double LARGEST_FLOAT_MAX = 1 << 20;

/* Merges what came from the device, rows of (max, sum, shift, t...), into the host's. Layouts with a base keep their
 * maximum; the device's is that one rounded to the computation's type. */
sntk_status merge_rows(sntk_context *ctx, const sntk_neurons *v, const double *rows, sntk_stats *stats) {
  const int64_t p = stats->outputs, width = p + 3;
  const bool softmax = v->activation == SNTK_SOFTMAX;
  for (int64_t i = 0; i < stats->samples; i++) {
    const double *row = rows + i * width;
    double *t = &stats->t[i * p];
    if (row[2] > stats->shift_max && isfinite(row[2])) stats->shift_max = row[2];
    if (v->layout != SNTK_LAYOUT_PLAIN && v->activation != SNTK_RELU && isfinite(row[2]) && row[2] > SHIFT_BEYOND)
      continue;
    bool finite = isfinite(row[1]) && isfinite(row[2]) && (!softmax || isfinite(row[0]));
    for (int64_t l = 0; l < p; l++) finite = finite && isfinite(row[3 + l]);
    if (!finite)
      return sntk_fail(
          ctx, SNTK_ERR_OVERFLOW,
          "sample %lld: a logit or activation is not finite; use a smaller sigma, smaller inputs or a smaller eta",
          static_cast<long long>(i));
    if (softmax && v->type == SNTK_F32 && fabs(row[0]) > LARGEST_FLOAT_MAX)
      return sntk_fail(ctx, SNTK_ERR_OVERFLOW,
                       "sample %lld: a logit of %g is too large for float32 exponentials, which take up to %g; use "
                       "precision f64 or smaller inputs",
                       static_cast<long long>(i), row[0], LARGEST_FLOAT_MAX);
    if (v->layout == SNTK_LAYOUT_PLAIN) {
      sntk_merge(&stats->max[i], &stats->sum[i], t, row[0], row[1], row + 3, p);
      continue;
    }
    const double weight = softmax ? exp(row[0] - stats->max[i]) : 1.0;
    stats->sum[i] += weight * row[1];
    for (int64_t l = 0; l < p; l++) t[l] += weight * row[3 + l];
  }
  return SNTK_OK;
}

/* The samples for the fused passes. Padded once, until something is uploaded or freed: a descent comes back with the
 * same ones. */
sntk_status padded_samples(sntk_context *ctx, const sntk_samples *s, const void **x, int64_t *ld) {
  cuda_state *state = state_of(ctx);
  const sntk_samples &known = state->padded;
  *ld = padded_dim(s->type, s->dim);
  *x = s->x;
  if (*ld == s->dim) return SNTK_OK;
  const bool there = known.x == s->x && known.count == s->count && known.dim == s->dim && known.type == s->type;
  if (!there) state->padded.x = NULL; /* before the buffer is replaced: what it held is gone even where that fails */
  void *to = NULL;
  SNTK_TRY(
      scratch(ctx, SLOT_PADDED, sntk_size_mul(s->count * *ld, static_cast<int64_t>(sntk_type_size(s->type))), &to));
  *x = to;
  if (there) return SNTK_OK;
  CUDA_TRY(ctx, launch_pad(state->compute, s->type, s->x, s->count, s->dim, *ld, to), s->count);
  state->padded = *s;
  return SNTK_OK;
}

/* By slabs of logits in memory, each of which is looked at. */
sntk_status statistics_by_slabs(sntk_context *ctx, const sntk_neurons *v, const sntk_samples *s,
                                const double *fixed_max, sntk_stats *stats) {
  const int64_t row_count = s->count * (v->outputs + 3), step = slab_columns(s->count, v->count);
  double *partial = NULL, *out = NULL, *host = NULL;
  SNTK_TRY(scratch_of(ctx, SLOT_STATS, row_count, &out));
  for (int64_t at = 0; at < v->count; at += step) {
    const sntk_neurons part = sntk_neurons_slice(v, at, v->count - at < step ? v->count - at : step);
    logit_slab slab;
    SNTK_TRY(load_slab(ctx, &part, s, &slab));
    SNTK_TRY(scratch_of(ctx, SLOT_PARTIAL, sntk_size_mul(slab_statistics_chunks(part.count), row_count), &partial));
    CUDA_TRY(ctx, launch_slab_statistics(state_of(ctx)->compute, part, slab, fixed_max, partial, out), part.count);
    SNTK_TRY(receive(ctx, out, row_count, &host));
    SNTK_TRY(merge_rows(ctx, v, host, stats));
  }
  return SNTK_OK;
}

/* Rows of the fused kernel, merged where its sizes leave no doubt of its logits, else taken again slab by slab. */
sntk_status merge_fused(sntk_context *ctx, const sntk_neurons *v, const sntk_samples *s, const double *fixed_max,
                        const double *rows, sntk_stats *stats) {
  for (int64_t i = 0; i < s->count; i++) {
    const double shift = rows[i * (v->outputs + 3) + 2];
    if (shift >= LOOK_CLOSER && isfinite(shift)) return statistics_by_slabs(ctx, v, s, fixed_max, stats);
  }
  return merge_rows(ctx, v, rows, stats);
}

sntk_status statistics_of(sntk_context *ctx, const sntk_neurons *v, const sntk_samples *s, const double *fixed_max,
                          sntk_stats *stats) {
  cuda_state *state = state_of(ctx);
  const forward_plan plan = plan_forward(state->limits, *v, s->count);
  const int64_t row_count = s->count * (v->outputs + 3);
  double *partial = NULL, *out = NULL, *host = NULL;
  if (!plan.fused) return statistics_by_slabs(ctx, v, s, fixed_max, stats);
  SNTK_TRY(scratch_of(ctx, SLOT_STATS, row_count, &out));
  SNTK_TRY(scratch_of(ctx, SLOT_PARTIAL, sntk_size_mul(plan.chunks, row_count), &partial));
  const void *x = NULL;
  int64_t ld_x = 0;
  SNTK_TRY(padded_samples(ctx, s, &x, &ld_x));
  CUDA_TRY(ctx, launch_forward(state->compute, plan, *v, x, ld_x, s->count, fixed_max, partial, out), v->count);
  SNTK_TRY(receive(ctx, out, row_count, &host));
  return merge_fused(ctx, v, s, fixed_max, host, stats);
}

sntk_status cuda_statistics(sntk_context *ctx, const sntk_neurons *v, const sntk_samples *s, sntk_stats *stats) {
  range named(ctx, "forward");
  double *fixed_max = NULL;
  if (v->layout != SNTK_LAYOUT_PLAIN) SNTK_TRY(send(ctx, SLOT_SAMPLES, stats->max, s->count, &fixed_max));
  return statistics_of(ctx, v, s, fixed_max, stats);
}

/* float64 throughout: the base widened slab by slab into a plain network. Pairs share their base: sums count twice,
 * signed sums cancel exactly. */
sntk_status cuda_base_statistics(sntk_context *ctx, const sntk_neurons *v, const sntk_samples *s, sntk_stats *stats) {
  range named(ctx, "forward");
  const int64_t step = slab_columns(s->count, v->count);
  const sntk_samples wide_samples = {s->count, s->dim, SNTK_F64, s->x64, s->x64};
  double *wide = NULL, *one = NULL;
  SNTK_TRY(sntk_alloc(ctx, "statistics of a slab", s->count * (v->outputs + 2), sizeof(double),
                      reinterpret_cast<void **>(&one)));
  sntk_status status = SNTK_OK;
  for (int64_t at = 0; at < v->count && status == SNTK_OK; at += step) {
    sntk_neurons part = sntk_neurons_slice(v, at, v->count - at < step ? v->count - at : step);
    status = scratch_of(ctx, SLOT_WIDE, part.count * v->dim, &wide);
    if (status != SNTK_OK) break;
    const cudaError_t error = launch_widen(state_of(ctx)->compute, part, wide);
    if (error != cudaSuccess) {
      status = fail_cuda(ctx, error, "launch_widen", part.count);
      break;
    }
    part.type = SNTK_F64;
    part.layout = SNTK_LAYOUT_PLAIN;
    part.base = wide;
    part.shift[0] = part.shift[1] = NULL;
    part.ld = part.count;
    sntk_stats slab_stats = {s->count, v->outputs, one, one + s->count, one + 2 * s->count, 0.0};
    for (int64_t i = 0; i < s->count; i++) {
      slab_stats.max[i] = v->activation == SNTK_SOFTMAX ? -INFINITY : 0.0;
      slab_stats.sum[i] = 0.0;
    }
    memset(slab_stats.t, 0, static_cast<size_t>(s->count * v->outputs) * sizeof(double));
    status = statistics_of(ctx, &part, &wide_samples, NULL, &slab_stats);
    for (int64_t i = 0; i < s->count && status == SNTK_OK; i++) {
      double *t = slab_stats.t + i * v->outputs;
      if (v->layout == SNTK_LAYOUT_PAIRED) {
        slab_stats.sum[i] *= 2.0;
        memset(t, 0, static_cast<size_t>(v->outputs) * sizeof(double));
      }
      sntk_merge(&stats->max[i], &stats->sum[i], &stats->t[i * v->outputs], slab_stats.max[i], slab_stats.sum[i], t,
                 v->outputs);
    }
  }
  free(one);
  return status;
}

/* ---- gradient ---- */

/* Rows of `width` reals: r scaled, zeros, the exponent shift at [width - 2], c scaled at [width - 1]; scale and
 * normalizer folded in. */
void fill_pull(const sntk_neurons *v, int64_t samples, const sntk_pull *pull, int64_t width, void *staging) {
  const int64_t p = v->outputs;
  const bool softmax = v->activation == SNTK_SOFTMAX;
  for (int64_t i = 0; i < samples; i++) {
    const double factor = pull->scale * (softmax ? 1.0 / pull->sum[i] : 1.0), max = softmax ? pull->max[i] : 0.0;
    float *narrow = static_cast<float *>(staging) + i * width;
    double *wide = static_cast<double *>(staging) + i * width;
    for (int64_t l = 0; l < width; l++) {
      const double value = l < p            ? factor * pull->r[i * p + l]
                           : l == width - 2 ? max
                           : l == width - 1 ? factor * pull->c[i]
                                            : 0.0;
      if (v->type == SNTK_F32) /* the shift as exp_shift makes it on the device */
        narrow[l] = l == width - 2 ? static_cast<float>(max) * 1.44269504f : static_cast<float>(value);
      else
        wide[l] = value;
    }
  }
}

sntk_status send_pull(sntk_context *ctx, const sntk_neurons *v, int64_t samples, const sntk_pull *pull, int64_t width,
                      void **out) {
  const int64_t bytes = samples * width * static_cast<int64_t>(sntk_type_size(v->type));
  void *staging = NULL;
  SNTK_TRY(synchronize(ctx));
  SNTK_TRY(pinned(ctx, bytes, &staging));
  SNTK_TRY(scratch(ctx, SLOT_PULL, bytes, out));
  fill_pull(v, samples, pull, width, staging);
  CUDA_TRY(ctx,
           cudaMemcpyAsync(*out, staging, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, state_of(ctx)->compute),
           samples);
  return SNTK_OK;
}

/* The exponents' offsets as doubles, for the slab kernels. */
sntk_status send_max(sntk_context *ctx, const sntk_neurons *v, int64_t samples, const double *max, double **out) {
  *out = NULL;
  return v->activation == SNTK_SOFTMAX ? send(ctx, SLOT_SAMPLES, max, samples, out) : SNTK_OK;
}

/* Adds the pair of norms that stands on the device. */
sntk_status add_norms(sntk_context *ctx, const double *device, double norms[2]) {
  double *host = NULL;
  SNTK_TRY(receive(ctx, device, 2, &host));
  norms[0] += host[0];
  norms[1] += host[1];
  return SNTK_OK;
}

sntk_status gradient_fused(sntk_context *ctx, const gradient_plan &plan, const sntk_neurons *v, const sntk_samples *s,
                           const sntk_pull *pull, gradient_mode mode, double eta, void *const out[2], int64_t ld,
                           double norms[2]) {
  cuda_state *state = state_of(ctx);
  void *coefficients = NULL, *partial = NULL;
  const void *x = NULL;
  int64_t ld_x = 0;
  double *norm_partials = NULL;
  SNTK_TRY(padded_samples(ctx, s, &x, &ld_x));
  SNTK_TRY(send_pull(ctx, v, s->count, pull, plan.pp + 2, &coefficients));
  if (plan.splits > 1)
    SNTK_TRY(scratch(ctx, SLOT_GRADIENT,
                     sntk_size_mul(sntk_size_mul(plan.splits * halves(v), v->dim * v->count),
                                   static_cast<int64_t>(sntk_type_size(v->type))),
                     &partial));
  if (mode == GRADIENT_DESCEND)
    SNTK_TRY(scratch_of(ctx, SLOT_NORMS, 2 + 2 * gradient_norm_pairs(plan, *v), &norm_partials));
  CUDA_TRY(ctx,
           launch_gradient(state->compute, plan, *v, x, ld_x, s->count, coefficients, mode, eta, out, ld, partial,
                           norm_partials ? norm_partials + 2 : NULL, norm_partials),
           v->count);
  return mode == GRADIENT_DESCEND ? add_norms(ctx, norm_partials, norms) : SNTK_OK;
}

/* The same by slabs of logits in memory, for inputs too wide or outputs too many. */
sntk_status gradient_by_slabs(sntk_context *ctx, const sntk_neurons *v, const sntk_samples *s, const sntk_pull *pull,
                              gradient_mode mode, double eta, void *const out[2], int64_t ld, double norms[2]) {
  cuda_state *state = state_of(ctx);
  const int64_t step = slab_columns(s->count, v->count), width = v->outputs + 2;
  const size_t size = sntk_type_size(v->type);
  double *max = NULL, *norm_partials = NULL;
  void *coefficients = NULL, *gradient = NULL;
  SNTK_TRY(send_max(ctx, v, s->count, pull->max, &max));
  SNTK_TRY(send_pull(ctx, v, s->count, pull, width, &coefficients));
  for (int64_t at = 0; at < v->count; at += step) {
    const sntk_neurons part = sntk_neurons_slice(v, at, v->count - at < step ? v->count - at : step);
    logit_slab slab;
    SNTK_TRY(load_slab(ctx, &part, s, &slab));
    CUDA_TRY(ctx, launch_slopes(state->compute, part, slab, max), part.count);
    for (int h = 0; h < halves(v); h++) {
      void *slopes = slope_rows(&part, &slab, h);
      CUDA_TRY(ctx,
               launch_pull(state->compute, part, s->count, part.count, slopes, coefficients, width, h ? -1.0 : 1.0),
               part.count);
      void *target = static_cast<char *>(out[h]) + static_cast<size_t>(at) * size;
      if (mode == GRADIENT_STORE) {
        SNTK_TRY(transposed_product(ctx, v->type, s->count, part.count, v->dim, s->x, slopes, target, ld));
        continue;
      }
      SNTK_TRY(scratch(ctx, SLOT_GRADIENT, sntk_size_mul(v->dim * part.count, static_cast<int64_t>(size)), &gradient));
      SNTK_TRY(transposed_product(ctx, v->type, s->count, part.count, v->dim, s->x, slopes, gradient, part.count));
      SNTK_TRY(scratch_of(ctx, SLOT_NORMS, 2 + 2 * descend_norm_pairs(v->dim, part.count), &norm_partials));
      CUDA_TRY(ctx,
               launch_descend(state->compute, v->type, v->dim, part.count, eta, gradient, part.count, target, ld,
                              norm_partials + 2, norm_partials),
               part.count);
      SNTK_TRY(add_norms(ctx, norm_partials, norms));
    }
  }
  return SNTK_OK;
}

sntk_status cuda_gradient(sntk_context *ctx, const sntk_neurons *v, const sntk_samples *s, const sntk_pull *pull,
                          void *const out[2], int64_t ld) {
  range named(ctx, "gradient");
  const gradient_plan plan = plan_gradient(state_of(ctx)->limits, *v, s->count);
  if (plan.fused) return gradient_fused(ctx, plan, v, s, pull, GRADIENT_STORE, 0.0, out, ld, NULL);
  return gradient_by_slabs(ctx, v, s, pull, GRADIENT_STORE, 0.0, out, ld, NULL);
}

/* ---- a whole step: descent and the next statistics, with one upload, one download and one synchronization ---- */

struct fused_step {
  gradient_plan gradient;
  forward_plan forward;
  int64_t width, rows;                         /* reals of a sample's coefficients, doubles of its statistics */
  int64_t pull_bytes, max_bytes, result_bytes; /* of the pinned buffer, in this order */
  const void *x;                               /* padded */
  int64_t ld_x;
  char *host;
  void *pull, *partial_gradient;
  double *max, *result, *partial_norms, *partial_rows; /* result: the pair of norms, then the rows of statistics */
};

/* Enqueues the step on the compute stream; every buffer is there already, so that it can be recorded. */
sntk_status enqueue_step(sntk_context *ctx, const fused_step &f, const sntk_neurons *v, const sntk_samples *s,
                         double eta) {
  cuda_state *state = state_of(ctx);
  void *const out[2] = {v->layout == SNTK_LAYOUT_PLAIN ? v->base : v->shift[0], v->shift[1]};
  CUDA_TRY(ctx,
           cudaMemcpyAsync(f.pull, f.host, static_cast<size_t>(f.pull_bytes), cudaMemcpyHostToDevice, state->compute),
           f.pull_bytes);
  if (f.max_bytes > 0)
    CUDA_TRY(ctx,
             cudaMemcpyAsync(f.max, f.host + f.pull_bytes, static_cast<size_t>(f.max_bytes), cudaMemcpyHostToDevice,
                             state->compute),
             f.max_bytes);
  CUDA_TRY(ctx,
           launch_gradient(state->compute, f.gradient, *v, f.x, f.ld_x, s->count, f.pull, GRADIENT_DESCEND, eta, out,
                           v->ld, f.partial_gradient, f.partial_norms, f.result),
           v->count);
  CUDA_TRY(ctx,
           launch_forward(state->compute, f.forward, *v, f.x, f.ld_x, s->count, f.max, f.partial_rows, f.result + 2),
           v->count);
  CUDA_TRY(ctx,
           cudaMemcpyAsync(f.host + f.pull_bytes + f.max_bytes, f.result, static_cast<size_t>(f.result_bytes),
                           cudaMemcpyDeviceToHost, state->compute),
           f.result_bytes);
  return SNTK_OK;
}

/* Records the step as a graph and leaves it in the state. */
sntk_status record_step(sntk_context *ctx, const fused_step &f, const sntk_neurons *v, const sntk_samples *s,
                        double eta) {
  cuda_state *state = state_of(ctx);
  cudaGraph_t graph = NULL;
  CUDA_TRY(ctx, cudaStreamBeginCapture(state->compute, cudaStreamCaptureModeThreadLocal), v->count);
  const sntk_status status = enqueue_step(ctx, f, v, s, eta);
  const cudaError_t ended =
      cudaStreamEndCapture(state->compute, &graph); /* also after a failure: the stream must leave capture */
  if (status != SNTK_OK) {
    if (ended == cudaSuccess && graph) cudaGraphDestroy(graph);
    return status;
  }
  if (ended != cudaSuccess) return fail_cuda(ctx, ended, "cudaStreamEndCapture", v->count);
  const cudaError_t error = cudaGraphInstantiate(&state->step, graph, 0);
  if (error != cudaSuccess) state->step = NULL;
  cudaGraphDestroy(graph);
  return error == cudaSuccess ? SNTK_OK : fail_cuda(ctx, error, "cudaGraphInstantiate", v->count);
}

/* A step that comes again as it was is recorded the second time and replayed from then on: where samples x neurons are
 * few, its launches take longer than their work. */
sntk_status run_step(sntk_context *ctx, const fused_step &f, const sntk_neurons *v, const sntk_samples *s, double eta) {
  cuda_state *state = state_of(ctx);
  step_key key;
  memset(&key, 0, sizeof key);
  memcpy(&key.v, v, sizeof key.v);
  key.x = s->x;
  key.samples = s->count;
  key.eta = eta;
  const void *const buffers[8] = {f.host,   f.pull,          f.partial_gradient, f.max,
                                  f.result, f.partial_norms, f.partial_rows,     f.x};
  memcpy(key.buffers, buffers, sizeof buffers);
  if (memcmp(&key, &state->step_of, sizeof key) != 0) {
    if (state->step) CUDA_TRY(ctx, cudaGraphExecDestroy(state->step), 0);
    state->step = NULL;
    memcpy(&state->step_of, &key, sizeof key);
    return enqueue_step(ctx, f, v, s, eta);
  }
  if (!state->step) SNTK_TRY(record_step(ctx, f, v, s, eta));
  CUDA_TRY(ctx, cudaGraphLaunch(state->step, state->compute), v->count);
  return SNTK_OK;
}

sntk_status step_fused(sntk_context *ctx, const gradient_plan &gradient, const forward_plan &forward,
                       const sntk_neurons *v, const sntk_samples *s, const sntk_pull *pull, double eta, double norms[2],
                       sntk_stats *next) {
  fused_step f = {};
  const int64_t size = static_cast<int64_t>(sntk_type_size(v->type)), n = s->count;
  f.gradient = gradient;
  f.forward = forward;
  f.width = gradient.pp + 2;
  f.rows = n * (v->outputs + 3);
  f.pull_bytes = (n * f.width * size + 15) / 16 * 16;
  f.max_bytes = v->layout == SNTK_LAYOUT_PLAIN ? 0 : (n * static_cast<int64_t>(sizeof(double)) + 15) / 16 * 16;
  f.result_bytes = (2 + f.rows) * static_cast<int64_t>(sizeof(double));
  SNTK_TRY(synchronize(ctx));
  SNTK_TRY(pinned(ctx, f.pull_bytes + f.max_bytes + f.result_bytes, reinterpret_cast<void **>(&f.host)));
  SNTK_TRY(scratch(ctx, SLOT_PULL, f.pull_bytes, &f.pull));
  if (f.max_bytes > 0) SNTK_TRY(scratch(ctx, SLOT_SAMPLES, f.max_bytes, reinterpret_cast<void **>(&f.max)));
  SNTK_TRY(scratch(ctx, SLOT_STATS, f.result_bytes, reinterpret_cast<void **>(&f.result)));
  SNTK_TRY(scratch_of(ctx, SLOT_NORMS, 2 * gradient_norm_pairs(gradient, *v), &f.partial_norms));
  SNTK_TRY(scratch_of(ctx, SLOT_PARTIAL, sntk_size_mul(forward.chunks, f.rows), &f.partial_rows));
  if (gradient.splits > 1)
    SNTK_TRY(scratch(ctx, SLOT_GRADIENT,
                     sntk_size_mul(sntk_size_mul(gradient.splits * halves(v), v->dim * v->count), size),
                     &f.partial_gradient));
  SNTK_TRY(padded_samples(ctx, s, &f.x, &f.ld_x));
  fill_pull(v, n, pull, f.width, f.host);
  if (f.max_bytes > 0) memcpy(f.host + f.pull_bytes, next->max, static_cast<size_t>(n) * sizeof(double));
  SNTK_TRY(run_step(ctx, f, v, s, eta));
  SNTK_TRY(synchronize(ctx));
  const double *result = reinterpret_cast<const double *>(f.host + f.pull_bytes + f.max_bytes);
  norms[0] += result[0];
  norms[1] += result[1];
  return merge_fused(ctx, v, s, f.max, result + 2, next);
}

sntk_status cuda_descent(sntk_context *ctx, sntk_neurons *v, const sntk_samples *s, const sntk_pull *pull, double eta,
                         double norms[2], sntk_stats *next) {
  range named(ctx, "gradient");
  void *const out[2] = {v->layout == SNTK_LAYOUT_PLAIN ? v->base : v->shift[0], v->shift[1]};
  const gradient_plan plan = plan_gradient(state_of(ctx)->limits, *v, s->count);
  const forward_plan forward = plan_forward(state_of(ctx)->limits, *v, s->count);
  if (next && plan.fused && forward.fused) return step_fused(ctx, plan, forward, v, s, pull, eta, norms, next);
  if (plan.fused)
    SNTK_TRY(gradient_fused(ctx, plan, v, s, pull, GRADIENT_DESCEND, eta, out, v->ld, norms));
  else
    SNTK_TRY(gradient_by_slabs(ctx, v, s, pull, GRADIENT_DESCEND, eta, out, v->ld, norms));
  return next ? cuda_statistics(ctx, v, s, next) : SNTK_OK;
}

sntk_status cuda_profile(sntk_context *ctx, bool on) {
  SNTK_TRY(synchronize(ctx));
  CUDA_TRY(ctx, on ? cudaProfilerStart() : cudaProfilerStop(), 0);
  return SNTK_OK;
}

/* What a slope is multiplied with besides the signs: the normalizer, times `scale`. */
sntk_status send_factors(sntk_context *ctx, const sntk_neurons *v, int64_t samples, const double *sum, double scale,
                         double *host, scratch_slot slot, double **out) {
  for (int64_t i = 0; i < samples; i++) host[i] = v->activation == SNTK_SOFTMAX ? scale / sum[i] : scale;
  return send(ctx, slot, host, samples, out);
}

sntk_status cuda_push(sntk_context *ctx, const sntk_neurons *v, const sntk_samples *s, const double *max,
                      const double *sum, const void *const direction[2], int64_t ld, double *dot, double *mean) {
  range named(ctx, "push");
  cuda_state *state = state_of(ctx);
  const int64_t n = s->count, p = v->outputs, step = slab_columns(n, v->count);
  const size_t size = sntk_type_size(v->type);
  double *host = NULL, *max_device = NULL, *factor = NULL, *sums = NULL, *host_sums = NULL;
  void *pushed = NULL;
  SNTK_TRY(sntk_alloc(ctx, "normalizers", n, sizeof(double), reinterpret_cast<void **>(&host)));
  sntk_status status = send_factors(ctx, v, n, sum, 1.0, host, SLOT_STATS, &factor);
  free(host);
  SNTK_TRY(status);
  SNTK_TRY(send_max(ctx, v, n, max, &max_device));
  SNTK_TRY(scratch_of(ctx, SLOT_PARTIAL, n * (p + 1), &sums));
  CUDA_TRY(ctx, cudaMemsetAsync(sums, 0, static_cast<size_t>(n * (p + 1)) * sizeof(double), state->compute), n);
  for (int64_t at = 0; at < v->count; at += step) {
    const sntk_neurons part = sntk_neurons_slice(v, at, v->count - at < step ? v->count - at : step);
    logit_slab slab;
    SNTK_TRY(load_slab(ctx, &part, s, &slab));
    CUDA_TRY(ctx, launch_slopes(state->compute, part, slab, max_device), part.count);
    SNTK_TRY(scratch(ctx, SLOT_V, sntk_size_mul(n * part.count, static_cast<int64_t>(size)), &pushed));
    for (int h = 0; h < halves(v); h++) {
      SNTK_TRY(logits(ctx, v->type, n, part.count, v->dim, s->x,
                      static_cast<const char *>(direction[h]) + static_cast<size_t>(at) * size, ld, pushed));
      CUDA_TRY(ctx,
               launch_push(state->compute, part, n, part.count, slope_rows(&part, &slab, h), pushed, h ? -1.0 : 1.0,
                           factor, sums, sums + n * p),
               part.count);
    }
  }
  SNTK_TRY(receive(ctx, sums, n * (p + 1), &host_sums));
  for (int64_t j = 0; j < n * p; j++) dot[j] += host_sums[j];
  for (int64_t i = 0; i < n; i++) mean[i] += host_sums[n * p + i];
  return SNTK_OK;
}

/* ---- the Gram matrix ---- */

/* The rank updates run on a stream of their own. Before the compute stream writes a slab, what may still read it. */
sntk_status wait_for_slab(sntk_context *ctx, const void *u) {
  cuda_state *state = state_of(ctx);
  for (const slab_use &use : state->slabs)
    if (use.u == u || use.other == u) CUDA_TRY(ctx, cudaStreamWaitEvent(state->compute, use.read, 0), 0);
  return SNTK_OK;
}

/* Before a rank update: the features that the compute stream still writes. */
sntk_status begin_update(sntk_context *ctx) {
  cuda_state *state = state_of(ctx);
  CUDA_TRY(ctx, cudaEventRecord(state->ready, state->compute), 0);
  CUDA_TRY(ctx, cudaStreamWaitEvent(state->gram, state->ready, 0), 0);
  return SNTK_OK;
}

/* Behind a rank update: what it reads. Slabs that are forgotten for these are waited for. */
sntk_status end_update(sntk_context *ctx, const void *u, const void *other) {
  cuda_state *state = state_of(ctx);
  slab_use *use = NULL;
  for (slab_use &known : state->slabs)
    if (known.u == u && known.other == other) use = &known;
  if (!use) {
    use = &state->slabs[state->next_slab ^= 1];
    if (use->u || use->other) CUDA_TRY(ctx, cudaStreamWaitEvent(state->compute, use->read, 0), 0);
  }
  use->u = u;
  use->other = other;
  CUDA_TRY(ctx, cudaEventRecord(use->read, state->gram), 0);
  return SNTK_OK;
}

/* What a sample's features need, on the device. */
struct feature_terms {
  double *max, *factor, *away;
};

sntk_status send_feature_terms(sntk_context *ctx, const sntk_neurons *v, int64_t n, const double *max,
                               const double *sum, const double *away, feature_terms *terms) {
  const int64_t p = v->outputs;
  const bool softmax = v->activation == SNTK_SOFTMAX;
  const double root = sqrt(static_cast<double>(v->width));
  double *host = NULL;
  SNTK_TRY(sntk_alloc(ctx, "normalizers", 2 * n * p, sizeof(double), reinterpret_cast<void **>(&host)));
  sntk_status status = send_factors(ctx, v, n, sum, softmax ? root : 1.0 / root, host, SLOT_STATS, &terms->factor);
  for (int64_t j = 0; j < 2 * n * p; j++) host[j] = softmax ? away[j] : j % 2 ? -1.0 : 1.0;
  if (status == SNTK_OK) status = send(ctx, SLOT_PULL, host, 2 * n * p, &terms->away);
  free(host);
  SNTK_TRY(status);
  return send_max(ctx, v, n, max, &terms->max);
}

/* The features of a slab, behind column `at` of u; `count` columns behind them those of the pairs' second neurons. The
 * slab's logits become slopes. */
sntk_status features_of(sntk_context *ctx, const sntk_neurons *part, const logit_slab &slab, const feature_terms &terms,
                        void *u, int64_t ld, int64_t at, int64_t count) {
  cuda_state *state = state_of(ctx);
  CUDA_TRY(ctx, launch_slopes(state->compute, *part, slab, terms.max), part->count);
  for (int h = 0; h < halves(part); h++)
    CUDA_TRY(ctx,
             launch_features(state->compute, *part, slab.samples, part->count, slope_rows(part, &slab, h), terms.factor,
                             terms.away, h ? -1.0 : 1.0, u, ld, at + (h ? count : 0)),
             part->count);
  return SNTK_OK;
}

sntk_status cuda_features(sntk_context *ctx, const sntk_neurons *v, const sntk_samples *s, const double *max,
                          const double *sum, const double *away, void *u, int64_t ld) {
  range named(ctx, "features");
  const int64_t n = s->count, step = slab_columns(n, v->count);
  feature_terms terms;
  SNTK_TRY(wait_for_slab(ctx, u));
  SNTK_TRY(send_feature_terms(ctx, v, n, max, sum, away, &terms));
  for (int64_t at = 0; at < v->count; at += step) {
    const sntk_neurons part = sntk_neurons_slice(v, at, v->count - at < step ? v->count - at : step);
    logit_slab slab;
    SNTK_TRY(load_slab(ctx, &part, s, &slab));
    SNTK_TRY(features_of(ctx, &part, slab, terms, u, ld, at, v->count));
  }
  return SNTK_OK;
}

sntk_status cuda_gram_add(sntk_context *ctx, sntk_precision type, const void *u, int64_t rows, int64_t cols, int64_t ld,
                          double *gram) {
  range named(ctx, "SYRK");
  cuda_state *state = state_of(ctx);
  const int n = static_cast<int>(rows), k = static_cast<int>(cols), ldu = static_cast<int>(ld);
  SNTK_TRY(begin_update(ctx));
  /* row-major lower is column-major upper, and U row-major is U^T column-major */
  if (type == SNTK_F64) {
    const double one = 1.0;
    BLAS_TRY(ctx,
             cublasDsyrk(state->blas_gram, CUBLAS_FILL_MODE_UPPER, CUBLAS_OP_T, n, k, &one,
                         static_cast<const double *>(u), ldu, &one, gram, n),
             rows);
  } else {
    const float one = 1.0f, zero = 0.0f;
    float *product = NULL;
    SNTK_TRY(scratch_of(ctx, SLOT_PRODUCT, sntk_size_mul(rows, rows), &product));
    BLAS_TRY(ctx,
             cublasSsyrk(state->blas_gram, CUBLAS_FILL_MODE_UPPER, CUBLAS_OP_T, n, k, &one,
                         static_cast<const float *>(u), ldu, &zero, product, n),
             rows);
    CUDA_TRY(ctx, launch_add_lower(state->gram, product, rows, gram), rows);
  }
  return end_update(ctx, u, NULL);
}

/* Rows as launch_feature_change takes them. */
sntk_status send_change(sntk_context *ctx, const sntk_neurons *v, int64_t n, const sntk_change *change, double **out) {
  const int64_t p = v->outputs, width = 4 + 5 * p;
  const bool softmax = v->activation == SNTK_SOFTMAX;
  const double root = sqrt(static_cast<double>(v->width));
  double *host = NULL;
  SNTK_TRY(sntk_alloc(ctx, "coefficients", n * width, sizeof(double), reinterpret_cast<void **>(&host)));
  for (int64_t i = 0; i < n; i++) {
    double *row = host + i * width;
    row[0] = softmax ? change->max[i] : 0.0;
    row[1] = softmax ? root / change->sum0[i] : 1.0 / root;
    row[2] = softmax ? change->delta[i] : 0.0;
    row[3] = 1.0 / (1.0 + row[2]);
    for (int64_t l = 0; l < p; l++) {
      const int64_t il = i * p + l;
      double *const of = row + 4 + 5 * l;
      for (int sign = 0; sign < 2; sign++) {
        of[sign] = softmax ? change->away0[2 * il + sign] : sign ? -1.0 : 1.0;
        of[2 + sign] = softmax ? change->away[2 * il + sign] : of[sign];
      }
      of[4] = softmax ? change->df[il] : 0.0;
    }
  }
  const sntk_status status = send(ctx, SLOT_PULL, host, n * width, out);
  free(host);
  return status;
}

sntk_status cuda_feature_change(sntk_context *ctx, const sntk_neurons *v, const sntk_samples *s,
                                const sntk_change *change, void *du, void *um, int64_t ld) {
  range named(ctx, "features");
  const int64_t step = slab_columns(s->count, v->count);
  double *coefficients = NULL;
  SNTK_TRY(wait_for_slab(ctx, du));
  SNTK_TRY(wait_for_slab(ctx, um));
  SNTK_TRY(send_change(ctx, v, s->count, change, &coefficients));
  for (int64_t at = 0; at < v->count; at += step) {
    const sntk_neurons part = sntk_neurons_slice(v, at, v->count - at < step ? v->count - at : step);
    logit_slab slab;
    SNTK_TRY(load_slab(ctx, &part, s, &slab));
    for (int h = 0; h < halves(v); h++)
      CUDA_TRY(ctx,
               launch_feature_change(state_of(ctx)->compute, part, slab, h, coefficients, du, um, ld,
                                     at + (h ? v->count : 0)),
               part.count);
  }
  return SNTK_OK;
}

sntk_status cuda_gram_add_change(sntk_context *ctx, sntk_precision type, const void *du, const void *um, int64_t rows,
                                 int64_t cols, int64_t ld, double *gram) {
  range named(ctx, "SYRK");
  cuda_state *state = state_of(ctx);
  const int n = static_cast<int>(rows), k = static_cast<int>(cols), ldu = static_cast<int>(ld);
  SNTK_TRY(begin_update(ctx));
  if (type == SNTK_F64) { /* triangle and transpose as in cuda_gram_add */
    const double one = 1.0;
    BLAS_TRY(ctx,
             cublasDsyr2k(state->blas_gram, CUBLAS_FILL_MODE_UPPER, CUBLAS_OP_T, n, k, &one,
                          static_cast<const double *>(du), ldu, static_cast<const double *>(um), ldu, &one, gram, n),
             rows);
  } else {
    const float one = 1.0f, zero = 0.0f;
    float *product = NULL;
    SNTK_TRY(scratch_of(ctx, SLOT_PRODUCT, sntk_size_mul(rows, rows), &product));
    BLAS_TRY(ctx,
             cublasSsyr2k(state->blas_gram, CUBLAS_FILL_MODE_UPPER, CUBLAS_OP_T, n, k, &one,
                          static_cast<const float *>(du), ldu, static_cast<const float *>(um), ldu, &zero, product, n),
             rows);
    CUDA_TRY(ctx, launch_add_lower(state->gram, product, rows, gram), rows);
  }
  return end_update(ctx, du, um);
}

/* out (rows x b) = 2 M u, M symmetric of rows x rows in the computation's type, u and out without gaps. */
sntk_status twice_product(sntk_context *ctx, sntk_precision type, int64_t rows, int64_t b, const void *m, const void *u,
                          void *out) {
  cublasHandle_t handle = state_of(ctx)->blas_compute;
  const int ri = static_cast<int>(rows), bi = static_cast<int>(b);
  const float two = 2.0f, zero = 0.0f;
  const double two64 = 2.0, zero64 = 0.0;
  if (type == SNTK_F32)
    BLAS_TRY(ctx,
             cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, bi, ri, ri, &two, static_cast<const float *>(u), bi,
                         static_cast<const float *>(m), ri, &zero, static_cast<float *>(out), bi),
             b);
  else
    BLAS_TRY(ctx,
             cublasDgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, bi, ri, ri, &two64, static_cast<const double *>(u), bi,
                         static_cast<const double *>(m), ri, &zero64, static_cast<double *>(out), bi),
             b);
  return SNTK_OK;
}

/* Columns at a time where u and 2 M u of all outputs stand beside the logits: in all not more than a slab's share of
 * the scratch that was planned. */
int64_t kernel_columns(int64_t samples, int64_t outputs, int64_t count) {
  const int64_t b = slab_columns(samples, count) / outputs, least = count < 64 ? count : 64;
  return b < least ? least : b;
}

sntk_status cuda_kernel_gradient(sntk_context *ctx, const sntk_neurons *v, const sntk_samples *s, const double *max,
                                 const double *sum, const double *away, const double *band, const double *matrix,
                                 void *out, int64_t ld, double *sums) {
  range named(ctx, "features");
  cuda_state *state = state_of(ctx);
  const int64_t n = s->count, p = v->outputs, rows = n * p, step = kernel_columns(n, p, v->count);
  const int64_t size = static_cast<int64_t>(sntk_type_size(v->type));
  const void *m = matrix;
  void *u = NULL, *pulled = NULL;
  float *narrow = NULL;
  double *bands = NULL, *totals = NULL, *host = NULL;
  feature_terms terms;
  SNTK_TRY(send_feature_terms(ctx, v, n, max, sum, away, &terms));
  if (v->activation == SNTK_RELU) SNTK_TRY(send(ctx, SLOT_NORMS, band, n, &bands));
  if (v->type == SNTK_F32) {
    SNTK_TRY(scratch_of(ctx, SLOT_WORK, sntk_size_mul(rows, rows), &narrow));
    CUDA_TRY(ctx, launch_narrow(state->compute, matrix, rows * rows, narrow), rows);
    m = narrow;
  }
  if (sums) {
    SNTK_TRY(scratch_of(ctx, SLOT_PARTIAL, rows, &totals));
    CUDA_TRY(ctx, cudaMemsetAsync(totals, 0, static_cast<size_t>(rows) * sizeof(double), state->compute), rows);
  }
  for (int64_t at = 0; at < v->count; at += step) {
    const sntk_neurons part = sntk_neurons_slice(v, at, v->count - at < step ? v->count - at : step);
    logit_slab slab;
    SNTK_TRY(scratch(ctx, SLOT_GRADIENT, sntk_size_mul(sntk_size_mul(rows, part.count), size), &u));
    SNTK_TRY(scratch(ctx, SLOT_V, sntk_size_mul(sntk_size_mul(rows, part.count), size), &pulled));
    SNTK_TRY(load_slab(ctx, &part, s, &slab));
    SNTK_TRY(features_of(ctx, &part, slab, terms, u, part.count, 0, 0));
    SNTK_TRY(twice_product(ctx, v->type, rows, part.count, m, u, pulled));
    if (sums) {
      CUDA_TRY(ctx,
               launch_slope_sums(state->compute, part, n, part.count, slope_rows(&part, &slab, 0), pulled, terms.factor,
                                 totals),
               part.count);
      continue;
    }
    if (bands) SNTK_TRY(load_slab(ctx, &part, s, &slab)); /* the band wants the logits, which have become slopes */
    CUDA_TRY(ctx, launch_kernel_pull(state->compute, part, slab, pulled, u, bands, sqrt(static_cast<double>(v->width))),
             part.count);
    SNTK_TRY(transposed_product(ctx, v->type, n, part.count, v->dim, s->x, slab.z, static_cast<char *>(out) + at * size,
                                ld));
  }
  if (!sums) return SNTK_OK;
  SNTK_TRY(receive(ctx, totals, rows, &host));
  for (int64_t j = 0; j < rows; j++) sums[j] += host[j];
  return SNTK_OK;
}

sntk_status cuda_gram_finish(sntk_context *ctx, const sntk_samples *s, int64_t outputs, double *gram) {
  range named(ctx, "SYRK");
  cuda_state *state = state_of(ctx);
  const double one = 1.0, zero = 0.0;
  double *k = NULL;
  SNTK_TRY(scratch_of(ctx, SLOT_WIDE, sntk_size_mul(s->count, s->count), &k));
  /* rank updates of the other stream come first */
  CUDA_TRY(ctx, cudaEventRecord(state->ready, state->gram), s->count);
  CUDA_TRY(ctx, cudaStreamWaitEvent(state->compute, state->ready, 0), s->count);
  BLAS_TRY(ctx,
           cublasDsyrk(state->blas_compute, CUBLAS_FILL_MODE_UPPER, CUBLAS_OP_T, static_cast<int>(s->count),
                       static_cast<int>(s->dim), &one, s->x64, static_cast<int>(s->dim), &zero, k,
                       static_cast<int>(s->count)),
           s->count);
  CUDA_TRY(ctx, launch_hadamard(state->compute, k, s->count, outputs, gram), s->count * outputs);
  return SNTK_OK;
}

sntk_status cuda_eigenvalues(sntk_context *ctx, double *matrix, int64_t size, double *values) {
  range named(ctx, "eigen");
  cuda_state *state = state_of(ctx);
  const int n = static_cast<int>(size);
  int work_size = 0, info = 0;
  double *device_values = NULL, *work = NULL, *host = NULL;
  SNTK_TRY(scratch_of(ctx, SLOT_STATS, size + 1, &device_values)); /* and the solver's info behind them */
  int *device_info = reinterpret_cast<int *>(device_values + size);
  SOLVER_TRY(ctx,
             cusolverDnDsyevd_bufferSize(state->solver, CUSOLVER_EIG_MODE_NOVECTOR, CUBLAS_FILL_MODE_UPPER, n, matrix,
                                         n, device_values, &work_size),
             size);
  SNTK_TRY(scratch_of(ctx, SLOT_WORK, work_size, &work));
  SOLVER_TRY(ctx,
             cusolverDnDsyevd(state->solver, CUSOLVER_EIG_MODE_NOVECTOR, CUBLAS_FILL_MODE_UPPER, n, matrix, n,
                              device_values, work, work_size, device_info),
             size);
  SNTK_TRY(receive(ctx, device_values, size + 1, &host));
  memcpy(&info, host + size, sizeof info);
  if (info != 0)
    return sntk_fail(ctx, SNTK_ERR_NUMERICAL, "eigenvalues did not converge (cusolverDnDsyevd: info %d, order %d)",
                     info, n);
  memcpy(values, host, static_cast<size_t>(size) * sizeof(double));
  return SNTK_OK;
}

/* ---- weights ---- */

sntk_status cuda_movement(sntk_context *ctx, const sntk_neurons *v, const void *origin, int64_t ld, double *movement) {
  cuda_state *state = state_of(ctx);
  double *largest = NULL, *host = NULL;
  if (v->layout == SNTK_LAYOUT_PLAIN && !origin) return SNTK_OK; /* plain weights are their own base */
  SNTK_TRY(scratch_of(ctx, SLOT_NORMS, 1, &largest));
  CUDA_TRY(ctx, cudaMemsetAsync(largest, 0, sizeof(double), state->compute), v->count);
  for (int h = 0; h < halves(v); h++)
    CUDA_TRY(ctx, launch_movement(state->compute, *v, h, origin, ld, reinterpret_cast<unsigned long long *>(largest)),
             v->count);
  SNTK_TRY(receive(ctx, largest, 1, &host));
  if (host[0] > *movement) *movement = host[0];
  return SNTK_OK;
}

sntk_status cuda_move_base(sntk_context *ctx, sntk_neurons *v) {
  CUDA_TRY(ctx, launch_move_base(state_of(ctx)->compute, *v), v->count);
  return SNTK_OK;
}

sntk_status cuda_unpair(sntk_context *ctx, const sntk_neurons *paired, sntk_neurons *to) {
  CUDA_TRY(ctx, launch_unpair(state_of(ctx)->compute, *paired, *to), paired->count);
  return SNTK_OK;
}

sntk_status cuda_widen(sntk_context *ctx, const sntk_neurons *v, sntk_neurons *to) {
  cuda_state *state = state_of(ctx);
  for (int h = 0; h < halves(v); h++)
    CUDA_TRY(ctx, launch_read_weights(state->compute, *v, h, static_cast<double *>(to->base), to->ld), v->count);
  CUDA_TRY(ctx, launch_single_signs(state->compute, *v, to->signs, to->ld_signs), v->count);
  return SNTK_OK;
}

sntk_status cuda_read_weights(sntk_context *ctx, const sntk_neurons *v, double *out, int64_t ld) {
  cuda_state *state = state_of(ctx);
  const int64_t columns = sntk_neuron_count(v);
  double *wide = NULL, *host = NULL;
  SNTK_TRY(scratch_of(ctx, SLOT_WIDE, columns * v->dim, &wide));
  for (int h = 0; h < halves(v); h++)
    CUDA_TRY(ctx, launch_read_weights(state->compute, *v, h, wide, columns), v->count);
  SNTK_TRY(receive(ctx, wide, columns * v->dim, &host));
  for (int64_t k = 0; k < v->dim; k++)
    memcpy(out + k * ld, host + k * columns, static_cast<size_t>(columns) * sizeof(double));
  return SNTK_OK;
}

sntk_backend make_table() {
  sntk_backend table = {};
  table.name = "cuda";
#if defined(SNTK_EMULATED)
  table.emulated = true;
#endif
  table.tensor_cores = true;
  table.feature_slabs = 2;
  table.chunk_columns = 1 << 22;
  table.open = cuda_open;
  table.close = cuda_close;
  table.precision = cuda_precision;
  table.supports = cuda_supports;
  table.memory = cuda_memory;
  table.plan = cuda_plan;
  table.alloc = cuda_alloc;
  table.free = cuda_free;
  table.upload = cuda_upload;
  table.download = cuda_download;
  table.random_weights = cuda_random_weights;
  table.random_signs = cuda_random_signs;
  table.statistics = cuda_statistics;
  table.base_statistics = cuda_base_statistics;
  table.gradient = cuda_gradient;
  table.descent = cuda_descent;
  table.push = cuda_push;
  table.features = cuda_features;
  table.gram_add = cuda_gram_add;
  table.feature_change = cuda_feature_change;
  table.gram_add_change = cuda_gram_add_change;
  table.kernel_gradient = cuda_kernel_gradient;
  table.gram_finish = cuda_gram_finish;
  table.eigenvalues = cuda_eigenvalues;
  table.movement = cuda_movement;
  table.move_base = cuda_move_base;
  table.widen = cuda_widen;
  table.unpair = cuda_unpair;
  table.profile = cuda_profile;
  table.read_weights = cuda_read_weights;
  return table;
}

const sntk_backend table = make_table();

}  // namespace

/* What the registry looks up in the module. */
extern "C" SNTK_API const char *sntk_cuda_module_version(void);
extern "C" const char *sntk_cuda_module_version(void) { return SNTK_VERSION_STRING; }
extern "C" SNTK_API const sntk_backend *sntk_cuda_module(void);
extern "C" const sntk_backend *sntk_cuda_module(void) { return &table; }
