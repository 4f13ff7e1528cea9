/**
 * @file run.h
 * @brief What a run leaves in its directory: run.json, points.jsonl (or points.<I>of<N>.jsonl), run.h5.
 *
 * points.jsonl holds one JSON object a finished point, appended and synced, so a killed run loses at most the point
 * under way. Each line ends in a "crc32" member over the bytes before it. A torn last line is dropped with a notice
 * when the run resumes.
 *
 * run.json is written by every shard. Its status is "done" once every shard is, and "shards" tells of each that began.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_RUN_H
#define SOFTNTK_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "softntk/context.h"
#include "softntk/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sntk_run sntk_run;

typedef struct sntk_run_options {
  const char *directory; /**< made with its parents where absent */
  const char *command;   /**< "train", "sweep", ... */
  const char *config;    /**< the resolved configuration, a JSON object as text */
  bool resume;           /**< go on with an existing run; an absent one is started */
  int shard_index;       /**< 0 <= shard_index < shard_count */
  int shard_count;       /**< 1: not sharded */
} sntk_run_options;

/**
 * @brief Starts or resumes a run: makes the directory, locks this shard's points file, reads the points of every shard,
 * writes run.json with status "running". What opening made is removed again where it fails.
 * @return SNTK_OK; SNTK_ERR_EXISTS (a run is there and resume is false; or another process writes the same points
 * file); SNTK_ERR_CONFIG (resume with a changed configuration: names the first key that differs); SNTK_ERR_DATA (a line
 * other than the last is damaged); SNTK_ERR_IO.
 */
SNTK_API sntk_status sntk_run_open(sntk_context *ctx, const sntk_run_options *options, sntk_run **run);

/** @brief A notice from opening, such as a dropped torn line; NULL where there is none. */
SNTK_API const char *sntk_run_notice(const sntk_run *run);

/** @brief Number of finished points known: those read at opening and those added since. */
SNTK_API int64_t sntk_run_count(const sntk_run *run);

/** @brief Point `index` as JSON text without its checksum; NULL out of range. Valid until the run is closed. */
SNTK_API const char *sntk_run_point(const sntk_run *run, int64_t index);

/** @brief The point of this kind and id, as JSON text; NULL where it is not recorded. */
SNTK_API const char *sntk_run_find(const sntk_run *run, const char *kind, const char *id);

/**
 * @brief Appends a finished point and syncs it to disk.
 * @param[in] point A JSON object as text, with string members "kind" and "id"; the pair is unique in a run.
 * @return SNTK_OK; SNTK_ERR_ARGUMENT (not such an object, or recorded already); SNTK_ERR_IO.
 */
SNTK_API sntk_status sntk_run_add(sntk_context *ctx, sntk_run *run, const char *point);

/**
 * @brief Ends a run: rewrites run.json with status, wall time and flags, releases the lock, frees it. NULL is allowed.
 * With shards the status is this one's, and the run's is "done" once all are.
 * @param[in] status "done", "interrupted" or "failed".
 * @param[in] flags  A JSON object of further members for run.json's "flags", or NULL.
 * @return SNTK_OK; SNTK_ERR_IO. The run is freed in every case.
 */
SNTK_API sntk_status sntk_run_close(sntk_context *ctx, sntk_run *run, const char *status, const char *flags);

#ifdef __cplusplus
}
#endif

#endif
