/**
 * @file ref_linalg.h
 * @brief The oracle's eigenvalues.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_REF_LINALG_H
#define SOFTNTK_REF_LINALG_H

#include "core/core.h"

/* Eigenvalues, ascending, by cyclic Jacobi rotations; the matrix is destroyed. SNTK_ERR_NUMERICAL if 60 sweeps do not
 * suffice. */
sntk_status sntk_ref_eigenvalues(sntk_context *ctx, double *matrix, int64_t size, double *values);

#endif
