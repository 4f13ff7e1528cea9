/**
 * @file status.h
 * @brief What every function of the library returns.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_STATUS_H
#define SOFTNTK_STATUS_H

#if defined(__GNUC__)
#define SNTK_API __attribute__((visibility("default")))
#else
#define SNTK_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/** @brief Result of a call. The text of the last failure is sntk_context_error(). */
typedef enum sntk_status {
  SNTK_OK = 0,
  SNTK_ERR_ARGUMENT,    /**< a parameter is outside its documented domain */
  SNTK_ERR_CONFIG,      /**< a configuration file or --set is wrong */
  SNTK_ERR_DATA,        /**< a data file is malformed, truncated or not finite */
  SNTK_ERR_SHAPE,       /**< shapes that do not fit together, or sizes that overflow */
  SNTK_ERR_IO,          /**< a file cannot be opened, read or written */
  SNTK_ERR_EXISTS,      /**< a run is already there, or is being written by another process */
  SNTK_ERR_BACKEND,     /**< the backend is not built in, or lacks the operation */
  SNTK_ERR_DEVICE,      /**< the device is absent or a call to it failed */
  SNTK_ERR_MEMORY,      /**< not enough memory, or above the limit */
  SNTK_ERR_OVERFLOW,    /**< a logit, output or weight is not finite */
  SNTK_ERR_DIVERGED,    /**< the loss grew past its bound */
  SNTK_ERR_NUMERICAL,   /**< an eigenvalue solver or another iteration failed */
  SNTK_ERR_INTERRUPTED, /**< the interrupt flag was raised; what was finished is kept */
  SNTK_ERR_INTERNAL     /**< a defect of the library */
} sntk_status;

/** @brief Short lower-case name of a status, for messages. Never NULL. */
SNTK_API const char *sntk_status_name(sntk_status status);

/**
 * @brief Exit code of the program for a status.
 *
 * 0 done; 1 internal error; 2 bad usage, configuration or data; 3 backend or device not available; 4 not enough memory;
 * 5 numerical failure; 75 interrupted, resumable.
 */
SNTK_API int sntk_status_exit_code(sntk_status status);

#ifdef __cplusplus
}
#endif

#endif
