/**
 * @file width.h
 * @brief How wide must a network be? The smallest sufficient width, and power laws fitted to it.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_WIDTH_H
#define SOFTNTK_WIDTH_H

#include <stdbool.h>
#include <stdint.h>

#include "softntk/context.h"
#include "softntk/network.h"
#include "softntk/status.h"
#include "softntk/train.h"

#ifdef __cplusplus
extern "C" {
#endif

/** @brief What training at one width showed. */
typedef struct sntk_width_trial {
  int64_t width;
  sntk_form form;     /**< in use at the end */
  sntk_status status; /**< SNTK_OK, or why the run failed (overflow, divergence): such a width does not suffice */
  bool converged;     /**< reached loss <= tolerance within the step budget */
  bool kernel_kept;   /**< lambda_min(H(T)) >= ratio * lambda, with lambda above its resolution */
  int64_t steps;      /**< T */
  double loss, eta;
  double lambda;       /**< lambda_min(H) at W0 */
  double lambda_max;   /**< of H at W0 */
  double lambda_final; /**< lambda_min(H(T)) */
  double eta_q_lambda; /**< eta q lambda: step size times the slowest rate, so that T can be compared */
  double weight_movement, kernel_drift;
  bool below_resolution; /**< as in sntk_train_result */
  double seconds;
} sntk_width_trial;

/**
 * @brief Trains one network of the given options with `width` neurons and fills a trial.
 * @param[in] network Options; its width is replaced.
 * @param[in] ratio   Share of lambda that must be kept, in (0, 1].
 * @return SNTK_OK also where training overflowed or diverged (trial->status says so); SNTK_ERR_MEMORY;
 * SNTK_ERR_INTERRUPTED; ...
 */
SNTK_API sntk_status sntk_width_try(sntk_context *ctx, const sntk_network_options *network, int64_t width,
                                    const double *inputs, const double *targets, int64_t samples,
                                    const sntk_train_options *train, double ratio, sntk_width_trial *trial);

typedef struct sntk_width_options {
  int64_t min_width; /**< first width tried, >= 1 */
  int64_t max_width; /**< last width tried */
  double resolution; /**< bisection stops when high / low <= 1 + resolution; 0: at adjacent widths */
  int64_t multiple;  /**< widths are multiples of this: 2 with symmetric initialization */
} sntk_width_options;

#define SNTK_WIDTH_OPTIONS_INIT                                                                                        \
  { 2, 65536, 0.0, 2 }

/** @brief Says whether a width suffices; called once per width by a search. */
typedef sntk_status (*sntk_width_test_fn)(void *user, int64_t width, bool *suffices);

/**
 * @brief Smallest sufficient width: doubling from min_width until one suffices, then bisection down to the last that
 * did not.
 * @param[out] width Smallest width found to suffice; 0 where none up to max_width does.
 * @return SNTK_OK; SNTK_ERR_ARGUMENT; or what test returned.
 * @note Where sufficiency is not monotone in the width, the result is a width that suffices next to one that does not.
 */
SNTK_API sntk_status sntk_width_search(sntk_context *ctx, const sntk_width_options *options, sntk_width_test_fn test,
                                       void *user, int64_t *width);

/** @brief A fitted power law y = factor x^exponent. */
typedef struct sntk_power_fit {
  int64_t points; /**< pairs used */
  double exponent, factor;
  double low, high; /**< 95% bootstrap interval of the exponent; NaN with fewer than two seeds */
  double r_squared;
} sntk_power_fit;

/**
 * @brief Least squares of log y on log x, with a percentile bootstrap that resamples whole groups (seeds).
 * @param[in] x, y  count positive values.
 * @param[in] group Group of each pair, in [0, groups): pairs of a group are drawn together.
 * @param[in] seed  Of the resampling; the same seed gives the same interval.
 * @return SNTK_OK; SNTK_ERR_ARGUMENT with fewer than two distinct x, or values that are not positive; SNTK_ERR_MEMORY.
 */
SNTK_API sntk_status sntk_power_law(sntk_context *ctx, const double *x, const double *y, const int64_t *group,
                                    int64_t count, int64_t groups, uint64_t seed, sntk_power_fit *fit);

#ifdef __cplusplus
}
#endif

#endif
