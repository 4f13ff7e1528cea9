#!/usr/bin/env bats
# The same command twice gives the same bits: every record but what is a time, every dataset of run.h5.
# SPDX-License-Identifier: MIT
load helper

# Runs the command into two directories and compares what they hold.
twice() {
  expect 0 "$@" --quiet --out "$run.1"
  expect 0 "$@" --quiet --out "$run.2"
  records same "$run.1/points.jsonl" >records.1
  records same "$run.2/points.jsonl" >records.2
  [ -s records.1 ]
  cmp records.1 records.2
  if [ -f "$run.1/run.h5" ]; then
    "$H5_LIST" "$run.1/run.h5" >data.1
    "$H5_LIST" "$run.2/run.h5" >data.2
    [ -s data.1 ]
    cmp data.1 data.2
  fi
}

# Sizes beside the lanes' and blocks', so that remainders take part.
write_problem() {
  cat >c.yaml <<'YAML'
network: {activation: softmax, width: 1030, outputs: 3}
data: {source: gaussian, samples: 37, dim: 11}
train: {steps: 12, tolerance: 0, kernel_every: 6}
save: {weights: true}
YAML
}

@test "train with 1 thread and with 2" {
  write_problem
  for threads in 1 2; do
    for activation in softmax relu exp exp_normalized; do
      run=train-$activation-$threads
      twice train c.yaml --threads $threads --set network.activation=$activation
    done
  done
}

@test "train in f64, in the plain form, and on the reference backend" {
  write_problem
  run=f64 twice train c.yaml --threads 2 --precision f64
  run=plain twice train c.yaml --threads 2 --set network.form=plain
  run=ref twice train c.yaml --backend ref --set network.width=64 --set data.samples=9
}

@test "ntk with 1 thread and with 2" {
  write_problem
  for threads in 1 2; do
    run=ntk-$threads
    twice ntk c.yaml --threads $threads
    run=stored-$threads
    twice ntk c.yaml --threads $threads --set network.form=displacement --precision f64
  done
}

@test "parts of the kernel, prefixes and perturbations with 1 thread and with 2" {
  write_problem
  for threads in 1 2; do
    for matrix in trace diagonal blocks; do
      run=$matrix-$threads
      twice ntk c.yaml --threads $threads --set ntk.matrix=$matrix --set ntk.block=16
    done
    run=prefixes-$threads
    twice ntk c.yaml --threads $threads --set ntk.prefixes=true --set ntk.min_prefix=128 --set ntk.solver=lanczos
    for activation in softmax relu exp_normalized; do
      run=perturb-$activation-$threads
      twice perturb c.yaml --threads $threads --set save.weights=false --set network.activation=$activation \
        --set network.width=130 --set 'perturb.radii=[0.01, 0.1]' --set perturb.ascent_steps=3 --set perturb.resolution=1
    done
    run=linearized-$threads
    twice train c.yaml --threads $threads --set train.linearized=true --set data.test_samples=5
  done
}

@test "width and sweep with 1 thread and with 2" {
  cat >w.yaml <<'YAML'
network: {activation: softmax}
data: {source: sphere, dim: 5}
train: {steps: 60, tolerance: 0.01}
width: {max_width: 256}
grid: {data.samples: [3, 6]}
YAML
  write_problem
  for threads in 1 2; do
    run=width-$threads
    twice width w.yaml --threads $threads
    run=sweep-$threads
    twice sweep c.yaml --set save.weights=false --threads $threads --set 'grid.network.width=[34, 66]' --set 'grid.seed=[1, 2]'
  done
}

@test "the points of a sweep are those of train alone" {
  write_problem
  expect 0 sweep c.yaml --quiet --threads 1 --set save.weights=false --set 'grid.network.width=[34, 66]' --out s
  expect 0 train c.yaml --quiet --threads 1 --set network.width=66 --out t
  records same s/points.jsonl | sed -n 2p | sed 's/"id": "[^"]*"/"id": "-"/' >of_sweep
  records same t/points.jsonl | cmp - of_sweep
}

@test "another seed gives other bits" {
  write_problem
  expect 0 train c.yaml --quiet --out a
  expect 0 train c.yaml --quiet --out b --seed 2
  for dataset in /weights /output /history/loss; do
    "$H5_LIST" a/run.h5 | grep "^$dataset " >a.txt
    "$H5_LIST" b/run.h5 | grep "^$dataset " >b.txt
    if cmp -s a.txt b.txt; then fail "$dataset does not change with the seed"; fi
  done
}
