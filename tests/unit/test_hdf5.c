/**
 * @file test_hdf5.c
 * @brief HDF5 files that are not whole, refer to others, or are hostile; and that whole ones are read right.
 *
 * SPDX-License-Identifier: MIT
 */
#include "files.h"

#include <errno.h>
#include <hdf5.h>
#include <math.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "softntk/data.h"
#include "softntk/rng.h"

enum { ROWS = 6, COLS = 4 };

/* ---- loading ---- */

static sntk_status load(const char *place, bool allow_external, int64_t limit, sntk_array *array) {
  char path[2 * FILES_PATH_CHARS];
  int64_t total;
  snprintf(path, sizeof path, "%s/%s", files_folder, place);
  return sntk_hdf5_load(files_ctx, path, allow_external, limit, array, &total);
}

static void refuse(const char *place, const char *parts) {
  sntk_array array;
  const sntk_status status = load(place, false, 0, &array);
  if (status == SNTK_OK) sntk_array_free(&array);
  check_failure(status, SNTK_ERR_DATA, parts, place);
  assert_null(array.values);
}

/* The element of row i and column j. */
static double value(int64_t i, int64_t j) { return (double)(i * 100 + j) + 0.5; }

/* All elements are value(i, j). */
static void take(const char *place, bool allow_external, int64_t limit, int64_t rows, int64_t cols) {
  sntk_array array;
  check_ok(load(place, allow_external, limit, &array), place);
  assert_int_equal(array.rows, rows);
  assert_int_equal(array.cols, cols);
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < cols; j++)
      if (array.values[i * cols + j] != value(i, j))
        fail_msg("%s: [%lld, %lld] is %g", place, (long long)i, (long long)j, array.values[i * cols + j]);
  sntk_array_free(&array);
}

/* ---- writing ---- */

static hid_t create(const char *name) {
  const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
  H5Pset_file_locking(access, false, true);
  const hid_t file = H5Fcreate(in_folder(name), H5F_ACC_TRUNC, H5P_DEFAULT, access);
  assert_true(file >= 0);
  H5Pclose(access);
  return file;
}

static void write_rows(hid_t set, int64_t first, int64_t from, int64_t rows, int64_t cols) {
  double *values = malloc((size_t)(rows * cols) * sizeof *values);
  assert_non_null(values);
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < cols; j++) values[i * cols + j] = value(from + i, j);
  const hid_t space = H5Dget_space(set);
  const hsize_t start[2] = {(hsize_t)first, 0}, count[2] = {(hsize_t)rows, (hsize_t)cols};
  assert_true(H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0);
  const hid_t memory = H5Screate_simple(2, count, NULL);
  assert_true(H5Dwrite(set, H5T_NATIVE_DOUBLE, memory, space, H5P_DEFAULT, values) >= 0);
  H5Sclose(memory);
  H5Sclose(space);
  free(values);
}

/* A dataset of `rows` rows with value(from + i, j), of which `written` are written. `creation` is closed. */
static void add(hid_t file, const char *name, int64_t rows, int64_t cols, int64_t from, int64_t written,
                hid_t creation) {
  const hsize_t shape[2] = {(hsize_t)rows, (hsize_t)cols}, most[2] = {H5S_UNLIMITED, (hsize_t)cols};
  const bool chunked = creation != H5P_DEFAULT && H5Pget_layout(creation) == H5D_CHUNKED;
  const hid_t space = H5Screate_simple(2, shape, chunked ? most : NULL);
  const hid_t set = H5Dcreate2(file, name, H5T_IEEE_F64LE, space, H5P_DEFAULT, creation, H5P_DEFAULT);
  assert_true(set >= 0);
  if (written > 0) write_rows(set, 0, from, written, cols);
  H5Dclose(set);
  H5Sclose(space);
  if (creation != H5P_DEFAULT) H5Pclose(creation);
}

static hid_t chunked(hsize_t rows, hsize_t cols) {
  const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
  assert_true(H5Pset_chunk(creation, 2, (const hsize_t[]){rows, cols}) >= 0);
  return creation;
}

/* A file with one dataset x. */
static void make(const char *name, int64_t rows, int64_t from, int64_t written, hid_t creation) {
  const hid_t file = create(name);
  add(file, "x", rows, COLS, from, written, creation);
  H5Fclose(file);
}

/* Maps `rows` rows from `first` on to all rows of dataset x of `source`. */
static void map(hid_t creation, int64_t total, int64_t first, int64_t rows, const char *source, const char *name) {
  const hsize_t shape[2] = {(hsize_t)total, COLS}, start[2] = {(hsize_t)first, 0}, count[2] = {(hsize_t)rows, COLS};
  const hid_t here = H5Screate_simple(2, shape, NULL), there = H5Screate_simple(2, count, NULL);
  H5Sselect_hyperslab(here, H5S_SELECT_SET, start, NULL, count, NULL);
  assert_true(H5Pset_virtual(creation, here, source, name, there) >= 0);
  H5Sclose(here);
  H5Sclose(there);
}

/* A virtual dataset of three sources with two rows each. */
static void make_virtual(const char *name, const char *a, const char *b, const char *c) {
  const char *const sources[3] = {a, b, c};
  const hid_t creation = H5Pcreate(H5P_DATASET_CREATE), file = create(name);
  for (int k = 0; k < 3; k++)
    if (sources[k]) map(creation, ROWS, 2 * k, 2, sources[k], "x");
  const double fill = -7.0;
  H5Pset_fill_value(creation, H5T_NATIVE_DOUBLE, &fill);
  add(file, "x", ROWS, COLS, 0, 0, creation);
  H5Fclose(file);
}

static void make_sources(void) {
  make("s0.h5", 2, 0, 2, H5P_DEFAULT);
  make("s1.h5", 2, 2, 2, chunked(1, COLS));
  make("s2.h5", 2, 4, 2, H5P_DEFAULT);
}

/* ---- storage that is not all there ---- */

static void test_unwritten(void **state) {
  (void)state;
  make("a.h5", ROWS, 0, 0, H5P_DEFAULT);
  refuse("a.h5:/x", "a.h5:/x|nothing was written");
  make("a.h5", ROWS, 0, 0, chunked(2, COLS));
  refuse("a.h5:/x", "a.h5:/x|nothing was written");
  make("a.h5", ROWS, 0, 4, chunked(2, COLS)); /* the last two rows are missing */
  refuse("a.h5:/x", "a.h5:/x|never written|row 4|fill value");
  take("a.h5:/x", false, 4, 4, COLS);
  sntk_array array;
  check_failure(load("a.h5:/x", false, 5, &array), SNTK_ERR_DATA, "never written", "five rows");
  make("a.h5", ROWS, 0, ROWS, chunked(4, 3));
  take("a.h5:/x", false, 0, ROWS, COLS);
  const hid_t packed = chunked(4, 3);
  H5Pset_deflate(packed, 6);
  make("a.h5", ROWS, 0, 4, packed); /* the chunk that is written holds what was not asked for, too */
  take("a.h5:/x", false, 4, 4, COLS);
  refuse("a.h5:/x", "never written|row 4");
}

static void test_virtual(void **state) {
  (void)state;
  make_sources();
  make_virtual("v.h5", "s0.h5", "s1.h5", "s2.h5");
  take("v.h5:/x", false, 0, ROWS, COLS);
  take("v.h5:/x", false, 3, 3, COLS);
  /* Sources that are not there, at any place; what the first rows do not need is not missed. */
  for (int k = 0; k < 3; k++) {
    char name[8];
    snprintf(name, sizeof name, "s%d.h5", k);
    unlink(in_folder(name));
    refuse("v.h5:/x", "v.h5:/x|source file|missing|fill value");
    refuse("v.h5:/x", name);
    if (k > 0) take("v.h5:/x", false, 2 * k, 2 * k, COLS);
    make_sources();
  }
  make_virtual("v.h5", "s0.h5", NULL, "s2.h5");
  refuse("v.h5:/x", "8 of its 24 elements come from no source");
  take("v.h5:/x", false, 2, 2, COLS);
  make_virtual("v.h5", "s0.h5", "s1.h5", "s2.h5");
  make("s1.h5", 1, 2, 1, H5P_DEFAULT);
  refuse("v.h5:/x", "s1.h5:x|1 rows|has not what is mapped");
  make("s1.h5", 2, 2, 0, H5P_DEFAULT);
  refuse("v.h5:/x", "nothing was written");
  make("s1.h5", 2, 2, 1, chunked(1, COLS));
  refuse("v.h5:/x", "never written|row 1");
  const hid_t other = create("s1.h5");
  add(other, "y", 2, COLS, 2, 2, H5P_DEFAULT);
  H5Fclose(other);
  refuse("v.h5:/x", "s1.h5:x|missing|no such dataset");
  write_file("s1.h5", "1,2\n", 4);
  refuse("v.h5:/x", "s1.h5|cannot be opened as HDF5");
  make_sources();
  struct stat info;
  assert_int_equal(stat(in_folder("s2.h5"), &info), 0);
  assert_int_equal(truncate(in_folder("s2.h5"), info.st_size - 8), 0);
  refuse("v.h5:/x", "s2.h5|cannot be opened as HDF5");
  assert_int_equal(unlink(in_folder("s2.h5")), 0);
  assert_int_equal(mkfifo(in_folder("s2.h5"), 0600), 0);
  refuse("v.h5:/x", "s2.h5|not a regular file");
  assert_int_equal(unlink(in_folder("s2.h5")), 0);
  make_sources();
  /* A virtual dataset of virtual ones; of itself; and with sources in its own file. */
  make_virtual("w.h5", "v.h5", "s1.h5", "s2.h5");
  refuse("w.h5:/x", "v.h5:x|6 rows|has not what is mapped"); /* two of its six, which all are not */
  const hid_t second = create("w.h5"), of_all = H5Pcreate(H5P_DATASET_CREATE);
  map(of_all, ROWS, 0, ROWS, "v.h5", "x");
  add(second, "x", ROWS, COLS, 0, 0, of_all);
  H5Fclose(second);
  take("w.h5:/x", false, 0, ROWS, COLS);
  unlink(in_folder("s0.h5"));
  refuse("w.h5:/x", "s0.h5|missing");
  const hid_t self = create("s0.h5"), of_itself = H5Pcreate(H5P_DATASET_CREATE);
  map(of_itself, ROWS, 0, ROWS, "s0.h5", "x");
  add(self, "x", ROWS, COLS, 0, 0, of_itself);
  H5Fclose(self);
  refuse("s0.h5:/x", "virtual dataset of virtual datasets");
  const hid_t file = create("v.h5"), creation = H5Pcreate(H5P_DATASET_CREATE);
  add(file, "part", 2, COLS, 0, 2, H5P_DEFAULT);
  map(creation, 2, 0, 2, ".", "part");
  add(file, "x", 2, COLS, 0, 0, creation);
  const hid_t lost = H5Pcreate(H5P_DATASET_CREATE);
  map(lost, 2, 0, 2, ".", "gone");
  add(file, "y", 2, COLS, 0, 0, lost);
  H5Fclose(file);
  take("v.h5:/x", false, 0, 2, COLS);
  refuse("v.h5:/y", ".:gone|missing");
}

/* Sources that a pattern numbers, and sources that grow. */
static void test_virtual_unlimited(void **state) {
  (void)state;
  const hsize_t shape[2] = {2, COLS}, most[2] = {H5S_UNLIMITED, COLS}, start[2] = {0, 0}, one[2] = {H5S_UNLIMITED, 1};
  const hid_t here = H5Screate_simple(2, shape, most), there = H5Screate_simple(2, shape, NULL);
  for (int in_files = 0; in_files < 2; in_files++) {
    const hid_t creation = H5Pcreate(H5P_DATASET_CREATE), file = create("n.h5");
    H5Sselect_hyperslab(here, H5S_SELECT_SET, start, (const hsize_t[]){2, COLS}, one, shape);
    assert_true(H5Pset_virtual(creation, here, in_files ? "n%b.h5" : ".", in_files ? "x" : "x%b", there) >= 0);
    const hid_t set = H5Dcreate2(file, "x", H5T_IEEE_F64LE, here, H5P_DEFAULT, creation, H5P_DEFAULT);
    assert_true(set >= 0);
    H5Dclose(set);
    for (int k = 0; k < 4; k++) {
      char name[16];
      snprintf(name, sizeof name, in_files ? "n%d.h5" : "x%d", k);
      if (in_files)
        make(name, 2, 2 * k, 2, H5P_DEFAULT);
      else
        add(file, name, 2, COLS, 2 * k, 2, H5P_DEFAULT);
    }
    H5Fclose(file);
    H5Pclose(creation);
    take("n.h5:/x", false, 0, 8, COLS);
    for (int k = 2; k >= 0; k--) { /* a gap, whatever follows it */
      const hid_t again = H5Fopen(in_folder("n.h5"), H5F_ACC_RDWR, H5P_DEFAULT);
      char name[16];
      snprintf(name, sizeof name, in_files ? "n%d.h5" : "x%d", k);
      if (in_files)
        unlink(in_folder(name));
      else
        H5Ldelete(again, name, H5P_DEFAULT);
      H5Fclose(again);
      refuse("n.h5:/x", "n.h5:/x|source|missing");
      refuse("n.h5:/x", name);
    }
  }
  /* Two sources side by side that grow: equally long, then not. */
  const hid_t creation = H5Pcreate(H5P_DATASET_CREATE), file = create("n.h5");
  const hid_t half = H5Screate_simple(2, (const hsize_t[]){2, 2}, (const hsize_t[]){H5S_UNLIMITED, 2});
  for (hsize_t k = 0; k < 2; k++) {
    const hsize_t at[2] = {0, 2 * k}, block[2] = {1, 2};
    H5Sselect_hyperslab(here, H5S_SELECT_SET, at, NULL, one, block);
    H5Sselect_hyperslab(half, H5S_SELECT_SET, start, NULL, one, block);
    assert_true(H5Pset_virtual(creation, here, ".", k ? "right" : "left", half) >= 0);
  }
  const hid_t set = H5Dcreate2(file, "x", H5T_IEEE_F64LE, here, H5P_DEFAULT, creation, H5P_DEFAULT);
  assert_true(set >= 0);
  H5Dclose(set);
  add(file, "left", 3, 2, 0, 3, chunked(1, 2));
  const hid_t right_space = H5Screate_simple(2, (const hsize_t[]){3, 2}, (const hsize_t[]){H5S_UNLIMITED, 2});
  const hid_t right_creation = chunked(1, 2);
  hid_t right = H5Dcreate2(file, "right", H5T_IEEE_F64LE, right_space, H5P_DEFAULT, right_creation, H5P_DEFAULT);
  const double values[6] = {value(0, 2), value(0, 3), value(1, 2), value(1, 3), value(2, 2), value(2, 3)};
  H5Dwrite(right, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
  H5Fflush(file, H5F_SCOPE_GLOBAL);
  take("n.h5:/x", false, 0, 3, COLS);
  H5Dset_extent(right, (const hsize_t[]){2, 2});
  H5Fflush(file, H5F_SCOPE_GLOBAL);
  refuse("n.h5:/x", "end at different rows|2|3");
  H5Dclose(right);
  H5Fclose(file);
  H5Pclose(right_creation);
  H5Sclose(right_space);
  H5Sclose(half);
  H5Pclose(creation);
  H5Sclose(here);
  H5Sclose(there);
}

/* A dataset whose elements lie in a raw file from byte 16 on, with room for `size` bytes. */
static void make_raw(const char *name, const char *raw, hsize_t size) {
  const hid_t creation = H5Pcreate(H5P_DATASET_CREATE), file = create(name);
  assert_true(H5Pset_external(creation, raw, 16, size) >= 0);
  add(file, "x", ROWS, COLS, 0, 0, creation);
  H5Fclose(file);
}

static void write_raw(const char *name, int64_t elements) {
  double values[2 + ROWS * COLS] = {0};
  for (int j = 0; j < ROWS * COLS; j++) values[2 + j] = value(j / COLS, j % COLS);
  write_file(name, values, (size_t)(2 + elements) * sizeof *values);
}

static void test_raw_files(void **state) {
  (void)state;
  write_raw("raw.bin", ROWS * COLS);
  for (int unlimited = 0; unlimited < 2; unlimited++) {
    make_raw("r.h5", "raw.bin", unlimited ? H5F_UNLIMITED : ROWS * COLS * sizeof(double));
    take("r.h5:/x", false, 0, ROWS, COLS);
    write_raw("raw.bin", ROWS * COLS - 1);
    refuse("r.h5:/x", "raw.bin|too short|192 bytes from byte 16|200");
    unlink(in_folder("raw.bin"));
    refuse("r.h5:/x", "raw.bin|missing");
    write_raw("raw.bin", ROWS * COLS);
  }
  make_raw("r.h5", in_folder("raw.bin"), H5F_UNLIMITED); /* by its full path */
  take("r.h5:/x", false, 0, ROWS, COLS);
}

/* ---- other files ---- */

static void make_link(const char *name, const char *target) {
  const hid_t file = create(name);
  assert_true(H5Lcreate_external(target, "/x", file, "link", H5P_DEFAULT, H5P_DEFAULT) >= 0);
  assert_true(H5Lcreate_soft("/link", file, "soft", H5P_DEFAULT, H5P_DEFAULT) >= 0);
  H5Fclose(file);
}

static void test_other_files(void **state) {
  (void)state;
  assert_int_equal(mkdir(in_folder("inner"), 0700), 0);
  make("s.h5", ROWS, 0, ROWS, H5P_DEFAULT);
  make("inner/s.h5", ROWS, 0, ROWS, H5P_DEFAULT);
  write_raw("raw.bin", ROWS * COLS);
  write_raw("inner/raw.bin", ROWS * COLS);
  assert_int_equal(symlink(in_folder("s.h5"), in_folder("inner/way.h5")), 0);
  assert_int_equal(symlink(in_folder("raw.bin"), in_folder("inner/way.bin")), 0);
  char above[FILES_PATH_CHARS], raw_above[FILES_PATH_CHARS];
  snprintf(above, sizeof above, "%s", in_folder("s.h5"));
  snprintf(raw_above, sizeof raw_above, "%s", in_folder("raw.bin"));
  /* Inside the file's folder. */
  make_link("inner/l.h5", "s.h5");
  take("inner/l.h5:/link", false, 0, ROWS, COLS);
  take("inner/l.h5:/soft", false, 0, ROWS, COLS);
  make_link("l.h5", "inner/s.h5");
  take("l.h5:/link", false, 0, ROWS, COLS);
  make_raw("inner/r.h5", "raw.bin", H5F_UNLIMITED);
  take("inner/r.h5:/x", false, 0, ROWS, COLS);
  /* Outside: by a full path, by way of .., and through a symbolic link; only where that is allowed. */
  const char *const outside[3] = {above, "../s.h5", "way.h5"}, *const raw_outside[3] = {raw_above, "../raw.bin",
                                                                                        "way.bin"};
  for (int k = 0; k < 3; k++) {
    make_link("inner/l.h5", outside[k]);
    refuse("inner/l.h5:/link", "external link|outside the folder|data.allow_external: true");
    refuse("inner/l.h5:/soft", "external link|outside the folder|data.allow_external: true");
    take("inner/l.h5:/link", true, 0, ROWS, COLS);
    make_raw("inner/r.h5", raw_outside[k], H5F_UNLIMITED);
    refuse("inner/r.h5:/x", "raw file|outside the folder|data.allow_external: true");
    take("inner/r.h5:/x", true, 0, ROWS, COLS);
    const hid_t file = create("inner/v.h5"), creation = H5Pcreate(H5P_DATASET_CREATE);
    map(creation, ROWS, 0, ROWS, outside[k], "x");
    add(file, "x", ROWS, COLS, 0, 0, creation);
    H5Fclose(file);
    refuse("inner/v.h5:/x", "source file|outside the folder|data.allow_external: true");
    take("inner/v.h5:/x", true, 0, ROWS, COLS);
  }
  /* A file behind a symbolic link: its folder is the one that it really lies in. */
  make_link("inner/l.h5", "s.h5");
  assert_int_equal(symlink("inner/l.h5", in_folder("alias.h5")), 0);
  take("alias.h5:/link", false, 0, ROWS, COLS);
  /* What is not there, allowed or not. */
  make_link("l.h5", "gone.h5");
  sntk_array array;
  for (int allowed = 0; allowed < 2; allowed++)
    check_failure(load("l.h5:/link", allowed, 0, &array), SNTK_ERR_DATA, "external link|gone.h5|missing", "gone");
  make_link("l.h5", "/etc/passwd");
  refuse("l.h5:/link", "/etc/passwd|outside the folder");
  make_link("l.h5", "/dev/zero");
  refuse("l.h5:/link", "/dev/zero|outside the folder");
}

/* ---- words ---- */

static void test_words(void **state) {
  (void)state;
  hid_t file = create("g.h5");
  const hid_t df = H5Gcreate2(file, "df", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  H5Gclose(H5Gcreate2(df, "deep", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
  add(df, "values", ROWS, COLS, 0, ROWS, H5P_DEFAULT);
  const hid_t kind = H5Tcopy(H5T_C_S1);
  H5Tcommit2(file, "kind", kind, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  H5Lcreate_soft("/nowhere", file, "dangling", H5P_DEFAULT, H5P_DEFAULT);
  H5Gclose(df);
  H5Fclose(file);
  refuse("g.h5:/df", "/df is a group|/df/values (6 x 4)|/df/deep/");
  refuse("g.h5:/df/deep", "/df/deep is a group|nothing");
  refuse("g.h5:/df/deep/x/y", "no dataset /df/deep/x/y|the group /df/deep has: nothing");
  refuse("g.h5:/df/valves", "no dataset /df/valves|/df/values (6 x 4)");
  refuse("g.h5:/x", "no dataset /x|/df/");
  refuse("g.h5:/kind", "a type, not a dataset");
  refuse("g.h5:/dangling", "no dataset /dangling");
  take("g.h5:/df/values", false, 0, ROWS, COLS);
  static const struct {
    const char *bytes;
    size_t size;
    const char *parts;
  } cases[] = {{"1,2\n", 4, "not an HDF5 file|text|source: csv"},
               {"\x93NUMPY\1\0\2\0{}", 12, "not an HDF5 file|NPY|source: npy"},
               {"BZh91AY&SY\1\2", 12, "not an HDF5 file|bzip2|bunzip2"},
               {"\x1f\x8b\x08\0", 4, "not an HDF5 file|gzip|gunzip"},
               {"PK\3\4\0\0\0\0", 8, "not an HDF5 file|zip"},
               {"CDF\1\0\0\0\0", 8, "not an HDF5 file|NetCDF 3"},
               {"\x0e\x03\x13\x01\0\0", 6, "not an HDF5 file|HDF4"},
               {"", 0, "not an HDF5 file"}};
  for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
    write_file("o.h5", cases[c].bytes, cases[c].size);
    refuse("o.h5:/x", cases[c].parts);
  }
}

/* A dataset x with one attribute, a number or a vector of two. */
static void make_attribute(const char *name, double number, hsize_t count) {
  const hid_t file = create("a.h5");
  add(file, "x", ROWS, COLS, 0, ROWS, H5P_DEFAULT);
  const hid_t set = H5Dopen2(file, "x", H5P_DEFAULT), space = H5Screate_simple(1, &count, NULL);
  const hid_t attribute = H5Acreate2(set, name, H5T_IEEE_F32LE, space, H5P_DEFAULT, H5P_DEFAULT);
  assert_true(H5Awrite(attribute, H5T_NATIVE_DOUBLE, (const double[]){number, number}) >= 0);
  H5Aclose(attribute);
  H5Sclose(space);
  H5Dclose(set);
  H5Fclose(file);
}

static void test_attributes(void **state) {
  (void)state;
  make_attribute("_FillValue", value(2, 1), 1);
  refuse("a.h5:/x", "[2, 1]|201.5|missing value");
  take("a.h5:/x", false, 2, 2, COLS);
  make_attribute("missing_value", value(0, 0), 1);
  refuse("a.h5:/x", "[0, 0]|0.5|missing value");
  make_attribute("_FillValue", NAN, 1);
  take("a.h5:/x", false, 0, ROWS, COLS);
  make_attribute("_FillValue", value(2, 1), 2);
  take("a.h5:/x", false, 0, ROWS, COLS);
  make_attribute("scale_factor", 0.25, 1);
  refuse("a.h5:/x", "packed|scale_factor|float64");
  make_attribute("scale_factor", 1.0, 1);
  take("a.h5:/x", false, 0, ROWS, COLS);
  make_attribute("add_offset", 2.0, 1);
  refuse("a.h5:/x", "packed");
  make_attribute("add_offset", 0.0, 1);
  take("a.h5:/x", false, 0, ROWS, COLS);
  make_attribute("MATLAB_empty", 1.0, 1);
  refuse("a.h5:/x", "empty array of MATLAB");
}

/* ---- a library that misbehaves: a filter of ours, which the child inherits, plays it ---- */

enum { OUR_FILTER = 32015 /* zstd's number */ };

typedef enum deed { COPY, CRASH, ABORT, HANG, KILLED, EXIT, FAIL } deed;
static deed filter_deed;
static pid_t test_process;

static size_t misbehave(unsigned flags, size_t count, const unsigned values[], size_t bytes, size_t *size,
                        void **buffer) {
  (void)flags;
  (void)count;
  (void)values;
  (void)size;
  (void)buffer;
  if (filter_deed == COPY) return bytes;
  assert_int_not_equal(getpid(), test_process); /* otherwise the library was called here */
  if (filter_deed == CRASH) raise(SIGSEGV);
  if (filter_deed == ABORT) abort();
  if (filter_deed == KILLED) raise(SIGKILL);
  if (filter_deed == EXIT) _exit(0);
  while (filter_deed == HANG) pause();
  return 0;
}

static void register_filter(void) {
  const H5Z_class2_t ours = {H5Z_CLASS_T_VERS, OUR_FILTER, 1, 1, "ours", NULL, NULL, misbehave};
  assert_true(H5Zregister(&ours) >= 0);
}

static volatile sig_atomic_t raised;

static void raise_flag(int number) {
  (void)number;
  raised = 1;
}

static void test_child(void **state) {
  (void)state;
  static const struct {
    deed does;
    sntk_status status;
    const char *parts;
  } cases[] = {{CRASH, SNTK_ERR_DATA, "f.h5:/x|HDF5 library crashed|signal 11|damaged or hostile"},
               {ABORT, SNTK_ERR_DATA, "f.h5:/x|HDF5 library crashed|signal 6"},
               {KILLED, SNTK_ERR_MEMORY, "f.h5:/x|killed|memory"},
               {EXIT, SNTK_ERR_DATA, "f.h5:/x|ended the process"},
               {FAIL, SNTK_ERR_DATA, "f.h5:/x|reading failed"}};
  test_process = getpid();
  register_filter();
  const hid_t creation = chunked(2, COLS);
  H5Pset_filter(creation, OUR_FILTER, H5Z_FLAG_MANDATORY, 0, NULL);
  filter_deed = COPY;
  make("f.h5", ROWS, 0, ROWS, creation);
  take("f.h5:/x", false, 0, ROWS, COLS);
  FILE *const unflushed = fopen(in_folder("out"), "w");
  assert_non_null(unflushed);
  fputs("once", unflushed);
  sntk_array array;
  for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
    filter_deed = cases[c].does;
    check_failure(load("f.h5:/x", false, 0, &array), cases[c].status, cases[c].parts, cases[c].parts);
    assert_null(array.values);
  }
  filter_deed = HANG; /* the wait ends when the flag is raised */
  sntk_context_set_interrupt(files_ctx, &raised);
  const struct sigaction on_alarm = {.sa_handler = raise_flag};
  struct sigaction before;
  sigaction(SIGALRM, &on_alarm, &before);
  alarm(1);
  const sntk_status status = load("f.h5:/x", false, 0, &array);
  alarm(0);
  sigaction(SIGALRM, &before, NULL);
  sntk_context_set_interrupt(files_ctx, NULL);
  assert_int_equal(status, SNTK_ERR_INTERRUPTED);
  /* No child is left, nothing was written twice, and no descriptor is left open. */
  assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
  assert_int_equal(errno, ECHILD);
  fclose(unflushed);
  struct stat info;
  assert_int_equal(stat(in_folder("out"), &info), 0);
  assert_int_equal(info.st_size, 4);
  const int first = dup(0);
  filter_deed = CRASH;
  for (int k = 0; k < 3; k++) load("f.h5:/x", false, 0, &array);
  filter_deed = COPY;
  for (int k = 0; k < 3; k++) take("f.h5:/x", false, 0, ROWS, COLS);
  const int second = dup(0);
  assert_int_equal(second, first + 1);
  close(first);
  close(second);
  /* The same filter where the library lacks it; optional, as some programs mark theirs. */
  H5Zunregister(OUR_FILTER);
  refuse("f.h5:/x", "filter zstd (number 32015)|compression='gzip'");
  static const struct {
    H5Z_filter_t id;
    const char *name;
  } filters[] = {{32000, "lzf"},        {32001, "blosc"}, {32004, "lz4"},
                 {32008, "bitshuffle"}, {307, "bzip2"},   {32026, "blosc2"}};
  for (size_t k = 0; k < sizeof filters / sizeof *filters; k++) {
    const H5Z_class2_t other = {H5Z_CLASS_T_VERS, filters[k].id, 1, 1, NULL, NULL, NULL, misbehave};
    assert_true(H5Zregister(&other) >= 0);
    const hid_t optional = chunked(2, COLS);
    H5Pset_filter(optional, filters[k].id, H5Z_FLAG_OPTIONAL, 0, NULL);
    make("f.h5", ROWS, 0, ROWS, optional);
    H5Zunregister(filters[k].id);
    char parts[64];
    snprintf(parts, sizeof parts, "filter %s (number %d)", filters[k].name, (int)filters[k].id);
    refuse("f.h5:/x", parts);
  }
}

/* Bytes changed at random: any answer will do, but one. On a library that does not check, some of these crash it. */
static void test_damage(void **state) {
  (void)state;
  const hid_t packed = chunked(2, 3);
  H5Pset_shuffle(packed);
  H5Pset_deflate(packed, 6);
  make_sources();
  make_virtual("d0.h5", "s0.h5", "s1.h5", "s2.h5");
  make("d1.h5", ROWS, 0, ROWS, packed);
  make("d2.h5", ROWS, 0, ROWS, H5P_DEFAULT);
  make_link("d3.h5", "s0.h5");
  static const char *const places[] = {"d0.h5", "d1.h5", "d2.h5", "d3.h5"};
  enum { ROUNDS = 60, MOST = 1 << 15 };
  static char bytes[MOST], changed[MOST];
  for (int p = 0; p < 4; p++) {
    FILE *file = fopen(in_folder(places[p]), "rb");
    assert_non_null(file);
    const size_t size = fread(bytes, 1, MOST, file);
    fclose(file);
    for (int round = 0; round < ROUNDS; round++) {
      memcpy(changed, bytes, size);
      const int changes = 1 + round % 4;
      for (int c = 0; c < changes; c++) {
        const uint64_t at = (uint64_t)(p * ROUNDS + round) * 16 + (uint64_t)c * 2;
        size_t place = 8 + sntk_rng_word(11, 3, at) % (size - 8);
        while (!changed[place]) place = (place + 1) % size; /* where something is */
        if (place >= 8)
          changed[place] = (char)(sntk_rng_word(11, 3, at + 1) % 2 ? 0xff : sntk_rng_word(11, 3, at + 1) >> 8);
      }
      write_file("d.h5", changed, size);
      sntk_array array;
      const sntk_status status = load(p == 3 ? "d.h5:/link" : "d.h5:/x", false, 0, &array);
      if (status == SNTK_OK) {
        sntk_array_free(&array);
      } else {
        assert_null(array.values);
        if (status != SNTK_ERR_DATA && status != SNTK_ERR_MEMORY && status != SNTK_ERR_SHAPE)
          check_failure(status, SNTK_ERR_DATA, "", "damage");
        assert_null(strchr(sntk_context_error(files_ctx), '\n'));
      }
    }
  }
}

/* ---- whole files ---- */

/* Chunks of every shape, among them such as are cut for the way between the processes. */
static void test_chunks(void **state) {
  (void)state;
  static const struct {
    int64_t rows, cols;
    hsize_t chunk[2];
  } cases[] = {{1, 1, {1, 1}},           {37, 11, {5, 3}},      {37, 11, {37, 1}},
               {37, 11, {1, 11}},        {37, 11, {64, 64}},    {3000, 50, {3000, 1}},
               {3000, 400, {3000, 400}}, {3000, 400, {100, 7}}, {2, 700000, {1, 700000}}};
  for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
    for (int packed = 0; packed < 3; packed++) {
      const hid_t creation =
          packed == 2 ? H5Pcreate(H5P_DATASET_CREATE) : chunked(cases[c].chunk[0], cases[c].chunk[1]);
      if (packed == 1) H5Pset_deflate(creation, 1);
      const hid_t file = create("c.h5");
      const int64_t rows = cases[c].rows, cols = cases[c].cols;
      const hsize_t shape[2] = {(hsize_t)rows, (hsize_t)cols}, most[2] = {H5S_UNLIMITED, H5S_UNLIMITED};
      const hid_t space = H5Screate_simple(2, shape, packed == 2 ? NULL : most);
      const hid_t set = H5Dcreate2(file, "x", H5T_IEEE_F64LE, space, H5P_DEFAULT, creation, H5P_DEFAULT);
      assert_true(set >= 0);
      write_rows(set, 0, 0, rows, cols);
      H5Dclose(set);
      H5Sclose(space);
      H5Pclose(creation);
      H5Fclose(file);
      take("c.h5:/x", false, 0, rows, cols);
      take("c.h5:/x", false, (rows + 1) / 2, (rows + 1) / 2, cols);
    }
  }
  /* More dimensions, cut in each. */
  enum { A = 5, B = 7, C = 9 };
  double values[A * B * C];
  for (int j = 0; j < A * B * C; j++) values[j] = value(j / (B * C), j % (B * C));
  const hid_t creation = H5Pcreate(H5P_DATASET_CREATE), file = create("c.h5");
  H5Pset_chunk(creation, 3, (const hsize_t[]){2, 3, 4});
  const hid_t space = H5Screate_simple(3, (const hsize_t[]){A, B, C}, NULL);
  const hid_t set = H5Dcreate2(file, "x", H5T_IEEE_F64BE, space, H5P_DEFAULT, creation, H5P_DEFAULT);
  H5Dwrite(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
  H5Dclose(set);
  H5Sclose(space);
  H5Pclose(creation);
  H5Fclose(file);
  take("c.h5:/x", false, 0, A, B * C);
  take("c.h5:/x", false, 3, 3, B * C);
}

/* The memory limit holds before anything is taken, however large the shape. */
static void test_limits(void **state) {
  (void)state;
  const hid_t file = create("m.h5"), creation = chunked(1, COLS);
  const hsize_t shape[2] = {(hsize_t)1 << 50, COLS};
  const hid_t space = H5Screate_simple(2, shape, NULL);
  const hid_t set = H5Dcreate2(file, "x", H5T_IEEE_F64LE, space, H5P_DEFAULT, creation, H5P_DEFAULT);
  write_rows(set, 0, 0, 3, COLS);
  H5Dclose(set);
  H5Sclose(space);
  H5Pclose(creation);
  H5Fclose(file);
  refuse("m.h5:/x", "never written|row 3");
  take("m.h5:/x", false, 3, 3, COLS);
  make("m.h5", 1000, 0, 1000, chunked(1000, COLS));
  files_ctx->memory_limit = 1000 * COLS * (int64_t)sizeof(double) - 1;
  sntk_array array;
  check_failure(load("m.h5:/x", false, 0, &array), SNTK_ERR_MEMORY, "1000 x 4|may be used", "a limit");
  files_ctx->memory_limit++;
  take("m.h5:/x", false, 0, 1000, COLS);
  files_ctx->memory_limit = 0;
  assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_unwritten),  cmocka_unit_test(test_virtual),     cmocka_unit_test(test_virtual_unlimited),
      cmocka_unit_test(test_raw_files),  cmocka_unit_test(test_other_files), cmocka_unit_test(test_words),
      cmocka_unit_test(test_attributes), cmocka_unit_test(test_child),       cmocka_unit_test(test_damage),
      cmocka_unit_test(test_chunks),     cmocka_unit_test(test_limits),
  };
  return cmocka_run_group_tests(tests, files_set_up, files_tear_down);
}
