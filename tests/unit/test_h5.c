/**
 * @file test_h5.c
 * @brief HDF5 files as the program writes them, read by the HDF5 library: groups and names of every shape, data that
 * come in parts, and rows and columns larger than what the writing process takes at a time.
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <hdf5.h>

#include "core/core.h"
#include "core/output.h"

enum { LONG_NAME = 300 };

static char folder[64], path[128];
static sntk_context *ctx;

static int make_folder(void **state) {
  (void)state;
  snprintf(folder, sizeof folder, "/tmp/softntk_h5_XXXXXX");
  if (!mkdtemp(folder) || sntk_context_create(&ctx) != SNTK_OK) return -1;
  snprintf(path, sizeof path, "%s/run.h5", folder);
  return 0;
}

static int remove_folder(void **state) {
  (void)state;
  unlink(path);
  sntk_context_free(ctx);
  return rmdir(folder);
}

static void ok(sntk_status status) {
  if (status != SNTK_OK) fail_msg("%s", sntk_context_error(ctx));
}

static double read_number(hid_t file, const char *name) {
  double value = -1.0;
  const hid_t dataset = H5Dopen2(file, name, H5P_DEFAULT);
  if (dataset < 0) fail_msg("%s is not there", name);
  assert_true(H5Dread(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, &value) >= 0);
  H5Dclose(dataset);
  return value;
}

static int64_t members(hid_t file, const char *group) {
  H5G_info_t info;
  assert_true(H5Gget_info_by_name(file, group, &info, H5P_DEFAULT) >= 0);
  return (int64_t)info.nlinks;
}

/* '-' and '.' stand before '/', '0' behind it: a group's datasets are not apart for that. */
static void names_of_every_shape(void **state) {
  (void)state;
  static const char *const names[] = {"/a/x",   "/a-b",     "/a.b", "/a0/x",  "/b/c/d/e/f", "/b/c.d",
                                      "/b/c/x", "/b/c/d/g", "/b-c", "/ab/cd", "/A",         "/\xc3\xa9"};
  enum { NAMES = sizeof names / sizeof *names, MANY = 100 };
  char name[LONG_NAME + 2];
  sntk_h5 *file;
  ok(sntk_h5_create(ctx, path, &file));
  for (int i = 0; i < NAMES; i++) {
    const double value = i;
    ok(sntk_h5_write_f64(ctx, file, names[i], 1, 0, &value));
  }
  for (int i = MANY - 1; i >= 0; i--) { /* more than the library keeps in a header by itself */
    const double value = 1000 + i;
    snprintf(name, sizeof name, "/many/m%d", i);
    ok(sntk_h5_write_f64(ctx, file, name, 1, 0, &value));
  }
  const double value = 0.5;
  memset(name, 'n', sizeof name);
  name[0] = '/';
  name[LONG_NAME + 1] = '\0';
  ok(sntk_h5_write_f64(ctx, file, name, 1, 0, &value));
  ok(sntk_h5_close(ctx, file, true));

  const hid_t back = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
  assert_true(back >= 0);
  for (int i = 0; i < NAMES; i++) assert_true(read_number(back, names[i]) == i);
  assert_true(read_number(back, name) == 0.5);
  for (int i = 0; i < MANY; i++) {
    snprintf(name, sizeof name, "/many/m%d", i);
    assert_true(read_number(back, name) == 1000 + i);
  }
  assert_int_equal(members(back, "/"), 11);
  assert_int_equal(members(back, "/a"), 1);
  assert_int_equal(members(back, "/b"), 2);
  assert_int_equal(members(back, "/b/c"), 2);
  assert_int_equal(members(back, "/many"), MANY);
  assert_true(H5Fclose(back) >= 0);
}

static void names_that_clash(void **state) {
  (void)state;
  static const char *const pairs[][2] = {{"/a", "/a"},     {"/a", "/a/b"}, {"/a/b", "/a"}, {"/a/b", "/a/b/c"},
                                         {"/a/b/c", "/a"}, {"/a", "a"},    {"/a", ""},     {"/a", "/"},
                                         {"/a", "//b"},    {"/a", "/b/"}};
  for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
    const double value = 1.0;
    sntk_h5 *file;
    ok(sntk_h5_create(ctx, path, &file));
    ok(sntk_h5_write_f64(ctx, file, pairs[i][0], 1, 0, &value));
    if (sntk_h5_write_f64(ctx, file, pairs[i][1], 1, 0, &value) != SNTK_ERR_IO)
      fail_msg("'%s' was taken beside '%s'", pairs[i][1], pairs[i][0]);
    assert_int_equal(sntk_h5_close(ctx, file, true), SNTK_ERR_IO);
  }
}

static void nothing_and_parts(void **state) {
  (void)state;
  const int8_t left[] = {1, 2, 5, 6}, right[] = {3, 4, 7, 8}, expected[] = {1, 2, 0, 3, 4, 5, 6, 0, 7, 8};
  int8_t got[10] = {0};
  sntk_h5 *file;
  ok(sntk_h5_create(ctx, path, &file));
  ok(sntk_h5_close(ctx, file, true));
  hid_t back = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
  assert_int_equal(members(back, "/"), 0);
  assert_true(H5Fclose(back) >= 0);

  ok(sntk_h5_create(ctx, path, &file));
  ok(sntk_h5_begin(ctx, file, "/never", 'd', 3, 4));
  ok(sntk_h5_begin(ctx, file, "/parts", 'b', 2, 5));
  ok(sntk_h5_write_columns(ctx, file, "/parts", 3, 2, right));
  ok(sntk_h5_write_columns(ctx, file, "/parts", 0, 2, left));
  ok(sntk_h5_close(ctx, file, true));
  back = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
  const hid_t dataset = H5Dopen2(back, "/parts", H5P_DEFAULT);
  assert_true(H5Dread(dataset, H5T_NATIVE_INT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, got) >= 0);
  assert_memory_equal(got, expected, sizeof got);
  H5Dclose(dataset);
  double zeros[12] = {1.0};
  const hid_t never = H5Dopen2(back, "/never", H5P_DEFAULT);
  assert_true(H5Dread(never, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, zeros) >= 0);
  for (int i = 0; i < 12; i++) assert_true(zeros[i] == 0.0);
  H5Dclose(never);
  assert_true(H5Fclose(back) >= 0);
}

/* The library goes on with a file that it did not make. */
static void the_library_adds_to_it(void **state) {
  (void)state;
  const double value = 2.5;
  char name[32];
  sntk_h5 *file;
  ok(sntk_h5_create(ctx, path, &file));
  ok(sntk_h5_write_f64(ctx, file, "/group/mine", 1, 0, &value));
  ok(sntk_h5_close(ctx, file, true));
  hid_t back = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
  assert_true(back >= 0);
  for (int i = 0; i < 20; i++) {
    snprintf(name, sizeof name, "/group/other%d", i);
    const hid_t group = H5Gcreate2(back, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(group >= 0);
    H5Gclose(group);
  }
  assert_true(H5Fclose(back) >= 0);
  back = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
  assert_int_equal(members(back, "/group"), 21);
  assert_true(read_number(back, "/group/mine") == 2.5);
  assert_true(H5Fclose(back) >= 0);
}

/* The writing process takes a megabyte at a time: whole rows, or parts of one. */
static void more_than_is_taken_at_a_time(void **state) {
  (void)state;
  enum { ROWS = 3, COLS = 300001, TALL = 200003 };
  double *data = malloc((size_t)ROWS * COLS * sizeof *data), *got = malloc((size_t)ROWS * COLS * sizeof *got);
  assert_true(data && got);
  for (int64_t j = 0; j < ROWS * COLS; j++) data[j] = (double)j;
  sntk_h5 *file;
  ok(sntk_h5_create(ctx, path, &file));
  ok(sntk_h5_write_f64(ctx, file, "/wide", ROWS, COLS, data));
  ok(sntk_h5_write_f64(ctx, file, "/tall", TALL, 3, data));
  ok(sntk_h5_write_f64(ctx, file, "/vector", TALL, 0, data));
  ok(sntk_h5_begin(ctx, file, "/parts", 'd', ROWS, COLS));
  ok(sntk_h5_write_columns(ctx, file, "/parts", 0, 1, data));
  ok(sntk_h5_write_columns(ctx, file, "/parts", 1, COLS - 1, data));
  ok(sntk_h5_close(ctx, file, true));
  const struct {
    const char *name;
    int64_t count;
  } sets[] = {{"/wide", (int64_t)ROWS * COLS}, {"/tall", (int64_t)TALL * 3}, {"/vector", TALL}};
  const hid_t back = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
  for (size_t s = 0; s < sizeof sets / sizeof *sets; s++) {
    const hid_t dataset = H5Dopen2(back, sets[s].name, H5P_DEFAULT);
    assert_true(H5Dread(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, got) >= 0);
    for (int64_t j = 0; j < sets[s].count; j++)
      if (got[j] != (double)j) fail_msg("%s: element %lld is %g", sets[s].name, (long long)j, got[j]);
    H5Dclose(dataset);
  }
  const hid_t dataset = H5Dopen2(back, "/parts", H5P_DEFAULT);
  assert_true(H5Dread(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, got) >= 0);
  for (int64_t r = 0; r < ROWS; r++)
    for (int64_t c = 0; c < COLS; c++)
      if (got[r * COLS + c] != (double)(c == 0 ? r : r * (COLS - 1) + c - 1))
        fail_msg("/parts: element (%lld, %lld) is %g", (long long)r, (long long)c, got[r * COLS + c]);
  H5Dclose(dataset);
  assert_true(H5Fclose(back) >= 0);
  free(data);
  free(got);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(more_than_is_taken_at_a_time, make_folder, remove_folder),
      cmocka_unit_test_setup_teardown(names_of_every_shape, make_folder, remove_folder),
      cmocka_unit_test_setup_teardown(names_that_clash, make_folder, remove_folder),
      cmocka_unit_test_setup_teardown(nothing_and_parts, make_folder, remove_folder),
      cmocka_unit_test_setup_teardown(the_library_adds_to_it, make_folder, remove_folder)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
