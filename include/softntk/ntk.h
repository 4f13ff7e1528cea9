/**
 * @file ntk.h
 * @brief The neural tangent kernel's Gram matrix H, its spectrum, and its limit at infinite width.
 *
 * H is scale-free: J J^T = q H (sntk_kernel_scale). H_(i,l),(j,l') = K_ij (U U^T)_(i,l),(j,l') with K = X X^T and
 * feature rows softmax sqrt(m) S_ir (A_lr - f_il), exp exp(Z_ir) A_lr / sqrt m, relu [Z_ir > 0] A_lr / sqrt m. Row
 * index i + n l: outputs are blocks.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_NTK_H
#define SOFTNTK_NTK_H

#include <stdint.h>

#include "softntk/context.h"
#include "softntk/network.h"
#include "softntk/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * @brief The Gram matrix at the network's current weights.
 * @param[in]  inputs n x d row-major, host, finite.
 * @param[out] gram   np x np, host, symmetric, float64.
 * @return SNTK_OK; SNTK_ERR_ARGUMENT (an input is not finite); SNTK_ERR_OVERFLOW; SNTK_ERR_MEMORY; SNTK_ERR_DEVICE;
 *         SNTK_ERR_INTERRUPTED.
 * @note Two walks over the width in slabs; memory O(np slab + (np)^2), independent of the width. Precision f32:
 * features in f32, products of a slab in f32, slabs added in f64; relative error in |H|_F a few C eps (see network.h).
 */
SNTK_API sntk_status sntk_ntk_gram(sntk_context *ctx, sntk_network *net, const double *inputs, int64_t samples,
                                   double *gram);

/**
 * @brief What rounding may have done to H: |H as computed - H|_2 <= this times |H|_2, and for each eigenvalue as much.
 * @param[in] network Options of the network, weights included where they are given: H is that at its weights at the
 *                    start. Its precision is that of the features; training follows its kernel in SNTK_F64.
 * @note 8 eps (1 + |x||w| + h), eps = 2^-24 or 2^-53, |x| the largest input and |w| the largest given weight vector or
 * sigma sqrt(d), h = 0 or, where float64 sums run over the width, sqrt(m) / 8. A feature's relative error is that of
 * its logit, at most C eps with C of network.h; its roundings have either sign, and this is their root mean square with
 * a factor for the tail in place of the worst case, as is the sum over neurons. Errors of H are then as a rule 3 to 80
 * times smaller. relu: of the slopes at the logits as computed; a neuron whose logit is zero to rounding may count
 * either way.
 */
SNTK_API double sntk_ntk_rounding(const sntk_context *ctx, const sntk_network_options *network, const double *inputs,
                                  int64_t samples);

/**
 * @brief Its trace over outputs: T_ij = sum_l H_(i,l),(j,l), at the cost of p matrices of n x n.
 * @param[out] trace n x n, host, symmetric.
 * @return As sntk_ntk_gram().
 */
SNTK_API sntk_status sntk_ntk_trace(sntk_context *ctx, sntk_network *net, const double *inputs, int64_t samples,
                                    double *trace);

/** @brief Its diagonal, np numbers. @return As sntk_ntk_gram(). */
SNTK_API sntk_status sntk_ntk_diagonal(sntk_context *ctx, sntk_network *net, const double *inputs, int64_t samples,
                                       double *values);

/** @brief A block of H: the samples of one range against those of another. */
typedef struct sntk_ntk_block {
  int64_t row, column;   /**< which ranges */
  int64_t first, other;  /**< their first samples */
  int64_t rows, columns; /**< their samples */
  const double *values;  /**< rows p x columns p; row a + rows l is sample first + a, output l; columns likewise */
} sntk_ntk_block;

/** @brief Takes a block, which is valid during the call. A status other than SNTK_OK ends the walk and is returned. */
typedef sntk_status (*sntk_ntk_block_fn)(void *user, const sntk_ntk_block *block);

/**
 * @brief Blocks of H, one at a time, for n too large for a matrix in memory: samples are cut into ranges of `size`.
 * @param[in] pairs 2 x count: the ranges of each block wanted; count 0: all on and below the diagonal.
 * @return As sntk_ntk_gram(); SNTK_ERR_ARGUMENT (no such range, size below 1); or what `take` returned.
 * @note One walk over the width for the statistics, then one a block. Memory O((2 size p)^2 + n (d + p)).
 */
SNTK_API sntk_status sntk_ntk_blocks(sntk_context *ctx, sntk_network *net, const double *inputs, int64_t samples,
                                     int64_t size, const int64_t *pairs, int64_t count, sntk_ntk_block_fn take,
                                     void *user);

/** @brief Most bytes that sntk_ntk_gram() has at one moment beyond network and result; -1 where it does not fit 63
 * bits.
 */
SNTK_API int64_t sntk_ntk_bytes(const sntk_context *ctx, const sntk_network_options *network, int64_t samples);

/**
 * @brief H at infinite width for Gaussian weights: block diagonal over outputs, K o kappa with kappa_ij = exp(sigma^2
 * K_ij) (softmax, exp_normalized), exp(sigma^2 |x_i + x_j|^2 / 2) (exp), (pi - arccos rho_ij) / (2 pi) (relu; 0 where a
 * row is zero).
 * @param[out] block  n x n, host: one output's block.
 * @return SNTK_OK; SNTK_ERR_MEMORY; SNTK_ERR_OVERFLOW if an entry is not finite.
 */
SNTK_API sntk_status sntk_ntk_infinite(sntk_context *ctx, sntk_activation activation, double sigma,
                                       const double *inputs, int64_t samples, int64_t dim, double *block);

/**
 * @brief Eigenvalues of a symmetric matrix, ascending.
 * @param[in]  matrix size x size, host, symmetric; not changed.
 * @param[out] values size.
 * @return SNTK_OK; SNTK_ERR_NUMERICAL if the solver does not converge; SNTK_ERR_SHAPE (too large for it);
 *         SNTK_ERR_MEMORY; SNTK_ERR_DEVICE.
 * @note Backward stable: absolute error of each about size eps |H|_2 with eps = 2^-53.
 */
SNTK_API sntk_status sntk_eigenvalues(sntk_context *ctx, const double *matrix, int64_t size, double *values);

/** @brief The two ends of a spectrum, and how well they are known. */
typedef struct sntk_extremes {
  double min, max;
  double min_error, max_error; /**< each lies within this of an eigenvalue: residual norm, and rounding */
  int64_t iterations;          /**< of Lanczos: products and solves, both ends together; 0 below order 32 */
} sntk_extremes;

/**
 * @brief Smallest and largest eigenvalue of a symmetric positive semidefinite matrix, by Lanczos (ARPACK): the largest
 * with the matrix itself, the smallest with its inverse through a Cholesky factor. For orders at which all eigenvalues
 * take too long: n^3 / 3 operations beside the products.
 * @param[in] matrix size x size, host, symmetric; not changed.
 * @return SNTK_OK; SNTK_ERR_NUMERICAL (not converged, not finite); SNTK_ERR_SHAPE; SNTK_ERR_MEMORY;
 *         SNTK_ERR_INTERRUPTED.
 * @note Memory: a copy of the matrix, and Krylov vectors. On the host, whatever the backend, with the threads that
 * OpenBLAS has (the cpu backend's; else OMP_NUM_THREADS). Bits repeat with the matrix and those threads. A matrix that
 * is not positive definite, by rounding or more, is allowed: min then is as it is. Errors are as a rule a small
 * multiple of sqrt(size) eps |H|_2, eps = 2^-53, and larger where an end is so crowded that the iteration does not tell
 * its eigenvalues apart. The start vector is random and fixed: an end would be missed if its eigenvectors were
 * orthogonal to it.
 * @note ARPACK keeps its state in static variables: calls from several threads wait for each other, for the whole
 * solve, and a program that uses ARPACK itself must not do so meanwhile.
 */
SNTK_API sntk_status sntk_extreme_eigenvalues(sntk_context *ctx, const double *matrix, int64_t size,
                                              sntk_extremes *extremes);

#ifdef __cplusplus
}
#endif

#endif
