/**
 * @file shard.c
 * @brief Parses --shard and reads the batch systems' variables.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cluster/shard.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_DIGITS = 9 }; /* every such number fits an int */

/* Decimal digits without sign, space or leading zero, up to `end` (a character, or 0); -1 otherwise. */
static int parse_decimal(const char *text, char end) {
  const char *stop = strchr(text, end);
  if (!stop || stop == text || stop - text > MAX_DIGITS || (text[0] == '0' && stop - text > 1)) return -1;
  int value = 0;
  for (const char *c = text; c < stop; c++) {
    if (*c < '0' || *c > '9') return -1;
    value = 10 * value + (*c - '0');
  }
  return value;
}

static sntk_status parse_pair(sntk_context *ctx, const char *text, sntk_shard *shard) {
  const char *slash = strchr(text, '/');
  const int index = slash ? parse_decimal(text, '/') : -1;
  const int count = slash ? parse_decimal(slash + 1, '\0') : -1;
  if (index < 0 || count < 0)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "shard '%s' is not I/N; give two decimal numbers such as 0/4, or auto",
                     text);
  if (index >= count || count > SNTK_MAX_SHARDS)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT,
                     "shard '%s' is out of range; I counts from 0 to N - 1, and N is at most %d", text,
                     (int)SNTK_MAX_SHARDS);
  *shard = (sntk_shard){index, count};
  return SNTK_OK;
}

/* A variable's number; *value is `absent` where it is not set. */
static sntk_status read_number(sntk_context *ctx, const char *name, int absent, int *value) {
  const char *text = getenv(name);
  *value = text ? parse_decimal(text, '\0') : absent;
  if (text && *value < 0)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "--shard auto: %s is '%s', not a decimal number from 0; give --shard I/N",
                     name, text);
  return SNTK_OK;
}

/* *found is false where neither variable is set. */
static sntk_status read_pair(sntk_context *ctx, const char *index_name, const char *count_name, sntk_shard *shard,
                             bool *found) {
  SNTK_TRY(read_number(ctx, index_name, -1, &shard->index));
  SNTK_TRY(read_number(ctx, count_name, -1, &shard->count));
  *found = shard->index >= 0 && shard->count >= 0;
  if (*found || (shard->index < 0 && shard->count < 0)) return SNTK_OK;
  return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "--shard auto: %s is set but %s is not; give --shard I/N",
                   shard->index >= 0 ? index_name : count_name, shard->index >= 0 ? count_name : index_name);
}

static sntk_status check_pair(sntk_context *ctx, const char *index_name, const char *count_name, sntk_shard shard) {
  if (shard.index < shard.count && shard.count <= SNTK_MAX_SHARDS) return SNTK_OK;
  return sntk_fail(
      ctx, SNTK_ERR_ARGUMENT,
      "--shard auto: %s gives index %d and %s gives %d shards; the index must be below the number, and the number at "
      "most %d; give --shard I/N",
      index_name, shard.index, count_name, shard.count, (int)SNTK_MAX_SHARDS);
}

/* The array's own numbering, 1-7:2 for instance, becomes 0, 1, 2, 3. */
static sntk_status count_array_from_zero(sntk_context *ctx, sntk_shard *shard) {
  int low, high, step;
  SNTK_TRY(read_number(ctx, "SLURM_ARRAY_TASK_MIN", 0, &low));
  SNTK_TRY(read_number(ctx, "SLURM_ARRAY_TASK_STEP", 1, &step));
  if (step < 1) step = 1;
  SNTK_TRY(read_number(ctx, "SLURM_ARRAY_TASK_MAX", -1, &high));
  const int above = shard->index - low;
  const bool holes = high >= 0 && (high - low) / step + 1 != shard->count;
  if (above < 0 || above % step != 0 || above / step >= shard->count || holes)
    return sntk_fail(
        ctx, SNTK_ERR_ARGUMENT,
        "--shard auto: task %d of a job array of %d tasks from %d in steps of %d: the array is not a whole range; "
        "submit one such as --array=0-7, or give --shard I/N",
        shard->index, shard->count, low, step);
  shard->index = above / step;
  return SNTK_OK;
}

static sntk_status parse_auto(sntk_context *ctx, sntk_shard *shard) {
  static const char *const names[][2] = {{"SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"},
                                         {"SLURM_PROCID", "SLURM_NTASKS"},
                                         {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
                                         {"PMI_RANK", "PMI_SIZE"}};
  sntk_shard found_shard;
  bool found = false;
  SNTK_TRY(read_pair(ctx, names[0][0], names[0][1], &found_shard, &found));
  if (found) {
    SNTK_TRY(count_array_from_zero(ctx, &found_shard));
    sntk_shard task;
    bool tasks;
    SNTK_TRY(read_pair(ctx, names[1][0], names[1][1], &task, &tasks));
    if (tasks && task.count > 1) {
      SNTK_TRY(check_pair(ctx, names[1][0], names[1][1], task));
      const int64_t count = (int64_t)found_shard.count * task.count;
      if (count > SNTK_MAX_SHARDS)
        return sntk_fail(ctx, SNTK_ERR_ARGUMENT,
                         "--shard auto: %d array tasks of %d processes are %lld shards; at most %d", found_shard.count,
                         task.count, (long long)count, (int)SNTK_MAX_SHARDS);
      found_shard = (sntk_shard){found_shard.index * task.count + task.index, (int)count};
    }
    SNTK_TRY(check_pair(ctx, names[0][0], names[0][1], found_shard));
    *shard = found_shard;
    return SNTK_OK;
  }
  for (size_t i = 1; i < sizeof names / sizeof *names; i++) {
    SNTK_TRY(read_pair(ctx, names[i][0], names[i][1], &found_shard, &found));
    if (!found) continue;
    SNTK_TRY(check_pair(ctx, names[i][0], names[i][1], found_shard));
    *shard = found_shard;
    return SNTK_OK;
  }
  return sntk_fail(
      ctx, SNTK_ERR_ARGUMENT,
      "--shard auto: none of SLURM_ARRAY_TASK_ID, SLURM_PROCID, OMPI_COMM_WORLD_RANK and PMI_RANK is set; start under "
      "Slurm or MPI, or give --shard I/N");
}

sntk_status sntk_shard_parse(sntk_context *ctx, const char *text, sntk_shard *shard) {
  *shard = (sntk_shard){0, 1};
  return strcmp(text, "auto") == 0 ? parse_auto(ctx, shard) : parse_pair(ctx, text, shard);
}

bool sntk_shard_owns(sntk_shard shard, int64_t item) { return item % shard.count == shard.index; }
