/**
 * @file formats.c
 * @brief Files of another format than their reader's, by their first bytes: what they are, and what to do.
 *
 * SPDX-License-Identifier: MIT
 */
#include <string.h>

#include "data/loaders.h"

/* What a file is, and the cure. */
typedef struct format {
  const char *what, *cure;
} format;

#define UNPACK(program) "decompress it with " program
#define FROM_ARRAY "numpy.save('x.npy', a), with a the array in it, and source: npy"
#define FROM_FRAME "df.to_csv('x.csv', index=False), with df the frame in it, and source: csv"
#define FROM_MATLAB "in Python, numpy.save('x.npy', scipy.io.loadmat('x.mat')['name']), and source: npy"
#define RECODE(from) "convert it: iconv -f " from " -t UTF-8 <old >new"
#define EXPORT "save the sheet as CSV, and give source: csv"

/* Bytes at a place that only such files have there. */
typedef struct signature {
  int at, size;
  const char *bytes;
  format format;
} signature;

#define SIGNATURE(at, bytes, what, cure)                                                                               \
  {                                                                                                                    \
    at, sizeof(bytes) - 1, bytes, { what, cure }                                                                       \
  }

/* In order: longer ones stand before those that they begin with. */
static const signature signatures[] = {
    SIGNATURE(0, "\x89HDF\r\n\x1a\n", "an HDF5 file", "give source: hdf5 and inputs: file.h5:/dataset"),
    SIGNATURE(512, "\x89HDF\r\n\x1a\n", "an HDF5 file (or a MATLAB 7.3 one, which is one too)",
              "give source: hdf5 and inputs: file.h5:/dataset"),
    SIGNATURE(0, "\x93NUMPY", "an NPY file", "give source: npy"),
    SIGNATURE(0, "\x1f\x8b", "compressed by gzip", UNPACK("gunzip")),
    SIGNATURE(0, "BZh", "compressed by bzip2", UNPACK("bunzip2")),
    SIGNATURE(0,
              "\xfd"
              "7zXZ\0",
              "compressed by xz", UNPACK("unxz")),
    SIGNATURE(0, "\x5d\0\0", "compressed by lzma", UNPACK("unlzma")),
    SIGNATURE(0, "\x28\xb5\x2f\xfd", "compressed by zstd", UNPACK("unzstd")),
    SIGNATURE(0, "\x04\x22\x4d\x18", "compressed by lz4", UNPACK("unlz4")),
    SIGNATURE(0, "\x1f\x9d", "compressed by compress", UNPACK("gunzip")),
    SIGNATURE(0, "LZIP", "compressed by lzip", UNPACK("lzip -d")),
    SIGNATURE(0, "7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it with 7z x and give a file in it"),
    SIGNATURE(0, "Rar!\x1a\x07", "a RAR archive", "unpack it and give a file in it"),
    SIGNATURE(257, "ustar", "a tar archive", "unpack it with tar -xf and give a file in it"),
    SIGNATURE(0, "PAR1", "a Parquet file", "in Python, df = pandas.read_parquet('x.parquet'), then " FROM_FRAME),
    SIGNATURE(0, "ARROW1", "an Arrow (Feather) file",
              "in Python, df = pandas.read_feather('x.feather'), then " FROM_FRAME),
    SIGNATURE(0, "FEA1", "a Feather file", "in Python, df = pandas.read_feather('x.feather'), then " FROM_FRAME),
    SIGNATURE(0, "MATLAB 5.0 MAT-file", "a MATLAB 5 file", FROM_MATLAB),
    SIGNATURE(0, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office file, such as an Excel .xls", EXPORT),
    SIGNATURE(0, "CDF\x01", "a NetCDF 3 file", "in Python, " FROM_ARRAY),
    SIGNATURE(0, "CDF\x02", "a NetCDF 3 file", "in Python, " FROM_ARRAY),
    SIGNATURE(0, "CDF\x05", "a NetCDF 3 file", "in Python, " FROM_ARRAY),
    SIGNATURE(0, "\x0e\x03\x13\x01", "an HDF4 file", "convert it with h4toh5, and give source: hdf5"),
    SIGNATURE(0, "SQLite format 3", "an SQLite database", "export the table as CSV, and give source: csv"),
    SIGNATURE(0, "RDX3\n", "an R data file", "in R, write.csv(x, 'x.csv', row.names=FALSE), and source: csv"),
    SIGNATURE(0, "RDX2\n", "an R data file", "in R, write.csv(x, 'x.csv', row.names=FALSE), and source: csv"),
    SIGNATURE(0, "X\n\0\0\0", "an R data file", "in R, write.csv(x, 'x.csv', row.names=FALSE), and source: csv"),
    SIGNATURE(0, "%PDF-", "a PDF document", "export its table as CSV, and give source: csv"),
    SIGNATURE(0, "\x89PNG\r\n\x1a\n", "a PNG image", "in Python, " FROM_ARRAY),
    SIGNATURE(0, "\xff\xd8\xff", "a JPEG image", "in Python, " FROM_ARRAY),
    SIGNATURE(0, "\xff\xfe\0\0", "text in UTF-32", RECODE("UTF-32")),
    SIGNATURE(0, "\0\0\xfe\xff", "text in UTF-32", RECODE("UTF-32")),
    SIGNATURE(0, "\xff\xfe", "text in UTF-16", RECODE("UTF-16")),
    SIGNATURE(0, "\xfe\xff", "text in UTF-16", RECODE("UTF-16")),
};

/* Do the bytes occur? */
static bool has(const unsigned char *head, int64_t size, const char *bytes) {
  const int64_t length = (int64_t)strlen(bytes);
  for (int64_t at = 0; at + length <= size; at++)
    if (memcmp(head + at, bytes, (size_t)length) == 0) return true;
  return false;
}

/* What is in a zip archive, the names and first bytes of its first members say. */
static bool find_zip(const unsigned char *head, int64_t size, format *found) {
  if (size < 4 || memcmp(head, "PK", 2) != 0 || (head[2] != 3 && head[2] != 5 && head[2] != 7) ||
      head[3] != head[2] + 1)
    return false;
  static const struct {
    const char *mark;
    format format;
  } kinds[] = {
      {".npy", {"an NPZ archive", "in Python, numpy.save('x.npy', numpy.load('x.npz')['name']), and source: npy"}},
      {"[Content_Types].xml", {"an Office file, such as an Excel .xlsx", EXPORT}},
      {"xl/", {"an Excel .xlsx file", EXPORT}},
      {"opendocument", {"an OpenDocument file", EXPORT}},
      {"data.pkl", {"a PyTorch file", "in Python, a = torch.load('x.pt').numpy(), then " FROM_ARRAY}},
      {"", {"a zip archive", "unpack it with unzip and give a file in it"}},
  };
  int k = 0;
  while (!has(head, size, kinds[k].mark)) k++;
  *found = kinds[k].format;
  return true;
}

/* Protocol 2 and later: the byte 80, the protocol, and an opcode that such a stream goes on with. */
static bool is_pickle(const unsigned char *head, int64_t size) {
  return size >= 3 && head[0] == 0x80 && head[1] >= 2 && head[1] <= 5 && head[2] &&
         strchr("\x95}](c)KJMGXUBqN\x8c\x8a", head[2]);
}

static bool is_plain(unsigned char c) { return (c >= ' ' && c < 127) || c == '\t' || c == '\n' || c == '\r'; }

/* Text in units of `width` bytes without a mark: in each of the first ones, byte `at` is plain and the others zero. */
static bool is_wide(const unsigned char *head, int64_t size, int width, int at) {
  const int64_t units = size / width < 4 ? size / width : 4;
  for (int64_t u = 0; u < units; u++)
    for (int b = 0; b < width; b++)
      if (b == at ? !is_plain(head[u * width + b]) : head[u * width + b] != 0) return false;
  return units >= 2;
}

static bool is_text(const unsigned char *head, int64_t size) {
  for (int64_t j = 0; j < size; j++)
    if (!is_plain(head[j]) && head[j] < 128) return false;
  return size > 0;
}

/* Text of a kind that is no table, by what it begins with behind spaces, in either case of letters. */
static bool find_markup(const unsigned char *head, int64_t size, format *found) {
  static const struct {
    const char *mark;
    format format;
  } kinds[] = {
      {"<!doctype html", {"a web page", "fetch the data file itself, not the page that offers it"}},
      {"<html", {"a web page", "fetch the data file itself, not the page that offers it"}},
      {"<?xml", {"an XML file", "export the table as CSV, and give source: csv"}},
      {"{\"", {"a JSON file", "write its numbers as CSV, and give source: csv"}},
      {"[[", {"a JSON file", "write its numbers as CSV, and give source: csv"}},
      {"@relation", {"an ARFF file", "remove all lines up to @data, and give source: csv"}},
      {"version https://git-lfs", {"a Git LFS pointer, not the file itself", "fetch that: git lfs pull"}},
      {"simple  =", {"a FITS file", "in Python, " FROM_ARRAY}},
      {"cnumpy", {"a Python pickle", "in Python, " FROM_ARRAY}},
      {"ccopy_reg", {"a Python pickle", "in Python, " FROM_ARRAY}},
  };
  while (size > 0 && is_plain(*head) && *head <= ' ') head++, size--;
  for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
    const char *mark = kinds[k].mark;
    int64_t j = 0;
    while (j < size && mark[j] && (head[j] | (head[j] >= 'A' && head[j] <= 'Z' ? 32 : 0)) == mark[j]) j++;
    if (mark[j]) continue;
    *found = kinds[k].format;
    return true;
  }
  return false;
}

static bool find_signature(const unsigned char *head, int64_t size, format *found) {
  for (size_t k = 0; k < sizeof signatures / sizeof *signatures; k++) {
    const signature *s = &signatures[k];
    if (size < s->at + s->size || memcmp(head + s->at, s->bytes, (size_t)s->size) != 0) continue;
    *found = s->format;
    return true;
  }
  return false;
}

static bool is_idx(const unsigned char *head, int64_t size) {
  return size >= 4 && head[0] == 0 && head[1] == 0 && head[2] >= 8 && head[2] <= 14 && head[3] >= 1 && head[3] <= 8;
}

static bool find_format(const unsigned char *head, int64_t size, bool text, format *found) {
  if (find_markup(head, size, found)) return true;
  if (is_text(head, size)) { /* a column may be called PAR1 */
    *found = (format){"text", "source: csv reads numbers in text"};
    return text;
  }
  if (find_signature(head, size, found) || find_zip(head, size, found)) return true;
  const bool first = size > 0 && head[0] != 0; /* text in wide units: the low byte stands first */
  if (is_pickle(head, size))
    *found = (format){"a Python pickle", "in Python, " FROM_ARRAY};
  else if (is_idx(head, size))
    *found = (format){"an IDX file", "give source: idx"};
  else if (is_wide(head, size, 4, 0) || is_wide(head, size, 4, 3))
    *found = (format){"text in UTF-32", first ? RECODE("UTF-32LE") : RECODE("UTF-32BE")};
  else if (is_wide(head, size, 2, 0) || is_wide(head, size, 2, 1))
    *found = (format){"text in UTF-16", first ? RECODE("UTF-16LE") : RECODE("UTF-16BE")};
  else
    return false;
  return true;
}

sntk_status sntk_fail_format(sntk_context *ctx, const char *path, const char *wanted, const char *unknown,
                             const void *head, int64_t size) {
  format found;
  if (find_format(head, size < SNTK_HEAD_BYTES ? size : SNTK_HEAD_BYTES, unknown != NULL, &found))
    return sntk_fail(ctx, SNTK_ERR_DATA, "%s: not %s: it is %s; %s", path, wanted, found.what, found.cure);
  return unknown ? sntk_fail(ctx, SNTK_ERR_DATA, "%s: not %s: %s", path, wanted, unknown) : SNTK_OK;
}
