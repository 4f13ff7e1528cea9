/**
 * @file test_json.c
 * @brief JSON texts where memory fails: each allocation of jansson's in turn, while it parses and while it prints.
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/output.h"

static int64_t calls, failing; /* jansson's allocations so far; the one that fails, 0 for none */
static bool for_good;          /* all from there on fail */
static int64_t held;           /* blocks that are not freed */

static void *counted_malloc(size_t size) {
  calls++;
  if (failing > 0 && (calls == failing || (for_good && calls > failing))) return NULL;
  held++;
  return malloc(size);
}

static void counted_free(void *block) {
  held -= block != NULL;
  free(block);
}

/* Strings of every length around those where a buffer grows, escapes among them; numbers, keys, arrays. */
static char *make_text(void) {
  enum { LONGEST = 300 };
  char *text = malloc(16 * LONGEST * LONGEST), *at = text;
  assert_non_null(text);
  at += sprintf(at, "{\"list\":[");
  for (int length = 0; length < LONGEST; length += length < 20 ? 1 : 13) {
    *at++ = '"';
    for (int i = 0; i < length; i++) at += sprintf(at, i % 7 == 3 ? "\\u00e9" : i % 5 == 4 ? "\\\"" : "x");
    at += sprintf(at, "\",%d,%.17g,", length, 0.1 * length);
  }
  at += sprintf(at, "null]");
  for (int i = 0; i < 40; i++) at += sprintf(at, ",\"key_of_some_length_%d\":{\"a\":true}", i);
  sprintf(at, "}");
  return text;
}

static void each_failure(const char *text, const json_t *whole) {
  json_error_t error;
  int64_t lost = 0;
  for (failing = 1;; failing++) {
    const int64_t before = held;
    calls = 0;
    json_t *value = sntk_json_parse(text, strlen(text), &error);
    const bool reached = calls >= failing;
    if (value) {
      const int64_t mark = failing;
      failing = 0;
      assert_true(json_equal(value, whole));
      failing = mark;
    } else {
      assert_true(sntk_json_lost());
      lost++;
    }
    json_decref(value);
    assert_int_equal(held, before);
    if (!reached) break;
    assert_null(value);
  }
  failing = 0;
  assert_true(lost > 200);
}

static void a_parse_is_whole_or_lost(void **state) {
  (void)state;
  json_error_t error;
  char *text = make_text();
  json_t *whole = sntk_json_parse(text, strlen(text), &error);
  assert_non_null(whole);
  each_failure(text, whole);
  for_good = true;
  each_failure(text, whole);
  for_good = false;
  json_decref(whole);
  free(text);
}

static void what_is_no_json_is_not_lost(void **state) {
  (void)state;
  static const char *const texts[] = {"", "{", "{\"a\":}", "{\"a\":1,\"a\":2}", "{\"a\":\"\\ud800\"}"};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    json_error_t error;
    const int64_t before = held;
    assert_null(sntk_json_parse(texts[i], strlen(texts[i]), &error));
    assert_false(sntk_json_lost());
    assert_int_equal(held, before);
  }
}

static void a_print_is_whole_or_nothing(void **state) {
  (void)state;
  json_error_t error;
  char *text = make_text();
  json_t *value = sntk_json_parse(text, strlen(text), &error);
  char *whole = sntk_json_text(value);
  assert_non_null(whole);
  int64_t lost = 0;
  for (failing = 1;; failing++) {
    const int64_t before = held;
    calls = 0;
    char *printed = sntk_json_text(value);
    const bool reached = calls >= failing;
    if (printed) assert_string_equal(printed, whole);
    lost += !printed;
    free(printed);
    assert_int_equal(held, before);
    if (!reached) break;
  }
  failing = 0;
  assert_true(lost > 200);
  free(whole);
  json_decref(value);
  free(text);
}

int main(void) {
  json_set_alloc_funcs(counted_malloc, counted_free); /* before the first parse, which watches them */
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_parse_is_whole_or_lost),
                                     cmocka_unit_test(what_is_no_json_is_not_lost),
                                     cmocka_unit_test(a_print_is_whole_or_nothing)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
