/**
 * @file ref_linalg.c
 * @brief Symmetric eigenvalues by cyclic Jacobi rotations (Golub, Van Loan, "Matrix Computations", section 8.5).
 *
 * SPDX-License-Identifier: MIT
 */
#include "backends/ref/ref_linalg.h"

#include <math.h>
#include <stdlib.h>

enum { MAX_SWEEPS = 60 };

static int ascending(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Zeroes a(p, q) by a rotation of rows and columns p and q. */
static void rotate(double *a, int64_t n, int64_t p, int64_t q) {
  const double apq = a[p * n + q];
  const double tau = (a[q * n + q] - a[p * n + p]) / (2.0 * apq);
  const double t = (tau >= 0.0 ? 1.0 : -1.0) / (fabs(tau) + sqrt(1.0 + tau * tau));
  const double c = 1.0 / sqrt(1.0 + t * t), s = t * c;
  for (int64_t k = 0; k < n; k++) {
    const double akp = a[k * n + p], akq = a[k * n + q];
    a[k * n + p] = c * akp - s * akq;
    a[k * n + q] = s * akp + c * akq;
  }
  for (int64_t k = 0; k < n; k++) {
    const double apk = a[p * n + k], aqk = a[q * n + k];
    a[p * n + k] = c * apk - s * aqk;
    a[q * n + k] = s * apk + c * aqk;
  }
}

sntk_status sntk_ref_eigenvalues(sntk_context *ctx, double *matrix, int64_t size, double *values) {
  double norm = 0.0;
  for (int64_t i = 0; i < size * size; i++) {
    if (!isfinite(matrix[i])) return sntk_fail(ctx, SNTK_ERR_NUMERICAL, "eigenvalues of a matrix that is not finite");
    norm = hypot(norm, matrix[i]);
  }
  const double negligible = 0x1p-53 * norm / (double)size; /* all of them together stay below eps |H|_F */
  bool rotated = true;
  for (int sweep = 0; rotated; sweep++) {
    if (sweep == MAX_SWEEPS)
      return sntk_fail(ctx, SNTK_ERR_NUMERICAL, "Jacobi rotations did not converge in %d sweeps", MAX_SWEEPS);
    rotated = false;
    for (int64_t p = 0; p < size; p++)
      for (int64_t q = p + 1; q < size; q++)
        if (fabs(matrix[p * size + q]) > negligible) {
          rotate(matrix, size, p, q);
          rotated = true;
        }
  }
  for (int64_t i = 0; i < size; i++) values[i] = matrix[i * size + i];
  qsort(values, (size_t)size, sizeof *values, ascending);
  return SNTK_OK;
}
