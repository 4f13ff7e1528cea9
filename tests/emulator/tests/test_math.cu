/**
 * @file test_math.cu
 * @brief Intrinsics: exact ones exactly, approximate ones within their documented bounds and, perturbed, not exact.
 *
 * SPDX-License-Identifier: MIT
 */
#include <cfloat>
#include <cmath>
#include <functional>
#include <limits>

#include "check.h"
#include "kernels.h"

enum Function { EX2, EXP_FAST, LOG_FAST, LOG2_FAST, SIN_FAST, COS_FAST, DIVIDE, RSQRT, EXP, EXP2, EXPM1, LOG, TANH };

static __global__ void evaluate(int function, const float *x, float *y, int n) {
  const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= n) return;
  const float v = x[i];
  float r = 0.0f;
  switch (function) {
    case EX2:
      r = emu_ex2_approx(v);
      break;
    case EXP_FAST:
      r = __expf(v);
      break;
    case LOG_FAST:
      r = __logf(v);
      break;
    case LOG2_FAST:
      r = __log2f(v);
      break;
    case SIN_FAST:
      r = __sinf(v);
      break;
    case COS_FAST:
      r = __cosf(v);
      break;
    case DIVIDE:
      r = __fdividef(1.0f, v);
      break;
    case RSQRT:
      r = rsqrtf(v);
      break;
    case EXP:
      r = expf(v);
      break;
    case EXP2:
      r = exp2f(v);
      break;
    case EXPM1:
      r = expm1f(v);
      break;
    case LOG:
      r = logf(v);
      break;
    case TANH:
      r = tanhf(v);
      break;
  }
  y[i] = r;
}

static double ulp(double value) {
  return std::fabs(value) < FLT_MIN ? 0x1p-149 : std::scalbn(1.0, std::ilogb(std::fabs(value)) - 23);
}

/* Compare with the double function; `bound(x)` is the permitted error in ulp, `absolute` permitted whatever the ulp. */
static void test_function(const char *name, Function function, double low, double high,
                          const std::function<double(double)> &exact, const std::function<double(double)> &bound,
                          double absolute) {
  const int n = 4096;
  std::vector<float> x(n);
  for (int i = 0; i < n; ++i) x[(size_t)i] = (float)(low + (high - low) * (i + 0.37) / n);
  float *dx = device_copy(x), *dy;
  require_success(cudaMalloc(&dy, n * sizeof(float)));
  require_success(launch(evaluate, n / 256, 256, 0, nullptr, (int)function, dx, dy, n));
  const std::vector<float> y = host_copy(dy, n);
  double worst = 0;
  int inexact = 0;
  for (int i = 0; i < n; ++i) {
    const double want = exact((double)x[(size_t)i]), error = std::fabs((double)y[(size_t)i] - want);
    const double permitted = std::fmax(bound((double)x[(size_t)i]) * ulp(want), absolute);
    if (std::fabs(want) < FLT_MIN) continue; /* flushed or not: tested below */
    worst = std::fmax(worst, error / permitted);
    inexact += y[(size_t)i] != (float)want;
  }
  const char *seed = getenv("EMU_APPROX_SEED");
  const bool perturbed = seed && *seed && strcmp(seed, "0") != 0;
  char line[160];
  snprintf(line, sizeof line, "%s: error %.3f of the bound, %d of %d not correctly rounded", name, worst, inexact, n);
  CHECK_NAMED(worst <= 1.0 && (perturbed ? worst > 0.6 && inexact > n / 10 : inexact == 0), line);
  cudaFree(dx);
  cudaFree(dy);
}

static void test_bounds() {
  const auto constant = [](double units) { return [units](double) { return units; }; };
  const auto fast_exp_bound = [](double x) { return 2.0 + std::floor(std::fabs(1.173 * x)); };
  const auto sine = [](double x) { return std::sin(x); };
  const auto cosine = [](double x) { return std::cos(x); };
  test_function(
      "ex2.approx", EX2, -140, 127, [](double x) { return std::exp2(x); }, constant(2), 0);
  test_function(
      "__expf", EXP_FAST, -90, 88, [](double x) { return std::exp(x); }, fast_exp_bound, 0);
  test_function(
      "__logf near 1", LOG_FAST, 0.5, 2, [](double x) { return std::log(x); }, constant(0.5), std::exp2(-21.41));
  test_function(
      "__logf", LOG_FAST, 2.01, 1e6, [](double x) { return std::log(x); }, constant(3), 0);
  test_function(
      "__log2f", LOG2_FAST, 2.01, 1e6, [](double x) { return std::log2(x); }, constant(2), 0);
  test_function("__sinf", SIN_FAST, -3.14, 3.14, sine, constant(0.5), std::exp2(-21.41));
  test_function("__cosf", COS_FAST, -3.14, 3.14, cosine, constant(0.5), std::exp2(-21.19));
  test_function(
      "__fdividef", DIVIDE, 0.01, 1e5, [](double x) { return 1 / x; }, constant(2), 0);
  test_function(
      "rsqrtf", RSQRT, 1e-3, 1e5, [](double x) { return 1 / std::sqrt(x); }, constant(2), 0);
  test_function(
      "expf", EXP, -87, 88, [](double x) { return std::exp(x); }, constant(2), 0);
  test_function(
      "exp2f", EXP2, -125, 127, [](double x) { return std::exp2(x); }, constant(2), 0);
  test_function(
      "expm1f", EXPM1, -3, 60, [](double x) { return std::expm1(x); }, constant(1), 0);
  test_function(
      "logf", LOG, 0.001, 1e6, [](double x) { return std::log(x); }, constant(1), 0);
  test_function(
      "tanhf", TANH, -4, 4, [](double x) { return std::tanh(x); }, constant(2), 0);
}

/* Each check is a bit of the result. */
static __global__ void exact_ones(unsigned long long *failed) {
  unsigned long long f = 0;
  int bit = 0;
  const float inf = __uint_as_float(0x7f800000u);
  const auto expect = [&](bool ok) { f |= (unsigned long long)!ok << bit++; };
  expect(emu_ex2_approx(-inf) == 0.0f && emu_ex2_approx(inf) == inf);
  expect(emu_ex2_approx(__uint_as_float(0x7fc00000u)) != emu_ex2_approx(__uint_as_float(0x7fc00000u)));
  expect(emu_ex2_approx(-130.0f) == 0.0f && emu_ex2_approx(-130.0f, true) > 0.0f);
  expect(emu_ex2_approx(-200.0f, true) == 0.0f && emu_ex2_approx(128.5f) == inf);
  expect(__expf(-inf) == 0.0f && __expf(inf) == inf && __logf(0.0f) == -inf);
  expect(__fdividef(3.0f, 0x1.8p126f) == 0.0f);
  expect(emu_ex2_approx(0.0f) == 1.0f && emu_ex2_approx(-0x1p-140f) == 1.0f && __expf(-0.0f) == 1.0f &&
         expf(0.0f) == 1.0f);
  expect(__fmaf_rn(0x1.000002p0f, 0x1.fffffcp-1f, -1.0f) == -0x1p-46f);
  expect(__fadd_rn(1.0f, 0x1p-25f) == 1.0f && __fmul_rn(3.0f, 0.5f) == 1.5f && __fsub_rn(1.0f, 3.0f) == -2.0f);
  expect(__fsqrt_rn(2.0f) == 0x1.6a09e6p0f && __fdiv_rn(1.0f, 3.0f) == 0x1.555556p-2f && __frcp_rn(4.0f) == 0.25f);
  expect(__fma_rn(0x1.0000000000001p0, 0x1.ffffffffffffep-1, -1.0) == -0x1p-104);
  expect(__dadd_rn(0.1, 0.2) == 0.30000000000000004 && __dmul_rn(3.0, 0.5) == 1.5);
  expect(__uint2float_rn(0xffffffffu) == 0x1p32f && __int2float_rn(-16777217) == -16777216.0f);
  expect(__float_as_uint(1.0f) == 0x3f800000u && __uint_as_float(0x40000000u) == 2.0f);
  expect(__float_as_int(-0.0f) == (int)0x80000000 && __int_as_float(0x3f800000) == 1.0f);
  expect(__double_as_longlong(1.0) == 0x3ff0000000000000LL && __longlong_as_double(0x4000000000000000LL) == 2.0);
  expect(__hiloint2double(__double2hiint(-3.25), __double2loint(-3.25)) == -3.25);
  expect(__clz(0) == 32 && __clz(1) == 31 && __clz(-1) == 0 && __clzll(1LL << 40) == 23);
  expect(__popc(0xf0f0u) == 8 && __popcll(~0ULL) == 64 && __ffs(0) == 0 && __ffs(8) == 4 && __brev(1u) == 0x80000000u);
  expect(__funnelshift_r(0x89abcdefu, 0x01234567u, 8) == 0x6789abcdu);
  expect(__funnelshift_r(1u, 2u, 32) == 1u && __funnelshift_rc(1u, 2u, 32) == 2u);
  expect(__funnelshift_l(0x89abcdefu, 0x01234567u, 8) == 0x23456789u && __funnelshift_lc(1u, 2u, 40) == 1u);
  expect(__umulhi(0x80000000u, 6u) == 3u && __mulhi(-2, 1) == -1 && __umul64hi(1ULL << 63, 6ULL) == 3ULL);
  expect(min(3, -4) == -4 && max(3u, 4u) == 4u && min(-1, 5u) == 5u && max(1.0f, 2.0f) == 2.0f && min(1.0, 2.0) == 1.0);
  expect(max(__uint_as_float(0x7fc00000u), 2.0f) == 2.0f);
  expect(__float2int_rz(-1.7f) == -1 && __float2int_rn(2.5f) == 2 && __float2int_rn(1e20f) == 0x7fffffff);
  expect(__float2int_rz(__uint_as_float(0x7fc00000u)) == 0 && __float2uint_rz(-3.0f) == 0u &&
         __float2int_rd(-0.5f) == -1);
  expect(__saturatef(-1.0f) == 0.0f && __saturatef(0.25f) == 0.25f && __saturatef(7.0f) == 1.0f);
  expect(make_float4(1, 2, 3, 4).w == 4.0f && make_uint4(1, 2, 3, 4).z == 3u && make_double2(1, 2).y == 2.0);
  expect(alignof(float4) == 16 && alignof(float2) == 8 && alignof(double2) == 16 && sizeof(float3) == 12);
  expect(warpSize == 32 && make_int4(1, 2, 3, 4).x == 1);
  *failed = f;
}

static void test_exact() {
  unsigned long long *d;
  require_success(cudaMalloc(&d, sizeof *d));
  require_success(launch(exact_ones, 1, 1, 0, nullptr, d));
  const unsigned long long failed = host_copy(d, 1)[0];
  char line[80];
  snprintf(line, sizeof line, "exact intrinsics (failed bits: 0x%llx)", failed);
  CHECK_NAMED(failed == 0, line);
  cudaFree(d);
}

/* On the host the same names are the host's functions. */
static void test_host_side() {
  bool same = true;
  for (int i = 0; i < 100; ++i) {
    const float x = 0.37f * (float)i - 20.0f;
    same = same && expf(x) == (::expf)(x) && expm1f(x) == (::expm1f)(x);
  }
  CHECK_NAMED(same, "outside kernels expf is the host's");
}

int main() {
  test_bounds();
  test_exact();
  test_host_side();
  return check_summary();
}
