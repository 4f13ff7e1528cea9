/**
 * @file test_core.c
 * @brief Checked sizes, statuses, exit codes, error texts, allocation, and contexts that cannot be opened.
 *
 * SPDX-License-Identifier: MIT
 */
#include "support.h"

#include <stdio.h>

#include "core/core.h"
#include "softntk/version.h"

static void sizes_multiply_and_add_exactly(void **state) {
  (void)state;
  assert_int_equal(sntk_size_mul(0, INT64_MAX), 0);
  assert_int_equal(sntk_size_mul(3, 5), 15);
  assert_int_equal(sntk_size_mul(INT64_MAX, 1), INT64_MAX);
  assert_int_equal(sntk_size_mul(3037000499, 3037000499), INT64_C(9223372030926249001)); /* the largest square */
  assert_int_equal(sntk_size_add(0, 0), 0);
  assert_int_equal(sntk_size_add(INT64_MAX - 1, 1), INT64_MAX);
}

static void sizes_that_do_not_fit_are_minus_one(void **state) {
  (void)state;
  assert_int_equal(sntk_size_mul(3037000500, 3037000500), -1);
  assert_int_equal(sntk_size_mul(INT64_MAX, 2), -1);
  assert_int_equal(sntk_size_mul(INT64_C(1) << 32, INT64_C(1) << 31), -1);
  assert_int_equal(sntk_size_add(INT64_MAX, 1), -1);
  assert_int_equal(sntk_size_add(INT64_MAX, INT64_MAX), -1);
  /* two negatives would make a positive product: a failed inner size must stay failed */
  assert_int_equal(sntk_size_mul(-1, -1), -1);
  assert_int_equal(sntk_size_mul(-1, 0), -1);
  assert_int_equal(sntk_size_add(-1, 5), -1);
  assert_int_equal(sntk_size_add(sntk_size_mul(INT64_MAX, 2), 7), -1);
}

static void statuses_have_names_and_exit_codes(void **state) {
  (void)state;
  static const struct {
    sntk_status status;
    int exit_code;
  } expected[] = {{SNTK_OK, 0},
                  {SNTK_ERR_ARGUMENT, 2},
                  {SNTK_ERR_CONFIG, 2},
                  {SNTK_ERR_DATA, 2},
                  {SNTK_ERR_SHAPE, 2},
                  {SNTK_ERR_IO, 2},
                  {SNTK_ERR_EXISTS, 2},
                  {SNTK_ERR_BACKEND, 3},
                  {SNTK_ERR_DEVICE, 3},
                  {SNTK_ERR_MEMORY, 4},
                  {SNTK_ERR_OVERFLOW, 5},
                  {SNTK_ERR_DIVERGED, 5},
                  {SNTK_ERR_NUMERICAL, 5},
                  {SNTK_ERR_INTERRUPTED, 75},
                  {SNTK_ERR_INTERNAL, 1}};
  const size_t count = sizeof expected / sizeof *expected;
  for (size_t i = 0; i < count; i++) {
    assert_int_equal(expected[i].status, i); /* every status is in the list */
    assert_int_equal(sntk_status_exit_code(expected[i].status), expected[i].exit_code);
    assert_string_not_equal(sntk_status_name(expected[i].status), "unknown");
    for (size_t j = 0; j < i; j++)
      assert_string_not_equal(sntk_status_name(expected[i].status), sntk_status_name(expected[j].status));
  }
  assert_string_equal(sntk_status_name((sntk_status)count), "unknown");
  assert_string_equal(sntk_status_name((sntk_status)-1), "unknown");
  assert_int_equal(sntk_status_exit_code((sntk_status)count), 1);
  assert_int_equal(sntk_status_exit_code((sntk_status)-1), 1);
}

static void error_texts(void **state) {
  (void)state;
  sntk_context *ctx;
  assert_int_equal(sntk_context_create(&ctx), SNTK_OK);
  assert_string_equal(sntk_context_error(ctx), "");
  assert_string_equal(sntk_context_error(NULL), "no context");
  assert_int_equal(sntk_fail(NULL, SNTK_ERR_IO, "dropped %d", 1), SNTK_ERR_IO);
  assert_int_equal(sntk_fail(ctx, SNTK_ERR_DATA, "row %d is \"%s\"", 7, "x"), SNTK_ERR_DATA);
  assert_string_equal(sntk_context_error(ctx), "row 7 is \"x\"");
  /* the text itself may be an argument of the next one */
  assert_int_equal(sntk_fail(ctx, SNTK_ERR_DATA, "<%s>", sntk_context_error(ctx)), SNTK_ERR_DATA);
  assert_string_equal(sntk_context_error(ctx), "<row 7 is \"x\">");
  assert_int_equal(sntk_fail_prefix(ctx, SNTK_ERR_DATA, "%s:%d", "a.csv", 3), SNTK_ERR_DATA);
  assert_string_equal(sntk_context_error(ctx), "a.csv:3: <row 7 is \"x\">");

  char lengthy[2 * SNTK_ERROR_CHARS];
  memset(lengthy, 'a', sizeof lengthy - 1);
  lengthy[sizeof lengthy - 1] = '\0';
  sntk_fail(ctx, SNTK_ERR_DATA, "%s", lengthy);
  assert_int_equal(strlen(sntk_context_error(ctx)), SNTK_ERROR_CHARS - 1);
  sntk_fail_prefix(ctx, SNTK_ERR_DATA, "prefix");
  assert_int_equal(strlen(sntk_context_error(ctx)), SNTK_ERROR_CHARS - 1);
  assert_memory_equal(sntk_context_error(ctx), "prefix: aaa", 11);
  sntk_fail_prefix(ctx, SNTK_ERR_DATA, "%s", lengthy);
  assert_int_equal(strlen(sntk_context_error(ctx)), SNTK_ERROR_CHARS - 1);
  sntk_context_free(ctx);
}

static void allocation(void **state) {
  (void)state;
  sntk_context *ctx;
  assert_int_equal(sntk_context_create(&ctx), SNTK_OK);
  static const int64_t counts[] = {0, 1, 7, 8, 9, 1000};
  for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
    unsigned char *block;
    assert_ok(ctx, sntk_alloc(ctx, "a block", counts[i], 8, (void **)&block));
    assert_non_null(block);
    assert_int_equal((uintptr_t)block % 64, 0);
    memset(block, 1, (size_t)counts[i] * 8);
    free(block);
  }
  void *block = ctx;
  assert_status(ctx, sntk_alloc(ctx, "the thing", INT64_MAX, 8, &block), SNTK_ERR_SHAPE);
  assert_null(block);
  assert_non_null(strstr(sntk_context_error(ctx), "the thing"));
  assert_non_null(strstr(sntk_context_error(ctx), "9223372036854775807"));
  assert_status(ctx, sntk_alloc(ctx, "the thing", -1, 8, &block), SNTK_ERR_SHAPE); /* a size that overflowed before */
  assert_status(ctx, sntk_alloc(ctx, "the thing", INT64_MAX - 10, 1, &block), SNTK_ERR_SHAPE);
  sntk_context_free(ctx);
}

static void bytes_in_words(void **state) {
  (void)state;
  static const struct {
    int64_t bytes;
    const char *text;
  } expected[] = {{0, "0 B"},
                  {1023, "1023 B"},
                  {1024, "1.0 KiB"},
                  {1536, "1.5 KiB"},
                  {INT64_C(5) << 20, "5.0 MiB"},
                  {INT64_C(3) << 29, "1.5 GiB"},
                  {INT64_C(1) << 40, "1.0 TiB"},
                  {INT64_C(1) << 50, "1.0 PiB"},
                  {INT64_MAX, "8.0 EiB"}};
  for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
    char text[32];
    assert_ptr_equal(sntk_format_bytes(expected[i].bytes, text), text);
    assert_string_equal(text, expected[i].text);
  }
}

static volatile sig_atomic_t raised;

static void count_calls(void *user, const sntk_progress *progress) {
  assert_string_equal(progress->what, "work");
  assert_int_equal(progress->done, 3);
  assert_int_equal(progress->total, 10);
  ++*(int *)user;
}

static void interruption_and_progress(void **state) {
  (void)state;
  sntk_context *ctx;
  assert_int_equal(sntk_context_create(&ctx), SNTK_OK);
  assert_ok(ctx, sntk_check_interrupt(ctx));
  sntk_context_set_interrupt(ctx, &raised);
  assert_ok(ctx, sntk_check_interrupt(ctx));
  raised = 1;
  assert_status(ctx, sntk_check_interrupt(ctx), SNTK_ERR_INTERRUPTED);
  raised = 0;
  assert_ok(ctx, sntk_check_interrupt(ctx));
  int calls = 0;
  sntk_report_progress(ctx, "work", 3, 10, NAN);
  sntk_context_set_progress(ctx, count_calls, &calls);
  sntk_report_progress(ctx, "work", 3, 10, NAN);
  sntk_context_set_progress(ctx, NULL, NULL);
  sntk_report_progress(ctx, "work", 3, 10, NAN);
  assert_int_equal(calls, 1);
  const double before = sntk_seconds();
  assert_true(sntk_seconds() >= before);
  sntk_context_free(ctx);
}

static void contexts_open_once_and_only_what_exists(void **state) {
  (void)state;
  sntk_context *ctx;
  assert_int_equal(sntk_context_create(&ctx), SNTK_OK);
  assert_string_equal(sntk_context_backend(ctx), "none");
  assert_true(sntk_context_threads(ctx) >= 1);
  assert_true(sntk_context_memory(ctx) > 0);

  sntk_context_options options = SNTK_CONTEXT_OPTIONS_INIT;
  options.backend = "gpu9";
  assert_status(ctx, sntk_context_open(ctx, &options), SNTK_ERR_ARGUMENT);
  assert_non_null(strstr(sntk_context_error(ctx), "gpu9"));
  options.backend = "ref";
  options.device = -1;
  assert_status(ctx, sntk_context_open(ctx, &options), SNTK_ERR_ARGUMENT);
  options.device = 0;
  options.threads = -2;
  assert_status(ctx, sntk_context_open(ctx, &options), SNTK_ERR_ARGUMENT);
  options.threads = 0;
  options.memory_limit = -1;
  assert_status(ctx, sntk_context_open(ctx, &options), SNTK_ERR_ARGUMENT);
  options.memory_limit = 0;
  static const char *const host_backends[] = {"ref", "cpu"};
  for (int b = 0; b < 2; b++) {
    options.backend = host_backends[b];
    options.device = 1;
    assert_status(ctx, sntk_context_open(ctx, &options), SNTK_ERR_DEVICE);
    assert_string_equal(sntk_context_backend(ctx), "none");
  }
  options.device = 0;
  options.backend = "ref";
  options.memory_limit = 12345;
  assert_ok(ctx, sntk_context_open(ctx, &options));
  assert_string_equal(sntk_context_backend(ctx), "ref");
  assert_int_equal(sntk_context_memory(ctx), 12345);
  assert_int_equal(sntk_context_precision(ctx, SNTK_F32), SNTK_F64);
  assert_status(ctx, sntk_context_open(ctx, &options), SNTK_ERR_ARGUMENT);
  sntk_context_free(ctx);
  sntk_context_free(NULL);

  ctx = open_context("auto", 2);
  assert_int_equal(sntk_context_threads(ctx), 2);
  assert_string_not_equal(sntk_context_device(ctx), "none");
  sntk_context_free(ctx);
}

static void version_is_that_of_the_headers(void **state) {
  (void)state;
  assert_string_equal(sntk_version(), SNTK_VERSION_STRING);
  assert_true(strlen(sntk_git_commit()) > 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(sizes_multiply_and_add_exactly),
      cmocka_unit_test(sizes_that_do_not_fit_are_minus_one),
      cmocka_unit_test(statuses_have_names_and_exit_codes),
      cmocka_unit_test(error_texts),
      cmocka_unit_test(allocation),
      cmocka_unit_test(bytes_in_words),
      cmocka_unit_test(interruption_and_progress),
      cmocka_unit_test(contexts_open_once_and_only_what_exists),
      cmocka_unit_test(version_is_that_of_the_headers),
  };
  return cmocka_run_group_tests_name("core", tests, NULL, NULL);
}
