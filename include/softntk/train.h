/**
 * @file train.h
 * @brief Full-batch gradient descent on L(W) = 1/2 |F - Y|_F^2.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_TRAIN_H
#define SOFTNTK_TRAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "softntk/context.h"
#include "softntk/network.h"
#include "softntk/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum sntk_eta_rule {
  SNTK_ETA_AUTO =
      0, /**< 1 / lambda_max(J J^T at W0), by Lanczos through J v and J^T u; the linearized limit is 2 / lambda_max */
  SNTK_ETA_THEORY, /**< eta q = 0.1 lambda / ((np)^2 exp(16 B)), B = max(C sigma sqrt(log(np / delta)), 1); relu: B = 0
                    */
  SNTK_ETA_VALUE
} sntk_eta_rule;

typedef struct sntk_train_options {
  int64_t steps; /**< budget, >= 0 */
  sntk_eta_rule eta_rule;
  double eta;           /**< for SNTK_ETA_VALUE, > 0 */
  double tolerance;     /**< absolute, on L; 0: run every step */
  double theory_c;      /**< C of B */
  double theory_delta;  /**< delta of B, in (0, 1) */
  int64_t record_every; /**< a history row each so many steps (the first and the last always); 0: first and last only */
  int64_t kernel_every; /**< kernel_drift and lambda_min at each so many steps (and at the last); 0: never */
  double divergence;    /**< stop when L > divergence * max(L(0), 1); INFINITY: never, and growth is no failure */
  int64_t profile_start; /**< first step bracketed for the device's profiler (cuda backend) */
  int64_t profile_count; /**< steps bracketed; 0: none */
  bool linearized; /**< the linearized run u(t+1) = u(t) - eta q H(0) (u(t) - y) beside the true one, and the same with
                      H at infinite width */
  const double *test_inputs;  /**< held-out inputs, test_samples x d, host; NULL: none */
  const double *test_targets; /**< test_samples x p */
  int64_t test_samples;
} sntk_train_options;

#define SNTK_TRAIN_OPTIONS_INIT                                                                                        \
  { 1000, SNTK_ETA_AUTO, 0.0, 1.0e-4, 1.0, 0.1, 1, 0, 1.0e6, 0, 0, false, 0, 0, 0 }

/** @brief One row of a training history; NaN where not asked for. */
typedef struct sntk_history_row {
  int64_t step;
  double loss;            /**< L */
  double weight_movement; /**< max_r |w_r(t) - w_r(0)|_2 */
  double kernel_drift;    /**< |H(t) - H(0)|_F / |H(0)|_F: in displacement form without cancellation, in plain form a
                             difference of float64 matrices, which sees 2^-53 */
  double lambda_min;      /**< smallest eigenvalue of the scale-free H(t) */
  double loss_bound;      /**< (1 - eta q lambda / 2)^(2t) L(0), lambda = lambda_min at W0 */
  double loss_linearized; /**< L of the linearized run */
  double loss_infinite;   /**< L of the run with the kernel of infinite width */
  double test_loss;       /**< 1/2 |F - Y|_F^2 on the held-out samples */
} sntk_history_row;

/** @brief A prediction beside the network's: the linearized run's, or that with the kernel of infinite width. NaN where
 * not asked for. */
typedef struct sntk_prediction {
  double loss;          /**< L at the end */
  double distance;      /**< largest |u(t) - F(t)|_F / |Y|_F of the recorded steps, on the samples */
  double test_loss;     /**< 1/2 |u - Y|_F^2 on the held-out samples at the end */
  double test_distance; /**< |u - F|_F / |Y|_F on the held-out samples at the end */
} sntk_prediction;

typedef struct sntk_train_result {
  int64_t steps;  /**< updates done when L <= tolerance first held, or at the stop */
  bool converged; /**< L <= tolerance held */
  double loss;    /**< L at the end */
  double loss_initial;
  double eta;           /**< as used */
  double jj_lambda_max; /**< lambda_max(J J^T at W0); NaN unless eta auto computed it */
  double lambda_min;    /**< of H at W0; NaN unless asked for (kernel_every, eta theory) */
  double lambda_max;
  double lambda_min_final; /**< of H at the end; NaN unless kernel_every */
  double kernel_drift;     /**< at the end; NaN unless kernel_every */
  double weight_movement;  /**< at the end */
  bool rate_kept; /**< L(t) <= loss_bound at every recorded step: the theorem's linear rate; false where lambda is not
                     known */
  bool rate_kept_paper;       /**< the same with the exponent t in place of 2t, as arXiv 2405.03251 states it */
  double test_loss;           /**< at the end; NaN without held-out samples */
  sntk_prediction linearized; /**< H at W0: kernel regression with H(0), stopped at the same step */
  sntk_prediction infinite;   /**< H at infinite width; NaN unless W0 is Gaussian and that kernel is finite */
  double update_lost; /**< largest |rounded update - update|_F / |update|_F of a step: what the stored weights could not
                         take up */
  bool below_resolution; /**< update_lost > SNTK_UPDATE_LOST_LIMIT: the precision or form is too coarse for this run */
  int64_t base_moves;    /**< displacement form: times that the base moved */
  sntk_form form;        /**< form at the end */
  double seconds;        /**< wall time of the steps */
  double setup_seconds;  /**< wall time of eta and the kernel at W0 */
  int64_t history_rows;
  sntk_history_row *history;
  double *outputs;      /**< F at the end, n x p */
  double *test_outputs; /**< F on the held-out inputs at the end, test_samples x p; NULL without */
} sntk_train_result;

/** @brief A tenth: beyond it a run's updates count as lost to rounding. */
#define SNTK_UPDATE_LOST_LIMIT 0.1

/**
 * @brief Trains a network by full-batch gradient descent, W <- W - eta dL/dW.
 * @param[in,out] net     Stored network; its weights are those at the end.
 * @param[in]     inputs  n x d row-major, host, finite.
 * @param[in]     targets n x p row-major, host, finite.
 * @param[out]    result  Always set, as far as the run came; free with sntk_train_result_clear().
 * @return SNTK_OK (converged or not); SNTK_ERR_ARGUMENT; SNTK_ERR_SHAPE; SNTK_ERR_BACKEND (profiling where there is no
 * profiler); SNTK_ERR_DEVICE; SNTK_ERR_OVERFLOW (a loss, residual or weight is not finite, at the step it appears);
 * SNTK_ERR_DIVERGED (the loss passed `divergence`, or
 * ended above L(0) by more than rounding); SNTK_ERR_MEMORY;
 * SNTK_ERR_NUMERICAL (no eta; an eigenvalue solver); SNTK_ERR_INTERRUPTED.
 * @note Same seed, backend, threads: same bits. Not reaching the tolerance is no error. The linearized runs may grow
 * without bound while the network's does not: their figures then are infinite or NaN, and the run goes on.
 */
SNTK_API sntk_status sntk_train(sntk_context *ctx, sntk_network *net, const double *inputs, const double *targets,
                                int64_t samples, const sntk_train_options *options, sntk_train_result *result);

/** @brief Frees a result's arrays. */
SNTK_API void sntk_train_result_clear(sntk_train_result *result);

/** @brief Most bytes that training has at one moment beyond the network, its inputs and its targets; -1 where it does
 * not fit 63 bits. A base that moves takes a paired network's size once more for a moment, which is not counted: most
 * runs never move it. */
SNTK_API int64_t sntk_train_bytes(const sntk_context *ctx, const sntk_network_options *network, int64_t samples,
                                  const sntk_train_options *options);

#ifdef __cplusplus
}
#endif

#endif
