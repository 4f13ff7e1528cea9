/**
 * @file test_data.c
 * @brief Data: every format and what each refuses, generators, normalizations, targets.
 *
 * SPDX-License-Identifier: MIT
 */
#include <dirent.h>
#include <float.h>
#include <hdf5.h>
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

#include "core/core.h"
#include "data/loaders.h"
#include "softntk/data.h"
#include "softntk/rng.h"

enum { PATH_CHARS = 512 };

static sntk_context *ctx;
static char folder[PATH_CHARS / 2];

/* ---- helpers ---- */

static const char *in_folder(const char *name) {
  static char paths[4][PATH_CHARS];
  static int next;
  char *path = paths[next++ % 4];
  snprintf(path, PATH_CHARS, "%s/%s", folder, name);
  return path;
}

static const char *write_file(const char *name, const void *bytes, size_t size) {
  const char *path = in_folder(name);
  FILE *file = fopen(path, "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(bytes, 1, size, file), size);
  assert_int_equal(fclose(file), 0);
  return path;
}

static const char *write_text(const char *name, const char *text) { return write_file(name, text, strlen(text)); }

static const char *write_gzip(const char *name, const void *bytes, size_t size) {
  const char *path = in_folder(name);
  gzFile file = gzopen(path, "wb9");
  assert_non_null(file);
  assert_int_equal(gzwrite(file, bytes, (unsigned)size), size);
  assert_int_equal(gzclose(file), Z_OK);
  return path;
}

/* The whole file, to be freed. */
static char *read_whole(const char *path, size_t *size) {
  FILE *file = fopen(path, "rb");
  assert_non_null(file);
  char *bytes = malloc(1 << 20);
  assert_non_null(bytes);
  *size = fread(bytes, 1, 1 << 20, file);
  fclose(file);
  return bytes;
}

static void assert_text(const char *part) {
  if (!strstr(sntk_context_error(ctx), part)) fail_msg("\"%s\" is not in \"%s\"", part, sntk_context_error(ctx));
}

/* The last failure had this status and a text with all parts ('|' between them). */
static void assert_failure(sntk_status got, sntk_status wanted, const char *parts) {
  if (got != wanted)
    fail_msg("status %s, not %s, for \"%s\" (%s)", sntk_status_name(got), sntk_status_name(wanted), parts,
             got == SNTK_OK ? "" : sntk_context_error(ctx));
  char copy[256];
  snprintf(copy, sizeof copy, "%s", parts);
  char *rest = NULL;
  for (char *part = strtok_r(copy, "|", &rest); part; part = strtok_r(NULL, "|", &rest)) assert_text(part);
}

static void assert_ok(sntk_status status) {
  if (status != SNTK_OK) fail_msg("%s: %s", sntk_status_name(status), sntk_context_error(ctx));
}

static void assert_near(double got, double wanted, double tolerance) {
  if (!(fabs(got - wanted) <= tolerance)) fail_msg("%.17g, wanted %.17g within %g", got, wanted, tolerance);
}

static void assert_values(const double *got, const double *wanted, int64_t count) {
  for (int64_t j = 0; j < count; j++)
    if (got[j] != wanted[j]) fail_msg("value %lld: %.17g, wanted %.17g", (long long)j, got[j], wanted[j]);
}

static sntk_data *create(const sntk_data_options *options) {
  sntk_data *data;
  assert_ok(sntk_data_create(ctx, options, &data));
  return data;
}

static void refuse(const sntk_data_options *options, sntk_status wanted, const char *parts) {
  sntk_data *data = (sntk_data *)1;
  const sntk_status status = sntk_data_create(ctx, options, &data);
  if (status == SNTK_OK) sntk_data_free(data);
  assert_failure(status, wanted, parts);
  assert_null(data);
}

static double norm(const double *x, int64_t count) {
  double sum = 0.0;
  for (int64_t k = 0; k < count; k++) sum += x[k] * x[k];
  return sqrt(sum);
}

static int set_up(void **state) {
  (void)state;
  const char *base = getenv("TMPDIR");
  snprintf(folder, sizeof folder, "%s/softntk_test_data_XXXXXX", base && *base ? base : "/tmp");
  return !mkdtemp(folder) || sntk_context_create(&ctx) != SNTK_OK;
}

static int tear_down(void **state) {
  (void)state;
  sntk_context_free(ctx);
  DIR *list = opendir(folder);
  if (!list) return 1;
  for (const struct dirent *entry; (entry = readdir(list));)
    if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) unlink(in_folder(entry->d_name));
  closedir(list);
  return rmdir(folder);
}

/* ---- NPY ---- */

/* A file of the given version with this dictionary and these bytes behind it. */
static const char *write_npy(const char *name, int version, const char *dictionary, const void *bytes, size_t size) {
  unsigned char file[1024] = {0x93, 'N', 'U', 'M', 'P', 'Y', (unsigned char)version, 0};
  const size_t length = strlen(dictionary) + 1, start = version == 1 ? 10 : 12;
  assert_true(start + length + size <= sizeof file);
  file[8] = (unsigned char)(length & 255);
  file[9] = (unsigned char)(length >> 8);
  memcpy(file + start, dictionary, length - 1);
  file[start + length - 1] = '\n';
  if (size > 0) memcpy(file + start + length, bytes, size);
  return write_file(name, file, start + length + size);
}

static void test_npy_round_trip(void **state) {
  (void)state;
  enum { ROWS = 700, COLS = 3 };
  double *values = malloc(ROWS * COLS * sizeof *values);
  assert_non_null(values);
  for (int j = 0; j < ROWS * COLS; j++) values[j] = sntk_rng_normal(5, 0, (uint64_t)j) / 3.0;
  values[0] = -0.0, values[1] = DBL_MAX, values[2] = DBL_TRUE_MIN;
  assert_ok(sntk_npy_write(ctx, in_folder("a.npy"), ROWS, COLS, values));
  sntk_array array;
  assert_ok(sntk_npy_read(ctx, in_folder("a.npy"), &array));
  assert_int_equal(array.rows, ROWS);
  assert_int_equal(array.cols, COLS);
  assert_memory_equal(array.values, values, ROWS * COLS * sizeof *values);
  sntk_array_free(&array);
  assert_null(array.values);
  /* What NumPy requires of a file: version 1.0 and data at a multiple of 64. */
  size_t size;
  char *bytes = read_whole(in_folder("a.npy"), &size);
  assert_memory_equal(bytes, "\x93NUMPY\x01\x00", 8);
  assert_int_equal((size - ROWS * COLS * sizeof *values) % 64, 0);
  assert_non_null(strstr(bytes + 10, "{'descr': '<f8', 'fortran_order': False, 'shape': (700, 3), }"));
  free(bytes);
  free(values);
  assert_failure(sntk_npy_write(ctx, in_folder("none/a.npy"), 1, 1, (double[]){0}), SNTK_ERR_IO,
                 "none/a.npy|cannot be written");
  assert_failure(sntk_npy_write(ctx, in_folder("a.npy"), -1, 1, (double[]){0}), SNTK_ERR_SHAPE, "(-1, 1)");
  if (access("/dev/full", W_OK) == 0)
    assert_failure(sntk_npy_write(ctx, "/dev/full", 1, 1, (double[]){0}), SNTK_ERR_IO, "/dev/full|incomplete");
}

static void test_npy_types(void **state) {
  (void)state;
  static const struct {
    const char *descr;
    unsigned char bytes[16];
    size_t size;
    double wanted[2];
  } cases[] = {
      {"<f4", {0, 0, 0x80, 0x3f, 0, 0, 0x20, 0xc0}, 8, {1.0, -2.5}},
      {"<f8", {0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0, 0, 0, 0, 0, 0, 4, 0xc0}, 16, {1.0, -2.5}},
      {"|i1", {0x7f, 0x80}, 2, {127, -128}},
      {"<i1", {0xff, 1}, 2, {-1, 1}},
      {"|u1", {0x7f, 0xff}, 2, {127, 255}},
      {"<u1", {0, 1}, 2, {0, 1}},
      {"|b1", {0, 1}, 2, {0, 1}},
      {"<i2", {0, 0x80, 1, 2}, 4, {-32768, 513}},
      {"<u2", {0, 0x80, 1, 2}, 4, {32768, 513}},
      {"<i4", {0, 0, 0, 0x80, 1, 0, 0, 0}, 8, {-2147483648.0, 1}},
      {"<u4", {0, 0, 0, 0x80, 1, 0, 0, 0}, 8, {2147483648.0, 1}},
      {"<i8", {0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0xe0, 0xff}, 16, {0x1p53, -0x1p53}},
      {"<u8", {0, 0, 0, 0, 0, 0, 0x20, 0, 3, 0, 0, 0, 0, 0, 0, 0}, 16, {0x1p53, 3}},
  };
  for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
    char dictionary[128];
    snprintf(dictionary, sizeof dictionary, "{'descr': '%s', 'fortran_order': False, 'shape': (2,), }", cases[c].descr);
    const int version = 1 + (int)(c % 3);
    sntk_array array;
    assert_ok(sntk_npy_read(ctx, write_npy("t.npy", version, dictionary, cases[c].bytes, cases[c].size), &array));
    assert_int_equal(array.rows, 2);
    assert_int_equal(array.cols, 1);
    assert_values(array.values, cases[c].wanted, 2);
    sntk_array_free(&array);
  }
}

static void test_npy_order(void **state) {
  (void)state;
  static const unsigned char bytes[24] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11,
                                          12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23};
  sntk_array array;
  /* Spaces and quotes as Python allows; no final comma. */
  assert_ok(sntk_npy_read(
      ctx, write_npy("c.npy", 1, "{ \"shape\":(2,3,4) , 'descr':'|u1','fortran_order':False}  ", bytes, 24), &array));
  assert_int_equal(array.rows, 2);
  assert_int_equal(array.cols, 12);
  for (int j = 0; j < 24; j++) assert_true(array.values[j] == j);
  sntk_array_free(&array);
  assert_ok(sntk_npy_read(
      ctx, write_npy("f.npy", 1, "{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3, 4), }", bytes, 24), &array));
  assert_int_equal(array.rows, 2);
  assert_int_equal(array.cols, 12);
  for (int a = 0; a < 2; a++)
    for (int b = 0; b < 3; b++)
      for (int c = 0; c < 4; c++) assert_true(array.values[12 * a + 4 * b + c] == a + 2 * b + 6 * c);
  sntk_array_free(&array);
  assert_ok(sntk_npy_read(
      ctx, write_npy("v.npy", 1, "{'descr': '|u1', 'fortran_order': True, 'shape': (24,), }", bytes, 24), &array));
  for (int j = 0; j < 24; j++) assert_true(array.values[j] == j);
  sntk_array_free(&array);
  /* The first rows alone, of either order. */
  int64_t total;
  assert_ok(
      sntk_npy_load(ctx, write_npy("f.npy", 1, "{'descr': '|u1', 'fortran_order': True, 'shape': (6, 4), }", bytes, 24),
                    2, &array, &total));
  assert_int_equal(total, 6);
  assert_int_equal(array.rows, 2);
  assert_values(array.values, (const double[]){0, 6, 12, 18, 1, 7, 13, 19}, 8);
  sntk_array_free(&array);
  assert_ok(sntk_npy_load(
      ctx, write_npy("c.npy", 1, "{'descr': '|u1', 'fortran_order': False, 'shape': (6, 4), }", bytes, 24), 2, &array,
      &total));
  assert_values(array.values, (const double[]){0, 1, 2, 3, 4, 5, 6, 7}, 8);
  sntk_array_free(&array);
}

static void test_npy_refusals(void **state) {
  (void)state;
  static const struct {
    const char *dictionary;
    size_t size;
    const char *parts;
  } cases[] = {
      {"{'descr': '>f8', 'fortran_order': False, 'shape': (2,), }", 16, "x.npy|>f8|big-endian|astype('<f8')"},
      {"{'descr': '<f2', 'fortran_order': False, 'shape': (2,), }", 4, "<f2|astype('<f8')"},
      {"{'descr': '<c16', 'fortran_order': False, 'shape': (1,), }", 16, "<c16"},
      {"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", 8, "|O"},
      {"{'descr': '|f8', 'fortran_order': False, 'shape': (1,), }", 8, "f8 cannot be read"},
      {"{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,), }", 8, "structured"},
      {"{'descr': '<f8', 'fortran_order': False, 'shape': (), }", 8, "scalar"},
      {"{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }", 16, "truncated|announces"},
      {"{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }", 16, "behind its data"},
      {"{'descr': '<f8', 'fortran_order': False, 'shape': (0, 3), }", 0, "(0, 3)|at least one"},
      {"{'descr': '<f8', 'fortran_order': False, 'shape': (3, 0), }", 0, "(3, 0)|at least one"},
      {"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }", 16, "truncated"},
      {"{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296), }", 16, "63 bits"},
      {"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999,), }", 16, "63 bits"},
      {"{'descr': '<f8', 'fortran_order': False, 'shape': (2), }", 16, "(n,)"},
      {"{'descr': '<f8', 'fortran_order': False, 'shape': (-2,), }", 16, "whole number"},
      {"{'descr': '<f8', 'fortran_order': False, 'shape': (2 1), }", 16, "comma or )"},
      {"{'descr': '<f8', 'fortran_order': False, 'shape': 2, }", 16, "tuple"},
      {"{'descr': '<f8', 'fortran_order': 0, 'shape': (2,), }", 16, "True or False"},
      {"{'descr': '<f8', 'fortran_order': False, }", 16, "missing"},
      {"{'descr': '<f8', 'descr': '<f8', 'fortran_order': False, 'shape': (2,), }", 16, "twice"},
      {"{'descr': '<f8', 'fortran_order': False, 'shape': (2,), 'x': 1}", 16, "other than"},
      {"{'descr': '<f8', 'fortran_order': False, 'shape': (2,), } 1", 16, "nothing may follow"},
      {"{'descr': '<f8', 'fortran_order': False 'shape': (2,), }", 16, "comma or }"},
      {"{'descr': '<f8, 'fortran_order': False, 'shape': (2,), }", 16, "<f8, |cannot be read"},
      {"{'descr' '<f8'}", 16, "colon"},
      {"hello", 16, "{ is wanted|hello"},
      {"", 16, "{ is wanted"},
  };
  static const unsigned char zeros[64];
  sntk_array array;
  for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
    assert_failure(sntk_npy_read(ctx, write_npy("x.npy", 1, cases[c].dictionary, zeros, cases[c].size), &array),
                   SNTK_ERR_DATA, cases[c].parts);
  assert_null(array.values);
  assert_failure(sntk_npy_read(ctx, in_folder("absent.npy"), &array), SNTK_ERR_IO, "absent.npy|No such file");
  assert_failure(sntk_npy_read(ctx, folder, &array), SNTK_ERR_IO, "folder");
  assert_failure(sntk_npy_read(ctx, "/dev/null", &array), SNTK_ERR_IO, "regular file");
  assert_failure(sntk_npy_read(ctx, write_text("x.npy", ""), &array), SNTK_ERR_DATA, "not an NPY file|numpy.save");
  assert_failure(sntk_npy_read(ctx, write_text("x.npy", "1,2,3,4,5,6,7,8\n"), &array), SNTK_ERR_DATA,
                 "not an NPY file");
  assert_failure(sntk_npy_read(ctx, write_file("x.npy", "\x93NUMPY\x04\x00\x00\x00", 10), &array), SNTK_ERR_DATA,
                 "version 4.0");
  assert_failure(sntk_npy_read(ctx, write_file("x.npy", "\x93NUMPY\x01\x00\x40\x00{", 11), &array), SNTK_ERR_DATA,
                 "ends in its header");
  assert_failure(sntk_npy_read(ctx, write_file("x.npy", "\x93NUMPY\x02\x00\x40", 9), &array), SNTK_ERR_DATA,
                 "ends in its header");
  assert_failure(sntk_npy_read(ctx, write_file("x.npy", "\x93NUMPY\x02\x00\xff\xff\xff\xff{}", 14), &array),
                 SNTK_ERR_DATA, "4294967295 bytes|damaged");
  static const unsigned char big[16] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0x20, 0};
  assert_failure(
      sntk_npy_read(ctx, write_npy("x.npy", 1, "{'descr': '<u8', 'fortran_order': False, 'shape': (1, 2), }", big, 16),
                    &array),
      SNTK_ERR_DATA, "[0, 1]|2^53|float64");
  static const unsigned char low[16] = {0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0};
  assert_failure(
      sntk_npy_read(ctx, write_npy("x.npy", 1, "{'descr': '<i8', 'fortran_order': True, 'shape': (1, 2), }", low, 16),
                    &array),
      SNTK_ERR_DATA, "[0, 0]|-9223372036854775808|2^53");
  assert_failure(
      sntk_npy_read(ctx,
                    write_npy("x.npy", 1, "{'descr': '|b1', 'fortran_order': False, 'shape': (2,), }", "\x01\x02", 2),
                    &array),
      SNTK_ERR_DATA, "[1, 0]|0 or 1");
  assert_null(array.values);
  /* Truncated anywhere. */
  const char *path = write_npy("x.npy", 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }", zeros, 16);
  size_t size;
  char *bytes = read_whole(path, &size);
  for (size_t cut = 0; cut < size; cut++)
    assert_failure(sntk_npy_read(ctx, write_file("x.npy", bytes, cut), &array), SNTK_ERR_DATA, "x.npy");
  free(bytes);
}

/* ---- CSV ---- */

static void test_csv_values(void **state) {
  (void)state;
  static const struct {
    const char *text;
    int header;
    int64_t rows, cols;
    double wanted[6];
  } cases[] = {
      {"1,2,3\n4,5,6\n", -1, 2, 3, {1, 2, 3, 4, 5, 6}},
      {"1,2,3\n4,5,6", -1, 2, 3, {1, 2, 3, 4, 5, 6}},
      {"1,2\r\n3,4\r\n\r\n", -1, 2, 2, {1, 2, 3, 4}},
      {"1,2\n3,4\n\n  \n\n", -1, 2, 2, {1, 2, 3, 4}},
      {"1;2\n3;4\n", -1, 2, 2, {1, 2, 3, 4}},
      {"1\t2\n3\t4\n", -1, 2, 2, {1, 2, 3, 4}},
      {"  1   2 \n3 \t 4\n", -1, 2, 2, {1, 2, 3, 4}},
      {" 1 , 2\n\t3,4 \n", -1, 2, 2, {1, 2, 3, 4}},
      {"7\n8\n9\n", -1, 3, 1, {7, 8, 9}},
      {"\"1.5\",\"-2\"\n 3 , \"4\" \n", -1, 2, 2, {1.5, -2, 3, 4}},
      {"\"1\" \"2\"\n", -1, 1, 2, {1, 2}},
      {"a,b\n1,2\n", -1, 1, 2, {1, 2}},
      {"\"x, first\",\"say \"\"y\"\"\"\n1,2\n", -1, 1, 2, {1, 2}},
      {",b\n1,2\n", -1, 1, 2, {1, 2}},
      {"sepal length,sepal width\n1 , 2\n", -1, 1, 2, {1, 2}},
      {"sepal length\n5.1\n4.9\n", -1, 2, 1, {5.1, 4.9}},
      {"8,9\n1,2\n", 1, 1, 2, {1, 2}},
      {"8,9\n1,2\n", 0, 2, 2, {8, 9, 1, 2}},
      {"1,x\n1,2\n", 1, 1, 2, {1, 2}},
      {"\xEF\xBB\xBF"
       "1,2\n",
       -1,
       1,
       2,
       {1, 2}},
      {"+1,.5,1.,1e3,-1E-2,1e+2\n", -1, 1, 6, {1, 0.5, 1, 1000, -0.01, 100}},
      {"007,0.1,9007199254740992,-9007199254740992,12345678901234567890.0,1e-400\n",
       -1,
       1,
       6,
       {7, 0.1, 0x1p53, -0x1p53, 12345678901234567890.0, 0}},
      {"1.7976931348623157e308,4.9406564584124654e-324,2.2250738585072011e-308\n",
       -1,
       1,
       3,
       {DBL_MAX, DBL_TRUE_MIN, 2.2250738585072011e-308}},
  };
  for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
    for (int compressed = 0; compressed < 2; compressed++) {
      const char *path = compressed ? write_gzip("v.csv.gz", cases[c].text, strlen(cases[c].text))
                                    : write_text("v.csv", cases[c].text);
      sntk_array array;
      int64_t total;
      assert_ok(sntk_csv_load(ctx, path, cases[c].header, 0, &array, &total));
      assert_int_equal(array.rows, cases[c].rows);
      assert_int_equal(array.cols, cases[c].cols);
      assert_int_equal(total, cases[c].rows);
      assert_values(array.values, cases[c].wanted, array.rows * array.cols);
      sntk_array_free(&array);
    }
  }
  sntk_array array;
  int64_t total;
  assert_ok(sntk_csv_load(ctx, write_text("v.csv", "1,2\n3,4\n5,6\n"), -1, 2, &array, &total));
  assert_int_equal(array.rows, 2);
  assert_int_equal(total, 3);
  assert_values(array.values, (const double[]){1, 2, 3, 4}, 4);
  sntk_array_free(&array);
}

static void test_csv_refusals(void **state) {
  (void)state;
  static const struct {
    const char *text;
    int header;
    const char *parts;
  } cases[] = {
      {"", -1, "r.csv|empty"},
      {"\n\n", -1, "empty"},
      {"a,b\n", -1, "behind the header"},
      {"1,2\n3\n", -1, "r.csv:2|1 columns|have 2|commas"},
      {"1,2\n3,4,5\n", -1, "r.csv:2|3 columns|have 2"},
      {"1,2\n3,4,\n", -1, "r.csv:2|column 3|empty"},
      {"1,2\n3,\n", -1, "r.csv:2|column 2|empty"},
      {",\n", -1, "r.csv:1|column 1|empty"},
      {"1,2\n\n3,4\n", -1, "r.csv:2|blank"},
      {"\n1,2\n", -1, "r.csv:1|blank"},
      {"1,2\n3,4x\n", -1, "r.csv:2|column 2|\"4x\"|not a number"},
      {"1,2\n3,0x10\n", -1, "column 2|\"0x10\"|not a number"},
      {"1,2\n3,1e\n", -1, "\"1e\""},
      {"1,2\n3,1e+\n", -1, "\"1e+\""},
      {"1,2\n3,.\n", -1, "\".\""},
      {"1,2\n3,-\n", -1, "\"-\""},
      {"1,2\n3,--4\n", -1, "\"--4\""},
      {"1,2\n3,1.2.3\n", -1, "\"1.2.3\""},
      {"1,2\n3,1d5\n", -1, "\"1d5\""},
      {"1,2\n3,4 5\n", -1, "\"4 5\"|separated by commas"},
      {"1;2\n3;4,5\n", -1, "\"4,5\"|separated by semicolons"},
      {"1\n2 3\n", -1, "r.csv:2|\"2 3\"|separated by nothing"},
      {"1,2\n3,nan\n", -1, "r.csv:2|column 2|\"nan\"|not finite"},
      {"1,2\n-Infinity,3\n", -1, "column 1|\"-Infinity\"|not finite"},
      {"nan,2\n", -1, "r.csv:1|column 1|not finite"},
      {"1,2\n3,1e400\n", -1, "\"1e400\"|too large"},
      {"1,9007199254740993\n", -1, "r.csv:1|column 2|9007199254740993|2^53"},
      {"1,-99999999999999999999999\n", -1, "2^53"},
      {"1,2x\n3,4\n", -1, "r.csv:1|column 2|\"2x\"|column 1|\"1\"|header: yes"},
      {"a,b\n1,2\n", 0, "r.csv:1|column 1|\"a\""},
      {"a,b,c\n1,2\n", -1, "r.csv:1|3 names|2 columns"},
      {"a\n1,2\n", 1, "r.csv:1|1 names|2 columns"},
      {"1,\"2\n", -1, "r.csv:1|column 2|quote"},
      {"1,2\n\"3\"4,5\n", -1, "r.csv:2|column 1|quote"},
      {"1,2\r3,4\r", -1, "not a number"},
      {"1,5;2,5\n3,5;4,5\n", -1, "\"5;2\"|commas"},
  };
  sntk_array array;
  int64_t total;
  for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
    assert_failure(sntk_csv_load(ctx, write_text("r.csv", cases[c].text), cases[c].header, 0, &array, &total),
                   SNTK_ERR_DATA, cases[c].parts);
    assert_null(array.values);
  }
  assert_failure(sntk_csv_load(ctx, write_file("r.csv", "1,2\n3,\0004\n", 9), -1, 0, &array, &total), SNTK_ERR_DATA,
                 "column 2");
  /* A row that is not kept is checked all the same. */
  assert_failure(sntk_csv_load(ctx, write_text("r.csv", "1,2\n3,4\nx,y\n"), -1, 1, &array, &total), SNTK_ERR_DATA,
                 "r.csv:3");
  assert_failure(sntk_csv_load(ctx, in_folder("absent.csv"), -1, 0, &array, &total), SNTK_ERR_IO,
                 "absent.csv|No such file");
  assert_failure(sntk_csv_load(ctx, folder, -1, 0, &array, &total), SNTK_ERR_IO, "folder");
}

static void test_csv_long_lines(void **state) {
  (void)state;
  enum { ROWS = 3, COLS = 100000 };
  char *text = malloc((size_t)ROWS * COLS * 8);
  assert_non_null(text);
  size_t used = 0;
  for (int j = 0; j < ROWS * COLS; j++) used += (size_t)sprintf(text + used, "%d%c", j, (j + 1) % COLS ? ',' : '\n');
  sntk_array array;
  int64_t total;
  assert_ok(sntk_csv_load(ctx, write_file("long.csv", text, used), -1, 0, &array, &total));
  assert_int_equal(array.rows, ROWS);
  assert_int_equal(array.cols, COLS);
  for (int j = 0; j < ROWS * COLS; j++) assert_true(array.values[j] == j);
  sntk_array_free(&array);
  free(text);
}

static void test_csv_gzip_refusals(void **state) {
  (void)state;
  char text[4096];
  size_t used = 0;
  for (int i = 0; i < 300; i++)
    used += (size_t)sprintf(text + used, "%u,1\n", sntk_rng_word(1, 0, (uint64_t)i) % 10000);
  size_t size;
  char *bytes = read_whole(write_gzip("whole.csv.gz", text, used), &size);
  sntk_array array;
  int64_t total;
  /* Even where only the first line is asked for. */
  for (size_t cut = 2; cut < size; cut += cut < 20 || cut + 20 > size ? 1 : 7) {
    assert_failure(sntk_csv_load(ctx, write_file("cut.csv.gz", bytes, cut), -1, 1, &array, &total), SNTK_ERR_DATA,
                   "cut.csv.gz|ends in the middle");
    assert_null(array.values);
  }
  bytes[size - 6] ^= 1; /* the checksum */
  assert_failure(sntk_csv_load(ctx, write_file("bad.csv.gz", bytes, size), -1, 0, &array, &total), SNTK_ERR_DATA,
                 "damaged");
  free(bytes);
}

/* Numbers have a point whatever the program's locale is, and that stays as it was. */
static void test_csv_locale(void **state) {
  (void)state;
  const locale_t before = uselocale((locale_t)0);
  sntk_array array;
  int64_t total;
  static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "nl_NL.UTF-8"};
  locale_t comma = (locale_t)0;
  for (size_t k = 0; k < sizeof names / sizeof *names && !comma; k++)
    comma = newlocale(LC_ALL_MASK, names[k], (locale_t)0);
  if (!comma) print_message("no locale with a decimal comma is installed: only the restoring is tested\n");
  if (comma) uselocale(comma);
  const locale_t during = uselocale((locale_t)0);
  const sntk_status status = sntk_csv_load(ctx, write_text("l.csv", "1.5,2.25\n"), -1, 0, &array, &total);
  const bool kept = uselocale((locale_t)0) == during;
  uselocale(before);
  if (comma) freelocale(comma);
  assert_ok(status);
  assert_true(kept);
  assert_values(array.values, (const double[]){1.5, 2.25}, 2);
  sntk_array_free(&array);
}

/* ---- IDX ---- */

static void test_idx(void **state) {
  (void)state;
  static const struct {
    unsigned char bytes[48];
    size_t size;
    int64_t rows, cols;
    double wanted[8];
  } cases[] = {
      {{0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2, 0, 1, 2, 3, 4, 5, 6, 255},
       24,
       2,
       4,
       {0, 1, 2, 3, 4, 5, 6, 255}},
      {{0, 0, 8, 1, 0, 0, 0, 3, 9, 0, 5}, 11, 3, 1, {9, 0, 5}},
      {{0, 0, 9, 1, 0, 0, 0, 2, 0xff, 0x7f}, 10, 2, 1, {-1, 127}},
      {{0, 0, 0x0B, 1, 0, 0, 0, 2, 0xff, 0xfe, 1, 0}, 12, 2, 1, {-2, 256}},
      {{0, 0, 0x0C, 1, 0, 0, 0, 2, 0x80, 0, 0, 0, 0, 0, 0, 7}, 16, 2, 1, {-2147483648.0, 7}},
      {{0, 0, 0x0D, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0x3f, 0x80, 0, 0, 0xc0, 0x20, 0, 0}, 20, 1, 2, {1, -2.5}},
      {{0, 0, 0x0E, 1, 0, 0, 0, 2, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0, 0xc0, 4, 0, 0, 0, 0, 0, 0}, 24, 2, 1, {1, -2.5}},
  };
  sntk_array array;
  int64_t total;
  for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
    for (int compressed = 0; compressed < 2; compressed++) {
      const char *path = compressed ? write_gzip("a.idx.gz", cases[c].bytes, cases[c].size)
                                    : write_file("a.idx", cases[c].bytes, cases[c].size);
      assert_ok(sntk_idx_load(ctx, path, 0, &array, &total));
      assert_int_equal(array.rows, cases[c].rows);
      assert_int_equal(array.cols, cases[c].cols);
      assert_values(array.values, cases[c].wanted, array.rows * array.cols);
      sntk_array_free(&array);
      assert_ok(sntk_idx_load(ctx, path, 1, &array, &total));
      assert_int_equal(total, cases[c].rows);
      assert_int_equal(array.rows, 1);
      assert_values(array.values, cases[c].wanted, array.cols);
      sntk_array_free(&array);
    }
    /* Truncated anywhere, and with a byte too many. */
    for (size_t size = 0; size <= cases[c].size + 1; size++) {
      if (size == cases[c].size) continue;
      assert_failure(sntk_idx_load(ctx, write_file("x.idx", cases[c].bytes, size), 1, &array, &total), SNTK_ERR_DATA,
                     "x.idx");
      assert_failure(sntk_idx_load(ctx, write_gzip("x.idx.gz", cases[c].bytes, size), 1, &array, &total), SNTK_ERR_DATA,
                     "x.idx.gz");
      assert_null(array.values);
    }
  }
  size_t size;
  char *bytes = read_whole(write_gzip("a.idx.gz", cases[0].bytes, cases[0].size), &size);
  for (size_t cut = 2; cut < size; cut++)
    assert_failure(sntk_idx_load(ctx, write_file("x.idx.gz", bytes, cut), 1, &array, &total), SNTK_ERR_DATA, "gzip");
  free(bytes);
  static const struct {
    unsigned char bytes[24];
    size_t size;
    const char *parts;
  } bad[] = {
      {{0, 0, 7, 1, 0, 0, 0, 1, 0}, 9, "not an IDX file"},
      {{1, 0, 8, 1, 0, 0, 0, 1, 0}, 9, "not an IDX file"},
      {{0, 0, 8, 0, 0}, 5, "0 dimensions"},
      {{0, 0, 8, 2, 0, 0, 0, 1}, 8, "ends in its header"},
      {{0, 0, 8, 1, 0, 0, 0, 0}, 8, "(0, 1)"},
      {{0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 0, 0}, 12, "(1, 0)"},
      {{0, 0, 8, 1, 0xff, 0xff, 0xff, 0xff, 0}, 9, "4294967295"},
      {{0, 0, 0x0E, 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 16, "63 bits"},
  };
  for (size_t c = 0; c < sizeof bad / sizeof *bad; c++) {
    assert_failure(sntk_idx_load(ctx, write_file("x.idx", bad[c].bytes, bad[c].size), 0, &array, &total), SNTK_ERR_DATA,
                   bad[c].parts);
    assert_failure(sntk_idx_load(ctx, write_gzip("x.idx", bad[c].bytes, bad[c].size), 0, &array, &total), SNTK_ERR_DATA,
                   bad[c].parts);
  }
  /* An absurd shape is found out before anything is allocated or read: by the size, or the most that gzip can hold. */
  assert_failure(sntk_idx_load(ctx, write_file("x.idx", bad[6].bytes, 9), 0, &array, &total), SNTK_ERR_DATA,
                 "truncated");
  assert_failure(sntk_idx_load(ctx, write_gzip("x.idx", bad[6].bytes, 9), 0, &array, &total), SNTK_ERR_DATA,
                 "gzip file of this size");
  assert_failure(sntk_idx_load(ctx, write_file("x.idx", cases[1].bytes, 12), 0, &array, &total), SNTK_ERR_DATA,
                 "behind its data");
  assert_failure(sntk_idx_load(ctx, write_gzip("x.idx", cases[1].bytes, 12), 0, &array, &total), SNTK_ERR_DATA,
                 "something follows");
  assert_failure(sntk_idx_load(ctx, in_folder("absent.idx"), 0, &array, &total), SNTK_ERR_IO, "No such file");
}

/* ---- HDF5 ---- */

static void add_dataset(hid_t file, const char *name, hid_t stored, int dims, const hsize_t *shape, hid_t from,
                        const void *values) {
  const hid_t space = dims > 0 ? H5Screate_simple(dims, shape, NULL) : H5Screate(H5S_SCALAR);
  const hid_t set = H5Dcreate2(file, name, stored, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  assert_true(set >= 0);
  if (values) assert_true(H5Dwrite(set, from, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
  H5Dclose(set);
  H5Sclose(space);
}

static hid_t create_hdf5(const char *path) {
  const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
  H5Pset_file_locking(access, false, true);
  const hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, access);
  assert_true(file >= 0);
  H5Pclose(access);
  return file;
}

static void make_hdf5(const char *path) {
  static const double values[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, -10, 11};
  const hid_t file = create_hdf5(path);
  add_dataset(file, "f8", H5T_IEEE_F64LE, 2, (const hsize_t[]){3, 4}, H5T_NATIVE_DOUBLE, values);
  add_dataset(file, "f4_big", H5T_IEEE_F32BE, 2, (const hsize_t[]){3, 4}, H5T_NATIVE_DOUBLE, values);
  add_dataset(file, "i2", H5T_STD_I16BE, 3, (const hsize_t[]){3, 2, 2}, H5T_NATIVE_DOUBLE, values);
  add_dataset(file, "vector", H5T_STD_I8LE, 1, (const hsize_t[]){12}, H5T_NATIVE_DOUBLE, values);
  add_dataset(file, "u8", H5T_STD_U64LE, 1, (const hsize_t[]){2}, H5T_NATIVE_UINT64,
              (const uint64_t[]){3, UINT64_C(1) << 53});
  add_dataset(file, "u8_big", H5T_STD_U64LE, 1, (const hsize_t[]){2}, H5T_NATIVE_UINT64,
              (const uint64_t[]){3, UINT64_MAX});
  add_dataset(file, "i8_big", H5T_STD_I64LE, 1, (const hsize_t[]){1}, H5T_NATIVE_INT64,
              (const int64_t[]){-(INT64_C(1) << 53) - 1});
  add_dataset(file, "scalar", H5T_IEEE_F64LE, 0, NULL, H5T_NATIVE_DOUBLE, values);
  add_dataset(file, "unwritten", H5T_IEEE_F64LE, 1, (const hsize_t[]){1000}, H5T_NATIVE_DOUBLE, NULL);
  add_dataset(file, "nan", H5T_IEEE_F64LE, 2, (const hsize_t[]){1, 2}, H5T_NATIVE_DOUBLE, (const double[]){1, NAN});
  add_dataset(file, "long", H5T_NATIVE_LDOUBLE, 1, (const hsize_t[]){1}, H5T_NATIVE_LDOUBLE, (const long double[]){1});
  const hid_t text = H5Tcopy(H5T_C_S1);
  H5Tset_size(text, 4);
  add_dataset(file, "text", text, 1, (const hsize_t[]){1}, text, "abc");
  H5Tclose(text);
  /* A boolean array as h5py writes it. */
  const hid_t boolean = H5Tenum_create(H5T_STD_I8LE);
  const signed char no = 0, yes = 1;
  H5Tenum_insert(boolean, "FALSE", &no);
  H5Tenum_insert(boolean, "TRUE", &yes);
  add_dataset(file, "bool", boolean, 1, (const hsize_t[]){3}, boolean, (const signed char[]){1, 0, 1});
  H5Tclose(boolean);
  const hid_t group = H5Gcreate2(file, "group", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  const hid_t packed = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(2, (const hsize_t[]){3, 4}, NULL);
  H5Pset_chunk(packed, 2, (const hsize_t[]){2, 3});
  H5Pset_shuffle(packed);
  H5Pset_deflate(packed, 6);
  const hid_t set = H5Dcreate2(group, "packed", H5T_IEEE_F32LE, space, H5P_DEFAULT, packed, H5P_DEFAULT);
  assert_true(H5Dwrite(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
  H5Dclose(set);
  H5Sclose(space);
  H5Pclose(packed);
  H5Gclose(group);
  H5Fclose(file);
}

static sntk_status load_hdf5(const char *name, int64_t limit, sntk_array *array, int64_t *total) {
  char place[2 * PATH_CHARS];
  snprintf(place, sizeof place, "%s:%s", in_folder("a.h5"), name);
  return sntk_hdf5_load(ctx, place, false, limit, array, total);
}

static void test_hdf5(void **state) {
  (void)state;
  make_hdf5(in_folder("a.h5"));
  static const double values[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, -10, 11};
  static const struct {
    const char *name;
    int64_t rows, cols;
  } same[] = {{"/f8", 3, 4}, {"/f4_big", 3, 4}, {"/i2", 3, 4}, {"/vector", 12, 1}, {"/group/packed", 3, 4}};
  sntk_array array;
  int64_t total;
  for (size_t c = 0; c < sizeof same / sizeof *same; c++) {
    for (int64_t limit = 0; limit < 3; limit++) {
      assert_ok(load_hdf5(same[c].name, limit, &array, &total));
      assert_int_equal(total, same[c].rows);
      assert_int_equal(array.rows, limit ? limit : same[c].rows);
      assert_int_equal(array.cols, same[c].cols);
      assert_values(array.values, values, array.rows * array.cols);
      sntk_array_free(&array);
    }
  }
  assert_ok(load_hdf5("/u8", 0, &array, &total));
  assert_values(array.values, (const double[]){3, 0x1p53}, 2);
  sntk_array_free(&array);
  assert_ok(load_hdf5("/bool", 0, &array, &total));
  assert_values(array.values, (const double[]){1, 0, 1}, 3);
  sntk_array_free(&array);

  static const struct {
    const char *name;
    sntk_status status;
    const char *parts;
  } bad[] = {
      {"/u8_big", SNTK_ERR_DATA, "a.h5:/u8_big|[1, 0]|18446744073709551|2^53"},
      {"/i8_big", SNTK_ERR_DATA, "[0, 0]|2^53"},
      {"/absent", SNTK_ERR_DATA, "/absent|/f8|/group"},
      {"/group", SNTK_ERR_DATA, "/group"},
      {"/group/absent", SNTK_ERR_DATA, "/group/absent"},
      {"/text", SNTK_ERR_DATA, "neither floats"},
      {"/long", SNTK_ERR_DATA, "neither floats"},
      {"/scalar", SNTK_ERR_DATA, "scalar"},
      {"/unwritten", SNTK_ERR_DATA, "nothing was written"},
      {"/", SNTK_ERR_ARGUMENT, "file.h5:/dataset"},
      {"f8", SNTK_ERR_ARGUMENT, "file.h5:/dataset"},
  };
  for (size_t c = 0; c < sizeof bad / sizeof *bad; c++) {
    assert_failure(load_hdf5(bad[c].name, 0, &array, &total), bad[c].status, bad[c].parts);
    assert_null(array.values);
  }
  assert_failure(sntk_hdf5_load(ctx, in_folder("absent.h5:/f8"), false, 0, &array, &total), SNTK_ERR_IO,
                 "absent.h5|No such file");
  write_text("text.h5", "1,2,3\n");
  assert_failure(sntk_hdf5_load(ctx, in_folder("text.h5:/f8"), false, 0, &array, &total), SNTK_ERR_DATA,
                 "text.h5|not an HDF5 file");
  size_t size;
  char *bytes = read_whole(in_folder("a.h5"), &size);
  write_file("cut.h5", bytes, size / 2);
  assert_failure(sntk_hdf5_load(ctx, in_folder("cut.h5:/f8"), false, 0, &array, &total), SNTK_ERR_DATA,
                 "cut.h5|truncated file");
  free(bytes);
  sntk_data_options options = SNTK_DATA_OPTIONS_INIT;
  options.source = SNTK_DATA_HDF5;
  options.inputs = in_folder("a.h5:/nan");
  refuse(&options, SNTK_ERR_DATA, "a.h5:/nan|[0, 1]|nan|finite");
}

/* The library's own printing of errors is as it was, also after failures. */
static herr_t count_errors(hid_t stack, void *user) {
  (void)stack;
  ++*(int *)user;
  return 0;
}

static void test_hdf5_printing(void **state) {
  (void)state;
  make_hdf5(in_folder("a.h5"));
  H5E_auto2_t before;
  void *before_data;
  H5Eget_auto2(H5E_DEFAULT, &before, &before_data);
  int errors = 0;
  H5Eset_auto2(H5E_DEFAULT, count_errors, &errors);
  sntk_array array;
  int64_t total;
  const sntk_status status = load_hdf5("/absent", 0, &array, &total);
  H5E_auto2_t during;
  void *during_data;
  H5Eget_auto2(H5E_DEFAULT, &during, &during_data);
  H5Eset_auto2(H5E_DEFAULT, before, before_data);
  assert_int_equal(status, SNTK_ERR_DATA);
  assert_int_equal(errors, 0);
  assert_true(during == count_errors && during_data == &errors);
}

/* ---- the memory limit ---- */

static void test_memory_limit(void **state) {
  (void)state;
  enum { ROWS = 40, COLS = 100 };
  double *values = calloc(ROWS * COLS, sizeof *values);
  assert_non_null(values);
  assert_ok(sntk_npy_write(ctx, in_folder("m.npy"), ROWS, COLS, values));
  const hid_t file = create_hdf5(in_folder("m.h5"));
  add_dataset(file, "x", H5T_IEEE_F64LE, 2, (const hsize_t[]){ROWS, COLS}, H5T_NATIVE_DOUBLE, values);
  H5Fclose(file);
  free(values);
  unsigned char idx[12 + ROWS * COLS] = {0, 0, 8, 2, 0, 0, 0, ROWS, 0, 0, 0, COLS};
  write_file("m.idx", idx, sizeof idx);
  char text[2 * ROWS * COLS + 1];
  for (int j = 0; j < ROWS * COLS; j++) {
    text[2 * j] = '1';
    text[2 * j + 1] = (j + 1) % COLS ? ',' : '\n';
  }
  write_file("m.csv", text, sizeof text - 1);
  sntk_data_options options = SNTK_DATA_OPTIONS_INIT;
  static const char *const inputs[] = {
      [SNTK_DATA_NPY] = "m.npy", [SNTK_DATA_CSV] = "m.csv", [SNTK_DATA_HDF5] = "m.h5:/x", [SNTK_DATA_IDX] = "m.idx"};
  const int64_t needed = ROWS * COLS * (int64_t)sizeof(double); /* 31.25 KiB */
  for (int source = SNTK_DATA_NPY; source <= SNTK_DATA_IDX; source++) {
    options.source = (sntk_data_source)source;
    options.inputs = in_folder(inputs[source]);
    options.normalize = SNTK_NORMALIZE_NONE;
    options.samples = 0;
    ctx->memory_limit = needed - 1;
    refuse(&options, SNTK_ERR_MEMORY,
           source == SNTK_DATA_CSV ? "m.csv:40|KiB|31.2 KiB may be used" : "40 x 100|31.2 KiB|may be used");
    options.samples = 4; /* a part fits */
    ctx->memory_limit = needed / 8;
    sntk_data_free(create(&options));
  }
  options = (sntk_data_options)SNTK_DATA_OPTIONS_INIT;
  options.samples = 128;
  options.dim = 7;
  ctx->memory_limit = 128 * 8 * 8;
  sntk_data_free(create(&options)); /* seven inputs and one target a row */
  options.outputs = 2;
  refuse(&options, SNTK_ERR_MEMORY, "128 x 9|9.0 KiB|8.0 KiB may be used");
  options.dim = 9;
  refuse(&options, SNTK_ERR_MEMORY, "128 x 9|9.0 KiB|8.0 KiB may be used");
  options.dim = 4;
  options.targets_given = true;
  options.targets = SNTK_TARGETS_TEACHER;
  options.teacher_width = 1000;
  refuse(&options, SNTK_ERR_MEMORY, "teacher|8.0 KiB may be used");
  ctx->memory_limit = 0;
  options.targets_given = false;
  options.samples = 100;
  options.test_samples = 28; /* held-out rows are counted as the samples are */
  options.dim = 7;
  options.outputs = 1;
  ctx->memory_limit = 128 * 8 * 8;
  sntk_data_free(create(&options));
  options.test_samples = 29;
  refuse(&options, SNTK_ERR_MEMORY, "129 x 8|8.1 KiB|8.0 KiB may be used");
  options.dim = 9;
  refuse(&options, SNTK_ERR_MEMORY, "129 x 9|8.0 KiB may be used");
  ctx->memory_limit = 0;
  options.samples = 1;
  options.test_samples = INT64_MAX;
  refuse(&options, SNTK_ERR_SHAPE, "samples 1 and test_samples 9223372036854775807|63 bits");
  options.test_samples = INT64_MAX - 1;
  refuse(&options, SNTK_ERR_SHAPE, "9223372036854775807 x 9|63 bits");
  options.test_samples = 0;
  options.samples = options.dim = INT64_C(1) << 40;
  refuse(&options, SNTK_ERR_SHAPE, "1099511627776 x 1099511627776|63 bits");
}

/* ---- generators ---- */

static void test_generators(void **state) {
  (void)state;
  enum { N = 50, DIM = 7, CLUSTERS = 4 };
  sntk_data_options options = SNTK_DATA_OPTIONS_INIT;
  options.samples = N;
  options.dim = DIM;
  options.seed = 42;
  options.outputs = 2;
  options.normalize = SNTK_NORMALIZE_NONE;
  options.clusters = CLUSTERS;
  options.spread = 0.25;
  for (int source = SNTK_DATA_SPHERE; source <= SNTK_DATA_CLUSTERS; source++) {
    options.source = (sntk_data_source)source;
    sntk_data *a = create(&options), *again = create(&options);
    assert_int_equal(a->samples, N);
    assert_int_equal(a->dim, DIM);
    assert_int_equal(a->outputs, 2);
    assert_memory_equal(a->inputs, again->inputs, N * DIM * sizeof(double));
    assert_memory_equal(a->targets, again->targets, N * 2 * sizeof(double));
    sntk_data_options longer = options, other = options;
    longer.samples = 2 * N;
    other.seed = 43;
    sntk_data *b = create(&longer), *c = create(&other);
    assert_memory_equal(a->inputs, b->inputs, N * DIM * sizeof(double));
    assert_memory_equal(a->targets, b->targets, N * 2 * sizeof(double));
    assert_memory_not_equal(a->inputs, c->inputs, N * DIM * sizeof(double));
    assert_memory_not_equal(a->targets, c->targets, N * 2 * sizeof(double));
    for (int i = 0; i < N; i++) {
      double normals[DIM], centre[DIM];
      for (int k = 0; k < DIM; k++) {
        normals[k] = sntk_rng_normal(42, SNTK_STREAM_INPUTS, (uint64_t)(k + DIM * i));
        centre[k] = sntk_rng_normal(42, SNTK_STREAM_INPUTS, (UINT64_C(1) << 48) + (uint64_t)(k + DIM * (i % CLUSTERS)));
      }
      const double radius = norm(normals, DIM), centre_norm = norm(centre, DIM);
      for (int k = 0; k < DIM; k++) {
        double wanted = source == SNTK_DATA_SPHERE ? normals[k] / radius : normals[k] / sqrt(DIM);
        if (source == SNTK_DATA_CLUSTERS) wanted = centre[k] / centre_norm + 0.25 * wanted;
        assert_near(a->inputs[DIM * i + k], wanted, (DIM + 4) * DBL_EPSILON * (1.0 + fabs(wanted)));
      }
      if (source == SNTK_DATA_SPHERE) assert_near(norm(a->inputs + DIM * i, DIM), 1.0, (DIM + 4) * DBL_EPSILON);
      for (int l = 0; l < 2; l++) {
        const double u = sntk_rng_uniform(42, SNTK_STREAM_TARGETS, (uint64_t)(l + 2 * i));
        assert_near(a->targets[2 * i + l], (2.0 * u - 1.0) / sqrt(2.0), 4 * DBL_EPSILON);
      }
      assert_true(norm(a->targets + 2 * i, 2) <= 1.0 + 4 * DBL_EPSILON);
    }
    sntk_data_free(a);
    sntk_data_free(again);
    sntk_data_free(b);
    sntk_data_free(c);
  }
}

/* ---- normalizations ---- */

static sntk_data *normalized(sntk_normalize rule, int64_t rows, int64_t cols, const double *values) {
  assert_ok(sntk_npy_write(ctx, in_folder("n.npy"), rows, cols, values));
  sntk_data_options options = SNTK_DATA_OPTIONS_INIT;
  options.source = SNTK_DATA_NPY;
  options.inputs = in_folder("n.npy");
  options.normalize = rule;
  return create(&options);
}

static void refuse_normalized(sntk_normalize rule, int64_t rows, int64_t cols, const double *values,
                              const char *parts) {
  assert_ok(sntk_npy_write(ctx, in_folder("n.npy"), rows, cols, values));
  sntk_data_options options = SNTK_DATA_OPTIONS_INIT;
  options.source = SNTK_DATA_NPY;
  options.inputs = in_folder("n.npy");
  options.normalize = rule;
  refuse(&options, SNTK_ERR_DATA, parts);
}

static void test_normalize(void **state) {
  (void)state;
  static const double x[6] = {3, 4, 0, 0, 6, 8};
  sntk_data *data = normalized(SNTK_NORMALIZE_NONE, 3, 2, x);
  assert_values(data->inputs, x, 6);
  sntk_data_free(data);
  data = normalized(SNTK_NORMALIZE_UNIT_BALL, 3, 2, x);
  assert_values(data->inputs, (const double[]){3.0 / 10, 4.0 / 10, 0, 0, 6.0 / 10, 8.0 / 10}, 6);
  sntk_data_free(data);
  data = normalized(SNTK_NORMALIZE_UNIT_SPHERE, 2, 2, (const double[]){3, 4, -5, 12});
  assert_values(data->inputs, (const double[]){3.0 / 5, 4.0 / 5, -5.0 / 13, 12.0 / 13}, 4);
  sntk_data_free(data);
  /* Column 0: 1, 3: mean 2, deviation 1. Column 1 constant: its rounded mean differs from it. Column 2: 2, 4, 9: mean
   * 5, deviation sqrt(26 / 3). */
  data = normalized(SNTK_NORMALIZE_STANDARDIZE, 2, 2, (const double[]){1, -7, 3, -7});
  assert_values(data->inputs, (const double[]){-1, 0, 1, 0}, 4);
  sntk_data_free(data);
  data = normalized(SNTK_NORMALIZE_STANDARDIZE, 3, 2, (const double[]){0.1, 2, 0.1, 4, 0.1, 9});
  const double deviation = sqrt(26.0 / 3.0);
  for (int i = 0; i < 3; i++) {
    assert_true(data->inputs[2 * i] == 0.0);
    assert_near(data->inputs[2 * i + 1], (const double[]){-3, -1, 4}[i] / deviation, 8 * DBL_EPSILON);
  }
  sntk_data_free(data);
  /* Squares beyond float64's range, either way. */
  data = normalized(SNTK_NORMALIZE_UNIT_BALL, 1, 2, (const double[]){3e200, 4e200});
  assert_near(data->inputs[0], 0.6, 4 * DBL_EPSILON);
  sntk_data_free(data);
  data = normalized(SNTK_NORMALIZE_UNIT_SPHERE, 1, 2, (const double[]){3e-200, 4e-200});
  assert_near(data->inputs[1], 0.8, 4 * DBL_EPSILON);
  sntk_data_free(data);
  data = normalized(SNTK_NORMALIZE_STANDARDIZE, 2, 1, (const double[]){1e-200, 3e-200});
  assert_near(data->inputs[0], -1.0, 4 * DBL_EPSILON);
  sntk_data_free(data);
  data = normalized(SNTK_NORMALIZE_STANDARDIZE, 2, 1,
                    (const double[]){1e15 + 1, 1e15 + 3}); /* mean far above the deviation */
  assert_values(data->inputs, (const double[]){-1, 1}, 2);
  sntk_data_free(data);
  /* A rounded mean: what is left of it in the result is a rounding of the result, not of the mean. */
  double far[300], sum = 0.0;
  for (int i = 0; i < 300; i++) far[i] = 1e9 + 0.1 * i;
  data = normalized(SNTK_NORMALIZE_STANDARDIZE, 300, 1, far);
  for (int i = 0; i < 300; i++) sum += data->inputs[i];
  assert_near(sum, 0.0, 300 * 4 * DBL_EPSILON * sqrt(3.0));
  sntk_data_free(data);
  refuse_normalized(SNTK_NORMALIZE_UNIT_SPHERE, 3, 2, x, "unit-sphere|row 1");
  refuse_normalized(SNTK_NORMALIZE_UNIT_BALL, 2, 2, (const double[]){0, 0, 0, 0}, "unit-ball|every sample is zero");
  refuse_normalized(SNTK_NORMALIZE_UNIT_BALL, 2, 2, (const double[]){1, 1, DBL_MAX, DBL_MAX}, "row 1|overflow");
  refuse_normalized(SNTK_NORMALIZE_UNIT_SPHERE, 1, 2, (const double[]){DBL_MAX, DBL_MAX}, "row 0|overflow");
  refuse_normalized(SNTK_NORMALIZE_STANDARDIZE, 3, 1, (const double[]){DBL_MAX, DBL_MAX, -DBL_MAX},
                    "column 0|overflow");
  refuse_normalized(SNTK_NORMALIZE_NONE, 2, 2, (const double[]){1, 2, INFINITY, 3}, "n.npy|[1, 0]|inf|finite");
}

/* ---- targets ---- */

static void test_teacher(void **state) {
  (void)state;
  enum { N = 9, DIM = 3, OUTPUTS = 2, WIDTH = 5 };
  for (int activation = SNTK_SOFTMAX; activation <= SNTK_EXP_NORMALIZED; activation++) {
    for (int large = 0; large < 2; large++) {
      sntk_data_options options = SNTK_DATA_OPTIONS_INIT;
      options.source = SNTK_DATA_GAUSSIAN;
      options.samples = N;
      options.dim = DIM;
      options.outputs = OUTPUTS;
      options.seed = 7;
      options.targets_given = true;
      options.targets = SNTK_TARGETS_TEACHER;
      options.activation = (sntk_activation)activation;
      options.teacher_width = WIDTH;
      options.sigma = large ? 3.0 : 0.1;
      sntk_data *data = create(&options);
      double wanted[N][OUTPUTS], largest = 0.0, top_norm = 0.0;
      for (int i = 0; i < N; i++) {
        double phi[WIDTH], total = 0.0;
        for (int r = 0; r < WIDTH; r++) {
          double z = 0.0;
          for (int k = 0; k < DIM; k++)
            z += data->inputs[DIM * i + k] *
                 (double)((large ? 3.0f : 0.1f) *
                          sntk_rng_normal(7, SNTK_STREAM_TEACHER_WEIGHTS, (uint64_t)(k + DIM * r)));
          const double length = options.sigma * norm(data->inputs + DIM * i, DIM);
          phi[r] = activation == SNTK_RELU ? fmax(z, 0.0) : exp(z);
          if (activation == SNTK_EXP_NORMALIZED) phi[r] *= exp(-length * length / 2);
          total += phi[r];
        }
        for (int l = 0; l < OUTPUTS; l++) {
          wanted[i][l] = 0.0;
          for (int r = 0; r < WIDTH; r++) {
            const bool negative =
                sntk_rng_word(7, SNTK_STREAM_TEACHER_SIGNS, (uint64_t)(l + OUTPUTS * r)) & 0x80000000u;
            wanted[i][l] += (negative ? -1.0 : 1.0) * phi[r];
          }
          wanted[i][l] *= activation == SNTK_SOFTMAX ? sqrt(WIDTH) / total : 1.0 / sqrt(WIDTH);
        }
        largest = fmax(largest, norm(wanted[i], OUTPUTS));
        top_norm = fmax(top_norm, norm(data->targets + OUTPUTS * i, OUTPUTS));
      }
      const double divisor = largest > 1.0 ? largest : 1.0;
      /* Each of WIDTH terms is at most max |f|; exp passes on the logit's error, |z| (DIM + 2) eps with |z| <= 6.77
       * sigma sqrt DIM, and that of sigma^2 |x|^2 / 2 with |x| <= 1. */
      const double bound =
          (WIDTH + 8 + 6.77 * options.sigma * sqrt(DIM) * (DIM + 2) + options.sigma * options.sigma * (DIM + 4)) *
          DBL_EPSILON * WIDTH;
      for (int i = 0; i < N; i++)
        for (int l = 0; l < OUTPUTS; l++)
          assert_near(data->targets[OUTPUTS * i + l], wanted[i][l] / divisor,
                      bound * (largest > 1.0 ? 1.0 : fmax(largest, 1.0)));
      assert_true(top_norm <= 1.0 + 4 * DBL_EPSILON);
      if (largest > 1.0) assert_near(top_norm, 1.0, 4 * DBL_EPSILON);
      sntk_data_free(data);
    }
  }
  sntk_data_options options = SNTK_DATA_OPTIONS_INIT;
  options.samples = 5;
  options.dim = 4;
  options.targets_given = true;
  options.targets = SNTK_TARGETS_TEACHER;
  options.sigma = 2000.0;
  sntk_data_free(create(&options)); /* softmax subtracts its maximum */
  options.activation = SNTK_EXP;
  refuse(&options, SNTK_ERR_OVERFLOW, "teacher|sigma 2000");
  options.activation = SNTK_RELU;
  options.sigma = 1e39; /* not a float32: infinite weights, and a logit that is not a number, which relu would make 0 */
  options.dim = 8;
  options.teacher_width = 1;
  refuse(&options, SNTK_ERR_OVERFLOW, "teacher|sigma 1e+39");
  options.sigma = 0.0;
  refuse(&options, SNTK_ERR_ARGUMENT, "sigma is 0");
  options.sigma = NAN;
  refuse(&options, SNTK_ERR_ARGUMENT, "sigma is nan");
  options.sigma = 1.0;
  options.teacher_width = 0;
  refuse(&options, SNTK_ERR_ARGUMENT, "teacher_width is 0");
  options.teacher_width = INT64_C(1) << 62;
  refuse(&options, SNTK_ERR_SHAPE, "teacher");
  options.teacher_width = 4;
  options.activation = (sntk_activation)9;
  refuse(&options, SNTK_ERR_ARGUMENT, "activation 9");
  options.activation = SNTK_SOFTMAX;
  const volatile sig_atomic_t raised = 1;
  sntk_context_set_interrupt(ctx, &raised);
  refuse(&options, SNTK_ERR_INTERRUPTED, "interrupted");
  sntk_context_set_interrupt(ctx, NULL);
}

/* P_k in closed form: cos k theta in the plane, Legendre in space, sin((k + 1) theta) / ((k + 1) sin theta) in four
 * dimensions. */
static double zonal_by_hand(int degree, int dim, double t) {
  const double theta = acos(t);
  if (dim == 1) return t;
  if (dim == 2) return cos(degree * theta);
  if (dim == 4) return sin((degree + 1) * theta) / ((degree + 1) * sin(theta));
  return degree == 1 ? t : degree == 2 ? (3 * t * t - 1) / 2 : (5 * t * t * t - 3 * t) / 2;
}

static void test_harmonic(void **state) {
  (void)state;
  enum { N = 20, OUTPUTS = 3 };
  for (int dim = 1; dim <= 4; dim++) {
    for (int degree = 1; degree <= (dim == 1 ? 1 : 3); degree++) {
      sntk_data_options options = SNTK_DATA_OPTIONS_INIT;
      options.source = SNTK_DATA_GAUSSIAN;
      options.samples = N;
      options.dim = dim;
      options.outputs = OUTPUTS;
      options.seed = 11;
      options.targets_given = true;
      options.targets = SNTK_TARGETS_HARMONIC;
      options.harmonic_degree = degree;
      sntk_data *data = create(&options);
      for (int i = 0; i < N; i++) {
        for (int l = 0; l < OUTPUTS; l++) {
          double v[4], t = 0.0;
          for (int k = 0; k < dim; k++) v[k] = sntk_rng_normal(11, SNTK_STREAM_TARGETS, (uint64_t)(k + dim * l));
          const double *x = data->inputs + dim * i;
          for (int k = 0; k < dim; k++) t += x[k] * v[k] / (norm(x, dim) * norm(v, dim));
          const double y = data->targets[OUTPUTS * i + l] * sqrt(OUTPUTS);
          /* t is known to (dim + 8) eps; |P_k'| <= k^2 up to dimension 3 and above. The closed forms lose 1 / sin theta
           * through acos. */
          const double sine = dim == 1 ? 1.0 : sqrt(1.0 - t * t);
          assert_near(y, zonal_by_hand(degree, dim, fmax(-1.0, fmin(1.0, t))),
                      (dim + 8) * (degree + 1) * (degree + 1) * DBL_EPSILON / (sine * sine));
          assert_true(fabs(y) <= 1.0 + 4 * DBL_EPSILON);
        }
      }
      sntk_data_free(data);
    }
  }
  /* Different degrees are orthogonal over the circle: equally spaced points sum cos j theta cos k theta exactly to 0.
   */
  enum { POINTS = 16 };
  double circle[2 * POINTS];
  for (int i = 0; i < POINTS; i++) {
    circle[2 * i] = cos(2 * acos(-1.0) * i / POINTS);
    circle[2 * i + 1] = sin(2 * acos(-1.0) * i / POINTS);
  }
  assert_ok(sntk_npy_write(ctx, in_folder("circle.npy"), POINTS, 2, circle));
  double y[8][POINTS];
  for (int degree = 1; degree < 8; degree++) {
    sntk_data_options options = SNTK_DATA_OPTIONS_INIT;
    options.source = SNTK_DATA_NPY;
    options.inputs = in_folder("circle.npy");
    options.targets_given = true;
    options.targets = SNTK_TARGETS_HARMONIC;
    options.harmonic_degree = degree;
    sntk_data *data = create(&options);
    memcpy(y[degree], data->targets, sizeof y[degree]);
    sntk_data_free(data);
  }
  for (int j = 1; j < 8; j++)
    for (int k = 1; k < 8; k++) {
      double sum = 0.0;
      for (int i = 0; i < POINTS; i++) sum += y[j][i] * y[k][i];
      /* Each factor is off by at most 8 eps k^2. */
      assert_near(sum, j == k ? POINTS / 2.0 : 0.0, POINTS * 8 * (j * j + k * k) * DBL_EPSILON);
    }
  sntk_data_options options = SNTK_DATA_OPTIONS_INIT;
  options.samples = 5;
  options.dim = 1;
  options.targets_given = true;
  options.targets = SNTK_TARGETS_HARMONIC;
  refuse(&options, SNTK_ERR_ARGUMENT, "harmonic_degree is 2|only degree 1");
  options.harmonic_degree = 0;
  refuse(&options, SNTK_ERR_ARGUMENT, "harmonic_degree is 0");
  assert_ok(sntk_npy_write(ctx, in_folder("z.npy"), 2, 2, (const double[]){1, 2, 0, 0}));
  options.harmonic_degree = 2;
  options.dim = 0;
  options.samples = 0;
  options.source = SNTK_DATA_NPY;
  options.inputs = in_folder("z.npy");
  refuse(&options, SNTK_ERR_DATA, "harmonic|row 1|zero");
}

static void test_classes(void **state) {
  (void)state;
  sntk_data_options options = SNTK_DATA_OPTIONS_INIT;
  options.source = SNTK_DATA_CSV;
  options.inputs = write_text("c.csv", "1,7\n2,-1\n3,7\n4,30\n");
  options.label_columns = (const int64_t[]){-1};
  options.label_column_count = 1;
  options.normalize = SNTK_NORMALIZE_NONE;
  options.targets_given = true;
  options.targets = SNTK_TARGETS_CLASSES;
  const double share = 1.0 / 3;
  sntk_data *data = create(&options);
  assert_int_equal(data->outputs, 3);
  assert_int_equal(data->dim, 1);
  assert_values(data->inputs, (const double[]){1, 2, 3, 4}, 4);
  assert_values(data->targets,
                (const double[]){-share, 1 - share, -share, 1 - share, -share, -share, -share, 1 - share, -share,
                                 -share, -share, 1 - share},
                12);
  sntk_data_free(data);
  options.outputs = 3;
  sntk_data_free(create(&options));
  options.outputs = 4;
  refuse(&options, SNTK_ERR_SHAPE, "outputs is 4|3 classes");
  options.outputs = 0;
  options.inputs = write_text("c.csv", "1,7\n2,7\n");
  refuse(&options, SNTK_ERR_DATA, "label 7|two classes");
  options.inputs = write_text("c.csv", "1,7\n2,7.5\n");
  refuse(&options, SNTK_ERR_DATA, "7.5|row 1|whole number");
  options.label_columns = (const int64_t[]){0, 1};
  options.label_column_count = 2;
  options.inputs = write_text("c.csv", "1,7,2\n2,7,3\n");
  refuse(&options, SNTK_ERR_SHAPE, "one label a row|2 label columns");

  options = (sntk_data_options)SNTK_DATA_OPTIONS_INIT;
  options.source = SNTK_DATA_CLUSTERS;
  options.samples = 11;
  options.dim = 3;
  options.clusters = 4;
  options.targets_given = true;
  options.targets = SNTK_TARGETS_CLASSES;
  data = create(&options);
  assert_int_equal(data->outputs, 4);
  for (int i = 0; i < 11; i++) {
    double sum = 0.0;
    for (int l = 0; l < 4; l++) {
      assert_true(data->targets[4 * i + l] == (l == i % 4 ? 0.75 : -0.25));
      sum += data->targets[4 * i + l];
    }
    assert_true(sum == 0.0);
  }
  sntk_data_free(data);
  options.outputs = 3;
  refuse(&options, SNTK_ERR_SHAPE, "outputs is 3|4 classes");
  options.outputs = 0;
  options.clusters = 1;
  refuse(&options, SNTK_ERR_ARGUMENT, "clusters is 1");
}

static void test_values_and_columns(void **state) {
  (void)state;
  sntk_data_options options = SNTK_DATA_OPTIONS_INIT;
  options.source = SNTK_DATA_CSV;
  options.inputs = write_text("w.csv", "a,b,c,d\n1,2,3,4\n5,6,7,8\n9,10,11,12\n");
  options.label_columns = (const int64_t[]){-1, 1};
  options.label_column_count = 2;
  options.normalize = SNTK_NORMALIZE_NONE;
  sntk_data *data = create(&options); /* values, since there are labels */
  assert_int_equal(data->outputs, 2);
  assert_int_equal(data->dim, 2);
  assert_values(data->inputs, (const double[]){1, 3, 5, 7, 9, 11}, 6);
  assert_values(data->targets, (const double[]){4, 2, 8, 6, 12, 10}, 6);
  sntk_data_free(data);
  options.samples = 2;
  options.dim = 2;
  options.outputs = 2;
  data = create(&options);
  assert_int_equal(data->samples, 2);
  assert_values(data->targets, (const double[]){4, 2, 8, 6}, 4);
  sntk_data_free(data);
  options.outputs = 1;
  refuse(&options, SNTK_ERR_SHAPE, "outputs is 1|2 label columns");
  options.outputs = 0;
  options.dim = 3;
  refuse(&options, SNTK_ERR_SHAPE, "dim is 3|w.csv|2 input columns");
  options.dim = 0;
  options.samples = 4;
  refuse(&options, SNTK_ERR_ARGUMENT, "samples is 4|3 rows");
  options.samples = 0;
  /* Targets of another kind: the labels are no inputs all the same. */
  options.targets_given = true;
  options.targets = SNTK_TARGETS_RANDOM;
  data = create(&options);
  assert_int_equal(data->dim, 2);
  assert_int_equal(data->outputs, 1);
  sntk_data_free(data);
  options.targets_given = false;
  options.label_columns = (const int64_t[]){3, -1};
  refuse(&options, SNTK_ERR_ARGUMENT, "label_columns|-1|column 3|second time");
  options.label_columns = (const int64_t[]){0, 4};
  refuse(&options, SNTK_ERR_ARGUMENT, "label_columns|4 is out of range|4 columns");
  options.label_columns = (const int64_t[]){0, -5};
  refuse(&options, SNTK_ERR_ARGUMENT, "-5 is out of range");
  options.label_columns = (const int64_t[]){INT64_MIN, INT64_MAX};
  refuse(&options, SNTK_ERR_ARGUMENT, "out of range");
  options.label_columns = (const int64_t[]){0, 1, 2, 3};
  options.label_column_count = 4;
  refuse(&options, SNTK_ERR_ARGUMENT, "all 4 columns");
  options.label_column_count = 1;
  options.labels = "x.csv";
  refuse(&options, SNTK_ERR_ARGUMENT, "both labels, x.csv, and label_columns");

  options.label_column_count = 0;
  options.labels = write_text("y.csv", "0.5\n-1\n2\n");
  data = create(&options);
  assert_int_equal(data->dim, 4);
  assert_int_equal(data->outputs, 1);
  assert_values(data->targets, (const double[]){0.5, -1, 2}, 3);
  sntk_data_free(data);
  options.labels = write_text("y.csv", "0.5\n-1\n");
  refuse(&options, SNTK_ERR_SHAPE, "y.csv has 2 rows|w.csv has 3");
  options.samples = 1; /* enough for what is asked, and still not this file's labels */
  refuse(&options, SNTK_ERR_SHAPE, "y.csv has 2 rows|w.csv has 3");
  options.samples = 0;
  options.labels = write_text("y.csv", "0.5\n-1\nx\n");
  refuse(&options, SNTK_ERR_DATA, "y.csv:3");
  options.labels = in_folder("absent.csv");
  refuse(&options, SNTK_ERR_IO, "absent.csv");
  /* Labels of the other formats. */
  options = (sntk_data_options)SNTK_DATA_OPTIONS_INIT;
  options.source = SNTK_DATA_IDX;
  options.inputs = write_file("x.idx", "\0\0\x08\x02\0\0\0\x02\0\0\0\x02\1\2\3\4", 16);
  options.labels = write_gzip("y.idx.gz", "\0\0\x08\x01\0\0\0\x02\5\3", 10);
  options.targets_given = true;
  options.targets = SNTK_TARGETS_CLASSES;
  data = create(&options);
  assert_values(data->targets, (const double[]){-0.5, 0.5, 0.5, -0.5}, 4);
  sntk_data_free(data);
  assert_ok(sntk_npy_write(ctx, in_folder("x.npy"), 2, 2, (const double[]){1, 2, 3, 4}));
  assert_ok(sntk_npy_write(ctx, in_folder("y.npy"), 2, 1, (const double[]){NAN, 4}));
  options.source = SNTK_DATA_NPY;
  options.inputs = in_folder("x.npy");
  options.labels = in_folder("y.npy");
  refuse(&options, SNTK_ERR_DATA, "y.npy|[0, 0]|nan");
  options.labels = NULL;
  options.label_columns = (const int64_t[]){0};
  options.label_column_count = 1;
  options.targets = SNTK_TARGETS_VALUES;
  options.normalize = SNTK_NORMALIZE_NONE;
  data = create(&options);
  assert_values(data->inputs, (const double[]){2, 4}, 2);
  assert_values(data->targets, (const double[]){1, 3}, 2);
  sntk_data_free(data);
}

/* ---- held-out rows ---- */

/* No bit of the samples and their targets depends on held-out rows, whatever the source, the map and the targets. */
static void test_held_out_prefix(void **state) {
  (void)state;
  enum { N = 13, K = 9, DIM = 4, CLUSTERS = 4 };
  for (int source = SNTK_DATA_SPHERE; source <= SNTK_DATA_CLUSTERS; source++) {
    for (int rule = SNTK_TARGETS_RANDOM; rule <= SNTK_TARGETS_CLASSES; rule++) {
      if (rule == SNTK_TARGETS_VALUES || (rule == SNTK_TARGETS_CLASSES && source != SNTK_DATA_CLUSTERS)) continue;
      for (int normalize = SNTK_NORMALIZE_NONE; normalize <= SNTK_NORMALIZE_STANDARDIZE; normalize++) {
        sntk_data_options options = SNTK_DATA_OPTIONS_INIT;
        options.source = (sntk_data_source)source;
        options.targets_given = true;
        options.targets = (sntk_targets)rule;
        options.normalize = (sntk_normalize)normalize;
        options.seed = 21;
        options.samples = N;
        options.dim = DIM;
        options.outputs = rule == SNTK_TARGETS_CLASSES ? 0 : 3;
        options.clusters = CLUSTERS;
        options.sigma = 4.0; /* a teacher above 1 */
        sntk_data *a = create(&options);
        options.test_samples = K;
        sntk_data *b = create(&options);
        const size_t outputs = (size_t)a->outputs;
        assert_int_equal(a->test_samples, 0);
        assert_int_equal(b->samples, N);
        assert_int_equal(b->test_samples, K);
        assert_int_equal(b->outputs, a->outputs);
        assert_memory_equal(a->inputs, b->inputs, N * DIM * sizeof(double));
        assert_memory_equal(a->targets, b->targets, N * outputs * sizeof(double));
        for (size_t j = 0; j < (N + K) * outputs; j++) assert_true(isfinite(b->targets[j]));
        /* And held-out rows are what the same streams give next. */
        options.samples = N + K;
        options.test_samples = 0;
        sntk_data *c = create(&options);
        if (normalize == SNTK_NORMALIZE_NONE || normalize == SNTK_NORMALIZE_UNIT_SPHERE) {
          assert_memory_equal(b->inputs, c->inputs, (N + K) * DIM * sizeof(double));
          if (rule != SNTK_TARGETS_TEACHER)
            assert_memory_equal(b->targets, c->targets, (N + K) * outputs * sizeof(double));
        }
        sntk_data_free(a);
        sntk_data_free(b);
        sntk_data_free(c);
      }
    }
  }
}

/* The divisor of a teacher is that of the samples: held-out targets may exceed 1. */
static void test_held_out_teacher(void **state) {
  (void)state;
  enum { N = 3, K = 60, DIM = 3, OUTPUTS = 2 };
  sntk_data_options options = SNTK_DATA_OPTIONS_INIT;
  options.source = SNTK_DATA_GAUSSIAN;
  options.normalize = SNTK_NORMALIZE_NONE;
  options.samples = N;
  options.test_samples = K;
  options.dim = DIM;
  options.outputs = OUTPUTS;
  options.targets_given = true;
  options.targets = SNTK_TARGETS_TEACHER;
  options.activation = SNTK_RELU;
  options.sigma = 6.0;
  sntk_data *a = create(&options);
  options.samples = N + K;
  options.test_samples = 0;
  sntk_data *b = create(&options);
  double top = 0.0, held_out = 0.0;
  for (int i = 0; i < N + K; i++) {
    double *largest = i < N ? &top : &held_out;
    *largest = fmax(*largest, norm(a->targets + OUTPUTS * i, OUTPUTS));
  }
  assert_near(top, 1.0, 4 * DBL_EPSILON);
  assert_true(held_out > 1.1);
  /* b is a under one more division. */
  for (int j = 0; j < (N + K) * OUTPUTS; j++)
    assert_near(b->targets[j], a->targets[j] / held_out, 8 * DBL_EPSILON * fabs(b->targets[j]));
  sntk_data_free(a);
  sntk_data_free(b);
  options.samples = 2;
  options.test_samples = 200;
  options.activation = SNTK_EXP;
  options.sigma = 250.0; /* a logit above 709 somewhere, and none in the samples */
  refuse(&options, SNTK_ERR_OVERFLOW, "teacher|(counted from 0)|sigma 250");
  options.test_samples = 0;
  sntk_data_free(create(&options));
}

static void test_held_out_clusters(void **state) {
  (void)state;
  enum { N = 6, K = 7, DIM = 3, CLUSTERS = 4 };
  sntk_data_options options = SNTK_DATA_OPTIONS_INIT;
  options.source = SNTK_DATA_CLUSTERS;
  options.normalize = SNTK_NORMALIZE_NONE;
  options.samples = N;
  options.test_samples = K;
  options.dim = DIM;
  options.clusters = CLUSTERS;
  options.spread = 0.0;
  options.targets_given = true;
  options.targets = SNTK_TARGETS_CLASSES;
  sntk_data *data = create(&options);
  for (int i = 0; i < N + K; i++) {
    assert_values(data->inputs + DIM * i, data->inputs + DIM * (i % CLUSTERS), DIM); /* its centre */
    for (int l = 0; l < CLUSTERS; l++)
      assert_true(data->targets[CLUSTERS * i + l] == (l == i % CLUSTERS ? 0.75 : -0.25));
  }
  sntk_data_free(data);
  options.samples = 3; /* a cluster without a sample is refused, be there held-out rows of it */
  refuse(&options, SNTK_ERR_ARGUMENT, "clusters is 4|number of samples, 3");
}

static sntk_data_options held_out_options(sntk_normalize rule, int64_t rows, int64_t cols, const double *values,
                                          int64_t test_samples) {
  assert_ok(sntk_npy_write(ctx, in_folder("n.npy"), rows, cols, values));
  sntk_data_options options = SNTK_DATA_OPTIONS_INIT;
  options.source = SNTK_DATA_NPY;
  options.inputs = in_folder("n.npy");
  options.normalize = rule;
  options.test_samples = test_samples;
  return options;
}

static void test_held_out_normalize(void **state) {
  (void)state;
  /* Largest norm of the samples 5; a held-out row of norm 13 leaves the ball. */
  sntk_data_options options =
      held_out_options(SNTK_NORMALIZE_UNIT_BALL, 4, 2, (const double[]){3, 4, 0, 1, 5, 12, 0, 0}, 2);
  sntk_data *data = create(&options);
  assert_int_equal(data->samples, 2);
  assert_int_equal(data->test_samples, 2);
  assert_values(data->inputs, (const double[]){3.0 / 5, 4.0 / 5, 0, 1.0 / 5, 5.0 / 5, 12.0 / 5, 0, 0}, 8);
  sntk_data_free(data);
  options = held_out_options(SNTK_NORMALIZE_UNIT_SPHERE, 2, 2, (const double[]){3, 4, -5, 12}, 1);
  data = create(&options);
  assert_values(data->inputs, (const double[]){3.0 / 5, 4.0 / 5, -5.0 / 13, 12.0 / 13}, 4);
  sntk_data_free(data);
  /* Column 0: samples 1, 3: mean 2, deviation 1. Column 1: constant over the samples, not over all rows. */
  options = held_out_options(SNTK_NORMALIZE_STANDARDIZE, 4, 2, (const double[]){1, -7, 3, -7, 7, 5, 2, -7}, 2);
  data = create(&options);
  assert_values(data->inputs, (const double[]){-1, 0, 1, 0, 5, 0, 0, 0}, 8);
  sntk_data_free(data);

  options = held_out_options(SNTK_NORMALIZE_UNIT_BALL, 3, 1, (const double[]){0, 0, 1}, 1);
  refuse(&options, SNTK_ERR_DATA, "unit-ball|every sample is zero");
  options = held_out_options(SNTK_NORMALIZE_UNIT_BALL, 3, 1, (const double[]){1e-200, 1, 1e200}, 2);
  refuse(&options, SNTK_ERR_DATA, "held-out row 2|overflow");
  options = held_out_options(SNTK_NORMALIZE_UNIT_BALL, 2, 2, (const double[]){1, 1, DBL_MAX, DBL_MAX}, 1);
  refuse(&options, SNTK_ERR_DATA, "norm of row 1|overflow");
  options = held_out_options(SNTK_NORMALIZE_UNIT_SPHERE, 3, 1, (const double[]){1, 2, 0}, 1);
  refuse(&options, SNTK_ERR_DATA, "unit-sphere|row 2|zero");
  options = held_out_options(SNTK_NORMALIZE_STANDARDIZE, 4, 1, (const double[]){1e-200, 3e-200, 1, 1e200}, 2);
  refuse(&options, SNTK_ERR_DATA, "held-out row 3|overflow");
  options = held_out_options(SNTK_NORMALIZE_STANDARDIZE, 3, 1, (const double[]){0, 1e308, -1.7e308}, 1);
  refuse(&options, SNTK_ERR_DATA, "held-out row 2|overflow");
  options = held_out_options(SNTK_NORMALIZE_NONE, 2, 2, (const double[]){1, 2, INFINITY, 3}, 1);
  refuse(&options, SNTK_ERR_DATA, "n.npy|[1, 0]|inf|finite");
}

/* Five rows of two inputs and a label in every format: samples and the rows behind them, or the file's last rows. */
static void test_held_out_files(void **state) {
  (void)state;
  static const double x[10] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, y[5] = {0, 1, 1, 0, 1};
  assert_ok(sntk_npy_write(ctx, in_folder("x.npy"), 5, 2, x));
  assert_ok(sntk_npy_write(ctx, in_folder("y.npy"), 5, 1, y));
  write_text("x.csv", "a,b\n1,2\n3,4\n5,6\n7,8\n9,10\n");
  write_text("y.csv", "0\n1\n1\n0\n1\n");
  const hid_t file = create_hdf5(in_folder("a.h5"));
  add_dataset(file, "x", H5T_IEEE_F64LE, 2, (const hsize_t[]){5, 2}, H5T_NATIVE_DOUBLE, x);
  add_dataset(file, "y", H5T_STD_I16LE, 1, (const hsize_t[]){5}, H5T_NATIVE_DOUBLE, y);
  H5Fclose(file);
  write_file("x.idx", "\0\0\x08\x02\0\0\0\x05\0\0\0\x02\1\2\3\4\5\6\7\x08\x09\x0a", 22);
  write_gzip("y.idx", "\0\0\x08\x01\0\0\0\x05\0\1\1\0\1", 13);
  static const struct {
    sntk_data_source source;
    const char *inputs, *labels;
  } files[] = {{SNTK_DATA_NPY, "x.npy", "y.npy"},
               {SNTK_DATA_CSV, "x.csv", "y.csv"},
               {SNTK_DATA_HDF5, "a.h5:/x", "a.h5:/y"},
               {SNTK_DATA_IDX, "x.idx", "y.idx"}};
  static const struct {
    int64_t samples, test_samples, kept, total;
  } cases[] = {{0, 0, 5, 5}, {2, 0, 2, 2}, {2, 2, 2, 4}, {2, 3, 2, 5}, {0, 2, 3, 5}, {0, 3, 2, 5}};
  for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
    sntk_data_options options = SNTK_DATA_OPTIONS_INIT;
    options.source = files[f].source;
    char inputs[PATH_CHARS], labels[PATH_CHARS];
    snprintf(inputs, sizeof inputs, "%s", in_folder(files[f].inputs));
    snprintf(labels, sizeof labels, "%s", in_folder(files[f].labels));
    options.inputs = inputs;
    options.labels = labels;
    options.normalize = SNTK_NORMALIZE_NONE;
    options.targets_given = true;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
      options.samples = cases[c].samples;
      options.test_samples = cases[c].test_samples;
      options.targets = SNTK_TARGETS_VALUES;
      sntk_data *data = create(&options);
      assert_int_equal(data->samples, cases[c].kept);
      assert_int_equal(data->test_samples, cases[c].test_samples);
      assert_values(data->inputs, x, 2 * cases[c].total);
      assert_values(data->targets, y, cases[c].total);
      sntk_data_free(data);
      options.targets = SNTK_TARGETS_CLASSES;
      data = create(&options);
      assert_int_equal(data->outputs, 2);
      for (int64_t j = 0; j < 2 * cases[c].total; j++)
        assert_true(data->targets[j] == (j % 2 == (int64_t)y[j / 2] ? 0.5 : -0.5));
      sntk_data_free(data);
    }
    char parts[64];
    options.samples = 2;
    options.test_samples = 4;
    snprintf(parts, sizeof parts, "samples 2 and test_samples 4 are 6 rows|%s has 5", files[f].inputs);
    refuse(&options, SNTK_ERR_ARGUMENT, parts);
    options.samples = 6;
    refuse(&options, SNTK_ERR_ARGUMENT, "samples 6 and test_samples 4 are 10 rows|has 5");
    options.samples = 0;
    options.test_samples = 5;
    snprintf(parts, sizeof parts, "test_samples is 5|%s has 5 rows|at least one", files[f].inputs);
    refuse(&options, SNTK_ERR_ARGUMENT, parts);
    options.samples = 6;
    options.test_samples = 0;
    refuse(&options, SNTK_ERR_ARGUMENT, "samples is 6|has 5 rows");
  }
  /* Targets that a file does not have: held-out ones come from the same streams. */
  sntk_data_options options = SNTK_DATA_OPTIONS_INIT;
  options.source = SNTK_DATA_NPY;
  options.inputs = in_folder("x.npy");
  sntk_data *a = create(&options);
  options.test_samples = 2;
  sntk_data *b = create(&options);
  assert_memory_equal(a->targets, b->targets, 5 * sizeof(double));
  sntk_data_free(a);
  sntk_data_free(b);
}

static void test_held_out_labels(void **state) {
  (void)state;
  sntk_data_options options = SNTK_DATA_OPTIONS_INIT;
  options.source = SNTK_DATA_CSV;
  options.inputs = write_text("c.csv", "1,7\n2,-1\n3,7\n4,30\n");
  options.label_columns = (const int64_t[]){-1};
  options.label_column_count = 1;
  options.normalize = SNTK_NORMALIZE_NONE;
  options.test_samples = 2;
  sntk_data *data = create(&options); /* values */
  assert_values(data->inputs, (const double[]){1, 2, 3, 4}, 4);
  assert_values(data->targets, (const double[]){7, -1, 7, 30}, 4);
  sntk_data_free(data);
  options.targets_given = true;
  options.targets = SNTK_TARGETS_CLASSES;
  refuse(&options, SNTK_ERR_DATA, "label 30 of held-out row 3|2 samples have 2 classes");
  options.test_samples = 1;
  refuse(&options, SNTK_ERR_DATA, "label 30 of held-out row 3|3 samples have 2 classes");
  options.samples = 2; /* the row of the third class is then not read into the data */
  data = create(&options);
  assert_int_equal(data->outputs, 2);
  assert_values(data->targets, (const double[]){-0.5, 0.5, 0.5, -0.5, -0.5, 0.5}, 6);
  sntk_data_free(data);
  options.outputs = 3;
  refuse(&options, SNTK_ERR_SHAPE, "outputs is 3|2 classes");
  options.outputs = 0;
  options.samples = 1;
  refuse(&options, SNTK_ERR_DATA, "every sample has the label 7|two classes");
  options.samples = 2;
  options.inputs = write_text("c.csv", "1,7\n2,-1\n3,7.5\n");
  refuse(&options, SNTK_ERR_DATA, "7.5|row 2|whole number");
  /* Labels in a file of their own, which must have the rows of the inputs. */
  options.label_column_count = 0;
  options.labels = write_text("y.csv", "7\n-1\n");
  refuse(&options, SNTK_ERR_SHAPE, "y.csv has 2 rows|c.csv has 3");
  options.samples = 0;
  refuse(&options, SNTK_ERR_SHAPE, "y.csv has 2 rows|c.csv has 3");
}

static void test_digits(void **state) {
  (void)state;
  sntk_data_options options = SNTK_DATA_OPTIONS_INIT;
  options.source = SNTK_DATA_CSV;
  options.inputs = DIGITS; /* the build names the file */
  options.label_columns = (const int64_t[]){-1};
  options.label_column_count = 1;
  options.targets_given = true;
  options.targets = SNTK_TARGETS_CLASSES;
  sntk_data *data = create(&options);
  assert_int_equal(data->samples, 1797);
  assert_int_equal(data->dim, 64);
  assert_int_equal(data->outputs, 10);
  double largest = 0.0;
  for (int64_t i = 0; i < data->samples; i++) largest = fmax(largest, norm(data->inputs + 64 * i, 64));
  assert_near(largest, 1.0, 66 * DBL_EPSILON);
  const double share = 1.0 / 10;
  for (int l = 0; l < 10; l++) {
    assert_true(data->targets[l] == (l == 0 ? 1 - share : -share));      /* the first row is a 0 */
    assert_true(data->targets[10 + l] == (l == 1 ? 1 - share : -share)); /* the second a 1 */
  }
  assert_near(data->inputs[2] / data->inputs[3], 5.0 / 13.0, 2 * DBL_EPSILON);
  sntk_data_free(data);
}

static void test_options(void **state) {
  (void)state;
  sntk_data_options options = SNTK_DATA_OPTIONS_INIT;
  refuse(&options, SNTK_ERR_ARGUMENT, "samples is 0");
  options.samples = 3;
  refuse(&options, SNTK_ERR_ARGUMENT, "dim is 0");
  options.dim = 2;
  sntk_data_free(create(&options));
  options.samples = -1;
  refuse(&options, SNTK_ERR_ARGUMENT, "samples -1|negative");
  options.samples = 3;
  options.test_samples = -1;
  refuse(&options, SNTK_ERR_ARGUMENT, "samples 3, test_samples -1|negative");
  options.test_samples = 0;
  options.samples = 3;
  options.outputs = -2;
  refuse(&options, SNTK_ERR_ARGUMENT, "outputs -2|negative");
  options.outputs = 0;
  options.source = (sntk_data_source)17;
  refuse(&options, SNTK_ERR_ARGUMENT, "source 17");
  options.source = SNTK_DATA_SPHERE;
  options.normalize = (sntk_normalize)17;
  refuse(&options, SNTK_ERR_ARGUMENT, "normalization 17");
  options.normalize = SNTK_NORMALIZE_NONE;
  options.targets_given = true;
  options.targets = (sntk_targets)17;
  refuse(&options, SNTK_ERR_ARGUMENT, "targets rule 17");
  options.targets = SNTK_TARGETS_VALUES;
  refuse(&options, SNTK_ERR_ARGUMENT, "values needs labels");
  options.targets = SNTK_TARGETS_CLASSES;
  refuse(&options, SNTK_ERR_ARGUMENT, "classes needs labels");
  options.targets_given = false;
  options.source = SNTK_DATA_CLUSTERS;
  refuse(&options, SNTK_ERR_ARGUMENT, "clusters is 10|number of samples, 3");
  options.clusters = 0;
  refuse(&options, SNTK_ERR_ARGUMENT, "clusters is 0");
  options.clusters = 2;
  options.spread = -0.5;
  refuse(&options, SNTK_ERR_ARGUMENT, "spread is -0.5");
  options.spread = INFINITY;
  refuse(&options, SNTK_ERR_ARGUMENT, "spread is inf");
  options.spread = 0.0;
  sntk_data_free(create(&options));
  options.source = SNTK_DATA_NPY;
  refuse(&options, SNTK_ERR_ARGUMENT, "inputs is missing");
  sntk_data_free(NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_npy_round_trip),
      cmocka_unit_test(test_npy_types),
      cmocka_unit_test(test_npy_order),
      cmocka_unit_test(test_npy_refusals),
      cmocka_unit_test(test_csv_values),
      cmocka_unit_test(test_csv_refusals),
      cmocka_unit_test(test_csv_long_lines),
      cmocka_unit_test(test_csv_locale),
      cmocka_unit_test(test_csv_gzip_refusals),
      cmocka_unit_test(test_idx),
      cmocka_unit_test(test_hdf5),
      cmocka_unit_test(test_hdf5_printing),
      cmocka_unit_test(test_memory_limit),
      cmocka_unit_test(test_generators),
      cmocka_unit_test(test_normalize),
      cmocka_unit_test(test_teacher),
      cmocka_unit_test(test_harmonic),
      cmocka_unit_test(test_classes),
      cmocka_unit_test(test_values_and_columns),
      cmocka_unit_test(test_held_out_prefix),
      cmocka_unit_test(test_held_out_teacher),
      cmocka_unit_test(test_held_out_clusters),
      cmocka_unit_test(test_held_out_normalize),
      cmocka_unit_test(test_held_out_files),
      cmocka_unit_test(test_held_out_labels),
      cmocka_unit_test(test_digits),
      cmocka_unit_test(test_options),
  };
  return cmocka_run_group_tests_name("data", tests, set_up, tear_down);
}
