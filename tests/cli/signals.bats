#!/usr/bin/env bats
# The signals that end a run: what is finished is kept, exit 75, soon. SPDX-License-Identifier: MIT
load helper

write_endless() {
  write_tiny c.yaml
  sed -i 's/steps: 20/steps: 1000000000000, record_every: 0/; s/width: 32/width: 4/' c.yaml
}

# Begins in the background with every signal's default, which a shell changes for SIGINT; its process in $started.
begin() {
  env --default-signal OMP_NUM_THREADS=1 "$SOFTNTK" "$@" >bg.out 2>bg.err </dev/null 3>&- &
  started=$!
}

# What a signal must do within some seconds: end the program, exit code in $rc.
ended() {
  local tries=0
  while kill -0 "$started" 2>/dev/null; do
    tries=$((tries + 1))
    if [ $tries -gt 250 ]; then
      kill -KILL "$started"
      fail "it goes on: $(cat bg.err)"
    fi
    sleep 0.02
  done
  rc=0
  wait "$started" || rc=$?
}

interrupted() { # DIRECTORY
  ended
  equal 'exit code' "$rc" 75
  equal lines "$(wc -l <bg.err)" 1
  has bg.err '^softntk: interrupted'
  equal status "$(records get "$1/run.json" status)" interrupted
}

@test "SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2 and SIGXCPU end a run alike, and it can be resumed" {
  write_endless
  local signal
  for signal in INT TERM HUP USR1 USR2 XCPU; do
    begin train c.yaml --quiet --out $signal
    wait_for_lines $signal/run.json 1
    kill -$signal "$started"
    interrupted $signal
  done
  begin train c.yaml --quiet --out HUP --resume
  sleep 0.5
  kill -HUP "$started"
  interrupted HUP
}

@test "a signal that was ignored at the start stays ignored, but for SIGTERM" {
  write_endless
  local signal
  for signal in HUP INT USR1 USR2; do
    env --default-signal --ignore-signal=$signal OMP_NUM_THREADS=1 "$SOFTNTK" train c.yaml --quiet --out $signal \
      >bg.out 2>bg.err </dev/null 3>&- &
    started=$!
    wait_for_lines $signal/run.json 1
    kill -$signal "$started"
    sleep 0.5
    kill -0 "$started" || fail "SIG$signal, ignored at the start, has ended it"
    kill -TERM "$started"
    interrupted $signal
  done
  env --ignore-signal=TERM OMP_NUM_THREADS=1 "$SOFTNTK" train c.yaml --quiet --out TERM >bg.out 2>bg.err </dev/null 3>&- &
  started=$!
  wait_for_lines TERM/run.json 1
  kill -TERM "$started"
  interrupted TERM
}

@test "signals that repeat by themselves do not kill" {
  write_endless
  local signal
  for signal in HUP XCPU; do
    begin train c.yaml --quiet --out $signal
    wait_for_lines $signal/run.json 1
    for _ in 1 2 3; do kill -$signal "$started" 2>/dev/null || true; done
    interrupted $signal
  done
}

write_huge_grid() { # FILE: 4e8 points
  write_tiny "$1"
  {
    echo 'grid:'
    echo "  seed: [$(seq -s, 20000)]"
    echo "  data.seed: [$(seq -s, 20000)]"
  } >>"$1"
}

@test "a grid of 4e8 points begins at once and ends at once" {
  write_huge_grid g.yaml
  local command
  for command in sweep width perturb; do
    [ $command != width ] || sed -i 's/, width: 32//' g.yaml
    [ $command != perturb ] || sed -i 's/softmax/softmax, width: 32/' g.yaml
    begin $command g.yaml --quiet --out $command
    wait_for_lines $command/points.jsonl 1
    kill -INT "$started"
    interrupted $command
    begin $command g.yaml --dry-run
    sleep 0.7
    kill -INT "$started"
    ended
    equal 'exit code' "$rc" 75
  done
  begin sweep g.yaml --quiet --out sweep --resume
  sleep 1
  kill -INT "$started"
  interrupted sweep
}

@test "a grid of 4e8 points, one width odd: refused at once, whatever its axes" {
  write_huge_grid g.yaml
  sed -i "s/^  seed: /  network.width: [32, 33]\n&/" g.yaml
  expect 2 sweep g.yaml
  one_line 'network.width: 33 is odd'
}

@test "a signal while data come through a pipe that stays silent" {
  write_tiny c.yaml
  mkfifo pipe
  sed -i 's/^data:.*/data: {source: csv, inputs: pipe}/' c.yaml
  begin train c.yaml --quiet --out o
  sleep 0.5
  kill -TERM "$started" # before the other end is there
  ended
  equal 'exit code' "$rc" 75
  rm -rf o
  sleep 20 >pipe 3>&- &
  local writer=$!
  begin train c.yaml --quiet --out o
  sleep 0.5
  kill -TERM "$started"
  ended
  kill "$writer"
  equal 'exit code' "$rc" 75
}

@test "a signal while large data are generated, or under a long kernel" {
  cat >n.yaml <<'YAML'
network: {activation: softmax, width: 1048576}
data: {source: sphere, samples: 1000, dim: 8}
YAML
  begin train n.yaml --quiet --out a --set data.samples=300000 --set data.dim=256 --set network.width=64
  sleep 0.4
  kill -INT "$started"
  ended
  equal 'exit code' "$rc" 75
  begin ntk n.yaml --quiet --out b --backend cpu
  sleep 1
  kill -INT "$started"
  ended
  equal 'exit code' "$rc" 75
  begin ntk n.yaml --quiet --out c --set ntk.method=infinite --set data.samples=4000 --set data.dim=512 \
    --set ntk.eigenvalues=false --backend cpu
  sleep 1
  kill -INT "$started"
  ended
  equal 'exit code' "$rc" 75
}
