/**
 * @file cpu.c
 * @brief The cpu backend: OpenMP over tiles of neurons, fused vector passes within (kernels.h), OpenBLAS for the Gram
 * matrix.
 *
 * A pass cuts its columns into one contiguous share a thread, at borders of tiles. Each thread has its own sums, in
 * float64, and they are merged in the order of the shares: the bits depend on the shape and the number of threads,
 * not on timing. BLAS is called outside parallel regions. Every parallel region names the context's thread count:
 * scratch is cut by it, and OpenMP's own default is another context's, or another host thread's.
 *
 * SPDX-License-Identifier: MIT
 */
#include <cblas.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

#include "backends/backend.h"
#include "backends/cpu/kernels.h"
#include "softntk/rng.h"

/* Scratch buffers, grown on demand and kept: the threads' shares and their work space, their sums (or the Gram
 * matrix's inputs), numbers being generated, panels of features, their products. */
enum { SCRATCH_SHARES, SCRATCH_WORK, SCRATCH_SUMS, SCRATCH_NORMALS, SCRATCH_PANELS, SCRATCH_GRAM, SCRATCHES };

/* Neurons generated at a time: a neuron's numbers are contiguous in the stream, a column in memory. Work spaces start
 * at borders of cache lines. */
enum { GENERATE = 256, WORK_ALIGNMENT = 64 };

/* Features of a slab of the Gram matrix, about a second-level cache's half, in so many columns; and what all threads
 * may take together before they share panels and products (the engine plans for as much). */
enum { GRAM_SLAB_BYTES = 1 << 20, GRAM_COLUMNS_MIN = 128, GRAM_COLUMNS = 4096, GRAM_PRIVATE_BYTES = 1 << 25 };
enum { LIBRARY_SLAB_BYTES = 1 << 25 }; /* features at a time where the library multiplies */
enum { BRAND_CHARS = 48 };             /* of a processor's name */

typedef struct cpu_state {
  const sntk_cpu_kernels *kernels;
  void *scratch[SCRATCHES];
  int64_t bytes[SCRATCHES];
} cpu_state;

/* Is a loop over so many elements worth waking the other threads for? Below, waiting for them costs more than the work,
 * and on shared processors very much more. */
static bool pays(int64_t elements) { return elements >= 1 << 15; }

static const sntk_cpu_passes *passes_of(const sntk_context *ctx, sntk_precision type) {
  return &((const cpu_state *)ctx->backend_state)->kernels->passes[type];
}

static sntk_status scratch(sntk_context *ctx, int slot, int64_t count, size_t size, void **out) {
  cpu_state *state = ctx->backend_state;
  const int64_t bytes = sntk_size_mul(count, (int64_t)size);
  if (bytes < 0 || bytes > state->bytes[slot]) {
    free(state->scratch[slot]);
    state->bytes[slot] = 0;
    SNTK_TRY(sntk_alloc(ctx, "work space of the cpu backend", count, size, &state->scratch[slot]));
    state->bytes[slot] = bytes;
  }
  *out = state->scratch[slot];
  return SNTK_OK;
}

/* ---- opening ---- */

/* Asked of the processor itself where it answers: a file that cannot be read must not change a run's record. */
static bool brand_string(char text[BRAND_CHARS + 1]) {
#if defined(__x86_64__) || defined(__i386__)
  unsigned words[BRAND_CHARS / sizeof(unsigned)];
  for (unsigned leaf = 0; leaf < 3; leaf++) {
    unsigned *w = words + 4 * leaf;
    if (!__get_cpuid(0x80000002U + leaf, &w[0], &w[1], &w[2], &w[3])) return false;
  }
  memcpy(text, words, BRAND_CHARS);
  text[BRAND_CHARS] = '\0';
  return true;
#else
  (void)text;
  return false;
#endif
}

static void model_name(char *line, size_t size) {
  FILE *file = fopen("/proc/cpuinfo", "r");
  bool found = false;
  while (file && !found && fgets(line, (int)size, file)) found = strncmp(line, "model name", 10) == 0;
  if (file) fclose(file);
  const char *colon = found ? strchr(line, ':') : NULL;
  if (colon)
    memmove(line, colon + 1, strlen(colon));
  else
    snprintf(line, size, "unknown processor");
}

static void processor_name(char *text, size_t size) {
  char line[512];
  if (!brand_string(line) || line[strspn(line, " ")] == '\0') model_name(line, sizeof line);
  size_t begin = strspn(line, " "), end = strcspn(line, "\n");
  while (end > begin && line[end - 1] == ' ') end--;
  snprintf(text, size, "%.*s", (int)(end - begin), line + begin);
}

static sntk_status cpu_open(sntk_context *ctx, int device) {
  if (device != 0) return sntk_fail(ctx, SNTK_ERR_DEVICE, "backend cpu has no device %d; use device 0", device);
  SNTK_TRY(sntk_threads_open(ctx, ctx->threads, &ctx->threads));
  cpu_state *state = calloc(1, sizeof *state);
  if (!state) return sntk_fail(ctx, SNTK_ERR_MEMORY, "no memory for the cpu backend");
  state->kernels = sntk_cpu_kernels_pick();
  ctx->backend_state = state;
  char name[128];
  processor_name(name, sizeof name);
  /* openblas_get_parallel: 0 serial, 1 its own threads, 2 OpenMP. */
  snprintf(ctx->device_name, sizeof ctx->device_name, "%s, %s kernels, %s%s", name, state->kernels->name,
           openblas_get_config(),
           openblas_get_parallel() == 2 ? "" : " (not the OpenMP flavour: two thread pools will compete)");
  return SNTK_OK;
}

static void cpu_close(sntk_context *ctx) {
  cpu_state *state = ctx->backend_state;
  for (int i = 0; i < SCRATCHES; i++) free(state->scratch[i]);
  free(state);
  ctx->backend_state = NULL;
}

static sntk_precision cpu_precision(const sntk_context *ctx, sntk_precision wanted) {
  (void)ctx;
  return wanted;
}

static bool cpu_supports(const sntk_context *ctx, sntk_layout layout) {
  (void)ctx;
  (void)layout;
  return true;
}

/* A thread's work space, of either type: the base's statistics are taken in float64 whatever the type. */
static int64_t work_bytes(const sntk_context *ctx, int64_t samples, int64_t dim, int64_t outputs) {
  const int64_t f32 = passes_of(ctx, SNTK_F32)->work_bytes(samples, dim, outputs);
  const int64_t f64 = passes_of(ctx, SNTK_F64)->work_bytes(samples, dim, outputs);
  if (f32 < 0 || f64 < 0) return -1;
  return sntk_size_mul(sntk_size_add(f32 > f64 ? f32 : f64, WORK_ALIGNMENT) / WORK_ALIGNMENT, WORK_ALIGNMENT);
}

static sntk_status cpu_alloc(sntk_context *ctx, const char *what, int64_t bytes, void **out) {
  SNTK_TRY(sntk_alloc(ctx, what, bytes, 1, out));
  memset(*out, 0, (size_t)bytes);
  return SNTK_OK;
}

static void cpu_free(sntk_context *ctx, void *pointer) {
  (void)ctx;
  free(pointer);
}

static sntk_status cpu_copy(sntk_context *ctx, void *to, const void *from, int64_t bytes) {
  (void)ctx;
  memcpy(to, from, (size_t)bytes);
  return SNTK_OK;
}

/* ---- shares ---- */

static int halves(const sntk_neurons *v) { return v->layout == SNTK_LAYOUT_PAIRED ? 2 : 1; }

static sntk_status overflow(sntk_context *ctx, int64_t sample) {
  return sntk_fail(
      ctx, SNTK_ERR_OVERFLOW,
      "sample %lld: a logit or activation is not finite; use a smaller sigma, smaller inputs or a smaller eta",
      (long long)sample);
}

/* Threads that share the columns of v: few tiles, or little work, do not serve many. */
static int share_count(const sntk_context *ctx, sntk_precision type, const sntk_neurons *v, int64_t samples) {
  const int64_t tile = passes_of(ctx, type)->tile, tiles = (v->count + tile - 1) / tile;
  return !pays(sntk_size_mul(samples, v->count)) ? 1 : tiles < ctx->threads ? (int)tiles : ctx->threads;
}

/* The columns of v, cut into `*count` shares for passes of `type`. */
static sntk_status cut(sntk_context *ctx, sntk_precision type, const sntk_neurons *v, const sntk_samples *s,
                       sntk_cpu_share **shares, int *count) {
  const int64_t tile = passes_of(ctx, type)->tile, tiles = (v->count + tile - 1) / tile, n = s->count;
  const int64_t bytes = work_bytes(ctx, n, v->dim, v->outputs);
  const int threads = share_count(ctx, type, v, n);
  char *work;
  double input_size = 0.0;
  SNTK_TRY(scratch(ctx, SCRATCH_SHARES, ctx->threads, sizeof **shares, (void **)shares));
  SNTK_TRY(scratch(ctx, SCRATCH_WORK, ctx->threads, (size_t)bytes, (void **)&work));
#pragma omp simd reduction(max : input_size)
  for (int64_t j = 0; j < n * s->dim; j++) input_size = fabs(s->x64[j]) > input_size ? fabs(s->x64[j]) : input_size;
  for (int i = 0; i < threads; i++) {
    const int64_t first = tiles * i / threads * tile, end = tiles * (i + 1) / threads * tile;
    (*shares)[i] = (sntk_cpu_share){.v = v,
                                    .s = s,
                                    .first = first,
                                    .count = (end < v->count ? end : v->count) - first,
                                    .input_size = input_size,
                                    .work = work + (size_t)(bytes * i),
                                    .bad = n};
  }
  *count = threads;
  return SNTK_OK;
}

/* Each share's own statistics, empty; in the displaced and paired layouts at the maximum of `whole`. */
static sntk_status own_statistics(sntk_context *ctx, const sntk_neurons *v, const sntk_stats *whole, int count,
                                  sntk_stats **own) {
  const int64_t n = whole->samples, p = whole->outputs, each = n * (p + 2);
  char *memory;
  SNTK_TRY(scratch(ctx, SCRATCH_SUMS, count, sizeof **own + (size_t)each * sizeof(double), (void **)&memory));
  *own = (sntk_stats *)(void *)memory;
  double *numbers = (double *)(void *)(memory + (size_t)count * sizeof **own);
  for (int i = 0; i < count; i++, numbers += each) {
    (*own)[i] = (sntk_stats){.samples = n, .outputs = p, .max = numbers, .sum = numbers + n, .t = numbers + 2 * n};
    memset(numbers, 0, (size_t)each * sizeof *numbers);
    for (int64_t j = 0; j < n && v->activation == SNTK_SOFTMAX; j++)
      numbers[j] = v->layout == SNTK_LAYOUT_PLAIN ? -INFINITY : whole->max[j];
  }
  return SNTK_OK;
}

static void merge_statistics(const sntk_stats *own, int count, sntk_stats *whole) {
  const int64_t n = whole->samples, p = whole->outputs;
  for (int i = 0; i < count; i++) {
    for (int64_t j = 0; j < n; j++)
      sntk_merge(&whole->max[j], &whole->sum[j], &whole->t[j * p], own[i].max[j], own[i].sum[j], &own[i].t[j * p], p);
    whole->shift_max = fmax(whole->shift_max, own[i].shift_max);
  }
}

/* The first sample that met a number that is not finite, as an error. */
static sntk_status check_shares(sntk_context *ctx, const sntk_cpu_share *shares, int count) {
  int64_t bad = shares[0].bad;
  for (int i = 1; i < count; i++) bad = shares[i].bad < bad ? shares[i].bad : bad;
  return bad < shares[0].s->count ? overflow(ctx, bad) : SNTK_OK;
}

/* ---- random numbers ---- */

static sntk_status cpu_random_weights(sntk_context *ctx, const sntk_source *source, int64_t first, sntk_neurons *v) {
  const int64_t d = v->dim;
  const bool halved = source->symmetric && v->layout != SNTK_LAYOUT_PAIRED;
  const int64_t blocks = (v->count + GENERATE - 1) / GENERATE;
  const float sigma = (float)source->sigma;
  float *buffers;
  SNTK_TRY(scratch(ctx, SCRATCH_NORMALS, (int64_t)ctx->threads * (GENERATE / (halved ? 2 : 1) + 1) * d, sizeof(float),
                   (void **)&buffers));
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (pays(v->count * d))
  for (int64_t block = 0; block < blocks; block++) {
    float *normals = buffers + (int64_t)omp_get_thread_num() * (GENERATE / (halved ? 2 : 1) + 1) * d;
    const int64_t at = block * GENERATE, end = at + GENERATE < v->count ? at + GENERATE : v->count;
    const int64_t q0 = halved ? (first + at) / 2 : first + at, q1 = halved ? (first + end - 1) / 2 : first + end - 1;
    sntk_rng_normals(source->seed, SNTK_STREAM_WEIGHTS, (uint64_t)(d * q0), (q1 - q0 + 1) * d, normals);
    for (int64_t k = 0; k < d; k++)
      for (int64_t r = at; r < end; r++) {
        const int64_t q = halved ? (first + r) / 2 : first + r;
        const float w = sigma * normals[(q - q0) * d + k];
        if (v->type == SNTK_F32)
          ((float *)v->base)[k * v->ld + r] = w;
        else
          ((double *)v->base)[k * v->ld + r] = w;
      }
  }
  return SNTK_OK;
}

static sntk_status cpu_random_signs(sntk_context *ctx, const sntk_source *source, int64_t first, sntk_neurons *v) {
  const bool halved = source->symmetric && v->layout != SNTK_LAYOUT_PAIRED;
  const int64_t p = v->outputs, blocks = (v->count + GENERATE - 1) / GENERATE;
  uint32_t *buffers;
  SNTK_TRY(
      scratch(ctx, SCRATCH_NORMALS, (int64_t)ctx->threads * (GENERATE + 1) * p, sizeof *buffers, (void **)&buffers));
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (pays(v->count * p * 8))
  for (int64_t block = 0; block < blocks; block++) {
    uint32_t *words = buffers + (int64_t)omp_get_thread_num() * (GENERATE + 1) * p;
    const int64_t at = block * GENERATE, end = at + GENERATE < v->count ? at + GENERATE : v->count;
    const int64_t q0 = halved ? (first + at) / 2 : first + at, q1 = halved ? (first + end - 1) / 2 : first + end - 1;
    sntk_rng_words(source->seed, SNTK_STREAM_SIGNS, (uint64_t)(p * q0), (q1 - q0 + 1) * p, words);
    for (int64_t l = 0; l < p; l++)
      for (int64_t r = at; r < end; r++) {
        const int64_t q = halved ? (first + r) / 2 : first + r;
        const int flip = halved && (first + r) % 2 ? -1 : 1;
        v->signs[l * v->ld_signs + r] = (int8_t)(words[(q - q0) * p + l] >> 31 ? -flip : flip);
      }
  }
  return SNTK_OK;
}

/* ---- passes ---- */

static sntk_status cpu_statistics(sntk_context *ctx, const sntk_neurons *v, const sntk_samples *s, sntk_stats *stats) {
  sntk_cpu_share *shares;
  sntk_stats *own;
  int count;
  SNTK_TRY(cut(ctx, v->type, v, s, &shares, &count));
  SNTK_TRY(own_statistics(ctx, v, stats, count, &own));
#pragma omp parallel for num_threads(count) schedule(static, 1) if (count > 1)
  for (int i = 0; i < count; i++) passes_of(ctx, v->type)->statistics(&shares[i], &own[i]);
  merge_statistics(own, count, stats);
  return check_shares(ctx, shares, count);
}

/* float64 throughout: the passes of the wide type widen the base as they pack it. In the paired layout the two neurons
 * of a pair share the base: the sums count twice and the signed sums cancel exactly. */
static sntk_status cpu_base_statistics(sntk_context *ctx, const sntk_neurons *v, const sntk_samples *s,
                                       sntk_stats *stats) {
  const int64_t n = s->count, p = v->outputs;
  sntk_neurons base = *v;
  sntk_cpu_share *shares;
  sntk_stats *own;
  int count;
  base.layout = SNTK_LAYOUT_PLAIN;
  SNTK_TRY(cut(ctx, SNTK_F64, &base, s, &shares, &count));
  SNTK_TRY(own_statistics(ctx, &base, stats, count, &own));
#pragma omp parallel for num_threads(count) schedule(static, 1) if (count > 1)
  for (int i = 0; i < count; i++) passes_of(ctx, SNTK_F64)->statistics(&shares[i], &own[i]);
  for (int i = 0; i < count && v->layout == SNTK_LAYOUT_PAIRED; i++) {
    for (int64_t j = 0; j < n; j++) own[i].sum[j] *= 2.0;
    memset(own[i].t, 0, (size_t)(n * p) * sizeof(double));
  }
  merge_statistics(own, count, stats);
  return check_shares(ctx, shares, count);
}

static sntk_status cpu_gradient(sntk_context *ctx, const sntk_neurons *v, const sntk_samples *s, const sntk_pull *pull,
                                void *const out[2], int64_t ld) {
  sntk_cpu_share *shares;
  int count;
  SNTK_TRY(cut(ctx, v->type, v, s, &shares, &count));
#pragma omp parallel for num_threads(count) schedule(static, 1) if (count > 1)
  for (int i = 0; i < count; i++) passes_of(ctx, v->type)->gradient(&shares[i], pull, out, ld);
  return SNTK_OK;
}

static sntk_status cpu_descent(sntk_context *ctx, sntk_neurons *v, const sntk_samples *s, const sntk_pull *pull,
                               double eta, double norms[2], sntk_stats *next) {
  sntk_cpu_share *shares;
  sntk_stats *own = NULL;
  int count;
  SNTK_TRY(cut(ctx, v->type, v, s, &shares, &count));
  if (next) SNTK_TRY(own_statistics(ctx, v, next, count, &own));
#pragma omp parallel for num_threads(count) schedule(static, 1) if (count > 1)
  for (int i = 0; i < count; i++) passes_of(ctx, v->type)->descent(&shares[i], pull, eta, next ? &own[i] : NULL);
  for (int i = 0; i < count; i++) {
    norms[0] += shares[i].norms[0];
    norms[1] += shares[i].norms[1];
  }
  if (!next) return SNTK_OK;
  merge_statistics(own, count, next);
  return check_shares(ctx, shares, count);
}

static sntk_status cpu_push(sntk_context *ctx, const sntk_neurons *v, const sntk_samples *s, const double *max,
                            const double *sum, const void *const direction[2], int64_t ld, double *dot, double *mean) {
  const int64_t n = s->count, p = v->outputs, each = n * (p + 1);
  sntk_cpu_share *shares;
  double *sums;
  int count;
  SNTK_TRY(cut(ctx, v->type, v, s, &shares, &count));
  SNTK_TRY(scratch(ctx, SCRATCH_SUMS, count * each, sizeof *sums, (void **)&sums));
  memset(sums, 0, (size_t)(count * each) * sizeof *sums);
#pragma omp parallel for num_threads(count) schedule(static, 1) if (count > 1)
  for (int i = 0; i < count; i++)
    passes_of(ctx, v->type)->push(&shares[i], max, direction, ld, sums + i * each, sums + i * each + n * p);
  for (int i = 0; i < count; i++)
    for (int64_t j = 0; j < n; j++) {
      const double factor = v->activation == SNTK_SOFTMAX ? 1.0 / sum[j] : 1.0;
      for (int64_t l = 0; l < p; l++) dot[j * p + l] += factor * sums[i * each + j * p + l];
      mean[j] += factor * sums[i * each + n * p + j];
    }
  return SNTK_OK;
}

/* ---- the Gram matrix ---- */

static sntk_status cpu_features(sntk_context *ctx, const sntk_neurons *v, const sntk_samples *s, const double *max,
                                const double *sum, const double *away, void *u, int64_t ld) {
  sntk_cpu_share *shares;
  int count;
  SNTK_TRY(cut(ctx, v->type, v, s, &shares, &count));
#pragma omp parallel for num_threads(count) schedule(static, 1) if (count > 1)
  for (int i = 0; i < count; i++) passes_of(ctx, v->type)->features(&shares[i], max, sum, away, u, ld);
  return SNTK_OK;
}

/* gram += product, lower triangles. */
static void add_lower(const sntk_context *ctx, const float *product, int64_t rows, double *gram) {
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (pays(rows * rows))
  for (int64_t a = 0; a < rows; a++)
    for (int64_t c = 0; c <= a; c++) gram[a * rows + c] += (double)product[a * rows + c];
}

static sntk_status cpu_gram_add(sntk_context *ctx, sntk_precision type, const void *u, int64_t rows, int64_t cols,
                                int64_t ld, double *gram) {
  sntk_threads_use(ctx);
  if (type == SNTK_F64) {
    cblas_dsyrk(CblasRowMajor, CblasLower, CblasNoTrans, (int)rows, (int)cols, 1.0, u, (int)ld, 1.0, gram, (int)rows);
    return SNTK_OK;
  }
  float *product;
  SNTK_TRY(scratch(ctx, SCRATCH_GRAM, rows * rows, sizeof *product, (void **)&product));
  cblas_ssyrk(CblasRowMajor, CblasLower, CblasNoTrans, (int)rows, (int)cols, 1.0f, u, (int)ld, 0.0f, product,
              (int)rows);
  add_lower(ctx, product, rows, gram);
  return SNTK_OK;
}

static sntk_status cpu_feature_change(sntk_context *ctx, const sntk_neurons *v, const sntk_samples *s,
                                      const sntk_change *change, void *du, void *um, int64_t ld) {
  sntk_cpu_share *shares;
  int count;
  SNTK_TRY(cut(ctx, v->type, v, s, &shares, &count));
#pragma omp parallel for num_threads(count) schedule(static, 1) if (count > 1)
  for (int i = 0; i < count; i++) passes_of(ctx, v->type)->feature_change(&shares[i], change, du, um, ld);
  return SNTK_OK;
}

static sntk_status cpu_gram_add_change(sntk_context *ctx, sntk_precision type, const void *du, const void *um,
                                       int64_t rows, int64_t cols, int64_t ld, double *gram) {
  sntk_threads_use(ctx);
  if (type == SNTK_F64) {
    cblas_dsyr2k(CblasRowMajor, CblasLower, CblasNoTrans, (int)rows, (int)cols, 1.0, du, (int)ld, um, (int)ld, 1.0,
                 gram, (int)rows);
    return SNTK_OK;
  }
  float *product;
  SNTK_TRY(scratch(ctx, SCRATCH_GRAM, rows * rows, sizeof *product, (void **)&product));
  cblas_ssyr2k(CblasRowMajor, CblasLower, CblasNoTrans, (int)rows, (int)cols, 1.0f, du, (int)ld, um, (int)ld, 0.0f,
               product, (int)rows);
  add_lower(ctx, product, rows, gram);
  return SNTK_OK;
}

/* Sizes of a Gram matrix: rows in panels of a tile, columns in slabs. */
typedef struct gram_shape {
  int64_t rows, panels, sample_panels;
  int64_t each, columns; /* features a column, columns a slab */
  int64_t panel_bytes, product_bytes;
  int groups; /* that work on their own: as many as threads where their products fit, else one */
} gram_shape;

static gram_shape shape_of_gram(const sntk_context *ctx, sntk_precision type, int64_t samples, int64_t outputs,
                                int64_t each, int64_t columns) {
  const int64_t tile = passes_of(ctx, type)->tile, size = (int64_t)sntk_type_size(type);
  gram_shape g = {.rows = sntk_size_mul(samples, outputs), .each = each};
  g.panels = sntk_size_add(g.rows, tile - 1) / tile;
  g.sample_panels = (samples + tile - 1) / tile;
  const int64_t fit = GRAM_SLAB_BYTES / size / (g.panels * tile) / each;
  g.columns = fit > GRAM_COLUMNS ? GRAM_COLUMNS : fit < GRAM_COLUMNS_MIN ? GRAM_COLUMNS_MIN : fit;
  if (g.columns > columns) g.columns = columns;
  g.panel_bytes = sntk_size_mul(sntk_size_mul(g.panels * tile, each * g.columns), size);
  g.product_bytes = sntk_size_mul(sntk_size_mul(g.panels, g.panels + 1) / 2, tile * tile * size);
  const bool apart = ctx->threads <= 2 || g.product_bytes + g.panel_bytes <= GRAM_PRIVATE_BYTES / ctx->threads;
  g.groups = apart ? ctx->threads : 1;
  return g;
}

/* U U^T of columns [first, first + count) into products, by one thread. */
static void multiply_alone(const sntk_cpu_passes *passes, const gram_shape *g, sntk_cpu_share *share,
                           const void *inputs, void *panels, void *products) {
  for (int64_t at = 0; at < share->count; at += g->columns) {
    const int64_t here = share->count - at < g->columns ? share->count - at : g->columns;
    for (int64_t panel = 0; panel < g->sample_panels; panel++)
      passes->gram_panel(share, panel, inputs, share->first + at, here, panels, g->each * g->columns);
    for (int64_t row = 0; row < g->panels; row++)
      passes->gram_row(row, panels, g->each * here, g->each * g->columns, products);
  }
}

/* The same of all columns by all threads of a parallel region: a block belongs to one thread at a time and its sums run
 * over the slabs in order, so the bits do not depend on who takes what. */
static void multiply_together(const sntk_cpu_passes *passes, const gram_shape *g, sntk_cpu_share *share,
                              const void *inputs, void *panels, void *products) {
  for (int64_t at = 0; at < share->v->count; at += g->columns) {
    const int64_t here = share->v->count - at < g->columns ? share->v->count - at : g->columns;
#pragma omp for schedule(dynamic, 1)
    for (int64_t panel = 0; panel < g->sample_panels; panel++)
      passes->gram_panel(share, panel, inputs, at, here, panels, g->each * g->columns);
#pragma omp for schedule(dynamic, 1)
    for (int64_t i = 0; i < g->panels; i++) /* the longest first */
      passes->gram_row(g->panels - 1 - i, panels, g->each * here, g->each * g->columns, products);
  }
}

/* Columns of a slab of features for the library. */
static int64_t library_columns(const sntk_neurons *v, int64_t rows, int64_t each) {
  int64_t columns = LIBRARY_SLAB_BYTES / (int64_t)sntk_type_size(v->type) / rows / each;
  if (columns < GRAM_COLUMNS_MIN) columns = GRAM_COLUMNS_MIN;
  return columns > v->count ? v->count : columns;
}

/* U U^T by way of a slab of U and the matrix library: where vectors are too short for products of our own. */
static sntk_status multiply_by_library(sntk_context *ctx, const sntk_neurons *v, const sntk_samples *s,
                                       const double *max, const double *sum, const double *away, double *gram) {
  const int64_t rows = s->count * v->outputs, each = halves(v), columns = library_columns(v, rows, each);
  void *u;
  SNTK_TRY(scratch(ctx, SCRATCH_PANELS, sntk_size_mul(rows, each * columns), sntk_type_size(v->type), &u));
  for (int64_t at = 0; at < v->count; at += columns) {
    const int64_t here = v->count - at < columns ? v->count - at : columns;
    const sntk_neurons slab = sntk_neurons_slice(v, at, here);
    SNTK_TRY(cpu_features(ctx, &slab, s, max, sum, away, u, each * here));
    SNTK_TRY(cpu_gram_add(ctx, v->type, u, rows, each * here, each * here, gram));
  }
  return SNTK_OK;
}

/* Slab by slab of columns: panels of features, small enough for a cache, then their products. Where memory allows, each
 * thread has its own columns, panels and products, so that nothing passes between caches. */
static sntk_status cpu_gram(sntk_context *ctx, const sntk_neurons *v, const sntk_samples *s, const double *max,
                            const double *sum, const double *away, double *gram) {
  const sntk_cpu_passes *passes = passes_of(ctx, v->type);
  gram_shape g = shape_of_gram(ctx, v->type, s->count, v->outputs, halves(v), v->count);
  sntk_cpu_share *shares;
  char *panels, *products;
  void *inputs;
  int count;
  if (!passes->gram_row) return multiply_by_library(ctx, v, s, max, sum, away, gram);
  SNTK_TRY(cut(ctx, v->type, v, s, &shares, &count));
  if (g.groups > count) g.groups = count;
  SNTK_TRY(scratch(ctx, SCRATCH_PANELS, g.groups, (size_t)g.panel_bytes, (void **)&panels));
  SNTK_TRY(scratch(ctx, SCRATCH_GRAM, g.groups, (size_t)g.product_bytes, (void **)&products));
  SNTK_TRY(scratch(ctx, SCRATCH_SUMS, g.sample_panels * passes->tile * v->dim, sntk_type_size(v->type), &inputs));
  memset(panels, 0, (size_t)(g.panel_bytes * g.groups)); /* rows past the last stay zero */
  memset(products, 0, (size_t)(g.product_bytes * g.groups));
  /* OpenMP may give fewer threads than were asked for: shares are given out, not assumed. */
#pragma omp parallel for num_threads(count) schedule(static, 1) if (count > 1)
  for (int i = 0; i < count; i++) passes->gram_ready(&shares[i], max, sum, away);
#pragma omp parallel for num_threads(count) schedule(static) if (count > 1)
  for (int64_t panel = 0; panel < g.sample_panels; panel++) passes->gram_inputs(&shares[0], panel, inputs);
  if (g.groups == count) {
#pragma omp parallel for num_threads(count) schedule(static, 1) if (count > 1)
    for (int i = 0; i < count; i++)
      multiply_alone(passes, &g, &shares[i], inputs, panels + (size_t)(i * g.panel_bytes),
                     products + (size_t)(i * g.product_bytes));
  } else {
#pragma omp parallel num_threads(count)
    multiply_together(passes, &g, &shares[omp_get_thread_num()], inputs, panels, products);
  }
#pragma omp parallel for num_threads(count) schedule(dynamic, 1) if (count > 1)
  for (int64_t i = 0; i < g.panels; i++)
    for (int group = 0; group < g.groups; group++)
      passes->gram_flush(g.panels - 1 - i, products + (size_t)(group * g.product_bytes), g.rows, gram);
  return SNTK_OK;
}

static sntk_status cpu_gram_finish(sntk_context *ctx, const sntk_samples *s, int64_t outputs, double *gram) {
  const int64_t n = s->count, size = n * outputs;
  double *k;
  SNTK_TRY(sntk_alloc(ctx, "inner products of the inputs", n * n, sizeof *k, (void **)&k));
  sntk_threads_use(ctx);
  cblas_dsyrk(CblasRowMajor, CblasLower, CblasNoTrans, (int)n, (int)s->dim, 1.0, s->x64, (int)s->dim, 0.0, k, (int)n);
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (pays(size * size))
  for (int64_t a = 0; a < size; a++)
    for (int64_t c = 0; c <= a; c++) {
      const int64_t i = a % n, j = c % n;
      gram[a * size + c] *= i >= j ? k[i * n + j] : k[j * n + i];
    }
  free(k);
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (pays(size * size))
  for (int64_t a = 0; a < size; a++) /* the upper triangle is written only, the lower one read only */
    for (int64_t c = a + 1; c < size; c++) gram[a * size + c] = gram[c * size + a];
  return SNTK_OK;
}

/* ---- the gradient of the kernel's products ---- */

static double element(const void *matrix, int64_t index, sntk_precision type) {
  return type == SNTK_F32 ? (double)((const float *)matrix)[index] : ((const double *)matrix)[index];
}

static void set_element(void *matrix, int64_t index, sntk_precision type, double value) {
  if (type == SNTK_F32)
    ((float *)matrix)[index] = (float)value;
  else
    ((double *)matrix)[index] = value;
}

/* c (rows x cols) = alpha op(a) b, or that added to what is there. */
static void multiply(sntk_precision type, CBLAS_TRANSPOSE op, int64_t rows, int64_t cols, int64_t terms, double alpha,
                     const void *a, int64_t lda, const void *b, int64_t ldb, bool more, void *c, int64_t ldc) {
  if (type == SNTK_F32)
    cblas_sgemm(CblasRowMajor, op, CblasNoTrans, (int)rows, (int)cols, (int)terms, (float)alpha, a, (int)lda, b,
                (int)ldb, more ? 1.0f : 0.0f, c, (int)ldc);
  else
    cblas_dgemm(CblasRowMajor, op, CblasNoTrans, (int)rows, (int)cols, (int)terms, alpha, a, (int)lda, b, (int)ldb,
                more ? 1.0 : 0.0, c, (int)ldc);
}

/* A slab of columns under way. */
typedef struct pull_slab {
  int64_t columns;
  void *u, *v; /* np x columns: features, and 2 M times them */
  void *t;     /* n x columns: softmax's sqrt(m) S, relu's logits, then what X^T multiplies */
  int8_t *ones;
} pull_slab;

/* sums_il += sum_j v_(il)j sqrt(m) S_ij: sqrt(m) S are the features of one output without mean and of signs +1. */
static sntk_status slab_sums(sntk_context *ctx, const sntk_neurons *part, const sntk_samples *s, const double *max,
                             const double *sum, const pull_slab *slab, const double *units, double *sums) {
  const int64_t n = s->count, p = part->outputs, b = part->count;
  sntk_neurons positive = *part;
  positive.outputs = 1;
  positive.signs = slab->ones;
  positive.ld_signs = b;
  SNTK_TRY(cpu_features(ctx, &positive, s, max, sum, units, slab->t, b));
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (pays(n * p * b))
  for (int64_t row = 0; row < n * p; row++) {
    const int64_t i = row % n, l = row / n;
    double total = 0.0;
    for (int64_t j = 0; j < b; j++)
      total += element(slab->v, row * b + j, part->type) * element(slab->t, i * b + j, part->type);
    sums[i * p + l] += total;
  }
  return SNTK_OK;
}

/* t_ij = sum_l v_(il)j w_(il)j. */
static void slab_pull(const sntk_context *ctx, const sntk_neurons *part, const sntk_samples *s, const double *band,
                      const pull_slab *slab) {
  const int64_t n = s->count, p = part->outputs, b = part->count, d = part->dim;
  const bool relu = part->activation == SNTK_RELU;
  const double root = sqrt((double)part->width);
  if (relu) {
    multiply(part->type, CblasNoTrans, n, b, d, 1.0, s->x, d, part->base, part->ld, false, slab->t, b);
    if (part->shift[0])
      multiply(part->type, CblasNoTrans, n, b, d, 1.0, s->x, d, part->shift[0], part->ld, true, slab->t, b);
  }
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (pays(n * p * b))
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < b; j++) {
      double total = 0.0;
      const bool inside = relu && fabs(element(slab->t, i * b + j, part->type)) < band[i];
      for (int64_t l = 0; l < p && (!relu || inside); l++) {
        const int64_t at = (i + n * l) * b + j;
        const double slope = relu ? (double)part->signs[l * part->ld_signs + j] / (2.0 * band[i] * root)
                                  : element(slab->u, at, part->type);
        total += element(slab->v, at, part->type) * slope;
      }
      set_element(slab->t, i * b + j, part->type, total);
    }
}

static sntk_status cpu_kernel_gradient(sntk_context *ctx, const sntk_neurons *v, const sntk_samples *s,
                                       const double *max, const double *sum, const double *away, const double *band,
                                       const double *matrix, void *out, int64_t ld, double *sums) {
  const int64_t n = s->count, rows = n * v->outputs, size = (int64_t)sntk_type_size(v->type);
  pull_slab slab = {.columns = library_columns(v, rows, 1)};
  double *units; /* A - f without f */
  char *memory;
  void *m;
  SNTK_TRY(scratch(ctx, SCRATCH_SUMS, 2 * n, sizeof *units, (void **)&units));
  SNTK_TRY(scratch(ctx, SCRATCH_PANELS, sntk_size_mul(slab.columns, (2 * rows + n) * size + 1), 1, (void **)&memory));
  SNTK_TRY(scratch(ctx, SCRATCH_GRAM, sntk_size_mul(rows, rows), (size_t)size, &m));
  sntk_threads_use(ctx);
  for (int64_t i = 0; i < 2 * n; i++) units[i] = i % 2 ? -1.0 : 1.0;
  for (int64_t j = 0; j < rows * rows; j++) set_element(m, j, v->type, matrix[j]);
  slab.u = memory;
  slab.v = memory + rows * slab.columns * size;
  slab.t = memory + 2 * rows * slab.columns * size;
  slab.ones = (int8_t *)memory + (2 * rows + n) * slab.columns * size;
  memset(slab.ones, 1, (size_t)slab.columns);
  for (int64_t at = 0; at < v->count; at += slab.columns) {
    const int64_t b = v->count - at < slab.columns ? v->count - at : slab.columns;
    const sntk_neurons part = sntk_neurons_slice(v, at, b);
    SNTK_TRY(cpu_features(ctx, &part, s, max, sum, away, slab.u, b));
    multiply(v->type, CblasNoTrans, rows, b, rows, 2.0, m, rows, slab.u, b, false, slab.v, b);
    if (sums) {
      SNTK_TRY(slab_sums(ctx, &part, s, max, sum, &slab, units, sums));
      continue;
    }
    slab_pull(ctx, &part, s, band, &slab);
    multiply(v->type, CblasTrans, v->dim, b, n, 1.0, s->x, v->dim, slab.t, b, false, (char *)out + at * size, ld);
  }
  return SNTK_OK;
}

/* LAPACK, from the same library as the BLAS; eigenvalues only, so its own workspace is small. */
extern void dsyevd_(const char *jobz, const char *uplo, const int *n, double *a, const int *lda, double *w,
                    double *work, const int *lwork, int *iwork, const int *liwork, int *info, size_t jobz_length,
                    size_t uplo_length);

static sntk_status cpu_eigenvalues(sntk_context *ctx, double *matrix, int64_t size, double *values) {
  if (size > INT32_MAX / 64)
    return sntk_fail(ctx, SNTK_ERR_SHAPE, "eigenvalues of a matrix of order %lld: the solver takes at most %d",
                     (long long)size, INT32_MAX / 64);
  for (int64_t i = 0; i < size * size; i++)
    if (!isfinite(matrix[i])) return sntk_fail(ctx, SNTK_ERR_NUMERICAL, "eigenvalues of a matrix that is not finite");
  const int n = (int)size;
  int query = -1, iwork_size = 0, info = 0;
  double work_size = 0.0;
  sntk_threads_use(ctx);
  dsyevd_("N", "L", &n, matrix, &n, values, &work_size, &query, &iwork_size, &query, &info, 1, 1);
  const int lwork = (int)work_size, liwork = iwork_size;
  double *work = NULL;
  int *iwork = NULL;
  sntk_status status = sntk_alloc(ctx, "work space for eigenvalues", lwork, sizeof *work, (void **)&work);
  if (status == SNTK_OK) status = sntk_alloc(ctx, "work space for eigenvalues", liwork, sizeof *iwork, (void **)&iwork);
  if (status == SNTK_OK) {
    dsyevd_("N", "L", &n, matrix, &n, values, work, &lwork, iwork, &liwork, &info, 1, 1);
    if (info != 0)
      status = sntk_fail(ctx, SNTK_ERR_NUMERICAL, "eigenvalues did not converge (dsyevd: info %d, order %d)", info, n);
  }
  free(work);
  free(iwork);
  return status;
}

/* ---- weights ---- */

static sntk_status cpu_movement(sntk_context *ctx, const sntk_neurons *v, const void *origin, int64_t ld,
                                double *movement) {
  double largest = 0.0; /* of the squares: a thread's own copy starts far below zero, where its root has no meaning */
  for (int h = 0; h < halves(v); h++) {
    const void *shift = v->shift[h];
    if (!shift && !origin) continue; /* plain weights are their own base */
#pragma omp parallel for num_threads(ctx->threads) schedule(static) reduction(max                                      \
                                                                              : largest) if (pays(v->count * v->dim))
    for (int64_t block = 0; block < v->count; block += GENERATE) {
      double squares[GENERATE] = {0.0};
      const int64_t end = block + GENERATE < v->count ? block + GENERATE : v->count;
      for (int64_t k = 0; k < v->dim; k++)
        for (int64_t r = block; r < end; r++) {
          double moved = shift ? element(shift, k * v->ld + r, v->type) : 0.0;
          if (origin) moved += element(v->base, k * v->ld + r, v->type) - element(origin, k * ld + r, v->type);
          squares[r - block] += moved * moved;
        }
      for (int64_t j = 0; j < end - block; j++) largest = squares[j] > largest ? squares[j] : largest;
    }
  }
  *movement = fmax(*movement, sqrt(largest));
  return SNTK_OK;
}

static sntk_status cpu_move_base(sntk_context *ctx, sntk_neurons *v) {
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (pays(v->count * v->dim))
  for (int64_t k = 0; k < v->dim; k++)
    for (int64_t r = 0; r < v->count; r++) {
      const int64_t at = k * v->ld + r;
      const double base = element(v->base, at, v->type), shift = element(v->shift[0], at, v->type);
      set_element(v->base, at, v->type, base + shift);
      const double moved = element(v->base, at, v->type);
      /* Exact in float64 for float32 values; for float64 values Knuth's two-sum. */
      const double part = moved - base;
      set_element(v->shift[0], at, v->type, (base - (moved - part)) + (shift - part));
    }
  return SNTK_OK;
}

/* Signs of single neurons: in the paired layout each column gives two, with opposite signs. */
static void single_signs(const sntk_neurons *v, sntk_neurons *to) {
  const int each = halves(v);
  for (int64_t l = 0; l < v->outputs; l++)
    for (int64_t q = 0; q < v->count; q++)
      for (int h = 0; h < each; h++) {
        const int8_t sign = v->signs[l * v->ld_signs + q];
        to->signs[l * to->ld_signs + each * q + h] = (int8_t)(h ? -sign : sign);
      }
}

static sntk_status cpu_unpair(sntk_context *ctx, const sntk_neurons *paired, sntk_neurons *to) {
  const size_t size = sntk_type_size(paired->type);
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (pays(paired->dim * paired->count))
  for (int64_t k = 0; k < paired->dim; k++)
    for (int64_t q = 0; q < paired->count; q++)
      for (int h = 0; h < 2; h++) {
        const int64_t from = k * paired->ld + q, at = k * to->ld + 2 * q + h;
        memcpy((char *)to->base + (size_t)at * size, (const char *)paired->base + (size_t)from * size, size);
        memcpy((char *)to->shift[0] + (size_t)at * size, (const char *)paired->shift[h] + (size_t)from * size, size);
      }
  single_signs(paired, to);
  return SNTK_OK;
}

static sntk_status cpu_read_weights(sntk_context *ctx, const sntk_neurons *v, double *out, int64_t ld) {
  (void)ctx;
  const int each = halves(v);
  for (int64_t k = 0; k < v->dim; k++)
    for (int64_t r = 0; r < v->count; r++)
      for (int h = 0; h < each; h++) {
        const int64_t at = k * v->ld + r;
        out[k * ld + each * r + h] =
            element(v->base, at, v->type) + (v->shift[h] ? element(v->shift[h], at, v->type) : 0.0);
      }
  return SNTK_OK;
}

static sntk_status cpu_widen(sntk_context *ctx, const sntk_neurons *v, sntk_neurons *to) {
  SNTK_TRY(cpu_read_weights(ctx, v, to->base, to->ld));
  single_signs(v, to);
  return SNTK_OK;
}

/* ---- memory ---- */

/* The largest of each scratch buffer above, and what a call holds beside them. Of a product by the library half is
 * written, the lower triangle. */
static void plan_gram(const sntk_context *ctx, const sntk_neurons *v, int64_t n, sntk_plan *plan) {
  const sntk_cpu_passes *passes = passes_of(ctx, v->type);
  const int64_t rows = sntk_size_mul(n, v->outputs), size = (int64_t)sntk_type_size(v->type);
  if (!passes->gram_row) {
    const int64_t features = sntk_size_mul(rows, halves(v) * library_columns(v, rows, halves(v)));
    sntk_plan_scratch(plan, SCRATCH_PANELS, sntk_size_mul(features, size));
    if (v->type == SNTK_F32) sntk_plan_scratch(plan, SCRATCH_GRAM, sntk_size_mul(sntk_size_mul(rows, rows), size / 2));
    return;
  }
  const gram_shape g = shape_of_gram(ctx, v->type, n, v->outputs, halves(v), v->count);
  const int count = share_count(ctx, v->type, v, n), groups = g.groups < count ? g.groups : count;
  sntk_plan_scratch(plan, SCRATCH_PANELS, sntk_size_mul(groups, g.panel_bytes));
  sntk_plan_scratch(plan, SCRATCH_GRAM, sntk_size_mul(groups, g.product_bytes));
  sntk_plan_scratch(plan, SCRATCH_SUMS, sntk_size_mul(sntk_size_mul(g.sample_panels * passes->tile, v->dim), size));
}

static void plan_kernel_gradient(const sntk_neurons *v, int64_t n, sntk_plan *plan) {
  const int64_t rows = sntk_size_mul(n, v->outputs), size = (int64_t)sntk_type_size(v->type);
  const int64_t column = sntk_size_add(sntk_size_mul(sntk_size_add(sntk_size_mul(2, rows), n), size), 1);
  sntk_plan_scratch(plan, SCRATCH_PANELS, sntk_size_mul(library_columns(v, rows, 1), column));
  sntk_plan_scratch(plan, SCRATCH_GRAM, sntk_size_mul(sntk_size_mul(rows, rows), size));
  sntk_plan_scratch(plan, SCRATCH_SUMS, sntk_size_mul(2 * n, sizeof(double)));
}

static void cpu_plan(const sntk_context *ctx, const sntk_neurons *v, int64_t n, int work, sntk_plan *plan) {
  const int64_t rows = sntk_size_mul(n, v->outputs), each = sntk_size_mul(n, sntk_size_add(v->outputs, 2));
  const int64_t longer = v->dim > v->outputs ? v->dim : v->outputs;
  if (n < 1 || rows < 1) {
    sntk_plan_take(plan, rows, 1); /* more than 63 bits count */
    return;
  }
  sntk_plan_scratch(plan, SCRATCH_WORK, sntk_size_mul(ctx->threads, work_bytes(ctx, n, v->dim, v->outputs)));
  sntk_plan_scratch(plan, SCRATCH_SUMS,
                    sntk_size_mul(share_count(ctx, v->type, v, n), sntk_size_mul(each, sizeof(double))));
  sntk_plan_scratch(plan, SCRATCH_NORMALS,
                    sntk_size_mul(sntk_size_mul(ctx->threads * (GENERATE + 1), longer), sizeof(float)));
  if (work & SNTK_WORK_GRAM) plan_gram(ctx, v, n, plan);
  if ((work & SNTK_WORK_CHANGE) && v->type == SNTK_F32)
    sntk_plan_scratch(plan, SCRATCH_GRAM, sntk_size_mul(sntk_size_mul(rows, rows), sizeof(float) / 2));
  if (work & SNTK_WORK_KERNEL_GRADIENT) plan_kernel_gradient(v, n, plan);
  if (work & (SNTK_WORK_GRAM | SNTK_WORK_CHANGE)) /* gram_finish: inner products of the inputs */
    sntk_plan_brief(plan, sntk_size_mul(n, n), sizeof(double) / 2);
}

const sntk_backend sntk_backend_cpu = {
    .name = "cpu",
    .feature_slabs = 1,
    .chunk_columns = 1 << 16,
    .open = cpu_open,
    .close = cpu_close,
    .precision = cpu_precision,
    .supports = cpu_supports,
    .plan = cpu_plan,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .upload = cpu_copy,
    .download = cpu_copy,
    .random_weights = cpu_random_weights,
    .random_signs = cpu_random_signs,
    .statistics = cpu_statistics,
    .base_statistics = cpu_base_statistics,
    .gradient = cpu_gradient,
    .descent = cpu_descent,
    .push = cpu_push,
    .features = cpu_features,
    .gram_add = cpu_gram_add,
    .gram = cpu_gram,
    .feature_change = cpu_feature_change,
    .gram_add_change = cpu_gram_add_change,
    .kernel_gradient = cpu_kernel_gradient,
    .gram_finish = cpu_gram_finish,
    .eigenvalues = cpu_eigenvalues,
    .movement = cpu_movement,
    .move_base = cpu_move_base,
    .widen = cpu_widen,
    .unpair = cpu_unpair,
    .read_weights = cpu_read_weights,
};
