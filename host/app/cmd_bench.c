/**
 * @file cmd_bench.c
 * @brief softntk bench: how fast, beside what this machine could do.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/app.h"
#include "bench/bench.h"

enum { LEAST_RUNS = 7 };
static const double LEAST_SECONDS = 3.0;

static const char *const activations[] = {"softmax", "relu", "exp", "exp_normalized"};

/* A whole number of the configuration, or what the benchmark takes where it is not given. */
static int64_t given(const sntk_config *config, const char *key, int64_t otherwise) {
  return sntk_config_has(config, key) ? sntk_config_int(config, key) : otherwise;
}

static sntk_bench_case read_case(const app *a, sntk_bench_kind kind) {
  const sntk_config *config = a->config;
  const bool step = kind == SNTK_BENCH_STEP;
  sntk_bench_case c = {.kind = kind, .network = SNTK_NETWORK_OPTIONS_INIT};
  const char *activation =
      sntk_config_has(config, "network.activation") ? sntk_config_text(config, "network.activation") : activations[0];
  for (int i = 0; i < (int)(sizeof activations / sizeof *activations); i++)
    if (strcmp(activation, activations[i]) == 0) c.network.activation = (sntk_activation)i;
  c.network.width = given(config, "network.width", 65536);
  c.network.dim = given(config, "data.dim", 32);
  c.network.outputs = given(config, "network.outputs", 1);
  c.network.precision =
      sntk_context_precision(a->ctx, strcmp(sntk_config_text(config, "precision"), "f64") == 0 ? SNTK_F64 : SNTK_F32);
  c.network.form =
      strcmp(sntk_config_text(config, "network.form"), "displacement") == 0 ? SNTK_FORM_DISPLACEMENT : SNTK_FORM_PLAIN;
  c.network.init = step && c.network.width % 2 == 0 ? SNTK_INIT_SYMMETRIC : SNTK_INIT_IID;
  c.network.seed = (uint64_t)sntk_config_int(config, "seed");
  c.network.streamed = kind == SNTK_BENCH_GRAM && c.network.form == SNTK_FORM_PLAIN;
  c.samples = kind == SNTK_BENCH_RNG ? 0 : given(config, "data.samples", 1024);
  return c;
}

/* A limit, NaN where it was not measured. */
static double measured(double limit) { return limit > 0.0 ? limit : NAN; }

static sntk_record *to_record(const app *a, const char *name, const sntk_bench_case *c, const sntk_bench_result *r) {
  const sntk_network_options *o = &c->network;
  const sntk_precision type = o->precision;
  sntk_record *out = sntk_record_create();
  sntk_record_text(out, "kind", "bench");
  sntk_record_text(out, "case", name);
  sntk_record_text(out, "activation", activations[o->activation]);
  sntk_record_int(out, "samples", c->samples);
  sntk_record_int(out, "dim", o->dim);
  sntk_record_int(out, "outputs", o->outputs);
  sntk_record_int(out, "width", o->width);
  sntk_record_text(out, "precision", type == SNTK_F64 ? "f64" : "f32");
  sntk_record_text(out, "form", o->form == SNTK_FORM_DISPLACEMENT ? "displacement" : "plain");
  sntk_record_text(out, "backend", sntk_context_backend(a->ctx));
  sntk_record_int(out, "threads", sntk_context_threads(a->ctx));
  sntk_record_text(out, "device", sntk_context_device(a->ctx));
  sntk_record_bool(out, "emulated", sntk_context_emulated(a->ctx));
  const struct {
    const char *key;
    double value;
  } numbers[] = {{"median_s", r->median},
                 {"q1_s", r->q1},
                 {"q3_s", r->q3},
                 {"flops", r->flops},
                 {"bytes", r->bytes},
                 {"exps", r->exps},
                 {"bound_s", r->bound},
                 {"bound_share", r->bound_share},
                 {"peak_share", r->flops / 2.0 / r->median / measured(r->limits.multiply_adds)},
                 {"syrk_share", r->flops / r->median / measured(r->limits.syrk)},
                 {"peak_multiply_adds_per_s", measured(r->limits.multiply_adds)},
                 {"peak_gemm_flops_per_s", measured(r->limits.gemm)},
                 {"peak_syrk_flops_per_s", measured(r->limits.syrk)},
                 {"peak_exps_per_s", measured(r->limits.exponentials)},
                 {"peak_bytes_per_s", measured(r->limits.bandwidth)}};
  sntk_record_int(out, "runs", r->runs);
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) sntk_record_real(out, numbers[i].key, numbers[i].value);
  return out;
}

static void print_table(app *a, const char *name, const sntk_bench_case *cases, const sntk_bench_result *results,
                        int count) {
  static const char *const headers[] = {"case", "activation", "n",  "d",  "p",    "m",        "type",
                                        "form", "median ms",  "q1", "q3", "runs", "bound ms", "share"};
  app_table *table = app_table_create((int)(sizeof headers / sizeof *headers), headers);
  for (int i = 0; i < count; i++) {
    const sntk_network_options *o = &cases[i].network;
    const sntk_bench_result *r = &results[i];
    app_table_cell(table, "%s", name);
    app_table_cell(table, "%s", activations[o->activation]);
    app_table_cell(table, "%lld", (long long)cases[i].samples);
    app_table_cell(table, "%lld", (long long)o->dim);
    app_table_cell(table, "%lld", (long long)o->outputs);
    app_table_cell(table, "%lld", (long long)o->width);
    app_table_cell(table, "%s", o->precision == SNTK_F64 ? "f64" : "f32");
    app_table_cell(table, "%s", o->form == SNTK_FORM_DISPLACEMENT ? "displacement" : "plain");
    app_table_number(table, 1e3 * r->median);
    app_table_number(table, 1e3 * r->q1);
    app_table_number(table, 1e3 * r->q3);
    app_table_number(table, (double)r->runs);
    app_table_number(table, 1e3 * r->bound);
    app_table_number(table, r->bound_share);
  }
  app_table_print(a, table);
  app_table_free(table);
  const sntk_roofline *limits = &results[0].limits;
  if (!(limits->bandwidth > 0.0)) return;
  printf("limits in this run: %.3g multiply-adds/s, matrix product %.3g flop/s", limits->multiply_adds, limits->gemm);
  if (limits->syrk > 0.0) printf(", U U^T %.3g flop/s", limits->syrk);
  printf(", %.3g exp/s, %.3g bytes/s\n", limits->exponentials, limits->bandwidth);
}

/* A benchmark leaves no run. */
static sntk_status refuse_options(app *a) {
  const app_options *o = &a->options;
  const char *option = o->out             ? "--out"
                       : o->resume        ? "--resume"
                       : o->dry_run       ? "--dry-run"
                       : o->profile_count ? "--profile"
                                          : NULL;
  if (!option) return SNTK_OK;
  return sntk_fail(a->ctx, SNTK_ERR_ARGUMENT, "%s is not for bench, which leaves no run", option);
}

/* The displacement form is that of a step's pairs; and `count` such cases at once must fit the memory. */
static sntk_status check_case(app *a, const char *name, const sntk_bench_case *c, int count) {
  const bool displacement = c->network.form == SNTK_FORM_DISPLACEMENT;
  if (displacement && (c->kind != SNTK_BENCH_STEP || c->network.width % 2))
    return sntk_fail(
        a->ctx, SNTK_ERR_ARGUMENT,
        "bench %s --form displacement --width %lld: displacements are those of pairs in a step; use step or "
        "compare and an even width, or form plain",
        name, (long long)c->network.width);
  const int64_t bytes = sntk_size_mul(sntk_bench_bytes(a->ctx, c), count), there = sntk_context_memory(a->ctx);
  char needed[32], available[32];
  if (there < 0) return SNTK_ERR_DEVICE; /* the reason is the context's error */
  if (bytes >= 0 && bytes <= there) return SNTK_OK;
  return sntk_fail(a->ctx, SNTK_ERR_MEMORY, "bench %s needs %s and there are %s; use a smaller --width or --samples",
                   name, bytes < 0 ? "more than an address space" : sntk_format_bytes(bytes, needed),
                   sntk_format_bytes(there, available));
}

static sntk_status run(app *a) {
  static const char *const kinds[] = {"step", "gram", "rng", "compare"};
  const char *name = a->options.bench_kind;
  int kind = 0;
  while (kind < 4 && name && strcmp(name, kinds[kind]) != 0) kind++;
  if (!name || kind == 4)
    return sntk_fail(a->ctx, SNTK_ERR_ARGUMENT, "softntk bench %s: use step, gram, rng or compare", name ? name : "");
  SNTK_TRY(refuse_options(a));
  SNTK_TRY(app_open_backend(a));
  sntk_bench_case cases[3];
  sntk_bench_result results[3];
  const int count = kind == 3 ? 3 : 1;
  for (int i = 0; i < count; i++) {
    cases[i] = read_case(a, kind == 3 ? SNTK_BENCH_STEP : (sntk_bench_kind)kind);
    if (kind == 3) cases[i].network.activation = (sntk_activation)i;
  }
  SNTK_TRY(check_case(a, name, &cases[0], count));
  SNTK_TRY(sntk_bench_run(a->ctx, cases, count, LEAST_SECONDS, LEAST_RUNS, results));
  for (int i = 0; i < count && a->options.json; i++) {
    SNTK_TRY(app_print_record(a, to_record(a, kind == 3 ? "step" : name, &cases[i], &results[i])));
  }
  if (a->options.json || a->options.quiet) return SNTK_OK;
  print_table(a, name, cases, results, count);
  if (sntk_context_emulated(a->ctx)) printf("the device is emulated on the host: these times say nothing of a GPU\n");
  return SNTK_OK;
}

const app_command app_cmd_bench = {
    "bench", "Timings beside this machine's own limits: bench step|gram|rng, or compare (the three activations).",
    false, run};
