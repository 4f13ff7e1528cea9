/**
 * @file kernels.cuh
 * @brief Launchers of the kernel families, as backend.cu calls them. All pointers are device memory unless they say
 * host.
 *
 * Each returns the launch's error. `real` is float or double by `type`.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_CUDA_KERNELS_CUH
#define SOFTNTK_CUDA_KERNELS_CUH

#include <cuda_runtime.h>

#include "backends/backend.h"

/* What a launcher needs to know of the device. */
struct device_limits {
  int multiprocessors;
  int shared_bytes;  /* most dynamic shared memory a block may ask for */
  bool tensor_cores; /* asked for, and there: compute capability 8.0 or later */
};

/* ---- init.cu ---- */
cudaError_t launch_random_weights(cudaStream_t stream, const sntk_source &source, int64_t first, const sntk_neurons &v);
cudaError_t launch_random_signs(cudaStream_t stream, const sntk_source &source, int64_t first, const sntk_neurons &v);

/* ---- forward.cu ---- */

/* How a statistics pass is cut; the same for the same shape and device. */
struct forward_plan {
  bool fused;  /* false: too wide an input or too many outputs for the fused kernel */
  bool tensor; /* by tensor.cu */
  int rows;    /* TI */
  int dp, pp;  /* padded input dimension and outputs */
  int64_t chunk, chunks;
  int shared_bytes, stages;
};
forward_plan plan_forward(const device_limits &limits, const sntk_neurons &v, int64_t samples);

/* In place of the largest shift: the weights or the inputs are so large that a logit may have overflowed to -inf, which
 * softmax and exp would take for a neuron that adds nothing. launch_slab_statistics looks at each logit. */
constexpr double LOOK_CLOSER = 0x1p100;

/* Samples as the fused passes copy them, 16 bytes at a time: rows ld_x apart, a multiple of that, zeros behind the
 * inputs. */
inline int64_t padded_dim(sntk_precision type, int64_t dim) {
  const int64_t vector = 16 / static_cast<int64_t>(sntk_type_size(type));
  return (dim + vector - 1) / vector * vector;
}

/* Partial statistics of every chunk, merged in order. partial: chunks x samples x (p + 3) float64; out: samples x (p +
 * 3) float64, rows of (max, sum, largest shift, t...). fixed_max: samples float64, for layouts with a base. */
cudaError_t launch_forward(cudaStream_t stream, const forward_plan &plan, const sntk_neurons &v, const void *x,
                           int64_t ld_x, int64_t samples, const double *fixed_max, double *partial, double *out);

/* ---- gradient.cu ---- */

/* Per-sample coefficients of a pull, in the computation's type: rows of (exponent shift, c, r...), normalizer and scale
 * folded in. */
struct gradient_plan {
  bool fused, tensor;
  int rows; /* TI */
  int dp, pp;
  int64_t tiles, splits, samples_per_split;
  int shared_bytes, stages;
};
gradient_plan plan_gradient(const device_limits &limits, const sntk_neurons &v, int64_t samples);

/* What to do with X^T G of a tile. */
enum gradient_mode { GRADIENT_STORE, GRADIENT_DESCEND };

/* partial: splits x halves x dim x count reals, where splits > 1; norms: tiles x halves... float64 pairs, see
 * gradient_norm_pairs. */
cudaError_t launch_gradient(cudaStream_t stream, const gradient_plan &plan, const sntk_neurons &v, const void *x,
                            int64_t ld_x, int64_t samples, const void *coefficients, gradient_mode mode, double eta,
                            void *const out[2], int64_t ld, void *partial, double *norm_partials, double *norms);
/* float64 pairs that norm_partials must hold. */
int64_t gradient_norm_pairs(const gradient_plan &plan, const sntk_neurons &v);

/* W -= eta g, elementwise, with the same norms; for gradients that stand in memory. */
cudaError_t launch_descend(cudaStream_t stream, sntk_precision type, int64_t rows, int64_t cols, double eta,
                           const void *gradient, int64_t gradient_ld, void *weights, int64_t ld, double *norm_partials,
                           double *norms);
int64_t descend_norm_pairs(int64_t rows, int64_t cols);

/* ---- tensor.cu: the fused passes on tensor cores ---- */

struct gradient_target;

/* Does tensor.cu take this network? Its dp is a multiple of 16, its tiles are of 128 samples and tensor_tile_columns
 * neurons. */
bool tensor_takes(const device_limits &limits, const sntk_neurons &v);
int tensor_tile_columns(const sntk_neurons &v);
int tensor_shared_bytes(const sntk_neurons &v, bool gradient);
constexpr int TENSOR_TILE_SAMPLES = 128;
cudaError_t launch_tensor_forward(cudaStream_t stream, const forward_plan &plan, const sntk_neurons &v, const void *x,
                                  int64_t ld_x, int64_t samples, const double *fixed_max, double *partial);
cudaError_t launch_tensor_gradient(cudaStream_t stream, const gradient_plan &plan, const sntk_neurons &v, const void *x,
                                   int64_t ld_x, int64_t samples, const void *coefficients,
                                   const gradient_target &target);

/* ---- features.cu: what needs a slab of logits in memory ---- */

/* Logits of a slab: z, d1, d2 of samples x b (ld b); pointers NULL where the layout has none. */
struct logit_slab {
  int64_t samples, b;
  void *z, *d1, *d2;
};

/* Slopes exp(z - max), exp(z) or [z > 0], plain in place of z, else in place of d1 and d2. max: samples float64. */
cudaError_t launch_slopes(cudaStream_t stream, const sntk_neurons &v, const logit_slab &slab, const double *max);
/* Statistics of a slab of logits, chunked and merged as launch_forward does. */
cudaError_t launch_slab_statistics(cudaStream_t stream, const sntk_neurons &v, const logit_slab &slab,
                                   const double *fixed_max, double *partial, double *out);
int64_t slab_statistics_chunks(int64_t b);
/* slope (samples x b) becomes G: times (flip r A - c). coefficients: rows of `width` reals, r first and c last. */
cudaError_t launch_pull(cudaStream_t stream, const sntk_neurons &v, int64_t samples, int64_t b, void *slope,
                        const void *coefficients, int64_t width, double flip);
/* Adds to dot (samples x p) and mean (samples), float64: factor_i times sums of A slope v and slope v over the slab. */
cudaError_t launch_push(cudaStream_t stream, const sntk_neurons &v, int64_t samples, int64_t b, const void *slope,
                        const void *pushed, double flip, const double *factor, double *dot, double *mean);
/* u(i + n l, offset + j) = factor_i slope_ij (flip A_lj - f_il). factor: samples, float64; away: samples x p x 2,
 * float64, what is in brackets of a positive and of a negative sign. */
cudaError_t launch_features(cudaStream_t stream, const sntk_neurons &v, int64_t samples, int64_t b, const void *slope,
                            const double *factor, const double *away, double flip, void *u, int64_t ld, int64_t offset);
/* The change of the features against the base, and their middle; z, d1, d2 of the slab are logits. coefficients: rows
 * of 4 + 5 p float64: max, what exp(z - max) is multiplied with, delta, 1 / (1 + delta), and for each output A - f of
 * the base and of the network, either of a positive and of a negative sign, and df. `half` picks the shift, and the
 * sign with it. du, um as in launch_features. */
cudaError_t launch_feature_change(cudaStream_t stream, const sntk_neurons &v, const logit_slab &slab, int half,
                                  const double *coefficients, void *du, void *um, int64_t ld, int64_t offset);
/* The slab's z becomes sum_l v_l w_l: w = u (both (samples p) x b without gaps), or with bands (samples float64) A_l /
 * (2 band root) where the logit, z + d1, is smaller than the band. */
cudaError_t launch_kernel_pull(cudaStream_t stream, const sntk_neurons &v, const logit_slab &slab, const void *pulled,
                               const void *u, const double *band, double root);
/* Adds factor_i times the sum of v_(il) slope_i over the slab to sums (samples x p), float64. */
cudaError_t launch_slope_sums(cudaStream_t stream, const sntk_neurons &v, int64_t samples, int64_t b, const void *slope,
                              const void *pulled, const double *factor, double *sums);

/* ---- reduce.cu ---- */

/* out rows of (max, sum, shift, t...) = the merge of `chunks` such blocks, in order. */
cudaError_t launch_merge(cudaStream_t stream, const double *partial, int64_t chunks, int64_t samples, int64_t outputs,
                         double *out);
/* Pairs of float64 summed in order: out[0], out[1]. */
cudaError_t launch_sum_pairs(cudaStream_t stream, const double *pairs, int64_t count, double *out);
/* gram (row-major lower triangle, rows x rows) += product (float, same triangle). */
cudaError_t launch_add_lower(cudaStream_t stream, const float *product, int64_t rows, double *gram);
/* to (rows x ld) = from (rows x cols), zeros behind. */
cudaError_t launch_pad(cudaStream_t stream, sntk_precision type, const void *from, int64_t rows, int64_t cols,
                       int64_t ld, void *to);
/* to = from, float64 to float. */
cudaError_t launch_narrow(cudaStream_t stream, const double *from, int64_t count, float *to);
/* gram *= k (samples x samples, lower triangle) blockwise, then mirrored. */
cudaError_t launch_hadamard(cudaStream_t stream, const double *k, int64_t samples, int64_t outputs, double *gram);
/* float64 x -> real. */
cudaError_t launch_widen(cudaStream_t stream, const sntk_neurons &v, double *out);
/* *largest = max over neurons of |base + shift - origin|_2, as float64 bits in a uint64 (atomic maximum of non-negative
 * values). */
cudaError_t launch_movement(cudaStream_t stream, const sntk_neurons &v, int half, const void *origin, int64_t ld,
                            unsigned long long *largest);
cudaError_t launch_move_base(cudaStream_t stream, const sntk_neurons &v);
cudaError_t launch_unpair(cudaStream_t stream, const sntk_neurons &paired, const sntk_neurons &to);
/* Signs of single neurons: a pair's column gives two, with opposite signs. */
cudaError_t launch_single_signs(cudaStream_t stream, const sntk_neurons &v, int8_t *to, int64_t ld);
/* out(k, r) = base + shift of half h, float64, dim x count with ld and step: out[k ld + step r + h]. */
cudaError_t launch_read_weights(cudaStream_t stream, const sntk_neurons &v, int half, double *out, int64_t ld);

#endif
