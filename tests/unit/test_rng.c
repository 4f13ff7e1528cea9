/**
 * @file test_rng.c
 * @brief Philox against the published known answers, the mapping to (seed, stream, index), normals and their moments.
 *
 * SPDX-License-Identifier: MIT
 */
#include "support.h"

#include "core/normal.h"

/* ---- Philox4x32-10, written down once more: two 32 x 32 -> 64 bit products a round, keys bumped by Weyl constants
 * ---- */

static void philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
  uint32_t c[4] = {counter[0], counter[1], counter[2], counter[3]}, k[2] = {key[0], key[1]};
  for (int round = 0; round < 10; round++) {
    const uint64_t a = (uint64_t)0xD2511F53u * c[0], b = (uint64_t)0xCD9E8D57u * c[2];
    const uint32_t next[4] = {(uint32_t)(b >> 32) ^ c[1] ^ k[0], (uint32_t)b, (uint32_t)(a >> 32) ^ c[3] ^ k[1],
                              (uint32_t)a};
    memcpy(c, next, sizeof c);
    k[0] += 0x9E3779B9u;
    k[1] += 0xBB67AE85u;
  }
  memcpy(out, c, sizeof c);
}

/* The vectors that Random123 publishes for philox4x32 with 10 rounds. */
static void known_answers(void **state) {
  (void)state;
  static const struct {
    uint32_t counter[4], key[2], out[4];
  } answers[] = {
      {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
       {0xffffffff, 0xffffffff},
       {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       {0xa4093822, 0x299f31d0},
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (size_t a = 0; a < sizeof answers / sizeof *answers; a++) {
    uint32_t out[4];
    philox(answers[a].counter, answers[a].key, out);
    for (int w = 0; w < 4; w++) assert_int_equal(out[w], answers[a].out[w]);
  }
  for (uint64_t w = 0; w < 4; w++) assert_int_equal(sntk_rng_word(0, 0, w), answers[0].out[w]);
}

/* key = {seed low, seed high}, counter = {low(index / 4), high(index / 4), stream low, stream high}, word index % 4. */
static void words_map_to_seed_stream_and_index(void **state) {
  (void)state;
  static const uint64_t seeds[] = {0, 1, 0xffffffff, UINT64_C(0x100000000), UINT64_C(0x243f6a8885a308d3), UINT64_MAX};
  static const uint64_t streams[] = {0, 1, 7, UINT64_C(0x0370734413198a2e), UINT64_MAX};
  static const uint64_t indices[] = {0, 1, 2, 3, 4, 5, 1023, UINT64_C(0x3ffffffff), UINT64_C(0x400000001), UINT64_MAX};
  for (size_t s = 0; s < sizeof seeds / sizeof *seeds; s++)
    for (size_t t = 0; t < sizeof streams / sizeof *streams; t++)
      for (size_t i = 0; i < sizeof indices / sizeof *indices; i++) {
        const uint64_t block = indices[i] / 4;
        const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)streams[t],
                                     (uint32_t)(streams[t] >> 32)};
        const uint32_t key[2] = {(uint32_t)seeds[s], (uint32_t)(seeds[s] >> 32)};
        uint32_t out[4];
        philox(counter, key, out);
        assert_int_equal(sntk_rng_word(seeds[s], streams[t], indices[i]), out[indices[i] % 4]);
      }
}

static void uniforms_are_the_top_bits_of_two_words(void **state) {
  (void)state;
  double sum = 0.0, square = 0.0;
  enum { COUNT = 200000 };
  for (uint64_t i = 0; i < COUNT; i++) {
    const double u = sntk_rng_uniform(5, 2, i);
    if (i < 1000) {
      const uint64_t high = sntk_rng_word(5, 2, 2 * i), low = sntk_rng_word(5, 2, 2 * i + 1);
      assert_true(u == ((double)((high << 32 | low) >> 12) + 0.5) * 0x1p-52);
    }
    assert_true(u > 0.0 && u < 1.0);
    sum += u;
    square += (u - 0.5) * (u - 0.5);
  }
  assert_near(sum / COUNT, 0.5, 5.0 * sqrt(1.0 / 12.0 / COUNT));
  assert_near(square / COUNT, 1.0 / 12.0, 5.0 * sqrt(1.0 / 180.0 / COUNT));
}

/* Radius: its square within 4 eps, so itself within 2 eps, and a rounding; sine and cosine within 4 eps; the product's
 * rounding. Together less than 8 eps times the radius. */
static void check_pair(uint32_t w0, uint32_t w1, float out0, float out1) {
  const double pi = acos(-1.0);
  const double radius = sqrt(-2.0 * log(((double)w0 + 0.5) * 0x1p-32)), angle = 2.0 * pi * ((double)w1 * 0x1p-32);
  assert_near(out0, radius * cos(angle), 8.0 * EPS32 * radius);
  assert_near(out1, radius * sin(angle), 8.0 * EPS32 * radius);
}

static void normals_are_box_muller(void **state) {
  (void)state;
  /* ends and breaks of the polynomials: u near 0, near 1, at sqrt(1/2), at powers of two; angles at quadrant borders */
  static const uint32_t words[] = {0,          1,          2,          0x7fffffff, 0x80000000, 0xb504f2ff,
                                   0xb504f300, 0xb504f301, 0xb504f400, 0xfffffffe, 0xffffffff, 0x1fffffff,
                                   0x20000000, 0x3fffffff, 0x40000000, 0x5a827999, 0x60000000, 0x9fffffff,
                                   0xa0000000, 0xbfffffff, 0xc0000000, 0xdfffffff, 0xe0000000, 0x00ffffff};
  const size_t count = sizeof words / sizeof *words;
  float out0, out1;
  for (size_t a = 0; a < count; a++)
    for (size_t b = 0; b < count; b++) {
      sntk_normal_pair(words[a], words[b], &out0, &out1);
      check_pair(words[a], words[b], out0, out1);
      assert_true(fabsf(out0) <= 6.77f && fabsf(out1) <= 6.77f);
    }
  for (uint64_t i = 0; i < 500000; i++) {
    const uint32_t w0 = sntk_rng_word(3, 0, 2 * i), w1 = sntk_rng_word(3, 0, 2 * i + 1);
    check_pair(w0, w1, sntk_rng_normal(3, 0, 2 * i), sntk_rng_normal(3, 0, 2 * i + 1));
  }
}

static void batches_equal_singles_wherever_they_begin(void **state) {
  (void)state;
  enum { LONGEST = 1100 }; /* more than four batches of 256 */
  static const uint64_t firsts[] = {
      0, 1, 2, 3, 5, 63, 64, 65, 253, 254, 255, 256, 257, 511, UINT64_C(0x3fffffffd), UINT64_C(0x7fffffffffff)};
  static const int64_t counts[] = {0, 1, 2, 3, 4, 5, 7, 63, 64, 65, 255, 256, 257, 513, LONGEST};
  float *out = pool(LONGEST + 1, sizeof *out);
  for (size_t f = 0; f < sizeof firsts / sizeof *firsts; f++)
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
      const float untouched = 77.0f;
      out[counts[c]] = untouched;
      sntk_rng_normals(11, 4, firsts[f], counts[c], out);
      for (int64_t j = 0; j < counts[c]; j++) {
        const float single = sntk_rng_normal(11, 4, firsts[f] + (uint64_t)j);
        assert_memory_equal(&out[j], &single, sizeof single);
      }
      assert_true(out[counts[c]] == untouched);
    }
}

static void batches_of_words_equal_single_words(void **state) {
  (void)state;
  enum { LONGEST = 1100 };
  static const uint64_t firsts[] = {0, 1, 3, 255, 256, UINT64_C(0x3fffffffd), UINT64_C(0x7fffffffffff)};
  static const int64_t counts[] = {0, 1, 5, 255, 256, 257, LONGEST};
  uint32_t *out = pool(LONGEST + 1, sizeof *out);
  for (size_t f = 0; f < sizeof firsts / sizeof *firsts; f++)
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
      out[counts[c]] = 77;
      sntk_rng_words(UINT64_C(0x123456789abcdef), 4, firsts[f], counts[c], out);
      for (int64_t j = 0; j < counts[c]; j++)
        assert_int_equal(out[j], sntk_rng_word(UINT64_C(0x123456789abcdef), 4, firsts[f] + (uint64_t)j));
      assert_int_equal(out[counts[c]], 77);
    }
}

static void a_sequence_is_the_prefix_of_a_longer_one(void **state) {
  (void)state;
  enum { SHORT = 3001, LONG = 2 * SHORT };
  float *a = pool(SHORT, sizeof *a), *b = pool(LONG, sizeof *b);
  sntk_rng_normals(9, 0, 0, SHORT, a);
  sntk_rng_normals(9, 0, 0, LONG, b);
  assert_memory_equal(a, b, SHORT * sizeof *a);
  /* cut anywhere, it is the same sequence */
  for (int64_t at = 0, piece = 1; at < LONG; at += piece, piece = piece % 300 + 37) {
    const int64_t count = LONG - at < piece ? LONG - at : piece;
    sntk_rng_normals(9, 0, (uint64_t)at, count, a);
    assert_memory_equal(a, b + at, (size_t)count * sizeof *a);
  }
}

static void seeds_and_streams_are_unrelated(void **state) {
  (void)state;
  enum { COUNT = 100000 };
  float *a = pool(COUNT, sizeof *a), *b = pool(COUNT, sizeof *b);
  static const uint64_t others[][2] = {{1, 1}, {2, 0}, {UINT64_C(1) << 32 | 1, 0}, {1, UINT64_C(1) << 32}};
  sntk_rng_normals(1, 0, 0, COUNT, a);
  for (size_t o = 0; o < sizeof others / sizeof *others; o++) {
    sntk_rng_normals(others[o][0], others[o][1], 0, COUNT, b);
    double product = 0.0;
    for (int j = 0; j < COUNT; j++) product += (double)a[j] * (double)b[j];
    assert_near(product / COUNT, 0.0, 5.0 / sqrt(COUNT));
  }
}

/* Each within five standard errors of what it is for a standard normal. */
static void moments_and_tails(void **state) {
  (void)state;
  enum { COUNT = 2000000 };
  float *x = pool(COUNT, sizeof *x);
  sntk_rng_normals(2024, SNTK_STREAM_WEIGHTS, 0, COUNT, x);
  double moment[5] = {0}, neighbour = 0.0, pair = 0.0;
  static const double tails[] = {1.0, 2.0, 3.0, 4.0, 4.75};
  int64_t beyond[5] = {0};
  for (int64_t j = 0; j < COUNT; j++) {
    const double v = (double)x[j];
    moment[1] += v;
    moment[2] += v * v;
    moment[3] += v * v * v;
    moment[4] += v * v * v * v;
    if (j + 1 < COUNT) neighbour += v * (double)x[j + 1];
    /* the two of one Box-Muller pair share a radius: their squares must be unrelated all the same */
    if (j % 2 == 0) pair += (v * v - 1.0) * ((double)x[j + 1] * (double)x[j + 1] - 1.0);
    for (int t = 0; t < 5; t++) beyond[t] += fabs(v) > tails[t];
  }
  const double root = sqrt(COUNT);
  assert_near(moment[1] / COUNT, 0.0, 5.0 * 1.0 / root);
  assert_near(moment[2] / COUNT, 1.0, 5.0 * sqrt(2.0) / root);
  assert_near(moment[3] / COUNT, 0.0, 5.0 * sqrt(15.0) / root);
  assert_near(moment[4] / COUNT, 3.0, 5.0 * sqrt(96.0) / root);
  assert_near(neighbour / COUNT, 0.0, 5.0 / root);
  assert_near(pair / (COUNT / 2), 0.0, 5.0 * 2.0 / sqrt(COUNT / 2));
  for (int t = 0; t < 5; t++) {
    const double share = erfc(tails[t] / sqrt(2.0));
    assert_near((double)beyond[t], share * COUNT, 5.0 * sqrt(share * (1.0 - share) * COUNT));
  }
}

static void words_are_balanced_in_every_bit(void **state) {
  (void)state;
  enum { COUNT = 400000 };
  int64_t ones[32] = {0};
  for (uint64_t i = 0; i < COUNT; i++) {
    const uint32_t word = sntk_rng_word(17, SNTK_STREAM_SIGNS, i);
    for (int b = 0; b < 32; b++) ones[b] += word >> b & 1;
  }
  for (int b = 0; b < 32; b++) assert_near((double)ones[b], COUNT / 2.0, 5.0 * sqrt(COUNT) / 2.0);
}

#define TEST(f) cmocka_unit_test_teardown(f, pool_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(known_answers),
      TEST(words_map_to_seed_stream_and_index),
      TEST(uniforms_are_the_top_bits_of_two_words),
      TEST(normals_are_box_muller),
      TEST(batches_equal_singles_wherever_they_begin),
      TEST(batches_of_words_equal_single_words),
      TEST(a_sequence_is_the_prefix_of_a_longer_one),
      TEST(seeds_and_streams_are_unrelated),
      TEST(moments_and_tails),
      TEST(words_are_balanced_in_every_bit),
  };
  return cmocka_run_group_tests_name("rng", tests, NULL, NULL);
}
