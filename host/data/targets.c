/**
 * @file targets.c
 * @brief Targets: random, of a teacher network, zonal harmonics, labels as values, classes.
 *
 * Random target l of row i is uniform number l + p i of stream TARGETS; direction l of the harmonics is made of normals
 * k + dim l of that stream. So targets of a row do not depend on how many rows follow; only a teacher's are divided by
 * a number taken from all samples. Held-out rows are rows that follow: what a rule takes from the data (that number,
 * the classes) it takes from the samples alone.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdlib.h>

#include "data/loaders.h"
#include "softntk/rng.h"

/* Room for the targets, inputs counted against the memory limit too. */
static sntk_status create_targets(sntk_context *ctx, int64_t outputs, sntk_data *data) {
  void *targets;
  SNTK_TRY(sntk_check_memory(ctx, "inputs and targets", sntk_data_rows(data), sntk_size_add(data->dim, outputs)));
  SNTK_TRY(sntk_alloc(ctx, "targets", sntk_size_mul(sntk_data_rows(data), outputs), sizeof(double), &targets));
  data->targets = targets;
  data->outputs = outputs;
  return SNTK_OK;
}

static sntk_status random_targets(sntk_context *ctx, uint64_t seed, sntk_data *data) {
  const double root = sqrt((double)data->outputs);
  for (int64_t i = 0, j = 0; i < sntk_data_rows(data); i++) {
    SNTK_TRY(sntk_check_interrupt(ctx));
    for (int64_t l = 0; l < data->outputs; l++, j++)
      data->targets[j] = (2.0 * sntk_rng_uniform(seed, SNTK_STREAM_TARGETS, (uint64_t)j) - 1.0) / root;
  }
  return SNTK_OK;
}

/* The teacher: W as width x dim, one neuron a row, and A as width x outputs. */
typedef struct teacher {
  sntk_activation activation;
  int64_t width, dim, outputs;
  double sigma; /* exp_normalized: its normalizer's */
  double *weights, *signs;
  double *logits; /* of one sample */
} teacher;

static sntk_status create_teacher(sntk_context *ctx, const sntk_data_options *options, const sntk_data *data,
                                  teacher *net) {
  *net = (teacher){.activation = options->activation,
                   .width = options->teacher_width,
                   .dim = data->dim,
                   .outputs = data->outputs,
                   .sigma = options->sigma};
  const int64_t row = sntk_size_add(sntk_size_add(net->dim, net->outputs), 1);
  void *memory;
  SNTK_TRY(sntk_check_memory(ctx, "the teacher's weights", net->width, row));
  SNTK_TRY(sntk_alloc(ctx, "the teacher's weights", sntk_size_mul(net->width, row), sizeof(double), &memory));
  net->weights = memory;
  net->signs = net->weights + net->width * net->dim;
  net->logits = net->signs + net->width * net->outputs;
  const sntk_status status =
      sntk_fill_normals(ctx, options->seed, SNTK_STREAM_TEACHER_WEIGHTS, 0, net->width * net->dim, net->weights);
  if (status != SNTK_OK) {
    free(net->weights);
    return status;
  }
  /* Weights are float32-valued, as every network's. */
  for (int64_t j = 0; j < net->width * net->dim; j++)
    net->weights[j] = (double)((float)options->sigma * (float)net->weights[j]);
  for (int64_t j = 0; j < net->width * net->outputs; j++)
    net->signs[j] = sntk_rng_word(options->seed, SNTK_STREAM_TEACHER_SIGNS, (uint64_t)j) >> 31 ? -1.0 : 1.0;
  return SNTK_OK;
}

/* y_l = s f_l(x). False where a logit or output is not finite; relu would hide a logit that is not a number. */
static bool evaluate_teacher(const teacher *net, const double *x, double *y) {
  double top = -INFINITY, sum = 0.0;
  /* log E exp(x . w) */
  const double length = net->sigma * sntk_row_norm(x, net->dim);
  const double shift = net->activation == SNTK_EXP_NORMALIZED ? 0.5 * length * length : 0.0;
  for (int64_t r = 0; r < net->width; r++) {
    double z = 0.0;
    for (int64_t k = 0; k < net->dim; k++) z += x[k] * net->weights[r * net->dim + k];
    if (!isfinite(z)) return false;
    net->logits[r] = z;
    top = fmax(top, z);
  }
  for (int64_t l = 0; l < net->outputs; l++) y[l] = 0.0;
  for (int64_t r = 0; r < net->width; r++) {
    const double z = net->logits[r];
    const double phi = net->activation == SNTK_SOFTMAX ? exp(z - top)
                       : net->activation != SNTK_RELU  ? exp(z - shift)
                       : z > 0.0                       ? z
                                                       : 0.0;
    sum += phi;
    for (int64_t l = 0; l < net->outputs; l++) y[l] += net->signs[r * net->outputs + l] * phi;
  }
  const double root = sqrt((double)net->width);
  for (int64_t l = 0; l < net->outputs; l++) y[l] = net->activation == SNTK_SOFTMAX ? root * (y[l] / sum) : y[l] / root;
  return isfinite(sntk_row_norm(y, net->outputs));
}

static sntk_status teacher_targets(sntk_context *ctx, const sntk_data_options *options, sntk_data *data) {
  teacher net;
  SNTK_TRY(create_teacher(ctx, options, data, &net));
  sntk_status status = SNTK_OK;
  double largest = 0.0;
  for (int64_t i = 0; i < sntk_data_rows(data) && status == SNTK_OK; i++) {
    double *y = data->targets + i * data->outputs;
    if (!evaluate_teacher(&net, data->inputs + i * data->dim, y))
      status = sntk_fail(ctx, SNTK_ERR_OVERFLOW,
                         "teacher targets: the output for row %lld (counted from 0) is not finite with sigma %g; take "
                         "a smaller sigma or normalize the inputs",
                         (long long)i, options->sigma);
    if (i < data->samples) largest = fmax(largest, sntk_row_norm(y, data->outputs));
    if (status == SNTK_OK) status = sntk_check_interrupt(ctx);
  }
  if (status == SNTK_OK && largest > 1.0)
    for (int64_t j = 0; j < sntk_data_rows(data) * data->outputs; j++) data->targets[j] /= largest;
  free(net.weights);
  return status;
}

/* P_k in dim dimensions with P_k(1) = 1: (k + dim - 2) P_(k+1) = (2 k + dim - 2) t P_k - k P_(k-1), P_0 = 1, P_1 = t.
 * In two dimensions these are Chebyshev's polynomials cos(k arccos t), in three Legendre's. */
static double zonal(int64_t degree, int64_t dim, double t) {
  double before = 1.0, value = t;
  const double d = (double)dim;
  for (int64_t j = 1; j < degree; j++) {
    const double k = (double)j;
    const double next = ((2.0 * k + d - 2.0) * t * value - k * before) / (k + d - 2.0);
    before = value;
    value = next;
  }
  return value;
}

static sntk_status harmonic_targets(sntk_context *ctx, const sntk_data_options *options, sntk_data *data) {
  const int64_t dim = data->dim, outputs = data->outputs;
  void *memory;
  SNTK_TRY(sntk_check_memory(ctx, "harmonic directions", outputs, dim));
  SNTK_TRY(sntk_alloc(ctx, "harmonic directions", sntk_size_mul(outputs, dim), sizeof(double), &memory));
  double *directions = memory;
  sntk_status status = sntk_fill_normals(ctx, options->seed, SNTK_STREAM_TARGETS, 0, outputs * dim, directions);
  for (int64_t l = 0; l < outputs && status == SNTK_OK; l++) sntk_make_direction(directions + l * dim, dim);
  const double root = sqrt((double)outputs);
  for (int64_t i = 0; i < sntk_data_rows(data) && status == SNTK_OK; i++) {
    const double *x = data->inputs + i * dim;
    const double norm = sntk_row_norm(x, dim);
    if (norm == 0.0)
      status = sntk_fail(
          ctx, SNTK_ERR_DATA,
          "harmonic targets: row %lld (counted from 0) of the normalized inputs is zero and has no direction; "
          "remove it or take other targets",
          (long long)i);
    for (int64_t l = 0; l < outputs && status == SNTK_OK; l++) {
      double t = 0.0;
      for (int64_t k = 0; k < dim; k++) t += x[k] / norm * directions[l * dim + k];
      /* Beyond 1, where only rounding leads, P_k grows with k^2. */
      data->targets[i * outputs + l] = zonal(options->harmonic_degree, dim, fmax(-1.0, fmin(1.0, t))) / root;
    }
  }
  free(directions);
  return status;
}

static int compare_doubles(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Sorted distinct labels of the samples in *distinct (to be freed), their number in *count. */
static sntk_status find_classes(sntk_context *ctx, const sntk_array *labels, int64_t samples, double **distinct,
                                int64_t *count) {
  if (labels->cols != 1)
    return sntk_fail(ctx, SNTK_ERR_SHAPE, "classes need one label a row, there are %lld label columns",
                     (long long)labels->cols);
  for (int64_t i = 0; i < labels->rows; i++)
    if (labels->values[i] != floor(labels->values[i]))
      return sntk_fail(
          ctx, SNTK_ERR_DATA,
          "classes: label %.17g of row %lld (counted from 0) is not a whole number; targets: values takes reals",
          labels->values[i], (long long)i);
  void *memory;
  SNTK_TRY(sntk_alloc(ctx, "classes", samples, sizeof(double), &memory));
  double *sorted = memory;
  for (int64_t i = 0; i < samples; i++) sorted[i] = labels->values[i];
  qsort(sorted, (size_t)samples, sizeof *sorted, compare_doubles);
  *count = 0;
  for (int64_t i = 0; i < samples; i++)
    if (i == 0 || sorted[i] != sorted[*count - 1]) sorted[(*count)++] = sorted[i];
  *distinct = sorted;
  return SNTK_OK;
}

static sntk_status class_targets(sntk_context *ctx, const sntk_data_options *options, const sntk_array *labels,
                                 sntk_data *data) {
  const bool from_clusters = options->source == SNTK_DATA_CLUSTERS;
  double *distinct = NULL;
  int64_t classes = options->clusters;
  sntk_status status = SNTK_OK;
  if (!from_clusters) SNTK_TRY(find_classes(ctx, labels, data->samples, &distinct, &classes));
  if (classes < 2)
    status = from_clusters
                 ? sntk_fail(ctx, SNTK_ERR_ARGUMENT, "clusters is 1; classes need at least 2")
                 : sntk_fail(ctx, SNTK_ERR_DATA,
                             "classes: every sample has the label %.17g; at least two classes are needed", distinct[0]);
  else if (options->outputs > 0 && options->outputs != classes)
    status = sntk_fail(ctx, SNTK_ERR_SHAPE,
                       "outputs is %lld, but there are %lld classes; leave outputs out or make them equal",
                       (long long)options->outputs, (long long)classes);
  if (status == SNTK_OK) status = create_targets(ctx, classes, data);
  if (status == SNTK_OK) {
    const double share = 1.0 / (double)classes;
    for (int64_t j = 0; j < sntk_data_rows(data) * classes; j++) data->targets[j] = -share;
    for (int64_t i = 0; i < sntk_data_rows(data) && status == SNTK_OK; i++) {
      int64_t c = i % classes;
      if (!from_clusters) {
        const double *found = bsearch(&labels->values[i], distinct, (size_t)classes, sizeof *distinct, compare_doubles);
        c = found ? found - distinct : 0;
        if (!found)
          status = sntk_fail(ctx, SNTK_ERR_DATA,
                             "classes: label %.17g of held-out row %lld (counted from 0, samples included) is that of "
                             "no sample; the %lld samples have %lld classes, take more of them or fewer test_samples",
                             labels->values[i], (long long)i, (long long)data->samples, (long long)classes);
      }
      data->targets[i * classes + c] = 1.0 - share;
    }
  }
  free(distinct);
  return status;
}

static sntk_status value_targets(sntk_context *ctx, const sntk_data_options *options, const sntk_array *labels,
                                 sntk_data *data) {
  if (options->outputs > 0 && options->outputs != labels->cols)
    return sntk_fail(ctx, SNTK_ERR_SHAPE,
                     "outputs is %lld, but there are %lld label columns; leave outputs out or make them equal",
                     (long long)options->outputs, (long long)labels->cols);
  SNTK_TRY(create_targets(ctx, labels->cols, data));
  for (int64_t j = 0; j < sntk_data_rows(data) * data->outputs; j++) data->targets[j] = labels->values[j];
  return SNTK_OK;
}

static sntk_status check_teacher(sntk_context *ctx, const sntk_data_options *options) {
  if (options->activation < SNTK_SOFTMAX || options->activation > SNTK_EXP_NORMALIZED)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT,
                     "activation %d of the teacher is unknown; softmax, relu, exp and exp_normalized are",
                     (int)options->activation);
  if (!(options->sigma > 0.0 && isfinite(options->sigma)))
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "sigma is %g; a teacher's must be finite and above 0", options->sigma);
  if (options->teacher_width < 1)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "teacher_width is %lld; it must be at least 1",
                     (long long)options->teacher_width);
  return SNTK_OK;
}

static sntk_status check_harmonic(sntk_context *ctx, const sntk_data_options *options, int64_t dim) {
  if (options->harmonic_degree < 1)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "harmonic_degree is %lld; it must be at least 1",
                     (long long)options->harmonic_degree);
  /* The sphere of the line is two points: its functions are constants and multiples of the sign. */
  if (dim == 1 && options->harmonic_degree > 1)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT,
                     "harmonic_degree is %lld; with one input column only degree 1, the sign, exists",
                     (long long)options->harmonic_degree);
  return SNTK_OK;
}

sntk_status sntk_make_targets(sntk_context *ctx, const sntk_data_options *options, sntk_targets rule,
                              const sntk_array *labels, sntk_data *data) {
  const int64_t outputs = options->outputs > 0 ? options->outputs : 1;
  switch (rule) {
    case SNTK_TARGETS_RANDOM:
      SNTK_TRY(create_targets(ctx, outputs, data));
      return random_targets(ctx, options->seed, data);
    case SNTK_TARGETS_TEACHER:
      SNTK_TRY(check_teacher(ctx, options));
      SNTK_TRY(create_targets(ctx, outputs, data));
      return teacher_targets(ctx, options, data);
    case SNTK_TARGETS_HARMONIC:
      SNTK_TRY(check_harmonic(ctx, options, data->dim));
      SNTK_TRY(create_targets(ctx, outputs, data));
      return harmonic_targets(ctx, options, data);
    case SNTK_TARGETS_VALUES:
      return value_targets(ctx, options, labels, data);
    case SNTK_TARGETS_CLASSES:
      return class_targets(ctx, options, labels, data);
  }
  return sntk_fail(ctx, SNTK_ERR_ARGUMENT,
                   "targets rule %d is unknown; random, teacher, harmonic, values and classes are", (int)rule);
}
