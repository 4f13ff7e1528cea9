#!/usr/bin/env bats
# The whole program on the emulated cuda backend: the same answers as ref, said to be emulated, never chosen unasked. SPDX-License-Identifier: MIT
load helper

# close FILE_A FILE_B BOUND: columns of numbers, |a - b| <= BOUND |b| in the Frobenius norm; NaN (not asked for at a step) in the same places.
close() {
  "$PYTHON" - "$@" <<'PY'
import math, sys
a, b = ([float(line) for line in open(name)] for name in sys.argv[1:3])
assert len(a) == len(b) > 0, (len(a), len(b))
assert [math.isnan(x) for x in a] == [math.isnan(y) for y in b]
a, b = ([x for x in column if not math.isnan(x)] for column in (a, b))
error = sum((x - y) ** 2 for x, y in zip(a, b)) ** 0.5
size = sum(y * y for y in b) ** 0.5
assert error <= float(sys.argv[3]) * size, (error, size)
PY
}

@test "info names the emulated device" {
  expect 0 info --backend cuda --json
  equal backend "$(records get out backend)" cuda
  has out 'emulated'
}

@test "auto never chooses the emulated device" {
  expect 0 info --json
  equal backend "$(records get out backend)" cpu
  write_tiny c.yaml
  expect 0 train c.yaml --json
  equal backend "$(records get out backend)" cpu
  equal recorded "$(records get runs/tiny/run.json device.backend)" cpu
  lacks runs/tiny/run.json emulated
}

@test "train agrees with ref in both forms, and run.json says emulated" {
  write_tiny c.yaml
  for activation in softmax relu exp; do
    for form in plain displacement; do
      local options="--precision f64 --set network.activation=$activation --set network.outputs=2 --set save.weights=true --set train.kernel_every=10"
      expect 0 train c.yaml --backend ref $options --out "$activation-$form-ref" --quiet
      expect 0 train c.yaml --backend cuda $options --set network.form=$form --out "$activation-$form" --quiet
      empty out err
      equal emulated "$(records get "$activation-$form/run.json" device.emulated)" true
      for dataset in /output /history/loss /history/kernel_drift /history/lambda_min /weights; do
        "$H5_LIST" "$activation-$form-ref/run.h5" $dataset >wanted
        "$H5_LIST" "$activation-$form/run.h5" $dataset >got
        close got wanted 1e-9 # 20 steps, each of relative error a few hundred times 1e-16, and differences of the kernel
      done
    done
  done
}

@test "ntk agrees with ref, stored and streamed" {
  write_tiny c.yaml
  for activation in softmax relu exp; do
    expect 0 ntk c.yaml --backend ref --precision f64 --set network.activation=$activation --set network.outputs=3 --out "$activation-ref" --quiet
    expect 0 ntk c.yaml --backend cuda --precision f64 --set network.activation=$activation --set network.outputs=3 --out "$activation" --quiet
    for dataset in /gram /eigenvalues; do
      "$H5_LIST" "$activation-ref/run.h5" $dataset >wanted
      "$H5_LIST" "$activation/run.h5" $dataset >got
      close got wanted 1e-12
    done
  done
}

@test "width finds what ref finds" {
  printf '%s\n' 'network: {activation: relu}' 'data: {source: sphere, dim: 4, samples: 4}' 'train: {steps: 40, tolerance: 0.05}' \
    'width: {max_width: 64}' >w.yaml
  expect 0 width w.yaml --json --backend ref --precision f64
  local wanted
  wanted=$(records get out width_loss width)/$(records get out width_kernel width)
  expect 0 width w.yaml --json --backend cuda --precision f64 --out cuda
  equal widths "$(records get out width_loss width)/$(records get out width_kernel width)" "$wanted"
}

@test "the order in which threads, blocks and streams run changes no bit" {
  write_tiny c.yaml
  expect 0 train c.yaml --backend cuda --json --set train.kernel_every=5 --out a
  records same out >first
  for seed in 1 2; do
    export EMU_SEED=$seed
    expect 0 train c.yaml --backend cuda --json --set train.kernel_every=5 --out "b$seed"
    records same out | cmp - first
  done
}

@test "a device that is not there, and none at all, are exit 3" {
  write_tiny c.yaml
  expect 3 train c.yaml --backend cuda --device 7
  one_line 'device 7 does not exist; this machine has 1'
  export EMU_DEVICES=0
  expect 3 train c.yaml --backend cuda
  one_line 'no CUDA device'
}

@test "what a device's memory cannot hold is exit 4 with both sizes" {
  write_tiny c.yaml
  export EMU_MEMORY=1M
  expect 4 train c.yaml --backend cuda --set network.width=200000
  one_line 'needs|needed' '[0-9]+(\.[0-9]+)? (MiB|GiB|MB|GB)'
}
