/**
 * @file record.h
 * @brief A record under construction: a JSON object that remembers whether a member was lost.
 *
 * A member that finds no memory leaves the record incomplete for good, so that setters need no check of their own: an
 * incomplete record has no text. Every setter accepts NULL as an incomplete record.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_RECORD_H
#define SOFTNTK_RECORD_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct sntk_record sntk_record;

/* An empty record; NULL without memory. Free with sntk_record_free. */
sntk_record *sntk_record_create(void);
void sntk_record_free(sntk_record *record);

/* Sets a member, or replaces it in its place. A real that is not finite becomes null; in a text that is not UTF-8 '?'
 * stands for each byte beyond ASCII. */
void sntk_record_text(sntk_record *record, const char *key, const char *value);
void sntk_record_int(sntk_record *record, const char *key, int64_t value);
void sntk_record_real(sntk_record *record, const char *key, double value);
void sntk_record_bool(sntk_record *record, const char *key, bool value);
void sntk_record_null(sntk_record *record, const char *key);
/* Takes the reference; a NULL value is one that found no memory. */
void sntk_record_json(sntk_record *record, const char *key, json_t *value);

/* The members so far, to be read; a borrowed reference, NULL for NULL. */
json_t *sntk_record_members(const sntk_record *record);

/* Is every member there that was set? False for NULL. */
bool sntk_record_complete(const sntk_record *record);

#endif
