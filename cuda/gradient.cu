/**
 * @file gradient.cu
 * @brief Fused gradient X^T G and descent W -= eta X^T G: logits recomputed, G never leaves the multiprocessor, no
 * atomics.
 *
 * G_ir = s S_ir ((R A)_ir - c_i) for softmax with c_i = sum_l R_il f_il; exp(z) or [z > 0] in place of S for the
 * others, c = 0. Per sample the host folds s and 1 / sum_i into r_i and c_i, so that S is exp(z - max) as it stands.
 *
 * Work per (sample, neuron): d for the logit, 1 for the exponent, p for R A, 1 to subtract c, 1 to multiply, d for
 * X^T G: 2 d + p + 3 slots, 1 exponential. Bytes: W read and written once, 8 d a neuron.
 *
 * A block owns a tile of neurons and walks the samples tile by tile. The second product's accumulators (dim x columns,
 * T2 x T2 a thread) stay in registers for the whole walk; where that is fewer tiles than threads, groups of threads
 * share the samples of a tile and meet once at the end, in order. Few neurons and many samples: the samples are split
 * over blocks, whose partial gradients a second kernel adds in order.
 *
 * SPDX-License-Identifier: MIT
 */
#include "elements.cuh"
#include "kernels.cuh"
#include "tile.cuh"

namespace {

struct gradient_arguments {
  const void *x, *w[3], *coefficients;
  const int8_t *signs;
  int64_t ld, ld_signs, count, samples, samples_per_split;
  int dim, ld_x, dp, outputs, pp, stages;
  unsigned tiles;
  gradient_target target;
};

/* Room for the residuals of one output, so that they, the exponent's shift and c are whole vectors. */
template <class R>
__host__ __device__ constexpr int one_pp() {
  return vec16<R>::count > 2 ? vec16<R>::count - 2 : vec16<R>::count;
}

template <class R, int LAYOUT, int ACT, bool ONE, int TI>
__global__ void __launch_bounds__(TILE_THREADS, 2) gradient_kernel(gradient_arguments a) {
  typedef tile_shape<R, LAYOUT, TI> S;
  constexpr int TJ = S::TJ, TN = S::TN, TS = S::TS, M = S::matrices, V = S::V, T2 = S::T2, HALVES = S::halves;
  /* columns of G: in the paired layout those of the second neurons behind those of the first */
  constexpr int COLS = TN * HALVES;
  SNTK_DYNAMIC_SHARED(R, shared);
  const int thread = threadIdx.x, tx = tile_x(thread), ty = tile_y(thread);
  const int64_t column0 = static_cast<int64_t>(blockIdx.x % a.tiles) * TN;
  const int64_t split = blockIdx.x / a.tiles;
  const int64_t first = split * a.samples_per_split;
  const int64_t last = first + a.samples_per_split < a.samples ? first + a.samples_per_split : a.samples;
  constexpr int X_STEP = vector_step<R>(TS, GAP_COPY);
  const int dp = a.dp, pp = ONE ? one_pp<R>() : a.pp, width = pp + 2;
  R *gs = shared;                            /* max(TS, dp) x COLS: G of a tile of samples; at the end the gradient */
  R *ws = gs + (TS > dp ? TS : dp) * COLS;   /* M x dp x TN */
  R *ss = ws + M * dp * TN;                  /* pp x TN */
  R *xs = ss + pp * TN;                      /* stages x TS x dp, by vectors */
  R *cs = xs + a.stages * (dp / V) * X_STEP; /* stages x TS x (pp + 2): r, then exponent shift and c */

#pragma unroll
  for (int w = 0; w < M; w++)
    copy_async<R>(ws + w * dp * TN, TN, V, dp, TN, deal<R, TILE_THREADS>(TN, thread),
                  static_cast<const R *>(a.w[w]) + column0, a.ld, a.dim, a.count - column0);
  load_signs<R, TN>(ss, pp, a.signs, a.ld_signs, a.outputs, column0, a.count, thread);
  const copy_turns sample_turns = deal<R, TILE_THREADS>(dp, thread);
  auto load_tile = [&](int stage, int64_t sample) {
    const int64_t rows = last - sample;
    copy_async<R>(xs + stage * (dp / V) * X_STEP, V, X_STEP, TS, dp, sample_turns,
                  static_cast<const R *>(a.x) + sample * a.ld_x, a.ld_x, rows, a.ld_x);
    /* rows beyond the end get coefficients 0, so their G is 0 */
    copy_async<R>(cs + stage * TS * width, width, V, TS, width, deal<R, TILE_THREADS>(width, thread),
                  static_cast<const R *>(a.coefficients) + sample * width, width, rows, width);
    __pipeline_commit();
  };

  constexpr int COL_TILES = COLS / T2;
  const int row_tiles = dp / T2, tiles = row_tiles * COL_TILES, groups = TILE_THREADS / tiles;
  const int tile = thread % tiles, group = thread / tiles;
  /* lanes n and n ^ 1 share columns, n and n ^ 2 rows, as in tile_x, where the rows pair up; columns are in vectors
   * that lie COLS / 2 apart */
  const bool paired = row_tiles % 2 == 0;
  const int tile_k = (paired ? tile % 2 + tile / (2 * COL_TILES) * 2 : tile / COL_TILES) * T2;
  const int tile_c = (paired ? tile / 2 % COL_TILES : tile % COL_TILES) * V;
  const int group_first = group * TS / groups, group_last = (group + 1) * TS / groups;
  R acc2[T2][T2];
  tile_zero<R, T2, T2>(acc2);

  /* two stages: the next tile comes while this one is worked on */
  const int64_t ahead = a.stages == 2 ? TS : 0;
  if (ahead) load_tile(0, first);
  int stage = 0;
  for (int64_t sample = first; sample < last; sample += TS) {
    const bool more = sample + ahead < last;
    if (more) load_tile(ahead ? 1 - stage : 0, sample + ahead);
    if (ahead && more)
      __pipeline_wait_prior(1);
    else
      __pipeline_wait_prior(0);
    __syncthreads();

    const R *x = xs + stage * (dp / V) * X_STEP, *c = cs + stage * TS * width;
    R acc[M][TI][TJ];
#pragma unroll
    for (int w = 0; w < M; w++) {
      tile_zero<R, TI, TJ>(acc[w]);
      tile_product<R, TI, TJ>(x, ws + w * dp * TN, dp, ty, tx, acc[w]);
    }
    R sign[TJ], ra[ONE ? 1 : TI][ONE ? 1 : TJ] = {};
    if (ONE) {
#pragma unroll
      for (int j = 0; j < TJ; j += V) load16(ss + j * TILE_X + tx * V, sign + j);
    } else {
      tile_zero<R, ONE ? 1 : TI, ONE ? 1 : TJ>(ra);
      for (int l = 0; l < a.outputs; l++) {
        R av[TJ];
#pragma unroll
        for (int j = 0; j < TJ; j += V) load16(ss + l * TN + j * TILE_X + tx * V, av + j);
#pragma unroll
        for (int i = 0; i < (ONE ? 1 : TI); i++) {
          const R r = c[(ty + TILE_Y * i) * width + l];
#pragma unroll
          for (int j = 0; j < (ONE ? 1 : TJ); j++) ra[i][j] = fused(r, av[j], ra[i][j]);
        }
      }
    }
#pragma unroll
    for (int i = 0; i < TI; i++) {
      const int row = ty + TILE_Y * i;
      const R shift = c[row * width + pp], minus_c = -c[row * width + pp + 1], r = ONE ? c[row * width] : R(0);
      R g[HALVES][TJ];
#pragma unroll
      for (int j = 0; j < TJ; j++) {
        const R all = ra[ONE ? 0 : i][ONE ? 0 : j]; /* of several outputs */
        const R pull = ONE ? fused(sign[j], r, minus_c) : all + minus_c;
        if (LAYOUT == SNTK_LAYOUT_PLAIN) {
          g[0][j] = slope_of<R, ACT>(acc[0][i][j], shift) * pull;
        } else {
          g[0][j] = slope_of<R, ACT>(acc[0][i][j] + acc[1][i][j], shift) * pull;
          if (HALVES == 2) {
            const R opposite = ONE ? fused(-sign[j], r, minus_c) : minus_c - all;
            g[HALVES - 1][j] = slope_of<R, ACT>(acc[0][i][j] + acc[M - 1][i][j], shift) * opposite;
          }
        }
      }
#pragma unroll
      for (int h = 0; h < HALVES; h++)
#pragma unroll
        for (int j = 0; j < TJ; j += V) store16(gs + row * COLS + h * TN + j * TILE_X + tx * V, &g[h][j]);
    }
    __syncthreads();
    if (group < groups) {
      const R *x_at = x + tile_k / V * X_STEP + group_first * V, *g_at = gs + group_first * COLS + tile_c;
#pragma unroll 2
      for (int left = group_last - group_first; left > 0; left--) {
        R xv[T2], gv[T2];
#pragma unroll
        for (int e = 0; e < T2; e += V) {
          load16(x_at + e / V * X_STEP, xv + e);
          load16(g_at + e / V * (COLS / 2), gv + e);
        }
#pragma unroll
        for (int k = 0; k < T2; k++)
#pragma unroll
          for (int j = 0; j < T2; j++) acc2[k][j] = fused(xv[k], gv[j], acc2[k][j]);
        x_at += V;
        g_at += COLS;
      }
    }
    __syncthreads(); /* gs and the stage are written again next */
    if (ahead) stage = 1 - stage;
  }

  /* the groups of a tile meet, in order */
  for (int g = 0; g < groups; g++) {
    if (group == g)
#pragma unroll
      for (int k = 0; k < T2; k++)
#pragma unroll
        for (int j = 0; j < T2; j++) {
          R *cell = gs + (tile_k + k) * COLS + j / V * (COLS / 2) + tile_c + j % V;
          *cell = g == 0 ? acc2[k][j] : *cell + acc2[k][j];
        }
    __syncthreads();
  }
  store_gradient<R, TILE_THREADS>(a.target, gs, COLS, TN, HALVES, column0, split, reinterpret_cast<double *>(ws));
}

/* Adds the partial gradients of the splits in order, then stores or descends. A thread an element, striding over the
 * grid. */
template <class R>
__global__ void __launch_bounds__(TILE_THREADS)
    combine_kernel(const R *partial, int64_t splits, int halves, int64_t dim, int64_t count, bool descend, double eta,
                   R *out0, R *out1, int64_t ld, double *norms) {
  __shared__ double scratch[2 * (TILE_THREADS / 32)];
  double square = 0.0, lost = 0.0;
  const int64_t total = halves * dim * count;
  for (int64_t at = static_cast<int64_t>(blockIdx.x) * TILE_THREADS + threadIdx.x; at < total;
       at += static_cast<int64_t>(gridDim.x) * TILE_THREADS) {
    R g = R(0);
    for (int64_t s = 0; s < splits; s++) g += partial[s * total + at];
    const int64_t h = at / (dim * count), k = at / count % dim, column = at % count;
    R *target = (h ? out1 : out0) + k * ld + column;
    if (descend)
      descend_one(eta, g, target, &square, &lost);
    else
      *target = g;
  }
  if (descend) store_block_pair<TILE_THREADS>(square, lost, scratch, norms + 2 * static_cast<int64_t>(blockIdx.x));
}

template <class R>
__global__ void __launch_bounds__(TILE_THREADS)
    descend_kernel(int64_t rows, int64_t cols, double eta, const R *gradient, int64_t gradient_ld, R *weights,
                   int64_t ld, double *norms) {
  __shared__ double scratch[2 * (TILE_THREADS / 32)];
  double square = 0.0, lost = 0.0;
  for (int64_t at = static_cast<int64_t>(blockIdx.x) * TILE_THREADS + threadIdx.x; at < rows * cols;
       at += static_cast<int64_t>(gridDim.x) * TILE_THREADS)
    descend_one(eta, gradient[at / cols * gradient_ld + at % cols], weights + at / cols * ld + at % cols, &square,
                &lost);
  store_block_pair<TILE_THREADS>(square, lost, scratch, norms + 2 * static_cast<int64_t>(blockIdx.x));
}

/* Blocks of the elementwise kernels: few enough that their pairs of norms are nothing. */
unsigned elementwise_blocks(int64_t elements) {
  const unsigned blocks = blocks_for(elements, TILE_THREADS);
  return blocks < 4096 ? blocks : 4096;
}

/* Tiles of neurons; and of samples where those are too few for two blocks a multiprocessor in two waves: a split walks
 * at least two tiles. */
void cut(gradient_plan *plan, const device_limits &limits, int64_t count, int tile_columns, int64_t samples,
         int tile_samples) {
  plan->tiles = (count + tile_columns - 1) / tile_columns;
  const int64_t wanted = 4 * limits.multiprocessors, sample_tiles = (samples + tile_samples - 1) / tile_samples;
  int64_t splits = plan->tiles < wanted ? wanted / plan->tiles : 1;
  if (splits > (sample_tiles + 1) / 2) splits = (sample_tiles + 1) / 2;
  const int64_t tiles_per_split = (sample_tiles + splits - 1) / splits;
  plan->samples_per_split = tiles_per_split * tile_samples;
  plan->splits = (sample_tiles + tiles_per_split - 1) / tiles_per_split;
  if (plan->tiles * plan->splits > INT32_MAX) plan->fused = false;
}

/* Does a shape fit `most` bytes of shared memory, with a tile of the second product a thread? */
template <class R, int LAYOUT, int TI>
bool fits(gradient_plan *plan, const device_limits &limits, const sntk_neurons &v, int64_t samples, int stages,
          int64_t most) {
  typedef tile_shape<R, LAYOUT, TI> S;
  const int cols = S::TN * S::halves;
  plan->rows = TI;
  plan->stages = stages;
  plan->dp = static_cast<int>((v.dim + S::T2 - 1) / S::T2 * S::T2);
  plan->pp = v.outputs == 1 ? one_pp<R>() : static_cast<int>((v.outputs + 2 + S::V - 1) / S::V * S::V - 2);
  const int64_t reals = static_cast<int64_t>(S::TS > plan->dp ? S::TS : plan->dp) * cols +
                        (static_cast<int64_t>(S::matrices) * plan->dp + plan->pp) * S::TN +
                        static_cast<int64_t>(stages) * ((S::TS + GAP_COPY) * plan->dp + S::TS * (plan->pp + 2));
  plan->fused = reals * static_cast<int64_t>(sizeof(R)) <= most && plan->dp / S::T2 * (cols / S::T2) <= TILE_THREADS;
  if (!plan->fused) return false;
  plan->shared_bytes = static_cast<int>(reals * sizeof(R));
  cut(plan, limits, v.count, S::TN, samples, S::TS);
  return true;
}

template <class R, int LAYOUT, int ACT, bool ONE, int TI>
cudaError_t start(cudaStream_t stream, const gradient_plan &plan, const gradient_arguments &a) {
  const cudaError_t error = cudaFuncSetAttribute(gradient_kernel<R, LAYOUT, ACT, ONE, TI>,
                                                 cudaFuncAttributeMaxDynamicSharedMemorySize, plan.shared_bytes);
  if (error != cudaSuccess) return error;
  return launch(gradient_kernel<R, LAYOUT, ACT, ONE, TI>, dim3(static_cast<unsigned>(plan.tiles * plan.splits)),
                dim3(TILE_THREADS), static_cast<size_t>(plan.shared_bytes), stream, a);
}

template <class R, int LAYOUT, bool ONE, int TI>
cudaError_t by_activation(cudaStream_t stream, const gradient_plan &plan, const sntk_neurons &v,
                          const gradient_arguments &a) {
  switch (v.activation) {
    case SNTK_SOFTMAX:
      return start<R, LAYOUT, SNTK_SOFTMAX, ONE, TI>(stream, plan, a);
    case SNTK_RELU:
      return start<R, LAYOUT, SNTK_RELU, ONE, TI>(stream, plan, a);
    default:
      return start<R, LAYOUT, SNTK_EXP, ONE, TI>(stream, plan, a);
  }
}

template <class R, int LAYOUT, int TI>
cudaError_t by_outputs(cudaStream_t stream, const gradient_plan &plan, const sntk_neurons &v,
                       const gradient_arguments &a) {
  return v.outputs == 1 ? by_activation<R, LAYOUT, true, TI>(stream, plan, v, a)
                        : by_activation<R, LAYOUT, false, TI>(stream, plan, v, a);
}

template <class R, int TALL>
cudaError_t by_layout(cudaStream_t stream, const gradient_plan &plan, const sntk_neurons &v,
                      const gradient_arguments &a) {
  const bool tall = plan.rows == TALL;
  switch (v.layout) {
    case SNTK_LAYOUT_PLAIN:
      return tall ? by_outputs<R, SNTK_LAYOUT_PLAIN, TALL>(stream, plan, v, a)
                  : by_outputs<R, SNTK_LAYOUT_PLAIN, 4>(stream, plan, v, a);
    case SNTK_LAYOUT_DISPLACED:
      return tall ? by_outputs<R, SNTK_LAYOUT_DISPLACED, TALL>(stream, plan, v, a)
                  : by_outputs<R, SNTK_LAYOUT_DISPLACED, 4>(stream, plan, v, a);
    default:
      return tall ? by_outputs<R, SNTK_LAYOUT_PAIRED, TALL>(stream, plan, v, a)
                  : by_outputs<R, SNTK_LAYOUT_PAIRED, 4>(stream, plan, v, a);
  }
}

/* The first shape that fits: two blocks a multiprocessor come before tall tiles of samples, tall tiles before two
 * stages. */
template <class R, int LAYOUT, int TALL>
void choose(gradient_plan *plan, const device_limits &limits, const sntk_neurons &v, int64_t samples) {
  for (const int64_t most : {shared_for_two(limits.shared_bytes), static_cast<int64_t>(limits.shared_bytes)}) {
    if (fits<R, LAYOUT, TALL>(plan, limits, v, samples, 2, most) ||
        fits<R, LAYOUT, TALL>(plan, limits, v, samples, 1, most))
      return;
    if (fits<R, LAYOUT, 4>(plan, limits, v, samples, 2, most) || fits<R, LAYOUT, 4>(plan, limits, v, samples, 1, most))
      return;
  }
}

template <class R, int TALL>
void choose_by_layout(gradient_plan *plan, const device_limits &limits, const sntk_neurons &v, int64_t samples) {
  switch (v.layout) {
    case SNTK_LAYOUT_PLAIN:
      choose<R, SNTK_LAYOUT_PLAIN, TALL>(plan, limits, v, samples);
      break;
    case SNTK_LAYOUT_DISPLACED:
      choose<R, SNTK_LAYOUT_DISPLACED, TALL>(plan, limits, v, samples);
      break;
    default:
      choose<R, SNTK_LAYOUT_PAIRED, TALL>(plan, limits, v, samples);
      break;
  }
}

}  // namespace

gradient_plan plan_gradient(const device_limits &limits, const sntk_neurons &v, int64_t samples) {
  gradient_plan plan = {};
  if (v.dim > 4096 || v.outputs > 4096) return plan; /* far beyond shared memory */
  if (tensor_takes(limits, v) && tensor_shared_bytes(v, true) <= limits.shared_bytes) {
    plan.fused = plan.tensor = true;
    plan.dp = static_cast<int>((v.dim + 15) / 16 * 16);
    plan.pp = 2;
    plan.shared_bytes = tensor_shared_bytes(v, true);
    cut(&plan, limits, v.count, tensor_tile_columns(v), samples, TENSOR_TILE_SAMPLES);
  } else if (v.type == SNTK_F32) {
    choose_by_layout<float, 8>(&plan, limits, v, samples);
  } else {
    choose_by_layout<double, 4>(&plan, limits, v, samples);
  }
  return plan;
}

int64_t gradient_norm_pairs(const gradient_plan &plan, const sntk_neurons &v) {
  if (plan.splits == 1) return plan.tiles;
  return elementwise_blocks((v.layout == SNTK_LAYOUT_PAIRED ? 2 : 1) * v.dim * v.count);
}

cudaError_t launch_gradient(cudaStream_t stream, const gradient_plan &plan, const sntk_neurons &v, const void *x,
                            int64_t ld_x, int64_t samples, const void *coefficients, gradient_mode mode, double eta,
                            void *const out[2], int64_t ld, void *partial, double *norm_partials, double *norms) {
  const bool descend = mode == GRADIENT_DESCEND, split = plan.splits > 1;
  gradient_arguments a = {};
  a.x = x;
  a.w[0] = v.base;
  a.w[1] = v.shift[0];
  a.w[2] = v.shift[1];
  a.coefficients = coefficients;
  a.signs = v.signs;
  a.ld = v.ld;
  a.ld_signs = v.ld_signs;
  a.count = v.count;
  a.samples = samples;
  a.samples_per_split = plan.samples_per_split;
  a.dim = static_cast<int>(v.dim);
  a.ld_x = static_cast<int>(ld_x);
  a.dp = plan.dp;
  a.outputs = static_cast<int>(v.outputs);
  a.pp = plan.pp;
  a.stages = plan.stages;
  a.tiles = static_cast<unsigned>(plan.tiles);
  a.target =
      gradient_target{{split ? partial : out[0], out[1]}, ld, v.count, v.dim, split, descend, eta, norm_partials};
  cudaError_t error = plan.tensor ? launch_tensor_gradient(stream, plan, v, x, ld_x, samples, coefficients, a.target)
                      : v.type == SNTK_F32 ? by_layout<float, 8>(stream, plan, v, a)
                                           : by_layout<double, 4>(stream, plan, v, a);
  if (error == cudaSuccess && split) {
    const int halves = v.layout == SNTK_LAYOUT_PAIRED ? 2 : 1;
    const unsigned blocks = elementwise_blocks(halves * v.dim * v.count);
    error = v.type == SNTK_F32
                ? launch(combine_kernel<float>, dim3(blocks), dim3(TILE_THREADS), 0, stream,
                         static_cast<const float *>(partial), plan.splits, halves, v.dim, v.count, descend, eta,
                         static_cast<float *>(out[0]), static_cast<float *>(out[1]), ld, norm_partials)
                : launch(combine_kernel<double>, dim3(blocks), dim3(TILE_THREADS), 0, stream,
                         static_cast<const double *>(partial), plan.splits, halves, v.dim, v.count, descend, eta,
                         static_cast<double *>(out[0]), static_cast<double *>(out[1]), ld, norm_partials);
  }
  if (error == cudaSuccess && descend)
    error = launch_sum_pairs(stream, norm_partials, gradient_norm_pairs(plan, v), norms);
  return error;
}

int64_t descend_norm_pairs(int64_t rows, int64_t cols) { return elementwise_blocks(rows * cols); }

cudaError_t launch_descend(cudaStream_t stream, sntk_precision type, int64_t rows, int64_t cols, double eta,
                           const void *gradient, int64_t gradient_ld, void *weights, int64_t ld, double *norm_partials,
                           double *norms) {
  const dim3 blocks(elementwise_blocks(rows * cols));
  const cudaError_t error = type == SNTK_F32 ? launch(descend_kernel<float>, blocks, dim3(TILE_THREADS), 0, stream,
                                                      rows, cols, eta, static_cast<const float *>(gradient),
                                                      gradient_ld, static_cast<float *>(weights), ld, norm_partials)
                                             : launch(descend_kernel<double>, blocks, dim3(TILE_THREADS), 0, stream,
                                                      rows, cols, eta, static_cast<const double *>(gradient),
                                                      gradient_ld, static_cast<double *>(weights), ld, norm_partials);
  return error == cudaSuccess ? launch_sum_pairs(stream, norm_partials, blocks.x, norms) : error;
}
