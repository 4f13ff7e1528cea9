/**
 * @file hdf5_read.c
 * @brief Reading an HDF5 dataset, in the child: finding it, its shape, its elements.
 *
 * File locking is off, as shared file systems often lack it. The HDF5 library's own printing of errors is off; its text
 * goes into ours. Nothing is closed: the process ends.
 *
 * The parent's descriptors stay open: where the host program has the same file open, HDF5 reads through the one that it
 * has. A run's lock among them still ends with the parent, as the child does.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/child.h"
#include "data/hdf5_internal.h"

enum {
  TILE_ELEMENTS = 1 << 19, /* at a time, where no chunk has more */
  CHUNK_CACHE = 1 << 26,   /* bytes: a chunk that is read in parts stays decompressed */
  PROBE_BYTES = 1 << 16
};

/* ---- failures ---- */

typedef struct reason {
  char text[H5_TEXT_CHARS];
  bool memory;
} reason;

static herr_t find_reason(unsigned depth, const H5E_error2_t *error, void *user) {
  reason *r = user;
  if (depth == 0 && error->desc) snprintf(r->text, sizeof r->text, "%s", error->desc);
  r->memory |= error->min_num == H5E_NOSPACE;
  return 0;
}

/* Where memory is short the library does not always say so: a probe does. */
static reason get_reason(void) {
  reason r = {"no reason given", false};
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, find_reason, &r);
  for (char *c = r.text; *c; c++)
    if (*c == '\n') *c = ' ';
  void *volatile probe = malloc(PROBE_BYTES); /* volatile: the compiler must not leave it out */
  r.memory |= !probe;
  free(probe);
  return r;
}

sntk_status sntk_h5_failed(const h5_place *h, const char *what) {
  if (h->refused) return SNTK_ERR_DATA;
  const reason r = get_reason();
  if (r.memory)
    return sntk_fail(h->ctx, SNTK_ERR_MEMORY,
                     "%s: %s: no memory (%s); raise --memory-limit, or the file is damaged and asks for too much",
                     h->place, what, r.text);
  return sntk_fail(h->ctx, SNTK_ERR_DATA, "%s: %s: %s", h->place, what, r.text);
}

static sntk_status reading_failed(const h5_place *h) {
  if (!*h->missing_filter) return sntk_h5_failed(h, "reading failed");
  return sntk_fail(h->ctx, SNTK_ERR_DATA,
                   "%s: compressed by the filter %s, which the HDF5 library here does not have; store the dataset with "
                   "gzip, in Python g.create_dataset('x', data=f['x'][()], compression='gzip'), or install the filter "
                   "and name its folder in HDF5_PLUGIN_PATH",
                   h->place, h->missing_filter);
}

bool sntk_h5_next_index(int dims, const hsize_t *count, hsize_t *index) {
  int j = dims - 1;
  while (j >= 0 && ++index[j] == count[j]) index[j--] = 0;
  return j >= 0;
}

bool sntk_h5_get_extent(hid_t space, h5_extent *e) {
  e->dims = H5Sget_simple_extent_ndims(space);
  return e->dims > 0 && H5Sget_simple_extent_dims(space, e->shape, NULL) == e->dims;
}

/* ---- what a group holds ---- */

typedef struct listing {
  const h5_place *h;
  const char *group; /* its path; "" for the root */
  char text[H5_TEXT_CHARS];
} listing;

static void append(listing *list, const char *text) {
  const size_t used = strlen(list->text);
  snprintf(list->text + used, sizeof list->text - used, "%s", text);
}

/* " (3 x 4)" for a dataset, "/" for a group. */
static void append_kind(listing *list, hid_t object) {
  h5_extent e;
  char part[32];
  if (H5Iget_type(object) == H5I_GROUP) append(list, "/");
  if (H5Iget_type(object) != H5I_DATASET) return;
  const hid_t space = H5Dget_space(object);
  if (space >= 0 && sntk_h5_get_extent(space, &e)) {
    for (int j = 0; j < e.dims; j++) {
      snprintf(part, sizeof part, "%s%llu", j ? " x " : " (", (unsigned long long)e.shape[j]);
      append(list, part);
    }
    append(list, ")");
  }
  if (space >= 0) H5Sclose(space);
}

static herr_t list_entry(hid_t group, const char *name, const H5L_info_t *info, void *user) {
  listing *list = user;
  if (strlen(list->text) > sizeof list->text / 2) {
    append(list, ", ...");
    return 1;
  }
  char shown[SNTK_EXCERPT_CHARS];
  append(list, *list->text ? ", " : "");
  append(list, list->group);
  append(list, "/");
  append(list, sntk_excerpt(name, (int64_t)strlen(name), shown));
  const hid_t object = info->type == H5L_TYPE_HARD ? H5Oopen(group, name, H5P_DEFAULT) : H5I_INVALID_HID;
  if (object < 0) return 0;
  append_kind(list, object);
  H5Oclose(object);
  return 0;
}

/* Fills the list of what the group of this path holds; false where there is none. */
static bool list_group(listing *list) {
  const hid_t group = H5Gopen2(list->h->file, *list->group ? list->group : "/", list->h->links);
  if (group < 0) return false;
  H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, NULL, list_entry, list);
  if (!*list->text) append(list, "nothing");
  H5Gclose(group);
  return true;
}

/* Nothing of this name: what the innermost group on its path holds instead. */
static sntk_status no_object(h5_place *h, const char *name) {
  char *path = strdup(name);
  if (!path) return sntk_fail(h->ctx, SNTK_ERR_MEMORY, "%s: no memory", h->place);
  listing list = {.h = h, .group = path};
  for (char *slash = strrchr(path, '/'); slash; slash = strrchr(path, '/')) {
    *slash = '\0';
    if (list_group(&list)) break;
  }
  if (h->refused) return SNTK_ERR_DATA;
  return sntk_fail(h->ctx, SNTK_ERR_DATA, "%s: no dataset %s can be opened; %s%s has: %s", h->place, name,
                   *path ? "the group " : "the file's root", path, *list.text ? list.text : "nothing");
}

static sntk_status is_group(h5_place *h, const char *name) {
  listing list = {.h = h, .group = strcmp(name, "/") == 0 ? "" : name};
  list_group(&list);
  return sntk_fail(h->ctx, SNTK_ERR_DATA,
                   "%s: %s is a group, not a dataset; it holds: %s; give a dataset, as file.h5:/group/dataset",
                   h->place, name, list.text);
}

/* ---- finding the dataset ---- */

/* Before the library follows an external link: `parent` is the file that has it. */
static herr_t allow_link(const char *parent, const char *group, const char *name, const char *object, unsigned *flags,
                         hid_t access, void *user) {
  (void)group;
  (void)object;
  (void)flags;
  (void)access;
  h5_place *h = user;
  char folder[PATH_MAX], found[PATH_MAX];
  char *const slash = realpath(parent, folder) ? strrchr(folder, '/') : NULL;
  if (!slash) return -1;
  slash[1] = '\0';
  h->refused = sntk_h5_find_file(h, folder, name, "an external link's file", found) != SNTK_OK;
  return h->refused ? -1 : 0;
}

static sntk_status set_up(h5_place *h) {
  const char *const slash = strrchr(h->request->path, '/');
  snprintf(h->folder, sizeof h->folder, "%.*s", (int)(slash - h->request->path + 1), h->request->path);
  /* Names of other files mean what lies beside this one, whatever the environment and the working folder. */
  unsetenv("HDF5_EXT_PREFIX");
  unsetenv("HDF5_VDS_PREFIX");
  unsetenv("HDF5_EXTFILE_PREFIX");
  H5dont_atexit();
  if (H5Eset_auto2(H5E_DEFAULT, NULL, NULL) < 0 || chdir(h->folder) != 0 ||
      (h->access = H5Pcreate(H5P_FILE_ACCESS)) < 0 || H5Pset_fapl_sec2(h->access) < 0 ||
#if H5_VERSION_GE(1, 12, 1) || (H5_VERSION_GE(1, 10, 7) && !H5_VERSION_GE(1, 12, 0))
      H5Pset_file_locking(h->access, false, true) < 0 ||
#else
      setenv("HDF5_USE_FILE_LOCKING", "FALSE", 1) != 0 ||
#endif
      (h->links = H5Pcreate(H5P_DATASET_ACCESS)) < 0 || H5Pset_elink_cb(h->links, allow_link, h) < 0 ||
      H5Pset_elink_fapl(h->links, h->access) < 0 ||
      H5Pset_chunk_cache(h->links, H5D_CHUNK_CACHE_NSLOTS_DEFAULT, CHUNK_CACHE, H5D_CHUNK_CACHE_W0_DEFAULT) < 0)
    return sntk_fail(h->ctx, SNTK_ERR_MEMORY,
                     "%s: the HDF5 library cannot be opened, as happens where memory is short; free memory", h->place);
  const h5_message m = {.word = H5_READY};
  return sntk_link_write(h->link, &m, sizeof m) ? SNTK_OK : SNTK_ERR_IO;
}

/* The extent of a dataset under a view of its sources. */
static bool extent_of(h5_place *h, hid_t location, const char *name, H5D_vds_view_t view, h5_extent *e) {
  const hid_t access = H5Pcopy(h->links);
  const bool set = access >= 0 && H5Pset_virtual_view(access, view) >= 0;
  const hid_t dataset = set ? H5Dopen2(location, name, access) : H5I_INVALID_HID;
  const hid_t space = dataset >= 0 ? H5Dget_space(dataset) : H5I_INVALID_HID;
  const bool got = space >= 0 && sntk_h5_get_extent(space, e);
  if (space >= 0) H5Sclose(space);
  if (dataset >= 0) H5Dclose(dataset);
  if (access >= 0) H5Pclose(access);
  return got;
}

static bool is_virtual(hid_t dataset) {
  const hid_t creation = H5Dget_create_plist(dataset);
  const bool result = creation >= 0 && H5Pget_layout(creation) == H5D_VIRTUAL;
  if (creation >= 0) H5Pclose(creation);
  return result;
}

hid_t sntk_h5_open_dataset(h5_place *h, hid_t location, const char *name) {
  const hid_t dataset = H5Dopen2(location, name, h->links);
  if (dataset < 0 || !is_virtual(dataset)) return dataset;
  /* The view holds from the first opening on, so the dataset must be closed to be seen under another. */
  H5Dclose(dataset);
  h5_extent last, whole;
  if (extent_of(h, location, name, H5D_VDS_LAST_AVAILABLE, &last) &&
      extent_of(h, location, name, H5D_VDS_FIRST_MISSING, &whole) &&
      (last.dims != whole.dims || memcmp(last.shape, whole.shape, (size_t)last.dims * sizeof *last.shape) != 0)) {
    h->refused = true;
    sntk_fail(
        h->ctx, SNTK_ERR_DATA,
        "%s: the sources of %s end at different rows, the first at %llu and the last at %llu, and HDF5 would read "
        "what is missing as the fill value; make them equally long",
        h->place, name, (unsigned long long)whole.shape[0], (unsigned long long)last.shape[0]);
    return H5I_INVALID_HID;
  }
  return H5Dopen2(location, name, h->links);
}

static sntk_status open_dataset(h5_place *h) {
  const char *const name = h->request->name;
  h->file = H5Fopen(h->request->path, H5F_ACC_RDONLY, h->access);
  if (h->file < 0) return sntk_h5_failed(h, "the file cannot be opened");
  const hid_t object = H5Oopen(h->file, name, h->links);
  if (object < 0)
    return h->refused || get_reason().memory ? sntk_h5_failed(h, "it cannot be opened") : no_object(h, name);
  const H5I_type_t type = H5Iget_type(object);
  H5Oclose(object);
  if (type == H5I_GROUP) return is_group(h, name);
  if (type != H5I_DATASET)
    return sntk_fail(h->ctx, SNTK_ERR_DATA, "%s: %s is a type, not a dataset; give a dataset", h->place, name);
  h->dataset = sntk_h5_open_dataset(h, h->file, name);
  return h->dataset < 0 ? sntk_h5_failed(h, "the dataset cannot be opened") : SNTK_OK;
}

/* ---- type and shape ---- */

static sntk_status find_kind(const h5_place *h, h5_kind *kind) {
  const H5T_class_t class = H5Tget_class(h->type);
  const size_t size = H5Tget_size(h->type);
  static const char *const names[] = {[H5T_TIME] = "times",
                                      [H5T_STRING] = "strings",
                                      [H5T_BITFIELD] = "bit fields",
                                      [H5T_OPAQUE] = "opaque bytes",
                                      [H5T_COMPOUND] = "records (or complex numbers)",
                                      [H5T_REFERENCE] = "references",
                                      [H5T_VLEN] = "lists of differing lengths",
                                      [H5T_ARRAY] = "arrays"};
  if (class == H5T_FLOAT && size <= sizeof(double)) {
    *kind = H5_REAL;
    return SNTK_OK;
  }
  bool is_signed = true;
  if (class == H5T_INTEGER) is_signed = H5Tget_sign(h->type) != H5T_SGN_NONE;
  /* Booleans come as an enumeration of integers. */
  if ((class == H5T_INTEGER || class == H5T_ENUM) && size <= sizeof(int64_t)) {
    *kind = is_signed ? H5_SIGNED : H5_UNSIGNED;
    return SNTK_OK;
  }
  const char *name = class >= 0 && (size_t) class < sizeof names / sizeof *names ? names[class] : NULL;
  return sntk_fail(
      h->ctx, SNTK_ERR_DATA,
      "%s: its elements are %s: neither floats of up to 8 bytes nor integers; store the dataset as float64", h->place,
      name ? name : "of more bytes");
}

/* ---- what attributes say of the values ---- */

/* One number. */
static bool read_attribute(const h5_place *h, const char *name, double *value) {
  if (H5Aexists(h->dataset, name) <= 0) return false;
  const hid_t attribute = H5Aopen(h->dataset, name, H5P_DEFAULT);
  const hid_t type = attribute >= 0 ? H5Aget_type(attribute) : H5I_INVALID_HID;
  const hid_t space = attribute >= 0 ? H5Aget_space(attribute) : H5I_INVALID_HID;
  const H5T_class_t class = type >= 0 ? H5Tget_class(type) : H5T_NO_CLASS;
  const bool one = space >= 0 && H5Sget_simple_extent_npoints(space) == 1;
  const bool read =
      one && (class == H5T_INTEGER || class == H5T_FLOAT) && H5Aread(attribute, H5T_NATIVE_DOUBLE, value) >= 0;
  if (space >= 0) H5Sclose(space);
  if (type >= 0) H5Tclose(type);
  if (attribute >= 0) H5Aclose(attribute);
  return read;
}

/* Stored otherwise than they are meant: by NetCDF's conventions or MATLAB's. */
static sntk_status check_meaning(const h5_place *h, double missing[H5_MISSING]) {
  static const char *const names[H5_MISSING] = {"_FillValue", "missing_value"};
  double value;
  for (int k = 0; k < H5_MISSING; k++)
    if (!read_attribute(h, names[k], &missing[k])) missing[k] = NAN;
  if ((read_attribute(h, "scale_factor", &value) && value != 1.0) ||
      (read_attribute(h, "add_offset", &value) && value != 0.0))
    return sntk_fail(h->ctx, SNTK_ERR_DATA,
                     "%s: its values are packed (its attributes have a scale_factor or add_offset); store the unpacked "
                     "ones as float64",
                     h->place);
  if (read_attribute(h, "MATLAB_empty", &value) && value != 0.0)
    return sntk_fail(h->ctx, SNTK_ERR_DATA, "%s: an empty array of MATLAB; one or two dimensions are needed", h->place);
  return SNTK_OK;
}

/* Sends the shape of what will be read, *e from here on. */
static sntk_status send_shape(h5_place *h, h5_extent *e) {
  h->type = H5Dget_type(h->dataset);
  h->space = H5Dget_space(h->dataset);
  if (h->type < 0 || h->space < 0) return sntk_h5_failed(h, "its type or shape cannot be read");
  h5_message m = {.word = H5_SHAPE};
  SNTK_TRY(find_kind(h, &m.kind));
  SNTK_TRY(check_meaning(h, m.missing));
  if (H5Sget_simple_extent_ndims(h->space) == 0)
    return sntk_fail(h->ctx, SNTK_ERR_DATA, "%s: a scalar or empty dataset; one or two dimensions are needed",
                     h->place);
  if (!sntk_h5_get_extent(h->space, e)) return sntk_h5_failed(h, "its shape cannot be read");
  m.dims = e->dims;
  for (int j = 0; j < e->dims; j++) {
    if (e->shape[j] > INT64_MAX)
      return sntk_fail(h->ctx, SNTK_ERR_DATA, "%s: the dataset's shape does not fit 63 bits: the file is damaged",
                       h->place);
    m.count[j] = (int64_t)e->shape[j];
  }
  const int64_t limit = h->request->limit;
  if (limit > 0 && (hsize_t)limit < e->shape[0]) e->shape[0] = (hsize_t)limit;
  SNTK_TRY(sntk_h5_check_storage(h, h->dataset, (int64_t)e->shape[0], 0));
  return sntk_link_write(h->link, &m, sizeof m) ? SNTK_OK : SNTK_ERR_IO;
}

/* ---- elements ---- */

/* How the elements are cut: into outer boxes of whole chunks, and these into tiles. */
typedef struct tiling {
  hsize_t outer[H5S_MAX_RANK], tile[H5S_MAX_RANK];
} tiling;

static hsize_t product(const hsize_t *extents, int from, int to) {
  hsize_t result = 1;
  for (int j = from; j < to; j++) {
    if (extents[j] > 0 && result > (hsize_t)INT64_MAX / extents[j]) return (hsize_t)INT64_MAX;
    result *= extents[j];
  }
  return result;
}

/* Whole chunks together while they fit a tile; a chunk that does not is cut, unless the library would then decompress
 * it anew for every part. */
static tiling make_tiling(const h5_extent *e, const hsize_t *chunk) {
  tiling t = {{0}, {0}};
  const int dims = e->dims;
  for (int j = 0; j < dims; j++) t.outer[j] = chunk[j] < e->shape[j] ? chunk[j] : e->shape[j];
  const hsize_t whole = product(t.outer, 0, dims);
  const bool cached = whole <= CHUNK_CACHE / sizeof(double);
  bool full = true;
  for (int j = dims - 1; j >= 0 && full; j--) {
    const hsize_t more = TILE_ELEMENTS / product(t.outer, 0, dims), left = (e->shape[j] - 1) / t.outer[j] + 1;
    if (more > 1) t.outer[j] *= more < left ? more : left;
    if (t.outer[j] > e->shape[j]) t.outer[j] = e->shape[j];
    full = t.outer[j] == e->shape[j];
  }
  memcpy(t.tile, t.outer, sizeof t.tile);
  const bool chunked = memcmp(chunk, e->shape, (size_t)dims * sizeof *chunk) != 0;
  if (chunked && !cached) return t;
  for (int j = 0; j < dims; j++) {
    const hsize_t behind = product(t.tile, j + 1, dims), most = TILE_ELEMENTS / behind;
    if (t.tile[j] > most) t.tile[j] = most > 0 ? most : 1;
  }
  return t;
}

static sntk_status send_tile(h5_place *h, hid_t as, const hsize_t *first, const hsize_t *count, int dims,
                             void *buffer) {
  h5_message m = {.word = H5_BLOCK, .dims = dims};
  const hsize_t elements = product(count, 0, dims);
  for (int j = 0; j < dims; j++) m.first[j] = (int64_t)first[j], m.count[j] = (int64_t)count[j];
  const hid_t memory = H5Screate_simple(1, &elements, NULL);
  if (memory < 0 || H5Sselect_hyperslab(h->space, H5S_SELECT_SET, first, NULL, count, NULL) < 0)
    return sntk_h5_failed(h, "its rows cannot be selected");
  if (H5Dread(h->dataset, as, memory, h->space, H5P_DEFAULT, buffer) < 0) return reading_failed(h);
  H5Sclose(memory);
  const bool sent =
      sntk_link_write(h->link, &m, sizeof m) && sntk_link_write(h->link, buffer, (int64_t)(elements * sizeof(double)));
  return sent ? SNTK_OK : SNTK_ERR_IO;
}

/* All tiles of the box at `first`. */
static sntk_status send_box(h5_place *h, hid_t as, const tiling *t, const h5_extent *box, const hsize_t *first,
                            void *buffer) {
  hsize_t index[H5S_MAX_RANK] = {0}, tiles[H5S_MAX_RANK], at[H5S_MAX_RANK], count[H5S_MAX_RANK];
  for (int j = 0; j < box->dims; j++) tiles[j] = (box->shape[j] - 1) / t->tile[j] + 1;
  do {
    for (int j = 0; j < box->dims; j++) {
      const hsize_t begin = index[j] * t->tile[j], left = box->shape[j] - begin;
      at[j] = first[j] + begin;
      count[j] = t->tile[j] < left ? t->tile[j] : left;
    }
    SNTK_TRY(send_tile(h, as, at, count, box->dims, buffer));
  } while (sntk_h5_next_index(box->dims, tiles, index));
  return SNTK_OK;
}

static sntk_status send_elements(h5_place *h, const h5_extent *e) {
  hsize_t chunk[H5S_MAX_RANK], index[H5S_MAX_RANK] = {0}, boxes[H5S_MAX_RANK], first[H5S_MAX_RANK];
  const hid_t creation = H5Dget_create_plist(h->dataset);
  if (product(e->shape, 0, e->dims) == 0) return SNTK_OK;
  if (H5Pget_layout(creation) != H5D_CHUNKED || H5Pget_chunk(creation, H5S_MAX_RANK, chunk) != e->dims)
    memcpy(chunk, e->shape, sizeof chunk);
  const tiling t = make_tiling(e, chunk);
  const H5T_class_t class = H5Tget_class(h->type);
  const bool is_unsigned = class == H5T_INTEGER && H5Tget_sign(h->type) == H5T_SGN_NONE;
  const hid_t as = class == H5T_FLOAT ? H5T_NATIVE_DOUBLE : is_unsigned ? H5T_NATIVE_UINT64 : H5T_NATIVE_INT64;
  void *buffer = malloc(product(t.tile, 0, e->dims) * sizeof(double));
  if (!buffer)
    return sntk_fail(h->ctx, SNTK_ERR_MEMORY, "%s: no memory for a part of it; store it in smaller chunks", h->place);
  for (int j = 0; j < e->dims; j++) boxes[j] = (e->shape[j] - 1) / t.outer[j] + 1;
  do {
    h5_extent box = {.dims = e->dims};
    for (int j = 0; j < e->dims; j++) {
      first[j] = index[j] * t.outer[j];
      box.shape[j] = t.outer[j] < e->shape[j] - first[j] ? t.outer[j] : e->shape[j] - first[j];
    }
    SNTK_TRY(send_box(h, as, &t, &box, first, buffer));
  } while (sntk_h5_next_index(e->dims, boxes, index));
  return SNTK_OK;
}

static sntk_status send_dataset(h5_place *h) {
  h5_extent e;
  SNTK_TRY(set_up(h));
  SNTK_TRY(open_dataset(h));
  SNTK_TRY(send_shape(h, &e));
  return send_elements(h, &e);
}

void sntk_h5_child(int link, void *request) {
  const h5_request *r = request;
  h5_place h = {.request = r,
                .ctx = r->ctx,
                .place = r->place,
                .link = link,
                .access = H5I_INVALID_HID,
                .links = H5I_INVALID_HID,
                .file = H5I_INVALID_HID,
                .dataset = H5I_INVALID_HID,
                .type = H5I_INVALID_HID,
                .space = H5I_INVALID_HID};
  const sntk_status status = send_dataset(&h);
  h5_message m = {.word = status == SNTK_OK ? H5_END : H5_FAILED, .status = status};
  if (status != SNTK_OK) snprintf(m.text, sizeof m.text, "%s", sntk_context_error(r->ctx));
  sntk_link_write(link, &m, sizeof m);
}
