/**
 * @file json.c
 * @brief JSON values as a run's files hold them: 17 digits, null where a number is not finite, keys in insertion order.
 *
 * Jansson goes on where its memory fails: it drops characters of a text that it parses, members of an object that it
 * copies, keys of one that it prints, and reports success. So its allocations are watched.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/output.h"

static pthread_once_t watching = PTHREAD_ONCE_INIT;
static json_malloc_t host_malloc; /* the host program's own, where it has set one */
static json_free_t host_free;
static _Thread_local bool lost;

static void *watched_malloc(size_t size) {
  void *memory = host_malloc(size);
  if (!memory && size > 0) lost = true;
  return memory;
}

static void begin_watching(void) {
  json_get_alloc_funcs(&host_malloc, &host_free);
  json_set_alloc_funcs(watched_malloc, host_free);
}

/* Jansson may stay in a host program that unloads this library. */
static void __attribute__((destructor)) end_watching(void) {
  json_malloc_t now_malloc;
  json_free_t now_free;
  json_get_alloc_funcs(&now_malloc, &now_free);
  if (now_malloc == watched_malloc) json_set_alloc_funcs(host_malloc, host_free);
}

void sntk_json_watch(void) {
  pthread_once(&watching, begin_watching);
  lost = false;
}

bool sntk_json_lost(void) { return lost; }

json_t *sntk_json_real(double value) { return isfinite(value) ? json_real(value) : json_null(); }

json_t *sntk_json_parse(const char *text, size_t length, json_error_t *error) {
  sntk_json_watch();
  json_t *value = json_loadb(text, length, JSON_REJECT_DUPLICATES, error);
  if (!value || !sntk_json_lost()) return value;
  json_decref(value);
  return NULL;
}

/* Text that was read back and is the same value. */
static char *print(const json_t *value, size_t form) {
  sntk_json_watch();
  char *text = json_dumps(value, form | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
  json_t *again = text ? json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL) : NULL;
  const bool whole = again && !sntk_json_lost() && json_equal(again, value);
  json_decref(again);
  if (whole) return text;
  free(text);
  return NULL;
}

char *sntk_json_text(const json_t *value) { return print(value, JSON_COMPACT); }

char *sntk_json_lines(const json_t *value) { return print(value, JSON_INDENT(2)); }

static bool ends_in(const char *text, const char *suffix) {
  const size_t length = strlen(text), end = strlen(suffix);
  return length >= end && strcmp(text + length - end, suffix) == 0;
}

/* Members that may differ between identical runs. */
static bool is_timing(const char *key) { return ends_in(key, "_seconds") || ends_in(key, "_time"); }

bool sntk_same_result(const json_t *a, const json_t *b) {
  const char *key;
  json_t *value;
  size_t i;
  if (json_is_array(a) && json_is_array(b)) {
    if (json_array_size(a) != json_array_size(b)) return false;
    json_array_foreach(a, i, value) if (!sntk_same_result(value, json_array_get(b, i))) return false;
    return true;
  }
  if (!json_is_object(a) || !json_is_object(b)) return json_equal(a, b);
  json_object_foreach((json_t *)a, key, value) {
    const json_t *other = json_object_get(b, key);
    if (!is_timing(key) && (!other || !sntk_same_result(value, other))) return false;
  }
  json_object_foreach((json_t *)b, key, value) if (!is_timing(key) && !json_object_get(a, key)) return false;
  return true;
}
