/**
 * @file shard.h
 * @brief Which part of a sweep this process does: "I/N", or what the batch system says.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_SHARD_H
#define SOFTNTK_SHARD_H

#include <stdbool.h>
#include <stdint.h>

#include "core/core.h"

enum { SNTK_MAX_SHARDS = 1000000 };

/* Shard `index` of `count`: 0 <= index < count <= SNTK_MAX_SHARDS. */
typedef struct sntk_shard {
  int index, count;
} sntk_shard;

/* Reads "I/N" (decimal, I from 0) or "auto": the process's number among those that were started together, by the first
 * of these that is set:
 *   OMPI_COMM_WORLD_RANK, OMPI_COMM_WORLD_SIZE; PMI_RANK, PMI_SIZE;
 *   SLURM_PROCID of SLURM_STEP_NUM_TASKS, or of SLURM_NTASKS; a batch script that does not use srun is refused where
 *     the job has several tasks.
 * SLURM_ARRAY_TASK_ID (counted from _MIN in steps of _STEP) with SLURM_ARRAY_TASK_COUNT multiplies it.
 * A job array must be a range without holes: the numbers of a list do not say which shards they are.
 * Returns SNTK_OK; SNTK_ERR_ARGUMENT (the text or a variable is malformed, a variable lacks its partner, or none is
 * set). */
sntk_status sntk_shard_parse(sntk_context *ctx, const char *text, sntk_shard *shard);

/* Items are dealt round: item % count == index. */
bool sntk_shard_owns(sntk_shard shard, int64_t item);

#endif
