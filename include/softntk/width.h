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

/** @brief What a value in a fit stands for. */
typedef enum sntk_censoring {
  SNTK_CENSORED_ABOVE = -1, /**< the truth is at most y: it was not looked for below */
  SNTK_CENSORED_NOT = 0,    /**< y itself */
  SNTK_CENSORED_BELOW = 1   /**< the truth is more than y: nothing up to y sufficed */
} sntk_censoring;

/** @brief How an exponent and its interval were found. */
typedef enum sntk_power_method {
  SNTK_POWER_SLOPES = 0, /**< mean of the seeds' own least-squares slopes */
  SNTK_POWER_LIKELIHOOD  /**< maximum likelihood with censored values, jackknife over the seeds */
} sntk_power_method;

/** @brief A fitted power law y = factor x^exponent. */
typedef struct sntk_power_fit {
  int64_t points;           /**< pairs given, censored ones among them */
  int64_t censored;         /**< of which y is a bound */
  int64_t seeds;            /**< groups that determine an exponent: the interval has seeds - 1 degrees of freedom */
  sntk_power_method method; /**< LIKELIHOOD where a value is censored */
  double exponent, factor;
  double low, high; /**< 95% Student t interval about the exponent; NaN with fewer than two seeds */
  double r_squared; /**< of the law; NaN where a value is censored */
} sntk_power_fit;

/**
 * @brief The exponent of a power law, with its interval over groups (seeds).
 *
 * Without censored values: the mean of the groups' own least-squares slopes of log y on log x, and mean +- t s / sqrt k
 * with Student's t of k - 1 degrees of freedom and the slopes' standard deviation s. Points of one group are not
 * independent (one seed, one set of data); slopes of different groups are, however much their offsets, exponents and
 * numbers of points differ, and t intervals of independent normal estimates of unequal variance hold at least their
 * level. A group without two distinct x has no slope and is left out.
 *
 * With censored values: leaving them out would bend the exponent towards 0, since it is the large values that are
 * missing. Instead log y = offset of its group + exponent log x + normal noise, by maximum likelihood (Tobit), where
 * a censored value contributes the probability of lying beyond its bound. Offsets of groups cancel; a group whose
 * values are all censored tells nothing. The interval is the jackknife's: the pseudo-values k fit - (k - 1) fit
 * without group g take the place of the slopes, and equal them where nothing is censored and all groups have the same
 * x. That the exponents of the groups differ is not in the likelihood, only in the interval.
 *
 * @param[in]  x, y      count positive values.
 * @param[in]  censored  What each y stands for; NULL: nothing is censored.
 * @param[in]  group     Group of each pair, in [0, groups).
 * @param[out] exponents Each group's slope or pseudo-value, NaN where it has none; NULL: not wanted.
 * @return SNTK_OK; SNTK_ERR_ARGUMENT where no group has two distinct x with values that are not censored, or values are
 *         not positive; SNTK_ERR_MEMORY.
 * @note Deterministic: nothing is resampled.
 */
SNTK_API sntk_status sntk_power_law(sntk_context *ctx, const double *x, const double *y, const sntk_censoring *censored,
                                    const int64_t *group, int64_t count, int64_t groups, double *exponents,
                                    sntk_power_fit *fit);

/** @brief A mean with its interval. */
typedef struct sntk_interval {
  int64_t count;          /**< values that are not NaN */
  double mean, low, high; /**< 95%; the ends NaN with fewer than two values, the mean with none */
} sntk_interval;

/** @brief Student's t interval of the mean of independent values; NaN values are left out. */
SNTK_API sntk_interval sntk_mean_interval(const double *values, int64_t count);

/**
 * @brief The quantile of Student's t distribution.
 * @param[in] p       Probability in (0, 1); NaN outside. Accurate to 1e-9 (relative) for p in [1e-6, 1 - 1e-6].
 * @param[in] freedom Degrees of freedom, >= 1; NaN below.
 */
SNTK_API double sntk_student_quantile(double p, int64_t freedom);

#ifdef __cplusplus
}
#endif

#endif
