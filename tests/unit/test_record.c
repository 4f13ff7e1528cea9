/**
 * @file test_record.c
 * @brief Records under construction: what they hold, and that one which lost a member for want of memory says so.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/output.h"
#include "core/record.h"

static int64_t calls, failing; /* jansson's allocations so far; the one that fails, 0 for none */

static void *counted_malloc(size_t size) { return ++calls == failing ? NULL : malloc(size); }

static sntk_record *build(void) {
  sntk_record *record = sntk_record_create();
  sntk_record_text(record, "kind", "train");
  sntk_record_int(record, "width", INT64_C(1) << 40);
  sntk_record_real(record, "loss", 0.1);
  sntk_record_real(record, "drift", NAN);
  sntk_record_bool(record, "converged", true);
  sntk_record_null(record, "steps");
  sntk_record_json(record, "list", json_pack("[i, i]", 1, 2));
  for (int i = 0; i < 20; i++) { /* enough for the table of members to grow */
    const char key[] = {(char)('a' + i), '\0'};
    sntk_record_int(record, key, i);
  }
  sntk_record_text(record, "kind", "ntk");
  return record;
}

static void holds_what_was_set(void **state) {
  (void)state;
  sntk_record *record = build();
  assert_true(sntk_record_complete(record));
  char *text = sntk_json_text(sntk_record_members(record));
  assert_non_null(text);
  static const char expected[] =
      "{\"kind\":\"ntk\",\"width\":1099511627776,\"loss\":0.10000000000000001,\"drift\":null,"
      "\"converged\":true,\"steps\":null,\"list\":[1,2],\"a\":0,";
  assert_memory_equal(text, expected, sizeof expected - 1);
  free(text);
  sntk_record_free(record);
}

static void text_that_is_not_utf8(void **state) {
  (void)state;
  sntk_record *record = sntk_record_create();
  sntk_record_text(record, "good", "\xc3\xa9");
  sntk_record_text(record, "bad", "x\xff.npy");
  assert_true(sntk_record_complete(record));
  assert_string_equal(json_string_value(json_object_get(sntk_record_members(record), "good")), "\xc3\xa9");
  assert_string_equal(json_string_value(json_object_get(sntk_record_members(record), "bad")), "x?.npy");
  sntk_record_free(record);
}

static void nothing_without_a_value(void **state) {
  (void)state;
  sntk_record *record = sntk_record_create();
  sntk_record_json(record, "lost", NULL);
  assert_false(sntk_record_complete(record));
  sntk_record_int(record, "width", 1);
  assert_false(sntk_record_complete(record)); /* for good */
  sntk_record_free(record);
  sntk_record_text(NULL, "kind", "train");
  assert_false(sntk_record_complete(NULL));
  assert_null(sntk_record_members(NULL));
  sntk_record_free(NULL);
}

/* Every allocation of the construction fails in turn: the record is equal to the whole one, or says that it is not. */
static void never_silently_in_part(void **state) {
  (void)state;
  sntk_record *whole = build();
  json_set_alloc_funcs(counted_malloc, free);
  calls = failing = 0;
  sntk_record_free(build());
  const int64_t all = calls;
  assert_true(all > 30);
  int64_t incomplete = 0;
  for (int64_t k = 1; k <= all; k++) {
    calls = 0;
    failing = k;
    sntk_record *record = build();
    failing = 0;
    if (sntk_record_complete(record))
      assert_true(json_equal(sntk_record_members(record), sntk_record_members(whole)));
    else
      incomplete++;
    sntk_record_free(record);
  }
  json_set_alloc_funcs(malloc, free);
  assert_true(incomplete > 0);
  sntk_record_free(whole);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(holds_what_was_set), cmocka_unit_test(text_that_is_not_utf8),
                                     cmocka_unit_test(nothing_without_a_value),
                                     cmocka_unit_test(never_silently_in_part)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
