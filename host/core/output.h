/**
 * @file output.h
 * @brief Files of a run as the program writes them: JSON values with 17 digits, and run.h5.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_OUTPUT_H
#define SOFTNTK_OUTPUT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/core.h"
#include "softntk/run.h"

/* A JSON real, or null where the value is not finite. New reference. */
json_t *sntk_json_real(double value);

/* From a call of the first, the second tells whether memory of jansson's failed in this thread. Its own results do not
 * tell: it drops members and characters, and goes on. */
void sntk_json_watch(void);
bool sntk_json_lost(void);

/* A JSON object or array without duplicate keys, whole; new reference. NULL where the text is not JSON (*error says
 * why) or, if sntk_json_lost(), for want of memory. */
json_t *sntk_json_parse(const char *text, size_t length, json_error_t *error);

/* Compact text with %.17g reals and keys in insertion order; free with free(). NULL without memory. */
char *sntk_json_text(const json_t *value);
/* The same over indented lines. */
char *sntk_json_lines(const json_t *value);

/* Are two points the same but for members that may differ between identical runs (*_seconds, *_time)? */
bool sntk_same_result(const json_t *a, const json_t *b);

/* sntk_run_add for a json_t; does not take the reference. */
sntk_status sntk_run_add_json(sntk_context *ctx, sntk_run *run, const json_t *point);

/* What run.json says of the run's device. Strings are copied. */
typedef struct sntk_run_device {
  const char *backend, *name;
  int threads;
  bool emulated;
} sntk_run_device;

/* Member "device" of run.json from its next rewrite on; until then the context's backend, if one is open. */
sntk_status sntk_run_set_device(sntk_context *ctx, sntk_run *run, const sntk_run_device *device);

/* How many items are dealt round to the shards: the run is done when each is some finished shard's. Otherwise it is
 * when all shards of one number are. */
void sntk_run_set_items(sntk_run *run, int64_t items);

/* Reads what other shards have added since. */
sntk_status sntk_run_refresh(sntk_context *ctx, sntk_run *run);

/* sntk_run_close in two steps. `state` is this process's, `whole` the run's where every shard is done ("failed" where
 * none of its points is good). Then sntk_run_unfinished says what other shards still owe; NULL where nothing. */
sntk_status sntk_run_finish(sntk_context *ctx, sntk_run *run, const char *state, const char *whole, const char *flags);
const char *sntk_run_unfinished(const sntk_run *run);
void sntk_run_free(sntk_run *run);

/* A file of results that is in its place: its size and checksum are written to run.json. */
sntk_status sntk_run_keep(sntk_context *ctx, sntk_run *run, const char *name);
/* One that could not be written: the run.json of the end says why. */
sntk_status sntk_run_miss(sntk_context *ctx, sntk_run *run, const char *name, const char *why);
/* Is a file of results there, as it was written? *there is false for one that is gone or could not be written: it is to
 * be made again. One that run.json does not speak of is missed only where it is `expected`. SNTK_ERR_DATA, with the
 * cure, where it was changed. */
sntk_status sntk_run_result(sntk_context *ctx, const sntk_run *run, const char *name, bool expected, bool *there);
/* The same of run.h5 and of every file that run.json speaks of: *absent names the first that is to be made again. Those
 * that it should speak of, and does not, it will. */
sntk_status sntk_run_results(sntk_context *ctx, sntk_run *run, bool expected, const char **absent);

/* For a run that could not begin (a setting or a file was wrong, memory short): removes what opening made, so that the
 * corrected command starts afresh, and frees the run. False, and nothing done, where the run has points, is a shard, or
 * was there before. */
bool sntk_run_discard(sntk_run *run);

/* run.h5: written to a temporary file beside `path`, synced and renamed by sntk_h5_close with commit true, removed
 * otherwise (also where an earlier write failed). One writer a path at a time: the run's lock sees to it. The HDF5
 * library is called in a child process, which starts with the file. */
typedef struct sntk_h5 sntk_h5;
sntk_status sntk_h5_create(sntk_context *ctx, const char *path, sntk_h5 **file);
/* Row-major data; cols 0 makes a vector of `rows`. Parent groups are made. `name` like "/history/loss". */
sntk_status sntk_h5_write_f64(sntk_context *ctx, sntk_h5 *file, const char *name, int64_t rows, int64_t cols,
                              const double *data);
sntk_status sntk_h5_write_f32(sntk_context *ctx, sntk_h5 *file, const char *name, int64_t rows, int64_t cols,
                              const float *data);
sntk_status sntk_h5_write_i64(sntk_context *ctx, sntk_h5 *file, const char *name, int64_t rows, int64_t cols,
                              const int64_t *data);
sntk_status sntk_h5_write_i8(sntk_context *ctx, sntk_h5 *file, const char *name, int64_t rows, int64_t cols,
                             const int8_t *data);
/* A dataset that is filled by column ranges: [first, first + count) of rows x cols, for matrices too wide to hold
 * twice. type: 'f', 'd' or 'b' (int8). data: rows x count, row-major, of that type. */
sntk_status sntk_h5_begin(sntk_context *ctx, sntk_h5 *file, const char *name, char type, int64_t rows, int64_t cols);
sntk_status sntk_h5_write_columns(sntk_context *ctx, sntk_h5 *file, const char *name, int64_t first, int64_t count,
                                  const void *data);
sntk_status sntk_h5_close(sntk_context *ctx, sntk_h5 *file, bool commit);

/* Version of the HDF5 library, such as "1.10.8". */
const char *sntk_h5_version(void);

#endif
