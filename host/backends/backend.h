/**
 * @file backend.h
 * @brief The table of operations that every backend fills: small, fused, in the problem's own words.
 *
 * Conventions. "Backend memory" is what alloc returns (on a host backend ordinary memory). Matrices are row-major with
 * a leading dimension ld in elements. `real` is float or double by the view's type. Per-sample statistics are float64
 * in host memory: they are n x (p + 2) numbers, the only thing that crosses the width. Every reduction runs in a fixed
 * order.
 *
 * Operations are called with valid arguments (the engine checks shapes and domains); they report what only they can
 * see: non-finite numbers, memory, the device.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_BACKEND_H
#define SOFTNTK_BACKEND_H

#include <math.h>
#include <stdint.h>

#include "core/core.h"
#include "core/plan.h"
#include "softntk/network.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How a range of neurons is laid out. */
typedef enum sntk_layout {
  SNTK_LAYOUT_PLAIN,     /* column r: W_r */
  SNTK_LAYOUT_DISPLACED, /* column r: base W0_r, shift[0] D_r */
  SNTK_LAYOUT_PAIRED     /* column q: base W0_q of neurons 2q (sign +a, shift[0]) and 2q + 1 (sign -a, shift[1]) */
} sntk_layout;

/* A contiguous range of neurons in backend memory; a view, it owns nothing. */
typedef struct sntk_neurons {
  sntk_activation activation;
  sntk_layout layout;
  sntk_precision type;
  int64_t width;        /* m of the whole network: for sqrt(m) in the features */
  int64_t count;        /* columns here: neurons, or pairs in the paired layout */
  int64_t dim, outputs; /* d, p */
  void *base;           /* real, dim x count */
  void *shift[2];       /* real, dim x count; NULL where the layout has none */
  int8_t *signs; /* outputs x count: +1 or -1; 0 too for statistics, gradient, descent and push of single neurons */
  int64_t ld;    /* of base and shifts */
  int64_t ld_signs;
} sntk_neurons;

/* Samples in backend memory: real (n x d) in the computation's type, and float64 for what must be taken once exactly.
 */
typedef struct sntk_samples {
  int64_t count, dim;
  sntk_precision type;
  const void *x;     /* real, count x dim, no gaps */
  const double *x64; /* count x dim, no gaps; may equal x */
} sntk_samples;

/* Statistics of every sample over a range of neurons; host memory. An empty range is max -inf (0 unless softmax), sum
 * 0, t 0. softmax: max_i = max_r z_ir, sum_i = sum_r exp(z_ir - max_i), t_il = sum_r A_lr exp(z_ir - max_i). exp, relu:
 * max 0, sum 0, t_il = sum_r A_lr phi(z_ir). Displaced and paired layouts hold the CHANGE against the base (sum of E e,
 * sum of A E e; see pass.c), max fixed. */
typedef struct sntk_stats {
  int64_t samples, outputs;
  double *max;      /* n */
  double *sum;      /* n */
  double *t;        /* n x p */
  double shift_max; /* displaced, paired: max |x_i . D_r| seen */
} sntk_stats;

/* What the backward pass needs of every sample; host memory. S_ir = exp(z_ir - max_i) / sum_i. */
typedef struct sntk_pull {
  double scale;      /* s */
  const double *max; /* n */
  const double *sum; /* n, whole (base + change); softmax only */
  const double *r;   /* n x p: the residual, or any u of J^T u */
  const double *c;   /* n: sum_l r_il f_il (softmax), 0 otherwise */
} sntk_pull;

/* What A_lr - f_il is, by A's sign, without cancellation where one neuron carries all: away, n x p x 2 in host memory,
 * has 1 - f_il at [2 (i p + l)] and -1 - f_il behind it; softmax only, ignored otherwise. */

/* What the change of the features against the base needs of every sample; host memory. delta = (sum - sum0) / sum0 and
 * df = f - f0, taken without cancellation; softmax only, NULL otherwise. */
typedef struct sntk_change {
  const double *max;   /* n: as in sntk_stats */
  const double *sum0;  /* n: normalizer of the base */
  const double *delta; /* n */
  const double *away0; /* n x p x 2: of the base */
  const double *away;  /* n x p x 2: of the network */
  const double *df;    /* n x p */
} sntk_change;

/* Where base weights and signs come from. */
typedef struct sntk_source {
  uint64_t seed;
  double sigma;
  bool symmetric; /* neurons 2q, 2q+1 share numbers of pair q; only with plain or displaced layouts (paired columns are
                     pairs) */
} sntk_source;

/* Kinds of operations, for what they take of the backend's memory: statistics, gradients and the like, always; a Gram
 * matrix, with gram_finish; a change of one, likewise; kernel_gradient. */
enum { SNTK_WORK_GRAM = 1, SNTK_WORK_CHANGE = 2, SNTK_WORK_KERNEL_GRADIENT = 4 };

typedef struct sntk_backend {
  const char *name;
  bool emulated;     /* device code run on the host: a test of correctness, never a figure of speed */
  bool tensor_cores; /* takes ctx->tensor_cores */
  int feature_slabs; /* slabs of features that the engine alternates between: 2 where one is filled while the other is
                        multiplied */
  int64_t chunk_columns; /* columns that a stored network is handed over in, so that an interrupt is seen in between */
  sntk_status (*open)(sntk_context *ctx, int device);
  void (*close)(sntk_context *ctx);
  sntk_precision (*precision)(const sntk_context *ctx, sntk_precision wanted);
  bool (*supports)(const sntk_context *ctx, sntk_layout layout);
  /* Bytes free on the device now, or -1 with the reason as the context's error; NULL: the host's memory is the
   * device's. */
  int64_t (*memory)(sntk_context *ctx);
  /* What operations on ranges of that shape (the pointers NULL) take beside their arguments: scratch of the plan where
   * it is kept, or held for the time of a call. */
  void (*plan)(const sntk_context *ctx, const sntk_neurons *shape, int64_t samples, int work, sntk_plan *plan);

  /* Memory. Zero-filled. NULL is freed silently. */
  sntk_status (*alloc)(sntk_context *ctx, const char *what, int64_t bytes, void **out);
  void (*free)(sntk_context *ctx, void *pointer);
  sntk_status (*upload)(sntk_context *ctx, void *to, const void *from_host, int64_t bytes);
  sntk_status (*download)(sntk_context *ctx, void *to_host, const void *from, int64_t bytes);

  /* base(k, j) = float32(float32(sigma) * normal(k + d q)) and signs(l, j) = word(l + p q), where column j is column
   * first + j of the network and q its number stream's index; with `symmetric` and a layout of single neurons q =
   * (first + j) / 2 and odd neurons have the opposite signs. */
  sntk_status (*random_weights)(sntk_context *ctx, const sntk_source *source, int64_t first, sntk_neurons *neurons);
  sntk_status (*random_signs)(sntk_context *ctx, const sntk_source *source, int64_t first, sntk_neurons *neurons);

  /* Statistics of the range, merged into `stats` behind what is there. Displaced and paired: stats->max is given.
   * SNTK_ERR_OVERFLOW where a logit or (exp) an activation is not finite. */
  sntk_status (*statistics)(sntk_context *ctx, const sntk_neurons *neurons, const sntk_samples *samples,
                            sntk_stats *stats);
  /* Displaced and paired: statistics of the base alone, in float64 throughout, merged into `stats`. */
  sntk_status (*base_statistics)(sntk_context *ctx, const sntk_neurons *neurons, const sntk_samples *samples,
                                 sntk_stats *stats);

  /* out[h] = X^T G of the range, G_ir = s S_ir ((r A)_ir - c_i) and its kin: dL/dW for r = F - Y, J^T u for r = u.
   * out: real, dim x count; paired: out[0] and out[1]; else out[0]. */
  sntk_status (*gradient)(sntk_context *ctx, const sntk_neurons *neurons, const sntk_samples *samples,
                          const sntk_pull *pull, void *const out[2], int64_t ld);
  /* W -= eta X^T G in place (plain: base, else shifts). Adds |update|^2 and |stored update - update|^2 to norms[0] and
   * norms[1]. With `next` also the statistics of the updated range, merged into it as `statistics` does, while the
   * weights are still at hand: one walk over W a step. `next` must not share arrays with `pull`. */
  sntk_status (*descent)(sntk_context *ctx, sntk_neurons *neurons, const sntk_samples *samples, const sntk_pull *pull,
                         double eta, double norms[2], sntk_stats *next);
  /* J v, raw: dot(i, l) += sum_r A_lr G'_ir (x_i . v_r) and mean(i) += sum_r G'_ir (x_i . v_r), G' = S, exp(z) or [z >
   * 0]. J v = s (dot - f mean) for softmax, s dot else. `direction` as gradient's out. */
  sntk_status (*push)(sntk_context *ctx, const sntk_neurons *neurons, const sntk_samples *samples, const double *max,
                      const double *sum, const void *const direction[2], int64_t ld, double *dot, double *mean);

  /* Feature rows of the range: u(i + n l, j), real, np x (neurons in the range), ld. Paired: columns j and count + j.
   */
  sntk_status (*features)(sntk_context *ctx, const sntk_neurons *neurons, const sntk_samples *samples,
                          const double *max, const double *sum, const double *away, void *u, int64_t ld);
  /* gram += u u^T, lower triangle; gram float64 backend memory, rows x rows. */
  sntk_status (*gram_add)(sntk_context *ctx, sntk_precision type, const void *u, int64_t rows, int64_t cols, int64_t ld,
                          double *gram);
  /* gram += U U^T of the range, lower triangle, as features and gram_add would, where the backend can do it without
   * storing U; NULL: it cannot. */
  sntk_status (*gram)(sntk_context *ctx, const sntk_neurons *neurons, const sntk_samples *samples, const double *max,
                      const double *sum, const double *away, double *gram);
  /* Displaced and paired: the change of the features, du = U - U0, U0 those of the base, without cancellation, and the
   * middle um = U0 + du / 2; both laid out as `features` does. */
  sntk_status (*feature_change)(sntk_context *ctx, const sntk_neurons *neurons, const sntk_samples *samples,
                                const sntk_change *change, void *du, void *um, int64_t ld);
  /* gram += du um^T + um du^T = U U^T - U0 U0^T, lower triangle; otherwise as gram_add. */
  sntk_status (*gram_add_change)(sntk_context *ctx, sntk_precision type, const void *du, const void *um, int64_t rows,
                                 int64_t cols, int64_t ld, double *gram);
  /* The gradient of <M, U U^T> with respect to the range's weights, plain and displaced: with v = 2 M U, M symmetric
   * (float64 backend memory, np x np), out(k, j) = sum_i x_ik sum_l v_(il)j w_(il)j (real, dim x count, ld), w = dU /
   * dz of a neuron by itself: U (softmax, exp); for relu, whose slope jumps, a band's: A_lj / sqrt(m) / (2 band_i)
   * where |z_ij| < band_i (band: n, host; relu only). Softmax's normalizer adds what the caller takes from `sums`: with
   * sums (n x p, host) given, out is left alone and sums_il += sum_j v_(il)j sqrt(m) S_ij. */
  sntk_status (*kernel_gradient)(sntk_context *ctx, const sntk_neurons *neurons, const sntk_samples *samples,
                                 const double *max, const double *sum, const double *away, const double *band,
                                 const double *matrix, void *out, int64_t ld, double *sums);
  /* gram_(i + n l)(j + n l') *= x_i . x_j in float64, then the lower triangle is mirrored. */
  sntk_status (*gram_finish)(sntk_context *ctx, const sntk_samples *samples, int64_t outputs, double *gram);
  /* Eigenvalues, ascending, of a symmetric matrix in backend memory; the matrix is destroyed. values: host. */
  sntk_status (*eigenvalues)(sntk_context *ctx, double *matrix, int64_t size, double *values);

  /* *movement = max(*movement, max_r |w_r - origin_r|_2), w the weights (base + shift), origin real dim x neurons of
   * single neurons (paired: dim x pairs), or NULL: the base itself. */
  sntk_status (*movement)(sntk_context *ctx, const sntk_neurons *neurons, const void *origin, int64_t ld,
                          double *movement);
  /* Displaced: base' = fl(base + shift), shift' = the exact remainder. */
  sntk_status (*move_base)(sntk_context *ctx, sntk_neurons *neurons);
  /* The weights in full as a plain float64 view: base + shift of single neurons, and their signs, into `to` (allocated
   * by the caller: as many columns as `neurons` has neurons). Absent where float64 is all there is. */
  sntk_status (*widen)(sntk_context *ctx, const sntk_neurons *neurons, sntk_neurons *to);
  /* The same network in the displaced layout: column 2q from shift[0], 2q + 1 from shift[1]. `to` is allocated by the
   * caller. */
  sntk_status (*unpair)(sntk_context *ctx, const sntk_neurons *paired, sntk_neurons *to);
  /* Brackets what follows for the device's profiler (on) or ends that; NULL where there is no such profiler. */
  sntk_status (*profile)(sntk_context *ctx, bool on);
  /* Weights as float64: out(k, r) over single neurons of the range, host, dim x neurons. */
  sntk_status (*read_weights)(sntk_context *ctx, const sntk_neurons *neurons, double *out, int64_t ld);
} sntk_backend;

/* Neurons in a view. */
static inline int64_t sntk_neuron_count(const sntk_neurons *v) {
  return v->layout == SNTK_LAYOUT_PAIRED ? 2 * v->count : v->count;
}

static inline size_t sntk_type_size(sntk_precision type) { return type == SNTK_F32 ? sizeof(float) : sizeof(double); }

/* Columns [first, first + count) of a view. */
static inline sntk_neurons sntk_neurons_slice(const sntk_neurons *v, int64_t first, int64_t count) {
  sntk_neurons s = *v;
  const size_t skip = (size_t)first * sntk_type_size(v->type);
  s.count = count;
  s.base = (char *)v->base + skip;
  for (int h = 0; h < 2; h++) s.shift[h] = v->shift[h] ? (char *)v->shift[h] + skip : NULL;
  s.signs = v->signs + first;
  return s;
}

/* Merges the partial (max, sum, t) into one sample's running values: an empty part (-inf, 0, 0) never makes a NaN. */
static inline void sntk_merge(double *max, double *sum, double *t, double max2, double sum2, const double *t2,
                              int64_t outputs) {
  const double top = *max > max2 ? *max : max2;
  const double w = *max == top ? 1.0 : exp(*max - top), w2 = max2 == top ? 1.0 : exp(max2 - top);
  *max = top;
  *sum = w * *sum + w2 * sum2;
  for (int64_t l = 0; l < outputs; l++) t[l] = w * t[l] + w2 * t2[l];
}

/* Opens a backend by name; the registry's list is backends.def. */
sntk_status sntk_backend_find(sntk_context *ctx, const char *name, const sntk_backend **backend);

enum { SNTK_MAX_THREADS = 4096 };

/* threads.c. Makes `wanted` (0: OMP_NUM_THREADS, else all processors) the number of host threads of OpenMP and of the
 * linear algebra library, once it is certain that they can be had: SNTK_ERR_ARGUMENT for a number that nobody means,
 * SNTK_ERR_MEMORY where there is no room. Before the first call of either. */
sntk_status sntk_threads_open(sntk_context *ctx, int wanted, int *threads);

/* Before calls of the library: it takes the number of threads that OpenMP has for the calling thread, which need not be
 * the one that opened the context. Another number would give other bits. */
void sntk_threads_use(const sntk_context *ctx);

/* Is SOFTNTK_ISA a word that is known (SNTK_ERR_ARGUMENT) and that the processor can follow (SNTK_ERR_BACKEND)? */
sntk_status sntk_isa_check(sntk_context *ctx);

#ifdef __cplusplus
}
#endif

#endif
