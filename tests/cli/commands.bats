#!/usr/bin/env bats
# What the commands compute and leave behind: records, run.json, run.h5, tables. SPDX-License-Identifier: MIT
load helper

h5() { "$H5_LIST" "$@"; }

POINT_KEYS='id status activation width samples dim outputs sigma scale init form seed backend precision'

@test "train --json prints one object with the contract's keys, the same as in points.jsonl" {
  write_tiny c.yaml
  expect 0 train c.yaml --json --set train.kernel_every=10 --out run
  empty err
  equal lines "$(records lines out)" 1
  records keys out train $POINT_KEYS steps converged loss eta lambda_min lambda_max weight_movement \
    kernel_drift train_seconds
  equal status "$(records get out status)" 'done'
  equal steps "$(records get out steps)" 20
  equal width "$(records get out width)" 32
  records same out >printed
  records same run/points.jsonl >recorded
  cmp printed recorded
}

@test "weights move, the kernel with them, and the loss falls" {
  write_tiny c.yaml
  for form in plain displacement; do
    expect 0 train c.yaml --json --set network.form=$form --set train.kernel_every=20 --out $form
    "$PYTHON" - out <<'PY'
import json, sys
point = json.load(open(sys.argv[1]))
assert 0 < point["weight_movement"] < 10, point
assert 0 < point["kernel_drift"] < 1, point
assert 0 < point["loss"] < point["loss_initial"], point
assert 0 < point["lambda_min"] < point["lambda_max"], point
assert 0 < point["eta"] <= 1.0001 / point["jj_lambda_max"], point
PY
  done
}

@test "train.linearized: the two predictions beside the run, and the theorem's rate" {
  write_tiny c.yaml
  # plain training says nothing of them
  expect 0 train c.yaml --json --out plain
  lacks out 'linearized|infinite|rate_kept|test_'
  lacks <(h5 plain/run.h5) 'linearized|infinite|bound|test'
  for activation in softmax relu exp exp_normalized; do
    expect 0 train c.yaml --json --precision f64 --set network.activation=$activation --set train.linearized=true --out $activation
    records keys out train loss_linearized distance_linearized loss_infinite distance_infinite rate_kept rate_kept_paper \
      lambda_min lambda_max eta_q_lambda
    lacks out test_
    equal datasets "$(h5 $activation/run.h5 | cut -d' ' -f1-3 | grep -E 'bound|linearized|infinite|test' | paste -sd,)" \
      '/history/loss_bound f64 21,/history/loss_infinite f64 21,/history/loss_linearized f64 21'
    for column in loss loss_bound loss_linearized loss_infinite; do h5 $activation/run.h5 /history/$column >$column; done
    "$PYTHON" - out <<'PY'
import json, sys
p = json.load(open(sys.argv[1]))
loss, bound, linearized, infinite = ([float(v) for v in open(n)] for n in ("loss", "loss_bound", "loss_linearized", "loss_infinite"))
assert loss[0] == bound[0] == linearized[0] == infinite[0] == p["loss_initial"], p
assert linearized[-1] == p["loss_linearized"] and infinite[-1] == p["loss_infinite"] and loss[-1] == p["loss"], p
shrink = 1 - 0.5 * p["eta_q_lambda"]
for t, value in enumerate(bound):
    assert abs(value - shrink ** (2 * t) * p["loss_initial"]) <= 1e-12 * value, (t, value)
assert p["rate_kept"] == all(a <= b for a, b in zip(loss, bound)), p
assert p["rate_kept_paper"] == all(a <= shrink**t * p["loss_initial"] for t, a in enumerate(loss)), p
assert p["rate_kept"] <= p["rate_kept_paper"], p
assert linearized == sorted(linearized, reverse=True), linearized # a step of 1 / lambda_max of its own quadratic
assert 0 < p["distance_linearized"] < 0.5, p
PY
  done
  # the run itself is the same
  expect 0 train c.yaml --quiet --precision f64 --out alone
  for dataset in /output /history/loss /history/weight_movement; do
    h5 alone/run.h5 $dataset >wanted
    h5 softmax/run.h5 $dataset | cmp - wanted
  done
  # the kernel that is followed gives the rate too, a given eta does not take it away
  expect 0 train c.yaml --json --set train.kernel_every=10 --set train.eta=1e-3 --out kernel
  records keys out train rate_kept rate_kept_paper lambda_min
  lacks out linearized
}

@test "train.linearized without steps, stopped at once, between rows, far out, and from given weights" {
  write_tiny c.yaml
  options='--json --set train.linearized=true --set data.test_samples=3'
  expect 0 train c.yaml $options --set train.steps=0 --out none
  equal steps "$(records get out steps)" 0
  equal converged "$(records get out converged)" false
  for which in linearized infinite; do
    equal loss_$which "$(records get out loss_$which)" "$(records get out loss_initial)"
    equal distance_$which "$(records get out distance_$which)" 0
    equal test_loss_$which "$(records get out test_loss_$which)" "$(records get out test_loss)"
    equal test_distance_$which "$(records get out test_distance_$which)" 0
  done
  equal rows "$(h5 none/run.h5 /history/loss_linearized | wc -l)" 1
  equal 'rate kept' "$(records get out rate_kept)" true
  # tolerance met before the first step
  expect 0 train c.yaml $options --set train.tolerance=1e9 --out met
  equal converged "$(records get out converged)" true
  equal loss "$(records get out loss_linearized)" "$(records get out loss_initial)"
  # rows at the ends alone: the run in between is the same one
  expect 0 train c.yaml $options --out all
  cp out all.point
  expect 0 train c.yaml $options --set train.record_every=0 --out ends
  equal rows "$(h5 ends/run.h5 /history/loss_linearized | wc -l)" 2
  for key in loss loss_linearized loss_infinite test_loss test_loss_linearized test_distance_infinite; do
    equal $key "$(records get out $key)" "$(records get all.point $key)"
  done
  # a step beyond 2 / lambda_max: the linearized run grows without bound where softmax's loss does not
  expect 5 train c.yaml $options --set train.eta=3 --set train.steps=800 --set train.divergence=1e300 --out far
  one_line 'the loss grew from 1\.0964 to [0-9.]+ in 800 steps with eta 3; use a smaller train\.eta'
  lacks out 'nan|NaN|Infinity'
  equal 'rate kept' "$(records get out rate_kept)" false
  equal loss "$(records get out loss_linearized)" null
  # given weights are not Gaussian: no limit
  records npy w.npy 4 2 '<f8' 0.5 -1 2 0.25 0 1 -0.125 3
  records npy a.npy 1 2 '<i8' 1 -1
  expect 0 train c.yaml $options --set network.weights=w.npy --set network.signs=a.npy --set network.width=2 --out given
  records keys out train loss_linearized test_distance_linearized
  lacks out infinite
  lacks <(h5 given/run.h5) infinite
}

@test "data.test_samples: figures on held-out samples, and the same training without them" {
  write_tiny c.yaml
  expect 0 train c.yaml --json --threads 1 --set data.test_samples=4 --set network.outputs=2 --out held
  records keys out train test_samples test_loss
  equal 'held-out samples' "$(records get out test_samples)" 4
  equal samples "$(records get out samples)" 6
  lacks out 'linearized|infinite'
  equal datasets "$(h5 held/run.h5 | cut -d' ' -f1-3 | grep test | paste -sd,)" '/history/test_loss f64 21,/test_output f64 4x2'
  equal test_loss "$(records get out test_loss)" "$(h5 held/run.h5 /history/test_loss | tail -1)"
  cp out held.point
  expect 0 train c.yaml --json --threads 1 --set network.outputs=2 --out without
  equal loss "$(records get out loss)" "$(records get held.point loss)"
  h5 without/run.h5 /output >wanted
  h5 held/run.h5 /output | cmp - wanted
  # of a file, the rows behind the samples; all figures of the two together
  records npy x.npy 5 2 '<f8' 0.1 0.2 -0.3 0.4 0.5 -0.6 0.7 0.2 -0.1 -0.9
  records npy y.npy 5 1 '<f8' 1 2 3 4 5
  options='--set data.source=npy --set data.inputs=x.npy --set data.labels=y.npy --set data.normalize=none --set data.dim=2'
  sed -i 's/, samples: 6, dim: 4//' c.yaml
  expect 0 train c.yaml --json $options --set data.test_samples=2 --set train.linearized=true --set train.steps=0 --out file
  equal 'samples and held out' "$(records get out samples) $(records get out test_samples)" '3 2'
  # F(W0) = 0: the losses are those of the labels
  "$PYTHON" -c 'import json; p = json.load(open("out"))
assert abs(p["loss"] - 7) < 1e-9 and abs(p["test_loss"] - 20.5) < 1e-9, p'
  records keys out train test_loss_linearized test_distance_linearized test_loss_infinite test_distance_infinite
  expect 2 train c.yaml $options --set data.test_samples=5 --out refused
  one_line 'x\.npy|test_samples'
  absent refused
}

@test "exp_normalized trains, in both forms and precisions, and is named in every record" {
  write_tiny c.yaml
  for form in plain displacement; do
    for precision in f32 f64; do
      expect 0 train c.yaml --json --set network.activation=exp_normalized --set network.form=$form --precision $precision \
        --set train.kernel_every=20 --out $form-$precision
      equal activation "$(records get out activation)" exp_normalized
      records get out loss >>losses
    done
  done
  "$PYTHON" -c 'losses = [float(line) for line in open("losses")]
assert len(losses) == 4 and max(losses) - min(losses) < 1e-4 * max(losses), losses'
  for command in width sweep; do
    expect 0 $command c.yaml --json --set network.activation=exp_normalized --set width.max_width=16 --out $command
    equal activations "$(records get out activation | sort -u)" exp_normalized
  done
  expect 0 perturb c.yaml --json --set network.activation=exp_normalized --set 'perturb.radii=[0.1]' --out perturb
  equal activations "$(records get out activation | sort -u)" exp_normalized
}

@test "train leaves run.json, points.jsonl and run.h5 with the history" {
  write_tiny c.yaml
  expect 0 train c.yaml --threads 1 --seed 7 --set save.weights=true
  empty err
  has out '^activation +width +n +d ' '^softmax +32 +6 +4 +1 +7 +20 '
  equal files "$(ls runs/tiny | tr '\n' ' ')" 'points.jsonl run.h5 run.json '
  for key in version git_commit config.network.width device.backend device.threads libraries.hdf5 \
    wall_seconds started_time flags.failed_points; do
    records get runs/tiny/run.json $key
  done
  equal schema "$(records get runs/tiny/run.json schema)" 1
  equal command "$(records get runs/tiny/run.json command)" train
  equal status "$(records get runs/tiny/run.json status)" 'done'
  equal seed "$(records get runs/tiny/run.json seed)" 7
  equal 'recorded seed' "$(records get runs/tiny/run.json config.seed)" 7
  equal threads "$(records get runs/tiny/run.json device.threads)" 1
  h5 runs/tiny/run.h5 | cut -d' ' -f1-3 >held
  cat >wanted <<'LIST'
/displacement f32 4x32
/history/kernel_drift f64 21
/history/lambda_min f64 21
/history/loss f64 21
/history/step i64 21
/history/weight_movement f64 21
/output f64 6x1
/signs i8 1x32
/weights f64 4x32
LIST
  LC_ALL=C sort held | grep -v loss_linearized | cmp - wanted
  equal 'last step' "$(h5 runs/tiny/run.h5 /history/step | tail -1)" 20
}

@test "ntk gives the Gram matrix, its eigenvalues in ascending order, and the limit" {
  write_tiny c.yaml
  expect 0 ntk c.yaml --json --set network.outputs=2 --set save.weights=true --out run
  empty err
  equal lines "$(records lines out)" 1
  records keys out ntk $POINT_KEYS lambda_min lambda_max condition lambda_min_infinite infinite_distance ntk_seconds
  h5 run/run.h5 | cut -d' ' -f1-3 >held
  has held '^/gram f64 12x12$' '^/eigenvalues f64 12$' '^/gram_infinite f64 12x12$' '^/weights f32 4x32$' '^/signs i8 2x32$'
  h5 run/run.h5 /eigenvalues >values
  sort -g -c values
  equal lambda_min "$(records get out lambda_min)" "$(head -1 values)"
  equal lambda_max "$(records get out lambda_max)" "$(tail -1 values)"
  expect 0 ntk c.yaml --set ntk.eigenvalues=false --set ntk.infinite=false --out less --quiet
  equal datasets "$(h5 less/run.h5 | cut -d' ' -f1-3)" '/gram f64 6x6'
}

@test "ntk without a width gives the infinite kernel alone" {
  write_tiny c.yaml
  printf '%s\n' 'network: {activation: relu}' 'data: {source: sphere, samples: 6, dim: 4}' >i.yaml
  expect 0 ntk i.yaml --json
  records keys out ntk lambda_min_infinite lambda_max_infinite
  lacks out '"width"'
  lacks out '"gram_norm"'
  equal datasets "$(h5 runs/i/run.h5 | cut -d' ' -f1-3)" '/gram_infinite f64 6x6'
  expect 0 ntk i.yaml --out table
  has out '^relu +inf +6 +4 '
}

@test "width searches, records each trial, and fits laws over n" {
  printf '%s\n' 'network: {activation: relu}' 'data: {source: sphere, dim: 4}' 'train: {steps: 40, tolerance: 0.05}' \
    'width: {max_width: 64}' 'grid: {data.samples: [2, 4], seed: [1, 2]}' >w.yaml
  expect 0 width w.yaml --json --threads 1
  empty err
  equal searches "$(records lines out width)" 4
  records keys out width id status activation samples dim outputs sigma scale init seed backend precision \
    width_loss width_kernel steps lambda_min lambda_max
  records keys out width_trial $POINT_KEYS steps converged kernel_kept loss eta \
    lambda_min weight_movement kernel_drift trial_seconds
  records keys out width_fit quantity exponent exponent_low exponent_high points
  # the fits are made from the records and are none themselves
  grep -v width_fit out >records_of_out
  records same records_of_out >printed
  records same runs/w/points.jsonl >recorded
  cmp printed recorded
  expect 0 width w.yaml --resume
  has out 'm\* loss +m\* kernel' 'exponent in n'
}

@test "sweep runs the grid, in the order of the file, with sweep.command ntk too" {
  write_tiny c.yaml
  expect 0 sweep c.yaml --json --set 'grid.network.activation=[softmax, relu, exp]' \
    --set 'grid.network.width=[8, 16]' --out run
  empty err
  equal points "$(records lines out train)" 6
  records keys out train $POINT_KEYS steps converged loss eta weight_movement train_seconds
  records keys out sweep_fit quantity abscissa exponent points
  grep -v sweep_fit out >points # fits are made from the records and are none themselves
  equal order "$(paste -d: <(records get points activation) <(records get points width) | tr '\n' ' ')" \
    'softmax:8 softmax:16 relu:8 relu:16 exp:8 exp:16 '
  records same points >printed
  records same run/points.jsonl >recorded
  cmp printed recorded
  expect 0 sweep c.yaml --json --set sweep.command=ntk --set 'grid.seed=[1, 2, 3]' --out k
  equal points "$(records lines out ntk)" 3
  equal seeds "$(records get out seed | tr '\n' ' ')" '1 2 3 '
}

@test "a sweep goes on past a point that overflows: recorded failed, exit 0" {
  write_tiny c.yaml
  expect 0 sweep c.yaml --json --set 'grid.network.sigma=[1, 400, 2]' --set network.activation=exp --out run
  equal statuses "$(records get out status | tr '\n' ' ')" 'done failed done '
  has out '"status":"failed".*"error":".*not finite'
  equal 'failed points' "$(records get run/run.json flags.failed_points)" 1
  equal status "$(records get run/run.json status)" 'done'
  lacks out 'nan|NaN|Infinity'
}

@test "a numerical failure of the one point of train or ntk is exit 5, recorded, and 5 again on --resume" {
  write_tiny c.yaml
  for command in train ntk; do
    reason='not finite; use a smaller sigma'
    [ $command = train ] || reason='infinite-width kernel overflows .*use a smaller sigma' # which ntk takes first
    expect 5 $command c.yaml --set network.activation=exp --set network.sigma=400 --out $command --quiet
    one_line "$reason"
    empty out
    equal status "$(records get $command/points.jsonl status)" failed
    equal 'run status' "$(records get $command/run.json status)" failed
    expect 5 $command c.yaml --set network.activation=exp --set network.sigma=400 --out $command --quiet --resume
    one_line "$reason"
  done
  expect 5 train c.yaml --set network.activation=relu --set train.eta=1e4 --out big --json
  one_line 'the loss grew from .* with eta 10000; use a smaller train\.eta'
  equal status "$(records get out status)" failed
}

@test "--quiet prints nothing, --json the same lines with it" {
  write_tiny c.yaml
  for command in train ntk sweep; do
    expect 0 $command c.yaml --quiet --out q-$command
    empty out err
  done
  expect 0 width c.yaml --quiet --out q-width --set width.max_width=8
  empty out err
  expect 0 train c.yaml --quiet --json --out j
  equal lines "$(records lines out)" 1
}

@test "--dry-run tells memory and time and writes nothing" {
  write_tiny c.yaml
  for command in train ntk sweep width; do
    expect 0 $command c.yaml --dry-run --set width.max_width=64
    has out 'dry run: 1 point; memory [0-9.]+ ([KMG]i)?B of [0-9.]+ [KMGT]iB; time about [0-9.e+-]+ s'
    empty err
    expect 0 $command c.yaml --dry-run --json --out run --set width.max_width=64
    records keys out dry_run points memory_bytes memory_available_bytes estimate_seconds
    [ "$(records get out memory_bytes)" -gt 0 ]
  done
  expect 0 sweep c.yaml --dry-run --json --set 'grid.seed=[1, 2, 3, 4, 5]' --shard 1/2
  equal points "$(records get out points)" 2
  equal 'what is there' "$(ls)" "$(printf '%s\n' c.yaml err out)"
}

@test "--set, --seed and --precision override the file, the last --set wins" {
  write_tiny c.yaml
  printf 'seed: 3\nprecision: f32\n' >>c.yaml
  expect 0 train c.yaml --json --seed 11 --precision f64 --backend ref --threads 1 --out a \
    --set network.width=16 --set network.width=8 --set data.samples=5 --set name=other
  equal seed "$(records get out seed)" 11
  equal precision "$(records get out precision)" f64
  equal backend "$(records get out backend)" ref
  equal width "$(records get out width)" 8
  equal samples "$(records get out samples)" 5
  equal 'recorded width' "$(records get a/run.json config.network.width)" 8
  equal 'recorded data seed' "$(records get a/run.json config.data.seed)" 11
  expect 0 train c.yaml --quiet --set name=other
  [ -f runs/other/run.json ]
  # --seed changes weights and data, as a seed in the file does
  expect 0 train c.yaml --json --out s3
  sed 's/^seed: 3/seed: 11/' c.yaml >d.yaml
  expect 0 train c.yaml --json --seed 11 --out s11
  cp out by_option
  expect 0 train d.yaml --json --out f11
  equal loss "$(records get out loss)" "$(records get by_option loss)"
  [ "$(records get s3/points.jsonl loss)" != "$(records get out loss)" ]
}

@test "the whole configuration by --set, without a file" {
  expect 0 ntk --json --set network.activation=softmax --set network.width=16 --set data.source=sphere --set data.samples=3 \
    --set data.dim=2
  equal width "$(records get out width)" 16
  [ -f runs/run/run.json ]
}

@test "weights and signs from NPY are those that run, at any width" {
  write_tiny c.yaml
  records npy w.npy 4 3 '<f8' 0.5 -1 2 0.25 0 1 -0.125 3 -2 1 1 -4
  records npy a.npy 1 3 '<i8' 1 -1 1
  sed -i 's/network: .*/network: {activation: exp, weights: w.npy, signs: a.npy}/' c.yaml
  expect 0 ntk c.yaml --json --precision f64 --set save.weights=true --out run
  equal width "$(records get out width)" 3
  equal init "$(records get out init)" given
  equal weights "$(h5 run/run.h5 /weights | tr '\n' ' ')" '0.5 -1 2 0.25 0 1 -0.125 3 -2 1 1 -4 '
  equal signs "$(h5 run/run.h5 /signs | tr '\n' ' ')" '1 -1 1 '
  # the limit is that of random weights, which these are not
  h5 run/run.h5 >held
  lacks held gram_infinite
  expect 0 train c.yaml --quiet --out trained
  records npy bad.npy 3 3 '<f8' 1 2 3 4 5 6 7 8 9
  expect 2 ntk c.yaml --set network.weights=bad.npy --out bad
  one_line '--set: network\.weights: bad\.npy holds 3 x 3; 4 x width is needed'
  records npy nan.npy 4 1 '<f8' 1 2 nan 4
  expect 2 ntk c.yaml --set network.weights=nan.npy --out bad
  one_line '--set: network\.weights: nan\.npy: weight \(2, 0\) is not finite'
  records npy two.npy 1 3 '<i8' 1 2 1
  expect 2 ntk c.yaml --set network.signs=two.npy --out bad
  one_line '--set: network\.signs: two\.npy: sign \(0, 1\) is 2; signs are \+1 or -1'
  expect 2 ntk c.yaml --set network.width=4 --out bad
  one_line 'network\.weights: .*holds 4 x 3; 4 x 4 is needed'
  absent bad
}

@test "digits.csv.gz end to end: ten classes, training and kernel" {
  cat >digits.yaml <<YAML
network: {activation: softmax, width: 256}
data: {source: csv, inputs: $SOURCE/configs/data/digits.csv.gz, label_columns: [-1], targets: classes, samples: 30}
train: {steps: 20, tolerance: 0}
YAML
  expect 0 train digits.yaml --json --out train
  empty err
  equal samples "$(records get out samples)" 30
  equal dim "$(records get out dim)" 64
  equal outputs "$(records get out outputs)" 10
  # F(W0) = 0 and one-hot minus 1/10: 1/2 * 30 * (0.9^2 + 9 * 0.1^2) = 13.5
  "$PYTHON" -c 'import json; p = json.load(open("out")); assert abs(p["loss_initial"] - 13.5) <= 13.5 * 300 * 2.0**-52, p
assert p["loss"] < p["loss_initial"]'
  has <(h5 train/run.h5) '^/output f64 30x10 '
  expect 0 ntk digits.yaml --json --set data.samples=10 --out ntk
  has <(h5 ntk/run.h5) '^/gram f64 100x100 '
}

@test "the number of threads changes no figure beyond rounding" {
  for threads in 1 2; do
    expect 0 ntk --backend cpu --threads $threads --json --out run$threads --set network.activation=softmax --set network.width=8192 \
      --set data.source=sphere --set data.samples=40 --set data.dim=5
    records get out lambda_max >lambda$threads
  done
  "$PYTHON" - lambda1 lambda2 <<'PY'
import sys
one, two = (float(open(name).read()) for name in sys.argv[1:3])
assert abs(one - two) < 1e-6 * two, (one, two)
PY
}
