#!/usr/bin/env bats
# The command line: commands, options, help, and what is refused. SPDX-License-Identifier: MIT
load helper

@test "--version and --help answer and exit 0, alone and after a command" {
  expect 0 --version
  has out '^softntk [0-9]+\.[0-9]+\.[0-9]+ \('
  empty err
  expect 0 info --version
  has out '^softntk [0-9]'
  expect 0 --help
  cp out general
  expect 0 -h
  cmp out general
  for command in info train ntk width sweep; do
    has general "^  $command +[A-Z]"
    expect 0 "$command" --help
    has out "^usage: softntk $command " '--set a\.b=value' '--dry-run' 'exit codes: 0 done; 2 '
    empty err
  done
}

@test "every option of the contract is in the help" {
  expect 0 --help
  for option in set backend device threads precision seed out memory-limit shard resume profile dry-run json quiet \
    version help; do
    has out "^  --$option "
  done
}

@test "a command's help lists the configuration's keys with their defaults" {
  expect 0 train --help
  has out 'network\.width +.*no default' 'train\.eta .*auto\|theory; default: auto' 'network\.init .*default: symmetric' \
    'data\.normalize .*default: unit-ball' 'precision .*f32\|f64; default: f32' '^grid:'
}

@test "bad usage is exit 2 with one line that says what would be right" {
  write_tiny c.yaml
  expect 2
  one_line 'no command; use info, train'
  expect 2 frobnicate
  one_line '"frobnicate" is unknown; use info, train'
  expect 2 train c.yaml --frobnicate
  one_line '"--frobnicate" is unknown; softntk --help'
  expect 2 train c.yaml -q
  one_line '"-q" is unknown'
  expect 2 train c.yaml --out
  one_line '--out needs a value: DIR'
  expect 2 train c.yaml --out ''
  one_line '--out is empty; name a directory'
  expect 2 train c.yaml --json=yes
  one_line '--json takes no value'
  expect 2 train
  one_line 'train needs a configuration file'
  expect 2 train c.yaml d.yaml
  one_line '"c.yaml" and "d.yaml"; give one'
  expect 2 info c.yaml
  one_line 'info takes no configuration'
  expect 2 train c.yaml --shard 0/2
  one_line '--shard is for sweep, width and perturb'
  expect 2 sweep c.yaml --shard 2/2
  one_line "'2/2' is out of range; I counts from 0"
  expect 2 sweep c.yaml --shard 1-2
  one_line "'1-2' is not I/N"
  expect 2 sweep c.yaml --shard auto
  one_line '--shard auto: none of SLURM_ARRAY_TASK_ID.* give --shard I/N'
  expect 2 info --device -1
  one_line '--device -1: a whole number from 0'
  for size in 4X G 0 -1 1e3 nan 4GG; do
    expect 2 info --memory-limit "$size"
    one_line "--memory-limit $size: a size such as 4G"
  done
  for threads in x 1.5 -1 5000; do
    expect 2 info --threads "$threads"
    one_line "--threads: threads: $threads is .*give a whole number"
  done
  expect 2 info --backend opencl
  one_line 'opencl is not a word.*auto, ref, cpu, cuda'
  expect 2 train c.yaml --precision f16
  one_line 'f16 is not a word.*f32, f64'
  expect 2 train c.yaml --seed 1.5
  one_line '--seed: seed: 1.5 is not a whole number'
  expect 2 train c.yaml --profile 5
  one_line '--profile 5: START:COUNT'
  absent runs
}

@test "an option's value may follow after a space or an equals sign; -- ends the options" {
  write_tiny c.yaml
  expect 0 --quiet train --out=a --threads=1 -- c.yaml
  expect 0 train c.yaml --out b --quiet --threads 1
  records same a/points.jsonl >a.txt
  records same b/points.jsonl >b.txt
  cmp a.txt b.txt
}

@test "info tells the build and each backend, in words and in JSON" {
  expect 0 info
  has out '^softntk [0-9.]+, commit ' '^backend (cpu|cuda), ' '  cpu +available: ' '  ref +available: ' \
    '  cuda +(not )?available: '
  empty err
  expect 0 info --json --threads 1 --memory-limit 1.5G --backend cpu
  records keys out info version git_commit backend threads memory_available_bytes backends
  equal lines "$(records lines out)" 1
  equal backend "$(records get out backend)" cpu
  equal threads "$(records get out threads)" 1
  equal memory "$(records get out memory_available_bytes)" 1610612736
  expect 0 info --quiet
  empty out err
}

@test "without a CUDA device or its module, --backend cuda is exit 3" {
  softntk info --backend cuda
  [ "$rc" -ne 0 ] || skip "this build's cuda backend runs without a device (the emulator)"
  write_tiny c.yaml
  expect 3 info --backend cuda
  one_line 'cuda'
  expect 3 train c.yaml --backend cuda
  one_line 'cuda'
  absent runs
}

@test "a device that is not there is exit 3, as is what the cpu does not offer" {
  write_tiny c.yaml
  expect 3 info --backend cpu --device 3
  one_line 'cpu has no device 3; use device 0'
  expect 3 train c.yaml --backend cpu --profile 1:2
  one_line 'backend cpu has no device profiler'
  equal leftovers "$(ls -A runs)" "" # an empty folder at most
}

@test "an output that cannot be written is exit 2, not silence" {
  [ -c /dev/full ] || skip "this system has no /dev/full"
  rc=0
  "$SOFTNTK" info >/dev/full 2>err || rc=$?
  equal "exit code" "$rc" 2
  one_line 'standard output cannot be written'
}
