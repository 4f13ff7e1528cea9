/**
 * @file approx.cpp
 * @brief Device functions that are not correctly rounded: any value within the documented bound (emu/math.h).
 *
 * The exact value comes from the host's double function (relative error below 2^-50, nothing beside a float's 2^-24).
 * With EMU_APPROX_SEED it is moved by a hash of seed, function and argument: uniformly within the bound less the half
 * unit that rounding may add.
 *
 * SPDX-License-Identifier: MIT
 */
#define EMU_HOST_MATH
#include <cfloat>
#include <cmath>
#include <cstring>

#include "emu/kernel.h"
#include "emu/math.h"
#include "settings.h"

namespace emu {

enum class Function : uint64_t {
  ex2,
  exp,
  log,
  log2,
  sin,
  cos,
  div,
  rsqrt,
  expf,
  exp2f,
  expm1f,
  logf,
  log2f,
  log1pf,
  sinf,
  cosf,
  tanhf,
  erff,
  powf
};

/* Uniform in [-1, 1]. */
static double hash(Function function, float x, float y) {
  uint64_t state = random_state(settings().approx_seed * 64 + (uint64_t)function + 1);
  state ^= (uint64_t)bit_cast<uint32_t>(x) << 32 | bit_cast<uint32_t>(y);
  state = random_state(state);
  return (double)(int64_t)random_step(state) * 0x1p-63;
}

/* One unit in the last place of the float nearest to the value. */
static double ulp(double value) {
  const double size = std::fabs(value);
  return size < FLT_MIN ? 0x1p-149 : std::scalbn(1.0, std::ilogb(size) - 23);
}

/* A float within `units` ulp plus `absolute` of the exact value. */
static float within(Function function, double exact, double units, double absolute, float x, float y = 0.0f) {
  /* The values at 0 are documented and exact, 2^0 = 1 among them (also of a subnormal argument: PTX, ex2). */
  const bool special = exact == 0.0 || !std::isfinite(exact) || std::fabs(exact) > FLT_MAX || std::fabs(x) < FLT_MIN;
  if (settings().approx_seed == 0 || special) return (float)exact;
  const double unit = ulp(exact);
  const double reach = std::fmax((units - 0.5) * unit, absolute - 0.5 * unit);
  return (float)(exact + hash(function, x, y) * std::fmax(reach, 0.0));
}

static float flush(float value) { return std::fabs(value) < FLT_MIN ? std::copysign(0.0f, value) : value; }

/* Host code in a kernel's file means the host's function. */
#define DEVICE(name, function, exact, host, units)                                                                     \
  float name(float x) { return thread ? within(Function::function, exact, units, 0.0, x) : host(x); }
DEVICE(device_expf, expf, std::exp((double)x), ::expf, 2.0)
DEVICE(device_exp2f, exp2f, std::exp2((double)x), ::exp2f, 2.0)
DEVICE(device_expm1f, expm1f, std::expm1((double)x), ::expm1f, 1.0)
DEVICE(device_logf, logf, std::log((double)x), ::logf, 1.0)
DEVICE(device_log2f, log2f, std::log2((double)x), ::log2f, 1.0)
DEVICE(device_log1pf, log1pf, std::log1p((double)x), ::log1pf, 1.0)
DEVICE(device_sinf, sinf, std::sin((double)x), ::sinf, 2.0)
DEVICE(device_cosf, cosf, std::cos((double)x), ::cosf, 2.0)
DEVICE(device_tanhf, tanhf, std::tanh((double)x), ::tanhf, 2.0)
DEVICE(device_erff, erff, std::erf((double)x), ::erff, 2.0)
#undef DEVICE

float device_powf(float x, float y) {
  return thread ? within(Function::powf, std::pow((double)x, (double)y), 8.0, 0.0, x, y) : ::powf(x, y);
}

float approx_expf(float x) {
  return flush(within(Function::exp, std::exp((double)x), 2.0 + std::floor(std::fabs(1.173 * (double)x)), 0.0, x));
}
float approx_logf(float x) {
  const bool middle = x >= 0.5f && x <= 2.0f;
  return within(Function::log, std::log((double)x), middle ? 0.0 : 3.0, middle ? std::exp2(-21.41) : 0.0, x);
}
float approx_log2f(float x) {
  const bool middle = x >= 0.5f && x <= 2.0f;
  return within(Function::log2, std::log2((double)x), middle ? 0.0 : 2.0, middle ? 0x1p-22 : 0.0, x);
}
/* Beyond [-pi, pi] the error grows: no bound is documented, and it is modelled as growing with |x|. */
float approx_sinf(float x) {
  const double reach = std::exp2(-21.41) * std::fmax(1.0, std::fabs((double)x) / 3.14159265358979);
  return within(Function::sin, std::sin((double)x), 0.0, reach, x);
}
float approx_cosf(float x) {
  const double reach = std::exp2(-21.19) * std::fmax(1.0, std::fabs((double)x) / 3.14159265358979);
  return within(Function::cos, std::cos((double)x), 0.0, reach, x);
}
float approx_divf(float x, float y) {
  const float size = std::fabs(y);
  if (size > 0x1p126f && std::isfinite(size)) return std::isinf(x) ? NAN : std::copysign(0.0f, x * y);
  return within(Function::div, (double)x / (double)y, 2.0, 0.0, x, y);
}
float approx_rsqrtf(float x) { return within(Function::rsqrt, 1.0 / std::sqrt((double)x), 2.0, 0.0, x); }

}  // namespace emu

float emu_ex2_approx(float x, bool keep_subnormal) {
  const float value = emu::within(emu::Function::ex2, std::exp2((double)x), 2.0, 0.0, x);
  return keep_subnormal ? value : emu::flush(value);
}
