#!/usr/bin/env bats
# Power laws of width, sweep and perturb: intervals over seeds, censored points, differences, the theory beside them.
# SPDX-License-Identifier: MIT
load helper

# Student's t, 97.5%, by the number of seeds.
T95='{2: 12.7062047, 3: 4.30265273, 4: 3.18244631}'

write_search() {
  printf '%s\n' 'network: {activation: relu}' 'data: {source: sphere, dim: 4}' 'train: {steps: 60, tolerance: 0.02}' \
    'width: {max_width: 64}' 'grid:' '  network.activation: [softmax, relu]' '  data.samples: [4, 8, 16]' \
    '  seed: [1, 2, 3]' >w.yaml
}

@test "without censored points: the t interval of the seeds' slopes, and of their differences by seed" {
  write_search
  expect 0 width w.yaml --json --threads 1
  empty err
  records keys out width_fit law activation abscissa quantity points censored missing seeds method exponent exponent_low \
    exponent_high factor r_squared
  records keys out width_fit_difference law activation minus abscissa quantity seeds censored method difference \
    difference_low difference_high
  "$PYTHON" - out <<PY
import json, math, sys
t95 = $T95
lines = [json.loads(line) for line in open(sys.argv[1])]
near = lambda a, b: abs(a - b) <= 1e-6 * (1 + abs(b))
def slopes(activation):
    result = {}
    for seed in (1, 2, 3):
        at = [(math.log(p["samples"]), math.log(p["lambda_min"])) for p in lines
              if p["kind"] == "width" and p["activation"] == activation and p["seed"] == seed]
        assert len(at) == 3
        mx, my = (sum(v[k] for v in at) / 3 for k in (0, 1))
        result[seed] = sum((x - mx) * (y - my) for x, y in at) / sum((x - mx) ** 2 for x, _ in at)
    return result
def interval(values):
    mean = sum(values) / len(values)
    half = t95[len(values)] * (sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values)) ** 0.5
    return mean, mean - half, mean + half
softmax, relu = slopes("softmax"), slopes("relu")
for activation, own in ("softmax", softmax), ("relu", relu):
    fit, = (p for p in lines if p["kind"] == "width_fit" and p["quantity"] == "lambda_min" and p["activation"] == activation)
    assert fit["points"] == 9 and fit["seeds"] == 3 and fit["censored"] == 0 and "slopes" in fit["method"], fit
    for key, value in zip(("exponent", "exponent_low", "exponent_high"), interval(list(own.values()))):
        assert near(fit[key], value), (fit, key, value)
pair, = (p for p in lines if p["kind"] == "width_fit_difference" and p["quantity"] == "lambda_min")
assert (pair["activation"], pair["minus"], pair["seeds"]) == ("softmax", "relu", 3) and "paired" in pair["method"], pair
for key, value in zip(("difference", "difference_low", "difference_high"), interval([softmax[s] - relu[s] for s in softmax])):
    assert near(pair[key], value), (pair, key, value)
PY
  expect 0 width w.yaml --resume
  has out '^softmax - relu +m\* loss +3 ' 'difference of exponents' 'paired by seed' 'm\* kernel: .*rank' 'm d / 2 >= n p'
}

@test "points that did not converge are censored, and counted, in fits, medians and records" {
  write_search
  expect 0 width w.yaml --json --threads 1 --set width.max_width=12 --set train.steps=40
  "$PYTHON" - out <<'PY'
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
some = False
for key, bound in ("width_loss", 12), ("width_kernel", 12), ("steps", 40):
    for activation in "softmax", "relu":
        points = [p for p in lines if p["kind"] == "width" and p["activation"] == activation]
        lost = [p for p in points if p[key] is None]
        assert all(p[key + "_above"] == bound for p in lost), lost
        assert all(key + "_above" not in p for p in points if p[key] is not None), points
        for fit in (p for p in lines if p["kind"] == "width_fit" and p["quantity"] == key and p["activation"] == activation):
            assert fit["points"] == 9 and fit["censored"] == len(lost) and fit["missing"] == 0, (fit, lost)
            if fit["exponent"] is not None and lost:
                assert "maximum likelihood" in fit["method"] and fit["r_squared"] is None, fit
                some = True
assert some
PY
  expect 0 width w.yaml --resume --set width.max_width=12 --set train.steps=40
  has out '9 \([0-9] censored\)' '>12( |$)'
}

@test "a width that is the first one tried is at most that, unless it is the narrowest there is" {
  write_search
  expect 0 width w.yaml --json --threads 1 --set width.min_width=32 --set train.tolerance=10 --set 'grid.seed=[1]'
  equal found "$(records get out width_loss width | sort -u)" 32
  equal bound "$(records get out width_loss_at_most width | sort -u)" 32
  equal method "$(records get out method width_fit | head -1)" 'too many censored points'
  expect 0 width w.yaml --json --threads 1 --set train.tolerance=10 --set 'grid.seed=[1]' --out narrow
  equal found "$(records get out width_loss width | sort -u)" 2
  lacks out 'width_loss_at_most'
}

@test "one seed: an exponent, and an interval that is not determined" {
  write_search
  expect 0 width w.yaml --json --threads 1 --set 'grid.seed=[7]'
  for key in exponent_low exponent_high; do
    equal $key "$(records get out $key width_fit | sort -u)" null
  done
  equal difference "$(records get out difference_low width_fit_difference | sort -u)" null
  lacks <(grep '"quantity":"lambda_min"' out | grep width_fit) '"(exponent|difference)":null'
  expect 0 width w.yaml --resume --set 'grid.seed=[7]'
  has out 'lambda +3 +1 +-[0-9.]+ +not determined' 'softmax - relu +lambda +1 +[-0-9.]+ +not determined'
}

@test "the theory: its polynomial part, and with exp(18 B) and exp(16 B) over the n measured, C named" {
  write_search
  expect 0 width w.yaml --json --threads 1 --set train.theory_c=0.8 --set train.theory_delta=0.05 --set network.sigma=1.5
  "$PYTHON" - out <<'PY'
import json, math, sys
fits = [p for p in map(json.loads, open(sys.argv[1])) if p["kind"] == "width_fit"]
b = lambda n: max(0.8 * 1.5 * math.sqrt(math.log(n / 0.05)), 1)
assert b(4) > 1
for fit in fits:
    of_lambda, = (f["exponent"] for f in fits if f["quantity"] == "lambda_min" and f["activation"] == fit["activation"])
    if fit["quantity"] == "lambda_min":
        assert "theory_exponent" not in fit
        continue
    weight = 0 if fit["activation"] == "relu" else 16 if fit["quantity"] == "steps" else 18
    assert abs(fit["theory_exponent"] - (2 - 2 * of_lambda)) < 1e-12, fit
    assert abs(fit["theory_exponent_whole"] - (2 - 2 * of_lambda + weight * (b(16) - b(4)) / math.log(4))) < 1e-9, fit
    assert fit["theory_c"] == 0.8 and fit["theory_delta"] == 0.05, fit
PY
  expect 0 width w.yaml --set train.theory_c=0.8 --out table
  has out '<= 2 - 2\(-?[0-9.]+\) = [0-9.]+ +<= [0-9.]+, exp\(18 B\), C = 0\.8' 'exp\(16 B\), C = 0\.8' 'train\.theory_c'
}

@test "a region that was not left as far as was looked is censored, not missing" {
  printf '%s\n' 'network: {activation: softmax}' 'data: {source: sphere, samples: 6, dim: 4}' \
    'perturb: {radii: [], adversarial: false, training: false}' \
    'grid: {network.width: [32, 64], seed: [1, 2]}' >p.yaml
  expect 0 perturb p.yaml --json --set perturb.max_radius=0.01
  equal censored "$(records get out censored perturb_fit)" 4
  equal missing "$(records get out missing perturb_fit)" 0
  equal exponent "$(records get out exponent perturb_fit)" null
  expect 0 perturb p.yaml --set perturb.max_radius=0.01 --out table
  has out '^softmax .* >0\.01 +0\.01 ' 'region_radius +4 \(4 censored\) +0 +- +not determined'
}

@test "runs that failed are in no law and no median" {
  cat >f.yaml <<'YAML'
network: {activation: exp, init: iid}
data: {source: sphere, samples: 4, dim: 3}
train: {steps: 50, eta: 10000}
grid: {network.width: [16, 32, 64], seed: [1, 2, 3]}
YAML
  expect 5 sweep f.yaml --json
  equal failed "$(grep -c '"status":"failed"' out)" 9
  lacks out sweep_fit
}
