/**
 * @file test_run_files.c
 * @brief A run's files among other processes, links, closed descriptors, file systems without locks, and without
 * memory.
 *
 * flock() is this program's own, so that a test can step between the opening of a file and its lock.
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
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/output.h"

enum { PATH_SIZE = 4096 };

typedef struct fixture {
  char root[PATH_SIZE / 4], run[PATH_SIZE / 2];
  sntk_context *ctx;
} fixture;

/* ---- what the tests stand between -------------------------------------------------------------------------------- */

static void (*before_lock)(void);
static bool no_locks;

int flock(int fd, int operation) {
  void (*const step)(void) = before_lock;
  before_lock = NULL;
  if (step) step();
  if (no_locks) {
    errno = ENOLCK;
    return -1;
  }
  return (int)syscall(SYS_flock, fd, operation);
}

/* Nobody pulls the plug here. */
int fsync(int fd) {
  (void)fd;
  return 0;
}

int fdatasync(int fd) { return fsync(fd); }

static int64_t allocations, failing; /* jansson's; the one that fails, 0 for none */

static void *counted_malloc(size_t size) { return ++allocations == failing ? NULL : malloc(size); }

/* ---- helpers ----------------------------------------------------------------------------------------------------- */

static void remove_tree(const char *path) {
  DIR *stream = opendir(path);
  const struct dirent *entry;
  while (stream && (entry = readdir(stream))) {
    char child[2 * PATH_SIZE];
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    snprintf(child, sizeof child, "%s/%s", path, entry->d_name);
    if (entry->d_type == DT_DIR)
      remove_tree(child);
    else
      unlink(child);
  }
  if (stream) closedir(stream);
  rmdir(path);
}

static int setup(void **state) {
  fixture *f = calloc(1, sizeof *f);
  const char *base = getenv("TMPDIR");
  if (!f) return -1;
  snprintf(f->root, sizeof f->root, "%s/softntk_files_XXXXXX", base && *base ? base : "/tmp");
  if (!mkdtemp(f->root) || sntk_context_create(&f->ctx) != SNTK_OK) return -1;
  snprintf(f->run, sizeof f->run, "%s/run", f->root);
  before_lock = NULL;
  no_locks = false;
  failing = 0;
  *state = f;
  return 0;
}

static int teardown(void **state) {
  fixture *f = *state;
  failing = 0;
  remove_tree(f->root);
  sntk_context_free(f->ctx);
  free(f);
  return 0;
}

static const char *in_run(const fixture *f, const char *name) {
  static char paths[4][PATH_SIZE];
  static int next;
  char *path = paths[next++ % 4];
  snprintf(path, PATH_SIZE, "%s/%s", f->run, name);
  return path;
}

static void write_text(const char *path, const char *text) {
  FILE *file = fopen(path, "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
  assert_int_equal(fclose(file), 0);
}

static int64_t count_lines(const char *path) {
  FILE *file = fopen(path, "rb");
  int64_t lines = 0;
  if (!file) return -1;
  for (int c; (c = getc(file)) != EOF;) lines += c == '\n';
  fclose(file);
  return lines;
}

static void assert_text(const char *path, const char *text) {
  char now[256] = "";
  FILE *file = fopen(path, "rb");
  assert_non_null(file);
  now[fread(now, 1, sizeof now - 1, file)] = '\0';
  fclose(file);
  assert_string_equal(now, text);
}

static sntk_status open_run(const fixture *f, bool resume, sntk_run **run) {
  const sntk_run_options options = {.directory = f->run,
                                    .command = "sweep",
                                    .config = "{\"seed\":7,\"name\":\"a name longer than a small buffer of text\"}",
                                    .resume = resume,
                                    .shard_count = 1};
  return sntk_run_open(f->ctx, &options, run);
}

static sntk_status open_shard(const fixture *f, const char *config, int index, int count, sntk_run **run) {
  const sntk_run_options options = {.directory = f->run,
                                    .command = "sweep",
                                    .config = config,
                                    .resume = true,
                                    .shard_index = index,
                                    .shard_count = count};
  return sntk_run_open(f->ctx, &options, run);
}

static void assert_status(const fixture *f, const char *wanted) {
  json_t *document = json_load_file(in_run(f, "run.json"), JSON_REJECT_DUPLICATES, NULL);
  assert_non_null(document);
  assert_string_equal(json_string_value(json_object_get(document, "status")), wanted);
  json_decref(document);
}

static sntk_status add_point(const fixture *f, sntk_run *run, int number, double loss, double seconds) {
  char text[256];
  snprintf(text, sizeof text,
           "{\"kind\":\"train\",\"id\":\"network.width=64,data.samples=1024,seed=%d\",\"loss\":%.17g,"
           "\"a_key_of_a_good_length_to_print\":0.12345678901234568,\"run_seconds\":%.17g}",
           number, loss, seconds);
  return sntk_run_add(f->ctx, run, text);
}

#define assert_ok(f, call)                                                                                             \
  do {                                                                                                                 \
    const sntk_status got_ = (call);                                                                                   \
    if (got_ != SNTK_OK) fail_msg("%s: %s", sntk_status_name(got_), sntk_context_error((f)->ctx));                     \
  } while (0)

static void assert_fails(const fixture *f, sntk_status got, sntk_status wanted, const char *word, const char *second) {
  const char *text = sntk_context_error(f->ctx);
  if (got != wanted) fail_msg("%s instead of %s: %s", sntk_status_name(got), sntk_status_name(wanted), text);
  if (!strstr(text, word)) fail_msg("no '%s' in: %s", word, text);
  if (second && !strstr(text, second)) fail_msg("no '%s' in: %s", second, text);
}

/* ---- two starts on one directory --------------------------------------------------------------------------------- */

static sntk_run *withdrawn;

static void withdraw_the_other(void) { assert_true(sntk_run_discard(withdrawn)); }

/* The second has opened the file of points when the first, which could not begin, takes it away with its directory. */
static void test_withdrawal_before_the_lock(void **state) {
  fixture *f = *state;
  sntk_run *run;
  for (int resume = 0; resume < 2; resume++) {
    assert_ok(f, open_run(f, false, &withdrawn));
    unlink(in_run(f, "run.json")); /* as the first is found before it has written it */
    before_lock = withdraw_the_other;
    assert_ok(f, open_run(f, resume, &run));
    assert_ok(f, add_point(f, run, 1, 0.5, 1.5));
    assert_ok(f, sntk_run_close(f->ctx, run, "done", NULL));
    assert_int_equal(count_lines(in_run(f, "points.jsonl")), 1);
    assert_int_equal(access(in_run(f, "run.json"), F_OK), 0);
    remove_tree(f->run);
  }
}

/* What is withdrawn is the first's alone. */
static void test_withdrawal_leaves_what_others_have(void **state) {
  fixture *f = *state;
  sntk_run *run;
  assert_int_equal(mkdir(f->run, 0777), 0); /* the user's own */
  assert_ok(f, open_run(f, false, &run));
  assert_true(sntk_run_discard(run));
  assert_int_equal(access(f->run, F_OK), 0);
  assert_int_equal(access(in_run(f, "points.jsonl"), F_OK), -1);
  assert_ok(f, open_run(f, false, &run));
  write_text(in_run(f, "notes"), "mine");
  assert_true(sntk_run_discard(run));
  assert_text(in_run(f, "notes"), "mine");
}

/* ---- what a failed or killed start leaves ------------------------------------------------------------------------ */

static void test_no_room_for_the_first_write(void **state) {
  fixture *f = *state;
  sntk_run *run;
  struct rlimit before;
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
  const struct rlimit none = {.rlim_cur = 0, .rlim_max = before.rlim_max};
  const struct sigaction ignore = {.sa_handler = SIG_IGN};
  assert_int_equal(sigaction(SIGXFSZ, &ignore, NULL), 0);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
  const sntk_status got = open_run(f, false, &run);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
  assert_fails(f, got, SNTK_ERR_IO, "run.json", strerror(EFBIG));
  assert_int_equal(access(f->run, F_OK), -1);
  assert_ok(f, open_run(f, false, &run));
  assert_ok(f, sntk_run_close(f->ctx, run, "done", NULL));
}

static void test_leftovers_do_not_block_a_start(void **state) {
  fixture *f = *state;
  static const char *const leftovers[][2] = {{"points.jsonl", ""},
                                             {"points.1of4.jsonl", ""},
                                             {"points.jsonl", "{\"kind\":\"train\",\"id\":\"a\",\"lo"},
                                             {"points.jsonl", "{\"kind\":\"train\",\"id\":\"a\",\"loss\":1}\n"},
                                             {"run.json.points.jsonl.tmp", ""},
                                             {"run.json.points.jsonl.tmp", "{\"schema\": 1, \"comm"},
                                             {"run.h5.tmp", ""}};
  for (size_t i = 0; i < sizeof leftovers / sizeof *leftovers; i++) {
    sntk_run *run;
    assert_int_equal(mkdir(f->run, 0777), 0);
    write_text(in_run(f, leftovers[i][0]), leftovers[i][1]);
    assert_ok(f, open_run(f, false, &run));
    assert_int_equal(sntk_run_count(run), 0);
    assert_ok(f, add_point(f, run, 1, 0.5, 1.5));
    assert_ok(f, sntk_run_close(f->ctx, run, "done", NULL));
    assert_int_equal(count_lines(in_run(f, "points.jsonl")), 1);
    assert_ok(f, open_run(f, true, &run));
    assert_int_equal(sntk_run_count(run), 1);
    assert_ok(f, sntk_run_close(f->ctx, run, "done", NULL));
    remove_tree(f->run);
  }
}

/* ---- without locks ----------------------------------------------------------------------------------------------- */

static void test_twins_without_locks(void **state) {
  fixture *f = *state;
  sntk_run *first, *second, *run;
  no_locks = true;
  assert_ok(f, open_run(f, true, &first));
  assert_non_null(strstr(sntk_run_notice(first), "no locks"));
  assert_ok(f, open_run(f, true, &second));
  for (int i = 0; i < 3; i++) {
    assert_ok(f, add_point(f, first, i, 0.5, 1.5));
    assert_ok(f, add_point(f, second, i, 0.5, 2.5)); /* another duration */
  }
  assert_ok(f, sntk_run_close(f->ctx, first, "done", NULL));
  assert_ok(f, sntk_run_close(f->ctx, second, "done", NULL));
  no_locks = false;
  assert_ok(f, open_run(f, true, &run));
  assert_int_equal(sntk_run_count(run), 3);
  assert_non_null(sntk_run_notice(run));
  assert_non_null(strstr(sntk_run_notice(run), "points.jsonl: 3 lines repeat points"));
  assert_non_null(strstr(sntk_run_point(run, 0), "\"run_seconds\":1.5"));
  assert_ok(f, sntk_run_close(f->ctx, run, "done", NULL));
}

static void test_twins_that_differ(void **state) {
  fixture *f = *state;
  sntk_run *first, *second, *run;
  no_locks = true;
  assert_ok(f, open_run(f, true, &first));
  assert_ok(f, open_run(f, true, &second));
  assert_ok(f, add_point(f, first, 0, 0.25, 1.0));
  assert_ok(f, add_point(f, first, 1, 0.5, 1.5));
  assert_ok(f, add_point(f, second, 1, 0.75, 1.0));
  assert_ok(f, sntk_run_close(f->ctx, first, "done", NULL));
  assert_ok(f, sntk_run_close(f->ctx, second, "done", NULL));
  assert_fails(f, open_run(f, true, &run), SNTK_ERR_DATA, "seed=1", "points.jsonl:2 and points.jsonl:3");
}

/* A point that could not be written is cut off, but not the points of the other process behind it. */
static void test_failed_write_spares_the_twin(void **state) {
  fixture *f = *state;
  sntk_run *first, *second, *run;
  struct rlimit before;
  struct stat info;
  no_locks = true;
  assert_ok(f, open_run(f, true, &first));
  assert_ok(f, open_run(f, true, &second));
  for (int i = 0; i < 4; i++) assert_ok(f, add_point(f, first, i, 0.5, 1.5));
  assert_int_equal(stat(in_run(f, "points.jsonl"), &info), 0);
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
  const struct rlimit full = {.rlim_cur = (rlim_t)info.st_size, .rlim_max = before.rlim_max};
  const struct sigaction ignore = {.sa_handler = SIG_IGN};
  assert_int_equal(sigaction(SIGXFSZ, &ignore, NULL), 0);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &full), 0);
  const sntk_status got = add_point(f, second, 7, 0.5, 1.5);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
  assert_fails(f, got, SNTK_ERR_IO, "points.jsonl", strerror(EFBIG));
  assert_int_equal(count_lines(in_run(f, "points.jsonl")), 4);
  assert_ok(f, sntk_run_close(f->ctx, second, "failed", NULL));
  assert_ok(f, sntk_run_close(f->ctx, first, "done", NULL));
  assert_ok(f, open_run(f, true, &run));
  assert_int_equal(sntk_run_count(run), 4);
  assert_ok(f, sntk_run_close(f->ctx, run, "done", NULL));
}

/* ---- shards ------------------------------------------------------------------------------------------------------ */

static void test_done_when_every_item_is(void **state) {
  fixture *f = *state;
  static const struct {
    int64_t items;
    int shards[4][2]; /* index, count; in the order in which they end */
    int ended;        /* with the last of so many the run is done */
  } cases[] = {
      {0, {{2, 3}, {0, 3}, {1, 3}}, 3}, {7, {{2, 3}, {0, 3}, {1, 3}}, 3},
      {2, {{1, 4}, {0, 4}}, 2},         {6, {{1, 3}, {0, 2}, {2, 3}, {3, 6}}, 4},
      {5, {{3, 4}, {0, 1}}, 2},         {INT64_MAX, {{1, 2}, {0, 2}}, 2},
      {INT64_MAX, {{0, 1}}, 1},
  };
  for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
    for (int i = 0; i < cases[c].ended; i++) {
      sntk_run *run;
      assert_ok(f, open_shard(f, "{\"seed\":7}", cases[c].shards[i][0], cases[c].shards[i][1], &run));
      sntk_run_set_items(run, cases[c].items);
      assert_status(f, "running");
      const bool last = i + 1 == cases[c].ended;
      assert_ok(f, sntk_run_finish(f->ctx, run, "done", "done", NULL));
      assert_int_equal(sntk_run_unfinished(run) == NULL, last);
      sntk_run_free(run);
      assert_status(f, last ? "done" : "running");
    }
    remove_tree(f->run);
  }
}

static void test_states_of_shards(void **state) {
  fixture *f = *state;
  sntk_run *first, *second;
  assert_ok(f, open_shard(f, "{\"seed\":7}", 0, 2, &first));
  assert_ok(f, open_shard(f, "{\"seed\":7}", 1, 2, &second));
  assert_ok(f, sntk_run_close(f->ctx, first, "interrupted", "{\"a\":1}"));
  assert_status(f, "running"); /* the other is */
  assert_ok(f, sntk_run_close(f->ctx, second, "done", "{\"b\":2}"));
  assert_status(f, "interrupted");
  assert_ok(f, open_shard(f, "{\"seed\":7}", 0, 2, &first));
  assert_ok(f, sntk_run_close(f->ctx, first, "failed", NULL));
  assert_status(f, "failed");
  assert_ok(f, open_shard(f, "{\"seed\":7}", 0, 2, &first));
  assert_ok(f, sntk_run_finish(f->ctx, first, "done", "failed", NULL)); /* all is there, and no point is good */
  sntk_run_free(first);
  assert_status(f, "failed");
  json_t *document = json_load_file(in_run(f, "run.json"), 0, NULL);
  json_t *shards = json_pack("{s:s, s:s}", "0/2", "done", "1/2", "done"),
         *flags = json_pack("{s:i, s:i}", "a", 1, "b", 2);
  assert_true(json_equal(json_object_get(document, "shards"), shards));
  assert_true(json_equal(json_object_get(document, "flags"), flags));
  assert_int_equal(json_integer_value(json_object_get(document, "resumed")), 2);
  json_decref(flags);
  json_decref(shards);
  json_decref(document);
}

/* Many processes that begin and end at once: no state is lost, and the last to end finds that all have. */
static void test_shards_at_once(void **state) {
  fixture *f = *state;
  enum { SHARDS = 8, TRIALS = 5 };
  for (int trial = 0; trial < TRIALS; trial++) {
    pid_t children[SHARDS];
    for (int i = 0; i < SHARDS; i++) {
      assert_true((children[i] = fork()) >= 0);
      if (children[i] > 0) continue;
      sntk_run *run;
      if (open_shard(f, "{\"seed\":7}", i, SHARDS, &run) != SNTK_OK || add_point(f, run, i, 0.5, 1.5) != SNTK_OK)
        _exit(1);
      _exit(sntk_run_close(f->ctx, run, "done", NULL) == SNTK_OK ? 0 : 2);
    }
    for (int i = 0; i < SHARDS; i++) {
      int status;
      assert_int_equal(waitpid(children[i], &status, 0), children[i]);
      assert_true(WIFEXITED(status));
      assert_int_equal(WEXITSTATUS(status), 0);
    }
    assert_status(f, "done");
    remove_tree(f->run);
  }
}

static const fixture *meanwhile;

static void begin_another(void) {
  sntk_run *other;
  assert_ok(meanwhile, open_shard(meanwhile, "{\"seed\":8}", 1, 2, &other));
  assert_ok(meanwhile, sntk_run_close(meanwhile->ctx, other, "done", NULL));
}

/* Of two configurations that begin at once on an empty directory, one is told. */
static void test_another_configuration_meanwhile(void **state) {
  fixture *f = *state;
  sntk_run *run;
  meanwhile = f;
  before_lock = begin_another;
  assert_fails(f, open_shard(f, "{\"seed\":7}", 0, 2, &run), SNTK_ERR_CONFIG, "seed is 7", "made with 8");
  assert_int_equal(access(in_run(f, "points.0of2.jsonl"), F_OK), -1);
  assert_int_equal(access(in_run(f, "points.1of2.jsonl"), F_OK), 0);
}

static void test_points_of_other_shards_are_taken_in(void **state) {
  fixture *f = *state;
  sntk_run *first, *second;
  assert_ok(f, open_shard(f, "{\"seed\":7}", 0, 2, &first));
  assert_ok(f, add_point(f, first, 0, 0.5, 1.5));
  assert_ok(f, open_shard(f, "{\"seed\":7}", 1, 2, &second));
  assert_int_equal(sntk_run_count(second), 1);
  for (int i = 1; i < 4; i++) assert_ok(f, add_point(f, i % 2 ? second : first, i, 0.5, 1.5));
  assert_ok(f, sntk_run_refresh(f->ctx, first));
  assert_ok(f, sntk_run_refresh(f->ctx, first)); /* nothing is there twice */
  assert_int_equal(sntk_run_count(first), 4);
  assert_null(sntk_run_notice(first));
  assert_ok(f, add_point(f, first, 5, 0.5, 1.5));
  assert_ok(f, sntk_run_close(f->ctx, second, "done", NULL));
  assert_ok(f, sntk_run_close(f->ctx, first, "done", NULL));
}

/* ---- files of results -------------------------------------------------------------------------------------------- */

static void test_results(void **state) {
  fixture *f = *state;
  sntk_run *run;
  bool there;
  const char *absent;
  assert_ok(f, open_run(f, false, &run));
  write_text(in_run(f, "run.h5"), "123456789");
  write_text(in_run(f, "prefix_4.h5"), "x");
  assert_ok(f, sntk_run_keep(f->ctx, run, "run.h5"));
  assert_ok(f, sntk_run_miss(f->ctx, run, "lost.h5", "no room"));
  assert_false(sntk_run_discard(run)); /* though it has no point */
  assert_ok(f, sntk_run_close(f->ctx, run, "done", NULL));
  json_t *document = json_load_file(in_run(f, "run.json"), JSON_REJECT_DUPLICATES, NULL);
  json_t *results = json_pack("{s:{s:i, s:s}, s:{s:s}}", "run.h5", "bytes", 9, "crc32", "cbf43926", "lost.h5", "error",
                              "no room"); /* the checksum's published check value */
  assert_true(json_equal(json_object_get(document, "results"), results));
  json_decref(results);
  json_decref(document);

  assert_ok(f, open_run(f, true, &run));
  assert_ok(f, sntk_run_result(f->ctx, run, "run.h5", true, &there));
  assert_true(there);
  assert_ok(f, sntk_run_result(f->ctx, run, "lost.h5", true, &there));
  assert_false(there);
  assert_ok(f, sntk_run_result(f->ctx, run, "never.h5", true, &there));
  assert_false(there);
  assert_ok(f, sntk_run_result(f->ctx, run, "never.h5", false, &there));
  assert_true(there);
  assert_ok(f, sntk_run_results(f->ctx, run, true, &absent));
  assert_string_equal(absent, "lost.h5");
  write_text(in_run(f, "prefix_4.h5"), "y"); /* it was entered above, though the run that wrote it could not */
  assert_fails(f, sntk_run_result(f->ctx, run, "prefix_4.h5", true, &there), SNTK_ERR_DATA, "prefix_4.h5",
               "move it away");
  write_text(in_run(f, "run.h5"), "123456780");
  assert_fails(f, sntk_run_results(f->ctx, run, true, &absent), SNTK_ERR_DATA, "run.h5", "9 bytes");
  write_text(in_run(f, "run.h5"), "12345678");
  assert_fails(f, sntk_run_results(f->ctx, run, true, &absent), SNTK_ERR_DATA, "8 bytes", "instead of 9");
  unlink(in_run(f, "run.h5"));
  assert_ok(f, sntk_run_result(f->ctx, run, "run.h5", true, &there));
  assert_false(there);
  assert_ok(f, sntk_run_close(f->ctx, run, "done", NULL));
}

/* ---- closed descriptors ------------------------------------------------------------------------------------------ */

static bool standard_taken(void) {
  for (int fd = 0; fd < 3; fd++)
    if (fcntl(fd, F_GETFD) >= 0) return true;
  return false;
}

/* In a process whose standard descriptors are closed: 0, or the step that opened a file as one of them. */
static int use_all_files(const fixture *f) {
  const double values[4] = {1.0, 2.0, 3.0, 4.0};
  sntk_run *run;
  sntk_h5 *file;
  for (int fd = 0; fd < 3; fd++) close(fd);
  if (open_run(f, false, &run) != SNTK_OK) return 1;
  if (standard_taken()) return 2;
  printf("a line of the host program\n");
  fflush(stdout);
  if (add_point(f, run, 1, 0.5, 1.5) != SNTK_OK || standard_taken()) return 3;
  if (sntk_h5_create(f->ctx, in_run(f, "run.h5"), &file) != SNTK_OK) return 4;
  if (standard_taken()) return 5;
  if (sntk_h5_write_f64(f->ctx, file, "/x", 4, 0, values) != SNTK_OK) return 6;
  if (sntk_h5_close(f->ctx, file, true) != SNTK_OK || standard_taken()) return 7;
  if (sntk_run_close(f->ctx, run, "done", NULL) != SNTK_OK || standard_taken()) return 8;
  return 0;
}

static void test_never_a_standard_descriptor(void **state) {
  fixture *f = *state;
  fflush(NULL);
  const pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) _exit(use_all_files(f));
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
  sntk_run *run;
  assert_ok(f, open_run(f, true, &run));
  assert_null(sntk_run_notice(run));
  assert_int_equal(sntk_run_count(run), 1);
  assert_ok(f, sntk_run_close(f->ctx, run, "done", NULL));
}

/* ---- links and other files --------------------------------------------------------------------------------------- */

static void test_no_file_is_written_through_a_link(void **state) {
  fixture *f = *state;
  char victim[PATH_SIZE];
  sntk_run *run;
  sntk_h5 *file;
  snprintf(victim, sizeof victim, "%s/victim", f->root);
  write_text(victim, "precious");
  assert_int_equal(mkdir(f->run, 0777), 0);
  assert_int_equal(symlink(victim, in_run(f, "run.json.points.jsonl.tmp")), 0);
  assert_int_equal(symlink(victim, in_run(f, "run.h5.tmp")), 0);
  assert_ok(f, open_run(f, false, &run));
  assert_text(victim, "precious");
  assert_ok(f, sntk_h5_create(f->ctx, in_run(f, "run.h5"), &file));
  assert_text(victim, "precious");
  assert_ok(f, sntk_h5_close(f->ctx, file, true));
  assert_ok(f, sntk_run_close(f->ctx, run, "done", NULL));
  assert_text(victim, "precious");
  struct stat info;
  assert_int_equal(lstat(in_run(f, "run.json"), &info), 0);
  assert_true(S_ISREG(info.st_mode));
  assert_int_equal(lstat(in_run(f, "run.h5"), &info), 0);
  assert_true(S_ISREG(info.st_mode));

  write_text(victim, "");
  unlink(in_run(f, "points.jsonl"));
  assert_int_equal(symlink(victim, in_run(f, "points.jsonl")), 0);
  assert_fails(f, open_run(f, true, &run), SNTK_ERR_IO, "points.jsonl", "symbolic link");
  assert_text(victim, "");
  unlink(in_run(f, "points.jsonl"));
  unlink(in_run(f, "run.json"));
  assert_int_equal(symlink(victim, in_run(f, "run.json")), 0);
  assert_fails(f, open_run(f, true, &run), SNTK_ERR_IO, "run.json", "symbolic link");
  assert_text(victim, "");
}

static void test_a_pipe_does_not_hang(void **state) {
  fixture *f = *state;
  sntk_run *run;
  assert_int_equal(mkdir(f->run, 0777), 0);
  assert_int_equal(mkfifo(in_run(f, "points.1of2.jsonl"), 0666), 0);
  alarm(20);
  assert_fails(f, open_run(f, true, &run), SNTK_ERR_IO, "points.1of2.jsonl", "no regular file");
  unlink(in_run(f, "points.1of2.jsonl"));
  assert_int_equal(mkfifo(in_run(f, "run.json"), 0666), 0);
  assert_fails(f, open_run(f, true, &run), SNTK_ERR_IO, "run.json", "no regular file");
  alarm(0);
}

/* ---- without memory for JSON ------------------------------------------------------------------------------------- */

/* The point with this number is there, whole. */
static void assert_point(const sntk_run *run, int number) {
  char id[64], wanted[256];
  snprintf(id, sizeof id, "network.width=64,data.samples=1024,seed=%d", number);
  snprintf(wanted, sizeof wanted,
           "{\"kind\":\"train\",\"id\":\"%s\",\"loss\":0.5,\"a_key_of_a_good_length_to_print\":0.12345678901234568,"
           "\"run_seconds\":1.5}",
           id);
  const char *text = sntk_run_find(run, "train", id);
  assert_non_null(text);
  assert_string_equal(text, wanted);
}

/* Opens, adds a point and ends, with the allocation `fail` failing; true where all went well. */
static bool one_session(const fixture *f, int64_t fail, int number) {
  sntk_run *run = NULL;
  allocations = 0;
  failing = fail;
  sntk_status status = open_run(f, true, &run);
  if (status == SNTK_OK) status = add_point(f, run, number, 0.5, 1.5);
  const sntk_status closed = sntk_run_close(f->ctx, run, "done", "{\"a_flag_of_a_good_length_to_print\": 3}");
  failing = 0;
  if (status == SNTK_OK) status = closed;
  if (status != SNTK_OK && status != SNTK_ERR_MEMORY)
    fail_msg("allocation %lld: %s: %s", (long long)fail, sntk_status_name(status), sntk_context_error(f->ctx));
  return status == SNTK_OK;
}

static void assert_document(const fixture *f, bool ended) {
  json_error_t error;
  json_t *document = json_load_file(in_run(f, "run.json"), JSON_REJECT_DUPLICATES, &error);
  assert_non_null(document);
  static const char *const keys[] = {"schema",     "command",      "status",       "name",    "version",
                                     "git_commit", "started_time", "wall_seconds", "resumed", "config",
                                     "device",     "libraries",    "flags"};
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
    if (!json_object_get(document, keys[i])) fail_msg("run.json lacks %s", keys[i]);
  const json_t *config = json_object_get(document, "config"), *flags = json_object_get(document, "flags");
  assert_int_equal(json_integer_value(json_object_get(config, "seed")), 7);
  assert_string_equal(json_string_value(json_object_get(config, "name")), "a name longer than a small buffer of text");
  if (ended) assert_int_equal(json_integer_value(json_object_get(flags, "a_flag_of_a_good_length_to_print")), 3);
  json_decref(document);
}

/* Whichever allocation of jansson's fails: an error of memory, or all is as if none had. */
static void test_every_allocation_fails_once(void **state) {
  fixture *f = *state;
  assert_true(one_session(f, 0, 0));
  int added = 1, failed = 0;
  for (int64_t fail = 1;; fail++) {
    const bool well = one_session(f, fail, added);
    const bool met = allocations >= fail;
    failed += !well;
    sntk_run *run;
    assert_ok(f, open_run(f, true, &run)); /* what is there is sound */
    assert_null(sntk_run_notice(run));
    if (well) assert_true(sntk_run_count(run) == added + 1);
    added = (int)sntk_run_count(run);
    for (int i = 0; i < added; i++) assert_point(run, i);
    assert_ok(f, sntk_run_close(f->ctx, run, "done", NULL));
    assert_document(f, true);
    if (added > 3) { /* few points, that the trials stay short */
      remove_tree(f->run);
      assert_true(one_session(f, 0, 0));
      added = 1;
    }
    if (!met) break;
  }
  assert_true(failed > 100);
}

int main(void) {
  json_set_alloc_funcs(counted_malloc, free); /* as a host program may have its own */
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_withdrawal_before_the_lock, setup, teardown),
      cmocka_unit_test_setup_teardown(test_withdrawal_leaves_what_others_have, setup, teardown),
      cmocka_unit_test_setup_teardown(test_no_room_for_the_first_write, setup, teardown),
      cmocka_unit_test_setup_teardown(test_leftovers_do_not_block_a_start, setup, teardown),
      cmocka_unit_test_setup_teardown(test_twins_without_locks, setup, teardown),
      cmocka_unit_test_setup_teardown(test_twins_that_differ, setup, teardown),
      cmocka_unit_test_setup_teardown(test_failed_write_spares_the_twin, setup, teardown),
      cmocka_unit_test_setup_teardown(test_done_when_every_item_is, setup, teardown),
      cmocka_unit_test_setup_teardown(test_states_of_shards, setup, teardown),
      cmocka_unit_test_setup_teardown(test_shards_at_once, setup, teardown),
      cmocka_unit_test_setup_teardown(test_another_configuration_meanwhile, setup, teardown),
      cmocka_unit_test_setup_teardown(test_points_of_other_shards_are_taken_in, setup, teardown),
      cmocka_unit_test_setup_teardown(test_results, setup, teardown),
      cmocka_unit_test_setup_teardown(test_never_a_standard_descriptor, setup, teardown),
      cmocka_unit_test_setup_teardown(test_no_file_is_written_through_a_link, setup, teardown),
      cmocka_unit_test_setup_teardown(test_a_pipe_does_not_hang, setup, teardown),
      cmocka_unit_test_setup_teardown(test_every_allocation_fails_once, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
