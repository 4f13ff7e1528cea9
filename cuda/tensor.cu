/**
 * @file tensor.cu
 * @brief The fused forward and gradient passes on tensor cores: float32, one output, input dimension up to 64 (48 for
 * pairs), compute capability 8.0 and later.
 *
 * The same passes as forward.cu and gradient.cu with their matrix products as three TensorFloat-32 products each
 * (mma_tf32.cuh): 9 d tensor slots in place of 3 d FP32 slots a step. A block of four warps takes 128 samples x TN
 * neurons, a warp 32 samples. In the gradient a warp multiplies the G of its own samples, so G passes through shared
 * memory within the warp; the four warps' sums meet at the end, in order. Rows in shared memory are padded so that the
 * eight rows and four columns that a fragment's load touches fall into different banks.
 *
 * SPDX-License-Identifier: MIT
 */
#include "elements.cuh"
#include "kernels.cuh"
#include "mma_tf32.cuh"

namespace {

constexpr int THREADS = 128, WARPS = THREADS / 32, TS = 128, ROWS = 4; /* ROWS: samples of a thread */

template <int LAYOUT>
struct shape {
  static constexpr int matrices = LAYOUT == SNTK_LAYOUT_PLAIN ? 1 : LAYOUT == SNTK_LAYOUT_DISPLACED ? 2 : 3;
  static constexpr int halves = LAYOUT == SNTK_LAYOUT_PAIRED ? 2 : 1;
  static constexpr int NT = LAYOUT == SNTK_LAYOUT_PLAIN ? 8 : 4; /* tiles of 8 columns */
  static constexpr int TN = 8 * NT, w_ld = TN + 8, COLS = TN * halves, g_ld = COLS + 8;
};

/* Padded row of dp inputs: 8 more than a multiple of 16. */
__host__ __device__ constexpr int x_ld(int dp) { return dp + 8; }

struct tensor_arguments {
  const void *x, *w[3], *coefficients;
  const int8_t *signs;
  int64_t ld, ld_signs, count, samples;
  int dim, ld_x, dp;
  /* forward */
  int64_t chunk;
  unsigned sample_tiles;
  const double *fixed_max;
  double *partial_rows;
  /* gradient */
  int64_t samples_per_split;
  unsigned tiles;
  int width; /* reals of a sample's coefficients: r first, exponent shift and c last */
  gradient_target target;
};

/* rows x cols of global memory into shared rows of to_ld, zero beyond; an element at a time where 16 bytes do not fit.
 */
__device__ __forceinline__ void copy_padded(float *to, int to_ld, int to_rows, int to_cols, const float *from,
                                            int64_t ld, int64_t rows, int64_t cols) {
  const bool aligned = (reinterpret_cast<uintptr_t>(from) | static_cast<uintptr_t>(ld * 4)) % 16 == 0;
  const int vectors = to_cols / 4, step_row = THREADS / vectors, step_col = THREADS % vectors * 4;
  int row = static_cast<int>(threadIdx.x) / vectors, col = static_cast<int>(threadIdx.x) % vectors * 4;
#pragma unroll 1
  for (; row < to_rows; row += step_row) {
    float *target = to + row * to_ld + col;
    if (aligned && row < rows && col + 4 <= cols) {
      __pipeline_memcpy_async(target, from + row * ld + col, 16);
    } else {
#pragma unroll 1
      for (int e = 0; e < 4; e++) {
        if (row < rows && col + e < cols)
          __pipeline_memcpy_async(target + e, from + row * ld + col + e, 4);
        else
          target[e] = 0.0f;
      }
    }
    col += step_col;
    if (col >= to_cols) {
      col -= to_cols;
      row++;
    }
  }
}

/* Logits of this warp's 32 samples: acc[2][NT][4] += X W, x the warp's first row. */
template <int NT>
__device__ __forceinline__ void logits(const float *x, int ld_x, const float *w, int ld_w, int dp,
                                       float acc[2][NT][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int m = 0; m < 2; m++)
#pragma unroll
    for (int n = 0; n < NT; n++)
#pragma unroll
      for (int e = 0; e < 4; e++) acc[m][n][e] = 0.0f;
#pragma unroll 1
  for (int k = 0; k < dp; k += 8) {
    float a_hi[2][4], a_lo[2][4];
#pragma unroll
    for (int m = 0; m < 2; m++) {
      const float *row = x + (16 * m + g) * ld_x + k + t;
      const float a[4] = {row[0], row[8 * ld_x], row[4], row[8 * ld_x + 4]};
      split_tf32<4>(a, a_hi[m], a_lo[m]);
    }
#pragma unroll
    for (int n = 0; n < NT; n++) {
      const float b[2] = {w[(k + t) * ld_w + 8 * n + g], w[(k + t + 4) * ld_w + 8 * n + g]};
      float b_hi[2], b_lo[2];
      split_tf32<2>(b, b_hi, b_lo);
#pragma unroll
      for (int m = 0; m < 2; m++) mma_3xtf32(acc[m][n], a_hi[m], a_lo[m], b_hi, b_lo);
    }
  }
}

/* Row i (0 .. 3) of this thread within the warp, column of element e of tile n. */
__device__ __forceinline__ int row_of(int i) {
  return 16 * (i / 2) + 8 * (i % 2) + static_cast<int>(threadIdx.x) % 32 / 4;
}
__device__ __forceinline__ int column_of(int n, int e) { return 8 * n + 2 * (static_cast<int>(threadIdx.x) % 4) + e; }

template <int LAYOUT, int ACT>
__global__ void __launch_bounds__(THREADS, 2) forward_kernel(tensor_arguments a) {
  typedef shape<LAYOUT> S;
  constexpr int NT = S::NT, TN = S::TN, M = S::matrices;
  constexpr bool RUNNING_MAX = LAYOUT == SNTK_LAYOUT_PLAIN && ACT == SNTK_SOFTMAX;
  SNTK_DYNAMIC_SHARED(float, shared);
  const int thread = threadIdx.x, dp = a.dp, ld = x_ld(dp);
  const int64_t chunk_index = blockIdx.x / a.sample_tiles,
                sample0 = static_cast<int64_t>(blockIdx.x % a.sample_tiles) * TS;
  const int64_t chunk0 = chunk_index * a.chunk, chunk1 = chunk0 + a.chunk < a.count ? chunk0 + a.chunk : a.count;
  const int weight_tile = M * dp * S::w_ld;
  float *xs = shared;               /* TS x ld */
  float *ws = xs + TS * ld;         /* 2 x M x dp x w_ld */
  float *ss = ws + 2 * weight_tile; /* 2 x TN signs */
  const int64_t rows = a.samples - sample0 < TS ? a.samples - sample0 : TS;
  copy_padded(xs, ld, TS, dp, static_cast<const float *>(a.x) + sample0 * a.ld_x, a.ld_x, rows, a.ld_x);
  auto load_tile = [&](int stage, int64_t column) {
#pragma unroll
    for (int w = 0; w < M; w++)
      copy_padded(ws + stage * weight_tile + w * dp * S::w_ld, S::w_ld, dp, TN,
                  static_cast<const float *>(a.w[w]) + column, a.ld, a.dim, chunk1 - column);
    __pipeline_commit();
    for (int j = thread; j < TN; j += THREADS)
      ss[stage * TN + j] = column + j < chunk1 ? static_cast<float>(a.signs[column + j]) : 0.0f;
  };
  const int warp_row = thread / 32 * 32;
  float max[ROWS], sum[ROWS], t[ROWS], widest[ROWS];
#pragma unroll
  for (int i = 0; i < ROWS; i++) {
    const int64_t row = sample0 + warp_row + row_of(i);
    max[i] = RUNNING_MAX ? lowest<float>()
             : LAYOUT != SNTK_LAYOUT_PLAIN && ACT == SNTK_SOFTMAX && row < a.samples
                 ? static_cast<float>(a.fixed_max[row])
                 : 0.0f;
    sum[i] = t[i] = widest[i] = 0.0f;
  }
  float check = 0.0f; /* as in forward.cu */
  load_tile(0, chunk0);
  int stage = 0;
  for (int64_t column = chunk0; column < chunk1; column += TN) {
    if (column + TN < chunk1) {
      load_tile(1 - stage, column + TN);
      __pipeline_wait_prior(1);
    } else {
      __pipeline_wait_prior(0);
    }
    __syncthreads();
    if (sample0 == 0) check = add_sizes<THREADS>(ws + stage * weight_tile, S::w_ld, M * dp, TN, check);
    float acc[M][2][NT][4];
#pragma unroll
    for (int w = 0; w < M; w++)
      logits<NT>(xs + warp_row * ld, ld, ws + stage * weight_tile + w * dp * S::w_ld, S::w_ld, dp, acc[w]);
    const float *signs = ss + stage * TN;
    if (column + TN > chunk1) { /* columns beyond the end: a logit of -inf adds nothing to any network */
#pragma unroll
      for (int n = 0; n < NT; n++)
#pragma unroll
        for (int e = 0; e < 2; e++)
          if (column + column_of(n, e) >= chunk1)
#pragma unroll
            for (int i = 0; i < ROWS; i++) acc[0][i / 2][n][2 * (i % 2) + e] = -INFINITY;
    }
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
      if (RUNNING_MAX) {
        float top = acc[0][i / 2][0][2 * (i % 2)];
#pragma unroll
        for (int n = 0; n < NT; n++)
#pragma unroll
          for (int e = 0; e < 2; e++) top = larger(top, acc[0][i / 2][n][2 * (i % 2) + e]);
        if (top > max[i]) {
          const float scale = exp_minus(max[i], exp_shift(top));
          sum[i] *= scale;
          t[i] *= scale;
          max[i] = top;
        }
      }
      const float shift = ACT == SNTK_SOFTMAX ? exp_shift(max[i]) : 0.0f;
#pragma unroll
      for (int n = 0; n < NT; n++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
          float z[M], phi, part;
#pragma unroll
          for (int w = 0; w < M; w++) z[w] = acc[w][i / 2][n][2 * (i % 2) + e];
          contribution<float, LAYOUT, ACT>(z, shift, &phi, &part);
          if (ACT == SNTK_SOFTMAX) sum[i] += part;
          t[i] = fmaf(signs[column_of(n, e)], phi, t[i]);
#pragma unroll
          for (int w = 1; w < M; w++) widest[i] = larger(widest[i], fabsf(z[w]));
        }
    }
    __syncthreads();
    stage = 1 - stage;
  }
  if (chunk_index == 0) check = add_sizes<THREADS>(xs, ld, TS, dp, check);
  const double least = sample0 == 0 || chunk_index == 0 ? least_shift(check) : 0.0;
  double *out = a.partial_rows + (chunk_index * a.samples + sample0) * 4;
#pragma unroll
  for (int i = 0; i < ROWS; i++) {
    if (RUNNING_MAX) {
      const float top = lanes_max<4>(max[i]), scale = exp_minus(max[i], exp_shift(top));
      sum[i] *= scale;
      t[i] *= scale;
      max[i] = top;
    }
    const float whole = lanes_sum<4>(sum[i]), signed_sum = lanes_sum<4>(t[i]), shift = lanes_max<4>(widest[i]);
    const int row = warp_row + row_of(i);
    if (thread % 4 == 0 && row < rows) {
      out[row * 4 + 0] = max[i];
      out[row * 4 + 1] = whole;
      out[row * 4 + 2] = shift > least ? shift : least;
      out[row * 4 + 3] = signed_sum;
    }
  }
}

/* MT: tiles of 16 input dimensions. */
template <int LAYOUT, int ACT, int MT>
__global__ void __launch_bounds__(THREADS, 2) gradient_kernel(tensor_arguments a) {
  typedef shape<LAYOUT> S;
  constexpr int NT = S::NT, TN = S::TN, M = S::matrices, CT = S::COLS / 8, dp = 16 * MT, ld = x_ld(dp);
  SNTK_DYNAMIC_SHARED(float, shared);
  const int thread = threadIdx.x, lane = thread % 32, g = lane / 4, t = lane % 4, warp_row = thread / 32 * 32;
  const int64_t column0 = static_cast<int64_t>(blockIdx.x % a.tiles) * TN, split = blockIdx.x / a.tiles;
  const int64_t first = split * a.samples_per_split,
                last = first + a.samples_per_split < a.samples ? first + a.samples_per_split : a.samples;
  float *gs = shared;                /* TS x g_ld: G of a tile of samples; at the end the gradient, dp x g_ld */
  float *ws = gs + TS * S::g_ld;     /* M x dp x w_ld */
  float *ss = ws + M * dp * S::w_ld; /* TN signs */
  float *xs = ss + TN;               /* 2 x TS x ld */
  float *cs = xs + 2 * TS * ld;      /* 2 x TS x 4: r, 0, exponent shift, c */
#pragma unroll
  for (int w = 0; w < M; w++)
    copy_padded(ws + w * dp * S::w_ld, S::w_ld, dp, TN, static_cast<const float *>(a.w[w]) + column0, a.ld, a.dim,
                a.count - column0);
  for (int j = thread; j < TN; j += THREADS)
    ss[j] = column0 + j < a.count ? static_cast<float>(a.signs[column0 + j]) : 0.0f;
  auto load_tile = [&](int stage, int64_t sample) {
    copy_padded(xs + stage * TS * ld, ld, TS, dp, static_cast<const float *>(a.x) + sample * a.ld_x, a.ld_x,
                last - sample, a.ld_x);
    /* rows beyond the end get coefficients 0, so their G is 0 */
    copy_padded(cs + stage * TS * 4, 4, TS, 4, static_cast<const float *>(a.coefficients) + sample * 4, 4,
                last - sample, 4);
    __pipeline_commit();
  };
  float acc2[MT][CT][4];
#pragma unroll
  for (int m = 0; m < MT; m++)
#pragma unroll
    for (int n = 0; n < CT; n++)
#pragma unroll
      for (int e = 0; e < 4; e++) acc2[m][n][e] = 0.0f;
  load_tile(0, first);
  int stage = 0;
  for (int64_t sample = first; sample < last; sample += TS) {
    if (sample + TS < last) {
      load_tile(1 - stage, sample + TS);
      __pipeline_wait_prior(1);
    } else {
      __pipeline_wait_prior(0);
    }
    __syncthreads();
    const float *x = xs + stage * TS * ld + warp_row * ld, *c = cs + stage * TS * 4 + warp_row * 4;
    float *own = gs + warp_row * S::g_ld;
    {
      float acc[M][2][NT][4];
#pragma unroll
      for (int w = 0; w < M; w++) logits<NT>(x, ld, ws + w * dp * S::w_ld, S::w_ld, dp, acc[w]);
#pragma unroll
      for (int i = 0; i < ROWS; i++) {
        const int row = row_of(i);
        const float r = c[row * 4], shift = c[row * 4 + 2], minus_c = -c[row * 4 + 3];
#pragma unroll
        for (int n = 0; n < NT; n++)
#pragma unroll
          for (int e = 0; e < 2; e++) {
            const int j = column_of(n, e), at = 2 * (i % 2) + e;
            const float pull = ss[j] * r, z = acc[0][i / 2][n][at];
            if (LAYOUT == SNTK_LAYOUT_PLAIN) {
              own[row * S::g_ld + j] = slope_of<float, ACT>(z, shift) * (pull + minus_c);
            } else {
              own[row * S::g_ld + j] =
                  slope_of<float, ACT>(z + acc[M > 1 ? 1 : 0][i / 2][n][at], shift) * (pull + minus_c);
              if (LAYOUT == SNTK_LAYOUT_PAIRED)
                own[row * S::g_ld + TN + j] =
                    slope_of<float, ACT>(z + acc[M - 1][i / 2][n][at], shift) * (minus_c - pull);
            }
          }
      }
    }
    __syncwarp(); /* a warp reads the G of its own samples only */
#pragma unroll 1
    for (int i = 0; i < 32; i += 8) {
      float a_hi[MT][4], a_lo[MT][4];
#pragma unroll
      for (int m = 0; m < MT; m++) {
        const float *col = x + (i + t) * ld + 16 * m + g;
        const float v[4] = {col[0], col[8], col[4 * ld], col[4 * ld + 8]};
        split_tf32<4>(v, a_hi[m], a_lo[m]);
      }
#pragma unroll
      for (int n = 0; n < CT; n++) {
        const float b[2] = {own[(i + t) * S::g_ld + 8 * n + g], own[(i + t + 4) * S::g_ld + 8 * n + g]};
        float b_hi[2], b_lo[2];
        split_tf32<2>(b, b_hi, b_lo);
#pragma unroll
        for (int m = 0; m < MT; m++) mma_3xtf32(acc2[m][n], a_hi[m], a_lo[m], b_hi, b_lo);
      }
    }
    __syncthreads(); /* the stage is written again next */
    stage = 1 - stage;
  }
  /* the warps meet, in order */
  for (int w = 0; w < WARPS; w++) {
    if (thread / 32 == w)
#pragma unroll
      for (int m = 0; m < MT; m++)
#pragma unroll
        for (int n = 0; n < CT; n++)
#pragma unroll
          for (int e = 0; e < 4; e++) {
            float *cell = gs + (16 * m + 8 * (e / 2) + g) * S::g_ld + 8 * n + 2 * t + e % 2;
            *cell = w == 0 ? acc2[m][n][e] : *cell + acc2[m][n][e];
          }
    __syncthreads();
  }
  store_gradient<float, THREADS>(a.target, gs, S::g_ld, TN, S::halves, column0, split, reinterpret_cast<double *>(ws));
}

template <int LAYOUT>
int forward_bytes(int dp) {
  typedef shape<LAYOUT> S;
  return static_cast<int>(sizeof(float)) * (TS * x_ld(dp) + 2 * S::matrices * dp * S::w_ld + 2 * S::TN);
}

template <int LAYOUT>
int gradient_bytes(int dp) {
  typedef shape<LAYOUT> S;
  return static_cast<int>(sizeof(float)) *
         (TS * S::g_ld + S::matrices * dp * S::w_ld + S::TN + 2 * TS * x_ld(dp) + 2 * TS * 4);
}

cudaError_t start(void (*kernel)(tensor_arguments), cudaStream_t stream, int64_t blocks, int shared_bytes,
                  const tensor_arguments &a) {
  const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
  if (error != cudaSuccess) return error;
  return launch(kernel, dim3(static_cast<unsigned>(blocks)), dim3(THREADS), static_cast<size_t>(shared_bytes), stream,
                a);
}

template <int LAYOUT>
cudaError_t forward_by_activation(cudaStream_t stream, sntk_activation activation, int64_t blocks, int shared_bytes,
                                  const tensor_arguments &a) {
  switch (activation) {
    case SNTK_SOFTMAX:
      return start(forward_kernel<LAYOUT, SNTK_SOFTMAX>, stream, blocks, shared_bytes, a);
    case SNTK_RELU:
      return start(forward_kernel<LAYOUT, SNTK_RELU>, stream, blocks, shared_bytes, a);
    default:
      return start(forward_kernel<LAYOUT, SNTK_EXP>, stream, blocks, shared_bytes, a);
  }
}

/* Beyond this the gradient's accumulators and those of a pair's three logits do not fit the registers. */
template <int LAYOUT>
constexpr int most_inputs() {
  return LAYOUT == SNTK_LAYOUT_PAIRED ? 48 : 64;
}

template <int LAYOUT, int ACT>
cudaError_t gradient_by_dim(cudaStream_t stream, int64_t blocks, int shared_bytes, const tensor_arguments &a) {
  switch (a.dp / 16) {
    case 1:
      return start(gradient_kernel<LAYOUT, ACT, 1>, stream, blocks, shared_bytes, a);
    case 2:
      return start(gradient_kernel<LAYOUT, ACT, 2>, stream, blocks, shared_bytes, a);
    case 3:
      return start(gradient_kernel<LAYOUT, ACT, 3>, stream, blocks, shared_bytes, a);
    default:
      return start(gradient_kernel<LAYOUT, ACT, most_inputs<LAYOUT>() / 16>, stream, blocks, shared_bytes, a);
  }
}

template <int LAYOUT>
cudaError_t gradient_by_activation(cudaStream_t stream, sntk_activation activation, int64_t blocks, int shared_bytes,
                                   const tensor_arguments &a) {
  switch (activation) {
    case SNTK_SOFTMAX:
      return gradient_by_dim<LAYOUT, SNTK_SOFTMAX>(stream, blocks, shared_bytes, a);
    case SNTK_RELU:
      return gradient_by_dim<LAYOUT, SNTK_RELU>(stream, blocks, shared_bytes, a);
    default:
      return gradient_by_dim<LAYOUT, SNTK_EXP>(stream, blocks, shared_bytes, a);
  }
}

tensor_arguments common(const sntk_neurons &v, const void *x, int64_t ld_x, int64_t samples, int dp) {
  tensor_arguments a = {};
  a.x = x;
  a.w[0] = v.base;
  a.w[1] = v.shift[0];
  a.w[2] = v.shift[1];
  a.signs = v.signs;
  a.ld = v.ld;
  a.ld_signs = v.ld_signs;
  a.count = v.count;
  a.samples = samples;
  a.dim = static_cast<int>(v.dim);
  a.ld_x = static_cast<int>(ld_x);
  a.dp = dp;
  return a;
}

}  // namespace

bool tensor_takes(const device_limits &limits, const sntk_neurons &v) {
  const int most =
      v.layout == SNTK_LAYOUT_PAIRED ? most_inputs<SNTK_LAYOUT_PAIRED>() : most_inputs<SNTK_LAYOUT_PLAIN>();
  return limits.tensor_cores && v.type == SNTK_F32 && v.outputs == 1 && v.dim <= most;
}

int tensor_tile_columns(const sntk_neurons &v) {
  return v.layout == SNTK_LAYOUT_PLAIN ? shape<SNTK_LAYOUT_PLAIN>::TN : shape<SNTK_LAYOUT_PAIRED>::TN;
}

int tensor_shared_bytes(const sntk_neurons &v, bool gradient) {
  const int dp = static_cast<int>((v.dim + 15) / 16 * 16);
  switch (v.layout) {
    case SNTK_LAYOUT_PLAIN:
      return gradient ? gradient_bytes<SNTK_LAYOUT_PLAIN>(dp) : forward_bytes<SNTK_LAYOUT_PLAIN>(dp);
    case SNTK_LAYOUT_DISPLACED:
      return gradient ? gradient_bytes<SNTK_LAYOUT_DISPLACED>(dp) : forward_bytes<SNTK_LAYOUT_DISPLACED>(dp);
    default:
      return gradient ? gradient_bytes<SNTK_LAYOUT_PAIRED>(dp) : forward_bytes<SNTK_LAYOUT_PAIRED>(dp);
  }
}

cudaError_t launch_tensor_forward(cudaStream_t stream, const forward_plan &plan, const sntk_neurons &v, const void *x,
                                  int64_t ld_x, int64_t samples, const double *fixed_max, double *partial) {
  tensor_arguments a = common(v, x, ld_x, samples, plan.dp);
  a.chunk = plan.chunk;
  a.sample_tiles = static_cast<unsigned>((samples + TS - 1) / TS);
  a.fixed_max = fixed_max;
  a.partial_rows = partial;
  const int64_t blocks = plan.chunks * a.sample_tiles;
  switch (v.layout) {
    case SNTK_LAYOUT_PLAIN:
      return forward_by_activation<SNTK_LAYOUT_PLAIN>(stream, v.activation, blocks, plan.shared_bytes, a);
    case SNTK_LAYOUT_DISPLACED:
      return forward_by_activation<SNTK_LAYOUT_DISPLACED>(stream, v.activation, blocks, plan.shared_bytes, a);
    default:
      return forward_by_activation<SNTK_LAYOUT_PAIRED>(stream, v.activation, blocks, plan.shared_bytes, a);
  }
}

cudaError_t launch_tensor_gradient(cudaStream_t stream, const gradient_plan &plan, const sntk_neurons &v, const void *x,
                                   int64_t ld_x, int64_t samples, const void *coefficients,
                                   const gradient_target &target) {
  tensor_arguments a = common(v, x, ld_x, samples, plan.dp);
  a.coefficients = coefficients;
  a.samples_per_split = plan.samples_per_split;
  a.tiles = static_cast<unsigned>(plan.tiles);
  a.target = target;
  const int64_t blocks = plan.tiles * plan.splits;
  switch (v.layout) {
    case SNTK_LAYOUT_PLAIN:
      return gradient_by_activation<SNTK_LAYOUT_PLAIN>(stream, v.activation, blocks, plan.shared_bytes, a);
    case SNTK_LAYOUT_DISPLACED:
      return gradient_by_activation<SNTK_LAYOUT_DISPLACED>(stream, v.activation, blocks, plan.shared_bytes, a);
    default:
      return gradient_by_activation<SNTK_LAYOUT_PAIRED>(stream, v.activation, blocks, plan.shared_bytes, a);
  }
}
