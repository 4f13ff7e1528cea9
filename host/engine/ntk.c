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

int64_t sntk_ntk_bytes(const sntk_context *ctx, const sntk_network_options *o, int64_t samples) {
  const sntk_precision type = ctx->backend->precision(ctx, o->precision);
  const int64_t rows = sntk_size_mul(samples, o->outputs);
  if (rows <= 0) return -1;
  const int64_t u =
      sntk_size_mul(sntk_size_mul(rows, 2 * ctx->backend->feature_slabs * feature_columns(rows, 2, type, INT64_MAX)),
                    (int64_t)sntk_type_size(type));
  const int64_t square = sntk_size_mul(rows, rows);
  /* the matrix on the backend, a slab's product, K of n x n */
  const int64_t matrices = sntk_size_add(sntk_size_mul(square, 8 + (int64_t)sntk_type_size(type)),
                                         sntk_size_mul(sntk_size_mul(samples, samples), 8));
  return sntk_size_add(sntk_size_add(u, matrices), sntk_pass_bytes(ctx, o, samples));
}

sntk_status sntk_pass_gram(sntk_context *ctx, sntk_network *net, sntk_pass *pass, double *gram) {
  const sntk_backend *backend = ctx->backend;
  const int64_t rows = pass->samples.count * pass->outputs;
  const int each = net->v.layout == SNTK_LAYOUT_PAIRED ? 2 : 1;
  const int64_t most = sntk_network_chunk_columns(net);
  const int64_t step = backend->gram ? most : feature_columns(rows, each, net->v.type, most);
  const int64_t bytes = sntk_size_mul(sntk_size_mul(rows, rows), sizeof(double));
  /* Where the backend multiplies one slab while it fills the next, two take turns. */
  void *u[2] = {NULL, NULL};
  double *device = NULL;
  sntk_status status = SNTK_OK;
  for (int slab = 0; slab < backend->feature_slabs && !backend->gram && status == SNTK_OK; slab++)
    status = backend->alloc(ctx, "slab of features",
                            sntk_size_mul(rows * each * step, (int64_t)sntk_type_size(net->v.type)), &u[slab]);
  if (status == SNTK_OK) status = backend->alloc(ctx, "Gram matrix", bytes, (void **)&device);
  for (int64_t at = 0; at < net->v.count && status == SNTK_OK; at += step) {
    sntk_neurons chunk;
    const int64_t b = net->v.count - at < step ? net->v.count - at : step;
    void *slab = u[at / step % backend->feature_slabs];
    status = sntk_check_interrupt(ctx);
    if (status == SNTK_OK) status = sntk_network_chunk(ctx, net, at, b, &chunk);
    if (status == SNTK_OK && backend->gram)
      status = backend->gram(ctx, &chunk, &pass->samples, pass->stats.max, pass->sum, pass->f, device);
    if (status == SNTK_OK && !backend->gram)
      status = backend->features(ctx, &chunk, &pass->samples, pass->stats.max, pass->sum, pass->f, slab, each * b);
    if (status == SNTK_OK && !backend->gram)
      status = backend->gram_add(ctx, net->v.type, slab, rows, each * b, each * b, device);
    if (status == SNTK_OK) sntk_report_progress(ctx, "gram", at + b, net->v.count, NAN);
  }
  if (status == SNTK_OK) status = backend->gram_finish(ctx, &pass->samples, pass->outputs, device);
  if (status == SNTK_OK) status = backend->download(ctx, gram, device, bytes);
  for (int64_t j = 0; j < rows * rows && status == SNTK_OK; j++)
    if (!isfinite(gram[j]))
      status = sntk_fail(ctx, SNTK_ERR_OVERFLOW,
                         "an entry of the Gram matrix is not finite; use a smaller sigma or precision f64");
  backend->free(ctx, u[0]);
  backend->free(ctx, u[1]);
  backend->free(ctx, device);
  return status;
}

sntk_status sntk_ntk_gram(sntk_context *ctx, sntk_network *net, const double *inputs, int64_t samples, double *gram) {
  sntk_pass pass;
  SNTK_TRY(sntk_pass_create(ctx, net, inputs, samples, &pass));
  sntk_status status = sntk_pass_base(ctx, net, &pass);
  if (status == SNTK_OK) status = sntk_pass_forward(ctx, net, &pass, "statistics");
  if (status == SNTK_OK) status = sntk_pass_gram(ctx, net, &pass, gram);
  sntk_pass_clear(ctx, &pass);
  return status;
}

sntk_status sntk_ntk_infinite(sntk_context *ctx, sntk_activation activation, double sigma, const double *inputs,
                              int64_t samples, int64_t dim, double *block) {
  const double pi = acos(-1.0);
  double *k = block; /* inner products first, each entry then replaced; the diagonal is needed to the end */
  double *squares;
  SNTK_TRY(sntk_alloc(ctx, "squared norms", samples, sizeof *squares, (void **)&squares));
  for (int64_t i = 0; i < samples; i++)
    for (int64_t j = 0; j <= i; j++) {
      double dot = 0.0;
      for (int64_t c = 0; c < dim; c++) dot += inputs[i * dim + c] * inputs[j * dim + c];
      k[i * samples + j] = dot;
      if (i == j) squares[i] = dot;
    }
  sntk_status status = SNTK_OK;
  for (int64_t i = 0; i < samples && status == SNTK_OK; i++)
    for (int64_t j = 0; j <= i; j++) {
      const double kij = k[i * samples + j];
      double kappa;
      if (activation == SNTK_SOFTMAX)
        kappa = exp(sigma * sigma * kij);
      else if (activation == SNTK_EXP)
        kappa = exp(0.5 * sigma * sigma * (squares[i] + squares[j] + 2.0 * kij));
      else if (squares[i] == 0.0 || squares[j] == 0.0)
        kappa = 0.0;
      else /* rounding may carry a cosine past 1; a row's own is exactly 1 */
        kappa = i == j ? 0.5 : (pi - acos(fmax(-1.0, fmin(1.0, kij / sqrt(squares[i] * squares[j]))))) / (2.0 * pi);
      block[i * samples + j] = block[j * samples + i] = kij * kappa;
      if (!isfinite(kij * kappa)) {
        status = sntk_fail(ctx, SNTK_ERR_OVERFLOW,
                           "the infinite-width kernel overflows at (%lld, %lld); use a smaller sigma", (long long)i,
                           (long long)j);
        break;
      }
    }
  free(squares);
  return status;
}

sntk_status sntk_eigenvalues(sntk_context *ctx, const double *matrix, int64_t size, double *values) {
  const int64_t bytes = sntk_size_mul(sntk_size_mul(size, size), sizeof(double));
  void *copy = NULL;
  SNTK_TRY(ctx->backend->alloc(ctx, "copy for eigenvalues", bytes, &copy));
  sntk_status status = ctx->backend->upload(ctx, copy, matrix, bytes);
  if (status == SNTK_OK) status = ctx->backend->eigenvalues(ctx, copy, size, values);
  ctx->backend->free(ctx, copy);
  return status;
}
