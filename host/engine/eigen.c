/**
 * @file eigen.c
 * @brief The two ends of a symmetric matrix's spectrum by Lanczos (ARPACK), each with a bound on its error; the lowest
 * eigenvector.
 *
 * The largest eigenvalue is found with H itself, the smallest as the largest of H^-1 through a Cholesky factor. What is
 * reported of either is the Rayleigh quotient theta of its Ritz vector y with H as given, and |H y - theta y|_2: some
 * eigenvalue lies within that of theta (Parlett, "The Symmetric Eigenvalue Problem", theorem 4.5.1), however the vector
 * was found, so that neither a shift nor the conditioning of the solves enters.
 *
 * SPDX-License-Identifier: MIT
 */
#include <cblas.h>
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "softntk/ntk.h"
#include "softntk/rng.h"

/* Below ORDER_DENSE all eigenvectors cost less than the set-up of a Krylov space, and ARPACK's own limits on its sizes
 * are never met. KRYLOV vectors are kept; ARPACK restarts from half of them. */
enum { ORDER_DENSE = 32, KRYLOV = 40, RESTARTS = 200, START_SEED = 1 };

static const double EPS = 0x1p-53;

/* LAPACK, from the same library as the BLAS, and ARPACK; sizes of characters last, as Fortran passes them. */
extern void dsyev_(const char *jobz, const char *uplo, const int *n, double *a, const int *lda, double *w, double *work,
                   const int *lwork, int *info, size_t jobz_length, size_t uplo_length);
extern void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info, size_t uplo_length);
extern void dsaupd_(int *ido, const char *bmat, const int *n, const char *which, const int *nev, const double *tol,
                    double *resid, const int *ncv, double *v, const int *ldv, int *iparam, int *ipntr, double *workd,
                    double *workl, const int *lworkl, int *info, size_t bmat_length, size_t which_length);
extern void dseupd_(const int *rvec, const char *howmny, int *select, double *d, double *z, const int *ldz,
                    const double *sigma, const char *bmat, const int *n, const char *which, const int *nev,
                    const double *tol, double *resid, const int *ncv, double *v, const int *ldv, int *iparam,
                    int *ipntr, double *workd, double *workl, const int *lworkl, int *info, size_t howmny_length,
                    size_t bmat_length, size_t which_length);

/* ARPACK keeps the state of a solve in static variables, between the calls of one solve too. */
static pthread_mutex_t arpack_lock = PTHREAD_MUTEX_INITIALIZER;

typedef struct problem {
  const double *matrix;
  double *factor; /* of the matrix, scaled and perhaps shifted; or the scaled copy */
  int n;
  double scale;    /* a power of two; |scale H| is about 1: ARPACK's tolerance is absolute below its own size */
  double norm;     /* largest sum of a scaled row's magnitudes: at least |scale H|_2, at most sqrt(n) of it */
  double *krylov;  /* n x KRYLOV */
  double *work;    /* 3 n, ARPACK's */
  double *resid;   /* n */
  double *vector;  /* n: the Ritz vector */
  double *product; /* n: scale H times that */
  int64_t steps;
} problem;

/* scale H x */
static void multiply(const problem *p, const double *x, double *y) {
  cblas_dsymv(CblasRowMajor, CblasLower, p->n, p->scale, p->matrix, p->n, x, 1, 0.0, y, 1);
}

/* The inverse of the factored matrix. Two triangular solves of a vector: dpotrs solves for blocks, at half the rate. */
static void multiply_inverse(const problem *p, const double *x, double *y) {
  memcpy(y, x, (size_t)p->n * sizeof *y);
  cblas_dtrsv(CblasColMajor, CblasLower, CblasNoTrans, CblasNonUnit, p->n, p->factor, p->n, y, 1);
  cblas_dtrsv(CblasColMajor, CblasLower, CblasTrans, CblasNonUnit, p->n, p->factor, p->n, y, 1);
}

static void start_vector(const problem *p, int64_t number, double *x) {
  for (int64_t j = 0; j < p->n; j++)
    x[j] = (double)sntk_rng_normal(START_SEED, SNTK_STREAM_KRYLOV, (uint64_t)(number * p->n + j));
}

/* The Ritz vector of the operator's largest eigenvalue, from p->vector and into it. *info is ARPACK's, 0 where it
 * converged; p->vector is not changed where it did not. */
static sntk_status lanczos(sntk_context *ctx, problem *p, bool inverse, double tolerance, int *info) {
  const int one = 1, ncv = p->n < KRYLOV ? p->n : KRYLOV, lworkl = ncv * (ncv + 8);
  const double no_shift = 0.0;
  int ido = 0, iparam[11] = {0}, ipntr[11] = {0}, select[KRYLOV];
  double workl[KRYLOV * (KRYLOV + 8)], values[KRYLOV];
  bool started = false;
  int64_t restarts = 0;
  iparam[0] = 1; /* exact shifts */
  iparam[2] = RESTARTS;
  iparam[3] = 1;
  iparam[6] = 1; /* a standard problem, by its operator */
  *info = 1;     /* the start vector is given */
  memcpy(p->resid, p->vector, (size_t)p->n * sizeof *p->resid);
  for (;;) {
    dsaupd_(&ido, "I", &p->n, "LA", &one, &tolerance, p->resid, &ncv, p->krylov, &p->n, iparam, ipntr, p->work, workl,
            &lworkl, info, 1, 2);
    if (ido != 1 && ido != -1) break;
    SNTK_TRY(sntk_check_interrupt(ctx));
    const double *x = p->work + ipntr[0] - 1;
    double *y = p->work + ipntr[1] - 1;
    if (ido == 1) {
      (inverse ? multiply_inverse : multiply)(p, x, y);
      p->steps++;
      continue;
    }
    /* A start vector in the operator's range is asked for, and any will do: at first x as it is, and again where the
     * space has closed and nothing is left to extend it by (a matrix of few distinct eigenvalues). Then x is random,
     * its seed kept by ARPACK from solve to solve, or in newer versions made from addresses: the bits would not repeat.
     */
    if (started)
      start_vector(p, ++restarts, y);
    else
      memcpy(y, x, (size_t)p->n * sizeof *y);
    started = true;
  }
  if (*info == 0) /* the vectors take the place of the basis */
    dseupd_(&one, "A", select, values, p->krylov, &p->n, &no_shift, "I", &p->n, "LA", &one, &tolerance, p->resid, &ncv,
            p->krylov, &p->n, iparam, ipntr, p->work, workl, &lworkl, info, 1, 1, 2);
  if (*info == 0) memcpy(p->vector, p->krylov, (size_t)p->n * sizeof *p->vector);
  return SNTK_OK;
}

/* Of scale H: the Rayleigh quotient of p->vector and its residual's norm. */
static void rayleigh(problem *p, double *theta, double *residual) {
  const double length = cblas_dnrm2(p->n, p->vector, 1);
  cblas_dscal(p->n, 1.0 / length, p->vector, 1);
  multiply(p, p->vector, p->product);
  *theta = cblas_ddot(p->n, p->vector, 1, p->product, 1);
  cblas_daxpy(p->n, -*theta, p->vector, 1, p->product, 1);
  *residual = cblas_dnrm2(p->n, p->product, 1);
}

/* Rounding of H y: each entry's n roundings of either sign add up like a random walk, and the rows' together to sqrt(n)
 * eps |H|_2 at most; a few more of the quotient and the norm. */
static double rounding(const problem *p, double norm) { return (4.0 + sqrt(p->n)) * EPS * norm; }

/* One end of scale H. In two rounds, for ARPACK's tolerance is the operator's, and ours the residual of H: where the
 * smallest eigenvalues are far below |H|, and most so where thousands of them are zero to rounding and as many of the
 * inverse's agree to several digits, the loose round is all that is needed, and a tight one would work at telling apart
 * what is the same. A tight round that does not converge leaves the loose one's vector, with its own error. norm: |H|_2
 * as known before, or 0. */
static sntk_status find_end(sntk_context *ctx, problem *p, bool inverse, double norm, double *theta, double *residual) {
  static const double tolerances[] = {1e-6, 0.0}; /* 0: ARPACK's own eps */
  start_vector(p, 0, p->vector);
  for (int round = 0; round < 2; round++) {
    int info;
    double quotient, left;
    SNTK_TRY(lanczos(ctx, p, inverse, tolerances[round], &info));
    if (info != 0 && round == 0)
      return sntk_fail(ctx, SNTK_ERR_NUMERICAL, "the %s eigenvalue did not converge (ARPACK: info %d, order %d)",
                       inverse ? "smallest" : "largest", info, p->n);
    if (info != 0) break;
    /* Two steps of inverse iteration: the residual of H weighs what is left of its largest eigenvalues' vectors most,
     * and that is what they take away. */
    for (int step = 0; step < 2 && inverse; step++) {
      cblas_dscal(p->n, 1.0 / cblas_dnrm2(p->n, p->vector, 1), p->vector, 1);
      multiply_inverse(p, p->vector, p->product);
      memcpy(p->vector, p->product, (size_t)p->n * sizeof *p->vector);
    }
    rayleigh(p, &quotient, &left);
    if (round == 0 || left < *residual) {
      *theta = quotient;
      *residual = left;
    }
    if (*residual <= rounding(p, fmax(norm, fabs(*theta)))) break;
  }
  return SNTK_OK;
}

/* The lower triangle, as LAPACK sees it, of scale H + shift I. */
static void copy_scaled(const problem *p, double shift) {
  const size_t n = (size_t)p->n;
  for (size_t i = 0; i < n; i++) {
    for (size_t j = i; j < n; j++) p->factor[i * n + j] = p->scale * p->matrix[i * n + j];
    p->factor[i * n + i] += shift;
  }
}

/* The factor for the smallest eigenvalue. Where that is zero to rounding, or below zero, H has none: then of H + s I,
 * which has the same vectors. s begins at a small multiple of n eps |H|, what rounding in the factorization may amount
 * to: far enough above eps |H| for eigenvalues that rounding alone tells apart to be one to the iteration. It grows
 * until s I makes up for the most negative eigenvalue. */
static sntk_status factorize(sntk_context *ctx, const problem *p) {
  double shift = 0.0;
  for (;;) {
    int info = 0;
    SNTK_TRY(sntk_check_interrupt(ctx));
    copy_scaled(p, shift);
    dpotrf_("L", &p->n, p->factor, &p->n, &info, 1);
    if (info == 0) return sntk_check_interrupt(ctx);
    if (info < 0) return sntk_fail(ctx, SNTK_ERR_INTERNAL, "dpotrf: info %d, order %d", info, p->n);
    if (shift > 2.0 * p->norm) /* diagonally dominant: cannot be */
      return sntk_fail(ctx, SNTK_ERR_NUMERICAL, "no shift makes the matrix positive definite (order %d)", p->n);
    shift = shift > 0.0 ? 64.0 * shift : 16.0 * p->n * EPS * p->norm;
  }
}

static sntk_status dense(sntk_context *ctx, problem *p, double theta[2], double residual[2]) {
  double values[ORDER_DENSE], work[ORDER_DENSE * ORDER_DENSE];
  const int lwork = ORDER_DENSE * ORDER_DENSE;
  int info = 0;
  copy_scaled(p, 0.0);
  dsyev_("V", "L", &p->n, p->factor, &p->n, values, work, &lwork, &info, 1, 1);
  if (info != 0)
    return sntk_fail(ctx, SNTK_ERR_NUMERICAL, "eigenvalues did not converge (dsyev: info %d, order %d)", info, p->n);
  for (int end = 0; end < 2; end++) {
    memcpy(p->vector, p->factor + (end ? (size_t)p->n * (size_t)(p->n - 1) : 0), (size_t)p->n * sizeof *p->vector);
    rayleigh(p, &theta[end], &residual[end]);
  }
  return SNTK_OK;
}

/* Both ends of scale H: the smallest, then the largest. */
static sntk_status solve(sntk_context *ctx, problem *p, double theta[2], double residual[2]) {
  if (p->n < ORDER_DENSE) return dense(ctx, p, theta, residual);
  SNTK_TRY(find_end(ctx, p, false, 0.0, &theta[1], &residual[1]));
  SNTK_TRY(factorize(ctx, p));
  return find_end(ctx, p, true, fabs(theta[1]), &theta[0], &residual[0]);
}

/* Sets p->scale and p->norm. */
static sntk_status measure(sntk_context *ctx, problem *p) {
  const int64_t n = p->n;
  double norm = 0.0;
  for (int64_t i = 0; i < n; i++) {
    double sum = 0.0;
    for (int64_t j = 0; j < n; j++) sum += fabs(p->matrix[i * n + j]);
    if (!isfinite(sum))
      return sntk_fail(ctx, SNTK_ERR_NUMERICAL, "eigenvalues of a matrix that is not finite, or too large (row %lld)",
                       (long long)i);
    norm = fmax(norm, sum);
  }
  int exponent = 0;
  frexp(norm, &exponent);
  if (exponent < -900) exponent = -900; /* the reciprocal must be finite */
  if (exponent > 900) exponent = 900;   /* and far from subnormal */
  p->scale = ldexp(1.0, -exponent);
  p->norm = norm * p->scale;
  return SNTK_OK;
}

void sntk_plan_extremes(int64_t size, sntk_plan *plan) {
  sntk_plan_brief(plan, sntk_size_mul(size, sntk_size_add(size, KRYLOV + 6)), sizeof(double));
}

sntk_status sntk_extreme_eigenvalues(sntk_context *ctx, const double *matrix, int64_t size, sntk_extremes *extremes) {
  SNTK_NEED(ctx, extremes, "extremes");
  *extremes = (sntk_extremes){0};
  SNTK_NEED(ctx, ctx, "ctx");
  if (size < 1 || size > INT32_MAX / 64)
    return sntk_fail(ctx, SNTK_ERR_SHAPE, "eigenvalues of a matrix of order %lld: from 1 to %d", (long long)size,
                     INT32_MAX / 64);
  SNTK_NEED(ctx, matrix, "matrix");
  int threads; /* a context without a backend has not asked yet whether the library finds its room */
  if (!ctx->backend) SNTK_TRY(sntk_threads_open(ctx, 0, &threads));
  sntk_threads_use(ctx);
  problem p = {.matrix = matrix, .n = (int)size};
  SNTK_TRY(measure(ctx, &p));
  if (p.norm == 0.0) return SNTK_OK;

  double *vectors = NULL, theta[2], residual[2];
  sntk_status status =
      sntk_alloc(ctx, "copy for eigenvalues", sntk_size_mul(size, size), sizeof *p.factor, (void **)&p.factor);
  if (status == SNTK_OK)
    status = sntk_alloc(ctx, "Krylov vectors", sntk_size_mul(size, KRYLOV + 6), sizeof *vectors, (void **)&vectors);
  if (status == SNTK_OK) {
    p.krylov = vectors;
    p.work = p.krylov + size * KRYLOV;
    p.resid = p.work + 3 * size;
    p.vector = p.resid + size;
    p.product = p.vector + size;
    pthread_mutex_lock(&arpack_lock);
    status = solve(ctx, &p, theta, residual);
    pthread_mutex_unlock(&arpack_lock);
  }
  free(vectors);
  free(p.factor);
  SNTK_TRY(status);

  const double norm = fmax(fabs(theta[0]), fabs(theta[1]));
  extremes->min = theta[0] / p.scale;
  extremes->max = theta[1] / p.scale;
  extremes->min_error = (residual[0] + rounding(&p, norm)) / p.scale;
  extremes->max_error = (residual[1] + rounding(&p, norm)) / p.scale;
  extremes->iterations = p.steps;
  return SNTK_OK;
}

/* ---- the lowest eigenvector ---- */
extern void dsyevr_(const char *jobz, const char *range, const char *uplo, const int *n, double *a, const int *lda,
                    const double *vl, const double *vu, const int *il, const int *iu, const double *abstol, int *m,
                    double *w, double *z, const int *ldz, int *isuppz, double *work, const int *lwork, int *iwork,
                    const int *liwork, int *info, size_t jobz_length, size_t range_length, size_t uplo_length);

/* What LAPACK asks for: 26 numbers a row and more where its blocks are large, 10 integers. */
void sntk_plan_lowest(int64_t size, sntk_plan *plan) {
  sntk_plan_brief(plan, size, 64 * sizeof(double) + 10 * sizeof(int));
}

sntk_status sntk_lowest_eigenvector(sntk_context *ctx, double *matrix, int64_t size, double *value, double *vector) {
  if (size > INT32_MAX / 64)
    return sntk_fail(ctx, SNTK_ERR_SHAPE, "an eigenvector of a matrix of order %lld: the solver takes at most %d",
                     (long long)size, INT32_MAX / 64);
  for (int64_t j = 0; j < size * size; j++)
    if (!isfinite(matrix[j]))
      return sntk_fail(ctx, SNTK_ERR_NUMERICAL, "an eigenvector of a matrix that is not finite");
  const int n = (int)size, first = 1, query = -1;
  const double none = 0.0;
  int found, support[2], integers, info;
  double reals, *values = NULL, *work = NULL;
  int *iwork = NULL;
  sntk_threads_use(ctx);
  dsyevr_("V", "I", "L", &n, matrix, &n, &none, &none, &first, &first, &none, &found, &reals, vector, &n, support,
          &reals, &query, &integers, &query, &info, 1, 1, 1);
  const int lwork = (int)reals, liwork = integers;
  sntk_status status = sntk_alloc(ctx, "eigenvalues", size, sizeof *values, (void **)&values);
  if (status == SNTK_OK) status = sntk_alloc(ctx, "work space for eigenvalues", lwork, sizeof *work, (void **)&work);
  if (status == SNTK_OK) status = sntk_alloc(ctx, "work space for eigenvalues", liwork, sizeof *iwork, (void **)&iwork);
  if (status == SNTK_OK) {
    dsyevr_("V", "I", "L", &n, matrix, &n, &none, &none, &first, &first, &none, &found, values, vector, &n, support,
            work, &lwork, iwork, &liwork, &info, 1, 1, 1);
    *value = values[0];
    if (info != 0 || found != 1)
      status = sntk_fail(ctx, SNTK_ERR_NUMERICAL, "the lowest eigenvector did not converge (dsyevr: info %d, order %d)",
                         info, n);
    if (status == SNTK_OK) status = sntk_check_interrupt(ctx);
  }
  free(values);
  free(work);
  free(iwork);
  return status;
}
