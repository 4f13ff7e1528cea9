/**
 * @file perturb.h
 * @brief How far the kernel moves when every neuron moves by at most R: the perturbation property.
 *
 * arXiv 2405.03251 proves for softmax: for all W~ with |w~_r - w_r| <= R, R in (0, 0.01), |H(W~) - H(W)|_F <= R np
 * exp(10 B) with probability 1 - delta, B = max(C sigma sqrt(log(np / delta)), 1), a B that bounds every |x_i . w_r|.
 * The C for which it does so is left open; the B of a run can be taken from its logits. Measured here for three kinds
 * of direction, for every activation. H(W~) - H(W) is taken from the features' change, without cancellation (on the ref
 * backend as a difference of float64 matrices).
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_PERTURB_H
#define SOFTNTK_PERTURB_H

#include <stdbool.h>
#include <stdint.h>

#include "softntk/context.h"
#include "softntk/network.h"
#include "softntk/status.h"
#include "softntk/train.h"

#ifdef __cplusplus
extern "C" {
#endif

/** @brief The most that a move may add to a logit: R |x_i| for the longest input. */
#define SNTK_PERTURB_LOGIT_MOST 50.0

/** @brief What an adversary is after. */
typedef enum sntk_goal {
  SNTK_GOAL_CHANGE = 0, /**< a large |H(W~) - H(W)|_F */
  SNTK_GOAL_LAMBDA_MIN  /**< a small lambda_min(H(W~)): for the convex region */
} sntk_goal;

/** @brief What moving by radius R did to the kernel. */
typedef struct sntk_perturbation {
  double radius;       /**< R = max_r |w~_r - w_r|_2 */
  double change;       /**< |H(W~) - H(W)|_F */
  double ratio;        /**< change / (R n p) */
  double relative;     /**< change / |H(W)|_F */
  double lambda_min;   /**< of H(W~) */
  double lambda_share; /**< lambda_min(H(W~)) / lambda_min(H(W)); NaN where H(W) is singular to rounding */
} sntk_perturbation;

/** @brief A network at W0, its kernel, and a direction to move in. */
typedef struct sntk_perturb sntk_perturb;

/**
 * @brief Draws the network and takes H(W0).
 * @param[in] network Options; `streamed` and `form` are not looked at, weights may be given.
 * @param[in] inputs  n x d row-major, host, finite; copied.
 * @return SNTK_OK; as sntk_network_create() and sntk_ntk_gram(). *perturb is NULL on failure.
 */
SNTK_API sntk_status sntk_perturb_create(sntk_context *ctx, const sntk_network_options *network, const double *inputs,
                                         int64_t samples, sntk_perturb **perturb);

/** @brief Frees it; NULL is allowed. It must be freed before ctx. */
SNTK_API void sntk_perturb_free(sntk_perturb *perturb);

/** @brief lambda_min, lambda_max and Frobenius norm of H(W0). */
SNTK_API void sntk_perturb_kernel(const sntk_perturb *perturb, double *lambda_min, double *lambda_max, double *norm);

/** @brief Makes the random direction the current one: uniform on the sphere, every neuron moves by exactly R; seeded by
 * the network's seed. @return SNTK_OK; SNTK_ERR_MEMORY; SNTK_ERR_INTERRUPTED. */
SNTK_API sntk_status sntk_perturb_random(sntk_context *ctx, sntk_perturb *perturb);

/**
 * @brief Trains a copy of the network and makes its displacement W(T) - W0 the current direction, scaled so that the
 * neuron that moves most moves R.
 * @param[in]  targets n x p, host, finite.
 * @param[out] moved   max_r |w_r(T) - w_r(0)|_2: the radius that training itself took.
 * @return As sntk_train(); SNTK_ERR_NUMERICAL where no neuron moved.
 */
SNTK_API sntk_status sntk_perturb_training(sntk_context *ctx, sntk_perturb *perturb, const double *targets,
                                           const sntk_train_options *train, double *moved);

/**
 * @brief Ascends the goal at W0 + D over |d_r| <= radius and makes the D found the current direction.
 * @param[in]  steps   Gradient steps, each as long as the radius; one that does not serve the goal is halved.
 * @param[out] ascents Steps that served it.
 * @return SNTK_OK; SNTK_ERR_ARGUMENT (steps below 1, radius not positive or too large); SNTK_ERR_OVERFLOW;
 *         SNTK_ERR_NUMERICAL; SNTK_ERR_MEMORY; SNTK_ERR_INTERRUPTED; SNTK_ERR_DEVICE.
 * @note The starting point is the current direction at that radius. Where lambda_min is a multiple eigenvalue its
 * gradient is that of one of the eigenvectors.
 */
SNTK_API sntk_status sntk_perturb_adversarial(sntk_context *ctx, sntk_perturb *perturb, sntk_goal goal, double radius,
                                              int64_t steps, int64_t *ascents);

/** @brief Moves along the current direction by `radius` > 0, radius |x_i| at most SNTK_PERTURB_LOGIT_MOST, and
 * measures. */
SNTK_API sntk_status sntk_perturb_measure(sntk_context *ctx, sntk_perturb *perturb, double radius,
                                          sntk_perturbation *result);

/**
 * @brief The largest |x_i . w_r| over samples and neurons, at W0 and at the weights evaluated last (by a measurement,
 * an ascent or a gradient): the smallest B that bounds the logits of the run, which the paper's proof asks of B.
 * @return SNTK_OK; SNTK_ERR_MEMORY; SNTK_ERR_INTERRUPTED; SNTK_ERR_DEVICE.
 */
SNTK_API sntk_status sntk_perturb_logit(sntk_context *ctx, sntk_perturb *perturb, double *largest);

/** @brief The paper's bound R n p exp(10 b) on |H(W~) - H(W)|_F, b >= 1 a bound on every |x_i . w_r|: proved for
 * softmax and R < 0.01; a yardstick elsewhere. Infinite where it overflows. */
SNTK_API double sntk_perturb_bound(double radius, int64_t samples, int64_t outputs, double b);

/** @brief The current direction of neurons [first, first + count): dim x count row-major, largest norm 1.
 * @return SNTK_OK; SNTK_ERR_ARGUMENT (no such neurons). */
SNTK_API sntk_status sntk_perturb_direction(sntk_context *ctx, const sntk_perturb *perturb, int64_t first,
                                            int64_t count, double *direction);

/**
 * @brief Gradient of the goal with respect to the weights at W0 + radius D, D the current direction: of 1/2 |H(W0 +
 * radius D) - H(W0)|_F^2, or of -lambda_min(H(W0 + radius D)). relu's kernel is piecewise constant and has no gradient:
 * for it that of steps smeared over |z_ir| < radius |x_i|, the neurons that a move can carry across.
 * @param[out] gradient dim x width, host.
 * @return As sntk_perturb_adversarial().
 */
SNTK_API sntk_status sntk_perturb_gradient(sntk_context *ctx, sntk_perturb *perturb, sntk_goal goal, double radius,
                                           double *gradient);

/** @brief Most bytes that a perturbation has at one moment, in random and adversarial directions; -1 where they do not
 * fit 63 bits. A direction that training gives takes the trained network and sntk_train_bytes() too. */
SNTK_API int64_t sntk_perturb_bytes(const sntk_context *ctx, const sntk_network_options *network, int64_t samples);

#ifdef __cplusplus
}
#endif

#endif
