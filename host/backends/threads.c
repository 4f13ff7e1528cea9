/**
 * @file threads.c
 * @brief The host threads of a context: how many, and whether so many can be had.
 *
 * OpenBLAS keeps a buffer of 128 MiB of address space for each thread and one for each caller. Where it cannot map one
 * it tries again for ever, and OpenMP's library ends the process where it cannot start a thread. So both are tried here
 * first, and given back.
 *
 * SPDX-License-Identifier: MIT
 */
#include <cblas.h>
#include <ctype.h>
#include <errno.h>
#include <omp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "backends/backend.h"

enum { BLAS_BUFFER = 1 << 27 };

/* What OpenBLAS holds, of all contexts; under the lock. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int held, most_started;
static bool called;

/* ---- how many ---- */

/* Is it a list of positive whole numbers, one for each level of nesting? OpenMP's library takes all processors where
 * it is not. */
static bool is_thread_list(const char *text) {
  for (;;) {
    char *end;
    text += strspn(text, " \t");
    if (!isdigit((unsigned char)*text)) return false;
    errno = 0;
    const unsigned long value = strtoul(text, &end, 10);
    end += strspn(end, " \t");
    if (errno || value == 0) return false;
    if (!*end) return true;
    if (*end != ',') return false;
    text = end + 1;
  }
}

/* What OMP_NUM_THREADS, or its absence, comes to. */
static sntk_status threads_of_environment(sntk_context *ctx, int *threads) {
  const char *text = getenv("OMP_NUM_THREADS");
  if (text && *text && !is_thread_list(text))
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT,
                     "OMP_NUM_THREADS is \"%s\"; use a positive whole number, unset it, or give --threads", text);
  *threads = omp_get_max_threads();
  if (*threads <= SNTK_MAX_THREADS) return SNTK_OK;
  return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "OMP_NUM_THREADS asks for %d threads; use at most %d, or give --threads",
                   *threads, (int)SNTK_MAX_THREADS);
}

/* ---- can they be had ---- */

static void *wait_at_gate(void *gate) {
  pthread_mutex_lock(gate);
  pthread_mutex_unlock(gate);
  return NULL;
}

/* The stacks that OpenMP's library gives its threads: OMP_STACKSIZE in KiB, or with a unit B, K, M or G. */
static void set_stack(pthread_attr_t *attributes) {
  const char *text = getenv("OMP_STACKSIZE");
  if (!text) text = getenv("GOMP_STACKSIZE");
  if (!text) return;
  char *end;
  errno = 0;
  const unsigned long long number = strtoull(text, &end, 10);
  end += strspn(end, " \t");
  static const char units[] = "BKMG";
  const char *unit = *end ? strchr(units, toupper((unsigned char)*end)) : units + 1;
  if (errno || end == text || !unit || number >> (64 - 10 * 3 - 1)) return;
  pthread_attr_setstacksize(attributes, (size_t)number << (10 * (unit - units)));
}

/* How many of `count` threads start beside each other. */
static int start_threads(int count) {
  pthread_t *threads = calloc((size_t)count + 1, sizeof *threads);
  pthread_mutex_t gate; /* held while they are started, so that all are there at once */
  pthread_attr_t attributes;
  int started = 0;
  if (!threads) return 0;
  pthread_attr_init(&attributes);
  set_stack(&attributes);
  pthread_mutex_init(&gate, NULL);
  pthread_mutex_lock(&gate);
  while (started < count && pthread_create(&threads[started], &attributes, wait_at_gate, &gate) == 0) started++;
  pthread_mutex_unlock(&gate);
  for (int i = 0; i < started; i++) pthread_join(threads[i], NULL);
  pthread_mutex_destroy(&gate);
  pthread_attr_destroy(&attributes);
  free(threads);
  return started;
}

/* Maps `count` buffers as OpenBLAS does, starts `threads` threads beside them, and gives all back. */
static bool can_be_had(int count, int threads, int *started) {
  void **buffers = calloc((size_t)count + 1, sizeof *buffers);
  int mapped = 0;
  *started = 0;
  while (buffers && mapped < count) {
    buffers[mapped] = mmap(NULL, BLAS_BUFFER, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (buffers[mapped] == MAP_FAILED) break;
    mapped++;
  }
  const bool room = buffers && mapped == count;
  if (room) *started = start_threads(threads);
  while (mapped > 0) munmap(buffers[--mapped], BLAS_BUFFER);
  free(buffers);
  return room;
}

/* OpenBLAS serves at most as many threads as it was built for. */
static int served_threads(int threads) {
  const char *most = strstr(openblas_get_config(), "MAX_THREADS=");
  const int limit = most ? atoi(most + strlen("MAX_THREADS=")) : 0;
  return limit > 0 && limit < threads ? limit : threads;
}

/* The caller's own buffer, which OpenBLAS takes at the first call that needs one and then keeps. */
static void first_call(void) {
  const double a[4] = {1.0, 0.0, 0.0, 1.0};
  double product[4] = {0};
  cblas_dsyrk(CblasRowMajor, CblasLower, CblasNoTrans, 2, 2, 1.0, a, 2, 0.0, product, 2);
}

static sntk_status reserve(sntk_context *ctx, int threads) {
  if (held == 0) held = openblas_get_num_threads();
  const int served = served_threads(threads), callers = called ? 0 : 1;
  const int buffers = (served > held ? served - held : 0) + callers;
  const int starts = threads > most_started ? threads - 1 : 0;
  int started;
  char text[32];
  if (buffers + starts == 0) return SNTK_OK;
  if (!can_be_had(buffers, starts, &started))
    return sntk_fail(ctx, SNTK_ERR_MEMORY,
                     "%d thread%s: the linear algebra library takes %s of address space, which is not there; raise the "
                     "limit (ulimit -v, ulimit -d)%s",
                     threads, threads == 1 ? "" : "s", sntk_format_bytes((int64_t)buffers * BLAS_BUFFER, text),
                     threads == 1 ? "" : ", or use fewer --threads");
  if (started < starts)
    return sntk_fail(
        ctx, SNTK_ERR_MEMORY,
        "%d threads: no more than %d could be started; use fewer --threads, or raise the limit (ulimit -v, "
        "ulimit -u, OMP_STACKSIZE)",
        threads, started + 1);
  if (served > held) held = served;
  if (threads > most_started) most_started = threads;
  return SNTK_OK;
}

/* OpenBLAS waits for ever for a thread that OpenMP does not give it: for a limit below the number, or where OpenMP may
 * take fewer as it likes (which would change bits too). */
static sntk_status fix_number(sntk_context *ctx, int wanted, int *threads) {
  const int limit = omp_get_thread_limit();
  if (wanted > limit)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT,
                     "%d threads are asked for, and OMP_THREAD_LIMIT is %d; use fewer --threads", wanted, limit);
  if (*threads > limit) *threads = limit;
  omp_set_dynamic(0);
  if (omp_get_max_active_levels() < 1) omp_set_max_active_levels(1);
  return SNTK_OK;
}

sntk_status sntk_threads_open(sntk_context *ctx, int wanted, int *threads) {
  *threads = wanted;
  if (wanted == 0) SNTK_TRY(threads_of_environment(ctx, threads));
  SNTK_TRY(fix_number(ctx, wanted, threads));
  pthread_mutex_lock(&lock);
  const sntk_status status = reserve(ctx, *threads);
  if (status == SNTK_OK) {
    omp_set_num_threads(*threads);
    openblas_set_num_threads(*threads);
    if (!called) first_call();
    called = true;
    ctx->library_threads = *threads;
  }
  pthread_mutex_unlock(&lock);
  return status;
}

void sntk_threads_use(const sntk_context *ctx) {
  if (ctx->library_threads > 0 && omp_get_max_threads() != ctx->library_threads)
    omp_set_num_threads(ctx->library_threads);
}
