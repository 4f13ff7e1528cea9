/**
 * @file before.c
 * @brief What must be known before the libraries that the program is linked to start.
 *
 * OpenBLAS maps a buffer of 128 MiB for each of its threads as it is loaded, and where it cannot it tries again for
 * ever: the program would hang before main(). So the buffers are mapped here first, and given back. Functions of
 * .preinit_array run before any library is initialized, hence system calls alone, and the environment as it is handed
 * over.
 *
 * SPDX-License-Identifier: MIT
 */
#define _GNU_SOURCE /* sched_getaffinity */
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A sanitizer's runtime is not there yet at that time. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

/* A little besides, for what the other libraries take as they start. */
enum { BUFFER = 1 << 27, BESIDES = 1 << 23, MOST = 4096 };

/* The number that the variable begins with, as atoi takes it; 0 where it is not set. */
static long number_of(char **environment, const char *name) {
  const size_t length = strlen(name);
  for (; *environment; environment++)
    if (strncmp(*environment, name, length) == 0 && (*environment)[length] == '=')
      return strtol(*environment + length + 1, NULL, 10);
  return 0;
}

/* The threads that OpenBLAS loads with: what the environment asks for, and no more than there are processors. */
static long blas_threads(char **environment) {
  static const char *const names[] = {"OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS"};
  cpu_set_t processors;
  const long there = sched_getaffinity(0, sizeof processors, &processors) == 0 ? CPU_COUNT(&processors) : 1;
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    const long asked = number_of(environment, names[i]);
    if (asked > 0) return asked < there ? asked : there;
  }
  return there < MOST ? there : MOST;
}

static void *map(size_t bytes) { return mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }

static void say(const char *text) {
  const ssize_t written = write(STDERR_FILENO, text, strlen(text));
  (void)written;
}

static void check_room(int argc, char **argv, char **environment) {
  (void)argc;
  (void)argv;
  const long threads = blas_threads(environment);
  void *buffers[MOST], *besides = map(BESIDES);
  long mapped = 0;
  while (besides != MAP_FAILED && mapped < threads && (buffers[mapped] = map(BUFFER)) != MAP_FAILED) mapped++;
  if (mapped < threads) {
    say("softntk: error: no room for the linear algebra library: it takes 128 MiB of address space for each thread as "
        "it is loaded; raise the limit (ulimit -v, ulimit -d)");
    say(threads > 1 ? ", or set OMP_NUM_THREADS=1\n" : "\n");
    _exit(4);
  }
  while (mapped > 0) munmap(buffers[--mapped], BUFFER);
  munmap(besides, BESIDES);
}

__attribute__((section(".preinit_array"), used)) static void (*const before)(int, char **, char **) = check_room;

#endif
