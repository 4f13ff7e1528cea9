/**
 * @file test_config.c
 * @brief The configuration: what is taken, what is refused and with which words and position, --set, grid, JSON,
 * --help.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/config_internal.h"
#include "softntk/data.h"
#include "softntk/network.h"
#include "softntk/train.h"

static char folder[] = "/tmp/softntk_config_XXXXXX";
static char home[4096];
static sntk_context *ctx;

/* ---- fixtures: the tests run in a folder of their own, so that file names in messages are short --------------------
 */

static int enter_folder(void **state) {
  (void)state;
  if (sntk_context_create(&ctx) != SNTK_OK) return 1;
  return !getcwd(home, sizeof home) || !mkdtemp(folder) || chdir(folder) || mkdir("sub", 0700);
}

static int leave_folder(void **state) {
  (void)state;
  sntk_context_free(ctx);
  unlink("t.yaml");
  unlink("sub/t.yaml");
  return rmdir("sub") || chdir(home) || rmdir(folder);
}

static void write_bytes(const char *path, const void *bytes, size_t size) {
  FILE *file = fopen(path, "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(bytes, 1, size, file), size);
  assert_int_equal(fclose(file), 0);
}

static sntk_config *load(const char *path) {
  sntk_config *config;
  const sntk_status status = sntk_config_load(ctx, path, &config);
  if (status != SNTK_OK) fail_msg("%s", sntk_context_error(ctx));
  assert_non_null(config);
  return config;
}

static sntk_config *load_text(const char *text) {
  write_bytes("t.yaml", text, strlen(text));
  return load("t.yaml");
}

static void set(sntk_config *config, const char *assignment) {
  if (sntk_config_set(ctx, config, assignment) != SNTK_OK) fail_msg("%s: %s", assignment, sntk_context_error(ctx));
}

static void assert_one_line(const char *text) {
  assert_int_equal(strcspn(text, "\n\r\t"), strlen(text));
  assert_true(strlen(text) > 0);
}

/* The file is refused with a text that starts with `start` and has `has` in it. */
static void assert_bytes_refused(const void *bytes, size_t size, const char *start, const char *has) {
  sntk_config *config = (sntk_config *)&ctx; /* must be set to NULL */
  write_bytes("t.yaml", bytes, size);
  assert_int_equal(sntk_config_load(ctx, "t.yaml", &config), SNTK_ERR_CONFIG);
  assert_null(config);
  const char *text = sntk_context_error(ctx);
  assert_one_line(text);
  if (strncmp(text, start, strlen(start)) || !strstr(text, has))
    fail_msg("got \"%s\", want \"%s ... %s\"", text, start, has);
}

static void assert_refused(const char *text, const char *start, const char *has) {
  assert_bytes_refused(text, strlen(text), start, has);
}

static void assert_set_refused(const char *assignment, const char *start, const char *has) {
  sntk_config *config = load(NULL);
  assert_int_equal(sntk_config_set(ctx, config, assignment), SNTK_ERR_CONFIG);
  const char *text = sntk_context_error(ctx);
  assert_one_line(text);
  if (strncmp(text, start, strlen(start)) || !strstr(text, has))
    fail_msg("%s: got \"%s\", want \"%s ... %s\"", assignment, text, start, has);
  sntk_config_free(config);
}

/* "key=value" is refused. */
static void assert_value_refused(const char *key, const char *value) {
  char assignment[256], start[256];
  snprintf(assignment, sizeof assignment, "%s=%s", key, value);
  snprintf(start, sizeof start, "--set: %s: ", key);
  assert_set_refused(assignment, start, "; give ");
}

static void assert_value_taken(const char *key, const char *value) {
  char assignment[256];
  sntk_config *config = load(NULL);
  snprintf(assignment, sizeof assignment, "%s=%s", key, value);
  set(config, assignment);
  assert_true(sntk_config_given(config, key));
  sntk_config_free(config);
}

/* ---- values --------------------------------------------------------------------------------------------------------
 */

static void test_defaults(void **state) {
  (void)state;
  sntk_config *config = load(NULL);
  const sntk_network_options network = SNTK_NETWORK_OPTIONS_INIT;
  const sntk_data_options data = SNTK_DATA_OPTIONS_INIT;
  const sntk_train_options train = SNTK_TRAIN_OPTIONS_INIT;
  int64_t count = -1;
  assert_string_equal(sntk_config_text(config, "name"), "run");
  assert_int_equal(sntk_config_int(config, "seed"), network.seed);
  assert_int_equal(sntk_config_choice(config, "precision"), network.precision);
  assert_string_equal(sntk_config_text(config, "backend"), "auto");
  assert_int_equal(sntk_config_int(config, "threads"), 0);
  assert_true(sntk_config_real(config, "network.sigma") == network.sigma);
  assert_int_equal(sntk_config_choice(config, "network.scale"), network.scale);
  assert_int_equal(sntk_config_choice(config, "network.init"), network.init);
  assert_int_equal(sntk_config_choice(config, "network.form"), network.form);
  assert_int_equal(sntk_config_choice(config, "data.normalize"), data.normalize);
  assert_int_equal(sntk_config_int(config, "data.seed"), data.seed);
  assert_int_equal(sntk_config_int(config, "data.clusters"), data.clusters);
  assert_true(sntk_config_real(config, "data.spread") == data.spread);
  assert_int_equal(sntk_config_int(config, "data.teacher_width"), data.teacher_width);
  assert_int_equal(sntk_config_int(config, "data.harmonic_degree"), data.harmonic_degree);
  assert_string_equal(sntk_config_text(config, "data.header"), "auto");
  assert_null(sntk_config_ints(config, "data.label_columns", &count));
  assert_int_equal(count, 0);
  assert_int_equal(sntk_config_int(config, "data.test_samples"), data.test_samples);
  assert_int_equal(sntk_config_int(config, "train.steps"), train.steps);
  assert_int_equal(sntk_config_choice(config, "train.eta"), train.eta_rule);
  assert_true(sntk_config_real(config, "train.tolerance") == train.tolerance);
  assert_true(sntk_config_real(config, "train.theory_c") == train.theory_c);
  assert_true(sntk_config_real(config, "train.theory_delta") == train.theory_delta);
  assert_int_equal(sntk_config_int(config, "train.record_every"), train.record_every);
  assert_int_equal(sntk_config_int(config, "train.kernel_every"), train.kernel_every);
  assert_true(sntk_config_real(config, "train.divergence") == train.divergence);
  assert_int_equal(sntk_config_int(config, "width.min_width"), 2);
  assert_int_equal(sntk_config_int(config, "width.max_width"), 65536);
  assert_true(sntk_config_real(config, "width.resolution") == 0.0);
  assert_true(sntk_config_real(config, "width.lambda_ratio") == 0.5);
  assert_int_equal(sntk_config_int(config, "width.steps_factor"), 4);
  assert_true(sntk_config_bool(config, "ntk.eigenvalues"));
  assert_true(sntk_config_bool(config, "ntk.infinite"));
  assert_string_equal(sntk_config_text(config, "ntk.matrix"), "full");
  assert_int_equal(sntk_config_int(config, "ntk.block"), 512);
  assert_null(sntk_config_ints(config, "ntk.pairs", &count));
  assert_false(sntk_config_bool(config, "ntk.prefixes"));
  assert_int_equal(sntk_config_int(config, "ntk.min_prefix"), 1024);
  assert_string_equal(sntk_config_text(config, "ntk.solver"), "auto");
  assert_false(sntk_config_bool(config, "train.linearized"));
  const double *radii = sntk_config_reals(config, "perturb.radii", &count);
  assert_int_equal(count, 5);
  for (int i = 0; i < 5; i++) assert_true(radii[i] == ((const double[]){0.001, 0.00316, 0.01, 0.0316, 0.1})[i]);
  assert_string_equal(sntk_config_text(config, "perturb.radii"), "[0.001,0.00316,0.01,0.0316,0.1]");
  assert_string_equal(sntk_config_origin(config, "perturb.radii"), "default");
  assert_true(sntk_config_has(config, "perturb.radii"));
  assert_int_equal(sntk_config_int(config, "perturb.ascent_steps"), 20);
  assert_true(sntk_config_bool(config, "perturb.convex_region"));
  assert_string_equal(sntk_config_text(config, "sweep.command"), "train");
  assert_false(sntk_config_bool(config, "save.weights"));
  assert_true(sntk_config_bool(config, "save.prefixes"));
  static const char *const without[] = {
      "network.activation", "network.width", "network.outputs",   "network.weights",
      "network.signs",      "data.source",   "data.samples",      "data.dim",
      "data.targets",       "data.inputs",   "data.labels",       "data.label_columns",
      "ntk.method",         "ntk.pairs",     "ntk.prefix_widths", "network.displacement"};
  for (size_t i = 0; i < sizeof without / sizeof *without; i++) assert_false(sntk_config_has(config, without[i]));
  for (int64_t i = 0; i < sntk_config_row_count(); i++)
    assert_false(sntk_config_given(config, sntk_config_row_at(i)->key));
  assert_string_equal(sntk_config_origin(config, "train.steps"), "default");
  assert_string_equal(sntk_config_origin(config, "network.width"), "command line");
  sntk_config_free(config);
}

/* Word k of a row must be enumerator k. */
static void assert_words(const char *key, const int *values, int count) {
  const char *words = sntk_config_row_find(key)->choices;
  for (int i = 0; i < count; i++) {
    char assignment[128];
    const int length = (int)strcspn(words, "|");
    sntk_config *config = load(NULL);
    snprintf(assignment, sizeof assignment, "%s=%.*s", key, length, words);
    set(config, assignment);
    assert_int_equal(sntk_config_choice(config, key), values[i]);
    assert_int_equal(strncmp(sntk_config_text(config, key), words, (size_t)length), 0);
    sntk_config_free(config);
    words += length;
    assert_int_equal(*words, i + 1 < count ? '|' : '\0');
    words++;
  }
}

static void test_words_are_enumerators(void **state) {
  (void)state;
  assert_string_equal(sntk_config_row_find("network.activation")->choices, "softmax|relu|exp|exp_normalized");
  assert_string_equal(sntk_config_row_find("data.source")->choices, "sphere|gaussian|clusters|npy|csv|hdf5|idx");
  assert_string_equal(sntk_config_row_find("data.targets")->choices, "random|teacher|harmonic|values|classes");
  assert_string_equal(sntk_config_row_find("data.normalize")->choices, "none|unit-ball|unit-sphere|standardize");
  assert_words("network.activation", (const int[]){SNTK_SOFTMAX, SNTK_RELU, SNTK_EXP, SNTK_EXP_NORMALIZED}, 4);
  assert_words("network.scale", (const int[]){SNTK_SCALE_NTK, SNTK_SCALE_PAPER}, 2);
  assert_words("network.init", (const int[]){SNTK_INIT_SYMMETRIC, SNTK_INIT_IID}, 2);
  assert_words("network.form", (const int[]){SNTK_FORM_AUTO, SNTK_FORM_PLAIN, SNTK_FORM_DISPLACEMENT}, 3);
  assert_words("precision", (const int[]){SNTK_F32, SNTK_F64}, 2);
  assert_words("data.source",
               (const int[]){SNTK_DATA_SPHERE, SNTK_DATA_GAUSSIAN, SNTK_DATA_CLUSTERS, SNTK_DATA_NPY, SNTK_DATA_CSV,
                             SNTK_DATA_HDF5, SNTK_DATA_IDX},
               7);
  assert_words("data.targets",
               (const int[]){SNTK_TARGETS_RANDOM, SNTK_TARGETS_TEACHER, SNTK_TARGETS_HARMONIC, SNTK_TARGETS_VALUES,
                             SNTK_TARGETS_CLASSES},
               5);
  assert_words("data.normalize",
               (const int[]){SNTK_NORMALIZE_NONE, SNTK_NORMALIZE_UNIT_BALL, SNTK_NORMALIZE_UNIT_SPHERE,
                             SNTK_NORMALIZE_STANDARDIZE},
               4);
  assert_words("train.eta", (const int[]){SNTK_ETA_AUTO, SNTK_ETA_THEORY}, 2);
}

/* The ranges of the contract, spelled out, so that a slip in the table is seen. */
static void test_ranges(void **state) {
  (void)state;
  static const struct {
    const char *key, *low, *high, *below, *above; /* NULL: there is none */
  } cases[] = {
      {"seed", "0", "9223372036854775807", "-1", "9223372036854775808"},
      {"threads", "0", "4096", "-1", "4097"},
      {"network.width", "1", "1099511627776", "0", "1099511627777"},
      {"network.outputs", "1", "65536", "0", "65537"},
      {"network.sigma", "1e-300", "1e4", "0", "10000.001"},
      {"data.samples", "1", "2147483648", "0", "2147483649"},
      {"data.dim", "1", "16777216", "0", "16777217"},
      {"data.test_samples", "0", "2147483648", "-1", "2147483649"},
      {"data.seed", "0", "9223372036854775807", "-1", "9223372036854775808"},
      {"data.clusters", "1", "2147483648", "0", "2147483649"},
      {"data.spread", "0", "1e4", "-1e-300", "10000.001"},
      {"data.teacher_width", "1", "16777216", "0", "16777217"},
      {"data.harmonic_degree", "1", "64", "0", "65"},
      {"train.steps", "0", "1000000000000", "-1", "1000000000001"},
      {"train.eta", "1e-300", "1e30", "0", "1.0000001e30"},
      {"train.tolerance", "0", "1e300", "-1e-300", "1.0000001e300"},
      {"train.theory_c", "1e-300", "1e6", "0", "1000000.1"},
      {"train.theory_delta", "1e-300", "0.9999999", "0", "1"},
      {"train.record_every", "0", "1000000000000", "-1", "1000000000001"},
      {"train.kernel_every", "0", "1000000000000", "-1", "1000000000001"},
      {"train.divergence", "1.0000001", "1e300", "1", "1.0000001e300"},
      {"width.min_width", "1", "1099511627776", "0", "1099511627777"},
      {"width.max_width", "1", "1099511627776", "0", "1099511627777"},
      {"width.resolution", "0", "1", "-1e-300", "1.0000001"},
      {"width.lambda_ratio", "1e-300", "1", "0", "1.0000001"},
      {"width.steps_factor", "1", "1024", "0", "1025"},
      {"ntk.block", "1", "1048576", "0", "1048577"},
      {"ntk.min_prefix", "1", "1099511627776", "0", "1099511627777"},
      {"perturb.ascent_steps", "1", "100000", "0", "100001"},
      {"perturb.lambda_ratio", "1e-300", "0.9999999", "0", "1"},
      {"perturb.max_radius", "1e-300", "1e6", "0", "1000000.1"},
      {"perturb.resolution", "1e-300", "1", "0", "1.0000001"},
  };
  int64_t ranged = 0;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    assert_value_taken(cases[i].key, cases[i].low);
    assert_value_taken(cases[i].key, cases[i].high);
    assert_value_refused(cases[i].key, cases[i].below);
    assert_non_null(strstr(sntk_context_error(ctx), "is out of range"));
    assert_value_refused(cases[i].key, cases[i].above);
    assert_non_null(strstr(sntk_context_error(ctx), "is out of range"));
  }
  for (int64_t i = 0; i < sntk_config_row_count(); i++) {
    const sntk_config_type type = sntk_config_row_at(i)->type;
    ranged += type == SNTK_CONFIG_INT || type == SNTK_CONFIG_REAL || type == SNTK_CONFIG_REAL_OR_CHOICE;
  }
  assert_int_equal(ranged, sizeof cases / sizeof *cases);
}

static void test_whole_numbers(void **state) {
  (void)state;
  static const char *const refused[] = {"64.5",
                                        "64.0",
                                        "1e3",
                                        "010",
                                        "00",
                                        "0x10",
                                        "0o17",
                                        "1_000",
                                        "1,000",
                                        "\"64\"",
                                        "'64'",
                                        "!!int 64",
                                        "nan",
                                        ".inf",
                                        "true",
                                        "sixty",
                                        "+",
                                        "-",
                                        "--1",
                                        "+-1",
                                        "6 4",
                                        "64k",
                                        "[64]",
                                        "{a: 64}",
                                        "",
                                        "~",
                                        "null",
                                        "\"\"",
                                        "|\n  64",
                                        "64\\0",
                                        "1__",
                                        "99999999999999999999999",
                                        "-99999999999999999999999"};
  for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
    char assignment[128];
    snprintf(assignment, sizeof assignment, "network.width=%s", refused[i]);
    assert_set_refused(assignment, "--set: network.width: ", "");
  }
  static const struct {
    const char *text;
    int64_t value;
  } taken[] = {{"64", 64}, {"+64", 64}, {" 64 ", 64}, {"64 # neurons", 64}, {"1099511627776", INT64_C(1) << 40}};
  for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
    char assignment[128];
    sntk_config *config = load(NULL);
    snprintf(assignment, sizeof assignment, "network.width=%s", taken[i].text);
    set(config, assignment);
    assert_int_equal(sntk_config_int(config, "network.width"), taken[i].value);
    sntk_config_free(config);
  }
  assert_set_refused("network.width=64.5",
                     "--set: network.width: 64.5 is not a whole number; give a whole number, decimal, such as 64",
                     ", in [1, 2^40]");
  assert_set_refused("network.width=\"64\"",
                     "--set: network.width: \"64\" is text, not a number: write it without quotes; give ", "64");
  assert_set_refused("seed=-1", "--set: seed: -1 is out of range; give ", "[0, 2^63 - 1]");
  sntk_config *config = load(NULL);
  set(config, "seed=-0");
  assert_int_equal(sntk_config_int(config, "seed"), 0);
  assert_string_equal(sntk_config_text(config, "seed"), "0");
  sntk_config_free(config);
}

static void test_reals(void **state) {
  (void)state;
  static const char *const refused[] = {"1e400",   "-1e400", "1e-400",   "nan",   "NaN",   ".nan", "inf",
                                        "-inf",    ".inf",   "infinity", "0x1p3", "010.5", "1e",   "1e+",
                                        "e5",      ".",      "-",        "1.2.3", "1 2",   "1,5",  "1_0",
                                        "\"1.5\"", "1.5f",   "1d3",      "[1.5]", "true",  ""};
  for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
    assert_value_refused("network.sigma", refused[i]);
    assert_value_refused("train.eta", refused[i]);
  }
  static const struct {
    const char *given, *canonical;
    double value;
  } taken[] = {{"1", "1", 1.0},
               {"1.", "1", 1.0},
               {".5", "0.5", 0.5},
               {"+0.1", "0.1", 0.1},
               {"1e-04", "0.0001", 1e-4},
               {"1E+2", "100", 100.0},
               {"0.30000000000000004", "0.30000000000000004", 0.30000000000000004},
               {"0.1234567890123456", "0.1234567890123456", 0.1234567890123456},
               {"5e-324", "4.94065645841247e-324", 5e-324}};
  for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
    char assignment[128];
    sntk_config *config = load(NULL);
    double number = NAN;
    snprintf(assignment, sizeof assignment, "network.sigma=%s", taken[i].given);
    set(config, assignment);
    assert_true(sntk_config_real(config, "network.sigma") == taken[i].value);
    assert_string_equal(sntk_config_text(config, "network.sigma"), taken[i].canonical);
    snprintf(assignment, sizeof assignment, "train.eta=%s", taken[i].given);
    set(config, assignment);
    assert_true(sntk_config_number(config, "train.eta", &number));
    assert_true(number == taken[i].value);
    assert_int_equal(sntk_config_choice(config, "train.eta"), SNTK_ETA_VALUE);
    sntk_config_free(config);
  }
  sntk_config *config = load(NULL);
  double number = 7.0;
  set(config, "train.eta=theory");
  assert_false(sntk_config_number(config, "train.eta", &number));
  assert_true(number == 7.0);
  assert_string_equal(sntk_config_text(config, "train.eta"), "theory");
  set(config, "data.spread=-0.0");
  assert_false(signbit(sntk_config_real(config, "data.spread")));
  sntk_config_free(config);
  assert_set_refused("train.eta=theroy",
                     "--set: train.eta: theroy is neither a finite decimal number nor a word of this key",
                     "did you mean theory?");
  assert_set_refused("network.sigma=1e400",
                     "--set: network.sigma: 1e400 is too large for a float64; give a decimal number in (0, 10000]", "");
  assert_set_refused("network.sigma=1e-400", "--set: network.sigma: 1e-400 is too small for a float64", "");
}

static void set_lists_of_reals(void) {
  int64_t count = 0;
  sntk_config *config = load(NULL);
  set(config, "perturb.radii=[1, 1e-3, .5, 5e-324, 0.30000000000000004, 1000000]");
  const double *radii = sntk_config_reals(config, "perturb.radii", &count);
  assert_int_equal(count, 6);
  for (int i = 0; i < 6; i++)
    assert_true(radii[i] == ((const double[]){1, 1e-3, 0.5, 5e-324, 0.30000000000000004, 1e6})[i]);
  assert_string_equal(sntk_config_text(config, "perturb.radii"),
                      "[1,0.001,0.5,4.94065645841247e-324,0.30000000000000004,1000000]");
  assert_string_equal(sntk_config_origin(config, "perturb.radii"), "--set");
  assert_true(sntk_config_given(config, "perturb.radii"));
  sntk_config *point; /* a copy */
  assert_int_equal(sntk_config_grid_point(ctx, config, 0, &point), SNTK_OK);
  set(config, "perturb.radii=[]");
  assert_null(sntk_config_reals(config, "perturb.radii", &count));
  assert_int_equal(count, 0);
  assert_string_equal(sntk_config_text(config, "perturb.radii"), "[]");
  sntk_config_free(config);
  assert_true(sntk_config_reals(point, "perturb.radii", &count)[5] == 1e6);
  assert_int_equal(count, 6);
  sntk_config_free(point);
  /* As long as a file may have them, each with all its digits. */
  enum { LONGEST = 60000 };
  char *text = malloc(LONGEST * 24 + 64);
  assert_non_null(text);
  char *end = text + sprintf(text, "perturb.radii=[1");
  for (int i = 1; i < LONGEST; i++) end += sprintf(end, ",2.0749139528992097e-300");
  sprintf(end, "]");
  config = load(NULL);
  set(config, text);
  assert_true(sntk_config_reals(config, "perturb.radii", &count)[LONGEST - 1] == 2.0749139528992097e-300);
  assert_int_equal(count, LONGEST);
  assert_string_equal(sntk_config_text(config, "perturb.radii"), text + strlen("perturb.radii="));
  sntk_config_free(config);
  free(text);
  static const char *const refused[] = {"3",     "0.5",    "[0]",    "[-1]", "[1, 1000001]", "[\"1\"]",
                                        "[[1]]", "[1, ~]", "{1: 2}", "",     "[1e400]",      "[1e-400]",
                                        "[nan]", "[.inf]", "[a]",    "[010]"};
  for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) assert_value_refused("perturb.radii", refused[i]);
  assert_set_refused("perturb.radii=[0]",
                     "--set: perturb.radii: 0 is out of range; give a list of decimal numbers such as [0.5, 1e-3], "
                     "each in (0, 1000000]",
                     "");
  assert_refused("perturb:\n  radii: [1, x]\n",
                 "t.yaml:2:14: perturb.radii: x is not a finite decimal number; give a list of decimal numbers", "");
  assert_refused("perturb:\n  radii: 1\n", "t.yaml:2:10: perturb.radii: 1 is not a list; give a list of", "");
}

static void test_words_bools_lists_names(void **state) {
  (void)state;
  static const char *const bools[] = {"True", "TRUE", "on", "1", "\"true\"", "y", "", "[true]"};
  for (size_t i = 0; i < sizeof bools / sizeof *bools; i++) assert_value_refused("save.weights", bools[i]);
  static const struct {
    const char *text;
    bool value;
  } taken[] = {{"true", true}, {"yes", true}, {"false", false}, {"no", false}};
  for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
    char assignment[64];
    sntk_config *config = load(NULL);
    snprintf(assignment, sizeof assignment, "ntk.infinite=%s", taken[i].text);
    set(config, assignment);
    assert_int_equal(sntk_config_bool(config, "ntk.infinite"), taken[i].value);
    assert_string_equal(sntk_config_text(config, "ntk.infinite"), taken[i].value ? "true" : "false");
    sntk_config_free(config);
  }
  static const char *const words[] = {"Softmax", "soft", "softmax|relu", "relux", "", "1", "[relu]", "~"};
  for (size_t i = 0; i < sizeof words / sizeof *words; i++) assert_value_refused("network.activation", words[i]);
  assert_set_refused("network.activation=sofmax",
                     "--set: network.activation: sofmax is not a word of this key (did you mean softmax?); "
                     "give one of softmax, relu, exp",
                     "");
  assert_value_taken("network.activation", "\"relu\""); /* a quoted word is the same text */
  assert_value_taken("data.normalize", "none");
  assert_value_taken("data.header", "no");

  int64_t count = 0;
  sntk_config *config = load(NULL);
  set(config, "data.label_columns=[0, -1, 2147483647]");
  const int64_t *columns = sntk_config_ints(config, "data.label_columns", &count);
  assert_int_equal(count, 3);
  assert_int_equal(columns[1], -1);
  assert_int_equal(columns[2], INT32_MAX);
  assert_string_equal(sntk_config_text(config, "data.label_columns"), "[0,-1,2147483647]");
  set(config, "data.label_columns=[]");
  assert_null(sntk_config_ints(config, "data.label_columns", &count));
  assert_int_equal(count, 0);
  assert_true(sntk_config_given(config, "data.label_columns"));
  sntk_config_free(config);
  static const char *const lists[] = {"3", "[0.5]", "[\"1\"]", "[[1]]", "[1, ~]", "{1: 2}", "", "[2147483648]", "[a]"};
  for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) assert_value_refused("data.label_columns", lists[i]);

  set_lists_of_reals();

  static const char *const names[] = {"", ".", "..", "\"\"", "a/b", "/", "~", "null", "\"a\\nb\"", "\"a\\0b\"", "[a]"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) assert_value_refused("name", names[i]);
  assert_value_taken("name", "2024");
  assert_value_taken("name", "\"null\"");
  assert_value_taken("name", "a..");
  assert_value_refused("data.inputs", "\"\"");
  assert_value_refused("data.inputs", "~");
  assert_value_refused("data.inputs", "\"x\\0y\"");
}

/* ---- files ---------------------------------------------------------------------------------------------------------
 */

static void test_file(void **state) {
  (void)state;
  sntk_config *config = load_text(
      "# an example\n"
      "name: example\n"
      "seed: 7\n"
      "network: {activation: relu, width: 4096, sigma: 0.5}\n"
      "data:\n"
      "  source: csv\n"
      "  inputs: x.csv\n"
      "  label_columns:\n"
      "    - 0\n"
      "    - -1\n"
      "train: {eta: 1.0e-2}\n"
      "save: {}\n");
  double eta = 0;
  assert_string_equal(sntk_config_text(config, "name"), "example");
  assert_int_equal(sntk_config_choice(config, "network.activation"), SNTK_RELU);
  assert_int_equal(sntk_config_int(config, "network.width"), 4096);
  assert_true(sntk_config_real(config, "network.sigma") == 0.5);
  assert_true(sntk_config_number(config, "train.eta", &eta));
  assert_true(eta == 1.0e-2);
  assert_string_equal(sntk_config_text(config, "data.inputs"), "x.csv");
  assert_string_equal(sntk_config_origin(config, "network.width"), "t.yaml:4:36");
  assert_string_equal(sntk_config_origin(config, "data.label_columns"), "t.yaml:9:5");
  assert_string_equal(sntk_config_origin(config, "network.scale"), "default");
  assert_string_equal(sntk_config_origin(config, "network.outputs"), "t.yaml");
  assert_true(sntk_config_given(config, "seed"));
  assert_false(sntk_config_given(config, "network.scale"));
  assert_false(sntk_config_given(config, "data.seed"));
  assert_int_equal(sntk_config_int(config, "data.seed"), 7);
  assert_string_equal(sntk_config_origin(config, "data.seed"), "t.yaml:3:7");
  set(config, "data.seed=3");
  assert_int_equal(sntk_config_int(config, "data.seed"), 3);
  sntk_config_free(config);
}

static void test_file_errors(void **state) {
  (void)state;
  static const struct {
    const char *text, *start, *has;
  } cases[] = {
      {"network:\n  width: 64.5\n",
       "t.yaml:2:10: network.width: 64.5 is not a whole number; give a whole number, decimal, such as 64", ""},
      {"network:\n  activation: relu\n  width: 0\n", "t.yaml:3:10: network.width: 0 is out of range; give ",
       "[1, 2^40]"},
      {"network:\n  width:\n", "t.yaml:2:9: network.width: the value is empty; give a whole number", "or leave it out"},
      {"network:\n  width: ~\n", "t.yaml:2:10: network.width: the value is empty: ~; give ", ""},
      {"network:\n  width: [1]\n", "t.yaml:2:10: network.width: a list is not what this key takes; give a whole number",
       ""},
      {"network:\n  width: {a: 1}\n", "t.yaml:2:10: network.width: a mapping is not what this key takes; give ", ""},
      {"network: {width: \"64\"}\n",
       "t.yaml:1:18: network.width: \"64\" is text, not a number: write it without quotes; give ", ""},
      {"network:\n  widht: 64\n", "t.yaml:2:3: network.widht: is not a key; did you mean network.width?", ""},
      {"network:\n  colour: 64\n",
       "t.yaml:2:3: network.colour: is not a key; the keys there are activation, width, outputs, ", "signs"},
      {"netwrok: {width: 64}\n", "t.yaml:1:1: netwrok: is not a key; did you mean network?", ""},
      {"gird: {seed: [1]}\n", "t.yaml:1:1: gird: is not a key; did you mean grid?", ""},
      {"activation: relu\n", "t.yaml:1:1: activation: is not a key; did you mean network.activation?", ""},
      {"data: {width: 4}\n", "t.yaml:1:8: data.width: is not a key; did you mean network.width?", ""},
      {"zzzzzz: 1\n", "t.yaml:1:1: zzzzzz: is not a key; the keys there are name, seed, ",
       "network, data, train, width, ntk, perturb, sweep, save, grid"},
      {"network.width: 64\n",
       "t.yaml:1:1: network.width: a dotted key belongs in grid; write it as width under network:", ""},
      {"network: 64\n", "t.yaml:1:10: network: 64 is not a section's content; give keys under it, such as activation",
       ""},
      {"network:\nseed: 1\n", "t.yaml:1:9: network: nothing is not a section's content; give keys", ""},
      {"network: [a]\n", "t.yaml:1:10: network: a list is not a section's content", ""},
      {"width: 64\n",
       "t.yaml:1:8: width: 64 is not a section's content; give keys under it, such as min_width, or did you mean "
       "network.width?",
       ""},
      {"seed: 1\nnetwork:\n  width: 64\n  outputs: 1\n  width: 32\n",
       "t.yaml:5:3: network.width: is given twice, first at line 3; keep one", ""},
      {"network: {width: 64}\nseed: 1\nnetwork: {outputs: 1}\n",
       "t.yaml:3:1: network: is given twice, first at line 1; keep one", ""},
      {"seed: 1\n\"seed\": 2\n", "t.yaml:2:1: \"seed\": is given twice, first at line 1", ""},
      {"[a]: 1\n", "t.yaml:1:1: a list: cannot be a key; give a word", ""},
      {"? {a: 1}\n: 1\n", "t.yaml:1:3: a mapping: cannot be a key", ""},
      {"network: {[a]: 1}\n", "t.yaml:1:11: network.a list: cannot be a key", ""},
      {"\"se\\0ed\": 1\n", "t.yaml:1:1: \"se\\x00ed\": is not a key: it has a NUL character", ""},
      {"~: 1\n", "t.yaml:1:1: ~: is not a key", ""},
      {"a: &a {width: 1}\nnetwork: {<<: *a}\n", "t.yaml:1:1: a: is not a key", ""},
      {"network: &a {width: 2}\ndata: {<<: *a}\n",
       "t.yaml:2:8: data.<<: merge keys are not supported; write the keys out", ""},
      {"seed: !!int 1\n", "t.yaml:1:7: a tag (\"!\") has no use here; leave it out", ""},
      {"seed: ! 1\n", "t.yaml:1:7: a tag", ""},
      {"network: !x {width: 1}\n", "t.yaml:1:10: a tag", ""},
      {"data: {label_columns: !x [1]}\n", "t.yaml:1:23: a tag", ""},
      {"seed: 1\n---\nseed: 2\n", "t.yaml:2:1: a second document starts here; a configuration is one document", ""},
      {"seed: 1\n...\nseed: 2\n", "t.yaml:3:1: this is not valid YAML: did not find expected <document start>", ""},
      {"", "t.yaml:1:1: the file is empty; give keys such as network: {activation: softmax, width: 64}", ""},
      {"# only\n\n# comments\n", "t.yaml:1:1: the file is empty", ""},
      {"---\n", "t.yaml:1:1: the file is empty", ""},
      {"{}\n", "t.yaml:1:1: the file is empty", ""},
      {"\xef\xbb\xbf", "t.yaml:1:1: the file is empty", ""},
      {"- seed\n", "t.yaml:1:1: a list is not a mapping; give keys such as", ""},
      {"seed\n", "t.yaml:1:1: seed is not a mapping; give keys such as", ""},
      {"seed: *x\n", "t.yaml:1:7: this is not valid YAML: found undefined alias", ""},
      {"network: {width: 64\n", "t.yaml:2:1: this is not valid YAML: did not find expected ',' or '}'",
       "indent with spaces"},
      {"network:\n\twidth: 64\n", "t.yaml:2:1: this is not valid YAML: found character that cannot start any token",
       "no tabs"},
      {"name: \"a\n", "t.yaml:2:1: this is not valid YAML: found unexpected end of stream",
       "close brackets and quotes"},
      {"network:\n  width: 1\n outputs: 2\n", "t.yaml:3:2: this is not valid YAML: ", ""},
      {"seed: 1\nname: \xff\n",
       "t.yaml:2:7: this is not UTF-8 text: invalid leading UTF-8 octet 0xFF; save it as UTF-8", ""},
      {"seed: 1\nname: \xc3\xa9\x01\n", "t.yaml:2:8: this is not UTF-8 text: control characters are not allowed 0x01",
       ""},
      {"name: \xc3", "t.yaml:1:7: this is not UTF-8 text: incomplete UTF-8 octet sequence; save", ""},
      {"\xff\xfes\0", "t.yaml:1:1: this is not UTF-8 text: invalid leading UTF-8 octet 0xFF", ""},
      {"grid: [1]\n",
       "t.yaml:1:7: grid: a list is not a section's content; give keys under it, such as network.width: [64, 128]", ""},
      {"name: \xc3\xa9t\xc3\xa9\nseed: x\n", "t.yaml:2:7: seed: x is not", ""},
      {"{name: \"\xc3\xa9t\xc3\xa9\", seed: x}\n", "t.yaml:1:21: seed: x is not",
       ""}, /* columns are characters, not bytes */
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) assert_refused(cases[i].text, cases[i].start, cases[i].has);
  static const char nul[] = "seed: 1\nname: a\0b\n";
  assert_bytes_refused(nul, sizeof nul - 1,
                       "t.yaml:2:8: this is not UTF-8 text: control characters are not allowed 0x00", "");
}

static void test_byte_order_mark(void **state) {
  (void)state;
  sntk_config *config = load_text("\xef\xbb\xbfseed: 3\nname: x\n");
  assert_int_equal(sntk_config_int(config, "seed"), 3);
  assert_string_equal(sntk_config_origin(config, "seed"), "t.yaml:1:7");
  sntk_config_free(config);
  assert_refused("\xef\xbb\xbfseed: 3\nnaem: x\n", "t.yaml:2:1: naem: is not a key; did you mean name?", "");
}

static void test_unreadable_files(void **state) {
  (void)state;
  sntk_config *config;
  char text[256];
  static const struct {
    const char *path;
    int error;
  } cases[] = {{"absent.yaml", ENOENT}, {"sub", EISDIR}, {"sub/absent.yaml", ENOENT}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    assert_int_equal(sntk_config_load(ctx, cases[i].path, &config), SNTK_ERR_IO);
    assert_null(config);
    snprintf(text, sizeof text, "%s: the file cannot be read: %s; give the path of a YAML file", cases[i].path,
             strerror(cases[i].error));
    assert_string_equal(sntk_context_error(ctx), text);
  }
  assert_int_equal(sntk_config_load(NULL, "absent.yaml", &config), SNTK_ERR_IO); /* a context is not needed */
  assert_int_equal(sntk_config_load(ctx, "", &config), SNTK_ERR_IO);
  assert_int_equal(strncmp(sntk_context_error(ctx), "\"\": ", 4), 0);
}

/* A text of `count` times `part` between `before` and `after`. */
static char *repeated(const char *before, const char *part, size_t count, const char *after) {
  const size_t size = strlen(part);
  char *text = malloc(strlen(before) + count * size + strlen(after) + 1);
  assert_non_null(text);
  strcpy(text, before);
  char *p = text + strlen(before);
  for (size_t i = 0; i < count; i++, p += size) memcpy(p, part, size);
  strcpy(p, after);
  return text;
}

static void assert_repeated_refused(const char *before, const char *part, size_t count, const char *after,
                                    const char *start, const char *has) {
  char *text = repeated(before, part, count, after);
  assert_refused(text, start, has);
  free(text);
}

static void test_limits(void **state) {
  (void)state;
  enum { MIB = 1 << 20 };
  assert_repeated_refused("seed: 1\n#", "x", 16 * MIB, "\n",
                          "t.yaml: the file is larger than 16 MiB; give a configuration", "");
  assert_repeated_refused("seed: ", "[", 33, "", "t.yaml:1:38: nested more than 32 deep", "");
  assert_repeated_refused("seed: ", "[", MIB, "", "t.yaml:1:38: nested more than 32 deep", "");
  assert_repeated_refused("seed:\n  ", "- ", MIB, "", "t.yaml:2:", "nested more than 32 deep");
  assert_repeated_refused("", "{a: ", MIB, "", "t.yaml:1:", "nested more than 32 deep");
  assert_repeated_refused("grid: {seed: [", "1,", 65536, "]}", "t.yaml:1:", "more than 65536 values");
  assert_repeated_refused("seed: &a 1\ndata: {label_columns: [", "*a,", 100, "]}",
                          "t.yaml:2:", "more than 100 anchors");
  assert_repeated_refused("data: {label_columns: [", "&a 1,", 101, "]}", "t.yaml:1:", "more than 100 anchors");
  /* A long value, key or path is shortened, and the error stays one line with its cure. */
  assert_repeated_refused("seed: ", "1", MIB, "", "t.yaml:1:7: seed: 1111", "1... is out of range; give ");
  assert_repeated_refused("seed: \"", "\\n", 1000, "\"", "t.yaml:1:7: seed: \"\\n\\n", "...\" is text");
  assert_repeated_refused("\"", "k", 1000, "\": 1", "t.yaml:1:1: kkkk", "k...: is not a key; the keys there are ");
  assert_repeated_refused("grid:\n  data.label_columns: [&a [", "1,", 1000, "], *a]",
                          "t.yaml:2:24: grid.data.label_columns: [1,1,",
                          "... is in the list twice (value 1 and value 2); keep one of the two");
  char *path = repeated("sub/", "../sub/", 60, "absent.yaml");
  sntk_config *config;
  assert_int_equal(sntk_config_load(ctx, path, &config), SNTK_ERR_IO);
  assert_int_equal(strncmp(sntk_context_error(ctx), "...", 3), 0);
  assert_non_null(strstr(sntk_context_error(ctx), "/sub/absent.yaml: the file cannot be read: "));
  free(path);
}

static void test_aliases(void **state) {
  (void)state;
  sntk_config *config = load_text(
      "seed: &s 5\ndata: {seed: *s, samples: &n 64}\nnetwork: {width: *n}\n"
      "grid: {network.outputs: &axis [1, 2], data.dim: *axis}\n");
  assert_int_equal(sntk_config_int(config, "data.seed"), 5);
  assert_int_equal(sntk_config_int(config, "network.width"), 64);
  assert_int_equal(sntk_config_grid_count(config), 4);
  sntk_config_free(config);
  assert_refused("seed: &s 5.5\n", "t.yaml:1:7: seed: 5.5 is not", "");
  assert_refused("data: {label_columns: &a [*a]}\n",
                 "t.yaml:1:23: data.label_columns: a list is not what this key takes", "");
  assert_refused("network: &a {width: *a}\n", "t.yaml:1:10: network.width: a mapping is not what this key takes", "");
  assert_refused("&a grid: {*a : [1]}\n", "t.yaml:1:1: grid.grid: is not a key", "");
}

static void test_paths_and_name(void **state) {
  (void)state;
  static const char text[] =
      "data: {source: hdf5, inputs: 'x.h5:/a/b', labels: /abs/y.h5}\nnetwork: {weights: ../w.npy}\n";
  write_bytes("sub/t.yaml", text, sizeof text - 1);
  sntk_config *config = load("sub/t.yaml");
  assert_string_equal(sntk_config_text(config, "name"), "t");
  assert_string_equal(sntk_config_text(config, "data.inputs"), "sub/x.h5:/a/b");
  assert_string_equal(sntk_config_text(config, "data.labels"), "/abs/y.h5");
  assert_string_equal(sntk_config_text(config, "network.weights"), "sub/../w.npy");
  assert_string_equal(sntk_config_origin(config, "data.inputs"), "sub/t.yaml:1:30");
  set(config, "data.inputs=z.h5:/c");
  assert_string_equal(sntk_config_text(config, "data.inputs"), "z.h5:/c");
  set(config, "network.weights=\"a: b #c.npy\"");
  assert_string_equal(sntk_config_text(config, "network.weights"), "a: b #c.npy");
  sntk_config_free(config);

  static const struct {
    const char *path, *name;
  } names[] = {{"sub/a.b.yaml", "a.b"},
               {"sub/.yaml", ".yaml"},
               {"sub/plain", "plain"},
               {"sub/..yaml", "run"},
               {"./null.yaml", "null"}};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    write_bytes(names[i].path, "seed: 1\n", 8);
    config = load(names[i].path);
    assert_int_equal(unlink(names[i].path), 0);
    assert_string_equal(sntk_config_text(config, "name"), names[i].name);
    assert_false(sntk_config_given(config, "name"));
    sntk_config_free(config);
  }
}

/* A program that sets a locale with a decimal comma must read and write the same numbers. */
static void test_locale(void **state) {
  (void)state;
  static const char *const commas[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "nl_NL.UTF-8", "ru_RU.UTF-8"};
  bool found = false;
  for (size_t i = 0; !found && i < sizeof commas / sizeof *commas; i++) found = setlocale(LC_ALL, commas[i]) != NULL;
  if (!found) {
    print_message("skipped: no locale with a decimal comma is installed\n");
    skip();
  }
  sntk_config *config = load_text("network: {sigma: 0.25}\n");
  const double sigma = sntk_config_real(config, "network.sigma");
  char text[16];
  snprintf(text, sizeof text, "%s", sntk_config_text(config, "network.sigma"));
  sntk_config_free(config);
  setlocale(LC_ALL, "C");
  assert_true(sigma == 0.25);
  assert_string_equal(text, "0.25");
}

/* ---- the command line ----------------------------------------------------------------------------------------------
 */

static void test_set(void **state) {
  (void)state;
  sntk_config *config = load_text("seed: 1\nnetwork: {width: 64}\n");
  set(config, "network.width=128");
  set(config, "network.width=256");
  assert_int_equal(sntk_config_int(config, "network.width"), 256);
  assert_string_equal(sntk_config_origin(config, "network.width"), "--set");
  assert_int_equal(sntk_config_set(ctx, config, "network.width=x"), SNTK_ERR_CONFIG);
  assert_int_equal(sntk_config_int(config, "network.width"), 256); /* a failure changes nothing */
  set(config, "name=a=b");
  assert_string_equal(sntk_config_text(config, "name"), "a=b");
  assert_int_equal(sntk_config_set_value(ctx, config, "seed", "12", "--seed"), SNTK_OK);
  assert_int_equal(sntk_config_int(config, "seed"), 12);
  assert_string_equal(sntk_config_origin(config, "seed"), "--seed");
  assert_int_equal(sntk_config_set_value(ctx, config, "seed", "1.5", "--seed"), SNTK_ERR_CONFIG);
  assert_string_equal(
      sntk_context_error(ctx),
      "--seed: seed: 1.5 is not a whole number; give a whole number, decimal, such as 64, in [0, 2^63 - 1]");
  sntk_config_free(config);
  assert_set_refused("network.width",
                     "--set: network.width is not an assignment; give KEY=VALUE, such as network.width=64", "");
  assert_set_refused("", "--set: \"\" is not an assignment", "");
  assert_set_refused("=3", "--set: =3 is not an assignment", "");
  assert_set_refused("network.widht=3", "--set: network.widht: is not a key; did you mean network.width?", "");
  assert_set_refused("netwrk.width=3", "--set: netwrk.width: is not a key; did you mean network.width?", "");
  assert_set_refused("network=3", "--set: network: is a section; set one of its keys, such as network.activation", "");
  assert_set_refused("grid=3", "--set: grid: is a section; set an axis, such as grid.seed=[1, 2]", "");
  assert_set_refused("network.width=", "--set: network.width: the value is empty; give a whole number", "");
  assert_set_refused("network.width=# 64", "--set: network.width: the value is empty", "");
  assert_set_refused("network.width=[1", "--set: network.width: this is not valid YAML: ", "");
  assert_set_refused("network.width=*a", "--set: network.width: this is not valid YAML: ", "");
  assert_set_refused("name=\xff", "--set: name: this is not UTF-8 text: ", "");
  assert_set_refused("data.inputs=a: b",
                     "--set: data.inputs: a mapping is not what this key takes; give the path of a file", "");
  assert_set_refused("seed=1\n--- 2", "--set: seed: a second document starts here", "");
  assert_set_refused("bad\nkey=1", "--set: bad\\nkey: is not a key", "");
}

static void test_error_and_require(void **state) {
  (void)state;
  sntk_config *config = load_text("network: {width: 63}\ngrid: {data.dim: [4]}\n");
  assert_int_equal(sntk_config_error(ctx, config, "network.width", SNTK_ERR_CONFIG, "%d is odd; give an even one", 63),
                   SNTK_ERR_CONFIG);
  assert_string_equal(sntk_context_error(ctx), "t.yaml:1:18: network.width: 63 is odd; give an even one");
  assert_int_equal(sntk_config_error(ctx, config, "train.steps", SNTK_ERR_SHAPE, "x"), SNTK_ERR_SHAPE);
  assert_string_equal(sntk_context_error(ctx), "default: train.steps: x");
  sntk_config_error(ctx, config, "data.dim", SNTK_ERR_CONFIG, "x");
  assert_string_equal(sntk_context_error(ctx), "t.yaml:2:18: data.dim: x");
  assert_int_equal(sntk_config_require(ctx, config, "network.width"), SNTK_OK);
  assert_int_equal(sntk_config_require(ctx, config, "network.sigma"), SNTK_OK);
  assert_int_equal(sntk_config_require(ctx, config, "data.dim"), SNTK_OK);
  assert_false(sntk_config_has(config, "data.dim"));
  assert_false(sntk_config_given(config, "data.dim"));
  assert_int_equal(sntk_config_require(ctx, config, "network.activation"), SNTK_ERR_CONFIG);
  assert_string_equal(sntk_context_error(ctx),
                      "t.yaml: network.activation: is missing (softmax over the width, or a function of each neuron; "
                      "exp_normalized: softmax with its normalizer frozen at initialization); "
                      "give one of softmax, relu, exp, exp_normalized");
  sntk_config_free(config);
  config = load(NULL);
  assert_int_equal(sntk_config_require(ctx, config, "data.source"), SNTK_ERR_CONFIG);
  assert_int_equal(strncmp(sntk_context_error(ctx), "command line: data.source: is missing (", 39), 0);
  sntk_config_free(config);
}

/* ---- the grid ------------------------------------------------------------------------------------------------------
 */

static void assert_id(const sntk_config *config, int64_t index, const char *want) {
  char *id = sntk_config_grid_id(config, index);
  assert_non_null(id);
  assert_string_equal(id, want);
  free(id);
}

static void test_grid(void **state) {
  (void)state;
  sntk_config *config = load_text(
      "network: {width: 8, activation: exp}\n"
      "grid:\n"
      "  network.width: [128, 64]\n"
      "  train.eta: [auto, 0.1, 1e-3]\n"
      "  seed: [1, 2]\n");
  int64_t values = 0;
  double eta = 0;
  assert_int_equal(sntk_config_grid_axes(config), 3);
  assert_int_equal(sntk_config_grid_count(config), 12);
  assert_string_equal(sntk_config_grid_axis(config, 0, &values), "network.width");
  assert_int_equal(values, 2);
  assert_string_equal(sntk_config_grid_axis(config, 1, &values), "train.eta");
  assert_int_equal(values, 3);
  assert_id(config, 0, "network.width=128,train.eta=auto,seed=1");
  assert_id(config, 1, "network.width=128,train.eta=auto,seed=2");
  assert_id(config, 2, "network.width=128,train.eta=0.1,seed=1");
  assert_id(config, 11, "network.width=64,train.eta=0.001,seed=2");
  assert_int_equal(sntk_config_int(config, "network.width"), 8); /* the base stays */
  assert_string_equal(sntk_config_origin(config, "network.width"), "t.yaml:3:18");

  sntk_config *point;
  assert_int_equal(sntk_config_grid_point(ctx, config, 11, &point), SNTK_OK);
  assert_int_equal(sntk_config_int(point, "network.width"), 64);
  assert_true(sntk_config_number(point, "train.eta", &eta));
  assert_true(eta == 1e-3);
  assert_int_equal(sntk_config_int(point, "seed"), 2);
  assert_int_equal(sntk_config_int(point, "data.seed"), 2); /* follows the point's seed */
  assert_int_equal(sntk_config_choice(point, "network.activation"), SNTK_EXP);
  assert_string_equal(sntk_config_origin(point, "network.width"), "t.yaml:3:24");
  assert_string_equal(sntk_config_origin(point, "network.activation"), "t.yaml:1:33");
  assert_true(sntk_config_given(point, "seed"));
  assert_int_equal(sntk_config_grid_axes(point), 0);
  assert_int_equal(sntk_config_grid_count(point), 1);
  assert_id(point, 0, "-");
  sntk_config_free(config); /* a point stands alone */
  assert_int_equal(sntk_config_int(point, "network.width"), 64);
  config = point;
  assert_int_equal(sntk_config_grid_point(ctx, config, 0, &point), SNTK_OK);
  assert_int_equal(sntk_config_int(point, "network.width"), 64);
  sntk_config_free(point);
  for (int64_t index = -1; index <= 1; index += 2) {
    assert_int_equal(sntk_config_grid_point(ctx, config, index, &point), SNTK_ERR_ARGUMENT);
    assert_null(point);
  }
  assert_string_equal(sntk_context_error(ctx), "point 1 is not in the grid; it has 1 points, from 0");
  sntk_config_free(config);
}

static void test_grid_types(void **state) {
  (void)state;
  sntk_config *config =
      load_text("grid: {ntk.infinite: [no, true], data.label_columns: [[0], [1, -2], []], network.sigma: [.5]}\n");
  int64_t count = 0;
  assert_int_equal(sntk_config_grid_count(config), 6);
  assert_id(config, 1, "ntk.infinite=false,data.label_columns=[1,-2],network.sigma=0.5");
  sntk_config *point;
  assert_int_equal(sntk_config_grid_point(ctx, config, 1, &point), SNTK_OK);
  assert_false(sntk_config_bool(point, "ntk.infinite"));
  assert_int_equal(sntk_config_ints(point, "data.label_columns", &count)[1], -2);
  assert_int_equal(count, 2);
  sntk_config_free(point);
  json_t *json = sntk_config_to_json(config),
         *want = json_loads(
             "{\"ntk.infinite\": [false, true], \"data.label_columns\": [[0], [1, -2], []], \"network.sigma\": [0.5]}",
             0, NULL);
  assert_true(json_equal(json_object_get(json, "grid"), want));
  json_decref(json);
  json_decref(want);
  sntk_config_free(config);
}

static void test_grid_errors(void **state) {
  (void)state;
  assert_refused("grid:\n  network.width: [64, 1.5]\n",
                 "t.yaml:2:23: grid.network.width: 1.5 is not a whole number; give ", "");
  assert_refused("grid:\n  network.width: 64\n",
                 "t.yaml:2:18: grid.network.width: 64 is not a list of values; give one in brackets, such as "
                 "network.width: [VALUE, VALUE]",
                 "");
  assert_refused("grid:\n  network.width:\n", "t.yaml:2:17: grid.network.width: nothing is not a list", "");
  assert_refused("grid:\n  network.width: []\n",
                 "t.yaml:2:18: grid.network.width: [] is an empty list; give at least one value", "");
  assert_refused("grid:\n  network.width: [64, [1]]\n", "t.yaml:2:23: grid.network.width: a list is not what", "");
  assert_refused("grid:\n  network.width: [64, ~]\n", "t.yaml:2:23: grid.network.width: the value is empty", "");
  assert_refused("grid:\n  seed: [3, 1, 2, 1, 3]\n",
                 "t.yaml:2:19: grid.seed: 1 is in the list twice (value 2 and value 4); keep one", "");
  assert_refused("grid:\n  train.eta: [0.1, auto, 1e-1]\n",
                 "t.yaml:2:26: grid.train.eta: 0.1 is in the list twice (value 1 and value 3)", "");
  assert_refused("grid:\n  seed: [1]\n  seed: [2]\n", "t.yaml:3:3: grid.seed: is given twice, first at line 2", "");
  assert_refused("grid:\n  network.widht: [1]\n",
                 "t.yaml:2:3: grid.network.widht: is not a key; did you mean network.width?", "");
  assert_refused("grid:\n  network: {width: [1]}\n", "t.yaml:2:3: grid.network: is not a key", "");
  assert_refused("grid:\n  <<: {seed: [1]}\n", "t.yaml:2:3: grid.<<: merge keys are not supported", "");
  static const char *const fixed[] = {"name",
                                      "precision",
                                      "backend",
                                      "threads",
                                      "tensor_cores",
                                      "network.weights",
                                      "network.signs",
                                      "network.displacement",
                                      "data.inputs",
                                      "data.labels",
                                      "width.min_width",
                                      "width.max_width",
                                      "width.resolution",
                                      "width.lambda_ratio",
                                      "width.steps_factor",
                                      "perturb.radii",
                                      "sweep.command",
                                      "save.weights",
                                      "save.prefixes"};
  int64_t axes = sntk_config_row_count();
  for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++, axes--) {
    char text[128], start[128];
    snprintf(text, sizeof text, "grid:\n  %s: [1]\n", fixed[i]);
    snprintf(start, sizeof start, "t.yaml:2:3: grid.%s: cannot be an axis of the grid; give %s one value outside",
             fixed[i], fixed[i]);
    assert_refused(text, start, "");
  }
  for (int64_t i = 0; i < sntk_config_row_count(); i++) axes -= !sntk_config_row_at(i)->no_axis;
  assert_int_equal(axes, 0); /* all others are free to be one */
}

static void test_grid_and_set(void **state) {
  (void)state;
  sntk_config *config = load_text("grid: {network.width: [64, 128], seed: [1, 2]}\n");
  set(config, "grid.train.steps=[10]");
  set(config, "grid.network.width=[32]");
  assert_id(config, 1, "network.width=32,seed=2,train.steps=10"); /* in its old place */
  sntk_config *point;
  assert_int_equal(sntk_config_grid_point(ctx, config, 0, &point), SNTK_OK);
  assert_string_equal(sntk_config_origin(point, "network.width"), "--set");
  sntk_config_free(point);
  set(config, "network.width=16"); /* asked for last: the axis goes */
  assert_id(config, 1, "seed=2,train.steps=10");
  assert_int_equal(sntk_config_grid_point(ctx, config, 0, &point), SNTK_OK);
  assert_int_equal(sntk_config_int(point, "network.width"), 16);
  sntk_config_free(point);
  assert_int_equal(sntk_config_set(ctx, config, "grid.seed=[1, x]"), SNTK_ERR_CONFIG);
  assert_int_equal(strncmp(sntk_context_error(ctx), "--set: grid.seed: x is not a whole number", 41), 0);
  assert_id(config, 1, "seed=2,train.steps=10");
  sntk_config_free(config);
  assert_set_refused("grid.seed=3", "--set: grid.seed: 3 is not a list of values", "");
  assert_set_refused("grid.seed=", "--set: grid.seed: the value is empty; give a list of values", "");
  assert_set_refused("grid.name=[a]", "--set: grid.name: cannot be an axis", "");
  assert_set_refused("grid.sede=[1]", "--set: grid.sede: is not a key; did you mean seed?", "");
  assert_set_refused("grid.=[1]", "--set: grid.: is not a key", "");
}

/* Axes whose product does not fit 63 bits. */
static void test_grid_overflow(void **state) {
  (void)state;
  enum { VALUES = 9000 };
  static const char *const keys[] = {"seed", "data.seed", "network.width", "data.samples", "train.steps"};
  char *text = malloc(sizeof "grid: {" + sizeof keys / sizeof *keys * (VALUES * 8 + 64));
  assert_non_null(text);
  sntk_config *config = load(NULL), *point;
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
    char *p = text + sprintf(text, "grid.%s=[1", keys[i]);
    for (int v = 2; v <= VALUES; v++) p += sprintf(p, ",%d", v);
    sprintf(p, "]");
    set(config, text);
  }
  free(text);
  /* 9000^5 > 2^63 > 9000^4 */
  assert_int_equal(sntk_config_grid_count(config), -1);
  assert_int_equal(sntk_config_grid_point(ctx, config, 0, &point), SNTK_ERR_SHAPE);
  assert_null(point);
  set(config, "seed=1");
  assert_int_equal(sntk_config_grid_count(config), INT64_C(6561000000000000));
  assert_id(config, INT64_C(6561000000000000) - 1,
            "data.seed=9000,network.width=9000,data.samples=9000,train.steps=9000");
  sntk_config_free(config);
}

/* ---- JSON and --help -----------------------------------------------------------------------------------------------
 */

static void test_json(void **state) {
  (void)state;
  sntk_config *config = load_text(
      "network: {width: 64, sigma: 2, activation: relu}\n"
      "data: {inputs: x.npy, label_columns: [3, -1], seed: 9223372036854775807}\n"
      "train: {eta: 0.1}\n"
      "ntk: {infinite: no}\n"
      "perturb: {radii: [0.5, 2]}\n"
      "grid: {train.eta: [theory, 2.5], seed: [3]}\n");
  json_t *json = sntk_config_to_json(config);
  json_t *want = json_loads(
      "{\"name\": \"t\", \"seed\": 1, \"precision\": \"f32\", \"backend\": \"auto\", \"threads\": 0, \"tensor_cores\": "
      "false,"
      " \"network\": {\"activation\": \"relu\", \"width\": 64, \"sigma\": 2.0, \"scale\": \"ntk\", \"init\": "
      "\"symmetric\", \"form\": \"auto\"},"
      " \"data\": {\"normalize\": \"unit-ball\", \"inputs\": \"x.npy\", \"header\": \"auto\", \"label_columns\": [3, "
      "-1], \"test_samples\": 0,"
      "  \"seed\": 9223372036854775807, \"clusters\": 10, \"spread\": 0.3, \"teacher_width\": 16, \"harmonic_degree\": "
      "2},"
      " \"train\": {\"steps\": 1000, \"eta\": 0.1, \"tolerance\": 1e-4, \"theory_c\": 1.0, \"theory_delta\": 0.1, "
      "\"record_every\": 1,"
      "  \"kernel_every\": 0, \"divergence\": 1e6, \"linearized\": false},"
      " \"width\": {\"min_width\": 2, \"max_width\": 65536, \"resolution\": 0.0, \"lambda_ratio\": 0.5, "
      "\"steps_factor\": 4},"
      " \"ntk\": {\"matrix\": \"full\", \"block\": 512, \"prefixes\": false, \"min_prefix\": 1024, \"eigenvalues\": "
      "true,"
      "  \"solver\": \"auto\", \"infinite\": false},"
      " \"perturb\": {\"radii\": [0.5, 2.0], \"random\": true, \"training\": true, \"adversarial\": true, "
      "\"ascent_steps\": 20,"
      "  \"convex_region\": true, \"lambda_ratio\": 0.5, \"max_radius\": 8.0, \"resolution\": 0.05},"
      " \"sweep\": {\"command\": \"train\"}, \"save\": {\"weights\": false, \"prefixes\": true},"
      " \"grid\": {\"train.eta\": [\"theory\", 2.5], \"seed\": [3]}}",
      0, NULL);
  assert_non_null(want);
  assert_true(json_equal(json, want)); /* which tells integers from reals */
  char *got = json_dumps(json, JSON_COMPACT), *ordered = json_dumps(want, JSON_COMPACT);
  assert_string_equal(got, ordered); /* in the order of the table */
  free(got);
  free(ordered);
  json_decref(want);
  json_decref(json);
  sntk_config_free(config);

  config = load(NULL);
  json = sntk_config_to_json(config);
  assert_null(json_object_get(json, "grid"));
  json_t *radii = json_loads("[0.001, 0.00316, 0.01, 0.0316, 0.1]", 0, NULL);
  assert_true(json_equal(json_object_get(json_object_get(json, "perturb"), "radii"), radii));
  json_decref(radii);
  assert_null(json_object_get(json_object_get(json, "network"), "width"));
  json_decref(json);
  sntk_config_free(config);

  /* A file's name need not be UTF-8, which JSON is. */
  write_bytes("sub/caf\xe9.yaml", "seed: 1\n", 8);
  config = load("sub/caf\xe9.yaml");
  assert_int_equal(unlink("sub/caf\xe9.yaml"), 0);
  json = sntk_config_to_json(config);
  assert_string_equal(json_string_value(json_object_get(json, "name")), "caf\\xe9");
  json_decref(json);
  sntk_config_free(config);
}

static void test_schema(void **state) {
  (void)state;
  FILE *file = tmpfile();
  assert_non_null(file);
  sntk_config_print_schema(file);
  rewind(file);
  char *lines[128] = {0}, line[512];
  size_t count = 0;
  while (fgets(line, sizeof line, file) && count < 128) lines[count++] = strdup(line);
  fclose(file);
  for (int64_t i = 0; i < sntk_config_row_count(); i++) {
    const sntk_config_row *row = sntk_config_row_at(i);
    int found = 0;
    for (size_t k = 0; k < count; k++) {
      char key[64] = "";
      if (sscanf(lines[k], "  %63[a-z0-9_.] ", key) != 1 || strcmp(key, row->key)) continue;
      found++;
      assert_non_null(strstr(lines[k], row->help));
      if (row->choices) assert_non_null(strstr(lines[k], row->choices));
      if (row->default_value) assert_non_null(strstr(lines[k], row->default_value));
      if (row->type == SNTK_CONFIG_REALS) assert_non_null(strstr(lines[k], "(list of numbers; default: ["));
      /* Help in one column, behind the longest key. */
      assert_ptr_equal(strstr(lines[k], row->help), lines[k] + strlen("  ") + strlen("perturb.convex_region "));
    }
    assert_int_equal(found, 1);
    assert_ptr_equal(sntk_config_row_find(row->key), row); /* no key is there twice */
  }
  assert_true(count < sizeof lines / sizeof *lines);
  /* What can be an axis, from the table. */
  assert_string_equal(lines[count - 3], "grid:\n");
  assert_non_null(strstr(lines[count - 2], "of the top level, network, data, train, ntk or perturb, in full,\n"));
  assert_string_equal(lines[count - 1] + strspn(lines[count - 1], " "),
                      "but name, precision, backend, threads, tensor_cores, perturb.radii and paths\n");
  assert_int_equal(strspn(lines[count - 1], " "), strcspn(lines[count - 2], "]") + strlen("]     "));
  for (size_t k = 0; k < count; k++) free(lines[k]);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_defaults),
      cmocka_unit_test(test_words_are_enumerators),
      cmocka_unit_test(test_ranges),
      cmocka_unit_test(test_whole_numbers),
      cmocka_unit_test(test_reals),
      cmocka_unit_test(test_words_bools_lists_names),
      cmocka_unit_test(test_file),
      cmocka_unit_test(test_file_errors),
      cmocka_unit_test(test_byte_order_mark),
      cmocka_unit_test(test_unreadable_files),
      cmocka_unit_test(test_limits),
      cmocka_unit_test(test_aliases),
      cmocka_unit_test(test_paths_and_name),
      cmocka_unit_test(test_locale),
      cmocka_unit_test(test_set),
      cmocka_unit_test(test_error_and_require),
      cmocka_unit_test(test_grid),
      cmocka_unit_test(test_grid_types),
      cmocka_unit_test(test_grid_errors),
      cmocka_unit_test(test_grid_and_set),
      cmocka_unit_test(test_grid_overflow),
      cmocka_unit_test(test_json),
      cmocka_unit_test(test_schema),
  };
  return cmocka_run_group_tests_name("config", tests, enter_folder, leave_folder);
}
