/**
 * @file cmd_ntk.c
 * @brief softntk ntk: the Gram matrix of the neural tangent kernel, its spectrum, and its infinite-width limit.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/app.h"
#include "core/files.h"
#include "engine/engine.h"

typedef enum matrix_part {
  PART_FULL,
  PART_TRACE,
  PART_DIAGONAL,
  PART_BLOCKS
} matrix_part; /* in the order of ntk.matrix */

/* A spectrum, whole or its two ends. */
typedef struct spectrum {
  double *values; /* ascending; NULL: only the ends */
  int64_t count;
  sntk_extremes ends;
  bool known;
} spectrum;

/* What one point computes; NULL where it does not. */
typedef struct kernels {
  matrix_part part;
  int64_t size, block; /* rows of the matrix: np, or n (trace); n */
  int64_t outputs;
  double *gram; /* size x size; np (diagonal); NULL (blocks) */
  double
      *infinite; /* n x n, one output's block, or the trace; its diagonal, n; NULL with blocks, which make their own */
  spectrum spectrum, infinite_spectrum;
  double norm, distance; /* |H|_F; |H - H_inf|_F / |H_inf|_F; NaN where not taken */
  int64_t width;         /* of the network; 0: none */
  sntk_form form;        /* it is kept in */
  sntk_status written;   /* why the file could not be, with its text */
  char why[SNTK_ERROR_CHARS];
  char *limit_error; /* why there is no limit beside the finite kernel */
} kernels;

static void kernels_clear(kernels *k) {
  free(k->gram);
  free(k->infinite);
  free(k->spectrum.values);
  free(k->infinite_spectrum.values);
  free(k->limit_error);
  *k = (kernels){0};
}

static bool finite_width(const sntk_config *config) {
  if (sntk_config_has(config, "ntk.method")) return strcmp(sntk_config_text(config, "ntk.method"), "finite") == 0;
  return sntk_config_has(config, "network.width") || sntk_config_has(config, "network.weights");
}

static matrix_part part_of(const sntk_config *config) { return (matrix_part)sntk_config_choice(config, "ntk.matrix"); }

static bool wants_infinite(const app_problem *problem) { /* the limit belongs to Gaussian weights */
  return !problem->network.weights &&
         (problem->network.width == 0 || sntk_config_bool(problem->config, "ntk.infinite"));
}

/* Pairs of ranges that are there, each once: its block goes to the file under its ranges' names. */
static sntk_status check_pairs(app *a, const app_problem *problem) {
  const sntk_config *c = problem->config;
  const int64_t block = sntk_config_int(c, "ntk.block"), ranges = (problem->data->samples - 1) / block + 1;
  int64_t numbers;
  const int64_t *pairs = sntk_config_ints(c, "ntk.pairs", &numbers);
  if (numbers % 2)
    return sntk_config_error(a->ctx, c, "ntk.pairs", SNTK_ERR_CONFIG,
                             "%lld numbers do not make pairs; give two numbers for each block", (long long)numbers);
  for (int64_t j = 0; j < numbers; j++)
    if (pairs[j] >= ranges)
      return sntk_config_error(
          a->ctx, c, "ntk.pairs", SNTK_ERR_CONFIG, "there is no range %lld: %lld samples make ranges 0 to %lld of %lld",
          (long long)pairs[j], (long long)problem->data->samples, (long long)ranges - 1, (long long)block);
  for (int64_t j = 0; j < numbers; j += 2)
    for (int64_t k = 0; k < j; k += 2)
      if (pairs[j] == pairs[k] && pairs[j + 1] == pairs[k + 1])
        return sntk_config_error(a->ctx, c, "ntk.pairs", SNTK_ERR_CONFIG, "block (%lld, %lld) is there twice",
                                 (long long)pairs[j], (long long)pairs[j + 1]);
  return SNTK_OK;
}

enum { PREFIXES_MOST = 64 }; /* halves of a 63-bit width are fewer */

/* Widths that are given must be prefixes of the network, each once. */
static sntk_status check_prefix_widths(app *a, const app_problem *problem) {
  static const char *const key = "ntk.prefix_widths";
  const sntk_config *c = problem->config;
  const bool paired = problem->network.init == SNTK_INIT_SYMMETRIC;
  int64_t count;
  const int64_t *widths = sntk_config_ints(c, key, &count);
  if (count > 0 && !sntk_config_bool(c, "ntk.prefixes"))
    return sntk_config_error(a->ctx, c, key, SNTK_ERR_CONFIG, "widths of prefixes need ntk.prefixes: true");
  if (count > PREFIXES_MOST)
    return sntk_config_error(a->ctx, c, key, SNTK_ERR_CONFIG, "%lld widths are too many; give at most %d",
                             (long long)count, PREFIXES_MOST);
  for (int64_t i = 0; i < count; i++) {
    if (widths[i] >= problem->network.width || (i > 0 && widths[i] <= widths[i - 1]))
      return sntk_config_error(a->ctx, c, key, SNTK_ERR_CONFIG,
                               "%lld does not stand there in ascending order below network.width, %lld",
                               (long long)widths[i], (long long)problem->network.width);
    if (paired && widths[i] % 2)
      return sntk_config_error(a->ctx, c, key, SNTK_ERR_CONFIG,
                               "%lld is odd, and symmetric initialization pairs neurons; use an even width or "
                               "network.init iid",
                               (long long)widths[i]);
  }
  return SNTK_OK;
}

static sntk_status check_options(app *a, const app_problem *problem) {
  const sntk_config *c = problem->config;
  const matrix_part part = part_of(c);
  if (problem->network.weights && !finite_width(c))
    return sntk_config_error(
        a->ctx, c, "network.weights", SNTK_ERR_CONFIG,
        "H at infinite width is that of Gaussian weights; remove the key, or use ntk.method finite");
  if (problem->network.width == 0 && part != PART_FULL)
    return sntk_config_error(a->ctx, c, "ntk.matrix", SNTK_ERR_CONFIG,
                             "parts are taken of a finite network; give network.width, or matrix full");
  if (sntk_config_given(c, "ntk.pairs") && part != PART_BLOCKS)
    return sntk_config_error(a->ctx, c, "ntk.pairs", SNTK_ERR_CONFIG, "pairs belong to ntk.matrix blocks");
  SNTK_TRY(check_pairs(a, problem));
  if (!sntk_config_bool(c, "ntk.prefixes")) return check_prefix_widths(a, problem);
  if (problem->network.width == 0)
    return sntk_config_error(a->ctx, c, "ntk.prefixes", SNTK_ERR_CONFIG, "prefixes need network.width");
  if (problem->network.weights || problem->network.signs || problem->network.displacement)
    return sntk_config_error(a->ctx, c, "ntk.prefixes", SNTK_ERR_CONFIG,
                             "prefixes are drawn, not loaded; remove network.weights and network.signs");
  if (part == PART_BLOCKS)
    return sntk_config_error(a->ctx, c, "ntk.prefixes", SNTK_ERR_CONFIG,
                             "blocks are taken at one width; use matrix full, trace or diagonal");
  return check_prefix_widths(a, problem);
}

enum { DENSE_MOST = 4096 }; /* beyond, all eigenvalues take much longer than the two ends */

/* Is the part at infinite width what is kept of the limit, one output's block? */
static bool same_as_limit(matrix_part part, int64_t outputs) {
  return part == PART_TRACE || (part == PART_FULL && outputs == 1);
}

/* ---- memory ---- */

static int64_t square(int64_t size) { return sntk_size_mul(size, size); }

static bool by_lanczos(const sntk_config *config, int64_t size) {
  const char *solver = sntk_config_text(config, "ntk.solver");
  return strcmp(solver, "lanczos") == 0 || (strcmp(solver, "auto") == 0 && size > DENSE_MOST);
}

static void plan_spectrum(const sntk_config *config, int64_t size, sntk_plan *plan) {
  if (!sntk_config_bool(config, "ntk.eigenvalues")) return;
  if (by_lanczos(config, size)) {
    sntk_plan_extremes(size, plan);
  } else {
    sntk_plan_take(plan, size, sizeof(double));
    sntk_plan_eigenvalues(size, plan);
  }
}

/* Samples of the largest pair of ranges that is asked for. */
static int64_t largest_pair(const app_problem *problem) {
  const int64_t n = problem->data->samples, block = sntk_config_int(problem->config, "ntk.block");
  const int64_t ranges = (n - 1) / block + 1, last = n - (ranges - 1) * block;
  int64_t numbers, most = 0;
  const int64_t *pairs = sntk_config_ints(problem->config, "ntk.pairs", &numbers);
  if (numbers == 0) return ranges == 1 ? n : ranges == 2 ? block + last : 2 * block;
  for (int64_t j = 0; j + 1 < numbers; j += 2) {
    const int64_t first = pairs[j] == ranges - 1 ? last : block, other = pairs[j + 1] == ranges - 1 ? last : block;
    const int64_t all = pairs[j] == pairs[j + 1] ? first : first + other;
    if (all > most) most = all;
  }
  return most;
}

static void plan_blocks(app *a, const app_problem *problem, const sntk_neurons *shape, sntk_plan *plan) {
  const int64_t n = problem->data->samples, block = sntk_config_int(problem->config, "ntk.block");
  const int64_t rows = block < n ? block : n, most = largest_pair(problem);
  sntk_plan_blocks(a->ctx, shape, problem->network.streamed, n, rows, most, plan);
  if (!wants_infinite(problem)) return;
  /* infinite_block */
  sntk_plan_take(plan, square(rows), sizeof(double));
  sntk_plan_brief(plan, sntk_size_mul(most, sntk_size_add(most, problem->network.dim)), sizeof(double));
}

/* compute_finite, at one width; what it leaves is held. */
static void plan_finite(app *a, const app_problem *problem, const sntk_neurons *shape, matrix_part part,
                        sntk_plan *plan) {
  const int64_t n = problem->data->samples, rows = part == PART_TRACE ? n : sntk_size_mul(n, shape->outputs);
  const int64_t held = plan->held;
  if (part == PART_DIAGONAL) {
    sntk_plan_blocks(a->ctx, shape, problem->network.streamed, n, 32, 32 < n ? 32 : n, plan);
    sntk_plan_drop(plan, held);
    sntk_plan_take(plan, rows, sizeof(double));
    return;
  }
  sntk_plan_ntk(a->ctx, shape, problem->network.streamed, n, part == PART_TRACE, true, plan);
  sntk_plan_take(plan, square(rows), sizeof(double));
  plan_spectrum(problem->config, rows, plan);
}

/* As app_ntk_point goes: the limit, which stays, then the network and its kernel, then run.h5. A prefix takes no more
 * than the whole. */
static int64_t kernel_bytes(app *a, const app_problem *problem) {
  const matrix_part part = part_of(problem->config);
  const int64_t n = problem->data->samples, p = problem->network.outputs;
  const int64_t columns = part == PART_DIAGONAL ? 1 : n;
  const bool infinite = wants_infinite(problem) && part != PART_BLOCKS;
  sntk_plan plan = {0};
  if (infinite) sntk_plan_take(&plan, sntk_size_mul(n, columns), sizeof(double));
  if (infinite && part != PART_DIAGONAL) plan_spectrum(problem->config, n, &plan);
  if (problem->network.width > 0) {
    const sntk_neurons shape = sntk_network_shape(a->ctx, &problem->network);
    sntk_plan_network(a->ctx, &problem->network, &plan);
    if (part == PART_BLOCKS)
      plan_blocks(a, problem, &shape, &plan);
    else
      plan_finite(a, problem, &shape, part, &plan);
  }
  if (infinite && !same_as_limit(part, p)) /* write_infinite */
    sntk_plan_brief(&plan, sntk_size_mul(sntk_size_mul(n, p), columns), sizeof(double));
  if (problem->network.width > 0 && sntk_config_bool(problem->config, "save.weights"))
    app_plan_write_network(&problem->network, &plan);
  return sntk_plan_bytes(&plan);
}

/* Without weights to be loaded or saved nothing of size width is held. */
static void stream_if_possible(app_problem *problem) {
  problem->network.streamed = problem->network.form != SNTK_FORM_DISPLACEMENT && !problem->network.weights &&
                              !problem->network.signs && !problem->network.displacement;
}

static const char *memory_key(const app_problem *problem) {
  return problem->weights.values ? "network.weights" : problem->network.width > 0 ? "network.width" : "data.source";
}

/* ---- spectra ---- */

/* off: how far rounding may have carried the matrix itself from what it stands for, in |.|_2 and as a share of it; its
 * eigenvalues are off by as much (Weyl). */
static sntk_status take_spectrum(app *a, const sntk_config *config, const double *matrix, int64_t size, double off,
                                 spectrum *s) {
  if (!sntk_config_bool(config, "ntk.eigenvalues")) return SNTK_OK;
  s->count = size;
  if (by_lanczos(config, size)) {
    SNTK_TRY(sntk_extreme_eigenvalues(a->ctx, matrix, size, &s->ends));
  } else {
    SNTK_TRY(sntk_alloc(a->ctx, "eigenvalues", size, sizeof *s->values, (void **)&s->values));
    SNTK_TRY(sntk_eigenvalues(a->ctx, matrix, size, s->values));
    s->ends.min = s->values[0];
    s->ends.max = s->values[size - 1];
    /* backward stability: eigenvalues of a matrix within about size eps |H|_2 of this one */
    s->ends.min_error = s->ends.max_error = (double)size * 0x1p-53 * fmax(fabs(s->ends.min), fabs(s->ends.max));
  }
  off *= fmax(fabs(s->ends.min), fabs(s->ends.max));
  s->ends.min_error += off;
  s->ends.max_error += off;
  s->known = true;
  return SNTK_OK;
}

/* ---- matrices ---- */

/* Adds |part - its limit|^2 and |limit|^2; row a of the part is sample a % rows, output a / rows. */
typedef struct deviation {
  long double square, norm, limit; /* where that type is wider, no square of a double overflows or vanishes in it */
} deviation;

static void add_difference(deviation *d, double value, double limit, double times) {
  const long double v = value, by = (long double)value - (long double)limit, l = limit;
  d->square += (long double)times * by * by;
  d->norm += (long double)times * v * v;
  d->limit += (long double)times * l * l;
}

static double norm_of(const deviation *d) { return (double)sqrtl(d->norm); }
static double distance_of(const deviation *d) { return (double)sqrtl(d->square / d->limit); }

/* Entry of the part at infinite width: H is block diagonal over the outputs; its trace is p times the block. */
static double limit_at(const kernels *k, int64_t i, int64_t j) {
  const int64_t n = k->block;
  if (!k->infinite) return 0.0;
  if (k->part == PART_TRACE) return k->infinite[i * n + j];
  if (k->part == PART_DIAGONAL) return k->infinite[i % n];
  return i / n == j / n ? k->infinite[i % n * n + j % n] : 0.0;
}

static void compare_with_infinite(kernels *k) {
  deviation d = {0};
  for (int64_t i = 0; i < k->size; i++)
    for (int64_t j = 0; j < (k->part == PART_DIAGONAL ? 1 : k->size); j++) {
      const double limit = k->part == PART_DIAGONAL ? limit_at(k, i, i) : limit_at(k, i, j);
      add_difference(&d, k->part == PART_DIAGONAL ? k->gram[i] : k->gram[i * k->size + j], limit, 1.0);
    }
  k->norm = norm_of(&d);
  k->distance = k->infinite ? distance_of(&d) : NAN;
}

/* Largest |H_ij - H_ji| / max |H|. */
static double symmetry_violation(const kernels *k) {
  double largest = 0.0, difference = 0.0;
  for (int64_t i = 0; i < k->size; i++)
    for (int64_t j = 0; j <= i; j++) {
      largest = fmax(largest, fabs(k->gram[i * k->size + j]));
      difference = fmax(difference, fabs(k->gram[i * k->size + j] - k->gram[j * k->size + i]));
    }
  return largest > 0.0 ? difference / largest : 0.0;
}

/* A limit that overflows is no reason to do without the finite kernel, where there is one: the point says so. */
static sntk_status lose_limit(app *a, kernels *k) {
  k->limit_error = strdup(sntk_context_error(a->ctx));
  free(k->infinite);
  k->infinite = NULL;
  return k->limit_error ? SNTK_OK : sntk_fail(a->ctx, SNTK_ERR_MEMORY, "no memory for an error's text");
}

/* Blocks go to the file one by one. */
typedef struct block_writer {
  app *a;
  sntk_h5 *file; /* NULL: only the figures are wanted */
  const app_problem *problem;
  bool infinite;
  bool all; /* on and below the diagonal: those below stand for two */
  deviation deviation;
  kernels *kernels;
} block_writer;

/* The file cannot be written any more; the figures can be taken all the same. */
static void lose_file(app *a, kernels *k, sntk_status written) {
  if (k->written != SNTK_OK) return;
  k->written = written;
  snprintf(k->why, sizeof k->why, "%s", sntk_context_error(a->ctx));
}

static sntk_status infinite_block(block_writer *w, const sntk_ntk_block *block, double **values) {
  const sntk_data *data = w->problem->data;
  const bool diagonal = block->row == block->column;
  const int64_t d = data->dim, r = block->rows, c = block->columns, all = diagonal ? r : r + c;
  double *rows = NULL, *square = NULL;
  *values = NULL;
  sntk_status status = sntk_alloc(w->a->ctx, "inputs of a block", sntk_size_mul(all, d), sizeof *rows, (void **)&rows);
  if (status == SNTK_OK)
    status = sntk_alloc(w->a->ctx, "infinite-width kernel", sntk_size_mul(all, all), sizeof *square, (void **)&square);
  if (status == SNTK_OK)
    status = sntk_alloc(w->a->ctx, "infinite-width kernel", sntk_size_mul(r, c), sizeof **values, (void **)values);
  if (status == SNTK_OK) {
    memcpy(rows, data->inputs + block->first * d, (size_t)(r * d) * sizeof *rows);
    if (!diagonal) memcpy(rows + r * d, data->inputs + block->other * d, (size_t)(c * d) * sizeof *rows);
    status =
        sntk_ntk_infinite(w->a->ctx, w->problem->network.activation, w->problem->network.sigma, rows, all, d, square);
  }
  for (int64_t i = 0; i < r && status == SNTK_OK; i++)
    memcpy(*values + i * c, square + i * all + (diagonal ? 0 : r), (size_t)c * sizeof **values);
  free(rows);
  free(square);
  return status;
}

static sntk_status take_block(void *user, const sntk_ntk_block *block) {
  block_writer *w = user;
  const int64_t r = block->rows, c = block->columns, p = w->problem->network.outputs;
  double *limit = NULL;
  const double times = w->all && block->row != block->column ? 2.0 : 1.0;
  char name[64];
  sntk_status status = w->infinite && !w->kernels->limit_error ? infinite_block(w, block, &limit) : SNTK_OK;
  if (status == SNTK_ERR_OVERFLOW) {
    status = lose_limit(w->a, w->kernels);
    free(limit);
    limit = NULL;
  }
  for (int64_t i = 0; i < r * p && status == SNTK_OK; i++)
    for (int64_t j = 0; j < c * p; j++)
      add_difference(&w->deviation, block->values[i * c * p + j],
                     limit && i / r == j / c ? limit[i % r * c + j % c] : 0.0, times);
  snprintf(name, sizeof name, "/blocks/%lld_%lld", (long long)block->row, (long long)block->column);
  sntk_status written = SNTK_OK;
  if (status == SNTK_OK && w->file) written = sntk_h5_write_f64(w->a->ctx, w->file, name, r * p, c * p, block->values);
  snprintf(name, sizeof name, "/blocks_infinite/%lld_%lld", (long long)block->row, (long long)block->column);
  if (status == SNTK_OK && written == SNTK_OK && w->file && limit)
    written = sntk_h5_write_f64(w->a->ctx, w->file, name, r, c, limit);
  if (written != SNTK_OK) {
    lose_file(w->a, w->kernels, written);
    w->file = NULL;
  }
  free(limit);
  return status;
}

static sntk_status compute_blocks(app *a, const app_problem *problem, sntk_network *net, sntk_h5 *file, kernels *k) {
  int64_t numbers;
  const int64_t *pairs = sntk_config_ints(problem->config, "ntk.pairs", &numbers);
  block_writer w = {
      .a = a, .file = file, .problem = problem, .infinite = wants_infinite(problem), .all = numbers == 0, .kernels = k};
  SNTK_TRY(sntk_ntk_blocks(a->ctx, net, problem->data->inputs, problem->data->samples,
                           sntk_config_int(problem->config, "ntk.block"), pairs, numbers / 2, take_block, &w));
  k->norm = norm_of(&w.deviation);
  k->distance = w.infinite && !k->limit_error ? distance_of(&w.deviation) : NAN;
  return SNTK_OK;
}

/* Rounding is a share of H only above the smallest numbers. A softmax share that float32 has no exponent for is lost,
 * up to 2^-149 of it (2^-126 on a device, whose exponential flushes what is smaller), and A - f with the shares of all
 * neurons; so a row of features, times |x|, is off by at most `row`, and H = B B^T by 2 |B| |E| + |E|^2 with |E|^2 =
 * rows row^2. An entry is a multiple of float64's smallest number. */
static void add_underflow(const app *a, const app_problem *problem, kernels *k) {
  const sntk_network_options *const o = &problem->network;
  const bool narrow = sntk_context_precision(a->ctx, o->precision) == SNTK_F32;
  const double rows = (double)problem->data->samples * (double)k->outputs, m = (double)k->width;
  const double lost = strcmp(sntk_context_backend(a->ctx), "cuda") == 0 ? 0x1p-124 : 0x1p-147;
  double input = 0.0;
  for (int64_t i = 0; i < problem->data->samples; i++)
    input = fmax(input, sntk_norm(problem->data->inputs + i * o->dim, o->dim));
  const double row = narrow && o->activation != SNTK_RELU ? input * m * sqrt(m) * lost : 0.0, e = sqrt(rows) * row;
  const double off = e * (2.0 * sqrt(fmax(k->spectrum.ends.max, 0.0)) + e) + rows * 0x1p-1074;
  k->spectrum.ends.min_error += off;
  k->spectrum.ends.max_error += off;
}

/* H, or the part of it, of one network, with its spectrum and distance from the limit in k->infinite. */
static sntk_status compute_finite(app *a, const app_problem *problem, sntk_network *net, kernels *k) {
  const double *inputs = problem->data->inputs;
  const int64_t n = k->block, rows = k->part == PART_TRACE ? n : sntk_size_mul(n, k->outputs);
  const int64_t count = k->part == PART_DIAGONAL ? rows : sntk_size_mul(rows, rows);
  k->size = rows;
  SNTK_TRY(sntk_alloc(a->ctx, "Gram matrix", count, sizeof *k->gram, (void **)&k->gram));
  if (k->part == PART_TRACE)
    SNTK_TRY(sntk_ntk_trace(a->ctx, net, inputs, n, k->gram));
  else if (k->part == PART_DIAGONAL)
    SNTK_TRY(sntk_ntk_diagonal(a->ctx, net, inputs, n, k->gram));
  else
    SNTK_TRY(sntk_ntk_gram(a->ctx, net, inputs, n, k->gram));
  compare_with_infinite(k);
  if (k->part == PART_DIAGONAL) return SNTK_OK;
  SNTK_TRY(take_spectrum(a, problem->config, k->gram, rows, sntk_ntk_rounding(a->ctx, &problem->network, inputs, n),
                         &k->spectrum));
  if (k->spectrum.known) add_underflow(a, problem, k);
  return SNTK_OK;
}

/* An entry of the limit is right to 4 eps, and |H|_F is at most sqrt(n) |H|_2. */
static double limit_rounding(int64_t n) { return 4.0 * 0x1p-53 * sqrt((double)n); }

static sntk_status infinite_part(app *a, const app_problem *problem, kernels *k) {
  const int64_t n = k->block, d = problem->network.dim;
  const bool diagonal = k->part == PART_DIAGONAL;
  SNTK_TRY(sntk_alloc(a->ctx, "infinite-width kernel", diagonal ? n : sntk_size_mul(n, n), sizeof *k->infinite,
                      (void **)&k->infinite));
  for (int64_t i = 0; i < (diagonal ? n : 1); i++) /* a diagonal entry is the kernel of one sample */
    SNTK_TRY(sntk_ntk_infinite(a->ctx, problem->network.activation, problem->network.sigma,
                               problem->data->inputs + i * d, diagonal ? 1 : n, d, k->infinite + i));
  if (diagonal) return SNTK_OK;
  for (int64_t j = 0; j < n * n && k->part == PART_TRACE; j++) k->infinite[j] *= (double)k->outputs;
  return take_spectrum(a, problem->config, k->infinite, n, limit_rounding(n), &k->infinite_spectrum);
}

static sntk_status compute_infinite(app *a, const app_problem *problem, kernels *k) {
  if (!wants_infinite(problem) || k->part == PART_BLOCKS) return SNTK_OK;
  const sntk_status status = infinite_part(a, problem, k);
  return status == SNTK_ERR_OVERFLOW && k->width > 0 ? lose_limit(a, k) : status;
}

/* ---- points ---- */

static void add_spectrum(sntk_record *point, const char *suffix, const spectrum *s) {
  const sntk_extremes *e = &s->ends;
  const bool resolved = e->min > e->min_error;
  const struct {
    const char *name;
    double value;
  } members[] = {{"lambda_min", e->min},
                 {"lambda_max", e->max},
                 {"condition", resolved ? e->max / e->min : INFINITY}, /* null */
                 {"lambda_min_error", e->min_error},
                 {"lambda_max_error", e->max_error},
                 {"psd_violation", e->max > 0.0 ? fmax(0.0, -e->min) / e->max : 0.0}};
  char key[64];
  if (!s->known) return;
  for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
    snprintf(key, sizeof key, "%s%s", members[i].name, suffix);
    sntk_record_real(point, key, members[i].value);
  }
  snprintf(key, sizeof key, "lambda_min_resolved%s", suffix);
  sntk_record_bool(point, key, resolved);
  snprintf(key, sizeof key, "solver%s", suffix);
  sntk_record_text(point, key, s->values ? "dense" : "lanczos");
}

/* A point of kind ntk, or ntk_prefix. */
static sntk_record *make_point(app *a, const app_problem *problem, const char *kind, const char *id, const kernels *k,
                               double seconds) {
  sntk_record *point = app_point(a, problem, kind, id);
  if (k->width > 0) {
    sntk_record_text(point, "form", k->form == SNTK_FORM_DISPLACEMENT ? "displacement" : "plain");
    sntk_record_bool(point, "streamed", problem->network.streamed);
    sntk_record_text(point, "matrix", sntk_config_text(problem->config, "ntk.matrix"));
    sntk_record_real(point, "gram_norm", k->norm);
  }
  if (k->gram && !isnan(k->norm) && k->part != PART_DIAGONAL)
    sntk_record_real(point, "symmetry_violation", symmetry_violation(k));
  add_spectrum(point, "", &k->spectrum);
  add_spectrum(point, "_infinite", &k->infinite_spectrum);
  if (k->width > 0 && (k->limit_error || !isnan(k->distance)))
    sntk_record_real(point, "infinite_distance", k->distance);
  if (k->limit_error) sntk_record_text(point, "infinite_error", k->limit_error);
  sntk_record_real(point, "ntk_seconds", seconds);
  return point;
}

/* ---- run.h5 ---- */

/* Names of the parts, and of what they are at infinite width: of the same shape, so that it can be subtracted as it is.
 */
static const char *const part_names[][2] = {{"/gram", "/gram_infinite"},
                                            {"/gram_trace", "/gram_trace_infinite"},
                                            {"/gram_diagonal", "/gram_diagonal_infinite"}};

static sntk_status write_infinite(app *a, sntk_h5 *file, const kernels *k) {
  const int64_t n = k->block, size = k->part == PART_TRACE ? n : sntk_size_mul(n, k->outputs);
  const int64_t width = k->part == PART_DIAGONAL ? 1 : n; /* columns at a time */
  const char *name = part_names[k->part][1];
  double *rows;
  if (same_as_limit(k->part, k->outputs)) return sntk_h5_write_f64(a->ctx, file, name, n, n, k->infinite);
  SNTK_TRY(
      sntk_alloc(a->ctx, "infinite-width kernel to write", sntk_size_mul(size, width), sizeof *rows, (void **)&rows));
  sntk_status status = SNTK_OK;
  if (k->part == PART_DIAGONAL) {
    for (int64_t i = 0; i < size; i++) rows[i] = limit_at(k, i, i);
    status = sntk_h5_write_f64(a->ctx, file, name, size, 0, rows);
  } else {
    status = sntk_h5_begin(a->ctx, file, name, 'd', size, size);
    for (int64_t at = 0; at < size && status == SNTK_OK; at += n) {
      for (int64_t i = 0; i < size; i++)
        for (int64_t j = 0; j < n; j++) rows[i * n + j] = limit_at(k, i, at + j);
      status = sntk_h5_write_columns(a->ctx, file, name, at, n, rows);
    }
  }
  free(rows);
  return status;
}

static sntk_status write_kernels(app *a, sntk_h5 *file, const app_problem *problem, sntk_network *net,
                                 const kernels *k) {
  sntk_status status = SNTK_OK;
  if (k->gram)
    status = sntk_h5_write_f64(a->ctx, file, part_names[k->part][0], k->size, k->part == PART_DIAGONAL ? 0 : k->size,
                               k->gram);
  if (status == SNTK_OK && k->spectrum.values)
    status = sntk_h5_write_f64(a->ctx, file, "/eigenvalues", k->size, 0, k->spectrum.values);
  if (status == SNTK_OK && k->infinite) status = write_infinite(a, file, k);
  if (status == SNTK_OK && net && sntk_config_bool(problem->config, "save.weights"))
    status = app_write_network(a, file, net);
  return status;
}

/* ---- prefixes: the same network at m/2, m/4, ... ---- */

/* The widths below the network's, ascending: those that are given, else halves; how many into *count. Free with free().
 */
static sntk_status prefixes_of(app *a, const app_problem *problem, int64_t **widths, int64_t *count) {
  const int64_t least = sntk_config_int(problem->config, "ntk.min_prefix");
  const int64_t multiple = problem->network.init == SNTK_INIT_SYMMETRIC ? 2 : 1;
  const int64_t *given = sntk_config_ints(problem->config, "ntk.prefix_widths", count);
  if (*count > 0) {
    SNTK_TRY(sntk_alloc(a->ctx, "widths", *count, sizeof **widths, (void **)widths));
    memcpy(*widths, given, (size_t)*count * sizeof **widths);
    return SNTK_OK;
  }
  SNTK_TRY(sntk_alloc(a->ctx, "widths", PREFIXES_MOST, sizeof **widths, (void **)widths));
  for (int64_t m = problem->network.width / 2; m >= least && m >= multiple; m /= 2)
    (*widths)[(*count)++] = m / multiple * multiple;
  for (int64_t i = 0; i < *count / 2; i++) {
    const int64_t kept = (*widths)[i];
    (*widths)[i] = (*widths)[*count - 1 - i];
    (*widths)[*count - 1 - i] = kept;
  }
  return SNTK_OK;
}

/* The file of a prefix: prefix_<width>.h5. */
static char *prefix_file(int64_t width) { return sntk_format("prefix_%lld.h5", (long long)width); }

static sntk_status write_kernels_to(app *a, const char *path, const app_problem *problem, const kernels *k) {
  sntk_h5 *file;
  SNTK_TRY(sntk_h5_create(a->ctx, path, &file));
  const sntk_status status = write_kernels(a, file, problem, NULL, k);
  const sntk_status closed = sntk_h5_close(a->ctx, file, status == SNTK_OK);
  return status != SNTK_OK ? status : closed;
}

/* H of a prefix, or the part of it, into a file of its own beside run.h5. */
static sntk_status write_prefix(app *a, const app_problem *problem, const kernels *k) {
  char *name = prefix_file(k->width), *path = name ? sntk_format("%s/%s", a->directory, name) : NULL;
  if (path) app_result(a, path, write_kernels_to(a, path, problem, k));
  const sntk_status status = path ? SNTK_OK : sntk_fail(a->ctx, SNTK_ERR_MEMORY, "no memory for a path");
  free(path);
  free(name);
  return status;
}

/* Are the files of the recorded prefixes there? *there stays as it is where they are. */
sntk_status app_prefixes_there(app *a, bool *there) {
  json_t *points = sntk_config_bool(a->config, "save.prefixes") ? app_points(a, "ntk_prefix") : NULL, *point;
  sntk_status status = SNTK_OK;
  size_t index;
  json_array_foreach(points, index, point) {
    bool one = true;
    char *name = prefix_file(app_int(point, "width"));
    const bool expected = strcmp(app_text(point, "status"), "failed") != 0;
    status = name ? sntk_run_result(a->ctx, a->run, name, expected, &one)
                  : sntk_fail(a->ctx, SNTK_ERR_MEMORY, "no memory for a path");
    free(name);
    if (status != SNTK_OK) break;
    *there = *there && one;
  }
  json_decref(points);
  return status;
}

/* The prefix as it is recorded; *made_again where its file is to be. New reference. */
static sntk_status recorded_prefix(app *a, const char *text, int64_t width, bool keep, json_t **point,
                                   bool *made_again) {
  SNTK_TRY(app_recorded(a, text, point));
  const bool expected = keep && strcmp(app_text(*point, "status"), "failed") != 0;
  char *name = prefix_file(width);
  bool there = true;
  sntk_status status = name ? SNTK_OK : sntk_fail(a->ctx, SNTK_ERR_MEMORY, "no memory for a path");
  if (status == SNTK_OK && expected) status = sntk_run_result(a->ctx, a->run, name, true, &there);
  *made_again = !there;
  free(name);
  return status;
}

static sntk_status record_prefix(app *a, const sntk_record *made, json_t **point) {
  app_progress_end(a); /* the line must not mix with a record on standard output */
  const sntk_status status = app_record(a, made);
  app_progress_begin(a);
  if (status == SNTK_OK) *point = json_incref(sntk_record_members(made));
  return status;
}

/* The recorded point of a prefix, made first where it is not there yet. New reference. */
static sntk_status prefix_named(app *a, const app_problem *problem, const char *name, const kernels *limit,
                                int64_t width, bool keep, json_t **point) {
  const char *recorded = a->run ? sntk_run_find(a->run, "ntk_prefix", name) : NULL;
  bool made_again = false;
  if (recorded) SNTK_TRY(recorded_prefix(a, recorded, width, keep, point, &made_again));
  if (recorded && !made_again) return SNTK_OK;
  app_problem narrow = *problem;
  narrow.network.width = width;
  kernels k = {.part = limit->part,
               .block = limit->block,
               .outputs = limit->outputs,
               .norm = NAN,
               .distance = NAN,
               .width = width};
  sntk_network *net = NULL;
  const double began = sntk_seconds();
  sntk_status status = sntk_network_create(a->ctx, &narrow.network, &net);
  k.infinite = limit->infinite; /* borrowed */
  if (status == SNTK_OK) k.form = sntk_network_form(net);
  if (status == SNTK_OK) status = compute_finite(a, &narrow, net, &k);
  k.infinite = NULL;
  sntk_network_free(net);
  /* before the point: one that is recorded has its file, or run.json says why not */
  if (status == SNTK_OK && keep) status = write_prefix(a, &narrow, &k);
  if (!recorded && (status == SNTK_OK || app_point_failure(status))) {
    sntk_record *made = make_point(a, &narrow, "ntk_prefix", name, &k, sntk_seconds() - began);
    if (status != SNTK_OK) app_point_fail(a, made);
    status = record_prefix(a, made, point);
    sntk_record_free(made);
  }
  kernels_clear(&k);
  return status;
}

static sntk_status prefix_point(app *a, const app_problem *problem, const char *id, const kernels *limit, int64_t width,
                                bool keep, json_t **point) {
  char *name = app_id(id, "prefix=%lld", (long long)width);
  *point = NULL;
  if (!name) return sntk_fail(a->ctx, SNTK_ERR_MEMORY, "no memory for a point's name");
  const sntk_status status = prefix_named(a, problem, name, limit, width, keep, point);
  free(name);
  return status;
}

/* All prefixes as an array of points. New reference. */
static sntk_status take_prefixes(app *a, const app_problem *problem, const char *id, const kernels *limit, bool keep,
                                 json_t *points) {
  int64_t *widths, count;
  SNTK_TRY(prefixes_of(a, problem, &widths, &count));
  sntk_status status = SNTK_OK;
  for (int64_t i = 0; i < count && status == SNTK_OK; i++) {
    json_t *point;
    status = prefix_point(a, problem, id, limit, widths[i], keep, &point);
    if (status == SNTK_OK && json_array_append(points, point) != 0)
      status = sntk_fail(a->ctx, SNTK_ERR_MEMORY, "no memory for the prefixes");
    json_decref(point);
  }
  free(widths);
  return status;
}

/* |H_m - H_inf| / |H_inf| ~ m^exponent over the prefixes and the whole; nothing where there are too few. */
static sntk_status add_rate(app *a, sntk_record *point, const json_t *prefixes) {
  const size_t count = json_array_size(prefixes);
  double x[PREFIXES_MOST + 1], y[PREFIXES_MOST + 1];
  int64_t group[PREFIXES_MOST + 1] = {0}, used = 0;
  for (size_t i = 0; i <= count; i++) {
    const json_t *from = i < count ? json_array_get(prefixes, i) : sntk_record_members(point);
    const double distance = app_real(from, "infinite_distance");
    if (!(distance > 0.0)) continue;
    x[used] = (double)app_int(from, "width");
    y[used++] = distance;
  }
  sntk_power_fit fit;
  sntk_record_int(point, "prefixes", count);
  if (used < 2) return SNTK_OK;
  const sntk_status status = sntk_power_law(a->ctx, x, y, NULL, group, used, 1, NULL, &fit);
  if (status == SNTK_ERR_ARGUMENT) return SNTK_OK; /* not determined */
  SNTK_TRY(status);
  sntk_record_real(point, "rate_exponent", fit.exponent);
  sntk_record_real(point, "rate_factor", fit.factor);
  sntk_record_real(point, "rate_r_squared", fit.r_squared);
  return SNTK_OK;
}

/* The curve over the prefixes and the whole. */
static sntk_status write_prefixes(app *a, sntk_h5 *file, const json_t *prefixes, const json_t *point) {
  static const char *const names[] = {"infinite_distance", "lambda_min", "lambda_max"};
  const int64_t count = (int64_t)json_array_size(prefixes) + 1;
  double *values;
  int64_t *widths;
  SNTK_TRY(sntk_alloc(a->ctx, "prefixes", count, sizeof *values, (void **)&values));
  sntk_status status = sntk_alloc(a->ctx, "prefixes", count, sizeof *widths, (void **)&widths);
  for (int64_t i = 0; i < count && status == SNTK_OK; i++)
    widths[i] = app_int(i + 1 < count ? json_array_get(prefixes, (size_t)i) : point, "width");
  if (status == SNTK_OK) status = sntk_h5_write_i64(a->ctx, file, "/prefix/width", count, 0, widths);
  for (size_t k = 0; k < sizeof names / sizeof *names && status == SNTK_OK; k++) {
    char path[64];
    snprintf(path, sizeof path, "/prefix/%s", names[k]);
    for (int64_t i = 0; i < count; i++)
      values[i] = app_real(i + 1 < count ? json_array_get(prefixes, (size_t)i) : point, names[k]);
    status = sntk_h5_write_f64(a->ctx, file, path, count, 0, values);
  }
  free(values);
  free(widths);
  return status;
}

/* ---- a point ---- */

/* H of the network itself. */
static sntk_status kernel_of_network(app *a, const app_problem *problem, sntk_h5 *file, kernels *k,
                                     sntk_network **net) {
  SNTK_TRY(sntk_network_create(a->ctx, &problem->network, net));
  k->form = sntk_network_form(*net);
  return k->part == PART_BLOCKS ? compute_blocks(a, problem, *net, file, k) : compute_finite(a, problem, *net, k);
}

/* The limit, the prefixes, the network. Without the limit the network comes first: where it overflows too, that is the
 * failure, and no prefix is asked. */
static sntk_status compute_all(app *a, const app_problem *problem, const char *id, sntk_h5 *file, kernels *k,
                               json_t *prefixes, sntk_network **net) {
  const bool keep = file && sntk_config_bool(problem->config, "save.prefixes");
  sntk_status status = compute_infinite(a, problem, k);
  const bool first = k->limit_error != NULL;
  if (status == SNTK_OK && first) status = kernel_of_network(a, problem, file, k, net);
  if (status == SNTK_ERR_OVERFLOW && first) {
    sntk_fail(a->ctx, status, "%s", k->limit_error);
    free(k->limit_error);
    k->limit_error = NULL;
  }
  if (status == SNTK_OK && sntk_config_bool(problem->config, "ntk.prefixes"))
    status = take_prefixes(a, problem, id, k, keep, prefixes);
  if (status == SNTK_OK && !first && k->width > 0) status = kernel_of_network(a, problem, file, k, net);
  return status;
}

/* Everything of one point; the file, where there is one, is open. */
static sntk_status compute(app *a, const app_problem *problem, const char *id, sntk_h5 *file, kernels *k,
                           json_t *prefixes, sntk_record **point) {
  sntk_network *net = NULL;
  const double began = sntk_seconds();
  sntk_status status = compute_all(a, problem, id, file, k, prefixes, &net);
  if (status == SNTK_OK || app_point_failure(status)) {
    *point = make_point(a, problem, "ntk", id, k, sntk_seconds() - began);
  }
  if (status == SNTK_OK && sntk_config_bool(problem->config, "ntk.prefixes")) status = add_rate(a, *point, prefixes);
  if (status == SNTK_OK && file && k->written == SNTK_OK) {
    sntk_status written = write_kernels(a, file, problem, net, k);
    if (written == SNTK_OK && json_array_size(prefixes) > 0)
      written = write_prefixes(a, file, prefixes, sntk_record_members(*point));
    if (written != SNTK_OK) lose_file(a, k, written);
  }
  sntk_network_free(net);
  return status;
}

sntk_status app_ntk_point(app *a, const sntk_config *config, const char *id, const char *h5, sntk_record **point,
                          sntk_status *failure) {
  app_problem problem;
  sntk_h5 *file = NULL;
  *point = NULL;
  *failure = SNTK_OK;
  SNTK_TRY(app_problem_create(a, config, finite_width(config), &problem));
  stream_if_possible(&problem);
  kernels k = {.part = part_of(config),
               .block = problem.data->samples,
               .outputs = problem.network.outputs,
               .norm = NAN,
               .distance = NAN,
               .width = problem.network.width};
  json_t *prefixes = json_array();
  sntk_status status =
      prefixes ? check_options(a, &problem) : sntk_fail(a->ctx, SNTK_ERR_MEMORY, "no memory for the prefixes");
  if (status == SNTK_OK) status = app_check_memory(a, &problem, memory_key(&problem), kernel_bytes(a, &problem));
  if (status == SNTK_OK && h5) status = sntk_h5_create(a->ctx, h5, &file);
  if (status == SNTK_OK) status = compute(a, &problem, id, file, &k, prefixes, point);
  if (app_point_failure(status)) {
    app_point_fail(a, *point);
    *failure = status;
    status = SNTK_OK;
  }
  if (file) {
    char kept[SNTK_ERROR_CHARS];
    const bool whole = status == SNTK_OK && *failure == SNTK_OK;
    snprintf(kept, sizeof kept, "%s", sntk_context_error(a->ctx));
    if (k.written != SNTK_OK) sntk_fail(a->ctx, k.written, "%s", k.why);
    const sntk_status closed = sntk_h5_close(a->ctx, file, whole && k.written == SNTK_OK);
    if (whole) app_result(a, h5, k.written != SNTK_OK ? k.written : closed);
    if (!whole) sntk_fail(a->ctx, status != SNTK_OK ? status : *failure, "%s", kept);
  }
  if (status != SNTK_OK) {
    sntk_record_free(*point);
    *point = NULL;
  }
  json_decref(prefixes);
  kernels_clear(&k);
  app_problem_clear(&problem);
  return status;
}

sntk_status app_ntk_cost(app *a, const sntk_config *config, int64_t *bytes, double *seconds) {
  app_problem problem;
  app_estimate estimate = {0};
  SNTK_TRY(app_problem_create(a, config, finite_width(config), &problem));
  stream_if_possible(&problem);
  sntk_status status = check_options(a, &problem);
  const int64_t more = status == SNTK_OK ? kernel_bytes(a, &problem) : 0;
  *bytes = app_memory(a, more);
  if (status == SNTK_OK) status = app_check_memory(a, &problem, memory_key(&problem), more);
  const matrix_part part = part_of(config);
  const int64_t n = problem.data->samples, p = problem.network.outputs;
  const bool eigenvalues = sntk_config_bool(config, "ntk.eigenvalues") && part != PART_DIAGONAL && part != PART_BLOCKS;
  double whole = 0.0, block = 0.0, share = 1.0;
  if (status == SNTK_OK && problem.network.width > 0)
    status = app_measure(a, &problem, problem.network.width, &estimate);
  if (status == SNTK_OK && eigenvalues && problem.network.width > 0)
    status = app_measure_eigenvalues(a, part == PART_TRACE ? n : n * p, &whole);
  if (status == SNTK_OK && eigenvalues) status = app_measure_eigenvalues(a, n, &block);
  /* parts of the matrix: one output at a time; squares of 32 samples along the diagonal; pairs of ranges, of each of
   * which the square of both is made */
  if (part == PART_TRACE) share = 1.0 / (double)p;
  if (part == PART_DIAGONAL) share = fmin(1.0, 32.0 / (double)n);
  if (part == PART_BLOCKS) share = 4.0;
  if (sntk_config_bool(config, "ntk.prefixes")) share *= 2.0;
  *seconds = estimate.gram_seconds * share + whole + block;
  app_problem_clear(&problem);
  return status;
}

static const char *const shown_axes[] = {"network.activation", "network.width",   "data.samples",
                                         "data.dim",           "network.outputs", "seed"};

void app_ntk_table(app *a) {
  static const char *const headers[] = {"activation",
                                        "width",
                                        "n",
                                        "d",
                                        "p",
                                        "seed",
                                        "lambda_min",
                                        "lambda_max",
                                        "condition",
                                        "lambda_min inf",
                                        "distance to inf",
                                        "rate",
                                        "seconds",
                                        "other axes"};
  json_t *points = app_points(a, "ntk"), *point;
  const size_t shown = sizeof shown_axes / sizeof *shown_axes;
  const bool more = app_more_axes(points, shown_axes, shown);
  app_table *table = app_table_create((int)(sizeof headers / sizeof *headers) - !more, headers);
  size_t index;
  json_array_foreach(points, index, point) {
    app_table_cell(table, "%s", app_text(point, "activation"));
    if (app_int(point, "width") > 0)
      app_table_cell(table, "%lld", (long long)app_int(point, "width"));
    else
      app_table_cell(table, "inf");
    app_table_cell(table, "%lld", (long long)app_int(point, "samples"));
    app_table_cell(table, "%lld", (long long)app_int(point, "dim"));
    app_table_cell(table, "%lld", (long long)app_int(point, "outputs"));
    app_table_cell(table, "%lld", (long long)app_int(point, "seed"));
    app_table_number(table, app_real(point, "lambda_min"));
    app_table_number(table, app_real(point, "lambda_max"));
    app_table_number(table, app_real(point, "condition"));
    app_table_number(table, app_real(point, "lambda_min_infinite"));
    app_table_number(table, app_real(point, "infinite_distance"));
    app_table_number(table, app_real(point, "rate_exponent"));
    app_table_number(table, app_real(point, "ntk_seconds"));
    if (more) app_axes_cell(table, point, shown_axes, shown);
  }
  app_table_print(a, table);
  app_table_free(table);
  json_array_foreach(points, index, point) {
    if (strcmp(app_text(point, "status"), "failed") == 0)
      app_line(stdout, "failed: %s, width %lld: %s", app_text(point, "activation"), (long long)app_int(point, "width"),
               app_text(point, "error"));
  }
  json_decref(points);
}

static sntk_status run(app *a) { return app_single(a, "ntk", app_ntk_point, app_ntk_cost, app_ntk_table); }

const app_command app_cmd_ntk = {"ntk", "The NTK Gram matrix, its spectrum and its infinite-width limit.", true, run};
