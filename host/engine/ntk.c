/**
 * @file ntk.c
 * @brief The Gram matrix of the neural tangent kernel, summed over slabs of neurons, and its infinite-width limit.
 *
 * H = K o (U U^T): the input dimension never enters the product, and U U^T is a sum over neurons. A first walk over the
 * width gives each sample's (max, sum, f), a second adds U_slab U_slab^T.
 *
 * SPDX-License-Identifier: MIT
 */
#include "softntk/ntk.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"

/* Bytes of a slab of features: large enough for SYRK to run at its rate, small beside the matrices. */
enum { FEATURE_BYTES = 1 << 25, FEATURE_COLUMNS_MIN = 64, FEATURE_COLUMNS_MAX = 1 << 14 };

/* Columns of a slab: neurons, or pairs where each gives two. */
static int64_t feature_columns(int64_t rows, int each, sntk_precision type, int64_t most) {
  int64_t b = FEATURE_BYTES / (int64_t)sntk_type_size(type) / rows / each / FEATURE_COLUMNS_MIN * FEATURE_COLUMNS_MIN;
  if (b < FEATURE_COLUMNS_MIN) b = FEATURE_COLUMNS_MIN;
  if (b > FEATURE_COLUMNS_MAX) b = FEATURE_COLUMNS_MAX;
  return b < most ? b : most;
}

/* A walk over the width that fills slabs of features and adds their products. */
typedef struct gram_walk {
  int64_t rows;   /* of a slab: np, or n where outputs are traced one by one */
  int each;       /* features a column */
  int64_t step;   /* columns */
  void *u[2];     /* slabs; a change has du and um in turn */
  double *matrix; /* backend memory, rows x rows */
  double *away;   /* n x 2: of one output (trace) */
  double *sum;    /* n: normalizers, with the rows' powers of two in them */
  int *exponent;  /* n */
} gram_walk;

static void walk_clear(sntk_context *ctx, gram_walk *w) {
  ctx->backend->free(ctx, w->u[0]);
  ctx->backend->free(ctx, w->u[1]);
  ctx->backend->free(ctx, w->matrix);
  free(w->away);
  free(w->sum);
  free(w->exponent);
  *w = (gram_walk){0};
}

/* `slabs` slabs of features, and an empty matrix. */
static sntk_status walk_create(sntk_context *ctx, const sntk_network *net, int64_t rows, int slabs, gram_walk *w) {
  const int64_t most = sntk_network_chunk_columns(net);
  *w = (gram_walk){.rows = rows, .each = net->v.layout == SNTK_LAYOUT_PAIRED ? 2 : 1};
  w->step = slabs > 0 ? feature_columns(rows, w->each, net->v.type, most) : most;
  const int64_t slab = sntk_size_mul(rows * w->each * w->step, (int64_t)sntk_type_size(net->v.type));
  sntk_status status = SNTK_OK;
  for (int i = 0; i < slabs && status == SNTK_OK; i++)
    status = ctx->backend->alloc(ctx, "slab of features", slab, &w->u[i]);
  if (status == SNTK_OK)
    status = ctx->backend->alloc(ctx, "Gram matrix", sntk_size_mul(sntk_size_mul(rows, rows), sizeof(double)),
                                 (void **)&w->matrix);
  if (status != SNTK_OK) walk_clear(ctx, w);
  return status;
}

static int64_t real_bytes(int64_t rows, int64_t columns, sntk_precision type) {
  return sntk_size_mul(sntk_size_mul(rows, columns), (int64_t)sntk_type_size(type));
}

/* The walk of a network of that shape, with so many slabs, what its operations take, and the result, which is the
 * caller's: where it is fresh nothing was written of it before the matrix was there to be copied. */
static void plan_walk(const sntk_context *ctx, const sntk_neurons *shape, bool streamed, int64_t samples, int64_t rows,
                      int slabs, int work, bool fresh, sntk_plan *plan) {
  const int64_t held = plan->held, most = sntk_chunk_columns(ctx, streamed, shape->dim, shape->count);
  const int each = shape->layout == SNTK_LAYOUT_PAIRED ? 2 : 1;
  sntk_neurons chunk = *shape;
  chunk.count = slabs > 0 && rows > 0 ? feature_columns(rows, each, shape->type, most) : most;
  sntk_plan_take(plan, real_bytes(rows, each * chunk.count, shape->type), slabs);
  sntk_plan_take(plan, sntk_size_mul(rows, rows), sizeof(double));
  ctx->backend->plan(ctx, &chunk, samples, work, plan);
  if (fresh) sntk_plan_take(plan, sntk_size_mul(rows, rows), sizeof(double));
  sntk_plan_drop(plan, held);
}

/* The features of a sample whose softmax one neuron carries are as small as what the others have of it, and in float32
 * their products would vanish: such rows are multiplied by a power of two, by way of their normalizers, until the end.
 * The power has a limit: it also stands in the factor sqrt(m) / sum, which must not overflow (sqrt(m) up to 2^31), and
 * what is left to the smallest number of the type is far from vanishing in a product. */
static sntk_status scale_rows(sntk_context *ctx, const sntk_pass *pass, const double *sum, gram_walk *w) {
  const int64_t n = pass->samples.count, p = pass->outputs;
  const int most = pass->samples.type == SNTK_F32 ? 96 : 900;
  SNTK_TRY(sntk_alloc(ctx, "normalizers", n, sizeof *w->sum, (void **)&w->sum));
  SNTK_TRY(sntk_alloc(ctx, "normalizers", n, sizeof *w->exponent, (void **)&w->exponent));
  for (int64_t i = 0; i < n; i++) {
    double size = 0.0;
    for (int64_t l = i * p; l < (i + 1) * p; l++) size = fmax(size, fmin(pass->away[2 * l], -pass->away[2 * l + 1]));
    w->exponent[i] = size > 0.0 && size < 0.25 ? -ilogb(size) : 0;
    if (w->exponent[i] > most) w->exponent[i] = most;
    w->sum[i] = ldexp(sum[i], -w->exponent[i]);
  }
  return SNTK_OK;
}

/* matrix += U U^T of a chunk. Where the backend multiplies one slab while it fills the next, two take turns. */
static sntk_status add_chunk(sntk_context *ctx, const sntk_neurons *chunk, const sntk_pass *pass, const double *away,
                             int64_t turn, gram_walk *w) {
  const sntk_backend *backend = ctx->backend;
  if (backend->gram) return backend->gram(ctx, chunk, &pass->samples, pass->stats.max, w->sum, away, w->matrix);
  void *u = w->u[turn % backend->feature_slabs];
  const int64_t columns = w->each * chunk->count;
  SNTK_TRY(backend->features(ctx, chunk, &pass->samples, pass->stats.max, w->sum, away, u, columns));
  return backend->gram_add(ctx, chunk->type, u, w->rows, columns, columns, w->matrix);
}

/* One output after the other into the same matrix: the trace over outputs. */
static sntk_status add_traced(sntk_context *ctx, const sntk_neurons *chunk, const sntk_pass *pass, int64_t *turn,
                              gram_walk *w) {
  sntk_neurons one = *chunk;
  one.outputs = 1;
  for (int64_t l = 0; l < pass->outputs; l++) {
    one.signs = chunk->signs + l * chunk->ld_signs;
    for (int64_t i = 0; i < pass->samples.count; i++)
      memcpy(w->away + 2 * i, pass->away + 2 * (i * pass->outputs + l), 2 * sizeof *w->away);
    SNTK_TRY(add_chunk(ctx, &one, pass, w->away, (*turn)++, w));
  }
  return SNTK_OK;
}

/* An entry of samples i <= j (either order of outputs gives the same bits) with their powers of two taken out and their
 * factors put in: one after the other, for the product of two factors may underflow. */
static double finished(const sntk_network *net, const sntk_pass *pass, const gram_walk *w, int64_t i, int64_t j,
                       double entry) {
  if (w->exponent[i] != 0 || w->exponent[j] != 0) entry = ldexp(entry, -w->exponent[i] - w->exponent[j]);
  return sntk_pass_weighted(net) ? entry * pass->factor[i] * pass->factor[j] : entry;
}

/* K o what was added, finished, into host memory. */
static sntk_status walk_finish(sntk_context *ctx, const sntk_network *net, const sntk_pass *pass, int64_t outputs,
                               gram_walk *w, double *gram) {
  const int64_t n = pass->samples.count;
  SNTK_TRY(ctx->backend->gram_finish(ctx, &pass->samples, outputs, w->matrix));
  SNTK_TRY(ctx->backend->download(ctx, gram, w->matrix, w->rows * w->rows * (int64_t)sizeof *gram));
  for (int64_t a = 0; a < w->rows; a++)
    for (int64_t b = 0; b < w->rows; b++) {
      double *const entry = &gram[a * w->rows + b];
      const int64_t i = a % n < b % n ? a % n : b % n, j = a % n + b % n - i;
      const bool there = *entry != 0.0;
      *entry = finished(net, pass, w, i, j, *entry);
      if (a == b && there && !isnormal(*entry) && isfinite(*entry) && sntk_pass_weighted(net))
        return sntk_fail(ctx, SNTK_ERR_NUMERICAL,
                         "an entry of the Gram matrix, of sample %lld with itself, underflows; use a smaller sigma or "
                         "inputs nearer to norm 1",
                         (long long)i);
      if (!isfinite(*entry))
        return sntk_fail(ctx, SNTK_ERR_OVERFLOW,
                         "an entry of the Gram matrix is not finite; use a smaller sigma or smaller weights, smaller "
                         "inputs%s",
                         net->v.type == SNTK_F32 ? ", or precision f64" : "");
    }
  return SNTK_OK;
}

static sntk_status pass_gram(sntk_context *ctx, sntk_network *net, sntk_pass *pass, bool trace, double *gram) {
  const int64_t n = pass->samples.count, outputs = trace ? 1 : pass->outputs;
  gram_walk w;
  int64_t turn = 0;
  SNTK_TRY(walk_create(ctx, net, n * outputs, ctx->backend->gram ? 0 : ctx->backend->feature_slabs, &w));
  sntk_status status = scale_rows(ctx, pass, pass->sum, &w);
  if (status == SNTK_OK && trace) status = sntk_alloc(ctx, "outputs", 2 * n, sizeof *w.away, (void **)&w.away);
  for (int64_t at = 0; at < net->v.count && status == SNTK_OK; at += w.step) {
    sntk_neurons chunk;
    const int64_t b = net->v.count - at < w.step ? net->v.count - at : w.step;
    status = sntk_check_interrupt(ctx);
    if (status == SNTK_OK) status = sntk_network_chunk(ctx, net, at, b, &chunk);
    if (status == SNTK_OK)
      status = trace ? add_traced(ctx, &chunk, pass, &turn, &w) : add_chunk(ctx, &chunk, pass, pass->away, turn++, &w);
    if (status == SNTK_OK) sntk_report_progress(ctx, "gram", at + b, net->v.count, NAN);
  }
  if (status == SNTK_OK) status = walk_finish(ctx, net, pass, outputs, &w, gram);
  walk_clear(ctx, &w);
  return status;
}

sntk_status sntk_pass_gram(sntk_context *ctx, sntk_network *net, sntk_pass *pass, double *gram) {
  return pass_gram(ctx, net, pass, false, gram);
}

void sntk_plan_gram(const sntk_context *ctx, const sntk_neurons *shape, bool streamed, int64_t samples, bool trace,
                    bool fresh, sntk_plan *plan) {
  sntk_neurons one = *shape;
  if (trace) one.outputs = 1;
  const int64_t rows = sntk_size_mul(samples, one.outputs);
  if (trace) sntk_plan_brief(plan, 2 * samples, sizeof(double));
  plan_walk(ctx, &one, streamed, samples, rows, ctx->backend->gram ? 0 : ctx->backend->feature_slabs, SNTK_WORK_GRAM,
            fresh, plan);
}

/* delta, 1 - f0 and -1 - f0, and df of every sample: n, n x p x 2, n x p in `memory`. */
static sntk_change change_of(const sntk_pass *pass, bool softmax, double *memory) {
  const int64_t n = pass->samples.count, p = pass->outputs, rows = pass->rows;
  double *const delta = memory, *const away0 = memory + n, *const df = away0 + 2 * n * p;
  for (int64_t i = 0; i < n && softmax; i++) {
    const double sum0 = pass->base.sum[i];
    delta[i] = pass->stats.sum[i] / sum0;
    for (int64_t l = 0; l < p; l++) {
      const double *t0 = pass->base.t + i * rows + l, *t = pass->stats.t + i * rows + l;
      double *const away = away0 + 2 * (i * p + l);
      const double f0 = sntk_pass_share(*t0, sum0, pass->split ? t0 : NULL, p, away);
      const double moved = pass->split ? away[0] * t[p] + away[1] * t[2 * p] : *t - f0 * pass->stats.sum[i];
      df[i * p + l] = moved / sum0 / (1.0 + delta[i]);
    }
  }
  return (sntk_change){.max = pass->base.max,
                       .sum0 = pass->base.sum,
                       .delta = softmax ? delta : NULL,
                       .away0 = softmax ? away0 : NULL,
                       .away = softmax ? pass->away : NULL,
                       .df = softmax ? df : NULL};
}

sntk_status sntk_pass_gram_change(sntk_context *ctx, sntk_network *net, sntk_pass *pass, double *change) {
  const sntk_backend *backend = ctx->backend;
  const int64_t n = pass->samples.count, p = pass->outputs;
  double *memory;
  gram_walk w;
  SNTK_TRY(sntk_alloc(ctx, "change of the outputs", sntk_size_mul(n, 1 + 3 * p), sizeof *memory, (void **)&memory));
  sntk_change c = change_of(pass, net->v.activation == SNTK_SOFTMAX, memory);
  sntk_status status = walk_create(ctx, net, n * p, 2, &w);
  if (status == SNTK_OK) status = scale_rows(ctx, pass, pass->base.sum, &w);
  c.sum0 = w.sum;
  for (int64_t at = 0; at < net->v.count && status == SNTK_OK; at += w.step) {
    sntk_neurons chunk;
    const int64_t b = net->v.count - at < w.step ? net->v.count - at : w.step, columns = w.each * b;
    status = sntk_check_interrupt(ctx);
    if (status == SNTK_OK) status = sntk_network_chunk(ctx, net, at, b, &chunk);
    if (status == SNTK_OK) status = backend->feature_change(ctx, &chunk, &pass->samples, &c, w.u[0], w.u[1], columns);
    if (status == SNTK_OK)
      status = backend->gram_add_change(ctx, net->v.type, w.u[0], w.u[1], w.rows, columns, columns, w.matrix);
  }
  if (status == SNTK_OK) status = walk_finish(ctx, net, pass, p, &w, change);
  walk_clear(ctx, &w);
  free(memory);
  return status;
}

void sntk_plan_gram_change(const sntk_context *ctx, const sntk_neurons *shape, int64_t samples, bool fresh,
                           sntk_plan *plan) {
  const int64_t held = plan->held, rows = sntk_size_mul(samples, shape->outputs);
  sntk_plan_take(plan, sntk_size_add(samples, sntk_size_mul(3, rows)), sizeof(double));
  plan_walk(ctx, shape, false, samples, rows, 2, SNTK_WORK_CHANGE, fresh, plan);
  sntk_plan_drop(plan, held);
}

/* The two walks of a matrix: statistics, then products. */
static sntk_status begin(sntk_context *ctx, sntk_network *net, const double *inputs, int64_t samples, sntk_pass *pass) {
  SNTK_TRY(sntk_network_check(ctx, net, inputs, samples));
  SNTK_TRY(sntk_pass_create(ctx, net, inputs, samples, pass));
  sntk_status status = sntk_pass_base(ctx, net, pass);
  if (status == SNTK_OK) status = sntk_pass_forward(ctx, net, pass, "statistics");
  if (status != SNTK_OK) sntk_pass_clear(ctx, pass);
  return status;
}

sntk_status sntk_ntk_gram(sntk_context *ctx, sntk_network *net, const double *inputs, int64_t samples, double *gram) {
  SNTK_NEED(ctx, gram, "gram");
  sntk_pass pass;
  SNTK_TRY(begin(ctx, net, inputs, samples, &pass));
  const sntk_status status = pass_gram(ctx, net, &pass, false, gram);
  sntk_pass_clear(ctx, &pass);
  return status;
}

void sntk_plan_ntk(const sntk_context *ctx, const sntk_neurons *shape, bool streamed, int64_t samples, bool trace,
                   bool fresh, sntk_plan *plan) {
  const int64_t held = plan->held;
  sntk_plan_pass(ctx, shape, samples, plan);
  sntk_plan_gram(ctx, shape, streamed, samples, trace, fresh, plan);
  sntk_plan_drop(plan, held);
}

int64_t sntk_ntk_bytes(const sntk_context *ctx, const sntk_network_options *o, int64_t samples) {
  if (!sntk_network_sized(ctx, o, samples)) return -1;
  const sntk_neurons shape = sntk_network_shape(ctx, o);
  sntk_plan plan = {0};
  sntk_plan_ntk(ctx, &shape, o->streamed, samples, false, false, &plan);
  return sntk_plan_bytes(&plan);
}

double sntk_ntk_rounding(const sntk_context *ctx, const sntk_network_options *o, const double *inputs,
                         int64_t samples) {
  if (!ctx || !ctx->backend || !o || !inputs || samples < 1 || o->dim < 1 || o->width < 1) return NAN;
  const bool narrow = ctx->backend->precision(ctx, o->precision) == SNTK_F32;
  const int64_t d = o->dim, m = o->width;
  double input = 0.0, weight = o->weights ? 0.0 : o->sigma * sqrt((double)d);
  for (int64_t i = 0; i < samples; i++) input = fmax(input, sntk_norm(inputs + i * d, d));
  for (int64_t r = 0; r < m && o->weights; r++) {
    double norm = 0.0;
    for (int64_t k = 0; k < d; k++) norm = hypot(norm, o->weights[k * m + r]);
    weight = fmax(weight, norm);
  }
  const double sums = narrow ? 0.0 : sqrt((double)m) / 8.0;
  return 8.0 * (narrow ? 0x1p-24 : 0x1p-53) * (1.0 + input * weight + sums);
}

sntk_status sntk_network_gram64(sntk_context *ctx, sntk_network *net, const double *inputs, int64_t samples,
                                double *gram) {
  if (net->v.type == SNTK_F64) return sntk_ntk_gram(ctx, net, inputs, samples, gram);
  sntk_network wide;
  SNTK_TRY(sntk_network_widen(ctx, net, &wide));
  const sntk_status status = sntk_ntk_gram(ctx, &wide, inputs, samples, gram);
  sntk_network_wide_clear(ctx, &wide);
  return status;
}

void sntk_plan_gram64(const sntk_context *ctx, const sntk_neurons *shape, int64_t samples, bool fresh,
                      sntk_plan *plan) {
  const int64_t held = plan->held;
  const bool widened = shape->type != SNTK_F64;
  sntk_neurons wide = *shape;
  if (widened) {
    wide.layout = SNTK_LAYOUT_PLAIN;
    wide.type = SNTK_F64;
    wide.count = sntk_neuron_count(shape);
    sntk_neurons chunk = wide;
    chunk.count = sntk_chunk_columns(ctx, true, wide.dim, wide.count);
    sntk_plan_neurons(&chunk, plan);
  }
  sntk_plan_ntk(ctx, &wide, widened, samples, false, fresh, plan);
  sntk_plan_drop(plan, held);
}

sntk_status sntk_ntk_trace(sntk_context *ctx, sntk_network *net, const double *inputs, int64_t samples, double *trace) {
  SNTK_NEED(ctx, trace, "trace");
  sntk_pass pass;
  SNTK_TRY(begin(ctx, net, inputs, samples, &pass));
  const sntk_status status = pass_gram(ctx, net, &pass, true, trace);
  sntk_pass_clear(ctx, &pass);
  return status;
}

/* A pass of the samples [first, first + count) and [other, other + more) alone, with the statistics that they have in
 * `whole`. */
static sntk_status part_of(sntk_context *ctx, const sntk_network *net, const sntk_pass *whole, const double *inputs,
                           int64_t first, int64_t count, int64_t other, int64_t more, sntk_pass *part) {
  const int64_t d = net->v.dim, p = whole->outputs;
  double *rows;
  SNTK_TRY(sntk_alloc(ctx, "inputs of a block", sntk_size_mul(count + more, d), sizeof *rows, (void **)&rows));
  for (int64_t i = 0; i < count + more; i++)
    memcpy(rows + i * d, inputs + (i < count ? first + i : other + i - count) * d, (size_t)d * sizeof *rows);
  const sntk_status status = sntk_pass_create(ctx, net, rows, count + more, part);
  free(rows);
  SNTK_TRY(status);
  for (int64_t i = 0; i < count + more; i++) {
    const int64_t from = i < count ? first + i : other + i - count;
    part->stats.max[i] = whole->stats.max[from];
    part->sum[i] = whole->sum[from];
    memcpy(part->away + 2 * i * p, whole->away + 2 * from * p, (size_t)(2 * p) * sizeof *part->away);
  }
  return SNTK_OK;
}

/* H of the samples of two ranges together into `square`, and its block (range, other range) into `block`; one range:
 * the whole of it is the block. */
static sntk_status block_of(sntk_context *ctx, sntk_network *net, const sntk_pass *whole, const double *inputs,
                            int64_t first, int64_t count, int64_t other, int64_t more, double *square, double *block) {
  const int64_t p = whole->outputs, all = count + more;
  const bool diagonal = more == 0;
  sntk_pass part;
  SNTK_TRY(part_of(ctx, net, whole, inputs, first, count, other, more, &part));
  const sntk_status status = pass_gram(ctx, net, &part, false, square);
  sntk_pass_clear(ctx, &part);
  const int64_t columns = diagonal ? count : more, from = diagonal ? 0 : count;
  for (int64_t a = 0; a < count * p && status == SNTK_OK; a++)
    for (int64_t b = 0; b < columns * p; b++)
      block[a * columns * p + b] =
          square[(a % count + all * (a / count)) * all * p + from + b % columns + all * (b / columns)];
  return status;
}

sntk_status sntk_ntk_blocks(sntk_context *ctx, sntk_network *net, const double *inputs, int64_t samples, int64_t size,
                            const int64_t *pairs, int64_t count, sntk_ntk_block_fn take, void *user) {
  SNTK_TRY(sntk_network_check(ctx, net, inputs, samples));
  SNTK_NEED(ctx, take, "take");
  SNTK_NEED(ctx, pairs || count == 0, "pairs");
  if (count != 0) SNTK_TRY(sntk_check_array(ctx, "pairs", count, 2));
  const int64_t ranges = samples > 0 && size > 0 ? (samples - 1) / size + 1 : 0, p = net->options.outputs;
  const int64_t all = sntk_size_mul(ranges, ranges + 1) / 2, most = size < samples ? size : samples;
  if (size < 1)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "blocks of %lld samples: there must be at least 1", (long long)size);
  for (int64_t j = 0; j < 2 * count; j++)
    if (pairs[j] < 0 || pairs[j] >= ranges)
      return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "there is no range %lld: %lld samples make ranges 0 to %lld",
                       (long long)pairs[j], (long long)samples, (long long)ranges - 1);
  double *square = NULL, *block = NULL;
  sntk_pass pass;
  SNTK_TRY(begin(ctx, net, inputs, samples, &pass));
  const int64_t side = sntk_size_mul(2 * most, p);
  sntk_status status = sntk_alloc(ctx, "pair of blocks", sntk_size_mul(side, side), sizeof *square, (void **)&square);
  if (status == SNTK_OK)
    status = sntk_alloc(ctx, "block", sntk_size_mul(most * p, most * p), sizeof *block, (void **)&block);
  int64_t row = 0, column = 0;
  for (int64_t j = 0; j < (count > 0 ? count : all) && status == SNTK_OK; j++) {
    const int64_t a = count > 0 ? pairs[2 * j] : row, b = count > 0 ? pairs[2 * j + 1] : column;
    const int64_t first = a * size, other = b * size;
    sntk_ntk_block it = {.row = a, .column = b, .first = first, .other = other};
    it.rows = samples - first < size ? samples - first : size;
    it.columns = samples - other < size ? samples - other : size;
    it.values = block;
    status = block_of(ctx, net, &pass, inputs, first, it.rows, other, a == b ? 0 : it.columns, square, block);
    if (status == SNTK_OK) status = take(user, &it);
    if (++column > row) row++, column = 0;
  }
  free(square);
  free(block);
  sntk_pass_clear(ctx, &pass);
  return status;
}

/* The pass of all samples; square and block, both written before the second pair; a pair's inputs, pass and walk. */
void sntk_plan_blocks(const sntk_context *ctx, const sntk_neurons *shape, bool streamed, int64_t samples, int64_t size,
                      int64_t most, sntk_plan *plan) {
  const int64_t rows = sntk_size_mul(size < samples ? size : samples, shape->outputs);
  const int64_t side = sntk_size_mul(most, shape->outputs);
  const bool several = size < samples;
  sntk_plan_pass(ctx, shape, samples, plan);
  if (several) sntk_plan_take(plan, sntk_size_mul(side, side), sizeof(double));
  if (several) sntk_plan_take(plan, sntk_size_mul(rows, rows), sizeof(double));
  const int64_t held = plan->held;
  sntk_plan_take(plan, sntk_size_mul(most, shape->dim), sizeof(double));
  sntk_plan_pass(ctx, shape, most, plan);
  sntk_plan_drop(plan, held);
  sntk_plan_pass(ctx, shape, most, plan);
  sntk_plan_gram(ctx, shape, streamed, most, false, !several, plan);
  sntk_plan_drop(plan, held);
  if (!several)
    sntk_plan_take(plan, sntk_size_add(sntk_size_mul(side, side), sntk_size_mul(rows, rows)), sizeof(double));
}

typedef struct diagonal {
  double *values;
  int64_t samples, outputs;
} diagonal;

static sntk_status take_diagonal(void *user, const sntk_ntk_block *block) {
  diagonal *d = user;
  for (int64_t l = 0; l < d->outputs; l++)
    for (int64_t i = 0; i < block->rows; i++) {
      const int64_t a = i + block->rows * l;
      d->values[block->first + i + d->samples * l] = block->values[a * block->rows * d->outputs + a];
    }
  return SNTK_OK;
}

sntk_status sntk_ntk_diagonal(sntk_context *ctx, sntk_network *net, const double *inputs, int64_t samples,
                              double *values) {
  SNTK_TRY(sntk_network_check(ctx, net, inputs, samples));
  SNTK_NEED(ctx, values, "values");
  /* Blocks small enough that what is off the diagonal costs little, and so large that the weights, made anew for each,
   * do not cost more. */
  const int64_t size = 32, ranges = samples > 0 ? (samples - 1) / size + 1 : 0;
  diagonal d = {.values = values, .samples = samples, .outputs = net->options.outputs};
  int64_t *pairs;
  SNTK_TRY(sntk_alloc(ctx, "ranges", sntk_size_mul(2, ranges), sizeof *pairs, (void **)&pairs));
  for (int64_t j = 0; j < 2 * ranges; j++) pairs[j] = j / 2;
  const sntk_status status = sntk_ntk_blocks(ctx, net, inputs, samples, size, pairs, ranges, take_diagonal, &d);
  free(pairs);
  return status;
}

/* A row of inputs and the power of two that brings its largest number near 1: inner products of rows so scaled neither
 * overflow nor vanish. */
typedef struct scaled_row {
  const double *x;
  int exponent;
  double scale;
  long double square; /* of the scaled row */
} scaled_row;

/* Sums in long double: where it is wider than double, rows that are nearly at right angles keep their inner product. */
static long double inner(const scaled_row *a, const scaled_row *b, int64_t dim) {
  long double sum = 0.0L;
  for (int64_t c = 0; c < dim; c++) sum += (long double)(a->scale * a->x[c]) * (long double)(b->scale * b->x[c]);
  return sum;
}

static scaled_row scale_row(const double *x, int64_t dim) {
  double largest = 0.0;
  for (int64_t c = 0; c < dim; c++) largest = fmax(largest, fabs(x[c]));
  scaled_row row = {.x = x, .scale = 1.0};
  if (largest > 0.0) row.exponent = ilogb(largest);
  if (row.exponent > 1000) row.exponent = 1000; /* its reciprocal must be normal */
  if (row.exponent < -1000) row.exponent = -1000;
  row.scale = ldexp(1.0, -row.exponent);
  row.square = inner(&row, &row, dim);
  return row;
}

/* Sine of the angle between two rows, from what of b stands at right angles to a, w = b - t a: right to a few eps
 * however small it is. The fused multiply-add rounds each w once; t's own rounding leaves a piece along a, which a
 * second pass takes away. */
static double sine(const scaled_row *a, const scaled_row *b, int64_t dim, long double dot) {
  const double t = (double)(dot / a->square);
  long double along = 0.0L, square = 0.0L;
  for (int64_t c = 0; c < dim; c++)
    along += (long double)fma(-t, a->scale * a->x[c], b->scale * b->x[c]) * (long double)(a->scale * a->x[c]);
  along /= a->square;
  for (int64_t c = 0; c < dim; c++) {
    const long double ac = (long double)(a->scale * a->x[c]);
    const long double w = (long double)fma(-t, a->scale * a->x[c], b->scale * b->x[c]) - along * ac;
    square += w * w;
  }
  return (double)sqrtl(square / b->square);
}

/* (pi - theta) / (2 pi), theta the angle between two rows. The arc cosine of a number near 1 or -1 has lost half of its
 * digits: there the sine tells the angle. */
static double angular(const scaled_row *a, const scaled_row *b, int64_t dim, long double dot) {
  const double pi = acos(-1.0);
  if (a->square == 0.0L || b->square == 0.0L) return 0.0;
  const double cosine = (double)(dot / (sqrtl(a->square) * sqrtl(b->square)));
  if (fabs(cosine) < 0.5) return (pi - acos(cosine)) / (2.0 * pi);
  const double small = asin(fmin(1.0, sine(a, b, dim, dot))); /* to the nearer of the same and the opposite direction */
  return cosine > 0.0 ? 0.5 - small / (2.0 * pi) : small / (2.0 * pi);
}

/* Entry of the kernel. Squares and inner products stand without the rows' powers of two, which come last: an entry that
 * is a normal number is right whatever the sizes of its rows. */
static double infinite_entry(sntk_activation activation, double sigma, const scaled_row *a, const scaled_row *b,
                             int64_t dim) {
  const bool same = a->x == b->x;
  const long double dot = same ? a->square : inner(a, b, dim), variance = (long double)sigma * (long double)sigma;
  const int both = a->exponent + b->exponent;
  if (activation == SNTK_RELU) return ldexp((double)(dot * (long double)(same ? 0.5 : angular(a, b, dim, dot))), both);
  long double k = ldexpl(dot, both);
  if (activation == SNTK_EXP)
    k = 0.5L * (ldexpl(a->square, 2 * a->exponent) + ldexpl(b->square, 2 * b->exponent) + 2.0L * k);
  return ldexp((double)(dot * expl(variance * k)), both);
}

sntk_status sntk_ntk_infinite(sntk_context *ctx, sntk_activation activation, double sigma, const double *inputs,
                              int64_t samples, int64_t dim, double *block) {
  SNTK_NEED(ctx, ctx, "ctx");
  SNTK_NEED(ctx, inputs, "inputs");
  SNTK_NEED(ctx, block, "block");
  SNTK_TRY(sntk_check_array(ctx, "inputs", samples, dim));
  SNTK_TRY(sntk_check_array(ctx, "block", samples, samples));
  if ((unsigned)activation > SNTK_EXP_NORMALIZED)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "activation %d is unknown", (int)activation);
  if (!(sigma > 0.0 && isfinite(sigma)))
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "sigma %g must be positive and finite", sigma);
  scaled_row *rows;
  SNTK_TRY(sntk_alloc(ctx, "squared norms", samples, sizeof *rows, (void **)&rows));
  for (int64_t i = 0; i < samples; i++) rows[i] = scale_row(inputs + i * dim, dim);
  sntk_status status = SNTK_OK;
  for (int64_t i = 0; i < samples && status == SNTK_OK; i++) {
    status = sntk_check_interrupt(ctx);
    for (int64_t j = 0; j <= i && status == SNTK_OK; j++) {
      const double entry = infinite_entry(activation, sigma, &rows[i], &rows[j], dim);
      block[i * samples + j] = block[j * samples + i] = entry;
      if (isfinite(entry)) continue;
      status =
          sntk_fail(ctx, SNTK_ERR_OVERFLOW,
                    "the infinite-width kernel overflows at (%lld, %lld); use a smaller sigma or smaller inputs, or "
                    "ntk.infinite: false for the finite network alone",
                    (long long)i, (long long)j);
    }
  }
  free(rows);
  return status;
}

void sntk_plan_eigenvalues(int64_t size, sntk_plan *plan) {
  sntk_plan_brief(plan, sntk_size_mul(size, size), sizeof(double));
}

sntk_status sntk_eigenvalues(sntk_context *ctx, const double *matrix, int64_t size, double *values) {
  SNTK_NEED_OPEN(ctx);
  SNTK_NEED(ctx, matrix, "matrix");
  SNTK_NEED(ctx, values, "values");
  SNTK_TRY(sntk_check_array(ctx, "matrix", size, size));
  const int64_t bytes = sntk_size_mul(sntk_size_mul(size, size), sizeof(double));
  void *copy = NULL;
  SNTK_TRY(ctx->backend->alloc(ctx, "copy for eigenvalues", bytes, &copy));
  sntk_status status = ctx->backend->upload(ctx, copy, matrix, bytes);
  if (status == SNTK_OK) status = ctx->backend->eigenvalues(ctx, copy, size, values);
  if (status == SNTK_OK) status = sntk_check_interrupt(ctx);
  ctx->backend->free(ctx, copy);
  return status;
}
