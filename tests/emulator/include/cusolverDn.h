/**
 * @file cusolverDn.h
 * @brief Stands in for cuSOLVER's header of this name: symmetric eigenvalues through LAPACK, in stream order.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef EMU_CUSOLVERDN_H
#define EMU_CUSOLVERDN_H

#include "cublas_v2.h"

typedef enum {
  CUSOLVER_STATUS_SUCCESS = 0,
  CUSOLVER_STATUS_NOT_INITIALIZED = 1,
  CUSOLVER_STATUS_ALLOC_FAILED = 2,
  CUSOLVER_STATUS_INVALID_VALUE = 3,
  CUSOLVER_STATUS_ARCH_MISMATCH = 4,
  CUSOLVER_STATUS_MAPPING_ERROR = 5,
  CUSOLVER_STATUS_EXECUTION_FAILED = 6,
  CUSOLVER_STATUS_INTERNAL_ERROR = 7,
  CUSOLVER_STATUS_MATRIX_TYPE_NOT_SUPPORTED = 8,
  CUSOLVER_STATUS_NOT_SUPPORTED = 9
} cusolverStatus_t;
typedef enum { CUSOLVER_EIG_MODE_NOVECTOR = 0, CUSOLVER_EIG_MODE_VECTOR = 1 } cusolverEigMode_t;
typedef struct cusolverDnContext *cusolverDnHandle_t;

extern "C" {
EMU_API cusolverStatus_t cusolverDnCreate(cusolverDnHandle_t *handle);
EMU_API cusolverStatus_t cusolverDnDestroy(cusolverDnHandle_t handle);
EMU_API cusolverStatus_t cusolverDnSetStream(cusolverDnHandle_t handle, cudaStream_t stream);
EMU_API cusolverStatus_t cusolverDnDsyevd_bufferSize(cusolverDnHandle_t handle, cusolverEigMode_t jobz,
                                                     cublasFillMode_t uplo, int n, const double *A, int lda,
                                                     const double *W, int *lwork);
EMU_API cusolverStatus_t cusolverDnDsyevd(cusolverDnHandle_t handle, cusolverEigMode_t jobz, cublasFillMode_t uplo,
                                          int n, double *A, int lda, double *W, double *work, int lwork, int *info);
}

#endif
