/**
 * @file text.c
 * @brief What the program prints for people: names, texts of libraries and values of files are shown, never obeyed.
 *
 * A terminal acts on control characters, and orders text by the marks of both directions. So each of their bytes is
 * shown as \xHH, as is each byte that is not UTF-8. Other text stays as it is.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/app.h"

/* Length and code point of the UTF-8 sequence at the start of a text; 0 where it is none (too long a form, a surrogate,
 * beyond U+10FFFF, cut off). */
static size_t decode(const char *text, unsigned long *code) {
  const unsigned char first = (unsigned char)text[0];
  const size_t length = first < 0x80   ? 1
                        : first < 0xc2 ? 0
                        : first < 0xe0 ? 2
                        : first < 0xf0 ? 3
                        : first < 0xf5 ? 4
                                       : 0;
  static const unsigned long least[] = {0, 0, 0x80, 0x800, 0x10000};
  *code = length == 1 ? first : first & (0x7fUL >> length);
  for (size_t i = 1; i < length; i++) {
    if (((unsigned char)text[i] & 0xc0) != 0x80) return 0;
    *code = *code << 6 | ((unsigned char)text[i] & 0x3f);
  }
  return *code < least[length] || *code > 0x10ffff || (*code >= 0xd800 && *code < 0xe000) ? 0 : length;
}

/* Does a terminal or a reader of lines act on it? Controls, line separators, and embeddings, overrides and isolates of
 * the other direction. */
static bool is_control(unsigned long code) {
  return code < 0x20 || (code >= 0x7f && code < 0xa0) || (code >= 0x2028 && code <= 0x202e) ||
         (code >= 0x2066 && code <= 0x2069);
}

size_t app_escape(const char *text, char *out, size_t size) {
  const char *const begin = text;
  size_t used = 0;
  while (*text) {
    unsigned long code;
    const size_t length = decode(text, &code), step = length ? length : 1;
    const bool shown = length && !is_control(code);
    const size_t wide = shown ? step : 4 * step;
    if (used + wide + 1 > size) break;
    if (shown) memcpy(out + used, text, step);
    for (size_t i = 0; i < step && !shown; i++) snprintf(out + used + 4 * i, 5, "\\x%02x", (unsigned char)text[i]);
    used += wide;
    text += step;
  }
  if (size) out[used] = '\0';
  return (size_t)(text - begin);
}

/* Needs no memory for a line of fewer characters; a longer one ends there where it finds none. */
enum { LINE_CHARS = 4096 };

static void put_line(FILE *file, const char *text) {
  char shown[4 * LINE_CHARS];
  do {
    text += app_escape(text, shown, sizeof shown - 1);
    if (!*text) strcat(shown, "\n");
    fputs(shown, file);
  } while (*text);
}

void app_line(FILE *file, const char *format, ...) {
  va_list args, again;
  va_start(args, format);
  va_copy(again, args);
  char line[LINE_CHARS], *longer = NULL;
  const int length = vsnprintf(line, sizeof line, format, args);
  if (length >= LINE_CHARS) longer = malloc((size_t)length + 1);
  if (longer) vsnprintf(longer, (size_t)length + 1, format, again);
  put_line(file, longer ? longer : line);
  free(longer);
  va_end(again);
  va_end(args);
}
