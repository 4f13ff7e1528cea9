/**
 * @file hdf5_storage.c
 * @brief Where the elements of an HDF5 dataset are stored, and whether they are all there.
 *
 * HDF5 reads what is not there as the fill value, without a word: chunks that were never written, sources of a virtual
 * dataset that are missing or shorter than what is mapped of them, raw files that are cut. Each is refused here, before
 * anything is read.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/hdf5_internal.h"

enum {
  MAX_DEPTH = 16,    /* virtual datasets of virtual datasets */
  NAMES_BEYOND = 64, /* numbered sources looked for behind the first that is missing */
  NAME_CHARS = 4096
};

static bool dataset_extent(hid_t dataset, h5_extent *e) {
  const hid_t space = H5Dget_space(dataset);
  const bool got = space >= 0 && sntk_h5_get_extent(space, e);
  if (space >= 0) H5Sclose(space);
  return got;
}

/* ---- files ---- */

sntk_status sntk_h5_find_file(h5_place *h, const char *folder, const char *name, const char *what, char *found) {
  char path[PATH_MAX];
  const char *const base = strrchr(name, '/');
  bool there = false;
  if (*name == '/') there = realpath(name, found) != NULL;
  /* HDF5 looks for a file that has moved beside the one that names it. */
  if (!there && snprintf(path, sizeof path, "%s%s", folder, *name == '/' ? base + 1 : name) < (int)sizeof path)
    there = realpath(path, found) != NULL;
  struct stat info;
  char shown[SNTK_EXCERPT_CHARS];
  sntk_excerpt(name, (int64_t)strlen(name), shown);
  if (!there)
    return sntk_fail(h->ctx, SNTK_ERR_DATA,
                     "%s: %s %s is missing (%s), and HDF5 would read its elements as the fill value; put it back, or "
                     "take a dataset that is whole",
                     h->place, what, shown, strerror(errno));
  if (!h->request->allow_external && strncmp(found, h->folder, strlen(h->folder)) != 0)
    return sntk_fail(h->ctx, SNTK_ERR_DATA,
                     "%s: %s %s lies outside the folder of the file; put it there, or trust the file with "
                     "data.allow_external: true",
                     h->place, what, shown);
  if (stat(found, &info) != 0 || !S_ISREG(info.st_mode))
    return sntk_fail(h->ctx, SNTK_ERR_DATA, "%s: %s %s is not a regular file", h->place, what, shown);
  return SNTK_OK;
}

/* The folder of the file that holds an object, ending in a slash. */
static bool find_folder(hid_t object, char *folder) {
  char name[PATH_MAX];
  const ssize_t length = H5Fget_name(object, name, sizeof name);
  if (length <= 0 || length >= (ssize_t)sizeof name || !realpath(name, folder)) return false;
  char *const slash = strrchr(folder, '/');
  if (slash) slash[1] = '\0';
  return slash != NULL;
}

/* ---- raw files ---- */

/* Bytes from `offset` on of a raw file; the last one may be unlimited. */
static sntk_status check_raw_file(h5_place *h, const char *name, int64_t offset, int64_t bytes) {
  char found[PATH_MAX];
  struct stat info;
  SNTK_TRY(sntk_h5_find_file(h, h->folder, name, "its raw file", found));
  if (stat(found, &info) == 0 && offset >= 0 && info.st_size - offset >= bytes) return SNTK_OK;
  return sntk_fail(
      h->ctx, SNTK_ERR_DATA,
      "%s: its raw file %s is too short: %lld bytes from byte %lld on are needed, and it has %lld; fetch or "
      "write it again",
      h->place, found, (long long)bytes, (long long)offset, (long long)info.st_size);
}

static sntk_status check_raw(h5_place *h, hid_t dataset, hid_t creation, int files) {
  h5_extent e;
  const hid_t type = H5Dget_type(dataset);
  int64_t bytes = type >= 0 ? (int64_t)H5Tget_size(type) : -1;
  if (type >= 0) H5Tclose(type);
  if (bytes <= 0 || !dataset_extent(dataset, &e)) return sntk_h5_failed(h, "its shape cannot be read");
  for (int j = 0; j < e.dims; j++) bytes = e.shape[j] > INT64_MAX ? -1 : sntk_size_mul(bytes, (int64_t)e.shape[j]);
  if (bytes < 0) return sntk_fail(h->ctx, SNTK_ERR_DATA, "%s: its shape does not fit 63 bits", h->place);
  for (int k = 0; k < files && bytes > 0; k++) {
    char name[NAME_CHARS] = "";
    off_t offset = 0;
    hsize_t size = 0;
    if (H5Pget_external(creation, (unsigned)k, sizeof name - 1, name, &offset, &size) < 0)
      return sntk_h5_failed(h, "its raw files cannot be listed");
    const int64_t part = size == H5F_UNLIMITED || size > (hsize_t)bytes ? bytes : (int64_t)size;
    SNTK_TRY(check_raw_file(h, name, offset, part));
    bytes -= part;
  }
  if (bytes == 0) return SNTK_OK;
  return sntk_fail(h->ctx, SNTK_ERR_DATA, "%s: its raw files hold %lld bytes less than the dataset; write it again",
                   h->place, (long long)bytes);
}

/* ---- chunks ---- */

/* Are all chunks of the first rows there? The first that is not ends the search, so a shape far beyond what is stored
 * costs nothing. */
static sntk_status check_chunks(h5_place *h, hid_t dataset, hid_t creation, int64_t rows) {
  h5_extent e;
  hsize_t chunk[H5S_MAX_RANK], count[H5S_MAX_RANK], index[H5S_MAX_RANK] = {0}, offset[H5S_MAX_RANK];
  if (!dataset_extent(dataset, &e) || H5Pget_chunk(creation, H5S_MAX_RANK, chunk) != e.dims)
    return sntk_h5_failed(h, "its chunks cannot be examined");
  for (int j = 0; j < e.dims; j++) {
    const hsize_t size = j == 0 && (hsize_t)rows < e.shape[0] ? (hsize_t)rows : e.shape[j];
    if (size == 0 || chunk[j] == 0) return SNTK_OK;
    count[j] = (size - 1) / chunk[j] + 1;
  }
  do {
    hsize_t size = 0;
    for (int j = 0; j < e.dims; j++) offset[j] = index[j] * chunk[j];
    if (H5Dget_chunk_storage_size(dataset, offset, &size) >= 0 && size > 0) continue;
    return sntk_fail(h->ctx, SNTK_ERR_DATA,
                     "%s: a part of it was never written, among others from row %llu, column %llu on, and HDF5 would "
                     "read that as the fill value; write all of it, or take fewer samples",
                     h->place, (unsigned long long)offset[0], (unsigned long long)(e.dims > 1 ? offset[1] : 0));
  } while (sntk_h5_next_index(e.dims, count, index));
  return SNTK_OK;
}

/* ---- filters ---- */

/* What the library lacks of those that the elements went through; the name, where the file has none. */
static void note_filters(h5_place *h, hid_t creation) {
  static const struct {
    H5Z_filter_t id;
    const char *name;
  } known[] = {{H5Z_FILTER_DEFLATE, "gzip"},
               {H5Z_FILTER_SZIP, "szip"},
               {305, "lzo"},
               {307, "bzip2"},
               {32000, "lzf"},
               {32001, "blosc"},
               {32003, "snappy"},
               {32004, "lz4"},
               {32008, "bitshuffle"},
               {32013, "zfp"},
               {32014, "fpzip"},
               {32015, "zstd"},
               {32017, "sz"},
               {32018, "fcidecomp"},
               {32019, "jpeg"},
               {32024, "sz3"},
               {32026, "blosc2"},
               {32028, "sperr"}};
  const int filters = H5Pget_nfilters(creation);
  for (int k = 0; k < filters && !*h->missing_filter; k++) {
    unsigned flags = 0, config = 0;
    size_t values = 0;
    char stored[64] = "";
    const H5Z_filter_t id =
        H5Pget_filter2(creation, (unsigned)k, &flags, &values, NULL, sizeof stored - 1, stored, &config);
    if (id < 0 || H5Zfilter_avail(id) > 0) continue;
    char shown[SNTK_EXCERPT_CHARS];
    const char *name = sntk_excerpt(stored, (int64_t)strlen(stored), shown);
    for (size_t n = 0; n < sizeof known / sizeof *known; n++)
      if (known[n].id == id) name = known[n].name;
    snprintf(h->missing_filter, sizeof h->missing_filter, "%s (number %d)", *name ? name : "without a name", (int)id);
  }
}

/* ---- virtual datasets ---- */

/* A name of a source, its %b replaced by a number and %% by %. False where it does not fit. */
static bool expand(const char *name, hsize_t number, char *to, size_t size) {
  size_t used = 0;
  for (const char *at = name; *at; at++) {
    char part[24] = {*at, '\0'};
    if (*at == '%' && at[1] == 'b') snprintf(part, sizeof part, "%llu", (unsigned long long)number);
    if (*at == '%' && (at[1] == 'b' || at[1] == '%')) at++;
    const size_t length = strlen(part);
    if (used + length >= size) return false;
    memcpy(to + used, part, length);
    used += length;
  }
  to[used] = '\0';
  return true;
}

static bool is_numbered(const char *name) {
  for (const char *at = name; *at; at++) {
    if (*at != '%') continue;
    if (at[1] == 'b') return true;
    if (at[1] == '%') at++;
  }
  return false;
}

/* One mapping of a virtual dataset: what of it comes from what of which dataset of which file. */
typedef struct mapping {
  hid_t here, there; /* selections */
  char file[NAME_CHARS], dataset[NAME_CHARS];
} mapping;

static void close_mapping(mapping *m) {
  if (m->here >= 0) H5Sclose(m->here);
  if (m->there >= 0) H5Sclose(m->there);
}

static bool get_mapping(hid_t creation, size_t k, mapping *m) {
  *m = (mapping){.here = H5Pget_virtual_vspace(creation, k), .there = H5Pget_virtual_srcspace(creation, k)};
  const ssize_t file = H5Pget_virtual_filename(creation, k, m->file, sizeof m->file);
  const ssize_t dataset = H5Pget_virtual_dsetname(creation, k, m->dataset, sizeof m->dataset);
  return m->here >= 0 && m->there >= 0 && file > 0 && file < NAME_CHARS && dataset > 0 && dataset < NAME_CHARS;
}

/* A selection that a regular hyperslab describes, without end in one dimension perhaps. */
typedef struct slab {
  hsize_t start[H5S_MAX_RANK], stride[H5S_MAX_RANK], count[H5S_MAX_RANK], block[H5S_MAX_RANK];
} slab;

static bool get_slab(hid_t space, slab *s) {
  return H5Sget_select_type(space) == H5S_SEL_HYPERSLABS && H5Sis_regular_hyperslab(space) > 0 &&
         H5Sget_regular_hyperslab(space, s->start, s->stride, s->count, s->block) >= 0;
}

/* The elements that one source fills: of blocks without end, one block. -1: as many as it has. */
static int64_t mapped_elements(const mapping *m) {
  slab s;
  int64_t elements = 1;
  if (!get_slab(m->here, &s)) return H5Sget_select_npoints(m->here);
  for (int j = 0; j < H5Sget_simple_extent_ndims(m->here); j++) {
    if (s.block[j] == H5S_UNLIMITED) return -1;
    if (s.count[j] == H5S_UNLIMITED && !is_numbered(m->file) && !is_numbered(m->dataset)) return -1;
    elements = sntk_size_mul(elements, (int64_t)s.block[j]);
    if (s.count[j] != H5S_UNLIMITED) elements = sntk_size_mul(elements, (int64_t)s.count[j]);
  }
  return elements;
}

/* Has a source of this extent what is mapped of it? *rows: of it, from the first on, that are needed. A selection of
 * all has no extent in the file: the elements are counted. */
static bool has_mapped(const mapping *m, const h5_extent *has, int64_t *rows) {
  hsize_t first[H5S_MAX_RANK], end[H5S_MAX_RANK];
  *rows = INT64_MAX;
  if (H5Sget_select_type(m->there) == H5S_SEL_ALL) {
    int64_t elements = 1;
    for (int j = 0; j < has->dims; j++) elements = sntk_size_mul(elements, (int64_t)has->shape[j]);
    const int64_t wanted = mapped_elements(m);
    return wanted < 0 || elements == wanted;
  }
  if (H5Sget_simple_extent_ndims(m->there) != has->dims || H5Sget_select_bounds(m->there, first, end) < 0) return false;
  for (int j = 0; j < has->dims; j++)
    if (end[j] != H5S_UNLIMITED && end[j] >= has->shape[j]) return false;
  if (end[0] != H5S_UNLIMITED) *rows = (int64_t)end[0] + 1;
  return true;
}

/* Does the source have all that is mapped of it, and is that stored? */
static sntk_status check_source_extent(h5_place *h, const mapping *m, hid_t dataset, const char *shown, int depth) {
  h5_extent has;
  int64_t rows;
  if (!dataset_extent(dataset, &has)) return sntk_h5_failed(h, "the shape of its source cannot be read");
  if (has_mapped(m, &has, &rows)) return sntk_h5_check_storage(h, dataset, rows, depth + 1);
  return sntk_fail(h->ctx, SNTK_ERR_DATA,
                   "%s: its source %s, with %llu rows in %d dimensions, has not what is mapped of it, and HDF5 would "
                   "read the rest as the fill value; make the source whole, or map what it has",
                   h->place, shown, (unsigned long long)has.shape[0], has.dims);
}

/* The source with this number, of a dataset in `file` that lies in `folder`. */
static sntk_status check_source(h5_place *h, const mapping *m, hid_t file, const char *folder, hsize_t number,
                                int depth) {
  char name[NAME_CHARS], inner[NAME_CHARS], found[PATH_MAX] = "", shown[2 * SNTK_EXCERPT_CHARS],
                                            part[SNTK_EXCERPT_CHARS];
  if (!expand(m->file, number, name, sizeof name) || !expand(m->dataset, number, inner, sizeof inner))
    return sntk_fail(h->ctx, SNTK_ERR_DATA, "%s: the name of a source is too long", h->place);
  snprintf(shown, sizeof shown, "%s:", sntk_excerpt(name, (int64_t)strlen(name), part));
  strcat(shown, sntk_excerpt(inner, (int64_t)strlen(inner), part));
  hid_t source = file;
  const bool same = strcmp(name, ".") == 0;
  if (!same) {
    SNTK_TRY(sntk_h5_find_file(h, folder, name, "its source file", found));
    source = H5Fopen(found, H5F_ACC_RDONLY, h->access);
    if (source < 0)
      return sntk_fail(h->ctx, SNTK_ERR_DATA,
                       "%s: its source file %s cannot be opened as HDF5, and its elements would be read as the fill "
                       "value; fetch or write it again",
                       h->place, name);
  }
  const hid_t dataset = sntk_h5_open_dataset(h, source, inner);
  sntk_status status = SNTK_OK;
  if (dataset < 0)
    status = h->refused ? SNTK_ERR_DATA
                        : sntk_fail(h->ctx, SNTK_ERR_DATA,
                                    "%s: its source %s is missing: there is no such dataset, and HDF5 would read its "
                                    "elements as the fill value; put it back, or take a dataset that is whole",
                                    h->place, shown);
  if (status == SNTK_OK) status = check_source_extent(h, m, dataset, shown, depth);
  if (dataset >= 0) H5Dclose(dataset);
  if (!same) H5Fclose(source);
  return status;
}

/* Does the source with this number exist? */
static bool has_source(h5_place *h, const mapping *m, hid_t file, const char *folder, hsize_t number) {
  char name[NAME_CHARS], inner[NAME_CHARS], found[PATH_MAX];
  if (!expand(m->file, number, name, sizeof name) || !expand(m->dataset, number, inner, sizeof inner)) return false;
  const bool same = strcmp(name, ".") == 0;
  if (!same && sntk_h5_find_file(h, folder, name, "", found) != SNTK_OK) return false;
  const hid_t source = same ? file : H5Fopen(found, H5F_ACC_RDONLY, h->access);
  const hid_t dataset = source >= 0 ? H5Dopen2(source, inner, h->links) : H5I_INVALID_HID;
  if (dataset >= 0) H5Dclose(dataset);
  if (source >= 0 && !same) H5Fclose(source);
  return dataset >= 0;
}

/* The blocks of a slab without end that lie inside the extent; -1: it has an end. */
static int64_t blocks_inside(const slab *s, const h5_extent *e) {
  for (int j = 0; j < e->dims; j++)
    if (s->count[j] == H5S_UNLIMITED)
      return e->shape[j] > s->start[j] ? (int64_t)((e->shape[j] - s->start[j] - 1) / s->stride[j]) + 1 : 0;
  return -1;
}

/* Numbered sources: all that the extent counts, and none behind a gap, with which the dataset would end too early. */
static sntk_status check_numbered(h5_place *h, const mapping *m, hid_t file, const char *folder, int64_t blocks,
                                  int depth) {
  for (int64_t b = 0; b < blocks; b++) SNTK_TRY(check_source(h, m, file, folder, (hsize_t)b, depth));
  for (int64_t b = blocks + 1; b <= blocks + NAMES_BEYOND; b++)
    if (has_source(h, m, file, folder, (hsize_t)b)) return check_source(h, m, file, folder, (hsize_t)blocks, depth);
  return blocks > 0 ? SNTK_OK : check_source(h, m, file, folder, 0, depth);
}

/* Adds a selection to what is covered. */
static bool cover_with(hid_t cover, hid_t selection, const h5_extent *e) {
  slab s;
  if (H5Sget_select_type(selection) == H5S_SEL_ALL) return H5Sselect_all(cover) >= 0;
  if (H5Sget_select_type(selection) != H5S_SEL_HYPERSLABS) return true;
  if (get_slab(selection, &s)) {
    for (int j = 0; j < e->dims; j++) {
      const hsize_t left = e->shape[j] > s.start[j] ? e->shape[j] - s.start[j] : 0;
      if (left == 0) return true;
      if (s.count[j] == H5S_UNLIMITED) s.count[j] = (left - 1) / s.stride[j] + 1;
      if (s.block[j] == H5S_UNLIMITED) s.block[j] = left;
    }
    return H5Sselect_hyperslab(cover, H5S_SELECT_OR, s.start, s.stride, s.count, s.block) >= 0;
  }
  const hssize_t blocks = H5Sget_select_hyper_nblocks(selection);
  const size_t size = 2 * (size_t)e->dims;
  hsize_t *list = blocks > 0 ? calloc((size_t)blocks, size * sizeof *list) : NULL;
  bool done = list && H5Sget_select_hyper_blocklist(selection, 0, (hsize_t)blocks, list) >= 0;
  for (hssize_t b = 0; done && b < blocks; b++) {
    const hsize_t *first = list + (size_t)b * size, *last = first + e->dims;
    for (int j = 0; j < e->dims; j++) s.block[j] = last[j] - first[j] + 1, s.count[j] = 1;
    done = H5Sselect_hyperslab(cover, H5S_SELECT_OR, first, NULL, s.count, s.block) >= 0;
  }
  free(list);
  return done;
}

static sntk_status check_mapping(h5_place *h, const mapping *m, hid_t file, const char *folder, const h5_extent *e,
                                 int64_t rows, int depth) {
  slab s;
  hsize_t first[H5S_MAX_RANK], end[H5S_MAX_RANK];
  const bool slab_here = H5Sget_select_type(m->here) == H5S_SEL_HYPERSLABS;
  if (rows > 0 && slab_here && H5Sget_select_bounds(m->here, first, end) >= 0 && first[0] >= (hsize_t)rows)
    return SNTK_OK;
  const bool numbered = is_numbered(m->file) || is_numbered(m->dataset);
  if (!numbered) return check_source(h, m, file, folder, 0, depth);
  int64_t blocks = -1;
  if (get_slab(m->here, &s)) blocks = blocks_inside(&s, e);
  return blocks < 0 ? check_source(h, m, file, folder, 0, depth) : check_numbered(h, m, file, folder, blocks, depth);
}

/* Is every element of the first rows mapped? */
static sntk_status check_cover(h5_place *h, hid_t cover, const h5_extent *e, int64_t rows) {
  hsize_t first[H5S_MAX_RANK] = {0}, count[H5S_MAX_RANK];
  int64_t wanted = 1;
  for (int j = 0; j < e->dims; j++) {
    count[j] = j == 0 && (hsize_t)rows < e->shape[0] ? (hsize_t)rows : e->shape[j];
    wanted = count[j] > INT64_MAX ? -1 : sntk_size_mul(wanted, (int64_t)count[j]);
  }
  if (wanted == 0) return SNTK_OK;
  if (H5Sselect_hyperslab(cover, H5S_SELECT_AND, first, NULL, count, NULL) < 0)
    return sntk_h5_failed(h, "its mappings cannot be examined");
  const int64_t covered = H5Sget_select_npoints(cover);
  if (covered == wanted) return SNTK_OK;
  return sntk_fail(h->ctx, SNTK_ERR_DATA,
                   "%s: %lld of its %lld elements come from no source, and HDF5 would read them as the fill value; map "
                   "all of it, or take fewer samples",
                   h->place, (long long)(wanted - covered), (long long)wanted);
}

static sntk_status check_virtual(h5_place *h, hid_t dataset, hid_t creation, int64_t rows, int depth) {
  h5_extent e;
  size_t mappings = 0;
  char folder[PATH_MAX];
  const hid_t file = H5Iget_file_id(dataset), cover = H5Dget_space(dataset);
  sntk_status status = SNTK_OK;
  if (file < 0 || cover < 0 || !sntk_h5_get_extent(cover, &e) || H5Pget_virtual_count(creation, &mappings) < 0 ||
      H5Sselect_none(cover) < 0 || !find_folder(dataset, folder))
    status = sntk_h5_failed(h, "its mappings cannot be examined");
  for (size_t k = 0; k < mappings && status == SNTK_OK; k++) {
    mapping *m = malloc(sizeof *m);
    if (!m) {
      status = sntk_fail(h->ctx, SNTK_ERR_MEMORY, "%s: no memory to examine its mappings", h->place);
      break;
    }
    if (!get_mapping(creation, k, m))
      status = sntk_h5_failed(h, "its mappings cannot be examined");
    else
      status = check_mapping(h, m, file, folder, &e, rows, depth);
    if (status == SNTK_OK && !cover_with(cover, m->here, &e))
      status = sntk_h5_failed(h, "its mappings cannot be examined");
    close_mapping(m);
    free(m);
  }
  if (status == SNTK_OK) status = check_cover(h, cover, &e, rows);
  if (cover >= 0) H5Sclose(cover);
  if (file >= 0) H5Fclose(file);
  return status;
}

/* ---- all kinds ---- */

static sntk_status check_written(h5_place *h, hid_t dataset) {
  h5_extent e;
  H5D_space_status_t stored;
  if (!dataset_extent(dataset, &e) || H5Dget_space_status(dataset, &stored) < 0)
    return sntk_h5_failed(h, "its storage cannot be examined");
  for (int j = 0; j < e.dims; j++)
    if (e.shape[j] == 0) return SNTK_OK;
  if (stored != H5D_SPACE_STATUS_NOT_ALLOCATED) return SNTK_OK;
  return sntk_fail(h->ctx, SNTK_ERR_DATA, "%s: the dataset was created but nothing was written to it", h->place);
}

static sntk_status check_layout(h5_place *h, hid_t dataset, hid_t creation, int64_t rows, int depth) {
  note_filters(h, creation);
  switch (H5Pget_layout(creation)) {
    case H5D_VIRTUAL:
      return check_virtual(h, dataset, creation, rows, depth);
    case H5D_CHUNKED:
      SNTK_TRY(check_written(h, dataset));
      return check_chunks(h, dataset, creation, rows);
    case H5D_CONTIGUOUS: {
      const int files = H5Pget_external_count(creation);
      return files > 0 ? check_raw(h, dataset, creation, files) : check_written(h, dataset);
    }
    case H5D_COMPACT: /* in the header, always whole */
      return SNTK_OK;
    default:
      return sntk_h5_failed(h, "its storage is of no known kind");
  }
}

sntk_status sntk_h5_check_storage(h5_place *h, hid_t dataset, int64_t rows, int depth) {
  if (depth > MAX_DEPTH)
    return sntk_fail(h->ctx, SNTK_ERR_DATA, "%s: a virtual dataset of virtual datasets, more than %d deep", h->place,
                     MAX_DEPTH);
  const hid_t creation = H5Dget_create_plist(dataset);
  if (creation < 0) return sntk_h5_failed(h, "its storage cannot be examined");
  const sntk_status status = check_layout(h, dataset, creation, rows, depth);
  H5Pclose(creation);
  return status;
}
