/**
 * @file cublas_v2.h
 * @brief Stands in for cuBLAS's header of this name: column-major products through CBLAS, in stream order.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef EMU_CUBLAS_V2_H
#define EMU_CUBLAS_V2_H

#include "cuda_runtime_api.h"

typedef enum {
  CUBLAS_STATUS_SUCCESS = 0,
  CUBLAS_STATUS_NOT_INITIALIZED = 1,
  CUBLAS_STATUS_ALLOC_FAILED = 3,
  CUBLAS_STATUS_INVALID_VALUE = 7,
  CUBLAS_STATUS_ARCH_MISMATCH = 8,
  CUBLAS_STATUS_MAPPING_ERROR = 11,
  CUBLAS_STATUS_EXECUTION_FAILED = 13,
  CUBLAS_STATUS_INTERNAL_ERROR = 14,
  CUBLAS_STATUS_NOT_SUPPORTED = 15,
  CUBLAS_STATUS_LICENSE_ERROR = 16
} cublasStatus_t;
typedef enum { CUBLAS_FILL_MODE_LOWER = 0, CUBLAS_FILL_MODE_UPPER = 1, CUBLAS_FILL_MODE_FULL = 2 } cublasFillMode_t;
typedef enum { CUBLAS_OP_N = 0, CUBLAS_OP_T = 1, CUBLAS_OP_C = 2 } cublasOperation_t;
typedef enum { CUBLAS_POINTER_MODE_HOST = 0, CUBLAS_POINTER_MODE_DEVICE = 1 } cublasPointerMode_t;
typedef enum { CUBLAS_DEFAULT_MATH = 0, CUBLAS_PEDANTIC_MATH = 2, CUBLAS_TF32_TENSOR_OP_MATH = 3 } cublasMath_t;
typedef struct cublasContext *cublasHandle_t;

extern "C" {
EMU_API cublasStatus_t cublasCreate(cublasHandle_t *handle);
EMU_API cublasStatus_t cublasDestroy(cublasHandle_t handle);
EMU_API cublasStatus_t cublasGetVersion(cublasHandle_t handle, int *version);
EMU_API cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream);
EMU_API cublasStatus_t cublasGetStream(cublasHandle_t handle, cudaStream_t *stream);
EMU_API cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode);
EMU_API cublasStatus_t cublasSetPointerMode(cublasHandle_t handle, cublasPointerMode_t mode);
EMU_API const char *cublasGetStatusName(cublasStatus_t status);
EMU_API const char *cublasGetStatusString(cublasStatus_t status);
EMU_API cublasStatus_t cublasSgemm(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m,
                                   int n, int k, const float *alpha, const float *A, int lda, const float *B, int ldb,
                                   const float *beta, float *C, int ldc);
EMU_API cublasStatus_t cublasDgemm(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m,
                                   int n, int k, const double *alpha, const double *A, int lda, const double *B,
                                   int ldb, const double *beta, double *C, int ldc);
EMU_API cublasStatus_t cublasSsyrk(cublasHandle_t handle, cublasFillMode_t uplo, cublasOperation_t trans, int n, int k,
                                   const float *alpha, const float *A, int lda, const float *beta, float *C, int ldc);
EMU_API cublasStatus_t cublasDsyrk(cublasHandle_t handle, cublasFillMode_t uplo, cublasOperation_t trans, int n, int k,
                                   const double *alpha, const double *A, int lda, const double *beta, double *C,
                                   int ldc);
EMU_API cublasStatus_t cublasSsyr2k(cublasHandle_t handle, cublasFillMode_t uplo, cublasOperation_t trans, int n, int k,
                                    const float *alpha, const float *A, int lda, const float *B, int ldb,
                                    const float *beta, float *C, int ldc);
EMU_API cublasStatus_t cublasDsyr2k(cublasHandle_t handle, cublasFillMode_t uplo, cublasOperation_t trans, int n, int k,
                                    const double *alpha, const double *A, int lda, const double *B, int ldb,
                                    const double *beta, double *C, int ldc);
}

#endif
