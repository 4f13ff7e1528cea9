/**
 * @file data.h
 * @brief Training data: generators, loaders, targets and normalizations.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_DATA_H
#define SOFTNTK_DATA_H

#include <stdbool.h>
#include <stdint.h>

#include "softntk/context.h"
#include "softntk/network.h"
#include "softntk/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum sntk_data_source {
  SNTK_DATA_SPHERE = 0, /**< rows uniform on the unit sphere */
  SNTK_DATA_GAUSSIAN,   /**< rows N(0, I / dim) */
  SNTK_DATA_CLUSTERS,   /**< centres uniform on the sphere; rows centre + spread N(0, I / dim); row i in cluster i %
                           clusters */
  SNTK_DATA_NPY,
  SNTK_DATA_CSV,
  SNTK_DATA_HDF5,
  SNTK_DATA_IDX
} sntk_data_source;

typedef enum sntk_targets {
  SNTK_TARGETS_RANDOM = 0, /**< uniform in [-1, 1]^p / sqrt p; held-out ones too, which nothing can predict */
  SNTK_TARGETS_TEACHER,  /**< outputs of an iid network of the same activation, divided by max_i |y_i| over the samples
                            where that is above 1 */
  SNTK_TARGETS_HARMONIC, /**< zonal harmonics of random directions: P_k(<x/|x|, v_l>) / sqrt p, P_k Gegenbauer with
                            P_k(1) = 1 */
  SNTK_TARGETS_VALUES,   /**< the labels as they are: n x p reals */
  SNTK_TARGETS_CLASSES   /**< one-hot minus 1/p: integer labels, those of the samples being the classes (a held-out
                            row of another one is an error), or the cluster of each row */
} sntk_targets;

/** @brief A map that is taken from the samples alone and applied to every row, held-out ones too. */
typedef enum sntk_normalize {
  SNTK_NORMALIZE_NONE = 0,
  SNTK_NORMALIZE_UNIT_BALL,   /**< all rows divided by max_i |x_i| over the samples; no centring. Held-out rows may lie
                                 outside the ball */
  SNTK_NORMALIZE_UNIT_SPHERE, /**< each row divided by its own norm; a zero row is an error */
  SNTK_NORMALIZE_STANDARDIZE  /**< the samples' columns have mean 0, population deviation 1; columns constant over the
                                 samples become 0 in every row */
} sntk_normalize;

/** @brief What to make or load. Fields that a source or target does not use are ignored. */
typedef struct sntk_data_options {
  sntk_data_source source;
  sntk_targets targets;
  bool targets_given; /**< false: values where there are labels, else random */
  sntk_normalize normalize;
  uint64_t seed;
  int64_t samples;            /**< synthetic: rows; files: so many, from the top; 0: all but the held-out ones */
  int64_t dim;                /**< synthetic: columns; files: must match when above 0 */
  int64_t outputs;            /**< p; 0: what the labels say, else 1 */
  int64_t clusters;           /**< clusters: how many centres (classes: p) */
  double spread;              /**< clusters: deviation around a centre */
  sntk_activation activation; /**< teacher: its activation */
  double sigma;               /**< teacher: its weights' deviation */
  int64_t teacher_width;      /**< teacher: its neurons */
  int64_t harmonic_degree;    /**< harmonic: k >= 1 */
  const char *inputs;         /**< files: path; HDF5: "file.h5:/dataset" */
  const char *labels;         /**< files: path or NULL; same format as inputs */
  int header; /**< CSV: 1 yes, 0 no, -1 found by looking; an error where the first line could be either */
  const int64_t *label_columns; /**< files: columns of `inputs` that are labels; negative counts from the end */
  int64_t label_column_count;
  /** Held-out rows behind the samples, on which no bit of the samples and their targets depends. Synthetic: drawn after
   * the samples from the same streams (the same centres, teacher and directions; row i in cluster i % clusters still).
   * Files: the rows behind the samples, so where `samples` is 0 the last ones of the file. */
  int64_t test_samples;
  /** HDF5: may external links, raw storage and sources of virtual datasets lie outside the folder of the file? A file
   * that somebody else made could read any other with them. */
  bool allow_external;
} sntk_data_options;

#define SNTK_DATA_OPTIONS_INIT                                                                                         \
  {                                                                                                                    \
    SNTK_DATA_SPHERE, SNTK_TARGETS_RANDOM, false, SNTK_NORMALIZE_UNIT_BALL, 1, 0, 0, 0, 10, 0.3, SNTK_SOFTMAX, 1.0,    \
        16, 2, 0, 0, -1, 0, 0, 0, false                                                                                \
  }

/** @brief A data set in host memory, float64, row-major without gaps. */
typedef struct sntk_data {
  int64_t samples;      /**< n >= 1 */
  int64_t dim;          /**< d >= 1 */
  int64_t outputs;      /**< p >= 1 */
  int64_t test_samples; /**< held-out rows, >= 0 */
  double *inputs;       /**< (n + test_samples) x d, finite: the samples, then the held-out rows under the same map */
  double *targets;      /**< (n + test_samples) x p, finite */
} sntk_data;

/**
 * @brief Makes or loads a data set.
 * @param[in]  ctx  For the error text and the memory limit; no backend needed.
 * @param[out] data The data set; NULL on failure. Free with sntk_data_free().
 * @return SNTK_OK; SNTK_ERR_ARGUMENT; SNTK_ERR_IO; SNTK_ERR_DATA (malformed, truncated, ragged, not finite);
 *         SNTK_ERR_SHAPE; SNTK_ERR_MEMORY; SNTK_ERR_OVERFLOW (a teacher's output is not finite); SNTK_ERR_INTERRUPTED.
 * @note The same options give the same bits on every machine with IEEE arithmetic and the same libm.
 * @note An HDF5 file is read in a forked process, which a damaged one may crash; SIGCHLD is raised when it ends. Names
 * of other files in it are relative to its folder.
 */
SNTK_API sntk_status sntk_data_create(sntk_context *ctx, const sntk_data_options *options, sntk_data **data);

/** @brief Frees a data set; NULL is allowed. */
SNTK_API void sntk_data_free(sntk_data *data);

/** @brief An array read from a file: float64, row-major, at most two dimensions (a vector has cols 1). */
typedef struct sntk_array {
  int64_t rows, cols;
  double *values; /**< rows x cols */
} sntk_array;

/**
 * @brief Reads a NumPy .npy file: little-endian f4, f8, signed and unsigned integers, booleans; C or Fortran order; 1
 * or 2 dimensions (more are flattened behind the first).
 * @return SNTK_OK; SNTK_ERR_IO; SNTK_ERR_DATA; SNTK_ERR_MEMORY. Values may be any float; the caller checks for finite
 * ones.
 */
SNTK_API sntk_status sntk_npy_read(sntk_context *ctx, const char *path, sntk_array *array);

/** @brief Writes rows x cols float64 values as a version 1.0 .npy file. @return SNTK_OK; SNTK_ERR_SHAPE; SNTK_ERR_IO.
 */
SNTK_API sntk_status sntk_npy_write(sntk_context *ctx, const char *path, int64_t rows, int64_t cols,
                                    const double *values);

/** @brief Frees an array's values. */
SNTK_API void sntk_array_free(sntk_array *array);

#ifdef __cplusplus
}
#endif

#endif
