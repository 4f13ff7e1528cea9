/**
 * @file app.h
 * @brief What the commands of the program share.
 *
 * A command reads the configuration, opens the backend, makes the data, runs the engine and records points. Functions
 * return an sntk_status with the text in the context; main() prints it once and turns it into the exit code.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_APP_H
#define SOFTNTK_APP_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "cluster/shard.h"
#include "core/config.h"
#include "core/output.h"
#include "core/plan.h"
#include "core/record.h"
#include "softntk/softntk.h"

typedef struct app app;
typedef struct app_table app_table;

/* A command of the program. */
typedef struct app_command {
  const char *name, *summary;
  bool needs_config;
  sntk_status (*run)(app *a);
} app_command;

extern const app_command app_cmd_bench, app_cmd_info, app_cmd_ntk, app_cmd_perturb, app_cmd_sweep, app_cmd_train,
    app_cmd_width;

/* An option that sets a key of the configuration. */
typedef struct app_key {
  const char *option, *key, *value;
} app_key;

/* The command line. Strings point into argv. */
typedef struct app_options {
  const app_command *command;
  const char *config_path;
  const char **sets; /* --set arguments, in order */
  int set_count;
  app_key *keys; /* bench: --width and its kin, in order */
  int key_count;
  const char *bench_kind;
  const char *backend, *precision, *seed, *threads, *out; /* NULL where not given */
  int device;
  int64_t memory_limit;
  sntk_shard shard;
  int64_t profile_start, profile_count; /* steps bracketed for the device's profiler; count 0: none */
  bool resume, dry_run, json, quiet, help, version;
} app_options;

struct app {
  app_options options;
  sntk_context *ctx;
  sntk_config *config;
  sntk_run *run;                    /* open run, or NULL */
  char *directory;                  /* of the run */
  int64_t point_index, point_count; /* for the progress line */
  bool untold;                      /* something was not printed for want of memory: the command fails */
  sntk_status lost;                 /* why the first file of results that could not be written was not */
  char lost_text[SNTK_ERROR_CHARS];
  int64_t loading; /* most memory that the process had when its first point's data were read */
};

/* options.c. Parses argv; SNTK_ERR_ARGUMENT with a text on bad usage. */
sntk_status app_parse(app *a, int argc, char **argv);
void app_print_help(const app_command *command);

/* ---- text.c: what is printed for people ---- */

/* Copies what fits of a text with its end, control characters and bytes that are not UTF-8 as \xHH; returns how many
 * bytes of the text that was. */
size_t app_escape(const char *text, char *out, size_t size);
/* One line, printf style, escaped. */
void app_line(FILE *file, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- signals.c ---- */

/* From here on the signals that ask a run to end raise the context's interrupt flag. */
void app_catch_signals(app *a);
/* Do they also end a call of the system that waits (for a pipe's other end)? Not otherwise: files are written whole. */
void app_signals_end_calls(bool end);

/* unused.c. Refuses what is given and changes nothing in this command. */
sntk_status app_check_keys(app *a);

/* ---- app.c ---- */

/* Opens the backend that --backend or the configuration asks for. */
sntk_status app_open_backend(app *a);

/* Data, network and training of one configuration (a grid point or the whole file). */
typedef struct app_problem {
  const sntk_config *config;
  sntk_data *data;
  sntk_array weights, signs, displacement; /* loaded; values NULL where random, or none */
  sntk_network_options network;
  sntk_train_options train;
} app_problem;

/* Reads a problem; `has_width` false leaves network.width 0 (the width command, the infinite kernel alone). */
sntk_status app_problem_create(app *a, const sntk_config *config, bool has_width, app_problem *problem);
void app_problem_clear(app_problem *problem);

/* Is network.width there where it is needed and no weights are given, and even where neurons are paired? */
sntk_status app_check_width(app *a, const sntk_config *config, bool needed);
/* What can be told of the grid's points without their data, before the first one runs. */
sntk_status app_check_points(app *a, bool needs_width);

/* Of a point that takes so many bytes more (-1: they do not fit 63 bits), its data being there: what the process comes
 * to in all, as its resident set is counted; on a device with memory of its own those bytes alone. Asked before
 * anything else of the point runs. */
int64_t app_memory(app *a, int64_t bytes);
/* SNTK_ERR_MEMORY, naming the configuration's line, where that is more than there is. */
sntk_status app_check_memory(app *a, const app_problem *problem, const char *key, int64_t bytes);

/* Seconds of a training step, of eta, of a Gram matrix as training follows it (float64) or as ntk takes it, scaled from
 * short measurements. */
typedef struct app_estimate {
  double step_seconds, eta_seconds, gram_seconds, gram64_seconds;
} app_estimate;
sntk_status app_measure(app *a, const app_problem *problem, int64_t width, app_estimate *estimate);

/* Seconds of the eigenvalues of a matrix of this order, likewise. */
sntk_status app_measure_eigenvalues(app *a, int64_t size, double *seconds);

/* Prints a dry run's summary. */
sntk_status app_print_dry_run(app *a, int64_t points, int64_t bytes, double seconds, const char *note);

/* Starts or resumes the run's directory. */
sntk_status app_run_open(app *a);
/* Before the tables of a grid: takes in the points that other shards have added meanwhile. */
void app_run_gather(app *a);
/* Ends it with a status that fits `result`; returns result, or the failure of closing, or what keeps the run from being
 * good: none of its points is, or a file of results is not there. */
sntk_status app_run_close(app *a, sntk_status result);

/* After an attempt to write a file of results: run.json has its checksum, or why it is not there. A point that is
 * finished is never lost with its file. */
void app_result(app *a, const char *path, sntk_status written);

/* Keys that every point has: kind, id, status, the network's and data's. NULL without memory, which the setters and
 * app_record take. Free with sntk_record_free. */
sntk_record *app_point(app *a, const app_problem *problem, const char *kind, const char *id);
/* How far an eigenvalue of a float64 kernel of this width may be off where all of them were computed: by the solver, of
 * size eps |H|_2, and by rounding of the matrix. */
double app_dense_error(const app *a, const app_problem *problem, int64_t width, double lambda_max);
/* How such eigenvalues were found, how well lambda_min is known, and whether that is enough to tell it from zero. */
void app_point_dense(sntk_record *point, double lambda_min, double error);
/* Marks a point as failed with the context's error text. */
void app_point_fail(app *a, sntk_record *point);
/* Is this a failure of one point's numbers, after which a sweep goes on? */
bool app_point_failure(sntk_status status);

/* Records a point; prints it as a JSON line with --json. SNTK_ERR_MEMORY where it is NULL or lost a member: such a
 * point is computed again, never recorded in part. */
sntk_status app_record(app *a, const sntk_record *point);
/* Prints a record as a JSON line and frees it; SNTK_ERR_MEMORY where it is NULL or lost a member. */
sntk_status app_print_record(app *a, sntk_record *record);

/* One training or one Gram matrix at one configuration: makes the point (not yet recorded). `h5` names run.h5 or is
 * NULL. A numerical failure is SNTK_OK with a failed point, and *failure tells which. */
sntk_status app_train_point(app *a, const sntk_config *config, const char *id, const char *h5, sntk_record **point,
                            sntk_status *failure);
sntk_status app_ntk_point(app *a, const sntk_config *config, const char *id, const char *h5, sntk_record **point,
                          sntk_status *failure);
/* Bytes (of the process in all) and seconds of one point, for --dry-run. */
sntk_status app_train_cost(app *a, const sntk_config *config, int64_t *bytes, double *seconds);
sntk_status app_ntk_cost(app *a, const sntk_config *config, int64_t *bytes, double *seconds);
/* Are the files of the prefixes that ntk has recorded there? *there stays as it is where they are. */
sntk_status app_prefixes_there(app *a, bool *there);
/* Tables of recorded points of one kind. */
void app_train_table(app *a);
void app_ntk_table(app *a);

/* A whole command that runs one point with the functions above. */
typedef sntk_status (*app_point_fn)(app *a, const sntk_config *config, const char *id, const char *h5,
                                    sntk_record **point, sntk_status *failure);
typedef sntk_status (*app_cost_fn)(app *a, const sntk_config *config, int64_t *bytes, double *seconds);
typedef void (*app_table_fn)(app *a);
sntk_status app_single(app *a, const char *kind, app_point_fn point_of, app_cost_fn cost_of, app_table_fn table_of);

/* /weights and /signs of a network into run.h5. */
sntk_status app_write_network(app *a, sntk_h5 *file, sntk_network *net);
void app_plan_write_network(const sntk_network_options *options, sntk_plan *plan);

/* Members of a JSON object, with defaults: NaN, "" and 0. */
double app_real(const json_t *object, const char *key);
const char *app_text(const json_t *object, const char *key);
int64_t app_int(const json_t *object, const char *key);

/* Refuses save.weights, which only train and ntk can honour. */
sntk_status app_refuse_save(app *a);

/* Recorded points of a kind, parsed: an array; new reference. NULL, and all of them untold, without memory. */
json_t *app_points(app *a, const char *kind);
/* A recorded point's text, parsed; new reference. */
sntk_status app_recorded(app *a, const char *text, json_t **point);

/* A progress line on the terminal; nothing into a pipe. */
void app_progress_begin(app *a);
void app_progress_end(app *a);

/* ---- axes.c: the grid's axes in a point's id ---- */

/* "<id>,<axes>", or the axes alone where the id is "-". Free with free(); NULL without memory. */
char *app_id(const char *id, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The axes of a point's id ("a.b=1,seed=2", "-" for none) that are among `keys` (keep) or are not: "a.b=1". Free with
 * free(); NULL without memory. */
char *app_axes(const char *id, bool keep, const char *const *keys, size_t count);
/* Does some point's id have an axis beyond `keys`? Then a table needs a column for them. */
bool app_more_axes(const json_t *points, const char *const *keys, size_t count);
/* A cell of the axes that are not among `keys`. */
void app_axes_cell(app_table *table, const json_t *point, const char *const *keys, size_t count);

/* ---- laws.c: power laws through recorded points ---- */

/* A figure of points. Where it is null, `above` and `at_most` name members that say between what it lies: it was looked
 * for, and is more than the one, or at most the other (which may also equal it: nothing below was looked at). */
typedef struct app_quantity {
  const char *key, *name;      /* name: in tables; NULL: the key */
  const char *above, *at_most; /* NULL: nothing is known of a missing one */
} app_quantity;

/* A law through the points of one kind. */
typedef struct app_law {
  sntk_power_fit fit;
  bool determined;
  int64_t missing;   /* points of which nothing is known */
  double low, high;  /* abscissas in use */
  int64_t draws;     /* seeds */
  const char **draw; /* their names; borrowed from the points */
  double *exponents; /* theirs, as sntk_power_law gives them */
} app_law;

/* Gives each point the members "law" (its axes but `abscissa` and the seeds), "apart" (those but the activation too)
 * and "draw" (its seeds), for this process only. */
sntk_status app_name_laws(app *a, json_t *points, const char *abscissa);
bool app_same_law(const json_t *a, const json_t *b);
bool app_first_of_law(const json_t *points, size_t index);
/* Points of the law of points[index] with the same x; *first: no earlier one. */
int64_t app_law_draws(const json_t *points, size_t index, const char *x, bool *first);
/* A cell of the median of a figure over them, "-" where fewer than half have it. */
void app_median_cell(app_table *table, const json_t *points, const json_t *like, const char *x, const app_quantity *q);
/* Fits a quantity against x over a law's points; not being determined is no failure. Clear the law on success. */
sntk_status app_fit_law(app *a, const json_t *points, const json_t *like, const char *x, const app_quantity *q,
                        app_law *law);
void app_law_clear(app_law *law);
/* Is there something to say: an exponent, or that censored points leave none? */
bool app_law_told(const app_law *law);
/* A fit as a record. Free with sntk_record_free. */
sntk_record *app_fit_point(const char *kind, const json_t *like, const char *x, const app_quantity *q,
                           const app_law *law);
/* Four cells: points, seeds, exponent, interval. */
void app_law_cells(app_table *table, const app_law *law);
/* Differences of the exponents of named laws between activations, paired by seed: a table, or records of `kind` with
 * "_difference" behind it. */
sntk_status app_print_differences(app *a, const json_t *points, const char *kind, const char *x,
                                  const app_quantity *quantities, size_t count);
/* Names the laws along `axis`, fits each quantity against member x, and prints a table, or records of `kind` with
 * --json, with the differences between activations behind it; nothing where no law is determined. */
sntk_status app_print_laws(app *a, json_t *points, const char *kind, const char *axis, const char *x,
                           const app_quantity *quantities, size_t count);

/* ---- table.c: aligned columns on standard output ---- */
app_table *app_table_create(int columns, const char *const *headers);
/* Appends one cell, printf style; rows fill up in order. */
void app_table_cell(app_table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A text; NULL is one that found no memory. */
void app_table_text(app_table *table, const char *text);
/* A number in four digits, or "-" where it is not finite. */
void app_table_number(app_table *table, double value);
/* Prints it; nothing, and it is untold, where it is NULL or found no memory for a cell. */
void app_table_print(app *a, const app_table *table);
void app_table_free(app_table *table);

#endif
