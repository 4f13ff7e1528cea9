/**
 * @file test_run.c
 * @brief A run's directory (points, run.json, lock, resume, kills), JSON values, run.h5 and shards.
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <float.h>
#include <hdf5.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "backends/backend.h"
#include "cluster/shard.h"
#include "core/output.h"
#include "softntk/version.h"

enum { PATH_SIZE = 4096, TEXT_SIZE = 4096 };

static const char config_text[] =
    "{\"name\":\"example\",\"seed\":7,\"threads\":2,\"backend\":\"ref\",\"network\":{\"width\":64,\"sigma\":0.1},"
    "\"grid\":{\"network.width\":[64,128]}}";

typedef struct fixture {
  char root[PATH_SIZE / 4]; /* made by mkdtemp, removed with all it holds */
  char run[PATH_SIZE / 2];  /* root/run */
  char h5[PATH_SIZE];       /* root/run/run.h5 */
  sntk_context *ctx;
} fixture;

/* ---- helpers ----------------------------------------------------------------------------------------------------- */

static void remove_tree(const char *path) {
  DIR *stream = opendir(path);
  if (stream) {
    const struct dirent *entry;
    while ((entry = readdir(stream))) {
      char child[2 * PATH_SIZE];
      if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
      snprintf(child, sizeof child, "%s/%s", path, entry->d_name);
      remove_tree(child);
    }
    closedir(stream);
  }
  remove(path);
}

static int setup(void **state) {
  fixture *f = calloc(1, sizeof *f);
  const char *base = getenv("TMPDIR");
  if (!f) return -1;
  snprintf(f->root, sizeof f->root, "%s/softntk_run_XXXXXX", base && *base ? base : "/tmp");
  if (!mkdtemp(f->root) || sntk_context_create(&f->ctx) != SNTK_OK) return -1;
  snprintf(f->run, sizeof f->run, "%s/run", f->root);
  *state = f;
  return 0;
}

static int teardown(void **state) {
  fixture *f = *state;
  remove_tree(f->root);
  sntk_context_free(f->ctx);
  free(f);
  return 0;
}

/* A path below the run's directory, for one call: it is overwritten by the fourth after it. */
static const char *in_run(const fixture *f, const char *name) {
  static char paths[4][PATH_SIZE];
  static int next;
  char *path = paths[next++ % 4];
  snprintf(path, PATH_SIZE, "%s/%s", f->run, name);
  return path;
}

static bool exists(const char *path) { return access(path, F_OK) == 0; }

static char *read_text(const char *path, size_t *length) {
  FILE *file = fopen(path, "rb");
  assert_non_null(file);
  assert_int_equal(fseek(file, 0, SEEK_END), 0);
  const long size = ftell(file);
  rewind(file);
  char *text = malloc((size_t)size + 1);
  assert_non_null(text);
  assert_int_equal(fread(text, 1, (size_t)size, file), size);
  text[size] = '\0';
  fclose(file);
  if (length) *length = (size_t)size;
  return text;
}

static void write_text(const char *path, const char *text, size_t length) {
  FILE *file = fopen(path, "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(text, 1, length, file), length);
  assert_int_equal(fclose(file), 0);
}

static json_t *read_json(const char *path) {
  json_error_t error;
  json_t *value = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
  if (!value) fail_msg("%s:%d: %s", path, error.line, error.text);
  return value;
}

/* A line as the contract has it, made without the code under test. */
static void append_line(const char *path, const char *object) {
  FILE *file = fopen(path, "ab");
  assert_non_null(file);
  const size_t body = strlen(object) - 1;
  const unsigned long sum = crc32(0, (const unsigned char *)object, (unsigned)body);
  assert_true(fprintf(file, "%.*s,\"crc32\":\"%08lx\"}\n", (int)body, object, sum) > 0);
  assert_int_equal(fclose(file), 0);
}

static sntk_status open_run(const fixture *f, bool resume, int index, int count, sntk_run **run) {
  const sntk_run_options options = {.directory = f->run,
                                    .command = "sweep",
                                    .config = config_text,
                                    .resume = resume,
                                    .shard_index = index,
                                    .shard_count = count};
  return sntk_run_open(f->ctx, &options, run);
}

static sntk_status open_config(const fixture *f, const char *command, const char *config, sntk_run **run) {
  const sntk_run_options options = {
      .directory = f->run, .command = command, .config = config, .resume = true, .shard_index = 0, .shard_count = 1};
  return sntk_run_open(f->ctx, &options, run);
}

#define assert_ok(f, call)                                                                                             \
  do {                                                                                                                 \
    const sntk_status got_ = (call);                                                                                   \
    if (got_ != SNTK_OK) fail_msg("%s: %s", sntk_status_name(got_), sntk_context_error((f)->ctx));                     \
  } while (0)

/* The status, and every given word in the text. */
static void assert_fails(const fixture *f, sntk_status got, sntk_status wanted, const char *word, const char *second) {
  const char *text = sntk_context_error(f->ctx);
  if (got != wanted) fail_msg("%s instead of %s: %s", sntk_status_name(got), sntk_status_name(wanted), text);
  if (!strstr(text, word)) fail_msg("no '%s' in: %s", word, text);
  if (second && !strstr(text, second)) fail_msg("no '%s' in: %s", second, text);
}

static void point_text(char *text, int64_t number) {
  snprintf(text, TEXT_SIZE, "{\"kind\":\"train\",\"id\":\"p%06lld\",\"loss\":%.17g,\"run_seconds\":0.5}",
           (long long)number, 1.0 / (double)(number + 3));
}

static void add_points(const fixture *f, sntk_run *run, int64_t first, int64_t count) {
  char text[TEXT_SIZE];
  for (int64_t i = first; i < first + count; i++) {
    point_text(text, i);
    assert_ok(f, sntk_run_add(f->ctx, run, text));
  }
}

/* Starts a run with `count` points and closes it. */
static void make_run(const fixture *f, int64_t count) {
  sntk_run *run;
  assert_ok(f, open_run(f, false, 0, 1, &run));
  add_points(f, run, 0, count);
  assert_ok(f, sntk_run_close(f->ctx, run, "interrupted", NULL));
}

static void sleep_us(int64_t us) {
  const struct timespec time = {.tv_sec = us / 1000000, .tv_nsec = 1000 * (us % 1000000)};
  nanosleep(&time, NULL);
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

static void test_json_values(void **state) {
  (void)state;
  const double values[] = {0.1,     1.0,          -1.0 / 3.0, 1e-300, DBL_MAX,
                           DBL_MIN, DBL_TRUE_MIN, 0.0,        -0.0,   123456789.123456789};
  for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
    json_t *value = sntk_json_real(values[i]);
    char *text = sntk_json_text(value);
    assert_non_null(text);
    const double back = strtod(text, NULL);
    assert_memory_equal(&back, &values[i], sizeof back);
    free(text);
    json_decref(value);
  }
  const double broken[] = {NAN, INFINITY, -INFINITY};
  for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) assert_true(json_is_null(sntk_json_real(broken[i])));

  json_t *object = json_object();
  json_object_set_new(object, "z", sntk_json_real(0.1));
  json_object_set_new(object, "a", json_integer(2));
  json_object_set_new(object, "m", sntk_json_real(NAN));
  char *text = sntk_json_text(object);
  assert_string_equal(text, "{\"z\":0.10000000000000001,\"a\":2,\"m\":null}");
  free(text);
  json_decref(object);
}

/* ---- a run ------------------------------------------------------------------------------------------------------- */

static void test_fresh_run(void **state) {
  fixture *f = *state;
  snprintf(f->run, sizeof f->run, "%s/a//b/c/", f->root); /* parents are made */
  sntk_run *run;
  assert_ok(f, open_run(f, false, 0, 1, &run));
  assert_null(sntk_run_notice(run));
  assert_int_equal(sntk_run_count(run), 0);
  assert_null(sntk_run_point(run, 0));

  json_t *document = read_json(in_run(f, "run.json"));
  assert_string_equal(json_string_value(json_object_get(document, "status")), "running");
  assert_true(json_is_null(json_object_get(document, "device")));
  json_decref(document);

  const sntk_run_device device = {.backend = "cuda", .name = "an emulator", .threads = 3, .emulated = true};
  assert_ok(f, sntk_run_set_device(f->ctx, run, &device));
  const char first[] =
      "{ \"kind\": \"train\", \"id\": \"x=1\",\n \"loss\": 0.1, \"note\": \"\\u00e9\", \"bad\": null }";
  const char compact[] =
      "{\"kind\":\"train\",\"id\":\"x=1\",\"loss\":0.10000000000000001,\"note\":\"\xc3\xa9\",\"bad\":null}";
  assert_ok(f, sntk_run_add(f->ctx, run, first));
  json_t *second = json_pack("{s:s, s:s, s:o}", "kind", "ntk", "id", "x=1", "lambda_min", sntk_json_real(NAN));
  assert_ok(f, sntk_run_add_json(f->ctx, run, second));
  json_decref(second);
  assert_int_equal(sntk_run_count(run), 2);
  assert_string_equal(sntk_run_point(run, 0), compact);
  assert_ptr_equal(sntk_run_find(run, "train", "x=1"), sntk_run_point(run, 0));
  assert_ptr_equal(sntk_run_find(run, "ntk", "x=1"), sntk_run_point(run, 1));
  assert_null(sntk_run_find(run, "train", "x=2"));
  assert_null(sntk_run_point(run, 2));
  assert_null(sntk_run_point(run, -1));

  char *text = read_text(in_run(f, "points.jsonl"), NULL);
  append_line(in_run(f, "expected"), compact);
  append_line(in_run(f, "expected"), "{\"kind\":\"ntk\",\"id\":\"x=1\",\"lambda_min\":null}");
  char *expected = read_text(in_run(f, "expected"), NULL);
  assert_string_equal(text, expected);
  free(text);
  free(expected);

  assert_ok(f, sntk_run_close(f->ctx, run, "done", "{\"openblas\": \"0.3.21\"}"));
  document = read_json(in_run(f, "run.json"));
  static const char *const keys[] = {"schema",     "command",      "status",       "name",    "version",
                                     "git_commit", "started_time", "wall_seconds", "resumed", "config",
                                     "seed",       "device",       "libraries",    "flags"};
  const char *key;
  json_t *value;
  size_t i = 0;
  json_object_foreach(document, key, value) {
    assert_true(i < sizeof keys / sizeof *keys);
    assert_string_equal(key, keys[i++]);
  }
  assert_int_equal(i, sizeof keys / sizeof *keys);
  assert_int_equal(json_integer_value(json_object_get(document, "schema")), 1);
  assert_string_equal(json_string_value(json_object_get(document, "command")), "sweep");
  assert_string_equal(json_string_value(json_object_get(document, "status")), "done");
  assert_string_equal(json_string_value(json_object_get(document, "name")), "example");
  assert_string_equal(json_string_value(json_object_get(document, "version")), sntk_version());
  assert_string_equal(json_string_value(json_object_get(document, "git_commit")), sntk_git_commit());
  assert_int_equal(json_integer_value(json_object_get(document, "seed")), 7);
  assert_int_equal(json_integer_value(json_object_get(document, "resumed")), 0);
  assert_true(json_real_value(json_object_get(document, "wall_seconds")) > 0.0);
  int year, month, day, hour, minute, second_part, used = 0;
  const char *started = json_string_value(json_object_get(document, "started_time"));
  assert_int_equal(
      sscanf(started, "%4d-%2d-%2dT%2d:%2d:%2dZ%n", &year, &month, &day, &hour, &minute, &second_part, &used), 6);
  assert_int_equal(used, 20);
  assert_int_equal(strlen(started), 20);
  json_t *config = json_loads(config_text, 0, NULL);
  assert_true(json_equal(config, json_object_get(document, "config")));
  json_decref(config);
  json_t *expected_device =
      json_pack("{s:s, s:s, s:i, s:b}", "backend", "cuda", "name", "an emulator", "threads", 3, "emulated", 1);
  assert_true(json_equal(expected_device, json_object_get(document, "device")));
  json_decref(expected_device);
  const json_t *libraries = json_object_get(document, "libraries");
  assert_string_equal(json_string_value(json_object_get(libraries, "zlib")), zlibVersion());
  assert_string_equal(json_string_value(json_object_get(libraries, "jansson")), jansson_version_str());
  assert_non_null(json_object_get(libraries, "hdf5"));
  assert_string_equal(json_string_value(json_object_get(json_object_get(document, "flags"), "openblas")), "0.3.21");
  json_decref(document);

  text = read_text(in_run(f, "run.json"), NULL);
  assert_non_null(strstr(text, "\n  \"schema\": 1,\n  \"command\": \"sweep\",\n"));
  assert_non_null(strstr(text, "\"sigma\": 0.10000000000000001"));
  assert_true(text[strlen(text) - 1] == '\n');
  free(text);
}

/* A run that is killed has said what it ran on. */
static void test_device_of_the_context(void **state) {
  fixture *f = *state;
  static const sntk_backend backend = {.name = "a backend"};
  sntk_run *run;
  f->ctx->backend = &backend;
  snprintf(f->ctx->device_name, sizeof f->ctx->device_name, "a device");
  f->ctx->threads = 3;
  const sntk_status got = open_run(f, false, 0, 1, &run);
  f->ctx->backend = NULL; /* there is nothing to close */
  assert_ok(f, got);
  json_t *document = read_json(in_run(f, "run.json"));
  json_t *expected = json_pack("{s:s, s:s, s:i}", "backend", "a backend", "name", "a device", "threads", 3);
  assert_true(json_equal(expected, json_object_get(document, "device")));
  json_decref(expected);
  json_decref(document);
  assert_ok(f, sntk_run_close(f->ctx, run, "done", NULL));
}

static void test_existing_run_is_refused(void **state) {
  fixture *f = *state;
  static const char *const names[] = {"run.json", "points.jsonl", "points.3of7.jsonl", "run.h5"};
  sntk_run *run;
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    assert_int_equal(mkdir(f->run, 0777), 0);
    if (i == 1 || i == 2)
      append_line(in_run(f, names[i]), "{\"kind\":\"train\",\"id\":\"a\"}");
    else
      write_text(in_run(f, names[i]), "", 0);
    assert_fails(f, open_run(f, false, 0, 1, &run), SNTK_ERR_EXISTS, f->run, names[i]);
    assert_fails(f, SNTK_ERR_EXISTS, SNTK_ERR_EXISTS, "--resume", "--out");
    assert_null(run);
    assert_int_equal(exists(in_run(f, "points.jsonl")), i == 1); /* nothing was made */
    remove_tree(f->run);
  }
  /* A directory with other things is fine, and so is one that looks like a run at a glance only. */
  assert_int_equal(mkdir(f->run, 0777), 0);
  static const char *const others[] = {"notes.txt", "points.7of7.jsonl", "points.01of7.jsonl", "points.0of2.jsonl.bak",
                                       "points.csv"};
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) write_text(in_run(f, others[i]), "x", 1);
  assert_ok(f, open_run(f, false, 0, 1, &run));
  assert_int_equal(sntk_run_count(run), 0);
  assert_ok(f, sntk_run_close(f->ctx, run, "done", NULL));
}

static void test_directory_that_cannot_be_made(void **state) {
  fixture *f = *state;
  sntk_run *run;
  write_text(f->run, "x", 1);
  assert_fails(f, open_run(f, false, 0, 1, &run), SNTK_ERR_IO, f->run, "a file of that name");
  char path[PATH_SIZE];
  snprintf(path, sizeof path, "%s/below", f->run);
  const sntk_run_options options = {
      .directory = path, .command = "train", .config = "{}", .resume = false, .shard_index = 0, .shard_count = 1};
  assert_fails(f, sntk_run_open(f->ctx, &options, &run), SNTK_ERR_IO, f->run, "a file of that name");
  assert_null(run);
}

static void test_bad_options(void **state) {
  fixture *f = *state;
  sntk_run *run;
  assert_fails(f, open_run(f, false, 2, 2, &run), SNTK_ERR_ARGUMENT, "shard 2 of 2", NULL);
  assert_fails(f, open_run(f, false, -1, 2, &run), SNTK_ERR_ARGUMENT, "shard -1 of 2", NULL);
  assert_fails(f, open_run(f, false, 0, 0, &run), SNTK_ERR_ARGUMENT, "shard 0 of 0", NULL);
  assert_fails(f, open_config(f, "train", "[1]", &run), SNTK_ERR_ARGUMENT, "not a JSON object", NULL);
  assert_fails(f, open_config(f, "train", "{", &run), SNTK_ERR_ARGUMENT, "not JSON", NULL);
  assert_fails(f, open_config(f, "", "{}", &run), SNTK_ERR_ARGUMENT, "a command", NULL);
  assert_false(exists(f->run));
  assert_ok(f, sntk_run_close(f->ctx, NULL, "done", NULL));
}

static void test_resume(void **state) {
  fixture *f = *state;
  sntk_run *run;
  assert_ok(f, open_run(f, true, 0, 1, &run)); /* resume of an absent run starts it */
  add_points(f, run, 0, 3);
  sleep_us(20000);
  assert_ok(f, sntk_run_close(f->ctx, run, "interrupted", "{\"a\": 1, \"b\": 1}"));
  json_t *before = read_json(in_run(f, "run.json"));
  assert_string_equal(json_string_value(json_object_get(before, "status")), "interrupted");

  assert_ok(f, open_run(f, true, 0, 1, &run));
  assert_null(sntk_run_notice(run));
  assert_int_equal(sntk_run_count(run), 3);
  char text[TEXT_SIZE];
  for (int64_t i = 0; i < 3; i++) {
    char id[32];
    point_text(text, i);
    json_t *expected = json_loads(text, 0, NULL), *got = json_loads(sntk_run_point(run, i), 0, NULL);
    assert_true(json_equal(expected, got)); /* no checksum, all 17 digits */
    json_decref(expected);
    json_decref(got);
    snprintf(id, sizeof id, "p%06lld", (long long)i);
    assert_ptr_equal(sntk_run_find(run, "train", id), sntk_run_point(run, i));
  }
  point_text(text, 1);
  assert_fails(f, sntk_run_add(f->ctx, run, text), SNTK_ERR_ARGUMENT, "p000001", "recorded already");
  add_points(f, run, 3, 2);
  json_t *during = read_json(in_run(f, "run.json"));
  assert_string_equal(json_string_value(json_object_get(during, "status")), "running");
  assert_int_equal(json_integer_value(json_object_get(during, "resumed")), 1);
  assert_true(json_equal(json_object_get(during, "wall_seconds"), json_object_get(before, "wall_seconds")));
  json_decref(during);
  assert_ok(f, sntk_run_close(f->ctx, run, "done", "{\"b\": 2}"));

  json_t *after = read_json(in_run(f, "run.json"));
  assert_true(json_equal(json_object_get(after, "started_time"), json_object_get(before, "started_time")));
  assert_true(json_real_value(json_object_get(before, "wall_seconds")) >= 0.02);
  assert_true(json_real_value(json_object_get(after, "wall_seconds")) >
              json_real_value(json_object_get(before, "wall_seconds")));
  json_t *flags = json_pack("{s:i, s:i}", "a", 1, "b", 2);
  assert_true(json_equal(flags, json_object_get(after, "flags")));
  json_decref(flags);
  json_decref(before);
  json_decref(after);

  assert_ok(f, open_run(f, true, 0, 1, &run));
  assert_int_equal(sntk_run_count(run), 5);
  assert_ok(f, sntk_run_close(f->ctx, run, "failed", NULL));
}

static void test_changed_configuration_is_refused(void **state) {
  fixture *f = *state;
  sntk_run *run;
  make_run(f, 1);
  char *before = read_text(in_run(f, "run.json"), NULL);
  static const struct {
    const char *config, *word, *second;
  } cases[] = {
      {"{\"seed\":8,\"backend\":\"ref\",\"network\":{\"width\":65,\"sigma\":0.1},\"grid\":{\"network.width\":[64,128]}"
       "}",
       "seed is 8", "made with 7"},
      {"{\"seed\":7,\"backend\":\"cpu\",\"network\":{\"width\":64,\"sigma\":0.1},\"grid\":{\"network.width\":[64,128]}"
       "}",
       "backend is \"cpu\"", "made with \"ref\""},
      {"{\"seed\":7,\"backend\":\"ref\",\"network\":{\"width\":65,\"sigma\":0.1},\"grid\":{\"network.width\":[64,128]}"
       "}",
       "network.width is 65", "made with 64"},
      {"{\"seed\":7,\"backend\":\"ref\",\"network\":{\"width\":64,\"sigma\":0.2},\"grid\":{\"network.width\":[64,128]}"
       "}",
       "network.sigma is 0.2", "made with 0.1"},
      {"{\"seed\":7,\"backend\":\"ref\",\"network\":{\"width\":64,\"sigma\":0.10000000000000002},"
       "\"grid\":{\"network.width\":[64,128]}}",
       "0.10000000000000002", "0.10000000000000001"},
      {"{\"seed\":7,\"backend\":\"ref\",\"network\":{\"sigma\":0.1},\"grid\":{\"network.width\":[64,128]}}",
       "network.width is not given", "made with 64"},
      {"{\"seed\":7,\"backend\":\"ref\",\"network\":{\"width\":64,\"sigma\":0.1,\"name\":\"x\"},"
       "\"grid\":{\"network.width\":[64,128]}}",
       "network.name is \"x\"", "made with not given"},
      {"{\"seed\":7,\"backend\":\"ref\",\"network\":{\"width\":64,\"sigma\":0.1},\"grid\":{\"network.width\":[64,128,"
       "256]}}",
       "grid.network.width is [64,128,256]", "made with [64,128]"},
      {"{\"seed\":7,\"backend\":\"ref\",\"network\":{\"width\":64,\"sigma\":0.1}}", "grid is not given", "[64,128]"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    assert_fails(f, open_config(f, "sweep", cases[i].config, &run), SNTK_ERR_CONFIG, cases[i].word, cases[i].second);
    assert_null(run);
  }
  assert_fails(f, open_config(f, "ntk", config_text, &run), SNTK_ERR_CONFIG, "'sweep'", "'ntk'");
  char *after = read_text(in_run(f, "run.json"), NULL);
  assert_string_equal(before, after);
  free(before);
  free(after);

  /* name and threads may change, and the order of keys says nothing */
  assert_ok(f, open_config(f, "sweep",
                           "{\"backend\":\"ref\",\"grid\":{\"network.width\":[64,128]},\"seed\":7,\"threads\":16,"
                           "\"network\":{\"sigma\":0.1,\"width\":64}}",
                           &run));
  assert_int_equal(sntk_run_count(run), 1);
  assert_ok(f, sntk_run_close(f->ctx, run, "done", NULL));
}

static void test_damaged_run_json(void **state) {
  fixture *f = *state;
  sntk_run *run;
  make_run(f, 1);
  size_t length;
  char *text = read_text(in_run(f, "run.json"), &length);
  write_text(in_run(f, "run.json"), text, length / 2);
  assert_fails(f, open_run(f, true, 0, 1, &run), SNTK_ERR_DATA, "run.json:", "damaged");
  write_text(in_run(f, "run.json"), "", 0);
  assert_fails(f, open_run(f, true, 0, 1, &run), SNTK_ERR_DATA, "run.json:", "damaged");
  write_text(in_run(f, "run.json"), "{}\n", 3);
  assert_fails(f, open_run(f, true, 0, 1, &run), SNTK_ERR_DATA, "run.json:", "lacks");
  write_text(in_run(f, "run.json"), "[]\n", 3);
  assert_fails(f, open_run(f, true, 0, 1, &run), SNTK_ERR_DATA, "run.json:", "lacks");
  const char newer[] = "{\"schema\":2,\"command\":\"sweep\",\"config\":{}}";
  write_text(in_run(f, "run.json"), newer, strlen(newer));
  assert_fails(f, open_run(f, true, 0, 1, &run), SNTK_ERR_DATA, "schema 2", "reads schema 1");
  write_text(in_run(f, "run.json"), text, length);
  free(text);
  assert_ok(f, open_run(f, true, 0, 1, &run));
  assert_ok(f, sntk_run_close(f->ctx, run, "done", NULL));
}

static void test_bad_points(void **state) {
  fixture *f = *state;
  sntk_run *run;
  assert_ok(f, open_run(f, false, 0, 1, &run));
  static const char *const bad[][2] = {
      {"", "not JSON"},
      {"{\"kind\":\"a\",\"id\":\"b\"", "not JSON"},
      {"{\"kind\":\"a\",\"id\":\"b\",\"id\":\"c\"}", "duplicate"},
      {"{\"kind\":\"a\",\"id\":\"b\",\"loss\":NaN}", "not JSON"},
      {"{\"kind\":\"a\",\"id\":\"b\",\"loss\":1e999}", "not JSON"},
      {"[1]", "not a JSON object"},
      {"{}", "needs a \"kind\""},
      {"{\"id\":\"b\"}", "needs a \"kind\""},
      {"{\"kind\":1,\"id\":\"b\"}", "needs a \"kind\""},
      {"{\"kind\":\"\",\"id\":\"b\"}", "needs a \"kind\""},
      {"{\"kind\":\"a\"}", "needs an \"id\""},
      {"{\"kind\":\"a\",\"id\":null}", "needs an \"id\""},
      {"{\"kind\":\"a\",\"id\":\"\"}", "needs an \"id\""},
      {"{\"kind\":\"a\",\"id\":\"x\\ny\"}", "control characters"},
      {"{\"kind\":\"a\\u001fb\",\"id\":\"c\"}", "control characters"},
      {"{\"kind\":\"a\",\"id\":\"b\",\"crc32\":\"0\"}", "checksum"},
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    assert_fails(f, sntk_run_add(f->ctx, run, bad[i][0]), SNTK_ERR_ARGUMENT, "points.jsonl", bad[i][1]);
    assert_int_equal(sntk_run_count(run), 0);
  }
  add_points(f, run, 0, 1);
  char text[TEXT_SIZE];
  point_text(text, 0);
  assert_fails(f, sntk_run_add(f->ctx, run, text), SNTK_ERR_ARGUMENT, "p000000", "recorded already");
  assert_int_equal(sntk_run_count(run), 1);
  assert_fails(f, sntk_run_close(f->ctx, run, "over", NULL), SNTK_ERR_ARGUMENT, "'over'", "interrupted");
  assert_ok(f, open_run(f, true, 0, 1, &run)); /* the lock was released all the same */
  assert_int_equal(sntk_run_count(run), 1);
  assert_fails(f, sntk_run_close(f->ctx, run, "done", "[]"), SNTK_ERR_ARGUMENT, "flags", NULL);
}

/* ---- shards ------------------------------------------------------------------------------------------------------ */

static void test_shards_are_read_as_one(void **state) {
  fixture *f = *state;
  sntk_run *run, *other;
  assert_ok(f, open_run(f, false, 1, 2, &run));
  assert_true(exists(in_run(f, "run.json"))); /* of the shard that comes first */
  assert_true(exists(in_run(f, "points.1of2.jsonl")));
  add_points(f, run, 0, 2);
  const sntk_run_device device = {.backend = "ref", .name = "none", .threads = 1, .emulated = false};
  assert_ok(f, sntk_run_set_device(f->ctx, run, &device));
  /* Without resume a shared directory is an existing run. */
  assert_fails(f, open_run(f, false, 0, 2, &other), SNTK_ERR_EXISTS, "run.json", "--resume");
  assert_ok(f, open_run(f, true, 0, 2, &other)); /* at the same time as shard 1 */
  assert_int_equal(sntk_run_count(other), 2);
  assert_true(exists(in_run(f, "run.json")));
  add_points(f, other, 2, 2);
  assert_ok(f, sntk_run_close(f->ctx, run, "done", "{\"x\":1}"));
  json_t *document = read_json(in_run(f, "run.json"));
  assert_string_equal(json_string_value(json_object_get(document, "status")), "running");
  json_decref(document);
  assert_ok(f, sntk_run_close(f->ctx, other, "done", NULL));

  assert_ok(f, open_run(f, true, 10, 12, &run));
  assert_int_equal(sntk_run_count(run), 4);
  add_points(f, run, 4, 1);
  assert_ok(f, sntk_run_close(f->ctx, run, "done", NULL));
  assert_ok(f, open_run(f, true, 0, 1, &run));
  assert_int_equal(sntk_run_count(run), 5);
  assert_non_null(sntk_run_find(run, "train", "p000004"));
  assert_ok(f, sntk_run_close(f->ctx, run, "done", NULL));

  /* Every shard compares the configuration, and a refused one leaves no file. */
  const sntk_run_options changed = {.directory = f->run,
                                    .command = "sweep",
                                    .config = "{\"seed\":8}",
                                    .resume = true,
                                    .shard_index = 3,
                                    .shard_count = 4};
  assert_fails(f, sntk_run_open(f->ctx, &changed, &run), SNTK_ERR_CONFIG, "seed is 8", "7");
  assert_false(exists(in_run(f, "points.3of4.jsonl")));
}

static void test_same_point_in_two_files(void **state) {
  fixture *f = *state;
  sntk_run *run;
  make_run(f, 0);
  append_line(in_run(f, "points.0of2.jsonl"),
              "{\"kind\":\"train\",\"id\":\"a\",\"loss\":0.5,\"run_seconds\":1.5,\"h\":[{\"end_time\":1}]}");
  append_line(in_run(f, "points.1of2.jsonl"),
              "{\"h\":[{\"end_time\":2}],\"kind\":\"train\",\"id\":\"a\",\"loss\":0.5,\"setup_seconds\":2.5}");
  append_line(in_run(f, "points.1of2.jsonl"), "{\"kind\":\"ntk\",\"id\":\"a\",\"loss\":0.75}");
  assert_ok(f, open_run(f, true, 0, 1, &run));
  assert_null(sntk_run_notice(run));
  assert_int_equal(sntk_run_count(run), 2);
  assert_non_null(strstr(sntk_run_find(run, "train", "a"), "\"run_seconds\":1.5")); /* the first file's */
  assert_ok(f, sntk_run_close(f->ctx, run, "done", NULL));

  static const char *const different[] = {
      "{\"kind\":\"ntk\",\"id\":\"a\",\"loss\":0.25}",
      "{\"kind\":\"ntk\",\"id\":\"a\",\"loss\":null}",
      "{\"kind\":\"ntk\",\"id\":\"a\"}",
      "{\"kind\":\"ntk\",\"id\":\"a\",\"loss\":0.75,\"steps\":1}",
      "{\"kind\":\"train\",\"id\":\"a\",\"loss\":0.5,\"h\":[]}",
      "{\"kind\":\"train\",\"id\":\"a\",\"loss\":0.5,\"h\":[{\"end\":2}]}",
  };
  for (size_t i = 0; i < sizeof different / sizeof *different; i++) {
    append_line(in_run(f, "points.2of3.jsonl"), different[i]);
    assert_fails(f, open_run(f, true, 0, 1, &run), SNTK_ERR_DATA, "points.2of3.jsonl:1",
                 i < 4 ? "points.1of2.jsonl:2" : "points.0of2.jsonl:1");
    assert_int_equal(remove(in_run(f, "points.2of3.jsonl")), 0);
  }
}

static void test_same_point_twice_in_one_file(void **state) {
  fixture *f = *state;
  sntk_run *run;
  make_run(f, 0);
  append_line(in_run(f, "points.0of2.jsonl"), "{\"kind\":\"train\",\"id\":\"a\",\"loss\":0.5}");
  append_line(in_run(f, "points.1of2.jsonl"), "{\"kind\":\"train\",\"id\":\"a\",\"loss\":0.5,\"run_seconds\":1.5}");
  append_line(in_run(f, "points.1of2.jsonl"), "{\"kind\":\"train\",\"id\":\"a\",\"loss\":0.5,\"run_seconds\":2.5}");
  for (int files = 2; files > 0; files--) { /* with and without the first file */
    assert_ok(f, open_run(f, true, 0, 1, &run));
    assert_int_equal(sntk_run_count(run), 1);
    assert_non_null(strstr(sntk_run_notice(run), "points.1of2.jsonl: 1 lines repeat"));
    assert_null(strstr(sntk_run_notice(run), "points.0of2.jsonl"));
    assert_ok(f, sntk_run_close(f->ctx, run, "done", NULL));
    remove(in_run(f, "points.0of2.jsonl"));
  }
  append_line(in_run(f, "points.1of2.jsonl"), "{\"kind\":\"train\",\"id\":\"a\",\"loss\":0.25}");
  assert_fails(f, open_run(f, true, 0, 1, &run), SNTK_ERR_DATA, "points.1of2.jsonl:1 and points.1of2.jsonl:3",
               "remove the wrong line");
}

/* A line that is whole but no point was not torn by a kill: never dropped. */
static void test_sound_line_that_is_no_point(void **state) {
  fixture *f = *state;
  sntk_run *run;
  make_run(f, 1);
  append_line(in_run(f, "points.jsonl"), "{\"kind\":\"train\"}");
  assert_fails(f, open_run(f, true, 0, 1, &run), SNTK_ERR_DATA, "points.jsonl:2", "needs an \"id\"");
}

/* ---- damage ------------------------------------------------------------------------------------------------------ */

static void test_torn_tail_at_every_byte(void **state) {
  fixture *f = *state;
  sntk_run *run;
  make_run(f, 3);
  size_t length;
  char *text = read_text(in_run(f, "points.jsonl"), &length);
  size_t last = length - 1;
  while (text[last - 1] != '\n') last--;
  for (size_t cut = last; cut < length; cut++) {
    /* our own file: the tail is cut off, and the point can be added again */
    write_text(in_run(f, "points.jsonl"), text, cut);
    assert_ok(f, open_run(f, true, 0, 1, &run));
    assert_int_equal(sntk_run_count(run), 2);
    assert_null(sntk_run_find(run, "train", "p000002"));
    if (cut == last) {
      assert_null(sntk_run_notice(run));
    } else {
      assert_non_null(sntk_run_notice(run));
      assert_non_null(strstr(sntk_run_notice(run), "points.jsonl:3"));
    }
    size_t kept;
    char *now = read_text(in_run(f, "points.jsonl"), &kept);
    assert_int_equal(kept, last);
    assert_memory_equal(now, text, kept);
    free(now);
    add_points(f, run, 2, 1);
    assert_ok(f, sntk_run_close(f->ctx, run, "interrupted", NULL));
    now = read_text(in_run(f, "points.jsonl"), &kept);
    assert_int_equal(kept, length);
    assert_memory_equal(now, text, length);
    free(now);

    /* another shard's: ignored, and left as it is */
    write_text(in_run(f, "points.jsonl"), text, cut);
    assert_ok(f, open_run(f, true, 1, 2, &run));
    assert_int_equal(sntk_run_count(run), 2);
    if (cut == last) {
      assert_null(sntk_run_notice(run));
    } else {
      assert_non_null(strstr(sntk_run_notice(run), "points.jsonl:3: ignored"));
    }
    assert_ok(f, sntk_run_close(f->ctx, run, "interrupted", NULL));
    now = read_text(in_run(f, "points.jsonl"), &kept);
    assert_int_equal(kept, cut);
    free(now);
  }
  free(text);
}

static void test_flipped_byte(void **state) {
  fixture *f = *state;
  sntk_run *run;
  make_run(f, 3);
  size_t length, kept;
  char *text = read_text(in_run(f, "points.jsonl"), &length);
  const size_t first = (size_t)(strchr(text, '\n') - text), second = (size_t)(strchr(text + first + 1, '\n') - text);
  for (size_t i = 0; i < length; i++) {
    text[i] ^= 1;
    write_text(in_run(f, "points.jsonl"), text, length);
    text[i] ^= 1;
    if (i < second) { /* an earlier line: refused, and the file is left for its owner to look at */
      const char *where = i <= first ? "points.jsonl:1:" : "points.jsonl:2:";
      assert_fails(f, open_run(f, true, 0, 1, &run), SNTK_ERR_DATA, where, "damaged");
      free(read_text(in_run(f, "points.jsonl"), &kept));
      assert_int_equal(kept, length);
    } else { /* the last line: dropped; it is the last two where the newline between them is what was hit */
      assert_ok(f, open_run(f, true, 0, 1, &run));
      assert_int_equal(sntk_run_count(run), i == second ? 1 : 2);
      assert_non_null(strstr(sntk_run_notice(run), "dropped"));
      assert_ok(f, sntk_run_close(f->ctx, run, "interrupted", NULL));
    }
  }
  free(text);
}

/* A tail is cut only from a run that is otherwise sound. */
static void test_nothing_is_cut_from_a_refused_run(void **state) {
  fixture *f = *state;
  sntk_run *run;
  make_run(f, 2);
  size_t length, kept;
  char *text = read_text(in_run(f, "points.jsonl"), &length);
  write_text(in_run(f, "points.jsonl"), text, length - 5);
  free(text);
  append_line(in_run(f, "points.1of2.jsonl"), "{\"kind\":\"train\",\"id\":\"p000000\",\"loss\":-1.0}");
  assert_fails(f, open_run(f, true, 0, 1, &run), SNTK_ERR_DATA, "p000000", "differs");
  free(read_text(in_run(f, "points.jsonl"), &kept));
  assert_int_equal(kept, length - 5);
}

/* ---- two writers ------------------------------------------------------------------------------------------------- */

static void test_second_writer_is_refused(void **state) {
  fixture *f = *state;
  sntk_run *run, *second;
  assert_ok(f, open_run(f, false, 0, 1, &run));
  add_points(f, run, 0, 1);
  assert_fails(f, open_run(f, true, 0, 1, &second), SNTK_ERR_EXISTS, "another process is writing", "points.jsonl");
  assert_null(second);
  const pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) _exit(open_run(f, true, 0, 1, &second) == SNTK_ERR_EXISTS ? 0 : 1);
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
  add_points(f, run, 1, 1); /* the first writer is not disturbed */
  assert_ok(f, sntk_run_close(f->ctx, run, "interrupted", NULL));
  assert_ok(f, open_run(f, true, 0, 1, &second));
  assert_int_equal(sntk_run_count(second), 2);
  assert_ok(f, sntk_run_close(f->ctx, second, "done", NULL));
}

/* ---- a full disk ------------------------------------------------------------------------------------------------- */

typedef struct size_limit {
  struct rlimit before;
  struct sigaction action;
} size_limit;

static size_limit limit_file_size(size_t bytes) {
  size_limit limit;
  const struct sigaction ignore = {.sa_handler = SIG_IGN};
  assert_int_equal(sigaction(SIGXFSZ, &ignore, &limit.action), 0);
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit.before), 0);
  const struct rlimit small = {.rlim_cur = bytes, .rlim_max = limit.before.rlim_max};
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
  return limit;
}

static void lift_limit(const size_limit *limit) {
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit->before), 0);
  assert_int_equal(sigaction(SIGXFSZ, &limit->action, NULL), 0);
}

static void test_write_that_does_not_fit(void **state) {
  fixture *f = *state;
  sntk_run *run;
  assert_ok(f, open_run(f, false, 0, 1, &run));
  add_points(f, run, 0, 2);
  size_t length, line;
  char *before = read_text(in_run(f, "points.jsonl"), &length);
  line = length - (size_t)(strchr(before, '\n') - before) - 1;
  char text[TEXT_SIZE];
  point_text(text, 2);
  for (size_t room = 0; room < line; room++) {
    const size_limit limit = limit_file_size(length + room);
    const sntk_status got = sntk_run_add(f->ctx, run, text);
    lift_limit(&limit);
    assert_fails(f, got, SNTK_ERR_IO, "points.jsonl", strerror(EFBIG));
    assert_int_equal(sntk_run_count(run), 2);
    assert_null(sntk_run_find(run, "train", "p000002"));
    size_t kept;
    char *now = read_text(in_run(f, "points.jsonl"), &kept);
    assert_int_equal(kept, length);
    assert_memory_equal(now, before, length);
    free(now);
  }
  free(before);
  assert_ok(f, sntk_run_add(f->ctx, run, text)); /* once there is room */
  assert_ok(f, sntk_run_close(f->ctx, run, "interrupted", NULL));
  assert_ok(f, open_run(f, true, 0, 1, &run));
  assert_null(sntk_run_notice(run));
  assert_int_equal(sntk_run_count(run), 3);

  /* run.json that cannot be written leaves the old one */
  const size_limit limit = limit_file_size(16);
  const sntk_status got = sntk_run_close(f->ctx, run, "done", NULL);
  lift_limit(&limit);
  assert_fails(f, got, SNTK_ERR_IO, "run.json", strerror(EFBIG));
  json_t *document = read_json(in_run(f, "run.json"));
  assert_string_equal(json_string_value(json_object_get(document, "status")), "running");
  json_decref(document);
}

/* ---- kills ------------------------------------------------------------------------------------------------------- */

/* Adds points without end; *added counts those whose add returned. */
static void add_until_killed(const fixture *f, volatile int64_t *added) {
  sntk_run *run;
  if (open_run(f, true, 0, 1, &run) != SNTK_OK) _exit(1);
  for (int64_t i = sntk_run_count(run);; i++) {
    char text[TEXT_SIZE];
    point_text(text, i);
    if (sntk_run_add(f->ctx, run, text) != SNTK_OK) _exit(2);
    *added = i + 1;
  }
}

static void test_killed_writer_loses_no_finished_point(void **state) {
  fixture *f = *state;
  enum { TRIALS = 20, LONGEST_US = 30000 };
  volatile int64_t *added = mmap(NULL, sizeof *added, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  assert_true(added != MAP_FAILED);
  uint64_t random = 12345;
  int64_t total = 0;
  for (int trial = 0; trial < TRIALS; trial++) {
    const int64_t before = *added;
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) add_until_killed(f, added);
    /* every other kill may come before the first point, while the run is being opened */
    if (trial % 2 == 0)
      for (int wait = 0; *added == before && wait < 10000; wait++) sleep_us(1000);
    random = random * 6364136223846793005u + 1442695040888963407u;
    sleep_us((int64_t)((random >> 33) % LONGEST_US));
    assert_int_equal(kill(child, SIGKILL), 0);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status)); /* it met no error of its own */

    sntk_run *run;
    assert_ok(f, open_run(f, true, 0, 1, &run));
    total = sntk_run_count(run);
    assert_true(total >= *added && total <= *added + 1);
    for (int64_t i = 0; i < total; i++) {
      char id[32];
      snprintf(id, sizeof id, "p%06lld", (long long)i);
      assert_non_null(sntk_run_find(run, "train", id));
    }
    *added = total;
    assert_ok(f, sntk_run_close(f->ctx, run, "interrupted", NULL));
  }
  assert_true(total > 0);
  munmap((void *)added, sizeof *added);
}

/* Fails by the test's time limit where finding a point is a search through all of them. */
static void test_many_points(void **state) {
  fixture *f = *state;
  enum { POINTS = 100000 };
  make_run(f, 0);
  FILE *file = fopen(in_run(f, "points.0of2.jsonl"), "wb");
  assert_non_null(file);
  for (int64_t i = 0; i < POINTS; i++) {
    char text[TEXT_SIZE];
    point_text(text, i);
    const size_t body = strlen(text) - 1;
    fprintf(file, "%.*s,\"crc32\":\"%08lx\"}\n", (int)body, text,
            crc32(0, (const unsigned char *)text, (unsigned)body));
  }
  assert_int_equal(fclose(file), 0);
  sntk_run *run;
  assert_ok(f, open_run(f, true, 0, 1, &run));
  assert_int_equal(sntk_run_count(run), POINTS);
  for (int64_t i = 0; i < POINTS; i++) {
    char id[32];
    snprintf(id, sizeof id, "p%06lld", (long long)i);
    assert_ptr_equal(sntk_run_find(run, "train", id), sntk_run_point(run, i));
  }
  assert_ok(f, sntk_run_close(f->ctx, run, "done", NULL));
}

/* ---- run.h5 ------------------------------------------------------------------------------------------------------ */

static const char *h5_path(fixture *f) {
  mkdir(f->run, 0777);
  snprintf(f->h5, sizeof f->h5, "%s/run.h5", f->run);
  return f->h5;
}

/* Reads a whole dataset as `type` after checking its rank, shape, class and that it is contiguous and unfiltered. */
static void read_back(hid_t file, const char *name, hid_t stored, hid_t type, int64_t rows, int64_t cols, void *data) {
  const hid_t dataset = H5Dopen2(file, name, H5P_DEFAULT);
  assert_true(dataset >= 0);
  const hid_t space = H5Dget_space(dataset), creation = H5Dget_create_plist(dataset), type_there = H5Dget_type(dataset);
  hsize_t shape[2] = {0, 0};
  assert_int_equal(H5Sget_simple_extent_ndims(space), cols == 0 ? 1 : 2);
  H5Sget_simple_extent_dims(space, shape, NULL);
  assert_int_equal(shape[0], rows);
  assert_int_equal(shape[1], cols);
  assert_int_equal(H5Pget_layout(creation), H5D_CONTIGUOUS);
  assert_int_equal(H5Pget_nfilters(creation), 0);
  assert_true(H5Tequal(type_there, stored) > 0);
  if (data) assert_true(H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
  H5Tclose(type_there);
  H5Pclose(creation);
  H5Sclose(space);
  H5Dclose(dataset);
}

static hid_t open_h5(const char *path) {
  const hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
  assert_true(file >= 0);
  return file;
}

/* A file with one vector of `count` numbers, all `value`. */
static sntk_status write_h5(const fixture *f, const char *path, int64_t count, double value) {
  sntk_h5 *file;
  double *data = malloc((size_t)count * sizeof *data);
  if (!data) return SNTK_ERR_MEMORY;
  for (int64_t i = 0; i < count; i++) data[i] = value;
  sntk_status status = sntk_h5_create(f->ctx, path, &file);
  if (status == SNTK_OK) {
    status = sntk_h5_write_f64(f->ctx, file, "/history/loss", count, 0, data);
    const sntk_status closed = sntk_h5_close(f->ctx, file, true);
    if (status == SNTK_OK) status = closed;
  }
  free(data);
  return status;
}

static void test_h5_round_trip(void **state) {
  fixture *f = *state;
  const char *path = h5_path(f);
  sntk_h5 *file;
  const double d[6] = {0.1, -2.5, NAN, INFINITY, DBL_MAX, -0.0};
  const float s[4] = {0.1f, -1.0f, FLT_MIN, 3.0f};
  const int64_t l[2] = {INT64_MAX, INT64_MIN};
  const int8_t b[3] = {-1, 1, 127};
  assert_ok(f, sntk_h5_create(f->ctx, path, &file));
  assert_ok(f, sntk_h5_write_f64(f->ctx, file, "/gram", 2, 3, d));
  assert_ok(f, sntk_h5_write_f64(f->ctx, file, "/history/deep/loss", 6, 0, d));
  assert_ok(f, sntk_h5_write_i64(f->ctx, file, "/history/step", 2, 0, l));
  assert_ok(f, sntk_h5_write_f32(f->ctx, file, "/weights", 4, 1, s));
  assert_ok(f, sntk_h5_write_i8(f->ctx, file, "/signs", 1, 3, b));
  assert_ok(f, sntk_h5_write_f64(f->ctx, file, "/empty", 0, 0, NULL));
  assert_false(exists(path)); /* not before it is whole */
  assert_ok(f, sntk_h5_close(f->ctx, file, true));
  assert_false(exists(in_run(f, "run.h5.tmp")));

  double d2[6];
  float s2[4];
  int64_t l2[2];
  int8_t b2[3];
  const hid_t back = open_h5(path);
  read_back(back, "/gram", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, 2, 3, d2);
  assert_memory_equal(d, d2, sizeof d);
  read_back(back, "/history/deep/loss", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, 6, 0, d2);
  assert_memory_equal(d, d2, sizeof d);
  read_back(back, "/history/step", H5T_STD_I64LE, H5T_NATIVE_INT64, 2, 0, l2);
  assert_memory_equal(l, l2, sizeof l);
  read_back(back, "/weights", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 4, 1, s2);
  assert_memory_equal(s, s2, sizeof s);
  read_back(back, "/signs", H5T_STD_I8LE, H5T_NATIVE_INT8, 1, 3, b2);
  assert_memory_equal(b, b2, sizeof b);
  read_back(back, "/empty", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, 0, 0, NULL);
  assert_true(H5Fclose(back) >= 0);
}

static void test_h5_columns(void **state) {
  fixture *f = *state;
  const char *path = h5_path(f);
  enum { ROWS = 3, COLS = 7 };
  static const int64_t ranges[][2] = {{5, 2}, {0, 4}, {4, 1}, {7, 0}}; /* first, count; any order */
  double d[ROWS * COLS], d2[ROWS * COLS];
  float s[ROWS * COLS], s2[ROWS * COLS];
  int8_t b[ROWS * COLS], b2[ROWS * COLS];
  for (int i = 0; i < ROWS * COLS; i++) {
    d[i] = 1.0 / (i + 1);
    s[i] = (float)d[i];
    b[i] = (int8_t)(i - 10);
  }
  sntk_h5 *file;
  assert_ok(f, sntk_h5_create(f->ctx, path, &file));
  assert_ok(f, sntk_h5_begin(f->ctx, file, "/d", 'd', ROWS, COLS));
  assert_ok(f, sntk_h5_begin(f->ctx, file, "/part/f", 'f', ROWS, COLS));
  assert_ok(f, sntk_h5_begin(f->ctx, file, "/b", 'b', ROWS, COLS));
  for (size_t r = 0; r < sizeof ranges / sizeof *ranges; r++) {
    const int64_t first = ranges[r][0], count = ranges[r][1];
    double pd[ROWS * COLS];
    float ps[ROWS * COLS];
    int8_t pb[ROWS * COLS];
    for (int64_t i = 0; i < ROWS; i++)
      for (int64_t j = 0; j < count; j++) {
        pd[i * count + j] = d[i * COLS + first + j];
        ps[i * count + j] = s[i * COLS + first + j];
        pb[i * count + j] = b[i * COLS + first + j];
      }
    assert_ok(f, sntk_h5_write_columns(f->ctx, file, "/d", first, count, pd));
    assert_ok(f, sntk_h5_write_columns(f->ctx, file, "/part/f", first, count, ps));
    assert_ok(f, sntk_h5_write_columns(f->ctx, file, "/b", first, count, pb));
  }
  assert_ok(f, sntk_h5_close(f->ctx, file, true));
  const hid_t back = open_h5(path);
  read_back(back, "/d", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, ROWS, COLS, d2);
  read_back(back, "/part/f", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, ROWS, COLS, s2);
  read_back(back, "/b", H5T_STD_I8LE, H5T_NATIVE_INT8, ROWS, COLS, b2);
  assert_memory_equal(d, d2, sizeof d);
  assert_memory_equal(s, s2, sizeof s);
  assert_memory_equal(b, b2, sizeof b);
  assert_true(H5Fclose(back) >= 0);
}

static void assert_file_is(const char *path, const char *text, size_t length) {
  size_t now_length;
  char *now = read_text(path, &now_length);
  assert_int_equal(now_length, length);
  assert_memory_equal(now, text, length);
  free(now);
}

static void test_h5_refusals_leave_the_old_file(void **state) {
  fixture *f = *state;
  const char *path = h5_path(f);
  const double data[4] = {1, 2, 3, 4};
  assert_ok(f, write_h5(f, path, 100, 0.5));
  size_t length;
  char *before = read_text(path, &length);
  sntk_h5 *file;

  assert_ok(f, sntk_h5_create(f->ctx, path, &file));
  assert_ok(f, sntk_h5_write_f64(f->ctx, file, "/gram", 2, 2, data));
  assert_ok(f, sntk_h5_close(f->ctx, file, false)); /* given up */
  assert_false(exists(in_run(f, "run.h5.tmp")));
  assert_file_is(path, before, length);

  static const struct {
    int call; /* 0 write_f64, 1 begin, 2 write_columns */
    const char *name;
    int64_t a, b;
    sntk_status status;
    const char *word;
  } cases[] = {
      {0, "/gram", 2, 2, SNTK_ERR_IO, "/gram"}, /* there already */
      {0, "/gram/below", 2, 2, SNTK_ERR_IO, "/gram/below"},
      {0, "/x", -1, 2, SNTK_ERR_SHAPE, "-1 x 2"},
      {0, "/x", 2, -1, SNTK_ERR_SHAPE, "2 x -1"},
      {0, "/x", -1, 0, SNTK_ERR_SHAPE, "-1 x 0"},
      {0, "/x", INT64_C(1) << 60, 1, SNTK_ERR_SHAPE, "63 bits"}, /* 2^63 bytes */
      {0, "/x", INT64_C(1) << 32, INT64_C(1) << 31, SNTK_ERR_SHAPE, "63 bits"},
      {1, "/x", 2, 0, SNTK_ERR_ARGUMENT, "column"},
      {2, "/gram", 1, 2, SNTK_ERR_SHAPE, "its 2"},
      {2, "/gram", -1, 1, SNTK_ERR_SHAPE, "its 2"},
      {2, "/gram", INT64_MAX, INT64_MAX, SNTK_ERR_SHAPE, "its 2"},
      {2, "/absent", 0, 1, SNTK_ERR_IO, "/absent"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    assert_ok(f, sntk_h5_create(f->ctx, path, &file));
    assert_ok(f, sntk_h5_write_f64(f->ctx, file, "/gram", 2, 2, data));
    const int64_t a = cases[i].a, b = cases[i].b;
    const sntk_status got = cases[i].call == 0   ? sntk_h5_write_f64(f->ctx, file, cases[i].name, a, b, data)
                            : cases[i].call == 1 ? sntk_h5_begin(f->ctx, file, cases[i].name, 'd', a, b)
                                                 : sntk_h5_write_columns(f->ctx, file, cases[i].name, a, b, data);
    assert_fails(f, got, cases[i].status, path, cases[i].word);
    if (cases[i].status == SNTK_ERR_IO) assert_null(strstr(sntk_context_error(f->ctx), "no reason given"));
    /* what is not whole does not take the name, though the caller asks for it */
    assert_fails(f, sntk_h5_close(f->ctx, file, true), SNTK_ERR_IO, path, "earlier write");
    assert_false(exists(in_run(f, "run.h5.tmp")));
    assert_file_is(path, before, length);
  }
  free(before);

  assert_ok(f, sntk_h5_create(f->ctx, path, &file));
  assert_fails(f, sntk_h5_begin(f->ctx, file, "/x", 'l', 2, 2), SNTK_ERR_ARGUMENT, "'l'", "'f', 'd' and 'b'");
  assert_ok(f, sntk_h5_close(f->ctx, file, false));
  assert_ok(f, sntk_h5_close(f->ctx, NULL, true));
  char absent[PATH_SIZE];
  snprintf(absent, sizeof absent, "%s/absent/run.h5", f->root);
  assert_fails(f, sntk_h5_create(f->ctx, absent, &file), SNTK_ERR_IO, absent, strerror(ENOENT));
  assert_null(file);
}

static int host_reports;

static herr_t host_handler(hid_t stack, void *data) {
  (void)stack;
  (void)data;
  host_reports++;
  return 0;
}

static void test_h5_leaves_the_hosts_handler(void **state) {
  fixture *f = *state;
  const char *path = h5_path(f);
  H5E_auto2_t before, now;
  void *before_data, *now_data;
  int mark;
  assert_true(H5Eget_auto2(H5E_DEFAULT, &before, &before_data) >= 0);
  assert_true(H5Eset_auto2(H5E_DEFAULT, host_handler, &mark) >= 0);
  sntk_h5 *file;
  const double data[4] = {1, 2, 3, 4};
  assert_ok(f, sntk_h5_create(f->ctx, path, &file));
  assert_ok(f, sntk_h5_write_f64(f->ctx, file, "/gram", 2, 2, data));
  assert_int_equal(sntk_h5_write_f64(f->ctx, file, "/gram", 2, 2, data), SNTK_ERR_IO);
  assert_int_equal(sntk_h5_write_columns(f->ctx, file, "/x", 0, 1, data), SNTK_ERR_IO);
  assert_ok(f, sntk_h5_close(f->ctx, file, false));
  assert_int_equal(sntk_h5_create(f->ctx, "/nowhere/at/all.h5", &file), SNTK_ERR_IO);
  assert_int_equal(host_reports, 0);
  assert_true(H5Eget_auto2(H5E_DEFAULT, &now, &now_data) >= 0);
  assert_true(now == host_handler);
  assert_ptr_equal(now_data, &mark);
  assert_true(H5Dopen2(H5I_INVALID_HID, "x", H5P_DEFAULT) < 0); /* and it still works */
  assert_int_equal(host_reports, 1);
  H5Eset_auto2(H5E_DEFAULT, before, before_data);
}

/* HDF5's own locking would refuse a file that another descriptor has locked. */
static void test_h5_takes_no_lock(void **state) {
  fixture *f = *state;
  const char *path = h5_path(f);
  const int fd = open(in_run(f, "run.h5.tmp"), O_RDWR | O_CREAT, 0666);
  assert_true(fd >= 0);
  assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
  assert_ok(f, write_h5(f, path, 10, 1.0));
  close(fd);
}

static void test_h5_that_does_not_fit(void **state) {
  fixture *f = *state;
  const char *path = h5_path(f);
  assert_ok(f, write_h5(f, path, 100, 0.5));
  size_t length;
  char *before = read_text(path, &length);
  static const size_t limits[] = {0, 100, 800, 2048, 4096, 8192, 100000};
  for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
    const size_limit limit = limit_file_size(limits[i]);
    const sntk_status got = write_h5(f, path, 100000, 0.25);
    lift_limit(&limit);
    assert_fails(f, got, SNTK_ERR_IO, path, NULL);
    assert_file_is(path, before, length);
    assert_false(exists(in_run(f, "run.h5.tmp")));
  }
  free(before);
  assert_ok(f, write_h5(f, path, 100000, 0.25)); /* and the library is usable after it */
}

static void test_h5_killed_writer_leaves_a_whole_file(void **state) {
  fixture *f = *state;
  enum { TRIALS = 10, COUNT = 20000, LONGEST_US = 30000 };
  const char *path = h5_path(f);
  assert_ok(f, write_h5(f, path, COUNT, 0.0));
  double *data = malloc(COUNT * sizeof *data);
  assert_non_null(data);
  uint64_t random = 54321;
  for (int trial = 0; trial < TRIALS; trial++) {
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
      for (int i = 1;; i++)
        if (write_h5(f, path, COUNT, i) != SNTK_OK) _exit(1);
    random = random * 6364136223846793005u + 1442695040888963407u;
    sleep_us((int64_t)((random >> 33) % LONGEST_US));
    assert_int_equal(kill(child, SIGKILL), 0);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    const hid_t back = open_h5(path);
    read_back(back, "/history/loss", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, COUNT, 0, data);
    for (int i = 1; i < COUNT; i++) assert_true(data[i] == data[0]);
    assert_true(H5Fclose(back) >= 0);
  }
  free(data);
}

/* ---- shards of a sweep ------------------------------------------------------------------------------------------- */

static const char *const shard_variables[] = {"SLURM_ARRAY_TASK_ID",
                                              "SLURM_ARRAY_TASK_COUNT",
                                              "SLURM_ARRAY_TASK_MIN",
                                              "SLURM_ARRAY_TASK_MAX",
                                              "SLURM_ARRAY_TASK_STEP",
                                              "SLURM_PROCID",
                                              "SLURM_NTASKS",
                                              "SLURM_STEP_ID",
                                              "SLURM_STEP_NUM_TASKS",
                                              "OMPI_COMM_WORLD_RANK",
                                              "OMPI_COMM_WORLD_SIZE",
                                              "PMI_RANK",
                                              "PMI_SIZE"};

static void clear_shard_variables(void) {
  for (size_t i = 0; i < sizeof shard_variables / sizeof *shard_variables; i++) unsetenv(shard_variables[i]);
}

static void test_shard_text(void **state) {
  fixture *f = *state;
  sntk_shard shard;
  static const struct {
    const char *text;
    int index, count;
  } good[] = {{"0/1", 0, 1}, {"3/4", 3, 4}, {"999999/1000000", 999999, 1000000}};
  for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
    assert_ok(f, sntk_shard_parse(f->ctx, good[i].text, &shard));
    assert_int_equal(shard.index, good[i].index);
    assert_int_equal(shard.count, good[i].count);
  }
  static const char *const bad[] = {"",      "/",     "1",         "1/",           "/2",
                                    "0/0",   "2/2",   "3/2",       "-1/2",         "+1/2",
                                    " 1/2",  "1/2 ",  "1 /2",      "01/2",         "1/02",
                                    "1/2/3", "0x1/2", "1.0/2",     "a/b",          "1/2a",
                                    "AUTO",  "auto ", "0/1000001", "0/4294967297", "4294967296/4294967297"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    char quoted[64];
    snprintf(quoted, sizeof quoted, "'%s'", bad[i]);
    assert_fails(f, sntk_shard_parse(f->ctx, bad[i], &shard), SNTK_ERR_ARGUMENT, quoted, NULL);
  }
  for (int64_t item = 0; item < 10; item++) {
    int owners = 0;
    for (int i = 0; i < 3; i++) owners += sntk_shard_owns((sntk_shard){i, 3}, item);
    assert_int_equal(owners, 1);
    assert_true(sntk_shard_owns((sntk_shard){(int)(item % 3), 3}, item));
  }
}

static void test_shard_auto(void **state) {
  fixture *f = *state;
  enum { MOST = 8 };
  static const struct {
    const char *set[MOST]; /* NAME=value */
    int index, count;      /* count 0: refused */
    const char *word;
  } cases[] = {
      {{NULL}, 0, 0, "SLURM_ARRAY_TASK_ID, SLURM_PROCID, OMPI_COMM_WORLD_RANK and PMI_RANK"},
      {{"PMI_RANK=1", "PMI_SIZE=3"}, 1, 3, NULL},
      {{"PMI_RANK=1", "PMI_SIZE=3", "OMPI_COMM_WORLD_RANK=2", "OMPI_COMM_WORLD_SIZE=4"}, 2, 4, NULL},
      {{"SLURM_PROCID=5", "SLURM_NTASKS=6"}, 5, 6, NULL},
      /* mpirun within a batch script: Slurm's numbers are those of the script, or of a daemon */
      {{"SLURM_PROCID=0", "SLURM_NTASKS=4", "OMPI_COMM_WORLD_RANK=2", "OMPI_COMM_WORLD_SIZE=4"}, 2, 4, NULL},
      {{"SLURM_PROCID=1", "SLURM_NTASKS=8", "SLURM_STEP_NUM_TASKS=2", "PMI_RANK=5", "PMI_SIZE=8"}, 5, 8, NULL},
      /* srun; a step of fewer processes than the job; the one process of an interactive step */
      {{"SLURM_PROCID=0", "SLURM_NTASKS=4", "SLURM_STEP_ID=0", "SLURM_STEP_NUM_TASKS=4"}, 0, 4, NULL},
      {{"SLURM_PROCID=1", "SLURM_NTASKS=4", "SLURM_STEP_ID=0", "SLURM_STEP_NUM_TASKS=2"}, 1, 2, NULL},
      {{"SLURM_PROCID=0", "SLURM_NTASKS=4", "SLURM_STEP_ID=4294967290", "SLURM_STEP_NUM_TASKS=1"}, 0, 1, NULL},
      {{"SLURM_PROCID=2", "SLURM_STEP_ID=0", "SLURM_STEP_NUM_TASKS=2"}, 0, 0, "index 2"},
      /* a batch script without srun */
      {{"SLURM_PROCID=0", "SLURM_NTASKS=1"}, 0, 1, NULL},
      {{"SLURM_PROCID=0"}, 0, 1, NULL},
      {{"SLURM_PROCID=0", "SLURM_NTASKS=4"}, 0, 0, "start it with srun"},
      {{"SLURM_PROCID=0", "SLURM_NTASKS=4"}, 0, 0, "3 of 4 shards"},
      {{"SLURM_ARRAY_TASK_ID=1", "SLURM_ARRAY_TASK_COUNT=3", "SLURM_PROCID=0", "SLURM_NTASKS=4"}, 0, 0, "srun"},
      {{"SLURM_ARRAY_TASK_ID=1", "SLURM_ARRAY_TASK_COUNT=3", "SLURM_PROCID=0"}, 1, 3, NULL},
      {{"SLURM_ARRAY_TASK_ID=1", "SLURM_ARRAY_TASK_COUNT=3", "PMI_RANK=1", "PMI_SIZE=2"}, 3, 6, NULL},
      {{"SLURM_ARRAY_TASK_ID=2", "SLURM_ARRAY_TASK_COUNT=3"}, 2, 3, NULL},
      {{"SLURM_ARRAY_TASK_ID=3", "SLURM_ARRAY_TASK_COUNT=3", "SLURM_ARRAY_TASK_MIN=1", "SLURM_ARRAY_TASK_MAX=3"},
       2,
       3,
       NULL},
      {{"SLURM_ARRAY_TASK_ID=5", "SLURM_ARRAY_TASK_COUNT=4", "SLURM_ARRAY_TASK_MIN=1", "SLURM_ARRAY_TASK_MAX=7",
        "SLURM_ARRAY_TASK_STEP=2"},
       2,
       4,
       NULL},
      {{"SLURM_ARRAY_TASK_ID=1", "SLURM_ARRAY_TASK_COUNT=3", "SLURM_PROCID=0", "SLURM_NTASKS=1"}, 1, 3, NULL},
      {{"SLURM_ARRAY_TASK_ID=2", "SLURM_ARRAY_TASK_COUNT=3", "SLURM_ARRAY_TASK_MIN=1", "SLURM_PROCID=3",
        "SLURM_NTASKS=4"},
       7,
       12,
       NULL},
      {{"SLURM_ARRAY_TASK_ID=3", "SLURM_ARRAY_TASK_COUNT=3"}, 0, 0, "--array=0-7"},
      {{"SLURM_ARRAY_TASK_ID=0", "SLURM_ARRAY_TASK_COUNT=3", "SLURM_ARRAY_TASK_MIN=1"}, 0, 0, "--array=0-7"},
      {{"SLURM_ARRAY_TASK_ID=1", "SLURM_ARRAY_TASK_COUNT=2", "SLURM_ARRAY_TASK_MIN=1", "SLURM_ARRAY_TASK_MAX=5"},
       0,
       0,
       "not a whole range"},
      {{"SLURM_ARRAY_TASK_ID=2", "SLURM_ARRAY_TASK_COUNT=4", "SLURM_ARRAY_TASK_MIN=1", "SLURM_ARRAY_TASK_STEP=2"},
       0,
       0,
       "steps of 2"},
      {{"SLURM_ARRAY_TASK_ID=1", "SLURM_ARRAY_TASK_COUNT=1000", "SLURM_PROCID=3", "SLURM_NTASKS=1001"},
       0,
       0,
       "1001000"},
      {{"SLURM_ARRAY_TASK_ID=1"}, 0, 0, "SLURM_ARRAY_TASK_COUNT is not"},
      {{"SLURM_NTASKS=4"}, 0, 0, "SLURM_PROCID is not"},
      {{"SLURM_PROCID=4", "SLURM_NTASKS=4"}, 0, 0, "index 4"},
      {{"PMI_RANK=x", "PMI_SIZE=3"}, 0, 0, "PMI_RANK is 'x'"},
      {{"PMI_RANK=-1", "PMI_SIZE=3"}, 0, 0, "PMI_RANK is '-1'"},
      {{"PMI_RANK=0", "PMI_SIZE="}, 0, 0, "PMI_SIZE is ''"},
      {{"PMI_RANK=0", "PMI_SIZE=0"}, 0, 0, "0 shards"},
      {{"PMI_RANK=0", "PMI_SIZE=2000000"}, 0, 0, "2000000"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    clear_shard_variables();
    for (int v = 0; v < MOST && cases[i].set[v]; v++) {
      char name[64];
      const char *equals = strchr(cases[i].set[v], '=');
      snprintf(name, sizeof name, "%.*s", (int)(equals - cases[i].set[v]), cases[i].set[v]);
      assert_int_equal(setenv(name, equals + 1, 1), 0);
    }
    sntk_shard shard;
    const sntk_status got = sntk_shard_parse(f->ctx, "auto", &shard);
    if (cases[i].count == 0) {
      assert_fails(f, got, SNTK_ERR_ARGUMENT, "--shard auto", cases[i].word);
    } else {
      assert_ok(f, got);
      assert_int_equal(shard.index, cases[i].index);
      assert_int_equal(shard.count, cases[i].count);
    }
  }
  clear_shard_variables();
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_json_values),
      cmocka_unit_test_setup_teardown(test_fresh_run, setup, teardown),
      cmocka_unit_test_setup_teardown(test_device_of_the_context, setup, teardown),
      cmocka_unit_test_setup_teardown(test_existing_run_is_refused, setup, teardown),
      cmocka_unit_test_setup_teardown(test_directory_that_cannot_be_made, setup, teardown),
      cmocka_unit_test_setup_teardown(test_bad_options, setup, teardown),
      cmocka_unit_test_setup_teardown(test_resume, setup, teardown),
      cmocka_unit_test_setup_teardown(test_changed_configuration_is_refused, setup, teardown),
      cmocka_unit_test_setup_teardown(test_damaged_run_json, setup, teardown),
      cmocka_unit_test_setup_teardown(test_bad_points, setup, teardown),
      cmocka_unit_test_setup_teardown(test_shards_are_read_as_one, setup, teardown),
      cmocka_unit_test_setup_teardown(test_same_point_in_two_files, setup, teardown),
      cmocka_unit_test_setup_teardown(test_same_point_twice_in_one_file, setup, teardown),
      cmocka_unit_test_setup_teardown(test_sound_line_that_is_no_point, setup, teardown),
      cmocka_unit_test_setup_teardown(test_torn_tail_at_every_byte, setup, teardown),
      cmocka_unit_test_setup_teardown(test_flipped_byte, setup, teardown),
      cmocka_unit_test_setup_teardown(test_nothing_is_cut_from_a_refused_run, setup, teardown),
      cmocka_unit_test_setup_teardown(test_second_writer_is_refused, setup, teardown),
      cmocka_unit_test_setup_teardown(test_write_that_does_not_fit, setup, teardown),
      cmocka_unit_test_setup_teardown(test_killed_writer_loses_no_finished_point, setup, teardown),
      cmocka_unit_test_setup_teardown(test_many_points, setup, teardown),
      cmocka_unit_test_setup_teardown(test_h5_round_trip, setup, teardown),
      cmocka_unit_test_setup_teardown(test_h5_columns, setup, teardown),
      cmocka_unit_test_setup_teardown(test_h5_refusals_leave_the_old_file, setup, teardown),
      cmocka_unit_test_setup_teardown(test_h5_leaves_the_hosts_handler, setup, teardown),
      cmocka_unit_test_setup_teardown(test_h5_takes_no_lock, setup, teardown),
      cmocka_unit_test_setup_teardown(test_h5_that_does_not_fit, setup, teardown),
      cmocka_unit_test_setup_teardown(test_h5_killed_writer_leaves_a_whole_file, setup, teardown),
      cmocka_unit_test_setup_teardown(test_shard_text, setup, teardown),
      cmocka_unit_test_setup_teardown(test_shard_auto, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
