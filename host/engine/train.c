/**
 * @file train.c
 * @brief Full-batch gradient descent with its history.
 *
 * SPDX-License-Identifier: MIT
 */
#include "softntk/train.h"

#include <float.h>
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
  sntk_linear linear; /* empty unless asked for */
  double targets_norm, test_norm;
  int64_t history_capacity;
  int64_t step;   /* updates done, or under way */
  bool profiling; /* the profiler's bracket is open */
  bool displaced; /* at the start: the network has been trained before, and its base is not where this run starts */
} training;

static double largest_size(const double *a, int64_t count) {
  double largest = 0.0;
  for (int64_t j = 0; j < count; j++) largest = fmax(largest, fabs(a[j]));
  return largest;
}

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
  if (!isfinite(loss))
    return sntk_fail(ctx, SNTK_ERR_OVERFLOW,
                     "step %lld: the loss overflows, with a residual of %g; use smaller targets or a smaller train.eta",
                     (long long)run->step, largest_size(run->residual, run->pass.samples.count * run->pass.outputs));
  run->result->loss = loss;
  return SNTK_OK;
}

/* One update of all weights, and the statistics at the new ones. */
static sntk_status descend(sntk_context *ctx, training *run) {
  sntk_train_result *result = run->result;
  double norms[2] = {0.0, 0.0};
  SNTK_TRY(sntk_pass_descend(ctx, run->net, &run->pass, run->residual, run->centre, result->eta, norms));
  if (!isfinite(norms[0]) || !isfinite(norms[1])) /* inputs that are zero there would hide such a weight */
    return sntk_fail(
        ctx, SNTK_ERR_OVERFLOW,
        "step %lld: an update of a weight is not finite in %s, with a residual of %g and eta %g; use smaller "
        "targets, a smaller train.eta%s",
        (long long)run->step, run->net->v.type == SNTK_F32 ? "f32" : "f64",
        largest_size(run->residual, run->pass.samples.count * run->pass.outputs), result->eta,
        run->net->v.type == SNTK_F32 ? " or precision f64" : "");
  if (norms[0] > 0.0) result->update_lost = fmax(result->update_lost, sqrt(norms[1] / norms[0]));
  return SNTK_OK;
}

/* |a - b|_2, also where the squares overflow. */
static double distance_of(const double *a, const double *b, int64_t count) {
  double distance = 0.0, square = 0.0;
  for (int64_t j = 0; j < count; j++) square += (a[j] - b[j]) * (a[j] - b[j]);
  if (isfinite(square)) return sqrt(square);
  for (int64_t j = 0; j < count; j++) distance = hypot(distance, a[j] - b[j]);
  return distance;
}

/* 1/2 |a - b|^2 */
static double loss_of(const double *a, const double *b, int64_t count) {
  const double distance = distance_of(a, b, count);
  return 0.5 * distance * distance;
}

/* H - H(W0) at the weights as they are, W0 being where the run starts. From the displacement, as long as the base is
 * W0; a base moves where the change is so large that a difference of matrices serves as well. */
static sntk_status kernel_change(sntk_context *ctx, training *run, double *change) {
  const int64_t size = run->pass.samples.count * run->pass.outputs;
  if (run->net->v.layout != SNTK_LAYOUT_PLAIN && !run->net->base_moved && !run->displaced)
    return sntk_pass_gram_change(ctx, run->net, &run->pass, change);
  if (run->net->v.type == SNTK_F64)
    SNTK_TRY(sntk_pass_gram(ctx, run->net, &run->pass, change));
  else
    SNTK_TRY(sntk_network_gram64(ctx, run->net, run->inputs, run->pass.samples.count, change));
  for (int64_t j = 0; j < size * size; j++) change[j] -= run->gram0[j];
  return SNTK_OK;
}

/* H at W0, its norm and spectrum. */
static sntk_status initial_kernel(sntk_context *ctx, training *run) {
  const int64_t size = run->pass.samples.count * run->pass.outputs;
  SNTK_TRY(sntk_network_gram64(ctx, run->net, run->inputs, run->pass.samples.count, run->gram0));
  run->gram0_norm = sntk_norm(run->gram0, size * size);
  SNTK_TRY(sntk_eigenvalues(ctx, run->gram0, size, run->eigenvalues));
  run->result->lambda_min = run->eigenvalues[0];
  run->result->lambda_max = run->eigenvalues[size - 1];
  return SNTK_OK;
}

/* Where J J^T is zero: in words. */
static const char *why_no_gradient(const training *run) {
  const int64_t count = run->pass.samples.count * run->net->v.dim;
  if (!(largest_size(run->inputs, count) > 0.0)) return "all inputs are zero";
  switch (run->net->options.activation) {
    case SNTK_SOFTMAX:
      return "at every sample neurons of one sign carry the softmax alone, to the last bit (a smaller sigma or smaller "
             "inputs spread it)";
    case SNTK_RELU:
      return "no neuron is active at any sample (a larger width or another seed has some)";
    default:
      return "every exp(z) underflows (a smaller sigma or smaller inputs keep it)";
  }
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
      return sntk_fail(ctx, SNTK_ERR_NUMERICAL,
                       "eta auto: J J^T is zero at the initial weights: %s; give train.eta a number",
                       why_no_gradient(run));
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
  if (!isnormal(result->eta))
    return sntk_fail(
        ctx, SNTK_ERR_NUMERICAL,
        "eta %g is no normal number (lambda_max of J J^T %g); give train.eta a number, or scale the inputs",
        result->eta, result->jj_lambda_max);
  return SNTK_OK;
}

/* H at W0 on the samples and the held-out inputs, and where the linearized runs start. */
static sntk_status begin_linearized(sntk_context *ctx, training *run) {
  const sntk_train_options *o = run->options;
  const sntk_network_options *net = &run->net->options;
  const int64_t n = run->pass.samples.count, t = o->test_samples, d = net->dim, p = net->outputs, all = n + t;
  double *inputs = NULL, *outputs = NULL;
  sntk_status status = sntk_alloc(ctx, "inputs", sntk_size_mul(all, d), sizeof *inputs, (void **)&inputs);
  if (status == SNTK_OK) status = sntk_alloc(ctx, "outputs", sntk_size_mul(all, p), sizeof *outputs, (void **)&outputs);
  if (status == SNTK_OK) {
    memcpy(inputs, run->inputs, (size_t)(n * d) * sizeof *inputs);
    if (t > 0) memcpy(inputs + n * d, o->test_inputs, (size_t)(t * d) * sizeof *inputs);
    status = sntk_linear_create(ctx, net, inputs, n, all, !run->net->weights0, &run->linear);
  }
  if (status == SNTK_OK) status = sntk_network_gram64(ctx, run->net, inputs, all, run->linear.gram);
  if (status == SNTK_OK && t > 0) status = sntk_network_forward(ctx, run->net, o->test_inputs, t, outputs + n * p);
  if (status == SNTK_OK) {
    for (int64_t j = 0; j < n * p; j++) outputs[j] = run->net->scale * run->pass.f[j];
    const double q = sntk_kernel_scale(net->activation, net->scale, net->width);
    sntk_linear_begin(&run->linear, outputs, run->result->eta * q);
  }
  free(inputs);
  free(outputs);
  return status;
}

/* L(t) against (1 - eta q lambda / 2)^(2t) L(0), and against the paper's exponent t. */
static void compare_with_rate(training *run, int64_t step, sntk_history_row *row) {
  sntk_train_result *result = run->result;
  const sntk_network_options *net = &run->net->options;
  const double q = sntk_kernel_scale(net->activation, net->scale, net->width);
  const double shrink = 1.0 - 0.5 * result->eta * q * result->lambda_min;
  row->loss_bound = pow(shrink, 2.0 * (double)step) * result->loss_initial;
  if (row->loss > row->loss_bound) result->rate_kept = false;
  if (row->loss > pow(shrink, (double)step) * result->loss_initial) result->rate_kept_paper = false;
}

/* F and loss on the held-out samples. */
static sntk_status test_now(sntk_context *ctx, training *run, sntk_history_row *row) {
  const sntk_train_options *o = run->options;
  if (o->test_samples == 0) return SNTK_OK;
  SNTK_TRY(sntk_network_forward(ctx, run->net, o->test_inputs, o->test_samples, run->result->test_outputs));
  row->test_loss = run->result->test_loss =
      loss_of(run->result->test_outputs, o->test_targets, o->test_samples * run->pass.outputs);
  if (!isfinite(row->test_loss))
    return sntk_fail(
        ctx, SNTK_ERR_OVERFLOW,
        "step %lld: the loss on the held-out samples overflows; use smaller targets or a smaller train.eta",
        (long long)run->step);
  return SNTK_OK;
}

static void compare(training *run, const double *u, sntk_prediction *prediction) {
  const sntk_train_options *o = run->options;
  const int64_t size = run->pass.samples.count * run->pass.outputs, tests = o->test_samples * run->pass.outputs;
  double square = 0.0;
  for (int64_t j = 0; j < size; j++) {
    const double difference = u[j] - run->targets[j] - run->residual[j];
    square += difference * difference;
  }
  prediction->loss = loss_of(u, run->targets, size);
  /* a run that grew without bound ends in NaN: it is infinitely far, whatever was seen of it before */
  const double distance = isnan(square) ? INFINITY : sqrt(square) / run->targets_norm;
  if (isnan(prediction->distance) || distance > prediction->distance) prediction->distance = distance;
  if (tests == 0) return;
  prediction->test_loss = loss_of(u + size, o->test_targets, tests);
  prediction->test_distance = distance_of(u + size, run->result->test_outputs, tests) / run->test_norm;
}

static void compare_with_linearized(training *run, sntk_history_row *row) {
  compare(run, run->linear.u, &run->result->linearized);
  row->loss_linearized = run->result->linearized.loss;
  if (!run->linear.u_infinite) return;
  compare(run, run->linear.u_infinite, &run->result->infinite);
  row->loss_infinite = run->result->infinite.loss;
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
  sntk_history_row row = {.step = step,
                          .loss = result->loss,
                          .kernel_drift = NAN,
                          .lambda_min = NAN,
                          .loss_bound = NAN,
                          .loss_linearized = NAN,
                          .loss_infinite = NAN,
                          .test_loss = NAN};
  SNTK_TRY(sntk_network_movement(ctx, run->net, &row.weight_movement));
  result->weight_movement = row.weight_movement;
  if (kernel && step == 0) {
    row.kernel_drift = 0.0;
    row.lambda_min = result->lambda_min;
  } else if (kernel) {
    const int64_t size = run->pass.samples.count * run->pass.outputs;
    SNTK_TRY(kernel_change(ctx, run, run->gram));
    row.kernel_drift = sntk_norm(run->gram, size * size) / run->gram0_norm;
    for (int64_t j = 0; j < size * size; j++) run->gram[j] += run->gram0[j];
    SNTK_TRY(sntk_eigenvalues(ctx, run->gram, size, run->eigenvalues));
    row.lambda_min = run->eigenvalues[0];
    if (!isfinite(row.kernel_drift) && run->gram0_norm > 0.0)
      return sntk_fail(ctx, SNTK_ERR_OVERFLOW, "step %lld: the change of the kernel overflows; use a smaller train.eta",
                       (long long)step);
  }
  if (kernel) {
    result->kernel_drift = row.kernel_drift;
    result->lambda_min_final = row.lambda_min;
  }
  if (isfinite(result->lambda_min)) compare_with_rate(run, step, &row);
  SNTK_TRY(test_now(ctx, run, &row));
  if (run->linear.gram) compare_with_linearized(run, &row);
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

static sntk_status diverged(sntk_context *ctx, const sntk_train_result *result) {
  return sntk_fail(
      ctx, SNTK_ERR_DIVERGED,
      "the loss grew from %g to %g in %lld steps with eta %g; use a smaller train.eta (auto: 1 / lambda_max)",
      result->loss_initial, result->loss, (long long)result->steps, result->eta);
}

/* The largest loss that a run at L(0) may end with by rounding alone: of two evaluations of F each is off by C eps
 * times what f sums up, C a generous 64 (softmax: 1; exp: m exp(sigma^2 |x|^2 / 2), the normalized: m; relu: m sigma
 * |x|). */
static double most_by_rounding(const training *run) {
  const sntk_network_options *o = &run->net->options;
  const int64_t n = run->pass.samples.count, d = o->dim;
  const double eps = run->net->v.type == SNTK_F32 ? 0x1p-24 : 0x1p-53, m = (double)o->width;
  double square = 0.0;
  for (int64_t i = 0; i < n; i++) {
    const double size = o->sigma * sntk_norm(run->inputs + i * d, d);
    const double sum = o->activation == SNTK_SOFTMAX          ? 1.0
                       : o->activation == SNTK_RELU           ? m * size
                       : o->activation == SNTK_EXP_NORMALIZED ? m
                                                              : m * exp(0.5 * size * size);
    square += (double)o->outputs * sum * sum;
  }
  const double off = 64.0 * eps * run->net->scale * sqrt(square), residual = sqrt(2.0 * run->result->loss_initial);
  return 0.5 * (residual + off) * (residual + off);
}

/* Has a run that is over left the loss larger than it found it? softmax's outputs are bounded, so that no factor of
 * growth need ever be reached. */
static bool grown(const training *run) {
  return !run->result->converged && isfinite(run->options->divergence) && run->result->loss > most_by_rounding(run);
}

static sntk_status steps(sntk_context *ctx, training *run) {
  const sntk_train_options *o = run->options;
  sntk_train_result *result = run->result;
  const double largest = o->divergence * fmax(result->loss_initial, 1.0);
  for (int64_t t = 0;; t++) {
    result->steps = run->step = t;
    if (!(result->loss <= largest)) return diverged(ctx, result);
    result->converged = o->tolerance > 0.0 && result->loss <= o->tolerance;
    const bool last = result->converged || t == o->steps;
    const bool kernel = o->kernel_every > 0 && (last || t % o->kernel_every == 0);
    if (last || t == 0 || kernel || due(t, o->record_every)) SNTK_TRY(record(ctx, run, t, kernel));
    if (last) return grown(run) ? diverged(ctx, result) : SNTK_OK;
    SNTK_TRY(sntk_check_interrupt(ctx));
    sntk_report_progress(ctx, "train", t, o->steps, result->loss);
    SNTK_TRY(bracket(ctx, run, t));
    run->step = t + 1;
    SNTK_TRY(descend(ctx, run));
    SNTK_TRY(evaluate(ctx, run));
    if (run->linear.gram) sntk_linear_step(&run->linear, run->targets);
  }
}

static sntk_status check_options(sntk_context *ctx, const sntk_network *net, const sntk_train_options *o) {
  if (net->options.streamed)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "a streamed network stores no weights and cannot be trained");
  if ((unsigned)o->eta_rule > SNTK_ETA_VALUE)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "eta_rule %d is unknown", (int)o->eta_rule);
  if (o->steps < 0 || o->record_every < 0 || o->kernel_every < 0)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "steps, record_every and kernel_every must not be negative");
  if (o->eta_rule == SNTK_ETA_VALUE && !(o->eta > 0.0 && isfinite(o->eta)))
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "eta %g must be positive and finite", o->eta);
  if (o->eta_rule == SNTK_ETA_VALUE && !isnormal(o->eta))
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "eta %g is below the smallest normal number, %g", o->eta, DBL_MIN);
  if (!(o->tolerance >= 0.0))
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "tolerance %g must not be negative", o->tolerance);
  if (o->test_samples < 0 || (o->test_samples > 0 && (!o->test_inputs || !o->test_targets)))
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "%lld held-out samples need inputs and targets",
                     (long long)o->test_samples);
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

static sntk_status check_finite(sntk_context *ctx, const char *what, const double *values, int64_t count,
                                int64_t columns) {
  for (int64_t j = 0; j < count; j++)
    if (!isfinite(values[j]))
      return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "%s (%lld, %lld) is not finite", what, (long long)(j / columns),
                       (long long)(j % columns));
  return SNTK_OK;
}

/* No figures yet. */
static sntk_train_result empty_result(const sntk_network *net) {
  const sntk_prediction none = {.loss = NAN, .distance = NAN, .test_loss = NAN, .test_distance = NAN};
  return (sntk_train_result){.loss = NAN,
                             .test_loss = NAN,
                             .linearized = none,
                             .infinite = none,
                             .loss_initial = NAN,
                             .eta = NAN,
                             .jj_lambda_max = NAN,
                             .lambda_min = NAN,
                             .lambda_max = NAN,
                             .lambda_min_final = NAN,
                             .kernel_drift = NAN,
                             .weight_movement = NAN,
                             .form = sntk_network_form(net)};
}

/* Arrays of a run; `spectrum`: with what the kernel at W0 needs. */
static sntk_status allocate(sntk_context *ctx, training *run, int64_t samples, bool spectrum) {
  const sntk_train_options *o = run->options;
  const int64_t size = sntk_size_mul(samples, run->net->options.outputs), square = sntk_size_mul(size, size);
  const int64_t tests = sntk_size_mul(o->test_samples, run->net->options.outputs);
  SNTK_TRY(sntk_alloc(ctx, "residuals", size, sizeof(double), (void **)&run->residual));
  SNTK_TRY(sntk_alloc(ctx, "residuals", samples, sizeof(double), (void **)&run->centre));
  SNTK_TRY(sntk_alloc(ctx, "outputs", size, sizeof(double), (void **)&run->result->outputs));
  if (tests > 0)
    SNTK_TRY(sntk_alloc(ctx, "held-out outputs", tests, sizeof(double), (void **)&run->result->test_outputs));
  if (spectrum) SNTK_TRY(sntk_alloc(ctx, "Gram matrix at W0", square, sizeof(double), (void **)&run->gram0));
  if (o->kernel_every > 0) SNTK_TRY(sntk_alloc(ctx, "Gram matrix", square, sizeof(double), (void **)&run->gram));
  if (spectrum) SNTK_TRY(sntk_alloc(ctx, "eigenvalues", size, sizeof(double), (void **)&run->eigenvalues));
  return SNTK_OK;
}

sntk_status sntk_train(sntk_context *ctx, sntk_network *net, const double *inputs, const double *targets,
                       int64_t samples, const sntk_train_options *options, sntk_train_result *result) {
  SNTK_NEED(ctx, result, "result");
  *result = empty_result(net);
  SNTK_TRY(sntk_network_check(ctx, net, inputs, samples));
  SNTK_NEED(ctx, targets, "targets");
  SNTK_NEED(ctx, options, "options");
  SNTK_TRY(check_options(ctx, net, options));
  if (options->test_samples > 0) SNTK_TRY(sntk_network_check(ctx, net, options->test_inputs, options->test_samples));
  const int64_t p = net->options.outputs, size = sntk_size_mul(samples, p);
  const int64_t tests = sntk_size_mul(options->test_samples, p);
  SNTK_TRY(check_finite(ctx, "target", targets, size, p));
  SNTK_TRY(check_finite(ctx, "held-out target", options->test_targets, tests, p));
  SNTK_TRY(check_finite(ctx, "held-out input", options->test_inputs,
                        sntk_size_mul(options->test_samples, net->options.dim), net->options.dim));
  training run = {.net = net, .inputs = inputs, .targets = targets, .options = options, .result = result};
  const double began = sntk_seconds();
  double ready = began;
  sntk_status status = sntk_pass_create(ctx, net, inputs, samples, &run.pass);
  const bool spectrum = options->kernel_every > 0 || options->linearized || options->eta_rule == SNTK_ETA_THEORY;
  if (status == SNTK_OK) status = allocate(ctx, &run, samples, spectrum);
  run.targets_norm = sntk_norm(targets, size);
  run.test_norm = tests > 0 ? sntk_norm(options->test_targets, tests) : 0.0;
  run.pass.by_steps = true;
  if (status == SNTK_OK) status = sntk_pass_base(ctx, net, &run.pass);
  if (status == SNTK_OK) status = sntk_pass_forward(ctx, net, &run.pass, NULL);
  run.displaced = run.pass.stats.shift_max > 0.0;
  if (status == SNTK_OK) status = evaluate(ctx, &run);
  if (status == SNTK_OK) {
    result->loss_initial = result->loss;
    if (spectrum) status = initial_kernel(ctx, &run);
  }
  if (status == SNTK_OK) status = choose_eta(ctx, &run);
  if (status == SNTK_OK && options->linearized) status = begin_linearized(ctx, &run);
  if (status == SNTK_OK) {
    result->rate_kept = result->rate_kept_paper = spectrum;
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
  sntk_linear_clear(&run.linear);
  return status;
}

void sntk_train_result_clear(sntk_train_result *result) {
  if (!result) return;
  free(result->history);
  free(result->outputs);
  free(result->test_outputs);
  result->history = NULL;
  result->outputs = result->test_outputs = NULL;
  result->history_rows = 0;
}

/* A row of the history with kernel figures: the change of H, and the eigenvalues of H in its place. */
static void plan_kernel_row(const sntk_context *ctx, const sntk_neurons *shape, int64_t samples, bool fresh,
                            sntk_plan *plan) {
  const int64_t size = sntk_size_mul(samples, shape->outputs), square = sntk_size_mul(size, size);
  if (!fresh) sntk_plan_take(plan, square, sizeof(double));
  if (shape->layout != SNTK_LAYOUT_PLAIN)
    sntk_plan_gram_change(ctx, shape, samples, fresh, plan);
  else if (shape->type == SNTK_F64)
    sntk_plan_gram(ctx, shape, false, samples, false, fresh, plan);
  else
    sntk_plan_gram64(ctx, shape, samples, fresh, plan);
  if (fresh) sntk_plan_take(plan, square, sizeof(double));
  sntk_plan_eigenvalues(size, plan);
}

/* begin_linearized: what it leaves is held. */
static void plan_linearized(const sntk_context *ctx, const sntk_neurons *shape, int64_t samples,
                            const sntk_train_options *o, bool gaussian, sntk_plan *plan) {
  const int64_t all = sntk_size_add(samples, o->test_samples), size = sntk_size_mul(all, shape->outputs);
  const int64_t held = plan->held;
  sntk_plan_take(plan, sntk_size_mul(all, shape->dim), sizeof(double));
  sntk_plan_take(plan, size, sizeof(double));
  sntk_plan_linear(samples, all, shape->outputs, gaussian, plan);
  sntk_plan_gram64(ctx, shape, all, true, plan);
  sntk_plan_drop(plan, held);
  sntk_plan_linear(samples, all, shape->outputs, gaussian, plan);
  sntk_plan_take(plan, sntk_size_mul(size, size), sizeof(double));
}

static void plan_test(const sntk_context *ctx, const sntk_neurons *shape, int64_t tests, sntk_plan *plan) {
  const int64_t held = plan->held;
  if (tests > 0) sntk_plan_pass(ctx, shape, tests, plan);
  sntk_plan_drop(plan, held);
}

/* Rows of the history if the run takes all its steps. */
static int64_t history_rows(const sntk_train_options *o) {
  const int64_t recorded = o->record_every > 0 ? o->steps / o->record_every : 0;
  return sntk_size_add(2, sntk_size_add(recorded, o->kernel_every > 0 ? o->steps / o->kernel_every : 0));
}

void sntk_plan_train(const sntk_context *ctx, const sntk_network_options *network, int64_t samples,
                     const sntk_train_options *o, sntk_plan *plan) {
  const sntk_neurons shape = sntk_network_shape(ctx, network);
  const int64_t held = plan->held, size = sntk_size_mul(samples, shape.outputs), square = sntk_size_mul(size, size);
  const int64_t tests = sntk_size_mul(o->test_samples, shape.outputs);
  const bool kernel = o->kernel_every > 0, spectrum = kernel || o->linearized || o->eta_rule == SNTK_ETA_THEORY;
  sntk_plan_pass(ctx, &shape, samples, plan);
  sntk_plan_take(plan, sntk_size_add(sntk_size_mul(2, size), samples), sizeof(double)); /* residuals, outputs */
  sntk_plan_take(plan, tests, sizeof(double));
  if (spectrum) {
    sntk_plan_gram64(ctx, &shape, samples, true, plan);
    sntk_plan_take(plan, sntk_size_add(square, size), sizeof(double)); /* H at W0, and its eigenvalues */
    sntk_plan_eigenvalues(size, plan);
  }
  if (o->eta_rule == SNTK_ETA_AUTO) sntk_plan_jj_lambda_max(ctx, &shape, samples, plan);
  if (o->linearized) plan_linearized(ctx, &shape, samples, o, !network->weights, plan);
  sntk_plan_take(plan, history_rows(o), sizeof(sntk_history_row));
  sntk_plan_movement(ctx, &shape, plan);
  plan_test(ctx, &shape, o->test_samples, plan);
  if (kernel && o->steps > 0) plan_kernel_row(ctx, &shape, samples, o->kernel_every >= o->steps, plan);
  sntk_plan_drop(plan, held);
}

int64_t sntk_train_bytes(const sntk_context *ctx, const sntk_network_options *network, int64_t samples,
                         const sntk_train_options *o) {
  if (!sntk_network_sized(ctx, network, samples) || !o) return -1;
  sntk_plan plan = {0};
  sntk_plan_train(ctx, network, samples, o, &plan);
  return sntk_plan_bytes(&plan);
}
