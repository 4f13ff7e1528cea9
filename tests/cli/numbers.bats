# Numbers that a reader must not be misled by: not finite, grown, below their error, or of another network.
# SPDX-License-Identifier: MIT

load helper

h5() { "$H5_LIST" "$@"; }

# Targets of 1e300: |y|^2 is beyond float64.
write_huge() { # FILE
  records npy x.npy 4 2 '<f8' 1 0 0 1 0.6 0.8 0.8 -0.6
  records npy y.npy 4 1 '<f8' 1e300 -1e300 1e300 1e300
  cat >"$1" <<YAML
name: huge
precision: f64
network: {activation: softmax, width: 8}
data: {source: npy, inputs: x.npy, labels: y.npy}
train: {steps: 5, tolerance: 0, eta: 0.1}
YAML
}

@test "a loss that is not finite is exit 5 in every command, precision, form and activation" {
  write_huge c.yaml
  for activation in softmax relu exp exp_normalized; do
    for form in plain displacement; do
      for precision in f64 f32; do
        rm -rf run
        expect 5 train c.yaml --json --out run --precision $precision --set network.form=$form --set network.activation=$activation
        one_line 'step 0: the loss overflows, with a residual of 1e\+300; use smaller targets'
        equal status "$(records get out status)" failed
        lacks out 'nan|NaN|Infinity'
      done
    done
  done
  expect 5 sweep c.yaml --json --set 'grid.seed=[1, 2]' --out sweep
  equal statuses "$(records get out status | tr '\n' ' ')" 'failed failed '
  expect 5 width c.yaml --json --set width.min_width=8 --set width.max_width=16 --out width
  has out '"kind":"width_trial".*"status":"failed".*the loss overflows'
  expect 5 perturb c.yaml --json --set perturb.random=false --set perturb.adversarial=false --set perturb.convex_region=false \
    --set 'perturb.radii=[0.01]' --out perturb
  has out '"status":"failed".*the loss overflows'
}

@test "a run whose loss ends above its start is exit 5, whatever bounds its outputs" {
  write_tiny c.yaml
  for precision in f32 f64; do
    for eta in 100 1e10; do
      rm -rf run
      expect 5 train c.yaml --json --out run --precision $precision --set train.eta=$eta
      has err "the loss grew from .* with eta $(literal "$eta")|not finite|eta 1e\+10"
      equal status "$(records get out status)" failed
      equal converged "$(records get out converged)" false
    done
  done
  expect 0 train c.yaml --json --set train.steps=0 --set train.eta=1e10 --out none
  equal status "$(records get out status)" 'done'
}

@test "weights without their signs are another network" {
  write_huge c.yaml
  records npy w.npy 2 4 '<f8' 1 2 3 4 5 6 7 8
  records npy y.npy 4 1 '<f8' 1 -1 1 1
  sed -i 's/network: .*/network: {activation: softmax, weights: w.npy}/' c.yaml
  for command in train ntk perturb; do
    expect 2 $command c.yaml --out run
    one_line 'network\.weights: weights without their signs are another network; give network\.signs too \(run\.h5 has them as /signs\)'
    absent run
  done
}

@test "lambda_min within its error is not resolved, and has no condition" {
  # two equal rows: the kernel is singular
  records npy x.npy 5 3 '<f8' 1 0 0 0 1 0 0.6 0.8 0 0.6 0.8 0 0 0 1
  cat >c.yaml <<YAML
name: twice
network: {activation: relu, width: 64}
data: {source: npy, inputs: x.npy, targets: random}
YAML
  for activation in relu softmax exp; do
    for solver in dense lanczos; do
      for precision in f32 f64; do
        rm -rf run
        expect 0 ntk c.yaml --json --out run --precision $precision --set ntk.solver=$solver --set network.activation=$activation
        for suffix in '' _infinite; do
          equal condition$suffix "$(records get out condition$suffix)" null
          equal resolved$suffix "$(records get out lambda_min_resolved$suffix)" false
        done
        # the error bounds the number that a reader sees: here the truth is 0
        "$PYTHON" - out <<'PY'
import json, sys
p = json.loads(open(sys.argv[1]).read())
for suffix in "", "_infinite":
    assert abs(p["lambda_min" + suffix]) <= p["lambda_min_error" + suffix] < 1e-3 * p["lambda_max" + suffix], p
PY
      done
    done
  done
  rm -rf run
  expect 0 train c.yaml --json --out run --set train.steps=2 --set train.tolerance=0 --set train.kernel_every=1
  equal resolved "$(records get out lambda_min_resolved)" false
  expect 0 perturb c.yaml --json --set 'perturb.radii=[0.01]' --set perturb.adversarial=false --set perturb.training=false \
    --set perturb.convex_region=false --out perturb
  equal resolved "$(records get out lambda_min_resolved)" false
  # rows that differ are told from equal ones
  records npy x.npy 3 3 '<f8' 1 0 0 0 1 0 0 0 1
  rm -rf run
  expect 0 ntk c.yaml --json --out run
  equal resolved "$(records get out lambda_min_resolved)" true
  lacks out '"condition":null'
}

@test "lambda_min_error bounds what is lost below the smallest numbers, where one neuron carries the softmax" {
  records npy x.npy 1 1 '<f8' 1
  records npy a.npy 1 2 '<f8' 1 -1
  cat >c.yaml <<YAML
name: carried
network: {activation: softmax, width: 2, weights: w.npy, signs: a.npy}
data: {source: npy, inputs: x.npy, normalize: none}
YAML
  for gap in 86 97 100 102 104 110 200 370 700; do
    records npy w.npy 1 2 '<f8' $gap 0
    for precision in f32 f64; do
      for form in plain displacement; do
        rm -rf run
        expect 0 ntk c.yaml --json --out run --precision $precision --set network.form=$form
        # H = 16 e^-2g / (1 + e^-g)^4, of which float64 has no digit from a gap of 373 on
        "$PYTHON" - out $gap <<'PY'
import json, sys
from decimal import Decimal, getcontext
getcontext().prec = 50
p = json.loads(open(sys.argv[1]).read())
s = (-Decimal(sys.argv[2])).exp()
truth = 16 * s * s / (1 + s) ** 4
for end in "lambda_min", "lambda_max":
    error = Decimal(p[end + "_error"])
    assert abs(Decimal(p[end]) - truth) <= error, (p, truth)
    # a device flushes shares below 2^-126: all that is known of H is then that it is below 2e-73
    assert error < max(truth / 50, Decimal("2e-73" if p["backend"] == "cuda" else "1e-86")), (p, truth)
assert p["lambda_min_resolved"] == (p["condition"] is not None) == (p["lambda_min"] > p["lambda_min_error"]), p
PY
      done
    done
  done
}

@test "relu's limit of two unit rows 1e-8 apart" {
  records npy x.npy 2 2 '<f8' 1 0 1 1e-8
  cat >c.yaml <<YAML
name: close
precision: f64
network: {activation: relu}
data: {source: npy, inputs: x.npy, normalize: none}
ntk: {method: infinite}
YAML
  expect 0 ntk c.yaml --json --out run
  "$PYTHON" - out <<'PY'
import json, sys
p = json.loads(open(sys.argv[1]).read())
# mpmath: 1.59154945592e-9, in a matrix whose entries are multiples of 2^-54
assert abs(p["lambda_min_infinite"] - 1.59154945592e-9) <= 2**-54, p
assert p["lambda_min_error_infinite"] < 1e-14 and p["lambda_min_resolved_infinite"], p
PY
}

@test "a limit that overflows leaves the finite kernel, and says so" {
  write_tiny c.yaml
  for matrix in full trace diagonal blocks; do
    rm -rf run
    expect 0 ntk c.yaml --json --set network.sigma=27 --set ntk.matrix=$matrix --out run
    equal status "$(records get out status)" 'done'
    equal distance "$(records get out infinite_distance)" null
    has out '"infinite_error":"the infinite-width kernel overflows at .*ntk\.infinite: false'
    lacks out '"gram_norm":null'
    lacks <(h5 run/run.h5) infinite
  done
  expect 5 ntk c.yaml --set network.sigma=27 --set ntk.method=infinite --out limit
  one_line 'the infinite-width kernel overflows at'
  expect 0 train c.yaml --json --set network.sigma=27 --set train.linearized=true --out train
  equal limit "$(records get out loss_infinite)" null
  lacks out '"loss_linearized":null'
}

@test "failures are named: the factor of exp_normalized, inputs of zero" {
  write_tiny c.yaml
  expect 5 train c.yaml --set network.activation=exp_normalized --set network.sigma=40 --out a
  one_line 'exp\(-sigma\^2 \|x\|\^2 / 2\).*underflows: exp\(-800\)'
  records npy z.npy 2 2 '<f8' 0 0 0 0
  printf '%s\n' 'name: zero' 'network: {activation: softmax, width: 32}' \
    'data: {source: npy, inputs: z.npy, targets: random, normalize: none}' >z.yaml
  expect 5 train z.yaml --out b
  one_line 'all inputs are zero'
}

@test "run.h5 of a float32 run restores F: to the bit from the displacement, and nothing of the training is lost in the sum" {
  write_tiny c.yaml
  sed -i 's/width: 32/width: 8, scale: paper/; s/eta: .*//' c.yaml
  expect 0 train c.yaml --json --set save.weights=true --out run
  has <(h5 run/run.h5) '^/weights f64 4x8'
  records npy d.npy 4 8 '<f8' $(h5 run/run.h5 /displacement)
  h5 run/run.h5 /output >wanted
  expect 0 train c.yaml --json --set network.displacement=d.npy --set train.steps=0 --out again
  h5 again/run.h5 /output | cmp - wanted
  lacks <(h5 run/run.h5) '^/base'
  # the sum and the signs alone, in float64 too
  records npy w.npy 4 8 '<f8' $(h5 run/run.h5 /weights)
  records npy s.npy 1 8 '<i8' $(h5 run/run.h5 /signs)
  given='--set network.weights=w.npy --set network.signs=s.npy --set train.steps=0'
  for precision in f32 f64; do
    expect 0 train c.yaml --json $given --precision $precision --out sum-$precision
    paste wanted <(h5 sum-$precision/run.h5 /output) | "$PYTHON" -c '
import sys
rows = [tuple(map(float, line.split())) for line in sys.stdin]
assert len(rows) == 6, rows
assert all(abs(a - b) < 2e-6 for a, b in rows), rows
'
  done
  # the sum holds the displacement already: it must not be moved twice in silence
  expect 2 train c.yaml $given --set network.displacement=d.npy --out no
  one_line 'weight .* no float32 number as those of a base are: it may hold the displacement already'
  # plain form has none
  expect 2 train c.yaml --set network.displacement=d.npy --precision f64 --out no
  one_line 'network\.displacement: the network is kept in plain form, which has none; use network\.form displacement'
}
