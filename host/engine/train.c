/**
 * @file train.c
 * @brief Full-batch gradient descent with its history.
 *
 * SPDX-License-Identifier: MIT
 */
#include "softntk/train.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"

/* Displacement form: beyond this |x . D| the base moves, so that short exponentials stay accurate. */
static const double SHIFT_LIMIT = 2.0;

/* What a run holds beside its network. */
typedef struct training {
  sntk_network *net;
  const double *inputs, *targets;
  const sntk_train_options *options;
  sntk_train_result *result;
  sntk_pass pass;
  double *residual;     /* n x p */
  double *centre;       /* n */
  double *gram0, *gram; /* np x np; NULL unless the kernel is followed */
  double *eigenvalues;  /* np */
  double gram0_norm;
  int64_t history_capacity;
  bool profiling; /* the profiler's bracket is open */
} training;

/* Residual and loss from the statistics at hand; a shift beyond the limit moves the base first. */
static sntk_status evaluate(sntk_context *ctx, training *run) {
  const sntk_network *net = run->net;
  if (run->pass.stats.shift_max > SHIFT_LIMIT) {
    SNTK_TRY(sntk_network_move_base(ctx, run->net));
    run->result->base_moves++;
    SNTK_TRY(sntk_pass_base(ctx, run->net, &run->pass));
    SNTK_TRY(sntk_pass_forward(ctx, run->net, &run->pass, NULL));
  }
  double loss = 0.0;
  for (int64_t j = 0; j < run->pass.samples.count * run->pass.outputs; j++) {
    run->residual[j] = net->scale * run->pass.f[j] - run->targets[j];
    loss += 0.5 * run->residual[j] * run->residual[j];
  }
  run->result->loss = loss;
  return SNTK_OK;
}

/* One update of all weights, and the statistics at the new ones. */
static sntk_status descend(sntk_context *ctx, training *run) {
  sntk_train_result *result = run->result;
  double norms[2] = {0.0, 0.0};
  SNTK_TRY(sntk_pass_descend(ctx, run->net, &run->pass, run->residual, run->centre, result->eta, norms));
  if (norms[0] > 0.0) result->update_lost = fmax(result->update_lost, sqrt(norms[1] / norms[0]));
  return SNTK_OK;
}

static double frobenius(const double *a, const double *b, int64_t count) {
  double square = 0.0;
  for (int64_t j = 0; j < count; j++) {
    const double difference = a[j] - (b ? b[j] : 0.0);
    square += difference * difference;
  }
  return sqrt(square);
}

/* H at the weights as they are. In float64 whatever the run's type: the kernel's change may be 1e-9 of it, which the
 * rounding of float32 features would drown. */
static sntk_status kernel_now(sntk_context *ctx, training *run, double *gram) {
  if (run->net->v.type == SNTK_F64) return sntk_pass_gram(ctx, run->net, &run->pass, gram);
  sntk_network wide;
  sntk_pass pass;
  SNTK_TRY(sntk_network_widen(ctx, run->net, &wide));
  sntk_status status = sntk_pass_create(ctx, &wide, run->inputs, run->pass.samples.count, &pass);
  if (status == SNTK_OK) {
    status = sntk_pass_forward(ctx, &wide, &pass, NULL);
    if (status == SNTK_OK) status = sntk_pass_gram(ctx, &wide, &pass, gram);
    sntk_pass_clear(ctx, &pass);
  }
  sntk_network_wide_clear(ctx, &wide);
  return status;
}

/* H at W0, its norm and spectrum. */
static sntk_status initial_kernel(sntk_context *ctx, training *run) {
  const int64_t size = run->pass.samples.count * run->pass.outputs;
  SNTK_TRY(kernel_now(ctx, run, run->gram0));
  run->gram0_norm = frobenius(run->gram0, NULL, size * size);
  SNTK_TRY(sntk_eigenvalues(ctx, run->gram0, size, run->eigenvalues));
  run->result->lambda_min = run->eigenvalues[0];
  run->result->lambda_max = run->eigenvalues[size - 1];
  return SNTK_OK;
}

static sntk_status choose_eta(sntk_context *ctx, training *run) {
  const sntk_train_options *o = run->options;
  sntk_train_result *result = run->result;
  const sntk_network_options *net = sntk_network_get_options(run->net);
  if (o->eta_rule == SNTK_ETA_VALUE) {
    result->eta = o->eta;
  } else if (o->eta_rule == SNTK_ETA_AUTO) {
    double bound;
    SNTK_TRY(sntk_pass_jj_lambda_max(ctx, run->net, &run->pass, &result->jj_lambda_max, &bound));
    if (!(result->jj_lambda_max > 0.0))
      return sntk_fail(
          ctx, SNTK_ERR_NUMERICAL,
          "eta auto: J J^T is zero at the initial weights (no input reaches the outputs); give train.eta a number");
    result->eta = 1.0 / result->jj_lambda_max;
  } else {
    const double np = (double)(run->pass.samples.count * run->pass.outputs);
    const double b =
        net->activation == SNTK_RELU ? 0.0 : fmax(o->theory_c * net->sigma * sqrt(log(np / o->theory_delta)), 1.0);
    const double q = sntk_kernel_scale(net->activation, net->scale, net->width);
    result->eta = 0.1 * result->lambda_min / (q * np * np * exp(16.0 * b));
    if (!(result->eta > 0.0))
      return sntk_fail(ctx, SNTK_ERR_NUMERICAL,
                       "eta theory is %g (lambda_min %g, B %g): the kernel is singular at this width or exp(16 B) "
                       "leaves no step; use a larger width, train.theory_c, or eta auto",
                       result->eta, result->lambda_min, b);
  }
  return SNTK_OK;
}

/* A history row at the current weights; kernel figures where asked for. */
static sntk_status record(sntk_context *ctx, training *run, int64_t step, bool kernel) {
  sntk_train_result *result = run->result;
  if (result->history_rows == run->history_capacity) {
    const int64_t capacity = run->history_capacity ? 2 * run->history_capacity : 64;
    sntk_history_row *rows = realloc(result->history, (size_t)capacity * sizeof *rows);
    if (!rows)
      return sntk_fail(ctx, SNTK_ERR_MEMORY, "no memory for %lld history rows; use a larger train.record_every",
                       (long long)capacity);
    result->history = rows;
    run->history_capacity = capacity;
  }
  sntk_history_row row = {.step = step, .loss = result->loss, .kernel_drift = NAN, .lambda_min = NAN};
  SNTK_TRY(sntk_network_movement(ctx, run->net, &row.weight_movement));
  result->weight_movement = row.weight_movement;
  if (kernel && step == 0) {
    row.kernel_drift = 0.0;
    row.lambda_min = result->lambda_min;
  } else if (kernel) {
    const int64_t size = run->pass.samples.count * run->pass.outputs;
    SNTK_TRY(kernel_now(ctx, run, run->gram));
    row.kernel_drift = frobenius(run->gram, run->gram0, size * size) / run->gram0_norm;
    SNTK_TRY(sntk_eigenvalues(ctx, run->gram, size, run->eigenvalues));
    row.lambda_min = run->eigenvalues[0];
  }
  if (kernel) {
    result->kernel_drift = row.kernel_drift;
    result->lambda_min_final = row.lambda_min;
  }
  result->history[result->history_rows++] = row;
  return SNTK_OK;
}

static bool due(int64_t step, int64_t every) { return every > 0 && step % every == 0; }

/* Opens and closes the profiler's bracket of steps [start, start + count). */
static sntk_status bracket(sntk_context *ctx, training *run, int64_t step) {
  const int64_t start = run->options->profile_start, count = run->options->profile_count;
  const bool inside = count > 0 && step >= start && step - start < count;
  if (inside == run->profiling) return SNTK_OK;
  run->profiling = inside;
  return ctx->backend->profile(ctx, inside);
}

static sntk_status steps(sntk_context *ctx, training *run) {
  const sntk_train_options *o = run->options;
  sntk_train_result *result = run->result;
  const double largest = o->divergence * fmax(result->loss_initial, 1.0);
  for (int64_t t = 0;; t++) {
    result->steps = t;
    if (!(result->loss <= largest))
      return sntk_fail(
          ctx, SNTK_ERR_DIVERGED,
          "the loss grew from %g to %g in %lld steps with eta %g; use a smaller train.eta (auto: 1 / lambda_max)",
          result->loss_initial, result->loss, (long long)t, result->eta);
    result->converged = o->tolerance > 0.0 && result->loss <= o->tolerance;
    const bool last = result->converged || t == o->steps;
    const bool kernel = o->kernel_every > 0 && (last || t % o->kernel_every == 0);
    if (last || t == 0 || kernel || due(t, o->record_every)) SNTK_TRY(record(ctx, run, t, kernel));
    if (last) return SNTK_OK;
    SNTK_TRY(sntk_check_interrupt(ctx));
    sntk_report_progress(ctx, "train", t, o->steps, result->loss);
    SNTK_TRY(bracket(ctx, run, t));
    SNTK_TRY(descend(ctx, run));
    SNTK_TRY(evaluate(ctx, run));
  }
}

static sntk_status check_options(sntk_context *ctx, const sntk_network *net, const sntk_train_options *o) {
  if (net->options.streamed)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "a streamed network stores no weights and cannot be trained");
  if (o->steps < 0 || o->record_every < 0 || o->kernel_every < 0)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "steps, record_every and kernel_every must not be negative");
  if (o->eta_rule == SNTK_ETA_VALUE && !(o->eta > 0.0 && isfinite(o->eta)))
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "eta %g must be positive and finite", o->eta);
  if (!(o->tolerance >= 0.0))
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "tolerance %g must not be negative", o->tolerance);
  if (!(o->divergence > 1.0)) return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "divergence %g must be above 1", o->divergence);
  if (o->profile_start < 0 || o->profile_count < 0)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "profile_start and profile_count must not be negative");
  if (o->profile_count > 0 && !ctx->backend->profile)
    return sntk_fail(
        ctx, SNTK_ERR_BACKEND,
        "backend %s has no device profiler to bracket steps for; use --backend cuda, or on the cpu a system "
        "profiler such as perf",
        ctx->backend->name);
  if (o->eta_rule == SNTK_ETA_THEORY && !(o->theory_c > 0.0 && o->theory_delta > 0.0 && o->theory_delta < 1.0))
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "theory_c %g must be positive and theory_delta %g between 0 and 1",
                     o->theory_c, o->theory_delta);
  return SNTK_OK;
}

sntk_status sntk_train(sntk_context *ctx, sntk_network *net, const double *inputs, const double *targets,
                       int64_t samples, const sntk_train_options *options, sntk_train_result *result) {
  *result = (sntk_train_result){.loss = NAN,
                                .loss_initial = NAN,
                                .eta = NAN,
                                .jj_lambda_max = NAN,
                                .lambda_min = NAN,
                                .lambda_max = NAN,
                                .lambda_min_final = NAN,
                                .kernel_drift = NAN,
                                .weight_movement = NAN,
                                .form = sntk_network_form(net)};
  SNTK_TRY(check_options(ctx, net, options));
  const int64_t p = net->options.outputs, size = sntk_size_mul(samples, p);
  for (int64_t j = 0; j < size; j++)
    if (!isfinite(targets[j]))
      return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "target (%lld, %lld) is not finite", (long long)(j / p),
                       (long long)(j % p));
  training run = {.net = net, .inputs = inputs, .targets = targets, .options = options, .result = result};
  const double began = sntk_seconds();
  double ready = began;
  sntk_status status = sntk_pass_create(ctx, net, inputs, samples, &run.pass);
  if (status == SNTK_OK) status = sntk_alloc(ctx, "residuals", size, sizeof(double), (void **)&run.residual);
  if (status == SNTK_OK) status = sntk_alloc(ctx, "residuals", samples, sizeof(double), (void **)&run.centre);
  if (status == SNTK_OK) status = sntk_alloc(ctx, "outputs", size, sizeof(double), (void **)&result->outputs);
  const bool kernel = options->kernel_every > 0, spectrum = kernel || options->eta_rule == SNTK_ETA_THEORY;
  if (status == SNTK_OK && spectrum)
    status = sntk_alloc(ctx, "Gram matrix at W0", sntk_size_mul(size, size), sizeof(double), (void **)&run.gram0);
  if (status == SNTK_OK && kernel)
    status = sntk_alloc(ctx, "Gram matrix", sntk_size_mul(size, size), sizeof(double), (void **)&run.gram);
  if (status == SNTK_OK && spectrum)
    status = sntk_alloc(ctx, "eigenvalues", size, sizeof(double), (void **)&run.eigenvalues);
  if (status == SNTK_OK) status = sntk_pass_base(ctx, net, &run.pass);
  if (status == SNTK_OK) status = sntk_pass_forward(ctx, net, &run.pass, NULL);
  if (status == SNTK_OK) status = evaluate(ctx, &run);
  if (status == SNTK_OK) {
    result->loss_initial = result->loss;
    if (spectrum) status = initial_kernel(ctx, &run);
  }
  if (status == SNTK_OK) status = choose_eta(ctx, &run);
  if (status == SNTK_OK) {
    ready = sntk_seconds();
    status = steps(ctx, &run);
    if (run.profiling) { /* the run ended inside the bracket; its own failure comes first */
      char kept[SNTK_ERROR_CHARS];
      snprintf(kept, sizeof kept, "%s", ctx->error);
      const sntk_status closed = ctx->backend->profile(ctx, false);
      status = status == SNTK_OK ? closed : sntk_fail(ctx, status, "%s", kept);
    }
  }
  if (result->outputs) /* F as far as the run came; NaN where it never had one */
    for (int64_t j = 0; j < size; j++)
      result->outputs[j] = isfinite(result->loss_initial) ? net->scale * run.pass.f[j] : NAN;
  result->setup_seconds = ready - began;
  result->seconds = sntk_seconds() - ready;
  result->form = sntk_network_form(net);
  result->below_resolution = result->update_lost > SNTK_UPDATE_LOST_LIMIT;
  sntk_pass_clear(ctx, &run.pass);
  free(run.residual);
  free(run.centre);
  free(run.gram0);
  free(run.gram);
  free(run.eigenvalues);
  return status;
}

void sntk_train_result_clear(sntk_train_result *result) {
  free(result->history);
  free(result->outputs);
  result->history = NULL;
  result->outputs = NULL;
  result->history_rows = 0;
}

int64_t sntk_train_bytes(const sntk_context *ctx, const sntk_network_options *network, int64_t samples,
                         const sntk_train_options *o) {
  const int64_t size = sntk_size_mul(samples, network->outputs);
  int64_t bytes = sntk_size_add(sntk_pass_bytes(ctx, network, samples),
                                sntk_size_mul(sntk_size_add(size, sntk_size_add(size, samples)), sizeof(double)));
  if (o->eta_rule == SNTK_ETA_AUTO) {
    const int64_t chunk = sntk_chunk_columns(ctx, false, network->dim, network->width);
    const int64_t reals = sntk_size_mul(chunk, network->dim); /* a direction a neuron: of a chunk of pairs both */
    bytes = sntk_size_add(bytes, sntk_size_mul(size, 61 * (int64_t)sizeof(double)));
    bytes = sntk_size_add(
        bytes, sntk_size_mul(reals, (int64_t)sntk_type_size(ctx->backend->precision(ctx, network->precision))));
  }
  if (o->kernel_every > 0 || o->eta_rule == SNTK_ETA_THEORY) {
    /* the kernel is taken in float64, from chunks of a streamed view */
    sntk_network_options wide = *network;
    wide.precision = SNTK_F64;
    wide.streamed = true;
    wide.weights = wide.signs = NULL;
    if (ctx->backend->precision(ctx, network->precision) == SNTK_F32)
      bytes = sntk_size_add(bytes, sntk_network_bytes(ctx, &wide));
    bytes = sntk_size_add(bytes, sntk_ntk_bytes(ctx, &wide, samples));
    bytes = sntk_size_add(bytes, sntk_size_mul(sntk_size_mul(size, size), 3 * (int64_t)sizeof(double)));
  }
  return bytes;
}
