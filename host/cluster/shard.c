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

/* A process of a job step is one of SLURM_STEP_NUM_TASKS. A batch script has SLURM_PROCID 0 and the job's SLURM_NTASKS
 * as well, but it is one process, and only srun makes it several: to take a share there would leave the others to
 * nobody.
 */
static sntk_status read_slurm(sntk_context *ctx, sntk_shard *shard, bool *found) {
  int index, step, tasks;
  SNTK_TRY(read_number(ctx, "SLURM_PROCID", -1, &index));
  SNTK_TRY(read_number(ctx, "SLURM_STEP_NUM_TASKS", -1, &step));
  SNTK_TRY(read_number(ctx, "SLURM_NTASKS", -1, &tasks));
  *found = true;
  *shard = (sntk_shard){index, step};
  if (index >= 0 && step >= 0) return check_pair(ctx, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", *shard);
  *shard = (sntk_shard){0, 1};
  if (index == 0 && tasks < 0) return SNTK_OK; /* a batch script of no given number of tasks */
  SNTK_TRY(read_pair(ctx, "SLURM_PROCID", "SLURM_NTASKS", shard, found));
  if (!*found) return SNTK_OK;
  if (index == 0 && tasks > 1 && !getenv("SLURM_STEP_ID"))
    return sntk_fail(
        ctx, SNTK_ERR_ARGUMENT,
        "--shard auto: SLURM_NTASKS is %d, but this process is in no job step (SLURM_STEP_NUM_TASKS is not "
        "set): a batch script runs it once, and %d of %d shards would be left out; start it with srun, "
        "or leave --shard out to run all points, or give --shard I/N",
        tasks, tasks - 1, tasks);
  return check_pair(ctx, "SLURM_PROCID", "SLURM_NTASKS", *shard);
}

/* Which of the processes that were started together. MPI's own launcher is asked before Slurm: within a job it starts
 * the processes, and Slurm's numbers are those of its daemons. */
static sntk_status read_processes(sntk_context *ctx, sntk_shard *shard, bool *found) {
  static const char *const launchers[][2] = {{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
                                             {"PMI_RANK", "PMI_SIZE"}};
  for (size_t i = 0; i < sizeof launchers / sizeof *launchers; i++) {
    SNTK_TRY(read_pair(ctx, launchers[i][0], launchers[i][1], shard, found));
    if (*found) return check_pair(ctx, launchers[i][0], launchers[i][1], *shard);
  }
  return read_slurm(ctx, shard, found);
}

static sntk_status parse_auto(sntk_context *ctx, sntk_shard *shard) {
  static const char array_index[] = "SLURM_ARRAY_TASK_ID", array_count[] = "SLURM_ARRAY_TASK_COUNT";
  sntk_shard array, process;
  bool is_array, is_process;
  SNTK_TRY(read_pair(ctx, array_index, array_count, &array, &is_array));
  SNTK_TRY(read_processes(ctx, &process, &is_process));
  if (!is_array && !is_process)
    return sntk_fail(
        ctx, SNTK_ERR_ARGUMENT,
        "--shard auto: none of SLURM_ARRAY_TASK_ID, SLURM_PROCID, OMPI_COMM_WORLD_RANK and PMI_RANK is set; start "
        "under Slurm or MPI, or give --shard I/N");
  *shard = process;
  if (!is_array) return SNTK_OK;
  SNTK_TRY(count_array_from_zero(ctx, &array));
  SNTK_TRY(check_pair(ctx, array_index, array_count, array));
  if (!is_process) process = (sntk_shard){0, 1};
  const int64_t count = (int64_t)array.count * process.count;
  if (count > SNTK_MAX_SHARDS)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "--shard auto: %d array tasks of %d processes are %lld shards; at most %d",
                     array.count, process.count, (long long)count, (int)SNTK_MAX_SHARDS);
  *shard = (sntk_shard){array.index * process.count + process.index, (int)count};
  return SNTK_OK;
}

sntk_status sntk_shard_parse(sntk_context *ctx, const char *text, sntk_shard *shard) {
  *shard = (sntk_shard){0, 1};
  return strcmp(text, "auto") == 0 ? parse_auto(ctx, shard) : parse_pair(ctx, text, shard);
}

bool sntk_shard_owns(sntk_shard shard, int64_t item) { return item % shard.count == shard.index; }
