#!/usr/bin/env bats
# Where address space or threads are short, and what the environment asks for: an answer at once, never a hang.
# SPDX-License-Identifier: MIT
load helper

# limited KIB COMMAND...: with at most so much address space; a hang is exit 137.
limited() {
  local kib=$1
  shift
  rc=0
  (
    ulimit -v "$kib"
    OMP_WAIT_POLICY=passive exec timeout -s KILL 20 "$SOFTNTK" "$@"
  ) >out 2>err </dev/null || rc=$?
}

answered() { # a refusal for want of memory in one line, or success
  [ "$rc" -eq 0 ] || [ "$rc" -eq 4 ] || fail "exit $rc: $* $(cat err)"
  [ "$rc" -eq 0 ] || one_line '^softntk: error: .*address space|could be started'
}

@test "under every limit of address space each command starts or says at once that there is no room" {
  local kib threads
  for threads in 1 2 64; do
    export OMP_NUM_THREADS=$threads
    for kib in 100000 150000 200000 210000 220000 300000 330000 340000 350000 400000 450000 460000 470000 500000 2000000 \
      4000000 8000000; do
      limited $kib --version
      answered "--version, $threads threads, $kib KiB"
      limited $kib info
      answered "info, $threads threads, $kib KiB"
    done
  done
}

@test "no room while the libraries are loaded: exit 4, with the cure" {
  OMP_NUM_THREADS=1 limited 150000 --version
  equal 'exit code' "$rc" 4
  one_line '^softntk: error: no room for the linear algebra library: .*128 MiB.*ulimit -v'
  lacks err 'OMP_NUM_THREADS=1'
}

@test "threads that would take more address space than there is: exit 4, with their number" {
  write_tiny c.yaml
  limited 2000000 train c.yaml --threads 16 --quiet
  equal 'exit code' "$rc" 4
  one_line '^softntk: error: 16 threads: .*address space.*ulimit -v.*fewer --threads'
  limited 2000000 ntk c.yaml --threads 16 --quiet --backend cpu
  equal 'exit code' "$rc" 4
  OMP_NUM_THREADS=16 limited 2000000 ntk c.yaml --quiet --backend ref
  equal 'exit code' "$rc" 4
  limited 2000000 ntk c.yaml --threads 2 --quiet
  equal 'exit code' "$rc" 0
}

@test "the limit of a data segment counts as that of address space" {
  rc=0
  (
    ulimit -d 100000
    exec timeout -s KILL 20 "$SOFTNTK" --version
  ) >out 2>err </dev/null || rc=$?
  equal 'exit code' "$rc" 4
  one_line 'ulimit -d'
}

@test "threads that cannot be started: exit 4, not the end of the process" {
  write_tiny c.yaml
  OMP_STACKSIZE=1000G expect 4 train c.yaml --threads 3 --quiet
  one_line '3 threads: no more than 1 could be started; .*OMP_STACKSIZE'
  OMP_STACKSIZE=1M expect 0 train c.yaml --threads 3 --quiet
}

@test "a number of threads that nobody means names the variable or option" {
  OMP_NUM_THREADS=100000 expect 2 info
  one_line 'OMP_NUM_THREADS asks for 100000 threads; use at most 4096'
  local word
  for word in garbage 0 -3 2,x 99999999999999999999; do
    OMP_NUM_THREADS=$word expect 2 info
    has err "^softntk: error: OMP_NUM_THREADS is \"$word\"; use a positive whole number"
  done
  expect 2 info --threads 100000
  one_line '--threads: .*100000 is out of range'
  write_tiny c.yaml
  expect 2 train c.yaml --set threads=100000
  one_line 'threads: 100000 is out of range'
}

@test "lists of OpenMP, and --threads before a variable that means nothing" {
  OMP_NUM_THREADS=' 2, 3' expect 0 info --json
  equal threads "$(records get out threads)" 2
  OMP_NUM_THREADS=garbage expect 0 info --threads 2 --json
  equal threads "$(records get out threads)" 2
  OMP_NUM_THREADS='' expect 0 info
}

@test "OpenMP's own limits: fewer threads or a refusal, never a wait for threads that do not come" {
  cat >k.yaml <<'YAML'
network: {activation: softmax, width: 4096}
data: {source: sphere, samples: 200, dim: 16}
YAML
  local setting
  for setting in OMP_THREAD_LIMIT=1 OMP_DYNAMIC=true OMP_MAX_ACTIVE_LEVELS=0; do
    rc=0
    env OMP_NUM_THREADS=4 OMP_WAIT_POLICY=passive $setting timeout -s KILL 30 "$SOFTNTK" ntk k.yaml --json --backend cpu \
      --out $setting >out 2>err || rc=$?
    equal "exit code with $setting" "$rc" 0
    cp out $setting.out
  done
  records same OMP_DYNAMIC=true.out >dynamic
  records same OMP_MAX_ACTIVE_LEVELS=0.out | cmp - dynamic
  OMP_THREAD_LIMIT=2 expect 2 ntk k.yaml --threads 4 --quiet --backend cpu
  one_line '4 threads are asked for, and OMP_THREAD_LIMIT is 2; use fewer --threads'
}

@test "SOFTNTK_ISA: a word that is not known is refused by every command that computes" {
  write_tiny c.yaml
  local isa command
  for isa in AVX2 scalar 'avx2 '; do
    SOFTNTK_ISA=$isa expect 2 info
    one_line "SOFTNTK_ISA is \"$isa\"; use portable, avx2 or avx512"
  done
  for command in train ntk perturb width sweep; do
    SOFTNTK_ISA=sse expect 2 $command c.yaml
    one_line 'SOFTNTK_ISA is "sse"'
    SOFTNTK_ISA=sse expect 2 $command c.yaml --backend ref
    one_line 'SOFTNTK_ISA is "sse"'
  done
  SOFTNTK_ISA=sse expect 2 bench rng
  one_line 'SOFTNTK_ISA is "sse"'
  [ ! -e runs ] || fail "a run was begun"
}

@test "SOFTNTK_ISA: the words that are known, and none" {
  local isa
  SOFTNTK_ISA=portable expect 0 info --backend cpu
  has out 'portable kernels'
  SOFTNTK_ISA= expect 0 info
  for isa in avx2 avx512; do
    SOFTNTK_ISA=$isa softntk info --backend cpu
    case $rc in
      0) has out "$isa kernels" ;;
      3) one_line "SOFTNTK_ISA is $isa, which this processor or build lacks; use portable" ;;
      *) fail "exit $rc: $(cat err)" ;;
    esac
  done
}
