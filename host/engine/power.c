/**
 * @file power.c
 * @brief Power laws with intervals over seeds, censored values among them, and Student's t.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdlib.h>

#include "core/core.h"
#include "softntk/width.h"

static const double PI = 3.14159265358979323846;

/* ---- Student's t ---- */

/* P(|T| < sqrt(freedom) tan(angle)), the finite sums for whole degrees of freedom. */
static double student_within(double angle, int64_t freedom) {
  const double c = cos(angle), s = sin(angle);
  double term = freedom % 2 ? c : 1.0, sum = freedom > 1 ? term : 0.0;
  for (int64_t k = freedom % 2 ? 3 : 2; k < freedom; k += 2) {
    term *= c * c * (double)(k - 1) / (double)k;
    sum += term;
  }
  return freedom % 2 ? 2.0 / PI * (angle + s * sum) : s * sum;
}

/* P(|Z| < z) of a normal variable. */
static double normal_within(double z) { return erf(z / sqrt(2.0)); }

/* The z with P(|Z| < z) = within, by bisection to the last bit. */
static double normal_bound(double within) {
  double low = 0.0, high = 40.0;
  for (int step = 0; step < 100; step++) {
    const double middle = 0.5 * (low + high);
    if (normal_within(middle) < within)
      low = middle;
    else
      high = middle;
  }
  return high;
}

static double student_bound(double within, int64_t freedom) {
  double low = 0.0, high = 0.5 * PI;
  for (int step = 0; step < 100; step++) {
    const double middle = 0.5 * (low + high);
    if (student_within(middle, freedom) < within)
      low = middle;
    else
      high = middle;
  }
  return sqrt((double)freedom) * tan(low);
}

double sntk_student_quantile(double p, int64_t freedom) {
  enum { FINITE_SUMS_MOST = 10000 }; /* beyond it the expansion below is off by less than 1e-11 */
  if (!(p > 0.0 && p < 1.0) || freedom < 1) return NAN;
  const double within = fabs(2.0 * p - 1.0), sign = p < 0.5 ? -1.0 : 1.0;
  if (freedom <= FINITE_SUMS_MOST) return sign * student_bound(within, freedom);
  const double z = normal_bound(within), z2 = z * z, v = (double)freedom;
  return sign * z * (1.0 + (z2 + 1.0) / (4.0 * v) + ((5.0 * z2 + 16.0) * z2 + 3.0) / (96.0 * v * v));
}

/* Half the length of the interval of a mean: t s / sqrt k. NaN values are left out. */
static double half_length(const double *values, int64_t count, double *mean, int64_t *used) {
  double sum = 0.0, square = 0.0;
  *used = 0;
  for (int64_t j = 0; j < count; j++)
    if (!isnan(values[j])) sum += values[j], (*used)++;
  *mean = *used ? sum / (double)*used : NAN;
  for (int64_t j = 0; j < count; j++)
    if (!isnan(values[j])) square += (values[j] - *mean) * (values[j] - *mean);
  if (*used < 2) return NAN;
  return sntk_student_quantile(0.975, *used - 1) * sqrt(square / (double)(*used - 1) / (double)*used);
}

sntk_interval sntk_mean_interval(const double *values, int64_t count) {
  sntk_interval result;
  const double half = half_length(values, values ? count : 0, &result.mean, &result.count);
  result.low = result.mean - half;
  result.high = result.mean + half;
  return result;
}

/* ---- the points of a fit ---- */

/* Logarithms and work space of a fit. */
typedef struct points {
  const sntk_censoring *censored; /* NULL: none is */
  const int64_t *group;
  int64_t count, groups;
  double *x, *y;           /* logarithms */
  double *z;               /* y, or what is expected of it beyond its bound */
  double *exponents;       /* groups: slopes or pseudo-values */
  double *mean_x, *mean_z; /* groups */
  int64_t *members;        /* groups: points in use, 0: the group is left out */
} points;

static sntk_censoring censoring(const points *p, int64_t j) { return p->censored ? p->censored[j] : SNTK_CENSORED_NOT; }

/* Has group g two distinct x with values that are not censored? */
static bool has_slope(const points *p, int64_t g) {
  double low = INFINITY, high = -INFINITY;
  for (int64_t j = 0; j < p->count; j++) {
    if (p->group[j] != g || censoring(p, j) != SNTK_CENSORED_NOT) continue;
    low = fmin(low, p->x[j]);
    high = fmax(high, p->x[j]);
  }
  return high - low > 1e-12;
}

/* Puts groups into use: those with a value that is not censored, or only those with a slope of their own. Others tell
 * nothing of the exponent: their offset takes up all they have. */
static void take_groups(points *p, bool with_slope) {
  for (int64_t g = 0; g < p->groups; g++) {
    int64_t all = 0, exact = 0;
    for (int64_t j = 0; j < p->count; j++) {
      all += p->group[j] == g;
      exact += p->group[j] == g && censoring(p, j) == SNTK_CENSORED_NOT;
    }
    p->members[g] = (with_slope ? has_slope(p, g) : exact > 0) ? all : 0;
  }
}

static void take_means(points *p) {
  for (int64_t g = 0; g < p->groups; g++) p->mean_x[g] = p->mean_z[g] = 0.0;
  for (int64_t j = 0; j < p->count; j++) {
    const int64_t g = p->group[j];
    if (!p->members[g]) continue;
    p->mean_x[g] += p->x[j] / (double)p->members[g];
    p->mean_z[g] += p->z[j] / (double)p->members[g];
  }
}

/* Least squares of z on x with an offset for each group in use; `only` >= 0: in that group alone. */
static double slope_within(points *p, int64_t only) {
  double xx = 0.0, xz = 0.0;
  take_means(p);
  for (int64_t j = 0; j < p->count; j++) {
    const int64_t g = p->group[j];
    if (!p->members[g] || (only >= 0 && g != only)) continue;
    xx += (p->x[j] - p->mean_x[g]) * (p->x[j] - p->mean_x[g]);
    xz += (p->x[j] - p->mean_x[g]) * (p->z[j] - p->mean_z[g]);
  }
  return xz / xx;
}

/* What the line of its group gives at a point; the means are those of the slope. */
static double fitted(const points *p, double slope, int64_t j) {
  return p->mean_z[p->group[j]] + slope * (p->x[j] - p->mean_x[p->group[j]]);
}

/* ---- censored values ---- */

/* E(Z | Z > a) of a normal variable, and the variance of Z there. */
static double expected_beyond(double a, double *variance) {
  if (a > 20.0) { /* the tail's own expansion: density and probability underflow */
    *variance = 1.0 / (a * a);
    return a + 1.0 / a - 2.0 / (a * a * a);
  }
  const double mean = exp(-0.5 * a * a) / sqrt(2.0 * PI) / (0.5 * erfc(a / sqrt(2.0)));
  *variance = fmax(1.0 + a * mean - mean * mean, 0.0);
  return mean;
}

/* One turn of expectation and maximization: what is expected of the censored values, then line and noise anew. */
static double improve(points *p, double slope, double *noise) {
  double square = 0.0;
  int64_t used = 0;
  for (int64_t j = 0; j < p->count; j++) {
    if (!p->members[p->group[j]] || censoring(p, j) == SNTK_CENSORED_NOT) continue;
    const double side = (double)censoring(p, j), line = fitted(p, slope, j);
    double variance;
    p->z[j] = line + side * *noise * expected_beyond(side * (p->y[j] - line) / *noise, &variance);
    square += *noise * *noise * variance;
  }
  slope = slope_within(p, -1);
  for (int64_t j = 0; j < p->count; j++) {
    if (!p->members[p->group[j]]) continue;
    square += (p->z[j] - fitted(p, slope, j)) * (p->z[j] - fitted(p, slope, j));
    used++;
  }
  *noise = fmax(sqrt(square / (double)used), 1e-9); /* values that lie on lines: still to be divided by */
  return slope;
}

/* The exponent of largest likelihood over the groups in use. The likelihood has one maximum (in slope / noise and 1 /
 * noise it is concave), and each turn raises it. */
static double likeliest(points *p) {
  enum { TURNS = 20000 };
  double noise = 1.0;
  for (int64_t j = 0; j < p->count; j++) p->z[j] = p->y[j];
  double slope = slope_within(p, -1);
  for (int turn = 0; turn < TURNS; turn++) {
    const double before = slope, noise_before = noise;
    slope = improve(p, slope, &noise);
    if (fabs(slope - before) <= 1e-13 * (1.0 + fabs(slope)) && fabs(noise - noise_before) <= 1e-11 * noise) break;
  }
  return slope;
}

/* Exponent and pseudo-values. Groups without a slope of their own stay in every fit, but have no pseudo-value: theirs
 * would be near the fit itself and make the interval too short. */
static double fit_censored(points *p, sntk_power_fit *fit) {
  const double k = (double)fit->seeds;
  take_groups(p, false);
  for (int64_t g = 0; g < p->groups && fit->seeds > 1; g++) {
    const int64_t members = p->members[g];
    if (isnan(p->exponents[g])) continue;
    p->members[g] = 0;
    p->exponents[g] = likeliest(p);
    p->members[g] = members;
  }
  const double whole = likeliest(p); /* last: factor and R^2 are of the whole */
  for (int64_t g = 0; g < p->groups && fit->seeds > 1; g++) p->exponents[g] = k * whole - (k - 1.0) * p->exponents[g];
  return whole;
}

/* ---- the law ---- */

/* The factor from the mean offset, and how well the law says the values that are not censored. */
static void describe(points *p, sntk_power_fit *fit) {
  double offset = 0.0, groups = 0.0, mean = 0.0, exact = 0.0, rest = 0.0, all = 0.0;
  for (int64_t g = 0; g < p->groups; g++) {
    if (!p->members[g]) continue;
    offset += p->mean_z[g] - fit->exponent * p->mean_x[g];
    groups++;
  }
  offset /= groups;
  for (int64_t j = 0; j < p->count; j++) {
    if (!p->members[p->group[j]] || censoring(p, j) != SNTK_CENSORED_NOT) continue;
    mean += p->y[j];
    exact++;
  }
  for (int64_t j = 0; j < p->count; j++) {
    if (!p->members[p->group[j]] || censoring(p, j) != SNTK_CENSORED_NOT) continue;
    const double off = p->y[j] - offset - fit->exponent * p->x[j], from = p->y[j] - mean / exact;
    rest += off * off;
    all += from * from;
  }
  fit->factor = exp(offset);
  if (fit->censored == 0) fit->r_squared = all > 0.0 ? 1.0 - rest / all : 1.0; /* else not of all points */
}

static sntk_status fit_points(sntk_context *ctx, points *p, sntk_power_fit *fit) {
  for (int64_t j = 0; j < p->count; j++) {
    p->z[j] = p->y[j];
    fit->censored += censoring(p, j) != SNTK_CENSORED_NOT;
  }
  take_groups(p, true);
  for (int64_t g = 0; g < p->groups; g++) {
    p->exponents[g] = p->members[g] ? slope_within(p, g) : NAN;
    fit->seeds += p->members[g] > 0;
  }
  if (fit->seeds == 0)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT,
                     "a power law needs a seed with two distinct abscissas whose values are not censored");
  double mean;
  int64_t used;
  if (fit->censored > 0) {
    fit->method = SNTK_POWER_LIKELIHOOD;
    fit->exponent = fit_censored(p, fit);
  }
  const double half = half_length(p->exponents, p->groups, &mean, &used);
  if (fit->censored == 0) fit->exponent = mean;
  fit->low = fit->exponent - half;
  fit->high = fit->exponent + half;
  describe(p, fit);
  return SNTK_OK;
}

static sntk_status check_pairs(sntk_context *ctx, const double *x, const double *y, const sntk_censoring *censored,
                               const int64_t *group, int64_t count, int64_t groups) {
  if (count < 2 || groups < 1) return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "a power law needs at least two points");
  for (int64_t j = 0; j < count; j++) {
    if (group[j] < 0 || group[j] >= groups)
      return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "pair %lld is of group %lld; groups count from 0 to %lld", (long long)j,
                       (long long)group[j], (long long)groups - 1);
    if (censored && (censored[j] < SNTK_CENSORED_ABOVE || censored[j] > SNTK_CENSORED_BELOW))
      return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "pair %lld: censoring %d is unknown", (long long)j, (int)censored[j]);
    if (!(x[j] > 0.0 && y[j] > 0.0 && isfinite(x[j]) && isfinite(y[j])))
      return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "a power law needs positive values: pair %lld is (%g, %g)", (long long)j,
                       x[j], y[j]);
  }
  return SNTK_OK;
}

sntk_status sntk_power_law(sntk_context *ctx, const double *x, const double *y, const sntk_censoring *censored,
                           const int64_t *group, int64_t count, int64_t groups, double *exponents,
                           sntk_power_fit *fit) {
  SNTK_NEED(ctx, fit, "fit");
  *fit = (sntk_power_fit){.points = count, .exponent = NAN, .factor = NAN, .low = NAN, .high = NAN, .r_squared = NAN};
  SNTK_NEED(ctx, ctx, "ctx");
  SNTK_NEED(ctx, x, "x");
  SNTK_NEED(ctx, y, "y");
  SNTK_NEED(ctx, group, "group");
  if (count > 0 && groups > 0) {
    SNTK_TRY(sntk_check_array(ctx, "pairs", count, 3));
    SNTK_TRY(sntk_check_array(ctx, "groups", groups, 3));
  }
  for (int64_t g = 0; g < groups && exponents; g++) exponents[g] = NAN;
  SNTK_TRY(check_pairs(ctx, x, y, censored, group, count, groups));
  double *reals = NULL;
  int64_t *members = NULL;
  const int64_t size = sntk_size_add(sntk_size_mul(3, count), sntk_size_mul(3, groups));
  sntk_status status = sntk_alloc(ctx, "logarithms", size, sizeof *reals, (void **)&reals);
  if (status == SNTK_OK) status = sntk_alloc(ctx, "groups", groups, sizeof *members, (void **)&members);
  if (status != SNTK_OK) goto cleanup;
  double *const by_group = reals + 3 * count;
  points p = {.censored = censored,
              .group = group,
              .count = count,
              .groups = groups,
              .x = reals,
              .y = reals + count,
              .z = reals + 2 * count,
              .exponents = by_group,
              .mean_x = by_group + groups,
              .mean_z = by_group + 2 * groups,
              .members = members};
  for (int64_t j = 0; j < count; j++) {
    p.x[j] = log(x[j]);
    p.y[j] = log(y[j]);
  }
  status = fit_points(ctx, &p, fit);
  for (int64_t g = 0; g < groups && exponents && status == SNTK_OK; g++) exponents[g] = p.exponents[g];
cleanup:
  free(members);
  free(reals);
  return status;
}
