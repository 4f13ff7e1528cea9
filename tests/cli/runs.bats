#!/usr/bin/env bats
# A run's directory over its life: refused, resumed, interrupted, killed, shared, sharded. SPDX-License-Identifier: MIT
load helper

# A sweep whose last but one point takes about a second, so that a signal finds it under way.
write_long_sweep() {
  cat >s.yaml <<'YAML'
name: s
threads: 1
network: {activation: relu, width: 256}
data: {source: sphere, samples: 32, dim: 8}
train: {tolerance: 0, record_every: 0}
grid: {train.steps: [1, 2, 3, 40000, 4]}
YAML
}

# A search of six trials, each of some tenths of a second, none of which suffices.
write_long_search() {
  cat >w.yaml <<'YAML'
name: w
threads: 1
network: {activation: relu}
data: {source: sphere, samples: 32, dim: 8}
train: {steps: 8000, tolerance: 1e-300}
width: {min_width: 32, max_width: 512, lambda_ratio: 1}
YAML
}

start() { # a run in the background, where a shell has SIGINT ignored: output in bg.out, bg.err, process in $started
  env --default-signal=INT "$SOFTNTK" "$@" >bg.out 2>bg.err </dev/null 3>&- &
  started=$!
}

finish() { # waits for it: exit code in $rc
  rc=0
  wait "$started" || rc=$?
}

@test "an existing run is not written to without --resume or another --out" {
  write_tiny c.yaml
  expect 0 train c.yaml --quiet --set save.weights=true
  before=$(sum_of runs/tiny)
  for command in train ntk sweep width; do
    expect 2 $command c.yaml
    one_line 'runs/tiny: a run is there already .*give --resume to go on with it.*another --out'
    equal 'the run' "$(sum_of runs/tiny)" "$before"
  done
  expect 0 train c.yaml --quiet --out elsewhere
  equal 'the run' "$(sum_of runs/tiny)" "$before"
}

@test "--resume on an absent directory starts the run, parents and all" {
  write_tiny c.yaml
  expect 0 train c.yaml --quiet --resume --out deep/er/run
  equal lines "$(records lines deep/er/run/points.jsonl)" 1
  equal resumed "$(records get deep/er/run/run.json resumed)" 0
}

@test "--resume of a finished run runs nothing again" {
  write_tiny c.yaml
  expect 0 train c.yaml --quiet
  points=$(sha256sum runs/tiny/points.jsonl runs/tiny/run.h5)
  expect 0 train c.yaml --json --resume
  records same out >printed
  records same runs/tiny/points.jsonl | cmp - printed
  equal 'the records' "$(sha256sum runs/tiny/points.jsonl runs/tiny/run.h5)" "$points"
  equal resumed "$(records get runs/tiny/run.json resumed)" 1
  expect 0 sweep c.yaml --quiet --set 'grid.seed=[1, 2, 3]' --out s
  points=$(sha256sum s/points.jsonl)
  expect 0 sweep c.yaml --quiet --set 'grid.seed=[1, 2, 3]' --out s --resume
  equal 'the records' "$(sha256sum s/points.jsonl)" "$points"
}

@test "--resume with a changed configuration or command is refused, and names what differs" {
  write_tiny c.yaml
  expect 0 train c.yaml --quiet
  before=$(sum_of runs/tiny)
  expect 2 train c.yaml --resume --set network.width=64
  one_line 'runs/tiny: network\.width is 64, but the run there was made with 32; .*another --out'
  expect 2 train c.yaml --resume --seed 2
  one_line 'seed is 2, but the run there was made with 1'
  expect 2 train c.yaml --resume --precision f64
  one_line 'precision is "?f64"?, but'
  expect 2 ntk c.yaml --resume
  one_line "the run there is one of 'train', not of 'ntk'"
  equal 'the run' "$(sum_of runs/tiny)" "$before"
}

@test "a command that could not begin leaves nothing, so that the corrected one starts afresh" {
  write_tiny c.yaml
  expect 4 train c.yaml --memory-limit 1K --out run
  absent run
  expect 2 train c.yaml --set network.width=33 --out run
  absent run
  mkdir run
  echo mine >run/notes
  expect 2 train c.yaml --set data.source=npy --set data.inputs=no.npy --out run
  equal 'what is there' "$(ls run)" notes
  expect 0 train c.yaml --quiet --out run
}

@test "an output directory that is a file is refused" {
  write_tiny c.yaml
  echo mine >file
  expect 2 train c.yaml --out file
  one_line 'file: .*file of that name is there; give another --out'
  equal 'the file' "$(cat file)" mine
}

@test "SIGINT in a sweep: exit 75, finished points kept; --resume runs exactly the missing ones" {
  write_long_sweep
  expect 0 sweep s.yaml --quiet --out whole
  start sweep s.yaml --quiet --out s
  wait_for_lines s/points.jsonl 3
  kill -INT "$started"
  finish
  equal "exit code" "$rc" 75
  equal lines "$(wc -l <bg.err)" 1
  has bg.err 'interrupted; what was finished is in s, and --resume goes on'
  lacks bg.err error
  equal finished "$(records lines s/points.jsonl)" 3
  equal status "$(records get s/run.json status)" interrupted
  cp s/points.jsonl kept
  expect 0 sweep s.yaml --json --resume --out s
  equal 'run again' "$(records lines out)" 2
  head -3 s/points.jsonl | cmp - kept
  equal status "$(records get s/run.json status)" 'done'
  records same whole/points.jsonl >whole.txt
  records same s/points.jsonl | cmp - whole.txt
}

@test "SIGTERM ends a run as SIGINT does" {
  write_long_sweep
  start sweep s.yaml --quiet --out s
  wait_for_lines s/points.jsonl 3
  kill -TERM "$started"
  finish
  equal "exit code" "$rc" 75
  equal status "$(records get s/run.json status)" interrupted
}

@test "SIGINT in a width search: finished trials are kept and not run again" {
  write_long_search
  expect 0 width w.yaml --quiet --out whole
  start width w.yaml --quiet --out w
  wait_for_lines w/points.jsonl 2
  kill -INT "$started"
  finish
  equal "exit code" "$rc" 75
  has bg.err 'interrupted; .*--resume goes on'
  finished=$(records lines w/points.jsonl)
  [ "$finished" -lt "$(records lines whole/points.jsonl)" ] || fail "the search was over before the signal"
  cp w/points.jsonl kept
  expect 0 width w.yaml --json --resume --out w
  head -"$finished" w/points.jsonl | cmp - kept
  records ids w/points.jsonl >/dev/null
  records same whole/points.jsonl >whole.txt
  records same w/points.jsonl | cmp - whole.txt
}

@test "SIGINT in train: exit 75, and --resume trains it" {
  write_long_sweep
  sed -i '/^grid/d' s.yaml
  start train s.yaml --quiet --out t --set train.steps=1000000000
  wait_for_lines t/run.json 1
  kill -INT "$started"
  finish
  equal "exit code" "$rc" 75
  equal finished "$(records lines t/points.jsonl)" 0
  # resumed, it is the same command: interrupted again rather than run to its end
  start train s.yaml --quiet --out t --set train.steps=1000000000 --resume
  sleep 0.3
  kill -INT "$started"
  finish
  equal "exit code" "$rc" 75
}

@test "SIGKILL in a sweep loses at most the point under way" {
  write_long_sweep
  expect 0 sweep s.yaml --quiet --out whole
  start sweep s.yaml --quiet --out s
  wait_for_lines s/points.jsonl 3
  kill -KILL "$started"
  finish
  equal "exit code" "$rc" 137
  cp s/points.jsonl kept
  equal finished "$(records lines kept)" 3
  expect 0 sweep s.yaml --quiet --resume --out s
  head -3 s/points.jsonl | cmp - kept
  records same whole/points.jsonl >whole.txt
  records same s/points.jsonl | cmp - whole.txt
}

@test "a torn last line is dropped with a notice; a damaged line before it is refused" {
  write_tiny c.yaml
  expect 0 sweep c.yaml --quiet --set 'grid.seed=[1, 2, 3]' --out s
  records same s/points.jsonl >whole.txt
  size=$(stat -c %s s/points.jsonl)
  truncate -s $((size - 10)) s/points.jsonl
  expect 0 sweep c.yaml --quiet --set 'grid.seed=[1, 2, 3]' --out s --resume
  one_line 'note: s/points\.jsonl:3: .*dropped'
  records same s/points.jsonl | cmp - whole.txt
  sed -i '2s/"steps":20/"steps":21/' s/points.jsonl
  before=$(sum_of s)
  expect 2 sweep c.yaml --quiet --set 'grid.seed=[1, 2, 3]' --out s --resume
  one_line 's/points\.jsonl:2: '
  equal 'the run' "$(sum_of s)" "$before"
}

@test "a second writer of the same run is told so and stops; the first one goes on" {
  write_long_sweep
  start sweep s.yaml --quiet --out s
  wait_for_lines s/points.jsonl 3
  expect 2 sweep s.yaml --quiet --out s --resume
  one_line 's/points\.jsonl: another process is writing this file'
  expect 2 sweep s.yaml --quiet --out s
  one_line 's: a run is there already'
  finish
  equal "exit code of the first" "$rc" 0
  empty bg.err
  equal points "$(records lines s/points.jsonl)" 5
  equal status "$(records get s/run.json status)" 'done'
}

@test "shards 0/2 and 1/2 in one directory give the points of the whole" {
  write_tiny c.yaml
  grid='grid.seed=[1, 2, 3, 4, 5]'
  expect 0 sweep c.yaml --quiet --set "$grid" --out whole --threads 1
  start sweep c.yaml --quiet --set "$grid" --out s --threads 1 --shard 0/2 --resume
  expect 0 sweep c.yaml --quiet --set "$grid" --out s --threads 1 --shard 1/2 --resume
  finish
  equal "exit code of the other shard" "$rc" 0
  equal files "$(cd s && echo points*)" 'points.0of2.jsonl points.1of2.jsonl'
  equal 'points of shard 0' "$(records lines s/points.0of2.jsonl)" 3
  records ids s/points.*.jsonl >ids
  records ids whole/points.jsonl | cmp - ids
  records same s/points.*.jsonl | sort >parts.txt
  records same whole/points.jsonl | sort | cmp - parts.txt
  # any mix is read as one: nothing is left for a process without shards
  expect 0 sweep c.yaml --json --set "$grid" --out s --threads 1 --resume
  empty out
}

@test "shards of width, and --shard auto from a job array's environment" {
  printf '%s\n' 'network: {activation: relu}' 'data: {source: sphere, dim: 4}' 'train: {steps: 40, tolerance: 0.05}' \
    'width: {max_width: 64}' 'grid: {data.samples: [2, 3, 4]}' >w.yaml
  expect 0 width w.yaml --quiet --out whole --threads 1
  expect 0 width w.yaml --quiet --out w --threads 1 --resume --shard 0/2
  export SLURM_ARRAY_TASK_ID=6 SLURM_ARRAY_TASK_MIN=5 SLURM_ARRAY_TASK_COUNT=2
  expect 0 width w.yaml --quiet --out w --threads 1 --resume --shard auto
  [ -f w/points.1of2.jsonl ]
  records same w/points.*.jsonl | sort >parts.txt
  records same whole/points.jsonl | sort | cmp - parts.txt
}
