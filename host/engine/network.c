/**
 * @file network.c
 * @brief Networks: creation, storage, slabs over the width.
 *
 * In displacement form W = W0 + D: the base W0 stays, D is trained from 0. What becomes of the sums is said in pass.c.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"

double sntk_output_scale(sntk_activation activation, sntk_scale scale, int64_t width) {
  const double m = (double)width;
  if (activation == SNTK_SOFTMAX) return scale == SNTK_SCALE_PAPER ? m : sqrt(m);
  if (activation != SNTK_RELU && scale == SNTK_SCALE_PAPER) return 1.0;
  return 1.0 / sqrt(m);
}

double sntk_kernel_scale(sntk_activation activation, sntk_scale scale, int64_t width) {
  const double s = sntk_output_scale(activation, scale, width), m = (double)width;
  return activation == SNTK_SOFTMAX ? s * s / m : s * s * m;
}

/* ---- storage ---- */

sntk_layout sntk_network_layout(const sntk_context *ctx, const sntk_network_options *o) {
  const sntk_precision type = ctx->backend->precision(ctx, o->precision);
  if (o->form == SNTK_FORM_PLAIN || o->streamed) return SNTK_LAYOUT_PLAIN;
  if (o->form == SNTK_FORM_AUTO && (type == SNTK_F64 || !ctx->backend->supports(ctx, SNTK_LAYOUT_DISPLACED)))
    return SNTK_LAYOUT_PLAIN;
  return o->init == SNTK_INIT_SYMMETRIC && !o->weights ? SNTK_LAYOUT_PAIRED : SNTK_LAYOUT_DISPLACED;
}

static int shifts(sntk_layout layout) { return layout == SNTK_LAYOUT_PLAIN ? 0 : layout == SNTK_LAYOUT_PAIRED ? 2 : 1; }

static int64_t columns(sntk_layout layout, int64_t width) { return layout == SNTK_LAYOUT_PAIRED ? width / 2 : width; }

void sntk_plan_neurons(const sntk_neurons *v, sntk_plan *plan) {
  const int64_t matrix = sntk_size_mul(sntk_size_mul(v->count, v->dim), (int64_t)sntk_type_size(v->type));
  sntk_plan_take(plan, matrix, 1 + shifts(v->layout));
  sntk_plan_take(plan, v->count, v->outputs);
}

sntk_status sntk_neurons_alloc(sntk_context *ctx, sntk_neurons *v) {
  const int64_t matrix = sntk_size_mul(sntk_size_mul(v->count, v->dim), (int64_t)sntk_type_size(v->type));
  const int64_t signs = sntk_size_mul(v->count, v->outputs);
  if (matrix < 0 || signs < 0)
    return sntk_fail(ctx, SNTK_ERR_MEMORY, "weights of %lld x %lld do not fit an address space", (long long)v->dim,
                     (long long)v->count);
  v->ld = v->ld_signs = v->count;
  v->base = v->shift[0] = v->shift[1] = NULL;
  v->signs = NULL;
  sntk_status status = ctx->backend->alloc(ctx, "weights", matrix, &v->base);
  for (int h = 0; h < shifts(v->layout) && status == SNTK_OK; h++)
    status = ctx->backend->alloc(ctx, "displacements", matrix, &v->shift[h]);
  if (status == SNTK_OK) status = ctx->backend->alloc(ctx, "signs", signs, (void **)&v->signs);
  if (status != SNTK_OK) sntk_neurons_free(ctx, v);
  return status;
}

void sntk_neurons_free(sntk_context *ctx, sntk_neurons *v) {
  ctx->backend->free(ctx, v->base);
  ctx->backend->free(ctx, v->shift[0]);
  ctx->backend->free(ctx, v->shift[1]);
  ctx->backend->free(ctx, v->signs);
  v->base = v->shift[0] = v->shift[1] = NULL;
  v->signs = NULL;
}

sntk_status sntk_upload_real(sntk_context *ctx, sntk_precision type, const double *from, int64_t count, void *to) {
  if (type == SNTK_F64) return ctx->backend->upload(ctx, to, from, count * (int64_t)sizeof *from);
  float *narrow;
  SNTK_TRY(sntk_alloc(ctx, "conversion to float32", count, sizeof *narrow, (void **)&narrow));
  for (int64_t j = 0; j < count; j++) narrow[j] = (float)from[j];
  const sntk_status status = ctx->backend->upload(ctx, to, narrow, count * (int64_t)sizeof *narrow);
  free(narrow);
  return status;
}

/* Base weights W0 and signs of columns [first, first + v->count) of the network, in v's layout. */
static sntk_status fill_initial(sntk_context *ctx, const sntk_network *net, int64_t first, sntk_neurons *v,
                                bool signs_too) {
  const sntk_backend *backend = ctx->backend;
  const int64_t width = net->options.width;
  if (!net->weights0) {
    SNTK_TRY(backend->random_weights(ctx, &net->source, first, v));
  } else {
    for (int64_t k = 0; k < v->dim; k++)
      SNTK_TRY(sntk_upload_real(ctx, v->type, net->weights0 + k * width + first, v->count,
                                (char *)v->base + (size_t)(k * v->ld) * sntk_type_size(v->type)));
  }
  if (!signs_too) return SNTK_OK;
  if (!net->signs0) return backend->random_signs(ctx, &net->source, first, v);
  for (int64_t l = 0; l < v->outputs; l++)
    SNTK_TRY(backend->upload(ctx, v->signs + l * v->ld_signs, net->signs0 + l * width + first, v->count));
  return SNTK_OK;
}

sntk_neurons sntk_network_shape(const sntk_context *ctx, const sntk_network_options *o) {
  const sntk_layout layout = sntk_network_layout(ctx, o);
  return (sntk_neurons){.activation = o->activation == SNTK_EXP_NORMALIZED ? SNTK_EXP : o->activation,
                        .layout = layout,
                        .type = ctx->backend->precision(ctx, o->precision),
                        .width = o->width,
                        .count = columns(layout, o->width),
                        .dim = o->dim,
                        .outputs = o->outputs};
}

/* Where the weights start beside the base: the displacement that is given, and what float32 leaves of given weights. */
static sntk_status fill_shift(sntk_context *ctx, sntk_network *net, const sntk_network_options *o) {
  const sntk_neurons *v = &net->v;
  const int each = shifts(v->layout);
  if (each == 0 || (!o->displacement && (!o->weights || v->type == SNTK_F64))) return SNTK_OK;
  double *row;
  SNTK_TRY(sntk_alloc(ctx, "displacements of an input", v->count, sizeof *row, (void **)&row));
  sntk_status status = SNTK_OK;
  for (int64_t k = 0; k < v->dim; k++)
    for (int h = 0; h < each && status == SNTK_OK; h++) {
      for (int64_t q = 0; q < v->count; q++) {
        const int64_t at = k * o->width + each * q + h;
        const double w = o->weights && v->type == SNTK_F32 ? o->weights[at] : 0.0, left = w - (double)(float)w;
        row[q] = left + (o->displacement ? o->displacement[at] : 0.0);
        net->remainder = net->remainder || left != 0.0;
      }
      status = sntk_upload_real(ctx, v->type, row, v->count,
                                (char *)v->shift[h] + (size_t)(k * v->ld) * sntk_type_size(v->type));
    }
  free(row);
  return status;
}

/* ---- creation ---- */

static sntk_status check_options(sntk_context *ctx, const sntk_network_options *o) {
  if (o->activation != SNTK_SOFTMAX && o->activation != SNTK_RELU && o->activation != SNTK_EXP &&
      o->activation != SNTK_EXP_NORMALIZED)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "activation %d is unknown", (int)o->activation);
  if (o->width < 1 || o->dim < 1 || o->outputs < 1 || o->dim > INT32_MAX || o->outputs > INT32_MAX)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT,
                     "width %lld, dim %lld, outputs %lld: each must be at least 1, dim and outputs below 2^31",
                     (long long)o->width, (long long)o->dim, (long long)o->outputs);
  if ((unsigned)o->scale > SNTK_SCALE_PAPER || (unsigned)o->init > SNTK_INIT_IID ||
      (unsigned)o->form > SNTK_FORM_DISPLACEMENT || (unsigned)o->precision > SNTK_F64)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "scale %d, init %d, form %d, precision %d: one of them is unknown",
                     (int)o->scale, (int)o->init, (int)o->form, (int)o->precision);
  if (!(o->sigma > 0.0) || !isfinite((float)o->sigma))
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "sigma %g must be positive and finite", o->sigma);
  if (o->init == SNTK_INIT_SYMMETRIC && !o->weights && o->width % 2)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT,
                     "width %lld is odd: symmetric initialization pairs neurons; use an even width or init iid",
                     (long long)o->width);
  if (o->weights && !o->signs)
    return sntk_fail(
        ctx, SNTK_ERR_ARGUMENT,
        "weights were given without signs, and drawn ones would make another network of them; give the signs "
        "that belong to them too");
  if (o->signs && !o->weights && o->init == SNTK_INIT_SYMMETRIC)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT,
                     "signs were given without weights: symmetric initialization has its own; use init iid");
  if (o->form == SNTK_FORM_DISPLACEMENT && !ctx->backend->supports(ctx, SNTK_LAYOUT_DISPLACED))
    return sntk_fail(ctx, SNTK_ERR_BACKEND, "backend %s has no displacement form; use form plain or backend cpu",
                     ctx->backend->name);
  if (!o->streamed && o->width > INT32_MAX)
    return sntk_fail(ctx, SNTK_ERR_SHAPE,
                     "width %lld is too large to be stored: the matrix library takes rows of up to 2^31 - 1; use a "
                     "smaller width (a streamed kernel takes any)",
                     (long long)o->width);
  if (o->displacement && sntk_network_layout(ctx, o) == SNTK_LAYOUT_PLAIN)
    return sntk_fail(
        ctx, SNTK_ERR_ARGUMENT,
        "a displacement was given, and the network is kept in plain form; use form displacement, or give the "
        "sum as weights");
  for (int64_t j = 0; o->displacement && j < sntk_size_mul(o->width, o->dim); j++) {
    if (!isfinite(o->displacement[j]))
      return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "displacement (%lld, %lld) is not finite", (long long)(j / o->width),
                       (long long)(j % o->width));
    /* a sum of base and displacement, as run.h5's /weights is, would be moved twice in silence */
    if (o->weights && ctx->backend->precision(ctx, o->precision) == SNTK_F32 &&
        o->weights[j] != (double)(float)o->weights[j])
      return sntk_fail(
          ctx, SNTK_ERR_ARGUMENT,
          "weight (%lld, %lld) is %.17g, no float32 number as those of a base are: it may hold the "
          "displacement already, as run.h5's /weights does; give its /base, or none where the seed draws it",
          (long long)(j / o->width), (long long)(j % o->width), o->weights[j]);
  }
  if (o->form == SNTK_FORM_DISPLACEMENT && o->streamed)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "a streamed network keeps no displacement; use form plain");
  return SNTK_OK;
}

static sntk_status copy_given(sntk_context *ctx, sntk_network *net, const sntk_network_options *o) {
  if (o->weights) {
    const int64_t count = sntk_size_mul(o->width, o->dim);
    SNTK_TRY(sntk_alloc(ctx, "given weights", count, sizeof *net->weights0, (void **)&net->weights0));
    for (int64_t j = 0; j < count; j++) {
      if (!isfinite(o->weights[j]))
        return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "weight (%lld, %lld) is not finite", (long long)(j / o->width),
                         (long long)(j % o->width));
      net->weights0[j] = o->weights[j];
    }
  }
  if (o->signs) {
    const int64_t count = sntk_size_mul(o->width, o->outputs);
    SNTK_TRY(sntk_alloc(ctx, "given signs", count, sizeof *net->signs0, (void **)&net->signs0));
    for (int64_t j = 0; j < count; j++) {
      if (o->signs[j] != 1.0 && o->signs[j] != -1.0)
        return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "sign (%lld, %lld) is %g; signs are +1 or -1",
                         (long long)(j / o->width), (long long)(j % o->width), o->signs[j]);
      net->signs0[j] = (int8_t)o->signs[j];
    }
  }
  return SNTK_OK;
}

sntk_status sntk_network_create(sntk_context *ctx, const sntk_network_options *options, sntk_network **out) {
  SNTK_NEED(ctx, out, "net");
  *out = NULL;
  SNTK_NEED_OPEN(ctx);
  SNTK_NEED(ctx, options, "options");
  SNTK_TRY(check_options(ctx, options));
  sntk_network *net = calloc(1, sizeof *net);
  if (!net) return sntk_fail(ctx, SNTK_ERR_MEMORY, "no memory for a network");
  net->ctx = ctx;
  net->options = *options;
  net->options.precision = ctx->backend->precision(ctx, options->precision);
  net->scale = sntk_output_scale(options->activation, options->scale, options->width);
  /* Loaded weights carry no pairs. */
  net->source = (sntk_source){.seed = options->seed,
                              .sigma = options->sigma,
                              .symmetric = options->init == SNTK_INIT_SYMMETRIC && !options->weights};
  net->v = sntk_network_shape(ctx, options);
  net->options.form = net->v.layout == SNTK_LAYOUT_PLAIN ? SNTK_FORM_PLAIN : SNTK_FORM_DISPLACEMENT;
  sntk_status status = copy_given(ctx, net, options);
  net->options.weights = net->options.signs = net->options.displacement = NULL;
  if (status == SNTK_OK) {
    if (options->streamed) {
      net->chunk = net->v;
      net->chunk.count = sntk_network_chunk_columns(net);
      status = sntk_neurons_alloc(ctx, &net->chunk);
    } else {
      status = sntk_neurons_alloc(ctx, &net->v);
      if (status == SNTK_OK) status = fill_initial(ctx, net, 0, &net->v, true);
      if (status == SNTK_OK) status = fill_shift(ctx, net, options);
    }
  }
  if (status != SNTK_OK) {
    sntk_network_free(net);
    return status;
  }
  *out = net;
  return SNTK_OK;
}

void sntk_network_free(sntk_network *net) {
  if (!net) return;
  sntk_neurons_free(net->ctx, &net->v);
  sntk_neurons_free(net->ctx, &net->chunk);
  free(net->weights0);
  free(net->signs0);
  free(net);
}

void sntk_plan_network(const sntk_context *ctx, const sntk_network_options *o, sntk_plan *plan) {
  sntk_neurons v = sntk_network_shape(ctx, o);
  if (o->weights) sntk_plan_take(plan, sntk_size_mul(o->width, o->dim), sizeof(double));
  if (o->signs) sntk_plan_take(plan, o->width, o->outputs);
  if (o->streamed) v.count = sntk_chunk_columns(ctx, true, v.dim, v.count);
  sntk_plan_neurons(&v, plan);
}

bool sntk_network_sized(const sntk_context *ctx, const sntk_network_options *o, int64_t samples) {
  if (!ctx || !ctx->backend || !o || o->width < 1 || o->dim < 1 || o->outputs < 1 || samples < 1) return false;
  return o->dim <= INT32_MAX && samples <= INT32_MAX / o->outputs;
}

sntk_status sntk_network_check(sntk_context *ctx, const sntk_network *net, const double *inputs, int64_t samples) {
  SNTK_NEED_OPEN(ctx);
  SNTK_NEED(ctx, net, "net");
  SNTK_NEED(ctx, inputs, "inputs");
  const int64_t p = net->options.outputs;
  if (samples < 1 || samples > INT32_MAX || sntk_size_mul(samples, p) > INT32_MAX)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT,
                     "%lld samples of %lld outputs: samples and their product must be between 1 and 2^31 - 1",
                     (long long)samples, (long long)p);
  return sntk_check_array(ctx, "inputs", samples, net->options.dim);
}

int64_t sntk_network_bytes(const sntk_context *ctx, const sntk_network_options *o) {
  if (!sntk_network_sized(ctx, o, 1)) return -1;
  sntk_plan plan = {0};
  sntk_plan_network(ctx, o, &plan);
  return sntk_plan_bytes(&plan);
}

sntk_form sntk_network_form(const sntk_network *net) {
  if (!net) return SNTK_FORM_AUTO;
  return net->v.layout == SNTK_LAYOUT_PLAIN ? SNTK_FORM_PLAIN : SNTK_FORM_DISPLACEMENT;
}

const sntk_network_options *sntk_network_get_options(const sntk_network *net) { return net ? &net->options : NULL; }

/* ---- slabs ---- */

int64_t sntk_chunk_columns(const sntk_context *ctx, bool streamed, int64_t dim, int64_t count) {
  int64_t most = ctx->backend->chunk_columns;
  /* A generated chunk is kept near 16 MiB of float32; a stored one is only a view, but directions of its shape are not.
   */
  const int64_t elements = streamed ? 1 << 22 : 1 << 26;
  while (most > 1024 && most * dim > elements) most /= 2;
  return count < most ? count : most;
}

int64_t sntk_network_chunk_columns(const sntk_network *net) {
  return sntk_chunk_columns(net->ctx, net->options.streamed, net->v.dim, net->v.count);
}

sntk_status sntk_network_chunk(sntk_context *ctx, sntk_network *net, int64_t first, int64_t count,
                               sntk_neurons *chunk) {
  if (!net->options.streamed) {
    *chunk = sntk_neurons_slice(&net->v, first, count);
    return SNTK_OK;
  }
  *chunk = sntk_neurons_slice(&net->chunk, 0, count);
  if (net->narrow) {
    const int each = net->narrow->v.layout == SNTK_LAYOUT_PAIRED ? 2 : 1;
    const sntk_neurons from = sntk_neurons_slice(&net->narrow->v, first / each, count / each);
    return ctx->backend->widen(ctx, &from, chunk);
  }
  return fill_initial(ctx, net, first, chunk, true);
}

sntk_status sntk_network_widen(sntk_context *ctx, sntk_network *net, sntk_network *wide) {
  *wide = (sntk_network){.ctx = ctx, .options = net->options, .scale = net->scale, .v = net->v, .narrow = net};
  wide->options.streamed = true;
  wide->options.precision = SNTK_F64;
  wide->v.layout = SNTK_LAYOUT_PLAIN;
  wide->v.type = SNTK_F64;
  wide->v.count = sntk_neuron_count(&net->v);
  wide->v.base = wide->v.shift[0] = wide->v.shift[1] = NULL;
  wide->v.signs = NULL;
  wide->chunk = wide->v;
  wide->chunk.count = sntk_network_chunk_columns(wide);
  return sntk_neurons_alloc(ctx, &wide->chunk);
}

void sntk_network_wide_clear(sntk_context *ctx, sntk_network *wide) { sntk_neurons_free(ctx, &wide->chunk); }

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static sntk_status check_range(sntk_context *ctx, const sntk_network *net, int64_t first, int64_t count) {
  if (first < 0 || count < 0 || first > net->options.width - count)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "%lld neurons from neuron %lld on are not all in a network of width %lld",
                     (long long)count, (long long)first, (long long)net->options.width);
  return SNTK_OK;
}

typedef enum part { PART_SUM, PART_BASE, PART_SHIFT } part; /* of the weights */

/* That part of a chunk's neurons, dim x (neurons of the chunk). `one`: room for the columns of one half of pairs. */
static sntk_status read_part(sntk_context *ctx, const sntk_neurons *chunk, part which, double *one, double *out) {
  const int each = chunk->layout == SNTK_LAYOUT_PAIRED ? 2 : 1;
  const int64_t b = chunk->count;
  if (which == PART_SUM) return ctx->backend->read_weights(ctx, chunk, out, each * b);
  for (int h = 0; h < each; h++) {
    sntk_neurons half = *chunk;
    half.layout = SNTK_LAYOUT_PLAIN;
    if (which == PART_SHIFT) half.base = chunk->shift[h];
    half.shift[0] = half.shift[1] = NULL;
    SNTK_TRY(ctx->backend->read_weights(ctx, &half, one, b));
    for (int64_t k = 0; k < chunk->dim; k++)
      for (int64_t q = 0; q < b; q++) out[(k * b + q) * each + h] = one[k * b + q];
  }
  return SNTK_OK;
}

static sntk_status copy_part(sntk_context *ctx, sntk_network *net, part which, int64_t first, int64_t count,
                             double *to) {
  const int each = net->v.layout == SNTK_LAYOUT_PAIRED ? 2 : 1;
  const int64_t step = smaller(sntk_network_chunk_columns(net), count / each + 1), held = each * step * net->v.dim;
  double *whole; /* a chunk's neurons: a range may begin or end inside a pair */
  SNTK_TRY(sntk_alloc(ctx, "weights to copy", which == PART_SUM ? held : 2 * held, sizeof *whole, (void **)&whole));
  sntk_status status = SNTK_OK;
  for (int64_t at = first / each; at * each < first + count && status == SNTK_OK; at += step) {
    const int64_t b = net->v.count - at < step ? net->v.count - at : step;
    sntk_neurons chunk;
    status = sntk_network_chunk(ctx, net, at, b, &chunk);
    if (status == SNTK_OK) status = read_part(ctx, &chunk, which, whole + held, whole);
    for (int64_t r = each * at; r < each * (at + b) && status == SNTK_OK; r++)
      for (int64_t k = 0; k < net->v.dim && r >= first && r < first + count; k++)
        to[k * count + r - first] = whole[k * each * b + r - each * at];
  }
  free(whole);
  return status;
}

sntk_status sntk_network_weights(sntk_context *ctx, sntk_network *net, int64_t first, int64_t count, double *weights) {
  SNTK_NEED_OPEN(ctx);
  SNTK_NEED(ctx, net, "net");
  SNTK_NEED(ctx, weights || count == 0, "weights");
  SNTK_TRY(check_range(ctx, net, first, count));
  return copy_part(ctx, net, PART_SUM, first, count, weights);
}

sntk_status sntk_network_parts(sntk_context *ctx, sntk_network *net, int64_t first, int64_t count, double *base,
                               double *displacement) {
  SNTK_NEED_OPEN(ctx);
  SNTK_NEED(ctx, net, "net");
  SNTK_TRY(check_range(ctx, net, first, count));
  if (net->v.layout == SNTK_LAYOUT_PLAIN)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "a network in plain form has no base and displacement; take its weights");
  if (base) SNTK_TRY(copy_part(ctx, net, PART_BASE, first, count, base));
  return displacement ? copy_part(ctx, net, PART_SHIFT, first, count, displacement) : SNTK_OK;
}

bool sntk_network_base_drawn(const sntk_network *net) {
  return net && net->v.layout != SNTK_LAYOUT_PLAIN && !net->weights0 && !net->base_moved;
}

sntk_status sntk_network_signs(sntk_context *ctx, sntk_network *net, int64_t first, int64_t count, int8_t *signs) {
  SNTK_NEED_OPEN(ctx);
  SNTK_NEED(ctx, net, "net");
  SNTK_NEED(ctx, signs || count == 0, "signs");
  SNTK_TRY(check_range(ctx, net, first, count));
  const int each = net->v.layout == SNTK_LAYOUT_PAIRED ? 2 : 1;
  const int64_t step = smaller(sntk_network_chunk_columns(net), count / each + 1);
  int8_t *whole;
  SNTK_TRY(sntk_alloc(ctx, "signs to copy", step, sizeof *whole, (void **)&whole));
  sntk_status status = SNTK_OK;
  for (int64_t at = first / each; at * each < first + count && status == SNTK_OK; at += step) {
    const int64_t b = net->v.count - at < step ? net->v.count - at : step;
    sntk_neurons chunk;
    status = sntk_network_chunk(ctx, net, at, b, &chunk);
    for (int64_t l = 0; l < net->v.outputs && status == SNTK_OK; l++) {
      status = ctx->backend->download(ctx, whole, chunk.signs + l * chunk.ld_signs, b);
      for (int64_t r = each * at; r < each * (at + b) && status == SNTK_OK; r++)
        if (r >= first && r < first + count)
          signs[l * count + r - first] = (int8_t)(r % each ? -whole[r / each - at] : whole[r / each - at]);
    }
  }
  free(whole);
  return status;
}

/* max_r |w_r - W0_r| over the network's chunks, each against W0 made anew rather than stored, in its own type. */
static sntk_status movement_from_origin(sntk_context *ctx, const sntk_network *from, sntk_network *net,
                                        double *movement) {
  const int64_t step = sntk_network_chunk_columns(net);
  sntk_neurons origin = net->v;
  origin.layout = SNTK_LAYOUT_PLAIN;
  origin.count = step;
  origin.outputs = 1;
  SNTK_TRY(sntk_neurons_alloc(ctx, &origin));
  sntk_status status = SNTK_OK;
  for (int64_t at = 0; at < net->v.count && status == SNTK_OK; at += step) {
    const int64_t b = net->v.count - at < step ? net->v.count - at : step;
    sntk_neurons initial = sntk_neurons_slice(&origin, 0, b), chunk;
    status = sntk_check_interrupt(ctx);
    if (status == SNTK_OK) status = sntk_network_chunk(ctx, net, at, b, &chunk);
    if (status == SNTK_OK) status = fill_initial(ctx, from, at, &initial, false);
    if (status == SNTK_OK) status = ctx->backend->movement(ctx, &chunk, initial.base, initial.ld, movement);
  }
  sntk_neurons_free(ctx, &origin);
  return status;
}

sntk_status sntk_network_movement(sntk_context *ctx, sntk_network *net, double *movement) {
  const bool own_base = net->v.layout != SNTK_LAYOUT_PLAIN && !net->base_moved;
  *movement = 0.0;
  if (net->remainder) { /* W0 is what was given, which only float64 holds */
    sntk_network wide;
    SNTK_TRY(sntk_network_widen(ctx, net, &wide));
    const sntk_status status = movement_from_origin(ctx, net, &wide, movement);
    sntk_network_wide_clear(ctx, &wide);
    return status;
  }
  if (own_base) return ctx->backend->movement(ctx, &net->v, NULL, 0, movement);
  return movement_from_origin(ctx, net, net, movement);
}

void sntk_plan_movement(const sntk_context *ctx, const sntk_neurons *shape, sntk_plan *plan) {
  const int64_t held = plan->held;
  sntk_neurons origin = *shape;
  if (shape->layout != SNTK_LAYOUT_PLAIN) return; /* as long as the base is W0 */
  origin.count = sntk_chunk_columns(ctx, false, shape->dim, shape->count);
  origin.outputs = 1;
  sntk_plan_neurons(&origin, plan);
  sntk_plan_drop(plan, held);
}

sntk_status sntk_network_unpair(sntk_context *ctx, sntk_network *net) {
  if (net->v.layout != SNTK_LAYOUT_PAIRED) return SNTK_OK;
  sntk_neurons single = net->v;
  single.layout = SNTK_LAYOUT_DISPLACED;
  single.count = net->v.width;
  SNTK_TRY(sntk_neurons_alloc(ctx, &single));
  const sntk_status status = ctx->backend->unpair(ctx, &net->v, &single);
  if (status != SNTK_OK) {
    sntk_neurons_free(ctx, &single);
    return status;
  }
  sntk_neurons_free(ctx, &net->v);
  net->v = single;
  return SNTK_OK;
}

sntk_status sntk_network_move_base(sntk_context *ctx, sntk_network *net) {
  SNTK_TRY(sntk_network_unpair(ctx, net));
  net->base_moved = true;
  return ctx->backend->move_base(ctx, &net->v);
}
