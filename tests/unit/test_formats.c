/**
 * @file test_formats.c
 * @brief Data that must not go in wrong in silence: headers, missing values, gzip members, spellings, other formats.
 *
 * SPDX-License-Identifier: MIT
 */
#include "files.h"

#include <zlib.h>

#include "softntk/data.h"

typedef enum source { CSV, NPY, IDX } source;

static sntk_status load(source from, const char *path, int header, sntk_array *array, int64_t *total) {
  return from == CSV   ? sntk_csv_load(files_ctx, path, header, 0, array, total)
         : from == NPY ? sntk_npy_load(files_ctx, path, 0, array, total)
                       : sntk_idx_load(files_ctx, path, 0, array, total);
}

static void refuse(source from, const void *bytes, size_t size, int header, const char *parts) {
  sntk_array array;
  int64_t total;
  const sntk_status status = load(from, write_file("refused", bytes, size), header, &array, &total);
  if (status == SNTK_OK) sntk_array_free(&array);
  check_failure(status, SNTK_ERR_DATA, parts, parts);
  assert_null(array.values);
}

/* rows x cols, and the first value; what: for messages. */
static void take(source from, const void *bytes, size_t size, int header, int64_t rows, int64_t cols, double first,
                 const char *what) {
  sntk_array array;
  int64_t total;
  check_ok(load(from, write_file("taken", bytes, size), header, &array, &total), what);
  if (array.rows != rows || array.cols != cols || total != rows || array.values[0] != first)
    fail_msg("%s: %lld x %lld, first %g; wanted %lld x %lld, %g", what, (long long)array.rows, (long long)array.cols,
             array.values[0], (long long)rows, (long long)cols, first);
  sntk_array_free(&array);
}

/* ---- CSV ---- */

/* A first line that could be a header or a sample: the reader asks, and does as it is told. */
static void test_unclear_headers(void **state) {
  (void)state;
  static const char *const lines[] = {"0,1",
                                      "0,1,2",
                                      "0\t1\t2",
                                      "\"0\",\"1\"",
                                      "0;1",
                                      "0 1 2",
                                      "0",
                                      "0.0,1.0,2.0", /* numbers of columns */
                                      "NA,NA",
                                      "na,NA",
                                      "N/A,n/a",
                                      "#N/A,#N/A",
                                      "nan,x",
                                      "null,NULL",
                                      "None,none",
                                      "nil,a",
                                      "NaT,NaT",
                                      "<NA>,<NA>",
                                      "-,-",
                                      "--,--",
                                      "?,?",
                                      "?,b",
                                      "*,*",
                                      ".,.",
                                      "...,...",
                                      "\\N,\\N",
                                      "n.a.,n.a.",
                                      "missing,Missing",
                                      "(null),x",
                                      "#DIV/0!,#REF!",
                                      "#NAME?,a",
                                      "\"NA\",\"NA\"",
                                      "-NA,b",
                                      "NaN(ind),x",
                                      "\xE2\x80\x93,\xE2\x80\x94", /* dashes */
                                      "1.2.3,4.5.6",
                                      "0x10,0x11",
                                      "1_000,2_000",
                                      "1d5,2d5",
                                      "1e,2e",
                                      "12%,13%",
                                      "$5,$6",
                                      "(5),(6)",
                                      "1/2,1/3",
                                      "2020-01-01,2020-01-02",
                                      "12:30,12:40",
                                      "1st,2nd",
                                      "\xE2\x88\x92"
                                      "5,\xE2\x88\x92"
                                      "6", /* a typographer's minus */
                                      "true,false",
                                      "TRUE,x",
                                      "yes,no",
                                      "<5,>6",
                                      "~5,a",
                                      "1 2,3 4",
                                      "a,b,",
                                      "a,,c",
                                      "a,a",
                                      "x,y,x",
                                      "xx,xx",
                                      "1,NA",
                                      "NA,1",
                                      "x,1",
                                      "1,2x",
                                      "5.1,3.5,setosa",
                                      "nan,b",
                                      "inf,a",
                                      "?",
                                      "-",
                                      "1.2.3",
                                      "1x1",
                                      "label,1x1,1x2",
                                      "100,200,300", /* whole numbers above decimals */
                                      "3,2,1,0",
                                      "-1,0,1,2"};
  for (size_t c = 0; c < sizeof lines / sizeof *lines; c++) {
    const char *line = lines[c];
    const char separator = strpbrk(line, ",;\t ") ? *strpbrk(line, ",;\t ") : '\n';
    int fields = 1;
    for (const char *at = line; *at; at++) fields += *at == separator;
    for (int mark = 0; mark < 2; mark++) {
      char text[256] = "";
      int used = snprintf(text, sizeof text, "%s%s\n", mark ? "\xEF\xBB\xBF" : "", line);
      for (int i = 0; i < 3; i++)
        for (int j = 0; j < fields; j++)
          used += snprintf(text + used, sizeof text - (size_t)used, "%d.5%c", 7 + i, j + 1 < fields ? separator : '\n');
      refuse(CSV, text, (size_t)used, -1, "refused:1:|header: yes");
      take(CSV, text, (size_t)used, 1, 3, fields, 7.5, line);
    }
  }
  /* Told that there is no header, the reader takes the numbers of columns as the sample that they then are. */
  take(CSV, "0,1\n2,3\n", 8, 0, 2, 2, 0.0, "0,1");
  refuse(CSV, "NA,NA\n2,3\n", 10, 0, "refused:1: column 1|NA|not a number");
  refuse(CSV, "0,1\n2,3\n4,5\n", 12, -1, "header: yes"); /* not even where the samples go on counting */
  refuse(CSV, "0,1\n", 4, -1, "header: yes");
  refuse(CSV, "0,1\n1,0\n", 8, -1, "header: yes");
  /* A lone 0 begins labels: their rows are counted against the inputs'. */
  take(CSV, "0\n3\n", 4, SNTK_HEADER_OF_LABELS, 2, 1, 0.0, "labels");
  refuse(CSV, "0,1\n3,4\n", 8, SNTK_HEADER_OF_LABELS, "header: yes");
}

/* What is plainly a header, and what is plainly none. */
static void test_clear_headers(void **state) {
  (void)state;
  static const struct {
    const char *text;
    int64_t rows, cols;
    double first;
  } cases[] = {
      {"a,b\n1,2\n3,4\n", 2, 2, 1},
      {"x0,x1\n0,1\n", 1, 2, 0},
      {"\"sepal length (cm)\",\"sepal width (cm)\"\n1,2\n", 1, 2, 1},
      {"\xEF\xBB\xBF\"a\",\"b\"\r\n1,2\r\n", 1, 2, 1},
      {",a,b\n1.5,1,2\n0,3,4\n", 2, 3, 1.5},
      {",a,b\n1,1,2\n-1,3,4\n", 2, 3, 1},
      {"Unnamed: 0,V1\n0,1\n", 1, 2, 0},
      {"gr\xC3\xB6\xC3\x9F"
       "e,h\xC3\xB6he\n1,2\n",
       1, 2, 1},
      {"gr\xF6\xDF"
       "e,h\xF6he\n1,2\n",
       1, 2, 1}, /* the same in Latin-1 */
      {"\xE8\xBA\xAB\xE9\x95\xB7,\xE4\xBD\x93\xE9\x87\x8D\n1,2\n", 1, 2, 1},
      {"\xCE\xB1,\xCE\xB2\n1,2\n", 1, 2, 1},
      {"T\tF\n1\t2\n", 1, 2, 1},
      {"_a,#b\n1,2\n", 1, 2, 1},
      {"name\n1\n", 1, 1, 1},
      {"0,0\n0,1\n1,0\n", 3, 2, 0},
      {"1,2\n3,4\n", 2, 2, 1},
      {"1,0\n0,1\n", 2, 2, 1},
      {"0.0,1.0\n1.0,0.0\n", 2, 2, 0},
      {"3,5\n0.5,1\n", 2, 2, 3},
      {"\"1\",\"2\"\n\"3\",\"4\"\n", 2, 2, 1},
      {"5\n0.5\n", 2, 1, 5},
  };
  for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
    take(CSV, cases[c].text, strlen(cases[c].text), -1, cases[c].rows, cases[c].cols, cases[c].first, cases[c].text);
}

/* What looks nearly like a table of numbers is refused, wherever it stands. */
static void test_csv_near_misses(void **state) {
  (void)state;
  static const struct {
    const char *text;
    const char *parts;
  } cases[] = {
      {",a,b\n0,1,2\n1,3,4\n", "first column has no name|index=False"}, /* the index of a frame */
      {"Unnamed: 0,a\n0,1\n1,3\n2,5\n", "first column has no name|index=False"},
      {",a,b\n1,1,2\n0,3,4\n", "first column has no name|index=False"},             /* shuffled */
      {",a\n5,0.5\n2,1\n9,1.5\n", "first column has no name|index=False"},          /* a part */
      {"\"\",\"a\"\n\"1\",0.5\n\"2\",1\n", "first column has no name|index=False"}, /* R's row names */
      {"NAN\n1\n", "refused:1: column 1|not finite"},
      {"nan,-inf\n1,2\n", "refused:1: column 1|not finite"},
      {",\n1,2\n", "refused:1: column 1|empty"},
      {",0,1\n0,1.5,2.5\n", "refused:1: column 1|empty"},
      {"1,2\n3\n", "refused:2|1 columns"},
      {"1,2\n3,4,5\n", "refused:2|3 columns"},
      {"1,2\n3,\n", "column 2|empty"},
      {"a,b\n1,NA\n", "refused:2: column 2|\"NA\""},
      {"1,2\n-nan(ind),4\n", "column 1|not finite"},
      {"1,2\n1e999,4\n", "too large"},
      {"1,2\n1_000,4\n", "\"1_000\""},
      {"1,2\n0x1p3,4\n", "\"0x1p3\""},
      {"1,2\n1D+03,4\n", "\"1D+03\""},
      {"1,2\n1.5f,4\n", "\"1.5f\""},
      {"1,2\n1 000,4\n", "\"1 000\""},
      {"1;2\n3,5;4\n", "\"3,5\"|separated by semicolons"},
      {"a;b\n1,5;2,5\n", "\"5;2\"|commas"},
      {"1,2\r3,4\r", "carriage return|tr '\\r' '\\n'"},
      {"a,b\r1,2\r3,4\r", "carriage return|tr '\\r' '\\n'"},
      {"a\r1\r2\r", "carriage return"},
      {"1,2\r\r\n3,4\r\r\n", "carriage return"},
      {"1,2\n3,4\n\x1a", "refused:3"},
      {"1,2\n\xEF\xBB\xBF"
       "3,4\n",
       "refused:2: column 1"},
      {"1,2\n3,\xC2\xA0"
       "4\n",
       "refused:2: column 2"},
      {"# 3 4\n1 2\n", "header: yes"},
      {"1,2\n# end\n", "refused:2"},
  };
  for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
    refuse(CSV, cases[c].text, strlen(cases[c].text), -1, cases[c].parts);
  refuse(CSV, "a\0b,c\n1,2\n", 10, -1, "header: yes");
  refuse(CSV, "1,2\n\0001,2\n", 9, -1, "refused:2: column 1");
}

/* ---- gzip ---- */

/* A member that holds `text`; returns its size. */
static size_t member(const char *text, size_t length, unsigned char *to, size_t room) {
  z_stream z = {
      .next_in = (unsigned char *)(uintptr_t)text, .avail_in = (uInt)length, .next_out = to, .avail_out = (uInt)room};
  assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
  deflateEnd(&z);
  return z.total_out;
}

static void test_gzip_members(void **state) {
  (void)state;
  static unsigned char bytes[1 << 19];
  const size_t first = member("1,2\n3,", 6, bytes, 1000);
  const size_t second = member("4\n5,6\n", 6, bytes + first, 1000), size = first + second;
  take(CSV, bytes, size, -1, 3, 2, 1.0, "two members");
  const size_t empty = member("", 0, bytes + size, 1000);
  take(CSV, bytes, size + empty, -1, 3, 2, 1.0, "an empty last member");
  memset(bytes + size, 0, sizeof bytes - size);
  take(CSV, bytes, size + 512, -1, 3, 2, 1.0, "zero bytes behind");
  take(CSV, bytes, sizeof bytes, -1, 3, 2, 1.0, "many zero bytes behind");
  bytes[size + 300] = 1;
  refuse(CSV, bytes, size + 512, -1, "damaged|behind its member 2");
  bytes[size + 300] = 0;
  for (size_t cut = first + 1; cut < size; cut++) refuse(CSV, bytes, cut, -1, "ends in the middle");
  for (size_t at = first; at < size; at++) {
    if (at - first >= 4 && at - first < 10) continue; /* time and system, which nothing checks */
    bytes[at] ^= 0x55;
    if (at == first + 3) bytes[at] = 0xff; /* flags that are reserved */
    refuse(CSV, bytes, size, -1, "gzip file");
    bytes[at] ^= at == first + 3 ? 0xff : 0x55;
  }
  memcpy(bytes + size, "7,8\n", 4); /* text behind the members */
  refuse(CSV, bytes, size + 4, -1, "damaged|behind its member 2");
  bytes[size] = 0x1f;
  refuse(CSV, bytes, size + 1, -1, "ends in the middle");
  /* Many members, and members that begin anywhere in the reader's buffer. */
  size_t used = 0;
  char line[32];
  for (int i = 0; i < 6000; i++) {
    const int length = snprintf(line, sizeof line, "%d,%d\n", i % 977 + 5, i);
    used += member(line, (size_t)length, bytes + used, sizeof bytes - used);
  }
  take(CSV, bytes, used, -1, 6000, 2, 5.0, "6000 members");
  bytes[used - 5] ^= 1;
  refuse(CSV, bytes, used, -1, "damaged|member 6000");
  /* IDX through the same reader. */
  static const char idx[] = {0, 0, 8, 1, 0, 0, 0, 4, 9, 8, 7, 6};
  const size_t head = member(idx, 10, bytes, 1000), tail = member(idx + 10, 2, bytes + head, 1000);
  take(IDX, bytes, head + tail, 0, 4, 1, 9.0, "IDX in two members");
  refuse(IDX, bytes, head, 0, "refused|truncated");
  refuse(IDX, bytes, head + tail - 1, 0, "ends in the middle");
  bytes[head + tail - 5] ^= 1;
  refuse(IDX, bytes, head + tail, 0, "damaged|member 2");
}

/* ---- NPY ---- */

static size_t make_npy(unsigned char *file, int version, const char *dictionary, size_t data) {
  const size_t length = strlen(dictionary) + 1, start = version == 1 ? 10 : 12;
  memset(file, 0, 1024);
  memcpy(file, "\x93NUMPY", 6);
  file[6] = (unsigned char)version;
  file[8] = (unsigned char)(length & 255);
  file[9] = (unsigned char)(length >> 8);
  memcpy(file + start, dictionary, length - 1);
  file[start + length - 1] = '\n';
  for (size_t j = 0; j < data; j++)
    file[start + length + j] = (unsigned char)(j % 8 < 6 ? 0 : j % 8 == 6 ? 0x14 : 0x40);
  return start + length + data;
}

/* Every spelling of a header that numpy.load takes for six rows of four float64, or for another type. */
static void test_npy_spellings(void **state) {
  (void)state;
  static const struct {
    const char *dictionary;
    int64_t rows, cols;
    size_t data;
    double first;
  } cases[] = {
      {"{'descr': '<f8', 'fortran_order': False, 'shape': (6L, 4L), }", 6, 4, 192, 5.0},
      {"{'descr': '<f8', 'fortran_order': False, 'shape': (6L, 4), }", 6, 4, 192, 5.0},
      {"{'descr': '<f8', 'fortran_order': False, 'shape': (6L,), }", 6, 1, 48, 5.0},
      {"{'shape': (6, 4), 'fortran_order': True, 'descr': '<f8'}", 6, 4, 192, 5.0},
      {"{\"descr\": \"<f8\", \"fortran_order\": False, \"shape\": (6, 4)}", 6, 4, 192, 5.0},
      {"{u'descr': u'<f8', u'fortran_order': False, u'shape': (6L, 4L)}", 6, 4, 192, 5.0},
      {"  {'descr':'<f8','fortran_order':False,'shape':(6,4)}   ", 6, 4, 192, 5.0},
      {"{ 'descr' : '<f8' , 'fortran_order' : False ,\r\n\t'shape' : ( 6 , 4 , ) , }", 6, 4, 192, 5.0},
      {"{'descr': 'f8', 'fortran_order': False, 'shape': (6, 4), }", 6, 4, 192, 5.0},
      {"{'descr': 'float64', 'fortran_order': False, 'shape': (6, 4), }", 6, 4, 192, 5.0},
      {"{'descr': '=f8', 'fortran_order': False, 'shape': (6, 4), }", 6, 4, 192, 5.0},
      {"{'descr': '<d', 'fortran_order': False, 'shape': (6, 4), }", 6, 4, 192, 5.0},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2L), }", 1, 2, 8, 0.0},
      {"{'descr': 'uint8', 'fortran_order': False, 'shape': (1, 2), }", 1, 2, 2, 0.0},
      {"{'descr': '?', 'fortran_order': False, 'shape': (1, 2), }", 1, 2, 2, 0.0},
  };
  unsigned char file[1024];
  for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
    for (int version = 1; version <= 3; version++) {
      const size_t size = make_npy(file, version, cases[c].dictionary, cases[c].data);
      take(NPY, file, size, 0, cases[c].rows, cases[c].cols, cases[c].first, cases[c].dictionary);
      refuse(NPY, file, size - 1, 0, "truncated");
      refuse(NPY, file, size + 1, 0, "behind its data");
    }
  static const struct {
    const char *dictionary, *parts;
  } bad[] = {
      {"{'descr': '<f8', 'fortran_order': False, 'shape': (6LL, 4), }", "comma or )"},
      {"{'descr': '<f8', 'fortran_order': False, 'shape': (L, 4), }", "whole number"},
      {"{'descr': '<f8', 'fortran_order': False, 'shape': (6l, 4), }", "comma or )"},
      {"{'descr': '<float64', 'fortran_order': False, 'shape': (6, 4), }", "cannot be read"},
      {"{'descr': '<f8 f8', 'fortran_order': False, 'shape': (6, 4), }", "cannot be read"},
      {"{'descr': '', 'fortran_order': False, 'shape': (6, 4), }", "cannot be read"},
  };
  for (size_t c = 0; c < sizeof bad / sizeof *bad; c++)
    refuse(NPY, file, make_npy(file, 1, bad[c].dictionary, 192), 0, bad[c].parts);
}

/* ---- files of another format ---- */

#define BYTES(text) text, sizeof(text) - 1

static void test_other_formats(void **state) {
  (void)state;
  static const struct {
    const char *bytes;
    size_t size;
    const char *parts;
  } cases[] = {
      {BYTES("BZh91AY&SY\x01\x02"), "bzip2|bunzip2"},
      {BYTES("\xfd"
             "7zXZ\0\0\4"),
       "xz|unxz"},
      {BYTES("\x28\xb5\x2f\xfd\x04\x00"), "zstd|unzstd"},
      {BYTES("\x04\x22\x4d\x18\x64\x40"), "lz4"},
      {BYTES("\x1f\x9d\x90"), "compress"},
      {BYTES("PK\x03\x04\x14\0\0\0\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05\0\0\0x.csv"), "a zip archive|unzip"},
      {BYTES("PK\x05\x06\0\0\0\0"), "a zip archive"},
      {BYTES("PK\x03\x04\x14\0\0\0\0\0\0\0!\0\0\0\0\0\0\0\0\0\0\0\0\0\x05\0\0\0x.npy"), "NPZ|numpy.load('x.npz')"},
      {BYTES("PK\x03\x04\x14\0\x06\0\x08\0\0\0!\0\0\0\0\0\0\0\0\0\0\0\0\0\x13\0\0\0[Content_Types].xml"), "xlsx|CSV"},
      {BYTES("PK\x03\x04\x14\0\x06\0\x08\0\0\0!\0\0\0\0\0\0\0\0\0\0\0\0\0\x13\0\0\0xl/workbook.xml"), "xlsx|CSV"},
      {BYTES("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0"), "xls|CSV"},
      {BYTES("PAR1\x15\x04\x15\0"), "Parquet|read_parquet"},
      {BYTES("ARROW1\0\0\xff\xff"), "Feather|read_feather"},
      {BYTES("FEA1\0\0\0\0"), "Feather|read_feather"},
      {BYTES("\x80\x04\x95\x0a\0\0\0\0\0\0\0"), "pickle|numpy.save"},
      {BYTES("\x80\x03"
             "cnumpy\nndarray\n"),
       "pickle|numpy.save"},
      {BYTES("MATLAB 5.0 MAT-file, Platform: GLNXA64\0\x01IM"), "MATLAB 5|loadmat"},
      {BYTES("\x89HDF\r\n\x1a\n\0\0\0\0"), "HDF5|source: hdf5"},
      {BYTES("\xff\xfe"
             "1\0,\0002\0\n\0"),
       "UTF-16|iconv -f UTF-16"},
      {BYTES("\xfe\xff\0001\0,\0002\0\n"), "UTF-16|iconv -f UTF-16"},
      {BYTES("1\0,\0002\0\n\0"), "UTF-16|iconv -f UTF-16LE"},
      {BYTES("\0001\0,\0002\0\n"), "UTF-16|iconv -f UTF-16BE"},
      {BYTES("\xff\xfe\0\0001\0\0\0\n\0\0\0"), "UTF-32|iconv -f UTF-32"},
      {BYTES("\0\0\xfe\xff\0\0\0001\0\0\0\n"), "UTF-32|iconv -f UTF-32"},
      {BYTES("1\0\0\0,\0\0\0002\0\0\0\n\0\0\0"), "UTF-32|iconv -f UTF-32LE"},
      {BYTES("\0\0\0001\0\0\0,\0\0\0002\0\0\0\n"), "UTF-32|iconv -f UTF-32BE"},
      {BYTES("<!DOCTYPE html>\n<html>"), "web page"},
      {BYTES("\n<HTML><body>"), "web page"},
      {BYTES("{\"a\": [1, 2]}"), "JSON"},
      {BYTES("version https://git-lfs.github.com/spec/v1\noid sha256:00\n"), "git lfs pull"},
      {BYTES("SQLite format 3\0\x10"), "SQLite"},
      {BYTES("\x89PNG\r\n\x1a\n\0\0"), "PNG"},
  };
  static const char *const wanted[] = {[CSV] = "not a table in plain text: it is ",
                                       [NPY] = "not an NPY file: it is ",
                                       [IDX] = "not an IDX file: it is "};
  char parts[256];
  unsigned char packed[4096];
  for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
    for (int from = CSV; from <= IDX; from++) {
      snprintf(parts, sizeof parts, "%s|%s", wanted[from], cases[c].parts);
      refuse((source)from, cases[c].bytes, cases[c].size, -1, parts);
      if (from == NPY) continue;
      /* The same inside gzip. */
      const size_t size = member(cases[c].bytes, cases[c].size, packed, sizeof packed);
      refuse((source)from, packed, size, -1, parts);
    }
  /* Each reader's own format, given to the others. */
  unsigned char npy[1024];
  const size_t size = make_npy(npy, 1, "{'descr': '<f8', 'fortran_order': False, 'shape': (6, 4), }", 192);
  static const char idx[] = {0, 0, 8, 1, 0, 0, 0, 4, 9, 8, 7, 6};
  refuse(CSV, npy, size, -1, "NPY|source: npy");
  refuse(IDX, npy, size, -1, "NPY|source: npy");
  refuse(CSV, idx, sizeof idx, -1, "IDX|source: idx");
  refuse(NPY, idx, sizeof idx, -1, "IDX|source: idx");
  refuse(NPY, "1,2\n", 4, -1, "text|source: csv");
  refuse(IDX, "1,2\n", 4, -1, "text|source: csv");
  refuse(NPY, packed, member("1,2\n", 4, packed, sizeof packed), -1, "gzip|gunzip");
  refuse(NPY, "\x93NUMPX\1\0\2\0", 10, -1, "numpy.save");
  /* Names of columns that other formats begin with. */
  take(CSV, "PAR1,PAR2\n1,2\n", 14, -1, 1, 2, 1.0, "PAR1");
  take(CSV, "BZh,ARROW1\n1,2\n", 15, -1, 1, 2, 1.0, "BZh");
}

/* ---- IDX ---- */

static void test_idx_ends(void **state) {
  (void)state;
  static const char bytes[] = {0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 2, 5, 6, 7, 8, 0};
  take(IDX, bytes, 16, 0, 2, 2, 5.0, "IDX");
  refuse(IDX, bytes, 15, 0, "truncated");
  refuse(IDX, bytes, 17, 0, "behind its data");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_unclear_headers), cmocka_unit_test(test_clear_headers),
      cmocka_unit_test(test_csv_near_misses), cmocka_unit_test(test_gzip_members),
      cmocka_unit_test(test_npy_spellings),   cmocka_unit_test(test_other_formats),
      cmocka_unit_test(test_idx_ends),
  };
  return cmocka_run_group_tests(tests, files_set_up, files_tear_down);
}
