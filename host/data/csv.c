/**
 * @file csv.c
 * @brief Numbers in text: comma-separated (or semicolons, tabs, spaces), plain or gzip-compressed.
 *
 * Where the first line could be a header or not, the reader asks: a header in silence taken for a sample, or a sample
 * for a header, would change the data without a word.
 *
 * The separator is the first of comma, semicolon, tab and space that the first line of numbers has. Quotes as in RFC
 * 4180 are tolerated around a field, which may not contain a line break. Numbers are decimal with a point whatever the
 * locale, finite and fully consumed; whole numbers beyond 2^53 are refused, since float64 would change them silently.
 *
 * SPDX-License-Identifier: MIT
 */
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "data/loaders.h"

enum { CHUNK_BYTES = 1 << 16, FIRST_LINE = 1 << 12, FIRST_VALUES = 1 << 12 };
enum { LONG_COUNT = 16 }; /* columns; so many are not counted by chance */

/* Separators in the order of preference; the last stands for lines of one field. */
enum { SEPARATORS = 5, SPACE = 3, NONE = 4 };
static const char separator_char[SEPARATORS] = {',', ';', '\t', ' ', '\0'};
static const char *const separator_name[SEPARATORS] = {"commas", "semicolons", "tabs", "spaces",
                                                       "nothing: the first line has no comma, semicolon, tab or space"};

typedef enum number_kind { NUMBER, EMPTY, NOT_NUMBER, NOT_FINITE, TOO_LARGE, INEXACT } number_kind;

/* How the numbers of a line are written. */
typedef struct line_look {
  int64_t fields, quoted, decimals; /* decimals: with a point or an exponent */
  bool increasing;                  /* whole numbers from 0 up, each above the one before */
  bool rising, falling;             /* whole numbers of either sign in that order */
  double first, last;
} line_look;

typedef struct csv_reader {
  sntk_context *ctx;
  const char *path;
  sntk_input *input;
  int64_t memory_limit;
  char *chunk;
  int64_t chunk_at, chunk_size;
  char *line; /* the line under way, zero-terminated, without its break */
  int64_t line_size, line_capacity;
  int64_t line_number; /* from 1 */
  int separator;
  int64_t lines;                     /* of numbers, so far */
  int64_t header_fields[SEPARATORS]; /* of the header, under each separator; 0: there is none */
  bool looked;                       /* the first line is a sample because it looks so */
  line_look looks[2];                /* of the first two lines then */
  bool numbers_rows;                 /* the first column has no name and whole numbers from 0 up so far */
  double *values;
  int64_t rows, cols, capacity; /* rows are those kept */
} csv_reader;

/* The part of a line that is left to split into fields. */
typedef struct csv_cursor {
  const char *at, *end;
  bool more; /* another field follows, be it empty */
} csv_cursor;

typedef struct csv_field {
  const char *text;
  int64_t size;
  bool quoted;
} csv_field;

static sntk_status no_memory(const csv_reader *r, int64_t bytes) {
  char need[32], have[32];
  return sntk_fail(
      r->ctx, SNTK_ERR_MEMORY,
      "%s:%lld: reading up to here takes %s, and %s may be used; raise --memory-limit or take fewer samples", r->path,
      (long long)r->line_number, sntk_format_bytes(bytes, need), sntk_format_bytes(r->memory_limit, have));
}

/* A buffer of at least `wanted` elements, doubled as long as the limit allows. */
static sntk_status grow(const csv_reader *r, void **buffer, int64_t *capacity, int64_t wanted, int64_t first,
                        int64_t size) {
  if (wanted <= *capacity) return SNTK_OK;
  const int64_t most = r->memory_limit / size;
  if (wanted > most) return no_memory(r, sntk_size_mul(wanted, size));
  int64_t next = *capacity ? *capacity : first;
  while (next < wanted) next *= 2; /* no overflow: half of it is in memory already */
  if (next > most) next = most;
  void *grown = realloc(*buffer, (size_t)(next * size));
  if (!grown) return no_memory(r, next * size);
  *buffer = grown;
  *capacity = next;
  return SNTK_OK;
}

/* Appends to the line; keeps room for the terminating zero. */
static sntk_status append(csv_reader *r, const char *from, int64_t count) {
  void *line = r->line;
  const sntk_status status = grow(r, &line, &r->line_capacity, r->line_size + count + 1, FIRST_LINE, 1);
  r->line = line;
  if (status != SNTK_OK) return status;
  memcpy(r->line + r->line_size, from, (size_t)count);
  r->line_size += count;
  r->line[r->line_size] = '\0';
  return SNTK_OK;
}

/* The next line without its break; *found is false at the end of the file. */
static sntk_status next_line(csv_reader *r, bool *found) {
  *found = false;
  r->line_size = 0;
  r->line_number++;
  for (;;) {
    if (r->chunk_at == r->chunk_size) {
      SNTK_TRY(sntk_input_read(r->ctx, r->input, r->chunk, CHUNK_BYTES, &r->chunk_size));
      r->chunk_at = 0;
      if (r->chunk_size == 0) break;
    }
    const char *start = r->chunk + r->chunk_at;
    const char *newline = memchr(start, '\n', (size_t)(r->chunk_size - r->chunk_at));
    const int64_t count = newline ? newline - start : r->chunk_size - r->chunk_at;
    SNTK_TRY(append(r, start, count));
    *found = true;
    r->chunk_at += newline ? count + 1 : count;
    if (newline) break;
  }
  if (r->line_size > 0 && r->line[r->line_size - 1] == '\r') r->line[--r->line_size] = '\0';
  return SNTK_OK;
}

static bool is_space(char c) { return c == ' ' || c == '\t'; }

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* The first line's separator, or that of the first line of numbers. */
static int find_separator(const char *line, int64_t size) {
  bool seen[SEPARATORS] = {[NONE] = true}, quoted = false;
  while (size > 0 && line[size - 1] == ' ') size--;
  while (size > 0 && *line == ' ') line++, size--;
  for (int64_t j = 0; j < size; j++) {
    if (line[j] == '"') quoted = !quoted;
    for (int s = 0; s < NONE; s++) seen[s] |= !quoted && line[j] == separator_char[s];
  }
  int s = 0;
  while (!seen[s]) s++;
  return s;
}

static csv_cursor start_fields(const char *line, int64_t size, int separator) {
  csv_cursor c = {.at = line, .end = line + size, .more = true};
  if (separator == SPACE)
    while (c.at < c.end && is_space(*c.at)) c.at++;
  return c;
}

/* Takes a field, without the space around it and its quotes. False where a quote stays open or something follows. */
static bool next_field(csv_cursor *c, int separator, csv_field *field) {
  /* A tab is space around a field unless it separates. */
  while (c->at < c->end && is_space(*c->at) && *c->at != separator_char[separator]) c->at++;
  const bool quoted = c->at < c->end && *c->at == '"';
  bool closed = false;
  const char *start = quoted ? ++c->at : c->at, *stop = start;
  if (quoted) {
    for (; c->at < c->end && !closed; c->at++) {
      if (*c->at != '"') continue;
      if (c->at + 1 < c->end && c->at[1] == '"')
        c->at++;
      else
        closed = true;
    }
    stop = closed ? c->at - 1 : c->end;
  }
  const char *tail = c->at;
  while (c->at < c->end &&
         (separator == SPACE ? !is_space(*c->at) : *c->at != separator_char[separator] || separator == NONE))
    c->at++;
  const char *tail_end = c->at;
  while (tail_end > tail && is_space(tail_end[-1])) tail_end--;
  if (!quoted) stop = tail_end;
  *field = (csv_field){start, stop - start, quoted};
  if (separator == SPACE)
    while (c->at < c->end && is_space(*c->at)) c->at++;
  c->more = c->at < c->end;
  if (separator != SPACE && c->more) c->at++;
  return !quoted || (closed && tail_end == tail);
}

/* Is the text a number that is not finite, as programs write it? */
static bool is_non_finite_word(const char *text, int64_t size) {
  static const char *const words[] = {"nan", "inf", "infinity"};
  if (size > 0 && (*text == '+' || *text == '-')) text++, size--;
  for (size_t w = 0; w < sizeof words / sizeof *words; w++)
    if (size == (int64_t)strlen(words[w]) && strncasecmp(text, words[w], (size_t)size) == 0) return true;
  return size > 4 && strncasecmp(text, "nan(", 4) == 0 && text[size - 1] == ')'; /* as C prints it */
}

/* [+-] digits [. digits] [e [+-] digits] with at least one digit in front of e. strtod then only converts: in the C
 * locale, which the caller has set, it stops at the field's end, since what ends a field does not continue this
 * grammar. */
static number_kind parse_number(csv_field field, double *value) {
  const char *at = field.text, *end = at + field.size;
  if (at == end) return EMPTY;
  const bool negative = *at == '-';
  if (*at == '+' || *at == '-') at++;
  const char *digits = at;
  int64_t whole = 0;
  for (; at < end && is_digit(*at); at++)
    if (whole <= SNTK_EXACT_INTEGER) whole = 10 * whole + (*at - '0');
  int64_t count = at - digits;
  if (count > 0 && at == end) {
    *value = negative ? -(double)whole : (double)whole;
    return whole <= SNTK_EXACT_INTEGER ? NUMBER : INEXACT;
  }
  if (at < end && *at == '.') {
    const char *fraction = ++at;
    while (at < end && is_digit(*at)) at++;
    count += at - fraction;
  }
  if (count > 0 && at < end && (*at == 'e' || *at == 'E')) {
    at++;
    if (at < end && (*at == '+' || *at == '-')) at++;
    const char *exponent = at;
    while (at < end && is_digit(*at)) at++;
    if (at == exponent) return NOT_NUMBER;
  }
  if (count == 0 || at != end) return is_non_finite_word(field.text, field.size) ? NOT_FINITE : NOT_NUMBER;
  *value = strtod(field.text, NULL);
  return isfinite(*value) ? NUMBER : TOO_LARGE;
}

static sntk_status bad_quote(const csv_reader *r, int64_t col) {
  return sntk_fail(
      r->ctx, SNTK_ERR_DATA,
      "%s:%lld: column %lld: a quote is not closed in its line, or text follows it; write plain numbers without "
      "quotes",
      r->path, (long long)r->line_number, (long long)col);
}

static sntk_status bad_number(const csv_reader *r, int64_t col, csv_field field, number_kind kind) {
  static const char *const text[] = {
      [EMPTY] = "is empty: every column of every line must have a number",
      [NOT_NUMBER] = "is not a number: write decimals with a point, such as 1.5 or 2e-3",
      [NOT_FINITE] = "is not finite: remove the line or fill in a value",
      [TOO_LARGE] = "is too large for float64 (1.8e308)",
      [INEXACT] =
          "is a whole number beyond 2^53, which float64 does not hold exactly: write it as a real, such as 1.5e16, if "
          "a rounded value will do",
  };
  char shown[SNTK_EXCERPT_CHARS];
  return sntk_fail(r->ctx, SNTK_ERR_DATA, "%s:%lld: column %lld: \"%s\" %s (fields are separated by %s)", r->path,
                   (long long)r->line_number, (long long)col, sntk_excerpt(field.text, field.size, shown), text[kind],
                   separator_name[r->separator]);
}

/* Number of fields of the line under a separator. */
static int64_t count_fields(const csv_reader *r, int separator) {
  csv_cursor c = start_fields(r->line, r->line_size, separator);
  int64_t count = 0;
  csv_field field;
  while (c.more) {
    next_field(&c, separator, &field);
    count++;
  }
  return count;
}

/* ---- is the first line a header? ---- */

static const char ask_header[] = "give header: yes if the line is one of names, header: no if it is a sample";

/* The next character of UTF-8 text, -1 where it is none. */
static int64_t next_character(const unsigned char **at, const unsigned char *end) {
  const unsigned char first = *(*at)++;
  if (first < 0x80) return first;
  const int more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
  int64_t code = first & (0x3f >> more);
  for (int b = 0; b < more; b++) {
    if (*at == end || (**at & 0xc0) != 0x80) return -1;
    code = code << 6 | (*(*at)++ & 0x3f);
  }
  return code;
}

/* Punctuation, dashes, currencies, fractions, full-width digits and the like are no letters. Bytes that are not UTF-8
 * are taken for letters of an older encoding. */
static bool is_letter(int64_t code) {
  if (code < 0) return true;
  if (code < 0x80) return (code >= 'a' && code <= 'z') || (code >= 'A' && code <= 'Z');
  if (code < 0xc0) return code == 0xb5;
  return code != 0xd7 && code != 0xf7 && !(code >= 0x2000 && code < 0x2c00) && !(code >= 0x3000 && code < 0x3040) &&
         !(code >= 0xff00 && code <= 0xff20) && code != 0xfeff;
}

/* A letter, and no zero byte, which no text has. */
static bool has_letter(csv_field field) {
  const unsigned char *at = (const unsigned char *)field.text, *end = at + field.size;
  bool letter = false;
  while (at < end) {
    const int64_t code = next_character(&at, end);
    if (code == 0) return false;
    letter |= is_letter(code);
  }
  return letter;
}

/* A sign, a point and spaces may stand before the digit of what was to be a number. */
static bool begins_as_number(csv_field field) {
  int64_t j = 0;
  while (j < field.size && strchr("+-. ", field.text[j]) && field.text[j]) j++;
  return j < field.size && is_digit(field.text[j]);
}

/* What programs write for a value that is missing, wrong or a truth, without its punctuation and in small letters. */
static bool is_value_word(csv_field field) {
  static const char *const words[] = {
      "na",      "nana",  "nan",       "nat",     "null",  "nil",       "none",         "missing",       "unknown",
      "unk",     "undef", "undefined", "void",    "empty", "blank",     "notavailable", "notapplicable", "nodata",
      "novalue", "error", "err",       "invalid", "inf",   "infinity",  "infinite",     "true",          "false",
      "yes",     "no",    "nanind",    "nansnan", "nd",    "notanumber"};
  char word[16];
  int used = 0;
  for (int64_t j = 0; j < field.size; j++) {
    const char c = field.text[j];
    if (used == (int)sizeof word - 1 || (c & 0x80)) return false;
    if (is_letter(c) || is_digit(c)) word[used++] = (char)(c | 32);
  }
  word[used] = '\0';
  for (size_t w = 0; w < sizeof words / sizeof *words; w++)
    if (strcmp(word, words[w]) == 0) return true;
  const char last = field.text[field.size - 1];
  if (field.text[0] == '#' && (last == '!' || last == '?')) return true; /* a spreadsheet's #DIV/0! and others */
  return field.size == 2 && memcmp(field.text, "\\N", 2) == 0;           /* a database's */
}

/* A name of a column can be nothing else: it has a letter, does not begin as a number, and is no word for a value. */
static bool is_name(csv_field field) { return has_letter(field) && !begins_as_number(field) && !is_value_word(field); }

static int compare_fields(const void *a, const void *b) {
  const csv_field *x = a, *y = b;
  const int order = memcmp(x->text, y->text, (size_t)(x->size < y->size ? x->size : y->size));
  return order ? order : (x->size > y->size) - (x->size < y->size);
}

/* Columns of one table have different names; cells of a line of samples often are the same. */
static sntk_status check_different(const csv_reader *r, int64_t count) {
  void *memory;
  SNTK_TRY(sntk_alloc(r->ctx, "the header", count, sizeof(csv_field), &memory));
  csv_field *fields = memory;
  csv_cursor c = start_fields(r->line, r->line_size, r->separator);
  for (int64_t j = 0; j < count; j++) next_field(&c, r->separator, &fields[j]);
  qsort(fields, (size_t)count, sizeof *fields, compare_fields);
  sntk_status status = SNTK_OK;
  char shown[SNTK_EXCERPT_CHARS];
  for (int64_t j = 1; j < count && status == SNTK_OK; j++)
    if (compare_fields(&fields[j - 1], &fields[j]) == 0)
      status = sntk_fail(r->ctx, SNTK_ERR_DATA, "%s:%lld: \"%s\" comes twice, so it may be no header; %s", r->path,
                         (long long)r->line_number, sntk_excerpt(fields[j].text, fields[j].size, shown), ask_header);
  free(fields);
  return status;
}

/* The first field of a kind and its column, from 1. */
typedef struct csv_found {
  csv_field field;
  int64_t col;
} csv_found;

static void note(csv_found *found, csv_field field, int64_t col) {
  if (!found->col) *found = (csv_found){field, col};
}

static sntk_status mixed_line(const csv_reader *r, csv_found word, csv_found number) {
  char shown[SNTK_EXCERPT_CHARS], other[SNTK_EXCERPT_CHARS];
  return sntk_fail(
      r->ctx, SNTK_ERR_DATA,
      "%s:%lld: column %lld: \"%s\" is not a number, while column %lld, \"%s\", is (fields are separated by %s); "
      "correct the line, or give header: yes if it is a line of names",
      r->path, (long long)r->line_number, (long long)word.col, sntk_excerpt(word.field.text, word.field.size, shown),
      (long long)number.col, sntk_excerpt(number.field.text, number.field.size, other), separator_name[r->separator]);
}

static sntk_status unclear_line(const csv_reader *r, csv_found cell) {
  char shown[SNTK_EXCERPT_CHARS];
  return sntk_fail(r->ctx, SNTK_ERR_DATA,
                   "%s:%lld: column %lld: \"%s\" is neither a number nor plainly the name of a column (fields are "
                   "separated by %s); %s",
                   r->path, (long long)r->line_number, (long long)cell.col,
                   sntk_excerpt(cell.field.text, cell.field.size, shown), separator_name[r->separator], ask_header);
}

/* A line of names is one where every field is a name; the first may be empty, as that over row labels is. One with both
 * numbers and others could as well be a damaged line of numbers, and what is not plainly a name may be a missing value:
 * refused. */
static sntk_status find_header(const csv_reader *r, bool *is_header) {
  csv_cursor c = start_fields(r->line, r->line_size, r->separator);
  csv_found name = {0}, unclear = {0}, number = {0};
  csv_field field;
  int64_t count = 0;
  while (c.more) {
    if (!next_field(&c, r->separator, &field)) return bad_quote(r, count + 1);
    count++;
    double value;
    const number_kind kind = parse_number(field, &value);
    if (kind == NOT_NUMBER)
      note(is_name(field) ? &name : &unclear, field, count);
    else if (kind != EMPTY)
      note(&number, field, count);
    else if (count > 1)
      note(&unclear, field, count);
  }
  *is_header = name.col > 0;
  const bool all_empty = !name.col && !number.col && (!unclear.col || unclear.field.size == 0);
  if (all_empty) return SNTK_OK; /* the line is refused for it */
  if (number.col && name.col) return mixed_line(r, name, number);
  if (number.col && unclear.col && unclear.field.size > 0) return mixed_line(r, unclear, number);
  if (number.col) return SNTK_OK;
  if (unclear.col) return unclear_line(r, unclear);
  return check_different(r, count);
}

/* Is the first name empty, or what pandas makes of an empty one? */
static bool lacks_first_name(const csv_reader *r) {
  csv_cursor c = start_fields(r->line, r->line_size, r->separator);
  csv_field field;
  next_field(&c, r->separator, &field);
  return field.size == 0 || (field.size == 10 && memcmp(field.text, "Unnamed: 0", 10) == 0);
}

/* How the numbers of the line are written. */
static line_look look_at(const csv_reader *r) {
  line_look look = {.increasing = true, .rising = true, .falling = true, .last = -1.0};
  csv_cursor c = start_fields(r->line, r->line_size, r->separator);
  csv_field field;
  while (c.more && next_field(&c, r->separator, &field)) {
    double value = -1.0;
    bool decimals = false;
    parse_number(field, &value);
    for (int64_t j = 0; j < field.size; j++) decimals |= field.text[j] == '.' || (field.text[j] | 32) == 'e';
    const bool whole = value == floor(value), begins = look.fields == 0;
    look.increasing &= whole && value > look.last;
    look.rising &= whole && (begins || value > look.last);
    look.falling &= whole && (begins || value < look.last);
    if (look.fields == 0) look.first = value;
    look.last = value;
    look.decimals += decimals;
    look.quoted += field.quoted;
    look.fields++;
  }
  return look;
}

static sntk_status perhaps_header(const csv_reader *r, const char *why) {
  return sntk_fail(r->ctx, SNTK_ERR_DATA, "%s:1: %s; %s", r->path, why, ask_header);
}

/* Programs write the numbers of columns that have no names. A lone 0 begins many a file of labels, whose rows are
 * counted against the inputs'; a long count that the next line goes on with is no header's. */
static sntk_status check_count(const csv_reader *r, bool labels) {
  const line_look *const first = &r->looks[0], *const next = &r->looks[1];
  if (!first->increasing || first->last != (double)first->fields - 1.0 || (first->decimals && first->fields < 3))
    return SNTK_OK;
  if (first->fields == 1)
    return labels ? SNTK_OK : perhaps_header(r, "a lone 0, which programs write over a column that has no name");
  const bool goes_on =
      next->increasing && next->last == 2.0 * (double)first->fields - 1.0 && next->first == first->last + 1.0;
  if (goes_on && first->fields >= LONG_COUNT) return SNTK_OK;
  return perhaps_header(r, "the line counts its columns from 0, as programs do that have no names for them");
}

/* For a first line of numbers that was taken for a sample, and the next (without fields: there is none): is the first
 * one written otherwise, as the numbers of columns are above decimals? */
static sntk_status compare_lines(const csv_reader *r, bool labels) {
  const line_look *const first = &r->looks[0], *const next = &r->looks[1];
  SNTK_TRY(check_count(r, labels));
  if (first->fields > 1 && (first->rising || first->falling) && !first->decimals && next->fields > 0 &&
      next->decimals == next->fields)
    return perhaps_header(r, "the line has whole numbers in order, and all of the next have decimals");
  if (first->quoted == first->fields && next->fields > 0 && next->quoted == 0)
    return perhaps_header(r, "every number of the line is in quotes, and none of the next is");
  return SNTK_OK;
}

/* Parses the line into a new row; one beyond `limit` is checked and dropped. */
static sntk_status read_row(csv_reader *r, int64_t limit) {
  const int64_t start = r->rows * r->cols;
  csv_cursor c = start_fields(r->line, r->line_size, r->separator);
  int64_t col = 0;
  const bool first = r->cols == 0;
  const bool keep = limit <= 0 || r->rows < limit;
  while (c.more) {
    csv_field field;
    if (!next_field(&c, r->separator, &field)) return bad_quote(r, col + 1);
    double value;
    const number_kind kind = parse_number(field, &value);
    if (kind != NUMBER) return bad_number(r, col + 1, field, kind);
    if (col == 0) r->numbers_rows &= value >= 0.0 && value == floor(value);
    if (keep && (first || col < r->cols)) {
      void *values = r->values;
      const sntk_status status = grow(r, &values, &r->capacity, start + col + 1, FIRST_VALUES, sizeof(double));
      r->values = values;
      if (status != SNTK_OK) return status;
      r->values[start + col] = value;
    }
    col++;
  }
  if (first) r->cols = col;
  if (col != r->cols)
    return sntk_fail(
        r->ctx, SNTK_ERR_DATA,
        "%s:%lld: %lld columns, but the lines before have %lld (fields are separated by %s); every line must have "
        "the same number",
        r->path, (long long)r->line_number, (long long)col, (long long)r->cols, separator_name[r->separator]);
  r->rows += keep;
  return SNTK_OK;
}

static bool is_blank(const csv_reader *r) {
  int64_t j = 0;
  while (j < r->line_size && is_space(r->line[j])) j++;
  return j == r->line_size;
}

/* A byte-order mark is no part of the first field. */
static void drop_mark(csv_reader *r) {
  static const char mark[] = "\xEF\xBB\xBF";
  if (r->line_size < 3 || memcmp(r->line, mark, 3) != 0) return;
  r->line_size -= 3;
  memmove(r->line, r->line + 3, (size_t)r->line_size + 1);
}

static sntk_status check_ends(const csv_reader *r) {
  int64_t at = 0;
  while (at < r->line_size && r->line[at] != '\r') at++;
  if (at < r->line_size)
    return sntk_fail(r->ctx, SNTK_ERR_DATA,
                     "%s:%lld: a carriage return inside a line is not a number's; if lines end in carriage returns "
                     "alone, convert them: tr '\\r' '\\n' <old >new",
                     r->path, (long long)r->line_number);
  return SNTK_OK;
}

/* The file's first line: its separator, and whether it is a header. */
static sntk_status take_first_line(csv_reader *r, int header, bool *is_header) {
  r->separator = find_separator(r->line, r->line_size);
  *is_header = header > 0;
  if (header < 0) SNTK_TRY(find_header(r, is_header));
  r->looked = header < 0 && !*is_header;
  if (!*is_header) return SNTK_OK;
  for (int s = 0; s < SEPARATORS; s++) r->header_fields[s] = count_fields(r, s);
  r->numbers_rows = lacks_first_name(r);
  return SNTK_OK;
}

/* A line of numbers. */
static sntk_status take_line(csv_reader *r, int header, int64_t limit) {
  if (r->lines == 0) r->separator = find_separator(r->line, r->line_size);
  SNTK_TRY(read_row(r, limit));
  const int64_t names = r->header_fields[r->separator];
  if (r->lines == 0 && names > 0 && names != r->cols)
    return sntk_fail(
        r->ctx, SNTK_ERR_DATA,
        "%s:1: %lld names in the header, but line %lld has %lld columns (fields are separated by %s); every "
        "column needs one name, or remove the header",
        r->path, (long long)names, (long long)r->line_number, (long long)r->cols, separator_name[r->separator]);
  if (r->looked && r->lines < 2) r->looks[r->lines] = look_at(r);
  r->lines++;
  return r->looked && r->lines == 2 ? compare_lines(r, header == SNTK_HEADER_OF_LABELS) : SNTK_OK;
}

static sntk_status take_end(csv_reader *r, int header) {
  if (r->lines == 0)
    return sntk_fail(r->ctx, SNTK_ERR_DATA, "%s: %s; at least one line of numbers is needed", r->path,
                     r->header_fields[NONE] ? "there is no line behind the header" : "the file is empty");
  if (r->numbers_rows && r->lines > 1 && r->cols > 1) /* of shuffled rows, or a part of them, in any order */
    return sntk_fail(r->ctx, SNTK_ERR_DATA,
                     "%s: the first column has no name and numbers the rows: programs write their index so, and it "
                     "would be taken for an input; write the file without it, in Python df.to_csv(..., index=False), "
                     "or name the column",
                     r->path);
  return r->looked && r->lines == 1 ? compare_lines(r, header == SNTK_HEADER_OF_LABELS) : SNTK_OK;
}

static sntk_status read_lines(csv_reader *r, int header, int64_t limit, int64_t *total) {
  int64_t blank_line = 0;
  for (;;) {
    bool found, is_header = false;
    SNTK_TRY(next_line(r, &found));
    if (!found) break;
    if (r->line_number == 1) drop_mark(r);
    SNTK_TRY(check_ends(r));
    if (is_blank(r)) {
      if (!blank_line) blank_line = r->line_number;
      continue;
    }
    if (blank_line)
      return sntk_fail(r->ctx, SNTK_ERR_DATA,
                       "%s:%lld: the line is blank, and others follow; blank lines may only end the file", r->path,
                       (long long)blank_line);
    if (r->line_number == 1) SNTK_TRY(take_first_line(r, header, &is_header));
    if (!is_header) SNTK_TRY(take_line(r, header, limit));
  }
  *total = r->lines;
  return take_end(r, header);
}

/* Reads the first chunk, and refuses what is no plain text. */
static sntk_status check_format(csv_reader *r) {
  SNTK_TRY(sntk_input_read(r->ctx, r->input, r->chunk, CHUNK_BYTES, &r->chunk_size));
  return sntk_fail_format(r->ctx, r->path, "a table in plain text", NULL, r->chunk, r->chunk_size);
}

sntk_status sntk_csv_load(sntk_context *ctx, const char *path, int header, int64_t limit, sntk_array *array,
                          int64_t *total) {
  *array = (sntk_array){0};
  csv_reader r = {.ctx = ctx, .path = path, .memory_limit = sntk_host_budget(ctx)};
  const locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
  const locale_t before = plain ? uselocale(plain) : (locale_t)0;
  void *chunk = NULL;
  sntk_status status = plain ? SNTK_OK : sntk_fail(ctx, SNTK_ERR_MEMORY, "%s: no memory to read it", path);
  if (status == SNTK_OK) status = sntk_input_open(ctx, path, &r.input);
  if (status == SNTK_OK) status = sntk_alloc(ctx, path, CHUNK_BYTES, 1, &chunk);
  r.chunk = chunk;
  if (status == SNTK_OK) status = check_format(&r);
  if (status == SNTK_OK) status = read_lines(&r, header, limit, total);
  if (status == SNTK_OK) {
    /* Doubling leaves up to half unused. A failure to shrink changes nothing. */
    double *fitted = realloc(r.values, (size_t)(r.rows * r.cols) * sizeof(double));
    *array = (sntk_array){.rows = r.rows, .cols = r.cols, .values = fitted ? fitted : r.values};
    r.values = NULL;
  }
  free(r.values);
  free(r.line);
  free(chunk);
  sntk_input_close(r.input);
  if (plain) {
    uselocale(before);
    freelocale(plain);
  }
  return status;
}
