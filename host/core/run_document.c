/**
 * @file run_document.c
 * @brief run.json: what a run is, how far it has come, and the files of results that belong to it.
 *
 * Every shard of a run writes it. Who replaces it holds the lock of the one that is there, so that no shard's state is
 * lost, and the shard that is done last finds that all are.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "core/files.h"
#include "core/output.h"
#include "core/record.h"
#include "core/run_internal.h"
#include "softntk/version.h"

enum {
  SCHEMA = 1,
  PATH_CHARS = 256,   /* a dotted key in a message */
  VALUE_CHARS = 120,  /* a value in a message */
  SHARE_CHARS = 48,   /* "I/N" */
  SUM_CHUNK = 1 << 20 /* bytes of a file read at once for its checksum */
};

/* ---- the run.json that is there ---------------------------------------------------------------------------------- */

/* The first key, in the recorded configuration's order, whose value differs; false where there is none. A member that
 * is absent has the value NULL. */
static bool first_difference(const json_t *was, const json_t *now, const char *prefix, char path[PATH_CHARS],
                             const json_t **old_value, const json_t **new_value) {
  const bool top = *prefix == '\0';
  const json_t *const sides[2] = {was, now};
  for (int side = 0; side < 2; side++) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)sides[side], key, value) {
      /* neither changes a result */
      if (top && (strcmp(key, "threads") == 0 || strcmp(key, "name") == 0)) continue;
      const json_t *a = json_object_get(was, key), *b = json_object_get(now, key);
      if (a && b && json_equal(a, b)) continue;
      char here[PATH_CHARS];
      snprintf(here, sizeof here, "%.*s%s%.*s", PATH_CHARS / 2, prefix, top ? "" : ".", PATH_CHARS / 2 - 2, key);
      if (json_is_object(a) && json_is_object(b)) return first_difference(a, b, here, path, old_value, new_value);
      memcpy(path, here, sizeof here);
      *old_value = a;
      *new_value = b;
      return true;
    }
  }
  return false;
}

static void value_text(const json_t *value, int digits, char text[VALUE_CHARS]) {
  char *json = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(digits)) : NULL;
  snprintf(text, VALUE_CHARS, "%s", !value ? "not given" : json ? json : "(no memory to print it)");
  free(json);
}

static sntk_status check_same_config(sntk_context *ctx, const sntk_run *run, const json_t *recorded) {
  char path[PATH_CHARS], before[VALUE_CHARS], after[VALUE_CHARS];
  const json_t *old_value, *new_value;
  if (!first_difference(recorded, run->config, "", path, &old_value, &new_value)) return SNTK_OK;
  value_text(old_value, 15, before);
  value_text(new_value, 15, after);
  if (strcmp(before, after) == 0) {
    value_text(old_value, 17, before);
    value_text(new_value, 17, after);
  }
  return sntk_fail(
      ctx, SNTK_ERR_CONFIG,
      "%s: %s is %s, but the run there was made with %s; resume with the configuration that it began with, or give "
      "another --out",
      run->directory, path, after, before);
}

/* Reads run.json and checks that it is of the same command and configuration. */
static sntk_status read_document(sntk_context *ctx, const sntk_run *run, int fd, json_t **there) {
  char *text;
  int64_t length;
  *there = NULL;
  SNTK_TRY(sntk_file_read(ctx, fd, run->json_path, &text, &length));
  json_error_t error;
  json_t *document = sntk_json_parse(text, (size_t)length, &error);
  free(text);
  if (!document && sntk_json_lost()) return sntk_run_no_memory(ctx, run->json_path);
  const json_t *schema = json_object_get(document, "schema"), *config = json_object_get(document, "config");
  const char *command = json_string_value(json_object_get(document, "command"));
  sntk_status status;
  if (!document)
    status = sntk_fail(ctx, SNTK_ERR_DATA, "%s:%d:%d: it is damaged: %s; restore it, or give another --out",
                       run->json_path, error.line, error.column, error.text);
  else if (!json_is_integer(schema) || !json_is_object(config) || !command)
    status = sntk_fail(
        ctx, SNTK_ERR_DATA,
        "%s: it lacks \"schema\", \"command\" or \"config\": not the record of a run; restore it, or give another "
        "--out",
        run->json_path);
  else if (json_integer_value(schema) != SCHEMA)
    status = sntk_fail(ctx, SNTK_ERR_DATA, "%s: it has schema %lld; this version reads schema %d: give another --out",
                       run->json_path, (long long)json_integer_value(schema), (int)SCHEMA);
  else if (strcmp(command, run->command) != 0)
    status = sntk_fail(ctx, SNTK_ERR_CONFIG, "%s: the run there is one of '%.100s', not of '%s'; give another --out",
                       run->directory, command, run->command);
  else
    status = check_same_config(ctx, run, config);
  if (status == SNTK_OK)
    *there = document;
  else
    json_decref(document);
  return status;
}

static sntk_status open_failure(sntk_context *ctx, const char *path) {
  return sntk_fail(ctx, SNTK_ERR_IO, "%s: cannot open it: %s", path,
                   errno == ELOOP ? "it is a symbolic link, and a run does not write through one; put the file in its "
                                    "place"
                                  : strerror(errno));
}

sntk_status sntk_run_read_previous(sntk_context *ctx, const sntk_run *run, json_t **previous) {
  *previous = NULL;
  const int fd = sntk_file_descriptor(run->json_path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0) return errno == ENOENT ? SNTK_OK : open_failure(ctx, run->json_path);
  const sntk_status status = read_document(ctx, run, fd, previous);
  close(fd);
  return status;
}

/* The run.json that has the name once we hold its lock; *fd -1 where there is none. A file system without locks gives
 * it unlocked. */
static sntk_status lock_document(sntk_context *ctx, const sntk_run *run, int *fd) {
  enum { TRIES = 10000 };
  for (int i = 0;; i++) {
    *fd = sntk_file_descriptor(run->json_path, O_RDWR | O_NOFOLLOW | O_NONBLOCK);
    if (*fd < 0 && errno == EACCES) *fd = sntk_file_descriptor(run->json_path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    if (*fd < 0) return errno == ENOENT ? SNTK_OK : open_failure(ctx, run->json_path);
    while (flock(*fd, LOCK_EX) != 0 && errno == EINTR) continue;
    if (i == TRIES || sntk_file_is_at(*fd, run->json_path)) return SNTK_OK;
    close(*fd); /* another shard replaced it meanwhile */
  }
}

/* ---- what it says ------------------------------------------------------------------------------------------------ */

static json_t *device_object(const char *backend, const char *name, int threads, bool emulated) {
  json_t *object = json_pack("{s:s, s:s, s:i}", "backend", backend, "name", name, "threads", threads);
  if (object && emulated && json_object_set_new(object, "emulated", json_true()) != 0) {
    json_decref(object);
    return NULL;
  }
  return object;
}

static json_t *libraries_object(void) {
  return json_pack("{s:s, s:s, s:s}", "hdf5", sntk_h5_version(), "jansson", jansson_version_str(), "zlib",
                   zlibVersion());
}

sntk_status sntk_run_set_device(sntk_context *ctx, sntk_run *run, const sntk_run_device *device) {
  json_t *object = device_object(device->backend, device->name, device->threads, device->emulated);
  if (!object || json_object_set_new(run->document, "device", object) != 0)
    return sntk_run_no_memory(ctx, run->json_path);
  return SNTK_OK;
}

/* How often this process's part was begun before. */
static json_int_t resumed_before(const sntk_run *run, const json_t *previous) {
  const json_t *shards = json_object_get(previous, "shards");
  const bool begun = previous && (!shards || json_object_get(shards, run->share) || run->shard_count == 1);
  return json_integer_value(json_object_get(previous, "resumed")) + begun;
}

static json_t *object_or_empty(const json_t *value) {
  return json_is_object(value) ? json_deep_copy(value) : json_object();
}

/* The members in the order in which run.json shows them. */
sntk_status sntk_run_make_document(sntk_context *ctx, sntk_run *run, const json_t *previous) {
  const json_t *started = json_object_get(previous, "started_time");
  json_t *name = json_object_get(run->config, "name"), *seed = json_object_get(run->config, "seed");
  sntk_json_watch();
  json_t *device = ctx && ctx->backend ? device_object(sntk_context_backend(ctx), sntk_context_device(ctx),
                                                       sntk_context_threads(ctx), false)
                                       : json_null();
  char now[32];
  const time_t seconds = time(NULL);
  struct tm utc;
  if (!gmtime_r(&seconds, &utc) || strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%SZ", &utc) == 0) now[0] = '\0';
  run->wall_before = json_number_value(json_object_get(previous, "wall_seconds"));
  run->results = object_or_empty(json_object_get(previous, "results"));

  json_t *document = run->document = json_object();
  int failed = json_object_set_new(document, "schema", json_integer(SCHEMA));
  failed |= json_object_set_new(document, "command", json_string(run->command));
  failed |= json_object_set_new(document, "status", json_string("running"));
  if (name) failed |= json_object_set(document, "name", name);
  failed |= json_object_set_new(document, "version", json_string(sntk_version()));
  failed |= json_object_set_new(document, "git_commit", json_string(sntk_git_commit()));
  failed |= json_object_set_new(document, "started_time",
                                json_is_string(started) ? json_deep_copy(started) : json_string(now));
  failed |= json_object_set_new(document, "wall_seconds", json_real(run->wall_before));
  failed |= json_object_set_new(document, "resumed", json_integer(resumed_before(run, previous)));
  failed |= json_object_set(document, "config", run->config);
  if (seed) failed |= json_object_set(document, "seed", seed);
  failed |= json_object_set_new(document, "device", device);
  failed |= json_object_set_new(document, "libraries", libraries_object());
  failed |= json_object_set_new(document, "flags", object_or_empty(json_object_get(previous, "flags")));
  if (failed || !run->results || sntk_json_lost())
    return sntk_fail(ctx, SNTK_ERR_MEMORY, "%s: no memory for it, or a text in it is not UTF-8", run->json_path);
  return SNTK_OK;
}

/* ---- shards ------------------------------------------------------------------------------------------------------ */

static bool shard_is_done(const json_t *shards, int64_t index, int64_t count) {
  char share[SHARE_CHARS];
  snprintf(share, sizeof share, "%lld/%lld", (long long)index, (long long)count);
  const char *state = json_string_value(json_object_get(shards, share));
  return state && strcmp(state, "done") == 0;
}

/* N of "I/N"; 0 where the text is something else. */
static int64_t share_count(const char *share) {
  long long index, count;
  return sscanf(share, "%lld/%lld", &index, &count) == 2 && count > 0 && index < count ? count : 0;
}

/* The numbers of shards among which the work was shared; those beyond MOST_COUNTS are left out. */
enum { MOST_COUNTS = 16 };
static int shard_counts(const json_t *shards, int64_t counts[MOST_COUNTS]) {
  const char *share;
  json_t *state;
  int used = 0;
  json_object_foreach((json_t *)shards, share, state) {
    const int64_t count = share_count(share);
    int known = 0;
    while (known < used && counts[known] != count) known++;
    if (known == used && used < MOST_COUNTS && count > 0) counts[used++] = count;
  }
  return used;
}

static bool item_is_done(const json_t *shards, const int64_t *counts, int used, int64_t item) {
  for (int i = 0; i < used; i++)
    if (shard_is_done(shards, item % counts[i], counts[i])) return true;
  return false;
}

/* Where nobody said how many items there are: enough to meet every shard's. */
static int64_t items_of(const sntk_run *run) { return run->items > 0 ? run->items : run->shard_count; }

/* After so many items the shards' turns begin again: what is done of those is done of all. -1 where that is too far to
 * look. */
static int64_t period_of(const sntk_run *run, const int64_t *counts, int used) {
  enum { MOST_TURNS = 10000000 };
  int64_t period = 1;
  for (int i = 0; i < used; i++) {
    int64_t a = period, b = counts[i];
    while (b != 0) {
      const int64_t rest = a % b;
      a = b;
      b = rest;
    }
    period = sntk_size_mul(period / a, counts[i]);
    if (period < 0 || period > MOST_TURNS) return items_of(run) < MOST_TURNS ? items_of(run) : -1;
  }
  return period < items_of(run) ? period : items_of(run);
}

static int64_t items_left(const sntk_run *run, const json_t *shards) {
  int64_t counts[MOST_COUNTS], left = 0;
  const int used = shard_counts(shards, counts);
  const int64_t period = period_of(run, counts, used), items = items_of(run);
  if (period < 0) return items;
  for (int64_t item = 0; item < period; item++)
    if (!item_is_done(shards, counts, used, item)) left += (items - item - 1) / period + 1;
  return left;
}

static bool any_shard_is(const json_t *shards, const char *state) {
  const char *share;
  json_t *value;
  json_object_foreach((json_t *)shards, share, value) {
    if (json_is_string(value) && strcmp(json_string_value(value), state) == 0) return true;
  }
  return false;
}

/* The status of a run whose shards are in these states, of which ours has just ended. One that was never started keeps
 * the run running, as one does that was killed: neither has said that it ended. */
static const char *status_of(const sntk_run *run, const json_t *shards, const char *whole) {
  if (items_left(run, shards) == 0) return whole;
  if (any_shard_is(shards, "running")) return "running";
  if (any_shard_is(shards, "failed")) return "failed";
  return any_shard_is(shards, "interrupted") ? "interrupted" : "running";
}

/* Says which shards of our number have not finished; NULL without memory. */
static char *unfinished_text(const sntk_run *run, const json_t *shards) {
  enum { NAMED = 8 };
  const int64_t left = items_left(run, shards), owners = run->shard_count;
  int64_t counts[MOST_COUNTS];
  const int used_counts = shard_counts(shards, counts);
  const int64_t period = period_of(run, counts, used_counts);
  char names[NAMED * SHARE_CHARS] = "";
  size_t used = 0;
  int64_t owing = 0;
  for (int64_t i = 0; i < owners && i < period; i++) {
    bool owes = false;
    for (int64_t item = i; item < period && !owes; item += owners)
      owes = !item_is_done(shards, counts, used_counts, item);
    if (owes && owing++ < NAMED)
      used += (size_t)snprintf(names + used, sizeof names - used, "%s%lld/%lld", used ? ", " : "", (long long)i,
                               (long long)owners);
  }
  return sntk_format(
      "%lld of %lld points of the grid are left to shards that have not finished: %s%s; until they have, "
      "tables and fits lack them",
      (long long)left, (long long)items_of(run), names, owing > NAMED ? ", ..." : "");
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

/* What is to be written, given what is there (or NULL); new reference, NULL without memory. Shard 0 describes the run;
 * the others add their state. */
static json_t *merge(sntk_run *run, const json_t *there, const char *state, const char *whole) {
  sntk_json_watch();
  json_t *merged = json_copy(run->shard_index == 0 || !there ? run->document : (json_t *)there);
  json_t *flags = object_or_empty(json_object_get(there, "flags"));
  json_t *shards = object_or_empty(json_object_get(there, "shards"));
  const bool sharded = run->shard_count > 1 || json_object_size(shards) > 0;
  const bool ended = strcmp(state, "running") != 0;
  int failed = !flags || !shards || json_object_update(flags, json_object_get(run->document, "flags"));
  failed |= json_object_set_new(merged, "flags", flags);
  if (sharded) failed |= json_object_set_new(shards, run->share, json_string(state));
  if (json_object_size(run->results) > 0) failed |= json_object_set(merged, "results", run->results);
  const char *status = !ended                       ? state
                       : sharded                    ? status_of(run, shards, whole)
                       : strcmp(state, "done") == 0 ? whole
                                                    : state;
  failed |= json_object_set_new(merged, "status", json_string(status));
  if (sharded && ended && items_left(run, shards) > 0) {
    free(run->unfinished);
    failed |= !(run->unfinished = unfinished_text(run, shards));
  }
  failed |= sharded ? json_object_set(merged, "shards", shards) : 0;
  json_decref(shards);
  if (!failed && !sntk_json_lost()) return merged;
  json_decref(merged);
  return NULL;
}

/* In the place of the one that is there; as a new one, only where no other shard made one meanwhile (*taken). */
static sntk_status put_document(sntk_context *ctx, const sntk_run *run, const json_t *document, bool replace,
                                bool *taken) {
  char *text = sntk_json_lines(document);
  if (!text) return sntk_run_no_memory(ctx, run->json_path);
  const size_t length = strlen(text);
  text[length] = '\n'; /* in place of the terminator: what is written is counted */
  sntk_status status = SNTK_OK;
  const int fd = sntk_file_create(run->temporary);
  if (fd < 0 || !sntk_file_write(fd, text, length + 1))
    status = sntk_fail(ctx, SNTK_ERR_IO, "%s: cannot write it: %s", run->temporary, strerror(errno));
  free(text);
  if (status == SNTK_OK)
    status = replace ? sntk_replace_file(ctx, fd, run->temporary, run->json_path)
                     : sntk_place_file(ctx, fd, run->temporary, run->json_path, taken);
  if (fd >= 0 && sntk_file_is_at(fd, run->temporary)) unlink(run->temporary); /* it was not renamed */
  if (fd >= 0) close(fd); /* it is synced: nothing is left that could fail */
  return status;
}

sntk_status sntk_run_write_document(sntk_context *ctx, sntk_run *run, const char *state, const char *whole) {
  sntk_status status;
  bool taken;
  do {
    int fd;
    json_t *there = NULL;
    taken = false;
    SNTK_TRY(lock_document(ctx, run, &fd));
    status = fd < 0 ? SNTK_OK : read_document(ctx, run, fd, &there);
    /* once the run has begun, one that was damaged or changed under way is replaced by what we know */
    if (status != SNTK_OK && status != SNTK_ERR_MEMORY && run->begun) status = SNTK_OK;
    json_t *merged = status == SNTK_OK ? merge(run, there, state, whole) : NULL;
    if (status == SNTK_OK && !merged) status = sntk_run_no_memory(ctx, run->json_path);
    if (status == SNTK_OK) status = put_document(ctx, run, merged, fd >= 0, &taken);
    json_decref(merged);
    json_decref(there);
    if (fd >= 0) close(fd); /* releases the lock */
  } while (status == SNTK_OK && taken);
  if (status == SNTK_OK) run->begun = true;
  return status;
}

void sntk_run_set_items(sntk_run *run, int64_t items) { run->items = items; }

static bool is_word(const char *text) {
  static const char *const words[] = {"done", "interrupted", "failed"};
  for (size_t i = 0; i < sizeof words / sizeof *words; i++)
    if (strcmp(text, words[i]) == 0) return true;
  return false;
}

sntk_status sntk_run_finish(sntk_context *ctx, sntk_run *run, const char *state, const char *whole, const char *flags) {
  if (!is_word(state) || !is_word(whole))
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "%s: status '%s'; a run ends done, interrupted or failed", run->directory,
                     state);
  json_error_t error;
  json_t *members = flags ? sntk_json_parse(flags, strlen(flags), &error) : json_object();
  if (!members && (!flags || sntk_json_lost())) return sntk_run_no_memory(ctx, run->json_path);
  if (!json_is_object(members)) {
    json_decref(members);
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "%s: the flags are not a JSON object", run->directory);
  }
  sntk_json_watch();
  int failed = json_object_update(json_object_get(run->document, "flags"), members);
  json_decref(members);
  failed |=
      json_object_set_new(run->document, "wall_seconds", json_real(run->wall_before + sntk_seconds() - run->started));
  if (failed || sntk_json_lost()) return sntk_run_no_memory(ctx, run->json_path);
  return sntk_run_write_document(ctx, run, state, whole);
}

const char *sntk_run_unfinished(const sntk_run *run) { return run->unfinished; }

/* ---- files of results -------------------------------------------------------------------------------------------- */

typedef struct file_sum {
  int64_t bytes;
  char crc32[9];
} file_sum;

static sntk_status sum_file(sntk_context *ctx, int fd, const char *path, file_sum *sum) {
  unsigned char *chunk = malloc(SUM_CHUNK);
  if (!chunk) return sntk_fail(ctx, SNTK_ERR_MEMORY, "%s: no memory to read it", path);
  unsigned long crc = 0;
  ssize_t got;
  sum->bytes = 0;
  while ((got = pread(fd, chunk, SUM_CHUNK, (off_t)sum->bytes)) != 0) {
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) break;
    crc = crc32_z(crc, chunk, (size_t)got);
    sum->bytes += got;
  }
  const int error = errno;
  free(chunk);
  if (got < 0) return sntk_fail(ctx, SNTK_ERR_IO, "%s: cannot read it: %s", path, strerror(error));
  snprintf(sum->crc32, sizeof sum->crc32, "%08lx", crc & 0xffffffffUL);
  return SNTK_OK;
}

/* *there false, and *sum unset, where no file has the name. */
static sntk_status sum_result(sntk_context *ctx, const sntk_run *run, const char *name, bool *there, file_sum *sum) {
  char *path = sntk_format("%s/%s", run->directory, name);
  if (!path) return sntk_run_no_memory(ctx, run->directory);
  const int fd = sntk_file_descriptor(path, O_RDONLY | O_NONBLOCK);
  sntk_status status = SNTK_OK;
  *there = fd >= 0;
  if (fd >= 0)
    status = sum_file(ctx, fd, path, sum);
  else if (errno != ENOENT)
    status = sntk_fail(ctx, SNTK_ERR_IO, "%s: cannot open it: %s", path, strerror(errno));
  if (fd >= 0) close(fd);
  free(path);
  return status;
}

/* Takes the record. */
static sntk_status set_result(sntk_context *ctx, sntk_run *run, const char *name, sntk_record *result) {
  const bool whole =
      sntk_record_complete(result) && json_object_set(run->results, name, sntk_record_members(result)) == 0;
  sntk_record_free(result);
  return whole ? SNTK_OK : sntk_run_no_memory(ctx, run->json_path);
}

static sntk_status take_sum(sntk_context *ctx, sntk_run *run, const char *name) {
  file_sum sum;
  bool there;
  SNTK_TRY(sum_result(ctx, run, name, &there, &sum));
  if (!there) return sntk_fail(ctx, SNTK_ERR_IO, "%s/%s: it is gone", run->directory, name);
  sntk_record *result = sntk_record_create();
  sntk_record_int(result, "bytes", sum.bytes);
  sntk_record_text(result, "crc32", sum.crc32);
  return set_result(ctx, run, name, result);
}

sntk_status sntk_run_keep(sntk_context *ctx, sntk_run *run, const char *name) {
  run->kept = true;
  SNTK_TRY(take_sum(ctx, run, name));
  return sntk_run_write_document(ctx, run, "running", "running");
}

sntk_status sntk_run_miss(sntk_context *ctx, sntk_run *run, const char *name, const char *why) {
  sntk_record *result = sntk_record_create();
  sntk_record_text(result, "error", why);
  return set_result(ctx, run, name, result);
}

sntk_status sntk_run_result(sntk_context *ctx, const sntk_run *run, const char *name, bool expected, bool *there) {
  const json_t *result = json_object_get(run->results, name), *bytes = json_object_get(result, "bytes");
  const char *crc32 = json_string_value(json_object_get(result, "crc32"));
  file_sum sum;
  *there = !expected;
  if (!result && !expected) return SNTK_OK;
  *there = false;
  if (json_object_get(result, "error")) return SNTK_OK;
  SNTK_TRY(sum_result(ctx, run, name, there, &sum));
  if (!*there || !crc32 || (sum.bytes == json_integer_value(bytes) && strcmp(sum.crc32, crc32) == 0)) return SNTK_OK;
  return sntk_fail(
      ctx, SNTK_ERR_DATA,
      "%s/%s: it is not what the run wrote there: %lld bytes with crc32 %s instead of %lld with %s; restore "
      "it, or move it away, and --resume makes it again",
      run->directory, name, (long long)sum.bytes, sum.crc32, (long long)json_integer_value(bytes), crc32);
}

/* run.h5, or prefix_<width>.h5. */
static bool is_result_name(const char *name) {
  const size_t digits = strncmp(name, "prefix_", 7) == 0 ? strspn(name + 7, "0123456789") : 0;
  return strcmp(name, "run.h5") == 0 || (digits > 0 && strcmp(name + 7 + digits, ".h5") == 0);
}

/* Files that took their place when run.json could not be written, or the run was killed before it was. */
static sntk_status adopt_results(sntk_context *ctx, sntk_run *run) {
  name_list list;
  SNTK_TRY(sntk_run_list(ctx, run->directory, is_result_name, &list));
  sntk_status status = SNTK_OK;
  for (size_t i = 0; i < list.count && status == SNTK_OK; i++)
    if (!json_object_get(run->results, list.names[i])) status = take_sum(ctx, run, list.names[i]);
  sntk_run_names_free(&list);
  return status;
}

sntk_status sntk_run_results(sntk_context *ctx, sntk_run *run, bool expected, const char **absent) {
  static const char first[] = "run.h5";
  const char *name;
  json_t *result;
  bool there;
  SNTK_TRY(adopt_results(ctx, run));
  SNTK_TRY(sntk_run_result(ctx, run, first, expected, &there));
  *absent = there ? NULL : first;
  json_object_foreach(run->results, name, result) {
    SNTK_TRY(sntk_run_result(ctx, run, name, true, &there));
    if (!there && !*absent) *absent = name;
  }
  return SNTK_OK;
}
