/**
 * @file record.c
 * @brief A record under construction.
 *
 * SPDX-License-Identifier: MIT
 */
#include "core/record.h"

#include <stdlib.h>
#include <string.h>

#include "core/output.h"

struct sntk_record {
  json_t *members;
  bool incomplete;
};

sntk_record *sntk_record_create(void) {
  sntk_record *record = calloc(1, sizeof *record);
  if (record && !(record->members = json_object())) {
    free(record);
    record = NULL;
  }
  return record;
}

void sntk_record_free(sntk_record *record) {
  if (!record) return;
  json_decref(record->members);
  free(record);
}

void sntk_record_json(sntk_record *record, const char *key, json_t *value) {
  if (!record)
    json_decref(value);
  else if (json_object_set_new(record->members, key, value) != 0) /* also where value is NULL */
    record->incomplete = true;
}

/* JSON has no way to say a byte that is not UTF-8, as a file's name may hold and an error's text then quotes: '?'
 * stands for it. NULL without memory. */
static json_t *readable(const char *value) {
  char *copy = value ? strdup(value) : NULL;
  for (char *at = copy; at && *at; at++)
    if ((unsigned char)*at >= 0x80) *at = '?';
  json_t *string = json_string(copy);
  free(copy);
  return string;
}

void sntk_record_text(sntk_record *record, const char *key, const char *value) {
  json_t *string = json_string(value);
  sntk_record_json(record, key, string ? string : readable(value));
}

void sntk_record_int(sntk_record *record, const char *key, int64_t value) {
  sntk_record_json(record, key, json_integer((json_int_t)value));
}

void sntk_record_real(sntk_record *record, const char *key, double value) {
  sntk_record_json(record, key, sntk_json_real(value));
}

void sntk_record_bool(sntk_record *record, const char *key, bool value) {
  sntk_record_json(record, key, json_boolean(value));
}

void sntk_record_null(sntk_record *record, const char *key) { sntk_record_json(record, key, json_null()); }

json_t *sntk_record_members(const sntk_record *record) { return record ? record->members : NULL; }

bool sntk_record_complete(const sntk_record *record) { return record && !record->incomplete; }
