/**
 * @file engine.h
 * @brief Internals of the engine: a network's state, and passes of samples through it.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_ENGINE_H
#define SOFTNTK_ENGINE_H

#include "backends/backend.h"
#include "softntk/network.h"
#include "softntk/ntk.h"
#include "softntk/train.h"

struct sntk_network {
  sntk_context *ctx;
  sntk_network_options options; /* resolved; weights and signs NULL */
  sntk_source source;
  double scale;                /* s */
  sntk_neurons v;              /* the whole network; streamed: pointers NULL, layout plain */
  sntk_neurons chunk;          /* streamed: storage of the chunk generated last */
  double *weights0;            /* dim x width as loaded, host; NULL: random */
  int8_t *signs0;              /* outputs x width as loaded, host; NULL: random */
  struct sntk_network *narrow; /* a wide view (sntk_network_widen): the stored network whose chunks are widened */
  bool base_moved;             /* displaced: the base is no longer W0 */
  bool remainder;              /* displaced: of given weights float32 has left something, which is in the shift */
};

static inline double sntk_dot(const double *a, const double *b, int64_t count) {
  double sum = 0.0;
  for (int64_t j = 0; j < count; j++) sum += a[j] * b[j];
  return sum;
}

/* |a|_2, also where the squares overflow or vanish. */
static inline double sntk_norm(const double *a, int64_t count) {
  const double square = sntk_dot(a, a, count);
  if (square > 0x1p-900 && square < 0x1p1000) return sqrt(square);
  double largest = 0.0, sum = 0.0;
  for (int64_t j = 0; j < count; j++) largest = fabs(a[j]) > largest || isnan(a[j]) ? fabs(a[j]) : largest;
  if (largest == 0.0 || !isfinite(largest)) return largest;
  for (int64_t j = 0; j < count; j++) sum += a[j] / largest * (a[j] / largest);
  return largest * sqrt(sum);
}

/* Columns at a time for operations over a network's whole width. */
int64_t sntk_chunk_columns(const sntk_context *ctx, bool streamed, int64_t dim, int64_t count);
int64_t sntk_network_chunk_columns(const sntk_network *net);

/* Columns [first, first + count): a view of the stored network, or generated anew. Valid until the next call. */
sntk_status sntk_network_chunk(sntk_context *ctx, sntk_network *net, int64_t first, int64_t count, sntk_neurons *chunk);

/* A plain float64 view of a stored float32 network, a chunk at a time, for what must not carry float32's rounding: the
 * change of the kernel is far below it. Clear it with sntk_network_wide_clear, before the network. */
sntk_status sntk_network_widen(sntk_context *ctx, sntk_network *net, sntk_network *wide);
void sntk_network_wide_clear(sntk_context *ctx, sntk_network *wide);

/* Allocates a view's arrays on the backend (count, dim, outputs, type and layout set by the caller; ld = count). */
sntk_status sntk_neurons_alloc(sntk_context *ctx, sntk_neurons *v);
void sntk_neurons_free(sntk_context *ctx, sntk_neurons *v);
void sntk_plan_neurons(const sntk_neurons *v, sntk_plan *plan);

/* The layout that a network of these options has on the context's backend. */
sntk_layout sntk_network_layout(const sntk_context *ctx, const sntk_network_options *options);
/* The whole of its neurons, without memory: pointers NULL. */
sntk_neurons sntk_network_shape(const sntk_context *ctx, const sntk_network_options *options);
/* Plans (core/plan.h) stand beside what they plan for. What sntk_network_create holds. */
void sntk_plan_network(const sntk_context *ctx, const sntk_network_options *options, sntk_plan *plan);

/* max_r |w_r - w_r(0)|. */
sntk_status sntk_network_movement(sntk_context *ctx, sntk_network *net, double *movement);
void sntk_plan_movement(const sntk_context *ctx, const sntk_neurons *shape, sntk_plan *plan);

/* `count` doubles into backend memory of the given type. */
sntk_status sntk_upload_real(sntk_context *ctx, sntk_precision type, const double *from, int64_t count, void *to);

/* Displacement form: one displacement a neuron, where pairs have shared a base. */
sntk_status sntk_network_unpair(sntk_context *ctx, sntk_network *net);

/* Displacement form: takes the displacement into the base (a paired network becomes one displacement a neuron). */
sntk_status sntk_network_move_base(sntk_context *ctx, sntk_network *net);

/* Samples on the backend, and what a walk over the width left of them. All arrays host float64 but the samples' own.
 *
 * A split pass. Where neurons of one sign carry nearly all of a sample's softmax, f is close to 1 or -1 and A - f, as a
 * difference, is rounding. With the shares P of positive and M of negative neurons (P + M = 1) it is 2 M for a positive
 * sign and -2 P for a negative one. So from the first sample on that has |f| above a half, a pass hands the backend
 * three rows of signs for each output: A, [A > 0] and [A < 0], whose sums are t, P and M; and a pull, J v likewise, is
 * taken of the latter two. (Pairs never get so far: their two neurons differ by a shift of at most 2 each, or their
 * base moves and they are no longer pairs.) */
typedef struct sntk_pass {
  sntk_samples samples;
  int64_t outputs;
  int64_t rows; /* of signs, and sums of the statistics: outputs, or three times as many */
  bool split;
  bool by_steps;    /* walks cut the width as steps do: the same sums, and so the same bits of F as after a step */
  void *x, *x64;    /* backend memory; the same where the type is float64 */
  sntk_stats base;  /* displaced, paired: of the base */
  sntk_stats stats; /* of the network (plain), or the change against the base */
  sntk_stats next;  /* the same after the descent under way; the two take turns */
  double *sum;      /* n: whole normalizer */
  double *factor;   /* n: on the outputs; 1 but for exp_normalized */
  double *f;        /* n x p, before the output scale */
  double *away;     /* n x p x 2: 1 - f and -1 - f, see backend.h */
  double *pulled;   /* n x rows: of sntk_pass_pull */
  double *storage;  /* what the arrays above point into */
  int8_t *signs;    /* split: rows x split_columns, backend memory */
  int8_t *staging;  /* (outputs + rows) x split_columns, host */
  int64_t split_columns;
} sntk_pass;

sntk_status sntk_pass_create(sntk_context *ctx, const sntk_network *net, const double *inputs, int64_t samples,
                             sntk_pass *pass);
void sntk_pass_clear(sntk_context *ctx, sntk_pass *pass);
void sntk_plan_pass(const sntk_context *ctx, const sntk_neurons *shape, int64_t samples, sntk_plan *plan);
int64_t sntk_pass_bytes(const sntk_context *ctx, const sntk_network_options *options, int64_t samples);

/* Statistics of the base, in the displaced and paired layouts; after creation and after each move of the base. */
sntk_status sntk_pass_base(sntk_context *ctx, sntk_network *net, sntk_pass *pass);
/* Walks the width: stats, sum, f. `what` names the walk for progress, NULL for none. */
sntk_status sntk_pass_forward(sntk_context *ctx, sntk_network *net, sntk_pass *pass, const char *what);

/* A pass that is not split, as it was created, with the statistics of the base: what follows does not depend on what
 * the pass has seen before. */
sntk_status sntk_pass_restart(sntk_context *ctx, sntk_network *net, sntk_pass *pass);
/* Columns at a time of a pass over the width. */
int64_t sntk_pass_columns(const sntk_network *net, const sntk_pass *pass);
/* A chunk of the network with the pass's rows of signs: for statistics, descents, gradients and J v. Valid until the
 * next call. */
sntk_status sntk_pass_chunk(sntk_context *ctx, sntk_network *net, sntk_pass *pass, int64_t first, int64_t count,
                            sntk_neurons *chunk);

/* Empties `next` for a descent that fills it, and makes it the pass's statistics afterwards. */
void sntk_pass_begin_next(const sntk_network *net, sntk_pass *pass);
sntk_status sntk_pass_take_next(sntk_context *ctx, sntk_network *net, sntk_pass *pass);

/* One step: W -= eta dL/dW for the residual r (n x p), and the statistics at the new weights become the pass's. centre:
 * n numbers of work space. norms: |update|^2 and |stored update - update|^2 are added. */
sntk_status sntk_pass_descend(sntk_context *ctx, sntk_network *net, sntk_pass *pass, const double *r, double *centre,
                              double eta, double norms[2]);

/* Have the samples' factors to be put in? */
static inline bool sntk_pass_weighted(const sntk_network *net) {
  return net->options.activation == SNTK_EXP_NORMALIZED;
}

/* f, and 1 - f and -1 - f, of one output of a sample from its sums; sums: NULL, or of a split pass, where [outputs] is
 * of the positive neurons and [2 outputs] of the negative ones. */
double sntk_pass_share(double t, double sum, const double *sums, int64_t outputs, double away[2]);

/* What a backend must pull back for J^T r, of a chunk from sntk_pass_chunk: r itself, with the samples' factors, or
 * split. centre: n numbers, which get c. Valid until the next call. */
sntk_pull sntk_pass_pull(const sntk_network *net, sntk_pass *pass, const double *r, double scale, double *centre);

/* J v without the output scale from a backend's raw sums (see sntk_backend.push; dot: n x rows): into out, n x p. */
void sntk_pass_pushed(const sntk_network *net, const sntk_pass *pass, const double *dot, const double *mean,
                      double *out);

/* H of a stored network in float64 whatever its type: its change is far below what float32's rounding leaves. */
sntk_status sntk_network_gram64(sntk_context *ctx, sntk_network *net, const double *inputs, int64_t samples,
                                double *gram);
/* Here and below the result is the caller's, and counts with the peak where it is fresh: nothing written of it. */
void sntk_plan_gram64(const sntk_context *ctx, const sntk_neurons *shape, int64_t samples, bool fresh, sntk_plan *plan);

/* H - H(W0) at the weights the pass was walked with, in the displaced and paired layouts with the base at W0, without
 * cancellation: the base and the displacement give the features' change, see sntk_backend.feature_change. */
sntk_status sntk_pass_gram_change(sntk_context *ctx, sntk_network *net, sntk_pass *pass, double *change);
void sntk_plan_gram_change(const sntk_context *ctx, const sntk_neurons *shape, int64_t samples, bool fresh,
                           sntk_plan *plan);

/* H at the weights the pass was walked with, into host memory. */
sntk_status sntk_pass_gram(sntk_context *ctx, sntk_network *net, sntk_pass *pass, double *gram);

/* The walk that makes H, or its trace over the outputs, and H with the passes before it. */
void sntk_plan_gram(const sntk_context *ctx, const sntk_neurons *shape, bool streamed, int64_t samples, bool trace,
                    bool fresh, sntk_plan *plan);
void sntk_plan_ntk(const sntk_context *ctx, const sntk_neurons *shape, bool streamed, int64_t samples, bool trace,
                   bool fresh, sntk_plan *plan);
/* The blocks of H: `most` samples in the largest pair of ranges. What is there while a block is used is held. */
void sntk_plan_blocks(const sntk_context *ctx, const sntk_neurons *shape, bool streamed, int64_t samples, int64_t size,
                      int64_t most, sntk_plan *plan);
/* Eigenvalues of a matrix of that order: all (values apart), the two ends, the lowest with its vector. */
void sntk_plan_eigenvalues(int64_t size, sntk_plan *plan);
void sntk_plan_extremes(int64_t size, sntk_plan *plan);
void sntk_plan_lowest(int64_t size, sntk_plan *plan);

/* The linearized run: see linear.c. Vectors are all x p like outputs, matrices have row i + all l like H. */
typedef struct sntk_linear {
  int64_t samples, all, outputs; /* all: the samples and held-out inputs behind them */
  double rate;                   /* eta q */
  double *gram;                  /* all p x all p: H at W0, filled by the caller */
  double *u;                     /* outputs of the linearized run */
  double *infinite;              /* all x all: one output's block of H at infinite width; NULL: weights not Gaussian,
                                    or it overflows */
  double *u_infinite;            /* outputs of the run with it; NULL likewise */
  double *residual;              /* samples x p */
} sntk_linear;

/* Allocates, and fills `infinite` for Gaussian weights. */
sntk_status sntk_linear_create(sntk_context *ctx, const sntk_network_options *options, const double *inputs,
                               int64_t samples, int64_t all, bool gaussian, sntk_linear *run);
void sntk_linear_clear(sntk_linear *run);
void sntk_plan_linear(int64_t samples, int64_t all, int64_t outputs, bool gaussian, sntk_plan *plan);
/* Both runs start from `outputs` (all x p). */
void sntk_linear_begin(sntk_linear *run, const double *outputs, double rate);
/* targets: samples x p. */
void sntk_linear_step(sntk_linear *run, const double *targets);

/* Can bytes be told of such a network and so many samples? Not without a backend, nor of sizes that no
 * call takes. */
bool sntk_network_sized(const sntk_context *ctx, const sntk_network_options *o, int64_t samples);

/* Can the network take these inputs? A NULL, a context without a backend, a number of samples that cannot be. */
sntk_status sntk_network_check(sntk_context *ctx, const sntk_network *net, const double *inputs, int64_t samples);

/* Smallest eigenvalue and a unit eigenvector of a symmetric matrix on the host (LAPACK); the matrix is destroyed. */
sntk_status sntk_lowest_eigenvector(sntk_context *ctx, double *matrix, int64_t size, double *value, double *vector);

/* Largest eigenvalue of J J^T at the weights the pass was walked with, and the residual bound it was accepted with. */
sntk_status sntk_pass_jj_lambda_max(sntk_context *ctx, sntk_network *net, sntk_pass *pass, double *lambda,
                                    double *bound);
void sntk_plan_jj_lambda_max(const sntk_context *ctx, const sntk_neurons *shape, int64_t samples, sntk_plan *plan);

/* Training of a network that is there. */
void sntk_plan_train(const sntk_context *ctx, const sntk_network_options *network, int64_t samples,
                     const sntk_train_options *options, sntk_plan *plan);
/* Moves of a network, with everything that they make; as training moves it too, unless `train` is NULL. */
void sntk_plan_perturb(const sntk_context *ctx, const sntk_network_options *network, int64_t samples, bool adversarial,
                       const sntk_train_options *train, sntk_plan *plan);

#endif
