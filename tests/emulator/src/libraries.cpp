/**
 * @file libraries.cpp
 * @brief cuBLAS and cuSOLVER: CBLAS and LAPACK calls that run in stream order.
 *
 * SPDX-License-Identifier: MIT
 */
#include <cblas.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <vector>

#include "call.h"
#include "cublas_v2.h"
#include "cusolverDn.h"
#include "guard.h"
#include "memory.h"
#include "queue.h"
#include "report.h"

extern "C" void dsyevd_(const char *jobz, const char *uplo, const int *n, double *a, const int *lda, double *w,
                        double *work, const int *lwork, int *iwork, const int *liwork, int *info);

struct cublasContext {
  cudaStream_t stream = nullptr;
  cublasMath_t math = CUBLAS_DEFAULT_MATH;
  cublasPointerMode_t pointers = CUBLAS_POINTER_MODE_HOST;
  bool alive = true;
};

struct cusolverDnContext {
  cudaStream_t stream = nullptr;
  bool alive = true;
};

namespace emu {

static std::map<const void *, std::unique_ptr<cublasContext>> blas_handles;
static std::map<const void *, std::unique_ptr<cusolverDnContext>> solver_handles;

void libraries_reset() {
  blas_handles.clear();
  solver_handles.clear();
  library_handles() = 0;
}

template <class Context>
static Context *create(std::map<const void *, std::unique_ptr<Context>> &known) {
  auto context = std::make_unique<Context>();
  Context *handle = context.get();
  known[handle] = std::move(context);
  ++library_handles();
  return handle;
}

template <class Context>
static void check_handle(const std::map<const void *, std::unique_ptr<Context>> &known, const Context *handle,
                         const char *call) {
  const auto it = known.find(handle);
  if (it == known.end()) fatal("%s: %p is not a handle of this library", call, static_cast<const void *>(handle));
  if (!it->second->alive) fatal("%s: a handle that was destroyed is used", call);
}

/* A column-major matrix must lie in device memory, all of it, now and when the operation runs. */
static void check_matrix(const char *call, const char *name, const void *data, int rows, int columns, int ld,
                         size_t size) {
  if (rows <= 0 || columns <= 0) return;
  const size_t span = ((size_t)ld * (size_t)(columns - 1) + (size_t)rows) * size;
  const Allocation *a = allocation_at(data);
  if (!a || a->kind != MemoryKind::device) fatal("%s: %s = %p is not device memory", call, name, data);
  const size_t offset = (size_t)(static_cast<const char *>(data) - a->base);
  if (span > a->size - offset) {
    fatal(
        "%s: out of bounds: %s, %d x %d with leading dimension %d, needs %zu bytes from byte %zu on of an allocation "
        "of %zu",
        call, name, rows, columns, ld, span, offset, a->size);
  }
}

/* Run it in stream order; a capture that refuses it is an execution error of the library. */
template <class Status>
static Status enqueue(cudaStream_t handle_stream, const char *call, Status failed, std::function<void()> run) {
  cudaStream_t stream = stream_of(handle_stream, call);
  return submit(stream, {call, std::move(run), {}}) == cudaSuccess ? Status(0) : failed;
}

/* TF32 keeps 10 bits of the fraction, rounded to nearest. */
static std::vector<float> rounded_to_tf32(const float *data, int rows, int columns, int ld) {
  std::vector<float> copy((size_t)ld * (size_t)columns, 0.0f);
  for (int j = 0; j < columns; ++j) {
    for (int i = 0; i < rows; ++i) {
      const size_t at = (size_t)j * (size_t)ld + (size_t)i;
      uint32_t bits;
      memcpy(&bits, &data[at], sizeof bits);
      if ((bits & 0x7f800000u) != 0x7f800000u) bits = (bits + 0x1000u) & 0xffffe000u;
      memcpy(&copy[at], &bits, sizeof bits);
    }
  }
  return copy;
}

static CBLAS_TRANSPOSE cblas_operation(cublasOperation_t t) { return t == CUBLAS_OP_N ? CblasNoTrans : CblasTrans; }

static void multiply(cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k, float alpha, const float *A,
                     int lda, const float *B, int ldb, float beta, float *C, int ldc, bool tf32) {
  std::vector<float> a, b;
  if (tf32) {
    a = rounded_to_tf32(A, ta == CUBLAS_OP_N ? m : k, ta == CUBLAS_OP_N ? k : m, lda);
    b = rounded_to_tf32(B, tb == CUBLAS_OP_N ? k : n, tb == CUBLAS_OP_N ? n : k, ldb);
    A = a.data();
    B = b.data();
  }
  cblas_sgemm(CblasColMajor, cblas_operation(ta), cblas_operation(tb), m, n, k, alpha, A, lda, B, ldb, beta, C, ldc);
}
static void multiply(cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k, double alpha, const double *A,
                     int lda, const double *B, int ldb, double beta, double *C, int ldc, bool) {
  cblas_dgemm(CblasColMajor, cblas_operation(ta), cblas_operation(tb), m, n, k, alpha, A, lda, B, ldb, beta, C, ldc);
}
static void rank_update(cublasFillMode_t uplo, cublasOperation_t t, int n, int k, float alpha, const float *A, int lda,
                        float beta, float *C, int ldc, bool tf32) {
  std::vector<float> a;
  if (tf32) {
    a = rounded_to_tf32(A, t == CUBLAS_OP_N ? n : k, t == CUBLAS_OP_N ? k : n, lda);
    A = a.data();
  }
  cblas_ssyrk(CblasColMajor, uplo == CUBLAS_FILL_MODE_LOWER ? CblasLower : CblasUpper, cblas_operation(t), n, k, alpha,
              A, lda, beta, C, ldc);
}
static void rank_update(cublasFillMode_t uplo, cublasOperation_t t, int n, int k, double alpha, const double *A,
                        int lda, double beta, double *C, int ldc, bool) {
  cblas_dsyrk(CblasColMajor, uplo == CUBLAS_FILL_MODE_LOWER ? CblasLower : CblasUpper, cblas_operation(t), n, k, alpha,
              A, lda, beta, C, ldc);
}

static void rank_update2(cublasFillMode_t uplo, cublasOperation_t t, int n, int k, float alpha, const float *A, int lda,
                         const float *B, int ldb, float beta, float *C, int ldc, bool tf32) {
  std::vector<float> a, b;
  if (tf32) {
    a = rounded_to_tf32(A, t == CUBLAS_OP_N ? n : k, t == CUBLAS_OP_N ? k : n, lda);
    b = rounded_to_tf32(B, t == CUBLAS_OP_N ? n : k, t == CUBLAS_OP_N ? k : n, ldb);
    A = a.data();
    B = b.data();
  }
  cblas_ssyr2k(CblasColMajor, uplo == CUBLAS_FILL_MODE_LOWER ? CblasLower : CblasUpper, cblas_operation(t), n, k, alpha,
               A, lda, B, ldb, beta, C, ldc);
}
static void rank_update2(cublasFillMode_t uplo, cublasOperation_t t, int n, int k, double alpha, const double *A,
                         int lda, const double *B, int ldb, double beta, double *C, int ldc, bool) {
  cblas_dsyr2k(CblasColMajor, uplo == CUBLAS_FILL_MODE_LOWER ? CblasLower : CblasUpper, cblas_operation(t), n, k, alpha,
               A, lda, B, ldb, beta, C, ldc);
}

/* A scalar read when the call is made (host mode) or when it runs (device mode). */
template <class T>
struct Scalar {
  T value;
  const T *device;
  Scalar(const cublasContext &handle, const char *call, const char *name, const T *p)
      : value(0), device(handle.pointers == CUBLAS_POINTER_MODE_DEVICE ? p : nullptr) {
    const Allocation *a = allocation_at(p);
    const bool on_device = a && a->kind == MemoryKind::device;
    if (on_device != (device != nullptr)) {
      fatal("%s: %s is %s memory, but the pointer mode says %s", call, name, on_device ? "device" : "host",
            device ? "device" : "host");
    }
    if (!device) value = *p;
  }
  T get() const { return device ? *device : value; }
};

template <class T>
static cublasStatus_t gemm(const char *call, cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, int m,
                           int n, int k, const T *alpha, const T *A, int lda, const T *B, int ldb, const T *beta, T *C,
                           int ldc) {
  return library_call(call, CUBLAS_STATUS_EXECUTION_FAILED, [&] {
    check_handle(blas_handles, handle, call);
    const int a_rows = ta == CUBLAS_OP_N ? m : k, a_columns = ta == CUBLAS_OP_N ? k : m;
    const int b_rows = tb == CUBLAS_OP_N ? k : n, b_columns = tb == CUBLAS_OP_N ? n : k;
    if (m < 0 || n < 0 || k < 0 || lda < std::max(1, a_rows) || ldb < std::max(1, b_rows) || ldc < std::max(1, m)) {
      return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (!alpha || !beta) return CUBLAS_STATUS_INVALID_VALUE;
    if (m == 0 || n == 0) return CUBLAS_STATUS_SUCCESS;
    const Scalar<T> a(*handle, call, "alpha", alpha), b(*handle, call, "beta", beta);
    check_matrix(call, "A", A, a_rows, a_columns, lda, sizeof(T));
    check_matrix(call, "B", B, b_rows, b_columns, ldb, sizeof(T));
    check_matrix(call, "C", C, m, n, ldc, sizeof(T));
    const bool tf32 = handle->math == CUBLAS_TF32_TENSOR_OP_MATH;
    return enqueue(handle->stream, call, CUBLAS_STATUS_EXECUTION_FAILED, [=] {
      check_matrix(call, "A", A, a_rows, a_columns, lda, sizeof(T));
      check_matrix(call, "B", B, b_rows, b_columns, ldb, sizeof(T));
      check_matrix(call, "C", C, m, n, ldc, sizeof(T));
      multiply(ta, tb, m, n, k, a.get(), A, lda, B, ldb, b.get(), C, ldc, tf32);
    });
  });
}

template <class T>
static cublasStatus_t syrk(const char *call, cublasHandle_t handle, cublasFillMode_t uplo, cublasOperation_t trans,
                           int n, int k, const T *alpha, const T *A, int lda, const T *beta, T *C, int ldc) {
  return library_call(call, CUBLAS_STATUS_EXECUTION_FAILED, [&] {
    check_handle(blas_handles, handle, call);
    const int rows = trans == CUBLAS_OP_N ? n : k, columns = trans == CUBLAS_OP_N ? k : n;
    if (n < 0 || k < 0 || lda < std::max(1, rows) || ldc < std::max(1, n)) return CUBLAS_STATUS_INVALID_VALUE;
    if (uplo != CUBLAS_FILL_MODE_LOWER && uplo != CUBLAS_FILL_MODE_UPPER) return CUBLAS_STATUS_INVALID_VALUE;
    if (!alpha || !beta) return CUBLAS_STATUS_INVALID_VALUE;
    if (n == 0) return CUBLAS_STATUS_SUCCESS;
    const Scalar<T> a(*handle, call, "alpha", alpha), b(*handle, call, "beta", beta);
    check_matrix(call, "A", A, rows, columns, lda, sizeof(T));
    check_matrix(call, "C", C, n, n, ldc, sizeof(T));
    const bool tf32 = handle->math == CUBLAS_TF32_TENSOR_OP_MATH;
    return enqueue(handle->stream, call, CUBLAS_STATUS_EXECUTION_FAILED, [=] {
      check_matrix(call, "A", A, rows, columns, lda, sizeof(T));
      check_matrix(call, "C", C, n, n, ldc, sizeof(T));
      rank_update(uplo, trans, n, k, a.get(), A, lda, b.get(), C, ldc, tf32);
    });
  });
}

template <class T>
static cublasStatus_t syr2k(const char *call, cublasHandle_t handle, cublasFillMode_t uplo, cublasOperation_t trans,
                            int n, int k, const T *alpha, const T *A, int lda, const T *B, int ldb, const T *beta, T *C,
                            int ldc) {
  return library_call(call, CUBLAS_STATUS_EXECUTION_FAILED, [&] {
    check_handle(blas_handles, handle, call);
    const int rows = trans == CUBLAS_OP_N ? n : k, columns = trans == CUBLAS_OP_N ? k : n;
    if (n < 0 || k < 0 || lda < std::max(1, rows) || ldb < std::max(1, rows) || ldc < std::max(1, n)) {
      return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (uplo != CUBLAS_FILL_MODE_LOWER && uplo != CUBLAS_FILL_MODE_UPPER) return CUBLAS_STATUS_INVALID_VALUE;
    if (!alpha || !beta) return CUBLAS_STATUS_INVALID_VALUE;
    if (n == 0) return CUBLAS_STATUS_SUCCESS;
    const Scalar<T> a(*handle, call, "alpha", alpha), b(*handle, call, "beta", beta);
    check_matrix(call, "A", A, rows, columns, lda, sizeof(T));
    check_matrix(call, "B", B, rows, columns, ldb, sizeof(T));
    check_matrix(call, "C", C, n, n, ldc, sizeof(T));
    const bool tf32 = handle->math == CUBLAS_TF32_TENSOR_OP_MATH;
    return enqueue(handle->stream, call, CUBLAS_STATUS_EXECUTION_FAILED, [=] {
      check_matrix(call, "A", A, rows, columns, lda, sizeof(T));
      check_matrix(call, "B", B, rows, columns, ldb, sizeof(T));
      check_matrix(call, "C", C, n, n, ldc, sizeof(T));
      rank_update2(uplo, trans, n, k, a.get(), A, lda, B, ldb, b.get(), C, ldc, tf32);
    });
  });
}

/* LAPACK's workspace is its own; of the caller's, which a device would use, the old content is destroyed. */
static void eigen(cusolverEigMode_t jobz, cublasFillMode_t uplo, int n, double *A, int lda, double *W, double *work,
                  int lwork, int *info) {
  const char job = jobz == CUSOLVER_EIG_MODE_VECTOR ? 'V' : 'N', triangle = uplo == CUBLAS_FILL_MODE_LOWER ? 'L' : 'U';
  guard_fill(work, (size_t)lwork * sizeof(double), 0xff);
  double size;
  int integers, query = -1, status = 0;
  dsyevd_(&job, &triangle, &n, A, &lda, W, &size, &query, &integers, &query, &status);
  std::vector<double> doubles((size_t)size);
  std::vector<int> ints((size_t)integers);
  const int double_count = (int)size;
  dsyevd_(&job, &triangle, &n, A, &lda, W, doubles.data(), &double_count, ints.data(), &integers, &status);
  if (job == 'N') { /* A is destroyed */
    for (int j = 0; j < n; ++j) guard_fill(A + (size_t)j * (size_t)lda, (size_t)n * sizeof(double), 0xff);
  }
  *info = status;
}

static int eigen_workspace(int n) { return n < 1 ? 1 : 1 + 6 * n + 2 * n * n; }

}  // namespace emu

using namespace emu;

cublasStatus_t cublasCreate(cublasHandle_t *handle) {
  return library_call(__func__, CUBLAS_STATUS_ALLOC_FAILED, [&] {
    if (check_device() != cudaSuccess || refuse_in_capture() != cudaSuccess) return CUBLAS_STATUS_NOT_INITIALIZED;
    *handle = create(blas_handles);
    return CUBLAS_STATUS_SUCCESS;
  });
}

/* Releasing is never made to fail (call.h). */
cublasStatus_t cublasDestroy(cublasHandle_t handle) {
  const std::lock_guard<std::recursive_mutex> lock(call_mutex());
  check_handle(blas_handles, handle, "cublasDestroy");
  handle->alive = false;
  --library_handles();
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetVersion(cublasHandle_t handle, int *version) {
  return library_call(__func__, CUBLAS_STATUS_NOT_INITIALIZED, [&] {
    if (handle) check_handle(blas_handles, handle, "cublasGetVersion");
    *version = 120000;
    return CUBLAS_STATUS_SUCCESS;
  });
}

cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
  return library_call(__func__, CUBLAS_STATUS_NOT_INITIALIZED, [&] {
    check_handle(blas_handles, handle, "cublasSetStream");
    stream_of(stream, "cublasSetStream");
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
  });
}

cublasStatus_t cublasGetStream(cublasHandle_t handle, cudaStream_t *stream) {
  return library_call(__func__, CUBLAS_STATUS_NOT_INITIALIZED, [&] {
    check_handle(blas_handles, handle, "cublasGetStream");
    *stream = handle->stream;
    return CUBLAS_STATUS_SUCCESS;
  });
}

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
  return library_call(__func__, CUBLAS_STATUS_NOT_INITIALIZED, [&] {
    check_handle(blas_handles, handle, "cublasSetMathMode");
    if (mode != CUBLAS_DEFAULT_MATH && mode != CUBLAS_PEDANTIC_MATH && mode != CUBLAS_TF32_TENSOR_OP_MATH) {
      return CUBLAS_STATUS_INVALID_VALUE;
    }
    handle->math = mode;
    return CUBLAS_STATUS_SUCCESS;
  });
}

cublasStatus_t cublasSetPointerMode(cublasHandle_t handle, cublasPointerMode_t mode) {
  return library_call(__func__, CUBLAS_STATUS_NOT_INITIALIZED, [&] {
    check_handle(blas_handles, handle, "cublasSetPointerMode");
    handle->pointers = mode;
    return CUBLAS_STATUS_SUCCESS;
  });
}

const char *cublasGetStatusName(cublasStatus_t status) {
  switch (status) {
#define NAME(s)                                                                                                        \
  case s:                                                                                                              \
    return #s;
    NAME(CUBLAS_STATUS_SUCCESS)
    NAME(CUBLAS_STATUS_NOT_INITIALIZED)
    NAME(CUBLAS_STATUS_ALLOC_FAILED)
    NAME(CUBLAS_STATUS_INVALID_VALUE)
    NAME(CUBLAS_STATUS_ARCH_MISMATCH)
    NAME(CUBLAS_STATUS_MAPPING_ERROR)
    NAME(CUBLAS_STATUS_EXECUTION_FAILED)
    NAME(CUBLAS_STATUS_INTERNAL_ERROR)
    NAME(CUBLAS_STATUS_NOT_SUPPORTED)
    NAME(CUBLAS_STATUS_LICENSE_ERROR)
#undef NAME
  }
  return "unknown cuBLAS status";
}

const char *cublasGetStatusString(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "success";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "the library was not initialized";
    case CUBLAS_STATUS_ALLOC_FAILED:
      return "the resource allocation failed";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "an unsupported value or parameter was passed to the function";
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return "the function failed to launch on the GPU";
    default:
      return cublasGetStatusName(status);
  }
}

cublasStatus_t cublasSgemm(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m, int n,
                           int k, const float *alpha, const float *A, int lda, const float *B, int ldb,
                           const float *beta, float *C, int ldc) {
  return gemm("cublasSgemm", handle, transa, transb, m, n, k, alpha, A, lda, B, ldb, beta, C, ldc);
}

cublasStatus_t cublasDgemm(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m, int n,
                           int k, const double *alpha, const double *A, int lda, const double *B, int ldb,
                           const double *beta, double *C, int ldc) {
  return gemm("cublasDgemm", handle, transa, transb, m, n, k, alpha, A, lda, B, ldb, beta, C, ldc);
}

cublasStatus_t cublasSsyrk(cublasHandle_t handle, cublasFillMode_t uplo, cublasOperation_t trans, int n, int k,
                           const float *alpha, const float *A, int lda, const float *beta, float *C, int ldc) {
  return syrk("cublasSsyrk", handle, uplo, trans, n, k, alpha, A, lda, beta, C, ldc);
}

cublasStatus_t cublasDsyrk(cublasHandle_t handle, cublasFillMode_t uplo, cublasOperation_t trans, int n, int k,
                           const double *alpha, const double *A, int lda, const double *beta, double *C, int ldc) {
  return syrk("cublasDsyrk", handle, uplo, trans, n, k, alpha, A, lda, beta, C, ldc);
}

cublasStatus_t cublasSsyr2k(cublasHandle_t handle, cublasFillMode_t uplo, cublasOperation_t trans, int n, int k,
                            const float *alpha, const float *A, int lda, const float *B, int ldb, const float *beta,
                            float *C, int ldc) {
  return syr2k("cublasSsyr2k", handle, uplo, trans, n, k, alpha, A, lda, B, ldb, beta, C, ldc);
}

cublasStatus_t cublasDsyr2k(cublasHandle_t handle, cublasFillMode_t uplo, cublasOperation_t trans, int n, int k,
                            const double *alpha, const double *A, int lda, const double *B, int ldb, const double *beta,
                            double *C, int ldc) {
  return syr2k("cublasDsyr2k", handle, uplo, trans, n, k, alpha, A, lda, B, ldb, beta, C, ldc);
}

cusolverStatus_t cusolverDnCreate(cusolverDnHandle_t *handle) {
  return library_call(__func__, CUSOLVER_STATUS_ALLOC_FAILED, [&] {
    if (check_device() != cudaSuccess || refuse_in_capture() != cudaSuccess) return CUSOLVER_STATUS_NOT_INITIALIZED;
    *handle = create(solver_handles);
    return CUSOLVER_STATUS_SUCCESS;
  });
}

cusolverStatus_t cusolverDnDestroy(cusolverDnHandle_t handle) {
  const std::lock_guard<std::recursive_mutex> lock(call_mutex());
  check_handle(solver_handles, handle, "cusolverDnDestroy");
  handle->alive = false;
  --library_handles();
  return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnSetStream(cusolverDnHandle_t handle, cudaStream_t stream) {
  return library_call(__func__, CUSOLVER_STATUS_NOT_INITIALIZED, [&] {
    check_handle(solver_handles, handle, "cusolverDnSetStream");
    stream_of(stream, "cusolverDnSetStream");
    handle->stream = stream;
    return CUSOLVER_STATUS_SUCCESS;
  });
}

cusolverStatus_t cusolverDnDsyevd_bufferSize(cusolverDnHandle_t handle, cusolverEigMode_t, cublasFillMode_t, int n,
                                             const double *, int lda, const double *, int *lwork) {
  return library_call(__func__, CUSOLVER_STATUS_INTERNAL_ERROR, [&] {
    check_handle(solver_handles, handle, "cusolverDnDsyevd_bufferSize");
    if (n < 0 || n > 30000 || lda < std::max(1, n)) return CUSOLVER_STATUS_INVALID_VALUE;
    *lwork = eigen_workspace(n);
    return CUSOLVER_STATUS_SUCCESS;
  });
}

cusolverStatus_t cusolverDnDsyevd(cusolverDnHandle_t handle, cusolverEigMode_t jobz, cublasFillMode_t uplo, int n,
                                  double *A, int lda, double *W, double *work, int lwork, int *info) {
  return library_call("cusolverDnDsyevd", CUSOLVER_STATUS_EXECUTION_FAILED, [&] {
    const char *const call = "cusolverDnDsyevd";
    check_handle(solver_handles, handle, call);
    if (n < 0 || lda < std::max(1, n) || lwork < eigen_workspace(n)) return CUSOLVER_STATUS_INVALID_VALUE;
    const auto check = [=] {
      check_matrix(call, "A", A, n, n, lda, sizeof(double));
      check_matrix(call, "W", W, n, 1, n, sizeof(double));
      check_matrix(call, "work", work, lwork, 1, lwork, sizeof(double));
      check_matrix(call, "info", info, 1, 1, 1, sizeof(int));
    };
    check();
    return enqueue(handle->stream, call, CUSOLVER_STATUS_EXECUTION_FAILED, [=] {
      check();
      if (n > 0) {
        eigen(jobz, uplo, n, A, lda, W, work, lwork, info);
      } else {
        *info = 0;
      }
    });
  });
}
