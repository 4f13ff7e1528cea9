/**
 * @file h5_list.c
 * @brief For the command-line tests: what an HDF5 file holds, so that two files can be compared by their data.
 *
 *   h5_list FILE        a line for each dataset: path, type, shape, CRC-32 of its elements
 *   h5_list FILE /PATH  its elements, one a line, with 17 digits
 *
 * Whole files cannot be compared: HDF5 writes the time of a dataset's creation into them.
 *
 * SPDX-License-Identifier: MIT
 */
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { PATH_CHARS = 1024, MAX_RANK = 8 };

static int fail(const char *what, const char *path) {
  fprintf(stderr, "h5_list: cannot %s %s\n", what, path);
  return 1;
}

/* All elements, as they are in the file. NULL on failure. */
static void *read_all(hid_t dataset, hid_t type, size_t *bytes) {
  const hid_t space = H5Dget_space(dataset);
  const hssize_t elements = H5Sget_simple_extent_npoints(space);
  H5Sclose(space);
  if (elements < 0) return NULL;
  *bytes = (size_t)elements * H5Tget_size(type);
  void *data = malloc(*bytes + 1);
  if (data && H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0) return data;
  free(data);
  return NULL;
}

static int describe(hid_t dataset, const char *path) {
  hsize_t shape[MAX_RANK];
  const hid_t type = H5Dget_type(dataset), space = H5Dget_space(dataset);
  const int rank = H5Sget_simple_extent_ndims(space);
  if (rank < 0 || rank > MAX_RANK) return fail("describe", path);
  H5Sget_simple_extent_dims(space, shape, NULL);
  size_t bytes;
  void *data = read_all(dataset, type, &bytes);
  if (!data) return fail("read", path);
  printf("%s %s%zu ", path, H5Tget_class(type) == H5T_FLOAT ? "f" : "i", 8 * H5Tget_size(type));
  for (int r = 0; r < rank; r++) printf("%s%llu", r ? "x" : "", (unsigned long long)shape[r]);
  printf(" %08lx\n", (unsigned long)crc32_z(0, data, bytes));
  free(data);
  H5Sclose(space);
  H5Tclose(type);
  return 0;
}

/* Everything below a group, by name. */
static int walk(hid_t group, const char *prefix) {
  H5G_info_t info;
  if (H5Gget_info(group, &info) < 0) return fail("list", prefix);
  int failed = 0;
  for (hsize_t i = 0; i < info.nlinks && !failed; i++) {
    char name[PATH_CHARS], path[2 * PATH_CHARS + 2];
    if (H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, i, name, sizeof name, H5P_DEFAULT) < 0)
      return fail("list", prefix);
    snprintf(path, sizeof path, "%.*s/%s", PATH_CHARS, prefix, name);
    const hid_t object = H5Oopen(group, name, H5P_DEFAULT);
    if (object < 0) return fail("open", path);
    failed = H5Iget_type(object) == H5I_GROUP ? walk(object, path) : describe(object, path);
    H5Oclose(object);
  }
  return failed;
}

static int print_values(hid_t file, const char *path) {
  const hid_t dataset = H5Dopen2(file, path, H5P_DEFAULT);
  if (dataset < 0) return fail("open", path);
  size_t bytes;
  double *values = read_all(dataset, H5T_NATIVE_DOUBLE, &bytes);
  if (!values) return fail("read", path);
  for (size_t j = 0; j < bytes / sizeof *values; j++) printf("%.17g\n", values[j]);
  free(values);
  H5Dclose(dataset);
  return 0;
}

int main(int argc, char **argv) {
  if (argc < 2 || argc > 3) {
    fprintf(stderr, "usage: h5_list FILE [/DATASET]\n");
    return 2;
  }
  H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
  const hid_t file = H5Fopen(argv[1], H5F_ACC_RDONLY, H5P_DEFAULT);
  if (file < 0) return fail("open", argv[1]);
  const int failed = argc == 3 ? print_values(file, argv[2]) : walk(file, "");
  H5Fclose(file);
  return failed;
}
