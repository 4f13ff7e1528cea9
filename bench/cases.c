/**
 * @file cases.c
 * @brief The cases: a step of descent, a Gram matrix, random numbers.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdlib.h>

#include "bench/bench.h"
#include "engine/engine.h"
#include "softntk/rng.h"

/* Slots of an exponential, and of a short expm1 for |x| <= 0.1; by sntk_precision. */
static const double EXP_SLOTS[] = {12.0, 17.0}, SHORT_SLOTS[] = {5.0, 9.0};

/* Vector slots per (sample, neuron) of a forward pass and of a gradient. Plain: the logit d, subtraction, exponential,
 * maximum and sum (softmax), signed sums p; X^T G another d, (r A - c) times the slope p + 2. Displacement of pairs:
 * three logits and two gradients a pair, the base's exponential shared. */
static double forward_slots(const sntk_bench_case *c) {
  const double d = (double)c->network.dim, p = (double)c->network.outputs, e = EXP_SLOTS[c->network.precision];
  const double k = SHORT_SLOTS[c->network.precision];
  const bool relu = c->network.activation == SNTK_RELU, softmax = c->network.activation == SNTK_SOFTMAX;
  if (c->network.form == SNTK_FORM_DISPLACEMENT)
    return (3.0 * d + p + (relu ? 5.0 : (softmax ? 5.0 : 4.0) + e + 2.0 * k)) / 2.0;
  return d + p + (relu ? 1.0 : softmax ? e + 2.0 : e);
}

static double gradient_slots(const sntk_bench_case *c) {
  const double d = (double)c->network.dim, p = (double)c->network.outputs, e = EXP_SLOTS[c->network.precision];
  const double k = SHORT_SLOTS[c->network.precision];
  const bool relu = c->network.activation == SNTK_RELU;
  if (c->network.form == SNTK_FORM_DISPLACEMENT) return (5.0 * d + p + (relu ? 6.0 : 7.0 + e + 2.0 * k)) / 2.0;
  return 2.0 * d + p + (relu ? 2.0 : e + 2.0);
}

/* Multiply-add slots, the bytes that must cross the bus, exponentials, and the matrix products' operations. */
static void count_work(const sntk_bench_case *c, sntk_bench_result *work, double *slots) {
  const sntk_network_options *o = &c->network;
  const double n = (double)c->samples, d = (double)o->dim, m = (double)o->width, p = (double)o->outputs;
  const double real = (double)sntk_type_size(o->precision), exps = o->activation == SNTK_RELU ? 0.0 : n * m;
  /* Numbers of W0 and D a neuron: a pair shares its base. */
  const double stored = o->form == SNTK_FORM_DISPLACEMENT ? 1.5 : 1.0;
  switch (c->kind) {
    case SNTK_BENCH_STEP:
      *slots = n * m * (forward_slots(c) + gradient_slots(c));
      work->flops = 6.0 * n * d * m;
      work->exps = 2.0 * exps;
      work->bytes = m * (d * real * (stored + 1.0) + p); /* one walk: read, and write what is trained */
      break;
    case SNTK_BENCH_GRAM:
      *slots = n * m * (forward_slots(c) + d + (o->activation == SNTK_RELU ? 1.0 : EXP_SLOTS[o->precision] + 1.0) + p);
      work->flops = n * p * (n * p + 1.0) * m;
      work->exps = 2.0 * exps;
      work->bytes = 2.0 * m * (d * real + p); /* the weights, once for each pass; features stay in the caches */
      break;
    case SNTK_BENCH_RNG:
      *slots = 0.0;
      work->flops = work->exps = 0.0;
      work->bytes = m * (d * real + p);
      break;
  }
}

/* Rows of the Gram matrix; 0: the case makes none. */
static int64_t gram_rows(const sntk_bench_case *c) {
  return c->kind == SNTK_BENCH_GRAM ? sntk_size_mul(c->samples, c->network.outputs) : 0;
}

int64_t sntk_bench_bytes(const sntk_context *ctx, const sntk_bench_case *c) {
  const int64_t rows = gram_rows(c), limits = rows < 0 ? -1 : sntk_roofline_bytes(ctx, rows);
  int64_t bytes = sntk_network_bytes(ctx, &c->network);
  if (c->kind != SNTK_BENCH_RNG) bytes = sntk_size_add(bytes, sntk_pass_bytes(ctx, &c->network, c->samples));
  if (c->kind == SNTK_BENCH_GRAM) {
    bytes = sntk_size_add(bytes, sntk_ntk_bytes(ctx, &c->network, c->samples));
    bytes = sntk_size_add(bytes, sntk_size_mul(sntk_size_mul(rows, rows), sizeof(double)));
  }
  return bytes < 0 || limits < 0 ? -1 : bytes > limits ? bytes : limits;
}

double sntk_bench_bound(const sntk_bench_case *c, const sntk_roofline *limits) {
  sntk_bench_result work = {0};
  double slots = 0.0;
  if (limits->bandwidth == 0.0) return NAN;
  count_work(c, &work, &slots);
  const double compute = slots / limits->multiply_adds, memory = work.bytes / limits->bandwidth;
  /* The Gram matrix is compared with the library's own U U^T, the passes on top. */
  if (c->kind == SNTK_BENCH_GRAM) return work.flops / limits->syrk + compute;
  return compute > memory ? compute : memory;
}

/* ---- running ---- */

typedef struct running {
  sntk_context *ctx;
  const sntk_bench_case *c;
  sntk_network *net;
  sntk_pass pass;
  double *inputs, *targets, *residual, *centre, *gram;
} running;

/* Points of norm 1 and targets in [-1, 1], from the counter-based numbers. */
static sntk_status make_data(running *run) {
  sntk_context *ctx = run->ctx;
  const sntk_network_options *o = &run->c->network;
  const int64_t n = run->c->samples, d = o->dim, p = o->outputs, size = sntk_size_mul(n, p);
  float *normals;
  SNTK_TRY(sntk_alloc(ctx, "inputs", sntk_size_mul(n, d), sizeof(double), (void **)&run->inputs));
  SNTK_TRY(sntk_alloc(ctx, "targets", size, sizeof(double), (void **)&run->targets));
  SNTK_TRY(sntk_alloc(ctx, "residuals", size, sizeof(double), (void **)&run->residual));
  SNTK_TRY(sntk_alloc(ctx, "residual means", n, sizeof(double), (void **)&run->centre));
  if (run->c->kind == SNTK_BENCH_GRAM)
    SNTK_TRY(sntk_alloc(ctx, "Gram matrix", sntk_size_mul(size, size), sizeof(double), (void **)&run->gram));
  SNTK_TRY(sntk_alloc(ctx, "inputs", sntk_size_mul(n, d), sizeof *normals, (void **)&normals));
  sntk_rng_normals(o->seed, SNTK_STREAM_INPUTS, 0, n * d, normals);
  for (int64_t i = 0; i < n; i++) {
    double square = 0.0;
    for (int64_t k = 0; k < d; k++) square += (double)normals[i * d + k] * (double)normals[i * d + k];
    for (int64_t k = 0; k < d; k++) run->inputs[i * d + k] = (double)normals[i * d + k] / sqrt(square);
  }
  for (int64_t j = 0; j < size; j++)
    run->targets[j] = ldexp((double)sntk_rng_word(o->seed, SNTK_STREAM_TARGETS, (uint64_t)j), -31) - 1.0;
  free(normals);
  return SNTK_OK;
}

static void residual(running *run) {
  for (int64_t j = 0; j < run->c->samples * run->c->network.outputs; j++)
    run->residual[j] = run->net->scale * run->pass.f[j] - run->targets[j];
}

static sntk_status prepare(running *run) {
  sntk_context *ctx = run->ctx;
  SNTK_TRY(sntk_network_create(ctx, &run->c->network, &run->net));
  if (run->c->kind == SNTK_BENCH_RNG) return SNTK_OK;
  SNTK_TRY(make_data(run));
  SNTK_TRY(sntk_pass_create(ctx, run->net, run->inputs, run->c->samples, &run->pass));
  SNTK_TRY(sntk_pass_base(ctx, run->net, &run->pass));
  SNTK_TRY(sntk_pass_forward(ctx, run->net, &run->pass, NULL));
  residual(run);
  return SNTK_OK;
}

static void clear(running *run) {
  sntk_pass_clear(run->ctx, &run->pass);
  sntk_network_free(run->net);
  free(run->inputs);
  free(run->targets);
  free(run->residual);
  free(run->centre);
  free(run->gram);
}

/* One run of the case. The step's eta is so small that the numbers stay where they are. */
static sntk_status once(running *run) {
  sntk_context *ctx = run->ctx;
  double norms[2] = {0.0, 0.0};
  switch (run->c->kind) {
    case SNTK_BENCH_STEP:
      SNTK_TRY(sntk_pass_descend(ctx, run->net, &run->pass, run->residual, run->centre, 1e-6, norms));
      residual(run);
      return SNTK_OK;
    case SNTK_BENCH_GRAM:
      SNTK_TRY(sntk_pass_forward(ctx, run->net, &run->pass, NULL));
      return sntk_pass_gram(ctx, run->net, &run->pass, run->gram);
    case SNTK_BENCH_RNG:
      SNTK_TRY(ctx->backend->random_weights(ctx, &run->net->source, 0, &run->net->v));
      return ctx->backend->random_signs(ctx, &run->net->source, 0, &run->net->v);
  }
  return SNTK_ERR_INTERNAL;
}

static int by_value(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Of sorted numbers, linear between neighbours. */
static double quantile(const double *sorted, int64_t count, double q) {
  const double at = q * (double)(count - 1);
  const int64_t low = (int64_t)at, high = low + 1 < count ? low + 1 : low;
  return sorted[low] + (at - (double)low) * (sorted[high] - sorted[low]);
}

static void summarize(const sntk_bench_case *c, double *times, sntk_bench_result *result) {
  qsort(times, (size_t)result->runs, sizeof *times, by_value);
  result->median = quantile(times, result->runs, 0.5);
  result->q1 = quantile(times, result->runs, 0.25);
  result->q3 = quantile(times, result->runs, 0.75);
  result->bound = sntk_bench_bound(c, &result->limits);
  result->bound_share = result->bound / result->median;
}

sntk_status sntk_bench_run(sntk_context *ctx, const sntk_bench_case *cases, int count, double seconds, int64_t least,
                           sntk_bench_result *results) {
  enum { MOST = 1000 };
  running *runs = NULL;
  double *times = NULL;
  sntk_status status = sntk_alloc(ctx, "times", (int64_t)count * MOST, sizeof *times, (void **)&times);
  if (status == SNTK_OK) status = sntk_alloc(ctx, "cases", count, sizeof *runs, (void **)&runs);
  for (int i = 0; i < count && status == SNTK_OK; i++) runs[i] = (running){.ctx = ctx, .c = &cases[i]};
  for (int i = 0; i < count && status == SNTK_OK; i++) {
    double slots;
    results[i] = (sntk_bench_result){.median = NAN};
    count_work(&cases[i], &results[i], &slots);
    status = sntk_roofline_measure(ctx, cases[i].network.precision, gram_rows(&cases[i]), &results[i].limits);
  }
  for (int i = 0; i < count && status == SNTK_OK; i++) {
    status = prepare(&runs[i]);
    if (status == SNTK_OK) status = once(&runs[i]);
  }
  const double began = sntk_seconds();
  for (int64_t run = 0; run < MOST && status == SNTK_OK && (run < least || sntk_seconds() - began < seconds); run++)
    for (int i = 0; i < count && status == SNTK_OK; i++) {
      status = sntk_check_interrupt(ctx);
      const double start = sntk_seconds();
      if (status == SNTK_OK) status = once(&runs[i]);
      times[i * MOST + run] = sntk_seconds() - start;
      results[i].runs = run + 1;
    }
  for (int i = 0; i < count && status == SNTK_OK; i++) summarize(&cases[i], times + i * MOST, &results[i]);
  for (int i = 0; i < count && runs; i++) clear(&runs[i]);
  free(runs);
  free(times);
  return status;
}
