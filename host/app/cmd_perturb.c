/**
 * @file cmd_perturb.c
 * @brief softntk perturb: how far the kernel moves when every neuron moves by at most R.
 *
 * At every point of the grid (activation, width, seed, ...), for each kind of direction and each radius, a point of
 * kind perturb; and for each kind of direction the radius of the convex region, within which lambda_min keeps its
 * share, a point of kind perturb_region. Then power laws in R and in the width.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/app.h"
#include "engine/engine.h"

/* How the neurons are moved; an adversary starts from the random direction. */
typedef enum direction_kind { DIRECTION_RANDOM, DIRECTION_TRAINING, DIRECTION_ADVERSARIAL, DIRECTIONS } direction_kind;
static const char *const direction_names[DIRECTIONS] = {"random", "training", "adversarial"};
static const char *const direction_keys[DIRECTIONS] = {"perturb.random", "perturb.training", "perturb.adversarial"};
/* Of max_radius: where the search for the region begins, and below which it gives up. */
static const double FIRST_SHARE = 0x1p-12, LAST_SHARE = 0x1p-40;

/* A grid point under way. */
typedef struct moves {
  app *a;
  const app_problem *problem;
  const char *id;
  sntk_perturb *perturb; /* made when the first figure is asked for */
  int ready;             /* the direction that stands in it, -1 for none */
  double moved;          /* by training */
} moves;

/* ---- figures ---- */

static sntk_status begin(moves *w) {
  if (w->perturb) return SNTK_OK;
  w->ready = -1;
  return sntk_perturb_create(w->a->ctx, &w->problem->network, w->problem->data->inputs, w->problem->data->samples,
                             &w->perturb);
}

/* Puts the direction in place. Random and trained ones serve all radii, an adversarial one is found for each. */
static sntk_status point_at(moves *w, direction_kind direction, sntk_goal goal, double radius, int64_t *ascents) {
  const app_problem *problem = w->problem;
  *ascents = 0;
  SNTK_TRY(begin(w));
  if (w->ready == (int)direction && direction != DIRECTION_ADVERSARIAL) return SNTK_OK;
  w->ready = -1;
  if (direction == DIRECTION_TRAINING) {
    SNTK_TRY(sntk_perturb_training(w->a->ctx, w->perturb, problem->data->targets, &problem->train, &w->moved));
  } else {
    SNTK_TRY(sntk_perturb_random(w->a->ctx, w->perturb));
    if (direction == DIRECTION_ADVERSARIAL)
      SNTK_TRY(sntk_perturb_adversarial(w->a->ctx, w->perturb, goal, radius,
                                        sntk_config_int(problem->config, "perturb.ascent_steps"), ascents));
  }
  w->ready = (int)direction;
  return SNTK_OK;
}

static sntk_status measure(moves *w, direction_kind direction, sntk_goal goal, double radius, int64_t *ascents,
                           sntk_perturbation *figures) {
  sntk_status status = point_at(w, direction, goal, radius, ascents);
  if (status == SNTK_OK) status = sntk_perturb_measure(w->a->ctx, w->perturb, radius, figures);
  if (status != SNTK_OK) /* no figure of a failed point may look like one */
    *figures = (sntk_perturbation){
        .radius = radius, .change = NAN, .ratio = NAN, .relative = NAN, .lambda_min = NAN, .lambda_share = NAN};
  return status;
}

/* ---- points ---- */

/* Keys of both kinds of point. */
static sntk_record *point_of(moves *w, const char *kind, const char *id, direction_kind direction) {
  sntk_record *point = app_point(w->a, w->problem, kind, id);
  double lambda_min = NAN, lambda_max = NAN, norm = NAN;
  if (w->perturb) sntk_perturb_kernel(w->perturb, &lambda_min, &lambda_max, &norm);
  sntk_record_text(point, "direction", direction_names[direction]);
  sntk_record_real(point, "lambda_min_initial", lambda_min);
  sntk_record_real(point, "lambda_max_initial", lambda_max);
  app_point_dense(point, lambda_min, app_dense_error(w->a, w->problem, w->problem->network.width, lambda_max));
  sntk_record_real(point, "gram_norm", norm);
  if (direction == DIRECTION_TRAINING && w->ready == (int)direction)
    sntk_record_real(point, "weight_movement", w->moved);
  return point;
}

/* Records a finished or failed point and frees it; other failures end the command. */
static sntk_status record(moves *w, sntk_record *point, sntk_status status) {
  app *a = w->a;
  if (status != SNTK_OK) app_point_fail(a, point);
  app_progress_end(a); /* the line must not mix with a record on standard output */
  const sntk_status recorded = app_record(a, point);
  app_progress_begin(a);
  sntk_record_free(point);
  return recorded;
}

/* lambda_min_error of a point is of both its lambda_min: the move's has the rounding of the kernel's change in it,
 * which is computed in the network's precision. */
static void add_error(const moves *w, sntk_record *point, const sntk_perturbation *f) {
  const app_problem *problem = w->problem;
  double lambda_min, lambda_max, norm;
  sntk_perturb_kernel(w->perturb, &lambda_min, &lambda_max, &norm);
  const double rounding =
      sntk_ntk_rounding(w->a->ctx, &problem->network, problem->data->inputs, problem->data->samples);
  app_point_dense(point, fmin(lambda_min, f->lambda_min),
                  app_dense_error(w->a, problem, problem->network.width, lambda_max) + rounding * f->change);
}

static sntk_status radius_point(moves *w, direction_kind direction, double radius) {
  char *id = app_id(w->id, "direction=%s,radius=%.15g", direction_names[direction], radius);
  sntk_perturbation f;
  if (!id) return sntk_fail(w->a->ctx, SNTK_ERR_MEMORY, "no memory for a point's name");
  sntk_status status = SNTK_OK;
  if (!sntk_run_find(w->a->run, "perturb", id)) {
    const double began = sntk_seconds();
    int64_t ascents = 0;
    double logit = NAN;
    status = measure(w, direction, SNTK_GOAL_CHANGE, radius, &ascents, &f);
    if (status == SNTK_OK) status = sntk_perturb_logit(w->a->ctx, w->perturb, &logit);
    if (status == SNTK_OK || app_point_failure(status)) {
      sntk_record *point = point_of(w, "perturb", id, direction);
      /* the smallest B of this run's logits: the bound with any other is not this run's */
      const double b = status == SNTK_OK ? fmax(logit, 1.0) : NAN;
      const double bound = sntk_perturb_bound(radius, w->problem->data->samples, w->problem->network.outputs, b);
      const struct {
        const char *name;
        double value;
      } members[] = {{"radius", radius},
                     {"change", f.change},
                     {"ratio", f.ratio},
                     {"relative_change", f.relative},
                     {"lambda_min", f.lambda_min},
                     {"lambda_share", f.lambda_share},
                     {"bound_B", b},
                     {"bound", bound},
                     {"bound_share", f.change / bound}};
      for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        sntk_record_real(point, members[i].name, members[i].value);
      if (status == SNTK_OK) add_error(w, point, &f);
      if (direction == DIRECTION_ADVERSARIAL) sntk_record_int(point, "ascents", ascents);
      sntk_record_real(point, "perturb_seconds", sntk_seconds() - began);
      status = record(w, point, status);
    }
  }
  free(id);
  return status;
}

/* Does lambda_min keep its share at this radius? A kernel that overflows does not. An adversary tries both goals: after
 * lambda_min itself, and after a large change, which for relu may lower it more. */
static sntk_status keeps(moves *w, direction_kind direction, double radius, bool *kept) {
  const double ratio = sntk_config_real(w->problem->config, "perturb.lambda_ratio");
  const sntk_goal last = direction == DIRECTION_ADVERSARIAL ? SNTK_GOAL_LAMBDA_MIN : SNTK_GOAL_CHANGE;
  *kept = true;
  for (int goal = SNTK_GOAL_CHANGE; goal <= (int)last && *kept; goal++) {
    sntk_perturbation f;
    int64_t ascents;
    const sntk_status status = measure(w, direction, (sntk_goal)goal, radius, &ascents, &f);
    *kept = status == SNTK_OK && f.lambda_share >= ratio;
    if (status != SNTK_OK && !app_point_failure(status)) return status;
  }
  return SNTK_OK;
}

/* Radii beyond it move some logit further than the engine allows. */
static double largest_radius(const app_problem *problem) {
  double longest = 0.0;
  for (int64_t i = 0; i < problem->data->samples; i++) {
    double square = 0.0;
    for (int64_t k = 0; k < problem->network.dim; k++)
      square +=
          problem->data->inputs[i * problem->network.dim + k] * problem->data->inputs[i * problem->network.dim + k];
    longest = fmax(longest, sqrt(square));
  }
  return SNTK_PERTURB_LOGIT_MOST * (1.0 - 0x1p-40) / longest; /* whatever the rounding */
}

/* A kernel that is singular at W0 has no share of lambda_min to keep. */
static sntk_status check_kernel(const moves *w) {
  double lambda_min, lambda_max, norm;
  sntk_perturb_kernel(w->perturb, &lambda_min, &lambda_max, &norm);
  if (lambda_min > app_dense_error(w->a, w->problem, w->problem->network.width, lambda_max)) return SNTK_OK;
  return sntk_fail(w->a->ctx, SNTK_ERR_NUMERICAL,
                   "H at W0 is singular to rounding (lambda_min %g, lambda_max %g): there is no convex region; use a "
                   "larger width or fewer samples",
                   lambda_min, lambda_max);
}

/* The radius of the region lies between `low` (kept; 0: none found that is) and `high` (not kept; infinite: none found
 * that is not). */
typedef struct bracket {
  double low, high;
  int64_t tried;
} bracket;

static sntk_status look(moves *w, direction_kind direction, double radius, bool *kept, bracket *region) {
  SNTK_TRY(keeps(w, direction, radius, kept));
  region->tried++;
  if (*kept)
    region->low = radius;
  else
    region->high = radius;
  return SNTK_OK;
}

/* From the first radius upward by doubling until one does not keep the share, or downward until one does; then
 * bisection. */
static sntk_status search_region(moves *w, direction_kind direction, bracket *region) {
  const sntk_config *c = w->problem->config;
  const double most = fmin(sntk_config_real(c, "perturb.max_radius"), largest_radius(w->problem));
  const double resolution = sntk_config_real(c, "perturb.resolution");
  bool kept = false;
  int64_t ascents;
  *region = (bracket){.low = 0.0, .high = INFINITY};
  /* without a kernel at W0, or a direction, there is no region, not one of radius 0 */
  SNTK_TRY(begin(w));
  SNTK_TRY(check_kernel(w));
  if (direction == DIRECTION_TRAINING) SNTK_TRY(point_at(w, direction, SNTK_GOAL_CHANGE, most * FIRST_SHARE, &ascents));
  SNTK_TRY(look(w, direction, most * FIRST_SHARE, &kept, region));
  while (isinf(region->high) && region->low < most)
    SNTK_TRY(look(w, direction, fmin(2.0 * region->low, most), &kept, region));
  while (region->low == 0.0 && region->high > most * LAST_SHARE)
    SNTK_TRY(look(w, direction, 0.25 * region->high, &kept, region));
  while (region->low > 0.0 && isfinite(region->high) && region->high > (1.0 + resolution) * region->low)
    SNTK_TRY(look(w, direction, sqrt(region->low * region->high), &kept, region));
  return SNTK_OK;
}

/* Trials of such a search, for --dry-run: up through the doublings, then bisection of one of them. */
static double region_trials(const sntk_config *c) {
  return log2(1.0 / FIRST_SHARE) + log2(log(2.0) / log1p(sntk_config_real(c, "perturb.resolution")));
}

static sntk_status region_point(moves *w, direction_kind direction) {
  char *id = app_id(w->id, "direction=%s", direction_names[direction]);
  if (!id) return sntk_fail(w->a->ctx, SNTK_ERR_MEMORY, "no memory for a point's name");
  sntk_status status = SNTK_OK;
  if (!sntk_run_find(w->a->run, "perturb_region", id)) {
    bracket region = {.low = NAN, .high = NAN};
    const double began = sntk_seconds();
    status = search_region(w, direction, &region);
    if (status != SNTK_OK) region = (bracket){.low = NAN, .high = NAN, .tried = region.tried};
    if (status == SNTK_OK || app_point_failure(status)) {
      sntk_record *point = point_of(w, "perturb_region", id, direction);
      const bool found = region.low > 0.0 && isfinite(region.high);
      sntk_record_real(point, "region_radius", found ? region.low : NAN);
      sntk_record_real(point, "region_at_least", region.low);
      sntk_record_real(point, "region_at_most", region.high);
      sntk_record_int(point, "trials", region.tried);
      sntk_record_real(point, "perturb_seconds", sntk_seconds() - began);
      status = record(w, point, status);
    }
  }
  free(id);
  return status;
}

static int64_t perturb_bytes(app *a, const app_problem *problem) {
  const sntk_config *c = problem->config;
  sntk_plan plan = {0};
  sntk_plan_perturb(a->ctx, &problem->network, problem->data->samples, sntk_config_bool(c, "perturb.adversarial"),
                    sntk_config_bool(c, "perturb.training") ? &problem->train : NULL, &plan);
  return sntk_plan_bytes(&plan);
}

static sntk_status check_options(app *a, const app_problem *problem) {
  const sntk_config *c = problem->config;
  int64_t radii, wanted = 0;
  const double *values = sntk_config_reals(c, "perturb.radii", &radii), most = largest_radius(problem);
  for (int d = 0; d < DIRECTIONS; d++) wanted += sntk_config_bool(c, direction_keys[d]);
  if (wanted == 0)
    return sntk_config_error(a->ctx, c, "perturb.random", SNTK_ERR_CONFIG,
                             "no direction is asked for; leave one of random, training and adversarial true");
  if (radii == 0 && !sntk_config_bool(c, "perturb.convex_region"))
    return sntk_config_error(a->ctx, c, "perturb.radii", SNTK_ERR_CONFIG,
                             "nothing is asked for: give radii, or convex_region: true");
  for (int64_t i = 0; i < radii; i++)
    if (values[i] > most)
      return sntk_config_error(a->ctx, c, "perturb.radii", SNTK_ERR_CONFIG,
                               "%g moves a logit by more than %g; with these inputs give radii up to %.4g", values[i],
                               SNTK_PERTURB_LOGIT_MOST, most);
  return app_check_memory(a, problem, problem->weights.values ? "network.weights" : "network.width",
                          perturb_bytes(a, problem));
}

static sntk_status all_figures(moves *w) {
  const sntk_config *c = w->problem->config;
  int64_t count;
  const double *radii = sntk_config_reals(c, "perturb.radii", &count);
  for (int d = 0; d < DIRECTIONS; d++) {
    if (!sntk_config_bool(c, direction_keys[d])) continue;
    for (int64_t i = 0; i < count; i++) SNTK_TRY(radius_point(w, (direction_kind)d, radii[i]));
    if (sntk_config_bool(c, "perturb.convex_region")) SNTK_TRY(region_point(w, (direction_kind)d));
  }
  return SNTK_OK;
}

static sntk_status grid_point(app *a, int64_t index) {
  SNTK_TRY(sntk_check_interrupt(a->ctx));
  char *id = sntk_config_grid_id(a->config, index);
  if (!id) return sntk_fail(a->ctx, SNTK_ERR_MEMORY, "no memory for a point's name");
  sntk_config *config = NULL;
  app_problem problem = {0};
  sntk_status status = sntk_config_grid_point(a->ctx, a->config, index, &config);
  if (status == SNTK_OK) status = app_problem_create(a, config, true, &problem);
  if (status == SNTK_OK) status = check_options(a, &problem);
  moves w = {.a = a, .problem = &problem, .id = id, .ready = -1};
  if (status == SNTK_OK) status = all_figures(&w);
  sntk_perturb_free(w.perturb);
  app_problem_clear(&problem);
  sntk_config_free(config);
  free(id);
  return status;
}

/* ---- tables ---- */

/* Rows of one law and abscissa share a row, with medians over the seeds. */
static sntk_status print_medians(app *a, json_t *points, const char *x, const char *const *headers, int columns,
                                 const app_quantity *shown, int shown_count) {
  SNTK_TRY(app_name_laws(a, points, ""));
  app_table *table = app_table_create(columns, headers);
  for (size_t i = 0; i < json_array_size(points); i++) {
    const json_t *point = json_array_get(points, i);
    bool first;
    const int64_t seeds = app_law_draws(points, i, x, &first);
    if (!first) continue;
    app_table_cell(table, "%s", app_text(point, "activation"));
    app_table_cell(table, "%lld", (long long)app_int(point, "width"));
    app_table_cell(table, "%lld", (long long)app_int(point, "samples"));
    app_table_cell(table, "%lld", (long long)app_int(point, "dim"));
    app_table_number(table, app_real(point, "sigma"));
    app_table_cell(table, "%s", app_text(point, "direction"));
    app_table_cell(table, "%lld", (long long)seeds);
    for (int k = 0; k < shown_count; k++) app_median_cell(table, points, point, x, &shown[k]);
  }
  app_table_print(a, table);
  app_table_free(table);
  return SNTK_OK;
}

static void print_failures(const json_t *points) {
  size_t index;
  json_t *point;
  json_array_foreach(points, index, point) {
    if (strcmp(app_text(point, "status"), "failed") == 0)
      app_line(stdout, "failed: %s: %s", app_text(point, "id"), app_text(point, "error"));
  }
}

static sntk_status print_tables(app *a) {
  static const char *const headers[] = {"activation",
                                        "m",
                                        "n",
                                        "d",
                                        "sigma",
                                        "direction",
                                        "seeds",
                                        "R",
                                        "|dH|/(R np)",
                                        "|dH|/|H|",
                                        "lambda share",
                                        "B",
                                        "of R np exp(10 B)"};
  static const app_quantity shown[] = {{.key = "radius"},       {.key = "ratio"},   {.key = "relative_change"},
                                       {.key = "lambda_share"}, {.key = "bound_B"}, {.key = "bound_share"}};
  static const char *const region_headers[] = {"activation", "m",     "n",          "d",        "sigma",
                                               "direction",  "seeds", "region's R", "at least", "lambda at W0"};
  static const app_quantity change = {.key = "change"}, ratio = {.key = "ratio"};
  /* a region that was not left as far as was looked is known to reach that far */
  static const app_quantity region = {.key = "region_radius", .above = "region_at_least", .at_most = "region_at_most"};
  const app_quantity shown_region[] = {region, {.key = "region_at_least"}, {.key = "lambda_min_initial"}};
  json_t *points = app_points(a, "perturb"), *regions = app_points(a, "perturb_region");
  sntk_status status = SNTK_OK;
  if (!a->options.json) {
    if (json_array_size(points) > 0)
      status = print_medians(a, points, "radius", headers, (int)(sizeof headers / sizeof *headers), shown,
                             (int)(sizeof shown / sizeof *shown));
    if (json_array_size(points) > 0 && json_array_size(regions) > 0) printf("\n");
    if (status == SNTK_OK && json_array_size(regions) > 0)
      status = print_medians(a, regions, "width", region_headers, (int)(sizeof region_headers / sizeof *region_headers),
                             shown_region, (int)(sizeof shown_region / sizeof *shown_region));
  }
  if (!a->options.json) {
    print_failures(points);
    print_failures(regions);
  }
  if (status == SNTK_OK) status = app_print_laws(a, points, "perturb_fit", "radius", "radius", &change, 1);
  if (status == SNTK_OK) status = app_print_laws(a, points, "perturb_fit", "network.width", "width", &ratio, 1);
  if (status == SNTK_OK) status = app_print_laws(a, regions, "perturb_fit", "network.width", "width", &region, 1);
  json_decref(points);
  json_decref(regions);
  return status;
}

/* ---- the command ---- */

static sntk_status dry_run(app *a, int64_t count) {
  double total = 0.0;
  int64_t most = 0, owned = 0;
  for (int64_t i = 0; i < count; i++) {
    if (!sntk_shard_owns(a->options.shard, i)) continue;
    sntk_config *config;
    app_problem problem = {0};
    app_estimate estimate;
    SNTK_TRY(sntk_check_interrupt(a->ctx));
    SNTK_TRY(sntk_config_grid_point(a->ctx, a->config, i, &config));
    sntk_status status = app_problem_create(a, config, true, &problem);
    if (status == SNTK_OK) status = check_options(a, &problem);
    const int64_t bytes = status == SNTK_OK ? app_memory(a, perturb_bytes(a, &problem)) : 0;
    if (status == SNTK_OK) status = app_measure(a, &problem, problem.network.width, &estimate);
    if (status == SNTK_OK) {
      /* a figure is two walks and a matrix of twice the products; an ascent's step that and a gradient of as much */
      int64_t radii;
      sntk_config_reals(config, "perturb.radii", &radii);
      const double region = sntk_config_bool(config, "perturb.convex_region") ? region_trials(config) : 0.0;
      const double figure = 3.0 * estimate.gram_seconds, figures = (double)radii + region;
      const double steps = (double)sntk_config_int(config, "perturb.ascent_steps");
      if (sntk_config_bool(config, "perturb.random")) total += figures * figure;
      if (sntk_config_bool(config, "perturb.training"))
        total += figures * figure + estimate.step_seconds * (double)problem.train.steps + estimate.eta_seconds;
      if (sntk_config_bool(config, "perturb.adversarial"))
        total += ((double)radii + 2.0 * region) * (1.0 + 2.0 * steps) * figure; /* both goals */
      if (bytes > most) most = bytes;
      owned++;
    }
    app_problem_clear(&problem);
    sntk_config_free(config);
    SNTK_TRY(status);
  }
  return app_print_dry_run(a, owned, most, total, "from short measurements; training at its full budget of steps");
}

static sntk_status run(app *a) {
  const int64_t count = sntk_config_grid_count(a->config);
  if (count < 0) return sntk_fail(a->ctx, SNTK_ERR_CONFIG, "grid: the number of points does not fit 63 bits");
  SNTK_TRY(app_check_points(a, true));
  SNTK_TRY(app_refuse_save(a));
  SNTK_TRY(app_open_backend(a));
  if (a->options.dry_run) return dry_run(a, count);
  SNTK_TRY(app_run_open(a));
  a->point_count = count;
  sntk_status status = SNTK_OK;
  for (int64_t i = 0; i < count && status == SNTK_OK; i++) {
    if (!sntk_shard_owns(a->options.shard, i)) continue;
    a->point_index = i;
    status = grid_point(a, i);
  }
  app_run_gather(a);
  const sntk_status told = a->options.quiet ? SNTK_OK : print_tables(a);
  SNTK_TRY(app_run_close(a, status));
  return told;
}

const app_command app_cmd_perturb = {"perturb", "How far the kernel moves when every neuron moves by at most R.", true,
                                     run};
