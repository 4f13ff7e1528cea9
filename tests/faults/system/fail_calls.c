/**
 * @file fail_calls.c
 * @brief A preloaded library that makes one chosen call of a program fail: the k-th allocation, write, fsync, and so
 * on.
 *
 *   FAIL_CALLS=FAMILY:K[+][:ERROR]   the K-th call of the family fails; with + all from the K-th on. ERROR: EIO, EINTR,
 *                                    ENOSPC and so on, or short (of reads and writes: part of what was asked for)
 *   FAIL_SKIP=NAME:NAME              shared objects (file names begin so) whose calls neither count nor fail
 *   FAIL_REPORT=FILE                 at exit: how often each family was called; where the failing call came from
 *   FAIL_SERVER=IN,OUT               the program is loaded once and forked for each request (of walk.py)
 *
 * Calls count from the start of main: what libraries do when they are loaded is not the program's. Forked processes
 * share the counters, so that one call of all fails. Standard error is never touched: there the program must be able to
 * say what happened.
 *
 * The buffered streams of the C library write and read inside it, where no library can come between. Such a call fails
 * by giving the stream, for its length, a descriptor that cannot be written (/dev/full) or read (a directory).
 *
 * SPDX-License-Identifier: MIT
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- the plan ---------------------------------------------------------------------------------------------------- */

typedef enum family {
  MALLOC,
  MMAP,
  OPEN,
  READ,
  WRITE,
  FSYNC,
  RENAME,
  CLOSE,
  FLOCK,
  TRUNCATE,
  MKDIR,
  UNLINK,
  STAT,
  SEEK,
  PROCESS,
  FAMILIES
} family;

static const struct {
  const char *name;
  int error; /* unless the plan names another */
} families[FAMILIES] = {
    [MALLOC] = {"malloc", ENOMEM},  [MMAP] = {"mmap", ENOMEM},   [OPEN] = {"open", EMFILE},
    [READ] = {"read", EIO},         [WRITE] = {"write", ENOSPC}, [FSYNC] = {"fsync", EIO},
    [RENAME] = {"rename", EIO},     [CLOSE] = {"close", EIO},    [FLOCK] = {"flock", ENOLCK},
    [TRUNCATE] = {"truncate", EIO}, [MKDIR] = {"mkdir", ENOSPC}, [UNLINK] = {"unlink", EIO},
    [STAT] = {"stat", EIO},         [SEEK] = {"seek", EIO},      [PROCESS] = {"process", EAGAIN},
};

enum { SHORT = -1 }; /* in place of an error's number */

static const struct {
  const char *name;
  int error;
} errors[] = {{"ENOMEM", ENOMEM}, {"EMFILE", EMFILE}, {"EACCES", EACCES}, {"ENOSPC", ENOSPC}, {"EIO", EIO},
              {"EINTR", EINTR},   {"ENOLCK", ENOLCK}, {"EAGAIN", EAGAIN}, {"EINVAL", EINVAL}, {"short", SHORT}};

static struct {
  family family;
  long at; /* 0: nothing fails, all is counted */
  bool on; /* all from there on */
  int error;
} plan;

enum { FRAMES = 24, OBJECTS = 256 };

/* Shared by a process and those that it forks. */
typedef struct shared_state {
  atomic_long counts[FAMILIES], skipped[FAMILIES];
  atomic_long fired;
  int frames;
  void *trace[FRAMES];
} shared_state;

static struct {
  uintptr_t begin, end, base;
  char name[64];
  bool skipped;
} objects[OBJECTS];
static int object_count;

static shared_state *state;
static bool active;
static __thread int inside __attribute__((tls_model("initial-exec"))); /* in a call of our own */

static void die(const char *what) {
  syscall(SYS_write, STDERR_FILENO, what, strlen(what));
  syscall(SYS_exit_group, 99);
}

static bool begins_with(const char *text, const char *prefix, size_t length) {
  return length > 0 && strncmp(text, prefix, length) == 0;
}

static bool is_skipped_name(const char *name) {
  for (const char *list = getenv("FAIL_SKIP"); list && *list;) {
    const size_t length = strcspn(list, ":");
    if (begins_with(name, list, length)) return true;
    list += length + (list[length] == ':');
  }
  return false;
}

static int note_object(struct dl_phdr_info *info, size_t size, void *user) {
  (void)size, (void)user;
  const char *slash = strrchr(info->dlpi_name, '/');
  for (int i = 0; i < info->dlpi_phnum && object_count < OBJECTS; i++) {
    const ElfW(Phdr) *header = &info->dlpi_phdr[i];
    if (header->p_type != PT_LOAD || !(header->p_flags & PF_X)) continue;
    objects[object_count].base = info->dlpi_addr;
    objects[object_count].begin = info->dlpi_addr + header->p_vaddr;
    objects[object_count].end = objects[object_count].begin + header->p_memsz;
    snprintf(objects[object_count].name, sizeof objects->name, "%s", slash ? slash + 1 : "program");
    objects[object_count].skipped = is_skipped_name(objects[object_count].name);
    object_count++;
  }
  return 0;
}

static int object_of(const void *address) {
  for (int i = 0; i < object_count; i++)
    if ((uintptr_t)address >= objects[i].begin && (uintptr_t)address < objects[i].end) return i;
  return -1;
}

/* Whether this call is to fail; errno is then set. */
static bool fails(family f, const void *caller) {
  if (!active || inside) return false;
  const int object = object_of(caller);
  if (object >= 0 && objects[object].skipped) {
    atomic_fetch_add(&state->skipped[f], 1);
    return false;
  }
  const long k = atomic_fetch_add(&state->counts[f], 1) + 1;
  if (plan.at == 0 || f != plan.family || k < plan.at || (k > plan.at && !plan.on)) return false;
  if (atomic_fetch_add(&state->fired, 1) == 0) {
    inside++;
    state->frames = backtrace(state->trace, FRAMES);
    inside--;
  }
  errno = plan.error == SHORT ? 0 : plan.error;
  return true;
}

#define FAILS(f) fails(f, __builtin_return_address(0))

static void set_plan(const char *text) {
  const size_t length = strcspn(text, ":");
  int f = 0;
  while (f < FAMILIES && !(strlen(families[f].name) == length && strncmp(families[f].name, text, length) == 0)) f++;
  if (f == FAMILIES || text[length] != ':') die("FAIL_CALLS: FAMILY:K[+][:ERROR] is needed\n");
  char *end;
  plan.family = (family)f;
  plan.at = strtol(text + length + 1, &end, 10);
  plan.on = *end == '+';
  end += plan.on;
  plan.error = families[f].error;
  if (*end != ':') return;
  for (size_t e = 0; e < sizeof errors / sizeof *errors; e++)
    if (strcmp(errors[e].name, end + 1) == 0) plan.error = errors[e].error;
}

/* ---- the real functions ------------------------------------------------------------------------------------------ */

static void *real_function(const char *name) {
  inside++;
  void *function = dlsym(RTLD_NEXT, name);
  inside--;
  if (!function) die("fail_calls: a function of the C library is not found\n");
  return function;
}

/* Declares `real`, a function of the type of `name`. */
#define REAL(name)                                                                                                     \
  static __typeof__(&name) real;                                                                                       \
  if (!real) *(void **)&real = real_function(#name)

/* ---- memory ------------------------------------------------------------------------------------------------------ */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

void *malloc(size_t size) { return FAILS(MALLOC) ? NULL : __libc_malloc(size); }

void *calloc(size_t count, size_t size) { return FAILS(MALLOC) ? NULL : __libc_calloc(count, size); }

void *realloc(void *old, size_t size) { return FAILS(MALLOC) ? NULL : __libc_realloc(old, size); }

void *reallocarray(void *old, size_t count, size_t size) {
  size_t bytes;
  if (FAILS(MALLOC) || __builtin_mul_overflow(count, size, &bytes)) return NULL;
  return __libc_realloc(old, bytes);
}

void *aligned_alloc(size_t alignment, size_t size) { return FAILS(MALLOC) ? NULL : __libc_memalign(alignment, size); }

void *memalign(size_t alignment, size_t size);
void *memalign(size_t alignment, size_t size) { return FAILS(MALLOC) ? NULL : __libc_memalign(alignment, size); }

int posix_memalign(void **out, size_t alignment, size_t size) {
  void *memory = FAILS(MALLOC) ? NULL : __libc_memalign(alignment, size);
  if (!memory) return ENOMEM;
  *out = memory;
  return 0;
}

void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset) {
  REAL(mmap);
  return FAILS(MMAP) ? MAP_FAILED : real(at, size, protection, flags, fd, offset);
}
void *mmap64(void *at, size_t size, int protection, int flags, int fd, off_t offset) __attribute__((alias("mmap")));

/* ---- files ------------------------------------------------------------------------------------------------------- */

static mode_t mode_argument(int flags, va_list args) {
  return flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
}

int open(const char *path, int flags, ...) {
  REAL(open);
  va_list args;
  va_start(args, flags);
  const mode_t mode = mode_argument(flags, args);
  va_end(args);
  return FAILS(OPEN) ? -1 : real(path, flags, mode);
}
int open64(const char *path, int flags, ...) __attribute__((alias("open")));

int openat(int folder, const char *path, int flags, ...) {
  REAL(openat);
  va_list args;
  va_start(args, flags);
  const mode_t mode = mode_argument(flags, args);
  va_end(args);
  return FAILS(OPEN) ? -1 : real(folder, path, flags, mode);
}
int openat64(int folder, const char *path, int flags, ...) __attribute__((alias("openat")));

int __open_2(const char *path, int flags);
int __open_2(const char *path, int flags) {
  REAL(open);
  return FAILS(OPEN) ? -1 : real(path, flags, 0);
}
int __open64_2(const char *path, int flags) __attribute__((alias("__open_2")));

int creat(const char *path, mode_t mode) {
  REAL(creat);
  return FAILS(OPEN) ? -1 : real(path, mode);
}

FILE *fopen(const char *path, const char *mode) {
  REAL(fopen);
  return FAILS(OPEN) ? NULL : real(path, mode);
}
FILE *fopen64(const char *path, const char *mode) __attribute__((alias("fopen")));

DIR *opendir(const char *path) {
  REAL(opendir);
  return FAILS(OPEN) ? NULL : real(path);
}

/* What of `size` is done by a call that is cut short. */
static size_t part(size_t size) { return size > 1 ? size / 2 : size; }

ssize_t read(int fd, void *data, size_t size) {
  REAL(read);
  if (!FAILS(READ)) return real(fd, data, size);
  return plan.error == SHORT ? real(fd, data, part(size)) : -1;
}

ssize_t __read_chk(int fd, void *data, size_t size, size_t room);
ssize_t __read_chk(int fd, void *data, size_t size, size_t room) {
  (void)room;
  REAL(read);
  if (!FAILS(READ)) return real(fd, data, size);
  return plan.error == SHORT ? real(fd, data, part(size)) : -1;
}

ssize_t pread(int fd, void *data, size_t size, off_t at) {
  REAL(pread);
  if (!FAILS(READ)) return real(fd, data, size, at);
  return plan.error == SHORT ? real(fd, data, part(size), at) : -1;
}
ssize_t pread64(int fd, void *data, size_t size, off_t at) __attribute__((alias("pread")));

ssize_t readv(int fd, const struct iovec *parts, int count) {
  REAL(readv);
  if (!FAILS(READ)) return real(fd, parts, count);
  return plan.error == SHORT ? real(fd, parts, 1) : -1;
}

struct dirent *readdir(DIR *stream) {
  REAL(readdir);
  return FAILS(READ) && plan.error != SHORT ? NULL : real(stream);
}
struct dirent64 *readdir64(DIR *stream) __attribute__((alias("readdir")));

ssize_t write(int fd, const void *data, size_t size) {
  REAL(write);
  if (fd == STDERR_FILENO || !FAILS(WRITE)) return real(fd, data, size);
  return plan.error == SHORT ? real(fd, data, part(size)) : -1;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
  REAL(pwrite);
  if (!FAILS(WRITE)) return real(fd, data, size, at);
  return plan.error == SHORT ? real(fd, data, part(size), at) : -1;
}
ssize_t pwrite64(int fd, const void *data, size_t size, off_t at) __attribute__((alias("pwrite")));

ssize_t writev(int fd, const struct iovec *parts, int count) {
  REAL(writev);
  if (fd == STDERR_FILENO || !FAILS(WRITE)) return real(fd, parts, count);
  return plan.error == SHORT ? real(fd, parts, 1) : -1;
}

int fsync(int fd) {
  REAL(fsync);
  return FAILS(FSYNC) ? -1 : real(fd);
}

int fdatasync(int fd) {
  REAL(fdatasync);
  return FAILS(FSYNC) ? -1 : real(fd);
}

int rename(const char *from, const char *to) {
  REAL(rename);
  return FAILS(RENAME) ? -1 : real(from, to);
}

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
  REAL(renameat);
  return FAILS(RENAME) ? -1 : real(from_folder, from, to_folder, to);
}

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags) {
  REAL(renameat2);
  return FAILS(RENAME) ? -1 : real(from_folder, from, to_folder, to, flags);
}

int link(const char *from, const char *to) {
  REAL(link);
  return FAILS(RENAME) ? -1 : real(from, to);
}

int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags) {
  REAL(linkat);
  return FAILS(RENAME) ? -1 : real(from_folder, from, to_folder, to, flags);
}

/* The descriptor is gone whether or not an error is told of, as in Linux. */
int close(int fd) {
  REAL(close);
  const bool failing = FAILS(CLOSE);
  const int result = real(fd);
  if (!failing) return result;
  errno = plan.error;
  return -1;
}

int flock(int fd, int operation) {
  REAL(flock);
  return FAILS(FLOCK) ? -1 : real(fd, operation);
}

int ftruncate(int fd, off_t size) {
  REAL(ftruncate);
  return FAILS(TRUNCATE) ? -1 : real(fd, size);
}
int ftruncate64(int fd, off_t size) __attribute__((alias("ftruncate")));

int truncate(const char *path, off_t size) {
  REAL(truncate);
  return FAILS(TRUNCATE) ? -1 : real(path, size);
}

int posix_fallocate(int fd, off_t at, off_t size) {
  REAL(posix_fallocate);
  return FAILS(TRUNCATE) ? plan.error : real(fd, at, size);
}
int posix_fallocate64(int fd, off_t at, off_t size) __attribute__((alias("posix_fallocate")));

int fallocate(int fd, int mode, off_t at, off_t size) {
  REAL(fallocate);
  return FAILS(TRUNCATE) ? -1 : real(fd, mode, at, size);
}

int mkdir(const char *path, mode_t mode) {
  REAL(mkdir);
  return FAILS(MKDIR) ? -1 : real(path, mode);
}

int mkdirat(int folder, const char *path, mode_t mode) {
  REAL(mkdirat);
  return FAILS(MKDIR) ? -1 : real(folder, path, mode);
}

int unlink(const char *path) {
  REAL(unlink);
  return FAILS(UNLINK) ? -1 : real(path);
}

int unlinkat(int folder, const char *path, int flags) {
  REAL(unlinkat);
  return FAILS(UNLINK) ? -1 : real(folder, path, flags);
}

int rmdir(const char *path) {
  REAL(rmdir);
  return FAILS(UNLINK) ? -1 : real(path);
}

int remove(const char *path) {
  REAL(remove);
  return FAILS(UNLINK) ? -1 : real(path);
}

int stat(const char *path, struct stat *out) {
  REAL(stat);
  return FAILS(STAT) ? -1 : real(path, out);
}
int stat64(const char *path, struct stat64 *out) __attribute__((alias("stat")));

int lstat(const char *path, struct stat *out) {
  REAL(lstat);
  return FAILS(STAT) ? -1 : real(path, out);
}
int lstat64(const char *path, struct stat64 *out) __attribute__((alias("lstat")));

int fstat(int fd, struct stat *out) {
  REAL(fstat);
  return FAILS(STAT) ? -1 : real(fd, out);
}
int fstat64(int fd, struct stat64 *out) __attribute__((alias("fstat")));

int fstatat(int folder, const char *path, struct stat *out, int flags) {
  REAL(fstatat);
  return FAILS(STAT) ? -1 : real(folder, path, out, flags);
}
int fstatat64(int folder, const char *path, struct stat64 *out, int flags) __attribute__((alias("fstatat")));

int access(const char *path, int mode) {
  REAL(access);
  return FAILS(STAT) ? -1 : real(path, mode);
}

int faccessat(int folder, const char *path, int mode, int flags) {
  REAL(faccessat);
  return FAILS(STAT) ? -1 : real(folder, path, mode, flags);
}

off_t lseek(int fd, off_t offset, int whence) {
  REAL(lseek);
  return FAILS(SEEK) ? -1 : real(fd, offset, whence);
}
off64_t lseek64(int fd, off64_t offset, int whence) __attribute__((alias("lseek")));

/* ---- buffered streams -------------------------------------------------------------------------------------------- */

/* Puts a descriptor of `path` in the stream's place; what was there, to be given to put_back. */
static int put_in_place(FILE *stream, const char *path, int flags) {
  const int fd = fileno(stream);
  if (fd < 0) return -1;
  const int kept = (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 200);
  const int other = (int)syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0);
  if (kept < 0 || other < 0) die("fail_calls: no descriptor\n");
  syscall(SYS_dup3, other, fd, 0);
  syscall(SYS_close, other);
  return kept;
}

/* `fd` -1: the stream is closed. */
static void put_back(int kept, int fd) {
  if (kept < 0) return;
  if (fd >= 0) syscall(SYS_dup3, kept, fd, 0);
  syscall(SYS_close, kept);
  errno = plan.error == SHORT ? ENOSPC : plan.error;
}

static int fail_output(FILE *stream) {
  REAL(fflush);
  const int kept = put_in_place(stream, "/dev/full", O_WRONLY);
  real(stream);
  put_back(kept, fileno(stream));
  return EOF;
}

/* A write to any stream but standard error. */
#define OUTPUT_FAILS(stream) ((stream) != stderr && plan.error != SHORT && FAILS(WRITE))

int vfprintf(FILE *stream, const char *format, va_list args) {
  REAL(vfprintf);
  const bool failing = OUTPUT_FAILS(stream);
  const int length = real(stream, format, args);
  return failing ? fail_output(stream) : length;
}

int fprintf(FILE *stream, const char *format, ...) {
  REAL(vfprintf);
  const bool failing = OUTPUT_FAILS(stream);
  va_list args;
  va_start(args, format);
  const int length = real(stream, format, args);
  va_end(args);
  return failing ? fail_output(stream) : length;
}

int printf(const char *format, ...) {
  REAL(vfprintf);
  const bool failing = OUTPUT_FAILS(stdout);
  va_list args;
  va_start(args, format);
  const int length = real(stdout, format, args);
  va_end(args);
  return failing ? fail_output(stdout) : length;
}

int vprintf(const char *format, va_list args) {
  REAL(vfprintf);
  const bool failing = OUTPUT_FAILS(stdout);
  const int length = real(stdout, format, args);
  return failing ? fail_output(stdout) : length;
}

int puts(const char *text) {
  REAL(puts);
  const bool failing = OUTPUT_FAILS(stdout);
  const int result = real(text);
  return failing ? fail_output(stdout) : result;
}

int putchar(int c) {
  REAL(putchar);
  const bool failing = OUTPUT_FAILS(stdout);
  const int result = real(c);
  return failing ? fail_output(stdout) : result;
}

int fputs(const char *text, FILE *stream) {
  REAL(fputs);
  const bool failing = OUTPUT_FAILS(stream);
  const int result = real(text, stream);
  return failing ? fail_output(stream) : result;
}

int fputc(int c, FILE *stream) {
  REAL(fputc);
  const bool failing = OUTPUT_FAILS(stream);
  const int result = real(c, stream);
  return failing ? fail_output(stream) : result;
}
int putc(int c, FILE *stream) __attribute__((alias("fputc")));

size_t fwrite(const void *data, size_t size, size_t count, FILE *stream) {
  REAL(fwrite);
  const bool failing = OUTPUT_FAILS(stream);
  const size_t result = real(data, size, count, stream);
  if (!failing) return result;
  fail_output(stream);
  return 0;
}

int fflush(FILE *stream) {
  REAL(fflush);
  if (!stream || !OUTPUT_FAILS(stream)) return real(stream);
  return fail_output(stream);
}

int fclose(FILE *stream) {
  REAL(fclose);
  if (!OUTPUT_FAILS(stream)) return real(stream);
  const int kept = put_in_place(stream, "/dev/full", O_WRONLY);
  real(stream);
  put_back(kept, -1);
  errno = plan.error;
  return EOF;
}

/* What the C library has read of a stream already. Calls that need no more are none: thousands would be, and no failure
 * reaches them. */
static size_t ready(const FILE *stream) { return (size_t)(stream->_IO_read_end - stream->_IO_read_ptr); }

static bool has_line(const FILE *stream, size_t most) {
  const size_t there = ready(stream), size = there < most ? there : most;
  return size == most || (size > 0 && memchr(stream->_IO_read_ptr, '\n', size));
}

#define INPUT_FAILS(stream) (plan.error != SHORT && FAILS(READ))

size_t fread(void *data, size_t size, size_t count, FILE *stream) {
  REAL(fread);
  if (size * count <= ready(stream) || !INPUT_FAILS(stream)) return real(data, size, count, stream);
  const int kept = put_in_place(stream, "/", O_RDONLY | O_DIRECTORY);
  const size_t got = real(data, size, count, stream);
  put_back(kept, fileno(stream));
  return got;
}

char *fgets(char *line, int size, FILE *stream) {
  REAL(fgets);
  if (has_line(stream, (size_t)size - 1) || !INPUT_FAILS(stream)) return real(line, size, stream);
  const int kept = put_in_place(stream, "/", O_RDONLY | O_DIRECTORY);
  char *got = real(line, size, stream);
  put_back(kept, fileno(stream));
  return got;
}

ssize_t getline(char **line, size_t *size, FILE *stream) {
  REAL(getline);
  if (has_line(stream, SIZE_MAX) || !INPUT_FAILS(stream)) return real(line, size, stream);
  const int kept = put_in_place(stream, "/", O_RDONLY | O_DIRECTORY);
  const ssize_t got = real(line, size, stream);
  put_back(kept, fileno(stream));
  return got;
}

/* ---- processes --------------------------------------------------------------------------------------------------- */

pid_t fork(void) {
  REAL(fork);
  return FAILS(PROCESS) ? -1 : real();
}

int pipe(int ends[2]) {
  REAL(pipe);
  return FAILS(PROCESS) ? -1 : real(ends);
}

int pipe2(int ends[2], int flags) {
  REAL(pipe2);
  return FAILS(PROCESS) ? -1 : real(ends, flags);
}

int socketpair(int domain, int type, int protocol, int ends[2]) {
  REAL(socketpair);
  return FAILS(PROCESS) ? -1 : real(domain, type, protocol, ends);
}

ssize_t send(int socket, const void *data, size_t size, int flags) {
  REAL(send);
  if (!FAILS(WRITE)) return real(socket, data, size, flags);
  return plan.error == SHORT ? real(socket, data, part(size), flags) : -1;
}

ssize_t recv(int socket, void *data, size_t size, int flags) {
  REAL(recv);
  if (!FAILS(READ)) return real(socket, data, size, flags);
  return plan.error == SHORT ? real(socket, data, part(size), flags) : -1;
}

int poll(struct pollfd *descriptors, nfds_t count, int milliseconds) {
  REAL(poll);
  if (!FAILS(PROCESS)) return real(descriptors, count, milliseconds);
  errno = EINTR;
  return -1;
}

pid_t waitpid(pid_t pid, int *status, int options) {
  REAL(waitpid);
  if (!FAILS(PROCESS)) return real(pid, status, options);
  errno = EINTR;
  return -1;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument) {
  REAL(pthread_create);
  return FAILS(PROCESS) ? EAGAIN : real(thread, attributes, run, argument);
}

/* ---- reports ----------------------------------------------------------------------------------------------------- */

/* "count NAME CALLS SKIPPED" of each family, then "fired TIMES OBJECT+OFFSET...": the newest frame first, ours left
 * out. */
static int report_text(char *text, size_t size) {
  int used = 0;
  for (int f = 0; f < FAMILIES; f++)
    used += snprintf(text + used, size - (size_t)used, "count %s %ld %ld\n", families[f].name,
                     atomic_load(&state->counts[f]), atomic_load(&state->skipped[f]));
  used += snprintf(text + used, size - (size_t)used, "fired %ld", atomic_load(&state->fired));
  for (int i = 0; i < state->frames; i++) {
    const int object = object_of(state->trace[i]);
    if (object >= 0 && strncmp(objects[object].name, "libfail_calls", 13) != 0)
      used += snprintf(text + used, size - (size_t)used, " %s+0x%lx", objects[object].name,
                       (unsigned long)((uintptr_t)state->trace[i] - objects[object].base));
  }
  used += snprintf(text + used, size - (size_t)used, "\n");
  return used;
}

static void write_all(int fd, const char *text, size_t size) {
  while (size > 0) {
    const ssize_t put = syscall(SYS_write, fd, text, size);
    if (put <= 0) return;
    text += put;
    size -= (size_t)put;
  }
}

static pid_t reporter; /* not a process that it forked */

static void report_at_exit(void) {
  static char text[16384];
  if (getpid() != reporter) return;
  inside++;
  const int fd = (int)syscall(SYS_openat, AT_FDCWD, getenv("FAIL_REPORT"), O_WRONLY | O_CREAT | O_TRUNC, 0666);
  write_all(fd, text, (size_t)report_text(text, sizeof text));
  syscall(SYS_close, fd);
  inside--;
}

/* ---- the server: one request, one forked process ----------------------------------------------------------------- */

typedef int (*main_function)(int, char **, char **);

enum { REQUEST = 65536, ARGUMENTS = 256 };

static char request[REQUEST];

static bool read_all(int fd, char *data, size_t size) {
  while (size > 0) {
    const ssize_t got = syscall(SYS_read, fd, data, size);
    if (got <= 0) return false;
    data += got;
    size -= (size_t)got;
  }
  return true;
}

/* The fields of a request: seconds, folder, standard output, standard error, plan (or empty), arguments. */
static int next_request(int fd, char *fields[ARGUMENTS]) {
  char digits[9] = "";
  if (!read_all(fd, digits, 8)) return 0;
  const size_t size = (size_t)strtol(digits, NULL, 10);
  if (size >= REQUEST || !read_all(fd, request, size)) return 0;
  int count = 0;
  for (char *at = request; at < request + size && count < ARGUMENTS - 1; at += strlen(at) + 1) fields[count++] = at;
  fields[count] = NULL;
  return count;
}

static void redirect(const char *path, int fd) {
  const int file = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
  if (file < 0 || syscall(SYS_dup3, file, fd, 0) < 0) die("fail_calls: cannot redirect\n");
  syscall(SYS_close, file);
}

/* Waits for the process, at most so many seconds; -1 where it had to be killed. */
static int wait_for(pid_t pid, long seconds) {
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  struct timespec now, end;
  clock_gettime(CLOCK_MONOTONIC, &end);
  end.tv_sec += seconds;
  for (;;) {
    int status;
    if (waitpid(pid, &status, WNOHANG) == pid) return status;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (now.tv_sec > end.tv_sec || (now.tv_sec == end.tv_sec && now.tv_nsec > end.tv_nsec)) break;
    const struct timespec part_of_it = {.tv_sec = 0, .tv_nsec = 100000000};
    sigtimedwait(&child, NULL, &part_of_it);
  }
  kill(-pid, SIGKILL);
  waitpid(pid, NULL, 0);
  return -1;
}

/* Returns in the forked processes alone, with the arguments of the program. */
static int serve(int in, int out, char ***argv) {
  static char *fields[ARGUMENTS];
  static char reply[16384];
  sigset_t child, before;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  sigprocmask(SIG_BLOCK, &child, &before);
  int count;
  while ((count = next_request(in, fields)) > 5) {
    memset(state, 0, sizeof *state);
    const pid_t pid = fork();
    if (pid < 0) die("fail_calls: cannot fork\n");
    if (pid == 0) {
      sigprocmask(SIG_SETMASK, &before, NULL);
      setpgid(0, 0);
      syscall(SYS_close, in);
      syscall(SYS_close, out);
      if (chdir(fields[1]) != 0) die("fail_calls: no such folder\n");
      redirect(fields[2], STDOUT_FILENO);
      redirect(fields[3], STDERR_FILENO);
      if (*fields[4]) set_plan(fields[4]);
      *argv = fields + 5;
      return count - 5;
    }
    setpgid(pid, pid);
    const int status = wait_for(pid, strtol(fields[0], NULL, 10));
    kill(-pid, SIGKILL); /* what it left behind */
    int used = snprintf(reply, sizeof reply, "status %d\n", status);
    used += report_text(reply + used, sizeof reply - (size_t)used);
    used += snprintf(reply + used, sizeof reply - (size_t)used, "end\n");
    write_all(out, reply, (size_t)used);
  }
  syscall(SYS_exit_group, 0);
  return 0;
}

/* ---- the start --------------------------------------------------------------------------------------------------- */

static main_function program_main;

/* What the environment asks for. */
static void prepare(void) {
  void *frame[2];
  backtrace(frame, 2); /* loads what it needs now, not in a failing call */
  state = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (state == MAP_FAILED) die("fail_calls: no memory\n");
  dl_iterate_phdr(note_object, NULL);
  if (getenv("FAIL_CALLS")) set_plan(getenv("FAIL_CALLS"));
  reporter = getpid();
  if (getenv("FAIL_REPORT")) atexit(report_at_exit);
}

static int wrapped_main(int argc, char **argv, char **environment) {
  int in, out;
  prepare();
  if (getenv("FAIL_SERVER")) {
    if (sscanf(getenv("FAIL_SERVER"), "%d,%d", &in, &out) != 2) die("FAIL_SERVER: IN,OUT is needed\n");
    unsetenv("FAIL_SERVER");
    argc = serve(in, out, &argv);
  }
  active = true;
  return program_main(argc, argv, environment);
}

int __libc_start_main(main_function start, int argc, char **argv, void (*init)(void), void (*fini)(void),
                      void (*loader_fini)(void), void *stack_end);
int __libc_start_main(main_function start, int argc, char **argv, void (*init)(void), void (*fini)(void),
                      void (*loader_fini)(void), void *stack_end) {
  REAL(__libc_start_main);
  program_main = start;
  return real(wrapped_main, argc, argv, init, fini, loader_fini, stack_end);
}
