/**
 * @file pass.c
 * @brief Passes of samples over a network's width: statistics, outputs, the pull of a residual, descents.
 *
 * Displacement form. W = W0 + D with only D trained from 0, so that float32 does not lose updates far below the last
 * bit of W, nor the cancelling sum f. With E = exp(z0 - M), z0 = X W0, M_i = max_r z0_ir (exp: M = 0), e = exp(X D) -
 * 1, and sum0, t0 of the base taken once in float64:
 * - one displacement a neuron: sum = sum0 + sum_r E e, f = (t0 + sum_r A E e) / sum;
 * - pairs sharing w0, signs +-a: sum = sum0 + sum_q E (e1 + e2), f = sum_q a E (e1 - e2) / sum;
 * - exp: f without the division; relu: differences of max(z0 + d, 0) in place of E e.
 *
 * The normalized exponential is the exponential network with factor_i = exp(-sigma^2 |x_i|^2 / 2) on the outputs of
 * sample i: a backend sees SNTK_EXP, and the factors are put in here.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"

/* Doubles of one sample: three sets of statistics (max, sum, sums of three rows of signs an output), the whole sum, the
 * factor, f, 1 - f and -1 - f, what is pulled. What splitting a pass takes beside (few are) is not counted: it does not
 * grow with the width. */
static int64_t doubles_per_sample(int64_t outputs) { return sntk_size_add(8, sntk_size_mul(15, outputs)); }

void sntk_plan_pass(const sntk_context *ctx, const sntk_neurons *shape, int64_t samples, sntk_plan *plan) {
  const int64_t inputs = sntk_size_mul(samples, shape->dim);
  sntk_plan_take(plan, inputs, sizeof(double));
  if (shape->type == SNTK_F32) {
    sntk_plan_take(plan, inputs, sizeof(float));
    sntk_plan_brief(plan, inputs, sizeof(float)); /* on its way to the backend */
  }
  sntk_plan_take(plan, sntk_size_mul(samples, doubles_per_sample(shape->outputs)), sizeof(double));
  ctx->backend->plan(ctx, shape, samples, 0, plan);
}

int64_t sntk_pass_bytes(const sntk_context *ctx, const sntk_network_options *o, int64_t samples) {
  const sntk_neurons shape = sntk_network_shape(ctx, o);
  sntk_plan plan = {0};
  sntk_plan_pass(ctx, &shape, samples, &plan);
  return sntk_plan_bytes(&plan);
}

sntk_status sntk_pass_create(sntk_context *ctx, const sntk_network *net, const double *inputs, int64_t samples,
                             sntk_pass *pass) {
  const int64_t n = samples, p = net->v.outputs, d = net->v.dim;
  *pass = (sntk_pass){.outputs = p, .rows = p};
  for (int64_t j = 0; j < n * d; j++)
    if (!isfinite(inputs[j]))
      return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "input (%lld, %lld) is not finite", (long long)(j / d),
                       (long long)(j % d));
  sntk_status status = ctx->backend->alloc(ctx, "inputs", sntk_size_mul(n * d, sizeof(double)), &pass->x64);
  if (status == SNTK_OK) status = ctx->backend->upload(ctx, pass->x64, inputs, n * d * (int64_t)sizeof(double));
  pass->x = pass->x64;
  if (status == SNTK_OK && net->v.type == SNTK_F32) {
    status = ctx->backend->alloc(ctx, "inputs", sntk_size_mul(n * d, sizeof(float)), &pass->x);
    if (status == SNTK_OK) status = sntk_upload_real(ctx, SNTK_F32, inputs, n * d, pass->x);
  }
  if (status == SNTK_OK)
    status =
        sntk_alloc(ctx, "statistics", sntk_size_mul(n, doubles_per_sample(p)), sizeof(double), (void **)&pass->storage);
  if (status != SNTK_OK) {
    sntk_pass_clear(ctx, pass);
    return status;
  }
  double *at = pass->storage;
  sntk_stats *const sets[] = {&pass->base, &pass->stats, &pass->next};
  for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
    *sets[i] = (sntk_stats){.samples = n, .outputs = p, .max = at, .sum = at + n, .t = at + 2 * n};
    at += n * (2 + 3 * p);
  }
  pass->sum = at;
  pass->factor = at + n;
  pass->f = at + 2 * n;
  pass->away = pass->f + n * p;
  pass->pulled = pass->away + 2 * n * p;
  for (int64_t i = 0; i < n; i++) {
    double square = 0.0;
    for (int64_t k = 0; k < d; k++) square += inputs[i * d + k] * inputs[i * d + k];
    const double exponent = -0.5 * net->options.sigma * net->options.sigma * square;
    pass->factor[i] = sntk_pass_weighted(net) ? exp(exponent) : 1.0;
    if (!isnormal(pass->factor[i]) && status == SNTK_OK)
      status = sntk_fail(ctx, SNTK_ERR_NUMERICAL,
                         "sample %lld: exp(-sigma^2 |x|^2 / 2), the outputs' factor in exp_normalized, underflows: "
                         "exp(%g); use a smaller sigma or smaller inputs",
                         (long long)i, exponent);
  }
  pass->samples = (sntk_samples){.count = n, .dim = d, .type = net->v.type, .x = pass->x, .x64 = pass->x64};
  if (status != SNTK_OK) sntk_pass_clear(ctx, pass);
  return status;
}

void sntk_pass_clear(sntk_context *ctx, sntk_pass *pass) {
  if (pass->x != pass->x64) ctx->backend->free(ctx, pass->x);
  ctx->backend->free(ctx, pass->x64);
  ctx->backend->free(ctx, pass->signs);
  free(pass->staging);
  free(pass->storage);
  *pass = (sntk_pass){0};
}

static void reset(sntk_stats *stats, const double *max, double fill) {
  for (int64_t i = 0; i < stats->samples; i++) {
    stats->max[i] = max ? max[i] : fill;
    stats->sum[i] = 0.0;
    for (int64_t l = 0; l < stats->outputs; l++) stats->t[i * stats->outputs + l] = 0.0;
  }
  stats->shift_max = 0.0;
}

/* ---- split passes ---- */

int64_t sntk_pass_columns(const sntk_network *net, const sntk_pass *pass) {
  return pass->split ? pass->split_columns : sntk_network_chunk_columns(net);
}

/* From here on the statistics have three rows an output. */
static sntk_status split(sntk_context *ctx, const sntk_network *net, sntk_pass *pass) {
  enum { SIGNS = 1 << 24 }; /* at a time, about */
  const int64_t rows = 3 * pass->outputs, most = sntk_network_chunk_columns(net);
  int64_t columns = SIGNS / rows / 64 * 64;
  if (columns < 64) columns = 64;
  pass->split_columns = columns < most ? columns : most;
  SNTK_TRY(ctx->backend->alloc(ctx, "signs", sntk_size_mul(rows, pass->split_columns), (void **)&pass->signs));
  SNTK_TRY(sntk_alloc(ctx, "signs", sntk_size_mul(rows + pass->outputs, pass->split_columns), sizeof *pass->staging,
                      (void **)&pass->staging));
  pass->split = true;
  pass->rows = pass->base.outputs = pass->stats.outputs = pass->next.outputs = rows;
  return SNTK_OK;
}

sntk_status sntk_pass_restart(sntk_context *ctx, sntk_network *net, sntk_pass *pass) {
  if (!pass->split) return SNTK_OK;
  ctx->backend->free(ctx, pass->signs);
  free(pass->staging);
  pass->signs = pass->staging = NULL;
  pass->split = false;
  pass->rows = pass->base.outputs = pass->stats.outputs = pass->next.outputs = pass->outputs;
  return sntk_pass_base(ctx, net, pass);
}

/* Signs A, [A > 0] and [A < 0] in place of A. */
static sntk_status split_signs(sntk_context *ctx, sntk_pass *pass, sntk_neurons *chunk) {
  const int64_t p = pass->outputs, b = chunk->count;
  int8_t *const from = pass->staging, *const to = pass->staging + p * b;
  for (int64_t l = 0; l < p; l++)
    SNTK_TRY(ctx->backend->download(ctx, from + l * b, chunk->signs + l * chunk->ld_signs, b));
  for (int64_t j = 0; j < p * b; j++) {
    to[j] = from[j];
    to[p * b + j] = from[j] > 0;
    to[2 * p * b + j] = from[j] < 0;
  }
  SNTK_TRY(ctx->backend->upload(ctx, pass->signs, to, 3 * p * b));
  chunk->signs = pass->signs;
  chunk->ld_signs = b;
  chunk->outputs = 3 * p;
  return SNTK_OK;
}

sntk_status sntk_pass_chunk(sntk_context *ctx, sntk_network *net, sntk_pass *pass, int64_t first, int64_t count,
                            sntk_neurons *chunk) {
  SNTK_TRY(sntk_network_chunk(ctx, net, first, count, chunk));
  return pass->split ? split_signs(ctx, pass, chunk) : SNTK_OK;
}

/* Beyond this A - f is taken from the shares: before, the difference costs two bits at most. */
static bool saturated(double f) { return fabs(f) > 0.5; }

/* f, and 1 - f and -1 - f, of one output of a sample from its sums: t, and split also of positive and negative neurons.
 */
double sntk_pass_share(double t, double sum, const double *sums, int64_t outputs, double away[2]) {
  const double f = t / sum;
  away[0] = 1.0 - f;
  away[1] = -1.0 - f;
  if (!sums || !saturated(f)) return f;
  const double positive = sums[outputs], negative = sums[2 * outputs], both = positive + negative;
  away[0] = 2.0 * negative / both;
  away[1] = -2.0 * positive / both;
  return positive > negative ? 1.0 - away[0] : -1.0 - away[1];
}

/* Columns at a time for a step: so many that a call is long beside waking the threads. (A step is not interrupted: half
 * of one would leave weights of two.) */
static int64_t step_columns(const sntk_network *net, int64_t samples) {
  int64_t step = sntk_network_chunk_columns(net);
  const int64_t most = INT64_C(1) << 31; /* multiply-adds of a logit */
  while (step < net->v.count && step <= most / 2 / samples / net->v.dim) step *= 2;
  return step < net->v.count ? step : net->v.count;
}

/* Runs statistics or base_statistics over the whole width. */
static sntk_status walk(sntk_context *ctx, sntk_network *net, sntk_pass *pass, sntk_stats *stats,
                        sntk_status (*operation)(sntk_context *, const sntk_neurons *, const sntk_samples *,
                                                 sntk_stats *),
                        const char *what) {
  const int64_t step =
      pass->by_steps && !pass->split ? step_columns(net, pass->samples.count) : sntk_pass_columns(net, pass);
  for (int64_t at = 0; at < net->v.count; at += step) {
    SNTK_TRY(sntk_check_interrupt(ctx));
    sntk_neurons chunk;
    SNTK_TRY(sntk_pass_chunk(ctx, net, pass, at, net->v.count - at < step ? net->v.count - at : step, &chunk));
    SNTK_TRY(operation(ctx, &chunk, &pass->samples, stats));
    if (what) sntk_report_progress(ctx, what, at + chunk.count, net->v.count, NAN);
  }
  return SNTK_OK;
}

static sntk_status walk_base(sntk_context *ctx, sntk_network *net, sntk_pass *pass) {
  reset(&pass->base, NULL, net->v.activation == SNTK_SOFTMAX ? -INFINITY : 0.0);
  return walk(ctx, net, pass, &pass->base, ctx->backend->base_statistics, NULL);
}

/* Must a pass that is not split yet be? sums: a set's, t of it. */
static bool must_split(const sntk_network *net, const sntk_pass *pass, const double *sums, const double *t) {
  if (pass->split || net->v.activation != SNTK_SOFTMAX || net->v.layout == SNTK_LAYOUT_PAIRED) return false;
  for (int64_t j = 0; j < pass->samples.count * pass->outputs; j++)
    if (saturated(t[j] / sums[j / pass->outputs])) return true;
  return false;
}

sntk_status sntk_pass_base(sntk_context *ctx, sntk_network *net, sntk_pass *pass) {
  if (net->v.layout == SNTK_LAYOUT_PLAIN) return SNTK_OK;
  SNTK_TRY(walk_base(ctx, net, pass));
  if (!must_split(net, pass, pass->base.sum, pass->base.t)) return SNTK_OK;
  SNTK_TRY(split(ctx, net, pass));
  return walk_base(ctx, net, pass);
}

/* sum, f, 1 - f and -1 - f from the statistics that are there. */
static sntk_status finish(sntk_context *ctx, const sntk_network *net, sntk_pass *pass) {
  const int64_t n = pass->samples.count, p = pass->outputs, rows = pass->rows;
  const bool softmax = net->v.activation == SNTK_SOFTMAX, shifted = net->v.layout != SNTK_LAYOUT_PLAIN;
  double *whole = pass->pulled; /* sums of a sample with those of the base; overwritten by the next pull anyway */
  for (int64_t i = 0; i < n; i++) {
    pass->sum[i] = pass->stats.sum[i] + (shifted ? pass->base.sum[i] : 0.0);
    for (int64_t l = 0; l < rows; l++)
      whole[l] = pass->stats.t[i * rows + l] + (shifted ? pass->base.t[i * rows + l] : 0.0);
    for (int64_t l = 0; l < p; l++) {
      const int64_t il = i * p + l;
      double *const away = pass->away + 2 * il;
      away[0] = 1.0;
      away[1] = -1.0;
      pass->f[il] = softmax ? sntk_pass_share(whole[l], pass->sum[i], pass->split ? whole + l : NULL, p, away)
                            : pass->factor[i] * whole[l];
      if (!isfinite(net->scale * pass->f[il]))
        return sntk_fail(ctx, SNTK_ERR_OVERFLOW,
                         "output (%lld, %lld) is not finite; use a smaller sigma, smaller inputs or a smaller eta",
                         (long long)i, (long long)l);
    }
  }
  return SNTK_OK;
}

static void reset_for_walk(const sntk_network *net, const sntk_pass *pass, sntk_stats *stats) {
  const bool shifted = net->v.layout != SNTK_LAYOUT_PLAIN;
  reset(stats, shifted ? pass->base.max : NULL, net->v.activation == SNTK_SOFTMAX ? -INFINITY : 0.0);
}

static sntk_status walk_forward(sntk_context *ctx, sntk_network *net, sntk_pass *pass, const char *what) {
  reset_for_walk(net, pass, &pass->stats);
  SNTK_TRY(walk(ctx, net, pass, &pass->stats, ctx->backend->statistics, what));
  return finish(ctx, net, pass);
}

/* Once a sample is saturated: the statistics again, with the shares of either sign. */
static sntk_status split_where_saturated(sntk_context *ctx, sntk_network *net, sntk_pass *pass) {
  bool any = false;
  for (int64_t j = 0; j < pass->samples.count * pass->outputs && !any; j++) any = saturated(pass->f[j]);
  if (!any || pass->split || net->v.activation != SNTK_SOFTMAX || net->v.layout == SNTK_LAYOUT_PAIRED) return SNTK_OK;
  SNTK_TRY(split(ctx, net, pass));
  if (net->v.layout != SNTK_LAYOUT_PLAIN) SNTK_TRY(walk_base(ctx, net, pass));
  return walk_forward(ctx, net, pass, NULL);
}

sntk_status sntk_pass_forward(sntk_context *ctx, sntk_network *net, sntk_pass *pass, const char *what) {
  SNTK_TRY(walk_forward(ctx, net, pass, what));
  return split_where_saturated(ctx, net, pass);
}

void sntk_pass_begin_next(const sntk_network *net, sntk_pass *pass) { reset_for_walk(net, pass, &pass->next); }

sntk_status sntk_pass_take_next(sntk_context *ctx, sntk_network *net, sntk_pass *pass) {
  const sntk_stats before = pass->stats;
  pass->stats = pass->next;
  pass->next = before;
  SNTK_TRY(finish(ctx, net, pass));
  return split_where_saturated(ctx, net, pass);
}

sntk_pull sntk_pass_pull(const sntk_network *net, sntk_pass *pass, const double *r, double scale, double *centre) {
  const int64_t n = pass->samples.count, p = pass->outputs, rows = pass->rows;
  const bool softmax = net->v.activation == SNTK_SOFTMAX;
  for (int64_t i = 0; i < n; i++) {
    centre[i] = 0.0;
    for (int64_t l = 0; l < p; l++) {
      const int64_t il = i * p + l, at = i * rows + l;
      const bool apart = pass->split && saturated(pass->f[il]);
      pass->pulled[at] = apart ? 0.0 : pass->factor[i] * r[il];
      if (softmax && !apart) centre[i] += r[il] * pass->f[il];
      if (!pass->split) continue;
      pass->pulled[at + p] = apart ? r[il] * pass->away[2 * il] : 0.0;
      pass->pulled[at + 2 * p] = apart ? r[il] * pass->away[2 * il + 1] : 0.0;
    }
  }
  return (sntk_pull){.scale = scale, .max = pass->stats.max, .sum = pass->sum, .r = pass->pulled, .c = centre};
}

void sntk_pass_pushed(const sntk_network *net, const sntk_pass *pass, const double *dot, const double *mean,
                      double *out) {
  const int64_t p = pass->outputs, rows = pass->rows;
  for (int64_t il = 0; il < pass->samples.count * p; il++) {
    const double *sums = dot + il / p * rows + il % p;
    if (pass->split && saturated(pass->f[il]))
      out[il] = pass->away[2 * il] * sums[p] + pass->away[2 * il + 1] * sums[2 * p];
    else
      out[il] =
          pass->factor[il / p] * (sums[0] - (net->v.activation == SNTK_SOFTMAX ? pass->f[il] * mean[il / p] : 0.0));
  }
}

sntk_status sntk_pass_descend(sntk_context *ctx, sntk_network *net, sntk_pass *pass, const double *r, double *centre,
                              double eta, double norms[2]) {
  const sntk_pull pull = sntk_pass_pull(net, pass, r, net->scale, centre);
  const int64_t step = pass->split ? pass->split_columns : step_columns(net, pass->samples.count);
  sntk_pass_begin_next(net, pass);
  for (int64_t at = 0; at < net->v.count; at += step) {
    sntk_neurons chunk;
    SNTK_TRY(sntk_pass_chunk(ctx, net, pass, at, net->v.count - at < step ? net->v.count - at : step, &chunk));
    SNTK_TRY(ctx->backend->descent(ctx, &chunk, &pass->samples, &pull, eta, norms, &pass->next));
  }
  return sntk_pass_take_next(ctx, net, pass);
}

sntk_status sntk_network_forward(sntk_context *ctx, sntk_network *net, const double *inputs, int64_t samples,
                                 double *outputs) {
  SNTK_NEED(ctx, outputs, "outputs");
  SNTK_TRY(sntk_network_check(ctx, net, inputs, samples));
  sntk_pass pass;
  SNTK_TRY(sntk_pass_create(ctx, net, inputs, samples, &pass));
  sntk_status status = sntk_pass_base(ctx, net, &pass);
  if (status == SNTK_OK) status = sntk_pass_forward(ctx, net, &pass, "forward");
  for (int64_t j = 0; j < samples * net->v.outputs && status == SNTK_OK; j++) outputs[j] = net->scale * pass.f[j];
  sntk_pass_clear(ctx, &pass);
  return status;
}
