/**
 * @file run.c
 * @brief A run's directory: points appended and synced line by line, run.json replaced whole, one lock a writer.
 *
 * Two rules make a kill harmless. A point is one write of one line that ends in a checksum, so what is left is whole
 * lines and at most one torn tail. run.json is written beside itself and renamed, so it is the old one or the new one.
 *
 * SPDX-License-Identifier: MIT
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "core/files.h"
#include "core/output.h"
#include "core/run_internal.h"

enum { CHECKSUM_CHARS = 20 }; /* ,"crc32":"xxxxxxxx"} */

sntk_status sntk_run_no_memory(sntk_context *ctx, const char *path) {
  return sntk_fail(ctx, SNTK_ERR_MEMORY, "%s: no memory for the run's records", path);
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

static bool sync_data(int fd) {
  while (fdatasync(fd) != 0)
    if (errno != EINTR) return false;
  return true;
}

/* points.jsonl, or points.<I>of<N>.jsonl with I < N. */
static bool is_points_name(const char *name) {
  int index, count, used = 0;
  char again[64];
  if (strcmp(name, "points.jsonl") == 0) return true;
  if (sscanf(name, "points.%9dof%9d.jsonl%n", &index, &count, &used) != 2 || used == 0) return false;
  snprintf(again, sizeof again, "points.%dof%d.jsonl", index, count);
  return index >= 0 && index < count && strcmp(name, again) == 0;
}

void sntk_run_names_free(name_list *list) {
  for (size_t i = 0; i < list->count; i++) free(list->names[i]);
  free(list->names);
  *list = (name_list){NULL, 0};
}

static int compare_names(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

sntk_status sntk_run_list(sntk_context *ctx, const char *directory, bool (*wanted)(const char *name), name_list *list) {
  *list = (name_list){NULL, 0};
  DIR *stream = opendir(directory);
  if (!stream)
    return sntk_fail(ctx, errno == ENOMEM ? SNTK_ERR_MEMORY : SNTK_ERR_IO, "%s: cannot open the directory: %s",
                     directory, strerror(errno));
  sntk_status status = SNTK_OK;
  size_t capacity = 0;
  for (;;) {
    errno = 0;
    const struct dirent *entry = readdir(stream);
    if (!entry) {
      if (errno != 0)
        status = sntk_fail(ctx, SNTK_ERR_IO, "%s: cannot read the directory: %s", directory, strerror(errno));
      break;
    }
    if (!wanted(entry->d_name)) continue;
    if (list->count == capacity) {
      capacity = 2 * capacity + 8;
      char **names = realloc(list->names, capacity * sizeof *names);
      if (!names) {
        status = sntk_run_no_memory(ctx, directory);
        break;
      }
      list->names = names;
    }
    if (!(list->names[list->count] = sntk_format("%s", entry->d_name))) {
      status = sntk_run_no_memory(ctx, directory);
      break;
    }
    list->count++;
  }
  closedir(stream);
  if (status == SNTK_OK && list->count > 1) qsort(list->names, list->count, sizeof *list->names, compare_names);
  if (status != SNTK_OK) sntk_run_names_free(list);
  return status;
}

/* ---- points ------------------------------------------------------------------------------------------------------ */

static bool is_plain(const char *text) {
  if (*text == '\0') return false;
  for (; *text; text++)
    if ((unsigned char)*text < 0x20) return false;
  return true;
}

/* What keeps a JSON value from being a point, to be read after "the point "; NULL and its kind and id where nothing
 * does. */
static const char *point_flaw(const json_t *point, const char **kind, const char **id) {
  if (!json_is_object(point)) return "is not a JSON object";
  *kind = json_string_value(json_object_get(point, "kind"));
  *id = json_string_value(json_object_get(point, "id"));
  if (!*kind || !is_plain(*kind)) return "needs a \"kind\": a string that is not empty and has no control characters";
  if (!*id || !is_plain(*id)) return "needs an \"id\": a string that is not empty and has no control characters";
  if (json_object_get(point, "crc32")) return "has a member \"crc32\", a name kept for the line's checksum";
  return NULL;
}

static run_point *lookup(const sntk_run *run, const char *kind, const char *id) {
  const json_t *number = json_object_get(json_object_get(run->index, kind), id);
  return number ? &run->points[json_integer_value(number)] : NULL;
}

/* Takes `text` on success. */
static sntk_status remember(sntk_context *ctx, sntk_run *run, const char *kind, const char *id, char *text,
                            const char *file, int64_t line) {
  if (run->count == run->capacity) {
    const int64_t capacity = 2 * run->capacity + 64;
    run_point *points = realloc(run->points, (size_t)capacity * sizeof *points);
    if (!points) return sntk_run_no_memory(ctx, run->own_path);
    run->points = points;
    run->capacity = capacity;
  }
  json_t *ids = json_object_get(run->index, kind);
  if (!ids && json_object_set_new(run->index, kind, ids = json_object()) != 0)
    return sntk_run_no_memory(ctx, run->own_path);
  if (json_object_set_new(ids, id, json_integer(run->count)) != 0) return sntk_run_no_memory(ctx, run->own_path);
  run->points[run->count++] = (run_point){text, file, line, file};
  return SNTK_OK;
}

/* The point remembered last; its text is not freed. */
static void forget_last(sntk_run *run, const char *kind, const char *id) {
  json_object_del(json_object_get(run->index, kind), id);
  run->count--;
}

/* The checksum member of a line whose object text is body and a closing brace. */
static void checksum_member(const char *body, size_t size, char member[CHECKSUM_CHARS + 1]) {
  const unsigned long sum = crc32_z(0, (const unsigned char *)body, size);
  snprintf(member, CHECKSUM_CHARS + 1, ",\"crc32\":\"%08lx\"}", sum & 0xffffffffUL);
}

static bool checksum_holds(const char *line, int64_t size) {
  char member[CHECKSUM_CHARS + 1];
  if (size < CHECKSUM_CHARS) return false;
  checksum_member(line, (size_t)size - CHECKSUM_CHARS, member);
  return memcmp(line + size - CHECKSUM_CHARS, member, CHECKSUM_CHARS) == 0;
}

/* The point that a line repeats: of another file, or of the same one where two processes wrote to it at once. */
static sntk_status take_again(sntk_context *ctx, sntk_run *run, run_point *known, const json_t *point, const char *file,
                              int64_t line) {
  json_error_t error;
  json_t *before = sntk_json_parse(known->text, strlen(known->text), &error);
  if (!before) return sntk_run_no_memory(ctx, run->own_path);
  const bool same = sntk_same_result(before, point);
  json_decref(before);
  if (!same)
    return sntk_fail(
        ctx, SNTK_ERR_DATA,
        "%s: kind '%s', id '%.300s' differs between %s:%lld and %s:%lld; points of one run are the same in every "
        "file: remove the wrong line",
        run->directory, json_string_value(json_object_get(point, "kind")),
        json_string_value(json_object_get(point, "id")), known->file, (long long)known->line, file, (long long)line);
  run->twice += known->seen == file;
  known->seen = file;
  return SNTK_OK;
}

/* A line whose checksum holds. Its body is changed: the closing brace is put where the checksum began. */
static sntk_status take_line(sntk_context *ctx, sntk_run *run, char *body, size_t size, const char *file,
                             int64_t line) {
  const char *kind = NULL, *id = NULL;
  json_error_t error;
  body[size++] = '}';
  json_t *point = sntk_json_parse(body, size, &error);
  if (!point && sntk_json_lost()) return sntk_run_no_memory(ctx, run->own_path);
  const char *flaw = point ? point_flaw(point, &kind, &id) : error.text;
  sntk_status status = SNTK_OK;
  run_point *known = flaw ? NULL : lookup(run, kind, id);
  if (flaw) {
    status = sntk_fail(ctx, SNTK_ERR_DATA, "%s/%s:%lld: the point %s%s", run->directory, file, (long long)line,
                       point ? "" : "is not JSON: ", flaw);
  } else if (known) {
    status = take_again(ctx, run, known, point, file, line);
  } else {
    char *text = malloc(size + 1);
    if (text) {
      memcpy(text, body, size);
      text[size] = '\0';
    }
    status = text ? remember(ctx, run, kind, id, text, file, line) : sntk_run_no_memory(ctx, run->own_path);
    if (status != SNTK_OK) free(text);
  }
  json_decref(point);
  return status;
}

static sntk_status add_notice(sntk_context *ctx, sntk_run *run, char *text) {
  if (text && run->notice) {
    char *both = sntk_format("%s; %s", run->notice, text);
    free(text);
    text = both;
  }
  if (!text) return sntk_run_no_memory(ctx, run->own_path);
  free(run->notice);
  run->notice = text;
  return SNTK_OK;
}

/* Reads one points file; *whole is the length of its whole lines. */
static sntk_status read_points(sntk_context *ctx, sntk_run *run, int fd, const char *file, bool own, int64_t *whole) {
  char *text;
  int64_t length;
  char *path = sntk_format("%s/%s", run->directory, file);
  if (!path) return sntk_run_no_memory(ctx, file);
  sntk_status status = sntk_file_read(ctx, fd, path, &text, &length);
  *whole = run->twice = 0;
  for (int64_t line = 1; status == SNTK_OK && *whole < length; line++) {
    char *begin = text + *whole;
    const char *newline = memchr(begin, '\n', (size_t)(length - *whole));
    const int64_t size = newline ? newline - begin : length - *whole;
    if (!newline || !checksum_holds(begin, size)) {
      if (newline && *whole + size + 1 < length)
        status = sntk_fail(
            ctx, SNTK_ERR_DATA,
            "%s:%lld: the line is damaged: its checksum does not hold; restore the file, or remove the line to have "
            "its point computed again",
            path, (long long)line);
      else
        status =
            add_notice(ctx, run,
                       own ? sntk_format("%s:%lld: dropped the last line, which is torn (%lld bytes); its point is "
                                         "computed again",
                                         path, (long long)line, (long long)(length - *whole))
                           : sntk_format("%s:%lld: ignored the last line, which is not whole; its writer may be at "
                                         "work on it",
                                         path, (long long)line));
      break;
    }
    status = take_line(ctx, run, begin, (size_t)size - CHECKSUM_CHARS, file, line);
    *whole += size + 1;
  }
  if (status == SNTK_OK && run->twice > 0)
    status = add_notice(ctx, run,
                        sntk_format("%s: %lld lines repeat points that are there already, the same but for times; two "
                                    "processes wrote to it at once, and the first line of each point counts",
                                    path, (long long)run->twice));
  free(text);
  free(path);
  return status;
}

/* A points file of another shard; one that is gone since it was listed was withdrawn. */
static sntk_status read_other(sntk_context *ctx, sntk_run *run, const char *name) {
  int64_t whole;
  char *path = sntk_format("%s/%s", run->directory, name);
  if (!path) return sntk_run_no_memory(ctx, run->directory);
  const int fd = sntk_file_descriptor(path, O_RDONLY | O_NONBLOCK);
  sntk_status status = SNTK_OK;
  if (fd >= 0)
    status = read_points(ctx, run, fd, name, false, &whole);
  else if (errno != ENOENT)
    status = sntk_fail(ctx, SNTK_ERR_IO, "%s: cannot open it: %s", path, strerror(errno));
  if (fd >= 0) close(fd);
  free(path);
  return status;
}

static sntk_status read_all_points(sntk_context *ctx, sntk_run *run) {
  SNTK_TRY(sntk_run_list(ctx, run->directory, is_points_name, &run->files));
  for (size_t i = 0; i < run->files.count; i++) {
    const char *name = run->files.names[i];
    SNTK_TRY(strcmp(name, run->own_name) == 0 ? read_points(ctx, run, run->fd, name, true, &run->length)
                                              : read_other(ctx, run, name));
  }
  return SNTK_OK;
}

/* The list's own copy of a name, to which points may refer; NULL without memory. */
static const char *kept_name(name_list *list, const char *name) {
  for (size_t i = 0; i < list->count; i++)
    if (strcmp(list->names[i], name) == 0) return list->names[i];
  char **names = realloc(list->names, (list->count + 1) * sizeof *names);
  if (!names) return NULL;
  list->names = names;
  char *copy = sntk_format("%s", name);
  if (copy) names[list->count++] = copy;
  return copy;
}

sntk_status sntk_run_refresh(sntk_context *ctx, sntk_run *run) {
  name_list list;
  SNTK_TRY(sntk_run_list(ctx, run->directory, is_points_name, &list));
  char *notice = run->notice; /* what is read here was told, or is another writer's line under way */
  run->notice = NULL;
  for (int64_t i = 0; i < run->count; i++) run->points[i].seen = NULL;
  sntk_status status = SNTK_OK;
  for (size_t i = 0; i < list.count && status == SNTK_OK; i++) {
    if (strcmp(list.names[i], run->own_name) == 0) continue;
    const char *name = kept_name(&run->files, list.names[i]);
    status = name ? read_other(ctx, run, name) : sntk_run_no_memory(ctx, run->directory);
  }
  sntk_run_names_free(&list);
  free(run->notice);
  run->notice = notice;
  return status;
}

/* Only once everything else of the run is found sound. */
static sntk_status cut_torn_tail(sntk_context *ctx, sntk_run *run) {
  struct stat info;
  if (fstat(run->fd, &info) == 0 && info.st_size == run->length) return SNTK_OK;
  if (ftruncate(run->fd, (off_t)run->length) != 0 || !sync_data(run->fd))
    return sntk_fail(ctx, SNTK_ERR_IO, "%s: cannot cut off its torn last line: %s", run->own_path, strerror(errno));
  return SNTK_OK;
}

/* Cuts off what a failed write of at most `size` bytes left. Where there are no locks, another process may have written
 * more than that behind our last line: its points are worth more than a tidy end. */
static bool cut_failed_write(sntk_run *run, size_t size) {
  struct stat info;
  if (fstat(run->fd, &info) != 0 || info.st_size > (off_t)run->length + (off_t)size) return false;
  return info.st_size <= (off_t)run->length || ftruncate(run->fd, (off_t)run->length) == 0;
}

static sntk_status append_line(sntk_context *ctx, sntk_run *run, const char *line, size_t size) {
  if (run->torn && !cut_failed_write(run, run->torn_bytes))
    return sntk_fail(ctx, SNTK_ERR_IO, "%s: cannot cut off the point that could not be written: %s", run->own_path,
                     strerror(errno));
  run->torn = false;
  if (sntk_file_write(run->fd, line, size) && sync_data(run->fd)) {
    run->length += (int64_t)size;
    return SNTK_OK;
  }
  const int error = errno;
  run->torn = !cut_failed_write(run, size);
  run->torn_bytes = size;
  return sntk_fail(ctx, SNTK_ERR_IO, "%s: cannot write a point of %zu bytes: %s; the points before it are safe",
                   run->own_path, size, strerror(error));
}

sntk_status sntk_run_add_json(sntk_context *ctx, sntk_run *run, const json_t *point) {
  const char *kind = NULL, *id = NULL;
  const char *flaw = point_flaw(point, &kind, &id);
  if (flaw) return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "%s: the point %s", run->own_path, flaw);
  if (lookup(run, kind, id))
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT,
                     "%s: kind '%s', id '%.300s' is recorded already; the pair is unique in a run", run->own_path, kind,
                     id);
  char *text = sntk_json_text(point);
  const size_t body = text ? strlen(text) - 1 : 0; /* without the closing brace */
  char *line = text ? malloc(body + CHECKSUM_CHARS + 2) : NULL;
  sntk_status status = line ? SNTK_OK : sntk_run_no_memory(ctx, run->own_path);
  if (line) {
    memcpy(line, text, body);
    checksum_member(text, body, line + body);
    line[body + CHECKSUM_CHARS] = '\n';
    /* In memory first: a point on disk must not be reported as failed for want of memory. */
    status = remember(ctx, run, kind, id, text, run->own_name, 0);
  }
  if (status == SNTK_OK) {
    status = append_line(ctx, run, line, body + CHECKSUM_CHARS + 1);
    if (status == SNTK_OK)
      text = NULL;
    else
      forget_last(run, kind, id);
  }
  free(line);
  free(text);
  return status;
}

sntk_status sntk_run_add(sntk_context *ctx, sntk_run *run, const char *point) {
  SNTK_NEED(ctx, ctx, "ctx");
  SNTK_NEED(ctx, run, "run");
  SNTK_NEED(ctx, point, "point");
  json_error_t error;
  json_t *value = sntk_json_parse(point, strlen(point), &error);
  if (!value && sntk_json_lost()) return sntk_run_no_memory(ctx, run->own_path);
  if (!value)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "%s: the point is not JSON: line %d, column %d: %s", run->own_path,
                     error.line, error.column, error.text);
  const sntk_status status = sntk_run_add_json(ctx, run, value);
  json_decref(value);
  return status;
}

const char *sntk_run_notice(const sntk_run *run) { return run ? run->notice : NULL; }

int64_t sntk_run_count(const sntk_run *run) { return run ? run->count : 0; }

const char *sntk_run_point(const sntk_run *run, int64_t index) {
  return run && index >= 0 && index < run->count ? run->points[index].text : NULL;
}

const char *sntk_run_find(const sntk_run *run, const char *kind, const char *id) {
  const run_point *point = run && kind && id ? lookup(run, kind, id) : NULL;
  return point ? point->text : NULL;
}

/* ---- opening and closing ----------------------------------------------------------------------------------------- */

static void unlock(sntk_run *run) {
  if (run->fd >= 0) close(run->fd); /* releases the lock */
  run->fd = -1;
  run->locked = false;
}

void sntk_run_free(sntk_run *run) {
  if (!run) return;
  unlock(run);
  for (int64_t i = 0; i < run->count; i++) free(run->points[i].text);
  free(run->points);
  sntk_run_names_free(&run->files);
  json_decref(run->index);
  json_decref(run->document);
  json_decref(run->results);
  free(run->unfinished);
  free(run->share);
  json_decref(run->config);
  free(run->notice);
  free(run->command);
  free(run->temporary);
  free(run->json_path);
  free(run->own_path);
  free(run->own_name);
  free(run->directory);
  free(run);
}

static sntk_status check_options(sntk_context *ctx, const sntk_run_options *options) {
  if (!options->directory || !*options->directory || !options->command || !*options->command || !options->config)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "a run needs a directory, a command and a configuration");
  if (options->shard_count < 1 || options->shard_index < 0 || options->shard_index >= options->shard_count)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT,
                     "shard %d of %d: the index counts from 0 to one below the number of shards", options->shard_index,
                     options->shard_count);
  return SNTK_OK;
}

static sntk_status run_create(sntk_context *ctx, const sntk_run_options *options, sntk_run **out) {
  sntk_run *run = *out = calloc(1, sizeof *run);
  if (!run) return sntk_run_no_memory(ctx, options->directory);
  run->fd = -1;
  run->started = sntk_seconds();
  run->shard_index = options->shard_index;
  run->shard_count = options->shard_count;
  run->directory = sntk_format("%s", options->directory);
  run->command = sntk_format("%s", options->command);
  run->own_name = options->shard_count == 1
                      ? sntk_format("points.jsonl")
                      : sntk_format("points.%dof%d.jsonl", options->shard_index, options->shard_count);
  run->index = json_object();
  if (!run->directory || !run->command || !run->own_name || !run->index)
    return sntk_run_no_memory(ctx, options->directory);
  for (size_t end = strlen(run->directory); end > 1 && run->directory[end - 1] == '/'; end--)
    run->directory[end - 1] = '\0';
  run->own_path = sntk_format("%s/%s", run->directory, run->own_name);
  run->json_path = sntk_format("%s/run.json", run->directory);
  /* Named after the points file, whose lock we hold: two numbers of shards at once both have a shard 0. */
  run->temporary = sntk_format("%s/run.json.%s.tmp", run->directory, run->own_name);
  run->share = sntk_format("%d/%d", options->shard_index, options->shard_count);
  if (!run->own_path || !run->json_path || !run->temporary || !run->share)
    return sntk_run_no_memory(ctx, options->directory);
  json_error_t error;
  run->config = sntk_json_parse(options->config, strlen(options->config), &error);
  if (!run->config && sntk_json_lost()) return sntk_run_no_memory(ctx, options->directory);
  if (!run->config)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "the run's configuration is not JSON: line %d, column %d: %s", error.line,
                     error.column, error.text);
  if (!json_is_object(run->config))
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "the run's configuration is not a JSON object");
  return SNTK_OK;
}

static sntk_status fail_exists(sntk_context *ctx, const sntk_run *run, const char *name) {
  return sntk_fail(
      ctx, SNTK_ERR_EXISTS,
      "%s: a run is there already (%s); give --resume to go on with it (shards that share a directory all give it), or "
      "another --out",
      run->directory, name);
}

/* Does this file of points speak of a run? Not where it is empty, or has nothing but the torn first line of a writer
 * that was killed. */
static sntk_status speaks_of_points(sntk_context *ctx, int fd, const char *path, bool *speaks) {
  char *text;
  int64_t length;
  *speaks = false;
  SNTK_TRY(sntk_file_read(ctx, fd, path, &text, &length));
  const char *newline = memchr(text, '\n', (size_t)length);
  *speaks = newline && (newline + 1 < text + length || checksum_holds(text, newline - text));
  free(text);
  return SNTK_OK;
}

static sntk_status refuse_points(sntk_context *ctx, const sntk_run *run, const char *name) {
  bool speaks = false;
  char *path = sntk_format("%s/%s", run->directory, name);
  if (!path) return sntk_run_no_memory(ctx, run->directory);
  const int fd = sntk_file_descriptor(path, O_RDONLY | O_NONBLOCK);
  sntk_status status = SNTK_OK;
  if (fd >= 0) {
    status = speaks_of_points(ctx, fd, path, &speaks);
    close(fd);
  } else {
    speaks = errno != ENOENT;
  }
  free(path);
  return status == SNTK_OK && speaks ? fail_exists(ctx, run, name) : status;
}

static sntk_status refuse_existing(sntk_context *ctx, const sntk_run *run) {
  if (access(run->json_path, F_OK) == 0) return fail_exists(ctx, run, "run.json");
  name_list list;
  SNTK_TRY(sntk_run_list(ctx, run->directory, is_points_name, &list));
  sntk_status status = SNTK_OK;
  for (size_t i = 0; i < list.count && status == SNTK_OK; i++) status = refuse_points(ctx, run, list.names[i]);
  sntk_run_names_free(&list);
  SNTK_TRY(status);
  char *results = sntk_format("%s/run.h5", run->directory);
  if (!results) return sntk_run_no_memory(ctx, run->directory);
  if (access(results, F_OK) == 0) status = fail_exists(ctx, run, "run.h5");
  free(results);
  return status;
}

static sntk_status take_lock(sntk_context *ctx, sntk_run *run) {
  while (flock(run->fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno == EWOULDBLOCK)
      return sntk_fail(
          ctx, SNTK_ERR_EXISTS,
          "%s: another process is writing this file (the same job started or requeued twice?); let it end, or stop "
          "it, or give another --out",
          run->own_path);
    /* Some cluster file systems are mounted without locks; refusing to work on them would help nobody. */
    return add_notice(
        ctx, run,
        sntk_format("%s: this file system has no locks (%s): see to it that no second process writes here",
                    run->own_path, strerror(errno)));
  }
  run->locked = true;
  return SNTK_OK;
}

/* The file that has the name once we hold its lock. One that its writer removed before it let the lock go is no file of
 * the run any more, and neither is its directory. */
static sntk_status lock_points(sntk_context *ctx, sntk_run *run) {
  enum { TRIES = 100 }; /* each a run that began and was withdrawn meanwhile */
  for (int i = 0; i < TRIES; i++) {
    SNTK_TRY(sntk_make_directories(ctx, run->directory, &run->made));
    const int flags = O_RDWR | O_APPEND | O_NOFOLLOW | O_NONBLOCK;
    run->fd = sntk_file_descriptor(run->own_path, flags);
    run->created = run->fd < 0 && errno == ENOENT;
    if (run->created) run->fd = sntk_file_descriptor(run->own_path, flags | O_CREAT | O_EXCL);
    if (run->fd < 0 && (errno == ENOENT || errno == EEXIST)) continue;
    if (run->fd < 0)
      return sntk_fail(ctx, SNTK_ERR_IO, "%s: cannot open it: %s", run->own_path,
                       errno == ELOOP ? "it is a symbolic link, and a run does not write through one; put the file "
                                        "in its place, or give the directory that it leads to as --out"
                                      : strerror(errno));
    const sntk_status status = take_lock(ctx, run);
    if (status != SNTK_OK) unlock(run);
    SNTK_TRY(status);
    if (!run->locked || sntk_file_is_at(run->fd, run->own_path)) return sntk_sync_parent(ctx, run->own_path);
    unlock(run);
  }
  return sntk_fail(ctx, SNTK_ERR_IO, "%s: another process keeps removing it; let that one end, or give another --out",
                   run->own_path);
}

/* Between the first look and the lock another process may have run to its end. */
static sntk_status refuse_late_existing(sntk_context *ctx, const sntk_run *run) {
  bool speaks;
  SNTK_TRY(speaks_of_points(ctx, run->fd, run->own_path, &speaks));
  if (speaks) return fail_exists(ctx, run, run->own_name);
  return access(run->json_path, F_OK) == 0 ? fail_exists(ctx, run, "run.json") : SNTK_OK;
}

/* Removes what opening made, while the lock is still held: a process that waits for it then finds no file of ours.
 * Without a lock the points file may be another's too, and stays. */
static void withdraw(sntk_run *run) {
  struct stat info;
  if (run->fd < 0 || fstat(run->fd, &info) != 0 || info.st_size > 0) return;
  if (run->ours) unlink(run->json_path);
  if (!run->locked || (!run->created && access(run->json_path, F_OK) == 0)) return;
  unlink(run->own_path);
  if (run->made) rmdir(run->directory); /* stays where something else is in it */
}

sntk_status sntk_run_open(sntk_context *ctx, const sntk_run_options *options, sntk_run **out) {
  SNTK_NEED(ctx, out, "run");
  *out = NULL;
  SNTK_NEED(ctx, ctx, "ctx");
  SNTK_NEED(ctx, options, "options");
  SNTK_NEED(ctx, options->directory, "options->directory");
  SNTK_NEED(ctx, options->command, "options->command");
  SNTK_NEED(ctx, options->config, "options->config");
  SNTK_TRY(check_options(ctx, options));
  sntk_run *run = NULL;
  json_t *previous = NULL;
  sntk_status status = run_create(ctx, options, &run);
  if (status == SNTK_OK) status = sntk_make_directories(ctx, run->directory, &run->made);
  if (status == SNTK_OK && !options->resume) status = refuse_existing(ctx, run);
  /* Before the lock, so that a refused resume leaves no file behind; after it again, since the counters may have moved.
   */
  if (status == SNTK_OK) status = sntk_run_read_previous(ctx, run, &previous);
  if (status == SNTK_OK) status = lock_points(ctx, run);
  if (status == SNTK_OK && !options->resume) status = refuse_late_existing(ctx, run);
  if (status == SNTK_OK) {
    json_decref(previous);
    status = sntk_run_read_previous(ctx, run, &previous);
  }
  if (status == SNTK_OK) status = read_all_points(ctx, run);
  if (status == SNTK_OK) run->ours = options->shard_count == 1 && !previous && run->count == 0;
  if (status == SNTK_OK) status = cut_torn_tail(ctx, run);
  if (status == SNTK_OK) status = sntk_run_make_document(ctx, run, previous);
  if (status == SNTK_OK) status = sntk_run_write_document(ctx, run, "running", "running");
  json_decref(previous);
  if (status != SNTK_OK) {
    if (run) withdraw(run);
    sntk_run_free(run);
    return status;
  }
  *out = run;
  return SNTK_OK;
}

sntk_status sntk_run_close(sntk_context *ctx, sntk_run *run, const char *status, const char *flags) {
  if (!run) return SNTK_OK;
  const sntk_status result = ctx && status ? sntk_run_finish(ctx, run, status, "done", flags)
                                           : sntk_fail(ctx, SNTK_ERR_ARGUMENT, "%s: ctx or status is NULL", __func__);
  sntk_run_free(run);
  return result;
}

bool sntk_run_discard(sntk_run *run) {
  if (!run->ours || run->count > 0 || run->kept) return false;
  withdraw(run);
  sntk_run_free(run);
  return true;
}
