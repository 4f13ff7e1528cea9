/**
 * @file table.c
 * @brief Aligned columns for the terminal.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/app.h"

enum { CELL = 160 };

struct app_table {
  int columns;
  int64_t cells, capacity;
  char (*text)[CELL]; /* headers first */
  bool lost;          /* a cell found no memory */
};

static char *next_cell(app_table *table) {
  if (table->cells == table->capacity) {
    const int64_t capacity = table->capacity ? 2 * table->capacity : 64;
    void *grown = realloc(table->text, (size_t)capacity * sizeof *table->text);
    table->lost |= !grown;
    if (!grown) return NULL;
    table->text = grown;
    table->capacity = capacity;
  }
  return table->text[table->cells++];
}

app_table *app_table_create(int columns, const char *const *headers) {
  app_table *table = calloc(1, sizeof *table);
  if (!table) return NULL;
  table->columns = columns;
  for (int c = 0; c < columns; c++) app_table_cell(table, "%s", headers[c]);
  return table;
}

void app_table_cell(app_table *table, const char *format, ...) {
  char *cell = table ? next_cell(table) : NULL;
  if (!cell) return;
  va_list args;
  va_start(args, format);
  char text[4 * CELL];
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  app_escape(text, cell, CELL);
}

void app_table_text(app_table *table, const char *text) {
  if (table && !text) table->lost = true;
  if (text) app_table_cell(table, "%s", text);
}

void app_table_number(app_table *table, double value) {
  if (!isfinite(value))
    app_table_cell(table, "-");
  else if (value == floor(value) && fabs(value) < 1e15)
    app_table_cell(table, "%.0f", value); /* widths and steps in full */
  else
    app_table_cell(table, "%.4g", value);
}

/* Of UTF-8 text: all bytes but those that continue a character. */
static int characters(const char *text) {
  int count = 0;
  for (; *text; text++) count += ((unsigned char)*text & 0xc0) != 0x80;
  return count;
}

void app_table_print(app *a, const app_table *table) {
  if (!table || table->lost) {
    a->untold = true;
    return;
  }
  const int64_t rows = table->cells / table->columns;
  for (int64_t r = 0; r < rows; r++) {
    for (int c = 0; c < table->columns; c++) {
      int wide = 0;
      for (int64_t s = 0; s < rows; s++) {
        const int length = characters(table->text[s * table->columns + c]);
        if (length > wide) wide = length;
      }
      const char *text = table->text[r * table->columns + c];
      const int room = wide - characters(text);
      /* the first column names the row, the others are figures */
      printf("%s%*s%s%*s", c ? "  " : "", c ? room : 0, "", text, c ? 0 : room, "");
    }
    printf("\n");
  }
}

void app_table_free(app_table *table) {
  if (!table) return;
  free(table->text);
  free(table);
}
