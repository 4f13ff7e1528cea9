/**
 * @file network.h
 * @brief Two-layer networks with fixed signs: softmax, ReLU and exponential.
 *
 * X: n x d inputs, W: d x m weights (trained), A: p x m signs, Z = X W.
 * - softmax: S_ir = exp(Z_ir) / sum_q exp(Z_iq), f_il = sum_r A_lr S_ir
 * - exp:     f_il = sum_r A_lr exp(Z_ir)
 * - relu:    f_il = sum_r A_lr max(Z_ir, 0)
 * - exp_normalized: f_il = exp(-sigma^2 |x_i|^2 / 2) sum_r A_lr exp(Z_ir), softmax whose normalizer stays at the
 *   expectation that it has at initialization, m exp(sigma^2 |x_i|^2 / 2), without the m
 *
 * F = s f. Scale `paper`: s = m (softmax), 1 (exp, exp_normalized), 1/sqrt m (relu). Scale `ntk`: s = sqrt m (softmax),
 * 1/sqrt m (the others), in which J J^T stays O(1) for all.
 *
 * @see arXiv 2405.03251 (softmax), arXiv 2303.16504 (exp), Munteanu et al., ICML 2022 (relu, symmetric initialization).
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_NETWORK_H
#define SOFTNTK_NETWORK_H

#include <stdbool.h>
#include <stdint.h>

#include "softntk/context.h"
#include "softntk/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum sntk_activation {
  SNTK_SOFTMAX = 0,
  SNTK_RELU,
  SNTK_EXP,
  SNTK_EXP_NORMALIZED /**< softmax with its normalizer frozen at initialization: exp(Z_ir) / (m E exp(x_i . w)) */
} sntk_activation;
typedef enum sntk_scale { SNTK_SCALE_NTK = 0, SNTK_SCALE_PAPER } sntk_scale;

/** @brief How W0 and A are drawn: w ~ N(0, sigma^2 I), signs uniform. */
typedef enum sntk_init {
  SNTK_INIT_SYMMETRIC = 0, /**< neurons 2q, 2q+1 share w, with opposite signs: F(W0) = 0; m even */
  SNTK_INIT_IID            /**< all independent */
} sntk_init;

/** @brief How the weights are kept while they are trained. */
typedef enum sntk_form {
  SNTK_FORM_AUTO = 0,    /**< displacement in f32, plain in f64 and on the ref backend */
  SNTK_FORM_PLAIN,       /**< W itself */
  SNTK_FORM_DISPLACEMENT /**< W0 + D, only D trained: keeps float32 right where weights hardly move */
} sntk_form;

typedef struct sntk_network_options {
  sntk_activation activation;
  int64_t width;   /**< m >= 1; even with symmetric initialization */
  int64_t dim;     /**< d >= 1 */
  int64_t outputs; /**< p >= 1 */
  double sigma;    /**< deviation of the weights, > 0 */
  sntk_scale scale;
  sntk_init init;
  sntk_form form;
  sntk_precision precision;
  uint64_t seed;
  const double *weights; /**< d x m row-major, or NULL: random. With weights, init is ignored and signs must be given:
                            drawn ones would make another network. Copied. */
  const double *signs;   /**< p x m of +1 and -1, or NULL: random. Copied. With signs, symmetric initialization needs
                            weights too. */
  bool streamed; /**< true: weights are made anew for each slab and never stored; such a network cannot be trained */
  const double *displacement; /**< d x m, or NULL: none. What the weights have moved from W0, drawn or given, needs the
                                 displacement form; a W0 that is given in f32 must be float32 numbers. Movement counts
                                 from W0. Copied. */
} sntk_network_options;

#define SNTK_NETWORK_OPTIONS_INIT                                                                                      \
  { SNTK_SOFTMAX, 0, 0, 1, 1.0, SNTK_SCALE_NTK, SNTK_INIT_SYMMETRIC, SNTK_FORM_AUTO, SNTK_F32, 1, 0, 0, false, 0 }

typedef struct sntk_network sntk_network;

/**
 * @brief Creates a network on the context's backend.
 * @param[out] net The network; NULL on failure. It must be freed before ctx.
 * @return SNTK_OK; SNTK_ERR_SHAPE (a stored width above 2^31 - 1); SNTK_ERR_DEVICE; SNTK_ERR_ARGUMENT (odd width with
 * symmetric initialization, signs other than +-1, ...); SNTK_ERR_BACKEND (displacement form on ref); SNTK_ERR_MEMORY.
 */
SNTK_API sntk_status sntk_network_create(sntk_context *ctx, const sntk_network_options *options, sntk_network **net);

/** @brief Frees a network; NULL is allowed. */
SNTK_API void sntk_network_free(sntk_network *net);

/** @brief Bytes of host or device memory that sntk_network_create() will take; -1 where it does not fit 63 bits. */
SNTK_API int64_t sntk_network_bytes(const sntk_context *ctx, const sntk_network_options *options);

/** @brief The form in use now (never AUTO). */
SNTK_API sntk_form sntk_network_form(const sntk_network *net);

/** @brief The options it was created with, precision and form resolved; weights and signs NULL. */
SNTK_API const sntk_network_options *sntk_network_get_options(const sntk_network *net);

/** @brief s of F = s f. */
SNTK_API double sntk_output_scale(sntk_activation activation, sntk_scale scale, int64_t width);

/** @brief q of J J^T = q H: s^2/m (softmax), s^2 m (the others). */
SNTK_API double sntk_kernel_scale(sntk_activation activation, sntk_scale scale, int64_t width);

/**
 * @brief F = s f(X), n x p.
 * @param[in]  inputs  n x d row-major, host, finite.
 * @param[out] outputs n x p row-major, host; may not alias inputs.
 * @return SNTK_OK; SNTK_ERR_ARGUMENT (an input is not finite); SNTK_ERR_DEVICE; SNTK_ERR_OVERFLOW if a logit or output
 * is not finite; SNTK_ERR_MEMORY; SNTK_ERR_INTERRUPTED.
 * @note Never stores n x m. Fixed reduction order. f32: absolute error of f at most C eps (1 + |f|) with eps = 2^-24
 * and C = d |x||w| + 1.5 max|z - max z| + h + 4, h the longest f32 addition chain (a slab of neurons).
 */
SNTK_API sntk_status sntk_network_forward(sntk_context *ctx, sntk_network *net, const double *inputs, int64_t samples,
                                          double *outputs);

/** @brief Copies weights of neurons [first, first + count), dim x count row-major float64. @return SNTK_OK;
 * SNTK_ERR_ARGUMENT; SNTK_ERR_MEMORY. */
SNTK_API sntk_status sntk_network_weights(sntk_context *ctx, sntk_network *net, int64_t first, int64_t count,
                                          double *weights);

/**
 * @brief Copies base and displacement of neurons [first, first + count), dim x count row-major float64 each, of a
 * network in displacement form, whose weights are their sum; NULL where not wanted.
 * @return SNTK_OK; SNTK_ERR_ARGUMENT (plain form); SNTK_ERR_MEMORY.
 * @note A network of the same options with this displacement (and, unless sntk_network_base_drawn, this base as its
 * weights, with its signs) has the same F to the bit on the same backend with as many threads. The sum alone restores F
 * to the form's accuracy: float32 keeps what it leaves of a weight as a displacement.
 */
SNTK_API sntk_status sntk_network_parts(sntk_context *ctx, sntk_network *net, int64_t first, int64_t count,
                                        double *base, double *displacement);

/** @brief Is the base of a displacement form the one that the seed draws? False for plain form and for NULL. */
SNTK_API bool sntk_network_base_drawn(const sntk_network *net);

/** @brief Copies signs of neurons [first, first + count), outputs x count row-major. @return as sntk_network_weights().
 */
SNTK_API sntk_status sntk_network_signs(sntk_context *ctx, sntk_network *net, int64_t first, int64_t count,
                                        int8_t *signs);

#ifdef __cplusplus
}
#endif

#endif
