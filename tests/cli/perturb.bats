#!/usr/bin/env bats
# softntk perturb: its points, their figures, resumed, sharded and refused runs. SPDX-License-Identifier: MIT
load helper

POINT_KEYS='id status activation width samples dim outputs sigma scale init seed backend precision computed_in direction
  lambda_min_initial lambda_max_initial gram_norm perturb_seconds'
RADIUS_KEYS='radius change ratio relative_change lambda_min lambda_share bound_B bound bound_share'
REGION_KEYS='region_radius region_at_least region_at_most trials'

# Two radii and the region of each of three directions: nine points a network.
write_moves() {
  cat >p.yaml <<'YAML'
name: p
network: {activation: softmax, width: 32}
data: {source: sphere, samples: 6, dim: 4}
train: {steps: 20, tolerance: 0}
perturb: {radii: [0.01, 0.1], ascent_steps: 3}
YAML
}

# Grid points whose second has a training of about a second, behind the three points of its random direction.
write_long_moves() {
  cat >l.yaml <<'YAML'
name: l
threads: 1
network: {activation: relu, width: 256}
data: {source: sphere, samples: 32, dim: 8}
train: {tolerance: 0, record_every: 0}
perturb: {radii: [0.01, 0.1], adversarial: false}
grid: {train.steps: [1, 40000, 2]}
YAML
}

without_laws() { grep -v perturb_fit "$1"; } # laws are made from the records and are none themselves

@test "a grid: nine points a network with their keys, laws in the radius and the width" {
  write_moves
  expect 0 perturb p.yaml --json --out run --set 'grid.network.width=[16, 32]' --set 'grid.seed=[1, 2]'
  empty err
  equal files "$(ls run | tr '\n' ' ')" 'points.jsonl run.json '
  equal points "$(records lines out perturb)" 24
  equal regions "$(records lines out perturb_region)" 12
  records keys out perturb $POINT_KEYS $RADIUS_KEYS
  records keys out perturb_region $POINT_KEYS $REGION_KEYS
  records keys out perturb_fit law activation abscissa quantity points exponent exponent_low exponent_high
  grep '"direction":"training"' out >training
  records keys training perturb weight_movement
  grep '"direction":"adversarial"' out | grep '"kind":"perturb"' >adversarial
  records keys adversarial perturb ascents
  # a movement is told where training gives the direction, and nowhere else
  without_laws out | grep -v '"direction":"training"' >others
  lacks others weight_movement
  equal statuses "$(without_laws out | grep -c '"status":"done"')" 36
  equal directions "$(records get out direction perturb | head -6 | uniq | tr '\n' ' ')" 'random training adversarial '
  equal 'the first id' "$(records get out id perturb | head -1)" 'network.width=16,seed=1,direction=random,radius=0.01'
  equal 'fits in the radius' "$(grep -c '"abscissa":"radius"' out)" 6
  equal 'fits of the ratio in the width' "$(grep '"abscissa":"width"' out | grep -c '"quantity":"ratio"')" 6
  without_laws out >points
  records same points >printed
  records same run/points.jsonl | cmp - printed
}

@test "figures: what they are made of, the paper's bound, adversary beyond random, a region that keeps its share" {
  write_moves
  expect 0 perturb p.yaml --json --precision f64 --set 'grid.network.activation=[softmax, relu, exp, exp_normalized]' \
    --set network.outputs=2 --set perturb.ascent_steps=10 --set network.sigma=2
  "$PYTHON" - out <<'PY'
import json, math, sys
points = [json.loads(line) for line in open(sys.argv[1])]
near = lambda a, b: abs(a - b) <= 1e-12 * abs(b)
moves = {}
for p in points:
    if p["kind"] == "perturb":
        n = p["samples"] * p["outputs"]
        assert near(p["ratio"], p["change"] / (p["radius"] * n)), p
        assert near(p["relative_change"], p["change"] / p["gram_norm"]), p
        assert near(p["lambda_share"], p["lambda_min"] / p["lambda_min_initial"]), p
        assert near(p["bound"], p["radius"] * n * math.exp(10 * p["bound_B"])), p
        assert near(p["bound_share"], p["change"] / p["bound"]), p
        # eigenvalues move by no more than the matrix does (Weyl)
        assert abs(p["lambda_min"] - p["lambda_min_initial"]) <= p["change"] * (1 + 1e-9), p
        moves[p["activation"], p["direction"], p["radius"]] = p["change"]
    if p["kind"] == "perturb_region":
        assert p["region_radius"] in (None, p["region_at_least"]), p
        assert 0 < p["region_at_least"] <= 8, p
for (activation, direction, radius), change in moves.items():
    assert change > 0 or activation == "relu", (activation, direction, radius)
    if direction == "random":
        assert moves[activation, "adversarial", radius] >= change, (activation, radius)
assert len(moves) == 4 * 3 * 2
PY
}

@test "B of the bound is the smallest that holds for the logits of the run, whatever train.theory_c says" {
  write_moves
  records npy x.npy 6 4 '<f8' $(seq -0.3 0.026 0.3 | head -24)
  options='--precision f64 --set data.source=npy --set data.inputs=x.npy --set data.normalize=none --set network.sigma=5'
  expect 0 ntk p.yaml --quiet $options --set save.weights=true --out k
  "$H5_LIST" k/run.h5 /weights >weights
  expect 0 perturb p.yaml --json $options --set perturb.convex_region=false --set 'perturb.radii=[1e-9, 3]' --out moved
  cp out moved.txt
  expect 0 perturb p.yaml --json $options --set perturb.convex_region=false --set 'perturb.radii=[1e-9, 3]' \
    --set train.theory_c=7 --set train.theory_delta=0.5 --out other
  records same moved.txt >a
  records same out | cmp - a
  "$PYTHON" - moved.txt $(seq -0.3 0.026 0.3 | head -24) <<'PY'
import json, sys
points = [json.loads(line) for line in open(sys.argv[1])]
x = [float(v) for v in sys.argv[2:]]
w = [float(v) for v in open("weights")]
logit = max(abs(sum(x[4 * i + k] * w[32 * k + r] for k in range(4))) for i in range(6) for r in range(32))
longest = max(sum(v * v for v in x[4 * i:4 * i + 4]) for i in range(6)) ** 0.5
assert logit > 1
seen = {(p["direction"], p["radius"]): p["bound_B"] for p in points if p["kind"] == "perturb"}
assert len(seen) == 6
for (direction, radius), b in seen.items():
    assert logit - 1e-12 <= b <= logit + radius * longest + 1e-12, (direction, radius, b, logit)
assert max(b for (_, radius), b in seen.items() if radius == 3) > logit + 0.1, seen
PY
  # logits below one: the proof's B is 1 at the least
  expect 0 perturb p.yaml --json $options --set network.sigma=0.01 --set perturb.convex_region=false
  equal B "$(records get out bound_B perturb | sort -u)" 1
}

@test "at the region's radius the share is kept, beyond it is not" {
  write_moves
  options='--json --precision f64 --set perturb.adversarial=false --set network.activation=softmax'
  expect 0 perturb p.yaml $options --set perturb.random=false --set 'perturb.radii=[]' --out region
  radius=$(records get out region_radius)
  beyond=$("$PYTHON" -c "print(1.06 * $radius)") # the search ends within 5%
  expect 0 perturb p.yaml $options --set perturb.random=false --set perturb.convex_region=false \
    --set "perturb.radii=[$radius, $beyond]" --out at
  "$PYTHON" - out <<'PY'
import json, sys
at, beyond = (json.loads(line) for line in list(open(sys.argv[1]))[:2])
assert at["lambda_share"] >= 0.5 > beyond["lambda_share"], (at, beyond)
PY
  # a smaller limit of the search: nothing is found, as far as was looked
  expect 0 perturb p.yaml $options --set perturb.random=false --set 'perturb.radii=[]' --set perturb.max_radius=0.1 --out near
  equal 'the region' "$(records get out region_radius)" null
  equal 'as far as' "$(records get out region_at_least)" 0.10000000000000001
  # the search ends where a move would add more than 50 to a logit, which the engine does not take
  expect 0 perturb p.yaml $options --set perturb.training=false --set 'perturb.radii=[]' --set perturb.max_radius=1000000 \
    --set network.activation=exp --out far
  "$PYTHON" -c "assert $(records get out region_at_least) <= 50"
}

@test "the reference backend gives the figures of cpu in f64" {
  write_moves
  for activation in softmax relu exp exp_normalized; do
    options="--json --set network.activation=$activation --set network.outputs=2"
    expect 0 perturb p.yaml --backend cpu --precision f64 $options --out "$activation-cpu"
    expect 0 perturb p.yaml --backend ref --precision f64 $options --out "$activation-ref"
    "$PYTHON" - "$activation"-{cpu,ref}/points.jsonl <<'PY'
import json, sys
cpu, ref = ([json.loads(line) for line in open(name)] for name in sys.argv[1:3])
assert len(cpu) == len(ref) == 9
for a, b in zip(cpu, ref):
    assert a["id"] == b["id"] and set(a) == set(b), (a, b)
    assert (a["backend"], b["backend"]) == ("cpu", "ref")
    for key, value in b.items():
        if isinstance(value, float) and not key.endswith("_seconds"):
            # ref takes H(W) - H(W0) as a difference of matrices: 1e-16 of |H| is lost, of changes of 1e-4 of it
            assert abs(a[key] - value) <= 1e-9 * abs(value), (key, a, b)
PY
  done
}

@test "SIGINT in a training direction: what was finished is kept, --resume runs exactly the rest" {
  write_long_moves
  expect 0 perturb l.yaml --backend cpu --quiet --out whole
  equal points "$(records lines whole/points.jsonl)" 18
  for signal in INT KILL; do
    env --default-signal=INT "$SOFTNTK" perturb l.yaml --backend cpu --quiet --out $signal >bg.out 2>bg.err </dev/null 3>&- &
    started=$!
    wait_for_lines $signal/points.jsonl 9
    kill -$signal "$started"
    rc=0
    wait "$started" || rc=$?
    if [ $signal = INT ]; then
      equal "exit code" "$rc" 75
      has bg.err 'interrupted; what was finished is in INT, and --resume goes on'
      equal status "$(records get INT/run.json status)" interrupted
    else
      equal "exit code" "$rc" 137
    fi
    equal finished "$(records lines $signal/points.jsonl)" 9
    cp $signal/points.jsonl kept
    expect 0 perturb l.yaml --backend cpu --json --resume --out $signal
    equal 'run again' "$(without_laws out | wc -l)" 9
    head -9 $signal/points.jsonl | cmp - kept
    records ids $signal/points.jsonl >/dev/null
    equal status "$(records get $signal/run.json status)" 'done'
    records same whole/points.jsonl >whole.txt
    records same $signal/points.jsonl | cmp - whole.txt
  done
}

@test "cut behind any point, a run is resumed to the same points" {
  write_moves
  expect 0 perturb p.yaml --quiet --out whole --threads 1
  records same whole/points.jsonl >whole.txt
  for kept in 0 1 2 3 4 5 6 7 8 9; do
    cp -r whole cut
    head -$kept whole/points.jsonl >cut/points.jsonl
    expect 0 perturb p.yaml --json --out cut --resume --threads 1
    equal 'run again' "$(without_laws out | wc -l)" $((9 - kept))
    records same cut/points.jsonl | cmp - whole.txt
    rm -r cut
  done
  # a torn line is that point again
  truncate -s -10 whole/points.jsonl
  expect 0 perturb p.yaml --quiet --out whole --resume --threads 1
  one_line 'note: whole/points\.jsonl:9: .*dropped'
  records same whole/points.jsonl | cmp - whole.txt
}

@test "shards in one directory give the points of the whole" {
  write_moves
  grid='grid.seed=[1, 2, 3]'
  expect 0 perturb p.yaml --quiet --set "$grid" --out whole --threads 1
  expect 0 perturb p.yaml --quiet --set "$grid" --out s --threads 1 --shard 0/2 --resume
  expect 0 perturb p.yaml --quiet --set "$grid" --out s --threads 1 --shard 1/2 --resume
  equal 'points of shard 0' "$(records lines s/points.0of2.jsonl)" 18
  equal 'points of shard 1' "$(records lines s/points.1of2.jsonl)" 9
  records ids s/points.*.jsonl >ids
  records ids whole/points.jsonl | cmp - ids
  records same s/points.*.jsonl | sort >parts.txt
  records same whole/points.jsonl | sort | cmp - parts.txt
  expect 0 perturb p.yaml --json --set "$grid" --out s --threads 1 --resume
  equal 'run again' "$(grep -vc perturb_fit out)" 0
  # and the table's reader is told why
  expect 0 perturb p.yaml --set network.activation=exp --set 'grid.network.sigma=[1, 400, 2]' --out run --resume
  equal told "$(grep -c '^failed: network.sigma=400,direction=.*not finite; use a smaller sigma' out)" 9
}

@test "--dry-run tells memory and time and writes nothing, --quiet prints nothing" {
  write_moves
  expect 0 perturb p.yaml --dry-run
  has out 'dry run: 1 point; memory [0-9.]+ ([KMG]i)?B of [0-9.]+ [KMGT]iB; time about [0-9.e+-]+ s'
  expect 0 perturb p.yaml --dry-run --json --set 'grid.seed=[1, 2, 3, 4, 5]' --shard 1/2
  records keys out dry_run points memory_bytes memory_available_bytes estimate_seconds
  equal points "$(records get out points)" 2
  [ "$(records get out memory_bytes)" -gt 0 ]
  absent runs
  expect 0 perturb p.yaml --quiet
  empty out err
  equal points "$(records lines runs/p/points.jsonl)" 9
  expect 0 perturb p.yaml --quiet --json --out j
  equal lines "$(records lines out)" 9
  expect 0 perturb p.yaml --out t
  has out '^activation +m +n +d +sigma +direction +seeds +R ' '^softmax +32 +6 +4 +1 +adversarial +1 +0\.1 ' \
    "^activation +m .*region's R +at least" 'exponent in radius'
}

@test "refused before anything runs: exit 2, the configuration's line, no run" {
  write_moves
  try() { # PATTERN OPTION...
    local pattern=$1
    shift
    expect 2 perturb p.yaml --out run "$@"
    one_line "$pattern"
    empty out
    absent run
  }
  try '--set: perturb\.radii: nothing is asked for: give radii, or convex_region' --set 'perturb.radii=[]' \
    --set perturb.convex_region=false
  try '--set: perturb\.random: no direction is asked for' --set perturb.random=false --set perturb.training=false \
    --set perturb.adversarial=false
  for radius in 0 -0.1 .nan .inf 1e9; do
    try '--set: perturb\.radii: .*give a list of decimal numbers' --set "perturb.radii=[0.1, $radius]"
  done
  try '--set: perturb\.radii: 51 moves a logit by more than 50; with these inputs give radii up to 50' \
    --set 'perturb.radii=[0.1, 51]'
  try '--set: perturb\.radii: cannot be an axis|grid\.perturb\.radii: cannot be an axis' --set 'grid.perturb.radii=[[0.1], [0.2]]'
  try '--set: network\.width: 33 is odd' --set network.width=33
  try '--set: (grid\.)?network\.width: 33 is odd' --set 'grid.network.width=[32, 33]'
  try '--set: save\.weights: perturb keeps no weights' --set save.weights=true
  for value in 0 1 1.5; do
    try '--set: perturb\.lambda_ratio: ' --set perturb.lambda_ratio=$value
  done
  try '--set: perturb\.ascent_steps: 0 is out of range' --set perturb.ascent_steps=0
  try '--set: perturb\.no_such: ' --set perturb.no_such=1
  sed -i '/^network/s/, width: 32//' p.yaml
  try 'p\.yaml: network\.width: is missing'
}

@test "not enough memory: exit 4, the width's line, before anything runs" {
  write_moves
  expect 4 perturb p.yaml --memory-limit 1K --out run
  one_line 'p\.yaml:2:[0-9]+: network\.width: width 32 with 6 samples needs .*, and the limit is 1\.0 KiB'
  absent run
  expect 4 perturb p.yaml --memory-limit 1K --dry-run
  one_line 'p\.yaml:2:[0-9]+: network\.width: '
}

@test "inputs without targets, no held-out samples, given weights" {
  write_moves
  records npy x.npy 6 4 '<f8' $(seq 0.1 0.04 1.04 | head -24)
  expect 0 perturb p.yaml --json --set data.source=npy --set data.inputs=x.npy --out a
  equal points "$(without_laws out | grep -c '"status":"done"')" 9
  # held-out samples would take no part
  expect 2 perturb p.yaml --quiet --out refused --set data.test_samples=4
  one_line 'data\.test_samples: has no effect in perturb'
  absent refused
  expect 0 ntk p.yaml --quiet --precision f64 --set save.weights=true --set network.init=iid --out k
  "$H5_LIST" k/run.h5 /weights >weights
  records npy w.npy 4 32 '<f8' $(cat weights)
  "$H5_LIST" k/run.h5 /signs >signs
  records npy s.npy 1 32 '<i8' $(sed 's/\..*//' signs)
  options='--json --threads 1 --precision f64 --set perturb.convex_region=false'
  expect 0 perturb p.yaml $options --set network.init=iid --out drawn
  records get out change perturb >drawn.txt
  expect 0 perturb p.yaml $options --set network.weights=w.npy --set network.signs=s.npy --out given
  equal init "$(records get out init perturb | sort -u)" given
  records get out change perturb | paste - drawn.txt >both
  equal points "$(wc -l <both)" 6
  "$PYTHON" -c 'for line in open("both"):
    a, b = map(float, line.split())
    assert abs(a - b) <= 1e-9 * b, line'
}

@test "points that overflow are recorded failed, without figures; the rest go on" {
  write_moves
  expect 0 perturb p.yaml --json --set network.activation=exp --set 'grid.network.sigma=[1, 400, 2]' --out run
  equal statuses "$(without_laws out | records get /dev/stdin status | uniq -c | tr -s ' \n' ' ')" ' 9 done 9 failed 9 done '
  lacks out 'nan|NaN|Infinity'
  equal 'failed points' "$(records get run/run.json flags.failed_points)" 9
  equal status "$(records get run/run.json status)" 'done'
  grep '"status":"failed"' out >failed
  for key in change ratio relative_change lambda_min lambda_share bound_share; do
    equal $key "$(records get failed $key perturb | sort -u)" null
  done
  for key in region_radius region_at_least region_at_most; do # no kernel: no region, not one of radius 0
    equal $key "$(records get failed $key perturb_region | sort -u)" null
  done
  records get failed error | grep -v 'not finite; use a smaller sigma' >other || true
  empty other
  # they are not tried again
  expect 0 perturb p.yaml --json --set network.activation=exp --set 'grid.network.sigma=[1, 400, 2]' --out run --resume
  equal 'run again' "$(grep -vc perturb_fit out)" 0
}

@test "training that moves nothing, or diverges, is the failure of its direction alone" {
  write_moves
  expect 0 perturb p.yaml --json --set train.steps=0 --out none
  equal failed "$(grep -c '"status":"failed"' out)" 3
  grep '"direction":"training"' out | grep -v '"status":"failed"' >wrong || true
  lacks wrong '"kind":"perturb(_region)?"'
  has out 'training moved no neuron: there is no direction to take'
  equal region "$(grep '"direction":"training"' out | records get /dev/stdin region_radius perturb_region)" null
  expect 0 perturb p.yaml --json --set network.activation=relu --set train.eta=1e4 --out far
  equal failed "$(grep -c '"status":"failed"' out)" 3
  has out 'the loss grew from .* with eta 10000'
}

@test "an error in the middle of a grid is told as it is, whatever the laws of the points before it" {
  write_moves
  # what a shard cannot know beforehand: data that are not there
  records npy x.npy 6 4 '<f8' $(seq 0.1 0.04 1.04 | head -24)
  expect 2 perturb p.yaml --quiet --set data.source=npy --set data.inputs=x.npy --set data.samples=6 \
    --set 'grid.data.dim=[4, 5]' --set 'perturb.radii=[0.1]' --out run
  one_line 'x\.npy'
  expect 2 perturb p.yaml --json --set data.source=npy --set data.inputs=x.npy --set data.samples=6 \
    --set 'grid.data.dim=[4, 5]' --set 'perturb.radii=[0.1]' --out again
  one_line 'x\.npy'
}
