/**
 * @file json.c
 * @brief JSON values as a run's files hold them: 17 digits, null where a number is not finite, keys in insertion order.
 *
 * Jansson goes on where its memory fails: it drops members of an object that it copies and keys of one that it prints,
 * and reports success. So its allocations are watched. Of a text that it parses it drops characters, loses count of
 * them, and writes beyond the copies that it makes. So a parse is left where an allocation fails.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "core/output.h"

static pthread_once_t watching = PTHREAD_ONCE_INIT;
static json_malloc_t host_malloc; /* the host program's own, where it has set one */
static json_free_t host_free;
static _Thread_local bool lost;

/* A parse under way: where it is left to, and what it holds. */
typedef struct parse {
  jmp_buf left;
  void **blocks;
  size_t count, capacity;
} parse;

static _Thread_local parse *parsing;

/* False without memory. */
static bool parse_holds(parse *p, void *block) {
  if (p->count == p->capacity) {
    const size_t capacity = 2 * p->capacity + 64;
    void **blocks = realloc(p->blocks, capacity * sizeof *blocks);
    if (!blocks) return false;
    p->blocks = blocks;
    p->capacity = capacity;
  }
  p->blocks[p->count++] = block;
  return true;
}

static void *watched_malloc(size_t size) {
  void *memory = host_malloc(size);
  const bool held = !memory || !parsing || parse_holds(parsing, memory);
  if (memory && held) return memory;
  if (memory) host_free(memory);
  lost |= size > 0;
  if (parsing) longjmp(parsing->left, 1);
  return NULL;
}

/* What is freed is mostly what was taken last. */
static void watched_free(void *block) {
  size_t at = parsing ? parsing->count : 0;
  while (at > 0 && parsing->blocks[at - 1] != block) at--;
  if (at > 0) parsing->blocks[at - 1] = parsing->blocks[--parsing->count];
  host_free(block);
}

static void begin_watching(void) {
  json_get_alloc_funcs(&host_malloc, &host_free);
  json_set_alloc_funcs(watched_malloc, watched_free);
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

/* The value, or NULL where the text is none or the parse was left. */
static json_t *load_or_leave(parse *p, const char *text, size_t length, size_t flags, json_error_t *error) {
  if (setjmp(p->left)) return NULL;
  return json_loadb(text, length, flags, error);
}

/* json_loadb, left where an allocation fails: it is then lost, and what it held is freed. */
static json_t *load(const char *text, size_t length, size_t flags, json_error_t *error) {
  parse p = {.blocks = NULL};
  const bool before = lost;
  lost = false;
  parsing = &p;
  json_t *value = load_or_leave(&p, text, length, flags, error);
  parsing = NULL;
  while (lost && p.count > 0) host_free(p.blocks[--p.count]);
  free(p.blocks);
  lost |= before;
  return value;
}

json_t *sntk_json_parse(const char *text, size_t length, json_error_t *error) {
  sntk_json_watch();
  json_t *value = load(text, length, JSON_REJECT_DUPLICATES, error);
  if (!value || !sntk_json_lost()) return value;
  json_decref(value);
  return NULL;
}

/* Text that was read back and is the same value. */
static char *print(const json_t *value, size_t form) {
  sntk_json_watch();
  char *text = json_dumps(value, form | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
  json_t *again = text ? load(text, strlen(text), JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL) : NULL;
  const bool whole = again && !sntk_json_lost() && json_equal(again, value);
  json_decref(again);
  char *kept = whole ? strdup(text) : NULL; /* for free(), whatever allocator the host has set */
  watched_free(text);
  return kept;
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
