/**
 * @file perturb.c
 * @brief H(W0 + D) - H(W0) for displacements of a given radius: random, as training moves, and found by ascent.
 *
 * Goals Phi(D): 1/2 |dH|_F^2, dH = H(W0 + D) - H(W0), with N = dPhi/dH = dH; or -lambda_min(H(W0 + D)), with N = -v
 * v^T, v its unit eigenvector. H = C o (U U^T), C = K times the samples' factors. With M = C o N and V = 2 M U the
 * gradient with respect to the logits is, for exp, zbar_ir = sum_l V_(il)r U_(il)r. Softmax's normalizer and f couple
 * the neurons: with B_il = sqrt(m) sum_q V_(il)q S_iq and kappa_i = sum_l g_il, g_il = sum_q V_(il)q U_(il)q = 2 sum_b
 * N_(il)b H_(il)b, zbar_ir = sum_l V_(il)r U_(il)r - S_ir (sum_l (A_lr - f_il) B_il + kappa_i), whose second part is
 * the pull of r = -B with kappa added to its c. relu's features are piecewise constant: Phi has no gradient, and the
 * ascent follows that of steps smeared over |z_ir| < R |x_i|, the neurons that a move of R can carry across.
 *
 * SPDX-License-Identifier: MIT
 */
#include "softntk/perturb.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "softntk/rng.h"

/* Beyond it the backends' expm1 is clamped. */
static const double SHIFT_MOST = SNTK_PERTURB_LOGIT_MOST;
/* A direction is ascended no further once steps of this share of the radius do not raise the change. */
static const double SMALLEST_STEP = 1.0 / 64.0;
enum { PIECE = 4096 }; /* neurons at a time on the host */

struct sntk_perturb {
  sntk_context *ctx;
  sntk_network_options options; /* weights and signs NULL */
  sntk_network *net;            /* displaced; plain where the backend has no displacement */
  double *weights, *signs;      /* given ones, for the copy that is trained; NULL: random */
  double *w0;                   /* plain: dim x width, what displacements are added to */
  sntk_pass pass;
  double *inputs;
  double *products; /* n x n: inner products of the inputs, times the samples' factors */
  double largest;   /* norm of an input */
  double logit0;    /* max |x_i . w_r| at W0 */
  int64_t samples;
  double *gram0, *change; /* np x np: H(W0), H(W) - H(W0) at the radius evaluated last */
  double *weight, *work;  /* np x np: N of the goal, scratch */
  double *values;         /* np */
  double lambda_min, lambda_max, norm;
  double *direction; /* dim x width, columns of norm at most 1 */
};

static int64_t order(const sntk_perturb *p) { return p->samples * p->options.outputs; }
static int64_t numbers(const sntk_perturb *p) { return p->options.dim * p->options.width; }

/* ---- creation ---- */

static sntk_status copy(sntk_context *ctx, const char *what, const double *from, int64_t count, double **to) {
  if (!from) return SNTK_OK;
  SNTK_TRY(sntk_alloc(ctx, what, count, sizeof **to, (void **)to));
  memcpy(*to, from, (size_t)count * sizeof **to);
  return SNTK_OK;
}

static sntk_status allocate(sntk_context *ctx, sntk_perturb *p) {
  const int64_t size = order(p), square = sntk_size_mul(size, size);
  double **const matrices[] = {&p->gram0, &p->change, &p->weight, &p->work};
  for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++)
    SNTK_TRY(sntk_alloc(ctx, "Gram matrix", square, sizeof(double), (void **)matrices[i]));
  SNTK_TRY(sntk_alloc(ctx, "eigenvalues", size, sizeof(double), (void **)&p->values));
  return sntk_alloc(ctx, "direction", numbers(p), sizeof(double), (void **)&p->direction);
}

static sntk_status multiply_inputs(sntk_context *ctx, sntk_perturb *p) {
  const int64_t n = p->samples, d = p->options.dim;
  SNTK_TRY(sntk_alloc(ctx, "inner products of the inputs", sntk_size_mul(n, n), sizeof(double), (void **)&p->products));
  for (int64_t i = 0; i < n; i++) {
    p->largest = fmax(p->largest, sntk_norm(p->inputs + i * d, d));
    for (int64_t j = 0; j < n; j++)
      p->products[i * n + j] =
          sntk_dot(p->inputs + i * d, p->inputs + j * d, d) * p->pass.factor[i] * p->pass.factor[j];
  }
  return SNTK_OK;
}

/* The largest |x_i . w_r| of `count` neurons, weights dim x count. `z`: count numbers of work space. */
static double logit_of(const sntk_perturb *p, const double *weights, int64_t count, double *z) {
  const int64_t d = p->options.dim;
  double largest = 0.0;
  for (int64_t i = 0; i < p->samples; i++) {
    memset(z, 0, (size_t)count * sizeof *z);
    for (int64_t k = 0; k < d; k++)
      for (int64_t r = 0; r < count; r++) z[r] += p->inputs[i * d + k] * weights[k * count + r];
    for (int64_t r = 0; r < count; r++) largest = fmax(largest, fabs(z[r]));
  }
  return largest;
}

/* Of the weights as they stand, a piece at a time: the walks over the width know the largest logit, not the lowest. */
static sntk_status logit_here(sntk_context *ctx, sntk_perturb *p, double *largest) {
  const int64_t d = p->options.dim, m = p->options.width, step = m < PIECE ? m : PIECE;
  double *weights = NULL, *z = NULL;
  *largest = 0.0;
  sntk_status status = sntk_alloc(ctx, "weights", sntk_size_mul(d, step), sizeof *weights, (void **)&weights);
  if (status == SNTK_OK) status = sntk_alloc(ctx, "logits", step, sizeof *z, (void **)&z);
  for (int64_t at = 0; at < m && status == SNTK_OK; at += step) {
    const int64_t b = m - at < step ? m - at : step;
    status = sntk_check_interrupt(ctx);
    if (status == SNTK_OK) status = sntk_network_weights(ctx, p->net, at, b, weights);
    if (status == SNTK_OK) *largest = fmax(*largest, logit_of(p, weights, b, z));
  }
  free(z);
  free(weights);
  return status;
}

/* Moves are added to a base, which float32 has to hold: given weights are rounded to it, in the copy that is trained
 * too. */
static sntk_status round_given(sntk_context *ctx, sntk_network_options *options, sntk_perturb *p) {
  if (!p->weights || p->net->v.type == SNTK_F64) return SNTK_OK;
  for (int64_t j = 0; j < numbers(p); j++) p->weights[j] = (double)(float)p->weights[j];
  options->weights = p->weights;
  sntk_network_free(p->net);
  return sntk_network_create(ctx, options, &p->net);
}

static sntk_status create(sntk_context *ctx, const sntk_network_options *network, const double *inputs,
                          sntk_perturb *p) {
  sntk_network_options options = *network;
  if (network->displacement)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT,
                     "moves start at W0, and a displacement was given; give the sum as weights instead");
  options.streamed = false;
  options.form = ctx->backend->supports(ctx, SNTK_LAYOUT_DISPLACED) ? SNTK_FORM_DISPLACEMENT : SNTK_FORM_PLAIN;
  SNTK_TRY(sntk_network_create(ctx, &options, &p->net));
  SNTK_TRY(sntk_network_check(ctx, p->net, inputs, p->samples));
  p->options = *sntk_network_get_options(p->net);
  SNTK_TRY(copy(ctx, "given weights", network->weights, numbers(p), &p->weights));
  SNTK_TRY(round_given(ctx, &options, p));
  SNTK_TRY(sntk_network_unpair(ctx, p->net));
  SNTK_TRY(copy(ctx, "given signs", network->signs, options.outputs * options.width, &p->signs));
  SNTK_TRY(sntk_pass_create(ctx, p->net, inputs, p->samples, &p->pass));
  SNTK_TRY(copy(ctx, "inputs", inputs, p->samples * options.dim, &p->inputs));
  SNTK_TRY(multiply_inputs(ctx, p));
  SNTK_TRY(logit_here(ctx, p, &p->logit0));
  SNTK_TRY(allocate(ctx, p));
  if (p->net->v.layout == SNTK_LAYOUT_PLAIN) {
    SNTK_TRY(sntk_alloc(ctx, "weights", numbers(p), sizeof(double), (void **)&p->w0));
    SNTK_TRY(sntk_network_weights(ctx, p->net, 0, options.width, p->w0));
  }
  const int64_t size = order(p);
  SNTK_TRY(sntk_pass_base(ctx, p->net, &p->pass));
  SNTK_TRY(sntk_network_gram64(ctx, p->net, inputs, p->samples, p->gram0));
  SNTK_TRY(sntk_eigenvalues(ctx, p->gram0, size, p->values));
  p->lambda_min = p->values[0];
  p->lambda_max = p->values[size - 1];
  p->norm = sntk_norm(p->gram0, size * size);
  return sntk_perturb_random(ctx, p);
}

sntk_status sntk_perturb_create(sntk_context *ctx, const sntk_network_options *network, const double *inputs,
                                int64_t samples, sntk_perturb **perturb) {
  SNTK_NEED(ctx, perturb, "perturb");
  *perturb = NULL;
  SNTK_NEED_OPEN(ctx);
  SNTK_NEED(ctx, network, "network");
  SNTK_NEED(ctx, inputs, "inputs");
  sntk_perturb *p = calloc(1, sizeof *p);
  if (!p) return sntk_fail(ctx, SNTK_ERR_MEMORY, "no memory for a perturbation");
  p->ctx = ctx;
  p->samples = samples;
  const sntk_status status = create(ctx, network, inputs, p);
  if (status != SNTK_OK) {
    sntk_perturb_free(p);
    return status;
  }
  *perturb = p;
  return SNTK_OK;
}

void sntk_perturb_free(sntk_perturb *p) {
  if (!p) return;
  sntk_pass_clear(p->ctx, &p->pass);
  sntk_network_free(p->net);
  double *const arrays[] = {p->weights, p->signs,  p->w0,   p->inputs, p->products, p->gram0,
                            p->change,  p->weight, p->work, p->values, p->direction};
  for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) free(arrays[i]);
  free(p);
}

void sntk_perturb_kernel(const sntk_perturb *p, double *lambda_min, double *lambda_max, double *norm) {
  if (lambda_min) *lambda_min = p ? p->lambda_min : NAN;
  if (lambda_max) *lambda_max = p ? p->lambda_max : NAN;
  if (norm) *norm = p ? p->norm : NAN;
}

/* ---- directions ---- */

sntk_status sntk_perturb_random(sntk_context *ctx, sntk_perturb *p) {
  SNTK_NEED_OPEN(ctx);
  SNTK_NEED(ctx, p, "perturb");
  const int64_t d = p->options.dim, m = p->options.width;
  float *normals;
  SNTK_TRY(sntk_alloc(ctx, "normals", d, sizeof *normals, (void **)&normals));
  sntk_status status = SNTK_OK;
  for (int64_t r = 0; r < m && status == SNTK_OK; r++) {
    double square = 0.0;
    if (r % PIECE == 0) status = sntk_check_interrupt(ctx);
    sntk_rng_normals(p->options.seed, SNTK_STREAM_DIRECTIONS, (uint64_t)(d * r), d, normals);
    for (int64_t k = 0; k < d; k++) square += (double)normals[k] * (double)normals[k];
    for (int64_t k = 0; k < d; k++)
      p->direction[k * m + r] = square > 0.0 ? (double)normals[k] / sqrt(square) : (k == 0 ? 1.0 : 0.0);
  }
  free(normals);
  return status;
}

sntk_status sntk_perturb_direction(sntk_context *ctx, const sntk_perturb *p, int64_t first, int64_t count,
                                   double *direction) {
  SNTK_NEED_OPEN(ctx);
  SNTK_NEED(ctx, p, "perturb");
  SNTK_NEED(ctx, direction || count == 0, "direction");
  const int64_t m = p->options.width;
  if (first < 0 || count < 0 || first > m - count)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "%lld neurons from neuron %lld on are not all in a network of width %lld",
                     (long long)count, (long long)first, (long long)m);
  for (int64_t k = 0; k < p->options.dim; k++)
    memcpy(direction + k * count, p->direction + k * m + first, (size_t)count * sizeof *direction);
  return SNTK_OK;
}

/* The weights become W0 + radius D. */
static sntk_status displace(sntk_context *ctx, sntk_perturb *p, const double *direction, double radius) {
  const int64_t m = p->options.width;
  double *row;
  sntk_status status = sntk_alloc(ctx, "displacements of an input", m, sizeof *row, (void **)&row);
  for (int64_t k = 0; k < p->options.dim && status == SNTK_OK; k++) {
    void *to = p->w0 ? p->net->v.base : p->net->v.shift[0];
    for (int64_t r = 0; r < m; r++) row[r] = (p->w0 ? p->w0[k * m + r] : 0.0) + radius * direction[k * m + r];
    status = sntk_upload_real(ctx, p->net->v.type, row, m,
                              (char *)to + (size_t)(k * p->net->v.ld) * sntk_type_size(p->net->v.type));
  }
  free(row);
  return status;
}

/* The weights become W0 + radius D; the pass and `change` follow. */
static sntk_status evaluate(sntk_context *ctx, sntk_perturb *p, const double *direction, double radius) {
  const int64_t size = order(p);
  if (!(radius > 0.0) || !(radius * p->largest <= SHIFT_MOST))
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT,
                     "radius %g: it must be positive, and at most %g with inputs of norm up to %g", radius,
                     SHIFT_MOST / p->largest, p->largest);
  SNTK_TRY(displace(ctx, p, direction, radius));
  SNTK_TRY(sntk_pass_restart(ctx, p->net, &p->pass));
  SNTK_TRY(sntk_pass_forward(ctx, p->net, &p->pass, NULL));
  if (p->net->v.layout == SNTK_LAYOUT_PLAIN) {
    SNTK_TRY(sntk_pass_gram(ctx, p->net, &p->pass, p->change));
    for (int64_t j = 0; j < size * size; j++) p->change[j] -= p->gram0[j];
  } else {
    SNTK_TRY(sntk_pass_gram_change(ctx, p->net, &p->pass, p->change));
  }
  return SNTK_OK;
}

/* The goal at what was evaluated last, the larger the better, and its derivative with respect to H. */
static sntk_status score(sntk_context *ctx, sntk_perturb *p, sntk_goal goal, double *value) {
  const int64_t size = order(p);
  if (goal == SNTK_GOAL_CHANGE) {
    *value = sntk_norm(p->change, size * size);
    memcpy(p->weight, p->change, (size_t)(size * size) * sizeof *p->weight);
    return SNTK_OK;
  }
  for (int64_t j = 0; j < size * size; j++) p->work[j] = p->gram0[j] + p->change[j];
  SNTK_TRY(sntk_lowest_eigenvector(ctx, p->work, size, value, p->values));
  *value = -*value;
  for (int64_t a = 0; a < size; a++)
    for (int64_t b = 0; b < size; b++) p->weight[a * size + b] = -p->values[a] * p->values[b];
  return SNTK_OK;
}

sntk_status sntk_perturb_training(sntk_context *ctx, sntk_perturb *p, const double *targets,
                                  const sntk_train_options *train, double *moved) {
  SNTK_NEED_OPEN(ctx);
  SNTK_NEED(ctx, p, "perturb");
  SNTK_NEED(ctx, targets, "targets");
  SNTK_NEED(ctx, train, "train");
  SNTK_NEED(ctx, moved, "moved");
  const int64_t d = p->options.dim, m = p->options.width, step = m < PIECE ? m : PIECE;
  sntk_network_options options = p->options;
  options.weights = p->weights;
  options.signs = p->signs;
  sntk_network *net = NULL;
  sntk_train_result result = {0};
  double *before = NULL, *after = NULL, *direction = NULL, largest = 0.0;
  *moved = 0.0;
  SNTK_TRY(displace(ctx, p, p->direction, 0.0));
  SNTK_TRY(sntk_network_create(ctx, &options, &net));
  sntk_status status = sntk_train(ctx, net, p->inputs, targets, p->samples, train, &result);
  sntk_train_result_clear(&result);
  if (status == SNTK_OK) status = sntk_alloc(ctx, "direction", numbers(p), sizeof *direction, (void **)&direction);
  if (status == SNTK_OK) status = sntk_alloc(ctx, "weights", sntk_size_mul(d, step), sizeof *before, (void **)&before);
  if (status == SNTK_OK) status = sntk_alloc(ctx, "weights", sntk_size_mul(d, step), sizeof *after, (void **)&after);
  for (int64_t at = 0; at < m && status == SNTK_OK; at += step) {
    const int64_t b = m - at < step ? m - at : step;
    status = sntk_check_interrupt(ctx);
    if (status == SNTK_OK) status = sntk_network_weights(ctx, p->net, at, b, before);
    if (status == SNTK_OK) status = sntk_network_weights(ctx, net, at, b, after);
    for (int64_t r = 0; r < b && status == SNTK_OK; r++) {
      double square = 0.0;
      for (int64_t k = 0; k < d; k++) {
        const double by = after[k * b + r] - before[k * b + r];
        direction[k * m + at + r] = by;
        square += by * by;
      }
      largest = fmax(largest, sqrt(square));
    }
  }
  if (status == SNTK_OK && !(largest > 0.0))
    status = sntk_fail(ctx, SNTK_ERR_NUMERICAL, "training moved no neuron: there is no direction to take");
  /* the current one stays where there is none to take its place */
  for (int64_t j = 0; j < numbers(p) && status == SNTK_OK; j++) p->direction[j] = direction[j] / largest;
  free(direction);
  free(before);
  free(after);
  sntk_network_free(net);
  *moved = largest;
  return status;
}

/* ---- the gradient ---- */

/* M = C o N into backend memory. */
static sntk_status upload_weights_of_products(sntk_context *ctx, sntk_perturb *p, double **matrix) {
  const int64_t n = p->samples, size = order(p);
  for (int64_t a = 0; a < size; a++)
    for (int64_t b = 0; b < size; b++) p->work[a * size + b] = p->weight[a * size + b] * p->products[a % n * n + b % n];
  const int64_t bytes = sntk_size_mul(sntk_size_mul(size, size), sizeof(double));
  SNTK_TRY(ctx->backend->alloc(ctx, "weights of products", bytes, (void **)matrix));
  return ctx->backend->upload(ctx, *matrix, p->work, bytes);
}

/* What the gradient needs of every sample beside M. */
typedef struct couplings {
  double *b;     /* n x p: B, then with the opposite sign */
  double *kappa; /* n */
  double *band;  /* n */
} couplings;

static sntk_status couple(sntk_context *ctx, sntk_perturb *p, const double *matrix, double radius, couplings *c) {
  const int64_t n = p->samples, outputs = p->options.outputs, size = order(p),
                step = sntk_network_chunk_columns(p->net);
  for (int64_t i = 0; i < n; i++) c->band[i] = radius * sntk_norm(p->inputs + i * p->options.dim, p->options.dim);
  if (p->net->v.activation != SNTK_SOFTMAX) return SNTK_OK;
  memset(c->b, 0, (size_t)size * sizeof *c->b);
  for (int64_t at = 0; at < p->net->v.count; at += step) {
    sntk_neurons chunk;
    SNTK_TRY(sntk_check_interrupt(ctx));
    SNTK_TRY(sntk_network_chunk(ctx, p->net, at, p->net->v.count - at < step ? p->net->v.count - at : step, &chunk));
    SNTK_TRY(ctx->backend->kernel_gradient(ctx, &chunk, &p->pass.samples, p->pass.stats.max, p->pass.sum, p->pass.away,
                                           c->band, matrix, NULL, 0, c->b));
  }
  for (int64_t i = 0; i < n; i++) {
    c->kappa[i] = 0.0;
    for (int64_t l = 0; l < outputs; l++) {
      const int64_t row = (i + n * l) * size;
      for (int64_t b = row; b < row + size; b++) c->kappa[i] += 2.0 * p->weight[b] * (p->gram0[b] + p->change[b]);
      c->b[i * outputs + l] *= -1.0;
    }
  }
  return SNTK_OK;
}

/* Adds (or puts) a chunk's part of the gradient, dim x count reals in backend memory, into the columns at `at`. */
static sntk_status receive(sntk_context *ctx, const sntk_perturb *p, const void *part, int64_t at, int64_t count,
                           bool more, void *host, double *gradient) {
  const int64_t m = p->options.width;
  const sntk_precision type = p->net->v.type;
  SNTK_TRY(ctx->backend->download(ctx, host, part, p->options.dim * count * (int64_t)sntk_type_size(type)));
  for (int64_t k = 0; k < p->options.dim; k++)
    for (int64_t r = 0; r < count; r++) {
      const int64_t j = k * count + r;
      const double value = type == SNTK_F32 ? (double)((const float *)host)[j] : ((const double *)host)[j];
      gradient[k * m + at + r] = value + (more ? gradient[k * m + at + r] : 0.0);
    }
  return SNTK_OK;
}

/* Gradient at the weights that were evaluated last. */
static sntk_status gradient_here(sntk_context *ctx, sntk_perturb *p, double radius, double *gradient) {
  const sntk_backend *backend = ctx->backend;
  const sntk_neurons *v = &p->net->v;
  const int64_t n = p->samples, step = sntk_pass_columns(p->net, &p->pass);
  const int64_t bytes = sntk_size_mul(sntk_size_mul(v->dim, step), (int64_t)sntk_type_size(v->type));
  double *matrix = NULL, *memory = NULL;
  void *part = NULL, *host = NULL;
  sntk_status status = upload_weights_of_products(ctx, p, &matrix);
  if (status == SNTK_OK)
    status = sntk_alloc(ctx, "couplings", sntk_size_add(order(p), 3 * n), sizeof *memory, (void **)&memory);
  if (status == SNTK_OK) status = backend->alloc(ctx, "gradient of a chunk", bytes, &part);
  if (status == SNTK_OK) status = sntk_alloc(ctx, "gradient of a chunk", bytes, 1, &host);
  couplings c = {
      .b = memory, .kappa = memory ? memory + order(p) : NULL, .band = memory ? memory + order(p) + n : NULL};
  if (status == SNTK_OK) status = couple(ctx, p, matrix, radius, &c);
  sntk_pull pull = {0};
  if (status == SNTK_OK && v->activation == SNTK_SOFTMAX) {
    double *const centre = memory + order(p) + 2 * n;
    pull = sntk_pass_pull(p->net, &p->pass, c.b, 1.0, centre);
    for (int64_t i = 0; i < n; i++) centre[i] += c.kappa[i];
  }
  for (int64_t at = 0; at < v->count && status == SNTK_OK; at += step) {
    sntk_neurons chunk;
    const int64_t b = v->count - at < step ? v->count - at : step;
    status = sntk_check_interrupt(ctx);
    if (status == SNTK_OK) status = sntk_network_chunk(ctx, p->net, at, b, &chunk);
    if (status == SNTK_OK)
      status = backend->kernel_gradient(ctx, &chunk, &p->pass.samples, p->pass.stats.max, p->pass.sum, p->pass.away,
                                        c.band, matrix, part, b, NULL);
    if (status == SNTK_OK) status = receive(ctx, p, part, at, b, false, host, gradient);
    if (status != SNTK_OK || v->activation != SNTK_SOFTMAX) continue;
    status = sntk_pass_chunk(ctx, p->net, &p->pass, at, b, &chunk);
    if (status == SNTK_OK)
      status = backend->gradient(ctx, &chunk, &p->pass.samples, &pull, (void *const[2]){part, NULL}, b);
    if (status == SNTK_OK) status = receive(ctx, p, part, at, b, true, host, gradient);
  }
  free(host);
  backend->free(ctx, part);
  free(memory);
  backend->free(ctx, matrix);
  return status;
}

static sntk_status check_goal(sntk_context *ctx, sntk_goal goal) {
  if (goal == SNTK_GOAL_CHANGE || goal == SNTK_GOAL_LAMBDA_MIN) return SNTK_OK;
  return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "goal %d is unknown", (int)goal);
}

sntk_status sntk_perturb_gradient(sntk_context *ctx, sntk_perturb *p, sntk_goal goal, double radius, double *gradient) {
  SNTK_NEED_OPEN(ctx);
  SNTK_NEED(ctx, p, "perturb");
  SNTK_NEED(ctx, gradient, "gradient");
  SNTK_TRY(check_goal(ctx, goal));
  double value;
  SNTK_TRY(evaluate(ctx, p, p->direction, radius));
  SNTK_TRY(score(ctx, p, goal, &value));
  return gradient_here(ctx, p, radius, gradient);
}

/* ---- ascent ---- */

static double column_norm(const double *matrix, int64_t dim, int64_t width, int64_t r) {
  double square = 0.0;
  for (int64_t k = 0; k < dim; k++) square += matrix[k * width + r] * matrix[k * width + r];
  return sqrt(square);
}

/* Every neuron goes `step` along its gradient's direction, and back to the ball where it has left it. A gradient that
 * is only rounding has no direction: that neuron stays. */
static void advance(const sntk_perturb *p, const double *gradient, double step, double *candidate) {
  const int64_t d = p->options.dim, m = p->options.width;
  double largest = 0.0;
  for (int64_t r = 0; r < m; r++) largest = fmax(largest, column_norm(gradient, d, m, r));
  const double rounding = largest * (p->net->v.type == SNTK_F32 ? 0x1p-20 : 0x1p-45);
  for (int64_t r = 0; r < m; r++) {
    const double slope = column_norm(gradient, d, m, r), by = slope > rounding ? step / slope : 0.0;
    for (int64_t k = 0; k < d; k++) candidate[k * m + r] = p->direction[k * m + r] + by * gradient[k * m + r];
    const double norm = column_norm(candidate, d, m, r);
    for (int64_t k = 0; k < d && norm > 1.0; k++) candidate[k * m + r] /= norm;
  }
}

sntk_status sntk_perturb_adversarial(sntk_context *ctx, sntk_perturb *p, sntk_goal goal, double radius, int64_t steps,
                                     int64_t *ascents) {
  SNTK_NEED_OPEN(ctx);
  SNTK_NEED(ctx, p, "perturb");
  SNTK_NEED(ctx, ascents, "ascents");
  SNTK_TRY(check_goal(ctx, goal));
  double *gradient = NULL, *candidate = NULL, best, value, step = 1.0;
  *ascents = 0;
  if (steps < 1) return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "an ascent of %lld steps: give at least 1", (long long)steps);
  sntk_status status = sntk_alloc(ctx, "gradient", numbers(p), sizeof *gradient, (void **)&gradient);
  if (status == SNTK_OK) status = sntk_alloc(ctx, "candidate", numbers(p), sizeof *candidate, (void **)&candidate);
  if (status == SNTK_OK) status = evaluate(ctx, p, p->direction, radius);
  if (status == SNTK_OK) status = score(ctx, p, goal, &best);
  if (status == SNTK_OK) status = gradient_here(ctx, p, radius, gradient);
  for (int64_t t = 0; t < steps && status == SNTK_OK && step >= SMALLEST_STEP; t++) {
    sntk_report_progress(ctx, "ascent", t, steps, NAN);
    advance(p, gradient, step, candidate);
    status = evaluate(ctx, p, candidate, radius);
    if (status == SNTK_OK) status = score(ctx, p, goal, &value);
    if (status == SNTK_OK && value > best) {
      best = value;
      (*ascents)++;
      memcpy(p->direction, candidate, (size_t)numbers(p) * sizeof *candidate);
      if (t + 1 < steps) status = gradient_here(ctx, p, radius, gradient);
    } else {
      step *= 0.5; /* the gradient at the direction kept is still at hand */
    }
  }
  free(gradient);
  free(candidate);
  return status;
}

/* ---- figures ---- */

sntk_status sntk_perturb_measure(sntk_context *ctx, sntk_perturb *p, double radius, sntk_perturbation *result) {
  SNTK_NEED_OPEN(ctx);
  SNTK_NEED(ctx, p, "perturb");
  SNTK_NEED(ctx, result, "result");
  const int64_t size = order(p);
  *result = (sntk_perturbation){.radius = radius};
  SNTK_TRY(evaluate(ctx, p, p->direction, radius));
  result->change = sntk_norm(p->change, size * size);
  for (int64_t j = 0; j < size * size; j++) p->work[j] = p->gram0[j] + p->change[j];
  SNTK_TRY(sntk_eigenvalues(ctx, p->work, size, p->values));
  result->ratio = result->change / (radius * (double)size);
  result->relative = result->change / p->norm;
  result->lambda_min = p->values[0];
  /* a lambda_min below the rounding of the matrix is none: the kernel is singular at W0 */
  const bool singular = !(p->lambda_min > (double)size * 0x1p-53 * p->lambda_max);
  result->lambda_share = singular ? NAN : p->values[0] / p->lambda_min;
  return SNTK_OK;
}

sntk_status sntk_perturb_logit(sntk_context *ctx, sntk_perturb *p, double *largest) {
  SNTK_NEED_OPEN(ctx);
  SNTK_NEED(ctx, p, "perturb");
  SNTK_NEED(ctx, largest, "largest");
  SNTK_TRY(logit_here(ctx, p, largest));
  *largest = fmax(*largest, p->logit0);
  return SNTK_OK;
}

double sntk_perturb_bound(double radius, int64_t samples, int64_t outputs, double b) {
  return radius * (double)samples * (double)outputs * exp(10.0 * b);
}

/* ---- memory ---- */

static void plan_create(const sntk_context *ctx, const sntk_network_options *o, const sntk_neurons *single,
                        int64_t samples, sntk_plan *plan) {
  const int64_t n = samples, d = single->dim, m = single->width, size = sntk_size_mul(n, single->outputs);
  const int64_t held = plan->held, square = sntk_size_mul(size, size), reals = sntk_size_mul(d, m);
  sntk_plan_network(ctx, o, plan);
  if (sntk_network_layout(ctx, o) == SNTK_LAYOUT_PAIRED) { /* as pairs, then beside them one by one, then those alone */
    sntk_plan_neurons(single, plan);
    sntk_plan_drop(plan, held);
    sntk_plan_neurons(single, plan);
  }
  if (o->weights) sntk_plan_take(plan, reals, sizeof(double));
  if (o->signs) sntk_plan_take(plan, sntk_size_mul(single->outputs, m), sizeof(double));
  sntk_plan_pass(ctx, single, n, plan);
  sntk_plan_take(plan, sntk_size_mul(n, sntk_size_add(d, n)), sizeof(double));          /* inputs and their products */
  if (single->layout == SNTK_LAYOUT_PLAIN) sntk_plan_take(plan, reals, sizeof(double)); /* W0 */
  sntk_plan_gram64(ctx, single, n, true, plan);
  sntk_plan_take(plan, sntk_size_add(square, size), sizeof(double)); /* H(W0), eigenvalues */
  sntk_plan_eigenvalues(size, plan);
  sntk_plan_take(plan, reals, sizeof(double)); /* direction */
}

/* Weights displaced, and the change of H, which stays. */
static void plan_evaluate(const sntk_context *ctx, const sntk_neurons *single, int64_t samples, bool fresh,
                          sntk_plan *plan) {
  const int64_t size = sntk_size_mul(samples, single->outputs), square = sntk_size_mul(size, size);
  sntk_plan_brief(plan, single->width, sizeof(double));
  if (single->layout == SNTK_LAYOUT_PLAIN)
    sntk_plan_gram(ctx, single, false, samples, false, fresh, plan);
  else
    sntk_plan_gram_change(ctx, single, samples, fresh, plan);
  if (fresh) sntk_plan_take(plan, square, sizeof(double));
}

static void plan_ascent(const sntk_context *ctx, const sntk_neurons *single, int64_t samples, sntk_plan *plan) {
  const int64_t held = plan->held, n = samples, size = sntk_size_mul(n, single->outputs);
  const int64_t square = sntk_size_mul(size, size), reals = sntk_size_mul(single->dim, single->width);
  sntk_neurons chunk = *single;
  chunk.count = sntk_chunk_columns(ctx, false, single->dim, single->count);
  sntk_plan_take(plan, square, sizeof(double));    /* N; scratch is there */
  sntk_plan_take(plan, reals, 2 * sizeof(double)); /* gradient, candidate */
  plan_evaluate(ctx, single, n, false, plan);
  sntk_plan_lowest(size, plan);
  sntk_plan_take(plan, square, sizeof(double)); /* M */
  sntk_plan_take(plan, sntk_size_add(size, 2 * n), sizeof(double));
  /* a chunk's part of the gradient, on the backend and the host */
  sntk_plan_take(plan, sntk_size_mul(sntk_size_mul(chunk.dim, chunk.count), (int64_t)sntk_type_size(chunk.type)), 2);
  ctx->backend->plan(ctx, &chunk, n, SNTK_WORK_KERNEL_GRADIENT, plan);
  sntk_plan_drop(plan, held);
}

/* The network that is trained is another one; the direction is made when its training is over. */
static void plan_training(const sntk_context *ctx, const sntk_network_options *o, int64_t samples,
                          const sntk_train_options *train, sntk_plan *plan) {
  const int64_t held = plan->held, step = o->width < PIECE ? o->width : PIECE;
  sntk_plan_network(ctx, o, plan);
  sntk_plan_train(ctx, o, samples, train, plan);
  sntk_plan_take(plan, sntk_size_mul(o->dim, o->width), sizeof(double));
  sntk_plan_take(plan, sntk_size_mul(o->dim, step), 3 * sizeof(double)); /* before, after, and while they are copied */
  sntk_plan_drop(plan, held);
}

void sntk_plan_perturb(const sntk_context *ctx, const sntk_network_options *network, int64_t samples, bool adversarial,
                       const sntk_train_options *train, sntk_plan *plan) {
  const int64_t held = plan->held, size = sntk_size_mul(samples, network->outputs);
  const bool plain = !ctx->backend->supports(ctx, SNTK_LAYOUT_DISPLACED);
  sntk_network_options o = *network;
  o.streamed = false;
  o.form = plain ? SNTK_FORM_PLAIN : SNTK_FORM_DISPLACEMENT;
  sntk_neurons single = sntk_network_shape(ctx, &o);
  if (single.layout == SNTK_LAYOUT_PAIRED) single.layout = SNTK_LAYOUT_DISPLACED;
  single.count = single.width;
  plan_create(ctx, &o, &single, samples, plan);
  plan_evaluate(ctx, &single, samples, true, plan);
  sntk_plan_take(plan, sntk_size_mul(size, size), sizeof(double)); /* scratch */
  sntk_plan_eigenvalues(size, plan);
  plan_evaluate(ctx, &single, samples, false, plan);
  if (train) plan_training(ctx, &o, samples, train, plan);
  if (adversarial) plan_ascent(ctx, &single, samples, plan);
  sntk_plan_drop(plan, held);
}

int64_t sntk_perturb_bytes(const sntk_context *ctx, const sntk_network_options *network, int64_t samples) {
  if (!sntk_network_sized(ctx, network, samples)) return -1;
  sntk_plan plan = {0};
  sntk_plan_perturb(ctx, network, samples, true, NULL, &plan);
  return sntk_plan_bytes(&plan);
}
