/**
 * @file files.c
 * @brief Opening, writing, syncing and replacing files.
 *
 * SPDX-License-Identifier: MIT
 */
#include "core/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char *sntk_format(const char *format, ...) {
  va_list args, again;
  va_start(args, format);
  va_copy(again, args);
  const int length = vsnprintf(NULL, 0, format, args);
  va_end(args);
  char *text = length < 0 ? NULL : malloc((size_t)length + 1);
  if (text) vsnprintf(text, (size_t)length + 1, format, again);
  va_end(again);
  return text;
}

/* ---- descriptors ------------------------------------------------------------------------------------------------- */

void sntk_standard_hold(sntk_standard *standard) {
  standard->count = 0;
  for (;;) {
    const int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* it is always there, and no write to it succeeds */
    if (fd > 2) close(fd);
    if (fd < 0 || fd > 2) return;
    standard->held[standard->count++] = fd;
  }
}

void sntk_standard_release(const sntk_standard *standard) {
  const int error = errno;
  for (int i = 0; i < standard->count; i++) close(standard->held[i]);
  errno = error;
}

/* Another thread may have closed one of them between the hold and the opening. */
static int above_standard(int fd) {
  if (fd < 0 || fd > 2) return fd;
  const int moved = fcntl(fd, F_DUPFD_CLOEXEC, 3), error = errno;
  close(fd);
  errno = error;
  return moved;
}

int sntk_file_descriptor(const char *path, int flags) {
  sntk_standard standard;
  int fd;
  sntk_standard_hold(&standard);
  do {
    fd = open(path, flags | O_CLOEXEC, 0666);
  } while (fd < 0 && errno == EINTR);
  fd = above_standard(fd);
  sntk_standard_release(&standard);
  return fd;
}

int sntk_file_create(const char *path) {
  if (unlink(path) != 0 && errno != ENOENT) return -1;
  return sntk_file_descriptor(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW);
}

bool sntk_file_is_at(int fd, const char *path) {
  struct stat file, name;
  errno = 0;
  return fstat(fd, &file) == 0 && lstat(path, &name) == 0 && file.st_dev == name.st_dev && file.st_ino == name.st_ino;
}

/* ---- contents ---------------------------------------------------------------------------------------------------- */

bool sntk_file_sync(int fd) {
  while (fsync(fd) != 0)
    if (errno != EINTR) return false;
  return true;
}

bool sntk_file_write(int fd, const char *text, size_t size) {
  size_t done = 0;
  while (done < size) {
    const ssize_t put = write(fd, text + done, size - done);
    if (put < 0 && errno == EINTR) continue;
    if (put == 0) errno = ENOSPC;
    if (put <= 0) return false;
    done += (size_t)put;
  }
  return true;
}

sntk_status sntk_file_read(sntk_context *ctx, int fd, const char *path, char **text, int64_t *length) {
  struct stat info;
  *text = NULL;
  *length = 0;
  if (fstat(fd, &info) != 0) return sntk_fail(ctx, SNTK_ERR_IO, "%s: cannot read it: %s", path, strerror(errno));
  if (!S_ISREG(info.st_mode)) return sntk_fail(ctx, SNTK_ERR_IO, "%s: it is no regular file", path);
  char *bytes = malloc((size_t)info.st_size + 1);
  if (!bytes) return sntk_fail(ctx, SNTK_ERR_MEMORY, "%s: no memory to read it", path);
  while (*length < info.st_size) {
    const ssize_t got = pread(fd, bytes + *length, (size_t)(info.st_size - *length), (off_t)*length);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      free(bytes);
      return sntk_fail(ctx, SNTK_ERR_IO, "%s: cannot read it: %s", path, strerror(errno));
    }
    if (got == 0) break; /* another shard's writer cut off a torn tail meanwhile */
    *length += got;
  }
  bytes[*length] = '\0';
  *text = bytes;
  return SNTK_OK;
}

/* ---- directories ------------------------------------------------------------------------------------------------- */

sntk_status sntk_sync_parent(sntk_context *ctx, const char *path) {
  const char *slash = strrchr(path, '/');
  char *parent = !slash          ? sntk_format(".")
                 : slash == path ? sntk_format("/")
                                 : sntk_format("%.*s", (int)(slash - path), path);
  if (!parent) return sntk_fail(ctx, SNTK_ERR_MEMORY, "%s: no memory for a path", path);
  sntk_status status = SNTK_OK;
  const int fd = sntk_file_descriptor(parent, O_RDONLY | O_DIRECTORY);
  /* EINVAL: a file system that cannot sync a directory */
  if (fd < 0 || (!sntk_file_sync(fd) && errno != EINVAL))
    status = sntk_fail(ctx, SNTK_ERR_IO, "%s: cannot sync the directory: %s", parent, strerror(errno));
  if (fd >= 0) close(fd);
  free(parent);
  return status;
}

/* errno is 0 where something else has the name. */
static bool is_directory(const char *path) {
  struct stat info;
  errno = 0;
  return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

sntk_status sntk_make_directories(sntk_context *ctx, const char *directory, bool *made) {
  char *path = sntk_format("%s", directory);
  if (!path) return sntk_fail(ctx, SNTK_ERR_MEMORY, "%s: no memory for a path", directory);
  sntk_status status = SNTK_OK;
  for (char *end = path + 1; status == SNTK_OK; end++) {
    if (*end != '\0' && *end != '/') continue;
    const char kept = *end;
    *end = '\0';
    const int error = mkdir(path, 0777) == 0 ? 0 : errno;
    if (error == 0)
      status = sntk_sync_parent(ctx, path);
    else if (!is_directory(path))
      status = sntk_fail(ctx, SNTK_ERR_IO, "%s: cannot make the directory: %s", path,
                         error != EEXIST                 ? strerror(error)
                         : errno == 0 || errno == ENOENT ? "a file of that name is there; give another --out"
                                                         : strerror(errno));
    if (kept == '\0') {
      *made = *made || error == 0;
      break;
    }
    *end = kept;
  }
  free(path);
  return status;
}

/* Synced, and still what has the temporary name? */
static sntk_status settle(sntk_context *ctx, int fd, const char *temporary, const char *path) {
  if (!sntk_file_sync(fd)) return sntk_fail(ctx, SNTK_ERR_IO, "%s: cannot sync it: %s", temporary, strerror(errno));
  if (sntk_file_is_at(fd, temporary)) return SNTK_OK;
  if (errno != 0 && errno != ENOENT)
    return sntk_fail(ctx, SNTK_ERR_IO, "%s: cannot look at %s: %s", path, temporary, strerror(errno));
  return sntk_fail(ctx, SNTK_ERR_IO,
                   "%s: it is not replaced: another process took away what was written to %s; let that one end, or "
                   "give another --out",
                   path, temporary);
}

sntk_status sntk_replace_file(sntk_context *ctx, int fd, const char *temporary, const char *path) {
  SNTK_TRY(settle(ctx, fd, temporary, path));
  if (rename(temporary, path) != 0)
    return sntk_fail(ctx, SNTK_ERR_IO, "%s: cannot rename %s to it: %s", path, temporary, strerror(errno));
  return sntk_sync_parent(ctx, path);
}

sntk_status sntk_place_file(sntk_context *ctx, int fd, const char *temporary, const char *path, bool *taken) {
  SNTK_TRY(settle(ctx, fd, temporary, path));
  *taken = false;
  if (link(temporary, path) == 0) {
    unlink(temporary);
    return sntk_sync_parent(ctx, path);
  }
  *taken = errno == EEXIST;
  return *taken ? SNTK_OK : sntk_replace_file(ctx, fd, temporary, path);
}
