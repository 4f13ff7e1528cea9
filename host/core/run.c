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
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "core/files.h"
#include "core/output.h"
#include "softntk/version.h"

enum {
  SCHEMA = 1,
  CHECKSUM_CHARS = 20, /* ,"crc32":"xxxxxxxx"} */
  PATH_CHARS = 256,    /* a dotted key in a message */
  VALUE_CHARS = 120    /* a value in a message */
};

typedef struct run_point {
  char *text;
  const char *file; /* name of the points file it was read from, or that it was added to */
  int64_t line;     /* 0 where it was added by us */
  const char *seen; /* the file read last that holds it */
} run_point;

typedef struct name_list {
  char **names;
  size_t count;
} name_list;

struct sntk_run {
  char *directory, *own_name, *own_path, *json_path, *temporary;
  char *command;
  json_t *config;
  char *notice;
  bool describes;   /* shard 0: run.json is ours */
  bool ours;        /* not sharded, and nothing was there when it was opened */
  bool made;        /* the directory was not there */
  json_t *document; /* run.json */
  double wall_before, started;
  name_list files;
  run_point *points;
  int64_t count, capacity;
  json_t *index; /* kind -> id -> number of the point: looked up without memory of its own */
  int64_t twice; /* lines that repeat another of their file */
  int fd;
  bool locked;    /* false where the file system has no locks */
  int64_t length; /* bytes of whole lines in our file */
  bool torn;      /* up to torn_bytes beyond `length` could not be cut off yet */
  size_t torn_bytes;
};

static sntk_status out_of_memory(sntk_context *ctx, const char *path) {
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

static void names_free(name_list *list) {
  for (size_t i = 0; i < list->count; i++) free(list->names[i]);
  free(list->names);
  *list = (name_list){NULL, 0};
}

static int compare_names(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* The points files of a directory in sorted order. */
static sntk_status list_points(sntk_context *ctx, const char *directory, name_list *list) {
  *list = (name_list){NULL, 0};
  DIR *stream = opendir(directory);
  if (!stream) return sntk_fail(ctx, SNTK_ERR_IO, "%s: cannot open the directory: %s", directory, strerror(errno));
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
    if (!is_points_name(entry->d_name)) continue;
    if (list->count == capacity) {
      capacity = 2 * capacity + 8;
      char **names = realloc(list->names, capacity * sizeof *names);
      if (!names) {
        status = out_of_memory(ctx, directory);
        break;
      }
      list->names = names;
    }
    if (!(list->names[list->count] = sntk_format("%s", entry->d_name))) {
      status = out_of_memory(ctx, directory);
      break;
    }
    list->count++;
  }
  closedir(stream);
  if (status == SNTK_OK && list->count > 1) qsort(list->names, list->count, sizeof *list->names, compare_names);
  if (status != SNTK_OK) names_free(list);
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
    if (!points) return out_of_memory(ctx, run->own_path);
    run->points = points;
    run->capacity = capacity;
  }
  json_t *ids = json_object_get(run->index, kind);
  if (!ids && json_object_set_new(run->index, kind, ids = json_object()) != 0) return out_of_memory(ctx, run->own_path);
  if (json_object_set_new(ids, id, json_integer(run->count)) != 0) return out_of_memory(ctx, run->own_path);
  run->points[run->count++] = (run_point){text, file, line, file};
  return SNTK_OK;
}

/* The point remembered last; its text is not freed. */
static void forget_last(sntk_run *run, const char *kind, const char *id) {
  json_object_del(json_object_get(run->index, kind), id);
  run->count--;
}

static bool ends_in(const char *text, const char *suffix) {
  const size_t length = strlen(text), end = strlen(suffix);
  return length >= end && strcmp(text + length - end, suffix) == 0;
}

/* Members that may differ between identical runs. */
static bool is_timing(const char *key) { return ends_in(key, "_seconds") || ends_in(key, "_time"); }

static bool same_result(const json_t *a, const json_t *b) {
  const char *key;
  json_t *value;
  size_t i;
  if (json_is_array(a) && json_is_array(b)) {
    if (json_array_size(a) != json_array_size(b)) return false;
    json_array_foreach(a, i, value) if (!same_result(value, json_array_get(b, i))) return false;
    return true;
  }
  if (!json_is_object(a) || !json_is_object(b)) return json_equal(a, b);
  json_object_foreach((json_t *)a, key, value) {
    const json_t *other = json_object_get(b, key);
    if (!is_timing(key) && (!other || !same_result(value, other))) return false;
  }
  json_object_foreach((json_t *)b, key, value) if (!is_timing(key) && !json_object_get(a, key)) return false;
  return true;
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
  if (!before) return out_of_memory(ctx, run->own_path);
  const bool same = same_result(before, point);
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
  if (!point && sntk_json_lost()) return out_of_memory(ctx, run->own_path);
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
    status = text ? remember(ctx, run, kind, id, text, file, line) : out_of_memory(ctx, run->own_path);
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
  if (!text) return out_of_memory(ctx, run->own_path);
  free(run->notice);
  run->notice = text;
  return SNTK_OK;
}

/* Reads one points file; *whole is the length of its whole lines. */
static sntk_status read_points(sntk_context *ctx, sntk_run *run, int fd, const char *file, bool own, int64_t *whole) {
  char *text;
  int64_t length;
  char *path = sntk_format("%s/%s", run->directory, file);
  if (!path) return out_of_memory(ctx, file);
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

static sntk_status read_all_points(sntk_context *ctx, sntk_run *run) {
  SNTK_TRY(list_points(ctx, run->directory, &run->files));
  for (size_t i = 0; i < run->files.count; i++) {
    const char *name = run->files.names[i];
    const bool own = strcmp(name, run->own_name) == 0;
    int64_t whole;
    if (own) {
      SNTK_TRY(read_points(ctx, run, run->fd, name, true, &run->length));
      continue;
    }
    char *path = sntk_format("%s/%s", run->directory, name);
    const int fd = path ? sntk_file_descriptor(path, O_RDONLY | O_NONBLOCK) : -1;
    sntk_status status = SNTK_OK;
    if (!path)
      status = out_of_memory(ctx, run->directory);
    else if (fd < 0 && errno != ENOENT)
      status = sntk_fail(ctx, SNTK_ERR_IO, "%s: cannot open it: %s", path, strerror(errno));
    free(path);
    if (status == SNTK_OK && fd >= 0) status = read_points(ctx, run, fd, name, false, &whole);
    if (fd >= 0) close(fd);
    SNTK_TRY(status);
  }
  return SNTK_OK;
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
  sntk_status status = out_of_memory(ctx, run->own_path);
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
  json_error_t error;
  json_t *value = sntk_json_parse(point, strlen(point), &error);
  if (!value && sntk_json_lost()) return out_of_memory(ctx, run->own_path);
  if (!value)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "%s: the point is not JSON: line %d, column %d: %s", run->own_path,
                     error.line, error.column, error.text);
  const sntk_status status = sntk_run_add_json(ctx, run, value);
  json_decref(value);
  return status;
}

const char *sntk_run_notice(const sntk_run *run) { return run->notice; }

int64_t sntk_run_count(const sntk_run *run) { return run->count; }

const char *sntk_run_point(const sntk_run *run, int64_t index) {
  return index >= 0 && index < run->count ? run->points[index].text : NULL;
}

const char *sntk_run_find(const sntk_run *run, const char *kind, const char *id) {
  const run_point *point = lookup(run, kind, id);
  return point ? point->text : NULL;
}

/* ---- run.json ---------------------------------------------------------------------------------------------------- */

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

/* Reads the run.json that is there, if any, and checks that it is of the same command and configuration. */
static sntk_status read_previous(sntk_context *ctx, const sntk_run *run, json_t **previous) {
  *previous = NULL;
  const int fd = sntk_file_descriptor(run->json_path, O_RDONLY | O_NONBLOCK);
  if (fd < 0 && errno == ENOENT) return SNTK_OK;
  if (fd < 0) return sntk_fail(ctx, SNTK_ERR_IO, "%s: cannot open it: %s", run->json_path, strerror(errno));
  char *text;
  int64_t length;
  sntk_status status = sntk_file_read(ctx, fd, run->json_path, &text, &length);
  close(fd);
  if (status != SNTK_OK) return status;
  json_error_t error;
  json_t *document = sntk_json_parse(text, (size_t)length, &error);
  free(text);
  if (!document && sntk_json_lost()) return out_of_memory(ctx, run->json_path);
  const json_t *schema = json_object_get(document, "schema"), *config = json_object_get(document, "config");
  const char *command = json_string_value(json_object_get(document, "command"));
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
    *previous = document;
  else
    json_decref(document);
  return status;
}

static json_t *device_object(const char *backend, const char *name, int threads, bool emulated) {
  json_t *object = json_pack("{s:s, s:s, s:i}", "backend", backend, "name", name, "threads", threads);
  if (object && emulated && json_object_set_new(object, "emulated", json_true()) != 0) {
    json_decref(object);
    return NULL;
  }
  return object;
}

sntk_status sntk_run_set_device(sntk_context *ctx, sntk_run *run, const sntk_run_device *device) {
  if (!run->describes) return SNTK_OK;
  json_t *object = device_object(device->backend, device->name, device->threads, device->emulated);
  if (!object || json_object_set_new(run->document, "device", object) != 0) return out_of_memory(ctx, run->json_path);
  return SNTK_OK;
}

static json_t *libraries_object(void) {
  return json_pack("{s:s, s:s, s:s}", "hdf5", sntk_h5_version(), "jansson", jansson_version_str(), "zlib",
                   zlibVersion());
}

/* The members in the order in which run.json shows them; `previous` may be NULL. */
static sntk_status make_document(sntk_context *ctx, sntk_run *run, const json_t *previous) {
  const json_t *started = json_object_get(previous, "started_time"), *flags = json_object_get(previous, "flags");
  const json_int_t resumed = previous ? json_integer_value(json_object_get(previous, "resumed")) + 1 : 0;
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
  failed |= json_object_set_new(document, "resumed", json_integer(resumed));
  failed |= json_object_set(document, "config", run->config);
  if (seed) failed |= json_object_set(document, "seed", seed);
  failed |= json_object_set_new(document, "device", device);
  failed |= json_object_set_new(document, "libraries", libraries_object());
  failed |= json_object_set_new(document, "flags", json_is_object(flags) ? json_deep_copy(flags) : json_object());
  if (failed || sntk_json_lost())
    return sntk_fail(ctx, SNTK_ERR_MEMORY, "%s: no memory for it, or a text in it is not UTF-8", run->json_path);
  return SNTK_OK;
}

static sntk_status write_document(sntk_context *ctx, const sntk_run *run) {
  char *text = sntk_json_lines(run->document);
  if (!text) return out_of_memory(ctx, run->json_path);
  const size_t length = strlen(text);
  text[length] = '\n'; /* in place of the terminator: what is written is counted */
  sntk_status status = SNTK_OK;
  const int fd = sntk_file_create(run->temporary);
  if (fd < 0 || !sntk_file_write(fd, text, length + 1))
    status = sntk_fail(ctx, SNTK_ERR_IO, "%s: cannot write it: %s", run->temporary, strerror(errno));
  free(text);
  if (status == SNTK_OK) status = sntk_replace_file(ctx, fd, run->temporary, run->json_path);
  if (fd >= 0 && status != SNTK_OK && sntk_file_is_at(fd, run->temporary)) unlink(run->temporary);
  if (fd >= 0) close(fd); /* it is synced: nothing is left that could fail */
  return status;
}

/* ---- opening and closing ----------------------------------------------------------------------------------------- */

static void unlock(sntk_run *run) {
  if (run->fd >= 0) close(run->fd); /* releases the lock */
  run->fd = -1;
  run->locked = false;
}

static void run_free(sntk_run *run) {
  if (!run) return;
  unlock(run);
  for (int64_t i = 0; i < run->count; i++) free(run->points[i].text);
  free(run->points);
  names_free(&run->files);
  json_decref(run->index);
  json_decref(run->document);
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
  if (!run) return out_of_memory(ctx, options->directory);
  run->fd = -1;
  run->started = sntk_seconds();
  run->describes = options->shard_index == 0;
  run->directory = sntk_format("%s", options->directory);
  run->command = sntk_format("%s", options->command);
  run->own_name = options->shard_count == 1
                      ? sntk_format("points.jsonl")
                      : sntk_format("points.%dof%d.jsonl", options->shard_index, options->shard_count);
  run->index = json_object();
  if (!run->directory || !run->command || !run->own_name || !run->index) return out_of_memory(ctx, options->directory);
  for (size_t end = strlen(run->directory); end > 1 && run->directory[end - 1] == '/'; end--)
    run->directory[end - 1] = '\0';
  run->own_path = sntk_format("%s/%s", run->directory, run->own_name);
  run->json_path = sntk_format("%s/run.json", run->directory);
  /* Named after the points file, whose lock we hold: two numbers of shards at once both have a shard 0. */
  run->temporary = sntk_format("%s/run.json.%s.tmp", run->directory, run->own_name);
  if (!run->own_path || !run->json_path || !run->temporary) return out_of_memory(ctx, options->directory);
  json_error_t error;
  run->config = sntk_json_parse(options->config, strlen(options->config), &error);
  if (!run->config && sntk_json_lost()) return out_of_memory(ctx, options->directory);
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
  if (!path) return out_of_memory(ctx, run->directory);
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
  SNTK_TRY(list_points(ctx, run->directory, &list));
  sntk_status status = SNTK_OK;
  for (size_t i = 0; i < list.count && status == SNTK_OK; i++) status = refuse_points(ctx, run, list.names[i]);
  names_free(&list);
  SNTK_TRY(status);
  char *results = sntk_format("%s/run.h5", run->directory);
  if (!results) return out_of_memory(ctx, run->directory);
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
    run->fd = sntk_file_descriptor(run->own_path, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK);
    if (run->fd < 0 && errno == ENOENT) continue;
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
  if (!run->locked || access(run->json_path, F_OK) == 0) return;
  unlink(run->own_path);
  if (run->made) rmdir(run->directory); /* stays where something else is in it */
}

sntk_status sntk_run_open(sntk_context *ctx, const sntk_run_options *options, sntk_run **out) {
  *out = NULL;
  SNTK_TRY(check_options(ctx, options));
  sntk_run *run = NULL;
  json_t *previous = NULL;
  sntk_status status = run_create(ctx, options, &run);
  if (status == SNTK_OK) status = sntk_make_directories(ctx, run->directory, &run->made);
  if (status == SNTK_OK && !options->resume) status = refuse_existing(ctx, run);
  /* Before the lock, so that a refused resume leaves no file behind; after it again, since the counters may have moved.
   */
  if (status == SNTK_OK) status = read_previous(ctx, run, &previous);
  if (status == SNTK_OK) status = lock_points(ctx, run);
  if (status == SNTK_OK && !options->resume) status = refuse_late_existing(ctx, run);
  if (status == SNTK_OK) {
    json_decref(previous);
    status = read_previous(ctx, run, &previous);
  }
  if (status == SNTK_OK) status = read_all_points(ctx, run);
  if (status == SNTK_OK) run->ours = options->shard_count == 1 && !previous && run->count == 0;
  if (status == SNTK_OK) status = cut_torn_tail(ctx, run);
  if (status == SNTK_OK && run->describes) status = make_document(ctx, run, previous);
  if (status == SNTK_OK && run->describes) status = write_document(ctx, run);
  json_decref(previous);
  if (status != SNTK_OK) {
    if (run) withdraw(run);
    run_free(run);
    return status;
  }
  *out = run;
  return SNTK_OK;
}

static sntk_status finish_document(sntk_context *ctx, sntk_run *run, const char *status_word, const char *flags) {
  static const char *const words[] = {"done", "interrupted", "failed"};
  bool known = false;
  for (size_t i = 0; i < sizeof words / sizeof *words; i++) known |= strcmp(status_word, words[i]) == 0;
  if (!known)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "%s: status '%s'; a run ends done, interrupted or failed", run->directory,
                     status_word);
  json_error_t error;
  json_t *members = flags ? sntk_json_parse(flags, strlen(flags), &error) : json_object();
  if (!members && (!flags || sntk_json_lost())) return out_of_memory(ctx, run->json_path);
  if (!json_is_object(members)) {
    json_decref(members);
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "%s: the flags are not a JSON object", run->directory);
  }
  sntk_json_watch();
  int failed = json_object_update(json_object_get(run->document, "flags"), members);
  json_decref(members);
  failed |= json_object_set_new(run->document, "status", json_string(status_word));
  failed |=
      json_object_set_new(run->document, "wall_seconds", json_real(run->wall_before + sntk_seconds() - run->started));
  return failed || sntk_json_lost() ? out_of_memory(ctx, run->json_path) : write_document(ctx, run);
}

sntk_status sntk_run_close(sntk_context *ctx, sntk_run *run, const char *status, const char *flags) {
  if (!run) return SNTK_OK;
  const sntk_status result = run->describes ? finish_document(ctx, run, status, flags) : SNTK_OK;
  run_free(run);
  return result;
}

bool sntk_run_discard(sntk_run *run) {
  if (!run->ours || run->count > 0) return false;
  withdraw(run);
  run_free(run);
  return true;
}
