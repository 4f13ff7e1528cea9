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
  return used;
}

void app_line(FILE *file, const char *format, ...) {
  va_list args, again;
  va_start(args, format);
  va_copy(again, args);
  const int length = vsnprintf(NULL, 0, format, args);
  const size_t room = length < 0 ? 0 : (size_t)length + 1, most = 4 * room + 1;
  char *text = room ? malloc(room) : NULL, *shown = room ? malloc(most) : NULL;
  if (text && shown) {
    vsnprintf(text, room, format, again);
    const size_t used = app_escape(text, shown, most - 1);
    memcpy(shown + used, "\n", 2);
    fputs(shown, file);
  } else {
    fputs("softntk: no memory for a line of text\n", file);
  }
  va_end(again);
  va_end(args);
  free(text);
  free(shown);
}
