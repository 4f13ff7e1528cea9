/**
 * @file cpu.c
 * @brief The cpu backend: OpenBLAS for the matrix products, OpenMP and vectorized row kernels for what stands between
 * them.
 *
 * Every operation walks its neurons in slabs: Z (n x b) = X W_slab by GEMM, row kernels over the samples, X^T G by
 * GEMM. The slab is chosen by the shape alone and slabs are merged in order in float64, so the bits depend on neither
 * the number of threads' timing nor on how the caller cut the range at slab borders. BLAS is called outside parallel
 * regions. Every parallel region names the context's thread count: scratch is cut by it, and OpenMP's own default
 * is another context's, or another host thread's.
 *
 * SPDX-License-Identifier: MIT
 */
#include <cblas.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/backend.h"
#include "backends/cpu/kernels.h"
#include "softntk/rng.h"

/* Scratch buffers, grown on demand and kept: five of n x b (base logits, two shifts', two directions'), signs, and one
 * or two gradient slabs, statistics of a slab, float32 products for the Gram matrix. */
enum {
  SCRATCH_Z,
  SCRATCH_D1,
  SCRATCH_D2,
  SCRATCH_V1,
  SCRATCH_V2,
  SCRATCH_SIGNS,
  SCRATCH_G,
  SCRATCH_ROWS,
  SCRATCH_GRAM,
  SCRATCHES
};

typedef struct cpu_state {
  const sntk_cpu_kernels *kernels;
  void *scratch[SCRATCHES];
  int64_t bytes[SCRATCHES];
} cpu_state;

/* n x b elements of one buffer: about the size of a second-level cache. */
enum { SLAB_ELEMENTS = 1 << 19, SLAB_MIN = 64, SLAB_MAX = 4096 };

static int64_t slab_width(int64_t samples) {
  const int64_t b = SLAB_ELEMENTS / samples / SLAB_MIN * SLAB_MIN;
  return b < SLAB_MIN ? SLAB_MIN : b > SLAB_MAX ? SLAB_MAX : b;
}

/* Is a loop over so many elements worth waking the other threads for? Below, waiting for them costs more than the work,
 * and on shared processors very much more. */
static bool pays(int64_t elements) { return elements >= 1 << 15; }

static const sntk_row_kernels *rows_of(const sntk_context *ctx, sntk_precision type) {
  return &((const cpu_state *)ctx->backend_state)->kernels->rows[type];
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

static void processor_name(char *text, size_t size) {
  snprintf(text, size, "unknown processor");
  FILE *file = fopen("/proc/cpuinfo", "r");
  if (!file) return;
  char line[512];
  while (fgets(line, sizeof line, file)) {
    const char *colon = strchr(line, ':');
    if (strncmp(line, "model name", 10) == 0 && colon) {
      line[strcspn(line, "\n")] = '\0';
      snprintf(text, size, "%s", colon + 2);
      break;
    }
  }
  fclose(file);
}

static sntk_status cpu_open(sntk_context *ctx, int device) {
  if (device != 0) return sntk_fail(ctx, SNTK_ERR_DEVICE, "backend cpu has no device %d; use device 0", device);
  cpu_state *state = calloc(1, sizeof *state);
  if (!state) return sntk_fail(ctx, SNTK_ERR_MEMORY, "no memory for the cpu backend");
  state->kernels = sntk_cpu_kernels_pick();
  ctx->backend_state = state;
  if (ctx->threads == 0) ctx->threads = omp_get_max_threads();
  omp_set_num_threads(ctx->threads);
  openblas_set_num_threads(ctx->threads);
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

static int64_t cpu_scratch_bytes(const sntk_context *ctx, int64_t samples, int64_t dim, int64_t outputs,
                                 sntk_precision type) {
  (void)ctx;
  const int64_t b = slab_width(samples);
  const int64_t logits = sntk_size_mul(sntk_size_mul(samples, b), 5);
  const int64_t columns = sntk_size_mul(sntk_size_add(outputs, sntk_size_mul(dim, 2)), b);
  const int64_t rows = sntk_size_mul(sntk_size_mul(samples, sntk_size_add(outputs, 4)), sizeof(double));
  /* base statistics take float64 logits and base slab whatever the type */
  const int64_t base = sntk_size_mul(sntk_size_mul(sntk_size_add(samples, dim), b), sizeof(double));
  return sntk_size_add(
      sntk_size_add(sntk_size_mul(sntk_size_add(logits, columns), (int64_t)sntk_type_size(type)), rows), base);
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

/* ---- matrix products, by type ---- */

/* out (n x b) = X (n x d) W (d x b) */
static void logits(sntk_precision type, int64_t n, int64_t b, int64_t d, const void *x, const void *w, int64_t ld,
                   void *out) {
  if (type == SNTK_F32)
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)n, (int)b, (int)d, 1.0f, x, (int)d, w, (int)ld, 0.0f,
                out, (int)b);
  else
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)n, (int)b, (int)d, 1.0, x, (int)d, w, (int)ld, 0.0, out,
                (int)b);
}

/* out (d x b) = X^T (d x n) G (n x b) */
static void transposed_product(sntk_precision type, int64_t n, int64_t b, int64_t d, const void *x, const void *g,
                               void *out, int64_t ld) {
  if (type == SNTK_F32)
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)d, (int)b, (int)n, 1.0f, x, (int)d, g, (int)b, 0.0f, out,
                (int)ld);
  else
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)d, (int)b, (int)n, 1.0, x, (int)d, g, (int)b, 0.0, out,
                (int)ld);
}

/* ---- a slab: columns [at, at + b) of a view, its logits and signs in scratch ---- */

typedef struct slab {
  sntk_neurons v;
  int64_t b;
  void *z, *d1, *d2; /* n x b; NULL where the layout has none */
  void *signs;       /* p x b, real */
} slab;

static void *offset(void *base, int64_t elements, sntk_precision type) {
  return base ? (char *)base + (size_t)elements * sntk_type_size(type) : NULL;
}

static void signs_to_real(const sntk_neurons *v, int64_t b, void *out) {
  for (int64_t l = 0; l < v->outputs; l++)
    for (int64_t j = 0; j < b; j++) {
      const int8_t sign = v->signs[l * v->ld_signs + j];
      if (v->type == SNTK_F32)
        ((float *)out)[l * b + j] = sign;
      else
        ((double *)out)[l * b + j] = sign;
    }
}

static sntk_status slab_load(sntk_context *ctx, const sntk_neurons *v, const sntk_samples *s, int64_t at, slab *out) {
  const size_t size = sntk_type_size(v->type);
  const int64_t width = slab_width(s->count), b = v->count - at < width ? v->count - at : width;
  *out = (slab){.v = sntk_neurons_slice(v, at, b), .b = b};
  SNTK_TRY(scratch(ctx, SCRATCH_SIGNS, v->outputs * width, size, &out->signs));
  signs_to_real(&out->v, b, out->signs);
  SNTK_TRY(scratch(ctx, SCRATCH_Z, s->count * width, size, &out->z));
  logits(v->type, s->count, b, v->dim, s->x, out->v.base, v->ld, out->z);
  if (v->layout == SNTK_LAYOUT_PLAIN) return SNTK_OK;
  SNTK_TRY(scratch(ctx, SCRATCH_D1, s->count * width, size, &out->d1));
  logits(v->type, s->count, b, v->dim, s->x, out->v.shift[0], v->ld, out->d1);
  if (v->layout == SNTK_LAYOUT_DISPLACED) return SNTK_OK;
  SNTK_TRY(scratch(ctx, SCRATCH_D2, s->count * width, size, &out->d2));
  logits(v->type, s->count, b, v->dim, s->x, out->v.shift[1], v->ld, out->d2);
  return SNTK_OK;
}

/* The rows that slopes() leaves: of the neurons with the sign, and (paired) of those with its opposite. */
static void *slope_rows(const slab *part, int half) {
  if (half) return part->d2;
  return part->v.layout == SNTK_LAYOUT_PLAIN ? part->z : part->d1;
}

static int halves(const sntk_neurons *v) { return v->layout == SNTK_LAYOUT_PAIRED ? 2 : 1; }

static void *row(void *base, int64_t i, int64_t b, sntk_precision type) { return offset(base, i * b, type); }

static sntk_status overflow(sntk_context *ctx, int64_t sample) {
  return sntk_fail(
      ctx, SNTK_ERR_OVERFLOW,
      "sample %lld: a logit or activation is not finite; use a smaller sigma, smaller inputs or a smaller eta",
      (long long)sample);
}

/* ---- random numbers ---- */

/* Neurons generated at a time: a neuron's numbers are contiguous in the stream, a column in memory. */
enum { GENERATE = 256 };

static sntk_status cpu_random_weights(sntk_context *ctx, const sntk_source *source, int64_t first, sntk_neurons *v) {
  const int64_t d = v->dim;
  const bool halved = source->symmetric && v->layout != SNTK_LAYOUT_PAIRED;
  const int64_t blocks = (v->count + GENERATE - 1) / GENERATE;
  const float sigma = (float)source->sigma;
  float *buffers;
  SNTK_TRY(scratch(ctx, SCRATCH_G, (int64_t)ctx->threads * (GENERATE / (halved ? 2 : 1) + 1) * d, sizeof(float),
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
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (pays(v->count * v->outputs * 8))
  for (int64_t r = 0; r < v->count; r++) {
    const int64_t q = halved ? (first + r) / 2 : first + r;
    const int flip = halved && (first + r) % 2 ? -1 : 1;
    for (int64_t l = 0; l < v->outputs; l++) {
      const uint32_t word = sntk_rng_word(source->seed, SNTK_STREAM_SIGNS, (uint64_t)(l + v->outputs * q));
      v->signs[l * v->ld_signs + r] = (int8_t)(word >> 31 ? -flip : flip);
    }
  }
  return SNTK_OK;
}

/* ---- statistics ---- */

static sntk_status cpu_statistics(sntk_context *ctx, const sntk_neurons *v, const sntk_samples *s, sntk_stats *stats) {
  const sntk_row_kernels *kernels = rows_of(ctx, v->type);
  const int64_t n = s->count, p = v->outputs;
  double *t;
  SNTK_TRY(scratch(ctx, SCRATCH_ROWS, (int64_t)ctx->threads * p, sizeof *t, (void **)&t));
  int64_t bad = n; /* first sample that is not finite */
  double shift_max = stats->shift_max;
  slab part;
  for (int64_t at = 0; at < v->count && bad == n; at += part.b) {
    SNTK_TRY(slab_load(ctx, v, s, at, &part));
#pragma omp parallel for num_threads(ctx->threads) schedule(static) reduction(min                                      \
                                                                              : bad)                                   \
    reduction(max                                                                                                      \
              : shift_max) if (pays(n * part.b))
    for (int64_t i = 0; i < n; i++) {
      sntk_row_stats row_stats;
      double *ti = t + (int64_t)omp_get_thread_num() * p;
      kernels->statistics(v->activation, v->layout, part.b, p, row(part.z, i, part.b, v->type),
                          row(part.d1, i, part.b, v->type), row(part.d2, i, part.b, v->type), part.signs, stats->max[i],
                          &row_stats, ti);
      if (!row_stats.finite && i < bad) bad = i;
      if (row_stats.shift_max > shift_max) shift_max = row_stats.shift_max;
      sntk_merge(&stats->max[i], &stats->sum[i], &stats->t[i * p], row_stats.max, row_stats.sum, ti, p);
    }
  }
  stats->shift_max = shift_max;
  return bad < n ? overflow(ctx, bad) : SNTK_OK;
}

/* float64 throughout: the base slab is widened, and the plain row kernel of the wide type does the rest. In the paired
 * layout the two neurons of a pair share the base: the sums count twice and the signed sums cancel exactly. */
static sntk_status cpu_base_statistics(sntk_context *ctx, const sntk_neurons *v, const sntk_samples *s,
                                       sntk_stats *stats) {
  const sntk_row_kernels *kernels = rows_of(ctx, SNTK_F64);
  const int64_t n = s->count, p = v->outputs, d = v->dim, width = slab_width(n);
  const bool paired = v->layout == SNTK_LAYOUT_PAIRED;
  double *t, *base, *z, *signs;
  SNTK_TRY(scratch(ctx, SCRATCH_ROWS, (int64_t)ctx->threads * p, sizeof *t, (void **)&t));
  SNTK_TRY(scratch(ctx, SCRATCH_G, d * width, sizeof *base, (void **)&base));
  SNTK_TRY(scratch(ctx, SCRATCH_Z, n * width, sizeof *z, (void **)&z));
  SNTK_TRY(scratch(ctx, SCRATCH_SIGNS, p * width, sizeof *signs, (void **)&signs));
  int64_t bad = n;
  for (int64_t at = 0; at < v->count && bad == n; at += width) {
    const int64_t b = v->count - at < width ? v->count - at : width;
    sntk_neurons part = sntk_neurons_slice(v, at, b);
    for (int64_t k = 0; k < d; k++)
      for (int64_t j = 0; j < b; j++)
        base[k * b + j] =
            v->type == SNTK_F32 ? (double)((float *)part.base)[k * v->ld + j] : ((double *)part.base)[k * v->ld + j];
    part.type = SNTK_F64;
    signs_to_real(&part, b, signs);
    logits(SNTK_F64, n, b, d, s->x64, base, b, z);
#pragma omp parallel for num_threads(ctx->threads) schedule(static) reduction(min : bad) if (pays(n * b))
    for (int64_t i = 0; i < n; i++) {
      sntk_row_stats row_stats;
      double *ti = t + (int64_t)omp_get_thread_num() * p;
      kernels->statistics(v->activation, SNTK_LAYOUT_PLAIN, b, p, z + i * b, NULL, NULL, signs, 0.0, &row_stats, ti);
      if (!row_stats.finite && i < bad) bad = i;
      if (paired) {
        row_stats.sum *= 2.0;
        memset(ti, 0, (size_t)p * sizeof *ti);
      }
      sntk_merge(&stats->max[i], &stats->sum[i], &stats->t[i * p], row_stats.max, row_stats.sum, ti, p);
    }
  }
  return bad < n ? overflow(ctx, bad) : SNTK_OK;
}

/* ---- what needs slopes ---- */

/* S_ir = exp(z_ir - max_i) / sum_i for softmax: the normalizer is folded into what multiplies the slopes. */
static double normalizer(const sntk_neurons *v, const double *sum, int64_t i) {
  return v->activation == SNTK_SOFTMAX ? 1.0 / sum[i] : 1.0;
}

static double fixed_max(const sntk_neurons *v, const double *max, int64_t i) {
  return v->activation == SNTK_SOFTMAX ? max[i] : 0.0;
}

/* G of a slab in place of its slopes. */
static sntk_status slab_pull(sntk_context *ctx, const slab *part, const sntk_samples *s, const sntk_pull *pull) {
  const sntk_row_kernels *kernels = rows_of(ctx, part->v.type);
  const sntk_neurons *v = &part->v;
  const int64_t p = v->outputs;
  double *scaled;
  SNTK_TRY(scratch(ctx, SCRATCH_ROWS, (int64_t)ctx->threads * p, sizeof *scaled, (void **)&scaled));
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (pays(s->count * part->b))
  for (int64_t i = 0; i < s->count; i++) {
    double *r = scaled + (int64_t)omp_get_thread_num() * p;
    const double factor = pull->scale * normalizer(v, pull->sum, i);
    for (int64_t l = 0; l < p; l++) r[l] = factor * pull->r[i * p + l];
    kernels->slopes(v->activation, v->layout, part->b, fixed_max(v, pull->max, i), row(part->z, i, part->b, v->type),
                    row(part->d1, i, part->b, v->type), row(part->d2, i, part->b, v->type));
    for (int h = 0; h < halves(v); h++)
      kernels->pull(part->b, p, part->signs, r, factor * pull->c[i], h ? -1.0 : 1.0,
                    row(slope_rows(part, h), i, part->b, v->type));
  }
  return SNTK_OK;
}

static sntk_status cpu_gradient(sntk_context *ctx, const sntk_neurons *v, const sntk_samples *s, const sntk_pull *pull,
                                void *const out[2], int64_t ld) {
  slab part;
  for (int64_t at = 0; at < v->count; at += part.b) {
    SNTK_TRY(slab_load(ctx, v, s, at, &part));
    SNTK_TRY(slab_pull(ctx, &part, s, pull));
    for (int h = 0; h < halves(v); h++)
      transposed_product(v->type, s->count, part.b, v->dim, s->x, slope_rows(&part, h), offset(out[h], at, v->type),
                         ld);
  }
  return SNTK_OK;
}

static sntk_status cpu_descent(sntk_context *ctx, sntk_neurons *v, const sntk_samples *s, const sntk_pull *pull,
                               double eta, double norms[2], sntk_stats *next) {
  const sntk_row_kernels *kernels = rows_of(ctx, v->type);
  const int64_t d = v->dim, width = slab_width(s->count);
  void *gradient;
  double *row_norms;
  slab part;
  for (int64_t at = 0; at < v->count; at += part.b) {
    SNTK_TRY(slab_load(ctx, v, s, at, &part));
    SNTK_TRY(slab_pull(ctx, &part, s, pull));
    SNTK_TRY(scratch(ctx, SCRATCH_G, d * width, sntk_type_size(v->type), &gradient));
    SNTK_TRY(scratch(ctx, SCRATCH_ROWS, 2 * d, sizeof *row_norms, (void **)&row_norms));
    for (int h = 0; h < halves(v); h++) {
      void *weights = v->layout == SNTK_LAYOUT_PLAIN ? part.v.base : part.v.shift[h];
      transposed_product(v->type, s->count, part.b, d, s->x, slope_rows(&part, h), gradient, part.b);
      memset(row_norms, 0, (size_t)(2 * d) * sizeof *row_norms);
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (pays(d * part.b))
      for (int64_t k = 0; k < d; k++)
        kernels->descend(part.b, eta, row(gradient, k, part.b, v->type), offset(weights, k * v->ld, v->type),
                         &row_norms[2 * k]);
      for (int64_t k = 0; k < d; k++) {
        norms[0] += row_norms[2 * k];
        norms[1] += row_norms[2 * k + 1];
      }
    }
    if (next) SNTK_TRY(cpu_statistics(ctx, &part.v, s, next)); /* the slab's weights are still in the cache */
  }
  return SNTK_OK;
}

static sntk_status cpu_push(sntk_context *ctx, const sntk_neurons *v, const sntk_samples *s, const double *max,
                            const double *sum, const void *const direction[2], int64_t ld, double *dot, double *mean) {
  const sntk_row_kernels *kernels = rows_of(ctx, v->type);
  const int64_t n = s->count, p = v->outputs, width = slab_width(n);
  double *sums;
  void *pushed[2] = {NULL, NULL};
  slab part;
  for (int64_t at = 0; at < v->count; at += part.b) {
    SNTK_TRY(slab_load(ctx, v, s, at, &part));
    SNTK_TRY(scratch(ctx, SCRATCH_ROWS, (int64_t)ctx->threads * (p + 1), sizeof *sums, (void **)&sums));
    for (int h = 0; h < halves(v); h++) {
      SNTK_TRY(scratch(ctx, SCRATCH_V1 + h, n * width, sntk_type_size(v->type), &pushed[h]));
      logits(v->type, n, part.b, v->dim, s->x, (const char *)direction[h] + (size_t)at * sntk_type_size(v->type), ld,
             pushed[h]);
    }
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (pays(n * part.b))
    for (int64_t i = 0; i < n; i++) {
      double *own = sums + (int64_t)omp_get_thread_num() * (p + 1);
      memset(own, 0, (size_t)(p + 1) * sizeof *own);
      kernels->slopes(v->activation, v->layout, part.b, fixed_max(v, max, i), row(part.z, i, part.b, v->type),
                      row(part.d1, i, part.b, v->type), row(part.d2, i, part.b, v->type));
      for (int h = 0; h < halves(v); h++)
        kernels->push(part.b, p, part.signs, row(slope_rows(&part, h), i, part.b, v->type),
                      row(pushed[h], i, part.b, v->type), h ? -1.0 : 1.0, own, &own[p]);
      const double factor = normalizer(v, sum, i);
      for (int64_t l = 0; l < p; l++) dot[i * p + l] += factor * own[l];
      mean[i] += factor * own[p];
    }
  }
  return SNTK_OK;
}

/* ---- the Gram matrix ---- */

static sntk_status cpu_features(sntk_context *ctx, const sntk_neurons *v, const sntk_samples *s, const double *max,
                                const double *sum, const double *f, void *u, int64_t ld) {
  const sntk_row_kernels *kernels = rows_of(ctx, v->type);
  const int64_t n = s->count, p = v->outputs;
  const double root = sqrt((double)v->width);
  const bool softmax = v->activation == SNTK_SOFTMAX;
  slab part;
  for (int64_t at = 0; at < v->count; at += part.b) {
    SNTK_TRY(slab_load(ctx, v, s, at, &part));
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (pays(n * part.b))
    for (int64_t i = 0; i < n; i++) {
      const double factor = softmax ? root / sum[i] : 1.0 / root;
      kernels->slopes(v->activation, v->layout, part.b, fixed_max(v, max, i), row(part.z, i, part.b, v->type),
                      row(part.d1, i, part.b, v->type), row(part.d2, i, part.b, v->type));
      for (int h = 0; h < halves(v); h++)
        for (int64_t l = 0; l < p; l++)
          kernels->feature(part.b, row(part.signs, l, part.b, v->type), row(slope_rows(&part, h), i, part.b, v->type),
                           factor, h ? -1.0 : 1.0, softmax ? f[i * p + l] : 0.0,
                           offset(u, (i + n * l) * ld + at + (h ? v->count : 0), v->type));
    }
  }
  return SNTK_OK;
}

static sntk_status cpu_gram_add(sntk_context *ctx, sntk_precision type, const void *u, int64_t rows, int64_t cols,
                                int64_t ld, double *gram) {
  if (type == SNTK_F64) {
    cblas_dsyrk(CblasRowMajor, CblasLower, CblasNoTrans, (int)rows, (int)cols, 1.0, u, (int)ld, 1.0, gram, (int)rows);
    return SNTK_OK;
  }
  float *product;
  SNTK_TRY(scratch(ctx, SCRATCH_GRAM, rows * rows, sizeof *product, (void **)&product));
  cblas_ssyrk(CblasRowMajor, CblasLower, CblasNoTrans, (int)rows, (int)cols, 1.0f, u, (int)ld, 0.0f, product,
              (int)rows);
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (pays(rows * rows))
  for (int64_t a = 0; a < rows; a++)
    for (int64_t c = 0; c <= a; c++) gram[a * rows + c] += (double)product[a * rows + c];
  return SNTK_OK;
}

static sntk_status cpu_gram_finish(sntk_context *ctx, const sntk_samples *s, int64_t outputs, double *gram) {
  const int64_t n = s->count, size = n * outputs;
  double *k;
  SNTK_TRY(sntk_alloc(ctx, "inner products of the inputs", n * n, sizeof *k, (void **)&k));
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

static double element(const void *matrix, int64_t index, sntk_precision type) {
  return type == SNTK_F32 ? (double)((const float *)matrix)[index] : ((const double *)matrix)[index];
}

static void set_element(void *matrix, int64_t index, sntk_precision type, double value) {
  if (type == SNTK_F32)
    ((float *)matrix)[index] = (float)value;
  else
    ((double *)matrix)[index] = value;
}

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

const sntk_backend sntk_backend_cpu = {
    .name = "cpu",
    .feature_slabs = 1,
    .chunk_columns = 1 << 16,
    .open = cpu_open,
    .close = cpu_close,
    .precision = cpu_precision,
    .supports = cpu_supports,
    .scratch_bytes = cpu_scratch_bytes,
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
    .gram_finish = cpu_gram_finish,
    .eigenvalues = cpu_eigenvalues,
    .movement = cpu_movement,
    .move_base = cpu_move_base,
    .widen = cpu_widen,
    .unpair = cpu_unpair,
    .read_weights = cpu_read_weights,
};
