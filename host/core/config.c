/**
 * @file config.c
 * @brief The schema table, values read under it, YAML files and --set, getters, JSON and --help.
 *
 * A file is walked twice: as events, which cost no memory and bound what a hostile file can ask for (documents, depth,
 * nodes), then as libyaml's document, whose nodes carry the positions that messages name. Scalars stay text until a row
 * of the table says what they must be: YAML's own typing (010 is 8, 1_000 is 1000, no is false) never takes part.
 *
 * SPDX-License-Identifier: MIT
 */
#include <assert.h>
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "core/config_internal.h"

enum {
  MAX_FILE_BYTES = 16 << 20,
  MAX_DEPTH = 32,      /* the schema needs 4: file, grid, axis, list */
  MAX_NODES = 1 << 16, /* keys and values of a large grid */
  MAX_ALIASES = 100,   /* with their anchors: an aliased list is copied each time */
  MAX_KEY_CHARS = 64,  /* longer ones get no suggestion */
  EXPECT_CHARS = 192,
  NUMBER_CHARS = 40
};

/* ---- the table ---------------------------------------------------------------------------------- */

#define WHOLE(low, high) .type = SNTK_CONFIG_INT, .int_min = (low), .int_max = (high)
#define REAL(low, high) .type = SNTK_CONFIG_REAL, .min = (low), .max = (high)
#define CHOICE(words) .type = SNTK_CONFIG_CHOICE, .choices = (words)
#define POWER_OF_2(exponent) (INT64_C(1) << (exponent))
#define TEN_TO_12 INT64_C(1000000000000)

static const sntk_config_row rows[] = {
    {"name", .type = SNTK_CONFIG_NAME, .default_note = "the file's name without its extension, else run",
     .no_axis = true, .help = "name of the run; the default output directory is runs/<name>"},
    {"seed", WHOLE(0, INT64_MAX), .default_value = "1", .help = "seed of the random weights, signs, data and targets"},
    {"precision", CHOICE("f32|f64"), .default_value = "f32", .no_axis = true,
     .help = "floating-point type of the computation"},
    {"backend", CHOICE("auto|ref|cpu|cuda"), .default_value = "auto", .no_axis = true, .help = "what computes"},
    {"threads", WHOLE(0, 4096), .default_value = "0", .no_axis = true,
     .help = "host threads; 0: OMP_NUM_THREADS, else all"},
    {"tensor_cores", .type = SNTK_CONFIG_BOOL, .default_value = "false", .no_axis = true,
     .help = "cuda, f32: products of the fused passes on tensor cores, three TensorFloat-32 products each"},

    {"network.activation", CHOICE("softmax|relu|exp|exp_normalized"),
     .help =
         "softmax over the width, or a function of each neuron; exp_normalized: softmax with its normalizer frozen at "
         "initialization"},
    {"network.width", WHOLE(1, POWER_OF_2(40)), .help = "neurons m; even with symmetric initialization"},
    {"network.outputs", WHOLE(1, 65536), .default_note = "as many as the labels say, else 1", .help = "outputs p"},
    {"network.sigma", REAL(0, 1e4), .min_open = true, .default_value = "1.0",
     .help = "deviation of the Gaussian weights"},
    {"network.scale", CHOICE("ntk|paper"), .default_value = "ntk",
     .help = "output scale s of F = s f: ntk keeps J J^T of order 1, paper is that of the theorems"},
    {"network.init", CHOICE("symmetric|iid"), .default_value = "symmetric",
     .help = "neurons in pairs of one weight and opposite signs, so that F = 0 at the start, or all independent"},
    {"network.form", CHOICE("auto|plain|displacement"), .default_value = "auto",
     .help =
         "what is trained: W itself, or its displacement from W0; auto: displacement in f32, plain in f64 and on ref"},
    {"network.weights", .type = SNTK_CONFIG_PATH, .no_axis = true,
     .help = ".npy file of the initial weights, d x m; init is then ignored"},
    {"network.signs", .type = SNTK_CONFIG_PATH, .no_axis = true, .help = ".npy file of the signs, p x m of +1 and -1"},
    {"network.displacement", .type = SNTK_CONFIG_PATH, .no_axis = true,
     .help = ".npy file of what the weights have moved from W0 at the start, d x m, in displacement form: run.h5's "
             "/displacement; W0 is what the seed draws, or network.weights, then run.h5's /base"},

    {"data.source", CHOICE("sphere|gaussian|clusters|npy|csv|hdf5|idx"),
     .help = "where the inputs come from: a generator or a file format"},
    {"data.samples", WHOLE(1, POWER_OF_2(31)), .default_note = "all of a file but the held-out ones",
     .help = "samples n; of a file, so many from its top"},
    {"data.dim", WHOLE(1, POWER_OF_2(24)), .default_note = "that of a file",
     .help = "inputs' dimension d; a file must have it"},
    {"data.targets", CHOICE("random|teacher|harmonic|values|classes"),
     .default_note = "values with labels, else random",
     .help = "what is learned: generated targets, the labels as they are, or one-hot classes"},
    {"data.normalize", CHOICE("none|unit-ball|unit-sphere|standardize"), .default_value = "unit-ball",
     .help = "rows divided by the largest norm, each by its own, or columns of mean 0 and deviation 1; norm, mean and "
             "deviation are the samples', for held-out ones too"},
    {"data.inputs", .type = SNTK_CONFIG_PATH, .no_axis = true,
     .help = "file of the inputs, n x d; for hdf5 file.h5:/dataset"},
    {"data.labels", .type = SNTK_CONFIG_PATH, .no_axis = true,
     .help = "file of the labels, in the format of the inputs"},
    {"data.header", CHOICE("auto|yes|no"), .default_value = "auto",
     .help = "has the CSV file a header line; auto: found by looking, refused where the line could be either"},
    {"data.allow_external", .type = SNTK_CONFIG_BOOL, .default_note = "false",
     .help = "HDF5: links, raw files and sources of virtual datasets may lie outside the folder of the file"},
    {"data.label_columns", .type = SNTK_CONFIG_INTS, .int_min = INT32_MIN, .int_max = INT32_MAX,
     .default_note = "no column", .help = "columns of a CSV file that are labels, from 0; -1 is the last"},
    {"data.test_samples", WHOLE(0, POWER_OF_2(31)), .default_value = "0",
     .help = "held-out samples besides: drawn after the samples, of a file the rows behind them, which without "
             "data.samples are its last ones"},
    {"data.seed", WHOLE(0, INT64_MAX), .follows = "seed", .default_note = "that of the run",
     .help = "seed of the data and targets, where it is not that of the weights"},
    {"data.clusters", WHOLE(1, POWER_OF_2(31)), .default_value = "10", .help = "number of centres of source clusters"},
    {"data.spread", REAL(0, 1e4), .default_value = "0.3", .help = "deviation around a centre of source clusters"},
    {"data.teacher_width", WHOLE(1, POWER_OF_2(24)), .default_value = "16",
     .help = "neurons of the network behind targets teacher, which has the activation (exp_normalized: softmax) and "
             "sigma of the "
             "one that learns"},
    {"data.harmonic_degree", WHOLE(1, 64), .default_value = "2",
     .help = "degree of the zonal harmonics of targets harmonic"},

    {"train.steps", WHOLE(0, TEN_TO_12), .default_value = "1000", .help = "budget of gradient descent steps"},
    {"train.eta", .type = SNTK_CONFIG_REAL_OR_CHOICE, .min = 0, .max = 1e30, .min_open = true, .choices = "auto|theory",
     .default_value = "auto",
     .help = "step size; auto: 1 / lambda_max(J J^T at W0), theory: that of the papers' theorems"},
    {"train.tolerance", REAL(0, 1e300), .default_value = "1e-4",
     .help = "stop when the loss L is at most this; 0: run every step"},
    {"train.theory_c", REAL(0, 1e6), .min_open = true, .default_value = "1",
     .help = "C of B = max(C sigma sqrt(log(np / delta)), 1) in eta theory and in the bounds that width prints"},
    {"train.theory_delta", REAL(0, 1), .min_open = true, .max_open = true, .default_value = "0.1",
     .help = "failure probability delta in eta theory and in the bounds that width prints"},
    {"train.record_every", WHOLE(0, TEN_TO_12), .default_value = "1",
     .help = "steps from one history row to the next; 0: first and last only"},
    {"train.kernel_every", WHOLE(0, TEN_TO_12), .default_value = "0",
     .help = "steps from one kernel drift and lambda_min to the next; 0: never"},
    {"train.divergence", REAL(1, 1e300), .min_open = true, .default_value = "1e6",
     .help = "stop as diverged when L exceeds this times max(L(0), 1)"},

    {"train.linearized", .type = SNTK_CONFIG_BOOL, .default_value = "false",
     .help = "the linearized run beside the true one, and kernel regression with H at infinite width"},

    {"width.min_width", WHOLE(1, POWER_OF_2(40)), .default_value = "2", .no_axis = true, .help = "first width tried"},
    {"width.max_width", WHOLE(1, POWER_OF_2(40)), .default_value = "65536", .no_axis = true,
     .help = "last width tried"},
    {"width.resolution", REAL(0, 1), .default_value = "0", .no_axis = true,
     .help = "bisection ends when high / low is at most 1 + this; 0: at adjacent widths"},
    {"width.lambda_ratio", REAL(0, 1), .min_open = true, .default_value = "0.5", .no_axis = true,
     .help = "share of lambda_min at W0 that a sufficient width keeps to the end"},
    {"width.steps_factor", WHOLE(1, 1024), .default_value = "4", .no_axis = true,
     .help = "T is taken at this times the smallest width that trains, where the budget no longer decides it"},

    {"ntk.method", CHOICE("finite|infinite"), .default_note = "finite where there is a width",
     .help = "H of a network of finite width, or its limit alone"},
    {"ntk.matrix", CHOICE("full|trace|diagonal|blocks"), .default_value = "full",
     .help =
         "what of H: all of it (np x np), its trace over outputs (n x n), its diagonal, or blocks of pairs of sample "
         "ranges, written one by one"},
    {"ntk.block", WHOLE(1, POWER_OF_2(20)), .default_value = "512", .help = "samples of a range in matrix blocks"},
    {"ntk.pairs", .type = SNTK_CONFIG_INTS, .int_min = 0, .int_max = INT32_MAX, .default_note = "all of them",
     .help = "which blocks: pairs of ranges, one after the other: [0, 0, 4, 1] is the blocks (0, 0) and (4, 1)"},
    {"ntk.prefixes", .type = SNTK_CONFIG_BOOL, .default_value = "false",
     .help =
         "H also at the widths m/2, m/4, ... down to ntk.min_prefix, which are prefixes of the same network, and the "
         "rate at which H nears its limit"},
    {"ntk.min_prefix", WHOLE(1, POWER_OF_2(40)), .default_value = "1024", .help = "smallest width of the prefixes"},
    {"ntk.prefix_widths", .type = SNTK_CONFIG_INTS, .int_min = 1, .int_max = POWER_OF_2(40),
     .default_note = "m/2, m/4, ...", .help = "widths of the prefixes, ascending, in place of the halves"},
    {"ntk.eigenvalues", .type = SNTK_CONFIG_BOOL, .default_value = "true",
     .help = "spectrum of the Gram matrix H (matrix full or trace)"},
    {"ntk.solver", CHOICE("auto|dense|lanczos"), .default_value = "auto",
     .help = "all eigenvalues by a dense solver, or the two extreme ones by Lanczos; auto: dense up to order 4096"},
    {"ntk.infinite", .type = SNTK_CONFIG_BOOL, .default_value = "true",
     .help = "H at infinite width, and the distance from it"},

    {"perturb.radii", .type = SNTK_CONFIG_REALS, .min = 0, .max = 1e6, .min_open = true,
     .default_value = "[0.001, 0.00316, 0.01, 0.0316, 0.1]", .no_axis = true,
     .help = "radii R: how far every neuron is moved"},
    {"perturb.random", .type = SNTK_CONFIG_BOOL, .default_value = "true",
     .help = "a random direction of exact norm R for each neuron"},
    {"perturb.training", .type = SNTK_CONFIG_BOOL, .default_value = "true",
     .help = "the direction that training takes, scaled so that the neuron that moves most moves R"},
    {"perturb.adversarial", .type = SNTK_CONFIG_BOOL, .default_value = "true",
     .help = "a direction found by projected ascent on the kernel's change"},
    {"perturb.ascent_steps", WHOLE(1, 100000), .default_value = "20", .help = "steps of the ascent"},
    {"perturb.convex_region", .type = SNTK_CONFIG_BOOL, .default_value = "true",
     .help = "the largest R found at which lambda_min keeps lambda_ratio of itself, by doubling and bisection; an "
             "adversary's is an upper estimate"},
    {"perturb.lambda_ratio", REAL(0, 1), .min_open = true, .max_open = true, .default_value = "0.5",
     .help = "share of lambda_min that belongs to the convex region"},
    {"perturb.max_radius", REAL(0, 1e6), .min_open = true, .default_value = "8",
     .help = "largest R that is looked at for the convex region"},
    {"perturb.resolution", REAL(0, 1), .min_open = true, .default_value = "0.05",
     .help = "bisection ends when high / low is at most 1 + this"},

    {"sweep.command", CHOICE("train|ntk"), .default_value = "train", .no_axis = true,
     .help = "what a sweep runs at each point of the grid"},

    {"save.weights", .type = SNTK_CONFIG_BOOL, .default_value = "false", .no_axis = true,
     .help = "also write weights and signs: initial ones (ntk), final ones (train)"},
    {"save.prefixes", .type = SNTK_CONFIG_BOOL, .default_value = "true", .no_axis = true,
     .help = "ntk: also write H of each prefix, to prefix_<width>.h5"},
};

enum { ROW_COUNT = sizeof rows / sizeof *rows };

int64_t sntk_config_row_count(void) { return ROW_COUNT; }

const sntk_config_row *sntk_config_row_at(int64_t index) { return &rows[index]; }

int64_t sntk_config_row_index(const sntk_config_row *row) { return row - rows; }

const sntk_config_row *sntk_config_row_find(const char *key) {
  for (int i = 0; i < ROW_COUNT; i++)
    if (!strcmp(rows[i].key, key)) return &rows[i];
  return NULL;
}

/* Characters of "network." in "network.width"; 0 at the top level. */
static size_t prefix_length(const char *key) {
  const char *dot = strchr(key, '.');
  return dot ? (size_t)(dot - key) + 1 : 0;
}

static const char *last_part(const char *key) { return key + prefix_length(key); }

/* The first key of a section; NULL where there is no such section. */
static const sntk_config_row *section_find(const char *name) {
  const size_t length = strlen(name);
  for (int i = 0; i < ROW_COUNT; i++)
    if (prefix_length(rows[i].key) == length + 1 && !strncmp(rows[i].key, name, length)) return &rows[i];
  return NULL;
}

/* Does the row begin another section than the row before it? */
static bool begins_section(int row) {
  const size_t length = prefix_length(rows[row].key);
  return length && (row == 0 || strncmp(rows[row - 1].key, rows[row].key, length) != 0);
}

/* Length of the word at *words, which is moved to the next one (NULL after the last). */
static int next_word(const char **words) {
  const char *bar = strchr(*words, '|');
  const int length = (int)(bar ? bar - *words : (ptrdiff_t)strlen(*words));
  *words = bar ? bar + 1 : NULL;
  return length;
}

/* ---- texts for messages ------------------------------------------------------------------------- */

/* Adds to a text of `size` bytes; what does not fit is left out. */
static void append(char *text, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void append(char *text, size_t size, const char *format, ...) {
  const size_t used = strlen(text);
  va_list args;
  va_start(args, format);
  vsnprintf(text + used, size - used, format, args);
  va_end(args);
}

/* Copies what fits before `room` bytes, control characters escaped, never half of a UTF-8 sequence; returns how much
 * was taken. */
static size_t copy_printable(const char *text, size_t length, char *out, size_t room) {
  size_t taken = 0, used = 0;
  while (taken < length) {
    const unsigned char c = (unsigned char)text[taken];
    char piece[8];
    size_t step = 1;
    if (c < 0x20 || c == 0x7f) {
      snprintf(piece, sizeof piece, c == '\n' ? "\\n" : c == '\t' ? "\\t" : "\\x%02x", c);
    } else {
      while (c >= 0xc0 && step < 4 && taken + step < length && ((unsigned char)text[taken + step] & 0xc0) == 0x80)
        step++;
      memcpy(piece, text + taken, step);
      piece[step] = '\0';
    }
    const size_t size = strlen(piece);
    if (used + size >= room) break;
    memcpy(out + used, piece, size);
    used += size;
    taken += step;
  }
  out[used] = '\0';
  return taken;
}

static const char *show(const char *text, size_t length, bool quoted, char *shown) {
  const size_t room = SNTK_CONFIG_SHOW_CHARS - sizeof "\"...\"";
  snprintf(shown, SNTK_CONFIG_SHOW_CHARS, "%s", quoted ? "\"" : "");
  const size_t taken = copy_printable(text, length, shown + quoted, room);
  append(shown, SNTK_CONFIG_SHOW_CHARS, "%s%s", taken < length ? "..." : "", quoted ? "\"" : "");
  return shown;
}

static bool is_plain(const yaml_node_t *node) { return node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE; }

static const char *scalar_text(const yaml_node_t *node) { return (const char *)node->data.scalar.value; }

const char *sntk_config_describe(const yaml_node_t *node, char *shown) {
  switch (node->type) {
    case YAML_SEQUENCE_NODE:
      return "a list";
    case YAML_MAPPING_NODE:
      return "a mapping";
    default:
      return show(scalar_text(node), node->data.scalar.length, !is_plain(node), shown);
  }
}

const char *sntk_config_where(const sntk_config_source *source, yaml_mark_t mark, char *where) {
  if (source->marked)
    snprintf(where, SNTK_CONFIG_WHERE_CHARS, "%s:%zu:%zu", source->label, mark.line + 1, mark.column + 1);
  else
    snprintf(where, SNTK_CONFIG_WHERE_CHARS, "%s", source->label);
  return where;
}

static sntk_status refuse(sntk_context *ctx, sntk_status status, const char *where, const char *key, const char *format,
                          va_list args) {
  char text[SNTK_ERROR_CHARS];
  vsnprintf(text, sizeof text, format, args);
  return sntk_fail(ctx, status, "%s: %s: %s", where, key, text);
}

sntk_status sntk_config_refuse(sntk_context *ctx, const char *where, const char *key, const char *format, ...) {
  va_list args;
  va_start(args, format);
  const sntk_status status = refuse(ctx, SNTK_ERR_CONFIG, where, key, format, args);
  va_end(args);
  return status;
}

sntk_status sntk_config_no_memory(sntk_context *ctx) {
  return sntk_fail(ctx, SNTK_ERR_MEMORY, "no memory for the configuration");
}

/* A bound for messages: large powers of 2 as such. */
static const char *format_bound(int64_t bound, char *text) {
  int exponent = 0;
  while (exponent < 62 && POWER_OF_2(exponent) < bound) exponent++;
  if (bound == INT64_MAX)
    snprintf(text, NUMBER_CHARS, "2^63 - 1");
  else if (bound > 65536 && bound == POWER_OF_2(exponent))
    snprintf(text, NUMBER_CHARS, "2^%d", exponent);
  else
    snprintf(text, NUMBER_CHARS, "%lld", (long long)bound);
  return text;
}

/* Numbers look the same whatever the program's locale. Gives the locale to go back to. */
static locale_t enter_c_locale(locale_t *c) {
  *c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
  return uselocale(*c); /* without memory for it, the locale stays as it is */
}

static void leave_c_locale(locale_t c, locale_t before) {
  uselocale(before);
  if (c) freelocale(c);
}

/* The shortest of 15, 16 or 17 digits that reads back as the same number. */
static const char *format_real(double value, char *text) {
  locale_t c;
  const locale_t before = enter_c_locale(&c);
  for (int digits = 15; digits <= 17; digits++) {
    snprintf(text, NUMBER_CHARS, "%.*g", digits, value);
    if (strtod(text, NULL) == value) break;
  }
  leave_c_locale(c, before);
  return text;
}

static void append_words(char *text, size_t size, const char *words) {
  while (words) {
    const char *word = words;
    const int length = next_word(&words);
    append(text, size, "%.*s%s", length, word, words ? ", " : "");
  }
}

/* "[0, 1)", with "2^40" for large powers. */
static void append_range(char *text, size_t size, const sntk_config_row *row) {
  char low[NUMBER_CHARS], high[NUMBER_CHARS];
  const bool whole = row->type == SNTK_CONFIG_INT || row->type == SNTK_CONFIG_INTS;
  append(text, size, "%s%s, %s%s", row->min_open ? "(" : "[",
         whole ? format_bound(row->int_min, low) : format_real(row->min, low),
         whole ? format_bound(row->int_max, high) : format_real(row->max, high), row->max_open ? ")" : "]");
}

/* What would be right for a key, after "give". */
static const char *expectation(const sntk_config_row *row, char *text) {
  const size_t size = EXPECT_CHARS;
  *text = '\0';
  switch (row->type) {
    case SNTK_CONFIG_NAME:
      append(text, size, "a name that a directory can have");
      break;
    case SNTK_CONFIG_PATH:
      append(text, size, "the path of a file");
      break;
    case SNTK_CONFIG_BOOL:
      append(text, size, "true or false, without quotes");
      break;
    case SNTK_CONFIG_INT:
      append(text, size, "a whole number, decimal, such as 64, in ");
      append_range(text, size, row);
      break;
    case SNTK_CONFIG_INTS:
      append(text, size, "a list of whole numbers such as %s, each in ", row->int_min < 0 ? "[0, -1]" : "[0, 1]");
      append_range(text, size, row);
      break;
    case SNTK_CONFIG_REALS:
      append(text, size, "a list of decimal numbers such as [0.5, 1e-3], each in ");
      append_range(text, size, row);
      break;
    case SNTK_CONFIG_CHOICE:
      append(text, size, "one of ");
      append_words(text, size, row->choices);
      break;
    case SNTK_CONFIG_REAL:
    case SNTK_CONFIG_REAL_OR_CHOICE:
      append(text, size, "a decimal number in ");
      append_range(text, size, row);
      if (row->choices) {
        append(text, size, ", or one of ");
        append_words(text, size, row->choices);
      }
      break;
  }
  return text;
}

/* ---- suggestions -------------------------------------------------------------------------------- */

/* Levenshtein distance; both texts at most MAX_KEY_CHARS long. */
static int edit_distance(const char *a, int a_length, const char *b, int b_length) {
  int row[MAX_KEY_CHARS + 1];
  for (int j = 0; j <= b_length; j++) row[j] = j;
  for (int i = 1; i <= a_length; i++) {
    int diagonal = row[0];
    row[0] = i;
    for (int j = 1; j <= b_length; j++) {
      const int replace = diagonal + (a[i - 1] != b[j - 1]);
      const int insert_or_delete = 1 + (row[j] < row[j - 1] ? row[j] : row[j - 1]);
      diagonal = row[j];
      row[j] = replace < insert_or_delete ? replace : insert_or_delete;
    }
  }
  return row[b_length];
}

/* A third of the letters may be wrong. */
static int tolerated(const char *word) { return ((int)strlen(word) + 2) / 3; }

/* Keeps a name in `found` where it is nearer than the best so far. */
static void consider(const char *name, int length, int distance, int *best, char *found) {
  if (distance >= *best) return;
  *best = distance;
  snprintf(found, MAX_KEY_CHARS + 1, "%.*s", length, name);
}

/* The word nearest to `text` into `found` (MAX_KEY_CHARS + 1); false where none is near. */
static bool nearest_word(const char *text, const char *words, char *found) {
  if (strlen(text) > MAX_KEY_CHARS) return false;
  int best = tolerated(text) + 1;
  while (words) {
    const char *word = words;
    const int length = next_word(&words);
    const int distance = edit_distance(text, (int)strlen(text), word, length);
    consider(word, length, distance, &best, found);
  }
  return best <= tolerated(text);
}

/* The key nearest to `full`, or at the top level the section, into `found` (MAX_KEY_CHARS + 1). A key that only lacks
 * its section is near. False where none is. */
static bool nearest_key(const char *full, char *found) {
  const int size = (int)strlen(full), limit = tolerated(last_part(full));
  int best = limit + 1;
  if (size > MAX_KEY_CHARS) return false;
  for (int i = 0; i < ROW_COUNT; i++) {
    const char *key = rows[i].key;
    const int length = (int)strlen(key), section = (int)prefix_length(key) - 1;
    const int distance = edit_distance(full, size, key, length);
    consider(key, length, distance > 1 && !strcmp(last_part(full), last_part(key)) ? 1 : distance, &best, found);
    if (!prefix_length(full) && begins_section(i))
      consider(key, section, edit_distance(full, size, key, section), &best, found);
  }
  if (!prefix_length(full)) consider("grid", 4, edit_distance(full, size, "grid", 4), &best, found);
  return best <= limit;
}

/* "a, b, c": the keys of the section that `full` names, else those of the top level with the sections. */
static void append_siblings(char *text, size_t size, const char *full) {
  const size_t length = prefix_length(full);
  bool known = false;
  for (int i = 0; i < ROW_COUNT; i++)
    if (length && prefix_length(rows[i].key) == length && !strncmp(rows[i].key, full, length)) {
      append(text, size, "%s%s", known ? ", " : "", last_part(rows[i].key));
      known = true;
    }
  if (known) return;
  for (int i = 0; i < ROW_COUNT; i++) {
    if (!prefix_length(rows[i].key)) append(text, size, "%s, ", rows[i].key);
    if (begins_section(i)) append(text, size, "%.*s, ", (int)prefix_length(rows[i].key) - 1, rows[i].key);
  }
  append(text, size, "grid");
}

sntk_status sntk_config_refuse_unknown(sntk_context *ctx, const char *where, const char *key, const char *full) {
  char found[MAX_KEY_CHARS + 1], siblings[SNTK_ERROR_CHARS / 2] = "";
  if (nearest_key(full, found)) return sntk_config_refuse(ctx, where, key, "is not a key; did you mean %s?", found);
  append_siblings(siblings, sizeof siblings, full);
  return sntk_config_refuse(ctx, where, key, "is not a key; the keys there are %s", siblings);
}

/* ---- numbers ------------------------------------------------------------------------------------ */

typedef enum { NUMBER_OK, NUMBER_MALFORMED, NUMBER_TOO_LARGE, NUMBER_TOO_SMALL } number_result;

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* Decimal digits with an optional sign, without leading zeros. */
static number_result read_whole(const char *text, int64_t *out) {
  const bool negative = *text == '-';
  if (*text == '-' || *text == '+') text++;
  if (!is_digit(*text) || (text[0] == '0' && text[1])) return NUMBER_MALFORMED;
  bool overflow = false;
  int64_t value = 0; /* built with its sign: INT64_MIN has no positive counterpart */
  for (; is_digit(*text); text++) {
    const int64_t digit = negative ? '0' - *text : *text - '0';
    overflow =
        overflow || __builtin_mul_overflow(value, INT64_C(10), &value) || __builtin_add_overflow(value, digit, &value);
  }
  if (*text) return NUMBER_MALFORMED;
  *out = value;
  return overflow ? NUMBER_TOO_LARGE : NUMBER_OK;
}

/* A decimal number with optional fraction and exponent, finite, and not zero unless written so. */
static number_result read_real(const char *text, double *out) {
  const char *p = text;
  bool digits = false, nonzero = false;
  if (*p == '-' || *p == '+') p++;
  if (p[0] == '0' && is_digit(p[1])) return NUMBER_MALFORMED;
  for (bool point = false; is_digit(*p) || (*p == '.' && !point); p++) {
    point = point || *p == '.';
    digits = digits || is_digit(*p);
    nonzero = nonzero || (is_digit(*p) && *p != '0');
  }
  if (!digits) return NUMBER_MALFORMED;
  if (*p == 'e' || *p == 'E') {
    p++;
    if (*p == '-' || *p == '+') p++;
    if (!is_digit(*p)) return NUMBER_MALFORMED;
    while (is_digit(*p)) p++;
  }
  if (*p) return NUMBER_MALFORMED;
  locale_t c;
  const locale_t before = enter_c_locale(&c);
  const double value = strtod(text, NULL);
  leave_c_locale(c, before);
  *out = value == 0.0 ? 0.0 : value; /* -0.0 has no meaning here and would print as another value */
  if (isinf(value)) return NUMBER_TOO_LARGE;
  return value == 0.0 && nonzero ? NUMBER_TOO_SMALL : NUMBER_OK;
}

/* ---- values ------------------------------------------------------------------------------------- */

void sntk_config_value_clear(sntk_config_value *value) {
  free(value->text);
  free(value->origin);
  free(value->ints);
  free(value->reals);
  *value = (sntk_config_value){0};
}

sntk_status sntk_config_value_copy(sntk_context *ctx, const sntk_config_value *from, sntk_config_value *to) {
  *to = *from;
  to->text = from->text ? strdup(from->text) : NULL;
  to->origin = from->origin ? strdup(from->origin) : NULL;
  to->ints = from->ints ? malloc((size_t)from->count * sizeof *to->ints) : NULL;
  to->reals = from->reals ? malloc((size_t)from->count * sizeof *to->reals) : NULL;
  if ((from->text && !to->text) || (from->origin && !to->origin) || (from->ints && !to->ints) ||
      (from->reals && !to->reals)) {
    sntk_config_value_clear(to);
    return sntk_config_no_memory(ctx);
  }
  if (from->ints) memcpy(to->ints, from->ints, (size_t)from->count * sizeof *to->ints);
  if (from->reals) memcpy(to->reals, from->reals, (size_t)from->count * sizeof *to->reals);
  return SNTK_OK;
}

/* A scalar on its way to a value, with all that a message about it needs. */
typedef struct scalar {
  const char *where, *key, *directory, *text;
  size_t length;
  bool plain;
} scalar;

static sntk_status refuse_scalar(sntk_context *ctx, const scalar *s, const sntk_config_row *row, const char *is) {
  char shown[SNTK_CONFIG_SHOW_CHARS], expected[EXPECT_CHARS];
  return sntk_config_refuse(ctx, s->where, s->key, "%s %s; give %s", show(s->text, s->length, !s->plain, shown), is,
                            expectation(row, expected));
}

static sntk_status scalar_whole(sntk_context *ctx, const scalar *s, const sntk_config_row *row, int64_t *out) {
  if (!s->plain) return refuse_scalar(ctx, s, row, "is text, not a number: write it without quotes");
  const number_result result = read_whole(s->text, out);
  if (result == NUMBER_MALFORMED) return refuse_scalar(ctx, s, row, "is not a whole number");
  if (result != NUMBER_OK || *out < row->int_min || *out > row->int_max)
    return refuse_scalar(ctx, s, row, "is out of range");
  return SNTK_OK;
}

static sntk_status scalar_real(sntk_context *ctx, const scalar *s, const sntk_config_row *row, double *out) {
  if (!s->plain) return refuse_scalar(ctx, s, row, "is text, not a number: write it without quotes");
  switch (read_real(s->text, out)) {
    case NUMBER_MALFORMED:
      return refuse_scalar(ctx, s, row, "is not a finite decimal number");
    case NUMBER_TOO_LARGE:
      return refuse_scalar(ctx, s, row, "is too large for a float64");
    case NUMBER_TOO_SMALL:
      return refuse_scalar(ctx, s, row, "is too small for a float64");
    case NUMBER_OK:
      break;
  }
  const bool low = row->min_open ? *out <= row->min : *out < row->min;
  const bool high = row->max_open ? *out >= row->max : *out > row->max;
  return low || high ? refuse_scalar(ctx, s, row, "is out of range") : SNTK_OK;
}

/* Index of a word, or -1; words: their number. */
static int word_index(const char *text, const char *words, int *count) {
  int found = -1;
  for (*count = 0; words; (*count)++) {
    const char *word = words;
    const int length = next_word(&words);
    if (strlen(text) == (size_t)length && !strncmp(text, word, (size_t)length)) found = *count;
  }
  return found;
}

static sntk_status scalar_choice(sntk_context *ctx, const scalar *s, const sntk_config_row *row,
                                 sntk_config_value *value) {
  int words;
  value->integer = word_index(s->text, row->choices, &words);
  if (value->integer >= 0) return SNTK_OK;
  const bool number = is_digit(*s->text) || (*s->text && strchr("+-.", *s->text));
  if (row->type == SNTK_CONFIG_REAL_OR_CHOICE && number) {
    value->is_number = true;
    value->integer = words;
    return scalar_real(ctx, s, row, &value->real);
  }
  char near[MAX_KEY_CHARS + 1], is[MAX_KEY_CHARS + 64] = "is not a word of this key";
  if (row->type == SNTK_CONFIG_REAL_OR_CHOICE)
    snprintf(is, sizeof is, "is neither a finite decimal number nor a word of this key");
  if (nearest_word(s->text, row->choices, near)) append(is, sizeof is, " (did you mean %s?)", near);
  return refuse_scalar(ctx, s, row, is);
}

static sntk_status scalar_bool(sntk_context *ctx, const scalar *s, const sntk_config_row *row, int64_t *out) {
  *out = !strcmp(s->text, "true") || !strcmp(s->text, "yes");
  const bool word = *out || !strcmp(s->text, "false") || !strcmp(s->text, "no");
  return s->plain && word ? SNTK_OK : refuse_scalar(ctx, s, row, "is not true or false");
}

/* Why a text cannot name a directory; NULL where it can. */
static const char *name_fault(const char *name) {
  if (!*name) return "is empty";
  if (!strcmp(name, ".") || !strcmp(name, "..")) return "is a directory that is there already";
  if (strchr(name, '/')) return "has a slash";
  if (strlen(name) > 255) return "is longer than 255 bytes";
  for (const char *p = name; *p; p++)
    if ((unsigned char)*p < 0x20 || *p == 0x7f) return "has a control character";
  return NULL;
}

static bool is_null(const scalar *s) {
  return s->plain && (!*s->text || !strcmp(s->text, "~") || !strcmp(s->text, "null") || !strcmp(s->text, "Null") ||
                      !strcmp(s->text, "NULL"));
}

/* Refuses what is a value of no key. */
static sntk_status check_scalar(sntk_context *ctx, const scalar *s, const sntk_config_row *row) {
  char expected[EXPECT_CHARS];
  if (strlen(s->text) != s->length) return refuse_scalar(ctx, s, row, "has a NUL character");
  if (!is_null(s)) return SNTK_OK;
  return sntk_config_refuse(ctx, s->where, s->key, "the value is empty%s%s; give %s, or leave it out",
                            *s->text ? ": " : "", s->text, expectation(row, expected));
}

/* Reads what the row wants into the value's fields, without text and origin. */
static sntk_status scalar_read(sntk_context *ctx, const scalar *s, const sntk_config_row *row,
                               sntk_config_value *value) {
  SNTK_TRY(check_scalar(ctx, s, row));
  switch (row->type) {
    case SNTK_CONFIG_NAME: {
      const char *fault = name_fault(s->text);
      return fault ? refuse_scalar(ctx, s, row, fault) : SNTK_OK;
    }
    case SNTK_CONFIG_PATH:
      return *s->text ? SNTK_OK : refuse_scalar(ctx, s, row, "is empty");
    case SNTK_CONFIG_INT:
      return scalar_whole(ctx, s, row, &value->integer);
    case SNTK_CONFIG_REAL:
      return scalar_real(ctx, s, row, &value->real);
    case SNTK_CONFIG_BOOL:
      return scalar_bool(ctx, s, row, &value->integer);
    case SNTK_CONFIG_CHOICE:
    case SNTK_CONFIG_REAL_OR_CHOICE:
      return scalar_choice(ctx, s, row, value);
    case SNTK_CONFIG_INTS:
    case SNTK_CONFIG_REALS:
      return refuse_scalar(ctx, s, row, "is not a list");
  }
  return SNTK_ERR_INTERNAL;
}

static char *joined(const char *directory, const char *path) {
  const char *before = *path == '/' ? "" : directory;
  const size_t size = strlen(before) + strlen(path) + 1;
  char *text = malloc(size);
  if (text) snprintf(text, size, "%s%s", before, path);
  return text;
}

static bool is_list(const sntk_config_row *row) {
  return row->type == SNTK_CONFIG_INTS || row->type == SNTK_CONFIG_REALS;
}

static char *list_text(const sntk_config_row *row, const sntk_config_value *value) {
  const size_t size = (size_t)value->count * NUMBER_CHARS + 3; /* a number is shorter: there is room for its comma */
  char *text = malloc(size), number[NUMBER_CHARS];
  if (!text) return NULL;
  size_t used = (size_t)snprintf(text, size, "[");
  for (int64_t i = 0; i < value->count; i++) {
    if (row->type == SNTK_CONFIG_REALS)
      format_real(value->reals[i], number);
    else
      snprintf(number, sizeof number, "%lld", (long long)value->ints[i]);
    used += (size_t)snprintf(text + used, size - used, "%s%s", i ? "," : "", number);
  }
  snprintf(text + used, size - used, "]");
  return text;
}

/* The canonical text of a value just read from `raw`. */
static char *canonical(const sntk_config_row *row, const sntk_config_value *value, const char *directory,
                       const char *raw) {
  char number[NUMBER_CHARS];
  switch (row->type) {
    case SNTK_CONFIG_PATH:
      return joined(directory, raw);
    case SNTK_CONFIG_INTS:
    case SNTK_CONFIG_REALS:
      return list_text(row, value);
    case SNTK_CONFIG_BOOL:
      return strdup(value->integer ? "true" : "false");
    case SNTK_CONFIG_INT:
      snprintf(number, sizeof number, "%lld", (long long)value->integer);
      return strdup(number);
    case SNTK_CONFIG_REAL:
      return strdup(format_real(value->real, number));
    case SNTK_CONFIG_REAL_OR_CHOICE:
      return strdup(value->is_number ? format_real(value->real, number) : raw);
    case SNTK_CONFIG_NAME:
    case SNTK_CONFIG_CHOICE:
      break;
  }
  return strdup(raw);
}

/* Gives a value its text and origin, which makes it one. */
static sntk_status value_finish(sntk_context *ctx, const sntk_config_row *row, const char *where, const char *directory,
                                const char *raw, sntk_config_value *value) {
  value->text = canonical(row, value, directory, raw);
  value->origin = strdup(where);
  if (value->text && value->origin) return SNTK_OK;
  sntk_config_value_clear(value);
  return sntk_config_no_memory(ctx);
}

static sntk_status value_from_scalar(sntk_context *ctx, const scalar *s, const sntk_config_row *row,
                                     sntk_config_value *value) {
  *value = (sntk_config_value){0};
  const sntk_status status = scalar_read(ctx, s, row, value);
  if (status != SNTK_OK) {
    *value = (sntk_config_value){0};
    return status;
  }
  return value_finish(ctx, row, s->where, s->directory, s->text, value);
}

static scalar scalar_of(const sntk_config_source *source, const char *where, const char *key, const yaml_node_t *node) {
  return (scalar){where, key, source->directory, scalar_text(node), node->data.scalar.length, is_plain(node)};
}

static sntk_status refuse_node(sntk_context *ctx, const char *where, const char *key, const sntk_config_row *row,
                               const yaml_node_t *node) {
  char shown[SNTK_CONFIG_SHOW_CHARS], expected[EXPECT_CHARS];
  return sntk_config_refuse(ctx, where, key, "%s is not what this key takes; give %s",
                            sntk_config_describe(node, shown), expectation(row, expected));
}

static sntk_status read_list(sntk_context *ctx, const sntk_config_source *source, yaml_document_t *document,
                             const yaml_node_t *node, const char *key, const sntk_config_row *row,
                             sntk_config_value *value) {
  char where[SNTK_CONFIG_WHERE_CHARS];
  const int64_t count = node->data.sequence.items.top - node->data.sequence.items.start;
  const bool reals = row->type == SNTK_CONFIG_REALS;
  *value = (sntk_config_value){0};
  if (count) {
    void *numbers = malloc((size_t)count * (reals ? sizeof *value->reals : sizeof *value->ints));
    if (!numbers) return sntk_config_no_memory(ctx);
    if (reals)
      value->reals = numbers;
    else
      value->ints = numbers;
  }
  for (value->count = 0; value->count < count; value->count++) {
    const yaml_node_t *item = yaml_document_get_node(document, node->data.sequence.items.start[value->count]);
    sntk_config_where(source, item->start_mark, where);
    sntk_status status;
    if (item->type != YAML_SCALAR_NODE) {
      status = refuse_node(ctx, where, key, row, item);
    } else {
      const scalar s = scalar_of(source, where, key, item);
      status = check_scalar(ctx, &s, row);
      if (status == SNTK_OK)
        status = reals ? scalar_real(ctx, &s, row, &value->reals[value->count])
                       : scalar_whole(ctx, &s, row, &value->ints[value->count]);
    }
    if (status != SNTK_OK) {
      sntk_config_value_clear(value);
      return status;
    }
  }
  return value_finish(ctx, row, sntk_config_where(source, node->start_mark, where), source->directory, "", value);
}

sntk_status sntk_config_value_read(sntk_context *ctx, const sntk_config_source *source, yaml_document_t *document,
                                   const yaml_node_t *node, const char *key, const sntk_config_row *row,
                                   sntk_config_value *value) {
  char where[SNTK_CONFIG_WHERE_CHARS];
  *value = (sntk_config_value){0};
  sntk_config_where(source, node->start_mark, where);
  sntk_status status;
  if (node->type == YAML_SCALAR_NODE) {
    const scalar s = scalar_of(source, where, key, node);
    status = value_from_scalar(ctx, &s, row, value);
  } else if (node->type == YAML_SEQUENCE_NODE && is_list(row)) {
    status = read_list(ctx, source, document, node, key, row, value);
  } else {
    status = refuse_node(ctx, where, key, row, node);
  }
  value->given = status == SNTK_OK;
  return status;
}

/* json_string refuses what is not UTF-8, which a file's name may be: such bytes are escaped. */
static json_t *json_text(const char *text) {
  json_t *json = json_string(text);
  if (json) return json;
  const size_t size = strlen(text) * 4 + 1;
  char *escaped = malloc(size);
  if (!escaped) return NULL;
  *escaped = '\0';
  for (size_t used = 0; *text; text++)
    used += (size_t)snprintf(escaped + used, size - used, (unsigned char)*text < 0x80 ? "%c" : "\\x%02x",
                             (unsigned char)*text);
  json = json_string(escaped);
  free(escaped);
  return json;
}

json_t *sntk_config_value_json(const sntk_config_row *row, const sntk_config_value *value) {
  json_t *list;
  switch (row->type) {
    case SNTK_CONFIG_INT:
      return json_integer((json_int_t)value->integer);
    case SNTK_CONFIG_REAL:
      return json_real(value->real);
    case SNTK_CONFIG_BOOL:
      return json_boolean(value->integer);
    case SNTK_CONFIG_REAL_OR_CHOICE:
      return value->is_number ? json_real(value->real) : json_text(value->text);
    case SNTK_CONFIG_INTS:
    case SNTK_CONFIG_REALS:
      list = json_array();
      for (int64_t i = 0; list && i < value->count; i++)
        if (json_array_append_new(list, row->type == SNTK_CONFIG_REALS ? json_real(value->reals[i])
                                                                       : json_integer((json_int_t)value->ints[i]))) {
          json_decref(list);
          return NULL;
        }
      return list;
    case SNTK_CONFIG_NAME:
    case SNTK_CONFIG_PATH:
    case SNTK_CONFIG_CHOICE:
      break;
  }
  return json_text(value->text);
}

/* ---- a configuration ---------------------------------------------------------------------------- */

void sntk_config_free(sntk_config *config) {
  if (!config) return;
  sntk_config_grid_clear(config);
  for (int i = 0; config->values && i < ROW_COUNT; i++) sntk_config_value_clear(&config->values[i]);
  free(config->values);
  free(config->directory);
  free(config->label);
  free(config);
}

static sntk_status config_allocate(sntk_context *ctx, const char *label, const char *directory, sntk_config **config) {
  *config = calloc(1, sizeof **config);
  if (*config) {
    (*config)->label = strdup(label);
    (*config)->directory = strdup(directory);
    (*config)->values = calloc(ROW_COUNT, sizeof *(*config)->values);
    if ((*config)->label && (*config)->directory && (*config)->values) return SNTK_OK;
  }
  sntk_config_free(*config);
  *config = NULL;
  return sntk_config_no_memory(ctx);
}

sntk_status sntk_config_clone(sntk_context *ctx, const sntk_config *config, sntk_config **clone) {
  SNTK_TRY(config_allocate(ctx, config->label, config->directory, clone));
  for (int i = 0; i < ROW_COUNT; i++) {
    const sntk_status status = sntk_config_value_copy(ctx, &config->values[i], &(*clone)->values[i]);
    if (status == SNTK_OK) continue;
    sntk_config_free(*clone);
    *clone = NULL;
    return status;
  }
  return SNTK_OK;
}

/* The file's name without folder and extension where that can name a run. */
static void default_name(const char *path, char *name, size_t size) {
  const char *slash = path ? strrchr(path, '/') : NULL;
  const char *base = slash ? slash + 1 : path ? path : "";
  const char *dot = strrchr(base, '.');
  const size_t length = dot && dot > base ? (size_t)(dot - base) : strlen(base);
  snprintf(name, size, "%.*s", (int)(length < size ? length : size - 1), base);
  if (name_fault(name)) snprintf(name, size, "run");
}

/* The path as messages name it: printable, and its end where it is long. */
static void label_of(const char *path, char *label) {
  const size_t room = SNTK_CONFIG_LABEL_CHARS - sizeof "...";
  *label = '\0';
  if (!*path) snprintf(label, SNTK_CONFIG_LABEL_CHARS, "\"\"");
  if (copy_printable(path, strlen(path), label + strlen(label), room) == strlen(path)) return;
  const char *tail = path + strlen(path);
  size_t width = 0;
  while (tail > path && width + 4 < room) { /* a byte takes 4 characters where it is escaped */
    tail--;
    width += (unsigned char)*tail < 0x20 || *tail == 0x7f ? 4 : 1;
  }
  while (((unsigned char)*tail & 0xc0) == 0x80) tail++; /* not from the middle of a character */
  snprintf(label, SNTK_CONFIG_LABEL_CHARS, "...");
  copy_printable(tail, strlen(tail), label + 3, room);
}

/* ---- YAML --------------------------------------------------------------------------------------- */

/* A text under way through libyaml: a file, or the value of a key on the command line. */
typedef struct yaml_text {
  const sntk_config_source *source;
  const char *key; /* NULL: a file */
  const unsigned char *bytes;
  size_t size;
} yaml_text;

static void text_where(const yaml_text *text, yaml_mark_t mark, char *where) {
  sntk_config_where(text->source, mark, where);
  if (text->key) append(where, SNTK_CONFIG_WHERE_CHARS, ": %s", text->key);
}

/* libyaml gives a byte's offset where it cannot decode, without line and column. */
static yaml_mark_t mark_of_offset(const yaml_text *text, size_t offset) {
  yaml_mark_t mark = {0};
  for (size_t i = 0; i < offset && i < text->size; i++) {
    if (text->bytes[i] == '\n') {
      mark.line++;
      mark.column = 0;
    } else if ((text->bytes[i] & 0xc0) != 0x80) {
      mark.column++;
    }
  }
  return mark;
}

static sntk_status yaml_failed(sntk_context *ctx, const yaml_text *text, const yaml_parser_t *parser) {
  char where[SNTK_CONFIG_WHERE_CHARS + SNTK_CONFIG_SHOW_CHARS];
  /* libyaml gives no error where it finds no memory for a node's tag */
  if (parser->error == YAML_MEMORY_ERROR || parser->error == YAML_NO_ERROR) return sntk_config_no_memory(ctx);
  if (parser->error == YAML_READER_ERROR) {
    text_where(text, mark_of_offset(text, parser->problem_offset), where);
    char byte[NUMBER_CHARS] = "";
    if (parser->problem_value >= 0) snprintf(byte, sizeof byte, " 0x%02X", (unsigned)parser->problem_value);
    return sntk_fail(ctx, SNTK_ERR_CONFIG,
                     "%s: this is not UTF-8 text: %s%s; save it as UTF-8 without control characters", where,
                     parser->problem, byte);
  }
  text_where(text, parser->problem_mark, where);
  return sntk_fail(
      ctx, SNTK_ERR_CONFIG,
      "%s: this is not valid YAML: %s%s%s; indent with spaces (no tabs), close brackets and quotes, and quote "
      "text with special characters",
      where, parser->problem, parser->context ? " " : "", parser->context ? parser->context : "");
}

typedef struct yaml_census {
  int documents, depth, nodes, aliases;
} yaml_census;

/* Counts an event; gives what is wrong with the text, or NULL. */
static const char *census_add(yaml_census *census, const yaml_event_t *event) {
  const yaml_char_t *anchor = NULL, *tag = NULL;
  switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
      if (++census->documents > 1)
        return "a second document starts here; a configuration is one document: leave the \"---\" out";
      return NULL;
    case YAML_SCALAR_EVENT:
      anchor = event->data.scalar.anchor;
      tag = event->data.scalar.tag;
      break;
    case YAML_SEQUENCE_START_EVENT:
      anchor = event->data.sequence_start.anchor;
      tag = event->data.sequence_start.tag;
      census->depth++;
      break;
    case YAML_MAPPING_START_EVENT:
      anchor = event->data.mapping_start.anchor;
      tag = event->data.mapping_start.tag;
      census->depth++;
      break;
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
      census->depth--;
      return NULL;
    case YAML_ALIAS_EVENT:
      anchor = event->data.alias.anchor;
      break;
    default:
      return NULL;
  }
  if (tag) return "a tag (\"!\") has no use here; leave it out, each key knows its type";
  if (census->depth > MAX_DEPTH) return "nested more than 32 deep; a configuration has sections, keys and lists";
  if (++census->nodes > MAX_NODES) return "more than 65536 values; split the grid over several files";
  census->aliases += anchor != NULL;
  if (census->aliases > MAX_ALIASES) return "more than 100 anchors (\"&\") and aliases (\"*\"); write the values out";
  return NULL;
}

static sntk_status start_parser(sntk_context *ctx, const yaml_text *text, yaml_parser_t *parser) {
  if (!yaml_parser_initialize(parser)) return sntk_config_no_memory(ctx);
  yaml_parser_set_input_string(parser, text->bytes, text->size);
  yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING);
  return SNTK_OK;
}

/* Refuses what is not YAML, and what would take the document more memory or time than a configuration is worth. */
static sntk_status check_events(sntk_context *ctx, const yaml_text *text) {
  yaml_parser_t parser;
  yaml_event_t event;
  yaml_census census = {0};
  SNTK_TRY(start_parser(ctx, text, &parser));
  sntk_status status = SNTK_OK;
  for (bool more = true; more && status == SNTK_OK;) {
    if (!yaml_parser_parse(&parser, &event)) {
      status = yaml_failed(ctx, text, &parser);
      break;
    }
    const char *fault = census_add(&census, &event);
    if (fault) {
      char where[SNTK_CONFIG_WHERE_CHARS + SNTK_CONFIG_SHOW_CHARS];
      text_where(text, event.start_mark, where);
      status = sntk_fail(ctx, SNTK_ERR_CONFIG, "%s: %s", where, fault);
    }
    more = event.type != YAML_STREAM_END_EVENT;
    yaml_event_delete(&event);
  }
  yaml_parser_delete(&parser);
  return status;
}

/* On success the caller deletes the document, which has no root where the text is empty. */
static sntk_status parse_text(sntk_context *ctx, const yaml_text *text, yaml_document_t *document) {
  yaml_parser_t parser;
  SNTK_TRY(check_events(ctx, text));
  SNTK_TRY(start_parser(ctx, text, &parser));
  const sntk_status status = yaml_parser_load(&parser, document) ? SNTK_OK : yaml_failed(ctx, text, &parser);
  yaml_parser_delete(&parser);
  return status;
}

static size_t pair_count(const yaml_node_t *mapping) {
  return (size_t)(mapping->data.mapping.pairs.top - mapping->data.mapping.pairs.start);
}

sntk_status sntk_config_key_text(sntk_context *ctx, const sntk_config_source *source, yaml_document_t *document,
                                 const yaml_node_t *mapping, int64_t pair, const char *prefix, const char **text) {
  const yaml_node_pair_t *pairs = mapping->data.mapping.pairs.start;
  const yaml_node_t *key = yaml_document_get_node(document, pairs[pair].key);
  char where[SNTK_CONFIG_WHERE_CHARS], shown[SNTK_CONFIG_SHOW_CHARS], name[2 * SNTK_CONFIG_SHOW_CHARS];
  sntk_config_where(source, key->start_mark, where);
  snprintf(name, sizeof name, "%s%s", prefix, sntk_config_describe(key, shown));
  if (key->type != YAML_SCALAR_NODE)
    return sntk_config_refuse(ctx, where, name, "cannot be a key; give a word such as width");
  *text = scalar_text(key);
  if (strlen(*text) != key->data.scalar.length)
    return sntk_config_refuse(ctx, where, name, "is not a key: it has a NUL character; give a word such as width");
  if (!strcmp(*text, "<<"))
    return sntk_config_refuse(ctx, where, name, "merge keys are not supported; write the keys out");
  for (int64_t i = 0; i < pair; i++) {
    const yaml_node_t *other = yaml_document_get_node(document, pairs[i].key);
    if (!strcmp(scalar_text(other), *text))
      return sntk_config_refuse(ctx, where, name, "is given twice, first at line %zu; keep one of the two",
                                other->start_mark.line + 1);
  }
  return SNTK_OK;
}

static sntk_status set_key(sntk_context *ctx, sntk_config *config, const sntk_config_source *source,
                           yaml_document_t *document, const yaml_node_t *node, const sntk_config_row *row) {
  sntk_config_value value;
  SNTK_TRY(sntk_config_value_read(ctx, source, document, node, row->key, row, &value));
  sntk_config_value *target = &config->values[sntk_config_row_index(row)];
  sntk_config_value_clear(target);
  *target = value;
  return SNTK_OK;
}

/* A section that is not a mapping: width: 64 is a likely slip, so a key of that name elsewhere is pointed out. */
static sntk_status refuse_section(sntk_context *ctx, const char *where, const char *section, const yaml_node_t *node) {
  char shown[SNTK_CONFIG_SHOW_CHARS], hint[SNTK_CONFIG_SHOW_CHARS] = "";
  const sntk_config_row *first = section_find(section);
  for (int i = 0; i < ROW_COUNT; i++)
    if (prefix_length(rows[i].key) && !strcmp(last_part(rows[i].key), section))
      snprintf(hint, sizeof hint, ", or did you mean %s?", rows[i].key);
  const bool empty = node->type == YAML_SCALAR_NODE && is_plain(node) && !node->data.scalar.length;
  return sntk_config_refuse(ctx, where, section, "%s is not a section's content; give keys under it, such as %s%s",
                            empty ? "nothing" : sntk_config_describe(node, shown),
                            first ? last_part(first->key) : "network.width: [64, 128]", hint);
}

static sntk_status apply_section(sntk_context *ctx, sntk_config *config, const sntk_config_source *source,
                                 yaml_document_t *document, const yaml_node_t *mapping, const char *section) {
  char prefix[SNTK_CONFIG_SHOW_CHARS], shown[SNTK_CONFIG_SHOW_CHARS], where[SNTK_CONFIG_WHERE_CHARS];
  snprintf(prefix, sizeof prefix, "%s.", section);
  for (size_t i = 0; i < pair_count(mapping); i++) {
    const yaml_node_pair_t pair = mapping->data.mapping.pairs.start[i];
    const char *text;
    SNTK_TRY(sntk_config_key_text(ctx, source, document, mapping, (int64_t)i, prefix, &text));
    char full[2 * SNTK_CONFIG_SHOW_CHARS];
    snprintf(full, sizeof full, "%s%s", prefix, show(text, strlen(text), false, shown));
    const sntk_config_row *row = sntk_config_row_find(full);
    if (!row) {
      sntk_config_where(source, yaml_document_get_node(document, pair.key)->start_mark, where);
      return sntk_config_refuse_unknown(ctx, where, full, full);
    }
    SNTK_TRY(set_key(ctx, config, source, document, yaml_document_get_node(document, pair.value), row));
  }
  return SNTK_OK;
}

static sntk_status apply_top_level(sntk_context *ctx, sntk_config *config, const sntk_config_source *source,
                                   yaml_document_t *document, const yaml_node_t *mapping) {
  char where[SNTK_CONFIG_WHERE_CHARS], shown[SNTK_CONFIG_SHOW_CHARS];
  for (size_t i = 0; i < pair_count(mapping); i++) {
    const yaml_node_pair_t pair = mapping->data.mapping.pairs.start[i];
    const yaml_node_t *node = yaml_document_get_node(document, pair.value);
    const char *text;
    SNTK_TRY(sntk_config_key_text(ctx, source, document, mapping, (int64_t)i, "", &text));
    sntk_config_where(source, yaml_document_get_node(document, pair.key)->start_mark, where);
    const bool grid = !strcmp(text, "grid");
    const sntk_config_row *row = sntk_config_row_find(text);
    if (grid || section_find(text)) {
      if (node->type != YAML_MAPPING_NODE)
        return refuse_section(ctx, sntk_config_where(source, node->start_mark, where), text, node);
      SNTK_TRY(grid ? sntk_config_grid_read(ctx, config, source, document, node)
                    : apply_section(ctx, config, source, document, node, text));
    } else if (!row) {
      return sntk_config_refuse_unknown(ctx, where, show(text, strlen(text), false, shown), text);
    } else if (prefix_length(row->key)) {
      return sntk_config_refuse(ctx, where, row->key,
                                "a dotted key belongs in grid; write it as %s under %.*s:", last_part(row->key),
                                (int)prefix_length(row->key) - 1, row->key);
    } else {
      SNTK_TRY(set_key(ctx, config, source, document, node, row));
    }
  }
  return SNTK_OK;
}

static sntk_status apply_document(sntk_context *ctx, sntk_config *config, const sntk_config_source *source,
                                  yaml_document_t *document) {
  const yaml_node_t *root = yaml_document_get_root_node(document);
  char where[SNTK_CONFIG_WHERE_CHARS], shown[SNTK_CONFIG_SHOW_CHARS];
  const bool scalar_root = root && root->type == YAML_SCALAR_NODE;
  if (!root || (scalar_root && !root->data.scalar.length) || (root->type == YAML_MAPPING_NODE && !pair_count(root)))
    return sntk_fail(ctx, SNTK_ERR_CONFIG,
                     "%s:1:1: the file is empty; give keys such as network: {activation: softmax, width: 64}",
                     source->label);
  if (root->type != YAML_MAPPING_NODE)
    return sntk_fail(ctx, SNTK_ERR_CONFIG,
                     "%s: %s is not a mapping; give keys such as network: {activation: softmax, width: 64}",
                     sntk_config_where(source, root->start_mark, where), sntk_config_describe(root, shown));
  return apply_top_level(ctx, config, source, document, root);
}

/* A list among the defaults, which only YAML's reader takes apart. */
static sntk_status set_default_list(sntk_context *ctx, const sntk_config_row *row, sntk_config_value *value) {
  const sntk_config_source source = {"default", "", false};
  const yaml_text text = {&source, row->key, (const unsigned char *)row->default_value, strlen(row->default_value)};
  yaml_document_t document;
  SNTK_TRY(parse_text(ctx, &text, &document));
  const sntk_status status =
      sntk_config_value_read(ctx, &source, &document, yaml_document_get_root_node(&document), row->key, row, value);
  value->given = false;
  yaml_document_delete(&document);
  return status;
}

static sntk_status set_defaults(sntk_context *ctx, sntk_config *config, const char *path) {
  char name[256];
  default_name(path, name, sizeof name);
  for (int i = 0; i < ROW_COUNT; i++) {
    const char *text = rows[i].type == SNTK_CONFIG_NAME ? name : rows[i].default_value;
    if (!text) continue;
    const scalar s = {"default", rows[i].key, "", text, strlen(text), true};
    if (rows[i].type == SNTK_CONFIG_NAME) /* a file may be called null.yaml */
      SNTK_TRY(value_finish(ctx, &rows[i], s.where, s.directory, text, &config->values[i]));
    else if (is_list(&rows[i]))
      SNTK_TRY(set_default_list(ctx, &rows[i], &config->values[i]));
    else
      SNTK_TRY(value_from_scalar(ctx, &s, &rows[i], &config->values[i]));
  }
  return SNTK_OK;
}

static sntk_status read_failed(sntk_context *ctx, const char *label, int error) {
  return sntk_fail(ctx, SNTK_ERR_IO, "%s: the file cannot be read: %s; give the path of a YAML file", label,
                   strerror(error));
}

/* The whole file, without a byte order mark. Sizes are not asked for beforehand: a pipe has none. */
static sntk_status read_file(sntk_context *ctx, const char *path, const char *label, unsigned char **bytes,
                             size_t *size) {
  size_t capacity = 1 << 16;
  sntk_status status = SNTK_OK;
  *bytes = NULL;
  *size = 0;
  FILE *file = fopen(path, "rb");
  if (!file) return read_failed(ctx, label, errno);
  for (bool more = true; more;) {
    unsigned char *larger = realloc(*bytes, capacity);
    if (!larger) {
      status = sntk_config_no_memory(ctx);
      goto cleanup;
    }
    *bytes = larger;
    *size += fread(*bytes + *size, 1, capacity - *size, file);
    if (ferror(file)) {
      status = read_failed(ctx, label, errno);
      goto cleanup;
    }
    more = *size == capacity;
    capacity *= 2;
    if (*size > MAX_FILE_BYTES) {
      status =
          sntk_fail(ctx, SNTK_ERR_CONFIG, "%s: the file is larger than 16 MiB; give a configuration, not data", label);
      goto cleanup;
    }
  }
  if (*size >= 3 && !memcmp(*bytes, "\xef\xbb\xbf", 3)) memmove(*bytes, *bytes + 3, *size -= 3);
cleanup:
  fclose(file);
  if (status != SNTK_OK) {
    free(*bytes);
    *bytes = NULL;
  }
  return status;
}

static sntk_status load_file(sntk_context *ctx, sntk_config *config, const char *path) {
  unsigned char *bytes;
  size_t size;
  yaml_document_t document;
  SNTK_TRY(read_file(ctx, path, config->label, &bytes, &size));
  const sntk_config_source source = {config->label, config->directory, true};
  const yaml_text text = {&source, NULL, bytes, size};
  sntk_status status = parse_text(ctx, &text, &document);
  if (status == SNTK_OK) {
    status = apply_document(ctx, config, &source, &document);
    yaml_document_delete(&document);
  }
  free(bytes);
  return status;
}

sntk_status sntk_config_load(sntk_context *ctx, const char *path, sntk_config **config) {
  char label[SNTK_CONFIG_LABEL_CHARS] = "command line";
  const char *slash = path ? strrchr(path, '/') : NULL;
  char *directory = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup("");
  *config = NULL;
  if (!directory) return sntk_config_no_memory(ctx);
  if (path) label_of(path, label);
  sntk_status status = config_allocate(ctx, label, directory, config);
  free(directory);
  if (status == SNTK_OK) status = set_defaults(ctx, *config, path);
  if (status == SNTK_OK && path) status = load_file(ctx, *config, path);
  if (status != SNTK_OK) {
    sntk_config_free(*config);
    *config = NULL;
  }
  return status;
}

/* ---- the command line --------------------------------------------------------------------------- */

static sntk_status set_node(sntk_context *ctx, sntk_config *config, const sntk_config_source *source,
                            yaml_document_t *document, const char *key) {
  const yaml_node_t *node = yaml_document_get_root_node(document);
  const sntk_config_row *row = sntk_config_row_find(key);
  char expected[EXPECT_CHARS];
  if (!node)
    return sntk_config_refuse(ctx, source->label, key, "the value is empty; give %s",
                              row ? expectation(row, expected) : "a list of values such as [64, 128]");
  if (!row) return sntk_config_grid_set(ctx, config, source, document, node, source->label, key + strlen("grid."));
  SNTK_TRY(set_key(ctx, config, source, document, node, row));
  sntk_config_grid_remove(config, row); /* else the axis would win over what was asked for last */
  return SNTK_OK;
}

sntk_status sntk_config_set_value(sntk_context *ctx, sntk_config *config, const char *key, const char *value,
                                  const char *origin) {
  char shown[SNTK_CONFIG_SHOW_CHARS];
  yaml_document_t document;
  const sntk_config_source source = {origin, "", false};
  show(key, strlen(key), false, shown);
  const char *axis = strncmp(key, "grid.", strlen("grid.")) ? NULL : key + strlen("grid.");
  if (section_find(key))
    return sntk_config_refuse(ctx, origin, key, "is a section; set one of its keys, such as %s",
                              section_find(key)->key);
  if (!strcmp(key, "grid"))
    return sntk_config_refuse(ctx, origin, key, "is a section; set an axis, such as grid.seed=[1, 2]");
  if (!sntk_config_row_find(axis ? axis : key))
    return sntk_config_refuse_unknown(ctx, origin, shown, axis ? axis : key);
  const yaml_text text = {&source, shown, (const unsigned char *)value, strlen(value)};
  SNTK_TRY(parse_text(ctx, &text, &document));
  const sntk_status status = set_node(ctx, config, &source, &document, key);
  yaml_document_delete(&document);
  return status;
}

sntk_status sntk_config_set(sntk_context *ctx, sntk_config *config, const char *assignment) {
  char shown[SNTK_CONFIG_SHOW_CHARS];
  const char *equals = strchr(assignment, '=');
  if (!equals || equals == assignment)
    return sntk_fail(ctx, SNTK_ERR_CONFIG, "--set: %s is not an assignment; give KEY=VALUE, such as network.width=64",
                     show(assignment, strlen(assignment), !*assignment, shown));
  char *key = strndup(assignment, (size_t)(equals - assignment));
  if (!key) return sntk_config_no_memory(ctx);
  const sntk_status status = sntk_config_set_value(ctx, config, key, equals + 1, "--set");
  free(key);
  return status;
}

/* ---- getters ------------------------------------------------------------------------------------ */

static const sntk_config_value *resolve(const sntk_config *config, const sntk_config_row *row) {
  const sntk_config_value *value = &config->values[sntk_config_row_index(row)];
  return value->text || !row->follows ? value : resolve(config, sntk_config_row_find(row->follows));
}

static const sntk_config_value *find_value(const sntk_config *config, const char *key) {
  const sntk_config_row *row = sntk_config_row_find(key);
  assert(row);
  return resolve(config, row);
}

static const sntk_config_value *typed_value(const sntk_config *config, const char *key, sntk_config_type type,
                                            sntk_config_type other) {
  const sntk_config_value *value = find_value(config, key);
  const sntk_config_type found = sntk_config_row_find(key)->type;
  assert((found == type || found == other) && (value->text || is_list(sntk_config_row_find(key))));
  (void)found, (void)type, (void)other; /* without assertions */
  return value;
}

bool sntk_config_given(const sntk_config *config, const char *key) {
  const sntk_config_row *row = sntk_config_row_find(key);
  assert(row);
  return config->values[sntk_config_row_index(row)].given;
}

bool sntk_config_asked(const sntk_config *config, const char *key) {
  return sntk_config_given(config, key) || sntk_config_grid_find(config, sntk_config_row_find(key));
}

bool sntk_config_takes(const sntk_config *config, const char *key, const char *text) {
  const sntk_config_value *value = find_value(config, key);
  const sntk_config_axis *axis = sntk_config_grid_find(config, sntk_config_row_find(key));
  if (!axis) return text && value->text ? strcmp(value->text, text) == 0 : text == value->text;
  for (int64_t i = 0; text && i < axis->count; i++)
    if (strcmp(axis->values[i].text, text) == 0) return true;
  return false;
}

bool sntk_config_has(const sntk_config *config, const char *key) { return find_value(config, key)->text != NULL; }

int64_t sntk_config_int(const sntk_config *config, const char *key) {
  return typed_value(config, key, SNTK_CONFIG_INT, SNTK_CONFIG_INT)->integer;
}

double sntk_config_real(const sntk_config *config, const char *key) {
  return typed_value(config, key, SNTK_CONFIG_REAL, SNTK_CONFIG_REAL)->real;
}

bool sntk_config_bool(const sntk_config *config, const char *key) {
  return typed_value(config, key, SNTK_CONFIG_BOOL, SNTK_CONFIG_BOOL)->integer != 0;
}

const char *sntk_config_text(const sntk_config *config, const char *key) {
  const sntk_config_value *value = find_value(config, key);
  assert(value->text);
  return value->text;
}

int sntk_config_choice(const sntk_config *config, const char *key) {
  return (int)typed_value(config, key, SNTK_CONFIG_CHOICE, SNTK_CONFIG_REAL_OR_CHOICE)->integer;
}

bool sntk_config_number(const sntk_config *config, const char *key, double *value) {
  const sntk_config_value *found = typed_value(config, key, SNTK_CONFIG_REAL_OR_CHOICE, SNTK_CONFIG_REAL_OR_CHOICE);
  if (found->is_number) *value = found->real;
  return found->is_number;
}

const int64_t *sntk_config_ints(const sntk_config *config, const char *key, int64_t *count) {
  const sntk_config_value *value = typed_value(config, key, SNTK_CONFIG_INTS, SNTK_CONFIG_INTS);
  *count = value->count;
  return value->ints;
}

const double *sntk_config_reals(const sntk_config *config, const char *key, int64_t *count) {
  const sntk_config_value *value = typed_value(config, key, SNTK_CONFIG_REALS, SNTK_CONFIG_REALS);
  *count = value->count;
  return value->reals;
}

const char *sntk_config_origin(const sntk_config *config, const char *key) {
  const sntk_config_row *row = sntk_config_row_find(key);
  assert(row);
  const sntk_config_axis *axis = sntk_config_grid_find(config, row);
  const sntk_config_value *value = resolve(config, row);
  return axis ? axis->origin : value->origin ? value->origin : config->label;
}

sntk_status sntk_config_error(sntk_context *ctx, const sntk_config *config, const char *key, sntk_status status,
                              const char *format, ...) {
  va_list args;
  va_start(args, format);
  refuse(ctx, status, sntk_config_origin(config, key), key, format, args);
  va_end(args);
  return status;
}

sntk_status sntk_config_require(sntk_context *ctx, const sntk_config *config, const char *key) {
  const sntk_config_row *row = sntk_config_row_find(key);
  assert(row);
  char expected[EXPECT_CHARS];
  if (resolve(config, row)->text || sntk_config_grid_find(config, row)) return SNTK_OK;
  return sntk_config_refuse(ctx, config->label, key, "is missing (%s); give %s", row->help, expectation(row, expected));
}

/* ---- JSON and --help ---------------------------------------------------------------------------- */

/* The object of the row's section, made where it is not there yet; borrowed. */
static json_t *section_object(json_t *root, const sntk_config_row *row) {
  const size_t length = prefix_length(row->key);
  char name[MAX_KEY_CHARS];
  if (!length) return root;
  snprintf(name, sizeof name, "%.*s", (int)length - 1, row->key);
  json_t *section = json_object_get(root, name);
  if (section) return section;
  return json_object_set_new(root, name, json_object()) ? NULL : json_object_get(root, name);
}

json_t *sntk_config_to_json(const sntk_config *config) {
  json_t *root = json_object();
  bool complete = root != NULL;
  for (int i = 0; complete && i < ROW_COUNT; i++) {
    const sntk_config_value *value = resolve(config, &rows[i]);
    if (!value->text) continue;
    json_t *section = section_object(root, &rows[i]);
    complete =
        section && !json_object_set_new(section, last_part(rows[i].key), sntk_config_value_json(&rows[i], value));
  }
  if (complete && config->axis_count) complete = !json_object_set_new(root, "grid", sntk_config_grid_json(config));
  if (complete) return root;
  json_decref(root);
  return NULL;
}

static void append_type(char *text, size_t size, const sntk_config_row *row) {
  switch (row->type) {
    case SNTK_CONFIG_NAME:
      append(text, size, "text");
      break;
    case SNTK_CONFIG_PATH:
      append(text, size, "path");
      break;
    case SNTK_CONFIG_BOOL:
      append(text, size, "true|false");
      break;
    case SNTK_CONFIG_INT:
      append(text, size, "whole number in ");
      break;
    case SNTK_CONFIG_INTS:
      append(text, size, "list of whole numbers");
      break;
    case SNTK_CONFIG_REALS:
      append(text, size, "list of numbers");
      break;
    case SNTK_CONFIG_REAL:
    case SNTK_CONFIG_REAL_OR_CHOICE:
      append(text, size, "number in ");
      break;
    case SNTK_CONFIG_CHOICE:
      break;
  }
  if (row->type == SNTK_CONFIG_INT || row->type == SNTK_CONFIG_REAL || row->type == SNTK_CONFIG_REAL_OR_CHOICE)
    append_range(text, size, row);
  if (row->choices) append(text, size, "%s%s", row->type == SNTK_CONFIG_CHOICE ? "" : ", or ", row->choices);
}

/* Does the row's section have keys that can be an axis? */
static bool section_has_axes(const sntk_config_row *row) {
  const size_t length = prefix_length(row->key);
  bool found = false;
  for (int i = 0; i < ROW_COUNT; i++)
    found =
        found || (!rows[i].no_axis && prefix_length(rows[i].key) == length && !strncmp(rows[i].key, row->key, length));
  return found;
}

/* "network, data or train": the sections whose keys can be axes. */
static void append_axis_sections(char *text, size_t size) {
  int count = 0, done = 0;
  for (int i = 0; i < ROW_COUNT; i++) count += begins_section(i) && section_has_axes(&rows[i]);
  for (int i = 0; i < ROW_COUNT; i++)
    if (begins_section(i) && section_has_axes(&rows[i])) {
      if (done) append(text, size, "%s", done + 1 < count ? ", " : " or ");
      append(text, size, "%.*s", (int)prefix_length(rows[i].key) - 1, rows[i].key);
      done++;
    }
}

/* "name, precision and paths": what cannot be an axis there. */
static void append_no_axes(char *text, size_t size) {
  for (int i = 0; i < ROW_COUNT; i++)
    if (rows[i].no_axis && rows[i].type != SNTK_CONFIG_PATH &&
        (!prefix_length(rows[i].key) || section_has_axes(&rows[i])))
      append(text, size, "%s, ", rows[i].key);
  text[strlen(text) - strlen(", ")] = '\0';
  append(text, size, " and paths");
}

void sntk_config_print_schema(FILE *file) {
  int width = 0;
  for (int i = 0; i < ROW_COUNT; i++)
    if ((int)strlen(rows[i].key) > width) width = (int)strlen(rows[i].key);
  fprintf(file, "top level:\n");
  for (int i = 0; i < ROW_COUNT; i++) {
    const sntk_config_row *row = &rows[i];
    char type[EXPECT_CHARS] = "";
    append_type(type, sizeof type, row);
    if (begins_section(i)) fprintf(file, "%.*s:\n", (int)prefix_length(row->key) - 1, row->key);
    const char *standing = row->default_value ? row->default_value : row->default_note;
    fprintf(file, "  %-*s %s (%s%s%s)\n", width, row->key, row->help, type, standing ? "; default: " : "; no default",
            standing ? standing : "");
  }
  char sections[EXPECT_CHARS] = "", fixed[2 * EXPECT_CHARS] = "";
  append_axis_sections(sections, sizeof sections);
  append_no_axes(fixed, sizeof fixed);
  fprintf(file, "grid:\n  %-*s an axis of a sweep: any key of the top level, %s, in full,\n  %-*s but %s\n", width,
          "KEY: [VALUE, ...]", sections, width, "", fixed);
}
