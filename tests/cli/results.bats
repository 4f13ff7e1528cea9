#!/usr/bin/env bats
# What a finished point is worth when its files cannot be written, are lost or were changed; runs without a good point;
# closed outputs. SPDX-License-Identifier: MIT
load helper

write_problem() { # FILE: a training whose weights are far larger than its records
  cat >"$1" <<'YAML'
name: c
network: {activation: softmax, width: 6400}
data: {source: sphere, samples: 6, dim: 4}
train: {steps: 20, tolerance: 0}
save: {weights: true}
YAML
}

write_prefixes() { # FILE: an ntk with files of its prefixes
  cat >"$1" <<'YAML'
name: n
network: {activation: relu, width: 512}
data: {source: sphere, samples: 40, dim: 4}
ntk: {prefixes: true, min_prefix: 128}
save: {prefixes: true}
YAML
}

# As expect, in a process whose files may have so many KiB.
expect_within() { # KIB CODE ARGUMENT...
  local room=$1 wanted=$2
  shift 2
  rc=0
  (
    ulimit -f "$room"
    exec "$SOFTNTK" "$@" >out 2>err </dev/null
  ) || rc=$?
  [ "$rc" -eq "$wanted" ] || fail "exit $rc, not $wanted: softntk $*
$(cat out err)"
}

# Files and points without what may differ between identical runs.
figures() { # DIR
  records same "$1"/points.jsonl
  (cd "$1" && sha256sum ./*.h5)
}

@test "train: a run.h5 that does not fit costs no point; --resume makes the file" {
  write_problem c.yaml
  expect 0 train c.yaml --quiet --out whole
  expect_within 64 2 train c.yaml --json --out t
  one_line 't/run\.h5: cannot write .*the points are kept in t, and --resume makes the file again'
  equal points "$(records lines t/points.jsonl)" 1
  records same whole/points.jsonl >whole.txt
  records same t/points.jsonl | cmp - whole.txt
  records same out | cmp - whole.txt
  absent t/run.h5 t/run.h5.tmp
  equal status "$(records get t/run.json status)" failed
  has t/run.json '"error": "t/run\.h5: cannot write'
  cp t/points.jsonl kept
  expect_within 64 2 train c.yaml --quiet --out t --resume # as long as there is no room
  cmp t/points.jsonl kept
  expect 0 train c.yaml --quiet --out t --resume
  one_line 'note: t/run\.h5 is not there; it is made again'
  cmp t/points.jsonl kept
  cmp t/run.h5 whole/run.h5
  equal status "$(records get t/run.json status)" 'done'
  lacks t/run.json '"error"'
}

@test "ntk: files of prefixes and of blocks that do not fit cost no figure" {
  write_prefixes n.yaml
  expect 0 ntk n.yaml --quiet --out whole
  expect_within 10 2 ntk n.yaml --quiet --out n
  equal points "$(records lines n/points.jsonl)" 3
  expect 0 ntk n.yaml --quiet --out n --resume
  figures whole >whole.txt
  figures n | cmp - whole.txt
  sed -i -e '/^ntk/d' -e '/^save/d' n.yaml
  blocks=(--set ntk.matrix=blocks --set ntk.block=4 --set data.samples=96)
  expect 0 ntk n.yaml --quiet --out whole_blocks "${blocks[@]}"
  expect_within 24 2 ntk n.yaml --quiet --out b "${blocks[@]}"
  equal points "$(records lines b/points.jsonl)" 1
  expect 0 ntk n.yaml --quiet --out b --resume "${blocks[@]}"
  figures whole_blocks >whole.txt
  figures b | cmp - whole.txt
}

@test "--resume of a finished run makes files that are gone, and refuses those that were changed" {
  write_prefixes n.yaml
  expect 0 ntk n.yaml --quiet --out n
  figures n >whole.txt
  equal bytes "$(stat -c %s n/run.h5)" "$("$PYTHON" -c 'import json; print(json.load(open("n/run.json"))["results"]["run.h5"]["bytes"])')"
  for file in run.h5 prefix_128.h5 prefix_256.h5; do
    rm "n/$file"
    expect 0 ntk n.yaml --quiet --out n --resume
    has err "note: n/$(literal "$file") is not there; it is made again"
    figures n | cmp - whole.txt
    cp "n/$file" kept
    truncate -s -100 "n/$file"
    cp "n/$file" cut
    expect 2 ntk n.yaml --quiet --out n --resume
    one_line "n/$(literal "$file"): it is not what the run wrote there: .*move it away, and --resume makes it again"
    cmp "n/$file" cut # it is the user's to take away
    equal status "$(records get n/run.json status)" failed
    cp kept "n/$file"
    printf x | dd of="n/$file" bs=1 seek=3000 conv=notrunc status=none
    expect 2 ntk n.yaml --quiet --out n --resume
    one_line "n/$(literal "$file"): it is not what the run wrote there"
    rm "n/$file"
    expect 0 ntk n.yaml --quiet --out n --resume
    figures n | cmp - whole.txt
    equal status "$(records get n/run.json status)" 'done'
  done
  expect 0 ntk n.yaml --quiet --out n --resume # and nothing is made again
  empty err
}

@test "a train that diverges keeps its history, and --resume fails as it did" {
  write_problem c.yaml
  diverge=(--set network.activation=relu --set train.eta=1000 --set save.weights=false)
  expect 5 train c.yaml --quiet --out t "${diverge[@]}"
  figures t >whole.txt
  expect 5 train c.yaml --quiet --out t --resume "${diverge[@]}"
  figures t | cmp - whole.txt
  rm t/run.h5
  expect 5 train c.yaml --quiet --out t --resume "${diverge[@]}"
  figures t | cmp - whole.txt
}

@test "no good point: exit 5 of sweep, width and perturb, and run.json says failed; some failed points: exit 0" {
  write_tiny c.yaml
  huge=(--set network.activation=exp --set network.sigma=2000)
  grid='grid.seed=[1, 2]'
  expect 5 sweep c.yaml --quiet --set "$grid" "${huge[@]}" --out s
  one_line 'no point is good: all 2 failed; the first: seed=1: .*not finite'
  expect 5 perturb c.yaml --quiet --set "$grid" "${huge[@]}" --set 'perturb.radii=[0.01, 0.1]' --out p
  one_line 'no point is good: all .* failed'
  expect 5 width c.yaml --quiet --set "$grid" "${huge[@]}" --set width.min_width=8 --set width.max_width=16 --out w
  one_line 'no point is good: all .* failed'
  for run in s p w; do
    equal "status of $run" "$(records get $run/run.json status)" failed
    lacks $run/run.json '"failed_points": 0'
  done
  expect 5 sweep c.yaml --quiet --set "$grid" "${huge[@]}" --out s --resume
  equal points "$(records lines s/points.jsonl)" 2
  expect 0 sweep c.yaml --quiet --set network.activation=exp --set 'grid.network.sigma=[1, 2000]' --out some
  equal status "$(records get some/run.json status)" 'done'
  has some/run.json '"failed_points": 1'
}

@test "a closed standard output is an error, and nothing is printed into the run's files" {
  write_tiny c.yaml
  grid='grid.seed=[1, 2, 3]'
  for closed in '>&-' '<&- >&-' '<&- >&- 2>&-'; do
    rc=0
    eval "\"\$SOFTNTK\" sweep c.yaml --json --quiet --set '$grid' --out s $closed" || rc=$?
    equal "exit code with $closed" $rc 2
    equal points "$(records lines s/points.jsonl)" 3
    equal checksums "$(grep -c '"crc32":"' s/points.jsonl)" 3
    expect 0 sweep c.yaml --json --quiet --set "$grid" --out s --resume
    rm -r s
    rc=0
    eval "\"\$SOFTNTK\" train c.yaml --json --quiet --out t $closed" || rc=$?
    equal "exit code with $closed" $rc 2
    expect 0 train c.yaml --quiet --out t --resume
    empty err
    rm -r t
  done
}

@test "a start that could not write leaves nothing that blocks the next" {
  write_tiny c.yaml
  expect_within 0 2 train c.yaml --quiet --out t
  absent t
  expect 0 train c.yaml --quiet --out t
  mkdir u
  : >u/points.jsonl
  : >u/run.json.points.jsonl.tmp
  expect 0 train c.yaml --quiet --out u
  equal points "$(records lines u/points.jsonl)" 1
  mkdir v
  head -c 100 u/points.jsonl >v/points.jsonl # its writer was killed in the first line
  expect 0 train c.yaml --quiet --out v
  equal points "$(records lines v/points.jsonl)" 1
}

@test "an interrupted train does not promise what it cannot keep" {
  write_tiny c.yaml
  env --default-signal "$SOFTNTK" train c.yaml --quiet --out t --set train.steps=1000000000 --set train.record_every=0 2>bg.err >bg.out </dev/null 3>&- &
  started=$!
  wait_for_lines t/run.json 1
  kill -INT "$started"
  rc=0
  wait "$started" || rc=$?
  equal "exit code" "$rc" 75
  has bg.err '^softntk: interrupted; no point was finished, and there are no checkpoints within one: --resume begins it anew'
}

@test "files that took their place just before a kill are in run.json after --resume" {
  write_prefixes n.yaml
  expect 0 ntk n.yaml --quiet --out whole
  cp -r whole killed
  "$PYTHON" - killed/run.json <<'PY'
import json, sys
with open(sys.argv[1], encoding="utf-8") as stream:
    document = json.load(stream)
assert set(document["results"]) == {"run.h5", "prefix_128.h5", "prefix_256.h5"}, document["results"]
del document["results"]["run.h5"], document["results"]["prefix_256.h5"]
document["status"] = "running"
with open(sys.argv[1], "w", encoding="utf-8") as stream:
    json.dump(document, stream)
PY
  expect 0 ntk n.yaml --quiet --out killed --resume
  equal results "$(records get killed/run.json results)" "$(records get whole/run.json results)"
  cmp killed/run.h5 whole/run.h5
  # and from then on they are watched
  printf x >>killed/prefix_256.h5
  expect 2 ntk n.yaml --quiet --out killed --resume
  one_line 'prefix_256.h5' 'not what the run wrote'
}
