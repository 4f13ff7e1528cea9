/**
 * @file axes.c
 * @brief The axes of a grid in a point's id: "network.width=64,seed=2", "-" for none.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/app.h"

char *app_id(const char *id, const char *format, ...) {
  char axes[128];
  va_list args;
  va_start(args, format);
  vsnprintf(axes, sizeof axes, format, args);
  va_end(args);
  const size_t size = strlen(id) + strlen(axes) + 2;
  char *text = malloc(size);
  if (text) snprintf(text, size, "%s%s%s", strcmp(id, "-") == 0 ? "" : id, strcmp(id, "-") == 0 ? "" : ",", axes);
  return text;
}

/* Length of the first "key=value" of an id: to the next comma outside brackets. */
static size_t axis_length(const char *text) {
  size_t length = 0;
  for (int depth = 0; text[length] && (text[length] != ',' || depth > 0); length++)
    depth += (text[length] == '[') - (text[length] == ']');
  return length;
}

static bool among(const char *axis, const char *const *keys, size_t count) {
  const size_t length = strcspn(axis, "=");
  for (size_t i = 0; i < count; i++)
    if (strlen(keys[i]) == length && strncmp(keys[i], axis, length) == 0) return true;
  return false;
}

char *app_axes(const char *id, bool keep, const char *const *keys, size_t count) {
  char *kept = calloc(strlen(id) + 1, 1);
  if (!kept || strcmp(id, "-") == 0) return kept;
  size_t used = 0;
  while (*id) {
    const size_t length = axis_length(id);
    if (among(id, keys, count) == keep) {
      if (used) kept[used++] = ',';
      memcpy(kept + used, id, length);
      used += length;
    }
    id += length + (id[length] == ',');
  }
  return kept;
}

/* Is there an axis that is not among `keys`? */
static bool has_other_axes(const char *id, const char *const *keys, size_t count) {
  if (strcmp(id, "-") == 0) return false;
  while (*id) {
    const size_t length = axis_length(id);
    if (!among(id, keys, count)) return true;
    id += length + (id[length] == ',');
  }
  return false;
}

bool app_more_axes(const json_t *points, const char *const *keys, size_t count) {
  for (size_t i = 0; i < json_array_size(points); i++)
    if (has_other_axes(app_text(json_array_get(points, i), "id"), keys, count)) return true;
  return false;
}

void app_axes_cell(app_table *table, const json_t *point, const char *const *keys, size_t count) {
  char *rest = app_axes(app_text(point, "id"), false, keys, count);
  app_table_text(table, rest);
  free(rest);
}
