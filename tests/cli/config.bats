#!/usr/bin/env bats
# What is wrong in a configuration: exit 2 or 4, one line with the place, the value and the cure, no run left behind.
# SPDX-License-Identifier: MIT
load helper

NETWORK='network: {activation: softmax, width: 64}'
DATA='data: {source: sphere, samples: 6, dim: 4}'

# The configuration's lines, then "--", the exit code, and patterns of the message.
refused() {
  : >c.yaml
  while [ "$1" != -- ]; do
    printf '%s\n' "$1" >>c.yaml
    shift
  done
  expect "$2" "${COMMAND:-train}" c.yaml --out run
  shift 2
  one_line "$@"
  empty out
  absent run
}

@test "an unknown key, with the key that was meant" {
  refused 'network: {activation: softmax, widht: 64}' "$DATA" -- 2 \
    'c\.yaml:1:32: network\.widht: .*did you mean network\.width\?'
  refused "$NETWORK" "$DATA" 'colour: red' -- 2 'c\.yaml:3:1: colour: is not a key; the keys there are name, seed'
  refused "$NETWORK" "$DATA" 'grid: {network.widht: [1, 2]}' -- 2 \
    'c\.yaml:3:8: grid\.network\.widht: .*did you mean network\.width'
}

@test "a key given twice, with both lines" {
  refused "$NETWORK" "$DATA" "$NETWORK" -- 2 'c\.yaml:3:1: network: is given twice, first at line 1; keep one'
  refused 'network: {width: 64, activation: relu, width: 32}' "$DATA" -- 2 \
    'c\.yaml:1:40: network\.width: is given twice'
}

@test "a width that is no whole decimal number" {
  for value in 64.5 010 0x40 64k 1e2 1_000 +-1 .inf; do
    refused "network: {activation: softmax, width: $value}" "$DATA" -- 2 \
      "c\.yaml:1:39: network\.width: $(literal "$value") is not a whole number; give a whole number, decimal, such as 64"
  done
  refused "network: {activation: softmax, width: '64'}" "$DATA" -- 2 \
    'c\.yaml:1:39: .*"64" is text, not a number: write it without quotes'
  refused 'network: {activation: softmax, width: [64]}' "$DATA" -- 2 'c\.yaml:1:39: network\.width: a list is not what'
  refused 'network: {activation: softmax, width: }' "$DATA" -- 2 'c\.yaml:1:[0-9]+: network\.width: the value is empty'
}

@test "a number out of its range, or not finite" {
  refused "$NETWORK" 'data: {source: sphere, samples: 0, dim: 4}' -- 2 \
    'c\.yaml:2:33: data\.samples: 0 is out of range; .*\[1, 2\^31\]'
  refused 'network: {activation: softmax, width: 0}' "$DATA" -- 2 'c\.yaml:1:39: network\.width: 0 is out of range'
  refused 'network: {activation: softmax, width: -64}' "$DATA" -- 2 'network\.width: -64 is out of range'
  refused 'network: {activation: softmax, width: 99999999999999999999}' "$DATA" -- 2 \
    'network\.width: 9+ is out of range'
  for value in nan .nan inf -.inf; do
    refused "network: {activation: softmax, width: 64, sigma: $value}" "$DATA" -- 2 \
      "c\.yaml:1:50: network\.sigma: $(literal "$value") is not a finite decimal number"
  done
  refused 'network: {activation: softmax, width: 64, sigma: 1e400}' "$DATA" -- 2 \
    'c\.yaml:1:50: network\.sigma: 1e400 is too large'
  refused 'network: {activation: softmax, width: 64, sigma: 0}' "$DATA" -- 2 \
    'c\.yaml:1:50: network\.sigma: 0 is out of range'
}

@test "a word that the key does not have" {
  refused 'network: {activation: tanh, width: 64}' "$DATA" -- 2 \
    'c\.yaml:1:23: network\.activation: tanh is not a word.*softmax, relu, exp'
  refused "$NETWORK" "$DATA" 'train: {eta: atuo}' -- 2 'c\.yaml:3:14: train\.eta: atuo .*did you mean auto'
}

@test "a file that is empty, missing, not YAML, or no mapping" {
  refused -- 2 'c\.yaml:1:1: the file is empty; give keys such as'
  refused '# nothing here' -- 2 'c\.yaml:1:1: the file is empty'
  refused '- a' -- 2 'c\.yaml:1:1: a list is not a mapping'
  refused 'network: {activation: softmax' "$DATA" -- 2 'c\.yaml:2:5: this is not valid YAML'
  expect 2 train missing.yaml
  one_line 'missing\.yaml: the file cannot be read: .*give the path of a YAML file'
  mkdir directory
  expect 2 train directory
  one_line 'directory: the file cannot be read'
  absent runs
}

@test "a key that is required and not there" {
  refused 'network: {activation: softmax}' "$DATA" -- 2 'c\.yaml: network\.width: is missing .*give a whole number'
  refused 'network: {width: 64}' "$DATA" -- 2 'c\.yaml: network\.activation: is missing .*softmax, relu, exp'
  refused "$NETWORK" -- 2 'c\.yaml: data\.source: is missing .*sphere'
  refused "$NETWORK" 'data: {source: sphere, samples: 6}' -- 2 'c\.yaml: data\.dim: is missing'
  refused "$NETWORK" 'data: {source: csv}' -- 2 'c\.yaml: data\.inputs: is missing'
}

@test "an odd width with symmetric initialization" {
  refused 'network: {activation: softmax, width: 65}' "$DATA" -- 2 \
    'c\.yaml:1:39: network\.width: 65 is odd.*use an even width or network\.init iid'
  COMMAND=ntk refused 'network: {activation: softmax, width: 65}' "$DATA" -- 2 'c\.yaml:1:39: network\.width: 65 is odd'
  # in a sweep before the first point runs, not at the odd one's turn
  COMMAND=sweep refused "$NETWORK" "$DATA" 'grid: {network.width: [64, 65]}' -- 2 \
    'c\.yaml:3:[0-9]+: network\.width: 65 is odd'
  COMMAND=width refused 'network: {activation: softmax}' "$DATA" 'width: {min_width: 3}' -- 2 \
    'c\.yaml:3:20: width\.min_width: 3 is odd'
  expect 0 train c.yaml --set network.width=65 --set network.init=iid --out iid --quiet
}

@test "a width beyond memory is exit 4, before anything is allocated or written" {
  refused 'network: {activation: softmax, width: 1000000000000}' "$DATA" -- 4 \
    'c\.yaml:1:39: network\.width: width 1000000000000 with 6 samples needs [0-9.]+ TiB.*use a smaller width'
  refused 'network: {activation: softmax, width: 1099511627776}' 'data: {source: sphere, samples: 6, dim: 1048576}' -- 4 \
    'c\.yaml:1:39: network\.width: width 1099511627776 .*needs .*use a smaller width'
  COMMAND=sweep refused "$NETWORK" "$DATA" 'grid: {network.width: [1000000000000]}' -- 4 \
    'c\.yaml:3:[0-9]+: network\.width: width 1000000000000'
}

@test "--memory-limit refuses with exit 4 what the machine could hold" {
  write_tiny c.yaml
  for command in train ntk sweep; do
    expect 4 "$command" c.yaml --memory-limit 1K --out run
    one_line 'c\.yaml:2:39: network\.width: width 32 with 6 samples needs [0-9.]+ [KM]iB, and the limit is 1\.0 KiB; ' \
      'use a smaller width or a larger --memory-limit'
  done
  expect 4 train c.yaml --memory-limit 1K --dry-run
  one_line 'the limit is 1\.0 KiB'
  absent run runs
  expect 0 train c.yaml --memory-limit 1G --out run --quiet
}

@test "keys that do not go together" {
  refused "$NETWORK" "$DATA" 'grid: {seed: [1, 2]}' -- 2 \
    'c\.yaml:3:[0-9]+: grid\.seed: .*train runs one; use softntk sweep'
  COMMAND=width refused "$NETWORK" "$DATA" 'grid: {network.width: [2, 4]}' -- 2 \
    'c\.yaml:3:[0-9]+: grid\.network\.width: .*use width\.min_width'
  COMMAND=width refused "$NETWORK" "$DATA" 'width: {min_width: 64, max_width: 32}' -- 2 \
    'c\.yaml:3:[0-9]+: width\.max_width: 32 is below'
  refused "$NETWORK" 'data: {source: sphere, samples: 6, dim: 4, inputs: x.npy}' -- 2 \
    'c\.yaml:2:52: data\.inputs: source sphere makes its own'
  refused "$NETWORK" 'data: {source: sphere, samples: 6, dim: 4, targets: values}' -- 2 \
    'c\.yaml:2:16: .*values needs labels'
  refused 'network: {activation: softmax, width: 64, form: displacement}' "$DATA" 'backend: ref' -- 2 \
    'c\.yaml:1:49: network\.form: backend ref has only the plain form'
  refused "$NETWORK" "$DATA" 'grid: {seed: []}' -- 2 'c\.yaml:3:14: grid\.seed: \[\] is an empty list'
}

@test "a data file that is missing or damaged names the configuration's line and the file" {
  refused "$NETWORK" 'data: {source: npy, inputs: nofile.npy}' -- 2 'c\.yaml:2:29: data\.inputs: nofile\.npy: '
  printf '1,2\n3,x\n' >bad.csv
  refused "$NETWORK" 'data: {source: csv, inputs: bad.csv}' -- 2 'c\.yaml:2:29: data\.inputs: bad\.csv:2'
  printf '\223NUMPY\001\000' >torn.npy
  refused "$NETWORK" 'data: {source: npy, inputs: torn.npy}' -- 2 'c\.yaml:2:29: data\.inputs: torn\.npy'
  records npy nan.npy 1 2 '<f8' 1 nan
  refused "$NETWORK" 'data: {source: npy, inputs: nan.npy}' -- 2 'c\.yaml:2:29: data\.inputs: nan\.npy'
}

@test "held-out samples that a file does not have, with the counts" {
  records npy x.npy 3 2 '<f8' 1 0 0 1 1 1
  refused "$NETWORK" 'data: {source: npy, inputs: x.npy, samples: 2, test_samples: 2}' -- 2 \
    'c\.yaml:2:29: data\.inputs: samples 2 and test_samples 2 are 4 rows, but x\.npy has 3'
  refused "$NETWORK" 'data: {source: npy, inputs: x.npy, test_samples: 3}' -- 2 \
    'c\.yaml:2:29: data\.inputs: test_samples is 3, but x\.npy has 3 rows'
  refused "$NETWORK" 'data: {source: sphere, samples: 6, dim: 4, test_samples: -1}' -- 2 \
    'c\.yaml:2:58: data\.test_samples: -1 is out of range'
  # without samples, the last row is the held-out one
  printf '%s\n' "$NETWORK" 'data: {source: npy, inputs: x.npy, test_samples: 1}' 'train: {steps: 2}' >good.yaml
  expect 0 train good.yaml --out good --quiet
  equal samples "$(records get good/points.jsonl samples)" 2
}

@test "a list of numbers that is none, or has one out of its range" {
  refused "$NETWORK" "$DATA" 'perturb: {radii: 0.1}' -- 2 \
    'c\.yaml:3:18: perturb\.radii: 0\.1 is not a list; give a list of decimal numbers such as \[0\.5, 1e-3\]'
  refused "$NETWORK" "$DATA" 'perturb: {radii: [0.1, 0]}' -- 2 \
    'c\.yaml:3:24: perturb\.radii: 0 is out of range; .*\(0, 1000000\]'
  refused "$NETWORK" "$DATA" 'perturb: {radii: [0.1, nan]}' -- 2 'c\.yaml:3:24: perturb\.radii: nan is not a finite'
  refused "$NETWORK" "$DATA" 'grid: {perturb.radii: [[1], [2]]}' -- 2 'c\.yaml:3:8: grid\.perturb\.radii: cannot be'
}

@test "--set is checked as the file is" {
  write_tiny c.yaml
  expect 2 train c.yaml --set network.widht=64
  one_line '--set: network\.widht: is not a key; did you mean network\.width'
  expect 2 train c.yaml --set network.width=64.5
  one_line '--set: network\.width: 64\.5 is not a whole number'
  expect 2 train c.yaml --set network.width
  one_line 'network\.width is not an assignment; give KEY=VALUE'
  expect 2 train c.yaml --set network.width=33
  one_line '--set: network\.width: 33 is odd'
  expect 2 train c.yaml --set network=5
  one_line '--set: network: is a section'
  absent runs/tiny
}

@test "paths are relative to the configuration's file, and the run's name is the file's where none is given" {
  mkdir -p sub/data
  records npy sub/data/x.npy 2 2 '<f8' 1 0 0 1
  printf '%s\n' "$NETWORK" 'data: {source: npy, inputs: data/x.npy}' 'train: {steps: 2}' >sub/named.yaml
  expect 0 train sub/named.yaml --quiet
  [ -f runs/named/points.jsonl ]
  equal dim "$(records get runs/named/points.jsonl dim)" 2
}
