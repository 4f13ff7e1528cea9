/**
 * @file test_power.c
 * @brief Power laws with known exponents: exact ones, the coverage of intervals, censored values, Student's t.
 *
 * SPDX-License-Identifier: MIT
 */
#include "support.h"

#include <stdio.h>

#define LENGTH(array) (int64_t)(sizeof(array) / sizeof *(array))

static int setup(void **state) { return sntk_context_create((sntk_context **)state) == SNTK_OK ? 0 : -1; }

static int teardown(void **state) {
  sntk_context_free(*state);
  pool_clear();
  return 0;
}

/* ---- Student's t ---- */

/* Tabulated two-sided 95% points, to the digits of the tables. */
static void quantiles_are_those_of_the_tables(void **state) {
  (void)state;
  static const struct {
    int64_t freedom;
    double p, quantile;
  } table[] = {{1, 0.975, 12.7062},  {2, 0.975, 4.30265},   {3, 0.975, 3.18245},    {4, 0.975, 2.77645},
               {5, 0.975, 2.57058},  {6, 0.975, 2.44691},   {7, 0.975, 2.36462},    {8, 0.975, 2.30600},
               {9, 0.975, 2.26216},  {10, 0.975, 2.22814},  {15, 0.975, 2.13145},   {20, 0.975, 2.08596},
               {30, 0.975, 2.04227}, {60, 0.975, 2.00030},  {120, 0.975, 1.97993},  {1000, 0.975, 1.96234},
               {1, 0.95, 6.31375},   {4, 0.95, 2.13185},    {10, 0.995, 3.16927},   {3, 0.9995, 12.92398},
               {25, 0.9, 1.31635},   {9999, 0.975, 1.9602}, {10001, 0.975, 1.9602}, {1000000000, 0.975, 1.95996}};
  for (int64_t k = 0; k < LENGTH(table); k++) {
    snprintf(support_case, sizeof support_case, "%lld degrees, p %g", (long long)table[k].freedom, table[k].p);
    const double digit = table[k].quantile >= 10.0 ? 5e-5 : 5e-6;
    assert_near(sntk_student_quantile(table[k].p, table[k].freedom), table[k].quantile, 1.01 * fmax(digit, 5e-6));
    assert_near(sntk_student_quantile(1.0 - table[k].p, table[k].freedom), -table[k].quantile,
                1.01 * fmax(digit, 5e-6));
  }
}

/* Closed forms: Cauchy's tan and that of two degrees; and no seam between the sums and the expansion. */
static void quantiles_have_their_closed_forms(void **state) {
  (void)state;
  for (double p = 0.001; p < 1.0; p += 0.0371) {
    const double a = 2.0 * p - 1.0;
    assert_near(sntk_student_quantile(p, 1), tan(M_PI * (p - 0.5)), 1e-9 * (1.0 + fabs(tan(M_PI * (p - 0.5)))));
    assert_near(sntk_student_quantile(p, 2), a * sqrt(2.0 / (1.0 - a * a)), 1e-9 * (1.0 + fabs(a) * 40.0));
    const double below = sntk_student_quantile(p, 10000), above = sntk_student_quantile(p, 10001);
    assert_near(below, above, 1e-7 * (1.0 + fabs(below)));
    assert_true(fabs(below) >= fabs(above) || below == 0.0);
  }
  assert_near(sntk_student_quantile(0.5, 7), 0.0, 1e-15);
  assert_true(isnan(sntk_student_quantile(0.975, 0)) && isnan(sntk_student_quantile(0.0, 3)));
  assert_true(isnan(sntk_student_quantile(1.0, 3)) && isnan(sntk_student_quantile(NAN, 3)));
}

static void means_have_their_intervals(void **state) {
  (void)state;
  const double values[] = {1.0, NAN, 2.0, 4.0, NAN, 5.0};
  const sntk_interval i = sntk_mean_interval(values, LENGTH(values));
  assert_int_equal(i.count, 4);
  assert_near(i.mean, 3.0, 4.0 * EPS64);
  /* s^2 = (4 + 1 + 1 + 4) / 3, t_3 = 3.182446305... */
  assert_near(i.high - i.mean, 3.182446305284263 * sqrt(10.0 / 3.0 / 4.0), 1e-9);
  assert_near(i.mean - i.low, i.high - i.mean, 1e-14);
  const sntk_interval one = sntk_mean_interval(values, 2), none = sntk_mean_interval(values + 1, 1);
  assert_true(one.count == 1 && one.mean == 1.0 && isnan(one.low) && isnan(one.high));
  assert_true(none.count == 0 && isnan(none.mean) && isnan(none.low));
}

/* ---- samples of a law ---- */

enum { SEEDS_MOST = 10, WIDTHS = 5, PAIRS_MOST = SEEDS_MOST * WIDTHS };

/* Uniform in (0, 1). */
static double share(uint64_t seed, int64_t index) { return 0.5 * (uniform(seed, index) + 1.0); }

/* log y = offset of the seed + (exponent + deviation of the seed) log x + noise. */
typedef struct law {
  int64_t seeds;
  double exponent, offset, deviation, noise; /* the last three: standard deviations */
  bool skewed;                               /* exponential noise */
  double missing;                            /* share of the points that are not there */
  double bound;                              /* values above it are censored there; 0: none */
} law;

typedef struct sample {
  double x[PAIRS_MOST], y[PAIRS_MOST];
  int64_t group[PAIRS_MOST], count;
  sntk_censoring censored[PAIRS_MOST];
} sample;

static void draw(const law *l, uint64_t seed, sample *s) {
  s->count = 0;
  for (int64_t g = 0; g < l->seeds; g++) {
    const double offset = l->offset * normal(seed, 2 * g), slope = l->exponent + l->deviation * normal(seed, 2 * g + 1);
    for (int64_t w = 0; w < WIDTHS; w++) {
      const int64_t index = 100 + g * WIDTHS + w, at = s->count;
      /* the ends stay, so that every seed has a slope */
      if (w > 0 && w < WIDTHS - 1 && share(seed, 1000 + index) < l->missing) continue;
      const double e = l->skewed ? -log(share(seed, index)) - 1.0 : normal(seed, index);
      s->x[at] = exp2((double)w);
      s->y[at] = exp(offset + slope * log(s->x[at]) + l->noise * e);
      s->censored[at] = l->bound > 0.0 && s->y[at] > l->bound ? SNTK_CENSORED_BELOW : SNTK_CENSORED_NOT;
      if (s->censored[at] != SNTK_CENSORED_NOT) s->y[at] = l->bound;
      s->group[at] = g;
      s->count++;
    }
  }
}

/* Leaves the censored values out. */
static void drop(sample *s) {
  int64_t kept = 0;
  for (int64_t j = 0; j < s->count; j++) {
    if (s->censored[j] != SNTK_CENSORED_NOT) continue;
    s->x[kept] = s->x[j];
    s->y[kept] = s->y[j];
    s->group[kept] = s->group[j];
    s->censored[kept++] = SNTK_CENSORED_NOT;
  }
  s->count = kept;
}

static void fit_sample(sntk_context *ctx, const sample *s, int64_t seeds, double *exponents, sntk_power_fit *fit) {
  assert_ok(ctx, sntk_power_law(ctx, s->x, s->y, s->censored, s->group, s->count, seeds, exponents, fit));
}

/* ---- laws ---- */

static void exact_laws_are_recovered(void **state) {
  static const double exponents[] = {-2.5, -1.0, 0.0, 0.5, 1.0, 3.0};
  for (int64_t k = 0; k < LENGTH(exponents); k++) {
    const law l = {.seeds = 4, .exponent = exponents[k]};
    sample s;
    double own[4];
    sntk_power_fit fit;
    draw(&l, 1, &s);
    for (int64_t j = 0; j < s.count; j++) s.y[j] *= 0.7;
    fit_sample(*state, &s, 4, own, &fit);
    const double bound = 20.0 * PAIRS_MOST * EPS64; /* logarithms below 20, at most PAIRS_MOST of them summed */
    assert_int_equal(fit.points, 4 * WIDTHS);
    assert_int_equal(fit.seeds, 4);
    assert_int_equal(fit.censored, 0);
    assert_int_equal(fit.method, SNTK_POWER_SLOPES);
    assert_near(fit.exponent, exponents[k], bound);
    assert_near(fit.factor, 0.7, 10.0 * bound);
    assert_near(fit.low, exponents[k], 10.0 * bound);
    assert_near(fit.high, exponents[k], 10.0 * bound);
    for (int g = 0; g < 4; g++) assert_near(own[g], exponents[k], bound);
    if (exponents[k] != 0.0) assert_near(fit.r_squared, 1.0, 10.0 * bound);
  }
}

/* The interval is the t interval of the seeds' slopes, about their mean, which is what is called the exponent. */
static void the_interval_is_that_of_the_slopes(void **state) {
  static const double slopes[] = {1.0, 1.25, 0.75, 2.0};
  enum { K = 4 };
  double x[K * 3], y[K * 3], own[K];
  int64_t group[K * 3];
  sntk_power_fit fit;
  for (int j = 0; j < K * 3; j++) {
    group[j] = j / 3;
    x[j] = pow(2.0, (double)(j % 3) * (1.0 + group[j])); /* abscissas of their own */
    y[j] = (1.0 + (double)group[j]) * pow(x[j], slopes[group[j]]);
  }
  assert_ok(*state, sntk_power_law(*state, x, y, NULL, group, K * 3, K, own, &fit));
  for (int g = 0; g < K; g++) assert_near(own[g], slopes[g], 1e-13);
  const double mean = 1.25, s = sqrt((0.0625 + 0.0 + 0.25 + 0.5625) / 3.0);
  assert_near(fit.exponent, mean, 1e-13);
  assert_near(fit.low, mean - 3.182446305284263 * s / 2.0, 1e-9);
  assert_near(fit.high, mean + 3.182446305284263 * s / 2.0, 1e-9);
  /* the factor puts the law through the seeds' centres: log 24 / 4, and the slopes' deviations at log x = log 2 (1 + g)
   */
  assert_near(log(fit.factor), 0.25 * log(24.0) + log(2.0) * (-0.25 - 1.5 + 3.0) / 4.0, 1e-12);
  /* a seed with one abscissa has no slope: it is told by the count of seeds, not by the interval */
  assert_ok(*state, sntk_power_law(*state, x, y, NULL, group, K * 3 - 2, K, own, &fit));
  assert_int_equal(fit.seeds, 3);
  assert_true(isnan(own[3]));
  assert_near(fit.exponent, 1.0, 1e-13);
}

/* 95% means 95 of 100, with few seeds too. */
static void intervals_cover_the_truth(void **state) {
  enum { SAMPLES = 4000 }; /* standard deviation of the share: 0.0034 */
  static const int64_t seeds[] = {3, 5, 10};
  for (int64_t k = 0; k < LENGTH(seeds); k++)
    for (int kind = 0; kind < 4; kind++) {
      const law l = {.seeds = seeds[k],
                     .exponent = 1.5,
                     .offset = 0.5,
                     .deviation = 0.1,
                     .noise = 0.3,
                     .skewed = kind % 2,
                     .missing = kind / 2 ? 0.4 : 0.0};
      int64_t covered = 0;
      double sum = 0.0, square = 0.0;
      for (uint64_t t = 0; t < SAMPLES; t++) {
        sample s;
        sntk_power_fit fit;
        draw(&l, 1 + t, &s);
        fit_sample(*state, &s, l.seeds, NULL, &fit);
        covered += fit.low <= 1.5 && 1.5 <= fit.high;
        sum += fit.exponent - 1.5;
        square += (fit.exponent - 1.5) * (fit.exponent - 1.5);
      }
      snprintf(support_case, sizeof support_case, "%lld seeds, kind %d: %.4f covered", (long long)l.seeds, kind,
               (double)covered / SAMPLES);
      assert_between((double)covered / SAMPLES, 0.935, 0.975);
      assert_near(sum / SAMPLES, 0.0, 4.0 * sqrt(square) / SAMPLES);
    }
}

/* Two quantities over the same seeds: what they share leaves their difference, and its interval is the shorter. */
static void paired_differences_cover_theirs(void **state) {
  enum { SAMPLES = 4000, SEEDS = 5 };
  const law l = {.seeds = SEEDS, .exponent = 0.0, .offset = 0.5, .deviation = 0.0, .noise = 0.1};
  const law common = {.seeds = SEEDS, .exponent = 1.0, .offset = 0.5, .deviation = 0.4, .noise = 0.3};
  int64_t covered = 0, shorter = 0;
  for (uint64_t t = 0; t < SAMPLES; t++) {
    sample shared, a, b;
    double of_a[SEEDS], of_b[SEEDS];
    sntk_power_fit fit_a, fit_b;
    draw(&common, 1 + 3 * t, &shared);
    draw(&l, 2 + 3 * t, &a);
    draw(&l, 3 + 3 * t, &b);
    for (int64_t j = 0; j < a.count; j++) {
      a.y[j] *= shared.y[j] * pow(a.x[j], 0.25);
      b.y[j] *= shared.y[j];
    }
    fit_sample(*state, &a, SEEDS, of_a, &fit_a);
    fit_sample(*state, &b, SEEDS, of_b, &fit_b);
    for (int g = 0; g < SEEDS; g++) of_a[g] -= of_b[g];
    const sntk_interval i = sntk_mean_interval(of_a, SEEDS);
    covered += i.low <= 0.25 && 0.25 <= i.high;
    shorter += i.high - i.low < fit_a.high - fit_a.low;
    assert_near(i.mean, fit_a.exponent - fit_b.exponent, 1e-12);
  }
  assert_between((double)covered / SAMPLES, 0.935, 0.965);
  assert_between((double)shorter / SAMPLES, 0.95, 1.0);
}

/* ---- censored values ---- */

/* Leaving out what did not get below the bound bends the exponent; the likelihood does not, beyond a tenth of what one
 * fit is uncertain by, and its intervals cover. */
static void censored_values_do_not_bend_the_exponent(void **state) {
  enum { SAMPLES = 1000 };
  static const int64_t seeds[] = {3, 5, 10};
  for (int64_t k = 0; k < LENGTH(seeds); k++)
    for (int skewed = 0; skewed < 2; skewed++) {
      const law l = {.seeds = seeds[k],
                     .exponent = 1.5,
                     .offset = 0.4,
                     .deviation = 0.03,
                     .noise = 0.3,
                     .skewed = skewed,
                     .bound = exp(3.0)};
      double sum = 0.0, square = 0.0, dropped = 0.0, censored = 0.0;
      int64_t covered = 0;
      for (uint64_t t = 0; t < SAMPLES; t++) {
        sample s;
        sntk_power_fit fit;
        draw(&l, 1 + t, &s);
        fit_sample(*state, &s, l.seeds, NULL, &fit);
        assert_int_equal(fit.method, fit.censored ? SNTK_POWER_LIKELIHOOD : SNTK_POWER_SLOPES);
        censored += (double)fit.censored / (double)fit.points / SAMPLES;
        covered += fit.low <= 1.5 && 1.5 <= fit.high;
        sum += fit.exponent - 1.5;
        square += (fit.exponent - 1.5) * (fit.exponent - 1.5);
        drop(&s);
        fit_sample(*state, &s, l.seeds, NULL, &fit);
        dropped += fit.exponent - 1.5;
      }
      const double bias = sum / SAMPLES, spread = sqrt(square / SAMPLES);
      snprintf(support_case, sizeof support_case,
               "%lld seeds, skewed %d: bias %.4f, dropped %.4f, spread %.4f, covered %.3f, censored %.2f",
               (long long)l.seeds, skewed, bias, dropped / SAMPLES, spread, (double)covered / SAMPLES, censored);
      assert_near(bias, 0.0, 0.1 * spread);
      assert_true(-dropped > 4.0 * sqrt(square)); /* else the case says nothing */
      assert_between((double)covered / SAMPLES, 0.92, 0.98);
    }
}

/* Log-likelihood of one seed's points under log y = a + b log x + s noise, the largest over s. */
static double likelihood(const sample *s, double a, double b) {
  double best = -INFINITY;
  for (double noise = 0.01; noise < 10.0; noise *= 1.0005) {
    double sum = 0.0;
    for (int64_t j = 0; j < s->count; j++) {
      const double off = (log(s->y[j]) - a - b * log(s->x[j])) / noise;
      sum += s->censored[j] == SNTK_CENSORED_NOT ? -0.5 * off * off - log(noise)
                                                 : log(0.5 * erfc((double)s->censored[j] * off / sqrt(2.0)));
    }
    best = fmax(best, sum);
  }
  return best;
}

static void the_fit_is_the_likeliest(void **state) {
  for (uint64_t t = 0; t < 5; t++) {
    const law l = {.seeds = 1, .exponent = 1.5, .noise = 0.5, .bound = exp(3.0)};
    sample s;
    sntk_power_fit fit;
    draw(&l, 1 + t, &s);
    s.censored[WIDTHS - 1] = SNTK_CENSORED_BELOW;
    if (t % 2) s.censored[0] = SNTK_CENSORED_ABOVE;
    s.censored[2] = SNTK_CENSORED_NOT;
    fit_sample(*state, &s, 1, NULL, &fit);
    assert_true(isnan(fit.low) && isnan(fit.high));
    const double a = log(fit.factor), top = likelihood(&s, a, fit.exponent), step = 0.02;
    for (int da = -1; da <= 1; da++)
      for (int db = -1; db <= 1; db++)
        if (da || db) assert_true(likelihood(&s, a + step * da, fit.exponent + step * db) < top);
  }
}

/* Values beyond their bounds on the side where the line is have nothing to say; and 1 / y mirrors the fit. */
static void bounds_that_the_line_respects_and_mirrors(void **state) {
  const law exact = {.seeds = 3, .exponent = 1.5}, noisy = {.seeds = 3, .exponent = 1.5, .offset = 0.3, .noise = 0.2};
  sample s;
  sntk_power_fit fit, mirrored;
  draw(&exact, 1, &s);
  s.censored[WIDTHS - 1] = SNTK_CENSORED_BELOW;
  s.y[WIDTHS - 1] = exp(3.0); /* the truth is 64 */
  fit_sample(*state, &s, 3, NULL, &fit);
  assert_near(fit.exponent, 1.5, 1e-6);
  assert_int_equal(fit.censored, 1);
  assert_int_equal(fit.points, 3 * WIDTHS);
  draw(&noisy, 2, &s);
  s.censored[3] = SNTK_CENSORED_BELOW;
  s.censored[5] = SNTK_CENSORED_ABOVE;
  fit_sample(*state, &s, 3, NULL, &fit);
  for (int64_t j = 0; j < s.count; j++) {
    s.y[j] = 1.0 / s.y[j];
    s.censored[j] = (sntk_censoring)(-(int)s.censored[j]);
  }
  fit_sample(*state, &s, 3, NULL, &mirrored);
  assert_near(mirrored.exponent, -fit.exponent, 1e-10);
  assert_near(mirrored.low, -fit.high, 1e-9);
  assert_near(mirrored.factor * fit.factor, 1.0, 1e-9);
}

static void seeds_that_are_censored_throughout_say_nothing(void **state) {
  const law l = {.seeds = 3, .exponent = 1.5, .offset = 0.3, .noise = 0.2};
  sample s, two;
  sntk_power_fit fit, without;
  double own[3];
  draw(&l, 3, &s);
  two = s;
  two.count = 2 * WIDTHS;
  for (int64_t j = 0; j < s.count; j++) s.censored[j] = j >= 2 * WIDTHS || j == 4 ? SNTK_CENSORED_BELOW : s.censored[j];
  two.censored[4] = SNTK_CENSORED_BELOW;
  fit_sample(*state, &s, 3, own, &fit);
  fit_sample(*state, &two, 2, NULL, &without);
  assert_true(isnan(own[2]) && !isnan(own[0]) && !isnan(own[1]));
  assert_int_equal(fit.seeds, 2);
  assert_int_equal(fit.censored, WIDTHS + 1);
  assert_near(fit.exponent, without.exponent, 1e-12);
  assert_near(fit.high, without.high, 1e-10);
}

/* ---- what has no law ---- */

static void one_seed_has_no_interval(void **state) {
  const law l = {.seeds = 1, .exponent = 2.0, .noise = 0.1};
  sample s;
  sntk_power_fit fit;
  draw(&l, 5, &s);
  fit_sample(*state, &s, 1, NULL, &fit);
  assert_true(isnan(fit.low) && isnan(fit.high));
  assert_int_equal(fit.seeds, 1);
  assert_near(fit.exponent, 2.0, 0.5);
  /* one seed present of several */
  fit_sample(*state, &s, 8, NULL, &fit);
  assert_true(isnan(fit.low) && isnan(fit.high));
  assert_int_equal(fit.seeds, 1);
}

static void data_without_a_law_are_refused(void **state) {
  static const struct {
    double x[3], y[3];
    int64_t group[3], count, groups;
    sntk_censoring censored[3];
  } wrong[] = {
      {{1, 2, 3}, {1, 2, 3}, {0, 0, 0}, 1, 1, {0}},        {{1, 2, 3}, {1, 2, 3}, {0, 0, 0}, 0, 1, {0}},
      {{2, 2, 2}, {1, 2, 3}, {0, 0, 0}, 3, 1, {0}},        {{1, -2, 3}, {1, 2, 3}, {0, 0, 0}, 3, 1, {0}},
      {{1, 2, 3}, {1, 0, 3}, {0, 0, 0}, 3, 1, {0}},        {{1, 2, NAN}, {1, 2, 3}, {0, 0, 0}, 3, 1, {0}},
      {{1, 2, 3}, {1, INFINITY, 3}, {0, 0, 0}, 3, 1, {0}}, {{1, 2, 3}, {1, 2, 3}, {0, 1, 0}, 3, 1, {0}},
      {{1, 2, 3}, {1, 2, 3}, {0, -1, 0}, 3, 1, {0}},       {{1, 2, 3}, {1, 2, 3}, {0, 0, 0}, 3, 0, {0}},
      {{1, 2, 3}, {1, 2, 3}, {0, 1, 2}, 3, 3, {0}},        {{1, 2, 3}, {1, 2, 3}, {0, 0, 0}, 3, 1, {1, 1, 0}},
      {{1, 2, 3}, {1, 2, 3}, {0, 0, 0}, 3, 1, {1, 1, 1}},
  };
  for (int64_t k = 0; k < LENGTH(wrong); k++) {
    sntk_power_fit fit;
    double own[3];
    snprintf(support_case, sizeof support_case, "case %lld", (long long)k);
    assert_status(*state,
                  sntk_power_law(*state, wrong[k].x, wrong[k].y, wrong[k].censored, wrong[k].group, wrong[k].count,
                                 wrong[k].groups, own, &fit),
                  SNTK_ERR_ARGUMENT);
    assert_true(isnan(fit.exponent) && isnan(fit.low) && isnan(fit.high));
    assert_true(strlen(sntk_context_error(*state)) > 0);
  }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(quantiles_are_those_of_the_tables),
      TEST(quantiles_have_their_closed_forms),
      TEST(means_have_their_intervals),
      TEST(exact_laws_are_recovered),
      TEST(the_interval_is_that_of_the_slopes),
      TEST(intervals_cover_the_truth),
      TEST(paired_differences_cover_theirs),
      TEST(censored_values_do_not_bend_the_exponent),
      TEST(the_fit_is_the_likeliest),
      TEST(bounds_that_the_line_respects_and_mirrors),
      TEST(seeds_that_are_censored_throughout_say_nothing),
      TEST(one_seed_has_no_interval),
      TEST(data_without_a_law_are_refused),
  };
  return cmocka_run_group_tests_name("power", tests, NULL, NULL);
}
