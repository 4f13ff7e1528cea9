#!/usr/bin/env bats
# A key or option that is given and changes nothing is an error that names it; sections of other commands may stand in a
# shared file. SPDX-License-Identifier: MIT
load helper

refused() { # COMMAND KEY PATTERN [KEY=VALUE...]: the command refuses the keys set, by the name of the first
  local command=$1 key=$2 pattern=$3 sets=()
  shift 3
  write_tiny c.yaml
  local word
  for word in "$@"; do sets+=(--set "$word"); done
  expect 2 "$command" c.yaml --quiet "${sets[@]}"
  one_line "$key: has no effect in $command.*$pattern"
  absent runs
}

@test "keys of data that the source or the targets do not use" {
  local command
  for command in train ntk perturb width sweep; do
    refused $command data.clusters 'data.source clusters' data.clusters=3
    refused $command data.spread 'data.source clusters' data.spread=0.1
    refused $command data.teacher_width 'data.targets teacher' data.teacher_width=4
    refused $command data.harmonic_degree 'data.targets harmonic' data.harmonic_degree=3
    refused $command data.harmonic_degree 'data.targets harmonic' data.harmonic_degree=3 data.targets=teacher
  done
}

@test "held-out samples in a command that does not train on the data" {
  local command
  for command in ntk perturb width; do
    refused $command data.test_samples 'train or a sweep of it' data.test_samples=2
    write_tiny c.yaml
    sed -i 's/dim: 4/dim: 4, test_samples: 2/' c.yaml
    expect 2 $command c.yaml --quiet
    one_line 'c\.yaml:3:[0-9]+: data\.test_samples: has no effect in'
  done
  refused sweep data.test_samples 'train or a sweep of it' data.test_samples=2 sweep.command=ntk
  expect 0 ntk c.yaml --quiet --set data.test_samples=0
  expect 0 train c.yaml --quiet --out trained
  # of a file they are rows that the kernel is not taken of, unless the samples are counted out
  records npy x.npy 6 2 '<f8' 1 2 3 4 5 6 7 8 9 10 11 12
  printf '%s\n' 'network: {activation: relu, width: 8}' 'data: {source: npy, inputs: x.npy, test_samples: 2}' >f.yaml
  expect 0 ntk f.yaml --json
  equal samples "$(records get out samples)" 4
  expect 2 ntk f.yaml --set data.samples=3
  one_line 'data\.test_samples: has no effect in ntk'
}

@test "labels and seeds of data that nothing is taken from" {
  printf '%s\n' '1,2,3' '4,5,6' '7,8,10' >x.csv
  printf '%s\n' 1 2 3 >y.csv
  local data='data: {source: csv, inputs: x.csv, header: no'
  printf '%s\n' 'network: {activation: softmax, width: 8}' "$data, labels: y.csv, targets: random}" >c.yaml
  expect 2 train c.yaml --quiet
  one_line 'data\.labels: has no effect .*targets values or classes'
  printf '%s\n' 'network: {activation: softmax, width: 8}' "$data, labels: y.csv, seed: 3}" >c.yaml
  expect 2 train c.yaml --quiet
  one_line 'data\.seed: has no effect'
  printf '%s\n' 'network: {activation: softmax, width: 8}' "$data, seed: 3}" 'train: {steps: 2}' >c.yaml
  expect 0 train c.yaml --quiet
}

@test "keys of a command's own section that its other keys leave without effect" {
  refused train train.theory_c 'train.eta theory' train.theory_c=2
  refused train train.theory_delta 'train.eta theory' train.theory_delta=0.2 train.eta=auto
  refused ntk ntk.min_prefix 'ntk.prefixes true' ntk.min_prefix=4
  refused ntk ntk.min_prefix 'without ntk.prefix_widths' ntk.min_prefix=4 ntk.prefixes=true 'ntk.prefix_widths=[8]'
  refused ntk ntk.solver 'ntk.eigenvalues true' ntk.solver=lanczos ntk.eigenvalues=false
  refused ntk ntk.solver 'matrix full or trace' ntk.solver=lanczos ntk.matrix=diagonal
  refused ntk ntk.eigenvalues 'matrix full or trace' ntk.eigenvalues=true ntk.matrix=diagonal
  refused ntk save.prefixes 'ntk.prefixes true' save.prefixes=true
  refused perturb perturb.ascent_steps 'perturb.adversarial true' perturb.ascent_steps=3 perturb.adversarial=false
  local key
  for key in lambda_ratio=0.7 max_radius=1 resolution=0.1; do
    refused perturb "perturb.${key%=*}" 'perturb.convex_region true' "perturb.$key" perturb.convex_region=false
  done
}

@test "what an option makes idle in a file is let be" {
  cat >c.yaml <<'YAML'
network: {activation: relu, width: 8}
data: {source: clusters, samples: 6, dim: 4, clusters: 2, spread: 0.1, targets: teacher, teacher_width: 4}
train: {steps: 2, eta: theory, theory_c: 2}
ntk: {prefixes: true, min_prefix: 4, solver: lanczos}
perturb: {radii: [0.01], convex_region: false, ascent_steps: 1}
YAML
  expect 0 train c.yaml --quiet --set data.source=sphere --set data.targets=random --set train.eta=1
  expect 0 ntk c.yaml --quiet --set ntk.prefixes=false --set ntk.matrix=diagonal --out n
  expect 0 perturb c.yaml --quiet --set perturb.adversarial=false --out p
  expect 2 train c.yaml --quiet --set data.source=sphere --set data.clusters=3 --out r
  one_line '--set: data\.clusters: has no effect'
}

@test "an axis of the grid that gives equal points" {
  write_tiny c.yaml
  expect 2 sweep c.yaml --set 'grid.data.clusters=[1, 2]'
  one_line 'data\.clusters: has no effect in sweep'
  expect 2 sweep c.yaml --set sweep.command=ntk --set 'grid.train.steps=[1, 2]'
  one_line 'train\.steps: has no effect in sweep'
  expect 2 sweep c.yaml --set 'grid.ntk.matrix=[full, trace]'
  one_line 'ntk\.matrix: has no effect in sweep'
  expect 2 perturb c.yaml --set 'grid.ntk.matrix=[full, trace]'
  one_line 'ntk\.matrix: has no effect in perturb'
  # an effect at some points is one
  expect 0 sweep c.yaml --quiet --set 'grid.data.source=[sphere, clusters]' --set data.clusters=2
  expect 0 sweep c.yaml --quiet --set 'grid.train.eta=[auto, theory]' --set train.theory_c=2 --out b
}

@test "sections of other commands may stand in a shared file" {
  write_tiny c.yaml
  cat >>c.yaml <<'YAML'
ntk: {matrix: trace, prefixes: true, min_prefix: 8}
width: {min_width: 2, max_width: 8}
perturb: {radii: [0.01], convex_region: false, ascent_steps: 1}
sweep: {command: ntk}
YAML
  local command
  for command in train ntk perturb width sweep; do expect 0 $command c.yaml --quiet --out $command; done
}

@test "options that a command does not look at" {
  write_tiny c.yaml
  local words
  for words in '--out o' --resume --dry-run '--seed 3' '--precision f64' '--profile 1:1'; do
    # shellcheck disable=SC2086 # an option and its value
    expect 2 info $words
    one_line "${words%% *} has no effect in softntk info"
  done
  expect 2 ntk c.yaml --profile 1:1
  one_line '--profile has no effect in softntk ntk'
}
