/**
 * @file stream.c
 * @brief Bytes of a file that may be gzip-compressed: all its members, each checked to its end.
 *
 * Of a gzip file nothing is dropped in silence: behind a member follows another one, the end of the file, or zero bytes
 * up to that end, with which tapes and disks are padded and which gzip itself ignores.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "data/loaders.h"

enum { BUFFER_BYTES = 1 << 17, GZIP_WINDOW = 15 + 16 /* zlib's largest, with a gzip header */ };

/* Deflate's best case is 258 bytes from two bits: no gzip file grows by more than this factor. */
#define DEFLATE_LIMIT 1032

struct sntk_input {
  int fd;
  char *path;
  int64_t size;      /* of the file; -1: not a regular one */
  int64_t at, held;  /* the buffer's bytes from at to held are not used yet */
  bool end;          /* nothing follows */
  bool gzip, inside; /* inside a member */
  int64_t members;   /* begun */
  z_stream zlib;
  unsigned char buffer[BUFFER_BYTES];
};

/* At least `wanted` unused bytes in the buffer, or all that the file still has. */
static sntk_status fill(sntk_context *ctx, sntk_input *s, int64_t wanted) {
  if (s->held - s->at >= wanted) return SNTK_OK;
  memmove(s->buffer, s->buffer + s->at, (size_t)(s->held - s->at));
  s->held -= s->at;
  s->at = 0;
  while (s->held < wanted) {
    SNTK_TRY(sntk_check_interrupt(ctx)); /* a pipe may give nothing for ever */
    const ssize_t got = read(s->fd, s->buffer + s->held, (size_t)(BUFFER_BYTES - s->held));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return sntk_fail(ctx, SNTK_ERR_IO, "%s: reading failed: %s", s->path, strerror(errno));
    if (got == 0) break;
    s->held += got;
  }
  return SNTK_OK;
}

static bool at_member(const sntk_input *s) {
  return s->held - s->at >= 2 && s->buffer[s->at] == 0x1f && s->buffer[s->at + 1] == 0x8b;
}

static sntk_status begin(sntk_context *ctx, sntk_input *s) {
  SNTK_TRY(fill(ctx, s, 2));
  s->gzip = at_member(s);
  if (s->gzip && inflateInit2(&s->zlib, GZIP_WINDOW) != Z_OK)
    return sntk_fail(ctx, SNTK_ERR_MEMORY, "%s: no memory to decompress it", s->path);
  return SNTK_OK;
}

sntk_status sntk_input_open(sntk_context *ctx, const char *path, sntk_input **input) {
  *input = NULL;
  int fd = -1;
  int64_t size = 0;
  SNTK_TRY(sntk_file_open(ctx, path, &fd, &size));
  sntk_input *s = calloc(1, sizeof *s);
  char *copy = strdup(path);
  if (!s || !copy) {
    close(fd);
    free(copy);
    free(s);
    return sntk_fail(ctx, SNTK_ERR_MEMORY, "%s: no memory to read it", path);
  }
  s->fd = fd;
  s->path = copy;
  s->size = size;
  const sntk_status status = begin(ctx, s);
  if (status == SNTK_OK)
    *input = s;
  else
    sntk_input_close(s);
  return status;
}

void sntk_input_close(sntk_input *input) {
  if (!input) return;
  if (input->gzip) inflateEnd(&input->zlib);
  close(input->fd);
  free(input->path);
  free(input);
}

static sntk_status ends_early(sntk_context *ctx, const sntk_input *s) {
  return sntk_fail(ctx, SNTK_ERR_DATA, "%s: the gzip file ends in the middle of its data%s; fetch or write it again",
                   s->path, s->members > 1 ? ", in a member behind the first" : "");
}

static sntk_status damaged(sntk_context *ctx, const sntk_input *s, const char *reason) {
  return sntk_fail(ctx, SNTK_ERR_DATA, "%s: the gzip file is damaged, in its member %lld (%s); fetch or write it again",
                   s->path, (long long)s->members, reason ? reason : "invalid data");
}

/* Skips zero bytes. */
static sntk_status skip_padding(sntk_context *ctx, sntk_input *s) {
  do {
    SNTK_TRY(fill(ctx, s, 1));
    while (s->at < s->held && s->buffer[s->at] == 0) s->at++;
  } while (s->at == s->held && s->held > 0);
  return SNTK_OK;
}

/* Begins the next member or finds the end. */
static sntk_status next_member(sntk_context *ctx, sntk_input *s) {
  SNTK_TRY(fill(ctx, s, 2));
  const bool padded = s->members > 0 && s->at < s->held && s->buffer[s->at] == 0;
  if (padded) SNTK_TRY(skip_padding(ctx, s));
  s->end = s->at == s->held;
  if (s->end) return SNTK_OK;
  s->members++;
  if (!padded && s->held - s->at == 1 && s->buffer[s->at] == 0x1f) return ends_early(ctx, s);
  if (padded || !at_member(s))
    return sntk_fail(ctx, SNTK_ERR_DATA,
                     "%s: the gzip file is damaged: behind its member %lld follows something that is not compressed by "
                     "gzip; fetch or write it again",
                     s->path, (long long)s->members - 1);
  if (s->members > 1) inflateReset(&s->zlib);
  s->inside = true;
  return SNTK_OK;
}

/* Decompresses what the buffer has to at most `wanted` bytes. */
static sntk_status inflate_some(sntk_context *ctx, sntk_input *s, unsigned char *to, int64_t wanted, int64_t *got) {
  SNTK_TRY(fill(ctx, s, 1));
  if (s->at == s->held) return ends_early(ctx, s);
  const uInt room = wanted < INT_MAX ? (uInt)wanted : (uInt)INT_MAX;
  s->zlib.next_in = s->buffer + s->at;
  s->zlib.avail_in = (uInt)(s->held - s->at);
  s->zlib.next_out = to;
  s->zlib.avail_out = room;
  const int code = inflate(&s->zlib, Z_NO_FLUSH);
  s->at = s->held - s->zlib.avail_in;
  *got = room - s->zlib.avail_out;
  if (code == Z_MEM_ERROR) return sntk_fail(ctx, SNTK_ERR_MEMORY, "%s: no memory to decompress it", s->path);
  if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR) return damaged(ctx, s, s->zlib.msg);
  s->inside = code != Z_STREAM_END;
  return SNTK_OK;
}

static sntk_status copy_some(sntk_context *ctx, sntk_input *s, unsigned char *to, int64_t wanted, int64_t *got) {
  SNTK_TRY(fill(ctx, s, 1));
  *got = s->held - s->at < wanted ? s->held - s->at : wanted;
  memcpy(to, s->buffer + s->at, (size_t)*got);
  s->at += *got;
  s->end = *got == 0;
  return SNTK_OK;
}

sntk_status sntk_input_read(sntk_context *ctx, sntk_input *input, void *to, int64_t wanted, int64_t *got) {
  *got = 0;
  while (*got < wanted && !input->end) {
    int64_t part = 0;
    unsigned char *place = (unsigned char *)to + *got;
    if (!input->gzip)
      SNTK_TRY(copy_some(ctx, input, place, wanted - *got, &part));
    else if (input->inside)
      SNTK_TRY(inflate_some(ctx, input, place, wanted - *got, &part));
    else
      SNTK_TRY(next_member(ctx, input));
    *got += part;
  }
  return SNTK_OK;
}

int64_t sntk_input_bound(const sntk_input *input, bool *exact) {
  *exact = !input->gzip && input->size >= 0;
  return *exact || input->size < 0 ? input->size : sntk_size_mul(input->size, DEFLATE_LIMIT);
}
